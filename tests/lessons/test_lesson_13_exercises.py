"""Right answers to lesson 13's exercises that are not the reference, and the numbers that their text states."""

import math
from itertools import count

import numpy as np
import scipy.linalg
import scipy.spatial
import scipy.stats
import torch

from lessons_src import metrics
from lessons_src.lessons.lesson_13 import exercises, votes
from lessons_src.lessons.lesson_13.curves import expected_bias


def both(covariance):
    """Of two features of variance 1."""
    return torch.tensor([[1, covariance], [covariance, 1]], dtype=torch.float32)


def frechet_by_scipy(a, b):
    A, B = (np.cov(x.numpy(), rowvar=False) for x in (a, b))
    root = scipy.linalg.sqrtm(A @ B).real
    gap = a.numpy().mean(0) - b.numpy().mean(0)
    return float(gap @ gap + np.trace(A + B - 2 * root))


def neighbours_by_trees(real, samples, k):
    def share(x, members):
        radii = scipy.spatial.KDTree(members).query(members, k + 1)[0][:, k]
        return float(np.mean([(np.linalg.norm(members - point, axis=1) <= radii).any() for point in x]))

    real, samples = real.numpy(), samples.numpy()
    return share(samples, real), share(real, samples)


def votes_by_scipy(p, power):
    for n in count(1):
        most = int(scipy.stats.binom.isf(0.025, n, 0.5))  # more than these are seldom
        if scipy.stats.binom.sf(most, n, p) >= power:
            return n
    return None


def faults_row_by_row(value, n, floor, floor_n, judge, d):
    table = []
    for score, size, (mean, spread), other, (ours, theirs) in zip(
        *(x.tolist() for x in (value, n, floor, floor_n, judge)), strict=True
    ):
        stated = not (math.isnan(mean) or math.isnan(spread))
        table.append([not stated, stated and other != size, size - 1 < d, ours != theirs, score + 3 * spread < mean])
    return torch.tensor(table)


def faults_into_a_table(value, n, floor, floor_n, judge, d):
    table = torch.zeros(len(n), 5, dtype=torch.bool)
    table[:, 0] = floor.sum(1).isnan()
    table[:, 1] = torch.where(table[:, 0], False, floor_n != n)
    table[:, 2] = n < d + 1
    table[:, 3] = judge.diff(dim=1)[:, 0] != 0
    table[:, 4] = (value - floor[:, 0]) / floor[:, 1] < -3
    return table


def suspects_by_scipy(samples, train, held_out, alarm):
    tree = scipy.spatial.KDTree(train.numpy())
    ours, null = (tree.query(x.numpy())[0] for x in (samples, held_out))
    found = int((ours < np.quantile(null, alarm)).sum())
    return found / len(samples), scipy.stats.binomtest(found, len(samples), alarm, alternative="greater").pvalue


def suspects_with_library(samples, train, held_out, alarm):
    found = metrics.copying(samples, train, held_out, alarm)
    return found.share, float(scipy.stats.binom.sf(round(found.share * len(samples)) - 1, len(samples), alarm))


RIGHT = {
    "frechet": (metrics.frechet_distance, frechet_by_scipy),
    "limit_of": (
        lambda n, distance: float(np.polyfit(1 / n.numpy(), distance.numpy(), 1)[1]),
        lambda n, distance: torch.linalg.lstsq(
            torch.stack([torch.ones(len(n)).double(), 1 / n], 1), distance[:, None]
        ).solution[0, 0],
    ),
    "precision_and_recall": (metrics.precision_recall, neighbours_by_trees),
    "votes_needed": (votes.choose_n, votes_by_scipy),
    "faults": (faults_row_by_row, faults_into_a_table),
    "suspects": (suspects_by_scipy, suspects_with_library),
}
CLAIMS = {
    "1.6": lambda: metrics.frechet_gaussians(torch.zeros(2), both(0.8), torch.zeros(2), both(-0.8)),
    "2.2": lambda: expected_bias(torch.ones(64), 500),
    "1.1": lambda: expected_bias(torch.ones(64), 1000),
    "199": lambda: votes.choose_n(0.6),
    "0.32": lambda: scipy.stats.binom.sf(2, 40, 0.05),
}


def test_every_fault_is_planted_and_no_report_has_them_all():
    for seed in range(20):
        found = exercises.faults(*exercises.reports(torch.Generator().manual_seed(seed), 12, 64))
        assert found.any(0).all()
        assert not found.any(1).all()


def test_the_roots_of_covariances_that_commute_may_be_multiplied():
    """As the sentence for those who multiply roots says; 1.6 is such a case."""
    A, B = both(0.8), both(-0.8)
    apart = A.trace() + B.trace() - 2 * (exercises._root(A) @ exercises._root(B)).trace()
    assert abs(apart.item() - 1.6) < 1e-5
