"""What the course generates: bundled handwritten digits, full digit sets if wanted, and two-dimensional point sets."""

import gzip
import math
import os
import warnings
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lessons_src.checks import check_batch, check_choice, check_finite, check_int, check_real, refuse, shortened
from lessons_src.files import write_whole
from lessons_src.oracle import GaussianMixture

ASSETS = Path(str(files("lessons_src") / "assets"))
DIGITS = ASSETS / "digits_10k_2k.npz"
JUDGE_DIGITS = ASSETS / "data" / "digits_judge_4k.npz"


def digits(split: str = "train", path: str | Path = DIGITS) -> tuple[Tensor, Tensor]:
    """Handwritten digits: x of shape (N, 1, 28, 28), float32 in [-1, 1], and labels (N,) int64.

    split "train" holds 10,000 digits, "test" another 2,000 (MNIST, LeCun et al. 1998; see assets/NOTICE.md).
    Raises ValueError for another split, or naming the file when it is missing, damaged or of another layout.
    """
    return _stored({"train": ("x", "y"), "test": ("xt", "yt")}[check_choice("split", split, ("train", "test"))], path)


def digits_judge(path: str | Path = JUDGE_DIGITS) -> tuple[Tensor, Tensor]:
    """The 4,000 digits that judges of samples learn from, and nothing else does; in the form of `digits`.

    None of them is among those of `digits`: neither what generates nor what it is compared with has seen them.
    Raises ValueError naming the file when it is missing, damaged or of another layout.
    """
    return _stored(("xj", "yj"), path)


def _stored(names: tuple[str, str], path: str | Path) -> tuple[Tensor, Tensor]:
    """Images and labels of these names in an .npz file."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            x, y = (archive[name] for name in names)
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"path is {str(path)!r}; expected an .npz file with arrays {names}: {error}") from error
    if x.dtype != np.uint8 or y.dtype != np.uint8 or x.shape != (*y.shape[:1], 28, 28) or y.ndim != 1 or (y > 9).any():
        raise ValueError(
            f"path is {str(path)!r}; expected uint8 images (N, 28, 28) and labels 0..9 (N,), "
            f"got {x.dtype} {x.shape} and {y.dtype} {y.shape}"
        )
    return torch.from_numpy(x).unsqueeze(1).float() / 127.5 - 1, torch.from_numpy(y).long()


class Pictures(NamedTuple):
    """Pictures x (N, C, size, size) and, if they lie in folders, their classes (N,) and what those are called.

    unreadable says why a file is left out, by its name.
    """

    x: Tensor
    label: Tensor | None
    classes: list[str]
    unreadable: dict[str, str]


def folder(path: str | Path, size: int, channels: int = 3) -> Pictures:
    """Your own pictures, in a folder or in folders of it: x (N, channels, size, size) float32 in [-1, 1].

    Folders are classes if there are several, in the order of their names. Any format that Pillow reads will do; of a
    picture its middle square is taken, as a camera's mark has it turned, and scaled, on white where it is transparent.
    channels is 3 for RGB, 1 for grey. Train on Samples(found.x, found.label). Files that are no pictures are left out,
    counted and named in a warning. Raises ValueError for another path or channels, if no file is a picture, or if some
    lie in folders and some beside them.
    """
    check_int("size", size, 1)
    if check_int("channels", channels, 1, 3) == 2:
        refuse("channels", channels, "3 for RGB, or 1 for grey")
    if not isinstance(path, str | Path) or not Path(path).is_dir():
        refuse("path", str(path), "a folder of pictures")
    root, found, unreadable = Path(path), {}, {}
    for file in _files(root):
        name = file.relative_to(root)
        try:
            found[name] = _picture(file, size, channels)
        except Exception as error:  # Pillow raises errors of all kinds where a file is damaged
            unreadable[str(name)] = shortened(str(error), 80)
    if unreadable:
        few = ", ".join(f"{name!r} ({reason})" for name, reason in list(unreadable.items())[:5])
        more = ", ..." if len(unreadable) > 5 else ""
        text = f"{len(unreadable)} of {len(found) + len(unreadable)} files in {root} are left out: {few}{more}"
        warnings.warn(text, stacklevel=2)
    if not found:
        refuse("path", str(path), "a folder with pictures in it")
    folders = [name.parts[:-1] for name in found]
    while all(folders) and len({parts[0] for parts in folders}) == 1:  # such as "train" above all
        folders = [parts[1:] for parts in folders]
    tops = [parts[0] if parts else "" for parts in folders]
    classes = sorted(set(tops)) if any(tops) else []
    if "" in classes:
        beside = f"{tops.count('')} lie beside {len(classes) - 1} folders"
        refuse("path", str(path), f"all pictures in folders, one a class, or none; here {beside}")
    label = torch.tensor([classes.index(top) for top in tops]) if classes else None
    return Pictures(torch.stack(list(found.values())), label, classes, unreadable)


def _files(root: Path) -> list[Path]:
    """All below a folder, sorted, behind links too; nothing hidden, nor what macOS adds to an archive."""
    found, seen = [], set()
    for top, folders, names in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        if os.path.realpath(top) in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(os.path.realpath(top))
        found += [Path(top, name) for name in names if not name.startswith(".")]
    return sorted(found)


def _picture(file: Path, size: int, channels: int) -> Tensor:
    """One picture, (channels, size, size) in [-1, 1]; what Pillow raises if it is none."""
    from PIL import Image, ImageOps

    if not file.is_file():  # a pipe would be waited for
        raise ValueError("it is no file, or leads to none")
    with Image.open(file) as opened:
        image = ImageOps.exif_transpose(opened)
        if image.mode == "F" or (image.mode == "I" and opened.format != "PNG"):  # whose I is 16 bits
            raise ValueError("its pixels are numbers of an unknown range")
        if image.mode.startswith("I"):  # 16 bits of grey, which Pillow would cut off at 255
            image = Image.fromarray((np.asarray(image, np.float64) / 257).clip(0, 255).astype(np.uint8))
        image = image.convert("RGBA")
    sheet = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    sheet = sheet.convert("RGB" if channels == 3 else "L")
    pixels = np.asarray(ImageOps.fit(sheet, (size, size), Image.Resampling.LANCZOS))
    return torch.from_numpy(pixels.reshape(size, size, channels).copy()).permute(2, 0, 1).float() / 127.5 - 1


def save_sheet(x: Tensor, path: str | Path, columns: int = 8) -> None:
    """Write pictures x (N, C, H, W) in [-1, 1], grey or RGB, as one PNG, `columns` in a row, black between them."""
    from PIL import Image

    if check_batch("x", x).ndim != 4 or x.shape[1] not in (1, 3) or not len(x):
        refuse("x", x, "shape (N, C, H, W) with C = 1 or 3")
    check_int("columns", columns, 1)
    framed = functional.pad(check_finite("x", x).float().clamp(-1, 1), (1, 1, 1, 1), value=-1)
    framed = torch.cat([framed, framed.new_full((-len(x) % columns, *framed.shape[1:]), -1)])
    rows = [torch.cat(list(row), 2) for row in framed.split(columns)]
    pixels = ((torch.cat(rows, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()
    image = Image.fromarray(pixels[..., 0] if x.shape[1] == 1 else pixels)
    write_whole(path, lambda part: image.save(part, "PNG"))


def one_each() -> Tensor:
    """The first test digit of each class, (10, 1, 28, 28)."""
    return _one_each().clone()


@cache
def _one_each() -> Tensor:
    x, y = digits("test")
    return torch.stack([x[y == digit][0] for digit in range(10)])


def as_digit(drawing: np.ndarray) -> Tensor:
    """A drawing, uint8 (H, W) white on black, laid out like the bundled digits: (1, 28, 28), float32 in [-1, 1].

    Its ink is scaled to a box of 20 pixels and its centre of mass moved to pixel 14, as MNIST's makers did (LeCun et
    al. 1998). A drawing without ink is black. Raises TypeError or ValueError for another dtype or shape.
    """
    if not isinstance(drawing, np.ndarray) or drawing.dtype != np.uint8:
        refuse("drawing", drawing, "an array of dtype uint8", TypeError)
    if drawing.ndim != 2:
        refuse("drawing", drawing, "shape (H, W)")
    sheet = torch.zeros(1, 28, 28)
    rows, columns = (np.flatnonzero(drawing.max(axis)) for axis in (1, 0))
    if len(rows):
        ink = torch.from_numpy(drawing[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float32) / 255)
        size = [max(1, round(20 * n / max(ink.shape))) for n in ink.shape]
        ink = functional.interpolate(ink[None, None], size, mode="bilinear", antialias=True)[0, 0]
        places = (torch.arange(n, dtype=torch.float32) for n in size)
        mass = [(ink.sum(1 - axis) @ place / ink.sum()).item() for axis, place in enumerate(places)]
        top, left = (min(max(round(14 - m), 0), 28 - n) for m, n in zip(mass, size, strict=True))
        sheet[0, top : top + size[0], left : left + size[1]] = ink
    return 2 * sheet - 1


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers, float64, the same for the same seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class IdxSet(NamedTuple):
    """A data set in MNIST's IDX format: where it can be downloaded, and the MD5 of each .gz file."""

    mirrors: tuple[str, ...]
    md5: dict[str, str]


IDX = {
    "mnist": IdxSet(
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        {
            "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
            "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
            "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
        },
    )
}


def full(name: str, folder: str | Path, split: str = "train") -> tuple[Tensor, Tensor]:
    """All of a set in IDX: x (N, 1, 28, 28) float32 in [-1, 1] and labels (N,) int64, as from `digits`.

    Files that are missing in `folder`, or damaged, are downloaded there by pooch, from the first mirror that has the
    right one. Raises ConnectionError if none does. Needed nowhere in the course.
    """
    found = IDX[check_choice("name", name, IDX)]
    start = {"train": "train", "test": "t10k"}[check_choice("split", split, ("train", "test"))]
    x, y = (_idx(found, Path(folder) / file) for file in found.md5 if file.startswith(start))
    return torch.from_numpy(x).unsqueeze(1).float() / 127.5 - 1, torch.from_numpy(y).long()


def _idx(found: IdxSet, path: Path) -> np.ndarray:
    """The array in an IDX file: two zero bytes, 8 (for uint8), the rank, the sizes, the bytes."""
    _retrieve(found, path)
    raw = gzip.decompress(path.read_bytes())
    sizes = np.frombuffer(raw, ">u4", raw[3], offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(sizes).copy()


def _retrieve(found: IdxSet, path: Path) -> None:
    """See to it that the file of a set is at `path`, with the right MD5."""
    import pooch

    reasons = []
    for mirror in found.mirrors:
        try:
            pooch.retrieve(mirror + path.name, f"md5:{found.md5[path.name]}", path.name, path.parent)
            return
        except (OSError, ValueError) as error:  # of the network or the disk; another file than expected
            reasons.append(f"{mirror}: {error}")
    raise ConnectionError(
        f"no mirror gave {path.name} ({'; '.join(reasons)}). The bundled digits need none: data.digits()"
    )


def ring(n: int = 8, radius: float = 1.4, std: float = 0.15) -> GaussianMixture:
    """n round Gaussians evenly spaced on a circle, each its own class; about unit variance per axis by default."""
    check_int("n", n, 1)
    check_real("radius", radius, 0.0)
    check_real("std", std, 0.0)
    angle = 2 * math.pi * torch.arange(n, dtype=torch.float64) / n
    means = radius * torch.stack([angle.cos(), angle.sin()], 1)
    return GaussianMixture([1 / n] * n, means, std**2 * torch.eye(2, dtype=torch.float64).expand(n, 2, 2))


def two_humps() -> GaussianMixture:
    """30 % N(-1, 0.15^2) and 70 % N(0.8, 0.25^2) on a line."""
    return GaussianMixture([0.3, 0.7], [[-1.0], [0.8]], [[[0.15**2]], [[0.25**2]]])


def three_classes() -> GaussianMixture:
    """Three round, overlapping classes in the plane, of standard deviation 0.5 around points of the unit circle."""
    angle = torch.tensor([90.0, 210.0, 330.0], dtype=torch.float64).deg2rad()
    means = torch.stack([angle.cos(), angle.sin()], 1)
    return GaussianMixture([1 / 3] * 3, means, 0.5**2 * torch.eye(2, dtype=torch.float64).expand(3, 2, 2))


def eight_gaussians(n: int, generator: torch.Generator | None = None) -> Tensor:
    """n points from `ring()`, shape (n, 2)."""
    return ring().sample(n, generator)[0]


def two_moons(n: int, generator: torch.Generator | None = None) -> Tensor:
    """n points on two interleaved half circles with noise of standard deviation 0.08, shape (n, 2)."""
    angle, lower = math.pi * _uniform(n, generator), _uniform(n, generator) < 0.5
    x = torch.where(lower, 1 - angle.cos(), angle.cos()) - 0.5
    y = torch.where(lower, 0.5 - angle.sin(), angle.sin()) - 0.25
    return 1.3 * torch.stack([x, y], 1) + 0.08 * _normal(n, generator)


def checkerboard(n: int, generator: torch.Generator | None = None) -> Tensor:
    """n points uniform on the eight dark squares of a 4 x 4 board of side 4, shape (n, 2)."""
    column = (4 * _uniform(n, generator)).floor()
    row = 2 * (2 * _uniform(n, generator)).floor() + column % 2
    inside = torch.stack([_uniform(n, generator), _uniform(n, generator)], 1)
    return torch.stack([column, row], 1) + inside - 2


def spirals(n: int, generator: torch.Generator | None = None) -> Tensor:
    """n points on two arms that wind one and a half turns around each other, noise 0.05, shape (n, 2)."""
    along = _uniform(n, generator).sqrt()
    sign = torch.where(_uniform(n, generator) < 0.5, 1.0, -1.0)
    angle = 3 * math.pi * along
    arm = (0.2 + 1.8 * along)[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
    return sign[:, None] * arm + 0.05 * _normal(n, generator)


POINTS: dict[str, Callable[..., Tensor]] = {
    "eight_gaussians": eight_gaussians,
    "two_moons": two_moons,
    "checkerboard": checkerboard,
    "spirals": spirals,
}


def points(name: str, n: int, generator: torch.Generator | None = None) -> Tensor:
    """n points of the two-dimensional set called `name`, one of POINTS; shape (n, 2), float64, centred."""
    return POINTS[check_choice("name", name, POINTS)](n, generator)


def _uniform(n: int, generator: torch.Generator | None) -> Tensor:
    return torch.rand(check_int("n", n, 0), generator=generator, dtype=torch.float64)


def _normal(n: int, generator: torch.Generator | None) -> Tensor:
    return torch.randn(n, 2, generator=generator, dtype=torch.float64)
