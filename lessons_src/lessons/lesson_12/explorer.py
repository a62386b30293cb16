"""To play with in lesson 12: build a caption, and watch pictures of it form."""

from collections.abc import Iterator
from functools import cache

import numpy as np
import torch
from torch import Tensor

from lessons_src import weights
from lessons_src.guidance import classifier_free
from lessons_src.latent import Autoencoder
from lessons_src.lessons.lesson_12.measured import noise_of
from lessons_src.networks import NoisePredictor
from lessons_src.scene_checker import ATTRIBUTES, judge, read
from lessons_src.scenes import HUES, RELATIONS, SHAPES, SIDE, SIZES, parse, tokens
from lessons_src.schedules import time_grid
from lessons_src.show.panels import Images, Picture, colour
from lessons_src.show.widgets import Choice, Explorer, Slider, rough_first
from lessons_src.solvers import SOLVERS

SHOWN = 4  # pictures of a caption, each from its own noise
ROUGH_STEPS = 6
ALONE = "alone"
KINDS = [f"{size} {hue}" for hue in HUES for size in SIZES]
OFFERED = ("DPM-Solver++(2M)", "UniPC-2", "DDIM", "DDPM")


@cache
def shipped() -> tuple[NoisePredictor, Autoencoder]:
    """The shipped transformer, and the autoencoder in whose latents it draws."""
    return weights.load("scene_dit")[0], weights.load("scene_autoencoder")[0]


def caption_of(kind: str, shape: str, relation: str, other_kind: str, other_shape: str) -> str:
    """The caption that the menus say."""
    first = f"a {kind} {shape}"
    return first if relation == ALONE else f"{first} {relation} a {other_kind} {other_shape}"


@torch.no_grad()
def formed(caption: str, w: float, steps: int, solver: str, noise: Tensor) -> Tensor:
    """The decoded states (F, B, 3, 32, 32) on the way from noise (B, 4, 8, 8) to pictures."""
    net, codec = shipped()
    chosen, times = SOLVERS[solver], time_grid(net.schedule, steps)
    random = {"generator": torch.Generator().manual_seed(0)} if chosen.random else {}
    states = chosen.run(classifier_free(net, tokens([caption]), w), noise, net.schedule, times, **random)
    return torch.stack([codec.decode(z) for z in (noise, *(state.x for state in states))])


def verdicts(pictures: Tensor, caption: str) -> tuple[dict[str, list[bool]], list[str]]:
    """What the checker finds right of each attribute in pictures (B, 3, 32, 32), and a few words for each picture."""
    asked = parse([caption])[torch.zeros(len(pictures), dtype=torch.int64)]
    right = {name: part.tolist() for name, part in judge(read(pictures), asked).items()}
    words = []
    for k in range(len(pictures)):
        wrong = [name for name in ATTRIBUTES[:-1] if not right[name][k]]
        words.append(f"✗ {', '.join(wrong)}" if wrong else "✓ all right")
    return right, words


def captions_picture(
    kind: str,
    shape: str,
    relation: str,
    other_kind: str,
    other_shape: str,
    w: float,
    solver: str,
    seed: int,
    steps: int,
) -> Picture:
    """Pictures of one caption from the noises of a seed, as they form, and what a checker reads in them."""
    caption = caption_of(kind, shape, relation, other_kind, other_shape)
    names = [f"t = {t}" for t in time_grid(shipped()[0].schedule, steps)]
    title = f"{SHOWN} pictures, each from its own noise"
    if relation != ALONE and kind.split()[1] == other_kind.split()[1]:
        empty = Images(title, np.full((len(names), SHOWN, SIDE, SIDE), 128, np.uint8), ["–"] * SHOWN)
        text = "Here two objects never share a hue. Choose another one for the second."
        return Picture([empty], text, frame_label="Watch", frame_names=names, formula=f"“{caption}”")
    frames = formed(caption, w, steps, solver, noise_of(SHOWN, seed))
    right, words = verdicts(frames[-1], caption)
    attributes = [name for name in ATTRIBUTES[:-1] if name != "relation" or relation != ALONE]
    wrong = [f"{name} in {SHOWN - sum(right[name])}" for name in attributes if not all(right[name])]
    return Picture(
        [Images(title, colour(frames), words, at_end=True)],
        f"w = {w:g}, {steps} steps: the checker finds {sum(right['all'])} of {SHOWN} all right"
        + (f"; wrong: {', '.join(wrong)}." if wrong else "."),
        frame_label="Watch",
        frame_names=names,
        formula=f"“{caption}”",
        plays=True,
    )


def _pictures(steps: int, **values: object) -> Iterator[Picture]:
    return rough_first(captions_picture, ROUGH_STEPS, steps, **values)


def explore_captions() -> Explorer:
    """Build a caption from menus; choose the guidance scale, the solver, its steps, and the noise."""
    return Explorer(
        _pictures,
        [
            Choice("kind", "A", KINDS, "small red"),
            Choice("shape", "shape", list(SHAPES), "circle"),
            Choice("relation", "which is", [ALONE, *RELATIONS], "left of"),
            Choice("other_kind", "a", KINDS, "large blue", unless=("relation", ALONE)),
            Choice("other_shape", "shape", list(SHAPES), "triangle", unless=("relation", ALONE)),
            Slider("w", "Guidance w", 0.0, 12.0, 0.5, 2.0),
            Slider("steps", "Steps", 1, 40, 1, 12),
            Slider("seed", "Noise (seed)", 0, 50, 1, 0),
            Choice("solver", "Sampler", list(OFFERED), OFFERED[0]),
        ],
    )
