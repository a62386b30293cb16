"""Combinations that a network has never seen: does it put a known digit and a known thickness together?

Two networks learned what thin, plain and bold digits look like, one without four of the 30 combinations. Both are asked
for all of them. What comes is read by the judge, and its thickness is measured in pixels.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from lessons_src.captions import BOLD, DIGITS, THICKNESSES, THIN
from lessons_src.lessons.lesson_13.stored import stored
from lessons_src.metrics import Interval, wilson_interval
from lessons_src.show import plots
from lessons_src.show.look import BLUE, VERMILLION

COMBINATIONS = tuple((digit, thickness) for digit in range(10) for thickness in range(3))
HELD = (9, 14, 23, 24)  # places in COMBINATIONS: thin three, bold four, bold seven, thin eight
WITHOUT, WITH = 0, 1  # the network that has not seen them, and one that has


def named(place: int) -> str:
    """A combination in words."""
    digit, thickness = COMBINATIONS[place]
    return f"{THICKNESSES[thickness]} {DIGITS[digit]}"


def came(network: int) -> Tensor:
    """What came of what was asked for: counts (30, 30) of combinations, rows asked, columns read and measured."""
    found = stored("held_out")[0]
    thickness = found["thickness"][network].double()
    got = 3 * found["read"][network].long() + (thickness > THIN).long() + (thickness > BOLD)
    return torch.bincount(30 * found["asked"].long() + got, minlength=900).view(30, 30)


class Fate(NamedTuple):
    """Of the samples asked for, how many came as asked, with another thickness, another digit, or neither right."""

    asked: int
    right: int
    other_thickness: int
    other_digit: int
    neither: int


def fate(network: int, place: int) -> Fate:
    """What became of one combination."""
    counts = came(network)[place].view(10, 3)
    digit, thickness = COMBINATIONS[place]
    asked, right = int(counts.sum()), int(counts[digit, thickness])
    of_digit, of_thickness = int(counts[digit].sum()), int(counts[:, thickness].sum())
    return Fate(asked, right, of_digit - right, of_thickness - right, asked - of_digit - of_thickness + right)


def right(network: int, places: tuple[int, ...] = HELD) -> Interval:
    """Share of some combinations that came as asked, with its 95 % interval."""
    fates = [fate(network, place) for place in places]
    return wilson_interval(sum(one.right for one in fates), sum(one.asked for one in fates))


def seen() -> tuple[int, ...]:
    """The combinations that both networks have seen."""
    return tuple(place for place in range(len(COMBINATIONS)) if place not in HELD)


def leaked(network: int, place: int) -> tuple[str, int]:
    """The wrong combination that came most often, and how often."""
    counts = came(network)[place].clone()
    counts[place] = 0
    return named(int(counts.argmax())), int(counts.max())


def show_held_out() -> None:
    """What the network draws of the combinations that it has never seen, the first eight of each."""
    examples = stored("held_out")[0]["examples"][WITHOUT]
    share, other = right(WITHOUT), right(WITHOUT, seen())
    plots.image_rows(
        {f"a {named(place)}": x.unsqueeze(1).float() / 127.5 - 1 for place, x in zip(HELD, examples, strict=True)},
        "Four combinations that the network has never seen, the first eight of each. It knows the digits and the "
        f"thicknesses, each from other combinations. As asked: {_percent(share)}; of the combinations that it has "
        f"seen: {_percent(other)}.",
    )


def show_leakage() -> None:
    """As what the combinations never seen are read, and how often they come right in both networks."""
    fig, axes = plots.figure(columns=2, width=9.2, height=3.0)
    left, points = axes[0]
    for row, place in enumerate(HELD):
        read = came(WITHOUT)[place].view(10, 3).sum(1)
        for digit, count in enumerate((100 * read / read.sum()).tolist()):
            wanted = digit == COMBINATIONS[place][0]
            if count:
                weight = "bold" if wanted else "normal"
                color = BLUE if wanted else VERMILLION
                left.text(digit, row, f"{count:.0f}", ha="center", va="center", color=color, weight=weight)
    left.set(xlim=(-0.6, 9.6), ylim=(len(HELD) - 0.4, -0.6), xlabel="read as, %")
    left.set_xticks(range(10))
    names = [named(place) for place in HELD]
    left.set_yticks(range(len(HELD)), names)
    for network, color, mark, shift, label in (
        (WITHOUT, VERMILLION, "s", 0.12, "never seen"),
        (WITH, BLUE, "o", -0.12, "seen in training"),
    ):
        shares = 100 * torch.tensor([right(network, (place,)) for place in HELD])
        value, low, high = shares.T.numpy()
        rows = [row + shift for row in range(len(HELD))]
        style = {"color": color, "fmt": mark, "ms": 6, "capsize": 3, "label": label}
        points.errorbar(value, rows, xerr=(value - low.clip(max=value), high.clip(min=value) - value), **style)
    points.set(xlim=(0, 103), ylim=(len(HELD) - 0.4, -0.6), xlabel="came as asked, %")
    points.set_yticks(range(len(HELD)), names)
    points.legend(fontsize=10.5, loc="upper left")
    fates = [fate(WITHOUT, place) for place in HELD]
    worst = min(HELD, key=lambda place: fate(WITHOUT, place).right)
    into, often = leaked(WITHOUT, worst)
    plots.show(
        fig,
        "Left: what a network draws of combinations that it has never seen, as the judge reads it. The thickness is "
        f"kept in {sum(one.right + one.other_digit for one in fates)} of {sum(one.asked for one in fates)} (speckle "
        f"counts as thin); the digit is what gives way. Of {fate(WITHOUT, worst).asked} requests for a "
        f"{named(worst)}, {often} came as a {into}: a neighbour that it has seen. Right: the same requests, and to a "
        "network trained in the same way with all digits. As asked: "
        f"{_percent(right(WITHOUT))} without them, {_percent(right(WITH))} with them.",
    )


def _percent(share: Interval) -> str:
    return f"{100 * share.value:.0f} % ({100 * share.low:.0f} to {100 * share.high:.0f})"
