"""Questions on lesson 05: DDIM's two lines, its dial, its grid, its error."""

import math

from lessons_src.exam.items import Item, decimal, levels, one, one_of
from lessons_src.exercises.inputs import whole
from lessons_src.exercises.tasks import WrongWay
from lessons_src.process import posterior_variance, predict_x0
from lessons_src.samplers import renoise
from lessons_src.schedules import linear, time_grid


def ddim_by_hand(x, eps, ab_t, ab_s):
    """One DDIM step."""
    return renoise(predict_x0(one(x), one(eps), ab_t), one(eps), ab_s).item()


def size_of_fresh_noise(ab_t, ab_s, eta):
    """Standard deviation of the noise that a step with eta draws."""
    return eta * math.sqrt(posterior_variance(ab_t, ab_s))


def steps_for_an_error(steps, error, wanted):
    """Twice the steps, half the error."""
    while error > 1.001 * wanted:
        steps, error = 2 * steps, error / 2
    return steps


def official_grid(steps):
    """Network evaluations of the grid of DDIM's code."""
    return len(time_grid(linear(), steps, "ddim_uniform")) - 1


def what_two_times_share(ab_t, ab_s):
    """Covariance of x_s and x_t, given x0, if one noise serves both."""
    return (renoise(one(0.0), one(1.0), ab_t) * renoise(one(0.0), one(1.0), ab_s)).item()


ITEMS = (
    Item(
        ddim_by_hand,
        "A DDIM step goes from ᾱₜ = {ab_t} to ᾱₛ = {ab_s}. The state is xₜ = {x}, the predicted noise ε̂ = {eps}. "
        "What is xₛ?",
        lambda g: (decimal(g, -1.5, 1.5), decimal(g, -1.5, 1.5), *levels(g)),
        (
            WrongWay(
                lambda x, eps, ab_t, ab_s: predict_x0(one(x), one(eps), ab_t).item(),
                "That is x̂₀, the first line. Re-noise it to s.",
            ),
            WrongWay(
                lambda x, eps, ab_t, ab_s: math.sqrt(ab_s) * predict_x0(one(x), one(eps), ab_t).item(),
                "The second line lacks its noise, √(1 − ᾱₛ) ε̂.",
            ),
            WrongWay(
                lambda x, eps, ab_t, ab_s: (
                    math.sqrt(ab_s) * predict_x0(one(x), one(eps), ab_t).item() + math.sqrt(1 - ab_t) * eps
                ),
                "You re-noised with the level of t.",
            ),
            WrongWay(
                lambda x, eps, ab_t, ab_s: ab_s * (x - (1 - ab_t) * eps) / ab_t + (1 - ab_s) * eps,
                "The roots are missing.",
            ),
        ),
        "DDIM",
        minutes=4,
    ),
    Item(
        size_of_fresh_noise,
        "DDIM with the dial at η = {eta} steps from ᾱₜ = {ab_t} to ᾱₛ = {ab_s}. What is the standard deviation σ of "
        "the fresh noise? (σ = η √β̃.)",
        lambda g: (*levels(g), one_of(g, 0.2, 0.3, 0.5, 0.7, 0.8)),
        (
            WrongWay(lambda ab_t, ab_s, eta: eta * posterior_variance(ab_t, ab_s), "β̃ is a variance: take its root."),
            WrongWay(lambda ab_t, ab_s, eta: eta * math.sqrt(1 - ab_t / ab_s), "That takes β in place of β̃."),
            WrongWay(lambda ab_t, ab_s, eta: math.sqrt(posterior_variance(ab_t, ab_s)), "That is η = 1, DDPM."),
        ),
        "DDIM",
        minutes=4,
    ),
    Item(
        steps_for_an_error,
        "With a perfect network, {steps} DDIM steps end {error} away from where the exact path ends. About how many "
        "steps bring this down to {wanted}?",
        lambda g: (lambda n, e, k: (n, round(e * 2**k, 3), e))(
            whole(g, 8, 30), decimal(g, 0.005, 0.02, 3), whole(g, 1, 3)
        ),
        (
            WrongWay(lambda steps, error, wanted: steps, "Fewer steps do not do, nor as many: halve the error."),
            WrongWay(
                lambda steps, error, wanted: steps * math.sqrt(error / wanted),
                "That is a method of second order: DDIM halves its error with twice the steps.",
            ),
            WrongWay(lambda steps, error, wanted: steps * (error / wanted) ** 2, "Twice the steps halve the error."),
        ),
        "DDIM",
        tolerance=5e-2,
    ),
    Item(
        official_grid,
        "The grid of DDIM's code is `range(0, T, T // S)` with T = 1000. You ask it for S = {steps} steps. How many "
        "calls of the network does it make?",
        lambda g: (whole(g, 13, 90),),
        (
            WrongWay(lambda steps: steps, "The stride is rounded down, so that more than S of them fit."),
            WrongWay(lambda steps: 1000 // steps, "That is the stride. Count the times."),
        ),
        "fast sampling",
        tolerance=1e-4,
    ),
    Item(
        what_two_times_share,
        "DDIM's forward process uses *one* noise ε for all times. What is the covariance of xₛ and xₜ, given x₀, at "
        "ᾱₛ = {ab_s} and ᾱₜ = {ab_t}?",
        levels,
        (
            WrongWay(
                lambda ab_t, ab_s: math.sqrt(ab_t / ab_s) * (1 - ab_s),
                "That is the chain of DDPM, which draws fresh noise on the way.",
            ),
            WrongWay(lambda ab_t, ab_s: (1 - ab_t) * (1 - ab_s), "The product of the two sizes, not of the variances."),
            WrongWay(lambda ab_t, ab_s: 0.0, "They share their noise."),
        ),
        "DDIM",
    ),
)
