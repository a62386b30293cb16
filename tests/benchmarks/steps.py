"""Training steps, forward passes and draws of this course as calls that a benchmark times, and as CUDA graphs."""

import math
import statistics
import time
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from sections import Section
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from lessons_src import data
from lessons_src.guidance import classifier_free
from lessons_src.losses import Denoising, Samples
from lessons_src.networks import UNET_PRESETS, NoisePredictor, UNet
from lessons_src.samplers import ddim, sample
from lessons_src.schedules import cosine, time_grid
from lessons_src.training import Recipe, Trainer


class Run(NamedTuple):
    """One training run of `quality`, in bfloat16; with `graph`, its steps are replays of CUDA graphs."""

    network: str
    batch: int
    steps: int
    learning_rate: float
    ema: float
    graph: bool = True


def clocked(function: Callable[[], object], section: Section, calls: int = 1) -> float:
    """Seconds of so many calls together."""
    torch.cuda.synchronize() if section.cuda else None
    start = time.perf_counter()
    for _ in range(calls):
        function()
    torch.cuda.synchronize() if section.cuda else None
    return time.perf_counter() - start


def seconds_of(function: Callable[[], object], section: Section) -> float:
    """Median seconds of a call in several rounds, each long enough to be timed, after a warm-up."""
    warm_up, rounds, seconds = section.sizes.timing
    clocked(function, section, warm_up)
    calls = max(1, math.ceil(seconds / rounds / max(clocked(function, section), 1e-6)))
    return statistics.median(clocked(function, section, calls) / calls for _ in range(rounds))


def set_tf32(on: bool) -> None:
    """Whether float32 products and convolutions may be rounded to TF32. Torch's own choice: convolutions alone."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = on


def record(function: Callable[[], object], generator: torch.Generator, pool: Any = None) -> Any:
    """One call of `function` as a CUDA graph, without effect until it is replayed; every replay draws new numbers.

    What `function` prepares in its first calls must be there already.
    """
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(generator)
    with torch.cuda.graph(graph, pool=pool):
        function()
    return graph


def warmed_up(function: Callable[[], object]) -> Callable[[], object]:
    """`function` after three calls on a stream of their own, as CUDA graphs want it."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            function()
    torch.cuda.current_stream().wait_stream(stream)
    return function


@cache
def digits() -> Samples:
    """What every run learns from."""
    return Samples(*data.digits())


def make_trainer(run: Run, precision: str, device: str) -> Trainer:
    """A new run on the bundled digits, always from the same start; its step can be recorded."""
    torch.manual_seed(0)
    net = NoisePredictor(UNet(**UNET_PRESETS[run.network]), cosine(1000), "v")
    recipe = Recipe(run.steps, run.batch, run.learning_rate, min(50, run.steps), run.ema)
    name = "bfloat16" if precision == "bfloat16" else "float32"
    trainer = Trainer(net, Denoising(), digits(), recipe, device, name)
    if trainer.device.type == "cuda":
        trainer.optimizers[0].param_groups[0]["capturable"] = True  # AdamW asks; its fused form always is
    return trainer


def timing_trainer(network: str, batch: int, precision: str, device: str) -> Trainer:
    """A trainer whose learning rate stays next to nothing, however often it is stepped."""
    return make_trainer(Run(network, batch, 1_000_000, 1e-6, 0.99), precision, device)


def forward(trainer: Trainer, precision: str) -> Callable[[], Tensor]:
    """A call of the network on one batch without checks and gradients."""
    net, device, batch = trainer.net, trainer.device, trainer.recipe.batch_size
    x, label = data.noise(batch, 1, 28, 28).to(device, torch.float32), torch.arange(batch, device=device) % 10
    t = torch.arange(batch, device=device) % 1000 + 1

    @torch.no_grad()
    def call() -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            return net.output(x, t, label)

    return call


def drawing(trainer: Trainer, precision: str, steps: int) -> Callable[[], Tensor]:
    """A batch of digits by so many steps of DDIM, with every check of the package."""
    net, device, batch = trainer.net, trainer.device, trainer.recipe.batch_size
    x, label = data.noise(batch, 1, 28, 28).to(device, torch.float32), torch.arange(batch, device=device) % 10

    def call() -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            eps_fn = classifier_free(net, label, 1.0)
            return sample(ddim(eps_fn, x, net.schedule, time_grid(net.schedule, steps)))

    return call


@cache
def operations(network: str) -> tuple[float, float, float]:
    """FLOPs, as torch counts them: a forward pass an image, a training step an image, and a step besides (Muon)."""
    steps = []
    for batch in (2, 4):
        trainer = timing_trainer(network, batch, "float32", "cpu")
        with FlopCounterMode(display=False) as counter:
            trainer.step()
        steps.append(counter.get_total_flops())
    with FlopCounterMode(display=False) as counter:
        forward(trainer, "float32")()
    image = (steps[1] - steps[0]) / 2
    return counter.get_total_flops() / 4, image, steps[0] - 2 * image


def measure(section: Section, case: tuple[str, int, str], what: str, function: Callable[[], object]) -> None:
    """A row: how fast `function` does a "forward", a "training step" or "DDIM" (`what` may go on after a comma)."""
    (network, batch, precision), seconds = case, seconds_of(function, section)
    a_forward, a_step, besides = operations(network)
    work = {"training step": batch * a_step + besides, "forward": batch * a_forward}
    rate = work.get(what.split(",")[0], batch * a_forward * section.sizes.ddim_steps) / seconds
    share = rate / section.peaks[precision] if precision in section.peaks else None
    row = {"network": network, "batch": batch, "precision": precision, "what": what, "images/s": batch / seconds}
    section.add(**row, ms=1000 * seconds, **{"TFLOP/s": rate / 1e12, "share of peak": share})


def both_ways(section: Section, case: tuple[str, int, str], trainer: Trainer, how: str, graph: bool = True) -> None:
    """Rows for a training step and a bare forward of this trainer, as they come and recorded."""
    for what, function in (("training step", trainer.step), ("forward", forward(trainer, case[2]))):
        with section.attempt(f"{case}: {what}{how}"):
            first = clocked(function, section)
            measure(section, case, what + how, function)
            if how:
                section.note(f"{case}: {what}{how}: {first:.1f} s for the first call.")
            if section.cuda and graph:
                recorded = record(warmed_up(function), trainer.generator)
                measure(section, case, f"{what}{how}, CUDA graph", recorded.replay)


def advance(trainer: Trainer, steps: int, pool: Any) -> Any:
    """So many training steps; with a pool, as replays of one CUDA graph that has the learning rate of their middle."""
    if pool is None:
        for _ in range(steps):
            trainer.step()
        return None
    start = trainer.step_count
    trainer.step_count += steps // 2
    graph = record(trainer.step, trainer.generator, pool)
    for _ in range(steps):
        graph.replay()
    trainer.step_count = start + steps
    trainer.averaged.n_averaged.fill_(trainer.step_count)
    return graph
