"""Questions on lesson 02: one number for a noise level, and schedules that fit."""

import math

import torch

from lessons_src.exam.items import Item, decimal
from lessons_src.exercises.inputs import whole
from lessons_src.exercises.tasks import WrongWay
from lessons_src.lessons.lesson_02.exercises import level_at_scale, level_of, log_snr, matching_times
from lessons_src.schedules import linear


def _log_snr(ab):
    return log_snr(torch.tensor(ab, dtype=torch.float64)).item()


def level_as_log_snr(ab):
    """log-SNR of a level."""
    return _log_snr(ab)


def level_from_log_snr(value):
    """The level of a log-SNR."""
    return level_of(torch.tensor(value, dtype=torch.float64)).item()


def last_beta(T):
    """beta at T of a linear schedule whose betas were scaled for T steps."""
    return linear(T, 1e-4 * 1000 / T, 0.02 * 1000 / T).beta[-1].item()


def another_contrast(b, ab):
    """Shift of log-SNR for data multiplied by b."""
    level = torch.tensor(ab, dtype=torch.float64)
    return (log_snr(level_at_scale(level, b)) - log_snr(level)).item()


def time_to_be_told(ab):
    """The time of a schedule of constant speed on the circle that has a level of another schedule."""
    angle = torch.arange(1000, dtype=torch.float64) / 1000 * math.pi / 2
    return matching_times(torch.tensor([1.0, ab], dtype=torch.float64), angle.cos() ** 2)[0].item()


ITEMS = (
    Item(
        level_as_log_snr,
        "At some time ᾱ = {ab}. What is the log-SNR there (natural logarithm, data of power 1)?",
        lambda g: (decimal(g, 0.02, 0.98, 3),),
        (
            WrongWay(lambda ab: ab / (1 - ab), "That is the SNR: take its logarithm."),
            WrongWay(lambda ab: math.log10(ab / (1 - ab)), "That is the logarithm to base 10."),
            WrongWay(lambda ab: -_log_snr(ab), "Signal over noise, not noise over signal."),
            WrongWay(lambda ab: _log_snr(ab) / 2, "That is half of it, λ: the logarithm of a ratio of sizes."),
        ),
        "schedules",
    ),
    Item(
        level_from_log_snr,
        "You want a noise level of log-SNR {value}. What is its ᾱ?",
        lambda g: (decimal(g, -4, 4, 1),),
        (
            WrongWay(lambda value: 1 / (1 + math.exp(value)), "That is 1 − ᾱ, the share of the noise."),
            WrongWay(lambda value: math.exp(value), "That is the SNR, ᾱ / (1 − ᾱ)."),
            WrongWay(lambda value: 1 / (1 + math.exp(-2 * value)), "Twice too much: log-SNR is about powers already."),
        ),
        "schedules",
    ),
    Item(
        last_beta,
        "The linear schedule of 1000 steps has β from 0.0001 to 0.02. You want one of T = {T} steps that ends in "
        "noise as well. What is its last β, by the usual rule?",
        lambda g: (whole(g, 60, 600),),
        (
            WrongWay(lambda T: 0.02, "Kept betas leave picture at T: fewer steps must each do more."),
            WrongWay(lambda T: 0.02 * T / 1000, "The other way round: fewer steps, larger β."),
            WrongWay(lambda T: 1e-4 * 1000 / T, "That is the first β."),
        ),
        "schedules",
        tolerance=2e-4,
    ),
    Item(
        another_contrast,
        "All pictures are multiplied by {b}; the schedule stays, so that ᾱ is {ab} at some time. By how much does the "
        "true log-SNR there change? Give the sign.",
        lambda g: (decimal(g, 0.2, 0.9), decimal(g, 0.1, 0.9)),
        (
            WrongWay(lambda b, ab: math.log(b), "Power is the square: twice that."),
            WrongWay(lambda b, ab: -2 * math.log(b), "The sign: weaker pictures have less signal."),
            WrongWay(lambda b, ab: math.log(b**2 * ab / (1 - ab)), "That is the new log-SNR, not its change."),
        ),
        "schedules",
    ),
    Item(
        time_to_be_told,
        "A network was trained with √ᾱₜ = cos(90° · t / 1000). Another schedule stands at ᾱ = {ab}. Which t do you "
        "tell the network, the one of this level? (The nearest whole number.)",
        lambda g: (decimal(g, 0.05, 0.95, 3),),
        (
            WrongWay(lambda ab: round(1000 * (1 - ab)), "ᾱ does not fall in a straight line: solve the cosine for t."),
            WrongWay(lambda ab: round(2000 / math.pi * math.acos(ab)), "The cosine is √ᾱ, not ᾱ."),
            WrongWay(lambda ab: round(2000 / math.pi * math.asin(math.sqrt(ab))), "That counts from the noisy end."),
        ),
        "schedules",
        minutes=4,
        tolerance=2.5e-3,
    ),
)
