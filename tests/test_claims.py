"""Claims about samplers: every rule can fail, and comparing needs everything but the sampler the same."""

from dataclasses import fields, replace

import pytest

from lessons_src.claims import RULES, Claim, differences, objections

WHOLE = Claim("UniPC-2", (5, 10, 20), "digit network", "test digits", "feature-Fréchet", 1000, 1.0, 0.1)


def test_a_whole_claim_may_be_quoted_and_compared():
    assert objections(WHOLE) == []
    assert differences(WHOLE, replace(WHOLE, sampler="DDIM", nfe=(20, 50, 100), error=0.3)) == []


@pytest.mark.parametrize(("name", "says"), RULES, ids=[name for name, _ in RULES])
def test_every_rule_objects_to_its_own_gap_only(name, says):
    gap = () if name == "nfe" else None
    assert objections(replace(WHOLE, **{name: gap})) == [says]


def test_an_empty_claim_breaks_every_rule():
    assert objections(Claim()) == [says for _, says in RULES]


def test_unguided_counts_as_said():
    assert objections(replace(WHOLE, w=0.0)) == []


@pytest.mark.parametrize(("nfe", "says"), [((10,), ["Only at 1 budget:"]), ((10, 20), ["Only at 2 budgets:"])])
def test_a_point_is_not_a_curve(nfe, says):
    assert [sentence.split(" show")[0] for sentence in objections(replace(WHOLE, nfe=nfe))] == says


def test_a_time_needs_both_sizes():
    for given in ({}, {"size": 1_000_000}, {"batch": 16}):
        (says,) = objections(replace(WHOLE, seconds=0.2, **given))
        assert "size of the network and of the batch" in says
    assert objections(replace(WHOLE, seconds=0.2, size=1_000_000, batch=16)) == []


@pytest.mark.parametrize(
    ("name", "other"), [("model", "another"), ("data", "CIFAR-10"), ("metric", "FID"), ("n", 50_000), ("w", 2.0)]
)
def test_what_must_be_the_same(name, other):
    assert differences(WHOLE, replace(WHOLE, **{name: other})) == [f"{name}: {getattr(WHOLE, name)} and {other}"]
    silent = replace(WHOLE, **{name: None})
    assert differences(silent, WHOLE) == differences(WHOLE, silent) == [f"{name}: not stated"]


def test_a_common_budget_is_needed():
    assert differences(WHOLE, replace(WHOLE, nfe=(4, 8))) == ["nfe: no budget in common"]


def test_every_field_matters():
    used = {name for name, _ in RULES} | {"seconds", "size", "batch"}
    assert used == {field.name for field in fields(Claim)}


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [("nfe", (0,), ValueError), ("nfe", (5, 5), ValueError), ("nfe", (2.5,), TypeError), ("n", 0, ValueError),
     ("w", -1.0, ValueError), ("error", -0.1, ValueError), ("seconds", -1.0, ValueError), ("batch", 0, ValueError)],
)  # fmt: skip
def test_impossible_numbers_are_refused(name, value, error):
    with pytest.raises(error, match=f"{name} is"):
        replace(WHOLE, **{name: value})
