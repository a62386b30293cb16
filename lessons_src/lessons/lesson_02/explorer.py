"""To play with in lesson 02: one digit under two schedules, to be made equal, and a schedule with its parameter."""

import math
from functools import partial

import numpy as np
import torch

from lessons_src import data
from lessons_src.process import add_noise
from lessons_src.schedules import NoiseSchedule, cosine, linear, sigmoid
from lessons_src.show.panels import Curves, Images, Picture, grey
from lessons_src.show.widgets import Choice, Explorer, Slider

LINEAR = linear()
OTHERS = {"cosine": cosine(), "sigmoid": sigmoid()}
TIMES = list(range(50, 1001, 5))
CUT = 12.0  # steps with a log-SNR beyond are not drawn
WASTED = 0.01  # SNR below is almost pure noise
LITTLE = 0.001  # share of the power that is practically nothing


def levels_picture(digit: int, left: int, other: str, right: int) -> Picture:
    """A digit at time `left` of linear, at time `right` of another schedule, and their difference; one noise."""
    schedule, level = OTHERS[other], LINEAR.log_snr[left]
    x0, eps = data.one_each()[digit, 0], data.noise(28, 28, seed=1).float()
    fixed = add_noise(x0, eps, LINEAR.alpha_bar[left].item())
    moving = add_noise(x0, eps, schedule.alpha_bar[right].item())
    difference, gap = moving - fixed, schedule.log_snr[right] - level
    nearest = right == TIMES[int((schedule.log_snr[TIMES] - level).abs().argmin())]
    headline = f"The {'left' if gap > 0 else 'right'} picture is noisier"
    text = f"Pixels differ by {difference.square().mean().sqrt():.2f} (root mean square)."
    if nearest:  # only now: what is equal is for the reader to find
        numbers = f"log-SNR {_signed(level)} on the left, {_signed(level + gap)} on the right"
        headline = f"{'Found' if abs(gap) < 0.1 else 'Almost: this slider comes no nearer'}. {numbers}"
        text += " Log-SNR compares the power of the picture with that of the noise: the logarithm of their ratio."
    return Picture(
        [
            Images(
                "One digit, one draw of noise",
                grey(torch.stack([fixed, moving, difference]))[None],
                [f"linear, t = {left}", f"{other}, t = {right}", "their difference"],
            )
        ],
        text,
        formula=headline,
    )


def _signed(number: float) -> str:
    """One digit after the point, with a minus as long as a plus."""
    return f"{number:.1f}".replace("-", "−")


def explore_levels() -> Explorer:
    """Find the time at which another schedule has made the same picture."""
    return Explorer(
        levels_picture,
        [
            Choice("digit", "Digit", list(range(10)), 3),
            Choice("other", "On the right", list(OTHERS), "cosine"),
            Slider("left", "Left: time t", TIMES[0], TIMES[-1], 5, 500),
            Slider("right", "Right: time t", TIMES[0], TIMES[-1], 5, 500),
        ],
    )


def schedule_picture(family: str, T: int, factor: float, c: float) -> Picture:
    """A digit at the end, and where the steps go; only the family's own parameter counts."""
    make = {"linear": partial(linear, beta_start=1e-4 * factor, beta_end=0.02 * factor), "cosine": cosine}
    schedule = (make | {"sigmoid": partial(sigmoid, c=c)})[family](T)
    x0, eps = data.one_each()[3, 0], data.noise(28, 28, seed=1).float()
    both = {"linear, T = 1000": linear(), f"yours: {family}, T = {T}": schedule}
    spent = {key: steps_by_level(one) for key, one in both.items()}
    how = {
        "linear": f"βₜ rises in a straight line from {1e-4 * factor:g} to {0.02 * factor:g}",
        "cosine": "ᾱ is nearly cos²(90° · t/T)",
        "sigmoid": f"ᾱ is sigmoid({c:g} − {2 * c:g} t/T), stretched to run from 1 to 0",
    }[family]
    below = (schedule.log_snr < -1e-9).nonzero()  # the margin keeps rounding from deciding a tie
    half = f"Noise overtakes signal at t = {int(below[0])}" if len(below) else "Noise never overtakes signal"
    return Picture(
        [
            Images("The end", grey(add_noise(x0, eps, schedule.alpha_bar[-1].item()))[None, None], [f"t = {T}"]),
            Curves(
                "Where the steps go",
                np.arange(-CUT + 0.5, CUT),
                spent,
                "log-SNR (noise at the left)",
                "% of steps per unit",
                (0.0, 30.0),
                np.array([math.log(WASTED)]),
            ),
        ],
        f"Left of the upright line SNR is below {WASTED:g}: almost pure noise, wasted steps. {how}. {half}.",
        formula=verdict(schedule),
    )


def verdict(schedule: NoiseSchedule) -> str:
    """Whether so little of the picture is left at the end that one may start from pure noise, and what it costs."""
    left, wasted = schedule.alpha_bar[-1].item(), 100 * (schedule.snr[1:] < WASTED).double().mean().item()
    share = f"{100 * left:.2g} %" if left >= 1e-6 else "less than 0.0001 %"
    enough = "good" if left < LITTLE else "too much"
    return f"At T: {share} picture, {enough} · {wasted:.0f} % of the steps wasted"


def steps_by_level(schedule: NoiseSchedule) -> np.ndarray:
    """Percentage of the steps in each stretch of log-SNR of length 1, from -12 to 12; those beyond are left out."""
    edges = np.arange(-CUT, CUT + 1)
    return 100 * np.histogram(schedule.log_snr[1:].numpy(), edges)[0] / schedule.T


def explore_schedules() -> Explorer:
    """Choose a schedule and move its parameter."""
    return Explorer(
        schedule_picture,
        [
            Choice("family", "Schedule", ["linear", "cosine", "sigmoid"], "linear"),
            Slider("T", "Steps T", 50, 1000, 50, 100),
            Slider("factor", "Betas times", 1.0, 20.0, 0.5, 1.0, when=("family", "linear")),
            Slider("c", "Steepness c", 0.5, 10.0, 0.5, 3.0, when=("family", "sigmoid")),
        ],
    )
