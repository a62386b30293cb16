"""Draw pictures that are no digits, but whose features have the mean and the covariance of real ones.

`python -m lessons_src.make.junk` writes them. Gradients go through the judge into the pixels, until the Frechet
distance, which sees nothing but those moments, finds nothing left.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lessons_src import data, weights
from lessons_src.evaluation import in_batches
from lessons_src.files import write_whole
from lessons_src.lessons.lesson_13.faults import GREYS, JUNK, as_pictures
from lessons_src.metrics import frechet_distance
from lessons_src.networks import DigitClassifier

COUNT, SIDE, STEPS, RATE = 1000, 14, 300, 0.25  # ten minutes of one core


def distance(features: Tensor, mean: Tensor, root: Tensor) -> Tensor:
    """Frechet distance of features (n, d), with gradients, to a Gaussian without the trace of its own covariance.

    root is that of the covariance. The derivative of the root of an eigenvalue is kept finite.
    """
    features = features.double()
    covariance = torch.cov(features.T)
    cross = torch.linalg.eigvalsh(root @ covariance @ root).clamp(min=1e-9).sqrt().sum()
    return (features.mean(0) - mean).square().sum() + covariance.trace() - 2 * cross


def draw_junk(judge: DigitClassifier, real: Tensor, count: int = COUNT, steps: int = STEPS) -> Tensor:
    """Junk (count, SIDE, SIDE), whole numbers below GREYS, whose moments are those of real features (n, d).

    From random dots, by Adam (Kingma & Ba 2015) on all pictures at once. Greys are rounded on the way forward only.
    """
    judge.requires_grad_(False)
    real = real.double()
    values, axes = torch.linalg.eigh(torch.cov(real.T))
    mean, root = real.mean(0), axes * values.clamp(min=0).sqrt() @ axes.T
    generator = torch.Generator().manual_seed(0)
    ink = 1.5 * torch.randn(count, SIDE, SIDE, generator=generator) - 1
    optimizer = torch.optim.Adam([ink.requires_grad_()], lr=RATE, betas=(0.9, 0.99))
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = RATE * min(1, 2 * (1 - step / steps))
        grey = (GREYS - 1) * ink.sigmoid()
        pictures = as_pictures(grey + (grey.round() - grey).detach())
        features = torch.cat([judge.features(part) for part in pictures.split(100)])
        loss = distance(features, mean, root)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 0:
            print(f"step {step}: {loss.item() + values.sum().item():.4f}", flush=True)
    return ((GREYS - 1) * ink.detach().sigmoid()).round().byte()


def main() -> None:
    """Draw the junk that ships."""
    argparse.ArgumentParser(prog="python -m lessons_src.make.junk", description=main.__doc__).parse_args()
    torch.set_num_threads(1)
    judge, _ = weights.load("judge")
    real = in_batches(judge.features, data.digits("test")[0])
    junk = draw_junk(judge, real)
    found = frechet_distance(in_batches(judge.features, as_pictures(junk)), real)
    print(f"feature-Frechet distance of {len(junk)} to the test digits: {found:.4f}")
    write_whole(JUNK, lambda part: _write(part, junk))


def _write(path: Path, junk: Tensor) -> None:
    with path.open("wb") as file:  # savez would add .npz to a name
        np.savez_compressed(file, junk=junk.numpy())


if __name__ == "__main__":
    main()
