"""Exercises of lesson 09: a grid in log-SNR, what a budget buys, Heun, 2M, a measured order, and the front."""

import math

import torch
from torch import Tensor

from lessons_src.exercises.inputs import falling, network, normal, pair, uniform, whole
from lessons_src.exercises.tasks import Case, Task, WrongWay, edits
from lessons_src.oracle import OracleNetwork


def log_snr_grid(alpha_bar: Tensor, steps: int) -> list[int]:
    """The times nearest to equally spaced log-SNRs from T to 1, then 0 (Lu et al. 2022, section 4)."""
    ruler = alpha_bar[1:].logit()  # entry i belongs to time i + 1
    wanted = torch.linspace(ruler[-1].item(), ruler[0].item(), steps, dtype=torch.float64)
    times = [1 + int((ruler - value).abs().argmin()) for value in wanted]
    return [*times, 0]


def affordable_steps(solver: str, budget: int, guided: bool) -> int:
    """The most steps that a budget of network evaluations pays for."""
    predictions = budget // 2 if guided else budget
    return {"Heun": (predictions + 1) // 2, "PLMS": predictions - 1}.get(solver, predictions)


def ddim_step(x: Tensor, eps: Tensor, ab_t: float, ab_s: float) -> Tensor:
    """DDIM's step with a given noise prediction."""
    x0 = (x - math.sqrt(1 - ab_t) * eps) / math.sqrt(ab_t)
    return math.sqrt(ab_s) * x0 + math.sqrt(1 - ab_s) * eps


def heun_step(net: OracleNetwork, x: Tensor, alpha_bar: Tensor, t: int, s: int) -> Tensor:
    """One step with the mean of the noise at both ends (Karras et al. 2022, algorithm 1); DDIM's for s = 0."""
    ab_t, ab_s = alpha_bar[t].item(), alpha_bar[s].item()
    first = net(x, torch.full((len(x),), t))
    trial = ddim_step(x, first, ab_t, ab_s)
    if s == 0:
        return trial
    second = net(trial, torch.full((len(x),), s))
    return ddim_step(x, (first + second) / 2, ab_t, ab_s)


def two_m_step(x: Tensor, now: Tensor, before: Tensor, ab_before: float, ab_now: float, ab_next: float) -> Tensor:
    """One step of DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, algorithm 2)."""
    l_before, l_now, l_next = (math.log(ab / (1 - ab)) for ab in (ab_before, ab_now, ab_next))
    r = (l_now - l_before) / (l_next - l_now)
    w = 1 / (2 * r)
    mean = (1 + w) * now - w * before
    eps = (x - math.sqrt(ab_now) * mean) / math.sqrt(1 - ab_now)
    return math.sqrt(ab_next) * mean + math.sqrt(1 - ab_next) * eps


def order_of(nfe: Tensor, error: Tensor) -> Tensor:
    """Minus the slope of log error against log evaluations, by least squares."""
    a, b = nfe.double().log(), error.log()
    a, b = a - a.mean(), b - b.mean()
    return -(a * b).sum() / a.square().sum()


def on_the_front(nfe: Tensor, distance: Tensor) -> Tensor:
    """Which points nobody dominates: no other one costs no more and is no worse, one of the two strictly."""
    no_dearer, cheaper = nfe[:, None] <= nfe, nfe[:, None] < nfe  # row i against column j
    no_worse, better = distance[:, None] <= distance, distance[:, None] < distance
    dominates = no_dearer & no_worse & (cheaper | better)
    return ~dominates.any(0)


def _asks_at_zero(net, x, alpha_bar, t, s):
    trial = ddim_step(x, net(x, torch.full((len(x),), t)), alpha_bar[t].item(), alpha_bar[s].item())
    return (trial + net(trial, torch.full((len(x),), s))) / 2


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
        mistakes=edits("""
            [*times, 0] → [round((len(alpha_bar) - 1) * i / steps) for i in range(steps, -1, -1)]
                These are equal steps of t. Equal steps of log(alpha_bar / (1 - alpha_bar)) are asked for.
            alpha_bar[1:].logit() → alpha_bar[1:] / (1 - alpha_bar[1:])
                Equal steps of the SNR itself: nearly all of them fall on the last few times. Take its logarithm.
            .logit() →
                Equal steps of alpha_bar. What is equally spaced should be log(alpha_bar / (1 - alpha_bar)).
            1 +  →
                All times are one too small: without alpha_bar[0], entry number 0 belongs to time 1.
            [*times, 0] → times
                The 0 is missing: the last step goes to clean data.
            [*times, 0] → [0, *times[::-1]]
                The times rise. A sampler goes from T down to 0.
            [*times, 0] → [*[round(t) for t in torch.linspace(len(alpha_bar) - 1, 1, steps).tolist()], 0]
                These times are equally spaced from T to 1. Equal steps of log(alpha_bar / (1 - alpha_bar)) are asked
                for.
            .logit() → .log()
                Equal steps of log(alpha_bar). It hardly moves near the data: divide by 1 - alpha_bar first.
            ruler[-1].item(), ruler[0].item(), steps → ruler[-1].item(), ruler[0].item(), steps + 1
                There is one step too many: steps times from T to 1, then the 0.
            ruler[-1].item(), ruler[0].item() → ruler[0].item(), ruler[-1].item()
                The times rise from 1 to T before the 0. A sampler begins at T.
        """),
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
        mistakes=edits("""
             // 2 if guided else budget →
                With guidance every prediction costs two evaluations.
            (predictions + 1) // 2 → predictions // 2
                Heun's last step, to 0, costs one evaluation and not two: n steps cost 2 n - 1.
            predictions - 1 → predictions
                PLMS has nothing to remember in its first step and makes one of Heun's: n steps cost n + 1.
            "Heun": (predictions + 1) → "Heun": (predictions + 1) // 2, "DPM-Solver++(2M)": (predictions + 1)
                2M is of order 2 but remembers: one evaluation a step.
            {"Heun": (predictions + 1) // 2, "PLMS": predictions - 1}.get(solver, predictions) → predictions
                One evaluation a step is not everyone's price: Heun pays two, and PLMS one more at the start.
            predictions - 1 → predictions + 1
                PLMS costs one evaluation more than steps, so that it affords one step less.
            budget // 2 if → 2 * budget if
                Guidance halves the number of predictions that a budget pays for; you doubled it.
        """),
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
            *edits("""
                (first + second) / 2 → first
                    This is DDIM's step: the second prediction has no effect.
                net(trial → net(x
                    The second prediction is asked for the old x. Go to s first, and ask there.
                (len(x),), s) → (len(x),), t)
                    At the second point the network is told t. It stands at s.
                ddim_step(x, (first → ddim_step(trial, (first
                    The final step starts from the trial point. It starts from x again, with the mean.
                (first + second) / 2 → second
                    Only the second prediction is used. Take the mean of both.
                 / 2 →
                    The predictions are added and not averaged: divide by 2.
                ab_t, ab_s = → ab_s, ab_t =
                    The levels of s and t have changed places: the step starts at t, the noisier one.
                (first + second) / 2 → first + (first - second) / 2
                    The change is added to the first prediction with the wrong sign: the mean lies between the two.
            """),
            WrongWay(_asks_at_zero, "The network is asked at t = 0, where it knows nothing. The step to 0 is DDIM's."),
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
        mistakes=edits("""
            1 / (2 * r) → 0
                This is DDIM's step: what was predicted before has no effect.
            1 / (2 * r) → 1 / 2
                3/2 and -1/2 are right for steps of equal length. Compute r.
            (l_now - l_before) / (l_next - l_now) → (l_next - l_now) / (l_now - l_before)
                r is upside down: the old step's length over the new one's.
            (1 + w) * now - w * before → (1 - w) * now + w * before
                The signs are reversed: this interpolates backwards, where the step goes on.
            (1 + w) * now - w * before → (1 + w) * before - w * now
                The two predictions have changed places: the newer one gets the weight above 1.
            math.log(ab / (1 - ab)) → ab
                The lengths are measured in alpha_bar. Measure them in log(alpha_bar / (1 - alpha_bar)).
            math.sqrt(ab_now) * mean → math.sqrt(ab_now) * now
                The noise belongs to the newest prediction, not to the mean: compute it from x and the mean.
            1 / (2 * r) → 1 / r
                The weight is 1 / r, twice too much: 1 / (2 r).
            math.log(ab / (1 - ab)) → math.log(ab)
                The lengths are measured in log(alpha_bar). Measure them in log(alpha_bar / (1 - alpha_bar)).
            (1 + w) * now - w * before → now - w * before
                The weights do not add up to 1: now gets 1 + w.
            (1 + w) * now - w * before → (1 + w) * now + w * before
                The older prediction is added. It is subtracted: 1 + w and -w add up to 1.
            math.sqrt(ab_next) * mean + math.sqrt(1 - ab_next) * eps → mean
                This is the clean prediction alone. It still has to be noised to the next level.
        """),
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
        mistakes=edits("""
            -(a → (a
                The sign: errors fall, so the slope is negative, and the order is minus the slope.
            -(a * b).sum() / a.square().sum() → (error[0] / error[-1]).log() / (nfe[-1] / nfe[0]).log()
                Only the first and the last point count here. A regression uses all of them.
            nfe.double().log(), error.log() → nfe.double(), error
                The logarithms are missing: a power law is a straight line between logarithms.
            nfe.double().log() → nfe.double()
                The evaluations need a logarithm, too.
            (a * b).sum() / a.square().sum() → b.square().sum() / (a * b).sum()
                You fitted the evaluations to the errors. With scatter that is another line.
            a - a.mean(), b - b.mean() → a, b
                The line goes through the origin here. Subtract both means first: c is free.
            a.square().sum() → b.square().sum()
                You divided by the spread of the errors. The slope of errors against evaluations divides by that of the
                evaluations.
            -(a * b).sum() / a.square().sum() → -(a * b).sum() / (a.square().sum() * b.square().sum()).sqrt()
                This is the correlation, how well a line fits. Asked for is its slope.
        """),
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
        mistakes=edits("""
            ~dominates → dominates
                This marks the dominated ones. Mark those that nobody dominates.
            no_dearer & no_worse & (cheaper | better) → cheaper & better
                A point that is as dear and better dominates as well, and so does one that is as good and cheaper.
             & (cheaper | better) →
                Every point is no dearer and no worse than itself: ask for one of the two strictly.
            distance[:, None] <= distance, distance[:, None] < distance → distance[:, None] >= distance, distance[:, None] > distance
                Small distances are good ones: of two equally dear points the lower one dominates.
            ~dominates.any(0) → distance == distance.min()
                Only the best of all is marked. A cheaper one that is worse may be on the front, too.
            ~dominates.any(0) → distance == distance.cummin(0).values
                This depends on the order of the points. Sort them by cost first, or compare all pairs.
            no_dearer & no_worse & (cheaper | better) → cheaper & no_worse
                Of two equally dear points the worse one is left on the front. As dear and better dominates as well.
            no_dearer & no_worse & (cheaper | better) → no_dearer & better
                Of two equally good points the dearer one is left on the front. As good and cheaper dominates as well.
            any(0) → any(1)
                This marks the points that dominate nobody. Mark those that nobody dominates.
        """),  # noqa: E501
        hints=(
            "Say in words when point i dominates point j. Two comparisons are not strict, and something has to be.",
            "Compare all pairs at once: `nfe[:, None] <= nfe` is (N, N), row i against column j.",
            "`worse_off = (no dearer) & (no worse) & ((cheaper) | (better))`; the front is `~worse_off.any(0)`.",
        ),
    ),
)
