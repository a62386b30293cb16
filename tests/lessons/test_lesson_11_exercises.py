"""Right answers to lesson 11's exercises that are not the reference, and who is told what."""

import math
import re
from itertools import pairwise

import numpy as np
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


def target_step_by_step_in_place(teacher, x, times, k):
    ab = teacher.schedule.alpha_bar.tolist()
    end = x.clone()
    for t, s in pairwise(times[2 * k : 2 * k + 3]):
        eps = teacher(end, torch.ones(len(x), dtype=torch.long) * t)
        end -= math.sqrt(1 - ab[t]) * eps
        end *= math.sqrt(ab[s] / ab[t])
        end += math.sqrt(1 - ab[s]) * eps
    t, s = times[2 * k], times[2 * k + 2]
    across = math.sqrt((1 - ab[s]) / (1 - ab[t]))
    return (math.sqrt(ab[t]) * x - (end - across * x) / (math.sqrt(ab[s]) - across * math.sqrt(ab[t]))) / math.sqrt(
        1 - ab[t]
    )


def target_through_eps(teacher, x, times, k):
    """Which eps would lead there in one step? Then v = a eps - b x0."""
    ab, (t, m, s) = teacher.schedule.alpha_bar, times[2 * k : 2 * k + 3]
    middle = exercises.ddim(x, teacher(x, torch.tensor([t] * len(x))), ab[t], ab[m])
    end = exercises.ddim(middle, teacher(middle, torch.tensor([m] * len(x))), ab[m], ab[s])
    eps = (end - (ab[s] / ab[t]).sqrt() * x) / ((1 - ab[s]).sqrt() - (ab[s] * (1 - ab[t]) / ab[t]).sqrt())
    return ab[t].sqrt() * eps - (1 - ab[t]).sqrt() * (x - (1 - ab[t]).sqrt() * eps) / ab[t].sqrt()


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


def gradient_by_a_transform(weight, average, x_t, x_s, ab_t, ab_s, std):
    def f(w, x, ab):
        v = ab * std**2 + 1 - ab
        return (ab.sqrt() * std**2 / v).unsqueeze(1) * x + (std * ((1 - ab) / v).sqrt()).unsqueeze(1) * x.matmul(w)

    target = f(average, x_s, ab_s)
    return torch.func.grad(lambda w: (f(w, x_t, ab_t) - target).pow(2).sum(-1).mean())(weight)


def gradient_of_a_flagged_argument(weight, average, x_t, x_s, ab_t, ab_s, std):
    (skip_t, out_t), (skip_s, out_s) = (
        ((ab.sqrt() * std**2 / v)[:, None], (std * (1 - ab).sqrt() / v.sqrt())[:, None])
        for ab in (ab_t, ab_s)
        for v in [ab * std**2 + 1 - ab]
    )
    weight.requires_grad_(True)
    target = (skip_s * x_s + out_s * (x_s @ average)).detach()
    loss = nn.functional.mse_loss(skip_t * x_t + out_t * (x_t @ weight), target, reduction="sum") / len(x_t)
    return torch.autograd.grad(loss, [weight])[0]


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


def jumps_in_arrays(x, noise, alpha_bar, times, mean, std):
    x, noise, ab, mean = (tensor.numpy() for tensor in (x, noise, alpha_bar, mean))
    for i in range(len(times) - 1):
        a, b = ab[times[i]], ab[times[i + 1]]
        x = (
            np.sqrt(b) * (mean + std * (x - np.sqrt(a) * mean) / np.sqrt(a * std**2 + 1 - a))
            + np.sqrt(1 - b) * noise[i]
        )
    return torch.from_numpy(x)


def jumps_by_recursion(x, noise, alpha_bar, times, mean, std):
    if len(times) == 1:
        return x
    a, b = alpha_bar[times[0]], alpha_bar[times[1]]
    y = mean + std * (a * std * std + 1 - a).rsqrt() * (x - a.sqrt() * mean)
    return jumps_by_recursion(b.sqrt() * y + (1 - b).sqrt() * noise[0], noise[1:], alpha_bar, times[1:], mean, std)


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


def bill_in_tensors(times, a_step, w, folded):
    double = torch.tensor(w not in (0.0, 1.0)).long() + 1
    n = torch.tensor(times).diff().numel() * a_step * (torch.tensor(1) if folded else double)
    return n, 1000 * double / n


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


def merged_in_place_of_a_copy(weight, adapters, scales):
    flat = weight.clone().flatten(1)
    for (down, up), scale in zip(adapters, scales, strict=True):
        flat.add_(up @ down, alpha=scale)
    return flat.unflatten(1, weight.shape[1:])


def merged_by_windows(weight, adapters, scales):
    return weight + sum(
        scale * torch.tensordot(up, down.view(-1, *weight.shape[1:]), dims=1)
        for (down, up), scale in zip(adapters, scales, strict=True)
    )


def claim_by_the_library(read, label, features, real, real_label):
    accuracy = (read == label).sum() / len(label)
    return accuracy.double(), class_spread(features, label) / class_spread(real, real_label)


def claim_by_variances(read, label, features, real, real_label):
    def within(x, own):
        return sum(x[own == c].var(0, correction=0).sum() * (own == c).sum() for c in set(own.tolist())) / len(x)

    right = [a == b for a, b in zip(read.tolist(), label.tolist(), strict=True)]
    return sum(right) / len(right), (within(features, label) / within(real, real_label)).sqrt()


def claim_in_single_precision(read, label, features, real, real_label):
    """As most would write the share; and the means by sums."""

    def spread(x, own):
        means = torch.zeros(int(own.max()) + 1, x.shape[1], dtype=x.dtype).index_add_(0, own, x)
        return torch.linalg.vector_norm(x - (means / own.bincount()[:, None])[own]) / len(x) ** 0.5

    return (read == label).float().mean(), spread(features, label) / spread(real, real_label)


def claim_by_a_loop(read, label, features, real, real_label):
    def spread(x, own):
        x = x.clone()
        for c in own.unique():
            x[own == c] -= x[own == c].mean(0, keepdim=True)
        return math.sqrt(x.norm(dim=1).square().sum().item() / len(x))

    return torch.sum(read == label) / label.numel(), spread(features, label) / spread(real, real_label)


RIGHT = {
    "progressive_target": (
        target_by_the_library,
        target_by_angles,
        target_step_by_step_in_place,
        target_through_eps,
    ),
    "consistency_gradient": (
        gradient_by_hand,
        gradient_by_backward,
        gradient_by_a_transform,
        gradient_of_a_flagged_argument,
    ),
    "gaussian_jumps": (jumps_by_places, jumps_one_by_one, jumps_in_arrays, jumps_by_recursion),
    "bill": (bill_by_counting, bill_by_cases, bill_in_tensors),
    "merged_weight": (
        merged_by_one_wide_adapter,
        merged_by_the_library,
        merged_in_place_of_a_copy,
        merged_by_windows,
    ),
    "accuracy_and_variety": (
        claim_by_the_library,
        claim_by_variances,
        claim_in_single_precision,
        claim_by_a_loop,
    ),
}


# --- Wrong answers in other words than those of the mistakes


def first_prediction_alone(teacher, x, times, k):
    """The teacher's v at t: the same as a target at m."""
    a, b = (f(teacher.schedule.alpha_bar[times[2 * k]]).sqrt() for f in (lambda ab: ab, lambda ab: 1 - ab))
    eps = teacher(x, torch.full((len(x),), times[2 * k]))
    return a * eps - b * (x - b * eps) / a


def one_prediction_for_both_steps(teacher, x, times, k):
    t, _, s = times[2 * k : 2 * k + 3]
    ab = teacher.schedule.alpha_bar
    end = exercises.ddim(x, teacher(x, torch.full((len(x),), t)), ab[t], ab[s])
    zero = torch.zeros(len(x), dtype=torch.int64)
    return v_to(teacher.schedule, x, end, zero + t, zero + s)


def mean_of_two_v(teacher, x, times, k):
    t, m, _ = times[2 * k : 2 * k + 3]
    ab = teacher.schedule.alpha_bar
    middle = exercises.ddim(x, teacher(x, torch.full((len(x),), t)), ab[t], ab[m])

    def v(x, t):
        eps = teacher(x, torch.full((len(x),), t))
        return ab[t].sqrt() * eps - (1 - ab[t]).sqrt() * (x - (1 - ab[t]).sqrt() * eps) / ab[t].sqrt()

    return (v(x, t) + v(middle, m)) / 2


def half_a_gradient(weight, average, x_t, x_s, ab_t, ab_s, std):
    return gradient_by_hand(weight, average, x_t, x_s, ab_t, ab_s, std) / 2


def transposed_gradient(*arguments):
    return gradient_by_hand(*arguments).T


def gradient_left_behind(weight, average, x_t, x_s, ab_t, ab_s, std):
    wanted = gradient_by_hand(weight, average, x_t, x_s, ab_t, ab_s, std)
    (weight.requires_grad_() * wanted).sum().backward()
    return weight.grad


def jumps_by_ddim(x, noise, alpha_bar, times, mean, std):
    for t, s in pairwise(times):
        a, b = alpha_bar[t], alpha_bar[s]
        x0 = mean + std / (a * std**2 + 1 - a).sqrt() * (x - a.sqrt() * mean)
        x = b.sqrt() * x0 + (1 - b).sqrt() * (x - a.sqrt() * x0) / (1 - a).sqrt()
    return x


def jumps_with_own_noise(x, noise, alpha_bar, times, mean, std):
    drawn = torch.randn(noise.shape, generator=seeded(7), dtype=noise.dtype)
    return jumps_by_places(x, drawn, alpha_bar, times, mean, std)


def bill_above_one(times, a_step, w, folded):
    guided = 2 if w > 1 else 1
    n = (len(times) - 1) * a_step * (1 if folded else guided)
    return n, 1000 * guided / n


def bill_of_a_rival_that_asks_as_often(times, a_step, w, folded):
    n, factor = exercises.bill(times, a_step, w, folded)
    return n, factor * a_step


def up_for_down(weight, adapters, scales):
    flat = weight.flatten(1)
    for (up, down), scale in zip(adapters, scales, strict=True):
        flat = flat + scale * (up @ down)
    return flat.view_as(weight)


def mean_change(weight, adapters, scales):
    changes = [scale * (up @ down).view_as(weight) for (down, up), scale in zip(adapters, scales, strict=True)]
    return weight + torch.stack(changes).mean(0)


def per_cent(*arguments):
    accuracy, variety = claim_by_variances(*arguments)
    return 100 * accuracy, variety


def spread_of_features(read, label, features, real, real_label):
    return (read == label).double().mean(), features.std() / real.std()


OFF = "belongs|expected"  # no mistake is named: what is off is said in numbers
WRONG = (
    ("progressive_target", first_prediction_alone, "Only the teacher's first prediction"),
    ("progressive_target", one_prediction_for_both_steps, "Only the teacher's first prediction"),
    ("progressive_target", mean_of_two_v, OFF),
    ("consistency_gradient", half_a_gradient, "This is half the gradient"),
    ("consistency_gradient", transposed_gradient, OFF),
    ("consistency_gradient", gradient_left_behind, "It left a gradient on its argument number 1"),
    ("gaussian_jumps", jumps_by_ddim, "You re-noised with the old noise"),
    ("gaussian_jumps", jumps_with_own_noise, OFF),
    ("bill", bill_above_one, "Guidance is forgotten: with w other than 0 and 1, below 1 too"),
    ("bill", bill_of_a_rival_that_asks_as_often, "This compares steps with steps"),
    ("merged_weight", up_for_down, "The product is turned round"),
    ("merged_weight", mean_change, "This adds the mean of the changes"),
    ("accuracy_and_variety", per_cent, "This is a percentage"),
    ("accuracy_and_variety", spread_of_features, OFF),
)
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


@pytest.mark.parametrize(("name", "wrong", "says"), WRONG)
def test_a_wrong_answer_is_told_what_is_wrong_with_it_and_nothing_else(name, wrong, says):
    for seed in range(5):
        found = set(said(name, wrong, seed)) - {""}
        assert found, "it is refused"
        assert all(re.search(says, sentence) for sentence in found), found
        if says == OFF:
            assert not found & {mistake.says for mistake in TASKS[name].mistakes}


def test_what_leads_astray_in_lesson_11_is_named():
    """The mistakes that the field makes: each has its sentence in some task."""
    sentences = [mistake.says for task in TASKS.values() for mistake in task.mistakes]
    for words in (
        "were at the wrong time, m",
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
