"""Why a score sees what it sees: Gaussians around clouds of features, and balls around points."""

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Circle, Ellipse
from torch import Tensor

from lessons_src import weights
from lessons_src.evaluation import in_batches
from lessons_src.lessons.lesson_13.faults import FAULTS, junk, plant
from lessons_src.lessons.lesson_13.stored import seen
from lessons_src.metrics import PrecisionRecall, frechet_distance, precision_recall
from lessons_src.show import plots
from lessons_src.show.look import BLUE, GREEN, INK, VERMILLION

N = 1000  # samples in a cloud


# --- Gaussians around clouds


@cache
def clouds() -> dict[str, Tensor]:
    """What the judge sees in test digits, in blurred digits and in matched junk: features, float64 (n, 64)."""
    judge = weights.load("judge")[0]
    blurred = plant("blur", 1, N, torch.Generator().manual_seed(0)).x
    drawn = {"blurred digits": blurred, "matched junk": junk()}
    return {"real digits": seen("test").double()} | {
        name: in_batches(judge.features, x).double() for name, x in drawn.items()
    }


def widest(features: Tensor) -> Tensor:
    """The two directions (d, 2) in which features (n, d) are spread most."""
    return torch.linalg.eigh(torch.cov(features.T)).eigenvectors[:, -2:].flip(1)


def show_clouds() -> None:
    """Three clouds of features in two directions of 64, and two standard deviations of the Gaussians fitted to them."""
    found = clouds()
    real = found["real digits"]
    axes_of = widest(real)
    fig, axes = plots.figure(columns=3, width=9.2, height=3.4)
    for axis, (name, features), color in zip(axes[0], found.items(), (BLUE, VERMILLION, GREEN), strict=True):
        flat = features[:N] @ axes_of
        axis.scatter(*flat.T.numpy(), s=4, color=color, alpha=0.5, linewidths=0)
        _ellipse(axis, real @ axes_of, INK, "--")
        _ellipse(axis, features @ axes_of, color, "-")
        axis.set(title=name, xlim=(-29, 19), ylim=(-22, 22), xticks=[], yticks=[], aspect="equal")
    axes[0, 0].set(xlabel="direction of most spread", ylabel="the next one")
    distance = {name: frechet_distance(features, real) for name, features in found.items()}
    plots.show(
        fig,
        f"{N:,} points each, two directions out of {real.shape[1]}. Ellipses are two standard deviations; dashed: of "
        f"the real digits. Blur makes the cloud smaller: distance {distance['blurred digits']:.1f}. The junk has the "
        f"Gaussian of real digits, and no digit in it: distance {distance['matched junk']:.2f}.",
    )


def _ellipse(axis: Axes, flat: Tensor, color: str, dash: str) -> None:
    """Two standard deviations of the Gaussian fitted to points (n, 2)."""
    variances, directions = torch.linalg.eigh(torch.cov(flat.T))
    width, height = (4 * variances.sqrt()).tolist()
    angle = torch.atan2(directions[1, 0], directions[0, 0]).rad2deg().item()
    shape = Ellipse(flat.mean(0).tolist(), width, height, angle=angle, fill=False, color=color, ls=dash, lw=1.8)
    axis.add_patch(shape)


# --- Balls around points


class Toy(NamedTuple):
    """Two sets of points in the plane: (n, 2) and (m, 2)."""

    real: Tensor
    samples: Tensor


@cache
def toy() -> Toy:
    """Real points in two groups; samples in one of the groups, and a few where nothing real is."""
    generator = torch.Generator().manual_seed(4)

    def group(n: int, x: float, y: float) -> Tensor:
        return 0.4 * torch.randn(n, 2, generator=generator, dtype=torch.float64) + torch.tensor([x, y])

    return Toy(torch.cat([group(14, -1.5, 0), group(14, 1.5, 0)]), torch.cat([group(18, -1.5, 0), group(6, -1.3, 2.4)]))


def radius(members: Tensor, k: int = 3) -> Tensor:
    """How far the k-th neighbour of each of members (n, d) is, (n,)."""
    return torch.cdist(members, members).topk(k + 1, largest=False).values[:, k]


def show_balls() -> None:
    """Precision: samples in the balls of real points. Recall: real points in the balls of samples."""
    real, samples = toy()
    found: PrecisionRecall = precision_recall(real, samples)
    fig, axes = plots.figure(columns=2, width=8.2, height=4.1)
    for axis, members, x, color, title in (
        (axes[0, 0], real, samples, BLUE, f"precision {found.precision:.2f}: samples among real"),
        (axes[0, 1], samples, real, VERMILLION, f"recall {found.recall:.2f}: real among samples"),
    ):
        far = radius(members)
        for centre, r in zip(members.tolist(), far.tolist(), strict=True):
            axis.add_patch(Circle(centre, r, color=color, alpha=0.1, lw=0))
        inside = ((torch.cdist(x, members) <= far).any(1)).numpy()
        mark = "o" if x is real else "s"
        other = BLUE if x is real else VERMILLION
        axis.plot(*members.T.numpy(), "s" if x is real else "o", color=color, ms=3, alpha=0.6)
        points = np.asarray(x)
        axis.plot(*points[inside].T, mark, color=other, ms=6)
        axis.plot(*points[~inside].T, mark, color=other, ms=6, mfc="none")
        axis.set(title=title, xlim=(-3.2, 3.2), ylim=(-1.7, 3.7), xticks=[], yticks=[], aspect="equal")
    plots.show(
        fig,
        "Circles are real points, squares are samples. Each ball reaches to the third neighbour in its own set. Left: "
        f"{found.precision:.2f} of the samples lie in a ball of a real point, open marks do not. "
        f"Right: {found.recall:.2f} of the real points lie in a ball of a sample; a whole group is missed.",
    )


# --- What a person sees beside a distance


def gallery() -> dict[str, tuple[Tensor, float]]:
    """Sets of N samples that all have one fault, and their Fréchet distance to the test digits."""
    features, real = weights.load("judge")[0].features, seen("test").double()
    sets = {name: plant(name, 1, N, torch.Generator().manual_seed(0)).x for name in FAULTS}
    return {name: (x, frechet_distance(in_batches(features, x).double(), real)) for name, x in sets.items()}


def show_gallery() -> None:
    """Ten samples with each fault beside the distance of a thousand such samples, the smallest distance first."""
    found = dict(sorted(gallery().items(), key=lambda item: item[1][1]))
    plots.image_rows(
        {f"{name}: {distance:.2g}": x[:10] for name, (x, distance) in found.items()},
        f"Ten of {N:,} samples that have a fault, and the Fréchet distance of all {N:,}. The smallest distance belongs "
        f"to {next(iter(found))}.",
    )
