"""A network in a folder that diffusers opens, and three traps on the way."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

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


def opened(folder: Path) -> Any:
    """DiffusionPipeline.from_pretrained(folder, trust_remote_code=True), which says nothing while it works."""
    if find_spec("diffusers") is None:
        raise Missing("diffusers is not installed here: `pip install diffusers`, restart the kernel, and run again.")
    from diffusers import DiffusionPipeline
    from diffusers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    pipe = DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


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


def traps(net: NoisePredictor, pipe: Any, n: int = 50) -> dict[str, float]:
    """How far the digits of both libraries differ when all is right, and in each trap: root mean square of a pixel."""
    noise, labels = torch.randn(n, 1, 28, 28, generator=torch.Generator().manual_seed(3)), torch.arange(n) % 10
    right = ours(net, noise, labels)

    def far(a: Tensor, b: Tensor = right) -> float:
        return (a - b).square().mean().sqrt().item()

    return {
        "all as it should be": far(theirs(pipe, noise, labels)),
        'timestep_spacing = "leading", the usual default': far(theirs(pipe, noise, labels, spacing="leading")),
        "guidance_scale = 0.5 for w = 0.5": far(theirs(pipe, noise, labels, 0.5), ours(net, noise, labels, 0.5)),
        "t counted from 0, and told to our network": far(late(net, noise, labels)),
    }


def show_traps(net: NoisePredictor, pipe: Any) -> None:
    """The three traps, what each costs, and the way around."""
    found = traps(net, pipe)
    plots.table(
        {
            "in diffusers": list(found),
            "differs by": ["less than 0.001" if value < 1e-3 else f"{value:.2g}" for value in found.values()],
            "why": [
                "rounding alone",
                "starts at t = 951, not in pure noise; say `trailing`",
                "1 and below mean: no guidance, the plain label",
                "their t is ours less 1, and a slip at T is divided by √ᾱ = 0.00005",
            ],
        },
        f"Root mean square of a pixel, where black is −1 and white is 1. 50 digits, DDIM with {STEPS} steps.",
    )
