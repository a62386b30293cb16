"""How long a lesson takes a reader, and how soon there is something to move: `make minutes`.

180 words a minute, 6 s for a line of code in sight, 75 s for a question in the lesson or its checkpoint, 150 s for an
explorer; and half of that again for pictures, second thoughts and feedback: readers with a clock needed 1.3 to 1.6
times the sum. To go on with a training (`go_on`) is not counted: it is watched while it runs, not played with.
"""

import argparse
import math
import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from lessons_src.show import quiz

EXPLORER = re.compile(r"\blesson\.(?:explore|watch|draw)_\w+\(|\bExplorer\(")
READERS = 1.5  # times the sum of words, lines, questions and explorers
NOT_READ = re.compile(r"<[^>]+>|\$\$.*?\$\$", re.DOTALL)  # tags and displayed formulas are not words


@dataclass(frozen=True)
class Length:
    """What a reader of a lesson meets.

    `first` is the cell of the first explorer, `before` the words above it; None in a lesson without one.
    """

    words: int
    lines: int
    questions: int
    explorers: int
    first: int | None
    before: int | None

    @property
    def minutes(self) -> float:
        """Minutes that readers need."""
        return READERS * (self.words / 180 + 0.1 * self.lines + 1.25 * self.questions + 2.5 * self.explorers)

    @property
    def whole_minutes(self) -> int:
        """Minutes rounded up, as a lesson prints them."""
        return math.ceil(round(self.minutes, 6))  # 28 and a rounding error are 28


def is_collapsed(cell: NotebookNode) -> bool:
    """Whether JupyterLab shows a bar in place of the cell's code."""
    return cell.metadata.get("jupyter", {}).get("source_hidden", False)


def measure(notebook: NotebookNode, questions: int) -> Length:
    """The length of a lesson that asks so many questions."""
    words = lines = explorers = 0
    first = before = None
    for place, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            words += len(NOT_READ.sub(" ", cell.source).split())
        elif cell.cell_type == "code":
            found = len(EXPLORER.findall(cell.source))
            if found and first is None:
                first, before = place, words
            explorers += found
            if not is_collapsed(cell):
                lines += sum(1 for line in cell.source.splitlines() if line.strip())
    return Length(words, lines, questions, explorers, first, before)


def of_lesson(path: Path) -> Length:
    """The length of the lesson stored at `path`, with the questions in its folder."""
    items = quiz.load(f"lessons_src.lessons.lesson_{path.name[:2]}").items
    return measure(nbformat.read(path, as_version=4), sum(item.place in ("predict", "checkpoint") for item in items))


def main() -> None:
    """Print the lengths of the lessons named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m lessons_src.make.minutes", description=main.__doc__)
    parser.add_argument("notebooks", nargs="+", type=Path)
    columns = "{:32}{:>6}{:>7}{:>11}{:>11}{:>18}{:>9}"
    print(columns.format("lesson", "words", "lines", "questions", "explorers", "first cell/words", "minutes"))
    for path in parser.parse_args().notebooks:
        it = of_lesson(path)
        counts = (it.words, it.lines, it.questions, it.explorers)
        print(columns.format(path.stem, *counts, f"{it.first} / {it.before}", f"{it.minutes:.1f}"))


if __name__ == "__main__":
    main()
