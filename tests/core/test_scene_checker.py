"""The checker reads hand-written pictures, clean and noisy ones, each attribute apart, and says when it is unsure."""

import pytest
import torch

from lessons_src.scene_checker import ATTRIBUTES, UNSURE, adherence, judge, read
from lessons_src.scenes import (
    ABSENT,
    COLOURS,
    HUES,
    SETS,
    SHAPES,
    SIDE,
    combinations,
    draw,
    joined,
    paint,
    palette,
    parse,
    write,
)

BACKGROUND, COLOUR = palette(torch.device("cpu"))

TRIANGLE = """
    . . . . . . # . . . . . .
    . . . . . # # # . . . . .
    . . . . . # # # . . . . .
    . . . . # # # # # . . . .
    . . . . # # # # # . . . .
    . . . # # # # # # # . . .
    . . . # # # # # # # . . .
    . . # # # # # # # # # . .
    . . # # # # # # # # # . .
    . # # # # # # # # # # # .
    . # # # # # # # # # # # .
    # # # # # # # # # # # # #
"""
STAR = """
    . . . . . . # . . . . . .
    . . . . . . # . . . . . .
    . . . . . # # # . . . . .
    . . . . . # # # . . . . .
    # # # # # # # # # # # # #
    . # # # # # # # # # # # .
    . . . # # # # # # # . . .
    . . . # # # # # # # . . .
    . . . # # # # # # # . . .
    . . # # # # . # # # # . .
    . . # # # . . . # # # . .
    . . # . . . . . . . # . .
"""
CIRCLE = """
    . . # # # # . .
    . # # # # # # .
    # # # # # # # #
    # # # # # # # #
    # # # # # # # #
    # # # # # # # #
    . # # # # # # .
    . . # # # # . .
"""
SQUARE = "\n".join(["# # # # # # #"] * 7)
DRAWN = {"triangle": TRIANGLE, "star": STAR, "circle": CIRCLE, "square": SQUARE}

PINCHED = """
    # # . . . . . . # #
    # # # # # # # # # #
    . # # # # # # # # .
    . # # # # # # # # .
    . . # # # # # # . .
    . . # # # # # # . .
    . # # # # # # # # .
    . # # # # # # # # .
    # # # # # # # # # #
    # # . . . . . . # #
"""
TOWER = """
    . . . . # # . . . .
    . . . # # # # . . .
    . # # # # # # # # .
    # # # # # # # # # #
    # # # # # # # # # #
    # # # # # # # # # #
    . # # # # # # # # .
    . # # # # # # # # .
    . # # # # # # # # .
    . # # # # # # # # .
"""
TAILED = """
    . . # # # # . . . .
    . # # # # # # . . .
    # # # # # # # # . .
    # # # # # # # # . .
    # # # # # # # # # .
    # # # # # # # # # #
    . # # # # # # # . .
    . . # # # # . . . .
    . . . # # . . . . .
    . . . # . . . . . .
"""


def picture(*objects):
    """A picture of drawings (shape or drawing, hue, row, column), written with one character a pixel."""
    x = BACKGROUND[:, None, None].expand(3, SIDE, SIDE).clone()
    for drawing, hue, row, column in objects:
        lines = DRAWN.get(drawing, drawing)
        mask = torch.tensor([[c == "#" for c in line.split()] for line in lines.strip().splitlines()])
        window = x[:, row : row + mask.shape[0], column : column + mask.shape[1]]
        window[:, mask] = COLOUR[HUES.index(hue)][:, None]
    return x[None]


def noisy(x, level, seed=0):
    return x + level * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))


def of_all(number=1000, seed=0):
    generator, tables = torch.Generator().manual_seed(seed), combinations()
    return joined([draw(tables[name], number, generator) for name in SETS])


@pytest.mark.parametrize("level", [0.0, 0.05])
@pytest.mark.parametrize(
    ("drawing", "hue", "size"),
    [
        ("triangle", "red", "large"),
        ("star", "yellow", "large"),
        ("circle", "blue", "small"),
        ("square", "cyan", "small"),
    ],
)
def test_hand_written_objects_are_read(drawing, hue, size, level):
    reading = read(noisy(picture((drawing, hue, 9, 11)), level))
    assert write(reading) == [f"a {size} {hue} {drawing}"]


@pytest.mark.parametrize(
    ("first", "second", "caption"),
    [
        ((3, 2), (4, 20), "a large red star left of a small blue circle"),
        ((3, 18), (4, 2), "a large red star right of a small blue circle"),
        ((1, 6), (20, 8), "a large red star above a small blue circle"),
        ((18, 6), (2, 8), "a large red star below a small blue circle"),
    ],
)
def test_hand_written_pairs_are_read_in_their_places(first, second, caption):
    reading = read(picture(("star", "red", *first), ("circle", "blue", *second)))
    assert write(reading) == [caption]
    assert judge(reading, parse([caption]))["all"].all()
    swapped = caption.split()
    other = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
    relation = " ".join(swapped[4:-4])
    said = " ".join([*swapped[-4:], other[relation], *swapped[:4]])
    assert judge(reading, parse([said]))["all"].all(), "the same scene, told from the other object"
    wrong = caption.replace(relation, other[relation])
    judged = judge(reading, parse([wrong]))
    assert [name for name in ATTRIBUTES if not judged[name]] == ["relation", "all"]


@pytest.mark.parametrize(
    ("asked", "wrong"),
    [
        ("a large red star", []),
        ("a large red circle", ["shape"]),
        ("a small red star", ["size"]),
        ("a large blue star", ["hue"]),
        ("a small blue square", ["hue", "shape", "size"]),
        ("a large red star above a small blue circle", ["count", "hue", "shape", "size", "relation"]),
    ],
)
def test_each_attribute_is_judged_by_itself(asked, wrong):
    judged = judge(read(picture(("star", "red", 9, 9))), parse([asked]))
    assert [name for name in ATTRIBUTES[:-1] if not judged[name]] == wrong
    assert bool(judged["all"]) == (not wrong)


def test_clean_scenes_are_read_without_an_error():
    """999 in 1,000 at least, by the interval's lower end."""
    scenes = of_all()
    found = adherence(paint(scenes), scenes)
    assert list(found) == list(ATTRIBUTES)
    for name in ATTRIBUTES:
        assert found[name].value == 1, name
        assert found[name].low > 0.999, name


@pytest.mark.parametrize(("level", "least"), [(0.05, 0.999), (0.1, 0.99), (0.12, 0.97), (0.15, 0.0), (0.3, 0.0)])
def test_noise_makes_the_checker_unsure_never_wrong(level, least):
    scenes = of_all(200)
    reading = read(noisy(paint(scenes), level))
    right = judge(reading, scenes)["all"]
    assert right.double().mean() >= least
    assert torch.equal(right, ~reading.unsure)


def test_what_is_no_scene_is_unsure_or_empty():
    blank = BACKGROUND[:, None, None].expand(1, 3, SIDE, SIDE)
    assert read(blank).count.item() == 0
    assert read(blank).hue.tolist() == [[ABSENT, ABSENT]]
    assert read(noisy(blank, 1.0)).count.item() == UNSURE
    grey = torch.ones(1, 3, SIDE, SIDE)
    assert read(grey).count.item() == UNSURE
    three = picture(("circle", "red", 2, 2), ("circle", "blue", 2, 20), ("circle", "green", 20, 10))
    assert read(three).count.item() == UNSURE
    speck = blank.clone()
    speck[0, :, 5:8, 5:8] = COLOUR[0][:, None, None]
    assert read(speck).count.item() == UNSURE, "nine pixels are too few for an object"
    bar = blank.clone()
    bar[0, :, 3:29, 15:18] = COLOUR[0][:, None, None]
    assert read(bar).shape[0, 0] == UNSURE
    oblique = read(picture(("circle", "red", 2, 2), ("circle", "blue", 20, 20)))
    assert oblique.relation.item() == UNSURE
    with pytest.raises(ValueError, match="meaning is "):
        write(oblique)


@pytest.mark.parametrize("drawing", [PINCHED, TOWER, TAILED])
@pytest.mark.parametrize("level", [0.0, 0.05])
def test_what_the_eye_calls_no_shape_is_none(drawing, level):
    """Squares with bitten sides and blobs, such as networks draw under much guidance."""
    reading = read(noisy(picture((drawing, "red", 9, 11)), level))
    assert reading.hue[0, 0] == HUES.index("red")
    assert reading.shape[0, 0] == UNSURE


def test_between_small_and_large_is_unsure():
    scenes = of_all(50)
    middle = draw(combinations()["one seen"], 50, torch.Generator().manual_seed(0))
    middle.radius.fill_(5.5)
    assert (read(paint(middle)).size[:, 0] == UNSURE).double().mean() > 0.9
    assert (read(paint(scenes)).size[:, 0] != UNSURE).all()


def test_the_hues_are_told_apart_by_more_than_the_tolerance():
    gaps = torch.pdist(torch.tensor(COLOURS) / 127.5)
    assert gaps.min() > 0.75
    assert len(SHAPES) == len(DRAWN)


@pytest.mark.parametrize(
    ("x", "kind", "named"),
    [
        (torch.zeros(2, 3, 28, 28), ValueError, r"pictures is .*shape \(B, 3, 32, 32\)"),
        (torch.zeros(3, 32, 32), ValueError, "pictures is "),
        (torch.zeros(2, 3, 32, 32, dtype=torch.uint8), TypeError, "pictures is .*floating-point"),
        (torch.full((1, 3, 32, 32), torch.nan), ValueError, "finite"),
        (torch.full((1, 3, 32, 32), torch.inf), ValueError, "finite"),
    ],
)
def test_what_cannot_be_read_is_refused(x, kind, named):
    with pytest.raises(kind, match=named):
        read(x)


def test_every_picture_needs_a_caption():
    scenes = of_all(2)
    with pytest.raises(ValueError, match="asked is 3; expected 10 meanings"):
        judge(read(paint(scenes)), scenes[slice(0, 3)])
