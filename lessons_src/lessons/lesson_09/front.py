"""The latency-quality front: which solvers of the shipped digit network are worth their evaluations.

The rows are those of `measurements.load("pareto")`; only "nfe", "frechet" and "resampled" decide. All start from the
same noises and labels, so two rows are compared in pairs: `measurements.resampled` draws the same digits of both.
"""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from lessons_src import measurements
from lessons_src.checks import check_real, refuse
from lessons_src.measurements import Row, resampled
from lessons_src.show import plots
from lessons_src.solvers import SOLVERS

SURE = 1.96  # standard errors on either side: 95 % of a normal law
REFERENCE = ("DDPM", 1000)
ODE_END = ("UniPC-2", 50)  # has solved the network's ODE
MARGIN = 0.25  # how much worse still counts as good: two random sets of 1,000 real digits differ by about as much
DRAWN = (  # a solver's place gives its colour, dash and mark in every figure; the first three as in the race
    "DDIM",
    "DPM-Solver++(2M)",
    "Heun",
    "UniPC-2",
    "DDPM",
    "SDE-DPM-Solver++(2M)",
    "DPM-Solver-2",
    "PLMS",
    "DPM-Solver++(3M)",
)
LIT = ("DDIM", "DPM-Solver++(2M)", "UniPC-2", "SDE-DPM-Solver++(2M)", "DDPM")  # nine lines tangle: the others are grey


class NotMeasured(ValueError):
    """There is no such row; a notebook shows the sentence alone, without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


class Difference(NamedTuple):
    """How much worse one row is than another, and the standard error of that."""

    value: float
    error: float

    @property
    def low(self) -> float:
        """The lower end of the 95 % interval."""
        return self.value - SURE * self.error

    @property
    def high(self) -> float:
        """The upper end of the 95 % interval."""
        return self.value + SURE * self.error


def difference(a: Row, b: Row) -> Difference:
    """The distance of a less that of b, with its error by a paired bootstrap of the digits.

    The error speaks of the luck of the drawn digits: network, judge and real digits stay the same.
    """
    return Difference(a["frechet"] - b["frechet"], (resampled(a) - resampled(b)).std().item())


def dominates(a: Row, b: Row, z: float = 0.0) -> bool:
    """Whether a costs no more than b and is better by more than z standard errors of their difference.

    Of two equally good rows the cheaper one dominates. Raises ValueError for z < 0.
    """
    if a["nfe"] > b["nfe"] or a["frechet"] > b["frechet"]:
        return False
    margin = check_real("z", z, 0.0) * difference(a, b).error if z else 0.0
    return (b["frechet"] - a["frechet"], b["nfe"] - a["nfe"]) > (margin, 0)


def front(rows: Sequence[Row], z: float = 0.0) -> list[Row]:
    """The rows that no other one dominates, cheapest first; with z, also those that may be as good."""
    kept = [row for row in rows if not any(dominates(other, row, z) for other in rows)]
    return sorted(kept, key=lambda row: (row["nfe"], row["frechet"]))


def told(gap: Difference) -> str:
    """A difference with its 95 % interval, to two digits."""
    return f"{gap.value:.2f} ± {SURE * gap.error:.2f}".replace("-", "−")


def as_good(row: Row, reference: Row, margin: float = MARGIN) -> bool:
    """Whether a row is shown to be worse than `reference` by less than the margin: its whole 95 % interval is."""
    return difference(row, reference).high < margin


def reaching(rows: Sequence[Row], reference: Row, margin: float = MARGIN) -> list[Row]:
    """The cheapest row of every solver that is `as_good` as the reference, cheapest first."""
    found: dict[str, Row] = {}
    for row in sorted(rows, key=lambda row: (row["nfe"], row["frechet"])):
        if as_good(row, reference, margin):
            found.setdefault(row["solver"], row)
    return list(found.values())


def sorts(rows: Sequence[Row], random: bool) -> list[Row]:
    """The rows of the solvers that draw fresh noise, or of those that follow the ODE."""
    return [row for row in rows if SOLVERS[row["solver"]].random is random]


def find(rows: Sequence[Row], solver: str, nfe: int) -> Row:
    """The row of a solver at a number of evaluations; NotMeasured lists the solvers, or the numbers, that there are."""
    own = {row["nfe"]: row for row in rows if row["solver"] == solver}
    if not own:
        refuse("solver", solver, f"one of {', '.join(sorted({row['solver'] for row in rows}))}", NotMeasured)
    if nfe not in own:
        refuse("calls", nfe, f"for {solver} one of {', '.join(map(str, sorted(own)))}", NotMeasured)
    return own[nfe]


def students() -> list[Row]:
    """The students of lesson 11, from the same noises and labels: each a network trained for its number of calls."""
    return [row for row in measurements.load("students") if row["solver"] == "student"]


def look(solver: str) -> dict[str, str]:
    """How a solver of DRAWN is drawn: its colour, dash and mark, for matplotlib."""
    i = DRAWN.index(solver) if solver in DRAWN else len(DRAWN)
    again, k = divmod(i, len(plots.COLOURS))
    return {"color": plots.COLOURS[k], "linestyle": plots.DASHES[k + again], "marker": "osD^v<>Ph."[i]}


def highest(reference: Row) -> float:
    """The largest distance that the picture has room for: so many margins above the reference."""
    return reference["frechet"] + 8 * MARGIN


def draw(rows: Sequence[Row], trained: Sequence[Row], reference: Row, lit: Sequence[str] = LIT) -> Figure:
    """Distance, up to `highest`, against evaluations: every solver a line, in colour if it is `lit`.

    Filled points are on the front of the solvers, hollow ones are dominated. Stars are the `students`. The dotted line
    is what real digits score.
    """
    fig, axes = plots.figure(width=7.8, height=4.0)
    axis, best = axes[0, 0], front(rows)
    solvers = [name for name in measurements.PARETO if name in {row["solver"] for row in rows}]
    real = {"color": plots.INK, "linestyle": ":", "linewidth": 1.4, "label": "real digits", "gid": "floor"}
    axis.axhline(reference["floor"], **real)
    grey = [solver for solver in solvers if solver not in lit]
    for solver in (*grey, *lit):
        own = sorted((row for row in rows if row["solver"] == solver), key=lambda row: row["nfe"])
        style = {**look(solver), "markersize": 6, "gid": solver}
        if solver in grey:
            style |= {"color": "0.6", "linestyle": "-", "marker": ".", "markersize": 4, "alpha": 0.6}
        name = solver if solver in lit else f"the other {len(grey)}" if solver == grey[0] else None
        axis.plot(*_xy(own), markerfacecolor="none", linewidth=1.4 if solver in lit else 0.8, label=name, **style)
        axis.plot(*_xy([row for row in own if row in best]), **{**style, "linestyle": "", "gid": "front"})
    stars = {"color": plots.INK, "linestyle": "", "marker": "*", "markersize": 10, "gid": "students"}
    axis.plot(*_xy(trained), label="students, lesson 11", **stars)
    ticks = sorted({row["nfe"] for row in (*rows, *trained)} - {5, 8, 15, 30, 250})  # those that have room
    lowest = min(row["frechet"] for row in rows) - 0.15
    axis.set(xscale="log", xlabel="network calls", ylabel="feature-Fréchet distance", ylim=(lowest, highest(reference)))
    axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axis.minorticks_off()
    axis.legend(fontsize=10.5, loc="upper right", ncols=2)
    return fig


def _xy(rows: Sequence[Row]) -> tuple[list[int], list[float]]:
    return [row["nfe"] for row in rows], [row["frechet"] for row in rows]
