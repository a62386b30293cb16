"""What the deeper notebook of lesson 12 stores: pixels against latents in equal time, weights of KL, words edited."""

import time
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lessons_src import weights
from lessons_src.attention import attending
from lessons_src.latent import Autoencoder, Coding, gaussian_kl
from lessons_src.losses import Denoising, Samples
from lessons_src.metrics import frechet_distance
from lessons_src.networks import NoisePredictor
from lessons_src.scene_checker import ATTRIBUTES, judge, read
from lessons_src.scenes import HUES, SHAPES, SIZES, Meaning, Scenes, combinations, draw, joined, paint, tokens, write
from lessons_src.schedules import cosine
from lessons_src.text_to_image import LATENT, CaptionUNet, captioned, illustrate
from lessons_src.training import Recipe, Trainer

PIXELS = (3, 32, 32)
ARMS = {"latents": (LATENT, 1), "pixels by 4 × 4": (PIXELS, 4), "pixels by 2 × 2": (PIXELS, 2)}  # event, patch
SEEDS = (0, 1, 2)
SECONDS = 40.0  # of processor time that each is trained
LOOKS = 3  # equal parts of it after which the average is judged
SCENES = 6000
JUDGED = 300
RATES = (1e-4, 1e-3, 1e-2, 1e-1)  # weights of KL
EDITED = 100  # single objects of which one word is changed
WORDS = ("hue", "size", "shape")
KEPT = (0.0, 0.5, 1.0)  # share of the steps in which the maps of the first caption are kept
CODING = Recipe(600, 32, 2e-3, warmup=60, ema=0.99)


class Pixels:
    """In the place of an autoencoder: pictures standardised a channel, over real scenes, and back."""

    event = PIXELS

    def __init__(self) -> None:
        x = paint(scenes(4000, 1))
        self.mean, self.std = (part[:, None, None] for part in (x.mean((0, 2, 3)), x.std((0, 2, 3))))

    def encode(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Standardised pictures (B, 3, 32, 32)."""
        return (x - self.mean) / self.std

    def decode(self, z: Tensor) -> Tensor:
        """Pictures (B, 3, 32, 32) in [-1, 1]."""
        return z * self.std + self.mean


def scenes(n: int, seed: int) -> Scenes:
    """n single objects of the combinations that are trained."""
    return draw(combinations()["one seen"], n, torch.Generator().manual_seed(seed))


def all_scenes(n: int, seed: int) -> Scenes:
    """n scenes of all combinations, half of them with two objects, as the shipped autoencoder was shown."""
    tables, generator = combinations(), torch.Generator().manual_seed(seed)
    single, double = (torch.cat([part for name, part in tables.items() if name[:3] == k]) for k in ("one", "two"))
    return joined([draw(table, n // 2, generator) for table in (single, double)])


@cache
def codec(arm: str) -> Any:
    """What stands between pictures and what one of ARMS diffuses."""
    return weights.load("scene_autoencoder")[0] if arm == "latents" else Pixels()


def network(arm: str) -> NoisePredictor:
    """An untrained U-Net for one of ARMS, all of the same widths."""
    event, patch = ARMS[arm]
    return NoisePredictor(CaptionUNet(event, channels=(32, 48), patch=patch, text=(32, 1)), cosine(), "v")


def mflop(net: nn.Module, *arguments: Tensor) -> float:
    """Operations of one evaluation, in millions, with those of attention, which torch counts where it is plain."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        net(*arguments)
    return counter.get_total_flops() / 1e6


def features(x: Tensor) -> Tensor:
    """What 48 random filters see in pictures (n, 3, 32, 32), summed over places, (n, 48): no network was taught."""
    filters = torch.randn(48, 3, 5, 5, generator=torch.Generator().manual_seed(0)) / 75**0.5
    return torch.cat([F.conv2d(part, filters).relu().mean((2, 3)) for part in x.split(500)]).double()


@cache
def real() -> Tensor:
    """The features of 4,000 scenes."""
    return features(paint(scenes(4000, 3)))


def scored(x: Tensor, asked: Scenes) -> dict[str, Any]:
    """Distance of pictures to real ones, and in how many each attribute of what was asked for is read."""
    judged = judge(read(x), asked)
    return {"distance": frechet_distance(features(x), real()), "shown": {k: int(judged[k].sum()) for k in ATTRIBUTES}}


def floors() -> dict[str, dict[str, Any]]:
    """The scores of as many scenes themselves, and of what the autoencoder makes of them."""
    asked = scenes(JUDGED, 99)
    x = paint(asked)
    with torch.no_grad():
        again = codec("latents").decode(codec("latents").encode(x))
    return {"scenes": scored(x, asked), "reconstructed": scored(again, asked)}


def raced(arm: str, seed: int) -> dict[str, Any]:
    """Teach a network for SECONDS of one processor's time; judge its average LOOKS times, w = 2."""
    generator = torch.Generator().manual_seed(2)
    samples = captioned(codec(arm), scenes(SCENES, 2), generator)
    pace = _seconds_a_step(arm, samples)
    recipe = Recipe(round(SECONDS / pace), 32, 4e-3, warmup=50, ema=0.99, seed=seed)
    torch.manual_seed(seed)
    trainer = Trainer(network(arm), Denoising(), samples, recipe)
    asked, looks, spent, begun = scenes(JUDGED, 99), [], 0.0, time.process_time()
    noise = torch.randn(JUDGED, *ARMS[arm][0], generator=torch.Generator().manual_seed(99))
    for _ in trainer.run():
        if trainer.step_count * LOOKS // recipe.steps > len(looks):
            spent += time.process_time() - begun
            drawing = time.process_time()
            x = illustrate(trainer.ema, codec(arm), tokens(write(asked)), 2.0, noise)
            drawing = time.process_time() - drawing
            looks.append({"step": trainer.step_count, "seconds": spent, "drawing": drawing} | scored(x, asked))
            begun = time.process_time()
    one = torch.zeros(1, *ARMS[arm][0]), torch.tensor([500])
    return {"n": JUDGED, "steps": recipe.steps, "MFLOP": mflop(network(arm), *one), "looks": looks}


def _seconds_a_step(arm: str, samples: Samples, steps: int = 20) -> float:
    """Processor seconds of a training step, after a few to warm up."""
    run = Trainer(network(arm), Denoising(), samples, Recipe(2 * steps, 32)).run()
    for _ in range(5):
        next(run)
    begun = time.process_time()
    for _ in range(steps):
        next(run)
    return (time.process_time() - begun) / steps


def coded(kl: float) -> dict[str, Any]:
    """Teach an autoencoder with this weight of KL: its rate, its error, and what is read behind it."""
    torch.manual_seed(0)
    trainer = Trainer(Autoencoder(), Coding(kl=kl), Samples(paint(all_scenes(6000, 1))), CODING)
    for _ in trainer.run():
        pass
    net, asked, generator = trainer.ema, all_scenes(JUDGED, 99), torch.Generator().manual_seed(0)
    x = paint(asked)
    net.standardise(x)
    with torch.no_grad():
        mean, log_variance = net.moments(x)
        z = net.encode(x, generator)
        nats = gaussian_kl(mean, log_variance)
        found = {
            "n": JUDGED,
            "nats": nats.flatten(1).sum(1).mean().item(),
            "silent": int((nats.mean((0, 2, 3)) < 0.05).sum()),
            "error": (net.decode(z) - x).abs().mean().item(),
            "noise": ((log_variance / 2).exp() / net.std).mean().item(),
        }
        for level in (0.0, 0.5):
            noisy = z + level * torch.randn(z.shape, generator=generator)
            judged = judge(read(net.decode(noisy)), asked)
            found[f"shown, noise {level:g}"] = {name: int(judged[name].sum()) for name in ATTRIBUTES}
    return found


def changed(asked: Scenes, word: str) -> Scenes:
    """Single objects with another hue, size or shape."""
    kinds = {"hue": HUES, "size": SIZES, "shape": SHAPES}[word]
    value = getattr(asked, word)
    return replace(asked, **{word: torch.where(value < 0, value, (value + len(kinds) // 2) % len(kinds))})


def drawn(asked: Meaning, noise: Tensor, maps: list[Tensor], share: float | None) -> Tensor:
    """Pictures of captions by the shipped transformer, w = 2.

    share None: the maps of words are kept in `maps`. Otherwise those there take the place of its own, for so much of
    the way.
    """
    net, own = weights.load("scene_dit")[0], weights.load("scene_autoencoder")[0]
    first = iter(maps[: round((share or 0) * len(maps))])

    def change(name: str, found: Tensor) -> Tensor:
        if share is None:
            maps.append(found)
        return next(first, found)

    with attending(net, change):
        return illustrate(net, own, tokens(write(asked)), 2.0, noise)


def edited(word: str, kept: float) -> dict[str, Any]:
    """Draw captions, change a word, draw from the same noise: are the others as they were, and does the object stay?"""
    asked, maps = scenes(EDITED, 99), []
    noise = torch.randn(EDITED, *LATENT, generator=torch.Generator().manual_seed(5))
    other = changed(asked, word)
    before, after = read(drawn(asked, noise, maps, None)), read(drawn(other, noise, maps, kept))
    shift = torch.hypot(after.x - before.x, after.y - before.y)[:, 0]
    judged = judge(after, other)
    rest = [part for part in WORDS if part != word]
    return {
        "n": EDITED,
        "right": int(judged["all"].sum()),
        "changed": int(judged[word].sum()),
        "rest": int(torch.stack([judged[part] for part in rest]).all(0).sum()),
        "moved": shift.median().item(),
        "stayed": int((shift < 1).sum()),
    }
