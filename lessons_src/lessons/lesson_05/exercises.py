"""Exercises of lesson 05: the two-line DDIM step, its grid and its loop, eta, and a fair comparison."""

import math
from itertools import pairwise

import torch
from torch import Tensor

from lessons_src.exercises.inputs import falling, falling_times, levels, network, normal, pair, uniform, whole
from lessons_src.exercises.tasks import Case, Mistake, Task, WrongWay, edits
from lessons_src.oracle import OracleNetwork
from lessons_src.samplers import ddim, sample
from lessons_src.schedules import NoiseSchedule, time_grid


def ddim_step(x_t: Tensor, eps: Tensor, ab_t: float, ab_s: float) -> Tensor:
    """Predict clean, re-noise to s with the same eps (Song, Meng & Ermon 2020, equation 12 with sigma = 0)."""
    x0 = (x_t - math.sqrt(1 - ab_t) * eps) / math.sqrt(ab_t)
    return math.sqrt(ab_s) * x0 + math.sqrt(1 - ab_s) * eps


def walk(x: Tensor, ab: list[float]) -> Tensor:
    """Every state of a DDIM walk over the levels ab, for N(0, 1) data, the start included."""
    states = [x]
    for ab_t, ab_s in pairwise(ab):
        eps = math.sqrt(1 - ab_t) * x
        x = ddim_step(x, eps, ab_t, ab_s)
        states.append(x)
    return torch.stack(states)


def even_grid(T: int, steps: int) -> list[int]:
    """steps + 1 times from T to 0, as evenly spread as whole numbers rounded down can be."""
    return [T * i // steps for i in range(steps, -1, -1)]


def ddim_sample(net: OracleNetwork, x: Tensor, alpha_bar: Tensor, times: list[int]) -> Tensor:
    """The whole loop."""
    for t, s in pairwise(times):
        eps = net(x, torch.full((len(x),), t))
        x = ddim_step(x, eps, alpha_bar[t].item(), alpha_bar[s].item())
    return x


def ddim_eta_step(x_t: Tensor, eps: Tensor, z: Tensor, ab_t: float, ab_s: float, eta: float) -> Tensor:
    """A step with fresh noise sigma = eta sqrt(beta-tilde) (Song, Meng & Ermon 2020, equations 12 and 16)."""
    x0 = (x_t - math.sqrt(1 - ab_t) * eps) / math.sqrt(ab_t)
    beta_tilde = (1 - ab_s) / (1 - ab_t) * (1 - ab_t / ab_s)
    sigma = eta * math.sqrt(beta_tilde)
    kept = 1 - ab_s - sigma**2
    return math.sqrt(ab_s) * x0 + math.sqrt(kept) * eps + sigma * z


def same_start_distance(net: OracleNetwork, x: Tensor, schedule: NoiseSchedule, few: int, many: int) -> Tensor:
    """Root mean square distance between the ends of two DDIM runs from one start."""
    a, b = (sample(ddim(net, x, schedule, time_grid(schedule, steps))) for steps in (few, many))
    return (a - b).square().mean().sqrt()


def _rising(generator: torch.Generator, steps: int) -> list[float]:
    """Levels from noise to clean data."""
    return falling(generator, steps).flip(0).tolist()


def loop_inputs(generator: torch.Generator, T: int, steps: int) -> tuple:
    """Arguments for ddim_sample."""
    alpha_bar = falling(generator, T)
    return network(generator, alpha_bar), normal(generator, 6, 2), alpha_bar, falling_times(generator, T, steps)


def run_inputs(generator: torch.Generator, few: int, many: int) -> tuple:
    """Arguments for same_start_distance."""
    alpha_bar = falling(generator, 60)
    return network(generator, alpha_bar), normal(generator, 8, 2), NoiseSchedule(alpha_bar), few, many


TASKS = (
    Task(
        ddim_step,
        minutes=6,
        difficulty=1,
        cases=(
            Case("points", lambda g: (*pair(g, 6, 2), *levels(g))),
            Case("pictures", lambda g: (*pair(g, 2, 1, 4, 4), *levels(g))),
            Case("the last step, ab_s = 1", lambda g: (*pair(g, 6, 2), levels(g)[0], 1.0)),
        ),
        mistakes=(
            *edits("""
                ab_t: float, ab_s: float → ab_s: float, ab_t: float
                    s and t have changed places: this takes a cleaner x for the noisy one, and adds noise.
                math.sqrt(1 - ab_s) → math.sqrt(1 - ab_t)
                    The second line re-noises with sqrt(1 - ab_t), the old level. It is the level of s that x goes to.
                 + math.sqrt(1 - ab_s) * eps →
                    The second line lacks its noise: add sqrt(1 - ab_s) eps, or the next step finds a state that is too
                    clean.
                math.sqrt(ab_s) * x0 → x0
                    The second line adds noise to x0 without shrinking it. x0 is multiplied by sqrt(ab_s).
                math.sqrt(ab_s) * x0 + math.sqrt(1 - ab_s) * eps → ab_s * x0 + (1 - ab_s) * eps
                    The square roots are missing in the second line.
                (x_t - math.sqrt(1 - ab_t) * eps) / math.sqrt(ab_t) → (x_t - (1 - ab_t) * eps) / ab_t
                    The square roots are missing in the first line.
            """),
            WrongWay(
                lambda x_t, eps, ab_t, ab_s: ab_s * (x_t - (1 - ab_t) * eps) / ab_t + (1 - ab_s) * eps,
                "The square roots are missing: alpha_bar counts variance, and x is scaled by standard deviations.",
            ),
            *edits("""
                 / math.sqrt(ab_t) →
                    The first line stops halfway: x_t without its noise is sqrt(ab_t) x0. Divide by sqrt(ab_t).
                math.sqrt(ab_s) * x0 + math.sqrt(1 - ab_s) * eps → x0
                    This is x0, the first line. It still has to be re-noised to level s.
                math.sqrt(ab_s) * x0 + → math.sqrt(ab_s) * x0 -
                    The second line has the wrong sign: x_s has its noise *added*, as every noisy state has.
                (x_t - math.sqrt → (x_t + math.sqrt
                    The first line has the wrong sign: to guess x0, the noise is taken *out* of x_t.
                (x_t - math.sqrt(1 - ab_t) * eps) → (x_t - (1 - ab_t) * eps)
                    The root is missing from the noise of the first line: it stands in x_t with sqrt(1 - ab_t).
                + math.sqrt(1 - ab_s) * eps → + (1 - ab_s) * eps
                    The root is missing from the noise of the second line: it is sqrt(1 - ab_s).
                (x_t - math.sqrt(1 - ab_t) * eps) / math.sqrt(ab_t) → x_t - math.sqrt(1 - ab_t) * eps / math.sqrt(ab_t)
                    The brackets are missing in the first line: take the noise out first, then divide what is left.
                / math.sqrt(ab_t) → / ab_t
                    The first line divides by ab_t. x0 was multiplied by its root, so divide by the root.
            """),
        ),
        hints=(
            "The forward shortcut, used twice: once solved for x0, at the level of t, and once as it stands, at the "
            "level of s.",
            "Line one: take `math.sqrt(1 - ab_t) * eps` out of x_t and divide by `math.sqrt(ab_t)`. Line two uses only "
            "ab_s, and the same eps.",
            "`x0 = (x_t - math.sqrt(1 - ab_t) * eps) / math.sqrt(ab_t)`, then `math.sqrt(ab_s) * x0 + ... * eps`.",
        ),
    ),
    Task(
        walk,
        minutes=7,
        difficulty=2,
        cases=(
            Case(
                "the three steps of the lesson", lambda g: (normal(g, 4, 1), [0.0784, 0.36, 0.64, 1.0]), tolerance=1e-6
            ),
            Case("three steps over other levels", lambda g: (normal(g, 4, 1), _rising(g, 3)), tolerance=1e-6),
            Case("more steps", lambda g: (normal(g, 3, 2), _rising(g, whole(g, 5, 8))), tolerance=1e-6),
        ),
        mistakes=edits("""
            (1 - ab_t) * x → (1 - ab_t) * states[0]
                The prediction is always made from the start. Ask anew in every step, from the x of that step.
            math.sqrt(1 - ab_t) → (1 - ab_t)
                The root is missing in the prediction: eps = sqrt(1 - ab_t) x for this data.
            math.sqrt(1 - ab_t) → math.sqrt(ab_t)
                This predicts sqrt(ab_t) x. That is the guess of the clean x0; the noise is sqrt(1 - ab_t) x.
            (states) → (states[1:])
                The start is missing: n levels give n states, the first of them x itself.
            append(x) → append((x - math.sqrt(1 - ab_s) * eps) / math.sqrt(ab_s))
                You kept the guesses x0. The walk consists of the states: guess, re-noise, keep.
            (states) → (states[::-1])
                The walk is written backwards. The first state is the start.
            ddim_step(x, eps, ab_t, ab_s) → ddim_step(x, eps, ab_s, ab_t)
                The levels have changed places in the call: ddim_step takes the present one first, then the target.
            math.sqrt(1 - ab_t) * x → x
                x itself was taken for its noise. For this data the prediction is sqrt(1 - ab_t) x.
            math.sqrt(1 - ab_t) → math.sqrt(1 - ab_s)
                The prediction is made with the level of s. x stands at t when it is made.
            torch.stack(states) → states[-1]
                This is the end alone. All n states are asked for, stacked.
            torch.stack → torch.cat
                torch.cat puts the states into one long batch. torch.stack gives them an axis of their own.
        """),
        hints=(
            "`pairwise(ab)` gives the steps (ab_t, ab_s). What has to be computed anew in each of them?",
            "In each step: eps from the present x, then `ddim_step`. Collect the states in a list that begins with x.",
            "`states = [x]`, then in the loop `x = states[-1]` and "
            "`states.append(ddim_step(x, math.sqrt(1 - ab_t) * x, ab_t, ab_s))`; in the end `torch.stack(states)`.",
        ),
    ),
    Task(
        even_grid,
        minutes=4,
        difficulty=1,
        cases=(
            Case("steps that divide T", lambda g: (1000, (20, 25, 40, 50)[whole(g, 0, 3)])),
            Case("steps that do not", lambda g: (1000, (24, 30, 33, 48)[whole(g, 0, 3)])),
            Case("a single step", lambda g: (whole(g, 10, 900), 1)),
        ),
        mistakes=edits("""
            [T * i // steps for i in range(steps, -1, -1)] → [*range(0, T, T // steps)][::-1]
                This is the grid of the official code, counted up from 0. It never reaches T, where sampling starts.
            steps, -1 → steps, 0
                The 0 is missing: the last step goes to clean data.
            range(steps, -1, -1) → range(steps + 1)
                The times rise. A sampler goes from T down to 0.
            T * → (T - 1) *
                The grid starts at T - 1: that is 0-based counting. Here pure noise is at T.
            steps for i in range(steps → max(steps - 1, 1) for i in range(steps - 1
                There is one step too few: n steps need n + 1 times, both ends included.
            [T * i // steps for i in range(steps, -1, -1)] → [*range(T, -1, -(T // steps))]
                A fixed stride T // steps misses 0 unless steps divides T. Compute each time from its number.
            T * i // steps → T * i / steps
                These are no whole numbers. Round down: //.
            T * i // steps → round(T * i / steps)
                These are rounded to the nearest. Round down: //.
            T * i // steps → -(-T * i // steps)
                These are rounded up. Round down: //.
        """),
        hints=(
            "How many times does it take to make n steps? Which are the first and the last?",
            "The time number i, counted from the clean end, is i / steps of the way to T: `T * i // steps`.",
            "`[T * i // steps for i in ...]` with i running from steps down to 0.",
        ),
    ),
    Task(
        ddim_sample,
        minutes=7,
        difficulty=2,
        cases=(
            Case("every time", lambda g: loop_inputs(g, 8, 8), tolerance=1e-5),
            Case("a few of many times", lambda g: loop_inputs(g, 60, 6), points=2, tolerance=1e-5),
            Case("two steps", lambda g: loop_inputs(g, 40, 2), tolerance=1e-5),
        ),
        mistakes=edits("""
            x = ddim_step → new = ddim_step
                x comes back as it was: the loop computes a new x and must carry it into the next step.
            alpha_bar[s] → alpha_bar[t - 1]
                x is re-noised to t - 1, but the next step believes that it stands at s. This is the off-by-one: the
                level after the step is alpha_bar[s].
            torch.full((len(x),), t) → torch.full((len(x),), max(s, 1))
                The network is asked about s. x still stands at t when it is asked.
            [t] → [t - 1]
                The clean guess uses alpha_bar[t - 1]. x stands at t: alpha_bar[t].
            alpha_bar[t].item(), alpha_bar[s].item() → alpha_bar[t - 1].item(), alpha_bar[s - 1].item()
                All levels are shifted by one. alpha_bar[0] is 1 here, so time t has the index t.
            (times) → (times[:-1])
                The last step is missing: the loop has to arrive at 0.
            (times) → (times[1:])
                The first step is missing: the start x stands at times[0].
            alpha_bar[t].item(), alpha_bar[s].item() → alpha_bar[s].item(), alpha_bar[t].item()
                The levels have changed places in the call: ddim_step takes that of t first, then that of s.
            torch.full((len(x),), t) → torch.full((len(x),), s)
                The network is asked about s, in the end about 0. x still stands at t when it is asked.
        """),
        hints=(
            "Run the broken loop in your head with times 40, 20, 0. Which level does x have after the first step, and "
            "which does the second step take it for?",
            "A step needs two times. `pairwise(times)` hands them out together, so that they cannot disagree.",
            "`for t, s in pairwise(times):`, the levels `alpha_bar[t]` and `alpha_bar[s]`, and t for the network.",
        ),
    ),
    Task(
        ddim_eta_step,
        minutes=7,
        difficulty=2,
        cases=(
            Case("eta between 0 and 1", lambda g: (*pair(g, 6, 2), normal(g, 6, 2), *levels(g), uniform(g, 0.3, 0.8))),
            Case("eta = 1, which is DDPM", lambda g: (*pair(g, 6, 2), normal(g, 6, 2), *levels(g), 1.0)),
            Case("eta = 0, which is DDIM", lambda g: (*pair(g, 6, 2), normal(g, 6, 2), *levels(g), 0.0)),
        ),
        mistakes=(
            *edits("""
                1 - ab_s - sigma**2 → 1 - ab_s
                    Fresh noise comes on top of the whole old noise. Make room: eps gets sqrt(1 - ab_s - sigma²).
                math.sqrt(beta_tilde) → beta_tilde
                    sigma is eta times the *variance* beta-tilde. Take the root of beta-tilde.
                eta * math.sqrt(beta_tilde) → math.sqrt(eta * beta_tilde)
                    eta stands under the root. sigma = eta sqrt(beta-tilde), so it multiplies the standard deviation.
            """),
            Mistake(
                "beta_tilde)\n    kept = 1 - ab_s - sigma**2",
                "1 - ab_t / ab_s)\n    kept = max(1 - ab_s - sigma**2, 0)",
                "sigma is eta sqrt(beta). The dial goes up to beta-*tilde*; beta can be more than level s has room "
                "for.",
            ),
            *edits("""
                1 - ab_s - sigma**2 → (math.sqrt(1 - ab_s) - sigma) ** 2
                    You subtracted standard deviations. It is variances that share the budget: 1 - ab_s - sigma².
                eta * math.sqrt(beta_tilde) → 0
                    eta has no effect: there is no fresh noise in this step.
                eta * math.sqrt → eta**2 * math.sqrt
                    eta enters squared. It multiplies the standard deviation once.
                1 - ab_s - sigma**2 → max(1 - ab_s - sigma, 0)
                    The room that is made is sigma. What shares the budget is variance: sigma squared.
                math.sqrt(kept) → kept
                    The root is missing: eps gets sqrt(1 - ab_s - sigma²).
                sigma * z → sigma**2 * z
                    z is multiplied by the variance. Its size is sigma.
            """),
        ),
        hints=(
            "Level s has room for noise of variance 1 - ab_s. A part of it is drawn afresh; what is left for eps?",
            "sigma = eta sqrt(beta-tilde), beta-tilde = (1 - ab_s) / (1 - ab_t) (1 - ab_t / ab_s). eps gets the rest "
            "of the variance.",
            "`math.sqrt(ab_s) * x0 + math.sqrt(1 - ab_s - sigma**2) * eps + sigma * z`.",
        ),
    ),
    Task(
        same_start_distance,
        minutes=6,
        difficulty=2,
        cases=(
            Case("5 against 30 steps", lambda g: run_inputs(g, 5, 30), tolerance=1e-5),
            Case("10 against 60 steps", lambda g: run_inputs(g, 10, 60), tolerance=1e-5),
            Case("3 against 50 steps", lambda g: run_inputs(g, 3, 50), tolerance=1e-5),
        ),
        mistakes=edits("""
            .square().mean().sqrt() → .abs().mean()
                This is the mean absolute distance; asked for is the root of the mean square.
            .sqrt() →
                The root is missing: this is the mean square.
            a - b → a - x
                This is the distance from the start to the end. Compare the ends of two runs.
            a - b → a.sort(0).values - b.sort(0).values
                You sorted before comparing. That compares two *distributions*; here each end has its own partner.
            .square().mean().sqrt() → .norm()
                This is the root of the *sum* of squares, which grows with the batch. Take the mean.
            .square().mean().sqrt() → .square().flatten(1).sum(1).sqrt().mean()
                This is the mean of the distances. Asked for is the root of the mean square, over batch and event.
            a - b → a + b
                The ends are added. Subtract one from the other.
        """),
        hints=(
            "Two runs that share everything except the number of steps: network, start, schedule.",
            "`sample(ddim(net, x, schedule, time_grid(schedule, few)))` is the end of the first run.",
            "With the two ends: `(a - b).square().mean().sqrt()`.",
        ),
    ),
)
