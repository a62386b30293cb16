"""Exercises of lesson 02: build schedules, and compare them by log-SNR."""

import math

import torch
from torch import Tensor

from lessons_src import schedules
from lessons_src.exercises.inputs import uniform, whole
from lessons_src.exercises.tasks import Case, Task, WrongWay


def linear_alpha_bar(T: int) -> Tensor:
    """alpha_bar of the linear schedule, its betas scaled so that T steps do the work of 1000."""
    return schedules.linear(T, 0.1 / T, 20 / T).alpha_bar


def cosine_alpha_bar(T: int, s: float, max_beta: float) -> Tensor:
    """alpha_bar of the cosine schedule with offset and clip (Nichol & Dhariwal 2021, equation 17)."""
    return schedules.cosine(T, s, max_beta).alpha_bar


def log_snr(alpha_bar: Tensor) -> Tensor:
    """Natural logarithm of alpha_bar / (1 - alpha_bar)."""
    return (alpha_bar / (1 - alpha_bar)).log()


def level_of(log_snr: Tensor) -> Tensor:
    """The alpha_bar that has the given log-SNR."""
    return torch.sigmoid(log_snr)


def level_at_scale(alpha_bar: Tensor, b: float) -> Tensor:
    """The level at which the data themselves are as noisy as b times the data at alpha_bar."""
    return torch.sigmoid(alpha_bar.logit() + 2 * math.log(b))


def matching_times(new: Tensor, old: Tensor) -> Tensor:
    """For each time 1..T of the new schedule, the time of the old one with the nearest log-SNR."""
    return 1 + (log_snr(new[1:])[:, None] - log_snr(old[1:])).abs().argmin(1)


def _cumulated(beta: Tensor, first: bool = True) -> Tensor:
    alpha_bar = (1 - beta).cumprod(0)
    return torch.cat([torch.ones(1, dtype=torch.float64), alpha_bar]) if first else alpha_bar


def _line(start: float, end: float, steps: int) -> Tensor:
    return torch.linspace(start, end, steps, dtype=torch.float64)


def _one_and(rest: Tensor) -> Tensor:
    return torch.cat([torch.ones(1, dtype=torch.float64), rest])


def _cosine(power: int = 2, first: float | None = None, stretch: bool = True, clip: str = "beta"):
    """A cosine schedule with another power, start, stretch or clip than it should have."""

    def alpha_bar(T, s, max_beta):
        u = torch.arange(T + 1, dtype=torch.float64) / T
        f = torch.cos((u + s) / (1 + s if stretch else 1) * math.pi / 2) ** power
        f = f / (first or f[0])
        if clip == "alpha_bar":
            return f.clamp(min=1 - max_beta)
        if clip == "none":
            return f
        return _one_and((1 - (1 - f[1:] / f[:-1]).clamp(max=max_beta)).cumprod(0)) * f[0]

    return alpha_bar


def _nearest(value, shift=1):
    """matching_times by another quantity, or counted from elsewhere."""
    return lambda new, old: shift + (value(new[1:])[:, None] - value(old[1:])).abs().argmin(1)


def _same_share(new: Tensor, old: Tensor) -> Tensor:
    T = len(new) - 1
    return (torch.arange(1, T + 1) * (len(old) - 1) / T).round().long().clamp(min=1)


def _levels(generator: torch.Generator, n: int, low: float = 0.02, high: float = 0.98) -> Tensor:
    return low + (high - low) * torch.rand(n, generator=generator, dtype=torch.float64)


def _a(schedule, generator: torch.Generator, low: int, high: int) -> Tensor:
    return schedule(whole(generator, low, high)).alpha_bar


def _log_snrs(generator: torch.Generator, n: int) -> Tensor:
    return 10 * torch.rand(n, generator=generator, dtype=torch.float64) - 5


TASKS = (
    Task(
        linear_alpha_bar,
        minutes=6,
        difficulty=1,
        cases=(
            Case("the usual thousand steps", lambda g: (1000,)),
            Case("a few hundred steps", lambda g: (whole(g, 150, 600),)),
            Case("a few dozen steps", lambda g: (whole(g, 30, 90),)),
        ),
        mistakes=(
            WrongWay(
                lambda T: _cumulated(_line(0.1 / T, 20 / T, T), first=False),
                "The 1 in front is missing: alpha_bar has T + 1 entries, and alpha_bar[0] = 1 is the clean data.",
            ),
            WrongWay(
                lambda T: _cumulated(_line(1e-4, 0.02, T)),
                "The betas are those of a thousand steps, 0.0001 to 0.02. With other T they leave signal at the end: "
                "scale them by 1000 / T.",
            ),
            WrongWay(
                lambda T: _cumulated(_line(1e-4 * T / 1000, 0.02 * T / 1000, T)),
                "The betas are scaled the wrong way round. Fewer steps must each do more: multiply by 1000 / T.",
            ),
            WrongWay(
                lambda T: _one_and(1 - _line(0.1 / T, 20 / T, T).cumsum(0)),
                "You added the betas up. Each step leaves a *share* of what is there, so 1 - beta is multiplied up.",
            ),
            WrongWay(
                lambda T: (1 - _line(0.1 / T, 20 / T, T + 1)).cumprod(0),
                "There are T + 1 betas, one of them for t = 0. Draw the line over T betas, then put a 1 in front.",
            ),
            WrongWay(
                lambda T: _cumulated(_line(0.1 / T, 20 / T, T)).sqrt(),
                "This is sqrt(alpha_bar), the factor of x0. The schedule itself is the product without the root.",
            ),
        ),
        hints=(
            "Two steps: a straight line of T betas, then the product of everything that the steps leave.",
            "`torch.linspace(0.1 / T, 20 / T, T, dtype=torch.float64)` is the line. Multiply `1 - beta` up, then "
            "prepend.",
            "`(1 - beta).cumprod(0)` has T entries. `torch.cat` puts `torch.ones(1, dtype=torch.float64)` in front.",
        ),
    ),
    Task(
        cosine_alpha_bar,
        minutes=9,
        difficulty=2,
        cases=(
            Case(
                "a short schedule",
                lambda g: (whole(g, 8, 15), uniform(g, 0.004, 0.02), uniform(g, 0.6, 0.7)),
                tolerance=1e-6,
            ),
            Case(
                "a longer one",
                lambda g: (whole(g, 20, 40), uniform(g, 0.004, 0.02), uniform(g, 0.5, 0.6)),
                tolerance=1e-6,
            ),
            Case(
                "a large offset",
                lambda g: (whole(g, 12, 30), uniform(g, 0.1, 0.3), uniform(g, 0.5, 0.6)),
                tolerance=1e-6,
            ),
        ),
        mistakes=(
            WrongWay(_cosine(power=1), "The cosine is not squared. It is sqrt(alpha_bar) that follows a cosine."),
            WrongWay(
                _cosine(first=1.0),
                "alpha_bar[0] is not 1: divide f by f(0), which the offset makes a little smaller than 1.",
            ),
            WrongWay(
                _cosine(clip="none"),
                "The clip is missing: the last betas exceed max_beta, and alpha_bar[T] falls to zero.",
            ),
            WrongWay(
                _cosine(clip="alpha_bar"),
                "You clipped alpha_bar. It is the *betas*, 1 - alpha_bar[t] / alpha_bar[t - 1], that max_beta limits; "
                "then multiply 1 - beta up again.",
            ),
            WrongWay(
                _cosine(stretch=False),
                "The offset is added but not made up for: divide t / T + s by 1 + s, or the curve runs past its zero.",
            ),
        ),
        hints=(
            "First the curve f at t = 0, 1, ..., T, divided by its first value. The clip comes after.",
            "Get the betas from neighbours, `1 - f[1:] / f[:-1]`, limit them with `.clamp(max=max_beta)`, multiply up "
            "again.",
            "`u = torch.arange(T + 1, dtype=torch.float64) / T`, `f = torch.cos((u + s) / (1 + s) * math.pi / 2) ** "
            "2`, "
            "and in the end `(1 - beta).cumprod(0)` with a 1 in front.",
        ),
    ),
    Task(
        log_snr,
        minutes=3,
        difficulty=1,
        cases=(
            Case("levels in between", lambda g: (_levels(g, 8),)),
            Case("almost clean", lambda g: (_levels(g, 5, 0.98, 0.999),)),
            Case("almost noise", lambda g: (_levels(g, 5, 0.001, 0.02),)),
        ),
        mistakes=(
            WrongWay(
                lambda ab: ab / (1 - ab),
                "This is the SNR itself. Take its natural logarithm, and equal parts become 0.",
            ),
            WrongWay(
                lambda ab: ((1 - ab) / ab).log(),
                "The ratio is upside down: signal over noise, alpha_bar / (1 - alpha_bar).",
            ),
            WrongWay(
                lambda ab: (ab / (1 - ab)).log10(),
                "This is the logarithm to base 10. The course uses the natural one, torch.log.",
            ),
            WrongWay(
                lambda ab: 0.5 * (ab / (1 - ab)).log(),
                "Half of it: you compared amplitudes, the roots. The SNR is a ratio of powers.",
            ),
            WrongWay(lambda ab: ab.log(), "The noise is missing: divide by 1 - alpha_bar before taking the logarithm."),
        ),
        hints=(
            "What is the power of the signal, and what is that of the noise, for data of variance 1?",
            "alpha_bar and 1 - alpha_bar. Then the natural logarithm of their ratio.",
            "`torch.log(alpha_bar / ...)`; `torch.logit` does the same in one word.",
        ),
    ),
    Task(
        level_of,
        minutes=4,
        difficulty=1,
        cases=(
            Case("levels in between", lambda g: (_log_snrs(g, 8),)),
            Case("much signal", lambda g: (_log_snrs(g, 5).abs() + 1,)),
            Case("a straight line", lambda g: (_line(uniform(g, 5, 10), uniform(g, -10, -5), 20),)),
        ),
        mistakes=(
            WrongWay(
                lambda value: value.exp(),
                "This is the SNR. It still has to be turned into a share: SNR / (1 + SNR).",
            ),
            WrongWay(
                lambda value: torch.sigmoid(-value),
                "This is 1 - alpha_bar, the noise's share: the sign is turned round.",
            ),
            WrongWay(
                lambda value: torch.sigmoid(2 * value),
                "The logarithm was doubled. log-SNR already compares powers, as alpha_bar does.",
            ),
            WrongWay(
                lambda value: torch.sigmoid(value).sqrt(),
                "This is sqrt(alpha_bar), the factor of x0. The task asks for alpha_bar itself.",
            ),
            WrongWay(
                lambda value: value / (1 + value),
                "You solved for the SNR, but put in its logarithm. Take the exponential first.",
            ),
        ),
        hints=(
            "Undo task 3: first the logarithm, then the ratio. Solve r = a / (1 - a) for a.",
            "a = r / (1 + r) with r = exp(log-SNR). This function of log-SNR has a name.",
            "It is the logistic function, `torch.sigmoid`.",
        ),
    ),
    Task(
        level_at_scale,
        minutes=7,
        difficulty=2,
        cases=(
            Case("half the contrast", lambda g: (_levels(g, 6), 0.5)),
            Case("any lower contrast", lambda g: (_levels(g, 6), uniform(g, 0.2, 0.8))),
            Case("more contrast", lambda g: (_levels(g, 6), uniform(g, 1.3, 3.0))),
        ),
        mistakes=(
            WrongWay(
                lambda ab, b: torch.sigmoid(ab.logit() + math.log(b)),
                "Log-SNR was shifted by log b. b multiplies amplitudes; their power changes by b², so shift by 2 log "
                "b.",
            ),
            WrongWay(
                lambda ab, b: torch.sigmoid(ab.logit() - 2 * math.log(b)),
                "The shift has the wrong sign: weaker data, b < 1, drown sooner and need a *lower* level.",
            ),
            WrongWay(
                lambda ab, b: b**2 * ab,
                "You scaled alpha_bar itself. It is the *ratio* of signal to noise that b² multiplies.",
            ),
            WrongWay(
                lambda ab, b: b**2 * ab / (1 - ab),
                "This is the new SNR. Turn it into a level: SNR / (1 + SNR).",
            ),
            WrongWay(
                lambda ab, b: torch.sigmoid(ab.logit() * b**2),
                "You multiplied the logarithm. A factor of the SNR becomes a *sum* after taking logarithms.",
            ),
        ),
        hints=(
            "What does b do to the power of the signal, and what to the noise?",
            "SNR becomes b² times SNR, so log-SNR grows by 2 log b. Go there and back with tasks 3 and 4.",
            "`level_of(log_snr(alpha_bar) + 2 * math.log(b))`.",
        ),
    ),
    Task(
        matching_times,
        minutes=9,
        difficulty=3,
        cases=(
            Case(
                "cosine after linear", lambda g: (_a(schedules.cosine, g, 60, 80), linear_alpha_bar(whole(g, 25, 35)))
            ),
            Case(
                "linear after sigmoid",
                lambda g: (linear_alpha_bar(whole(g, 90, 120)), _a(schedules.sigmoid, g, 10, 15)),
            ),
            Case("fewer times", lambda g: (_a(schedules.cosine, g, 10, 20), _a(schedules.sigmoid, g, 20, 30))),
        ),
        mistakes=(
            WrongWay(
                _nearest(log_snr, shift=0),
                "Every time is one too small: argmin counts from 0, times from 1.",
            ),
            WrongWay(
                _nearest(lambda ab: ab),
                "You compared alpha_bar. Near both ends its differences are tiny although the noise levels differ a "
                "lot: compare log-SNR.",
            ),
            WrongWay(
                _nearest(lambda ab: ab / (1 - ab)),
                "You compared SNR. Its differences are huge near the data and vanish near noise: compare its "
                "logarithm.",
            ),
            WrongWay(
                lambda new, old: matching_times(old, new),
                "The schedules have changed places: the answer needs one entry for each time of the *new* one.",
            ),
            WrongWay(
                _same_share,
                "This keeps the share t / T. Two schedules are not equally noisy halfway; compare log-SNR.",
            ),
        ),
        hints=(
            "Two lists of log-SNR, without t = 0, where it is infinite. For each entry of one, which of the other is "
            "nearest?",
            "All differences at once: `a[:, None] - b` has shape (new, old). Then the place of the smallest in each "
            "row.",
            "`(log_snr(new[1:])[:, None] - log_snr(old[1:])).abs().argmin(1)` counts from 0; times count from 1.",
        ),
    ),
)
