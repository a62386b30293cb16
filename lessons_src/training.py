"""Training a noise predictor: draw a time, jump there, predict, step. One loop from a laptop to several GPUs.

`python -m lessons_src.training --help` trains from a terminal; `torchrun --nproc_per_node=N -m lessons_src.training`
does the same data-parallel.
"""

import argparse
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lessons_src import data
from lessons_src.checks import check_batch, check_choice, check_int, check_labels, check_real, refuse
from lessons_src.files import write_whole
from lessons_src.networks import UNET_PRESETS, Denoiser, UNet
from lessons_src.optimizers import make_optimizers
from lessons_src.schedules import SCHEDULES, make_schedule

PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Recipe:
    """What a run depends on besides network, schedule and data. Raises ValueError for values that make no sense.

    learning_rate is the peak, reached after `warmup` steps and falling linearly to 0 at the end. label_drop is the
    probability that a label is replaced by the null label. ema is the decay a step of the running average of weights.
    """

    steps: int = 1500
    batch_size: int = 64
    learning_rate: float = 2e-3
    warmup: int = 100
    label_drop: float = 0.1
    ema: float = 0.995
    seed: int = 0

    def __post_init__(self) -> None:
        check_int("steps", self.steps, 1)
        check_int("batch_size", self.batch_size, 1)
        check_real("learning_rate", self.learning_rate, 1e-9)
        check_int("warmup", self.warmup, 1)
        check_real("label_drop", self.label_drop, 0.0, 1.0)
        check_real("ema", self.ema, 0.0, 0.999999)
        check_int("seed", self.seed, 0)

    def pace(self, step: int) -> float:
        """The learning rate of a step, counted from 0, as a share of its peak."""
        return min((step + 1) / self.warmup, 1 - step / self.steps)


class Progress(NamedTuple):
    """What a run reports: the mean loss since the last report, also by ten equal ranges of t, and the pace."""

    step: int
    steps: int
    loss: float
    loss_by_time: list[float]
    seconds: float
    images_per_second: float


class Trainer:
    """One training run: the network, the running average of its weights, the optimiser, and the random state.

    net is trained in place; the average, which samples should come from, is `trainer.ema`. x0 is (N, *event) float32,
    label (N,) int64 or None. Raises TypeError and ValueError for other data, a device that is not there, an unknown
    precision, or a batch that the processes of a data-parallel run cannot share evenly.
    """

    def __init__(
        self,
        net: Denoiser,
        x0: Tensor,
        label: Tensor | None,
        recipe: Recipe,
        device: str | torch.device = "cpu",
        precision: str = "float32",
        compiled: bool = False,
    ) -> None:
        self.recipe, self.device = recipe, checked_device(device)
        self.precision = check_choice("precision", precision, PRECISIONS)
        label = check_labels("label", net.num_classes if label is None else label, len(x0), net.num_classes, x0.device)
        if check_batch("x0", x0).dtype != torch.float32 or not len(x0):
            refuse("x0", x0, "at least one sample, float32", TypeError)
        self.x0, self.label = x0.to(self.device), label.to(self.device)
        self.rank, self.world = (distributed.get_rank(), distributed.get_world_size()) if parallel() else (0, 1)
        if recipe.batch_size % self.world:
            refuse("batch_size", recipe.batch_size, f"a multiple of the {self.world} processes")
        self.net = net.to(self.device).train()
        self.averaged = AveragedModel(self.net, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema))
        self.optimizers = make_optimizers(self.net, recipe.learning_rate)
        self.peaks = [optimizer.param_groups[0]["lr"] for optimizer in self.optimizers]
        self.generator = torch.Generator(self.device).manual_seed(recipe.seed)
        self.step_count = 0
        output = torch.compile(self.net.output) if compiled else self.net.output
        self._output = DistributedDataParallel(_Callable(self.net, output)) if self.world > 1 else output

    @property
    def ema(self) -> Denoiser:
        """The network with averaged weights, in evaluation mode."""
        return self.averaged.module.eval()

    def draw(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """A batch of x0, label with some dropped, t and eps, and x_t.

        The times are spread evenly over 1..T from one random offset, which makes the loss less noisy than independent
        times do (Kingma et al. 2021, appendix I.1).
        """
        B, T, g, device = self.recipe.batch_size, self.net.schedule.T, self.generator, self.device
        picked = torch.randint(len(self.x0), (B,), generator=g, device=device)
        offset = torch.rand(1, generator=g, device=device)
        t = 1 + (T * (torch.arange(B, device=device) + offset) / B).long().clamp(max=T - 1)
        eps = torch.randn((B, *self.x0.shape[1:]), generator=g, device=device)
        dropped = torch.rand(B, generator=g, device=device) < self.recipe.label_drop
        mine = slice(self.rank, None, self.world)
        x0, label = self.x0[picked[mine]], self.label[picked].masked_fill(dropped, self.net.num_classes)[mine]
        t, eps = t[mine], eps[mine]
        signal, noise = self.net.coefficients(t, x0)
        return x0, label, t, eps, signal * x0 + noise * eps

    def step(self) -> tuple[Tensor, Tensor]:
        """Train on one batch; return its times (B,) and losses (B,), means over the event."""
        x0, label, t, eps, x_t = self.draw()
        for optimizer, peak in zip(self.optimizers, self.peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * self.recipe.pace(self.step_count)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            output = self._output(x_t, t, label)
        losses = (output.float() - self.net.target(x0, eps, t)).square().flatten(1).mean(1)
        losses.mean().backward()
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.averaged.update_parameters(self.net)
        self.step_count += 1
        return t, losses.detach()

    def run(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Train to the end of the recipe; yield step count, times and losses after every step."""
        while self.step_count < self.recipe.steps:
            t, losses = self.step()
            yield self.step_count, t, losses

    def save(self, path: str | Path) -> None:
        """Write everything the run needs to go on as if it had not stopped; the file appears whole or not at all."""
        if self.rank == 0:
            state = {
                **self._identity(),
                "step": self.step_count,
                "net": self.net.state_dict(),
                "averaged": self.averaged.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
                "generator": self.generator.get_state(),
            }
            write_whole(path, lambda part: torch.save(state, part))

    def load(self, path: str | Path) -> None:
        """Go on from a checkpoint. Raises ValueError, changing nothing, if it is damaged or belongs to another run."""
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            found = {name: state[name] for name in self._identity()}
        except FileNotFoundError:
            raise
        except Exception as error:
            raise ValueError(f"path is {str(path)!r}; expected a checkpoint of this course: {error}") from error
        for name, expected in self._identity().items():
            same = torch.equal(found[name].cpu(), expected) if isinstance(expected, Tensor) else found[name] == expected
            if not same:
                shown = "another schedule" if isinstance(expected, Tensor) else repr(found[name])
                wanted = "the schedule of this network" if isinstance(expected, Tensor) else repr(expected)
                raise ValueError(f"{name} in {str(path)!r} is {shown}; expected {wanted}")
        self.net.load_state_dict(state["net"])
        self.averaged.load_state_dict(state["averaged"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.generator.set_state(state["generator"].cpu())
        self.step_count = state["step"]

    def _identity(self) -> dict[str, Any]:
        """What a checkpoint must share with the run that loads it."""
        shapes = {name: list(value.shape) for name, value in self.net.state_dict().items()}
        return {
            "network": type(self.net).__name__,
            "shapes": shapes,
            "prediction": self.net.prediction,
            "alpha_bar": self.net.schedule.alpha_bar,
            "recipe": asdict(self.recipe),
            "device": self.device.type,
        }


class _Callable(nn.Module):
    """Gives DistributedDataParallel, which wraps modules and calls `forward`, the function to call."""

    def __init__(self, net: nn.Module, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.net, self.function = net, function

    def forward(self, *args: Tensor) -> Tensor:
        return self.function(*args)


def train(
    trainer: Trainer,
    report: Callable[[Progress], None] | None = None,
    report_every: int = 50,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 200,
) -> Denoiser:
    """Run a trainer to its end and return the averaged network.

    Every `report_every` steps `report` gets a Progress, and the run stops with FloatingPointError if the loss is no
    number any more. With `checkpoint`, an existing file there is gone on from, and it is renewed every
    `checkpoint_every` steps, at the end, and on Ctrl-C.
    """
    check_int("report_every", report_every, 1)
    check_int("checkpoint_every", checkpoint_every, 1)
    if checkpoint is not None and Path(checkpoint).exists():
        trainer.load(checkpoint)
    times, losses, since, started = [], [], time.perf_counter(), trainer.step_count
    try:
        for step, t, loss in trainer.run():
            times.append(t)
            losses.append(loss)
            last = step == trainer.recipe.steps
            if step % report_every == 0 or last:
                progress = _progress(trainer, times, losses, time.perf_counter() - since, step - started)
                times.clear()
                losses.clear()
                if report and trainer.rank == 0:
                    report(progress)
            if checkpoint is not None and (step % checkpoint_every == 0 or last):
                trainer.save(checkpoint)
    except KeyboardInterrupt:
        if checkpoint is not None:
            trainer.save(checkpoint)
        raise
    return trainer.ema


def _progress(trainer: Trainer, times: list[Tensor], losses: list[Tensor], seconds: float, steps: int) -> Progress:
    """Average what has gathered since the last report; the only place where the host waits for the device."""
    t, loss = torch.cat(times), torch.cat(losses)
    if trainer.world > 1:
        t, loss = _gathered(t, trainer.world), _gathered(loss, trainer.world)
    mean = loss.mean().item()
    if not math.isfinite(mean):
        raise FloatingPointError(
            f"loss is {mean} at step {trainer.step_count}; expected a finite number. "
            "Lower the learning rate, or use precision='float32'; the last checkpoint is untouched."
        )
    bucket = (10 * (t - 1)).div(trainer.net.schedule.T, rounding_mode="floor")
    total = torch.zeros(10, device=t.device).index_add_(0, bucket, loss)
    count = torch.zeros(10, device=t.device).index_add_(0, bucket, torch.ones_like(loss))
    pace = steps * trainer.recipe.batch_size / seconds
    return Progress(trainer.step_count, trainer.recipe.steps, mean, (total / count).tolist(), seconds, pace)


def _gathered(values: Tensor, world: int) -> Tensor:
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


def main() -> None:
    """Train a digit network from a terminal; under torchrun, in several processes."""
    parser = argparse.ArgumentParser(prog="python -m lessons_src.training", description=main.__doc__)
    parser.add_argument("--data", choices=("digits", *data.IDX), default="digits", help="full sets are downloaded")
    parser.add_argument("--data-folder", type=Path, default=Path("data"), help="where they are, or go")
    parser.add_argument("--network", choices=UNET_PRESETS, default="base", help="size of the U-Net")
    parser.add_argument("--prediction", choices=("eps", "v"), default="v", help="what the network predicts")
    parser.add_argument("--schedule", choices=SCHEDULES, default="cosine", help="noise schedule, T = 1000")
    for field in fields(Recipe):
        option = "--" + field.name.replace("_", "-")
        parser.add_argument(option, type=type(field.default), default=field.default, help="default: %(default)s")
    parser.add_argument("--device", default=None, help="cpu, cuda, mps; by default the best there is")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="of the network's arithmetic")
    parser.add_argument("--compile", action="store_true", help="compile the network first; pays on a GPU")
    parser.add_argument("--checkpoint", type=Path, help="go on from this file if it exists, and renew it on the way")
    parser.add_argument("--checkpoint-every", type=int, default=200, help="steps, default: %(default)s")
    parser.add_argument("--report-every", type=int, default=50, help="steps, default: %(default)s")
    parser.add_argument("--out", type=Path, help="write the averaged weights here (torch.save)")
    options = parser.parse_args()
    if "LOCAL_RANK" in os.environ:  # started by torchrun
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    device = options.device or best_device()
    if parallel() and torch.device(device).type == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
    torch.manual_seed(options.seed)
    net = UNet(make_schedule(options.schedule), prediction=options.prediction, **UNET_PRESETS[options.network])
    recipe = Recipe(**{field.name: getattr(options, field.name) for field in fields(Recipe)})
    x0, label = data.digits() if options.data == "digits" else data.full(options.data, options.data_folder)
    trainer = Trainer(net, x0, label, recipe, device, options.precision, options.compile)
    net = train(trainer, print_progress, options.report_every, options.checkpoint, options.checkpoint_every)
    if options.out and trainer.rank == 0:
        weights = {name: value.cpu().contiguous() for name, value in net.state_dict().items()}
        write_whole(options.out, lambda part: torch.save(weights, part))
    if parallel():
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
