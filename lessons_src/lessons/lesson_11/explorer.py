"""To play with in lesson 11: a teacher that walks from noise to data, and students that jump."""

from functools import cache
from importlib.resources import files

import torch
from torch import Tensor

from lessons_src import measurements
from lessons_src.checks import check_choice
from lessons_src.lessons.lesson_11.ring import EXPLORED, EXPLORED_SEED, ORACLE, RING, SCHEDULE, flow, start
from lessons_src.samplers import ddim, trajectory
from lessons_src.schedules import time_grid
from lessons_src.show.panels import Picture, Points
from lessons_src.show.widgets import Choice, Explorer, Slider

STUDENTS = {"A": "pairs", "B": "progressive", "C": "consistency"}  # who taught them is told later in the lesson
PERFECT = "perfect"
SHOWN = 40  # points drawn; the numbers are of EXPLORED
MOST = 50  # calls of the teacher


@cache
def starts() -> tuple[Tensor, Tensor]:
    """The noises (EXPLORED, 2), and where the exact flow ends from them."""
    noise = start(EXPLORED, EXPLORED_SEED)
    return noise, flow(noise)


@cache
def ends(student: str) -> Tensor:
    """Where a student ends from these noises, (EXPLORED, 2); the perfect one is the exact flow."""
    if check_choice("student", student, (*STUDENTS, PERFECT)) == PERFECT:
        return starts()[1]
    (row,) = (row for row in measurements.load("ends") if row["method"] == STUDENTS[student])
    return measurements.points_of(row).double()


@cache
def walk(steps: int) -> Tensor:
    """The teacher's way: DDIM with the exact predictor, (steps + 1, EXPLORED, 2)."""
    noise = starts()[0]
    return trajectory(noise, ddim(ORACLE, noise, SCHEDULE, time_grid(SCHEDULE, steps)))


def off(x: Tensor) -> tuple[float, float]:
    """Mean distance of points (EXPLORED, 2) to their exact ends, and the share of strays.

    A stray is more than three standard deviations from the middle of every cluster.
    """
    away = torch.cdist(x, RING.means).amin(1)
    strays = (away > 3 * RING.covariances[0, 0, 0].sqrt()).double().mean().item()
    return (x - starts()[1]).norm(dim=1).mean().item(), strays


def students_picture(steps: int, student: str) -> Picture:
    """The teacher in so many calls beside a student in one; frame k shows where they are after k calls.

    explorer.js computes the same.
    """
    path, end = walk(steps), ends(student)
    jump = torch.stack([path[0], *[end] * steps])
    exact = starts()[1]
    groups = torch.cdist(exact, RING.means).argmin(1)[:SHOWN].numpy()
    who = f"Student {student}" if student in STUDENTS else "The perfect student"
    titles = f"Teacher: {steps} call{'s' * (steps > 1)}", f"{who}: 1 call"
    (gap, strays), (own_gap, own_strays) = off(path[-1]), off(end)
    return Picture(
        [
            Points(title, frames[:, :SHOWN].numpy(), exact.numpy(), 2.6, groups=groups, target_name="data")
            for title, frames in zip(titles, (path, jump), strict=True)
        ],
        f"Off by: the mean distance to the exact ends, of {EXPLORED} points ({SHOWN} are drawn). Stray: outside every "
        f"cluster, as {_percent(off(exact)[1])} % of the data are. Colour and shape name the cluster of the exact end.",
        frame_names=[f"{k} of {steps} calls" for k in range(steps + 1)],
        formula=(
            f"Teacher: off by {gap:.3g}, {_percent(strays)} % stray. "
            f"{who}: off by {own_gap:.3g}, {_percent(own_strays)} % stray"
        ),
        plays=True,
    )


def _percent(share: float) -> int:
    return round(100 * share)


def explore_students() -> Explorer:
    """Choose how many calls the teacher makes, and which student jumps beside it."""
    noise, exact = starts()
    constants = {
        "means": RING.means,
        "std": RING.covariances[0, 0, 0].sqrt(),
        "alpha_bar": SCHEDULE.alpha_bar,
        "start": noise,
        "exact": exact,
        "shown": SHOWN,
        **{name: ends(name) for name in STUDENTS},
    }
    return Explorer(
        students_picture,
        [
            Slider("steps", "Calls of the teacher", 1, MOST, 1, 4),
            Choice("student", "Student", [*STUDENTS, PERFECT], "A"),
        ],
        files(__package__).joinpath("explorer.js").read_text(encoding="utf-8"),
        constants,
    )
