"""Inversion and editing: what each recursion solves, what comes back exactly, and what an edit keeps."""

import math
from itertools import pairwise

import pytest
import torch
from diffusers import DDIMInverseScheduler
from drawn import draws, seeded
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lessons_src.guidance import blend
from lessons_src.inversion import (
    edict,
    edict_invert,
    inpaint,
    invert,
    invert_as_printed,
    invert_by_bisection,
    invert_fixed_point,
    null_predictions,
    sdedit,
    slerp,
)
from lessons_src.oracle import GaussianMixture
from lessons_src.process import add_noise, predict_x0
from lessons_src.samplers import Counted, ddim, ddpm, renoise, sample, trajectory
from lessons_src.schedules import GRIDS, NoiseSchedule, linear, time_grid
from lessons_src.solvers import dpm_solver_pp

LINEAR = linear()
TIMES = [60, 41, 24, 10, 3, 0]
SHORT = linear(60, 1e-3, 0.1)


def wavy(x: Tensor, t: Tensor) -> Tensor:
    return torch.sin(x) + t.to(x).reshape(-1, *[1] * (x.ndim - 1)) / 60


def still(x: Tensor, t: Tensor) -> Tensor:
    """A predictor that does not look at anything: every inversion is exact for it."""
    return torch.full_like(x, 0.3)


INVERSIONS = {
    "explicit": invert,
    "explicit from zero": lambda *a: invert(*a, at_zero="zero"),
    "printed": invert_as_printed,
    "fixed point": invert_fixed_point,
    "bisection": invert_by_bisection,
}
every_inversion = pytest.mark.parametrize("inversion", INVERSIONS.values(), ids=INVERSIONS)


# --- Inversion --------------------------------------------------------------------------------------------------------


@every_inversion
def test_visits_the_times_upwards(inversion):
    asked = []

    def eps_fn(x, t):
        assert not torch.is_grad_enabled()
        asked.append(int(t[0]))
        return 0.1 * x

    states = list(inversion(eps_fn, draws(4, 1), SHORT, TIMES))
    assert [state.t for state in states] == TIMES[-2::-1]
    assert asked == sorted(asked)
    assert 0 not in asked
    assert [state.t for state in inversion(still, draws(4, 1), linear(5))] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("inversion", [invert, invert_fixed_point, invert_by_bisection])
def test_what_does_not_depend_on_x_is_inverted_exactly(inversion, grid):
    x, times = draws(5, 1), time_grid(SHORT, 7, grid)
    latent = sample(inversion(still, x, SHORT, times))
    assert torch.allclose(sample(ddim(still, latent, SHORT, times)), x, rtol=0, atol=1e-10)


def test_the_recursion():
    """x_t = sqrt(ab_t) x0(x_s) + sqrt(1 - ab_t) eps(x_s, s); the printed one has the image for x0(x_s)."""
    for recursion in (invert, invert_as_printed):
        image = x = draws(3, 2)
        states = list(recursion(wavy, x, SHORT, TIMES))
        for i, (s, t) in enumerate(pairwise(reversed(TIMES))):
            eps = wavy(x, torch.full((3,), s or t))
            clean = predict_x0(x, eps, float(SHORT.alpha_bar[s])) if recursion is invert else image
            ab = float(SHORT.alpha_bar[t])
            x = math.sqrt(ab) * clean + math.sqrt(1 - ab) * eps
            assert torch.allclose(states[i].x, x, rtol=0, atol=1e-12)
            assert torch.equal(states[i].eps, eps)


def test_asking_at_t():
    image = x = draws(3, 2)
    states = list(invert(wavy, image, SHORT, TIMES, ask="t"))
    for i, (s, t) in enumerate(pairwise(reversed(TIMES))):
        eps = wavy(x, torch.full((3,), t))
        x = renoise(predict_x0(x, eps, float(SHORT.alpha_bar[s])), eps, float(SHORT.alpha_bar[t]))
        assert torch.allclose(states[i].x, x, rtol=0, atol=1e-12)


def test_real_noise_at_zero():
    """The first state is add_noise; from there on nothing is drawn."""
    counted, generator = Counted(wavy), seeded(3)
    first, *rest = invert(counted, draws(3, 2), SHORT, TIMES, at_zero="noise", generator=generator)
    noise = torch.randn(3, 2, generator=seeded(3), dtype=torch.float64)
    torch.testing.assert_close(first.x, add_noise(draws(3, 2), noise, float(SHORT.alpha_bar[3])))
    assert counted.nfe == len(rest) == 4


def test_zero_at_zero():
    first = next(invert(wavy, draws(3, 2), SHORT, TIMES, at_zero="zero"))
    assert torch.allclose(first.x, draws(3, 2) * SHORT.alpha_bar[3].sqrt(), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("inversion", "cost"), [(invert, 5), (invert_fixed_point, 30), (invert_by_bisection, 315)])
def test_cost(inversion, cost):
    counted = Counted(wavy)
    sample(inversion(counted, draws(3, 1), SHORT, TIMES))
    assert counted.nfe == cost


def test_cost_from_zero():
    counted = Counted(wavy)
    sample(invert(counted, draws(3, 1), SHORT, TIMES, at_zero="zero"))
    assert counted.nfe == 4


@given(st.integers(0, 999), st.integers(1, 12), st.integers(1, 6))
def test_against_diffusers(seed, steps, stride):
    """DDIMInverseScheduler takes eps at the x of s, but asks the network for the time t of the step's far end."""
    generator = seeded(seed)
    beta = 10 ** (-3 + 1.5 * torch.rand(steps * stride, generator=generator, dtype=torch.float64))
    schedule = NoiseSchedule(torch.cat([torch.ones(1, dtype=torch.float64), (1 - beta).cumprod(0)]))
    scheduler = DDIMInverseScheduler(
        trained_betas=beta.numpy(), num_train_timesteps=schedule.T, clip_sample=False, timestep_spacing="leading"
    )
    scheduler.alphas_cumprod = schedule.alpha_bar[1:]
    scheduler.initial_alpha_cumprod = torch.ones((), dtype=torch.float64)
    scheduler.set_timesteps(steps)
    times = time_grid(schedule, steps, "ddim_uniform")
    x, path = draws(2, 3, seed=seed), []
    for t in scheduler.timesteps:
        x = scheduler.step(wavy(x, torch.full((2,), int(t) + 1)), t, x).prev_sample
        path.append(x)
    calls = iter(scheduler.timesteps.tolist())
    ours = invert(lambda x, t: wavy(x, torch.full_like(t, next(calls) + 1)), draws(2, 3, seed=seed), schedule, times)
    assert torch.allclose(torch.stack([state.x for state in ours]), torch.stack(path), rtol=1e-5, atol=1e-5)


def test_fixed_point_converges_to_the_exact_inverse(gmm_a):
    net, times = gmm_a.network(LINEAR), time_grid(LINEAR, 150)
    x = gmm_a.sample(50, seeded(1))[0]
    exact = sample(invert_by_bisection(net, x, LINEAR, times, 45))
    gaps = [(sample(invert_fixed_point(net, x, LINEAR, times, n)) - exact).abs().max().item() for n in (1, 4, 16)]
    assert gaps[0] > 1e-3
    assert gaps[1] < gaps[0] / 10
    assert gaps[2] < 1e-7


def test_fixed_point_iterations():
    """The first x_t is that of `invert`, from eps at x_s and s; each iteration takes eps at the x_t before and t."""
    x = draws(3, 2)
    states = list(invert_fixed_point(wavy, x, SHORT, TIMES, 2))
    for (s, t), state in zip(pairwise(reversed(TIMES)), states, strict=True):
        ab_s, ab_t = SHORT.alpha_bar[[s, t]].tolist()
        eps = wavy(x, torch.full((3,), s or t))
        for _ in range(2):
            eps = wavy(renoise(predict_x0(x, eps, ab_s), eps, ab_t), torch.full((3,), t))
        x = renoise(predict_x0(x, eps, ab_s), eps, ab_t)
        assert torch.allclose(state.x, x, rtol=0, atol=1e-12)


def test_bisection_is_exact(gmm_a):
    net, x = gmm_a.network(LINEAR), gmm_a.sample(300, seeded(1))[0]
    for steps in (5, 40):
        times = time_grid(LINEAR, steps)
        latent = sample(invert_by_bisection(net, x, LINEAR, times))
        assert torch.allclose(sample(ddim(net, latent, LINEAR, times)), x, rtol=0, atol=1e-10)


def test_bisection_refuses_what_it_cannot_order():
    with pytest.raises(ValueError, match=r"x is .*; expected shape \(B, 1\)"):
        next(invert_by_bisection(wavy, draws(3, 2), SHORT, TIMES))
    point = GaussianMixture([1.0], [[0.7]], [[[0.0]]]).network(SHORT)
    with pytest.raises(ValueError, match=r"x is .*; expected values that the step from t = 3 reaches"):
        next(invert_by_bisection(point, draws(3, 1), SHORT, TIMES))


@pytest.mark.parametrize(
    ("options", "name"), [({"at_zero": "last"}, "at_zero"), ({"ask": "x"}, "ask"), ({"times": [5, 9, 0]}, "times")]
)
def test_bad_options_are_refused(options, name):
    with pytest.raises(ValueError, match=f"^{name} is .*; expected"):
        next(invert(wavy, draws(3, 1), SHORT, **options))


def test_more_iterations_and_halvings_are_whole_numbers():
    with pytest.raises(ValueError, match="iterations is 0"):
        next(invert_fixed_point(wavy, draws(3, 1), SHORT, TIMES, 0))
    with pytest.raises(ValueError, match="halvings is 0"):
        next(invert_by_bisection(wavy, draws(3, 1), SHORT, TIMES, 0))


# --- EDICT ------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 99), st.floats(0.85, 1.0))
def test_edict_comes_back_exactly_whatever_the_network(seed, p):
    image = draws(2, 1, 3, 3, seed=seed)
    *_, (x, y) = edict_invert(wavy, image, image, SHORT, TIMES, p)
    *_, (back_x, back_y) = edict(wavy, x, y, SHORT, TIMES, p)
    assert torch.allclose(back_x, image, rtol=0, atol=1e-9)
    assert torch.allclose(back_y, image, rtol=0, atol=1e-9)
    assert not torch.allclose(x, y)


def test_edict_steps():
    """The four lines of one step, and the contraction of x - y by p^2 where both get the same eps."""
    x, y, p = draws(3, 2), draws(3, 2, seed=1), 0.9
    ab_t, ab_s = SHORT.alpha_bar[[60, 20]].tolist()
    a = math.sqrt(ab_s / ab_t)
    b = math.sqrt(1 - ab_s) - a * math.sqrt(1 - ab_t)
    t = torch.full((3,), 60)
    x1 = a * x + b * wavy(y, t)
    y1 = a * y + b * wavy(x1, t)
    x2 = p * x1 + (1 - p) * y1
    first = next(edict(wavy, x, y, SHORT, [60, 20, 0], p))
    assert torch.allclose(first[0], x2, atol=1e-12)
    assert torch.allclose(first[1], p * y1 + (1 - p) * x2, atol=1e-12)
    first = next(edict(still, x, y, SHORT, [60, 20, 0], p))
    assert torch.allclose(first[0] - first[1], p**2 * a * (x - y), atol=1e-12)


def test_edict_costs_two_evaluations_a_step():
    for run in (edict, edict_invert):
        counted = Counted(wavy)
        list(run(counted, draws(2, 2), draws(2, 2), SHORT, TIMES))
        assert counted.nfe == 10
        with pytest.raises(ValueError, match=r"p is 0\.0"):
            next(run(wavy, draws(2, 2), draws(2, 2), SHORT, TIMES, 0.0))
        with pytest.raises(ValueError, match="y is"):
            next(run(wavy, draws(2, 2), draws(2, 3), SHORT, TIMES))


# --- Null predictions -------------------------------------------------------------------------------------------------


@given(st.integers(0, 99), st.sampled_from([-1.0, 0.0, 3.0, 7.5]))
def test_null_predictions_lead_along_any_pivots(seed, w):
    pivots = [draws(3, 2, seed=seed + i) for i in range(len(TIMES))]
    nulls = null_predictions(wavy, pivots, SHORT, TIMES, w)
    assert len(nulls) == 5
    steps = iter(nulls)
    path = trajectory(pivots[0], ddim(lambda x, t: blend(next(steps), wavy(x, t), w), pivots[0], SHORT, TIMES))
    assert torch.allclose(path, torch.stack(pivots), rtol=0, atol=1e-8)


def test_null_predictions_refuse():
    with pytest.raises(ValueError, match=r"w is 1\.0; expected a scale other than 1"):
        null_predictions(wavy, [draws(3, 2)] * 6, SHORT, TIMES, 1.0)
    with pytest.raises(ValueError, match="pivots is '5 tensors'; expected 6"):
        null_predictions(wavy, [draws(3, 2)] * 5, SHORT, TIMES, 2.0)


# --- Editing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ab", "mean", "variance"), [(0.9, 2.7, 0.19), (0.5, 1.5, 0.75), (0.1, 0.3, 0.99)])
def test_sdedit_in_closed_form(ab, mean, variance):
    """Data N(0, 1), guide 3: DDPM with variance beta is exact for them, and leaves N(3 ab, 1 - ab^2)."""
    schedule = NoiseSchedule(
        torch.cat([torch.ones(1, dtype=torch.float64), torch.linspace(0.9999, ab, 40, dtype=torch.float64)])
    )
    net = GaussianMixture([1.0], [[0.0]], [[[1.0]]]).network(schedule)
    guide = torch.full((40_000, 1), 3.0, dtype=torch.float64)

    def sampler(eps_fn, x, schedule, times):
        return ddpm(eps_fn, x, schedule, times, "beta", seeded(2))

    end = sample(sdedit(net, guide, schedule, range(40, -1, -1), sampler, seeded(1)))
    assert end.mean().item() == pytest.approx(mean, abs=4 * math.sqrt(variance / 40_000))
    assert end.var().item() == pytest.approx(variance, rel=4 * math.sqrt(2 / 40_000) + 1e-3)


def test_sdedit_is_noise_and_a_sampler():
    guide, noise = draws(3, 2), torch.randn(3, 2, generator=seeded(5), dtype=torch.float64)
    ab = SHORT.alpha_bar[24]
    start = ab.sqrt() * guide + (1 - ab).sqrt() * noise
    for sampler in (ddim, dpm_solver_pp):
        edited = sample(sdedit(wavy, guide, SHORT, [24, 10, 3, 0], sampler, seeded(5)))
        assert torch.allclose(edited, sample(sampler(wavy, start, SHORT, [24, 10, 3, 0])), rtol=0, atol=1e-12)
    for times in ([], [0], [99, 0]):
        with pytest.raises(ValueError, match="times is"):
            sdedit(wavy, guide, SHORT, times)


def masked(*shape: int) -> Tensor:
    return (torch.arange(math.prod(shape)).reshape(shape) % 2).double()


def test_inpainting_keeps_what_is_known():
    known, mask = draws(3, 1, 4, 4, seed=1), masked(3, 1, 4, 4)
    *_, last = states = list(inpaint(wavy, draws(3, 1, 4, 4), known, mask, SHORT, TIMES, generator=seeded()))
    assert [state.t for state in states] == TIMES[1:]
    assert torch.equal(last.x[mask == 1], known[mask == 1])
    assert not torch.isclose(last.x[mask == 0], known[mask == 0]).any()


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_inpainting_steps(eta, noise_calls, monkeypatch):
    """Known values at s carry the noise of s (here zeros), the others are DDIM's."""
    monkeypatch.setattr("lessons_src.inversion.noise_like", lambda x, generator: torch.zeros_like(x))
    x, known, mask = draws(3, 4), draws(3, 4, seed=1), masked(3, 4)
    for t, s in pairwise(TIMES):
        state = next(inpaint(wavy, x, known, mask, SHORT, [t, s, 0][: 2 + (s > 0)], eta))
        free = next(ddim(wavy, x, SHORT, [t, s, 0][: 2 + (s > 0)], eta)).x
        assert torch.allclose(state.x[mask == 0], free[mask == 0], rtol=0, atol=1e-12)
        assert torch.allclose(state.x[mask == 1], known[mask == 1] * SHORT.alpha_bar[s].sqrt(), rtol=0, atol=1e-12)
        x = state.x


def test_known_values_carry_the_noise_of_their_time():
    x, ones = torch.zeros(50_000, 1, dtype=torch.float64), torch.ones(50_000, 1, dtype=torch.float64)
    first = next(inpaint(still, x, 2 * ones, ones, SHORT, TIMES, generator=seeded()))
    ab = SHORT.alpha_bar[41].item()
    assert first.x.mean().item() == pytest.approx(2 * math.sqrt(ab), abs=0.02)
    assert first.x.var().item() == pytest.approx(1 - ab, rel=0.03)


def test_inpainting_follows_the_known_part_but_not_all_the_way():
    """Correlation 0.9, known 1.5: the open half should be N(1.35, 0.19). Replacement moves there, and stops short."""
    mixture = GaussianMixture([1.0], [[0.0, 0.0]], [[[1.0, 0.9], [0.9, 1.0]]])
    schedule = linear(200, 5e-4, 0.1)
    n = 4000
    known = torch.tensor([[1.5, 0.0]], dtype=torch.float64).expand(n, 2)
    mask = torch.tensor([[1.0, 0.0]], dtype=torch.float64).expand(n, 2)
    end = sample(inpaint(mixture.network(schedule), draws(n, 2), known, mask, schedule, generator=seeded(1)))
    assert 0.7 < end[:, 1].mean().item() < 1.3


def test_inpainting_refuses():
    x = draws(3, 4)
    for known, mask, name in ((draws(3, 5), x, "known"), (x, draws(3, 5), "mask"), (x, 0.5 + 0 * x, "mask")):
        with pytest.raises(ValueError, match=f"{name} is"):
            next(inpaint(wavy, x, known, mask, SHORT, TIMES))
    with pytest.raises(ValueError, match="eta is -1"):
        next(inpaint(wavy, x, x, masked(3, 4), SHORT, TIMES, eta=-1.0))


@given(st.integers(0, 99), st.floats(0, 1))
def test_slerp_stays_on_the_sphere(seed, weight):
    a, b = (torch.nn.functional.normalize(draws(4, 6, seed=seed + i), dim=1) for i in (0, 100))
    between = slerp(a, b, weight)
    assert torch.allclose(between.norm(dim=1), torch.ones(4, dtype=torch.float64), atol=1e-10)
    angle, part = ((u * v).sum(1).clamp(-1, 1).arccos() for u, v in ((a, b), (a, between)))
    assert torch.allclose(part, weight * angle, atol=1e-6)


def test_slerp_ends_and_parallel_noises():
    a, b = draws(3, 1, 2, 2), draws(3, 1, 2, 2, seed=1)
    assert torch.allclose(slerp(a, b, 0.0), a, atol=1e-12)
    assert torch.allclose(slerp(a, b, 1.0), b, atol=1e-12)
    many = draws(500, 3)
    assert torch.allclose(slerp(many, 2 * many, 0.25), 1.25 * many, atol=1e-6)
    with pytest.raises(ValueError, match="b is"):
        slerp(a, b[:2], 0.5)
    for dtype in (torch.float32, torch.float64):
        with pytest.raises(ValueError, match=r"b is .*; expected no sample opposite to that of a"):
            slerp(many.to(dtype), -2 * many.to(dtype), 0.5)


def test_a_straight_mean_of_noises_is_too_short():
    a, b = draws(20, 784), draws(20, 784, seed=1)
    assert ((a + b) / 2).norm(dim=1).mean().item() / 28 == pytest.approx(math.sqrt(0.5), abs=0.02)
    assert slerp(a, b, 0.5).norm(dim=1).mean().item() / 28 == pytest.approx(1, abs=0.02)


def test_the_latent_is_a_state_of_the_sampler():
    """renoise of a State's own x0 and eps gives its x, as in samplers."""
    for inversion in (invert, invert_fixed_point):
        for t, state in zip(TIMES[-2::-1], inversion(wavy, draws(3, 2), SHORT, TIMES), strict=True):
            again = renoise(state.x0, state.eps, float(SHORT.alpha_bar[t]))
            assert torch.allclose(state.x, again, rtol=0, atol=1e-12)
