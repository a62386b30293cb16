"""The continuous view against closed forms, exact densities and scipy; one predictor, one law in every sampler."""

import math
from collections import deque

import pytest
import torch
from drawn import draws, seeded
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from torch import Tensor

from lessons_src.ode import METHODS, solve
from lessons_src.oracle import GaussianMixture, exact_flow
from lessons_src.samplers import ddim, ddpm, sample
from lessons_src.schedules import NoiseSchedule, cosine, linear, time_grid
from lessons_src.sde import (
    VE,
    VP,
    ScheduleVP,
    bits_per_dim,
    divergence,
    euler_maruyama,
    gaussian_flow,
    log_likelihood,
    network_log_likelihood,
    probes,
    standard_normal,
)

SDES = {"vp": VP(), "vp constant": VP(1.0, 1.0, 4.0), "ve": VE(), "ve short": VE(0.1, 3.0, 2.0)}
SDES["cosine"] = ScheduleVP(cosine(40))
every_sde = pytest.mark.parametrize("sde", SDES.values(), ids=SDES)


def last(states) -> Tensor:
    return deque(states, maxlen=1)[0]


def grid(start: float, stop: float, steps: int) -> list[float]:
    return [start + (stop - start) * i / steps for i in range(steps + 1)]


# --- The equations ----------------------------------------------------------------------------------------------------


@every_sde
@given(share=st.floats(0.02, 0.98))
def test_signal_and_noise_solve_the_moments_of_the_sde(sde, share):
    """d signal / dt = -rate signal, and d noise^2 / dt = g^2 - 2 rate noise^2."""
    t, h = share * sde.T, 1e-5 * sde.T
    if isinstance(sde, ScheduleVP):  # beta jumps at whole times
        t = math.floor(t) + 0.5
    slope = (sde.signal(t + h) - sde.signal(t - h)) / (2 * h)
    assert slope == pytest.approx(-sde.rate(t) * sde.signal(t), rel=1e-5, abs=1e-9)
    slope = (sde.noise(t + h) ** 2 - sde.noise(t - h) ** 2) / (2 * h)
    assert slope == pytest.approx(sde.g(t) ** 2 - 2 * sde.rate(t) * sde.noise(t) ** 2, rel=1e-5, abs=1e-7)


@every_sde
def test_starts_at_the_data(sde):
    assert (sde.signal(0), sde.noise(0)) == (1, 0)
    x = draws(2, 3)
    assert torch.equal(sde.drift(x, sde.T / 2), -sde.rate(sde.T / 2) * x)


def test_vp_is_the_integral_of_its_beta():
    for sde in (VP(), VP(0.5, 3, 2)):
        for t in (0.1, 0.7 * sde.T, sde.T):
            assert sde.alpha_bar(t) == pytest.approx(math.exp(-quad(sde.beta, 0, t)[0]))
    assert VP(0.5, 3, 2).beta(2) == 3


def test_schedule_of_a_vp():
    sde = VP(0.5, 3.0, 2.0)
    schedule = sde.schedule(8)
    assert isinstance(schedule, NoiseSchedule)
    assert schedule.alpha_bar.tolist() == pytest.approx([sde.alpha_bar(2 * i / 8) for i in range(9)], abs=1e-15)


def test_discrete_betas_approach_the_continuous_ones():
    """Song et al. 2021, appendix B: N beta_i -> beta(i T / N)."""
    sde, gaps = VP(), []
    for steps in (100, 10_000):
        beta = sde.schedule(steps).beta[1:].tolist()
        gaps.append(max(abs(steps * b - sde.beta(i / steps)) for i, b in enumerate(beta, 1)))
    assert gaps[1] < 0.03
    assert gaps[0] / gaps[1] == pytest.approx(100, rel=0.2)


def test_schedule_as_an_sde():
    schedule = cosine(30)
    sde = ScheduleVP(schedule)
    assert [sde.alpha_bar(t) for t in range(31)] == pytest.approx(schedule.alpha_bar.tolist(), rel=1e-12)
    assert sde.alpha_bar(7.25) == pytest.approx(schedule.alpha_bar[7] ** 0.75 * schedule.alpha_bar[8] ** 0.25)
    assert (sde.beta(7), sde.beta(6.5)) == (pytest.approx(-math.log(schedule.alpha[7])),) * 2
    assert sde.beta(0) == sde.beta(0.5)


def test_network_score(gmm_b):
    schedule = cosine(30)
    sde = ScheduleVP(schedule)
    score, x = sde.network_score(gmm_b.network(schedule)), draws(4, 2)
    assert torch.allclose(score(x, 12.0), sde.score(gmm_b)(x, 12.0), atol=1e-10)
    for t in (0, 3.5):
        with pytest.raises(ValueError, match=f"t is {t}; expected a whole number from 1 to 30"):
            score(x, t)


@every_sde
@pytest.mark.parametrize("share", [0.1, 0.6, 1.0])
def test_exact_score_is_the_gradient_of_the_noised_density(gmm_b, sde, share):
    t = share * sde.T
    x = (3 * draws(5, 2)).requires_grad_()
    noisy = GaussianMixture(
        gmm_b.weights,
        sde.signal(t) * gmm_b.means,
        sde.signal(t) ** 2 * gmm_b.covariances + sde.noise(t) ** 2 * torch.eye(2, dtype=torch.float64),
    )
    (gradient,) = torch.autograd.grad(noisy.log_density(x, 1.0).sum(), x)
    with torch.no_grad():
        assert torch.allclose(sde.score(gmm_b)(x, t), gradient, rtol=1e-9, atol=1e-10)


# --- Solving ----------------------------------------------------------------------------------------------------------


@every_sde
def test_forward_simulation_has_the_stated_law(sde):
    """Mean and variance of 40,000 paths from x0 = 1.5, to four standard errors and the bias of 400 steps."""
    x = torch.full((40_000, 1), 1.5, dtype=torch.float64)
    path = list(euler_maruyama(sde.drift, sde.g, x, grid(0, sde.T / 2, 400), seeded()))
    assert len(path) == 400
    end, noise = path[-1], sde.noise(sde.T / 2)
    assert end.mean().item() == pytest.approx(1.5 * sde.signal(sde.T / 2), abs=4 * noise / 200 + 0.01)
    assert end.std().item() == pytest.approx(noise, rel=4 / math.sqrt(80_000) + 0.02)


@pytest.mark.parametrize("sde", [SDES["vp constant"], SDES["ve short"]], ids=["vp", "ve"])
def test_one_predictor_one_law(gmm_a, sde):
    """Reverse SDE and ODE turn exact draws of p_T into the data: shares, means and spreads of both modes."""
    n, score = 8000, sde.score(gmm_a)
    start = sde.signal(sde.T) * gmm_a.sample(n, seeded(1))[0] + sde.noise(sde.T) * draws(n, 1, seed=2)
    down = [sde.T * (1 - i / 250) ** 2 for i in range(251)]
    ends = {
        "reverse SDE": last(euler_maruyama(sde.reverse_drift(score), sde.g, start, down, seeded(3))),
        "ODE": last(solve(sde.flow(score), start, down)),
    }
    for end in ends.values():
        right = end[end > 0]
        assert len(right) / n == pytest.approx(0.7, abs=4 * math.sqrt(0.21 / n) + 0.002)
        assert right.mean().item() == pytest.approx(0.8, abs=0.015)
        assert right.std().item() == pytest.approx(0.25, abs=0.015)
        assert end[end < 0].mean().item() == pytest.approx(-1, abs=0.015)
        assert end[end < 0].std().item() == pytest.approx(0.15, abs=0.015)


def test_marginals_agree_on_the_way_down(gmm_a):
    """The reverse SDE and the ODE have the law of the forward process at every time, not only at the end."""
    sde, n = SDES["vp constant"], 8000
    score, down = sde.score(gmm_a), grid(4.0, 1.0, 150)
    start = sde.signal(4) * gmm_a.sample(n, seeded(1))[0] + sde.noise(4) * draws(n, 1, seed=2)
    both = zip(
        euler_maruyama(sde.reverse_drift(score), sde.g, start, down, seeded(3)),
        solve(sde.flow(score), start, down),
        strict=True,
    )
    mean = 0.3 * -1 + 0.7 * 0.8
    variance = 0.3 * (1 + 0.15**2) + 0.7 * (0.64 + 0.25**2) - mean**2
    for i, states in enumerate(both, 1):
        if i % 50 == 0:
            t = down[i]
            for x in states:
                assert x.mean().item() == pytest.approx(sde.signal(t) * mean, abs=0.05)
                assert x.var().item() == pytest.approx(sde.signal(t) ** 2 * variance + sde.noise(t) ** 2, abs=0.06)


def test_four_samplers_of_one_predictor(gmm_a):
    """DDPM, DDIM, the reverse SDE and the ODE, all on one eps network and one schedule."""
    schedule, n = VP().schedule(300), 4000
    net, sde, start = gmm_a.network(schedule), ScheduleVP(schedule), draws(n, 1)
    score, down = sde.network_score(net), list(range(300, 0, -1))
    ends = [
        sample(ddpm(net, start, schedule, generator=seeded(1))),
        sample(ddim(net, start, schedule)),
        last(euler_maruyama(sde.reverse_drift(score), sde.g, start, down, seeded(2))),
        last(solve(sde.flow(score), start, down)),
    ]
    for end in ends:
        assert (end > 0).double().mean().item() == pytest.approx(0.7, abs=4 * math.sqrt(0.21 / n) + 0.005)
        assert end[end > 0].mean().item() == pytest.approx(0.8, abs=0.025)
        assert end[end > 0].std().item() == pytest.approx(0.25, abs=0.02)


def test_euler_maruyama_step(monkeypatch):
    monkeypatch.setattr(torch, "randn", lambda shape, **options: torch.ones(shape, dtype=options["dtype"]))
    x = draws(2, 3)
    (up,) = euler_maruyama(lambda x, t: t * x, lambda t: 3 * t, x, [0.5, 0.75])
    assert torch.allclose(up, x + 0.25 * 0.5 * x + 1.5 * 0.5, atol=1e-15)
    (down,) = euler_maruyama(lambda x, t: t * x, lambda t: 3 * t, x, [0.5, 0.25])
    assert torch.allclose(down, x - 0.25 * 0.5 * x + 1.5 * 0.5, atol=1e-15)


@pytest.mark.parametrize(("method", "order", "calls"), [("euler", 1, 1), ("heun", 2, 2), ("rk4", 4, 4)])
def test_orders_of_the_methods(method, order, calls):
    """On dx/dt = -2 t x, whose solution is exp(-t^2), and the calls of the field that a step costs."""
    errors, asked = [], []

    def field(x, t):
        asked.append(t)
        return -2 * t * x

    for steps in (40, 80):
        asked.clear()
        end = last(solve(field, torch.ones(1, 1, dtype=torch.float64), grid(0, 1.5, steps), method))
        errors.append(abs(end.item() - math.exp(-(1.5**2))))
        assert len(asked) == calls * steps
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.2)


def test_only_rk4_leaves_the_times():
    times = grid(0, 1, 5)
    for method in METHODS:
        asked = set()
        last(solve(lambda x, t, asked=asked: asked.add(t) or x, torch.ones(1, 1), times, method))
        assert (asked <= set(times)) is (method != "rk4")


@pytest.mark.parametrize("times", [[0.5], [0.0, 1.0, 0.5], [0.3, 0.3], [0.0, math.nan]], ids=str)
def test_bad_times_are_refused(times):
    for run in (
        lambda: solve(lambda x, t: x, draws(1, 1), times),
        lambda: euler_maruyama(None, None, draws(1, 1), times),
    ):
        with pytest.raises(ValueError, match="times is"):
            last(run())


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: VP(0.0, 1.0), "beta_start"),
        (lambda: VP(2.0, 1.0), "beta_end"),
        (lambda: VP(T=0.0), "T"),
        (lambda: VE(0.0), "sigma_min"),
        (lambda: VE(2.0, 1.0), "sigma_max"),
        (lambda: VE(T=0.0), "T"),
        (lambda: VP().schedule(0), "steps"),
        (lambda: last(solve(None, draws(1, 1), [0, 1], "midpoint")), "method"),
        (lambda: probes("normal", draws(1, 1)), "kind"),
        (lambda: bits_per_dim(torch.zeros(1), 0), "dim"),
        (lambda: bits_per_dim(torch.zeros(1), 1, 0.0), "cell"),
        (lambda: ScheduleVP(cosine(10)).beta(10.5), "t"),
    ],
)
def test_bad_input_is_refused_by_name(build, name):
    with pytest.raises(ValueError, match=f"^{name} is .*; expected"):
        build()


@given(st.integers(0, 99), st.floats(1e-4, 1.0), st.floats(1e-4, 1.0))
def test_gaussian_flow_carries_one_marginal_to_the_other(seed, ab_t, ab_s):
    root, mean = draws(3, 3, seed=seed), draws(3, seed=seed + 1)
    covariance = root @ root.T + 0.01 * torch.eye(3, dtype=torch.float64)
    eye, zero = torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    at_zero = gaussian_flow(zero[None], mean, covariance, ab_t, ab_s)
    linear_part = gaussian_flow(eye, mean, covariance, ab_t, ab_s) - at_zero  # rows are images of unit vectors
    V_t, V_s = (ab * covariance + (1 - ab) * eye for ab in (ab_t, ab_s))
    assert torch.allclose(linear_part.T @ V_t @ linear_part, V_s, rtol=1e-8, atol=1e-10)
    centre = gaussian_flow(math.sqrt(ab_t) * mean[None], mean, covariance, ab_t, ab_s)
    assert torch.allclose(centre, math.sqrt(ab_s) * mean[None], atol=1e-10)


def test_gaussian_flow_is_the_flow():
    covariance = torch.tensor([[1.0, 0.3], [0.3, 0.5]], dtype=torch.float64)
    mean, x = torch.tensor([0.5, -1.0], dtype=torch.float64), draws(4, 2)
    mixture = GaussianMixture([1.0], mean[None], covariance[None])
    end = exact_flow(mixture.eps, x, 0.01, steps=800)
    assert torch.allclose(gaussian_flow(x, mean, covariance, 0.01, 1.0), end, rtol=0, atol=1e-8)
    assert torch.allclose(gaussian_flow(end, mean, covariance, 1.0, 0.01), x, rtol=0, atol=1e-7)


# --- Likelihood -------------------------------------------------------------------------------------------------------


def curl(x: Tensor, t: float) -> Tensor:
    """A nonlinear field with a known, asymmetric Jacobian."""
    a, b = x.flatten(1)[:, 0], x.flatten(1)[:, 1]
    return torch.stack([t * a**2 + b, a * b.sin()], 1).reshape(x.shape)


def test_divergence_is_the_trace():
    for shape in ((5, 2), (5, 1, 2, 1)):
        x = draws(*shape)
        value, trace = divergence(curl, x, 0.7)
        a, b = x.flatten(1).T
        assert torch.equal(value, curl(x, 0.7))
        assert not value.requires_grad
        assert torch.allclose(trace, 1.4 * a + a * b.cos(), atol=1e-12)


@pytest.mark.parametrize("kind", ["rademacher", "gaussian"])
def test_hutchinson_is_unbiased(kind):
    """The mean of 40,000 probes is the trace, to four standard errors; the spread is the theory's."""
    x = draws(1, 2).expand(40_000, 2)
    probe = probes(kind, x, seeded(1))
    estimate = divergence(curl, x, 0.7, probe)[1]
    a, b = x[0].tolist()
    J = torch.tensor([[1.4 * a, 1.0], [math.sin(b), a * math.cos(b)]], dtype=torch.float64)
    S = (J + J.T) / 2
    variance = 2 * S.square().sum() - (2 * S.diagonal().square().sum() if kind == "rademacher" else 0)
    assert estimate.mean().item() == pytest.approx(J.trace().item(), abs=4 * math.sqrt(variance / 40_000))
    assert estimate.var().item() == pytest.approx(variance.item(), rel=0.06)


def test_probes():
    x = draws(20_000, 3)
    signs = probes("rademacher", x, seeded(1))
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    for kind in ("rademacher", "gaussian"):
        v = probes(kind, x, seeded(1))
        assert torch.equal(v, probes(kind, x, seeded(1)))
        assert (v.shape, v.dtype) == (x.shape, x.dtype)
        assert torch.allclose(v.T @ v / len(v), torch.eye(3, dtype=torch.float64), atol=0.04)


def test_rademacher_probes_average_to_the_trace_over_all_signs():
    signs = torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64)
    x = draws(1, 2).expand(4, 2)
    assert torch.allclose(divergence(curl, x, 0.3, signs)[1].mean(), divergence(curl, x, 0.3)[1][0], atol=1e-12)


@pytest.mark.parametrize("sde", [VP(1.0, 1.0, 8.0), VE(0.02, 30.0)], ids=["vp", "ve"])
def test_likelihood_of_a_mixture(gmm_b, sde):
    """Against the exact density; the prior is the exact p_T, so that only the solver is left."""
    x = gmm_b.sample(6, seeded(1))[0]
    signal, noise = sde.signal(sde.T), sde.noise(sde.T)
    size = math.hypot(signal, noise)

    def prior(y: Tensor) -> Tensor:
        return gmm_b.log_density(y / size, (signal / size) ** 2) - 2 * math.log(size)

    up = [sde.T * (i / 100) ** 2 for i in range(101)]
    log_p = log_likelihood(sde.flow(sde.score(gmm_b)), x, up, prior, method="rk4")
    assert torch.allclose(log_p, gmm_b.log_density(x, 1.0), rtol=0, atol=1e-3)


def test_hutchinson_likelihood_is_unbiased(gmm_b):
    sde, up = VP(1.0, 1.0, 6.0), [6 * (i / 60) ** 2 for i in range(61)]
    x = torch.tensor([[0.9, 0.1]], dtype=torch.float64)
    field = sde.flow(sde.score(gmm_b))
    exact = log_likelihood(field, x, up, standard_normal)
    many = x.expand(2000, 2)
    for kind in ("rademacher", "gaussian"):
        estimate = log_likelihood(field, many, up, standard_normal, probes(kind, many, seeded(1)))
        error = estimate.std().item() / math.sqrt(2000)
        assert estimate.mean().item() == pytest.approx(exact.item(), abs=4 * error)
        assert error > 0.001


@pytest.mark.parametrize("make", [linear, cosine])
def test_likelihood_of_a_network(gmm_b, make):
    """The level of times[-2] is where the density belongs; N(0, I) for p_T costs little, as no signal is left."""
    schedule = make()
    times = time_grid(schedule, 150, "log_snr")
    ab = float(schedule.alpha_bar[times[-2]])
    x = gmm_b.sample(6, seeded(1))[0]
    log_p = network_log_likelihood(gmm_b.network(schedule), x, schedule, times)
    gap = gmm_b.log_density(x, float(schedule.alpha_bar[-1])) - standard_normal(x)  # of the order of the prior's error
    assert gap.abs().max() < 0.05
    assert torch.allclose(log_p, gmm_b.log_density(x, ab), rtol=0, atol=0.03)


def test_likelihood_of_a_network_without_prior_error():
    """A schedule down to pure noise, and its exact Gaussian answer, for data of any event shape."""
    schedule = VP(1.0, 1.0, 40.0).schedule(2000)
    mixture = GaussianMixture([1.0], [[0.5, -1.0]], [[[1.0, 0.3], [0.3, 0.5]]])
    x = mixture.sample(3, seeded(1))[0]
    times = time_grid(schedule, 400, "log_snr")
    net = mixture.network(schedule)
    image = network_log_likelihood(
        lambda x, t: net(x.flatten(1), t).reshape(x.shape), x.reshape(3, 1, 2), schedule, times
    )
    exact = mixture.log_density(x, float(schedule.alpha_bar[times[-2]]))
    assert torch.allclose(image, exact, rtol=0, atol=2e-3)
    signs = torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64)
    one = x[:1].expand(4, 2)
    estimates = network_log_likelihood(net, one, schedule, times, signs)
    assert estimates.std() > 0.1
    assert estimates.mean().item() == pytest.approx(exact[0].item(), abs=2e-3)


def test_standard_normal():
    x = draws(4, 2, 3)
    exact = torch.distributions.Normal(0, 1).log_prob(x).flatten(1).sum(1)
    assert torch.allclose(standard_normal(x), exact, atol=1e-12)


def test_bits_per_dim():
    """Uniform data in [0, 1)^d cost 0 bits; a uniform choice of 256 cells 8 bits."""
    assert bits_per_dim(torch.zeros(1), 5).item() == 0
    assert bits_per_dim(torch.zeros(1), 5, 1 / 256).item() == pytest.approx(8)
    assert bits_per_dim(torch.tensor([math.log(8.0)]), 3).item() == pytest.approx(-1)
    assert bits_per_dim(torch.tensor([-784 * math.log(2.0)]), 784, 2 / 256).item() == pytest.approx(8)


@pytest.mark.parametrize("t", [-0.1, 1.1, float("nan")])
@pytest.mark.parametrize("sde", [VP(), VE(T=1.0), ScheduleVP(linear(1))], ids=["vp", "ve", "schedule"])
def test_times_outside_the_equation_are_refused(sde, t):
    for quantity in (sde.signal, sde.noise, sde.g, sde.rate):
        if isinstance(sde, VE) and quantity in (sde.signal, sde.rate):
            continue  # constants
        with pytest.raises(ValueError, match=r"t is .*; expected a finite number in \[0, 1\]"):
            quantity(t)
