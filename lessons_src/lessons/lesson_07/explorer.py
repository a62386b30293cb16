"""To play with in lesson 07: where guides point on the ring, where they take samples, and a scale for digits."""

import math
from collections.abc import Iterator
from functools import cache, partial
from importlib.resources import files
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from lessons_src import data
from lessons_src.guidance import classifier
from lessons_src.lessons.lesson_07 import figures, steering
from lessons_src.lessons.lesson_07.laws import CLEAN_EXACT, EXACT, arrows, guides
from lessons_src.process import add_noise
from lessons_src.samplers import ddim, trajectory
from lessons_src.schedules import linear, time_grid
from lessons_src.show.panels import Images, Picture, Points, grey
from lessons_src.show.widgets import Choice, Explorer, Slider, rough_first

STD = 0.15  # of each class of data.ring()
RADIUS = STD * math.sqrt(2 * math.log(100))  # 99 % of a round Gaussian class lie nearer to its middle
STEPS = 40
SHOWN = 12  # points with arrows; the numbers are of all of them
LIMIT, FAR = 3.0, 5.0  # the squares shown are [-LIMIT, LIMIT]^2, and of samples [-FAR, FAR]^2
MEAN = 0.7  # right pushes are drawn so long on average
APART = 0.5  # points with arrows lie at least so far from each other, and from the border
CIRCLE = torch.linspace(0, 2 * math.pi, 121, dtype=torch.float64)
NAMES = ("lands here", "lands nowhere", "lands elsewhere")


class Start(NamedTuple):
    """Clean points x0, noise (N, 2) and classes (N,), of which pushes are shown, and start noise (200, 2) of samples.

    x (M, 2) is what is shown of the data.
    """

    x0: Tensor
    noise: Tensor
    own: Tensor
    noise_of_samples: Tensor
    x: Tensor


@cache
def _start() -> Start:
    ring, generator = data.ring(), torch.Generator().manual_seed(1)
    x0, own = ring.sample(600, generator)
    noise = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
    shown, _ = ring.sample(400, torch.Generator().manual_seed(5))
    return Start(x0, noise, own, data.noise(200, 2, seed=6), shown)


class Pushes(NamedTuple):
    """Noisy points x of other classes than the wanted one, the guide's push there, the right one, (N, 2) each."""

    x: Tensor
    mine: Tensor
    right: Tensor

    @property
    def cosine(self) -> float:
        """Mean cosine of the two pushes."""
        return F.cosine_similarity(self.mine, self.right).mean().item()

    @property
    def longer(self) -> float:
        """How many times as long the guide's push is, of root mean squares."""
        return (self.mine.square().mean() / self.right.square().mean()).sqrt().item()


@cache
def pushes(guide: str, t: int, label: int) -> Pushes:
    """sqrt(1 - ab) grad log p(label | x_t), what a guide takes from predicted noise, at 300 points noised to time t."""
    ring, start, ab = data.ring(), _start(), float(linear().alpha_bar[t])
    x = add_noise(start.x0, start.noise, ab)[start.own != label][:300]
    right = math.sqrt(1 - ab) * arrows(ring.log_class_posterior, x, ab, label)
    return Pushes(x, math.sqrt(1 - ab) * arrows(guides()[guide], x, ab, label), right)


@cache
def flow(guide: str, w: float, label: int) -> tuple[list[int], Tensor]:
    """Times, and 200 points (F, 200, 2) on their way by DDIM with the exact network without label, under a guide."""
    ring, schedule, start = data.ring(), linear(), _start().noise_of_samples
    times, log_p = time_grid(schedule, STEPS), guides()[guide]
    eps_fn = classifier(
        ring.network(schedule), lambda x, t: log_p(x, float(schedule.alpha_bar[t[0]])), schedule, label, w
    )
    return times, trajectory(start, ddim(eps_fn, start, schedule, times))


def landed(x: Tensor) -> Tensor:
    """The class in whose circle each point (n, 2) lies, or -1; (n,)."""
    away = torch.cdist(x, data.ring().means)
    return away.argmin(1).where(away.amin(1) <= RADIUS, -1)


def spread(x: Tensor) -> list[int]:
    """Which of points (n, 2) get arrows: the first ones well inside the square that are apart from those before."""
    kept: list[int] = []
    for i, point in enumerate(x):
        apart = not kept or torch.cdist(point[None], x[kept]).min() > APART
        if len(kept) < SHOWN and apart and point.abs().max() < LIMIT - APART:
            kept.append(i)
    return kept


def guide_picture(guide: str, w: float, t: int, label: int) -> Picture:
    """What a guide's gradient says of noisy points, beside the right one, and where its samples land.

    explorer.js computes the same.
    """
    found, (times, path) = pushes(guide, t, label), flow(guide, w, label)
    x, mine, right = (part[spread(found.x)] for part in found)
    unit = MEAN / right.norm(dim=1).mean()  # all are drawn at one scale
    end, centre = landed(path[-1]), data.ring().means[label]
    here, nowhere = (end == label), (end == -1)
    lands = torch.where(here, 0, torch.where(nowhere, 1, 2))
    circle = centre + RADIUS * torch.stack([CIRCLE.cos(), CIRCLE.sin()], 1)
    told = "At w = 0 there is no guide."
    if w:
        told = (
            f"At t = {t} w times the guide's push points with cosine {math.copysign(1, w) * found.cosine:.3f} "
            f"along the right one, {_measured(abs(w) * found.longer)} as long."
        )
    return Picture(
        [
            Points(
                f"Pushes to class {label} at t = {t}",
                x[None].numpy(),
                limit=LIMIT,
                names={0: "noisy point"},
                arrows={
                    "right": torch.cat([x, unit * right], 1).numpy(),
                    "guide, times w": torch.cat([x, w * unit * mine], 1).numpy(),
                },
            ),
            Points(
                f"Samples, class {label} wanted",
                path.numpy(),
                torch.cat([_start().x, circle]).numpy(),
                FAR,
                paths=False,
                groups=lands,
                names={k: name for k, name in enumerate(NAMES) if (lands == k).any()},
                target_name="data",
            ),
        ],
        f"{told} (Drawn so that right ones are equally long at every t. An arrow at the border goes on.) "
        f"{int(here.sum())} of {len(end)} samples land in class {label}, in the circle that holds 99 % of its data; "
        f"{int(nowhere.sum())} land nowhere, in the circle of no class.",
        frame_label="Right: samples at",
        frame_names=[f"t = {time}" for time in times],
        formula=f"ε̂ = ε {_times(w)} √(1 − ᾱ) ∇ log p(class {label} | x_t)" if w else "ε̂ = ε",
        plays=True,
    )


def _measured(longer: float) -> str:
    said = f"{longer:.3g}" if longer < 100 else f"{longer:,.0f}"
    return "just" if said == "1" else f"{said} times"


def _times(w: float) -> str:
    return f"{'−' if w >= 0 else '+'} {abs(w):g} ·"


def explore_guides() -> Explorer:
    """Choose a guide, its scale, a noise level and a class; the network that is steered knows no classes."""
    ring, start = data.ring(), _start()
    constants = {
        "means": ring.means,
        "std": STD,
        "alpha_bar": linear().alpha_bar,
        "x0": start.x0,
        "noise": start.noise,
        "own": start.own,
        "start": start.noise_of_samples,
        "x": start.x,
        "circle": RADIUS * torch.stack([CIRCLE.cos(), CIRCLE.sin()], 1),
    }
    return Explorer(
        guide_picture,
        [
            Choice("guide", "Guide", [EXACT, CLEAN_EXACT], CLEAN_EXACT),
            Slider("w", "Guidance scale w", -2.0, 12.0, 0.5, 1.0),
            Slider("t", "Left: time t", 20, 1000, 20, 500),
            Choice("label", "Class", list(range(ring.num_classes)), 1),
        ],
        files(__package__).joinpath("explorer.js").read_text(encoding="utf-8"),
        constants,
    )


# --- Digits


def digits_picture(steer: figures.Steer, w: float, steps: int) -> Picture:
    """Digits 0 to 9 steered by `steer`, a function as in the lesson, and what the guide and the judge read in them.

    In fewer steps than the lesson's they are a preview, of which nothing is counted.
    """
    x = figures.draw(steer(steering.shipped("digits"), steering.noise_aware, w), steps=steps)
    told, labels = "Each picture starts from the same noise at every w.", ["…"] * len(x)
    if steps == steering.STEPS:
        with torch.no_grad():
            judge = steering.shipped("judge")(x).argmax(1)
        read = [found.tolist() for found in (steering.reads(steering.AWARE, x), judge)]
        labels = _both(*read)
        right = [sum(digit == wanted for wanted, digit in enumerate(found)) for found in read]
        told = (
            f"At w = {w:g} the guide reads {right[0]} of 10 digits as wanted, the judge {right[1]}. The network that "
            f"draws gets no label. {told}"
        )
    return Picture(
        [Images("0 to 9 wanted; below: the guide reads | the judge reads", grey(x[None, :, 0]), labels)],
        told,
        formula=f"ε̂ = ε {_times(w)} √(1 − ᾱ) ∇ log p(y | x_t)",
    )


def _both(guide: list[int], judge: list[int]) -> list[str]:
    """What both read, and whether it is the digit wanted."""
    marked = [[f"{read}{'' if read == i else ' ✗'}" for i, read in enumerate(found)] for found in (guide, judge)]
    return [f"{mine} | {other}" for mine, other in zip(*marked, strict=True)]


def explore_digits(steer: figures.Steer) -> Explorer:
    """Move the scale of the learner's own steer(eps_fn, classifier, w) on digits: at first in 5 steps, then in 20."""
    kept = cache(partial(digits_picture, steer))

    def picture(w: float) -> Iterator[Picture]:
        return rough_first(lambda steps, w: kept(w, steps), 5, steering.STEPS, w=w)

    return Explorer(picture, [Slider("w", "Guidance scale w", -2.0, 10.0, 0.5, 2.0)])
