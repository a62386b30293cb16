"""The ruler counts what a reader meets, and says where the first thing to move is."""

import nbformat
import pytest

from lessons_src.make import minutes

PROSE = "Seven words <b>and</b> these $a + b$ $$not = this$$"
CODE = "a = 1\n\nb = 2"


def notebook(*sources):
    """PROSE is prose, what imports is collapsed, all else is code in sight."""
    book = nbformat.v4.new_notebook()
    for source in sources:
        metadata = {"jupyter": {"source_hidden": True}} if source.startswith("import") else {}
        new = nbformat.v4.new_markdown_cell if source == PROSE else nbformat.v4.new_code_cell
        book.cells.append(new(source, metadata=metadata))
    return book


def test_counts_words_lines_in_sight_questions_and_explorers():
    found = minutes.measure(notebook(PROSE, "import torch\n\nx = 1", CODE, "lesson.explore_it()"), questions=2)
    assert (found.words, found.lines, found.questions, found.explorers) == (7, 3, 2, 1)
    assert found.minutes == pytest.approx(1.5 * (7 / 180 + 0.3 + 2.5 + 2.5))
    assert found.whole_minutes == 9


@pytest.mark.parametrize("call", ["lesson.explore_ddim()", "lesson.watch_it()", "lesson.draw_it()", "Explorer(f, [])"])
def test_the_first_thing_to_move_and_the_words_above_it(call):
    found = minutes.measure(notebook(PROSE, CODE, PROSE, f"{call}; {call}", PROSE, call), questions=0)
    assert (found.first, found.before, found.explorers) == (3, 14, 3)


def test_nothing_to_move():
    found = minutes.measure(notebook(PROSE, CODE), questions=0)
    assert (found.first, found.before, found.explorers) == (None, None, 0)


@pytest.mark.parametrize(("lines", "whole"), [(20, 3), (21, 4), (2, 1), (200, 30), (201, 31)])
def test_minutes_are_rounded_up_and_a_rounding_error_is_none(lines, whole):
    assert minutes.Length(0, lines, 0, 0, None, None).whole_minutes == whole
