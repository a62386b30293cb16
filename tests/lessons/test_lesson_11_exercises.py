"""Right answers to lesson 11's exercises that are not the reference, and who is told what."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from lessons_src import metrics
from lessons_src.distillation import Progressive, v_to
from lessons_src.exercises.tasks import ask, judge
from lessons_src.lessons.lesson_11 import exercises
from lessons_src.lora import LowRank
from lessons_src.metrics import class_spread

TASKS = {task.name: task for task in exercises.TASKS}
MISTAKES = [(name, number) for name, task in TASKS.items() for number in range(len(task.wrong_answers))]


def target_by_the_library(teacher, x, times, k):
    loss = Progressive(teacher, times)
    t, s = (torch.full((len(x),), loss.grid[k + i]) for i in (0, 1))
    return v_to(teacher.schedule, x, loss.two_steps(x, t, s), t, s)


def target_by_angles(teacher, x, times, k):
    """A step turns x and v by the difference of angles: x_s = cos x - sin v."""
    angle = teacher.schedule.alpha_bar.sqrt().arccos()

    def turned(x, eps, t, s):
        v = (angle[t].cos() * eps - angle[t].sin() * x0_of(x, eps, t)) if t else eps
        turn = angle[t] - angle[s]
        return turn.cos() * x - turn.sin() * v

    def x0_of(x, eps, t):
        return (x - angle[t].sin() * eps) / angle[t].cos()

    t, m, s = times[2 * k], times[2 * k + 1], times[2 * k + 2]
    middle = turned(x, teacher(x, torch.full((len(x),), t)), t, m)
    end = turned(middle, teacher(middle, torch.full((len(x),), m)), m, s)
    turn = angle[t] - angle[s]
    return (turn.cos() * x - end) / turn.sin()


def gradient_by_hand(weight, average, x_t, x_s, ab_t, ab_s, std):
    def parts(ab):
        v = ab * std**2 + 1 - ab
        return (ab.sqrt() * std**2 / v)[:, None], (std * ((1 - ab) / v).sqrt())[:, None]

    (skip_t, out_t), (skip_s, out_s) = parts(ab_t), parts(ab_s)
    off = skip_t * x_t + out_t * x_t @ weight - skip_s * x_s - out_s * x_s @ average
    return 2 / len(x_t) * (out_t * x_t).T @ off


def gradient_by_backward(weight, average, x_t, x_s, ab_t, ab_s, std):
    learned = nn.Parameter(weight.clone())
    sigma_t, sigma_s = (((1 - ab) / ab).sqrt()[:, None] for ab in (ab_t, ab_s))  # in the papers' other variables

    def f(w, x, ab, sigma):
        whole = (sigma**2 + std**2).sqrt()
        return std**2 / whole**2 * x / ab.sqrt()[:, None] + std * sigma / whole * (x @ w)

    with torch.no_grad():
        target = f(average, x_s, ab_s, sigma_s)
    ((f(learned, x_t, ab_t, sigma_t) - target) ** 2).sum().div(len(x_t)).backward()
    return learned.grad


def jumps_by_places(x, noise, alpha_bar, times, mean, std):
    """A point keeps its place, in spreads from the mean."""
    for fresh, t, s in zip(noise, times, times[1:], strict=False):
        a, ab = alpha_bar[t].sqrt(), alpha_bar[t]
        place = (x - a * mean) / torch.sqrt(1 + ab * (std**2 - 1))
        x = alpha_bar[s].sqrt() * (mean + std * place) + torch.sqrt(1 - alpha_bar[s]) * fresh
    return x


def jumps_one_by_one(x, noise, alpha_bar, times, mean, std):
    def jump(x, ab):
        return mean + std * (x - math.sqrt(ab) * mean) / math.hypot(math.sqrt(ab) * std, math.sqrt(1 - ab))

    end = jump(x, alpha_bar[times[0]].item())
    for k, s in enumerate(times[1:-1]):
        ab = alpha_bar[s].item()
        end = jump(math.sqrt(ab) * end + math.sqrt(1 - ab) * noise[k], ab)
    return end


def bill_by_counting(times, a_step, w, folded):
    answers = ["blend"] if folded else [part for part, weight in (("eps_u", 1 - w), ("eps_c", w)) if weight]
    asked = [answer for _ in pairwise(times) for _ in range(a_step) for answer in answers]
    rival = 1000 * sum(weight != 0 for weight in (1 - w, w))
    return len(asked), rival / len(asked)


def bill_by_cases(times, a_step, w, folded):
    plain = a_step * (len(times) - 1)
    if w in (0, 1):
        return [plain, 1000 / plain]
    return [plain, 2000 / plain] if folded else [2 * plain, 1000 / plain]


def merged_by_one_wide_adapter(weight, adapters, scales):
    down = torch.cat([down for down, _ in adapters])
    up = torch.cat([scale * up for (_, up), scale in zip(adapters, scales, strict=True)], 1)
    return weight + (up @ down).reshape(weight.shape)


def merged_by_the_library(weight, adapters, scales):
    outputs, inputs, *window = weight.shape
    layer = nn.Conv2d(inputs, outputs, window, bias=False) if window else nn.Linear(inputs, outputs, bias=False)
    layer.weight = nn.Parameter(weight)
    for (down, up), scale in zip(adapters, scales, strict=True):
        low = LowRank(layer, len(down))
        low.down, low.up = nn.Parameter(scale * down), nn.Parameter(up)
        layer = low.merged()
    return layer.weight


def claim_by_the_library(read, label, features, real, real_label):
    accuracy = (read == label).sum() / len(label)
    return accuracy.double(), class_spread(features, label) / class_spread(real, real_label)


def claim_by_variances(read, label, features, real, real_label):
    def within(x, own):
        return sum(x[own == c].var(0, correction=0).sum() * (own == c).sum() for c in set(own.tolist())) / len(x)

    right = [a == b for a, b in zip(read.tolist(), label.tolist(), strict=True)]
    return sum(right) / len(right), (within(features, label) / within(real, real_label)).sqrt()


RIGHT = {
    "progressive_target": (target_by_the_library, target_by_angles),
    "consistency_gradient": (gradient_by_hand, gradient_by_backward),
    "gaussian_jumps": (jumps_by_places, jumps_one_by_one),
    "bill": (bill_by_counting, bill_by_cases),
    "merged_weight": (merged_by_one_wide_adapter, merged_by_the_library),
    "accuracy_and_variety": (claim_by_the_library, claim_by_variances),
}
CLAIMS = {
    "480": lambda: 48 * 9 + 48,
    "0.02": lambda: 480 / (48 * 48 * 9),
    "500": lambda: exercises.bill([1000, 500, 0], 1, 1.0, False)[1],
}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def said(name, answer, seed):
    """What a learner with this answer reads, case by case; nothing where it is right."""
    return [result.says for result in judge(TASKS[name], lambda a: ask(answer, a), seeded(seed)).results]


@pytest.mark.parametrize(("name", "number"), MISTAKES)
def test_a_mistake_is_called_by_its_own_name_and_by_no_other(name, number):
    wrong, says = TASKS[name].wrong_answers[number]
    for seed in range(5):
        assert set(said(name, wrong, seed)) - {""} == {says}


def test_what_leads_astray_in_lesson_11_is_named():
    """The mistakes that the field makes: each has its sentence in some task."""
    sentences = [mistake.says for task in TASKS.values() for mistake in task.mistakes]
    for words in (
        "target is at the wrong time",
        "gradient flows through the target",
        "average is forgotten",
        "c_out is 20,000",
        "re-noised with the old noise",
        "not of the student's grid",
    ):
        assert sum(words in says for says in sentences) == 1, words


def test_the_factor_is_20_000():
    assert (1 / exercises.ALPHA_BAR[-1].sqrt()).item() == pytest.approx(20_000, rel=0.03)


def test_who_forgets_that_the_weight_needs_a_gradient_is_told_what_stopped_it():
    def without(weight, average, x_t, x_s, ab_t, ab_s, std):
        return torch.autograd.grad((x_t @ weight).sum(), weight)[0]

    assert all("does not require grad" in says for says in said("consistency_gradient", without, 0))


def test_a_weight_that_was_changed_in_place_is_named():
    def in_place(weight, adapters, scales):
        for (down, up), scale in zip(adapters, scales, strict=True):
            weight += scale * (up @ down).view_as(weight)
        return weight

    assert all("changed its argument number 1 in place" in says for says in said("merged_weight", in_place, 0))


def test_a_network_that_predicts_v_has_the_boundary_condition():
    """Data of spread 1: c_skip is a, c_out is b, and F is -v. The answer to the second prediction."""
    weight, average, x_t, x_s, ab_t, ab_s, _ = exercises.neighbours(seeded(), 8, 2)
    a, b = ab_t.sqrt()[:, None], (1 - ab_t).sqrt()[:, None]
    weight.requires_grad_()
    v = -x_t @ weight
    target = ab_s.sqrt()[:, None] * x_s + (1 - ab_s).sqrt()[:, None] * (x_s @ average)
    loss = (a * x_t - b * v - target).square().sum(1).mean()
    (wanted,) = torch.autograd.grad(loss, weight)
    found = exercises.consistency_gradient(weight, average, x_t, x_s, ab_t, ab_s, 1.0)
    torch.testing.assert_close(found, wanted)


def test_jumps_with_fresh_noise_keep_the_law_and_move_the_points():
    """The answer to the third prediction."""
    generator, alpha_bar, mean = seeded(), exercises.ALPHA_BAR, torch.tensor([1.0, -2.0], dtype=torch.float64)
    x = torch.randn(20_000, 2, generator=generator, dtype=torch.float64)
    noise = torch.randn(4, *x.shape, generator=generator, dtype=torch.float64)
    once = exercises.gaussian_jumps(x, noise, alpha_bar, [1000, 0], mean, 0.4)
    often = exercises.gaussian_jumps(x, noise, alpha_bar, [1000, 750, 500, 250, 0], mean, 0.4)
    for found in (once, often):
        torch.testing.assert_close(found.mean(0), mean, atol=0.02, rtol=0)
        torch.testing.assert_close(found.std(0), torch.full_like(mean, 0.4), atol=0.02, rtol=0)
    assert (once - often).norm(dim=1).mean() > 0.3


def test_bills_of_the_text():
    assert exercises.bill([1000, 500, 0], 1, 2.0, True) == (2, 1000)
    assert exercises.bill([1000, 500, 0], 1, 1.0, False) == (2, 500)


def test_one_digit_a_class_is_read_and_spreads_as_a_whole():
    """The answer to the last prediction."""
    read, label, features, real, real_label = exercises.claim(seeded(), 5, 20, 0.0, 1.1)
    read = label.clone()
    accuracy, variety = exercises.accuracy_and_variety(read, label, features, real, real_label)
    assert accuracy == 1
    assert variety < 1e-9
    everything = metrics.class_spread(features, 0 * label) / metrics.class_spread(real, 0 * real_label)
    assert everything > 0.7
