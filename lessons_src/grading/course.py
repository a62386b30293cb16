"""A class on disk: nbgrader's folders and gradebook, with triage before and confined grading inside.

    source/A/A.ipynb            the instructor's notebook, with solutions and hidden tests
    release/A/A.ipynb           what learners get
    inbox/A/STUDENT/*.ipynb     what they hand in, in whatever state; never changed
    submitted/S/A/A.ipynb       the same, rebuilt by `collect`: always readable, harmless to nbgrader
    handout/A/S.ipynb           of an exam, which has numbers of its own for everybody: what each learner gets
    autograded/, feedback/      nbgrader's; gradebook.db holds the scores
    .grading/                   results by student and content, so that work done is not done again; the secret seed

A is an assignment, S a student.
"""

import csv
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from functools import cache
from io import StringIO
from logging import CRITICAL, getLogger
from pathlib import Path
from threading import Lock
from typing import Any
from unittest.mock import patch
from warnings import catch_warnings

import nbformat
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.apps.api import NbGraderAPI
from nbgrader.coursedir import CourseDirectory
from nbgrader.preprocessors import NbGraderPreprocessor
from sqlalchemy import create_engine
from traitlets import Bool
from traitlets.config import Config, PyFileConfigLoader

from lessons_src import exam
from lessons_src.checks import check_int, refuse
from lessons_src.files import write_whole
from lessons_src.grading.grade import Graded, Job, gone, grade, modules, prove
from lessons_src.grading.names import STUDENT, Entry, filled, of_a_platform, owner, pattern, told_apart
from lessons_src.grading.notebook import choose, grade_id, is_answer, read_file, rebuild
from lessons_src.grading.sandbox import PACKAGE, NotConfined, Sandbox
from lessons_src.grading.similarity import normal_form, report

SOURCES = PACKAGE.parent / "notebooks" / "exercises" / "source"
NAMES = "names.txt"  # of a class: a pattern of its own for the names in its inbox
CONFIG = '''"""Settings of this class. nbgrader's own commands and its formgrader read them too."""

from pathlib import Path

from lessons_src.grading.course import configure

c = get_config()  # noqa: F821
configure(c, Path(__file__).resolve().parent)
'''


def configure(config: Config, root: Path) -> None:
    """Make nbgrader grade in the sandbox, whichever way it is started, and show learners no hidden check."""
    config.Exchange.root = str(root / ".grading" / "exchange")  # not used, but nbgrader complains of a missing one
    config.Autograde.sanitize_preprocessors = [f"{__name__}.ConfinedGrades"]
    steps = ("SaveAutoGrades", "AssignLatePenalties")
    config.Autograde.autograde_preprocessors = [f"nbgrader.preprocessors.{step}" for step in steps]
    config.ClearSolutions.code_stub = {"python": "raise NotImplementedError  # your code here"}


class ConfinedGrades(NbGraderPreprocessor):
    """An nbgrader preprocessor: the submission as `grade` returns it, run in the sandbox and scored outside of it."""

    unconfined = Bool(False, help="Run learners' code with your own rights. For trusted code only.").tag(config=True)

    def preprocess(self, nb: Any, resources: Any) -> tuple[Any, Any]:
        """Replace the submitted notebook by the graded one."""
        course, about = Course(Path.cwd()), resources["nbgrader"]  # where nbgrader has gone: the root of the course
        [(_, result)] = course.results(about["assignment"], [about["student"]], confined=not self.unconfined)
        if isinstance(result, Exception):
            raise result
        return nbformat.reads(result.notebook, as_version=4), resources


class Course:
    """The folder of a class. Every step may be repeated, and takes up what an interrupted one has left."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        if not (self.root / "nbgrader_config.py").is_file():
            refuse("folder", str(root), "the folder of a class; `setup` makes one")
        beside = str(Path(sys.executable).parent)  # where nbgrader finds `alembic`, to make or renew the gradebook
        if beside not in (path := os.environ.get("PATH", "")).split(os.pathsep):
            os.environ["PATH"] = f"{beside}{os.pathsep}{path}"  # for good: to take it back would unsettle other threads

    @classmethod
    def setup(cls, root: Path, sources: Iterable[Path] = ()) -> "Course":
        """Make the folder of a class, or add what it lacks. Sources already there are left as they are."""
        if not root.exists():
            root.mkdir(parents=True, mode=0o700)  # learners' work and marks: nobody else's business
        for folder in ("results", "exchange"):
            (root / ".grading" / folder).mkdir(parents=True, exist_ok=True)
        (root / ".grading").chmod(0o700)
        if not (root / ".grading" / "secret").exists():
            (root / ".grading" / "secret").write_text(secrets.token_hex(32))
        if not (root / "nbgrader_config.py").exists():
            (root / "nbgrader_config.py").write_text(CONFIG)
        for path in sources or sorted(SOURCES.glob("*.ipynb")):
            target = root / "source" / path.stem / path.name
            if not target.exists():
                target.parent.mkdir(parents=True)
                shutil.copy(path, target)
        return cls(root)

    def draw_exam(self, seed: str) -> str:
        """Draw an exam as another assignment in source/, and return its name. Raises ValueError for a used-up seed."""
        name = f"exam_{seed}"
        if not STUDENT.fullmatch(seed) or self._path("source", name).exists():
            refuse("seed", seed, "a word of letters, digits, . _ - @ that no exam of this class has")
        _write(self._path("source", name), nbformat.writes(exam.notebook(seed)))
        return name

    def is_exam(self, name: str) -> bool:
        """Whether an assignment has numbers of its own for everybody."""
        return "exam" in nbformat.reads(self._path("source", name).read_text(encoding="utf-8"), as_version=4).metadata

    def hand_out(self, name: str, learners: Iterable[str]) -> Path:
        """Write everybody's own edition of a released exam, and return the folder.

        Raises ValueError for a learner's id that cannot be one, and for an assignment that is no exam.
        """
        if not self.is_exam(name):
            refuse("assignment", name, "an exam; of any other, everybody gets the file in release/")
        release, editions = nbformat.read(self._path("release", name), as_version=4), {}
        for learner in learners:
            if not STUDENT.fullmatch(learner) or learner == name:
                refuse("learner", learner, "an id of letters, digits, . _ - @")
            editions[learner] = exam.personal(release, learner)
        for learner, edition in editions.items():
            del edition.metadata["exam"]
            _write(self.root / "handout" / name / f"{learner}.ipynb", nbformat.writes(edition))
        return self.root / "handout" / name

    def release(self, name: str) -> Path:
        """Make the learners' edition of an assignment and return its path; its references are put to the test first.

        Raises ValueError if they fail or it imports what the course no longer has, and RuntimeError if nbgrader
        refuses; the release before it then stays.
        """
        self._refuse_gone(name, "source")
        prove(self._source(name))
        path = self._path("release", name)
        before = path.read_text(encoding="utf-8") if path.exists() else None
        try:
            self._nbgrader("generate_assignment", name)
        except RuntimeError as error:
            if before is not None:
                _write(path, before)
            if "Cannot add or remove cells" in str(error):
                raise RuntimeError(
                    f"{name} has submissions, so that graded cells can no longer be added or removed. Undo that in "
                    f"source/{name}, or copy it as a new assignment. The release is as it was."
                ) from error
            raise
        (self.root / "inbox" / name).mkdir(parents=True, exist_ok=True)
        return path

    def collect(self, name: str) -> dict[str, list[str]]:
        """Rebuild what is in inbox/NAME into submitted/; return notes for every student, in order.

        What cannot be read is an empty submission with a note, and keeps nobody else's out.
        """
        release, notes = nbformat.read(self._path("release", name), as_version=4), {}
        known, inbox = {grade_id(cell) for cell in release.cells} - {None}, self.root / "inbox" / name
        handed_in, left_out = self._inbox(name)
        notes |= left_out
        for student, entries in sorted(handed_in.items()):
            try:
                files = [file for entry in entries for file in _files(entry.path)]
                own = [entry.path / f"{name}.ipynb" for entry in entries if not entry.is_doubtful]
                expected = [inbox / f"{student}.ipynb", *own]
                path, said = choose(files, expected, known)
                said += [
                    f"It lay in the folder {entry.path.parent.name!r}, beside learners' own: see whose it is."
                    for entry in entries
                    if entry.is_doubtful and path in _files(entry.path)
                ]
                notebook, more = rebuild(read_file(path) if path else b"", exam.personal(release, student))
                notes[student] = said + more * bool(path)
            except Exception as error:  # one learner's files never stop the others
                notebook, _ = rebuild(b"", exam.personal(release, student))
                reason = error.strerror if isinstance(error, OSError) else type(error).__name__
                notes[student] = [f"What was handed in cannot be read ({reason}): hand it in again."]
            notebook.metadata["from_the_grader"] = notes[student]
            content = nbformat.writes(notebook)
            _write(self._path("submitted", name, student), content)
            _write(self._collected(name, student), self._seal(name, content))
        return notes

    def grade(
        self, name: str, workers: int = 2, scheduler: str = "", confined: bool = True, tell: Callable = str
    ) -> dict[str, str]:
        """Grade what is new or changed and write it to the gradebook; return what went wrong, by student.

        Each result is entered as soon as it is there. Submissions are graded by `workers` at a time here, or by
        the Dask workers of `scheduler`; `tell` hears a line for each. Scores set by hand stay. Raises as `results`, and
        nbgrader's MissingEntry if the gradebook does not know the assignment.
        """
        failed = {}
        found = self.results(name, self.students(name), workers, scheduler, confined, tell)
        with self._alone(), closing(found):
            entered = self._entered(name)
            for student, result in found:
                try:
                    if isinstance(result, Exception):
                        raise result
                    if self._enter(name, student, student in entered):
                        earned = sum(score for score, _ in result.scores.values())
                        tell(f"{student}: {earned:g} points by the checks, {result.seconds:.1f} s")
                except Exception as error:  # one submission never stops the others
                    failed[student] = f"{type(error).__name__}: {error}"
                    tell(f"{student}: not graded: {failed[student]}")
        return failed

    def results(
        self,
        name: str,
        students: list[str],
        workers: int = 1,
        scheduler: str = "",
        confined: bool = True,
        tell: Callable = str,
    ) -> Iterator[tuple[str, Graded | Exception]]:
        """Yield the result of every student, or why there is none: what is known from before first, then as it arrives.

        Each result is stored before it is yielded. Raises NotConfined, ValueError for a release that imports what the
        course no longer has (every answer would fail with it), and RuntimeError if there is no Dask or no scheduler.
        """
        self._refuse_gone(name, "release")
        check_int("workers", workers, 1)
        new: dict[str, tuple[Job, list[str]]] = {}
        lost = False
        for student in students:
            try:
                job = self._job(name, student)
            except Exception as error:
                yield student, error
                continue
            if known := self._known(student, job):
                yield student, known
            else:
                new.setdefault(job.key, (job, []))[1].append(student)
        if not new:
            return
        wanted = tuple(sorted(modules(self._source(name))))
        with _executor(scheduler, workers) as pool:
            waiting = {pool.submit(grade_anywhere, job, wanted, confined): (job, who) for job, who in new.values()}
            for number, future in enumerate(as_completed(list(waiting)), 1):
                job, who = waiting.pop(future)  # and with it the memory that the result takes
                if future.cancelled():
                    lost = True
                    continue
                tell(f"{number} of {len(new)} have run")
                result = future.exception() or future.result()
                if isinstance(result, NotConfined):
                    raise result
                for student in who if isinstance(result, Graded) else ():
                    _write(self._stored(student, job), json.dumps(asdict(result)))
                yield from ((student, result) for student in who)
        if lost:
            kept = "what has run is entered, and `grade` goes on from there"
            raise RuntimeError(f"the Dask scheduler {scheduler} is lost: {kept}")

    def feedback(self, name: str) -> Path:
        """Write a page for every graded student whose page would not be the same, and return the folder of all pages.

        Raises ValueError if nobody's submission is graded.
        """
        states = self._states(name)
        if not states:
            refuse("assignment", name, f"one with a graded submission: grade {name}")
        pages = {student: self._path("feedback", name, student).with_suffix(".html") for student in states}
        marks = {student: self.root / ".grading" / "shown" / student / name for student in states}
        new = [
            student
            for student, state in states.items()
            if not (pages[student].exists() and marks[student].exists() and marks[student].read_text() == state)
        ]
        if not new:
            return self.root / "feedback"
        for student in new:
            marks[student].unlink(missing_ok=True)  # first: one that was killed here must not pass for written
            pages[student].unlink(missing_ok=True)
        graded = {path.parent.name for path in (self.root / "autograded").glob(f"*/{name}")}
        try:  # in one call: to read nbgrader's template takes as long as to fill it
            self._nbgrader("generate_feedback", name, left_out=graded.difference(new))
        finally:
            for student in new:
                if pages[student].exists():
                    text = pages[student].read_text(encoding="utf-8")
                    _write(pages[student], re.sub(r'<a href="#(\w+)">Test cell</a>', r'<a href="#\1">\1</a>', text))
                    _write(marks[student], states[student])
        return self.root / "feedback"

    def forget(self, student: str) -> None:
        """Remove everything that is kept about a student, tables in CSV excepted: `export` writes those anew.

        Raises ValueError for a name of which nothing is kept.
        """
        kept = [
            "submitted",
            "autograded",
            "feedback",
            *(f".grading/{kind}" for kind in ("collected", "results", "shown")),
        ]
        paths = [self.root / folder / student for folder in kept] if STUDENT.fullmatch(student) else []
        for folder in (self.root / "inbox").iterdir() if paths else ():
            paths += {
                folder / student,
                folder / f"{student}.ipynb",
                *(entry.path for entry in self._inbox(folder.name)[0].get(student, ())),
            }
            paths.append(self.root / "handout" / folder.name / f"{student}.ipynb")
        found = [path for path in paths if os.path.lexists(path)]
        with self._gradebook() as gradebook:
            if student not in {known.id for known in gradebook.students} and not found:
                refuse("student", student, "a learner of whom something is kept")
            with suppress(MissingEntry):
                gradebook.remove_student(student)
        for path in found:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    def table(self, name: str) -> list[dict[str, Any]]:
        """A row for everybody whom the gradebook knows or the inbox shows: total, maximum, a column a task, remarks."""
        rows, (handed_in, left_out) = [], self._inbox(name)
        with self._gradebook() as gradebook:
            cells = gradebook.find_assignment(name).notebooks[0].grade_cells
            known = {student.id for student in gradebook.students}
            for student in sorted({*known, *self.students(name), *handed_in, *left_out}):
                row = {"student": student, "score": 0.0, "max": float(sum(cell.max_score for cell in cells))}
                row |= dict.fromkeys((cell.name for cell in cells), 0.0)
                try:
                    [notebook] = gradebook.find_submission(name, student).notebooks
                    remarks = self._remarks(name, student)
                except MissingEntry:
                    notebook, remarks = None, left_out.get(student, ["Nothing was handed in."])
                    if student in handed_in or self._path("submitted", name, student).exists():
                        remarks = ["Not graded yet: collect and grade."]
                for grade in notebook.grades if notebook else ():
                    row[grade.name] = min(grade.score, grade.max_score + (grade.extra_credit or 0))
                    if grade.manual_score is not None:
                        was = "" if grade.auto_score is None else f" (automatic: {grade.auto_score:g})"
                        remarks.append(f"{grade.name} was set by hand{was}.")
                    elif grade.needs_manual_grade:
                        remarks.append(f"{grade.name} waits for a person.")
                row["score"] = sum(row[cell.name] for cell in cells)
                rows.append(row | {"remarks": " ".join(remarks)})
        return rows

    def similar(self, name: str) -> str:
        """Who gave the same answers but for names, as a report for the instructor alone."""
        answers = {}
        for student in self.students(name):
            with suppress(OSError, ValueError):  # what is gone or damaged is told in the table
                answers[student] = self._answers(self._path("submitted", name, student))
        release, source = (self._answers(self._path(folder, name)) for folder in ("release", "source"))
        aside = {task: {normal_form(""), release.get(task, ""), form} for task, form in source.items()}
        tasks = {task.removesuffix("_answer") for task in source}
        earned = {
            row["student"]: {f"{task}_answer": row[task] for task in tasks if task in row}
            for row in self.table(name)
            if "Not graded yet" not in row["remarks"]
        }
        return report(answers, aside, earned)

    def _answers(self, path: Path) -> dict[str, str]:
        """The normal form of the code in every answer cell of a notebook."""
        cells = nbformat.reads(path.read_text(encoding="utf-8"), as_version=4).cells
        return {grade_id(c): normal_form(c.source) for c in cells if is_answer(c) and c.cell_type == "code"}

    def export(self, name: str) -> Path:
        """Write the table of an assignment as grades_NAME.csv and return its path."""
        rows, path = self.table(name), self.root / f"grades_{name}.csv"
        text = StringIO()
        writer = csv.DictWriter(text, rows[0] if rows else ["student"])
        writer.writeheader()
        writer.writerows(rows)
        write_whole(path, lambda part: part.write_text(text.getvalue(), encoding="utf-8", newline=""))
        return path

    def fill(self, name: str, table: Path, column: str) -> tuple[Path, list[str]]:
        """A platform's own table of grades with the scores in a column, as grades_NAME_TABLE; and who is not in it."""
        handed_in, _ = self._inbox(name)
        owners = {student: entries[0].owner for student, entries in handed_in.items()}
        scores = {row["student"]: row["score"] for row in self.table(name) if row["student"] in owners}
        content, missing = filled(table.read_text(encoding="utf-8"), column, scores, owners)
        path = self.root / f"grades_{name}_{table.name}"
        write_whole(path, lambda part: part.write_text(content, encoding="utf-8", newline=""))
        return path, missing

    def call(self, names: str) -> None:
        """Keep the pattern by which this class reads the names in its inbox; refused as in `names.pattern`."""
        pattern(names)
        _write(self.root / NAMES, names)

    def _inbox(self, name: str) -> tuple[dict[str, list[Entry]], dict[str, list[str]]]:
        """What lies in inbox/NAME: files and folders by student, and notes for those that can be nobody's."""
        own = pattern(path.read_text(encoding="utf-8").strip()) if (path := self.root / NAMES).exists() else None
        entries, left_out = [], {}
        for path in _entries(self.root / "inbox" / name):
            whose = owner(path.stem if path.suffix.lower() == ".ipynb" else path.name, own)
            if whose is None or not _is_usable(path):
                left_out[repr(path.name)] = [
                    "Left out: expected STUDENT/ or STUDENT.ipynb, of letters, digits, . _ - @, or a platform's name."
                ]
            elif whose.student == name:
                left_out[repr(path.name)] = ["Left out: it has the assignment's name, not a learner's."]
            else:
                entries.append(Entry(path, whose))
        return told_apart(_own_first(entries, self.root / "inbox" / name)), left_out

    def students(self, name: str) -> list[str]:
        """Who has a collected submission."""
        return sorted(path.parent.parent.name for path in (self.root / "submitted").glob(f"*/{name}/{name}.ipynb"))

    def _path(self, folder: str, name: str, student: str = "") -> Path:
        return self.root / folder / student / name / f"{name}.ipynb"

    def _gradebook(self) -> Gradebook:
        return Gradebook(f"sqlite:///{self.root / 'gradebook.db'}")

    def _mark(self, name: str, student: str) -> Path:
        return self._path("autograded", name, student).with_name("graded_as.txt")

    def _collected(self, name: str, student: str) -> Path:
        return self.root / ".grading" / "collected" / student / name

    def _seal(self, name: str, content: str) -> str:
        return _digest(self._path("release", name).read_text(encoding="utf-8") + content)

    def _stored(self, student: str, job: Job) -> Path:
        return self.root / ".grading" / "results" / student / f"{job.key}.json"

    def _known(self, student: str, job: Job) -> Graded | None:
        with suppress(OSError, ValueError, TypeError):  # none, or a damaged one
            return Graded(**json.loads(self._stored(student, job).read_text()))
        return None

    def _states(self, name: str) -> dict[str, str]:
        """By graded student, a digest of what a page shows: the notebook, and what people wrote in the gradebook."""
        states = {}
        with self._gradebook() as gradebook:
            for submission in gradebook.assignment_submissions(name):
                path = self._path("autograded", name, submission.student_id)
                if path.exists():
                    [notebook] = submission.notebooks
                    told = [(grade.name, grade.score, grade.max_score, grade.extra_credit) for grade in notebook.grades]
                    told += [(comment.name, comment.comment) for comment in notebook.comments]
                    states[submission.student_id] = _digest(path.read_text(encoding="utf-8") + repr(told))
        return dict(sorted(states.items()))

    def _source(self, name: str, student: str = "") -> str:
        """The instructor's notebook; of an exam, with the student's numbers."""
        text = self._path("source", name).read_text(encoding="utf-8")
        if not self.is_exam(name):
            return text
        return nbformat.writes(exam.personal(nbformat.reads(text, as_version=4), student))

    def _remarks(self, name: str, student: str) -> list[str]:
        try:
            submitted = json.loads(self._path("submitted", name, student).read_text())
            return [*submitted["metadata"]["from_the_grader"], *self._outdated(name, student)]
        except (OSError, ValueError, TypeError, LookupError):
            return ["Not as `collect` left it: collect and grade."]

    def _refuse_gone(self, name: str, folder: str) -> None:
        if missing := gone(self._path(folder, name).read_text(encoding="utf-8")):
            raise ValueError(
                f"{name} imports {', '.join(missing)}, which this version of the course does not have: copy its new "
                f"notebook into source/{name}, or mend yours, then release and collect again"
            )

    def _outdated(self, name: str, student: str) -> list[str]:
        try:
            self._refuse_gone(name, "release")
        except ValueError as error:
            return [f"Not to be graded now: {error}."]
        try:
            key = self._job(name, student).key
        except ValueError:
            return ["Released again since: collect and grade."]
        mark = self._mark(name, student)
        is_current = mark.exists() and mark.read_text() == key
        return [] if is_current else ["Handed in again, or source or course changed since: grade."]

    def _job(self, name: str, student: str) -> Job:
        content = self._path("submitted", name, student).read_text(encoding="utf-8")
        collected = self._collected(name, student)
        if not collected.exists() or collected.read_text() != self._seal(name, content):
            refuse("submission", f"{student}/{name}", "what `collect` made for this release: run it again")
        secret = (self.root / ".grading" / "secret").read_text()
        return Job(content, self._source(name, student), seed=_digest(secret + content))

    def _entered(self, name: str) -> set[str]:
        with self._gradebook() as gradebook:
            gradebook.find_assignment(name)
            return {submission.student_id for submission in gradebook.assignment_submissions(name)}

    def _enter(self, name: str, student: str, is_known: bool) -> bool:
        """Let nbgrader write a result into the gradebook; False if it is there already."""
        mark, key = self._mark(name, student), self._job(name, student).key
        if is_known and mark.exists() and mark.read_text() == key:
            return False
        self._nbgrader("autograde", name, student)
        _write(mark, key)
        return True

    def _nbgrader(self, step: str, *arguments: str, left_out: Iterable[str] = ()) -> None:
        """Run a step of nbgrader, without some students; RuntimeError with the end of its log if it fails."""
        config = PyFileConfigLoader("nbgrader_config.py", str(self.root)).load_config()
        config.CourseDirectory.root = str(self.root)
        config.CourseDirectory.student_id_exclude = ",".join(left_out)
        api = NbGraderAPI(CourseDirectory(config=config), config=config)
        with patch("nbgrader.api.create_engine", _engine), catch_warnings(action="ignore"):
            outcome = getattr(api, step)(*arguments)
        if not outcome["success"]:
            raise RuntimeError(f"nbgrader {step}: {(outcome.get('log') or outcome['error']).strip()[-500:]}")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep a second grader out. Raises RuntimeError if this is the second."""
        with (self.root / ".grading" / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RuntimeError("this class is being graded by another process") from None
            yield


def show(rows: list[dict[str, Any]]) -> str:
    """A table as text."""
    lines = [f"{row['student']:<24} {row['score']:6g} of {row['max']:g}   {row['remarks']}".rstrip() for row in rows]
    return "\n".join(lines)


def grade_anywhere(job: Job, wanted: tuple[str, ...], confined: bool) -> Graded:
    """`grade` in a sandbox of this process, made when first needed, with the modules `wanted` loaded."""
    with _making:
        sandbox = _sandbox(wanted, confined)
    return grade(job, sandbox)


# nbgrader opens the gradebook a dozen times for a submission; a new engine would compile every statement again.
_engine = cache(create_engine)

_making = Lock()
_sandbox = cache(Sandbox)


@contextmanager
def _executor(scheduler: str, workers: int) -> Iterator[Executor]:
    if scheduler:
        try:
            from distributed import Client
        except ImportError:
            raise RuntimeError("Dask is not installed: pip install -e '.[cluster]'") from None

        for name in ("distributed", "distributed.client"):
            getLogger(name).setLevel(CRITICAL)  # pages of it when a connection ends
        try:
            client = Client(scheduler)
        except (OSError, ValueError) as error:
            raise RuntimeError(f"no Dask scheduler answers at {scheduler}: {error}") from error
        with client:
            yield client.get_executor(pure=False)
    else:
        pool = ThreadPoolExecutor(workers)
        try:
            yield pool
        finally:  # of an interrupted run, what has not begun is dropped
            pool.shutdown(cancel_futures=True)


def _is_usable(entry: Path) -> bool:
    """Whether an entry of the inbox is a plain folder or notebook, or cannot be asked: it is told when it is read."""
    with suppress(OSError):
        return not entry.is_symlink() and (entry.is_dir() or (entry.is_file() and entry.suffix.lower() == ".ipynb"))
    return True


def _entries(folder: Path) -> Iterator[Path]:
    """What lies in an inbox; of a folder that a platform's download was unpacked into, what lies in that."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        inner = []
        with suppress(OSError):  # it is told when it is read
            if path.is_dir() and not path.is_symlink() and not of_a_platform(path.name):
                inner = sorted(path.iterdir())
        yield from inner if any(of_a_platform(file.stem) or of_a_platform(file.name) for file in inner) else [path]


def _own_first(entries: list[Entry], inbox: Path) -> list[Entry]:
    """Entries; those from a folder beside learners' own are doubtful, and older than all others."""
    own = [entry for entry in entries if entry.path.parent == inbox]
    if all(of_a_platform(entry.path.stem) or of_a_platform(entry.path.name) for entry in own):
        return entries
    others = [entry for entry in entries if entry.path.parent != inbox]
    return own + [Entry(entry.path, entry.owner._replace(order=""), is_doubtful=True) for entry in others]


def _files(path: Path) -> list[Path]:
    """A file; or what lies in a folder, and in its folders. Raises OSError."""
    if not path.is_dir():
        return [path]
    found = sorted(path.iterdir())
    return found + [
        file for inner in found if inner.is_dir() and not inner.is_symlink() for file in sorted(inner.iterdir())
    ]


def _write(path: Path, content: str) -> None:
    write_whole(path, lambda part: part.write_text(content, encoding="utf-8"))


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=20).hexdigest()
