"""What holds for every lesson: its pictures, its questions and its exercises.

`test_lesson_NN.py` beside this file holds a lesson's own part: ANSWERS, computed anew, to the questions that expect a
number, RIGHT, two other right answers to each exercise, and tests of its pictures.
"""

import base64
import copy
import inspect
import re
from collections import Counter
from functools import cache
from importlib import import_module
from importlib.resources import files

import nbformat
import pytest
import torch

from lessons_src.exercises import all_tasks, wire
from lessons_src.exercises.editions import SOURCES
from lessons_src.exercises.tasks import ask, judge
from lessons_src.grading.grade import prove
from lessons_src.grading.notebook import grade_id
from lessons_src.show import quiz
from lessons_src.show.widgets import Explorer

LESSONS = sorted(path.parent.name for path in (files("lessons_src") / "lessons").glob("lesson_*/lesson.toml"))
PARTS = {lesson: import_module(f"test_{lesson}") for lesson in LESSONS}
RIGHT = {name: answers for part in PARTS.values() for name, answers in getattr(part, "RIGHT", {}).items()}
TASKS = all_tasks()
NAMES = [pytest.param(name, id=f"{task.reference.__module__.split('.')[2]}-{name}") for name, task in TASKS.items()]
MISTAKES = [
    pytest.param(*name.values, i, id=f"{name.id}-{i}")
    for name in NAMES
    for i in range(len(TASKS[name.values[0]].wrong_answers))
]
ITEMS = {
    f"{lesson}-{item.id}": (lesson, item)
    for lesson in LESSONS
    for item in quiz.load(f"lessons_src.lessons.{lesson}").items
    if hasattr(item, "answer")
}
EXPLORERS = {
    f"{lesson}-{name}": (explorer, name)
    for lesson in LESSONS
    if (files("lessons_src") / "lessons" / lesson / "explorer.py").is_file()
    for explorer in [import_module(f"lessons_src.lessons.{lesson}.explorer")]
    for name in vars(explorer)
    if name.startswith("explore_")
}


# --- Questions


@pytest.mark.parametrize("key", ITEMS)
def test_an_answer_is_the_rounded_result(key):
    lesson, item = ITEMS[key]
    exact = PARTS[lesson].ANSWERS[item.id]()
    digits = len(f"{item.answer:g}".partition(".")[2])
    assert item.answer == pytest.approx(exact, abs=0.5 * 10**-digits + 1e-9)
    assert abs(exact - item.answer) < item.tolerance


@pytest.mark.parametrize("lesson", LESSONS)
def test_no_answer_is_left_over(lesson):
    assert set(PARTS[lesson].ANSWERS) == {item.id for where, item in ITEMS.values() if where == lesson}


@pytest.mark.parametrize("lesson", LESSONS)
def test_the_deeper_notebook_asks_its_predictions(lesson):
    """Each item of place "deeper" once, and no other."""
    asked = [
        name
        for path in (SOURCES.parents[1] / "deeper").glob(f"{lesson[-2:]}_*.ipynb")
        for cell in nbformat.read(path, as_version=4).cells
        if cell.cell_type == "code"
        for name in re.findall(r'lesson\.predict\("([^"]+)"\)', cell.source)
    ]
    written = [item.id for item in quiz.load(f"lessons_src.lessons.{lesson}").items if item.place == "deeper"]
    assert sorted(asked) == sorted(written)


# --- Pictures


EMPTY_SHEET = base64.b64encode(bytes(28 * 28)).decode("ascii")  # of a drawing that was cleared


def ends(control):
    """The values of a control that go wrong first."""
    if control["kind"] == "slider":
        return control["min"], control["max"]
    options = control["options"] if control["kind"] == "choice" else [*control["presets"].values(), EMPTY_SHEET]
    return options if len(options) <= 6 else (options[0], options[-1])


def settings(explorer):
    """Every control at its ends while the others stay where they start, with few steps; then all low and all high."""
    start = explorer._request["values"]  # as the page sends them
    few = {control["name"]: control["min"] for control in explorer._controls if control["name"] == "steps"}
    for control in explorer._controls:
        for value in ends(control):
            yield start | few | {control["name"]: value}
    for corner in (0, -1):
        yield {control["name"]: ends(control)[corner] for control in explorer._controls}


@pytest.mark.parametrize("key", EXPLORERS)
def test_no_setting_of_a_control_raises_and_the_text_is_finite(key):
    module, name = EXPLORERS[key]
    explorer = getattr(module, name)(*getattr(PARTS[key.split("-")[0]], "ARGUMENTS", {}).get(name, ()))
    assert isinstance(explorer, Explorer)
    for number, values in enumerate(settings(explorer), 1):
        explorer.set_state({"_request": {"id": number, "values": values}})
        assert explorer.error is None, values
        text = explorer.picture.sentence()
        assert not re.search(r"\b(nan|inf)\b", text), f"{values}: {text}"


# --- Exercises


def remembered(wrong):
    """A mistake's function that is called once for the same arguments: every other answer is held against it."""
    known = {}

    def call(*arguments):
        key = str([wire.encode(argument) for argument in arguments])
        if key not in known:
            known[key] = wrong(*arguments)
        return known[key]

    return call


@cache
def with_memory(name):
    task = copy.copy(TASKS[name])
    vars(task)["wrong_answers"] = tuple((remembered(wrong), says) for wrong, says in task.wrong_answers)
    return task


def verdict(name, answer, seed):
    return judge(with_memory(name), lambda arguments: ask(answer, arguments), torch.Generator().manual_seed(seed))


def test_every_task_has_other_right_answers():
    assert list(RIGHT) == list(TASKS)


@pytest.mark.parametrize("name", NAMES)
def test_reference_and_two_other_right_answers_pass(name):
    for answer in (TASKS[name].reference, *RIGHT[name]):
        for seed in range(5):
            found = verdict(name, answer, seed)
            assert found.earned == found.possible > 0, found


@pytest.mark.parametrize(("name", "number"), MISTAKES)
def test_mistake_fails_with_its_own_sentence_and_no_other(name, number):
    wrong, says = TASKS[name].wrong_answers[number]
    for seed in range(3):
        found = verdict(name, wrong, seed)
        assert found.earned < found.possible
        assert {result.says for result in found.results} - {""} == {says}, found


def test_an_argument_handed_back_is_called_by_its_name():
    says = [result.says for result in verdict("add_noise", lambda x0, eps, alpha_bar: eps, 0).results]
    assert says == ["This is eps, just as it was given."] * 3


@pytest.mark.parametrize("name", NAMES)
def test_no_case_is_passed_by_doing_nothing(name):
    """Neither an argument handed back nor zeros of the right shape earn a point."""
    task = TASKS[name]
    for position in range(len(inspect.signature(task.reference).parameters)):
        found = verdict(name, lambda *arguments, position=position: arguments[position], seed=0)
        assert found.earned == 0, found
    found = verdict(name, lambda *arguments: torch.zeros_like(torch.as_tensor(task.reference(*arguments))), seed=0)
    assert found.earned == 0, found


@pytest.mark.parametrize("name", NAMES)
def test_has_what_an_exercise_needs(name):
    task = TASKS[name]
    assert len(task.mistakes) >= 4
    assert len({mistake.says for mistake in task.mistakes}) == len(task.mistakes)
    assert all(mistake.says.endswith(".") and len(mistake.says) > 30 for mistake in task.mistakes)
    assert len(set(task.hints)) == 3
    assert "`" in task.hints[2], "the last hint shows code"


def test_four_to_eight_tasks_a_lesson():
    counts = Counter(task.reference.__module__ for task in TASKS.values())
    assert len(counts) == len(list(SOURCES.glob("*.ipynb")))
    assert all(4 <= count <= 8 for count in counts.values())


def test_inputs_are_fresh():
    for task in TASKS.values():
        for case in task.cases:
            drawn = [case.arguments(torch.Generator().manual_seed(seed)) for seed in range(4)]
            if (task.name, case.label) != ("linear_alpha_bar", "the usual thousand steps"):
                assert len({str(wire.encode(arguments)) for arguments in drawn}) > 1, (task.name, case.label)


def test_the_hidden_check_that_the_instructors_page_shows_works():
    source = nbformat.read(SOURCES / "05_ddim.ipynb", as_version=4)
    (cell,) = (cell for cell in source.cells if grade_id(cell) == "ddim_step")
    cell.source = (SOURCES.parent / "INSTRUCTORS.md").read_text().split("```python\n")[1].split("```")[0]
    cell.metadata["nbgrader"]["points"] = 5
    prove(nbformat.writes(source))
    cell.metadata["nbgrader"]["points"] = 4
    with pytest.raises(ValueError, match="points of ddim_step is 4; expected 5"):
        prove(nbformat.writes(source))
