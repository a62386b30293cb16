"""The training of lesson 03 as a learner meets it: out of order, stopped, gone on with, started anew."""

import re

import nbformat
import pytest
from lab import PATIENCE, wait_settled, wait_until
from test_anatomy import FOLDER

pytestmark = pytest.mark.browser

SET_UP, TRAIN, MORE = range(3)
STOP = "[data-jp-item-name=interrupt]"  # in the notebook's toolbar


def cells() -> list[str]:
    """The set-up of lesson 03, its training cell, and one that goes on; enough steps to be stopped in time."""
    book = nbformat.read(FOLDER / "03_train_tiny_ddpm.ipynb", as_version=4)
    sources = [cell.source for cell in book.cells if cell.cell_type == "code"]
    found = [sources[0], *(s for s in sources if "watch_training(" in s), "lesson.go_on(trainer)"]
    assert len(found) == 3
    found[TRAIN], count = re.subn(r"steps=\d+", "steps=100", found[TRAIN])
    assert count == 1
    return found


def run(page, cell: int) -> None:
    """Click into a cell and press Control+Enter."""
    page.locator(".jp-CodeCell .cm-content").nth(cell).click()
    page.keyboard.press("Control+Enter")


def wait_idle(page) -> None:
    idle = "document.querySelector('.jp-Notebook-ExecutionIndicator').dataset.status === 'idle'"
    page.wait_for_function(idle, timeout=1000 * PATIENCE)


def errors(page) -> list[str]:
    kinds = ("error", "stderr")
    shown = ", ".join(f'[data-mime-type="application/vnd.jupyter.{kind}"]' for kind in kinds)
    return [text.strip() for text in page.locator(shown).all_inner_texts()]


def test_stopped_gone_on_with_and_started_anew(lab, page, notebook):
    lab.open(page, notebook(*cells()))
    output = page.locator(".jp-CodeCell").nth(TRAIN).locator(".jp-OutputArea")
    bar, caption = output.locator("progress"), output.locator(".le-caption")
    run(page, SET_UP)
    run(page, MORE)
    wait_until(page, lambda: errors(page) != [], "what to do first")
    assert errors(page) == ["There is no training to go on with: run the cell below the heading Train it first."]

    run(page, TRAIN)
    caption.wait_for()
    assert "before the first of its steps" in caption.inner_text()
    wait_until(page, lambda: "Step " in caption.inner_text(), "the first report")
    assert "s left" in output.inner_text()
    page.click(STOP)
    wait_until(page, lambda: "You stopped the training after" in caption.inner_text(), "the sentence")
    wait_idle(page)
    stopped = int(bar.get_attribute("value"))
    assert 0 < stopped < 100
    assert output.locator("canvas").count() == 2
    assert len(errors(page)) == 1  # the one from before: stopping is no error

    run(page, MORE)
    more = page.locator(".jp-CodeCell").nth(MORE).locator(".jp-OutputArea")
    wait_until(page, lambda: "All 100 steps are done." in more.inner_text(), "the rest of the run")
    wait_idle(page)
    assert errors(page) == []
    view = more.locator(".le-explorer")
    now, back = wait_settled(page, view), view.get_by_label("Look back to")
    assert back.get_attribute("aria-valuetext") == "step 100"
    back.press("Home")
    wait_settled(page, view, unlike=now)
    assert back.get_attribute("aria-valuetext") == "step 0"
    assert re.search(r"done\. Step 0: the loss is \d\.\d\d\.$", view.locator(".le-caption").inner_text())

    run(page, TRAIN)
    wait_until(page, lambda: caption.count() and "before the first" in caption.inner_text(), "a new start")
    wait_until(page, lambda: int(bar.get_attribute("value")) > 0, "its first report")
    assert int(bar.get_attribute("value")) < 100
    wait_until(page, lambda: "All 100 steps are done." in caption.inner_text(), "the end")
    wait_idle(page)
