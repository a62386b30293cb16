"""Lesson 13's test for copies: sure of those of a network that learned from 64 digits, silent about one of 8,000."""

import pytest
import torch

from lessons_src import data
from lessons_src.lessons.lesson_13 import memory
from lessons_src.lessons.lesson_13.memory import NAMES, drawn, nearest, verdict
from lessons_src.lessons.lesson_13.stored import FOLDER, seen
from lessons_src.make.samples import SIZES
from lessons_src.metrics import copying


def test_the_stored_digits_are_whole():
    assert memory.sizes() == SIZES
    for size in SIZES:
        x = drawn(size)
        assert x.shape == (200, 1, 28, 28)
        assert (x.min(), x.max()) == (-1, 1)
    assert (FOLDER / "memorised.npz").stat().st_size < 150_000


@pytest.mark.parametrize("eyes", NAMES)
def test_copies_are_found_where_there_are_some(eyes):
    few, more, many = (verdict(size, eyes) for size in (64, 256, 8000))
    assert few.suspects.low > 0.9
    assert few.test.z < -20
    assert 0.05 < more.suspects.low < more.suspects.high < few.suspects.low
    assert many.suspects.high < 0.06
    assert many.test.z > 0
    assert few.test.expected == pytest.approx(0.05, abs=0.001)


def test_pixels_and_judge_disagree_about_1024_digits():
    pixels, judge = (verdict(1024, eyes).test for eyes in NAMES)
    assert pixels.z < -4 < -2 < judge.z < 2
    assert pixels.share < pixels.expected


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_test_is_silent_about_real_digits(split):
    x, known = seen(split)[8000:8200] if split == "train" else seen(split)[1000:1200], seen("train")[:8000]
    found = copying(x, known, seen("test")[:1000])
    assert abs(found.z) < 3
    assert found.share < 0.12


def test_a_shifted_copy_escapes_in_pixels():
    x = data.digits("train")[0][:64]
    known, null = x.flatten(1), data.digits("test")[0][:500].flatten(1)
    assert copying(known, known, null).share == 1
    assert copying(torch.roll(x, 3, 3).flatten(1), known, null).share < 0.6


def test_the_nearest_digit_of_a_training_digit_is_itself():
    x = data.digits("train")[0][5:8]
    assert torch.equal(nearest(x, 64), x)
    assert not torch.equal(nearest(x, 5), x)


def test_figures_say_what_they_show(monkeypatch):
    said = []
    monkeypatch.setattr(memory.plots, "show", lambda fig, text: said.append(text))
    memory.show_copies()
    memory.show_memory()
    assert "from 64 digits: 99 % (96 to 100) of what is drawn; learned from 8,000: 0 % (0 to 2)" in said[0]
    assert memory.RIGHTS in said[0]
    assert "1,024 digits still leave a trace (z = -5.6)" in said[1]
