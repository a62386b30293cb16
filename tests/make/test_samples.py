"""The command that makes lesson 13's samples: it gives the stored ones again, as far as that is quick to check."""

import json

import numpy as np
import pytest
import torch

from lessons_src.lessons.lesson_13 import stored as lesson
from lessons_src.lessons.lesson_13.held_out import COMBINATIONS
from lessons_src.lessons.lesson_13.stored import FOLDER, stored
from lessons_src.make import samples
from lessons_src.training import Recipe

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", samples.MAKE)
def test_cards_name_the_command(name):
    assert stored(name)[1]["command"] == f"python -m lessons_src.make.samples --only {name}"


def test_samples_of_other_weights_are_refused(monkeypatch):
    monkeypatch.setattr(lesson, "digest", lambda: "other")
    with pytest.raises(ValueError, match=r"features\.npz .* is of other weights; run `make samples`"):
        stored.__wrapped__("features")
    assert stored.__wrapped__("memorised")


def test_memorised_digits_are_drawn_again(tmp_path):
    samples.make_memorised(CPU, tmp_path, n=5, sizes=(64,))
    with np.load(tmp_path / "memorised.npz") as again, np.load(FOLDER / "memorised.npz") as before:
        off = np.abs(again["64"].astype(int) - before["64"][:5])
    assert off.max() <= 1
    assert off.mean() < 0.01


def test_features_are_seen_again(tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "RUNS", {"DDIM, 50 steps": samples.RUNS["DDIM, 50 steps"]})
    samples.make_features(CPU, tmp_path, n=10)
    with np.load(tmp_path / "features.npz") as again:
        off = again["DDIM, 50 steps"].astype(float) - stored("features")[0]["DDIM, 50 steps"][:10].double().numpy()
    assert np.abs(off).max() < 0.1
    assert json.loads((tmp_path / "features.json").read_text())["n"] == 10


def test_combinations_are_trained_and_asked_for(tmp_path):
    samples.make_held_out(CPU, tmp_path, each=1, recipe=Recipe(steps=2, batch_size=4, warmup=1))
    with np.load(tmp_path / "held_out.npz") as made, np.load(FOLDER / "held_out.npz") as before:
        assert made.keys() == before.keys()
        assert made["asked"].tolist() == list(range(30))
        assert made["read"].shape == made["thickness"].shape == (2, 30)
        assert before["examples"].shape == (2, 4, 8, 28, 28)
    card = json.loads((tmp_path / "held_out.json").read_text())
    assert card.keys() == stored("held_out")[1].keys()


def test_a_combination_shares_its_words_with_others():
    words = samples.TwoWords(8)
    found = words(torch.arange(31)).view(31, 8)
    place = {combination: row for row, combination in enumerate(COMBINATIONS)}
    for one, other in ((7, 3), (0, 9)):
        step = found[place[one, 2]] - found[place[one, 0]]
        assert torch.allclose(step, found[place[other, 2]] - found[place[other, 0]], atol=1e-6)
    assert not any(torch.allclose(found[30], found[row]) for row in range(30))
