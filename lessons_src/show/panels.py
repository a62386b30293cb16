"""Panels and pictures: what an exploration shows, checked, described in words, and drawn once for the saved notebook.

Everything is checked when it is made, so a mistake shows up in Python and not as an empty canvas. ``widgets.js`` draws
the same panels live; `Picture.png` draws them with matplotlib for people who read the notebook without running it.
"""

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import FancyArrowPatch
from PIL import Image
from torch import Tensor

from lessons_src.checks import check_int, check_real, refuse
from lessons_src.show.look import BLUE, COLOURS, GREEN, INK, LINES, MARKS, STYLE, VERMILLION

_STYLE = STYLE | {
    "font.size": 9,
    "text.parse_math": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": True,
    "axes.spines.right": True,
    "legend.frameon": False,
    "legend.title_fontsize": 8,
}


def grey(x: Tensor) -> np.ndarray:
    """Images in [-1, 1], values beyond clipped, as uint8 from 0 (black) to 255 (white)."""
    return ((x.clamp(-1, 1) + 1) * 127.5).round().byte().numpy()


def colour(x: Tensor) -> np.ndarray:
    """Pictures (..., 3, H, W) in [-1, 1], values beyond clipped, as uint8 (..., H, W, 3): red, green, blue."""
    return grey(x.movedim(-3, -1))


def check_text(name: str, value: object) -> str:
    """Return `value` if it is a str that says something, else TypeError or ValueError."""
    if not isinstance(value, str) or not value.strip():
        refuse(name, value, "text that is not empty", ValueError if isinstance(value, str) else TypeError)
    return value


def check_items(name: str, values: object, *kinds: type) -> tuple[Any, ...]:
    """Return `values` as a tuple if they are a sequence, but no str, of `kinds`, but no bool, else TypeError."""
    expected = " or ".join(kind.__name__ for kind in kinds)
    if isinstance(values, str) or not isinstance(values, Sequence):
        refuse(name, values, f"a sequence of {expected}", TypeError)
    for i, value in enumerate(values):
        if not isinstance(value, kinds) or isinstance(value, bool):
            refuse(f"{name}[{i}]", value, expected, TypeError)
    return tuple(values)


def check_texts(name: str, values: object, count: int, what: str) -> tuple[str, ...]:
    """Return `values` if they are `count` texts, one for each `what`, else TypeError or ValueError."""
    texts = check_items(name, values, str)
    if len(texts) != count:
        refuse(f"len({name})", len(texts), f"{count}, one for each {what}")
    return tuple(check_text(f"{name}[{i}]", text) for i, text in enumerate(texts))


def check_number(name: str, value: object, low: float = -math.inf, high: float = math.inf) -> int | float:
    """`check_real` for all numbers but tensors; whole numbers become int."""
    number = check_real(name, value, low, high)
    if isinstance(value, Tensor):
        refuse(name, value, "a number, not a tensor", TypeError)
    return int(value) if isinstance(value, Integral) else number


def check_shape(name: str, array: np.ndarray, shape: str) -> None:
    """ValueError unless `array` has this shape, where a letter stands for any size but 0."""
    if not re.fullmatch(re.sub("[A-Z]", r"[1-9]\\d*", re.escape(shape)), str(array.shape)):
        refuse(name, array, f"shape {shape}")


def check_floats(name: str, value: object, shape: str) -> np.ndarray:
    """`value` as a contiguous, finite float32 array of `shape`, as in `check_shape`, else TypeError or ValueError."""
    try:
        array = np.asarray(value)
    except (RuntimeError, TypeError, ValueError) as error:  # ragged lists, tensors with gradients or on a GPU
        refuse(name, type(value), f"what numpy makes an array of: {error}", TypeError)
    if array.dtype.kind not in "iuf":
        refuse(name, array, "real numbers", TypeError)
    check_shape(name, array, shape)
    with np.errstate(over="ignore"):
        array = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(array).all():
        refuse(name, array, f"finite values ({np.count_nonzero(~np.isfinite(array))} are not)")
    return array


@dataclass(eq=False, repr=False)
class Points:
    """2-D points at one or more successive frames.

    frames: (F, N, 2), real, finite; drawn as dots, with faint paths of some of them from frame 0 to the shown frame
    (unless `paths` is False). target: (M, 2), drawn faintly behind, called `target_name` in the key. groups: (N,) whole
    numbers from 0 up, such as where the exact flow takes each point: a group has its own colour and, as a second cue,
    its own shape. grey: the group, if there is one, that is drawn without a colour. names: group -> what the key calls
    it. The square shown is [-limit, limit]^2; a point outside it is a wedge on the border, on its way from the middle,
    and is counted in the key. x_ticks, y_ticks: place -> name, where an axis tells something else than x or y. arrows:
    name -> (A, 4), from (x, y) by (u, v), the same at every frame; of at most two names, the first one's arrows are
    broad and lie below. An arrow that would leave the square ends at its border.
    """

    title: str
    frames: np.ndarray
    target: np.ndarray | None = None
    limit: float = 3.5
    paths: bool = True
    groups: Sequence[int] | np.ndarray | None = None
    grey: int | None = None
    names: Mapping[int, str] | None = None
    target_name: str = "target"
    x_label: str | None = None
    y_label: str | None = None
    x_ticks: Mapping[float, str] | None = None
    y_ticks: Mapping[float, str] | None = None
    arrows: Mapping[str, np.ndarray] | None = None

    def __post_init__(self) -> None:
        check_text("Points title", self.title)
        self.frames = check_floats("Points frames", self.frames, "(F, N, 2)")
        if self.target is not None:
            self.target = check_floats("Points target", self.target, "(M, 2)")
        self.limit = float(check_number("Points limit", self.limit))
        if self.limit <= 0:
            refuse("Points limit", self.limit, "a number above 0")
        n = self.frames.shape[1]
        self.groups = np.asarray([0] * n if self.groups is None else self.groups)
        if self.groups.dtype.kind not in "iu" or self.groups.min() < 0:
            refuse("Points groups", self.groups, "whole numbers from 0 up")
        check_shape("Points groups", self.groups, f"({n},)")
        if self.names is not None and set(self.names) != set(self.groups.tolist()):
            refuse("Points names", self.names, f"one for each of the groups {sorted(set(self.groups.tolist()))}")
        check_texts("Points names", list((self.names or {}).values()), len(self.names or {}), "group")
        for field in ("target_name", "x_label", "y_label"):
            if getattr(self, field) is not None:
                check_text(f"Points {field}", getattr(self, field))
        for field in ("x_ticks", "y_ticks"):
            places = {
                float(check_number(f"Points {field}", place, -self.limit, self.limit)): check_text(
                    f"Points {field} name", name
                )
                for place, name in (getattr(self, field) or {}).items()
            }
            setattr(self, field, places)
        check_int("len(Points arrows)", len(self.arrows or {}), 0, len(ARROWS))
        self.arrows = {
            check_text("Points arrows name", name): check_floats(f"Points arrows {name!r}", arrows, "(A, 4)")
            for name, arrows in (self.arrows or {}).items()
        }

    def count(self) -> int:
        """Number of frames F."""
        return self.frames.shape[0]

    @property
    def _inches(self) -> tuple[float, float]:
        return 3.8, 4.9 if self.x_label else 4.5

    def _with_path(self) -> list[int]:
        """Which points get a path: all paths of a large set would only make a grey cloud."""
        if not self.paths or self.count() == 1:
            return []
        n = self.frames.shape[1]
        return np.linspace(0, n - 1, min(n, 150)).round().astype(int).tolist()

    def _message(self) -> dict[str, Any]:
        many = len(set(self.groups.tolist())) > 1
        lines = [(None, "var(--le-text)", "points, by group")] if many else [(None, "var(--le-dot)", "points")]
        if self.names is not None:
            own = [line[0] for line in LINES] if self.groups.any() else ["var(--le-dot)"]
            color = {group: own[group % len(own)] for group in self.names} | {self.grey: "var(--le-path)"}
            lines = [(None, color[group], name, group) for group, name in self.names.items()]
        if self._with_path():
            lines.append(((), "var(--le-path)", "path so far"))
        if self.target is not None:
            lines.append((None, "var(--le-target)", self.target_name))
        lines += [((), color, name, width) for name, (color, width) in zip(self.arrows, ARROWS, strict=False)]
        return {
            "data": self.frames.tobytes(),
            "size": self.frames.shape[1],
            "target": b"" if self.target is None else self.target.tobytes(),
            "arrows": b"".join(arrows.tobytes() for arrows in self.arrows.values()),
            "styles": [(len(arrows), *style) for arrows, style in zip(self.arrows.values(), ARROWS, strict=False)],
            "groups": self.groups.tolist(),
            "grey": self.grey,
            "limit": self.limit,
            "paths": self._with_path(),
            "lines": lines,
            "x_label": self.x_label or "",
            "y_label": self.y_label or "",
            "x_ticks": list(self.x_ticks.items()),
            "y_ticks": list(self.y_ticks.items()),
        }

    def _draw(self, axes, frame: int) -> None:
        axes.set(xlim=(-self.limit, self.limit), ylim=(-self.limit, self.limit), aspect="equal")
        axes.set(xlabel=self.x_label or "", ylabel=self.y_label or "")
        if self.x_ticks:
            axes.set_xticks(list(self.x_ticks), list(self.x_ticks.values()))
        if self.y_ticks:
            axes.set_yticks(list(self.y_ticks), list(self.y_ticks.values()))
        size = 2.6 if self.frames.shape[1] > 40 else 5
        if self.target is not None:
            axes.plot(*self.target.T, "s", color="0.6", alpha=0.5, ms=2, mew=0, label=self.target_name)
        if self._with_path():
            own = len(set(self.groups.tolist())) > 1 and self.frames.shape[1] <= 40  # as in widgets.js
            for i in self._with_path():
                color = LINES[self.groups[i] % len(LINES)][0] if own else "0.55"
                axes.plot(
                    *self.frames[: frame + 1, i].T, color=color, alpha=0.6 if own else 1, lw=size / (4 if own else 6)
                )
            axes.plot([], [], color="0.55", label="path so far")
        for (name, arrows), (color, width) in zip(self.arrows.items(), ARROWS, strict=False):
            axes.plot([], [], color=color, lw=0.8 * width, label=name)
            head = 3 + 1.3 * width
            shape = f"simple,tail_width={0.8 * width},head_width={head},head_length={head}"
            for x, y, *way in arrows[arrows[:, 2:].any(axis=1)]:
                tip = np.add([x, y], np.multiply(way, self._share((x, y), way)))
                axes.add_patch(
                    FancyArrowPatch(
                        (x, y), tip, arrowstyle=shape, shrinkA=0, shrinkB=0, mutation_scale=1, color=color, lw=0
                    )
                ).set_in_layout(False)
        at = self.frames[frame]
        far = np.abs(at).max(axis=1) / self.limit
        for group in sorted(set(self.groups.tolist())):
            color = "0.6" if group == self.grey else LINES[group % len(LINES)][0]
            shape = MARKS[group % len(MARKS)]
            name = self.names and self.names[group]
            here = self.groups == group
            axes.plot(*at[here & (far <= 1)].T, shape, color=color, ms=size, mew=0, label=name)
            pinned = at[here & (far > 1)] / far[here & (far > 1), None]
            for axis, sign, wedge in ((0, -1, "<"), (0, 1, ">"), (1, -1, "v"), (1, 1, "^")):
                on = np.abs(pinned).argmax(axis=1) == axis
                on &= np.sign(pinned[:, axis]) == sign
                axes.plot(*(0.98 * pinned[on]).T, wedge, color=color, ms=size + 2, mew=0)
        if self.names is None:
            axes.plot([], [], "o", color=INK if self.groups.any() else LINES[0][0], ms=size, mew=0, label="points")
        outside = np.count_nonzero(far > 1)
        title = f"{outside} of {len(at)} points lie outside: wedges" if outside else None
        names = axes.get_legend_handles_labels()[1]
        columns = 2 if len(names) == 4 or len("".join(names)) > 25 else 3
        below = (0.5, -0.16 if self.x_label else -0.07)
        axes.legend(loc="upper center", bbox_to_anchor=below, ncols=columns, title=title, markerscale=5 / size)

    def _share(self, start: Sequence[float], way: Sequence[float]) -> float:
        """How much of a way (u, v) from a start (x, y) within the square lies in it."""
        ends = [(math.copysign(self.limit, step) - at) / step for at, step in zip(start, way, strict=True) if step]
        return min([1.0, *ends])


# The arrows of points: colour and width
ARROWS = ((GREEN, 5.0), (VERMILLION, 2.0))


@dataclass(eq=False, repr=False)
class Curves:
    """One or more lines over a common x, told apart by colour, by dashes and by their names in the key.

    x: (N,) with N >= 2, strictly increasing. series: name -> (N,), at most six. All values finite: leave out or clip
    end points where a curve is infinite. y_range: (low, high); by default the data's range with a small margin, so
    give one to keep the axis still while a control moves; a line may leave it, and an arrow tells where it is at the
    marker. marker: (F,) x positions of a vertical line, one a frame. y_ticks: place -> name, where the axis tells
    something else than y. x_end: where the x axis ends, by default at the last x; give it while a line still grows.
    """

    title: str
    x: np.ndarray
    series: Mapping[str, np.ndarray]
    x_label: str
    y_label: str
    y_range: tuple[float, float] | None = None
    marker: np.ndarray | None = None
    y_ticks: Mapping[float, str] | None = None
    x_end: float | None = None
    _inches = (4.8, 3.7)

    def __post_init__(self) -> None:
        for field in ("title", "x_label", "y_label"):
            check_text(f"Curves {field}", getattr(self, field))
        self.x = check_floats("Curves x", self.x, "(N,)")
        if len(self.x) < 2 or not (np.diff(self.x) > 0).all():
            refuse("Curves x", self.x, "at least 2 strictly increasing values")
        if not isinstance(self.series, Mapping):
            refuse("Curves series", type(self.series), "a mapping from names to arrays", TypeError)
        check_int("len(Curves series)", len(self.series), 1, len(LINES))
        if self.x_end is not None:
            self.x_end = check_number("Curves x_end", self.x_end, self.x[-1].item())
        self.series = {
            check_text("Curves series name", label): check_floats(f"Curves series {label!r}", y, str(self.x.shape))
            for label, y in self.series.items()
        }
        if self.y_range is None:
            values = np.stack(list(self.series.values()))
            margin = 0.05 * float(np.ptp(values)) or 0.5
            self.y_range = (values.min() - margin, values.max() + margin)
        if not isinstance(self.y_range, Sequence) or len(self.y_range) != 2:
            refuse("Curves y_range", self.y_range, "a pair (low, high)", TypeError)
        self.y_range = tuple(float(check_number("Curves y_range", bound)) for bound in self.y_range)
        if self.y_range[0] >= self.y_range[1]:
            refuse("Curves y_range", self.y_range, "(low, high) with low < high")
        if self.marker is not None:
            self.marker = check_floats("Curves marker", self.marker, "(F,)")
            if self.marker.min() < self.x[0] or self.marker.max() > self.x[-1]:
                refuse("Curves marker", self.marker, f"values from {self.x[0]} to {self.x[-1]}")
        self.y_ticks = {
            float(check_number("Curves y_ticks", place, *self.y_range)): check_text("Curves y_ticks name", name)
            for place, name in (self.y_ticks or {}).items()
        }

    def count(self) -> int:
        """Number of frames F: one for each marker position."""
        return 1 if self.marker is None else len(self.marker)

    def _message(self) -> dict[str, Any]:
        return {
            "x": self.x.tobytes(),
            "data": b"".join(y.tobytes() for y in self.series.values()),
            "lines": [(pixels, color, label) for label, (color, _, pixels) in zip(self.series, LINES, strict=False)],
            "marker": b"" if self.marker is None else self.marker.tobytes(),
            "x_label": self.x_label,
            "y_label": self.y_label,
            "y_range": self.y_range,
            "y_ticks": list(self.y_ticks.items()),
            "x_end": self.x_end,
        }

    def _draw(self, axes, frame: int) -> None:
        for (label, y), (color, dash, _) in zip(self.series.items(), LINES, strict=False):
            axes.plot(self.x, y, color=color, label=label, ls=dash)
            if self.marker is not None:
                here, (low, high) = np.interp(self.marker[frame], self.x, y), self.y_range
                shape = "^" if here > high else "v" if here < low else "o"
                axes.plot(self.marker[frame], np.clip(here, low, high), shape, color=color, ms=5, clip_on=False)
        if self.marker is not None:
            axes.axvline(self.marker[frame], color="0.45", lw=1)
        end = self.x[-1] if self.x_end is None else self.x_end
        axes.set(xlim=(self.x[0], end), ylim=self.y_range, xlabel=self.x_label, ylabel=self.y_label)
        if self.y_ticks:
            axes.set_yticks(list(self.y_ticks), list(self.y_ticks.values()))
        axes.legend(loc="best")


@dataclass(eq=False, repr=False)
class Images:
    """K images side by side at one or more frames, enlarged without smoothing.

    frames: uint8 (F, K, H, W), 0 black to 255 white, or in colour (F, K, H, W, 3). labels: K texts, drawn under the
    images; with `at_end` only under those of the last frame, where they say what has come out. arrives: K frames;
    before its own an image is an empty place that says "not yet".
    """

    title: str
    frames: np.ndarray
    labels: Sequence[str] | None = None
    at_end: bool = False
    arrives: Sequence[int] = ()

    def __post_init__(self) -> None:
        check_text("Images title", self.title)
        self.frames = np.asarray(self.frames)
        if self.frames.dtype != np.uint8:
            refuse("Images frames", self.frames, "uint8, 0 black to 255 white", TypeError)
        check_shape("Images frames", self.frames, "(F, K, H, W, 3)" if self.frames.ndim == 5 else "(F, K, H, W)")
        if self.labels is not None:
            self.labels = check_texts("Images labels", self.labels, self.frames.shape[1], "image")
        if self.arrives and (len(self.arrives) != self.frames.shape[1] or max(self.arrives) >= self.count()):
            refuse("Images arrives", self.arrives, f"a frame below {self.count()} for each of {self.frames.shape[1]}")

    def count(self) -> int:
        """Number of frames F."""
        return self.frames.shape[0]

    def _message(self) -> dict[str, Any]:
        return {
            "data": self.frames.tobytes(),
            "shape": self.frames.shape[1:4],
            "channels": 3 if self.frames.ndim == 5 else 1,
            "labels": self.labels or [],
            "at_end": self.at_end,
            "arrives": list(self.arrives),
        }

    def _grid(self) -> tuple[int, float, float]:
        """Columns, and the height of an image and of a row where an image is 1 wide."""
        k, height, width = self.frames.shape[1:4]
        rows = math.ceil(k / 8)
        tall = height / width
        return math.ceil(k / rows), tall, tall + (0.3 if self.labels else 0.1)

    @property
    def _inches(self) -> tuple[float, float]:
        columns, _, row = self._grid()
        return 1.05 * columns + 0.2, 1.05 * row * math.ceil(self.frames.shape[1] / columns) + 0.4

    def _draw(self, axes, frame: int) -> None:
        columns, tall, row = self._grid()
        images = self.frames[frame]
        for k, image in enumerate(images):
            left, top = 1.1 * (k % columns), row * (k // columns)
            box = (left, left + 1, top + tall, top)
            if self.arrives and frame < self.arrives[k]:
                axes.imshow([[0]], cmap="gray", alpha=0.1, extent=box, aspect="equal")
                axes.text(left + 0.5, top + tall / 2, "not yet", ha="center", va="center", fontsize=8, color="0.5")
            else:
                axes.imshow(image, cmap="gray", vmin=0, vmax=255, extent=box, aspect="equal")
            if self.labels and (not self.at_end or frame == self.count() - 1):
                axes.text(left + 0.5, top + tall + 0.04, self.labels[k], ha="center", va="top", fontsize=8)
        axes.set(xlim=(0, 1.1 * columns - 0.1), ylim=(row * math.ceil(len(images) / columns), 0))
        axes.axis("off")
        axes.set_anchor("NW")


@dataclass(eq=False, repr=False)
class Needles:
    """K named numbers, each beside the band in which it should lie; how far they are is told by asinh, and in figures.

    values, low, high: (K,), all in the same unit, such as standard deviations; low < high are the ends of the bands.
    Worse is to the right: beyond `high` a number gives the alarm, below `low` it is too good.
    The axis ends at `span`; numbers beyond it are drawn at its end.
    """

    title: str
    names: Sequence[str]
    values: np.ndarray
    low: np.ndarray
    high: np.ndarray
    label: str
    span: float = 100.0
    _inches = (5.2, 3.7)

    def __post_init__(self) -> None:
        for field in ("title", "label"):
            check_text(f"Needles {field}", getattr(self, field))
        self.values = check_floats("Needles values", self.values, "(K,)")
        self.names = check_texts("Needles names", self.names, len(self.values), "value")
        for field in ("low", "high"):
            setattr(self, field, check_floats(f"Needles {field}", getattr(self, field), str(self.values.shape)))
        if not (self.low < self.high).all():
            refuse("Needles low", self.low, f"less than high = {self.high}")
        self.span = float(check_number("Needles span", self.span, 1))

    def count(self) -> int:
        """There is one frame."""
        return 1

    def states(self) -> list[int]:
        """For each number: 0 inside its band, 1 above it, 2 below."""
        return ((self.values > self.high) + 2 * (self.values < self.low)).tolist()

    def _message(self) -> dict[str, Any]:
        return {
            "names": self.names,
            "data": self.values.tobytes(),
            "low": self.low.tobytes(),
            "high": self.high.tobytes(),
            "states": self.states(),
            "label": self.label,
            "span": self.span,
            "lines": [(None, color, said) for color, said in NEEDLES],
        }

    def _draw(self, axes, frame: int) -> None:
        end = math.asinh(self.span)
        for row, state in enumerate(self.states()):
            value = float(self.values[row])
            place, band = (
                np.arcsinh(np.clip(numbers, -self.span, self.span))
                for numbers in (value, [self.low[row], self.high[row]])
            )
            color = NEEDLES[state][0]
            axes.fill_betweenx([row - 0.3, row + 0.3], *band, color="0.6", alpha=0.3, lw=0)
            axes.plot([band[1], band[1]], [row - 0.36, row + 0.36], color=INK, lw=1.6)
            axes.plot([0, place], [row, row], color=color, lw=2)
            axes.plot(place, row, MARKS[(0, 3, 2)[state]], color=color, ms=6)
            said = f"{value:+.0f}" if abs(value) >= 10 else f"{value:+.1f}"
            weight = "bold" if state == 1 else "normal"
            axes.text(1.12 * end, row, said.replace("-", "−"), ha="left", va="center", color=INK, weight=weight)
        ticks = [sign * tick for tick in (1, 3, 10, 30, 100) if tick <= self.span for sign in (-1, 1)] + [0]
        axes.set_xticks(np.arcsinh(ticks), [f"{tick:g}".replace("-", "−") for tick in ticks])
        axes.set_yticks(range(len(self.names)), self.names)
        axes.set(xlim=(-1.08 * end, 1.08 * end), ylim=(len(self.names) - 0.4, -0.6), xlabel=self.label)


# What a needle can say, by its colour and, as a second cue, its shape
NEEDLES = ((BLUE, "as real"), (VERMILLION, "alarm"), (GREEN, "better than real"))


@dataclass(eq=False, repr=False)
class Picture:
    """What `compute` returns: panels side by side, and a sentence that says in numbers what they show.

    Panels with more than one frame must have equally many, F; they share one replay slider, labelled `frame_label`,
    whose positions are called `frame_names` (F texts, by default "0" to "F - 1"). `text` is the caption, and what
    people read who do not see the picture; `frame_texts` (F texts) adds a sentence for each frame. `formula` stands
    large above the panels, one line with the numbers in it: a text, or F of them. `start` is the frame shown first, and
    in the saved notebook: by default the last. With `plays` the frames run by once when the picture first comes into
    sight, if the reader's system does not ask for less motion.
    """

    panels: Sequence[Points | Curves | Images | Needles]
    text: str
    frame_label: str | None = None
    frame_names: Sequence[str] | None = None
    frame_texts: Sequence[str] | None = None
    start: int = -1
    formula: str | Sequence[str] | None = None
    plays: bool = False

    def __post_init__(self) -> None:
        if not check_items("Picture panels", self.panels, Points, Curves, Images, Needles):
            refuse("Picture panels", self.panels, "at least one", TypeError)
        check_text("Picture text", self.text)
        counts = [panel.count() for panel in self.panels]
        if len(set(counts) - {1}) > 1:
            refuse("Picture panels, frames", counts, "1 or equally many")
        frames = max(counts)
        self.frame_label = check_text("Picture frame_label", "Replay" if self.frame_label is None else self.frame_label)
        names = [str(i) for i in range(frames)] if self.frame_names is None else self.frame_names
        self.frame_names = check_texts("Picture frame_names", names, frames, "frame")
        if self.frame_texts is not None:
            self.frame_texts = check_texts("Picture frame_texts", self.frame_texts, frames, "frame")
        lines = [] if self.formula is None else [self.formula] if isinstance(self.formula, str) else self.formula
        self.formula = check_texts("Picture formula", lines, frames if len(lines) > 1 else len(lines), "frame")
        if not isinstance(self.start, Integral) or not -frames <= self.start < frames:
            refuse("Picture start", self.start, f"a frame from {-frames} to {frames - 1}")
        self.start = int(self.start) % frames

    def sentence(self) -> str:
        """The text, with the start frame's formula before it and its own sentence after it, where there are such."""
        formula = f"{self.formula[self.start % len(self.formula)]}. " if self.formula else ""
        return f"{formula}{self.text} {self.frame_texts[self.start]}" if self.frame_texts else f"{formula}{self.text}"

    def png(self) -> bytes:
        """The start frame, drawn by matplotlib; the same bytes every time, small enough to commit."""
        with matplotlib.style.context(["default", _STYLE]):
            rows = _rows(self.panels)
            widths, heights = zip(*map(_size, rows), strict=True)
            scale = 1.0
            if all(isinstance(panel, Images) for panel in self.panels):  # a few images by themselves may be large
                scale = min(max(8.0 / max(widths), 1.0), 2.5)
            high = sum(scale * (height - 0.55) + 0.55 for height in heights)  # titles keep their size
            figure = Figure(figsize=(scale * max(widths), high + 0.1))
            bands = figure.subfigures(len(rows), 1, squeeze=False, height_ratios=heights)[:, 0]
            for band, row in zip(bands, rows, strict=True):
                plots = band.subplots(1, len(row), squeeze=False, width_ratios=[panel._inches[0] for panel in row])[0]
                for axes, panel in zip(plots, row, strict=True):
                    axes.set_title(panel.title)
                    panel._draw(axes, self.start if panel.count() > 1 else 0)
            return drawn(figure)

    def _message(self) -> dict[str, Any]:
        return {
            "panels": [
                {"kind": type(p).__name__.lower(), "title": p.title, "frames": p.count(), **p._message()}
                for p in self.panels
            ],
            "text": self.text,
            "formula": self.formula,
            "plays": self.plays,
            "frame_label": self.frame_label,
            "frame_names": self.frame_names,
            "frame_texts": self.frame_texts or [],
            "start": self.start,
        }


def drawn(figure: Figure) -> bytes:
    """A figure as a `small_png`, the colours of its pictures among its own."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    shown = [np.asarray(image.get_array()) for image in figure.findobj(AxesImage)]
    colours = [image.reshape(-1, 3) for image in shown if image.ndim == 3]
    return small_png(np.asarray(canvas.buffer_rgba()), np.concatenate(colours) if colours else None)


def shown_as(png: bytes, text: str, coloured: bool) -> dict[str, Any]:
    """How a notebook shows a PNG: its alternative text and, of pictures in colour, its own width in pixels.

    Dark pages brighten pictures without a width (widgets.css), so that grey text is read; colours would change.
    """
    return {"alt": text} | ({"width": Image.open(io.BytesIO(png)).width} if coloured else {})


def small_png(pixels: np.ndarray, colours: np.ndarray | None = None) -> bytes:
    """`pixels` (H, W, 4) in 40 opaque greys and 16 degrees of each colour: a third of the bytes of full colour.

    colours: uint8 (N, 3) that are to be kept too, of pictures for instance; the 86 that stand for them best are.
    """
    own = np.zeros((0, 3), np.uint8) if colours is None else _fewer(colours, 86)
    greys = np.linspace(0, 255, 40)[:, None].repeat(3, axis=1)
    hues = np.array([[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in (*COLOURS, "#BBBBBB")])
    palette = np.concatenate([own, greys, hues.repeat(16, axis=0), [[0, 0, 0]]]).astype(np.uint8)
    degrees = np.tile(np.linspace(0, 255, 17)[1:], len(hues))
    alpha = np.concatenate([np.full(len(own) + 40, 255), degrees, [0]]).round().astype(np.uint8)
    codes, where = np.unique(np.ascontiguousarray(pixels).view(np.uint32)[..., 0], return_inverse=True)
    wanted = _weighed(codes.view(np.uint8).reshape(-1, 4))
    offered = _weighed(np.concatenate([palette, alpha[:, None]], axis=1))
    nearest = np.square(wanted[:, None] - offered).sum(axis=2).argmin(axis=1).astype(np.uint8)
    image = Image.fromarray(nearest[where.reshape(pixels.shape[:2])], "P")
    image.putpalette(palette.tobytes())
    out = io.BytesIO()
    image.save(out, "png", optimize=True, transparency=alpha.tobytes())
    return out.getvalue()


def _fewer(colours: np.ndarray, most: int) -> np.ndarray:
    """At most so many colours (M, 3) that stand for colours (N, 3), by median cut."""
    picture = Image.fromarray(np.ascontiguousarray(colours, np.uint8)[None], "RGB")
    few = picture.quantize(most, Image.Quantize.MEDIANCUT)
    return np.array(few.getpalette(), np.uint8).reshape(-1, 3)[: len(few.getcolors())]


def _weighed(rgba: np.ndarray) -> np.ndarray:
    """Colours (N, 4) as they add to a page: each channel times alpha, and alpha."""
    alpha = rgba[:, 3:].astype(np.float64)
    return np.concatenate([rgba[:, :3] * alpha / 255, alpha], axis=1)


def _size(row: Sequence[Points | Curves | Images | Needles]) -> tuple[float, float]:
    """Width and height of panels side by side, in inches."""
    widths, heights = zip(*(panel._inches for panel in row), strict=True)
    return sum(widths), max(heights)


def _rows(panels: Sequence[Points | Curves | Images | Needles]) -> list[list[Points | Curves | Images | Needles]]:
    """Split the panels into rows at most 10 inches wide, like words in a paragraph."""
    rows: list[list[Points | Curves | Images | Needles]] = [[]]
    for panel in panels:
        if rows[-1] and _size([*rows[-1], panel])[0] > 10:
            rows.append([])
        rows[-1].append(panel)
    return rows
