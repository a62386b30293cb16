"""To play with in lesson 13: plant a fault in real digits, and watch which needles move."""

from functools import cache

import numpy as np
import torch
from torch import Tensor

from lessons_src import measurements, weights
from lessons_src.lessons.lesson_13.detection import NONE, N
from lessons_src.lessons.lesson_13.faults import FAULTS, Digits, Faulty, fresh, in_all
from lessons_src.lessons.lesson_13.needles import BAD, Band, Bench, Seen
from lessons_src.show.panels import Images, Needles, Picture, grey
from lessons_src.show.widgets import Choice, Explorer, Slider

EACH = 2  # of a class are shown
SEED = 3  # of the digits: without a fault, all needles lie in their bands
TEST_SEED = 1  # of the two-sample test; with SEED it would learn from just those that have the fault


@cache
def bench() -> Bench:
    """The shipped judge beside the test digits."""
    return Bench(weights.load("judge")[0])


@cache
def real_bands() -> dict[str, Band]:
    """Where the needles stand for N real digits, as stored."""
    (row,) = (row for row in measurements.load("detection") if row["fault"] == NONE)
    return {name: Band(*row["bands"][name]) for name in BAD}


@cache
def _digits() -> tuple[Digits, Digits, Seen]:
    """N fresh digits, others to spare, and what is seen in the first."""
    order = torch.randperm(len(fresh().x), generator=torch.Generator().manual_seed(SEED))
    digits = fresh().take(order[:N])
    return digits, fresh().take(order[N : 2 * N]), bench().look(digits.x)


@cache
def _with(fault: str) -> tuple[Faulty, Seen]:
    """The digits when all of them have a fault, and what is seen in them."""
    digits, spare, _ = _digits()
    faulty = in_all(fault, digits, spare, torch.Generator().manual_seed(SEED))
    return faulty, bench().look(faulty.samples.x)


def planted(fault: str, strength: float) -> tuple[Digits, Tensor, dict[str, float]]:
    """N digits with a fault, the rows that have it, and what the needles say of them."""
    (digits, _, seen), (faulty, all_seen) = _digits(), _with(fault)
    rows = faulty.reached(strength)
    x, label = digits.x.index_copy(0, rows, faulty.samples.x[rows]), digits.label.clone()
    label[rows] = faulty.samples.label[rows]
    said = bench().read(seen.but(rows, all_seen.take(rows)), label, torch.Generator().manual_seed(TEST_SEED))
    return Digits(x, label), rows, said


def _worse_to_the_right(name: str, value: float) -> tuple[float, float, float]:
    """A needle's value and the ends of its band, in standard deviations from real digits' mean: above 0 is worse."""
    band = real_bands()[name]
    found = [band.turned(x) for x in (value, band.low, band.high)]
    return tuple(found) if BAD[name] == "high" else (-found[0], -found[2], -found[1])


def faults_picture(fault: str, percent: int) -> Picture:
    """The needles, in standard deviations of real digits, beside what a person sees, for a share that has a fault."""
    samples, rows, said = planted(fault, percent / 100)
    turned = Needles(
        f"What {len(BAD)} needles say of {N} samples",
        list(BAD),
        *np.array([_worse_to_the_right(name, said[name]) for name in BAD]).T,
        "standard deviations of real digits; worse is to the right",
    )
    mine = _digits()[0].label
    shown = torch.cat([(mine == c).nonzero()[:EACH, 0] for c in range(10)])
    shown = shown[samples.label[shown].argsort(stable=True)]
    alarms, flattered = (
        [name for name, state in zip(BAD, turned.states(), strict=True) if state == wanted] for wanted in (1, 2)
    )
    told = f"Alarm: {', '.join(alarms)}. " if alarms else "No needle gives the alarm. "
    if flattered:
        told += f"Better than real digits, so they say: {', '.join(flattered)}. "
    return Picture(
        [
            turned,
            Images(
                "What you see, and what was asked for",
                grey(samples.x[shown, 0])[None],
                [str(c) for c in samples.label[shown].tolist()],
            ),
        ],
        f"{_reached(fault, len(rows))} {told}Of ten sets of real digits, nine lie in "
        f"a grey band. Beyond the tick at its end is the alarm. {len(shown)} samples are shown.",
    )


def _reached(fault: str, count: int) -> str:
    """How many samples have the fault, in words."""
    if fault == "a class dropped":
        return f"{count} of {N} samples were of one class, and others took their place."
    return f"{count} of {N} samples have the fault: {fault}."


def explore_faults() -> Explorer:
    """Choose a fault and the share of the samples that has it."""
    return Explorer(
        faults_picture,
        [
            Choice("fault", "Fault", list(FAULTS), "blur"),
            Slider("percent", "Share that has it, %", 0, 100, 5, 20),
        ],
    )
