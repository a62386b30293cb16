"""To play with in lesson 00: your own digit drowns in noise and comes back."""

import numpy as np
import torch

from lessons_src import data
from lessons_src.guidance import classifier_free
from lessons_src.lessons.digit_runs import shipped
from lessons_src.process import add_noise
from lessons_src.samplers import ddim
from lessons_src.schedules import times_to
from lessons_src.show.panels import Images, Picture, grey
from lessons_src.show.widgets import Choice, Drawing, Explorer, Slider

CALLS = 12  # of the network on the way back
ANY = "any digit"


def drowning_picture(drawing: np.ndarray, top: int, wish: str | int) -> Picture:
    """A drawn digit under noise up to time `top`, and what the shipped network makes of it on the way back.

    drawing: uint8 (28, 28). wish: a digit to come back as, or ANY. The noise is always the same.
    """
    net, judge = shipped()
    x0, noise = data.as_digit(drawing)[None], data.noise(1, 1, 28, 28).float()
    ab = net.schedule.alpha_bar
    up = times_to(top, CALLS)[::-1]
    drowned = [add_noise(x0, noise, ab[t]) for t in up]
    eps_fn = classifier_free(net, None if wish == ANY else wish, 0.0 if wish == ANY else 2.0)
    down = list(ddim(eps_fn, drowned[-1], net.schedule, up[::-1]))
    states = [*drowned, *(state.x for state in down)]
    guesses = [*([x0] * len(up)), *(state.x0 for state in down)]
    frames = torch.stack([torch.cat(pair)[:, 0] for pair in zip(states, guesses, strict=True)])
    times = [*up, *(state.t for state in down)]
    back = down[-1].x.clamp(-1, 1)
    away = (back - x0).square().mean().sqrt().item()
    return Picture(
        [Images("Down and back", grey(frames), ["with noise, xₜ", "what the network sees in it"])],
        f"Noise up to t = {top} of 1000, then {CALLS} calls of the network. A second network reads what came back as "
        f"{judge(back).argmax().item()}. It is {away:.2f} a pixel away from yours (black is -1, white 1).",
        frame_label="Way",
        frame_names=[f"{'drowning' if k < len(up) else 'coming back'}, t = {t}" for k, t in enumerate(times)],
        formula=[f"xₜ = {ab[t].sqrt():.2f} · x₀ + {(1 - ab[t]).sqrt():.2f} · ε" for t in times],
        plays=True,
    )


def presets() -> dict[str, np.ndarray]:
    """One test digit of each class, for people who do not draw: name -> uint8 (28, 28)."""
    return {f"a {digit}": image for digit, image in enumerate(grey(data.one_each()[:, 0]))}


def draw_digit() -> Explorer:
    """Draw a digit, choose how much noise, and watch it drown and come back."""
    return Explorer(
        drowning_picture,
        [
            Drawing("drawing", "Draw here, or take", presets(), "a 3"),
            Slider("top", "Noise up to t", 100, 1000, 50, 500),
            Choice("wish", "Come back as", [ANY, *range(10)], ANY),
        ],
    )
