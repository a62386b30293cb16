"""Every lesson in JupyterLab: it runs, every control of every explorer moves something, and nothing complains.

A deeper notebook is driven too if it has an explorer, with the cells that its explorers need; all others,
`make test-notebooks` runs.

Set SCREENSHOTS to a folder to keep a picture of each explorer and of each lesson's first screen.
"""

import json
import os
import re
import shutil
import symtable
from pathlib import Path

import pytest
from lab import wait_settled
from test_anatomy import DEEPER, FOLDER, LESSONS

from lessons_src.make import minutes

pytestmark = pytest.mark.browser

RESTARTED = ("00_start_here", "01_forward_shortcut")  # a restart runs the whole lesson again: those that run fastest
# What a cell shows by its CSS class, and the calls that show it.
SHOWN_BY = {
    ".le-explorer": re.compile(r"\blesson\.(?:explore|watch|draw)_\w+\(|\b(?:Explorer|teach|follow)\("),
    ".dq": re.compile(r"\.(predict|checkpoint|flashcards)\("),
}


@pytest.fixture(scope="module")
def lessons(lab) -> Path:
    """A copy of the notebooks below the server's root, so that a run never changes the stored ones."""
    copy = lab.root / "notebooks"
    shutil.copytree(FOLDER, copy, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    for notebook in DRIVEN:
        if notebook in DEEPER:
            book = json.loads(notebook.read_text(encoding="utf-8"))
            book["cells"] = driven_cells(book["cells"])
            shortened = copy / notebook.relative_to(FOLDER)
            shortened.write_text(json.dumps(book), encoding="utf-8")
            assert all(calls(shortened, view) == calls(notebook, view) for view in SHOWN_BY)
    return copy


def given_and_read(source: str) -> tuple[set[str], set[str]]:
    """Global names that a cell gives a value to, also by `import` or `def`, and those that it reads."""
    top = symtable.symtable(source, "cell", "exec")
    given = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    read, scopes = set(), [top]
    for scope in scopes:
        scopes += scope.get_children()
        read |= {s.get_name() for s in scope.get_symbols() if s.is_referenced() and (scope is top or s.is_global())}
    return given, read


def driven_cells(cells: list[dict]) -> list[dict]:
    """Text, explorers, quizzes, and the earlier cells that they need; what is left out need not be waited for twice."""
    kept, wanted = [], set()
    for cell in reversed(cells):
        if cell["cell_type"] == "code":
            source = "".join(cell["source"])
            given, read = given_and_read(source)
            if not (given & wanted or any(view.search(source) for view in SHOWN_BY.values())):
                continue
            wanted = wanted - given | read
        kept.append(cell)
    return kept[::-1]


def code_cells(notebook: Path) -> list[dict]:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def calls(notebook: Path, view: str) -> int:
    """Number of cells that show something of the CSS class `view`."""
    return sum(SHOWN_BY[view].search("".join(cell["source"])) is not None for cell in code_cells(notebook))


def meant_to_fail(notebook: Path) -> int:
    """Number of cells whose exception is part of the lesson."""
    return sum("raises-exception" in cell["metadata"].get("tags", []) for cell in code_cells(notebook))


def check_moves(page, view, control) -> None:
    """One step of `control` by keyboard changes the picture or its caption, one step back restores both."""
    name = control.evaluate("e => e.labels[0].textContent")
    select = control.evaluate("e => e.tagName === 'SELECT'")
    last = control.evaluate("e => e.tagName === 'SELECT' ? e.selectedIndex === e.length - 1 : e.value === e.max")
    there, back = ("ArrowDown", "ArrowUp") if select else ("ArrowRight", "ArrowLeft")
    if last:
        there, back = back, there
    before, value = wait_settled(page, view), control.input_value()
    control.press(there)
    assert control.input_value() != value
    wait_settled(page, view, f"{name!r} to change the picture", unlike=before)
    control.press(back)
    assert control.input_value() == value
    wait_settled(page, view, f"{name!r} to bring back the picture of the same settings", like=before)


def reveal(page, view, control) -> None:
    """Choose the option that a slider belongs to, if it is hidden."""
    for select in view.locator("select").all():
        for option in range(select.evaluate("e => e.length")):
            if control.is_visible():
                return
            if option != select.evaluate("e => e.selectedIndex"):
                before = wait_settled(page, view)
                select.select_option(index=option)
                wait_settled(page, view, f"option {option} to change the picture", unlike=before)
    assert control.is_visible()


def check_outputs(page, notebook: Path) -> None:
    """Every cell has run, with the errors and the explorers that belong to it and no others."""
    errors = page.locator('.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.error"]')
    assert errors.count() == meant_to_fail(notebook), errors.all_inner_texts()
    for view in SHOWN_BY:
        count = "([css, expected]) => document.querySelectorAll(css).length === expected"
        page.wait_for_function(count, arg=[f".jp-CodeCell:has({view})", calls(notebook, view)])


def go_to_the_end(page, view) -> None:
    """Show the last frame: the first one is often noise, the same for all settings."""
    wait_settled(page, view)
    replay = view.locator("input[name='-replay']")
    if replay.is_visible():
        replay.press("End")


def check_first_controls(page) -> None:
    """The first control of every explorer moves something."""
    for view in page.locator(".le-explorer:has(input[type=range]:not([name='-replay']), select)").all():
        go_to_the_end(page, view)
        check_moves(page, view, view.locator("input, select").first)


def keep_picture(shown, name: str) -> None:
    """A screenshot of a page or an element, if somebody asked for them."""
    if folder := os.environ.get("SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        shown.screenshot(path=Path(folder) / f"{name}.png")


def name(notebook: Path) -> str:
    """Path below the folder of notebooks, without its ending."""
    return str(notebook.relative_to(FOLDER).with_suffix(""))


DRIVEN = [*LESSONS, *(notebook for notebook in DEEPER if calls(notebook, ".le-explorer"))]


# The pictures of an explorer that are not wholly within the part of the notebook that is in sight.
OUT_OF_SIGHT = """view => {
    const seen = view.closest('.jp-NotebookPanel-notebook').getBoundingClientRect();
    return [...view.querySelectorAll('canvas')].map(canvas => canvas.getBoundingClientRect()).filter(
        box => !box.width || box.top < seen.top || box.bottom > seen.bottom || box.left < seen.left ||
            box.right > seen.right
    ).map(box => `${Math.round(box.top)} to ${Math.round(box.bottom)} of ${Math.round(seen.bottom)}`); }"""


def check_first_screen(page, notebook: Path) -> None:
    """At 1440 x 900 the top of a lesson has something to move in sight, and not its set-up."""
    usual = page.viewport_size
    page.set_viewport_size({"width": 1440, "height": 900})
    page.locator(".jp-Notebook .jp-Cell").first.focus()
    for _ in range(minutes.of_lesson(notebook).first + 1):
        page.keyboard.press("Shift+Enter")
    view = page.locator(".le-explorer").first
    view.locator("canvas").first.wait_for()
    page.locator(".jp-WindowedPanel-outer").evaluate("notebook => notebook.scrollTo(0, 0)")
    keep_picture(page, f"{notebook.stem}-first-screen")
    assert view.evaluate(OUT_OF_SIGHT) == []
    set_up = page.locator(".jp-CodeCell").first
    assert set_up.locator(".jp-InputPlaceholder").is_visible()
    assert not set_up.locator(".jp-InputArea-editor").is_visible()
    page.set_viewport_size(usual)


@pytest.mark.parametrize("notebook", DRIVEN, ids=name)
def test_lesson(lab, page, lessons, notebook):
    page.emulate_media(reduced_motion="reduce")  # no picture begins to play while it is compared
    copy = lessons / notebook.relative_to(FOLDER)
    lab.open(page, copy.relative_to(lab.root))
    if notebook in LESSONS:
        check_first_screen(page, notebook)
    lab.run_all(page, 900)
    check_outputs(page, copy)
    for number, view in enumerate(page.locator(".le-explorer").all()):
        go_to_the_end(page, view)
        keep_picture(view, f"{name(notebook).replace('/', '-')}-{number}")
        for control in view.locator("input, select").all():
            if control.evaluate("e => e.name") == "-replay" and not control.is_visible():
                continue  # a still picture has nothing to replay
            reveal(page, view, control)
            check_moves(page, view, control)
        assert not view.get_by_role("alert").is_visible(), view.get_by_role("alert").inner_text()
    lab.reload(page)
    check_outputs(page, copy)
    check_first_controls(page)
    if notebook.stem in RESTARTED:
        lab.restart_and_run_all(page, 900)
        check_outputs(page, copy)
        check_first_controls(page)
