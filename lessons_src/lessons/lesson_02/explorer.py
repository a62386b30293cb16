"""To play with in lesson 02: a schedule and its parameter."""

import numpy as np

from lessons_src import data
from lessons_src.process import add_noise
from lessons_src.schedules import linear, make_schedule
from lessons_src.show.panels import Curves, Images, Picture, grey
from lessons_src.show.widgets import Choice, Explorer, Slider


def schedule_picture(family: str, T: int, beta_end: float, s: float, c: float, size: int) -> Picture:
    """A digit at five times, alpha_bar and log-SNR of one schedule; only the family's own parameter counts."""
    own = {
        "linear": {"beta_end": beta_end},
        "cosine": {"s": s},
        "sigmoid": {"c": c},
        "shifted_cosine": {"size": size},
    }[family]
    schedule, reference = make_schedule(family, T, **own), linear()
    times = [round(T * part / 4) for part in range(5)]
    x0, eps = data.one_each()[:, 0][3].expand(5, -1, -1), data.noise(28, 28, seed=1).float().expand(5, -1, -1)
    x_t = add_noise(x0, eps, schedule.alpha_bar[times])
    u, same_u = np.arange(T + 1) / T, [round(1000 * t / T) for t in range(T + 1)]

    below = (schedule.log_snr < -1e-9).nonzero()  # the margin keeps rounding from deciding a tie
    half = f"Noise overtakes signal at t = {int(below[0])}" if len(below) else "Noise never overtakes signal"
    tail = (schedule.snr[1:] < 0.01).double().mean().item()
    (parameter, value), left = next(iter(own.items())), schedule.alpha_bar[-1].item()
    verdict = "practically nothing" if left < 1e-3 else "too much: sampling starts from pure noise"
    name = family.replace("_", " ")
    curves = {
        name: (schedule.alpha_bar, schedule.log_snr.clamp(-12, 12)),
        "linear, T = 1000, β to 0.02": (reference.alpha_bar[same_u], reference.log_snr[same_u]),
    }
    return Picture(
        [
            Images("The same digit", grey(x_t)[None], [f"t = {t}" for t in times]),
            Curves("Signal left", u, {key: ab.numpy() for key, (ab, _) in curves.items()}, "t / T", "ᾱ", (0.0, 1.05)),
            Curves(
                "Signal to noise",
                u[1:],
                {key: log_snr[1:].numpy() for key, (_, log_snr) in curves.items()},
                "t / T",
                "log-SNR (cut at -12 and 12)",
                (-12.5, 12.5),
            ),
        ],
        f"{name}, T = {T}, {parameter} = {value:g}. {half}; {100 * tail:.0f} % of the steps have SNR < 0.01; "
        f"ᾱ at T is {left:.2g}, {verdict}.",
    )


def explore_schedules() -> Explorer:
    """Choose a schedule and move its parameter."""
    return Explorer(
        schedule_picture,
        [
            Choice("family", "Schedule", ["linear", "cosine", "sigmoid", "shifted_cosine"], "linear"),
            Slider("T", "Steps T", 50, 1000, 50, 1000),
            Slider("beta_end", "Last β", 0.005, 0.2, 0.005, 0.02, when=("family", "linear")),
            Slider("s", "Offset s", 0.0, 0.1, 0.004, 0.008, when=("family", "cosine")),
            Slider("c", "Steepness c", 0.5, 10.0, 0.5, 3.0, when=("family", "sigmoid")),
            Slider("size", "Image side", 32, 1024, 32, 128, when=("family", "shifted_cosine")),
        ],
    )
