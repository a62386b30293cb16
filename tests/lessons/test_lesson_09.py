"""Lesson 09: its pictures, the answers to its questions, and right answers to its exercises."""

import base64
import io
import math
import re
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from by_hand import guided_bill, rotated
from hypothesis import given
from hypothesis import strategies as st

from lessons_src import (
    data,
    measurements,
    process,
    schedules,
    solvers,
)
from lessons_src.evaluation import Reference, accuracy, in_batches, modes
from lessons_src.guidance import classifier_free
from lessons_src.lessons.lesson_09 import explorer, figures, grids
from lessons_src.lessons.lesson_09 import front as front_module
from lessons_src.lessons.lesson_09.claims import RULES, Claim, differences, objections
from lessons_src.lessons.lesson_09.explorer import BUDGETS, GRIDS, RACERS, STARTS, race_picture, run
from lessons_src.lessons.lesson_09.front import (
    LIT,
    MARGIN,
    REFERENCE,
    as_good,
    difference,
    dominates,
    draw,
    find,
    front,
    reaching,
    sorts,
    students,
    told,
)
from lessons_src.metrics import frechet_distance
from lessons_src.oracle import exact_flow
from lessons_src.samplers import Counted, renoise, sample, trajectory
from lessons_src.schedules import cosine, linear, time_grid, times_to
from lessons_src.show import plots
from lessons_src.solvers import SOLVERS


def starts():
    return torch.randn(STARTS, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_it_opens_with_three_solvers_and_ten_evaluations():
    shown = explorer.explore_race()
    assert shown.picture.formula == ("10 calls. Miss: DDIM 0.071, DPM-Solver++(2M) 0.05, Heun 0.17",)
    assert [panel.title for panel in shown.picture.panels[:3]] == ["DDIM", "DPM-Solver++(2M)", "Heun"]
    assert len(shown._controls) == 4
    assert shown.picture.plays
    assert len(shown.picture.png()) < 100_000


def test_who_races():
    """No solver with chance, and none that cannot run everywhere on the slider."""
    assert set(SOLVERS) - set(RACERS) == {"DDPM", "SDE-DPM-Solver++(2M)", "RK4", "PNDM"}
    assert SOLVERS["RK4"].nfe(4) == SOLVERS["PNDM"].nfe(4) == 13


@pytest.mark.parametrize("name", RACERS)
@pytest.mark.parametrize("budget", [13, 30])
def test_a_run_ends_where_the_library_ends(name, budget):
    found = run(name, budget, "quadratic", "linear")
    assert found.frames.shape == (budget + 1, STARTS, 2)
    assert len(found.times) == budget + 1
    assert (found.times[0], found.times[-1]) == (1000, 0)
    assert torch.equal(found.frames[0], starts())
    steps = SOLVERS[name].steps(budget)
    grid = time_grid(linear(), steps, "quadratic")
    path = trajectory(starts(), SOLVERS[name].run(data.ring().network(linear()), starts(), linear(), grid))
    assert torch.equal(found.frames[-1], path[-1])
    truth = exact_flow(data.ring().eps, starts(), float(linear().alpha_bar[-1]))
    distance = (path[-1] - truth).square().sum(1).mean().sqrt().item()
    assert found.error == pytest.approx(distance, abs=1e-12)
    assert SOLVERS[name].nfe(steps) <= budget < SOLVERS[name].nfe(steps + 1)


def test_a_solver_moves_when_its_evaluations_are_spent():
    """Five steps of Heun: two evaluations a step, one for the last, and one of ten left over."""
    times = time_grid(linear(), 5, "log_snr")
    spent = run("Heun", 10, "log_snr", "linear").times
    assert spent == [times[0]] * 2 + [times[1]] * 2 + [times[2]] * 2 + [times[3]] * 2 + [times[4]] + [0, 0]
    assert run("DDIM", 10, "log_snr", "linear").times == time_grid(linear(), 10, "log_snr")


@pytest.mark.parametrize("name", RACERS)
def test_every_racer_runs_with_the_fewest_calls(name):
    assert not torch.equal(run(name, BUDGETS[0], "linspace", "linear").frames[-1], starts())


@pytest.mark.parametrize("schedule", explorer.SCHEDULES)
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("budget", [7, 60])
def test_the_ends_of_every_control(budget, grid, schedule):
    picture = race_picture("PLMS", budget, grid, schedule)
    assert not re.search(r"\b(nan|inf)\b", picture.text)
    assert len(picture.frame_names) == len(picture.frame_texts) == budget + 1
    assert {panel.count() for panel in picture.panels} == {budget + 1}
    curves = picture.panels[-1]
    assert tuple(curves.x.tolist()) == BUDGETS


def test_the_curve_holds_the_error_of_every_budget():
    curves = race_picture("PLMS", 20, "log-SNR", "linear").panels[-1]
    for name, line in curves.series.items():
        for n, value in zip(curves.x.astype(int).tolist(), line, strict=True):
            assert 10 ** float(value) == pytest.approx(run(name, n, "log_snr", "linear").error, rel=1e-4)


def test_what_a_frame_says():
    picture = race_picture("Heun", 8, "t", "linear")
    texts, both = picture.frame_texts, "Signal so far: DDIM and 2M {} %, Heun {} %."
    assert texts[0] == both.format(1, 1)
    assert texts[1] == both.format(2, 1)
    assert texts[8] == "All have arrived."
    assert picture.frame_names[1] == "1 of 8 calls"
    for grid in GRIDS.values():
        times = [run(name, 8, grid, "linear").times for name in explorer.ALWAYS]
        assert times[0] == times[1], "DDIM and 2M"


def test_collapsed_points_are_on_target_but_have_no_spread():
    """What a share on target alone would call perfect."""
    means = data.ring().means
    assert modes(data.ring(), means.repeat(8, 1)) == (1.0, 8, 0.0)
    assert modes(data.ring(), means[:1].repeat(60, 1)) == (1.0, 1, 0.0)


def test_heun_flies_off_at_the_cosine_schedules_start_and_unipc_does_not():
    heun, unipc = (run(name, 20, "linspace", "cosine").error for name in ("Heun", "UniPC-2"))
    assert heun > 1
    assert unipc < 0.1
    truth = exact_flow(data.ring().eps, starts(), float(cosine().alpha_bar[-1]))
    assert torch.allclose(torch.tensor(race_picture("UniPC-2", 7, "t", "cosine").panels[0].target), truth.float())


def test_the_dare():
    """Nineteen calls of 2M below 0.01, and no budget of DDIM; Heun's two ways to fly while the others do not."""
    slider = range(BUDGETS[0], BUDGETS[-1] + 1)
    near = {
        name: [n for n in slider if run(name, n, "quadratic", "linear").error < 0.01]
        for name in ("DDIM", "DPM-Solver++(2M)")
    }
    assert near == {"DDIM": [], "DPM-Solver++(2M)": list(range(19, 61))}
    assert run("DDIM", 60, "quadratic", "linear").error == pytest.approx(0.012, abs=0.0005)
    flown = {
        (grid, schedule)
        for schedule in explorer.SCHEDULES
        for grid, name in GRIDS.items()
        for n in slider[::3]
        if run("Heun", n, name, schedule).error > 10
        and max(run(other, n, name, schedule).error for other in explorer.ALWAYS) < 0.1
    }
    assert flown == {("t", "cosine"), ("√t", "cosine")}
    tenth = {name: run(name, 10, "quadratic", "linear").error for name in RACERS}
    assert min(tenth, key=tenth.get) == "PLMS"
    assert tenth["PLMS"] == pytest.approx(0.012, abs=0.0005)
    assert run("PLMS", 10, "quadratic", "cosine").error > 50


def test_more_races():
    """Seven calls for a miss below 0.05, and eleven for 0.01, on any grid and schedule; DDIM needs fourteen."""

    def anybody(budget, below):
        return {
            (name, grid, schedule)
            for name in RACERS
            for grid in GRIDS
            for schedule in explorer.SCHEDULES
            if SOLVERS[name].nfe(explorer.FEWEST) <= budget and run(name, budget, GRIDS[grid], schedule).error < below
        }

    assert not anybody(6, 0.05)
    assert anybody(7, 0.05) >= {(name, "√t", "cosine") for name in ("DPM-Solver++(2M)", "UniPC-2")}
    assert not any(name == "DDIM" for name, *_ in anybody(13, 0.05))
    assert ("DDIM", "√t", "cosine") in anybody(14, 0.05)
    assert not anybody(10, 0.01)
    assert ("UniPC-2", "√t", "cosine") in anybody(11, 0.01)


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


@pytest.mark.parametrize(
    ("values", "name"), [(("DDPM", 10), "name"), (("Heun", 6), "budget"), (("DDIM", 10, "grid"), "grid")]
)
def test_bad_values_are_refused_by_name(values, name):
    with pytest.raises(ValueError, match=f"{name} is"):
        run(*values, *("linspace", "linear")[len(values) - 2 :])


@pytest.mark.parametrize(
    ("value", "text"), [(0.0123, "0.012"), (12.3, "12"), (690.2, "690"), (2.4e7, "10^7"), (99.6, "100"), (99.4, "99")]
)
def test_numbers(value, text):
    assert explorer._number(value) == text


WHOLE = Claim("UniPC-2", (5, 10, 20), "digit network", "test digits", "feature-Fréchet", 1000, 1.0, 0.1)


def test_a_whole_claim_may_be_quoted_and_compared():
    assert objections(WHOLE) == []
    assert differences(WHOLE, replace(WHOLE, sampler="DDIM", nfe=(20, 50, 100), error=0.3)) == []


@pytest.mark.parametrize(("name", "says"), RULES, ids=[name for name, _ in RULES])
def test_every_rule_objects_to_its_own_gap_only(name, says):
    gap = () if name == "nfe" else None
    assert objections(replace(WHOLE, **{name: gap})) == [says]


def test_an_empty_claim_breaks_every_rule():
    assert objections(Claim()) == [says for _, says in RULES]


def test_unguided_counts_as_said():
    assert objections(replace(WHOLE, w=0.0)) == []


@pytest.mark.parametrize(("nfe", "says"), [((10,), ["Only at 1 budget:"]), ((10, 20), ["Only at 2 budgets:"])])
def test_a_point_is_not_a_curve(nfe, says):
    assert [sentence.split(" show")[0] for sentence in objections(replace(WHOLE, nfe=nfe))] == says


def test_a_time_needs_both_sizes():
    for sizes in ({}, {"size": 1_000_000}, {"batch": 16}):
        (says,) = objections(replace(WHOLE, seconds=0.2, **sizes))
        assert "size of the network and of the batch" in says
    assert objections(replace(WHOLE, seconds=0.2, size=1_000_000, batch=16)) == []


@pytest.mark.parametrize(
    ("name", "other"), [("model", "another"), ("data", "CIFAR-10"), ("metric", "FID"), ("n", 50_000), ("w", 2.0)]
)
def test_what_must_be_the_same(name, other):
    assert differences(WHOLE, replace(WHOLE, **{name: other})) == [f"{name}: {getattr(WHOLE, name)} and {other}"]
    silent = replace(WHOLE, **{name: None})
    assert differences(silent, WHOLE) == differences(WHOLE, silent) == [f"{name}: not stated"]


def test_a_common_budget_is_needed():
    assert differences(WHOLE, replace(WHOLE, nfe=(4, 8))) == ["nfe: no budget in common"]


def test_every_field_matters():
    used = {name for name, _ in RULES} | {"seconds", "size", "batch"}
    assert used == {field.name for field in fields(Claim)}


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [("nfe", (0,), ValueError), ("nfe", (5, 5), ValueError), ("nfe", (2.5,), TypeError), ("n", 0, ValueError),
     ("w", -1.0, ValueError), ("error", -0.1, ValueError), ("seconds", -1.0, ValueError), ("batch", 0, ValueError)],
)  # fmt: skip
def test_impossible_numbers_are_refused(name, value, error):
    with pytest.raises(error, match=f"{name} is"):
        replace(WHOLE, **{name: value})


def row(nfe, frechet, error=0.1, solver="A", luck=0):
    """A row whose bootstrap samples scatter by `error`; those of one luck rise and fall together."""
    draws = torch.randn(200, generator=torch.Generator().manual_seed(luck))
    scores = frechet + error * (draws - draws.mean()) / draws.std()
    stored = base64.b64encode(scores.numpy().tobytes()).decode()
    return {"solver": solver, "nfe": nfe, "frechet": frechet, "standard error": error, "resampled": stored}


rows = st.lists(
    st.builds(
        row,
        st.integers(4, 9),
        st.sampled_from([0.5, 0.75, 1.0, 1.25, 2.0]),
        st.sampled_from([0.1, 0.3]),
        luck=st.integers(0, 3),
    ),
    min_size=1,
    max_size=12,
)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (row(5, 1.0), row(6, 1.2), True),
        (row(5, 1.0), row(5, 1.2), True),
        (row(5, 1.0), row(6, 1.0), True),  # as good, and cheaper
        (row(5, 1.0), row(5, 1.0), False),
        (row(6, 1.0), row(5, 1.2), False),  # better, but dearer
        (row(5, 1.2), row(6, 1.0), False),
    ],
)
def test_domination(a, b, expected):
    assert dominates(a, b) is expected


def test_luck_that_two_rows_share_cancels():
    """In pairs 0.3 and 0.4 make 0.1; of different luck about 0.5."""
    good, poor, other = row(5, 1.0, 0.3), row(5, 2.0, 0.4), row(5, 2.0, 0.4, luck=1)
    assert difference(poor, good) == (1.0, pytest.approx(0.1, abs=1e-5))
    assert difference(other, good).error == pytest.approx(0.5, rel=0.1)
    assert dominates(good, poor, 9.9)
    assert not dominates(good, poor, 10.1)
    assert not dominates(good, other, 2.5)


def test_the_interval_of_a_difference():
    gap = difference(row(5, 1.5, 0.2), row(9, 1.0, 0.1))
    assert (gap.low, gap.high) == pytest.approx((0.5 - 0.196, 0.5 + 0.196), abs=1e-4)


@given(rows, st.sampled_from([0.0, 1.0, 1.96]))
def test_front_is_what_nobody_dominates(rows, z):
    best = front(rows, z)
    assert best
    assert [r["nfe"] for r in best] == sorted(r["nfe"] for r in best)
    for r in rows:
        assert (r in best) is not any(dominates(other, r, z) for other in rows)


@given(rows)
def test_a_front_falls_and_grows_with_doubt(rows):
    best = front(rows)
    assert all(b["frechet"] < a["frechet"] for a, b in pairwise(best) if b["nfe"] > a["nfe"])
    assert all(r in front(rows, 1.96) for r in best)


def test_as_good_is_shown_and_not_merely_not_refuted():
    """A noisier row does not pass more easily: it passes less easily."""
    reference = row(1000, 1.0, 0.1)
    assert as_good(row(5, 1.1, 0.15), reference)  # 0.1 + 1.96 * 0.05 = 0.198
    assert not as_good(row(5, 1.1, 0.2), reference)  # 0.1 + 1.96 * 0.1 = 0.296
    assert not as_good(row(5, 1.1, 2.0), reference)
    assert as_good(row(5, 1.1, 0.2), reference, margin=0.3)
    assert as_good(reference, reference)


def test_reaching_takes_each_solvers_cheapest_that_is_as_good():
    reference = row(1000, 1.0, 0.1, "R")
    others = [(20, 1.0, 0.1, "B"), (10, 1.2, 0.1, "B"), (5, 1.3, 0.1, "B"), (8, 0.1, 0.1, "C"), (30, 1.2, 0.5, "D")]
    found = reaching([*(row(*other) for other in others), reference], reference)
    assert [(r["solver"], r["nfe"]) for r in found] == [("C", 8), ("B", 10), ("R", 1000)]


def test_find():
    assert find([row(5, 1.0), row(6, 2.0)], "A", 6) == row(6, 2.0)
    some = [row(8, 1.0), row(5, 1.0), row(7, 1.0, solver="C")]
    for who, says in (
        (("B", 5), "solver is 'B'; expected one of A, C"),
        (("A", 7), "calls is 7; expected for A one of 5, 8"),
    ):
        with pytest.raises(ValueError, match=re.escape(says)) as refused:
            find(some, *who)
        assert refused.value._render_traceback_() == [says], "what a notebook shows"


def test_doubt_is_not_negative():
    with pytest.raises(ValueError, match="z is -1"):
        dominates(row(5, 1.0), row(6, 1.0), -1)


@pytest.mark.parametrize("lit", [LIT, measurements.PARETO])
def test_the_picture_shows_every_row_and_fills_the_front(lit):
    stored = measurements.load("pareto")
    fig = draw(stored, students(), find(stored, *REFERENCE), lit)
    (axis,) = fig.axes
    marks = {name: [] for name in ("front", "floor", "students", *measurements.PARETO)}
    for line in axis.lines:
        marks[line.get_gid()] += zip(line.get_xdata(), line.get_ydata(), strict=True)
    for name in measurements.PARETO:
        assert sorted(marks[name]) == sorted((r["nfe"], r["frechet"]) for r in stored if r["solver"] == name)
    assert {height for _, height in marks["floor"]} == {find(stored, *REFERENCE)["floor"]}
    assert [calls for calls, _ in marks["students"]] == [1, 2, 4]
    assert sorted(marks["front"]) == sorted((r["nfe"], r["frechet"]) for r in front(stored))
    assert {line.get_color() for line in axis.lines if line.get_gid() == "DPM-Solver++(2M)"} == {plots.VERMILLION}
    names = [text.get_text() for text in axis.get_legend().get_texts()]
    assert set(names) >= set(lit)
    assert len(names) == min(len(lit) + 1, len(measurements.PARETO)) + 2
    file = io.BytesIO()
    fig.savefig(file, format="png", dpi=100)
    assert len(file.getvalue()) < 100_000


def test_who_draws_fresh_noise_and_who_follows_the_ode():
    some = [row(20, 1.25, solver="DDIM"), row(1000, 1.0, solver="DDPM"), row(5, 0.5, solver="UniPC-2")]
    assert sorts(some, random=True) == [some[1]]
    assert sorts(some, random=False) == [some[0], some[2]]


def test_what_is_told_of_a_difference():
    assert told(difference(row(5, 1.0, 0.1), row(9, 1.5, 0.05))) == "−0.50 ± 0.10"


@pytest.fixture
def said(monkeypatch):
    """The tables that a figure's function shows: a list of columns and sentences."""
    shown = []
    monkeypatch.setattr(figures.plots, "table", lambda columns, text=None: shown.append((columns, text)))
    return shown


def test_the_choice_follows_from_the_rows(said):
    stored = measurements.load("pareto")
    figures.show_choice()
    ((choice, _),) = said
    cheap = sorted((r["frechet"], r["solver"], r["nfe"]) for r in stored if r["nfe"] <= 10)[0]
    middle = sorted((r["frechet"], r["solver"], r["nfe"]) for r in stored if r["nfe"] <= 50)[0]
    good = [
        sorted((r["nfe"], r["frechet"], r["solver"]) for r in own if difference(r, ref).high < MARGIN)
        for own, ref in (
            (stored, find(stored, "DDPM", 1000)),
            ([r for r in stored if r["solver"] not in ("DDPM", "SDE-DPM-Solver++(2M)")], find(stored, "UniPC-2", 50)),
        )
    ]
    first = good[1][0]
    second = next(found for found in good[1] if found[2] != first[2])
    assert (first[2], second[2]) == ("UniPC-2", "DPM-Solver++(2M)")
    expected = [cheap, middle, *((score, solver, calls) for calls, score, solver in (good[0][0], first, second))]
    named = [f"{solver}, {calls:,} calls: {score:.2f}" for score, solver, calls in expected]
    assert choice["take"] == [*named[:3], "; ".join(named[3:])]


def test_the_rule():
    """2M alone has arrived with 8 calls; with fresh noise it is better, and from 30 calls on DDPM is."""
    stored, two_m = measurements.load("pareto"), "DPM-Solver++(2M)"
    assert as_good(find(stored, two_m, 8), find(stored, two_m, 50))
    for calls in (8, 10):
        assert difference(find(stored, f"SDE-{two_m}", calls), find(stored, two_m, 50)).high < 0
    for calls in (8, 10, 30, 50):
        gap = difference(find(stored, "DDPM", calls), find(stored, f"SDE-{two_m}", calls))
        assert gap.low > 0 if calls < 30 else gap.high < 0


def test_who_flies_and_who_does_not(said):
    figures.show_flight()
    ((columns, text),) = said
    assert "The signal is one part in 20,291 at t = 1000 and one part in 32 at t = 980." in text
    high, low = ([float(cell) for cell in columns[f"miss from t = {top}"]] for top in (1000, 980))
    averages_eps = [name in measurements.AVERAGE_EPS for name in columns["solver"]]
    assert all((miss > 1) is flies for miss, flies in zip(high, averages_eps, strict=True))
    assert max(low) < 0.1
    assert (high[0], low[0]) == pytest.approx((9.79, 0.07), abs=0.005), "Heun"
    assert high[2] == min(high), "DDIM"


def test_the_last_long_step_makes_what_the_others_miss():
    """From the exact place, one DDIM step to 0 misses by nearly as much as DDIM, 2M and UniPC with 16 calls."""
    levels, x, noise = cosine(), figures.starts(), data.ring().network(cosine())
    goal, (last, zero) = exact_flow(data.ring().eps, x, levels.alpha_bar[-1].item()), times_to(1000, 16)[-2:]
    fine = [t for t in time_grid(levels, 400, "log_snr") if t > last]
    path = SOLVERS["UniPC-2"].run(noise, x, levels, [*fine, last, zero])
    exact = next(state.x for state in path if state.t == last)
    miss = (sample(SOLVERS["DDIM"].run(noise, exact, levels, [last, zero])) - goal).square().sum(1).mean().sqrt().item()
    assert (last, miss) == (62, pytest.approx(0.037, abs=0.0005))


def test_why_heun_flies():
    """Its two answers differ by a few hundredths; the clean guess of their mean is hundreds off, that of one is not."""
    levels, x = cosine(), starts()
    network, s = data.ring().network(levels), time_grid(levels, SOLVERS["Heun"].steps(16))[1]
    first = network(x, torch.full((STARTS,), 1000))
    there = renoise(process.predict_x0(x, first, levels.alpha_bar[-1]), first, levels.alpha_bar[s])
    second = network(there, torch.full((STARTS,), s))
    clean, mean = (process.predict_x0(x, eps, levels.alpha_bar[-1]) for eps in (first, (first + second) / 2))
    assert (second - first).square().sum(1).mean().sqrt().item() == pytest.approx(0.055, abs=0.001)
    assert clean.abs().max() < 1.5
    assert 200 < (mean - clean).square().sum(1).mean().sqrt() < 1000


# --- What the lesson and its deeper part say


def cell(name, folder=""):
    """The source of a cell of the lesson."""
    path = Path(__file__).parents[2] / "notebooks" / folder / "09_fast_samplers.ipynb"
    (found,) = (cell.source for cell in nbformat.read(path, as_version=4).cells if cell.id == name)
    return found


def test_the_sampler_in_the_cell_is_the_librarys():
    names = {"figures": figures, "pairwise": pairwise, "torch": torch}
    names |= {"renoise": renoise, "predict_x0": process.predict_x0, "predict_eps": process.predict_eps}
    exec(cell("09-two-m"), names)  # the lesson's own code
    for levels in (linear(), cosine()):
        times, network = time_grid(levels, 12, "quadratic"), Counted(data.ring().network(levels))
        ours = names["two_m"](network, starts(), levels, times)
        assert network.nfe == 12
        theirs = sample(SOLVERS["DPM-Solver++(2M)"].run(network, starts(), levels, times))
        assert torch.allclose(ours, theirs, atol=1e-12)
    without = cell("09-two-m").replace("before is not None and s > 0", "False")
    exec(without, names)
    ours = names["two_m"](network, starts(), levels, times)
    assert torch.allclose(ours, sample(SOLVERS["DDIM"].run(network, starts(), levels, times)), atol=1e-12)


def test_the_line_through_two_guesses_is_nearer_and_log_snr_is_one_clock():
    """The picture of why: against lambda both schedules have one curve, against t two."""
    curves = {}
    for levels in (linear(), cosine()):
        times, guess = figures.clean_guesses(levels)
        clock = figures.half_log_snr(levels.alpha_bar[times])
        for name, axis, places in (("λ", clock, np.linspace(-4, 3, 30)), ("t", -times, -np.linspace(900, 100, 30))):
            curves[levels.name, name] = np.interp(places, axis.numpy(), guess.numpy())
    apart = {name: np.abs(curves["linear", name] - curves["cosine", name]).max() for name in ("λ", "t")}
    assert apart["λ"] < 0.02
    assert apart["t"] > 0.2
    times, guess = figures.clean_guesses(linear())
    clock = figures.half_log_snr(linear().alpha_bar[times])
    flat = (clock[1:] < -3) | (clock[:-1] > 2)
    assert guess.diff().abs()[flat].sum() < 0.06 * guess.diff().abs().sum(), "the flat ends"
    for grid, asked in (("log_snr", 5), ("quadratic", 3)):
        places = figures.half_log_snr(linear().alpha_bar[time_grid(linear(), 10, grid)[:-1]])
        assert ((places < -3) | (places > 2)).sum() == asked
    times, guess = figures.clean_guesses(linear())
    clock = figures.half_log_snr(linear().alpha_bar[times])
    at = [int((clock - place).abs().argmin()) for place in torch.linspace(-4.5, 2.5, 8)]
    still, line = [], []
    for before, i, j in zip(at, at[1:], at[2:], strict=False):
        slope = (guess[i] - guess[before]) / (clock[i] - clock[before])
        still.append((guess[i : j + 1] - guess[i]).abs().mean())
        line.append((guess[i : j + 1] - guess[i] - slope * (clock[i : j + 1] - clock[i])).abs().mean())
    assert sum(line) < 0.8 * sum(still)


ORDERS = [pytest.param(name, expected, id=name) for name, expected in figures.ORDERS.items()]


@pytest.mark.parametrize(("name", "expected"), ORDERS)
def test_orders_are_the_theorys(name, expected):
    assert figures.measured_order(name)[2] == pytest.approx(expected, abs=0.3)


def test_what_is_said_of_orders():
    at_8, at_32, at_64 = (
        {name: dict(zip(figures.BUDGETS, figures.measured_order(name)[1], strict=True))[n] for name in figures.ORDERS}
        for n in (8, 32, 64)
    )
    assert at_8["Heun"] > 2 * at_8["DDIM"]
    assert at_32["PLMS"] < at_32["DPM-Solver++(2M)"] < at_32["DDIM"] < at_32["Heun"]
    assert at_64["Heun"] < at_64["DDIM"]
    at_256 = figures.measured_order("Heun")[1][figures.BUDGETS.index(256)]
    assert (at_64["Heun"], at_256) == (pytest.approx(0.010, abs=0.0005), pytest.approx(0.0005, abs=0.00005))
    assert max(at_64["PLMS"], at_64["DPM-Solver++(2M)"]) < min(at_64[f"DPM-Solver{end}"] for end in ("-2", "++(2S)"))
    assert max(at_64["UniPC-2"], at_64["DPM-Solver++(3M)"]) < at_64["DPM-Solver-3"] < at_64["Heun"]


def test_the_bill():
    """An interval's cost is what the library counts; its times are midpoints, too, for DPM-Solver-2 and 2S."""
    for name, (_, cost) in figures.KINDS.items():
        counted, levels = Counted(data.ring().network(linear())), linear()
        intervals = 10
        times = time_grid(levels, intervals * (2 if name in ("DPM-Solver-2", "DPM-Solver++(2S)") else 1))
        more = {"generator": torch.Generator().manual_seed(0)} if SOLVERS[name].random else {}
        sample(SOLVERS[name].run(counted, starts(), levels, times, **more))
        assert abs(counted.nfe - cost * intervals) <= 1, name
    assert [SOLVERS[name].steps(20) for name in ("Heun", "PLMS", "DDIM")] == [10, 19, 20]


def stored_start(solver, nfe, start, grid):
    key = {"solver": solver, "nfe": nfe, "start": start, "grid": grid}
    (found,) = (r for r in measurements.load("starts") if key.items() <= r.items())
    return found


@pytest.mark.parametrize(
    ("solver", "nfe", "from_T", "below"),
    [("PLMS", 5, 2721, 87), ("PLMS", 10, 5.0, 2.4), ("DPM-Solver-2", 5, 1994, 3.9), ("DPM-Solver-2", 10, 7.4, 2.8),
     ("Heun", 9, 47, 2.7)],
)  # fmt: skip
def test_solvers_that_average_eps_start_below_T(solver, nfe, from_T, below):
    assert stored_start(solver, nfe, 1000, "log_snr")["frechet"] == pytest.approx(from_T, rel=0.01)
    assert stored_start(solver, nfe, 1000, "linspace")["frechet"] > 1000
    assert stored_start(solver, nfe, 980, "linspace")["frechet"] == pytest.approx(below, rel=0.03)


def test_what_averages_x0_needs_no_start_below_T():
    for nfe in (5, 10):
        high, low = (stored_start("UniPC-2", nfe, start, "linspace") for start in (1000, 980))
        assert 0 < difference(low, high).value < 0.5


def test_a_start_below_T_has_a_price():
    """Shown with many calls, where the steps cost little: the noised digits at 980 hold 3 % of signal, noise none."""
    high, low = stored_start("DPM-Solver-2", 50, 1000, "log_snr"), stored_start("DPM-Solver-2", 50, 980, "linspace")
    assert (high["frechet"], low["frechet"]) == pytest.approx((1.72, 2.06), abs=0.005)
    assert difference(low, high).low > 0
    assert cosine().alpha_bar[980].sqrt().item() == pytest.approx(0.031, abs=0.0005)


def test_why_x0_and_not_eps_under_strong_guidance():
    classifier, label = measurements.weights.load("classifier")[0], measurements.start_noise(30)[1]

    def read(w, **more):
        return {mean: accuracy(classifier, x.clamp(-1, 1), label) for mean, x in figures.guided(w, 30, **more).items()}

    assert min(read(1.0).values()) > 0.8
    strong = read(7.5)
    assert strong["ε̂"] < 0.4 < 0.95 < strong["x̂₀"]
    assert min(read(7.5, clipped=True).values()) > 0.95


def test_a_searched_grid_can_be_searched_again():
    """On another machine it may end at another grid; it must be as near, and nearer than equal steps of t."""
    net, label = measurements.weights.load("digits")[0], measurements.start_noise(10)[1]
    eps_fn = classifier_free(net, label, 1.0)
    goal = grids.ten_digits(eps_fn, net.schedule, time_grid(net.schedule, 40, "quadratic"))

    def away(times):
        return (grids.ten_digits(eps_fn, net.schedule, times) - goal).square().mean().sqrt().item()

    found = grids.search(4)
    assert away(found) < 1.02 * away(grids.SEARCHED[4])
    for steps, searched in grids.SEARCHED.items():
        assert away(searched) < 0.8 * away(time_grid(net.schedule, steps))


def test_the_margin_is_what_two_sets_of_real_digits_differ_by():
    """Sets drawn without regard to class, as real ones come."""
    features = measurements.weights.load("judge")[0].features
    real, train = (in_batches(features, data.digits(name)[0]) for name in ("test", "train"))
    generator = torch.Generator().manual_seed(0)
    drawn = [train[torch.randperm(len(train), generator=generator)[:1000]] for _ in range(40)]
    spread = torch.tensor([frechet_distance(each, real) for each in drawn]).std().item()
    assert 2 * spread / math.pi**0.5 == pytest.approx(MARGIN, rel=0.25), "mean distance of two normal draws"


def test_a_judge_that_knows_the_training_digits_does_not_tell_ours_from_real_ones():
    """The same digits under two judges. And the first thousand training digits are farther away than any draw."""
    net, label = measurements.weights.load("digits")[0], measurements.start_noise(1000)[1]
    solver, times = SOLVERS["SDE-DPM-Solver++(2M)"], time_grid(cosine(), 10)
    assert torch.equal(net.schedule.alpha_bar, cosine().alpha_bar)
    ours = measurements.in_hundreds(net, 1000, 1.0, lambda eps, x, g: solver.run(eps, x, cosine(), times, generator=g))
    above, slices = {}, {}
    for name in ("classifier", "judge"):
        features = measurements.weights.load(name)[0].features
        reference = Reference(features, data.digits("test")[0], *data.digits("train"))
        floor, spread = reference.floor(label)
        above[name] = (reference.frechet(ours) - floor) / spread
        slices[name] = (reference.frechet(reference.train[:1000]) - floor) / spread
    assert abs(above["classifier"]) < 1
    assert above["judge"] > 3
    assert slices["classifier"] > 1
    assert slices["judge"] > 3


def test_compare_tells_three_verdicts_apart(capsys):
    """In the lesson's own cell: with made rows, and what it prints of the stored ones."""
    source = cell("09-compare").split("\n\n\n")[0]
    made = [row(1, 1.0, 0.1), row(2, 1.1, 0.15), row(3, 1.1, 0.2), row(4, 1.2, 0.15)]
    for calls, said in ((2, "as good"), (3, "not shown"), (4, "worse")):
        names = {"front": front_module, "resampled": measurements.resampled, "rows": made}
        exec(source + f"\n\ncompare('A', {calls}, 'A', 1)", names)
        gap = difference(made[calls - 1], made[0])
        expected = "as good" if gap.high < MARGIN else "worse" if gap.low > 0 else "not shown"
        printed = f"A {calls} against A 1: {gap.value:+.2f} ± {1.96 * gap.error:.2f}, {expected}\n"
        assert capsys.readouterr().out == printed
        assert expected == said
    exec(cell("09-compare"), names | {"rows": measurements.load("pareto")})
    assert [line.split(", ")[1] for line in capsys.readouterr().out.splitlines()] == ["as good", "worse", "not shown"]


def test_the_lessons_cell_prints_what_the_race_says_for_twenty_calls():
    for name, expected in (("DDIM", 0.036), ("DPM-Solver++(2M)", 0.009)):
        assert run(name, 20, "quadratic", "linear").error == pytest.approx(expected, abs=0.0005)
    assert torch.equal(figures.starts(60), starts())
    saved = {
        n: 1 - run("DPM-Solver++(2M)", n, "quadratic", "linear").error / run("DDIM", n, "quadratic", "linear").error
        for n in (7, 20)
    }
    assert (saved[7], saved[20]) == pytest.approx((0.1, 0.75), abs=0.02), "a tenth, three quarters"


def grid_by_interpolation(alpha_bar, steps):
    """Searches the sorted log-SNRs and takes the nearer neighbour."""
    rising = (alpha_bar[1:] / (1 - alpha_bar[1:])).log().flip(0)
    T, found = len(rising), []
    for i in range(steps):
        value = rising[0] + (rising[-1] - rising[0]) * i / (steps - 1)
        j = min(int(torch.searchsorted(rising, value)), T - 1)
        nearer = j - 1 if j > 0 and value - rising[j - 1] <= rising[j] - value else j
        found.append(T - nearer)
    return [*found, 0]


def grid_in_a_loop(alpha_bar, steps):
    ab, times = alpha_bar.tolist(), []
    place = [math.inf, *(math.log(a) - math.log1p(-a) for a in ab[1:])]
    for i in range(steps):
        wanted = place[-1] + (place[1] - place[-1]) * i / (steps - 1)
        times.append(min(range(1, len(ab)), key=lambda t: abs(place[t] - wanted)))
    return [*times, 0]


def heun_in_sigma(net, x, alpha_bar, t, s):
    """In y = x / sqrt(alpha_bar) and sigma, as Karras et al. write it."""
    sigma = ((1 - alpha_bar) / alpha_bar).sqrt()
    y, slope = x / alpha_bar[t].sqrt(), net(x, torch.full((len(x),), t))
    trial = y + (sigma[s] - sigma[t]) * slope
    if s > 0:
        slope = (slope + net(trial * alpha_bar[s].sqrt(), torch.full((len(x),), s))) / 2
    return (y + (sigma[s] - sigma[t]) * slope) * alpha_bar[s].sqrt()


def heun_with_library(net, x, alpha_bar, t, s):
    times = [t, s, 0] if s > 0 else [t, 0]
    return next(solvers.heun(net, x, schedules.NoiseSchedule(alpha_bar), times)).x


def two_m_as_printed(x, now, before, ab_before, ab_now, ab_next):
    """The box of the paper, with alpha, sigma and lambda."""
    u = [math.log(ab / (1 - ab)) / 2 for ab in (ab_before, ab_now, ab_next)]
    h, r = u[2] - u[1], (u[1] - u[0]) / (u[2] - u[1])
    mean = (1 + 1 / (2 * r)) * now - before / (2 * r)
    return ((1 - ab_next) / (1 - ab_now)) ** 0.5 * x - ab_next**0.5 * math.expm1(-h) * mean


def two_m_by_extrapolation(x, now, before, ab_before, ab_now, ab_next):
    """The clean prediction of the middle of the step, on the line through the last two."""
    l0, l1, l2 = (math.log(1 / ab - 1) for ab in (ab_before, ab_now, ab_next))
    x0 = torch.lerp(before, now, ((l1 + l2) / 2 - l0) / (l1 - l0))
    return rotated(x, process.predict_eps(x, x0, ab_now), ab_now, ab_next)


def order_by_polyfit(nfe, error):
    return float(-np.polyfit(np.log(nfe.numpy()), np.log(error.numpy()), 1)[0])


def front_by_sorting(nfe, distance):
    """Cheapest first, the better of equals first; keeps what beats everything before, and its exact doubles."""
    kept = torch.zeros(len(nfe), dtype=torch.bool)
    best = (math.inf, None)
    for i in sorted(range(len(nfe)), key=lambda i: (nfe[i].item(), distance[i].item())):
        point = (distance[i].item(), nfe[i].item())
        if point[0] < best[0] or point == best:
            kept[i], best = True, point
    return kept


def front_in_loops(nfe, distance):
    points = list(zip(nfe.tolist(), distance.tolist(), strict=True))
    beaten = [any(p != q and p[0] <= q[0] and p[1] <= q[1] for p in points) for q in points]
    return torch.tensor([not b for b in beaten])


ANSWERS = {
    "heun-budget": lambda: solvers.SOLVERS["Heun"].steps(21),
    "order-from-two": lambda: math.log2(0.024 / 0.003),
    "two-doublings": lambda: 0.010 / (256 / 64) ** figures.ORDERS["Heun"],
    "memory-weight": lambda: solvers.quadrature([0, -0.5])[0],
    "the-bill": lambda: guided_bill(solvers.dpm_solver_pp, 15),
}


RIGHT = {
    "log_snr_grid": (
        grid_by_interpolation,
        grid_in_a_loop,
    ),
    "affordable_steps": (
        lambda solver, budget, guided: {"Heun": ((b := budget // (1 + guided)) + 1) // 2, "PLMS": b - 1}.get(solver, b),
        lambda solver, budget, guided: max(
            n for n in range(4, budget + 1) if solvers.SOLVERS[solver].nfe(n) * (1 + guided) <= budget
        ),
    ),
    "heun_step": (heun_in_sigma, heun_with_library),
    "two_m_step": (two_m_as_printed, two_m_by_extrapolation),
    "order_of": (
        order_by_polyfit,
        lambda nfe, error: torch.linalg.lstsq(
            torch.stack([-nfe.double().log(), torch.ones(len(nfe), dtype=torch.float64)], 1), error.log()[:, None]
        ).solution[0, 0],
    ),
    "on_the_front": (front_by_sorting, front_in_loops),
}
