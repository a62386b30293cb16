"""Shipped weights load, fit their cards, and are as good as the cards say; damaged files are refused by name."""

import json
import shutil
from dataclasses import asdict
from itertools import pairwise

import pytest
import torch

from lessons_src import data, weights
from lessons_src.evaluation import accuracy
from lessons_src.make import weights as make
from lessons_src.training import PRECISIONS, Recipe

MADE = ("classifier", "digits", "embedding", "judge", "noisy_classifier", "noisy_embedding", "points")
STUDENTS = ("student-1", "student-2", "student-2-guided", "student-4")
SCENES = ("scene_autoencoder", "scene_dit")
NAMES = (*MADE, *SCENES, *STUDENTS)


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(weights.FOLDER, tmp_path / "weights")
    return tmp_path / "weights"


def test_the_shipped_files_are_small_and_complete():
    assert sorted(path.name for path in weights.FOLDER.iterdir()) == sorted(
        f"{name}.{kind}" for name in NAMES for kind in ("json", "safetensors")
    )
    shipped = [*weights.FOLDER.iterdir(), *weights.ADAPTERS.iterdir()]
    assert sum(path.stat().st_size for path in shipped) < 6 * 2**20


@pytest.mark.parametrize("name", NAMES)
def test_saving_what_was_loaded_gives_the_same_files(name, tmp_path):
    net, card = weights.load(name)
    assert not net.training
    assert {"network", "arguments", "data", "command", "metrics", "seconds of training", "machine"} <= set(card)
    weights.save(name, net, card, tmp_path)
    for kind in ("json", "safetensors"):
        assert (tmp_path / f"{name}.{kind}").read_bytes() == (weights.FOLDER / f"{name}.{kind}").read_bytes()


def test_the_card_of_the_points_is_true():
    net, card = weights.load("points")
    assert make.excess_loss(net, data.ring()) == pytest.approx(card["metrics"], rel=0.001)
    assert card["metrics"]["loss"] < 1.05 * card["metrics"]["smallest possible loss"]


def test_the_card_of_the_judge_is_true():
    net, card = weights.load("judge")
    found = make.judge_metrics(net)
    assert found == pytest.approx(card["metrics"], rel=0.01)
    assert found["accuracy on test digits"] > 0.98
    assert found["accuracy on training digits"] > 0.975
    assert 0 < found["spread of the floor"] < found["floor"] / 3


def test_the_card_of_the_embedding_is_true():
    """Every word is found far more often than by naming the most frequent one, or any."""
    net, card = weights.load("embedding")
    found = make.embedding_metrics(net)
    for name, value in found.items():
        assert value == pytest.approx(card["metrics"][name], abs=0.002), name
    assert found["of 90 captions"]["found"] > 0.8 > 20 * found["of 90 captions"]["most frequent"]
    assert found["of 10 words for digit"]["found"] > 0.97
    for name in ("thickness", "slant"):
        shares = found[f"of 3 words for {name}"]
        assert shares["found"] > 0.9 > 0.52 > shares["most frequent"]


def test_the_cards_of_those_that_know_noise_are_true():
    """And of the laws: the noisier, the fewer are read, down to one in ten where nothing is left."""
    for name, measured in (
        ("noisy_classifier", make.noisy_metrics),
        ("noisy_embedding", lambda net: make.noisy_embedding_metrics(net, weights.load("embedding")[0])),
    ):
        net, card = weights.load(name)
        found = measured(net)
        assert found.keys() == card["metrics"].keys() == {"n", *(f"t = {t}" for t in make.LEVELS)}
        shares = [next(iter(found[f"t = {t}"].values())) for t in make.LEVELS]
        told = [next(iter(card["metrics"][f"t = {t}"].values())) for t in make.LEVELS]
        assert shares == pytest.approx(told, abs=0.003)
        assert shares[0] > 0.97
        assert shares[-1] == pytest.approx(0.1, abs=0.03)
        assert all(right >= worse - 0.003 for right, worse in pairwise(shares))


def test_guided_digits_are_read_as_what_was_asked_for():
    net, card = weights.load("digits")
    metrics = card["metrics"]["w = 2, 20 DDIM steps"]
    assert metrics["n"] == 2000
    assert metrics["accuracy"] > 0.97
    samples, label = make.generate(net, 200, w=2.0, steps=20, seed=7)
    read = accuracy(weights.load("judge")[0], samples, label)
    assert abs(read - metrics["accuracy"]) < 3 * (0.03 * 0.97 / 200) ** 0.5


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("classifier.safetensors", lambda path: path.write_bytes(path.read_bytes()[:1000])),
        ("classifier.safetensors", lambda path: path.write_bytes(b"")),
        ("classifier.safetensors", lambda path: path.unlink()),
        ("classifier.safetensors", lambda path: shutil.copy(path.with_name("points.safetensors"), path)),
        ("classifier.json", lambda path: path.write_text("{")),
        ("classifier.json", lambda path: path.write_text(json.dumps({"network": "Transformer", "arguments": {}}))),
        ("digits.json", lambda path: path.write_text(path.read_text().replace('"channels"', '"widths"'))),
    ],
    ids=["truncated", "empty", "missing", "another network's", "broken card", "unknown network", "unknown argument"],
)
def test_a_damaged_file_is_refused_by_name(folder, name, damage):
    damage(folder / name)
    stem = name.split(".")[0]
    with pytest.raises(ValueError, match=rf"{stem}\.safetensors (cannot be loaded|does not fit)"):
        weights.load(stem, folder)


def test_weights_too_large_for_half_precision_are_refused(tmp_path):
    net, card = weights.load("points")
    net.body.leave.bias.data[0] = 1e6
    with pytest.raises(ValueError, match=r"net, body\.leave\.bias is .*half precision"):
        weights.save("points", net, card, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_makers_write_weights_and_the_cards_they_fit(tmp_path, monkeypatch):
    tiny, digits, generate = Recipe(steps=2, batch_size=10, warmup=1), data.digits, make.generate
    monkeypatch.setattr(make, "save", lambda *given: weights.save(*given, folder=tmp_path))
    monkeypatch.setattr(make, "CLASSIFIER", tiny)
    monkeypatch.setattr(make, "JUDGE", tiny)
    monkeypatch.setattr(make, "EMBEDDING", tiny)
    monkeypatch.setattr(make, "NOISY", tiny)
    monkeypatch.setattr(make.train_classifier, "__defaults__", (tiny,))
    monkeypatch.setattr(make, "Recipe", lambda *given, **more: tiny)
    monkeypatch.setattr(
        data, "digits", lambda subset: tuple(part[: {"train": 1000, "test": 400}[subset]] for part in digits(subset))
    )
    monkeypatch.setattr(make, "generate", lambda net, n, w, steps, seed: generate(net, 70, w, 2, seed))
    make.make_classifier()
    make.make_judge()
    make.make_embedding()
    make.make_noisy_classifier()
    make.make_noisy_embedding()
    make.make_points()
    make.make_digits(tiny, torch.device("cpu"))
    for name in MADE:
        _, card = weights.load(name, tmp_path)
        shipped = weights.load(name)[1]
        assert card["recipe"] == asdict(tiny)
        assert card["network"] == shipped["network"]
        assert set(card["metrics"]) == set(shipped["metrics"])
    assert weights.load("digits", tmp_path)[1]["precision"] in PRECISIONS


def test_an_unknown_name_lists_what_exists():
    with pytest.raises(
        ValueError, match="name is 'faces'; expected one of 'classifier', 'digits', 'embedding', 'judge'"
    ):
        weights.load("faces")


def test_generated_digits_repeat_and_cover_the_labels():
    torch.manual_seed(0)
    net, _ = weights.load("digits")
    a, label = make.generate(net, 20, w=1.0, steps=3, seed=0)
    b, _ = make.generate(net, 20, w=1.0, steps=3, seed=0)
    assert torch.equal(a, b)
    assert label.tolist() == [*range(10), *range(10)]
    assert a.shape == (20, 1, 28, 28)
    assert a.abs().max() <= 1
