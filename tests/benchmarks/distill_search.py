"""Leads for students of the shipped digit network that draw in 1, 2 and 4 evaluations, found on a GPU in minutes.

python tests/benchmarks/distill_search.py [--device cuda] [--out FOLDER] [--seconds 380]
python tests/benchmarks/distill_search.py --device cpu --smoke       # the whole path in tiny sizes

Trains students on stored trajectories of the teacher: regression on their segments, then distribution matching, an
energy distance and an adversary in the features of a network of its own. The runs of PLANS are tried in turn, each
within its own time, as CUDA graphs where there are any; after each, results.json, results.md and the best students so
far (best_CALLS_NETWORK.safetensors, half precision) are written. A run that fails is recorded, and the next one starts.
"""

import argparse
import copy
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from sections import GRACE, Section, named, run_section, shown
from steps import record, set_tf32, warmed_up
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from lessons_src import data, weights
from lessons_src.evaluation import in_batches
from lessons_src.files import write_whole
from lessons_src.guidance import classifier_free
from lessons_src.metrics import class_spread, frechet_distance
from lessons_src.networks import UNET_PRESETS, DigitClassifier, NoisePredictor, ResidualBlock, UNet
from lessons_src.process import as_column
from lessons_src.samplers import State
from lessons_src.solvers import unipc
from lessons_src.training import checked_device

STORED = (1000, 750, 500, 250, 0)  # times at which trajectories are kept: the students' steps are among them
DEEPER = 4  # blocks that a "deep" student has more than the teacher, where the image is smallest
SEEDS = 10_000  # between the random numbers of one training seed and those of the next
CPU_RATE = 500  # images that one core trains in a second


class Plan(NamedTuple):
    """One training run. The rate is AdamW's, Muon's is ten times it; `start` names networks, the first there counts.

    Without `matching`, the loss is a segment's squared error of v, and `perceptual`. With it, the student runs all its
    steps, and is pulled by `regression` times squared error and `perceptual` to the stored end, and besides by `match`
    (distribution matching: fake network against teacher), `critic` and `energy`; these two pull so hard a pixel.
    """

    name: str
    calls: int
    start: tuple[str, ...]
    seconds: float
    batch: int = 256
    steps: int = 100_000
    rate: float = 1e-3
    ema: float = 0.99
    network: str = "small"
    perceptual: float = 0.0
    matching: bool = False
    regression: float = 0.25
    match: float = 1.0
    critic: float = 0.0
    energy: float = 0.0
    fakes: int = 2


def matching(name: str, calls: int, start: tuple[str, ...], seconds: float, **more: Any) -> Plan:
    """A plan of distribution matching as in the leads."""
    usual = {"rate": {1: 4e-4, 2: 3e-4, 4: 2e-4}[calls], "ema": 0.98, "perceptual": 1.0, "matching": True}
    return Plan(name, calls, start, seconds, **(usual | more))


BEST = "best"  # as a start: the best student so far of these calls and this network
PLANS = (
    Plan("reg4", 4, ("teacher",), 6, 512, 700, 1e-3),
    Plan("reg2", 2, ("reg4", "teacher"), 9, 512, 1000, 1e-3, perceptual=0.1),
    Plan("reg1", 1, ("reg2", "teacher"), 32, 512, 6000, 2e-3, 0.998, perceptual=0.2),
    matching("dm1", 1, ("reg1",), 20, steps=1200),
    matching("dm2", 2, ("reg2",), 18, steps=1000),
    Plan("deep-reg1", 1, ("reg2", "teacher"), 28, 512, 6000, 2e-3, 0.998, "deep", perceptual=0.2),
    matching("deep-dm1", 1, ("deep-reg1",), 20, steps=1200, network="deep"),
    matching("energy1", 1, ("reg1",), 13, batch=512, steps=1200, match=0.0, energy=0.1, fakes=0),
    matching("gan1", 1, ("reg1",), 19, steps=1200, critic=0.05),
    matching("free1", 1, ("reg1",), 13, steps=800, regression=0.0),
    matching("dm1-batch32", 1, ("reg1",), 11, batch=32, steps=1200),
    matching("all2", 2, ("dm2", "reg2"), 18, steps=800, critic=0.05, energy=0.05, rate=2e-4),
    matching("all1", 1, (BEST,), 24, batch=512, steps=1500, critic=0.05, energy=0.05, rate=3e-4, ema=0.99),
    matching("all2-again", 2, (BEST,), 16, batch=512, critic=0.05, energy=0.05, rate=1.5e-4, ema=0.99),
    Plan("base-reg1", 1, ("new",), 27, 512, 6000, 3e-3, 0.998, "base", perceptual=0.2),
    matching("base-dm1", 1, ("base-reg1",), 17, steps=1000, network="base"),
    Plan("reg1-batch64", 1, ("reg2",), 12, 64, 4000, 1e-3, 0.998, perceptual=0.2),
    matching("dm1-batch1024", 1, ("reg1",), 18, batch=1024, steps=1200),
    matching("dm4", 4, ("reg4",), 12, steps=400),
    matching("all1-again", 1, (BEST,), 20, batch=512, critic=0.05, energy=0.05, rate=2e-4, ema=0.99),
)


class Sizes(NamedTuple):
    """How much of everything there is."""

    noises: int = 65_536
    solver_steps: int = 24
    chunk: int = 4096
    judged: int = 2000
    seeds: tuple[int, ...] = (1, 2, 3)
    reading: tuple[int, int] = (700, 256)  # steps and batch of the two classifiers
    looks: int = 6
    warmup: int = 80
    most: tuple[int, int] = (100_000, 4096)  # steps and batch of a run, at most


SMOKE = Sizes(64, 4, 32, 80, (1, 2), (3, 16), 2, 2, (4, 4))


@dataclass
class Clock:
    """When runs must end: nothing is trained after `stop`."""

    start: float
    stop: float

    def left(self) -> float:
        """Seconds until then."""
        return self.stop - time.perf_counter()

    def spent(self) -> float:
        """Seconds since the script began."""
        return time.perf_counter() - self.start


# --- Networks and optimisers ------------------------------------------------------------------------------------------


class Eye(nn.Module):
    """A small classifier of digits, whose maps say what looks alike; it is not the judge."""

    def __init__(self) -> None:
        super().__init__()
        widths = (1, 16, 32, 64)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU()) for a, b in pairwise(widths)
        )
        self.head = nn.Linear(64, 10)

    def maps(self, x: Tensor) -> list[Tensor]:
        """What its three layers see of x (B, 1, 28, 28), at 28, 14 and 7 pixels a side."""
        found = []
        for i, block in enumerate(self.blocks):
            x = block(F.avg_pool2d(x, 2) if i else x)
            found.append(x)
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Class logits (B, 10)."""
        return self.head(self.maps(x)[-1].mean((2, 3)))

    def statistics(self, x: Tensor) -> Tensor:
        """The mean of every channel, and the last layer's in each quarter of the image, (B, 368)."""
        maps = self.maps(x)
        quarters = F.avg_pool2d(maps[-1][:, :, :6, :6], 3)
        return torch.cat([*(m.mean((2, 3)) for m in maps), quarters.flatten(1)], 1)

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """How different a and b look: squared distance of their maps, each place's channels of length 1; a mean."""
        pairs = zip(self.maps(a), self.maps(b), strict=True)
        return torch.stack([(_direction(m) - _direction(n)).square().sum(1).mean() for m, n in pairs]).mean()


def _direction(maps: Tensor) -> Tensor:
    return maps * (maps.square().sum(1, keepdim=True) + 1e-6).rsqrt()


class Critic(nn.Module):
    """Tells drawn from real digits of a class, place by place, in the last two maps of an Eye (Sauer et al. 2021)."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, 32, 1), nn.LeakyReLU(0.2), nn.Conv2d(32, 32, 3, padding=1))
            for width in (32, 64)
        )
        self.label = nn.Embedding(10, 32)
        self.out = nn.ModuleList(nn.Conv2d(32, 1, 1) for _ in range(2))

    def forward(self, maps: Sequence[Tensor], label: Tensor) -> Tensor:
        """How real each place looks, (B, places)."""
        wanted, scores = self.label(label)[:, :, None, None], []
        for seen, head, out in zip(maps[1:], self.heads, self.out, strict=True):
            h = F.leaky_relu(head(seen), 0.2)
            scores.append((out(h) + (h * wanted).mean(1, keepdim=True)).flatten(1))
        return torch.cat(scores, 1)


class BatchedMuon:
    """`lessons_src.optimizers.Muon` at ten times a rate that is a tensor; weights of one shape are taken together."""

    def __init__(self, parameters: Sequence[nn.Parameter], rate: Tensor, momentum: float = 0.95) -> None:
        self.rate, self.momentum = rate, momentum
        self.groups: dict[tuple[int, ...], list[nn.Parameter]] = {}
        for parameter in parameters:
            self.groups.setdefault(tuple(parameter.flatten(1).shape), []).append(parameter)
        self.averages = {
            shape: torch.zeros(len(group), *shape, device=group[0].device) for shape, group in self.groups.items()
        }

    @torch.no_grad()
    def step(self) -> None:
        """Move every weight by its orthogonal update."""
        for shape, group in self.groups.items():
            gradient = torch.stack([parameter.grad.flatten(1) for parameter in group])
            average = self.averages[shape].lerp_(gradient, 1 - self.momentum)
            update = orthogonal(gradient.lerp(average, self.momentum))
            update = update * (-10 * max(1.0, shape[0] / shape[1]) ** 0.5 * self.rate)
            for parameter, move in zip(group, update, strict=True):
                parameter.add_(move.reshape(parameter.shape))


def orthogonal(matrices: Tensor, iterations: int = 5) -> Tensor:
    """`lessons_src.optimizers.orthogonal` of several matrices (n, rows, columns) at once."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Learner:
    """A network in training, its optimisers, and the running average of its weights.

    Rate and decay are tensors, which a recorded step reads; `set` changes them between steps.
    """

    def __init__(self, net: nn.Module, rate: float, muon: bool = True, beta: float = 0.9) -> None:
        self.net, self.peak = net.train().requires_grad_(True), rate
        self.average = copy.deepcopy(net).eval().requires_grad_(False)
        self.parameters, self.means = list(net.parameters()), list(self.average.parameters())
        device = self.parameters[0].device
        self.rate, self.decay = torch.zeros((), device=device), torch.ones((), device=device)
        inner, rest = [], []
        for name, parameter in net.named_parameters():
            outer = {"enter", "leave"} & set(name.split("."))
            (inner if muon and parameter.ndim == 4 and not outer else rest).append(parameter)
        self.adamw = torch.optim.AdamW(
            rest, self.rate, (beta, 0.99), weight_decay=0.0, fused=True, capturable=device.type == "cuda"
        )
        if self.adamw.param_groups[0]["lr"] is not self.rate:
            raise RuntimeError("AdamW has copied the tensor of its rate")
        self.muon = BatchedMuon(inner, self.rate) if inner else None

    def set(self, share: float, decay: float = 1.0) -> None:
        """The share of the peak rate from now on, and how much of the average stays at a step."""
        self.rate.fill_(self.peak * share)
        self.decay.fill_(decay)

    def descend(self, loss: Tensor) -> None:
        """One step down a loss."""
        loss.backward()
        self.adamw.step()
        if self.muon:
            self.muon.step()
        self.forget()
        with torch.no_grad():
            torch._foreach_mul_(self.means, self.decay)
            torch._foreach_add_(self.means, torch._foreach_mul(self.parameters, 1 - self.decay))

    def forget(self) -> None:
        """Drop all gradients."""
        for parameter in self.parameters:
            parameter.grad = None


def train_reader(net: nn.Module, world: "World", seed: int) -> nn.Module:
    """Train a classifier on shifted training digits, eagerly; it comes back fixed."""
    steps, batch = world.sizes.reading
    generator = torch.Generator().manual_seed(seed)
    net = net.to(world.device).train()
    optimizer = torch.optim.AdamW(net.parameters(), 5e-3, weight_decay=1e-2, fused=True)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 5e-3 * min((step + 1) / 50, 1 - step / steps)
        picked = torch.randint(len(world.real), (batch,), generator=generator).to(world.device)
        down, across = torch.randint(5, (2,), generator=generator).tolist()
        x = F.pad(world.real[picked], (2, 2, 2, 2), value=-1)[..., down : down + 28, across : across + 28]
        F.cross_entropy(net(x), world.real_label[picked]).backward()
        optimizer.step()
        optimizer.zero_grad()
    return net.eval().requires_grad_(False)


def start_network(plan: Plan, world: "World") -> tuple[NoisePredictor, str]:
    """A copy of the network that a plan starts from, of the plan's size, and its name."""
    if plan.start == ("new",):
        torch.manual_seed(0)
        net = NoisePredictor(UNet(**UNET_PRESETS[plan.network]), world.teacher.schedule, "v")
        return net.to(world.device), "new"
    known = world.students | {BEST: world.best.get(f"{plan.calls}_{plan.network}", (0, ""))[1]}
    name = next((name for name in plan.start if known.get(name)), None)
    if name is None:
        raise ValueError(f"none of {plan.start} is there to start from")
    if name == BEST:
        name = known[BEST]
    net = copy.deepcopy(world.students[name].net)
    middle = net.body.middle
    if plan.network == "deep" and len(middle) == len(world.teacher.body.middle):
        torch.manual_seed(0)
        coarse, width = middle[0].conv1.out_channels, middle[0].film.in_features
        for _ in range(DEEPER):  # each starts by adding nothing
            middle.append(ResidualBlock(coarse, coarse, width).to(world.device, memory_format=torch.channels_last))
    return net, name


# --- What all runs share ----------------------------------------------------------------------------------------------


class Student(NamedTuple):
    """A network that can be started from, and what it cost: images trained by a network of the teacher's size."""

    net: NoisePredictor
    images: float = 0.0


@dataclass
class World:
    """The teacher, its trajectories, the real digits, the judges, and the students so far.

    seed changes everything random in training. Trajectories are those of `path`, guided by `w`.
    """

    device: torch.device
    sizes: Sizes
    teacher: NoisePredictor
    real: Tensor
    real_label: Tensor
    students: dict[str, Student] = field(default_factory=dict)
    best: dict[str, tuple[float, str]] = field(default_factory=dict)
    graphs: int = 2  # how many failures to record before no more are tried
    seed: int = 0
    w: float = 1.0
    path: Callable[..., Iterator[State]] = unipc
    states: Tensor = field(init=False)
    label: Tensor = field(init=False)
    eye: Eye = field(init=False)
    scale: Tensor = field(init=False)
    judge: "Judge" = field(init=False)


class Judge:
    """Scores of students: the course's judge, another classifier beside it, and the teacher's ends from this noise."""

    def __init__(self, world: World, other: DigitClassifier) -> None:
        self.world, sizes = world, world.sizes
        self.readers = {
            "frechet": weights.load("classifier")[0].to(world.device).requires_grad_(False),
            "other judge": other,
        }
        test = data.digits("test")[0].to(world.device)
        self.real = {name: self.features(name, test) for name in self.readers}
        self.label = (torch.arange(sizes.judged) % 10).to(world.device)
        self.noise, self.ends, self.end_features = {}, {}, {}
        for seed in sizes.seeds:
            noise = torch.randn(sizes.judged, 1, 28, 28, generator=torch.Generator().manual_seed(seed))
            self.noise[seed] = noise.to(world.device)
            self.ends[seed] = solve(world, self.noise[seed], self.label)[-1].clamp(-1, 1)
            self.end_features[seed] = self.features("frechet", self.ends[seed])

    def features(self, reader: str, x: Tensor) -> Tensor:
        """Features of x, on the CPU."""
        return in_batches(self.readers[reader].features, x, 1000).cpu()

    def __call__(self, draw: Callable[[Tensor, Tensor], Tensor], seeds: Sequence[int]) -> dict[str, Any]:
        """Means over noise seeds for draw(noise, label); `each` holds the distances of the seeds. Without TF32."""
        set_tf32(False)
        try:
            found = [self.one(draw, seed) for seed in seeds]
        finally:
            set_tf32(True)
        scores = {key: sum(one[key] for one in found) / len(found) for key in found[0]}
        return scores | {"each": [round(one["frechet"], 3) for one in found]}

    @torch.no_grad()
    def one(self, draw: Callable[[Tensor, Tensor], Tensor], seed: int) -> dict[str, float]:
        """Scores for one seed."""
        x = draw(self.noise[seed], self.label).clamp(-1, 1)
        features = {name: self.features(name, x) for name in self.readers}
        read = self.readers["frechet"].head(F.relu(features["frechet"].to(x.device))).argmax(1)
        return {
            "frechet": frechet_distance(features["frechet"], self.real["frechet"]),
            "accuracy": (read == self.label).double().mean().item(),
            "spread": class_spread(features["frechet"], self.label.cpu()),
            "other judge": frechet_distance(features["other judge"], self.real["other judge"]),
            "to teacher": frechet_distance(features["frechet"], self.end_features[seed]),
            "error": (x - self.ends[seed]).square().mean().sqrt().item(),
        }


def solve(world: World, noise: Tensor, label: Tensor, steps: int | None = None) -> Tensor:
    """The teacher's states at STORED times from this noise, (5, B, 1, 28, 28)."""
    schedule, steps = world.teacher.schedule, steps or world.sizes.solver_steps
    times = [round(schedule.T * i / steps) for i in range(steps, -1, -1)]
    eps_fn = classifier_free(world.teacher, label, world.w)
    kept = [state.x for state in world.path(eps_fn, noise, schedule, times) if state.t in STORED]
    return torch.stack([noise, *kept])


def store(world: World) -> None:
    """Fill in the trajectories, with random labels."""
    n, device = world.sizes.noises, world.device
    generator = torch.Generator(device).manual_seed(1000 + SEEDS * world.seed)
    world.label = torch.randint(10, (n,), generator=generator, device=device)
    world.states = torch.empty(len(STORED), n, 1, 28, 28, device=device)
    for part in torch.arange(n, device=device).split(world.sizes.chunk):
        noise = torch.randn(len(part), 1, 28, 28, generator=generator, device=device)
        world.states[:, part] = solve(world, noise, world.label[part])


def grid(calls: int) -> tuple[int, ...]:
    """The times of a student of so many calls, and 0."""
    return STORED[:: (len(STORED) - 1) // calls]


def travel(net: NoisePredictor, x: Tensor, label: Tensor, times: Sequence[int]) -> Tensor:
    """Where DDIM's steps lead from x, with gradients; one call each."""
    level = net.schedule.alpha_bar.tolist()
    for t, s in pairwise(times):
        v = net.output(x, torch.full((len(x),), t, device=x.device), label)
        a, b = math.sqrt(level[t]), math.sqrt(1 - level[t])
        x = math.sqrt(level[s]) * (a * x - b * v) + math.sqrt(1 - level[s]) * (b * x + a * v)
    return x


def drawing(net: NoisePredictor, calls: int) -> Callable[[Tensor, Tensor], Tensor]:
    """A student as the judge takes it."""
    return lambda noise, label: travel(net, noise, label, grid(calls))


# --- Training ---------------------------------------------------------------------------------------------------------


class Run:
    """A student in training: everything that a step touches, there before it is recorded. Nothing waits for the host.

    `sums` gathers squared error, perceptual error, mean pull of the matching, and losses of fake network and critic.
    """

    def __init__(self, plan: Plan, world: World) -> None:
        device = world.device
        net, self.started = start_network(plan, world)
        self.plan, self.world = plan, world
        self.student = Learner(net, plan.rate)
        self.fake = Learner(copy.deepcopy(world.teacher), 7e-4) if plan.matching and plan.match else None
        torch.manual_seed(1 + SEEDS * world.seed)
        self.critic = Learner(Critic().to(device), 5e-4, muon=False, beta=0.5) if plan.critic else None
        self.others = [learner for learner in (self.fake, self.critic) if learner]
        self.generator = torch.Generator(device).manual_seed(2 + SEEDS * world.seed)
        self.sums, self.count = torch.zeros(5, device=device), 0
        self.times = torch.tensor(grid(plan.calls), device=device)
        self.stride = (len(STORED) - 1) // plan.calls
        self.step = self.match if plan.matching else self.regress
        self.warmup = world.sizes.warmup if self.others else 0

    def work(self) -> float:
        """What an image of a step costs, in images trained by a network of the teacher's size."""
        plan = self.plan
        return plan.calls * size_of(self.student.net) / size_of(self.world.teacher) + (
            plan.fakes + 2 / 3 if self.fake else 0
        )

    def set(self, step: int, steps: int) -> None:
        """Rates and decays of a step, counted from 0: a line to 0 for regression; later ones stay above it."""
        done, along = step - self.warmup, step / steps
        decay = min(self.plan.ema, (1 + done) / (10 + done)) if done >= 0 else 1.0
        if not self.plan.matching:
            self.student.set(min((step + 1) / 30, 1 - along), decay)
            return
        self.student.set(min(max(done, 0) / 10, 1 - 0.9 * along), decay)
        for learner in self.others:
            learner.set(1 - 0.7 * along)

    def freeze(self) -> None:
        """Let steps change nothing but momentum, as while warming up."""
        for learner in (self.student, *self.others):
            learner.set(0.0)

    def draw(self, count: int) -> Tensor:
        """A batch of indices below count."""
        return torch.randint(count, (self.plan.batch,), generator=self.generator, device=self.world.device)

    def level(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Signal and noise at times t (B,), as columns."""
        net = self.world.teacher
        return net.signal[t][:, None, None, None], net.noise[t][:, None, None, None]

    def looks(self, a: Tensor, b: Tensor) -> Tensor:
        """How different a and b look, after both are shifted alike."""
        shift = torch.randint(5, (2, 1), generator=self.generator, device=self.world.device)
        rows = torch.arange(28, device=self.world.device) + shift
        a, b = (F.pad(x, (2, 2, 2, 2), value=-1).index_select(2, rows[0]).index_select(3, rows[1]) for x in (a, b))
        return self.world.eye.distance(a, b)

    def note(self, **found: Tensor) -> None:
        """Add to the sums, by name."""
        for name, value in found.items():
            self.sums[SUMS.index(name)].add_(value.detach())

    def regress(self) -> None:
        """One step on segments of the trajectories: the v whose DDIM step ends where the teacher's path does."""
        plan, world = self.plan, self.world
        i, segment = self.draw(len(world.label)), self.draw(plan.calls)
        t, s = self.times[segment], self.times[segment + 1]
        x, end = world.states[segment * self.stride, i], world.states[(segment + 1) * self.stride, i]
        (a, b), (a_end, b_end) = self.level(t), self.level(s)
        ratio = b_end / b
        x0 = (end - ratio * x) / (a_end - ratio * a)
        v = self.student.net.output(x, t, world.label[i])
        error = (v - (a * x - x0) / b).square().mean()
        loss = error
        if plan.perceptual:
            difference = self.looks(a * x - b * v, x0)
            loss = loss + plan.perceptual * difference
            self.note(perceptual=difference)
        self.note(error=error)
        self.student.descend(loss)

    def match(self) -> None:
        """One step of the student after the pulls on what it draws, then those of the fake network and the critic."""
        plan, world = self.plan, self.world
        i = self.draw(len(world.label))
        label, end = world.label[i], world.states[-1, i]
        x = travel(self.student.net, world.states[0, i], label, grid(plan.calls))
        drawn = x.detach()
        pull = torch.zeros_like(drawn)
        if self.fake:
            pull = pull + plan.match * self.matching_pull(drawn, label)
        real = self.draw(len(world.real)) if plan.critic or plan.energy else i
        if self.critic:
            pull = pull + plan.critic * self.pull_of(
                lambda z: -self.critic.net(world.eye.maps(z), label).mean(), drawn, self.critic
            )
        if plan.energy:
            pull = pull + plan.energy * self.pull_of(lambda z: self.energy(z, label, real), drawn)
        loss = (x * pull).mean()
        if plan.regression:
            error, difference = (x - end).square().mean(), self.looks(x, end)
            loss = loss + plan.regression * (error + plan.perceptual * difference)
            self.note(error=error, perceptual=difference)
        self.student.descend(loss)
        for _ in range(plan.fakes if self.fake else 0):
            x_u, v, u = self.noised(drawn)
            fake_loss = (self.fake.net.output(x_u, u, label) - v).square().mean()
            self.note(fake=fake_loss / plan.fakes)
            self.fake.descend(fake_loss)
        if self.critic:
            with torch.no_grad():
                seen, known = world.eye.maps(drawn), world.eye.maps(world.real[real])
            critic_loss = F.relu(1 + self.critic.net(seen, label)).mean()
            critic_loss = critic_loss + F.relu(1 - self.critic.net(known, world.real_label[real])).mean()
            self.note(critic=critic_loss)
            self.critic.descend(critic_loss)

    def noised(self, x0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x0 at times spread evenly over 20..979, the velocity there, and the times."""
        B, device = len(x0), x0.device
        offset = torch.rand(1, generator=self.generator, device=device)
        u = 20 + (960 * (torch.arange(B, device=device) + offset) / B).long().clamp(max=959)
        eps = torch.randn(x0.shape, generator=self.generator, device=device)
        a, b = self.level(u)
        return a * x0 + b * eps, a * eps - b * x0, u

    @torch.no_grad()
    def matching_pull(self, x: Tensor, label: Tensor) -> Tensor:
        """Where fake network and teacher disagree about x, noised, over how far the teacher is (Yin et al. 2023)."""
        x_u, _, u = self.noised(x)
        a, b = self.level(u)
        fake = a * x_u - b * self.fake.net.output(x_u, u, label)
        true = a * x_u - b * self.world.teacher.output(x_u, u, label)
        pull = (fake - true) / as_column((x - true).abs().flatten(1).mean(1), x).clamp(min=1e-3)
        self.note(pull=pull.abs().mean())
        return pull

    def pull_of(self, loss: Callable[[Tensor], Tensor], x: Tensor, learner: Learner | None = None) -> Tensor:
        """The gradient of a loss at x, scaled to 1 a pixel in the mean; the learner in the loss gets none."""
        for parameter in learner.parameters if learner else ():
            parameter.requires_grad_(False)
        z = x.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(loss(z), z)
        for parameter in learner.parameters if learner else ():
            parameter.requires_grad_(True)
        return gradient / gradient.abs().mean().clamp(min=1e-12)

    def energy(self, x: Tensor, label: Tensor, real: Tensor) -> Tensor:
        """Energy distance of x to real digits of the same classes, in statistics of the Eye."""
        eye, scale = self.world.eye, self.world.scale
        a = eye.statistics(x) / scale
        with torch.no_grad():
            b = eye.statistics(self.world.real[real]) / scale
        across = label[:, None] == self.world.real_label[real][None]
        within = (label[:, None] == label[None]) & ~torch.eye(len(x), dtype=torch.bool, device=x.device)
        return 2 * _mean_distance(a, b, across) - _mean_distance(a, a, within)


SUMS = ("error", "perceptual", "pull", "fake", "critic")


def _mean_distance(a: Tensor, b: Tensor, pairs: Tensor) -> Tensor:
    """The mean distance of such pairs of rows."""
    distance = ((a[:, None] - b[None]).square().sum(2) + 1e-6).sqrt()
    return (distance * pairs).sum() / pairs.sum().clamp(min=1)


def size_of(net: NoisePredictor) -> float:
    """FLOPs of one image, forward."""
    found = FLOPS.get(key := sum(parameter.numel() for parameter in net.parameters()))
    if found is None:
        x = torch.zeros(1, 1, 28, 28, device=net.signal.device)
        t = torch.ones(1, dtype=torch.int64, device=x.device)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            net.output(x, t, t)
        found = FLOPS[key] = counter.get_total_flops()
    return found


FLOPS: dict[int, float] = {}


def wait(world: World) -> None:
    """Until the device has done all it was given."""
    if world.device.type == "cuda":
        torch.cuda.synchronize()


def recorded(run: Run, world: World) -> tuple[Callable[[], None], Any, str]:
    """The step of a run as a CUDA graph, or as it comes where that does not work; the graph, to be kept; how it is."""
    if world.device.type != "cuda":
        run.step()
        return run.step, None, "plain"
    if world.graphs > 0:
        try:
            warmed_up(run.step)
            wait(world)
            graph = record(run.step, run.generator)
            graph.replay()
            wait(world)
            return graph.replay, graph, "graph"
        except Exception as error:
            world.graphs -= 1
            print(f"  NO GRAPH {named(error)}", flush=True)
            run.generator = torch.Generator(world.device).manual_seed(3 + SEEDS * world.seed)
            for learner in (run.student, *run.others):
                learner.forget()
                for parameter in learner.parameters:
                    parameter.requires_grad_(True)
    run.step()
    wait(world)
    return run.step, None, "plain"


def train(plan: Plan, world: World, clock: Clock, row: dict[str, Any]) -> NoisePredictor:
    """Carry out a plan; fills in the row as it goes, and returns the averaged student in half precision's numbers."""
    began = time.perf_counter()
    until = min(began + plan.seconds, clock.stop)
    run = Run(plan, world)
    row |= {"from": run.started, "parameters": sum(p.numel() for p in run.student.parameters)}
    run.freeze()
    call, graph, how = recorded(run, world)
    start, tries = time.perf_counter(), 1 if world.sizes is SMOKE else 4
    for _ in range(tries):
        call()
    wait(world)
    pace = (time.perf_counter() - start) / tries
    run.sums.zero_()
    prepared = time.perf_counter() - began
    reserve = world.sizes.looks * row.pop("a look", 0.2)
    steps = max(2, min(plan.steps, int(0.97 * (until - time.perf_counter() - reserve) / pace)))
    row |= {"how": how, "ms": 1000 * pace, "planned": steps, "to prepare": prepared}
    looks = {round(steps * part / world.sizes.looks) for part in range(1, world.sizes.looks)}
    done = 0
    while done < steps:
        run.set(done, steps)
        call()
        done += 1
        if done in looks:
            row["curve"].append(look(run, world, done))
        if done % 25 == 0:
            wait(world)
            now = time.perf_counter()
            if now > clock.stop or now > until + 0.15 * plan.seconds + 2:
                row["note"] = "broken off"
                break
    wait(world)
    row["curve"].append(look(run, world, done, judged=False))
    images = done * plan.batch * run.work()
    row |= {"steps": done, "images": images + world.students[run.started].images if run.started != "new" else images}
    row["CPU min"] = row["images"] / CPU_RATE / 60
    del call, graph
    net = run.student.average
    with torch.no_grad():
        for weight in net.parameters():
            weight.copy_(weight.half().float())
    return net


def look(run: Run, world: World, done: int, judged: bool = True) -> dict[str, Any]:
    """Mean losses since the last look, and scores for one seed. FloatingPointError if something is no number."""
    sums = run.sums.tolist()
    since, run.count = done - run.count, done
    run.sums.zero_()
    if not all(map(math.isfinite, sums)):
        raise FloatingPointError(f"losses are {dict(zip(SUMS, sums, strict=True))} at step {done}")
    found = {"step": done} | {name: value / max(since, 1) for name, value in zip(SUMS, sums, strict=True) if value}
    if judged:
        scores = world.judge(drawing(run.student.average, run.plan.calls), world.sizes.seeds[:1])
        found |= {key: scores[key] for key in ("frechet", "to teacher", "accuracy", "spread")}
        found["held-out error"] = scores["error"]
    return found


# --- The whole --------------------------------------------------------------------------------------------------------


SCORES = ("frechet", "each", "accuracy", "spread", "other judge", "to teacher", "error")


def say(row: dict[str, Any]) -> None:
    """A run in a few lines."""
    head = ", ".join(f"{key} {shown(row[key])}" for key in ("from", "batch", "steps", "ms", "how") if key in row)
    scores = ", ".join(f"{key} {shown(row[key])}" for key in SCORES if key in row)
    print(f"{row['name']}: {row['status']}, {row['s']:.1f} s, {head}\n  {scores}", flush=True)
    for key in ("frechet", "held-out error", "pull", "critic"):
        values = [shown(look[key]) for look in row["curve"] if key in look]
        print(f"  {key}: {' '.join(values)}", flush=True) if values else None


def set_up(world: World) -> list[dict[str, Any]]:
    """Train the readers, store the trajectories, make the judge; rows that say how good the teacher is."""
    start = time.perf_counter()

    def done(what: str) -> None:
        nonlocal start
        wait(world)
        print(f"{what}: {time.perf_counter() - start:.1f} s", flush=True)
        start = time.perf_counter()

    torch.manual_seed(11 + SEEDS * world.seed)
    world.eye = train_reader(Eye(), world, 11 + SEEDS * world.seed)
    torch.manual_seed(12 + SEEDS * world.seed)
    other = train_reader(DigitClassifier(), world, 12 + SEEDS * world.seed)
    with torch.no_grad():
        world.scale = world.eye.statistics(world.real[:2000]).std(0) + 1e-3
    done("readers")
    store(world)
    done(f"{world.sizes.noises} trajectories")
    world.judge = Judge(world, other)
    test, label = data.digits("test")
    test, label = test.to(world.device), label.to(world.device)
    with torch.no_grad():
        for name, reader in {"eye": world.eye, "other judge": other}.items():
            print(f"{name}: reads {(reader(test).argmax(1) == label).double().mean().item():.3f} of the test digits")
    print(f"spread of test digits: {class_spread(world.judge.real['frechet'], label.cpu()):.3f}", flush=True)
    done("judge")
    cases: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        f"teacher, DDIM {calls}": drawing(world.teacher, calls) for calls in (1, 2, 4)
    }
    for steps in {4 if world.sizes is SMOKE else 12, world.sizes.solver_steps}:
        cases[f"teacher, UniPC {steps}"] = lambda noise, label, steps=steps: solve(world, noise, label, steps)[-1]
    rows = []
    for name, draw in cases.items():
        row = {"name": name, "status": "done", "s": 0.0, "curve": []} | world.judge(draw, world.sizes.seeds)
        say(row)
        rows.append(row)
    done("teacher judged")
    return rows


def keep_best(world: World, row: dict[str, Any], net: NoisePredictor, folder: Path) -> None:
    """Write a student that is the best of its calls and network so far."""
    key = f"{row['calls']}_{row['network']}"
    if row["frechet"] >= world.best.get(key, (math.inf, ""))[0]:
        return
    world.best[key] = (row["frechet"], row["name"])
    tensors = {name: value.half().contiguous().cpu() for name, value in net.state_dict().items()}
    about = {"plan": row["name"], "network": row["network"], "calls": str(row["calls"]), "frechet": str(row["frechet"])}
    write_whole(folder / f"best_{key}.safetensors", lambda part: save_file(tensors, part, about))


def write(folder: Path, about: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Everything into results.json; scores and curves into results.md."""
    write_whole(
        folder / "results.json",
        lambda part: part.write_text(json.dumps({"about": about, "runs": rows}, indent=1, default=str) + "\n"),
    )
    columns = ("name", "status", "s", "from", "network", "calls", "parameters", "batch", "rate", "steps", "planned")
    columns += ("ms", "how", "images", "CPU min", *SCORES)
    lines = ["# Few-step students", "", ", ".join(f"{key} {value}" for key, value in about.items()), ""]
    lines += ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(shown(row.get(key)).replace("|", "/") for key in columns) + " |" for row in rows]
    for row in rows:
        if row["curve"]:
            names = list(dict.fromkeys(name for look in row["curve"] for name in look))
            lines += ["", f"## {row['name']}", "", "| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
            lines += ["| " + " | ".join(shown(look.get(name)) for name in names) + " |" for look in row["curve"]]
    write_whole(folder / "results.md", lambda part: part.write_text("\n".join(lines) + "\n"))


def carry_out(plan: Plan, world: World, clock: Clock, folder: Path, a_look: float) -> dict[str, Any]:
    """One plan, whatever happens: its row."""
    most_steps, most_batch = world.sizes.most
    plan = plan._replace(steps=min(plan.steps, most_steps), batch=min(plan.batch, most_batch))
    row: dict[str, Any] = plan._asdict() | {"curve": [], "a look": a_look}
    row["planned steps"] = row.pop("steps")

    def body(_: Section) -> None:
        net = train(plan, world, clock, row)
        row.update(world.judge(drawing(net, plan.calls), world.sizes.seeds))
        world.students[plan.name] = Student(net, row["images"])
        keep_best(world, row, net, folder)

    until = min(time.perf_counter() + 1.5 * plan.seconds + 10, clock.stop + 8 - GRACE)
    section = Section(str(world.device), world.sizes, until, {})
    run_section(body, section)
    row |= {"status": section.status, "s": section.seconds, "errors": section.errors}
    for text in section.errors:
        print(text, flush=True)
    return row


def main(arguments: list[str] | None = None) -> int:
    """Set up, then carry out the plans while there is time; 1 if one failed."""
    began = time.perf_counter()
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=Path("."), help="folder for results and students")
    parser.add_argument("--seconds", type=float, default=380.0, help="for everything")
    parser.add_argument("--only", nargs="+", help="these plans")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to see whether everything runs")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    clock, device = Clock(began, began + options.seconds - 8), checked_device(options.device)
    set_tf32(True)
    about: dict[str, Any] = {"device": str(device), "torch": torch.__version__}
    if device.type == "cuda":
        about["card"] = torch.cuda.get_device_name()
    print(about, flush=True)
    real, real_label = (part.to(device) for part in data.digits())
    teacher = weights.load("digits")[0].to(device).requires_grad_(False)
    world = World(device, SMOKE if options.smoke else Sizes(), teacher, real, real_label)
    world.students["teacher"] = Student(teacher)
    rows = set_up(world)
    start = time.perf_counter()
    world.judge(drawing(teacher, 2), world.sizes.seeds[:1])
    a_look = time.perf_counter() - start
    about |= {"seconds to set up": round(clock.spent(), 1), "seconds a look": round(a_look, 3)}
    write(options.out, about, rows)
    share = options.seconds / 380
    for plan in PLANS:
        if options.only and plan.name not in options.only:
            continue
        seconds = min(plan.seconds * share, clock.left() - 4 * a_look)
        if seconds < 3:
            print(f"{plan.name}: no time left", flush=True)
            continue
        row = carry_out(plan._replace(seconds=seconds), world, clock, options.out, a_look)
        rows.append(row)
        say(row)
        write(options.out, about, rows)
    print(f"best: {world.best}\n{clock.spent():.1f} s in all", flush=True)
    return int(any(row["status"].startswith("failed") for row in rows))


if __name__ == "__main__":
    sys.exit(main())
