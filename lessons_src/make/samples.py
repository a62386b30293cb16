"""Draw the samples that lesson 13 judges, and write them with cards that say how: `make samples`.

features: 2,000 digits of two samplers, as the judge sees them. memorised: what networks draw that learned from few
digits. held_out: what a network draws when asked for combinations of digit and thickness that it has never seen.
"""

import argparse
import json
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lessons_src import captions, data, weights
from lessons_src.evaluation import in_batches
from lessons_src.files import write_whole
from lessons_src.guidance import classifier_free
from lessons_src.lessons.lesson_13.held_out import COMBINATIONS, HELD
from lessons_src.lessons.lesson_13.stored import FOLDER
from lessons_src.losses import Denoising, Samples
from lessons_src.measurements import SAMPLERS, digest
from lessons_src.networks import UNET_PRESETS, NoisePredictor, UNet
from lessons_src.samplers import sample
from lessons_src.schedules import make_schedule, time_grid
from lessons_src.training import Recipe, Trainer, best_device, print_progress, train

RUNS = {"DDIM, 50 steps": ("DDIM", 50), "DDPM, 1,000 steps": ("DDPM, σ² = β̃", 1000)}
NETWORKS = Path("tests/benchmarks/judge_h200")  # of a checkout; judge_jobs.py beside it says how they were trained
SIZES = (64, 256, 1024, 4096, 8000)  # how many digits each of them learned from
HELD_OUT = Recipe(steps=800, batch_size=32)  # some minutes of one core
GREYS = 17  # steps between the greys that are kept: 16 of 256


def greys(x: Tensor) -> Tensor:
    """Images in [-1, 1] as 256 greys, (n, 28, 28) uint8."""
    return ((x.clamp(-1, 1) + 1) * 127.5).round().byte()[:, 0].cpu()


def images(x: Tensor) -> Tensor:
    """256 greys (n, 28, 28) as images (n, 1, 28, 28) in [-1, 1]."""
    return x.unsqueeze(1).float() / 127.5 - 1


def draw(
    net: NoisePredictor, label: Tensor, seed: int, steps: int, sampler: str = "DDIM", w: float = 1.0, size: int = 500
) -> Tensor:
    """Digits of these labels as greys (n, 28, 28), `size` at a time, from the start noise of a seed."""
    noise = torch.randn(len(label), 1, 28, 28, generator=torch.Generator().manual_seed(seed))
    device, times, parts = net.signal.device, time_grid(net.schedule, steps), []
    for i, (z, c) in enumerate(zip(noise.split(size), label.split(size), strict=True)):
        generator = torch.Generator(device).manual_seed(i)
        eps_fn = classifier_free(net, c.to(device), w)
        parts.append(greys(sample(SAMPLERS[sampler](eps_fn, z.to(device), net.schedule, times, generator=generator))))
    return torch.cat(parts)


def write(name: str, card: dict[str, Any], folder: Path, **arrays: Tensor) -> None:
    """Arrays into a compressed file, and the card beside it."""

    def fill(part: Path) -> None:
        with open(part, "wb") as file:
            np.savez_compressed(file, **{key: value.numpy() for key, value in arrays.items()})

    command = f"python -m lessons_src.make.samples --only {name}"
    card = {"command": command, "machine": f"{platform.machine()}, torch {torch.__version__}"} | card
    write_whole(folder / f"{name}.npz", fill)
    text = json.dumps(card, indent=2, ensure_ascii=False) + "\n"
    write_whole(folder / f"{name}.json", lambda part: part.write_text(text))


def make_features(device: torch.device, folder: Path = FOLDER, n: int = 2000) -> None:
    """What the judge sees in n digits of each of RUNS, of equally many labels, from the same start noise."""
    net, judge, label = weights.load("digits")[0].to(device), weights.load("judge")[0], torch.arange(n) % 10
    drawn = {name: draw(net, label, 1, steps, sampler) for name, (sampler, steps) in RUNS.items()}
    seen = {name: in_batches(judge.features, images(x)).half() for name, x in drawn.items()}
    write("features", {"n": n, "w": 1.0, "seed": 1, "weights": digest(), "device": str(device)}, folder, **seen)


def make_memorised(device: torch.device, folder: Path = FOLDER, n: int = 200, sizes: Sequence[int] = SIZES) -> None:
    """What networks draw that learned from the first 64, 256, ... training digits, in 16 greys."""
    net, drawn = NoisePredictor(UNet(**UNET_PRESETS["small"]), make_schedule("cosine", 1000), "v"), {}
    for size in sizes:
        learned = load_file(NETWORKS / f"memorise_{size}_1683.safetensors")
        net.load_state_dict({key: value.float() for key, value in learned.items()}, strict=False)
        x = draw(net.to(device).eval(), torch.arange(n) % 10, 7, 50)
        drawn[str(size)] = (x.float() / GREYS).round().byte()
    write("memorised", {"n": n, "w": 1.0, "sampler": "DDIM, 50 steps", "device": str(device)}, folder, **drawn)


# --- Combinations never seen


class TwoWords(nn.Module):
    """The embedding of a combination, its place in COMBINATIONS: the sum of a digit's and a thickness's; or of none."""

    parts: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.digit, self.thickness = nn.Embedding(11, width), nn.Embedding(4, width)
        self.register_buffer("parts", torch.tensor([*COMBINATIONS, (10, 3)]), persistent=False)

    def forward(self, label: Tensor) -> Tensor:
        """Embed labels (B,) as (B, width)."""
        digit, thickness = self.parts[label].T
        return self.digit(digit) + self.thickness(thickness)


def untrained() -> NoisePredictor:
    """A small network that is asked for a digit and a thickness."""
    torch.manual_seed(HELD_OUT.seed)
    body = UNet(num_classes=len(COMBINATIONS), channels=UNET_PRESETS["small"]["channels"])
    body.label = TwoWords(body.label.embedding_dim)
    return NoisePredictor(body, make_schedule("cosine", 1000), "v")


def ask(x: Tensor, label: Tensor, asked: Tensor, recipe: Recipe, device: torch.device, w: float) -> tuple[Tensor, str]:
    """What a network draws of combinations (n,) after it has learned from x of these labels; and the precision."""
    trainer = Trainer(untrained(), Denoising(), Samples(x, label), recipe, device, "auto")
    net = train(trainer, print_progress, report_every=100)
    return draw(net, asked, 3, 10, w=w, size=100), trainer.precision


def make_held_out(
    device: torch.device, folder: Path = FOLDER, each: int = 50, recipe: Recipe = HELD_OUT, w: float = 2.0
) -> None:
    """Train without the digits of the combinations HELD, and with all; ask both for all 30; keep what came.

    read and thickness are (2, n), what the judge reads and the pixels measure; examples are eight digits of each of
    HELD, (2, 4, 8, 28, 28). The network that learned from all digits comes second.
    """
    x, y = data.digits("train")
    label = 3 * y + captions.attributes(x, y)[:, 1]
    kept, asked, judge = ~torch.isin(label, torch.tensor(HELD)), torch.arange(30).repeat(each), weights.load("judge")[0]
    start = time.perf_counter()
    sets = ((x[kept], label[kept]), (x, label))
    drawn, precision = zip(*(ask(*part, asked, recipe, device, w) for part in sets), strict=True)
    card = {
        "network": "UNet, small; the embeddings of a digit and of a thickness are added",
        "held out": [captions.write(torch.tensor([[*COMBINATIONS[place], 3]]))[0] for place in HELD],
        "digits left out": int((~kept).sum()),
        "recipe": vars(recipe),
        "precision": precision,  # what was faster when each began
        "seconds": round(time.perf_counter() - start),
        "sampler": "DDIM, 10 steps",
        "w": w,
        "weights": digest(),
        "device": str(device),
    }
    found = {
        "asked": asked.byte(),
        "read": torch.stack([in_batches(judge, images(part)).argmax(1) for part in drawn]).byte(),
        "thickness": torch.stack([captions.thickness(images(part)) for part in drawn]).half(),
        "examples": torch.stack([torch.stack([part[asked == one][:8] for one in HELD]) for part in drawn]),
    }
    write("held_out", card, folder, **found)


MAKE = {"features": make_features, "memorised": make_memorised, "held_out": make_held_out}


def main() -> None:
    """Draw and write the samples that lesson 13 judges."""
    parser = argparse.ArgumentParser(prog="python -m lessons_src.make.samples", description=main.__doc__)
    parser.add_argument("--only", choices=MAKE, help="make one of them")
    only = parser.parse_args().only
    for name in [only] if only else MAKE:
        MAKE[name](best_device())


if __name__ == "__main__":
    main()
