"""Noise schedules: how much of the data is left at each time, and which times a sampler visits.

A schedule is the sequence alpha_bar[0..T] with alpha_bar[0] = 1 (clean data): x_t = sqrt(alpha_bar) x0 +
sqrt(1 - alpha_bar) eps. Everything is float64 and 1-based as in the papers: alpha_bar[t] belongs to time t.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lessons_src.checks import check_choice, check_int, check_real, refuse


class NoiseSchedule:
    """A validated alpha_bar of shape (T + 1,), float64, from exactly 1 strictly down to a positive value.

    It cannot be changed: whoever asks for alpha_bar gets a copy. Raises TypeError if alpha_bar is not a float64 tensor,
    ValueError if it is not of that form.
    """

    def __init__(self, alpha_bar: Tensor, name: str = "custom") -> None:
        ab = alpha_bar
        if not isinstance(ab, Tensor) or ab.dtype != torch.float64:
            refuse("alpha_bar", ab, "a float64 tensor of shape (T + 1,)", TypeError)
        if ab.ndim != 1 or len(ab) < 2:
            refuse("alpha_bar", ab, "shape (T + 1,) with T >= 1")
        if ab[0] != 1:
            refuse("alpha_bar[0]", ab[0].item(), "exactly 1 (clean data)")
        if not (ab[1:] < ab[:-1]).all():
            t = 1 + int((~(ab[1:] < ab[:-1])).nonzero()[0])
            refuse(f"alpha_bar[{t}]", ab[t].item(), f"less than alpha_bar[{t - 1}] = {ab[t - 1].item()}")
        if not ab[-1] > 0:
            refuse("alpha_bar[T]", ab[-1].item(), "a value in (0, 1]: at 0 the data could not be predicted from x_T")
        self._alpha_bar, self.name = ab.detach().clone(), name

    def __repr__(self) -> str:
        return f"<NoiseSchedule {self.name!r}, T = {self.T}>"

    @property
    def alpha_bar(self) -> Tensor:
        """A copy of the sequence, shape (T + 1,)."""
        return self._alpha_bar.clone()

    @property
    def T(self) -> int:
        """Number of forward steps."""
        return len(self._alpha_bar) - 1

    @property
    def alpha(self) -> Tensor:
        """alpha_t = alpha_bar_t / alpha_bar_{t-1}, shape (T + 1,); alpha[0] = 1."""
        return torch.cat([self.alpha_bar[:1], self.alpha_bar[1:] / self.alpha_bar[:-1]])

    @property
    def beta(self) -> Tensor:
        """beta_t = 1 - alpha_t, the variance added by step t, shape (T + 1,); beta[0] = 0."""
        return 1 - self.alpha

    @property
    def snr(self) -> Tensor:
        """alpha_bar / (1 - alpha_bar): signal-to-noise ratio of data with unit variance; infinite at t = 0."""
        return self.alpha_bar / (1 - self.alpha_bar)

    @property
    def log_snr(self) -> Tensor:
        """Natural logarithm of `snr`; 0 where signal and noise are equally strong."""
        return self.snr.log()


def linear(T: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> NoiseSchedule:
    """beta rises linearly from beta_start at t = 1 to beta_end at t = T (Ho et al. 2020, section 4).

    The default range is meant for T = 1000: with fewer steps it leaves signal at T (alpha_bar 0.36 for 100). Scale
    both ends by 1000 / T then; for any T, also below 21, sde.VP().schedule(T) has the levels of its limit.
    """
    return of_betas(torch.linspace(*_ends(T, beta_start, beta_end), T, dtype=torch.float64), "linear")


def scaled_linear(T: int = 1000, beta_start: float = 0.00085, beta_end: float = 0.012) -> NoiseSchedule:
    """sqrt(beta) rises linearly (Rombach et al. 2022, in their code): the schedule of Stable Diffusion, and its ends.

    They are meant for T = 1000, and for latents: 7 % of the signal is left at T (Lin et al. 2023). See
    `zero_terminal_snr`.
    """
    first, last = _ends(T, beta_start, beta_end)
    return of_betas(torch.linspace(first**0.5, last**0.5, T, dtype=torch.float64) ** 2, "scaled_linear")


def _ends(T: int, beta_start: float, beta_end: float) -> tuple[float, float]:
    check_int("T", T, 1)
    first = check_real("beta_start", beta_start, 1e-12, 0.999)
    return first, check_real("beta_end", beta_end, first, 0.999)


def of_betas(beta: Tensor | Sequence[float], name: str = "custom") -> NoiseSchedule:
    """The schedule with betas (T,) in (0, 1) of the times 1..T; ValueError for others."""
    beta = torch.as_tensor(beta, dtype=torch.float64)
    if beta.ndim != 1 or not ((beta > 0) & (beta < 1)).all():
        refuse("beta", beta.tolist(), "shape (T,), values in (0, 1)")
    return NoiseSchedule(torch.cat([torch.ones(1, dtype=torch.float64), (1 - beta).cumprod(0)]), name)


def zero_terminal_snr(schedule: NoiseSchedule, end: float = 2.0**-24) -> NoiseSchedule:
    """The schedule with sqrt(alpha_bar) shifted and stretched, so that (nearly) no signal is left at T.

    Lin et al. 2023 (arXiv 2305.08891), algorithm 1. They end at 0, where a network has to predict v: noise alone tells
    nothing of x0. Here alpha_bar[T] is `end`, as in the Euler scheduler of diffusers: samplers divide by its root.
    Train on it with "v"; what was trained on another schedule has never seen these levels.
    """
    check_int("schedule.T", check_schedule("schedule", schedule).T, 2)
    root = schedule.alpha_bar[1:].sqrt()
    alpha_bar = ((root - root[-1]) * root[0] / (root[0] - root[-1])).square()
    alpha_bar[-1] = check_real("end", end, 1e-30, 0.999 * alpha_bar[-2].item())
    return NoiseSchedule(torch.cat([schedule.alpha_bar[:1], alpha_bar]), f"{schedule.name}, zero terminal SNR")


def cosine(T: int = 1000, s: float = 0.008, max_beta: float = 0.999) -> NoiseSchedule:
    """alpha_bar follows a squared cosine (Nichol & Dhariwal 2021, equation 17), its betas clipped at max_beta.

    The offset s keeps the first betas from vanishing; the clip keeps alpha_bar[T] above zero.
    """
    check_int("T", T, 1)
    check_real("s", s, 0.0, 1.0)
    f = torch.cos((torch.arange(T + 1, dtype=torch.float64) / T + s) / (1 + s) * math.pi / 2) ** 2
    return NoiseSchedule(_clip_beta(f / f[0], max_beta), "cosine")


def sigmoid(T: int = 1000, c: float = 3.0, max_beta: float = 0.999) -> NoiseSchedule:
    """alpha_bar falls along a logistic curve, steeper with c (Jabri et al. 2022, figure 8); betas clipped."""
    check_int("T", T, 1)
    check_real("c", c, 1e-3, 30.0)
    u = torch.arange(T + 1, dtype=torch.float64) / T
    top, bottom = torch.sigmoid(torch.tensor([c, -c], dtype=torch.float64))
    return NoiseSchedule(_clip_beta((torch.sigmoid(c - 2 * c * u) - bottom) / (top - bottom), max_beta), "sigmoid")


def shifted_cosine(T: int = 1000, size: int = 128, max_beta: float = 0.999) -> NoiseSchedule:
    """Cosine schedule for images of size x size pixels: log-SNR -2 log tan(pi t / 2T) + 2 log(64 / size).

    Larger images get more noise at the same t, because neighbouring pixels repeat each other (Hoogeboom et al. 2023,
    "simple diffusion", section 3.1). For a latent model `size` is the side of the latent.
    """
    check_int("T", T, 1)
    check_int("size", size, 1)
    u = torch.arange(T + 1, dtype=torch.float64) / T
    log_snr = -2 * torch.log(torch.tan(math.pi / 2 * u)) + 2 * math.log(64 / size)
    return NoiseSchedule(_clip_beta(torch.sigmoid(log_snr), max_beta), "shifted_cosine")


def _clip_beta(alpha_bar: Tensor, max_beta: float) -> Tensor:
    """Limit every beta to max_beta and multiply up again (Nichol & Dhariwal 2021, section 3.2)."""
    check_real("max_beta", max_beta, 1e-12, 1 - 1e-12)
    alpha = (alpha_bar[1:] / alpha_bar[:-1]).clamp(min=1 - max_beta)
    clipped = (alpha == 1 - max_beta).nonzero()
    start = int(clipped[0]) if len(clipped) else len(alpha)
    return torch.cat([alpha_bar[: start + 1], alpha_bar[start] * alpha[start:].cumprod(0)])


SCHEDULES: dict[str, Callable[..., NoiseSchedule]] = {
    "linear": linear,
    "cosine": cosine,
    "sigmoid": sigmoid,
    "shifted_cosine": shifted_cosine,
    "scaled_linear": scaled_linear,
}


def make_schedule(name: str, T: int = 1000, **parameters: float) -> NoiseSchedule:
    """Build a schedule by name, one of SCHEDULES; ValueError for an unknown name."""
    return SCHEDULES[check_choice("name", name, SCHEDULES)](T, **parameters)


GRIDS = ("linspace", "trailing", "ddim_uniform", "quadratic", "log_snr", "edm")


def time_grid(schedule: NoiseSchedule, steps: int, grid: str = "linspace") -> list[int]:
    """Times a sampler visits: strictly decreasing whole numbers, the last 0; consecutive pairs are its steps t -> s.

    - "linspace": T i / steps, rounded. "trailing": counted down from T in strides of T / steps (Lin et al. 2023,
      table 2); since 0 is the clean end here the two differ only in how ties are rounded.
    - "quadratic": T (i / steps)^2, denser near the data (Song, Meng & Ermon 2020, appendix D.2, stretched to reach T).
    - "log_snr": T, equal steps of log-SNR between T - 1 and 1, then 0 (Lu et al. 2022, section 4; T itself is left out
      because a clipped last beta would take most of the range).
    - "edm": the same with equal steps of sigma^(1/7), sigma = sqrt((1 - ab) / ab) (Karras et al. 2022, equation 5).
    - "ddim_uniform": stride T // steps, as in the code of DDIM. When steps divides T it starts at T - stride + 1; when
      it does not, there may be more than `steps` network evaluations.

    All but "ddim_uniform" start at T and have exactly `steps` steps; where rounding would repeat a time they move it to
    the next free one. Raises ValueError for an unknown grid or steps outside 1..T.
    """
    check_int("steps", steps, 1, check_schedule("schedule", schedule).T)
    check_choice("grid", grid, GRIDS)
    T = schedule.T
    counted = torch.arange(steps + 1, dtype=torch.float64)
    if grid == "ddim_uniform":
        return [t + 1 for t in reversed(range(0, T, T // steps))] + [0]
    if grid == "linspace":
        times = (T * counted / steps).round().tolist()
    elif grid == "trailing":
        times = (T - (T * counted.flip(0) / steps).round()).tolist()
    elif grid == "quadratic":
        times = (T * counted**2 / steps**2).round().tolist()
    elif grid == "log_snr":
        times = _equally_spaced(schedule.log_snr, steps)
    else:
        times = _equally_spaced(schedule.snr ** (-1 / 14), steps)
    return _distinct([int(t) for t in times], T)[::-1]


def check_schedule(name: str, schedule: Any) -> NoiseSchedule:
    """Return `schedule` if it is a NoiseSchedule, else TypeError."""
    if not isinstance(schedule, NoiseSchedule):
        refuse(name, schedule, "a NoiseSchedule, as from schedules.cosine()", TypeError)
    return schedule


def _equally_spaced(position: Tensor, steps: int) -> list[int]:
    """0, times whose position (T + 1,) is nearest to equally spaced values, and T; increasing."""
    if steps == 1:
        return [0, len(position) - 1]
    inner = position[1:-1]
    wanted = torch.linspace(inner[0], inner[-1], steps, dtype=torch.float64)[:-1]
    return [0, *(1 + (inner[None] - wanted[:, None]).abs().argmin(1)).tolist(), len(position) - 1]


def _distinct(times: list[int], T: int) -> list[int]:
    """Move repeated times of a non-decreasing list 0..T to the next free ones, keeping both ends."""
    for i in range(1, len(times)):
        times[i] = max(times[i], times[i - 1] + 1)
    for i, highest in zip(reversed(range(len(times))), range(T, -1, -1), strict=False):
        times[i] = min(times[i], highest)
    return times


def karras_sigmas(steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> list[float]:
    """Real noise levels sigma from sigma_max down to sigma_min, evenly spaced in sigma^(1 / rho), then 0.

    Karras et al. 2022, equation 5. For what can be asked at any level alpha_bar = 1 / (1 + sigma^2), as an exact
    mixture can; a network knows whole times, for which `time_grid` has "edm".
    """
    check_int("steps", steps, 2)
    low = check_real("sigma_min", sigma_min, 1e-12)
    high, power = check_real("sigma_max", sigma_max, low), 1 / check_real("rho", rho, 1e-3)
    ramp = [high**power + i / (steps - 1) * (low**power - high**power) for i in range(steps)]
    return [*(root**rho for root in ramp), 0.0]


def times_to(top: int, steps: int) -> list[int]:
    """Equally spaced times from `top` down to 0, in `steps` steps, at most `top`."""
    check_int("steps", steps, 1, check_int("top", top, 1))
    return [round(top * i / steps) for i in range(steps, -1, -1)]
