"""DDPM's chain with a choice of spread, "none" among them: what lesson 04 takes away to see what it is for."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lessons_src.checks import check_choice
from lessons_src.process import noise_like, posterior, posterior_variance, predict_x0
from lessons_src.samplers import EpsFn, predict, steps
from lessons_src.schedules import NoiseSchedule

SPREADS = ("none", "small", "large")  # the fresh noise of a step; small is β̃, large is β


def variance(spread: str, ab_t: float, ab_s: float) -> float:
    """Variance of the fresh noise of a step from t to s: 0, beta-tilde or beta (Ho et al. 2020, section 3.2)."""
    check_choice("spread", spread, SPREADS)
    if spread == "none":
        return 0.0
    return posterior_variance(ab_t, ab_s) if spread == "small" else 1 - ab_t / ab_s


@torch.no_grad()
def chain(
    eps_fn: EpsFn,
    x: Tensor,
    schedule: NoiseSchedule,
    times: Sequence[int] | None = None,
    spread: str = "large",
    generator: torch.Generator | None = None,
) -> Tensor:
    """All states of ancestral sampling with this spread, the start first, (steps + 1, B, *event)."""
    states = [x]
    for t, s, ab_t, ab_s in steps(schedule, times):
        x, _ = posterior(x, predict_x0(x, predict(eps_fn, x, t), ab_t), ab_t, ab_s)
        size = variance(spread, ab_t, ab_s)
        if s > 0 and size > 0:
            x = x + math.sqrt(size) * noise_like(x, generator)
        states.append(x)
    return torch.stack(states)
