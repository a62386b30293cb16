"""A bar tells how much of a cell's work is done, and never changes the work."""

import re
from pathlib import Path

import pytest
from nbval.plugin import get_sanitize_patterns

from lessons_src.show import progress

SAME = Path(__file__).parents[1] / "notebooks" / "nbval.cfg"


class Screen:
    """Stands for a notebook's output: what was shown, in plain text, in order."""

    def __init__(self):
        self.shown = []

    def display(self, data, raw, display_id):
        assert raw
        assert display_id
        self.update(data, raw)
        return self

    def update(self, data, raw):
        assert raw
        self.shown.append(data["text/plain"])


def test_a_bar_follows_the_work(monkeypatch):
    screen = Screen()
    monkeypatch.setattr(progress, "get_ipython", object)
    monkeypatch.setattr(progress, "display", screen.display)
    monkeypatch.setattr(progress, "EVERY", 0)
    seen = []
    for item in progress.counted(["a", "b"], "letters"):
        seen.append((item, screen.shown[-1]))
    assert seen == [("a", "0 of 2 letters"), ("b", "1 of 2 letters")]
    assert screen.shown[-1] == "2 of 2 letters"


def test_a_bar_is_not_drawn_more_often_than_it_is_seen(monkeypatch):
    screen = Screen()
    monkeypatch.setattr(progress, "get_ipython", object)
    monkeypatch.setattr(progress, "display", screen.display)
    monkeypatch.setattr(progress.time, "perf_counter", iter(range(10**6)).__next__)
    monkeypatch.setattr(progress, "EVERY", 250)
    assert list(progress.counted(range(1000), "steps")) == list(range(1000))
    assert screen.shown == ["0 of 1000 steps", *(f"{n} of 1000 steps" for n in (251, 502, 753)), "1000 of 1000 steps"]


def test_in_a_terminal_there_is_none(monkeypatch):
    monkeypatch.setattr(progress, "display", None)
    assert list(progress.counted("ab", "letters")) == ["a", "b"]


def test_a_bar_can_be_seen_and_heard():
    bar, words = progress.progress_bar(3, 7, ", about 2 s left"), "3 of 7 steps, about 2 s left"
    assert bar["text/plain"] == words
    assert bar["text/html"] == f'<progress max="7" value="3" aria-label="Progress"></progress> {words}'


@pytest.mark.parametrize("kind", ["text/plain", "text/html"])
@pytest.mark.parametrize("what", ["edits", "steps", "trainings", "ways up"])
def test_a_check_of_notebooks_takes_a_bar_for_the_same_however_far_it_is(kind, what):
    rules = get_sanitize_patterns(SAME.read_text(encoding="utf-8"))
    assert len(rules) == 2

    def compared(done, of):
        text = progress.progress_bar(done, of, what=what)[kind]
        for pattern, same in rules:
            text = re.sub(pattern, same, text)
        return text

    assert compared(0, 12) == compared(7, 12) == compared(12, 12)
    assert compared(12, 12) != compared(13, 13)
