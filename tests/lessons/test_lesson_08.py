"""Lesson 08: its pictures, the answers to its questions, and right answers to its exercises."""

import math
import re
from itertools import pairwise

import numpy as np
import pytest
import torch
from by_hand import number, rotated

from lessons_src import oracle, process, samplers, schedules, sde
from lessons_src.lessons.lesson_08 import explorer, figures
from lessons_src.lessons.lesson_08.explorer import (
    PULLS,
    SIDE,
    TOP,
    WALKERS,
    noisy_flow,
    sde_picture,
    two_humps,
)
from lessons_src.ode import solve
from lessons_src.oracle import GaussianMixture
from lessons_src.schedules import linear
from lessons_src.sde import VE, VP


def told(picture):
    """Per cent of the walkers that end in the hump of their colour, and of all in the upper hump."""
    found = re.search(r"(\d+) % of 2,000 walkers keep .* (\d+) % of all end", picture.text)
    return [int(value) for value in found.groups()]


def gap(picture):
    """The largest difference between the density of all ends and the data's; both are cut at TOP."""
    _, together, data = picture.panels[1].series.values()
    return np.abs(together - data).max()


def test_it_opens_with_the_ode():
    shown = explorer.explore_sde()
    assert shown.picture.text == sde_picture(0.0, 100, PULLS[0]).text
    assert shown.picture.text.startswith("λ = 0 (no noise: the ODE), 100 steps.")
    assert len(shown.picture.png()) < 100_000


@pytest.mark.parametrize("pull", PULLS)
@pytest.mark.parametrize("steps", [5, 200])
@pytest.mark.parametrize("share", [0.0, 2.0])
def test_the_ends_of_every_control(share, steps, pull):
    picture = sde_picture(share, steps, pull)
    assert not re.search(r"\b(nan|inf)\b", picture.text)
    assert f", {steps} steps. " in picture.text
    walk, end = picture.panels
    assert walk.frames.shape == (steps + 1, WALKERS, 2)
    assert np.allclose(walk.frames[[0, -1], 0, 0], [-SIDE, SIDE])
    assert len(picture.frame_names) == steps + 1
    for line in end.series.values():
        assert 0 <= line.min() <= line.max() <= np.float32(TOP)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0, 2.0])
def test_every_noise_share_has_the_marginals_of_the_forward_process(share):
    """At every time, to the luck of the points; of the ODE, which starts from even points, to its few steps."""
    picture = sde_picture(share, 200, PULLS[0])
    assert told(picture)[1] == pytest.approx(70, abs=3 if share else 0.5)
    assert gap(picture) < (0.15 if share else 0.02)


def kept(share, steps=100):
    """Per cent of the walkers that end in the hump where the ODE ends."""
    return told(sde_picture(share, steps, PULLS[0]))[0]


def test_the_walkers_are_coloured_by_where_the_exact_flow_ends():
    walk = sde_picture(0.0, 200, PULLS[0]).panels[0]
    np.testing.assert_array_equal(walk.groups, walk.frames[-1, :, 1] > 0)
    assert walk.groups.tolist().count(0) == 3  # as many of ten as of the data
    np.testing.assert_array_equal(walk.groups, sde_picture(2.0, 5, PULLS[0]).panels[0].groups)


def test_the_dare_has_the_answer_that_the_lesson_gives():
    """Luck alone brings 58 % to their hump; from lambda = 0.7 on it is 60 % or less."""
    assert kept(0.0) >= 99
    assert kept(0.6) > 60
    assert [abs(kept(share) - 58) <= 2 for share in (0.7, 0.8, 1.0, 2.0)] == [True] * 4
    collapsed = sde_picture(0.0, 100, PULLS[1])
    assert np.ptp(collapsed.panels[0].frames[-1, :, 1]) < 0.02
    assert "All 2,000 walkers end in one point." in collapsed.text


@pytest.mark.parametrize(
    ("share", "pull", "line"),
    [
        (0.0, PULLS[0], "a step down = growth + 0.5 · pull + 0 · noise → 100 % kept"),
        (0.7, PULLS[0], "a step down = growth + 0.745 · pull + 0.7 · noise → 59 % kept"),
        (2.0, PULLS[0], "a step down = growth + 2.5 · pull + 2 · noise → 56 % kept"),
        (0.0, PULLS[1], "a step down = growth + 1 · pull + 0 · noise → one point"),
    ],
)
def test_the_formula_has_the_numbers_of_the_controls(share, pull, line):
    assert sde_picture(share, 100, pull).formula == (line,)


def test_dropping_only_the_noise_collapses():
    assert gap(sde_picture(0.0, 100, PULLS[1])) > 0.5


def test_a_walk_with_steps_that_are_too_long_is_said_to_explode():
    for share, steps, explodes in ((2.0, 5, True), (2.0, 15, True), (2.0, 30, False), (1.0, 5, False), (0.0, 5, False)):
        picture = sde_picture(share, steps, PULLS[0])
        assert ("the walk explodes" in picture.text) is explodes, (share, steps)
        assert picture.formula[0].endswith("it explodes") is explodes


def test_at_one_both_pulls_are_the_reverse_sde():
    a, b = (sde_picture(1.0, 20, pull) for pull in PULLS)
    assert a.text == b.text
    assert "(the reverse SDE)" in a.text


def test_the_noise_stays_the_same_and_the_paths_do_not_cross_without_it():
    assert sde_picture(1.0, 20, PULLS[0]).text == sde_picture(1.0, 20, PULLS[0]).text
    paths = sde_picture(0.0, 50, PULLS[0]).panels[0].frames[:, :, 1]
    order = paths[0].argsort()
    assert (np.diff(paths[:, order], axis=1) > 0).all()


@pytest.mark.parametrize("sde", [VP(), VE()], ids=["vp", "ve"])
def test_noisy_flow_joins_the_ode_and_the_reverse_sde(sde):
    x, t, score = torch.tensor([[0.3], [-1.2]], dtype=torch.float64), 0.4, sde.score(two_humps())
    drift, g = noisy_flow(sde, score, 0.0)
    assert torch.allclose(drift(x, t), sde.flow(score)(x, t), atol=1e-14)
    assert g(t) == 0
    drift, g = noisy_flow(sde, score, 1.0)
    assert torch.allclose(drift(x, t), sde.reverse_drift(score)(x, t), atol=1e-12)
    assert g(t) == sde.g(t)
    assert noisy_flow(sde, score, 2.0)[1](t) == 2 * sde.g(t)
    assert next(solve(noisy_flow(sde, score, 2.0)[0], x, [t, t - 0.01])).isfinite().all()


@pytest.mark.parametrize(
    ("values", "name"), [((-0.1, 10, PULLS[0]), "share"), ((0.0, 0, PULLS[0]), "steps"), ((0.0, 10, "2"), "pull")]
)
def test_bad_values_are_refused_by_name(values, name):
    with pytest.raises(ValueError, match=f"{name} is"):
        sde_picture(*values)


# --- Pictures of why


@pytest.mark.parametrize("share", [0, 0.5, 1])
@pytest.mark.parametrize("steps", [100, 160, 200])
def test_every_noise_has_the_law_of_the_noisy_data_at_every_time(share, steps):
    """The lesson's 4,000 walkers, stopped on the way."""
    vp, times = VP(), figures.down(1.0, 200)[: steps + 1]
    drift, g = noisy_flow(vp, vp.score(two_humps()), share)
    *_, x = sde.euler_maruyama(drift, g, figures.even_normal(4000), times, torch.Generator().manual_seed(3))
    exact = figures.even_data(4000, figures.noised(vp, two_humps(), times[-1]))
    assert figures.wasserstein(x, exact) < 0.02


def test_a_small_step_of_langevin_keeps_the_variance():
    """x + delta s / 2 + sqrt(delta) z from N(0, v): v is missed by delta^2 / 4v only. With delta s it is lost."""
    v, delta = 0.6, 0.01
    after = [(1 - weight * delta / v) ** 2 * v + delta for weight in (0.5, 1.0)]
    assert after[0] - v == pytest.approx(delta**2 / (4 * v), rel=1e-9)
    assert after[1] - v < -0.9 * delta


def test_the_pull_of_the_ode_is_the_predicted_noise_per_sigma():
    """The fold of the lesson: d alpha_bar = -beta alpha_bar dt, and dy / dt = eps dsigma / dt along the exact flow."""
    vp, mixture, t, h = VP(), two_humps(), 0.3, 1e-5

    def sigma(t):
        return vp.noise(t) / vp.signal(t)

    assert (vp.alpha_bar(t + h) - vp.alpha_bar(t - h)) / (2 * h) == pytest.approx(-vp.beta(t) * vp.alpha_bar(t))
    x = torch.tensor([[0.3], [-1.2]], dtype=torch.float64)
    dx = vp.flow(vp.score(mixture))(x, t)
    dy = dx / vp.signal(t) + vp.beta(t) / 2 * x / vp.signal(t)
    slope = (sigma(t + h) - sigma(t - h)) / (2 * h)
    torch.testing.assert_close(dy, slope * mixture.eps(x, vp.alpha_bar(t)), rtol=1e-6, atol=1e-6)


def test_a_small_step_of_ddpm_is_a_step_with_the_whole_score():
    x, eps, ab = 0.7, -0.4, 0.6
    for beta in (1e-3, 1e-4):
        exact = (x - beta * eps / math.sqrt(1 - ab)) / math.sqrt(1 - beta)
        small = x + beta / 2 * x + beta * process.score_from_eps(number(eps), ab).item()
        assert abs(exact - small) < beta**2


def test_settling_comes_to_the_noisy_data_and_stays():
    found, vp = figures.settling((5, 200, 400), 0.2), VP()
    clean, noise = (
        figures.even_data(20_000, two_humps()),
        torch.randn(20_000, generator=torch.Generator().manual_seed(1)),
    )
    noised = vp.signal(0.2) * clean + vp.noise(0.2) * noise.double()
    off = {count: figures.wasserstein(x, noised) for count, x in found.items()}
    assert off[5] > 1
    assert off[200] < 0.05
    assert off[400] < 0.05


def test_early_mistakes_are_repaired_by_noise_and_late_ones_are_not():
    race = figures.mistake_race()
    perfect, early, late = (dict(zip(figures.SHARES, row, strict=True)) for row in race.values())
    assert early[0.0][0] == pytest.approx(0.305, abs=2e-3)
    assert early[1.0][0] == pytest.approx(0.047, abs=5e-3)
    means = [mean for mean, _ in early.values()]
    assert means == sorted(means, reverse=True)
    assert late[0.0][0] == pytest.approx(0.028, abs=1e-3)
    assert late[1.0][0] == pytest.approx(0.053, abs=5e-3)
    assert late[1.0][0] - late[0.0][0] > 3 * late[1.0][1]
    assert late[0.0][0] == min(mean for mean, _ in late.values())
    assert perfect[0.0][0] < 0.005 < perfect[1.0][0] < 0.02


def test_a_mistake_is_the_shift_of_the_predicted_noise():
    vp, x = VP(), torch.tensor([[0.3], [-1.2]], dtype=torch.float64)
    score = vp.score(two_humps())
    wrong = figures.mistaken(vp, score, 0.5, 1.0)
    for t, off in ((1.0, 0.1), (0.6, 0.1), (0.5, 0.0)):
        assert torch.allclose(-vp.noise(t) * wrong(x, t), -vp.noise(t) * score(x, t) + off, atol=1e-12)


def test_a_corrector_repairs_an_early_mistake():
    """50 ODE steps, each with a Langevin step, as in the deeper part."""
    vp, start, truth = VP(), figures.even_normal(4000), figures.even_data(4000, two_humps())
    wrong, x, generator = figures.mistaken(vp, vp.score(two_humps()), 0.5, 1.0), start, torch.Generator().manual_seed(4)
    for t, s in pairwise(figures.down(1.0, 50)):
        x = x + (s - t) * vp.flow(wrong)(x, t)
        x = next(figures.langevin(lambda x, s=s: wrong(x, s), x, 0.2 * vp.noise(s) ** 2, generator))
    assert figures.wasserstein(x, truth) < 0.03


def test_euler_is_lucky_at_one_start_only():
    at = figures.start_errors(torch.tensor([[0.0], [1.0]], dtype=torch.float64), 20)["Euler in t"].flatten()
    assert at[0].item() == pytest.approx(-0.0294, abs=1e-4)
    assert (at[1] - at[0]).item() == pytest.approx(0.0552, abs=1e-4)
    assert list(figures.start_rms(20).values()) == pytest.approx([0.0625, 0.1484, 0.0335], abs=1e-4)
    assert list(figures.start_rms(320).values()) == pytest.approx([0.0038, 0.0191, 0.0022], abs=1e-4)


def test_errors_of_starts_are_straight_lines():
    z = torch.linspace(-3, 3, 7, dtype=torch.float64).unsqueeze(1)
    for error in figures.start_errors(z, 10).values():
        assert error.diff(dim=0).diff(dim=0).abs().max() < 1e-12


def test_the_velocity_is_the_mean_of_its_pairs():
    """Of 400,000 pairs of data and noise, those near a place have this mean eps - x0."""
    generator = torch.Generator().manual_seed(0)
    x0 = two_humps().sample(400_000, generator)[0]
    eps = torch.randn(x0.shape, generator=generator, dtype=torch.float64)
    for place in (-0.4, 0.2, 0.8):
        near = ((0.6 * x0 + 0.4 * eps) - place).abs() < 0.02
        assert figures.velocity(number(place), 0.4).item() == pytest.approx((eps - x0)[near].mean().item(), abs=0.03)


def test_a_step_of_flow_matching_is_a_step_of_ddim():
    times = figures.down(0.999, 20)
    start = figures.even_normal(50)
    *_, straight = solve(figures.velocity, start, times, "euler")
    t = torch.tensor(times[::-1], dtype=torch.float64)
    schedule = schedules.NoiseSchedule((1 - t) ** 2 / ((1 - t) ** 2 + t**2))
    by_ddim = samplers.sample(samplers.ddim(two_humps().network(schedule), start / math.hypot(0.001, 0.999), schedule))
    assert torch.allclose(straight, by_ddim, atol=1e-10)


def test_bend_of_a_circle():
    angle = torch.linspace(0, math.pi, 101, dtype=torch.float64)
    assert figures.bend(torch.stack([angle.sin(), 0 * angle], 1)) == pytest.approx(1)


def test_every_figure_is_drawn_and_says_its_numbers(monkeypatch):
    said = []
    monkeypatch.setattr(figures.plots, "show", lambda fig, text: said.append(text))
    for draw in (figures.show_paths, figures.show_settling, figures.show_start_errors):
        draw()
    figures.show_straight()
    assert "6 of 8 and 5 of 8 walkers end in the upper hump" in said[0]
    assert "Euler in t 0.063" in said[2]
    assert "up to 0.48 away" in said[3]


def ode_and_correction(x, eps, ab, beta, noise):
    """The ODE's drift, and the pull that pays for the noise."""
    ode = -beta / 2 * x + beta * eps / (2 * math.sqrt(1 - ab))
    return ode - noise**2 * beta / 2 * process.score_from_eps(eps, ab)


def euler_by_automatic_slope(variable, x_t, eps, ab_t, ab_s):
    """Writes sigma as a function of the variable and lets autograd differentiate it."""
    powers = {"sigma": 1.0, "sigma squared": 0.5}
    sigma_t, sigma_s = (torch.tensor((1 / ab - 1) ** 0.5, dtype=torch.float64) for ab in (ab_t, ab_s))
    to_sigma = torch.exp if variable == "log sigma" else lambda u: u ** powers[variable]
    u_t, u_s = (s.log() if variable == "log sigma" else s ** (1 / powers[variable]) for s in (sigma_t, sigma_s))
    slope = torch.autograd.functional.jacobian(to_sigma, u_t)
    return (x_t / ab_t**0.5 + (u_s - u_t) * slope * eps) * ab_s**0.5


def euler_from_ddim(variable, x_t, eps, ab_t, ab_s):
    """DDIM with the noise it takes out multiplied by what the other variable's straight line makes of it."""
    sigma_t, sigma_s = math.sqrt(1 / ab_t - 1), math.sqrt(1 / ab_s - 1)
    change = {
        "sigma": 1.0,
        "sigma squared": (sigma_s + sigma_t) / (2 * sigma_t),
        "log sigma": math.log(sigma_t / sigma_s) / (1 - sigma_s / sigma_t),
    }[variable]
    y = x_t / math.sqrt(ab_t)
    return math.sqrt(ab_s) * y + change * (rotated(x_t, eps, ab_t, ab_s) - math.sqrt(ab_s) * y)


def trace_by_jacobian(net, x, t, v):
    rows = torch.autograd.functional.jacobian(lambda x: net(x, t).sum(0), x)  # (d, B, d)
    return torch.einsum("bi,ibj,bj->b", v, rows, v)


def bits_with_library(x, mean, std, ab):
    """The exact trace along the flow, integrated by the library's RK4 in time; alpha_bar(t) = exp(-t)."""
    vp = sde.VP(1.0, 1.0, T := -math.log(ab))
    data = GaussianMixture([1.0], mean[None], std.square().diag()[None])
    grid = [T * (i / 60) ** 2 for i in range(61)]
    log_p = sde.log_likelihood(vp.flow(vp.score(data)), x, grid, sde.standard_normal, method="rk4")
    return sde.bits_per_dim(log_p, x.shape[1])


def bits_one_by_one(x, mean, std, ab):
    prices = []
    for point in x:
        price = 0.0
        for value, m, s in zip(point.tolist(), mean.tolist(), std.tolist(), strict=True):
            wide = math.hypot(ab**0.5 * s, (1 - ab) ** 0.5)
            end = ab**0.5 * m + wide * (value - m) / s
            price -= math.log2(wide / s) - (end**2 + math.log(2 * math.pi)) / math.log(4)
        prices.append(price / len(point))
    return torch.tensor(prices, dtype=torch.float64)


def first_euler_step():
    """From 0.7, data N(1, 1/4), constant beta = 1: half a unit of time down the probability-flow ODE from T = 4."""
    vp, mixture = sde.VP(1.0, 1.0, 4.0), oracle.GaussianMixture([1.0], [[1.0]], [[[0.25]]])
    return next(solve(vp.flow(vp.score(mixture)), number(0.7), [4.0, 3.5], "euler")).item()


def divergence_of_a_matrix(probe):
    """Hutchinson's estimate for the field x -> A x with A = ((0.1, -0.2), (-0.2, 0.5))."""
    a = torch.tensor([[0.1, -0.2], [-0.2, 0.5]], dtype=torch.float64)
    x, probe = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([probe], dtype=torch.float64)
    return sde.divergence(lambda x, t: x @ a.T, x, 0.0, probe)[1].item()


ANSWERS = {
    "first-euler-step": first_euler_step,
    "step-of-velocity": lambda: next(solve(lambda x, t: 0 * x + 0.4, number(0.7), [0.5, 0.25], "euler")).item(),
    "continuous-beta": lambda: 1000 * schedules.linear().beta[1000].item(),
    "one-sign-vector": lambda: divergence_of_a_matrix([1.0, -1.0]),
    "four-times": lambda: (sde.bits_per_dim(number(0) - 3 * math.log(4), 3) - sde.bits_per_dim(number(0), 3)).item(),
}


RIGHT = {
    "continuous_alpha_bar": (
        lambda t, first, last, N: (-t * N * (2 * first + (last - first) * t) / 2).exp(),
        lambda t, first, last, N: torch.tensor(
            [sde.VP(N * first, N * last).alpha_bar(u) for u in t.tolist()], dtype=torch.float64
        ),
    ),
    "sde_step": (
        lambda x, drift, g, h, z: torch.add(x, drift, alpha=h) + (g**2 * abs(h)) ** 0.5 * z,
        lambda x, drift, g, h, z: sum((x, drift.mul(h), z.mul(g).mul(max(h, -h) ** 0.5))),
    ),
    "down_drift": (
        ode_and_correction,
        lambda x, eps, ab, beta, noise: beta * ((1 + noise**2) * eps * (1 - ab) ** -0.5 - x) / 2,
    ),
    "euler_in": (euler_by_automatic_slope, euler_from_ddim),
    "hutchinson": (
        lambda net, x, t, v: ((net(x + 1e-4 * v, t) - net(x - 1e-4 * v, t)) * v).sum(1) / 2e-4,
        trace_by_jacobian,
    ),
    "bits": (bits_with_library, bits_one_by_one),
}


CLAIMS = {
    "4.04": lambda: 1e5 * linear().alpha_bar[-1],
    "4.32": lambda: 1e5 * VP().alpha_bar(1.0),
}
