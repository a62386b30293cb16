"""Pictures of why in lesson 11: the map from noise to data, jumps with fresh noise, digits, a collapse, an adapter."""

import math
import statistics
import time

import torch
from torch import Tensor

from lessons_src import data, measurements, weights
from lessons_src.guidance import classifier_free
from lessons_src.lessons.digit_runs import shipped
from lessons_src.lessons.lesson_09.front import SURE, difference, find, told
from lessons_src.lessons.lesson_11 import digits, ring
from lessons_src.lessons.lesson_11.explorer import starts
from lessons_src.measurements import Row, digits_of
from lessons_src.oracle import exact_flow
from lessons_src.samplers import ddim, sample, trajectory
from lessons_src.schedules import cosine, time_grid
from lessons_src.show import plots
from lessons_src.solvers import unipc
from lessons_src.students import Student, few_steps

SHARES = torch.arange(1, 20, dtype=torch.float64) / 20  # of the noise, and of the data, that lie below a path
CALLS = (1, 4, 16)
ROWS = (  # of the picture of digits
    ("DDIM", 1),
    ("DDIM", 4),
    ("student", 1),
    ("student", 2),
    ("student", 4),
    ("DDIM", 50),
    ("DDPM", 1000),
)
BILL = (("student", 1), ("student", 2), ("student", 4), ("DDIM", 4), ("DDIM", 20), ("UniPC-2", 6), ("DDPM", 1000))


# --- The map from noise to data


def normal_quantile(share: Tensor) -> Tensor:
    """The number below which a standard normal number lies with this probability."""
    return math.sqrt(2) * torch.erfinv(2 * share - 1)


def show_map() -> None:
    """Exact paths of two humps, and the map from noise to data that they make, beside DDIM's in a few calls."""
    humps, schedule = data.two_humps(), cosine()
    net, noise = humps.network(schedule), normal_quantile(SHARES)[:, None]
    fig, axes = plots.figure(columns=2, width=8.6, height=3.7)
    left, right = axes[0]
    times = time_grid(schedule, 100)
    paths = trajectory(noise, unipc(net, noise, schedule, times, 3))[:, :, 0]
    for path in paths.T:
        left.plot(times, path, color=plots.BLUE if path[-1] > 0 else plots.VERMILLION, linewidth=1.2)
    left.set(title="exact paths", xlabel="t, from noise to data", ylabel="x", xlim=(1000, 0))
    x = torch.linspace(-2.6, 2.6, 201, dtype=torch.float64)[:, None]
    exact = exact_flow(humps.eps, x, schedule.alpha_bar[-1].item())
    right.plot(x, exact, color=plots.INK, linewidth=4, alpha=0.5, label="exact")
    for calls, color, dash in zip(CALLS, plots.COLOURS[1:], plots.DASHES, strict=False):
        end = sample(ddim(net, x, schedule, time_grid(schedule, calls)))
        right.plot(x, end, dash, color=color, linewidth=1.6, label=f"DDIM, {calls} call{'s' * (calls > 1)}")
    right.set(title="from each noise to its end", xlabel="noise", ylabel="end")
    right.legend(fontsize=10)
    plots.show(
        fig,
        "Left: exact paths from noise to two humps of data. They never cross: the lowest twentieth of the noise "
        "becomes the lowest twentieth of the data, and so on. Right: the end of each noise, a curve. DDIM comes "
        "near it with many calls; with one it answers the mean of all data, whatever the noise.",
    )


# --- Students on the ring


def scored(method: str, calls: str, key: str) -> tuple[float, float]:
    """Mean and standard deviation of a score over the five stored seeds."""
    values = [row["by calls"][calls][key] for row in measurements.load("ring") if row["method"] == method]
    return statistics.fmean(values), statistics.stdev(values)


def show_renoised(student: Student) -> None:
    """Where a consistency student of four times ends in one call and in four with fresh noise, by exact mode."""
    noise, exact = starts()
    own = torch.cdist(exact, ring.RING.means).argmin(1)
    jumper = ring.as_student(student, time_grid(ring.SCHEDULE, 4))
    found = {"1 call": ring.draw(student, noise), "4 calls, fresh noise between": ring.renoised(jumper, noise)}
    fig, axes = plots.figure(columns=2, width=7.4, height=3.9)
    for axis, (title, x) in zip(axes[0], found.items(), strict=True):
        axis.scatter(*exact.T, s=4, color="0.6", alpha=0.5, linewidths=0)
        for k in range(8):
            mark = "os^D"[k % 4]
            axis.scatter(*x[own == k].T, s=9, color=plots.COLOURS[k % 7], marker=mark, linewidths=0)
        axis.set(title=title, xlim=(-2.3, 2.3), ylim=(-2.3, 2.3), aspect="equal")
    calls = {
        name: {key: scored("consistency", name, key)[0] for key in ("gap", "sliced")} for name in ("1", "4 re-noised")
    }
    (one, four), floor = calls.values(), scored("pairs", "1", "floor")[0]
    plots.show(
        fig,
        "The same noises; colour and shape tell the cluster where the exact path ends. "
        f"Mean of five such students: in one call {one['gap']:.2f} from the own end, in four {four['gap']:.2f}. "
        f"The cloud's distance to that of the ring (sliced): {one['sliced']:.3f}, and {four['sliced']:.3f}; two clouds "
        f"of the ring itself have {floor:.3f}.",
    )


# --- Digits


def rows() -> list[Row]:
    """Students, and solvers of the shipped network, all from the same noises: 1,000 digits a row."""
    found = measurements.load("students")
    return found + [row for row in measurements.load("pareto") if (row["solver"], row["nfe"]) not in _named(found)]


def _named(found: list[Row]) -> set[tuple[str, int]]:
    return {(row["solver"], row["nfe"]) for row in found}


def _name(solver: str, calls: int) -> str:
    return f"{solver}, {calls:,} call{'s' * (calls > 1)}"


def show_digits() -> None:
    """Ten digits from the same noises by students and solvers."""
    found = rows()
    picked = {_name(*row): find(found, *row) for row in ROWS}
    distances = ", ".join(f"{row['frechet']:.3g}" for row in picked.values())
    plots.image_rows(
        {name: digits_of(row) for name, row in picked.items()},
        f"The same ten noises in every row. Distance of 1,000 such digits from real ones, downwards: {distances}.",
    )


def milliseconds(n: int = 50, repeats: int = 3) -> dict[int, float]:
    """Milliseconds a digit on this machine, of students by calls; 0 stands for one call of the teacher."""
    noise, label = measurements.start_noise(n)
    net = shipped()[0]
    runs = {0: lambda: net(noise, torch.full((n,), 500), label)}
    for calls in (1, 2, 4):
        student = weights.load(f"student-{calls}")[0]
        runs[calls] = lambda student=student: sample(few_steps(student, noise, label))
    found = {}
    with torch.no_grad():
        for name, run in runs.items():
            seconds = []
            for _ in range(repeats):
                begun = time.perf_counter()
                run()
                seconds.append(time.perf_counter() - begun)
            found[name] = 1000 * min(seconds) / n
    return found


def _brief(value: float) -> str:
    """Two digits where they say something."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def show_bill() -> None:
    """Distance and milliseconds a digit of students and solvers."""
    found, cost = rows(), milliseconds()
    picked = [find(found, *row) for row in BILL]
    plots.table(
        {
            "sampler": [row["solver"] if row["solver"] != "student" else "**student**" for row in picked],
            "calls": [f"{row['nfe']:,}" for row in picked],
            "distance": [f"{row['frechet']:.2f} ± {SURE * row['standard error']:.2f}" for row in picked],
            "compared with DDIM, 50 calls": [told(difference(row, find(found, "DDIM", 50))) for row in picked],
            "ms a digit": [
                _brief(cost[row["nfe"]] if row["solver"] == "student" else row["nfe"] * cost[0]) for row in picked
            ],
        },
        "Distance of 1,000 digits, ± 95 %; compared: the difference, in pairs of one noise. Time on this machine, "
        "of students by running them, of the others as calls times that of one.",
    )


def show_folded(steps: int = 16) -> None:
    """Ten digits by guided DDIM, and by the student that has the guidance folded in."""
    (net, _), (student, card) = shipped(), weights.load("student-2-guided")
    noise, label = measurements.start_noise(10)
    walk = ddim(classifier_free(net, label, student.w), noise, net.schedule, time_grid(net.schedule, steps))
    w, calls = f"w = {student.w:g}", len(student.times) - 1
    plots.image_rows(
        {f"DDIM, {w}, {2 * steps} calls": sample(walk), f"student, {calls} calls": digits.drawn(student, noise, label)},
        f"DDIM with {w} in {steps} steps, each of two calls, and the student with {w} folded in. Over 200 digits they "
        f"differ by {card['metrics']['image error']:.2f} a pixel (root mean square), where black is −1 and white is 1.",
    )


# --- A collapse, and an adapter


def show_collapse() -> None:
    """Thirty digits by distribution matching without a second network, and with one from a good beginning."""
    found = {row["case"]: row for row in measurements.load("collapse")}
    alone, cold, warm = (found[case] for case in digits.CASES)
    fig, axes = plots.figure(columns=2, width=8.6, height=1.7)
    for axis, (title, row) in zip(axes[0], (("pulled", alone), ("pulled by a difference", warm)), strict=True):
        tiles = digits_of(row).view(3, 10, 28, 28).permute(0, 2, 1, 3).reshape(84, 280)
        axis.imshow(tiles, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
        axis.set(title=title, xticks=[], yticks=[])
        axis.grid(False)
    said = (
        f"{name}: the judge reads {100 * row['accuracy']:.0f} % as wanted, the spread within classes is "
        f"{row['spread']:.2f} times that of real digits, the distance {row['frechet']:.3g}."
        for name, row in (("Left", alone), ("Right, from the one-call student", warm))
    )
    plots.show(
        fig,
        f"Thirty noises each, three for every class. {' '.join(said)} The same from the teacher's weights: distance "
        f"{cold['frechet']:.3g}.",
    )


def adapters(how: str) -> dict[int, Row]:
    """Rows of the adapters, by rank."""
    return {row["rank"]: row for row in measurements.load("adapter") if row["how"] == how}


def show_adapter() -> None:
    """Distance of digits against the kilobytes of an adapter."""
    trained, none = adapters("trained"), adapters("none")[0]
    every = trained.pop(digits.EVERY)
    fig, axes = plots.figure(width=6.6, height=3.4)
    axis = axes[0, 0]
    axis.plot(
        [row["kB"] for row in trained.values()], [row["frechet"] for row in trained.values()], "o-", color=plots.BLUE
    )
    for rank, row in trained.items():
        axis.annotate(
            f"rank {rank}", (row["kB"], row["frechet"]), xytext=(0, 9), textcoords="offset points", ha="center"
        )
    axis.axhline(none["frechet"], color=plots.INK, linestyle="--")
    axis.annotate("no adapter", (12, none["frechet"]), xytext=(0, -14), textcoords="offset points")
    axis.axhline(every["frechet"], color=plots.VERMILLION, linestyle=":")
    axis.annotate(
        f"all weights, {every['kB']:.0f} kB", (12, every["frechet"]), xytext=(0, -14), textcoords="offset points"
    )
    axis.set(
        xscale="log",
        yscale="log",
        xlabel="kilobytes",
        ylabel="distance from real digits",
        ylim=(1.6, 30),
        xlim=(11, 700),
    )
    axis.set_yticks([2, 3, 5, 10, 20], ["2", "3", "5", "10", "20"])
    axis.minorticks_off()
    axis.set_xticks([15, 50, 118, 463], ["15", "50", "118", "463"])
    on, strange = (adapters(name) for name in digits.OTHERS)
    plots.show(
        fig,
        f"Two calls with guidance folded in, 1,000 digits a point. The shipped adapter of {trained[8]['kB']:.0f} kB, "
        f"plugged into the same network after more training: {on[0]['frechet']:.3g} becomes {on[8]['frechet']:.2g}. "
        f"Into one that was trained from other first weights: {strange[0]['frechet']:.2g} becomes "
        f"{strange[8]['frechet']:.2g}.",
    )
