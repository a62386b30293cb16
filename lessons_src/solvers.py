"""Fast solvers: the same step as DDIM's, fed with a better prediction, so that fewer steps do.

In x / sqrt(alpha_bar) and sigma = sqrt((1 - alpha_bar) / alpha_bar) the probability-flow ODE is dx = eps dsigma, and a
DDIM step t -> s holds eps still (Song, Meng & Ermon 2020, equation 14). Every solver here takes that same step with a
weighted mean of several eps, or of several x0. They differ in where the several come from: evaluations inside the step
(Heun, RK4, DPM-Solver, 2S), earlier steps (PLMS, 2M, 3M), or both (PNDM, UniPC).

Shapes, times and states are those of `samplers.ddim`; the x0 and eps of a State are the means that made the step. No
network predicts at t = 0, and log-SNR is infinite there, so the step to 0 is DDIM's; only PLMS and PNDM extrapolate
into it, as their authors do.

A mean of several eps must not begin where (nearly) no signal is left: x0 divides it by sqrt(alpha_bar), and at T of the
cosine schedule hundredths become hundreds. Heun, RK4, PLMS, PNDM and DPM-Solver begin below T there, as their authors
do (`schedules.times_to`), or with short steps of log-SNR, and warn where they do neither. A mean of several x0 may
begin anywhere.
"""

import math
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial, reduce
from operator import add
from typing import NamedTuple

from torch import Tensor

from lessons_src.checks import check_batch, check_int, check_like, check_real, check_times, refuse
from lessons_src.process import Generators, as_column, posterior_variance, predict_eps, predict_x0
from lessons_src.samplers import (
    EpsFn,
    State,
    Step,
    as_sampler,
    check_same_levels,
    ddim,
    ddpm,
    of_schedule,
    predict,
    renoise,
    sample,
    steps,
)
from lessons_src.schedules import NoiseSchedule

Nodes = Sequence[tuple[float, Tensor]]

# How fast the weight of a prediction grows along a step, in units of the step h of log(SNR) / 2; see `quadrature`.
STRAIGHT, IN_EPS, IN_X0, IN_X0_SDE = 0, 1, -1, -2

MOST_GROWTH = 100  # of the signal in the first step, where several eps are mixed

# --- Textbook methods in sigma ----------------------------------------------------------------------------------------


@as_sampler
def heun(eps_fn: EpsFn, x: Tensor, schedule: NoiseSchedule, times: Sequence[int] | None = None) -> Iterator[State]:
    """Heun's method, order 2: the mean of eps at both ends of the step (Karras et al. 2022, 2206.00364, algorithm 1).

    Costs two evaluations a step, one for the step to 0.
    """
    for t, s, ab_t, ab_s in _mixing(steps(schedule, times)):
        state = step_with_eps(s, x, _trapezoid(eps_fn, x, t, s, ab_t, ab_s), ab_t, ab_s)
        x = state.x
        yield state


@as_sampler
def rk4(eps_fn: EpsFn, x: Tensor, schedule: NoiseSchedule, times: Sequence[int] | None = None) -> Iterator[State]:
    """The classical Runge-Kutta method, order 4; its middle is the time whose sigma is nearest to half-way.

    Costs four evaluations a step; two where no time lies between t and s (Heun's step); one for the step to 0.
    """
    sigma = ((1 - schedule.alpha_bar) / schedule.alpha_bar).sqrt().tolist()
    for t, s, ab_t, ab_s in _mixing(steps(schedule, times)):
        if s == 0 or t - s == 1:
            eps = _trapezoid(eps_fn, x, t, s, ab_t, ab_s)
        else:
            m = min(range(s + 1, t), key=lambda m: abs(sigma[t] + sigma[s] - 2 * sigma[m]))
            start, middle, end = quadrature([0, (sigma[t] - sigma[m]) / (sigma[t] - sigma[s]), 1])
            stages = _runge_kutta(eps_fn, x, schedule, t, m, s)
            eps = _sum((start, middle / 2, middle / 2, end), stages)
        state = step_with_eps(s, x, eps, ab_t, ab_s)
        x = state.x
        yield state


ADAMS_BASHFORTH = ((1,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))


@as_sampler
def plms(eps_fn: EpsFn, x: Tensor, schedule: NoiseSchedule, times: Sequence[int] | None = None) -> Iterator[State]:
    """Pseudo linear multistep (Liu et al. 2022, arXiv 2202.09778), started by a step of Heun and growing orders.

    The weights are those of Adams and Bashforth for steps of equal length, used at any length ("pseudo"): order 2.
    Costs one evaluation a step, and one more in the first.
    """
    history: deque[Tensor] = deque(maxlen=4)
    for t, s, ab_t, ab_s in _mixing(steps(schedule, times)):
        history.appendleft(predict(eps_fn, x, t))
        eps = _sum(ADAMS_BASHFORTH[len(history) - 1], history)
        if len(history) == 1 and s > 0:
            eps = (eps + predict(eps_fn, step_with_eps(s, x, eps, ab_t, ab_s).x, s)) / 2
        state = step_with_eps(s, x, eps, ab_t, ab_s)
        x = state.x
        yield state


@as_sampler
def pndm(eps_fn: EpsFn, x: Tensor, schedule: NoiseSchedule, times: Sequence[int] | None = None) -> Iterator[State]:
    """Pseudo numerical methods, F-PNDM (Liu et al. 2022): three Runge-Kutta steps, then linear multistep.

    Costs one evaluation a step, and nine more at the start. Raises ValueError for fewer than four steps.
    """
    plan = steps(schedule, times)
    if len(plan) < 4:
        refuse("times", [t for t, *_ in plan] + [0], "at least 4 steps: three start the method")
    history: deque[Tensor] = deque(maxlen=4)
    for i, (t, s, ab_t, ab_s) in enumerate(_mixing(plan)):
        if i < 3:
            stages = _runge_kutta(eps_fn, x, schedule, t, (t + s) // 2, s)
            history.appendleft(stages[0])
            eps = _sum((1 / 6, 1 / 3, 1 / 3, 1 / 6), stages)
        else:
            history.appendleft(predict(eps_fn, x, t))
            eps = _sum(ADAMS_BASHFORTH[3], history)
        state = step_with_eps(s, x, eps, ab_t, ab_s)
        x = state.x
        yield state


# --- Exponential integrators in log-SNR -------------------------------------------------------------------------------


@as_sampler
def dpm_solver(
    eps_fn: EpsFn, x: Tensor, schedule: NoiseSchedule, times: Sequence[int] | None = None, order: int = 2
) -> Iterator[State]:
    """DPM-Solver-1, -2 or -3, singlestep: a mean of `order` eps (Lu et al. 2022, arXiv 2206.00927, algorithms 1, 2).

    A step of the paper spans `order` steps of `times`: what lies between are its intermediate times, so that r1 and r2
    are wherever the grid puts them (1/2; 1/3 and 2/3 on "log_snr"). Order 3 takes the Taylor form of the authors' code,
    which keeps its order at any r1 and r2. Order 1 is DDIM. Costs one evaluation for every step of `times`.
    """
    rate = STRAIGHT if check_int("order", order, 1, 3) == 2 else IN_EPS
    plan = steps(schedule, times)
    for i, (t, s, ab_t, ab_s) in enumerate(plan if order == 1 else _mixing(plan)):
        if i % order == 0 or s == 0:
            start, ab_start, nodes = x, ab_t, []
        nodes.append((_half_log_snr(ab_t), predict(eps_fn, x, t)))
        state = step_with_eps(s, start, _mean(nodes, ab_s, rate), ab_start, ab_s)
        x = state.x
        yield state


@as_sampler
def dpm_solver_pp_2s(
    eps_fn: EpsFn, x: Tensor, schedule: NoiseSchedule, times: Sequence[int] | None = None
) -> Iterator[State]:
    """DPM-Solver++(2S), singlestep: DPM-Solver-2 with x0 for eps (Lu et al. 2022, arXiv 2211.01095, algorithm 1)."""
    for i, (t, s, ab_t, ab_s) in enumerate(steps(schedule, times)):
        if i % 2 == 0 or s == 0:
            start, ab_start, nodes = x, ab_t, []
        nodes.append(_x0_node(eps_fn, x, t, ab_t))
        state = step_with_x0(s, start, _mean(nodes, ab_s, STRAIGHT), ab_start, ab_s)
        x = state.x
        yield state


@as_sampler
def dpm_solver_pp(
    eps_fn: EpsFn, x: Tensor, schedule: NoiseSchedule, times: Sequence[int] | None = None, order: int = 2
) -> Iterator[State]:
    """DPM-Solver++(2M) and (3M), multistep: a mean of the last `order` x0 (Lu et al. 2022, 2211.01095, algorithm 2).

    The order grows at the start and falls again at the end. Order 1 is DDIM. 3M is not in the paper; the authors' code
    halves its second difference, which leaves order 2, and is not followed here. Costs one evaluation a step.
    """
    history: deque[tuple[float, Tensor]] = deque(maxlen=check_int("order", order, 1, 3))
    plan = steps(schedule, times)
    for i, (t, s, ab_t, ab_s) in enumerate(plan):
        history.appendleft(_x0_node(eps_fn, x, t, ab_t))
        nodes = list(history)[: len(plan) - i]
        state = step_with_x0(s, x, _mean(nodes, ab_s, STRAIGHT if len(nodes) == 2 else IN_X0), ab_t, ab_s)
        x = state.x
        yield state


@as_sampler
def sde_dpm_solver_pp(
    eps_fn: EpsFn,
    x: Tensor,
    schedule: NoiseSchedule,
    times: Sequence[int] | None = None,
    order: int = 2,
    generator: Generators = None,
) -> Iterator[State]:
    """SDE-DPM-Solver++(2M) and (3M): `dpm_solver_pp` with one of DDPM's steps for DDIM's, fresh noise in each.

    Order 1 is DDPM. Costs one evaluation a step.
    """
    history: deque[tuple[float, Tensor]] = deque(maxlen=check_int("order", order, 1, 3))
    plan = steps(schedule, times)
    for i, (t, s, ab_t, ab_s) in enumerate(plan):
        history.appendleft(_x0_node(eps_fn, x, t, ab_t))
        nodes = list(history)[: len(plan) - i]
        x0 = _mean(nodes, ab_s, STRAIGHT if len(nodes) == 2 else IN_X0_SDE)
        eps, sigma = predict_eps(x, x0, ab_t), math.sqrt(posterior_variance(ab_t, ab_s))
        x = renoise(x0, eps, ab_s, sigma, generator)
        yield State(s, x, x0, eps)


@as_sampler
def unipc(
    eps_fn: EpsFn, x: Tensor, schedule: NoiseSchedule, times: Sequence[int] | None = None, order: int = 2
) -> Iterator[State]:
    """UniPC-1 to -3 (Zhao et al. 2023, arXiv 2302.04867, algorithms 1, 2; x0, B2(h)): predict, then correct.

    The evaluation at a predicted point is used twice: to take the last step again (UniC), and for the next (UniP). A
    State holds the predicted x. Costs one evaluation a step.
    """
    history: deque[tuple[float, Tensor]] = deque(maxlen=check_int("order", order, 1, 3))
    plan = steps(schedule, times)
    start, ab_start = x, 1.0
    for i, (t, s, ab_t, ab_s) in enumerate(plan):
        here = _x0_node(eps_fn, x, t, ab_t)
        if history:
            corrected = _mean([*history, here], ab_t, STRAIGHT if len(history) == 1 else IN_X0)
            x = step_with_x0(t, start, corrected, ab_start, ab_t).x
        history.appendleft(here)
        nodes = list(history)[: len(plan) - i]
        start, ab_start = x, ab_t
        state = step_with_x0(s, x, _mean(nodes, ab_s, STRAIGHT if len(nodes) == 2 else IN_X0), ab_t, ab_s)
        x = state.x
        yield state


def quadrature(r: Sequence[float], z: float = 0.0) -> list[float]:
    """Weights w with sum_k w_k f(r_k) = the mean of f over u in [0, 1] under exp(z (1 - u)), for polynomials f.

    That mean is what the step integrates exactly, with f(u) the prediction a fraction u of the step ahead and z = h for
    eps, -h for x0, -2h for x0 under the SDE; h is the step of log(SNR) / 2. Exact up to degree len(r) - 1, for
    distinct r.
    """
    moments = [_moment(i, z) for i in range(len(r))]
    weights = []
    for k, x in enumerate(r):
        lagrange = [1.0]  # coefficients of the polynomial that is 1 at x and 0 at every other node
        for y in (*r[:k], *r[k + 1 :]):
            lagrange = [(a - y * b) / (x - y) for a, b in zip([0, *lagrange], [*lagrange, 0], strict=True)]
        weights.append(sum(c * m for c, m in zip(lagrange, moments, strict=True)) / moments[0])
    return weights


def _moment(i: int, z: float) -> float:
    """The integral of exp(z (1 - u)) u^i over [0, 1]."""
    if abs(z) < 1:  # where the recursion would lose digits
        return sum(z**k * math.factorial(i) / math.factorial(i + k + 1) for k in range(18))
    return math.expm1(z) / z if i == 0 else (i * _moment(i - 1, z) - 1) / z


def _mean(nodes: Nodes, ab_s: float, rate: int) -> Tensor:
    """The mean of predictions [(log(SNR) / 2, value), ...] over the step from the first of them to ab_s."""
    if len(nodes) == 1:
        return nodes[0][1]
    start = nodes[0][0]
    h = _half_log_snr(ab_s) - start
    return _sum(quadrature([(u - start) / h for u, _ in nodes], rate * h), [value for _, value in nodes])


def _half_log_snr(alpha_bar: float) -> float:
    return math.log(alpha_bar / (1 - alpha_bar)) / 2


def _sum(weights: Sequence[float], values: Sequence[Tensor]) -> Tensor:
    return reduce(add, (w * value for w, value in zip(weights, values, strict=True)))


def _mixing(plan: list[Step]) -> list[Step]:
    """The plan of a solver that mixes eps, with a warning where it begins with hardly any signal.

    With an exact predictor, nine in ten of such runs end farther off than DDIM, and half miss the data altogether.
    """
    t, s, ab_t, ab_s = plan[0]
    if s > 0 and (growth := math.sqrt(ab_s / ab_t)) > MOST_GROWTH:
        warnings.warn(
            f"times: from t = {t} to {s} the signal grows {growth:,.0f}-fold, and with it what the mixed eps differ "
            "by; begin lower (schedules.times_to), or mix x0 (dpm_solver_pp, unipc)",
            RuntimeWarning,
            stacklevel=3,
        )
    return plan


def step_with_eps(s: int, x: Tensor, eps: Tensor, ab_t: float, ab_s: float) -> State:
    """DDIM's step from x at t to s, with some eps."""
    x0 = predict_x0(x, eps, ab_t)
    return State(s, renoise(x0, eps, ab_s), x0, eps)


def step_with_x0(s: int, x: Tensor, x0: Tensor, ab_t: float, ab_s: float) -> State:
    """DDIM's step from x at t to s, with some x0."""
    eps = predict_eps(x, x0, ab_t)
    return State(s, renoise(x0, eps, ab_s), x0, eps)


def _x0_node(eps_fn: EpsFn, x: Tensor, t: int, ab_t: float) -> tuple[float, Tensor]:
    return _half_log_snr(ab_t), predict_x0(x, predict(eps_fn, x, t), ab_t)


def _trapezoid(eps_fn: EpsFn, x: Tensor, t: int, s: int, ab_t: float, ab_s: float) -> Tensor:
    """The mean of eps at t and at the s where DDIM arrives; eps at t alone for s = 0."""
    eps = predict(eps_fn, x, t)
    return (eps + predict(eps_fn, step_with_eps(s, x, eps, ab_t, ab_s).x, s)) / 2 if s > 0 else eps


def _runge_kutta(eps_fn: EpsFn, x: Tensor, schedule: NoiseSchedule, t: int, m: int, s: int) -> list[Tensor]:
    """The four eps of a Runge-Kutta step: at t, twice at m, and at s, each where the one before it leads from x."""
    ab = schedule.alpha_bar.tolist()
    stages = [predict(eps_fn, x, t)]
    for time in (m, m, s):
        stages.append(predict(eps_fn, step_with_eps(time, x, stages[-1], ab[t], ab[time]).x, time))
    return stages


# --- What a solver is run with ----------------------------------------------------------------------------------------


class Solver(NamedTuple):
    """A solver by name: run(eps_fn, x, schedule, times), and nfe(n), what n >= 4 steps cost at most.

    One that is `random` draws noise on the way, from run(..., generator=...).
    """

    run: Callable[..., Iterator[State]]
    nfe: Callable[[int], int] = lambda steps: steps
    random: bool = False

    def steps(self, nfe: int) -> int:
        """The most steps that `nfe` network evaluations pay for; ValueError if they do not pay for four."""
        affordable = [n for n in range(4, check_int("nfe", nfe, 4) + 1) if self.nfe(n) <= nfe]
        if not affordable:
            refuse("nfe", nfe, f"at least {self.nfe(4)}, the cost of four steps")
        return affordable[-1]


SOLVERS = {
    "DDPM": Solver(ddpm, random=True),
    "DDIM": Solver(ddim),
    "Heun": Solver(heun, lambda steps: 2 * steps - 1),
    "RK4": Solver(rk4, lambda steps: 4 * steps - 3),
    "PLMS": Solver(plms, lambda steps: steps + 1),
    "PNDM": Solver(pndm, lambda steps: steps + 9),
    "DPM-Solver-2": Solver(dpm_solver),
    "DPM-Solver-3": Solver(partial(dpm_solver, order=3)),
    "DPM-Solver++(2S)": Solver(dpm_solver_pp_2s),
    "DPM-Solver++(2M)": Solver(dpm_solver_pp),
    "DPM-Solver++(3M)": Solver(partial(dpm_solver_pp, order=3)),
    "SDE-DPM-Solver++(2M)": Solver(sde_dpm_solver_pp, random=True),
    "UniPC-2": Solver(unipc),
    "UniPC-3": Solver(partial(unipc, order=3)),
}


def thresholded(eps_fn: EpsFn, schedule: NoiseSchedule, limit: float = 1.0, share: float = 1.0) -> EpsFn:
    """An eps_fn(x, t) whose x0 stays within -limit..limit, where the data do; for any sampler.

    share = 1 clips. share < 1 is dynamic thresholding (Saharia et al. 2022, arXiv 2205.11487, section 2.3): x0 is cut
    to the quantile `share` of its own |x0|, sample by sample, and divided down to the limit. Raises ValueError unless
    limit > 0 and 0 < share <= 1.
    """
    check_real("limit", limit, 1e-12)
    check_real("share", share, 1e-12, 1.0)
    check_same_levels(eps_fn, schedule, range(1, schedule.T + 1))

    def bounded_eps(x: Tensor, t: Tensor) -> Tensor:
        check_times("t", t, len(check_batch("x", x)), schedule.T)
        ab = schedule.alpha_bar[t.cpu()]
        x0 = predict_x0(x, check_like("eps_fn(x, t)", eps_fn(x, t), "x", x), ab)
        if share < 1:
            bound = x0.abs().flatten(1).quantile(share, 1).clamp(min=limit)
            bound = as_column(bound, x)
            x0 = x0.clamp(-bound, bound) * (limit / bound)
        else:
            x0 = x0.clamp(-limit, limit)
        return predict_eps(x, x0, ab)

    return of_schedule(bounded_eps, schedule)


def optimised_grid(
    run: Callable[..., Iterator[State]],
    eps_fn: EpsFn,
    x: Tensor,
    schedule: NoiseSchedule,
    times: Sequence[int],
    target: Tensor,
) -> list[int]:
    """Times from which run(eps_fn, x, schedule, times) ends nearest to `target`, found by search from `times`.

    target is where the same start x ends after many steps. Every time but the first and the last is moved in turn,
    either way, as long as the mean square error falls; then by half the stride, down to 1. A local search: it ends at a
    grid that no single move improves, and costs hundreds of runs. Judge the grid on a start that it has not seen.
    """

    def error(times: Sequence[int]) -> float:
        return (sample(run(eps_fn, x, schedule, times)) - target).square().mean().item()

    times = list(times)
    best, stride = error(times), max(1, schedule.T // (2 * len(times)))
    while stride > 0:
        before = best
        for i in range(1, len(times) - 1):
            for moved in (times[i] - stride, times[i] + stride):
                trial = [*times[:i], moved, *times[i + 1 :]]
                if times[i + 1] < moved < times[i - 1] and (trial_error := error(trial)) < best:
                    times, best = trial, trial_error
        if best == before:
            stride //= 2
    return times
