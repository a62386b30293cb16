"""An assignment of two small tasks, and submissions to it."""

import copy

import torch
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from lessons_src import exercises
from lessons_src.exercises import Case, Task, WrongWay


def halve(x):
    """Half of x."""
    return x / 2


def target(x, n):
    """n times x."""
    return n * x


def _arguments(generator):
    return torch.randn(3, 2, generator=generator), int(torch.randint(3, 9, (), generator=generator))


TASKS = {
    task.name: task
    for task in (
        Task(
            halve,
            [Case("a matrix", lambda g: _arguments(g)[:1]), Case("a number", lambda g: (float(_arguments(g)[1]),))],
            [WrongWay(lambda x: 2 * x, "This doubles.")],
            ("a", "b", "c"),
            5,
            1,
        ),
        Task(
            target,
            [Case("a matrix", _arguments, points=2), Case("its transpose", lambda g: (_arguments(g)[0].T, 2))],
            [WrongWay(lambda x, n: x + n, "This is a sum where a product belongs.")],
            ("a", "b", "c"),
            5,
            1,
        ),
    )
}
RIGHT = {"halve": "def halve(x):\n    return x / 2", "target": "def target(x, n):\n    return n * x"}
STUB = "def {0}(*a):\n    raise NotImplementedError"
HIDDEN = """### BEGIN HIDDEN TESTS
import torch
from lessons_src.exercises import Case
check({0}, [Case("the empty corner", lambda g: ({1}))])
### END HIDDEN TESTS"""
CORNER = {"halve": "torch.tensor(5.0),", "target": "torch.tensor(5.0), 2"}


def cell(make, source, grade_id, **mark):
    made = make(source)
    mark = {"schema_version": 3, "grade": False, "solution": False, "locked": False, "task": False} | mark
    made.metadata["nbgrader"] = {"grade_id": grade_id, **mark}
    return made


def notebook(answers, hidden=True):
    cells = [
        new_markdown_cell("# Two tasks\nwith $a<b$"),
        cell(new_code_cell, "import torch\nfrom lessons_src.exercises import check", "setup", locked=True),
    ]
    for name, points in {"halve": 3, "target": 4}.items():
        check = f"check({name})\n" + (HIDDEN.format(name, CORNER[name]) if hidden else "")
        cells += [
            cell(new_code_cell, answers.get(name, STUB.format(name)), f"{name}_answer", solution=True),
            cell(new_code_cell, check, name, grade=True, locked=True, points=points),
        ]
    cells.append(cell(new_markdown_cell, "Say why.", "why", grade=True, solution=True, points=2))
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel})


SOURCE, RELEASE = notebook(RIGHT), notebook({}, hidden=False)


def submission(edit=lambda notebook: None, **answers):
    """A filled-in notebook: right, but for the given answers and what `edit` does to it."""
    made = copy.deepcopy(notebook(RIGHT | answers, hidden=False))
    edit(made)
    return made


COURSE_TASKS = exercises.all_tasks
