"""The same trajectories as the solvers of Hugging Face diffusers, and the reason wherever they differ.

Their time counts from 0, and they compute the noise levels of a grid in float32 and by interpolation: both are replaced
here by ours, so that the comparison sees formulas and not rounding. Their multistep scheduler steps in float32.
"""

import math

import numpy as np
import pytest
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lessons_src import solvers
from lessons_src.samplers import trajectory
from lessons_src.schedules import GRIDS, NoiseSchedule, time_grid
from lessons_src.solvers import dpm_solver, dpm_solver_pp, dpm_solver_pp_2s, heun, plms, pndm, thresholded, unipc

pytestmark = [  # their own, on how they treat numpy and old names
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
seeds = st.integers(0, 10_000)


def random_schedule(T: int, seed: int) -> NoiseSchedule:
    generator = torch.Generator().manual_seed(seed)
    beta = 10 ** (-3 + 1.2 * torch.rand(T, generator=generator, dtype=torch.float64))
    return NoiseSchedule(torch.cat([torch.ones(1, dtype=torch.float64), (1 - beta).cumprod(0)]))


def random_eps(seed: int):
    a, b, c = torch.rand(3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).tolist()
    return lambda x, t: torch.sin(a * x + 2 * b + c * t.reshape(-1, 1, 1, 1) / 30)


def start(seed: int) -> Tensor:
    return torch.randn(2, 1, 3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def case(seed: int, steps: int):
    """A random schedule, a grid of `steps` steps of random but similar lengths, and a random network."""
    schedule = random_schedule(240, seed)
    jitter = torch.randint(-3, 4, (steps - 1,), generator=torch.Generator().manual_seed(seed)).tolist()
    inner = [240 * i // steps + j for i, j in zip(range(steps - 1, 0, -1), jitter, strict=True)]
    return schedule, [240, *inner, 0], random_eps(seed)


def theirs(kind: type, schedule: NoiseSchedule, times: list[int], **options):
    """Their scheduler on our grid: our times for theirs, and our levels, in float64, for their float32 sigmas."""
    scheduler = kind(trained_betas=schedule.beta[1:].numpy(), num_train_timesteps=schedule.T, **options)
    scheduler.set_timesteps(len(times) - 1)
    ab = schedule.alpha_bar[times]
    scheduler.sigmas = ((1 - ab) / ab).sqrt()
    scheduler.timesteps = torch.tensor(times[:-1]) - 1
    return scheduler


def run(scheduler, eps_fn, x: Tensor, **options) -> Tensor:
    path = [x]
    for t in scheduler.timesteps:
        eps = eps_fn(x, torch.full((len(x),), int(t) + 1))
        x = scheduler.step(eps, t, x, **options).prev_sample
        path.append(x)
    return torch.stack(path)


def assert_close(ours: Tensor, other: Tensor, tolerance: float = 1e-5) -> None:
    assert ours.shape == other.shape
    assert torch.allclose(ours, other, rtol=tolerance, atol=tolerance)


@given(seeds, st.integers(1, 12))
def test_heun(seed, steps):
    """Theirs steps y = x / sqrt(ab), lists every inner time twice, and scales the network's input itself."""
    schedule, times, eps_fn = case(seed, steps)
    scheduler = theirs(HeunDiscreteScheduler, schedule, times)
    sigma = scheduler.sigmas
    scheduler.sigmas = torch.cat([sigma[:1], sigma[1:-1].repeat_interleave(2), sigma[-1:]])
    scheduler.timesteps = torch.cat([scheduler.timesteps[:1], scheduler.timesteps[1:].repeat_interleave(2)])
    scheduler._step_index = 0
    y = start(seed) / schedule.alpha_bar[times[0]].sqrt()
    for t in scheduler.timesteps:
        eps = eps_fn(scheduler.scale_model_input(y, t), torch.full((2,), int(t) + 1))
        y = scheduler.step(eps, t, y).prev_sample
    assert_close(trajectory(start(seed), heun(eps_fn, start(seed), schedule, times))[-1], y)


@given(seeds, st.integers(2, 12), st.integers(1, 5))
def test_plms(seed, steps, stride):
    """PNDMScheduler without its Runge-Kutta steps, as in Stable Diffusion."""
    schedule, eps_fn = random_schedule(steps * stride, seed), random_eps(seed)
    scheduler = pndm_scheduler(schedule, steps, skip_prk_steps=True)
    path = run(scheduler, eps_fn, start(seed))
    times = time_grid(schedule, steps, "ddim_uniform")
    ours = trajectory(start(seed), plms(eps_fn, start(seed), schedule, times))
    assert_close(ours, torch.cat([path[:1], path[2:]]))  # they yield the first step twice: Euler, then corrected


@given(seeds, st.integers(4, 12), st.integers(1, 3))
def test_pndm(seed, steps, half_stride):
    """Even strides, for which the middle is a time; their Runge-Kutta steps yield four states each."""
    schedule, eps_fn = random_schedule(2 * steps * half_stride, seed), random_eps(seed)
    scheduler = pndm_scheduler(schedule, steps, skip_prk_steps=False)
    path = run(scheduler, eps_fn, start(seed))
    times = time_grid(schedule, steps, "ddim_uniform")
    ours = trajectory(start(seed), pndm(eps_fn, start(seed), schedule, times))
    assert_close(ours, torch.cat([path[:12:4], path[12:]]))


def pndm_scheduler(schedule: NoiseSchedule, steps: int, **options) -> PNDMScheduler:
    scheduler = PNDMScheduler(
        trained_betas=schedule.beta[1:].numpy(), num_train_timesteps=schedule.T, set_alpha_to_one=True, **options
    )
    scheduler.alphas_cumprod = schedule.alpha_bar[1:]
    scheduler.final_alpha_cumprod = torch.ones((), dtype=torch.float64)
    scheduler.set_timesteps(steps)
    return scheduler


SINGLESTEP = [
    ("DPM-Solver-2", dpm_solver, {"algorithm_type": "dpmsolver", "solver_order": 2}),
    (
        "DPM-Solver-3",
        lambda *arguments: dpm_solver(*arguments, order=3),
        {"algorithm_type": "dpmsolver", "solver_order": 3, "solver_type": "heun"},
    ),
    ("DPM-Solver++(2S)", dpm_solver_pp_2s, {"algorithm_type": "dpmsolver++", "solver_order": 2}),
]


@pytest.mark.parametrize(("ours", "options"), [case[1:] for case in SINGLESTEP], ids=[case[0] for case in SINGLESTEP])
@given(seeds, st.integers(2, 13))
def test_singlestep(ours, options, seed, steps):
    """Their solver type "heun" of order 3 is the Taylor form. Their DPM-Solver cannot step to sigma = 0."""
    schedule, times, eps_fn = case(seed, steps)
    to_zero = options["algorithm_type"] == "dpmsolver++"
    scheduler = theirs(
        DPMSolverSinglestepScheduler,
        schedule,
        times,
        final_sigmas_type="zero" if to_zero else "sigma_min",
        lower_order_final=True,
        **options,
    )
    scheduler.order_list[-1] = 1
    end = None if to_zero else -1
    path = trajectory(start(seed), ours(eps_fn, start(seed), schedule, times))
    assert_close(path[:end], run(scheduler, eps_fn, start(seed))[:end])


@given(seeds, st.integers(1, 20), st.sampled_from([1, 2]))
def test_2m(seed, steps, order):
    schedule, times, eps_fn = case(seed, steps)
    scheduler = theirs(DPMSolverMultistepScheduler, schedule, times, solver_order=order, final_sigmas_type="zero")
    path = trajectory(start(seed), dpm_solver_pp(eps_fn, start(seed), schedule, times, order))
    assert_close(path, run(scheduler, eps_fn, start(seed)))


@given(seeds, st.integers(1, 20), st.sampled_from([1, 2]))
def test_2m_of_the_sde(seed, steps, order):
    """The noise, which they would draw in float32, is handed over."""
    schedule, times, eps_fn = case(seed, steps)
    scheduler = theirs(
        DPMSolverMultistepScheduler,
        schedule,
        times,
        solver_order=order,
        final_sigmas_type="zero",
        algorithm_type="sde-dpmsolver++",
    )
    noise = start(seed + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lessons_src.samplers.noise_like", lambda x, generator: noise)
        path = trajectory(start(seed), solvers.sde_dpm_solver_pp(eps_fn, start(seed), schedule, times, order))
    assert_close(path, run(scheduler, eps_fn, start(seed), variance_noise=noise))


@given(seeds, st.integers(16, 25))
def test_3m_is_theirs_with_the_second_difference_doubled(seed, steps):
    """Their D2 = (D1_0 - D1_1) / (r0 + r1) is h^2 f'' / 2, where the formula that uses it wants h^2 f''."""
    schedule, times, eps_fn = case(seed, steps)
    scheduler = theirs(DPMSolverMultistepScheduler, schedule, times, solver_order=3, final_sigmas_type="zero")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(solvers, "_mean", mean_of_theirs)
        halved = trajectory(start(seed), dpm_solver_pp(eps_fn, start(seed), schedule, times, 3))
    other = run(scheduler, eps_fn, start(seed))
    n = steps - 1  # the last step but one is of order 2 here, of order 3 there from 15 steps on
    assert_close(halved[:n], other[:n])
    ours = trajectory(start(seed), dpm_solver_pp(eps_fn, start(seed), schedule, times, 3))
    assert not torch.allclose(ours[:n], other[:n], rtol=1e-5, atol=1e-5)


def mean_of_theirs(nodes, ab_s: float, rate: int, original=solvers._mean) -> Tensor:
    """The mean of x0 with half of its second difference, which is what their formula comes to."""
    if len(nodes) < 3:
        return original(nodes, ab_s, rate)
    u_s = math.log(ab_s / (1 - ab_s)) / 2
    (u0, m0), (u1, m1), (u2, m2) = nodes
    h = u_s - u0
    curvature = ((m0 - m1) / (u0 - u1) - (m1 - m2) / (u1 - u2)) / (u0 - u2) * h**2
    weight = -((math.exp(-h) - 1 + h) / h**2 - 0.5) / -math.expm1(-h)
    return original(nodes, ab_s, rate) - weight * curvature


@given(seeds, st.integers(1, 20), st.sampled_from([1, 2, 3]))
def test_unipc(seed, steps, order):
    schedule, times, eps_fn = case(seed, steps)
    scheduler = theirs(
        UniPCMultistepScheduler, schedule, times, solver_order=order, solver_type="bh2", final_sigmas_type="zero"
    )
    path = trajectory(start(seed), unipc(eps_fn, start(seed), schedule, times, order))
    assert_close(path, run(scheduler, eps_fn, start(seed)))


@given(seeds, st.integers(1, 12), st.sampled_from([0.5, 0.9]))
def test_dynamic_thresholding(seed, steps, share):
    schedule, times, eps_fn = case(seed, steps)
    scheduler = theirs(
        DPMSolverMultistepScheduler,
        schedule,
        times,
        final_sigmas_type="zero",
        thresholding=True,
        dynamic_thresholding_ratio=share,
        sample_max_value=1e9,
    )
    bounded = thresholded(eps_fn, schedule, share=share)
    path = trajectory(start(seed), dpm_solver_pp(bounded, start(seed), schedule, times))
    assert_close(path, run(scheduler, eps_fn, start(seed)))


@pytest.mark.parametrize("steps", [2, 7, 12])
def test_edm_levels(steps):
    """Where times are dense, the levels of our grid are Karras et al.'s, computed by them."""
    T = 20_000
    sigma = torch.logspace(-2, 1.9, T, dtype=torch.float64)
    schedule = NoiseSchedule(torch.cat([torch.ones(1, dtype=torch.float64), 1 / (1 + sigma**2)]))
    scheduler = DPMSolverMultistepScheduler(use_karras_sigmas=True)
    expected = scheduler._convert_to_karras(torch.tensor([sigma[-2], sigma[0]]), steps)
    ours = sigma[torch.tensor(time_grid(schedule, steps, "edm")[:-1]) - 1]
    assert np.allclose(ours[1:], expected[1:], rtol=1e-3)
    assert set(GRIDS) >= {"edm"}
