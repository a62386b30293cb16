"""Questions on lesson 10: up, down, and in between."""

import math
from itertools import pairwise

import torch

from lessons_src.exam.items import Item, decimal, levels, one, one_of
from lessons_src.exercises.tasks import WrongWay
from lessons_src.inversion import null_predictions, slerp
from lessons_src.lessons.lesson_10.exercises import invert_step
from lessons_src.oracle import GaussianMixture
from lessons_src.process import predict_x0
from lessons_src.samplers import renoise
from lessons_src.schedules import NoiseSchedule


def one_step_up(x, eps, ab_t, ab_s):
    """DDIM inversion from s to a noisier t."""
    return invert_step(one(x), one(eps), ab_s, ab_t).item()


def variance_of_sdedit(ab):
    """Of what comes out of SDEdit for data N(0, 1), exactly sampled."""
    slope = GaussianMixture([1.0], [[0.0]], [[[1.0]]]).x0(one(1.0), ab).item()  # of the mean of x0 in x_t
    open_yet = 1 - slope**2  # the variance of x0 that x_t, whose variance is 1, does not explain
    return slope**2 * renoise(one(0.0), one(1.0), ab).square().item() + open_yet


def there_and_back(x, middle, top):
    """Round trip of x over two levels, for data N(0, 1)."""
    ab = [1.0, middle, top]
    for clean, noisy in pairwise(ab):
        x = invert_step(one(x), one(math.sqrt(1 - clean) * x), clean, noisy).item()
    for noisy, clean in pairwise(reversed(ab)):
        eps = one(math.sqrt(1 - noisy) * x)
        x = renoise(predict_x0(one(x), eps, noisy), eps, clean).item()
    return x


def null_prediction(x, pivot, eps_c, ab_t, ab_s, w):
    """The prediction without label with which a guided step lands on the pivot."""
    schedule = NoiseSchedule(torch.tensor([1.0, ab_s, ab_t], dtype=torch.float64))
    found = null_predictions(lambda x, t: one(eps_c), [one(x), one(pivot), one(0.0)], schedule, [2, 1, 0], w)
    return found[0].item()


def length_of_a_mixture(share):
    """Length of a straight mixture of two independent noises, over that on the arc."""
    a, b = torch.eye(2, dtype=torch.float64).split(1)  # at a right angle, as noises of many numbers nearly are
    return (((1 - share) * a + share * b).norm() / slerp(a, b, share).norm()).item()


ITEMS = (
    Item(
        one_step_up,
        "Inversion steps from ᾱₛ = {ab_s} up to ᾱₜ = {ab_t}. The state is xₛ = {x}, and the prediction borrowed there "
        "is ε̂ = {eps}. What is xₜ?",
        lambda g: (decimal(g, -1.5, 1.5), decimal(g, -1.5, 1.5), *levels(g)),
        (
            WrongWay(
                lambda x, eps, ab_t, ab_s: renoise(predict_x0(one(x), one(eps), ab_t), one(eps), ab_s).item(),
                "That is the step down: the levels change places.",
            ),
            WrongWay(
                lambda x, eps, ab_t, ab_s: math.sqrt(ab_t) * x + math.sqrt(1 - ab_t) * eps,
                "xₛ is not clean: guess x̂₀ first.",
            ),
            WrongWay(
                lambda x, eps, ab_t, ab_s: predict_x0(one(x), one(eps), ab_s).item(),
                "That is x̂₀, the first line. It still goes up to t.",
            ),
        ),
        "DDIM",
        minutes=4,
    ),
    Item(
        variance_of_sdedit,
        "Data N(0, 1), everything exact. SDEdit noises a guide to ᾱ = {ab} and samples down again. What is the "
        "*variance* of what comes out, for one guide?",
        lambda g: (decimal(g, 0.1, 0.9),),
        (
            WrongWay(lambda ab: 1 - ab, "That is the noise on the way up alone, or what is drawn on the way down."),
            WrongWay(lambda ab: 1.0, "Something of the guide is left: samples vary less than the data."),
            WrongWay(lambda ab: 2 * (1 - ab), "The noise of the way up is multiplied by ᾱ on the way down."),
        ),
    ),
    Item(
        there_and_back,
        "Data N(0, 1), so ε̂ = √(1 − ᾱ) x. The point x = {x} goes up in two steps, 1 → {middle} → {top} (values of "
        "ᾱ), each prediction asked where the step starts, and down by DDIM over the same levels. Where does it end? "
        "(Each step multiplies by the cosine of the angle between its levels, with cos θ = √ᾱ.)",
        lambda g: (lambda m: (decimal(g, 0.5, 2, 1), m, decimal(g, 0.05, m - 0.2)))(decimal(g, 0.35, 0.8)),
        (
            WrongWay(lambda x, middle, top: x, "Each step shrinks a little, up and down alike."),
            WrongWay(lambda x, middle, top: math.sqrt(there_and_back(1.0, middle, top)) * x, "That is one way only."),
            WrongWay(lambda x, middle, top: there_and_back(1.0, top, top / 1.0001) * x, "Two steps, not one long one."),
        ),
        "DDIM",
        minutes=5,
    ),
    Item(
        null_prediction,
        "A guided DDIM step (w = {w}) goes from ᾱₜ = {ab_t} to ᾱₛ = {ab_s}. It stands at x = {x}; the prediction with "
        "label is {eps_c}. Which prediction *without* label makes it land on the pivot {pivot}?",
        lambda g: (
            decimal(g, -1, 1, 1),
            decimal(g, -1, 1, 1),
            decimal(g, -1, 1, 1),
            *levels(g),
            one_of(g, 2.0, 3.0, 5.0, 7.5),
        ),
        (
            WrongWay(
                lambda x, pivot, eps_c, ab_t, ab_s, w: null_prediction(x, pivot, 0.0, ab_t, ab_s, w) * (1 - w),
                "That is the whole guided prediction. Solve the blend for ε_u.",
            ),
            WrongWay(
                lambda x, pivot, eps_c, ab_t, ab_s, w: eps_c, "Then nothing is guided, and the step lands elsewhere."
            ),
            WrongWay(
                lambda x, pivot, eps_c, ab_t, ab_s, w: null_prediction(x, pivot, eps_c, ab_t, ab_s, w + 1),
                "That is the scale of Ho & Salimans.",
            ),
        ),
        "guidance",
        minutes=6,
    ),
    Item(
        length_of_a_mixture,
        "Two latents are independent noises of very many values. You mix them straight, {share} of the second and the "
        "rest of the first. How long is the mixture, compared with one of them?",
        lambda g: (decimal(g, 0.1, 0.9),),
        (
            WrongWay(lambda share: 1.0, "On the arc it would be. The straight way cuts the corner."),
            WrongWay(lambda share: share**2 + (1 - share) ** 2, "That is the square of the length."),
            WrongWay(lambda share: abs(1 - 2 * share), "They are at a right angle, not opposite."),
        ),
    ),
)
