"""Faults planted in sets of real digits, so that it is known what is wrong with them.

The set plays the samples of a generator that has learned the digits of `learned`. Without a fault they are as good as
samples can be: real digits, of the same writers, that the generator has never seen.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lessons_src import data
from lessons_src.checks import check_choice, check_int, check_real, refuse

EVERY = 5  # of the training digits, one is learned: 2,000, as many as there are in the reference
BLUR = 0.7  # standard deviation in pixels
NOISE = 0.3  # standard deviation of a pixel, black -1, white 1
JUNK = data.ASSETS / "data" / "junk_1k.npz"
GREYS = 16  # of junk


class Digits(NamedTuple):
    """Pictures x (n, 1, 28, 28) in [-1, 1], and for each the label (n,) that was asked for."""

    x: Tensor
    label: Tensor

    def take(self, rows: Tensor) -> "Digits":
        """Those of some rows."""
        return Digits(self.x[rows], self.label[rows])


@cache
def learned() -> Digits:
    """The digits that the generator has learned, spread over all: the first 2,000 are of writers of their own."""
    return Digits(*(part[::EVERY] for part in data.digits("train")))


@cache
def fresh() -> Digits:
    """The other training digits, which it has never seen."""
    return Digits(*(part[torch.arange(len(part)) % EVERY > 0] for part in data.digits("train")))


@cache
def junk(path: Path = JUNK) -> Tensor:
    """Pictures (1000, 1, 28, 28) in [-1, 1] that are no digits; `make.junk` made them for the shipped judge.

    Their features have mean and covariance of those of the test digits. Raises ValueError for a damaged file.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            grey = archive["junk"]
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"path is {str(path)!r}; expected an .npz file with an array junk: {error}") from error
    return as_pictures(torch.from_numpy(grey))


def as_pictures(grey: Tensor) -> Tensor:
    """Whole numbers below GREYS (n, 14, 14) as pictures (n, 1, 28, 28) in [-1, 1], each a square of four pixels."""
    return F.interpolate(2 * grey[:, None].float() / (GREYS - 1) - 1, scale_factor=2)


# --- Each of them, in every sample: (x, label) of the digits, and which of them can have it


class Faulty(NamedTuple):
    """Samples that all have a fault, and in which order it reaches them: rows (k,) of those that can have it."""

    samples: Digits
    order: Tensor

    def reached(self, strength: float) -> Tensor:
        """Rows of those that have it at a strength from 0 to 1, the share that has it: at a greater one, more."""
        return self.order[: round(check_real("strength", strength, 0, 1) * len(self.order))]


def _copied(digits: Digits, spare: Digits, generator: torch.Generator) -> Digits:
    """Each becomes a digit of its class that was learned, none of them twice."""
    known, x = learned(), digits.x.clone()
    for c in digits.label.unique():
        own, wanted = (known.label == c).nonzero()[:, 0], digits.label == c
        x[wanted] = known.x[own[torch.randperm(len(own), generator=generator)[: int(wanted.sum())]]]
    return Digits(x, digits.label)


def _dropped(digits: Digits, spare: Digits, generator: torch.Generator) -> Digits:
    """Each becomes a spare digit of another class, and that is what is asked for: nobody asks for the class."""
    (c,) = digits.label.unique().tolist()
    others = (spare.label != c).nonzero()[:, 0]
    return spare.take(others[torch.randperm(len(others), generator=generator)[: len(digits.x)]])


def _blurred(digits: Digits, spare: Digits, generator: torch.Generator) -> Digits:
    """A Gaussian blur of BLUR pixels; outside is black."""
    weight = torch.exp(-torch.arange(-4.0, 5.0).square() / (2 * BLUR**2))
    weight = weight / weight.sum()
    down = F.conv2d(digits.x + 1, weight.view(1, 1, 9, 1), padding=(4, 0))
    return Digits(F.conv2d(down, weight.view(1, 1, 1, 9), padding=(0, 4)) - 1, digits.label)


def _noisy(digits: Digits, spare: Digits, generator: torch.Generator) -> Digits:
    """Noise in every pixel, cut to -1..1."""
    noise = torch.randn(digits.x.shape, generator=generator)
    return Digits((digits.x + NOISE * noise).clamp(-1, 1), digits.label)


def _mislabelled(digits: Digits, spare: Digits, generator: torch.Generator) -> Digits:
    """Another digit than this was asked for."""
    return Digits(digits.x, (digits.label + torch.randint(1, 10, digits.label.shape, generator=generator)) % 10)


def _repeated(digits: Digits, spare: Digits, generator: torch.Generator) -> Digits:
    """Each becomes the one digit of its class that the generator can draw, moved by up to a pixel down and across."""
    x = digits.x.clone()
    for c in digits.label.unique():
        own = (digits.label == c).nonzero()[:, 0]
        x[own] = digits.x[own[torch.randint(len(own), (1,), generator=generator)]]
    moves = torch.randint(-1, 2, (len(x), 2), generator=generator).tolist()
    moved = [picture.roll(move, (1, 2)) for picture, move in zip(x, moves, strict=True)]
    return Digits(torch.stack(moved), digits.label)


def _junked(digits: Digits, spare: Digits, generator: torch.Generator) -> Digits:
    """Each becomes a picture of `junk`, none of them twice."""
    return Digits(junk()[torch.randperm(len(junk()), generator=generator)[: len(digits.x)]], digits.label)


FAULTS: dict[str, Callable[[Digits, Digits, torch.Generator], Digits]] = {
    "memorised copies": _copied,
    "a class dropped": _dropped,
    "blur": _blurred,
    "noise": _noisy,
    "wrong labels": _mislabelled,
    "low variety": _repeated,
    "matched junk": _junked,
}


def in_all(fault: str, digits: Digits, spare: Digits, generator: torch.Generator) -> Faulty:
    """Plant one of FAULTS in every one of the digits that can have it: in one class if a class is dropped, or in all.

    spare: more fresh digits, of which a dropped class is replaced. Raises ValueError if they do not suffice, and for
    an unknown fault.
    """
    check_choice("fault", fault, FAULTS)
    order = torch.randperm(len(digits.x), generator=generator)
    if fault == "a class dropped":
        c = digits.label[order[0]]
        order = order[digits.label[order] == c]
        if (spare.label != c).sum() < len(order):
            refuse("spare", spare.x, f"at least {len(order)} digits of other classes than {c}")
    found = FAULTS[fault](digits.take(order), spare, generator)
    x, label = digits.x.clone(), digits.label.clone()
    x[order], label[order] = found
    return Faulty(Digits(x, label), order)


def plant(fault: str, strength: float, n: int, generator: torch.Generator) -> Digits:
    """n samples, fresh digits but for the share `strength` of them that has one of FAULTS.

    Where a class is dropped, that share of the class is missing. Raises ValueError for an unknown fault, a strength
    outside 0..1, or n above half of the fresh digits.
    """
    check_int("n", n, 1, len(fresh().x) // 2)
    order = torch.randperm(len(fresh().x), generator=generator)
    digits, spare = fresh().take(order[:n]), fresh().take(order[n:])
    faulty = in_all(fault, digits, spare, generator)
    rows = faulty.reached(strength)
    x, label = digits.x.clone(), digits.label.clone()
    x[rows], label[rows] = faulty.samples.take(rows)
    return Digits(x, label)
