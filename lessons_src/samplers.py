"""Samplers: generators that start from noise and yield every state on the way to data.

A sampler takes eps_fn(x, t) -> eps (a network, a guided network, an exact oracle), the start noise x of shape
(B, *event), a schedule, and the times to visit. It goes from each time t to the next time s; the last s is 0 and no
noise is added there. One step costs one call of eps_fn. Samplers run without gradients: nothing flows back through x.

The start x is the caller's, and so is the generator of what is drawn on the way. With a list of generators, one a
sample, a sample is the same in every batch: x = noise_like(torch.empty(8, 2), generators), then generator=generators.
"""

import inspect
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import wraps
from itertools import pairwise
from typing import Any, NamedTuple, ParamSpec, TypeVar

import torch
from torch import Tensor

from lessons_src.checks import (
    check_alike,
    check_batch,
    check_choice,
    check_finite,
    check_int,
    check_like,
    check_real,
    refuse,
)
from lessons_src.process import Generators, noise_like, posterior, posterior_variance, predict_x0
from lessons_src.schedules import NoiseSchedule, check_schedule

EpsFn = Callable[[Tensor, Tensor], Tensor]
P = ParamSpec("P")
Yielded = TypeVar("Yielded")


class State(NamedTuple):
    """Where a sampler stands: x at time t, and the predictions x0 and eps that brought it there."""

    t: int
    x: Tensor
    x0: Tensor
    eps: Tensor


def as_sampler(run: Callable[P, Iterator[Yielded]]) -> Callable[P, Iterator[Yielded]]:
    """Decorate a generator function: without gradients, and what all samplers take is checked as soon as it is called.

    Raises TypeError or ValueError, by name, for eps_fn, x, schedule or times that no sampler takes, and for a schedule
    that is not the network's own: see `check_same_levels`.
    """
    parameters, without_gradients = inspect.signature(run), torch.no_grad()(run)

    @wraps(run)
    def checked(*args: P.args, **options: P.kwargs) -> Iterator[Yielded]:
        bound = parameters.bind(*args, **options)
        given = bound.arguments
        eps_fn, schedule = given["eps_fn"], check_schedule("schedule", given["schedule"])
        if not callable(eps_fn):
            refuse("eps_fn", eps_fn, "a function eps_fn(x, t), such as a network", TypeError)
        check_batch("x", given["x"])
        given["times"] = _falling(schedule, given.get("times"))
        check_same_levels(eps_fn, schedule, given["times"])
        return without_gradients(*bound.args, **bound.kwargs)

    return checked


def check_same_levels(eps_fn: Any, schedule: NoiseSchedule, times: Sequence[int]) -> None:
    """Refuse a schedule whose levels at `times` are not those of eps_fn.schedule, if it has one: t says how noisy x is.

    A plain function has no schedule: whoever means another one passes lambda x, t: net(x, t).
    """
    own = getattr(eps_fn, "schedule", None)
    if own is None or own is schedule:
        return
    if max(times) > own.T or not torch.allclose(own.alpha_bar[times], schedule.alpha_bar[times], rtol=1e-4, atol=0):
        refuse("schedule", schedule, f"the levels of eps_fn, {own}; to mean other ones, pass lambda x, t: eps_fn(x, t)")


def of_schedule(eps_fn: EpsFn, schedule: NoiseSchedule | None) -> EpsFn:
    """eps_fn, which now says that its times are those of `schedule`."""
    if schedule is not None:
        eps_fn.__dict__["schedule"] = schedule
    return eps_fn


@as_sampler
def ddpm(
    eps_fn: EpsFn,
    x: Tensor,
    schedule: NoiseSchedule,
    times: Sequence[int] | None = None,
    variance: str = "beta_tilde",
    generator: Generators = None,
) -> Iterator[State]:
    """Ancestral sampling (Ho et al. 2020, algorithm 2): step to the posterior mean, add fresh noise.

    variance: "beta_tilde" (the posterior's own) or "beta" (1 - ab_t / ab_s). times defaults to the full chain.
    """
    check_choice("variance", variance, ("beta_tilde", "beta"))
    for t, s, ab_t, ab_s in steps(schedule, times):
        eps = predict(eps_fn, x, t)
        x0 = predict_x0(x, eps, ab_t)
        x, beta_tilde = posterior(x, x0, ab_t, ab_s)
        if s > 0:
            sigma = math.sqrt(beta_tilde if variance == "beta_tilde" else 1 - ab_t / ab_s)
            x = x + sigma * noise_like(x, generator)
        yield State(s, x, x0, eps)


@as_sampler
def ddim(
    eps_fn: EpsFn,
    x: Tensor,
    schedule: NoiseSchedule,
    times: Sequence[int] | None = None,
    eta: float = 0.0,
    generator: Generators = None,
) -> Iterator[State]:
    """Denoising diffusion implicit models (Song, Meng & Ermon 2020, equations 12 and 16).

    eta = 0 is deterministic; eta = 1 has the law of `ddpm` with "beta_tilde". times defaults to the full chain. Raises
    ValueError where eta asks for more fresh noise than a level has room for; up to 1 it never does.
    """
    for t, s, ab_t, ab_s in steps(schedule, times, eta):
        eps = predict(eps_fn, x, t)
        x0 = predict_x0(x, eps, ab_t)
        sigma = eta * math.sqrt(posterior_variance(ab_t, ab_s))
        x = renoise(x0, eps, ab_s, sigma, generator)
        yield State(s, x, x0, eps)


def renoise(x0: Tensor, eps: Tensor, alpha_bar_s: float, sigma: float = 0.0, generator: Generators = None) -> Tensor:
    """sqrt(ab_s) x0 + sqrt(1 - ab_s - sigma^2) eps + sigma z: the noise level of s, a part sigma^2 of it fresh.

    Raises ValueError unless 0 < ab_s <= 1 and 0 <= sigma^2 <= 1 - ab_s: more fresh noise than s has room for.
    """
    check_alike(x0=x0, eps=eps)
    ab_s, sigma, kept = _shares(alpha_bar_s, sigma)
    x = math.sqrt(ab_s) * x0 + math.sqrt(kept) * eps
    return x + sigma * noise_like(x, generator) if sigma > 0 else x


def sample(states: Iterable[State]) -> Tensor:
    """Run a sampler to its end and return the last x."""
    last = deque(states if isinstance(states, Iterable) else (), maxlen=1)
    if not last or not hasattr(last[0], "x"):
        refuse("states", states, "a sampler that makes at least one step")
    return last[0].x


def trajectory(x: Tensor, states: Iterable[State]) -> Tensor:
    """The start x and the x of every state, stacked: shape (steps + 1, B, *event)."""
    return torch.stack([x, *(state.x for state in states)])


class Counted:
    """Wraps a network or eps_fn and counts its evaluations: the cost of sampling in `nfe`.

    `backward` counts the backward passes through them, of which only guidance by gradients has any.
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self.function, self.nfe, self.backward = function, 0, 0

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        """Call the wrapped function and count."""
        self.nfe += 1
        found = self.function(*args, **kwargs)
        if found.requires_grad:
            found.register_hook(self._came_back)
        return found

    def _came_back(self, gradient: Tensor) -> None:
        self.backward += 1

    def __getattr__(self, name: str) -> Any:
        if name == "function":  # not set yet, as while being copied
            raise AttributeError(name)
        return getattr(self.function, name)


Step = tuple[int, int, float, float]


def steps(schedule: NoiseSchedule, times: Sequence[int] | None, eta: float = 0.0) -> list[Step]:
    """(t, s, alpha_bar_t, alpha_bar_s) for every step of `times`, by default of the full chain.

    Raises TypeError or ValueError unless times, a sequence or a 1-D tensor, are whole numbers that fall strictly from
    at most T to 0; and unless eta >= 0 leaves room for its noise, eta^2 beta-tilde <= 1 - alpha_bar_s, at every step.
    """
    times = _falling(schedule, times)
    alpha_bar = schedule.alpha_bar.tolist()
    found = [(t, s, alpha_bar[t], alpha_bar[s]) for t, s in pairwise(times)]
    check_real("eta", eta, 0.0)
    for t, s, ab_t, ab_s in found if eta > 1 else ():
        if eta**2 * posterior_variance(ab_t, ab_s) > 1 - ab_s:
            refuse("eta", eta, f"a value whose noise fits into level s = {s}, coming from t = {t}; up to 1 always does")
    return found


def predict(eps_fn: EpsFn, x: Tensor, t: int) -> Tensor:
    """eps_fn(x, t) for one time t; TypeError or ValueError unless it is finite, like x (B, *event), and leaves x be."""
    before = x._version if not check_batch("x", x).is_inference() else 0
    found = eps_fn(x, torch.full((len(x),), t, device=x.device))
    if not x.is_inference() and x._version != before:
        refuse("eps_fn", eps_fn, "a function that does not change x in place")
    if not check_like("eps_fn(x, t)", found, "x", x).isfinite().all():
        check_finite("x", x, f", at t = {t}")
        check_finite("eps_fn(x, t)", found, f", at t = {t}")
    return found


def _falling(schedule: NoiseSchedule, times: Sequence[int] | Tensor | None) -> list[int]:
    if times is None:
        return list(range(schedule.T, -1, -1))
    expected = f"strictly decreasing whole numbers from at most {schedule.T} to 0"
    try:
        times = times.tolist() if isinstance(times, Tensor) else list(times)
        whole = [check_int("times", time, 0, schedule.T) for time in times]
    except TypeError:
        refuse("times", times, expected, TypeError)
    if len(whole) < 2 or whole[-1] != 0 or any(s >= t for t, s in pairwise(whole)):
        refuse("times", times, expected)
    return whole


def _shares(alpha_bar_s: float, sigma: float) -> tuple[float, float, float]:
    """alpha_bar_s, sigma, and what variance is left for the old noise at level s."""
    ab_s, sigma = check_real("alpha_bar_s", alpha_bar_s, 0.0, 1.0), check_real("sigma", sigma, 0.0)
    if ab_s == 0:
        refuse("alpha_bar_s", ab_s, "in (0, 1]")
    kept = 1 - ab_s - sigma**2
    if kept < -1e-12:
        refuse("sigma", sigma, f"sigma^2 <= 1 - alpha_bar_s = {1 - ab_s:.6g}")
    return ab_s, sigma, max(kept, 0.0)
