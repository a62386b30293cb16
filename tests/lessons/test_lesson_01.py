"""Lesson 01: its pictures, the answers to its questions, and right answers to its exercises."""

import math

import numpy as np
import torch
from by_hand import as_column

from lessons_src import process, schedules
from lessons_src.lessons.lesson_01 import explorer


def test_forward_starts_clean_and_says_its_coefficients():
    picture = explorer.forward_picture(3, "linear")
    clean, _, x_t = picture.panels[0].frames[0]
    assert np.array_equal(clean, x_t)
    assert picture.frame_texts[25] == "At t = 500, x_t = 0.280 x0 + 0.960 eps."


def numpy_add_noise(x0, eps, alpha_bar):
    return torch.from_numpy(np.sqrt(alpha_bar) * x0.numpy() + np.sqrt(1 - alpha_bar) * eps.numpy())


def add_noise_one_by_one(x0, eps, t, alpha_bar):
    return torch.stack(
        [process.add_noise(x0[i : i + 1], eps[i : i + 1], float(alpha_bar[t[i]]))[0] for i in range(len(t))]
    )


def chain_by_recursion(x0, beta, generator):
    if not beta:
        return x0
    z = torch.empty_like(x0).normal_(generator=generator)
    return chain_by_recursion((1 - beta[0]) ** 0.5 * x0 + beta[0] ** 0.5 * z, beta[1:], generator)


def chain_backwards(x0, beta, generator):
    noises = [torch.randn(x0.shape, generator=generator, dtype=x0.dtype) for _ in beta]
    x = x0.clone()
    for dose, z in zip(beta, noises, strict=True):
        x *= math.sqrt(1 - dose)
        x += math.sqrt(dose) * z
    return x


ANSWERS = {
    "signal-at-half": lambda: schedules.linear().alpha_bar[500].sqrt().item(),
    "two-equal-steps": lambda: math.sqrt(1 - (1 - 0.2) ** 2),
}


RIGHT = {
    "forward_step": (
        lambda x, z, beta: process.add_noise(x, z, 1 - beta),
        lambda x, z, beta: torch.add(x * (1 - beta) ** 0.5, z, alpha=beta**0.5),
    ),
    "add_noise": (process.add_noise, numpy_add_noise),
    "predict_x0": (
        process.predict_x0,
        lambda x_t, eps, ab: x_t * ab**-0.5 - ((1 - ab) / ab) ** 0.5 * eps,
    ),
    "predict_eps": (
        process.predict_eps,
        lambda x_t, x0, ab: x_t.div((1 - ab) ** 0.5) - (ab / (1 - ab)) ** 0.5 * x0,
    ),
    "add_noise_at": (
        add_noise_one_by_one,
        lambda x0, eps, t, ab: as_column(ab[t] ** 0.5, x0) * x0 + as_column((1 - ab[t]) ** 0.5, x0) * eps,
    ),
    "forward_chain": (chain_by_recursion, chain_backwards),
}
