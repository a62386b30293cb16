"""Turn a pure function of a few settings into a picture that a learner can move.

A lesson writes one ordinary function, ``compute(**values) -> Picture``, and hands it to an `Explorer` with controls:

    def noised(t: int) -> Picture:
        x_t = alpha_bar[t].sqrt() * x0 + (1 - alpha_bar[t]).sqrt() * eps
        return Picture([Points("x_t", x_t[None])], f"At t = {t} the standard deviation is {x_t.std():.2f}.")

    Explorer(noised, [Slider("t", "Timestep t", 0, 1000, 10, 200)])

If `compute` takes long, make it a generator that yields a rough picture first and better ones after it. Each is shown
at once, and the next is asked for only while the settings stay.

What JavaScript can compute too, such as exact mixtures in the plane, is answered in the browser itself when an explorer
has a `script`; the Python function still makes the stored picture, and tests hold the two equal.

A `Live` picture has no controls: a long computation, such as a training run, pushes new ones.

`Picture` checks everything it is given, so a mistake shows up in Python and not as an empty canvas. The same picture is
drawn twice: live by ``widgets.js`` in the browser, and once by matplotlib for people who read the saved notebook.
"""

import base64
import binascii
import html
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets
from IPython.display import display

from lessons_src.checks import refuse
from lessons_src.show.panels import (
    Curves,
    Images,
    Needles,
    Picture,
    Points,
    check_items,
    check_number,
    check_text,
    shown_as,
)

__all__ = ["Choice", "Curves", "Drawing", "Explorer", "Images", "Live", "Needles", "Picture", "Points", "Slider"]


@dataclass
class Slider:
    """A labelled slider for one number; `name` is the argument of `compute` that it sets.

    When `minimum` and `step` are ints, every value is an int, otherwise a float. `value` is the starting value.
    Raises TypeError or ValueError when a bound is not a finite number, or when `value` or `maximum` is off the grid
    minimum, minimum + step, ... (a browser would move it there in silence). With `when`, a pair (name of a `Choice`,
    option), the slider is shown only while that option is chosen; its value is passed to `compute` all the same.
    """

    name: str
    label: str
    minimum: int | float
    maximum: int | float
    step: int | float
    value: int | float
    when: tuple[str, str | int] | None = None

    def __post_init__(self) -> None:
        _check_name(self.name, self.label)
        for field in ("minimum", "maximum", "step"):
            setattr(self, field, check_number(f"Slider {self.name!r}: {field}", getattr(self, field)))
        if self.step <= 0:
            refuse(f"Slider {self.name!r}: step", self.step, "a number above 0")
        if self.maximum <= self.minimum:
            refuse(f"Slider {self.name!r}: maximum", self.maximum, f"more than minimum = {self.minimum}")
        self.maximum = self._on_grid("maximum", self.maximum)
        self.value = self.read(self.value)

    def read(self, value: object) -> int | float:
        """`value` as this slider's int or float; ValueError or TypeError unless it is one of the slider's values."""
        return self._on_grid("value", check_number(f"Slider {self.name!r}: value", value, self.minimum, self.maximum))

    def _on_grid(self, field: str, number: int | float) -> int | float:
        steps, grid = (number - self.minimum) / self.step, f"minimum = {self.minimum} plus whole steps of {self.step}"
        if abs(steps - round(steps)) > 1e-6:
            refuse(f"Slider {self.name!r}: {field}", number, grid)
        return round(number) if isinstance(self.minimum, int) and isinstance(self.step, int) else float(number)

    def _message(self) -> dict[str, Any]:
        decimals = max(-Decimal(repr(number)).normalize().as_tuple().exponent for number in (self.minimum, self.step))
        return {
            "kind": "slider",
            "name": self.name,
            "label": self.label,
            "min": self.minimum,
            "max": self.maximum,
            "step": self.step,
            "decimals": max(decimals, 0),
            "when": list(self.when or []),
        }


@dataclass
class Choice:
    """A labelled drop-down list; `options` are str or int, and `compute` receives the chosen option itself.

    Raises TypeError or ValueError for an empty list, two options that read the same, or a `value` outside `options`.
    With `unless`, a pair (name of another `Choice`, option), the list rests while that option is chosen.
    """

    name: str
    label: str
    options: Sequence[str | int]
    value: str | int
    unless: tuple[str, str | int] | None = None

    def __post_init__(self) -> None:
        _check_name(self.name, self.label)
        self.options = check_items(f"Choice {self.name!r}: options", self.options, str, int)
        if not self.options or len({str(option) for option in self.options}) < len(self.options):
            refuse(f"Choice {self.name!r}: options", self.options, "at least one, no two that read the same")
        self.value = self.read(self.value)

    def read(self, value: object) -> str | int:
        """`value` itself; ValueError unless it is one of the options."""
        for option in self.options:
            if type(option) is type(value) and option == value:
                return option
        refuse(f"Choice {self.name!r}: value", value, f"one of {list(self.options)}")

    def _message(self) -> dict[str, Any]:
        return {
            "kind": "choice",
            "name": self.name,
            "label": self.label,
            "options": list(self.options),
            "unless": list(self.unless or []),
        }


@dataclass(eq=False)
class Drawing:
    """A field of 28 x 28 grey pixels to draw on; `compute` receives uint8 (28, 28), 0 black to 255 white.

    presets: name -> uint8 (28, 28), for people who do not draw; `value` is the preset to begin with. Raises ValueError
    for a preset that is anything else, or a `value` that is none of them.
    """

    name: str
    label: str
    presets: Mapping[str, np.ndarray]
    value: str

    def __post_init__(self) -> None:
        _check_name(self.name, self.label)
        self._wires = {}
        for name, pixels in self.presets.items():
            if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape != (28, 28):
                refuse(f"Drawing {self.name!r}: preset {name!r}", pixels, "uint8 of shape (28, 28)")
            self._wires[name] = base64.b64encode(pixels.tobytes()).decode("ascii")
        if self.value not in self._wires:
            refuse(f"Drawing {self.name!r}: value", self.value, f"one of {list(self._wires)}")
        self.value = self._wires[self.value]

    def read(self, value: object) -> np.ndarray:
        """The pixels that the browser sent, base64 of 784 bytes; ValueError for anything else."""
        try:
            pixels = base64.b64decode(value, validate=True)
        except (TypeError, ValueError, binascii.Error):
            pixels = b""
        if len(pixels) != 28 * 28:
            refuse(f"Drawing {self.name!r}: value", value, "784 bytes in base64")
        return np.frombuffer(pixels, np.uint8).reshape(28, 28)

    def _message(self) -> dict[str, Any]:
        return {"kind": "drawing", "name": self.name, "label": self.label, "presets": self._wires}


def _check_name(name: object, label: object) -> None:
    if not isinstance(name, str) or not name.isidentifier():
        refuse("name", name, "the name of an argument of compute")
    check_text(f"label of {name!r}", label)


_EXACT = Path(__file__).with_name("exact.js").read_text(encoding="utf-8")


class Explorer(anywidget.AnyWidget):
    """A picture with controls: each move calls ``compute(**values)`` and shows what it returns.

    compute: an ordinary function from the controls' values to a `Picture`, or a generator of better and better ones.
    controls: `Slider`, `Choice` and `Drawing`, in order. The first picture is computed at once, to its best, so a
    mistake in `compute` raises here. Later exceptions are shown to the learner in the widget, beside the last good
    picture, and kept in `error` until a computation succeeds.
    script: JavaScript that may use ``exact.js`` and exports picture(values, constants), what changes of the picture, or
    null where it leaves the answer to Python. constants: name -> numbers that it needs, sent once as float64.

    `values`, `picture` and `error` tell what is shown now. The newest setting always wins: the browser sends a setting
    only when the answer to the one before is there, and numbers its requests, so that an older answer is drawn as
    "still computing" and never passed off as the current one.
    """

    # The text and not the path: anywidget may start a thread that watches a path for changes.
    _esm = Path(__file__).with_name("widgets.js").read_text(encoding="utf-8")
    _css = Path(__file__).with_name("widgets.css").read_text(encoding="utf-8")

    _hint = "(Run the notebook to move the controls.)"
    _controls = traitlets.List().tag(sync=True)
    _script = traitlets.Unicode().tag(sync=True)
    _constants = traitlets.Dict().tag(sync=True)
    _request = traitlets.Dict().tag(sync=True, echo_update=False)
    _answer = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        compute: Callable[..., Picture],
        controls: Sequence[Slider | Choice | Drawing],
        script: str = "",
        constants: Mapping[str, Any] | None = None,
    ) -> None:
        if not callable(compute):
            refuse("compute", compute, "a function", TypeError)
        check_items("controls", controls, Slider, Choice, Drawing)
        names = [control.name for control in controls]
        if len(set(names)) < len(names):
            refuse("controls, name", names, "each name once")
        pairs = [(c.name, option) for c in controls if isinstance(c, Choice) for option in c.options]
        for control in controls:
            if isinstance(control, Slider) and control.when is not None and control.when not in pairs:
                refuse(f"Slider {control.name!r}: when", control.when, f"one of {pairs}")
            if isinstance(control, Choice) and control.unless is not None:
                others = [pair for pair in pairs if pair[0] != control.name]
                if control.unless not in others:
                    refuse(f"Choice {control.name!r}: unless", control.unless, f"one of {others}")
        self._compute = compute
        self._read = {control.name: control.read for control in controls}
        self.error: Exception | None = None
        sent = {control.name: control.value for control in controls}
        self.values: dict[str, Any] = {name: self._read[name](value) for name, value in sent.items()}
        self._better: Iterator[Picture] | None = None
        self.picture = self._first(self.values)
        while self._better:  # the saved notebook keeps the best one
            self._improve()
        super().__init__(
            _controls=[control._message() for control in controls],
            _script=f"{_EXACT}\n{script}" if script else "",
            _constants={name: np.asarray(value, np.float64).tobytes() for name, value in (constants or {}).items()},
            _request={"id": 0, "values": sent},
            _answer={"id": 0, "error": "", "more": False, **self.picture._message()},
        )
        self.observe(self._on_request, "_request")

    def _first(self, values: dict[str, Any]) -> Picture:
        computed = self._compute(**values)
        self._better = computed if isinstance(computed, Iterator) else None
        return _check_picture(next(computed, None) if self._better else computed)

    def _improve(self) -> None:
        try:
            self.picture = _check_picture(next(self._better))
        except StopIteration:
            self._better = None

    def _on_request(self, change) -> None:
        request = change.new
        try:
            values = {name: read(request["values"][name]) for name, read in self._read.items()}
            if not request.get("more"):
                self.picture, self.values, self.error = self._first(values), values, None
            elif self._better:
                self._improve()
        except Exception as error:  # a learner's own compute may raise anything, and must be told what
            self.error, self._better = error, None
        self._reply(request["id"])

    def _reply(self, request: int) -> None:
        """Send the picture: one dict is one message, so numbers, text and pixels of an update can not come apart."""
        message = "" if self.error is None else f"{type(self.error).__name__}: {self.error}"
        state = {"id": request, "error": message, "more": self._better is not None}
        self._answer = state | self.picture._message()

    def _ipython_display_(self) -> None:
        """Show the widget, then its sentence as text: for the saved notebook, hidden while the widget lives."""
        self._shown = [
            display(data, metadata=metadata, raw=True, display_id=True) for data, metadata in self._outputs()
        ]

    def _outputs(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        sentence = self.picture.sentence()
        text = {"text/html": f'<p class="le-stored">{html.escape(sentence)}</p>', "text/plain": sentence}
        return [self._repr_mimebundle_(), (text, {})]

    def _repr_mimebundle_(self, **kwargs):
        """The live widget, and for readers of the saved notebook the same picture."""
        data, metadata = super()._repr_mimebundle_(**kwargs)
        sentence, png = self.picture.sentence(), self.picture.png()
        coloured = any(isinstance(panel, Images) and panel.frames.ndim == 5 for panel in self.picture.panels)
        data["image/png"] = base64.b64encode(png).decode("ascii")
        data["text/plain"] = f"{sentence} {self._hint}"
        return data, metadata | {"image/png": shown_as(png, sentence, coloured)}


def rough_first(picture: Callable[..., Picture], rough: int, steps: int, **values: object) -> Iterator[Picture]:
    """A preview with `rough` steps, said to be one, if that is less than half of them; then picture(steps=steps)."""
    if steps > 2 * rough:
        preview = picture(steps=rough, **values)
        yield replace(preview, text=f"Preview with {rough} steps; {steps} are being computed. {preview.text}")
    yield picture(steps=steps, **values)


class Live(Explorer):
    """A picture without controls that the running cell replaces by newer ones: ``Live(picture)``, ``update(picture)``.

    Raises TypeError for anything but a `Picture`; the last good one then stays.
    """

    _hint = "(Run the notebook to watch it grow.)"

    def __init__(self, picture: Picture) -> None:
        super().__init__(lambda: _check_picture(picture, "picture"), [])

    def update(self, picture: Picture) -> None:
        """Show `picture` from now on, at once and in one message."""
        self.picture = _check_picture(picture, "picture")
        self._reply(self._request["id"])

    def keep(self) -> None:
        """Store the picture as it is now in the notebook, in place of the one that was displayed at first."""
        for shown, (data, metadata) in zip(self._shown, self._outputs(), strict=True):
            shown.update(data, metadata=metadata, raw=True)


def _check_picture(picture: object, name: str = "what compute returns or yields") -> Picture:
    if not isinstance(picture, Picture):
        refuse(name, picture, "a Picture", TypeError)
    return picture
