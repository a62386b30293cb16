"""A blind comparison in a notebook: pairs of pictures, whose is whose is hidden, a choice for each, no count meanwhile.

The page gets pictures, n and words, and sends what was chosen, left or right. Whose side was whose only Python knows,
so nobody can look it up before the end. There is no count without Python: the page says so if there is no answer.
"""

import base64
import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets
from IPython.display import display

from lessons_src.checks import refuse
from lessons_src.metrics import Interval
from lessons_src.show.panels import Images, Picture

CHOICES = ("left", "right", "neither")


@dataclass(frozen=True)
class Cast:
    """What somebody has chosen: one of `CHOICES` for each pair seen, of n planned; since when, and for how long."""

    n: int
    choices: tuple[str, ...]
    voter: str
    time: datetime
    seconds: float


@dataclass(frozen=True)
class Told:
    """What they are told at the end. share: of the second name, if anything was decided. kept: where the vote is.

    sides: whose was left and whose was right, for each pair that was seen.
    """

    sentence: str
    share: Interval | None
    kept: str
    sides: Sequence[tuple[str, str]]


class Blind(anywidget.AnyWidget):
    """Pairs to choose from, left or right, for as many as were chosen before the start.

    names: of the two sides compared. question: asked of every pair. pairs: uint8 (N, 2, K, H, W), in the order they are
    shown, left and right. sizes: n to choose from -> what so many can show. finish(cast) is called once, at the end;
    what it says is in `told` from then on.
    """

    # The text and not the path: anywidget may start a thread that watches a path for changes.
    _esm = Path(__file__).with_name("blind.js").read_text(encoding="utf-8")
    _css = Path(__file__).with_name("blind.css").read_text(encoding="utf-8")

    _about = traitlets.Dict().tag(sync=True)
    _pixels = traitlets.Bytes().tag(sync=True)
    _request = traitlets.Dict().tag(sync=True, echo_update=False)  # the vote so far, whole, as the page knows it
    _answer = traitlets.Dict().tag(sync=True)  # which request was heard; in the end, the result

    def __init__(
        self,
        names: tuple[str, str],
        question: str,
        pairs: np.ndarray,
        sizes: Mapping[int, str],
        finish: Callable[[Cast], Told],
    ) -> None:
        self.told: Told | None = None
        self._names, self._sizes, self._finish, self._pairs = names, tuple(sizes), finish, pairs
        self._begun: datetime | None = None
        self._n, self._voter, self._choices = 0, "", ()
        super().__init__(
            _about={
                "names": list(names),
                "question": question,
                "sizes": [[n, hint] for n, hint in sizes.items()],
                "shape": list(pairs.shape[2:]),
            },
            _pixels=pairs[: max(sizes)].tobytes(),
            _request={"id": 0, "n": 0, "voter": "", "choices": [], "stopped": False},
            _answer={"heard": 0, "error": "", "told": None},
        )
        self.observe(self._on_request, "_request")

    def _on_request(self, change: Any) -> None:
        request, error = change.new, ""
        try:
            if self.told is None:
                self._take(request)
        except Exception as raised:  # whatever finish raises, the voter must be told
            error = f"{type(raised).__name__}: {raised}"
        self._answer = {"heard": request["id"], "error": error, "told": self._message()}

    def _take(self, request: dict[str, Any]) -> None:
        """Note what is new. What was decided earlier stays: n, and every choice."""
        n, choices = request["n"], tuple(request["choices"])
        if self._begun is None:
            if n not in self._sizes:
                refuse("n", n, f"one of {self._sizes}")
            printable = "".join(c for c in request["voter"] if c.isprintable())
            self._begun, self._n, self._voter = datetime.now(UTC), n, printable.strip()[:40].strip()
        if n != self._n:
            refuse("n", n, f"{self._n}, as chosen before the start")
        if choices[: len(self._choices)] != self._choices or len(choices) > n or not set(choices) <= set(CHOICES):
            refuse("choices", choices, f"{self._choices} and further ones of {CHOICES}, {n} in all")
        self._choices = choices
        if len(choices) == n or (request["stopped"] and choices):
            seconds = (datetime.now(UTC) - self._begun).total_seconds()
            self.told = self._finish(Cast(n, choices, self._voter, self._begun, seconds))

    def _message(self) -> dict[str, Any] | None:
        if self.told is None:
            return None
        share = None if self.told.share is None else list(self.told.share)
        sides = [list(pair) for pair in self.told.sides]
        return {"sentence": self.told.sentence, "share": share, "kept": self.told.kept, "sides": sides}

    def _sentence(self) -> str:
        a, b = self._names
        return f"Two sides, one by {a}, the other by {b}. {self._about['question']}"

    def _ipython_display_(self) -> None:
        """Show the widget, then its sentence as text: for the saved notebook, hidden while the widget lives."""
        sentence = self._sentence()
        text = {"text/html": f'<p class="lb-stored">{html.escape(sentence)}</p>', "text/plain": sentence}
        for data, metadata in (self._repr_mimebundle_(), (text, {})):
            display(data, metadata=metadata, raw=True)

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict, dict]:
        """The live widget, and for readers of the saved notebook a pair, the same whatever the order."""
        data, metadata = super()._repr_mimebundle_(**kwargs)
        sides = [sorted(pair, key=np.ndarray.tobytes) for pair in self._pairs]
        left, right = min(sides, key=lambda pair: pair[0].tobytes())
        text = self._sentence()
        picture = Picture([Images("Left", left[None]), Images("Right", right[None])], text)
        data["image/png"] = base64.b64encode(picture.png()).decode("ascii")
        data["text/plain"] = f"{text} (Run the notebook to vote.)"
        return data, metadata | {"image/png": {"alt": text}}
