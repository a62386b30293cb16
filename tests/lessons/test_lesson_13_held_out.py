"""Lesson 13's combinations never seen: counted rightly, and the digit gives way while the thickness stays."""

import pytest
import torch

from lessons_src import captions, data
from lessons_src.lessons.lesson_13 import held_out
from lessons_src.lessons.lesson_13.held_out import COMBINATIONS, HELD, WITH, WITHOUT, fate, leaked, named, right, seen
from lessons_src.lessons.lesson_13.stored import stored


def test_the_held_combinations_are_those_of_the_card():
    assert [f"a {named(place)}" for place in HELD] == stored("held_out")[1]["held out"]
    assert len(COMBINATIONS) == 30
    assert len(seen()) == 26
    x, y = data.digits("train")
    place = 3 * y + captions.attributes(x, y)[:, 1]
    assert int(torch.isin(place, torch.tensor(HELD)).sum()) == stored("held_out")[1]["digits left out"]


def test_fates_are_counted_by_hand(monkeypatch):
    asked = torch.tensor([23, 23, 23, 23, 0], dtype=torch.uint8)  # four bold sevens and a thin zero
    read = torch.tensor([[7, 7, 9, 9, 0]], dtype=torch.uint8)
    thickness = torch.tensor([[3.5, 2.5, 3.5, 1.5, 1.5]], dtype=torch.float16)
    made = {"asked": asked, "read": read, "thickness": thickness}
    monkeypatch.setattr(held_out, "stored", lambda name: (made, {}))
    assert fate(0, 23) == (4, 1, 1, 1, 1)
    assert fate(0, 0) == (1, 1, 0, 0, 0)
    assert right(0, (23, 0)).value == 0.4
    assert leaked(0, 23)[1] == 1


@pytest.mark.parametrize("network", [WITHOUT, WITH])
def test_every_request_has_one_fate(network):
    for place in range(30):
        one = fate(network, place)
        assert one.asked == 50 == sum(one[1:])
        assert min(one) >= 0


def test_what_was_never_seen_comes_less_often_as_asked():
    assert right(WITHOUT).high < right(WITH).low
    assert abs(right(WITHOUT, seen()).value - right(WITH, seen()).value) < 0.05
    assert right(WITHOUT).value > 0.5


def test_the_digit_gives_way_and_the_thickness_stays():
    fates = [fate(WITHOUT, place) for place in HELD]
    assert sum(one.other_digit for one in fates) > 10 * sum(one.other_thickness + one.neither for one in fates)
    assert leaked(WITHOUT, 24) == ("thin five", 20)
    assert leaked(WITHOUT, 23) == ("bold two", 3)


def test_figures_say_what_they_show(monkeypatch):
    said = []
    monkeypatch.setattr(held_out.plots, "show", lambda fig, text: said.append(text))
    held_out.show_held_out()
    held_out.show_leakage()
    assert all("nan" not in text for text in said)
    assert f"As asked: {100 * right(WITHOUT).value:.0f} %" in said[0]
    assert "came as a thin five" in said[1]
