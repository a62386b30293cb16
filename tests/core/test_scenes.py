"""Scenes are what their captions say, captions mean what was drawn, and what is held never reaches training."""

import time

import pytest
import torch

from lessons_src.scenes import (
    ABSENT,
    GRAMMAR,
    HELD,
    HUES,
    LENGTH,
    MARGIN,
    RELATIONS,
    SETS,
    SHAPES,
    SIDE,
    WORDS,
    Meaning,
    Scenes,
    combinations,
    draw,
    joined,
    paint,
    palette,
    parse,
    tokens,
    trained,
    training_scenes,
    write,
)

TABLES = combinations()


def some(name="two seen", number=300, seed=0):
    return draw(TABLES[name], number, torch.Generator().manual_seed(seed))


def equal(a, b):
    return all(torch.equal(getattr(a, part), getattr(b, part)) for part in Meaning.__dataclass_fields__)


@pytest.mark.parametrize("name", SETS)
def test_captions_mean_what_was_drawn(name):
    scenes = some(name)
    captions = write(scenes)
    assert equal(parse(captions), scenes)
    rows = tokens(captions)
    assert rows.shape == (300, LENGTH)
    assert [" ".join(WORDS[i] for i in row if i) for row in rows.tolist()] == captions
    assert ((rows == 0).long().diff(dim=1) >= 0).all(), "nothing but filling behind the last word"


def test_a_caption_says_both_objects_in_order():
    meaning = parse(["a small red circle left of a large blue square", "A large  cyan STAR"])
    assert meaning.count.tolist() == [2, 1]
    assert [HUES[i] for i in meaning.hue[0]] == ["red", "blue"]
    assert [SHAPES[i] for i in meaning.shape[0]] == ["circle", "square"]
    assert meaning.size.tolist() == [[0, 1], [1, ABSENT]]
    assert RELATIONS[meaning.relation[0]] == "left of"
    assert meaning.relation[1] == ABSENT
    assert write(meaning) == ["a small red circle left of a large blue square", "a large cyan star"]


@pytest.mark.parametrize(
    ("caption", "named"),
    [
        ("a small mauve circle", "unknown: mauve;"),
        ("a tiny red blob", "unknown: blob, tiny;"),
        ("a <null> red circle", "unknown: <null>;"),
        ("", GRAMMAR),
        ("   ", GRAMMAR),
        ("a red circle", GRAMMAR),
        ("a red small circle", GRAMMAR),
        ("a small red circle of a small blue circle", GRAMMAR),
        ("a small red circle left a small blue circle", GRAMMAR),
        ("a small red circle left of", GRAMMAR),
        ("a small red circle a small blue circle", GRAMMAR),
        ("a small red circle above a small red square", "unequal hue"),
        ("a small red circle above a small blue square above a small green star", GRAMMAR),
    ],
)
def test_captions_outside_the_grammar_are_refused(caption, named):
    for reader in (parse, tokens):
        with pytest.raises(ValueError, match="captions is ") as refusal:
            reader(["a small red circle", caption])
        assert named in str(refusal.value)
        assert repr(caption) in str(refusal.value)


@pytest.mark.parametrize("captions", ["a small red circle", [3], [None]], ids=str)
def test_only_lists_of_captions_are_read(captions):
    with pytest.raises(TypeError, match=r"captions is .*expected a list of captions"):
        tokens(captions)


@pytest.mark.parametrize(
    "change",
    [
        {"hue": [[0, 0]]},
        {"hue": [[0, 6]]},
        {"shape": [[-2, 1]]},
        {"size": [[0, 2]]},
        {"relation": [-2]},
        {"count": [3]},
    ],
    ids=str,
)
def test_what_no_caption_says_is_not_written(change):
    said = {"count": [2], "hue": [[0, 1]], "shape": [[0, 1]], "size": [[0, 1]], "relation": [0]} | change
    with pytest.raises(ValueError, match="meaning is "):
        write(Meaning(**{name: torch.tensor(value) for name, value in said.items()}))


def test_no_captions_are_no_rows():
    assert tokens([]).shape == (0, LENGTH)
    assert len(parse([])) == 0
    assert write(parse([])) == []


# --- The split


def test_training_scenes_contain_nothing_that_is_held():
    scenes = training_scenes(20_000, torch.Generator().manual_seed(1))
    held = {f"{hue} {shape}" for hue, shape in HELD}
    captions = write(scenes)
    assert not [caption for caption in captions for pair in held if pair in caption]
    assert trained(scenes).all()
    unseen = {frozenset(map(tuple, pair)) for pair in _pairs(some("two held", 5000))}
    assert not unseen & {frozenset(map(tuple, pair)) for pair in _pairs(scenes[scenes.count == 2])}
    assert len(set(captions) & set(write(some("two held", 5000)))) == 0


def _pairs(scenes):
    return torch.stack([scenes.hue, scenes.shape], 2).tolist()


def test_tables_part_all_combinations():
    assert len(TABLES["one seen"]) + len(TABLES["one held"]) == len(HUES) * len(SHAPES)
    pairs = [tuple(row) for name in ("two seen", "two held", "two of held") for row in TABLES[name].tolist()]
    assert len(set(pairs)) == len(pairs)
    assert all(a // 4 != b // 4 for a, b in pairs)
    assert {(b, a) for a, b in pairs} == set(pairs), "a pair is held in both orders or in none"
    share = len(TABLES["two held"]) / (len(TABLES["two held"]) + len(TABLES["two seen"]))
    assert share == pytest.approx(1 / 8, abs=0.02)
    for hue in HUES:
        assert sum(hue == HUES[k // 4] for k in TABLES["one held"].tolist()) == 1


def test_trained_tells_the_sets_apart():
    for name in SETS:
        assert (trained(some(name)) == name.endswith("seen")).all(), name
    known = parse(["a small red circle", "a large red square", "a small red circle above a large yellow star"])
    assert trained(known).tolist() == [True, False, False]
    assert combinations(held=())["one held"].tolist() == []
    assert len(combinations(held=())["two of held"]) == 0


@pytest.mark.parametrize("held", [[("mauve", "circle")], [("circle", "red")], [("red",)]], ids=str)
def test_other_combinations_are_refused(held):
    with pytest.raises(ValueError, match=r"held is .*a hue and a shape"):
        combinations(held)


# --- Scenes and pictures


@pytest.mark.parametrize("name", SETS)
def test_objects_lie_inside_apart_and_as_related(name):
    scenes = some(name, 2000)
    objects = 1 if name.startswith("one") else 2
    for place in (scenes.x[:, :objects], scenes.y[:, :objects]):
        radius = scenes.radius[:, :objects]
        assert (place - radius >= MARGIN - 1e-4).all()
        assert (place + radius <= SIDE - MARGIN + 1e-4).all()
    if objects == 2:
        dx, dy = (place[:, 1] - place[:, 0] for place in (scenes.x, scenes.y))
        along = torch.stack([dx, -dx, dy, -dy], 1).gather(1, scenes.relation[:, None])[:, 0]
        across = torch.where(scenes.relation < 2, dy.abs(), dx.abs())
        assert (along >= scenes.radius.sum(1) + MARGIN - 1e-4).all()
        assert (across <= along / 2 + 1e-4).all()
        assert scenes.relation.bincount(minlength=4).min() > 400


def test_twenty_thousand_scenes_are_drawn_in_seconds_and_the_same_again():
    start = time.process_time()
    scenes = training_scenes(20_000, torch.Generator().manual_seed(0))
    x, captions = paint(scenes), write(scenes)
    assert time.process_time() - start < 20
    again = training_scenes(20_000, torch.Generator().manual_seed(0))
    assert write(again) == captions
    assert torch.equal(paint(again[torch.arange(50)]), x[:50])
    assert x.shape == (20_000, 3, SIDE, SIDE)
    assert -1 <= x.min() < x.max() <= 1
    assert (scenes.count == 2).double().mean() == pytest.approx(0.6)


def test_an_object_has_its_hue_its_area_and_soft_edges():
    """By hand: a circle of radius 6 covers pi 36 pixels; its centre is of its hue, a corner is background."""
    middle, one = torch.full((1, 2), 16.0), torch.tensor([1])
    absent = torch.tensor([ABSENT])
    areas = (3.1416, 4 * 0.86**2, 0.75 * 3**0.5 * 1.15**2, 5 * 0.45 * 1.05**2 * 0.58779)
    for shape, area in enumerate(areas):
        kind = torch.tensor([[shape, ABSENT]])
        hue, size = torch.tensor([[4, ABSENT]]), torch.tensor([[1, ABSENT]])
        x = paint(Scenes(one, hue, kind, size, absent, middle, middle, torch.full((1, 2), 6.0)))[0]
        background, hues = palette(x.device)
        assert torch.allclose(x[:, 16, 16], hues[4], atol=1e-6)
        assert torch.allclose(x[:, 0, 0], background, atol=1e-6)
        line = hues[4] - background
        covered = ((x - background[:, None, None]) * line[:, None, None]).sum(0) / line.square().sum()
        assert covered.sum() == pytest.approx(36 * area, rel=0.03)
        assert ((covered > 0.05) & (covered < 0.95)).any()


@pytest.mark.parametrize("table", [torch.tensor([]).long(), torch.zeros(3, 3).long()], ids=["empty", "threes"])
def test_other_tables_are_refused(table):
    with pytest.raises(ValueError, match=r"table is .*expected combinations of shape \(N,\) or \(N, 2\)"):
        draw(table, 3, torch.Generator())


def test_scenes_join_and_split():
    a, b = some("one seen", 3), some("two seen", 4)
    both = joined([a, b])
    assert len(both) == 7
    assert equal(both[slice(3, 7)], b)
    assert torch.equal(both[torch.tensor([0])].x, a.x[:1])
