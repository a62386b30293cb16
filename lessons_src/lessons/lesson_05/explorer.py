"""To play with in lesson 05: DDIM on an exact predictor, and samplers on digits."""

import math
from functools import cache, partial
from importlib.resources import files
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from lessons_src import data, measurements
from lessons_src.evaluation import accuracy
from lessons_src.lessons.digit_runs import digit_run, shipped
from lessons_src.oracle import GaussianMixture, exact_flow
from lessons_src.process import noise_like, posterior_variance
from lessons_src.samplers import ddim, trajectory
from lessons_src.schedules import GRIDS, NoiseSchedule, linear, time_grid
from lessons_src.show.panels import Images, Picture, Points, grey
from lessons_src.show.widgets import Choice, Explorer, Slider, rough_first

DDIM_POINTS, WITH_PATHS = 300, 16
SAMPLERS = {"DDIM": "DDIM", "DDPM": "DDPM, σ² = β̃"}  # names in the lesson, and in the stored measurements
GRIDS_SHOWN = [grid for grid in GRIDS if grid != "trailing"]  # the same as linspace wherever T / steps rounds alike


class Reference(NamedTuple):
    """Eight Gaussians, the linear schedule, start noise, and where the exact flow takes it: points and their modes."""

    mixture: GaussianMixture
    schedule: NoiseSchedule
    start: Tensor
    exact: Tensor
    mode: Tensor
    data: Tensor


@cache
def _reference() -> Reference:
    mixture, schedule, start = data.ring(), linear(), data.noise(DDIM_POINTS, 2, seed=2)
    exact = exact_flow(mixture.eps, start, float(schedule.alpha_bar[-1]), steps=200)
    mode = torch.cdist(exact, mixture.means).argmin(1)
    return Reference(mixture, schedule, start, exact, mode, mixture.sample(400, torch.Generator().manual_seed(1))[0])


def _noise() -> torch.Generator:
    """What eta > 0 draws from: one draw a step, the same for every number of steps."""
    return torch.Generator().manual_seed(4)


def ddim_picture(steps: int, grid: str, eta: float = 0.0) -> Picture:
    """DDIM from the same start noise on the exact predictor of eight Gaussians, coloured by where the exact flow ends.

    A point is in a cluster only if it is on target, as in evaluation.on_target: one that stops between the modes is in
    none, though one of them is always nearest. explorer.js computes the same.
    """
    mixture, schedule, start, exact, mode, target = _reference()
    times = time_grid(schedule, steps, grid)
    path = trajectory(start, ddim(mixture.network(schedule), start, schedule, times, eta, _noise()))
    end = path[-1]
    miss = (end - exact).square().sum(1).mean().sqrt().item()
    gap, nearest = torch.cdist(end, mixture.means).min(1)
    arrived = gap < 3 * mixture.covariances[0, 0, 0].sqrt()
    hit, own = (100 * found.double().mean().item() for found in (arrived, arrived & (nearest == mode)))
    few = slice(WITH_PATHS)
    return Picture(
        [
            Points(f"All points: {hit:.0f} % on target", path.numpy(), target.numpy(), 2.4, paths=False, groups=mode),
            Points(
                f"{WITH_PATHS} of them, with their paths", path[:, few].numpy(), target.numpy(), 2.4, groups=mode[few]
            ),
        ],
        f"{len(times) - 1} network evaluation{'s' if len(times) > 2 else ''}: {hit:.0f} % on target, {own:.0f} % in "
        "the cluster of their colour. Colour and shape say where endless small steps would end; the points are "
        f"{miss:.2f} away from there.",
        frame_label="Step",
        frame_names=[f"t = {t}" for t in times],
        formula=[f"Noise at t = {times[0]}", *(_step(schedule, t, s, eta) for t, s in pairwise(times))],
        plays=True,
    )


def _step(schedule: NoiseSchedule, t: int, s: int, eta: float) -> str:
    """A step of DDIM with its numbers."""
    ab_t, ab_s = schedule.alpha_bar[[t, s]].tolist()
    sigma = eta * math.sqrt(posterior_variance(ab_t, ab_s))
    fresh = f" + {sigma:.2f} · z" if sigma > 0 else ""
    return f"t = {t} → {s}:  xₛ = {math.sqrt(ab_s):.2f} · x̂₀ + {math.sqrt(1 - ab_s - sigma**2):.2f} · ε̂{fresh}"


STEPS, GRID = Slider("steps", "Steps", 1, 100, 1, 10), Choice("grid", "Time grid", GRIDS_SHOWN, "linspace")


def explore_ddim() -> Explorer:
    """Move step count and grid; replay the path of every point."""
    return _explorer(STEPS, GRID)


def explore_eta() -> Explorer:
    """The same with fresh noise: move step count, eta and grid."""
    return _explorer(STEPS, Slider("eta", "Noise eta", 0.0, 1.0, 0.1, 0.0), GRID)


def _explorer(*controls: Slider | Choice) -> Explorer:
    """`ddim_picture` under these controls, computed in the browser."""
    mixture, schedule, start, exact, *_ = _reference()
    noise = _noise()
    constants = {
        "means": mixture.means,
        "std": mixture.covariances[0, 0, 0].sqrt(),
        "alpha_bar": schedule.alpha_bar,
        "start": start,
        "exact": exact,
        "noise": torch.stack([noise_like(start, noise) for _ in range(100)]),
    }
    script = files(__package__).joinpath("explorer.js").read_text(encoding="utf-8")
    return Explorer(ddim_picture, controls, script, constants)


@cache
def _long_run() -> Tensor:
    """Ten digits by 1,000 DDIM steps, stored: what a run with fewer steps from the same noise is compared with."""
    rows = measurements.load("steps")
    (row,) = (row for row in rows if (row["sampler"], row["steps"]) == ("DDIM", 1000))
    return measurements.digits_of(row)


def digit_steps_picture(sampler: str, steps: int, grid: str) -> Picture:
    """Ten digits by the shipped network, without guidance: the run and its distance to 1,000 DDIM steps."""
    label = tuple(range(10))
    name = SAMPLERS[sampler]
    times, x, x0 = digit_run(name, steps, grid, 1.0, label)
    end = x[-1].clamp(-1, 1)
    read = round(10 * accuracy(shipped()[1], end, torch.tensor(label)))
    away = (end - _long_run()).square().mean().sqrt().item()
    measured = [row for row in measurements.load("steps") if (row["sampler"], row["steps"]) == (name, steps)]
    score = "".join(
        f" Measured on {row['n']:,} digits: {100 * row['accuracy']:.0f} % read right, feature-Fréchet distance to real "
        f"digits {row['frechet']:.1f} (a sample of real ones has {row['floor']:.1f})."
        for row in measured
        if grid == "linspace"
    )
    return Picture(
        [
            Images(f"State xₜ: ends {away:.2f} from 1,000 DDIM steps", grey(x[:, :, 0])),
            Images("Clean prediction x̂₀", grey(x0[:, :, 0])),
        ],
        f"{sampler}, {steps} network evaluation{'s' if steps > 1 else ''} a digit, {grid} grid, without guidance. From "
        f"1,000 DDIM steps and the same noise the digits differ by {away:.2f} a pixel (root mean square, black -1, "
        f"white 1). A classifier reads {read} of 10 as asked for (0 to 9).{score}",
        frame_label="Time t",
        frame_names=[f"t = {t}" for t in times],
        plays=True,
    )


def explore_digit_steps() -> Explorer:
    """Move the number of steps of a sampler on digits; the start noise stays the same."""
    return Explorer(
        partial(rough_first, digit_steps_picture, 5),
        [Choice("sampler", "Sampler", list(SAMPLERS), "DDIM"), STEPS, GRID],
    )
