"""Guides of lesson 07: what is claimed of exact laws is computed, and what was measured is what the code computes."""

import math

import pytest
import torch

from lessons_src import data, measurements
from lessons_src.lessons.lesson_07 import laws, steering
from lessons_src.oracle import GaussianMixture

LEVELS = (0.9, 0.3, 0.01)


# --- Exact laws


@pytest.mark.parametrize("alpha_bar", LEVELS)
def test_a_guide_that_knows_noise_points_as_the_exact_one_does_and_a_clean_one_does_not(alpha_bar):
    found = {name: laws.agreement(name, alpha_bar) for name in laws.guides()}
    assert found[laws.EXACT].cosine == pytest.approx((1, 1, 1))
    assert found[laws.EXACT].longer == pytest.approx(1)
    assert found[laws.AWARE].cosine.low > 0.95
    for clean in (laws.CLEAN_EXACT, laws.CLEAN):
        assert found[clean].cosine.high < found[laws.AWARE].cosine.low
    if alpha_bar < 0.5:
        assert found[laws.CLEAN_EXACT].cosine.high < 0.9
        assert found[laws.CLEAN_EXACT].longer > 50
        assert 0.5 < found[laws.AWARE].longer < 2


def test_reading_rightly_says_nothing_about_the_gradient():
    """The clean classifier's boundaries on the ring are the right ones at every level: only its slopes are wrong."""
    for alpha_bar in LEVELS:
        exact, clean = (laws.agreement(name, alpha_bar).accuracy for name in (laws.EXACT, laws.CLEAN_EXACT))
        assert clean == exact


def test_the_exact_guide_lands_on_its_class_and_the_perfect_clean_one_beside_it():
    two = GaussianMixture([0.5, 0.5], [[1.0], [-1.0]], [[[0.25]], [[0.25]]])
    x = torch.special.ndtri((torch.arange(401, dtype=torch.float64)[:, None] + 0.5) / 401)
    start = math.exp(-12)
    right = laws.guided_flow(two, two.log_class_posterior, 0, 1, x, start)
    clean = laws.guided_flow(two, lambda x, ab: two.log_class_posterior(x, 1.0), 0, 1, x, start)
    assert (right.mean().item(), right.std(correction=0).item()) == pytest.approx((0.998761, 0.499196), abs=1e-4)
    assert clean.mean() > 1.1  # how far beside depends on the solver: the clean gradient is hundreds of times too long
    assert clean.std(correction=0) < 0.25


def test_arrows_take_one_class_or_one_a_point():
    ring, x = data.ring(), torch.randn(5, 2, dtype=torch.float64)
    each = laws.arrows(ring.log_class_posterior, x, 0.5, torch.full((5,), 3))
    assert torch.equal(each, laws.arrows(ring.log_class_posterior, x, 0.5, 3))
    assert torch.allclose(each, ring.score(x, 0.5, 3) - ring.score(x, 0.5), rtol=0, atol=1e-12)


# --- Digits


def rows(guide: str, base: str, start: int = 1000) -> dict[float, dict]:
    wanted = {"guide": guide, "base": base, "start": start}
    return {row["w"]: row for row in measurements.load("steering") if wanted.items() <= row.items()}


@pytest.mark.parametrize(("guide", "w"), [(steering.AWARE, 3.0), (steering.FREE, 1.5), (steering.CLIP, 4.0)])
def test_a_row_is_what_the_code_draws(guide, w):
    row = rows(guide, "its own" if guide == steering.FREE else "unconditional")[w]
    x, cost = steering.draw(guide, w, 100)
    label = torch.arange(100) % 10
    assert {name: row[name] for name in cost if name != "CPU seconds"} == {
        name: passes for name, passes in cost.items() if name != "CPU seconds"
    }
    read = (steering.reads(guide, x) == label).double()
    assert (read - steering.hits_of(row, "guide")[:100]).abs().mean() <= 0.02
    assert row["guide accuracy"] == pytest.approx(steering.hits_of(row, "guide").mean().item())
    assert row["accuracy"] == pytest.approx(steering.hits_of(row, "judge").mean().item())
    assert (x[:10] - measurements.digits_of(row)).abs().mean() < 0.02


def test_costs_in_passes():
    assert steering.draw(steering.FREE, 2.0, 10)[1].items() >= {"base forward": 40, "guide forward": 0}.items()
    twenty = dict.fromkeys(("base forward", "guide forward", "guide backward"), 20)
    assert steering.draw(steering.AWARE, 2.0, 10)[1].items() >= twenty.items()


def test_memory_grows_with_the_batch():
    def kept(n: int) -> int:
        return steering.kept_bytes(steering.noise_aware, torch.randn(n, 1, 28, 28), torch.full((n,), 500))

    assert kept(20) == pytest.approx(2 * kept(10), rel=0.01)
    assert 100_000 < kept(10) / 10 < 400_000


def test_bits_come_back():
    hits = torch.tensor([True, False, False, True, True, False, True, True, True, False])
    row = {"n": 10, "guide is right": steering.packed(hits)}
    assert torch.equal(steering.hits_of(row, "guide"), hits.double())


def line(w: float, accuracy: float, frechet: float) -> dict:
    rest = dict.fromkeys(("recall", "spread", "cosine", "CPU seconds"), w)
    return {"w": w, "accuracy": accuracy, "frechet": frechet, "frechet without a tenth": [frechet] * 10, **rest}


def test_scales_are_compared_where_the_judge_reads_equally_many():
    found = steering.at_accuracy([line(3, 0.9, 1.0), line(1, 0.5, 3.0), line(5, 0.8, 9.0)], 0.7)
    assert (found["w"], found["frechet"], found["recall"], found["standard error"]) == pytest.approx((2, 2, 2, 0))
    with pytest.raises(ValueError, match=r"accuracy is 0.95; expected a share between"):
        steering.at_accuracy([line(1, 0.5, 3.0), line(3, 0.9, 1.0)], 0.95)
