"""Every question file loads, every fault in one is named, and what a lesson asks reads well without a browser."""

import re
from importlib.resources import files

import pytest
import torch

from lessons_src import process
from lessons_src.schedules import NoiseSchedule, linear
from lessons_src.show import quiz

LESSONS = sorted(
    f"lessons_src.lessons.{path.parent.name}"
    for path in (files("lessons_src") / "lessons").glob("lesson_*/questions.toml")
)
FIRST = "lessons_src.lessons.lesson_01"

GOOD = """
[[items]]
id = "two-steps"
place = "checkpoint"
kind = "number"
text = "What multiplies ε?"
answer = 0.6
tolerance = 0.005
explanation = "√(1 − 0.64)."
near_misses = [{ value = 0.36, message = "That is the variance." }]

[[items]]
id = "loss"
place = "predict"
kind = "choice"
text = "What does the *loss* see?"
options = [
    { text = "One `x_t`", feedback = "Yes.", correct = true },
    { text = "Two", feedback = "No." },
]

[[cards]]
front = "ᾱ₀?"
back = "1"
"""

FAULTS = {
    "not TOML": ('id = "loss"', "id = loss", ["sample.toml", "not TOML"]),
    "unknown table": ("[[cards]]", "[[card]]", ["sample.toml, card", "expected the keys items, cards"]),
    "items as a table": ("[[cards]]", "[cards]", ["sample.toml, cards", "an array"]),
    "unknown key of an item": ("tolerance", "tolerence", ["items[0] 'two-steps', tolerance", "expected the keys"]),
    "unknown key of an option": ('text = "Two"', 'txt = "Two"', ["items[1] 'loss', options[1], text is None"]),
    "unknown key of a card": ('back = "1"', 'rear = "1"', ["cards[0], back is None", "front, back"]),
    "key of another kind": ("[[cards]]", "answer = 1\n[[cards]]", ["items[1] 'loss', answer is 1", "options"]),
    "no kind": ('kind = "choice"', "", ["items[1] 'loss', kind is None", "'choice', 'number'"]),
    "no id": ('id = "loss"', "", ["items[1], id is None"]),
    "unknown kind": ('"choice"', '"essay"', ["items[1] 'loss', kind is 'essay'"]),
    "unknown place": ('"predict"', '"later"', ["items[1] 'loss', place is 'later'", "'predict', 'deeper'"]),
    "id with a space": ('"loss"', '"the loss"', ["id is 'the loss'", "lower-case"]),
    "two equal ids": ('"loss"', '"two-steps"', ["sample.toml, items, id is 'two-steps'", "once"]),
    "empty text": ('"What multiplies ε?"', '"  "', ["items[0] 'two-steps', text is '  '", "not empty"]),
    "text that is a number": ('"Yes."', "1", ["options[0], feedback is 1", "text"]),
    "empty feedback": ('"No."', '""', ["options[1], feedback is ''", "not empty"]),
    "missing feedback": (', feedback = "No."', "", ["options[1], feedback is None"]),
    "no correct option": (", correct = true", "", ["items[1] 'loss', options, correct is '0 of 2'"]),
    "two correct options": ('"No."', '"No.", correct = true', ["options, correct is '2 of 2'"]),
    "two equal options": ('text = "Two"', 'text = "One `x_t`"', ["options, text is 'One `x_t`'", "differ"]),
    "a single option": ('{ text = "Two", feedback = "No." },', "", ["options, correct is '1 of 1'", "two or more"]),
    "correct as text": ("true", '"true"', ["options[0], correct is 'true'", "true or false"]),
    "answer nan": ("answer = 0.6", "answer = nan", ["items[0] 'two-steps', answer is nan", "finite"]),
    "answer infinite": ("answer = 0.6", "answer = inf", ["answer is inf", "finite"]),
    "answer true": ("answer = 0.6", "answer = true", ["answer is True", "finite number"]),
    "answer text": ("answer = 0.6", 'answer = "0.6"', ["answer is '0.6'", "finite number"]),
    "unknown unit": ("tolerance = 0.005", 'tolerance = 0.005\nunit = "kg"', ["unit is 'kg'", "'%'"]),
    "tolerance zero": ("0.005", "0", ["tolerance is 0.0", "above 0"]),
    "near miss that is right": ("0.36", "0.604", ["near_misses, value is 0.604", "outside 0.6 ± 0.005"]),
    "near miss twice": ("near_misses = [", 'near_misses = [{ value = 0.36, message = "?" },', ["is 0.36", "once"]),
    "near miss without message": (', message = "That is the variance."', "", ["near_misses[0], message is None"]),
    "LaTeX": ("√(1 − 0.64).", "$0.6$", ["explanation is '$0.6$'", "no LaTeX"]),
    "backslash": ("√(1 − 0.64).", "\\\\sqrt", ["explanation", "no LaTeX"]),
    "half a code span": ("`x_t`", "`x_t", ["options[0], text", "pairs"]),
    "star as a product": ("√(1 − 0.64).", "0.8 * 0.8", ["explanation", "pairs"]),
}


@pytest.mark.parametrize(("old", "new", "expected"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_named_with_its_place(old, new, expected):
    assert old in GOOD
    with pytest.raises(ValueError, match=r"^sample\.toml") as caught:
        quiz.parse(GOOD.replace(old, new, 1), "sample")
    for part in expected:
        assert part in str(caught.value)


def test_good_text_is_read_and_folded():
    questions = quiz.parse(GOOD.replace('"1"', '"""\none\nline\n\n  next `a * b`\n"""'), "sample")
    number, choice = questions.items
    assert (number.answer, number.tolerance, number.near_misses[0].value) == (0.6, 0.005, 0.36)
    assert {option.text: option.correct for option in choice.options} == {"One `x_t`": True, "Two": False}
    assert questions.cards == (quiz.Card("ᾱ₀?", "one line\nnext `a * b`"),)


def test_options_come_in_an_order_of_their_own():
    """SHA-256 of id, line end and text decides, so the expected order can be written down once and for all."""

    def choice(name, texts):
        return quiz.Choice(name, "deeper", "?", tuple(quiz.Option(text, f"{text}!", text == "λ") for text in texts))

    def order(name, texts):
        return "".join(option.text for option in choice(name, texts).options)

    assert [order("one", texts) for texts in ("λabc", "cbaλ", "aλcb")] == ["bλac"] * 3
    assert order("two", "λabc") == "λcab"
    widget = quiz.Quiz("predict", "sample", [choice("one", "λabc")])
    markdown = widget._repr_mimebundle_()[0]["text/markdown"]
    assert [option["text"] for option in widget.entries[0]["options"]] == list("bλac")
    assert re.findall(r"\*\*([A-D])\.\*\* (\w)$", markdown, re.MULTILINE) == list(zip("ABCD", "bλac", strict=True))
    assert re.findall(r"\*\*([A-D])\.\*\*.*(\w)!$", markdown, re.MULTILINE) == list(zip("ABCD", "bλac", strict=True))


def test_a_prediction_of_the_deeper_notebook_is_asked_like_any_other(monkeypatch):
    monkeypatch.setattr(quiz, "load", lambda lesson: quiz.parse(GOOD.replace('"predict"', '"deeper"'), "sample"))
    predict, checkpoint, _ = quiz.ask("lessons.sample")
    assert [entry["id"] for entry in predict("loss").entries] == ["loss"]
    assert predict("loss").title == "Predict first"
    assert [entry["id"] for entry in checkpoint().entries] == ["two-steps"]
    with pytest.raises(ValueError, match="item is 'two-steps'; expected one of 'loss'"):
        predict("two-steps")


def test_unknown_names_list_what_exists():
    predict, *_ = quiz.ask(FIRST)
    with pytest.raises(ValueError, match=r"item is 'half'; expected one of 'who-reads-last', 'signal-at-half', "):
        predict("half")
    with pytest.raises(ValueError, match="item is 'two-equal-steps'"):
        predict("two-equal-steps")  # a checkpoint question is no prediction


@pytest.mark.parametrize(("ask", "place"), [(1, "checkpoint"), (2, "flashcards")])
def test_a_lesson_without_entries_is_refused(monkeypatch, ask, place):
    monkeypatch.setattr(quiz, "load", lambda lesson: quiz.Questions())
    with pytest.raises(ValueError, match=f"lesson is 'empty'; expected a lesson that has something for {place}"):
        quiz.ask("lessons.empty")[ask]()


CHOICES = {
    f"{lesson[-2:]}-{item.id}": item
    for lesson in LESSONS
    for item in quiz.load(lesson).items
    if isinstance(item, quiz.Choice)
}


def right(item):
    """The position of the right option."""
    return [option.correct for option in item.options].index(True)


@pytest.mark.parametrize("key", CHOICES)
def test_every_option_has_a_feedback_of_its_own(key):
    feedback = [option.feedback for option in CHOICES[key].options]
    assert len(set(feedback)) == len(feedback)


# Options are shuffled: a letter or a place in the list means nothing. One letter alone would be taken for one, too.
PLACES = re.compile(
    r"\b(?:first|second|third|fourth|fifth|last|next|previous|other|both|two|these|those) "
    r"(?:options?|answers?|choices?)\b"
    r"|\b(?:options?|answers?|choices?) (?:[A-E]|one|two|three|four|five|\d|above|below|before|after)\b"
    r"|\b(?:all|none|both|either|neither) of (?:the above|the others|these|those|them)\b"
    r"|(?<![-\w])[B-E](?![-\w[‖])|(?<=[a-z,:;] )A\b|\bA(?= (?:is|has|and|or|to)\b)",
    re.IGNORECASE,
)


def names_a_place(text):
    """The words by which a text points to an option, or ""; a letter has to be a capital, and no shape or code."""
    for found in PLACES.finditer(re.sub(r"`[^`]*`|\((?:\w+, ?)*\w*\)", "", text)):
        if len(found[0]) > 1 or found[0].isupper():
            return found[0]
    return ""


@pytest.mark.parametrize("key", CHOICES)
def test_no_text_speaks_of_the_place_of_an_option(key):
    item = CHOICES[key]
    for text in (item.text, *(part for option in item.options for part in (option.text, option.feedback))):
        assert names_a_place(text) == "", text


@pytest.mark.parametrize(
    "text",
    [
        "See the first option.",
        "Unlike option B, yes.",
        "That is B.",
        "Take A, not the rest.",
        "A is right.",
        "None of the above.",
        "Both answers hold.",
    ],
)
def test_speaking_of_the_place_of_an_option_is_noticed(text):
    assert names_a_place(text)


def test_length_does_not_give_the_right_option_away():
    """Over the course it is no longer than the mean of the others, and the longest or the shortest no more often than
    one in k, its fair share, and a margin of one item in twenty. Equal lengths share the place."""
    surplus, extreme = [], {min: 0.0, max: 0.0}
    for item in CHOICES.values():
        lengths = [len(option.text) for option in item.options]
        own = lengths.pop(right(item))
        surplus.append(own - sum(lengths) / len(lengths))
        for end in extreme:
            extreme[end] += (own == end(own, *lengths)) / (1 + lengths.count(own))
    fair = sum(1 / len(item.options) for item in CHOICES.values())
    assert sum(surplus) / len(surplus) <= 0
    for end, found in extreme.items():
        assert found <= fair + 0.05 * len(CHOICES), f"{end.__name__}: {found:.1f}, fair are {fair:.1f}"


def test_the_right_option_stands_anywhere():
    """Over the course each position holds it as often as chance would, within 2.5 standard deviations."""
    for place in range(max(len(item.options) for item in CHOICES.values())):
        chances = [1 / len(item.options) for item in CHOICES.values() if len(item.options) > place]
        found = sum(right(item) == place for item in CHOICES.values())
        margin = 2.5 * sum(p * (1 - p) for p in chances) ** 0.5
        assert abs(found - sum(chances)) <= margin, f"option {place + 1}: {found}, expected {sum(chances):.1f}"


def all_of(lesson):
    """Every widget a lesson can show, with the entries it holds."""
    questions = quiz.load(lesson)
    for item in questions.items:
        if item.place != "checkpoint":
            yield quiz.ask(lesson)[0](item.id), [item]
    checks = [item for item in questions.items if item.place == "checkpoint"]
    if checks:
        yield quiz.ask(lesson)[1](), checks
    if questions.cards:
        yield quiz.ask(lesson)[2](), questions.cards


def flat(markdown):
    return re.sub(r"\\([\[\]<>_~#&])", r"\1", markdown).replace("<br>", "\n")


@pytest.mark.parametrize("lesson", LESSONS)
def test_everything_can_be_read_without_running(lesson):
    for widget, entries in all_of(lesson):
        bundle, _ = widget._repr_mimebundle_()
        assert set(bundle) == {"application/vnd.jupyter.widget-view+json", "text/markdown", "text/plain"}
        text = flat(bundle["text/markdown"])
        assert text.count("<details>") == text.count("</details>") == len(entries)
        shown = "".join(part.partition("<details>")[0] for part in text.split("</details>"))
        folded = "".join(re.findall(r"<details>.*?</details>", text, flags=re.DOTALL))
        for entry in entries:
            if isinstance(entry, quiz.Card):
                asked, answered = [entry.front], [entry.back]
            elif isinstance(entry, quiz.Choice):
                asked = [entry.text, *(option.text for option in entry.options)]
                answered = [option.feedback for option in entry.options]
            else:
                asked = [entry.text, f"± {entry.tolerance:g}"]
                answered = [f"{entry.answer:g}", entry.explanation, *(miss.message for miss in entry.near_misses)]
            assert all(part in shown for part in asked)
            assert all(part in folded for part in answered)


@pytest.mark.parametrize("lesson", LESSONS)
def test_the_saved_output_is_the_same_every_time(lesson):
    def saved():
        return [{k: v for k, v in w._repr_mimebundle_()[0].items() if k.startswith("text/")} for w, _ in all_of(lesson)]

    assert saved() == saved()


def test_markdown_reads_nothing_into_the_text():
    questions = quiz.parse(GOOD.replace("ᾱ₀?", "x_t and x_s, s < t [1] ~ # & `a_b < c`"), "sample")
    widget = quiz.Quiz("flashcards", "sample", list(questions.cards))
    markdown = widget._repr_mimebundle_()[0]["text/markdown"]
    assert r"x\_t and x\_s, s \< t \[1\] \~ \# \& `a_b < c`" in markdown


def test_the_page_gets_all_it_needs():
    widget = quiz.ask(FIRST)[1]()
    kinds = {entry["id"]: entry["kind"] for entry in widget.entries}
    assert kinds["two-equal-steps"] == "number"
    assert kinds["only-marginals"] == "choice"
    assert "http" not in str(widget._esm) + str(widget._css)  # nothing comes from elsewhere


def test_the_numbers_of_the_forward_shortcut():
    items = {item.id: item for item in quiz.load(FIRST).items}
    half, steps = items["signal-at-half"], items["two-equal-steps"]
    abar = linear(T=1000).alpha_bar
    signal, noise = abar.sqrt(), (1 - abar).sqrt()
    assert half.answer == pytest.approx(signal[500].item(), abs=5e-5)
    mistakes = [0.5, abar[500].item(), noise[500].item(), 0.5**0.5]
    assert [miss.value for miss in half.near_misses] == pytest.approx(mistakes, abs=5e-5)
    assert (signal - noise).abs().argmin() == 259

    two = NoiseSchedule(torch.tensor([1, 0.8, 0.64], dtype=torch.float64))
    assert two.beta[1:].tolist() == pytest.approx([0.2, 0.2])
    x0, eps = torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    assert steps.answer == pytest.approx(process.add_noise(x0, eps, two.alpha_bar[2].item()).item())
    mistakes = [0.36, 0.8, 0.64, 0.4**0.5, 2 * 0.2**0.5, 0.2**0.5]
    assert [miss.value for miss in steps.near_misses] == pytest.approx(mistakes, abs=5e-4)


def test_what_the_forward_shortcut_claims_in_words():
    abar = linear(T=1000).alpha_bar
    assert [round(abar[t].item(), 5) for t in (50, 51)] == [0.97102, 0.96995]
    assert round(abar[1000].sqrt().item(), 4) == 0.0064
    assert round(linear(T=100).alpha_bar[100].sqrt().item(), 2) == 0.60
    assert round(linear(T=100, beta_start=0.001, beta_end=0.2).alpha_bar[100].item(), 5) == 0.00002
    assert (torch.ones(3).view(3, 1, 1, 1) * torch.ones(3, 2)).shape == (3, 1, 3, 2)


def test_who_runs_a_cell_again_finds_the_answer():
    predict, checkpoint, flashcards = quiz.ask("lessons_src.lessons.lesson_01")
    first, second = [item.id for item in quiz.load("lessons_src.lessons.lesson_01").items if item.place == "predict"][
        :2
    ]
    for make in (lambda: predict(first), checkpoint, flashcards):
        assert make().answers == {}
        make().set_state({"answers": {"0": [1]}})
        assert make().answers == {"0": [1]}
    assert predict(second).answers == {}
