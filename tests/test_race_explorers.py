"""The solver race: fair in evaluations, right against the library and the exact flow, and safe at the ends."""

import re

import pytest
import torch

from lessons_src import data, race_explorers
from lessons_src.oracle import exact_flow
from lessons_src.race_explorers import BUDGETS, NOBODY, RACERS, STARTS, race_picture, run
from lessons_src.samplers import trajectory
from lessons_src.schedules import cosine, linear, time_grid
from lessons_src.solvers import SOLVERS


def starts():
    return torch.randn(STARTS, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_it_opens_with_three_solvers_and_ten_evaluations():
    explorer = race_explorers.explore_race()
    assert explorer.picture.text.startswith(
        "10 network evaluations, log_snr grid, linear schedule, 60 starts. DDIM: 10"
    )
    assert explorer.picture.text.endswith("Nearest: DPM-Solver++(2M).")
    assert [panel.title for panel in explorer.picture.panels[:3]] == ["DDIM", "Heun", "DPM-Solver++(2M)"]
    assert len(explorer.picture.png()) < 100_000


def test_only_solvers_without_chance_race():
    assert set(SOLVERS) - set(RACERS) == {"DDPM", "SDE-DPM-Solver++(2M)"}


@pytest.mark.parametrize("name", RACERS)
@pytest.mark.parametrize("budget", [13, 30])
def test_a_run_ends_where_the_library_ends(name, budget):
    found = run(name, budget, "quadratic", "linear")
    assert found.frames.shape == (budget + 1, STARTS, 2)
    assert len(found.times) == budget + 1
    assert (found.times[0], found.times[-1]) == (1000, 0)
    assert torch.equal(found.frames[0], starts())
    grid = time_grid(linear(), found.steps, "quadratic")
    path = trajectory(starts(), SOLVERS[name].run(data.ring().network(linear()), starts(), linear(), grid))
    assert torch.equal(found.frames[-1], path[-1])
    truth = exact_flow(data.ring().eps, starts(), float(linear().alpha_bar[-1]))
    distance = (path[-1] - truth).square().sum(1).mean().sqrt().item()
    assert found.error == pytest.approx(distance, abs=1e-12)
    assert SOLVERS[name].nfe(found.steps) <= budget < SOLVERS[name].nfe(found.steps + 1)


def test_a_solver_moves_when_its_evaluations_are_spent():
    """Five steps of Heun: two evaluations a step, one for the last, and one of ten left over."""
    times = time_grid(linear(), 5, "log_snr")
    spent = run("Heun", 10, "log_snr", "linear").times
    assert spent == [times[0]] * 2 + [times[1]] * 2 + [times[2]] * 2 + [times[3]] * 2 + [times[4]] + [0, 0]
    assert run("DDIM", 10, "log_snr", "linear").times == time_grid(linear(), 10, "log_snr")


def test_who_cannot_pay_does_not_run():
    assert run("PNDM", 12, "linspace", "linear") is None
    picture = race_picture("PNDM", "DDIM", NOBODY, 12, "linspace", "linear")
    assert "PNDM cannot run: its four steps cost 13." in picture.text
    assert "Nearest" not in picture.text
    assert (picture.panels[0].frames == picture.panels[0].frames[0]).all()
    assert picture.panels[-1].x[0] == 15
    assert picture.panels[-1].marker is None


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("grid", ["linspace", "quadratic", "edm"])
@pytest.mark.parametrize("budget", [5, 60])
def test_the_ends_of_every_control(budget, grid, schedule):
    picture = race_picture("RK4", "PNDM", "UniPC-3", budget, grid, schedule)
    assert not re.search(r"\b(nan|inf)\b", picture.text)
    assert len(picture.frame_names) == len(picture.frame_texts) == budget + 1
    assert {panel.count() for panel in picture.panels} <= {1, budget + 1}
    curves = picture.panels[-1]
    for line in curves.series.values():
        assert -4 <= line.min() <= line.max() <= 2
    assert set(curves.x.tolist()) == {n for n in BUDGETS if n >= 13}


def test_the_curve_holds_the_error_of_every_budget():
    curves = race_picture("DDIM", "PLMS", NOBODY, 20, "log_snr", "linear").panels[-1]
    for name, line in curves.series.items():
        for n, value in zip(curves.x.astype(int).tolist(), line, strict=True):
            assert 10 ** float(value) == pytest.approx(run(name, n, "log_snr", "linear").error, rel=1e-4)


def test_what_a_frame_says():
    texts = race_picture("DDIM", "Heun", NOBODY, 8, "linspace", "linear").frame_texts
    assert texts[0] == "DDIM stands at t = 1000, Heun stands at t = 1000."
    assert texts[1] == "DDIM stands at t = 875, Heun stands at t = 1000."
    assert texts[8] == "DDIM stands at t = 0, Heun stands at t = 0."


def test_the_same_solver_twice_runs_once():
    picture = race_picture("DDIM", "DDIM", "DDIM", 6, "linspace", "linear")
    assert [panel.title for panel in picture.panels][:-1] == ["DDIM"]


def test_heun_flies_off_at_the_cosine_schedules_start_and_unipc_does_not():
    heun, unipc = (run(name, 20, "linspace", "cosine").error for name in ("Heun", "UniPC-2"))
    assert heun > 1
    assert unipc < 0.1
    truth = exact_flow(data.ring().eps, starts(), float(cosine().alpha_bar[-1]))
    assert torch.allclose(torch.tensor(race_picture("DDIM", "Heun", NOBODY, 5, "linspace", "cosine").panels[0].target),
                          truth.float())  # fmt: skip


def test_what_the_lesson_says_a_learner_should_have_seen():
    def error(name, budget=10, grid="log_snr", schedule="linear"):
        return run(name, budget, grid, schedule).error

    two_m = "DPM-Solver++(2M)"
    assert error(two_m) < error("DDIM") < error("Heun")
    assert error("Heun", 30) > error("DDIM", 30)
    assert all(error(two_m, n) < error("DDIM", n) < error("Heun", n) for n in (10, 20, 30))
    assert all(error(two_m, n) < error("Heun", n) < error("DDIM", n) for n in (31, 40, 60))
    even = {name: error(name, grid="linspace") / error(name) for name in ("PLMS", two_m, "DDIM", "Heun")}
    assert even["Heun"] < 0.9 < even["DDIM"] < 1.1 < even[two_m] < even["PLMS"]
    near = {
        (name, grid, schedule)
        for name in RACERS
        for grid in ("linspace", "trailing", "quadratic", "log_snr", "edm")
        for schedule in ("linear", "cosine")
        for found in [run(name, 10, grid, schedule)]
        if found and found.error < 0.01
    }
    assert not near
    assert error("UniPC-2", 11, "quadratic", "cosine") < 0.01


@pytest.mark.parametrize(
    ("values", "name"), [(("DDPM", 10), "name"), (("DDIM", 3), "budget"), (("DDIM", 10, "grid"), "grid")]
)
def test_bad_values_are_refused_by_name(values, name):
    with pytest.raises(ValueError, match=f"{name} is"):
        run(*values, *("linspace", "linear")[len(values) - 2 :])


@pytest.mark.parametrize(
    ("value", "text"), [(0.0123, "0.012"), (12.3, "12"), (690.2, "690"), (2.4e7, "10^7"), (99.6, "100"), (99.4, "99")]
)
def test_numbers(value, text):
    assert race_explorers._number(value) == text
