"""Exercise notebooks: one source each, the edition generated from it, and a solved copy that earns every point."""

import ast
import inspect
import re
from importlib import import_module
from itertools import pairwise

import nbformat
import pytest
import torch

from lessons_src import exercises
from lessons_src.exercises import all_tasks, editions
from lessons_src.exercises.tasks import ask, judge

SOURCES = sorted(editions.SOURCES.glob("*.ipynb"))
pytestmark = pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)


def read(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def edition_of(path):
    return read(path.parents[1] / path.name)


def by_id(notebook):
    return {cell.id: cell for cell in notebook.cells}


def tasks_of(path):
    return import_module(f"lessons_src.lessons.lesson_{path.stem[:2]}.exercises").TASKS


def hidden_cases(source, task):
    """The cases between the marks of a graded cell, as a grader collects them."""
    found = []
    scope = {"check": lambda function, cases: found.extend(cases), task.name: task.reference}
    exec(by_id(source)[task.name].source.split("### BEGIN HIDDEN TESTS")[1], scope)
    return found


def test_edition_is_the_generated_one(path):
    def content(notebook):
        return [(cell.id, cell.cell_type, cell.source, dict(cell.metadata)) for cell in notebook.cells]

    generated, stored = editions.self_study(read(path)), edition_of(path)
    assert content(generated) == content(stored), "run `make exercises`"


def test_edition_is_stored_executed_with_untouched_stubs(path):
    code = [cell for cell in edition_of(path).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert all(output.output_type != "error" for cell in code for output in cell.outputs)
    for task in tasks_of(path):
        cells = by_id(edition_of(path))
        stub = ast.parse(cells[f"{task.name}-answer"].source).body[0]
        assert isinstance(stub.body[-1], ast.Raise)
        assert len(stub.body) == 2, "a docstring and the raise, nothing else"
        (output,) = cells[task.name].outputs
        said = output.data["text/plain"]
        assert said.startswith(f"{task.name}: 0 of ")
        assert said.count("✗") == len(task.cases)
        assert "Not written yet." in said


def test_source_is_stored_without_outputs(path):
    assert not [cell for cell in read(path).cells if cell.get("outputs") or cell.get("execution_count")]
    assert max(path.stat().st_size, (path.parents[1] / path.name).stat().st_size) < 60_000


def test_every_task_of_the_lesson_in_order(path):
    source, edition = by_id(read(path)), by_id(edition_of(path))
    assert [name for name in source if name in all_tasks()] == [task.name for task in tasks_of(path)]
    for number, task in enumerate(tasks_of(path), 1):
        text = source[f"{task.name}-text"].source
        assert text.startswith(f"## {number} · ")
        assert f"`{task.name}` · {task.minutes} minutes · difficulty {task.difficulty} of 3" in text
        assert "**Predict.**" in text
        assert "<details><summary>Answer</summary>" in text
        hints = edition[f"{task.name}-hint"].source
        places = [hints.index(f"<summary>Hint {n} of 3</summary>\n\n{hint}") for n, hint in enumerate(task.hints, 1)]
        assert places == sorted(places)
        assert hints.index("</details>") > places[-1], "a hint opens only inside the one before"
        assert edition[f"{task.name}-solution"].source.startswith("<details><summary>A solution</summary>")


def test_minutes_add_up(path):
    stated = int(re.search(r"\*\*(\d+) minutes\*\*", read(path).cells[0].source)[1])
    needed = sum(task.minutes for task in tasks_of(path))
    assert needed <= stated < needed + 5
    hardest = re.search(r"difficulty (\d) to (\d) of 3", read(path).cells[0].source)
    assert [int(n) for n in hardest.groups()] == [f(task.difficulty for task in tasks_of(path)) for f in (min, max)]


def test_stub_says_what_goes_in_and_out(path):
    for task in tasks_of(path):
        stub = ast.parse(by_id(edition_of(path))[f"{task.name}-answer"].source).body[0]
        names = [argument.arg for argument in stub.args.args]
        assert names == list(inspect.signature(task.reference).parameters)
        text = ast.get_docstring(stub)
        assert all(re.search(rf"\b{name}\b", text) for name in names), task.name
        assert "Returns" in text
        assert re.search(r"shape|number", text.split("Returns")[1]), f"{task.name}: what shape comes back?"


def test_marks_for_the_grader(path):
    cells = by_id(read(path))
    marks = [cell.metadata.nbgrader for cell in cells.values() if "nbgrader" in cell.metadata]
    assert len({mark.grade_id for mark in marks}) == len(marks)
    for task in tasks_of(path):
        answer, graded = cells[f"{task.name}-answer"].metadata.nbgrader, cells[task.name].metadata.nbgrader
        assert (answer.grade_id, answer.solution, answer.grade) == (f"{task.name}_answer", True, False)
        assert (graded.grade_id, graded.solution, graded.grade, graded.locked) == (task.name, False, True, True)
        assert answer.schema_version == graded.schema_version == 3
        assert graded.points == sum(case.points for case in (*task.cases, *hidden_cases(read(path), task)))


def test_only_setup_and_answers_run_when_graded(path):
    graded = {"setup", *(f"{task.name}{end}" for task in tasks_of(path) for end in ("", "-answer"))}
    for cell in read(path).cells:
        if cell.cell_type == "code":
            assert (cell.id in graded) != ("not-graded" in cell.metadata.get("tags", ())), cell.id


def test_hidden_cases_tell_right_from_wrong(path):
    for task in tasks_of(path):
        cases = hidden_cases(read(path), task)
        assert cases

        def verdict(answer, seed, task=task, cases=cases):
            return judge(task, lambda arguments: ask(answer, arguments), torch.Generator().manual_seed(seed), cases)

        for seed in range(5):
            found = verdict(task.reference, seed)
            assert found.earned == found.possible, found
        for position in range(len(inspect.signature(task.reference).parameters)):
            assert verdict(lambda *arguments, position=position: arguments[position], 0).earned == 0
        wrong = [verdict(wrong, 0).results for wrong, _ in task.wrong_answers]
        assert all(any(result.says for result in results) for results in zip(*wrong, strict=True))


def test_solved_source_earns_every_point(path, monkeypatch, capsys):
    verdicts = []

    def check(answer, cases=None):
        verdicts.append(exercises_check(answer, cases))
        return verdicts[-1]

    exercises_check = exercises.check
    monkeypatch.setattr(exercises, "check", check)
    scope = {"__name__": "__main__"}
    for cell in read(path).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, cell.id, "exec"), scope)
    assert len(verdicts) == 2 * len(tasks_of(path))
    for verdict in verdicts:
        assert verdict.earned == verdict.possible > 0, verdict
    assert " needs " not in capsys.readouterr().out, "a picture that the solutions do not unlock"


def test_solved_edition_is_the_shown_solution(path):
    source, edition = by_id(read(path)), by_id(edition_of(path))
    for task in tasks_of(path):
        shown = re.search(r"```python\n(.*)\n```", edition[f"{task.name}-solution"].source, re.DOTALL)[1]
        assert "###" not in shown
        written = ast.parse(source[f"{task.name}-answer"].source).body[0]
        assert [ast.dump(node) for node in ast.parse(shown).body[0].body] == [ast.dump(n) for n in written.body[1:]]


GIVEN = {"0.36", "0.01", "0.0001", "0.02", "0.999", "0.98", "0.0784", "0.64"}  # what a question starts from


def test_numbers_in_the_text(path):
    """A number with two decimals or more is given in the question, or computed here."""
    text = " ".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    claims = getattr(import_module(f"test_lesson_{path.stem[:2]}"), "CLAIMS", {})
    for number in set(re.findall(r"(?<![\d.])\d\.\d{2,}(?!\d)", text)):
        assert number in GIVEN | set(claims), number
    for number, exact in claims.items():
        digits = len(number.partition(".")[2])
        assert round(float(exact()), digits) == float(number)
        assert number in text or f"{100 * float(number):.0f} %" in text


def test_headings_and_links(path):
    for notebook, folder in ((read(path), None), (edition_of(path), path.parents[1])):
        text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
        headings = re.findall(r"^(#+) (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
        levels = [len(marks) for marks, _ in headings]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert headings[0][1].startswith(f"{path.stem[:2]} · Exercises: ")
        assert all(after <= before + 1 for before, after in pairwise(levels))
        for target in re.findall(r"\]\(([^)\s]+)\)", text) if folder else ():
            assert (folder / target).exists(), target


def test_class_edition_by_nbgrader(path):
    """nbgrader's own preprocessors accept the source and leave neither solution nor hidden test in it."""
    preprocessors = pytest.importorskip("nbgrader.preprocessors")
    notebook, resources = read(path), {"nbgrader": {"assignment": path.stem, "notebook": path.stem}}
    for name in ("CheckCellMetadata", "LockCells", "ClearSolutions", "ClearHiddenTests", "ComputeChecksums"):
        notebook, resources = getattr(preprocessors, name)().preprocess(notebook, resources)
    everything = "\n".join(cell.source for cell in notebook.cells)
    assert "SOLUTION" not in everything
    assert "HIDDEN" not in everything
    for task in tasks_of(path):
        cells = by_id(notebook)
        assert cells[task.name].source.strip() == f"check({task.name})"
        assert "raise NotImplementedError" in cells[f"{task.name}-answer"].source
