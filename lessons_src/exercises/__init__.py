"""Exercises: functions to write, with checks that name the mistake.

In an exercise notebook::

    check(forward_step)        # fresh random inputs, points, and a sentence where it is wrong
    hint("forward_step")       # the first of three hints; hint("forward_step", 2) is the next

Modules: wire (how values travel), tasks (what an exercise is, and the judge), inputs (what cases draw), editions (the
notebooks). The exercises themselves are `TASKS` in lessons/lesson_NN/exercises.py.
"""

import sys
from collections.abc import Callable, Iterable
from functools import cache
from importlib import import_module
from importlib.resources import files
from typing import Any

import torch

from lessons_src.checks import check_choice, check_int, refuse
from lessons_src.exercises.tasks import Case, Mistake, NoAnswer, Task, Verdict, WrongWay, ask, helpers, judge

__all__ = ["Case", "Mistake", "Task", "Verdict", "WrongWay", "all_tasks", "answered", "check", "hint"]


@cache
def all_tasks() -> dict[str, Task]:
    """Every task of every lesson by name, in the order of the lessons. Raises ValueError if two share a name."""
    found: dict[str, Task] = {}
    for path in sorted((files("lessons_src") / "lessons").glob("*/exercises.py")):
        for task in import_module(f"lessons_src.lessons.{path.parent.name}.exercises").TASKS:
            if task.name in found:
                refuse("task", task.name, "a name that only one task has")
            found[task.name] = task
    return found


class Note(str):
    """A sentence that prints without quotes."""

    __repr__ = str.__str__


def check(answer: Callable[..., Any], cases: Iterable[Case] | None = None) -> Verdict | Note:
    """Judge a function on fresh random inputs: on the cases of the task of its name, or on `cases`.

    What counts is the name that the caller has for it, so that a lambda, or any other object that can be called, is
    judged as the grader does. Returns a `Verdict`, whatever the function does; while a notebook is being graded, a note
    instead. Raises TypeError for something that cannot be called, ValueError if no task has its name; the message lists
    the names.
    """
    if not callable(answer):
        refuse("answer", answer, "the function itself, as in check(forward_step)", TypeError)
    names = [name for name, value in sys._getframe(1).f_globals.items() if value is answer]
    own = getattr(answer, "__name__", type(answer).__name__)
    if not all_tasks():  # hidden from the process that runs a submission
        return Note(f"The grader checks {own} from outside.")
    name = next(filter(all_tasks().__contains__, (own, *names)), own)
    task = all_tasks()[check_choice("name of the function", name, all_tasks())]
    return _verdict(task, answer, torch.Generator().seed(), cases)


def _verdict(task: Task, answer: Callable[..., Any], seed: int, cases: Iterable[Case] | None = None) -> Verdict:
    """The verdict on an answer, and where that is wrong, on it with right helpers in place of its wrong ones."""
    put, scope = list(task.cases if cases is None else cases), getattr(answer, "__globals__", {})

    def verdict() -> Verdict:
        return judge(task, lambda arguments: ask(answer, arguments), torch.Generator().manual_seed(seed), put)

    def is_right(name: str) -> bool:
        return callable(scope.get(name)) and _verdict(all_tasks()[name], scope[name], seed).is_right

    first = verdict()
    if first.is_right or not (wrong := [name for name in helpers(task, all_tasks()) if not is_right(name)]):
        return first
    before = {name: scope[name] for name in wrong if name in scope}
    scope.update((name, all_tasks()[name].reference) for name in wrong)
    try:
        return first.given(verdict(), wrong)
    finally:
        for name in wrong:
            del scope[name]
        scope.update(before)


def hint(name: str, number: int = 1) -> Note:
    """Return a hint, 1 to 3, each saying more than the one before. Raises ValueError for another name or number."""
    if not all_tasks():
        return Note("No hints while a notebook is being graded.")
    task = all_tasks()[check_choice("name", name, all_tasks())]
    return Note(f"Hint {check_int('number', number, 1, 3)} of 3: {task.hints[number - 1]}")


def answered(answer: Callable[[], Any]) -> Note:
    """What the answer to a question of an exam is at the moment; whether it is right is told when it is graded."""
    try:
        return Note(f"{answer.__name__}: {ask(answer, ())!r}")
    except NoAnswer as reason:
        return Note(f"{answer.__name__}: no answer yet. {reason}")
