"""To play with in lesson 01: one digit, one noise, any time; and the picture that a guess of the noise implies."""

import math

import numpy as np
import torch
from torch import Tensor

from lessons_src import data
from lessons_src.process import add_noise, predict_x0
from lessons_src.schedules import make_schedule
from lessons_src.show.panels import Images, Picture, grey
from lessons_src.show.widgets import Choice, Explorer

# Digits that no control names, by their places in the test set: three for each explorer
TO_NOISE = {"hidden A": 61, "hidden B": 32, "hidden C": 53}
TO_GUESS = {"hidden D": 33, "hidden E": 66, "hidden F": 72}
HIDDEN = TO_NOISE | TO_GUESS
TIMES = list(range(0, 1001, 20))


def _levels(schedule: str) -> tuple[Tensor, list[float], list[float]]:
    """alpha_bar (F,) at TIMES, and the factors of x0 and of eps."""
    alpha_bar = make_schedule(schedule).alpha_bar[TIMES]
    return alpha_bar, alpha_bar.sqrt().tolist(), (1 - alpha_bar).sqrt().tolist()


def _same(x: Tensor) -> Tensor:
    """One picture (28, 28) at each of TIMES, (F, 28, 28)."""
    return x.expand(len(TIMES), -1, -1)


def _clean(digit: int | str) -> Tensor:
    """The clean picture (28, 28) of a digit, or of a hidden one."""
    return data.digits("test")[0][HIDDEN[digit], 0] if digit in HIDDEN else data.one_each()[digit, 0]


def _name(digit: int | str) -> str:
    """What a hidden digit was."""
    label = int(data.digits("test")[1][HIDDEN[digit]])
    return f"It was {'an' if label == 8 else 'a'} {label}."


def _per_cent(share: float) -> str:
    """A share in per cent, with a digit after the point if it is small."""
    return f"{100 * share:.{0 if share >= 0.1 else 1}f} %"


def forward_picture(digit: int | str, schedule: str) -> Picture:
    """A digit, one draw of noise, and their blend x_t at every twentieth time; a hidden digit shows only in x_t."""
    hidden = digit in HIDDEN
    x0, eps = _clean(digit), data.noise(28, 28).float()
    alpha_bar, signal, noise = _levels(schedule)
    x_t = add_noise(_same(x0), _same(eps), alpha_bar)
    shown = _same(torch.zeros_like(x0) if hidden else x0).clone()
    shown[0] = x0
    names = ["x₀, shown at t = 0" if hidden else "clean x₀", "noise ε", "noisy xₜ"]
    if hidden:
        texts = [_name(digit), *["Can you name it?"] * (len(TIMES) - 1)]
    else:
        parts = zip(map(_per_cent, signal), map(_per_cent, noise), strict=True)
        texts = [f"{a} of the picture, {b} of the noise." for a, b in parts]
    return Picture(
        [Images("One line of arithmetic", grey(torch.stack([shown, _same(eps), x_t], 1)), names)],
        f"{'A hidden digit' if hidden else f'Digit {digit}'} under the {schedule} schedule.",
        formula=[f"xₜ = {a:.3f} · x₀ + {b:.3f} · ε" for a, b in zip(signal, noise, strict=True)],
        frame_label="Time t",
        frame_names=[f"t = {t}" for t in TIMES],
        frame_texts=texts,
        start=TIMES.index(240),
        plays=True,
    )


def explore_forward() -> Explorer:
    """Scrub the noise level of a digit of your choice, or of one that you do not know."""
    return Explorer(
        forward_picture,
        [
            Choice("digit", "Digit", [*range(10), *TO_NOISE], 7),
            Choice("schedule", "Schedule", ["linear", "cosine"], "linear"),
        ],
    )


def dial(angle: float, side: int = 112) -> np.ndarray:
    """A noise level in radians on a quarter circle, uint8 (side, side): the picture's factor to the right, noise up."""
    up, right = np.mgrid[:side, :side] * (1.2 / (side - 1)) - 0.1
    signal, noise = math.cos(angle), math.sin(angle)
    along = np.clip(signal * right + noise * up, 0, 1)
    lines = (  # how far every pixel is from it, its half width, its grey
        (np.hypot(np.hypot(right.clip(0), up.clip(0)) - 1, np.minimum(right, up).clip(max=0)), 0.012, 120),
        (np.hypot(right - right.clip(0, signal), up), 0.008, 160),
        (np.hypot(right - signal, up - up.clip(0, noise)), 0.008, 160),
        (np.hypot(right - along * signal, up - along * noise), 0.014, 255),
        (np.hypot(right - signal, up - noise), 0.05, 255),
    )
    inks = [grey * np.clip((half - far) / 0.011 + 0.5, 0, 1) for far, half, grey in lines]
    return np.max(inks, axis=0)[::-1].round().astype(np.uint8)


def _off(error: float) -> str:
    """An error of the pixels in words."""
    size = f"{error:.0f}" if error >= 10 else f"{error:.2g}"
    return f"The pixels of x̂₀ are off by {size}; from black to white is 2."


def guess_picture(digit: int | str, wrong: int) -> Picture:
    """x_t, the picture read back off it, and the level's angle, when the guess of the noise is `wrong` per cent off.

    Linear schedule. A hidden digit is named at t = 0 only.
    """
    x0, eps, off = _clean(digit), data.noise(28, 28).float(), data.noise(28, 28, seed=1).float()
    alpha_bar, signal, noise = _levels("linear")
    x_t = add_noise(_same(x0), _same(eps), alpha_bar)
    x0_hat = predict_x0(x_t, _same(eps + wrong / 100 * off), alpha_bar)
    angles = [math.atan2(b, a) for a, b in zip(signal, noise, strict=True)]
    texts = [f"{math.degrees(angle):.0f}° on the circle. {_off(wrong / 100 * math.tan(angle))}" for angle in angles]
    if digit in HIDDEN:
        texts[0] = _name(digit)
    return Picture(
        [
            Images("Back to the picture", grey(torch.stack([x_t, x0_hat], 1)), ["noisy xₜ", "guessed picture x̂₀"]),
            Images("The noise level", np.stack([dial(angle) for angle in angles])[:, None], ["picture →   noise ↑"]),
        ],
        f"{'A hidden digit' if digit in HIDDEN else f'Digit {digit}'}; the guess of the noise is {wrong} % off.",
        formula=[f"x̂₀ = (xₜ − {b:.3f} · ε̂) / {a:.3f}" for a, b in zip(signal, noise, strict=True)],
        frame_label="Time t",
        frame_names=[f"t = {t}" for t in TIMES],
        frame_texts=texts,
        start=TIMES.index(740),
    )


def explore_guess() -> Explorer:
    """Read a picture back off a guess of its noise that is a little wrong."""
    return Explorer(
        guess_picture,
        [
            Choice("digit", "Digit", [*range(10), *TO_GUESS], 7),
            Choice("wrong", "Guess wrong by, in %", [0, 1, 2, 5, 10, 20, 50], 5),
        ],
    )
