"""A race of solvers: the same starts, the same exact predictor, the same number of network evaluations."""

import math
import warnings
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lessons_src import data
from lessons_src.checks import check_choice, check_int
from lessons_src.oracle import exact_flow
from lessons_src.samplers import Counted
from lessons_src.schedules import NoiseSchedule, cosine, linear, time_grid
from lessons_src.show.panels import Curves, Picture, Points
from lessons_src.show.widgets import Choice, Explorer, Slider
from lessons_src.solvers import SOLVERS

FEWEST = 4  # steps in a race
BUDGETS = (7, 8, 10, 13, 16, 20, 25, 30, 40, 50, 60)
RACERS = tuple(  # chance has no end to be compared with; RK4 and PNDM pay 13 calls for four steps
    name for name, solver in SOLVERS.items() if not solver.random and solver.nfe(FEWEST) <= BUDGETS[0]
)
ALWAYS = ("DDIM", "DPM-Solver++(2M)")
GRIDS = {"t": "linspace", "√t": "quadratic", "log-SNR": "log_snr"}  # what the steps are equal in
STARTS = 60
SCHEDULES = {"linear": linear(), "cosine": cosine()}
TENS = {math.log10(value): f"{value:g}" for value in (10, 1, 0.1, 0.01, 0.001, 0.0001)}


class Run(NamedTuple):
    """What a solver does with a budget: frame k is where it stands when k evaluations are spent.

    frames: (budget + 1, STARTS, 2). times: as many. error: root mean square distance from the ends of the exact flow.
    """

    frames: Tensor
    times: list[int]
    error: float


@cache
def _track(schedule: str) -> tuple[NoiseSchedule, Tensor, Tensor]:
    """The schedule, the starts, and where the exact flow takes them, (STARTS, 2) each."""
    levels = SCHEDULES[check_choice("schedule", schedule, SCHEDULES)]
    start = torch.randn(STARTS, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return levels, start, exact_flow(data.ring().eps, start, float(levels.alpha_bar[-1]))


@cache
def run(name: str, budget: int, grid: str, schedule: str) -> Run:
    """Let the solver called `name` spend up to `budget` evaluations on the ring."""
    solver = SOLVERS[check_choice("name", name, RACERS)]
    levels, start, end = _track(schedule)
    steps = solver.steps(check_int("budget", budget, solver.nfe(FEWEST)))
    predict = Counted(data.ring().network(levels))
    frames, times = [start], [levels.T]
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # some races are there to be lost
        for state in solver.run(predict, start, levels, time_grid(levels, steps, grid)):
            waiting = predict.nfe - len(frames)  # evaluations spent before the solver moved
            frames += [frames[-1]] * waiting + [state.x]
            times += [times[-1]] * waiting + [state.t]
    left = budget + 1 - len(frames)
    frames, times = frames + [frames[-1]] * left, times + [0] * left
    error = (frames[-1] - end).square().sum(1).mean().sqrt().item()
    return Run(torch.stack(frames), times, error)


def race_picture(third: str, budget: int, grid: str, schedule: str) -> Picture:
    """DDIM, 2M and a third solver, frame by frame of evaluations spent, and their errors at other budgets.

    explorer.js computes the same for some of the solvers.
    """
    levels, _, end = _track(schedule)
    runs = {name: run(name, budget, GRIDS[grid], schedule) for name in (*ALWAYS, third)}
    mode = torch.cdist(end, data.ring().means).argmin(1)
    panels = [Points(name, r.frames.numpy(), end.numpy(), 2.6, groups=mode) for name, r in runs.items()]
    errors = {name: [run(name, n, GRIDS[grid], schedule).error for n in BUDGETS] for name in runs}
    panels.append(
        Curves(
            "Miss at every budget",
            np.array(BUDGETS),
            {name: np.log10(values) for name, values in errors.items()},
            "network calls",
            "miss",
            (-4.1, 1.1),
            marker=np.full(budget + 1, budget),
            y_ticks=TENS,
        )
    )
    return Picture(
        panels,
        "The miss is the root mean square distance from the exact ends. Colour and shape name the cluster there.",
        frame_names=[f"{k} of {budget} calls" for k in range(budget + 1)],
        frame_texts=[
            *(
                f"Signal so far: DDIM and 2M {_signal(levels, runs['DDIM'].times[k])} %, "
                f"{third} {_signal(levels, runs[third].times[k])} %."
                for k in range(budget)
            ),
            "All have arrived.",
        ],
        formula=f"{budget} calls. Miss: " + ", ".join(f"{name} {_number(r.error)}" for name, r in runs.items()),
        plays=True,
    )


def _signal(levels: NoiseSchedule, t: int) -> int:
    """The share of the data's signal at a time, in per cent: what moves a point is the signal, not t."""
    return round(100 * levels.alpha_bar[t].sqrt().item())


def _number(value: float) -> str:
    """Two significant digits where they say something."""
    if value < 0.001:
        return "less than 0.001"
    return f"{value:.2g}" if value < 99.5 else f"{value:.0f}" if value < 1e5 else f"10^{round(math.log10(value))}"


def explore_race() -> Explorer:
    """Choose a third solver, a budget, a grid and a schedule; the starts stay the same."""
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
            Slider("budget", "Network calls", BUDGETS[0], BUDGETS[-1], 1, 10),
            Choice("third", "Third racer", [name for name in RACERS if name not in ALWAYS], "Heun"),
            Choice("grid", "Equal steps of", list(GRIDS), "√t"),
            Choice("schedule", "Schedule", list(SCHEDULES), "linear"),
        ],
        files(__package__).joinpath("explorer.js").read_text(encoding="utf-8"),
        constants,
    )
