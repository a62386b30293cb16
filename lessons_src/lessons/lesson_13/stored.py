"""The stored samples that lesson 13 judges, made by `make samples`, and the real digits they are compared with."""

import json
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lessons_src import data, weights
from lessons_src.evaluation import in_batches
from lessons_src.measurements import digest

FOLDER = data.ASSETS / "samples"


@cache
def stored(name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The arrays of the stored samples called `name`, and the card that says how they were made.

    Raises ValueError if the shipped network or the judge has changed since.
    """
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as archive:
        arrays = {key: torch.from_numpy(archive[key]) for key in archive.files}
    card = json.loads((FOLDER / f"{name}.json").read_text())
    if card.get("weights", digest()) != digest():
        raise ValueError(f"{name}.npz in {FOLDER} is of other weights; run `make samples`")
    return arrays, card


@cache
def seen(split: str) -> Tensor:
    """What the judge sees in the "train" or "test" digits, (N, 64)."""
    return in_batches(weights.load("judge")[0].features, data.digits(split)[0])
