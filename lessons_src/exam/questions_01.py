"""Questions on lesson 01: noise that adds up, the jump, the way back, the end of the chain."""

import math

from lessons_src.exam.items import Item, decimal, one
from lessons_src.exercises.inputs import whole
from lessons_src.exercises.tasks import WrongWay
from lessons_src.process import add_noise, predict_x0
from lessons_src.schedules import linear


def two_doses(old, new):
    """Size of two independent noises together."""
    return math.hypot(old, new)


def jump_by_hand(x0, eps, ab):
    """The forward shortcut."""
    return add_noise(one(x0), one(eps), ab).item()


def back_to_the_picture(x, eps, ab):
    """The clean value that a guess of the noise leaves."""
    return predict_x0(one(x), one(eps), ab).item()


def left_of_the_picture(T):
    """Per cent of the brightness at the end of a chain that kept its betas."""
    return 100 * linear(T).alpha_bar[-1].sqrt().item()


def error_of_the_guess(ab, error):
    """By how much x0 is off if eps is off by `error`."""
    return (predict_x0(one(0.0), one(-error), ab) - predict_x0(one(0.0), one(0.0), ab)).item()


ITEMS = (
    Item(
        two_doses,
        "The noise in a picture has size {old} (root mean square). A dose of size {new} comes in, independent of it. "
        "What size have both together?",
        lambda g: (decimal(g, 0.2, 0.6), decimal(g, 0.2, 0.6)),
        (
            WrongWay(lambda old, new: old + new, "Sizes do not add up: their squares do."),
            WrongWay(lambda old, new: old**2 + new**2, "That is the variance. The size is its root."),
            WrongWay(lambda old, new: (old + new) / 2, "That is the mean of the two: nothing is halved here."),
        ),
        "schedules",
    ),
    Item(
        jump_by_hand,
        "A pixel is x₀ = {x0}, the noise is ε = {eps}, and ᾱₜ = {ab}. What is xₜ?",
        lambda g: (decimal(g, -0.9, 0.9), decimal(g, -1.9, 1.9), decimal(g, 0.1, 0.9)),
        (
            WrongWay(lambda x0, eps, ab: ab * x0 + (1 - ab) * eps, "The roots are missing."),
            WrongWay(
                lambda x0, eps, ab: math.sqrt(1 - ab) * x0 + math.sqrt(ab) * eps,
                "The factors have changed places: √ᾱ belongs to the picture.",
            ),
            WrongWay(lambda x0, eps, ab: math.sqrt(ab) * x0 + (1 - ab) * eps, "The noise lacks its root."),
        ),
        "DDIM",
    ),
    Item(
        back_to_the_picture,
        "A pixel of the noisy picture is xₜ = {x}, with ᾱₜ = {ab}. The network guesses that its noise is ε̂ = {eps}. "
        "What is the clean pixel x̂₀?",
        lambda g: (decimal(g, -1.5, 1.5), decimal(g, -1.5, 1.5), decimal(g, 0.15, 0.85)),
        (
            WrongWay(lambda x, eps, ab: x - math.sqrt(1 - ab) * eps, "Without its noise it is √ᾱ x₀: divide by √ᾱ."),
            WrongWay(lambda x, eps, ab: (x - (1 - ab) * eps) / ab, "The roots are missing."),
            WrongWay(lambda x, eps, ab: x - eps, "The noise is in xₜ with the factor √(1 − ᾱ), the picture with √ᾱ."),
        ),
        "DDIM",
    ),
    Item(
        left_of_the_picture,
        "A chain has T = {T} steps. Its β grow evenly from 0.0001 to 0.02, as if it had a thousand. How many per cent "
        "of a picture's brightness are left in x_T? (A line of Python helps: √ᾱ_T is a product.)",
        lambda g: (whole(g, 40, 300),),
        (
            WrongWay(lambda T: 100 * linear(T).alpha_bar[-1].item(), "That is ᾱ, the share of the variance."),
            WrongWay(lambda T: 100 * (1 - linear(T).alpha_bar[-1]).sqrt().item(), "That is the factor of the noise."),
            WrongWay(lambda T: 100 * linear(1000).alpha_bar[-1].sqrt().item(), "That is what a thousand steps leave."),
        ),
        "schedules",
        minutes=4,
    ),
    Item(
        error_of_the_guess,
        "At ᾱₜ = {ab} a network's guess of the noise is too small by {error}. By how much is x̂₀ too large?",
        lambda g: (decimal(g, 0.02, 0.4), decimal(g, 0.05, 0.4)),
        (
            WrongWay(lambda ab, error: error, "The division by √ᾱ makes the error larger."),
            WrongWay(lambda ab, error: error * (1 - ab) / ab, "That is noise over signal in variance: take the root."),
            WrongWay(lambda ab, error: error * math.sqrt(ab / (1 - ab)), "Upside down: it is noise over signal."),
            WrongWay(lambda ab, error: error / math.sqrt(ab), "ε̂ is multiplied by √(1 − ᾱ) before the division."),
        ),
        "differential equations",
    ),
)
