"""Every lesson and every deeper notebook is stored executed, small and readable, and has the form of its kind."""

import base64
import html
import re
from collections.abc import Iterator
from copy import deepcopy
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest

from lessons_src import lessons
from lessons_src.make import minutes, notebooks
from lessons_src.show import quiz

FOLDER = Path(__file__).parents[2] / "notebooks"
LESSONS = sorted(FOLDER.glob("[0-9]*.ipynb"))
DEEPER = sorted((FOLDER / "deeper").glob("*.ipynb"))  # with the errata, which belong to no lesson


def number(path):
    """Two digits; None for the errata."""
    return path.stem[:2] if path.stem[:2].isdigit() else None


def listed(path):
    """What lesson.toml says of the lesson of a notebook."""
    return lessons.load(Path(lessons.__file__).parent / f"lesson_{number(path)}" / "lesson.toml")


def over(paths):
    """Runs a test once for each notebook: "05_ddim" is a lesson, "deeper-05_ddim" what it leaves out."""
    names = [f"deeper-{path.stem}" if path in DEEPER else path.stem for path in paths]
    return pytest.mark.parametrize("path", paths, ids=names)


everywhere = over(LESSONS + DEEPER)
in_lessons = over(LESSONS)
in_deeper = over(DEEPER)


def read(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return notebook, code, text


def outputs(code):
    return [output for cell in code for output in cell.outputs]


def text_of(output):
    """What an output says in words, in whatever format."""
    data = [str(value) for key, value in output.get("data", {}).items() if key.startswith("text/")]
    return html.unescape(" ".join([*data, output.get("text", "")]))


# --- Stored: executed, small, readable without a kernel


@everywhere
def test_executed_once_in_order_without_errors(path):
    _, code, _ = read(path)
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [output for output in outputs(code) if output.output_type == "error" or output.get("name") == "stderr"]


@everywhere
def test_small(path):
    _, code, _ = read(path)
    assert path.stat().st_size < 1_000_000
    for output in outputs(code):
        assert len(base64.b64decode(output.get("data", {}).get("image/png", ""))) < 100_000
    for cell in code:
        longest = 40 if minutes.is_collapsed(cell) else 25
        assert len(cell.source.splitlines()) <= longest, f"{cell.id}: a cell a learner cannot take in at once"


@everywhere
def test_reads_well_without_running(path):
    _, code, _ = read(path)
    for output in outputs(code):
        data = output.get("data", {})
        assert "application/vnd.jupyter.widget-view+json" not in data, "model numbers change with every run"
        if "image/png" in data:
            alt = output.metadata["image/png"]["alt"]
            assert len(alt) > 20
            assert data["text/plain"].startswith(alt)
        elif output.output_type == "execute_result":
            assert "text/markdown" in data, f"{data.get('text/plain')}: a bare value or a widget without a picture"


@everywhere
def test_every_picture_says_in_words_below_it_what_it_shows(path):
    """JupyterLab and GitHub drop the alternative text of a stored picture: the sentence stands below it as text too."""
    _, code, _ = read(path)
    for cell in code:
        for place, output in enumerate(cell.outputs):
            alt = output.get("metadata", {}).get("image/png", {}).get("alt")
            if alt is None:
                continue  # no picture
            assert any(alt in text_of(later) for later in cell.outputs[place + 1 :]), f"{cell.id}: {alt}"


@everywhere
def test_headings(path):
    _, _, text = read(path)
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    headings = re.findall(r"^(#+) (.*)$", prose, re.MULTILINE)
    levels = [len(marks) for marks, _ in headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    if number(path):
        assert headings[0][1].startswith(f"{number(path)} · ")
    assert all(after <= before + 1 for before, after in pairwise(levels))


@in_lessons
def test_every_prediction_is_asked_where_it_belongs(path):
    items = quiz.load(f"lessons_src.lessons.lesson_{number(path)}").items
    for place, where in (("predict", path), ("deeper", FOLDER / "deeper" / path.name)):
        source = "\n".join(cell.source for cell in read(where)[1]) if where.exists() else ""
        asked = re.findall(r'lesson\.predict\("([^"]+)"\)', source)
        assert sorted(asked) == sorted(item.id for item in items if item.place == place), place


@everywhere
def test_links_lead_somewhere(path):
    _, _, text = read(path)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith("https://"):
            assert (path.parent / target.split("#")[0]).exists(), target


QUOTED = {"06_classifier_free_guidance": {"1.55", "2.43"}}  # FIDs as the paper reports them


@everywhere
def test_numbers_in_prose_are_computed(path):
    """Every number with two decimals or more stands, rounded or as per cent, in code or in a stored output."""
    _, code, text = read(path)
    stored = [str(value) for output in outputs(code) for key, value in output.get("data", {}).items() if "text" in key]
    stored += [output.get("text", "") for output in outputs(code)] + [cell.source for cell in code]
    computed = [float(number) for number in re.findall(r"\d+\.\d+(?:e-?\d+)?", " ".join(stored))]
    prose = re.sub(r"\]\([^)]*\)|\d{4}\.\d{5}", "", text)
    for number in set(re.findall(r"(?<![\d.])\d+\.\d{2,}(?![\d.]*\d)", prose)) - QUOTED.get(path.stem, set()):
        digits = len(number.partition(".")[2])
        assert any(float(number) in (round(c, digits), round(c / 100, digits)) for c in computed), number


@everywhere
def test_speaks_of_diffusion_only(path):
    _, code, text = read(path)
    everything = text + "\n".join(cell.source for cell in code) + str(outputs(code))
    found = re.search(r"/root/|/home/|/tmp/|\bTODO\b|\bFIXME\b|\([EWN]\d+[a-z]?\)", everything)
    assert found is None, found


# --- The form: half an hour, something to move at once, the set-up out of sight


def departures(path) -> Iterator[str]:
    """Where a lesson departs from the form of a lesson."""
    notebook, code, _ = read(path)
    lesson = listed(path)
    length = minutes.of_lesson(path)
    if lesson.minutes != length.whole_minutes:
        yield f"lesson.toml says {lesson.minutes} minutes, the ruler {length.minutes:.2f}, rounded up"
    if lesson.minutes > 30:
        yield f"{lesson.minutes} minutes are more than 30"
    if length.first is None or length.first > 4:
        yield f"the first explorer is in cell {length.first}; expected one within the first five cells, 0 to 4"
    elif length.before > 120:
        yield f"{length.before} words stand before the first explorer; expected at most 120"
    first = notebook.cells[0].source
    if f"*{lesson.question}*" not in first:
        yield f"the first cell does not ask *{lesson.question}*"
    if "**Afterwards you can**" in first:
        yield "the first cell lists aims"
    yield from set_up_departures(notebook)
    for cell in code:
        lines = len(cell.source.splitlines())
        if lines > 12 and not minutes.is_collapsed(cell):
            yield f"{cell.id} has {lines} lines in sight; expected at most 12"
    whole, place = "\n".join(cell.source for cell in notebook.cells), 0
    for part in ("## Checkpoint", "lesson.checkpoint()", "## Remember", "lesson.flashcards()", "You can stop here"):
        place = whole.find(part, max(place, 0))
        if place < 0:
            yield f"{part!r} is missing, or not in its order"


def set_up_departures(notebook) -> Iterator[str]:
    """Whether the second cell, and it alone, imports, and is collapsed."""
    set_up = notebook.cells[1]
    if set_up.cell_type != "code" or not minutes.is_collapsed(set_up):
        yield "the second cell is not the collapsed set-up cell"
    if not set_up.source.startswith("# Set-up: run this cell first"):
        yield "the set-up cell does not begin by saying that it is one"
    for cell in notebook.cells[2:]:
        if cell.cell_type == "code" and re.search(r"^\s*(import|from \S+ import) ", cell.source, re.MULTILINE):
            yield f"{cell.id} imports; expected all imports in the set-up cell"


@in_lessons
def test_has_the_form_of_a_lesson(path):
    assert list(departures(path)) == []


@in_lessons
def test_brings_its_lessons_folder(path):
    _, code, _ = read(path)
    assert f"from lessons_src.lessons import lesson_{number(path)} as lesson" in "\n".join(cell.source for cell in code)


@in_deeper
def test_has_the_form_of_a_deeper_notebook(path):
    notebook, _, _ = read(path)
    assert list(set_up_departures(notebook)) == []
    if number(path):
        assert notebook.cells[0].source.startswith(f"# {number(path)} · {listed(path).title}: deeper\n")


@everywhere
def test_results_of_predictions_are_folded_away(path):
    """Whoever opens a lesson in JupyterLab reads the question before the stored answer to it."""
    notebook, _, _ = read(path)
    for cell in notebooks.results_of_predictions(notebook):
        before = deepcopy(cell)
        notebooks.fold(cell)
        assert cell == before, cell.id
