"""Generate the self-study edition of every exercise notebook: `python -m lessons_src.exercises.editions`.

A source is a notebook in nbgrader's format: the learner's function with its solution between ### BEGIN SOLUTION and
### END SOLUTION, a cell `hint("name")`, and a cell `check(name)` with more cases between ### BEGIN HIDDEN TESTS and
### END HIDDEN TESTS. The self-study edition has a stub in place of the solution, three hints that open one by one, the
check on its visible cases, and the solution folded away below it. nbgrader itself makes the edition for a class.
"""

import argparse
import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from lessons_src.checks import refuse
from lessons_src.exercises import all_tasks
from lessons_src.exercises.tasks import Task

SOURCES = Path(__file__).parents[2] / "notebooks" / "exercises" / "source"
STUB = "raise NotImplementedError  # your code here"


def self_study(source: NotebookNode) -> NotebookNode:
    """Return the self-study edition of a source notebook, without outputs; the source stays as it is.

    Raises ValueError if a solution or hidden test is not marked off, or a cell belongs to no task.
    """
    cells, answers = [], {cell.id: cell for cell in source.cells if cell.id.endswith("-answer")}
    for cell in source.cells:
        mark = cell.metadata.get("nbgrader", {})
        edition = NotebookNode(cell | {"metadata": _without_mark(cell.metadata)})
        if cell.cell_type == "code":
            edition |= {"outputs": [], "execution_count": None}
        if mark.get("solution"):
            edition.source = f"{before(cell, 'SOLUTION')}    {STUB}"
        elif "hint" in cell.metadata.get("tags", ()):
            edition = _markdown(cell.id, hints(_task(cell.id.removesuffix("-hint"))))
        elif mark.get("grade"):
            edition.source = before(cell, "HIDDEN TESTS").rstrip()
        cells.append(edition)
        if mark.get("grade"):
            code = f"```python\n{solution(answers[f'{cell.id}-answer'])}\n```"
            cells.append(_markdown(f"{cell.id}-solution", _folded("A solution", code)))
    return nbformat.v4.new_notebook(cells=cells, metadata=dict(source.metadata))


def before(cell: NotebookNode, region: str) -> str:
    """What stands before a region of a cell; nothing may stand behind it. Raises ValueError for a cell without one."""
    found = re.fullmatch(rf"(.*?)[ ]*### BEGIN {region}\n.*### END {region}\s*", cell.source, re.DOTALL)
    if not found:
        refuse(f"cell {cell.id}", cell.source, f"a last part between ### BEGIN {region} and ### END {region}")
    return found[1]


def solution(cell: NotebookNode) -> str:
    """The learner's function as solved, without its docstring and the marks around the solution."""
    head = before(cell, "SOLUTION").split('    """')[0]
    return head + cell.source.split("### BEGIN SOLUTION\n")[1].split("    ### END SOLUTION")[0].rstrip()


def hints(task: Task) -> str:
    """The three hints, each folded away inside the one before."""
    text = ""
    for number, hint in reversed(list(enumerate(task.hints, 1))):
        text = _folded(f"Hint {number} of 3", f"{hint}\n\n{text}".rstrip())
    return text


def _folded(summary: str, text: str) -> str:
    return f"<details><summary>{summary}</summary>\n\n{text}\n\n</details>"


def _markdown(cell_id: str, text: str) -> NotebookNode:
    return new_markdown_cell(text, id=cell_id)


def _task(name: str) -> Task:
    return all_tasks().get(name) or refuse("cell", name, "the name of a task")


def _without_mark(metadata: NotebookNode) -> NotebookNode:
    return NotebookNode({key: value for key, value in metadata.items() if key != "nbgrader"})


def main() -> None:
    """Write the self-study editions whose source has changed; `make exercises` then stores their outputs."""
    parser = argparse.ArgumentParser(prog="python -m lessons_src.exercises.editions", description=main.__doc__)
    parser.add_argument("number", nargs="?", default="", help="of one lesson, two digits")
    for path in sorted(SOURCES.glob(f"{parser.parse_args().number}*.ipynb")):
        target, edition = SOURCES.parent / path.name, self_study(nbformat.read(path, as_version=4))
        nbformat.validate(edition)
        if not target.exists() or _written(edition) != _written(nbformat.read(target, as_version=4)):
            nbformat.write(edition, target)
            print(target)


def _written(notebook: NotebookNode) -> list[tuple]:
    """What an author wrote in a notebook, without what running it adds."""
    return [(cell.id, cell.cell_type, cell.source, cell.metadata) for cell in notebook.cells]


if __name__ == "__main__":
    main()
