"""To play with in lesson 06: the guidance scale, on an exact predictor and on digits."""

import math
from functools import cache, partial
from importlib.resources import files
from typing import NamedTuple

import torch
from torch import Tensor

from lessons_src import data
from lessons_src.evaluation import in_batches
from lessons_src.guidance import classifier_free
from lessons_src.lessons.digit_runs import digit_run, shipped
from lessons_src.oracle import GaussianMixture, exact_flow
from lessons_src.samplers import ddim, trajectory
from lessons_src.schedules import NoiseSchedule, linear, time_grid
from lessons_src.show.panels import Curves, Images, Picture, Points, grey
from lessons_src.show.widgets import Choice, Explorer, Slider, rough_first

STD = 0.5  # of each class of data.three_classes()
RADIUS = STD * math.sqrt(2 * math.log(100))  # 99 % of a round Gaussian class lie nearer to its middle
ANGLES = torch.linspace(0, 2 * math.pi, 241, dtype=torch.float64)
CIRCLE = torch.stack([ANGLES.cos(), ANGLES.sin()], 1)
ALONG = torch.linspace(-4, 4, 161, dtype=torch.float64)


class Reference(NamedTuple):
    """Three classes, the linear schedule, start noise, the class it reaches without guidance, and data."""

    mixture: GaussianMixture
    schedule: NoiseSchedule
    start: Tensor
    free: Tensor
    x: Tensor


@cache
def _reference() -> Reference:
    mixture, schedule, start = data.three_classes(), linear(), data.noise(300, 2, seed=6)
    x, _ = mixture.sample(600, torch.Generator().manual_seed(5))
    ends = exact_flow(mixture.eps, start, float(schedule.alpha_bar[-1]), steps=200)
    return Reference(mixture, schedule, start, mixture.class_posterior(ends, 1.0).argmax(1), x)


def guidance_picture(w: float, label: int, steps: int) -> Picture:
    """Classifier-free guidance on exact predictions: where the samples of one class go as w moves, and the circle that
    holds 99 % of its data.

    Colours say which class the same noise reaches without guidance; they are not those of the curves, hence groups
    from 3 on. explorer.js computes the same.
    """
    mixture, schedule, start, free, x = _reference()
    net = mixture.network(schedule)
    times = time_grid(schedule, steps, "quadratic")
    path = trajectory(start, ddim(classifier_free(net, label, w), start, schedule, times))
    end, centre = path[-1], mixture.means[label]
    share = (mixture.class_posterior(end, 1.0).argmax(1) == label).double().mean().item()
    spread = end.var(0).mean().sqrt().item()
    stray = ((end - centre).norm(dim=1) > RADIUS).double().mean().item()
    cut, smooth = _on_line(mixture.means @ centre, STD), _on_line(end @ centre, 0.12)
    line = ALONG.unsqueeze(1)
    return Picture(
        [
            Points(
                f"Samples of class {label}",
                path.numpy(),
                torch.cat([x, centre + RADIUS * CIRCLE]).numpy(),
                4.0,
                paths=False,
                groups=free + 3,
                names={3 + k: f"class {k}" for k in range(3)},
                target_name="data of all classes",
            ),
            Curves(
                "Along the line from the centre through the class",
                ALONG.numpy(),
                {
                    "samples (smoothed)": smooth.log_density(line, 1.0).exp().numpy(),
                    "data of the class": cut.log_density(line, 1.0, label).exp().numpy(),
                    "data of all classes": cut.log_density(line, 1.0).exp().numpy(),
                },
                "position (0 is the centre of all classes)",
                "density",
                (0.0, 3.0),
            ),
        ],
        "Colour: the class in which the same noise ends without guidance. The circle holds 99 % of the data of class "
        f"{label}. {100 * share:.0f} % of the samples are classified right, {100 * stray:.0f} % lie outside the "
        f"circle. Their spread is {spread:.2f} (data {STD:.2f}).",
        frame_label="Step",
        frame_names=[f"t = {t}" for t in times],
        formula=_formula(w),
        plays=True,
    )


def _formula(w: float) -> str:
    return f"ε̂ = ε_u {'−' if w < 0 else '+'} {abs(w):g} · (ε_c − ε_u)"


def _on_line(means: Tensor, std: float) -> GaussianMixture:
    """Equally weighted Gaussians on a line, one at each mean."""
    K = len(means)
    return GaussianMixture([1 / K] * K, means.unsqueeze(1), std**2 * torch.ones(K, 1, 1, dtype=torch.float64))


def explore_guidance() -> Explorer:
    """Move the guidance scale; the start noise stays the same."""
    mixture, schedule, start, _, x = _reference()
    constants = {
        "means": mixture.means,
        "std": STD,
        "alpha_bar": schedule.alpha_bar,
        "start": start,
        "along": ALONG,
        "x": x,
        "circle": RADIUS * CIRCLE,
    }
    return Explorer(
        guidance_picture,
        [
            Slider("w", "Guidance scale w", -2.0, 10.0, 0.5, 3.0),
            Choice("label", "Class", [0, 1, 2], 0),
            Slider("steps", "DDIM steps", 2, 60, 2, 30),
        ],
        files(__package__).joinpath("explorer.js").read_text(encoding="utf-8"),
        constants,
    )


def digit_guidance_picture(w: float, digit: int, steps: int) -> Picture:
    """Twelve samples of one digit by the shipped network, and what a classifier reads."""
    times, x, _ = digit_run("DDIM", steps, "linspace", w, (digit,) * 12)
    end = x[-1].clamp(-1, 1)
    read = in_batches(shipped()[1], end).argmax(1).tolist()
    labels = [str(found) if found == digit else f"{found} ✗" for found in read]
    return Picture(
        [Images(f"Asked for {digit}; at the end, what a classifier reads", grey(x[:, :, 0]), labels, at_end=True)],
        f"A classifier reads {read.count(digit)} of 12 as {digit}. They differ from each other "
        f"{_variety(end) / _real_variety(digit):.2f} times as much as real {digit}s do. The batch of 12 takes "
        f"{steps if w in (0, 1) else 2 * steps} network evaluations in {steps} DDIM steps.",
        frame_label="Time t",
        frame_names=[f"t = {t}" for t in times],
        formula=_formula(w),
        plays=True,
    )


def _variety(x: Tensor) -> float:
    """Root mean square difference a pixel between two different ones of x (n, 1, H, W)."""
    return (2 * x.var(0).mean()).sqrt().item()


@cache
def _real_variety(digit: int) -> float:
    """The variety of the training digits of one class."""
    x, labels = data.digits("train")
    return _variety(x[labels == digit])


def explore_digit_guidance() -> Explorer:
    """Move the guidance scale on digits; the start noise stays the same."""
    return Explorer(
        partial(rough_first, digit_guidance_picture, 5, 20),
        [
            Slider("w", "Guidance scale w", 0.0, 10.0, 0.5, 1.0),
            Choice("digit", "Digit", list(range(10)), 6),
        ],
    )
