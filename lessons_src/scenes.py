"""Scenes of one or two coloured objects, drawn by code, and the captions that tell them.

Pictures are (B, 3, 32, 32) in [-1, 1]. A caption is "a small red circle", or two objects joined by a relation: "a small
red circle left of a large blue square". The two never share a hue, so that hue tells them apart (`scene_checker` reads
pictures back). Everything happens on the device of the generator, or of what is given.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import torch
from torch import Tensor

from lessons_src.checks import check_int, check_real, refuse

SIDE = 32
SHAPES = ("circle", "square", "triangle", "star")
HUES = ("red", "yellow", "green", "cyan", "blue", "purple")
SIZES = ("small", "large")
RELATIONS = ("left of", "right of", "above", "below")
ABSENT = -1  # what stands for the second object of a scene that has none, and for its relation

WORDS = ("<pad>", "<null>", "a", *SIZES, *HUES, *SHAPES, "left", "right", "of", "above", "below")
LENGTH = 10  # tokens of the longest caption
GRAMMAR = "'a SIZE HUE SHAPE', or two such of unequal hue joined by " + ", ".join(RELATIONS)

RADII = ((4.0, 4.8), (6.2, 7.0))  # of small and of large objects, in pixels
MARGIN = 1.0  # pixels between an object and the border, and between two objects
BACKGROUND = (24, 26, 32)
COLOURS = ((230, 60, 50), (240, 210, 60), (60, 180, 80), (70, 200, 220), (60, 100, 235), (175, 80, 205))

# Half the side of a square, the outer radii of triangle and star, and a star's inner radius over its outer one.
_SQUARE, _TRIANGLE, _STAR, _INNER = 0.86, 1.15, 1.05, 0.45
# Of a shape of radius 1: how far its centre lies below the middle of its bounding box, and its area.
DROPS = (0.0, 0.0, _TRIANGLE / 4, _STAR * (1 - math.cos(math.pi / 5)) / 2)
AREAS = (
    math.pi,
    4 * _SQUARE**2,
    0.75 * math.sqrt(3) * _TRIANGLE**2,
    5 * _INNER * _STAR**2 * math.sin(math.pi / 5),
)

AnyMeaning = TypeVar("AnyMeaning", bound="Meaning")


@dataclass(frozen=True)
class Meaning:
    """What B captions say, as places in the tuples above: int64, (B,), or (B, 2) for what each object has.

    relation is that of the first object to the second. What is not there is ABSENT.
    """

    count: Tensor
    hue: Tensor
    shape: Tensor
    size: Tensor
    relation: Tensor

    def __len__(self) -> int:
        return len(self.count)

    def __getitem__(self: AnyMeaning, rows: slice | Tensor) -> AnyMeaning:
        return type(self)(*(getattr(self, part.name)[rows] for part in fields(self)))


@dataclass(frozen=True)
class Scenes(Meaning):
    """What B scenes show, and where: the middles x and y of the objects' boxes and their radii, (B, 2), in pixels."""

    x: Tensor
    y: Tensor
    radius: Tensor


def joined(parts: Sequence[AnyMeaning]) -> AnyMeaning:
    """Several of a kind in one."""
    kind = type(parts[0])
    return kind(*(torch.cat([getattr(one, part.name) for one in parts]) for part in fields(kind)))


# --- What can be said


def write(meaning: Meaning) -> list[str]:
    """The captions (B) of what they are to say. Raises ValueError for what no caption says, such as two equal hues."""
    columns = (meaning.count, meaning.hue, meaning.shape, meaning.size, meaning.relation)
    return [_caption(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def _caption(count: int, hue: list[int], shape: list[int], size: list[int], relation: int) -> str:
    given = {"count": count, "hue": hue, "shape": shape, "size": size, "relation": relation}
    if count not in (1, 2) or (count == 2 and (hue[0] == hue[1] or relation not in range(len(RELATIONS)))):
        refuse("meaning", given, GRAMMAR)
    objects = []
    for h, f, s in list(zip(hue, shape, size, strict=True))[:count]:
        if h not in range(len(HUES)) or f not in range(len(SHAPES)) or s not in range(len(SIZES)):
            refuse("meaning", given, GRAMMAR)
        objects.append(f"a {SIZES[s]} {HUES[h]} {SHAPES[f]}")
    return objects[0] if count == 1 else f"{objects[0]} {RELATIONS[relation]} {objects[1]}"


def parse(captions: Sequence[str]) -> Meaning:
    """What captions say. Raises ValueError naming words that are not in WORDS, or the grammar that a caption breaks.

    TypeError for anything but a sequence of captions, such as a single one.
    """
    if isinstance(captions, str) or not all(isinstance(caption, str) for caption in captions):
        refuse("captions", captions, "a list of captions", TypeError)
    rows = [_parsed(caption) for caption in captions]
    count, hue, shape, size, relation = (torch.tensor([row[k] for row in rows], dtype=torch.int64) for k in range(5))
    hue, shape, size = (part.view(len(rows), 2) for part in (hue, shape, size))
    return Meaning(count, hue, shape, size, relation)


def _parsed(caption: str) -> tuple[int, list[int], list[int], list[int], int]:
    words = caption.lower().split()
    unknown = sorted(set(words) - set(WORDS[2:]))
    if unknown:
        refuse("captions", caption, f"known words; unknown: {', '.join(unknown)}; known: {' '.join(WORDS[2:])}")
    relation = " ".join(words[4:-4])
    objects = [words[:4], words[-4:]] if relation else [words]
    kinds = (("a",), SIZES, HUES, SHAPES)
    for one in objects:
        if len(one) != 4 or any(word not in kind for word, kind in zip(one, kinds, strict=True)):
            refuse("captions", caption, GRAMMAR)
    size, hue, shape = ([kinds[k].index(one[k]) for one in objects] for k in (1, 2, 3))
    if not relation:
        return 1, [*hue, ABSENT], [*shape, ABSENT], [*size, ABSENT], ABSENT
    if relation not in RELATIONS or hue[0] == hue[1]:
        refuse("captions", caption, GRAMMAR)
    return 2, hue, shape, size, RELATIONS.index(relation)


def tokens(captions: Sequence[str]) -> Tensor:
    """Tokens (B, LENGTH) int64 of captions: each word's place in WORDS, then zeros. Refuses what `parse` refuses."""
    parse(captions)
    rows = [[WORDS.index(word) for word in caption.lower().split()] for caption in captions]
    return torch.tensor([row + [0] * (LENGTH - len(row)) for row in rows], dtype=torch.int64).view(len(rows), LENGTH)


# --- What is trained on, and what is kept from training

HELD = (
    ("red", "square"),
    ("yellow", "star"),
    ("green", "circle"),
    ("cyan", "triangle"),
    ("blue", "square"),
    ("purple", "star"),
)
SETS = ("one seen", "one held", "two seen", "two held", "two of held")


def combinations(held: Sequence[tuple[str, str]] = HELD, every: int = 8) -> dict[str, Tensor]:
    """The combinations of hue and shape in each of SETS, 4 hue + shape: (N,) for one object, (N, 2) for two.

    No training scene contains a combination of `held`, alone or in a pair. Of the pairs of the others one in `every` is
    held too: both objects are trained, never together. "seen" is trained, "held" is not; "two of held" pairs one object
    of `held` with a trained one.
    """
    for pair in held:
        if len(pair) != 2 or pair[0] not in HUES or pair[1] not in SHAPES:
            refuse("held", pair, "pairs of a hue and a shape")
    check_int("every", every, 2)
    away = sorted(4 * HUES.index(hue) + SHAPES.index(shape) for hue, shape in held)
    kept = [k for k in range(len(HUES) * len(SHAPES)) if k not in away]
    pairs = [(a, b) for a in kept for b in kept if a // 4 != b // 4]
    unordered = sorted({(min(pair), max(pair)) for pair in pairs})
    apart = {pair for i, pair in enumerate(unordered) if (7 * i) % every == 3 % every}
    mixed = [(a, b) for a in away for b in kept if a // 4 != b // 4]
    tables = {
        "one seen": kept,
        "one held": away,
        "two seen": [pair for pair in pairs if (min(pair), max(pair)) not in apart],
        "two held": [pair for pair in pairs if (min(pair), max(pair)) in apart],
        "two of held": mixed + [(b, a) for a, b in mixed],
    }
    return {name: torch.tensor(rows, dtype=torch.int64) for name, rows in tables.items()}


def trained(meaning: Meaning, held: Sequence[tuple[str, str]] = HELD, every: int = 8) -> Tensor:
    """Whether training scenes may have these combinations of hue and shape, (B,) bool; size and place do not matter."""
    tables = combinations(held, every)
    first, second = (4 * meaning.hue + meaning.shape).unbind(1)
    # One number for each ordered pair; a single object is paired with itself, which no two objects are.
    code = 24 * first + torch.where(meaning.count == 1, first, second)
    known = torch.cat([25 * tables["one seen"], tables["two seen"] @ torch.tensor([24, 1])])
    return torch.isin(code, known.to(code.device))


# --- Scenes


def draw(table: Tensor, number: int, generator: torch.Generator) -> Scenes:
    """`number` scenes of combinations drawn from a table of `combinations`, (N,) for one object or (N, 2) for two.

    Size, radius, relation and place are uniform. Two objects lie MARGIN apart along their relation's axis, and always
    further apart along it than across. ValueError for a table of another shape, or an empty one.
    """
    check_int("number", number, 0)
    if table.shape[1:] not in ((), (2,)) or not len(table):
        refuse("table", table, "combinations of shape (N,) or (N, 2), at least one")
    device = generator.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=device)

    def whole(high: int, *shape: int) -> Tensor:
        return torch.randint(high, shape, generator=generator, device=device)

    objects = table.to(device)[whole(len(table), number)]
    two = objects.ndim == 2
    objects = objects if two else torch.stack([objects, objects], 1)
    hue, shape, size, relation = objects // 4, objects % 4, whole(2, number, 2), whole(4, number)
    low, high = torch.tensor(RADII, device=device)[size].unbind(-1)
    radius = low + (high - low) * uniform(number, 2)
    nearest, furthest = radius + MARGIN, SIDE - radius - MARGIN
    count = torch.full((number,), 1 + two, device=device)
    if not two:
        x, y = (nearest + (furthest - nearest) * uniform(number, 2) for _ in range(2))
        for part in (hue, shape, size):
            part[:, 1] = ABSENT
        return Scenes(count, hue, shape, size, torch.full_like(relation, ABSENT), x, y, radius)
    # The first lies at the low end of the axis if the relation is "left of" or "above"; else the second does.
    first_low = (relation % 2 == 0)[:, None]
    end = torch.where(first_low, radius, radius.flip(1))  # the one at the low end, the one at the high end
    apart = end.sum(1) + MARGIN
    slack = (SIDE - 2 * MARGIN - end.sum(1) - apart)[:, None] * uniform(number, 2).sort(1).values
    along = torch.stack([end[:, 0] + MARGIN + slack[:, 0], end[:, 0] + MARGIN + apart + slack[:, 1]], 1)
    distance = along[:, 1] - along[:, 0]
    along = torch.where(first_low, along, along.flip(1))
    start = nearest[:, 0] + (furthest - nearest)[:, 0] * uniform(number)
    other = start + distance * (uniform(number) - 0.5)
    across = torch.stack([start, other.maximum(nearest[:, 1]).minimum(furthest[:, 1])], 1)
    sideways = (relation < 2)[:, None]
    x, y = torch.where(sideways, along, across), torch.where(sideways, across, along)
    return Scenes(count, hue, shape, size, relation, x, y, radius)


def training_scenes(number: int, generator: torch.Generator, two: float = 0.6) -> Scenes:
    """Scenes to train on, the share `two` of them with two objects; nothing of what `combinations` holds back."""
    pairs, tables = round(check_real("two", two, 0, 1) * check_int("number", number, 0)), combinations()
    parts = (draw(tables["one seen"], number - pairs, generator), draw(tables["two seen"], pairs, generator))
    return joined(parts)


# --- Pictures


def palette(device: torch.device) -> tuple[Tensor, Tensor]:
    """The background (3,) and the hues (6, 3), in [-1, 1]."""
    background, hues = (torch.tensor(c, device=device, dtype=torch.float32) / 127.5 - 1 for c in (BACKGROUND, COLOURS))
    return background, hues


def pixels(device: torch.device) -> tuple[Tensor, Tensor]:
    """x (1, SIDE) and y (SIDE, 1) of the pixels' middles."""
    at = torch.arange(SIDE, device=device) + 0.5
    return at[None, :], at[:, None]


def coverage(shape: int, x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    """How much of each pixel a shape covers, 0..1; x and y are the pixel's place from the middle of the shape's box."""
    if shape == 0:
        distance = (x * x + y * y).sqrt() - radius
    elif shape == 1:
        distance = x.abs().maximum(y.abs()) - _SQUARE * radius
    elif shape == 2:
        y = y - DROPS[2] * radius
        slanted = math.sqrt(3) / 2 * x.abs() - y / 2
        distance = slanted.maximum(y) - _TRIANGLE / 2 * radius
    else:
        y = y - DROPS[3] * radius
        fifth = math.pi / 5
        angle = ((torch.atan2(x, -y) + fifth) % (2 * fifth) - fifth).abs()
        reach = (x * x + y * y).sqrt()
        # An edge runs from a tip, (1, 0), to a notch, in units of the outer radius.
        notch_x, notch_y = _INNER * math.cos(fifth), _INNER * math.sin(fifth)
        length = math.hypot(1 - notch_x, notch_y)
        normal_x, normal_y = notch_y / length, (1 - notch_x) / length
        distance = reach * (angle.cos() * normal_x + angle.sin() * normal_y) - _STAR * radius * normal_x
    return (0.5 - distance).clamp(0, 1)


def paint(scenes: Scenes) -> Tensor:
    """Pictures (B, 3, SIDE, SIDE) of scenes, anti-aliased."""
    background, hues = palette(scenes.x.device)
    px, py = pixels(scenes.x.device)
    colour = hues[scenes.hue] - background
    picture = background[:, None, None].expand(len(scenes), 3, SIDE, SIDE).clone()
    for k in range(2):
        for shape in range(len(SHAPES)):
            rows = (scenes.shape[:, k] == shape).nonzero()[:, 0]
            x, y, radius = (part[rows, k, None, None] for part in (scenes.x, scenes.y, scenes.radius))
            mask = coverage(shape, px - x, py - y, radius)
            picture[rows] += mask[:, None] * colour[rows, k, :, None, None]
    return picture
