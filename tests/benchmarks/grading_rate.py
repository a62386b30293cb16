"""Submissions a minute: this grader against plain `nbgrader autograde`, on the same submissions, one after the other.

python tests/benchmarks/grading_rate.py [SUBMISSIONS]   (12 by default)
"""

import copy
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat

from lessons_src.grading.course import SOURCES, Course
from lessons_src.grading.notebook import grade_id, is_answer

NAME = "05_ddim"
PLAIN = "c = get_config()\nc.ExecutePreprocessor.timeout = 60\n"


def hand_in(root: Path, submissions: int) -> None:
    """Right answers, each a little different, as one text and nothing cached could serve them all."""
    paths = (root / kind / NAME / f"{NAME}.ipynb" for kind in ("source", "release"))
    source, release = (nbformat.read(str(path), as_version=4) for path in paths)
    right = {grade_id(cell): cell.source for cell in source.cells if grade_id(cell)}
    for number in range(submissions):
        notebook = copy.deepcopy(release)
        for cell in filter(is_answer, notebook.cells):
            cell.source = f"{right[grade_id(cell)]}\n# {number}"
        path = root / "inbox" / NAME / f"student{number:03}.ipynb"
        path.write_text(nbformat.writes(notebook), encoding="utf-8")


def timed(*command: str, folder: Path) -> float:
    """Seconds that a command takes, its start included."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    return time.perf_counter() - start


def main() -> None:
    """Print seconds a submission and submissions a minute for either grader, start-up included."""
    submissions = int(sys.argv[1]) if len(sys.argv) > 1 else 12
    with tempfile.TemporaryDirectory() as folder:
        ours, plain, source = Path(folder, "ours"), Path(folder, "plain"), Path(folder, f"{NAME}.ipynb")
        notebook = nbformat.read(str(SOURCES / source.name), as_version=4)
        notebook.cells = [cell for cell in notebook.cells if "not-graded" not in cell.metadata.get("tags", ())]
        source.write_text(nbformat.writes(notebook), encoding="utf-8")  # neither runs what only shows something
        course = Course.setup(ours, [source])
        course.release(NAME)
        hand_in(ours, submissions)
        course.collect(NAME)
        Course.setup(plain, [source]).release(NAME)
        (plain / "nbgrader_config.py").write_text(PLAIN)
        subprocess.run(["cp", "-r", str(ours / "submitted"), str(plain)], check=True)
        for label, seconds in {
            "nbgrader autograde": timed("nbgrader", "autograde", NAME, folder=plain),
            "grade, 2 workers": timed("lessons_src.grading", "grade", NAME, folder=ours),
        }.items():
            print(f"{label}: {seconds / submissions:.2f} s a submission, {60 * submissions / seconds:.0f} a minute")


if __name__ == "__main__":
    main()
