"""Answers that call other answers: with the course's own tasks, since a right helper runs in a process of its own."""

import copy
import json
import time

import nbformat
import pytest
from two_tasks import COURSE_TASKS

from lessons_src import exercises
from lessons_src.exercises.tasks import NoAnswer
from lessons_src.grading.course import SOURCES
from lessons_src.grading.grade import Job, grade
from lessons_src.grading.notebook import grade_id, is_answer, is_check, rebuild

SOURCE = nbformat.read(str(SOURCES / "05_ddim.ipynb"), as_version=4)
FULL = {grade_id(cell): cell.metadata["nbgrader"]["points"] for cell in SOURCE.cells if is_check(cell)}
INSTEAD = ", with a right ddim_step in place of yours"
WRONG = "def ddim_step(x_t, eps, ab_t, ab_s):\n    return ab_s * x_t"
LOOP = """
def ddim_sample(net, x, alpha_bar, times):
    for t, s in pairwise(times):
        eps = net(x, torch.full((len(x),), t))
        x = {}
    return x
"""
STEP = "ddim_step(x, eps, alpha_bar[t].item(), alpha_bar[s].item())"


@pytest.fixture
def graded(sandbox, monkeypatch):
    """Grade lesson 05: the scores, and what is told of every task."""
    monkeypatch.setattr(exercises, "all_tasks", COURSE_TASKS)
    release = copy.deepcopy(SOURCE)
    for cell in filter(is_check, release.cells):
        cell.source = cell.source.split("### BEGIN")[0]

    def run(answers, turned=False, **limits):
        made = copy.deepcopy(release)
        for cell in filter(is_answer, made.cells):
            cell.source = answers.get(grade_id(cell).removesuffix("_answer"), cell.source)
        if turned:
            made.cells = [made.cells[1], *(cell for cell in made.cells[::-1] if is_answer(cell) or is_check(cell))]
        rebuilt, _ = rebuild(nbformat.writes(made).encode(), release)
        limits = {"cell": 5, "call": 1, "total": 60} | limits
        result = grade(Job(nbformat.writes(rebuilt), nbformat.writes(SOURCE), "secret", **limits), sandbox)
        cells = nbformat.reads(result.notebook, as_version=4).cells
        return (
            {name: earned for name, (earned, _) in result.scores.items()},
            {grade_id(cell): cell.outputs[1].text for cell in filter(is_check, cells)},
        )

    return run


HELPERS = {
    "wrong": {"ddim_step": WRONG},
    "missing": {"ddim_step": ""},
    "no function": {"ddim_step": "ddim_step = None"},
    "ends its process": {"ddim_step": "import os\ndef ddim_step(*_):\n    os._exit(1)"},
    "called by keywords": {
        "ddim_step": WRONG,
        "ddim_sample": LOOP.format("ddim_step(x, ab_s=alpha_bar[s].item(), ab_t=alpha_bar[t].item(), eps=eps)"),
    },
}


@pytest.mark.parametrize("answers", HELPERS.values(), ids=HELPERS)
def test_a_wrong_helper_is_named_and_costs_its_own_points_only(graded, answers):
    scores, told = graded(answers)
    assert scores == FULL | {"ddim_step": 0}
    for name in ("walk", "ddim_sample"):
        assert told[name].count(INSTEAD) == told[name].count("✓")
    assert "in place of yours" not in told["even_grid"] + told["ddim_step"]


def test_the_order_of_cells_does_not_matter(graded):
    assert graded({"ddim_step": WRONG}, turned=True)[0] == FULL | {"ddim_step": 0}


def test_a_mistake_beside_that_of_a_helper_is_named(graded):
    scores, told = graded({"ddim_step": WRONG, "ddim_sample": LOOP.format(STEP).replace("[s]", "[t - 1]")})
    assert scores["ddim_sample"] == 1  # of every time
    assert "With a right ddim_step in place of yours: x is re-noised to t - 1" in told["ddim_sample"]


def test_right_helpers_can_be_asked_and_neither_read_nor_misused(graded):
    """What comes from a sealed process of their own is all that there is of them."""
    spy = "__import__('pathlib').Path('/course').rglob('exercises.py')"
    answer = "type(ddim_step).__name__, sorted(map(str, {})), ddim_step.own(1, 1, 1, 1)"
    _, told = graded(
        {"ddim_step": WRONG, "ddim_sample": f"def ddim_sample(*_):\n    raise ValueError({answer.format(spy)})"}
    )
    assert "'Helper', [], 1)" in told["ddim_sample"]
    assert "sqrt" not in told["ddim_sample"]
    for arguments in ("'a'", "torch.zeros(10**5, 1), torch.zeros(1, 10**5), 0.5, 0.6"):
        scores, told = graded({"ddim_step": WRONG, "ddim_sample": LOOP.format(f"ddim_step({arguments})")})
        assert scores == FULL | {"ddim_step": 0, "ddim_sample": 0}
        assert "RuntimeError" in told["ddim_sample"], told["ddim_sample"]


FLOOD = """
import json, os, struct
def ddim_sample(*_):
    content = json.dumps({{"ask": "ddim_step", "arguments": {}}}).encode()
    while True:
        for fd in range(3, 40):
            try: os.write(fd, struct.pack("=I", len(content)) + content)
            except OSError: pass
"""


@pytest.mark.parametrize("arguments", ["[]", "[[]] * 9", "None"])
def test_asking_without_end_ends_with_the_time_of_a_call(graded, arguments):
    scores, told = graded({"ddim_step": WRONG, "ddim_sample": FLOOD.format(arguments)})
    assert scores == FULL | {"ddim_step": 0, "ddim_sample": 0}
    assert json.dumps(told["ddim_sample"])


def test_an_answer_that_comes_late_is_not_taken_for_a_request(sandbox):
    """Time is up while the helper works: what it gives arrives when nobody waits for it."""

    def late(encoded):
        time.sleep(1.5)
        return {"answer": 7}

    with sandbox.open() as kernel:
        kernel.run("def f(): return h()\ndef g(x): return x", 5)
        assert kernel.call("f", (), 5, helpers={"h": late}) == 7
        with pytest.raises(NoAnswer, match="longer than"):
            kernel.call("f", (), 0.5, helpers={"h": late})
        assert kernel.call("g", (3,), 5) == 3
        with pytest.raises(NoAnswer, match="NameError: name 'h' is not defined"):
            kernel.call("f", (), 5)
