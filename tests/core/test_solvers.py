"""Fast solvers: their algorithm boxes, what every step must keep, their cost, and their order on an exact mixture."""

import math
import re
import warnings
from functools import partial
from itertools import pairwise

import pytest
import torch
from drawn import draws, seeded, wavy
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from torch import Tensor

from lessons_src import solvers
from lessons_src.oracle import GaussianMixture, exact_flow
from lessons_src.process import predict_x0
from lessons_src.samplers import Counted, ddim, ddpm, renoise, sample, trajectory
from lessons_src.schedules import GRIDS, SCHEDULES, NoiseSchedule, cosine, linear, make_schedule, time_grid, times_to
from lessons_src.solvers import (
    SOLVERS,
    dpm_solver,
    dpm_solver_pp,
    dpm_solver_pp_2s,
    heun,
    optimised_grid,
    plms,
    pndm,
    quadrature,
    rk4,
    sde_dpm_solver_pp,
    thresholded,
    unipc,
)

LINEAR = linear()
every_solver = pytest.mark.parametrize("name", SOLVERS)
DETERMINISTIC = [name for name, solver in SOLVERS.items() if not solver.random]


def log_snr_schedule(T: int, high: float = 8.0, low: float = -4.0) -> NoiseSchedule:
    """T times equally spaced in log(SNR) / 2 from high to low: every grid of equal strides is one of equal steps."""
    half = torch.linspace(high, low, T, dtype=torch.float64)
    return NoiseSchedule(torch.cat([torch.ones(1, dtype=torch.float64), torch.sigmoid(2 * half)]))


def levels(schedule: NoiseSchedule, times: list[int]) -> list[tuple[float, float, float]]:
    """sqrt(ab), sqrt(1 - ab), log(SNR) / 2 at every time: alpha, sigma and lambda of the DPM-Solver papers."""
    ab = schedule.alpha_bar[times].tolist()
    return [(math.sqrt(a), math.sqrt(1 - a), math.log(a / (1 - a)) / 2 if a < 1 else math.inf) for a in ab]


# --- What every solver keeps ------------------------------------------------------------------------------------------


@given(st.sampled_from(list(SOLVERS)), st.sampled_from(list(SCHEDULES)), st.sampled_from(GRIDS), st.data())
def test_visits_the_times_in_order(name, schedule_name, grid, data):
    schedule = make_schedule(schedule_name, data.draw(st.integers(4, 60), "T"))
    times = time_grid(schedule, data.draw(st.integers(4, schedule.T), "steps"), grid)
    asked = []

    def eps_fn(x, t):
        assert (t.dtype, t.shape, len(t.unique())) == (torch.int64, (2,), 1)
        assert not torch.is_grad_enabled()
        asked.append(int(t[0]))
        return 0.1 * x

    states = list(SOLVERS[name].run(eps_fn, draws(2, 3), schedule, times))
    assert [state.t for state in states] == times[1:]
    assert all(torch.isfinite(state.x).all() for state in states)
    assert asked == sorted(asked, reverse=True)
    assert set(times[:-1]) <= set(asked)
    if name not in ("RK4", "PNDM"):
        assert set(asked) == set(times[:-1])
    assert 0 not in asked


@every_solver
@pytest.mark.parametrize("steps", [4, 5, 6, 7, 30])
def test_cost(name, steps):
    counted = Counted(wavy)
    sample(SOLVERS[name].run(counted, draws(2, 3), LINEAR, time_grid(LINEAR, steps)))
    assert counted.nfe == SOLVERS[name].nfe(steps)


def test_runge_kutta_costs_less_where_no_time_lies_between():
    counted = Counted(wavy)
    sample(rk4(counted, draws(2, 3), LINEAR, [10, 9, 5, 3, 2, 0]))
    assert counted.nfe == 2 + 4 + 4 + 2 + 1


@every_solver
@pytest.mark.parametrize("nfe", [15, 16, 17, 40])
def test_steps_that_evaluations_pay_for(name, nfe):
    solver = SOLVERS[name]
    steps = solver.steps(nfe)
    assert solver.nfe(steps) <= nfe < solver.nfe(steps + 1)


def test_too_few_evaluations_are_refused():
    with pytest.raises(ValueError, match="nfe is 12; expected at least 13, the cost of four steps"):
        SOLVERS["PNDM"].steps(12)


@every_solver
def test_default_is_the_full_chain(name):
    schedule = linear(12)
    default = list(SOLVERS[name].run(wavy, draws(2, 3), schedule))
    assert [state.t for state in default] == list(range(11, -1, -1))


@pytest.mark.parametrize("name", DETERMINISTIC)
@pytest.mark.parametrize("shape", [(2, 2), (2, 1, 8, 8), (2, 3, 4, 5, 6)], ids=str)
def test_any_event_shape(name, shape):
    x, times = draws(*shape), time_grid(LINEAR, 6)
    shaped = sample(SOLVERS[name].run(wavy, x, LINEAR, times))
    flat = sample(SOLVERS[name].run(wavy, x.flatten(1), LINEAR, times))
    assert shaped.shape == shape
    assert torch.allclose(shaped.flatten(1), flat, rtol=0, atol=1e-12)
    assert torch.equal(x, draws(*shape))


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_float32_follows_float64(gmm_a, name):
    net = gmm_a.network(LINEAR)
    ends = [
        sample(SOLVERS[name].run(net, draws(8, 1).to(dtype), LINEAR, time_grid(LINEAR, 20)))
        for dtype in (torch.float32, torch.float64)
    ]
    assert ends[0].dtype == torch.float32
    assert torch.allclose(ends[0].double(), ends[1], atol=2e-3)


@every_solver
def test_the_last_step_lands_on_x0(name):
    *_, last = SOLVERS[name].run(wavy, draws(2, 3), LINEAR, time_grid(LINEAR, 6))
    assert torch.allclose(last.x, last.x0, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in DETERMINISTIC if "UniPC" not in name])
def test_a_state_is_made_of_its_own_x0_and_eps(name):
    times = time_grid(LINEAR, 9)
    for s, state in zip(times[1:], SOLVERS[name].run(wavy, draws(2, 3), LINEAR, times), strict=True):
        again = renoise(state.x0, state.eps, float(LINEAR.alpha_bar[s]))
        assert torch.allclose(state.x, again, rtol=0, atol=1e-12)


@every_solver
def test_point_mass_data_is_hit_exactly(name):
    net = GaussianMixture([1.0], [[0.7]], [[[0.0]]]).network(LINEAR)
    x = sample(SOLVERS[name].run(net, draws(5, 1), LINEAR, time_grid(LINEAR, 8)))
    assert torch.allclose(x, torch.full_like(x, 0.7), atol=1e-8)


@every_solver
@pytest.mark.parametrize("times", [[10], [10, 10, 0], [5, 8, 0], [8, 3, 2, 1], [1001, 4, 3, 2, 0]], ids=str)
def test_bad_times_are_refused(name, times):
    with pytest.raises(ValueError, match="times is"):
        sample(SOLVERS[name].run(wavy, draws(2, 3), LINEAR, times))


def test_three_steps_do_not_start_pndm():
    with pytest.raises(ValueError, match=r"times is \[9, 5, 2, 0\]; expected at least 4 steps"):
        sample(pndm(wavy, draws(2, 3), LINEAR, [9, 5, 2, 0]))


def test_where_runge_kutta_looks():
    """PNDM half-way in t, rounded down; RK4 half-way in sigma."""
    asked = []

    def eps_fn(x, t):
        asked.append(int(t[0]))
        return wavy(x, t)

    next(pndm(eps_fn, draws(2, 3), LINEAR, [900, 455, 300, 200, 0]))
    assert asked == [900, 677, 677, 455]
    asked.clear()
    next(rk4(eps_fn, draws(2, 3), LINEAR, [900, 455, 0]))
    sigma = (1 / LINEAR.snr).sqrt().tolist()
    below, above = (abs(2 * sigma[asked[1] + i] - sigma[900] - sigma[455]) for i in (-1, 1))
    assert (asked[0], asked[1], asked[3]) == (900, asked[2], 455)
    assert abs(2 * sigma[asked[1]] - sigma[900] - sigma[455]) < min(below, above)


@pytest.mark.parametrize("solver", [dpm_solver, dpm_solver_pp, unipc])
@pytest.mark.parametrize("order", [0, 4])
def test_orders_are_one_to_three(solver, order):
    with pytest.raises(ValueError, match=f"order is {order}; expected a whole number from 1 to 3"):
        sample(solver(wavy, draws(2, 3), LINEAR, [9, 0], order=order))


# --- Algorithm boxes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", [dpm_solver, dpm_solver_pp])
def test_order_1_is_ddim(solver):
    times = time_grid(LINEAR, 7, "quadratic")
    ours, theirs = (trajectory(draws(4, 3), run) for run in (
        solver(wavy, draws(4, 3), LINEAR, times, order=1), ddim(wavy, draws(4, 3), LINEAR, times)
    ))  # fmt: skip
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-10)


def test_order_1_of_the_sde_is_ddpm():
    times, x = time_grid(LINEAR, 7, "quadratic"), draws(4, 3)
    ours = trajectory(x, sde_dpm_solver_pp(wavy, x, LINEAR, times, order=1, generator=seeded(2)))
    assert torch.allclose(ours, trajectory(x, ddpm(wavy, x, LINEAR, times, generator=seeded(2))), rtol=0, atol=1e-10)


def test_the_sde_draws_at_every_step_but_the_last(noise_calls):
    times = time_grid(LINEAR, 6)
    sample(sde_dpm_solver_pp(wavy, draws(2, 3), LINEAR, times))
    assert len(noise_calls) == 5


@every_solver
def test_only_a_random_solver_draws_noise(noise_calls, name):
    sample(SOLVERS[name].run(wavy, draws(2, 3), LINEAR, time_grid(LINEAR, 6)))
    assert bool(noise_calls) is SOLVERS[name].random


def call(x: Tensor, t: int) -> Tensor:
    return wavy(x, torch.full((len(x),), t))


def test_heun_step():
    """Karras et al. 2022, algorithm 1, in y = x / sqrt(ab) with sigma as time."""
    times, x = [500, 300, 100, 0], draws(3, 2)
    ab = LINEAR.alpha_bar[times].tolist()
    sigma = [math.sqrt((1 - a) / a) for a in ab]
    states = list(heun(wavy, x, LINEAR, times))
    y = x / math.sqrt(ab[0])
    for i in range(2):
        d = call(y * math.sqrt(ab[i]), times[i])
        euler = y + (sigma[i + 1] - sigma[i]) * d
        d_next = call(euler * math.sqrt(ab[i + 1]), times[i + 1])
        y = y + (sigma[i + 1] - sigma[i]) * (d + d_next) / 2
        assert torch.allclose(states[i].x, y * math.sqrt(ab[i + 1]), rtol=0, atol=1e-12)


def test_rk4_is_the_classical_method_where_the_middle_is_exact():
    schedule = NoiseSchedule(1 / (1 + torch.tensor([0, 0.5, 1.0, 1.5], dtype=torch.float64) ** 2))  # sigma
    ab, x = schedule.alpha_bar.tolist(), draws(3, 2)

    def field(sigma: float, y: Tensor) -> Tensor:
        t = round(2 * sigma)
        return call(y * math.sqrt(ab[t]), t)

    y, h = x / math.sqrt(ab[3]), -1.0
    k1 = field(1.5, y)
    k2 = field(1.0, y + h / 2 * k1)
    k3 = field(1.0, y + h / 2 * k2)
    k4 = field(0.5, y + h * k3)
    first = next(rk4(wavy, x, schedule, [3, 1, 0]))
    assert torch.allclose(first.x / math.sqrt(ab[1]), y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4), rtol=0, atol=1e-12)


def test_plms_is_adams_bashforth_in_eps():
    """All orders integrate their polynomials over unit steps; the history is the predictions at the visited x."""
    for k, weights in enumerate(solvers.ADAMS_BASHFORTH):
        for power in range(k + 1):
            mean = sum(w * (-i) ** power for i, w in enumerate(weights))
            assert mean == pytest.approx(1 / (power + 1))
    times, x = [900, 700, 500, 300, 100, 50, 0], draws(3, 2)
    states = list(plms(wavy, x, LINEAR, times))
    seen = [call(state_x, t) for state_x, t in zip([x, *(s.x for s in states)], times[:-1], strict=False)]
    euler = next(ddim(wavy, x, LINEAR, times)).x
    assert torch.allclose(states[0].eps, (seen[0] + call(euler, 700)) / 2, rtol=0, atol=1e-12)
    assert torch.allclose(states[1].eps, (3 * seen[1] - seen[0]) / 2, rtol=0, atol=1e-12)
    assert torch.allclose(states[2].eps, (23 * seen[2] - 16 * seen[1] + 5 * seen[0]) / 12, rtol=0, atol=1e-12)
    for i in (3, 4, 5):
        eps = (55 * seen[i] - 59 * seen[i - 1] + 37 * seen[i - 2] - 9 * seen[i - 3]) / 24
        assert torch.allclose(states[i].eps, eps, rtol=0, atol=1e-12)


def test_dpm_solver_2_and_2s():
    """Lu et al. 2022 (DPM-Solver, algorithm 1) and 2022 (DPM-Solver++, algorithm 1) for one span t, m, s."""
    t, m, _ = times = [900, 620, 400]
    (a_t, n_t, l_t), (a_m, n_m, l_m), (a_s, n_s, l_s) = levels(LINEAR, times)
    x, h = draws(3, 2), l_s - l_t
    r = (l_m - l_t) / h
    eps = call(x, t)
    u = a_m / a_t * x - n_m * math.expm1(r * h) * eps
    end = a_s / a_t * x - n_s * math.expm1(h) * eps - n_s / (2 * r) * math.expm1(h) * (call(u, m) - eps)
    first, second, _ = dpm_solver(wavy, x, LINEAR, [*times, 0])
    assert torch.allclose(first.x, u, rtol=0, atol=1e-12)
    assert torch.allclose(second.x, end, rtol=0, atol=1e-12)

    x0 = predict_x0(x, eps, a_t**2)
    u = n_m / n_t * x - a_m * math.expm1(-r * h) * x0
    mean = (1 - 1 / (2 * r)) * x0 + 1 / (2 * r) * predict_x0(u, call(u, m), a_m**2)
    first, second, _ = dpm_solver_pp_2s(wavy, x, LINEAR, [*times, 0])
    assert torch.allclose(first.x, u, rtol=0, atol=1e-12)
    assert torch.allclose(second.x, n_s / n_t * x - a_s * math.expm1(-h) * mean, rtol=0, atol=1e-12)


def test_dpm_solver_3_agrees_with_its_algorithm_box_at_the_boxes_own_times():
    """Lu et al. 2022, algorithm 2: r1 = 1/3, r2 = 2/3. The Taylor form differs in h^4, the inner x in nothing."""
    gaps = []
    for stride in (12, 6):
        schedule = log_snr_schedule(1201)
        t, m, k, _ = times = [800, 800 - stride, 800 - 2 * stride, 800 - 3 * stride]
        (a_t, _, l_t), (a_m, n_m, _), (a_k, n_k, _), (a_s, n_s, l_s) = levels(schedule, times)
        x, h = draws(3, 2), l_s - l_t
        eps = call(x, t)
        u1 = a_m / a_t * x - n_m * math.expm1(h / 3) * eps
        d1 = call(u1, m) - eps
        third = math.expm1(2 * h / 3)
        u2 = a_k / a_t * x - n_k * third * eps - n_k * 2 * (third / (2 * h / 3) - 1) * d1
        d2 = call(u2, k) - eps
        end = a_s / a_t * x - n_s * math.expm1(h) * eps - n_s * 3 / 2 * (math.expm1(h) / h - 1) * d2
        one, two, three, _ = dpm_solver(wavy, x, schedule, [*times, 0], order=3)
        assert torch.allclose(one.x, u1, rtol=0, atol=1e-12)
        assert torch.allclose(two.x, u2, rtol=0, atol=1e-12)
        gaps.append((three.x - end).abs().max().item())
    assert gaps[0] < 1e-2
    assert math.log2(gaps[0] / gaps[1]) > 3.5


def test_2m_and_its_sde():
    """Lu et al. 2022 (DPM-Solver++), algorithm 2, and its version with noise, here all ones."""
    times, x = [900, 700, 400, 0], draws(3, 2)
    (a0, n0, l0), (a1, n1, l1), (a2, n2, l2), _ = levels(LINEAR, times)
    h1, h2 = l1 - l0, l2 - l1
    r = h1 / h2
    for sde, z in ((False, 0.0), (True, 1.0)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("lessons_src.samplers.noise_like", lambda x, g: torch.ones_like(x))
            states = list((sde_dpm_solver_pp if sde else dpm_solver_pp)(wavy, x, LINEAR, times))
        k, loss1, loss2 = 1 + sde, math.exp(-h1 * sde), math.exp(-h2 * sde)
        first = predict_x0(x, call(x, 900), a0**2)
        x1 = n1 / n0 * loss1 * x - a1 * math.expm1(-k * h1) * first + n1 * math.sqrt(-math.expm1(-2 * h1)) * z
        assert torch.allclose(states[0].x, x1, rtol=0, atol=1e-12)
        second = predict_x0(x1, call(x1, 700), a1**2)
        mean = (1 + 1 / (2 * r)) * second - 1 / (2 * r) * first
        x2 = n2 / n1 * loss2 * x1 - a2 * math.expm1(-k * h2) * mean + n2 * math.sqrt(-math.expm1(-2 * h2)) * z
        assert torch.allclose(states[1].x, x2, rtol=0, atol=1e-12)


def test_the_order_of_3m_grows_and_falls():
    """1, 2, 3, ..., 3, 2, 1: with four steps the third is of order 2 again, with five it is of order 3."""
    for steps, same in ((4, True), (5, False)):
        times = time_grid(LINEAR, steps)
        third, second = (trajectory(draws(3, 2), dpm_solver_pp(wavy, draws(3, 2), LINEAR, times, k)) for k in (3, 2))
        assert torch.equal(third[:3], second[:3])
        assert torch.allclose(third, second, rtol=0, atol=1e-12) is same


EXACT = [  # solver, whether it interpolates x0 (or eps), rate of the weight
    ("DPM-Solver-3", partial(dpm_solver, order=3), False, 1),
    ("3M", partial(dpm_solver_pp, order=3), True, -1),
    ("SDE 3M without noise", partial(sde_dpm_solver_pp, order=3), True, -2),
    ("UniPC-3", partial(unipc, order=3), True, -1),
]


@pytest.mark.parametrize(("solver", "of_x0", "rate"), [case[1:] for case in EXACT], ids=[case[0] for case in EXACT])
def test_quadratic_predictions_are_integrated_exactly(noise_calls, solver, of_x0, rate):
    """Where the prediction is a + b u + c u^2 in u = log(SNR) / 2, whatever x is, one full-order step has no error."""
    times = [900, 810, 640, 500, 380, 120, 0]
    level = {t: (a, n, u) for t, (a, n, u) in zip(times, levels(LINEAR, times), strict=True)}

    def value(u: float) -> float:
        return 0.7 - 0.4 * u + 0.2 * u**2

    def eps_fn(x, t):
        a, n, u = level[int(t[0])]
        return (x - a * value(u)) / n if of_x0 else torch.full_like(x, value(u))

    xs = [draws(3, 2), *(state.x for state in solver(eps_fn, draws(3, 2), LINEAR, times))]
    start, x = (2, xs[2]) if of_x0 else (0, xs[0])
    if solver.func is unipc:  # after UniC-1, which is not exact, UniC-2 and UniP-3 are
        (_, n_t, u_t), (a_s, n_s, u_s) = level[900], level[810]
        start, x = 1, n_s / n_t * xs[0] - a_s * math.expm1(u_t - u_s) * (value(u_t) + value(u_s)) / 2
    (a_t, n_t, u_t), (a_s, n_s, u_s) = level[times[start]], level[500]
    if rate == 1:
        integral = quad(lambda u: math.exp(-u) * value(u), u_t, u_s)[0]
        exact = a_s / a_t * x - a_s * integral
    else:
        integral = quad(lambda u: math.exp(rate * (u_s - u)) * value(u), u_t, u_s)[0]
        exact = n_s / n_t * math.exp((rate + 1) * (u_s - u_t)) * x - a_s * rate * integral
    assert torch.allclose(xs[3], exact, rtol=0, atol=1e-10)


def test_unipc_corrects_with_what_it_predicts_from():
    """Zhao et al. 2023: UniC-1 and UniP-1 written out with B2(h) = e^h - 1 for the first two steps."""
    times, x = [900, 700, 400, 0], draws(3, 2)
    (a0, n0, l0), (a1, n1, l1), (a2, n2, l2), _ = levels(LINEAR, times)
    first = predict_x0(x, call(x, 900), a0**2)
    predicted = n1 / n0 * x - a1 * math.expm1(l0 - l1) * first
    second = predict_x0(predicted, call(predicted, 700), a1**2)
    corrected = n1 / n0 * x - a1 * math.expm1(l0 - l1) * (first + second) / 2
    end = n2 / n1 * corrected - a2 * math.expm1(l1 - l2) * second
    states = list(unipc(wavy, x, LINEAR, times, order=1))
    assert torch.allclose(states[0].x, predicted, rtol=0, atol=1e-12)
    assert torch.allclose(states[1].x, end, rtol=0, atol=1e-12)


@given(st.lists(st.integers(-30, 20), min_size=1, max_size=4, unique=True), st.floats(-30, 30), st.integers(0, 99))
def test_quadrature(nodes, z, seed):
    """The weights give the weighted mean of every polynomial that fits through the nodes."""
    r, c = [node / 10 for node in nodes], draws(len(nodes), seed=seed).tolist()

    def f(u: float) -> float:
        return sum(ci * u**i for i, ci in enumerate(c))

    top = max(z, 0.0)  # keeps the weight at most 1
    mass = quad(lambda u: math.exp(z * (1 - u) - top), 0, 1)[0]
    exact = quad(lambda u: math.exp(z * (1 - u) - top) * f(u), 0, 1)[0] / mass
    weights = quadrature(r, z)
    scale = 1 + sum(abs(w * f(x)) for w, x in zip(weights, r, strict=True))
    assert sum(w * f(x) for w, x in zip(weights, r, strict=True)) == pytest.approx(exact, abs=1e-9 * scale)


@pytest.mark.parametrize("z", [1e-6, -1e-3, 0.9, -1.1])
def test_quadrature_of_short_steps(z):
    """Where the weight is nearly flat the moments would cancel."""
    flat = quadrature([0, 1, -1, -2])
    assert quadrature([0, 1, -1, -2], z) == pytest.approx(flat, abs=0.2 * abs(z) + 1e-12)
    moment = sum(w * r**3 for w, r in zip(quadrature([0, 1, -1, -2], z), [0, 1, -1, -2], strict=True))
    exact = [quad(lambda u, p=p: math.exp(z * (1 - u)) * u**p, 0, 1, epsabs=1e-14)[0] for p in (0, 3)]
    assert moment == pytest.approx(exact[1] / exact[0], abs=1e-12)


def test_simpsons_rule_is_a_quadrature():
    assert quadrature([0, 0.5, 1]) == pytest.approx([1 / 6, 4 / 6, 1 / 6])


# --- Orders -----------------------------------------------------------------------------------------------------------

EIGHT = torch.arange(8, dtype=torch.float64) * math.pi / 4
RING = GaussianMixture([1 / 8] * 8, torch.stack([EIGHT.cos(), EIGHT.sin()], 1), [[[0.0225, 0], [0, 0.0225]]] * 8)
FINE = log_snr_schedule(4609)


@pytest.fixture(scope="module")
def ring_end() -> Tensor:
    """Where the flow takes 32 starts."""
    return exact_flow(RING.eps, draws(32, 2), float(FINE.alpha_bar[-1]), 1200)


def ring_error(solver, steps: int, truth: Tensor) -> float:
    times = [4609 - 4608 * i // steps for i in range(steps)] + [1, 0]
    return (sample(solver(RING.network(FINE), draws(32, 2), FINE, times)) - truth).square().mean().sqrt().item()


ORDERS = [  # solver, order, steps of equal log-SNR from which on it shows
    ("DDIM", 1, 48),
    ("Heun", 2, 48),
    ("RK4", 4, 12),
    ("PLMS", 2, 48),
    ("PNDM", 2, 48),
    ("DPM-Solver-2", 2, 96),
    ("DPM-Solver-3", 3, 48),
    ("DPM-Solver++(2S)", 2, 48),
    ("DPM-Solver++(2M)", 2, 96),
    ("DPM-Solver++(3M)", 3, 48),
    ("UniPC-2", 3, 48),
    ("UniPC-3", 4, 32),
]


@pytest.mark.parametrize(("name", "order", "steps"), ORDERS, ids=[name for name, *_ in ORDERS])
def test_order_on_log_snr_grids(ring_end, name, order, steps):
    """The slope of log error against log steps. UniC adds one order to that of UniP without a further evaluation."""
    counts = [steps, 2 * steps, 4 * steps]
    errors = [ring_error(SOLVERS[name].run, n, ring_end) for n in counts]
    log_n, log_error = (torch.tensor(v, dtype=torch.float64).log() for v in (counts, errors))
    slope = -((log_n - log_n.mean()) * (log_error - log_error.mean())).sum() / (log_n - log_n.mean()).square().sum()
    assert slope.item() == pytest.approx(order, abs=0.25)


def test_ten_evaluations(ring_end):
    """At ten evaluations DPM-Solver++(2M) is several times nearer to the exact end than DDIM, on the better grid."""
    schedule, x = cosine(), draws(64, 2)
    truth = exact_flow(RING.eps, x, float(schedule.alpha_bar[-1]), 800)
    error = {
        name: min(
            (sample(SOLVERS[name].run(RING.network(schedule), x, schedule, time_grid(schedule, 10, grid))) - truth)
            .square().mean().sqrt().item()
            for grid in ("linspace", "quadratic", "log_snr")
        )
        for name in ("DDIM", "DPM-Solver++(2M)")
    }  # fmt: skip
    assert error["DPM-Solver++(2M)"] < 0.4 * error["DDIM"]


MIX_EPS = ("Heun", "RK4", "PLMS", "PNDM", "DPM-Solver-2", "DPM-Solver-3")


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("start", ["at T", "below T", "at T, finely"])
def test_mixing_eps_where_no_signal_is_left_is_warned_of_and_rightly(name, start):
    schedule, x = cosine(), draws(16, 2)
    fine = time_grid(schedule, 60, "log_snr")
    times = {"at T": time_grid(schedule, 16), "below T": times_to(980, 16)}.get(start, fine)
    with warnings.catch_warnings(record=True, action="always") as said:
        end = sample(SOLVERS[name].run(RING.network(schedule), x, schedule, times))
    is_bad = name in MIX_EPS and start == "at T"
    assert len(said) == is_bad
    assert all(re.match("times: from t = 1000 to 938 the signal grows 1,9..-fold", str(w.message)) for w in said)
    exact = exact_flow(RING.eps, x, float(schedule.alpha_bar[times[0]]))
    misses = [(found - exact).norm() for found in (end, sample(ddim(RING.network(schedule), x, schedule, times)))]
    assert SOLVERS[name].random or (misses[0] > 10 * misses[1] if is_bad else misses[0] <= misses[1])


def test_a_first_step_that_mixes_nothing_is_not_warned_of():
    schedule, x = cosine(), draws(4, 2)
    with warnings.catch_warnings(action="error"):
        sample(heun(RING.network(schedule), x, schedule, [1000, 0]))
        sample(dpm_solver(RING.network(schedule), x, schedule, [1000, 500, 0], order=1))


# --- Grids and thresholds ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEDULES)
def test_edm_grid_takes_the_nearest_times(schedules, name):
    ab, steps = schedules[name].alpha_bar.tolist(), 12
    root = [((1 - a) / a) ** (1 / 14) for a in ab]
    wanted = [root[1] + (root[999] - root[1]) * i / (steps - 1) for i in range(steps - 1)]
    nearest = [*(min(range(1, 1000), key=lambda t: abs(root[t] - level)) for level in wanted), 1000]
    assert time_grid(schedules[name], steps, "edm")[-2::-1] == nearest


@pytest.mark.parametrize(("solver", "steps"), [(ddim, 4), (dpm_solver_pp, 5)])
def test_optimised_grid_beats_the_hand_made_ones_on_unseen_starts(solver, steps):
    schedule = cosine()
    net, (seen, unseen) = RING.network(schedule), (draws(32, 2, seed=1), draws(64, 2, seed=2))
    targets = [exact_flow(RING.eps, x, float(schedule.alpha_bar[-1]), 500) for x in (seen, unseen)]

    def error(times: list[int], x: Tensor, target: Tensor) -> float:
        return (sample(solver(net, x, schedule, times)) - target).square().mean().item()

    grid = optimised_grid(solver, net, seen, schedule, time_grid(schedule, steps, "quadratic"), targets[0])
    assert (len(grid), grid[0], grid[-1]) == (steps + 1, 1000, 0)
    assert all(t > s for t, s in pairwise(grid))
    by_hand = [error(time_grid(schedule, steps, name), unseen, targets[1]) for name in GRIDS]
    assert error(grid, unseen, targets[1]) < 0.8 * min(by_hand)
    best = error(grid, seen, targets[0])
    for i in range(1, steps):
        for move in (-1, 1):
            moved = [*grid[:i], grid[i] + move, *grid[i + 1 :]]
            if grid[i + 1] < moved[i] < grid[i - 1]:
                assert error(moved, seen, targets[0]) >= best


def test_thresholded_keeps_x0_within_the_data():
    t = torch.tensor([1000, 400, 3])
    ab = LINEAR.alpha_bar[t]
    x = 3 * draws(3, 1, 4, 4)
    x0 = predict_x0(x, wavy(x, t), ab)
    clipped = predict_x0(x, thresholded(wavy, LINEAR)(x, t), ab)
    assert torch.allclose(clipped, x0.clamp(-1, 1), atol=1e-9)
    assert torch.allclose(predict_x0(x, thresholded(wavy, LINEAR, 2.5)(x, t), ab), x0.clamp(-2.5, 2.5), atol=1e-9)
    dynamic = predict_x0(x, thresholded(wavy, LINEAR, share=0.8)(x, t), ab)
    for one, raw in zip(dynamic, x0, strict=True):
        bound = max(raw.abs().flatten().quantile(0.8).item(), 1.0)
        assert torch.allclose(one, raw.clamp(-bound, bound) / bound, atol=1e-9)


def test_thresholded_leaves_what_is_within():
    x, t = 0.1 * draws(2, 3), torch.tensor([5, 5])
    for share in (0.9, 1.0):
        assert torch.allclose(thresholded(wavy, LINEAR, 10.0, share)(x, t), wavy(x, t), atol=1e-9)


@pytest.mark.parametrize(("name", "value"), [("limit", 0.0), ("share", 0.0), ("share", 1.1)])
def test_bad_thresholds_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        thresholded(wavy, LINEAR, **{name: value})
