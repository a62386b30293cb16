"""The documents' numbers on SDE and ODE, likelihood and inversion, recomputed through the public functions.

Ids name the item: W a worked example, E an erratum. Tolerances are those of the items: float64 for what is exact.
"""

import math
from collections import deque
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from lessons_src.guidance import blend, classifier_free
from lessons_src.inversion import edict, edict_invert, invert, invert_as_printed, invert_by_bisection, null_predictions
from lessons_src.oracle import GaussianMixture
from lessons_src.samplers import ddim, sample
from lessons_src.schedules import NoiseSchedule, linear, time_grid
from lessons_src.sde import (
    VP,
    bits_per_dim,
    divergence,
    euler_maruyama,
    gaussian_flow,
    log_likelihood,
    solve,
    standard_normal,
)

LINEAR = linear()


def row(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


def close(value: object, exact: object, tolerance: float = 1e-12) -> None:
    value, exact = (torch.as_tensor(v, dtype=torch.float64).flatten().tolist() for v in (value, exact))
    assert value == pytest.approx(exact, rel=0, abs=tolerance)


def last(states) -> Tensor:
    return deque(states, maxlen=1)[0]


def rms(x: Tensor) -> float:
    return x.square().mean().sqrt().item()


def spread(x: Tensor) -> float:
    return x.std(correction=0).item()


# --- W7: Example 3, data N(1, 1/4), beta = 1, T = 4 -------------------------------------------------------------------

ONE = GaussianMixture([1.0], [[1.0]], [[[0.25]]])
CONSTANT = VP(1.0, 1.0, 4.0)
FLOW = CONSTANT.flow(CONSTANT.score(ONE))
X_0 = 1.2842917297360872  # where x_T = 0.7 comes from


def down(steps: int) -> list[float]:
    return [4.0 * (steps - i) / steps for i in range(steps + 1)]


def one_flow(x: float, t: float, s: float) -> float:
    mean, variance = torch.ones(1, dtype=torch.float64), torch.full((1, 1), 0.25, dtype=torch.float64)
    return gaussian_flow(row(x), mean, variance, CONSTANT.alpha_bar(t), CONSTANT.alpha_bar(s)).item()


def test_w7_levels():
    close(
        (CONSTANT.alpha_bar(4), CONSTANT.alpha_bar(4) * 0.25 + CONSTANT.noise(4) ** 2),
        (0.01831563888873418, 0.9862632708334493),
    )
    close(one_flow(0.7, 4, 0) - one_flow(-0.3, 4, 0), 0.5034699730587463)


@pytest.mark.parametrize(("start", "end"), [(0.7, X_0), (-1.0, 0.4283927755362186), (2.0, 1.9388026947124575)])
def test_w7_exact_flow(start, end):
    close(one_flow(start, 4, 0), end)


W7 = [  # steps; Euler in t, which is the document's formula; DDIM; Heun; RK4
    (1, 0.954941203912, 1.01937085706, 1.96264699022, 1.19357431661),
    (2, 1.14343101044, 1.05472221555, 1.23382848451, 1.24753195313),
    (4, 1.2450462447, 1.09943918203, 1.22118220048, 1.27590247494),
    (10, 1.28285445585, 1.16007974549, 1.26941879591, 1.28368240241),
    (20, 1.2862665871, 1.19991434784, 1.28044918444, 1.28423775132),
    (40, 1.28587826292, 1.23054849327, 1.28335078664, 1.28428793365),
    (80, 1.28521450947, 1.25170784888, 1.28406188158, 1.2842914868),
    (160, 1.28478226045, 1.26522649619, 1.28423512666, 1.28429171456),
    (320, 1.28454384273, 1.27341569349, 1.28427769721, 1.28429172879),
    (1000, 1.28437384118, 1.28012827189, 1.28429030144, 1.28429172973),
]


def w7_ddim(steps: int) -> float:
    schedule = CONSTANT.schedule(steps)
    return sample(ddim(ONE.network(schedule), row(0.7), schedule)).item()


@pytest.mark.parametrize(("steps", "euler", "ddim_end", "heun", "rk4"), W7, ids=[f"W7 N={steps}" for steps, *_ in W7])
def test_w7_table(steps, euler, ddim_end, heun, rk4):
    close(
        [last(solve(FLOW, row(0.7), down(steps), method)).item() for method in ("euler", "heun", "rk4")],
        (euler, heun, rk4),
        1e-10,
    )
    close(w7_ddim(steps), ddim_end, 1e-10)


@pytest.mark.parametrize(
    ("column", "order"), [(1, 0.960), (2, 0.810), (3, 2.012), (4, 4.006)], ids=["Euler", "DDIM", "Heun", "RK4"]
)
def test_w7_observed_orders(column, order):
    """From 160 to 320 steps, recomputed: the printed digits of the table would not do for RK4."""
    method = {1: "euler", 3: "heun", 4: "rk4"}.get(column)
    ends = [last(solve(FLOW, row(0.7), down(n), method)).item() if method else w7_ddim(n) for n in (160, 320)]
    close(math.log2(abs(ends[0] - X_0) / abs(ends[1] - X_0)), order, 5e-4)


def test_w7_first_step():
    close(next(solve(FLOW, row(0.7), [4.0, 3.5], "euler")), 0.7318676504889478)
    schedule = CONSTANT.schedule(8)
    close(next(ddim(ONE.network(schedule), row(0.7), schedule)).x, 0.7357715713059301)
    close(one_flow(0.7, 4, 3.5), 0.7358818786893764)


def test_w7_wrong_sign():
    close(last(solve(lambda x, t: -FLOW(x, t), row(0.7), down(1000), "euler")), -0.7488851070, 1e-9)


W7_SDE = [  # steps; mean and variance of the reverse SDE by Euler-Maruyama from the exact p_T
    (10, 0.9701441098, 0.5088087720),
    (20, 0.9868835249, 0.3646602326),
    (50, 0.9951687965, 0.2911705463),
    (100, 0.9976497474, 0.2697193955),
    (1000, 0.9997706403, 0.2518921795),
]


@pytest.mark.parametrize(("steps", "mean", "variance"), W7_SDE, ids=[f"W7 SDE N={steps}" for steps, *_ in W7_SDE])
def test_w7_reverse_sde(monkeypatch, steps, mean, variance):
    """Every step is affine: its gain from two starts without noise, its noise from the size of one draw of 1."""
    drift = CONSTANT.reverse_drift(CONSTANT.score(ONE))
    m, v = math.exp(-2), math.exp(-4) * 0.25 + 1 - math.exp(-4)
    for t, s in pairwise(down(steps)):
        ends = []
        for x, z in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0)):
            monkeypatch.setattr(torch, "randn", lambda shape, z=z, **options: torch.full(shape, z, dtype=torch.float64))
            ends.append(next(euler_maruyama(drift, CONSTANT.g, row(x), [t, s])).item())
        gain, size = ends[1] - ends[0], ends[2] - ends[0]
        m, v = ends[0] + gain * m, gain**2 * v + size**2
    close((m, v), (mean, variance), 1e-9)


def test_w7_noise_and_score():
    eps = ONE.eps(row(0.7), CONSTANT.alpha_bar(4))
    close(eps, 0.5672620470048856)
    close(-0.5 * (0.7 - eps / CONSTANT.noise(4)), -0.06373530097789554)
    close(FLOW(row(0.7), 4.0), -0.06373530097789554)


def test_e11_dropping_only_the_noise_is_not_the_ode():
    """f - g^2 score without noise collapses the spread from 1/2 to 0.034."""
    drift = CONSTANT.reverse_drift(CONSTANT.score(ONE))
    starts = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    left, right = last(solve(drift, starts, down(2000), "rk4")).flatten()
    start = math.sqrt(0.9862632708334493)
    close((right - left) * start, 0.25 / 0.9862632708334493 * math.exp(-2) * start, 1e-9)
    close((right - left) * start, 0.034068625702517605, 1e-9)


E9 = {  # the step of Example 1 from alpha_bar .8 to .9, by three methods on one ODE
    "DDIM: Euler in sigma": (0.2865752749, -0.3452071272),
    "Euler in sigma^2": (0.2918457377, -0.3583832841),
    "Euler in t": (0.2913303679, -0.3577138886),
}


def test_e9_one_ode_three_discretisations():
    x, eps, ab_t, ab_s = row(0.3, -0.4), row(0.2, -0.5), 0.8, 0.9
    two = NoiseSchedule(torch.tensor([1, ab_s, ab_t], dtype=torch.float64))
    first = next(ddim(lambda x, t: eps, x, two))
    close(first.x, E9["DDIM: Euler in sigma"], 1e-10)
    sigma_t, sigma_s = (math.sqrt((1 - ab) / ab) for ab in (ab_t, ab_s))
    field = {"Euler in sigma": lambda y, u: eps, "Euler in sigma^2": lambda y, u: eps / (2 * math.sqrt(u))}
    for name, start, stop in (("Euler in sigma", sigma_t, sigma_s), ("Euler in sigma^2", sigma_t**2, sigma_s**2)):
        y = next(solve(field[name], x / math.sqrt(ab_t), [start, stop], "euler"))
        close(y * math.sqrt(ab_s), E9[name if "2" in name else "DDIM: Euler in sigma"], 1e-10)
    h = math.log(ab_s / ab_t)
    close(h, 0.1177830357, 1e-10)
    close(next(solve(lambda x, t: -(x - eps / math.sqrt(1 - ab_t)) / 2, x, [h, 0.0], "euler")), E9["Euler in t"], 1e-10)


def test_e51_the_continuous_schedule_is_near_the_discrete_one():
    close(VP().alpha_bar(1), 4.31857e-5, 5e-11)
    close(VP().alpha_bar(0.5), 0.0790638, 5e-8)
    close(LINEAR.alpha_bar[[1000, 500]], (4.03583e-5, 0.0785872), 5e-8)


# --- W8: log-likelihood -----------------------------------------------------------------------------------------------

COVARIANCE = torch.tensor([[1.0, 0.3], [0.3, 0.5]], dtype=torch.float64)
TWO = GaussianMixture([1.0], [[0.5, -1.0]], COVARIANCE[None])
FIVE = VP(1.0, 1.0, 5.0)
FLOW_2 = FIVE.flow(FIVE.score(TWO))
X_2 = row(1.0, -0.5)
EXACT_2 = -1.6664682506698927


def up(T: float, steps: int) -> list[float]:
    return [T * i / steps for i in range(steps + 1)]


def exact_prior(mixture: GaussianMixture, sde: VP):
    return lambda x: mixture.log_density(x, sde.alpha_bar(sde.T))


def test_w8_one_dimension():
    close(one_flow(1.3, 0, 4), 0.7312000141110301)
    close(ONE.log_density(row(1.3), 1.0), -0.4057913526447274)
    log_p = log_likelihood(FLOW, row(1.3), up(4, 300), exact_prior(ONE, CONSTANT), method="rk4")
    close(log_p, -0.4057913526447274, 1e-8)
    prior = ONE.log_density(row(0.7312000141110301), CONSTANT.alpha_bar(4))
    close(prior, -1.0920225576740847)
    close(log_p - prior, 0.6862312050293573, 1e-8)
    close(prior - (log_p - prior), -1.778253762703442, 1e-8)  # with the wrong sign


@pytest.mark.parametrize(
    ("T", "gap"), [(4.0, -0.0942427058485733), (8.0, -0.011236258971), (12.0, -0.001491794602), (20.0, -2.72414835e-05)]
)
def test_e43_how_far_the_standard_normal_prior_is_off(T, gap):
    sde = VP(1.0, 1.0, T)
    times = [T * (i / 400) ** 2 for i in range(401)]
    log_p = log_likelihood(sde.flow(sde.score(ONE)), row(1.3), times, standard_normal, method="rk4")
    close(log_p - -0.4057913526447274, gap, 1e-8)


def test_w8_two_dimensions():
    close(TWO.log_density(X_2, 1.0), EXACT_2)
    close(bits_per_dim(TWO.log_density(X_2, 1.0), 2), 1.20210274052018)
    x_T = gaussian_flow(X_2, TWO.means[0], COVARIANCE, 1.0, FIVE.alpha_bar(5))
    close(x_T, (0.4351798370991165, 0.5448979089784569))
    close(TWO.log_density(x_T, FIVE.alpha_bar(5)), -2.110577929770182)
    log_p = log_likelihood(FLOW_2, X_2, up(5, 300), exact_prior(TWO, FIVE), method="rk4")
    close(log_p, EXACT_2, 1e-8)
    close(log_p + 2.110577929770182, 0.444109679100289, 1e-8)
    gap = log_likelihood(FLOW_2, X_2, up(5, 300), standard_normal, method="rk4")
    close((gap, gap - EXACT_2), (-1.6369149982224105, 0.029553252447482), 1e-8)


@pytest.mark.parametrize(
    ("t", "trace"), [(0.0, 0.8292682926829268), (0.5, 0.2783826253571231), (1.0, 0.12955916594514183)]
)
def test_w8_trace(t, trace):
    close(divergence(FLOW_2, X_2, t)[1], trace)


SIGNS = torch.tensor([[1, 1], [-1, -1], [1, -1], [-1, 1]], dtype=torch.float64)


def test_w8_hutchinson_at_one_time():
    estimates = divergence(FLOW_2, X_2.expand(4, 2), 0.5, SIGNS)[1]
    close(estimates, (0.004193052608887804,) * 2 + (0.5525721981053584,) * 2)
    close(estimates.mean(), 0.2783826253571231)
    close(estimates.var(correction=0), 0.07517992180385982)
    J = torch.tensor([[0.02494565736679688, -0.13709478637411765], [-0.13709478637411765, 0.2534369679903262]])
    close(2 * J.square().sum(), 0.20488508693504237, 1e-7)


@pytest.mark.parametrize(
    ("probe", "log_p"), [(SIGNS[:1], -2.1079197487060712), (SIGNS[2:3], -1.2250167526337148)], ids=["(1, 1)", "(1, -1)"]
)
def test_w8_single_probe_paths(probe, log_p):
    close(log_likelihood(FLOW_2, X_2, up(5, 300), exact_prior(TWO, FIVE), probe, "rk4"), log_p, 1e-8)


@pytest.mark.parametrize(
    ("steps", "log_p"), [(20, -1.626813866432782), (100, -1.6365079661164883), (1000, -1.636910949590193)]
)
def test_w8_heun(steps, log_p):
    close(log_likelihood(FLOW_2, X_2, up(5, steps), standard_normal), log_p, 1e-11)


# --- W9, E5, E6, E7, E17b: inversion on GMM-A -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data() -> Tensor:
    """2001 evenly likely points of GMM-A, by bisection; shape (2001, 1)."""
    level = (torch.arange(2001, dtype=torch.float64) + 0.5) / 2001
    low, high = torch.full_like(level, -4), torch.full_like(level, 4)
    for _ in range(60):
        middle = (low + high) / 2
        below = 0.3 * torch.special.ndtr((middle + 1) / 0.15) + 0.7 * torch.special.ndtr((middle - 0.8) / 0.25) < level
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return low[:, None]


E5 = [  # steps; round trip with eps at 0 from the first label, with eps at 0 nil, as printed; latent spread of 1 and 3
    (5, 0.28354, 0.46216, 0.27774, 0.834, 0.709),
    (10, 0.25590, 0.19073, 0.12890, 0.918, 1.356),
    (20, 0.21036, 0.13734, 0.22945, 0.972, 2.237),
    (50, 0.11316, 0.08288, 0.58038, 0.974, 3.831),
    (100, 0.06317, 0.05334, 0.95026, 0.978, 5.493),
    (200, 0.03647, 0.03354, 1.43175, 0.986, 7.708),
    (1000, 0.01060, 0.01045, 3.34964, 0.996, 16.23),
]


@pytest.mark.parametrize(
    ("steps", "right", "nil", "printed", "latent", "latent_printed"), E5, ids=[f"E5 S={steps}" for steps, *_ in E5]
)
def test_e5_e6_round_trips(gmm_a, data, steps, right, nil, printed, latent, latent_printed):
    net, times = gmm_a.network(LINEAR), time_grid(LINEAR, steps)
    latents = [
        sample(recursion(net, data, LINEAR, times, at_zero=at_zero))
        for recursion, at_zero in ((invert, "first_time"), (invert, "zero"), (invert_as_printed, "zero"))
    ]
    trips = [rms(sample(ddim(net, z, LINEAR, times)) - data) for z in latents]
    close(trips, (right, nil, printed), 5.1e-6)
    close((spread(latents[0]), spread(latents[2])), (latent, latent_printed), 5e-3 if steps == 1000 else 5.1e-4)


E6 = [  # scale of inversion and of decoding; round trip, latent spread (None: as above), mean and spread of the result
    (1.0, 1.0, 0.0330, None, None),
    (1.0, 3.0, 0.1933, None, None),
    (1.0, 7.5, 0.3703, None, (1.144, 0.116)),
    (3.0, 3.0, 0.0633, 2.51, None),
    (7.5, 7.5, 0.1466, 6.65, None),
]


@pytest.fixture(scope="module")
def class_1() -> Tensor:
    """2001 evenly likely points of class 1 of GMM-A, N(.8, .25^2)."""
    return 0.8 + 0.25 * torch.special.ndtri((torch.arange(2001, dtype=torch.float64)[:, None] + 0.5) / 2001)


@pytest.mark.parametrize(("w_up", "w_down", "trip", "latent", "result"), E6, ids=[f"E6 w={a}, {b}" for a, b, *_ in E6])
def test_e6_inversion_under_guidance(gmm_a, class_1, w_up, w_down, trip, latent, result):
    net, times = gmm_a.network(LINEAR), time_grid(LINEAR, 50)
    z = sample(invert(classifier_free(net, 1, w_up), class_1, LINEAR, times))
    end = sample(ddim(classifier_free(net, 1, w_down), z, LINEAR, times))
    close(rms(end - class_1), trip, 5.1e-5)
    if latent:
        close(spread(z), latent, 5.1e-3)
    if result:
        close((end.mean(), spread(end)), result, 5.1e-4)


def test_w10_null_predictions_repair_it(gmm_a, class_1):
    net, times = gmm_a.network(LINEAR), time_grid(LINEAR, 50)
    conditional = classifier_free(net, 1, 1.0)
    pivots = [class_1, *(state.x for state in invert(conditional, class_1, LINEAR, times))][::-1]
    unrepaired = sample(ddim(classifier_free(net, 1, 7.5), pivots[0], LINEAR, times))
    close(rms(unrepaired - class_1), 0.3703451504, 1e-10)
    nulls = iter(null_predictions(conditional, pivots, LINEAR, times, 7.5))
    repaired = sample(ddim(lambda x, t: blend(next(nulls), conditional(x, t), 7.5), pivots[0], LINEAR, times))
    assert rms(repaired - class_1) < 1e-14


E7 = [(1, 0.0045), (10, 0.173), (50, 0.792)]


@pytest.mark.parametrize(("steps", "slope"), E7, ids=[f"E7 S={steps}" for steps, _ in E7])
def test_e7_least_slope_of_a_step(gmm_a, steps, slope):
    """Every DDIM step with the exact predictor rises, so that each has an inverse."""
    x, net, least = torch.linspace(-6, 6, 4001, dtype=torch.float64)[:, None], gmm_a.network(LINEAR), math.inf
    for t, s in pairwise(time_grid(LINEAR, steps)):
        end = next(ddim(net, x, LINEAR, [t, s, 0] if s else [t, 0])).x
        least = min(least, ((end[1:] - end[:-1]) / (x[1:] - x[:-1])).min().item())
    close(least, slope, 5.1e-4 if steps > 1 else 5.1e-5)


E7_LIPSCHITZ = [(10, 3.02), (50, 2.26), (100, 1.02), (1000, 0.102)]


@pytest.mark.parametrize(("steps", "constant"), E7_LIPSCHITZ, ids=[f"E7 S={steps}" for steps, _ in E7_LIPSCHITZ])
def test_e7_when_fixed_points_converge(gmm_a, steps, constant):
    """The slope of x_t -> sqrt(ab_t / ab_s) x_s + c eps(x_t, t) must stay below 1: it does not below some 100 steps."""
    x, net, most = torch.linspace(-6, 6, 4001, dtype=torch.float64)[:, None], gmm_a.network(LINEAR), 0.0
    for t, s in pairwise(time_grid(LINEAR, steps)):
        ab_t, ab_s = LINEAR.alpha_bar[[t, s]].tolist()
        c = math.sqrt(1 - ab_t) - math.sqrt(ab_t / ab_s * (1 - ab_s))
        eps = net(x, torch.full((len(x),), t))
        most = max(most, c * ((eps[1:] - eps[:-1]) / (x[1:] - x[:-1])).abs().max().item())
    close(most, constant, 6e-3 if steps < 1000 else 6e-4)


@pytest.mark.parametrize(("steps", "latent"), [(10, 1.69), (100, 1.05)])
def test_e7_exact_inverse(gmm_a, data, steps, latent):
    """What coarse steps really come from is not N(0, 1)."""
    net, times = gmm_a.network(LINEAR), time_grid(LINEAR, steps)
    z = sample(invert_by_bisection(net, data, LINEAR, times))
    assert (sample(ddim(net, z, LINEAR, times)) - data).abs().max() < 2e-12
    close(spread(z), latent, 5e-3)


E17B = [(10, 5e-11, None), (50, 6e-13, None), (100, 7e-13, None), (200, 1e-7, 1.35e5)]


@pytest.mark.parametrize(("steps", "trip", "latent"), E17B, ids=[f"E17b S={steps}" for steps, *_ in E17B])
def test_e17b_edict(gmm_a, data, steps, trip, latent):
    """Exact, but what x and y differ by grows by 1 / p^2 a step: at 200 steps the latents are out of all bounds."""
    net, times = gmm_a.network(LINEAR), time_grid(LINEAR, steps)
    x, y = last(edict_invert(net, data, data, LINEAR, times))
    back, _ = last(edict(net, x, y, LINEAR, times))
    assert (back - data).abs().max() < trip
    if latent:
        assert spread(x) == pytest.approx(latent, rel=5e-3)
    else:
        assert spread(x) < 1.5


@pytest.mark.parametrize("steps", [5, 50])
@pytest.mark.parametrize("std", [0.5, 1.0, 2.0])
def test_w9_closed_form_of_gaussian_data(steps, std):
    """Up and down multiply by one numerator over v_s and v_t: the round trip by their product, at most 1 a step."""
    net, times = GaussianMixture([1.0], [[0.0]], [[[std**2]]]).network(LINEAR), time_grid(LINEAR, steps)
    ab, up, down = LINEAR.alpha_bar.tolist(), 1.0, 1.0
    for t, s in pairwise(times):
        numerator = math.sqrt(ab[s] * ab[t]) * std**2 + math.sqrt((1 - ab[s]) * (1 - ab[t]))
        up *= numerator / (ab[s] * std**2 + 1 - ab[s])
        down *= numerator / (ab[t] * std**2 + 1 - ab[t])
    z = sample(invert(net, row(1.0), LINEAR, times, at_zero="zero"))  # eps(x, 0) is 0 here
    close(z, up, 1e-9)
    close(sample(ddim(net, z, LINEAR, times)), up * down, 1e-9)
    assert up * down < 1
    close(sample(invert_by_bisection(net, row(1.0), LINEAR, times)), 1 / down, 1e-9)


def test_w9_exact_latents_are_the_flows():
    """With many steps the exact inverse of DDIM approaches the flow's sqrt(v_T) / std."""
    net, ab = GaussianMixture([1.0], [[0.0]], [[[0.25]]]).network(LINEAR), LINEAR.alpha_bar[1000].item()
    z = sample(invert_by_bisection(net, row(1.0), LINEAR, time_grid(LINEAR, 100)))
    close(z, math.sqrt(ab * 0.25 + 1 - ab) / 0.5, 0.06)
