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
from lessons_src.scenes import HUES, RELATIONS, SHAPES, SIDE, SIZES, parse, tokens, trained
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
def formed(caption: str, w: float, steps: int, solver: str, noise: Tensor) -> tuple[list[int], Tensor]:
    """Times, and the decoded states (F, B, 3, 32, 32) there, on the way from noise (B, 4, 8, 8) to pictures."""
    net, codec = shipped()
    chosen, times = SOLVERS[solver], time_grid(net.schedule, steps)
    random = {"generator": torch.Generator().manual_seed(0)} if chosen.random else {}
    states = chosen.run(classifier_free(net, tokens([caption]), w), noise, net.schedule, times, **random)
    latents = [(times[0], noise), *((state.t, state.x) for state in states)]
    return [t for t, _ in latents], torch.stack([codec.decode(z) for _, z in latents])


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
    if relation != ALONE and kind.split()[1] == other_kind.split()[1]:
        empty = Images("Nothing to draw", np.full((1, 1, SIDE, SIDE), 128, np.uint8))
        return Picture([empty], "In these scenes two objects never share a hue. Choose another one for the second.")
    times, frames = formed(caption, w, steps, solver, noise_of(SHOWN, seed))
    right, words = verdicts(frames[-1], caption)
    attributes = [name for name in ATTRIBUTES[:-1] if name != "relation" or relation != ALONE]
    told = ", ".join(f"{name} {sum(right[name])}" for name in attributes)
    known = trained(parse([caption])).item()
    return Picture(
        [Images(f"{SHOWN} noises on their way, decoded", colour(frames), words, at_end=True)],
        f"w = {w:g}, {steps} steps of {solver}. Right in how many of {SHOWN}: {told}; all of it {sum(right['all'])}. "
        f"In training there were {'such' if known else 'no such'} combinations of hue and shape.",
        frame_label="Watch",
        frame_names=[f"t = {t}" for t in times],
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
            Choice("other_kind", "a", KINDS, "large blue"),
            Choice("other_shape", "shape", list(SHAPES), "triangle"),
            Slider("w", "Guidance scale w", 0.0, 12.0, 0.5, 2.0),
            Choice("solver", "Sampler", list(OFFERED), OFFERED[0]),
            Slider("steps", "Steps", 1, 40, 1, 12),
            Slider("seed", "Seed of the noise", 0, 50, 1, 0),
        ],
    )
