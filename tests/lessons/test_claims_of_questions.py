"""What questions and feedback claim in words, computed: each test names the items whose text it holds."""

import copy
import math
from itertools import pairwise

import pytest
import torch
from by_hand import number

from lessons_src import data, evaluation, measurements, process, weights
from lessons_src.guidance import blend
from lessons_src.lessons.lesson_09.front import MARGIN, REFERENCE, as_good, difference, find, reaching
from lessons_src.losses import Denoising, Samples
from lessons_src.networks import UNET_PRESETS, NoisePredictor, PointMLP
from lessons_src.oracle import GaussianMixture, exact_flow
from lessons_src.samplers import ddim, ddpm, sample
from lessons_src.schedules import cosine, linear, time_grid
from lessons_src.solvers import SOLVERS, heun
from lessons_src.training import Recipe, Trainer


def normal(mean, variance=1.0):
    return GaussianMixture([1.0], [[mean]], [[[variance]]])


def draws(n, dim, seed):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rms(x):
    return x.square().sum(1).mean().sqrt().item()


def even_times(top, steps):
    return [round(value) for value in torch.linspace(top, 0, steps + 1).tolist()]


def test_the_shipped_network_is_small_and_trained_for_long():
    """03 flat-curve."""
    card = weights.load("digits")[1]
    assert tuple(card["arguments"]["channels"]) == tuple(UNET_PRESETS["small"]["channels"])
    assert card["recipe"]["steps"] == 6000


def test_one_unclipped_call_ruins_eps_on_the_cosine_schedule():
    """03 eps-on-cosine and worst-change."""
    ring, levels = data.ring(), cosine()
    x0, label = ring.sample(20_000, torch.Generator().manual_seed(0))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = NoisePredictor(PointMLP(8), levels)
    trainer = Trainer(net, Denoising(), Samples(x0.float(), label), Recipe(600, 256, 2e-3, warmup=10, ema=0.98))
    for _ in trainer.run():
        pass
    trained = copy.deepcopy(trainer.ema).eval()

    def clipped(x, t):
        x0 = process.predict_x0(x, trained(x, t), levels.alpha_bar[t]).clamp(-2, 2)
        return process.predict_eps(x, x0, levels.alpha_bar[t])

    start = draws(1000, 2, 3).float()

    def on_target(eps_fn, times):
        return evaluation.on_target(ring, sample(ddim(eps_fn, start, levels, times)).double())

    assert on_target(trained, even_times(1000, 20)) < 0.1
    assert on_target(trained, even_times(980, 20)) > 0.5
    assert on_target(clipped, even_times(1000, 20)) > 0.5
    in_x0, next_level = ((1 - levels.alpha_bar) / levels.alpha_bar).sqrt()[1000].item(), levels.alpha_bar[950]
    assert in_x0 == pytest.approx(20_000, rel=0.02)
    assert (next_level.sqrt() * in_x0 - (1 - next_level).sqrt()).item() == pytest.approx(1600, rel=0.02)


def test_the_start_of_ddpm_dies_out_but_not_in_every_step():
    """04 start-or-noise."""
    runs = (
        ddpm(
            data.two_humps().network(linear()),
            draws(500, 1, seed),
            linear(),
            generator=torch.Generator().manual_seed(1),
        )
        for seed in (5, 6)
    )
    gaps = [rms(a.x - b.x) for a, b in zip(*runs, strict=True)]
    assert gaps[-1] < 0.1 * gaps[0]
    assert 0.05 < sum(after > before for before, after in pairwise(gaps)) / len(gaps) < 0.3


def test_24_and_25_steps_of_the_official_grid_cost_and_give_the_same():
    """05 official-grid: N(1, 4), for which the whole run is a straight line in x_T."""
    off = []
    for steps in (24, 25):
        times = time_grid(linear(), steps, "ddim_uniform")
        assert len(times) == 26
        at_0, at_1 = sample(
            ddim(normal(1, 4).network(linear()), torch.tensor([[0.0], [1.0]], dtype=torch.float64), linear(), times)
        )
        off.append(abs(at_0.item() - 1) + abs((at_1 - at_0).item() - 2))
    assert off[0] < off[1] < 1.01 * off[0]


def test_who_wins_ten_steps_on_digits():
    """05 digits-winner: DDPM with little noise, then DDIM, then DDPM with much, by two standard errors of DDIM."""
    scores = {row["sampler"]: row["frechet"] for row in measurements.load("steps") if row["steps"] == 10}
    error = find(measurements.load("pareto"), "DDIM", 10)["standard error"]
    assert sorted(scores, key=scores.get) == ["DDPM, σ² = β̃", "DDIM", "DDPM, σ² = β"]
    assert scores["DDIM"] - scores["DDPM, σ² = β̃"] > 2 * error
    assert scores["DDPM, σ² = β"] > 2 * scores["DDIM"]


def test_where_digits_are_closest_to_real_ones():
    """06 digits-and-w, and its card: 1.2; 1, 3 and 10 by the errors of differences on the same noise."""
    rows = {row["w"]: row for row in measurements.load("guidance")}
    best = min(rows, key=lambda w: rows[w]["frechet"])
    assert best == 1.2
    for w in (0, 1, 3, 10):
        parts = zip(rows[w]["frechet without a tenth"], rows[best]["frechet without a tenth"], strict=True)
        error = measurements.jackknife_error([a - b for a, b in parts])
        assert rows[w]["frechet"] - rows[best]["frechet"] > 3 * error
    assert rows[1]["frechet"] < 0.5 * rows[3]["frechet"], "near 1, of the answers offered"
    assert min(rows[3]["accuracy"], rows[10]["accuracy"]) > 0.99, "every digit is read right there"


def test_two_unit_gaussians_are_guided_to_the_tilted_law():
    """06 not-tilted: p(x) p(y|x)^w is N(2w, 1) for N(0, 1) and N(2, 1), with noise as without."""
    x = torch.linspace(-3, 9, 7, dtype=torch.float64).unsqueeze(1)
    for ab in (0.0784, 0.5, 0.9):
        guided = blend(normal(0).eps(x, ab), normal(2).eps(x, ab), 3.0)
        torch.testing.assert_close(guided, normal(6).eps(x, ab))


def test_who_lands_closer_on_equal_steps_of_t():
    """08 ddim-or-euler: N(1, 1/4), beta 1, from t = 4; root mean square over the law and from x = 0.7."""
    law, steps = normal(1, 0.25), 20
    spread = math.sqrt(1 - 0.75 * math.exp(-4))
    z = torch.linspace(-5, 5, 2001, dtype=torch.float64).unsqueeze(1)
    z = torch.cat([z, torch.full((1, 1), (0.7 - math.exp(-2)) / spread)])
    weight = torch.exp(-(z[:-1] ** 2) / 2) / torch.exp(-(z[:-1] ** 2) / 2).sum()

    def off(step, levels):
        x = math.exp(-2) + spread * z
        for ab_t, ab_s in pairwise(levels):
            x = step(x, law.eps(x, ab_t), ab_t, ab_s)
        error = x - (1 + 0.5 * z)
        return (weight * error[:-1] ** 2).sum().sqrt().item(), abs(error[-1].item())

    def euler(x, eps, ab_t, ab_s):
        return x + math.log(ab_s / ab_t) / 2 * (x - eps / math.sqrt(1 - ab_t))

    def by_ddim(x, eps, ab_t, ab_s):
        return math.sqrt(ab_s) * process.predict_x0(x, eps, ab_t) + math.sqrt(1 - ab_s) * eps

    angle = math.acos(math.exp(-2))
    even = [math.exp(-4 * (1 - i / steps)) for i in range(steps + 1)]
    angles = [math.cos(angle * (1 - i / steps)) ** 2 for i in range(steps + 1)]
    assert off(euler, even) == pytest.approx((0.063, 0.002), abs=6e-4)
    assert off(by_ddim, even) == pytest.approx((0.148, 0.084), abs=6e-4)
    assert off(by_ddim, angles)[0] == pytest.approx(0.033, abs=6e-4)


def test_ddim_is_euler_in_a_second_pair_of_variables():
    """08 ddim-is-euler: x / sqrt(1 - ab) as a function of 1 / sigma, with slope x0-hat."""
    x, eps, ab_t, ab_s = number(0.7), number(0.4), 0.3, 0.8
    x0 = process.predict_x0(x, eps, ab_t)
    rise = math.sqrt(ab_s / (1 - ab_s)) - math.sqrt(ab_t / (1 - ab_t))
    torch.testing.assert_close(
        (math.sqrt(ab_s) * x0 + math.sqrt(1 - ab_s) * eps) / math.sqrt(1 - ab_s), x / math.sqrt(1 - ab_t) + rise * x0
    )


def test_heun_needs_a_start_below_the_end_of_the_cosine_schedule():
    """09 heun-on-cosine; the numbers of heun-below-the-end are in the lesson's own tests."""
    ring, levels, x = data.ring(), cosine(), draws(64, 2, 0)
    off = {}
    for top in (1000, 980):
        end = exact_flow(ring.eps, x, levels.alpha_bar[top].item())
        for name, sampler, steps in (("Heun", heun, 8), ("DDIM", ddim, 16)):
            off[name, top] = rms(sample(sampler(ring.network(levels), x, levels, even_times(top, steps))) - end)
    assert off["Heun", 1000] > 100 * off["DDIM", 1000]
    assert off["Heun", 980] < 2 * off["DDIM", 980]


def test_who_else_is_thrown_off_at_the_end_of_the_cosine_schedule():
    """09 cosine-start: those that average eps."""
    ring, levels, x = data.ring(), cosine(), draws(64, 2, 0)
    end = exact_flow(ring.eps, x, levels.alpha_bar[1000].item())
    off = {}
    for name in ("DDIM", "Heun", "DPM-Solver-2", "DPM-Solver++(2S)", "DPM-Solver++(2M)", "UniPC-2"):
        times = even_times(1000, SOLVERS[name].steps(16))
        off[name] = rms(sample(SOLVERS[name].run(ring.network(levels), x, levels, times)) - end)
    assert min(off.pop("Heun"), off.pop("DPM-Solver-2")) > 1
    assert max(off.values()) < 0.06


def test_what_the_stored_front_shows():
    """09 how-few, and what the lesson and its deeper part read from the front."""
    rows = measurements.load("pareto")
    thousand = find(rows, *REFERENCE)
    noisy = ("DDPM", "SDE-DPM-Solver++(2M)")
    odes = [row for row in rows if row["solver"] not in noisy]
    assert all(difference(row, thousand).low > 0 for row in odes), "no ODE solver, with any number of calls"
    for solver, nfe, score in (
        ("DDPM", 1000, 0.88), ("UniPC-2", 10, 1.62), ("UniPC-2", 50, 1.69), ("DDIM", 50, 1.68), ("DDIM", 1000, 1.72),
        ("DDPM", 15, 1.28), ("SDE-DPM-Solver++(2M)", 8, 1.17),
    ):  # fmt: skip
        assert find(rows, solver, nfe)["frechet"] == pytest.approx(score, abs=0.005)
    floor, spread = thousand["floor"], thousand["floor_spread"]
    assert (floor, spread) == pytest.approx((0.72, 0.09), abs=0.005)
    assert min(row["frechet"] for row in rows) > floor
    near = [row["frechet"] for row in rows if row["solver"] == "DDPM" and row["nfe"] >= 30]
    assert max(near) < floor + 3 * spread, "DDPM comes near the floor"
    fifty = [row for row in odes if row["nfe"] == 50]
    assert len(fifty) == 7
    assert (min(row["frechet"] for row in fifty), max(row["frechet"] for row in fifty)) == pytest.approx(
        (1.68, 1.72), abs=0.005
    )
    for gap in (difference(row, thousand) for row in fifty):
        assert gap.value > 0.795
    for solver, nfe in (("DDPM", 15), ("SDE-DPM-Solver++(2M)", 8)):
        passes = [r["nfe"] for r in rows if r["solver"] == solver and all(difference(r, o).high < 0 for o in fifty)]
        assert min(passes) == nfe, "fresh noise passes their end"
    assert {row["solver"]: row["nfe"] for row in reaching(rows, thousand)} == {"DDPM": 250}
    small = [difference(find(rows, "DDPM", nfe), thousand) for nfe in (30, 50, 100)]
    assert all(gap.high > MARGIN > gap.value and gap.low < 0 for gap in small), "not shown, either way"
    assert min(gap.high - gap.value for gap in small) > MARGIN, "the interval is wider than the margin"
    end = find(rows, "UniPC-2", 50)
    assert as_good(find(rows, "UniPC-2", 10), find(rows, "DDIM", 50))
    assert 0 < difference(end, find(rows, "UniPC-2", 15)).low < difference(end, find(rows, "UniPC-2", 15)).high < MARGIN
    for nfe in (5, 50):
        assert difference(find(rows, "DDIM", nfe), find(rows, "DDPM", nfe)).low > 0


def test_luck_cancels_only_between_solvers_without_fresh_noise():
    """09, what compare shows: pairs gain a factor of four between two ODE solvers, and nothing against DDPM."""
    rows = measurements.load("pareto")

    def gained(a, b):
        alone = math.hypot(measurements.resampled(a).std(), measurements.resampled(b).std())
        return alone / difference(a, b).error

    assert gained(find(rows, "UniPC-2", 10), find(rows, "DPM-Solver++(2M)", 10)) > 3.9
    assert gained(find(rows, "UniPC-2", 50), find(rows, "UniPC-2", 8)) > 3.9
    for solver, nfe in (("UniPC-2", 10), ("DDPM", 50)):
        assert gained(find(rows, solver, nfe), find(rows, *REFERENCE)) < 1.1


def test_fresh_noise_repairs_early_errors_only():
    """09 why-not-the-ode: a predictor off by 0.1 above t = 500, then up to t = 100."""
    humps, levels, start = data.two_humps(), linear(), draws(5000, 1, 7)
    data_mean = 0.3 * -1 + 0.7 * 0.8

    def off(sampler, wrong, **options):
        def eps_fn(x, t):
            return humps.eps(x, levels.alpha_bar[t]) + 0.1 * wrong(t).unsqueeze(1)

        return abs(sample(sampler(eps_fn, start, levels, time_grid(levels, 200), **options)).mean().item() - data_mean)

    noise = {"generator": torch.Generator().manual_seed(8)}
    assert off(ddim, lambda t: t > 500) > 4 * off(ddpm, lambda t: t > 500, **noise)
    assert off(ddpm, lambda t: t <= 100, **noise) > 0.5 * off(ddim, lambda t: t <= 100)
