"""To play with in lesson 01: one digit, one noise, any time; and the picture that a guess of the noise implies."""

import torch
from torch import Tensor

from lessons_src import data
from lessons_src.process import add_noise, predict_x0
from lessons_src.schedules import make_schedule
from lessons_src.show.panels import Images, Picture, grey
from lessons_src.show.widgets import Choice, Explorer

HIDDEN = {"hidden A": 61, "hidden B": 17, "hidden C": 53}  # places in the test set
TIMES = list(range(0, 1001, 20))


def _levels(schedule: str) -> tuple[Tensor, list[float], list[float]]:
    """alpha_bar (F,) at TIMES, and the factors of x0 and of eps."""
    alpha_bar = make_schedule(schedule).alpha_bar[TIMES]
    return alpha_bar, alpha_bar.sqrt().tolist(), (1 - alpha_bar).sqrt().tolist()


def _same(x: Tensor) -> Tensor:
    """One picture (28, 28) at each of TIMES, (F, 28, 28)."""
    return x.expand(len(TIMES), -1, -1)


def forward_picture(digit: int | str, schedule: str) -> Picture:
    """A digit, one draw of noise, and their blend x_t at every twentieth time; a hidden digit shows only in x_t."""
    hidden = digit in HIDDEN
    digits, labels = data.digits("test")
    x0 = digits[HIDDEN[digit], 0] if hidden else data.one_each()[digit, 0]
    eps = data.noise(28, 28).float()
    alpha_bar, signal, noise = _levels(schedule)
    x_t = add_noise(_same(x0), _same(eps), alpha_bar)
    shown = _same(torch.zeros_like(x0) if hidden else x0).clone()
    shown[0] = x0
    names = ["x₀, hidden until t = 0" if hidden else "clean x₀", "noise ε", "noisy xₜ"]
    was = f"It was a {labels[HIDDEN[digit]]}." if hidden else "The clean digit."
    return Picture(
        [Images("One line of arithmetic", grey(torch.stack([shown, _same(eps), x_t], 1)), names)],
        f"{'A hidden digit' if hidden else f'Digit {digit}'} under the {schedule} schedule.",
        formula=[f"xₜ = {a:.3f} · x₀ + {b:.3f} · ε" for a, b in zip(signal, noise, strict=True)],
        frame_label="Time t",
        frame_names=[f"t = {t}" for t in TIMES],
        frame_texts=[was, *["Can you still name it?"] * (len(TIMES) - 1)],
        start=TIMES.index(240),
        plays=True,
    )


def explore_forward() -> Explorer:
    """Scrub the noise level of a digit of your choice, or of one that you do not know."""
    return Explorer(
        forward_picture,
        [
            Choice("digit", "Digit", [*range(10), *HIDDEN], 7),
            Choice("schedule", "Schedule", ["linear", "cosine"], "linear"),
        ],
    )


def guess_picture(digit: int, wrong: int) -> Picture:
    """x_t and the picture read back off it, when the guess of the noise is `wrong` per cent off (linear schedule)."""
    x0, eps, off = data.one_each()[digit, 0], data.noise(28, 28).float(), data.noise(28, 28, seed=1).float()
    alpha_bar, signal, noise = _levels("linear")
    x_t = add_noise(_same(x0), _same(eps), alpha_bar)
    x0_hat = predict_x0(x_t, _same(eps + wrong / 100 * off), alpha_bar)
    return Picture(
        [Images("The line backwards", grey(torch.stack([x_t, x0_hat], 1)), ["noisy xₜ", "guessed picture x̂₀"])],
        f"Digit {digit}; the guess of the noise is {wrong} % off at every time.",
        formula=[f"x̂₀ = (xₜ − {b:.3f} · ε̂) / {a:.3f}" for a, b in zip(signal, noise, strict=True)],
        frame_label="Time t",
        frame_names=[f"t = {t}" for t in TIMES],
        frame_texts=[
            f"The pixels of x̂₀, from -1 to 1, are then off by {wrong / 100 * b / a:.2f}."
            for a, b in zip(signal, noise, strict=True)
        ],
        start=TIMES.index(500),
    )


def explore_guess() -> Explorer:
    """Read a picture back off a guess of its noise that is a little wrong."""
    return Explorer(
        guess_picture,
        [
            Choice("digit", "Digit", list(range(10)), 7),
            Choice("wrong", "Guess wrong by, in %", [0, 1, 2, 5, 10, 20, 50], 5),
        ],
    )
