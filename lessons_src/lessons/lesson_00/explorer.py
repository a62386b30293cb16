"""To play with in lesson 00: your own digit drowns in noise and comes back."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from lessons_src import data
from lessons_src.guidance import classifier_free
from lessons_src.lessons.digit_runs import shipped
from lessons_src.process import add_noise, predict_x0
from lessons_src.samplers import EpsFn, ddim
from lessons_src.schedules import times_to
from lessons_src.show.panels import Images, Picture, grey
from lessons_src.show.widgets import Choice, Drawing, Explorer, Slider

STEPS = 12  # down, and as many back
ANY = "any digit"


def drowning_picture(drawing: np.ndarray, top: int, wish: str | int) -> Picture:
    """A drawn digit under noise up to time `top`, and what the shipped network makes of it on the way back.

    drawing: uint8 (28, 28). wish: a digit to come back as, or ANY. The noise is always the same. Beside each state
    stands the clean prediction made from it; at time 0, the state itself.
    """
    net, judge = shipped()
    x0, noise = data.as_digit(drawing)[None], data.noise(1, 1, 28, 28).float()
    ab = net.schedule.alpha_bar
    up = times_to(top, STEPS)[::-1]
    drowned = [add_noise(x0, noise, ab[t]) for t in up]
    eps_fn = classifier_free(net, None if wish == ANY else wish, 0.0 if wish == ANY else 2.0)
    down = list(ddim(eps_fn, drowned[-1], net.schedule, up[::-1]))
    x = [*drowned, *(state.x for state in down)]
    guesses = [x0, *_clean(eps_fn, torch.cat(drowned[1:-1]), up[1:-1], ab), *(state.x0 for state in down), down[-1].x]
    still = [(x0, drowned[-1])] * len(x)
    frames = torch.stack([torch.cat([*fixed, *pair])[:, 0] for fixed, *pair in zip(still, x, guesses, strict=True)])
    way = [("drowning", t) for t in up] + [("coming back", state.t) for state in down]
    lines = {"drowning": "xₜ = {:.2f} · x₀ + {:.2f} · ε", "coming back": "xₜ = {:.2f} · x̂₀ + {:.2f} · ε̂"}
    empty = "" if drawing.any() else "The field is empty: draw a digit, or take a ready one. "
    read, back = (judge(image.clamp(-1, 1)).argmax().item() for image in (x0, down[-1].x))
    return Picture(
        [
            Images(
                "Down and back",
                grey(frames),
                ["yours, x₀", f"drowned, t = {top}", "on its way", "what the network sees"],
            )
        ],
        f"{empty}Noise up to t = {top} of 1000, then {STEPS} steps back. A second network reads digits. "
        f"It reads yours as {read}, and what came back as {back}.",
        frame_label="Way",
        frame_names=[f"{where}, t = {t}" for where, t in way],
        formula=[lines[where].format(ab[t].sqrt(), (1 - ab[t]).sqrt()) for where, t in way],
        plays=True,
    )


@torch.no_grad()
def _clean(eps_fn: EpsFn, x: Tensor, times: list[int], ab: Tensor) -> Iterable[Tensor]:
    """The clean predictions (1, 1, 28, 28) from states x (B, 1, 28, 28), one for each time."""
    return predict_x0(x, eps_fn(x, torch.tensor(times)), ab[times]).split(1)


def presets() -> dict[str, np.ndarray]:
    """One test digit of each class, for people who do not draw: name -> uint8 (28, 28)."""
    return {f"a {digit}": image for digit, image in enumerate(grey(data.one_each()[:, 0]))}


def draw_digit() -> Explorer:
    """Draw a digit, choose how much noise, and watch it drown and come back."""
    return Explorer(
        drowning_picture,
        [
            Drawing("drawing", "Draw here, or take", presets(), "a 3"),
            Slider("top", "Noise up to t", 100, 1000, 50, 700),
            Choice("wish", "Come back as", [ANY, *range(10)], ANY),
        ],
    )
