"""Questions on lesson 03: what a noise predictor learns, and how its loss is read."""

import math

import torch

from lessons_src.exam.items import Item, decimal, one, one_of
from lessons_src.exercises.inputs import whole
from lessons_src.exercises.tasks import WrongWay
from lessons_src.lessons.lesson_03.exercises import ema_update
from lessons_src.oracle import GaussianMixture
from lessons_src.process import score_from_eps


def _best_slope(std, ab):
    """The best guess of the noise is this times x, for data N(0, std^2)."""
    return GaussianMixture([1.0], [[0.0]], [[[std**2]]]).eps(one(1.0), ab).item()


def _loss(slope, std, ab):
    """Mean squared error of the guess slope x: of eps - slope (sqrt(ab) x0 + sqrt(1 - ab) eps)."""
    return (1 - slope * math.sqrt(1 - ab)) ** 2 + slope**2 * ab * std**2


def mean_or_sum(side, total):
    """A loss summed over the pixels of a square picture, as a mean over them."""
    return torch.full((side, side), total / side**2, dtype=torch.float64).mean().item()


def floor_of_the_loss(std, ab):
    """The smallest possible loss for data N(0, std^2)."""
    return _loss(_best_slope(std, ab), std, ab)


def average_of_weights(old, new, decay, steps):
    """A running average after some steps at new weights."""
    average = torch.tensor(old, dtype=torch.float64)
    for _ in range(steps):
        average = ema_update(average, torch.tensor(new, dtype=torch.float64), decay)
    return average.item()


def null_against_label(p, classes):
    """How many times as often the null label is seen as one certain class."""
    shares = torch.full((classes,), (1 - p) / classes, dtype=torch.float64)
    return (p / shares[0]).item()


def score_of_the_guess(eps, ab):
    """The score that a noise prediction stands for."""
    return score_from_eps(one(eps), ab).item()


ITEMS = (
    Item(
        mean_or_sum,
        "A paper reports a loss ‖ε − ε̂‖² of {total} a picture; its pictures have {side} × {side} pixels of one "
        "number. Your code takes `.mean()` over everything. What does it print for the same network?",
        lambda g: (one_of(g, 16, 24, 28, 32, 48), decimal(g, 20, 200, 1)),
        (
            WrongWay(lambda side, total: total, "The paper adds up over the pixels, the mean divides by their number."),
            WrongWay(lambda side, total: total / side, "A picture has side times side pixels."),
            WrongWay(lambda side, total: math.sqrt(total) / side, "There is no root: both are squared errors."),
        ),
        tolerance=2e-4,
    ),
    Item(
        floor_of_the_loss,
        "The data are one number x₀ from a Gaussian of mean 0 and standard deviation {std}. At ᾱ = {ab}, what is the "
        "loss in ε of a perfect network? (Its guess is c xₜ, with the best c.)",
        lambda g: (decimal(g, 0.3, 3, 1), decimal(g, 0.1, 0.9)),
        (
            WrongWay(lambda std, ab: 0.0, "Many pairs of data and noise lead to the same xₜ: some error stays."),
            WrongWay(lambda std, ab: ab, "That is right for data of variance 1 only."),
            WrongWay(lambda std, ab: 1 - floor_of_the_loss(std, ab), "That is what the guess explains."),
            WrongWay(lambda std, ab: 1.0, "That is the loss of answering 0."),
        ),
        minutes=5,
    ),
    Item(
        average_of_weights,
        "A weight has been {old} for long, and so is its running average (EMA, decay {decay}). Now it jumps to {new} "
        "and stays there. What is the average after {steps} more steps?",
        lambda g: (decimal(g, -1, 1, 1), decimal(g, 2, 4, 1), one_of(g, 0.9, 0.95, 0.98, 0.99), whole(g, 5, 60)),
        (
            WrongWay(lambda old, new, decay, steps: new, "The average follows slowly."),
            WrongWay(lambda old, new, decay, steps: decay * old + (1 - decay) * new, "That is after one step."),
            WrongWay(
                lambda old, new, decay, steps: old + steps * (1 - decay) * (new - old),
                "It does not go on at the pace of the first step: what is left of the gap shrinks by the decay each "
                "time.",
            ),
            WrongWay(
                lambda old, new, decay, steps: decay**steps * new + (1 - decay**steps) * old,
                "The other way round: decay to the power of the steps is what is left of the old value.",
            ),
        ),
    ),
    Item(
        null_against_label,
        "A network learns {classes} classes, each equally frequent in the data. Every label is replaced by the null "
        "label with probability {p}. How many times as often does training see the null label as one certain class?",
        lambda g: (one_of(g, 0.05, 0.1, 0.15, 0.2, 0.25), whole(g, 5, 60)),
        (
            WrongWay(lambda p, classes: p / (1 - p), "That compares it with all classes together."),
            WrongWay(lambda p, classes: p * classes, "The classes lose the labels that are dropped."),
            WrongWay(lambda p, classes: p, "That is its share of all labels."),
        ),
        "guidance",
    ),
    Item(
        score_of_the_guess,
        "At ᾱₜ = {ab} a perfect network predicts the noise ε̂ = {eps}. What is the score, the slope of log pₜ, there?",
        lambda g: (decimal(g, -1.9, 1.9), decimal(g, 0.1, 0.9)),
        (
            WrongWay(lambda eps, ab: eps / math.sqrt(1 - ab), "The sign: noise points away from the data."),
            WrongWay(
                lambda eps, ab: -eps / (1 - ab), "Divide by the size of the noise, √(1 − ᾱ), not by its variance."
            ),
            WrongWay(lambda eps, ab: -eps, "The size of the noise is missing: divide by √(1 − ᾱ)."),
            WrongWay(lambda eps, ab: -eps / math.sqrt(ab), "Divide by the size of the noise, not of the signal."),
        ),
        "differential equations",
    ),
)
