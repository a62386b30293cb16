"""What the tests of several lessons compute by hand, or by another road than the library."""

import math
from itertools import pairwise

import torch

from lessons_src import data, guidance, oracle, process, samplers, schedules

LEVELS = (0.0784, 0.36, 0.64, 1.0)


def as_column(values, x):
    return values[(...,) + (None,) * (x.ndim - 1)]


def renoised(x_t, eps, ab_t, ab_s, variance):
    """DDPM's mean in its third form, from x0 and eps."""
    x0 = (x_t - (1 - ab_t) ** 0.5 * eps) / ab_t**0.5
    return ab_s**0.5 * x0 + max(1 - ab_s - variance, 0) ** 0.5 * eps


def tilde(ab_t, ab_s):
    return process.posterior_variance(ab_t, ab_s)


def rotated(x_t, eps, ab_t, ab_s):
    """DDIM in the variables x / sqrt(ab) and sigma, where a step is a straight line."""
    sigma_t, sigma_s = math.sqrt((1 - ab_t) / ab_t), math.sqrt((1 - ab_s) / ab_s)
    return math.sqrt(ab_s) * (x_t / math.sqrt(ab_t) + (sigma_s - sigma_t) * eps)


def library_ddim(net, x, alpha_bar, times):
    return samplers.sample(samplers.ddim(net, x, schedules.NoiseSchedule(alpha_bar), times))


def number(value):
    return torch.tensor([[float(value)]], dtype=torch.float64)


def walk(means, w=None):
    """(x0, next x) of every step of a walk down LEVELS from 1, exact predictors of N(mean, 1), guided if two means."""
    x, path = number(1), []
    for ab_t, ab_s in pairwise(LEVELS):
        eps = [oracle.GaussianMixture([1.0], [[mean]], [[[1.0]]]).eps(x, ab_t) for mean in means]
        eps = eps[0] if w is None else guidance.blend(*eps, w)
        x0 = process.predict_x0(x, eps, ab_t)
        x = samplers.renoise(x0, eps, ab_s)
        path.append((x0.item(), x.item(), eps.item()))
    return path


def guided_bill(sampler, steps):
    counted = samplers.Counted(data.three_classes().network(schedules.linear()))
    times = schedules.time_grid(schedules.linear(), steps)
    eps_fn = guidance.classifier_free(counted, 0, 4.0)
    samplers.sample(sampler(eps_fn, torch.zeros(8, 2, dtype=torch.float64), schedules.linear(), times))
    return counted.nfe


def translated(theirs):
    """Our w for which the blend equals (1 + theirs) eps_c - theirs eps_u."""
    return (((1 + theirs) * number(2) - theirs * number(1)) - number(1)).item() / (number(2) - number(1)).item()
