"""Scores that are curves: against the number of samples, the guidance scale and the number of steps."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lessons_src import measurements
from lessons_src.lessons.lesson_13.stored import seen, stored
from lessons_src.measurements import Row
from lessons_src.metrics import Extrapolated, Interval, at_infinity, bootstrap, frechet_distance, frechet_gaussians
from lessons_src.show import plots
from lessons_src.show.look import BLUE, GREEN, INK, VERMILLION

DDIM, DDPM = "DDIM, 50 steps", "DDPM, 1,000 steps"
EVALUATIONS = {DDIM: 50, DDPM: 1000}  # of the network, for one digit
SIZES = (100, 200, 300, 500, 1000, 2000)
DRAWS = 50  # of so many digits
FEW = 100  # digits of DDPM that cost as much as all 2,000 of DDIM


class Spread(NamedTuple):
    """Mean and standard deviation of a score over repeated sets of samples."""

    mean: float
    std: float


# --- Against the number of samples


def expected_bias(variances: Tensor, n: int) -> float:
    """What n samples score on average against the very Gaussian they are from, of variances (d,) along its axes.

    The mean is off by tr S / n, and the fitted covariance, whose entries vary by v_i v_j / (n - 1), by the rest: to
    second order, each pair of axes adds v_i v_j / (v_i + v_j) / (2 (n - 1)), and an axis with itself twice that.
    """
    pairs = variances[:, None] * variances / (variances[:, None] + variances)
    return (variances.sum() / n + (pairs.sum() + variances.sum() / 2) / (2 * (n - 1))).item()


@cache
def bias(d: int = 64, draws: int = 20) -> dict[int, Spread]:
    """What n samples of a standard Gaussian in d dimensions score against that Gaussian: perfect, and never 0."""
    generator, mean, covariance = torch.Generator().manual_seed(0), torch.zeros(d).double(), torch.eye(d).double()
    found = {}
    for n in SIZES:
        sets = (torch.randn(n, d, generator=generator, dtype=torch.float64) for _ in range(draws))
        scores = torch.tensor([frechet_gaussians(x.mean(0), torch.cov(x.T), mean, covariance) for x in sets])
        found[n] = Spread(scores.mean().item(), scores.std().item())
    return found


def show_bias(d: int = 64) -> None:
    """Scores of perfect samples against their number, beside what the formula expects."""
    found = bias(d)
    n = np.geomspace(min(found), max(found), 50)
    fig, axes = plots.figure(width=7.5, height=3.4)
    axis = axes[0, 0]
    axis.plot(n, [expected_bias(torch.ones(d), size) for size in n], "--", color=INK, label="expected")
    mean, std = (np.array(column) for column in zip(*found.values(), strict=True))
    axis.errorbar(list(found), mean, 2 * std, fmt="o", ms=5, color=BLUE, capsize=4, label="measured, ± 2 spreads")
    axis.set(xscale="log", yscale="log", xlabel="samples n", ylabel="distance; the truth is 0")
    axis.set_xticks(SIZES, [f"{size:,}" for size in SIZES])
    axis.minorticks_off()
    axis.set_yticks([0.5, 1, 2, 5, 10], ["0.5", "1", "2", "5", "10"])
    axis.legend()
    ratios = [one.mean / one.std for one in found.values()]
    plots.show(
        fig,
        f"Samples of a Gaussian with {d} features, scored against that same Gaussian. They are perfect, and 500 of "
        f"them have a distance of {found[500].mean:.2f} ± {found[500].std:.2f}. All sets are wrong to the same side: "
        f"the bias is {min(ratios):.0f} to {max(ratios):.0f} times the spread. Averaging over more sets does not help; "
        "more samples in a set do.",
    )


def tens(x: Tensor) -> Tensor:
    """Features (n, d) of labels 0, 1, ..., 9, 0, ... with ten digits, one of each class, in a row: (n / 10, 10 d).

    Parts of such rows have all classes equally often, as every set has that the course scores.
    """
    return x.reshape(len(x) // 10, -1)


def distance(samples: Tensor, real: Tensor) -> float:
    """Feature-Frechet distance of rows of `tens`."""
    d = real.shape[1] // 10
    return frechet_distance(samples.reshape(-1, d), real.reshape(-1, d))


@cache
def _sides() -> tuple[dict[str, Tensor], Tensor]:
    """`tens` of the stored digits of both samplers, and of the test digits."""
    return {name: tens(x.double()) for name, x in stored("features")[0].items()}, tens(seen("test").double())


def scores(sampler: str, n: int) -> Tensor:
    """Distances (DRAWS,) of n digits, drawn at random out of the 2,000 stored ones of a sampler."""
    drawn, real = _sides()
    generator = torch.Generator().manual_seed(n)
    parts = (torch.randperm(len(real), generator=generator)[: n // 10] for _ in range(DRAWS))
    return torch.tensor([distance(drawn[sampler][part], real) for part in parts], dtype=torch.float64)


@cache
def by_number(sampler: str) -> dict[int, Spread]:
    """Distance of n digits of a sampler, for n below 2,000, over DRAWS.

    Parts of 2,000 overlap, and differ less than fresh sets would; the spread is corrected for that.
    """
    found = {n: scores(sampler, n) for n in SIZES[:-1]}
    return {n: Spread(x.mean().item(), x.std().item() / (1 - n / SIZES[-1]) ** 0.5) for n, x in found.items()}


class Ranking(NamedTuple):
    """Which of two samplers is better? `reversed_share`: how often FEW digits of DDPM score worse than 2,000 of DDIM.

    difference: DDIM minus DDPM at 2,000 digits each, and at_infinity the same without the bias, with 95 % intervals.
    """

    few: Spread
    many: float
    reversed_share: float
    difference: Interval
    limits: dict[str, Extrapolated]
    at_infinity: Interval


@cache
def ranking() -> Ranking:
    """The two samplers at equal cost, at equal numbers of digits, and at infinitely many."""
    drawn, real = _sides()
    many = distance(drawn[DDIM], real)

    def limit(x: Tensor, sizes: Sequence[int], draws: int) -> Extrapolated:
        return at_infinity(distance, x, real, sizes, torch.Generator().manual_seed(0), draws)

    def interval(score: Callable[[Tensor], float]) -> Interval:
        pairs, generator = (drawn[DDIM], drawn[DDPM]), torch.Generator().manual_seed(0)
        return bootstrap(lambda a, b: score(a) - score(b), *pairs, generator=generator, draws=100)

    limits = {name: limit(x, (20, 30, 50, 100, 200), 20) for name, x in drawn.items()}
    apart = interval(lambda x: limit(x, (20, 200), 4).value)  # a rougher fit, hence an interval a little too wide
    return Ranking(
        by_number(DDPM)[FEW],
        many,
        (scores(DDPM, FEW) > many).double().mean().item(),
        interval(lambda x: distance(x, real)),
        {name: Extrapolated(found.value, 10 * found.bias) for name, found in limits.items()},
        apart._replace(value=limits[DDIM].value - limits[DDPM].value),
    )


def show_rank_reversal() -> None:
    """Distance of two samplers against 1 / n, their limits, and what is compared if both may cost the same."""
    found, (drawn, real) = ranking(), _sides()
    fig, axes = plots.figure(width=7.8, height=3.8)
    axis = axes[0, 0]
    for name, color, mark, dash in ((DDIM, BLUE, "o", "-"), (DDPM, VERMILLION, "s", "--")):
        curve, limit = by_number(name), found.limits[name]
        x = np.array([*(1 / n for n in curve), 1 / SIZES[-1]])
        mean = np.array([*(one.mean for one in curve.values()), distance(drawn[name], real)])
        std = np.array([one.std for one in curve.values()])
        axis.fill_between(x[:-1], mean[:-1] - std, mean[:-1] + std, color=color, alpha=0.18, lw=0)
        axis.plot(x, mean, mark, color=color, ms=5, label=name)
        axis.plot([0, 1 / FEW], [limit.value, limit.value + limit.bias / FEW], dash, color=color, lw=1.4)
        axis.plot(0, limit.value, mark, color=color, ms=9, mfc="none", clip_on=False)
    ends = (1 / SIZES[-1], found.many), (1 / FEW, found.few.mean)
    axis.annotate("", *ends, arrowprops={"arrowstyle": "<->", "color": INK, "lw": 1.6, "shrinkA": 6, "shrinkB": 6})
    axis.plot([], [], color=INK, lw=1.6, label="the same cost")
    axis.set_xticks([0, *(1 / n for n in SIZES[:-1])], ["∞", *(f"{n:,}" for n in SIZES[:-1])])
    axis.text(1 / FEW, found.few.mean - 0.09, f"{FEW} digits", ha="right", va="top")
    axis.text(1 / SIZES[-1], found.many + 0.35, "2,000\ndigits", ha="center", va="bottom")
    axis.set(xlabel="digits n, on a scale of 1 / n", ylabel="distance", xlim=(0, 0.0103), ylim=(0.8, None))
    axis.legend(loc="upper left")
    difference, limit = found.difference, found.at_infinity
    plots.show(
        fig,
        f"{FEW} digits of DDPM cost {FEW * EVALUATIONS[DDPM]:,} evaluations, and so do 2,000 of DDIM. Scored like this "
        f"(the arrow), DDPM loses in {found.reversed_share * DRAWS:.0f} of {DRAWS} draws. At 2,000 digits each it "
        f"wins, by {difference.value:.2f} (95 % interval {difference.low:.2f} to {difference.high:.2f}). Lines in 1/n "
        f"lead to infinitely many digits (open marks): there it wins by {limit.value:.2f} ({limit.low:.2f} to "
        f"{limit.high:.2f}). Bands are one standard deviation.",
    )


# --- Against the guidance scale


def guided() -> dict[float, Row]:
    """The rows of the stored measurement of guidance, by scale."""
    return {row["w"]: row for row in measurements.load("guidance")}


class Elbow(NamedTuple):
    """The scale with the smallest distance, and those from which it is less than two standard errors away."""

    best: float
    as_good: tuple[float, ...]


def elbow() -> Elbow:
    """Where the curve of distance against w has its bottom, and how sharply."""
    rows = guided()
    best = min(rows, key=lambda w: rows[w]["frechet"])

    def farther(w: float) -> float:
        """Standard errors by which w is farther; both scales start from the same noise."""
        without = zip(rows[w]["frechet without a tenth"], rows[best]["frechet without a tenth"], strict=True)
        error = measurements.jackknife_error([a - b for a, b in without])
        return (rows[w]["frechet"] - rows[best]["frechet"]) / error

    return Elbow(best, tuple(w for w in rows if w == best or farther(w) < 2))


def favourites() -> dict[str, float]:
    """The scale, from 1 on, that each score would choose."""
    rows = {w: row for w, row in guided().items() if w >= 1}
    better = {"frechet": min, "kernel": min, "precision": max, "recall": max, "accuracy": max}
    return {key: choose(rows, key=lambda w, key=key: rows[w][key]) for key, choose in better.items()}


def show_guidance() -> None:
    """Distance against the scale w, and beside it what precision, recall and the judge's reading say."""
    rows, bottom, best = guided(), elbow(), favourites()
    scales = list(rows)
    fig, axes = plots.figure(columns=2, width=9.2, height=3.5)
    left, right = axes[0]
    error = [measurements.jackknife_error(row["frechet without a tenth"]) for row in rows.values()]
    left.errorbar(
        scales, [row["frechet"] for row in rows.values()], error, color=BLUE, marker="o", ms=4, label="digits"
    )
    floor, spread = rows[1]["floor"], rows[1]["floor_spread"]
    left.axhspan(floor - spread, floor + spread, color=GREEN, alpha=0.35, lw=0, label="real digits")
    left.axvspan(min(bottom.as_good), max(bottom.as_good), color=INK, alpha=0.2, lw=0, label="cannot be told apart")
    left.set(yscale="log", ylabel="distance, less is better")
    left.set_yticks([0.7, 1, 2, 5, 10, 20], ["0.7", "1", "2", "5", "10", "20"])
    left.minorticks_off()
    left.legend(fontsize=10.5, loc="upper center")
    curves = {name: [rows[w][name] for w in scales if w] for name in ("precision", "recall", "accuracy")}
    plots.draw_lines(right, [w for w in scales if w], curves, "", "share, more is better", markers=True)
    right.set(ylim=(0, 1.03))
    for axis in (left, right):
        axis.set_xscale("function", functions=(lambda w: np.sqrt(np.maximum(w, 0)), np.square))
        axis.set_xticks([0, 1, 2, 3, 5, 7, 10])
        axis.set(xlabel="guidance scale w", xlim=(0, 10.3))
    right.set_xlim(0.9, 10.3)
    plots.show(
        fig,
        f"{rows[1]['n']:,} digits a scale, 20 DDIM steps. The distance falls to {rows[bottom.best]['frechet']:.2f} at "
        f"w = {bottom.best:g}, and rises to {rows[10]['frechet']:.0f} at w = 10; from {min(bottom.as_good):g} to "
        f"{max(bottom.as_good):g} it cannot be told from the best. Each score has a favourite of its own: recall "
        f"w = {best['recall']:g}, distance {best['frechet']:g}, kernel distance {best['kernel']:g}, precision "
        f"{best['precision']:g}, accuracy {best['accuracy']:g} or more. So the answer is the curve.",
    )


# --- Against the number of steps


def stepped(solver: str) -> dict[int, Row]:
    """The rows of DDIM or DDPM in the stored measurement of solvers, by network evaluations."""
    return {row["nfe"]: row for row in measurements.load("pareto") if row["solver"] == solver}


def paired(nfe: int) -> Spread:
    """Distance of DDPM minus that of DDIM at so many evaluations, and its standard error; both from the same noise."""
    ddpm, ddim = stepped("DDPM")[nfe], stepped("DDIM")[nfe]
    pairs = measurements.resampled(ddpm) - measurements.resampled(ddim)
    return Spread(ddpm["frechet"] - ddim["frechet"], pairs.std().item())


def show_steps(few: int = 10, many: int = 50) -> None:
    """Distance, precision and recall of DDIM and DDPM against network evaluations."""
    fig, axes = plots.figure(columns=2, width=9.2, height=3.5)
    left, right = axes[0]
    rows = {}
    for solver, color, mark, dash in (("DDIM", BLUE, "o", "-"), ("DDPM", VERMILLION, "s", "--")):
        rows = stepped(solver)
        nfe, mean = np.array(list(rows)), np.array([row["frechet"] for row in rows.values()])
        error = 2 * np.array([row["standard error"] for row in rows.values()])
        left.fill_between(nfe, mean - error, mean + error, color=color, alpha=0.18, lw=0)
        left.plot(nfe, mean, dash, marker=mark, ms=4, color=color, label=solver)
        right.plot(nfe, [row["recall"] for row in rows.values()], dash, marker=mark, ms=4, color=color)
        right.plot(nfe, [row["precision"] for row in rows.values()], dash, marker=mark, ms=4, color=color, mfc="none")
    row = next(iter(rows.values()))
    left.axhspan(
        row["floor"] - 2 * row["floor_spread"],
        row["floor"] + 2 * row["floor_spread"],
        color=GREEN,
        alpha=0.35,
        lw=0,
        label="real digits",
    )
    left.set(ylabel="distance, less is better", ylim=(0, None))
    left.legend(fontsize=10.5)
    right.plot([], [], "o", color=INK, ms=4, label="recall")
    right.plot([], [], "o", color=INK, ms=4, mfc="none", label="precision")
    right.legend(fontsize=10.5, loc="lower right")
    right.set(ylabel="share, more is better", ylim=(0.45, 1))
    ticks = [number for number in (4, 10, 20, 50, 100, 250, 1000) if number in rows]
    for axis in (left, right):
        axis.set(xscale="log", xlabel="network evaluations")
        axis.set_xticks(ticks, [f"{number:,}" for number in ticks])
        axis.minorticks_off()
    (low, low_error), (high, high_error) = paired(few), paired(many)
    ddim, ddpm = stepped("DDIM"), stepped("DDPM")
    plots.show(
        fig,
        f"{row['n']:,} digits each, w = 1; bands are two standard errors, and for real digits two spreads. Distance of "
        f"DDPM minus that of DDIM: {low:.2f} ± {low_error:.2f} at {few} evaluations, {high:.2f} ± {high_error:.2f} at "
        f"{many}. The errors are for pairs from the same noise. Recall ranks them the other way round: at {few}, DDIM "
        f"covers {100 * ddim[few]['recall']:.0f} % of the real digits and DDPM {100 * ddpm[few]['recall']:.0f} %.",
    )
