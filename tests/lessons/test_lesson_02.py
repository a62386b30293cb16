"""Lesson 02: its pictures, the answers to its questions, and right answers to its exercises."""

import math
import re
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lessons_src import data, process, schedules
from lessons_src.guidance import classifier_free
from lessons_src.lessons.digit_runs import shipped
from lessons_src.lessons.lesson_02 import explorer, figures
from lessons_src.schedules import NoiseSchedule, cosine, linear, shifted_cosine, sigmoid
from lessons_src.show.panels import grey

U = torch.arange(1001, dtype=torch.float64) / 1000
MILDER = NoiseSchedule(torch.cat([torch.ones(1), torch.sigmoid(cosine().log_snr[1:] + math.log(4))]))


def shown_at(right, left=500, other="cosine", digit=3):
    picture = explorer.levels_picture(digit, left, other, right)
    return picture.panels[0].frames[0], picture.formula[0], picture.text


def schedule_text(family="linear", T=100, factor=1.0, c=3.0):
    return explorer.schedule_picture(family, T, factor, c).sentence()


# --- Explorers


def test_both_schedules_drown_the_same_digit_with_the_same_noise():
    x0, eps = data.one_each()[3, 0], data.noise(28, 28, seed=1).float()
    (*pair, _), formula, text = shown_at(500)
    for picture, schedule in zip(pair, (linear(), cosine()), strict=True):
        assert np.array_equal(picture, grey(process.add_noise(x0, eps, schedule.alpha_bar[500].item())))
    assert formula == "The left picture is noisier"
    assert text == "Pixels differ by 0.49 (root mean square)."
    assert shown_at(900)[1] == "The right picture is noisier"


def test_the_first_picture_is_the_question_and_the_third_is_the_difference_of_the_others():
    """Grey 127 stands for 0, so in the middle greys the third is the second less the first."""
    picture = explorer.explore_levels().picture
    assert picture.panels[0].labels[:2] == ("linear, t = 500", "cosine, t = 500")
    left, right, difference = shown_at(500)[0].astype(int)
    inside = (np.minimum(left, right) > 0) & (np.maximum(left, right) < 255)
    assert inside.sum() > 50
    assert np.abs(difference - 127 - (right - left))[inside].max() <= 2


@pytest.mark.parametrize(
    ("left", "other", "right"), [(500, "cosine", 820), (300, "cosine", 565), (500, "sigmoid", 835)]
)
def test_equal_level_is_an_equal_picture(left, other, right):
    """The dare: at equal log-SNR, to a tenth, the difference is plain grey; at the same t it is not."""
    (_, _, difference), formula, text = shown_at(right, left, other)
    assert np.abs(difference.astype(int) - 127).max() <= 4
    assert formula.startswith("Found. log-SNR")
    assert "Log-SNR" in text
    levels = [float(level.replace("−", "-")) for level in re.findall(r"−?\d+\.\d+", formula)]
    assert levels[0] == pytest.approx(levels[1], abs=0.11), "one digit after the point"
    assert np.abs(shown_at(left, left, other)[0][2].astype(int) - 127).mean() > 10


@pytest.mark.parametrize("other", explorer.OTHERS)
@pytest.mark.parametrize("left", range(100, 701, 100))
def test_every_dare_can_be_met_once_and_only_then_log_snr_is_told(left, other):
    told = [explorer.levels_picture(3, left, other, right) for right in explorer.TIMES]
    found = [picture for picture in told if picture.formula[0].startswith("Found")]
    assert [picture for picture in told if "SNR" in picture.sentence()] == found
    assert len(found) == 1
    assert float(re.search(r"by (\d\.\d+)", found[0].text)[1]) <= 0.01


def test_near_pure_noise_the_slider_may_come_no_nearer():
    assert shown_at(995, 950, "cosine")[1].startswith("Almost: this slider comes no nearer. log-SNR −9.1 on the left")


def test_schedules_say_when_noise_overtakes():
    assert "t = 260" in schedule_text(T=1000)
    assert "33 % of the steps" in schedule_text(T=1000)


def test_the_ill_schedule_is_repaired_by_seven_times_the_betas():
    assert schedule_text().startswith("At T: 36 % picture, too much · 0 % of the steps wasted. ")
    verdicts = [schedule_text(factor=factor).split(" · ")[0].endswith("good") for factor in (6.5, 7, 10)]
    assert verdicts == [False, True, True]
    assert "0.062 % picture, good · 21 % of the steps wasted" in schedule_text(factor=7)
    assert "54 % of the steps wasted" in schedule_text(factor=20)
    assert "from 0.001 to 0.2" in schedule_text(factor=10), "the rule scales both ends"


def test_a_steeper_sigmoid_spends_less_in_the_middle_and_keeps_half_way():
    shares = []
    for c in (1.0, 3.0, 6.0, 10.0):
        assert sigmoid(c=c).snr[500].item() == pytest.approx(1, abs=1e-12)
        shares.append((sigmoid(c=c).log_snr[1:].abs() < 2).double().mean().item())
    assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize("schedule", [linear(), linear(50), cosine(), sigmoid(c=10)])
def test_every_step_is_counted_once_if_its_level_is_in_sight(schedule):
    inside = (schedule.log_snr[1:].abs() < explorer.CUT).double().mean().item()
    assert explorer.steps_by_level(schedule).sum() == pytest.approx(100 * inside)


@pytest.mark.parametrize(
    ("family", "how"),
    [
        ("linear", "βₜ rises in a straight line from 0.0001 to 0.02."),
        ("cosine", "ᾱ is nearly cos²(90° · t/T)."),
        ("sigmoid", "ᾱ is sigmoid(3 − 6 t/T), stretched to run from 1 to 0."),
    ],
)
def test_how_a_schedule_is_made(family, how):
    assert how in schedule_text(family, 1000)


# --- Numbers of the lesson and of its deeper part


def test_where_the_steps_are_spent():
    assert [figures.first_below(s, 1) for s in (linear(), cosine())] == [260, 497]
    assert [figures.wasted(s) for s in (linear(), cosine())] == pytest.approx([32.6, 6.4])
    assert [1 - s.alpha_bar[100].item() for s in (linear(), cosine())] == pytest.approx([0.1030, 0.0279], abs=5e-5)
    assert math.degrees(math.atan(10)) == pytest.approx(90 - 5.71, abs=0.005), "the last six degrees"


def test_cosine_walks_the_circle_at_constant_speed():
    """To one per cent from t = 50 on: before that the offset tells, and at the last step the clip."""
    speed = {s.name: (s.snr[1:] ** -0.5).atan().rad2deg().diff() for s in (linear(), cosine())}
    assert (speed["cosine"][50:-1] * 1008 / 90).sub(1).abs().max() < 0.01
    assert speed["linear"][[50, 900]].tolist() == pytest.approx([0.1801, 0.0085], abs=5e-5)


@pytest.mark.parametrize(("T", "kept"), [(50, 0.603), (100, 0.3636), (200, 0.1322), (300, 0.0481), (500, 0.00635)])
def test_betas_belong_to_their_t(T, kept):
    assert linear(T).alpha_bar[-1].item() == pytest.approx(kept, rel=2e-3)
    assert 1e-6 < linear(T, 0.1 / T, 20 / T).alpha_bar[-1] < linear().alpha_bar[-1] < math.exp(-10.05)


def test_offset_and_clip_of_the_cosine():
    with_offset, without = (cosine(s=s).beta[1].item() for s in (0.008, 0.0))
    assert (with_offset, without) == pytest.approx((4.1284e-5, 2.4674e-6), rel=1e-4)
    assert math.sqrt(without) < math.sqrt(with_offset) < 1 / 127.5
    f = torch.cos((U + 0.008) / 1.008 * math.pi / 2) ** 2
    assert (cosine().alpha_bar[:-1] - (f / f[0])[:-1]).abs().max() < 1e-12
    assert (cosine().beta == 0.999).sum() <= 1
    assert cosine().beta[-1].item() == pytest.approx(0.999)
    assert cosine().alpha_bar[-1].item() == pytest.approx(2.4287669070e-9, rel=1e-9)


def test_the_ratio_needs_data_of_variance_1():
    n, generator = 100_000, torch.Generator().manual_seed(1)
    pixels = (2 * torch.rand(n, 1, generator=generator, dtype=torch.float64) - 1) * math.sqrt(3)
    noise = torch.randn(n, 1, generator=generator, dtype=torch.float64)
    for t in (100, 250, 500):
        for b in (1.0, 0.5):
            a, c = process.signal_and_noise(linear().alpha_bar[t], pixels)
            measured = ((a * b * pixels).var() / (c * noise).var()).log().item()
            assert abs(measured - linear().log_snr[t].item() - 2 * math.log(b)) < 3 * math.sqrt(2.8 / n)


def test_scaled_data_are_the_data_at_a_shifted_level():
    x0, eps, b = data.one_each().double(), data.noise(10, 1, 28, 28, seed=2), 0.5
    for t in (1, 250, 999):
        ab = linear().alpha_bar[t]
        shifted = torch.sigmoid(linear().log_snr[t] + 2 * math.log(b))
        contrast = ((1 - ab) / (1 - shifted)).sqrt()
        dim = process.add_noise(b * x0, eps, ab.item())
        assert (dim - contrast * process.add_noise(x0, eps, shifted.item())).abs().max() < 1e-12


def test_the_printed_sigmoid_rises_and_the_right_one_falls():
    c, (top, bottom) = 3.0, torch.sigmoid(torch.tensor([3.0, -3.0], dtype=torch.float64))
    printed = torch.sigmoid(-c + 2 * c * U) / (top + top)
    right = (top - torch.sigmoid(-c + 2 * c * U)) / (top - bottom)
    assert (printed.diff() > 0).all()
    assert (sigmoid(c=c).alpha_bar[:1000] - right[:1000]).abs().max() < 1e-12
    with pytest.raises(ValueError, match=r"alpha_bar\[0\] is 0.0248"):
        NoiseSchedule(printed)


def test_schedules_in_words_and_numbers():
    families = (linear(), cosine(), sigmoid())
    slopes = [-s.log_snr[50:952].diff() for s in families]
    assert [(v.max() / v.min()).item() for v in slopes] == pytest.approx([3.75, 6.51, 3.53], abs=0.005)
    assert [50 + int(v.argmin()) for v in slopes] == pytest.approx([349, 496, 500], abs=5)
    assert [s.snr[500].item() for s in families] == pytest.approx([0.0852899442, 0.9756738848, 1.0], abs=1e-9)
    assert all((linear().log_snr[50:951] < s.log_snr[50:951]).all() for s in families[1:])


@pytest.mark.parametrize("side", [32, 64, 128, 256, 512, 1024])
def test_the_shift_for_a_side(side):
    assert shifted_cosine(size=side).snr[500].item() * (side / 64) ** 2 == pytest.approx(1, abs=1e-12)


def test_a_straight_line_of_log_snr():
    wanted = torch.linspace(10, -10, 1000, dtype=torch.float64)
    straight = NoiseSchedule(torch.cat([torch.ones(1), torch.sigmoid(wanted)]))
    assert (straight.snr[2:] / straight.snr[1:-1] - math.exp(-20 / 999)).abs().max() < 1e-9
    for low in (-6, -2, 2):
        levels = straight.log_snr[1:]
        assert ((levels > low) & (levels <= low + 4)).double().mean() == 0.2
    in_the_middle = [(s.log_snr[1:].abs() < 2).double().mean().item() for s in (straight, linear(), cosine())]
    assert in_the_middle == pytest.approx([0.20, 0.35, 0.56], abs=0.01)


@pytest.mark.parametrize("value", [4.0, 0.0, -4.0])
def test_the_noise_loss_is_the_picture_loss_times_the_snr(value):
    x0, eps, level = data.one_each()[:1].double(), data.noise(1, 1, 28, 28, seed=6), 1 / (1 + math.exp(-value))
    guess = eps + 0.1 * data.noise(1, 1, 28, 28, seed=7)
    off = process.predict_x0(process.add_noise(x0, eps, level), guess, level) - x0
    assert ((guess - eps).square().mean() / off.square().mean()).item() == pytest.approx(math.exp(value), rel=1e-9)


# --- Figures


def test_a_big_picture_is_as_hard_with_the_shifted_level():
    """Averaged over k x k pixels, noise keeps 1 / k of its size: at the shifted level signal and noise fade alike."""
    level = cosine().alpha_bar[800].item()
    small, big, averaged, _, low = (x.flatten() for x in figures.big_and_small(level).values())
    clean = data.digits("test")[0][:1].double().flatten()
    assert len(big) == 16 * len(small)

    def snr(x):
        signal = (x @ clean / (clean @ clean)).item()
        return signal**2 / (x - signal * clean).var().item()

    plain = level / (1 - level)
    assert snr(small) == pytest.approx(plain, rel=0.25)
    assert snr(averaged) == pytest.approx(16 * plain, rel=0.25)
    assert snr(low) == pytest.approx(plain, rel=0.25)


def test_digits_of_14_and_28_pixels_are_read_alike_at_shifted_levels():
    for level in (0.0, -1.0, -2.0):
        large, small = figures.share_read(level, 28, 1000), figures.share_read(level + 2 * math.log(2), 14, 1000)
        assert abs(large - small) < 0.04
        assert large - figures.share_read(level, 14, 1000) > 0.05, "at the same level the larger one is easier"


def test_reading_ends_with_guessing_below_the_wasted_tail():
    assert 0.2 < figures.share_read(math.log(0.01)) < 0.3
    assert figures.share_read(-9.0) < 0.2


@pytest.mark.parametrize(("other", "same"), [(MILDER, 0.29), (linear(), 0.47)])
def test_a_network_knows_levels_and_not_times(other, same):
    """On another schedule its pictures are wrong with the same t, and nearly the same with the t of equal level."""
    trained = cosine()
    equal = 1 + (trained.log_snr[1:, None] - other.log_snr).abs().argmin(0)
    own = figures.mismatched(trained)
    assert figures.distance(figures.mismatched(other), own) == pytest.approx(same, abs=0.03)
    assert figures.distance(figures.mismatched(other, tuple(equal.tolist())), own) < 0.06


def test_the_milder_schedule_has_four_times_the_snr_at_every_time():
    assert (MILDER.snr[1:] / cosine().snr[1:]).sub(4).abs().max() < 1e-6
    assert 1 + int((cosine().log_snr[1:] - MILDER.log_snr[500]).abs().argmin()) == 293


def test_the_lessons_two_lines_are_the_librarys_schedules_but_for_offset_and_clip():
    by_beta = (1 - torch.linspace(0.0001, 0.02, 1000)).cumprod(0)
    by_angle = (torch.arange(1, 1001) / 1000 * math.pi / 2).cos() ** 2
    assert torch.allclose(by_beta.double(), linear().alpha_bar[1:], rtol=1e-4)
    assert (by_angle - cosine().alpha_bar[1:]).abs().max() < 0.013
    assert (by_beta[499].item(), by_angle[499].item()) == pytest.approx((0.079, 0.5), abs=5e-4)


def test_told_too_much_noise_a_network_removes_too_little_and_takes_picture_for_noise():
    """Its guess as shares of noise and picture, at t = 500 of its own schedule and of the milder one."""
    net, _ = shipped()
    digits, labels = (part[:50] for part in data.digits("test"))
    eps = data.noise(50, 1, 28, 28, seed=5).float()
    for schedule, noise, picture in ((cosine(), 0.97, 0.04), (MILDER, 0.64, 0.27)):
        x_t = process.add_noise(digits, eps, schedule.alpha_bar[500].item())
        with torch.no_grad():
            guess = classifier_free(net, labels, 1.0)(x_t, torch.full((50,), 500))
        parts = torch.stack([eps.flatten(), digits.flatten()], 1)
        shares = torch.linalg.lstsq(parts, guess.flatten()[:, None]).solution[:, 0].tolist()
        assert shares == pytest.approx([noise, picture], abs=0.03)


def test_what_the_figures_say(monkeypatch):
    said = []
    monkeypatch.setattr(figures.plots, "show", lambda fig, text: said.append(text))
    figures.show_spending({"linear": linear(), "cosine": cosine()})
    figures.show_big(cosine().alpha_bar[800].item())
    figures.show_sides((28, 14))
    assert "326 with linear and 64 with cosine" in said[0]
    assert "With SNR 0.0065 in each pixel it averages to 0.10" in said[1]
    assert said[2].startswith("Digits of side 28, 14. At log-SNR −1, 85 %, 59 %")


# --- Questions and exercises


def linear_in_a_loop(T):
    alpha_bar = [1.0]
    for t in range(1, T + 1):
        alpha_bar.append(alpha_bar[-1] * (1 - (0.1 + (20 - 0.1) * (t - 1) / (T - 1)) / T))
    return torch.tensor(alpha_bar, dtype=torch.float64)


def cosine_in_a_loop(T, s, max_beta):
    f = [math.cos((t / T + s) / (1 + s) * math.pi / 2) ** 2 for t in range(T + 1)]
    alpha_bar = [1.0]
    for before, after in pairwise(f):
        alpha_bar.append(alpha_bar[-1] * max(after / before, 1 - max_beta))
    return torch.tensor(alpha_bar, dtype=torch.float64)


def cosine_by_halves(T, s, max_beta):
    angle = math.pi * (torch.arange(T + 1, dtype=torch.float64) / T + s) / (1 + s)
    f = (1 + angle.cos()) / 2
    alpha = torch.maximum(f[1:] / f[:-1], torch.tensor(1 - max_beta, dtype=torch.float64))
    return F.pad(alpha, (1, 0), value=1.0).cumprod(0)


def times_by_search(new, old):
    ruler, found = (old[1:] / (1 - old[1:])).log(), []
    for level in new[1:]:
        distance = [abs(float(value - (level / (1 - level)).log())) for value in ruler]
        found.append(1 + distance.index(min(distance)))
    return torch.tensor(found)


def times_by_cdist(new, old):
    a, b = new.logit()[1:, None], old.logit()[1:, None]
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").argmin(dim=1).add(1)


ANSWERS = {
    "wasted-steps": lambda: 100 * (schedules.linear().snr[1:] < 0.01).double().mean().item(),
    "log-snr-of-0-9": lambda: schedules.NoiseSchedule(torch.tensor([1, 0.9], dtype=torch.float64)).log_snr[1].item(),
    "half-contrast": lambda: 2 * math.log(0.5),
    "side-256": lambda: schedules.shifted_cosine(size=256).snr[500].item(),
    "quarter-of-the-steps": lambda: 0.02 * 1000 / 250,
}


RIGHT = {
    "linear_alpha_bar": (
        linear_in_a_loop,
        lambda T: F.pad(1 - torch.linspace(0.1, 20, T).double() / T, (1, 0), value=1.0).log().cumsum(0).exp(),
    ),
    "cosine_alpha_bar": (cosine_in_a_loop, cosine_by_halves),
    "log_snr": (torch.logit, lambda ab: ab.log() - (-ab).log1p()),
    "level_of": (lambda v: 1 / (1 + (-v).exp()), lambda v: (1 + (v / 2).tanh()) / 2),
    "level_at_scale": (
        lambda ab, b: b**2 * ab / (b**2 * ab + 1 - ab),
        lambda ab, b: 1 / (1 + (1 / ab - 1) / b / b),
    ),
    "matching_times": (times_by_search, times_by_cdist),
}


CLAIMS = {
    "0.0064": lambda: linear(500).alpha_bar[-1],
    "0.00004": lambda: linear().alpha_bar[-1],
    "0.75": lambda: cosine().beta[-2],
    "1.39": lambda: 2 * math.log(2),
}
