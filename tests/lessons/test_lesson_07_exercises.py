"""Right answers to lesson 07's exercises that are not the reference, and the numbers that their text states."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal

from lessons_src import data, guidance, measurements, samplers
from lessons_src.exercises.tasks import ask, judge
from lessons_src.lessons.lesson_07 import exercises
from lessons_src.process import eps_from_score, score_from_eps
from lessons_src.schedules import linear, time_grid


def eps_by_score(eps, gradient, alpha_bar, w):
    return eps_from_score(score_from_eps(eps, alpha_bar) + w * gradient, alpha_bar)


def eps_row_by_row(eps, gradient, alpha_bar, w):
    rows = zip(eps, gradient, alpha_bar.tolist(), strict=True)
    return torch.stack([row - w * math.sqrt(1 - ab) * push for row, push, ab in rows])


def gradient_by_backward(guide, x, t, label):
    x = x.clone().requires_grad_()
    guide.log_prob(x, t)[torch.arange(len(x)), label].sum().backward()
    return x.grad


def gradient_from_scores(guide, x, t, label):
    """Bayes, and no autograd."""
    return torch.cat(
        [
            guide.mixture.score(x[i : i + 1], ab, label[i : i + 1]) - guide.mixture.score(x[i : i + 1], ab)
            for i, ab in enumerate(guide.schedule.alpha_bar[t].tolist())
        ]
    )


def change_by_the_exact_classifier(net, start, end, t, label, alpha_bar, pieces):
    after, before = (net.log_prob(x, t).gather(1, label[:, None])[:, 0] for x in (end, start))
    return after - before


def change_by_trapezoids(net, start, end, t, label, alpha_bar, pieces):
    way, along = end - start, torch.linspace(0, 1, pieces + 1, dtype=torch.float64)
    pulls = [((net(x, t) - net(x, t, label)) * way).sum(1) for x in (start + u * way for u in along)]
    return torch.trapezoid(torch.stack(pulls, 1), along, dim=1) / (1 - alpha_bar[t]) ** 0.5


def slopes_by_densities(alpha_bar, mean, std):
    def at_one(ab):
        spread = (ab * std**2 + 1 - ab).sqrt()
        one = torch.tensor(1.0, dtype=torch.float64)
        return Normal(ab.sqrt() * mean, spread).log_prob(one) - Normal(-ab.sqrt() * mean, spread).log_prob(one)

    return at_one(alpha_bar), at_one(torch.ones_like(alpha_bar)) / at_one(alpha_bar)


def slopes_by_signal_to_noise(alpha_bar, mean, std):
    signal, noise = np.sqrt(alpha_bar.numpy()), 1 - alpha_bar.numpy()
    times = signal + noise / (signal * std**2)
    return torch.from_numpy(2 * mean / std**2 / times), torch.from_numpy(times)


def passes_counted(batch, steps, w_free, w_guide):
    """By a run on the ring."""
    net = data.ring().network(linear(20))
    label = torch.zeros(batch, dtype=torch.int64)
    base, guide = samplers.Counted(net), samplers.Counted(net.log_prob)
    free = guidance.classifier_free(base, label, w_free)
    eps_fn = guidance.classifier(free, guide, net.schedule, label, w_guide)
    noise = torch.randn(batch, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    samplers.sample(samplers.ddim(eps_fn, noise, net.schedule, time_grid(net.schedule, steps)))
    return base.nfe, base.backward, guide.nfe, guide.backward


def passes_by_truth_values(batch, steps, w_free, w_guide):
    base, guide = 1 + (w_free != 0 and w_free != 1), int(w_guide != 0)
    return [steps * count for count in (base, 0, guide, guide)]


def combined_by_the_library(net, guide, x, t, label, w_free, w_guide):
    base = guidance.classifier_free(net, label, w_free)
    return guidance.classifier(base, guide.log_prob, net.schedule, label, w_guide)(x, t)


def combined_by_two_differences(net, guide, x, t, label, w_free, w_guide):
    """The guide's gradient is its implicit one."""
    eps = net(x, t)
    return eps + w_free * (net(x, t, label) - eps) + w_guide * (guide(x, t, label) - guide(x, t))


RIGHT = {
    "guided_eps": (eps_by_score, eps_row_by_row),
    "log_prob_gradient": (gradient_by_backward, gradient_from_scores),
    "implicit_change": (change_by_the_exact_classifier, change_by_trapezoids),
    "slopes": (slopes_by_densities, slopes_by_signal_to_noise),
    "passes": (passes_counted, passes_by_truth_values),
    "combined": (combined_by_the_library, combined_by_two_differences),
}
CLAIMS = {
    "0.9999": lambda: 1 - 0.01**2,
    "10": lambda: math.exp(2.3),
    "990": lambda: exercises.slopes(torch.tensor([0.01], dtype=torch.float64), 1.0, 0.1)[1],
    "40": lambda: exercises.passes(100, 20, 3.0, 0.0)[0],
}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def said(name, answer, seed=0):
    (task,) = (task for task in exercises.TASKS if task.name == name)
    return [result.says for result in judge(task, lambda arguments: ask(answer, arguments), seeded(seed)).results]


def test_where_base_and_guide_know_one_law_the_weights_add_up():
    """The answer to the last prediction."""
    net, _, x, t, label, *_ = exercises.two_networks(seeded(), 0.0, 0.0, 50)
    for w_free, w_guide in ((1.0, 1.0), (0.0, 2.0), (2.5, -0.5)):
        blended = guidance.classifier_free(net, label, w_free + w_guide)(x, t)
        assert torch.allclose(exercises.combined(net, net, x, t, label, w_free, w_guide), blended, atol=1e-11)


def test_the_references_are_the_librarys():
    guide, x, t, label = exercises.classified(seeded(), 20, 4)
    log_p = lambda x, t: guide.log_prob(x, t).gather(1, label[:, None])[:, 0]  # noqa: E731
    assert torch.equal(exercises.log_prob_gradient(guide, x, t, label), guidance.gradient(log_p, x, t))
    found = exercises.guided_eps(guide(x, t), guidance.gradient(log_p, x, t), guide.schedule.alpha_bar[t], 3.0)
    assert torch.equal(found, guidance.classifier(guide, guide.log_prob, guide.schedule, label, 3.0)(x, t))


def test_slopes_are_those_of_an_exact_mixture():
    mixture = data.GaussianMixture([0.5, 0.5], [[0.8], [-0.8]], [[[0.09]], [[0.09]]])
    alpha_bar, x = 0.3, torch.tensor([[-0.4], [0.2], [1.1]], dtype=torch.float64)
    log_p = mixture.log_class_posterior(x, alpha_bar)
    slope, times = exercises.slopes(torch.tensor([alpha_bar], dtype=torch.float64), 0.8, 0.3)
    assert torch.allclose(log_p[:, 0] - log_p[:, 1], slope * x[:, 0])
    clean = mixture.log_class_posterior(x, 1.0)
    assert torch.allclose((clean[:, 0] - clean[:, 1]) / (log_p[:, 0] - log_p[:, 1]), times)


def without_gradient(guide, x, t, label):
    with torch.no_grad():
        x = x.clone().requires_grad_()
        log_p = guide.log_prob(x, t)[torch.arange(len(x)), label]
    log_p.sum().backward()
    return x.grad


def cut_off(guide, x, t, label):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(guide.log_prob(x.detach(), t)[torch.arange(len(x)), label].sum(), x)[0]


@pytest.mark.parametrize("answer", [without_gradient, cut_off])
def test_a_gradient_that_was_switched_off_is_named_however_it_was(answer):
    assert [says[:32] for says in said("log_prob_gradient", answer)] == ["Nothing here has a gradient: x n"] * 3


def test_x_itself_must_not_collect_gradients():
    """Whoever calls twice with one x would get the sum of both gradients, and the first one changed."""

    def collects(guide, x, t, label):
        x.requires_grad_()
        guide.log_prob(x, t)[torch.arange(len(x)), label].sum().backward()
        return x.grad

    guide, x, t, label = exercises.classified(seeded(), 5, 3)
    first, second = (collects(guide, x, t, label) for _ in range(2))
    assert first is second
    assert torch.allclose(first, 2 * gradient_by_backward(guide, x.detach(), t, label))
    assert [says[:42] for says in said("log_prob_gradient", collects)] == [
        "It left a gradient on its argument number "
    ] * 3


@pytest.mark.parametrize(
    "wrong",
    [
        lambda n, steps, w_free, w_guide: exercises.passes(n, steps, w_free if w_free > 1 else 0, w_guide),
        lambda n, steps, w_free, w_guide: exercises.passes(n, steps, w_free, w_guide if w_guide != 1 else 0),
    ],
)
def test_0_and_1_are_the_only_special_weights_and_1_is_none_for_a_guide(wrong):
    for seed in range(5):
        assert any(says.startswith(("Only at 0 and at 1", "At w_guide = 1")) for says in said("passes", wrong, seed))


def test_weights_that_changed_places_are_named():
    def swapped(net, guide, x, t, label, w_free, w_guide):
        return exercises.combined(net, guide, x, t, label, w_guide, w_free)

    assert [says[:33] for says in said("combined", swapped)] == ["The two weights have changed plac"] * 3


def test_a_guide_of_the_lessons_size_takes_less_time_than_classifier_free_guidance():
    """By the stored measurement: the answer to the prediction about costs."""
    rows = measurements.load("steering")
    free = [row["CPU seconds"] for row in rows if row["guide"] == "classifier-free" and row["base forward"] == 40]
    guided = [row["CPU seconds"] for row in rows if row["guide"] == "noise-aware" and row["w"] != 0]
    assert max(guided) < min(free)


def test_a_guide_as_large_as_the_base_would_take_twice_as_much():
    base, _, forward, backward = exercises.passes(100, 20, 0.0, 3.0)
    assert base + forward + 2 * backward == 2 * exercises.passes(100, 20, 3.0, 0.0)[0]
