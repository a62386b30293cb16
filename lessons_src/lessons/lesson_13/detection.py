"""How often each needle gives the alarm when a fault was planted: the detection matrix.

Fresh digits are split into two halves, again and again. Sets from one half say where the alarm is; faults are planted
in sets from the other, and it says how often the alarm is false. So the two share no digit.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lessons_src.checks import check_choice
from lessons_src.lessons.lesson_13.faults import FAULTS, fresh, in_all
from lessons_src.lessons.lesson_13.needles import BAD, Band, Bench, bands
from lessons_src.measurements import Row
from lessons_src.metrics import Interval, wilson_interval

N = 500  # samples in a set: eight for each feature, so that a covariance is more than noise; eight sets in a half
SPLITS, SETS = 20, 59  # of the fresh digits, and sets a split that say where the alarm is: the third of 60 is 5 %
REPEATS, WITHOUT = 10, 50  # sets a split with each fault, and without one
STRENGTHS = (0.1, 0.25, 0.5, 1.0)
NONE = "none"
SIDES = ("low", "high")


def widen(n: int, pool: int) -> float:
    """How much farther sets of n scatter from a pool of other digits than sets of n drawn from it do.

    A mean over n of `pool` digits has the variance s^2 / n (1 - n / pool) about the mean of the pool; that of n others
    is s^2 / n (1 + n / pool) away. Needles are no means, but nearly.
    """
    return math.sqrt((1 + n / pool) / (1 - n / pool))


class Half(NamedTuple):
    """One half of the fresh digits, rows (k,), what needles say of SETS sets of the other half, and its bands."""

    rows: Tensor
    null: list[dict[str, float]]
    bands: dict[str, Band]


class Detection:
    """Measures how often the needles of a judge give the alarm."""

    def __init__(self, judge: Any) -> None:
        self.bench = Bench(judge)
        self.seen = self.bench.look(fresh().x)
        self.halves = [self._half(number) for number in range(SPLITS)]

    def _half(self, number: int) -> Half:
        generator = torch.Generator().manual_seed(number)
        here, there = torch.randperm(len(fresh().x), generator=generator).chunk(2)
        null = [self._read(there[torch.randperm(len(there), generator=generator)[:N]], generator) for _ in range(SETS)]
        return Half(here, null, bands(null, widen=widen(N, len(there))))

    def _read(self, rows: Tensor, generator: torch.Generator) -> dict[str, float]:
        """What the needles say of fresh digits."""
        return self.bench.read(self.seen.take(rows), fresh().label[rows], generator)

    def bands(self) -> dict[str, Band]:
        """Of all halves together."""
        return bands([said for half in self.halves for said in half.null])

    def alarms(self, fault: str) -> Row:
        """In how many repetitions each needle gives the alarm, [on its low side, on its high side], by strength.

        "any": in how many some needle does, on its bad side.
        The digits of a repetition are the same for all faults, and those that have the fault at one strength have it at
        any greater one. With NONE nothing is wrong, and the alarm is false.
        """
        repeats = WITHOUT if fault == NONE else REPEATS
        counts: dict[float, Counter[tuple[str, str]]] = {}
        some: Counter[float] = Counter()
        for number, half in enumerate(self.halves):
            for repeat in range(repeats):
                for strength, said in self._planted(fault, half.rows, 1000 * (1 + number) + repeat):
                    given = [(name, side) for name in BAD for side in SIDES if half.bands[name].alarm(said[name], side)]
                    counts.setdefault(strength, Counter()).update(given)
                    some[strength] += any(BAD[name] == side for name, side in given)
        alarms = {str(s): {name: [count[name, side] for side in SIDES] for name in BAD} for s, count in counts.items()}
        found = {str(s): some[s] for s in counts}
        return {"n": N, "repetitions": SPLITS * repeats, "alarms": alarms, "any": found}

    def _planted(self, fault: str, pool: Tensor, seed: int) -> Iterator[tuple[float, dict[str, float]]]:
        """Each strength of a fault, and what the needles say of N fresh digits, of rows in a pool, that have it."""
        generator = torch.Generator().manual_seed(seed)
        order = pool[torch.randperm(len(pool), generator=generator)]
        rows, seen = order[:N], self.seen.take(order[:N])
        if fault == NONE:
            yield 0.0, self._read(rows, generator)
            return
        digits = fresh().take(rows)
        faulty = in_all(fault, digits, fresh().take(order[N:]), generator)
        changed = (faulty.samples.x != digits.x).flatten(1).any(1).nonzero()[:, 0]
        all_seen = seen.but(changed, self.bench.look(faulty.samples.x[changed])) if len(changed) else seen
        for strength in STRENGTHS:
            reached = faulty.reached(strength)
            label = digits.label.clone()
            label[reached] = faulty.samples.label[reached]
            yield strength, self.bench.read(seen.but(reached, all_seen.take(reached)), label, generator)


def power(rows: Sequence[Row], fault: str, strength: float, needle: str, side: str = "") -> Interval:
    """How often a needle gives the alarm, with its 95 % interval: on its bad side, or on `side`.

    rows are those of the measurement "detection". With NONE, at strength 0, it is the rate of false alarms.
    """
    (row,) = (row for row in rows if row["fault"] == check_choice("fault", fault, (NONE, *FAULTS)))
    check_choice("strength", str(float(strength)), row["alarms"])
    side = check_choice("side", side or BAD[check_choice("needle", needle, BAD)], SIDES)
    return wilson_interval(row["alarms"][str(float(strength))][needle][SIDES.index(side)], row["repetitions"])
