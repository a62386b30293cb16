"""Guides of lesson 07: what is claimed of exact laws is computed, and what was measured is what the code computes."""

import math

import pytest
import torch

from lessons_src import data, measurements
from lessons_src.guidance import gradient
from lessons_src.lessons.lesson_07 import laws, steering
from lessons_src.measurements import jackknife_error
from lessons_src.metrics import wilson_interval
from lessons_src.oracle import GaussianMixture

LEVELS = (0.5, 0.3, 0.01)


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


@pytest.mark.parametrize(("alpha_bar", "cosine", "longer"), [(0.3, 0.87424, 71.2487), (0.01, 0.71322, 616.968)])
def test_cosine_and_length_of_the_perfect_clean_guide(alpha_bar, cosine, longer):
    """Numbers that were computed by other means: from squared distances to the means, with one norm for all rows."""
    found = laws.agreement(laws.CLEAN_EXACT, alpha_bar)
    assert (found.cosine.value, found.longer) == pytest.approx((cosine, longer), rel=1e-4)


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


def test_guides_are_fooled_and_the_clean_one_cannot_steer_at_all():
    """Every claim with an interval: the gap between guide and judge, and the judge's accuracy under each guide."""
    aware, clean = rows(steering.AWARE, "unconditional"), rows(steering.CLEAN, "unconditional", 950)
    gaps = {w: steering.gap(row) for w, row in aware.items()}
    assert all(gaps[w].low > 0 for w in gaps if w > 0)
    assert gaps[0.0].low < 0 < gaps[0.0].high
    assert max(gaps, key=lambda w: gaps[w].value) == 2.0
    assert gaps[2.0].low > gaps[15.0].high
    right = {w: wilson_interval(round(1000 * row["accuracy"]), 1000) for w, row in aware.items()}
    assert 0.4 < right[1.0].low < right[1.0].high < 0.6  # w = 1 is not yet the conditional law: the classifier errs
    assert right[8.0].low > 0.9
    assert all(row["guide accuracy"] < 0.3 and row["frechet"] > 20 for row in clean.values())


@pytest.mark.parametrize(("guide", "base"), [(steering.AWARE, "unconditional"), (steering.CLIP, "unconditional")])
def test_classifier_free_guidance_wins_from_an_unconditional_base_at_equal_accuracy(guide, base):
    free = steering.at_accuracy(list(rows(steering.FREE, "its own").values()), 0.97)
    other = steering.at_accuracy(list(rows(guide, base).values()), 0.97)
    error = (free["standard error"] ** 2 + other["standard error"] ** 2) ** 0.5
    assert other["frechet"] - free["frechet"] > 5 * error
    assert other["CPU seconds"] < free["CPU seconds"]


def test_from_a_conditional_base_a_classifier_does_as_well_as_classifier_free_guidance():
    free, steered = rows(steering.FREE, "its own")[1.2], rows(steering.AWARE, "conditional")[0.5]
    error = jackknife_error(
        [b - a for a, b in zip(*(r["frechet without a tenth"] for r in (free, steered)), strict=True)]
    )
    assert abs(steered["frechet"] - free["frechet"]) < 3 * error
    assert abs(steered["accuracy"] - free["accuracy"]) < 0.01


def test_words_that_the_digit_network_never_learned_can_be_asked_for():
    without, steered = steering.in_words(0.0), steering.in_words(5.0)
    for word in ("thickness", "slant"):
        assert without[word].high < 0.55 < 0.65 < steered[word].low
    assert (steered["thickness"].value, steered["slant"].value) == pytest.approx((1, 77 / 90), abs=0.04)


@pytest.mark.parametrize(("guide", "w"), [(steering.AWARE, 3.0), (steering.FREE, 1.5), (steering.CLIP, 4.0)])
def test_a_row_is_what_the_code_draws(guide, w):
    row = rows(guide, "its own" if guide == steering.FREE else "unconditional")[w]
    x, cost = steering.draw(guide, w, 50)
    label = torch.arange(50) % 10
    assert {name: row[name] for name in cost if name != "CPU seconds"} == {
        name: passes for name, passes in cost.items() if name != "CPU seconds"
    }
    read = (steering.reads(guide, x) == label).double()
    assert (read - steering.hits_of(row, "guide")[:50]).abs().mean() <= 0.02
    assert row["guide accuracy"] == pytest.approx(steering.hits_of(row, "guide").mean().item())
    assert row["accuracy"] == pytest.approx(steering.hits_of(row, "judge").mean().item())
    assert (x[:10] - measurements.digits_of(row)).abs().mean() < 0.02


@pytest.mark.parametrize("name", [steering.AWARE, steering.CLEAN])
def test_a_row_of_reading_is_what_the_code_reads(name):
    (row,) = (row for row in measurements.load("reading") if (row["guide"], row["t"]) == (name, 500))
    found = steering.read_noisy(name, 500)
    assert {key: row[key] for key in found} == pytest.approx(found, rel=0.02, abs=0.002)


def test_cosines_are_nearly_the_same_with_another_class_wanted():
    """Of gradients and the network's own pushes, at t = 500 and 900, within 0.05."""
    (x0, label), net = data.digits("test"), steering.shipped("digits")
    other = (label[:200] + 1 + torch.arange(200) % 9) % 10
    for t in (500, 900):
        x = steering.add_noise(
            x0[:200],
            torch.randn(x0[:200].shape, generator=torch.Generator().manual_seed(t)),
            float(net.schedule.alpha_bar[t]),
        )
        times, cosines = torch.full((200,), t), []
        for wanted in (label[:200], other):
            with torch.no_grad():
                pull = net(x, times) - net(x, times, wanted)
            guide = lambda z, s, own=wanted: steering.noise_aware(z, s).gather(1, own[:, None])[:, 0]  # noqa: E731
            push = gradient(guide, x, times)
            cosines.append(torch.cosine_similarity(push.flatten(1), pull.flatten(1)).mean().item())
        assert cosines[0] == pytest.approx(cosines[1], abs=0.05)


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
    assert found["CPU seconds"] == 3
    with pytest.raises(ValueError, match=r"accuracy is 0.95; expected a share between"):
        steering.at_accuracy([line(1, 0.5, 3.0), line(3, 0.9, 1.0)], 0.95)
