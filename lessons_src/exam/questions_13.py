"""Questions on lesson 13: what a score says, and what it does not."""

import math
from itertools import pairwise

import torch

from lessons_src.exam.items import Item, decimal, one, one_of
from lessons_src.exercises.inputs import whole
from lessons_src.exercises.tasks import WrongWay
from lessons_src.lessons.lesson_13.exercises import limit_of, precision_and_recall, tails
from lessons_src.metrics import frechet_gaussians, inception_score


def frechet_by_hand(mean, variance):
    """Frechet distance of one feature from N(0, 1)."""
    return frechet_gaussians(one(mean)[0], one(variance), one(0.0)[0], one(1.0))


def at_infinitely_many(n, few, many):
    """A distance at n and 4 n samples, extended to infinitely many."""
    return limit_of(torch.tensor([n, 4 * n]), torch.tensor([few, many], dtype=torch.float64)).item()


def covered_and_missed(real, samples):
    """Precision and recall of a few numbers, with balls out to the nearest neighbour."""
    real, samples = (torch.tensor(points, dtype=torch.float64)[:, None] for points in (real, samples))
    return [share.item() for share in precision_and_recall(real, samples, 1)]


def score_of_the_inception(shares):
    """Inception score of samples that are read with certainty."""
    rows = [row for row, share in enumerate(shares) for _ in range(round(100 * share))]
    return inception_score(torch.eye(len(shares), dtype=torch.float64)[rows])


def luck_of_a_vote(n, wins):
    """Two-sided chance of at least so clear a vote if nobody has a preference."""
    return min(1.0, 2 * tails(n, 0.5)[wins])


def _few(generator):
    """Five real numbers and five samples that reach farther up; no distance is as long as another set's."""
    real, samples = (torch.randperm(45, generator=generator)[:5].sort().values.tolist() for _ in range(2))
    return tuple(n / 10 for n in real), tuple(round(n / 10 + 1.05, 2) for n in samples)


def _shares(generator):
    """Two to four classes that share all samples, in steps of five per cent."""
    cuts = 1 + torch.randperm(19, generator=generator)[: whole(generator, 1, 3)].sort().values
    ends = [0, *cuts.tolist(), 20]
    return (tuple((b - a) * 5 / 100 for a, b in pairwise(ends)),)


ITEMS = (
    Item(
        frechet_by_hand,
        "A judge has one feature. Over real pictures it has mean 0 and variance 1, over samples mean {mean} and "
        "variance {variance}. What is the Fréchet distance?",
        lambda g: (decimal(g, -2, 2, 1), decimal(g, 1.5, 6, 1)),
        (
            WrongWay(lambda mean, variance: mean**2, "The widths differ, too."),
            WrongWay(lambda mean, variance: mean**2 + variance + 1, "− 2 √(A B) is missing."),
            WrongWay(
                lambda mean, variance: mean**2 + (variance - 1) ** 2, "Compare standard deviations, not variances."
            ),
            WrongWay(lambda mean, variance: math.sqrt(frechet_by_hand(mean, variance)), "It is a squared distance."),
        ),
    ),
    Item(
        at_infinitely_many,
        "A Fréchet distance is {few} with n = {n} samples and {many} with four times as many. Its bias goes as 1/n. "
        "What would it be with infinitely many?",
        lambda g: (lambda n, limit, bias: (n, round(limit + bias, 3), round(limit + bias / 4, 3)))(
            one_of(g, 250, 500, 1000), decimal(g, 0.3, 2), decimal(g, 0.4, 3)
        ),
        (
            WrongWay(lambda n, few, many: many, "The larger set has a quarter of the bias still."),
            WrongWay(
                lambda n, few, many: many - (few - many), "The line is straight in 1/n, and 1/n falls to a quarter."
            ),
            WrongWay(lambda n, few, many: (few + many) / 2, "Both are too large: averaging does not help."),
        ),
        tolerance=2e-3,
    ),
    Item(
        covered_and_missed,
        lambda real, samples: (
            f"Real features are the numbers {', '.join(map(str, real))}; samples have {', '.join(map(str, samples))}. "
            f"A point's ball reaches to its *nearest* neighbour in its own set. Give precision and recall, two "
            f"numbers."
        ),
        _few,
        (
            WrongWay(lambda real, samples: covered_and_missed(real, samples)[::-1], "They have changed places."),
            WrongWay(lambda real, samples: [1.0, 1.0], "Some points lie outside of all balls of the other set."),
        ),
        minutes=5,
    ),
    Item(
        score_of_the_inception,
        lambda shares: (
            f"A generator draws only {len(shares)} classes; their shares of all samples are "
            f"{', '.join(f'{100 * share:.0f} %' for share in shares)}. The judge reads every sample with certainty. "
            "What is the inception score?"
        ),
        _shares,
        (
            WrongWay(lambda shares: float(len(shares)), "Only if all classes came equally often."),
            WrongWay(lambda shares: math.log(score_of_the_inception(shares)), "It is exp of that."),
            WrongWay(lambda shares: 1 / max(shares), "Every class counts, not the largest alone."),
        ),
        minutes=4,
    ),
    Item(
        luck_of_a_vote,
        "In a blind comparison {wins} of {n} decided votes go to sampler X. If nobody had a preference, how likely "
        "would a vote be that is at least so clear, to either side?",
        lambda g: (lambda n: (n, whole(g, (3 * n + 4) // 5, n - 1)))(whole(g, 8, 24)),
        (
            WrongWay(lambda n, wins: tails(n, 0.5)[wins], "To *either* side: that is twice as likely."),
            WrongWay(lambda n, wins: 2 * math.comb(n, wins) / 2**n, "At least so clear: clearer votes count, too."),
            WrongWay(lambda n, wins: 1 - wins / n, "That is the share of the other votes."),
        ),
        minutes=5,
    ),
)
