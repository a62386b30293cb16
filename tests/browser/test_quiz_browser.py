"""Predictions, checkpoints and flashcards as a learner meets them: by keyboard, right and wrong."""

import pytest
from lab import wait_until

from lessons_src.make.notebooks import execute
from lessons_src.show import quiz

pytestmark = pytest.mark.browser

FIRST = "lessons_src.lessons.lesson_01"


def shown(lab, page, notebook, call, lesson="01"):
    """The quiz that a call shows, run in JupyterLab."""
    lab.open(page, notebook(f"from lessons_src.lessons import lesson_{lesson} as lesson", call))
    lab.run_all(page)
    view = page.locator(".dq").first
    view.wait_for()
    return view


def test_a_number_is_judged_with_reasons(lab, page, notebook):
    view = shown(lab, page, notebook, 'lesson.predict("signal-at-half")')
    field, status = view.get_by_label("Your prediction"), view.get_by_role("status")
    answers = {
        "": "Type a number first",
        "28 %": "without the % sign",
        "0.9": "Not yet. The number is smaller than 0.9",
        "0.0786": "Not yet. Near ᾱ₅₀₀",
        "0,28": "Correct. √ᾱ₅₀₀ = 0.2803",
    }
    for tried, (typed, told) in enumerate(answers.items()):
        field.fill(typed)
        field.press("Enter")
        assert told.replace(" ", "") in status.inner_text().replace("\u00a0", "").replace(" ", "").replace("\n", "")
        second_number = tried > 2  # what could not be read is no try
        assert view.get_by_text("Show all explanations").is_visible() == second_number


def test_per_cent_may_be_typed_where_per_cent_is_asked(lab, page, notebook):
    view = shown(lab, page, notebook, 'lesson.predict("wasted-steps")', "02")
    for typed in ("33", "33 %"):
        view.get_by_label("Your prediction").fill(typed)
        view.get_by_role("button", name="Check").click()
        assert "Correct." in view.get_by_role("status").inner_text()


def test_every_option_of_a_checkpoint_tells_its_feedback_and_the_score_counts(lab, page, notebook):
    view = shown(lab, page, notebook, "lesson.checkpoint()")
    items = [item for item in quiz.load(FIRST).items if item.place == "checkpoint"]
    forms = view.locator("form").all()
    assert len(forms) == len(items)
    for form, item in zip(forms, items, strict=True):
        if isinstance(item, quiz.Number):
            form.get_by_label("Your answer").fill(f"{item.answer}")
            form.get_by_label("Your answer").press("Enter")
            continue
        for option, radio in sorted(
            zip(item.options, form.get_by_role("radio").all(), strict=True), key=lambda pair: pair[0].correct
        ):
            radio.focus()
            radio.press("Space")
            form.get_by_role("button", name="Check").click()
            word = "Correct." if option.correct else "Not yet."
            said = form.get_by_role("status").inner_text()
            assert word in said
            assert option.feedback.split()[0].strip("*`") in said
    numbers = sum(isinstance(item, quiz.Number) for item in items)
    assert f"{numbers} of {len(items)} right at the first try. All solved." in view.inner_text()


def test_flashcards_turn_and_remember(lab, page, notebook):
    view = shown(lab, page, notebook, "lesson.flashcards()")
    first = quiz.load(FIRST).cards[0]
    assert first.front.split()[0] in view.inner_text()
    view.get_by_role("button", name="Flip").press("Enter")
    assert "Back" in view.inner_text()
    view.get_by_role("button", name="Know it").press("Enter")
    assert "Card 2" in view.inner_text()
    assert "1 known" in view.inner_text()


def test_answers_survive_a_reload_and_the_end_of_the_kernel_and_both(lab, page, notebook):
    calls = ('lesson.predict("signal-at-half")', "lesson.checkpoint()", "lesson.flashcards()")
    shown(lab, page, notebook, "\n".join(f"display({call})" for call in calls))
    guess, check, cards = page.locator(".dq").all()
    items = [item for item in quiz.load(FIRST).items if item.place == "checkpoint"]
    at, item = next((i, item) for i, item in enumerate(items) if isinstance(item, quiz.Choice))
    wrong = next(i for i, option in enumerate(item.options) if not option.correct)

    guess.get_by_label("Your prediction").fill("0,28")
    guess.get_by_role("button", name="Check").click()
    check.locator("form").nth(at).get_by_role("radio").nth(wrong).check()
    check.locator("form").nth(at).get_by_role("button", name="Check").click()
    cards.get_by_role("button", name="Flip").click()
    cards.get_by_role("button", name="Know it").click()
    lab.reload(page)

    guess, check, cards = (page.locator(".dq").nth(i) for i in range(3))
    guess.get_by_text("Correct.", exact=True).wait_for()
    assert guess.get_by_label("Your prediction").input_value() == "0,28"
    form = check.locator("form").nth(at)
    assert form.get_by_role("radio").nth(wrong).is_checked()
    assert "Not yet." in form.get_by_role("status").inner_text()
    assert f"0 of {len(items)} right at the first try. {len(items)} still open." in check.inner_text()
    assert "Card 2" in cards.inner_text()
    assert "1 known" in cards.inner_text()

    lab.shut_down_kernel(page)
    form.get_by_role("radio").nth([option.correct for option in item.options].index(True)).check()
    form.get_by_role("button", name="Check").click()
    assert "Correct." in form.get_by_role("status").inner_text()
    assert f"{len(items) - 1} still open." in check.inner_text()
    assert form.get_by_text("Show all explanations").is_visible()

    lab.reload(page)  # into a new kernel, which knows nothing
    guess, check = (page.locator(".dq").nth(i) for i in range(2))
    guess.get_by_text("Correct.", exact=True).wait_for()
    assert f"{len(items) - 1} still open." in check.inner_text()


def test_a_stored_result_and_the_words_about_it_are_folded_until_an_answer(lab, page, notebook):
    """As a lesson is stored, before anything but the question has run."""
    set_up, ask = "from lessons_src.lessons import lesson_05 as lesson", 'lesson.predict("few-steps-winner")'
    name = notebook(set_up, ask, "print('the result')", "# the words", "# the next")
    execute(lab.root / name)
    lab.open(page, name)
    result, words = page.locator(".jp-OutputArea pre", has_text="the result"), page.locator(".jp-MarkdownOutput h1")
    assert (result.is_visible(), words.all_inner_texts()) == (False, ["the next"])
    assert "the words" not in page.locator(".jp-Notebook").inner_text()
    for cell in range(2):
        page.locator(".jp-CodeCell .cm-content").nth(cell).click()
        page.keyboard.press("Control+Enter")
    form = page.locator(".dq form")
    form.get_by_role("radio").first.check()
    form.get_by_role("button", name="Check").click()
    hint = page.get_by_text("Now run the next cell.")
    hint.wait_for()
    form.get_by_role("button", name="Check").press("Shift+Enter")  # the question runs again, and is answered already
    page.wait_for_timeout(4000)
    assert hint.is_visible()
    assert (result.is_visible(), words.all_inner_texts()) == (False, ["the next"]), "the words wait for the result"
    page.locator(".jp-CodeCell .cm-content").nth(2).click()
    page.keyboard.press("Control+Enter")
    result.wait_for()
    words.get_by_text("the words").or_(page.get_by_role("heading", name="the words")).first.wait_for()


def test_an_error_is_not_covered(lab, page, notebook):
    cells = ("from lessons_src.lessons import lesson_05 as lesson", 'lesson.predict("few-steps-winner")', "1 / 0")
    lab.open(page, notebook(*cells))
    lab.run_all(page)
    page.wait_for_function("() => document.querySelectorAll('.dq-veiled').length > 0")
    assert page.get_by_text("division by zero").last.is_visible()


def test_the_result_below_a_prediction_waits_for_an_answer(lab, page, notebook):
    """And so do the words about it; the stored result is folded away until its cell runs."""
    ask = 'lesson.predict("{}")'
    cells = ("from lessons_src.lessons import lesson_05 as lesson", ask.format("few-steps-winner"))
    lab.open(
        page, notebook(*cells, ask.format("digits-winner"), "print('the result')", "# the words", "print('another')")
    )
    lab.run_all(page)
    page.locator(".dq").nth(1).wait_for()
    first, second = page.locator(".dq").all()
    result, other = (page.locator(".jp-OutputArea pre", has_text=text).last for text in ("the result", "another"))
    words = page.locator(".jp-MarkdownOutput h1")
    page.wait_for_function("() => document.querySelectorAll('.dq-veiled').length === 2")
    assert (result.is_visible(), words.is_visible(), other.is_visible()) == (False, False, True)
    first.get_by_role("radio").first.check()
    first.get_by_role("button", name="Check").click()
    assert first.get_by_role("button", name="Show the result").count() == 0
    assert not result.is_visible(), "the second prediction is still open"
    second.get_by_role("button", name="Show the result").click()
    assert (result.is_visible(), words.is_visible(), other.is_visible()) == (True, True, True)
    told = first.locator(".dq-remark, [role=status]").first.inner_text()
    first.get_by_role("button", name="Check").press("Shift+Enter")  # the cell runs again, and its answer is still there
    page.wait_for_timeout(2000)
    again = page.locator(".dq").first
    wait_until(page, lambda: again.get_by_role("radio").first.is_checked(), "the answer after another run")
    assert again.locator(".dq-remark, [role=status]").first.inner_text() == told
