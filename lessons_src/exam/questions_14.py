"""Questions on lesson 14: what a picture costs, and other people's programs."""

import math

import torch

from lessons_src.exam.items import Item, decimal, one, one_of
from lessons_src.exercises.inputs import whole
from lessons_src.exercises.tasks import WrongWay
from lessons_src.guidance import blend
from lessons_src.lessons.lesson_06.exercises import course_scale
from lessons_src.schedules import linear, time_grid
from lessons_src.sde import bits_per_dim
from lessons_src.solvers import SOLVERS


def promised_time(solver, steps, ms, decoder):
    """Milliseconds of a guided picture."""
    return 2 * SOLVERS[solver].nfe(steps) * ms + decoder


def times_fewer_calls(steps):
    """Calls of a thousand plain DDPM steps, over those of a few guided DDIM steps."""
    return SOLVERS["DDPM"].nfe(1000) / (2 * SOLVERS["DDIM"].nfe(steps))


def times_of_a_pipeline(steps, T):
    """The trailing grid, as a library says it that counts from 0 and leaves out the clean end."""
    return [t - 1 for t in time_grid(linear(T), steps, "trailing")[:-1]]


def scale_of_a_pipeline(eps_u, eps_c, w):
    """What comes out where guidance is switched off at 1 and below."""
    return blend(one(eps_u), one(eps_c), course_scale(torch.tensor(w, dtype=torch.float64), "diffusers").item()).item()


def bits_of_a_density(log_p, dim):
    """Bits per dimension of a log-density in nats."""
    return bits_per_dim(torch.tensor(log_p, dtype=torch.float64), dim).item()


ITEMS = (
    Item(
        promised_time,
        "One call of the network takes {ms} ms, the decoder {decoder} ms once a picture. You sample with {solver} in "
        "{steps} steps, guided at w = 5, no other work counts. How many milliseconds does a picture take? (Heun's "
        "last step costs one call.)",
        lambda g: (
            one_of(g, "DDIM", "Heun", "DPM-Solver++(2M)"),
            whole(g, 8, 50),
            decimal(g, 5, 60, 1),
            whole(g, 5, 80),
        ),
        (
            WrongWay(lambda solver, steps, ms, decoder: SOLVERS[solver].nfe(steps) * ms + decoder, "Guidance doubles."),
            WrongWay(
                lambda solver, steps, ms, decoder: 2 * SOLVERS[solver].nfe(steps) * ms, "The decoder counts, too."
            ),
            WrongWay(
                lambda solver, steps, ms, decoder: steps * (2 if solver != "Heun" else 1) * (ms + decoder),
                "The decoder runs once a picture, the network in every step.",
            ),
        ),
        "fast sampling",
    ),
    Item(
        times_fewer_calls,
        "Guided DDIM with {steps} steps is compared with plain DDPM of 1000 steps. How many times fewer calls of the "
        "network does it make?",
        lambda g: (whole(g, 3, 60),),
        (
            WrongWay(lambda steps: 1000 / steps, "Guidance calls the network twice a step."),
            WrongWay(lambda steps: 2000 / steps, "The guided one makes more calls, not the plain one."),
        ),
        "fast sampling",
    ),
    Item(
        times_of_a_pipeline,
        "A library counts times from 0 (its t is ours less 1). You ask it for {steps} steps of T = {T} with "
        "`trailing` spacing. Which times does it give the network, in order? A list.",
        lambda g: (one_of(g, 2, 4, 5, 8, 10), one_of(g, 200, 400, 600, 1000, 2000)),
        (
            WrongWay(
                lambda steps, T: [t + 1 for t in times_of_a_pipeline(steps, T)], "It counts from 0: our T is its T − 1."
            ),
            WrongWay(
                lambda steps, T: list(range(0, T, T // steps))[::-1],
                "That is `leading`, which never sees pure noise.",
            ),
        ),
        "fast sampling",
        minutes=4,
        tolerance=1e-5,
    ),
    Item(
        scale_of_a_pipeline,
        "A pipeline takes `guidance_scale` for our w, but switches guidance off at 1 and below and then uses the "
        "prediction with label alone. In one pixel ε_u = {eps_u} and ε_c = {eps_c}. Which prediction does it use at "
        "`guidance_scale={w}`?",
        lambda g: (decimal(g, -0.9, 0.9), decimal(g, -0.9, 0.9), one_of(g, 0.0, 0.3, 0.5, 0.8)),
        (
            WrongWay(lambda eps_u, eps_c, w: blend(one(eps_u), one(eps_c), w).item(), "It is switched off there."),
            WrongWay(lambda eps_u, eps_c, w: eps_u, "What is left is the prediction with label."),
        ),
        "guidance",
    ),
    Item(
        bits_of_a_density,
        "The probability-flow ODE gives a picture of {dim} numbers the log-density {log_p} nats. How many bits per "
        "dimension is that?",
        lambda g: (-decimal(g, 200, 3000, 0), one_of(g, 256, 784, 1024, 3072)),
        (
            WrongWay(lambda log_p, dim: -log_p / dim, "Those are nats: divide by ln 2."),
            WrongWay(lambda log_p, dim: log_p / dim / math.log(2), "The sign: bits are a price, −log₂ p."),
            WrongWay(lambda log_p, dim: -log_p / math.log(2), "Per dimension: divide by the numbers of the picture."),
        ),
        "differential equations",
    ),
)
