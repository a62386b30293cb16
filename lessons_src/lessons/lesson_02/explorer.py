"""To play with in lesson 02: a digit under two schedules at the same step, and a schedule with its parameter."""

from functools import partial

import numpy as np
import torch

from lessons_src import data
from lessons_src.process import add_noise
from lessons_src.schedules import NoiseSchedule, cosine, linear, make_schedule, shifted_cosine, sigmoid
from lessons_src.show.panels import Curves, Images, Picture, grey
from lessons_src.show.widgets import Choice, Explorer, Slider

OTHERS = {"cosine": cosine, "sigmoid": sigmoid, "noisier cosine": partial(shifted_cosine, size=256)}
HIDDEN = {"hidden A": 84, "hidden B": 21}  # places in the test set
TIMES = list(range(0, 1001, 20))
CUT = 12.0  # log-SNR beyond is drawn at the edge: at t = 0 it is infinite


def levels_picture(digit: int | str, other: str) -> Picture:
    """A digit under linear and under another schedule, one draw of noise, at every twentieth time; and log-SNR."""
    hidden = digit in HIDDEN
    digits, labels = data.digits("test")
    x0 = digits[HIDDEN[digit], 0] if hidden else data.one_each()[digit, 0]
    both = {"linear": linear(), other: OTHERS[other]()}
    many = x0.expand(len(TIMES), -1, -1)
    eps = data.noise(28, 28, seed=1).float().expand(len(TIMES), -1, -1)
    pairs = torch.stack([add_noise(many, eps, schedule.alpha_bar[TIMES]) for schedule in both.values()], 1)
    log_snr = {name: schedule.log_snr[1:].clamp(-CUT, CUT).numpy() for name, schedule in both.items()}
    return Picture(
        [
            Images("Both at the same step", grey(pairs), list(both)),
            Curves(
                "Signal to noise",
                np.arange(1, 1001),
                log_snr,
                "time t",
                "log-SNR",
                (-CUT - 0.5, CUT + 0.5),
                np.maximum(TIMES, 1),
            ),
        ],
        f"{'A hidden digit' if hidden else f'Digit {digit}'}, one draw of noise, two schedules.",
        formula=[_levels(both, t) for t in TIMES],
        frame_label="Time t",
        frame_names=[f"t = {t}" for t in TIMES],
        frame_texts=[f"The hidden digit is {labels[HIDDEN[digit]]}." if hidden else "The clean digit."]
        + [_powers(both, t) for t in TIMES[1:]],
        start=TIMES.index(500),
    )


def _levels(both: dict[str, NoiseSchedule], t: int) -> str:
    """log-SNR of the schedules at time t."""
    told = [f"{name} {schedule.log_snr[t]:.2f}".replace("-", "−") for name, schedule in both.items()]
    return f"log-SNR at t = {t}:  {',  '.join(told)}" if t else "t = 0: no noise at all"


def _powers(both: dict[str, NoiseSchedule], t: int) -> str:
    """What log-SNR compares at time t."""
    left, right = (100 * schedule.alpha_bar[t].item() for schedule in both.values())
    left, right = (f"{share:.3g} %" if share >= 0.01 else "less than 0.01 %" for share in (left, right))
    return f"The picture has {left} of the power on the left, {right} on the right. Noise has the rest."


def explore_levels() -> Explorer:
    """Drown a digit under two schedules at once."""
    return Explorer(
        levels_picture,
        [
            Choice("digit", "Digit", [*range(10), *HIDDEN], 3),
            Choice("other", "On the right", list(OTHERS), "cosine"),
        ],
    )


def schedule_picture(family: str, T: int, beta_end: float, s: float, c: float, size: int) -> Picture:
    """A digit at three times, log-SNR, and where the steps go; only the family's own parameter counts."""
    own = {
        "linear": {"beta_end": beta_end},
        "cosine": {"s": s},
        "sigmoid": {"c": c},
        "shifted_cosine": {"size": size},
    }[family]
    schedule, reference = make_schedule(family, T, **own), linear()
    times = [round(T * part) for part in (0.25, 0.5, 1)]
    x0, eps = data.one_each()[3].expand(3, -1, -1), data.noise(28, 28, seed=1).float().expand(3, -1, -1)
    x_t = add_noise(x0, eps, schedule.alpha_bar[times])

    below = (schedule.log_snr < -1e-9).nonzero()  # the margin keeps rounding from deciding a tie
    half = f"Noise overtakes signal at t = {int(below[0])}" if len(below) else "Noise never overtakes signal"
    tail = (schedule.snr[1:] < 0.01).double().mean().item()
    left, name = schedule.alpha_bar[-1].item(), family.replace("_", " ")
    verdict = "practically nothing" if left < 1e-3 else "too much (more than 0.001): sampling starts from pure noise"
    both = {"linear, T = 1000, last β 0.02": reference, f"yours: {name}": schedule}
    u = np.arange(T + 1) / T
    log_snr = {
        key: one.log_snr[[round(one.T * part) for part in u[1:]]].clamp(-CUT, CUT).numpy() for key, one in both.items()
    }
    middles, spent = np.arange(-CUT + 0.5, CUT), {key: steps_by_level(one) for key, one in both.items()}
    formula = {
        "linear": f"βₜ = 0.0001 … {beta_end:g}, in a straight line",
        "cosine": f"ᾱ = cos²(90° · (t/T + {s:g}) / {1 + s:g}), divided by its value at 0",
        "sigmoid": f"ᾱ = sigmoid({c:g} − {2 * c:g} t/T), stretched to run from 1 to 0",
        "shifted_cosine": f"log-SNR = −2 log tan(90° · t/T) + 2 log(64 / {size})",
    }[family]
    return Picture(
        [
            Images("The same digit", grey(x_t)[None], [f"t = {t}" for t in times]),
            Curves("The level at each time", u[1:], log_snr, "t / T", "log-SNR", (-CUT - 0.5, CUT + 0.5)),
            Curves("Where the steps go", middles, spent, "log-SNR (noise at the left)", "% of the steps", (0.0, 30.0)),
        ],
        f"{name}, T = {T}. {half}; {100 * tail:.0f} % of the steps have SNR < 0.01 (almost pure noise); "
        f"ᾱ at T is {left:.2g}, {verdict}.",
        formula=formula,
    )


def steps_by_level(schedule: NoiseSchedule) -> np.ndarray:
    """Per cent of the steps in each stretch of log-SNR of length 1, from -12 to 12; those beyond are left out."""
    edges = np.arange(-CUT, CUT + 1)
    return 100 * np.histogram(schedule.log_snr[1:].numpy(), edges)[0] / schedule.T


def explore_schedules() -> Explorer:
    """Choose a schedule and move its parameter."""
    return Explorer(
        schedule_picture,
        [
            Choice("family", "Schedule", ["linear", "cosine", "sigmoid", "shifted_cosine"], "linear"),
            Slider("T", "Steps T", 50, 1000, 50, 100),
            Slider("beta_end", "Last β", 0.005, 0.2, 0.005, 0.02, when=("family", "linear")),
            Slider("s", "Offset s", 0.0, 0.1, 0.004, 0.008, when=("family", "cosine")),
            Slider("c", "Steepness c", 0.5, 10.0, 0.5, 3.0, when=("family", "sigmoid")),
            Slider("size", "Image side", 32, 1024, 32, 128, when=("family", "shifted_cosine")),
        ],
    )
