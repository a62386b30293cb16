"""How good are samples? Distances between sets of features, class accuracy, and distance to the training data.

The Frechet distance here is measured in the features of a small digit classifier, so it is called feature-Frechet
distance and never FID; it depends on the classifier, on the number of samples, and is biased upward for few of them.
"""

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lessons_src.checks import check_batch, check_int, refuse
from lessons_src.networks import DigitClassifier
from lessons_src.oracle import GaussianMixture


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Squared Frechet distance between Gaussians fitted to features a (n, d) and b (m, d) (Heusel et al. 2017, eq. 6).

    ||mean_a - mean_b||^2 + tr(A + B - 2 (A B)^(1/2)), in float64, never negative. Raises ValueError for fewer than two
    rows, other shapes, or values that are not finite.
    """
    for name, features in (("a", a), ("b", b)):
        if features.ndim != 2 or len(features) < 2 or features.shape[1] != a.shape[1]:
            refuse(name, features, "features of shape (n, d) with n >= 2 and one d for both")
        if not features.isfinite().all():
            refuse(name, features, "finite values")
    a, b = a.double(), b.double()
    A, B = (torch.cov(features.T).reshape(a.shape[1], -1) for features in (a, b))
    # tr (A B)^(1/2) = tr (A^(1/2) B A^(1/2))^(1/2), a symmetric matrix whose eigenvalues are not negative
    variances, axes = torch.linalg.eigh(A)
    root = axes * variances.clamp(min=0).sqrt() @ axes.T
    cross = torch.linalg.eigvalsh(root @ B @ root).clamp(min=0).sqrt().sum()
    distance = (a.mean(0) - b.mean(0)).square().sum() + A.trace() + B.trace() - 2 * cross
    return max(distance.item(), 0.0)


@torch.no_grad()
def in_batches(function: Callable[[Tensor], Tensor], x: Tensor, size: int = 100) -> Tensor:
    """function(x) computed `size` samples at a time and joined, without gradients."""
    return torch.cat([function(part) for part in check_batch("x", x).split(size)])


class Reference:
    """The real side of comparisons, its features and neighbours computed once.

    features(x) are what distances are measured in, (n, d) for x (n, *event). images are held out, (m, *event). train is
    other real data: the floor is what draws from it score, and copies of it are looked for. Features that were trained
    on `train` know it better than `images`, which moves the floor.
    """

    def __init__(self, features: Callable[[Tensor], Tensor], images: Tensor, train: Tensor) -> None:
        self.features, self.images, self.train = features, images, train
        self.real = in_batches(features, images)

    def frechet(self, x: Tensor) -> float:
        """Feature-Frechet distance of x (n, *event) to the held-out images."""
        return frechet_distance(in_batches(self.features, x), self.real)

    def floor(self, n: int, draws: int = 10, seed: int = 0) -> tuple[float, float]:
        """What n real samples score: mean and standard deviation over random draws from `train`.

        Not the score of perfect samples: features trained on `train` see it with other eyes than `images`, and draws of
        uneven class shares are farther away than even ones. Generated samples may score less.
        Raises ValueError unless 2 <= n <= len(train) and there are at least two draws.
        """
        check_int("n", n, 2, len(self.train))
        check_int("draws", draws, 2)
        generator = torch.Generator().manual_seed(seed)
        drawn = [self._train_features[torch.randperm(len(self.train), generator=generator)[:n]] for _ in range(draws)]
        scores = torch.tensor([frechet_distance(features, self.real) for features in drawn])
        return scores.mean().item(), scores.std().item()

    def neighbour_ratio(self, x: Tensor) -> float:
        """Median distance to the nearest of `train`, over that of the held-out images: well below 1 means copies."""
        return nearest_distance(x, self.train).median().item() / self._nearest

    @cached_property
    def _train_features(self) -> Tensor:
        return in_batches(self.features, self.train)

    @cached_property
    def _nearest(self) -> float:
        return nearest_distance(self.images, self.train).median().item()


class Quality(NamedTuple):
    """Scores of a set of generated digits; report them together, with n."""

    n: int
    frechet: float
    floor: float
    floor_spread: float
    accuracy: float
    neighbour_ratio: float


def digit_quality(reference: Reference, classifier: DigitClassifier, x: Tensor, label: Tensor) -> Quality:
    """Judge generated digits x (n, 1, 28, 28) made for labels (n,).

    frechet, floor with its spread, and neighbour_ratio are `reference`'s; accuracy is the share that the classifier
    reads as the wanted label.
    """
    floor, spread = reference.floor(len(x))
    read = accuracy(classifier, x, label)
    return Quality(len(x), reference.frechet(x), floor, spread, read, reference.neighbour_ratio(x))


def accuracy(classifier: nn.Module, x: Tensor, label: Tensor) -> float:
    """Share of x (n, 1, 28, 28) that the classifier, put into evaluation mode, assigns to label (n,)."""
    if label.shape != x.shape[:1]:
        refuse("label", label, f"shape ({len(x)},)")
    classifier.eval()
    return (in_batches(classifier, x).argmax(1) == label).double().mean().item()


def class_spread(features: Tensor, label: Tensor) -> float:
    """Root mean square distance of features (n, d) from the mean of their own class: how varied each class is.

    label is (n,) int64. Divide by the same for real samples. Raises ValueError for other shapes.
    """
    if features.ndim != 2 or not len(features):
        refuse("features", features, "shape (n, d), at least one row")
    if label.shape != features.shape[:1]:
        refuse("label", label, f"shape ({len(features)},), one label a row of features")
    classes = [features[label == c].double() for c in label.unique()]
    return torch.cat([own - own.mean(0) for own in classes]).square().sum(1).mean().sqrt().item()


def nearest_distance(x: Tensor, train: Tensor) -> Tensor:
    """Euclidean distance from each x to its nearest neighbour in `train`, shape (n,)."""
    flat = train.flatten(1)
    return in_batches(lambda part: torch.cdist(part.flatten(1), flat).min(1).values, x)


def on_target(mixture: GaussianMixture, x: Tensor) -> float:
    """Share of points within three standard deviations of the nearest mode of a mixture of round Gaussians.

    Points that all lie on one mode score 1: see `modes` for what this does not.
    """
    return modes(mixture, x).on_target


class Modes(NamedTuple):
    """How points lie on the modes of a mixture: share on target, modes hit, and spread within a mode (data: 1)."""

    on_target: float
    hit: int
    spread: float


def modes(mixture: GaussianMixture, x: Tensor) -> Modes:
    """Compare points (n, d) with a mixture of equal round Gaussians; on target is within three standard deviations.

    spread is the root mean square distance of those on target from their mode, over what the data have (a little less
    than 1 for data, of which few lie outside; 0 for points that all lie on modes, or if none is on target).
    """
    std = mixture.covariances[0, 0, 0].sqrt()
    gap, nearest = torch.cdist(x, mixture.means).min(1)
    near = gap < 3 * std
    spread = (gap[near].square().sum() / near.sum().clamp(min=1)).sqrt() / (std * x.shape[1] ** 0.5)
    return Modes(near.double().mean().item(), len(nearest[near].unique()), spread.item())
