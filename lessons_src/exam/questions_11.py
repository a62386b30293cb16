"""Questions on lesson 11: students that need few calls."""

import math

import torch
from torch import nn

from lessons_src.distillation import v_to
from lessons_src.exam.items import Item, decimal, levels, one, one_of
from lessons_src.exercises.inputs import whole
from lessons_src.exercises.tasks import WrongWay
from lessons_src.lora import LowRank
from lessons_src.process import add_noise, x0_from_velocity
from lessons_src.schedules import NoiseSchedule
from lessons_src.sde import gaussian_flow


def rounds_of_halving(steps, wanted):
    """Rounds of progressive distillation from steps to wanted."""
    rounds = 0
    while steps > wanted:
        steps, rounds = steps // 2, rounds + 1
    return rounds


def guess_of_the_student(x, end, ab_t, ab_s):
    """The clean guess whose one DDIM step leads where the teacher's two steps have led."""
    schedule = NoiseSchedule(torch.tensor([1.0, ab_s, ab_t], dtype=torch.float64))
    v = v_to(schedule, one(x), one(end), torch.tensor([2]), torch.tensor([1]))
    return x0_from_velocity(one(x), v, ab_t).item()


def answer_of_a_consistency_model(x, mean, std, ab):
    """The exact consistency function of data N(mean, std^2)."""
    return gaussian_flow(one(x), one(mean)[0], one(std**2), ab, 1.0).item()


def into_the_second_call(first, z, ab):
    """What a consistency model is given in its second step."""
    return add_noise(one(first), one(z), ab).item()


def weights_of_an_adapter(inputs, outputs, rank):
    """Trainable weights of a low-rank change, in per cent of the layer's own."""
    layer = LowRank(nn.Linear(inputs, outputs, bias=False), rank)
    trained = sum(weight.numel() for weight in layer.parameters() if weight.requires_grad)
    return 100 * trained / layer.layer.weight.numel()


ITEMS = (
    Item(
        rounds_of_halving,
        "Progressive distillation makes students that take half of their teacher's steps. How many rounds lead from "
        "{steps} steps to {wanted}?",
        lambda g: (lambda w, k: (w * 2**k, w))(one_of(g, 1, 2, 4, 8), whole(g, 3, 8)),
        (
            WrongWay(
                lambda steps, wanted: steps // wanted, "Every round halves: that is 2 to the power of the rounds."
            ),
            WrongWay(
                lambda steps, wanted: rounds_of_halving(steps, wanted) + 1, "The first student has half the steps."
            ),
            WrongWay(
                lambda steps, wanted: rounds_of_halving(steps, wanted) - 1, "Count once more: the last one counts."
            ),
        ),
        "fast sampling",
        tolerance=1e-4,
    ),
    Item(
        guess_of_the_student,
        "From x = {x} at ᾱₜ = {ab_t} two DDIM steps of the teacher lead to {end} at ᾱₛ = {ab_s}. The student is to "
        "get there in one DDIM step. Which clean guess x̂₀ must it have?",
        lambda g: (decimal(g, -1.5, 1.5, 1), decimal(g, -1.5, 1.5, 1), *levels(g)),
        (
            WrongWay(lambda x, end, ab_t, ab_s: end, "The end is at level s, not clean yet."),
            WrongWay(
                lambda x, end, ab_t, ab_s: end / math.sqrt(ab_s), "The end holds noise: solve the DDIM step for x̂₀."
            ),
            WrongWay(
                lambda x, end, ab_t, ab_s: (end - x) / (math.sqrt(ab_s) - math.sqrt(ab_t)),
                "x is multiplied by √(1 − ᾱₛ) / √(1 − ᾱₜ) before it is taken off, above and below.",
            ),
        ),
        "fast sampling",
        minutes=5,
    ),
    Item(
        answer_of_a_consistency_model,
        "The data are N({mean}, s²) with s = {std}. What does an exact consistency model answer in one call at x = "
        "{x}, where ᾱ = {ab}?",
        lambda g: (decimal(g, -1.5, 1.5, 1), decimal(g, -2, 2, 1), decimal(g, 0.3, 0.8, 1), decimal(g, 0.1, 0.7)),
        (
            WrongWay(
                lambda x, mean, std, ab: (
                    mean + std**2 * math.sqrt(ab) / (ab * std**2 + 1 - ab) * (x - math.sqrt(ab) * mean)
                ),
                "That is the average of all data that fit, a denoiser's answer. It goes to the end of the path.",
            ),
            WrongWay(lambda x, mean, std, ab: mean, "Every start has an end of its own."),
            WrongWay(
                lambda x, mean, std, ab: x / math.sqrt(ab),
                "The noise goes away too: a point keeps its standard position.",
            ),
        ),
        "differential equations",
        minutes=5,
    ),
    Item(
        into_the_second_call,
        "A consistency model answers {first} in its first call. The second step begins at ᾱ = {ab}, and the fresh "
        "noise is z = {z}. What goes into the second call?",
        lambda g: (decimal(g, -1, 1), decimal(g, -1.9, 1.9), decimal(g, 0.2, 0.9)),
        (
            WrongWay(lambda first, z, ab: first, "Noise it again first: at that level the model expects noise."),
            WrongWay(lambda first, z, ab: first + math.sqrt(1 - ab) * z, "The signal shrinks, too: √ᾱ."),
            WrongWay(lambda first, z, ab: ab * first + (1 - ab) * z, "The roots are missing."),
        ),
        "fast sampling",
    ),
    Item(
        weights_of_an_adapter,
        "A linear layer has {inputs} inputs and {outputs} outputs. A low-rank adapter of rank {rank} is trained "
        "beside it. How many per cent of the layer's own weights has the adapter?",
        lambda g: (one_of(g, 64, 128, 192, 256), one_of(g, 96, 160, 320), one_of(g, 2, 4, 8)),
        (
            WrongWay(lambda inputs, outputs, rank: 100 * rank / min(inputs, outputs), "There are two matrices."),
            WrongWay(lambda inputs, outputs, rank: 100 * rank * (inputs + outputs), "That is 100 times their number."),
            WrongWay(
                lambda inputs, outputs, rank: 100 * 2 * rank * inputs / (inputs * outputs),
                "One matrix has the inputs, the other the outputs.",
            ),
        ),
        "fast sampling",
    ),
)
