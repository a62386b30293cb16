"""Pictures of why in lesson 11: the map from noise to data, jumps with fresh noise, digits, a collapse, an adapter."""

import math
import statistics

import torch
from torch import Tensor

from lessons_src import data, measurements, weights
from lessons_src.checks import check_choice, check_int
from lessons_src.lessons.lesson_09.front import find
from lessons_src.lessons.lesson_11 import digits, ring
from lessons_src.measurements import Row, digits_of
from lessons_src.oracle import exact_flow
from lessons_src.samplers import ddim, sample, trajectory
from lessons_src.schedules import cosine, time_grid
from lessons_src.show import plots
from lessons_src.show.look import LINES, MARKS
from lessons_src.solvers import unipc
from lessons_src.students import Student

SHARES = torch.arange(1, 20, dtype=torch.float64) / 20  # of the noise, and of the data, that lie below a path
CALLS = (1, 4, 16)
HEIGHT = (-2.7, 2.7)  # of both pictures of the map
DRAWN = 500  # points on the ring
ROWS = (  # of the picture of digits
    ("DDIM", 1),
    ("DDIM", 4),
    ("student", 1),
    ("student", 2),
    ("student", 4),
    ("DDIM", 50),
    ("DDPM", 1000),
)


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
        left.plot(times, path, "-" if path[-1] > 0 else "--", color=plots.BLUE, linewidth=1.2)
    left.set(title="exact paths", xlabel="t, from noise to data", ylabel="x", xlim=(1000, 0), ylim=HEIGHT)
    x = torch.linspace(-2.6, 2.6, 201, dtype=torch.float64)[:, None]
    exact = exact_flow(humps.eps, x, schedule.alpha_bar[-1].item())
    right.plot(x, exact, color=plots.INK, linewidth=4, alpha=0.5, label="exact")
    for calls, color, dash in zip(CALLS, plots.COLOURS[1:], plots.DASHES, strict=False):
        end = sample(ddim(net, x, schedule, time_grid(schedule, calls)))
        right.plot(x, end, dash, color=color, linewidth=1.6, label=f"DDIM, {calls} call{'s' * (calls > 1)}")
    right.set(title="from each noise to its end", xlabel="noise", ylabel="end", ylim=HEIGHT)
    right.legend(fontsize=10)
    plots.show(
        fig,
        "Left: exact paths from noise to two humps of data. They never cross: who begins lowest ends lowest. Right: "
        "the end of each noise, a curve. DDIM comes near it with many calls; with one it answers the mean of all "
        "data, whatever the noise.",
    )


# --- Students on the ring


def scored(method: str, calls: str, key: str) -> tuple[float, float]:
    """Mean and standard deviation of a score over the five stored seeds."""
    check_choice("method", method, (*ring.METHODS, ring.LONGER))
    rows = [row["by calls"] for row in measurements.load("ring") if row["method"] == method]
    check_choice("key", key, rows[0][check_choice("calls", calls, rows[0])])
    values = [row[calls][key] for row in rows]
    return statistics.fmean(values), statistics.stdev(values)


def show_renoised(student: Student, n: int = 5000) -> None:
    """Where a consistency student of four times ends in one call and in four with fresh noise, by exact mode."""
    noise = ring.start(n)
    exact = ring.flow(noise)
    own = torch.cdist(exact, ring.RING.means).argmin(1)[:DRAWN]
    jumper = ring.as_student(student, time_grid(ring.SCHEDULE, 4))
    found = {"1 call": ring.draw(student, noise), "4 calls, fresh noise between": ring.renoised(jumper, noise)}
    fig, axes = plots.figure(columns=2, width=7.4, height=4.2)
    told = []
    for axis, (title, x) in zip(axes[0], found.items(), strict=True):
        axis.scatter(*exact[:DRAWN].T, s=4, color="0.6", alpha=0.5, linewidths=0)
        for k in range(len(ring.RING.means)):  # as in the explorer
            color, mark = LINES[k % len(LINES)][0], MARKS[k % len(MARKS)]
            axis.scatter(*x[:DRAWN][own == k].T, s=12, color=color, marker=mark, linewidths=0)
        scores = ring.scores(x, exact)
        told.append(f"off by {scores['gap']:.2f}, {100 * scores['stray']:.0f} % stray")
        axis.set(title=title, xlabel=told[-1], xlim=(-2.3, 2.3), ylim=(-2.3, 2.3), aspect="equal")
    one, four = told
    plots.show(
        fig,
        f"In one call {one}; in four {four} (of {n:,} points). Stray: outside every cluster. Colour and shape name the "
        "cluster of the exact end.",
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
    """Ten digits from the same noises by students and solvers, and the distance of a thousand."""
    picked = {row: find(rows(), *row) for row in ROWS}
    names = {
        row: f"{_name(*row)}\n{'fresh noise: ' if row[0] == 'DDPM' else ''}{found['frechet']:.3g}"
        for row, found in picked.items()
    }
    plots.image_rows(
        {names[row]: digits_of(found) for row, found in picked.items()},
        "The same ten noises in every row; DDPM adds fresh noise, so its digits are others. Below each name: how far "
        f"1,000 such digits are from real ones, by lesson 13's judge. Other real ones: {picked[ROWS[0]]['floor']:.2f}.",
    )


# --- A collapse, and an adapter


def show_collapse(classes: int = 4) -> None:
    """Three digits a class: of the one-call student, and of the teacher pulled alone and by a difference."""
    check_int("classes", classes, 1, 10)
    alone, pulled, _ = measurements.load("collapse")
    old = find(measurements.load("students"), "student", 1)
    shown = {
        "the old student": (digits.drawn(weights.load("student-1")[0], *measurements.start_noise(30)), old),
        "pulled": (digits_of(alone), alone),
        "pulled by a difference": (digits_of(pulled), pulled),
    }
    strips = {
        f"{name}\nread {100 * row['accuracy']:.0f} %, spread {row['spread']:.2f}\n"
        f"distance {row['frechet']:.3g}": x.view(3, 10, 1, 28, 28)[:, :classes].transpose(0, 1).flatten(0, 1)
        for name, (x, row) in shown.items()
    }
    plots.image_rows(
        strips,
        f"Three digits each of 0 to {classes - 1}; numbers are of 1,000. The last two start as the teacher and learn "
        f"for {digits.COLLAPSE_STEPS} steps. Pulled, {100 * alone['accuracy']:.0f} % are read right, but digits of a "
        f"class spread {alone['spread']:.2f} times as much as real ones.",
    )


def adapters(how: str) -> dict[int, Row]:
    """Rows of the adapters, by rank."""
    rows = measurements.load("adapter")
    check_choice("how", how, sorted({row["how"] for row in rows}))
    return {row["rank"]: row for row in rows if row["how"] == how}


def show_adapter() -> None:
    """The same ten digits without and with the shipped adapter, in its own network and in one from another start."""
    rank = digits.SHIPPED
    plain, trained, strange = (adapters(how) for how in ("none", "trained", "another seed"))
    shown = {
        "its own network": plain[0],
        "with the adapter": trained[rank],
        "another network": strange[0],
        "with that adapter": strange[rank],
    }
    plots.image_rows(
        {f"{name}: {row['frechet']:.3g}": digits_of(row) for name, row in shown.items()},
        f"The same ten noises, two calls; the numbers are distances of 1,000 digits. The adapter has "
        f"{trained[rank]['kB']:.0f} kB. All weights, {trained[digits.EVERY]['kB']:.0f} kB, would give "
        f"{trained[digits.EVERY]['frechet']:.1f}.",
    )
