"""Lesson 04: its pictures, the answers to its questions, and right answers to its exercises."""

import re
from itertools import pairwise

import torch
from by_hand import guided_bill, number, renoised, tilde

from lessons_src import oracle, process, samplers, schedules
from lessons_src.lessons.lesson_04 import explorer
from lessons_src.schedules import cosine, linear

TIMES = [1000, 500, 0]


def stored_run():
    """A run of two samples: x_t counts up along the run, and its predictions miss the end by 1, 0.5 and 0."""
    x = torch.linspace(-1, 1, 3).reshape(3, 1, 1, 1, 1).expand(3, 2, 1, 28, 28)
    return x, x[-1] - torch.tensor([1.0, 0.5, 0.0]).reshape(3, 1, 1, 1, 1)


def run_picture(which):
    return explorer.run_picture(which, TIMES, *stored_run(), cosine(), ["a", "b"])


ARGUMENTS = {"explore_run": (TIMES, *stored_run(), cosine(), ["a", "b"])}


def test_a_stored_run_shows_what_was_stored():
    state, guess, amplitudes = run_picture("all").panels
    assert state.frames.shape == guess.frames.shape == (3, 2, 28, 28)
    assert state.frames[:, 0, 0, 0].tolist() == [0, 128, 255]
    assert guess.frames[:, 1, 0, 0].tolist() == [128, 191, 255]
    assert amplitudes.marker.tolist() == TIMES


def test_a_stored_run_of_one_sample_says_how_far_its_guess_is():
    picture = run_picture(1)
    assert picture.panels[0].labels == ("b",)
    assert picture.panels[0].frames.shape == (3, 1, 28, 28)
    assert picture.frame_texts[0].startswith("At t = 1000 the state is 0.00 signal and 1.00 noise; x̂0 differs")
    assert [re.search(r"by (\d\.\d)", text)[1] for text in picture.frame_texts] == ["1.0", "0.5", "0.0"]


def ddpm_step_by_posterior(x_t, eps, z, ab_t, ab_s, variance):
    mean, small = process.posterior(x_t, process.predict_x0(x_t, eps, ab_t), ab_t, ab_s)
    sigma = {"beta": 1 - ab_t / ab_s, "beta_tilde": small}[variance] ** 0.5
    return mean + (sigma if ab_s < 1 else 0) * z


def ddpm_step_renoised(x_t, eps, z, ab_t, ab_s, variance):
    last = ab_s == 1.0
    size = 0.0 if last else tilde(ab_t, ab_s) if variance == "beta_tilde" else (ab_s - ab_t) / ab_s
    return torch.add(renoised(x_t, eps, ab_t, ab_s, tilde(ab_t, ab_s)), z, alpha=size**0.5)


def library_ddpm(net, x, alpha_bar, times, generator):
    schedule = schedules.NoiseSchedule(alpha_bar)
    return samplers.sample(samplers.ddpm(net, x, schedule, times, generator=generator))


def ddpm_by_index(net, x, alpha_bar, times, generator):
    for i in range(len(times) - 1):
        ab_t, ab_s = float(alpha_bar[times[i]]), float(alpha_bar[times[i + 1]])
        eps = net(x, torch.tensor([times[i]] * len(x)))
        x = renoised(x, eps, ab_t, ab_s, tilde(ab_t, ab_s))
        if i < len(times) - 2:
            x = x + tilde(ab_t, ab_s) ** 0.5 * torch.randn(x.shape, generator=generator, dtype=x.dtype)
    return x


def variance_unrolled(alpha_bar, times):
    """The start and every draw, each shrunk by all later steps."""
    added = [(alpha_bar[s] - alpha_bar[t]).item() for t, s in pairwise(times[:-1])]
    return alpha_bar[times[0]].item() + sum(added)


def ddpm_mean(signal_t, signal_s, x):
    """Mean of a DDPM step on the exact predictor of N(0, 1), from the roots of alpha_bar at t and s."""
    ab_t, ab_s = signal_t**2, signal_s**2
    x0 = oracle.GaussianMixture([1.0], [[0.0]], [[[1.0]]]).x0(number(x), ab_t)
    return process.posterior(number(x), x0, ab_t, ab_s)[0].item()


ANSWERS = {
    "hand-first": lambda: ddpm_mean(0.288, 0.48, 1.0) + 0.8 * 0.5,
    "hand-last": lambda: ddpm_mean(0.8, 1.0, ddpm_mean(0.48, 0.8, 1.0) + 0.8 * -1),
    "variance-at-the-end": lambda: ddpm_mean(*schedules.linear().alpha_bar[[1, 0]].sqrt().tolist(), 1.0) ** 2,
    "the-bill": lambda: guided_bill(samplers.ddpm, 250),
}


RIGHT = {
    "posterior_variance": (
        process.posterior_variance,
        lambda ab_t, ab_s: 1 / (1 / (1 - ab_s) + ab_t / (ab_s - ab_t)),
    ),
    "posterior_mean": (
        lambda x_t, x0, ab_t, ab_s: process.posterior(x_t, x0, ab_t, ab_s)[0],
        lambda x_t, x0, ab_t, ab_s: renoised(
            x_t, (x_t - ab_t**0.5 * x0) / (1 - ab_t) ** 0.5, ab_t, ab_s, tilde(ab_t, ab_s)
        ),
    ),
    "mean_from_eps": (
        lambda x_t, eps, ab_t, ab_s: process.posterior(x_t, process.predict_x0(x_t, eps, ab_t), ab_t, ab_s)[0],
        lambda x_t, eps, ab_t, ab_s: renoised(x_t, eps, ab_t, ab_s, tilde(ab_t, ab_s)),
    ),
    "ddpm_step": (ddpm_step_by_posterior, ddpm_step_renoised),
    "ddpm_sample": (library_ddpm, ddpm_by_index),
    "final_variance": (
        lambda ab, times: ab[times[-2]].item(),
        variance_unrolled,
    ),
}


CLAIMS = {
    "0.01": lambda: linear().beta[1] / (1 - linear().alpha_bar[1]).sqrt(),
    "0.9999": lambda: linear().alpha_bar[1],
}
