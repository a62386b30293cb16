"""Explorations of editing with the shipped digit network: your own digit becomes another one; a test digit, with more
knobs; and the way between two digits.

The network has seen none of them in training. Every picture says what is seen, and what it cost.
"""

import math
from functools import cache, partial

import numpy as np
import torch
from torch import Tensor

from lessons_src import data
from lessons_src.guidance import blend, classifier_free
from lessons_src.inversion import invert, invert_as_printed, slerp
from lessons_src.lessons.digit_runs import shipped
from lessons_src.lessons.lesson_10.measures import apart, slant
from lessons_src.networks import NoisePredictor
from lessons_src.process import add_noise, predict_x0
from lessons_src.samplers import Counted, EpsFn, State, ddim, sample
from lessons_src.schedules import time_grid, times_to
from lessons_src.show.panels import Images, Picture, grey
from lessons_src.show.widgets import Choice, Drawing, Explorer, Slider, rough_first

ROUGH_STEPS = 10
W = 2.0  # guidance scale of an edit
FIRST = 20  # so little real noise that the eye does not see it
AT_T, NOISE_FIRST, FRESH = "inversion, asking at t", "a little real noise, then inversion", "fresh noise (SDEdit)"
WAYS = ("inversion", AT_T, NOISE_FIRST, FRESH)
HOW = {
    "inversion": "Up to t = {top} by inversion",
    AT_T: "Up to t = {top} by inversion, asking at t",
    NOISE_FIRST: f"Real noise up to t = {FIRST}, from there to t = {{top}} by inversion",
    FRESH: "Up to t = {top} by fresh noise",
}
# Places in the test set: digits with a hand of their own
PRESETS = {
    "a leaning 7": 1241,
    "a bold 7": 171,
    "a thin 4": 420,
    "a leaning 1": 354,
    "a 1 that leans left": 46,
    "a bold 3": 1832,
    "a square 3": 1298,
    "an 8": 242,
    "a 0": 192,
}
STARTS = ("inversion", "inversion as printed", "fresh noise (SDEdit)")
LABELS = ("none", "of the first", "of the second")


@cache
def _written(digit: int, example: int = 1) -> Tensor:
    """One of the test digits of a class, counted from 1, (1, 1, 28, 28)."""
    x, y = data.digits("test")
    return x[y == digit][example - 1 : example]


def _both(net: NoisePredictor, own: int, target: int) -> EpsFn:
    """Predictions for two pictures at once: the first as `own` at w = 1, the second as `target` at w = W."""
    labels = torch.tensor([own, target, net.num_classes])

    def eps_fn(x: Tensor, t: Tensor) -> Tensor:
        eps = net(x[[0, 1, 1]], t[[0, 1, 1]], labels)
        return torch.cat([eps[:1], blend(eps[2:], eps[1:2], W)])

    return eps_fn


@cache
def two_digits_apart() -> float:
    """How far two test digits lie apart per pixel, on average."""
    x = data.digits("test")[0]
    return apart(x, x.roll(1, 0))


def _leaning(x: Tensor) -> str:
    """How far one picture leans, in words."""
    degrees = round(math.degrees(math.atan(slant(x).item())))
    return "stands upright" if degrees == 0 else f"leans {abs(degrees)}° to the {'right' if degrees > 0 else 'left'}"


def way_up(way: str, x0: Tensor, label: int | Tensor, times: list[int]) -> list[State]:
    """Digits x0 (B, 1, 28, 28) on a way up, one of WAYS: where they stand at each of times but for the last, 0.

    Inversion asks the shipped network, under the digits' own label or labels (B,), at w = 1.
    """
    net, generator = shipped()[0], torch.Generator().manual_seed(0)
    if way == FRESH:
        noise = torch.randn(x0.shape, generator=generator)
        return [State(t, add_noise(x0, noise, net.schedule.alpha_bar[t]), x0, noise) for t in times[-2::-1]]
    options = {"at_zero": "noise"} if way == NOISE_FIRST else {"ask": "t" if way == AT_T else "s"}
    return list(invert(classifier_free(net, label, 1.0), x0, net.schedule, times, generator=generator, **options))


def times_of(way: str, times: list[int]) -> list[int]:
    """times, with FIRST as the last before 0 where real noise comes first."""
    return [*(t for t in times if t > FIRST), FIRST, 0] if way == NOISE_FIRST else times


def drawn_picture(drawing: np.ndarray, target: int, way: str, top: int, steps: int) -> Picture:
    """A drawn digit taken up to time `top`, and down again twice: as itself, w = 1, and as `target`, w = W.

    drawing: uint8 (28, 28). way: one of WAYS; where real noise comes first, FIRST is one more time to visit. What the
    digit is, the shipped classifier says.
    """
    (net, judge), x0 = shipped(), data.as_digit(drawing)[None]
    if not drawing.any():
        sheet = Images("One way up, two ways down", grey(x0), ["an empty sheet"])
        return Picture([sheet], "The sheet is empty. Draw a digit, or take one from the list.")
    own, times = judge(x0).argmax().item(), times_of(way, times_to(top, steps))
    up = way_up(way, x0, own, times)
    down = list(ddim(_both(net, own, target), up[-1].x.repeat(2, 1, 1, 1), net.schedule, times))
    empty, n = -torch.ones(2, 1, 28, 28), len(times) - 1
    frames = [(x0, empty), *((state.x, empty) for state in up), *((up[-1].x, state.x) for state in down)]
    itself, edited = down[-1].x.split(1)
    ends = (
        f"Down as {own} it ends {apart(itself, x0):.2f} per pixel from yours (two digits: {two_digits_apart():.1f} on "
        f"average). Down as {target}, w = {W:g}, it {_leaning(edited)} and is read as "
        f"{judge(edited.clamp(-1, 1)).argmax().item()}."
    )
    return Picture(
        [
            Images(
                "One way up, two ways down",
                grey(torch.stack([torch.cat([x0, *parts])[:, 0] for parts in frames])),
                ["yours", "up", f"down as {own}", f"down as {target}"],
                arrives=(0, 0, n + 1, n + 1),
            )
        ],
        f"Yours is read as {own} and {_leaning(x0)}. {HOW[way].format(top=top)}, {n} steps each way.",
        frame_texts=[*["On the way up."] * n, "This is the top.", *["On the way down."] * (n - 1), ends],
        frame_label="Watch",
        frame_names=[f"{'up' if k <= n else 'down'}, t = {t}" for k, t in enumerate([*times[::-1], *times[1:]])],
        plays=True,
    )


def presets() -> dict[str, np.ndarray]:
    """The digits of PRESETS, for people who do not draw: name -> uint8 (28, 28)."""
    return {name: grey(data.digits("test")[0][place, 0]) for name, place in PRESETS.items()}


def draw_edit() -> Explorer:
    """Draw a digit and what it shall become; choose how it is taken up, how far, and in how many steps."""
    return Explorer(
        partial(rough_first, drawn_picture, ROUGH_STEPS),
        [
            Drawing("drawing", "Draw here, or take", presets(), "a leaning 7"),
            Choice("target", "Decode as", list(range(10)), 9),
            Choice("way", "Method", list(WAYS), "inversion"),
            Slider("top", "Height t", 100, 1000, 50, 1000),
            Slider("steps", "Steps", 5, 50, 5, 20),
        ],
    )


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
        f"{apart(back, x0):.2f} per pixel (root mean square, black -1, white 1); as {target} it ends "
        f"{apart(edited, x0):.2f} away, and a classifier reads {read}. At t = {top} the noise has "
        f"{noise_left:.2f} of the strength that fresh noise has.",
        frame_label="Watch",
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
            Choice("start", "Method", list(STARTS), "inversion"),
            Slider("top", "Height t", 100, 1000, 100, 1000),
            Slider("w", "Guidance scale w (down)", 1.0, 7.5, 0.5, 2.0),
            Slider("steps", "Steps", 5, 50, 5, 20),
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
