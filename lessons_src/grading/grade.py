"""One submission in, one graded notebook out: `grade` depends on nothing but its job and may run on any machine."""

import ast
import hashlib
import inspect
import json
import time
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nbformat
import torch
from nbformat import NotebookNode

from lessons_src import exam, exercises
from lessons_src.checks import refuse
from lessons_src.exercises.tasks import Case, NoAnswer, Task, Verdict, ask, helpers, judge
from lessons_src.grading.notebook import Shown, grade_id, graded, is_check, is_run, stream
from lessons_src.grading.sandbox import PACKAGE, Died, Kernel, Sandbox

MAX_DEATHS = 6  # of a submission's process, by cells, before the rest is not tried
CHANCES = 2  # of a function to end the process before it is not called again


@dataclass(frozen=True)
class Job:
    """What grading a submission depends on.

    notebook is the rebuilt submission and source the instructor's notebook, both as JSON text. The inputs are drawn
    from `seed`, which learners must not know. Limits are in seconds of processor time, and of the clock for `total`:
    what runs when that is over is stopped.
    """

    notebook: str
    source: str
    seed: str
    cell: float = 30
    call: float = 5
    total: float = 240

    @property
    def key(self) -> str:
        """A name for the outcome: the same for the same job, judged by the same version of this package."""
        text = json.dumps([asdict(self), _version()])
        return hashlib.blake2b(text.encode(), digest_size=20).hexdigest()


@dataclass(frozen=True)
class Graded:
    """The graded notebook as JSON text, points earned and possible for every task, and what it took."""

    notebook: str
    scores: dict[str, tuple[float, float]]
    notes: tuple[str, ...]
    seconds: float


def grade(job: Job, sandbox: Sandbox) -> Graded:
    """Run a submission in the sandbox, put every case to its functions, and return what it earned and why."""
    start, tasks, cases = time.monotonic(), tasks_of(job.source), all_cases(job.source)
    notebook = nbformat.reads(job.notebook, as_version=4)
    points = {grade_id(cell): cell.metadata["nbgrader"]["points"] for cell in filter(is_check, notebook.cells)}
    with _Submission(job, notebook, sandbox, tasks) as submission:

        def verdict(name: str, right: tuple[str, ...] = ()) -> Verdict:
            digest = hashlib.blake2b(f"{job.seed} {name}".encode(), digest_size=7).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest))
            return judge(tasks[name], partial(submission.call, name, right), generator, cases[name])

        found = {name: verdict(name) for name in points}
        needed = {name: helpers(tasks[name], tasks) for name in points}
        for name in sorted(points, key=lambda name: len(needed[name])):
            wrong = tuple(helper for helper in needed[name] if helper in found and not found[helper].is_right)
            if wrong and not found[name].is_right:
                found[name] = found[name].given(verdict(name, wrong), wrong)
    scores = {name: (points[name] * v.earned / v.possible, points[name], repr(v)) for name, v in found.items()}
    notes = [*notebook.metadata.get("from_the_grader", []), *submission.notes]
    shown = graded(notebook, submission.outputs, {name: (s[0], s[2]) for name, s in scores.items()}, notes)
    seconds = time.monotonic() - start
    return Graded(nbformat.writes(shown), {name: s[:2] for name, s in scores.items()}, tuple(notes), seconds)


def tasks_of(source: str) -> dict[str, Task]:
    """The tasks that an instructor's notebook grades: the course's, or of an exam its questions to the learner."""
    mark = nbformat.reads(source, as_version=4).metadata.get("exam")
    return exam.tasks(**mark) if mark else exercises.all_tasks()


def all_cases(source: str) -> dict[str, tuple[Case, ...]]:
    """The cases of every task in an instructor's notebook: the task's own, then the hidden ones of its check cell.

    The cell is run here as it stands, with a `check` that only takes its cases down. Raises ValueError for a check
    cell that stops, is not named after a task, or has other points than its cases together.
    """
    found, tasks = {}, tasks_of(source)
    for cell in filter(is_check, nbformat.reads(source, as_version=4).cells):
        name, points = grade_id(cell), cell.metadata["nbgrader"].get("points")
        if name not in tasks:
            refuse("grade_id", name, "the name of a task")
        hidden: list[Case] = []
        try:
            check = {"check": lambda _, cases=(), add=hidden.extend: add(cases), "answered": lambda _: None}
            exec(cell.source, check | {name: None})
        except Exception as error:  # an instructor's slip, of whatever kind
            raise ValueError(f"the check cell of {name} stopped with {type(error).__name__}: {error}") from error
        labelled = (replace(case, label=f"hidden case {number}") for number, case in enumerate(hidden, 1))
        found[name] = (*tasks[name].cases, *labelled)
        if sum(case.points for case in found[name]) != points:
            refuse(f"points of {name}", points, f"{sum(case.points for case in found[name]):g}, the sum of its cases")
    return found


def prove(source: str) -> None:
    """Raise ValueError unless the references earn every point of an instructor's notebook, and `None` earns none."""
    tasks = tasks_of(source)
    for name, cases in all_cases(source).items():
        task = tasks[name]
        for function, share in ((task.reference, 1), (lambda *arguments: None, 0)):
            try:
                verdict = judge(task, lambda arguments, f=function: ask(f, arguments), torch.Generator(), cases)
            except Exception as error:  # an instructor's slip, of whatever kind
                raise ValueError(f"a case of {name} stopped with {type(error).__name__}: {error}") from error
            if verdict.earned != share * verdict.possible:
                refuse(f"points of {function.__name__}", verdict.earned, f"{share * verdict.possible}\n{verdict}")


def modules(source: str) -> set[str]:
    """What the cells of a notebook import that the grader runs; `from a import b` may mean a module a.b too.

    A cell that is no plain Python, as one with a magic, is passed over.
    """
    found, nodes = set(), []
    for cell in filter(is_run, nbformat.reads(source, as_version=4).cells):
        with suppress(SyntaxError):
            nodes += ast.walk(ast.parse(cell.source))
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names if alias.name != "*")}
    return found


@cache
def gone(source: str) -> tuple[str, ...]:
    """The modules of this package, and names in them, that `modules` finds and the package does not have."""
    own = sorted(name for name in modules(source) if name.startswith(f"{PACKAGE.name}."))
    missing = [name for name in own if not _is_there(name)]
    return tuple(name for name in missing if name.rpartition(".")[0] not in missing)


def _is_there(name: str) -> bool:
    parent, _, last = name.rpartition(".")
    try:
        module = import_module(parent)
    except ImportError as error:  # whatever else it lacks is another matter
        return not (error.name or "").startswith(f"{PACKAGE.name}.")
    return hasattr(module, last) or (hasattr(module, "__path__") and find_spec(name) is not None)


@cache
def _version() -> str:
    files = sorted(path for path in PACKAGE.rglob("*.py") if "make" not in path.relative_to(PACKAGE).parts)
    return hashlib.blake2b(b"".join(path.read_bytes() for path in files), digest_size=20).hexdigest()


class _Submission:
    """A submission's process. When it dies it is started again, without the cell that killed it, if a cell did.

    Functions that kill it have CHANCES each, and so cost no other function anything.
    """

    def __init__(self, job: Job, notebook: NotebookNode, sandbox: Sandbox, tasks: dict[str, Task]) -> None:
        self.outputs: dict[int, list[NotebookNode]] = {}  # of the first time that a cell was run
        self.notes: list[str] = []
        self._shown = Shown()
        self._job, self._sandbox, self._kernel, self._deaths = job, sandbox, None, Counter()
        self._given_up: dict[tuple, str] = {}  # functions that are not called again, and why
        self._slow: set[str] = set()  # functions that ran out of time once, and get less of it from then on
        self._end, self._stack = time.monotonic() + job.total, ExitStack()
        self._tasks, self._references, self._beside = tasks, {}, ExitStack()  # processes that run right helpers
        self._cells = {index: cell.source for index, cell in enumerate(notebook.cells) if is_run(cell)}

    def __enter__(self) -> "_Submission":
        return self

    def __exit__(self, *_: Any) -> None:
        self._stack.close()
        self._beside.close()

    def call(self, name: str, right: tuple[str, ...], arguments: tuple) -> Any:
        """Call a function of the notebook, with the references in place of those called `right`. Raises NoAnswer."""
        if (culprit := (name, right)) in self._given_up:
            raise NoAnswer(self._given_up[culprit])
        kernel, start = self._ready(), time.monotonic()
        limit = min(self._job.call, 1) if name in self._slow else self._job.call
        try:
            return kernel.call(name, arguments, limit, self._left(), {n: partial(self._help, n) for n in right})
        except Died as reason:
            self._bury(culprit)
            if self._deaths[culprit] == CHANCES:
                self._given_up[culprit] = f"{reason} It was the second time: {name} is not called again."
            raise NoAnswer(self._given_up.get(culprit, str(reason))) from None
        finally:
            if time.monotonic() - start > limit:
                self._slow.add(name)

    def _help(self, name: str, encoded: Any) -> dict[str, Any]:
        """The reply of a reference to what a learner's process sent: from a sealed process that is no learner's."""
        path = inspect.getfile(self._tasks[name].reference)
        try:
            if path not in self._references:
                self._references[path] = self._beside.enter_context(self._sandbox.open())
                self._references[path].run(Path(path).read_text(encoding="utf-8"), self._job.cell)
            return self._references[path].relay(name, encoded, self._job.call, self._left())
        except (Died, NoAnswer, RecursionError) as reason:
            self._references.pop(path)
            return {"none": str(reason)}

    def _ready(self) -> Kernel:
        while self._kernel is None:
            self._left()
            kernel = self._stack.enter_context(self._sandbox.open())
            try:
                for index, source in list(self._cells.items()):
                    reply = kernel.run(source, self._job.cell, self._left())
                    if index not in self.outputs:
                        self.outputs[index] = self._shown.outputs(reply)
                self._kernel = kernel
            except Died as reason:
                self._bury(None)
                del self._cells[index]
                self.outputs[index] = [stream(f"This cell was left out of the grading. {reason}")]
                self.notes.append(f"A cell was left out of the grading. {reason}")
        return self._kernel

    def _left(self) -> float:
        """Seconds of the clock that this submission still has. Raises NoAnswer if it is not tried any further."""
        if self._deaths[None] >= MAX_DEATHS:
            raise NoAnswer(f"Not tried: {MAX_DEATHS} cells of this notebook ended its process.")
        if (left := self._end - time.monotonic()) <= 0:
            raise NoAnswer("Not tried: the time for this notebook was used up.")
        return left

    def _bury(self, culprit: tuple | None) -> None:
        """Clear away the process that a function killed, with what it was given, or a cell."""
        self._stack.close()
        self._kernel = None
        self._deaths[culprit] += 1
