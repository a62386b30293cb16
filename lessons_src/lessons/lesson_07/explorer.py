"""To play with in lesson 07: where guides point on the ring, and where they take samples."""

import math
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lessons_src import data
from lessons_src.guidance import classifier
from lessons_src.lessons.lesson_07.laws import CLEAN_EXACT, EXACT, arrows, guides
from lessons_src.process import add_noise
from lessons_src.samplers import ddim, trajectory
from lessons_src.schedules import linear, time_grid
from lessons_src.show.panels import Picture, Points
from lessons_src.show.widgets import Choice, Explorer, Slider

NONE = "none"
STD = 0.15  # of each class of data.ring()
RADIUS = STD * math.sqrt(2 * math.log(100))  # 99 % of a round Gaussian class lie nearer to its middle
STEPS = 40
SHOWN = 24  # points with arrows; the numbers are of all of them
LIMIT = 3.0  # the square shown is [-LIMIT, LIMIT]^2
CUT = 0.6  # longest arrow drawn
ALONG = torch.linspace(0, 1, 11, dtype=torch.float64)[3:]  # an arrow is a row of dots
CIRCLE = torch.linspace(0, 2 * math.pi, 121, dtype=torch.float64)


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
def pushes(guide: str, t: int, label: int, n: int = 300) -> Pushes:
    """sqrt(1 - ab) grad log p(label | x_t), what a guide takes from the predicted noise, at n points noised to time t.

    With no guide it is zero.
    """
    ring, generator, ab = data.ring(), torch.Generator().manual_seed(1), float(linear().alpha_bar[t])
    x0, own = ring.sample(2 * n, generator)
    x = add_noise(x0, torch.randn(x0.shape, generator=generator, dtype=x0.dtype), ab)[own != label][:n]
    right = math.sqrt(1 - ab) * arrows(ring.log_class_posterior, x, ab, label)
    if guide == NONE:
        return Pushes(x, torch.zeros_like(x), right)
    return Pushes(x, math.sqrt(1 - ab) * arrows(guides()[guide], x, ab, label), right)


@cache
def flow(guide: str, w: float, label: int) -> tuple[list[int], Tensor]:
    """Times, and 200 points (F, 200, 2) on their way by DDIM with the exact network without label, under a guide."""
    ring, schedule, start = data.ring(), linear(), data.noise(200, 2, seed=6)
    times, eps_fn = time_grid(schedule, STEPS), ring.network(schedule)
    if guide != NONE:
        log_p = guides()[guide]
        eps_fn = classifier(eps_fn, lambda x, t: log_p(x, float(schedule.alpha_bar[t[0]])), schedule, label, w)
    return times, trajectory(start, ddim(eps_fn, start, schedule, times))


def landed(x: Tensor) -> Tensor:
    """The class in whose circle each point (n, 2) lies, or -1; (n,)."""
    away = torch.cdist(x, data.ring().means)
    return away.argmin(1).where(away.amin(1) <= RADIUS, -1)


def _rows(x: Tensor, push: Tensor) -> Tensor:
    """Rows of dots that lead from points (n, 2) along their pushes, cut where they are long."""
    length = push.norm(dim=1, keepdim=True)
    short = push * (CUT / length.clamp(min=CUT))
    return (x[:, None] + ALONG[:, None] * short[:, None]).flatten(0, 1)


def guide_picture(guide: str, w: float, t: int, label: int) -> Picture:
    """What a guide's gradient says of noisy points, beside the right one, and where its samples land."""
    found, (times, path) = pushes(guide, t, label), flow(guide, w, label)
    x, mine, right = (part[found.x.abs().amax(1) < LIMIT - CUT][:SHOWN] for part in found)
    dots = {0: x, 1: _rows(x, mine), 2: _rows(x, right)}
    if guide == NONE:
        del dots[1]
    end, centre = landed(path[-1]), data.ring().means[label]
    here, nowhere = (end == label), (end == -1)
    lands = torch.where(here, 0, torch.where(nowhere, 1, 2))
    names = {0: "here", 1: "nowhere", 2: "elsewhere"}
    ring = data.ring().sample(400, torch.Generator().manual_seed(5))[0]
    circle = centre + RADIUS * torch.stack([CIRCLE.cos(), CIRCLE.sin()], 1)
    told = "There is no guide: the network's prediction stays as it is. "
    if guide != NONE:
        times_as = f"{found.longer:,.3g} times" if found.longer < 100 else f"{found.longer:,.0f} times"
        length = "just" if times_as == "1 times" else times_as
        told = f"At t = {t} the guide points with cosine {found.cosine:.3f} along the right push, {length} as long. "
    return Picture(
        [
            Points(
                f"Pushes to class {label} at t = {t}",
                torch.cat(list(dots.values()))[None].numpy(),
                limit=LIMIT,
                paths=False,
                groups=np.repeat(list(dots), [len(part) for part in dots.values()]),
                names={group: ("x_t", "guide", "right")[group] for group in dots},
            ),
            Points(
                f"Samples, class {label} wanted",
                path.numpy(),
                torch.cat([ring, circle]).numpy(),
                LIMIT,
                paths=False,
                groups=lands,
                names={k: name for k, name in names.items() if (lands == k).any()},
                target_name="data",
            ),
        ],
        f"{told}(Drawn pushes are cut at {CUT:g}.) {int(here.sum())} of {len(end)} samples land in class {label}, in "
        f"the circle that holds 99 % of its data; {int(nowhere.sum())} land nowhere, in the circle of no class.",
        frame_label="Samples at",
        frame_names=[f"t = {time}" for time in times],
        formula=f"ε̂ = ε {'−' if w >= 0 else '+'} {abs(w):g} · √(1 − ᾱ) ∇ log p(class {label} | x_t)",
        plays=True,
    )


def explore_guides() -> Explorer:
    """Choose a guide, its scale, a noise level and a class; the network that is steered knows no classes."""
    return Explorer(
        guide_picture,
        [
            Choice("guide", "Guide", [EXACT, CLEAN_EXACT, NONE], EXACT),
            Slider("w", "Guidance scale w", 0.0, 12.0, 0.5, 1.0),
            Slider("t", "Time t of the pushes", 20, 1000, 20, 500),
            Choice("label", "Class", list(range(data.ring().num_classes)), 1),
        ],
    )
