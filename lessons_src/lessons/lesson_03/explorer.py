"""To play with in lesson 03: what a trained network sees in your digit, and a network while it trains."""

import math
import time
from dataclasses import dataclass, field, replace
from weakref import WeakKeyDictionary

import numpy as np
import torch
from IPython import get_ipython
from IPython.display import display
from torch import Tensor

from lessons_src import data
from lessons_src.lessons.digit_runs import shipped
from lessons_src.lessons.lesson_00.explorer import presets
from lessons_src.networks import NoisePredictor
from lessons_src.process import add_noise, predict_x0
from lessons_src.samplers import ddim, sample
from lessons_src.schedules import time_grid
from lessons_src.show.panels import Curves, Images, Picture, grey
from lessons_src.show.progress import progress_bar
from lessons_src.show.widgets import Drawing, Explorer, Live, Slider
from lessons_src.training import Trainer, print_progress, train

UNSURE = 0.6, 0.5  # share of the judge, and brightest pixel, below which a picture is not read
EVERY = 1.0  # seconds between two pictures of a running training
BIN = 10  # steps that a dot of the loss curve averages over
FILM = 40  # pictures that are kept of a training, at most


# --- The guess


@torch.no_grad()
def noise_guess(x0: Tensor, t: int) -> tuple[Tensor, Tensor]:
    """x_t of one digit (1, 1, 28, 28), and the shipped network's eps-hat.

    The noise is always the same, and the network is not told which digit it is.
    """
    net, _ = shipped()
    x_t = add_noise(x0, data.noise(1, 1, 28, 28, seed=3).float(), net.schedule.alpha_bar[t].item())
    return x_t, net(x_t, torch.tensor([t]))


def guess_picture(drawing: np.ndarray, t: int) -> Picture:
    """What the shipped network sees of a drawn digit at time t, and what it answers; drawing: uint8 (28, 28)."""
    net, judge = shipped()
    alpha_bar = net.schedule.alpha_bar[t].item()
    x0 = data.as_digit(drawing)[None]
    x_t, eps = noise_guess(x0, t)
    left = predict_x0(x_t, eps, alpha_bar).clamp(-1, 1)
    share, read = judge(left).softmax(1)[0].max(0)
    if not drawing.any():
        says = "The field is empty: draw a digit, or take a ready one."
    elif share < UNSURE[0] or left.max() < UNSURE[1]:
        says = f"At t = {t} a second network reads what is left, and is unsure."
    else:
        says = f"At t = {t} a second network reads what is left as {read}."
    labels = ["yours, x₀", "it sees, xₜ", "it guesses, ε̂", "left, x̂₀"]
    return Picture(
        [Images("One look, one guess", grey(torch.cat([x0, x_t, eps / 2, left])[:, 0])[None], labels)],
        says,
        formula=f"x̂₀ = (xₜ − {math.sqrt(1 - alpha_bar):.2g} · ε̂) / {_plain(math.sqrt(alpha_bar))}",
    )


def _plain(value: float) -> str:
    """Two digits, never as a power of ten."""
    return f"{value:.2g}" if value >= 0.001 else f"{value:.5f}"


def explore_guess() -> Explorer:
    """Draw a digit, choose how much noise, and see what the network makes of it in one call."""
    return Explorer(
        guess_picture,
        [Drawing("drawing", "Draw here, or take", presets(), "a 7"), Slider("t", "Time t", 10, 1000, 10, 500)],
    )


# --- The training


class RunFirst(RuntimeError):
    """A cell was run before one that it needs; a notebook shows the sentence alone, without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


@dataclass
class History:
    """What was seen of a training: the loss of every step, and (step, ten digits drawn after it) now and then."""

    losses: list[float] = field(default_factory=list)
    film: list[tuple[int, Tensor]] = field(default_factory=list)

    def look(self, trainer: Trainer) -> None:
        """Draw digits with the network as it is now; of more than FILM, the one with the nearest neighbours goes."""
        if not self.film or self.film[-1][0] < trainer.step_count:
            self.film.append((trainer.step_count, ten_digits(trainer.ema)))
        if len(self.film) > FILM:
            steps = [step for step, _ in self.film]
            del self.film[min(range(1, FILM), key=lambda i: steps[i + 1] - steps[i - 1])]


_HISTORIES: WeakKeyDictionary[Trainer, History] = WeakKeyDictionary()


def ten_digits(net: NoisePredictor) -> Tensor:
    """Digits 0 to 9 (10, 1, 28, 28) in ten DDIM steps, always from the same noise."""
    noise, label = data.noise(10, 1, 28, 28).float(), torch.arange(10)
    return sample(ddim(lambda x, t: net(x, t, label), noise, net.schedule, time_grid(net.schedule, 10)))


def training_picture(history: History, text: str, target: str, end: int) -> Picture:
    """The digits drawn so far, one frame a drawing, and the losses, of which each point is the mean of up to BIN steps.

    The first point is the loss of the untrained network. target: what the network answers with, "eps" or "v". end: the
    number of steps that the training is to have.
    """
    said = None
    losses, (steps, drawn) = history.losses, zip(*history.film, strict=True)
    panels: list[Images | Curves] = [
        Images("Always from the same noise", grey(torch.stack(drawn)[:, :, 0]), list("0123456789"))
    ]
    if len(losses) > 1:
        ends = [0, *range(BIN, len(losses), BIN), len(losses)]
        means = [losses[0], *(float(np.mean(losses[max(0, end - BIN) : end])) for end in ends[1:])]
        top = 1.05 * max(1.0, *means)
        curve, name = {f"mean of {BIN} steps": np.array(means)}, f"loss in {'ε' if target == 'eps' else target}"
        panels.append(
            Curves(name.capitalize(), np.array(ends), curve, "step", name, (0.0, top), np.array(steps), x_end=end)
        )
        there = np.interp(steps, ends, means)
        said = [f"Step {step}: the loss is {loss:.2f}." for step, loss in zip(steps, there, strict=True)]
    names = [f"step {step}" for step in steps]
    return Picture(panels, text, frame_label="Look back to", frame_names=names, frame_texts=said)


def watch_training(trainer: Trainer | None) -> None:
    """Train on digits to the end of the recipe, as `trainer.ema` keeps it; the picture is renewed every second.

    The stop button ends it with a sentence, and `go_on` takes it up again. In a terminal, plain lines.
    """
    if trainer is None:
        raise RunFirst("There is nothing to train yet: run the whole cell below the heading Train it.")
    if get_ipython() is None:
        train(trainer, print_progress)
        return
    history, live = _HISTORIES.setdefault(trainer, History()), None
    started, steps, begun = trainer.step_count, trainer.recipe.steps, time.perf_counter()
    bar = display(progress_bar(started, steps), raw=True, display_id=True)
    try:
        live = _show(live, history, trainer, "This is the network before the first of its steps.")
        shown = time.perf_counter()
        for step in trainer.run():
            history.losses.append(step.each.mean().item())
            if not math.isfinite(history.losses[-1]):
                raise FloatingPointError(f"loss is {history.losses[-1]}; expected a finite number: lower the rate")
            if time.perf_counter() - shown > EVERY:
                done = trainer.step_count
                left = (time.perf_counter() - begun) * (steps - done) / (done - started)
                bar.update(progress_bar(done, steps, f", about {left:.0f} s left"), raw=True)
                live = _show(live, history, trainer, "The network trains.")
                shown = time.perf_counter()
        said = f"All {steps} steps are done."
    except KeyboardInterrupt:
        for optimizer in trainer.optimizers:
            optimizer.zero_grad()  # of a step that was cut off
        said = (
            f"You stopped the training after {trainer.step_count} of {steps} steps. The network keeps what it has "
            "learned, and lesson.go_on(trainer) goes on from here."
        )
    bar.update(progress_bar(trainer.step_count, steps), raw=True)
    _show(live, history, trainer, said).keep()


def _show(live: Live | None, history: History, trainer: Trainer, text: str) -> Live:
    """The picture of a training as it is now, displayed if there is none yet."""
    history.look(trainer)
    picture = training_picture(history, text, trainer.net.prediction, trainer.recipe.steps)
    if live is None:
        live = Live(picture)
        display(live)
    else:
        live.update(picture)
    return live


def go_on(trainer: Trainer | None, steps: int = 400) -> None:
    """Watch a trainer go on: to the end of its recipe if it was stopped before that, otherwise for `steps` more."""
    if trainer is None:
        raise RunFirst("There is no training to go on with: run the cell below the heading Train it first.")
    if trainer.step_count == trainer.recipe.steps:
        trainer.recipe = replace(trainer.recipe, steps=trainer.recipe.steps + steps)
    watch_training(trainer)
