"""Questions that answer back: predictions, checkpoints and flashcards.

The questions of a lesson live in its folder, in ``questions.toml``::

    [[items]]
    id = "two-equal-steps"        # lower case, digits, hyphens; unique in the file
    place = "checkpoint"          # asked at the lesson's end; or "predict" or "deeper", see below
    kind = "number"
    text = "What multiplies the noise after two steps with β = 0.2?"
    answer = 0.6
    tolerance = 0.005             # right within ± tolerance; a near miss is recognised within a tenth, or that if less
    unit = "%"                    # only for per cent; may be left out
    explanation = "ᾱ₂ = 0.8 · 0.8 = 0.64, and √(1 − 0.64) = 0.6."
    near_misses = [{ value = 0.36, message = "That is the variance." }]     # may be left out

A choice has ``kind = "choice"``, id, place, text, and two ``[[items.options]]`` or more, each with text and feedback,
one of them with ``correct = true``. A flashcard is a ``[[cards]]`` with front and back.

Three places: ``checkpoint()`` asks all items of place "checkpoint" at once, at the end of the lesson; ``predict(id)``
asks one item before its result is shown, in the lesson if its place is "predict" and in the notebook of the same name
under ``notebooks/deeper`` if it is "deeper".

The order of options in the file does not matter. Learners get them in an order made from id and texts, the same in the
page and in the stored Markdown, on every machine and in every version of Python. So no text may speak of "the first
option" or of "B", and no option may refer to another. The right option should be no longer than the wrong ones.

Text is plain Unicode mathematics with inline `code` and *emphasis*: it needs no MathJax and can be read aloud.
A line end counts as a space, an empty line as a line break; x_T and ε_u are shown with an index below.
"""

import hashlib
import math
import re
import tomllib
from collections.abc import Callable
from dataclasses import MISSING, asdict, dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, get_args

import anywidget
import traitlets

from lessons_src.checks import check_choice, refuse

_CODE = r"`[^`\n]+`"
_EMPHASIS = r"\*[^\s*](?:[^*\n]*[^\s*])?\*"
_TITLES = {"predict": "Predict first", "checkpoint": "Checkpoint", "flashcards": "Flashcards"}


@dataclass(frozen=True)
class Option:
    """One possible answer of a `Choice`, with what to tell someone who picks it."""

    text: str
    feedback: str
    correct: bool = False


@dataclass(frozen=True)
class NearMiss:
    """A wrong number that a known mistake leads to."""

    value: float
    message: str


@dataclass(frozen=True)
class Item:
    """A question; `place` says when it is asked: "checkpoint", "predict" or "deeper" (see above)."""

    id: str
    place: str
    text: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", self.id):
            refuse("id", self.id, "lower-case letters, digits and single hyphens")
        check_choice("place", self.place, ("checkpoint", "predict", "deeper"))


@dataclass(frozen=True)
class Choice(Item):
    """A question with several options, exactly one of them correct, which come in the order that `_rank` gives."""

    kind: ClassVar[str] = "choice"
    options: tuple[Option, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        correct = sum(option.correct for option in self.options)
        if correct != 1 or len(self.options) < 2:
            refuse("options, correct", f"{correct} of {len(self.options)}", "1 correct option of two or more")
        texts = [option.text for option in self.options]
        for text in texts:
            if texts.count(text) > 1:
                refuse("options, text", text, "texts that differ")
        ranked = sorted(self.options, key=lambda option: _rank(self.id, option.text))
        object.__setattr__(self, "options", tuple(ranked))  # the one change in the life of a frozen item


def _rank(item: str, option: str) -> str:
    """Where an option stands among the others of its item: as good as random, and the same everywhere."""
    return hashlib.sha256(f"{item}\n{option}".encode()).hexdigest()


@dataclass(frozen=True)
class Number(Item):
    """A question answered by a number, in per cent or without a unit, right within ± `tolerance`."""

    kind: ClassVar[str] = "number"
    answer: float
    tolerance: float
    explanation: str
    near_misses: tuple[NearMiss, ...] = ()
    unit: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("unit", self.unit, ("", "%"))
        if self.tolerance <= 0:
            refuse("tolerance", self.tolerance, "a number above 0")
        values = [miss.value for miss in self.near_misses]
        for value in values:
            if abs(value - self.answer) <= self.tolerance or values.count(value) > 1:
                refuse("near_misses, value", value, f"numbers outside {self.answer} ± {self.tolerance}, each once")


_KINDS = {"choice": Choice, "number": Number}


@dataclass(frozen=True)
class Card:
    """A flashcard."""

    front: str
    back: str


@dataclass(frozen=True)
class Questions:
    """Everything one lesson asks."""

    items: tuple[Item, ...] = ()
    cards: tuple[Card, ...] = ()

    def __post_init__(self) -> None:
        ids = [item.id for item in self.items]
        for name in ids:
            if ids.count(name) > 1:
                refuse("items, id", name, f"an id that is used once, not {ids.count(name)} times")


def load(package: str) -> Questions:
    """Return the questions in the folder of a lesson's package.

    Raises:
        ValueError: a fault in its file (see `parse`).
    """
    return parse(
        (files(package) / "questions.toml").read_text(encoding="utf-8"), f"{package.rpartition('.')[2]}/questions"
    )


def parse(source: str, lesson: str) -> Questions:
    """Return the questions written in `source`, the TOML text of the file called `lesson`.

    Raises:
        ValueError: any departure from the format above, naming file, item, key, value and what was expected.
    """
    try:
        root = tomllib.loads(source)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{lesson}.toml is not TOML: {error}") from error
    return _build(Questions, f"{lesson}.toml", root)


def _build(cls: type, where: str, table: Any) -> Any:
    """Return `table` as a dataclass, whose fields say which keys there are, their types, and which may be left out."""
    if not isinstance(table, dict):
        refuse(where, table, "a table")
    where += f" {table['id']!r}" if "id" in table else ""
    if cls is Item:
        cls = _KINDS[check_choice(f"{where}, kind", table.get("kind"), list(_KINDS))]
        table = {key: value for key, value in table.items() if key != "kind"}
    types = {field.name: field.type for field in fields(cls)}
    needed = {field.name for field in fields(cls) if field.default is MISSING}
    for key in sorted(table.keys() - types | needed - table.keys()):
        refuse(f"{where}, {key}", table.get(key), f"the keys {', '.join(types)}")
    values = {key: _read(types[key], f"{where}, {key}", value) for key, value in table.items()}
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f"{where}, {error}") from None


def _read(kind: Any, where: str, value: Any) -> Any:
    """Return a TOML value as a `str`, `float`, `bool` or tuple of dataclasses, whichever `kind` is."""
    if kind is str and isinstance(value, str) and value.strip():
        value = "\n".join(" ".join(line.split()) for line in re.split(r"\n\s*\n", value.strip()))
        if not re.search(r"[`*]", re.sub(f"{_CODE}|{_EMPHASIS}", "", value)) and not re.search(r"[$\\]", value):
            return value
        refuse(where, value, "` and * in pairs, and neither $ nor \\ (no LaTeX)")
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    if kind is bool and isinstance(value, bool):
        return value
    if get_args(kind) and isinstance(value, list):
        return tuple(_build(get_args(kind)[0], f"{where}[{i}]", entry) for i, entry in enumerate(value))
    expected = {str: "text that is not empty", float: "a finite number", bool: "true or false"}.get(kind, "an array")
    refuse(where, value, expected)


class Quiz(anywidget.AnyWidget):
    """Questions or cards that work in the browser alone; a viewer that runs nothing gets them as Markdown."""

    _esm = Path(__file__).with_name("quiz.js")
    _css = Path(__file__).with_name("quiz.css")
    place = traitlets.Unicode().tag(sync=True)
    title = traitlets.Unicode().tag(sync=True)
    entries = traitlets.List().tag(sync=True)
    answers = traitlets.Dict().tag(sync=True)  # kept by the page: what was tried, by the number of the entry

    def __init__(self, place: str, lesson: str, questions: list[Item] | list[Card]) -> None:
        if not questions:
            refuse("lesson", lesson, f"a lesson that has something for {place}")
        entries = [{"kind": getattr(entry, "kind", "card"), **asdict(entry)} for entry in questions]
        super().__init__(place=place, title=_TITLES[place], entries=entries)
        self._questions = questions

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict, dict]:
        bundle, metadata = super()._repr_mimebundle_(**kwargs)
        note = f"**{self.title}** · *run this cell to answer here*"
        numbers = [f"**{n}.** " for n in range(1, len(self._questions) + 1)] if len(self._questions) > 1 else [""]
        markdown = f"{note}\n\n" + "\n\n---\n\n".join(map(_markdown, numbers, self._questions))
        plain = f"{self.title}: run this cell in JupyterLab to answer"
        return {**bundle, "text/markdown": markdown, "text/plain": plain}, metadata


def ask(package: str) -> tuple[Callable[[str], Quiz], Callable[[], Quiz], Callable[[], Quiz]]:
    """The three functions by which the notebook of a lesson asks: predict(item), checkpoint(), flashcards().

    They raise ValueError like `load`; for a prediction that there is not, listing those there are; or for none at all.
    """
    lesson = package.rpartition(".")[2]
    kept: dict[str, dict] = {}  # answers of this session: whoever runs the cell again finds them

    def remembered(name: str, quiz: Quiz) -> Quiz:
        quiz.answers = kept.get(name, {})
        quiz.observe(lambda change: kept.update({name: change.new}), "answers")
        return quiz

    def predict(item: str) -> Quiz:
        """One question of the lesson or its deeper notebook, to be answered before its result is shown."""
        found = {entry.id: entry for entry in load(package).items if entry.place != "checkpoint"}
        return remembered(item, Quiz("predict", lesson, [found[check_choice("item", item, list(found))]]))

    def checkpoint() -> Quiz:
        """All questions at the end of the lesson."""
        items = [item for item in load(package).items if item.place == "checkpoint"]
        return remembered("checkpoint", Quiz("checkpoint", lesson, items))

    def flashcards() -> Quiz:
        """The flashcards of the lesson."""
        return remembered("flashcards", Quiz("flashcards", lesson, list(load(package).cards)))

    return predict, checkpoint, flashcards


def _markdown(number: str, entry: Item | Card) -> str:
    """Return one question or card as GitHub Markdown, its answer folded away."""
    if isinstance(entry, Card):
        question, label, answer = _escape(entry.front), "Back", _escape(entry.back)
    elif isinstance(entry, Choice):
        letters = [f"- **{chr(ord('A') + i)}.**" for i in range(len(entry.options))]
        rows = list(zip(letters, entry.options, strict=True))
        question = "\n".join([_escape(entry.text) + "\n", *(f"{a} {_escape(o.text)}" for a, o in rows)])
        label = "Answer, and what each option would mean"
        answer = "\n".join(f"{a} {'✓ *Correct.*' if o.correct else '✗'} {_escape(o.feedback)}" for a, o in rows)
    else:
        question, label = f"{_escape(entry.text)} *(within ± {entry.tolerance:g}{_unit(entry)} is right)*", "Answer"
        misses = [f"- **{miss.value:g}**: ✗ {_escape(miss.message)}" for miss in entry.near_misses]
        answer = "\n".join([f"**{entry.answer:g}{_unit(entry)}**: {_escape(entry.explanation)}\n", *misses])
    return f"{number}{question}\n\n<details><summary>{label}</summary>\n\n{answer}\n\n</details>"


def _unit(entry: Number) -> str:
    return f" {entry.unit}" if entry.unit else ""


def _escape(text: str) -> str:
    """Keep Markdown from reading more into `text` than code, emphasis and line breaks."""
    parts = re.split(f"({_CODE})", text)
    parts[::2] = [re.sub(r"([\[\]<>_~#&])", r"\\\1", part).replace("\n", "<br>") for part in parts[::2]]
    return "".join(parts)
