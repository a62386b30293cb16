"""A blind vote as a learner casts it: by keyboard, by mouse, with a reload, with a dead kernel; the files add up."""

import pytest
from lab import use_theme, wait_until

from lessons_src.lessons.lesson_13.votes import merge_votes, read_vote

pytestmark = pytest.mark.browser

# A black side against a white one, so that the test can see whose is whose; the digits of the lesson look alike.
SIDES = """import numpy as np
from lessons_src.lessons import lesson_13 as lesson
from lessons_src.lessons.lesson_13.votes import Comparison
sides = [np.full((20, 4, 28, 28), grey, np.uint8) for grey in (0, 255)]"""
WHITE = "canvas => canvas.getContext('2d').getImageData(5, 5, 1, 1).data[0] === 255"


def opened(lab, page, notebook, *folders):
    """A widget in JupyterLab for each folder."""
    calls = [f'lesson.compare_blind(Comparison(("black", "white"), *sides), "{folder}")' for folder in folders]
    lab.open(page, notebook(SIDES, *calls))
    lab.run_all(page)
    return [page.locator(".lb").nth(i) for i in range(len(folders))]


def start(page, view, name=""):
    """n chosen, a name filled in and the vote begun, all by keyboard."""
    size = view.get_by_label("How many pairs")
    assert "80 % four times in five" in view.inner_text()  # of 20, which is proposed where there are no 30
    size.focus()
    size.press("Home")
    wait_until(page, lambda: "92 % four times in five" in view.inner_text(), "what 10 pairs can show")
    view.get_by_label("Your name").fill(name)
    view.get_by_role("button", name="Start").press("Enter")
    wait_for_pair(page, view, 1)


def wait_for_pair(page, view, number):
    told = view.get_by_role("status").filter(has_text=f"Pair {number} of 10")
    wait_until(page, told.is_visible, f"pair {number}")
    page.wait_for_timeout(300)  # a new pair has to be there for a moment


def white_side(view):
    left, right = (canvas.evaluate(WHITE) for canvas in view.locator(".lb-stage canvas").all())
    assert left != right
    return 0 if left else 1


def verdict(page, view):
    wait_until(page, view.locator(".lb-verdict").is_visible, "the verdict")
    return view.locator(".lb-verdict").inner_text()


def saved(lab, folder):
    (path,) = (lab.root / folder).glob("*.json")
    return path


def test_two_people_vote_by_keyboard_and_by_mouse_and_their_files_add_up(lab, page, notebook):
    view, other = opened(lab, page, notebook, "two/keys", "two/mouse")
    start(page, view, "Ada")
    assert view.get_by_label("How many pairs").is_hidden(), "n is fixed"
    for number in range(1, 11):
        wait_for_pair(page, view, number)
        key = "ArrowDown" if number == 4 else ("ArrowLeft", "ArrowRight")[white_side(view)]
        page.keyboard.press(key)
        assert "for white" not in view.inner_text() or number == 10
    assert verdict(page, view).startswith("9 of the 9 decided for white: 66 to 100 %. 1 of 10 could not be told apart.")
    assert "A preference for white is shown" in verdict(page, view)
    assert view.get_by_role("img", name="Share for white: 100 %").is_visible()
    assert view.evaluate("node => node === document.activeElement")

    assert view.get_by_text("Pair 4 of 10: ").is_hidden(), "who wants to look back opens it"
    view.get_by_text("Look back").focus()
    page.keyboard.press("Enter")
    view.get_by_label("Pair", exact=True).focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    wait_until(page, view.get_by_text("You could not tell.").is_visible, "what was chosen for the fourth pair")
    page.keyboard.press("ArrowRight")
    wait_until(page, view.get_by_text("Pair 5 of 10: ").is_visible, "the fifth pair")
    assert "You chose white." in view.inner_text()
    chosen = view.locator(".lb-back .lb-chosen")
    assert chosen.inner_text() == "white ✓ your choice"
    assert chosen.locator("canvas").evaluate(WHITE)

    view = other
    start(page, view, "Bo")
    for number in range(1, 10):
        wait_for_pair(page, view, number)
        side = white_side(view)
        if number == 3:
            view.get_by_role("button", name="Cannot tell").click()
        else:
            view.locator(".lb-side").nth(side if number < 8 else 1 - side).dblclick()  # and yet one choice
    wait_for_pair(page, view, 10)
    view.get_by_role("button", name="Stop early").click()
    page.wait_for_timeout(300)
    assert "Really stop after 9 of 10?" in view.inner_text()
    assert not (lab.root / "two" / "mouse").exists(), "one press does not stop"
    view.get_by_role("button", name="Really stop").click()
    told = verdict(page, view)
    assert told.startswith("6 of the 8 decided for white")
    assert told.endswith("Stopped after 9 of 10: not the n chosen before the start.")

    keys, mouse = saved(lab, "two/keys"), saved(lab, "two/mouse")
    assert [read_vote(path).voter for path in (keys, mouse)] == ["Ada", "Bo"]
    assert merge_votes([keys, mouse, keys]).count() == (2, 15, 2)
    assert "two/mouse/vote_Bo_" in view.inner_text()


def test_a_vote_and_its_result_survive_a_reload_in_both_themes(lab, page, notebook):
    (view,) = opened(lab, page, notebook, "reloaded")
    start(page, view)
    page.set_viewport_size({"width": 1024, "height": 700})
    for number in (1, 2, 3):
        wait_for_pair(page, view, number)
        page.keyboard.press("ArrowLeft")
    wait_for_pair(page, view, 4)
    box = view.bounding_box()
    assert box["width"] <= 1024 - 250
    assert box["height"] < 520, "with the bars of JupyterLab around it, it fits 700 pixels"
    lab.reload(page)
    view = page.locator(".lb")
    wait_for_pair(page, view, 4)
    use_theme(page, "JupyterLab Dark")
    view.locator(".lb-side").first.focus()
    for number in range(4, 11):
        wait_for_pair(page, view, number)
        page.keyboard.press("ArrowRight")
    told = verdict(page, view)
    lab.shut_down_kernel(page)
    lab.reload(page)
    assert verdict(page, page.locator(".lb")) == told
    use_theme(page, "JupyterLab Light")
    page.set_viewport_size({"width": 1400, "height": 1300})


def test_a_held_key_is_one_choice_and_escape_leaves(lab, page, notebook):
    (view,) = opened(lab, page, notebook, "held")
    start(page, view)
    page.keyboard.down("ArrowLeft")
    for _ in range(5):
        page.wait_for_timeout(300)
        page.keyboard.down("ArrowLeft")  # as a keyboard repeats it
    page.keyboard.up("ArrowLeft")
    wait_for_pair(page, view, 2)
    page.keyboard.press("Escape")
    assert not view.evaluate("node => node.contains(document.activeElement)")


def test_a_dead_kernel_is_told_with_what_to_do(lab, page, notebook):
    (view,) = opened(lab, page, notebook, "dead")
    start(page, view)
    page.keyboard.press("ArrowLeft")
    wait_for_pair(page, view, 2)
    lab.shut_down_kernel(page)
    view.locator(".lb-side").first.click()
    wait_for_pair(page, view, 3)
    alert = view.get_by_role("alert")
    wait_until(page, alert.is_visible, "what to do")
    assert "Run All Above Selected Cell" in alert.inner_text()
    assert "only Python knew whose side was whose" in alert.inner_text()
