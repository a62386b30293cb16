"""The exploration of the continuous view: right at the starting values, and no error at the ends of any control."""

import re
from itertools import pairwise

import numpy as np
import pytest
import torch

from lessons_src import flow_explorers
from lessons_src.flow_explorers import POINTS, WEIGHTS, noisy_flow, sde_picture, two_humps
from lessons_src.sde import VE, VP, solve

NUMBER = r"(-?[\d.]+)"


def numbers(text):
    """Standard deviation, share in the right hump and W1 distance that a text states."""
    found = re.search(rf"at the end {NUMBER} .*\. {NUMBER} % end in .*data: {NUMBER}\.$", text)
    return [float(value) for value in found.groups()]


def test_it_opens_with_the_ode():
    explorer = flow_explorers.explore_sde()
    assert explorer.picture.text == sde_picture(0.0, 100, WEIGHTS[0]).text
    assert explorer.picture.text.startswith("λ = 0 (the ODE), 100 steps, 100 network evaluations.")
    assert len(explorer.picture.png()) < 100_000


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("steps", [5, 200])
@pytest.mark.parametrize("share", [0.0, 2.0])
def test_the_ends_of_every_control(share, steps, weight):
    picture = sde_picture(share, steps, weight)
    assert not re.search(r"\b(nan|inf)\b", picture.text)
    assert f"{steps} steps, {steps} network evaluations" in picture.text
    paths, spread, end = picture.panels
    assert [len(panel.x) for panel in picture.panels] == [steps + 1, steps + 1, 201]
    assert (paths.x[0], paths.x[-1]) == (spread.x[0], spread.x[-1]) == (0.0, VP().T)
    for panel, low, high in ((paths, -4, 4), (spread, 0, 2.5), (end, 0, 3)):
        for line in panel.series.values():
            assert low <= line.min() <= line.max() <= high


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0, 2.0])
def test_every_noise_share_has_the_marginals_of_the_forward_process(share):
    """At every time, to the luck of the points; of the ODE, which starts from even points, to its few steps."""
    picture = sde_picture(share, 200, WEIGHTS[0])
    std, right, distance = numbers(picture.text)
    assert std == pytest.approx(0.855, abs=0.03 if share else 0.001)
    assert right == pytest.approx(70, abs=3 if share else 0.5)
    assert distance < (0.06 if share else 0.004)
    here, exact = picture.panels[1].series.values()
    assert np.abs(here - exact).max() < (0.1 if share else 0.01)


def test_the_data_and_the_starts_are_what_they_should_be():
    start, quantiles = flow_explorers._start_and_quantiles()
    assert start.shape == (POINTS, 1)
    assert start.std().item() == pytest.approx(1, abs=0.002)
    x, _ = two_humps().sample(100_000, torch.Generator().manual_seed(0))
    assert torch.allclose(
        x.flatten().quantile(torch.tensor([0.1, 0.5, 0.9]).double()), quantiles[[200, 1000, 1800]], atol=0.02
    )


def test_text_and_curves_tell_of_the_same_end():
    picture = sde_picture(1.0, 10, WEIGHTS[0])
    _, spread, _ = (panel.series for panel in picture.panels)
    assert numbers(picture.text)[0] == pytest.approx(spread["these paths"][0], abs=6e-4)
    fine = sde_picture(0.0, 200, WEIGHTS[0]).panels[2].series  # both smoothed alike, or the peaks would differ by 0.06
    np.testing.assert_allclose(fine["these paths"], fine["data"], atol=0.02)


def test_dropping_only_the_noise_collapses():
    std, _, distance = numbers(sde_picture(0.0, 100, WEIGHTS[1]).text)
    assert std < 0.01
    assert distance > 0.5


def test_at_one_both_weights_are_the_reverse_sde():
    a, b = (sde_picture(1.0, 20, weight) for weight in WEIGHTS)
    assert a.text == b.text
    assert "(the reverse SDE)" in a.text


def test_the_noise_stays_the_same_and_the_paths_do_not_cross_without_it():
    assert sde_picture(1.0, 20, WEIGHTS[0]).text == sde_picture(1.0, 20, WEIGHTS[0]).text
    series = list(sde_picture(0.0, 50, WEIGHTS[0]).panels[0].series.items())
    assert [name for name, _ in series] == ["start -1.50", "start -0.50", "start +0.30", "start +1.30"]
    for (_, below), (_, above) in pairwise(series):
        assert (below < above).all()
    assert series[0][1][-1] == pytest.approx(-1.5, abs=0.01)  # noise at the right


@pytest.mark.parametrize("sde", [VP(), VE()], ids=["vp", "ve"])
def test_noisy_flow_joins_the_ode_and_the_reverse_sde(sde):
    x, t, score = torch.tensor([[0.3], [-1.2]], dtype=torch.float64), 0.4, sde.score(two_humps())
    drift, g = noisy_flow(sde, score, 0.0)
    assert torch.allclose(drift(x, t), sde.flow(score)(x, t), atol=1e-14)
    assert g(t) == 0
    drift, g = noisy_flow(sde, score, 1.0)
    assert torch.allclose(drift(x, t), sde.reverse_drift(score)(x, t), atol=1e-12)
    assert g(t) == sde.g(t)
    assert noisy_flow(sde, score, 2.0)[1](t) == 2 * sde.g(t)
    assert next(solve(noisy_flow(sde, score, 2.0)[0], x, [t, t - 0.01])).isfinite().all()


@pytest.mark.parametrize(
    ("values", "name"), [((-0.1, 10, WEIGHTS[0]), "share"), ((0.0, 0, WEIGHTS[0]), "steps"), ((0.0, 10, "2"), "weight")]
)
def test_bad_values_are_refused_by_name(values, name):
    with pytest.raises(ValueError, match=f"{name} is"):
        sde_picture(*values)
