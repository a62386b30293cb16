"""Static figures: one look, colours that colour-blind readers can tell apart, and a sentence under every picture.

The sentence is computed by the lesson, shown as the caption, and stored as the picture's alternative text.
"""

from base64 import b64encode
from collections.abc import Mapping, Sequence

import numpy as np
from IPython.display import Markdown, display
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.legend import Legend
from matplotlib.text import Text
from torch import Tensor

from lessons_src.checks import refuse
from lessons_src.show.look import BLUE, COLOURS, DASHES, INK, STYLE, VERMILLION  # noqa: F401, for notebooks
from lessons_src.show.panels import colour, drawn, shown_as

Values = Sequence[float] | Tensor | np.ndarray


def figure(columns: int = 1, rows: int = 1, width: float = 9.0, height: float = 3.2) -> tuple[Figure, np.ndarray]:
    """A figure of rows x columns panels in the course's style (sizes in inches), and its axes as an array."""
    with rc_context(STYLE):
        fig = Figure(figsize=(width, height))
        return fig, fig.subplots(rows, columns, squeeze=False)


def show(fig: Figure, text: str) -> None:
    """Display a figure with its sentence: as caption below, as alternative text, and as plain text for text readers."""
    if not text.strip():
        refuse("text", text, "a sentence that says what the figure shows")
    for mark in fig.findobj(Text):  # those added outside the course's style are black, and vanish on a dark page
        if same_color(mark.get_color(), "black"):
            mark.set_color(INK)
    for frame in fig.findobj(Legend):
        frame.set_frame_on(False)
    with rc_context(STYLE):
        png = drawn(fig)
    picture = {"image/png": b64encode(png).decode(), "text/plain": text}
    coloured = any(np.ndim(image.get_array()) == 3 for image in fig.findobj(AxesImage))
    display(picture, metadata={"image/png": shown_as(png, text, coloured)}, raw=True)
    display(Markdown(f"*{text}*"))


def lines(
    x: Values,
    series: Mapping[str, Values],
    text: str,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    log_y: bool = False,
    markers: bool = False,
) -> None:
    """One panel of labelled lines, told apart by colour and dash; `text` as in `show`."""
    fig, axes = figure(width=7.5, height=3.6)
    draw_lines(axes[0, 0], x, series, x_label, y_label, markers)
    if log_x:
        axes[0, 0].set_xscale("log")
    if log_y:
        axes[0, 0].set_yscale("log")
    show(fig, text)


def draw_lines(
    axis: Axes, x: Values, series: Mapping[str, Values], x_label: str, y_label: str, markers: bool = False
) -> None:
    """Draw labelled lines on one axis of a figure of several panels."""
    for i, (label, y) in enumerate(series.items()):
        style = {"marker": "osD^v<>"[i % 7], "markersize": 5} if markers else {}
        axis.plot(np.asarray(x), np.asarray(y), label=label, color=COLOURS[i % 7], linestyle=DASHES[i % 7], **style)
    axis.set_xlabel(x_label)
    axis.set_ylabel(y_label)
    if len(series) > 1:
        axis.legend()


def points(clouds: Mapping[str, Tensor], text: str, limit: float = 3.0, target: Tensor | None = None) -> None:
    """Point sets (N, 2) side by side under their titles, over an optional faint target; `text` as in `show`."""
    fig, axes = figure(columns=len(clouds), width=2.9 * len(clouds), height=3.1)
    for axis, (title, cloud) in zip(axes[0], clouds.items(), strict=True):
        draw_points(axis, cloud, title, limit, target)
    show(fig, text)


def draw_points(axis: Axes, cloud: Tensor, title: str, limit: float = 3.0, target: Tensor | None = None) -> None:
    """Draw one point set on one square axis."""
    if target is not None:
        axis.scatter(*np.asarray(target).T, s=4, color="0.6", alpha=0.5, linewidths=0)
    axis.scatter(*np.asarray(cloud).T, s=5, color=BLUE, linewidths=0)
    axis.set(title=title, xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")


def images(x: Tensor, text: str, labels: Sequence[str] | None = None, columns: int = 10) -> None:
    """Images (N, 1, H, W), (N, H, W) or in colour (N, 3, H, W) in [-1, 1], values beyond clipped, in a grid.

    `text` as in `show`.
    """
    columns = min(columns, len(x))
    rows = -(-len(x) // columns)
    fig, axes = figure(columns, rows, width=0.95 * columns, height=(1.25 if labels else 0.95) * rows)
    for axis in axes.flat:
        axis.axis("off")
    for i, (axis, image) in enumerate(zip(axes.flat, _shown(x), strict=False)):
        axis.imshow(image, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
        if labels:
            axis.set_title(labels[i], fontsize=10.5)
    show(fig, text)


def _shown(x: Tensor) -> np.ndarray:
    """Images as matplotlib takes them: (N, H, W) as they are, or in colour uint8 (N, H, W, 3)."""
    return colour(x) if x.ndim == 4 and x.shape[1] == 3 else np.asarray(x.reshape(-1, *x.shape[-2:]))


def image_rows(rows: Mapping[str, Tensor], text: str) -> None:
    """Rows of images (N, 1, H, W) or (N, 3, H, W) in [-1, 1], as many in each, named at the left.

    `text` as in `show`.
    """
    fig, axes = figure(rows=len(rows), width=7.9, height=0.72 * len(rows) + 0.2)
    fig.get_layout_engine().set(rect=(0.05, 0, 0.95, 1))  # the layout forgets names beside pictures of fixed shape
    for axis, (name, x) in zip(axes[:, 0], rows.items(), strict=True):
        axis.imshow(np.concatenate(list(_shown(x)), axis=1), cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
        axis.set(xticks=[], yticks=[])
        axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=10.5)
        axis.grid(False)
    show(fig, text)


def table(columns: Mapping[str, Sequence[object]], text: str | None = None, folded: str | None = None) -> None:
    """A table of equally long columns, numbers to six significant digits, with an optional sentence below.

    folded: a line in place of all, until the reader opens it.
    """
    header = "| " + " | ".join(columns) + " |"
    rule = "|" + "|".join("---" if isinstance(column[0], str) else "--:" for column in columns.values()) + "|"
    rows = [
        "| " + " | ".join(f"{value + 0.0:.6g}" if isinstance(value, float) else str(value) for value in row) + " |"
        for row in zip(*columns.values(), strict=True)
    ]
    whole = "\n".join([header, rule, *rows]) + (f"\n\n*{text}*" if text else "")
    display(Markdown(f"<details><summary>{folded}</summary>\n\n{whole}\n\n</details>" if folded else whole))
