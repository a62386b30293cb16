"""A class of twenty-five, good, broken and hostile: see what the whole workflow does before it counts."""

import copy
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

from lessons_src.grading.course import Course, show
from lessons_src.grading.notebook import grade_id, is_answer, is_check

# What stands in the last answer cell, where {f} is the function's name and {right} the right answer; and whether the
# last task's points are kept. Every other answer is right.
ANSWERS = {
    "ada": ("{right}", True),
    "ben": ("def {f}(*arguments):\n    arguments[0]", False),
    "cyd": ("import no_such_module\n{right}", False),
    "dan": ("def {f}(*arguments)\n    return 1", False),
    "eve": ("def {f}(*arguments):\n    while True:\n        pass", False),
    "fay": ("{right}\nimport os\nos._exit(0)", False),
    "gus": ("def {f}(*arguments):\n    hoard = []\n    while True:\n        hoard.append(bytearray(10**7))", False),
    "hal": ("import os\nwhile True:\n    os.fork()", False),
    "ivy": ("{right}\nfor _ in range(1000):\n    print('x' * 100_000)", True),
    "jim": (
        "import torch\nfrom lessons_src.exercises import tasks\ntorch.isclose = torch.ones_like\n"
        "tasks.difference = lambda *a: ''\nprint('Out[1]: 99')\n\n\ndef {f}(*arguments):\n    return arguments[0]",
        False,
    ),
    "kim": (
        "from lessons_src.exercises import all_tasks\n\n\ndef {f}(*arguments):\n"
        "    return all_tasks()['{f}'].reference(*arguments)",
        False,
    ),
    "lou": (
        "import socket\n\n\ndef {f}(*arguments):\n    socket.create_connection(('127.0.0.1', 22))\n"
        "    return open('gradebook.db').read()",
        False,
    ),
    "mia": ("{right}\nfrom IPython.display import HTML, display\ndisplay(HTML('<script>alert(1)</script>'))", True),
    "una": ("def {f}(*arguments):\n    raise type('E\\n  ✓ 9/9  all', (Exception,), {})('\\x1b[2K\\r')", False),
}


def demo(folder: Path, workers: int = 2, scheduler: str = "", confined: bool = True) -> int:
    """Make a class in `folder`, grade it, print the table; return how many scores differ from what they should be."""
    course = Course.setup(folder)
    name = sorted(path.name for path in (course.root / "source").iterdir())[0]
    course.release(name)
    expected = _hand_in(course, name)
    course.collect(name)
    failed = course.grade(name, workers, scheduler, confined, tell=print)
    rows = course.table(name)
    print(show(rows), course.feedback(name), course.export(name), sep="\n")
    wrong = [row["student"] for row in rows if row["score"] != expected[row["student"]]]
    print(f"The class stays in {course.root}, to look at.")
    print(f"{len(rows)} submissions; scores other than expected: {', '.join([*wrong, *failed]) or 'none'}")
    return len(wrong) + len(failed)


def _hand_in(course: Course, name: str) -> dict[str, float]:
    """Fill the inbox, and return what everyone should get."""
    paths = (course.root / kind / name / f"{name}.ipynb" for kind in ("source", "release"))
    source, release = (nbformat.read(str(path), as_version=4) for path in paths)
    right = {grade_id(cell): cell.source for cell in source.cells if grade_id(cell)}
    points = {grade_id(cell): cell.metadata["nbgrader"]["points"] for cell in source.cells if is_check(cell)}
    first, *_, last = points  # which calls the first
    full, expected = sum(points.values()), {}

    def hand_in(student: str, notebook: NotebookNode | str, score: float, file: str = f"{name}.ipynb") -> None:
        path = course.root / "inbox" / name / student / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(notebook if isinstance(notebook, str) else nbformat.writes(notebook), encoding="utf-8")
        expected[student] = float(score)

    def answered(answer: str = "{right}", helper: str = "{right}") -> NotebookNode:
        notebook = copy.deepcopy(release)
        for cell in filter(is_answer, notebook.cells):
            cell.source = right[grade_id(cell)]
            if grade_id(cell) == f"{first}_answer":
                cell.source = helper.replace("{right}", cell.source).replace("{f}", first)
            if grade_id(cell) == f"{last}_answer":
                cell.source = answer.replace("{right}", cell.source).replace("{f}", last)
        return notebook

    for student, (answer, kept) in ANSWERS.items():
        hand_in(student, answered(answer), full if kept else full - points[last])
    hand_in("ned", release, 0)
    hand_in("oda", nbformat.writes(answered())[:-99], 0)
    hand_in("pat", answered(), full, "my work (2).ipynb")
    hand_in("quy", "", 0, "answers.txt")
    bare, forged, marked = answered(), answered("def {f}(*arguments):\n    return 1"), answered()
    for cell in bare.cells:  # as other editors leave a notebook
        cell.metadata = {}
    hand_in("ray", bare, full)
    for cell in filter(is_check, forged.cells):
        cell.metadata["nbgrader"]["points"] = 1000
        cell.source, cell.outputs = "1000", [new_output("execute_result", {"text/plain": "1000"})]
    forged.cells += [NotebookNode({**cell, "id": f"{cell.id}-again"}) for cell in filter(is_check, forged.cells)]
    hand_in("sue", forged, full - points[last])
    marked.metadata["kernelspec"] = {"name": "ir", "display_name": "R"}
    marked.cells.append(new_markdown_cell("<img src=x onerror=alert(1)>"))
    marked.cells.append(new_code_cell("%%html\n<script>alert(1)</script>"))
    hand_in("tom", marked, full)
    hand_in("val", answered(helper="def {f}(x, *arguments):\n    return x"), full - points[first])
    hand_in("wes", answered(helper="import os\n\n\ndef {f}(*arguments):\n    os._exit(0)"), full - points[first])
    again, long = answered(), answered()
    again.cells += [NotebookNode({**cell, "id": f"{cell.id}-again"}) for cell in filter(is_answer, release.cells)]
    hand_in("xia", again, full)
    long.cells += [new_code_cell("# " + 90_000 * "x") for _ in range(100)]
    hand_in("yan", long, full)
    return expected
