"""What tests of samplers share: seeded draws, and a predictor that is nobody's optimum."""

import torch
from torch import Tensor


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def wavy(x: Tensor, t: Tensor) -> Tensor:
    """Some elementwise predictor that depends on x and on t."""
    return torch.sin(2 * x) + t.to(x).reshape(-1, *[1] * (x.ndim - 1)) / 1000
