"""Pictures of lesson 13: the detection matrix."""

import re

from matplotlib.patches import Rectangle

from lessons_src import measurements
from lessons_src.lessons.lesson_13.detection import NONE, power
from lessons_src.lessons.lesson_13.faults import FAULTS
from lessons_src.lessons.lesson_13.needles import BAD, OTHER
from lessons_src.show import plots
from lessons_src.show.look import BLUE, GREEN, INK

OFTEN, SELDOM = 0.8, 0.1  # a fault is caught from here on, and not seen up to here


def show_detection(strength: float = 0.25) -> None:
    """How often each needle catches each fault, at one of the strengths 0.1, 0.25, 0.5 and 1, in per cent."""
    rows = measurements.load("detection")
    caught = {fault: {name: power(rows, fault, strength, name).value for name in BAD} for fault in FAULTS}
    flattered = {
        (fault, name)
        for fault in FAULTS
        for name, side in BAD.items()
        if power(rows, fault, strength, name, OTHER[side]).value >= OFTEN
    }
    fig, axes = plots.figure(width=9.2, height=3.9)
    axis = axes[0, 0]
    for row, (fault, shares) in enumerate(caught.items()):
        for column, (name, share) in enumerate(shares.items()):
            full = share >= OFTEN
            edge = BLUE if round(share, 2) > SELDOM else "none"
            face = BLUE if full else "none"
            axis.add_patch(Rectangle((column - 0.42, row - 0.38), 0.84, 0.76, facecolor=face, edgecolor=edge, lw=1.6))
            weight = {"color": "white", "weight": "bold"} if full else {"color": INK}
            axis.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=11.5, **weight)
            if (fault, name) in flattered:
                axis.plot(column + 0.29, row, "^", color=GREEN, markersize=7)
    axis.set_xticks(range(len(BAD)), [re.sub("[ -]", "\n", name) for name in BAD], fontsize=10)
    axis.xaxis.tick_top()
    axis.set_yticks(range(len(FAULTS)), list(FAULTS))
    axis.set(xlim=(-0.5, len(BAD) - 0.5), ylim=(len(FAULTS) - 0.5, -0.5))
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.grid(False)
    n = rows[0]["n"]
    (honest,) = (row for row in rows if row["fault"] == NONE)
    false = [power(rows, NONE, 0, name).value for name in BAD]
    nobody = [fault for fault in FAULTS if max(caught[fault].values()) < OFTEN]
    most = max(sum(caught[fault][name] >= OFTEN for fault in FAULTS) for name in BAD)
    plots.show(
        fig,
        f"{100 * strength:.0f} % of {n} samples have the fault. Numbers: in how many of 100 such sets the needle gives "
        f"the alarm. Filled: {100 * OFTEN:.0f} or more. Without a box: {100 * SELDOM:.0f} or less. Green triangle: it "
        f"says “better than real digits”. No needle catches more than {most} of the {len(FAULTS)} faults. "
        + (f"No needle catches: {', '.join(nobody)}. " if nobody else "Each fault is caught by some needle. ")
        + f"Without a fault each needle gives the alarm in {100 * min(false):.0f} to {100 * max(false):.0f} of 100, "
        f"and some needle in {100 * honest['any']['0.0'] / honest['repetitions']:.0f}.",
    )
