"""An IPython extension: errors that a learner meets end with what to do.

`make lab` has every kernel of the course load it, so that it helps where not even the set-up cell has run.
"""

from pathlib import Path
from types import TracebackType

from IPython.core.interactiveshell import InteractiveShell

TOO_EARLY = (
    "Is the name spelled right? Then a cell above has not run yet: choose Run, then Run All Above Selected Cell, "
    "and run this cell again."
)
STOPPED = "You have stopped this cell. Nothing is broken: run it again when you like."


PACKAGE = Path(__file__).parents[1]


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Adds a sentence to a NameError and an interrupt, and shortens what the package refuses; IPython calls this."""
    shell.set_custom_exc((Exception, KeyboardInterrupt), _show)


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
    if isinstance(error, NameError) and error.name not in shell.user_ns and not isinstance(error, UnboundLocalError):
        error.add_note(TOO_EARLY)
    if _refused(error, traceback):
        error.__cause__, error.__suppress_context__ = None, True  # the sentence says it
        traceback = _without_libraries(traceback)
    shell.showtraceback((kind, error, traceback), tb_offset=tb_offset)


def _steps(traceback: TracebackType) -> list[TracebackType]:
    """The steps of a traceback, the outermost first."""
    steps = [traceback]
    while steps[-1].tb_next:
        steps.append(steps[-1].tb_next)
    return steps


def _refused(error: BaseException, traceback: TracebackType) -> bool:
    """Whether the package raised this on purpose: then its sentence says all."""
    code = _steps(traceback)[-1].tb_frame.f_code
    meant = code.co_name == "refuse" or isinstance(error, ValueError | OSError | FloatingPointError)
    return meant and PACKAGE in Path(code.co_filename).parents


def _without_libraries(traceback: TracebackType) -> TracebackType:
    """The first step, which is IPython's, and then those of the user's own code."""
    first, *others = _steps(traceback)
    kept = None
    for step in reversed(others):
        file = Path(step.tb_frame.f_code.co_filename)
        if PACKAGE not in file.parents and "site-packages" not in file.parts:
            kept = TracebackType(kept, step.tb_frame, step.tb_lasti, step.tb_lineno)
    return TracebackType(kept, first.tb_frame, first.tb_lasti, first.tb_lineno)
