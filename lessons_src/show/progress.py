"""A bar for cells that take a while."""

import time
from collections.abc import Collection, Iterator
from typing import TypeVar

from IPython import get_ipython
from IPython.display import display

T = TypeVar("T")
EVERY = 0.5  # seconds between two states of a bar, at least


def counted(items: Collection[T], what: str) -> Iterator[T]:
    """The items, one by one, and a bar that says how many of them are done; in a terminal there is none."""
    bar = display(progress_bar(0, len(items), what=what), raw=True, display_id=True) if get_ipython() else None
    shown = time.perf_counter()
    for done, item in enumerate(items, 1):
        yield item
        if bar and (done == len(items) or time.perf_counter() - shown > EVERY):
            bar.update(progress_bar(done, len(items), what=what), raw=True)
            shown = time.perf_counter()


def progress_bar(done: int, of: int, more: str = "", what: str = "steps") -> dict[str, str]:
    """A progress bar with its words, as raw display data."""
    words = f"{done} of {of} {what}{more}"
    bar = f'<progress max="{of}" value="{done}" aria-label="Progress"></progress> {words}'
    return {"text/html": bar, "text/plain": words}
