"""Reads pictures of scenes: how many objects, which hue, shape and size, and where they lie to each other.

No network: each pixel is taken apart into background and one of the six hues; an object is the area of a hue; its shape
is the one whose template covers that area best, and well enough for that shape. What cannot be told is UNSURE. Clean
scenes are all read right; noise makes the checker unsure, from a standard deviation of about 0.1 on, and not wrong.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from lessons_src.checks import check_floating, refuse
from lessons_src.metrics import Interval, wilson_interval
from lessons_src.scenes import ABSENT, AREAS, DROPS, SHAPES, SIDE, Meaning, coverage, joined, palette, pixels

UNSURE = -2
ATTRIBUTES = ("count", "hue", "shape", "size", "relation", "all")

COLOUR_TOLERANCE = 0.4  # how far a pixel may be from the line between background and hue
PART = 0.35  # of a hue that makes a pixel count as that hue's
LEAST, FRAGMENT, FOREIGN = 14.0, 6.0, 14  # pixels of an object, of something too small for one, of no known hue
# A template must fit so well, and better than any other by LEAD. A circle has the shortest edge for its area, so
# that it fits best. Chosen by eye, where drawn shapes no longer look like their name, before anything was counted with
# them; noise of 0.1 on clean scenes puts fewer than 1 object in 200 below.
OVERLAP = dict(zip(SHAPES, (0.9, 0.89, 0.79, 0.72), strict=True))
LEAD = 0.01
FAINT = 0.2  # a pixel with less of a hue is empty to a template, and full with 1 less so much: noise does not count
MIDDLE, DOUBT = 5.5, 0.3  # radius between small and large, and how near it makes size unsure
SLANT = 1.1  # so much further along an axis than across makes a relation
WINDOW = 9  # pixels on either side of an object's centre in which it is compared with templates
SCALES = (0.92, 0.96, 1.0, 1.04, 1.08)


@dataclass(frozen=True)
class Reading(Meaning):
    """What was read from B pictures: a `Meaning`, the larger area first, in which values may be UNSURE.

    x and y (B, 2) are the objects' centres in pixels. overlap (B, 2) says how well the best template fits, from 0 to 1.
    """

    x: Tensor
    y: Tensor
    overlap: Tensor

    @property
    def unsure(self) -> Tensor:
        """Whether something in a picture could not be told, (B,) bool."""
        objects = torch.stack([self.hue, self.shape, self.size], 2)
        return (self.count == UNSURE) | (self.relation == UNSURE) | (objects == UNSURE).any(2).any(1)


@torch.no_grad()
def read(pictures: Tensor) -> Reading:
    """Read pictures (B, 3, SIDE, SIDE) in [-1, 1]; ValueError for another shape, or if they are not finite."""
    if check_floating("pictures", pictures).ndim != 4 or pictures.shape[1:] != (3, SIDE, SIDE):
        refuse("pictures", pictures, f"shape (B, 3, {SIDE}, {SIDE})")
    if not pictures.isfinite().all():
        refuse("pictures", pictures, "finite values")
    return joined([_read(part.float()) for part in pictures.split(500)])


def _read(pictures: Tensor) -> Reading:
    mask, count, hue, there = _objects(pictures)
    px, py = pixels(pictures.device)
    solid = mask * (mask > PART)
    total = solid.sum((2, 3)).clamp(min=1e-6)
    x, y = (solid * px).sum((2, 3)) / total, (solid * py).sum((2, 3)) / total
    fit, radius = _fits(mask, x, y)
    order = fit.topk(2, 2)
    overlap, shape = order.values[..., 0], order.indices[..., 0]
    radius = radius.gather(2, shape[..., None])[..., 0]
    least = torch.tensor([*OVERLAP.values()], device=pictures.device)[shape]
    sure = (overlap >= least) & (overlap - order.values[..., 1] >= LEAD)
    shape = torch.where(sure, shape, UNSURE)
    size = torch.where((radius - MIDDLE).abs() > DOUBT, (radius > MIDDLE).long(), UNSURE)
    hue, shape, size = (torch.where(there, part, ABSENT) for part in (hue, shape, size))
    relation = torch.where(there.all(1), _relation(x[:, 1] - x[:, 0], y[:, 1] - y[:, 0]), ABSENT)
    return Reading(count, hue, shape, size, relation, x, y, overlap)


def _objects(pictures: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of pictures (B, 3, SIDE, SIDE): the masks (B, 2, SIDE, SIDE) of the two largest hues, how many objects there are,
    the hues (B, 2), and which of the two are objects at all (B, 2).
    """
    background, hues = palette(pictures.device)
    line = hues - background
    off = pictures - background[:, None, None]
    along = torch.einsum("bchw,kc->bkhw", off, line)
    length = (line * line).sum(1)[:, None, None]
    part = (along / length).clamp(0, 1)  # of each hue in each pixel, if it is mixed of that hue and background
    squared = (off * off).sum(1, keepdim=True)
    residual, hue = (squared - 2 * part * along + part**2 * length).min(1, keepdim=True)
    known = residual < COLOUR_TOLERANCE**2
    mine = part.gather(1, hue)
    mask = torch.zeros_like(part).scatter(1, hue, mine * (known & (mine > 0.1)))
    area = ((mask > PART) * mask).sum((2, 3))
    count = (area >= LEAST).sum(1)
    fragments = ((area >= FRAGMENT) & (area < LEAST)).any(1)
    foreign = ((squared > COLOUR_TOLERANCE**2) & ~known).sum((1, 2, 3)) > FOREIGN
    count = torch.where(fragments | foreign | (count > 2), UNSURE, count)
    top = area.topk(2, 1)
    mask = mask.gather(1, top.indices[..., None, None].expand(-1, -1, SIDE, SIDE))
    return mask, count, top.indices, top.values >= LEAST


def _fits(mask: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """How well each shape fits masks (B, 2, SIDE, SIDE) with centres x and y (B, 2), and its radius: (B, 2, 4) both.

    Only what lies around the centre counts, so that noise elsewhere does not. A shape's radius follows from the area,
    tried at several scales; the fit is the intersection over the union.
    """
    device = mask.device
    left, up = (place.floor().long().clamp(0, SIDE - 1) for place in (x, y))
    near = torch.arange(2 * WINDOW + 1, device=device)
    rows, columns = (start[..., None] + near for start in (up, left))
    batch, slot = torch.arange(len(mask), device=device)[:, None], torch.arange(2, device=device)
    padded = _clear(F.pad(mask, [WINDOW] * 4))
    window = padded[batch[..., None, None], slot[:, None, None], rows[..., :, None], columns[..., None, :]]
    px = (columns - WINDOW + 0.5)[..., None, None, :] - x[..., None, None, None]
    py = (rows - WINDOW + 0.5)[..., None, :, None] - y[..., None, None, None]
    scales, seen, fits, radii = torch.tensor(SCALES, device=device), window[:, :, None], [], []
    for k in range(len(SHAPES)):
        radius = (window.sum((2, 3)) / AREAS[k]).sqrt()[..., None] * scales
        drop = (DROPS[k] * radius)[..., None, None]
        template = _clear(coverage(k, px, py + drop, radius[..., None, None].clamp(min=0.5)))
        fit = template.minimum(seen).sum((3, 4)) / template.maximum(seen).sum((3, 4)).clamp(min=1e-6)
        fits.append(fit.amax(2))
        radii.append(radius.gather(2, fit.argmax(2, keepdim=True))[..., 0])
    return torch.stack(fits, 2), torch.stack(radii, 2)


def _clear(part: Tensor) -> Tensor:
    """Parts of a hue in pixels with what is FAINT made 0, what is nearly full made 1."""
    return ((part - FAINT) / (1 - 2 * FAINT)).clamp(0, 1)


def _relation(dx: Tensor, dy: Tensor) -> Tensor:
    """The relation of an object to another that lies dx further right and dy further down; UNSURE when oblique."""
    sideways, upright = torch.where(dx > 0, 0, 1), torch.where(dy > 0, 2, 3)
    told = torch.where(dy.abs() > SLANT * dx.abs(), upright, UNSURE)
    return torch.where(dx.abs() > SLANT * dy.abs(), sideways, told)


def judge(reading: Reading, asked: Meaning) -> dict[str, Tensor]:
    """Which attributes of what was asked for were read, (B,) bool each, and whether all of them were.

    Of two objects, both must be right; whichever pairing of those read with those asked for agrees in more is taken. Of
    one object, the larger area is compared; it has no relation, which counts as right. UNSURE is wrong.
    """
    if len(reading) != len(asked):
        refuse("asked", len(asked), f"{len(reading)} meanings, one a picture")
    wanted, found = (torch.stack([m.hue, m.shape, m.size]) for m in (asked, reading))
    straight, crossed = found == wanted, found.flip(2) == wanted
    single = asked.count == 1
    turned = (crossed.sum((0, 2)) > straight.sum((0, 2))) & ~single
    right = torch.where(turned[:, None], crossed, straight)
    hue, shape, size = torch.where(single, right[..., 0], right.all(2))
    opposite = torch.where(reading.relation >= 0, reading.relation ^ 1, reading.relation)
    relation = single | (torch.where(turned, opposite, reading.relation) == asked.relation)
    judged = {"count": reading.count == asked.count, "hue": hue, "shape": shape, "size": size, "relation": relation}
    return judged | {"all": torch.stack(list(judged.values())).all(0)}


def adherence(pictures: Tensor, asked: Meaning) -> dict[str, Interval]:
    """The share of pictures (B, 3, SIDE, SIDE) that show what was asked for, by attribute, with 95 % intervals."""
    judged = judge(read(pictures), asked)
    return {name: wilson_interval(int(right.sum()), len(right)) for name, right in judged.items()}
