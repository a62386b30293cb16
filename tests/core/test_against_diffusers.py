"""The same trajectories as the schedulers of Hugging Face diffusers, an independent implementation.

Their time counts from 0 (their index is t - 1), they clip x0 unless told otherwise, and they hold alpha_bar in float32:
it is replaced here by ours, so that the comparison sees formulas and not rounding.
"""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st

from lessons_src.process import add_noise, eps_from_velocity, predict_eps, velocity, x0_from_velocity
from lessons_src.samplers import ddim, ddpm, renoise, trajectory
from lessons_src.schedules import GRIDS, NoiseSchedule, cosine, linear, time_grid

seeds = st.integers(0, 10_000)


def random_schedule(T: int, seed: int) -> NoiseSchedule:
    generator = torch.Generator().manual_seed(seed)
    beta = 10 ** (-3 + 2.5 * torch.rand(T, generator=generator, dtype=torch.float64))
    return NoiseSchedule(torch.cat([torch.ones(1, dtype=torch.float64), (1 - beta).cumprod(0)]))


def random_eps(seed: int):
    a, b, c = (2 * torch.rand(3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)).tolist()
    return lambda x, t: torch.sin(a * x + b + c * t.reshape(-1, 1, 1, 1))


def start(seed: int) -> torch.Tensor:
    return torch.randn(2, 1, 3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def theirs(kind: type, schedule: NoiseSchedule, **options):
    scheduler = kind(
        trained_betas=schedule.beta[1:].numpy(), num_train_timesteps=schedule.T, clip_sample=False, **options
    )
    scheduler.alphas_cumprod = schedule.alpha_bar[1:]
    scheduler.final_alpha_cumprod = scheduler.one = torch.ones((), dtype=torch.float64)
    return scheduler


def run(scheduler, eps_fn, seed: int, **options) -> torch.Tensor:
    x, generator = start(seed), torch.Generator().manual_seed(seed)
    path = [x]
    for t in scheduler.timesteps:
        eps = eps_fn(x, torch.full((2,), int(t) + 1))
        x = scheduler.step(eps, int(t), x, generator=generator, **options).prev_sample
        path.append(x)
    return torch.stack(path)


def assert_close(ours: torch.Tensor, other: torch.Tensor) -> None:
    assert torch.allclose(ours, other, rtol=1e-6, atol=1e-6)


@given(seeds, st.integers(1, 8), st.integers(1, 8), st.sampled_from(["leading", "trailing"]), st.floats(0, 1))
def test_ddim(seed, steps, stride, spacing, eta):
    """Steps must divide T: their DDIM always goes back by T // steps, wherever its next time is."""
    schedule, eps_fn = random_schedule(steps * stride, seed), random_eps(seed)
    scheduler = theirs(DDIMScheduler, schedule, timestep_spacing=spacing)
    scheduler.set_timesteps(steps)
    times = time_grid(schedule, steps, {"leading": "ddim_uniform", "trailing": "trailing"}[spacing])
    assert [int(t) + 1 for t in scheduler.timesteps] == times[:-1]
    generator = torch.Generator().manual_seed(seed)
    ours = trajectory(start(seed), ddim(eps_fn, start(seed), schedule, times, eta, generator))
    assert_close(ours, run(scheduler, eps_fn, seed, eta=eta))


@given(seeds, st.integers(1, 40), st.sampled_from(GRIDS), st.data())
def test_ddpm(seed, T, grid, data):
    """Where their last time is not 0 they still add the noise of "fixed_large" there, and miss the clean data."""
    schedule, eps_fn = random_schedule(T, seed), random_eps(seed)
    times = time_grid(schedule, data.draw(st.integers(1, T), "steps"), grid)
    variances = {"beta_tilde": "fixed_small", "beta": "fixed_large"}
    for variance in variances if times[-2] == 1 else ["beta_tilde"]:
        scheduler = theirs(DDPMScheduler, schedule, variance_type=variances[variance])
        scheduler.set_timesteps(timesteps=[t - 1 for t in times[:-1]])
        generator = torch.Generator().manual_seed(seed)
        ours = trajectory(start(seed), ddpm(eps_fn, start(seed), schedule, times, variance, generator))
        assert_close(ours, run(scheduler, eps_fn, seed))


@pytest.mark.parametrize("kind", [DDIMScheduler, DDPMScheduler])
@pytest.mark.parametrize("prediction", ["sample", "v_prediction"])
def test_other_predictions(kind, prediction):
    schedule = random_schedule(20, 1)
    x, output = start(2), start(3)
    ab_t, ab_s = schedule.alpha_bar[[12, 11]].tolist()
    scheduler = theirs(kind, schedule, prediction_type=prediction)
    scheduler.set_timesteps(20)
    result = scheduler.step(output, 11, x, generator=torch.Generator().manual_seed(0))
    x0 = output if prediction == "sample" else x0_from_velocity(x, output, ab_t)
    eps = predict_eps(x, output, ab_t) if prediction == "sample" else eps_from_velocity(x, output, ab_t)
    assert_close(x0, result.pred_original_sample)
    if kind is DDIMScheduler:
        assert_close(renoise(x0, eps, ab_s), result.prev_sample)


def test_forward_process():
    schedule = random_schedule(20, 1)
    x0, eps, t = start(1), start(2), torch.tensor([20, 3])
    scheduler = theirs(DDPMScheduler, schedule)
    assert_close(add_noise(x0, eps, schedule.alpha_bar[t]), scheduler.add_noise(x0, eps, t - 1))
    assert_close(velocity(x0, eps, schedule.alpha_bar[t]), scheduler.get_velocity(x0, eps, t - 1))


@pytest.mark.parametrize("T", [10, 1000])
@pytest.mark.parametrize(("ours", "name"), [(linear, "linear"), (cosine, "squaredcos_cap_v2")])
def test_schedules(ours, name, T):
    beta = DDPMScheduler(num_train_timesteps=T, beta_schedule=name).betas
    assert torch.allclose(ours(T).beta[1:].float(), beta, rtol=1e-5, atol=1e-7)
