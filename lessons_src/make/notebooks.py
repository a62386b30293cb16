"""Execute notebooks from a fresh kernel and store them with small, reproducible outputs: `make notebooks`.

Only notebooks whose code or lesson folder has changed since, unless all are asked for. What differs from run to run is
left out: widget model numbers (the picture stored beside them stays), execution times, versions of the interpreter.
"""

import argparse
import hashlib
import re
from itertools import pairwise
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from lessons_src import lessons
from lessons_src.files import write_whole

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


def digest(notebook: NotebookNode, path: Path) -> str:
    """What the outputs of a notebook are of: its code, and what it takes from its lesson's folder.

    A lesson and its deeper notebook take all but the exercises, an exercise notebook takes those alone. The errata
    belong to no lesson: their code is all.
    """
    folder = Path(lessons.__file__).parent / f"lesson_{path.name[:2]}"
    is_exercise = path.resolve().parent.name == "exercises"
    files = [
        file.read_bytes()
        for file in sorted(folder.glob("*.*"))
        if file.is_file() and file.name != "lesson.toml" and (file.name == "exercises.py") == is_exercise
    ]
    code = [cell.source.encode() for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256(b"\0".join([*code, *files])).hexdigest()[:16]


def is_current(path: Path) -> bool:
    """Whether the stored outputs are of what the notebook and its lesson's folder hold now."""
    notebook = nbformat.read(path, as_version=4)
    return notebook.metadata.get("outputs_of") == digest(notebook, path)


PREDICTS = re.compile(r"^lesson\.predict\(")


def results_of_predictions(notebook: NotebookNode) -> list[NotebookNode]:
    """The cells that would give a prediction away: of code, the first after one or several predictions, and the words
    right below it."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    results = [
        after for before, after in pairwise(code) if PREDICTS.match(before.source) and not PREDICTS.match(after.source)
    ]
    below = [after for cell, after in pairwise(notebook.cells) if cell in results and after.cell_type == "markdown"]
    return results + below


def fold(cell: NotebookNode) -> None:
    """Let JupyterLab show three dots in place of a result, or of words, until the question above is answered.

    Folded words show their first line, so that one is left empty.
    """
    hidden = cell.metadata.setdefault("jupyter", {})
    if cell.cell_type == "code":
        hidden["outputs_hidden"] = True
    else:
        hidden["source_hidden"] = True
        cell.source = "\n" + cell.source.lstrip("\n")


def execute(path: Path) -> None:
    """Run the notebook at `path` top to bottom and replace it; an error leaves the file as it was."""
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNELSPEC, "language_info": {"name": "python"}})
    client = NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        store_widget_state=False,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute()
    notebook.metadata.language_info = {"name": "python"}
    notebook.metadata.outputs_of = digest(notebook, path)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET_VIEW, None)
            output.get("metadata", {}).pop(WIDGET_VIEW, None)
    for cell in results_of_predictions(notebook):
        fold(cell)
    nbformat.validate(notebook)
    write_whole(path, lambda part: nbformat.write(notebook, part))


def main() -> None:
    """Execute the notebooks named on the command line that have changed."""
    parser = argparse.ArgumentParser(prog="python -m lessons_src.make.notebooks", description=main.__doc__)
    parser.add_argument("notebooks", nargs="+", type=Path)
    parser.add_argument("--all", action="store_true", help="execute the others too")
    options = parser.parse_args()
    for path in options.notebooks:
        if options.all or not is_current(path):
            print(path, flush=True)
            execute(path)


if __name__ == "__main__":
    main()
