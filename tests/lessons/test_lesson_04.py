"""Lesson 04: its pictures, the answers to its questions, and right answers to its exercises."""

import math
import re
from itertools import pairwise

import pytest
import torch
from by_hand import guided_bill, number, renoised, tilde

from lessons_src import data, oracle, process, samplers, schedules
from lessons_src.lessons import digit_runs
from lessons_src.lessons.lesson_04 import chain, explorer, figures, leap
from lessons_src.schedules import cosine, linear

TIMES = [1000, 500, 0]


@pytest.fixture
def shown(monkeypatch):
    """The sentences of the figures shown, in order."""
    sentences = []
    monkeypatch.setattr(figures.plots, "show", lambda fig, text: sentences.append(text))
    monkeypatch.setattr(figures.plots, "image_rows", lambda rows, text: sentences.append(text))
    monkeypatch.setattr(figures.plots, "images", lambda x, text, **options: sentences.append(text))
    monkeypatch.setattr(figures.plots, "lines", lambda x, series, text, *names, **options: sentences.append(text))
    return sentences


def stored_run():
    """A run of two samples: x_t counts up along the run, and its predictions miss the end by 1, 0.5 and 0."""
    x = torch.linspace(-1, 1, 3).reshape(3, 1, 1, 1, 1).expand(3, 2, 1, 28, 28)
    return x, x[-1] - torch.tensor([1.0, 0.5, 0.0]).reshape(3, 1, 1, 1, 1)


def run_picture(which):
    return explorer.run_picture(which, TIMES, *stored_run(), cosine(), ["a", "b"])


ARGUMENTS = {"explore_run": (TIMES, *stored_run(), cosine(), ["a", "b"])}


def test_a_stored_run_shows_what_was_stored():
    picture = run_picture("all")
    state, guess = picture.panels
    assert state.frames.shape == guess.frames.shape == (3, 2, 28, 28)
    assert state.frames[:, 0, 0, 0].tolist() == [0, 128, 255]
    assert guess.frames[:, 1, 0, 0].tolist() == [128, 191, 255]
    assert picture.formula[1] == "xₜ = 0.70 · signal + 0.71 · noise"


def test_a_stored_run_of_one_sample_says_how_far_its_guess_is():
    picture = run_picture("b")
    assert picture.panels[0].labels == ("b",)
    assert picture.panels[0].frames.shape == (3, 1, 28, 28)
    assert picture.frame_texts[0].startswith("At t = 1000 the state is 0.00 signal and 1.00 noise; x̂₀ differs")
    assert [re.search(r"by (\d\.\d\d) ", text)[1] for text in picture.frame_texts] == ["1.00", "0.50", "0.00"]


# --- The explorer of the first screen


def told(text):
    """Per cent on target, then width and distance from the centre of the clusters, as an explorer says them."""
    found = re.search(r"are ([\d.]+) wide and ([\d.]+) from", text)
    return int(re.search(r"(\d+) % end", text)[1]), *(float(number) for number in (found.groups() if found else ()))


@pytest.mark.parametrize(("spread", "name"), [("large", "beta"), ("small", "beta_tilde")])
def test_the_chain_with_a_spread_is_the_library_s(spread, name):
    line = linear()
    net, start, times = data.ring().network(line), data.noise(5, 2), [1000, 300, 20, 0]
    ours = chain.chain(net, start, line, times, spread, torch.Generator().manual_seed(3))
    library = samplers.ddpm(net, start, line, times, name, torch.Generator().manual_seed(3))
    torch.testing.assert_close(ours, samplers.trajectory(start, library), rtol=0, atol=1e-12)


def test_the_chain_without_a_spread_keeps_the_means_and_no_other_spread_is_known():
    net, start = oracle.GaussianMixture([1.0], [[0.0]], [[[1.0]]]).network(linear()), number(1)
    states = chain.chain(net, start, linear(), spread="none")
    torch.testing.assert_close(states[-1], start * linear().alpha_bar[-1].sqrt())
    with pytest.raises(ValueError, match="spread is 'half'"):
        chain.chain(net, start, linear(), spread="half")


def test_the_dare_has_the_answers_that_the_lesson_gives():
    """Without noise 1000 steps: on target, a third as wide, too far inside. 10 or 20: lost without, not with noise."""
    assert told(explorer.ddpm_picture("none", 1000).text) == (99, 0.05, 1.22)
    for spread in ("small", "large"):
        assert told(explorer.ddpm_picture(spread, 1000).text) == pytest.approx((99, 0.14, 1.4), abs=0.011)
    for count in explorer.COUNTS:
        (alone,) = told(explorer.ddpm_picture("none", count).text)[:1]
        assert alone < 10 if count <= 20 else alone > 90
        assert all(told(explorer.ddpm_picture(spread, count).text)[0] > 85 for spread in ("small", "large"))


def test_without_noise_all_points_run_to_the_middle_and_split_late():
    spread = explorer.ddpm_picture("none", 1000).panels[1].series["these points"]
    assert spread.min() < 0.02
    assert spread[len(spread) * 3 // 4] < 0.02
    assert spread[-1] > 0.8


def test_clusters_are_not_measured_where_hardly_any_point_arrives():
    """Twenty steps without noise leave clusters as wide as the true ones, in the wrong place."""
    assert "Too few to speak of clusters." in explorer.ddpm_picture("none", 20).text
    points = torch.tensor([[1.3, 0.0], [1.3, 0.2], [-1.2, 0.0], [-1.2, 0.2]], dtype=torch.float64)
    assert explorer.clusters(data.ring(), points) == pytest.approx((math.sqrt(0.005), math.sqrt(1.565 + 0.01)))


def test_the_slider_of_time_and_the_plot_run_the_same_way():
    curves = explorer.ddpm_picture("large", 50).panels[1]
    assert curves.marker[0] == curves.x[0] == 0
    assert curves.marker[-1] == curves.x[-1] == 1000


@pytest.mark.parametrize("spread", chain.SPREADS)
def test_the_formula_says_the_step_to_each_shown_state(spread):
    picture = explorer.ddpm_picture(spread, 1000)
    assert len(picture.formula) == len(picture.frame_names) == explorer.FRAMES + 1
    assert picture.formula[0] == "Noise at t = 1000"
    assert picture.formula[1].startswith("t = 976 → 975:")
    assert picture.formula[-1] == "t = 1 → 0:  xₛ = 1.000 · xₜ − 0.010 · ε̂ + 0.000 · z"
    assert picture.formula[1].endswith(" + 0.000 · z") == (spread == "none")


# --- The explorer of one step


def shared(name, spread, s):
    """Per cent of the area that the two curves share, as the explorer says it."""
    return int(re.search(r"share (\d+) %", explorer.leap_picture(name, spread, s).text)[1])


def test_the_second_dare_has_the_answers_that_the_lesson_gives():
    """N(0, 1) wants the large noise, one point the small, at every s; two humps keep 98 % down to 290."""
    for s in (100, 200, 300):
        assert shared("N(0, 1)", "large", s) == shared("one point", "small", s) == 100
        assert shared("N(0, 1)", "small", s) < 98
        assert shared("one point", "large", s) < 98
    assert shared("two humps", "large", 290) == 98
    assert shared("two humps", "large", 280) == 97
    assert shared("two humps", "large", 100) == 71


@pytest.mark.parametrize("name", leap.DATA)
@pytest.mark.parametrize("spread", chain.SPREADS)
def test_the_dots_of_a_step_are_drawn_from_its_curves(name, spread):
    found = leap.leap(name, spread, 200)
    for law, pairs, width in zip(
        (found.true_law, found.our_law), (found.true_pairs, found.our_pairs), found.widths(), strict=True
    ):
        assert torch.trapezoid(law, leap.LINE).item() == pytest.approx(1, abs=0.01)
        mean = torch.trapezoid(leap.LINE * law, leap.LINE).item()
        assert pairs[:, 1].mean().item() == pytest.approx(mean, abs=4 * width / math.sqrt(leap.PAIRS))
        assert pairs[:, 1].std().item() == pytest.approx(width, rel=0.15)


def test_a_step_with_the_mean_alone_shrinks_a_gaussian_by_the_root_of_alpha():
    left = (linear().alpha_bar[400] / linear().alpha_bar[200]).sqrt().item()
    assert leap.leap("N(0, 1)", "none", 200).widths()[1] == pytest.approx(left, rel=1e-3)


# --- Pictures of why


def test_without_fresh_noise_all_threes_are_one():
    alone, with_noise, real = (figures.variety(x) for x in figures.threes().values())
    assert alone < 0.01
    assert with_noise == pytest.approx(real, rel=0.15)


def test_which_variance_is_exact_for_which_data():
    beta, line = linear().beta, linear().alpha_bar
    for t in (2, 10, 50, 500, 1000):
        assert figures.reverse_variance(1.0, t) == pytest.approx(beta[t].item(), abs=1e-12)
        assert figures.reverse_variance(0.0, t) == process.posterior_variance(*line[[t, t - 1]].tolist())
        assert figures.reverse_variance(0.0, t) < figures.reverse_variance(0.01, t) < beta[t]
        assert figures.reverse_variance(4.0, t) > beta[t]
    assert figures.reverse_variance(1.0, 500) == pytest.approx(0.01004004004004, abs=1e-12)
    assert figures.reverse_variance(0.0, 500) == pytest.approx(0.010031355414614, abs=1e-12)


@pytest.mark.parametrize(
    ("data_variance", "steps", "spread", "expected"),
    [
        (1.0, 10, "small", 0.5483290575),
        (1.0, 10, "large", 0.8970181457),
        (0.25, 10, "small", 0.111205617),
        (1.0, 1000, "large", 0.9999),
        (1.0, 1000, "small", 0.9910673764),
        (0.25, 1000, "small", 0.2461252114),
        (0.25, 1000, "large", 0.250752075),
        (1.0, 1000, "none", linear().alpha_bar[-1].item()),
    ],
)
def test_the_variance_of_the_samples(data_variance, steps, spread, expected):
    assert figures.final_variance(data_variance, steps, spread) == pytest.approx(expected, abs=1e-9)


def test_surplus_noise_and_a_last_draw_are_grain():
    """Twenty steps with each size, and the small one with a last draw that should not be there."""
    small, large = (figures.digits_by_ddpm(list(range(10)), 20, spread) for spread in ("small", "large"))
    last_beta = 1 - digit_runs.shipped()[0].schedule.alpha_bar[50].item()
    drawn = small + math.sqrt(last_beta) * torch.randn(small.shape, generator=torch.Generator().manual_seed(10))
    assert 2 * figures.grain(small) < figures.grain(large) < figures.grain(drawn)


def test_the_size_of_the_noise_matters_with_few_steps_and_not_with_a_thousand():
    """Distances to real digits, far apart or close by their standard error, a tenth."""
    score = {(spread, steps): distance for spread, steps, distance, _ in figures.step_counts()}
    assert score["large", 10] > score["small", 10] + 1
    assert abs(score["large", 1000] - score["small", 1000]) < 0.1
    assert abs(score["small", 50] - score["small", 1000]) < 0.1


def test_the_run_to_look_at_can_be_read_and_its_guess_long_before():
    """Only the reader of digits judges: all six finished ones, and all six guesses from t = 700 down."""
    times, x, x0 = digit_runs.digit_run("DDPM, σ² = β̃", 200, "linspace", 1.0, figures.RUN)
    _, reader = digit_runs.shipped()
    for t, guess in zip(times, x0, strict=True):
        assert t > 700 or reader(guess.clamp(-1, 1)).argmax(1).tolist() == list(figures.RUN)
    assert figures.distance(x0[times.index(600)], x[-1]) < 0.6 * figures.distance(x0[0], x[-1])


def test_the_draws_decide_and_not_the_start():
    first, same_start, same_draws = figures.three_runs()
    assert figures.distance(same_start, first) > 20 * figures.distance(same_draws, first)


def test_the_start_dies_out_though_not_in_every_step():
    gaps = figures.start_gaps()
    assert gaps[-1] < 0.1 * gaps[0]
    assert gaps[1] > 0.9 * gaps[0]
    assert 0.05 < sum(after > before for before, after in pairwise(gaps)) / 1000 < 0.3


@pytest.mark.parametrize("name", ["threes", "variances", "step_counts", "three_runs", "run"])
def test_every_figure_says_what_it_shows(name, shown):
    getattr(figures, f"show_{name}")()
    assert len(shown) == 1


def test_beta_misses_one_only_by_the_last_draw():
    """Before the last step the variance is 1; its mean multiplies that by alpha-bar at t = 100."""
    assert figures.final_variance(1.0, 10, "large") == pytest.approx(linear().alpha_bar[100].item(), abs=1e-12)


def ddpm_step_by_posterior(x_t, eps, z, ab_t, ab_s, variance):
    mean, small = process.posterior(x_t, process.predict_x0(x_t, eps, ab_t), ab_t, ab_s)
    sigma = {"beta": 1 - ab_t / ab_s, "beta_tilde": small}[variance] ** 0.5
    return mean + (sigma if ab_s < 1 else 0) * z


def ddpm_step_renoised(x_t, eps, z, ab_t, ab_s, variance):
    last = ab_s == 1.0
    size = 0.0 if last else tilde(ab_t, ab_s) if variance == "beta_tilde" else (ab_s - ab_t) / ab_s
    return torch.add(renoised(x_t, eps, ab_t, ab_s, tilde(ab_t, ab_s)), z, alpha=size**0.5)


def library_ddpm(net, x, alpha_bar, times, generator):
    schedule = schedules.NoiseSchedule(alpha_bar)
    return samplers.sample(samplers.ddpm(net, x, schedule, times, generator=generator))


def ddpm_by_index(net, x, alpha_bar, times, generator):
    for i in range(len(times) - 1):
        ab_t, ab_s = float(alpha_bar[times[i]]), float(alpha_bar[times[i + 1]])
        eps = net(x, torch.tensor([times[i]] * len(x)))
        x = renoised(x, eps, ab_t, ab_s, tilde(ab_t, ab_s))
        if i < len(times) - 2:
            x = x + tilde(ab_t, ab_s) ** 0.5 * torch.randn(x.shape, generator=generator, dtype=x.dtype)
    return x


def variance_unrolled(alpha_bar, times):
    """The start and every draw, each shrunk by all later steps."""
    added = [(alpha_bar[s] - alpha_bar[t]).item() for t, s in pairwise(times[:-1])]
    return alpha_bar[times[0]].item() + sum(added)


def ddpm_mean(signal_t, signal_s, x):
    """Mean of a DDPM step on the exact predictor of N(0, 1), from the roots of alpha_bar at t and s."""
    ab_t, ab_s = signal_t**2, signal_s**2
    x0 = oracle.GaussianMixture([1.0], [[0.0]], [[[1.0]]]).x0(number(x), ab_t)
    return process.posterior(number(x), x0, ab_t, ab_s)[0].item()


ANSWERS = {
    "hand-first": lambda: ddpm_mean(0.288, 0.48, 1.0) + 0.8 * 0.5,
    "hand-last": lambda: ddpm_mean(0.8, 1.0, ddpm_mean(0.48, 0.8, 1.0) + 0.8 * -1),
    "variance-at-the-end": lambda: ddpm_mean(*schedules.linear().alpha_bar[[1, 0]].sqrt().tolist(), 1.0) ** 2,
    "the-bill": lambda: guided_bill(samplers.ddpm, 250),
}


RIGHT = {
    "posterior_variance": (
        process.posterior_variance,
        lambda ab_t, ab_s: 1 / (1 / (1 - ab_s) + ab_t / (ab_s - ab_t)),
    ),
    "posterior_mean": (
        lambda x_t, x0, ab_t, ab_s: process.posterior(x_t, x0, ab_t, ab_s)[0],
        lambda x_t, x0, ab_t, ab_s: renoised(
            x_t, (x_t - ab_t**0.5 * x0) / (1 - ab_t) ** 0.5, ab_t, ab_s, tilde(ab_t, ab_s)
        ),
    ),
    "mean_from_eps": (
        lambda x_t, eps, ab_t, ab_s: process.posterior(x_t, process.predict_x0(x_t, eps, ab_t), ab_t, ab_s)[0],
        lambda x_t, eps, ab_t, ab_s: renoised(x_t, eps, ab_t, ab_s, tilde(ab_t, ab_s)),
    ),
    "ddpm_step": (ddpm_step_by_posterior, ddpm_step_renoised),
    "ddpm_sample": (library_ddpm, ddpm_by_index),
    "final_variance": (
        lambda ab, times: ab[times[-2]].item(),
        variance_unrolled,
    ),
}


CLAIMS = {
    "0.01": lambda: linear().beta[1] / (1 - linear().alpha_bar[1]).sqrt(),
    "0.9999": lambda: linear().alpha_bar[1],
}
