"""Distances against exact Gaussian cases and scipy, and what each score sees and does not see."""

import numpy as np
import pytest
import scipy.linalg
import torch

from lessons_src import data, weights
from lessons_src.evaluation import accuracy, digit_quality, frechet_distance, in_batches, nearest_distance


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


@pytest.fixture(scope="module")
def judge():
    return weights.load("classifier")[0], *data.digits("train"), *data.digits("test")


def test_the_card_of_the_classifier_is_true(judge):
    net, *_, x_test, y_test = judge
    _, card = weights.load("classifier")
    assert accuracy(net, x_test, y_test) == pytest.approx(card["metrics"]["accuracy on test digits"], abs=0.001)
    assert accuracy(net, x_test, y_test) > 0.98


def test_quality_sees_noise_a_missing_class_and_copies(judge):
    net, x, y, x_test, _ = judge
    held_out, label = x[5000:7000], y[5000:7000]
    good = digit_quality(net, held_out, label, x[:5000], x_test)
    noise = torch.randn(held_out.shape, generator=torch.Generator().manual_seed(0))
    noisy = digit_quality(net, held_out + 0.3 * noise, label, x[:5000], x_test)
    without_ones = held_out[label != 1]
    missing = digit_quality(net, without_ones, label[label != 1], x[:5000], x_test)
    copies = digit_quality(net, x[:2000], y[:2000], x[:5000], x_test)
    assert good.frechet < 2 * good.floor
    assert noisy.frechet > 5 * good.frechet
    assert missing.frechet > 2 * good.frechet
    assert good.neighbour_ratio == pytest.approx(1, abs=0.05)
    assert copies.neighbour_ratio < 0.1
    assert copies.frechet < 2 * good.floor, "memorised data score perfectly: never look at the distance alone"
    wrong = digit_quality(net, held_out, (label + 1) % 10, x[:5000], x_test)
    assert wrong.accuracy < 0.02 < 0.97 < good.accuracy
