"""Pictures of one's own: what is read, as which classes, what is left out and named, and training on them."""

import os
import re
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from lessons_src import data, training
from lessons_src.losses import Denoising, Samples
from lessons_src.networks import NoisePredictor, UNet
from lessons_src.samplers import ddim, sample
from lessons_src.schedules import cosine, time_grid
from lessons_src.training import Recipe, Trainer, train


def paint(path, colour, size=(40, 40), mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **options)


def colour(pictures, index, channels=3):
    """The one colour of a picture, 0..255."""
    flat = pictures.x[index].flatten(1)
    assert torch.equal(flat, flat[:, :1].expand_as(flat))
    return ((flat[:, 0] + 1) * 127.5).round().int().tolist()


def test_pictures_become_squares_from_minus_one_to_one(tmp_path):
    paint(tmp_path / "a.png", (255, 0, 51), (50, 40))
    paint(tmp_path / "b.JPG", (0, 0, 0), (16, 90), format="JPEG")
    found = data.folder(tmp_path, 32)
    assert (found.x.shape, found.x.dtype) == ((2, 3, 32, 32), torch.float32)
    assert (found.label, found.classes, found.unreadable) == (None, [], {})
    assert colour(found, 0) == [255, 0, 51]
    assert colour(found, 1) == [0, 0, 0]
    assert data.folder(str(tmp_path), 6, channels=1).x.shape == (2, 1, 6, 6)


def test_the_middle_square_is_taken_and_a_turned_picture_turned_back(tmp_path):
    wide = Image.new("RGB", (60, 20), "red")
    wide.paste("blue", (20, 0, 40, 20))
    wide.save(tmp_path / "wide.png")
    assert colour(data.folder(tmp_path, 20), 0) == [0, 0, 255]
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    half = Image.new("RGB", (20, 20), "white")
    half.paste("black", (0, 0, 20, 10))
    half.save(tmp_path / "wide.png", exif=exif)
    assert data.folder(tmp_path, 20).x[0, 0, :, 5].tolist() == [1.0] * 10 + [-1.0] * 10


@pytest.mark.parametrize(
    ("mode", "ink", "expected"),
    [
        ("RGBA", (255, 0, 0, 0), [255, 255, 255]),  # wholly transparent: the paper
        ("LA", (40, 255), [40, 40, 40]),
        ("1", 1, [255, 255, 255]),
        ("I;16", 257 * 100, [100, 100, 100]),  # 16 bits of grey are scaled, not cut off
        ("P", 0, [0, 0, 0]),
    ],
)
def test_every_kind_of_pixel(tmp_path, mode, ink, expected):
    paint(tmp_path / "a.png", ink, mode=mode)
    assert colour(data.folder(tmp_path, 8), 0) == expected


def test_folders_are_classes_in_the_order_of_their_names(tmp_path, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (tmp_path / ".git").mkdir()
    paint(tmp_path / ".git" / "hidden.png", (7, 7, 7))
    for k, name in enumerate(("zebra", "ape", "cat/white")):
        paint(tmp_path / name / f"{k}.png", (k, k, k))
    found = data.folder(tmp_path, 4)
    assert found.classes == ["ape", "cat", "zebra"]
    assert found.label.tolist() == [0, 1, 2]
    assert [colour(found, k)[0] for k in range(3)] == [1, 2, 0]
    paint(elsewhere / "far.png", (9, 9, 9))
    (tmp_path / "zebra" / "more").symlink_to(elsewhere)
    (tmp_path / "zebra" / "back").symlink_to(tmp_path)
    assert data.folder(tmp_path, 4).label.tolist() == [0, 1, 2, 2], "behind a link, too, and once"
    (tmp_path / "zebra" / "more").unlink()
    (tmp_path / "zebra" / "back").unlink()
    one = data.folder(tmp_path / "cat", 4)
    assert (one.label, one.classes) == (None, [])
    tmp_path.rename(tmp_path.with_name("train"))
    tmp_path.mkdir()
    tmp_path.with_name("train").rename(tmp_path / "train")
    assert data.folder(tmp_path, 4).classes == ["ape", "cat", "zebra"], "a folder above all is none"
    (tmp_path / "train").rename(tmp_path.with_name("train"))
    tmp_path.rmdir()
    tmp_path.with_name("train").rename(tmp_path)
    paint(tmp_path / "lost.png", (9, 9, 9))
    with pytest.raises(
        ValueError, match=r"path is .*; expected all pictures in folders, .*; here 1 lie beside 3 folders"
    ):
        data.folder(tmp_path, 4)


def test_files_that_are_no_pictures_are_counted_and_named(tmp_path):
    paint(tmp_path / "good.png", (1, 2, 3))
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    Image.new("F", (8, 8), 0.5).save(tmp_path / "real.tiff")
    Image.new("I", (8, 8), 100).save(tmp_path / "whole.tiff")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / ".DS_Store").touch()  # hidden: nobody misses it
    with pytest.warns(
        UserWarning, match=r"7 of 8 files in .* are left out: 'empty.jpg' \(.*'gone.png' .*'half.png'.*, \.\.\."
    ):
        found = data.folder(tmp_path, 4)
    assert len(found.x) == 1
    assert list(found.unreadable) == [
        *("empty.jpg", "gone.png", "half.png", "notes.txt", "pipe.png", "real.tiff", "whole.tiff"),
    ]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"path": "nowhere"}, r"path is '.*nowhere'; expected a folder of pictures"),
        ({"path": "a.png"}, r"path is '.*a.png'; expected a folder of pictures"),
        ({"path": "hollow"}, r"path is '.*hollow'; expected a folder with pictures in it"),
        ({"path": None}, "path is 'None'; expected a folder of pictures"),
        ({"size": 0}, "size is 0; expected a whole number, at least 1"),
        ({"size": 32.0}, "size is 32.0; expected a whole number"),
        ({"channels": 2}, "channels is 2; expected 3 for RGB, or 1 for grey"),
        ({"channels": 4}, "channels is 4; expected a whole number from 1 to 3"),
    ],
)
def test_what_is_no_folder_of_pictures_is_refused(tmp_path, options, named):
    paint(tmp_path / "a.png", (1, 2, 3))
    (tmp_path / "hollow").mkdir()
    given = {"path": "", "size": 4} | options
    with pytest.raises((TypeError, ValueError), match=named):
        data.folder(**given | {"path": given["path"] if given["path"] is None else tmp_path / given["path"]})


def test_a_sheet_shows_every_picture(tmp_path):
    x = torch.linspace(-1, 1, 5)[:, None, None, None].expand(5, 3, 4, 4)
    data.save_sheet(x, tmp_path / "sheet.png", columns=2)
    with Image.open(tmp_path / "sheet.png") as sheet:
        pixels = np.asarray(sheet)
    assert pixels.shape == (18, 12, 3)
    assert pixels[2::6, 2::6, 0].tolist() == [[0, 64], [128, 191], [255, 0]]
    assert pixels[0].max() == 0
    for bad in (torch.zeros(2, 2, 4, 4), torch.zeros(0, 3, 4, 4), torch.zeros(3, 4, 4)):
        with pytest.raises(ValueError, match="x is "):
            data.save_sheet(bad, tmp_path / "no.png")
    assert not (tmp_path / "no.png").exists()


@pytest.mark.parametrize(("channels", "size"), [(3, 32), (1, 64)])
def test_a_network_learns_the_colour_of_ones_own_pictures(tmp_path, channels, size):
    for k in range(3):
        paint(tmp_path / f"{k}.png", (230, 230, 230))
    found = data.folder(tmp_path, size, channels)
    torch.manual_seed(0)
    net = NoisePredictor(UNet(0, (8, 8), image=(channels, size, size)), cosine(), "v")
    net = train(Trainer(net, Denoising(), Samples(found.x), Recipe(60, 8, 1e-2, warmup=5, ema=0.9)))
    start = torch.randn(4, channels, size, size, generator=torch.Generator().manual_seed(1))
    drawn = sample(ddim(net, start, net.schedule, time_grid(net.schedule, 20)))
    assert drawn.shape == start.shape
    assert (drawn.mean() - found.x.mean()).abs() < 0.25


TINY = ["--network", "small", "--batch-size", "4", "--warmup", "2", "--device", "cpu", "--precision", "float32"]


def terminal(monkeypatch, *options):
    monkeypatch.setattr(sys, "argv", ["training", *TINY, *map(str, options)])
    training.main()


def test_the_terminal_trains_on_ones_own_pictures_and_draws(tmp_path, monkeypatch, capsys):
    for name in ("ape", "cat"):
        paint(tmp_path / "mine" / name / "1.png", (9, 9, 9))
    options = ("--pictures", tmp_path / "mine", "--size", 16, "--channels", 3, "--steps", 2)
    terminal(monkeypatch, *options, "--samples", tmp_path / "drawn.png", "--out", tmp_path / "out.pt")
    said = capsys.readouterr().out
    assert said.startswith("2 pictures, classes: ape, cat\n")
    with Image.open(tmp_path / "drawn.png") as sheet:
        assert (sheet.size, sheet.mode) == ((8 * 18, 8 * 18), "RGB")
    assert torch.load(tmp_path / "out.pt", weights_only=True)["body.label.weight"].shape[0] == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--steps", "0"], "steps is 0; expected a whole number, at least 1"),
        (["--seed", "-1"], "seed is -1; expected"),
        (["--learning-rate", "nan"], "learning_rate is nan; expected"),
        (["--device", "gpu"], "device is 'gpu'; expected one this machine has"),
        (["--label-drop", "2"], "label_drop is 2.0; expected"),
        (["--pictures", "/nowhere"], "path is '/nowhere'; expected a folder of pictures"),
        (["--out", "."], r"\. is a folder; expected the name of a file"),
        (["--samples", "/proc/no/drawn.png"], "/proc/no/drawn.png cannot be written"),
        (["--checkpoint", "/proc/no/run.pt"], "/proc/no/run.pt cannot be written"),
        (["--checkpoint", "."], r"\. is a folder; expected the name of a file"),
        (["--pictures", ".", "--size", "33"], "size is 33; expected an even number"),
        (["--report-every", "0"], "report_every is 0; expected"),
    ],
)
def test_a_mistake_in_the_terminal_is_one_sentence_before_the_first_step(monkeypatch, capsys, options, said):
    monkeypatch.setattr(training.Trainer, "step", None)  # nothing is trained
    with pytest.raises(SystemExit) as caught:
        terminal(monkeypatch, "--steps", "1", *options)
    assert re.match(said, str(caught.value.code))
    assert "\n" not in str(caught.value.code)


@pytest.mark.parametrize("kept", [True, False])
def test_ctrl_c_in_the_terminal_says_how_to_go_on(monkeypatch, tmp_path, kept):
    def press(progress):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "print_progress", press)
    path = tmp_path / "run.pt"
    with pytest.raises(SystemExit) as caught:
        terminal(monkeypatch, "--steps", 3, "--report-every", 1, *(["--checkpoint", path] if kept else []))
    assert str(caught.value.code) == (f"Stopped. The same command goes on from {path}." if kept else "Stopped.")
    assert path.exists() is kept
