"""Lesson 02: its pictures, the answers to its questions, and right answers to its exercises."""

import math
from itertools import pairwise

import torch
from torch.nn import functional as F

from lessons_src import schedules
from lessons_src.lessons.lesson_02 import explorer
from lessons_src.schedules import cosine, linear


def test_schedules_say_when_noise_overtakes():
    text = explorer.schedule_picture("linear", 1000, 0.02, 0.008, 3.0, 128).text
    assert "t = 260" in text
    assert "33 % of the steps" in text


def linear_in_a_loop(T):
    alpha_bar = [1.0]
    for t in range(1, T + 1):
        alpha_bar.append(alpha_bar[-1] * (1 - (0.1 + (20 - 0.1) * (t - 1) / (T - 1)) / T))
    return torch.tensor(alpha_bar, dtype=torch.float64)


def cosine_in_a_loop(T, s, max_beta):
    f = [math.cos((t / T + s) / (1 + s) * math.pi / 2) ** 2 for t in range(T + 1)]
    alpha_bar = [1.0]
    for before, after in pairwise(f):
        alpha_bar.append(alpha_bar[-1] * max(after / before, 1 - max_beta))
    return torch.tensor(alpha_bar, dtype=torch.float64)


def cosine_by_halves(T, s, max_beta):
    angle = math.pi * (torch.arange(T + 1, dtype=torch.float64) / T + s) / (1 + s)
    f = (1 + angle.cos()) / 2
    alpha = torch.maximum(f[1:] / f[:-1], torch.tensor(1 - max_beta, dtype=torch.float64))
    return F.pad(alpha, (1, 0), value=1.0).cumprod(0)


def times_by_search(new, old):
    ruler, found = (old[1:] / (1 - old[1:])).log(), []
    for level in new[1:]:
        distance = [abs(float(value - (level / (1 - level)).log())) for value in ruler]
        found.append(1 + distance.index(min(distance)))
    return torch.tensor(found)


def times_by_cdist(new, old):
    a, b = new.logit()[1:, None], old.logit()[1:, None]
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").argmin(dim=1).add(1)


ANSWERS = {
    "wasted-steps": lambda: 100 * (schedules.linear().snr[1:] < 0.01).double().mean().item(),
    "log-snr-of-0-9": lambda: schedules.NoiseSchedule(torch.tensor([1, 0.9], dtype=torch.float64)).log_snr[1].item(),
    "half-contrast": lambda: 2 * math.log(0.5),
    "side-256": lambda: schedules.shifted_cosine(size=256).snr[500].item(),
    "quarter-of-the-steps": lambda: 0.02 * 1000 / 250,
}


RIGHT = {
    "linear_alpha_bar": (
        linear_in_a_loop,
        lambda T: F.pad(1 - torch.linspace(0.1, 20, T).double() / T, (1, 0), value=1.0).log().cumsum(0).exp(),
    ),
    "cosine_alpha_bar": (cosine_in_a_loop, cosine_by_halves),
    "log_snr": (torch.logit, lambda ab: ab.log() - (-ab).log1p()),
    "level_of": (lambda v: 1 / (1 + (-v).exp()), lambda v: (1 + (v / 2).tanh()) / 2),
    "level_at_scale": (
        lambda ab, b: b**2 * ab / (b**2 * ab + 1 - ab),
        lambda ab, b: 1 / (1 + (1 / ab - 1) / b / b),
    ),
    "matching_times": (times_by_search, times_by_cdist),
}


CLAIMS = {
    "0.0064": lambda: linear(500).alpha_bar[-1],
    "0.00004": lambda: linear().alpha_bar[-1],
    "0.75": lambda: cosine().beta[-2],
    "1.39": lambda: 2 * math.log(2),
}
