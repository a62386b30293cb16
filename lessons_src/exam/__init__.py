"""A final exam for a class: forty minutes, drawn from a bank of questions, graded like every other assignment.

A seed decides which questions a class gets, one a lesson and the same for all. Seed and learner decide the numbers in
them. So the exam is fair, neighbours have other numbers, and nobody types a key: the grader computes each learner's own
from the functions in questions_NN.py, which the process that runs a learner's code never sees.

`notebook` is the instructor's notebook, for one learner. `grading exam` puts it into a class; `personal` then makes it,
its release and whatever is handed in a certain learner's.
"""

from functools import cache
from importlib import import_module
from importlib.resources import files
from typing import Any

import torch
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from lessons_src.exam.items import OBJECTIVES, Item, seeded
from lessons_src.exercises.tasks import Task

MINUTES = 40
QUESTIONS = 12  # from as many lessons
TWICE = 2  # questions to every objective, at least
INTRODUCTION = """
# Final exam{learner}

**{minutes} minutes** · {questions} questions, a point each

Every question asks for one value. Write it where `raise` stands, behind a `return`: a number, or an expression that
Python works out, such as `return 0.3**2 + 0.4**2`. Four digits that count are enough. Your numbers are your own.

The cell below an answer shows what will be graded. It does not say whether that is right. At the end choose *Restart
Kernel and Run All Cells*, save, and hand in this file under its own name.

A step goes from t to a cleaner s; ᾱ is the share of the variance that is signal, 1 where the picture is clean;
guidance is ε_u + w (ε_c − ε_u).
"""


@cache
def bank() -> dict[str, tuple[Item, ...]]:
    """The questions of every lesson, by its number."""
    paths = sorted(path.name for path in files(__package__).iterdir() if path.name.startswith("questions_"))
    names = [name.removesuffix(".py") for name in paths]
    return {name[-2:]: import_module(f"{__package__}.{name}").ITEMS for name in names}


def draw(seed: str) -> tuple[Item, ...]:
    """The questions of an exam, in the order of their lessons."""
    generator = seeded(seed)
    while True:
        order = torch.randperm(len(bank()), generator=generator)[:QUESTIONS].sort().values
        lessons = [list(bank().values())[i] for i in order]
        found = [items[int(torch.randint(len(items), (), generator=generator))] for items in lessons]
        asked = [item.objective for item in found]
        if sum(item.minutes for item in found) <= MINUTES and all(asked.count(o) >= TWICE for o in OBJECTIVES):
            return tuple(found)


@cache
def tasks(seed: str, learner: str) -> dict[str, Task]:
    """Every question of the bank with a learner's numbers, as the grader knows tasks."""
    return {
        item.name: item.task(item.numbers(seed, learner), f"lesson {number}")
        for number, items in bank().items()
        for item in items
    }


def notebook(seed: str, learner: str = "") -> NotebookNode:
    """The instructor's notebook in nbgrader's format, with a learner's numbers and their keys."""
    items, name = draw(seed), f" of {learner}" if learner else ""
    text = INTRODUCTION.strip().format(learner=name, minutes=MINUTES, questions=len(items))
    setup = new_code_cell("import math\n\nfrom lessons_src.exercises import answered", id="setup")
    cells = [new_markdown_cell(text, id="introduction"), _marked(setup, "setup")]
    for number, item in enumerate(items, 1):
        numbers = item.numbers(seed, learner)
        key = item.key(*numbers)
        about = f"## Question {number}\n\n`{item.name}` · {item.minutes} minutes\n\n{item.asked(numbers)}"
        code = f'def {item.name}():\n    """Question {number}: {_form(key)}."""\n'
        code += f"    ### BEGIN SOLUTION\n    return {key!r}\n    ### END SOLUTION"
        answer, check = f"{item.name}_answer", f"answered({item.name})"
        cells += [
            new_markdown_cell(about, id=f"{item.name}-text"),
            _marked(new_code_cell(code, id=f"{item.name}-answer"), answer, solution=True),
            _marked(new_code_cell(check, id=item.name), item.name, grade=True, points=1),
        ]
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel, "exam": {"seed": seed, "learner": learner}})


def personal(made: NotebookNode, learner: str) -> NotebookNode:
    """An exam, or its release, with the texts and the keys of a learner; any other notebook as it is."""
    if "exam" not in made.metadata:
        return made
    own = notebook(made.metadata["exam"]["seed"], learner)
    texts = {cell.id: cell.source for cell in own.cells if cell.cell_type == "markdown"}
    cells = [NotebookNode({**cell, "source": texts.get(cell.id, cell.source)}) for cell in made.cells]
    return NotebookNode({**made, "cells": cells, "metadata": {**made.metadata, "exam": own.metadata["exam"]}})


def _form(key: Any) -> str:
    """What kind of value is asked for."""
    if isinstance(key, str):
        return 'capital letters in the order of the alphabet, as in "AC"'
    if isinstance(key, list):
        return "a list of numbers"
    return "a whole number" if isinstance(key, int) else "a number"


def _marked(cell: NotebookNode, grade_id: str, **mark: Any) -> NotebookNode:
    """A cell with nbgrader's mark: locked unless it is there for an answer."""
    kind = {"grade": False, "solution": False, "task": False, "locked": not mark.get("solution"), "schema_version": 3}
    cell.metadata["nbgrader"] = kind | mark | {"grade_id": grade_id}
    return cell
