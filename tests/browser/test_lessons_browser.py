"""Every lesson in JupyterLab: it runs, every control of every explorer moves something, and nothing complains.

Set SCREENSHOTS to a folder to keep a picture of each explorer.
"""

import json
import os
import shutil
from pathlib import Path

import pytest
from lab import pixels, wait_settled

pytestmark = pytest.mark.browser

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


@pytest.fixture(scope="module")
def lessons(lab) -> str:
    """A copy of the notebooks below the server's root, so that a run never changes the stored ones."""
    ignore = shutil.ignore_patterns(".ipynb_checkpoints")
    shutil.copytree(NOTEBOOKS, lab.root / "notebooks", ignore=ignore)
    return "notebooks"


def meant_to_fail(notebook: Path) -> int:
    """Number of cells whose exception is part of the lesson."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return sum("raises-exception" in cell["metadata"].get("tags", []) for cell in cells)


def shown(view) -> list[str]:
    return [view.locator(".le-caption").inner_text(), *pixels(view)]


def moves(page, view, control) -> bool:
    """Whether one step of `control` by keyboard, there and back, changes the picture or its caption."""
    select = control.evaluate("e => e.tagName === 'SELECT'")
    last = control.evaluate("e => e.tagName === 'SELECT' ? e.selectedIndex === e.length - 1 : e.value === e.max")
    there, back = ("ArrowDown", "ArrowUp") if select else ("ArrowRight", "ArrowLeft")
    before, value = shown(view), control.input_value()
    control.press(back if last else there)
    assert control.input_value() != value
    page.wait_for_timeout(250)  # by now an answer is here, or the explorer says that it is computing
    wait_settled(page, view, 60)
    after = shown(view)
    control.press(there if last else back)
    assert control.input_value() == value
    page.wait_for_timeout(250)
    wait_settled(page, view, 60)
    assert shown(view) == before, "the same settings must show the same picture"
    return after != before


def reveal(page, view, control) -> None:
    """Choose the option that a slider belongs to, if it is hidden."""
    for select in view.locator("select").all():
        for option in range(select.evaluate("e => e.length")):
            if control.is_visible():
                return
            select.select_option(index=option)
            page.wait_for_timeout(250)
            wait_settled(page, view, 60)
    assert control.is_visible()


def check_errors(page, notebook: Path) -> None:
    errors = page.locator('.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.error"]')
    assert errors.count() == meant_to_fail(notebook), errors.all_inner_texts()


def check_first_controls(page) -> None:
    """The first control of every explorer moves something."""
    for view in page.locator(".le-explorer:has(input[type=range]:not([name='-replay']), select)").all():
        wait_settled(page, view, 60)
        assert moves(page, view, view.locator("input, select").first)


@pytest.mark.parametrize("notebook", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_lesson(lab, page, lessons, notebook):
    lab.open(page, f"{lessons}/{notebook.name}")
    lab.run_all(page, 300)
    check_errors(page, notebook)
    views = page.locator(".le-explorer")
    if "explore_" in notebook.read_text(encoding="utf-8"):
        views.first.wait_for(state="attached")
    folder = os.environ.get("SCREENSHOTS")
    for number, view in enumerate(views.all()):
        wait_settled(page, view)
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            view.screenshot(path=Path(folder) / f"{notebook.stem}-{number}.png")
        for control in view.locator("input, select").all():
            if control.evaluate("e => e.name") == "-replay" and not control.is_visible():
                continue  # a still picture has nothing to replay
            reveal(page, view, control)
            name = control.evaluate("e => e.labels[0].textContent")
            assert moves(page, view, control), f"{name!r} changes nothing"
        assert not view.get_by_role("alert").is_visible(), view.get_by_role("alert").inner_text()
    shown_before = views.count()
    lab.reload(page)
    page.wait_for_function("n => document.querySelectorAll('.le-explorer').length === n", arg=shown_before)
    check_first_controls(page)
    lab.restart_and_run_all(page, 300)
    check_errors(page, notebook)
    assert views.count() == shown_before
    check_first_controls(page)
