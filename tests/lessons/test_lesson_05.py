"""Lesson 05: its pictures, the answers to its questions, and right answers to its exercises."""

import math
import re
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
import torch
from by_hand import library_ddim, number, renoised, rotated, tilde, walk
from torch.nn import functional as F

from lessons_src import (
    measurements,
    process,
    samplers,
    schedules,
    weights,
)
from lessons_src.guidance import classifier_free
from lessons_src.lessons.lesson_05 import explorer
from lessons_src.samplers import State, ddim, sample
from lessons_src.schedules import GRIDS, time_grid
from lessons_src.show.panels import grey
from lessons_src.show.widgets import rough_first


@pytest.mark.parametrize(
    ("steps", "grid", "nfe"), [(1, "linspace", 1), (10, "quadratic", 10), (24, "ddim_uniform", 25)]
)
def test_ddim_counts_its_evaluations(steps, grid, nfe):
    text = explorer.ddim_picture(steps, 0.0, grid).text
    assert text.startswith(f"{nfe} network evaluation")


def plain_run(label: list[int], steps: int, w: float, grid: str = "linspace") -> Iterator[State]:
    net, _ = weights.load("digits")
    noise, _ = measurements.start_noise(len(label))
    times = time_grid(net.schedule, steps, grid)
    return ddim(classifier_free(net, torch.tensor(label), w), noise, net.schedule, times)


def plain_ddim(label: list[int], steps: int, w: float) -> np.ndarray:
    return grey(sample(plain_run(label, steps, w))[:, 0])


@pytest.mark.parametrize("steps", [1, 10, 100])
def test_the_last_frame_is_the_sample(steps):
    picture = explorer.digit_steps_picture("DDIM", steps, "linspace")
    state, guess = (panel.frames for panel in picture.panels)
    assert len(state) == min(steps, 20) + 1
    assert (picture.frame_names[0], picture.frame_names[-1]) == ("t = 1000", "t = 0")
    np.testing.assert_array_equal(state[-1], plain_ddim(list(range(10)), steps, 1.0))
    np.testing.assert_array_equal(state[-1], guess[-1])
    assert f"DDIM, {steps} network evaluation" in picture.text
    assert ("Measured on 1,000 digits" in picture.text) == (steps in (10, 100))


def test_the_first_guess_is_what_one_step_would_give():
    _, guess = (panel.frames for panel in explorer.digit_steps_picture("DDIM", 10, "linspace").panels)
    np.testing.assert_array_equal(guess[0], plain_ddim(list(range(10)), 1, 1.0))


@pytest.mark.parametrize("grid", GRIDS)
def test_beside_every_state_stands_the_guess_made_from_it(grid):
    picture = explorer.digit_steps_picture("DDIM", 3, grid)
    states = list(plain_run(list(range(10)), 3, 1.0, grid))
    for frame, state in enumerate(states):
        np.testing.assert_array_equal(picture.panels[1].frames[frame], grey(state.x0[:, 0]))
        np.testing.assert_array_equal(picture.panels[0].frames[frame + 1], grey(state.x[:, 0]))
        assert picture.frame_names[frame + 1] == f"t = {state.t}"


def test_only_what_was_measured_is_claimed():
    even, quadratic = (explorer.digit_steps_picture("DDIM", 5, grid).text for grid in ("linspace", "quadratic"))
    assert "Measured on" in even
    assert "Measured on" not in quadratic


def test_the_distance_to_a_long_run_shrinks_with_the_steps():
    texts = [explorer.digit_steps_picture("DDIM", steps, "linspace").text for steps in (1, 5, 20, 100)]
    away = [float(re.search(r"differ by ([\d.]+) a pixel", text)[1]) for text in texts]
    assert away == sorted(away, reverse=True)
    assert away[0] > 0.3
    assert away[-1] < 0.1


@pytest.mark.parametrize("sampler", measurements.SAMPLERS)
def test_every_sampler_starts_from_the_same_noise(sampler):
    state, _ = (panel.frames for panel in explorer.digit_steps_picture(sampler, 3, "quadratic").panels)
    np.testing.assert_array_equal(state[0], grey(measurements.start_noise(10)[0][:, 0]))


def test_the_explorers_open_with_their_best_picture():
    steps = explorer.explore_digit_steps()
    assert steps.picture.text == explorer.digit_steps_picture("DDIM", 10, "linspace").text
    short = rough_first(explorer.digit_steps_picture, 5, 10, sampler="DDIM", grid="linspace")
    assert len(list(short)) == 1


def walk_by_angles(x, ab):
    angle = [math.acos(math.sqrt(level)) for level in ab]
    factors = [1.0, *(math.cos(a - b) for a, b in pairwise(angle))]
    return torch.stack([x * math.prod(factors[: i + 1]) for i in range(len(ab))])


def walk_with_library(x, ab):
    rows = torch.empty(len(ab), *x.shape, dtype=x.dtype)
    rows[0] = x
    for i, (ab_t, ab_s) in enumerate(pairwise(ab)):
        rows[i + 1] = rotated(rows[i], (1 - ab_t) ** 0.5 * rows[i], ab_t, ab_s)
    return rows


def ddim_with_while(net, x, alpha_bar, times):
    i = 0
    while times[i] > 0:
        t, s = times[i], times[i + 1]
        x = rotated(x, net(x, torch.tensor(t).repeat(len(x))), alpha_bar[t].item(), alpha_bar[s].item())
        i += 1
    return x


def eta_step_with_library(x_t, eps, z, ab_t, ab_s, eta):
    fresh = eta**2 * tilde(ab_t, ab_s)
    kept = samplers.renoise(process.predict_x0(x_t, eps, ab_t), eps, ab_s)
    return kept + ((1 - ab_s - fresh) ** 0.5 - (1 - ab_s) ** 0.5) * eps + fresh**0.5 * z


def distance_of_lists(net, x, schedule, few, many):
    def end(steps):
        return list(samplers.ddim(net, x, schedule, schedules.time_grid(schedule, steps)))[-1].x

    return math.sqrt(((end(few) - end(many)) ** 2).sum().item() / x.numel())


ANSWERS = {
    "practice-one": lambda: samplers.renoise(process.predict_x0(number(0), number(0.1), 0.6), number(0.1), 0.8).item(),
    "hand-x0": lambda: walk([0.0])[0][0],
    "hand-x": lambda: walk([0.0])[0][1],
    "hand-second-x0": lambda: walk([0.0])[1][0],
    "hand-second-x": lambda: walk([0.0])[1][1],
    "hand-final": lambda: walk([0.0])[2][1],
    "last-step": lambda: math.sqrt(process.posterior_variance(schedules.linear().alpha_bar[100].item(), 1.0)),
}


RIGHT = {
    "ddim_step": (
        rotated,
        lambda x_t, eps, ab_t, ab_s: samplers.renoise(process.predict_x0(x_t, eps, ab_t), eps, ab_s),
    ),
    "walk": (walk_by_angles, walk_with_library),
    "even_grid": (
        lambda T, steps: (torch.arange(steps, -1, -1) * T).div(steps, rounding_mode="floor").tolist(),
        lambda T, steps: sorted({math.floor(i * T / steps + 1e-9) for i in range(steps + 1)}, reverse=True),
    ),
    "ddim_sample": (library_ddim, ddim_with_while),
    "ddim_eta_step": (
        eta_step_with_library,
        lambda x_t, eps, z, ab_t, ab_s, eta: (
            renoised(x_t, eps, ab_t, ab_s, eta**2 * tilde(ab_t, ab_s)) + eta * tilde(ab_t, ab_s) ** 0.5 * z
        ),
    ),
    "same_start_distance": (
        distance_of_lists,
        lambda net, x, schedule, few, many: F.mse_loss(
            *(library_ddim(net, x, schedule.alpha_bar, schedules.time_grid(schedule, n)) for n in (few, many))
        ).sqrt(),
    ),
}


CLAIMS = {
    "0.028": lambda: math.sqrt(0.8) * math.sqrt(0.4) * 0.1 / math.sqrt(0.6) - math.sqrt(0.2) * 0.1,
    "0.063": lambda: math.sqrt(0.4) * 0.1,
    "0.72": lambda: (0.28 * 0.6 + 0.96 * 0.8) * (0.6 * 0.8 + 0.8 * 0.6) * 0.8,
}
