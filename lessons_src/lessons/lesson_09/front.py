"""The latency-quality front: which solvers of the shipped digit network are worth their evaluations.

The rows are those of `measurements.load("pareto")`; only their "nfe", "frechet" and "standard error" decide.
"""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lessons_src import measurements
from lessons_src.checks import check_real, refuse
from lessons_src.measurements import Row
from lessons_src.show import plots

SURE = 1.96  # standard errors on either side: 95 % of a normal law
REFERENCE = ("DDPM", 1000)


def dominates(a: Row, b: Row, z: float = 0.0) -> bool:
    """Whether a costs no more than b and is better by more than z standard errors of the difference.

    The errors count as independent. Rows of one start noise rise and fall together, so that z is rather too strict. Of
    two equally good rows the cheaper one dominates. Raises ValueError for z < 0.
    """
    margin = check_real("z", z, 0.0) * math.hypot(a["standard error"], b["standard error"])
    return a["nfe"] <= b["nfe"] and (b["frechet"] - a["frechet"], b["nfe"] - a["nfe"]) > (margin, 0)


def front(rows: Sequence[Row], z: float = 0.0) -> list[Row]:
    """The rows that no other one dominates, cheapest first; with z, also those that may be as good."""
    kept = [row for row in rows if not any(dominates(other, row, z) for other in rows)]
    return sorted(kept, key=lambda row: (row["nfe"], row["frechet"]))


def band(row: Row) -> tuple[float, float]:
    """The 95 % confidence band of a row's distance."""
    return row["frechet"] - SURE * row["standard error"], row["frechet"] + SURE * row["standard error"]


def reaches(row: Row, reference: Row) -> bool:
    """Whether a row is not worse than `reference` by more than 1.96 standard errors of the difference."""
    margin = SURE * math.hypot(row["standard error"], reference["standard error"])
    return row["frechet"] - reference["frechet"] <= margin


def reaching(rows: Sequence[Row], reference: Row) -> list[Row]:
    """The cheapest row of every solver that `reaches` the reference, cheapest first."""
    found: dict[str, Row] = {}
    for row in sorted(rows, key=lambda row: (row["nfe"], row["frechet"])):
        if reaches(row, reference):
            found.setdefault(row["solver"], row)
    return list(found.values())


def find(rows: Sequence[Row], solver: str, nfe: int) -> Row:
    """The row of a solver at a number of evaluations; ValueError if it was not measured."""
    found = [row for row in rows if (row["solver"], row["nfe"]) == (solver, nfe)]
    if len(found) != 1:
        refuse("solver, nfe", (solver, nfe), "one of the rows")
    return found[0]


def draw(rows: Sequence[Row], reference: Row, highest: float = 2.6) -> Figure:
    """Distance against evaluations: every solver on the left, and up to `highest`, with bands, on the right.

    Filled marks are on the front, hollow ones are dominated. The dotted line is what real digits score, the grey strip
    the band of `reference`. On the right the solvers stand a little apart, so that their bands can be told apart.
    """
    fig, axes = plots.figure(columns=2, width=9.0, height=3.8)
    left, right = axes[0]
    best, solvers = front(rows), [name for name in measurements.PARETO if name in {row["solver"] for row in rows}]
    for i, solver in enumerate(solvers):
        own = sorted((row for row in rows if row["solver"] == solver), key=lambda row: row["nfe"])
        _draw_solver(left, own, best, i, 1.0)
        _draw_solver(right, own, best, i, 1.012 ** (i - len(solvers) // 2))
        low, high = zip(*(band(row) for row in own), strict=True)
        shifted = [row["nfe"] * 1.012 ** (i - len(solvers) // 2) for row in own]
        right.vlines(shifted, low, high, color=plots.COLOURS[i % len(plots.COLOURS)], linewidth=0.8)
    right.axhspan(*band(reference), color="0.5", alpha=0.25, zorder=0)
    ticks = sorted({row["nfe"] for row in rows} - {5, 8, 15, 30, 250})  # those that have room
    for axis in (left, right):
        axis.axhline(reference["floor"], color=plots.INK, linestyle=":", linewidth=1)
        axis.set(xscale="log", xlabel="network evaluations (logarithmic)")
        axis.set_xticks(ticks, [str(tick) for tick in ticks])
        axis.minorticks_off()
    left.set(yscale="log", ylabel="feature-Fréchet distance", title="all (logarithmic)")
    right.set(ylim=(0.2, highest), title=f"below {highest:g}, with 95 % bands")
    fig.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=9)
    return fig


def _draw_solver(axis: Axes, rows: Sequence[Row], best: Sequence[Row], i: int, shift: float) -> None:
    style = {"color": plots.COLOURS[i % len(plots.COLOURS)], "marker": "osD^v<>Ph"[i % 9], "markersize": 6}
    for chosen, line, look in (
        (rows, plots.DASHES[i % len(plots.DASHES)], {"markerfacecolor": "white", "label": rows[0]["solver"]}),
        ([row for row in rows if row in best], "", {}),
    ):
        nfe, frechet = [row["nfe"] * shift for row in chosen], [row["frechet"] for row in chosen]
        axis.plot(nfe, frechet, linestyle=line, linewidth=1.2, **style, **look)
