"""`make notebooks` executes what has changed and nothing else, and what it stores is current."""

import nbformat
import pytest

from lessons_src.make import notebooks
from lessons_src.make.pages import NOTEBOOKS

PATHS = [path for folder in ("", "deeper", "exercises") for path in sorted((NOTEBOOKS / folder).glob("*.ipynb"))]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_stored_outputs_are_of_the_code_that_is_there(path):
    assert notebooks.is_current(path), "run `make notebooks exercises`"


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "05_small.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print(1)")]), path)
    return path


def test_only_what_changed_is_executed(small, monkeypatch, capsys):
    def main(*options):
        monkeypatch.setattr("sys.argv", ["notebooks", str(small), *options])
        notebooks.main()
        return capsys.readouterr().out

    assert "05_small" in main()
    assert nbformat.read(small, as_version=4).cells[0].outputs[0].text == "1\n"
    assert main() == ""
    assert "05_small" in main("--all")
    changed = nbformat.read(small, as_version=4)
    changed.cells[0].source = "print(2)"
    nbformat.write(changed, small)
    assert not notebooks.is_current(small)


def test_a_change_of_what_the_lesson_shows_counts_and_of_its_exercises_does_not(small, tmp_path, monkeypatch):
    folder = tmp_path / "lessons" / "lesson_05"
    folder.mkdir(parents=True)
    monkeypatch.setattr(notebooks.lessons, "__file__", str(folder.parent / "__init__.py"))
    notebook, seen = nbformat.read(small, as_version=4), []
    for name in ("explorer.py", "exercises.py", "lesson.toml"):
        (folder / name).write_text("new")
        seen.append(notebooks.digest(notebook, small))
    assert seen[0] == seen[1] == seen[2] != notebooks.digest(notebook, tmp_path / "06_small.ipynb")
    assert notebooks.digest(notebook, tmp_path / "deeper" / "05_small.ipynb") == seen[0]
    exercise = tmp_path / "exercises" / "05_small.ipynb"
    before = notebooks.digest(notebook, exercise)
    (folder / "exercises.py").write_text("newer")
    assert notebooks.digest(notebook, exercise) != before


def test_the_errata_belong_to_no_lesson(small, tmp_path, monkeypatch):
    folder = tmp_path / "lessons" / "lesson_05"
    folder.mkdir(parents=True)
    monkeypatch.setattr(notebooks.lessons, "__file__", str(folder.parent / "__init__.py"))
    notebook, errata = nbformat.read(small, as_version=4), tmp_path / "deeper" / "errata.ipynb"
    before = notebooks.digest(notebook, errata)
    (folder / "explorer.py").write_text("new")
    assert notebooks.digest(notebook, errata) == before
    notebook.cells[0].source = "print(2)"
    assert notebooks.digest(notebook, errata) != before


def test_an_error_leaves_the_file_as_it_was(small):
    notebook = nbformat.read(small, as_version=4)
    notebook.cells[0].source = "1 / 0"
    nbformat.write(notebook, small)
    before = small.read_bytes()
    with pytest.raises(Exception, match="ZeroDivisionError"):
        notebooks.execute(small)
    assert small.read_bytes() == before
    assert [path.name for path in small.parent.iterdir()] == [small.name]
