"""Exercises of lesson 01: the forward process, one step, one jump, and the way back."""

import math

import torch
from torch import Tensor

from lessons_src.exercises.inputs import falling, normal, pair, stream, times, uniform, whole
from lessons_src.exercises.tasks import Case, Task, WrongWay


def forward_step(x: Tensor, z: Tensor, beta: float) -> Tensor:
    """x_t = sqrt(1 - beta) x_{t-1} + sqrt(beta) z (Ho et al. 2020, equation 2)."""
    return math.sqrt(1 - beta) * x + math.sqrt(beta) * z


def add_noise(x0: Tensor, eps: Tensor, alpha_bar: float) -> Tensor:
    """The forward shortcut (Ho et al. 2020, equation 4)."""
    return math.sqrt(alpha_bar) * x0 + math.sqrt(1 - alpha_bar) * eps


def predict_x0(x_t: Tensor, eps: Tensor, alpha_bar: float) -> Tensor:
    """The shortcut solved for x0."""
    return (x_t - math.sqrt(1 - alpha_bar) * eps) / math.sqrt(alpha_bar)


def predict_eps(x_t: Tensor, x0: Tensor, alpha_bar: float) -> Tensor:
    """The shortcut solved for eps."""
    return (x_t - math.sqrt(alpha_bar) * x0) / math.sqrt(1 - alpha_bar)


def add_noise_at(x0: Tensor, eps: Tensor, t: Tensor, alpha_bar: Tensor) -> Tensor:
    """The shortcut with a time of its own for every sample."""
    level = alpha_bar[t].view(-1, *[1] * (x0.ndim - 1))
    return level.sqrt() * x0 + (1 - level).sqrt() * eps


def forward_chain(x0: Tensor, beta: list[float], generator: torch.Generator) -> Tensor:
    """All steps of the chain, each with fresh noise."""
    x = x0
    for dose in beta:
        x = forward_step(x, torch.randn(x.shape, generator=generator), dose)
    return x


def _at(index=lambda t: t, shape=lambda x0: (-1, *[1] * (x0.ndim - 1)), root=torch.sqrt):
    """add_noise_at with another index into alpha_bar, another shape of the levels, or no root."""

    def add(x0, eps, t, alpha_bar):
        level = alpha_bar[index(t)].view(shape(x0))
        return root(level) * x0 + root(1 - level) * eps

    return add


def _chain(draw=torch.randn, steps=slice(None), step=forward_step):
    """forward_chain with other noise, fewer steps, or another step."""

    def chain(x0, beta, generator):
        x = x0
        for dose in beta[steps]:
            x = step(x, draw(x.shape, generator=generator), dose)
        return x

    return chain


def _one_draw(x0, beta, generator):
    z = torch.randn(x0.shape, generator=generator)
    return _chain(draw=lambda shape, generator: z)(x0, beta, generator)


def _jump(x0, beta, generator):
    eps = torch.randn(x0.shape, generator=generator)
    return add_noise(x0, eps, math.prod(1 - dose for dose in beta))


def _times_and_levels(generator: torch.Generator, *event: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    B, T = whole(generator, 4, 7), whole(generator, 20, 40)
    return *pair(generator, B, *event), times(generator, B, T), falling(generator, T)


def _doses(generator: torch.Generator, steps: int, *shape: int) -> tuple[Tensor, list[float], torch.Generator]:
    x0 = normal(generator, *shape, dtype=torch.float32)
    return x0, [uniform(generator, 0.02, 0.4) for _ in range(steps)], stream(generator)


TASKS = (
    Task(
        forward_step,
        minutes=4,
        difficulty=1,
        cases=(
            Case("a batch of points", lambda g: (*pair(g, 6, 2), uniform(g, 0.05, 0.45))),
            Case("a batch of pictures", lambda g: (*pair(g, 2, 1, 4, 4), uniform(g, 0.05, 0.45))),
            Case("a small dose", lambda g: (*pair(g, 5, 3), uniform(g, 0.005, 0.02))),
        ),
        mistakes=(
            WrongWay(
                lambda x, z, beta: x + math.sqrt(beta) * z,
                "x is not shrunk. Multiply it by sqrt(1 - beta), or the variance grows with every step.",
            ),
            WrongWay(
                lambda x, z, beta: (1 - beta) * x + beta * z,
                "The square roots are missing. beta is a variance; what multiplies the noise is its root.",
            ),
            WrongWay(
                lambda x, z, beta: math.sqrt(1 - beta) * x + beta * z,
                "The noise is multiplied by beta. That is its variance: take the root, sqrt(beta).",
            ),
            WrongWay(
                lambda x, z, beta: (1 - beta) * x + math.sqrt(beta) * z,
                "x is multiplied by 1 - beta where sqrt(1 - beta) belongs.",
            ),
            WrongWay(
                lambda x, z, beta: math.sqrt(beta) * x + math.sqrt(1 - beta) * z,
                "This is sqrt(beta) where sqrt(1 - beta) belongs, and the other way round.",
            ),
        ),
        hints=(
            "Think in variances. x has variance 1: what share of it must go to make room for a dose of variance beta?",
            "The shares are 1 - beta and beta. A tensor multiplied by a has a² times the variance.",
            "`math.sqrt(1 - beta) * x` is the first half. The noise gets the other root.",
        ),
    ),
    Task(
        add_noise,
        minutes=4,
        difficulty=1,
        cases=(
            Case("a batch of points", lambda g: (*pair(g, 6, 2), uniform(g, 0.55, 0.9))),
            Case("a batch of pictures", lambda g: (*pair(g, 2, 1, 4, 4), uniform(g, 0.1, 0.45))),
            Case("almost pure noise", lambda g: (*pair(g, 5, 3), uniform(g, 0.005, 0.02))),
        ),
        mistakes=(
            WrongWay(
                lambda x0, eps, ab: math.sqrt(1 - ab) * x0 + math.sqrt(ab) * eps,
                "This is sqrt(1 - alpha_bar) where sqrt(alpha_bar) belongs: the coefficients have changed places.",
            ),
            WrongWay(
                lambda x0, eps, ab: ab * x0 + (1 - ab) * eps,
                "The square roots are missing. alpha_bar is a share of the variance, not of the amplitude.",
            ),
            WrongWay(
                lambda x0, eps, ab: math.sqrt(ab) * x0 + (1 - ab) * eps,
                "The noise is multiplied by its variance, 1 - alpha_bar. Take the root.",
            ),
            WrongWay(
                lambda x0, eps, ab: math.sqrt(ab) * x0 + (1 - math.sqrt(ab)) * eps,
                "The noise gets 1 - sqrt(alpha_bar). It is the *squares* of the two coefficients that add up to 1.",
            ),
            WrongWay(
                lambda x0, eps, ab: x0 + math.sqrt(1 - ab) * eps,
                "x0 is not shrunk. Multiply it by sqrt(alpha_bar); without that the picture never fades.",
            ),
        ),
        hints=(
            "It is the step of task 1 once more. Which number plays the part of 1 - beta when all steps are taken at "
            "once?",
            "alpha_bar is the share of the variance that is still signal, 1 - alpha_bar the share that is noise.",
            "`math.sqrt(alpha_bar) * x0 + ... * eps`, with the root of the other share.",
        ),
    ),
    Task(
        predict_x0,
        minutes=5,
        difficulty=1,
        cases=(
            Case("a batch of points", lambda g: (*pair(g, 6, 2), uniform(g, 0.55, 0.9))),
            Case("a batch of pictures", lambda g: (*pair(g, 2, 1, 4, 4), uniform(g, 0.1, 0.45))),
            Case("high noise", lambda g: (*pair(g, 5, 3), uniform(g, 0.01, 0.05))),
        ),
        mistakes=(
            WrongWay(
                lambda x_t, eps, ab: x_t - math.sqrt(1 - ab) * eps,
                "The noise is out, but what is left is sqrt(alpha_bar) x0. Divide by sqrt(alpha_bar).",
            ),
            WrongWay(
                lambda x_t, eps, ab: (x_t - math.sqrt(1 - ab) * eps) / ab,
                "You divided by alpha_bar. x0 was multiplied by its root, so divide by the root.",
            ),
            WrongWay(
                lambda x_t, eps, ab: (x_t - eps) / math.sqrt(ab),
                "You took out eps itself. In x_t it stands with the factor sqrt(1 - alpha_bar).",
            ),
            WrongWay(
                lambda x_t, eps, ab: (x_t - (1 - ab) * eps) / math.sqrt(ab),
                "The noise in x_t has the factor sqrt(1 - alpha_bar); you took out 1 - alpha_bar, without the root.",
            ),
            WrongWay(
                lambda x_t, eps, ab: (x_t + math.sqrt(1 - ab) * eps) / math.sqrt(ab),
                "The noise was added once more. It has to be taken out: a minus sign.",
            ),
            WrongWay(
                lambda x_t, eps, ab: (x_t - math.sqrt(ab) * eps) / math.sqrt(1 - ab),
                "This is sqrt(1 - alpha_bar) where sqrt(alpha_bar) belongs, and the other way round.",
            ),
        ),
        hints=(
            "Write the shortcut on paper and treat x0 as the unknown. It is one linear equation.",
            "First take the noise out of x_t, with the factor that it has in there. Then undo what multiplies x0.",
            "`(x_t - math.sqrt(1 - alpha_bar) * eps)` is the numerator.",
        ),
    ),
    Task(
        predict_eps,
        minutes=3,
        difficulty=1,
        cases=(
            Case("a batch of points", lambda g: (*pair(g, 6, 2), uniform(g, 0.55, 0.9))),
            Case("a batch of pictures", lambda g: (*pair(g, 2, 1, 4, 4), uniform(g, 0.1, 0.45))),
            Case("low noise", lambda g: (*pair(g, 5, 3), uniform(g, 0.9, 0.97))),
        ),
        mistakes=(
            WrongWay(
                lambda x_t, x0, ab: x_t - math.sqrt(ab) * x0,
                "That is the noise as it stands in x_t, sqrt(1 - alpha_bar) eps. Divide by sqrt(1 - alpha_bar).",
            ),
            WrongWay(
                lambda x_t, x0, ab: (x_t - math.sqrt(ab) * x0) / (1 - ab),
                "You divided by the variance, 1 - alpha_bar. eps was multiplied by its root.",
            ),
            WrongWay(
                lambda x_t, x0, ab: (x_t - x0) / math.sqrt(1 - ab),
                "You took out x0 at full size. In x_t only sqrt(alpha_bar) x0 is left of it.",
            ),
            WrongWay(
                lambda x_t, x0, ab: (x_t - math.sqrt(ab) * x0) / math.sqrt(ab),
                "You divided by sqrt(alpha_bar), which belongs to x0. eps stands with sqrt(1 - alpha_bar).",
            ),
            WrongWay(
                lambda x_t, x0, ab: (math.sqrt(ab) * x0 - x_t) / math.sqrt(1 - ab),
                "The sign is turned round: noise is what x_t has and the faded picture has not.",
            ),
        ),
        hints=(
            "The same equation as in task 3, another unknown.",
            "Take the faded picture out of x_t. What is left is eps times something.",
            "`(x_t - math.sqrt(alpha_bar) * x0)`, divided by what multiplies eps in the shortcut.",
        ),
    ),
    Task(
        add_noise_at,
        minutes=7,
        difficulty=2,
        cases=(
            Case("points, (B, 2)", lambda g: _times_and_levels(g, 2)),
            Case("pictures, (B, 1, 3, 3)", lambda g: _times_and_levels(g, 1, 3, 3)),
            Case("sequences, (B, 3, 2)", lambda g: _times_and_levels(g, 3, 2)),
        ),
        mistakes=(
            WrongWay(
                _at(index=lambda t: t - 1),
                "Every level is one step too early: this is alpha_bar[t - 1]. Here t counts from 1, and alpha_bar[0] "
                "is 1.",
            ),
            WrongWay(
                _at(shape=lambda x0: (-1, 1, 1, 1)),
                "view(B, 1, 1, 1) is right for pictures only. Give the levels as many axes as x0 has.",
            ),
            WrongWay(
                _at(index=lambda t: t[:1].expand(len(t))),
                "All samples got the level of the first one. Each has its own time: alpha_bar[t].",
            ),
            WrongWay(
                lambda x0, eps, t, alpha_bar: add_noise_at(eps, x0, t, alpha_bar),
                "This is sqrt(1 - alpha_bar) where sqrt(alpha_bar) belongs: the coefficients have changed places.",
            ),
            WrongWay(
                _at(root=lambda share: share),
                "The square roots are missing. alpha_bar is a share of the variance, not of the amplitude.",
            ),
        ),
        hints=(
            "Two problems in one: look up a level for every sample, and give the levels a shape that multiplies x0.",
            "`alpha_bar[t]` has shape (B,). Broadcasting begins at the *last* axis, so `x0.ndim - 1` axes of length 1 "
            "have to follow.",
            "`level = alpha_bar[t].view(-1, *[1] * (x0.ndim - 1))`, then the shortcut with `level`.",
        ),
    ),
    Task(
        forward_chain,
        minutes=7,
        difficulty=2,
        cases=(
            Case("two steps", lambda g: _doses(g, 2, 5, 2)),
            Case("many steps", lambda g: _doses(g, 12, 5, 2)),
            Case("pictures", lambda g: _doses(g, 5, 2, 1, 4, 4)),
        ),
        mistakes=(
            WrongWay(
                _chain(draw=torch.rand),
                "The noise comes from torch.rand: uniform, between 0 and 1. Gaussian noise is torch.randn.",
            ),
            WrongWay(_one_draw, "One draw serves all steps. Each step needs fresh noise, drawn inside the loop."),
            WrongWay(
                _jump,
                "This is the jump, with a single draw. Its law is right; here we want to see the chain itself walk.",
            ),
            WrongWay(
                _chain(steps=slice(None, -1)),
                "The last step is missing. A list of T doses means T steps.",
            ),
            WrongWay(
                _chain(steps=slice(1, None)),
                "The first step is missing: beta[0] of this list is the dose of step 1.",
            ),
            WrongWay(
                _chain(step=lambda x, z, beta: x + math.sqrt(beta) * z),
                "x is not shrunk by sqrt(1 - beta), so its variance grows.",
            ),
        ),
        hints=(
            "A loop over the doses. Which of the things in a step is new every time?",
            "Inside the loop: draw z of the shape of x with the given generator, then the line of task 1.",
            "`for dose in beta:` draw `z = torch.randn(x.shape, generator=generator)`, then "
            "`x = forward_step(x, z, dose)`.",
        ),
    ),
)
