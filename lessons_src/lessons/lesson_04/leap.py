"""One step of DDPM in one dimension: the cleaner points that it makes, beside the true ones."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lessons_src import data
from lessons_src.lessons.lesson_04.chain import variance
from lessons_src.oracle import GaussianMixture
from lessons_src.process import add_noise, posterior
from lessons_src.schedules import linear

START = 400  # the noisy time t of every leap
PAIRS = 300
LINE = torch.linspace(-4, 4, 801, dtype=torch.float64)
DATA = {
    "N(0, 1)": GaussianMixture([1.0], [[0.0]], [[[1.0]]]),
    "one point": GaussianMixture([1.0], [[0.5]], [[[1e-8]]]),
    "two humps": data.two_humps(),
}


@dataclass(frozen=True)
class Leap:
    """A step from START to s: dots (PAIRS, 2) of a noisy and a cleaner point, and densities of the cleaner on LINE.

    `sigma` is the standard deviation of the fresh noise that the step draws.
    """

    sigma: float
    true_pairs: Tensor
    our_pairs: Tensor
    true_law: Tensor
    our_law: Tensor

    def widths(self) -> tuple[float, float]:
        """Standard deviation of the true cleaner points, and of ours."""
        return _width(self.true_law), _width(self.our_law)

    def share(self) -> float:
        """The area that the two densities share, 1 if they are equal."""
        return torch.trapezoid(torch.minimum(self.true_law, self.our_law), LINE).item()


def leap(name: str, spread: str, s: int) -> Leap:
    """DDPM's step from START to s for points noised from DATA[name], with the exact prediction."""
    mixture, (ab_t, ab_s) = DATA[name], linear().alpha_bar[[START, s]].tolist()
    generator = torch.Generator().manual_seed(0)
    x0, _ = mixture.sample(PAIRS, generator)
    noise = torch.randn(3, PAIRS, 1, generator=generator, dtype=torch.float64)
    x_s = add_noise(x0, noise[0], ab_s)
    x_t = add_noise(x_s, noise[1], ab_t / ab_s)
    size = variance(spread, ab_t, ab_s)

    def mean(x: Tensor) -> Tensor:
        return posterior(x, mixture.x0(x, ab_t), ab_t, ab_s)[0]

    ours = mean(x_t) + math.sqrt(size) * noise[2]
    noisy, cleaner = mixture.log_density(LINE.unsqueeze(1), ab_t).exp(), mean(LINE.unsqueeze(1))[:, 0]
    if size > 0:
        spread_out = torch.exp(-((LINE - cleaner.unsqueeze(1)) ** 2) / (2 * size)) / math.sqrt(2 * math.pi * size)
        our_law = torch.trapezoid(noisy.unsqueeze(1) * spread_out, LINE, dim=0)
    else:  # the mean rises with x, so it only squeezes the density
        squeezed = noisy.numpy() / np.gradient(cleaner.numpy(), LINE.numpy())
        our_law = torch.from_numpy(np.interp(LINE.numpy(), cleaner.numpy(), squeezed, left=0, right=0))
    true_law = mixture.log_density(LINE.unsqueeze(1), ab_s).exp()
    return Leap(math.sqrt(size), torch.cat([x_t, x_s], 1), torch.cat([x_t, ours], 1), true_law, our_law)


def _width(law: Tensor) -> float:
    mean = torch.trapezoid(LINE * law, LINE)
    return torch.trapezoid((LINE - mean) ** 2 * law, LINE).sqrt().item()
