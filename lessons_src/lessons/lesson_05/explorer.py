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
DIGITS = tuple(range(8))  # as many as stay in one row of a narrow window
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
            Points("All points", path.numpy(), target.numpy(), 2.4, paths=False, groups=mode),
            Points(
                f"{WITH_PATHS} of them, with their paths", path[:, few].numpy(), target.numpy(), 2.4, groups=mode[few]
            ),
        ],
        f"{len(times) - 1} network call{'s' if len(times) > 2 else ''}: at the end {hit:.0f} % of the points are on "
        "target, within three standard deviations of a cluster's centre. Colour and shape say where endless small "
        f"steps would end; the points end {miss:.2f} away from there."
        + (f" {own:.0f} % end in the cluster of their colour." if eta > 0 else ""),
        frame_label="Step",
        frame_names=[f"t = {t}" for t in times],
        formula=[f"Noise at t = {times[0]}", *(_step(schedule, t, s, eta) for t, s in pairwise(times))],
        plays=True,
    )


def _step(schedule: NoiseSchedule, t: int, s: int, eta: float) -> str:
    """A step of DDIM with its numbers."""
    ab_t, ab_s = schedule.alpha_bar[[t, s]].tolist()
    sigma = eta * math.sqrt(posterior_variance(ab_t, ab_s))
    fresh = f" + {sigma:.2f} · fresh z" if sigma > 0 else ""
    kept = math.sqrt(1 - ab_s - sigma**2)
    return f"t = {t} → {s}:  point xₛ = {math.sqrt(ab_s):.2f} · guess x̂₀ + {kept:.2f} · noise ε̂{fresh}"


STEPS = Slider("steps", "Steps", 1, 100, 1, 10)
GRID = Choice("grid", "Time grid", ["linspace", "quadratic"], "linspace")


def explore_ddim() -> Explorer:
    """Move step count and grid; replay the path of every point."""
    return _explorer(STEPS, GRID)


def explore_eta() -> Explorer:
    """The same with fresh noise: move step count, eta and grid, any of them."""
    grid = Choice("grid", "Time grid", GRIDS_SHOWN, "linspace")
    return _explorer(STEPS, Slider("eta", "Noise eta", 0.0, 1.0, 0.1, 0.0), grid)


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
    """The digits by 1,000 DDIM steps, stored: what a run with fewer steps from the same noise is compared with."""
    rows = measurements.load("steps")
    (row,) = (row for row in rows if (row["sampler"], row["steps"]) == ("DDIM", 1000))
    return measurements.digits_of(row)[: len(DIGITS)]


def digit_steps_picture(sampler: str, steps: int, grid: str) -> Picture:
    """Digits by the shipped network, without guidance: the run, and below it 1,000 DDIM steps from the same noise."""
    times, x, _ = digit_run(SAMPLERS[sampler], steps, grid, 1.0, DIGITS)
    end = x[-1].clamp(-1, 1)
    read = round(len(DIGITS) * accuracy(shipped()[1], end, torch.tensor(DIGITS)))
    away = (end - _long_run()).square().mean().sqrt().item()
    called = f"{steps} step{'s' if steps > 1 else ''}"
    return Picture(
        [
            Images(f"{sampler}, {called}, grid {grid}", grey(x[:, :, 0])),
            Images("DDIM, 1,000 steps, from the same noise", grey(_long_run()[None, :, 0])),
        ],
        f"{sampler}, {called}: the digits end {away:.2f} a pixel away from the lower row (black is -1, white 1). A "
        f"classifier reads {read} of {len(DIGITS)} as asked for.",
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
