"""The tables of lesson 00: the way through the course, and what this machine has and can do."""

import platform
import time
from importlib.metadata import version

import torch

from lessons_src import data
from lessons_src.guidance import classifier_free
from lessons_src.lessons import all_lessons
from lessons_src.lessons.digit_runs import shipped
from lessons_src.samplers import ddim, sample
from lessons_src.schedules import time_grid

PACKAGES = ("torch", "numpy", "jupyterlab", "jupyterlab_widgets", "anywidget")


def course_map() -> dict[str, list[str]]:
    """Columns of a table of the lessons after this one, as the list of lessons has them."""
    lessons = all_lessons()[1:]
    return {
        "lesson": [f"[{lesson.number} {lesson.title}]({lesson.name}.ipynb)" for lesson in lessons],
        "its question": [lesson.question for lesson in lessons],
        "after it you can": [lesson.after for lesson in lessons],
    }


def this_machine() -> dict[str, list[str]]:
    """Columns of a table of one row: versions, the fastest device, and how long a digit takes on the CPU in 50 calls.

    Raises PackageNotFoundError where the notebook runs in another environment than the course.
    """
    versions = [f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in PACKAGES)]
    device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    return {
        "versions": [", ".join(versions)],
        "fastest device": [device],
        "a digit in 50 calls": [f"{_seconds(50):.2f} s"],
    }


def _seconds(steps: int) -> float:
    """How long the shipped network takes for one digit in `steps` calls."""
    net, _ = shipped()
    start = time.perf_counter()
    sample(
        ddim(
            classifier_free(net, 3, 1.0), data.noise(1, 1, 28, 28).float(), net.schedule, time_grid(net.schedule, steps)
        )
    )
    return time.perf_counter() - start
