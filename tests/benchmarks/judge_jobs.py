"""The jobs of judge_search.py: each a process of its own, made of stages that are kept one by one."""

import copy
import json
import math
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import distill_search as ds
import numpy as np
import torch
from judge_scores import ARCHITECTURES, OLD, Judges, awaited, copying, exact, write_judge
from safetensors.torch import load_file, save_file
from steps import record, set_tf32, warmed_up
from torch import Tensor, nn
from torch.nn import functional as F

from lessons_src import data, weights
from lessons_src.evaluation import in_batches
from lessons_src.files import write_whole
from lessons_src.losses import Classification, Denoising, Samples
from lessons_src.networks import UNET_PRESETS, NoisePredictor, ResidualBlock, TimeEmbedding, UNet
from lessons_src.process import rotate
from lessons_src.samplers import State, ddim, ddpm
from lessons_src.schedules import cosine, time_grid
from lessons_src.solvers import unipc
from lessons_src.training import Recipe, Trainer

JUDGES = ("judge_a0", "judge_b0", "judge_a1", "judge_b1")
PATIENCE = 3.0
ASSETS = Path(data.DIGITS).parent


class Sizes(NamedTuple):
    """How much of everything there is."""

    judge_steps: int = 2000
    draws: int = 20
    floors: tuple[int, ...] = (500, 1000, 2000, 4000, 8000)
    parts: tuple[int, ...] = (500, 1000, 2000, 5000)
    n: int = 2000
    long: int = 1000  # steps of the slow samplers
    memorised: tuple[int, ...] = (64, 256, 1024, 4096, 8000)
    memorise_batch: int = 128
    looks: tuple[int, ...] = (125, 250, 500, 1000, 2000, 4000, 8000, 16000)
    copies: int = 1000
    steps: int = 50  # of DDIM
    seeds: int = 10
    noisy: tuple[int, int] = (4000, 256)
    chunk: int = 2000
    trajectories: int = 65_536
    real: int = 10_000  # digits, and a fifth of them of test digits


SMOKE = Sizes(6, 2, (50, 100), (20, 40), 40, 6, (16, 32), 4, (2, 4), 20, 2, 2, (4, 8), 20, 48, 100)


# --- What all jobs share ----------------------------------------------------------------------------------------------


class Skipped(Exception):
    """A stage that its time does not pay for."""


@dataclass
class Job:
    """One process, and what it found so far, in NAME.json after every stage. A stage done before is not redone."""

    name: str
    device: torch.device
    sizes: Sizes
    folder: Path
    judge_data: str
    until: float  # time.time()
    eager: bool = False
    found: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        path = self.folder / f"{self.name}.json"
        self.found = json.loads(path.read_text()) if path.exists() else {}
        self.found.setdefault("stages", {})
        self.found["errors"] = []

    @property
    def cuda(self) -> bool:
        """Whether there is a device to wait for."""
        return self.device.type == "cuda"

    @property
    def left(self) -> float:
        """Seconds left."""
        return self.until - time.time()

    def has(self, stage: str) -> bool:
        """Whether a stage is done."""
        return self.found["stages"].get(stage, {}).get("status") == "done"

    def stage(self, name: str, function: Callable[[], Any], reserve: float = 4.0) -> None:
        """Carry out one stage and keep what it returns, or how it failed."""
        if self.has(name):
            return
        start, row = time.time(), {"status": "done"}
        try:
            if self.left < reserve:
                raise Skipped(f"{self.left:.0f} s left")
            row["found"] = function()
        except Skipped as error:
            row["status"] = f"skipped: {error}"
        except Exception as error:
            row |= {"status": f"failed: {type(error).__name__}: {str(error)[:300]}"}
            self.found["errors"].append({"stage": name, "traceback": traceback.format_exc(limit=-6)})
        self.wait()
        row["seconds"] = round(time.time() - start, 2)
        self.found["stages"][name] = row
        self.write()
        print(f"{self.name}: {name}: {row['status']}, {row['seconds']:.1f} s, {self.left:.0f} s left", flush=True)

    def write(self) -> None:
        """Everything so far into the file."""
        text = json.dumps(rounded(self.found), default=str)
        write_whole(self.folder / f"{self.name}.json", lambda part: part.write_text(text + "\n"))

    def wait(self) -> None:
        """Until the device has done all it was given."""
        if self.cuda:
            torch.cuda.synchronize()

    def check(self, reserve: float = 3.0) -> None:
        """Skipped if the time is over."""
        if self.left < reserve:
            raise Skipped("out of time, broken off")


def rounded(value: Any) -> Any:
    """Floats with six digits, and nothing that is no JSON."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {str(key): rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return value


def judge_digits(job: Job) -> tuple[Tensor, Tensor]:
    """The judge's 4,000 digits, as from `data.digits`."""
    places = [job.judge_data, "shared/data/digits_judge_4k.npz", ASSETS / "data" / "digits_judge_4k.npz"]
    path = next((Path(place) for place in places if place and Path(place).is_file()), None)
    if path is None:
        raise FileNotFoundError(f"no digits_judge_4k.npz among {places}")
    with np.load(path) as archive:
        x, y = archive["xj"], archive["yj"]
    return torch.from_numpy(x).unsqueeze(1).float() / 127.5 - 1, torch.from_numpy(y).long()


def start_noise(n: int, seed: int, device: torch.device) -> Tensor:
    """The same start noise on every device."""
    return torch.randn(n, 1, 28, 28, generator=torch.Generator().manual_seed(seed)).to(device)


def labels(n: int, device: torch.device | str = "cpu") -> Tensor:
    """Equally many of each."""
    return (torch.arange(n) % 10).to(device)


def quick(net: NoisePredictor, label: Tensor, w: float = 1.0) -> Callable[[Tensor, Tensor], Tensor]:
    """A guided eps_fn(x, t) without the checks that wait for the device."""
    none = torch.full_like(label, net.num_classes)

    def eps_fn(x: Tensor, t: Tensor) -> Tensor:
        signal, noise = net.level(t, x)
        v = net.output(x, t, none if w == 0 else label)
        if w not in (0, 1):
            without = net.output(x, t, none)
            v = without + w * (v - without)
        return rotate(x, v, signal, -noise)[1]

    return eps_fn


def finished(job: Job, states: Iterator[State], reserve: float = 3.0) -> Tensor:
    """The end of a sampler, unless the time is over before."""
    x = None
    for i, state in enumerate(states):
        x = state.x
        if i % 50 == 49:
            job.check(reserve)
    return x.clamp(-1, 1)


def bytes_of(x: Tensor) -> np.ndarray:
    """Images in [-1, 1] as uint8 (n, 28, 28)."""
    return ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).squeeze(1).cpu().numpy()


def write_images(path: Path, **images: Tensor) -> None:
    """Images as uint8 into one compressed file."""

    def fill(part: Path) -> None:
        with open(part, "wb") as file:
            np.savez_compressed(file, **{name: bytes_of(x) for name, x in images.items()})

    write_whole(path, fill)


def write_weights(path: Path, net: nn.Module, **about: Any) -> None:
    """Weights in half precision."""
    kept = {
        key: value.half().contiguous().cpu() for key, value in net.state_dict().items() if value.is_floating_point()
    }
    write_whole(path, lambda part: save_file(kept, part, {key: str(value) for key, value in about.items()}))


def read_weights(path: Path, like: nn.Module) -> Any:
    """A copy of a network with other weights."""
    net = copy.deepcopy(like)
    missing, unexpected = net.load_state_dict({k: v.float() for k, v in load_file(path).items()}, strict=False)
    if unexpected or missing:
        raise ValueError(f"{path}: missing {missing}, unexpected {unexpected}")
    return net.eval().requires_grad_(False)


def teacher_of(job: Job) -> NoisePredictor:
    """The shipped digit network."""
    return weights.load("digits")[0].to(job.device).eval().requires_grad_(False)


def judges_of(job: Job, patience: float, reserve: float, only: Sequence[str] = JUDGES) -> Judges:
    """The judges that are there after at most so many seconds, with `reserve` seconds left."""
    start = time.time()
    awaited(job.folder, JUDGES, min(start + patience, job.until - reserve))
    judges = Judges(job.device, job.folder, only, job.sizes.parts, job.sizes.real)
    print(f"{job.name}: judges {list(judges.readers)} after {time.time() - start:.0f} s", flush=True)
    return judges


def recorded(job: Job, step: Callable[[], None], generator: torch.Generator) -> tuple[Callable[[], None], str]:
    """A step as a CUDA graph, or as it comes where that does not work. The first calls happen here."""
    if not job.cuda or job.eager:
        step()
        return step, "plain"
    try:
        warmed_up(step)
        job.wait()
        graph = record(step, generator)
        graph.replay()
        job.wait()
        return graph.replay, "graph"
    except Exception as error:
        print(f"{job.name}: NO GRAPH {type(error).__name__}: {str(error)[:200]}", flush=True)
        raise  # the process is started again without graphs


# --- Judges and floors ------------------------------------------------------------------------------------------------

SHIPPED = Recipe(2000, 100, 6e-3, 100, 0.995)


def train_judge(job: Job, name: str, network: str, seed: int, x: Tensor, y: Tensor, source: str) -> dict[str, Any]:
    """Train one judge by the course's own loop and write it."""
    rate = SHIPPED.learning_rate if network == "DigitClassifier" else 2e-3
    steps = job.sizes.judge_steps
    recipe = Recipe(steps, SHIPPED.batch_size, rate, min(SHIPPED.warmup, steps), SHIPPED.ema, seed)
    torch.manual_seed(seed)
    trainer = Trainer(ARCHITECTURES[network](), Classification(), Samples(x, y), recipe, job.device)
    for i, _ in enumerate(trainer.run()):
        if i % 100 == 99:
            job.check(20)
    net = trainer.ema
    with torch.no_grad():
        for value in [*net.parameters(), *net.buffers()]:
            if value.is_floating_point():
                value.copy_(value.half().float())
    found = {"architecture": network, "seed": seed, "data": source, "recipe": asdict(recipe)}
    found["parameters"] = sum(p.numel() for p in net.parameters())
    with exact():
        for split in ("test", "train"):
            digits, label = (part[: job.sizes.real].to(job.device) for part in data.digits(split))
            read = in_batches(net, digits, 1000).argmax(1)
            found[f"accuracy on the {len(label)} {split} digits"] = (read == label).double().mean().item()
            found[f"read right of {split} digits, by class"] = [
                (read[label == c] == c).double().mean().item() for c in range(10)
            ]
    path = job.folder / f"{name}.safetensors"
    write_judge(path, net, found)
    return found


def judge(job: Job, names: Sequence[str]) -> None:
    """Train these judges, then the floors by every judge there is."""
    x, y = judge_digits(job)
    own, theirs = "digits_judge_4k.npz", data.digits("train")
    plans = {
        "judge_a0": ("DigitClassifier", 0, x, y, own),
        "judge_a1": ("DigitClassifier", 1, x, y, own),
        "judge_b0": ("PlacedClassifier", 0, x, y, own),
        "judge_b1": ("PlacedClassifier", 1, x, y, own),
        "judge_c0": ("DigitClassifier", 0, *theirs, "control: the 10,000 train digits"),
        "judge_c1": ("DigitClassifier", 1, *(part[:4000] for part in theirs), "control: the first 4,000 train digits"),
    }
    for name in names:
        job.stage(name, lambda name=name: train_judge(job, name, *plans[name]), 30)

    def floors() -> dict[str, Any]:
        judges = Judges(
            job.device, job.folder, names if OLD in names else (*names, OLD), job.sizes.parts, job.sizes.real
        )
        skip = () if "judge_a0" in names else (OLD,)
        found: dict[str, Any] = {}
        for name in judges.readers:
            if name not in skip:
                found[name] = judges.floors(name, job.sizes.draws, job.sizes.floors)
                found[name]["judge's digits to test digits"] = {
                    "all": judges.reference[name].frechet(judges.features(name, x[: job.sizes.real]).cpu()),
                    **judges.by(name, x[: job.sizes.n], y[: job.sizes.n]),
                }
                job.found["partial floors"] = found
                job.write()
        job.found.pop("partial floors", None)
        return found

    job.stage("floors", floors)


def judge_a(job: Job) -> None:
    """The shipped architecture, two seeds, and the old judge's floors."""
    judge(job, ("judge_a0", "judge_a1"))


def judge_b(job: Job) -> None:
    """The other architecture, two seeds; two controls; then the network without a label."""
    judge(job, ("judge_b0", "judge_b1", "judge_c0", "judge_c1"))
    job.stage("without a label", lambda: label_less(job))


def label_less(job: Job) -> dict[str, Any]:
    """Draws of the shipped network with its null label: what classes they are, and how good."""
    net, judges, found, kept = teacher_of(job), judges_of(job, 30, 20), {}, []
    n = job.sizes.n
    for name, run, steps in (("DDIM", ddim, job.sizes.steps), ("UniPC", unipc, 24)):
        for seed in (1, 2, 3):
            job.check()
            eps_fn = quick(net, labels(n, job.device), w=0)
            times = time_grid(net.schedule, steps)
            x = finished(job, run(eps_fn, start_noise(n, seed, job.device), net.schedule, times))
            found[f"{name} {steps}, seed {seed}"] = judges.scores(x, None)
            kept.append(x)
    write_images(job.folder / "samples_without_label.npz", ddim_1=kept[0])
    train = torch.bincount(judges.y, minlength=10).double() / len(judges.y)
    found["fractions of the train digits"] = train.tolist()
    return found


# --- Why the slow sampler scored below the floor ----------------------------------------------------------------------


def samplers(job: Job) -> dict[str, tuple[Callable[..., Iterator[State]], int, bool]]:
    """Samplers by name: the function, its steps, whether it draws noise on the way."""
    long = job.sizes.long
    return {
        "DDIM 20": (ddim, 20, False),
        "DDIM 50": (ddim, 50, False),
        "UniPC 12": (unipc, 12, False),
        "UniPC 24": (unipc, 24, False),
        "DDPM 1000": (ddpm, long, True),
        "DDPM 1000, beta": (partial(ddpm, variance="beta"), long, True),
        "DDIM 1000": (ddim, long, False),
    }


def settle(job: Job) -> None:
    """Draw by every sampler from several seeds, and score under the old judge and the new ones."""
    net, n, drawn = teacher_of(job), job.sizes.n, {}
    known, fast = samplers(job), ("DDIM 20", "DDIM 50", "UniPC 12", "UniPC 24")
    first, more_seeds = (1, 2, 3)[: job.sizes.seeds], (4, 5) if job.cuda else ()
    plan = [(name, seed) for seed in first for name in known if name in fast]
    plan += [(name, seed) for seed in first for name in known if name not in fast]
    plan += [(name, seed) for seed in more_seeds for name in (*fast, "DDPM 1000", "DDIM 1000")]
    reserve = 40.0 if job.cuda else 3.0  # for scores
    judges: list[Judges] = []

    def draw(name: str, seed: int) -> Tensor:
        run, steps, random = known[name]
        more = {"generator": torch.Generator(job.device).manual_seed(seed)} if random else {}
        times = time_grid(net.schedule, steps)
        eps_fn = quick(net, labels(n, job.device))
        return finished(job, run(eps_fn, start_noise(n, seed, job.device), net.schedule, times, **more), reserve)

    def score(name: str, seed: int) -> dict[str, Any]:
        found = judges[0].scores(drawn[name, seed], labels(n))
        if seed == 1:
            rough = torch.from_numpy(bytes_of(drawn[name, seed])).unsqueeze(1).float() / 127.5 - 1
            found["as uint8"] = {
                judge: judges[0].reference[judge].frechet(judges[0].features(judge, rough).cpu())
                for judge in judges[0].readers
            }
        return found

    def catch_up() -> None:
        for name, seed in list(drawn):
            job.stage(f"scores, {name}, seed {seed}", lambda name=name, seed=seed: score(name, seed))

    def keep(name: str, seed: int) -> dict[str, Any]:
        drawn[name, seed] = draw(name, seed)
        if seed == 1:
            path = job.folder / f"samples_{name.replace(', ', '_').replace(' ', '_').lower()}.npz"
            write_images(path, x=drawn[name, seed])
        return {"n": n, "sampler": name, "seed": seed, "w": 1.0}

    for name, seed in plan:
        if job.has(f"scores, {name}, seed {seed}"):
            continue
        job.found["stages"].pop(f"drawn, {name}, seed {seed}", None)
        job.stage(f"drawn, {name}, seed {seed}", lambda name=name, seed=seed: keep(name, seed), reserve)
        controls = awaited(job.folder, ("judge_c0", "judge_c1"), 0) or job.left < 240
        if not judges and controls and awaited(job.folder, JUDGES, 0):
            judges.append(Judges(job.device, job.folder, (), job.sizes.parts, job.sizes.real))
        if judges:
            catch_up()
    if not judges:
        awaited(job.folder, JUDGES, job.until - 40)
        judges.append(Judges(job.device, job.folder, (), job.sizes.parts, job.sizes.real))
    catch_up()

    def together() -> dict[str, Any]:
        found = {}
        for name in known:
            parts = [drawn[key] for key in drawn if key[0] == name]
            if len(parts) > 1:
                x = torch.cat(parts)
                found[name] = judges[0].scores(x, labels(n).repeat(len(parts)))
                job.found["stages"]["partly together"] = {"status": "partly", "found": found}
                job.write()
        job.found["stages"].pop("partly together", None)
        return found

    job.stage("all seeds together", together)

    def digits_only() -> dict[str, Any]:
        x, y = data.digits("train")
        picked = torch.randperm(len(x), generator=torch.Generator().manual_seed(9))[:n]
        return judges[0].scores(x[picked].to(job.device), y[picked])

    job.stage("real train digits, scored alike", digits_only)

    def precise() -> dict[str, Any]:
        with exact():
            run, steps, _ = known["DDIM 50"]
            times, eps_fn = time_grid(net.schedule, steps), quick(net, labels(n, job.device))
            x = finished(job, run(eps_fn, start_noise(n, 1, job.device), net.schedule, times))
        off = (x - drawn["DDIM 50", 1]).square().mean().sqrt().item() if ("DDIM 50", 1) in drawn else None
        found = {name: judges[0].by(name, x, labels(n))["frechet"] for name in judges[0].readers}
        return {"frechet": found, "apart from TF32, a pixel": off}

    job.stage("DDIM 50, seed 1, without TF32", precise)


# --- Memorisation -----------------------------------------------------------------------------------------------------


@dataclass
class Memoriser:
    """A network that sees only the first `size` digits."""

    size: int
    learner: ds.Learner
    generator: torch.Generator
    call: Callable[[], None] = lambda: None
    sums: Tensor = field(default_factory=lambda: torch.zeros(()))


def memorise(job: Job) -> None:
    """Train networks on nested sets of digits in step with each other, and look for copies."""
    sizes, (x, y), (x_test, _), (x_judge, _) = job.sizes, data.digits("train"), data.digits("test"), judge_digits(job)
    held_out = torch.cat([x[8000:], x_test, x_judge]).to(job.device)
    runs: list[Memoriser] = []
    schedule, loss = cosine(1000), Denoising()
    ready: list[Judges] = []

    def prepare() -> dict[str, Any]:
        how = {}
        for size in sizes.memorised:
            torch.manual_seed(0)
            net = NoisePredictor(UNet(**UNET_PRESETS["small"]), schedule, "v").to(job.device)
            learner = ds.Learner(net, 3e-3)
            generator = torch.Generator(job.device).manual_seed(0)
            samples = Samples(x[:size].to(job.device), y[:size].to(job.device))
            run = Memoriser(size, learner, generator, sums=torch.zeros((), device=job.device))

            def step(run: Memoriser = run, samples: Samples = samples) -> None:
                each = loss(run.learner.net, samples(sizes.memorise_batch, run.generator), run.generator).each
                run.sums.add_(each.detach().mean())
                run.learner.descend(each.mean())

            learner.set(0.0)
            run.call, how[size] = recorded(job, step, generator)
            run.sums.zero_()
            runs.append(run)
        return {"how": how, "batch": sizes.memorise_batch, "parameters": sum(p.numel() for p in net.parameters())}

    job.found["stages"].pop("prepared", None)
    job.stage("prepared", prepare, 60 if job.cuda else 5)
    if not job.has("prepared"):
        return

    @torch.no_grad()
    def gap(net: NoisePredictor, images: Tensor, label: Tensor) -> float:
        """The mean squared error of v over all times, the same noise for all."""
        images, label = images[:1000], label[:1000]
        generator = torch.Generator().manual_seed(3)
        t = (1 + (torch.arange(len(images)) * 999) // max(1, len(images) - 1)).to(job.device)
        order = torch.randperm(len(images), generator=generator).to(job.device)
        eps = torch.randn(images.shape, generator=generator).to(job.device)
        x_t, v = rotate(images, eps, *net.level(t[order], images))
        return (net.output(x_t, t[order], label) - v).square().mean().item()

    def look(run: Memoriser, done: int) -> dict[str, Any]:
        net, size, n = run.learner.average, run.size, sizes.copies
        times = time_grid(schedule, sizes.steps)
        eps_fn = quick(net, labels(n, job.device))
        drawn = finished(job, ddim(eps_fn, start_noise(n, 7, job.device), schedule, times))
        train, label = x[:size].to(job.device), y[:size].to(job.device)
        found = {"digits": size, "step": done, "n": n, **copying(drawn, train, held_out)}
        known = (gap(net, x[8000:].to(job.device), y[8000:].to(job.device)), gap(net, train, label))
        found |= dict(zip(("loss on held-out digits", "loss on its digits"), known, strict=True))
        if not ready and awaited(job.folder, JUDGES, 0):
            ready.append(Judges(job.device, job.folder, JUDGES, sizes.parts, sizes.real))
        if ready:
            found["judged"] = {name: ready[0].by(name, drawn, labels(n)) for name in (OLD, "judge_a0", "judge_b0")}
        write_weights(job.folder / f"memorise_{size}_{done}.safetensors", net, digits=size, step=done)
        write_images(job.folder / f"memorise_{size}_{done}.npz", x=drawn[:500])
        return found

    done, final = 0, 40.0 if job.cuda else 2.0
    since = {run.size: 0 for run in runs}
    pace = time.time()
    for aim in sizes.looks:
        while done < aim and job.left > final:
            for run in runs:
                share = min((done + 1) / 100, 1.0) * (1 + done / 500) ** -0.5
                run.learner.set(share, min(0.998, (1 + done) / (10 + done)))
                run.call()
            done += 1
            if done % 10 == 0:
                job.wait()
        over = done < aim
        if over and any(done < 1.2 * seen for seen in sizes.looks if seen <= done):
            job.found["stages"]["ended"] = {"status": "done", "steps": done}
            break
        for run in runs:

            def one(run: Memoriser = run, done: int = done) -> dict[str, Any]:
                total = run.sums.item()
                found = look(run, done) | {"loss": total / max(1, done - since[run.size])}
                run.sums.zero_()
                since[run.size] = done
                if not math.isfinite(total):
                    raise FloatingPointError(f"the loss is {total}")
                return found | {"seconds since the start": time.time() - pace}

            job.stage(f"{run.size} digits, step {done}", one, 3 if job.cuda else 0.5)
        if over:
            break

    def shipped() -> dict[str, Any]:
        net, n = teacher_of(job), sizes.copies
        eps_fn, times = quick(net, labels(n, job.device)), time_grid(schedule, sizes.steps)
        drawn = finished(job, ddim(eps_fn, start_noise(n, 7, job.device), schedule, times))
        real = {
            "held-out digits as samples": copying(
                x_judge[:n].to(job.device), x[: min(4000, sizes.real)].to(job.device), held_out[:4000]
            )
        }
        mine = {
            "the shipped network, beside its first 6,000 digits": copying(
                drawn, x[: min(6000, sizes.real)].to(job.device), held_out[2000:]
            )
        }
        return mine | real

    job.stage("shipped", shipped, 2)


# --- Students ---------------------------------------------------------------------------------------------------------


def new_seeds(job: Job) -> range:
    """Noise seeds that no student was chosen by."""
    return range(101, 101 + job.sizes.seeds)


def confirm(job: Job) -> None:
    """The stored students, and the teacher beside them, on new noise seeds."""
    teacher, n = teacher_of(job), job.sizes.n
    judges, folder, label = judges_of(job, 300, 45), Path(__file__).parent / "students", labels(n, job.device)
    draws: dict[str, Callable[[Tensor], Tensor]] = {}
    for calls in (1, 2, 4):
        path = folder / f"digits_{calls}.safetensors"
        draws[f"student, {calls}"] = partial(travelled, read_weights(path, teacher), calls, label)
    for calls in (1, 2, 4):
        draws[f"teacher, DDIM {calls}"] = partial(travelled, teacher, calls, label)
    for name, (run, steps, random) in samplers(job).items():
        if not random and steps < 100:
            times = time_grid(teacher.schedule, steps)
            draws[f"teacher, {name}"] = lambda z, run=run, times=times: finished(
                job, run(quick(teacher, label), z, teacher.schedule, times)
            )
    order = [name for name in draws if "student" in name or "UniPC" in name or "20" in name]
    for name in (*order, *(name for name in draws if name not in order)):
        job.stage(name, lambda name=name: over_seeds(job, judges, draws[name], name))


@torch.no_grad()
def travelled(net: NoisePredictor, calls: int, label: Tensor, noise: Tensor) -> Tensor:
    """A student's digits."""
    return ds.drawing(net, calls)(noise, label).clamp(-1, 1)


def over_seeds(job: Job, judges: Judges, draw: Callable[[Tensor], Tensor], name: str) -> dict[str, Any]:
    """Scores on every new seed, their means and standard deviations."""
    each = []
    for seed in new_seeds(job):
        job.check()
        x = draw(start_noise(job.sizes.n, seed, job.device))
        each.append(judges.scores(x, labels(len(x))))
        if seed == 101 and name.startswith(("student", "second", "guided")):
            write_images(job.folder / f"samples_{name.replace(', ', '_').replace(' ', '_')}.npz", x=x[:500])
    found: dict[str, Any] = {"each": each, "mean": {}, "std": {}, "seeds": list(new_seeds(job))}
    for reader in each[0]:
        columns = {key: torch.tensor([one[reader][key] for one in each]).double() for key in each[0][reader]}
        found["mean"][reader] = {key: value.mean().item() for key, value in columns.items()}
        found["std"][reader] = {key: value.std().item() for key, value in columns.items() if len(value) > 1}
    found["frechet, each"] = {reader: [one[reader]["frechet"] for one in each] for reader in each[0]}
    found["each"] = [
        {reader: {key: scores[key] for key in ("frechet", "accuracy", "spread")} for reader, scores in one.items()}
        for one in each
    ]
    return found


def world_of(job: Job, **more: Any) -> tuple[ds.World, ds.Clock, float]:
    """What training students needs; the clock ends in time for their scores."""
    sizes = ds.Sizes(noises=job.sizes.trajectories) if job.cuda else ds.SMOKE._replace(noises=job.sizes.trajectories)
    if "path" in more:
        sizes = sizes._replace(solver_steps=16)
    x, y = (part.to(job.device) for part in data.digits())
    teacher = teacher_of(job)
    if not job.cuda:
        ds.SMOKE = sizes  # what its tiny runs are told by
    world = ds.World(job.device, sizes, teacher, x, y, graphs=0 if job.eager else 2, **more)
    world.students["teacher"] = ds.Student(teacher)
    now = time.perf_counter()
    clock = ds.Clock(now, now + job.left - (45 if job.cuda else 5))
    job.found["set up"] = [{key: value for key, value in row.items() if key != "curve"} for row in ds.set_up(world)]
    job.write()
    start = time.perf_counter()
    world.judge(ds.drawing(teacher, 2), world.sizes.seeds[:1])
    return world, clock, time.perf_counter() - start


def carry_out(
    job: Job, plans: Sequence[ds.Plan], world: ds.World, clock: ds.Clock, a_look: float, each: Callable[[ds.Plan], None]
) -> None:
    """The plans in turn, while there is time: on a shared card each may take longer than it asks for."""
    folder = job.folder if job.name == "distill" else job.folder / job.name
    folder.mkdir(exist_ok=True)
    for plan in plans:

        def one(plan: ds.Plan = plan) -> dict[str, Any]:
            seconds = min(PATIENCE * plan.seconds, clock.left() - 4 * a_look)
            if seconds < (3 if job.cuda else 0.5):
                raise Skipped(f"{clock.left():.0f} s left for training")
            row = ds.carry_out(plan._replace(seconds=seconds), world, clock, folder, a_look)
            if row["status"].startswith("failed"):
                job.found["errors"].append({"stage": plan.name, "traceback": row["errors"]})
            return row

        job.stage(plan.name, one)
        if plan.name in world.students:
            each(plan)


def distill(job: Job) -> None:
    """The recipe of the stored students with another training seed, scored as they are."""
    if job.has("dm4"):  # started again: its networks are gone, its results are kept
        return
    job.found["stages"].clear()
    world, clock, a_look = world_of(job, seed=1)
    ready: list[Judges] = []
    label = labels(job.sizes.n, job.device)
    caps = {"reg4": 700, "dm4": 400, "reg2": 1000, "dm2": 850, "reg1": 3750, "dm1": 1160, "all2": 720, "gan1": 970}
    caps |= {"all1": 700, "all2-again": 390, "all1-again": 580}
    known = {plan.name: plan for plan in ds.PLANS}
    plans = [known[name]._replace(steps=steps) for name, steps in caps.items()]
    goals = ("dm4", "dm2", "dm1", "all2", "gan1", "all1", "all2-again", "all1-again")

    def each(plan: ds.Plan) -> None:
        if plan.name not in goals:
            return
        if not ready and awaited(job.folder, JUDGES, 0):
            ready.append(Judges(job.device, job.folder, JUDGES, job.sizes.parts, job.sizes.real))
        if ready:
            name = f"second seed, {plan.calls}, {plan.name}"
            draw = partial(travelled, world.students[plan.name].net, plan.calls, label)
            job.stage(name, lambda: over_seeds(job, ready[0], draw, name))

    carry_out(job, plans, world, clock, a_look, each)
    if not ready and awaited(job.folder, JUDGES, job.until - 20):
        for plan in plans:
            if plan.name in world.students:
                each(plan)


def guided(job: Job) -> None:
    """Guidance of w = 2 folded into two evaluations: students of the guided teacher's 16 steps of DDIM."""
    if job.has("fold2"):
        return
    job.found["stages"].clear()
    world, clock, a_look = world_of(job, seed=0, w=2.0, path=ddim)
    for row in job.found["set up"]:
        row["name"] = row["name"].replace("UniPC", "guided DDIM")
    label = labels(job.sizes.n, job.device)

    def error(draw: Callable[[Tensor], Tensor], seeds: Sequence[int]) -> dict[str, Any]:
        found = []
        with exact(), torch.no_grad():
            for seed in seeds:
                noise = start_noise(job.sizes.n, seed, job.device)
                off = draw(noise) - ds.solve(world, noise, label)[-1].clamp(-1, 1)
                found.append((off.square().mean().sqrt().item(), off.abs().mean().item()))
        rms = [one[0] for one in found]
        return {"rms a pixel": sum(rms) / len(rms), "each": rms, "mean absolute": sum(o[1] for o in found) / len(found)}

    def plainly(calls: int) -> Callable[[Tensor], Tensor]:
        times = [round(1000 * i / calls) for i in range(calls, -1, -1)]
        return lambda z: finished(job, ddim(quick(world.teacher, label, 2.0), z, world.teacher.schedule, times))

    for calls in (2, 4, 8):
        job.stage(f"guided DDIM {calls}", lambda calls=calls: error(plainly(calls), (101, 102, 103)))
    plans = [
        ds.Plan("fold2", 2, ("teacher",), 25, 512, 3000, 1.5e-3, 0.995),
        ds.matching("fold2-ends", 2, ("fold2",), 20, batch=512, steps=1800, rate=6e-4, ema=0.995,
                    perceptual=0.0, regression=1.0, match=0.0, fakes=0),
        ds.Plan("fold4", 4, ("teacher",), 8, 512, 900, 1.5e-3, 0.99),
        ds.Plan("fold1", 1, ("fold2",), 12, 512, 1500, 1.5e-3, 0.995),
    ]  # fmt: skip
    ready: list[Judges] = []

    def each(plan: ds.Plan) -> None:
        net = world.students[plan.name].net
        path = job.folder / f"guided_{plan.name}.safetensors"
        if not path.exists():
            write_weights(path, net, w=2.0, calls=plan.calls, plan=plan.name)
        draw = partial(travelled, net, plan.calls, label)
        job.stage(f"error, {plan.name}", lambda: error(draw, new_seeds(job)))
        if not ready and awaited(job.folder, JUDGES, 0):
            ready.append(Judges(job.device, job.folder, JUDGES, job.sizes.parts, job.sizes.real))
        if ready:
            name = f"guided, {plan.calls}, {plan.name}"
            job.stage(name, lambda: over_seeds(job, ready[0], draw, name))

    carry_out(job, plans, world, clock, a_look, each)
    if ready:
        teach = plainly(16)
        job.stage("guided DDIM 16, scored", lambda: over_seeds(job, ready[0], teach, "teacher"))


# --- A classifier that knows noise ------------------------------------------------------------------------------------


class NoisyClassifier(nn.Module):
    """Reads digits at every noise level: logits (B, 10) of p(y | x_t, t), on 2 x 2 patches, t as the U-Net takes it.

    placed: the last layer sees where things are; otherwise their mean over the image. gated: logits are multiplied by
    the signal, so that their gradient vanishes with it, as the exact one does.
    """

    signal: Tensor

    def __init__(
        self, channels: tuple[int, int] = (32, 48), placed: bool = True, gated: bool = False, T: int = 1000
    ) -> None:
        super().__init__()
        self.gated = gated
        self.register_buffer("signal", cosine(T).alpha_bar.sqrt().float(), persistent=False)
        fine, coarse = channels
        width, self.T, self.placed = 2 * fine, T, placed
        self.time = TimeEmbedding(width)
        self.enter = nn.Conv2d(4, fine, 3, padding=1)
        self.fine = ResidualBlock(fine, fine, width)
        self.shrink = nn.Conv2d(fine, coarse, 3, stride=2, padding=1)
        self.coarse = ResidualBlock(coarse, coarse, width)
        self.norm = nn.GroupNorm(8, coarse)
        self.narrow = nn.Conv2d(coarse, 16, 1) if placed else nn.Identity()
        self.leave = nn.Linear(16 * 49 if placed else coarse, 10)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Class logits (B, 10)."""
        condition = F.silu(self.time(1000 * t / self.T))
        h = self.fine(self.enter(F.pixel_unshuffle(x, 2)), condition)
        h = F.silu(self.norm(self.coarse(self.shrink(h), condition)))
        logits = self.leave(self.narrow(h).flatten(1) if self.placed else h.mean((2, 3)))
        return logits * self.signal[t][:, None] if self.gated else logits


READERS = {
    "placed_24_32": {"channels": (24, 32), "placed": True},
    "placed_32_48": {"channels": (32, 48), "placed": True},
    "gated_32_48": {"channels": (32, 48), "placed": True, "gated": True},
    "mean_32_48": {"channels": (32, 48), "placed": False},
    "placed_40_64": {"channels": (40, 64), "placed": True},
}


def noisy(job: Job) -> None:
    """Train the sizes of READERS, read at every noise level, compare gradients, and steer with them."""
    net = teacher_of(job)
    x, y = (part.to(job.device) for part in data.digits("train"))
    x_test, y_test = (part[: job.sizes.real // 5].to(job.device) for part in data.digits("test"))
    steps, batch = job.sizes.noisy
    rows = torch.arange(28, device=job.device)
    readers: dict[str, NoisyClassifier] = {}

    def train(name: str, budget: float) -> dict[str, Any]:
        torch.manual_seed(0)
        learner = ds.Learner(NoisyClassifier(**READERS[name]).to(job.device), 2e-3)
        generator = torch.Generator(job.device).manual_seed(0)
        total = torch.zeros((), device=job.device)

        def step() -> None:
            picked = torch.randint(len(x), (batch,), generator=generator, device=job.device)
            shift = torch.randint(3, (2, 1), generator=generator, device=job.device)
            x0 = F.pad(x[picked], (1, 1, 1, 1), value=-1.0)
            x0 = x0.index_select(2, (rows + shift)[0]).index_select(3, (rows + shift)[1])
            offset = torch.rand(1, generator=generator, device=job.device)
            t = 1 + (1000 * (torch.arange(batch, device=job.device) + offset) / batch).long().clamp(max=999)
            eps = torch.randn(x0.shape, generator=generator, device=job.device)
            x_t = rotate(x0, eps, *net.level(t, x0))[0]
            loss = F.cross_entropy(learner.net(x_t, t), y[picked], label_smoothing=0.0)
            total.add_(loss.detach())
            learner.descend(loss)

        learner.set(0.0)
        call, how = recorded(job, step, generator)
        start = time.time()
        for _ in range(4):
            call()
        job.wait()
        pace = (time.time() - start) / 4
        total.zero_()
        planned = max(4, min(steps, int(min(budget, job.left - 30) / pace)))
        for done in range(planned):
            learner.set(min((done + 1) / 50, 1 - done / planned), min(0.998, (1 + done) / (10 + done)))
            call()
            if done % 25 == 24:
                job.wait()
                job.check(10)
        found = {"steps": planned, "batch": batch, "how": how, "ms": 1000 * pace, "mean loss": total.item() / planned}
        found["parameters"] = sum(p.numel() for p in learner.parameters)
        readers[name] = learner.average
        with torch.no_grad():
            for weight in readers[name].parameters():
                weight.copy_(weight.half().float())
        write_weights(job.folder / f"noisy_{name}.safetensors", readers[name], **READERS[name], steps=planned)
        if not math.isfinite(found["mean loss"]):
            raise FloatingPointError(f"the loss is {found['mean loss']}")
        return found | {"by time": {name: read_by_time(name)}}

    levels = [1, *range(50, 1001, 50 if job.cuda else 475)]
    old = weights.load("classifier")[0].to(job.device).eval().requires_grad_(False)

    def noised(t: int, seed: int, count: int = 2000) -> tuple[Tensor, Tensor, float, float]:
        images = x_test[:count]
        eps = torch.randn(images.shape, generator=torch.Generator().manual_seed(1000 * seed + t)).to(job.device)
        level = net.schedule.alpha_bar[t].item()
        a, b = math.sqrt(level), math.sqrt(1 - level)
        return a * images + b * eps, torch.full((len(images),), t, device=job.device), a, b

    def logits_of(name: str) -> Callable[[Tensor, Tensor, float, float], Tensor]:
        if name in readers:
            return lambda x_t, t, a, b: readers[name](x_t, t)
        if name == "clean":
            return lambda x_t, t, a, b: old(x_t)
        if name == "clean, x_t over signal":
            return lambda x_t, t, a, b: old((x_t / max(a, 1e-3)).clamp(-3, 3))
        return lambda x_t, t, a, b: old(a * x_t - b * net.output(x_t, t, torch.full_like(t, net.num_classes)))

    @torch.no_grad()
    def read_by_time(name: str) -> list[dict[str, float]]:
        found = []
        for t in levels:
            right, surprise, sure = [], [], []
            for seed in (0, 1):
                x_t, time_t, a, b = noised(t, seed)
                logits = logits_of(name)(x_t, time_t, a, b).float()
                probability = logits.softmax(1)
                right.append((logits.argmax(1) == y_test).double().mean().item())
                surprise.append(F.cross_entropy(logits, y_test).item())
                sure.append(probability.max(1).values.double().mean().item())
            row = {"accuracy": right, "cross-entropy": surprise, "mean highest probability": sure}
            found.append({"t": t} | {key: sum(values) / 2 for key, values in row.items()})
        return found

    for i, name in enumerate(READERS):
        path = job.folder / f"noisy_{name}.safetensors"
        if job.has(name) and path.exists():
            like = NoisyClassifier(**READERS[name]).to(job.device)
            readers[name] = read_weights(path, like)
            continue
        budget = max(10.0, (job.left - 90) / (len(READERS) - i))
        job.stage(name, lambda name=name, budget=budget: train(name, budget), 30 if job.cuda else 3)
    for name in ("clean", "clean, x_t over signal", "clean, on the predicted x0"):
        job.stage(f"read by time, {name}", lambda name=name: read_by_time(name))

    def gradient(read: Callable[[Tensor], Tensor], x_t: Tensor, label: Tensor) -> Tensor:
        with torch.enable_grad():
            z = x_t.detach().requires_grad_(True)
            log_p = read(z).float().log_softmax(1).gather(1, label[:, None]).sum()
            return torch.autograd.grad(log_p, z)[0]

    def cosines() -> list[dict[str, float]]:
        """Gradients beside the implicit classifier's, (eps_u - eps_c) / sqrt(1 - ab), of the shipped network."""
        found, count = [], min(1000, job.sizes.n, len(x_test))
        label, none = y_test[:count], torch.full((count,), 10, device=job.device)
        for t in levels:
            x_t, time_t, a, b = noised(t, 0, count)
            with torch.no_grad():
                pull = a * (net.output(x_t, time_t, none) - net.output(x_t, time_t, label)) / b
            row = {"t": t, "implicit, root mean square": pull.square().mean().sqrt().item()}
            for name in (*readers, "clean", "clean, on the predicted x0"):
                read = logits_of(name)
                mine = gradient(lambda z, read=read, t=time_t, a=a, b=b: read(z, t, a, b), x_t, label)
                cosine_of = F.cosine_similarity(mine.flatten(1), pull.flatten(1)).double()
                row[name] = cosine_of.mean().item()
                row[f"{name}, root mean square"] = mine.square().mean().sqrt().item()
            found.append(row)
        return found

    job.stage("cosines with the implicit classifier", cosines)
    judges = judges_of(job, 60, 40)
    n, times = min(1000, job.sizes.n), time_grid(net.schedule, job.sizes.steps)
    label = labels(n, job.device)
    level = net.schedule.alpha_bar.sqrt().tolist()

    def steer(name: str, w: float, conditional: bool = False, least: float = 0.05) -> dict[str, Any]:
        """DDIM with w times the gradient, wherever there is at least so much signal: at T it counts 20,000 times."""
        base, read = quick(net, label, 1.0 if conditional else 0.0), logits_of(name)
        signals = iter([level[t] for t in times])

        def eps_fn(z: Tensor, t: Tensor) -> Tensor:
            a = next(signals)
            b = math.sqrt(1 - a * a)
            eps = base(z, t)
            return eps if a < least or w == 0 else eps - w * b * gradient(lambda u: read(u, t, a, b), z, label)

        drawn = finished(job, ddim(eps_fn, start_noise(n, 1, job.device), net.schedule, times))
        return described(drawn, name)

    def described(drawn: Tensor, name: str) -> dict[str, Any]:
        found: dict[str, Any] = judges.scores(drawn, labels(n))
        with torch.no_grad(), exact():
            t = torch.ones(n, dtype=torch.int64, device=job.device)
            found["guide's own accuracy"] = (
                (logits_of(name)(drawn, t, 1.0, 0.0).argmax(1) == label).double().mean().item() if name else None
            )
        return found

    guides = [name for name in ("gated_32_48", "placed_32_48") if name in readers]
    for w in (0.0, 1.0, 2.0, 4.0, 8.0, 16.0) if job.cuda else (0.0, 4.0):
        for name in (*guides, "clean"):
            job.stage(f"steered, {name}, w {w:g}", lambda name=name, w=w: steer(name, w))
    for w in (1.0, 2.0, 4.0):

        def free(w: float = w) -> dict[str, Any]:
            eps_fn = quick(net, label, w)
            return described(finished(job, ddim(eps_fn, start_noise(n, 1, job.device), net.schedule, times)), "clean")

        job.stage(f"classifier-free, w {w:g}", free)
    for w in (1.0, 4.0):
        for name in guides:
            job.stage(f"steered at T too, {name}, w {w:g}", lambda name=name, w=w: steer(name, w, least=0.0))
            job.stage(f"steered, conditional base, {name}, w {w:g}", lambda name=name, w=w: steer(name, w, True))
        clean = "clean, on the predicted x0"
        job.stage(f"steered, {clean}, w {w:g}", lambda clean=clean, w=w: steer(clean, w))


JOBS: dict[str, Callable[[Job], None]] = {
    "judge_a": judge_a,
    "judge_b": judge_b,
    "settle": settle,
    "memorise": memorise,
    "noisy": noisy,
    "distill": distill,
    "confirm": confirm,
    "guided": guided,
}


def carry_out_job(job: Job) -> int:
    """One job, whatever happens: 1 if something in it failed."""
    set_tf32(True)
    if job.cuda:
        job.found["card"] = torch.cuda.get_device_name()
    job.found |= {"status": "running", "torch": torch.__version__, "eager": job.eager}
    job.write()
    try:
        JOBS[job.name](job)
        job.found["status"] = "done"
    except Skipped as error:
        job.found["status"] = f"ended early: {error}"
    except Exception as error:
        job.found["status"] = f"failed: {type(error).__name__}: {str(error)[:300]}"
        job.found["errors"].append({"stage": "the job", "traceback": traceback.format_exc(limit=-8)})
    job.write()
    for error in job.found["errors"]:
        print(f"{job.name}: ERROR in {error['stage']}\n{error['traceback']}", flush=True)
    return int(bool(job.found["errors"]))
