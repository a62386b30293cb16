"""Seconds of training until samples are good: this course's recipe beside two well-known ways to train on digits.

python tests/benchmarks/time_to_target.py [--device cuda] [--seconds 600]

Every contestant trains on the same 10,000 digits, in turns, in one run; only training is on the clock. On the CPU that
is the processor time of one thread, which other work on the machine hardly disturbs; on a GPU it is wall time.
After a turn, 300 samples by 20 DDIM steps give the feature-Frechet distance to the test digits. Needs diffusers and
denoising-diffusion-pytorch (with einops; what it imports for its own data loading is replaced by stubs).
"""

import argparse
import importlib.metadata
import itertools
import math
import platform
import sys
import time
from collections.abc import Callable
from typing import NamedTuple
from unittest.mock import MagicMock

import torch
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lessons_src import data, weights
from lessons_src.evaluation import Reference
from lessons_src.make.weights import generate
from lessons_src.networks import UNET_PRESETS, NoisePredictor, UNet
from lessons_src.schedules import cosine
from lessons_src.training import Denoising, Recipe, Samples, Trainer

N, STEPS = 300, 20
TARGETS = (50.0, 20.0, 10.0, 5.0, 3.0)


class Contestant(NamedTuple):
    """step() trains on one batch of `batch`, `steps` times at most; sample(n) makes n images; a turn lasts `turn` s."""

    step: Callable[[], object]
    sample: Callable[[int], Tensor]
    parameters: int
    batch: int
    turn: float
    steps: float = math.inf


def size(net: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(p.numel() for p in net.parameters())


def course(x: Tensor, y: Tensor, device: str, steps: int, batch: int, compiled: bool, turn: float) -> Contestant:
    """The recipe of the shipped weights (v-prediction, Muon), with the learning rate falling over `steps`."""
    torch.manual_seed(0)
    net = NoisePredictor(UNet(**UNET_PRESETS["small"]), cosine(1000), "v")
    recipe = Recipe(steps, batch, ema=0.995)
    trainer = Trainer(net, Denoising(), Samples(x, y), recipe, device, "auto", compiled)
    timing = ", ".join(f"{precision} {1000 * seconds:.0f} ms a step" for precision, seconds in trainer.timing.items())
    print(f"this course: {timing}; trained in {trainer.precision}")
    seeds = itertools.count()

    def make(n: int) -> Tensor:
        return generate(trainer.ema, n, 1.0, STEPS, next(seeds))[0]

    return Contestant(trainer.step, make, size(net), batch, turn, steps)


def hugging_face(x: Tensor, y: Tensor, device: str, turn: float) -> Contestant:
    """UNet2DModel as in Hugging Face's class-conditioned notebook: labels as channels, cosine, Adam 1e-3, batch 128."""
    torch.manual_seed(0)
    net = UNet2DModel(
        sample_size=28,
        in_channels=5,
        out_channels=1,
        layers_per_block=2,
        block_out_channels=(32, 64, 64),
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    )
    net, embedding = net.to(device), nn.Embedding(10, 4).to(device)
    scheduler = DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2")
    optimizer = torch.optim.Adam([*net.parameters(), *embedding.parameters()], lr=1e-3)

    def predict(x_t: Tensor, t: Tensor, label: Tensor) -> Tensor:
        channels = embedding(label)[:, :, None, None].expand(-1, -1, 28, 28)
        return net(torch.cat([x_t, channels], 1), t).sample

    def step() -> None:
        picked = torch.randint(len(x), (128,), device=device)
        x0, eps = x[picked], torch.randn(128, 1, 28, 28, device=device)
        t = torch.randint(1000, (128,), device=device)
        loss = F.mse_loss(predict(scheduler.add_noise(x0, eps, t), t, y[picked]), eps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def make(n: int) -> Tensor:
        ddim = DDIMScheduler(1000, beta_schedule="squaredcos_cap_v2")
        ddim.set_timesteps(STEPS)
        state, label = torch.randn(n, 1, 28, 28, device=device), torch.arange(n, device=device) % 10
        for t in ddim.timesteps:
            state = ddim.step(predict(state, t.to(device).expand(n), label), t, state).prev_sample
        return state.clamp(-1, 1)

    return Contestant(step, make, size(net), 128, turn)


def denoising_diffusion_pytorch(x: Tensor, device: str, turn: float) -> Contestant:
    """lucidrains' Unet and GaussianDiffusion by default (sigmoid schedule, v), Adam 3e-4, batch 32, EMA 0.995."""
    for name in ("torchvision", "accelerate", "ema_pytorch"):  # imported there for its own data loading and Trainer
        sys.modules.setdefault(name, MagicMock(__spec__=None))
    from denoising_diffusion_pytorch import GaussianDiffusion, Unet

    torch.manual_seed(0)
    net = Unet(dim=32, dim_mults=(1, 2, 4), channels=1)
    diffusion = GaussianDiffusion(net, image_size=28, timesteps=1000, sampling_timesteps=STEPS).to(device)
    averaged = AveragedModel(diffusion, multi_avg_fn=get_ema_multi_avg_fn(0.995))
    optimizer = torch.optim.Adam(diffusion.parameters(), lr=3e-4, betas=(0.9, 0.99))

    def step() -> None:
        loss = diffusion((x[torch.randint(len(x), (32,), device=device)] + 1) / 2)
        loss.backward()
        nn.utils.clip_grad_norm_(diffusion.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        averaged.update_parameters(diffusion)

    def make(n: int) -> Tensor:
        return 2 * averaged.module.eval().sample(batch_size=n) - 1

    return Contestant(step, make, size(net), 32, turn)


def main() -> None:
    """Print a line a look, then the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--seconds", type=float, default=600.0, help="give up on a contestant after this much training")
    parser.add_argument("--steps", type=int, default=1500, help="length of the course's recipe")
    parser.add_argument("--batch", type=int, default=32, help="batch of the course's recipe")
    parser.add_argument("--turn", type=float, default=60.0, help="seconds between two looks at a peer")
    parser.add_argument("--compiled", action="store_true", help="torch.compile for the course's network")
    options = parser.parse_args()
    clocks = {"cpu": time.process_time, "cuda": time.perf_counter}
    torch.set_num_threads(1)
    device, now = options.device, clocks[options.device]
    sync = torch.cuda.synchronize if options.device == "cuda" else lambda: None
    (x, y), (x_test, _) = data.digits("train"), data.digits("test")
    x, y = x.to(device), y.to(device)
    judge, _ = weights.load("classifier")
    reference = Reference(judge.features, x_test, x.cpu())
    contestants = {
        "this course": course(x, y, device, options.steps, options.batch, options.compiled, options.turn / 5),
        "diffusers": hugging_face(x, y, device, options.turn),
        "denoising-diffusion-pytorch": denoising_diffusion_pytorch(x, device, options.turn),
    }
    print(f"{platform.machine()}, {device}, torch {torch.__version__}")
    print({name: importlib.metadata.version(name) for name in ("diffusers", "denoising-diffusion-pytorch")})
    floor, spread = reference.floor(N)
    print(f"floor at n = {N}: {floor:.2f}, give or take {spread:.2f}")
    clock, steps = dict.fromkeys(contestants, 0.0), dict.fromkeys(contestants, 1)
    first: dict[str, float] = {}
    for name, contestant in contestants.items():  # one-time preparations are not training
        start = now()
        contestant.step()
        sync()
        first[name] = now() - start
    reached: dict[str, dict[float, float]] = {name: {} for name in contestants}
    running = list(contestants)
    while running:
        for name in tuple(running):
            contestant = contestants[name]
            start = now()
            while now() - start < contestant.turn and steps[name] < contestant.steps:
                contestant.step()
                steps[name] += 1
            sync()
            clock[name] += now() - start
            with torch.no_grad():
                samples = torch.cat([contestant.sample(100) for _ in range(N // 100)]).cpu()
            frechet = reference.frechet(samples)
            for target in TARGETS:
                if frechet <= target:
                    reached[name].setdefault(target, clock[name])
            print(f"{name}: {clock[name]:.1f} s, {steps[name]} steps, feature-Frechet {frechet:.2f}", flush=True)
            if TARGETS[-1] in reached[name] or clock[name] >= options.seconds or steps[name] >= contestant.steps:
                running.remove(name)
    for name, contestant in contestants.items():
        pace = contestant.batch * steps[name] / clock[name]
        times = ", ".join(f"{target:g}: {reached[name].get(target, math.inf):.0f} s" for target in TARGETS)
        print(
            f"{name}: {contestant.parameters / 1e6:.2f} M, {pace:.0f} images/s, first step {first[name]:.1f} s; {times}"
        )


if __name__ == "__main__":
    main()
