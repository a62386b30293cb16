"""Measurements with the shipped digit network that take too long for a lesson: made once, read by the lessons.

`load(name)` reads the rows of one; `make measurements` makes those that are missing.
"""

import base64
import hashlib
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lessons_src import weights
from lessons_src.checks import check_choice
from lessons_src.guidance import classifier_free
from lessons_src.networks import NoisePredictor
from lessons_src.samplers import State, ddim, ddpm, sample
from lessons_src.schedules import time_grid

FOLDER = Path(str(files("lessons_src") / "assets" / "measurements"))
NAMES = (
    *("steps", "guidance", "recipes", "pareto", "starts", "detection"),
    *("reading", "steering", "ring", "ends", "students", "adapter", "collapse", "captions", "latent scale"),
    *("pixels", "rates", "edits", "paradigms", "drawers", "call"),
)
GUIDES = ("classifier", "noisy_classifier", "embedding", "noisy_embedding")
ALSO = {  # weights that a measurement needs beside those all do
    "reading": GUIDES,
    "steering": GUIDES,
    "students": ("student-1", "student-2", "student-4"),
    "adapter": ("student-2-guided",),
    "collapse": ("student-1",),
    "captions": ("scene_autoencoder", "scene_dit"),
    "latent scale": ("scene_autoencoder",),
    "pixels": ("scene_autoencoder",),
    "edits": ("scene_autoencoder", "scene_dit"),
}
SAMPLERS: dict[str, Callable[..., Any]] = {
    "DDIM": ddim,
    "DDPM, σ² = β̃": ddpm,
    "DDPM, σ² = β": partial(ddpm, variance="beta"),
}
AVERAGE_EPS = ("DPM-Solver-2", "PLMS", "Heun")  # of the solvers of the front; T of the cosine schedule throws them off
PARETO = ("DDPM", "DDIM", "DPM-Solver++(2M)", "DPM-Solver++(3M)", "SDE-DPM-Solver++(2M)", "UniPC-2", *AVERAGE_EPS)
STARTS = {"PLMS": (5, 10), "DPM-Solver-2": (5, 10, 50), "Heun": (9,), "UniPC-2": (5, 10)}  # solver -> evaluations
RECIPES: dict[str, dict[str, Any]] = {
    "as shipped, but 1,500 steps": {},
    "linear schedule": {"schedule": "linear"},
    "ε-prediction": {"prediction": "eps"},
    "ε-prediction, first call at t = 951": {"prediction": "eps", "grid": "ddim_uniform"},
    "float32": {"precision": "float32"},
    "blind to t": {"blind": True},
    "labels never dropped": {"label_drop": 0.0},
}

Row = dict[str, Any]


def start_noise(n: int) -> tuple[Tensor, Tensor]:
    """The start noise (n, 1, 28, 28) of every measurement, and the labels (n,) asked for: 0, 1, ..., 9, 0, ..."""
    return torch.randn(n, 1, 28, 28, generator=torch.Generator().manual_seed(7)), torch.arange(n) % 10


def draw(
    net: NoisePredictor, n: int, sampler: str = "DDIM", steps: int = 20, w: float = 1.0, grid: str = "linspace"
) -> Tensor:
    """n digits in [-1, 1] from `start_noise`, the same whatever n is up to batches of 100."""
    times, take = time_grid(net.schedule, steps, grid), SAMPLERS[check_choice("sampler", sampler, SAMPLERS)]
    return in_hundreds(net, n, w, lambda eps_fn, x, g: take(eps_fn, x, net.schedule, times, generator=g))


def in_hundreds(net: NoisePredictor, n: int, w: float, run: Callable[..., Iterator[State]]) -> Tensor:
    """n digits by run(eps_fn, noise, generator), a hundred at a time."""
    parts = []
    for i, (noise, label) in enumerate(zip(*(part.split(100) for part in start_noise(n)), strict=True)):
        generator = torch.Generator().manual_seed(i)
        parts.append(sample(run(classifier_free(net, label, w), noise, generator)))
    return torch.cat(parts).clamp(-1, 1)


def jackknife_error(left_out: Sequence[float]) -> float:
    """Standard error of a score, from its values when one of several equal parts of the samples is left out.

    The differences of such values of two scores on the same noise give the error of their difference (Efron 1982).
    """
    return ((len(left_out) - 1) * torch.tensor(left_out, dtype=torch.float64).var(correction=0)).sqrt().item()


def resample(label: Tensor, times: int = 200) -> Iterator[Tensor]:
    """Indices of `times` bootstrap samples of as many items (n,), each class drawn from itself (Efron 1979).

    They are the same in every call. So the scores of two samplers on the same noise, resampled with them, are pairs,
    and the spread of their differences is the standard error of the difference.
    """
    generator = torch.Generator().manual_seed(0)
    own = {c: (label == c).nonzero()[:, 0] for c in label.unique().tolist()}
    for _ in range(times):
        index = torch.empty_like(label)
        for items in own.values():
            index[items] = items[torch.randint(len(items), (len(items),), generator=generator)]
        yield index


def resampled(row: Row) -> Tensor:
    """The feature-Frechet distances of the bootstrap samples of a row, float32."""
    return torch.frombuffer(bytearray(base64.b64decode(row["resampled"])), dtype=torch.float32)


def digits_of(row: Row) -> Tensor:
    """The first digits of a row, (n, 1, 28, 28) float32 in [-1, 1], of labels 0 to 9, 0, ..., rounded to 256 greys."""
    grey = torch.frombuffer(bytearray(zlib.decompress(base64.b64decode(row["digits"]))), dtype=torch.uint8)
    return grey.view(-1, 1, 28, 28).float() / 127.5 - 1


def points_of(row: Row) -> Tensor:
    """The points of a row, (n, 2) float32."""
    return torch.frombuffer(bytearray(base64.b64decode(row["points"])), dtype=torch.float32).view(-1, 2)


def digest(name: str = "") -> str:
    """SHA-256 of the weights that a measurement needs, so that measurements of others are noticed.

    They are those that are measured, those that judge, and for some names those that steer or that are students.
    """
    files = (weights.FOLDER / f"{name}.safetensors" for name in ("digits", "judge", *ALSO.get(name, ())))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def load(name: str, folder: Path = FOLDER) -> list[Row]:
    """The rows of the measurement called `name`.

    Raises ValueError for an unknown name, and if it is missing or was made with other weights than those shipped.
    """
    path = folder / f"{check_choice('name', name, NAMES)}.json"
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read; make it with `make measurements`: {error}") from error
    if found["weights"] != digest(name):
        raise ValueError(f"{path} was measured with other weights; remove it and run `make measurements`")
    return found["rows"]
