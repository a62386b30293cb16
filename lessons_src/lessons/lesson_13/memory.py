"""Do samples copy the training data? Networks that learned from few digits and from many, and what a test says of them.

The test compares how near samples lie to the training digits with how near unseen real digits do, which is the null.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lessons_src import data, weights
from lessons_src.evaluation import in_batches
from lessons_src.lessons.lesson_13.stored import seen, stored
from lessons_src.metrics import Copying, Interval, copying, wilson_interval
from lessons_src.show import plots
from lessons_src.show.look import BLUE, INK, VERMILLION

UNSEEN = 1000  # test digits that are the null
NAMES = {"pixels": "in pixels", "judge": "by the judge"}  # where distances are measured
RIGHTS = (
    "A copy that is shifted or redrawn may escape this test. And it does not say whether the digits might be used, or "
    "who owns what comes out: a clean test is no permission."
)


@cache
def sizes() -> tuple[int, ...]:
    """How many digits each of the networks learned from."""
    return tuple(int(name) for name in stored("memorised")[0])


def drawn(size: int) -> Tensor:
    """Digits in [-1, 1] of labels 0, 1, ..., 9, 0, ..., by the network that learned from the first `size` ones."""
    return stored("memorised")[0][str(size)].unsqueeze(1).float() / 7.5 - 1


@cache
def _known(eyes: str) -> tuple[Tensor, Tensor]:
    """The training digits and the null, in pixels or as the judge sees them."""
    if eyes == "judge":
        return seen("train"), seen("test")[:UNSEEN]
    return data.digits("train")[0].flatten(1), data.digits("test")[0][:UNSEEN].flatten(1)


class Verdict(NamedTuple):
    """What the test says, and the share of suspects with its 95 % interval."""

    test: Copying
    suspects: Interval


@cache
def verdict(size: int, eyes: str) -> Verdict:
    """Does the network that learned from the first `size` digits copy them, as seen in "pixels" or by the "judge"?"""
    train, null = _known(eyes)
    x = drawn(size)
    samples = x.flatten(1) if eyes == "pixels" else in_batches(weights.load("judge")[0].features, x)
    found = copying(samples, train[:size], null)
    return Verdict(found, wilson_interval(round(found.share * len(x)), len(x)))


def nearest(x: Tensor, size: int) -> Tensor:
    """The nearest of the first `size` training digits to each of x (n, 1, 28, 28), in pixels."""
    train = data.digits("train")[0][:size]
    return train[torch.cdist(x.flatten(1), train.flatten(1)).argmin(1)]


def _percent(share: Interval) -> str:
    return f"{100 * share.value:.0f} % ({100 * share.low:.0f} to {100 * share.high:.0f})"


def show_copies(few: int = 64, many: int = 8000) -> None:
    """Digits of two networks above the training digits that are nearest to them, not chosen by anybody."""
    rows = {}
    for size in (few, many):
        x = drawn(size)[:10]
        rows |= {f"{size:,}: drawn": x, f"{size:,}: nearest": nearest(x, size)}
    one, other = (verdict(size, "pixels") for size in (few, many))
    plots.image_rows(
        rows,
        f"The first ten digits of two networks, each above its nearest training digit. Suspects are nearer to one than "
        f"{100 - 100 * one.test.expected:.0f} % of unseen real digits are. Learned from {few} digits: "
        f"{_percent(one.suspects)} of what is drawn; learned from {many:,}: {_percent(other.suspects)}; of unseen real "
        f"digits {100 * other.test.expected:.0f} %. {RIGHTS}",
    )


def show_memory() -> None:
    """Share of suspects, and the statistic of the test, against the number of training digits."""
    fig, axes = plots.figure(columns=2, width=9.0, height=3.3)
    (left, right), places = axes[0], range(len(sizes()))
    for eyes, color, mark, dash in zip(NAMES, (BLUE, VERMILLION), "os", ("-", "--"), strict=True):
        found = [verdict(size, eyes) for size in sizes()]
        value, low, high = 100 * np.array([one.suspects for one in found]).T
        style = {"color": color, "marker": mark, "ms": 5, "linestyle": dash, "label": NAMES[eyes]}
        left.errorbar(places, value, (value - low.clip(max=value), high - value), capsize=3, **style)
        right.plot(places, [one.test.z for one in found], **style)
    left.axhline(5, color=INK, linestyle=":", label="unseen real digits")
    left.set(ylabel="suspects, %", ylim=(0, 102))
    right.axhspan(-2, 2, color=INK, alpha=0.2, lw=0)
    right.set(ylabel="z: below 0 is nearer")
    left.legend(fontsize=10.5)
    for axis in (left, right):
        axis.set_xticks(places, [f"{size:,}" for size in sizes()])
        axis.set_xlabel("digits learned from")
    some = sizes()[2]
    z = verdict(some, "pixels").test.z
    plots.show(
        fig,
        f"{len(drawn(some))} digits of each network. Suspects end between 256 and {some:,} training digits. Right: are "
        "samples nearer than unseen digits on the whole, in standard deviations? In the grey band chance may do it. "
        f"In pixels, {some:,} digits still leave a trace (z = {z:.1f}). Far above the band samples lie farther away "
        "than real digits do: no copies, but not quite real either.",
    )
