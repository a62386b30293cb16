"""Distances against exact Gaussian cases and scipy, and what each score sees and does not see."""

import numpy as np
import pytest
import scipy.linalg
import torch

from lessons_src import data, evaluation, weights
from lessons_src.evaluation import Reference, accuracy, digit_quality, frechet_distance, in_batches, nearest_distance


def with_moments(mean, covariance, n=500, seed=0):
    """n points whose sample mean and covariance are exactly these."""
    x = torch.randn(n, len(mean), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x = (x - x.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T))).T
    return x @ torch.linalg.cholesky(torch.tensor(covariance, dtype=torch.float64)).T + torch.tensor(mean)


def test_frechet_distance_of_gaussians_in_closed_form():
    a = with_moments([1.0, 0.0], [[4.0, 0.0], [0.0, 1.0]])
    b = with_moments([0.0, 2.0], [[1.0, 0.0], [0.0, 9.0]], seed=1)
    assert frechet_distance(a, b) == pytest.approx(1 + 4 + (2 - 1) ** 2 + (1 - 3) ** 2, abs=1e-9)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), abs=1e-9)


def test_frechet_distance_against_scipy():
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(8, 8, generator=generator, dtype=torch.float64)
    a = torch.randn(300, 8, generator=generator, dtype=torch.float64) @ mix
    b = 0.3 + torch.randn(200, 8, generator=generator, dtype=torch.float64)
    A, B = np.cov(a.T), np.cov(b.T)
    root = scipy.linalg.sqrtm(A @ B).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum().item() + np.trace(A + B - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_few_samples_are_biased_upward_as_theory_says():
    d, n = 16, 500
    runs = []
    for seed in range(20):
        x = torch.randn(2, n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        runs.append(frechet_distance(x[0], x[1]))
    one_sided = d / n + d * (d + 1) / (4 * (n - 1))
    assert np.mean(runs) == pytest.approx(2 * one_sided, rel=0.1)


@pytest.mark.parametrize(("n", "d", "scale"), [(2, 1, 1.0), (5, 64, 1.0), (300, 64, 1e-3), (300, 8, 1e3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_distance_of_features_to_themselves_is_nothing_and_never_less(n, d, scale, dtype):
    for seed in range(10):
        features = scale * torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)
        assert 0 <= frechet_distance(features, features) < 1e-6 * scale**2 * d


@pytest.mark.parametrize(
    ("a", "b", "named"),
    [
        (torch.zeros(1, 3), torch.zeros(5, 3), "a is"),
        (torch.zeros(5, 3), torch.zeros(5, 4), "b is"),
        (torch.zeros(5), torch.zeros(5, 4), "a is"),
        (torch.zeros(5, 3), torch.full((5, 3), torch.nan), "b is .*finite"),
    ],
)
def test_frechet_refusals(a, b, named):
    with pytest.raises(ValueError, match=named):
        frechet_distance(a, b)


def test_nearest_distance_and_batches():
    x, train = torch.tensor([[0.0, 0.0], [3.0, 4.0]]), torch.tensor([[0.0, 1.0], [3.0, 4.0], [9.0, 9.0]])
    assert nearest_distance(x, train).tolist() == [1.0, 0.0]
    assert torch.equal(in_batches(lambda part: 2 * part, x, size=1), 2 * x)


def test_accuracy_judges_in_evaluation_mode_and_refuses_columns():
    net = weights.load("classifier")[0].train()
    x, label = (part[:50] for part in data.digits("test"))
    before = {key: value.clone() for key, value in net.state_dict().items()}
    assert accuracy(net, x, label) > 0.9
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    with pytest.raises(ValueError, match=r"label is .*\(50, 1\).* expected shape \(50,\)"):
        accuracy(net, x, label[:, None])


def some_points(n, seed):
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))


def test_the_floor_is_mean_and_spread_over_repeatable_draws():
    images, train = some_points(300, 0), some_points(400, 1)
    reference = Reference(lambda x: x, images, train)
    mean, spread = reference.floor(50)
    assert (mean, spread) == reference.floor(50)
    assert reference.floor(50, seed=1) != (mean, spread)
    assert 0 < spread < mean
    more, other = reference.floor(50, draws=200), reference.floor(50, draws=200, seed=1)
    assert more[0] == pytest.approx(other[0], abs=5 * more[1] / 200**0.5), (
        "the mean settles, the spread does not shrink"
    )
    assert more[1] == pytest.approx(spread, rel=0.8)
    assert reference.floor(200)[0] < mean, "fewer samples are further away"
    everything = frechet_distance(train, images)
    assert reference.floor(400) == (pytest.approx(everything, rel=1e-5), pytest.approx(0, abs=1e-6))


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda reference: reference.floor(1), "n is 1; expected a whole number from 2 to 40"),
        (lambda reference: reference.floor(41), "n is 41; expected a whole number from 2 to 40"),
        (lambda reference: reference.floor(20, draws=1), "draws is 1; expected a whole number, at least 2"),
    ],
)
def test_a_floor_that_cannot_be_drawn_is_refused(call, named):
    with pytest.raises(ValueError, match=named):
        call(Reference(lambda x: x, some_points(30, 0), some_points(40, 1)))


def test_the_real_side_is_computed_once(monkeypatch):
    seen, searched = [], []

    def features(x):
        seen.append(len(x))
        return x

    def nearest(x, train):
        searched.append(len(x))
        return nearest_distance(x, train)

    monkeypatch.setattr(evaluation, "nearest_distance", nearest)
    reference = Reference(features, some_points(30, 0), some_points(40, 1))
    for seed in (2, 3):
        x = some_points(20, seed)
        reference.frechet(x)
        reference.floor(20)
        reference.floor(10)
        reference.neighbour_ratio(x)
    assert seen == [30, 20, 40, 20]
    assert searched == [20, 30, 20]


def test_modes_see_what_a_share_on_target_does_not():
    """Data are on target, in every mode, and as wide as themselves; collapsed points are only the first two."""
    ring = data.ring()
    x, _ = ring.sample(4000, torch.Generator().manual_seed(0))
    assert evaluation.modes(ring, x) == (pytest.approx(0.989, abs=0.006), 8, pytest.approx(0.974, abs=0.02))
    assert evaluation.modes(ring, ring.means) == (1.0, 8, 0.0)
    assert evaluation.modes(ring, ring.means[2:4]) == (1.0, 2, 0.0)
    half = ring.means[0] + 0.5 * (x - ring.means[torch.cdist(x, ring.means).argmin(1)])
    assert evaluation.modes(ring, half) == (pytest.approx(1, abs=0.001), 1, pytest.approx(0.5, abs=0.02))
    assert evaluation.modes(ring, torch.full((5, 2), 9.0, dtype=torch.float64)) == (0.0, 0, 0.0)
    assert evaluation.on_target(ring, x) == evaluation.modes(ring, x).on_target


@pytest.fixture(scope="module")
def judge():
    return weights.load("classifier")[0]


def test_the_card_of_the_classifier_is_true(judge):
    _, card = weights.load("classifier")
    read = accuracy(judge, *data.digits("test"))
    assert read == pytest.approx(card["metrics"]["accuracy on test digits"], abs=0.001)
    assert read > 0.98


def test_quality_sees_noise_a_missing_class_and_copies(judge):
    x, y = data.digits("train")
    reference = Reference(judge.features, data.digits("test")[0][:1000], x[:3000])
    held_out, label = x[6000:7000], y[6000:7000]
    good = digit_quality(reference, judge, held_out, label)
    copies = digit_quality(reference, judge, x[:1000], y[:1000])
    noise = torch.randn(held_out.shape, generator=torch.Generator().manual_seed(0))
    assert good.n == 1000
    assert good.frechet < good.floor + 4 * good.floor_spread
    assert reference.frechet(held_out + 0.3 * noise) > 5 * good.frechet
    assert reference.frechet(held_out[label != 1]) > 2 * good.frechet
    assert good.neighbour_ratio == pytest.approx(1, abs=0.05)
    assert copies.neighbour_ratio < 0.1
    assert copies.frechet < copies.floor + 4 * copies.floor_spread, "memorised data score perfectly: look at both"
    assert accuracy(judge, held_out, (label + 1) % 10) < 0.02 < 0.97 < good.accuracy
