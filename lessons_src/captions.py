"""Digits and their words: attributes measured in pixels, captions that tell them, and the tokens of captions.

A caption says which digit, how thick, and how it leans: "a bold seven leaning left". What it does not say may be
anything: "a three" is true of every three, "a thin digit" of every thin one.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from lessons_src.checks import check_real, refuse
from lessons_src.evaluation import check_images, in_batches
from lessons_src.metrics import CaptionScore, caption_score
from lessons_src.networks import JointEmbedding

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "digit")  # the last: any
THICKNESSES = ("thin", "plain", "bold", "")  # the last: unsaid
SLANTS = ("leaning left", "upright", "leaning right", "")
UNSAID = torch.tensor([10, 3, 3])  # the attributes of "a digit"

# What the outer quarters of the 10,000 training digits lie beyond: pixels, and degrees. People lean to the right.
THIN, BOLD = 2.14, 2.92
LEFT, RIGHT = -3.3, 17.6

WORDS = ("", "a", "an", *DIGITS, *THICKNESSES[:3], "upright", "leaning", "left", "right")  # token 0 fills up
LENGTH = 5  # tokens of the longest caption


# --- What can be measured


def thickness(x: Tensor) -> Tensor:
    """Thickness in pixels of the strokes of images (n, 1, H, W) in [-1, 1], float64 (n,): twice area over perimeter.

    A stroke of length L and thickness w has the area L w and an edge on both sides, 2 L; its ends add a little edge, so
    a short one is measured a little thinner. The area is the sum of ink. The perimeter is the total variation, the sum
    of the slopes of ink, which counts a soft edge once (coarea formula); slopes as Roberts' cross (1963) takes them.
    Noise is all edge, hence thin. An image without ink has thickness 0.
    """
    ink = F.pad(_ink(x), (1, 1, 1, 1))
    falling, rising = ink[:, 1:, 1:] - ink[:, :-1, :-1], ink[:, 1:, :-1] - ink[:, :-1, 1:]
    perimeter = ((falling.square() + rising.square()) / 2).sqrt().sum((1, 2))
    return 2 * ink.sum((1, 2)) / perimeter.clamp(min=1e-9)


def slant(x: Tensor) -> Tensor:
    """Slant in degrees of images (n, 1, H, W) in [-1, 1], float64 (n,): 0 is upright, above 0 leans right.

    The shear that would make the ink's columns and rows uncorrelated, from its second moments: tan = -cov(column, row)
    / var(row), rows counted downward. An image without ink has slant 0.
    """
    ink = _ink(x)
    rows, columns = (torch.arange(side, dtype=torch.float64, device=x.device) for side in ink.shape[1:])
    mass = ink.sum((1, 2), keepdim=True).clamp(min=1e-9)
    p = ink / mass
    down = rows - (p.sum(2) @ rows)[:, None]
    across = columns - (p.sum(1) @ columns)[:, None]
    covariance = torch.einsum("nij,ni,nj->n", p, down, across)
    variance = (p.sum(2) * down.square()).sum(1)
    return (-covariance / variance.clamp(min=1e-9)).atan().rad2deg()


def attributes(x: Tensor, label: Tensor) -> Tensor:
    """Attributes (n, 3) int64 of images (n, 1, H, W) of digits `label` (n,): digit, thickness and slant.

    They are places in DIGITS, THICKNESSES and SLANTS; the last two are measured. Raises TypeError or ValueError for
    other shapes, images that are not in [-1, 1], or labels that are not from 0 to 9.
    """
    if not isinstance(label, Tensor) or label.dtype != torch.int64:
        refuse("label", label, f"int64 of shape ({len(x)},)", TypeError)
    if label.shape != x.shape[:1] or (len(label) and not 0 <= int(label.min()) <= int(label.max()) <= 9):
        refuse("label", label, f"shape ({len(x)},), digits from 0 to 9")
    thick, lean = thickness(x), slant(x)
    return torch.stack([label, (thick > THIN).long() + (thick > BOLD), (lean > LEFT).long() + (lean > RIGHT)], 1)


def _ink(x: Tensor) -> Tensor:
    """Ink from 0 to 1, float64 (n, H, W), of one-channel images."""
    if check_images("x", x).ndim != 4 or x.shape[1] != 1:
        refuse("x", x, "shape (n, 1, H, W)")
    return (x[:, 0].double() / 2 + 0.5).clamp(0, 1)


# --- What can be said


def write(attributes: Tensor) -> list[str]:
    """The captions of attributes (n, 3) int64; UNSAID says what stands for what a caption leaves out.

    Raises TypeError or ValueError for other shapes or values.
    """
    if not isinstance(attributes, Tensor) or attributes.dtype != torch.int64:
        refuse("attributes", attributes, "int64 of shape (n, 3)", TypeError)
    most = UNSAID.to(attributes.device)
    if attributes.ndim != 2 or attributes.shape[1] != 3 or (attributes < 0).any() or (attributes > most).any():
        refuse("attributes", attributes, f"shape (n, 3), values from 0 to {UNSAID.tolist()}")
    return [_caption(DIGITS[d], THICKNESSES[t], SLANTS[s]) for d, t, s in attributes.tolist()]


def _caption(digit: str, thick: str, lean: str) -> str:
    order = (thick, lean, digit) if lean == "upright" else (thick, digit, lean)
    said = " ".join(word for word in order if word)
    return f"{'an' if said.startswith(('eight', 'upright')) else 'a'} {said}"


def every(unsaid: bool = False) -> Tensor:
    """Attributes (90, 3) of all captions that say everything, or (176, 3) of those that may leave out something."""
    digit, thick, lean = (torch.arange(most + unsaid) for most in UNSAID.tolist())
    return torch.cartesian_prod(digit, thick, lean)


def tokens(captions: Sequence[str]) -> Tensor:
    """Tokens (n, LENGTH) int64 of captions: each word's place in WORDS, then zeros.

    Raises ValueError for words that are not in WORDS, naming them, or for a caption without or with too many words;
    TypeError for anything but a sequence of captions, such as a single one.
    """
    if isinstance(captions, str) or not all(isinstance(caption, str) for caption in captions):
        refuse("captions", captions, "a list of captions", TypeError)
    rows = torch.zeros(len(captions), LENGTH, dtype=torch.int64)
    for row, caption in zip(rows, captions, strict=True):
        words = caption.lower().split()
        unknown = sorted(set(words) - set(WORDS))
        if unknown:
            refuse("captions", caption, f"known words; unknown: {', '.join(unknown)}; known: {' '.join(WORDS[1:])}")
        if not 1 <= len(words) <= LENGTH:
            refuse("captions", caption, f"1 to {LENGTH} words")
        row[: len(words)] = torch.tensor([WORDS.index(word) for word in words])
    return rows


def score(net: JointEmbedding, x: Tensor, captions: Sequence[str], w: float) -> CaptionScore:
    """How well images x (n, 1, 28, 28) fit their n captions in the eyes of `net`: see `metrics.caption_score`.

    Score with equally detailed captions what is compared: a true caption that says more lies closer to its picture.
    """
    with torch.no_grad():
        return caption_score(in_batches(net.image, check_images("x", x)), net.text(tokens(captions)), w)


# --- What can be learned from


class Captioned:
    """Batches (x, tokens) for a `Trainer`: images x (N, 1, H, W) with `attributes` (N, 3), told in captions.

    Each attribute is left unsaid with the probability `unsaid`, so that short captions are learned too. Raises
    TypeError or ValueError unless there is a row of attributes for each image.
    """

    def __init__(self, x: Tensor, attributes: Tensor, unsaid: float = 0.3) -> None:
        write(attributes)
        if len(check_images("x", x)) != len(attributes) or not len(x):
            refuse("attributes", attributes, f"shape ({len(x)}, 3), a row for each of at least one image")
        self.x, self.attributes, self.unsaid = x, attributes, check_real("unsaid", unsaid, 0, 1)
        self.table = tokens(write(every(unsaid=True))).view(*(UNSAID + 1).tolist(), LENGTH)

    def __call__(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """x (size, 1, H, W) and tokens (size, LENGTH), drawn with replacement, on the generator's device."""
        device = generator.device
        if self.x.device != device:
            self.x, self.attributes, self.table = (part.to(device) for part in (self.x, self.attributes, self.table))
        picked = torch.randint(len(self.x), (size,), generator=generator, device=device)
        left_out = torch.rand(size, 3, generator=generator, device=device) < self.unsaid
        digit, thick, lean = torch.where(left_out, UNSAID.to(device), self.attributes[picked]).T
        return self.x[picked], self.table[digit, thick, lean]
