"""What the deeper notebook of lesson 14 computes: losses beside samples, enlarged digits, marks, times of a library."""

import inspect
import itertools
import json
import textwrap
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from IPython.display import Markdown, display
from torch import Tensor
from torch.nn import functional as F

from lessons_src import data, measurements
from lessons_src.checks import check_choice, check_int, check_real, refuse
from lessons_src.export import SCHEDULER, times_of, to_onnx
from lessons_src.guidance import classifier_free
from lessons_src.inversion import sdedit
from lessons_src.lessons.digit_runs import shipped
from lessons_src.lessons.lesson_14.on_digits import DRAWERS
from lessons_src.lessons.lesson_14.paradigms import PARADIGMS, RING, of_the_ring, train
from lessons_src.measurements import Row, digits_of, points_of
from lessons_src.metrics import sliced_distance
from lessons_src.networks import NoisePredictor
from lessons_src.process import predict_x0
from lessons_src.samplers import renoise, sample
from lessons_src.schedules import time_grid
from lessons_src.show import plots
from lessons_src.show.progress import counted
from lessons_src.solvers import SOLVERS

SHRINK = 4  # a small digit has 7 x 7 places


def seeded(seed: int = 0) -> torch.Generator:
    """A generator that has just been seeded."""
    return torch.Generator().manual_seed(seed)


# --- Four losses


def show_code() -> None:
    """The losses of the four paradigms, as they stand in the package."""
    parts = [
        f"# {name}\n{textwrap.dedent(inspect.getsource(kind.losses)).rstrip()}" for name, kind in PARADIGMS.items()
    ]
    bound = f"# what a VAE calls its bound\n{textwrap.dedent(inspect.getsource(PARADIGMS['VAE'].bound)).rstrip()}"
    code = "\n\n".join([*parts, bound])
    display(Markdown(f"```python\n{code}\n```"))


def show_losers() -> None:
    """What each of the four paradigms gives up, in numbers stored for five seeds."""
    rows = {name: [row for row in measurements.load("paradigms") if row["paradigm"] == name] for name in PARADIGMS}
    shares = {name: [cluster_shares(points_of(row).double()) for row in own] for name, own in rows.items()}
    own = of_the_ring()
    plots.table(
        {
            "paradigm": list(rows),
            "smallest cluster, %": [f"{100 * min(s.min().item() for s in found):.1f}" for found in shares.values()],
            "largest cluster, %": [f"{100 * max(s.max().item() for s in found):.1f}" for found in shares.values()],
            "strays, %": [", ".join(f"{100 * row['stray']:.0f}" for row in found) for found in rows.values()],
            "nats lost": [
                ", ".join(f"{own - row['log']:.2f}" for row in found) if "log" in found[0] else "unknown"
                for found in rows.values()
            ],
        },
        "Of 400 points in each of five seeds: the smallest and the largest share of all clusters, where 12.5 would be "
        "right. Strays and nats lost, seed by seed. A VAE's loss is at most so large.",
    )


def cluster_shares(x: Tensor) -> Tensor:
    """Shares of the ring's clusters among those points (n, 2) that lie in one, (8,)."""
    gap, nearest = torch.cdist(x, RING.means).min(1)
    near = nearest[gap < 3 * RING.covariances[0, 0, 0].sqrt()]
    return torch.bincount(near, minlength=len(RING.means)) / len(near)


def after(name: str, steps: int) -> tuple[list[float], float]:
    """The losses of a paradigm after so many steps on points of the ring, and its samples' sliced distance to them."""
    check_int("steps", steps, 1)
    ticks = itertools.count()
    model, _ = train(name, 0, steps, lambda: float(next(ticks)))
    fresh = RING.sample(4000, seeded(98))[0]
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(97)
        losses = [loss.item() for loss in model.losses(fresh.float())]
        return losses, sliced_distance(model.sample(4000, seeded(99)), fresh)


def show_losses(steps: Sequence[int] = (100, 400, 1600)) -> None:
    """What each of four says of itself while it learns, and what its samples are like."""
    trainings = [(name, n) for name in PARADIGMS for n in steps]
    found = [(name, n, *after(name, n)) for name, n in counted(trainings, "trainings")]
    plots.table(
        {
            "paradigm": [name for name, *_ in found],
            "steps": [n for _, n, *_ in found],
            "its loss": [", ".join(f"{loss:.2f}" for loss in losses) for _, _, losses, _ in found],
            "distance of its samples": [f"{distance:.2f}" for *_, distance in found],
        },
        "One seed of training. A GAN has two losses, its critic's and its generator's. The distance is the sliced one, "
        "to fresh points of the ring.",
    )


# --- On digits


def drawers(name: str) -> list[Row]:
    """The stored rows of diffusion, GAN or VAE on digits, one a seed."""
    return [row for row in measurements.load("drawers") if row["paradigm"] == check_choice("name", name, DRAWERS)]


def show_digits() -> None:
    """Ten digits of each, and the scores."""
    names = list(dict.fromkeys(row["paradigm"] for row in measurements.load("drawers")))
    plots.image_rows(
        {"real": data.one_each()} | {name: digits_of(drawers(name)[0])[:10] for name in names},
        "The first ten digits, 0 to 9, of three networks that were trained for 100 seconds each, below ten real ones.",
    )

    def scores(key: str, form: str) -> list[str]:
        return [", ".join(format(row[key], form) for row in drawers(name)) for name in names]

    plots.table(
        {
            "paradigm": names,
            "steps of training": scores("steps", ",d"),
            "Fréchet": scores("frechet", ".1f"),
            "precision": scores("precision", ".2f"),
            "recall": scores("recall", ".2f"),
            "read as asked": scores("accuracy", ".1%"),
            "ms a digit": scores("ms", ".2g"),
        },
        "1,000 digits a row, scored as lesson 13 does; two seeds of training. Milliseconds of work, 100 at a time.",
    )


# --- Enlarging


def small(x: Tensor) -> Tensor:
    """Means of 4 x 4 pixels."""
    return F.avg_pool2d(x, SHRINK)


def large(x: Tensor) -> Tensor:
    """Every number as 4 x 4 equal pixels."""
    return F.interpolate(x, scale_factor=SHRINK)


@torch.no_grad()
def enlarge(net: NoisePredictor, known: Tensor, seed: int, steps: int = 20) -> Tensor:
    """Digits (B, 1, 28, 28) whose means of 4 x 4 pixels are `known`; the network gets no label.

    DDIM, whose guess of the picture gets the known means in every step (Wang et al. 2022, "DDNM").
    """
    if known.ndim != 4 or known.shape[1:] != (1, 7, 7):
        refuse("known", known, "small digits of shape (B, 1, 7, 7)")
    schedule, n = net.schedule, len(known)
    times, ab = time_grid(schedule, steps), schedule.alpha_bar
    x = torch.randn(n, 1, 28, 28, generator=seeded(seed))
    for t, s in itertools.pairwise(times):
        x0 = predict_x0(x, net(x, torch.full((n,), t)), ab[t]).clamp(-1, 1)
        x0 = x0 + large(known - small(x0))
        x = renoise(x0, (x - ab[t].sqrt() * x0) / (1 - ab[t]).sqrt(), ab[s])
    return x


# --- Rounding


def ours(net: NoisePredictor, noise: Tensor, labels: Tensor, solver: str, w: float, double: bool = False) -> Tensor:
    """Digits by 20 steps of a solver, in float32 or in float64 around a network of float32."""
    check_choice("solver", solver, SOLVERS)
    schedule, times = net.schedule, time_grid(net.schedule, 20, "trailing")
    x = noise.double() if double else noise
    return sample(SOLVERS[solver].run(classifier_free(net, labels, w), x, schedule, times))


def largest(a: Tensor, b: Tensor) -> tuple[float, float]:
    """The largest difference of a pixel in the middle picture, and in the worst."""
    found = (a - b).abs().flatten(1).amax(1)
    return found.median().item(), found.max().item()


def slip(net: NoisePredictor, t: int, n: int = 20) -> float:
    """How far the guessed picture moves if the network is told t - 1: root mean square of a pixel."""
    check_int("t", t, 2, net.schedule.T)
    x, label = (part[:n] for part in data.digits("test"))
    ab, noise = net.schedule.alpha_bar[t], torch.randn(n, 1, 28, 28, generator=seeded(3))
    x_t = (ab.sqrt() * x + (1 - ab).sqrt() * noise).float()
    with torch.no_grad():
        told = [predict_x0(x_t, net(x_t, torch.full((n,), time), label), ab) for time in (t, t - 1)]
    return (told[0] - told[1]).square().mean().sqrt().item()


# --- diffusers and ONNX

KINDS = {
    "DDIM": "DDIMScheduler",
    "DPM-Solver++(2M)": "DPMSolverMultistepScheduler",
    "UniPC-2": "UniPCMultistepScheduler",
}


def theirs(pipe: Any, noise: Tensor, labels: Tensor, solver: str, w: float, steps: int = 20, **config: Any) -> Tensor:
    """Digits by a pipeline of diffusers; config changes its scheduler's."""
    import diffusers

    check_choice("solver", solver, KINDS)
    first = pipe.scheduler
    pipe.scheduler = getattr(diffusers, KINDS[solver]).from_config(first.config, **config)
    try:
        options = {"latents": noise, "num_inference_steps": steps, "guidance_scale": w, "output_type": "latent"}
        return pipe(labels, **options).images
    finally:
        pipe.scheduler = first


def show_folder(folder: Path) -> None:
    """The files of an exported network, and its scheduler's config."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    what = {
        "model_index.json": "which class is in which file",
        "unet/config.json": "sizes of the network",
        "unet/diffusion_pytorch_model.safetensors": "its numbers",
        "unet/patch_unet.py": "its code, which runs only with `trust_remote_code=True`",
        "label_pipeline.py": "the loop around it, likewise",
        "scheduler/scheduler_config.json": "the levels of noise",
    }
    names = [path.relative_to(folder).as_posix() for path in files]
    config = json.loads((folder / SCHEDULER).read_text())
    said = ", ".join(f"{key} {value}" for key, value in config.items() if key[0] != "_")
    plots.table(
        {
            "file": names,
            "what": [what[name] for name in names],
            "kB": [f"{path.stat().st_size / 1000:,.0f}" for path in files],
        },
        f"The scheduler: {said}.",
    )


def starts(steps: int = 20) -> dict[str, list[Any]]:
    """Where each spacing of diffusers begins and how much of the picture is left there."""
    import diffusers

    check_int("steps", steps, 1)
    schedule = shipped()[0].schedule
    columns: dict[str, list[Any]] = {"timestep_spacing": [], "our times": [], "√ᾱ at the start": []}
    for spacing in ("leading", "linspace", "trailing"):
        scheduler = diffusers.DDPMScheduler(timestep_spacing=spacing, beta_schedule="squaredcos_cap_v2")
        scheduler.set_timesteps(steps)
        times = times_of(scheduler)
        columns["timestep_spacing"].append(spacing)
        columns["our times"].append(f"{times[0]}, {times[1]}, … {times[-2]}, {times[-1]}")
        columns["√ᾱ at the start"].append(f"{schedule.alpha_bar[times[0]].sqrt():.2g}")
    return columns


def onnx_says(net: NoisePredictor, path: Path) -> str:
    """A sentence about a network as ONNX, whether or not onnxruntime is there."""
    if find_spec("onnxruntime") is None:
        return "onnxruntime is not installed here: `pip install -e '.[onnx]'`, restart the kernel, and run again."
    worst = to_onnx(net, path)
    return (
        f"{path.name}: {path.stat().st_size / 1e6:.1f} MB. Outputs for 1, 2 and 7 digits differ from torch's by "
        f"{'less than 0.00001' if worst < 1e-5 else f'{worst:.2g}'}."
    )


# --- Marks


class Mark(NamedTuple):
    """A pattern of +1 and -1 that is hidden in pictures: `strength` of it, and so much less of them."""

    pattern: Tensor
    strength: float

    def put(self, x: Tensor) -> Tensor:
        """Marked pictures."""
        return (1 - self.strength) * x + self.strength * self.pattern

    def read(self, x: Tensor) -> Tensor:
        """How much of the pattern is in pictures (B, 1, 28, 28), (B,)."""
        return (x * self.pattern).flatten(1).mean(1)


def mark(strength: float = 0.1, seed: int = 5) -> Mark:
    """A random pattern."""
    check_real("strength", strength, 0, 1)
    return Mark(torch.randn(1, 1, 28, 28, generator=seeded(seed)).sign(), strength)


def treated(x: Tensor, label: Tensor) -> dict[str, Tensor]:
    """What may happen to marked digits on their way."""
    net = shipped()[0]
    times = [t for t in time_grid(net.schedule, 50) if t <= 300]
    again = sample(sdedit(classifier_free(net, label, 1.0), x, net.schedule, times, generator=seeded(1)))
    return {
        "nothing": x,
        "stored in 256 greys": ((x + 1) * 127.5).round() / 127.5 - 1,
        "noise of 0.2": x + 0.2 * torch.randn(x.shape, generator=seeded(2)),
        "moved by one pixel": x.roll(1, 3),
        "drawn again from t = 300": again,
    }


def show_marks(n: int = 200) -> None:
    """How many marked digits are found, after what; at a threshold that one in a hundred unmarked ones passes."""
    hidden, (test, label) = mark(), data.digits("test")
    check_int("n", n, 1, len(test) - 1)
    threshold = hidden.read(test[n:]).quantile(0.99)
    found = treated(hidden.put(test[:n]), label[:n])
    plots.table(
        {
            "what happened to it": list(found),
            "marks found": [f"{(hidden.read(x) > threshold).double().mean():.0%}" for x in found.values()],
        },
        f"{n} test digits with a mark. The threshold is passed by one in a hundred of {len(test) - n:,} without.",
    )
