"""How good are samples? What a network sees in them, beside real data: see `metrics` for the scores themselves.

The Frechet distance here is measured in the features of a small digit classifier, so it is called feature-Frechet
distance and never FID; it depends on the classifier, on the number of samples, and is biased upward for few of them.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lessons_src.checks import check_batch, check_finite, check_int, refuse
from lessons_src.metrics import frechet_distance, kernel_distance, nearest_distance, precision_recall
from lessons_src.networks import DigitClassifier
from lessons_src.oracle import GaussianMixture


@torch.no_grad()
def in_batches(function: Callable[[Tensor], Tensor], x: Tensor, size: int = 100) -> Tensor:
    """function(x) computed `size` samples at a time and joined, without gradients.

    A network, or a method of one, is in evaluation mode meanwhile: samples must not depend on those beside them.
    """
    check_int("size", size, 1)
    net = getattr(function, "__self__", function)
    if isinstance(net, nn.Module) and net.training:
        net.eval()
        try:
            return in_batches(function, x, size)
        finally:
            net.train()
    return torch.cat([function(part) for part in check_batch("x", x).split(size)])


def check_images(name: str, x: Tensor) -> Tensor:
    """Return samples x (n, *event), or raise: ValueError if not finite, or if images (n, C, H, W) are never negative.

    Networks here take images in [-1, 1], black is -1; those in [0, 1] would be judged as grey fog without a complaint.
    """
    check_finite(name, check_batch(name, x))
    if x.ndim == 4 and len(x) and x.min() >= 0:
        refuse(name, x, f"values from -1 to 1; these are from {x.min().item():.3g} to {x.max().item():.3g}")
    return x


class Reference:
    """The real side of comparisons, its features and neighbours computed once.

    features(x) are what distances are measured in, (n, d) for x (n, *event). images are held out, (m, *event). train is
    other real data, of classes train_label (k,): the floor is what draws from it score, and copies of it are looked
    for. Take features that learned from neither: those that learned from `train` see it, and what was made after it,
    with other eyes than `images`. Raises TypeError or ValueError for events of unequal shapes, for labels that are not
    one each, and as `check_images` does.
    """

    def __init__(
        self, features: Callable[[Tensor], Tensor], images: Tensor, train: Tensor, train_label: Tensor
    ) -> None:
        self.features, self.images = features, check_images("images", images)
        self.train, self.train_label = self._check("train", train), train_label
        check_one_each("train_label", train_label, "train", train)
        self.real = in_batches(features, images)

    def frechet(self, x: Tensor) -> float:
        """Feature-Frechet distance of x (n, *event) to the held-out images."""
        return frechet_distance(in_batches(self.features, self._check("x", x)), self.real)

    def floor(self, label: Tensor, draws: int = 10, seed: int = 0) -> tuple[float, float]:
        """What real samples of classes label (n,) score: mean and standard deviation over random draws from `train`.

        As many of each class, because draws of other class shares are farther away. Not the least there is: the two
        real sets may differ as two groups of writers do. Compare with samples by mean *and* spread. Raises ValueError
        unless n is more than the number of features, `train` has as many of each class, and there are two draws.
        """
        if label.ndim != 1 or len(label) <= self.real.shape[1]:
            refuse("label", label, f"shape (n,) with n > {self.real.shape[1]}, the number of features")
        check_int("draws", draws, 2)
        wanted = {c: int((label == c).sum()) for c in label.unique().tolist()}
        own = {c: (self.train_label == c).nonzero()[:, 0] for c in wanted}
        for c, count in wanted.items():
            if count > len(own[c]):
                refuse("label", label, f"at most {len(own[c])} of class {c}, as there are in train")
        generator, scores = torch.Generator().manual_seed(seed), torch.empty(draws, dtype=torch.float64)
        for k in range(draws):
            rows = [own[c][torch.randperm(len(own[c]), generator=generator)[:count]] for c, count in wanted.items()]
            scores[k] = frechet_distance(self._train_features[torch.cat(rows)], self.real)
        return scores.mean().item(), scores.std().item()

    def neighbour_ratio(self, x: Tensor) -> float:
        """Median distance to the nearest of `train`, over that of the held-out images: well below 1 means copies."""
        return self._distances(self._check("x", x)).median().item() / self._nearest

    def _check(self, name: str, x: Tensor) -> Tensor:
        if check_images(name, x).shape[1:] != self.images.shape[1:]:
            refuse(name, x, f"shape (n, {', '.join(map(str, self.images.shape[1:]))}), as the images have")
        return x

    def _distances(self, x: Tensor) -> Tensor:
        return nearest_distance(x.flatten(1), self.train.flatten(1))

    @cached_property
    def _train_features(self) -> Tensor:
        return in_batches(self.features, self.train)

    @cached_property
    def _nearest(self) -> float:
        return self._distances(self.images).median().item()


class Quality(NamedTuple):
    """Scores of a set of generated digits; report them together, with n."""

    n: int
    frechet: float
    floor: float
    floor_spread: float
    kernel: float
    precision: float
    recall: float
    accuracy: float
    neighbour_ratio: float


def digit_quality(reference: Reference, judge: DigitClassifier, x: Tensor, label: Tensor) -> Quality:
    """Judge generated digits x (n, 1, 28, 28) made for labels (n,).

    The scores are those of `metrics` in the features of `reference`; accuracy is the share that the judge reads as the
    wanted label. Raises ValueError for digits of one class only, which are far from digits of all.
    """
    read = accuracy(judge, x, label)
    if len(label.unique()) < 2:
        refuse("label", label, "at least two classes: the reference has them all")
    ratio = reference.neighbour_ratio(x)  # looks whether x is such as the images are
    features = in_batches(reference.features, x)
    return Quality(
        len(x),
        frechet_distance(features, reference.real),
        *reference.floor(label),
        kernel_distance(features, reference.real),
        *precision_recall(reference.real, features),
        read,
        ratio,
    )


def accuracy(classifier: nn.Module, x: Tensor, label: Tensor) -> float:
    """Share of x (n, 1, 28, 28) that the classifier, in evaluation mode, assigns to label (n,), n at least 1."""
    check_one_each("label", label, "x", check_images("x", x))
    return (in_batches(classifier, x).argmax(1) == label).double().mean().item()


def check_one_each(name: str, label: Any, of: str, x: Tensor) -> Tensor:
    """Return `label` if it is int64 of shape (n,) for n >= 1 samples x, else TypeError or ValueError."""
    if not len(x):
        refuse(of, x, "at least one sample")
    if not isinstance(label, Tensor) or label.dtype != torch.int64:
        refuse(name, label, f"int64 of shape ({len(x)},)", TypeError)
    if label.shape != x.shape[:1]:
        refuse(name, label, f"shape ({len(x)},), int64")
    return label


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
    if check_batch("x", x).shape[1:] != (mixture.dim,) or not len(x):
        refuse("x", x, f"shape (n, {mixture.dim}), n at least 1")
    x = check_finite("x", x).double()
    std = mixture.covariances[0, 0, 0].sqrt()
    gap, nearest = torch.cdist(x, mixture.means).min(1)
    near = gap < 3 * std
    spread = (gap[near].square().sum() / near.sum().clamp(min=1)).sqrt() / (std * x.shape[1] ** 0.5)
    return Modes(near.double().mean().item(), len(nearest[near].unique()), spread.item())
