"""Scores of samples: numbers computed from features or class probabilities, one idea each, with the paper it is from.

Features are float tensors (n, d), what a judge sees in n samples; it learned neither from them nor from what they are
compared with. Everything is computed in float64. Each score is blind to something.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lessons_src.checks import check_floating, check_int, check_real, refuse

CHUNK = 250  # rows whose distances to all others are computed at a time: they fit into a cache


def check_features(least: int = 1, **sets: Any) -> list[Tensor]:
    """The sets in float64. Raises TypeError or ValueError unless each is (n, d), finite, n >= least, one d for all."""
    d = None
    for name, features in sets.items():
        if check_floating(name, features, "shape (n, d)").ndim != 2 or len(features) < least or not features.shape[1]:
            refuse(name, features, f"shape (n, d) with n >= {least} and d >= 1")
        d = d or features.shape[1]
        if features.shape[1] != d:
            refuse(name, features, f"shape (n, {d}), with as many columns as the others have")
        if not features.double().sum().isfinite():  # ten times as fast as asking each
            refuse(name, features, "finite values")
    return [features.double() for features in sets.values()]


# --- Distances between distributions


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Squared Frechet distance between Gaussians fitted to features a (n, d) and b (m, d) (Heusel et al. 2017, eq. 6).

    Biased upward for few samples: see `at_infinity`. Raises ValueError for n or m of at most d, where a fitted Gaussian
    is flat in some direction, for other shapes, or for values that are not finite.
    """
    a, b = check_features(a=a, b=b)
    d = a.shape[1]
    for name, features in (("a", a), ("b", b)):
        if len(features) <= d:
            refuse(name, features, f"more rows than its {d} columns, or the covariance has no inverse")
    A, B = (torch.cov(features.T).reshape(d, d) for features in (a, b))
    return frechet_gaussians(a.mean(0), A, b.mean(0), B)


def frechet_gaussians(mean_a: Tensor, A: Tensor, mean_b: Tensor, B: Tensor) -> float:
    """||mean_a - mean_b||^2 + tr(A + B - 2 (A B)^(1/2)) of means (d,) and covariances (d, d) (Dowson & Landau 1982).

    Never negative. Raises ValueError for matrices of another shape, or that are not finite or not symmetric.
    """
    for name, matrix in (("A", A), ("B", B)):
        if matrix.shape != 2 * mean_a.shape or not matrix.isfinite().all() or not torch.allclose(matrix, matrix.mT):
            refuse(name, matrix, f"a finite, symmetric matrix, {len(mean_a)} x {len(mean_a)} as the mean has it")
    # tr (A B)^(1/2) = tr (A^(1/2) B A^(1/2))^(1/2), a symmetric matrix whose eigenvalues are not negative
    variances, axes = torch.linalg.eigh(A)
    root = axes * variances.clamp(min=0).sqrt() @ axes.T
    cross = torch.linalg.eigvalsh(root @ B @ root).clamp(min=0).sqrt().sum()
    distance = (mean_a - mean_b).square().sum() + A.trace() + B.trace() - 2 * cross
    return max(distance.item(), 0.0)


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """Kernel distance of features a (n, d) and b (m, d), without bias (Binkowski et al. 2018, KID).

    The squared maximum mean discrepancy under k(x, y) = (x . y / d + 1)^3, each row left out of its own mean: 0 on
    average for equal distributions, so single values may be negative.
    """
    a, b = check_features(least=2, a=a, b=b)
    n, m, d = len(a), len(b), a.shape[1]

    def total(x: Tensor, y: Tensor) -> Tensor:
        return torch.stack([(part / d @ y.T).add_(1).pow_(3).sum() for part in x.split(CHUNK)]).sum()

    def itself(x: Tensor) -> Tensor:
        return (x.square().sum(1) / d + 1).pow(3).sum()

    within_a, within_b = (total(a, a) - itself(a)) / (n * (n - 1)), (total(b, b) - itself(b)) / (m * (m - 1))
    return (within_a + within_b - 2 * total(a, b) / (n * m)).item()


def sliced_distance(a: Tensor, b: Tensor, directions: int = 64) -> float:
    """Sliced Wasserstein-1 distance of points in the plane, a and b (n, 2): a mean over directions (Rabin et al. 2011).

    Along a direction, points sorted by their shadow are partners; their mean distance says how far one law must be
    moved to become the other. Sets of n draws from one law are not at 0: compare with that.
    """
    a, b = check_features(a=a, b=b)
    if a.shape != b.shape or a.shape[1] != 2:
        refuse("b", b, f"as many points of the plane as a, which has shape {tuple(a.shape)}")
    angle = math.pi * torch.arange(check_int("directions", directions, 1), dtype=a.dtype) / directions
    axes = torch.stack([angle.cos(), angle.sin()])
    return ((a @ axes).sort(0).values - (b @ axes).sort(0).values).abs().mean().item()


class Extrapolated(NamedTuple):
    """A distance at infinitely many samples, and the `bias` that n of them add: bias / n."""

    value: float
    bias: float


def at_infinity(
    distance: Callable[[Tensor, Tensor], float],
    samples: Tensor,
    real: Tensor,
    sizes: Sequence[int],
    generator: torch.Generator,
    draws: int = 5,
) -> Extrapolated:
    """Fit distance = value + bias / n to random parts of samples (N, d), n of `sizes` (Chong & Forsyth 2020, FID_inf).

    Removes the bias that comes from few samples. That of a finite `real` stays, and is the same for every sampler that
    is compared with it. Raises ValueError unless there are two different sizes, from 2 to N.
    """
    samples, real = check_features(samples=samples, real=real)
    if not isinstance(sizes, Sequence) or len(set(sizes)) < 2:
        refuse("sizes", sizes, "at least two different sizes")
    check_int("draws", draws, 1)
    sizes = [check_int("sizes", n, 2, len(samples)) for n in sizes for _ in range(draws)]
    found = [distance(samples[torch.randperm(len(samples), generator=generator)[:n]], real) for n in sizes]
    line = torch.tensor([[1, 1 / n] for n in sizes], dtype=torch.float64)
    value, bias = torch.linalg.lstsq(line, torch.tensor(found, dtype=torch.float64)[:, None]).solution[:, 0].tolist()
    return Extrapolated(value, bias)


# --- Scores of class probabilities


def inception_score(probabilities: Tensor) -> float:
    """exp of the mean KL(p(y | x) || p(y)) of class probabilities (n, classes) (Salimans et al. 2016).

    From 1 to the number of classes. Never looks at real data, nor at variety within a class. Raises ValueError unless
    rows are probabilities.
    """
    (p,) = check_features(probabilities=probabilities)
    if (p < 0).any() or not torch.allclose(p.sum(1), torch.ones(len(p), dtype=p.dtype), atol=1e-4):
        refuse("probabilities", probabilities, "rows that are not negative and sum to 1")
    return (torch.special.xlogy(p, p) - torch.special.xlogy(p, p.mean(0))).sum(1).mean().exp().item()


# --- Neighbours


class PrecisionRecall(NamedTuple):
    """Share of samples that lie among the real ones, and share of real ones that lie among the samples."""

    precision: float
    recall: float


def precision_recall(real: Tensor, samples: Tensor, k: int = 3) -> PrecisionRecall:
    """Improved precision and recall of features (n, d) and (m, d) (Kynkaanniemi et al. 2019, eq. 1 and 2).

    A point is among a set if it lies no farther from one of its members than that one's k-th neighbour in the set. Both
    depend on n and m: compare at equal ones. Raises ValueError unless both are more than k.
    """
    check_int("k", k, 1)
    real, samples = check_features(least=k + 1, real=real, samples=samples)
    return PrecisionRecall(_share_within(samples, real, k), _share_within(real, samples, k))


def _share_within(x: Tensor, members: Tensor, k: int) -> float:
    """Share of x that lies in the union of balls around members, each as wide as its k-th neighbour is far."""
    parts = [torch.cdist(part, members).topk(k + 1, largest=False).values[:, k] for part in members.split(CHUNK)]
    radii = torch.cat(parts)  # the nearest of a member is itself: hence k + 1
    inside = [(torch.cdist(part, members) <= radii).any(1) for part in x.split(CHUNK)]
    return torch.cat(inside).double().mean().item()


def nearest_distance(x: Tensor, members: Tensor) -> Tensor:
    """Euclidean distance from each of x (n, d) to the nearest of members (m, d), shape (n,)."""
    x, members = check_features(x=x, members=members)
    return torch.cat([torch.cdist(part, members).amin(1) for part in x.split(CHUNK)])


class Copying(NamedTuple):
    """z far below 0: samples lie nearer to the training data than fresh real data do. `share` of them are suspects;
    of fresh real data, `expected` would be."""

    z: float
    share: float
    expected: float


def copying(samples: Tensor, train: Tensor, held_out: Tensor, alarm: float = 0.05) -> Copying:
    """Do samples (n, d) copy the training data? The test of Meehan et al. (2020), with the whole space as one cell.

    Compares distances to the nearest of `train` between samples and held-out real data (m, d), the null: z is the
    standardised statistic of Mann and Whitney. A suspect is nearer than all but a share `alarm` of the held-out data.
    """
    check_real("alarm", alarm, 0, 1)
    samples, train, held_out = check_features(samples=samples, train=train, held_out=held_out)
    ours, null = nearest_distance(samples, train), nearest_distance(held_out, train).sort().values
    n, m = len(ours), len(null)
    below, up_to = (torch.searchsorted(null, ours, right=right).double() for right in (False, True))
    u = ((below + up_to) / 2).sum().item()  # pairs in which the sample is farther away; ties count half
    limit = null.quantile(alarm)
    share, expected = ((distance < limit).double().mean().item() for distance in (ours, null))
    return Copying((u - n * m / 2) / math.sqrt(n * m * (n + m + 1) / 12), share, expected)


# --- Variety


def class_spread(features: Tensor, label: Tensor) -> float:
    """Root mean square distance of features (n, d) from the mean of their own class: how varied each class is.

    label is (n,) int64. Divide by the same for real samples. Raises ValueError for other shapes.
    """
    (features,) = check_features(features=features)
    if not isinstance(label, Tensor) or label.shape != features.shape[:1]:
        refuse("label", label, f"a tensor of shape ({len(features)},), one label a row of features")
    classes = [features[label == c] for c in label.unique()]
    return torch.cat([own - own.mean(0) for own in classes]).square().sum(1).mean().sqrt().item()


def kmeans(features: Tensor, count: int, generator: torch.Generator, rounds: int = 50) -> Tensor:
    """Centres (count, d) of clusters of features (n, d): k-means++ (Arthur & Vassilvitskii 2007).

    At most so many rounds of Lloyd's algorithm, from starts that are drawn far from each other.
    """
    (features,) = check_features(features=features)
    check_int("count", count, 1, len(features))
    centres = features[torch.randint(len(features), (1,), generator=generator)]
    while len(centres) < count:  # the next start: far from all so far, with a probability as the distance squared
        weight = torch.cdist(features, centres).amin(1).square() + 1e-12
        centres = torch.cat([centres, features[torch.multinomial(weight, 1, generator=generator)]])
    for _ in range(rounds):
        own = torch.cdist(features, centres).argmin(1)
        moved = torch.stack([features[own == c].mean(0) if (own == c).any() else centres[c] for c in range(count)])
        if torch.equal(moved, centres):
            break
        centres = moved
    return centres


def cluster_shares(features: Tensor, centres: Tensor) -> Tensor:
    """Share of features (n, d) nearest to each of centres (count, d), from `kmeans` of real data, or means of classes.

    A cluster is covered if samples have about the share that real data have in it.
    """
    features, centres = check_features(features=features, centres=centres)
    own = torch.cdist(features, centres).argmin(1)
    return torch.bincount(own, minlength=len(centres)).double() / len(features)


# --- Pictures and their captions


class CaptionScore(NamedTuple):
    """How well captions fit: the mean cosine, -1 to 1, and the mean of w max(cosine, 0)."""

    cosine: float
    rescaled: float


def caption_score(images: Tensor, texts: Tensor, w: float) -> CaptionScore:
    """How well images (n, d) fit their captions (n, d), both embedded by one network (CLIPScore, Hessel et al. 2021).

    w = 1 / (mean cosine of real pictures) makes theirs about 1; the paper takes 2.5, as CLIP's cosines seldom exceed
    0.4. Says whether what is asked for is there. Blind to variety and to copies, and never looks at real pictures.
    Raises ValueError for unequal shapes, rows of zeros, or w that is not above 0.
    """
    images, texts = check_features(images=images, texts=texts)
    check_real("w", w, 1e-9)
    if len(images) != len(texts):
        refuse("texts", texts, f"{len(images)} rows, one an image")
    for name, rows in (("images", images), ("texts", texts)):
        if not rows.any(1).all():
            refuse(name, rows, "no row of zeros, which has no direction")
    cosine = torch.cosine_similarity(images, texts)
    return CaptionScore(cosine.mean().item(), w * cosine.clamp(min=0).mean().item())


# --- How sure


class TwoSample(NamedTuple):
    """Accuracy of telling two sets apart on halves never trained on, and how likely so much is if they are alike."""

    accuracy: float
    p_value: float


def two_sample_test(a: Tensor, b: Tensor, generator: torch.Generator) -> TwoSample:
    """Classifier two-sample test of features a (n, d) and b (m, d) (Lopez-Paz & Oquab 2017), by logistic regression.

    Equally many of both, half to train on, half to test. Sees what a hyperplane in the features separates. Raises
    ValueError for fewer than eight rows.
    """
    a, b = check_features(least=8, a=a, b=b)
    half = min(len(a), len(b)) // 2
    a, b = (x[torch.randperm(len(x), generator=generator)[: 2 * half]] for x in (a, b))
    train, test = torch.cat([a[:half], b[:half]]), torch.cat([a[half:], b[half:]])
    is_b = (torch.arange(2 * half) >= half).double()
    mean, std = train.mean(0), train.std(0).clamp(min=1e-8)
    weight = _logistic_regression((train - mean) / std, is_b)
    right = (((test - mean) / std @ weight > 0) == is_b.bool()).double().mean().item()
    z = (right - 0.5) / math.sqrt(0.25 / (2 * half))  # normal for equal distributions
    return TwoSample(right, 0.5 * math.erfc(z / math.sqrt(2)))


def _logistic_regression(x: Tensor, y: Tensor, ridge: float = 0.01) -> Tensor:
    """Weights (d,) that fit sigmoid(x @ weight) to y in 0..1, classes of equal size, by Newton's method."""
    weight, penalty = x.new_zeros(x.shape[1]), ridge * torch.eye(x.shape[1], dtype=x.dtype)
    for _ in range(20):
        p = torch.sigmoid(x @ weight)
        gradient = x.T @ (p - y) / len(x) + penalty @ weight
        curvature = (x.T * (p * (1 - p))) @ x / len(x) + penalty
        weight = weight - torch.linalg.solve(curvature, gradient)
    return weight


class Interval(NamedTuple):
    """An estimate and the ends of its confidence interval."""

    value: float
    low: float
    high: float


def bootstrap(
    statistic: Callable[..., float],
    *paired: Tensor,
    generator: torch.Generator,
    draws: int = 1000,
    confidence: float = 0.95,
) -> Interval:
    """Percentile interval of statistic(*paired) when the rows are drawn again (Efron 1979).

    All tensors have n rows, and row i of each belongs to the same noise: the same rows are drawn from all of them, so
    that what two samplers share drops out of their difference. So does most of a bias, which drawing again adds to a
    Frechet distance by itself. Raises ValueError for unequal lengths.
    """
    check_int("draws", draws, 10)
    check_real("confidence", confidence, 0, 1)
    if not paired or len({len(rows) for rows in paired}) != 1:
        refuse("paired", [len(rows) for rows in paired], "at least one tensor, all with the same number of rows")
    n = check_int("len(paired)", len(paired[0]), 1)
    value, drawn = check_real("statistic(*paired)", statistic(*paired)), []
    for _ in range(draws):
        rows = torch.randint(n, (n,), generator=generator)
        drawn.append(check_real("statistic of rows drawn again", statistic(*(tensor[rows] for tensor in paired))))
    ends = torch.tensor([0.5 - confidence / 2, 0.5 + confidence / 2], dtype=torch.float64)
    low, high = torch.tensor(drawn, dtype=torch.float64).quantile(ends).tolist()
    return Interval(value, low, high)


def wilson_interval(hits: int, n: int, confidence: float = 0.95) -> Interval:
    """Interval of a share (Wilson 1927): wins of an A/B, or how often a test gives the alarm.

    Raises ValueError unless 0 <= hits <= n and n >= 1.
    """
    check_int("n", n, 1)
    check_int("hits", hits, 0, n)
    check_real("confidence", confidence, 0, 0.999999)
    z, p = math.sqrt(2) * torch.special.erfinv(torch.tensor(confidence, dtype=torch.float64)).item(), hits / n
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = ((middle + side * half) / (1 + z * z / n) for side in (-1, 1))
    return Interval(p, min(low, p), max(high, p))  # at 0 and n an end is p, but for rounding


# --- The report


@dataclass(frozen=True, kw_only=True)
class Report:
    """A score with all that it means nothing without: none of it can be left out. Printing it says all of it.

    n: samples judged. nfe: network evaluations a sample, both of guidance counted. w: guidance scale. floor: mean and
    standard deviation of what n real samples score (`Reference.floor`). judge: its name, and what it learned from.
    Raises TypeError or ValueError, by name, for what is missing or empty.
    """

    measure: str
    value: float
    n: int
    sampler: str
    nfe: int
    w: float
    floor: tuple[float, float]
    judge: str

    def __post_init__(self) -> None:
        for name in ("measure", "sampler", "judge"):
            said = getattr(self, name)
            if not isinstance(said, str) or not said.strip():
                refuse(name, said, "words")
        if not isinstance(self.floor, tuple) or len(self.floor) != 2:
            refuse("floor", self.floor, "mean and standard deviation of what n real samples score", TypeError)
        for name, number in (("value", self.value), ("w", self.w), ("floor", self.floor[0])):
            check_real(name, number)
        check_real("floor", self.floor[1], 0)
        check_int("n", self.n, 1)
        check_int("nfe", self.nfe, 0)

    def __str__(self) -> str:
        floor, spread = self.floor
        return (
            f"{self.measure} {self.value:.3g} (real samples: {floor:.3g} ± {spread:.2g}), {self.n:,} samples of "
            f"{self.sampler}, {self.nfe} network evaluations each, w = {self.w:g}; judge: {self.judge}"
        )
