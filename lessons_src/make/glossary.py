"""The glossary: the words of the field and where each is explained, the papers and which notebooks name them.

Both are listed once, in lessons_src/lessons/glossary.toml; `make pages` writes notebooks/glossary.ipynb from them.
"""

import re
import tomllib
from pathlib import Path
from typing import NamedTuple

import nbformat
from nbformat import NotebookNode

from lessons_src import lessons
from lessons_src.checks import refuse
from lessons_src.make.notebooks import KERNELSPEC, digest

LIST = Path(lessons.__file__).with_name("glossary.toml")


class Notebook(NamedTuple):
    """A lesson or deeper notebook as the glossary sees it: its place in the folder, its headings, its Markdown."""

    place: str
    headings: list[str]
    prose: str


def read(folder: Path) -> dict[str, Notebook]:
    """The lessons and deeper notebooks of a folder by their short names, such as 05 and deeper/05."""
    found = {}
    for path in sorted(folder.glob("[0-9]*.ipynb")) + sorted(folder.glob("deeper/*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        prose = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        shown = [
            output.get("data", {}).get("text/markdown", "") for cell in cells for output in cell.get("outputs", [])
        ]
        place = path.relative_to(folder)
        short = place.stem if place.stem == "errata" else str(place.with_name(place.name[:2]))
        headings = re.findall(r"^##+ (.*)$", prose, re.MULTILINE)
        found[short] = Notebook(str(place), headings, "\n\n".join([prose, *shown]))
    return found


def words_table(words: dict[str, dict[str, str]], notebooks: dict[str, Notebook]) -> str:
    """One row a word, in order. Raises ValueError for a word whose `at` is no heading, or that its notebook lacks."""
    rows = []
    for word in sorted(words, key=str.casefold):
        at = words[word]["at"]
        short, _, heading = at.partition("#")
        if heading not in (notebooks[short].headings if short in notebooks else ()):
            refuse(f"at of {word!r}", at, "a lesson, # and one of its headings")
        text = words[word].get("as", re.split(r"[,(]", word)[0].strip())
        if text.casefold() not in notebooks[short].prose.casefold():
            refuse(f"text of {word!r}", text, f"a text that {short} has")
        link = f"{notebooks[short].place}#{heading.replace(' ', '-')}"
        rows.append(f"| **{word}** | {words[word]['says']} | [{short} · {heading}]({link}) |")
    return "\n".join(["| word | what it means | explained in |", "|---|---|---|", *rows])


def papers_table(papers: dict[str, str], notebooks: dict[str, Notebook]) -> str:
    """One row a paper, oldest first. Raises ValueError if one is named by no notebook, or a named one is not listed."""
    named = {place: set(re.findall(r"arxiv\.org/abs/(\d+\.\d+)", book.prose)) for place, book in notebooks.items()}
    if missing := set().union(*named.values()) - set(papers):
        refuse("papers named by notebooks", sorted(missing), "only papers in glossary.toml")
    rows = []
    for paper in sorted(papers):
        where = [f"[{place}]({notebooks[place].place})" for place, found in named.items() if paper in found]
        if not where:
            refuse("a paper in glossary.toml", paper, "one that a notebook names")
        rows.append(f"| {papers[paper]} | [{paper}](https://arxiv.org/abs/{paper}) | {' '.join(where)} |")
    return "\n".join(["| paper | arXiv | named in |", "|---|---|---|", *rows])


def page(folder: Path) -> NotebookNode:
    """The glossary as a notebook of Markdown cells."""
    listed, notebooks = tomllib.loads(LIST.read_text(encoding="utf-8")), read(folder)
    texts = (
        "# Words and papers\n\n[← 00 Start here](00_start_here.ipynb)\n\nA word you do not know? Press Ctrl+F (on a "
        "Mac, ⌘F) and type it. Each row links to the place where the course explains the word.",
        "## Words\n\n" + words_table(listed["words"], notebooks),
        "## Papers\n\nWhat the course builds on. All words and code here are our own; mistakes, too.\n\n"
        + papers_table(listed["papers"], notebooks),
    )
    names = ("top", "words", "papers")
    cells = [nbformat.v4.new_markdown_cell(text, id=name) for name, text in zip(names, texts, strict=True)]
    metadata = {"kernelspec": KERNELSPEC, "language_info": {"name": "python"}}
    made = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    made.metadata.outputs_of = digest(made, folder / "glossary.ipynb")
    return made
