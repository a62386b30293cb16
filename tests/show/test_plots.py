"""Static figures: every one comes with its sentence, and draws what it was given."""

import base64

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib import rcParams
from matplotlib.lines import Line2D

from lessons_src.show import look, plots


@pytest.fixture
def shown(monkeypatch) -> list[tuple]:
    """What was displayed: (object, keyword arguments)."""
    calls: list[tuple] = []
    monkeypatch.setattr(plots, "display", lambda thing, **options: calls.append((thing, options)))
    return calls


@pytest.fixture
def drawn(monkeypatch) -> list:
    """The figures that were handed to `show`."""
    figures = []
    monkeypatch.setattr(plots, "show", lambda fig, text: figures.append((fig, text)))
    return figures


def test_show_gives_picture_alternative_text_and_caption(shown):
    fig, axes = plots.figure(columns=2, rows=3)
    assert axes.shape == (3, 2)
    before = dict(rcParams)
    plots.show(fig, "Nothing to see.")
    (picture, options), (caption, _) = shown
    assert base64.b64decode(picture["image/png"]).startswith(b"\x89PNG")
    assert picture["text/plain"] == "Nothing to see."
    assert options == {"metadata": {"image/png": {"alt": "Nothing to see."}}, "raw": True}
    assert caption.data == "*Nothing to see.*"
    assert dict(rcParams) == before  # the style stays inside
    assert plt.get_fignums() == []  # and nothing piles up in pyplot


def test_pictures_in_colour_say_their_width(shown):
    """Dark pages brighten the others, so that grey text is read; colours would change."""
    plots.images(torch.zeros(2, 3, 8, 8), "Two.")
    plots.images(torch.zeros(2, 1, 8, 8), "Two.")
    coloured, grey = (options["metadata"]["image/png"] for _, options in shown[::2])
    png = base64.b64decode(shown[0][0]["image/png"])
    assert coloured["width"] == int.from_bytes(png[16:20])
    assert "width" not in grey


def test_the_same_figure_is_the_same_file(shown):
    for _ in range(2):
        plots.lines([0, 1], {"a": torch.tensor([1.0, 2.0])}, "A line.", "x", "y")
    assert shown[0] == shown[2]


def test_lines(drawn):
    series = {"DDIM": [3.0, 2.0, 1.0], "DDPM": np.array([4.0, 2.0, 1.0])}
    plots.lines([1, 10, 100], series, "Two lines.", "steps", "distance", log_x=True, log_y=True, markers=True)
    ((fig, text),) = drawn
    (axis,) = fig.axes
    assert text == "Two lines."
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("steps", "distance")
    assert (axis.get_xscale(), axis.get_yscale()) == ("log", "log")
    assert [line.get_label() for line in axis.lines] == list(series) == [t.get_text() for t in axis.get_legend().texts]
    assert [line.get_ydata().tolist() for line in axis.lines] == [[3, 2, 1], [4, 2, 1]]
    for cue in ("get_color", "get_linestyle", "get_marker"):  # told apart without colour, too
        assert getattr(axis.lines[0], cue)() != getattr(axis.lines[1], cue)()


def test_points_share_their_axes_and_target(drawn):
    clouds = {"5 steps": torch.randn(7, 2), "50 steps": torch.randn(8, 2)}
    plots.points(clouds, "Two clouds.", limit=2.0, target=torch.randn(9, 2))
    fig = drawn[0][0]
    assert [axis.get_title() for axis in fig.axes] == list(clouds)
    for axis, cloud in zip(fig.axes, clouds.values(), strict=True):
        target, points = (scatter.get_offsets() for scatter in axis.collections)
        assert len(target) == 9
        assert np.allclose(points, cloud)
        assert (*axis.get_xlim(), *axis.get_ylim()) == (-2, 2, -2, 2)


@pytest.mark.parametrize("shape", [(5, 1, 4, 6), (5, 4, 6)])
def test_images(drawn, shape):
    x = torch.linspace(-2, 2, 5 * 24).reshape(shape)
    plots.images(x, "Five images.", labels=list("abcde"), columns=3)
    axes = drawn[0][0].axes
    assert len(axes) == 6
    assert [axis.get_title() for axis in axes] == [*"abcde", ""]
    pictures = [axis.images[0] for axis in axes[:5]]
    assert not axes[5].images
    assert {picture.get_clim() for picture in pictures} == {(-1, 1)}
    assert all(np.allclose(p.get_array(), image) for p, image in zip(pictures, x.reshape(5, 4, 6), strict=True))


def test_image_rows(drawn):
    rows = {name: torch.rand(4, 1, 5, 3) for name in ("DDIM", "DDPM")}
    plots.image_rows(rows, "Two rows.")
    axes = drawn[0][0].axes
    assert [axis.get_ylabel() for axis in axes] == list(rows)
    for axis, x in zip(axes, rows.values(), strict=True):
        (strip,) = axis.images
        assert (strip.get_clim(), strip.get_interpolation()) == ((-1, 1), "nearest")
        assert np.allclose(strip.get_array()[:, 3:6], x[1, 0])


def test_pictures_in_colour_in_a_grid_and_in_rows(drawn):
    x = torch.linspace(-1.2, 1.2, 2 * 3 * 20).reshape(2, 3, 4, 5)
    plots.images(x, "Two pictures.")
    plots.image_rows({"one row": x}, "One row.")
    red = ((x[1, 0].clamp(-1, 1) + 1) * 127.5).round()
    assert np.allclose(drawn[0][0].axes[1].images[0].get_array()[..., 0], red)
    (strip,) = drawn[1][0].axes[0].images
    assert strip.get_array().shape == (4, 10, 3)
    assert np.allclose(strip.get_array()[:, 5:, 0], red)


def test_a_line_has_the_same_dashes_in_the_browser():
    for _, dash, pixels in look.LINES:
        drawn = Line2D([], [], linestyle=dash, linewidth=2)._dash_pattern[1] or ()
        assert np.allclose(drawn, pixels, atol=0.5), dash


def test_a_table_may_be_folded(shown):
    plots.table({"a": [1]}, "One.", folded="Open me")
    ((table, _),) = shown
    assert table.data.startswith("<details><summary>Open me</summary>\n\n| a |\n")
    assert table.data.endswith("\n\n*One.*\n\n</details>")
