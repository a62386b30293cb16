"""What a question of the exam is: a text with numbers in it, how they are drawn, and the function that has the answer.

    def two_doses(old, new):
        return math.hypot(old, new)

    Item(
        two_doses,
        "A picture holds noise of size {old}. A dose of size {new} comes in. What size have both together?",
        lambda g: (decimal(g, 0.2, 0.5), decimal(g, 0.2, 0.5)),
        (WrongWay(lambda old, new: old + new, "Sizes do not add up, their squares do."),),
        objective="schedules",
    )

The key is a function of the numbers, so it is computed anew for every learner, and never typed.
"""

import hashlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lessons_src.checks import check_choice, check_int, refuse
from lessons_src.exercises.inputs import uniform
from lessons_src.exercises.tasks import Case, Task, WrongWay, difference

OBJECTIVES = ("DDIM", "guidance", "differential equations", "schedules", "fast sampling")
CLEAR = 3  # tolerances, by which a wrong answer is farther from the key than a right one may be
TRIES = 1000


@dataclass(frozen=True)
class Item:
    """A question. `key(*numbers)` is its answer, and the key's name is that of the function that a learner writes.

    text is Markdown with the names of the key's arguments in braces, or a function of the numbers. draw(generator)
    returns the numbers, just as the text shows them. wrong are common wrong answers, called like the key: numbers for
    which one of them comes near the right one are drawn again. tolerance is relative to 1 + |key|. objective is one of
    OBJECTIVES, or empty.
    """

    key: Callable[..., Any]
    text: str | Callable[..., str]
    draw: Callable[[torch.Generator], tuple]
    wrong: tuple[WrongWay, ...]
    objective: str = ""
    minutes: int = 3
    tolerance: float = 1e-3

    def __post_init__(self) -> None:
        check_choice("objective", self.objective, ("", *OBJECTIVES))
        check_int("minutes", self.minutes, 1, 6)
        if not self.wrong:
            refuse("wrong", self.wrong, f"at least one common wrong answer to {self.name}")

    @property
    def name(self) -> str:
        """Of the function that a learner writes, and of the cell in which it is graded."""
        return self.key.__name__

    def numbers(self, seed: str, learner: str) -> tuple:
        """The numbers of a learner in the exam of that seed. Raises RuntimeError if wrong answers keep coming near."""
        generator = seeded(seed, learner, self.name)
        for _ in range(TRIES):
            numbers = self.draw(generator)
            if all(self._differs(wrong.function(*numbers), self.key(*numbers)) for wrong in self.wrong):
                return numbers
        raise RuntimeError(f"{self.name}: no numbers in {TRIES} draws that tell its wrong answers from the right one")

    def _differs(self, got: Any, want: Any) -> bool:
        return bool(difference(got, want, CLEAR * self.tolerance))

    def asked(self, numbers: tuple) -> str:
        """The text with these numbers."""
        if callable(self.text):
            return self.text(*numbers)
        return self.text.format(**dict(zip(inspect.signature(self.key).parameters, numbers, strict=True)))

    def task(self, numbers: tuple, label: str = "answer") -> Task:
        """The question as the grader knows it: a function of no arguments, worth a point."""
        key = partial(self.key, *numbers)
        key.__name__ = self.name
        wrong = tuple(WrongWay(partial(way.function, *numbers), way.says) for way in self.wrong)
        case = Case(label, lambda generator: (), tolerance=self.tolerance)
        return Task(key, (case,), wrong, (f"See {label}.",) * 3, self.minutes, difficulty=2)


def seeded(*words: str) -> torch.Generator:
    """A generator that depends on the words alone, on every machine."""
    digest = hashlib.blake2b("\n".join(words).encode(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest))


def decimal(generator: torch.Generator, low: float, high: float, digits: int = 2) -> float:
    """A number between low and high with that many digits after the point, and not 0."""
    found = 0.0
    while found == 0:
        found = round(uniform(generator, low, high), digits)
    return found


def one_of(generator: torch.Generator, *values: Any) -> Any:
    """One of the values."""
    return values[int(torch.randint(len(values), (), generator=generator))]


def levels(generator: torch.Generator) -> tuple[float, float]:
    """alpha_bar at t and at a cleaner s, two digits each."""
    ab_t = decimal(generator, 0.15, 0.5)
    return ab_t, decimal(generator, ab_t + 0.15, 0.92)


def one(value: float) -> Tensor:
    """A number as a batch of one point with one coordinate, (1, 1)."""
    return torch.tensor([[value]], dtype=torch.float64)
