"""Every number that a question expects is computed again from the library."""

import math
from importlib.resources import files
from itertools import pairwise

import pytest
import torch

from lessons_src import data, explorers, guidance, inversion, oracle, process, quiz, samplers, schedules, sde, solvers

LESSONS = sorted(path.stem for path in (files("lessons_src") / "questions").glob("*.toml"))
LEVELS = (0.0784, 0.36, 0.64, 1.0)


def number(value):
    return torch.tensor([[float(value)]], dtype=torch.float64)


def walk(means, w=None):
    """(x0, next x) of every step of a walk down LEVELS from 1, exact predictors of N(mean, 1), guided if two means."""
    x, path = number(1), []
    for ab_t, ab_s in pairwise(LEVELS):
        eps = [oracle.GaussianMixture([1.0], [[mean]], [[[1.0]]]).eps(x, ab_t) for mean in means]
        eps = eps[0] if w is None else guidance.blend(*eps, w)
        x0 = process.predict_x0(x, eps, ab_t)
        x = samplers.renoise(x0, eps, ab_s)
        path.append((x0.item(), x.item(), eps.item()))
    return path


def ddpm_mean(signal_t, signal_s, x):
    """Mean of a DDPM step on the exact predictor of N(0, 1), from the roots of alpha_bar at t and s."""
    ab_t, ab_s = signal_t**2, signal_s**2
    x0 = oracle.GaussianMixture([1.0], [[0.0]], [[[1.0]]]).x0(number(x), ab_t)
    return process.posterior(number(x), x0, ab_t, ab_s)[0].item()


def guided_bill(sampler, steps):
    counted = samplers.Counted(explorers.three_classes().network(schedules.linear()))
    times = schedules.time_grid(schedules.linear(), steps)
    eps_fn = guidance.classifier_free(counted, 0, 4.0)
    samplers.sample(sampler(eps_fn, torch.zeros(8, 2, dtype=torch.float64), schedules.linear(), times))
    return counted.nfe


def first_euler_step():
    """From 0.7, data N(1, 1/4), constant beta = 1: half a unit of time down the probability-flow ODE from T = 4."""
    vp, mixture = sde.VP(1.0, 1.0, 4.0), oracle.GaussianMixture([1.0], [[1.0]], [[[0.25]]])
    return next(sde.solve(vp.flow(vp.score(mixture)), number(0.7), [4.0, 3.5], "euler")).item()


def divergence_of_a_matrix(probe):
    """Hutchinson's estimate for the field x -> A x with A = ((0.1, -0.2), (-0.2, 0.5))."""
    a = torch.tensor([[0.1, -0.2], [-0.2, 0.5]], dtype=torch.float64)
    x, probe = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([probe], dtype=torch.float64)
    return sde.divergence(lambda x, t: x @ a.T, x, 0.0, probe)[1].item()


def translated(theirs):
    """Our w for which the blend equals (1 + theirs) eps_c - theirs eps_u."""
    return (((1 + theirs) * number(2) - theirs * number(1)) - number(1)).item() / (number(2) - number(1)).item()


def there_and_back():
    """Three DDIM steps down from 1 over LEVELS and up again, for N(0, 1) data."""
    schedule = schedules.NoiseSchedule(torch.tensor(LEVELS[::-1], dtype=torch.float64))
    net = oracle.GaussianMixture([1.0], [[0.0]], [[[1.0]]]).network(schedule)
    x = samplers.sample(samplers.ddim(net, number(1), schedule))
    return samplers.sample(inversion.invert(net, x, schedule, at_zero="zero")).item()


def sdedit_on_normal(ab, guide):
    """Mean and variance: x_t ~ N(sqrt(ab) guide, 1 - ab), then x0 given x_t, both exact, for N(0, 1) data."""
    mixture = oracle.GaussianMixture([1.0], [[0.0]], [[[1.0]]])
    gain = mixture.x0(number(1), ab).item()  # E[x0 | x_t] is linear in x_t
    up = process.add_noise(number(guide), number(0), ab).item()
    return gain * up, gain**2 * (1 - ab) + 1 - gain**2


def gap_of_edict(steps):
    """By how much mixing alone drives EDICT's copies apart: nothing is predicted, and the levels hardly move."""
    schedule = schedules.NoiseSchedule(1 - 1e-12 * torch.arange(steps + 1, dtype=torch.float64))
    *_, (x, y) = inversion.edict_invert(lambda x, t: torch.zeros_like(x), number(1), number(0), schedule)
    return (x - y).abs().item()


def length_of_a_straight_mean(dim):
    """Against the ends' length, for two orthogonal ones, as independent noises nearly are."""
    a, b = torch.eye(dim, dtype=torch.float64)[:2]
    return (torch.lerp(a, b, 0.5).norm() / a.norm()).item()


ANSWERS = {
    ("00_start_here", "adding-noise"): lambda: math.hypot(3, 4),
    ("00_start_here", "guidance-translation"): lambda: translated(2),
    ("01_forward_shortcut", "signal-at-half"): lambda: schedules.linear().alpha_bar[500].sqrt().item(),
    ("01_forward_shortcut", "two-equal-steps"): lambda: math.sqrt(1 - (1 - 0.2) ** 2),
    ("02_noise_schedules", "wasted-steps"): lambda: 100 * (schedules.linear().snr[1:] < 0.01).double().mean().item(),
    ("02_noise_schedules", "log-snr-of-0-9"): lambda: (
        schedules.NoiseSchedule(torch.tensor([1, 0.9], dtype=torch.float64)).log_snr[1].item()
    ),
    ("02_noise_schedules", "half-contrast"): lambda: 2 * math.log(0.5),
    ("02_noise_schedules", "side-256"): lambda: schedules.shifted_cosine(size=256).snr[500].item(),
    ("02_noise_schedules", "quarter-of-the-steps"): lambda: 0.02 * 1000 / 250,
    ("03_train_tiny_ddpm", "lowest-loss"): lambda: (
        1 - oracle.GaussianMixture([1.0], [[0]], [[[1.0]]]).eps(number(1), 0.36).item() ** 2
    ),
    ("03_train_tiny_ddpm", "blind-loss"): lambda: 1 - (1 - schedules.linear().alpha_bar[1:]).sqrt().mean().item() ** 2,
    ("03_train_tiny_ddpm", "sum-or-mean"): lambda: 23.52 / math.prod(data.digits()[0].shape[1:]),
    ("04_ddpm_sampling", "hand-first"): lambda: ddpm_mean(0.288, 0.48, 1.0) + 0.8 * 0.5,
    ("04_ddpm_sampling", "hand-last"): lambda: ddpm_mean(0.8, 1.0, ddpm_mean(0.48, 0.8, 1.0) + 0.8 * -1),
    ("04_ddpm_sampling", "variance-at-the-end"): lambda: (
        ddpm_mean(*schedules.linear().alpha_bar[[1, 0]].sqrt().tolist(), 1.0) ** 2
    ),
    ("04_ddpm_sampling", "the-bill"): lambda: guided_bill(samplers.ddpm, 250),
    ("05_ddim", "practice-one"): lambda: samplers.renoise(
        process.predict_x0(number(0), number(0.1), 0.6), number(0.1), 0.8
    ).item(),
    ("05_ddim", "hand-x0"): lambda: walk([0.0])[0][0],
    ("05_ddim", "hand-x"): lambda: walk([0.0])[0][1],
    ("05_ddim", "hand-second-x0"): lambda: walk([0.0])[1][0],
    ("05_ddim", "hand-second-x"): lambda: walk([0.0])[1][1],
    ("05_ddim", "hand-final"): lambda: walk([0.0])[2][1],
    ("05_ddim", "last-step"): lambda: math.sqrt(
        process.posterior_variance(schedules.linear().alpha_bar[100].item(), 1.0)
    ),
    ("06_classifier_free_guidance", "blend-by-hand"): lambda: guidance.blend(number(0.1), number(-0.3), 7.5).item(),
    ("06_classifier_free_guidance", "first-guided-step"): lambda: walk([0.0, 2.0], 3.0)[0][2],
    ("06_classifier_free_guidance", "where-it-lands"): lambda: walk([0.0, 2.0], 7.5)[2][1],
    ("06_classifier_free_guidance", "the-bill"): lambda: guided_bill(samplers.ddim, 20),
    ("06_classifier_free_guidance", "their-scale"): lambda: translated(4),
    ("08_sde_and_ode", "first-euler-step"): first_euler_step,
    ("08_sde_and_ode", "continuous-beta"): lambda: 1000 * schedules.linear().beta[1000].item(),
    ("08_sde_and_ode", "one-sign-vector"): lambda: divergence_of_a_matrix([1.0, -1.0]),
    ("08_sde_and_ode", "four-times"): lambda: (
        sde.bits_per_dim(number(0) - 3 * math.log(4), 3) - sde.bits_per_dim(number(0), 3)
    ).item(),
    ("09_fast_samplers", "heun-budget"): lambda: solvers.SOLVERS["Heun"].steps(21),
    ("09_fast_samplers", "order-from-two"): lambda: math.log2(0.024 / 0.003),
    ("09_fast_samplers", "memory-weight"): lambda: solvers.quadrature([0, -0.5])[0],
    ("09_fast_samplers", "the-bill"): lambda: guided_bill(solvers.dpm_solver_pp, 15),
    ("10_inversion_and_editing", "there-and-back"): there_and_back,
    ("10_inversion_and_editing", "sdedit-mean"): lambda: sdedit_on_normal(0.5, 3.0)[0],
    ("10_inversion_and_editing", "sdedit-variance"): lambda: sdedit_on_normal(0.9, 3.0)[1],
    ("10_inversion_and_editing", "gap-of-edict"): lambda: gap_of_edict(20),
    ("10_inversion_and_editing", "straight-mean"): lambda: length_of_a_straight_mean(784),
}
ITEMS = {(lesson, item.id): item for lesson in LESSONS for item in quiz.load(lesson).items if hasattr(item, "answer")}


@pytest.mark.parametrize("key", ITEMS, ids="-".join)
def test_answer(key):
    item, exact = ITEMS[key], ANSWERS[key]()
    digits = len(f"{item.answer:g}".partition(".")[2])
    assert item.answer == pytest.approx(exact, abs=0.5 * 10**-digits + 1e-9), "the answer is not the rounded result"
    assert abs(exact - item.answer) < item.tolerance


def test_no_answer_is_left_over():
    assert set(ANSWERS) == set(ITEMS)
