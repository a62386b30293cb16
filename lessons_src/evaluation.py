"""How good are samples? Distances between sets of features, class accuracy, and distance to the training data.

The Frechet distance here is measured in the features of a small digit classifier, so it is called feature-Frechet
distance and never FID; it depends on the classifier, on the number of samples, and is biased upward for few of them.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lessons_src.checks import check_batch, refuse
from lessons_src.networks import DigitClassifier
from lessons_src.oracle import GaussianMixture


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Squared Frechet distance between Gaussians fitted to features a (n, d) and b (m, d) (Heusel et al. 2017, eq. 6).

    ||mean_a - mean_b||^2 + tr(A + B - 2 (A B)^(1/2)), in float64. Raises ValueError for fewer than two rows, other
    shapes, or values that are not finite.
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
    return float((a.mean(0) - b.mean(0)).square().sum() + A.trace() + B.trace() - 2 * cross)


@torch.no_grad()
def in_batches(function: Callable[[Tensor], Tensor], x: Tensor, size: int = 500) -> Tensor:
    """function(x) computed `size` samples at a time and joined, without gradients."""
    return torch.cat([function(part) for part in check_batch("x", x).split(size)])


class Quality(NamedTuple):
    """Scores of a set of generated digits; report them together, with n."""

    n: int
    frechet: float
    floor: float
    accuracy: float
    neighbour_ratio: float


def digit_quality(classifier: DigitClassifier, x: Tensor, label: Tensor, train: Tensor, test: Tensor) -> Quality:
    """Judge generated digits x (n, 1, 28, 28) made for labels (n,) against held-out and training digits.

    frechet: feature-Frechet distance to `test`. floor: the same between `train` and `test`, at the same n: what perfect
    samples would score. accuracy: share that the classifier reads as the wanted label. neighbour_ratio: median distance
    to the nearest training digit, divided by the same for `test`: well below 1 means copies of the training data.
    """
    n = len(x)
    if not 2 <= n <= len(train):
        refuse("x", x, f"from 2 to {len(train)} samples, as many as can be drawn from train for the floor")
    if label.shape != (n,):
        refuse("label", label, f"shape ({n},)")
    classifier.eval()
    real = in_batches(classifier.features, test)
    return Quality(
        n=n,
        frechet=frechet_distance(in_batches(classifier.features, x), real),
        floor=frechet_distance(in_batches(classifier.features, train[:n]), real),
        accuracy=accuracy(classifier, x, label),
        neighbour_ratio=nearest_distance(x, train).median().item() / nearest_distance(test, train).median().item(),
    )


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
    if features.ndim != 2 or label.shape != features.shape[:1] or not len(label):
        refuse("label", label, f"shape ({len(features)},), one label a row of features")
    classes = [features[label == c].double() for c in label.unique()]
    return torch.cat([own - own.mean(0) for own in classes]).square().sum(1).mean().sqrt().item()


def nearest_distance(x: Tensor, train: Tensor) -> Tensor:
    """Euclidean distance from each x to its nearest neighbour in `train`, shape (n,)."""
    flat = train.flatten(1)
    return in_batches(lambda part: torch.cdist(part.flatten(1), flat).min(1).values, x)


def on_target(mixture: GaussianMixture, x: Tensor) -> float:
    """Share of points within three standard deviations of the nearest mode of a mixture of round Gaussians."""
    std = mixture.covariances[0, 0, 0].sqrt()
    return float((torch.cdist(x, mixture.means).min(1).values < 3 * std).double().mean())
