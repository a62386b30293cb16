"""The digit explorations: what they compute, at default and extreme settings, and what comes first."""

import re
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from lessons_src import digit_explorers, measurements, weights
from lessons_src.explorers import grey
from lessons_src.guidance import classifier_free
from lessons_src.samplers import State, ddim, sample
from lessons_src.schedules import GRIDS, time_grid


def plain_run(label: list[int], steps: int, w: float, grid: str = "linspace") -> Iterator[State]:
    net, _ = weights.load("digits")
    noise, _ = measurements.start_noise(len(label))
    times = time_grid(net.schedule, steps, grid)
    return ddim(classifier_free(net, torch.tensor(label), w), noise, net.schedule, times)


def plain_ddim(label: list[int], steps: int, w: float) -> np.ndarray:
    return grey(sample(plain_run(label, steps, w))[:, 0])


@pytest.mark.parametrize("steps", [1, 10, 100])
def test_the_last_frame_is_the_sample(steps):
    picture = digit_explorers.digit_steps_picture("DDIM", steps, "linspace")
    state, guess = (panel.frames for panel in picture.panels)
    assert len(state) == min(steps, 20) + 1
    assert (picture.frame_names[0], picture.frame_names[-1]) == ("t = 1000", "t = 0")
    np.testing.assert_array_equal(state[-1], plain_ddim(list(range(10)), steps, 1.0))
    np.testing.assert_array_equal(state[-1], guess[-1])
    assert f"DDIM, {steps} network evaluation" in picture.text
    assert ("Measured on 1,000 digits" in picture.text) == (steps in measurements.STEPS)


def test_the_first_guess_is_what_one_step_would_give():
    _, guess = (panel.frames for panel in digit_explorers.digit_steps_picture("DDIM", 10, "linspace").panels)
    np.testing.assert_array_equal(guess[0], plain_ddim(list(range(10)), 1, 1.0))


@pytest.mark.parametrize("grid", GRIDS)
def test_beside_every_state_stands_the_guess_made_from_it(grid):
    picture = digit_explorers.digit_steps_picture("DDIM", 3, grid)
    states = list(plain_run(list(range(10)), 3, 1.0, grid))
    for frame, state in enumerate(states):
        np.testing.assert_array_equal(picture.panels[1].frames[frame], grey(state.x0[:, 0]))
        np.testing.assert_array_equal(picture.panels[0].frames[frame + 1], grey(state.x[:, 0]))
        assert picture.frame_names[frame + 1] == f"t = {state.t}"


def test_only_what_was_measured_is_claimed():
    even, quadratic = (digit_explorers.digit_steps_picture("DDIM", 5, grid).text for grid in ("linspace", "quadratic"))
    assert "Measured on" in even
    assert "Measured on" not in quadratic


def test_the_distance_to_a_long_run_shrinks_with_the_steps():
    texts = [digit_explorers.digit_steps_picture("DDIM", steps, "linspace").text for steps in (1, 5, 20, 100)]
    away = [float(re.search(r"differ by ([\d.]+) a pixel", text)[1]) for text in texts]
    assert away == sorted(away, reverse=True)
    assert away[0] > 0.3
    assert away[-1] < 0.1


@pytest.mark.parametrize("sampler", measurements.SAMPLERS)
def test_every_sampler_starts_from_the_same_noise(sampler):
    state, _ = (panel.frames for panel in digit_explorers.digit_steps_picture(sampler, 3, "quadratic").panels)
    np.testing.assert_array_equal(state[0], grey(measurements.start_noise(10)[0][:, 0]))


@pytest.mark.parametrize(("w", "evaluations"), [(0.0, 20), (1.0, 20), (2.0, 40), (10.0, 40)])
def test_guidance_shows_twelve_of_one_digit_and_counts(w, evaluations):
    picture = digit_explorers.digit_guidance_picture(w, 3, 20)
    np.testing.assert_array_equal(picture.panels[0].frames[-1], plain_ddim([3] * 12, 20, w))
    assert f"{evaluations} network evaluations each" in picture.text
    read = int(re.search(r"reads (\d+) of 12 as 3", picture.text)[1])
    assert (read == 12) == (w >= 2) or w == 1
    rows, measured = measurements.load("guidance"), picture.panels[1]
    assert measured.marker.tolist() == [w] * 21
    np.testing.assert_allclose(measured.x, [row["w"] for row in rows])
    curves = [[row[key] for row in rows] for key in ("accuracy", "spread")]
    np.testing.assert_allclose(list(measured.series.values()), curves, rtol=1e-6)


def test_guidance_shows_the_digit_that_is_asked_for():
    picture = digit_explorers.digit_guidance_picture(2.0, 7, 5)
    np.testing.assert_array_equal(picture.panels[0].frames[-1], plain_ddim([7] * 12, 5, 2.0))


def test_more_guidance_makes_them_more_alike():
    texts = [digit_explorers.digit_guidance_picture(w, 7, 20).text for w in (1.0, 3.0, 10.0)]
    variety = [float(re.search(r"each other by ([\d.]+) a pixel", text)[1]) for text in texts]
    assert variety == sorted(variety, reverse=True)
    x = torch.tensor([[0.0, 2.0], [1.0, 1.0], [-1.0, 0.0]]).view(3, 1, 1, 2)
    pairs = [(x[i] - x[j]).square().mean() for i in range(3) for j in range(3) if i != j]
    assert digit_explorers._variety(x) == pytest.approx(torch.stack(pairs).mean().sqrt().item())


def test_a_long_run_is_previewed_and_a_short_one_is_not():
    texts = [p.text for p in digit_explorers.rough_first(digit_explorers.digit_guidance_picture, 5, 20, w=2.0, digit=4)]
    assert texts[0].startswith("Preview with 5 steps; 20 are being computed. w = 2: ")
    assert "5 DDIM steps" in texts[0]
    assert texts[1:] == [digit_explorers.digit_guidance_picture(2.0, 4, 20).text]
    short = digit_explorers.rough_first(digit_explorers.digit_steps_picture, 5, 10, sampler="DDIM", grid="linspace")
    assert len(list(short)) == 1


def test_the_explorers_open_with_their_best_picture():
    steps, guidance = digit_explorers.explore_digit_steps(), digit_explorers.explore_digit_guidance()
    assert steps.picture.text == digit_explorers.digit_steps_picture("DDIM", 10, "linspace").text
    assert guidance.picture.text == digit_explorers.digit_guidance_picture(2.0, 3, 20).text
    assert len(guidance.picture.png()) < 100_000
