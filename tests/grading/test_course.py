"""A class from set-up to export: nothing is lost, nothing is done twice, and nbgrader's own ways keep working."""

import csv
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from concurrent.futures import Executor, Future
from contextlib import nullcontext
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell
from nbgrader.api import Gradebook
from two_tasks import COURSE_TASKS, RIGHT, SOURCE, TASKS, notebook, submission

from lessons_src import exercises
from lessons_src.grading import course as course_module
from lessons_src.grading import sandbox as sandbox_module
from lessons_src.grading.__main__ import main
from lessons_src.grading.course import SOURCES, Course
from lessons_src.grading.grade import grade, modules
from lessons_src.grading.notebook import grade_id, is_check
from lessons_src.grading.sandbox import NotConfined, Sandbox

FULL = 7.0  # of the two tasks; a written answer adds 2, by hand


def hand_in(course, student, content, file="trial.ipynb", name="trial"):
    path = course.root / "inbox" / name / student / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else nbformat.writes(content))


def scores(course, name="trial"):
    """Of everybody who is graded, or can not be."""
    return {row["student"]: row["score"] for row in course.table(name) if "Not graded yet" not in row["remarks"]}


def make(folder, source=SOURCE):
    path = folder / "trial.ipynb"
    path.write_text(nbformat.writes(source))
    return Course.setup(folder / "class", [path])


@pytest.fixture(scope="module")
def released(tmp_path_factory, bubblewrap):
    """A released assignment; making its gradebook takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exercises, "all_tasks", lambda: TASKS)
        made = make(tmp_path_factory.mktemp("released"))
        made.release("trial")
    return made.root


@pytest.fixture
def course(tmp_path, released):
    """A released assignment of its own for a test."""
    shutil.copytree(released, tmp_path / "class")
    return Course(tmp_path / "class")


def test_a_class_from_release_to_export(course):
    for student, content in {
        "right": submission(),
        "half": submission(target="pass"),
        "empty": "",
        "blank": notebook({}, False),
    }.items():
        hand_in(course, student, content)
    notes = course.collect("trial")
    assert (notes["right"], notes["blank"]) == ([], [])
    assert "cannot be read" in notes["empty"][0]
    lines = []
    assert course.grade("trial", tell=lines.append) == {}
    told = sorted(line.split(":")[0] for line in lines if ": " in line)
    assert told == ["blank", "empty", "half", "right"]
    assert scores(course) == {"right": FULL, "half": 3.0, "empty": 0.0, "blank": 0.0}
    with course.export("trial").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["student"] for row in rows] == ["blank", "empty", "half", "right"]
    assert rows[2] | {"remarks": ""} == {
        "student": "half",
        "score": "3.0",
        "max": "9.0",
        "halve": "3.0",
        "target": "0.0",
        "why": "0.0",
        "remarks": "",
    }
    assert "cannot be read" in rows[1]["remarks"]
    course.feedback("trial")
    assert len(list((course.root / "feedback").glob("*/trial/trial.html"))) == 4


def test_what_the_course_no_longer_has_is_refused_by_name(course):
    """As in a class that an earlier version of the course released."""
    hand_in(course, "ann", submission())
    course.collect("trial")
    course.grade("trial")
    kept = "import torch, lessons_src.oracle\nfrom lessons_src import schedules\nfrom lessons_src.process import *\n"
    old = "from lessons_src import old_explorers\nfrom lessons_src.samplers import ddim, old_ddim\n"
    old += "import lessons_src.old.deep\nfrom lessons_src.old import deep\n"
    for extra in (kept, kept + old):
        for folder in ("release", "source"):
            path = course.root / folder / "trial" / "trial.ipynb"
            made = nbformat.read(path, as_version=4)
            made.cells[1].source = extra + "from lessons_src.exercises import check"
            nbformat.write(made, path)
        course.collect("trial")
        if extra == kept:
            assert course.grade("trial") == {}
    expected = (
        "trial imports lessons_src.old, lessons_src.old_explorers, lessons_src.samplers.old_ddim, which this version "
        "of the course does not have: copy its new notebook into source/trial, or mend yours, then release and collect "
        "again"
    )
    for step in (course.release, course.grade):
        with pytest.raises(ValueError, match=f"^{expected}$"):
            step("trial")
    assert f"Not to be graded now: {expected}." in course.table("trial")[0]["remarks"]
    assert main(["grade", "trial", "--folder", str(course.root)]) == 1
    assert scores(course) == {"ann": FULL}


def test_a_cell_that_is_no_plain_python_hinders_no_grading(tmp_path):
    source = nbformat.from_dict(json.loads(json.dumps(SOURCE)))
    source.cells[1].source = "%matplotlib inline\n" + source.cells[1].source
    source.cells.insert(2, new_code_cell("from . import nothing"))
    assert modules(nbformat.writes(source)) == set()


def test_learners_get_neither_solutions_nor_hidden_checks(course):
    text = (course.root / "release" / "trial" / "trial.ipynb").read_text()
    assert "HIDDEN" not in text
    assert "empty corner" not in text


FAULTS = {
    "points": (lambda nb: check(nb, "halve").metadata["nbgrader"].update(points=5), "points of halve is 5; expected 3"),
    "no points": (
        lambda nb: check(nb, "halve").metadata["nbgrader"].pop("points"),
        "points of halve is None; expected 3",
    ),
    "no task": (lambda nb: check(nb, "halve").metadata["nbgrader"].update(grade_id="third"), "grade_id is 'third'"),
    "hidden check with a slip": (
        lambda nb: check(nb, "halve").update(source="check(halve, [Case('c', lambda g: (1.0,))])"),
        "check cell of halve stopped with NameError: name 'Case' is not defined",
    ),
    "hidden check that is no Python": (
        lambda nb: check(nb, "halve").update(source="check(halve"),
        "check cell of halve stopped with SyntaxError",
    ),
    "hidden case that cannot be drawn": (
        lambda nb: check(nb, "halve").update(
            source="from lessons_src.exercises import Case\ncheck(halve, [Case('c', lambda g: g.no_such())])"
        ),
        "a case of halve stopped with AttributeError",
    ),
    "hidden check that is wrong": (
        lambda nb: check(nb, "halve").update(
            source="from lessons_src.exercises import Case\ncheck(halve, [Case('c', lambda g: ('text',))])"
        ),
        "points of halve",
    ),
}


def check(source, name):
    return next(cell for cell in source.cells if grade_id(cell) == name)


@pytest.mark.parametrize(("break_it", "expected"), FAULTS.values(), ids=FAULTS)
def test_release_refuses_an_assignment_that_is_not_right(tmp_path, break_it, expected):
    source = nbformat.from_dict(json.loads(json.dumps(SOURCE)))
    break_it(source)
    with pytest.raises((ValueError, TypeError), match=expected):
        make(tmp_path, source).release("trial")
    assert not (tmp_path / "class" / "release").exists()


def test_what_is_done_is_not_done_again(course, monkeypatch):
    hand_in(course, "ann", submission())
    course.collect("trial")
    course.grade("trial")
    before = (course.root / "gradebook.db").read_bytes()
    monkeypatch.setattr(course_module, "grade_anywhere", None)
    monkeypatch.setattr(Course, "_nbgrader", None)
    course.collect("trial")
    assert course.grade("trial") == {}
    assert (course.root / "gradebook.db").read_bytes() == before
    Course.setup(course.root, [course.root / "source" / "trial" / "trial.ipynb"])
    assert Course(course.root).students("trial") == ["ann"]


def test_only_what_changed_is_graded_again(course, monkeypatch):
    graded = []
    monkeypatch.setattr(course_module, "grade", lambda job, box: graded.append(job) or grade(job, box))
    hand_in(course, "ann", submission())
    hand_in(course, "bob", submission(halve=""))
    course.collect("trial")
    course.grade("trial")
    hand_in(course, "bob", submission(halve=RIGHT["halve"] + "  # now"))
    course.collect("trial")
    course.grade("trial")
    assert ["# now" in job.notebook for job in graded] == [False, False, True]
    assert scores(course) == {"ann": FULL, "bob": FULL}


def test_a_result_is_entered_while_the_others_still_run(course, monkeypatch):
    entered = []

    def patient(job, box):
        if "# slow" in job.notebook:
            end = time.monotonic() + 20
            while scores(course) != {"bob": FULL} and time.monotonic() < end:
                time.sleep(0.1)
            entered.append(scores(course))
        return grade(job, box)

    monkeypatch.setattr(course_module, "grade", patient)
    hand_in(course, "ann", submission(halve=RIGHT["halve"] + "  # slow"))
    hand_in(course, "bob", submission())
    course.collect("trial")
    assert course.grade("trial") == {}
    assert entered == [{"bob": FULL}]
    assert scores(course) == {"ann": FULL, "bob": FULL}


def test_a_damaged_result_is_made_again(course):
    hand_in(course, "ann", submission())
    course.collect("trial")
    course.grade("trial")
    stored = course._stored("ann", course._job("trial", "ann"))
    stored.write_text("{")
    shutil.rmtree(course.root / "autograded")
    assert course.grade("trial") == {}
    assert json.loads(stored.read_text())["scores"] == {"halve": [3.0, 3], "target": [4.0, 4]}


def set_by_hand(course, student, name, score):
    with Gradebook(f"sqlite:///{course.root / 'gradebook.db'}") as gradebook:
        grade = gradebook.find_grade(name, "trial", "trial", student)
        grade.manual_score, grade.needs_manual_grade = score, False
        gradebook.db.commit()


def test_the_seed_is_secret_and_new_for_a_new_submission(course):
    hand_in(course, "ann", submission())
    hand_in(course, "bob", submission(halve="pass"))
    course.collect("trial")
    ann, bob = (course._job("trial", student).seed for student in ("ann", "bob"))
    assert ann != bob
    assert course._job("trial", "ann").seed == ann
    (course.root / ".grading" / "secret").write_text("another")
    assert course._job("trial", "ann").seed != ann
    for folder in (course.root, course.root / ".grading"):
        assert folder.stat().st_mode & 0o077 == 0


def test_a_score_set_by_hand_outlives_a_regrade(course):
    hand_in(course, "ann", submission(target="def target(x, n):\n    return x"))
    course.collect("trial")
    course.grade("trial")
    set_by_hand(course, "ann", "target", 3.5)
    hand_in(course, "ann", submission(target="pass"))
    course.collect("trial")
    course.grade("trial")
    [row] = course.table("trial")
    assert row["target"] == 3.5
    assert "target was set by hand (automatic: 0)." in row["remarks"]


def test_a_score_set_by_hand_is_not_above_the_maximum(course):
    hand_in(course, "ann", submission())
    course.collect("trial")
    course.grade("trial")
    set_by_hand(course, "ann", "halve", 300)
    assert scores(course) == {"ann": FULL}


def test_a_written_answer_waits_for_a_person(course):
    def write(made):
        made.cells[-1].source = "Because."

    hand_in(course, "ann", submission(write))
    course.collect("trial")
    course.grade("trial")
    assert "why waits for a person" in course.table("trial")[0]["remarks"]
    set_by_hand(course, "ann", "why", 2)
    assert scores(course) == {"ann": 9.0}
    assert course.table("trial")[0]["remarks"] == "why was set by hand."


def test_what_collect_did_not_bring_in_is_not_graded(course):
    for student in ("ann", "bob", "eve"):
        hand_in(course, student, submission())
    course.collect("trial")
    forged = submission()
    check(forged, "target").metadata["nbgrader"]["points"] = 1000
    (course.root / "submitted" / "eve" / "trial" / "trial.ipynb").write_text(nbformat.writes(forged))
    failed = course.grade("trial")
    assert list(failed) == ["eve"]
    assert "run it again" in failed["eve"]
    assert scores(course) == {"ann": FULL, "bob": FULL}
    (course.root / "release" / "trial" / "trial.ipynb").write_text(nbformat.writes(SOURCE))
    assert list(course.grade("trial")) == ["ann", "bob", "eve"]


def test_the_table_says_which_scores_are_of_an_earlier_state(course):
    def outdated():
        said = ("Handed in again", "Released again")
        return [row["student"] for row in course.table("trial") if any(words in row["remarks"] for words in said)]

    hand_in(course, "ann", submission())
    hand_in(course, "bob", submission())
    course.collect("trial")
    course.grade("trial")
    assert outdated() == []
    hand_in(course, "ann", submission(halve="pass"))
    course.collect("trial")
    assert outdated() == ["ann"]
    (course.root / "release" / "trial" / "trial.ipynb").write_text(nbformat.writes(SOURCE))
    assert outdated() == ["ann", "bob"]


def test_a_release_that_nbgrader_refuses_leaves_the_one_before(course):
    hand_in(course, "ann", submission())
    course.collect("trial")
    course.grade("trial")
    release = course.root / "release" / "trial" / "trial.ipynb"
    before, source = release.read_text(), course.root / "source" / "trial" / "trial.ipynb"
    longer = nbformat.from_dict(json.loads(json.dumps(SOURCE)))
    longer.cells.append(nbformat.from_dict(json.loads(json.dumps(SOURCE.cells[-1]))))
    longer.cells[-1].metadata["nbgrader"]["grade_id"] = longer.cells[-1].id = "another"
    source.write_text(nbformat.writes(longer))
    with pytest.raises(RuntimeError, match="trial has submissions, so that graded cells can no longer be added"):
        course.release("trial")
    assert release.read_text() == before
    source.write_text(nbformat.writes(SOURCE))
    assert course.grade("trial") == {}
    assert scores(course) == {"ann": FULL}


def test_nbgrader_complains_of_nothing(course, caplog):
    hand_in(course, "ann", submission())
    course.release("trial")
    course.collect("trial")
    course.grade("trial")
    course.feedback("trial")
    assert [record.message for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")] == []


def test_feedback_calls_tasks_by_their_names(course):
    hand_in(course, "ann", submission())
    course.collect("trial")
    course.grade("trial")
    page = (course.feedback("trial") / "ann" / "trial" / "trial.html").read_text()
    assert '<a href="#halve">halve</a> (Score: 3.0 / 3.0)' in page
    assert "Test cell" not in page


def test_a_learner_is_forgotten_whole(course):
    for student in ("ann", "bob"):
        hand_in(course, student, submission(halve=f"{RIGHT['halve']}  # {student}"))
    (course.root / "inbox" / "trial" / "ann.ipynb").write_text(nbformat.writes(submission()))
    (course.root / "inbox" / "another" / "ann.ipynb").mkdir(parents=True)
    course.collect("trial")
    course.grade("trial")
    course.feedback("trial")
    assert main(["forget", "ann", "--folder", str(course.root)]) == 0
    kept = [
        path
        for path in course.root.rglob("*")
        if "ann" in path.name or (path.is_file() and b"ann" in path.read_bytes())
    ]
    assert [path for path in kept if path.name != "gradebook.db"] == []
    assert course.collect("trial") == {"bob": []}
    assert course.grade("trial") == {}
    assert scores(course) == {"bob": FULL}
    with pytest.raises(ValueError, match=r"student is '\.\./bob'; expected a learner of whom something is kept"):
        course.forget("../bob")


def test_slips_on_the_command_line_are_named(course, capsys):
    folder = ["--folder", str(course.root)]
    assert main(["collect", "trail", *folder]) == 1
    assert "assignment is 'trail'; expected one of trial" in capsys.readouterr().err
    shutil.rmtree(course.root / "release")
    assert main(["collect", "trial", *folder]) == 1
    assert "expected one that is released: release trial" in capsys.readouterr().err


def test_written_answers_that_wait_are_named_with_feedback(course, capsys):
    for student in ("ann", "bob"):
        hand_in(course, student, submission())
    course.collect("trial")
    course.grade("trial")
    set_by_hand(course, "bob", "why", 1)
    assert main(["feedback", "trial", "--folder", str(course.root)]) == 0
    said = capsys.readouterr().out
    assert "counted as 0 so far: ann\n" in said
    assert "next: send every learner theirs" in said


def test_a_file_beside_a_folder_is_taken_and_said_so(course):
    inbox = course.root / "inbox" / "trial"
    hand_in(course, "ann", submission(halve="pass"))
    (inbox / "ann.ipynb").write_text(nbformat.writes(submission()))
    assert course.collect("trial") == {"ann": ["Of 2 notebooks 'ann.ipynb' is graded; left out: 'trial.ipynb'."]}
    course.grade("trial")
    assert scores(course) == {"ann": FULL}


def test_a_fault_of_the_grader_costs_nobody_else(course, monkeypatch):
    def fail_for_one(job, box):
        if "# odd" in job.notebook:
            raise KeyError("fault")
        return grade(job, box)

    monkeypatch.setattr(course_module, "grade", fail_for_one)
    hand_in(course, "ann", submission())
    hand_in(course, "bob", submission(halve=RIGHT["halve"] + "  # odd"))
    course.collect("trial")
    assert course.grade("trial") == {"bob": "KeyError: 'fault'"}
    assert scores(course) == {"ann": FULL}
    monkeypatch.setattr(course_module, "grade", grade)
    assert course.grade("trial") == {}
    assert scores(course) == {"ann": FULL, "bob": FULL}


def test_the_inbox_may_hold_anything(course, tmp_path):
    inbox = course.root / "inbox" / "trial"
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "trial.ipynb").write_text(nbformat.writes(submission()))
    (inbox / "linked").symlink_to(outside)
    (inbox / "linked.ipynb").symlink_to(outside / "trial.ipynb")
    (inbox / ".DS_Store").write_text("x")
    (inbox / "class.zip").write_text("x")
    (inbox / "=cmd()").mkdir()
    (inbox / "a b").mkdir()
    (inbox / "trial.ipynb").write_text(nbformat.writes(submission()))
    os.mkfifo(inbox / "pipe.ipynb")
    (inbox / "ann.ipynb").write_text(nbformat.writes(submission()))
    (inbox / "bob").mkdir()
    (inbox / "bob" / "trial.ipynb").symlink_to(outside / "trial.ipynb")
    notes = course.collect("trial")
    assert course.students("trial") == ["ann", "bob"]
    assert sorted(notes) == sorted(
        [
            "'linked'",
            "'linked.ipynb'",
            "'.DS_Store'",
            "'class.zip'",
            "'=cmd()'",
            "'a b'",
            "'pipe.ipynb'",
            "'trial.ipynb'",
            "ann",
            "bob",
        ]
    )
    course.grade("trial")
    assert scores(course) == dict.fromkeys(notes, 0.0) | {"ann": FULL}
    assert all("Left out: " in row["remarks"] for row in course.table("trial") if row["student"].startswith("'"))


def test_what_cannot_be_read_is_told_and_stops_nobody(course, unreadable, monkeypatch, capsys):
    """A file or folder that is closed, one that another program moved away, one that only a fault explains."""
    inbox = course.root / "inbox" / "trial"
    for student in ("ann", "bob", "cid", "dee", "fay"):
        hand_in(course, student, submission(halve=f"{RIGHT['halve']}  # {student}"))
    unreadable(inbox / "bob" / "trial.ipynb")
    unreadable(inbox / "cid")
    (inbox / "eve").mkdir()
    (inbox / "eve" / os.fsdecode(b"\xff.ipynb")).write_text(nbformat.writes(submission()))
    Path(os.fsdecode(os.fsencode(inbox) + b"/\xe9va.ipynb")).write_text("{}")
    (inbox / "gus.ipynb").symlink_to(inbox / "nowhere")
    (inbox / "hal.ipynb").mkdir()
    monkeypatch.setattr(course_module, "rebuild", fail_for("# dee", course_module.rebuild))
    is_file = Path.is_file
    monkeypatch.setattr(Path, "is_file", lambda path: os.stat(path / "gone") if "fay" in path.parts else is_file(path))
    assert main(["collect", "trial", "--folder", str(course.root)]) == 0
    said = capsys.readouterr().out.splitlines()
    told = {line.split(": ")[0]: line.split(": ", 1)[1] for line in said if not line.startswith("next")}
    assert told.pop("ann") == "complete"
    assert {name: told[name] for name in ("bob", "cid", "dee", "fay")} == {
        "bob": "What was handed in cannot be read (Permission denied): hand it in again.",
        "cid": "What was handed in cannot be read (Permission denied): hand it in again.",
        "dee": "What was handed in cannot be read (KeyError): hand it in again.",
        "fay": "What was handed in cannot be read (Not a directory): hand it in again.",
    }
    assert "'\\udcff.ipynb'; it was recognised by its cells" in told["eve"]
    assert [told[name].split(":")[0] for name in ("'\\udce9va.ipynb'", "'gus.ipynb'")] == ["Left out"] * 2
    assert "No notebook was handed in" in told["hal"]
    course.grade("trial")
    full = {"ann": FULL, "eve": FULL}
    assert scores(course) == dict.fromkeys(told, 0.0) | full
    assert "Permission denied" in next(row for row in course.table("trial") if row["student"] == "bob")["remarks"]


def fail_for(words, function):
    """The function, but for what contains `words`."""

    def attempt(content, *arguments):
        if words.encode() in content:
            raise KeyError("fault")
        return function(content, *arguments)

    return attempt


def test_a_collected_file_that_is_gone_or_damaged_stops_nobody(course):
    for student in ("ann", "bob", "cid"):
        hand_in(course, student, submission())
    course.collect("trial")
    course.grade("trial")
    (course.root / "submitted" / "ann" / "trial" / "trial.ipynb").unlink()
    (course.root / "submitted" / "bob" / "trial" / "trial.ipynb").write_text("[]")
    assert list(course.grade("trial")) == ["bob"]
    rows = {row["student"]: row for row in course.table("trial")}
    assert [row["score"] for row in rows.values()] == [FULL] * 3
    for student in ("ann", "bob"):
        assert "Not as `collect` left it: collect and grade." in rows[student]["remarks"]


def test_who_handed_in_nothing_is_in_the_table(course):
    hand_in(course, "ann", submission())
    course.collect("trial")
    course.grade("trial")
    with Gradebook(f"sqlite:///{course.root / 'gradebook.db'}") as gradebook:
        gradebook.add_student("zoe")
    assert course.table("trial")[1]["remarks"] == "Nothing was handed in."
    assert scores(course) == {"ann": FULL, "zoe": 0.0}


def test_who_is_not_graded_yet_is_in_the_table(course):
    for student in ("ann", "bob", "cid"):
        hand_in(course, student, submission())
        if student != "cid":
            course.collect("trial")
        if student == "ann":
            course.grade("trial")
    remarks = {row["student"]: row["remarks"] for row in course.table("trial")}
    assert remarks == {
        "ann": "why waits for a person.",
        "bob": "Not graded yet: collect and grade.",
        "cid": "Not graded yet: collect and grade.",
    }
    shutil.rmtree(course.root / "inbox")
    assert [row["student"] for row in course.table("trial")] == ["ann", "bob"]


def test_feedback_writes_what_changed(course):
    pages = course.root / "feedback"

    def written():
        course.feedback("trial")
        now = {path.parts[-3]: path.stat().st_mtime_ns for path in pages.glob("*/trial/trial.html")}
        changed = {student for student in now if now[student] != before.get(student)}
        before.update(now)
        return changed

    before = {}
    with pytest.raises(ValueError, match=r"assignment is 'trial'; expected one with a graded submission: grade trial"):
        written()
    for student in ("ann", "bob", "cid"):
        hand_in(course, student, submission())
    course.collect("trial")
    course.grade("trial")
    assert written() == {"ann", "bob", "cid"}
    assert written() == set()
    set_by_hand(course, "bob", "why", 1)
    assert written() == {"bob"}
    with Gradebook(f"sqlite:///{course.root / 'gradebook.db'}") as gradebook:
        gradebook.find_comment("why", "trial", "trial", "cid").manual_comment = "Well said."
        gradebook.db.commit()
    assert written() == {"cid"}
    assert "Well said." in (pages / "cid" / "trial" / "trial.html").read_text()
    hand_in(course, "ann", submission(halve="pass"))
    course.collect("trial")
    course.grade("trial")
    (pages / "bob" / "trial" / "trial.html").unlink()
    assert written() == {"ann", "bob"}


def test_forgetting_has_nobody_else_graded_again_and_nobody_forgotten_in_vain(course, monkeypatch):
    for student in ("ann", "bob"):
        hand_in(course, student, submission())
    course.collect("trial")
    course.grade("trial")
    monkeypatch.setattr(course_module, "grade_anywhere", None)
    course.forget("ann")
    shutil.rmtree(course.root / "autograded")
    assert course.grade("trial") == {}
    assert scores(course) == {"bob": FULL}
    for name in ("ann", "nobody-here"):
        with pytest.raises(ValueError, match=f"student is '{name}'; expected a learner of whom something is kept"):
            course.forget(name)
    (course.root / "inbox" / "trial" / "cid.ipynb").symlink_to(course.root / "gradebook.db")
    course.forget("cid")
    assert (course.root / "gradebook.db").exists()
    assert list(scores(course)) == ["bob"]


class Lost(Executor):
    """A cluster whose scheduler is lost after the first submission."""

    def __init__(self):
        self.found = []

    def submit(self, function, *arguments):
        future = Future()
        if self.found:
            future.cancel()
            future.set_running_or_notify_cancel()
        else:
            future.set_result(function(*arguments))
        self.found.append(future)
        return future


def test_a_lost_scheduler_is_one_sentence_and_the_run_goes_on_later(course, monkeypatch, capsys):
    for number, student in enumerate(("ann", "bob", "cid")):
        hand_in(course, student, submission(halve=f"{RIGHT['halve']}  # {number}"))
    course.collect("trial")
    with monkeypatch.context() as patch:
        patch.setattr(course_module, "_executor", lambda scheduler, workers: nullcontext(Lost()))
        assert main(["grade", "trial", "--dask", "tcp://there:1", "--folder", str(course.root)]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "the Dask scheduler tcp://there:1 is lost: what has run is entered" in said
    assert scores(course) == {"ann": FULL}
    monkeypatch.setattr(course_module, "grade", lambda job, box: grade(job, box) if "# 0" not in job.notebook else None)
    assert course.grade("trial") == {}
    assert scores(course) == dict.fromkeys(("ann", "bob", "cid"), FULL)


def test_a_gradebook_that_was_deleted_is_made_anew(course, capsys):
    hand_in(course, "ann", submission())
    course.collect("trial")
    course.grade("trial")
    (course.root / "gradebook.db").unlink()
    for step in ("grade", "export", "similar"):
        assert main([step, "trial", "--folder", str(course.root)]) == 1
        said = capsys.readouterr().err
        assert "gradebook.db does not know trial: release it again" in said
        assert said.count("\n") == 1
    course.release("trial")
    course.collect("trial")
    assert course.grade("trial") == {}
    assert scores(course) == {"ann": FULL}


def test_a_table_that_finds_no_room_leaves_the_one_before(course):
    hand_in(course, "ann", submission())
    course.collect("trial")
    course.grade("trial")
    before = course.export("trial").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            course.export("trial")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (course.root / "grades_trial.csv").read_bytes() == before
    assert list(course.root.glob("*grades_trial*")) == [course.root / "grades_trial.csv"]


def test_no_workers_are_refused(course):
    hand_in(course, "ann", submission())
    course.collect("trial")
    with pytest.raises(ValueError, match="workers is 0; expected"):
        course.grade("trial", workers=0)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nowhere", "tcp://127.0.0.1"])
def test_a_scheduler_that_does_not_answer_is_one_sentence(course, capsys, address):
    dask = pytest.importorskip("dask")
    pytest.importorskip("distributed")
    hand_in(course, "ann", submission())
    course.collect("trial")
    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
        assert main(["grade", "trial", "--dask", address, "--folder", str(course.root)]) == 1
    said = capsys.readouterr().err
    assert f"no Dask scheduler answers at {address}: " in said
    assert said.count("\n") == 1


def test_a_second_grader_is_kept_out(course):
    hand_in(course, "ann", submission())
    course.collect("trial")
    with course._alone(), pytest.raises(RuntimeError, match="another process"):
        course.grade("trial")


def test_nbgrader_by_itself_grades_in_the_sandbox_too(course):
    hand_in(course, "ann", submission())
    course.collect("trial")
    course._nbgrader("autograde", "trial", "ann")
    assert scores(course) == {"ann": FULL}


def test_without_bubblewrap_nothing_is_run(course, monkeypatch):
    monkeypatch.setattr(sandbox_module.shutil, "which", lambda name: None)
    monkeypatch.setattr(course_module, "_sandbox", Sandbox)
    hand_in(course, "ann", submission())
    course.collect("trial")
    with pytest.raises(NotConfined, match=r"bubblewrap is not installed.*--unconfined"):
        course.grade("trial")
    with pytest.raises(RuntimeError, match="bubblewrap is not installed"):
        course._nbgrader("autograde", "trial", "ann")
    assert scores(course) in ({}, {"ann": 0.0})
    course.grade("trial", confined=False)
    assert scores(course) == {"ann": FULL}


class Page(HTMLParser):
    """What a browser would run: script elements, event handlers, and links that are programs."""

    def __init__(self, text):
        super().__init__()
        self.scripts, self.active = 0, []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.scripts += tag == "script"
        self.active += [(tag, k, v) for k, v in attributes if k.startswith("on") or "javascript:" in (v or "")]
        self.active += [(tag,)] if tag in ("iframe", "object", "embed", "svg", "form", "base", "meta-refresh") else []


ATTACKS = """
from IPython.display import HTML, Javascript, Markdown, SVG, display
display(HTML('<script>alert(1)</script><img src=x onerror=alert(1)>'), Javascript('alert(1)'))
display(Markdown('<script>alert(1)</script>'), SVG('<svg onload="alert(1)"/>'))
display({'image/png': 'x" onerror="alert(1)', 'text/plain': '<script>alert(1)</script>'}, raw=True)
print('<script>alert(1)</script></pre><img src=x onerror=alert(1)>')
raise ValueError('<img src=x onerror=alert(1)>')
"""


def test_a_feedback_page_runs_nothing_of_the_learners(course):
    def attack(made):
        made.cells[
            -1
        ].source = "</pre><script>alert(1)</script>\n\n$$\\href{javascript:alert(1)}{x}$$\n\n[x](javascript:alert(1))"
        made.cells.insert(1, new_markdown_cell("<svg onload=alert(1)>\n\n</pre><form action=x>"))
        made.cells.insert(2, new_code_cell(ATTACKS))
        made.cells[3].attachments = {"a.svg": {"image/svg+xml": "<svg onload=alert(1)>"}}

    leak = "class E(Exception): pass\nE.__name__ = '<script>'\n"
    leak += "def target(x, n):\n    raise E('<img src=x onerror=alert(1)>')"
    hand_in(course, "mallory", submission(attack, target=leak), "<img src=x onerror=alert(1)>.ipynb")
    hand_in(course, "ann", submission())
    course.collect("trial")
    course.grade("trial")
    course.feedback("trial")
    hostile, honest = (
        Page((course.root / "feedback" / student / "trial" / "trial.html").read_text())
        for student in ("mallory", "ann")
    )
    assert hostile.scripts == honest.scripts
    assert hostile.active == honest.active
    assert "alert(1)" in (course.root / "feedback" / "mallory" / "trial" / "trial.html").read_text()


def test_feedback_tells_reasons_and_no_hidden_check(course):
    hand_in(course, "ann", submission(target="def target(x, n):\n    return x + n"))
    course.collect("trial")
    course.grade("trial")
    page = (course.feedback("trial") / "ann" / "trial" / "trial.html").read_text()
    assert "This is a sum where a product belongs." in page
    assert "hidden case 1" in page
    assert "empty corner" not in page
    assert "HIDDEN" not in page


# The rest runs in processes of its own, with the course's own tasks.

REAL = SOURCES / "01_forward_shortcut.ipynb"


def real_class(folder, students=4, delay=0.0):
    course = Course.setup(folder, [REAL])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exercises, "all_tasks", COURSE_TASKS)
        course.release(REAL.stem)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "lessons_src.grading"]

    def run(*arguments):
        done = subprocess.run(
            [*command, *arguments, "--folder", str(folder)], capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    source = nbformat.read(str(REAL), as_version=4)
    released = nbformat.read(str(folder / "release" / REAL.stem / REAL.name), as_version=4)
    right = {grade_id(cell): cell.source for cell in source.cells if grade_id(cell)}
    for number in range(students):
        for cell in released.cells:
            if cell.metadata.get("nbgrader", {}).get("solution"):
                cell.source = f"{right[grade_id(cell)]}\n# {number}"
        first = new_code_cell(f"import time\ntime.sleep({delay * number})")
        hand_in(course, f"s{number}", nbformat.v4.new_notebook(cells=[first, *released.cells]), REAL.name, REAL.stem)
    course.collect(REAL.stem)
    maximum = float(sum(cell.metadata["nbgrader"]["points"] for cell in source.cells if is_check(cell)))
    return course, run, maximum


def first_result(course):
    """Wait for it."""
    for _ in range(600):
        if list(course.root.glob(".grading/results/*/*.json")):
            return
        time.sleep(0.1)
    pytest.fail("no result in a minute")


@pytest.mark.slow
def test_a_grader_that_is_killed_goes_on_where_it_was(tmp_path, bubblewrap):
    course, run, maximum = real_class(tmp_path / "class", students=3, delay=2)
    command = [
        sys.executable,
        "-m",
        "lessons_src.grading",
        "grade",
        REAL.stem,
        "--folder",
        str(course.root),
        "--workers",
        "1",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    first_result(course)
    family = list(sandbox_module._family(process.pid))
    assert len(family) > 2
    process.kill()
    process.wait()
    done = {path: path.stat().st_mtime_ns for path in course.root.glob(".grading/results/*/*.json")}
    assert 0 < len(done) < 3
    for _ in range(100):  # what it had started ends with it
        if not any(Path(f"/proc/{pid}").exists() for pid in family):
            break
        time.sleep(0.1)
    assert not [pid for pid in family if Path(f"/proc/{pid}").exists()]
    run("grade", REAL.stem)
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert scores(course, REAL.stem) == dict.fromkeys(("s0", "s1", "s2"), maximum)


@pytest.mark.slow
def test_a_cluster_gives_the_same_scores(tmp_path, bubblewrap):
    distributed = pytest.importorskip("distributed")
    course, run, maximum = real_class(tmp_path / "class", students=2)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
    ) as cluster:
        run("grade", REAL.stem, "--dask", cluster.scheduler_address)
    assert scores(course, REAL.stem) == dict.fromkeys(("s0", "s1"), maximum)


@pytest.mark.slow
def test_the_demo_class_gets_what_it_should(tmp_path, bubblewrap):
    command = [sys.executable, "-m", "lessons_src.grading", "demo", "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "25 submissions; scores other than expected: none" in done.stdout


def test_the_command_line_says_what_is_wrong(tmp_path, capsys):
    assert main(["grade", "trial", "--folder", str(tmp_path)]) == 1
    assert "expected the folder of a class; `setup` makes one" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "collect" in capsys.readouterr().out


def test_downloads_of_platforms_are_taken_as_they_come(course):
    """Moodle's folders inside the folder they were unpacked into, Canvas's and Blackboard's files, capitals."""
    inbox, content = course.root / "inbox" / "trial", nbformat.writes(submission())
    worse = nbformat.writes(submission(halve="pass"))
    for path, text in {
        "CS1-trial-77/Lee Ann_4711_assignsubmission_file/My work.IPYNB": content,
        "leeann_4712_99_trial.ipynb": worse,
        "leeann_LATE_4712_100_trial-1.ipynb": content,
        "DDIM_la1_attempt_2026-11-27-10-15-30_trial.ipynb": worse,
        "DDIM_la1_attempt_2026-11-28-09-00-00_trial.ipynb": content,
        "DDIM_la1_attempt_2026-11-28-09-00-00.txt": "Name: Ann",
        "Łukasz/homework/trial.ipynb": content,
    }.items():
        (inbox / path).parent.mkdir(parents=True, exist_ok=True)
        (inbox / path).write_text(text)
    notes = course.collect("trial")
    everybody = ["Lee-Ann", "la1", "leeann_4712", "Łukasz"]
    assert course.students("trial") == everybody
    assert sorted(set(notes) - set(everybody)) == ["'DDIM_la1_attempt_2026-11-28-09-00-00.txt'"]
    assert notes["leeann_4712"] == [
        "Of 2 notebooks 'leeann_LATE_4712_100_trial-1.ipynb' is graded; left out: 'leeann_4712_99_trial.ipynb'."
    ]
    course.grade("trial")
    assert {student: score for student, score in scores(course).items() if student in everybody} == dict.fromkeys(
        everybody, FULL
    )
    table = course.root / "worksheet.csv"
    table.write_text("Identifier,Full name,Grade\nParticipant 4711,Lee Ann,\nParticipant 8,Bob,\n")
    path, missing = course.fill("trial", table, "Grade")
    assert path.read_text().splitlines()[1:] == [f"Participant 4711,Lee Ann,{FULL:g}", "Participant 8,Bob,"]
    assert missing == ["la1", "leeann_4712", "Łukasz"]


def test_nobody_hands_in_for_others_unnoticed(course):
    """A folder of an inbox may be a learner's, who may put names of others into it, and later dates."""
    inbox = course.root / "inbox" / "trial"
    for path, made in {
        "ann/my work.ipynb": submission(),
        "mallory/HW_ann_attempt_2999-01-01-00-00-00_trial.ipynb": submission(halve="pass"),
        "mallory/HW_bob_attempt_2999-01-01-00-00-00/trial.ipynb": submission(halve="pass"),
    }.items():
        (inbox / path).parent.mkdir(parents=True, exist_ok=True)
        (inbox / path).write_text(nbformat.writes(made))
    notes = course.collect("trial")
    told = "It lay in the folder 'mallory', beside learners' own: see whose it is."
    assert (told in notes["ann"], told in notes["bob"]) == (False, True)
    course.grade("trial")
    assert scores(course)["ann"] == FULL


def test_pages_show_every_cell_as_plain_python(course):
    """IPython's lexer reads the cell of a magic as that language, and takes minutes for some texts."""
    notebook = submission()
    notebook.cells.append(new_code_cell("%%html\n<b class='x'>"))
    hand_in(course, "ann", notebook)
    course.collect("trial")
    course.grade("trial")
    page = (course.feedback("trial") / "ann" / "trial" / "trial.html").read_text()
    assert "%%" in page
    assert 'class="nt"' not in page, "a tag of HTML"
    assert 'class="k">def' in page


def test_ctrl_c_is_one_sentence(course, capsys, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(Course, "collect", interrupted)
    assert main(["collect", "trial", "--folder", str(course.root)]) == 130
    assert capsys.readouterr().err == "interrupted: what is done is kept, and the same command goes on from there\n"


def test_commands_are_found_while_and_after_grading(course, monkeypatch):
    """nbgrader's `alembic` beside Python, and what other threads start meanwhile: PATH only ever grows."""
    seen = set()
    monkeypatch.setattr(course_module, "grade", lambda job, box: seen.add(os.environ.get("PATH")) or grade(job, box))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    hand_in(course, "ann", submission())
    again = Course(course.root)
    again.collect("trial")
    again.grade("trial")
    assert seen | {os.environ["PATH"]} == {f"{Path(sys.executable).parent}:/usr/bin:/bin"}


def test_a_class_has_its_own_names(course, capsys):
    hand_in(course, "hw1-ann", submission())
    arguments = ["collect", "trial", "--folder", str(course.root)]
    assert main([*arguments, "--names", r"hw\d-(?P<student>\w+)"]) == 0
    assert course.students("trial") == ["ann"]
    assert main(arguments) == 0, "kept"
    assert course.students("trial") == ["ann"]
    assert main([*arguments, "--names", "hw"]) == 1
    assert "names is 'hw'; expected a regular expression with a group" in capsys.readouterr().err
    course.forget("ann")
    assert not (course.root / "inbox" / "trial" / "hw1-ann").exists()


@pytest.mark.parametrize("step", ["export", "feedback", "grade"])
def test_a_damaged_gradebook_is_one_sentence(course, capsys, step):
    (course.root / "gradebook.db").write_bytes(b"no database" * 99)
    assert main([step, "trial", "--folder", str(course.root)]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "gradebook.db is locked, damaged, or of another class: " in said


def test_a_table_that_cannot_be_read_is_one_sentence(course, capsys, tmp_path):
    hand_in(course, "ann", submission())
    (tmp_path / "table.csv").write_text("Full name,Grade\n" + 200_000 * "x" + ",1\n")
    assert main(["export", "trial", "--into", str(tmp_path / "table.csv"), "--folder", str(course.root)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_feedback_that_was_killed_leaves_no_page_for_written(course, monkeypatch):
    """A comment comes, the run that shows it is killed, the comment goes again: the page must go with it."""
    hand_in(course, "ann", submission())
    course.collect("trial")
    course.grade("trial")
    course.feedback("trial")
    page = course.root / "feedback" / "ann" / "trial" / "trial.html"
    set_by_hand(course, "ann", "why", 1)
    with monkeypatch.context() as patch:
        patch.setattr(course, "_nbgrader", lambda *_, **__: page.write_text("half a page"))
        patch.setattr(course_module, "_write", lambda path, content: None)
        course.feedback("trial")
    set_by_hand(course, "ann", "why", None)
    course.feedback("trial")
    assert "half a page" not in page.read_text()
