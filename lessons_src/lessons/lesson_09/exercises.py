"""Exercises of lesson 09: a grid in log-SNR, what a budget buys, Heun, 2M, a measured order, and the front."""

import math

import torch
from torch import Tensor

from lessons_src import process, samplers
from lessons_src.exercises.inputs import falling, network, normal, pair, uniform, whole
from lessons_src.exercises.tasks import Case, Task, WrongWay
from lessons_src.oracle import OracleNetwork
from lessons_src.solvers import SOLVERS

PRICED = ("DDIM", "Heun", "PLMS", "DPM-Solver++(2M)")


def log_snr_grid(alpha_bar: Tensor, steps: int) -> list[int]:
    """The times nearest to equally spaced log-SNRs from T to 1, then 0 (Lu et al. 2022, section 4)."""
    return _grid(lambda ab: ab.logit())(alpha_bar, steps)


def affordable_steps(solver: str, budget: int, guided: bool) -> int:
    """The most steps that a budget of network evaluations pays for."""
    return SOLVERS[solver].steps(budget // 2 if guided else budget)


def heun_step(net: OracleNetwork, x: Tensor, alpha_bar: Tensor, t: int, s: int) -> Tensor:
    """One step with the mean of the noise at both ends (Karras et al. 2022, algorithm 1); DDIM's for s = 0."""
    return _heun()(net, x, alpha_bar, t, s)


def two_m_step(x: Tensor, now: Tensor, before: Tensor, ab_before: float, ab_now: float, ab_next: float) -> Tensor:
    """One step of DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, algorithm 2)."""
    return _two_m()(x, now, before, ab_before, ab_now, ab_next)


def order_of(nfe: Tensor, error: Tensor) -> Tensor:
    """Minus the slope of log error against log evaluations, by least squares."""
    return -_slope(nfe.double().log(), error.log())


def on_the_front(nfe: Tensor, distance: Tensor) -> Tensor:
    """Which points nobody dominates: no other one costs no more and is no worse, one of the two strictly."""
    return _front(lambda no_dearer, no_worse, cheaper, better: no_dearer & no_worse & (cheaper | better))(nfe, distance)


def _slope(a: Tensor, b: Tensor) -> Tensor:
    return ((a - a.mean()) * (b - b.mean())).sum() / (a - a.mean()).square().sum()


def _grid(position, shift=1, end=(0,)):
    """log_snr_grid with other positions, another index, or another end."""

    def grid(alpha_bar, steps):
        ruler = position(alpha_bar[1:])
        wanted = torch.linspace(ruler[-1].item(), ruler[0].item(), steps, dtype=torch.float64)
        return [shift + int((ruler - value).abs().argmin()) for value in wanted] + list(end)

    return grid


def _even(alpha_bar, steps):
    T = len(alpha_bar) - 1
    return [round(T * i / steps) for i in range(steps, -1, -1)]


def _bill(price, guided_factor=2):
    """affordable_steps by counting up to the dearest number of steps within the budget."""

    def steps(solver, budget, guided):
        budget = budget // (guided_factor if guided else 1)
        return max(n for n in range(1, budget + 1) if price(solver, n) <= budget)

    return steps


def _ddim(x, eps, alpha_bar, t, s):
    return samplers.renoise(process.predict_x0(x, eps, alpha_bar[t].item()), eps, alpha_bar[s].item())


def _heun(where=lambda x, moved: moved, told=lambda t, s: s, mean=lambda a, b: (a + b) / 2, start=lambda x, moved: x):
    """heun_step with another second prediction, another mean, or another start of the final step."""

    def step(net, x, alpha_bar, t, s):
        first = net(x, torch.full((len(x),), t))
        moved = _ddim(x, first, alpha_bar, t, s)
        if s == 0:
            return moved
        second = net(where(x, moved), torch.full((len(x),), told(t, s)))
        return _ddim(start(x, moved), mean(first, second), alpha_bar, t, s)

    return step


def _asks_at_zero(net, x, alpha_bar, t, s):
    moved = _ddim(x, net(x, torch.full((len(x),), t)), alpha_bar, t, s)
    return (moved + net(moved, torch.full((len(x),), s))) / 2


def _two_m(
    scale=lambda ab: math.log(ab / (1 - ab)),
    ratio=lambda old, new: old / new,
    weights=lambda r: (1 + 1 / (2 * r), -1 / (2 * r)),
    noise=lambda x, now, mean, ab: process.predict_eps(x, mean, ab),
):
    """two_m_step with another measure of a step's length, other weights, or another noise to re-noise with."""

    def step(x, now, before, ab_before, ab_now, ab_next):
        r = ratio(scale(ab_now) - scale(ab_before), scale(ab_next) - scale(ab_now))
        newer, older = weights(r)
        mean = newer * now + older * before
        return samplers.renoise(mean, noise(x, now, mean, ab_now), ab_next)

    return step


def _front(dominates):
    """on_the_front with another rule."""

    def front(nfe, distance):
        no_dearer, no_worse = nfe[:, None] <= nfe, distance[:, None] <= distance  # row i against column j
        cheaper, better = nfe[:, None] < nfe, distance[:, None] < distance
        return ~dominates(no_dearer, no_worse, cheaper, better).any(0)

    return front


def grid_inputs(generator: torch.Generator, T: int) -> tuple:
    """Arguments for log_snr_grid."""
    return falling(generator, T), whole(generator, 4, 7)


def step_inputs(generator: torch.Generator, s: int, *shape: int) -> tuple:
    """Arguments for heun_step, from a time well above s."""
    alpha_bar = falling(generator, 40)
    net = network(generator, alpha_bar, dim=shape[-1])
    return net, normal(generator, *shape), alpha_bar, whole(generator, 25, 40), s


def memory_inputs(generator: torch.Generator, old: float, new: float, *shape: int) -> tuple:
    """Arguments for two_m_step whose steps are about `old` and `new` long in log-SNR."""
    places = [uniform(generator, -2, -1)]
    for length in (old, new):
        places.append(places[-1] + length * uniform(generator, 0.9, 1.1))
    ab = [1 / (1 + math.exp(-place)) for place in places]
    return normal(generator, *shape), *pair(generator, *shape), *ab


def race_inputs(generator: torch.Generator, order: float, points: int, scatter: float) -> tuple:
    """Arguments for order_of: errors around a power of the evaluations."""
    nfe = (8 * 2 ** torch.arange(points)) + torch.randint(0, 5, (points,), generator=generator)
    return nfe, uniform(generator, 1, 9) * nfe.double() ** -order * (scatter * normal(generator, points)).exp()


def front_inputs(generator: torch.Generator, n: int, tied: bool) -> tuple:
    """Arguments for on_the_front; tied points share a cost or a distance with others, and some share both."""
    if not tied:
        nfe = 4 + torch.randperm(4 * n, generator=generator)[:n]
        return nfe, 5 / nfe.double().sqrt() * normal(generator, n).mul(0.3).exp()
    nfe = torch.tensor([4, 4, 6, 6, 8, 8, 10, 12])
    low = uniform(generator, 0.5, 0.8)
    distance = low + torch.tensor([2.0, 3.0, 1.0, 1.0, 1.0, 2.0, 0.0, 0.0], dtype=torch.float64)
    shuffled = torch.randperm(len(nfe), generator=generator)
    return nfe[shuffled], distance[shuffled]


TASKS = (
    Task(
        log_snr_grid,
        minutes=6,
        difficulty=2,
        cases=(
            Case("a schedule of 200 times", lambda g: grid_inputs(g, 200)),
            Case("another of 500", lambda g: grid_inputs(g, 500)),
            Case("two steps", lambda g: (falling(g, 100), 2)),
        ),
        mistakes=(
            WrongWay(
                _even, "These are equal steps of t. Equal steps of log(alpha_bar / (1 - alpha_bar)) are asked for."
            ),
            WrongWay(
                _grid(lambda ab: ab / (1 - ab)),
                "Equal steps of the SNR itself: nearly all of them fall on the last few times. Take its logarithm.",
            ),
            WrongWay(
                _grid(lambda ab: ab),
                "Equal steps of alpha_bar. What is equally spaced should be log(alpha_bar / (1 - alpha_bar)).",
            ),
            WrongWay(
                _grid(lambda ab: ab.logit(), shift=0),
                "All times are one too small: without alpha_bar[0], entry number 0 belongs to time 1.",
            ),
            WrongWay(
                _grid(lambda ab: ab.logit(), end=()),
                "The 0 is missing: the last step goes to clean data.",
            ),
            WrongWay(
                lambda alpha_bar, steps: log_snr_grid(alpha_bar, steps)[::-1],
                "The times rise. A sampler goes from T down to 0.",
            ),
        ),
        hints=(
            "log-SNR is infinite at t = 0, so leave alpha_bar[0] out and put the 0 at the end by hand.",
            "`ruler = alpha_bar[1:].logit()` has entry i for time i + 1. The values wanted are "
            "`torch.linspace(ruler[-1], ruler[0], steps)`.",
            "`[1 + int((ruler - value).abs().argmin()) for value in wanted] + [0]`.",
        ),
    ),
    Task(
        affordable_steps,
        minutes=5,
        difficulty=1,
        cases=(
            Case("2M, guided", lambda g: ("DPM-Solver++(2M)", whole(g, 12, 60), True)),
            Case("Heun", lambda g: ("Heun", 1 + 2 * whole(g, 6, 30), False)),
            Case("PLMS", lambda g: ("PLMS", whole(g, 8, 60), False)),
            Case("Heun, guided", lambda g: ("Heun", 2 + 4 * whole(g, 6, 20), True)),
        ),
        mistakes=(
            WrongWay(
                _bill(lambda solver, n: SOLVERS[solver].nfe(n), guided_factor=1),
                "With guidance every prediction costs two evaluations.",
            ),
            WrongWay(
                _bill(lambda solver, n: {"Heun": 2 * n, "PLMS": n + 1}.get(solver, n)),
                "Heun's last step, to 0, costs one evaluation and not two: n steps cost 2 n - 1.",
            ),
            WrongWay(
                _bill(lambda solver, n: {"Heun": 2 * n - 1}.get(solver, n)),
                "PLMS has nothing to remember in its first step and makes one of Heun's: n steps cost n + 1.",
            ),
            WrongWay(
                _bill(
                    lambda solver, n: {"Heun": 2 * n - 1, "PLMS": n + 1, "DPM-Solver++(2M)": 2 * n - 1}.get(solver, n)
                ),
                "2M is of order 2 but remembers: one evaluation a step.",
            ),
            WrongWay(
                _bill(lambda solver, n: n),
                "One evaluation a step is not everyone's price: Heun pays two, and PLMS one more at the start.",
            ),
        ),
        hints=(
            "First the price of n steps: n for DDIM and 2M, 2 n - 1 for Heun, n + 1 for PLMS.",
            "Guidance: only half of the budget counts, rounded down. Then solve price <= budget for n.",
            "`budget = budget // 2 if guided else budget`, then `(budget + 1) // 2` for Heun, `budget - 1` for PLMS.",
        ),
    ),
    Task(
        heun_step,
        minutes=8,
        difficulty=2,
        cases=(
            Case("points", lambda g: step_inputs(g, whole(g, 5, 15), 6, 2)),
            Case("in three dimensions", lambda g: step_inputs(g, whole(g, 5, 15), 4, 3)),
            Case("the step to 0", lambda g: step_inputs(g, 0, 6, 2)),
        ),
        mistakes=(
            WrongWay(
                _heun(mean=lambda a, b: a),
                "This is DDIM's step: the second prediction has no effect.",
            ),
            WrongWay(
                _heun(where=lambda x, moved: x),
                "The second prediction is asked for the old x. Go to s first, and ask there.",
            ),
            WrongWay(
                _heun(told=lambda t, s: t),
                "At the second point the network is told t. It stands at s.",
            ),
            WrongWay(
                _heun(start=lambda x, moved: moved),
                "The final step starts from the trial point. It starts from x again, with the mean.",
            ),
            WrongWay(
                _heun(mean=lambda a, b: b),
                "Only the second prediction is used. Take the mean of both.",
            ),
            WrongWay(
                _heun(mean=lambda a, b: a + b),
                "The predictions are added and not averaged: divide by 2.",
            ),
            WrongWay(
                _asks_at_zero,
                "The network is asked at t = 0, where it knows nothing. The step to 0 is DDIM's.",
            ),
        ),
        hints=(
            "Two DDIM steps from the same x to the same s: a trial with the first prediction, then one with the mean.",
            "`first = net(x, t)`, `trial = ddim_step(x, first, ...)`; for s > 0 also `second = net(trial, s)`.",
            "`if s == 0: return trial`, else `ddim_step(x, (first + second) / 2, ab_t, ab_s)`.",
        ),
    ),
    Task(
        two_m_step,
        minutes=8,
        difficulty=3,
        cases=(
            Case("a short step, then a long one", lambda g: memory_inputs(g, 0.6, 1.4, 6, 2)),
            Case("a long step, then a short one", lambda g: memory_inputs(g, 1.5, 0.6, 6, 2)),
            Case("pictures", lambda g: memory_inputs(g, 0.8, 1.5, 2, 1, 4, 4)),
        ),
        mistakes=(
            WrongWay(
                _two_m(weights=lambda r: (1, 0)),
                "This is DDIM's step: what was predicted before has no effect.",
            ),
            WrongWay(
                _two_m(weights=lambda r: (3 / 2, -1 / 2)),
                "3/2 and -1/2 are right for steps of equal length. Compute r.",
            ),
            WrongWay(
                _two_m(ratio=lambda old, new: new / old),
                "r is upside down: the old step's length over the new one's.",
            ),
            WrongWay(
                _two_m(weights=lambda r: (1 - 1 / (2 * r), 1 / (2 * r))),
                "The signs are reversed: this interpolates backwards, where the step goes on.",
            ),
            WrongWay(
                _two_m(weights=lambda r: (-1 / (2 * r), 1 + 1 / (2 * r))),
                "The two predictions have changed places: the newer one gets the weight above 1.",
            ),
            WrongWay(
                _two_m(scale=lambda ab: ab),
                "The lengths are measured in alpha_bar. Measure them in log(alpha_bar / (1 - alpha_bar)).",
            ),
            WrongWay(
                _two_m(noise=lambda x, now, mean, ab: process.predict_eps(x, now, ab)),
                "The noise belongs to the newest prediction, not to the mean: compute it from x and the mean.",
            ),
        ),
        hints=(
            "First the mean of the two clean predictions, then a DDIM step with it. What noise goes with that mean?",
            "With l = log(ab / (1 - ab)), r = (l_now - l_before) / (l_next - l_now); the mean is "
            "(1 + 1/(2r)) now - 1/(2r) before.",
            "`eps = (x - math.sqrt(ab_now) * mean) / math.sqrt(1 - ab_now)`, and re-noise to ab_next.",
        ),
    ),
    Task(
        order_of,
        minutes=5,
        difficulty=1,
        cases=(
            Case("order 1, a little scatter", lambda g: race_inputs(g, 1, 5, 0.05)),
            Case("order 2, more scatter", lambda g: race_inputs(g, 2, 6, 0.2)),
            Case("order 3", lambda g: race_inputs(g, 3, 4, 0.1)),
        ),
        mistakes=(
            WrongWay(
                lambda nfe, error: -order_of(nfe, error),
                "The sign: errors fall, so the slope is negative, and the order is minus the slope.",
            ),
            WrongWay(
                lambda nfe, error: (error[0] / error[-1]).log() / (nfe[-1] / nfe[0]).log(),
                "Only the first and the last point count here. A regression uses all of them.",
            ),
            WrongWay(
                lambda nfe, error: -_slope(nfe.double(), error),
                "The logarithms are missing: a power law is a straight line between logarithms.",
            ),
            WrongWay(
                lambda nfe, error: -_slope(nfe.double(), error.log()),
                "The evaluations need a logarithm, too.",
            ),
            WrongWay(
                lambda nfe, error: -1 / _slope(error.log(), nfe.double().log()),
                "You fitted the evaluations to the errors. With scatter that is another line.",
            ),
        ),
        hints=(
            "error = c nfe^-p. Take logarithms: which straight line is that, and where is p?",
            "Subtract the means from both logarithms, a and b. The slope is (a * b).sum() / (a * a).sum().",
            "`a = nfe.double().log()`, `b = error.log()`; subtract their means; return "
            "`-(a * b).sum() / a.square().sum()`.",
        ),
    ),
    Task(
        on_the_front,
        minutes=8,
        difficulty=2,
        cases=(
            Case("twelve solvers", lambda g: front_inputs(g, 12, False)),
            Case("forty solvers", lambda g: front_inputs(g, 40, False)),
            Case("equal costs and equal distances", lambda g: front_inputs(g, 8, True), points=2),
        ),
        mistakes=(
            WrongWay(
                lambda nfe, distance: ~on_the_front(nfe, distance),
                "This marks the dominated ones. Mark those that nobody dominates.",
            ),
            WrongWay(
                _front(lambda no_dearer, no_worse, cheaper, better: cheaper & better),
                "A point that is as dear and better dominates as well, and so does one that is as good and cheaper.",
            ),
            WrongWay(
                _front(lambda no_dearer, no_worse, cheaper, better: no_dearer & no_worse),
                "Every point is no dearer and no worse than itself: ask for one of the two strictly.",
            ),
            WrongWay(
                lambda nfe, distance: on_the_front(nfe, -distance),
                "Small distances are good ones: of two equally dear points the lower one dominates.",
            ),
            WrongWay(
                lambda nfe, distance: distance == distance.min(),
                "Only the best of all is marked. A cheaper one that is worse may be on the front, too.",
            ),
            WrongWay(
                lambda nfe, distance: distance == distance.cummin(0).values,
                "This depends on the order of the points. Sort them by cost first, or compare all pairs.",
            ),
        ),
        hints=(
            "Say in words when point i dominates point j. Two comparisons are not strict, and something has to be.",
            "Compare all pairs at once: `nfe[:, None] <= nfe` is (N, N), row i against column j.",
            "`worse_off = (no dearer) & (no worse) & ((cheaper) | (better))`; the front is `~worse_off.any(0)`.",
        ),
    ),
)
