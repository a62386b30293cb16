"""The needles: what metrics say of samples, all of them at once, and how they scatter for real digits.

Each has a bad side: the one on which its users look for faults. A needle beyond the alarm on its other side says that
the samples are better than real digits, which nobody takes for a fault.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lessons_src import captions, data, weights
from lessons_src.evaluation import in_batches
from lessons_src.lessons.lesson_13.faults import learned
from lessons_src.metrics import copying, frechet_distance, inception_score, nearest_distance, two_sample_test
from lessons_src.networks import JointEmbedding

BAD = {  # needle -> its bad side
    "Fréchet": "high",
    "kernel": "high",
    "inception": "low",
    "precision": "low",
    "recall": "low",
    "accuracy": "low",
    "captions": "low",
    "neighbour ratio": "low",
    "copying z": "low",
    "two-sample": "high",
}
OTHER = {"low": "high", "high": "low"}


class Seen(NamedTuple):
    """What is seen in pictures, a row for each: features (n, d) and class probabilities (n, 10) of a judge, distance
    (n,) to the nearest digit that was learned, and cosines (n, 10) with the captions "a zero" to "a nine"."""

    features: Tensor
    probabilities: Tensor
    nearest: Tensor
    fits: Tensor

    def take(self, rows: Tensor) -> "Seen":
        """What is seen in some of them."""
        return Seen(*(part[rows] for part in self))

    def but(self, rows: Tensor, others: "Seen") -> "Seen":
        """The same but for some rows, where it is what `others` are, in that order."""
        return Seen(*(part.index_copy(0, rows, other) for part, other in zip(self, others, strict=True)))


class Bench:
    """A judge beside its 2,000 test digits, which it sees once: all that `read` compares samples with."""

    def __init__(self, judge: Any) -> None:
        self.judge, self.known = judge, learned().x.flatten(1)
        real = self.look(data.digits("test")[0])
        self.real, self.held_out = real.features.double(), real.nearest
        self.radius, self.within = _radius(self.real), _mean_kernel(self.real)

    def look(self, x: Tensor) -> Seen:
        """What is seen in pictures x (n, 1, 28, 28)."""
        features = in_batches(self.judge.features, x)
        with torch.no_grad():
            probabilities = self.judge.head(features.relu()).softmax(1)
        return Seen(features, probabilities, nearest_distance(x.flatten(1), self.known), _cosines(x))

    def read(self, seen: Seen, label: Tensor, generator: torch.Generator) -> dict[str, float]:
        """All needles for samples in which this is seen, and for which label (n,) was asked.

        The scores of `metrics`, with what belongs to the real side computed once. generator: for the two-sample test.
        """
        features, rows = seen.features.double(), torch.arange(len(label))
        between = torch.cdist(features, self.real)
        cross = (features @ self.real.T / features.shape[1] + 1).pow(3).mean()
        line = torch.zeros(1, 1)  # distances are their own distances from 0
        return {
            "Fréchet": frechet_distance(features, self.real),
            "kernel": (_mean_kernel(features) + self.within - 2 * cross).item(),
            "inception": inception_score(seen.probabilities),
            "precision": (between <= self.radius).any(1).double().mean().item(),
            "recall": (between <= _radius(features)[:, None]).any(0).double().mean().item(),
            "accuracy": (seen.probabilities.argmax(1) == label).double().mean().item(),
            "captions": seen.fits[rows, label].double().mean().item(),
            "neighbour ratio": (seen.nearest.median() / self.held_out.median()).item(),
            "copying z": copying(seen.nearest[:, None], line, self.held_out[:, None]).z,
            "two-sample": two_sample_test(features, self.real, generator).accuracy,
        }


@cache
def _embedding() -> tuple[JointEmbedding, Tensor]:
    """The shipped joint embedding, and where the captions of the ten digits lie in it, (10, d)."""
    net = weights.load("embedding")[0]
    alone = captions.UNSAID.repeat(10, 1)
    alone[:, 0] = torch.arange(10)
    with torch.no_grad():
        return net, net.text(captions.tokens(captions.write(alone)))


def _cosines(x: Tensor) -> Tensor:
    """Of pictures x (n, 1, 28, 28) with the captions "a zero" to "a nine", (n, 10)."""
    net, texts = _embedding()
    with torch.no_grad():
        return in_batches(net.image, x) @ texts.T


def _radius(features: Tensor, k: int = 3) -> Tensor:
    """Distance of each of features (n, d) to its k-th neighbour, (n,)."""
    return torch.cdist(features, features).topk(k + 1, largest=False).values[:, k]


def _mean_kernel(features: Tensor) -> Tensor:
    """Mean of (x . y / d + 1)^3 over pairs of different rows of features (n, d)."""
    n, d = features.shape
    kernel = (features @ features.T / d + 1).pow(3)
    return (kernel.sum() - kernel.trace()) / (n * (n - 1))


class Band(NamedTuple):
    """Where a needle stands for real digits: mean and standard deviation, and the values beyond which it gives alarm
    on either side."""

    mean: float
    std: float
    low: float
    high: float

    def alarm(self, value: float, side: str) -> bool:
        """Is a value beyond the alarm on that side, "low" or "high"?"""
        return value < self.low if side == "low" else value > self.high

    def turned(self, value: float) -> float:
        """A value in standard deviations from the mean."""
        return (value - self.mean) / self.std


def bands(null: list[Mapping[str, float]], alarm: float = 0.05, widen: float = 1.0) -> dict[str, Band]:
    """The bands of needles, from what they say of several sets of real digits.

    Of one more such set, each side gives the alarm with a probability of at most `alarm`: if the k-th from the end is
    the limit, with k / (number of sets + 1). The limits are moved away from the median by the factor `widen`.
    """
    beyond = int(alarm * (len(null) + 1))
    found = {}
    for name in null[0]:
        values = torch.tensor([said[name] for said in null], dtype=torch.float64).sort().values
        middle = values.quantile(0.5)
        low, high = ((middle + widen * (limit - middle)).item() for limit in (values[beyond - 1], values[-beyond]))
        found[name] = Band(values.mean().item(), values.std().item(), low, high)
    return found
