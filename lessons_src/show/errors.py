"""An IPython extension: errors that a learner meets end with what to do.

`make lab` has every kernel of the course load it, so that it helps where not even the set-up cell has run.
"""

from types import TracebackType

from IPython.core.interactiveshell import InteractiveShell

TOO_EARLY = (
    "Is the name spelled right? Then a cell above has not run yet: choose Run, then Run All Above Selected Cell, "
    "and run this cell again."
)
STOPPED = "You have stopped this cell. Nothing is broken: run it again when you like."


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Adds a sentence to every NameError and every interrupt that reaches a cell; IPython calls this."""
    shell.set_custom_exc((NameError, KeyboardInterrupt), _show)


def _show(
    shell: InteractiveShell,
    kind: type[BaseException],
    error: BaseException,
    traceback: TracebackType,
    tb_offset: int | None = None,
) -> None:
    if isinstance(error, KeyboardInterrupt):  # where it was stopped interests nobody
        shell.showtraceback((kind, KeyboardInterrupt(STOPPED), traceback), exception_only=True)
        return
    if error.name not in shell.user_ns and not isinstance(error, UnboundLocalError):
        error.add_note(TOO_EARLY)
    shell.showtraceback((kind, error, traceback), tb_offset=tb_offset)
