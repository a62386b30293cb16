"""Two experiments with the digit network: the rank of an adapter, and distribution matching without a warm start.

Both are stored, as the measurements "adapter" and "collapse".
"""

import copy
from functools import cache

import torch
from torch import Tensor

from lessons_src import data, weights
from lessons_src.checks import check_choice
from lessons_src.distillation import DistributionMatching, Regression, Trajectories
from lessons_src.lora import adapt, adapter, extract, merge, plug
from lessons_src.losses import Denoising, Samples
from lessons_src.networks import UNET_PRESETS, NoisePredictor, UNet
from lessons_src.samplers import sample
from lessons_src.students import Student, few_steps
from lessons_src.training import Recipe, Trainer, train

RANKS = (1, 8, 32)
SHIPPED = 8  # rank of the adapter that ships
OTHERS = {"trained on": 600, "another seed": 1500}  # networks that the shipped adapter has not seen: their own steps
EVERY = 0  # as a rank: all weights are trained, which is no adapter
PATHS = 4096
ADAPTER_STEPS, COLLAPSE_STEPS = 300, 300
CASES = ("no fake network", "from the teacher", "from student-1")  # of distribution matching without regression


def network() -> NoisePredictor:
    """The shipped digit network."""
    return weights.load("digits")[0]


def guided() -> Student:
    """The student of two calls with guidance w = 2 folded in, which adapters learn from."""
    return weights.load("student-2-guided")[0]


@cache
def guided_paths() -> Trajectories:
    """States of the guided student on its own grid: two evaluations a path, where its teacher needed 32."""
    student, generator = guided(), torch.Generator().manual_seed(2000)
    label = torch.randint(10, (PATHS,), generator=generator)
    noise, parts = torch.randn(PATHS, 1, 28, 28, generator=generator), []
    for x, own in zip(noise.split(128), label.split(128), strict=True):
        parts.append(Trajectories.record(x, few_steps(student, x, own), student.times).states)
    return Trajectories(torch.cat(parts, 1), student.times, label)


def fitted(net: NoisePredictor, rate: float, seed: int, steps: int) -> NoisePredictor:
    """The network, trained in place to draw as the guided student does; its average."""
    recipe = Recipe(steps, 32, rate, warmup=min(30, steps), ema=0.98, seed=seed)
    return train(Trainer(net, Regression(), guided_paths(), recipe))


def trained(rank: int, seed: int = 0, steps: int = ADAPTER_STEPS) -> dict[str, Tensor]:
    """An adapter of this rank for the digit network, which makes it draw as the guided student does."""
    torch.manual_seed(seed)
    return adapter(fitted(adapt(network(), rank), 3e-3, seed, steps))


def adapted(rank: int, seed: int = 0, steps: int = ADAPTER_STEPS) -> tuple[NoisePredictor, int]:
    """The digit network with a trained adapter, and how many numbers that has; rank EVERY trains all weights instead.

    A number is two bytes in half precision.
    """
    if rank == EVERY:
        net = fitted(network(), 1e-3, seed, steps)
        return net, sum(weight.numel() for weight in net.parameters())
    return _with(trained(rank, seed, steps))


def extracted(rank: int) -> tuple[NoisePredictor, int]:
    """The digit network with the guided student's own change cut down to this rank, without any training."""
    return _with(extract(network(), guided(), rank))


def _with(changes: dict[str, Tensor]) -> tuple[NoisePredictor, int]:
    return merge(plug(network(), changes)), sum(value.numel() for value in changes.values())


@cache
def checkpoint(name: str) -> NoisePredictor:
    """One of OTHERS: the shipped network after more steps on its data, or one of its shape from other first weights."""
    steps = OTHERS[check_choice("name", name, tuple(OTHERS))]
    torch.manual_seed(1)
    net = network() if name == "trained on" else NoisePredictor(UNet(**UNET_PRESETS["small"]), network().schedule, "v")
    recipe = Recipe(steps, 32, warmup=min(100, steps), ema=0.995, seed=1)
    return train(Trainer(net, Denoising(), Samples(*data.digits("train")), recipe))


def other(name: str, rank: int) -> tuple[NoisePredictor, int]:
    """One of OTHERS as it is (rank 0), or with the shipped adapter plugged in; and how many numbers that has."""
    if rank == 0:
        return checkpoint(name), 0
    changes = weights.load_adapter(f"guided-{rank}")[0]
    return merge(plug(checkpoint(name), changes)), sum(value.numel() for value in changes.values())


def as_guided(net: NoisePredictor) -> Student:
    """A network as the student of the guided student's grid."""
    return Student(net.body, net.schedule, guided().times, guided().w).eval()


def drawn(student: Student, noise: Tensor, label: Tensor) -> Tensor:
    """Digits (n, 1, 28, 28) of a student from these noises."""
    parts = zip(noise.split(100), label.split(100), strict=True)
    return torch.cat([sample(few_steps(student, x, own)) for x, own in parts]).clamp(-1, 1)


def collapsed(case: str, seed: int = 0, steps: int = COLLAPSE_STEPS) -> Student:
    """Distribution matching alone at one call, in one of CASES; without a fake network it starts from the teacher too.

    No regression holds it to the ends of paths; so the second part of the batch, where those would be, is not read.
    """
    check_choice("case", case, CASES)
    teacher, generator = network(), torch.Generator().manual_seed(3000 + seed)
    begin = weights.load("student-1")[0] if case == CASES[2] else copy.deepcopy(teacher)
    noise = torch.randn(4096, 1, 28, 28, generator=generator)
    label = torch.randint(10, (len(noise),), generator=generator)
    pairs = Trajectories(torch.stack([noise, noise]), [1000, 0], label)
    fake = None if case == CASES[0] else copy.deepcopy(teacher)
    loss = DistributionMatching(teacher, fake, [1000, 0], regression=0.0, rate=1e-3)
    recipe = Recipe(steps, 32, 3e-4, warmup=min(10, steps), ema=0.97, seed=seed)
    net = train(Trainer(begin, loss, pairs, recipe))
    return Student(net.body, net.schedule, [1000, 0]).eval()
