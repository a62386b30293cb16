"""Runs of the shipped digit network, kept once computed: what several lessons' explorers show."""

from functools import cache

import torch
from torch import Tensor

from lessons_src import measurements, weights
from lessons_src.guidance import classifier_free
from lessons_src.networks import DigitClassifier, NoisePredictor
from lessons_src.schedules import time_grid


@cache
def shipped() -> tuple[NoisePredictor, DigitClassifier]:
    """The shipped digit network and the classifier that reads its digits."""
    return weights.load("digits")[0], weights.load("classifier")[0]


@cache
def digit_run(
    sampler: str, steps: int, grid: str, w: float, label: tuple[int, ...]
) -> tuple[list[int], Tensor, Tensor]:
    """Up to 21 of a run's times, its states there and the clean predictions made from them, (F, B, 1, 28, 28) each."""
    net, _ = shipped()
    times = time_grid(net.schedule, steps, grid)
    noise, _ = measurements.start_noise(len(label))
    eps_fn = classifier_free(net, torch.tensor(label), w)
    generator = torch.Generator().manual_seed(0)
    states = list(measurements.SAMPLERS[sampler](eps_fn, noise, net.schedule, times, generator=generator))
    guesses = [state.x0 for state in states]
    x = [noise, *(state.x for state in states)]
    kept = sorted({round(k * (len(times) - 1) / 20) for k in range(21)})
    x0 = [*guesses, states[-1].x]  # the clean prediction made from the state at each time; at time 0, the sample
    return [times[k] for k in kept], torch.stack([x[k] for k in kept]), torch.stack([x0[k] for k in kept])
