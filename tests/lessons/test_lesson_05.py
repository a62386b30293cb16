"""Lesson 05: its pictures, the answers to its questions, and right answers to its exercises."""

import math
import re
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
import torch
from by_hand import library_ddim, number, renoised, rotated, tilde, walk
from torch.nn import functional as F

from lessons_src import data, measurements, process, samplers, schedules, weights
from lessons_src.evaluation import on_target
from lessons_src.guidance import classifier_free
from lessons_src.lessons import digit_runs
from lessons_src.lessons.lesson_05 import explorer, figures
from lessons_src.oracle import GaussianMixture
from lessons_src.samplers import State, ddim, sample
from lessons_src.schedules import GRIDS, time_grid
from lessons_src.show.panels import grey
from lessons_src.show.widgets import rough_first


@pytest.mark.parametrize(
    ("steps", "grid", "nfe"), [(1, "linspace", 1), (10, "quadratic", 10), (24, "ddim_uniform", 25)]
)
def test_ddim_counts_its_evaluations(steps, grid, nfe):
    text = explorer.ddim_picture(steps, grid).text
    assert text.startswith(f"{nfe} network call")


def test_points_in_the_middle_are_in_no_cluster():
    """One step takes every point to the average of the data: nearest to its own mode, and a failure all the same."""
    one, ten = explorer.ddim_picture(1, "linspace"), explorer.ddim_picture(10, "linspace")
    assert "at the end 0 % of the points are on target" in one.text
    assert "at the end 86 % of the points are on target" in ten.text
    assert "colour." not in ten.text, "without fresh noise the flow decides the cluster"


def test_with_fresh_noise_points_arrive_in_other_clusters():
    hit, own = re.findall(r"(\d+) %", explorer.ddim_picture(20, "linspace", eta=1.0).text)
    assert int(hit) > 80
    assert int(own) < 30


def plain_run(label: list[int], steps: int, w: float, grid: str = "linspace") -> Iterator[State]:
    net, _ = weights.load("digits")
    noise, _ = measurements.start_noise(len(label))
    times = time_grid(net.schedule, steps, grid)
    return ddim(classifier_free(net, torch.tensor(label), w), noise, net.schedule, times)


def plain_ddim(label: list[int], steps: int, w: float) -> np.ndarray:
    return grey(sample(plain_run(label, steps, w))[:, 0])


@pytest.mark.parametrize("steps", [1, 10, 100])
def test_the_last_frame_is_the_sample(steps):
    picture = explorer.digit_steps_picture("DDIM", steps, "linspace")
    state, long = (panel.frames for panel in picture.panels)
    assert len(state) == min(steps, 20) + 1
    assert len(long) == 1
    assert (picture.frame_names[0], picture.frame_names[-1]) == ("t = 1000", "t = 0")
    np.testing.assert_array_equal(state[-1], plain_ddim(list(explorer.DIGITS), steps, 1.0))
    assert picture.text.startswith(f"DDIM, {steps} step")


def test_below_the_run_stand_the_digits_of_1000_steps_from_the_same_noise():
    (row,) = (row for row in measurements.load("steps") if (row["sampler"], row["steps"]) == ("DDIM", 1000))
    for sampler in explorer.SAMPLERS:
        long = explorer.digit_steps_picture(sampler, 3, "quadratic").panels[1].frames
        np.testing.assert_array_equal(long[0], grey(measurements.digits_of(row)[: len(explorer.DIGITS), 0]))


@pytest.mark.parametrize("grid", GRIDS)
def test_every_frame_is_the_state_at_its_time(grid):
    picture = explorer.digit_steps_picture("DDIM", 3, grid)
    for frame, state in enumerate(plain_run(list(explorer.DIGITS), 3, 1.0, grid)):
        np.testing.assert_array_equal(picture.panels[0].frames[frame + 1], grey(state.x[:, 0]))
        assert picture.frame_names[frame + 1] == f"t = {state.t}"


def test_the_distance_to_a_long_run_shrinks_with_the_steps():
    texts = [explorer.digit_steps_picture("DDIM", steps, "linspace").text for steps in (1, 5, 20, 100)]
    away = [float(re.search(r"end ([\d.]+) a pixel", text)[1]) for text in texts]
    assert away == sorted(away, reverse=True)
    assert away[0] > 0.3
    assert away[-1] < 0.1


@pytest.mark.parametrize("sampler", explorer.SAMPLERS)
def test_every_sampler_starts_from_the_same_noise(sampler):
    state, _ = (panel.frames for panel in explorer.digit_steps_picture(sampler, 3, "quadratic").panels)
    np.testing.assert_array_equal(state[0], grey(measurements.start_noise(len(explorer.DIGITS))[0][:, 0]))


def test_the_explorers_open_with_their_best_picture():
    steps = explorer.explore_digit_steps()
    assert steps.picture.text == explorer.digit_steps_picture("DDIM", 10, "linspace").text
    short = rough_first(explorer.digit_steps_picture, 5, 10, sampler="DDIM", grid="linspace")
    assert len(list(short)) == 1


@pytest.mark.parametrize(("grid", "fewest"), [("linspace", 22), ("quadratic", 10)])
def test_the_dare_has_the_answer_that_the_lesson_gives(grid, fewest):
    """22 steps and 10 bring 95 % of the points on target, and the lesson's own loop runs on the same points."""

    def hit(steps):
        end = torch.from_numpy(explorer.ddim_picture(steps, grid).panels[0].frames[-1]).double()
        return on_target(data.ring(), end)

    assert next(steps for steps in range(1, 101) if hit(steps) >= 0.95) == fewest
    start = explorer.ddim_picture(1, grid).panels[0].frames[0]
    np.testing.assert_array_equal(start, data.noise(300, 2, seed=2).float())


# --- Pictures of why


@pytest.fixture
def shown(monkeypatch):
    """The sentences of the figures shown, in order."""
    sentences = []
    monkeypatch.setattr(figures.plots, "show", lambda fig, text: sentences.append(text))
    return sentences


def test_the_walk_by_hand_is_the_library_s():
    theta = figures.angles(figures.BY_HAND)
    assert figures.plumb_walk(theta) == pytest.approx([1, 0.936, 0.89856, 0.718848], abs=1e-12)
    assert [math.degrees(angle) for angle in theta] == pytest.approx([73.7398, 53.1301, 36.8699, 0], abs=1e-4)
    schedule = schedules.NoiseSchedule(torch.tensor(figures.BY_HAND[::-1], dtype=torch.float64))
    net = GaussianMixture([1.0], [[0.0]], [[[1.0]]]).network(schedule)
    path = [state.x.item() for state in ddim(net, number(1), schedule)]
    assert figures.plumb_walk(theta)[1:] == pytest.approx(path, abs=1e-12)


def test_twice_the_steps_half_the_error():
    theta = figures.angles(figures.BY_HAND)
    errors = []
    for _ in range(8):
        errors.append(1 - figures.plumb_walk(theta)[-1])
        theta = figures.halved(theta)
    ratios = [a / b for a, b in pairwise(errors)]
    assert ratios == sorted(ratios)
    assert ratios[0] == pytest.approx(1.923, abs=1e-3)
    assert ratios[-1] == pytest.approx(2, abs=0.01)
    even = (1 - math.cos(figures.angles(figures.BY_HAND)[0] / 1000) ** 1000) * 1000
    assert even == pytest.approx(figures.angles(figures.BY_HAND)[0] ** 2 / 2, abs=1e-3)


@pytest.mark.parametrize("steps", [5, 10, 20, 40])
def test_what_doubling_changes_is_what_is_left_to_change(steps):
    """On digits, from one noise, within a third."""
    few, many = (
        digit_runs.digit_run("DDIM", n, "linspace", 1.0, tuple(range(10)))[1][-1].clamp(-1, 1)
        for n in (steps, 2 * steps)
    )
    (row,) = (r for r in measurements.load("steps") if (r["sampler"], r["steps"]) == ("DDIM", 1000))
    left = (many - measurements.digits_of(row)).square().mean().sqrt()
    assert (few - many).square().mean().sqrt().item() == pytest.approx(left.item(), rel=1 / 3)


def test_the_figures_of_steps_say_what_they_draw(shown):
    figures.show_step()
    figures.show_walks()
    assert "from 65° to 30°" in shown[0]
    assert "Three steps lose 0.281, six lose 0.146" in shown[1]


def test_paths_start_together_and_chords_come_closer(shown):
    at, smooth = figures.one_path("ddim", 1000)
    assert at == sorted(at, reverse=True)
    assert (at[0], at[-1]) == pytest.approx((89.636, 0), abs=1e-3)
    starts = [figures.one_path(sampler, steps)[1][0] for sampler, steps in (("ddpm", 1000), ("ddim", 5))]
    assert starts == [smooth[0]] * 2
    lengths = [figures.one_path(sampler, 1000)[1].diff().abs().sum().item() for sampler in ("ddpm", "ddim")]
    assert lengths[0] > 20 * lengths[1], "a scribble against a curve"
    figures.show_paths()
    ends = [figures.one_path("ddim", steps)[1][-1].item() for steps in (5, 20, 1000)]
    assert ends == pytest.approx([-0.209, -0.869, -0.874], abs=1e-3)
    humps = data.two_humps()
    gaps = [(end - humps.means[:, 0]).abs() / humps.covariances[:, 0, 0].sqrt() for end in ends]
    assert [bool((gap < 2).any()) for gap in gaps] == [False, True, True], "five pieces end between the humps"
    assert "5 straight pieces miss the hump, 20 reach it" in shown[0]
    assert "only 3 of the 20 steps" in shown[0]


def test_the_quadratic_grid_spends_more_of_its_steps_where_the_path_bends():
    assert (figures.below_the_bend(20), figures.below_the_bend(10, "quadratic")) == (3, 4)


def test_with_a_perfect_predictor_surplus_noise_wins_few_steps():
    flow, tilde_, beta = figures.exact_race().values()
    assert [w1 for w1, _ in flow] == pytest.approx([0.22848, 0.09276, 0.04895, 0.02004, 0.00992], abs=1e-4)
    assert [error for _, error in flow] == [0] * 5
    assert all(a + 3 * error < b for (a, _), (b, error) in zip(flow, tilde_, strict=True))
    assert all(b + 3 * error < a for (a, _), (b, error) in zip(flow[:4], beta[:4], strict=True))
    assert beta[4][0] == pytest.approx(flow[4][0], abs=3 * beta[4][1]), "at 100 steps a draw"


def test_with_the_trained_network_the_order_turns_over(shown):
    """Last with up to 20 steps, by two standard errors of DDIM: surplus noise, which was first on the two humps."""
    flow, tilde_, beta = figures.digit_race().values()
    assert all(b > a + 2 * error for (a, error), (b, _) in zip(flow[:3], beta[:3], strict=True))
    assert beta[1][0] > 2 * max(flow[1][0], tilde_[1][0]), "ten steps: more than twice as far as the others"
    assert beta[4][0] < flow[4][0] - 2 * flow[4][1], "at 100 it is ahead of DDIM"
    figures.show_race()
    assert "DDIM 2.1 ± 0.3, DDPM, σ² = β̃ 1.6 ± 0.1, DDPM, σ² = β 4.4. Green band: as many real digits, 0.72" in shown[0]
    scores = {(row["solver"], row["nfe"]): row["frechet"] for row in measurements.load("pareto")}
    assert [w for w, _ in flow] == [scores["DDIM", steps] for steps in figures.COUNTS], "errors of the same runs"
    assert [w for w, _ in tilde_] == [scores["DDPM", steps] for steps in figures.COUNTS]


@pytest.mark.parametrize("steps", [5, 10, 20, 30, 50, 100, 250, 1000])
def test_a_little_fresh_noise_is_ahead_of_ddim_at_every_number_of_steps(steps):
    """By more than two standard errors of the difference; none where a row is compared with itself."""
    gap, error = figures.ddpm_ahead(steps)
    assert gap > 2 * error > 0


def test_fifty_calls_give_what_a_thousand_give():
    """Neither sampler gains more than two standard errors; DDIM ends 1 above real digits, DDPM near them."""
    rows = {(row["solver"], row["nfe"]): row for row in measurements.load("pareto")}
    for solver in ("DDIM", "DDPM"):
        few, many = rows[solver, 50], rows[solver, 1000]
        error = (measurements.resampled(few) - measurements.resampled(many)).std().item()
        assert abs(few["frechet"] - many["frechet"]) < 2 * error < 0.4
    late = [row["frechet"] for (solver, nfe), row in rows.items() if solver == "DDIM" and nfe >= 20]
    assert max(late) - min(late) < 0.1, "DDIM is flat from twenty steps on"
    for (solver, nfe), row in rows.items():
        above = row["frechet"] - row["floor"]
        if solver == "DDPM" and nfe >= 50:
            assert above < 2 * row["floor_spread"]
        if solver == "DDIM" and nfe >= 50:
            assert above == pytest.approx(1, abs=0.05)


def test_ddim_draws_with_fifty_calls_what_it_draws_with_a_thousand():
    """Pixel by pixel; DDPM does not."""
    digits = {(row["sampler"], row["steps"]): measurements.digits_of(row) for row in measurements.load("steps")}
    apart = {
        sampler: (digits[sampler, 50] - digits[sampler, 1000]).square().mean().sqrt().item()
        for sampler in measurements.SAMPLERS
    }
    assert apart.pop("DDIM") < 0.03
    assert min(apart.values()) > 0.5


# --- Numbers of the lesson and of its deeper part


def test_example_of_the_lecture_notes():
    x, eps = torch.tensor([[0.3, -0.4]], dtype=torch.float64), torch.tensor([[0.2, -0.5]], dtype=torch.float64)
    x0 = process.predict_x0(x, eps, 0.8)
    expected = [0.2865752749322626, -0.345207127207719]
    assert samplers.renoise(x0, eps, 0.9).flatten().tolist() == pytest.approx(expected, abs=1e-12)
    mean, variance = process.posterior(x, x0, 0.8, 0.9)
    by_dial = math.sqrt(0.9) * x0 + math.sqrt(0.1 - variance) * eps
    academy = (x - (1 / 9) / math.sqrt(0.2) * eps) / math.sqrt(8 / 9)
    for found in (mean, by_dial, academy):
        assert found.flatten().tolist() == pytest.approx([0.2654934238644734, -0.2925024995382461], abs=1e-12)
    assert variance == pytest.approx(1 / 18)


def test_three_steps_on_other_data_and_schedules():
    by_hand = schedules.NoiseSchedule(torch.tensor(figures.BY_HAND[::-1], dtype=torch.float64))
    two_points = GaussianMixture([0.5, 0.5], [[1.0], [-1.0]], torch.zeros(2, 1, 1))
    normal = GaussianMixture([1.0], [[0.0]], [[[1.0]]])
    for mixture, schedule, end in (
        (two_points, by_hand, 0.97156555970524),
        (normal, schedules.linear(), 0.49540741140591),
        (normal, schedules.cosine(), 0.64949862102041),
    ):
        states = list(ddim(mixture.network(schedule), number(1), schedule, time_grid(schedule, 3)))
        assert states[-1].x.item() == pytest.approx(end, abs=1e-9)


def test_on_the_official_grid_more_steps_can_be_no_more_and_a_little_worse():
    schedule, wide = schedules.linear(), GaussianMixture([1.0], [[1.0]], [[[4.0]]])

    def error(steps):
        x, times = torch.tensor([[0.0], [1.0]], dtype=torch.float64), time_grid(schedule, steps, "ddim_uniform")
        a, b = sample(ddim(wide.network(schedule), x, schedule, times)).flatten().tolist()
        return len(times) - 1, abs(a - 1) + abs(b - a - 2)

    for few, many, calls in ((19, 20, 20), (24, 25, 25)):
        (calls_few, error_few), (calls_many, error_many) = error(few), error(many)
        assert calls_few == calls_many == calls
        assert 1 < error_many / error_few < 1.01


def test_half_the_noise_predicted_is_not_exact():
    x0, eps = data.noise(2, 5, 3, seed=2)
    x = process.add_noise(x0, eps, 0.1)
    assert torch.allclose(rotated(x, eps, 0.1, 0.9), process.add_noise(x0, eps, 0.9), atol=1e-12)
    assert not torch.allclose(rotated(x, eps / 2, 0.1, 0.9), process.add_noise(x0, eps, 0.9), atol=0.1)


# --- Questions and exercises


def walk_by_angles(x, ab):
    angle = [math.acos(math.sqrt(level)) for level in ab]
    factors = [1.0, *(math.cos(a - b) for a, b in pairwise(angle))]
    return torch.stack([x * math.prod(factors[: i + 1]) for i in range(len(ab))])


def walk_with_library(x, ab):
    rows = torch.empty(len(ab), *x.shape, dtype=x.dtype)
    rows[0] = x
    for i, (ab_t, ab_s) in enumerate(pairwise(ab)):
        rows[i + 1] = rotated(rows[i], (1 - ab_t) ** 0.5 * rows[i], ab_t, ab_s)
    return rows


def ddim_with_while(net, x, alpha_bar, times):
    i = 0
    while times[i] > 0:
        t, s = times[i], times[i + 1]
        x = rotated(x, net(x, torch.tensor(t).repeat(len(x))), alpha_bar[t].item(), alpha_bar[s].item())
        i += 1
    return x


def eta_step_with_library(x_t, eps, z, ab_t, ab_s, eta):
    fresh = eta**2 * tilde(ab_t, ab_s)
    kept = samplers.renoise(process.predict_x0(x_t, eps, ab_t), eps, ab_s)
    return kept + ((1 - ab_s - fresh) ** 0.5 - (1 - ab_s) ** 0.5) * eps + fresh**0.5 * z


def distance_of_lists(net, x, schedule, few, many):
    def end(steps):
        return list(samplers.ddim(net, x, schedule, schedules.time_grid(schedule, steps)))[-1].x

    return math.sqrt(((end(few) - end(many)) ** 2).sum().item() / x.numel())


ANSWERS = {
    "practice-one": lambda: samplers.renoise(process.predict_x0(number(0), number(0.1), 0.6), number(0.1), 0.8).item(),
    "hand-x0": lambda: walk([0.0])[0][0],
    "hand-x": lambda: walk([0.0])[0][1],
    "hand-second-x0": lambda: walk([0.0])[1][0],
    "hand-second-x": lambda: walk([0.0])[1][1],
    "hand-final": lambda: walk([0.0])[2][1],
    "how-many": lambda: 25 * 0.04 / 0.01,
    "last-step": lambda: math.sqrt(process.posterior_variance(schedules.linear().alpha_bar[100].item(), 1.0)),
}


RIGHT = {
    "ddim_step": (
        rotated,
        lambda x_t, eps, ab_t, ab_s: samplers.renoise(process.predict_x0(x_t, eps, ab_t), eps, ab_s),
    ),
    "walk": (walk_by_angles, walk_with_library),
    "even_grid": (
        lambda T, steps: (torch.arange(steps, -1, -1) * T).div(steps, rounding_mode="floor").tolist(),
        lambda T, steps: sorted({math.floor(i * T / steps + 1e-9) for i in range(steps + 1)}, reverse=True),
    ),
    "ddim_sample": (library_ddim, ddim_with_while),
    "ddim_eta_step": (
        eta_step_with_library,
        lambda x_t, eps, z, ab_t, ab_s, eta: (
            renoised(x_t, eps, ab_t, ab_s, eta**2 * tilde(ab_t, ab_s)) + eta * tilde(ab_t, ab_s) ** 0.5 * z
        ),
    ),
    "same_start_distance": (
        distance_of_lists,
        lambda net, x, schedule, few, many: F.mse_loss(
            *(library_ddim(net, x, schedule.alpha_bar, schedules.time_grid(schedule, n)) for n in (few, many))
        ).sqrt(),
    ),
}


CLAIMS = {
    "0.028": lambda: math.sqrt(0.8) * math.sqrt(0.4) * 0.1 / math.sqrt(0.6) - math.sqrt(0.2) * 0.1,
    "0.063": lambda: math.sqrt(0.4) * 0.1,
    "0.72": lambda: (0.28 * 0.6 + 0.96 * 0.8) * (0.6 * 0.8 + 0.8 * 0.6) * 0.8,
}
