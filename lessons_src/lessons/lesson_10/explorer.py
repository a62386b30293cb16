"""Explorations of editing with the shipped digit network: invert, edit, decode; and the way between two digits.

Both work on test digits, which the network has never seen. Every picture says what is seen, and what it cost.
"""

from functools import cache, partial

import torch
from torch import Tensor

from lessons_src import data
from lessons_src.guidance import classifier_free
from lessons_src.inversion import invert, invert_as_printed, slerp
from lessons_src.lessons.digit_runs import shipped
from lessons_src.process import add_noise, predict_x0
from lessons_src.samplers import Counted, ddim, sample
from lessons_src.schedules import time_grid, times_to
from lessons_src.show.panels import Images, Picture, grey
from lessons_src.show.widgets import Choice, Explorer, Slider, rough_first

ROUGH_STEPS = 10
STARTS = ("inversion", "inversion as printed", "fresh noise (SDEdit)")
LABELS = ("none", "of the first", "of the second")


@cache
def _written(digit: int, example: int = 1) -> Tensor:
    """One of the test digits of a class, counted from 1, (1, 1, 28, 28)."""
    x, y = data.digits("test")
    return x[y == digit][example - 1 : example]


def _apart(a: Tensor, b: Tensor) -> float:
    """Root mean square difference a pixel, where black is -1 and white 1."""
    return (a.clamp(-1, 1) - b.clamp(-1, 1)).square().mean().sqrt().item()


def edit_picture(digit: int, target: int, start: str, top: int, w: float, steps: int) -> Picture:
    """A test digit taken up to time `top` with its own label, and down again as `target`.

    start, one of STARTS, says how it gets to `top`: by inversion at w = 1, by the printed recursion, or by fresh noise.
    Frames follow it up and down. The last row compares with decoding under its own label.
    """
    net, judge = shipped()
    schedule, x0, counted = net.schedule, _written(digit), Counted(net)
    times, ab = times_to(top, steps), schedule.alpha_bar
    if start == "fresh noise (SDEdit)":
        noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
        up = [(t, add_noise(x0, noise, ab[t]), x0) for t in times[-2::-1]]
    else:
        inversion = invert_as_printed if start == "inversion as printed" else invert
        states = inversion(classifier_free(counted, digit, 1.0), x0, schedule, times)
        up = [(state.t, state.x, predict_x0(state.x, state.eps, ab[state.t])) for state in states]
    top_state = up[-1][1]
    down = list(ddim(classifier_free(counted, target, w), top_state, schedule, times))
    evaluations = counted.nfe
    edited = down[-1].x
    back = sample(ddim(classifier_free(net, digit, 1.0), top_state, schedule, times))

    path = [(0, x0, x0), *up, *((state.t, state.x, state.x0) for state in down)]
    names = [f"up, t = {t}" for t, _, _ in path[: steps + 1]] + [f"down, t = {t}" for t, _, _ in path[steps + 1 :]]
    frames = torch.stack([torch.cat([x0, x, guess])[:, 0] for _, x, guess in path])
    ends = torch.cat([x0, back, edited])[None, :, 0]
    noise_left = ((top_state - ab[top].sqrt() * x0) / (1 - ab[top]).sqrt()).std().item()
    read = judge(edited.clamp(-1, 1)).argmax().item()
    return Picture(
        [
            Images("On the way", grey(frames), ["the digit", "state x_t", "clean prediction"]),
            Images("The ends", grey(ends), ["the digit", f"decoded as {digit}, w = 1", f"as {target}, w = {w:g}"]),
        ],
        f"Digit {digit} up to t = {top} by {start}, down as {target} with w = {w:g}: {steps} steps each way, "
        f"{evaluations} network evaluations. Decoded as {digit} at w = 1 it comes back to within "
        f"{_apart(back, x0):.2f} a pixel (root mean square, black -1, white 1); as {target} it ends "
        f"{_apart(edited, x0):.2f} away, and a classifier reads {read}. At t = {top} the noise has "
        f"{noise_left:.2f} of the strength that fresh noise has.",
        frame_label="Way",
        frame_names=names,
        start=2 * steps,
    )


def explore_edit() -> Explorer:
    """Choose a digit and what it shall become, how it is taken up, how far, and how strictly it comes down."""
    return Explorer(
        partial(rough_first, edit_picture, ROUGH_STEPS),
        [
            Choice("digit", "Digit", list(range(10)), 7),
            Choice("target", "Decode as", list(range(10)), 3),
            Choice("start", "Way up", list(STARTS), "inversion"),
            Slider("top", "Up to time t", 100, 1000, 100, 1000),
            Slider("w", "Guidance scale w (down)", 1.0, 7.5, 0.5, 2.0),
            Slider("steps", "Steps each way", 5, 50, 5, 20),
        ],
    )


def between_picture(
    first: int, first_example: int, second: int, second_example: int, label: str, steps: int
) -> Picture:
    """Five pictures from one test digit to another: pixels blended, and latents blended, straight and along the arc.

    Examples are counted from 1, in each class. label, one of LABELS, is what the latents are decoded as; "none"
    also inverts without label.
    """
    net, judge = shipped()
    x0 = torch.cat([_written(first, first_example), _written(second, second_example)])
    times, own = time_grid(net.schedule, steps), torch.tensor([first, second])
    w = 0.0 if label == "none" else 1.0
    latent = sample(invert(classifier_free(net, own, w), x0, net.schedule, times))
    wanted = classifier_free(net, second if label == "of the second" else first, w)
    share = [i / 4 for i in range(5)]
    straight = torch.cat([(1 - s) * latent[:1] + s * latent[1:] for s in share])
    arc = torch.cat([slerp(latent[:1], latent[1:], s) for s in share])
    rows = {
        "Pixels blended": torch.cat([(1 - s) * x0[:1] + s * x0[1:] for s in share]),
        "Latents, straight line": sample(ddim(wanted, straight, net.schedule, times)),
        "Latents, arc (slerp)": sample(ddim(wanted, arc, net.schedule, times)),
    }
    ends = latent.square().mean((1, 2, 3)).sqrt().mean()
    middles = [(z[2].square().mean().sqrt() / ends).item() for z in (straight, arc)]
    read = [" ".join(map(str, judge(x.clamp(-1, 1)).argmax(1).tolist())) for x in rows.values()]
    return Picture(
        [Images(name, grey(x[:, 0])[None]) for name, x in rows.items()],
        f"From {first} (example {first_example}) to {second} (example {second_example}), {steps} steps each way, "
        f"decoded with label: {label}. A classifier reads the pixels as {read[0]}, the straight line as {read[1]}, the "
        f"arc as {read[2]}. Half way, the straight latent is {middles[0]:.2f} times as long as an end on average, the "
        f"arc {middles[1]:.2f} times.",
    )


def explore_between() -> Explorer:
    """Choose two written digits, and the label under which what lies between them is decoded."""
    return Explorer(
        between_picture,
        [
            Choice("first", "From", list(range(10)), 4),
            Slider("first_example", "Example of the first", 1, 20, 1, 1),
            Choice("second", "To", list(range(10)), 9),
            Slider("second_example", "Example of the second", 1, 20, 1, 1),
            Choice("label", "Label", list(LABELS), "none"),
            Slider("steps", "Steps each way", 5, 30, 5, 15),
        ],
    )
