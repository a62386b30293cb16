"""Lesson 13's curves: biased for few samples, straight in 1 / n, and each score with a favourite of its own."""

import json

import pytest
import torch

from lessons_src import measurements
from lessons_src.lessons.lesson_13 import curves
from lessons_src.lessons.lesson_13.curves import DDIM, DDPM, distance, expected_bias, tens
from lessons_src.lessons.lesson_13.stored import FOLDER, seen, stored
from lessons_src.metrics import at_infinity, frechet_distance


def test_the_expected_bias_of_a_standard_gaussian_is_the_closed_form():
    d, n = 64, 500
    assert expected_bias(torch.ones(d), n) == pytest.approx(d / n + d * (d + 1) / (4 * (n - 1)))
    assert expected_bias(torch.ones(d), n) == pytest.approx(2.212, abs=5e-4)


def test_the_bias_of_unequal_axes_is_what_is_measured():
    variances, n, generator = torch.tensor([9.0, 4.0, 1.0, 0.25], dtype=torch.float64), 200, torch.Generator()
    found = []
    for _ in range(400):
        x = variances.sqrt() * torch.randn(n, 4, generator=generator, dtype=torch.float64)
        found.append(curves.frechet_gaussians(x.mean(0), torch.cov(x.T), torch.zeros(4).double(), variances.diag()))
    mean, error = torch.tensor(found).mean().item(), torch.tensor(found).std().item() / 20
    assert abs(mean - expected_bias(variances, n)) < 4 * error + 0.02 * mean
    assert abs(mean - expected_bias(torch.ones(4), n)) > 10 * error


def test_few_perfect_samples_are_biased_and_not_only_noisy():
    found = curves.bias()
    assert found[500].mean == pytest.approx(2.253, abs=0.06)
    assert found[1000].mean == pytest.approx(1.114, abs=0.035)
    assert found[500].std == pytest.approx(0.071, abs=0.035)
    for n, one in found.items():
        assert one.mean > 8 * one.std
        if n >= 500:
            assert one.mean == pytest.approx(expected_bias(torch.ones(64), n), rel=0.04)


def test_the_stored_features_are_whole_and_of_the_shipped_judge():
    arrays, card = stored("features")
    assert card["weights"] == measurements.digest()
    assert list(arrays) == [DDIM, DDPM]
    assert all(x.shape == (2000, 64) and x.dtype == torch.float16 and x.isfinite().all() for x in arrays.values())
    assert (FOLDER / "features.npz").stat().st_size < 500_000
    assert "lessons_src.make.samples" in json.loads((FOLDER / "features.json").read_text())["command"]


def test_rows_of_ten_hold_each_class_once_and_the_same_distance():
    label = torch.arange(40.0)[:, None] % 10
    assert (tens(label) == torch.arange(10.0)).all()
    x, real = stored("features")[0][DDIM].double(), seen("test").double()
    assert distance(tens(x), tens(real)) == pytest.approx(frechet_distance(x, real))


def test_two_samplers_change_places_at_equal_cost():
    found = curves.ranking()
    assert curves.FEW * curves.EVALUATIONS[DDPM] == 2000 * curves.EVALUATIONS[DDIM]
    assert found.few.mean > found.many + found.few.std
    assert found.reversed_share >= 0.9
    assert found.difference.value == pytest.approx(0.389, abs=0.005)
    assert 0 < found.difference.low < found.difference.value < found.difference.high
    assert found.limits[DDPM].value < found.limits[DDIM].value
    assert 0 < found.at_infinity.low < found.at_infinity.value < found.at_infinity.high


def test_the_line_to_infinity_meets_what_was_measured():
    found = curves.ranking()
    for name in (DDIM, DDPM):
        value, bias = found.limits[name]
        assert value < distance(tens(stored("features")[0][name].double()), tens(seen("test").double()))
        for n, one in curves.by_number(name).items():
            assert value + bias / n == pytest.approx(one.mean, abs=0.6 * one.std), n


def test_at_infinity_finds_the_same_for_half_of_the_samples():
    x, real = tens(stored("features")[0][DDPM].double()), tens(seen("test").double())
    half = at_infinity(distance, x[::2], real, (10, 20, 50, 100), torch.Generator().manual_seed(0), 10).value
    limit, at_hundred = curves.ranking().limits[DDPM].value, curves.by_number(DDPM)[100].mean
    assert abs(half - limit) < 0.3 < at_hundred - limit


def test_each_score_has_its_favourite_scale():
    best, bottom = curves.favourites(), curves.elbow()
    assert best["recall"] == 1
    assert 1 < best["frechet"] < best["precision"] < best["accuracy"]
    assert bottom.best == best["frechet"]
    assert bottom.best in bottom.as_good
    assert not {1.0, 2.0} & set(bottom.as_good)


def test_the_ranking_of_steps_depends_on_the_score():
    ddim, ddpm = curves.stepped("DDIM"), curves.stepped("DDPM")
    for nfe in (10, 50):
        mean, error = curves.paired(nfe)
        assert mean < -2 * error
        assert ddim[nfe]["recall"] > ddpm[nfe]["recall"]
        assert ddpm[nfe]["standard error"] > 0
    assert mean == ddpm[50]["frechet"] - ddim[50]["frechet"]


SAYS = {
    "show_bias": "500 of them have a distance of 2.25",
    "show_rank_reversal": "it wins, by 0.39",
    "show_guidance": "Each score has a favourite of its own: recall w = 1, distance 1.2",
    "show_steps": "DDIM covers 81 % of the real digits and DDPM 77 %",
}


@pytest.mark.parametrize("name", SAYS)
def test_a_figure_says_what_it_shows(name, monkeypatch):
    said = []
    monkeypatch.setattr(curves.plots, "show", lambda fig, text: said.append(text))
    getattr(curves, name)()
    assert SAYS[name] in said[0]
    assert "nan" not in said[0]
