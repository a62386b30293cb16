"""Questions on lesson 12: small pictures in place of large ones, and attention to words."""

import math

import torch
from torch.distributions import Normal, kl_divergence

from lessons_src.exam.items import Item, decimal, one, one_of
from lessons_src.exercises.inputs import whole
from lessons_src.exercises.tasks import WrongWay
from lessons_src.process import add_noise
from lessons_src.schedules import shifted_cosine


def fewer_numbers(side, factor, channels):
    """Numbers of a colour picture, over those of its latent."""
    return torch.zeros(3, side, side).numel() / torch.zeros(channels, side // factor, side // factor).numel()


def pairs_of_patches(side, patch):
    """Pairs of tokens that self-attention compares."""
    tokens = torch.zeros(1, side, side).unfold(1, patch, patch).unfold(2, patch, patch).flatten(0, 2).shape[0]
    return torch.zeros(tokens, tokens).numel()


def noisy_latent(z, mean, std, eps, ab):
    """What the diffusion network sees of a latent."""
    return add_noise(one((z - mean) / std), one(eps), ab).item()


def halfway_signal(side, factor):
    """SNR at T/2 of the cosine schedule shifted for a latent."""
    return shifted_cosine(1000, side // factor).snr[500].item()


def price_of_a_latent(mean, std):
    """Divergence of N(mean, std^2) from N(0, 1), in nats."""
    return kl_divergence(Normal(one(mean), one(std)), Normal(one(0.0), one(1.0))).item()


ITEMS = (
    Item(
        fewer_numbers,
        "An autoencoder makes each side of a colour picture {factor} times shorter; its latent has {channels} "
        "channels. How many times fewer numbers has the latent of a picture of {side} × {side} pixels?",
        lambda g: (one_of(g, 256, 512, 768, 1024), one_of(g, 4, 8, 16), one_of(g, 4, 8, 12, 16)),
        (
            WrongWay(
                lambda side, factor, channels: factor**2, "Those are places. Count the channels, 3 and the latent's."
            ),
            WrongWay(lambda side, factor, channels: factor, "Both sides are shorter, and the channels differ."),
            WrongWay(
                lambda side, factor, channels: factor**2 * channels / 3, "More channels in the latent: less is saved."
            ),
        ),
    ),
    Item(
        pairs_of_patches,
        "A transformer cuts a latent of {side} × {side} into patches of {patch} × {patch}. How many pairs of tokens "
        "does a self-attention layer compare? (Each with each, itself included.)",
        lambda g: (8 * whole(g, 2, 12), one_of(g, 2, 4, 8)),
        (
            WrongWay(lambda side, patch: (side // patch) ** 2, "Those are the tokens. Each looks at each."),
            WrongWay(lambda side, patch: (side // patch) ** 2 * patch**2, "A patch is one token."),
            WrongWay(lambda side, patch: side**4, "A patch is one token, not patch times patch of them."),
        ),
        tolerance=1e-5,
    ),
    Item(
        noisy_latent,
        "A channel of the latents has mean {mean} and standard deviation {std} over the training data. Of one picture "
        "its value is z = {z}. The latent is standardised, then noised with ε = {eps} at ᾱ = {ab}. What does the "
        "network see?",
        lambda g: (
            decimal(g, -6, 6, 1),
            decimal(g, -1, 1, 1),
            decimal(g, 2, 6, 1),
            decimal(g, -1.9, 1.9, 1),
            decimal(g, 0.2, 0.9),
        ),
        (
            WrongWay(
                lambda z, mean, std, eps, ab: math.sqrt(ab) * z + math.sqrt(1 - ab) * eps,
                "Standardise first, or ᾱ is no share of the variance.",
            ),
            WrongWay(
                lambda z, mean, std, eps, ab: math.sqrt(ab) * z / std + math.sqrt(1 - ab) * eps, "Take off the mean."
            ),
            WrongWay(
                lambda z, mean, std, eps, ab: math.sqrt(ab) * (z - mean) * std + math.sqrt(1 - ab) * eps,
                "Divide by the standard deviation.",
            ),
        ),
        "schedules",
    ),
    Item(
        halfway_signal,
        "The cosine schedule of 64 × 64 has SNR 1 at T/2. A model of pictures of {side} × {side} works on latents "
        "whose sides are {factor} times shorter. Shifted for *these*, what is the SNR at T/2?",
        lambda g: (64 * whole(g, 3, 24), one_of(g, 4, 8, 16)),
        (
            WrongWay(lambda side, factor: (64 / side) ** 2, "The model sees the latent: its side counts."),
            WrongWay(lambda side, factor: 64 * factor / side, "log-SNR shifts by 2 log (64 / side): square it."),
            WrongWay(lambda side, factor: (side / factor / 64) ** 2, "Larger means more noise: the other way round."),
        ),
        "schedules",
        minutes=4,
    ),
    Item(
        price_of_a_latent,
        "The encoder answers with a Gaussian of mean {mean} and standard deviation {std} for one number of the "
        "latent. What does it pay in the KL term, the divergence from N(0, 1), in nats? (½ (μ² + σ² − 1) − ln σ.)",
        lambda g: (decimal(g, -2, 2, 1), decimal(g, 0.1, 0.9)),
        (
            WrongWay(
                lambda mean, std: (mean**2 + std**2 - 1) / 2, "The logarithm is missing: a narrow one costs most."
            ),
            WrongWay(lambda mean, std: (mean**2 + std - 1) / 2 - math.log(std) / 2, "σ is a standard deviation."),
            WrongWay(lambda mean, std: (mean**2 + std**2 - 1) / 2 + math.log(std), "The sign of the logarithm."),
        ),
    ),
)
