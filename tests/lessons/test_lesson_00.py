"""Lesson 00: its explorer, its tables, the answers to its questions, and right answers to its exercises."""

import math
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from by_hand import translated

from lessons_src import data, lessons, process, weights
from lessons_src.guidance import classifier_free
from lessons_src.lessons import lesson_00
from lessons_src.lessons.lesson_00 import explorer, tables
from lessons_src.lessons.lesson_00.explorer import ANY, STEPS, drowning_picture, presets
from lessons_src.samplers import ddim, sample
from lessons_src.schedules import times_to
from lessons_src.show.panels import grey

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "00_start_here.ipynb"
READY = presets()


def readings(picture):
    """What the judge reads before and after."""
    return tuple(map(int, re.search(r"reads yours as (\d), and what came back as (\d)", picture.text).groups()))


def back(digit, top, wish=ANY):
    return readings(drowning_picture(READY[f"a {digit}"], top, wish))[1]


def test_it_opens_with_a_3_that_drowns_and_comes_back():
    opened = lesson_00.draw_digit()
    assert (opened.values["top"], opened.values["wish"]) == (700, ANY)
    assert readings(opened.picture) == (3, 3)
    assert len(opened.picture.png()) < 100_000


@pytest.mark.parametrize("wish", [ANY, 8])
def test_the_frames_go_down_and_back(wish):
    picture = drowning_picture(READY["a 3"], 600, wish)
    yours, drowned, state, guess = np.moveaxis(picture.panels[0].frames, 1, 0)
    assert len(state) == 2 * STEPS + 1
    names = picture.frame_names
    assert (names[0], names[STEPS], names[-1]) == ("drowning, t = 0", "drowning, t = 600", "coming back, t = 0")
    net, times = weights.load("digits")[0], times_to(600, STEPS)
    x0, eps, ab = data.as_digit(READY["a 3"])[None], data.noise(1, 1, 28, 28).float(), net.schedule.alpha_bar
    assert (yours == grey(x0[0, 0])).all()
    for frame, t in enumerate(times[::-1]):
        np.testing.assert_array_equal(state[frame], grey(process.add_noise(x0, eps, ab[t])[0, 0]))
    assert (drowned == state[STEPS]).all()
    eps_fn = classifier_free(net, 0 if wish == ANY else wish, 0.0 if wish == ANY else 2.0)
    start = process.add_noise(x0, eps, ab[600])
    came_back = sample(ddim(eps_fn, start, net.schedule, times))
    np.testing.assert_array_equal(state[-1], grey(came_back[0, 0]))
    np.testing.assert_array_equal(guess[-1], state[-1])
    for frame, t in ((3, times[-4]), (STEPS, 600)):  # on the way down, the guess is the network's, not the truth
        x = process.add_noise(x0, eps, ab[t])
        with torch.no_grad():
            found = process.predict_x0(x, eps_fn(x, torch.tensor([t])), ab[t])
        assert np.abs(guess[frame].astype(int) - grey(found[0, 0])).max() <= 1, "a batch may round differently"


def test_the_formula_has_the_guesses_on_the_way_back_only():
    picture = drowning_picture(READY["a 3"], 600, ANY)
    assert len(picture.formula) == len(picture.frame_names)
    assert picture.formula[0] == "xₜ = 1.00 · x₀ + 0.00 · ε"
    assert all(("\N{COMBINING CIRCUMFLEX ACCENT}" in line) == (k > STEPS) for k, line in enumerate(picture.formula))


def test_what_the_lesson_says_of_the_ready_digits():
    assert [back(3, top) for top in range(100, 950, 50)] == [3] * 17
    assert back(3, 950) == 5
    assert [back(3, top, 8) == 8 for top in range(100, 1050, 50)] == [top >= 750 for top in range(100, 1050, 50)]
    assert (back(4, 500, 3), back(4, 550, 3)) == (4, 3)
    ends = [drowning_picture(drawing, 1000, ANY) for drawing in READY.values()]
    assert {readings(end)[1] for end in ends} == {1}
    last = np.stack([end.panels[0].frames[-1, 2] for end in ends]).astype(int)
    assert (last.max(0) - last.min(0)).mean() < 1, "the same 1"


@pytest.mark.parametrize("top", [100, 1000])
@pytest.mark.parametrize("wish", [ANY, 0, 9])
def test_an_empty_field_is_said_to_be_empty(top, wish):
    text = drowning_picture(np.zeros((28, 28), np.uint8), top, wish).text
    assert text.startswith("The field is empty")
    assert "empty" not in drowning_picture(READY["a 0"], top, wish).text


def test_the_ready_digits_are_one_of_each():
    _, judge = explorer.shipped()
    x = torch.stack([data.as_digit(drawing) for drawing in READY.values()])
    assert list(READY) == [f"a {digit}" for digit in range(10)]
    assert judge(x).argmax(1).tolist() == list(range(10))


def test_the_map_has_every_other_lesson_once():
    found, listed = tables.course_map(), lessons.all_lessons()[1:]
    assert all(len(column) == len(listed) for column in found.values())
    for link, lesson in zip(found["lesson"], listed, strict=True):
        assert (NOTEBOOK.parent / re.search(r"\((.*)\)", link)[1]).exists()
        assert lesson.title in link


def test_the_stored_map_is_that_of_today():
    """If it is not: `make notebooks N=00 ALL=1`."""
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    (cell,) = (cell for cell in cells if "course_map" in cell.source and cell.cell_type == "code")
    stored = cell.outputs[0].data["text/markdown"]
    for row in zip(*tables.course_map().values(), strict=True):
        assert " | ".join(row) in stored


def test_the_machine_fits_in_one_row():
    found = tables.this_machine()
    assert all(f" {name} " in found["versions"][0] for name in tables.PACKAGES)
    assert all(len(column) == 1 and column[0] for column in found.values())
    assert re.fullmatch(r"\d+\.\d\d s", found["a digit in 50 calls"][0])


ANSWERS = {
    "adding-noise": lambda: math.hypot(3, 4),
    "signal-share": lambda: 0.6**2,
    "guidance-translation": lambda: translated(2),
}
