"""Everything that the source documents contain has its place in the course, and the place exists: coverage.toml."""

import re
import tomllib
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import NamedTuple

import nbformat
import pytest

from lessons_src import lessons
from lessons_src.exercises import all_tasks
from lessons_src.show import quiz

FOLDER = Path(__file__).parents[2] / "notebooks"
ITEMS = 244
LESSONS = [f"{folder}{number:02}" for folder in ("", "deeper/") for number in range(15)]  # those there will be
COVERAGE = tomllib.loads(Path(__file__).with_name("coverage.toml").read_text(encoding="utf-8"))


class Places(NamedTuple):
    """What there is: headings and words of notebooks by their short names; names of tasks and questions."""

    headings: dict[str, list[str]]
    words: dict[str, str]
    tasks: frozenset[str]
    questions: frozenset[str]

    def has(self, place: str) -> bool:
        kind, _, name = place.partition(":")
        if kind == "task":
            return name in self.tasks
        if kind == "question":
            return name in self.questions
        notebook, mark, text = re.split("([#~])", place, maxsplit=1)
        return text in (self.headings if mark == "#" else self.words).get(notebook, "")


def short(path):
    """05, deeper/05, exercises/05 or errata."""
    return "errata" if path.stem == "errata" else str(path.relative_to(FOLDER).with_name(path.stem[:2]))


@cache
def places():
    headings, words = defaultdict(list), {}
    for path in [*FOLDER.glob("*.ipynb"), *FOLDER.glob("deeper/*.ipynb"), *FOLDER.glob("exercises/*.ipynb")]:
        cells = nbformat.read(path, as_version=4).cells
        prose = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        prose = re.sub(r"```.*?```", "", prose, flags=re.DOTALL)
        headings[short(path)] = re.findall(r"^##+ (.*)$", prose, re.MULTILINE)
        words[short(path)] = " ".join(" ".join(cell.source for cell in cells).split())
    questions = {
        f"{lesson.number}/{item.id}"
        for lesson in lessons.all_lessons()
        for item in quiz.load(f"lessons_src.lessons.lesson_{lesson.number}").items
    }
    return Places(dict(headings), words, frozenset(all_tasks()), frozenset(questions))


def problems(coverage, found):
    """A sentence for whatever is wrong, and no sentence if all is well."""
    said = [f"item {number} is missing" for number in range(1, ITEMS + 1) if str(number) not in coverage]
    for number, item in coverage.items():
        where = f"item {number}, {item.get('name')}"
        if not number.isdecimal() or not 1 <= int(number) <= ITEMS:
            said.append(f"{where}: there are items 1 to {ITEMS}")
        if not item.get("name") or not item.keys() - {"name"} or item.keys() - {"name", "at", "planned", "not_taught"}:
            said.append(f"{where}: it has {sorted(item)}; expected a name, and at, planned or not_taught")
        if "not_taught" in item and not item["not_taught"].strip():
            said.append(f"{where}: not_taught needs a reason")
        said += [f"{where}: {place!r} is not there" for place in item.get("at", ()) if not found.has(place)]
        for lesson in item.get("planned", ()):
            if lesson not in LESSONS:
                said.append(f"{where}: {lesson!r} is none of the lessons {LESSONS}")
            elif lesson in found.words:
                said.append(f"{where}: lesson {lesson} is there; say at which heading")
    return said


def test_every_item_is_there_once_and_so_is_its_place():
    """Whoever renames a heading or a question changes coverage.toml; whoever adds a lesson fills in its places."""
    assert problems(COVERAGE, places()) == []


def test_names_tell_items_apart():
    names = [item["name"] for item in COVERAGE.values()]
    assert len(set(names)) == ITEMS


@pytest.mark.parametrize(
    ("gone", "place"),
    [
        ("heading", "05#The loop"),
        ("words", "00~**Half an hour?**"),
        ("task", "task:ddim_step"),
        ("question", "question:05/practice-one"),
    ],
)
def test_it_turns_red_when_a_place_goes(gone, place):
    found = places()
    name = re.split("[:#~]", place, maxsplit=1)[1]
    if gone == "heading":
        renamed = [heading.replace(name, f"{name}s") for heading in found.headings["05"]]
        found = found._replace(headings=found.headings | {"05": renamed})
    elif gone == "words":
        found = found._replace(words=found.words | {"00": found.words["00"].replace(name, "")})
    elif gone == "task":
        found = found._replace(tasks=found.tasks - {name})
    else:
        found = found._replace(questions=found.questions - {name})
    using = [number for number, item in COVERAGE.items() if place in item.get("at", ())]
    said = problems(COVERAGE, found)
    assert using
    assert [sentence.split(",")[0] for sentence in said] == [f"item {number}" for number in using]
    assert all(repr(place) in sentence for sentence in said)


def test_it_turns_red_when_an_item_goes_or_a_planned_lesson_comes():
    found = places()
    less = {number: item for number, item in COVERAGE.items() if number != "24"}
    assert problems(less, found) == ["item 24 is missing"]
    waiting = COVERAGE | {"24": {"name": "the jump", "planned": ["deeper/14"]}}
    without = {lesson: words for lesson, words in found.words.items() if lesson != "deeper/14"}
    assert not any("item 24," in sentence for sentence in problems(waiting, found._replace(words=without)))
    assert problems(waiting, found) == ["item 24, the jump: lesson deeper/14 is there; say at which heading"]


def test_nothing_is_planned_any_more():
    """All that was to come is there: whoever plans a lesson again changes this test."""
    assert not [number for number, item in COVERAGE.items() if "planned" in item]


def test_leaving_something_out_needs_a_reason():
    found = places()
    assert problems(COVERAGE | {"24": {"name": "the jump", "not_taught": " "}}, found) == [
        "item 24, the jump: not_taught needs a reason"
    ]
