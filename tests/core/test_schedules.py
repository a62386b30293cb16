"""Noise schedules and the times a sampler visits: formulas, the documents' numbers, and what every grid must keep."""

import math
from itertools import pairwise

import pytest
import torch
from diffusers import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_ddim import rescale_zero_terminal_snr
from hypothesis import given
from hypothesis import strategies as st

from lessons_src.process import posterior_variance
from lessons_src.schedules import (
    GRIDS,
    SCHEDULES,
    NoiseSchedule,
    cosine,
    karras_sigmas,
    linear,
    make_schedule,
    of_betas,
    scaled_linear,
    shifted_cosine,
    sigmoid,
    time_grid,
    times_to,
    zero_terminal_snr,
)
from lessons_src.sde import VP


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


# --- Formulas, written out a second time ------------------------------------------------------------------------------


def linear_formula(t: int, T: int) -> float:
    return math.prod(1 - (1e-4 + (i - 1) / (T - 1) * (0.02 - 1e-4)) for i in range(1, t + 1))


def scaled_formula(t: int, T: int) -> float:
    ends = math.sqrt(0.00085), math.sqrt(0.012)
    return math.prod(1 - (ends[0] + (i - 1) / (T - 1) * (ends[1] - ends[0])) ** 2 for i in range(1, t + 1))


def cosine_formula(t: int, T: int, s: float = 0.008) -> float:
    return (math.cos((t / T + s) / (1 + s) * math.pi / 2) / math.cos(s / (1 + s) * math.pi / 2)) ** 2


def sigmoid_formula(t: int, T: int, c: float = 3.0) -> float:
    return (logistic(c) - logistic(-c + 2 * c * t / T)) / (logistic(c) - logistic(-c))


def shifted_formula(t: int, T: int, size: int = 128) -> float:
    return logistic(-2 * math.log(math.tan(math.pi * t / (2 * T))) + 2 * math.log(64 / size))


FORMULAS = {
    "linear": (linear, linear_formula, {}),
    "scaled_linear": (scaled_linear, scaled_formula, {}),
    "cosine": (cosine, cosine_formula, {}),
    "cosine s=.1": (cosine, cosine_formula, {"s": 0.1}),
    "sigmoid": (sigmoid, sigmoid_formula, {}),
    "sigmoid c=6": (sigmoid, sigmoid_formula, {"c": 6.0}),
    "shifted_cosine": (shifted_cosine, shifted_formula, {}),
    "shifted_cosine 512": (shifted_cosine, shifted_formula, {"size": 512}),
}


@pytest.mark.parametrize("T", [2, 10, 1000])
@pytest.mark.parametrize("name", FORMULAS)
def test_alpha_bar_follows_its_formula(name, T):
    build, formula, parameters = FORMULAS[name]
    schedule = build(T, **parameters)
    last = T if build in (linear, scaled_linear) else T - 1  # the others are clipped at T
    exact = [formula(t, T, **parameters) for t in range(1, last + 1)]
    assert schedule.T == T
    assert schedule.alpha_bar[0] == 1
    assert schedule.alpha_bar[1 : last + 1].tolist() == pytest.approx(exact, rel=1e-9)


def test_zero_terminal_snr_is_that_of_its_authors_below_T():
    before = scaled_linear()
    assert before.alpha_bar[-1].sqrt().item() == pytest.approx(0.068265, abs=1e-6)  # Lin et al. 2023, section 3.1
    after = zero_terminal_snr(before)
    diffusers = rescale_zero_terminal_snr(before.beta[1:])
    assert after.alpha_bar[1:-1].tolist() == pytest.approx((1 - diffusers).cumprod(0)[:-1].tolist(), rel=1e-9)
    assert after.alpha_bar[-1].item() == 2**-24
    assert after.alpha_bar[1].item() == pytest.approx(before.alpha_bar[1].item(), rel=1e-12)


def test_karras_sigmas_are_those_of_diffusers():
    scheduler = EulerDiscreteScheduler(use_karras_sigmas=True, beta_schedule="scaled_linear")
    scheduler.set_timesteps(10)
    *sigmas, last = scheduler.sigmas.tolist()
    assert last == 0
    ours = karras_sigmas(10, sigmas[-1], sigmas[0])
    assert ours == pytest.approx([*sigmas, 0], rel=1e-5)
    assert karras_sigmas(3, 1, 9, rho=2) == pytest.approx([9, 4, 1, 0])  # equal steps of the root


@pytest.mark.parametrize("T", [3, 10, 100])
def test_few_times_of_a_linear_schedule_end_in_noise_all_the_same(T):
    assert VP().schedule(T).alpha_bar[-1].item() == pytest.approx(linear().alpha_bar[-1].item(), rel=0.1)


def test_nobody_changes_a_schedule():
    given = linear(10).alpha_bar
    schedule = NoiseSchedule(given)
    kept = given.clone()
    given[5] = 2.0
    schedule.alpha_bar[3] = 7.0
    assert torch.equal(schedule.alpha_bar, kept)
    with pytest.raises(AttributeError, match="alpha_bar"):
        schedule.alpha_bar = kept
    assert repr(schedule) == "<NoiseSchedule 'custom', T = 10>"


@pytest.mark.parametrize("build", [cosine, sigmoid, shifted_cosine])
def test_betas_are_clipped(build):
    assert build(1000).beta[-1] == pytest.approx(0.999, rel=1e-12)
    gentle = build(1000, max_beta=0.02)
    assert gentle.beta.max() == pytest.approx(0.02, rel=1e-12)
    assert torch.allclose(gentle.beta, build(1000).beta.clamp(max=0.02), rtol=1e-9)


@given(st.data(), st.sampled_from(list(SCHEDULES)), st.integers(1, 400))
def test_any_parameters_give_a_valid_schedule(data, name, T):
    low = data.draw(st.floats(1e-6, 0.05), "beta_start")
    parameters = {
        "linear": {"beta_start": low, "beta_end": low + data.draw(st.floats(0, 0.3), "rise")},
        "scaled_linear": {"beta_start": low, "beta_end": low + data.draw(st.floats(0, 0.3), "rise")},
        "cosine": {"s": data.draw(st.floats(0, 1), "s")},
        "sigmoid": {"c": data.draw(st.floats(1e-3, 30), "c")},
        "shifted_cosine": {"size": data.draw(st.integers(1, 4096), "size")},
    }[name]
    schedule = make_schedule(name, T, **parameters)  # NoiseSchedule checks itself
    assert schedule.name == name
    assert (schedule.T, schedule.alpha_bar.dtype) == (T, torch.float64)
    assert schedule.beta[1:].max() <= 0.999 + 1e-12


@given(st.lists(st.floats(1e-4, 0.9), min_size=1, max_size=50))
def test_derived_quantities(betas):
    alpha = 1 - torch.tensor([0.0, *betas], dtype=torch.float64)
    schedule = NoiseSchedule(alpha.cumprod(0))
    assert len(schedule.alpha_bar) == schedule.T + 1
    assert torch.allclose(schedule.alpha, alpha, rtol=1e-12)
    assert torch.allclose(schedule.beta, 1 - alpha, rtol=1e-10)
    assert schedule.snr[0] == math.inf
    assert torch.allclose(schedule.snr[1:], 1 / (1 / schedule.alpha_bar[1:] - 1), rtol=1e-9)
    assert torch.allclose(schedule.log_snr[1:], torch.logit(schedule.alpha_bar[1:]), rtol=1e-9, atol=1e-12)


# --- The documents' numbers -------------------------------------------------------------------------------------------

TABLE = {  # t: alpha_bar and SNR of linear, cosine, sigmoid, T = 1000
    1: (0.9999, 9999, 0.9999587157751780, 24221.327, 0.9996997208, 3329.234),
    10: (0.9981052048, 526.76152, 0.9993687184, 1583.0791, 0.996922714, 323.96167),
    50: (0.9710157229, 33.501464, 0.9920072787, 124.11383, 0.9828232747, 57.218315),
    100: (0.8970181457, 8.7104486, 0.9720927371, 34.832966, 0.9605072173, 24.321082),
    250: (0.5240853738, 1.1012172, 0.8470121613, 5.5364673, 0.8508535479, 5.7048192),
    500: (0.07858724288177824, 0.085289944, 0.49384359044063775, 0.97567388, 0.5, 1),
    750: (0.003350550439, 0.0033618144, 0.1442721024, 0.16859577, 0.1491464521, 0.17529039),
    999: (4.118193638e-05, 4.1183632e-05, 2.428766907e-06, 2.4287728e-06, 3.002791997e-04, 3.0036939e-04),
    1000: (4.035829765375676e-05, 4.0359927e-05, 2.4287669070348542e-09, 2.4287669e-09, 3.002791997e-07, 3.002793e-07),
}
NAMES = ("linear", "cosine", "sigmoid")
ENTRIES = [(name, t, *TABLE[t][2 * i : 2 * i + 2]) for i, name in enumerate(NAMES) for t in TABLE]


@pytest.mark.parametrize(("name", "t", "alpha_bar", "snr"), ENTRIES, ids=[f"{n} t={t}" for n, t, *_ in ENTRIES])
def test_schedule_table(schedules, name, t, alpha_bar, snr):
    assert schedules[name].alpha_bar[t].item() == pytest.approx(alpha_bar, rel=1e-9)
    assert schedules[name].snr[t].item() == pytest.approx(snr, rel=1e-7)


BETA_TILDE = [  # t, beta-tilde, its share of beta (linear)
    (2, 5.4531876613e-05, 0.45474),
    (3, 8.5489115231e-05, 0.61134),
    (10, 2.3818202782e-04, 0.85285),
    (100, 2.0345962595e-03, 0.98191),
    (500, 1.0031355415e-02, 0.99914),
    (1000, 1.9999983527e-02, 0.9999992),
]


@pytest.mark.parametrize(("t", "beta_tilde", "share"), BETA_TILDE)
def test_beta_tilde_table(schedules, t, beta_tilde, share):
    exact = posterior_variance(*schedules["linear"].alpha_bar[[t, t - 1]].tolist())
    assert exact == pytest.approx(beta_tilde, rel=1e-9)
    assert exact / schedules["linear"].beta[t].item() == pytest.approx(share, abs=5e-6)


def slopes(schedule: NoiseSchedule) -> torch.Tensor:
    """Fall of log-SNR from t to t + 1 for t = 50..950."""
    return -schedule.log_snr.diff()[50:951]


NUMBERS = [  # id, value from the named schedules (T = 1000), what it is, tolerance
    ("linear starts at 1e-4", lambda s: s["linear"].beta[1], 1e-4, 1e-15),
    ("linear ends at .02", lambda s: s["linear"].beta[1000], 0.02, 1e-15),
    ("E4 first cosine beta", lambda s: s["cosine"].beta[1], 4.128422482196914e-05, 1e-15),
    ("E4 its root is below a pixel", lambda s: s["cosine"].beta[1].sqrt(), 0.0064253, 5e-8),
    ("E4 first cosine beta without offset", lambda s: cosine(s=0.0).beta[1], 2.467e-6, 5e-10),
    ("E4 ratio", lambda s: s["cosine"].beta[1] / cosine(s=0.0).beta[1], 16.7, 0.05),
    ("E24 linear at T/2 in dB", lambda s: 10 * s["linear"].snr[500].log10(), -10.69, 5e-3),
    ("E24 cosine at T/2 in dB", lambda s: 10 * s["cosine"].snr[500].log10(), -0.107, 5e-4),
    ("E24 linear slope ratio", lambda s: slopes(s["linear"]).max() / slopes(s["linear"]).min(), 3.75, 5e-3),
    ("E24 linear slope minimum", lambda s: slopes(s["linear"]).min(), 0.00991, 5e-6),
    ("E24 and where it is", lambda s: 50 + slopes(s["linear"]).argmin(), 349, 0),
    ("E24 cosine slope ratio", lambda s: slopes(s["cosine"]).max() / slopes(s["cosine"]).min(), 6.5, 0.05),
    ("E24 cosine slope in the middle", lambda s: slopes(s["cosine"]).min(), 2 * math.pi / 1008, 2e-6),
    ("E24 sigmoid slope ratio", lambda s: slopes(s["sigmoid"]).max() / slopes(s["sigmoid"]).min(), 3.53, 5e-3),
    ("E24 linear noise at 100", lambda s: 1 - s["linear"].alpha_bar[100], 0.10298, 5e-6),
    ("E24 cosine noise at 100", lambda s: 1 - s["cosine"].alpha_bar[100], 0.02791, 5e-6),
    ("E24 linear SNR below 1 first at", lambda s: (s["linear"].snr < 1).nonzero()[0, 0], 260, 0),
    ("E24 cosine SNR below 1 first at", lambda s: (s["cosine"].snr < 1).nonzero()[0, 0], 497, 0),
    ("E24 sigmoid is one half at 500", lambda s: s["sigmoid"].alpha_bar[500], 0.5, 1e-12),
    ("E24 linear steps with SNR < .01", lambda s: (s["linear"].snr < 0.01).sum() / 1000, 0.326, 1e-7),
    ("E24 cosine steps with SNR < .01", lambda s: (s["cosine"].snr < 0.01).sum() / 1000, 0.064, 1e-7),
    ("Q6 linear log-SNR at T", lambda s: s["linear"].log_snr[-1], -10.12, 5e-3),
    ("Q6 cosine log-SNR at T", lambda s: s["cosine"].log_snr[-1], -19.84, 5e-3),
    ("prior: KL at T for x0 = 1", lambda s: -0.5 * torch.log1p(-s["linear"].alpha_bar[-1]), 2.018e-5, 5e-9),
    ("E34 linear signal at T/2", lambda s: s["linear"].alpha_bar[500].sqrt(), 0.2803, 5e-5),
    ("E34 linear noise at T/2", lambda s: (1 - s["linear"].alpha_bar[500]).sqrt(), 0.9599, 5e-5),
    ("E34 linear signal at 3T/4", lambda s: s["linear"].alpha_bar[750].sqrt(), 0.0579, 5e-5),
    ("E34 linear noise at 3T/4", lambda s: (1 - s["linear"].alpha_bar[750]).sqrt(), 0.9983, 5e-5),
    ("E34 cosine signal at T/2", lambda s: s["cosine"].alpha_bar[500].sqrt(), 0.7027, 5e-5),
    ("E34 cosine noise at T/2", lambda s: (1 - s["cosine"].alpha_bar[500]).sqrt(), 0.71145, 5e-6),
    ("E36 mean of the best loss", lambda s: s["linear"].alpha_bar[1:].mean(), 0.2755, 5e-5),
    ("E36 its spread over t", lambda s: s["linear"].alpha_bar[1:].std(correction=0), 0.3429, 5e-5),
    ("E45 index 50 here", lambda s: s["linear"].alpha_bar[50], 0.971016, 5e-7),
    ("E45 index 50 counted from 0", lambda s: s["linear"].alpha_bar[51], 0.969951, 5e-7),
    ("E45 index 100 counted from 0", lambda s: s["linear"].alpha_bar[101], 0.895142, 5e-7),
    ("E52 DDIM's own grid, 50 steps", lambda s: start(s["linear"], 50), 5.904e-5, 5e-9),
    ("E52 DDIM's own grid, 10 steps", lambda s: start(s["linear"], 10), 2.702e-4, 5e-8),
    ("E35 linear with T=50", lambda s: linear(50).alpha_bar[-1], 0.603, 5e-4),
    ("E35 linear with T=100", lambda s: linear(100).alpha_bar[-1], 0.3636, 5e-5),
    ("E35 linear with T=200", lambda s: linear(200).alpha_bar[-1], 0.1322, 5e-5),
    ("E35 linear with T=300", lambda s: linear(300).alpha_bar[-1], 0.0481, 5e-5),
    ("E35 linear with T=500", lambda s: linear(500).alpha_bar[-1], 0.00635, 5e-6),
    ("E35 T=100, betas times 10", lambda s: linear(100, 1e-3, 0.2).alpha_bar[-1], 2.04e-5, 5e-8),
]  # fmt: skip


def start(schedule: NoiseSchedule, steps: int) -> torch.Tensor:
    return schedule.alpha_bar[time_grid(schedule, steps, "ddim_uniform")[0]]


@pytest.mark.parametrize(("compute", "exact", "tolerance"), [pytest.param(*r, id=i) for i, *r in NUMBERS])
def test_number(schedules, compute, exact, tolerance):
    assert float(compute(schedules)) == pytest.approx(exact, rel=0, abs=tolerance)


@pytest.mark.parametrize(("c", "ends"), [
    (1, (0.1839, 0.3420, 0.5)), (3, (0.02489, 0.26245, 0.5)), (6, (0.00124, 0.25062, 0.5)),
])  # fmt: skip
def test_e3_the_printed_sigmoid_form_increases(c, ends):
    printed = [logistic(-c + 2 * c * t / 1000) / (2 * logistic(c)) for t in range(1001)]
    assert all(later > earlier for earlier, later in pairwise(printed))
    assert [printed[t] for t in (0, 500, 1000)] == pytest.approx(ends, abs=5e-5)
    with pytest.raises(ValueError, match="alpha_bar"):
        NoiseSchedule(torch.tensor(printed, dtype=torch.float64))
    corrected = sigmoid(1000, c=float(c)).alpha_bar
    assert corrected[[0, 500]].tolist() == pytest.approx([1, 0.5], abs=1e-12)
    assert corrected[1000] < 1e-3
    if c == 3:
        assert corrected[[250, 750]].tolist() == pytest.approx([0.850854, 0.149146], abs=5e-7)


@pytest.mark.parametrize(("size", "shift", "snr"), [
    (128, -1.3863, 0.25), (256, -2.7726, 0.0625), (512, -4.1589, 0.015625), (1024, -5.5452, 0.00390625),
])  # fmt: skip
def test_e8_larger_images_get_more_noise(size, shift, snr):
    shifted = shifted_cosine(size=size)
    assert shifted.snr[500].item() == pytest.approx(snr, rel=1e-9)
    moved = shifted.log_snr[1:-1] - shifted_cosine(size=64).log_snr[1:-1]
    assert moved.tolist() == pytest.approx([2 * math.log(64 / size)] * 999, abs=1e-6)
    assert moved[0].item() == pytest.approx(shift, abs=5e-5)


# --- Grids ------------------------------------------------------------------------------------------------------------

EXACT_GRIDS = [
    (1000, 3, "linspace", [1000, 667, 333, 0]),
    (10, 4, "linspace", [10, 8, 5, 2, 0]),
    (1000, 3, "trailing", [1000, 667, 333, 0]),
    (10, 4, "trailing", [10, 8, 5, 2, 0]),
    (9, 2, "linspace", [9, 4, 0]),
    (9, 2, "trailing", [9, 5, 0]),
    (1000, 4, "quadratic", [1000, 562, 250, 62, 0]),
    (10, 8, "quadratic", [10, 8, 6, 5, 4, 3, 2, 1, 0]),
    (1000, 4, "ddim_uniform", [751, 501, 251, 1, 0]),
    (1000, 3, "ddim_uniform", [1000, 667, 334, 1, 0]),
    (1000, 1, "ddim_uniform", [1, 0]),
    (1000, 1, "log_snr", [1000, 0]),
    (1000, 2, "log_snr", [1000, 1, 0]),
]


@pytest.mark.parametrize(("T", "steps", "grid", "times"), EXACT_GRIDS)
def test_exact_grid(T, steps, grid, times):
    assert time_grid(cosine(T), steps, grid) == times


@st.composite
def requests(draw):
    """A schedule and a possible number of steps."""
    T = draw(st.integers(1, 300))
    steps = draw(st.one_of(st.integers(1, T), st.just(T)))
    return make_schedule(draw(st.sampled_from(list(SCHEDULES))), T), steps


@given(requests(), st.sampled_from(GRIDS))
def test_every_grid_falls_strictly_to_zero(request, grid):
    schedule, steps = request
    times = time_grid(schedule, steps, grid)
    assert all(type(t) is int for t in times)
    assert times[-1] == 0
    assert all(t > s for t, s in pairwise(times))
    if grid == "ddim_uniform":
        stride = schedule.T // steps
        assert {t - s for t, s in pairwise(times[:-1])} <= {stride}
        assert times[-2] == 1
        assert times[0] == 1 + stride * ((schedule.T - 1) // stride)
        assert len(times) - 1 == math.ceil(schedule.T / stride)
        assert (len(times) - 1 == steps) == (schedule.T % steps == 0) or stride == 1
    else:
        assert times[0] == schedule.T
        assert len(times) - 1 == steps


@given(requests(), st.sampled_from(GRIDS))
def test_all_steps_are_the_full_chain(request, grid):
    schedule, _ = request
    assert time_grid(schedule, schedule.T, grid) == list(range(schedule.T, -1, -1))


@given(requests())
def test_equal_strides_within_rounding(request):
    schedule, steps = request
    for grid in ("linspace", "trailing"):
        gaps = [abs(t - schedule.T * i / steps) for i, t in enumerate(reversed(time_grid(schedule, steps, grid)))]
        assert max(gaps) <= 0.5 + 1e-9


@pytest.mark.parametrize("name", SCHEDULES)
def test_log_snr_grid_takes_the_nearest_times(schedules, name):
    log_snr, steps = schedules[name].log_snr.tolist(), 12
    wanted = [log_snr[1] + (log_snr[999] - log_snr[1]) * i / (steps - 1) for i in range(steps - 1)]
    nearest = [*(min(range(1, 1000), key=lambda t: abs(log_snr[t] - level)) for level in wanted), 1000]
    times = time_grid(schedules[name], steps, "log_snr")[-2::-1]
    assert (times[0], times[-1]) == (1, 1000)
    assert times == nearest


@pytest.mark.parametrize("beta", [[0.1, 1.0], [0.0, 0.1], [[0.1]], [math.nan]])
def test_betas_outside_their_range_are_refused(beta):
    with pytest.raises(ValueError, match=r"beta is .*; expected shape \(T,\), values in \(0, 1\)"):
        of_betas(beta)
    assert of_betas([0.5, 0.5]).alpha_bar.tolist() == [1, 0.5, 0.25]


@pytest.mark.parametrize(
    ("top", "steps", "named"), [(10, 0, "steps"), (10, 11, "steps"), (0, 1, "top"), (9.0, 3, "top")]
)
def test_times_to_the_data_need_room(top, steps, named):
    with pytest.raises((TypeError, ValueError), match=f"{named} is "):
        times_to(top, steps)
    assert times_to(10, 5) == [10, 8, 6, 4, 2, 0]
