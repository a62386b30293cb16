"""A Gaussian, whose consistency function is known, as a student that is perfect."""

import torch

from lessons_src.networks import PointMLP
from lessons_src.oracle import GaussianMixture
from lessons_src.schedules import make_schedule

COSINE = make_schedule("cosine")
MEAN, STD = torch.tensor([0.7, -0.4]), 0.3


class ExactBody(PointMLP):
    """The v of the consistency function of N(MEAN, STD^2): f(x, t) = mu + (s / sqrt(v_t)) (x - sqrt(ab) mu)."""

    def forward(self, x, time, label):
        a = COSINE.alpha_bar[time.round().long()].sqrt()[:, None]
        b = (1 - a**2).sqrt()
        mean = MEAN.to(a)
        end = mean + STD / (STD**2 * a**2 + b**2).sqrt() * (x - a * mean)
        return torch.where(b > 0, (a * x - end) / b.clamp(min=1e-12), 0.0).to(x)


def gaussian():
    return GaussianMixture([1.0], MEAN.double()[None], STD**2 * torch.eye(2, dtype=torch.float64)[None])


def some(n, seed=0):
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
