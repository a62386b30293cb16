"""What a learner reads under a cell that fails: their own line and a sentence, or all where something broke."""

import re

import pytest
from IPython.core.interactiveshell import InteractiveShell

from lessons_src.show import errors


@pytest.fixture
def run(capsys):
    """Run a cell in a shell with the extension, and return what is printed, without colours."""
    shell = InteractiveShell()
    errors.load_ipython_extension(shell)
    shell.run_cell("import torch; from lessons_src import data, samplers, schedules, weights; s = schedules.linear()")

    def run(cell):
        capsys.readouterr()
        shell.run_cell(cell)
        return re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).rstrip()

    return run


@pytest.mark.parametrize(
    ("cell", "ends"),
    [
        ("schedules.time_grid(s, -5)", "ValueError: steps is -5; expected a whole number from 1 to 1000"),
        (
            "samplers.sample(samplers.ddim(lambda x, t: (x,), torch.zeros(1, 2), s, [1000, 0]))",
            "TypeError: eps_fn(x, t) is (tensor([[0., 0.]]),); expected shape, dtype and device of x",
        ),
        ("data.digits(path='nowhere.npz')", "ValueError: path is 'nowhere.npz'; expected an .npz file"),
        ("weights.load('digit')", "ValueError: name is 'digit'; expected one of"),
    ],
)
def test_what_the_package_refuses_shows_the_cell_and_the_sentence(run, cell, ends):
    shown = run(cell)
    assert shown.splitlines()[-1].startswith(ends)
    assert f"----> 1 {cell}" in shown
    assert "lessons_src/" not in shown
    assert "site-packages" not in shown
    assert len(shown.splitlines()) < 8


def test_ones_own_functions_stay_in_sight(run):
    shown = run("def eps_fn(x, t):\n    return schedules.linear(0)\nlist(samplers.ddim(eps_fn, torch.zeros(1, 2), s))")
    assert "return schedules.linear(0)" in shown
    assert shown.endswith("ValueError: T is 0; expected a whole number, at least 1")
    assert "lessons_src/" not in shown


def test_what_broke_is_shown_whole(run):
    shown = run("def eps_fn(x, t):\n    return x @ x\nlist(samplers.ddim(eps_fn, torch.zeros(1, 2), s))")
    assert "return x @ x" in shown
    assert "lessons_src/samplers.py" in shown


def test_a_name_that_is_not_there_says_what_to_do(run):
    assert run("schedule").endswith(errors.TOO_EARLY)
    assert run("def f():\n    del s\nf()").splitlines()[-1].startswith("UnboundLocalError")


def test_a_stopped_cell_says_that_nothing_is_broken(run):
    assert run("raise KeyboardInterrupt").endswith(f"KeyboardInterrupt: {errors.STOPPED}")
