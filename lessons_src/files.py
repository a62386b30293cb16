"""Files that are written whole or not at all."""

import os
from collections.abc import Callable
from pathlib import Path


def check_writable(path: str | Path) -> None:
    """Raise OSError naming `path` if no file can be written there, before hours are spent on what it is for."""
    path = Path(path)
    if path.is_dir():
        raise OSError(f"{path} is a folder; expected the name of a file")
    existed = path.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab"):
            pass
        if not existed:
            path.unlink()
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error}") from error


def write_whole(path: str | Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it: readers see the old file or the new, never half.

    Raises OSError naming `path` if it cannot be written, a full disk included; the old file then stays.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(part)
        os.replace(part, path)
    except (OSError, RuntimeError) as error:  # torch.save reports a full disk as RuntimeError
        raise OSError(f"{path} could not be written, the file there before is untouched: {error}") from error
    finally:
        part.unlink(missing_ok=True)
