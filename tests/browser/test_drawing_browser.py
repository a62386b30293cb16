"""Your own hand: a digit drawn with the mouse in the explorers of lessons 00 and 10 is what the network gets."""

import pytest
from lab import pixels, wait_settled, wait_until

pytestmark = pytest.mark.browser

# A 7 and a 1, as corners on a sheet of 1 x 1; the mouse goes straight from one to the next.
SEVEN = [(0.25, 0.2), (0.75, 0.2), (0.4, 0.85)]
ONE = [(0.55, 0.15), (0.45, 0.85)]
DRAWERS = {"00": "draw_digit", "10": "draw_edit"}


def draw(page, sheet, corners):
    """Press, move along the corners, let go."""
    sheet.scroll_into_view_if_needed()
    box = sheet.bounding_box()
    at = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.mouse.move(*at[0])
    page.mouse.down()
    for place in at[1:]:
        page.mouse.move(*place, steps=12)
    page.mouse.up()


def open_explorer(lab, page, notebook, number):
    lab.open(page, notebook(f"from lessons_src.lessons import lesson_{number} as lesson\nlesson.{DRAWERS[number]}()"))
    lab.run_all(page)
    view = page.locator(".le-explorer").first
    view.locator(".le-panel canvas").first.wait_for()
    play = view.get_by_role("button", name="Play")
    wait_until(page, play.is_visible, "the film that plays once to end")
    wait_settled(page, view)
    return view


@pytest.mark.parametrize("number", DRAWERS)
def test_a_digit_of_your_own(lab, page, notebook, number):
    """Drawn with the mouse, cleared by keyboard, taken from the list by keyboard: the picture follows."""
    view = open_explorer(lab, page, notebook, number)
    sheet, preset = view.locator(".le-sheet"), view.locator(".le-drawing select")
    chosen = "select => select.selectedOptions[0].textContent"
    opened = wait_settled(page, view)

    view.get_by_role("button", name="Clear").press("Enter")
    empty = wait_settled(page, view, "an empty sheet", unlike=opened)
    assert preset.evaluate(chosen) == "your own"
    if number == "10":
        assert view.locator(".le-caption").inner_text().startswith("The sheet is empty.")

    before = pixels(view)
    draw(page, sheet, SEVEN)
    wait_until(page, lambda: pixels(view) != before, "the line on the sheet")
    if number == "10":
        wait_until(page, lambda: view.locator(".le-caption").inner_text().startswith("Yours is read as 7 "), "a 7")
    seven = wait_settled(page, view, "what becomes of the drawn 7", unlike=empty)
    assert preset.evaluate(chosen) == "your own"

    view.get_by_role("button", name="Clear").press("Enter")
    wait_settled(page, view, "an empty sheet again", unlike=seven)
    draw(page, sheet, ONE)
    if number == "10":
        wait_until(page, lambda: view.locator(".le-caption").inner_text().startswith("Yours is read as 1 "), "a 1")
    one = wait_settled(page, view, "what becomes of the drawn 1", unlike=seven)

    preset.focus()
    preset.press("Home")
    taken = wait_settled(page, view, "a digit of the list", unlike=one)
    assert preset.evaluate(chosen) != "your own"
    preset.press("ArrowDown")
    wait_settled(page, view, "the next one", unlike=taken)
    assert not view.get_by_role("alert").is_visible()
