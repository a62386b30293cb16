"""To watch in lesson 03: a network while it trains."""

import numpy as np
import torch
from IPython import get_ipython
from IPython.display import display
from torch import Tensor

from lessons_src import data
from lessons_src.guidance import classifier_free
from lessons_src.networks import NoisePredictor
from lessons_src.samplers import ddim, sample
from lessons_src.schedules import time_grid
from lessons_src.show.panels import Curves, Images, Picture, grey
from lessons_src.show.widgets import Live
from lessons_src.training import Progress, Trainer, print_progress, train


def training_picture(reports: list[Progress], trainer: Trainer, samples: tuple[int, Tensor] | None = None) -> Picture:
    """Loss so far, loss by time at the first and the newest of the reports, and samples (n, 1, H, W) with their step.

    A range of times that a report has no loss for is bridged by a straight line.
    """
    first, last, tenth = reports[0], reports[-1], np.arange(10)
    series = []
    for report in (first, last):
        loss = np.array(report.loss_by_time)
        series.append(np.interp(tenth, tenth[np.isfinite(loss)], loss[np.isfinite(loss)]))
    by_time = dict(zip(("first report", "newest report"), series, strict=True))
    centres = (tenth + 0.5) * trainer.net.schedule.T / 10
    top = 1.1 * max(*(report.loss for report in reports), *np.concatenate(series))
    panels = [Curves("Loss by time", centres, by_time, "time t", "loss", (0.0, top))]
    if len(reports) > 1:
        steps, losses = (np.array(values) for values in zip(*((r.step, r.loss) for r in reports), strict=True))
        curve = Curves("Loss since the report before", steps, {"loss": losses}, "step", "loss", (0.0, top))
        panels.insert(0, curve)
    if samples is not None:
        panels.append(Images(f"Samples after step {samples[0]}", grey(samples[1][:, 0])[None]))
    if last.step < last.steps:
        left = (last.steps - last.step) * trainer.recipe.batch_size / last.images_per_second
        text = f"Step {last.step} of {last.steps}: loss {last.loss:.3f}, about {left:.0f} s left."
    else:  # nothing that differs from machine to machine: this text is stored
        halved = "less" if last.loss < 0.5 * first.loss else "more"
        text = f"All {last.steps} steps done. The loss is {halved} than half of what it was in the first report."
    return Picture(panels, text)


def watch_training(trainer: Trainer, report_every: int = 10, **options: object) -> NoisePredictor:
    """`training.train` with a live picture, with ten samples after each quarter if it trains on digits.

    In a terminal, plain lines. options: checkpoint and checkpoint_every, as in `train`. After Ctrl-C the picture stays
    as far as it got.
    """
    if get_ipython() is None:
        return train(trainer, print_progress, report_every, **options)
    reports, live, samples = [], None, None
    digits = trainer.net.body.event == (1, 28, 28)

    def report(progress: Progress) -> None:
        nonlocal live, samples
        before = reports[-1].step if reports else 0
        reports.append(progress)
        if digits and 4 * before // progress.steps < 4 * progress.step // progress.steps:
            samples = progress.step, _ten_digits(trainer)
        picture = training_picture(reports, trainer, samples)
        if live is None:
            live = Live(picture)
            display(live)
        else:
            live.update(picture)

    try:
        return train(trainer, report, report_every, **options)
    finally:
        if live is not None:
            live.keep()


def _ten_digits(trainer: Trainer) -> Tensor:
    """Digits 0 to 9 by the averaged network, guided, in fifteen steps, from noise that is always the same."""
    net, label = trainer.ema, torch.arange(10, device=trainer.device)
    noise = data.noise(10, 1, 28, 28).float().to(trainer.device)
    return sample(ddim(classifier_free(net, label, 2.0), noise, net.schedule, time_grid(net.schedule, 15))).cpu()
