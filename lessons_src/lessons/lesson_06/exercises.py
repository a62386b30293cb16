"""Exercises of lesson 06: label drop, the guided prediction, its conventions, guided sampling, and how to judge it."""

import math
from itertools import pairwise

import torch
from torch import Tensor

from lessons_src.exercises.inputs import falling, falling_times, network, normal, pair, stream, times, uniform, whole
from lessons_src.exercises.tasks import Case, Task, edits
from lessons_src.oracle import OracleNetwork


def drop_labels(label: Tensor, num_classes: int, p_drop: float, generator: torch.Generator) -> Tensor:
    """Some labels replaced by the null label (Ho & Salimans 2022, algorithm 1)."""
    dropped = torch.rand(label.shape, generator=generator) < p_drop
    return label.masked_fill(dropped, num_classes)


def guided(eps_u: Tensor, eps_c: Tensor, w: float) -> Tensor:
    """The blend: w = 0 unconditional, w = 1 conditional (Ho & Salimans 2022, equation 6, with w = 1 + w_HS)."""
    return eps_u + w * (eps_c - eps_u)


def course_scale(w: Tensor, convention: str) -> Tensor:
    """The scales of this course that give the same predictions as scales in another convention."""
    if convention == "ho_salimans":
        return 1 + w
    return torch.where(w > 1, w, 1.0)


def guided_prediction(net: OracleNetwork, x: Tensor, t: Tensor, label: Tensor, w: float) -> Tensor:
    """Two calls of one network, blended."""
    eps_u = net(x, t, torch.full_like(label, net.num_classes))
    eps_c = net(x, t, label)
    return guided(eps_u, eps_c, w)


def guided_sample(
    net: OracleNetwork, x: Tensor, label: Tensor, w: float, alpha_bar: Tensor, times: list[int]
) -> Tensor:
    """DDIM with a guided prediction in every step."""
    for t, s in pairwise(times):
        ab_t, ab_s = alpha_bar[t].item(), alpha_bar[s].item()
        at = torch.full((len(x),), t)
        eps = guided_prediction(net, x, at, label, w)
        x0 = (x - math.sqrt(1 - ab_t) * eps) / math.sqrt(ab_t)
        x = math.sqrt(ab_s) * x0 + math.sqrt(1 - ab_s) * eps
    return x


def crowd_distance(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Fréchet distance between Gaussians with independent axes, of the crowd and of the class (its root)."""
    means = (x.mean(0) - mean).square().sum()
    spreads = (x.std(0) - std).square().sum()
    return (means + spreads).sqrt()


def scales(generator: torch.Generator) -> Tensor:
    """Guidance scales above 1, between 0 and 1, and negative."""
    high, low = (torch.rand(4, generator=generator, dtype=torch.float64) for _ in range(2))
    return torch.cat([1.5 + 8 * high, 0.1 + 0.8 * low[:2], -0.1 - 3 * low[2:]])


def _labels(generator: torch.Generator, B: int, classes: int) -> Tensor:
    return torch.randint(classes, (B,), generator=generator)


def drop_inputs(generator: torch.Generator, B: int, p_drop: float) -> tuple:
    """Arguments for drop_labels."""
    classes = whole(generator, 3, 10)
    return _labels(generator, B, classes), classes, p_drop, stream(generator)


def _network_and_labels(generator: torch.Generator, T: int, B: int) -> tuple[OracleNetwork, Tensor, Tensor, Tensor]:
    alpha_bar = falling(generator, T)
    return network(generator, alpha_bar), normal(generator, B, 2), _labels(generator, B, 3), alpha_bar


def prediction_inputs(generator: torch.Generator, w: float) -> tuple:
    """Arguments for guided_prediction."""
    net, x, label, _ = _network_and_labels(generator, 30, 8)
    return net, x, times(generator, 8, 30), label, w


def sample_inputs(generator: torch.Generator, T: int, steps: int, w: float) -> tuple:
    """Arguments for guided_sample."""
    net, x, label, alpha_bar = _network_and_labels(generator, T, 6)
    return net, x, label, w, alpha_bar, falling_times(generator, T, steps)


def crowd(generator: torch.Generator, n: int, d: int) -> tuple[Tensor, Tensor, Tensor]:
    """Arguments for crowd_distance."""
    x = uniform(generator, 0.5, 2.0) * normal(generator, n, d) + normal(generator, d)
    return x, normal(generator, d), 0.3 + normal(generator, d).abs()


TASKS = (
    Task(
        drop_labels,
        minutes=4,
        difficulty=1,
        cases=(
            Case("a tenth of many labels", lambda g: drop_inputs(g, 200, 0.1)),
            Case("almost half of them", lambda g: drop_inputs(g, 40, uniform(g, 0.3, 0.45))),
            Case("most of them", lambda g: drop_inputs(g, 40, uniform(g, 0.6, 0.8))),
        ),
        mistakes=edits("""
            < p_drop → >= p_drop
                Drop and keep have changed places: a label goes when its random number is *below* p_drop.
            dropped, num_classes → dropped, 0
                Dropped labels became 0, which is a class like any other. The null label is num_classes.
            dropped, num_classes → dropped, num_classes - 1
                Dropped labels became num_classes - 1, the last class. The null label comes after it: num_classes.
            dropped, num_classes → dropped, -1
                Dropped labels became -1. An embedding takes that for an error or for its last row; use num_classes.
            torch.rand → torch.randn
                The numbers come from torch.randn. For a probability they have to be uniform: torch.rand.
            label.shape → 1
                One random number decides for the whole batch. Draw one for each label.
            < p_drop → < 1 - p_drop
                This drops the share 1 - p_drop. A label goes when its random number is below p_drop.
            dropped, num_classes → dropped, num_classes + 1
                Dropped labels became num_classes + 1. Classes count from 0, so num_classes itself is free: it is the
                null label.
        """),
        hints=(
            "A coin for each label, which falls on one side with probability p_drop. What is a uniform number good "
            "for?",
            "`torch.rand(label.shape, generator=generator) < p_drop` is True for the labels to drop.",
            "`label.masked_fill(dropped, num_classes)` puts the null label in their place.",
        ),
    ),
    Task(
        guided,
        minutes=4,
        difficulty=1,
        cases=(
            Case("w above 1", lambda g: (*pair(g, 5, 2), uniform(g, 2.0, 9.0))),
            Case("w between 0 and 1", lambda g: (*pair(g, 5, 2), uniform(g, 0.1, 0.4))),
            Case("a negative w, pictures", lambda g: (*pair(g, 2, 1, 4, 4), uniform(g, -3.0, -0.5))),
        ),
        mistakes=edits("""
            eps_u + w → eps_c + w
                w counts from eps_c, as Ho & Salimans write it. In this course it counts from eps_u: w = 1 must give
                eps_c.
            eps_u + w * (eps_c - eps_u) → eps_c + w * (eps_u - eps_c)
                w is on the wrong term: w = 1 gives eps_u here. It has to lead *to* the conditional prediction.
            + w → - w
                The sign of the difference is turned round: you walk away from the condition.
            (eps_c - eps_u) → eps_c
                The whole of eps_c was added. What is stretched is the *difference*, eps_c - eps_u.
            eps_u + w → w
                This is the displacement alone. It starts at eps_u: add it.
            eps_u + w * (eps_c - eps_u) → w * eps_c
                This is w eps_c. The unconditional prediction has to come in, with the weight 1 - w.
            (eps_c - eps_u) → (eps_c + eps_u)
                The predictions are added. What is stretched is their *difference*, eps_c - eps_u.
            eps_u + w * (eps_c - eps_u) → eps_c - w * eps_u
                The two weights have to add up to 1: w for eps_c, 1 - w for eps_u.
        """),
        hints=(
            "A straight line through two predictions. Where on it are w = 0 and w = 1?",
            "Start at eps_u and go w times the way that leads to eps_c.",
            "`eps_u + w * (...)`, with the difference of the two in the brackets.",
        ),
    ),
    Task(
        course_scale,
        minutes=5,
        difficulty=2,
        cases=(
            Case("Ho & Salimans", lambda g: (scales(g), "ho_salimans")),
            Case("diffusers", lambda g: (scales(g), "diffusers"), points=2),
        ),
        mistakes=edits("""
            torch.where(w > 1, w, 1.0) → w
                At 1 and below a pipeline never reaches the formula: it makes one conditional call, our w = 1.
            1.0 → 0.0
                Switched off does not mean unconditional: the prompt is still used. That is w = 1.
            1 + w → w - 1
                You went the other way: *their* w is ours minus 1, so ours is theirs plus 1.
            1 + w → w
                The number is unchanged. Ask what each convention gives at w = 0: there the two differ.
            torch.where(w > 1, w, 1.0) → 1 + w
                diffusers counts from eps_u like this course; only Ho & Salimans count from eps_c.
            1 + w → 1 - w
                The sign: theirs is ours minus 1, so ours is theirs *plus* 1.
            w > 1 → w > 0
                Above 1 the formula is used, not above 0: between them a pipeline makes one conditional call, our w = 1.
        """),
        hints=(
            "For each convention: which number gives plain conditional sampling, our w = 1?",
            "(1 + w) eps_c - w eps_u: sort by eps_u + ... (eps_c - eps_u). And the pipeline is switched off at 1 and "
            "below, where it returns eps_c.",
            '`1 + w` for "ho_salimans"; for "diffusers" `torch.where(w > 1, w, 1.0)`.',
        ),
    ),
    Task(
        guided_prediction,
        minutes=6,
        difficulty=2,
        cases=(
            Case("w above 1", lambda g: prediction_inputs(g, uniform(g, 2.0, 6.0))),
            Case("w between 0 and 1", lambda g: prediction_inputs(g, uniform(g, 0.2, 0.4))),
            Case("a negative w", lambda g: prediction_inputs(g, uniform(g, -2.0, -0.5))),
        ),
        mistakes=edits("""
            net.num_classes → 0
                The unconditional call uses label 0, which is a class. The null label is net.num_classes.
            net.num_classes → net.num_classes - 1
                The unconditional call uses the last class. The null label comes after it: net.num_classes.
            guided(eps_u, eps_c, w) → eps_c
                Only the conditional prediction is used. Ask the network twice and blend.
            eps_u, eps_c, w → eps_c, eps_u, w
                The two predictions have changed places in the blend: w = 1 must give the conditional one.
            guided(eps_u, eps_c, w) → eps_c + w * (eps_c - eps_u)
                w counts from the conditional prediction. In this course it counts from the unconditional one.
            guided(eps_u, eps_c, w) → eps_u
                Only the unconditional prediction is used. Ask the network twice and blend.
            net.num_classes → -1
                The unconditional call uses label -1. The null label is net.num_classes.
            guided(eps_u, eps_c, w) → eps_c - eps_u
                This is the difference alone. Stretch it by w and add it to eps_u.
        """),
        hints=(
            "One network, two calls. What differs between them?",
            "The null label for everybody: `torch.full_like(label, net.num_classes)`.",
            "`guided(net(x, t, null), net(x, t, label), w)`.",
        ),
    ),
    Task(
        guided_sample,
        minutes=9,
        difficulty=3,
        cases=(
            Case("every time", lambda g: sample_inputs(g, 10, 10, uniform(g, 1.5, 3.0)), tolerance=1e-5),
            Case("a few of many times", lambda g: sample_inputs(g, 60, 6, uniform(g, 2.0, 4.0)), 2, tolerance=1e-5),
            Case("two steps, w below 1", lambda g: sample_inputs(g, 30, 2, uniform(g, 0.3, 0.7)), tolerance=1e-5),
        ),
        mistakes=edits("""
            guided_prediction(net, x, at, label, w) → net(x, at, label)
                Only the conditional prediction is used: this is w = 1, whatever w says.
            (1 - ab_s) * eps → (1 - ab_s) * net(x, at)
                The second line re-noises with the unconditional eps. Both lines take the same guided prediction.
            (1 - ab_s) * eps → (1 - ab_s) * net(x, at, label)
                The second line re-noises with the conditional eps. Both lines take the same guided prediction.
            guided_prediction(net, x, at, label, w) → guided(net(x, at, 0 * label), net(x, at, label), w)
                The unconditional call uses label 0, which is a class. The null label is net.num_classes.
            alpha_bar[s] → alpha_bar[t - 1]
                Each step goes to the level t - 1, but the next one starts from s. The target level is alpha_bar[s].
            label, w) → label, 1 + w)
                w counts from the conditional prediction. In this course it counts from the unconditional one.
            label, w) → label, w if s > 0 else 1.0)
                The last step is not guided. Every step is, the last one included.
            label, w) → label, 1 - w)
                The two predictions have changed places in the blend: w = 1 must give the conditional one.
            guided_prediction(net, x, at, label, w) → guided(net(x, at, torch.full_like(label, net.num_classes - 1)), net(x, at, label), w)
                The unconditional call uses the last class. The null label comes after it: net.num_classes.
            ab_t, ab_s = → ab_s, ab_t =
                The levels of s and t have changed places: each step starts at t, the noisier one, and ends at s.
            torch.full((len(x),), t) → torch.full((len(x),), max(s, 1))
                The network is asked about s. x still stands at t when it is asked.
            torch.full((len(x),), t) → torch.full((len(x),), s)
                The network is asked about s, in the end about 0. x still stands at t when it is asked.
            math.sqrt(ab_s) * x0 + math.sqrt(1 - ab_s) * eps → ab_s * x0 + (1 - ab_s) * eps
                The square roots are missing where x0 is noised to level s.
            (times) → (times[:-1])
                The last step is missing: the loop has to arrive at 0.
            / math.sqrt(ab_t) → / ab_t
                x0 is divided by alpha_bar itself. Divide by its square root.
            math.sqrt(1 - ab_t) → (1 - ab_t)
                The noise lacks its square root where x0 is predicted.
            math.sqrt(1 - ab_t) * eps) / math.sqrt(ab_t) → (1 - ab_t) * eps) / ab_t
                The square roots are missing where x0 is predicted.
        """),  # noqa: E501
        hints=(
            "The DDIM loop of lesson 05, with one line changed. Which one?",
            "In each step (t, s): the guided prediction at t, then the two lines of DDIM with it, in both places.",
            "`eps = guided_prediction(net, x, torch.full((len(x),), t), label, w)`, then x0 and the level of s as "
            "always.",
        ),
    ),
    Task(
        crowd_distance,
        minutes=5,
        difficulty=2,
        cases=(
            Case("points in the plane", lambda g: crowd(g, 50, 2), tolerance=1e-5),
            Case("features", lambda g: crowd(g, 40, 8), tolerance=1e-5),
            Case("one axis", lambda g: crowd(g, 30, 1), tolerance=1e-5),
        ),
        mistakes=edits("""
            means + spreads → means
                Only the means are compared. The spread is what guidance shrinks: it has to count.
            .sqrt() →
                The root of the whole sum is missing.
            std( → var(
                The variance of the crowd is compared with a standard deviation: take x.std(0).
            x.std(0) → x.std()
                The spread is taken over all numbers at once. Take it for each axis: x.std(0).
            (means + spreads).sqrt() → means.sqrt() + spreads.sqrt()
                You added two lengths. The squares of both parts go under one root.
            (means + spreads) → ((means + spreads) / x.shape[1])
                You averaged over the axes. Sum them: a distance has all of them in it.
            means + spreads → spreads
                Only the spreads are compared. Where the crowd lies has to count as well.
            x.std(0) → x.std(0, correction=0)
                The spread of the crowd is divided by n. Take x.std(0), which divides by n - 1.
        """),
        hints=(
            "Two crowds, each described by a mean and a spread for every axis. Four numbers in the plane: a distance "
            "between points in four dimensions.",
            "Squared differences of the means, summed over the axes, plus the same for the standard deviations.",
            "`((x.mean(0) - mean).square().sum() + ...).sqrt()`.",
        ),
    ),
)
