"""Questions on lesson 04: the step of DDPM, its two variances, its bill."""

import math

import torch

from lessons_src.data import noise, ring
from lessons_src.exam.items import Item, decimal, levels, one
from lessons_src.exercises.inputs import whole
from lessons_src.exercises.tasks import WrongWay
from lessons_src.guidance import classifier_free
from lessons_src.lessons.lesson_04.exercises import final_variance
from lessons_src.process import posterior, posterior_variance, predict_x0
from lessons_src.samplers import Counted, ddpm, renoise, sample
from lessons_src.schedules import NoiseSchedule, linear, time_grid


def mean_of_a_step(x, eps, ab_t, ab_s):
    """Where DDPM goes before it adds noise."""
    return posterior(one(x), predict_x0(one(x), one(eps), ab_t), ab_t, ab_s)[0].item()


def small_variance(ab_t, ab_s):
    """beta-tilde of a step."""
    return posterior_variance(ab_t, ab_s)


def means_alone(x, alphas):
    """Where the means of DDPM lead for data N(0, 1)."""
    kept = torch.cat([torch.ones(1), torch.tensor(alphas, dtype=torch.float64).cumprod(0)])
    return x * NoiseSchedule(kept).alpha_bar[-1].sqrt().item()


def calls_of_a_run(batch, steps, w):
    """Network evaluations of a guided DDPM run on one batch."""
    network, schedule = Counted(ring().network(linear())), linear()
    eps_fn = classifier_free(network, 0, w)
    sample(ddpm(eps_fn, noise(batch, 2), schedule, time_grid(schedule, steps), generator=torch.Generator()))
    return network.nfe


def variance_of_the_samples(ab):
    """Of N(0, 1) data with the large noise, if the last step goes from ab to clean and draws nothing."""
    levels_left = torch.tensor([1.0, ab, ab / 10], dtype=torch.float64)
    return final_variance(levels_left, [2, 1, 0])


ITEMS = (
    Item(
        mean_of_a_step,
        "A DDPM step goes from ᾱₜ = {ab_t} to ᾱₛ = {ab_s}. The state is xₜ = {x}, the predicted noise ε̂ = {eps}. "
        "Where does it lead before fresh noise is added? (α = ᾱₜ / ᾱₛ and β = 1 − α.)",
        lambda g: (decimal(g, -1.5, 1.5), decimal(g, -1.5, 1.5), *levels(g)),
        (
            WrongWay(
                lambda x, eps, ab_t, ab_s: renoise(predict_x0(one(x), one(eps), ab_t), one(eps), ab_s).item(),
                "That is DDIM's step: it leaves no room for fresh noise.",
            ),
            WrongWay(
                lambda x, eps, ab_t, ab_s: (x - (1 - ab_t / ab_s) * eps) / math.sqrt(ab_t / ab_s),
                "β stands over √(1 − ᾱₜ).",
            ),
            WrongWay(
                lambda x, eps, ab_t, ab_s: x - (1 - ab_t / ab_s) / math.sqrt(1 - ab_t) * eps, "Divide by √α at the end."
            ),
        ),
        "DDIM",
        minutes=4,
    ),
    Item(
        small_variance,
        "A DDPM step goes from ᾱₜ = {ab_t} to ᾱₛ = {ab_s}. What is the small noise *variance*, β̃?",
        levels,
        (
            WrongWay(lambda ab_t, ab_s: 1 - ab_t / ab_s, "That is β, the large variance."),
            WrongWay(lambda ab_t, ab_s: math.sqrt(posterior_variance(ab_t, ab_s)), "That is the standard deviation."),
            WrongWay(lambda ab_t, ab_s: 1 - ab_s, "That is all the noise at level s; only a part of it is fresh."),
        ),
        "DDIM",
    ),
    Item(
        means_alone,
        lambda x, alphas: (
            f"The data are N(0, 1), the network is perfect, and DDPM makes three steps from x = {x}, with α = "
            f"{alphas[0]}, {alphas[1]} and {alphas[2]}. The fresh noise is left out. Where does it end?"
        ),
        lambda g: (decimal(g, 0.5, 3, 1), tuple(decimal(g, 0.3, 0.9) for _ in range(3))),
        (
            WrongWay(lambda x, alphas: x * math.prod(alphas), "Each mean multiplies by √α, not by α."),
            WrongWay(lambda x, alphas: x, "Only with fresh noise the variance is kept. A mean is smaller than x."),
            WrongWay(lambda x, alphas: x / math.sqrt(math.prod(alphas)), "A mean shrinks: it multiplies by √α."),
        ),
    ),
    Item(
        calls_of_a_run,
        "You draw {batch} digits as one batch, with {steps} DDPM steps and guidance of scale {w}. How often is the "
        "network called?",
        lambda g: (whole(g, 8, 64), whole(g, 20, 60), decimal(g, 1.5, 7.5, 1)),
        (
            WrongWay(lambda batch, steps, w: steps, "Guidance asks twice a step, with label and without."),
            WrongWay(lambda batch, steps, w: 2 * steps * batch, "A batch goes through in one call."),
            WrongWay(lambda batch, steps, w: steps * batch, "A batch goes through in one call, guidance asks twice."),
        ),
        "guidance",
        tolerance=1e-4,
    ),
    Item(
        variance_of_the_samples,
        "Data N(0, 1), a perfect network, DDPM with the *large* variance β from N(0, 1). The last step goes from ᾱ = "
        "{ab} to the clean end and draws nothing. What is the variance of the samples?",
        lambda g: (decimal(g, 0.6, 0.97, 3),),
        (
            WrongWay(lambda ab: 1.0, "Up to the last step it is 1. That step draws nothing: its mean alone shrinks."),
            WrongWay(lambda ab: math.sqrt(ab), "x shrinks by √ᾱ, its variance by the square of that."),
            WrongWay(lambda ab: 1 - ab, "That is what is missing."),
        ),
        "DDIM",
    ),
)
