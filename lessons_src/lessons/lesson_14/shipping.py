"""A network in a folder that diffusers opens, and three slips on the way."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lessons_src import weights
from lessons_src.checks import check_int, refuse
from lessons_src.guidance import classifier_free
from lessons_src.networks import NoisePredictor
from lessons_src.samplers import ddim, sample
from lessons_src.schedules import time_grid
from lessons_src.show import plots

STEPS = 20


class Missing(ImportError):
    """diffusers is not installed; a notebook shows the sentence alone, without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def diffusers() -> Any:
    """The library, which says nothing while it works; `Missing` if it is not installed."""
    if find_spec("diffusers") is None:
        raise Missing("diffusers is not installed here: `pip install diffusers`, restart the kernel, and run again.")
    import diffusers
    from diffusers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    diffusers.DiffusionPipeline.set_progress_bar_config(diffusers.DiffusionPipeline, disable=True)  # for all that open
    return diffusers


def opened(folder: Path) -> Any:
    """The pipeline in a folder."""
    library = diffusers()
    if not (Path(folder) / "model_index.json").is_file():
        refuse("folder", str(folder), "a folder with a model_index.json, as to_diffusers writes it")
    return library.DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)


def start(n: int = 10) -> tuple[Tensor, Tensor]:
    """Start noise (n, 1, 28, 28) and labels (n,), each label in its turn."""
    check_int("n", n, 1)
    return torch.randn(n, 1, 28, 28, generator=torch.Generator().manual_seed(3)), torch.arange(n) % 10


def ours(net: NoisePredictor, noise: Tensor, labels: Tensor, w: float = 1.0) -> Tensor:
    """Digits (B, 1, 28, 28) by DDIM in STEPS steps."""
    return sample(ddim(classifier_free(net, labels, w), noise, net.schedule, time_grid(net.schedule, STEPS)))


def theirs(pipe: Any, noise: Tensor, labels: Tensor, scale: float = 1.0, spacing: str = "trailing") -> Tensor:
    """The same by a pipeline of diffusers, with DDIM and a spacing of its times."""
    from diffusers import DDIMScheduler

    first = pipe.scheduler
    pipe.scheduler = DDIMScheduler.from_config(first.config, timestep_spacing=spacing)
    try:
        options = {"latents": noise, "num_inference_steps": STEPS, "guidance_scale": scale, "output_type": "latent"}
        return pipe(labels, **options).images
    finally:
        pipe.scheduler = first


def late(net: NoisePredictor, noise: Tensor, labels: Tensor) -> Tensor:
    """Ours, with a network that is told every time one too low, as diffusers counts."""

    def told(x: Tensor, t: Tensor) -> Tensor:
        return net(x, (t - 1).clamp(1), labels)

    return sample(ddim(told, noise, net.schedule, time_grid(net.schedule, STEPS)))


def far(a: Tensor, b: Tensor) -> float:
    """Root mean square of the difference of a pixel."""
    return (a - b).square().mean().sqrt().item()


class Trap(NamedTuple):
    """A slip that raises no error: digits as they should be and as they come, why, and what to do instead."""

    right: Tensor
    wrong: Tensor
    why: str
    instead: str


def traps(net: NoisePredictor, pipe: Any, n: int = 50) -> dict[str, Trap]:
    """Three slips between two libraries, and the digits that each draws."""
    noise, labels = start(n)
    right = ours(net, noise, labels)
    return {
        "starts at t = 951": Trap(
            right,
            theirs(pipe, noise, labels, spacing="leading"),
            "`leading`, their DDIM's and DDPM's spacing unless told otherwise, leaves out T = 1000: pure noise is "
            "taken for less",
            '`timestep_spacing="trailing"`',
        ),
        "t one too low": Trap(
            right,
            late(net, noise, labels),
            "they count 0 to 999, we 1 to 1000; at T the clean guess is divided by "
            f"√ᾱ = {_last(net):.5f}, and so is any error",
            "add 1, as our folder does",
        ),
        "scale 0.5 means 1": Trap(
            ours(net, noise, labels, 0.5),
            theirs(pipe, noise, labels, 0.5),
            "at 1 and below they do not guide: you get the plain label",
            "use it above 1 only",
        ),
    }


def _last(net: NoisePredictor) -> float:
    """The share of the digit at T."""
    return net.schedule.alpha_bar[-1].sqrt().item()


def show_pair(net: NoisePredictor, noise: Tensor, labels: Tensor, theirs: Tensor) -> None:
    """Our digits above theirs."""
    own = ours(net, noise, labels)
    plots.image_rows(
        {"ours": own, "diffusers": theirs},
        f"One noise, one picture: no pixel differs by more than {(own - theirs).abs().max():.1g}, where black is −1 "
        f"and white is 1. DDIM, {STEPS} steps.",
    )


def show_traps(net: NoisePredictor, pipe: Any) -> None:
    """The three slips beside what was wanted; how far off each is, why, and what to do instead."""
    found, judge = traps(net, pipe), weights.load("judge")[0]
    plain, guided = found["t one too low"].right, found["scale 0.5 means 1"].right
    rows = {"wanted": plain, **{name: trap.wrong for name, trap in found.items() if trap.right is plain}}
    rows |= {"wanted, w = 0.5": guided, "scale 0.5 means 1": found["scale 0.5 means 1"].wrong}
    plots.image_rows(
        {name: x[:10] for name, x in rows.items()},
        "Rows 2 and 3 should look like row 1, and row 5 like row 4. All from the noise above, as a screen shows them: "
        "blacker than black is black.",
    )
    labels = start(len(plain))[1]

    def read(x: Tensor) -> str:
        with torch.no_grad():
            return str((judge(x.clamp(-1, 1)).argmax(1) == labels).sum().item())

    plots.table(
        {
            "slip": ["none", *found],
            f"read right, of {len(plain)}": [read(plain), *(read(trap.wrong) for trap in found.values())],
            "differs by": ["0", *(f"{far(trap.right, trap.wrong):.2f}" for trap in found.values())],
            "why": ["", *(trap.why for trap in found.values())],
            "do instead": ["", *(trap.instead for trap in found.values())],
        },
        "Differs: root mean square of a pixel from what was wanted, nothing cut. Read by the classifier of lesson 13.",
    )
