"""What the tests share: one thread, no network, repeatable hypothesis, the mixtures and schedules of the numbers."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports diffusers

import pytest
import torch
from hypothesis import settings
from torch import Tensor

from lessons_src import samplers
from lessons_src.oracle import GaussianMixture
from lessons_src.schedules import SCHEDULES, NoiseSchedule

torch.set_num_threads(1)
settings.register_profile("course", deadline=None, derandomize=True, database=None, max_examples=30)
settings.load_profile("course")


@pytest.fixture(scope="session")
def gmm_a() -> GaussianMixture:
    """One dimension, two modes: 0.3 N(-1, 0.15^2) + 0.7 N(0.8, 0.25^2)."""
    return GaussianMixture([0.3, 0.7], [[-1.0], [0.8]], [[[0.15**2]], [[0.25**2]]])


@pytest.fixture(scope="session")
def gmm_b() -> GaussianMixture:
    """Two dimensions, three correlated modes."""
    return GaussianMixture(
        [0.2, 0.5, 0.3],
        [[1.0, 0.0], [-1.0, 0.5], [0.0, -1.5]],
        [[[0.2, 0.05], [0.05, 0.1]], [[0.3, -0.1], [-0.1, 0.2]], [[0.1, 0.0], [0.0, 0.4]]],
    )


@pytest.fixture(scope="session")
def two_classes() -> GaussianMixture:
    """One dimension, two overlapping classes: N(1, 1/4) is class 0, N(-1, 1/4) class 1."""
    return GaussianMixture([0.5, 0.5], [[1.0], [-1.0]], [[[0.25]], [[0.25]]])


@pytest.fixture(scope="session")
def schedules() -> dict[str, NoiseSchedule]:
    """Every schedule by name, with its default parameters (T = 1000)."""
    return {name: build() for name, build in SCHEDULES.items()}


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def noise_calls(monkeypatch) -> list[Tensor]:
    """Replaces the samplers' fresh noise by zeros and lists every request for it."""
    calls: list[Tensor] = []

    def no_noise(x: Tensor, generator: torch.Generator | None) -> Tensor:
        calls.append(x)
        return torch.zeros_like(x)

    monkeypatch.setattr(samplers, "noise_like", no_noise)
    return calls
