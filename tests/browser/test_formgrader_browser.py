"""The formgrader of nbgrader shows what the course's grader has written into the gradebook."""

import shutil

import nbformat
import pytest
from lab import PATIENCE, TOKEN, lab_server, missing

pytestmark = pytest.mark.browser


@pytest.fixture
def course(tmp_path):
    """A class with one right submission and one that has only the first answer."""
    pytest.importorskip("nbgrader", reason="pip install -e '.[grading]'")
    if not shutil.which("bwrap"):
        missing("bubblewrap: apt install bubblewrap")
    from lessons_src.grading.course import SOURCES, Course
    from lessons_src.grading.notebook import grade_id, is_answer

    source = SOURCES / "01_forward_shortcut.ipynb"
    course = Course.setup(tmp_path / "class", [source])
    released = nbformat.read(str(course.release(source.stem)), as_version=4)
    right = {grade_id(cell): cell.source for cell in nbformat.read(str(source), as_version=4).cells if grade_id(cell)}
    for number, student in enumerate(("one_answer", "right")):
        for cell in list(filter(is_answer, released.cells))[: 1 + 99 * number]:
            cell.source = right[grade_id(cell)]
        path = course.root / "inbox" / source.stem / f"{student}.ipynb"
        path.write_text(nbformat.writes(released), encoding="utf-8")
    course.collect(source.stem)
    assert course.grade(source.stem) == {}
    return course, source.stem


def test_scores_and_reasons_are_shown(chromium, course, tmp_path, monkeypatch):
    course, name = course
    monkeypatch.chdir(course.root)  # where nbgrader looks for its configuration
    [partial, full] = course.table(name)
    assert 0 < partial["score"] < full["score"] == full["max"]
    with lab_server(course.root, tmp_path / "jupyter") as lab:
        page = chromium.new_page()
        page.set_default_timeout(1000 * PATIENCE)
        page.on("dialog", lambda dialog: pytest.fail(dialog.message))
        page.goto(f"{lab.url}/tree?token={TOKEN}", wait_until="domcontentloaded")  # log in first
        page.goto(f"{lab.url}/formgrader/manage_submissions/{name}", wait_until="domcontentloaded")
        for row in (partial, full):
            page.wait_for_selector(f"tr:has-text('{row['student']}'):has-text('{row['score']:g} / {row['max']:g}')")
        page.goto(f"{lab.url}/formgrader/gradebook/{name}/{name}", wait_until="domcontentloaded")
        page.click(f"tr:has-text('{full['score']:g} / {full['max']:g}') a:has-text('Submission')")
        page.wait_for_selector("text=forward_step: 4 of 4 points")
        page.close()
