"""Stored measurements: complete, of the shipped weights, true where that is quick to check, and safe to interrupt."""

import json

import pytest
import torch

from lessons_src import measurements
from lessons_src.lessons.lesson_11 import ring
from lessons_src.lessons.lesson_12 import measured, rivals
from lessons_src.lessons.lesson_13 import detection
from lessons_src.lessons.lesson_14 import paradigms
from lessons_src.make import measurements as make
from lessons_src.make.measurements import MEASURE, SCALES, N, measure, measure_recipes, measure_steps, wanted
from lessons_src.measurements import NAMES, digits_of, jackknife_error, load, resample, resampled, start_noise
from lessons_src.metrics import class_spread
from lessons_src.training import PRECISIONS, Recipe


@pytest.mark.parametrize("name", MEASURE)
def test_every_wanted_row_is_there_once(name):
    rows = load(name)
    for row in wanted(name):
        assert sum(row.items() <= done.items() for done in rows) == 1, row
    assert len(rows) == len(list(wanted(name)))
    others = {"detection": detection.N, "reading": 2000, "ring": ring.JUDGED, "ends": ring.EXPLORED, "call": 1}
    others |= dict.fromkeys(("captions", "latent scale"), measured.JUDGED) | {"paradigms": paradigms.JUDGED}
    n = (others | dict.fromkeys(("pixels", "rates"), rivals.JUDGED) | {"edits": rivals.EDITED}).get(name, N)
    assert all(row["n"] == n for row in rows)


@pytest.mark.parametrize("name", NAMES)
def test_the_stored_command_is_the_one_that_makes_it(name, tmp_path, monkeypatch):
    stored = json.loads((measurements.FOLDER / f"{name}.json").read_text())
    monkeypatch.setitem(MEASURE, name, lambda row: {})
    monkeypatch.setattr("lessons_src.make.measurements.wanted", lambda name: iter([{"w": 0}]))
    measure(name, tmp_path)
    assert json.loads((tmp_path / f"{name}.json").read_text())["command"] == stored["command"]


def test_every_measurement_has_a_maker():
    assert set(MEASURE) == set(NAMES)


@pytest.mark.slow
def test_a_row_can_be_measured_again():
    (stored,) = (row for row in load("steps") if (row["sampler"], row["steps"]) == ("DDIM", 5))
    again = measure_steps({"sampler": "DDIM", "steps": 5})
    assert again["frechet"] == pytest.approx(stored["frechet"], rel=0.01)
    assert again["accuracy"] == pytest.approx(stored["accuracy"], abs=0.003)
    assert (digits_of(again) - digits_of(stored)).abs().max() < 0.1


RECIPES = [
    ("blind to t", PRECISIONS),
    ("float32", ("float32",)),
    ("ε-prediction, first call at t = 951", PRECISIONS),
]


@pytest.mark.parametrize(("recipe", "precisions"), RECIPES)
def test_a_recipe_is_trained_and_judged(monkeypatch, recipe, precisions):
    monkeypatch.setattr(make, "Recipe", lambda *given, **more: Recipe(steps=2, batch_size=4, warmup=1))
    monkeypatch.setattr(make, "N", 100)
    row = measure_recipes({"recipe": recipe, "seed": 0})
    stored = next(done for done in load("recipes") if done["recipe"] == recipe)
    assert stored.keys() - row.keys() <= {"recipe", "seed"}
    assert row["trained in"] in precisions
    assert row["frechet"] > 10 * stored["frechet"]


def test_the_same_run_in_two_measurements_has_the_same_scores():
    (plain,) = (row for row in load("steps") if (row["sampler"], row["steps"]) == ("DDIM", 20))
    (guided,) = (row for row in load("guidance") if row["w"] == 1)
    for key in ("frechet", "accuracy", "neighbour_ratio", "spread", "digits"):
        assert plain[key] == guided[key], key


def test_the_jackknife_of_a_mean_is_its_standard_error():
    parts = torch.tensor([1.0, 4.0, 2.0, 8.0, 5.0], dtype=torch.float64)
    left_out = [((parts.sum() - part) / 4).item() for part in parts]
    assert jackknife_error(left_out) == pytest.approx((parts.std() / 5**0.5).item())


def test_scales_from_the_same_noise_differ_more_surely_than_each_is_known():
    one, near = (next(row["frechet without a tenth"] for row in load("guidance") if row["w"] == w) for w in (1.0, 1.05))
    assert jackknife_error([a - b for a, b in zip(one, near, strict=True)]) < 0.5 * jackknife_error(near)


def test_bootstrap_samples_keep_the_classes_and_are_the_same_in_every_call():
    label = start_noise(60)[1]
    first, again = (torch.stack(list(resample(label, 50))) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(label[first], label.expand(50, -1)), "each class from itself"
    assert not torch.equal(first[0], first[1])
    values = torch.randn(60, generator=torch.Generator().manual_seed(0))
    spread = values[torch.stack(list(resample(label, 2000)))].mean(1).std().item()
    own = torch.stack([values[label == c].var(correction=0) for c in range(10)]).mean().item()
    assert spread == pytest.approx((own / 60) ** 0.5, rel=0.05), "the standard error of a mean of fixed class shares"


@pytest.mark.parametrize("name", ["pareto", "starts", "students"])
def test_resampled_distances_scatter_as_the_jackknife_says(name):
    """Both are rough; bootstrap samples are a little farther away than their row, as fewer digits are."""
    ratio = []
    for row in load(name):
        scores = resampled(row)
        assert len(scores) == 200
        ratio.append(scores.std().item() / row["standard error"])
    assert 0.5 < torch.tensor(ratio).median() < 2


def test_fewer_digits_are_the_first_of_more():
    net = measurements.weights.load("digits")[0]
    many, few = (measurements.draw(net, n, "DDPM, σ² = β", 1) for n in (110, 100))
    assert torch.equal(many[:100], few)


def test_an_interrupted_measurement_goes_on_with_the_next_row(tmp_path, monkeypatch):
    asked = []

    def fragile(row):
        asked.append(row["w"])
        if len(asked) == 3:
            raise KeyboardInterrupt
        return {"n": 1, "digits": ""}

    monkeypatch.setitem(MEASURE, "guidance", fragile)
    with pytest.raises(KeyboardInterrupt):
        measure("guidance", tmp_path)
    assert [row["w"] for row in load("guidance", tmp_path)] == list(SCALES[:2])
    measure("guidance", tmp_path)
    assert asked == [*SCALES[:3], *SCALES[2:]]
    assert [path.name for path in tmp_path.iterdir()] == ["guidance.json"]


def test_measurements_of_other_weights_are_refused(tmp_path):
    found = json.loads((measurements.FOLDER / "guidance.json").read_text())
    (tmp_path / "guidance.json").write_text(json.dumps(found | {"weights": "0" * 64}))
    with pytest.raises(ValueError, match=r"guidance\.json was measured with other weights"):
        load("guidance", tmp_path)


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_text("{")])
def test_a_missing_or_damaged_file_is_named(tmp_path, damage):
    path = tmp_path / "steps.json"
    path.write_text("")
    damage(path)
    with pytest.raises(ValueError, match=r"steps\.json cannot be read; make it with"):
        load("steps", tmp_path)
    with pytest.raises(ValueError, match="name is 'stops'; expected one of 'steps'"):
        load("stops", tmp_path)


def test_class_spread_counts_from_each_own_centre():
    features = torch.tensor([[0.0, 0.0], [2.0, 0.0], [10.0, 1.0], [10.0, 5.0]])
    label = torch.tensor([3, 3, 7, 7])
    assert class_spread(features, label) == pytest.approx((2 * (1 + 4) / 4) ** 0.5)
    assert class_spread(features, label - 3) == class_spread(features, label)
    with pytest.raises(ValueError, match="label is a tensor of shape"):
        class_spread(features, label[:3])
