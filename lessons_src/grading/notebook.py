"""Notebooks from outside made fit to grade, and graded ones made fit to show.

A submission is parsed here and nowhere else. What comes out is built anew: cells of the released notebook with the
learner's answers in them, and the learner's own code cells, in the learner's order. No metadata, output or markup of
the learner's survives, so that nothing in it can speak to nbgrader, to a template or to a browser.
"""

import base64
import json
import struct
from collections.abc import Iterator
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

from lessons_src.grading.worker import MAX_IMAGE, MAX_IMAGES, MAX_TEXT

MAX_FILE = 20 << 20  # bytes of a submitted notebook
MAX_READ, MAX_NAMED = 50, 20  # of the notebooks in a folder: those that are looked into, and those told by name
MAX_SOURCE, MAX_CELLS = 100_000, 1000  # characters of one cell; cells of one notebook
MAX_OWN = 500_000  # characters of a learner's own cells together; a page shows one of code in up to thirty
MAX_SHOWN = 4 << 20  # characters of JSON for all that a submission printed and drew
MAX_PIXELS = 50_000_000  # of all its pictures; a browser takes four bytes for each
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"


def grade_id(cell: Any) -> str | None:
    """The name that nbgrader knows a cell by, if it has one."""
    mark = cell["metadata"].get("nbgrader") if isinstance(cell.get("metadata"), dict) else None
    name = mark.get("grade_id") if isinstance(mark, dict) else None
    return name if isinstance(name, str) else None


def is_check(cell: NotebookNode) -> bool:
    """Whether a cell of a released notebook is where a task is graded, by the grader and not by a person."""
    mark = cell.metadata.get("nbgrader", {})
    return cell.cell_type == "code" and mark.get("grade", False) and not mark.get("solution", False)


def is_run(cell: NotebookNode) -> bool:
    """Whether the grader runs a cell: checks are made from outside, and a tag spares it what only shows something."""
    return cell.cell_type == "code" and not is_check(cell) and "not-graded" not in cell.metadata.get("tags", ())


def is_answer(cell: NotebookNode) -> bool:
    """Whether a cell of a released notebook is there for the learner to fill in."""
    return cell.metadata.get("nbgrader", {}).get("solution", False)


def choose(found: list[Path], expected: list[Path], known: set[str]) -> tuple[Path | None, list[str]]:
    """The notebook that a learner handed in, and notes for them: the first of `expected`, or else by its cells.

    Of the files found, newest first, only plain notebooks count; `known` are the grade ids of the released notebook.
    The newest is taken that has half as many of them as any. Raises OSError if the file system does not even say what
    they are.
    """
    found = [path for path in found if path.suffix.lower() == ".ipynb" and path.is_file() and not path.is_symlink()]
    if not found:
        return None, ["No notebook was handed in: nothing but a plain .ipynb file counts."]
    notes, best = [], next((path for path in expected if path in found), None)
    if best is None:
        likeness = {path: _likeness(path, known) for path in found[:MAX_READ]}
        best = next(path for path in likeness if 2 * likeness[path] >= max(likeness.values()))
        if not any(path.stem in best.name for path in expected):
            notes.append(f"The notebook is called {best.name!r}; it was recognised by its cells.")
    if left := [repr(path.name) for path in found if path != best]:
        listed = [*left[:MAX_NAMED], f"{len(left) - MAX_NAMED} more"] if len(left) > MAX_NAMED else left
        notes.append(f"Of {len(found)} notebooks {best.name!r} is graded; left out: {', '.join(listed)}.")
    return best, notes


def _likeness(path: Path, known: set[str]) -> int:
    """How many of the released cells a file has; -1 if it cannot be read."""
    try:
        return len(known.intersection(map(grade_id, _cells(read_file(path))[0])))
    except OSError:
        return -1


def read_file(path: Path) -> bytes:
    """The content of a submitted file, as far as it can be a notebook. Raises OSError."""
    with path.open("rb") as file:
        return file.read(MAX_FILE + 1)


def rebuild(content: bytes, release: NotebookNode) -> tuple[NotebookNode, list[str]]:
    """The released notebook with a learner's answers and own cells, from whatever `content` is; and notes for them."""
    cells, notes = _cells(content)
    released = {grade_id(cell): cell for cell in release.cells if grade_id(cell)}
    plain = {(cell.cell_type, cell.source): cell for cell in release.cells if not grade_id(cell)}
    built, missing, copies, changed, twice, room, left = [], dict(released), [], [], [], MAX_OWN, 0
    for cell in cells or release.cells:
        name, kind, source = grade_id(cell), str(cell.get("cell_type")), _source(cell)
        if name in missing:
            ours = missing.pop(name)
            if is_answer(ours) and source != ours.source:
                ours = {**ours, "source": source if ours.cell_type == "code" else _quoted(source)}
            elif source.strip() != ours.source.strip():
                changed.append(name)
            built.append(ours)
        elif name in released and (
            not is_answer(released[name]) or source.strip() in ("", released[name].source.strip())
        ):
            copies.append(name)  # an unanswered one would undo the answer
        elif (kind, source) in plain:
            built.append(plain[kind, source])
        elif kind in ("code", "markdown") and source.strip():
            if len(source) > room:
                left += 1
                continue
            room -= len(source)
            built.append(new_code_cell(source) if kind == "code" else new_markdown_cell(_quoted(source)))
            twice += [name] * (name in released)
    if copies:
        notes.append(f"Left out, as second copies of a cell: {', '.join(copies[:20])}.")
    if left:
        notes.append(f"Left out, as too long: {left} cells. Those that you add may have {MAX_OWN} characters together.")
    if twice:
        notes.append(f"Answered more than once, of which the last counts: {', '.join(twice[:20])}.")
    if changed:
        notes.append(f"Put back as they were, since they are not for answers: {', '.join(changed)}.")
    if missing:
        notes.append(f"Put back, as missing: {', '.join(missing)}.")
    for cell in missing.values():
        if is_answer(cell):  # emptied: the stub might undo an answer that was given in another cell
            built.append({**cell, "source": ""})
        else:
            built.insert(len(built) if is_check(cell) else 0, cell)
    return _assemble(built, release.metadata), notes


def graded(
    notebook: NotebookNode,
    outputs: dict[int, list[NotebookNode]],
    scores: dict[str, tuple[float, str]],
    notes: list[str],
) -> NotebookNode:
    """A rebuilt notebook with its cells' outputs, and a score and its reasons below every check, notes on top.

    nbgrader takes the score from the first output of a check cell.
    """
    cells = [new_markdown_cell("**From the grader**\n\n" + _quoted("\n".join(notes)))] if notes else []
    for index, cell in enumerate(notebook.cells):
        if is_check(cell):
            score, reasons = scores[grade_id(cell)]
            result = new_output("execute_result", {"text/plain": repr(float(score))})
            cell = {**cell, "outputs": [result, stream(reasons[:MAX_TEXT])]}
        elif index in outputs:
            cell = {**cell, "outputs": outputs[index]}
        cells.append(cell)
    # Not IPython's: its lexer reads the cell of a magic as that language, and takes minutes for some texts.
    return _assemble(cells, notebook.metadata | {"language_info": {"name": "python"}})


def _cells(content: bytes) -> tuple[list[dict], list[str]]:
    """The cells of a notebook file, whatever its state, and a note if there are none."""
    if len(content) > MAX_FILE:
        reason = f"it is larger than {MAX_FILE >> 20} MB"
    elif not content.strip():
        reason = "the file is empty"
    else:
        try:
            cells = json.loads(content)["cells"]
            cells = [cell for cell in cells if isinstance(cell, dict)][:MAX_CELLS]
            return cells, [] if cells else ["The notebook has no cells."]
        except (ValueError, RecursionError, MemoryError):
            reason = "it is damaged: a part is missing, or something else than a notebook editor has changed it"
        except (TypeError, LookupError):
            reason = "it is not in the notebook format, version 4"
    return [], [f"The notebook cannot be read ({reason}). Save it in JupyterLab and hand it in again."]


def _source(cell: dict) -> str:
    """What is written in a cell, as text that can be stored."""
    source = cell.get("source")
    lines = source if isinstance(source, list) else [source]
    return _text("".join(line for line in lines if isinstance(line, str))[:MAX_SOURCE])


def _text(text: str) -> str:
    """Text without lone surrogates, which no file takes."""
    return text.encode(errors="replace").decode()


def _quoted(source: str) -> str:
    """Markdown that shows text as it was typed: no markup, no links, no mathematics that could run anything."""
    return f"<pre>{escape(source)}</pre>"


def _assemble(cells: list[dict], metadata: dict) -> NotebookNode:
    notebook = nbformat.v4.new_notebook(metadata=metadata)
    for number, cell in enumerate(cells):
        code = {"execution_count": None, "outputs": cell.get("outputs", [])} if cell["cell_type"] == "code" else {}
        notebook.cells.append(NotebookNode({**cell, **code, "id": f"cell-{number}"}))
    return notebook


def stream(text: str) -> NotebookNode:
    """An output of plain text."""
    return new_output("stream", name="stdout", text=_text(text))


class Shown:
    """Turns replies into outputs: plain text and real PNGs, for all cells of a submission together under one limit.

    A reply is the word of the learner's process. Whatever else it holds is dropped.
    """

    def __init__(self) -> None:
        self._characters, self._pixels = MAX_SHOWN, MAX_PIXELS

    def outputs(self, reply: dict[str, Any]) -> list[NotebookNode]:
        """What a cell printed and drew, as far as there is room for it, and a note where there is not."""
        text, kept = reply.get("text"), []
        found = [(stream(text[: MAX_TEXT + 100]), 0)] if isinstance(text, str) and text else []
        found += _pictures(reply.get("images"))
        for output, pixels in found:
            characters = len(json.dumps(output))
            if characters <= self._characters and pixels <= self._pixels:
                self._characters, self._pixels = self._characters - characters, self._pixels - pixels
                kept.append(output)
        if len(kept) < len(found):
            kept.append(stream("[left out here: more than one notebook may show]\n"))
        return kept


def _pictures(images: Any) -> Iterator[tuple[NotebookNode, int]]:
    """The real PNGs of a reply, each with its number of pixels."""
    for image in images[:MAX_IMAGES] if isinstance(images, list) else ():
        with suppress(TypeError, ValueError, struct.error):
            content = base64.b64decode(image, validate=True)
            width, height = struct.unpack_from(">II", content, len(PNG))
            if content.startswith(PNG) and len(content) <= MAX_IMAGE and width * height:
                yield new_output("display_data", {"image/png": base64.b64encode(content).decode()}), width * height
