"""Exercises of lesson 04: the DDPM step, its mean in two forms, its two variances, and the whole chain."""

import math
from itertools import pairwise

import torch
from torch import Tensor

from lessons_src.exercises.inputs import falling, falling_times, levels, network, normal, pair, stream, uniform, whole
from lessons_src.exercises.tasks import Case, Task, WrongWay, edits
from lessons_src.oracle import OracleNetwork


def posterior_variance(ab_t: float, ab_s: float) -> float:
    """beta-tilde, the variance of q(x_s | x_t, x0) (Ho et al. 2020, equation 7)."""
    beta = 1 - ab_t / ab_s
    return (1 - ab_s) / (1 - ab_t) * beta


def posterior_mean(x_t: Tensor, x0: Tensor, ab_t: float, ab_s: float) -> Tensor:
    """The mean of q(x_s | x_t, x0) (Ho et al. 2020, equation 7)."""
    alpha = ab_t / ab_s
    return (math.sqrt(ab_s) * (1 - alpha) * x0 + math.sqrt(alpha) * (1 - ab_s) * x_t) / (1 - ab_t)


def mean_from_eps(x_t: Tensor, eps: Tensor, ab_t: float, ab_s: float) -> Tensor:
    """The same mean, from a noise prediction (Ho et al. 2020, equation 11)."""
    alpha = ab_t / ab_s
    return (x_t - (1 - alpha) / math.sqrt(1 - ab_t) * eps) / math.sqrt(alpha)


def ddpm_step(x_t: Tensor, eps: Tensor, z: Tensor, ab_t: float, ab_s: float, variance: str) -> Tensor:
    """One step of ancestral sampling, without noise on the way to clean data (Ho et al. 2020, algorithm 2)."""
    mean = mean_from_eps(x_t, eps, ab_t, ab_s)
    size = 1 - ab_t / ab_s if variance == "beta" else posterior_variance(ab_t, ab_s)
    return mean + (math.sqrt(size) * z if ab_s < 1 else 0)


def ddpm_sample(
    net: OracleNetwork, x: Tensor, alpha_bar: Tensor, times: list[int], generator: torch.Generator
) -> Tensor:
    """The whole chain with the posterior's own variance, over any falling list of times that ends at 0."""
    for t, s in pairwise(times):
        ab_t, ab_s = alpha_bar[t].item(), alpha_bar[s].item()
        x = mean_from_eps(x, net(x, torch.full((len(x),), t)), ab_t, ab_s)
        if s > 0:
            size = posterior_variance(ab_t, ab_s)
            z = torch.randn(x.shape, generator=generator)
            x = x + math.sqrt(size) * z
    return x


def final_variance(alpha_bar: Tensor, times: list[int]) -> float:
    """Variance of DDPM's samples with noise variance beta, exact predictor of N(0, 1) data, start from N(0, 1)."""
    V = 1.0
    for t, s in pairwise(times):
        ab_t, ab_s = alpha_bar[t].item(), alpha_bar[s].item()
        alpha = ab_t / ab_s
        V = alpha * V + (1 - alpha if s > 0 else 0)
    return V


def step_inputs(generator: torch.Generator, variance: str, last: bool = False) -> tuple:
    """Arguments for ddpm_step."""
    ab_t, ab_s = levels(generator)
    return *pair(generator, 5, 2), normal(generator, 5, 2), ab_t, 1.0 if last else ab_s, variance


def levels_and_times(generator: torch.Generator, T: int, steps: int) -> tuple[Tensor, list[int]]:
    """Arguments for final_variance."""
    return falling(generator, T), falling_times(generator, T, steps)


def chain_inputs(generator: torch.Generator, T: int, steps: int) -> tuple:
    """Arguments for ddpm_sample."""
    alpha_bar = falling(generator, T)
    x = normal(generator, 6, 2, dtype=torch.float32)
    return network(generator, alpha_bar), x, alpha_bar, falling_times(generator, T, steps), stream(generator)


TASKS = (
    Task(
        posterior_variance,
        minutes=4,
        difficulty=1,
        cases=(
            Case("a step between two levels", levels, tolerance=1e-7),
            Case("another one", levels, tolerance=1e-7),
            Case("a small step near the data", lambda g: ((ab := uniform(g, 0.8, 0.9)), ab + 0.04), tolerance=1e-7),
        ),
        mistakes=edits("""
            (1 - ab_s) / (1 - ab_t) * beta → beta
                This is beta, the noise that the forward step adds. Once x0 is known, less is left open: multiply by (1
                - ab_s) / (1 - ab_t).
            (1 - ab_s) / (1 - ab_t) → (1 - ab_t) / (1 - ab_s)
                The ratio is upside down: (1 - ab_s) / (1 - ab_t), which is less than 1.
            ab_t / ab_s → ab_s / ab_t
                s and t have changed places in beta = 1 - ab_t / ab_s, and the variance came out negative.
            (1 - ab_s) / (1 - ab_t) * beta → math.sqrt((1 - ab_s) / (1 - ab_t) * beta)
                This is the standard deviation. Asked for is the variance, its square.
             * beta →
                The factor beta = 1 - ab_t / ab_s is missing.
            (1 - ab_s) / (1 - ab_t) * beta → (1 - ab_s) * beta
                The division by 1 - ab_t is missing.
            1 - ab_t / ab_s → 1 - ab_t
                beta is 1 - ab_t here, the noise of the whole way. This step's own is 1 - ab_t / ab_s.
            1 - ab_t / ab_s → ab_s - ab_t
                beta is a difference of levels here. Levels are products: this step's own share is ab_t / ab_s.
            (1 - ab_s) / (1 - ab_t) → ab_s / ab_t
                The ratio is of the signals. It is that of the noises: (1 - ab_s) / (1 - ab_t).
        """),
        hints=(
            "Start from beta of this step. What multiplies it, and must the result be larger or smaller than beta?",
            "beta = 1 - ab_t / ab_s. The factor is a ratio of two noise variances, that of s and that of t.",
            "`(1 - ab_s) / (1 - ab_t) * beta`.",
        ),
    ),
    Task(
        posterior_mean,
        minutes=6,
        difficulty=2,
        cases=(
            Case("points", lambda g: (*pair(g, 6, 2), *levels(g))),
            Case("pictures", lambda g: (*pair(g, 2, 1, 4, 4), *levels(g))),
            Case("a step near the data", lambda g: (*pair(g, 6, 2), uniform(g, 0.8, 0.85), uniform(g, 0.9, 0.95))),
        ),
        mistakes=edits("""
            x_t: Tensor, x0: Tensor → x0: Tensor, x_t: Tensor
                The weights have changed places: sqrt(ab_s) beta belongs to x0, sqrt(alpha) (1 - ab_s) to x_t.
            math.sqrt(ab_s) → math.sqrt(ab_t)
                The weight of x0 has sqrt(ab_t) where sqrt(ab_s) belongs: the target level, not the present one.
            math.sqrt(alpha) → alpha
                The weight of x_t has alpha where sqrt(alpha) belongs.
            math.sqrt(alpha) → math.sqrt(ab_t)
                The weight of x_t has sqrt(ab_t), the root of the product. It is this step's own alpha = ab_t / ab_s.
             / (1 - ab_t) →
                The division by 1 - ab_t is missing.
            math.sqrt(ab_s) * (1 - alpha) * x0 + math.sqrt(alpha) → ab_s * (1 - alpha) * x0 + alpha
                Both roots are missing: the weights have sqrt(ab_s) and sqrt(alpha).
            math.sqrt(ab_s) → ab_s
                The weight of x0 has ab_s where sqrt(ab_s) belongs.
            ab_t / ab_s → ab_t
                alpha is ab_t here, the product of all steps. This step's own is ab_t / ab_s.
            ab_t: float, ab_s: float → ab_s: float, ab_t: float
                s and t have changed places: ab_t is the smaller level, the noisier one.
             * (1 - ab_s) * x_t → * x_t
                The weight of x_t lacks its factor 1 - ab_s: at clean data nothing of x_t is left.
        """),
        hints=(
            "Two terms, one with x0 and one with x_t, over a common denominator. Name alpha = ab_t / ab_s first.",
            "Check your weights at the last step: with ab_s = 1 the mean has to be x0 itself.",
            "`(math.sqrt(ab_s) * (1 - alpha) * x0 + math.sqrt(alpha) * (1 - ab_s) * x_t) / ...`",
        ),
    ),
    Task(
        mean_from_eps,
        minutes=5,
        difficulty=2,
        cases=(
            Case("points", lambda g: (*pair(g, 6, 2), *levels(g))),
            Case("pictures", lambda g: (*pair(g, 2, 1, 4, 4), *levels(g))),
            Case("the last step, ab_s = 1", lambda g: (*pair(g, 6, 2), levels(g)[0], 1.0)),
        ),
        mistakes=(
            *edits("""
                 / math.sqrt(1 - ab_t) →
                    eps is multiplied by beta. It has to be beta / sqrt(1 - ab_t): eps has size 1, the noise in x_t has
                    not.
                math.sqrt(alpha) → math.sqrt(ab_t)
                    You divided by sqrt(ab_t), which leads all the way to clean data. One step divides by sqrt(alpha),
                    alpha = ab_t / ab_s.
                x_t -  → x_t +
                    The noise was added. The step takes some of it out: a minus sign.
                math.sqrt(alpha) → alpha
                    You divided by alpha where sqrt(alpha) belongs.
            """),
            WrongWay(
                lambda x_t, eps, ab_t, ab_s: mean_from_eps(x_t, eps, ab_s, ab_t) if ab_s < 1 else x_t / 0,
                "s and t have changed places: this steps towards *more* noise.",
            ),
            *edits("""
                math.sqrt(1 - ab_t) → (1 - ab_t)
                    beta is divided by 1 - ab_t where sqrt(1 - ab_t) belongs.
                (1 - alpha) / math.sqrt(1 - ab_t) → math.sqrt(1 - alpha)
                    This takes out sqrt(beta) eps, the size of one dose. Of the guessed noise it is beta / sqrt(1 -
                    ab_t).
                (1 - alpha) / math.sqrt(1 - ab_t) → math.sqrt(1 - ab_t)
                    This takes out all the noise at once. One step takes out beta / sqrt(1 - ab_t) of eps.
                (x_t - (1 - alpha) / math.sqrt(1 - ab_t) * eps) / math.sqrt(alpha) → x_t - (1 - alpha) / math.sqrt(1 - ab_t) * eps / math.sqrt(alpha)
                    The brackets are missing: x_t has to be divided by sqrt(alpha) as well.
                 / math.sqrt(alpha) →
                    The division by sqrt(alpha) is missing: the forward step has shrunk x by it.
                / math.sqrt(alpha) → * math.sqrt(alpha)
                    You multiplied by sqrt(alpha). The forward step does that; to undo it, divide.
                ab_t / ab_s → ab_t
                    alpha is ab_t here, the product of all steps. This step's own is ab_t / ab_s.
            """),  # noqa: E501
        ),
        hints=(
            "Algorithm 2 in the lesson. Which alpha belongs to a single step from t to s?",
            "alpha = ab_t / ab_s and beta = 1 - alpha. A small part of eps goes out, then x is scaled up a little.",
            "`(x_t - beta / math.sqrt(1 - ab_t) * eps)`, divided by the root of alpha.",
        ),
    ),
    Task(
        ddpm_step,
        minutes=7,
        difficulty=2,
        cases=(
            Case('in the middle, variance "beta"', lambda g: step_inputs(g, "beta")),
            Case('in the middle, variance "beta_tilde"', lambda g: step_inputs(g, "beta_tilde")),
            Case('the last step, variance "beta"', lambda g: step_inputs(g, "beta", last=True)),
        ),
        mistakes=edits("""
             if ab_s < 1 else 0 →
                Noise is drawn at the last step. At s = 0 the data are clean, and a draw is only grain on the picture.
            math.sqrt(size) → size
                z is multiplied by the variance. Take its root, the standard deviation.
            1 - ab_t / ab_s if variance == "beta" else  →
                The variance is always beta-tilde. With "beta" it should be 1 - ab_t / ab_s.
             if variance == "beta" else posterior_variance(ab_t, ab_s) →
                The variance is always beta. With "beta_tilde" it should be that of the posterior.
            mean_from_eps(x_t, eps, ab_t, ab_s) → (x_t - math.sqrt(1 - ab_t) * eps) / math.sqrt(ab_t)
                The noise was added to x0. A step starts from the *mean*, which lies between x0 and the present x.
             + (math.sqrt(size) * z if ab_s < 1 else 0) →
                No noise is added at all. Without it every sample shrinks towards the average of the data.
            * z if → * eps if
                The noise that is added is eps, the prediction. Fresh noise is z.
            return mean + → return x_t +
                The noise is added to x_t itself. It comes on top of the mean.
            1 - ab_t / ab_s if → 1 - ab_t if
                beta is 1 - ab_t here, the noise of the whole way. This step's own is 1 - ab_t / ab_s.
        """),
        hints=(
            "Mean, then noise. For which of the two do the cases of variance and last step matter?",
            "Take `mean_from_eps` from task 3 and `posterior_variance` from task 1. ab_s is 1 exactly at the last "
            "step.",
            '`size = 1 - ab_t / ab_s if variance == "beta" else posterior_variance(ab_t, ab_s)`; then '
            "`mean + math.sqrt(size) * z`, or the mean alone if ab_s is 1.",
        ),
    ),
    Task(
        ddpm_sample,
        minutes=10,
        difficulty=3,
        cases=(
            Case("every time", lambda g: chain_inputs(g, 10, 10), tolerance=1e-3),
            Case("a few of many times", lambda g: chain_inputs(g, 60, 6), points=2, tolerance=1e-3),
            Case("two steps", lambda g: chain_inputs(g, 30, 2), tolerance=1e-3),
        ),
        mistakes=edits("""
            torch.randn → torch.rand
                The noise comes from torch.rand: uniform, between 0 and 1. Gaussian noise is torch.randn.
            generator=generator) → generator=generator) if t == times[0] else z
                The noise was drawn once, before the loop. Each step needs fresh noise.
            alpha_bar[s] → alpha_bar[t - 1]
                Each step goes to the level t - 1, but the next one starts from s. The target level is alpha_bar[s].
            alpha_bar[t].item(), alpha_bar[s].item() → alpha_bar[t - 1].item(), alpha_bar[s - 1].item()
                The levels are shifted by one: alpha_bar[t - 1]. At s = 0 that wraps round to the *last* entry.
            math.sqrt(size) → size
                The noise is multiplied by the variance. Take its root.
            s > 0 → False
                No noise is added. Then every sample ends near the average of the data.
            posterior_variance(ab_t, ab_s) → 1 - ab_t / ab_s
                The variance is beta. This chain is asked for with the posterior's own, beta-tilde.
            ab_t, ab_s = alpha_bar[t] → ab_s, ab_t = alpha_bar[t]
                The levels of s and t have changed places: each step starts at t, the noisier one, and ends at s.
            torch.full((len(x),), t) → torch.full((len(x),), max(s, 1))
                The network is asked about s. x still stands at t when it is asked.
            torch.full((len(x),), t) → torch.full((len(x),), s)
                The network is asked about s, in the end about 0. x still stands at t when it is asked.
            (times) → (times[:-1])
                The last step is missing: the loop has to arrive at 0.
        """),
        hints=(
            "`pairwise(times)` gives every step (t, s): the s of one step is the t of the next.",
            "In each step: levels, prediction, mean, and a draw unless s is 0. The network wants t as a tensor of "
            "shape (B,).",
            "`eps = net(x, torch.full((len(x),), t))`, `x = mean_from_eps(x, eps, ab_t, ab_s)`, and if s > 0 add "
            "`math.sqrt(posterior_variance(ab_t, ab_s)) * torch.randn(x.shape, generator=generator)`.",
        ),
    ),
    Task(
        final_variance,
        minutes=6,
        difficulty=3,
        cases=(
            Case("every time", lambda g: levels_and_times(g, 8, 8), tolerance=1e-6),
            Case("a few of many times", lambda g: levels_and_times(g, 50, whole(g, 3, 8)), tolerance=1e-6),
            Case("two steps", lambda g: levels_and_times(g, 20, 2), tolerance=1e-6),
        ),
        mistakes=edits("""
             if s > 0 else 0 →
                The last step adds noise, or is missing: then the variance would be 1 exactly. It draws nothing, but it
                shrinks.
            alpha * V → math.sqrt(alpha) * V
                V is multiplied by sqrt(alpha). x is; its variance is multiplied by the square, alpha.
            V = 1.0 → V = 0.0
                The chain starts from pure noise, with variance 1 and not 0.
            1 - alpha → posterior_variance(ab_t, ab_s)
                The noise has the posterior's variance. The task asks for the larger one, beta = 1 - ab_t / ab_s.
            1 - alpha → math.sqrt(1 - alpha)
                You added standard deviations. For independent noises it is the variances that add.
            alpha = ab_t / ab_s → alpha = ab_s / ab_t
                The levels have changed places: this step's alpha is ab_t / ab_s, below 1.
            return V → return math.sqrt(V)
                This is the standard deviation. Asked for is the variance.
            alpha * V → V
                V is not shrunk: the step multiplies x by sqrt(alpha), and so V by alpha.
        """),
        hints=(
            "For this data a step is x -> sqrt(alpha) x + sqrt(beta) z. What does that do to the variance?",
            "V -> alpha V + beta, with alpha = ab_t / ab_s. One of the steps adds nothing.",
            "Start with `V = 1.0`; for t, s in `pairwise(times)`: `V = alpha * V + (1 - alpha if s > 0 else 0)`.",
        ),
    ),
)
