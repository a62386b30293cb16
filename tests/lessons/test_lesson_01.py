"""Lesson 01: its pictures, the answers to its questions, and right answers to its exercises."""

import math

import numpy as np
import pytest
import torch
from by_hand import as_column

from lessons_src import data, process, schedules
from lessons_src.lessons.lesson_01 import explorer, figures
from lessons_src.show.panels import grey

LINEAR = schedules.linear()


def test_forward_starts_clean_and_says_its_coefficients():
    picture = explorer.forward_picture(3, "linear")
    clean, _, x_t = picture.panels[0].frames[0]
    assert np.array_equal(clean, x_t)
    assert picture.formula[25] == "xₜ = 0.280 · x₀ + 0.960 · ε"


@pytest.mark.parametrize("digit", explorer.TO_NOISE)
def test_a_hidden_digit_shows_at_time_0_only(digit):
    picture = explorer.forward_picture(digit, "linear")
    shown, _, x_t = picture.panels[0].frames.swapaxes(0, 1)
    assert len(np.unique(shown[1:])) == 1
    truth = data.digits("test")[0][explorer.HIDDEN[digit], 0]
    assert np.array_equal(shown[0], grey(truth))
    assert np.array_equal(x_t[0], grey(truth))
    assert_named_at_the_end_only(picture, digit)


@pytest.mark.parametrize("digit", explorer.TO_GUESS)
def test_a_hidden_digit_to_guess_is_named_at_time_0_only(digit):
    assert_named_at_the_end_only(explorer.guess_picture(digit, 5), digit)


def assert_named_at_the_end_only(picture, digit):
    label = data.digits("test")[1][explorer.HIDDEN[digit]]
    assert picture.frame_texts[0] in (f"It was a {label}.", f"It was an {label}.")
    assert not any("was" in text for text in picture.frame_texts[1:])
    assert f"igit {label}" not in picture.text


def test_no_two_hidden_digits_are_the_same_and_none_is_the_one_shown_first():
    found = {int(data.digits("test")[1][place]) for place in explorer.HIDDEN.values()}
    assert len(found) == len(explorer.HIDDEN)
    assert 7 not in found


@pytest.mark.parametrize("wrong", [0, 5])
def test_the_picture_read_back_is_off_by_the_error_times_noise_over_signal(wrong):
    picture = explorer.guess_picture(7, wrong)
    _, x0_hat = picture.panels[0].frames.swapaxes(0, 1)
    if wrong == 0:
        assert np.ptp(x0_hat.astype(int), axis=0).max() <= 1  # the same picture at every time, but for rounding to grey
    assert picture.formula[25] == "x̂₀ = (xₜ − 0.960 · ε̂) / 0.280"
    off = f"{wrong / 100 * 3.424137:.2g}"
    assert picture.frame_texts[25] == f"74° on the circle. The pixels of x̂₀ are off by {off}; from black to white is 2."


def test_where_the_error_is_as_large_as_the_picture():
    """The folded answer below the second dare says near 760, 940 and 380 for 5 %, 1 % and 50 %."""
    factors = dict(zip(explorer.TIMES, figures.error_factors(LINEAR, explorer.TIMES), strict=True))
    for wrong, t in ((0.05, 760), (0.01, 940), (0.5, 380)):
        assert wrong * factors[t] < 1 < wrong * factors[t + 20]


@pytest.mark.parametrize("degrees", [0, 45, 90])
def test_the_hand_of_the_dial_points_to_its_angle(degrees):
    image = explorer.dial(math.radians(degrees))
    rows, columns = np.nonzero(image > 200)
    up, right = 111 - rows, columns
    far = np.hypot(up, right).argmax()
    assert math.degrees(math.atan2(up[far] - 9, right[far] - 9)) == pytest.approx(degrees, abs=4)


def test_the_program_reads_far_beyond_the_eye_and_ends_with_guessing():
    at_300, at_500, at_700, at_1000 = figures.reading_rates(LINEAR, (300, 500, 700, 1000))
    assert at_300 == 1
    assert 0.98 <= at_500 <= 0.995, "the prediction and the caption say 99 of 100"
    assert 0.38 < at_700 < 0.48
    assert 0.08 < at_1000 < 0.14
    before, after = figures.reading_rates(LINEAR, (650, 710))
    assert before > 0.5 > after, "the prediction says that half are lost near t = 680"


def test_chance_alone_moves_mean_and_variance_by_about_two_hundredths():
    """The caption below the walk of 20,000 copies says so; here drawn with four other seeds."""
    alpha, beta, alpha_bar = (x.float() for x in (LINEAR.alpha, LINEAR.beta, LINEAR.alpha_bar))
    for seed in range(4):
        generator, x, gap = torch.Generator().manual_seed(seed), torch.full((20_000,), 0.8), 0.0
        for t in range(1, 1001):
            x = alpha[t].sqrt() * x + beta[t].sqrt() * torch.randn(20_000, generator=generator)
            gap = max(gap, abs(x.mean() - 0.8 * alpha_bar[t].sqrt()), abs(x.var() - (1 - alpha_bar[t])))
        assert 0.01 < gap < 0.035


def test_chain_and_jump_agree_at_all_times():
    factor, variance = 1.0, 0.0
    for t in range(1, 1001):
        factor *= math.sqrt(LINEAR.alpha[t])
        variance = LINEAR.alpha[t].item() * variance + LINEAR.beta[t].item()
        assert factor == pytest.approx(math.sqrt(LINEAR.alpha_bar[t]), abs=1e-12)
        assert variance == pytest.approx(1 - LINEAR.alpha_bar[t].item(), abs=1e-12)


def test_two_doses_meet_at_a_right_angle():
    old, new, both, angle = figures.two_doses()
    assert [f"{size:.2f}" for size in (old, new, both)] == ["0.30", "0.40", "0.50"], "the prediction says 0.5"
    assert angle == pytest.approx(90, abs=0.5)


def test_a_noise_level_is_an_angle_and_its_tangent_the_factor_of_an_error():
    times = (0, 100, 259, 500, 1000)
    found = figures.angles(LINEAR, times)
    assert found == pytest.approx((0, 18.717837, 44.985978, 73.719850, 89.636008), abs=1e-5)
    assert [figures.as_factor(value) for value in (0.043570, 3.424, 157.4)] == ["0.044", "3.4", "157"]
    assert figures.error_factors(LINEAR, times[1:]) == pytest.approx([math.tan(math.radians(a)) for a in found[1:]])


def test_the_end_of_the_linear_schedule():
    ab = LINEAR.alpha_bar[1000].item()
    assert ab == pytest.approx(4.035829765375676e-05, rel=1e-9)
    assert 0.5 * (-math.log1p(-ab)) == pytest.approx(2.018e-5, rel=1e-3)  # KL to N(0, 1) in nats, x0 = +-1
    assert [schedules.linear(T).alpha_bar[-1].item() for T in (50, 100, 500)] == pytest.approx(
        (0.603, 0.3636, 0.00635), rel=1e-3
    )


def test_the_levels_of_two_conventions():
    zero_based = LINEAR.alpha_bar[1:]
    assert zero_based[[50, 100]].tolist() == pytest.approx((0.969951, 0.895142), abs=5e-7)
    assert LINEAR.alpha_bar[[50, 100]].tolist() == pytest.approx((0.971016, 0.897018), abs=5e-7)


@pytest.mark.parametrize("draw", range(20))
def test_posterior_is_the_product_of_line_and_step(draw):
    """Bayes' rule by quadrature at random levels: nothing of the closed form is used."""
    generator = torch.Generator().manual_seed(draw)
    low, high = (0.1 + 0.8 * torch.rand(2, generator=generator, dtype=torch.float64)).sort().values.tolist()
    low *= 0.9
    x0, x_t = torch.randn(2, 1, 1, generator=generator, dtype=torch.float64)
    x_s = torch.linspace(-12, 12, 100_001, dtype=torch.float64)
    alpha = low / high
    from_x0 = (x_s - math.sqrt(high) * x0.item()).square() / (1 - high)
    to_x_t = (x_t.item() - math.sqrt(alpha) * x_s).square() / (1 - alpha)
    density = (-0.5 * (from_x0 + to_x_t)).softmax(0)
    mean = (density * x_s).sum()
    formula, variance = process.posterior(x_t, x0, low, high)
    assert formula.item() == pytest.approx(mean.item(), abs=1e-9)
    assert variance == pytest.approx((density * (x_s - mean) ** 2).sum().item(), abs=1e-9)


def test_same_marginals_same_loss_another_covariance():
    ab_t, ab_s = 0.8, 0.9
    assert math.sqrt(ab_t / ab_s) * (1 - ab_s) == pytest.approx(0.09428, abs=5e-6)
    assert math.sqrt((1 - ab_t) * (1 - ab_s)) == pytest.approx(0.14142, abs=5e-6)


def numpy_add_noise(x0, eps, alpha_bar):
    return torch.from_numpy(np.sqrt(alpha_bar) * x0.numpy() + np.sqrt(1 - alpha_bar) * eps.numpy())


def add_noise_one_by_one(x0, eps, t, alpha_bar):
    return torch.stack(
        [process.add_noise(x0[i : i + 1], eps[i : i + 1], float(alpha_bar[t[i]]))[0] for i in range(len(t))]
    )


def chain_by_recursion(x0, beta, generator):
    if not beta:
        return x0
    z = torch.empty_like(x0).normal_(generator=generator)
    return chain_by_recursion((1 - beta[0]) ** 0.5 * x0 + beta[0] ** 0.5 * z, beta[1:], generator)


def chain_backwards(x0, beta, generator):
    noises = [torch.randn(x0.shape, generator=generator, dtype=x0.dtype) for _ in beta]
    x = x0.clone()
    for dose, z in zip(beta, noises, strict=True):
        x *= math.sqrt(1 - dose)
        x += math.sqrt(dose) * z
    return x


ANSWERS = {
    "signal-at-half": lambda: schedules.linear().alpha_bar[500].sqrt().item(),
    "pixel-back": lambda: process.predict_x0(torch.full((1, 1), 0.9), torch.full((1, 1), 0.75), 0.36).item(),
    "two-equal-steps": lambda: math.sqrt(1 - (1 - 0.2) ** 2),
}


RIGHT = {
    "forward_step": (
        lambda x, z, beta: process.add_noise(x, z, 1 - beta),
        lambda x, z, beta: torch.add(x * (1 - beta) ** 0.5, z, alpha=beta**0.5),
    ),
    "add_noise": (process.add_noise, numpy_add_noise),
    "predict_x0": (
        process.predict_x0,
        lambda x_t, eps, ab: x_t * ab**-0.5 - ((1 - ab) / ab) ** 0.5 * eps,
    ),
    "predict_eps": (
        process.predict_eps,
        lambda x_t, x0, ab: x_t.div((1 - ab) ** 0.5) - (ab / (1 - ab)) ** 0.5 * x0,
    ),
    "add_noise_at": (
        add_noise_one_by_one,
        lambda x0, eps, t, ab: as_column(ab[t] ** 0.5, x0) * x0 + as_column((1 - ab[t]) ** 0.5, x0) * eps,
    ),
    "forward_chain": (chain_by_recursion, chain_backwards),
}
