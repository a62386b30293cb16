"""The shipped students are as good as their cards say, and the recipe that trains others runs to its end."""

import copy
from itertools import pairwise

import pytest
import torch

from lessons_src import weights
from lessons_src.distillation import Trajectories
from lessons_src.lessons.lesson_11.digits import as_guided
from lessons_src.lora import merge, plug
from lessons_src.make import students as make
from lessons_src.make.students import (
    SEEDS,
    STORED,
    Size,
    distil,
    drawn,
    image_error,
    judged,
    paths,
    start,
    student_times,
)
from lessons_src.process import noise_like
from lessons_src.samplers import sample
from lessons_src.students import Student, few_steps

CALLS = (1, 2, 4)


@pytest.mark.slow
@pytest.mark.parametrize("calls", CALLS)
def test_the_card_of_a_student_is_true(calls):
    student, card = weights.load(f"student-{calls}")
    assert isinstance(student, Student)
    assert student.times == student_times(calls)
    metrics, x = card["metrics"], drawn(student, SEEDS[0])
    assert metrics["n"] == len(x)
    found = judged(x, start(SEEDS[0])[1])
    for key in ("frechet", "recall", "accuracy", "spread"):
        assert found[key] == pytest.approx(metrics[key]["each"][0], rel=0.01), key
    assert found["floor"] == pytest.approx(metrics["floor"], rel=0.01)


def test_one_call_does_the_work_of_two_where_guidance_is_folded_in():
    """Two evaluations come nearer to sixteen guided steps, 32 evaluations, than four guided steps do with eight."""
    student, card = weights.load("student-2-guided")
    assert student.w == 2
    assert image_error(student) == pytest.approx(card["metrics"]["image error"], rel=0.01)
    assert card["metrics"]["image error"] < 0.12
    assert card["metrics"]["accuracy"]["mean"] > 0.99
    assert card["metrics"]["spread"]["mean"] < 0.8, "as guidance does, it narrows the classes"


@pytest.mark.parametrize("calls", CALLS)
def test_no_student_bought_its_distance_with_variety(calls):
    """The teacher in 20 steps of DDIM: recall .87, accuracy .92. A class has all of the spread of real digits."""
    metrics = weights.load(f"student-{calls}")[1]["metrics"]
    assert metrics["spread"]["mean"] > 1
    assert metrics["recall"]["mean"] > 0.83
    assert metrics["accuracy"]["mean"] > 0.91
    assert len(metrics["noise seeds"]) == 3
    assert not {1, 2, 3} & set(metrics["noise seeds"]), "the search chose by these"


def test_more_calls_are_better_beyond_the_luck_of_noise():
    scores = [weights.load(f"student-{calls}")[1]["metrics"]["frechet"] for calls in CALLS]
    for worse, better in pairwise(scores):
        assert worse["mean"] - better["mean"] > max(worse["std"], better["std"])


def test_two_noises_give_two_digits_of_a_class():
    student, _ = weights.load("student-1")
    x = sample(few_steps(student, torch.randn(40, 1, 28, 28, generator=torch.Generator().manual_seed(0)), 3))
    assert torch.cdist(x.flatten(1), x.flatten(1)).fill_diagonal_(99).min() > 2


def test_stored_paths_are_the_teachers(monkeypatch):
    teacher = weights.load("digits")[0]
    monkeypatch.setattr(make, "SOLVER_STEPS", 4)
    stored = paths(teacher, 6, torch.device("cpu"))
    assert isinstance(stored, Trajectories)
    assert stored.times == STORED
    assert stored.states.shape == (5, 6, 1, 28, 28)
    assert stored.states[0].std() == pytest.approx(1, abs=0.05)
    assert stored.states[-1].abs().max() < 2


def test_the_recipe_runs_and_its_card_fits(tmp_path, monkeypatch):
    save = weights.save
    monkeypatch.setattr(make, "SOLVER_STEPS", 4)
    monkeypatch.setattr(make, "over_seeds", lambda draw: {"shape": list(draw(0).shape)})
    monkeypatch.setattr(make, "image_error", lambda student: 0.5)
    monkeypatch.setattr(make, "drawn", lambda student, seed: drawn(student, seed, 2))
    monkeypatch.setattr(weights, "save", lambda *given: save(*given, folder=tmp_path))
    tiny = dict.fromkeys(CALLS, 2)
    make.train_all(torch.device("cpu"), Size(8, 4, tiny, 4, tiny))
    for calls in CALLS:
        student, card = weights.load(f"student-{calls}", tmp_path)
        assert student.times == student_times(calls)
        assert card["metrics"] == {"shape": [2, 1, 28, 28], "image error": 0.5}
        assert {"network", "teacher", "seconds of training", "machine", "command"} <= card.keys()


def test_distilling_leaves_the_teacher_alone():
    teacher = weights.load("digits")[0]
    before = copy.deepcopy(teacher.state_dict())
    noise = noise_like(torch.zeros(4, 1, 28, 28))
    stored = Trajectories(torch.stack([noise] * 5), STORED, torch.arange(4))
    tiny = dict.fromkeys(CALLS, 1)
    distil(teacher, stored, Size(4, 2, tiny, 2, tiny), torch.device("cpu"))
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())


def test_the_adapter_is_small_fits_and_does_what_its_card_says():
    changes, card = weights.load_adapter("guided-8")
    assert (weights.ADAPTERS / "guided-8.safetensors").stat().st_size < 130_000
    student = as_guided(merge(plug(weights.load(card["for"])[0], changes)))
    assert (student.times, student.w) == (card["times"], card["w"])
    assert all(min(value.shape) <= card["rank"] for value in changes.values())
    assert image_error(student) == pytest.approx(card["metrics"]["image error"], rel=0.02)
    assert card["metrics"]["image error"] < 0.16
    with pytest.raises(ValueError, match="name is 'guided-9'; expected one of 'guided-8'"):
        weights.load_adapter("guided-9")


def test_saving_the_adapter_gives_the_same_files_and_damage_is_named(tmp_path):
    weights.save_adapter("guided-8", *weights.load_adapter("guided-8"), tmp_path)
    for kind in ("json", "safetensors"):
        assert (tmp_path / f"guided-8.{kind}").read_bytes() == (weights.ADAPTERS / f"guided-8.{kind}").read_bytes()
    (tmp_path / "guided-8.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"guided-8\.safetensors cannot be loaded"):
        weights.load_adapter("guided-8", tmp_path)
