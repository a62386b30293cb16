"""The continuous view: noise as a stochastic differential equation, its reverse, its ODE, and the likelihood it gives.

A linear SDE dx = -rate(t) x dt + g(t) dw turns x0 into signal(t) x0 + noise(t) eps (Song et al. 2021, 2011.13456).
Time t is a real number from 0 (data) to T. The score of p_t undoes it, with noise (the reverse SDE) or without (the
probability-flow ODE). A score is score(x, t), a field field(x, t); x is (B, *event), and so is what they return.
"""

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from operator import add

import torch
from torch import Tensor

from lessons_src.checks import check_batch, check_choice, check_int, check_like, check_real, refuse
from lessons_src.ode import Field, positions, solve
from lessons_src.oracle import GaussianMixture
from lessons_src.process import Generators, noise_like, score_from_eps, signal_and_noise
from lessons_src.samplers import EpsFn, predict, steps
from lessons_src.schedules import NoiseSchedule


class LinearSDE(ABC):
    """What VP and VE have in common."""

    T: float

    @abstractmethod
    def rate(self, t: float) -> float:
        """How fast the signal decays: the drift is -rate(t) x."""

    @abstractmethod
    def g(self, t: float) -> float:
        """Size of the noise added: dw is multiplied by g(t)."""

    @abstractmethod
    def signal(self, t: float) -> float:
        """Factor of x0 in x_t."""

    @abstractmethod
    def noise(self, t: float) -> float:
        """Standard deviation of x_t given x0."""

    def drift(self, x: Tensor, t: float) -> Tensor:
        """-rate(t) x, the deterministic part of the forward SDE."""
        return -self.rate(t) * x

    def reverse_drift(self, score: Field) -> Field:
        """f - g^2 score: the drift of the reverse-time SDE (Anderson 1982; Song et al. 2021, equation 6)."""
        return self.weighted(score, 1.0)

    def flow(self, score: Field) -> Field:
        """f - g^2 score / 2: the field of the probability-flow ODE (equation 13): without noise, half the score."""
        return self.weighted(score, 0.5)

    def weighted(self, score: Field, weight: float) -> Field:
        """f - weight g^2 score."""
        return lambda x, t: self.drift(x, t) - weight * self.g(t) ** 2 * score(x, t)

    def score(self, mixture: GaussianMixture) -> Field:
        """The exact score of p_t for data from a mixture."""

        def exact(x: Tensor, t: float) -> Tensor:
            signal, noise = self.signal(t), self.noise(t)
            size = math.hypot(signal, noise)  # x / size has unit size in the sense of a NoiseSchedule
            return mixture.score(x / size, (signal / size) ** 2) / size

        return exact


class VariancePreserving(LinearSDE):
    """dx = -beta(t) x / 2 dt + sqrt(beta(t)) dw (Song et al. 2021, equation 11), the limit of the DDPM chain."""

    @abstractmethod
    def beta(self, t: float) -> float:
        """How fast noise comes in at t, 0 to T."""

    @abstractmethod
    def alpha_bar(self, t: float) -> float:
        """exp of minus the integral of beta from 0 to t."""

    def rate(self, t: float) -> float:
        """beta(t) / 2."""
        return self.beta(t) / 2

    def g(self, t: float) -> float:
        """sqrt(beta(t))."""
        return math.sqrt(self.beta(t))

    def signal(self, t: float) -> float:
        """sqrt(alpha_bar(t))."""
        return math.sqrt(self.alpha_bar(t))

    def noise(self, t: float) -> float:
        """sqrt(1 - alpha_bar(t))."""
        return math.sqrt(1 - self.alpha_bar(t))

    def schedule(self, steps: int) -> NoiseSchedule:
        """The discrete schedule with the same alpha_bar at times T i / steps, i = 0..steps."""
        check_int("steps", steps, 1)
        alpha_bar = [self.alpha_bar(self.T * i / steps) for i in range(steps + 1)]
        return NoiseSchedule(torch.tensor(alpha_bar, dtype=torch.float64), "vp")


@dataclass(frozen=True)
class VP(VariancePreserving):
    """beta(t) rises linearly from beta_start at 0 to beta_end at T.

    A chain of N steps on [0, 1] has beta(t) = N beta_t: 0.1 to 20 for the linear schedule (Song et al. 2021, appendix
    C). Raises ValueError unless 0 < beta_start <= beta_end and T > 0.
    """

    beta_start: float = 0.1
    beta_end: float = 20.0
    T: float = 1.0

    def __post_init__(self) -> None:
        check_real("beta_start", self.beta_start, 1e-12)
        check_real("beta_end", self.beta_end, self.beta_start)
        check_real("T", self.T, 1e-12)

    def beta(self, t: float) -> float:
        """Linear in t, 0 to T."""
        check_real("t", t, 0.0, self.T)
        return self.beta_start + (self.beta_end - self.beta_start) * t / self.T

    def alpha_bar(self, t: float) -> float:
        """In closed form."""
        check_real("t", t, 0.0, self.T)
        return math.exp(-(self.beta_start * t + (self.beta_end - self.beta_start) * t**2 / (2 * self.T)))


class ScheduleVP(VariancePreserving):
    """Any discrete schedule as an SDE on [0, T]: log alpha_bar joined by straight lines, so that beta is a stair."""

    def __init__(self, noise_schedule: NoiseSchedule) -> None:
        self.noise_schedule, self.T = noise_schedule, float(noise_schedule.T)
        self._log_alpha_bar = noise_schedule.alpha_bar.log().tolist()

    def beta(self, t: float) -> float:
        """-log alpha_k for t in (k - 1, k]: nearly beta_k where that is small."""
        k = max(1, math.ceil(check_real("t", t, 0.0, self.T)))
        return self._log_alpha_bar[k - 1] - self._log_alpha_bar[k]

    def alpha_bar(self, t: float) -> float:
        """alpha_bar[t] of the schedule at whole t."""
        k = max(1, math.ceil(check_real("t", t, 0.0, self.T)))
        return math.exp(self._log_alpha_bar[k] + (k - t) * self.beta(t))

    def network_score(self, eps_fn: EpsFn) -> Field:
        """The score that a noise predictor stands for, at the whole t = 1..T that it knows; ValueError at others."""

        def score(x: Tensor, t: float) -> Tensor:
            if t != int(t) or t < 1:
                refuse("t", t, f"a whole number from 1 to {self.noise_schedule.T}, which the network knows")
            return score_from_eps(predict(eps_fn, x, int(t)), self.alpha_bar(t))

        return score


@dataclass(frozen=True)
class VE(LinearSDE):
    """Variance exploding: dx = g(t) dw with sigma(t) = sigma_min (sigma_max / sigma_min)^(t / T), x_t around x0.

    Song et al. 2021, equation 9 and appendix C. Given x0, x_t has variance sigma(t)^2 - sigma_min^2. Raises ValueError
    unless 0 < sigma_min < sigma_max and T > 0.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0
    T: float = 1.0

    def __post_init__(self) -> None:
        check_real("sigma_min", self.sigma_min, 1e-12)
        if check_real("sigma_max", self.sigma_max) <= self.sigma_min:
            refuse("sigma_max", self.sigma_max, f"more than sigma_min = {self.sigma_min}")
        check_real("T", self.T, 1e-12)

    def sigma(self, t: float) -> float:
        """sigma_min at 0, sigma_max at T, geometric between."""
        return self.sigma_min * (self.sigma_max / self.sigma_min) ** (check_real("t", t, 0.0, self.T) / self.T)

    def rate(self, t: float) -> float:
        """0: the signal stays as it is."""
        return 0.0

    def g(self, t: float) -> float:
        """sqrt(d sigma^2 / dt)."""
        return self.sigma(t) * math.sqrt(2 * math.log(self.sigma_max / self.sigma_min) / self.T)

    def signal(self, t: float) -> float:
        """1."""
        return 1.0

    def noise(self, t: float) -> float:
        """sqrt(sigma(t)^2 - sigma_min^2)."""
        return math.sqrt(max(self.sigma(t) ** 2 - self.sigma_min**2, 0.0))


def noisy_flow(sde: LinearSDE, score: Field, share: float) -> tuple[Field, Callable[[float], float]]:
    """Drift f - (1 + share^2) / 2 g^2 score and noise share * g: for falling times, the same marginals at any share.

    share = 0 is the probability-flow ODE, share = 1 the reverse SDE of Song et al. 2021. Raises ValueError for
    share < 0.
    """
    weight = (1 + check_real("share", share, 0.0) ** 2) / 2
    return sde.weighted(score, weight), lambda t: share * sde.g(t)


# --- Solving ----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def euler_maruyama(
    drift: Field,
    g: Callable[[float], float],
    x: Tensor,
    times: Sequence[float],
    generator: Generators = None,
) -> Iterator[Tensor]:
    """Yield x at times[1], times[2], ... of dx = drift dt + g dw: x + drift h + g sqrt(|h|) z, with h = s - t.

    Rising times follow a forward SDE; falling times a reverse one, whose drift is `reverse_drift`.
    """
    check_batch("x", x)
    for t, s in pairwise(positions("times", times)):
        z = noise_like(x, generator)
        x = x + (s - t) * drift(x, t) + g(t) * math.sqrt(abs(s - t)) * z
        yield x


def gaussian_flow(x: Tensor, mean: Tensor, covariance: Tensor, alpha_bar_t: float, alpha_bar_s: float) -> Tensor:
    """Where the probability-flow ODE of data N(mean, covariance) takes x (B, d) from level alpha_bar_t to alpha_bar_s.

    The flow keeps the standardised position: x_s = m_s + V_s^(1/2) V_t^(-1/2) (x - m_t), with m = sqrt(ab) mean and
    V = ab covariance + (1 - ab) I. mean is (d,), covariance (d, d), either direction of time.
    """
    (signal_t, noise_t), (signal_s, noise_s) = (
        signal_and_noise(ab, check_batch("x", x)) for ab in (alpha_bar_t, alpha_bar_s)
    )
    variances, axes = torch.linalg.eigh(covariance)
    scale = ((signal_s**2 * variances + noise_s**2) / (signal_t**2 * variances + noise_t**2)).sqrt()
    return signal_s * mean + ((x - signal_t * mean) @ axes * scale) @ axes.T


# --- Likelihood -------------------------------------------------------------------------------------------------------


def probes(kind: str, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Random vectors v like x with mean 0 and E[v v^T] = I: "rademacher" (each entry -1 or 1) or "gaussian"."""
    check_choice("kind", kind, ("rademacher", "gaussian"))
    if kind == "gaussian":
        return noise_like(x, generator)
    return 2 * torch.randint(0, 2, x.shape, generator=generator, device=x.device).to(x) - 1


def divergence(field: Field, x: Tensor, t: float, probe: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """field(x, t) and its divergence, the trace of its Jacobian J, one number a sample: shapes (B, *event), (B,).

    Exact by default, at one backward pass a dimension. With a probe v like x: v^T J v, Hutchinson's estimate, unbiased
    and one backward pass in all (Grathwohl et al. 2019, arXiv 1810.01367). field must not mix samples of the batch.
    """
    with torch.enable_grad():
        x = check_batch("x", x).detach().requires_grad_()
        value = field(x, t)
        if probe is None:
            flat = value.flatten(1)
            rows = [torch.autograd.grad(flat[:, i].sum(), x, retain_graph=True)[0] for i in range(flat.shape[1])]
            trace = reduce(add, (row.flatten(1)[:, i] for i, row in enumerate(rows)))
        else:
            check_like("probe", probe, "x", x)
            (product,) = torch.autograd.grad(value, x, probe)
            trace = (product * probe).flatten(1).sum(1)
    return value.detach(), trace


def log_likelihood(
    field: Field,
    x: Tensor,
    times: Sequence[float],
    prior: Callable[[Tensor], Tensor],
    probe: Tensor | None = None,
    method: str = "heun",
) -> Tensor:
    """log p(x) in nats, shape (B,), of samples x at times[0], from the density `prior` of the samples at times[-1].

    Along dx/dt = field, log p changes by minus the divergence (Chen et al. 2018, arXiv 1806.07366), so log p(x) =
    prior(x_T) + the integral of the divergence from times[0] to times[-1]. Both are solved together, with one probe for
    the whole path. Exact is the change of variables. Not exact are the solver, a prior that only resembles p_T, and a
    learned score: the density is that of the model's own ODE.
    """

    def both(state: Tensor, t: float) -> Tensor:
        value, trace = divergence(field, state[:, :-1].reshape(x.shape), t, probe)
        return torch.cat([value.flatten(1), trace[:, None]], 1)

    state = torch.cat([check_batch("x", x).flatten(1), x.new_zeros(len(x), 1)], 1)
    state = deque(solve(both, state, times, method), maxlen=1)[0]
    return prior(state[:, :-1].reshape(x.shape)) + state[:, -1]


def standard_normal(x: Tensor) -> Tensor:
    """log N(x; 0, I), shape (B,)."""
    return -(x.flatten(1).square() + math.log(2 * math.pi)).sum(1) / 2


def network_log_likelihood(
    eps_fn: EpsFn, x: Tensor, schedule: NoiseSchedule, times: Sequence[int], probe: Tensor | None = None
) -> Tensor:
    """log p_t(x) in nats, shape (B,), under the ODE of a noise predictor, for x at the lowest time above 0 in `times`.

    `times` falls to 0 like those of a sampler. Heun's method visits them upwards, in u = log sigma, with sigma =
    sqrt((1 - alpha_bar) / alpha_bar): there the ODE is dx/du = n (eps - n x), with n = sqrt(1 - alpha_bar). t = 0 is
    left out, as no network predicts there: x must carry the noise of times[-2]. The prior is N(0, I). Costs two
    evaluations a step, each with a backward pass; without a probe, with one for every dimension.
    """
    visited = [t for t, *_ in steps(schedule, times)][::-1]
    position = {-log_snr / 2: t for log_snr, t in zip(schedule.log_snr[visited].tolist(), visited, strict=True)}

    def field(x: Tensor, u: float) -> Tensor:
        noise = math.sqrt(1 / (1 + math.exp(-2 * u)))
        return noise * (predict(eps_fn, x, position[u]) - noise * x)

    return log_likelihood(field, x, list(position), standard_normal, probe)


def bits_per_dim(log_p: Tensor, dim: int, cell: float = 1.0) -> Tensor:
    """-log2 of the probability of a cell of side `cell` around each sample, divided by its `dim` numbers.

    log_p is a density in nats. For images in [-1, 1] of 256 grey levels cell is 2 / 255: then it is the bits that a
    lossless code would spend on a number. For data without a natural cell take 1, and compare only within one scale.
    """
    check_int("dim", dim, 1)
    return -(log_p / dim + math.log(check_real("cell", cell, 1e-12))) / math.log(2)
