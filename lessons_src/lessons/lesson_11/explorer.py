"""To play with in lesson 11: a teacher that walks from noise to data, and students that jump, on ring and digits."""

from functools import cache
from importlib.resources import files

import torch
from torch import Tensor

from lessons_src import measurements, weights
from lessons_src.checks import check_choice, check_like
from lessons_src.guidance import classifier_free
from lessons_src.lessons.digit_runs import shipped
from lessons_src.lessons.lesson_11 import digits
from lessons_src.lessons.lesson_11.ring import EXPLORED, EXPLORED_SEED, ORACLE, RING, SCHEDULE, flow, start
from lessons_src.measurements import SAMPLERS
from lessons_src.samplers import ddim, sample, trajectory
from lessons_src.schedules import time_grid
from lessons_src.show.panels import Images, Picture, Points, grey
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
    check_like("x", x, "the exact ends", starts()[1])
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
    who = f"student {student}" if student in STUDENTS else "perfect student"
    titles = f"Teacher: {_calls(steps)}", f"{who[0].upper()}{who[1:]}: 1 call"
    (gap, strays), (own_gap, own_strays) = off(path[-1]), off(end)
    return Picture(
        [
            Points(title, frames[:, :SHOWN].numpy(), exact.numpy(), 2.6, groups=groups, target_name="data")
            for title, frames in zip(titles, (path, jump), strict=True)
        ],
        f"Off by: the mean distance to the exact ends, those of the ODE, of {EXPLORED} points ({SHOWN} are drawn). "
        f"Stray: outside every cluster, as {_percent(off(exact)[1])} % of the data are. Colour and shape name the "
        "cluster of the exact end.",
        frame_names=[f"{k} of {steps} calls" for k in range(steps + 1)],
        formula=(
            f"At the end: teacher off by {gap:.3g}, {_percent(strays)} % stray; "
            f"{who} off by {own_gap:.3g}, {_percent(own_strays)} % stray"
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


# --- Digits

CALLS = (1, 2, 4)
TEACHERS = {"DDIM": "DDIM", "DDPM": "DDPM, σ² = β̃"}  # as they are called here, and in measurements


def digits_picture(calls: int, teacher: str, steps: int, seed: int) -> Picture:
    """Digits 0 to 9 by a student in so many calls, and by its teacher from the same noises."""
    (net, _), (student, _) = shipped(), weights.load(f"student-{calls}")
    noise = torch.randn(10, 1, 28, 28, generator=torch.Generator().manual_seed(seed))
    take, label = SAMPLERS[TEACHERS[check_choice("teacher", teacher, TEACHERS)]], torch.arange(10)
    walk = take(
        classifier_free(net, label, 1.0),
        noise,
        net.schedule,
        time_grid(net.schedule, steps),
        generator=torch.Generator().manual_seed(seed),
    )
    mine, theirs = digits.drawn(student, noise, label), sample(walk).clamp(-1, 1)
    apart = (mine - theirs).square().mean().sqrt().item()
    titles = f"Student: {_calls(calls)}", f"{teacher}: {_calls(steps)}"
    return Picture(
        [Images(title, grey(x[None, :, 0])) for title, x in zip(titles, (mine, theirs), strict=True)],
        f"From the same ten noises, of seed {seed}. Apart: the root mean square difference a pixel, where black is −1 "
        "and white is 1.",
        formula=f"They are {apart:.2f} apart",
    )


def _calls(number: int) -> str:
    return f"{number} call{'s' * (number > 1)}"


def explore_digits() -> Explorer:
    """Choose a student, its teacher's sampler and calls, and a noise."""
    return Explorer(
        digits_picture,
        [
            Choice("calls", "Calls of the student", list(CALLS), 1),
            Choice("teacher", "Teacher", list(TEACHERS), "DDIM"),
            Slider("steps", "Calls of the teacher", 1, MOST, 1, 20),
            Slider("seed", "Seed of the noise", 0, 20, 1, 0),
        ],
    )
