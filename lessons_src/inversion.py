"""Inversion and editing: from data back to the noise that makes it, and what can be done with it.

DDIM's step t -> s can be run from s to t. The explicit recursion takes eps at x_s for eps at x_t, and errs in
proportion to the step; the implicit ones solve for the x_t whose step lands on x_s. Times fall to 0 as everywhere;
inversion visits them upwards, and its last State is at times[0].
"""

import inspect
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from lessons_src.checks import check_alike, check_batch, check_choice, check_int, check_real, refuse
from lessons_src.process import Generators, add_noise, as_column, noise_like, posterior_variance, predict_x0
from lessons_src.samplers import EpsFn, State, Step, as_sampler, ddim, predict, renoise, steps
from lessons_src.schedules import NoiseSchedule

# --- Inversion --------------------------------------------------------------------------------------------------------


@as_sampler
def invert(
    eps_fn: EpsFn,
    x: Tensor,
    schedule: NoiseSchedule,
    times: Sequence[int] | None = None,
    at_zero: str = "first_time",
    ask: str = "s",
    generator: Generators = None,
) -> Iterator[State]:
    """DDIM's step run upwards, s -> t, with eps at x_s: x_t = sqrt(ab_t) x0(x_s) + sqrt(1 - ab_t) eps(x_s, s).

    x is data (B, *event). No network predicts at t = 0: at_zero = "first_time" asks it for the lowest time above,
    "zero" takes eps = 0, "noise" draws eps from generator, so that flat data have something to invert (Staniszewski et
    al. 2024, arXiv 2410.23530). Costs one evaluation a step ("zero", "noise": one less). ask = "t" takes eps(x_s, t),
    as DDIMInverseScheduler of diffusers does: nearer to the exact inverse for wide data, further from it for narrow.
    """
    check_choice("at_zero", at_zero, ("first_time", "zero", "noise"))
    check_choice("ask", ask, ("s", "t"))
    for t, s, ab_t, ab_s in _upwards(schedule, times):
        if s == 0 and at_zero == "noise":
            eps = noise_like(check_batch("x", x), generator)
        else:
            eps = _predict_upwards(eps_fn, x, t, s, at_zero, ask)
        x0 = predict_x0(x, eps, ab_s)
        x = renoise(x0, eps, ab_t)
        yield State(t, x, x0, eps)


@as_sampler
def invert_as_printed(
    eps_fn: EpsFn,
    x: Tensor,
    schedule: NoiseSchedule,
    times: Sequence[int] | None = None,
    at_zero: str = "first_time",
) -> Iterator[State]:
    """`invert` with the image itself in place of x0(x_s), as some texts print it: it drifts off with every step."""
    check_choice("at_zero", at_zero, ("first_time", "zero"))
    image = x
    for t, s, ab_t, _ in _upwards(schedule, times):
        eps = _predict_upwards(eps_fn, x, t, s, at_zero)
        x = renoise(image, eps, ab_t)
        yield State(t, x, image, eps)


@as_sampler
def invert_fixed_point(
    eps_fn: EpsFn, x: Tensor, schedule: NoiseSchedule, times: Sequence[int] | None = None, iterations: int = 5
) -> Iterator[State]:
    """Solve DDIM's step for x_t by iterating x_t <- sqrt(ab_t / ab_s) x_s + c eps(x_t, t).

    Converges to the exact inverse where c eps changes less than x_t does: for short enough steps (Pan et al. 2023,
    arXiv 2309.04907). The first x_t is that of `invert`. Costs `iterations` evaluations a step, and one more.
    """
    check_int("iterations", iterations, 1)
    for t, s, ab_t, ab_s in _upwards(schedule, times):
        eps = predict(eps_fn, x, s or t)
        for _ in range(iterations):
            x_t = renoise(predict_x0(x, eps, ab_s), eps, ab_t)
            eps = predict(eps_fn, x_t, t)
        clean = predict_x0(x, eps, ab_s)
        x = renoise(clean, eps, ab_t)
        yield State(t, x, clean, eps)


@as_sampler
def invert_by_bisection(
    eps_fn: EpsFn, x: Tensor, schedule: NoiseSchedule, times: Sequence[int] | None = None, halvings: int = 60
) -> Iterator[State]:
    """The exact inverse in one dimension, x of shape (B, 1), where DDIM's step rises with x_t.

    With an exact predictor every step does: its slope is at least sqrt((1 - ab_s) / (1 - ab_t)). A learned one gives no
    such promise. Raises ValueError for more than one dimension, or where a step does not reach x_s from -1e3..1e3.
    Costs `halvings` evaluations a step, and three more.
    """
    check_int("halvings", halvings, 1)
    if check_batch("x", x).shape[1:] != (1,):
        refuse("x", x, "shape (B, 1): bisection needs an order")
    for t, _, ab_t, ab_s in _upwards(schedule, times):

        def land(x_t: Tensor, t: int = t, ab_t: float = ab_t, ab_s: float = ab_s) -> Tensor:
            eps = predict(eps_fn, x_t, t)
            return renoise(predict_x0(x_t, eps, ab_t), eps, ab_s)

        low, high = torch.full_like(x, -1e3), torch.full_like(x, 1e3)
        if not ((land(low) < x) & (x < land(high))).all():
            refuse("x", x, f"values that the step from t = {t} reaches")
        for _ in range(halvings):
            middle = (low + high) / 2
            below = land(middle) < x
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        x = (low + high) / 2
        eps = predict(eps_fn, x, t)
        yield State(t, x, predict_x0(x, eps, ab_t), eps)


def _predict_upwards(eps_fn: EpsFn, x: Tensor, t: int, s: int, at_zero: str, ask: str = "s") -> Tensor:
    if s == 0 and at_zero == "zero":
        return torch.zeros_like(x)
    return predict(eps_fn, x, t if ask == "t" else s or t)


def _upwards(schedule: NoiseSchedule, times: Sequence[int] | None) -> Iterator[Step]:
    return reversed(steps(schedule, times))


# --- EDICT ------------------------------------------------------------------------------------------------------------


@as_sampler
def edict(
    eps_fn: EpsFn, x: Tensor, y: Tensor, schedule: NoiseSchedule, times: Sequence[int] | None = None, p: float = 0.93
) -> Iterator[tuple[Tensor, Tensor]]:
    """Sample with two coupled copies, each stepped with eps of the other (Wallace et al. 2022, arXiv 2211.12446).

    Every line changes one copy by something that the other determines, so `edict_invert` can undo it exactly, whatever
    the network. p in (0, 1] mixes the copies after every step: it keeps them together here, and drives them apart, by
    1 / p^2 a step, in inversion. Start with x = y. Costs two evaluations a step; take float64.
    """
    p = check_real("p", p, 1e-12, 1.0)
    check_alike(x=x, y=y)
    for t, _, ab_t, ab_s in steps(schedule, times):
        a, b = _linear_step(ab_t, ab_s)
        x = a * x + b * predict(eps_fn, y, t)
        y = a * y + b * predict(eps_fn, x, t)
        x = p * x + (1 - p) * y
        y = p * y + (1 - p) * x
        yield x, y


@as_sampler
def edict_invert(
    eps_fn: EpsFn, x: Tensor, y: Tensor, schedule: NoiseSchedule, times: Sequence[int] | None = None, p: float = 0.93
) -> Iterator[tuple[Tensor, Tensor]]:
    """Undo `edict` line by line, in the opposite order; from an image, start with x = y = image."""
    p = check_real("p", p, 1e-12, 1.0)
    check_alike(x=x, y=y)
    for t, _, ab_t, ab_s in _upwards(schedule, times):
        a, b = _linear_step(ab_t, ab_s)
        y = (y - (1 - p) * x) / p
        x = (x - (1 - p) * y) / p
        y = (y - b * predict(eps_fn, x, t)) / a
        x = (x - b * predict(eps_fn, y, t)) / a
        yield x, y


def _linear_step(ab_t: float, ab_s: float) -> tuple[float, float]:
    """a and b of DDIM's step written as x_s = a x_t + b eps."""
    a = math.sqrt(ab_s / ab_t)
    return a, math.sqrt(1 - ab_s) - a * math.sqrt(1 - ab_t)


# --- Inversion under guidance -----------------------------------------------------------------------------------------


@torch.no_grad()
def null_predictions(
    eps_c_fn: EpsFn, pivots: Sequence[Tensor], schedule: NoiseSchedule, times: Sequence[int], w: float
) -> list[Tensor]:
    """The unconditional eps, one a step, with which guided DDIM of scale w walks along `pivots` (len(times) tensors).

    pivots[0] belongs to times[0], pivots[-1] is the image: for example an inversion at w = 1. Null-text inversion
    (Mokady et al. 2022, arXiv 2211.09794) optimises the embedding of the empty prompt towards the same end. Here eps
    itself is free, so that one linear equation a step has the answer: eps_u + w (eps_c - eps_u) must lead from pivot to
    pivot. Raises ValueError for w = 1, where eps_u has no say.
    """
    if check_real("w", w) == 1:
        refuse("w", w, "a scale other than 1: at 1 the unconditional prediction has no weight")
    plan = steps(schedule, times)
    if len(pivots) != len(plan) + 1:
        refuse("pivots", f"{len(pivots)} tensors", f"{len(plan) + 1}, one for each of times")
    nulls, x = [], pivots[0]
    for (t, _, ab_t, ab_s), pivot in zip(plan, pivots[1:], strict=True):
        a, b = _linear_step(ab_t, ab_s)
        wanted = (pivot - a * x) / b
        nulls.append((wanted - w * predict(eps_c_fn, x, t)) / (1 - w))
        x = pivot
    return nulls


# --- Editing ----------------------------------------------------------------------------------------------------------


def sdedit(
    eps_fn: EpsFn,
    guide: Tensor,
    schedule: NoiseSchedule,
    times: Sequence[int],
    sampler: Callable[..., Iterator[State]] = ddim,
    generator: Generators = None,
) -> Iterator[State]:
    """SDEdit (Meng et al. 2021, arXiv 2108.01073): noise the guide to times[0], then sample. No inversion.

    A low times[0] stays near the guide, a high one near the data: for data N(0, I), exactly sampled, the result is
    N(ab guide, (1 - ab^2) I). generator draws the noise, and that of a sampler that draws more on the way.
    """
    [(_, _, ab, _), *_] = steps(schedule, times)
    x = add_noise(guide, noise_like(check_batch("guide", guide), generator), ab)
    draws = {"generator": generator} if "generator" in inspect.signature(sampler).parameters else {}
    return sampler(eps_fn, x, schedule, times, **draws)


@as_sampler
def inpaint(
    eps_fn: EpsFn,
    x: Tensor,
    known: Tensor,
    mask: Tensor,
    schedule: NoiseSchedule,
    times: Sequence[int] | None = None,
    eta: float = 1.0,
    generator: Generators = None,
) -> Iterator[State]:
    """Fill in what mask leaves open, by replacement: after every step the known part is put back, noised to s.

    known and mask (1 where known, 0 where open) are like x. Song et al. 2021, appendix I.2; Lugmayr et al. 2022
    (RePaint, equation 8). Only approximate: the open part is drawn for known values that are themselves noised, not for
    the ones that come out. eta as in `samplers.ddim`.
    """
    check_alike(x=x, known=known, mask=mask)
    if not ((mask == 0) | (mask == 1)).all():
        refuse("mask", mask, "only zeros and ones")
    for t, s, ab_t, ab_s in steps(schedule, times, eta):
        eps = predict(eps_fn, x, t)
        x0 = predict_x0(x, eps, ab_t)
        x = renoise(x0, eps, ab_s, eta * math.sqrt(posterior_variance(ab_t, ab_s)), generator)
        x = torch.where(mask == 1, add_noise(known, noise_like(x, generator), ab_s), x)
        yield State(s, x, x0, eps)


def slerp(a: Tensor, b: Tensor, weight: float) -> Tensor:
    """Between noises a (weight 0) and b (weight 1) along the great circle, sample by sample (B, *event).

    Independent noises are nearly orthogonal in many dimensions, so that a straight mean of two would be too short by
    sqrt(1/2); the arc keeps the length. Where a and b are parallel it is the straight line. Raises ValueError where
    they are opposite: every direction leads from one to the other.
    """
    check_alike(a=a, b=b)
    weight = check_real("weight", weight)
    flat_a, flat_b = a.flatten(1), b.flatten(1)
    cosine = torch.nn.functional.cosine_similarity(flat_a, flat_b, dim=1)
    if (cosine < -1 + 1e-6).any():
        refuse("b", b, "no sample opposite to that of a: there is no one arc between them")
    angle = as_column(cosine.arccos(), a)
    arc = ((1 - weight) * angle).sin() * a + (weight * angle).sin() * b
    return torch.where(angle.sin() > 1e-6, arc / angle.sin(), (1 - weight) * a + weight * b)
