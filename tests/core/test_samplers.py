"""Samplers: their formulas, what every step must keep, their cost, and what steps cost on an exact mixture."""

import math
from itertools import pairwise

import pytest
import torch
from drawn import draws, seeded, wavy
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lessons_src.guidance import classifier, classifier_free
from lessons_src.inversion import edict, inpaint, invert
from lessons_src.oracle import GaussianMixture
from lessons_src.process import noise_like, predict_x0
from lessons_src.samplers import Counted, ddim, ddpm, renoise, sample, trajectory
from lessons_src.schedules import GRIDS, SCHEDULES, NoiseSchedule, cosine, linear, make_schedule, time_grid
from lessons_src.solvers import SOLVERS, thresholded

LINEAR = linear()
SAMPLERS = {  # name: sampler, options, whether it adds noise
    "ddim": (ddim, {}, False),
    "ddim eta=.5": (ddim, {"eta": 0.5}, True),
    "ddim eta=1": (ddim, {"eta": 1.0}, True),
    "ddpm beta_tilde": (ddpm, {"variance": "beta_tilde"}, True),
    "ddpm beta": (ddpm, {"variance": "beta"}, True),
}
every_sampler = pytest.mark.parametrize(("sampler", "options", "noisy"), SAMPLERS.values(), ids=SAMPLERS)


def normal(mean: float = 0.0, variance: float = 1.0) -> GaussianMixture:
    return GaussianMixture([1.0], [[mean]], [[[variance]]])


# --- What every sampler keeps -----------------------------------------------------------------------------------------


@given(st.sampled_from(list(SAMPLERS)), st.sampled_from(list(SCHEDULES)), st.sampled_from(GRIDS), st.data())
def test_visits_the_times_in_order(name, schedule_name, grid, data):
    sampler, options, _ = SAMPLERS[name]
    schedule = make_schedule(schedule_name, data.draw(st.integers(1, 60), "T"))
    times = time_grid(schedule, data.draw(st.integers(1, schedule.T), "steps"), grid)
    asked = []

    def eps_fn(x, t):
        assert (t.dtype, t.shape, len(t.unique())) == (torch.int64, (2,), 1)
        assert not torch.is_grad_enabled()
        asked.append(int(t[0]))
        return 0.1 * x

    states = list(sampler(eps_fn, draws(2, 3), schedule, times, **options, generator=seeded()))
    assert asked == times[:-1]
    assert [state.t for state in states] == times[1:]
    assert all(torch.isfinite(state.x).all() for state in states)


@every_sampler
def test_default_is_the_full_chain(sampler, options, noisy):
    schedule = linear(20)
    default = list(sampler(wavy, draws(2, 3), schedule, **options, generator=seeded()))
    full = list(sampler(wavy, draws(2, 3), schedule, range(20, -1, -1), **options, generator=seeded()))
    assert [state.t for state in default] == list(range(19, -1, -1))
    assert torch.equal(default[-1].x, full[-1].x)


@every_sampler
def test_the_states_belong_together(sampler, options, noisy):
    x, schedule, times = draws(2, 3), linear(50), [50, 30, 7, 0]
    for t, state in zip(times, sampler(wavy, x, schedule, times, **options, generator=seeded()), strict=False):
        assert torch.equal(state.eps, wavy(x, torch.full((2,), t)))
        assert torch.equal(state.x0, predict_x0(x, state.eps, float(schedule.alpha_bar[t])))
        x = state.x


@every_sampler
def test_noise_is_drawn_at_every_step_but_the_last(noise_calls, sampler, options, noisy):
    times = [50, 30, 20, 7, 0]
    *_, last = sampler(wavy, draws(2, 3), linear(50), times, **options)
    assert len(noise_calls) == (3 if noisy else 0)
    assert torch.allclose(last.x, last.x0, rtol=0, atol=1e-15)


@every_sampler
def test_the_last_step_does_not_see_the_generator(sampler, options, noisy):
    ends = []
    for seed in (1, 2):
        generator = seeded(0)
        states = sampler(wavy, draws(2, 3), linear(50), [50, 20, 0], **options, generator=generator)
        next(states)
        generator.manual_seed(seed)
        before = generator.get_state()
        ends.append(next(states).x)
        assert torch.equal(generator.get_state(), before)
    assert torch.equal(*ends)


@every_sampler
def test_repeats_bit_for_bit_and_leaves_its_start_alone(sampler, options, noisy):
    x, times = draws(4, 3), time_grid(LINEAR, 10)
    runs = [sample(sampler(wavy, x, LINEAR, times, **options, generator=seeded(seed))) for seed in (5, 5, 6)]
    assert torch.equal(runs[0], runs[1])
    assert torch.equal(runs[0], runs[2]) is not noisy
    assert torch.equal(x, draws(4, 3))


@every_sampler
@pytest.mark.parametrize("shape", [(2, 2), (2, 1, 28, 28), (2, 3, 4, 5, 6)], ids=str)
def test_any_event_shape(sampler, options, noisy, shape):
    x, times = draws(*shape), time_grid(LINEAR, 5)
    shaped = sample(sampler(wavy, x, LINEAR, times, **options, generator=seeded()))
    flat = sample(sampler(wavy, x.flatten(1), LINEAR, times, **options, generator=seeded()))
    assert shaped.shape == shape
    assert torch.allclose(shaped.flatten(1), flat, rtol=0, atol=1e-12)


@every_sampler
def test_float32_follows_float64(monkeypatch, sampler, options, noisy):
    net, ends = normal(0.5, 0.3).network(LINEAR), {}
    for dtype in (torch.float32, torch.float64):
        noise = iter(draws(20, 8, 1, seed=1).to(dtype))
        monkeypatch.setattr("lessons_src.samplers.noise_like", lambda x, generator, noise=noise: next(noise))
        ends[dtype] = sample(sampler(net, draws(8, 1).to(dtype), LINEAR, time_grid(LINEAR, 20), **options))
        assert ends[dtype].dtype == dtype
    assert torch.allclose(ends[torch.float32].double(), ends[torch.float64], atol=1e-4)


@every_sampler
@pytest.mark.parametrize("steps", [1, 3, 50])
def test_one_network_call_a_step(sampler, options, noisy, steps):
    counted = Counted(wavy)
    sample(sampler(counted, draws(2, 3), LINEAR, time_grid(LINEAR, steps), **options))
    assert counted.nfe == steps


@every_sampler
def test_point_mass_data_is_hit_exactly(sampler, options, noisy):
    net = normal(0.7, 0.0).network(LINEAR)
    x = sample(sampler(net, draws(5, 1), LINEAR, time_grid(LINEAR, 7), **options, generator=seeded()))
    assert torch.allclose(x, torch.full_like(x, 0.7), atol=1e-10)


# --- Formulas ---------------------------------------------------------------------------------------------------------


@given(st.floats(0.01, 0.98), st.floats(0.01, 0.99), st.floats(0, 1), st.integers(0, 99))
def test_renoise(alpha_bar_s, x, share, seed):
    """Signal sqrt(ab_s), and noise of total variance 1 - ab_s of which a share is fresh."""
    sigma = math.sqrt(share * (1 - alpha_bar_s))
    x0, eps = draws(3, 2, seed=seed), draws(3, 2, seed=seed + 1)
    z = torch.randn(3, 2, generator=seeded(seed), dtype=torch.float64)
    kept = math.sqrt(max(1 - alpha_bar_s - sigma**2, 0))
    exact = math.sqrt(alpha_bar_s) * x0 + kept * eps + sigma * z
    assert torch.allclose(renoise(x0, eps, alpha_bar_s, sigma, seeded(seed)), exact, rtol=0, atol=1e-12)


@pytest.mark.parametrize("times", [None, [40, 25, 24, 3, 0]], ids=["full chain", "sub-grid"])
def test_ddim_with_eta_1_is_ddpm_with_beta_tilde(times):
    schedule = linear(40, 1e-3, 0.3)
    a = trajectory(draws(5, 3), ddim(wavy, draws(5, 3), schedule, times, eta=1.0, generator=seeded(3)))
    b = trajectory(draws(5, 3), ddpm(wavy, draws(5, 3), schedule, times, generator=seeded(3)))
    assert torch.allclose(a, b, rtol=1e-10, atol=1e-10)


def test_ddpm_variances(monkeypatch):
    """With all draws equal to one, the sizes of the added noise can be read off."""
    schedule = NoiseSchedule(torch.tensor([1, 0.9, 0.6], dtype=torch.float64))
    shift = {}
    for variance in ("beta_tilde", "beta"):
        ends = []
        for level in (0.0, 1.0):
            monkeypatch.setattr("lessons_src.samplers.noise_like", lambda x, g, z=level: torch.full_like(x, z))
            ends.append(next(ddpm(wavy, draws(2, 3), schedule, variance=variance)).x)
        shift[variance] = (ends[1] - ends[0]).flatten()
    alpha = 0.6 / 0.9
    assert shift["beta"].tolist() == pytest.approx([math.sqrt(1 - alpha)] * 6)
    assert shift["beta_tilde"].tolist() == pytest.approx([math.sqrt(0.1 / 0.4 * (1 - alpha))] * 6)


@given(st.integers(2, 60), st.floats(0.1, 3), st.data())
def test_ddim_on_gaussian_data_in_closed_form(T, std, data):
    """Each step multiplies by (sqrt(ab_s ab_t) std^2 + sqrt((1 - ab_s)(1 - ab_t))) / (ab_t std^2 + 1 - ab_t)."""
    schedule = linear(T, 1e-3, 0.2)
    times = time_grid(schedule, data.draw(st.integers(1, T), "steps"), data.draw(st.sampled_from(GRIDS), "grid"))
    ab = schedule.alpha_bar.tolist()
    factor = math.prod(
        (math.sqrt(ab[s] * ab[t]) * std**2 + math.sqrt((1 - ab[s]) * (1 - ab[t]))) / (ab[t] * std**2 + 1 - ab[t])
        for t, s in pairwise(times)
    )
    x = draws(4, 1)
    end = sample(ddim(normal(variance=std**2).network(schedule), x, schedule, times))
    assert torch.allclose(end, factor * x, rtol=1e-9, atol=1e-12)


def test_ddim_is_eulers_method_in_sigma():
    """In x / sqrt(ab) and sigma = sqrt((1 - ab) / ab) a step is x + (sigma_s - sigma_t) eps."""
    schedule, times, x = linear(50), [50, 31, 8, 0], draws(3, 2)
    ab = schedule.alpha_bar
    sigma = ((1 - ab) / ab).sqrt()
    for (t, s), state in zip(pairwise(times), ddim(wavy, x, schedule, times), strict=True):
        scaled = x / ab[t].sqrt() + (sigma[s] - sigma[t]) * state.eps
        assert torch.allclose(state.x / ab[s].sqrt(), scaled, rtol=0, atol=1e-12)
        x = state.x


# --- Helpers ----------------------------------------------------------------------------------------------------------


def test_sample_and_trajectory():
    x, times = draws(2, 3), [1000, 500, 0]
    states = list(ddim(wavy, x, LINEAR, times))
    path = trajectory(x, ddim(wavy, x, LINEAR, times))
    assert path.shape == (3, 2, 3)
    assert torch.equal(path, torch.stack([x, states[0].x, states[1].x]))
    assert torch.equal(sample(ddim(wavy, x, LINEAR, times)), path[-1])


def test_counted_passes_everything_on():
    net = GaussianMixture([0.5, 0.5], [[1.0], [-1.0]], [[[0.1]], [[0.1]]]).network(LINEAR)
    counted = Counted(net)
    x, t = draws(2, 1), torch.tensor([3, 4])
    assert torch.equal(counted(x, t, label=1), net(x, t, 1))
    assert torch.equal(counted(x, t), net(x, t))
    assert (counted.nfe, counted.num_classes) == (2, 2)


# --- E13, E15, E16: what steps cost on GMM-A --------------------------------------------------------------------------


def quantiles(n: int) -> Tensor:
    """n evenly likely points of N(0, 1), shape (n, 1)."""
    return torch.special.ndtri((torch.arange(n, dtype=torch.float64)[:, None] + 0.5) / n)


def close(value: object, exact: object, tolerance: float) -> None:
    value, exact = (torch.as_tensor(v, dtype=torch.float64).flatten().tolist() for v in (value, exact))
    assert value == pytest.approx(exact, rel=0, abs=tolerance)


def gmm_a_quantiles(n: int) -> Tensor:
    """n evenly likely points of GMM-A, by bisection; shape (n,)."""
    level = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    low, high = torch.full_like(level, -4), torch.full_like(level, 4)
    for _ in range(60):
        middle = (low + high) / 2
        below = 0.3 * torch.special.ndtr((middle + 1) / 0.15) + 0.7 * torch.special.ndtr((middle - 0.8) / 0.25) < level
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return low


def w1_distance(x: Tensor) -> float:
    """Wasserstein-1 distance of the sample x (n, 1) to GMM-A."""
    return (x.flatten().sort().values - gmm_a_quantiles(len(x))).abs().mean().item()


def test_e13_ddim_20_resembles_ddim_1000_from_the_same_start(gmm_a):
    net, start = gmm_a.network(LINEAR), quantiles(10001)
    full, fifty, twenty = (sample(ddim(net, start, LINEAR, time_grid(LINEAR, steps))) for steps in (1000, 50, 20))
    gap = twenty - full
    close(gap.square().mean().sqrt(), 0.1006, 5e-5)
    close(gap.abs().max(), 0.830, 5e-4)
    close(((twenty > 0) == (full > 0)).double().mean(), 0.990, 1e-3)
    close((fifty - full).square().mean().sqrt(), 0.0512, 5e-5)


def test_e13_ddpm_1000_is_independent_of_ddim_1000(gmm_a, generator):
    net, start = gmm_a.network(LINEAR), quantiles(2001)
    a, b = sample(ddim(net, start, LINEAR)), sample(ddpm(net, start, LINEAR, generator=generator))
    assert abs(torch.corrcoef(torch.cat([a, b], 1).T)[0, 1]) < 0.07  # three standard errors of 1 / sqrt(2001)
    close((a - b).square().mean().sqrt(), 1.209, 0.05)
    close(((a > 0) == (b > 0)).double().mean(), 0.58, 0.035)


E15_DDIM = [(5, 0.22848), (10, 0.09276), (20, 0.04895), (50, 0.02004), (100, 0.00992)]


@pytest.mark.parametrize(("steps", "exact"), E15_DDIM, ids=[f"E15 DDIM S={steps}" for steps, _ in E15_DDIM])
def test_e15_distance_of_ddim(gmm_a, steps, exact):
    x = sample(ddim(gmm_a.network(LINEAR), quantiles(20001), LINEAR, time_grid(LINEAR, steps)))
    close(w1_distance(x), exact, 1e-5)


E15 = [  # steps, eta = 1, sigma-hat: documented values were Monte Carlo with ten times as many points
    (10, 0.1366, 0.061),
    (20, 0.0822, 0.027),
    (50, 0.0435, 0.0144),
]


@pytest.mark.parametrize(("steps", "eta_1", "sigma_hat"), E15, ids=[f"E15 S={steps}" for steps, *_ in E15])
def test_e15_stochastic_samplers(gmm_a, generator, steps, eta_1, sigma_hat):
    net, start, times = gmm_a.network(LINEAR), quantiles(20001), time_grid(LINEAR, steps)
    ddim_x = sample(ddim(net, start, LINEAR, times))
    eta_1_x = sample(ddim(net, start, LINEAR, times, 1.0, generator))
    sigma_hat_x = sample(ddpm(net, start, LINEAR, times, "beta", generator))
    close((w1_distance(eta_1_x), w1_distance(sigma_hat_x)), (eta_1, sigma_hat), 0.01)
    assert w1_distance(sigma_hat_x) < w1_distance(ddim_x) < w1_distance(eta_1_x)


E16 = [  # id, variance of data with mean 1, two step counts with |error of mean| + |error of std|: the second is worse
    ("E16 N(1, 4) 19 to 20", 4.0, (19, 0.163636), (20, 0.164143)),
    ("E16 N(1, 4) 24 to 25", 4.0, (24, 0.133538), (25, 0.134498)),
    ("E16 N(1, 1) 24 to 25", 1.0, (24, 0.079122), (25, 0.079255)),
]


@pytest.mark.parametrize(("variance", "fewer", "more"), [pytest.param(*case, id=name) for name, *case in E16])
def test_e16_more_steps_of_the_official_grid_can_be_worse(variance, fewer, more):
    net, two_points = normal(1.0, variance).network(LINEAR), torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    for steps, exact in (fewer, more):
        times = time_grid(LINEAR, steps, "ddim_uniform")
        at_0, at_1 = sample(ddim(net, two_points, LINEAR, times)).flatten()  # the map from N(0, 1) is affine
        close((at_0 - 1).abs() + (at_1 - at_0 - math.sqrt(variance)).abs(), exact, 1e-6)


def test_times_may_be_a_tensor():
    x = torch.zeros(2, 1, dtype=torch.float64)
    listed, tensor = (
        [state.t for state in ddim(lambda x, t: x, x, linear(10), times)]
        for times in ([7, 3, 0], torch.tensor([7, 3, 0]))
    )
    assert listed == tensor == [3, 0]


# --- What is refused, and when ----------------------------------------------------------------------------------------

ALL = {name: (run, options) for name, (run, options, _) in SAMPLERS.items()}
ALL |= {name: (solver.run, {}) for name, solver in SOLVERS.items()}
ALL |= {"invert": (invert, {}), "edict": (edict, {"y": draws(2, 3)})}
ALL["inpaint"] = (inpaint, {"known": draws(2, 3), "mask": torch.tensor([[1.0, 0.0, 0.0]] * 2, dtype=torch.float64)})


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"times": [5, 6, 0]}, r"times is \[5, 6, 0\]; expected strictly decreasing"),
        ({"times": 8}, "times is 8; expected strictly decreasing"),
        ({"schedule": "cosine"}, "schedule is 'cosine'; expected a NoiseSchedule"),
        ({"eps_fn": None}, r"eps_fn is None; expected a function eps_fn\(x, t\)"),
        ({"x": [1.0]}, r"x is \[1.0\]; expected a floating-point tensor"),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, dict) else "",
)
def test_bad_arguments_are_refused_before_the_first_step(name, changed, named):
    run, options = ALL[name]
    given = {"eps_fn": wavy, "x": draws(2, 3), "schedule": LINEAR, "times": [1000, 700, 400, 100, 0]} | options
    assert next(iter(run(**given)))
    with pytest.raises((TypeError, ValueError), match=named):
        run(**given | changed)


@pytest.mark.parametrize("name", ALL)
def test_a_network_is_not_sampled_on_another_schedule(name):
    run, options = ALL[name]
    net, times = normal().network(cosine()), [1000, 700, 400, 100, 0]
    options = {key: value[:, :1] if isinstance(value, Tensor) else value for key, value in options.items()}
    guided = classifier_free(net, 0, 2.0)
    steered = classifier(net, net.log_prob, cosine(), 0, 1.0)
    for eps_fn in (net, Counted(net), guided, thresholded(guided, cosine()), steered):
        with pytest.raises(
            ValueError, match="schedule is <NoiseSchedule 'linear', T = 1000>; expected the levels of eps_fn"
        ):
            run(eps_fn, draws(2, 1), **options, schedule=LINEAR, times=times)
    lines = run(lambda x, t: net(x, t), draws(2, 1), **options, schedule=LINEAR, times=times)  # the way to mean it
    assert len(list(lines)) == 4
    same = NoiseSchedule(cosine().alpha_bar[:801])  # cut short: the levels that are asked for are the same
    assert next(iter(run(net, draws(2, 1), **options, schedule=same, times=[800, 600, 500, 100, 0])))


def test_guides_and_thresholds_of_another_schedule_are_refused():
    net = normal().network(cosine())
    for call in (lambda: thresholded(net, LINEAR), lambda: classifier(net, net.log_prob, LINEAR, 0, 1.0)):
        with pytest.raises(ValueError, match=r"schedule is .*'linear'.*; expected the levels of eps_fn, .*'cosine'"):
            call()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_values_that_are_not_finite_stop_at_the_time_where_they_appear(bad):
    def eps_fn(x, t):
        return torch.where(t[:, None] == 400, bad, x)

    seen = []
    with pytest.raises(ValueError, match=r"eps_fn\(x, t\) is .*; expected finite values, at t = 400"):
        seen += [state.t for state in ddim(eps_fn, draws(2, 3), LINEAR, [1000, 700, 400, 100, 0])]
    with pytest.raises(ValueError, match=r"^x is .*; expected finite values, at t = 1000"):
        sample(ddim(lambda x, t: x, draws(2, 3) * bad, LINEAR, [1000, 0]))


def test_what_a_network_wrongly_returns_is_shown_on_one_short_line():
    with pytest.raises(
        TypeError, match=r"^eps_fn\(x, t\) is \(tensor.*; expected shape, dtype and device of x"
    ) as caught:
        sample(ddim(lambda x, t: (x,), draws(300, 3), LINEAR, [1000, 0]))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 350


# --- Generators -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ddim eta=1", "ddpm beta", "SDE-DPM-Solver++(2M)", "inpaint"])
def test_with_a_generator_each_a_sample_is_the_same_in_every_batch(name):
    run, options = ALL[name]

    def draw(seeds):
        generators = [seeded(seed) for seed in seeds]
        x = noise_like(torch.empty(len(seeds), 3, dtype=torch.float64), generators)
        rows = {key: value[:1].expand(len(x), 3) for key, value in options.items() if isinstance(value, Tensor)}
        return sample(run(wavy, x, schedule=LINEAR, times=[1000, 500, 100, 0], **options | rows, generator=generators))

    both = draw([7, 8])
    assert torch.equal(both, torch.cat([draw([7]), draw([8])]))
    assert torch.equal(both.flip(0), draw([8, 7]))


@pytest.mark.parametrize(
    ("generator", "named"),
    [
        (0, "generator is 0; expected a torch.Generator"),
        ([seeded()], "len\\(generator\\) is 1; expected 2, one generator a sample"),
        ([1, 2], "generator is 1; expected a torch.Generator"),
    ],
)
def test_other_generators_are_refused(generator, named):
    with pytest.raises((TypeError, ValueError), match=named):
        sample(ddpm(wavy, draws(2, 3), LINEAR, [1000, 500, 0], generator=generator))


# --- What else a caller's own function and times may be ---------------------------------------------------------------


def test_a_function_that_changes_x_in_place_is_refused():
    """Its x0 would be made of another x than it was asked about, and the caller's start be spoilt."""
    with pytest.raises(ValueError, match=r"eps_fn is .*; expected a function that does not change x in place"):
        sample(ddim(lambda x, t: x.mul_(0.5), draws(2, 3), LINEAR, [1000, 0]))
    with torch.inference_mode():  # whose tensors keep no count
        assert sample(ddim(wavy, draws(2, 3) + 0, LINEAR, [1000, 0])).shape == (2, 3)


def test_times_may_be_read_once_only():
    once = sample(ddim(wavy, draws(2, 3), LINEAR, iter([1000, 500, 0])))
    assert torch.equal(once, sample(ddim(wavy, draws(2, 3), LINEAR, [1000, 500, 0])))


@pytest.mark.parametrize("states", [3, None, draws(2, 3)])
def test_what_is_no_run_of_a_sampler_has_no_sample(states):
    with pytest.raises(ValueError, match=r"states is .*; expected a sampler that makes at least one step"):
        sample(states)
