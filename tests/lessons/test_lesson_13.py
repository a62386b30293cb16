"""Lesson 13: faults that are what they are called, needles that say what the metrics say, and the detection matrix."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_lesson_13_exercises import CLAIMS, RIGHT  # noqa: F401 - for the tests of every lesson

from lessons_src import captions, data, measurements, weights
from lessons_src.evaluation import Reference, in_batches
from lessons_src.lessons.lesson_13 import explorer, faults, figures
from lessons_src.lessons.lesson_13.detection import NONE, SETS, STRENGTHS, Detection, power, widen
from lessons_src.lessons.lesson_13.faults import FAULTS, Digits, fresh, in_all, junk, learned, plant
from lessons_src.lessons.lesson_13.needles import BAD, OTHER, Band, bands
from lessons_src.make.junk import draw_junk
from lessons_src.metrics import (
    copying,
    frechet_distance,
    frechet_gaussians,
    inception_score,
    kernel_distance,
    nearest_distance,
    precision_recall,
    two_sample_test,
)
from lessons_src.show import plots

ANSWERS = {"by-hand": lambda: frechet_gaussians(*moments(0, 1), *moments(1, 4))}

N = 300


def moments(mean, variance):
    """Of a Gaussian in one dimension."""
    return torch.tensor([float(mean)]), torch.tensor([[float(variance)]])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def honest(n=N, seed=0):
    """The digits that `plant` takes with this seed."""
    return fresh().take(torch.randperm(len(fresh().x), generator=seeded(seed))[:n])


# --- Faults


def test_learned_fresh_reference_and_the_judges_digits_share_no_picture():
    sets = (learned().x, fresh().x, data.digits("test")[0], data.digits_judge()[0])
    assert [len(x) for x in sets] == [2000, 8000, 2000, 4000]
    assert len(torch.cat(sets).flatten(1).unique(dim=0)) == 16_000


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_a_fault_is_in_its_share_and_nothing_else_changes(fault, strength):
    before, after = honest(), plant(fault, strength, N, seeded())
    changed = (before.x != after.x).flatten(1).any(1) | (before.label != after.label)
    able = int((before.label == before.label[changed][:1]).sum()) if fault == "a class dropped" and strength else N
    alike = 10 if fault == "low variety" else 0  # the pictures that the others become, where they do not move
    assert round(strength * able) - alike <= changed.sum() <= round(strength * able)
    assert after.x.shape == (N, 1, 28, 28)
    assert -1 <= after.x.min() <= after.x.max() <= 1
    assert torch.equal(after.label, before.label) or fault in ("a class dropped", "wrong labels")


@pytest.mark.parametrize("fault", FAULTS)
def test_what_has_the_fault_at_one_strength_has_it_at_a_greater_one(fault):
    before, little, much = honest(), plant(fault, 0.2, N, seeded()), plant(fault, 0.7, N, seeded())
    changed = (before.x != little.x).flatten(1).any(1) | (before.label != little.label)
    assert torch.equal(little.x[changed], much.x[changed])
    assert torch.equal(little.label[changed], much.label[changed])


def test_copies_are_learned_digits_of_the_same_class_none_of_them_twice():
    after = plant("memorised copies", 1.0, N, seeded())
    known = {picture.numpy().tobytes(): int(c) for picture, c in zip(*learned(), strict=True)}
    found = [picture.numpy().tobytes() for picture in after.x]
    assert [known[picture] for picture in found] == after.label.tolist()
    assert len(set(found)) == N
    assert not any(picture.numpy().tobytes() in known for picture in honest().x)


def test_a_dropped_class_is_missing_and_nobody_asks_for_it():
    before, after = honest(), plant("a class dropped", 1.0, N, seeded())
    (missing,) = set(before.label.tolist()) - set(after.label.tolist())
    kept = before.label != missing
    assert torch.equal(after.x[kept], before.x[kept])
    known = {picture.numpy().tobytes(): int(c) for picture, c in zip(*fresh(), strict=True)}
    assert [known[picture.numpy().tobytes()] for picture in after.x] == after.label.tolist()
    assert len(after.x.flatten(1).unique(dim=0)) == N
    half = plant("a class dropped", 0.5, N, seeded())
    assert (half.label == missing).sum() == -(-(~kept).sum() // 2)


def test_blur_keeps_the_ink_of_a_dot_and_spreads_it_as_a_gaussian_does():
    dot = torch.full((1, 1, 28, 28), -1.0)
    dot[..., 14, 10] = 1
    ink = FAULTS["blur"](Digits(dot, torch.tensor([0])), fresh(), seeded()).x[0, 0] + 1
    places = torch.arange(28.0)
    assert ink.sum() == pytest.approx(2, abs=1e-4)
    assert (ink.sum(1) @ (places - 14).square() / 2).sqrt() == pytest.approx(faults.BLUR, rel=0.02)
    assert (ink.sum(0) @ (places - 10).square() / 2).sqrt() == pytest.approx(faults.BLUR, rel=0.02)


def test_noise_has_its_strength_where_it_is_not_cut():
    middle = Digits(torch.zeros(20, 1, 28, 28), torch.zeros(20, dtype=torch.int64))
    assert FAULTS["noise"](middle, fresh(), seeded()).x.std() == pytest.approx(faults.NOISE, rel=0.02)


def test_wrong_labels_are_all_wrong_and_the_pictures_are_not_touched():
    before, after = honest(2000), plant("wrong labels", 1.0, 2000, seeded())
    assert torch.equal(after.x, before.x)
    off = (after.label - before.label) % 10
    assert off.bincount(minlength=10)[1:].min() > 150
    assert (off == 0).sum() == 0


def test_low_variety_is_one_picture_a_class_moved_by_up_to_a_pixel():
    before, after = honest(), plant("low variety", 1.0, N, seeded())
    for c in range(10):
        found = after.x[after.label == c].flatten(1).unique(dim=0)
        assert 2 <= len(found) <= 9
        moved = [before.x.roll((down, across), (2, 3)) for down in (-1, 0, 1) for across in (-1, 0, 1)]
        mine = torch.stack(moved, 1)[before.label == c].flatten(2)
        assert any(all((picture == nine).all(1).any() for picture in found) for nine in mine)


def test_junk_is_no_digit_and_lies_nearer_to_the_test_digits_than_training_digits_do():
    judge, real = weights.load("judge")[0], data.digits("test")[0]
    features, reference = (in_batches(judge.features, x) for x in (junk(), real))
    some = fresh().take(torch.arange(2000))
    floor, _ = Reference(judge.features, real, *some).floor(torch.arange(1000) % 10)
    assert frechet_distance(features, reference) < 0.6 * floor
    far, near = (nearest_distance(x[:300].flatten(1), real.flatten(1)) for x in (junk(), fresh().x))
    assert far.median() > near.quantile(0.9), "in pixels it is like none of them"
    assert len(faults.JUNK.read_bytes()) < 200_000


def test_a_few_steps_draw_junk_nearer():
    judge, real = weights.load("judge")[0], data.digits("test")[0][:500]
    reference = in_batches(judge.features, real)
    first, later = (draw_junk(judge, reference, count=100, steps=steps) for steps in (0, 12))
    far, near = (frechet_distance(in_batches(judge.features, faults.as_pictures(x)), reference) for x in (first, later))
    assert near < 0.5 * far
    assert later.dtype == torch.uint8
    assert later.max() < faults.GREYS


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("blurr", 0.5, N), "fault is 'blurr'; expected one of 'memorised copies'"),
        (("blur", 1.5, N), r"strength is 1.5; expected a finite number in \[0, 1\]"),
        (("blur", 0.5, 4001), "n is 4001; expected a whole number from 1 to 4000"),
    ],
)
def test_what_cannot_be_planted_is_refused(given, says):
    with pytest.raises(ValueError, match=says):
        plant(*given, seeded())


def test_too_few_spare_digits_are_refused():
    with pytest.raises(ValueError, match=r"spare is a tensor of shape \(5, .*; expected at least \d+ digits of other"):
        in_all("a class dropped", honest(), fresh().take(torch.arange(5)), seeded())


def test_a_damaged_file_of_junk_is_named(tmp_path):
    (tmp_path / "junk.npz").write_text("junk")
    with pytest.raises(ValueError, match=r"junk\.npz'; expected an \.npz file with an array junk"):
        junk(tmp_path / "junk.npz")


# --- Needles


@pytest.fixture(scope="module")
def bench():
    return explorer.bench()


def test_the_needles_say_what_the_metrics_say(bench):
    samples = plant("noise", 0.5, N, seeded())
    said = bench.read(bench.look(samples.x), samples.label, seeded(3))
    judge, real = weights.load("judge")[0], data.digits("test")[0]
    features, reference = (in_batches(judge.features, x) for x in (samples.x, real))
    probabilities = in_batches(judge, samples.x).softmax(1)
    flat = [x.flatten(1) for x in (samples.x, learned().x, real)]
    texts = [f"{'an' if c == 8 else 'a'} {captions.DIGITS[c]}" for c in samples.label.tolist()]
    expected = {
        "Fréchet": frechet_distance(features, reference),
        "kernel": kernel_distance(features, reference),
        "inception": inception_score(probabilities),
        "precision": precision_recall(reference, features).precision,
        "recall": precision_recall(reference, features).recall,
        "accuracy": (probabilities.argmax(1) == samples.label).double().mean().item(),
        "captions": captions.score(weights.load("embedding")[0], samples.x, texts, 1.0).cosine,
        "neighbour ratio": Reference(judge.features, real, *learned()).neighbour_ratio(samples.x),
        "copying z": copying(*flat).z,
        "two-sample": two_sample_test(features, reference, seeded(3)).accuracy,
    }
    assert said == pytest.approx(expected, rel=1e-5)
    assert list(said) == list(BAD)


def test_captions_fit_less_if_another_digit_was_asked_for(bench):
    samples = honest(100)
    seen = bench.look(samples.x)
    said, wrong = (bench.read(seen, label, seeded())["captions"] for label in (samples.label, (samples.label + 1) % 10))
    assert wrong < said - 0.3


def test_what_is_seen_can_be_changed_in_some_rows(bench):
    seen = bench.look(honest(100).x)
    changed = seen.but(torch.tensor([3]), seen.take(torch.tensor([5])))
    for before, after in zip(seen, changed, strict=True):
        assert torch.equal(after[3], before[5])
        assert torch.equal(after[:3], before[:3])


def test_one_more_set_of_real_digits_is_beyond_a_band_as_often_as_allowed():
    draws, hits = 4000, {"low": 0, "high": 0}
    values = torch.randn(draws, SETS + 1, generator=seeded()).exp().tolist()  # skewed, as scores are
    for *null, new in values:
        band = bands([{"a": value} for value in null])["a"]
        for side in hits:
            hits[side] += band.alarm(new, side)
    for side in hits:
        assert hits[side] / draws == pytest.approx(0.05, abs=0.01), side


@pytest.mark.parametrize(("factor", "rate"), [(widen(10, 80), 0.05), (1.0, 0.07)])
def test_a_band_from_few_digits_is_widened_by_what_other_digits_need(factor, rate):
    """Means of 10 out of 80 numbers make the band; a mean of 10 others is judged."""
    generator, trials, alarms = seeded(), 3000, 0
    for _ in range(trials):
        pool, new = torch.randn(80, generator=generator), torch.randn(10, generator=generator).mean().item()
        drawn = pool[torch.rand(SETS, 80, generator=generator).argsort(1)[:, :10]].mean(1).tolist()
        band = bands([{"a": mean} for mean in drawn], widen=factor)["a"]
        alarms += band.alarm(new, "low") + band.alarm(new, "high")
    assert alarms / (2 * trials) == pytest.approx(rate, abs=0.01)


def test_a_band_counts_in_standard_deviations():
    band = Band(2.0, 0.5, 1.2, 3.4)
    assert band.turned(3.0) == 2
    assert [band.alarm(value, side) for value in (1.0, 2.0, 3.5) for side in ("low", "high")] == [
        True, False, False, False, False, True,
    ]  # fmt: skip


# --- The matrix


@pytest.fixture(scope="module")
def rows():
    return measurements.load("detection")


def test_every_power_comes_from_at_least_200_repetitions(rows):
    assert [row["fault"] for row in rows] == [NONE, *FAULTS]
    for row in rows:
        assert row["repetitions"] >= 200
        assert {tuple(said) for said in row["alarms"].values()} == {tuple(BAD)}
        assert list(row["alarms"]) == (["0.0"] if row["fault"] == NONE else [str(s) for s in STRENGTHS])


def test_the_alarm_is_false_about_as_often_as_wanted(rows):
    """5 % were wanted. Other digits than those that set the alarm make it a little more."""
    false = [power(rows, NONE, 0, name) for name in BAD]
    assert 0.04 < sum(rate.value for rate in false) / len(false) < 0.09
    assert all(rate.low < 0.1 for rate in false)


def test_who_asks_all_needles_hears_more_false_alarms(rows):
    """More than from any one of them, and no more than from all of them together."""
    for row in rows:
        for strength, alarms in row["alarms"].items():
            bad = [count[("low", "high").index(BAD[name])] for name, count in alarms.items()]
            assert max(bad) <= row["any"][strength] <= min(sum(bad), row["repetitions"])
    (honest,) = (row for row in rows if row["fault"] == NONE)
    assert 0.2 < honest["any"]["0.0"] / honest["repetitions"] < 0.45


CAUGHT_BY = {  # at full strength: all needles that catch the fault in at least nine of ten sets
    "memorised copies": {"neighbour ratio", "copying z"},
    "wrong labels": {"accuracy", "captions"},
}


@pytest.mark.parametrize("fault", CAUGHT_BY)
def test_these_needles_and_no_others_catch(rows, fault):
    for name in BAD:
        found = power(rows, fault, 1, name)
        assert found.low > 0.9 if name in CAUGHT_BY[fault] else found.high < 0.25, name


def test_no_needle_catches_all_and_each_fault_is_caught_by_some(rows):
    caught = {fault: {name for name in BAD if power(rows, fault, 1, name).low > 0.9} for fault in FAULTS}
    assert all(caught.values())
    for name in BAD:
        assert any(power(rows, fault, 1, name).high < 0.25 for fault in FAULTS), name


SURE = {  # fault, strength -> the needles that may catch it in four of five sets
    ("a class dropped", 0.25): set(),
    ("low variety", 0.25): set(),
    ("noise", 0.1): {"captions"},
    ("blur", 0.1): {"precision"},
}


@pytest.mark.parametrize(("fault", "strength"), SURE)
def test_a_little_of_some_faults_hardly_any_needle_catches_surely(rows, fault, strength):
    assert {name for name in BAD if power(rows, fault, strength, name).high > 0.8} == SURE[fault, strength]


def test_junk_passes_the_frechet_distance_at_every_strength(rows):
    for strength in STRENGTHS:
        assert power(rows, "matched junk", strength, "Fréchet").high < 0.1
        assert power(rows, "matched junk", strength, "kernel").high < 0.2
    assert power(rows, "matched junk", 1, "precision").low > 0.9


def test_what_a_fault_flatters(rows):
    """Beyond the band on its good side: better than real digits."""
    for fault, name in [("noise", "copying z"), ("matched junk", "copying z"), ("matched junk", "recall")]:
        assert power(rows, fault, 0.5, name, OTHER[BAD[name]]).low > 0.8, (fault, name)


def test_power_refuses_what_was_not_measured(rows):
    with pytest.raises(ValueError, match=r"strength is '0\.3'; expected one of '0\.1'"):
        power(rows, "blur", 0.3, "recall")
    with pytest.raises(ValueError, match="needle is 'FID'; expected one of 'Fréchet'"):
        power(rows, "blur", 1, "FID")
    with pytest.raises(ValueError, match="fault is 'blurr'"):
        power(rows, "blurr", 1, "recall")


def test_a_row_of_the_matrix_can_be_measured_again(monkeypatch, rows):
    """A few repetitions of one split: rates that the stored ones allow."""
    monkeypatch.setattr("lessons_src.lessons.lesson_13.detection.SPLITS", 1)
    monkeypatch.setattr("lessons_src.lessons.lesson_13.detection.REPEATS", 4)
    monkeypatch.setattr("lessons_src.lessons.lesson_13.detection.fresh", lambda: fresh().take(torch.arange(2000)))
    small = Detection(weights.load("judge")[0])
    again = small.alarms("memorised copies")
    assert again["repetitions"] == 4
    assert again["alarms"]["1.0"]["copying z"] == [4, 0]
    assert again["alarms"]["1.0"]["accuracy"][0] <= 2
    assert set(again["alarms"]) == {str(s) for s in STRENGTHS}
    assert small.bands().keys() == BAD.keys()


# --- Pictures


@pytest.mark.parametrize("fault", FAULTS)
def test_no_setting_of_the_explorer_raises(fault):
    for percent in (0, 35, 100):
        text = explorer.faults_picture(fault, percent).text
        assert not re.search(r"\b(nan|inf)\b", text)
        if percent == 0:
            assert "No needle gives the alarm" in text
            assert "Better" not in text


def test_the_explorer_shows_what_it_says():
    picture = explorer.faults_picture("wrong labels", 100)
    turned, gallery = picture.panels
    assert picture.text.startswith("500 of 500 samples have the fault: wrong labels. Alarm: accuracy, captions. ")
    assert {name for name, state in zip(BAD, turned.states(), strict=True) if state} == {"accuracy", "captions"}
    said, found = explorer.planted("memorised copies", 1)[2], explorer.faults_picture("memorised copies", 100).panels[0]
    for name, state, value in zip(BAD, found.states(), found.values, strict=True):
        band = explorer.real_bands()[name]
        sides = [band.alarm(said[name], side) for side in (BAD[name], OTHER[BAD[name]])]
        assert [state == 1, state == 2] == sides, "worse is to the right"
        assert abs(value) == pytest.approx(abs(band.turned(said[name])))
    assert list(gallery.labels) == sorted(gallery.labels)
    honest_gallery = explorer.faults_picture("wrong labels", 0).panels[1]
    pictures = [{picture.tobytes() for picture in panel.frames[0]} for panel in (gallery, honest_gallery)]
    assert pictures[0] == pictures[1]
    assert isinstance(explorer.explore_faults(), explorer.Explorer)


def test_the_two_sample_test_does_not_learn_from_just_those_that_have_the_fault():
    """Its halves are drawn apart from the order in which a fault reaches the samples."""
    order = explorer._with("noise")[0].order[:250]
    first = torch.randperm(500, generator=seeded(explorer.TEST_SEED))[:250]
    assert len(np.intersect1d(order, first)) == pytest.approx(125, abs=25)


def test_the_matrix_is_drawn_with_its_numbers(monkeypatch):
    shown = SimpleNamespace()
    monkeypatch.setattr(plots, "show", lambda fig, text: shown.__dict__.update(fig=fig, text=text))
    figures.show_detection(1.0)
    numbers = [text.get_text() for text in shown.fig.axes[0].texts]
    assert len(numbers) == len(FAULTS) * len(BAD)
    assert numbers[list(BAD).index("copying z")] == "100"
    assert "Each fault is caught by some needle" in shown.text
