"""The bundled digits, damaged files, and the two-dimensional point sets."""

import hashlib
import math
import re

import numpy as np
import pytest
import torch
from torch import Tensor

from lessons_src.data import DIGITS, JUDGE_DIGITS, POINTS, as_digit, digits, digits_judge, points, ring

SHA256 = "0d7bd2d87510cc79a7a9d24336a45431be76c106321df4d87f670e4727518014"
JUDGE_SHA256 = "d71d6ba581f841fef12df078bec37917e81b20fa747f257b7bc6254468495868"


# --- Digits -----------------------------------------------------------------------------------------------------------

SPLITS = {  # first labels, and how often each digit occurs
    "train": ([5, 0, 4, 1, 9, 2, 1, 3, 1, 4], [1001, 1127, 991, 1032, 980, 863, 1014, 1070, 944, 978]),
    "test": ([7, 2, 1, 0, 4, 1, 4, 9, 5, 9], [175, 234, 219, 207, 217, 179, 178, 205, 192, 194]),
}


def test_the_file_is_the_one_we_know():
    assert hashlib.sha256(DIGITS.read_bytes()).hexdigest() == SHA256


@pytest.mark.parametrize("split", SPLITS)
def test_digits(split):
    first, counts = SPLITS[split]
    x, label = digits(split)
    assert (x.shape, x.dtype) == ((sum(counts), 1, 28, 28), torch.float32)
    assert (label.shape, label.dtype) == ((sum(counts),), torch.int64)
    assert (x.min().item(), x.max().item()) == (-1, 1)
    assert label[:10].tolist() == first
    assert label.bincount(minlength=10).tolist() == counts


def test_pixels_are_the_stored_bytes():
    with np.load(DIGITS) as archive:
        stored = torch.from_numpy(archive["xt"].astype(np.float64))
    x, _ = digits("test")
    assert torch.allclose((x[:, 0].double() + 1) * 127.5, stored, rtol=0, atol=1e-4)
    assert stored.unique().tolist() == list(range(256))


def test_digits_of_the_judge_are_the_ones_we_know_and_no_others():
    assert hashlib.sha256(JUDGE_DIGITS.read_bytes()).hexdigest() == JUDGE_SHA256
    x, label = digits_judge()
    assert (x.shape, x.dtype, label.dtype) == ((4000, 1, 28, 28), torch.float32, torch.int64)
    assert (x.min().item(), x.max().item()) == (-1, 1)
    assert label.bincount(minlength=10).tolist() == [393, 452, 406, 388, 382, 369, 384, 404, 395, 427]
    theirs = {image.numpy().tobytes() for image in x}
    assert len(theirs) == 4000
    for split in SPLITS:
        assert not theirs & {image.numpy().tobytes() for image in digits(split)[0]}


def test_a_damaged_file_of_the_judge_is_named(tmp_path):
    for path in (DIGITS, tmp_path):
        with pytest.raises(
            ValueError, match=re.escape(f"path is {str(path)!r}; expected an .npz file with arrays ('xj'")
        ):
            digits_judge(path)


IMAGES, LABELS = np.zeros((3, 28, 28), np.uint8), np.array([0, 9, 4], np.uint8)
HEALTHY = DIGITS.read_bytes()
BROKEN_BYTES = {
    "empty file": b"",
    "no zip file": b"digits",
    "one array instead of an archive": b"\x93NUMPY\x01\x00",
    "truncated": HEALTHY[: len(HEALTHY) // 2],
    "last byte missing": HEALTHY[:-1],
    "damaged contents": HEALTHY[:5000] + b"\x00" * 200 + HEALTHY[5200:],
    "damaged compression": HEALTHY[:100] + b"\xff" * 200 + HEALTHY[300:],
}
BROKEN_ARRAYS = {
    "images missing": {"y": LABELS},
    "labels missing": {"x": IMAGES},
    "float images": {"x": IMAGES / 255, "y": LABELS},
    "wide images": {"x": np.zeros((3, 28, 29), np.uint8), "y": LABELS},
    "flat images": {"x": IMAGES.reshape(3, -1), "y": LABELS},
    "signed labels": {"x": IMAGES, "y": LABELS.astype(np.int64)},
    "a label too few": {"x": IMAGES, "y": LABELS[:2]},
    "a label above 9": {"x": IMAGES, "y": np.array([0, 10, 4], np.uint8)},
    "labels in columns": {"x": IMAGES, "y": LABELS[:, None]},
    "a single label": {"x": IMAGES, "y": np.uint8(3)},
    "pickled objects": {"x": np.array([{}, {}, {}], dtype=object), "y": LABELS},
}


@pytest.mark.parametrize("name", [*BROKEN_BYTES, *BROKEN_ARRAYS])
def test_a_damaged_file_is_named(tmp_path, name):
    path = tmp_path / "digits.npz"
    if name in BROKEN_BYTES:
        path.write_bytes(BROKEN_BYTES[name])
    else:
        np.savez(path, **BROKEN_ARRAYS[name])
    with pytest.raises(ValueError, match=re.escape(f"path is {str(path)!r}; expected")):
        digits(path=path)


def test_a_missing_file_is_named(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere.npz"):
        with pytest.raises(ValueError, match=re.escape(f"path is {str(path)!r}; expected")):
            digits(path=str(path))


def test_another_file_of_the_same_layout_is_welcome(tmp_path):
    np.savez(tmp_path / "mine.npz", x=IMAGES, y=LABELS)
    x, label = digits(path=tmp_path / "mine.npz")
    assert torch.equal(x, torch.full((3, 1, 28, 28), -1.0))
    assert label.tolist() == [0, 9, 4]


# --- Point sets -------------------------------------------------------------------------------------------------------

N = 20_000


@pytest.mark.parametrize("name", POINTS)
def test_points_are_centred_and_repeat(name):
    x = points(name, N, torch.Generator().manual_seed(0))
    assert (x.shape, x.dtype) == ((N, 2), torch.float64)
    assert (x.mean(0).abs() < 4 * x.std(0) / math.sqrt(N)).all()
    assert ((x.std(0) > 0.6) & (x.std(0) < 1.3)).all()
    assert torch.equal(x, points(name, N, torch.Generator().manual_seed(0)))
    assert not torch.equal(x, points(name, N, torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("name", POINTS)
def test_no_points_are_points_too(name):
    assert points(name, 0).shape == (0, 2)


def test_checkerboard_fills_the_dark_squares_alone(generator):
    x = points("checkerboard", N, generator)
    square = (x + 2).floor().long()
    assert ((square >= 0) & (square < 4)).all()
    assert (square.sum(1) % 2 == 0).all()
    share = torch.bincount(4 * square[:, 0] + square[:, 1], minlength=16) / N
    assert ((share[share > 0] - 1 / 8).abs() < 4 * math.sqrt(1 / 8 * 7 / 8 / N)).all()
    inside = (x + 2) % 1
    assert torch.allclose(inside.mean(0), torch.tensor([0.5, 0.5], dtype=torch.float64), atol=0.01)
    assert torch.allclose(inside.var(0), torch.tensor([1 / 12, 1 / 12], dtype=torch.float64), atol=0.002)


def on_curves(x: Tensor, *curves: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Distance of every point of x to the nearest of the curves (given as many points), and which curve that is."""
    distance = torch.stack([torch.cdist(x, torch.stack(curve, 1)).min(1).values for curve in curves], 1)
    return distance.min(1)


def test_moons_are_two_half_circles_with_noise(generator):
    angle = torch.linspace(0, math.pi, 2000, dtype=torch.float64)
    upper = 1.3 * (angle.cos() - 0.5), 1.3 * (angle.sin() - 0.25)
    lower = 1.3 * (0.5 - angle.cos()), 1.3 * (0.25 - angle.sin())
    distance, which = on_curves(points("two_moons", 5000, generator), upper, lower)
    assert distance.max() < 5 * 0.08
    assert distance.square().mean().sqrt() == pytest.approx(0.08, abs=0.004)
    assert which.double().mean() == pytest.approx(0.5, abs=0.03)


def test_spirals_are_two_arms_with_noise(generator):
    along = torch.linspace(0, 1, 4000, dtype=torch.float64)
    arm = (0.2 + 1.8 * along) * torch.stack([(3 * math.pi * along).cos(), (3 * math.pi * along).sin()])
    x = points("spirals", 5000, generator)
    distance, which = on_curves(x, tuple(arm), tuple(-arm))
    assert distance.max() < 5 * 0.05
    assert distance.square().mean().sqrt() == pytest.approx(0.05, abs=0.004)
    assert which.double().mean() == pytest.approx(0.5, abs=0.03)
    assert ((x.norm(dim=1) - 0.2) / 1.8).square().mean() == pytest.approx(0.5, abs=0.02)  # even along the arm's length


def test_ring():
    mixture = ring()
    assert (mixture.num_classes, mixture.dim) == (8, 2)
    angle = torch.arange(8, dtype=torch.float64) * math.pi / 4
    assert torch.allclose(mixture.means, 1.4 * torch.stack([angle.cos(), angle.sin()], 1), rtol=0, atol=1e-12)
    assert torch.equal(mixture.weights, torch.full((8,), 1 / 8, dtype=torch.float64))
    spread = mixture.means.var(0, correction=0) + mixture.covariances.diagonal(dim1=1, dim2=2).mean(0)
    assert spread.tolist() == pytest.approx([1.4**2 / 2 + 0.15**2] * 2, abs=1e-6)


@pytest.mark.parametrize("n", [1, 3, 7, 8])
def test_ring_is_exact_for_any_number_of_modes(n):
    mixture = ring(n, radius=2.0, std=0.3)
    assert mixture.weights.tolist() == pytest.approx([1 / n] * n, abs=1e-15)
    assert torch.allclose(mixture.covariances, 0.09 * torch.eye(2, dtype=torch.float64), rtol=0, atol=1e-15)
    assert mixture.means.norm(dim=1).tolist() == pytest.approx([2.0] * n)


def test_eight_gaussians_are_the_ring(generator):
    x = points("eight_gaussians", N, generator)
    distance = torch.cdist(x, ring().means).min(1).values
    assert distance.square().mean() / 2 == pytest.approx(0.15**2, rel=0.03)
    assert x.var(0).tolist() == pytest.approx([1.4**2 / 2 + 0.15**2] * 2, rel=0.03)


def test_a_written_digit_stays_where_it_is():
    x, _ = digits("test")
    drawn = [((image[0] + 1) * 127.5).round().byte().numpy() for image in x[:50]]
    gaps = torch.stack([(as_digit(d) - image).abs().mean() for d, image in zip(drawn, x, strict=False)])
    assert gaps.max() < 0.01


def test_a_drawing_is_moved_and_scaled_like_the_digits():
    drawing = np.zeros((28, 28), np.uint8)
    drawing[1:11, 2:5] = 255
    found = as_digit(drawing)
    assert found.shape == (1, 28, 28)
    rows, columns = (np.flatnonzero(found[0].max(axis).values > 0) for axis in (1, 0))
    assert (len(rows), len(columns)) == (20, 6)
    assert rows.mean() == pytest.approx(14, abs=0.6)
    assert columns.mean() == pytest.approx(14, abs=0.6)
    assert bool((as_digit(np.zeros((28, 28), np.uint8)) == -1).all())


@pytest.mark.parametrize(
    ("drawing", "error"), [(np.zeros((28, 28)), TypeError), ([[0]], TypeError), (np.zeros(784, np.uint8), ValueError)]
)
def test_only_drawings_are_digits(drawing, error):
    with pytest.raises(error, match="drawing"):
        as_digit(drawing)
