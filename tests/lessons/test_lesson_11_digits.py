"""Adapters and the collapse of the digit network: the stored numbers say what is claimed, and what makes them runs."""

import torch

from lessons_src import measurements, weights
from lessons_src.lessons.lesson_11 import digits


def adapter(how, rank):
    (row,) = (row for row in measurements.load("adapter") if (row["how"], row["rank"]) == (how, rank))
    return row


def student(solver, nfe):
    (row,) = (row for row in measurements.load("students") if (row["solver"], row["nfe"]) == (solver, nfe))
    return row


def test_a_trained_adapter_gains_with_its_rank_and_costs_kilobytes():
    rows = [adapter("trained", rank) for rank in digits.RANKS]
    errors, sizes = [row["error"] for row in rows], [row["kB"] for row in rows]
    assert errors == sorted(errors, reverse=True)
    assert adapter("none", 0)["error"] > errors[0] > errors[-1] > adapter("trained", digits.EVERY)["error"]
    assert sizes[0] < 40 < adapter("trained", digits.EVERY)["kB"] / 12


def test_what_is_cut_out_of_full_training_is_worse_than_what_is_trained_at_its_rank():
    for rank in digits.RANKS[:2]:
        assert adapter("extracted", rank)["error"] > adapter("trained", rank)["error"]


def test_accuracy_hides_a_collapse_and_spread_shows_it():
    alone, cold, warm = (next(row for row in measurements.load("collapse") if row["case"] == c) for c in digits.CASES)
    assert alone["accuracy"] > 0.9
    assert alone["spread"] < 0.5 < 0.8 < cold["spread"] < warm["spread"]
    assert alone["recall"] < warm["recall"] / 4


def test_students_against_solvers_of_as_few_evaluations():
    for calls in (1, 2):
        assert student("student", calls)["frechet"] < student("UniPC-2", calls)["frechet"] / 5
        assert student("student", calls)["frechet"] < student("DDIM", calls)["frechet"] / 5


def test_what_makes_the_measurements_runs(monkeypatch):
    monkeypatch.setattr(digits, "PATHS", 20)
    digits.guided_paths.cache_clear()
    noise, label = torch.randn(3, 1, 28, 28), torch.arange(3)
    nets = [digits.adapted(2, steps=1), digits.adapted(digits.EVERY, steps=1), digits.extracted(2)]
    assert nets[0][1] == nets[2][1] < nets[1][1] / 5
    for net, _ in nets:
        assert digits.drawn(digits.as_guided(net), noise, label).shape == noise.shape
    digits.guided_paths.cache_clear()
    monkeypatch.setattr(digits, "OTHERS", dict.fromkeys(digits.OTHERS, 1))
    digits.checkpoint.cache_clear()
    for name in digits.OTHERS:
        (bare, nothing), (plugged, numbers) = digits.other(name, 0), digits.other(name, digits.SHIPPED)
        assert (nothing, numbers) == (0, digits.adapted(digits.SHIPPED, steps=1)[1])
        assert not torch.equal(*(digits.drawn(digits.as_guided(net), noise, label) for net in (bare, plugged)))
    digits.checkpoint.cache_clear()
    for case in digits.CASES:
        assert digits.drawn(digits.collapsed(case, steps=1), noise, label).isfinite().all()


def test_paths_have_their_own_labels(monkeypatch):
    monkeypatch.setattr(digits, "PATHS", 20)
    digits.guided_paths.cache_clear()
    paths = digits.guided_paths()
    ends = digits.drawn(digits.guided(), paths.states[0], paths.condition)
    torch.testing.assert_close(paths.states[-1].clamp(-1, 1), ends, atol=1e-4, rtol=0)
    digits.guided_paths.cache_clear()


def test_the_collapse_starts_where_it_is_said(monkeypatch):
    found = []
    monkeypatch.setattr(digits, "train", lambda trainer: found.append(trainer) or trainer.net)
    for case in digits.CASES:
        digits.collapsed(case, steps=1)
    teacher, student = digits.network(), weights.load("student-1")[0]
    for trainer, begin, fake in zip(found, (teacher, teacher, student), (False, True, True), strict=True):
        assert torch.equal(trainer.net.body.enter.weight, begin.body.enter.weight)
        assert (trainer.loss.fake is not None) == fake


def test_what_is_extracted_leads_from_the_network_to_the_student():
    net, _ = digits.extracted(999)
    torch.testing.assert_close(net.body.enter.weight, digits.guided().body.enter.weight, atol=1e-4, rtol=0)


def test_an_adapter_that_learned_nothing_changes_nothing():
    noise, label = torch.randn(4, 1, 28, 28), torch.arange(4)
    adapted = digits.adapt(digits.network(), 4)
    plain = digits.drawn(digits.as_guided(digits.network()), noise, label)
    same = digits.drawn(digits.as_guided(digits.merge(adapted)), noise, label)
    assert torch.allclose(same, plain, atol=1e-4)
