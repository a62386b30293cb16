"""Exercises of lesson 01: the forward process, one step, one jump, and the way back."""

import math

import torch
from torch import Tensor

from lessons_src.exercises.inputs import falling, normal, pair, stream, times, uniform, whole
from lessons_src.exercises.tasks import Case, Mistake, Task, edits


def forward_step(x: Tensor, z: Tensor, beta: float) -> Tensor:
    """x_t = sqrt(1 - beta) x_{t-1} + sqrt(beta) z (Ho et al. 2020, equation 2)."""
    return math.sqrt(1 - beta) * x + math.sqrt(beta) * z


def add_noise(x0: Tensor, eps: Tensor, alpha_bar: float) -> Tensor:
    """The forward shortcut (Ho et al. 2020, equation 4)."""
    signal, noise = math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)
    return signal * x0 + noise * eps


def predict_x0(x_t: Tensor, eps: Tensor, alpha_bar: float) -> Tensor:
    """The shortcut solved for x0."""
    signal, noise = math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)
    return (x_t - noise * eps) / signal


def predict_eps(x_t: Tensor, x0: Tensor, alpha_bar: float) -> Tensor:
    """The shortcut solved for eps."""
    signal, noise = math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)
    return (x_t - signal * x0) / noise


def add_noise_at(x0: Tensor, eps: Tensor, t: Tensor, alpha_bar: Tensor) -> Tensor:
    """The shortcut with a time of its own for every sample."""
    level = alpha_bar[t].view(-1, *[1] * (x0.ndim - 1))
    signal, noise = level.sqrt(), (1 - level).sqrt()
    return signal * x0 + noise * eps


def forward_chain(x0: Tensor, beta: list[float], generator: torch.Generator) -> Tensor:
    """All steps of the chain, each with fresh noise."""
    x = x0
    for dose in beta:
        z = torch.randn(x.shape, generator=generator)
        x = forward_step(x, z, dose)
    return x


def _times_and_levels(generator: torch.Generator, *event: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    B, T = whole(generator, 4, 7), whole(generator, 20, 40)
    return *pair(generator, B, *event), times(generator, B, T), falling(generator, T)


def _doses(generator: torch.Generator, steps: int, *shape: int) -> tuple[Tensor, list[float], torch.Generator]:
    x0 = normal(generator, *shape, dtype=torch.float32)
    return x0, [uniform(generator, 0.02, 0.4) for _ in range(steps)], stream(generator)


POINTS_AND_PICTURES = (
    Case("a batch of points", lambda g: (*pair(g, 6, 2), uniform(g, 0.55, 0.9))),
    Case("a batch of pictures", lambda g: (*pair(g, 2, 1, 4, 4), uniform(g, 0.1, 0.45))),
)

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
        mistakes=edits("""
            math.sqrt(1 - beta) * x → x
                x is not shrunk. Multiply it by sqrt(1 - beta), or the variance grows with every step.
            math.sqrt(1 - beta) * x + math.sqrt(beta) * z → (1 - beta) * x + beta * z
                The square roots are missing. beta is a variance; what multiplies the noise is its root.
            math.sqrt(beta) → beta
                The noise is multiplied by beta. That is its variance: take the root, sqrt(beta).
            math.sqrt(1 - beta) → (1 - beta)
                x is multiplied by 1 - beta where sqrt(1 - beta) belongs.
            x + math.sqrt(beta) * z → z + math.sqrt(beta) * x
                This is sqrt(beta) where sqrt(1 - beta) belongs, and the other way round.
            math.sqrt(1 - beta) → (1 - math.sqrt(beta))
                x gets 1 - sqrt(beta). It is the *squares* of the two coefficients that add up to 1.
            math.sqrt(1 - beta) * x + math.sqrt(beta) * z → math.sqrt(1 - beta**2) * x + beta * z
                This takes beta for a standard deviation. It is the variance of the dose.
            + math.sqrt(beta) * z → + z
                The noise is added at full size. A dose of variance beta is sqrt(beta) z.
            + math.sqrt(beta) * z → - math.sqrt(beta) * z
                The noise is subtracted. Its law would be the same, but here z is added.
        """),
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
        cases=(*POINTS_AND_PICTURES, Case("almost pure noise", lambda g: (*pair(g, 5, 3), uniform(g, 0.005, 0.02)))),
        mistakes=edits("""
            signal, noise → noise, signal
                This is sqrt(1 - alpha_bar) where sqrt(alpha_bar) belongs: the coefficients have changed places.
            math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar) → alpha_bar, 1 - alpha_bar
                The square roots are missing. alpha_bar is a share of the variance, not of the amplitude.
            math.sqrt(1 - alpha_bar) → 1 - alpha_bar
                The noise is multiplied by its variance, 1 - alpha_bar. Take the root.
            math.sqrt(1 - alpha_bar) → 1 - math.sqrt(alpha_bar)
                The noise gets 1 - sqrt(alpha_bar). It is the *squares* of the two coefficients that add up to 1.
            signal * x0 → x0
                x0 is not shrunk. Multiply it by sqrt(alpha_bar); without that the picture never fades.
            math.sqrt(alpha_bar), → alpha_bar,
                x0 is multiplied by alpha_bar. That is its share of the variance: take the root.
            noise * eps → eps
                The noise is added at full size. Multiply eps by sqrt(1 - alpha_bar).
            + noise → - noise
                The noise is subtracted. Its law would be the same, but here eps is added.
        """),
        hints=(
            "It is the step of task 1 once more. "
            "Which number plays the part of 1 - beta when all steps are taken at once?",
            "alpha_bar is the share of the variance that is still signal, 1 - alpha_bar the share that is noise.",
            "`math.sqrt(alpha_bar) * x0 + ... * eps`, with the root of the other share.",
        ),
    ),
    Task(
        predict_x0,
        minutes=5,
        difficulty=1,
        cases=(*POINTS_AND_PICTURES, Case("high noise", lambda g: (*pair(g, 5, 3), uniform(g, 0.01, 0.05)))),
        mistakes=edits("""
             / signal →
                The noise is out, but what is left is sqrt(alpha_bar) x0. Divide by sqrt(alpha_bar).
            / signal → / alpha_bar
                You divided by alpha_bar. x0 was multiplied by its root, so divide by the root.
            noise *  →
                You took out eps itself. In x_t it stands with the factor sqrt(1 - alpha_bar).
            math.sqrt(1 - alpha_bar) → 1 - alpha_bar
                The noise in x_t has the factor sqrt(1 - alpha_bar); you took out 1 - alpha_bar, without the root.
            - noise → + noise
                The noise was added once more. It has to be taken out: a minus sign.
            signal, noise → noise, signal
                This is sqrt(1 - alpha_bar) where sqrt(alpha_bar) belongs, and the other way round.
            math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar) → alpha_bar, 1 - alpha_bar
                Both roots are missing: x_t is sqrt(alpha_bar) x0 plus sqrt(1 - alpha_bar) eps.
            (x_t - noise * eps) / signal → x_t - noise * eps / signal
                The brackets are missing: only the noise was divided. Take it out of x_t first, then divide what is
                left.
            (x_t - noise * eps) / signal → x_t / signal - noise * eps
                Only x_t was divided. Take the noise out of it first, then divide what is left: mind the brackets.
            / signal → * signal
                You multiplied by sqrt(alpha_bar). That is what the jump does; to undo it, divide.
            x_t - noise * eps → noise * eps - x_t
                The sign is turned round: the faded picture is x_t less its noise.
        """),
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
        cases=(*POINTS_AND_PICTURES, Case("low noise", lambda g: (*pair(g, 5, 3), uniform(g, 0.9, 0.97)))),
        mistakes=edits("""
             / noise →
                That is the noise as it stands in x_t, sqrt(1 - alpha_bar) eps. Divide by sqrt(1 - alpha_bar).
            / noise → / (1 - alpha_bar)
                You divided by the variance, 1 - alpha_bar. eps was multiplied by its root.
            signal *  →
                You took out x0 at full size. In x_t only sqrt(alpha_bar) x0 is left of it.
            / noise → / signal
                You divided by sqrt(alpha_bar), which belongs to x0. eps stands with sqrt(1 - alpha_bar).
            x_t - signal * x0 → signal * x0 - x_t
                The sign is turned round: noise is what x_t has and the faded picture has not.
            math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar) → alpha_bar, 1 - alpha_bar
                Both roots are missing: x_t is sqrt(alpha_bar) x0 plus sqrt(1 - alpha_bar) eps.
            (x_t - signal * x0) / noise → x_t - signal * x0 / noise
                The brackets are missing: only x0 was divided. Take it out of x_t first, then divide what is left.
            math.sqrt(alpha_bar), → alpha_bar,
                The x0 in x_t has the factor sqrt(alpha_bar); you took out alpha_bar x0, without the root.
            - signal → + signal
                x0 was added once more. It has to be taken out: a minus sign.
            signal, noise → noise, signal
                This is sqrt(1 - alpha_bar) where sqrt(alpha_bar) belongs, and the other way round.
            / noise → * noise
                You multiplied by sqrt(1 - alpha_bar). That is what the jump does; to undo it, divide.
        """),
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
        mistakes=edits("""
            alpha_bar[t] → alpha_bar[t - 1]
                Every level is one step too early: this is alpha_bar[t - 1]. Here t counts from 1, and alpha_bar[0] is
                1.
            *[1] * (x0.ndim - 1) → 1, 1, 1
                view(B, 1, 1, 1) is right for pictures only. Give the levels as many axes as x0 has.
            alpha_bar[t] → alpha_bar[t[0]]
                All samples got the level of the first one. Each has its own time: alpha_bar[t].
            signal, noise → noise, signal
                This is sqrt(1 - alpha_bar) where sqrt(alpha_bar) belongs: the coefficients have changed places.
            level.sqrt(), (1 - level).sqrt() → level, 1 - level
                The square roots are missing. alpha_bar is a share of the variance, not of the amplitude.
            .view(-1, *[1] * (x0.ndim - 1)) →
                The levels meet the wrong axis of x0. They belong to the first one: give them as many axes as x0 has,
                all others of length 1.
            (1 - level).sqrt() → 1 - level.sqrt()
                The noise gets 1 - sqrt(alpha_bar). It is the *squares* of the two coefficients that add up to 1.
            (1 - level).sqrt() → 1 - level
                The noise is multiplied by its variance, 1 - alpha_bar. Take the root.
        """),
        hints=(
            "Two problems in one: look up a level for every sample, and give the levels a shape that multiplies x0.",
            "`alpha_bar[t]` has shape (B,). "
            "Broadcasting begins at the *last* axis, so `x0.ndim - 1` axes of length 1 have to follow.",
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
            *edits("""
                randn → rand
                    The noise comes from torch.rand: uniform, between 0 and 1. Gaussian noise is torch.randn.
            """),
            Mistake(
                "for dose in beta:\n        z = torch.randn(x.shape, generator=generator)",
                "z = torch.randn(x.shape, generator=generator)\n    for dose in beta:",
                "One draw serves all steps. Each step needs fresh noise, drawn inside the loop.",
            ),
            *edits("""
                in beta → in [1 - math.prod(1 - dose for dose in beta)]
                    This is the jump, with a single draw. Its law is right; here we want to see the chain itself walk.
                in beta → in beta[:-1]
                    The last step is missing. A list of T doses means T steps.
                in beta → in beta[1:]
                    The first step is missing: beta[0] of this list is the dose of step 1.
                forward_step(x, z, dose) → x + math.sqrt(dose) * z
                    x is not shrunk by sqrt(1 - beta), so its variance grows.
                forward_step(x, z, dose) → forward_step(x0, z, dose)
                    Every step starts from x0 again. It starts from the x that the step before has made.
                forward_step(x, z, dose) → forward_step(z, x, dose)
                    x and z have changed places in the call: forward_step takes the state first.
                in beta → in reversed(beta)
                    The doses come in the wrong order: beta[0] of this list is that of step 1.
            """),
        ),
        hints=(
            "A loop over the doses. Which of the things in a step is new every time?",
            "Inside the loop: draw z of the shape of x with the given generator, then the line of task 1.",
            "`for dose in beta:` draw `z = torch.randn(x.shape, generator=generator)`, then "
            "`x = forward_step(x, z, dose)`.",
        ),
    ),
)
