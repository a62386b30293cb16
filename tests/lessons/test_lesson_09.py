"""Lesson 09: its pictures, the answers to its questions, and right answers to its exercises."""

import io
import math
import re
from dataclasses import fields, replace
from itertools import pairwise

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
from lessons_src.lessons.lesson_09 import explorer
from lessons_src.lessons.lesson_09.claims import RULES, Claim, differences, objections
from lessons_src.lessons.lesson_09.explorer import BUDGETS, NOBODY, RACERS, STARTS, race_picture, run
from lessons_src.lessons.lesson_09.front import REFERENCE, band, dominates, draw, find, front, reaching
from lessons_src.oracle import exact_flow
from lessons_src.samplers import trajectory
from lessons_src.schedules import cosine, linear, time_grid
from lessons_src.solvers import SOLVERS


def starts():
    return torch.randn(STARTS, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_it_opens_with_three_solvers_and_ten_evaluations():
    shown = explorer.explore_race()
    assert shown.picture.text.startswith("10 network evaluations, 60 starts. DDIM: 10")
    assert "Nearest: DPM-Solver++(2M). Colour" in shown.picture.text
    assert [panel.title for panel in shown.picture.panels[:3]] == ["DDIM", "Heun", "DPM-Solver++(2M)"]
    assert len(shown.picture.png()) < 100_000


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


FLOOR = 0.8


def row(nfe, frechet, error=0.1, solver="A"):
    return {"solver": solver, "nfe": nfe, "frechet": frechet, "standard error": error, "floor": FLOOR}


rows = st.lists(
    st.builds(row, st.integers(4, 9), st.sampled_from([0.5, 0.75, 1.0, 1.25, 2.0]), st.sampled_from([0.1, 0.3])),
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


def test_errors_count_as_those_of_a_difference():
    """0.3 and 0.4 make 0.5: a gap of 1 is two of them."""
    good, poor = row(5, 1.0, 0.3), row(5, 2.0, 0.4)
    assert dominates(good, poor, 1.99)
    assert not dominates(good, poor, 2.0)


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


def test_band():
    assert band(row(5, 1.0, 0.1)) == pytest.approx((0.804, 1.196))


def test_reaching_takes_each_solvers_cheapest_that_is_not_worse_beyond_doubt():
    """The errors of both count: 0.3 and 0.4 make 0.5, and 0.98 is what they may differ by."""
    reference = row(1000, 1.0, 0.3, "R")
    others = [(20, 1.1, 0.4, "B"), (10, 1.97, 0.4, "B"), (5, 1.99, 0.4, "B"), (8, 0.1, 0.0, "C"), (30, 1.6, 0.0, "D")]
    found = reaching([*(row(*other) for other in others), reference], reference)
    assert [(r["solver"], r["nfe"]) for r in found] == [("C", 8), ("B", 10), ("R", 1000)]


def test_find():
    assert find([row(5, 1.0), row(6, 2.0)], "A", 6) == row(6, 2.0)
    for solver, nfe in (("B", 5), ("A", 7)):
        with pytest.raises(ValueError, match=rf"solver, nfe is \('{solver}', {nfe}\)"):
            find([row(5, 1.0)], solver, nfe)


def test_doubt_is_not_negative():
    with pytest.raises(ValueError, match="z is -1"):
        dominates(row(5, 1.0), row(6, 1.0), -1)


def marks(axis, name):
    """(evaluations, distance, hollow) of every mark of a solver on an axis."""
    (line,) = (line for line in axis.lines if line.get_label() == name)
    return sorted(zip(line.get_xdata(), line.get_ydata(), strict=True))


def test_the_picture_shows_every_row_and_fills_the_front():
    stored = measurements.load("pareto")
    fig = draw(stored, find(stored, *REFERENCE))
    left, right = fig.axes
    for name in {r["solver"] for r in stored}:
        own = sorted((r["nfe"], r["frechet"]) for r in stored if r["solver"] == name)
        assert marks(left, name) == own
        assert [y for _, y in marks(right, name)] == [y for _, y in own]
    filled = [
        (x, y) for line in left.lines if line.get_linestyle() == "None" for x, y in zip(*line.get_data(), strict=True)
    ]
    assert sorted(filled) == sorted((r["nfe"], r["frechet"]) for r in front(stored))
    file = io.BytesIO()
    fig.savefig(file, format="png", dpi=100)
    assert len(file.getvalue()) < 100_000


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
