"""Draw the digits that the blind comparison of lesson 13 shows: `make pairs`, ten minutes of one core.

Both samplers start from the same noise, with the same labels, and w = 1.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lessons_src import measurements, weights
from lessons_src.files import write_whole
from lessons_src.lessons.lesson_13.votes import GREYS, PAIRS, drawn_by
from lessons_src.networks import NoisePredictor

SETS, SIZE = 6, 4  # of each label, and digits in each


def in_sets(x: Tensor) -> np.ndarray:
    """Digits of labels 0, 1, ..., 9, 0, ... (10 * sets * SIZE, 1, 28, 28) in [-1, 1] as sets of one label each.

    uint8 (10 * sets, SIZE, 28, 28) from 0 to GREYS - 1: eyes do not miss the other greys, and the file is a third.
    """
    grey = ((x.clamp(-1, 1) + 1) / 2 * (GREYS - 1)).round().byte()
    return grey.view(-1, SIZE, 10, 28, 28).transpose(1, 2).reshape(-1, SIZE, 28, 28).numpy()


def make(net: NoisePredictor, path: Path, sets: int = SETS, ddpm_steps: int = 1000) -> None:
    """Draw as many digits by either sampler, and write them with the digest of the weights that drew them."""
    n = 10 * sets * SIZE
    a = in_sets(measurements.draw(net, n, "DDIM", 20))
    b = in_sets(measurements.draw(net, n, "DDPM, σ² = β̃", ddpm_steps))

    def fill(part: Path) -> None:
        with part.open("wb") as file:
            np.savez_compressed(file, a=a, b=b, weights=drawn_by())

    write_whole(path, fill)


def main() -> None:
    """Write the pairs that ship."""
    argparse.ArgumentParser(prog="python -m lessons_src.make.pairs", description=main.__doc__).parse_args()
    torch.set_num_threads(1)
    make(weights.load("digits")[0], PAIRS)


if __name__ == "__main__":
    main()
