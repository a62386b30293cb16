"""Training: one loop for every loss, from a laptop to several GPUs. Losses are in `losses`.

`python -m lessons_src.training --help` trains from a terminal; `torchrun --nproc_per_node=N -m lessons_src.training`
does the same data-parallel.
"""

import argparse
import copy
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lessons_src import data
from lessons_src.checks import check_choice, check_int, check_real, refuse
from lessons_src.files import check_writable, write_whole
from lessons_src.guidance import classifier_free
from lessons_src.losses import Batch, Denoising, Losses, Samples
from lessons_src.networks import UNET_PRESETS, NoisePredictor, UNet
from lessons_src.optimizers import make_optimizers
from lessons_src.samplers import ddim, sample
from lessons_src.schedules import SCHEDULES, make_schedule, time_grid

PRECISIONS = ("float32", "bfloat16")
FORMAT = 2  # of checkpoints; 1 was written before network, loss and data were apart
MAY_CHANGE = {"steps", "learning_rate", "precision"}  # when a run goes on


class Batches(Protocol):
    """What a `Trainer` draws its batches from."""

    def __call__(self, size: int, generator: torch.Generator) -> Batch:
        """A batch of `size`, on the generator's device, drawn by it alone."""


@runtime_checkable
class Loss(Protocol):
    """What a `Trainer` minimises. A checkpoint tells losses apart by their repr: a dataclass has a useful one."""

    def __call__(self, net: Any, batch: Batch, generator: torch.Generator) -> Losses:
        """The losses of a batch; what else is random comes from the generator."""

    def check(self, net: Any, batches: Any) -> None:
        """Refuse a network and data that do not belong together, before training."""


@dataclass(frozen=True)
class Recipe:
    """What a run depends on besides network, loss and data. Raises ValueError for values that make no sense.

    The learning rate falls linearly from `learning_rate` to 0 at the end; over the first `warmup` steps it rises to
    that line. ema is the decay a step of the running average of weights; it starts lower, so that a short run does not
    average its own start.
    """

    steps: int = 1500
    batch_size: int = 64
    learning_rate: float = 2e-3
    warmup: int = 100
    ema: float = 0.995
    seed: int = 0

    def __post_init__(self) -> None:
        check_int("steps", self.steps, 1)
        check_int("batch_size", self.batch_size, 1)
        check_real("learning_rate", self.learning_rate, 1e-9)
        check_int("warmup", self.warmup, 1)
        check_real("ema", self.ema, 0.0, 0.999999)
        check_int("seed", self.seed, 0)

    def rate_share(self, step: int) -> float:
        """The learning rate of a step, counted from 0, as a share of its peak."""
        return min((step + 1) / self.warmup, 1 - step / self.steps)

    def decay(self, step: int) -> float:
        """How much of the average stays at a step, counted from 0: (1 + step) / (10 + step), at most `ema`."""
        return min(self.ema, (1 + step) / (10 + step))


class Progress(NamedTuple):
    """What a run reports: the mean loss since the last report, by ten equal ranges of t if it has times, the pace.

    loss_by_time is NaN for a range that no sample fell into.
    """

    step: int
    steps: int
    loss: float
    loss_by_time: list[float]
    seconds: float
    images_per_second: float


class Trainer:
    """One training run: the network, the running average of its weights, the optimiser, and the random state.

    loss(net, batch, generator) is minimised over batch = batches(size, generator). net is trained in place; the
    average, which samples should come from, is `trainer.ema`. precision is "float32", "bfloat16", or "auto": whichever
    is faster in a few steps on this device (`timing`, in seconds a step). Raises TypeError and ValueError for data that
    do not fit the network, a device that is not there, an unknown precision, or a batch that the processes of a
    data-parallel run cannot share evenly.
    """

    def __init__(
        self,
        net: nn.Module,
        loss: Loss,
        batches: Batches,
        recipe: Recipe,
        device: str | torch.device = "cpu",
        precision: str = "float32",
        compiled: bool = False,
    ) -> None:
        if not isinstance(loss, Loss):
            refuse("loss", loss, "a loss with a check of what it takes, such as Denoising()", TypeError)
        if not callable(batches):
            refuse("batches", batches, "Samples(x0, label), or another function batches(size, generator)", TypeError)
        if not isinstance(recipe, Recipe):
            refuse("recipe", recipe, "a Recipe", TypeError)
        loss.check(net, batches)
        self.loss, self.batches, self.recipe, self.device = loss, batches, recipe, checked_device(device)
        self.timing: dict[str, float] = {}
        if check_choice("precision", precision, (*PRECISIONS, "auto")) == "auto":
            self.timing = time_precisions(net, loss, batches, recipe, device, compiled)
            precision = min(self.timing, key=lambda name: self.timing[name])
        self.precision = precision
        self.rank, self.world = (distributed.get_rank(), distributed.get_world_size()) if parallel() else (0, 1)
        if recipe.batch_size % self.world:
            refuse("batch_size", recipe.batch_size, f"a multiple of the {self.world} processes")
        self.net = net.to(self.device).train()
        self.averaged = AveragedModel(self.net)
        self.optimizers = make_optimizers(self.net, recipe.learning_rate)
        self.peaks = [optimizer.param_groups[0]["lr"] for optimizer in self.optimizers]
        self.generator = torch.Generator(self.device).manual_seed(recipe.seed + self.rank)
        self.step_count = 0
        if compiled:
            getattr(self.net, "body", self.net).compile()
        whole = _Whole(self.net, loss)
        self._losses = DistributedDataParallel(whole) if self.world > 1 else whole

    @property
    def ema(self) -> Any:
        """The network with averaged weights, in evaluation mode."""
        return self.averaged.module.eval()

    def step(self) -> Losses:
        """Train on one batch and return its losses; of several processes, each on a share of its own."""
        batch = self.batches(self.recipe.batch_size // self.world, self.generator)
        for optimizer, peak in zip(self.optimizers, self.peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * self.recipe.rate_share(self.step_count)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            losses = self._losses(batch, self.generator)
        losses.each.mean().backward()
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self._average()
        self.step_count += 1
        return Losses(losses.each.detach(), losses.tenth)

    def run(self) -> Iterator[Losses]:
        """Train to the end of the recipe; yield the losses of every step."""
        while self.step_count < self.recipe.steps:
            yield self.step()

    def save(self, path: str | Path) -> None:
        """Write everything the run needs to go on as if it had not stopped; the file appears whole or not at all.

        Raises FloatingPointError, leaving the file as it is, if a weight, average or momentum is not finite.
        """
        momenta = [state for optimizer in self.optimizers for state in optimizer.state.values()]
        if not _all_finite(self.net.state_dict(), self.averaged.state_dict(), *momenta):
            raise FloatingPointError(
                f"not all weights are finite after step {self.step_count}; {path} is left as it is: lower the learning "
                "rate and go on from it, or begin again with a new network if there is none"
            )
        states = [self.generator.get_state()]
        if self.world > 1:
            states = [torch.empty_like(states[0]) for _ in range(self.world)]
            distributed.all_gather_object(states, self.generator.get_state())
        if self.rank == 0:
            state = {
                "format": FORMAT,
                **self._identity(),
                "recipe": asdict(self.recipe),
                "precision": self.precision,
                "step": self.step_count,
                "net": self.net.state_dict(),
                "averaged": self.averaged.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
                "generators": states,
            }
            write_whole(path, lambda part: torch.save(state, part))

    def load(self, path: str | Path) -> str:
        """Go on from a checkpoint, and say from where, in a sentence.

        steps, learning_rate and precision may differ from those it was made with, after a run that diverged or was too
        short: weights, averages, momentum and random state are kept, and the rate follows the new recipe from the next
        step. A precision found by "auto" gives way to the checkpoint's. Raises ValueError, changing nothing, if the
        file is damaged or belongs to another run.
        """
        state = self._read(path)
        for name, expected in self._identity().items():
            self._compare(name, state[name], expected, path)
        before = state["recipe"] | {"precision": state["precision"]}
        now = asdict(self.recipe) | {"precision": state["precision"] if self.timing else self.precision}
        for name in sorted(now.keys() - MAY_CHANGE):
            self._compare(f"recipe, {name}", before.get(name), now[name], path)
        if self.recipe.steps < state["step"]:
            refuse("steps", self.recipe.steps, f"at least {state['step']}, which the run in {path} has done")
        self.net.load_state_dict(state["net"])
        self.averaged.load_state_dict(state["averaged"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.generator.set_state(state["generators"][self.rank].cpu())
        self.step_count, self.precision = state["step"], now["precision"]
        changed = [f"{name} {before[name]} -> {now[name]}" for name in sorted(MAY_CHANGE) if before[name] != now[name]]
        return f"Going on from step {self.step_count} of {path}" + "".join(f", {change}" for change in changed) + "."

    def _read(self, path: str | Path) -> dict[str, Any]:
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            found = state.get("format", 1 if "shapes" in state else None)
        except FileNotFoundError:
            raise
        except Exception as error:
            raise ValueError(f"path is {str(path)!r}; expected a checkpoint of this course: {error}") from error
        if found != FORMAT:
            kind = "no checkpoint of this course" if found is None else f"a checkpoint of format {found}"
            raise ValueError(
                f"path is {str(path)!r}, {kind}; expected format {FORMAT}: start a new run with another file, or "
                "finish this one with the version of the course that began it"
            )
        state.setdefault("event", self._identity()["event"])  # which format 2 did not have at first
        needed = self._identity().keys() | {
            "recipe",
            "precision",
            "step",
            "net",
            "averaged",
            "optimizers",
            "generators",
        }
        if not needed <= state.keys() or not _all_finite(state["net"], state["averaged"]):
            lacks = ", ".join(sorted(needed - state.keys())) or "finite weights"
            raise ValueError(f"path is {str(path)!r}, a checkpoint without {lacks}; expected a whole one")
        return state

    def _identity(self) -> dict[str, Any]:
        """What a checkpoint must share with the run that loads it."""
        body, schedule = getattr(self.net, "body", self.net), getattr(self.net, "schedule", None)
        return {
            "network": type(body).__name__,
            "event": list(getattr(body, "event", ())),
            "shapes": {name: list(value.shape) for name, value in self.net.state_dict().items()},
            "prediction": getattr(self.net, "prediction", None),
            "alpha_bar": None if schedule is None else schedule.alpha_bar,
            "loss": repr(self.loss),
            "device": self.device.type,
            "processes": self.world,
        }

    def _compare(self, name: str, found: Any, expected: Any, path: str | Path) -> None:
        if isinstance(expected, Tensor):
            if not isinstance(found, Tensor) or not torch.equal(found.cpu(), expected):
                raise ValueError(f"{name} in {str(path)!r} is another schedule; expected the schedule of this network")
        elif found != expected:
            raise ValueError(f"{name} in {str(path)!r} is {found!r}; expected {expected!r}")

    def _average(self) -> None:
        """Renew the average. AveragedModel.update_parameters would do, but makes the host wait for a GPU every step."""
        average, decay = self.averaged.module, self.recipe.decay(self.step_count) if self.step_count else 0.0
        get_ema_multi_avg_fn(decay)(list(average.parameters()), list(self.net.parameters()), self.step_count)
        for mean, now in zip(average.buffers(), self.net.buffers(), strict=True):
            mean.copy_(now)
        self.averaged.n_averaged += 1


def _all_finite(*states: dict[str, Any]) -> bool:
    return all(bool(value.isfinite().all()) for state in states for value in state.values())


class _Whole(nn.Module):
    """Network and loss as one module, whose forward pass DistributedDataParallel can follow."""

    def __init__(self, net: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.net, self.loss = net, loss

    def forward(self, batch: Batch, generator: torch.Generator) -> Losses:
        found = self.loss(self.net, batch, generator)
        if not isinstance(found, Losses) or found.each.ndim != 1 or not found.each.requires_grad:
            refuse(
                "loss(net, batch, generator)", found, "Losses(each), one a sample, that depend on weights", TypeError
            )
        return found


def time_precisions(
    net: nn.Module,
    loss: Loss,
    batches: Batches,
    recipe: Recipe,
    device: str | torch.device = "cpu",
    compiled: bool = False,
    steps: int = 3,
) -> dict[str, float]:
    """Seconds a training step in float32 and in bfloat16, the fastest of `steps` after a first one; net is untouched.

    Which is faster depends on the processor: bfloat16 arithmetic that it lacks is emulated, many times slower. Of
    several processes, the slowest counts for all.
    """
    timing = {}
    for precision in PRECISIONS:
        trial = Trainer(copy.deepcopy(net), loss, batches, recipe, device, precision, compiled)
        seconds = []
        for _ in range(1 + min(steps, recipe.steps)):
            start = time.perf_counter()
            trial.step().each.mean().item()  # waits for the device
            seconds.append(time.perf_counter() - start)
        timing[precision] = max(_of_all(torch.tensor([min(seconds[1:])], device=device), trial.world).tolist())
    return timing


def train(
    trainer: Trainer,
    report: Callable[[Progress], None] | None = None,
    report_every: int = 50,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 200,
) -> Any:
    """Run a trainer to its end and return the averaged network.

    Every `report_every` steps `report` gets a Progress, and the run stops with FloatingPointError, which says how to go
    on, if the loss is no number any more. With `checkpoint`, an existing file there is gone on from, which is printed
    if there is a `report`, and it is renewed every `checkpoint_every` steps, at the end, and on Ctrl-C; it never holds
    a value that is not finite. Raises OSError before the first step if it could not be written.
    """
    if not isinstance(trainer, Trainer):
        refuse("trainer", type(trainer).__name__, "a Trainer(net, loss, batches, recipe)", TypeError)
    check_int("report_every", report_every, 1)
    check_int("checkpoint_every", checkpoint_every, 1)
    if report is not None and not callable(report):
        refuse("report", report, "a function of a Progress, such as print, or None", TypeError)
    if checkpoint is not None and trainer.rank == 0:
        check_writable(checkpoint)
    if checkpoint is not None and Path(checkpoint).exists():
        said = trainer.load(checkpoint)
        if report and trainer.rank == 0:
            print(said, flush=True)
    gathered: list[Losses] = []
    since, started = time.perf_counter(), trainer.step_count
    try:
        for losses in trainer.run():
            gathered.append(losses)
            step, last = trainer.step_count, trainer.step_count == trainer.recipe.steps
            if step % report_every == 0 or last:
                progress = _progress(trainer, gathered, time.perf_counter() - since, step - started, checkpoint)
                gathered.clear()
                if report and trainer.rank == 0:
                    report(progress)
            if checkpoint is not None and (step % checkpoint_every == 0 or last):
                trainer.save(checkpoint)
    except KeyboardInterrupt:
        if checkpoint is not None:
            trainer.save(checkpoint)
        raise
    return trainer.ema


def _progress(
    trainer: Trainer, gathered: list[Losses], seconds: float, steps: int, checkpoint: str | Path | None
) -> Progress:
    """Average what has gathered since the last report; the only place where the host waits for the device."""
    loss = _of_all(torch.cat([losses.each for losses in gathered]), trainer.world)
    mean = loss.mean().item()
    if not math.isfinite(mean):
        kept = checkpoint is not None and Path(checkpoint).exists()
        raise FloatingPointError(
            f"loss is {mean} at step {trainer.step_count}; expected a finite number. Lower the learning rate, or use "
            "precision='float32', and "
            + (f"go on from {checkpoint}, which is from before." if kept else "begin again, with a new network.")
        )
    by_time: list[float] = []
    if gathered[0].tenth is not None:
        tenth = _of_all(torch.cat([losses.tenth for losses in gathered if losses.tenth is not None]), trainer.world)
        total = loss.new_zeros(10).index_add_(0, tenth, loss)
        by_time = (total / loss.new_zeros(10).index_add_(0, tenth, torch.ones_like(loss))).tolist()
    pace = steps * trainer.recipe.batch_size / seconds
    return Progress(trainer.step_count, trainer.recipe.steps, mean, by_time, seconds, pace)


def _of_all(values: Tensor, world: int) -> Tensor:
    """The values of all processes, joined."""
    if world == 1:
        return values
    parts = [torch.empty_like(values) for _ in range(world)]
    distributed.all_gather(parts, values)
    return torch.cat(parts)


def parallel() -> bool:
    """Whether this process is one of several that train together."""
    return distributed.is_available() and distributed.is_initialized()


def best_device() -> torch.device:
    """CUDA if there is a GPU, else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def checked_device(device: str | torch.device) -> torch.device:
    """The device called `device`; ValueError if this machine has none of that name."""
    try:
        found = torch.device(device)
        torch.zeros(1, device=found)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device is {str(device)!r}; expected one this machine has, such as {best_device()}: {reason}"
        ) from None
    return found


def print_progress(progress: Progress) -> None:
    """One plain line, for a terminal."""
    print(
        f"step {progress.step:5d} of {progress.steps}  loss {progress.loss:.4f}  "
        f"{progress.images_per_second:6.0f} images/s  {progress.seconds:6.1f} s",
        flush=True,
    )


def arguments() -> argparse.ArgumentParser:
    """What `main` takes."""
    parser = argparse.ArgumentParser(prog="python -m lessons_src.training", description=main.__doc__)
    parser.add_argument("--data", choices=("digits", *data.IDX), default="digits", help="full sets are downloaded")
    parser.add_argument("--data-folder", type=Path, default=Path("data"), help="where they are, or go")
    parser.add_argument("--pictures", type=Path, help="a folder of your own pictures, in place of --data")
    parser.add_argument("--size", type=int, default=32, help="their side in pixels, even; default: %(default)s")
    parser.add_argument("--channels", type=int, choices=(1, 3), default=3, help="grey or colour; default: %(default)s")
    parser.add_argument("--network", choices=UNET_PRESETS, default="base", help="size of the U-Net")
    parser.add_argument("--prediction", choices=("eps", "v"), default="v", help="what the network predicts")
    parser.add_argument("--schedule", choices=SCHEDULES, default="cosine", help="noise schedule, T = 1000")
    for field in fields(Recipe):
        option = "--" + field.name.replace("_", "-")
        parser.add_argument(option, type=type(field.default), default=field.default, help="default: %(default)s")
    parser.add_argument("--device", default=None, help="cpu, cuda, mps; by default the best there is")
    parser.add_argument("--label-drop", type=float, default=0.1, help="share of labels left out, default: %(default)s")
    parser.add_argument("--precision", choices=(*PRECISIONS, "auto"), default="auto", help="auto: the faster one here")
    parser.add_argument("--compile", action="store_true", help="compile the network first; pays on a GPU")
    parser.add_argument("--checkpoint", type=Path, help="go on from this file if it exists, and renew it on the way")
    parser.add_argument("--checkpoint-every", type=int, default=200, help="steps, default: %(default)s")
    parser.add_argument("--report-every", type=int, default=50, help="steps, default: %(default)s")
    parser.add_argument("--out", type=Path, help="write the averaged weights here (torch.save)")
    parser.add_argument("--samples", type=Path, help="draw 64 pictures at the end, and write them here (PNG)")
    return parser


def main() -> None:
    """Train a network on digits, or on your own pictures, from a terminal; under torchrun, in several processes."""
    options = arguments().parse_args()
    try:
        _run(options)
    except (ValueError, TypeError, OSError, FloatingPointError, ImportError) as error:
        raise SystemExit(f"{error}") from error
    except KeyboardInterrupt:
        found = options.checkpoint and options.checkpoint.exists()
        kept = f" The same command goes on from {options.checkpoint}." if found else ""
        raise SystemExit(f"Stopped.{kept}") from None
    finally:
        if parallel():
            distributed.destroy_process_group()


def _run(options: argparse.Namespace) -> None:
    """Train, write and draw what the options say."""
    device = checked_device(options.device or best_device())
    if "LOCAL_RANK" in os.environ:  # started by torchrun
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        if device.type == "cuda":
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(device)  # where gathering objects takes place
    recipe = Recipe(**{field.name: getattr(options, field.name) for field in fields(Recipe)})
    for path in (options.out, options.samples):
        if path:
            check_writable(path)
    if options.pictures:
        if options.size < 4 or options.size % 2:
            refuse("size", options.size, "an even number, at least 4")
        x, label, classes, _ = data.folder(options.pictures, options.size, options.channels)
        if not parallel() or distributed.get_rank() == 0:
            print(f"{len(x)} pictures, classes: {', '.join(classes) or 'none'}", flush=True)
    else:
        x, label = data.digits() if options.data == "digits" else data.full(options.data, options.data_folder)
    num_classes = 0 if label is None else 1 + int(label.max())
    torch.manual_seed(options.seed)
    body = UNet(num_classes, image=(x.shape[1], x.shape[2], x.shape[3]), **UNET_PRESETS[options.network])
    net = NoisePredictor(body, make_schedule(options.schedule), options.prediction)
    loss, batches = Denoising(options.label_drop), Samples(x, label)
    trainer = Trainer(net, loss, batches, recipe, device, options.precision, options.compile)
    for precision, seconds in trainer.timing.items() if trainer.rank == 0 else ():
        print(f"{precision}: {1000 * seconds:.0f} ms a step{' (best)' * (precision == trainer.precision)}", flush=True)
    net = train(trainer, print_progress, options.report_every, options.checkpoint, options.checkpoint_every)
    if options.out and trainer.rank == 0:
        weights = {name: value.cpu().contiguous() for name, value in net.state_dict().items()}
        write_whole(options.out, lambda part: torch.save(weights, part))
    if options.samples and trainer.rank == 0:
        start = torch.randn(64, *net.body.event, generator=torch.Generator().manual_seed(options.seed)).to(device)
        eps_fn = classifier_free(net, torch.arange(64, device=device) % num_classes if num_classes else None, 1.0)
        data.save_sheet(sample(ddim(eps_fn, start, net.schedule, time_grid(net.schedule, 50))), options.samples)


if __name__ == "__main__":
    main()
