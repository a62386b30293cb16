"""What lesson 12 stores: what is drawn of captions at each guidance scale, and what the scale of latents does."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lessons_src import weights
from lessons_src.latent import Autoencoder
from lessons_src.losses import Denoising, Samples
from lessons_src.networks import NoisePredictor
from lessons_src.scene_checker import ATTRIBUTES, OVERLAP, UNSURE, Reading, judge, read
from lessons_src.scenes import SETS, Meaning, Scenes, combinations, draw, tokens, write
from lessons_src.schedules import cosine
from lessons_src.text_to_image import CaptionUNet, captioned, illustrate
from lessons_src.training import Recipe, Trainer

SCENES = 6000  # that a small network learns from
JUDGED = 400  # captions for each of its numbers
STEPS = 600
STRICTER = 0.03  # more overlap than the checker asks for
SEED = 99  # of captions, and of the noise
WHOSE = ("its own", "the other's", "another", "unsure", "no such object")


def small_network(seed: int = 0) -> NoisePredictor:
    """An untrained U-Net for latents that is taught in about a minute, its weights drawn by a seed."""
    torch.manual_seed(seed)
    return NoisePredictor(CaptionUNet(channels=(32, 48), text=(32, 1)), cosine(), "v")


def single_scenes(codec: Autoencoder, seed: int = 2) -> Samples:
    """Latents and captions of single objects, without the combinations that are held."""
    generator = torch.Generator().manual_seed(seed)
    return captioned(codec, draw(combinations()["one seen"], SCENES, generator), generator)


def small_recipe(steps: int = STEPS, seed: int = 0) -> Recipe:
    """How it is taught."""
    return Recipe(steps, 32, 4e-3, warmup=min(50, steps), ema=0.99, seed=seed)


def asked_for(name: str, n: int) -> Scenes:
    """n scenes of one of `scenes.SETS`, whose captions are drawn; as on the card of the shipped transformer."""
    return draw(combinations()[name], n, torch.Generator().manual_seed(SEED + SETS.index(name)))


def noise_of(n: int, seed: int = SEED) -> Tensor:
    """The noise (n, 4, 8, 8) of a seed."""
    return torch.randn(n, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


def pictures(net: NoisePredictor, codec: Autoencoder, asked: Meaning, w: float) -> Tensor:
    """Pictures (n, 3, 32, 32) of what is asked for."""
    return illustrate(net, codec, tokens(write(asked)), w, noise_of(len(asked)))


def shown(drawn: Tensor, asked: Meaning) -> dict[str, int]:
    """In how many pictures (n, 3, 32, 32) each attribute of what was asked for is read."""
    judged = judge(read(drawn), asked)
    return {name: int(judged[name].sum()) for name in ATTRIBUTES}


def leakage(reading: Reading, asked: Meaning) -> dict[str, list[int]]:
    """Whose shape, and whose size, objects have: how many have each of WHOSE.

    Asked for are scenes of two objects; those count whose shapes differ, or whose sizes. Hue tells objects apart.
    """
    found = {}
    for part in ("shape", "size"):
        counts = [0] * len(WHOSE)
        wanted, seen = getattr(asked, part), getattr(reading, part)
        for k in range(2):
            mine = reading.hue == asked.hue[:, k : k + 1]
            has = torch.where(mine, seen, 0).sum(1)
            own, other = has == wanted[:, k], has == wanted[:, 1 - k]
            whose = torch.where(own, 0, torch.where(other, 1, torch.where(has == UNSURE, 3, 2)))
            whose = torch.where(mine.any(1), whose, 4)[wanted[:, 0] != wanted[:, 1]]
            counts = [count + int((whose == i).sum()) for i, count in enumerate(counts)]
        found[part] = counts
    return found


def measured_captions(name: str, w: float) -> dict[str, Any]:
    """What the shipped transformer, with the guidance scale w, draws of captions of one of `scenes.SETS`."""
    codec, net, asked = weights.load("scene_autoencoder")[0], weights.load("scene_dit")[0], asked_for(name, JUDGED)
    drawn = pictures(net, codec, asked, w)
    return judged_captions(name, drawn, asked)


def judged_captions(name: str, drawn: Tensor, asked: Scenes) -> dict[str, Any]:
    """What pictures (n, 3, 32, 32) of captions of a set show, also if shapes had to fit better by STRICTER."""
    reading, found = read(drawn), {"n": len(asked), "shown": shown(drawn, asked)}
    limits = torch.tensor([*OVERLAP.values()])[reading.shape.clamp(min=0)] + STRICTER
    shape = torch.where((reading.shape >= 0) & (reading.overlap < limits), UNSURE, reading.shape)
    found["stricter"] = int(judge(replace(reading, shape=shape), asked)["all"].sum())
    if name.startswith("two"):
        found["leakage"] = leakage(reading, asked)
    return found


class Scaled:
    """An autoencoder whose latents are multiplied by a factor."""

    def __init__(self, codec: Autoencoder, factor: float) -> None:
        self.codec, self.factor, self.event = codec, factor, codec.event

    def decode(self, z: Tensor) -> Tensor:
        """Pictures of latents (B, *event)."""
        return self.codec.decode(z / self.factor)


def measured_scale(factor: float, seed: int) -> dict[str, Any]:
    """Train a small network in latents that are multiplied by a factor, and judge what it draws with w = 2."""
    codec = weights.load("scene_autoencoder")[0]
    samples = single_scenes(codec)
    trainer = Trainer(
        small_network(seed), Denoising(), Samples(factor * samples.x0, samples.label), small_recipe(STEPS, seed)
    )
    for _ in trainer.run():
        pass
    asked = asked_for("one seen", JUDGED)
    drawn = pictures(trainer.ema, Scaled(codec, factor), asked, 2.0)
    return {"n": JUDGED, "shown": shown(drawn, asked)}
