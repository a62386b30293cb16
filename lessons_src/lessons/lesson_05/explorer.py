"""To play with in lesson 05: DDIM on an exact predictor, and samplers on digits."""

import math
from functools import cache, partial

import torch
from torch import Tensor

from lessons_src import data, measurements
from lessons_src.evaluation import accuracy, on_target
from lessons_src.lessons.digit_runs import digit_run, shipped
from lessons_src.oracle import GaussianMixture, exact_flow
from lessons_src.samplers import Counted, ddim, trajectory
from lessons_src.schedules import GRIDS, NoiseSchedule, linear, time_grid
from lessons_src.show.panels import Images, Picture, Points, grey
from lessons_src.show.widgets import Choice, Explorer, Slider, rough_first

DDIM_POINTS = 400


@cache
def _ddim_reference() -> tuple[GaussianMixture, NoiseSchedule, Tensor, Tensor]:
    """Eight Gaussians, the linear schedule, start noise, and where the exact flow takes it."""
    mixture, schedule = data.ring(), linear()
    start = data.noise(DDIM_POINTS, 2, seed=2)
    return mixture, schedule, start, exact_flow(mixture.eps, start, float(schedule.alpha_bar[-1]), steps=200)


def ddim_picture(steps: int, eta: float, grid: str) -> Picture:
    """DDIM from the same start noise on the exact predictor of eight Gaussians, with its distance to the exact flow."""
    mixture, schedule, start, exact = _ddim_reference()
    net = Counted(mixture.network(schedule))
    times = time_grid(schedule, steps, grid)
    path = trajectory(start, ddim(net, start, schedule, times, eta, torch.Generator().manual_seed(4)))
    end = path[-1]
    distance = (end - exact).square().sum(1).mean().sqrt().item()
    mode, exact_mode = (torch.cdist(x, mixture.means).argmin(1) for x in (end, exact))
    same = (mode == exact_mode).double().mean().item()
    return Picture(
        [
            Points("All points; target: ends of the exact flow", path.numpy(), exact.numpy(), limit=3.0, paths=False),
            Points("Twelve of them, with their paths", path[:, :12].numpy(), exact[:12].numpy(), limit=3.0),
        ],
        f"{steps} step{'s' if steps > 1 else ''}, eta = {eta:g}, {grid} grid: {net.nfe} network evaluation"
        f"{'s' if net.nfe > 1 else ''}. Distance to the exact flow's end points, root mean square: {distance:.3f}. "
        f"{100 * same:.0f} % end nearest to the same mode as with it. {100 * on_target(mixture, end):.1f} % end within "
        f"three standard deviations of a mode (of the data {100 * (1 - math.exp(-(3**2) / 2)):.1f} %).",
        frame_label="Step",
        frame_names=[f"t = {t}" for t in times],
    )


def explore_ddim() -> Explorer:
    """Move step count, eta and grid; replay the path of every point."""
    return Explorer(
        ddim_picture,
        [
            Slider("steps", "Steps", 1, 100, 1, 10),
            Slider("eta", "Noise eta", 0.0, 1.0, 0.1, 0.0),
            Choice("grid", "Time grid", list(GRIDS), "linspace"),
        ],
    )


@cache
def _long_run() -> Tensor:
    """Ten digits by 1,000 DDIM steps, stored: what a run with fewer steps from the same noise is compared with."""
    rows = measurements.load("steps")
    (row,) = (row for row in rows if (row["sampler"], row["steps"]) == ("DDIM", 1000))
    return measurements.digits_of(row)


def digit_steps_picture(sampler: str, steps: int, grid: str) -> Picture:
    """Ten digits by the shipped network, without guidance: the run and its distance to 1,000 DDIM steps."""
    label = tuple(range(10))
    times, x, x0 = digit_run(sampler, steps, grid, 1.0, label)
    end = x[-1].clamp(-1, 1)
    read = round(10 * accuracy(shipped()[1], end, torch.tensor(label)))
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


def explore_digit_steps() -> Explorer:
    """Move the number of steps of a sampler on digits; the start noise stays the same."""
    return Explorer(
        partial(rough_first, digit_steps_picture, 5),
        [
            Choice("sampler", "Sampler", list(measurements.SAMPLERS), "DDIM"),
            Slider("steps", "Steps", 1, 100, 1, 10),
            Choice("grid", "Time grid", list(GRIDS), "linspace"),
        ],
    )
