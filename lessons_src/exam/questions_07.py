"""Questions on lesson 07: another network's gradient."""

import math

import torch

from lessons_src.exam.items import Item, decimal, one, one_of
from lessons_src.exercises.inputs import whole
from lessons_src.exercises.tasks import WrongWay
from lessons_src.lessons.lesson_07.exercises import guided_eps, passes
from lessons_src.oracle import GaussianMixture
from lessons_src.process import score_from_eps


def _classes(std):
    """Two equally frequent classes, 1 at +1 and 0 at -1."""
    return GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [[[std**2]]] * 2)


def steered_by_hand(eps, gradient, ab, w):
    """A prediction under a classifier's gradient."""
    return guided_eps(one(eps), one(gradient), torch.tensor([ab], dtype=torch.float64), w).item()


def classifier_inside(eps_u, eps_c, ab):
    """The gradient of log p(y | x_t) that two predictions imply."""
    return (score_from_eps(one(eps_c), ab) - score_from_eps(one(eps_u), ab)).item()


def sure_of_a_class(std, x, ab):
    """Probability of the class at +1, of a noisy point."""
    return _classes(std).class_posterior(one(x), ab)[0, 1].item()


def passes_of_both(batch, steps, w_free, w_guide):
    """Calls of the network; of the guide, forward and backward."""
    base, _, forward, backward = passes(batch, steps, w_free, w_guide)
    return [base, forward, backward]


def told_twice(w):
    """The scale of classifier-free guidance that does what a classifier does on a network with label."""
    classes, x, ab = _classes(0.5), one(0.3), 0.4
    eps_u, eps_c = classes.eps(x, ab), classes.eps(x, ab, 1)
    gradient = (eps_u - eps_c) / math.sqrt(1 - ab)
    steered = guided_eps(eps_c, gradient, torch.tensor([ab], dtype=torch.float64), w)
    return ((steered - eps_u) / (eps_c - eps_u)).item()


ITEMS = (
    Item(
        steered_by_hand,
        "In one pixel the network predicts ε = {eps}. The gradient of log p(y | xₜ) there is {gradient}; ᾱₜ = {ab}, "
        "and the classifier's scale is w = {w}. What is the guided ε?",
        lambda g: (decimal(g, -1, 1, 1), decimal(g, -2, 2, 1), decimal(g, 0.1, 0.85), decimal(g, 1.5, 8, 1)),
        (
            WrongWay(
                lambda eps, gradient, ab, w: eps + w * math.sqrt(1 - ab) * gradient,
                "The sign: a sampler takes ε out, so to climb it must become less.",
            ),
            WrongWay(lambda eps, gradient, ab, w: eps - w * gradient, "The size of the noise, √(1 − ᾱ), is missing."),
            WrongWay(
                lambda eps, gradient, ab, w: eps - w * math.sqrt(ab) * gradient, "The factor is that of the noise."
            ),
            WrongWay(lambda eps, gradient, ab, w: eps - w * (1 - ab) * gradient, "The factor is √(1 − ᾱ)."),
        ),
        "guidance",
    ),
    Item(
        classifier_inside,
        "At ᾱₜ = {ab} a network predicts ε_u = {eps_u} without label and ε_c = {eps_c} with it. Both are perfect. "
        "What is the gradient of log p(y | xₜ) there?",
        lambda g: (decimal(g, -1, 1), decimal(g, -1, 1), decimal(g, 0.1, 0.85)),
        (
            WrongWay(
                lambda eps_u, eps_c, ab: (eps_c - eps_u) / math.sqrt(1 - ab), "The sign: a score is −ε / √(1 − ᾱ)."
            ),
            WrongWay(lambda eps_u, eps_c, ab: eps_u - eps_c, "Divide by the size of the noise, √(1 − ᾱ)."),
            WrongWay(lambda eps_u, eps_c, ab: (eps_u - eps_c) / (1 - ab), "Divide by √(1 − ᾱ), not by the variance."),
        ),
        "guidance",
    ),
    Item(
        sure_of_a_class,
        "Two classes are equally frequent: N(+1, s²) and N(−1, s²) with s = {std}. A noisy point is at xₜ = {x}, with "
        "ᾱₜ = {ab}. How probable is it that its clean point is of the class at +1?",
        lambda g: (decimal(g, 0.3, 0.9, 1), decimal(g, -0.9, 0.9), decimal(g, 0.2, 0.8)),
        (
            WrongWay(
                lambda std, x, ab: 1 / (1 + math.exp(-2 * x / std**2)),
                "That reads the point as if it were clean: at noise the classes lie closer and are wider.",
            ),
            WrongWay(lambda std, x, ab: 1 - sure_of_a_class(std, x, ab), "That is the other class."),
            WrongWay(
                lambda std, x, ab: 1 / (1 + math.exp(-2 * math.sqrt(ab) * x / std**2)),
                "The classes are wider in noise: ᾱ s² + 1 − ᾱ.",
            ),
        ),
        "guidance",
        minutes=5,
    ),
    Item(
        passes_of_both,
        "You draw {batch} digits in one batch, {steps} steps. Classifier-free guidance has w = {w_free}, and a "
        "classifier steers on top of it with w = {w_guide}; what does not count is left out. Give three numbers: "
        "calls of the digit network, forward passes of the classifier, backward passes of the classifier.",
        lambda g: (whole(g, 4, 40), whole(g, 10, 60), one_of(g, 0, 1, 2, 3), one_of(g, 1, 2, 5)),
        (
            WrongWay(
                lambda batch, steps, w_free, w_guide: [steps if w_free > 1 else 2 * steps, steps, steps],
                "Two calls a step where both predictions count, one at w = 0 and w = 1.",
            ),
            WrongWay(
                lambda batch, steps, w_free, w_guide: [passes_of_both(batch, steps, w_free, w_guide)[0], steps, 0],
                "A gradient takes a backward pass.",
            ),
            WrongWay(
                lambda batch, steps, w_free, w_guide: [
                    batch * n for n in passes_of_both(batch, steps, w_free, w_guide)
                ],
                "A batch goes through in one call.",
            ),
        ),
        "guidance",
        tolerance=1e-4,
    ),
    Item(
        told_twice,
        "The network is perfect and *gets the label*. A perfect noise-aware classifier steers it to the same label, w "
        "= {w}. Which scale of classifier-free guidance would do the same?",
        lambda g: (decimal(g, 0.2, 6, 1),),
        (
            WrongWay(lambda w: w, "The network knows the label already: it counts once more."),
            WrongWay(lambda w: w - 1, "The label counts once more, not once less."),
            WrongWay(lambda w: 2 * w, "The network's own label counts once, whatever w is."),
        ),
        "guidance",
    ),
)
