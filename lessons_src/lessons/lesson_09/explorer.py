"""A race of solvers: the same starts, the same exact predictor, the same number of network evaluations."""

import math
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lessons_src import data
from lessons_src.checks import check_choice, check_int
from lessons_src.evaluation import on_target
from lessons_src.oracle import exact_flow
from lessons_src.samplers import Counted
from lessons_src.schedules import GRIDS, NoiseSchedule, make_schedule, time_grid
from lessons_src.show.panels import Curves, Picture, Points
from lessons_src.show.widgets import Choice, Explorer, Slider
from lessons_src.solvers import SOLVERS

RACERS = tuple(name for name, solver in SOLVERS.items() if not solver.random)  # chance has no end to be compared with
NOBODY = "nobody"
BUDGETS = (5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60)
STARTS = 60
SCHEDULES = ("linear", "cosine")


class Run(NamedTuple):
    """What a solver does with a budget: frame k is where it stands when k evaluations are spent.

    frames: (budget + 1, STARTS, 2). times: as many. error: root mean square distance from the ends of the exact flow.
    """

    steps: int
    frames: Tensor
    times: list[int]
    error: float


@cache
def _track(schedule: str) -> tuple[NoiseSchedule, Tensor, Tensor]:
    """The schedule, the starts, and where the exact flow takes them, (STARTS, 2) each."""
    levels = make_schedule(schedule)
    start = torch.randn(STARTS, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return levels, start, exact_flow(data.ring().eps, start, float(levels.alpha_bar[-1]))


@cache
def run(name: str, budget: int, grid: str, schedule: str) -> Run | None:
    """Let the solver called `name` spend up to `budget` evaluations on the ring; None if they do not pay for it."""
    solver = SOLVERS[check_choice("name", name, RACERS)]
    levels, start, end = _track(schedule)
    if check_int("budget", budget, 4) < solver.nfe(4):
        return None
    steps = solver.steps(budget)
    predict = Counted(data.ring().network(levels))
    frames, times = [start], [levels.T]
    for state in solver.run(predict, start, levels, time_grid(levels, steps, grid)):
        waiting = predict.nfe - len(frames)  # evaluations spent before the solver moved
        frames += [frames[-1]] * waiting + [state.x]
        times += [times[-1]] * waiting + [state.t]
    left = budget + 1 - len(frames)
    frames, times = frames + [frames[-1]] * left, times + [0] * left
    error = (frames[-1] - end).square().sum(1).mean().sqrt().item()
    return Run(steps, torch.stack(frames), times, error)


def race_picture(first: str, second: str, third: str, budget: int, grid: str, schedule: str) -> Picture:
    """Up to three solvers side by side, frame by frame of evaluations spent, and their errors at other budgets."""
    _, start, end = _track(schedule)
    runs = {name: run(name, budget, grid, schedule) for name in (first, second, third) if name != NOBODY}
    still = start.expand(budget + 1, -1, -1)
    mode = torch.cdist(end, data.ring().means).argmin(1)
    panels = [
        Points(name, (r.frames if r else still).numpy(), end.numpy(), 2.6, groups=mode) for name, r in runs.items()
    ]
    possible = [n for n in BUDGETS if all(n >= SOLVERS[name].nfe(4) for name in runs)]
    errors = {name: [run(name, n, grid, schedule).error for n in possible] for name in runs}
    panels.append(
        Curves(
            "Error at every budget (cut at 10^-4 and 10^2)",
            np.array(possible),
            {name: np.log10(values).clip(-4, 2) for name, values in errors.items()},
            "network evaluations",
            "log10 of the distance to the exact end",
            (-4.1, 2.1),
            marker=np.full(budget + 1, budget) if budget >= possible[0] else None,
        )
    )
    return Picture(
        panels,
        f"{budget} network evaluations, {STARTS} starts. {_results(runs)} Colour and shape name the cluster that the "
        "exact flow reaches.",
        frame_label="Evaluations spent",
        frame_names=[str(k) for k in range(budget + 1)],
        frame_texts=[
            ", ".join(f"{name} stands at t = {r.times[k]}" for name, r in runs.items() if r) + "."
            for k in range(budget + 1)
        ],
    )


def _results(runs: dict[str, Run | None]) -> str:
    said = []
    for name, result in runs.items():
        if result is None:
            said.append(f"{name} cannot run: its four steps cost {SOLVERS[name].nfe(4)}.")
        else:
            hits = on_target(data.ring(), result.frames[-1])
            said.append(
                f"{name}: {result.steps} steps, {_number(result.error)} from the exact end, {100 * hits:.0f} % within "
                "three standard deviations of a Gaussian."
            )
    finished = {name: result.error for name, result in runs.items() if result}
    if len(finished) > 1:
        said.append(f"Nearest: {min(finished, key=finished.get)}.")
    return " ".join(said)


def _number(value: float) -> str:
    """Two significant digits where they say something."""
    if value < 0.001:
        return "less than 0.001"
    return f"{value:.2g}" if value < 99.5 else f"{value:.0f}" if value < 1e5 else f"10^{round(math.log10(value))}"


def explore_race() -> Explorer:
    """Choose two or three solvers, a budget, a grid and a schedule; the starts stay the same."""
    tracks = {name: _track(name) for name in SCHEDULES}
    constants = {
        "means": data.ring().means,
        "std": data.ring().covariances[0, 0, 0].sqrt(),
        "start": tracks["linear"][1],
        **{f"alpha_bar_{name}": track[0].alpha_bar for name, track in tracks.items()},
        **{f"end_{name}": track[2] for name, track in tracks.items()},
    }
    return Explorer(
        race_picture,
        [
            Choice("first", "First", list(RACERS), "DDIM"),
            Choice("second", "Second", list(RACERS), "Heun"),
            Choice("third", "Third", [NOBODY, *RACERS], "DPM-Solver++(2M)"),
            Slider("budget", "Network evaluations", 5, 60, 1, 10),
            Choice("grid", "Time grid", [grid for grid in GRIDS if grid != "ddim_uniform"], "log_snr"),
            Choice("schedule", "Noise schedule", list(SCHEDULES), "linear"),
        ],
        files(__package__).joinpath("explorer.js").read_text(encoding="utf-8"),
        constants,
    )
