"""Scenes of one or two coloured objects with captions, drawn by code, and a checker that reads them back from pixels.

Pictures are (B, 3, 32, 32) in [-1, 1]. A caption is "a small red circle", or two such joined by a relation: "a small
red circle left of a large blue square". The two objects of a scene never share a hue. Everything is vectorised, and
runs on the device of the generator or of the pictures.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

SIDE = 32
SHAPES = ("circle", "square", "triangle", "star")
HUES = ("red", "yellow", "green", "cyan", "blue", "purple")
SIZES = ("small", "large")
RELATIONS = ("left of", "right of", "above", "below")
WORDS = ("<pad>", "<null>", "a", *SIZES, *HUES, *SHAPES, "left", "right", "of", "above", "below")
PAD, NULL = 0, 1
LENGTH = 10  # words of the longest caption
UNSURE = -1

RADII = ((4.0, 4.8), (6.2, 7.0))  # of small and of large objects, in pixels
BACKGROUND = (24, 26, 32)
COLOURS = ((230, 60, 50), (240, 210, 60), (60, 180, 80), (70, 200, 220), (60, 100, 235), (175, 80, 205))
MARGIN = 1.0  # pixels between an object and the border, and between two objects

_INDEX = {word: i for i, word in enumerate(WORDS)}
_SQUARE, _TRIANGLE, _STAR, _INNER = 0.86, 1.15, 1.05, 0.45  # half side, two outer radii, inner over outer, in radii
_DROP = (0.0, 0.0, _TRIANGLE / 4, _STAR * (1 - math.cos(math.pi / 5)) / 2)  # of the centroid below the box's middle
_AREA = (
    math.pi,
    4 * _SQUARE**2,
    0.75 * math.sqrt(3) * _TRIANGLE**2,
    5 * _INNER * _STAR**2 * math.sin(math.pi / 5),
)


@dataclass(frozen=True)
class Scenes:
    """What is in B scenes. Objects are (B, 2); of a single object only the first counts. x and y are box middles."""

    count: Tensor
    hue: Tensor
    shape: Tensor
    size: Tensor
    relation: Tensor
    x: Tensor
    y: Tensor
    radius: Tensor

    def __len__(self) -> int:
        return len(self.count)

    def __getitem__(self, rows: slice | Tensor) -> "Scenes":
        return Scenes(*(getattr(self, part.name)[rows] for part in fields(self)))


def joined(parts: Sequence[Scenes]) -> Scenes:
    """Several scenes in one."""
    return Scenes(*(torch.cat([getattr(one, part.name) for one in parts]) for part in fields(Scenes)))


# --- Which combinations are trained on --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Split:
    """Which combinations are kept from training.

    `held` are (hue, shape) that no training scene contains, alone or in a pair. Of the pairs of the others, one in
    `every` is held too: both objects are trained, never together. Tables of combinations, 4 hue + shape: `one` and
    `two` are trained, `one_held` and `two_held` are not.
    """

    held: tuple[tuple[str, str], ...] = (
        ("red", "square"),
        ("yellow", "star"),
        ("green", "circle"),
        ("cyan", "triangle"),
        ("blue", "square"),
        ("purple", "star"),
    )
    every: int = 8
    one: Tensor = field(init=False)
    one_held: Tensor = field(init=False)
    two: Tensor = field(init=False)
    two_held: Tensor = field(init=False)

    def __post_init__(self) -> None:
        held = sorted(4 * HUES.index(hue) + SHAPES.index(shape) for hue, shape in self.held)
        kept = [k for k in range(len(HUES) * len(SHAPES)) if k not in held]
        pairs = [(a, b) for a in kept for b in kept if a // 4 != b // 4]
        unordered = sorted({(min(pair), max(pair)) for pair in pairs})
        away = {pair for i, pair in enumerate(unordered) if (7 * i) % self.every == 3 % self.every}
        tables = {
            "one": kept,
            "one_held": held,
            "two": [pair for pair in pairs if (min(pair), max(pair)) not in away],
            "two_held": [pair for pair in pairs if (min(pair), max(pair)) in away],
        }
        for name, rows in tables.items():
            object.__setattr__(self, name, torch.tensor(rows, dtype=torch.int64))


def draw_scenes(table: Tensor, number: int, generator: torch.Generator) -> Scenes:
    """Scenes of combinations drawn from a table of a `Split`: (N,) for one object, (N, 2) for two.

    Size, radius, relation and place are uniform. Two objects lie MARGIN apart along their relation's axis, and are
    always further apart along it than across.
    """
    device = generator.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=device)

    def whole(high: int, *shape: int) -> Tensor:
        return torch.randint(high, shape, generator=generator, device=device)

    objects = table.to(device)[whole(len(table), number)]
    two = objects.ndim == 2
    objects = objects if two else torch.stack([objects, objects], 1)
    size, relation = whole(2, number, 2), whole(4, number)
    low, high = torch.tensor(RADII, device=device)[size].unbind(-1)
    radius = low + (high - low) * uniform(number, 2)
    nearest, furthest = radius + MARGIN, SIDE - radius - MARGIN
    if not two:
        x, y = (nearest + (furthest - nearest) * uniform(number, 2) for _ in range(2))
        count = torch.ones(number, dtype=torch.int64, device=device)
        return Scenes(count, objects // 4, objects % 4, size, relation, x, y, radius)
    # The first lies at the low end along the axis if the relation is "left of" or "above"; else the second does.
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
    horizontal = (relation < 2)[:, None]
    x, y = torch.where(horizontal, along, across), torch.where(horizontal, across, along)
    count = torch.full((number,), 2, dtype=torch.int64, device=device)
    return Scenes(count, objects // 4, objects % 4, size, relation, x, y, radius)


# --- Pictures ---------------------------------------------------------------------------------------------------------


def palette(device: torch.device) -> tuple[Tensor, Tensor]:
    """The background (3,) and the hues (6, 3), in [-1, 1]."""
    return tuple(torch.tensor(c, device=device, dtype=torch.float32) / 127.5 - 1 for c in (BACKGROUND, COLOURS))


def coverage(shape: int, x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    """How much of each pixel a shape covers, 0..1; x and y are the pixel's place from the middle of its box."""
    if shape == 0:
        distance = (x * x + y * y).sqrt() - radius
    elif shape == 1:
        distance = x.abs().maximum(y.abs()) - _SQUARE * radius
    elif shape == 2:
        y = y - _DROP[2] * radius
        slanted = math.sqrt(3) / 2 * x.abs() - y / 2
        distance = slanted.maximum(y) - _TRIANGLE / 2 * radius
    else:
        y = y - _DROP[3] * radius
        fifth = math.pi / 5
        angle = ((torch.atan2(x, -y) + fifth) % (2 * fifth) - fifth).abs()
        reach = (x * x + y * y).sqrt()
        # The edge runs from the tip (1, 0) to the notch, in radii of the tips.
        notch_x, notch_y = _INNER * math.cos(fifth), _INNER * math.sin(fifth)
        length = math.hypot(1 - notch_x, notch_y)
        normal_x, normal_y = notch_y / length, (1 - notch_x) / length
        distance = reach * (angle.cos() * normal_x + angle.sin() * normal_y) - _STAR * radius * normal_x
    return (0.5 - distance).clamp(0, 1)


def pixels(device: torch.device) -> tuple[Tensor, Tensor]:
    """x (1, SIDE) and y (SIDE, 1) of the pixels' middles."""
    at = torch.arange(SIDE, device=device) + 0.5
    return at[None, :], at[:, None]


def masks(scenes: Scenes) -> Tensor:
    """How much of each pixel each object covers, (B, 2, SIDE, SIDE); nothing for a second object that is not there."""
    px, py = pixels(scenes.x.device)
    x, y = px - scenes.x[..., None, None], py - scenes.y[..., None, None]
    radius, shape = scenes.radius[..., None, None], scenes.shape[..., None, None]
    mask = torch.zeros_like(x)
    for k in range(len(SHAPES)):
        mask = torch.where(shape == k, coverage(k, x, y, radius), mask)
    there = torch.stack([scenes.count >= 1, scenes.count >= 2], 1)
    return mask * there[..., None, None]


def paint(scenes: Scenes) -> Tensor:
    """Pictures (B, 3, SIDE, SIDE) of scenes, anti-aliased."""
    background, hues = palette(scenes.x.device)
    colour = hues[scenes.hue] - background
    return background[:, None, None] + torch.einsum("bkhw,bkc->bchw", masks(scenes), colour)


# --- Captions ---------------------------------------------------------------------------------------------------------


def tokens(scenes: Scenes) -> Tensor:
    """The captions of scenes as indices of WORDS, (B, LENGTH) int64."""
    device = scenes.hue.device

    def words(*names: str) -> Tensor:
        return torch.tensor([_INDEX[name] for name in names], device=device)

    a = words("a").expand(len(scenes))
    objects = [
        (a, words(*SIZES)[scenes.size[:, k]], words(*HUES)[scenes.hue[:, k]], words(*SHAPES)[scenes.shape[:, k]])
        for k in range(2)
    ]
    pad = torch.full_like(a, PAD)
    sideways = scenes.relation < 2
    relation = words("left", "right", "above", "below")[scenes.relation]
    # "above" and "below" have no "of": the second object then begins one word earlier.
    long = torch.stack([relation, words("of").expand(len(scenes)), *objects[1]], 1)
    short = torch.stack([relation, *objects[1], pad], 1)
    rest = torch.where(sideways[:, None], long, short)
    rest = torch.where((scenes.count == 2)[:, None], rest, torch.full_like(rest, PAD))
    return torch.cat([torch.stack(objects[0], 1), rest], 1)


def caption(row: Tensor) -> str:
    """The caption that indices (LENGTH,) stand for."""
    return " ".join(WORDS[i] for i in row.tolist() if i != PAD)


def encode(text: str) -> Tensor:
    """A caption as indices (LENGTH,); ValueError names the words that the grammar has not, or what else is wrong."""
    words = text.lower().split()
    unknown = [word for word in words if word not in _INDEX or _INDEX[word] in (PAD, NULL)]
    if unknown:
        raise ValueError(f"text has the unknown words {unknown}; expected words of {list(WORDS[2:])}")
    if not 1 <= len(words) <= LENGTH:
        raise ValueError(f"text has {len(words)} words; expected 1 to {LENGTH}")
    return torch.tensor([_INDEX[word] for word in words] + [PAD] * (LENGTH - len(words)))


def null_tokens(number: int, device: torch.device) -> Tensor:
    """The empty caption, (number, LENGTH)."""
    row = torch.tensor([NULL] + [PAD] * (LENGTH - 1), device=device)
    return row.expand(number, LENGTH)


# --- The checker ------------------------------------------------------------------------------------------------------


class Reading(NamedTuple):
    """What was read from B pictures; UNSURE where it could not be told. Objects are (B, 2), the larger area first."""

    count: Tensor
    hue: Tensor
    shape: Tensor
    size: Tensor
    x: Tensor
    y: Tensor
    overlap: Tensor


COLOUR_TOLERANCE = 0.4  # how far a pixel may be from the line between background and hue
PART = 0.35  # of a hue that makes a pixel count as that hue's
LEAST, FRAGMENT, FOREIGN = 14.0, 6.0, 14  # pixels of an object, of something too small for one, of no known hue
OVERLAP, LEAD = 0.7, 0.01  # a template must fit so well, and better than any other shape by so much
MIDDLE, DOUBT = 5.5, 0.3  # radius between small and large, and how near it makes size unsure
SLANT = 1.1  # so much further along an axis than across makes a relation
WINDOW = 9  # pixels on either side of an object's centroid in which it is compared with templates
SCALES = (0.92, 0.96, 1.0, 1.04, 1.08)


@torch.no_grad()
def read(pictures: Tensor, chunk: int = 1000) -> Reading:
    """Read pictures (B, 3, SIDE, SIDE): which hues cover an object's area, and which template fits each best."""
    parts = [_read(part.float()) for part in pictures.split(chunk)]
    return Reading(*(torch.cat(values) for values in zip(*parts, strict=True)))


def _read(pictures: Tensor) -> Reading:
    device = pictures.device
    background, hues = palette(device)
    line = hues - background
    off = pictures - background[:, None, None]
    along = torch.einsum("bchw,kc->bkhw", off, line)
    length = (line * line).sum(1)[:, None, None]
    part = (along / length).clamp(0, 1)
    squared = (off * off).sum(1, keepdim=True)
    residual, hue = (squared - 2 * part * along + part**2 * length).min(1, keepdim=True)
    known = residual < COLOUR_TOLERANCE**2
    mine = part.gather(1, hue)
    mask = torch.zeros_like(part).scatter(1, hue, mine * (known & (mine > 0.1)))
    area = ((mask > PART) * mask).sum((2, 3))
    count = (area >= LEAST).sum(1)
    fragments = ((area >= FRAGMENT) & (area < LEAST)).any(1)
    foreign = ((squared > 0.16) & ~known).sum((1, 2, 3)) > FOREIGN
    count = torch.where(fragments | foreign | (count > 2), UNSURE, count)

    top = area.topk(2, 1)
    there = top.values >= LEAST
    mask = mask.gather(1, top.indices[..., None, None].expand(-1, -1, SIDE, SIDE))
    solid = mask * (mask > PART)
    px, py = pixels(device)
    total = solid.sum((2, 3)).clamp(min=1e-6)
    x, y = (solid * px).sum((2, 3)) / total, (solid * py).sum((2, 3)) / total
    # Only what lies around the centroid counts, so that noise elsewhere does not.
    left, up = (place.floor().long().clamp(0, SIDE - 1) for place in (x, y))
    near = torch.arange(2 * WINDOW + 1, device=device)
    rows, columns = (start[..., None] + near for start in (up, left))
    batch, slot = torch.arange(len(mask), device=device)[:, None], torch.arange(2, device=device)
    mask = F.pad(mask, [WINDOW] * 4)[
        batch[..., None, None], slot[:, None, None], rows[..., :, None], columns[..., None, :]
    ]
    px = (columns - WINDOW + 0.5)[..., None, None, :] - x[..., None, None, None]
    py = (rows - WINDOW + 0.5)[..., None, :, None] - y[..., None, None, None]
    # The radius each shape would have, from the area, at several scales; its template, centred on the centroid.
    scales = torch.tensor(SCALES, device=device)
    wide, fits, radii = mask.sum((2, 3)), [], []
    for k in range(len(SHAPES)):
        radius = (wide / _AREA[k]).sqrt()[..., None] * scales
        drop = (_DROP[k] * radius)[..., None, None]
        template = coverage(k, px, py + drop, radius[..., None, None].clamp(min=0.5))
        seen = mask[:, :, None]
        fit, best = (template.minimum(seen).sum((3, 4)) / template.maximum(seen).sum((3, 4)).clamp(min=1e-6)).max(2)
        fits.append(fit)
        radii.append(radius.gather(2, best[..., None])[..., 0])
    fit, radius = torch.stack(fits, 2), torch.stack(radii, 2)
    order = fit.topk(2, 2)
    overlap, shape = order.values[..., 0], order.indices[..., 0]
    radius = radius.gather(2, shape[..., None])[..., 0]
    sure = there & (overlap >= OVERLAP) & (overlap - order.values[..., 1] >= LEAD)
    shape = torch.where(sure, shape, UNSURE)
    size = torch.where(there & ((radius - MIDDLE).abs() > DOUBT), (radius > MIDDLE).long(), UNSURE)
    return Reading(count, torch.where(there, top.indices, UNSURE), shape, size, x, y, overlap)


def relation_of(dx: Tensor, dy: Tensor) -> Tensor:
    """The relation of an object to another that lies dx further right and dy further down; UNSURE when oblique."""
    sideways = torch.where(dx > 0, 0, 1)
    upright = torch.where(dy > 0, 2, 3)
    told = torch.where(dx.abs() > SLANT * dy.abs(), sideways, upright)
    return torch.where((dx.abs() > SLANT * dy.abs()) | (dy.abs() > SLANT * dx.abs()), told, UNSURE)


ATTRIBUTES = ("count", "hue", "shape", "size", "relation", "all")


def judge(reading: Reading, scenes: Scenes) -> dict[str, Tensor]:
    """Which attributes of the scenes' captions were read from the pictures, (B,) bool each, and all of them together.

    Of two objects, both must be right; whichever pairing of read and asked objects agrees in more is taken. A caption
    of one object has no relation, which then counts as right.
    """
    single = scenes.count == 1
    asked = (scenes.hue, scenes.shape, scenes.size)
    found = (reading.hue, reading.shape, reading.size)
    straight = torch.stack([f == a for f, a in zip(found, asked, strict=True)])
    crossed = torch.stack([f.flip(1) == a for f, a in zip(found, asked, strict=True)])
    turn = (crossed.sum((0, 2)) > straight.sum((0, 2))) & ~single
    right = torch.where(turn[:, None], crossed, straight)
    right = torch.where(single, right[..., 0], right.all(2))
    sign = torch.where(turn, -1, 1)
    dx, dy = (sign * (place[:, 1] - place[:, 0]) for place in (reading.x, reading.y))
    there = (reading.hue != UNSURE).all(1)
    judged = {
        "count": reading.count == scenes.count,
        "hue": right[0],
        "shape": right[1],
        "size": right[2],
        "relation": single | (there & (relation_of(dx, dy) == scenes.relation)),
    }
    return judged | {"all": torch.stack(list(judged.values())).all(0)}
