"""The class workflow in a terminal: `python -m lessons_src.grading --help`."""

import argparse
import csv
import sys
from pathlib import Path

from nbgrader.api import MissingEntry
from sqlalchemy.exc import SQLAlchemyError

from lessons_src.checks import refuse
from lessons_src.grading.course import Course, show
from lessons_src.grading.demo import demo
from lessons_src.grading.sandbox import NotConfined

STEPS = {
    "setup": "make the folder of a class, or add what it lacks",
    "exam": "draw a final exam for the class, as another assignment in source/",
    "release": "make the learners' edition of an assignment, in release/",
    "handout": "of a released exam, write everybody's own edition, in handout/",
    "collect": "take what is in inbox/ASSIGNMENT/STUDENT/ into submitted/, whatever its state",
    "grade": "run and score what is new, and write the gradebook",
    "feedback": "write a page for every learner, in feedback/",
    "export": "write the scores as grades_ASSIGNMENT.csv",
    "similar": "name pairs of learners with the same answers but for names, for your eyes",
    "forget": "remove everything that is kept about a learner",
    "demo": "make a class of twenty-five, good, broken and hostile, and grade it",
}
NEXT = {  # what to do after a step
    "setup": "cd {folder}, then: release 01_forward_shortcut, or another of source/",
    "exam": "release {name}",
    "release": "give this file to your learners; put what they hand in into inbox/{name}/, then: collect {name}",
    "release exam": "handout {name} FILE, with the id of a learner in every line of the file",
    "handout": "give every learner theirs; put what they hand in into inbox/{name}/, then: collect {name}",
    "collect": "grade {name}",
    "grade": "look at it in the formgrader if you like, then: feedback {name} and export {name}",
    "feedback": "send every learner theirs: STUDENT/{name}/{name}.html",
    "export": "take it into your learning platform",
    "similar": "read both notebooks of a pair before you say anything",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one step; return 0, or 1 if something needs a person's attention."""
    parser = argparse.ArgumentParser("python -m lessons_src.grading", description=__doc__)
    steps = parser.add_subparsers(dest="step", required=True)
    for step, about in STEPS.items():
        command = steps.add_parser(step, help=about, description=about)
        if step == "forget":
            command.add_argument("student", help="the learner's id")
        elif step == "exam":
            command.add_argument("seed", help="a word that decides which questions are drawn, and their numbers")
        elif step not in ("setup", "demo"):
            command.add_argument("assignment", help="its name, as that of its folder in source/")
        command.add_argument("--folder", type=Path, default=Path(), help="of the class; by default, where you are")
        if step == "setup":
            command.add_argument("sources", nargs="*", type=Path, help="instructors' notebooks (the course's own)")
        if step == "collect":
            command.add_argument(
                "--names", metavar="PATTERN", help="of files and folders, with (?P<student>...); it is kept"
            )
        if step == "export":
            command.add_argument(
                "--into", type=Path, metavar="TABLE", help="your platform's table of grades, to fill in"
            )
            command.add_argument("--column", default="Grade", help="of that table, for the scores (Grade)")
        if step == "handout":
            command.add_argument("learners", type=Path, help="a file with the id of a learner in every line")
        if step in ("grade", "demo"):
            command.add_argument("--workers", type=int, default=2, help="submissions at a time on this machine (2)")
            command.add_argument("--dask", default="", metavar="ADDRESS", help="of a Dask scheduler, to use it")
            command.add_argument("--unconfined", action="store_true", help="no bubblewrap: for code you trust")
    chosen = parser.parse_args(arguments)
    try:
        return _run(chosen)
    except KeyboardInterrupt:
        print("interrupted: what is done is kept, and the same command goes on from there", file=sys.stderr)
        return 130
    except MissingEntry:
        print(f"gradebook.db does not know {chosen.assignment}: release it again, collect and grade", file=sys.stderr)
        return 1
    except SQLAlchemyError as error:
        reason = str(error).splitlines()[0]
        print(f"gradebook.db is locked, damaged, or of another class: {reason}", file=sys.stderr)
        return 1
    except (ValueError, RuntimeError, OSError, csv.Error) as error:
        print(f"{type(error).__name__ if not isinstance(error, NotConfined) else 'refused'}: {error}", file=sys.stderr)
        return 1


def _run(chosen: argparse.Namespace) -> int:
    if chosen.step == "demo":
        return demo(chosen.folder, chosen.workers, chosen.dask, not chosen.unconfined)
    if chosen.step == "setup":
        print(Course.setup(chosen.folder, chosen.sources).root)
        print("next:", NEXT["setup"].format(folder=chosen.folder))
        return 0
    course = Course(chosen.folder)
    if chosen.step == "forget":
        course.forget(chosen.student)
        print("next: export every assignment again")
        return 0
    if chosen.step == "exam":
        name = course.draw_exam(chosen.seed)
        print("next:", NEXT["exam"].format(name=name))
        return 0
    name, failed = chosen.assignment, {}
    known = sorted(path.parent.name for path in course.root.glob("source/*/*.ipynb"))
    if name not in known:
        refuse("assignment", name, f"one of {', '.join(known)}")
    if chosen.step != "release" and not (course.root / "release" / name / f"{name}.ipynb").exists():
        refuse("assignment", name, f"one that is released: release {name}")
    if chosen.step == "collect":
        if chosen.names is not None:
            course.call(chosen.names)
        notes = course.collect(name)
        for student, said in notes.items():
            print(f"{student}: {' '.join(said) or 'complete'}")
    elif chosen.step == "handout":
        print(course.hand_out(name, chosen.learners.read_text(encoding="utf-8-sig").split()))
    elif chosen.step == "grade":
        failed = course.grade(name, chosen.workers, chosen.dask, not chosen.unconfined, tell=print)
        print(show(course.table(name)))
    else:
        print(getattr(course, chosen.step)(name))
        if chosen.step == "export" and chosen.into is not None:
            path, missing = course.fill(name, chosen.into, chosen.column)
            print(path)
            if missing:
                print(f"not in {chosen.into.name}: {', '.join(missing)}")
    if chosen.step in ("feedback", "export"):
        waiting = [row["student"] for row in course.table(name) if "waits for a person" in row["remarks"]]
        if waiting:
            print(f"still to be read by a person, and counted as 0 so far: {', '.join(waiting)}")
    step = "release exam" if chosen.step == "release" and course.is_exam(name) else chosen.step
    print("next:", f"repair what was not graded, then: grade {name}" if failed else NEXT[step].format(name=name))
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
