"""Seconds of training until samples are good: this course's recipe beside two well-known ways to train on digits.

python tests/benchmarks/time_to_target.py [--device cuda] [--seconds 600]

Every contestant trains on the same 10,000 digits, in turns, in one run; only training is on the clock. On the CPU that
is the processor time of one thread, which other work on the machine hardly disturbs; on a GPU it is wall time.
After a turn, 300 samples by 20 DDIM steps give the feature-Frechet distance to the test digits. Needs diffusers and
denoising-diffusion-pytorch with einops; see peers.py.
"""

import argparse
import importlib.metadata
import itertools
import math
import platform
import time

import torch
from peers import PEERS, SAMPLING_STEPS, Peer, size
from torch import Tensor

from lessons_src import data, weights
from lessons_src.evaluation import Reference
from lessons_src.losses import Denoising, Samples
from lessons_src.make.weights import generate
from lessons_src.networks import UNET_PRESETS, NoisePredictor, UNet
from lessons_src.schedules import cosine
from lessons_src.training import Recipe, Trainer

N = 300
TARGETS = (50.0, 20.0, 10.0, 5.0, 3.0)


def course(x: Tensor, y: Tensor, device: str, steps: int, batch: int, compiled: bool) -> Peer:
    """The recipe of the shipped weights (v-prediction, Muon), with the learning rate falling over `steps`."""
    torch.manual_seed(0)
    net = NoisePredictor(UNet(**UNET_PRESETS["small"]), cosine(1000), "v")
    trainer = Trainer(net, Denoising(), Samples(x, y), Recipe(steps, batch, ema=0.995), device, "auto", compiled)
    timing = ", ".join(f"{name} {1000 * seconds:.0f} ms" for name, seconds in trainer.timing.items())
    print(f"this course, a step: {timing}; trained in {trainer.precision}")
    seeds = itertools.count()

    def make(n: int) -> Tensor:
        return generate(trainer.ema, n, 1.0, SAMPLING_STEPS, next(seeds))[0]

    return Peer(trainer.step, make, size(net), batch)


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
    judge, _ = weights.load("judge")
    reference = Reference(judge.features, x_test, x, y)
    x, y = x.to(device), y.to(device)
    mine = "this course"
    contestants = {mine: course(x, y, device, options.steps, options.batch, options.compiled)}
    contestants |= {name: peer(x, y, device) for name, peer in PEERS.items()}
    turns = {name: options.turn / 5 if name == mine else options.turn for name in contestants}
    lengths = {name: options.steps if name == mine else math.inf for name in contestants}
    print(f"{platform.machine()}, {device}, torch {torch.__version__}")
    print({name: importlib.metadata.version(name) for name in PEERS})
    print("floor at n = {}: {:.2f} ± {:.2f}".format(N, *reference.floor(torch.arange(N) % 10)))
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
            while now() - start < turns[name] and steps[name] < lengths[name]:
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
            if TARGETS[-1] in reached[name] or clock[name] >= options.seconds or steps[name] >= lengths[name]:
                running.remove(name)
    for name, contestant in contestants.items():
        pace = contestant.batch * steps[name] / clock[name]
        times = ", ".join(f"{target:g}: {reached[name].get(target, math.inf):.0f} s" for target in TARGETS)
        print(
            f"{name}: {contestant.parameters / 1e6:.2f} M, {pace:.0f} images/s, first step {first[name]:.1f} s; {times}"
        )


if __name__ == "__main__":
    main()
