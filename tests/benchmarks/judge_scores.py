"""Judges of digits that no generator has seen, and what they measure: kept apart from how the digits were made."""

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from steps import set_tf32
from torch import Tensor, nn
from torch.nn import functional as F

from lessons_src import data, weights
from lessons_src.evaluation import in_batches
from lessons_src.files import write_whole
from lessons_src.metrics import class_spread
from lessons_src.networks import DigitClassifier

OLD = "old"  # the course's first judge, trained on the generator's own digits
CHUNK = 1000


class PlacedClassifier(nn.Module):
    """Another classifier of digits: strided convolutions of 5 and 3 pixels, and features that know places."""

    event = (1, 28, 28)
    num_classes = 10

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, 32, 5, stride=2, padding=2), nn.GroupNorm(4, 32), nn.SiLU(),
            nn.Conv2d(32, 48, 3, stride=2, padding=1), nn.GroupNorm(4, 48), nn.SiLU(),
            nn.Conv2d(48, 48, 3, padding=1), nn.GroupNorm(4, 48), nn.SiLU(),
            nn.Conv2d(48, 24, 1),
        )  # fmt: skip
        self.narrow = nn.Linear(24 * 49, 64)
        self.head = nn.Linear(64, 10)

    def features(self, x: Tensor) -> Tensor:
        """Features (B, 64) of images (B, 1, 28, 28) in [-1, 1]."""
        return self.narrow(self.convolutions(x).flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        """Class logits (B, 10)."""
        return self.head(F.relu(self.features(x)))


ARCHITECTURES: dict[str, Callable[[], Any]] = {
    "DigitClassifier": DigitClassifier,
    "PlacedClassifier": PlacedClassifier,
}


@contextmanager
def exact() -> Iterator[None]:
    """Without TF32 inside, with it afterwards."""
    set_tf32(False)
    try:
        yield
    finally:
        set_tf32(True)


def apart(x: Tensor, y: Tensor) -> Tensor:
    """Distances of rows, without the products that lose the digits of small ones."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


# --- Distances --------------------------------------------------------------------------------------------------------


class Gauss(NamedTuple):
    """A Gaussian fitted to features, in float64, with the root of its covariance."""

    mean: Tensor
    covariance: Tensor
    root: Tensor

    @classmethod
    def fit(cls, features: Tensor) -> "Gauss":
        """The Gaussian of features (n, d)."""
        features = features.double()
        covariance = torch.cov(features.T)
        values, axes = torch.linalg.eigh(covariance)
        return cls(features.mean(0), covariance, axes * values.clamp(min=0).sqrt() @ axes.T)

    def frechet(self, features: Tensor) -> float:
        """Squared Frechet distance of features (n, d), as `metrics.frechet_distance`."""
        features = features.double()
        covariance = torch.cov(features.T)
        cross = torch.linalg.eigvalsh(self.root @ covariance @ self.root).clamp(min=0).sqrt().sum()
        square = (features.mean(0) - self.mean).square().sum()
        return max((square + covariance.trace() + self.covariance.trace() - 2 * cross).item(), 0.0)


def by_size(reference: Gauss, features: Tensor, sizes: Sequence[int]) -> dict[str, float]:
    """Mean Frechet distance of the parts of so many rows, and the line through 1 / n at 1 / n = 0."""
    found = {}
    for n in sorted({size for size in sizes if 2 <= size <= len(features)}):
        parts = [part for part in features.split(n) if len(part) == n][:10]
        found[n] = sum(reference.frechet(part) for part in parts) / len(parts)
    return {f"n={n}": value for n, value in found.items()} | line_to_zero(found)


def line_to_zero(found: dict[int, float]) -> dict[str, float]:
    """The straight line through values against 1 / n, at infinite n, and its slope."""
    if len(found) < 2:
        return {}
    x, y = [1 / n for n in found], list(found.values())
    mx, my = sum(x) / len(x), sum(y) / len(y)
    slope = sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / sum((a - mx) ** 2 for a in x)
    return {"n=inf": my - slope * mx, "slope": slope}


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """Unbiased squared maximum mean discrepancy under (x y / d + 1)^3 (Binkowski et al. 2018)."""
    a, b = a.double(), b.double()

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.T / x.shape[1] + 1) ** 3

    within = [(k.sum() - k.diagonal().sum()) / (len(k) * (len(k) - 1)) for k in (kernel(a, a), kernel(b, b))]
    return (within[0] + within[1] - 2 * kernel(a, b).mean()).item()


def balls(features: Tensor, k: int = 3) -> Tensor:
    """Squared distance of each row to its k-th nearest other row."""
    return apart(features, features).square().kthvalue(min(k + 1, len(features)), 1).values


def precision_recall(real: Tensor, drawn: Tensor) -> dict[str, float]:
    """Improved precision and recall, k = 3 (Kynkaanniemi et al. 2019), and coverage (Naeem et al. 2020)."""
    between = apart(drawn, real).square()
    inside = between <= balls(real)
    return {
        "precision": inside.any(1).double().mean().item(),
        "recall": (between <= balls(drawn)[:, None]).any(0).double().mean().item(),
        "coverage": inside.any(0).double().mean().item(),
    }


# --- Judges -----------------------------------------------------------------------------------------------------------


class Judges:
    """All judges there are, with what they see in the real digits.

    The reference is the 2,000 test digits. `train` is 2,000 of the generator's digits, as another reference.
    """

    def __init__(
        self, device: torch.device, folder: Path, only: Sequence[str], sizes: Sequence[int], most: int = 10_000
    ) -> None:
        self.device, self.sizes = device, sizes
        self.readers = {OLD: weights.load("classifier")[0]}
        for path in sorted(folder.glob("judge_*.safetensors")):
            if not only or path.stem in only:
                self.readers[path.stem] = read_judge(path)
        self.readers = {name: net.to(device).eval().requires_grad_(False) for name, net in self.readers.items()}
        (x, y), (x_test, y_test) = data.digits("train"), data.digits("test")
        x, y, x_test, y_test = x[:most], y[:most], x_test[: most // 5], y_test[: most // 5]
        self.x, self.y, self.x_test, self.y_test = x.to(device), y, x_test.to(device), y_test
        self.real = {name: self.features(name, self.x_test) for name in self.readers}
        self.train = {name: self.features(name, self.x) for name in self.readers}
        self.reference = {name: Gauss.fit(real.cpu()) for name, real in self.real.items()}
        picked = torch.randperm(len(x), generator=torch.Generator().manual_seed(5))
        self.in_reference, self.outside = picked[: most // 5], picked[most // 5 :]
        self.train_reference = {name: Gauss.fit(self.train[name].cpu()[self.in_reference]) for name in self.readers}

    @torch.no_grad()
    def features(self, name: str, x: Tensor) -> Tensor:
        """What a judge sees in x, without TF32, on the device."""
        with exact():
            return in_batches(self.readers[name].features, x.to(self.device), CHUNK)

    @torch.no_grad()
    def read(self, name: str, features: Tensor) -> Tensor:
        """Probabilities of the classes, (n, 10), on the CPU."""
        return self.readers[name].head(F.relu(features)).softmax(1).cpu()

    def scores(self, x: Tensor, label: Tensor | None) -> dict[str, dict[str, Any]]:
        """Everything about images x (n, 1, 28, 28), by judge; label is (n,) on the CPU, or None if none was asked."""
        return {name: self.by(name, x, label) for name in self.readers}

    def by(self, name: str, x: Tensor, label: Tensor | None) -> dict[str, Any]:
        """Everything that one judge says about x."""
        seen = self.features(name, x.clamp(-1, 1))
        on_cpu, probability = seen.cpu(), self.read(name, seen)
        found: dict[str, Any] = {"n": len(x), "frechet": self.reference[name].frechet(on_cpu)}
        found |= {f"frechet {key}": value for key, value in by_size(self.reference[name], on_cpu, self.sizes).items()}
        found["frechet to train"] = self.train_reference[name].frechet(on_cpu)
        found["kernel distance"] = kernel_distance(seen[:2000], self.real[name])
        found |= precision_recall(self.real[name], seen[:2000])
        if label is None:
            found["fractions"] = (torch.bincount(probability.argmax(1), minlength=10).double() / len(x)).tolist()
            found["mean highest probability"] = probability.max(1).values.double().mean().item()
        else:
            found["accuracy"] = (probability.argmax(1) == label).double().mean().item()
            found["spread"] = class_spread(on_cpu, label)
        return found

    def floors(self, name: str, draws: int, sizes: Sequence[int]) -> dict[str, Any]:
        """What real digits score: means and spreads over repeated draws, by size and kind."""
        generator = torch.Generator().manual_seed(0)
        train, real, reference = self.train[name].cpu(), self.real[name].cpu(), self.reference[name]
        classes = [(self.y == c).nonzero().flatten() for c in range(10)]

        def random(n: int) -> Tensor:
            return train[torch.randperm(len(train), generator=generator)[:n]]

        def balanced(n: int) -> Tensor:
            parts = [own[torch.randperm(len(own), generator=generator)[: n // 10]] for own in classes]
            return train[torch.cat(parts)]

        def outside(n: int) -> Tensor:
            return train[self.outside[torch.randperm(len(self.outside), generator=generator)[:n]]]

        found: dict[str, Any] = {}
        for kind, draw, against, most in (
            ("train digits to test digits", random, reference, 8000),
            ("train digits, classes balanced, to test digits", balanced, reference, 8000),
            ("train digits to 2,000 other train digits", outside, self.train_reference[name], 4000),
        ):
            rows, means = {}, {}
            for n in sizes:
                if n <= most:
                    values = torch.tensor([against.frechet(draw(n)) for _ in range(draws)], dtype=torch.float64)
                    means[n] = values.mean().item()
                    rows[f"n={n}"] = {"mean": means[n], "std": values.std().item(), "least": values.min().item()}
            found[kind] = rows | line_to_zero(means)
        halves, half = [], len(real) // 2
        for _ in range(draws):
            order = torch.randperm(len(real), generator=generator)
            halves.append(Gauss.fit(real[order[:half]]).frechet(real[order[half:]]))
        values = torch.tensor(halves, dtype=torch.float64)
        found["test halves"] = {"mean": values.mean().item(), "std": values.std().item(), "n": half}
        found["spread"] = {"test": class_spread(real, self.y_test), "train": class_spread(train, self.y)}
        some = torch.randperm(len(train), generator=generator)[:2000]
        found["train digits as samples"] = precision_recall(self.real[name], self.train[name][some.to(self.device)])
        for split, seen, label in (("test", self.real[name], self.y_test), ("train", self.train[name], self.y)):
            probability = self.read(name, seen)
            found[f"accuracy on {split} digits"] = (probability.argmax(1) == label).double().mean().item()
            found[f"mean highest probability on {split} digits"] = probability.max(1).values.double().mean().item()
        return found


def write_judge(path: Path, net: nn.Module, about: dict[str, Any]) -> None:
    """Weights in half precision, with what they are."""
    kept = {
        key: value.half().contiguous().cpu() for key, value in net.state_dict().items() if value.is_floating_point()
    }
    text = {key: json.dumps(value) for key, value in about.items()}
    write_whole(path, lambda part: save_file(kept, part, text))


def read_judge(path: Path) -> nn.Module:
    """A judge as it was written."""
    with safe_open(path, "pt") as file:
        net = ARCHITECTURES[json.loads(file.metadata()["architecture"])]()
    net.load_state_dict({key: value.float() for key, value in load_file(path).items()}, strict=False)
    return net


def awaited(folder: Path, names: Sequence[str], until: float) -> bool:
    """Whether all of these judges are there; waits for them until then (time.time())."""
    while not all((folder / f"{name}.safetensors").exists() for name in names):
        if time.time() > until:
            return False
        time.sleep(0.5)
    return True


# --- Copies -----------------------------------------------------------------------------------------------------------


def two_nearest(x: Tensor, known: Tensor) -> Tensor:
    """Distances from each x to its two nearest of `known`, in pixels, (n, 2)."""
    flat = known.flatten(1)
    return in_batches(lambda part: apart(part.flatten(1), flat).topk(2, largest=False).values, x, CHUNK)


def copying(x: Tensor, train: Tensor, held_out: Tensor) -> dict[str, Any]:
    """Whether x are copies of `train`: distances beside those of real digits that nobody trained on.

    `nearer to train` compares with equally many held-out digits: one half if nothing is copied. `ratio test` is the
    share of x whose nearest training digit is nearer, beside the second, than for 5 % of held-out digits.
    """
    equal = held_out[: len(train)]
    mine, null, other = two_nearest(x, train), two_nearest(held_out[:2000], train), two_nearest(x, equal)
    ratio, null_ratio = (d[:, 0] / d[:, 1].clamp(min=1e-9) for d in (mine, null))
    n, nearer = len(x), (mine[:, 0] < other[:, 0]).double().mean().item()
    points = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95], device=x.device)
    return {
        "nearer to train": nearer,
        "standard errors above one half": (nearer - 0.5) / math.sqrt(0.25 / n),
        "held-out digits compared with": len(equal),
        "median distance": mine[:, 0].median().item(),
        "median distance of held-out digits": null[:, 0].median().item(),
        "neighbour ratio": (mine[:, 0].median() / null[:, 0].median()).item(),
        "median ratio of the two nearest": ratio.median().item(),
        "the same of held-out digits": null_ratio.median().item(),
        "ratio test": (ratio < null_ratio.quantile(0.05)).double().mean().item(),
        "ratio below 1/3": (ratio < 1 / 3).double().mean().item(),
        "ratio below 1/3, held-out digits": (null_ratio < 1 / 3).double().mean().item(),
        "distance quantiles": mine[:, 0].quantile(points).tolist(),
        "distance quantiles of held-out digits": null[:, 0].quantile(points).tolist(),
        "training digits that are someone's nearest": len(in_nearest(x, train)),
    }


def in_nearest(x: Tensor, train: Tensor) -> Tensor:
    """The training digits that are the nearest of some x."""
    flat = train.flatten(1)
    return in_batches(lambda part: apart(part.flatten(1), flat).argmin(1)[:, None], x, CHUNK).unique()
