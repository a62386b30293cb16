"""The forward process: chain against shortcut, the posterior against Bayes, and predictions that convert both ways."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lessons_src.process import (
    add_noise,
    eps_from_score,
    eps_from_velocity,
    forward_chain,
    posterior,
    posterior_variance,
    predict_eps,
    predict_x0,
    prior_kl,
    score_from_eps,
    signal_and_noise,
    velocity,
    x0_from_velocity,
)
from lessons_src.schedules import linear

SHAPES = [(3, 2), (2, 1, 28, 28), (2, 3, 4, 5, 6), (1, 1)]
PREDICTIONS = {  # every function of (x, y, alpha_bar), written out once more for one number
    add_noise: lambda x0, eps, ab: math.sqrt(ab) * x0 + math.sqrt(1 - ab) * eps,
    predict_x0: lambda x, eps, ab: (x - math.sqrt(1 - ab) * eps) / math.sqrt(ab),
    predict_eps: lambda x, x0, ab: (x - math.sqrt(ab) * x0) / math.sqrt(1 - ab),
    velocity: lambda x0, eps, ab: math.sqrt(ab) * eps - math.sqrt(1 - ab) * x0,
    x0_from_velocity: lambda x, v, ab: math.sqrt(ab) * x - math.sqrt(1 - ab) * v,
    eps_from_velocity: lambda x, v, ab: math.sqrt(1 - ab) * x + math.sqrt(ab) * v,
}
levels = st.floats(0.01, 0.99)


def pair(shape: tuple[int, ...] = (3, 2), seed: int = 0) -> tuple[Tensor, Tensor]:
    return tuple(torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


# --- The algebra ------------------------------------------------------------------------------------------------------


@given(levels, st.sampled_from(SHAPES), st.integers(0, 99), st.booleans())
def test_round_trips(ab, shape, seed, as_tensor):
    x0, eps = pair(shape, seed)
    level = torch.linspace(ab, 0.5, shape[0], dtype=torch.float64) if as_tensor else ab
    x_t, v = add_noise(x0, eps, level), velocity(x0, eps, level)
    for back, wanted in [
        (predict_x0(x_t, eps, level), x0),
        (predict_eps(x_t, x0, level), eps),
        (x0_from_velocity(x_t, v, level), x0),
        (eps_from_velocity(x_t, v, level), eps),
        (eps_from_score(score_from_eps(eps, level), level), eps),
    ]:
        assert torch.allclose(back, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("ab", [0.02, 0.5, 0.97])
@pytest.mark.parametrize("function", PREDICTIONS, ids=lambda f: f.__name__)
def test_formula(function, ab):
    a, b = pair()
    exact = [[PREDICTIONS[function](x, y, ab) for x, y in zip(*rows, strict=True)] for rows in zip(a, b, strict=True)]
    assert torch.allclose(function(a, b, ab), torch.tensor(exact, dtype=torch.float64), rtol=0, atol=1e-14)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("function", PREDICTIONS, ids=lambda f: f.__name__)
def test_a_level_per_sample_and_any_event_shape(function, shape):
    """A (B,) alpha_bar does what a loop over the samples does, and an event's rank changes nothing."""
    a, b = pair(shape)
    ab = torch.linspace(0.2, 0.9, len(a), dtype=torch.float64)
    together = function(a, b, ab)
    loop = torch.cat([function(a[i : i + 1], b[i : i + 1], float(ab[i])) for i in range(len(a))])
    assert together.shape == shape
    assert torch.allclose(together, loop, rtol=0, atol=1e-14)
    assert torch.equal(together.flatten(1), function(a.flatten(1), b.flatten(1), ab))
    assert torch.equal(function(a, b, 0.3), function(a, b, torch.tensor(0.3, dtype=torch.float64)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("per_sample", [False, True], ids=["number", "tensor"])
@pytest.mark.parametrize("function", PREDICTIONS, ids=lambda f: f.__name__)
def test_dtype_is_kept_and_float64_inside(function, per_sample, dtype):
    a, b = pair()
    a, b = a.to(dtype), b.to(dtype)  # rounded once, so that only the function's own rounding is left
    level = torch.full((3,), 0.3, dtype=torch.float64) if per_sample else 0.3
    result = function(a, b, level)
    assert result.dtype == dtype
    assert torch.allclose(
        result.double(), function(a.double(), b.double(), level), rtol=0, atol=8 * torch.finfo(dtype).eps
    )


def test_signal_and_noise_shapes():
    x = torch.zeros(2, 3, 4)
    assert signal_and_noise(0.64, x) == pytest.approx((0.8, 0.6))
    signal, noise = signal_and_noise(torch.tensor([0.64, 1.0], dtype=torch.float64), x)
    assert signal.shape == noise.shape == (2, 1, 1)
    assert signal.flatten().tolist() == pytest.approx([0.8, 1])
    assert noise.flatten().tolist() == pytest.approx([0.6, 0])


def test_a_tiny_alpha_bar_survives_float32_data():
    """1 - alpha_bar is taken in float64: near alpha_bar = 1 a float32 difference would lose half the digits."""
    x = torch.zeros(1, 1)
    for level in (1 - 1e-7, torch.tensor([1 - 1e-7], dtype=torch.float64)):
        assert float(signal_and_noise(level, x)[1]) == pytest.approx(math.sqrt(1e-7), rel=1e-6)


def test_clean_data_passes_unchanged():
    x0, eps = pair()
    assert torch.equal(add_noise(x0, eps, 1.0), x0)
    assert torch.equal(predict_x0(x0, eps, 1), x0)


def test_score_is_the_gradient_of_the_log_density(generator):
    """For a single data point x0, p_t is N(sqrt(ab) x0, 1 - ab), and the true eps belongs to it."""
    x0, eps = pair()
    x_t = add_noise(x0, eps, 0.3).requires_grad_()
    log_p = torch.distributions.Normal(math.sqrt(0.3) * x0, math.sqrt(0.7)).log_prob(x_t).sum()
    assert torch.allclose(score_from_eps(eps, 0.3), torch.autograd.grad(log_p, x_t)[0], rtol=0, atol=1e-12)


# --- The posterior ----------------------------------------------------------------------------------------------------


@given(levels, st.floats(0.01, 0.99), st.integers(0, 99))
def test_posterior_is_bayes_rule(ab_s, alpha, seed):
    """Multiply the prior q(x_s | x0) by the likelihood q(x_t | x_s): precisions add, means are weighted by them."""
    ab_t = ab_s * alpha
    x_t, x0 = pair(seed=seed)
    prior, likelihood = 1 / (1 - ab_s), alpha / (1 - alpha)
    variance = 1 / (prior + likelihood)
    mean = variance * (prior * math.sqrt(ab_s) * x0 + likelihood * x_t / math.sqrt(alpha))
    ours, our_variance = posterior(x_t, x0, ab_t, ab_s)
    assert torch.allclose(ours, mean, rtol=1e-9, atol=1e-9)
    assert our_variance == posterior_variance(ab_t, ab_s) == pytest.approx(variance, rel=1e-9)


def test_posterior_of_the_last_step_is_x0_itself():
    x_t, x0 = pair()
    mean, variance = posterior(x_t, x0, 0.7, 1.0)
    assert torch.allclose(mean, x0, rtol=0, atol=1e-15)
    assert variance == posterior_variance(0.7, 1.0) == 0


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_posterior_of_any_shape_and_dtype(shape):
    x_t, x0 = pair(shape)
    mean, _ = posterior(x_t, x0, 0.4, 0.6)
    assert torch.equal(mean.flatten(1), posterior(x_t.flatten(1), x0.flatten(1), 0.4, 0.6)[0])
    single = posterior(x_t.float(), x0.float(), 0.4, 0.6)[0]
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), mean, atol=1e-6)


# --- Chain against shortcut -------------------------------------------------------------------------------------------


def test_the_chain_is_the_shortcut_in_many_small_steps():
    """Unrolled, x_t = sqrt(ab_t) x0 + sum of sqrt(ab_t / ab_i) sqrt(beta_i) z_i, whose variances add up to 1 - ab_t."""
    schedule, T = linear(30, 1e-3, 0.3), 30
    x0, _ = pair()
    states = list(forward_chain(x0, schedule, torch.Generator().manual_seed(7)))
    again = torch.Generator().manual_seed(7)
    z = [torch.randn(x0.shape, generator=again, dtype=torch.float64) for _ in range(T)]
    ab, beta = schedule.alpha_bar, schedule.beta
    assert len(states) == T
    for t in (1, 2, 15, T):
        sizes = [(ab[t] / ab[i] * beta[i]).sqrt() for i in range(1, t + 1)]
        noise = sum(size * z[i] for i, size in enumerate(sizes))
        assert torch.allclose(states[t - 1], ab[t].sqrt() * x0 + noise, rtol=0, atol=1e-12)
        assert sum(size**2 for size in sizes).item() == pytest.approx(1 - ab[t].item(), abs=1e-12)


def test_chain_and_shortcut_have_one_law(generator):
    schedule, n = linear(20, 1e-3, 0.3), 20_000
    x0 = torch.full((n, 1), 1.5, dtype=torch.float64)
    *_, chain = forward_chain(x0, schedule, generator)
    shortcut = add_noise(x0, torch.randn(n, 1, generator=generator, dtype=torch.float64), schedule.alpha_bar[-1])
    mean, variance = math.sqrt(schedule.alpha_bar[-1]) * 1.5, 1 - schedule.alpha_bar[-1].item()
    for x in (chain, shortcut):
        assert abs(x.mean().item() - mean) < 3 * math.sqrt(variance / n)
        assert abs(x.var().item() - variance) < 3 * variance * math.sqrt(2 / n)


def test_the_chain_keeps_shape_dtype_and_its_input():
    x0 = torch.ones(2, 1, 4, 4)
    states = list(forward_chain(x0, linear(5), torch.Generator().manual_seed(0)))
    assert {(state.shape, state.dtype) for state in states} == {(x0.shape, torch.float32)}
    assert torch.equal(x0, torch.ones(2, 1, 4, 4))
    repeat = list(forward_chain(x0, linear(5), torch.Generator().manual_seed(0)))
    assert all(torch.equal(a, b) for a, b in zip(states, repeat, strict=True))


def test_prior_kl_is_that_of_torch_and_of_the_exact_case():
    x0, ab = torch.randn(3, 1, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64), 0.3
    ends = torch.distributions.Normal(math.sqrt(ab) * x0, math.sqrt(1 - ab))
    exact = torch.distributions.kl_divergence(ends, torch.distributions.Normal(0.0, 1.0)).flatten(1).sum(1)
    assert torch.allclose(prior_kl(x0, ab), exact, rtol=1e-12)
    assert torch.allclose(prior_kl(x0, torch.full((3,), ab, dtype=torch.float64)), exact, rtol=1e-12)
    assert prior_kl(torch.zeros(1, 1), 0.5).item() == pytest.approx((math.log(2) - 0.5) / 2)
    tiny = prior_kl(torch.full((1, 4), 2.0), 1e-12).item()  # half of 4 (ab (4 - 1) + ab): nothing lost by rounding
    assert tiny == pytest.approx(8e-12, rel=1e-6)
