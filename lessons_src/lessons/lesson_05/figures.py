"""Pictures of why in lesson 05: a noise level is an angle, a step is a plumb line, and a smooth path has short cuts."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from lessons_src import data, measurements
from lessons_src.samplers import ddim, ddpm, sample, trajectory
from lessons_src.schedules import linear, time_grid
from lessons_src.show import plots

BY_HAND = (0.0784, 0.36, 0.64, 1.0)  # noise levels whose roots are short decimals
COUNTS = (5, 10, 20, 50, 100)
REPEATS = 5
PATH_SEED = 15  # a start whose path passes between the humps and bends late
BEND = 30.0  # degrees of noise below which the path of `show_paths` bends
GREY = "0.6"


def angles(alpha_bar: Sequence[float]) -> list[float]:
    """The angle of each noise level, arccos sqrt(alpha_bar): 0 is clean, a right angle is pure noise."""
    return [math.acos(math.sqrt(ab)) for ab in alpha_bar]


def halved(theta: Sequence[float]) -> list[float]:
    """The same way in twice as many steps: a new angle in the middle of each."""
    return [*(angle for t, s in pairwise(theta) for angle in (t, (t + s) / 2)), theta[-1]]


def plumb_walk(theta: Sequence[float], x: float = 1.0) -> list[float]:
    """The states of a DDIM walk on N(0, 1) data: a step multiplies x by the cosine of its angle. The flow keeps x."""
    states = [x]
    for t, s in pairwise(theta):
        states.append(states[-1] * math.cos(t - s))
    return states


def show_step(start: float = 65.0, end: float = 30.0) -> None:
    """One DDIM step on the quarter circle, from an angle in degrees to a smaller one."""
    fig, axes = plots.figure(width=5.6, height=4.3)
    axis = axes[0, 0]
    _quarter_circle(axis)
    for angle, name in ((start, "$x_t$"), (end, "$x_s$"), (0.0, r"$\hat x_0$")):
        x, y = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        axis.plot([0, x], [0, y], color=GREY, linewidth=1)
        axis.plot(x, y, "o", color=plots.BLUE, markersize=9, zorder=3)
        axis.annotate(f"{name}  {angle:.0f}°", (1.05 * x, 1.05 * y), fontsize=13, va="center")
    _bent_arrow(axis, start, 2, 0.86, plots.VERMILLION)
    _bent_arrow(axis, 0, end - 2, 0.65, plots.BLUE)
    axis.annotate("1  guess the\n    clean end", (0.3, 0.5), color=plots.VERMILLION, fontsize=11)
    axis.annotate("2  back up,\n    less far", (0.3, 0.04), color=plots.BLUE, fontsize=11)
    axis.set(xlabel=r"share of the guess $\hat x_0$: signal $\sqrt{\bar\alpha}$ = cos θ")
    axis.set(ylabel=r"share of the noise $\hat\varepsilon$: $\sqrt{1-\bar\alpha}$ = sin θ", xlim=(0, 1.32))
    plots.show(
        fig,
        f"A noise level is an angle. A step goes down to the guess at 0° and back up: from {start:.0f}° to {end:.0f}°, "
        "with the same guess and the same noise.",
    )


def show_walks(alpha_bar: Sequence[float] = BY_HAND) -> None:
    """The walk by hand, and the same way with every step cut in two, on the quarter circle; then halved on."""
    theta = angles(alpha_bar)
    walks = [theta, halved(theta)]
    fig, axes = plots.figure(width=5.6, height=4.3)
    axis = axes[0, 0]
    _quarter_circle(axis)
    for way, color, mark in zip(walks, (plots.VERMILLION, plots.BLUE), "os", strict=True):
        states = plumb_walk(way)
        x = [r * math.cos(angle) for r, angle in zip(states, way, strict=True)]
        y = [r * math.sin(angle) for r, angle in zip(states, way, strict=True)]
        axis.plot(x, y, mark + "-", color=color, label=f"{len(way) - 1} steps: ends at {states[-1]:.3f}", zorder=3)
    _step_on_coordinates(axis, theta[0], theta[1])
    for angle in theta:
        axis.plot([0, 1.02 * math.cos(angle)], [0, 1.02 * math.sin(angle)], color=GREY, linewidth=0.8)
        at = (1.05 * math.cos(angle), 1.05 * math.sin(angle))
        axis.annotate(f"{math.degrees(angle):.3g}°", at, fontsize=11)
    axis.plot([], [], color=GREY, linewidth=2, label="perfect sampler: ends at 1")
    axis.legend(loc="upper right")
    axis.set(xlabel="signal", ylabel="noise", xlim=(0, 1.5))
    missing = [1 - plumb_walk(way)[-1] for way in walks]
    plots.show(
        fig,
        "The distance from the origin is x. A point's two coordinates (dashed) are the guess x̂₀ and the noise ε̂. "
        "Mixing them for the next ray takes the point of that ray nearest to it: a right angle, and the step ends "
        f"inside the circle. Three steps lose {missing[0]:.3f}, six lose {missing[1]:.3f}.",
    )
    ways = [theta]
    for _ in range(4):
        ways.append(halved(ways[-1]))
    steps, errors = [len(way) - 1 for way in ways], [1 - plumb_walk(way)[-1] for way in ways]
    products = [f"{n * error:.2f}" for n, error in zip(steps, errors, strict=True)]
    plots.table(
        {"steps": steps, "error": [f"{error:.3f}" for error in errors], "steps × error": products},
        "If twice the steps leave half the error, steps × error stays the same. It nearly does.",
    )


def one_path(sampler: str, steps: int, seed: int = PATH_SEED) -> tuple[list[float], Tensor]:
    """Noise angles in degrees and states (steps + 1,) of one two-hump point under "ddim" or "ddpm", exact predictor."""
    schedule = linear()
    times, net = time_grid(schedule, steps), data.two_humps().network(schedule)
    start = data.noise(1, 1, seed=seed)
    take = {"ddim": ddim, "ddpm": ddpm}[sampler]
    path = trajectory(start, take(net, start, schedule, times, generator=torch.Generator().manual_seed(0)))
    return [math.degrees(angle) for angle in angles(schedule.alpha_bar[times].tolist())], path.flatten()


def show_paths(few: Sequence[int] = (5, 20)) -> None:
    """One point's way from noise to data: DDPM's scribble, DDIM's curve, and the curve cut into chords.

    Bands mark the humps, two standard deviations to each side.
    """
    humps = data.two_humps()
    middles, spreads = humps.means.flatten().tolist(), humps.covariances.flatten().sqrt().tolist()
    (noisy_at, noisy), (smooth_at, smooth) = one_path("ddpm", 1000), one_path("ddim", 1000)
    fig, axes = plots.figure(columns=2, width=6.4, height=3.9)
    for axis in axes[0]:
        axis.plot(smooth_at, smooth, color=plots.BLUE, linewidth=2, label="DDIM, 1000 steps")
        axis.set(xlabel="noise angle (degrees)", xlim=(92, -2), ylim=(-1.9, 1.9))
        for middle, spread in zip(middles, spreads, strict=True):
            axis.axhspan(middle - 2 * spread, middle + 2 * spread, color=GREY, alpha=0.3, linewidth=0)
    axes[0, 0].plot(noisy_at, noisy, color=plots.VERMILLION, linewidth=0.8, label="DDPM, 1000 steps")
    axes[0, 0].set(title="one point, two samplers")
    for steps, color, mark in zip(few, (plots.COLOURS[4], plots.COLOURS[2]), "os", strict=True):
        at, path = one_path("ddim", steps)
        axes[0, 1].plot(at, path, mark + "--", color=color, markersize=4, linewidth=1, label=f"DDIM, {steps} steps")
    axes[0, 1].set(title="DDIM in few steps")
    for name, middle in zip(("left hump", "right hump"), middles, strict=True):
        axes[0, 1].annotate(name, (88, middle - 0.15), fontsize=10, va="center")
    axes[0, 0].set(ylabel="x")
    _legend_below(fig, [*axes[0, 0].get_lines(), *axes[0, 1].get_lines()[1:]], columns=2)
    plots.show(
        fig,
        f"From noise (left) to data (right; grey bands). DDPM's path is a scribble, DDIM's a smooth curve. {few[0]} "
        f"straight pieces miss the hump, {few[1]} reach it. The curve bends below {BEND:.0f}°, where only "
        f"{below_the_bend(few[-1])} of the {few[-1]} steps start.",
    )


def below_the_bend(steps: int, grid: str = "linspace") -> int:
    """How many steps of a grid start at less than BEND degrees of noise, on the linear schedule."""
    schedule = linear()
    starts = angles(schedule.alpha_bar[time_grid(schedule, steps, grid)[:-1]].tolist())
    return sum(math.degrees(angle) < BEND for angle in starts)


def exact_race() -> dict[str, list[tuple[float, float]]]:
    """W1 to two-hump data at COUNTS steps, and the standard error of its mean over repeats; exact predictor.

    W1 is the average distance between sorted samples and the quantiles of the data, for 20,001 evenly spread starts on
    the linear schedule. DDIM has no randomness here, and no error.
    """
    schedule, mixture = linear(), data.two_humps()
    net, n = mixture.network(schedule), 20_001
    share = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    start, line = torch.special.ndtri(share).unsqueeze(1), torch.linspace(-3, 3, 100_001, dtype=torch.float64)
    z = (line - mixture.means) / mixture.covariances[:, 0].sqrt()
    quantiles = line[torch.searchsorted(mixture.weights @ torch.special.ndtr(z), share)]
    found = {}
    for name, sampler, options, repeats in (
        ("DDIM", ddim, {}, 1),
        ("DDPM, σ² = β̃ (η = 1)", ddim, {"eta": 1.0}, REPEATS),
        ("DDPM, σ² = β", ddpm, {"variance": "beta"}, REPEATS),
    ):
        found[name] = []
        for steps in COUNTS:
            times, w1 = time_grid(schedule, steps), []
            for seed in range(repeats):
                generator = torch.Generator().manual_seed(seed)
                end = sample(sampler(net, start, schedule, times, generator=generator, **options))
                w1.append((end.flatten().sort().values - quantiles).abs().mean().item())
            mean = sum(w1) / repeats
            found[name].append((mean, math.sqrt(sum((x - mean) ** 2 for x in w1) / max(repeats - 1, 1) / repeats)))
    return found


def digit_race() -> dict[str, list[tuple[float, float]]]:
    """Feature-Frechet distance of 1,000 digits of the trained network at COUNTS steps, and its standard error.

    Both are stored measurements; the error of sigma^2 = beta was not measured and is 0 here.
    """
    score = {(row["sampler"], row["steps"]): row["frechet"] for row in measurements.load("steps")}
    error = {(row["solver"], row["nfe"]): row["standard error"] for row in measurements.load("pareto")}
    solver = {"DDIM": "DDIM", "DDPM, σ² = β̃": "DDPM"}
    return {
        name: [(score[name, steps], error.get((solver.get(name), steps), 0.0)) for steps in COUNTS]
        for name in measurements.SAMPLERS
    }


def ddpm_ahead(steps: int) -> tuple[float, float]:
    """Distance to real digits of DDIM minus that of DDPM with sigma^2 = beta~, and the standard error of this.

    Stored measurements; both samplers start from the same noises, and resampled with the same digits they are pairs.
    """
    flow, noisy = (
        next(row for row in measurements.load("pareto") if (row["solver"], row["nfe"]) == (solver, steps))
        for solver in ("DDIM", "DDPM")
    )
    pairs = measurements.resampled(flow) - measurements.resampled(noisy)
    return flow["frechet"] - noisy["frechet"], pairs.std().item()


def show_race() -> None:
    """Distance to the data against steps, three samplers: with an exact predictor, and with the trained network."""
    races = {"exact predictor, two humps": exact_race(), "trained network, digits": digit_race()}
    real = measurements.load("steps")[0]  # every row has the floor
    fig, axes = plots.figure(columns=2, width=6.4, height=3.8)
    for axis, (title, race), ticks in zip(
        axes[0], races.items(), ((0.01, 0.03, 0.1, 0.3), (0.5, 1, 2, 5, 10)), strict=True
    ):
        for i, (name, values) in enumerate(race.items()):
            mean, error = zip(*values, strict=True)
            axis.errorbar(COUNTS, mean, error, label=name, color=plots.COLOURS[i], marker="osD"[i], markersize=5)
        axis.set(title=title, xscale="log", yscale="log", xlabel="steps = network calls")
        axis.set_xticks(COUNTS, [str(count) for count in COUNTS])
        axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.minorticks_off()
    axes[0, 0].set(ylabel="distance to the data")
    low, high = (real["floor"] + side * real["floor_spread"] for side in (-1, 1))
    axes[0, 1].axhspan(low, high, color=plots.COLOURS[2], alpha=0.3, linewidth=0)
    _legend_below(fig, axes[0, 0].get_legend_handles_labels()[0], columns=3)
    told = [_at_ten_steps(race) for race in races.values()]
    plots.show(
        fig,
        f"Lower is better; a bar is one standard error, where it was measured. Ten steps with the exact predictor: "
        f"{told[0]}. Ten steps with the trained network: {told[1]}. Green band: as many real digits, "
        f"{real['floor']:.2f} ± {real['floor_spread']:.2f}.",
    )


def _at_ten_steps(race: dict[str, list[tuple[float, float]]]) -> str:
    """What each sampler of a race reaches with ten steps, in words."""
    at = COUNTS.index(10)
    return ", ".join(
        f"{name} {values[at][0]:.2g}" + (f" ± {values[at][1]:.1g}" if values[at][1] else "")
        for name, values in race.items()
    )


def _legend_below(fig: Figure, entries: Sequence[Artist], columns: int) -> None:
    """One legend for all panels, below them, where it covers no curve."""
    with rc_context(plots.STYLE):
        fig.legend(handles=entries, loc="outside lower center", ncols=columns)


def _quarter_circle(axis: Axes) -> None:
    """The circle signal^2 + noise^2 = 1 of all noise levels."""
    turn = torch.linspace(0, math.pi / 2, 100)
    axis.plot(turn.cos(), turn.sin(), color=GREY, linewidth=2)
    axis.set(aspect="equal", ylim=(-0.06, 1.12), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    axis.grid(False)


def _step_on_coordinates(axis: Axes, start: float, end: float) -> None:
    """The coordinates of the point x = 1 at angle `start`, and the right angle where its step meets the ray `end`."""
    x, y = math.cos(start), math.sin(start)
    axis.plot([0, x, x], [y, y, 0], "--", color=plots.COLOURS[2], linewidth=1.2)
    axis.annotate(r"$\hat x_0$", (x, 0.02), xytext=(x + 0.02, 0.03), color=plots.COLOURS[2], fontsize=13)
    axis.annotate(r"$\hat\varepsilon$", (0, y), xytext=(0.03, y - 0.09), color=plots.COLOURS[2], fontsize=13)
    along, size = (math.cos(end), math.sin(end)), 0.045
    back = [math.cos(start - end) * part for part in along]
    across = (-along[1], along[0])
    corners = [(-size, 0.0), (-size, size), (0.0, size)]
    square = [[b + u * p + v * q for b, p, q in zip(back, along, across, strict=True)] for u, v in corners]
    axis.plot(*zip(*square, strict=True), color=plots.VERMILLION, linewidth=1)


def _bent_arrow(axis: Axes, start: float, end: float, radius: float, color: str) -> None:
    """An arrow along a circle around the corner, between two angles in degrees."""
    turn = torch.linspace(start, end, 50).deg2rad()
    x, y = radius * turn.cos(), radius * turn.sin()
    axis.plot(x[:-3], y[:-3], color=color, linewidth=2)
    tip, tail = (x[-1].item(), y[-1].item()), (x[-4].item(), y[-4].item())
    axis.annotate("", tip, tail, arrowprops={"arrowstyle": "-|>", "color": color, "linewidth": 2})
