"""Write what the list of lessons decides: tables, links between lessons, plans for a class. `make pages`.

In a Markdown page the text between `<!-- NAME -->` and `<!-- /NAME -->` is replaced; in a notebook, the line that
ends with `<!-- navigation -->`, in the first cell and in the last.
"""

import argparse
import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from lessons_src.checks import refuse
from lessons_src.files import write_whole
from lessons_src.lessons import Lesson, all_lessons

ROOT = Path(__file__).parents[2]
MARK = "<!-- navigation -->"  # at the end: a line that begins with a comment is HTML, in which no link works


def lesson_table(lessons: tuple[Lesson, ...]) -> str:
    """The README's table: link, question, and what one can do afterwards."""
    rows = [
        f"| [{lesson.number} {lesson.title}](notebooks/{lesson.name}.ipynb) | {lesson.question} | {lesson.after} |"
        for lesson in lessons
    ]
    return "\n".join(["| lesson | its question | after it you can |", "|---|---|---|", *rows])


def exercise_list(lessons: tuple[Lesson, ...]) -> str:
    """Links to the exercise notebooks there are."""
    folder = ROOT / "notebooks" / "exercises"
    return "\n".join(
        f"- [{lesson.number} {lesson.title}]({lesson.name}.ipynb)"
        for lesson in lessons
        if (folder / f"{lesson.name}.ipynb").exists()
    )


def minute_plans(lessons: tuple[Lesson, ...]) -> str:
    """For instructors: what a class does with the minutes of each lesson."""
    return "\n".join(
        f"- **{lesson.number} {lesson.title}**, {lesson.minutes} minutes: "
        + " · ".join(f"{part.what} ({part.minutes})" for part in lesson.plan)
        for lesson in lessons
    )


PAGES = {
    "README.md": {"lessons": lesson_table},
    "notebooks/exercises/README.md": {"exercises": exercise_list},
    "notebooks/exercises/INSTRUCTORS.md": {"plans": minute_plans},
}


def filled(page: str, name: str, content: str) -> str:
    """The page with `content` between the marks called `name`. Raises ValueError unless both are there once."""
    pattern = rf"(<!-- {name} -->\n).*?(\n<!-- /{name} -->)"
    filled, count = re.subn(pattern, lambda found: found[1] + content + found[2], page, flags=re.DOTALL)
    return filled if count == 1 else refuse(f"marks called {name}", count, "one pair in the page")


def navigation(lessons: tuple[Lesson, ...], place: int) -> str:
    """The line with the way to the lesson before and after the one at `place`."""
    links = []
    if place > 0:
        before = lessons[place - 1]
        links.append(f"[← {before.number} {before.title}]({before.name}.ipynb)")
    if place + 1 < len(lessons):
        after = lessons[place + 1]
        links.append(f"[{after.number} {after.title} →]({after.name}.ipynb)")
    return f"{' · '.join(links)} {MARK}"


def navigated(notebook: NotebookNode, line: str) -> NotebookNode:
    """The notebook with its navigation below the title and at the very end."""
    first, last = notebook.cells[0], notebook.cells[-1]
    title, _, text = _without(first.source).partition("\n\n")
    first.source = f"{title}\n\n{line}\n\n{text}"
    last.source = f"{_without(last.source)}\n\n{line}"
    return notebook


def _without(source: str) -> str:
    return re.sub(rf"\n\n[^\n]*{MARK}", "", source)


def made() -> dict[Path, str]:
    """Every file that is made from the list of lessons, with what should stand in it."""
    lessons = all_lessons()
    found = {}
    for name, parts in PAGES.items():
        page = (ROOT / name).read_text(encoding="utf-8")
        for mark, content in parts.items():
            page = filled(page, mark, content(lessons))
        found[ROOT / name] = page
    for place, lesson in enumerate(lessons):
        path = ROOT / "notebooks" / f"{lesson.name}.ipynb"
        notebook = navigated(nbformat.read(path, as_version=4), navigation(lessons, place))
        found[path] = nbformat.writes(notebook) + "\n"
    return found


def main() -> None:
    """Write the pages and notebooks that differ from what the list of lessons says, and name them."""
    argparse.ArgumentParser(prog="python -m lessons_src.make.pages", description=main.__doc__).parse_args()
    for path, content in made().items():
        if path.read_text(encoding="utf-8") != content:
            write_whole(path, lambda part, content=content: part.write_text(content, encoding="utf-8"))
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
