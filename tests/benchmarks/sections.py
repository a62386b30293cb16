"""What a benchmark made of sections finds: kept section by section, whatever goes wrong in one of them.

Importing this puts the repository on the path, for machines on which the course is not installed.
"""

import json
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

GRACE = 15  # seconds past its time after which a section is broken off where it stands


class OutOfTime(BaseException):
    """The time of a section is over. No Exception, so that nothing in between takes it for its own failure."""


@dataclass
class Section:
    """The device and sizes that a section works with, and what it finds: kept also when it fails."""

    device: str
    sizes: Any
    until: float
    peaks: dict[str, float]
    status: str = "done"
    seconds: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def add(self, **row: Any) -> None:
        """A row of results; neighbours with the same columns make a table."""
        self.rows.append(row)
        print("  " + ", ".join(f"{key}: {shown(value)}" for key, value in row.items()), flush=True)

    def note(self, text: str) -> None:
        """A sentence beside the tables."""
        self.notes.append(text)
        print(f"  {text}", flush=True)

    def error(self, text: str) -> None:
        """Something that went wrong."""
        self.errors.append(text)
        print(f"  ERROR {text}", flush=True)

    @contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """Record an error by name and go on after it; end the section if its time is over."""
        if time.perf_counter() > self.until:
            raise OutOfTime(f"out of time before {what}")
        try:
            yield
        except Exception as error:
            self.error(f"{what}: {named(error)}")

    @property
    def cuda(self) -> bool:
        """Whether there are CUDA graphs to measure."""
        return torch.device(self.device).type == "cuda"


def run_section(function: Callable[[Section], None], section: Section) -> None:
    """Run a section and record how it ended. Past its time it ends at its next attempt; past GRACE, where it stands."""

    def ring(*_: Any) -> None:
        raise OutOfTime("out of time, broken off")

    start = time.perf_counter()
    alarm = hasattr(signal, "SIGALRM") and threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGALRM, ring) if alarm else None
    try:
        if alarm:
            signal.setitimer(signal.ITIMER_REAL, section.until - start + GRACE)
        function(section)
    except OutOfTime as end:
        section.status = str(end)
    except Exception as error:
        section.status = f"failed: {named(error)}"
        section.error(traceback.format_exc(limit=-4))
    finally:
        if alarm:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
    section.seconds = time.perf_counter() - start


def write(folder: Path, about: dict[str, Any], sections: dict[str, Section]) -> None:
    """Into gpu.json goes everything, into gpu.md what fits into tables."""
    kept = ("status", "seconds", "rows", "notes", "errors")
    found = {name: {key: getattr(section, key) for key in kept} for name, section in sections.items()}
    text = json.dumps({"machine": about, "sections": found}, indent=1, default=str)
    (folder / "gpu.json").write_text(text + "\n")
    lines = ["# On a GPU", "", ", ".join(f"{key} {value}" for key, value in about.items())]
    for name, section in sections.items():
        lines += ["", f"## {name}", "", f"{section.status}, {section.seconds:.0f} s"]
        columns: list[str] = []
        for row in section.rows:
            cells = {key: shown(value) for key, value in row.items() if not isinstance(value, list)}
            if list(cells) != columns:
                columns = list(cells)
                lines += ["", "| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
            lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells.values()) + " |")
        lines += ["", *(f"- {text}" for text in section.notes)] if section.notes else []
        lines += ["", *(f"- ERROR {text.splitlines()[-1]}" for text in section.errors)] if section.errors else []
    (folder / "gpu.md").write_text("\n".join(lines) + "\n")


def named(error: BaseException) -> str:
    """An error in a line."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}"


def shown(value: Any) -> str:
    """A value for the log and the tables; no more digits than mean something."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return "-" if value is None else str(value)
