"""Write what the list of lessons decides: tables, links between notebooks, plans for a class. `make pages`.

In a Markdown page the text between `<!-- NAME -->` and `<!-- /NAME -->` is replaced; in a lesson and in a deeper
notebook, the line that ends with `<!-- navigation -->`, in the first cell and in the last.
"""

import argparse
import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from lessons_src.checks import refuse
from lessons_src.files import write_whole
from lessons_src.lessons import Lesson, all_lessons
from lessons_src.make import glossary

ROOT = Path(__file__).parents[2]
NOTEBOOKS = ROOT / "notebooks"
MARK = "<!-- navigation -->"  # at the end: a line that begins with a comment is HTML, in which no link works


def lesson_table(lessons: tuple[Lesson, ...]) -> str:
    """The README's table: links to the lesson and deeper, question, what one can do afterwards, minutes."""
    rows = []
    for lesson in lessons:
        links = f"[{lesson.number} {lesson.title}](notebooks/{lesson.name}.ipynb)"
        if has_deeper(lesson):
            links += f" · [deeper](notebooks/deeper/{lesson.name}.ipynb)"
        rows.append(f"| {links} | {lesson.question} | {lesson.after} | {lesson.minutes} |")
    return "\n".join(["| lesson | its question | after it you can | minutes |", "|---|---|---|--:|", *rows])


def exercise_list(lessons: tuple[Lesson, ...]) -> str:
    """Links to the exercise notebooks there are."""
    folder = NOTEBOOKS / "exercises"
    return "\n".join(
        f"- [{lesson.number} {lesson.title}]({lesson.name}.ipynb)"
        for lesson in lessons
        if (folder / f"{lesson.name}.ipynb").exists()
    )


def minute_plans(lessons: tuple[Lesson, ...]) -> str:
    """For instructors: what a class does with the minutes of each lesson, and what everybody can do afterwards."""
    return "\n".join(
        f"- **{lesson.number} {lesson.title}**, {lesson.minutes} minutes: "
        + " · ".join(f"{part.what} ({part.minutes})" for part in lesson.plan)
        + f".\n  *Aims:* {'; '.join(lesson.aims)}."
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


def has_deeper(lesson: Lesson) -> bool:
    """Whether there is a notebook for what the lesson leaves out."""
    return (NOTEBOOKS / "deeper" / f"{lesson.name}.ipynb").exists()


def links(lessons: tuple[Lesson, ...], place: int) -> str:
    """The way from the lesson at `place` to the lesson before, to the one after, and deeper."""
    found = []
    if place > 0:
        before = lessons[place - 1]
        found.append(f"[← {before.number} {before.title}]({before.name}.ipynb)")
    if place + 1 < len(lessons):
        after = lessons[place + 1]
        found.append(f"[{after.number} {after.title} →]({after.name}.ipynb)")
    if has_deeper(lessons[place]):
        found.append(f"[deeper](deeper/{lessons[place].name}.ipynb)")
    return " · ".join(found)


def header(lessons: tuple[Lesson, ...], place: int) -> str:
    """What stands under a lesson's title: how long it takes, what it needs, and the `links`."""
    lesson = lessons[place]
    names = {other.number: other.name for other in lessons}
    needs = ", ".join(f"[{number}]({names[number]}.ipynb)" for number in lesson.needs)
    return " · ".join([f"**{lesson.minutes} minutes**", *([f"needs {needs}"] if needs else []), links(lessons, place)])


def deeper_links(lessons: tuple[Lesson, ...], place: int) -> str:
    """The way from a deeper notebook back to its lesson, and to the lesson after that."""
    lesson, *after = lessons[place : place + 2]
    found = [f"[← {lesson.number} {lesson.title}](../{lesson.name}.ipynb)"]
    found += [f"[{other.number} {other.title} →](../{other.name}.ipynb)" for other in after]
    return " · ".join(found)


def navigated(notebook: NotebookNode, top: str, end: str) -> NotebookNode:
    """The notebook with one line of navigation below its title and another at the very end."""
    first, last = notebook.cells[0], notebook.cells[-1]
    title, _, text = _without(first.source).partition("\n\n")
    first.source = f"{title}\n\n{top} {MARK}\n\n{text}".rstrip()
    last.source = f"{_without(last.source)}\n\n{end} {MARK}"
    return notebook


def _without(source: str) -> str:
    return re.sub(rf"\n\n[^\n]*{MARK}", "", source)


def made() -> dict[Path, str]:
    """Every file that has something from the list of lessons in it, with what should stand there."""
    lessons = all_lessons()
    found = {}
    for name, parts in PAGES.items():
        page = (ROOT / name).read_text(encoding="utf-8")
        for mark, content in parts.items():
            page = filled(page, mark, content(lessons))
        found[ROOT / name] = page
    for place, lesson in enumerate(lessons):
        end = f"{links(lessons, place)} · [words and papers](glossary.ipynb)"
        ways = {NOTEBOOKS / f"{lesson.name}.ipynb": (header(lessons, place), end)}
        if has_deeper(lesson):
            back = deeper_links(lessons, place)
            ways[NOTEBOOKS / "deeper" / f"{lesson.name}.ipynb"] = (
                back,
                f"{back} · [words and papers](../glossary.ipynb)",
            )
        for path, (top, end) in ways.items():
            found[path] = nbformat.writes(navigated(nbformat.read(path, as_version=4), top, end)) + "\n"
    found[NOTEBOOKS / "glossary.ipynb"] = nbformat.writes(glossary.page(NOTEBOOKS)) + "\n"
    return found


def main() -> None:
    """Write the pages and notebooks that differ from what the list of lessons says, and name them."""
    argparse.ArgumentParser(prog="python -m lessons_src.make.pages", description=main.__doc__).parse_args()
    for path, content in made().items():
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            write_whole(path, lambda part, content=content: part.write_text(content, encoding="utf-8"))
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
