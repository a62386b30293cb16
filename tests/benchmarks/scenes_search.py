"""Leads for text to image on drawn scenes, found on a GPU in minutes: autoencoder, latent U-Net and DiT, pixels.

python tests/benchmarks/scenes_search.py [--device cuda] [--out FOLDER] [--seconds 480]
python tests/benchmarks/scenes_search.py --device cpu --smoke       # the whole path in tiny sizes

Runs the jobs of LANES as processes of their own, lanes beside each other on the one card; what a job needs is drawn on
the device. Each job renews its curves and its averaged weights (half precision) about every minute and at its end;
results.json gathers the curves, and weights_N.tar the weights and some samples. `--job NAME` runs one job.
"""

import argparse
import copy
import json
import math
import os
import subprocess
import sys
import tarfile
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from scene_training import Optimizer, Pace, recorded, wait
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from lessons_src import latent, scenes
from lessons_src.files import write_whole
from lessons_src.latent import Autoencoder
from lessons_src.metrics import wilson_interval
from lessons_src.scene_checker import ATTRIBUTES, judge, read
from lessons_src.scenes import HELD, HUES, LENGTH, SHAPES, Scenes, combinations, draw, joined, paint, palette
from lessons_src.schedules import cosine
from lessons_src.text_to_image import NULL, PAD, CaptionUNet, DiT

PICTURE = (3, scenes.SIDE, scenes.SIDE)
NETS = {
    "unet": lambda: CaptionUNet(channels=(64, 96)),
    "unet-small": lambda: CaptionUNet(channels=(48, 64)),
    "dit": lambda: DiT(width=96, depth=4, heads=6),
    "dit-small": lambda: DiT(width=80, depth=4, heads=5),
    "dit-patch2": lambda: DiT(width=128, depth=4, heads=4, patch=2),
    "pixel-2": lambda: CaptionUNet(PICTURE, channels=(48, 64), patch=2),
    "pixel-4": lambda: CaptionUNet(PICTURE, channels=(48, 64), patch=4),
}
ONE, TWO = ("one seen", "one held"), ("two seen", "two held", "two of held")
SETS = {"one": ONE, "two": TWO, "mixed": ONE + TWO}
EIGHTS = (("red", "circle"), ("cyan", "star"), ("blue", "triangle"))
HALF = tuple((hue, shape) for i, hue in enumerate(HUES) for j, shape in enumerate(SHAPES) if (i + j) % 2)


@dataclass(frozen=True)
class Job:
    """One training run. The rate is Adam's, Muon's is ten times it; `share` is of the time of its lane."""

    name: str
    net: str = "unet-small"
    data: str = "one"
    share: float = 1.0
    batch: int = 512
    rate: float = 2e-3
    ema: float = 0.999
    scale: float = 1.0  # latents are multiplied by it, after being standardised
    held: tuple[tuple[str, str], ...] = HELD
    objects: float = 0.0  # how much more latents count where an object is
    words: float = 0.0  # share of words left out of captions
    times: str = "uniform"
    two: float = 0.6  # share of two objects, if mixed
    kl: float = 1e-4  # of an autoencoder
    seed: int = 0


BASE = Job("unet-mixed", "unet", "mixed")
AUTOENCODER = Job("ae", "autoencoder", batch=256)
LANES: tuple[tuple[Job, ...], ...] = (
    (BASE,),
    (Job("unet-mixed-helped", "unet", "mixed", words=0.1, objects=2.0),),
    (Job("dit-mixed", "dit", "mixed"),),
    (Job("unet-two", "unet", "two"), Job("unet-small-mixed", "unet-small", "mixed")),
    (
        Job("one", share=1.3),
        Job("one-objects", objects=3.0),
        Job("one-words", words=0.15),
        Job("one-middle", times="middle"),
        Job("one-scale-0.25", scale=0.25, share=0.8),
        Job("one-scale-4", scale=4.0, share=0.8),
        Job("one-held-3", held=EIGHTS),
        Job("one-held-12", held=HALF),
    ),
    (
        Job("one-pixel-2", "pixel-2", batch=256, share=1.6),  # needs no autoencoder: begins at once
        Job("one-pixel-4", "pixel-4"),
        Job("one-dit", "dit-small"),
        Job("one-dit-patch2", "dit-patch2"),
        Job("one-batch-2048", batch=2048, rate=3e-3),
        Job("ae-kl-1e-2", "autoencoder", batch=256, kl=1e-2, share=0.6),
        Job("ae-kl-1e-6", "autoencoder", batch=256, kl=1e-6, share=0.6),
    ),
)
JOBS = {job.name: job for job in (AUTOENCODER, *(job for lane in LANES for job in lane))}
FIRST = ("ae", "unet-mixed", "unet-mixed-helped", "dit-mixed", "unet-small-mixed", "unet-two")  # packed first
KEPT = (*FIRST, "one", "one-dit", "one-pixel-2", "ae-kl-1e-2", "ae-kl-1e-6")  # whose weights are packed


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    pool: int = 131072
    pictures: int = 65536
    renewed: int = 4096
    every: int = 100  # steps between two renewals
    look: int = 200
    final: int = 1000
    steps: int = 10_000_000
    most_batch: int = 100_000
    sampler: int = 12
    guidance: tuple[float, ...] = (1.0, 2.0, 3.0, 5.0)
    threads: int = 2
    smoke: bool = False


SMOKE = Sizes(64, 64, 16, 2, 4, 4, 5, 8, 3, (1.0, 2.0), 1, True)
SCHEDULE = cosine(1000)
BAR = SCHEDULE.alpha_bar.tolist()


@dataclass
class World:
    """What a job runs in."""

    device: torch.device
    sizes: Sizes
    folder: Path
    until: float
    plain: bool = False
    began: float = field(default_factory=time.time)


def named_file(world: World, name: str, ending: str) -> Path:
    return world.folder / f"{name}.{ending}"


def save_half(net: nn.Module, path: Path, about: dict[str, str]) -> None:
    """Weights in half precision; buffers as they are."""
    kept = dict(net.named_buffers())
    state = {
        name: (value if name in kept else value.half()).detach().cpu().contiguous()
        for name, value in net.state_dict().items()
    }
    write_whole(path, lambda part: save_file(state, part, about))


def halved(net: nn.Module) -> nn.Module:
    """A copy with the numbers that half precision keeps."""
    net = copy.deepcopy(net)
    with torch.no_grad():
        for weight in net.parameters():
            weight.copy_(weight.half().float())
    return net.eval()


def flops(net: nn.Module) -> int:
    """FLOPs of one forward pass of one scene."""
    net = copy.deepcopy(net)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        if isinstance(net, Autoencoder):
            net.decode(net.moments(torch.zeros(1, *PICTURE))[0])
        else:
            net(torch.zeros(1, *net.event), torch.ones(1), null_tokens(1, torch.device("cpu")))
    return counter.get_total_flops()


def tokens(asked: Scenes) -> Tensor:
    """The tokens of scenes, on their device."""
    return scenes.tokens(scenes.write(asked)).to(asked.hue.device)


def null_tokens(number: int, device: torch.device) -> Tensor:
    """The null caption, (number, LENGTH)."""
    return torch.tensor([NULL] + [PAD] * (LENGTH - 1), device=device).expand(number, LENGTH)


def where(pictures: Tensor) -> Tensor:
    """Which latent places (B, 1, 8, 8) see an object of scenes."""
    off = (pictures - palette(pictures.device)[0][:, None, None]).abs().amax(1, keepdim=True)
    return F.max_pool2d((off > 0.3).float(), 4)


def seen_tables(held: tuple[tuple[str, str], ...]) -> tuple[Tensor, Tensor]:
    """Combinations of one object and of two that are trained on."""
    tables = combinations(held)
    return tables["one seen"], tables["two seen"]


def every_table() -> tuple[Tensor, Tensor]:
    """All combinations, which an autoencoder sees."""
    tables = combinations(())
    return tables["one seen"], torch.cat([tables["two seen"], tables["two held"]])


class Pool:
    """Scenes drawn on the device, some of them renewed now and then: recorded steps read them from fixed places."""

    def __init__(self, job: Job, world: World, codec: Autoencoder | None) -> None:
        self.job, self.world, self.codec = job, world, codec
        device = world.device
        self.generator = torch.Generator(device).manual_seed(1000 + job.seed)
        pixels = codec is None
        size, event = (world.sizes.pictures, PICTURE) if pixels else (world.sizes.pool, (4, 8, 8))
        self.x = torch.empty(size, *event, device=device, dtype=torch.float16 if pixels else torch.float32)
        self.tokens = torch.empty(size, LENGTH, device=device, dtype=torch.int64)
        self.there = torch.empty(size, 1, 8, 8, device=device)
        self.at = 0
        self.tables = every_table() if job.net == "autoencoder" else seen_tables(job.held)
        while self.at < size:
            self.renew()
        self.at = 0

    @torch.no_grad()
    def renew(self) -> None:
        """Draw some scenes anew."""
        size, number = len(self.x), min(self.world.sizes.renewed, len(self.x))
        if self.at + number > size:
            self.at = 0
        share = {"one": 0.0, "two": 1.0, "mixed": self.job.two}[self.job.data]
        if self.job.net == "autoencoder":
            share = 0.5
        twos = round(share * number)
        parts = [
            draw(table, count, self.generator)
            for table, count in zip(self.tables, (number - twos, twos), strict=True)
            if count
        ]
        drawn = joined(parts)
        x = paint(drawn)
        place = slice(self.at, self.at + number)
        self.there[place] = where(x)
        self.x[place] = x if self.codec is None else self.job.scale * self.codec.encode(x, self.generator)
        self.tokens[place] = tokens(drawn)
        self.at += number


# --- Denoisers --------------------------------------------------------------------------------------------------------


class Denoising:
    """v-loss on scenes of a pool; one call of `step` is a whole training step."""

    def __init__(self, job: Job, world: World, net: nn.Module, pool: Pool) -> None:
        self.job, self.net, self.pool, device = job, net, pool, world.device
        self.batch = min(job.batch, world.sizes.most_batch)
        self.generator = torch.Generator(device).manual_seed(2000 + job.seed)
        self.optimizer = Optimizer(net)
        self.signal = SCHEDULE.alpha_bar.sqrt().float().to(device)
        self.noise = (1 - SCHEDULE.alpha_bar).sqrt().float().to(device)
        self.null = null_tokens(1, device).clone()
        self.spread = torch.arange(self.batch, device=device)
        self.loss = torch.zeros((), device=device)

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator, device=self.loss.device)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, device=self.loss.device)

    def times(self) -> Tensor:
        """Times 1..T, spread evenly, or more of them in the middle."""
        if self.job.times == "middle":
            u = torch.sigmoid(1.0 * self.normal(self.batch))
        else:
            u = (self.spread + self.uniform(1)) / self.batch
        return 1 + (u * SCHEDULE.T).long().clamp(0, SCHEDULE.T - 1)

    def step(self) -> None:
        index = (self.uniform(self.batch) * len(self.pool.x)).long().clamp(max=len(self.pool.x) - 1)
        x0, words = self.pool.x[index].float(), self.pool.tokens[index]
        if self.job.words:
            words = words.masked_fill((self.uniform(*words.shape) < self.job.words) & (words > 2), PAD)
        words = torch.where(self.uniform(self.batch, 1) < 0.1, self.null, words)
        t = self.times()
        a, s = self.signal[t][:, None, None, None], self.noise[t][:, None, None, None]
        eps = self.normal(*x0.shape)
        v = self.net(a * x0 + s * eps, t.float(), words)
        error = (v - (a * eps - s * x0)).square()
        if self.job.objects:
            weight = 1 + self.job.objects * self.pool.there[index]
            error = error * (weight / weight.mean())
        loss = error.mean()
        self.optimizer.step(loss)
        self.loss += loss.detach()


@torch.no_grad()
def sampled(net: nn.Module, words: Tensor, w: float, steps: int, noise: Tensor) -> Tensor:
    """x0 from noise by DPM-Solver++(2M) on equal steps of t, guided by w (Lu et al. 2022, arXiv 2211.01095)."""
    times = [round(SCHEDULE.T * (steps - i) / steps) for i in range(steps + 1)]
    bar = [BAR[t] for t in times]
    x, before, h_before = noise, None, 0.0
    null = null_tokens(len(x), x.device)
    for i, t in enumerate(times[:-1]):
        a, s = math.sqrt(bar[i]), math.sqrt(1 - bar[i])
        time_ = torch.full((len(x),), float(t), device=x.device)
        if w == 1:
            v = net(x, time_, words)
        else:
            both = net(torch.cat([x, x]), torch.cat([time_, time_]), torch.cat([null, words]))
            off, on = both.chunk(2)
            v = off + w * (on - off)
        x0 = a * x - s * v
        if times[i + 1] == 0:
            return x0
        a_next, s_next = math.sqrt(bar[i + 1]), math.sqrt(1 - bar[i + 1])
        h = math.log(a_next / s_next) - math.log(a / s)
        mean = x0 if before is None else x0 + (x0 - before) * h / (2 * h_before)
        x = (s_next / s) * x - a_next * math.expm1(-h) * mean
        before, h_before = x0, h
    return x


def interval(right: Tensor) -> list[float]:
    """The share of True, and Wilson's 95 % interval."""
    return [round(value, 4) for value in wilson_interval(int(right.sum()), len(right))]


class Examiner:
    """Draws pictures for captions of several sets, and lets the checker read them."""

    def __init__(self, job: Job, world: World, codec: Autoencoder | None) -> None:
        self.job, self.world, self.codec = job, world, codec
        self.tables = combinations(job.held)

    def pictures(
        self, net: nn.Module, number: int, w: float, seed: int, sets: tuple[str, ...]
    ) -> tuple[Scenes, Tensor]:
        """Scenes that were asked for, `number` a set, and the pictures that were drawn."""
        generator = torch.Generator(self.world.device).manual_seed(seed)
        asked = joined([draw(self.tables[name], number, generator) for name in sets])
        words, parts = tokens(asked), []
        for part in words.split(1000):
            noise = torch.randn((len(part), *net.event), generator=generator, device=self.world.device)
            x = sampled(net, part, w, self.world.sizes.sampler, noise)
            with torch.no_grad():
                parts.append(x if self.codec is None else self.codec.decode(x / self.job.scale))
        return asked, torch.cat(parts)

    def look(self, net: nn.Module, number: int, seed: int, full: bool = False) -> Iterator[dict[str, Any]]:
        """Adherence by set, guidance and attribute; with intervals, and what shapes and hues were read, if full.

        Yields what is known after each guidance.
        """
        found: dict[str, Any] = {}
        net.eval()
        sets = SETS[self.job.data] if full else tuple(name for name in SETS[self.job.data] if name != "two of held")
        for w in self.world.sizes.guidance:
            wanted, pictures = self.pictures(net, number, w, seed, sets)
            reading = read(pictures.nan_to_num(0.0))
            judged = judge(reading, wanted)
            for i, name in enumerate(sets):
                part = slice(i * number, (i + 1) * number)
                row = {
                    key: interval(judged[key][part]) if full else round(judged[key][part].double().mean().item(), 4)
                    for key in ATTRIBUTES
                }
                if full and name in ONE:
                    for key in ("shape", "hue"):
                        asked = getattr(wanted, key)[part, 0]
                        got = getattr(reading, key)[part, 0].clamp(min=-1)
                        size = len(SHAPES) if key == "shape" else len(HUES)
                        cells = torch.bincount((asked * (size + 1) + got + 1).cpu(), minlength=size * (size + 1))
                        row[f"{key} asked, then unsure or read"] = cells.view(size, size + 1).tolist()
                found.setdefault(name, {})[f"w={w:g}"] = row
            yield found

    def sheet(self, net: nn.Module, path: Path) -> None:
        """A few drawn pictures of each set as bytes, with their captions."""
        tensors = {}
        for w in (1.0, 2.0, 3.0):
            for name in SETS[self.job.data]:
                asked, pictures = self.pictures(net, 12, w, 77, (name,))
                key = f"{name} w={w:g}".replace(" ", "_")
                tensors[key] = ((pictures.clamp(-1, 1) + 1) * 127.5).round().byte().cpu().contiguous()
                tensors[key + "_tokens"] = tokens(asked).to(torch.uint8).cpu().contiguous()
        write_whole(path, lambda part: save_file(tensors, part))


def load_codec(world: World) -> Autoencoder:
    """The autoencoder as it would ship, once it is there. FileNotFoundError if it does not come."""
    weights, done = named_file(world, "ae", "safetensors"), named_file(world, "ae", "done")
    limit = time.time() + 60
    while not done.exists() and time.time() < limit:
        time.sleep(0.2)
    codec = Autoencoder()
    codec.load_state_dict({name: value.float() for name, value in load_file(weights).items()})
    return codec.to(world.device).eval().requires_grad_(False)


def train_denoiser(job: Job, world: World, row: dict[str, Any], attempt: int) -> None:
    """Train, look now and then, and examine at the end; fills in the row and writes it."""
    torch.manual_seed(job.seed)
    net = NETS[job.net]()
    row |= {"parameters": sum(p.numel() for p in net.parameters()), "MFLOP": flops(net) / 1e6}
    net = net.to(world.device)
    codec = None if job.net.startswith("pixel") else load_codec(world)
    pool, examiner = Pool(job, world, codec), Examiner(job, world, codec)
    run = Denoising(job, world, net, pool)

    def glance() -> dict[str, Any]:
        return list(examiner.look(run.optimizer.average, world.sizes.look, 5))[-1]

    def finish(averaged: nn.Module) -> None:
        for found in examiner.look(averaged, world.sizes.final, 99, full=True):
            row["final"] = found
            write_row(row, world)
        examiner.sheet(averaged, named_file(world, job.name, "samples.safetensors"))

    work_off(job, world, row, run, pool, glance, finish, job.rate * 0.4**attempt)


def train_autoencoder(job: Job, world: World, row: dict[str, Any], attempt: int) -> None:
    """The same for an autoencoder."""
    torch.manual_seed(job.seed)
    net = Autoencoder()
    row |= {"parameters": sum(p.numel() for p in net.parameters()), "MFLOP": flops(net) / 1e6}
    net = net.to(world.device)
    pool = Pool(job, world, None)
    run = Coding(job, world, net, pool)

    def glance() -> dict[str, Any]:
        return examine_codec(run.optimizer.average, world, 2 * world.sizes.look)

    def finish(averaged: nn.Module) -> None:
        row["final"] = examine_codec(averaged, world, 2 * world.sizes.final)
        write_row(row, world)

    work_off(job, world, row, run, pool, glance, finish, job.rate * 0.4**attempt)
    named_file(world, job.name, "done").write_text("done\n")


class Coding:
    """Reconstruction, near edges above all, and a little KL; one call of `step` is a whole training step."""

    def __init__(self, job: Job, world: World, net: Autoencoder, pool: Pool) -> None:
        self.job, self.net, self.pool, device = job, net, pool, world.device
        self.batch = min(job.batch, world.sizes.most_batch)
        self.generator = torch.Generator(device).manual_seed(2000 + job.seed)
        self.optimizer = Optimizer(net)
        self.loss = torch.zeros((), device=device)

    def step(self) -> None:
        index = torch.rand(self.batch, generator=self.generator, device=self.loss.device) * len(self.pool.x)
        x = self.pool.x[index.long().clamp(max=len(self.pool.x) - 1)].float()
        loss = latent.Coding(kl=self.job.kl)(self.net, (x,), self.generator).each.mean()
        self.optimizer.step(loss)
        self.loss += loss.detach()


@torch.no_grad()
def standardise(net: Autoencoder, world: World) -> None:
    """Store mean and standard deviation of the latents of scenes, a channel each, in the network."""
    generator, number = torch.Generator(world.device).manual_seed(7), min(8192, world.sizes.pool)
    net.standardise(paint(joined([draw(table, number // 2, generator) for table in every_table()])))


@torch.no_grad()
def examine_codec(net: Autoencoder, world: World, number: int) -> dict[str, Any]:
    """What the checker reads on scenes, on their reconstructions, and on latents with noise; errors and rate."""
    standardise(net, world)
    generator = torch.Generator(world.device).manual_seed(8)
    found = {}
    for name, table in zip(("one", "two"), every_table(), strict=True):
        drawn = draw(table, number // 2, generator)
        x = paint(drawn)
        mean, log_variance = net.moments(x)
        std = net.std
        z = net.encode(x, generator)
        cases = {"scenes": x, "reconstructed": net.decode(net.encode(x)), "from a drawn latent": net.decode(z)}
        for level in (0.1, 0.3, 0.5):
            noise = torch.randn(z.shape, generator=generator, device=z.device)
            cases[f"latent noise {level}"] = net.decode(z + level * noise)
        for case, pictures in cases.items():
            judged = judge(read(pictures), drawn)
            found[f"{name}, {case}"] = {key: interval(judged[key]) for key in ATTRIBUTES}
        kl = latent.gaussian_kl(mean, log_variance).mean()
        found[f"{name}, numbers"] = {
            "mean absolute error": (net.decode(z) - x).abs().mean().item(),
            "KL a latent number, nats": kl.item(),
            "posterior std over latent std": ((log_variance / 2).exp() / std).mean().item(),
            "latent std": std.flatten().tolist(),
            "latent mean": net.mean.flatten().tolist(),
        }
    return found


def work_off(
    job: Job,
    world: World,
    row: dict[str, Any],
    run: Denoising | Coding,
    pool: Pool,
    glance: Any,
    finish: Any,
    rate: float,
) -> None:
    """The loop of both kinds. FloatingPointError if the loss is no number, with the last good weights on disk."""
    sizes, device = world.sizes, world.device
    optimizer = run.optimizer
    optimizer.set(1e-6, 0.5)  # three or four steps before recording ends
    before = copy.deepcopy(run.net.state_dict())
    if world.plain:
        call, row["how"] = run.step, "as it comes, as asked"
    else:
        call, row["how"] = recorded(run.step, [run.generator], device)
    if "failed" in row["how"]:
        run.generator = torch.Generator(device).manual_seed(3000 + job.seed)  # the other may wait for its graph
    wait(device)
    with torch.no_grad():
        run.net.load_state_dict(before)  # in place: a recorded step goes on reading the same tensors
        optimizer.average.load_state_dict(before)
        run.loss.zero_()
    for _ in range(2):  # how long a look takes, and whether it works, before anything is spent
        start = time.time()
        glance()
        a_look = time.time() - start
    ending = 3 + 1.7 * a_look * len(SETS[job.data])
    reserve = 0.0 if sizes.smoke else min(ending, 0.25 * max(world.until - time.time(), 0))
    began, until = time.time(), world.until - reserve
    between = min(60.0, max((until - began) / 6, 5.0))
    pace = Pace(rate, job.ema, began, until, sizes.steps)
    row |= {"seconds to prepare": began - world.began, "seconds a look": a_look, "rate": rate, "curve": []}
    row |= {"planned seconds": until - began, "batch": run.batch}
    write_row(row, world)
    print(f"{job.name}: {row['how']}, {began - world.began:.1f} s to prepare, {a_look:.1f} s a look", flush=True)
    done, last, next_look, looking = 0, 0, began + between, 0.0

    def keep(looked: dict[str, Any] | None) -> None:
        nonlocal last
        loss = run.loss.item() / max(done - last, 1)
        run.loss.zero_()
        last = done
        if not math.isfinite(loss):
            raise FloatingPointError(f"loss is {loss} at step {done}")
        spent = time.time() - began - looking
        point = {"seconds": round(spent, 2), "step": done, "images": done * run.batch, "loss": loss}
        point["ms a step"] = 1000 * spent / max(done, 1)
        row["curve"].append(point | ({"look": looked} if looked else {}))
        row.update(steps=done, images=done * run.batch)
        row["training PFLOP, about"] = 3 * row["MFLOP"] * row["images"] / 1e9
        save_half(optimizer.average, named_file(world, job.name, "safetensors"), about(job, row))
        write_row(row, world)
        print(f"{job.name}: step {done}, loss {loss:.4f}, {point['ms a step']:.1f} ms a step", flush=True)

    while done < sizes.steps and time.time() < until:
        if done % 10 == 0:
            optimizer.set(*pace.now(done))
        call()
        done += 1
        if done % 10 == 0:
            wait(device)
        if done % sizes.every == 0:
            pool.renew()
        if time.time() > next_look and until - time.time() > 2 * a_look:
            start = time.time()
            wait(device)
            keep(glance())
            looking += time.time() - start
            next_look = time.time() + between
    wait(device)
    keep(None)
    averaged = halved(optimizer.average)
    if isinstance(averaged, Autoencoder):
        standardise(averaged, world)
        save_half(averaged, named_file(world, job.name, "safetensors"), about(job, row))
        named_file(world, job.name, "done").write_text("done\n")
    row["status"] = "trained"
    write_row(row, world)
    start = time.time()
    finish(averaged)
    row.update(status="done", **{"seconds at the end": time.time() - start})
    if device.type == "cuda":
        row["GB at most"] = torch.cuda.max_memory_reserved() / 1e9
    write_row(row, world)
    print(f"{job.name}: done, {time.time() - start:.1f} s for the end", flush=True)


def about(job: Job, row: dict[str, Any]) -> dict[str, str]:
    return {"job": json.dumps(asdict(job)), "steps": str(row["steps"])}


def write_row(row: dict[str, Any], world: World) -> None:
    text = json.dumps(row, indent=1, default=str)
    write_whole(named_file(world, row["name"], "json"), lambda part: part.write_text(text + "\n"))


def run_job(job: Job, world: World) -> int:
    """One job, whatever happens; 1 if it failed."""
    row: dict[str, Any] = {"name": job.name, "job": asdict(job), "status": "running", "device": str(world.device)}
    if world.device.type == "cuda":
        row["device"] = torch.cuda.get_device_name()
    train = train_autoencoder if job.net == "autoencoder" else train_denoiser
    for attempt in range(2):
        try:
            train(job, world, row, attempt)
            return 0
        except FloatingPointError as error:
            row[f"diverged, attempt {attempt}"] = {"error": str(error), "curve": row.pop("curve", [])}
            print(f"{job.name}: {error}", flush=True)
            if world.until - time.time() < 25:
                break
        except Exception:
            row["error"] = traceback.format_exc()[-3000:]
            print(row["error"], flush=True)
            break
    row["status"] = f"failed, was {row['status']}"
    write_row(row, world)
    return 1


# --- All jobs ---------------------------------------------------------------------------------------------------------


@dataclass
class Running:
    """A process at work on a job."""

    job: Job
    process: subprocess.Popen
    until: float


class Orchestra:
    """Starts the jobs, lane beside lane, and gathers what they write."""

    def __init__(self, options: argparse.Namespace, work: Path) -> None:
        self.options, self.work, self.out = options, work, options.out
        self.began = time.time()
        self.end = self.began + (3600 if options.smoke else options.seconds)
        self.alone = False
        self.tried_again: set[str] = set()
        self.codes: dict[str, int | str] = {}
        self.running: list[Running | None] = [None] * len(LANES)
        wanted = set(options.only or JOBS)
        self.left = [[job for job in lane if job.name in wanted] for lane in LANES]

    def start(self, job: Job, until: float, plain: bool = False) -> Running:
        command = [sys.executable, "-u", __file__, "--job", job.name, "--device", self.options.device]
        command += ["--until", str(until), "--work", str(self.work)] + ["--smoke"] * self.options.smoke
        command += ["--plain"] * plain
        root = str(Path(__file__).resolve().parents[2])
        threads = str((SMOKE if self.options.smoke else Sizes()).threads)
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "PYTHONPATH": path}
        with open(self.work / f"{job.name}.log", "ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        print(f"{time.time() - self.began:6.1f} s: {job.name} begins, {until - time.time():.0f} s", flush=True)
        return Running(job, process, until)

    def ended(self, running: Running, grace: float) -> bool:
        """Whether a process has ended; ends it when it is `grace` seconds late."""
        code = running.process.poll()
        if code is None and time.time() > running.until + grace:
            running.process.kill()
            code = f"ended by force, {running.process.wait()}"
        if code is None:
            return False
        self.codes[running.job.name] = code
        print(f"{time.time() - self.began:6.1f} s: {running.job.name} ends, {code}", flush=True)
        if code != 0:
            print("\n".join(self.log(running.job).splitlines()[-12:]), flush=True)
            if "busy or unavailable" in self.log(running.job) and running.job is not AUTOENCODER:
                self.alone = True  # the card takes one process at a time
                self.left[[running.job in lane for lane in LANES].index(True)].insert(0, running.job)
        return True

    def again(self, running: Running) -> Running | None:
        """A job that failed early once more, its steps not recorded this time; None if there is no reason or time."""
        job, left = running.job, running.until - time.time()
        waits = any(job in lane for lane in self.left)
        if self.codes[job.name] == 0 or job.name in self.tried_again or waits or left < 25:
            return None
        self.tried_again.add(job.name)
        return self.start(job, running.until, plain=True)

    def log(self, job: Job) -> str:
        path = self.work / f"{job.name}.log"
        return path.read_text(errors="replace")[-3000:] if path.exists() else ""

    def run(self) -> int:
        smoke = self.options.smoke
        training_ends = self.end - 8  # packing
        codec_until = self.began + (600 if smoke else 0.1 * self.options.seconds)
        codec = None if (self.work / "ae.done").exists() else self.start(AUTOENCODER, codec_until)
        ready = codec is None
        packed = time.time()
        while True:
            now = time.time()
            if codec and self.ended(codec, 25):
                codec = self.again(codec)
            early = smoke and codec is not None  # two cores are not enough for all at once
            ready = ready or (not early and now > codec_until - 12) or codec is None
            for i, lane in enumerate(self.left):
                if self.running[i] and self.ended(self.running[i], 12):
                    self.running[i] = self.again(self.running[i])
                if self.running[i] or not lane:
                    continue
                busy = sum(running is not None for running in self.running)
                if (smoke and (busy >= 2 or codec)) or not (
                    ready or (lane[0].net.startswith("pixel") and now > self.began + 10)
                ):
                    continue
                if self.alone and (busy or codec):
                    continue
                job = lane.pop(0)
                share = 1.0 if smoke else job.share / (job.share + sum(other.share for other in lane))
                if self.alone:
                    share /= sum(map(bool, [lane, *self.left]))
                until = now + share * (training_ends - now)
                if training_ends - now < 30 and not smoke:
                    print(f"{job.name}: no time left", flush=True)
                    continue
                self.running[i] = self.start(job, until)
            over = codec is None and not any(self.running) and not any(self.left)
            if over or now > self.end + 2:
                break
            if now - packed > 45:
                self.gather()
                packed = time.time()
                self.say([running.job.name for running in [codec, *self.running] if running])
            time.sleep(0.2)
        for running in [*self.running, codec]:
            if running and running.process.poll() is None:
                running.process.kill()
                running.process.wait()
                self.codes[running.job.name] = "ended by force at the end"
        self.gather()
        self.say(list(JOBS))
        bad = [name for name, code in self.codes.items() if code != 0]
        print(f"{time.time() - self.began:.1f} s in all; failed: {bad or 'none'}", flush=True)
        return int(bool(bad))

    def rows(self) -> list[dict[str, Any]]:
        rows = []
        for name in JOBS:
            path = self.work / f"{name}.json"
            if path.exists():
                row = json.loads(path.read_text())
            elif name in self.codes:
                row = {"name": name, "status": "wrote nothing"}
            else:
                continue
            if name in self.codes:
                row["exit code"] = self.codes[name]
            if self.codes.get(name, 0) != 0:
                row["log"] = self.log(JOBS[name])
            rows.append(row)
        return rows

    def gather(self) -> None:
        """results.json, and weights and samples in a few files of at most 14 MB."""
        try:
            facts = {"torch": torch.__version__, "seconds": self.options.seconds, "smoke": self.options.smoke}
            facts["seconds so far"] = time.time() - self.began
            text = json.dumps({"about": facts, "jobs": self.rows()}, indent=1, default=str)
            write_whole(self.out / "results.json", lambda part: part.write_text(text + "\n"))
            names = [name for name in FIRST if name in JOBS] + [name for name in JOBS if name not in FIRST]
            files = [self.work / f"{name}.safetensors" for name in names if name in KEPT]
            files += [self.work / f"{name}.samples.safetensors" for name in names]
            files = [path for path in files if path.exists()]
            bins: list[list[Path]] = [[]]
            filled = 0
            for path in files:
                size = path.stat().st_size + 2048
                if filled + size > 14e6:
                    bins.append([])
                    filled = 0
                bins[-1].append(path)
                filled += size
            for i, members in enumerate(bins[:2]):
                write_whole(self.out / f"weights_{i}.tar", lambda part, members=members: pack(part, members))
            if len(bins) > 2:
                print(f"left out: {[path.name for members in bins[2:] for path in members]}", flush=True)
        except Exception:
            print(traceback.format_exc(), flush=True)

    def say(self, names: list[str]) -> None:
        """The last look of these jobs: `all` for each set by guidance, and shapes in brackets."""
        for row in self.rows():
            if row["name"] not in names:
                continue
            looks = [point for point in row.get("curve", []) if "look" in point]
            table = row.get("final") or (looks[-1]["look"] if looks else {})
            head = f"  {row['name']}: {row.get('status')}, {row.get('how')}, {row.get('steps', 0)} steps"
            if row.get("curve"):
                head += f", {row['curve'][-1]['ms a step']:.1f} ms, loss {row['curve'][-1]['loss']:.4f}"
            for name, cells in table.items():
                if "all" in cells:
                    head += f"; {name} {first(cells['all']):.3f}"
                elif "w=1" in cells:
                    values = [f"{first(cell['all']):.3f}({first(cell['shape']):.2f})" for cell in cells.values()]
                    head += f"; {name} {' '.join(values)}"
            print(head, flush=True)


def first(value: Any) -> float:
    return value[0] if isinstance(value, list) else value


def pack(path: Path, members: list[Path]) -> None:
    with tarfile.open(path, "w") as tar:
        for member in members:
            tar.add(member, member.name)


def main(arguments: list[str] | None = None) -> int:
    """All jobs, or one; 1 if something failed."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=Path("scenes_out"), help="folder for results and weights")
    parser.add_argument("--work", type=Path, help="folder of the jobs; by default a new temporary one")
    parser.add_argument("--seconds", type=float, default=480.0, help="for everything, or for the one job")
    parser.add_argument("--job", choices=JOBS, help="this one alone, in this process, into --work")
    parser.add_argument("--only", nargs="+", choices=JOBS, help="of all jobs these")
    parser.add_argument("--until", type=float, help="end of the one job, seconds since the epoch")
    parser.add_argument("--plain", action="store_true", help="the one job without CUDA graphs")
    parser.add_argument("--light", action="store_true", help="the one job with small batches, for one core")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to see whether everything runs")
    options = parser.parse_args(arguments)
    work = options.work or Path(tempfile.mkdtemp(prefix="scenes-"))
    work.mkdir(parents=True, exist_ok=True)
    if options.job is None:
        options.out.mkdir(parents=True, exist_ok=True)
        return Orchestra(options, work).run()
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    sizes = SMOKE if options.smoke else Sizes()
    until = options.until or time.time() + options.seconds
    job = JOBS[options.job]
    if options.light:
        job = replace(job, batch=16 if job.net == "autoencoder" else 32)
        sizes = replace(sizes, pool=8192, pictures=4096, renewed=1024, look=16, final=100, threads=1)
    torch.set_num_threads(sizes.threads)
    return run_job(job, World(torch.device(options.device), sizes, work, until, options.plain))


if __name__ == "__main__":
    sys.exit(main())
