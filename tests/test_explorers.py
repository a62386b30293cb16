"""What the explorations compute: true at the starting values, and no error at the ends of any control."""

import re

import numpy as np
import pytest
import torch

from lessons_src import explorers
from lessons_src.schedules import cosine

TIMES = [1000, 500, 0]


def stored_run():
    """A run of two samples: x_t counts up along the run, and its predictions miss the end by 1, 0.5 and 0."""
    x = torch.linspace(-1, 1, 3).reshape(3, 1, 1, 1, 1).expand(3, 2, 1, 28, 28)
    return x, x[-1] - torch.tensor([1.0, 0.5, 0.0]).reshape(3, 1, 1, 1, 1)


def run_picture(which):
    return explorers.run_picture(which, TIMES, *stored_run(), cosine(), ["a", "b"])


EXPLORERS = {
    "forward": explorers.explore_forward,
    "schedules": explorers.explore_schedules,
    "ddim": explorers.explore_ddim,
    "guidance": explorers.explore_guidance,
    "run": lambda: explorers.explore_run(TIMES, *stored_run(), cosine(), ["a", "b"]),
}
PICTURES = {
    "forward": explorers.forward_picture,
    "schedules": explorers.schedule_picture,
    "ddim": explorers.ddim_picture,
    "guidance": explorers.guidance_picture,
    "run": run_picture,
}


def ends(control):
    """The values of a control that go wrong first."""
    if control["kind"] == "slider":
        return control["min"], control["max"]
    return control["options"]


def settings(name):
    """Every control at its ends while the others stay where they start, then all low and all high."""
    explorer = EXPLORERS[name]()
    controls = explorer._controls
    for control in controls:
        for value in ends(control):
            yield explorer.values | {control["name"]: value}
    for corner in (0, -1):
        yield {control["name"]: ends(control)[corner] for control in controls}


@pytest.mark.parametrize("name", EXPLORERS)
def test_no_setting_raises_and_the_text_is_finite(name):
    for values in settings(name):
        text = PICTURES[name](**values).sentence()
        assert not re.search(r"\b(nan|inf)\b", text), f"{values}: {text}"


def test_there_is_no_exploration_without_this_test():
    assert {key for key in vars(explorers) if key.startswith("explore_")} == {f"explore_{name}" for name in EXPLORERS}


def test_forward_starts_clean_and_says_its_coefficients():
    picture = explorers.forward_picture(3, "linear")
    clean, _, x_t = picture.panels[0].frames[0]
    assert np.array_equal(clean, x_t)
    assert picture.frame_texts[25] == "At t = 500, x_t = 0.280 x0 + 0.960 eps."


def test_schedules_say_when_noise_overtakes():
    text = explorers.schedule_picture("linear", 1000, 0.02, 0.008, 3.0, 128).text
    assert "t = 260" in text
    assert "33 % of the steps" in text


@pytest.mark.parametrize(
    ("steps", "grid", "nfe"), [(1, "linspace", 1), (10, "quadratic", 10), (24, "ddim_uniform", 25)]
)
def test_ddim_counts_its_evaluations(steps, grid, nfe):
    text = explorers.ddim_picture(steps, 0.0, grid).text
    assert f": {nfe} network evaluation" in text


@pytest.mark.parametrize(("w", "nfe"), [(0.0, 30), (1.0, 30), (3.0, 60)])
def test_guidance_counts_both_predictions(w, nfe):
    assert f" {nfe} network evaluations" in explorers.guidance_picture(w, 0, 30).text


def test_a_stored_run_shows_what_was_stored():
    state, guess, amplitudes = run_picture("all").panels
    assert state.frames.shape == guess.frames.shape == (3, 2, 28, 28)
    assert state.frames[:, 0, 0, 0].tolist() == [0, 128, 255]
    assert guess.frames[:, 1, 0, 0].tolist() == [128, 191, 255]
    assert amplitudes.marker.tolist() == TIMES


def test_a_stored_run_of_one_sample_says_how_far_its_guess_is():
    picture = run_picture(1)
    assert picture.panels[0].labels == ("b",)
    assert picture.panels[0].frames.shape == (3, 1, 28, 28)
    assert picture.frame_texts[0].startswith("At t = 1000 the state is 0.00 signal and 1.00 noise; x̂0 differs")
    assert [re.search(r"by (\d\.\d)", text)[1] for text in picture.frame_texts] == ["1.0", "0.5", "0.0"]
