"""Guides on exact laws, where the right gradient is known: who points the right way, at which noise level?"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lessons_src import data
from lessons_src.guidance import classifier, gradient
from lessons_src.losses import Classification, NoisyClassification, Samples
from lessons_src.metrics import Interval, bootstrap
from lessons_src.oracle import GaussianMixture, exact_flow
from lessons_src.process import Level, add_noise, noise_like, signal_and_noise
from lessons_src.schedules import NoiseSchedule
from lessons_src.training import Recipe, Trainer, train

LEARNING = Recipe(steps=1500, batch_size=256, learning_rate=3e-3, ema=0.99)  # 3 seconds
EXACT, CLEAN_EXACT, AWARE, CLEAN = "exact", "exact on clean data only", "learned, knows noise", "learned, clean"

LogProb = Callable[[Tensor, float], Tensor]  # of x (B, d) and alpha_bar: log p(class | x), (B, classes)


class PointClassifier(nn.Module):
    """MLP that reads points (B, 2) at a noise level alpha_bar: logits (B, num_classes)."""

    event = (2,)

    def __init__(self, num_classes: int, width: int = 64) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.layers = nn.Sequential(
            nn.Linear(4, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, num_classes)
        )

    def forward(self, x: Tensor, alpha_bar: Level = 1.0) -> Tensor:
        """A clean point is what is meant when no level is said. Logits are of the weights' precision."""
        x = x.to(self.layers[0].weight)
        level = [
            torch.as_tensor(part).to(x).reshape(-1, 1).expand(len(x), 1) for part in signal_and_noise(alpha_bar, x)
        ]
        return level[0] * self.layers(torch.cat([x, *level], 1))  # as `networks.NoisyDigitClassifier` does


@cache
def learned(aware: bool) -> PointClassifier:
    """A classifier of `data.ring()`, learned from 20,000 points: noised to all levels, or as they are.

    It learns in double precision, so that its far-off gradients are the same digits on every processor.
    """
    mixture = data.ring()
    x, label = mixture.sample(20_000, torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    loss = NoisyClassification(shift=0) if aware else Classification(shift=0)
    net = PointClassifier(mixture.num_classes).double()
    return train(Trainer(net, loss, Samples(x.float(), label), LEARNING)).eval()


def guides() -> dict[str, LogProb]:
    """Four classifiers of `data.ring()`: the exact one, the one exact for clean data, and two that learned."""
    ring = data.ring()
    return {  # those that learned do so when they are asked first
        EXACT: ring.log_class_posterior,
        CLEAN_EXACT: lambda x, alpha_bar: ring.log_class_posterior(x, 1.0),
        AWARE: lambda x, alpha_bar: learned(True)(x, alpha_bar).log_softmax(1),
        CLEAN: lambda x, alpha_bar: learned(False)(x).log_softmax(1),
    }


class Agreement(NamedTuple):
    """Beside the exact gradient: the mean cosine with its interval, and how many times as long (of root mean squares).

    accuracy is the share of points whose class is read rightly.
    """

    cosine: Interval
    longer: float
    accuracy: float


def arrows(log_prob: LogProb, x: Tensor, alpha_bar: float, label: int | Tensor) -> Tensor:
    """grad_x log p(label | x) of points x (B, d) at one noise level, label one for all or (B,); (B, d)."""
    own = torch.as_tensor(label).expand(len(x))

    def log_p(x: Tensor, t: Tensor) -> Tensor:
        return log_prob(x, alpha_bar).gather(1, own[:, None])[:, 0]

    return gradient(log_p, x, torch.ones(len(x), dtype=torch.int64))


@cache
def agreement(name: str, alpha_bar: float, n: int = 1000) -> Agreement:
    """How a guide's gradient agrees with the exact one on n noisy points of the ring, another class than theirs wanted.

    For the own class the gradient vanishes where nothing is in doubt, and has no direction left.
    """
    ring, generator = data.ring(), torch.Generator().manual_seed(1)
    x0, label = ring.sample(n, generator)
    x = add_noise(x0, noise_like(x0, generator), alpha_bar)
    wanted = (label + torch.randint(1, ring.num_classes, (n,), generator=generator)) % ring.num_classes
    guide = guides()[name]
    mine, right = arrows(guide, x, alpha_bar, wanted), arrows(ring.log_class_posterior, x, alpha_bar, wanted)
    cosine = bootstrap(
        lambda values: values.mean().item(), F.cosine_similarity(mine, right), generator=generator, draws=200
    )
    with torch.no_grad():
        read = (guide(x, alpha_bar).argmax(1) == label).double().mean().item()
    return Agreement(cosine, (mine.square().mean() / right.square().mean()).sqrt().item(), read)


def guided_flow(mixture: GaussianMixture, guide: LogProb, label: int, w: float, x: Tensor, start: float) -> Tensor:
    """Points x (B, d) at the level `start` followed to clean data, steered by a guide through `guidance.classifier`."""

    def eps(x: Tensor, alpha_bar: float) -> Tensor:
        schedule = NoiseSchedule(torch.tensor([1, alpha_bar], dtype=torch.float64))
        t = torch.ones(len(x), dtype=torch.int64)
        eps_fn = classifier(mixture.network(schedule), lambda x, t: guide(x, alpha_bar), schedule, label, w)
        return eps_fn(x, t)

    return exact_flow(eps, x, start, steps=200)
