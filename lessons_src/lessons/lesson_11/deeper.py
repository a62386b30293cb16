"""What the deeper notebook of lesson 11 computes and draws: parts of f, paths kept, matching, guidance, adapters."""

import math
import time
from collections.abc import Iterable, Sequence
from functools import cache

import torch
from torch import Tensor, nn

from lessons_src import measurements, weights
from lessons_src.checks import check_choice, check_int, check_real, refuse
from lessons_src.guidance import classifier_free
from lessons_src.lessons.digit_runs import shipped
from lessons_src.lessons.lesson_11 import digits, ring
from lessons_src.lessons.lesson_11.figures import adapters, normal_quantile, scored
from lessons_src.lora import Adapter
from lessons_src.samplers import ddim, sample
from lessons_src.schedules import cosine, time_grid
from lessons_src.show import plots
from lessons_src.solvers import unipc
from lessons_src.students import Student, few_steps

PREDICTIONS = ("x0", "eps", "v")
AB = cosine().alpha_bar
TARGET = (1.0, 0.5)  # mean and spread of the data on a line
KEPT_AT = (100, 200, 300, 400, 500, 600, 700, 800, 900)
HALVED = (8, 4, 2, 1)
LIMITS = (1, 2, 4, 8, 16, 32, 64)

# --- The boundary condition


def parts(prediction: str, alpha_bar: Tensor) -> tuple[Tensor, Tensor]:
    """c_skip and c_out of f = c_skip x + c_out F, by what the network F predicts."""
    a, b = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    return {
        "x0": (torch.zeros_like(a), torch.ones_like(a)),
        "eps": (1 / a, -b / a),
        "v": (a, -b),
    }[check_choice("prediction", prediction, PREDICTIONS)]


def show_parts() -> None:
    """How much of x, and how much of the network's output, is in f, over time and by prediction."""
    fig, axes = plots.figure(columns=2, width=8.6, height=3.4)
    t = torch.arange(1001)
    for axis, part, title in zip(axes[0], (0, 1), ("of x: $c_{skip}$", "of the output: $|c_{out}|$"), strict=True):
        for name, color, dash in zip(PREDICTIONS, plots.COLOURS[1:], plots.DASHES, strict=False):
            axis.plot(t, parts(name, AB)[part].abs(), dash, color=color, label=name.replace("eps", "ε"))
        axis.set(title=title, xlabel="t", ylim=(0, 1e5))
        axis.set_yscale("symlog", linthresh=1)
    axes[0, 0].legend()
    plots.show(
        fig,
        "How much of x, and of the network's output, is in f. At time 0 both ε and v leave x alone, x0 does not. At T "
        f"the output of an ε-network is multiplied by {parts('eps', AB[-1:])[1].abs().item():,.0f}.",
    )


# --- Fresh noise


@cache
def kept(t: int, n: int = 1000) -> ring.Scores:
    """Scores of the exact student on the ring that re-noises its exact ends to t and jumps again."""
    check_int("t", t, 1, ring.SCHEDULE.T)
    ends = ring.flow(ring.start(n))
    noise = torch.randn(ends.shape, generator=torch.Generator().manual_seed(t), dtype=torch.float64)
    x = AB[t].sqrt() * ends + (1 - AB[t]).sqrt() * noise
    steps = max(20, t // 10)
    times = [round(t * i / steps) for i in range(steps, -1, -1)]
    return ring.scores(sample(unipc(ring.ORACLE, x, ring.SCHEDULE, times, 3)), ends)


def show_kept() -> None:
    """What is left of paths and of the law after a second, exact jump, by the time that it starts from."""
    found = [kept(t) for t in KEPT_AT]
    fig, axes = plots.figure(columns=2, width=8.6, height=3.2)
    left, right = axes[0]
    left.plot(KEPT_AT, [row["same mode"] for row in found], "o-", color=plots.BLUE)
    left.axhline(1 / 8, color=plots.INK, linestyle="--")
    left.set(title="share in its own cluster", xlabel="re-noised to t", ylim=(0, 1.05))
    right.plot(KEPT_AT, [row["sliced"] for row in found], "o-", color=plots.BLUE)
    right.axhline(found[0]["floor"], color=plots.INK, linestyle="--")
    right.set(title="distance to the ring's law", xlabel="re-noised to t", ylim=(0, 0.1))
    shares = {t: row["same mode"] for t, row in zip(KEPT_AT, found, strict=True)}
    plots.show(
        fig,
        f"A perfect student jumps, gets fresh noise up to t, and jumps again. Left: {shares[100]:.2f} stay in their "
        f"cluster for t = 100, {shares[500]:.2f} for 500, {shares[900]:.2f} for 900; dashed is chance. Right: the law "
        "is as before; dashed are the exact ends themselves.",
    )


# --- Progressive


@cache
def limit(calls: int, n: int = 1000) -> float:
    """Mean distance on the ring between the ends of DDIM with the exact predictor and those of the flow."""
    noise = ring.start(n)
    times = time_grid(ring.SCHEDULE, calls)
    return (ring.solved("DDIM", noise, times) - ring.flow(noise)).norm(dim=1).mean().item()


def show_progressive() -> None:
    """What perfect progressive students would be off, by the steps of the first teacher, and what learned ones are."""
    fig, axes = plots.figure(columns=2, width=8.6, height=3.3)
    left, right = axes[0]
    left.loglog(LIMITS, [limit(n) for n in LIMITS], "o-", color=plots.BLUE)
    left.set(title="perfect students", xlabel="steps of the first teacher", ylabel="distance to the exact ends")
    found = [scored("progressive", str(n), "gap") for n in HALVED]
    right.errorbar(range(4), [m for m, _ in found], [s for _, s in found], fmt="o-", color=plots.BLUE, capsize=3)
    right.axhline(limit(16), color=plots.INK, linestyle="--")
    right.set(title="learned students", xlabel="steps of the student", ylim=(0, 0.11))
    right.set_xticks(range(4), [str(n) for n in HALVED])
    for axis in (left, right):
        axis.minorticks_off()
    left.set_xticks(LIMITS, [str(n) for n in LIMITS])
    plots.show(
        fig,
        f"Left: students that learn perfectly end where their first teacher does, {limit(16):.3f} off if it takes 16 "
        f"steps and {limit(64):.3f} if 64. Right: five learned ones each, {found[0][0]:.3f} off at 8 steps, "
        f"{found[-1][0]:.3f} at 1; dashed is their first teacher.",
    )


def forced(name: str, times: Sequence[int], n: int = 100) -> Tensor:
    """n digits (n, 1, 28, 28) by a shipped student on a grid that need not be its own."""
    student = weights.load(name)[0]
    noise, label = measurements.start_noise(n)
    return sample(few_steps(Student(student.body, student.schedule, times).eval(), noise, label)).clamp(-1, 1)


# --- Distribution matching on a line


def matched(follow: float | None, steps: int = 200, rate: float = 0.05, n: int = 21) -> Tensor:
    """Mean and spread (steps + 1, 2) of a student m + s z on a line, pulled towards N(1, 0.5^2) by exact scores.

    The fake network is the exact answer for a Gaussian that starts as the data and goes a share `follow` of the way to
    the student at every step; None means that there is no fake network. All means are taken at even quantiles.
    """
    if follow is not None:
        check_real("follow", follow, 0.0, 1.0)
    z = normal_quantile((torch.arange(n, dtype=torch.float64) + 0.5) / n)
    z = z / z.square().mean().sqrt()
    alpha_bar = AB[torch.linspace(20, 980, 25).round().long()][:, None, None]
    a, b = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    own, fake = torch.tensor([TARGET[0], 0.02], dtype=torch.float64), torch.tensor(TARGET, dtype=torch.float64)
    path = [own]

    def clean(x: Tensor, mean: Tensor | float, spread: Tensor | float) -> Tensor:
        return mean + a * spread**2 / (a**2 * spread**2 + b**2) * (x - a * mean)

    for _ in range(steps):
        x = own[0] + own[1] * z[:, None].expand(n, n)
        noisy = a * x + b * z
        true = clean(noisy, *TARGET)
        answer = x if follow is None else clean(noisy, *fake)
        pull = (answer - true) / (x - true).abs().mean((1, 2), keepdim=True).clamp(min=1e-3)
        own = own - rate * torch.stack([pull.mean(), (pull * z[:, None]).mean()])
        if follow is not None:
            fake = fake + follow * (own - fake)
        path.append(own)
    return torch.stack(path)


def show_matched() -> None:
    """The spread of a student on its way, with a fake network that follows at once, late, or that does not exist."""
    fig, axes = plots.figure(width=6.6, height=3.3)
    runs = {"follows at once": 1.0, "follows slowly": 0.03, "no fake network": None}
    found = {name: matched(follow)[:, 1] for name, follow in runs.items()}
    for (name, spread), color, dash in zip(found.items(), plots.COLOURS[1:], plots.DASHES, strict=False):
        axes[0, 0].plot(spread, dash, color=color, label=name)
    axes[0, 0].axhline(TARGET[1], color=plots.INK, linewidth=1)
    axes[0, 0].set(xlabel="steps", ylabel="spread of the student", ylim=(-0.02, 0.8))
    axes[0, 0].legend()
    plots.show(
        fig,
        "Data are N(1, 0.5²), the thin line. After 200 steps the student has a spread of "
        f"{found['follows at once'][-1]:.2f} with a fake network that follows at once, and of "
        f"{found['no fake network'][-1]:.2f} without one. With a slow one it starts late, and overshoots to "
        f"{found['follows slowly'].max():.2f}.",
    )


# --- Guidance folded in, and time


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


# --- Adapters


def show_gain() -> None:
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
    told = ", ".join(f"{row['frechet']:.1f} with rank {rank}" for rank, row in trained.items())
    plots.show(
        fig,
        f"Two calls with guidance folded in, 1,000 digits a point: {none['frechet']:.1f} without an adapter, {told}, "
        f"{every['frechet']:.1f} if all weights are trained.",
    )


@cache
def student_change() -> dict[str, Tensor]:
    """What training did to the weights of each layer, from digit network to guided student, (outputs, inputs)."""
    before, after = (_weights(net) for net in (digits.network(), digits.guided()))
    return {name: (after[name] - before[name]).flatten(1) for name in before}


def _weights(net: nn.Module) -> dict[str, Tensor]:
    named = net.named_modules()
    return {name: layer.weight.detach() for name, layer in named if isinstance(layer, nn.Conv2d | nn.Linear)}


def _length(tensors: Iterable[Tensor]) -> float:
    return math.sqrt(sum(tensor.square().sum().item() for tensor in tensors))


def change() -> float:
    """Length of that change, over the length of the weights."""
    return _length(student_change().values()) / _length(_weights(digits.network()).values())


def beside(changes: Adapter) -> tuple[float, float]:
    """Length of an adapter's change over that of the student's, and the cosine of the two."""
    if missing := {f"{name}.{part}" for name in student_change() for part in ("down", "up")} - set(changes):
        refuse("changes", sorted(changes), f"changes of every layer; {len(missing)} are missing")
    own = {name: changes[f"{name}.up"] @ changes[f"{name}.down"] for name in student_change()}
    lengths = _length(own.values()), _length(student_change().values())
    product = sum((own[name] * theirs).sum().item() for name, theirs in student_change().items())
    return lengths[0] / lengths[1], product / (lengths[0] * lengths[1])


@cache
def singular_values() -> list[Tensor]:
    """Of each layer's change to the guided student, falling."""
    return [torch.linalg.svdvals(own) for own in student_change().values()]


def held(rank: int) -> float:
    """The share of the squared change that its best part of this rank holds."""
    check_int("rank", rank, 1)
    squares = [s.square() for s in singular_values()]
    return sum(s[:rank].sum().item() for s in squares) / sum(s.sum().item() for s in squares)


def show_ranks() -> None:
    """What a low rank holds of the change, and how far digits of cut and trained adapters are from the student's."""
    fig, axes = plots.figure(columns=2, width=8.6, height=3.3)
    left, right = axes[0]
    ranks = (1, 2, 4, 8, 16, 32, 48)
    left.plot(ranks, [held(rank) for rank in ranks], "o-", color=plots.BLUE)
    left.set(title="share of the change held", xlabel="rank", ylim=(0, 1.05))
    errors = {how: [adapters(how)[rank]["error"] for rank in digits.RANKS] for how in ("extracted", "trained")}
    none = adapters("none")[0]["error"]
    names = {"extracted": "cut", "trained": "trained"}
    for (how, values), color, dash in zip(errors.items(), plots.COLOURS[1:], plots.DASHES, strict=False):
        right.plot(digits.RANKS, values, dash, marker="o", color=color, label=names[how])
    right.axhline(none, color=plots.INK, linestyle="--")
    right.set(title="error of the digits, a pixel", xlabel="rank", ylim=(0, 0.32))
    right.legend()
    plots.show(
        fig,
        f"Left: rank 8 holds {100 * held(8):.0f} % of the squared change, rank 32 {100 * held(32):.0f} %. Right: "
        "digits beside the guided student's from the same noise. At rank 8 a cut adapter is "
        f"{errors['extracted'][1]:.3f} off, a trained one {errors['trained'][1]:.3f}; dashed, without any, {none:.3f}.",
    )
