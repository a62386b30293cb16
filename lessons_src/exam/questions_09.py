"""Questions on lesson 09: calls, orders, memory, and who is as good as whom."""

import string

import torch

from lessons_src.exam.items import Item, decimal, one_of
from lessons_src.exercises.inputs import whole
from lessons_src.exercises.tasks import WrongWay
from lessons_src.lessons.lesson_09.exercises import affordable_steps, on_the_front, order_of, two_m_step


def steps_for_a_budget(solver, budget, guided):
    """What a budget of network evaluations pays for."""
    return affordable_steps(solver, budget, guided)


def order_of_a_solver(calls, error, later):
    """Order from two points, the second with twice the calls."""
    return order_of(torch.tensor([calls, 2 * calls]), torch.tensor([error, later], dtype=torch.float64)).item()


def weight_of_the_newer(before, coming):
    """Weight of the newer clean guess in 2M's mixture."""
    lam = torch.tensor([0.0, before, before + coming], dtype=torch.float64)
    ab = torch.sigmoid(2 * lam).tolist()
    new, old = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    x = torch.zeros_like(new)
    alone = two_m_step(x, new, new, *ab)  # with both guesses 1: all of the weight
    return (two_m_step(x, new, old, *ab) / alone).item()


def as_good_or_worse(gap, half, margin):
    """Which of three things an interval shows."""
    return "A" if gap + half < margin else "B" if gap - half > 0 else "C"


def who_is_on_the_front(calls, distances):
    """Letters of the points that no other one dominates."""
    front = on_the_front(torch.tensor(calls), torch.tensor(distances, dtype=torch.float64))
    return "".join(letter for letter, on in zip(string.ascii_uppercase, front.tolist(), strict=False) if on)


def _interval(generator):
    """A gap, its half width and a margin that show one of three things, each as often as the others."""
    verdict, half, margin = one_of(generator, *"ABC"), decimal(generator, 0.15, 0.3), decimal(generator, 0.2, 0.28)
    if verdict == "A":
        half = decimal(generator, 0.05, 0.15)
        return decimal(generator, -0.2, min(half, margin - half) - 0.02), half, margin
    if verdict == "B":
        return decimal(generator, max(half, margin - half) + 0.02, 0.8), half, margin
    return decimal(generator, margin - half + 0.01, half - 0.01), half, margin


def _points(generator):
    """Calls and distances of five samplers."""
    calls = 4 + torch.randperm(57, generator=generator)[:5]
    return tuple(calls.tolist()), tuple((70 + n) / 100 for n in torch.randperm(230, generator=generator)[:5].tolist())


ITEMS = (
    Item(
        steps_for_a_budget,
        lambda solver, budget, guided: (
            f"You may spend {budget} network evaluations a picture. You sample with {solver}, "
            + ("guided at w = 4. " if guided else "without guidance. ")
            + "How many steps is that at most? (Heun's last step costs one call. PLMS needs one call more than it "
            "makes steps.)"
        ),
        lambda g: (one_of(g, "Heun", "PLMS", "DPM-Solver++(2M)", "UniPC-2"), whole(g, 20, 60), one_of(g, True, False)),
        (
            WrongWay(
                lambda solver, budget, guided: affordable_steps(solver, budget, not guided),
                "Guidance calls the network twice for every prediction, and only guidance does.",
            ),
            WrongWay(
                lambda solver, budget, guided: budget if guided or solver in ("Heun", "PLMS") else budget // 2,
                "Count the calls of a step.",
            ),
        ),
        "fast sampling",
        tolerance=1e-4,
    ),
    Item(
        order_of_a_solver,
        "With {calls} calls a solver is {error} off, with twice as many it is {later} off. Which order do the two "
        "points show?",
        lambda g: (lambda e, f: (whole(g, 8, 40), e, round(e / f, 5)))(
            decimal(g, 0.02, 0.09, 3), one_of(g, 2.1, 3.8, 4.2, 7.5, 8.4, 15)
        ),
        (
            WrongWay(lambda calls, error, later: error / later, "That is 2 to the power of the order."),
            WrongWay(lambda calls, error, later: torch.tensor(error / later).log().item(), "The logarithm to base 2."),
            WrongWay(
                lambda calls, error, later: error / later / 2, "Order p divides the error by 2 to the power of p."
            ),
        ),
        "fast sampling",
        tolerance=5e-3,
    ),
    Item(
        weight_of_the_newer,
        "DPM-Solver++(2M) has made a step of length {before} in λ (half the log-SNR). The coming one is {coming} "
        "long. Its x̄₀ is a weighted sum of the last two clean guesses. Which weight does the newer one get?",
        lambda g: (decimal(g, 0.2, 1, 1), decimal(g, 0.2, 1.5, 1)),
        (
            WrongWay(lambda before, coming: 1 + coming / before, "The *middle* of the coming step, not its end."),
            WrongWay(lambda before, coming: 1 + before / (2 * coming), "The lengths have changed places."),
            WrongWay(lambda before, coming: -coming / (2 * before), "That is the weight of the older one."),
            WrongWay(lambda before, coming: 0.5, "A line is prolonged: the newer guess counts more than once."),
        ),
        "fast sampling",
    ),
    Item(
        as_good_or_worse,
        "Your margin is {margin}. A solver's distance is {gap} above that of the reference, with an interval of ± "
        "{half} (95 %, in pairs). What is shown? **A** as good · **B** worse · **C** neither of them. One letter.",
        _interval,
        (
            WrongWay(
                lambda gap, half, margin: (
                    "C" if as_good_or_worse(gap, half, margin) != "C" else "A" if gap < margin else "B"
                ),
                "The whole interval counts: as good if it lies below the margin, worse if it lies above 0.",
            ),
        ),
        "fast sampling",
    ),
    Item(
        who_is_on_the_front,
        lambda calls, distances: (
            "Five samplers of one network; a small distance is good. Which of them are on the front?\n\n"
            "| | network calls | distance |\n|---|--:|--:|\n"
            + "\n".join(
                f"| {letter} | {n} | {distance} |"
                for letter, n, distance in zip(string.ascii_uppercase, calls, distances, strict=False)
            )
        ),
        _points,
        (
            WrongWay(
                lambda calls, distances: string.ascii_uppercase[distances.index(min(distances))],
                "That is the best of all. A cheaper one that nobody beats is on the front, too.",
            ),
            WrongWay(
                lambda calls, distances: "".join(sorted(set("ABCDE") - set(who_is_on_the_front(calls, distances)))),
                "Those are dominated: another one costs no more and is better.",
            ),
        ),
        "fast sampling",
    ),
)
