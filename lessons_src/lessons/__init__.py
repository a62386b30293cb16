"""The lessons, one folder each: what a lesson shows, asks and sets as exercises, and the facts about it.

`lesson.toml` in each folder is the one list of lessons: tables, links and plans are made from it (`make pages`).
"""

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

from lessons_src.checks import refuse


@dataclass(frozen=True)
class Part:
    """A part of a lesson's plan for a class."""

    minutes: int
    what: str


@dataclass(frozen=True)
class Lesson:
    """What `lesson.toml` says of a lesson; name is that of its notebooks, needs are the numbers of other lessons."""

    name: str
    title: str
    question: str
    after: str
    minutes: int
    needs: tuple[str, ...]
    aims: tuple[str, ...]
    plan: tuple[Part, ...]

    @property
    def number(self) -> str:
        """Two digits."""
        return self.name[:2]


def load(path: Path) -> Lesson:
    """The lesson that a file describes. Raises ValueError for missing or unknown keys, and if the plan does not add up.

    The file's folder must be called lesson_NN with the number of its name.
    """
    found = tomllib.loads(path.read_text(encoding="utf-8"))
    expected = {field.name for field in fields(Lesson)}
    if set(found) != expected:
        refuse(f"keys of {path}", sorted(found), f"{sorted(expected)}")
    for key in ("needs", "aims", "plan"):
        if not isinstance(found[key], list):
            refuse(f"{key} in {path}", found[key], "an array")
    for part in found["plan"]:
        if set(part) != {"minutes", "what"}:
            refuse(f"plan in {path}", part, "{ minutes = ..., what = ... }")
    needs, aims = tuple(found["needs"]), tuple(found["aims"])
    lesson = Lesson(**found | {"needs": needs, "aims": aims, "plan": tuple(Part(**part) for part in found["plan"])})
    if path.parent.name != f"lesson_{lesson.number}":
        refuse(f"name in {path}", lesson.name, "a name that begins with the number of its folder")
    if sum(part.minutes for part in lesson.plan) != lesson.minutes:
        refuse(f"minutes in {path}", lesson.minutes, "the sum of the plan's minutes")
    return lesson


def all_lessons() -> tuple[Lesson, ...]:
    """Every lesson, in reading order. Raises ValueError like `load`, and if one needs a lesson that comes later."""
    lessons = tuple(load(path) for path in sorted(Path(__file__).parent.glob("lesson_*/lesson.toml")))
    numbers = [lesson.number for lesson in lessons]
    for place, lesson in enumerate(lessons):
        if not set(lesson.needs) <= set(numbers[:place]):
            refuse(f"needs of lesson {lesson.number}", lesson.needs, f"numbers of lessons before it: {numbers[:place]}")
    return lessons
