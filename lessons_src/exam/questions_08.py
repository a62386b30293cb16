"""Questions on lesson 08: equations whose steps the samplers are."""

import math

import torch

from lessons_src.exam.items import Item, decimal, one, one_of
from lessons_src.exercises.tasks import WrongWay
from lessons_src.lessons.lesson_08.exercises import down_drift
from lessons_src.ode import solve
from lessons_src.sde import VP, divergence, gaussian_flow


def noise_rate(first, last, N, t):
    """beta(t) on [0, 1] of a chain of N steps."""
    return VP(N * first, N * last).beta(t)


def end_of_the_flow(x, mean, std, ab):
    """Where the probability-flow ODE takes a point, for data N(mean, std^2)."""
    return gaussian_flow(one(x), one(mean)[0], one(std**2), ab, 1.0).item()


def drift_with_a_dial(x, eps, ab, beta, lam):
    """f - (1 + lambda^2) / 2 g^2 s."""
    return down_drift(one(x), one(eps), ab, beta, lam).item()


def trace_from_signs(a, b, d, v):
    """Hutchinson's estimate for a symmetric 2 x 2 matrix."""
    J = torch.tensor([[a, b], [b, d]], dtype=torch.float64)
    return divergence(lambda x, t: x @ J, torch.zeros(1, 2).double(), 0.0, torch.tensor([v]).double())[1].item()


def step_of_a_velocity(x, v, t, s):
    """An Euler step of flow matching."""
    return next(solve(lambda x, t: torch.full_like(x, v), one(x), [t, s], "euler")).item()


ITEMS = (
    Item(
        noise_rate,
        "A chain of {N} steps has β growing evenly from {first} to {last}. Read it as a VP SDE on the time from 0 to "
        "1. What is β(t) at t = {t}?",
        lambda g: (
            one_of(g, 1e-4, 2e-4),
            one_of(g, 0.01, 0.02, 0.03),
            one_of(g, 500, 1000, 2000),
            decimal(g, 0.2, 0.9),
        ),
        (
            WrongWay(
                lambda first, last, N, t: first + (last - first) * t, "That is one step's β; a time of 1 holds N steps."
            ),
            WrongWay(lambda first, last, N, t: N * last * t, "It starts at N times the first β."),
            WrongWay(lambda first, last, N, t: N * (first * t + (last - first) * t**2 / 2), "That is its integral."),
        ),
        "differential equations",
    ),
    Item(
        end_of_the_flow,
        "The data are N({mean}, s²) with s = {std}. A noisy point is at x = {x}, where ᾱ = {ab}. Where does the exact "
        "probability-flow ODE take it?",
        lambda g: (decimal(g, -1.5, 1.5, 1), decimal(g, -2, 2, 1), decimal(g, 0.3, 0.8, 1), decimal(g, 0.1, 0.7)),
        (
            WrongWay(
                lambda x, mean, std, ab: (
                    mean + std**2 * math.sqrt(ab) / (ab * std**2 + 1 - ab) * (x - math.sqrt(ab) * mean)
                ),
                "That is the clean guess, one long DDIM step.",
            ),
            WrongWay(
                lambda x, mean, std, ab: x / math.sqrt(ab), "Noise is gone too: the point keeps its standard position."
            ),
            WrongWay(
                lambda x, mean, std, ab: mean + std * (x - math.sqrt(ab) * mean),
                "Divide by the spread of the noisy data before you multiply by that of the clean ones.",
            ),
        ),
        "differential equations",
        minutes=4,
    ),
    Item(
        drift_with_a_dial,
        "A VP SDE with β(t) = {beta}; ᾱ = {ab}, x = {x}, predicted noise ε̂ = {eps}. What is the drift, what stands "
        "before dt, of the way down with dial λ = {lam}?",
        lambda g: (
            decimal(g, -1.5, 1.5, 1),
            decimal(g, -1.5, 1.5, 1),
            decimal(g, 0.2, 0.8),
            decimal(g, 1, 9, 1),
            one_of(g, 0, 0.5, 1, 1.5),
        ),
        (
            WrongWay(
                lambda x, eps, ab, beta, lam: -beta / 2 * x + beta * eps / math.sqrt(1 - ab) * (1 if lam != 1 else 0.5),
                "The score has the weight (1 + λ²) / 2.",
            ),
            WrongWay(
                lambda x, eps, ab, beta, lam: -beta / 2 * x - (1 + lam**2) / 2 * beta * eps / math.sqrt(1 - ab),
                "The sign: the score is −ε̂ / √(1 − ᾱ).",
            ),
            WrongWay(
                lambda x, eps, ab, beta, lam: -beta / 2 * x + (1 + lam**2) / 2 * beta * eps,
                "The score is −ε̂ / √(1 − ᾱ): the root is missing.",
            ),
        ),
        "differential equations",
        minutes=4,
    ),
    Item(
        trace_from_signs,
        lambda a, b, d, v: (
            f"A matrix has the rows ({a}, {b}) and ({b}, {d}). What is Hutchinson's estimate of its trace with "
            f"v = ({v[0]}, {v[1]})?"
        ),
        lambda g: (*(decimal(g, -0.9, 0.9, 1) for _ in range(3)), one_of(g, (1, -1), (1, 1), (-1, 1))),
        (
            WrongWay(lambda a, b, d, v: a + d, "That is the trace itself: one vector's estimate is off by 2 b v₁ v₂."),
            WrongWay(lambda a, b, d, v: a + d - 2 * b * v[0] * v[1], "The sign of what is off the diagonal."),
            WrongWay(lambda a, b, d, v: a + d + b * v[0] * v[1], "There are two entries off the diagonal."),
        ),
        "differential equations",
    ),
    Item(
        step_of_a_velocity,
        "Flow matching, xₜ = (1 − t) x₀ + t ε. At t = {t} you are at x = {x}, and the predicted velocity is {v}. "
        "Where does one Euler step to t = {s} lead?",
        lambda g: (decimal(g, -1.5, 1.5, 1), decimal(g, -2, 2, 1), decimal(g, 0.5, 0.95), decimal(g, 0.05, 0.4)),
        (
            WrongWay(lambda x, v, t, s: x + (t - s) * v, "Down in time: the step s − t is negative."),
            WrongWay(lambda x, v, t, s: x - t * v, "That is the clean guess, a step to 0."),
            WrongWay(lambda x, v, t, s: x + s * v, "The step is s − t, not s."),
        ),
        "differential equations",
    ),
)
