"""Whose a file is: the names that learning platforms give to what learners hand in, and their tables of grades."""

import csv
import io
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from lessons_src.checks import refuse

STUDENT = re.compile(r"[^\W_][\w.@-]{0,63}")  # letters and digits of any language
PLATFORMS = {  # how a file or folder is called that was downloaded; order tells a learner's attempts apart
    "Moodle": re.compile(r"(?P<student>.+?)_(?P<number>\d+)_assignsubmission_file(_.*)?"),
    "Blackboard": re.compile(r".+_(?P<student>[^_]+)_attempt_(?P<order>\d{4}(-\d\d){5})(_.*)?"),
    "Canvas": re.compile(r"(?P<student>[^_]+)(_LATE)?_(?P<number>\d+)_(?P<order>\d+)_.+"),
}
KEYS = {"Identifier": "Participant {number}", "ID": "{number}", "Username": "{student}", "Full name": "{full}"}


class Owner(NamedTuple):
    """What a name says: the learner's id, the platform's number of them, which attempt, and how they write themselves.

    What a name does not say is empty.
    """

    student: str
    number: str = ""
    order: str = ""
    full: str = ""


class Entry(NamedTuple):
    """A file or folder of the inbox, and whose it is; doubtful if it lay in a folder that may be another learner's."""

    path: Path
    owner: Owner
    is_doubtful: bool = False


def owner(name: str, own: re.Pattern[str] | None = None) -> Owner | None:
    """Whose a file or folder of this name is (without .ipynb), or None if it can be nobody's.

    own: a class's own pattern, whose group `student` is the id; names that it does not fit are read as without it. An
    id is at most 64 letters and digits of any language, . _ - and @; spaces become -.
    """
    name = unicodedata.normalize("NFC", name)
    if own is not None and (found := own.fullmatch(name)):
        return _checked(found["student"] or "")
    for platform, pattern in PLATFORMS.items():
        if found := pattern.fullmatch(name):
            said = found.groupdict()
            student = f"{said['student']}_{said['number']}" if platform == "Canvas" else said["student"]
            return _checked(student, said.get("number", ""), said.get("order", "").zfill(20))
    return _checked(name) if " " not in name else None


def _checked(full: str, number: str = "", order: str = "") -> Owner | None:
    student = full.replace(" ", "-")
    return Owner(student, number, order, full) if STUDENT.fullmatch(student) else None


def of_a_platform(name: str) -> bool:
    """Whether a learning platform would call something so."""
    return any(pattern.fullmatch(name) for pattern in PLATFORMS.values())


def pattern(text: str) -> re.Pattern[str]:
    """A class's own pattern. Raises ValueError unless it is a regular expression with a group called student."""
    try:
        found = re.compile(text)
    except re.error as error:
        refuse("names", text, f"a regular expression: {error}")
    if "student" not in found.groupindex:
        refuse("names", text, "a regular expression with a group (?P<student>...)")
    return found


def told_apart(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """Entries by learner, newest attempt first. Learners of one name and several numbers are told apart by those."""
    by_name = defaultdict(list)
    for entry in entries:
        by_name[entry.owner.student].append(entry)
    found = defaultdict(list)
    for student, theirs in by_name.items():
        several = len({entry.owner.number for entry in theirs}) > 1
        for entry in sorted(theirs, key=lambda entry: entry.owner.order, reverse=True):
            found[f"{student}_{entry.owner.number}" if several and entry.owner.number else student].append(entry)
    return dict(found)


def filled(table: str, column: str, scores: Mapping[str, float], owners: Mapping[str, Owner]) -> tuple[str, list[str]]:
    """A platform's own table of grades with scores written into a column, and who is not in it.

    A row is a learner's if its Identifier (Moodle), ID (Canvas), Username (Blackboard) or Full name says so. All else
    stays as it is. Raises ValueError if there is no such column, or none that says who.
    """
    rows = list(csv.DictReader(io.StringIO(table.removeprefix("\ufeff"))))
    head = list(rows[0]) if rows else []
    keys = [key for key in KEYS if key in head]
    if not keys:
        refuse("columns of the table", head, f"one of {', '.join(KEYS)}")
    if column not in head:
        refuse("column", column, f"one of {head}")
    where = {
        (key, KEYS[key].format(**them._asdict())): student
        for student, them in owners.items()
        for key in keys
        if them.number or "{number}" not in KEYS[key]
    }
    missing = set(scores)
    for row in rows:
        student = next((where[key, row[key]] for key in keys if (key, row[key]) in where), None)
        if student in scores:
            row[column] = f"{scores[student]:g}"
            missing.discard(student)
    file = io.StringIO()
    writer = csv.DictWriter(file, head)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue(), sorted(missing)
