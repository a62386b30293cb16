"""Train the networks that draw captioned scenes, or a part of them: `make scenes`.

The shipped ones come from a search on a GPU, in which the autoencoder took 24 seconds and the transformer 343, beside
other work (their cards say more). This is its recipe in the course's own loop. One core needs 6 minutes for the
autoencoder and two and a half hours for the transformer.
"""

import argparse
import platform
import time
from dataclasses import asdict
from typing import Any, NamedTuple

import torch
from torch import Tensor

import lessons_src
from lessons_src import weights
from lessons_src.latent import Autoencoder, Coding, gaussian_kl
from lessons_src.losses import Denoising, Samples
from lessons_src.networks import NoisePredictor
from lessons_src.scene_checker import adherence
from lessons_src.scenes import (
    SETS,
    Meaning,
    Scenes,
    combinations,
    draw,
    joined,
    paint,
    tokens,
    training_scenes,
    write,
)
from lessons_src.schedules import make_schedule
from lessons_src.text_to_image import DiT, captioned, illustrate
from lessons_src.training import Recipe, Trainer, best_device, checked_device, print_progress, train

STEPS = 12  # of DPM-Solver++(2M)
GUIDANCE = (1.0, 2.0)
SEED = 99  # of what is measured
SCHEDULE = {"name": "cosine", "T": 1000}


class Size(NamedTuple):
    """How many scenes there are to learn from, the recipes, and how many are judged a number."""

    pictures: int = 16_384
    autoencoder: Recipe = Recipe(steps=800, batch_size=256, ema=0.998)
    latents: int = 100_000
    denoiser: Recipe = Recipe(steps=3200, batch_size=512, ema=0.999)
    judged: int = 1000


def all_scenes(number: int, seed: int) -> Scenes:
    """About `number` scenes of all combinations, half of them with two objects: an autoencoder is shown everything."""
    generator, tables = torch.Generator().manual_seed(seed), combinations()
    singles = torch.cat([tables["one seen"], tables["one held"]])
    pairs = torch.cat([tables["two seen"], tables["two held"], tables["two of held"]])
    return joined([draw(table, number // 2, generator) for table in (singles, pairs)])


def train_autoencoder(size: Size, device: torch.device) -> Autoencoder:
    """An autoencoder of scenes, its latents standardised."""
    x, recipe = paint(all_scenes(size.pictures, seed=1)), size.autoencoder
    torch.manual_seed(recipe.seed)
    net = train(Trainer(Autoencoder(), Coding(), Samples(x), recipe, device), print_progress).cpu()
    net.standardise(x[:: max(1, len(x) // 4096)])
    return net


def train_denoiser(codec: Autoencoder, size: Size, device: torch.device) -> NoisePredictor:
    """A diffusion transformer for the latents of scenes, without the combinations that are held."""
    generator, recipe = torch.Generator().manual_seed(2), size.denoiser
    samples = captioned(codec, training_scenes(size.latents, generator), generator)
    torch.manual_seed(recipe.seed)
    net = NoisePredictor(DiT(), make_schedule(**SCHEDULE), "v")
    return train(Trainer(net, Denoising(), samples, recipe, device), print_progress).cpu()


def pictures(net: NoisePredictor, codec: Autoencoder, asked: Meaning, w: float, seed: int) -> Tensor:
    """Pictures (n, 3, 32, 32) of what is asked for, from the noise of a seed."""
    noise = torch.randn(len(asked), *codec.event, generator=torch.Generator().manual_seed(seed))
    return illustrate(net, codec, tokens(write(asked)), w, noise, STEPS)


def asked_for(name: str, n: int) -> Scenes:
    """n scenes of one of SETS, whose captions are drawn."""
    return draw(combinations()[name], n, torch.Generator().manual_seed(SEED + SETS.index(name)))


def drawn_as_asked(net: NoisePredictor, codec: Autoencoder, w: float, n: int) -> dict[str, Any]:
    """By set, which share of n pictures shows what was asked for: each attribute with its 95 % interval."""
    found = {}
    for name in SETS:
        asked = asked_for(name, n)
        found[name] = rounded(adherence(pictures(net, codec, asked, w, SEED), asked))
    return found


@torch.no_grad()
def autoencoder_metrics(codec: Autoencoder, n: int) -> dict[str, Any]:
    """What is read from reconstructions of 2 n scenes, and from latents with noise; the error a pixel, the rate."""
    scenes, generator = all_scenes(2 * n, SEED), torch.Generator().manual_seed(SEED)
    x = paint(scenes)
    mean, log_variance = codec.moments(x)
    z = codec.encode(x, generator)
    found = {
        "n": len(x),
        "mean absolute error": (codec.decode(z) - x).abs().mean().item(),
        "KL a latent number, nats": gaussian_kl(mean, log_variance).mean().item(),
    }
    for level in (0.0, 0.5):
        noisy = z + level * torch.randn(z.shape, generator=generator)
        found[f"read, latent noise {level:g}"] = rounded(adherence(codec.decode(noisy), scenes))
    return found


def rounded(shares: dict[str, Any]) -> dict[str, list[float]]:
    """Shares and intervals with four digits."""
    return {name: [round(value, 4) for value in interval] for name, interval in shares.items()}


def card(
    net: str, arguments: dict, source: str, recipe: Recipe, seconds: float, device: torch.device
) -> dict[str, Any]:
    """What cards of both networks say about how they were made."""
    return {
        "network": net,
        "arguments": arguments,
        "data": source,
        "command": "make scenes",
        "course": lessons_src.__version__,
        "recipe": asdict(recipe),
        "seconds of training": round(seconds, 1),
        "machine": f"{platform.machine()}, {device}, torch {torch.__version__}",
    }


ALL_SCENES = "scenes of one and of two objects, all combinations of hue and shape"
SEEN_SCENES = "latents of scenes, 60 % with two objects, without the combinations held by scenes.combinations()"


def make_autoencoder(size: Size, device: torch.device) -> None:
    """Train, measure and write the autoencoder."""
    start = time.perf_counter()
    net = train_autoencoder(size, device)
    made = card("Autoencoder", {}, ALL_SCENES, size.autoencoder, time.perf_counter() - start, device)
    made["loss"] = repr(Coding())
    weights.save("scene_autoencoder", net, made | {"metrics": autoencoder_metrics(net, size.judged)})


def make_denoiser(size: Size, device: torch.device) -> None:
    """Train the transformer in the latents of the autoencoder that is there; measure and write it."""
    start, codec = time.perf_counter(), weights.load("scene_autoencoder")[0]
    net = train_denoiser(codec, size, device)
    made = card("DiT", {}, SEEN_SCENES, size.denoiser, time.perf_counter() - start, device)
    made |= {"schedule": SCHEDULE, "prediction": "v", "loss": repr(Denoising()), "latents": "scene_autoencoder"}
    found = {f"w = {w:g}": drawn_as_asked(net, codec, w, size.judged) for w in GUIDANCE}
    weights.save("scene_dit", net, made | {"metrics": {"n": size.judged, "steps": STEPS, **found}})


def main() -> None:
    """Train the autoencoder of scenes and the transformer in its latents, in place of the shipped ones."""
    parser = argparse.ArgumentParser(prog="python -m lessons_src.make.scenes", description=main.__doc__)
    parser.add_argument("--device", default=None, help="cpu or cuda; by default the best there is")
    parser.add_argument("--only", choices=("autoencoder", "denoiser"), help="make one of them")
    options = parser.parse_args()
    device = checked_device(options.device or best_device())
    if options.only in (None, "autoencoder"):
        make_autoencoder(Size(), device)
    if options.only in (None, "denoiser"):
        make_denoiser(Size(), device)


if __name__ == "__main__":
    main()
