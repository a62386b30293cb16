"""Questions on lesson 06: the blend, its conventions, its bill, what it samples."""

import math

import torch

from lessons_src.data import noise, ring
from lessons_src.exam.items import Item, decimal, one, one_of
from lessons_src.exercises.inputs import whole
from lessons_src.exercises.tasks import WrongWay
from lessons_src.guidance import blend, classifier_free
from lessons_src.lessons.lesson_06.exercises import course_scale
from lessons_src.oracle import GaussianMixture
from lessons_src.samplers import Counted, ddim, sample
from lessons_src.schedules import linear, time_grid


def blend_by_hand(eps_u, eps_c, w):
    """A component of the guided prediction."""
    return blend(one(eps_u), one(eps_c), w).item()


def scale_of_a_paper(g):
    """The scale of this course that Ho & Salimans call g."""
    return course_scale(torch.tensor(g, dtype=torch.float64), "ho_salimans").item()


def times_as_long(eps_u, eps_c, w):
    """Length of a guided prediction, over that of the conditional one."""
    eps_u, eps_c = (torch.tensor(eps, dtype=torch.float64) for eps in (eps_u, eps_c))
    return (blend(eps_u, eps_c, w).norm() / eps_c.norm()).item()


def calls_with_guidance(steps, batch, w):
    """Network evaluations of a guided DDIM run."""
    network, schedule = Counted(ring().network(linear())), linear()
    sample(ddim(classifier_free(network, 0, w), noise(batch, 2), schedule, time_grid(schedule, steps)))
    return network.nfe


def where_guidance_leads(m, w):
    """Centre of the law that guidance samples, for data N(0, 1) and a class N(m, 1)."""
    everything, ab = GaussianMixture([1.0], [[0.0]], [[[1.0]]]), 0.5
    a_class = GaussianMixture([1.0], [[m]], [[[1.0]]])
    guided = blend(everything.eps(one(0.0), ab), a_class.eps(one(0.0), ab), w).item()
    return -guided / math.sqrt(1 - ab) / math.sqrt(ab)  # the m whose exact prediction at x = 0 this is


ITEMS = (
    Item(
        blend_by_hand,
        "Without label the network predicts ε_u = {eps_u} in one pixel, with label ε_c = {eps_c}. The scale is w = "
        "{w}. What is the guided prediction?",
        lambda g: (decimal(g, -0.9, 0.9), decimal(g, -0.9, 0.9), decimal(g, 2, 9, 1)),
        (
            WrongWay(
                lambda eps_u, eps_c, w: w * (eps_c - eps_u), "That is the stretched difference: it starts at ε_u."
            ),
            WrongWay(lambda eps_u, eps_c, w: eps_c + w * (eps_c - eps_u), "You started at ε_c: that is w + 1."),
            WrongWay(lambda eps_u, eps_c, w: w * eps_c, "What is stretched is the difference ε_c − ε_u."),
            WrongWay(lambda eps_u, eps_c, w: eps_u + w * (eps_u - eps_c), "The difference has the other sign."),
        ),
        "guidance",
    ),
    Item(
        scale_of_a_paper,
        "A paper writes (1 + g) ε_c − g ε_u and likes g = {g} best. Which w of this course is that?",
        lambda g: (decimal(g, 0.2, 9, 1),),
        (
            WrongWay(lambda g: g, "The same number, another start: theirs is 0 where the label is obeyed, ours is 1."),
            WrongWay(lambda g: g - 1, "The other way round."),
        ),
        "guidance",
    ),
    Item(
        times_as_long,
        lambda eps_u, eps_c, w: (
            f"Without label a network predicts ε_u = {eps_u}, with label ε_c = {eps_c}. The scale is w = {w}. How "
            f"many times as long as ε_c is the guided prediction?"
        ),
        lambda g: (*(tuple(decimal(g, -0.4, 0.4, 1) for _ in range(3)) for _ in range(2)), one_of(g, 3, 5, 7.5, 10)),
        (
            WrongWay(lambda eps_u, eps_c, w: w, "That is the displacement from ε_u, over the difference of the two."),
            WrongWay(lambda eps_u, eps_c, w: w - 1, "That is how far it lies beyond ε_c, in differences of the two."),
            WrongWay(
                lambda eps_u, eps_c, w: times_as_long(eps_u, eps_c, w) ** 2,
                "Those are squares of lengths: take the root.",
            ),
        ),
        "guidance",
        minutes=4,
    ),
    Item(
        calls_with_guidance,
        "You draw {batch} pictures as one batch with {steps} DDIM steps and w = {w}. A call is an evaluation of the "
        "network on a batch; your code leaves out a prediction that does not count. How many calls?",
        lambda g: (whole(g, 12, 60), whole(g, 4, 32), one_of(g, 0.0, 1.0, 1.5, 3.0, 7.5)),
        (
            WrongWay(
                lambda steps, batch, w: steps if w > 1 else 2 * steps,
                "Two calls a step, with label and without; one where w is 0 or 1.",
            ),
            WrongWay(lambda steps, batch, w: steps * batch, "A batch goes through in one call."),
        ),
        "guidance",
        tolerance=1e-4,
    ),
    Item(
        where_guidance_leads,
        "All data together are N(0, 1), the class that you ask for is N({m}, 1). Both predictions are exact, and the "
        "steps are tiny. Around which place do samples gather at w = {w}?",
        lambda g: (decimal(g, -3, 3, 1), decimal(g, 1.5, 8, 1)),
        (
            WrongWay(lambda m, w: m, "Guidance goes past the class: put both predictions into the blend."),
            WrongWay(lambda m, w: m + w, "The blend multiplies the mean of the class."),
            WrongWay(lambda m, w: m * (w + 1), "That is the scale of Ho & Salimans."),
        ),
        "guidance",
    ),
)
