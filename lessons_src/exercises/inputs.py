"""Fresh random arguments for the exercises, small and well conditioned, all drawn from one generator."""

import torch
from torch import Tensor

from lessons_src.oracle import GaussianMixture, OracleNetwork
from lessons_src.schedules import NoiseSchedule


def normal(generator: torch.Generator, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Standard normal numbers of the given shape."""
    return torch.randn(shape, generator=generator, dtype=dtype)


def pair(generator: torch.Generator, *shape: int) -> tuple[Tensor, Tensor]:
    """Two tensors of standard normal numbers."""
    return normal(generator, *shape), normal(generator, *shape)


def uniform(generator: torch.Generator, low: float, high: float) -> float:
    """One number between low and high."""
    return low + (high - low) * torch.rand(1, generator=generator, dtype=torch.float64).item()


def whole(generator: torch.Generator, low: int, high: int) -> int:
    """One whole number from low to high, both included."""
    return int(torch.randint(low, high + 1, (1,), generator=generator))


def times(generator: torch.Generator, B: int, T: int) -> Tensor:
    """B times from 1 to T, (B,) int64, both ends among them."""
    t = torch.randint(1, T + 1, (B,), generator=generator)
    t[0], t[-1] = T, 1
    return t


def stream(generator: torch.Generator) -> torch.Generator:
    """A generator of its own, for a function that draws."""
    return torch.Generator().manual_seed(whole(generator, 0, 2**31 - 1))


def falling(generator: torch.Generator, T: int) -> Tensor:
    """An alpha_bar of shape (T + 1,), float64, from 1 down to almost nothing in unequal steps."""
    beta = 4 / T * (0.5 + torch.rand(T, generator=generator, dtype=torch.float64))
    return torch.cat([torch.ones(1, dtype=torch.float64), (1 - beta.clamp(max=0.9)).cumprod(0)])


def falling_times(generator: torch.Generator, T: int, steps: int) -> list[int]:
    """T, steps - 1 random times in between, and 0, falling."""
    inner = 1 + torch.randperm(T - 1, generator=generator)[: steps - 1]
    return [T, *inner.sort(descending=True).values.tolist(), 0]


def levels(generator: torch.Generator) -> tuple[float, float]:
    """alpha_bar at t and at a cleaner s, well apart from each other and from both ends."""
    ab_t = uniform(generator, 0.15, 0.55)
    return ab_t, ab_t + uniform(generator, 0.2, 0.7) * (1 - ab_t)


def network(generator: torch.Generator, alpha_bar: Tensor, classes: int = 3, dim: int = 2) -> OracleNetwork:
    """The exact predictor of a random mixture, net(x, t, label=None) -> eps, under the schedule alpha_bar."""
    means = 1.5 * normal(generator, classes, dim)
    spread = torch.eye(dim, dtype=torch.float64).expand(classes, dim, dim)
    mixture = GaussianMixture([1 / classes] * classes, means, uniform(generator, 0.05, 0.3) * spread)
    return mixture.network(NoiseSchedule(alpha_bar))
