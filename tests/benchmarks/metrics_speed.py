"""Seconds that distances and neighbour scores take, beside torchmetrics on the same features.

OMP_NUM_THREADS=1 python tests/benchmarks/metrics_speed.py   (in turns, least of three, processor seconds of one thread)

Two sets of n normal features of 64 numbers, as a judge of digits gives. torchmetrics gets them as if a network had made
them just now; its kernel distance once over all, as here, and once as it is by default, the mean of 100 subsets of
1,000. It has no precision and recall: scipy's trees stand in. Loading is not on the clock.
"""

import argparse
import importlib.metadata
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from scipy.spatial import KDTree
from torch import Tensor
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from lessons_src.metrics import frechet_distance, kernel_distance, precision_recall

D = 64


class Given(torch.nn.Module):
    """A network that hands on what it gets."""

    num_features = D

    def __init__(self) -> None:
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Features (n, 64) as they are."""
        return x


def torchmetrics_frechet(a: Tensor, b: Tensor) -> float:
    """In float64, as `metrics.frechet_distance`."""
    metric = FrechetInceptionDistance(feature=Given()).set_dtype(torch.float64)
    metric.update(a, real=True)
    metric.update(b, real=False)
    return metric.compute().item()


def torchmetrics_kernel(subsets: int, size: int | None) -> Callable[[Tensor, Tensor], float]:
    """Over all rows if size is None."""

    def distance(a: Tensor, b: Tensor) -> float:
        metric = KernelInceptionDistance(feature=Given(), subsets=subsets, subset_size=size or len(a))
        metric.update(a, real=True)
        metric.update(b, real=False)
        return metric.compute()[0].item()

    return distance


def trees(a: Tensor, b: Tensor, k: int = 3) -> float:
    """Distances to k-th neighbours from scipy's trees, then all pairs in chunks, as precision; and the other way."""

    def share_within(x: np.ndarray, members: np.ndarray) -> float:
        radii = KDTree(members).query(members, k + 1)[0][:, k]
        squares = (members**2).sum(1)
        inside = [
            ((part**2).sum(1)[:, None] + squares - 2 * part @ members.T <= radii**2).any(1)
            for part in np.array_split(x, max(1, len(x) // 1000))
        ]
        return float(np.concatenate(inside).mean())

    real, samples = a.numpy(), b.numpy()
    share_within(real, samples)
    return share_within(samples, real)


CONTESTANTS: dict[str, Callable[[Tensor, Tensor], float]] = {
    "Frechet, here": frechet_distance,
    "Frechet, torchmetrics": torchmetrics_frechet,
    "kernel distance, here": kernel_distance,
    "kernel distance, torchmetrics, once over all": torchmetrics_kernel(1, None),
    "kernel distance, torchmetrics, 100 subsets": torchmetrics_kernel(100, 1000),
    "precision and recall, here": lambda a, b: precision_recall(a, b).precision,
    "precision and recall, scipy": trees,
}
SAME = (
    ("Frechet, here", "Frechet, torchmetrics"),
    ("kernel distance, here", "kernel distance, torchmetrics, once over all"),
)


def main() -> None:
    """Print the table; the same quantities must agree."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 5000, 10_000])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module="torchmetrics")
    print({name: importlib.metadata.version(name) for name in ("torch", "torchmetrics", "scipy")})
    seconds = {name: dict.fromkeys(options.sizes, float("inf")) for name in CONTESTANTS}
    for n in options.sizes:
        generator = torch.Generator().manual_seed(n)
        a = torch.randn(n, D, generator=generator, dtype=torch.float64)
        b = 0.1 + 1.05 * torch.randn(n, D, generator=generator, dtype=torch.float64)
        found = {}
        for _ in range(options.rounds):
            for name, measure in CONTESTANTS.items():
                start = time.process_time()
                found[name] = measure(a, b)
                seconds[name][n] = min(seconds[name][n], time.process_time() - start)
        for ours, theirs in SAME:
            assert abs(found[ours] - found[theirs]) < 1e-5 * (1 + abs(found[theirs])), (found[ours], found[theirs])
    print(f"{'n':46}" + "".join(f"{n:>10,}" for n in options.sizes))
    for name, row in seconds.items():
        print(f"{name:46}" + "".join(f"{value:10.3f}" for value in row.values()))


if __name__ == "__main__":
    main()
