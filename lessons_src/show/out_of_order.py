"""An IPython extension: a name that no cell has defined yet ends with what to do about it.

`make lab` has every kernel of the course load it, so that it also helps where not even the set-up cell has run.
"""

from types import TracebackType

from IPython.core.interactiveshell import InteractiveShell

WHAT_TO_DO = (
    "Is the name spelled right? Then a cell above has not run yet: choose Run, then Run All Above Selected Cell, "
    "and run this cell again."
)


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Adds the sentence to every NameError that reaches a cell; IPython calls this."""
    shell.set_custom_exc((NameError,), _show)


def _show(
    shell: InteractiveShell,
    kind: type[NameError],
    error: NameError,
    traceback: TracebackType,
    tb_offset: int | None = None,
) -> None:
    if error.name not in shell.user_ns and not isinstance(error, UnboundLocalError):
        error.add_note(WHAT_TO_DO)
    shell.showtraceback((kind, error, traceback), tb_offset=tb_offset)
