"""The oracle against autograd, scipy, Monte Carlo and closed forms: the truth that everything else is held against."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.stats import multivariate_normal
from torch import Tensor

from lessons_src.oracle import GaussianMixture, exact_flow
from lessons_src.process import add_noise
from lessons_src.schedules import cosine


def normal_draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_mixture(seed: int, dim: int, labels: list[int] | None = None, components: int = 3) -> GaussianMixture:
    root = 0.6 * normal_draws(components, dim, dim, seed=seed)
    weights = normal_draws(components, seed=seed + 1).softmax(0)
    covariances = root @ root.mT + 0.02 * torch.eye(dim, dtype=torch.float64)
    return GaussianMixture(weights, 2 * normal_draws(components, dim, seed=seed + 2), covariances, labels)


levels = st.one_of(st.floats(1e-4, 1.0), st.sampled_from([1e-8, 0.9999, 1.0]))


# --- Density, score and predictions -----------------------------------------------------------------------------------


@given(st.integers(0, 999), st.integers(1, 4), levels, st.sampled_from([None, 0, 1, 2, "each"]), st.booleans())
def test_score_is_the_gradient_of_log_density(seed, dim, ab, label, per_sample):
    mixture = random_mixture(seed, dim, labels=[0, 1, 0])
    x = (1.5 * normal_draws(5, dim, seed=seed + 3)).requires_grad_()
    level = torch.linspace(ab, 0.5, 5, dtype=torch.float64) if per_sample else ab
    label = torch.tensor([0, 1, 2, 1, 0]) if label == "each" else label
    (gradient,) = torch.autograd.grad(mixture.log_density(x, level, label).sum(), x)
    with torch.no_grad():
        score = mixture.score(x, level, label)
        eps = mixture.eps(x, level, label)
    scale = 1 + gradient.abs().max()
    assert torch.allclose(score, gradient, rtol=0, atol=1e-10 * scale)
    noise = (1 - torch.as_tensor(level, dtype=torch.float64)).sqrt().reshape(-1, 1)
    assert torch.allclose(eps, -noise * gradient, rtol=0, atol=1e-10 * scale)


@pytest.mark.parametrize("ab", [1e-6, 0.3, 1.0])
@pytest.mark.parametrize("dim", [1, 2, 5])
def test_log_density_against_scipy(dim, ab):
    mixture = random_mixture(3, dim)
    x = normal_draws(7, dim, seed=9)
    noisy = ab * mixture.covariances + (1 - ab) * torch.eye(dim, dtype=torch.float64)
    densities = sum(
        w * multivariate_normal((math.sqrt(ab) * m).numpy(), c.numpy()).pdf(x.numpy())
        for w, m, c in zip(mixture.weights.tolist(), mixture.means, noisy, strict=True)
    )
    exact = torch.as_tensor(densities, dtype=torch.float64).log().reshape(-1)
    assert torch.allclose(mixture.log_density(x, ab), exact, rtol=0, atol=1e-10)


@pytest.mark.parametrize("label", [None, 0, 1, 2], ids=["all", "class 0", "class 1", "null label"])
@pytest.mark.parametrize("ab", [0.05, 0.6])
def test_predictions_are_conditional_means(gmm_b, ab, label):
    """E[x0 | x_t] by weighting draws of x0 with q(x_t | x0), to four standard errors."""
    mixture = GaussianMixture(gmm_b.weights, gmm_b.means, gmm_b.covariances, labels=[0, 0, 1])
    x0, c = mixture.sample(200_000, torch.Generator().manual_seed(1))
    if label in (0, 1):
        x0 = x0[c == label]
    x_t = torch.tensor([[0.3, -0.4]], dtype=torch.float64)
    share = (-(x_t - math.sqrt(ab) * x0).square().sum(1) / (2 * (1 - ab))).softmax(0)[:, None]
    mean = (share * x0).sum(0)
    error = (share * (x0 - mean)).square().sum(0).sqrt()
    assert ((mixture.x0(x_t, ab, label)[0] - mean).abs() < 4 * error).all()
    eps_mean = (x_t[0] - math.sqrt(ab) * mean) / math.sqrt(1 - ab)
    assert ((mixture.eps(x_t, ab, label)[0] - eps_mean).abs() < 4 * error * math.sqrt(ab / (1 - ab))).all()


def test_far_out_points_stay_finite(gmm_b):
    x = torch.tensor([[1e4, -1e4], [0.0, 300.0]], dtype=torch.float64)
    for ab in (0.9999, 1e-8):
        assert torch.isfinite(gmm_b.log_density(x, ab)).all()
        assert torch.isfinite(gmm_b.eps(x, ab)).all()
        assert torch.allclose(gmm_b.responsibilities(x, ab).sum(1), torch.ones(2, dtype=torch.float64))


def test_pure_noise_and_clean_data_are_the_limits(gmm_b):
    x = normal_draws(4, 2)
    assert torch.allclose(gmm_b.eps(x, 1e-14), x, atol=1e-6)
    assert torch.allclose(gmm_b.x0(x, 1e-14), (gmm_b.weights @ gmm_b.means).expand(4, 2), atol=1e-6)
    assert torch.equal(gmm_b.x0(x, 1.0), x)


# --- Classes ----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 999), levels)
def test_class_posterior_is_bayes_rule(seed, ab):
    mixture = random_mixture(seed, 2, labels=[1, 0, 1])
    x = normal_draws(6, 2, seed=seed + 3)
    posterior = mixture.class_posterior(x, ab)
    assert posterior.shape == (6, 2)
    assert torch.allclose(posterior.sum(1), torch.ones(6, dtype=torch.float64), atol=1e-12)
    prior = torch.stack([mixture.weights[1], mixture.weights[0] + mixture.weights[2]])
    for label in (0, 1):
        log_ratio = mixture.log_density(x, ab, label) + prior[label].log() - mixture.log_density(x, ab)
        assert torch.allclose(posterior[:, label], log_ratio.exp(), rtol=1e-9, atol=1e-12)


def test_a_class_is_its_components_alone(gmm_b):
    mixture = GaussianMixture(gmm_b.weights, gmm_b.means, gmm_b.covariances, labels=[0, 0, 1])
    only = GaussianMixture([2 / 7, 5 / 7], gmm_b.means[:2], gmm_b.covariances[:2])
    x = normal_draws(5, 2)
    assert torch.allclose(mixture.log_density(x, 0.4, 0), only.log_density(x, 0.4), atol=1e-12)
    assert torch.allclose(mixture.x0(x, 0.4, 0), only.x0(x, 0.4), atol=1e-12)
    assert torch.equal(mixture.responsibilities(x, 0.4, 0)[:, 2], torch.zeros(5, dtype=torch.float64))


def test_labels_per_sample_and_the_null_label(gmm_b):
    x, labels = normal_draws(4, 2), torch.tensor([2, 0, 3, 1])
    together = gmm_b.eps(x, 0.4, labels)
    loop = torch.cat([gmm_b.eps(x[i : i + 1], 0.4, int(label)) for i, label in enumerate(labels)])
    assert torch.allclose(together, loop, rtol=0, atol=1e-14)
    assert torch.allclose(gmm_b.eps(x, 0.4, gmm_b.num_classes), gmm_b.eps(x, 0.4), rtol=0, atol=1e-14)
    assert torch.allclose(together[2], gmm_b.eps(x, 0.4)[2], rtol=0, atol=1e-14)


# --- Samples and point masses -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_samples_have_the_right_law(dim, generator):
    """Shares, means and covariances of the components, to four standard errors."""
    mixture, n = random_mixture(5, dim), 100_000
    x0, label = mixture.sample(n, generator)
    assert (x0.shape, x0.dtype, label.shape, label.dtype) == ((n, dim), torch.float64, (n,), torch.int64)
    for k in range(3):
        part, weight, covariance = x0[label == k], mixture.weights[k].item(), mixture.covariances[k]
        assert abs(len(part) / n - weight) < 4 * math.sqrt(weight * (1 - weight) / n)
        spread = covariance.diagonal()
        assert ((part.mean(0) - mixture.means[k]).abs() < 4 * (spread / len(part)).sqrt()).all()
        error = ((spread[:, None] * spread + covariance**2) / len(part)).sqrt()
        assert ((part.T.cov() - covariance).abs() < 4 * error).all()


def test_samples_repeat_with_the_generator(gmm_b):
    draws = [gmm_b.sample(5, torch.Generator().manual_seed(seed))[0] for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_point_masses(generator):
    two = GaussianMixture([0.5, 0.5], [[1.0], [-1.0]], torch.zeros(2, 1, 1))
    x = normal_draws(6, 1)
    assert torch.allclose(two.x0(x, 0.3), torch.tanh(math.sqrt(0.3) * x / 0.7), atol=1e-12)
    assert torch.allclose(two.x0(x, 0.3, 1), torch.full((6, 1), -1.0, dtype=torch.float64), atol=1e-12)
    assert set(two.sample(50, generator)[0].flatten().tolist()) == {1.0, -1.0}
    eps = normal_draws(6, 1, seed=1)
    one = GaussianMixture([1.0], [[2.0]], [[[0.0]]])
    assert torch.allclose(one.eps(add_noise(torch.full_like(eps, 2.0), eps, 0.3), 0.3), eps, atol=1e-12)


# --- As a network -----------------------------------------------------------------------------------------------------


def test_network_looks_up_its_level(gmm_b):
    schedule = cosine(10)
    net = gmm_b.network(schedule)
    x, labels = normal_draws(3, 2), torch.tensor([0, 3, 2])
    for t in ([1, 5, 10], [4, 4, 4]):
        for label in (None, 1, labels):
            together = net(x, torch.tensor(t), label)
            label_of = [label[i : i + 1] if isinstance(label, Tensor) else label for i in range(3)]
            loop = [gmm_b.eps(x[i : i + 1], float(schedule.alpha_bar[t[i]]), label_of[i]) for i in range(3)]
            assert torch.allclose(together, torch.cat(loop), rtol=0, atol=1e-14)
    assert net.num_classes == gmm_b.num_classes == 3
    assert net(x[:0], torch.zeros(0, dtype=torch.int64)).shape == (0, 2)


def test_float32_in_float32_out(gmm_b):
    x = normal_draws(3, 2)
    for level in (0.5, torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)):
        for method in (gmm_b.eps, gmm_b.x0, gmm_b.score, gmm_b.log_density, gmm_b.class_posterior):
            single = method(x.float(), level)
            assert single.dtype == torch.float32
            assert torch.allclose(single.double(), method(x, level), atol=1e-5)


# --- The exact flow ---------------------------------------------------------------------------------------------------


FLOWS = [(0, 1, 0.06, 400), (1, 0.5, 1e-5, 400), (-2, 0.2, 0.01, 400), (0, 2, 1e-3, 400), (1, 0.5, 1e-5, 1600)]


@pytest.mark.parametrize(("mean", "std", "ab", "steps"), FLOWS)
def test_flow_of_gaussian_data_in_closed_form(mean, std, ab, steps):
    """The flow keeps the standardised position: x0 = mean + std (x - sqrt(ab) mean) / sqrt(ab std^2 + 1 - ab)."""
    x = torch.tensor([[-1.5], [0.0], [0.7]], dtype=torch.float64)
    mixture = GaussianMixture([1.0], [[float(mean)]], [[[std**2]]])
    exact = mean + std * (x - math.sqrt(ab) * mean) / math.sqrt(ab * std**2 + 1 - ab)
    assert torch.allclose(exact_flow(mixture.eps, x, ab, steps), exact, rtol=0, atol=1e-6 * (400 / steps) ** 4)


def test_flow_of_a_correlated_gaussian():
    covariance = torch.tensor([[1.0, 0.3], [0.3, 0.5]], dtype=torch.float64)
    mean, ab, x = torch.tensor([0.5, -1.0], dtype=torch.float64), 0.01, normal_draws(4, 2)
    variances, axes = torch.linalg.eigh(covariance)
    scale = axes @ (variances / (ab * variances + 1 - ab)).sqrt().diag() @ axes.T
    flow = exact_flow(GaussianMixture([1.0], mean[None], covariance[None]).eps, x, ab, steps=800)
    assert torch.allclose(flow, mean + (x - math.sqrt(ab) * mean) @ scale, rtol=0, atol=1e-8)


def test_flow_of_a_point_mass_ends_on_it():
    """Here eps stays large down to sigma = 0, so that the last bit of the way counts."""
    flow = exact_flow(GaussianMixture([1.0], [[0.7]], [[[0.0]]]).eps, normal_draws(4, 1), 0.01)
    assert torch.allclose(flow, torch.full_like(flow, 0.7), rtol=0, atol=1e-9)


@pytest.mark.parametrize("label", [None, 1])
def test_flow_of_a_mixture_against_scipy(gmm_b, label):
    """The same ODE in another variable and by another solver: dx/dt = -(x + score) / 2 with alpha_bar = exp(-t)."""
    x, ab = normal_draws(4, 2), 0.005

    def field(t: float, flat) -> Tensor:
        y = torch.as_tensor(flat, dtype=torch.float64).reshape(4, 2)
        return (-(y + gmm_b.score(y, math.exp(-t), label)) / 2).flatten().numpy()

    solution = solve_ivp(field, (-math.log(ab), 0.0), x.flatten().numpy(), method="DOP853", rtol=1e-11, atol=1e-12)
    exact = torch.as_tensor(solution.y[:, -1]).reshape(4, 2)
    flow = exact_flow(lambda y, level: gmm_b.eps(y, level, label), x, ab)
    assert torch.allclose(flow, exact, rtol=0, atol=1e-7)


def test_flow_converges_at_fourth_order(gmm_b):
    x = normal_draws(4, 2)
    truth = exact_flow(gmm_b.eps, x, 0.01, steps=800)
    coarse, fine = ((exact_flow(gmm_b.eps, x, 0.01, steps) - truth).abs().max().item() for steps in (60, 120))
    assert 3.5 < math.log2(coarse / fine) < 4.5
