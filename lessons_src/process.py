"""The forward process and its algebra: noising, the posterior, and the four equivalent predictions eps, x0, v, score.

Throughout, x is (B, *event) and alpha_bar is a number in (0, 1], or a tensor of shape () or (B,), one value a sample.
Coefficients are computed in float64 and cast to the dtype of x. TypeError and ValueError as in `checks`.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lessons_src.checks import check_alike, check_batch, check_real, refuse
from lessons_src.schedules import NoiseSchedule

Level = float | Tensor
Generators = torch.Generator | Sequence[torch.Generator] | None  # one for all, or a list with one for each sample


def as_column(values: Tensor, x: Tensor) -> Tensor:
    """Values (B,), one a sample, shaped to multiply x (B, *event)."""
    return values.reshape(-1, *[1] * (x.ndim - 1))


def rotate(a: Tensor, b: Tensor, signal: Level, noise: Level) -> tuple[Tensor, Tensor]:
    """(signal a + noise b, signal b - noise a): a noise level is an angle, with signal its cosine and noise its sine.

    (x0, eps) turns into (x_t, v), and (x_t, v) with -noise back into (x0, eps). Unchecked.
    """
    return signal * a + noise * b, signal * b - noise * a


def signal_and_noise(alpha_bar: Level, x: Tensor, noisy: bool = False) -> tuple[Level, Level]:
    """(sqrt(alpha_bar), sqrt(1 - alpha_bar)), shaped to multiply x; `noisy` refuses alpha_bar = 1.

    Numbers come back as numbers, a (B,) tensor as (B, 1, ..., 1) with the rank of x, whatever that is.
    """
    expected = "in (0, 1)" if noisy else "in (0, 1]"
    if not isinstance(alpha_bar, Tensor) or alpha_bar.ndim == 0:
        ab = check_real("alpha_bar", alpha_bar)
        if not 0 < ab <= 1 or (noisy and ab == 1):
            refuse("alpha_bar", ab, expected)
        return math.sqrt(ab), math.sqrt(1 - ab)
    if not alpha_bar.is_floating_point():
        refuse("alpha_bar", alpha_bar, f"floating-point values {expected}", TypeError)
    if alpha_bar.shape != x.shape[:1]:
        refuse("alpha_bar", alpha_bar, f"a number or shape ({len(x)},), one value a sample")
    if not ((alpha_bar > 0) & ((alpha_bar < 1) if noisy else (alpha_bar <= 1))).all():
        refuse("alpha_bar", alpha_bar.tolist(), f"values {expected}")
    column = as_column(alpha_bar.double(), x)
    return column.sqrt().to(x), (1 - column).sqrt().to(x)


def add_noise(x0: Tensor, eps: Tensor, alpha_bar: Level) -> Tensor:
    """The forward shortcut x_t = sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) eps (Ho et al. 2020, equation 4)."""
    signal, noise = signal_and_noise(alpha_bar, check_alike(x0=x0, eps=eps))
    return signal * x0 + noise * eps


def forward_chain(x0: Tensor, schedule: NoiseSchedule, generator: Generators = None) -> Iterator[Tensor]:
    """Yield x_1, ..., x_T by T small steps x_t = sqrt(1 - beta_t) x_{t-1} + sqrt(beta_t) noise (equation 2)."""
    x = check_batch("x0", x0)
    for alpha in schedule.alpha[1:]:
        x = add_noise(x, noise_like(x, generator), alpha)
        yield x


def noise_like(x: Tensor, generator: Generators = None) -> Tensor:
    """Standard normal noise of the shape, dtype and device of x (B, *event), drawn on the generator's own device.

    From a list of B generators each sample gets its own: its noise is then the same in every batch. Raises TypeError or
    ValueError for anything else.
    """
    if isinstance(generator, list | tuple):
        if len(generator) != len(x):
            refuse("len(generator)", len(generator), f"{len(x)}, one generator a sample")
        rows = [noise_like(row, one) for row, one in zip(x, generator, strict=True)]
        return torch.stack(rows) if rows else torch.empty_like(x)
    if generator is not None and not isinstance(generator, torch.Generator):
        refuse("generator", generator, "a torch.Generator, a list of them, one a sample, or None", TypeError)
    device = x.device if generator is None else generator.device
    return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=device).to(x.device)


def prior_kl(x0: Tensor, alpha_bar: Level) -> Tensor:
    """KL(q(x_T | x0) || N(0, I)) in nats, (B,), of samples x0 (B, *event) at the level alpha_bar of T.

    What the signal that is left at T costs, the last term of the variational bound (Ho et al. 2020, equation 5, L_T):
    half the sum of alpha_bar (x0^2 - 1) - log(1 - alpha_bar). alpha_bar < 1.
    """
    signal, _ = signal_and_noise(alpha_bar, check_batch("x0", x0), noisy=True)
    left = torch.as_tensor(signal, dtype=x0.dtype, device=x0.device).square()
    each = left * (x0.square() - 1) - (-left).log1p()
    return each.flatten(1).sum(1) / 2


def posterior_variance(alpha_bar_t: float, alpha_bar_s: float) -> float:
    """beta-tilde, the variance of q(x_s | x_t, x0) for s < t: (1 - ab_s) / (1 - ab_t) (1 - ab_t / ab_s)."""
    ab_t, ab_s = _pair(alpha_bar_t, alpha_bar_s)
    return (1 - ab_s) / (1 - ab_t) * (1 - ab_t / ab_s)


def posterior(x_t: Tensor, x0: Tensor, alpha_bar_t: float, alpha_bar_s: float) -> tuple[Tensor, float]:
    """Mean and variance of q(x_s | x_t, x0) for s < t (Ho et al. 2020, equations 6 and 7, for any pair of times)."""
    check_alike(x_t=x_t, x0=x0)
    ab_t, ab_s = _pair(alpha_bar_t, alpha_bar_s)
    beta = 1 - ab_t / ab_s
    mean = (math.sqrt(ab_s) * beta * x0 + math.sqrt(ab_t / ab_s) * (1 - ab_s) * x_t) / (1 - ab_t)
    return mean, posterior_variance(ab_t, ab_s)


def _pair(alpha_bar_t: float, alpha_bar_s: float) -> tuple[float, float]:
    ab_t = check_real("alpha_bar_t", alpha_bar_t, 0.0, 1.0)
    ab_s = check_real("alpha_bar_s", alpha_bar_s, 0.0, 1.0)
    if not 0 < ab_t < ab_s:
        refuse("alpha_bar_t", ab_t, f"a value in (0, alpha_bar_s = {ab_s}): a step goes from noisy t to cleaner s")
    return ab_t, ab_s


def predict_x0(x_t: Tensor, eps: Tensor, alpha_bar: Level) -> Tensor:
    """The clean sample implied by a noise prediction: (x_t - sqrt(1 - alpha_bar) eps) / sqrt(alpha_bar)."""
    signal, noise = signal_and_noise(alpha_bar, check_alike(x_t=x_t, eps=eps))
    return (x_t - noise * eps) / signal


def predict_eps(x_t: Tensor, x0: Tensor, alpha_bar: Level) -> Tensor:
    """The noise implied by a clean prediction: (x_t - sqrt(alpha_bar) x0) / sqrt(1 - alpha_bar); alpha_bar < 1."""
    signal, noise = signal_and_noise(alpha_bar, check_alike(x_t=x_t, x0=x0), noisy=True)
    return (x_t - signal * x0) / noise


def velocity(x0: Tensor, eps: Tensor, alpha_bar: Level) -> Tensor:
    """v = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x0 (Salimans & Ho 2022, section 4)."""
    signal, noise = signal_and_noise(alpha_bar, check_alike(x0=x0, eps=eps))
    return rotate(x0, eps, signal, noise)[1]


def x0_from_velocity(x_t: Tensor, v: Tensor, alpha_bar: Level) -> Tensor:
    """x0 = sqrt(alpha_bar) x_t - sqrt(1 - alpha_bar) v."""
    signal, noise = signal_and_noise(alpha_bar, check_alike(x_t=x_t, v=v))
    return rotate(x_t, v, signal, -noise)[0]


def eps_from_velocity(x_t: Tensor, v: Tensor, alpha_bar: Level) -> Tensor:
    """eps = sqrt(alpha_bar) v + sqrt(1 - alpha_bar) x_t."""
    signal, noise = signal_and_noise(alpha_bar, check_alike(x_t=x_t, v=v))
    return rotate(x_t, v, signal, -noise)[1]


def score_from_eps(eps: Tensor, alpha_bar: Level) -> Tensor:
    """The score of p_t that a noise prediction stands for: -eps / sqrt(1 - alpha_bar); alpha_bar < 1."""
    return -eps / signal_and_noise(alpha_bar, check_batch("eps", eps), noisy=True)[1]


def eps_from_score(score: Tensor, alpha_bar: Level) -> Tensor:
    """The noise prediction that a score of p_t stands for: -sqrt(1 - alpha_bar) score."""
    return -signal_and_noise(alpha_bar, check_batch("score", score))[1] * score
