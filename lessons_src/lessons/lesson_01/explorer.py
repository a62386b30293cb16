"""To play with in lesson 01: one digit, one noise, any time."""

import numpy as np
import torch

from lessons_src import data
from lessons_src.process import add_noise
from lessons_src.schedules import make_schedule
from lessons_src.show.panels import Curves, Images, Picture, grey
from lessons_src.show.widgets import Choice, Explorer


def forward_picture(digit: int, schedule: str) -> Picture:
    """A digit, one draw of noise, and their blend x_t at every twentieth time of the schedule (T = 1000)."""
    noise_schedule = make_schedule(schedule)
    x0, eps = data.one_each()[:, 0][digit], data.noise(28, 28).float()
    times = list(range(0, noise_schedule.T + 1, 20))
    alpha_bar = noise_schedule.alpha_bar[times]
    x_t = add_noise(x0.expand(len(times), -1, -1), eps.expand(len(times), -1, -1), alpha_bar)
    frames = torch.stack([x0.expand_as(x_t), eps.expand_as(x_t), x_t], 1)
    signal, noise = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    return Picture(
        [
            Images("One line of arithmetic", grey(frames), ["clean x0", "noise eps", "noisy x_t"]),
            Curves(
                "The two coefficients",
                np.array(times),
                {"signal √ᾱ": signal.numpy(), "noise √(1-ᾱ)": noise.numpy()},
                "time t",
                "coefficient",
                (0.0, 1.05),
                marker=np.array(times),
            ),
        ],
        f"Digit {digit} under the {schedule} schedule.",
        frame_label="Time t",
        frame_names=[f"t = {t}" for t in times],
        frame_texts=[
            f"At t = {t}, x_t = {a:.3f} x0 + {b:.3f} eps." for t, a, b in zip(times, signal, noise, strict=True)
        ],
        start=len(times) // 4,
    )


def explore_forward() -> Explorer:
    """Scrub the noise level of a digit of your choice."""
    return Explorer(
        forward_picture,
        [
            Choice("digit", "Digit", list(range(10)), 3),
            Choice("schedule", "Schedule", ["linear", "cosine"], "linear"),
        ],
    )
