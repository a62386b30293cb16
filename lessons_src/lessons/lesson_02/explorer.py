"""To play with in lesson 02: one digit under two schedules, to be made equal, and a schedule with its parameter."""

from functools import partial

import numpy as np
import torch
from torch import Tensor

from lessons_src import data
from lessons_src.process import add_noise
from lessons_src.schedules import NoiseSchedule, cosine, linear, sigmoid
from lessons_src.show.panels import Curves, Images, Picture, grey
from lessons_src.show.widgets import Choice, Explorer, Slider

OTHERS = {"cosine": cosine, "sigmoid": sigmoid}
TIMES = list(range(10, 1001, 10))
CUT = 12.0  # log-SNR beyond is drawn at the edge: at t = 0 it is infinite
LITTLE = 0.001  # share of the power that is practically nothing


def levels_picture(digit: int, left: int, other: str) -> Picture:
    """A digit at time `left` of linear, at every tenth time of another schedule, and their difference; one noise."""
    schedule, level = OTHERS[other](), linear().log_snr[left]
    x0, eps = data.one_each()[digit, 0], data.noise(28, 28, seed=1).float()
    fixed = add_noise(x0, eps, linear().alpha_bar[left].item()).expand(len(TIMES), -1, -1)
    moving = add_noise(x0.expand_as(fixed), eps.expand_as(fixed), schedule.alpha_bar[TIMES])
    gaps = schedule.log_snr[TIMES] - level
    return Picture(
        [
            Images(
                "One digit, one draw of noise",
                grey(torch.stack([fixed, moving, moving - fixed], 1)),
                [f"linear, t = {left}", f"{other}, your time", "their difference"],
            )
        ],
        "Log-SNR compares the power of the picture with the power of the noise; it is the logarithm of their ratio.",
        formula=[f"log-SNR:  {_signed(level)} on the left,  {_signed(level + gap)} on the right" for gap in gaps],
        frame_label="Right: time t",
        frame_names=[f"t = {t}" for t in TIMES],
        frame_texts=_verdicts(gaps, (moving - fixed).square().mean((1, 2)).sqrt()),
        start=TIMES.index(500),
    )


def _signed(number: float) -> str:
    """Two digits after the point, with a minus as long as a plus."""
    return f"{number:.2f}".replace("-", "−")


def _verdicts(gaps: Tensor, off: Tensor) -> list[str]:
    """What to do next at each time, from how far log-SNR and the pixels (root mean square) are apart."""
    best = int(gaps.abs().argmin())
    told = [f"The {'left' if gap > 0 else 'right'} picture is noisier." for gap in gaps]
    told[best] = "Found: the two pictures are equal to the eye."
    return [f"{words} Pixels differ by {size:.2f} (root mean square)." for words, size in zip(told, off, strict=True)]


def explore_levels() -> Explorer:
    """Find the time at which another schedule has made the same picture."""
    return Explorer(
        levels_picture,
        [
            Choice("digit", "Digit", list(range(10)), 3),
            Slider("left", "Left: time t", 100, 700, 100, 500),
            Choice("other", "Schedule on the right", list(OTHERS), "cosine"),
        ],
    )


def schedule_picture(family: str, T: int, factor: float, c: float) -> Picture:
    """A digit at eight times, log-SNR, and where the steps go; only the family's own parameter counts."""
    make = {"linear": partial(linear, beta_start=1e-4 * factor, beta_end=0.02 * factor), "cosine": cosine}
    schedule, reference = (make | {"sigmoid": partial(sigmoid, c=c)})[family](T), linear()
    times = [round(T * k / 8) for k in range(1, 9)]
    x0, eps = data.one_each()[3].expand(8, -1, -1), data.noise(28, 28, seed=1).float().expand(8, -1, -1)
    both = {"linear, T = 1000": reference, f"yours: {family}, T = {T}": schedule}
    u = np.arange(T + 1) / T
    log_snr = {
        key: one.log_snr[[round(one.T * part) for part in u[1:]]].clamp(-CUT, CUT).numpy() for key, one in both.items()
    }
    middles, spent = np.arange(-CUT + 0.5, CUT), {key: steps_by_level(one) for key, one in both.items()}
    how = {
        "linear": f"βₜ rises in a straight line from {1e-4 * factor:g} to {0.02 * factor:g}",
        "cosine": "ᾱ is nearly cos²(90° · t/T)",
        "sigmoid": f"ᾱ is sigmoid({c:g} − {2 * c:g} t/T), stretched to run from 1 to 0",
    }[family]
    below = (schedule.log_snr < -1e-9).nonzero()  # the margin keeps rounding from deciding a tie
    half = f"Noise overtakes signal at t = {int(below[0])}" if len(below) else "Noise never overtakes signal"
    tail = 100 * (schedule.snr[1:] < 0.01).double().mean().item()
    return Picture(
        [
            Images(
                "From little noise to the end",
                grey(add_noise(x0, eps, schedule.alpha_bar[times]))[None],
                [f"t = {t}" for t in times],
            ),
            Curves("The level at each time", u[1:], log_snr, "t / T", "log-SNR", (-CUT - 0.5, CUT + 0.5)),
            Curves("Where the steps go", middles, spent, "log-SNR (noise at the left)", "% of the steps", (0.0, 30.0)),
        ],
        f"{how}. {half}. {tail:.0f} % of the steps lie in almost pure noise, where SNR is below 0.01. Levels beyond "
        f"{CUT:g} and −{CUT:g} are drawn at the edge.",
        formula=left_over(schedule),
    )


def left_over(schedule: NoiseSchedule) -> str:
    """How much of the picture is left at the end, and whether that is little enough to start from pure noise."""
    left = schedule.alpha_bar[-1].item()
    share = f"{100 * left:.2g} %" if left >= 1e-6 else "less than 0.0001 %"
    return f"At T the picture has {share} of the power: {'practically nothing' if left < LITTLE else 'too much'}"


def steps_by_level(schedule: NoiseSchedule) -> np.ndarray:
    """Per cent of the steps in each stretch of log-SNR of length 1, from -12 to 12; those beyond are left out."""
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
