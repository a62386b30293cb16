"""What lesson 11 writes down as three functions, made losses for the `Trainer`, and the training that it watches.

A function (f, ...) -> (answer, aim) says what a student should have answered; f(x, t) is its clean sample from x at t.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from IPython import get_ipython
from IPython.display import display
from torch import Tensor

from lessons_src import students
from lessons_src.checks import check_choice, check_int, refuse
from lessons_src.distillation import check_student, segments, squared
from lessons_src.lessons.lesson_11 import ring
from lessons_src.lessons.lesson_11.explorer import off, starts
from lessons_src.lessons.lesson_11.ring import BATCH, ORACLE, SCHEDULE
from lessons_src.losses import Batch, Losses
from lessons_src.networks import NoisePredictor
from lessons_src.process import noise_like, rotate
from lessons_src.schedules import time_grid
from lessons_src.show.panels import Picture, Points
from lessons_src.show.widgets import Live
from lessons_src.students import Student, Teacher, clean, levels
from lessons_src.training import Recipe, Trainer

METHODS = ring.EXPLORED_METHODS
EVERY = 50  # gradient steps between two looks
DRAWN = 80  # points in each picture

Clean = Callable[[Tensor, Tensor], Tensor]
Ask = Callable[..., tuple[Tensor, Tensor]]


def answers(net: Teacher) -> Clean:
    """f(x, t): the clean sample that a network predicts from x (B, 2) at times t (B,)."""
    return lambda x, t: clean(net, x, t)


def step(f: Clean, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """DDIM's step from x at t to s (B,), towards f(x, t)."""
    return students.step(SCHEDULE, x, f(x, t), t, s)


class Taught:
    """A function of the notebook as a loss: its answer's squared distance to its aim.

    stride: how many of `times` lie between t and s. With None, batches are `Trajectories` and ask is
    ask(f, x, t, end); otherwise `Samples`, and ask is ask(f, teacher, x, t, s), with m between them for stride 2.
    """

    def __init__(self, ask: Ask, times: list[int], stride: int | None = None, teacher: Teacher = ORACLE) -> None:
        self.ask, self.times, self.stride, self.teacher = ask, times, stride, answers(teacher)

    def __call__(self, net: NoisePredictor, batch: Batch, generator: torch.Generator) -> Losses:
        """Ask about a batch."""
        f = answers(net)
        if self.stride is None:
            x, t, _, end, _ = batch
            return self.compared(x, self.ask(f, x, t, end))
        x0, _ = batch
        t, s = segments(self.times[:: self.stride], len(x0), generator)
        x = rotate(x0, noise_like(x0, generator), *levels(SCHEDULE, t, x0))[0]
        if self.stride == 1:
            return self.compared(x, self.ask(f, self.teacher, x, t, s))
        middle = dict(zip(self.times[::2], self.times[1::2], strict=False))
        m = torch.tensor([middle[time] for time in t.tolist()])
        return self.compared(x, self.ask(f, self.teacher, x, t, m, s))

    def compared(self, x: Tensor, found: Any) -> Losses:
        """The squared distance of an answer to its aim; refuses all but two tensors like x, the answer one of f."""
        name = f"what {self.ask.__name__} returns"
        parts = list(found) if isinstance(found, tuple | list) else [found]
        shown = [tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__ for part in parts]
        if shown != 2 * [tuple(x.shape)]:
            refuse(name, shown, f"an answer and an aim, two tensors of shape {tuple(x.shape)}")
        if not parts[0].requires_grad:
            refuse(name, "an answer without gradient", "first what f says, not detached: from it the student learns")
        return Losses(squared(*parts))

    def check(self, net: NoisePredictor, batches: Any) -> None:
        """Refuse what is not a student."""
        check_student(net)


def taught(ask: Ask, method: str, steps: int, seed: int = 0) -> Iterator[tuple[Student, int]]:
    """Train by one of METHODS; yield the student so far and the gradient steps done, after every EVERY of them.

    Network, data, recipe and stages are those of `ring.distil`.
    """
    net, T = ring.new_network(seed), SCHEDULE.T
    batches = ring.pairs(seed) if method == "pairs" else ring.points(seed)
    if method == "pairs":
        yield from watched(net, Taught(ask, [T, 0]), batches, Recipe(steps, BATCH, 2e-3, seed=seed), [T, 0])
    elif method == "progressive":
        teacher, recipe = ORACLE, Recipe(steps // 4, BATCH, 2e-3, seed=seed)
        for stage, n in enumerate((16, 8, 4, 2)):
            times = time_grid(SCHEDULE, n)
            for student, done in watched(net, Taught(ask, times, 2, teacher), batches, recipe, times[::2]):
                yield student, done + stage * recipe.steps
            net = teacher = NoisePredictor(student.body, SCHEDULE, "v")
    else:
        recipe = Recipe(steps // 2, BATCH, 1e-3, seed=seed)
        for stage, n in enumerate((8, 16)):
            for student, done in watched(net, Taught(ask, time_grid(SCHEDULE, n), 1), batches, recipe, [T, 0]):
                yield student, done + stage * recipe.steps
            net = NoisePredictor(student.body, SCHEDULE, "v")


def watched(
    net: NoisePredictor, loss: Taught, batches: Any, recipe: Recipe, times: list[int]
) -> Iterator[tuple[Student, int]]:
    """A copy of a network on its way through a training, as the student of `times`, and the steps done."""
    recipe = replace(recipe, warmup=min(30, recipe.steps), ema=0.99)
    trainer = Trainer(copy.deepcopy(net), loss, batches, recipe)
    for _ in trainer.run():
        if trainer.step_count % EVERY == 0:
            yield ring.as_student(trainer.ema, times), trainer.step_count


def asked(method: str, steps: int) -> int:
    """Calls of a teacher, one point each, that so many gradient steps of a method cost."""
    if check_choice("method", method, METHODS) == "pairs":
        return ring.PAIRS * ring.WALK  # all before the first step
    return steps * BATCH * {"progressive": 2, "consistency": 1}[method]


def teach(steps: int = ring.STEPS, **asks: Ask) -> dict[str, Student]:
    """Train a student by each of the functions, named as in METHODS, side by side, and show how they come on.

    steps is a multiple of 4 EVERY. In a terminal, nothing is shown.
    """
    if check_int("steps", steps, 4 * EVERY) % (4 * EVERY):
        refuse("steps", steps, f"a multiple of {4 * EVERY}")
    if not asks:
        refuse("asks", asks, f"a function at least, by the name of one of {METHODS}")
    for name, ask in asks.items():
        if not callable(ask):
            refuse(check_choice("method", name, METHODS), ask, "a function", TypeError)
        check_choice("method", name, METHODS)
    live, found = None, {}
    if get_ipython() is not None:
        live = Live(untaught_picture(asks))
        display(live)
    done = 0
    for now in zip(*(taught(ask, name, steps) for name, ask in asks.items()), strict=True):
        found = {name: student for name, (student, _) in zip(asks, now, strict=True)}
        done += EVERY
        if live is not None:
            live.update(taught_picture(found, done, steps))
    if live is not None:
        live.keep()
    return found


def untaught_picture(names: Iterable[str]) -> Picture:
    """The noises, before anything is learned."""
    panels = [_panel(f"{name}: not taught yet", starts()[0]) for name in names]
    return Picture(panels, f"First the teacher walks to the ends of {ring.PAIRS:,} pairs.")


def taught_picture(found: Mapping[str, Student], done: int, steps: int) -> Picture:
    """Where students end now, how far from their exact ends, and what that has cost."""
    ends = {name: ring.draw(student, starts()[0]) for name, student in found.items()}
    calls = {name: len(student.times) - 1 for name, student in found.items()}
    gaps = ", ".join(f"{name} {off(x)[0]:.3f}" for name, x in ends.items())
    costs = ", ".join(f"{name} {asked(name, done) / 1e6:.2f}" for name in found)
    return Picture(
        [_panel(f"{name}: {calls[name]} call{'s' * (calls[name] > 1)}", x) for name, x in ends.items()],
        f"After {done:,} of {steps:,} gradient steps each, the mean distance to the exact ends is {gaps}. Calls of the "
        f"teacher, in millions: {costs}. Colour and shape name the cluster of the exact end.",
    )


def _panel(title: str, x: Tensor) -> Points:
    """Some of the points x (EXPLORED, 2), in the colours of the explorer."""
    exact = starts()[1]
    own = torch.cdist(exact, ring.RING.means).argmin(1)[:DRAWN].numpy()
    return Points(title, x[None, :DRAWN].numpy(), exact.numpy(), 2.6, groups=own, target_name="data")
