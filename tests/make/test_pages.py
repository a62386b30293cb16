"""The list of lessons is one: pages, links and plans say what it says, and a faulty list is refused by name."""

from dataclasses import replace

import nbformat
import pytest

from lessons_src.lessons import all_lessons, load
from lessons_src.make import pages

LESSONS = all_lessons()


def test_everything_made_from_the_list_is_as_it_says():
    stale = [path.name for path, content in pages.made().items() if path.read_text(encoding="utf-8") != content]
    assert stale == [], "run `make pages`"


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: f"lesson_{lesson.name}")
def test_a_notebook_says_the_same_as_its_list_entry(lesson):
    first = nbformat.read(pages.NOTEBOOKS / f"{lesson.name}.ipynb", as_version=4).cells[0].source
    title, header = first.split("\n\n")[:2]
    assert title.startswith(f"# {lesson.number} · ")
    assert lesson.title in title
    assert header.startswith(f"**{lesson.minutes} minutes** · ")
    assert header.endswith(pages.MARK)


def test_the_first_has_no_lesson_before_it_and_the_last_none_after():
    first, second, *_, last = (pages.links(LESSONS, place) for place in range(len(LESSONS)))
    assert (first.count("←"), first.count("→")) == (0, 1)
    assert (second.count("←"), second.count("→")) == (1, 1)
    assert (last.count("←"), last.count("→")) == (1, 0)


def test_a_new_lesson_moves_its_neighbours_links():
    between = replace(LESSONS[5], name="05_no_lesson", title="No lesson")
    longer = (*LESSONS[:6], between, *LESSONS[6:])
    assert "05 No lesson →" in pages.links(longer, 5)
    assert "← 05 No lesson" in pages.links(longer, 7)
    assert "05_no_lesson.ipynb" in pages.lesson_table(longer)
    assert "05_no_lesson" not in pages.exercise_list(longer), "no exercises, no link"


def test_the_header_says_minutes_and_needs_and_what_lies_deeper_only_where_there_is_something(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "NOTEBOOKS", tmp_path)
    some = (replace(LESSONS[0], needs=()), replace(LESSONS[1], needs=("00",), minutes=29), LESSONS[2])
    assert "needs" not in pages.header(some, 0)
    way = "[← 00 Start here](00_start_here.ipynb) · [02 Noise schedules →](02_noise_schedules.ipynb)"
    assert pages.header(some, 1) == f"**29 minutes** · needs [00](00_start_here.ipynb) · {way}"
    assert "deeper" not in pages.lesson_table(some)
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "01_forward_shortcut.ipynb").touch()
    assert pages.header(some, 1).endswith("02_noise_schedules.ipynb) · [deeper](deeper/01_forward_shortcut.ipynb)")
    assert ".ipynb) · [deeper](notebooks/deeper/01_forward_shortcut.ipynb) |" in pages.lesson_table(some)


def test_a_deeper_notebook_leads_back_to_its_lesson_and_on():
    assert pages.deeper_links(LESSONS, 1) == (
        "[← 01 The forward shortcut](../01_forward_shortcut.ipynb) · "
        "[02 Noise schedules →](../02_noise_schedules.ipynb)"
    )
    assert "→" not in pages.deeper_links(LESSONS, len(LESSONS) - 1)


def test_navigation_is_replaced_and_not_added_twice():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text) for text in ("# 01\n\nText", "End")])
    for word in ("old", "new"):
        notebook = pages.navigated(notebook, f"{word} top", f"{word} end")
    first, last = (cell.source for cell in notebook.cells)
    assert first == f"# 01\n\nnew top {pages.MARK}\n\nText"
    assert last == f"End\n\nnew end {pages.MARK}"


def test_a_page_without_its_marks_is_refused():
    with pytest.raises(ValueError, match="marks called lessons is 0; expected one pair"):
        pages.filled("no marks", "lessons", "")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (
            lambda text: text.replace("\nminutes = ", "\nminutes = 9"),
            r"minutes in .* is 9\d+; expected the sum",
        ),
        (lambda text: text.replace('"05_ddim"', '"06_ddim"'), "name in .*06_ddim.* the number of its folder"),
        (lambda text: text.replace("question", "asks"), "keys of .*'asks'"),
    ],
)
def test_a_faulty_entry_is_refused(tmp_path, change, named):
    folder = tmp_path / "lesson_05"
    folder.mkdir()
    source = (pages.ROOT / "lessons_src" / "lessons" / "lesson_05" / "lesson.toml").read_text(encoding="utf-8")
    assert change(source) != source
    (folder / "lesson.toml").write_text(change(source), encoding="utf-8")
    with pytest.raises(ValueError, match=named):
        load(folder / "lesson.toml")


def test_every_notebook_is_in_the_list():
    found = sorted(path.stem for path in pages.NOTEBOOKS.glob("[0-9]*.ipynb"))
    assert [lesson.name for lesson in LESSONS] == found
    assert {path.stem for path in (pages.NOTEBOOKS / "deeper").glob("*.ipynb")} <= {*found, "errata"}
