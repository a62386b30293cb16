"""To play with in lesson 14: five questions, and what the course's own measurements advise."""

import math

import numpy as np
import torch
from torch import Tensor

from lessons_src import data, measurements
from lessons_src.lessons.lesson_14.choice import QUESTIONS, Advice, Answers, Maker, advised, changes, makers
from lessons_src.lessons.lesson_14.paradigms import RING
from lessons_src.measurements import digits_of, points_of
from lessons_src.show.panels import Images, Picture, Points, grey
from lessons_src.show.widgets import Choice, Explorer

LIMIT = 2.2
TAKEN, OUT, FITS = 0, 1, 2  # groups: blue, grey, green
NAMES = {TAKEN: "taken", FITS: "fits", OUT: "ruled out"}
WORST = 5.0  # the distance at the upper end
CALLS = (1, 2, 4, 6, 8, 10, 20, 50, 100, 1000)  # of the plans drawn, beside that taken: all would hide each other


def _x(ms: float) -> float:
    """The place of so many milliseconds, from 1 to 4,000."""
    return LIMIT * 0.95 * (2 * math.log(ms) / math.log(4000) - 1)


def _y(distance: float) -> float:
    """The place of a distance, from 0.7 to WORST."""
    share = math.log(min(distance, WORST) / 0.7) / math.log(WORST / 0.7)
    return LIMIT * (1.9 * share - 0.95)


def field(answers: Answers, advice: Advice) -> Points:
    """Makers of digits with a measured distance, by milliseconds and distance."""
    rows = [maker for maker in makers() if maker.row and (maker.calls in CALLS or maker is advice.taken)]
    place = np.array([[_x(maker.ms(answers)), _y(maker.row["frechet"])] for maker in rows])
    state = [TAKEN if maker is advice.taken else FITS if maker in advice.fit else OUT for maker in rows]
    order = [k for group in (OUT, FITS, TAKEN) for k, own in enumerate(state) if own == group]  # what counts lies above
    return Points(
        "Diffusion on digits",
        place[None, order],
        limit=LIMIT,
        groups=np.array(state)[order],
        grey=OUT,
        names={group: name for group, name in NAMES.items() if group in state},
        x_label="milliseconds a digit",
        y_label="distance from real digits",
        x_ticks={_x(ms): f"{ms:,}" for ms in (1, 10, 100, 1000)},
        y_ticks={_y(distance): f"{distance:g}" for distance in (1, 2, WORST)},
    )


def drawn(maker: Maker | None) -> Images | Points:
    """What a maker draws: digits, or points of the ring; without one, stored digits."""
    if maker is None:
        return Images("Real digits, stored", sheets(data.one_each()))
    if maker.row:
        return Images("Its digits", sheets(digits_of(maker.row)[:10]))
    (row,) = (row for row in measurements.load("paradigms") if (row["paradigm"], row["seed"]) == (maker.name, 0))
    ring = RING.sample(1000, torch.Generator().manual_seed(1))[0].numpy()
    return Points("On the ring: not measured on digits", points_of(row).numpy()[None], ring, LIMIT, target_name="data")


def sheets(digits: Tensor) -> np.ndarray:
    """Eight of ten digits (10, 1, 28, 28), four to an image, uint8 (1, 2, 56, 56): they fit beside the plot."""
    squares = digits[:8, 0].view(2, 2, 2, 28, 28).transpose(2, 3)
    return grey(squares.reshape(1, 2, 56, 56))


def choice_picture(**values: int | str) -> Picture:
    """What the answers lead to, with its reasons, and which other answers would change it."""
    answers = Answers(**values)
    advice, others = advised(answers), changes(answers)
    changed = (
        "\n· ".join(["For example, this would change it:", *others]) if others else "No single answer would change it."
    )
    shown = [] if advice.title == "None of these" else [drawn(advice.taken)]
    return Picture(
        [field(answers, advice), *shown],
        f"{advice.reasons}\n{changed}",
        formula=f"Take: {advice.title}" if advice.taken else advice.title,
    )


def explore_choice() -> Explorer:
    """Answer five questions."""
    start = Answers()
    return Explorer(
        choice_picture,
        [Choice(name, question, options, getattr(start, name)) for name, (question, options) in QUESTIONS.items()],
    )
