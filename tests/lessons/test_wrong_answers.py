"""Wrong answers that learners would give: the check tells nine of ten what went wrong, and nobody something else."""

import inspect
import re
import textwrap
import tomllib
from functools import cache
from pathlib import Path

import nbformat
import pytest
import torch

from lessons_src.exercises import all_tasks
from lessons_src.exercises.editions import SOURCES
from lessons_src.exercises.tasks import ask, judge

LISTS = tomllib.loads((Path(__file__).parent / "wrong_answers.toml").read_text())
TASKS = all_tasks()


@cache
def setup(number):
    (path,) = SOURCES.glob(f"{number}_*.ipynb")
    return next(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.id == "setup")


def function(task, code):
    """The answer as it stands in its notebook: below the setup cell, and below right answers to the other tasks."""
    module, scope = task.reference.__module__, {}
    exec(setup(re.search(r"lesson_(\d\d)", module)[1]), scope)
    scope |= {name: other.reference for name, other in TASKS.items() if other.reference.__module__ == module}
    names = ", ".join(inspect.signature(task.reference).parameters)
    exec(f"def {task.name}({names}):\n{textwrap.indent(code.strip(), '    ')}", scope)
    return scope[task.name]


def told(answer):
    """The sentences of known mistakes that an answer is told at each of three checks."""
    task = TASKS[answer["task"]]
    known, wrong = {says for _, says in task.wrong_answers}, function(task, answer["code"])
    for seed in range(3):
        verdict = judge(task, lambda arguments: ask(wrong, arguments), torch.Generator().manual_seed(seed))
        assert verdict.earned < verdict.possible, answer
        yield {result.says for result in verdict.results} & known


@pytest.mark.parametrize("which", LISTS)
def test_nine_of_ten_are_named_and_none_wrongly(which):
    unnamed = []
    for answer in LISTS[which]:
        checks = list(told(answer))
        for says in set().union(*checks):
            assert re.search(answer["says"], says, re.IGNORECASE), (answer, says)
        if not all(checks):
            unnamed.append(answer)
    assert len(unnamed) <= len(LISTS[which]) / 10, unnamed
