"""Explorations of the shipped digit network: sampler and number of steps, and the guidance scale.

Long runs are shown in few steps first. Every picture says what is seen, and what was measured beforehand.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial

import numpy as np
import torch
from torch import Tensor

from lessons_src import measurements, weights
from lessons_src.evaluation import accuracy
from lessons_src.explorers import grey
from lessons_src.guidance import classifier_free
from lessons_src.networks import DigitClassifier
from lessons_src.schedules import GRIDS, time_grid
from lessons_src.widgets import Choice, Curves, Explorer, Images, Picture, Slider

ROUGH_STEPS = 5


@cache
def _long_run() -> Tensor:
    """Ten digits by 1,000 DDIM steps, stored: what a run with fewer steps from the same noise is compared with."""
    rows = measurements.load("steps")
    (row,) = (row for row in rows if (row["sampler"], row["steps"]) == ("DDIM", 1000))
    return measurements.digits_of(row)


@cache
def _digit_run(
    sampler: str, steps: int, grid: str, w: float, label: tuple[int, ...]
) -> tuple[list[int], Tensor, Tensor]:
    """Up to 21 of a run's times, its states there and the clean predictions made from them, (F, B, 1, 28, 28) each."""
    net, _ = weights.load("digits")
    times = time_grid(net.schedule, steps, grid)
    noise, _ = measurements.start_noise(len(label))
    eps_fn = classifier_free(net, torch.tensor(label), w)
    generator = torch.Generator().manual_seed(0)
    states = list(measurements.SAMPLERS[sampler](eps_fn, noise, net.schedule, times, generator=generator))
    guesses = [state.x0 for state in states]
    x = [noise, *(state.x for state in states)]
    kept = sorted({round(k * (len(times) - 1) / 20) for k in range(21)})
    x0 = [*guesses, states[-1].x]  # the clean prediction made from the state at each time; at time 0, the sample
    return [times[k] for k in kept], torch.stack([x[k] for k in kept]), torch.stack([x0[k] for k in kept])


@cache
def _judge() -> DigitClassifier:
    return weights.load("classifier")[0]


def digit_steps_picture(sampler: str, steps: int, grid: str) -> Picture:
    """Ten digits by the shipped network, without guidance: the run and its distance to 1,000 DDIM steps."""
    label = tuple(range(10))
    times, x, x0 = _digit_run(sampler, steps, grid, 1.0, label)
    end = x[-1].clamp(-1, 1)
    read = round(10 * accuracy(_judge(), end, torch.tensor(label)))
    away = (end - _long_run()).square().mean().sqrt().item()
    measured = [row for row in measurements.load("steps") if (row["sampler"], row["steps"]) == (sampler, steps)]
    score = "".join(
        f" Measured on {row['n']:,} digits: feature-Fréchet distance {row['frechet']:.1f} (real digits "
        f"{row['floor']:.1f}), {100 * row['accuracy']:.0f} % read right."
        for row in measured
        if grid == "linspace"
    )
    return Picture(
        [Images("State x_t", grey(x[:, :, 0])), Images("Clean prediction x̂0", grey(x0[:, :, 0]))],
        f"{sampler}, {steps} network evaluation{'s' if steps > 1 else ''} a digit, {grid} grid, w = 1. "
        f"A classifier reads {read} of 10 as asked for (0 to 9). "
        f"From 1,000 DDIM steps and the same noise they differ by {away:.2f} a pixel (root mean square, black -1, "
        f"white 1).{score}",
        frame_label="Time t",
        frame_names=[f"t = {t}" for t in times],
    )


def rough_first(picture: Callable[..., Picture], rough: int, steps: int, **values: object) -> Iterator[Picture]:
    """A preview with `rough` steps, said to be one, if that is less than half of them; then picture(steps=steps)."""
    if steps > 2 * rough:
        preview = picture(steps=rough, **values)
        yield replace(preview, text=f"Preview with {rough} steps; {steps} are being computed. {preview.text}")
    yield picture(steps=steps, **values)


def explore_digit_steps() -> Explorer:
    """Move the number of steps of a sampler on digits; the start noise stays the same."""
    return Explorer(
        partial(rough_first, digit_steps_picture, ROUGH_STEPS),
        [
            Choice("sampler", "Sampler", list(measurements.SAMPLERS), "DDIM"),
            Slider("steps", "Steps", 1, 100, 1, 10),
            Choice("grid", "Time grid", list(GRIDS), "linspace"),
        ],
    )


def digit_guidance_picture(w: float, digit: int, steps: int) -> Picture:
    """Twelve samples of one digit by the shipped network, and what was measured over all scales."""
    label = (digit,) * 12
    times, x, _ = _digit_run("DDIM", steps, "linspace", w, label)
    end, rows = x[-1].clamp(-1, 1), measurements.load("guidance")
    read = round(12 * accuracy(_judge(), end, torch.tensor(label)))
    scales = np.array([row["w"] for row in rows])
    curves = {
        "read as asked for": np.array([row["accuracy"] for row in rows]),
        "variety within a digit (real: 1)": np.array([row["spread"] for row in rows]),
    }
    return Picture(
        [
            Images(f"Digit {digit}, w = {w:g}", grey(x[:, :, 0])),
            Curves(
                f"Measured on {rows[0]['n']:,} digits, 20 steps", scales, curves, "guidance scale w", "share, ratio",
                (0.0, 1.5), marker=np.full(len(times), w),
            ),
        ],
        f"w = {w:g}: twelve samples of {digit} from twelve noises that stay the same, {steps} DDIM steps, "
        f"{steps if w in (0, 1) else 2 * steps} network evaluations each. A classifier reads {read} of 12 as {digit}. "
        f"They differ from each other by {_variety(end):.2f} a pixel (root mean square, black -1, white 1).",
        frame_label="Time t",
        frame_names=[f"t = {t}" for t in times],
    )  # fmt: skip


def _variety(x: Tensor) -> float:
    """Root mean square difference a pixel between two different ones of x (n, 1, H, W)."""
    return (2 * x.var(0).mean()).sqrt().item()


def explore_digit_guidance() -> Explorer:
    """Move the guidance scale on digits; the start noise stays the same."""
    return Explorer(
        partial(rough_first, digit_guidance_picture, ROUGH_STEPS, 20),
        [
            Slider("w", "Guidance scale w", 0.0, 10.0, 0.5, 2.0),
            Choice("digit", "Digit", list(range(10)), 3),
        ],
    )
