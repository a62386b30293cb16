"""Every lesson is stored executed, small and readable, and has the parts that a lesson has."""

import base64
import re
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest

from lessons_src.show import quiz

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("[0-9]*.ipynb"))
pytestmark = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return notebook, code, text


def outputs(code):
    return [output for cell in code for output in cell.outputs]


def test_executed_once_in_order_without_errors(path):
    _, code, _ = read(path)
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [output for output in outputs(code) if output.output_type == "error" or output.get("name") == "stderr"]


def test_small(path):
    _, code, _ = read(path)
    assert path.stat().st_size < 1_000_000
    for output in outputs(code):
        assert len(base64.b64decode(output.get("data", {}).get("image/png", ""))) < 100_000
    for cell in code:
        assert len(cell.source.splitlines()) <= 25, f"{cell.id}: a cell a learner cannot take in at once"


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


def test_headings(path):
    _, _, text = read(path)
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    headings = re.findall(r"^(#+) (.*)$", prose, re.MULTILINE)
    levels = [len(marks) for marks, _ in headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert headings[0][1].startswith(path.stem[:2] + " · ")
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_has_the_parts_of_a_lesson(path):
    _, code, text = read(path)
    source = "\n".join(cell.source for cell in code)
    for part in ("minutes**", "difficulty", "needs:", "**Afterwards you can**", "## Checkpoint", "## What to remember"):
        assert part in text, f"{part!r} is missing"
    assert f"from lessons_src.lessons import lesson_{path.stem[:2]} as lesson" in source
    assert "lesson.checkpoint()" in source
    assert "lesson.flashcards()" in source
    assert "lesson.explore_" in source or "widgets.Explorer(" in source


def test_asks_every_prediction_it_has(path):
    _, code, _ = read(path)
    asked = [found for cell in code for found in re.findall(r'lesson\.predict\("([^"]+)"\)', cell.source)]
    questions = quiz.load(f"lessons_src.lessons.lesson_{path.stem[:2]}")
    written = [item.id for item in questions.items if item.place == "predict"]
    assert sorted(asked) == sorted(written)


def test_links_lead_somewhere(path):
    _, _, text = read(path)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith("https://"):
            assert (path.parent / target.split("#")[0]).exists(), target


QUOTED = {"06_classifier_free_guidance": {"1.55", "2.43"}}  # FIDs as the paper reports them


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


def test_speaks_of_diffusion_only(path):
    _, code, text = read(path)
    everything = text + "\n".join(cell.source for cell in code) + str(outputs(code))
    found = re.search(r"/root/|/home/|/tmp/|\bTODO\b|\bFIXME\b|\([EWN]\d+[a-z]?\)", everything)
    assert found is None, found
