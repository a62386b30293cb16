"""Lesson 11's deeper part: its pictures, what its questions claim, and the lines in which it derives things."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch

import lessons_src
from lessons_src import measurements, weights
from lessons_src.guidance import classifier_free
from lessons_src.lessons.lesson_11 import deeper, figures
from lessons_src.lora import extract
from lessons_src.measurements import digits_of, start_noise
from lessons_src.networks import NoisePredictor, PointMLP
from lessons_src.oracle import GaussianMixture
from lessons_src.samplers import sample
from lessons_src.schedules import time_grid
from lessons_src.show import plots
from lessons_src.solvers import unipc
from lessons_src.students import clean, step

ONE, TWO, FOUR = [1000, 0], [1000, 500, 0], [1000, 750, 500, 250, 0]


def rms(a, b):
    return (a - b).square().mean().sqrt().item()


@pytest.mark.parametrize("show", [name for name in vars(deeper) if name.startswith("show_")])
def test_a_picture_says_in_finite_numbers_what_it_shows(show, monkeypatch):
    told = []
    monkeypatch.setattr(plots, "show", lambda fig, text: told.append(text))
    getattr(deeper, show)()
    assert len(told) == 1
    assert "nan" not in told[0]


def test_captions_say_what_was_measured(monkeypatch):
    told, legends, rows = [], [], {}
    monkeypatch.setattr(plots, "show", lambda fig, text: (told.append(text), legends.append(fig.axes[-1])))
    monkeypatch.setattr(plots, "image_rows", lambda found, text: rows.update(found))
    deeper.show_progressive()
    deeper.show_gain()
    deeper.show_ranks()
    deeper.show_folded()
    assert "0.075 off at 8 steps, 0.097 at 1" in told[0]
    assert "21.8 without an adapter, 3.4 with rank 1, 2.4 with rank 8, 2.3 with rank 32, 2.2 if all" in told[1]
    assert "a cut adapter is 0.229 off, a trained one 0.113; dashed, without any, 0.295" in told[2]
    lines = {line.get_label(): line.get_ydata() for line in legends[2].get_lines()}
    for name, how in (("cut", "extracted"), ("trained", "trained")):
        assert list(lines[name]) == [figures.adapters(how)[rank]["error"] for rank in (1, 8, 32)]
    assert list(rows) == ["DDIM, w = 2, 32 calls", "student, 2 calls"]
    assert rms(*rows.values()) < 0.13, "the same digits; of another w they would be others"
    assert deeper.change() == pytest.approx(0.39, abs=0.005)


# --- The boundary condition


def test_parts_are_those_of_the_predictions():
    """With them, what networks say is the clean sample that the library takes from it."""
    label = torch.zeros(5, dtype=torch.int64)
    points, student = NoisePredictor(PointMLP(), deeper.ring.SCHEDULE), weights.load("student-4")[0]
    cases = (
        ("eps", points, torch.randn(5, 2), torch.tensor([1, 300, 600, 900, 980])),
        ("v", student, start_noise(5)[0], torch.tensor([1000, 1000, 750, 500, 250])),
    )
    for prediction, net, x, t in cases:
        assert net.prediction == prediction
        skip, out = (part[t].reshape(-1, *[1] * (x.ndim - 1)).float() for part in deeper.parts(prediction, deeper.AB))
        with torch.no_grad():
            said = net.output(x, t, net.body.condition(label, 5, x.device))
            torch.testing.assert_close(skip * x + out * said, clean(net, x, t, label), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_eps_and_v_have_the_boundary_condition_and_x0_has_not(prediction):
    skip, out = deeper.parts(prediction, deeper.AB[:1])
    assert (skip.item(), abs(out.item())) == (1, 0)
    assert deeper.parts("x0", deeper.AB[:1])[1] == 1


def test_off_at_t():
    """20 from eps, 0.001 from v; √ᾱ is 0.00005."""
    assert 0.001 * deeper.parts("eps", deeper.AB[-1:])[1].abs().item() == pytest.approx(20, rel=0.02)
    assert 0.001 * deeper.parts("v", deeper.AB[-1:])[1].abs().item() == pytest.approx(0.001)
    assert round(deeper.AB[-1].sqrt().item(), 5) == 0.00005


# --- Consistency


def test_walk_with_f():
    """Each step more leads farther from the end; the mean, which a network says, leads to it."""
    x, ends = torch.ones(1, 1, dtype=torch.float64), []
    for steps in (1, 2, 4, 20):
        y = x
        for t, s in pairwise(time_grid(deeper.ring.SCHEDULE, steps)):
            end = 0.5 / (deeper.AB[t] * 0.25 + 1 - deeper.AB[t]).sqrt() * y
            y = step(deeper.ring.SCHEDULE, y, end, torch.tensor([t]), torch.tensor([s]))
        ends.append(y.item())
    assert ends[0] == pytest.approx(0.5, abs=1e-4)
    assert ends == sorted(ends)
    assert ends[-1] > 0.9
    one = GaussianMixture([1.0], [[0.0]], [[[0.25]]]).network(deeper.ring.SCHEDULE)
    walked = sample(unipc(one, x, deeper.ring.SCHEDULE, time_grid(deeper.ring.SCHEDULE, 100), 3))
    assert walked.item() == pytest.approx(0.5, abs=1e-3)


def test_a_little_fresh_noise_leaves_most_points_where_they_are():
    little, much = deeper.kept(100), deeper.kept(900)
    assert little["same mode"] > 0.95
    assert much["same mode"] < 0.25
    for row in (little, much):
        assert row["sliced"] < 1.5 * row["floor"]


# --- Progressive, and grids


def test_perfect_students_err_by_half_with_twice_the_steps():
    for n in (16, 32):
        assert deeper.limit(n) / deeper.limit(2 * n) == pytest.approx(2, rel=0.1)


def test_learned_students_are_more_than_twice_as_far_off_as_their_first_teacher():
    gaps = [figures.scored("progressive", str(calls), "gap")[0] for calls in deeper.HALVED]
    assert gaps == sorted(gaps)
    assert gaps[-1] > 2 * deeper.limit(16)


def test_forced_steps():
    """Twice as far off, and each student is best on its own grid."""
    noise, label = start_noise(100)
    net = weights.load("digits")[0]
    steps = time_grid(net.schedule, 24)
    ends = sample(unipc(classifier_free(net, label, 1.0), noise, net.schedule, steps)).clamp(-1, 1)
    grids = {1: ONE, 2: TWO, 4: FOUR}
    errors = {own: {k: rms(deeper.forced(f"student-{own}", grid), ends) for k, grid in grids.items()} for own in grids}
    assert errors[1][4] / errors[1][1] == pytest.approx(2.2, abs=0.25)
    assert all(min(row, key=row.get) == own for own, row in errors.items())


# --- Distribution matching


def test_a_line_is_matched_with_a_fake_network_and_collapses_without():
    exact, slow, alone = (deeper.matched(follow)[:, 1] for follow in (1.0, 0.03, None))
    assert exact[-1].item() == pytest.approx(0.5, abs=0.005)
    assert slow.max() > 0.65
    assert abs(alone[-1]) < 1e-6
    assert slow[10] < exact[10], "a fake network that starts as the teacher pulls nowhere at first"


def test_matching_leads_past_the_end_of_the_ode():
    """By the search's own judge: with 4 calls by matching alone; and a critic adds a little."""
    record = json.loads((Path(lessons_src.__file__).parents[1] / "tests/benchmarks/students/search.json").read_text())
    told = {run["name"]: run["frechet"] for run in record["runs"]}
    ode = told["teacher, UniPC 24"]
    for calls in (1, 2, 4):
        assert told[f"dm{calls}"] < 0.7 * told[f"reg{calls}"]
    assert told["dm4"] < ode < told["reg4"]
    assert told["all1-again"] < told["dm1"]
    assert told["reg1"] < 0.8 * told["reg1-batch64"]


# --- Adapters


def test_cut_or_trained():
    """Half as far off, and 118 kB."""
    cut, trained = (figures.adapters(how)[8] for how in ("extracted", "trained"))
    assert trained["error"] / cut["error"] == pytest.approx(0.5, abs=0.05)
    assert round(trained["kB"]) == 118


def test_what_is_said_of_the_change():
    changes = weights.load_adapter("guided-8")[0]
    length, cosine = deeper.beside(changes)
    assert deeper.change() > 0.3
    assert length < 0.3
    assert abs(cosine) < 0.15
    cut = extract(deeper.digits.network(), deeper.digits.guided(), 8)
    length, cosine = deeper.beside(cut)
    assert length**2 == pytest.approx(deeper.held(8), rel=1e-4)
    assert cosine == pytest.approx(length, rel=1e-4)


# --- Cost, and what noise is for


def test_pays_from():
    """7.7 million digits, 25 million calls, more than a million digits; a service of three million a day by noon."""
    images = weights.load("student-1")[1]["images trained"]
    training = 3 * images + 65_536 * 24
    assert round(images / 1e6, 1) == 7.7
    assert round(training / 1e6) == 25
    assert 1e6 < training / 19 < 3e6 / 2
    assert 40_000 * 19 < 1e6


def test_students_draw_what_ddim_draws_and_ddpm_draws_other_digits():
    rows = figures.rows()
    ten = {name: digits_of(figures.find(rows, *name)) for name in (("student", 1), ("DDIM", 50), ("DDPM", 1000))}
    student, ddim, ddpm = ten.values()
    assert rms(student, ddim) < 0.2 < 0.5 < min(rms(student, ddpm), rms(ddim, ddpm))


def test_there_are_seeds_for_what_is_called_five_seeds():
    rows = measurements.load("ring")
    for method in ("pairs", "matching", "progressive", "consistency", "consistency training"):
        assert sum(row["method"] == method for row in rows) == 5
    assert sum(row["method"] == deeper.ring.LONGER for row in rows) == 3
