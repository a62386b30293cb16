"""Exercises of lesson 02: build schedules, and compare them by log-SNR."""

import math

import torch
from torch import Tensor

from lessons_src.exercises.inputs import uniform, whole
from lessons_src.exercises.tasks import Case, Mistake, Task, edits
from lessons_src.schedules import cosine, sigmoid


def linear_alpha_bar(T: int) -> Tensor:
    """alpha_bar of the linear schedule, its betas scaled so that T steps do the work of 1000."""
    one = torch.ones(1, dtype=torch.float64)
    beta = torch.linspace(0.1 / T, 20 / T, T, dtype=torch.float64)
    return torch.cat([one, (1 - beta).cumprod(0)])


def cosine_alpha_bar(T: int, s: float, max_beta: float) -> Tensor:
    """alpha_bar of the cosine schedule with offset and clip (Nichol & Dhariwal 2021, equation 17)."""
    u = torch.arange(T + 1, dtype=torch.float64) / T
    f = torch.cos((u + s) / (1 + s) * math.pi / 2) ** 2
    alpha_bar = f / f[0]
    beta = (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=max_beta)
    return torch.cat([alpha_bar[:1], 1 - beta]).cumprod(0)


def log_snr(alpha_bar: Tensor) -> Tensor:
    """Natural logarithm of alpha_bar / (1 - alpha_bar)."""
    snr = alpha_bar / (1 - alpha_bar)
    return torch.log(snr)


def level_of(log_snr: Tensor) -> Tensor:
    """The alpha_bar that has the given log-SNR."""
    return torch.sigmoid(log_snr)


def level_at_scale(alpha_bar: Tensor, b: float) -> Tensor:
    """The level at which the data themselves are as noisy as b times the data at alpha_bar."""
    return level_of(log_snr(alpha_bar) + 2 * math.log(b))


def matching_times(new: Tensor, old: Tensor) -> Tensor:
    """For each time 1..T of the new schedule, the time of the old one with the nearest log-SNR."""
    a, b = log_snr(new[1:]), log_snr(old[1:])
    return 1 + (a[:, None] - b).abs().argmin(1)


def _between(generator: torch.Generator, n: int, low: float = 0.02, high: float = 0.98) -> Tensor:
    return low + (high - low) * torch.rand(n, generator=generator, dtype=torch.float64)


def _cosine(generator: torch.Generator, T: tuple, s: tuple, max_beta: tuple) -> tuple[int, float, float]:
    return whole(generator, *T), uniform(generator, *s), uniform(generator, *max_beta)


def _ab(schedule, generator: torch.Generator, low: int, high: int) -> Tensor:
    return schedule(whole(generator, low, high)).alpha_bar


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
            *edits("""
                one, (1 - beta).cumprod(0) → (1 - beta).cumprod(0)
                    The 1 in front is missing: alpha_bar has T + 1 entries, and alpha_bar[0] = 1 is the clean data.
                0.1 / T, 20 / T → 1e-4, 0.02
                    The betas are those of a thousand steps, 0.0001 to 0.02. With other T they leave signal at the end:
                    scale them by 1000 / T.
                0.1 / T, 20 / T → 1e-4 * T / 1000, 0.02 * T / 1000
                    The betas are scaled the wrong way round. Fewer steps must each do more: multiply by 1000 / T.
                (1 - beta).cumprod(0) → 1 - beta.cumsum(0)
                    You added the betas up. Each step leaves a *share* of what is there, so 1 - beta is multiplied up.
            """),
            Mistake(
                "T, dtype=torch.float64)\n    return torch.cat([one, ",
                "T + 1, dtype=torch.float64)\n    return torch.cat([",
                "There are T + 1 betas, one of them for t = 0. Draw the line over T betas, then put a 1 in front.",
            ),
            *edits("""
                (1 - beta).cumprod(0) → (1 - beta).cumprod(0).sqrt()
                    This is sqrt(alpha_bar), the factor of x0. The schedule itself is the product without the root.
                (1 - beta).cumprod(0) → (1 - beta).cumprod(0).cumprod(0)
                    The product was taken twice. One cumprod of 1 - beta is alpha_bar already.
                (1 - beta).cumprod(0) → 1 - beta
                    This is each step's own alpha, 1 - beta. Multiply them up: cumprod.
                (1 - beta).cumprod → beta.cumprod
                    You multiplied the betas. What a step leaves is 1 - beta: multiply those.
                torch.linspace(0.1 / T, 20 / T, T, dtype=torch.float64) → torch.linspace((0.1 / T) ** 0.5, (20 / T) ** 0.5, T, dtype=torch.float64) ** 2
                    The roots of the betas rise evenly here, the schedule called scaled linear. Asked for are evenly
                    rising betas.
            """),  # noqa: E501
        ),
        hints=(
            "Two steps: a straight line of T betas, then the product of everything that the steps leave.",
            "`torch.linspace(0.1 / T, 20 / T, T, dtype=torch.float64)` is the line. "
            "Multiply `1 - beta` up, then prepend.",
            "`(1 - beta).cumprod(0)` has T entries. `torch.cat` puts `torch.ones(1, dtype=torch.float64)` in front.",
        ),
    ),
    Task(
        cosine_alpha_bar,
        minutes=9,
        difficulty=2,
        cases=(
            Case("a short schedule", lambda g: _cosine(g, (8, 15), (0.004, 0.02), (0.6, 0.7)), tolerance=1e-6),
            Case("a longer one", lambda g: _cosine(g, (20, 40), (0.004, 0.02), (0.5, 0.6)), tolerance=1e-6),
            Case("a large offset", lambda g: _cosine(g, (12, 30), (0.1, 0.3), (0.5, 0.6)), tolerance=1e-6),
        ),
        mistakes=edits("""
             ** 2 →
                The cosine is not squared. It is sqrt(alpha_bar) that follows a cosine.
            f / f[0] → f
                alpha_bar[0] is not 1: divide f by f(0), which the offset makes a little smaller than 1.
            .clamp(max=max_beta) →
                The clip is missing: the last betas exceed max_beta, and alpha_bar[T] falls to zero.
            torch.cat([alpha_bar[:1], 1 - beta]).cumprod(0) → alpha_bar.clamp(min=1 - max_beta)
                You clipped alpha_bar. It is the *betas*, 1 - alpha_bar[t] / alpha_bar[t - 1], that max_beta limits;
                then multiply 1 - beta up again.
             / (1 + s) →
                The offset is added but not made up for: divide t / T + s by 1 + s, or the curve runs past its zero.
            .cumprod(0) → .cumprod(0).cumprod(0)
                The product was taken twice. One cumprod of 1 - beta is alpha_bar already.
             * math.pi / 2 → * math.pi
                The angle ends at pi. A quarter turn brings the cosine from 1 to 0: pi / 2.
            alpha_bar[1:] / alpha_bar[:-1] → alpha_bar[:-1] / alpha_bar[1:]
                The ratio is upside down, and the betas came out negative: alpha_bar[t] / alpha_bar[t - 1].
            max=max_beta → min=max_beta
                The clip is the wrong way round: no beta may be *larger* than max_beta, so it is the max of clamp.
        """),
        hints=(
            "First the curve f at t = 0, 1, ..., T, divided by its first value. The clip comes after.",
            "Get the betas from neighbours, `1 - f[1:] / f[:-1]`, limit them with `.clamp(max=max_beta)`, "
            "multiply up again.",
            "`u = torch.arange(T + 1, dtype=torch.float64) / T`, "
            "`f = torch.cos((u + s) / (1 + s) * math.pi / 2) ** 2`, "
            "and in the end `(1 - beta).cumprod(0)` with a 1 in front.",
        ),
    ),
    Task(
        log_snr,
        minutes=3,
        difficulty=1,
        cases=(
            Case("levels in between", lambda g: (_between(g, 8),)),
            Case("almost clean", lambda g: (_between(g, 5, 0.98, 0.999),)),
            Case("almost noise", lambda g: (_between(g, 5, 0.001, 0.02),)),
        ),
        mistakes=edits("""
            torch.log(snr) → snr
                This is the SNR itself. Take its natural logarithm, and equal parts become 0.
            alpha_bar / (1 - alpha_bar) → (1 - alpha_bar) / alpha_bar
                The ratio is upside down: signal over noise, alpha_bar / (1 - alpha_bar).
            torch.log( → torch.log10(
                This is the logarithm to base 10. The course uses the natural one, torch.log.
            torch.log(snr) → 0.5 * torch.log(snr)
                Half of it: you compared amplitudes, the roots. The SNR is a ratio of powers.
             / (1 - alpha_bar) →
                The noise is missing: divide by 1 - alpha_bar before taking the logarithm.
            torch.log(snr) → 10 * torch.log10(snr)
                These are decibels. The course uses the natural logarithm, torch.log.
            alpha_bar / (1 - alpha_bar) → 1 - alpha_bar
                This is the logarithm of the noise alone: it has to be divided into alpha_bar first.
            torch.log(snr) → 2 * torch.log(snr)
                Twice too much: alpha_bar is a power already, not an amplitude.
        """),
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
            Case("levels in between", lambda g: (_between(g, 8, -5, 5),)),
            Case("much signal", lambda g: (_between(g, 5, -5, 5).abs() + 1,)),
            Case(
                "a straight line",
                lambda g: (torch.linspace(uniform(g, 5, 10), uniform(g, -10, -5), 20, dtype=torch.float64),),
            ),
        ),
        mistakes=edits("""
            torch.sigmoid(log_snr) → log_snr.exp()
                This is the SNR. It still has to be turned into a share: SNR / (1 + SNR).
            (log_snr) → (-log_snr)
                This is 1 - alpha_bar, the noise's share: the sign is turned round.
            (log_snr) → (2 * log_snr)
                The logarithm was doubled. log-SNR already compares powers, as alpha_bar does.
            (log_snr) → (log_snr).sqrt()
                This is sqrt(alpha_bar), the factor of x0. The task asks for alpha_bar itself.
            torch.sigmoid(log_snr) → log_snr / (1 + log_snr)
                You solved for the SNR, but put in its logarithm. Take the exponential first.
            torch.sigmoid(log_snr) → log_snr.exp() / (1 - log_snr.exp())
                The sign below: solve SNR = a / (1 - a) for a, and SNR / (1 + SNR) comes out.
            (log_snr) → (log_snr / 2)
                The logarithm was halved. log-SNR compares powers, as alpha_bar does.
            torch.sigmoid(log_snr) → 1 / (1 + log_snr)
                The exponential is missing: 1 / (1 + exp(-log_snr)).
        """),
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
            Case("half the contrast", lambda g: (_between(g, 6), 0.5)),
            Case("any lower contrast", lambda g: (_between(g, 6), uniform(g, 0.2, 0.8))),
            Case("more contrast", lambda g: (_between(g, 6), uniform(g, 1.3, 3.0))),
        ),
        mistakes=edits("""
            2 * math.log(b) → math.log(b)
                Log-SNR was shifted by log b. b multiplies amplitudes; their power changes by b², so shift by 2 log b.
            + 2 → - 2
                The shift has the wrong sign: weaker data, b < 1, drown sooner and need a *lower* level.
            level_of(log_snr(alpha_bar) + 2 * math.log(b)) → b**2 * alpha_bar
                You scaled alpha_bar itself. It is the *ratio* of signal to noise that b² multiplies.
            level_of → torch.exp
                This is the new SNR. Turn it into a level: SNR / (1 + SNR).
            + 2 * math.log(b) → * b**2
                You multiplied the logarithm. A factor of the SNR becomes a *sum* after taking logarithms.
            log_snr(alpha_bar) → alpha_bar.log()
                This starts from log(alpha_bar). Shift log-SNR, log(alpha_bar / (1 - alpha_bar)).
            2 * math.log(b) → b**2
                b² was added. A factor of the SNR becomes its logarithm: add 2 log b.
            2 * math.log(b) → math.log(2 * b)
                The 2 went into the logarithm: log b² is 2 log b.
            level_of(log_snr(alpha_bar) + 2 * math.log(b)) → log_snr(alpha_bar) + 2 * math.log(b)
                This is the new log-SNR. Turn it back into a level with level_of.
        """),
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
            Case("cosine after linear", lambda g: (_ab(cosine, g, 60, 80), linear_alpha_bar(whole(g, 25, 35)))),
            Case("linear after sigmoid", lambda g: (linear_alpha_bar(whole(g, 90, 120)), _ab(sigmoid, g, 10, 15))),
            Case("fewer times", lambda g: (_ab(cosine, g, 10, 20), _ab(sigmoid, g, 20, 30))),
        ),
        mistakes=edits("""
            1 +  →
                Every time is one too small: argmin counts from 0, times from 1.
            log_snr(new[1:]), log_snr(old[1:]) → new[1:], old[1:]
                You compared alpha_bar. Near both ends its differences are tiny although the noise levels differ a lot:
                compare log-SNR.
            a[:, None] - b → a[:, None].exp() - b.exp()
                You compared SNR. Its differences are huge near the data and vanish near noise: compare its logarithm.
            a, b = → b, a =
                The schedules have changed places: the answer needs one entry for each time of the *new* one.
            1 + (a[:, None] - b).abs().argmin(1) → (torch.arange(1, len(a) + 1) * len(b) / len(a)).round().long().clamp(min=1)
                This keeps the share t / T. Two schedules are not equally noisy halfway; compare log-SNR.
            log_snr(new[1:]), log_snr(old[1:]) → new[1:].log(), old[1:].log()
                You compared log(alpha_bar), which hardly moves near the data. Compare log(alpha_bar / (1 - alpha_bar)).
            .abs().argmin(1) → .argmin(1)
                The most negative difference is not the nearest: take the absolute value first.
            argmin(1) → argmax(1)
                These are the times that differ most. The nearest has the smallest difference: argmin.
        """),  # noqa: E501
        hints=(
            "Two lists of log-SNR, without t = 0, where it is infinite. "
            "For each entry of one, which of the other is nearest?",
            "All differences at once: `a[:, None] - b` has shape (new, old). "
            "Then the place of the smallest in each row.",
            "`(log_snr(new[1:])[:, None] - log_snr(old[1:])).abs().argmin(1)` counts from 0; times count from 1.",
        ),
    ),
)
