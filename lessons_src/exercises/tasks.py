"""What an exercise is, and the one place where an answer is judged: in a notebook and by the grader alike.

A `Task` is a function to write. Its `Case`s draw fresh random arguments; the answer is compared with a reference; a
wrong answer is compared with the known `Mistake`s, so that the learner is told what went wrong and not only that::

    def forward_step(x, alpha, noise):
        return alpha.sqrt() * x + (1 - alpha).sqrt() * noise

    Task(
        forward_step,
        cases=[Case("a batch of points", lambda g: (torch.randn(5, 2, generator=g), torch.tensor(0.9), ...))],
        mistakes=[Mistake("(1 - alpha).sqrt()", "(1 - alpha)", "The noise lacks its root.")],  # or `edits`, a text
        hints=("where to look", "what to write down", "nearly the line itself"),
        minutes=5,
        difficulty=1,
    )

Reference, cases and mistakes are the author's; they never enter a learner's process when a grader judges.
"""

import ast
import inspect
import textwrap
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape
from typing import Any

import torch
from torch import Tensor

from lessons_src.checks import check_int, check_real, refuse
from lessons_src.exercises import wire


@dataclass(frozen=True)
class Case:
    """One kind of input, drawn anew at every check.

    arguments(generator) returns the tuple of arguments, from what `wire` carries; all its randomness comes from the
    generator, so that the same seed draws the same arguments. An answer is right where it is within
    tolerance * (1 + |reference|). Passing the case earns `points`. The label says what is special about the input, as
    in "one t for each sample"; the learner reads it.
    """

    label: str
    arguments: Callable[[torch.Generator], tuple]
    points: float = 1
    tolerance: float = 1e-4

    def __post_init__(self) -> None:
        check_real("points", self.points, 0.0)
        check_real("tolerance", self.tolerance, 0.0, 1.0)


@dataclass(frozen=True)
class Mistake:
    """An edit of the reference's own source that makes it wrong, and the sentence for whoever wrote it so.

    `right`, found exactly once in the source without its docstring, becomes `wrong`. The sentence follows a case's
    label and a colon: "This is sqrt(1 - alpha_bar) where sqrt(alpha_bar) belongs." At least one case must tell the
    mistake from the reference. It may also raise: who raises the same is told the sentence.
    """

    right: str
    wrong: str
    says: str

    def answer(self, reference: Callable[..., Any]) -> Callable[..., Any]:
        """The reference with the mistake in it. Raises ValueError unless `right` is found once."""
        source = _without_docstring(reference)
        if source.count(self.right) != 1:
            refuse("right", self.right, f"text that occurs once, not {source.count(self.right)} times, in:\n{source}")
        scope = dict(reference.__globals__)
        exec(source.replace(self.right, self.wrong), scope)
        return scope[reference.__name__]


def edits(text: str) -> tuple[Mistake, ...]:
    """Mistakes as authors write them: a line "right → wrong", and below it, four spaces in or more, the sentence.

    Raises ValueError for a line that belongs to no mistake, or a mistake without a sentence.
    """
    lines = textwrap.dedent(text).strip("\n").rstrip().splitlines()
    found: list[tuple[str, str, list[str]]] = []
    for line in lines:
        if line.startswith("    ") and found:
            found[-1][2].append(line.strip())
        elif line.count(" →") == 1:
            right, _, wrong = line.partition(" →")
            found.append((right, wrong.removeprefix(" "), []))
        else:
            refuse("edits", line, 'a line "right → wrong", or a sentence four spaces in')
    for right, wrong, says in found:
        if not says:
            refuse("edits", f"{right} → {wrong}", "a sentence below it")
    return tuple(Mistake(right, wrong, " ".join(says)) for right, wrong, says in found)


@dataclass(frozen=True)
class WrongWay:
    """A `Mistake` that no edit of the reference expresses: a function called like the reference."""

    function: Callable[..., Any]
    says: str

    def answer(self, reference: Callable[..., Any]) -> Callable[..., Any]:
        """The function, whatever the reference is."""
        return self.function


def _without_docstring(function: Callable[..., Any]) -> str:
    source = textwrap.dedent(inspect.getsource(function))
    (definition,) = ast.parse(source).body
    if ast.get_docstring(definition) is None:
        return source
    lines = source.splitlines(keepends=True)
    return "".join(lines[: definition.body[0].lineno - 1] + lines[definition.body[0].end_lineno :])


@dataclass(frozen=True)
class Task:
    """A function to write. Its name is the reference's, and so are its signature and docstring.

    hints are three, each saying more than the one before. difficulty is 1 to 3. Raises ValueError for anything else.
    """

    reference: Callable[..., Any]
    cases: tuple[Case, ...]
    mistakes: tuple[Mistake | WrongWay, ...]
    hints: tuple[str, str, str]
    minutes: int
    difficulty: int

    def __post_init__(self) -> None:
        for name in ("cases", "mistakes", "hints"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        check_int("minutes", self.minutes, 1)
        check_int("difficulty", self.difficulty, 1, 3)
        if len(self.hints) != 3 or not self.cases or not self.name.isidentifier():
            refuse("task", self.name, "a named reference, a case or more, and three hints")

    @property
    def name(self) -> str:
        """Name of the function that the learner writes, and of the cell in which it is graded."""
        return self.reference.__name__

    @cached_property
    def wrong_answers(self) -> tuple[tuple[Callable[..., Any], str], ...]:
        """The function of every mistake, and its sentence."""
        return tuple((mistake.answer(self.reference), mistake.says) for mistake in self.mistakes)


class NoAnswer(Exception):
    """There is nothing to compare; the message is the sentence that the learner reads."""


@dataclass(frozen=True)
class Result:
    """What one case came to. `says` is empty for a right answer."""

    label: str
    points: float
    says: str = ""

    @property
    def earned(self) -> float:
        """The case's points, or 0."""
        return 0 if self.says else self.points


@dataclass(frozen=True, repr=False)
class Verdict:
    """What an answer to a task earned, case by case. It prints as text and shows as HTML."""

    task: str
    results: tuple[Result, ...]

    @property
    def earned(self) -> float:
        """Points earned."""
        return sum(result.earned for result in self.results)

    @property
    def possible(self) -> float:
        """Points to earn."""
        return sum(result.points for result in self.results)

    @property
    def is_right(self) -> bool:
        """Whether every case was answered rightly."""
        return not any(result.says for result in self.results)

    def given(self, again: "Verdict", names: Iterable[str]) -> "Verdict":
        """This verdict, where it has to be mended by `again`: the same cases, with right helpers of these names."""
        instead = f"with a right {' and '.join(names)} in place of yours"
        results = []
        for own, other in zip(self.results, again.results, strict=True):
            if own.says and not other.says:
                own = replace(other, label=f"{other.label}, {instead}")
            elif own.says != other.says:
                own = replace(own, says=f"{instead[0].upper()}{instead[1:]}: {other.says}")
            results.append(own)
        return Verdict(self.task, tuple(results))

    def __repr__(self) -> str:
        lines = [f"{self.task}: {self.earned:g} of {self.possible:g} points"]
        for result, says in self._said_once():
            mark = "✗" if result.says else "✓"
            lines.append(f"  {mark} {result.earned:g}/{result.points:g}  {result.label}{says and f': {says}'}")
        return "\n".join(lines)

    def _said_once(self) -> Iterator[tuple[Result, str]]:
        said = set()
        for result in self.results:
            yield result, "The same." if result.says in said else result.says
            said |= {result.says} - {""}

    def _repr_html_(self) -> str:
        """The same as a list; a mark and a word carry the verdict, and colours are the theme's own."""
        rows = "".join(
            f"<li>{'✗ not yet' if result.says else '✓ right'} ({result.earned:g}/{result.points:g}) · "
            f"{escape(result.label)}{says and f'<br><strong>{escape(says)}</strong>'}</li>"
            for result, says in self._said_once()
        )
        head = f"<strong><code>{escape(self.task)}</code>: {self.earned:g} of {self.possible:g} points</strong>"
        return f'<div role="status">{head}<ul style="list-style: none; padding-left: 1em">{rows}</ul></div>'


def judge(
    task: Task, call: Callable[[tuple], Any], generator: torch.Generator, cases: Iterable[Case] | None = None
) -> Verdict:
    """Put every case (the task's own by default) to an answer and return what it earned, with reasons.

    call(arguments) returns the answer's value, or raises `NoAnswer` where there is none. Arguments are drawn from
    seeds that the generator gives, separately for the answer, the reference and every mistake. A mistake that explains
    every wrong case goes before those that explain some of them; otherwise the first goes that explains the case.
    """
    put = task.cases if cases is None else cases
    answers = [_put(task, case, call, generator) for case in put]
    known = iter(_known(task, [answer for answer in answers if answer.says]))
    results = []
    for answer in answers:
        says = answer.says and (next(known) or _unchanged(task, answer) or _drawn(call, answer))
        results.append(Result(answer.case.label, answer.case.points, says))
    return Verdict(task.name, tuple(results))


def helpers(task: Task, tasks: Mapping[str, Task]) -> list[str]:
    """The names of those of `tasks` that a task's reference calls, or that these call, innermost first."""
    found: list[str] = []
    if inspect.isfunction(task.reference):
        for name in task.reference.__code__.co_names:
            if name in tasks and name != task.name and tasks[name].reference is task.reference.__globals__.get(name):
                found += [*helpers(tasks[name], tasks), name]
    return list(dict.fromkeys(found))


def ask(function: Any, arguments: tuple) -> Any:
    """Call a learner's function and return its value as it would arrive over the wire.

    Raises NoAnswer if it raises, changes an argument in place or leaves a gradient on it, or returns what the wire
    does not carry.
    """
    before = [wire.encode(argument) for argument in arguments]
    try:
        value = function(*arguments)
    except (Exception, SystemExit) as error:
        is_stub = isinstance(error, NotImplementedError) and not error.args  # torch raises it with a word
        raise NoAnswer("Not written yet." if is_stub else _stopped(error) + _line(function, error)) from None
    for position, (argument, earlier) in enumerate(zip(arguments, before, strict=True), 1):
        if wire.encode(argument) != earlier:
            raise NoAnswer(f"It changed its argument number {position} in place: work on a new tensor.")
        if isinstance(argument, Tensor) and argument.grad is not None:
            raise NoAnswer(f"It left a gradient on its argument number {position}: work on a copy, x.clone().")
    if value is None:
        raise NoAnswer("It returned None: is a return missing?")
    try:
        return wire.decode(wire.encode(value), plain=True)
    except (TypeError, ValueError) as error:
        raise NoAnswer(f"It returned {one_line(error)}") from None


def difference(got: Any, want: Any, tolerance: float) -> str:
    """Say in a sentence how `got` departs from `want`; empty if it does not.

    Shape and dtype count; a list passes for a tuple, and a number for a tensor of shape () and the other way round.
    """
    if isinstance(want, list | tuple):
        if not isinstance(got, list | tuple) or len(got) != len(want):
            return f"It returned {_describe(got)}; expected {_describe(want)}"
        sentences = (difference(g, w, tolerance) for g, w in zip(got, want, strict=True))
        return next((f"Entry {i}: {sentence}" for i, sentence in enumerate(sentences) if sentence), "")
    if not isinstance(got, Tensor) and isinstance(want, Tensor) and want.ndim == 0 and _is_number(got):
        got = torch.tensor(got, dtype=want.dtype) if want.is_floating_point() else torch.tensor(got)
    if isinstance(got, Tensor) and got.ndim == 0 and not isinstance(want, Tensor):
        got = got.item()
    if isinstance(want, Tensor) != isinstance(got, Tensor) or _is_number(want) != _is_number(got):
        return f"It returned {_describe(got)}; expected {_describe(want)}"
    if isinstance(want, Tensor):
        if got.shape != want.shape:
            return f"Its shape is {tuple(got.shape)}; expected {tuple(want.shape)}"
        if got.dtype != want.dtype:
            return f"Its dtype is {got.dtype}; expected {want.dtype}"
        return _differing_values(got, want, tolerance)
    if _is_number(want):
        return _differing_values(torch.tensor(float(got)).double(), torch.tensor(float(want)).double(), tolerance)
    return (
        "" if got == want and type(got) is type(want) else f"It returned {_describe(got)}; expected {_describe(want)}"
    )


@dataclass(frozen=True)
class _Answer:
    """What was answered to a case; `says` is empty if that is right."""

    case: Case
    draw: Callable[[], tuple]
    got: Any
    says: str

    def is_of(self, wrong: Callable[..., Any]) -> bool:
        """Whether a mistake's function comes to the same."""
        try:
            return not difference(self.got, wrong(*self.draw()), self.case.tolerance)
        except Exception as error:
            return self.says.startswith(_stopped(error))


def _known(task: Task, answers: list[_Answer]) -> list[str]:
    """For each wrong answer the sentence of the mistake that it is of; empty if it is of none."""
    first = [next((says for wrong, says in task.wrong_answers if answer.is_of(wrong)), "") for answer in answers]
    if "" in first or len(set(first)) < 2:
        return first
    # Two mistakes often agree on one case, as with w = 0 or alpha_bar = 1. The whole tells them apart.
    of_all = (says for wrong, says in task.wrong_answers if all(answer.is_of(wrong) for answer in answers))
    one = next(of_all, "")
    return [one or says for says in first]


def _put(task: Task, case: Case, call: Callable[[tuple], Any], generator: torch.Generator) -> _Answer:
    seed = int(torch.randint(1 << 62, (), generator=generator))

    def draw() -> tuple:
        return case.arguments(torch.Generator().manual_seed(seed))

    try:
        got = call(draw())
    except NoAnswer as reason:
        return _Answer(case, draw, None, str(reason))
    return _Answer(case, draw, got, difference(got, task.reference(*draw()), case.tolerance))


def _drawn(call: Callable[[tuple], Any], answer: _Answer) -> str:
    """The sentence for a wrong answer, and what may be amiss with the random numbers of one that was to draw some."""
    if answer.got is None or not any(isinstance(argument, torch.Generator) for argument in answer.draw()):
        return answer.says
    with suppress(NoAnswer):
        if wire.encode(call(answer.draw())) != wire.encode(answer.got):
            return "The same seed gave other values in a second call: draw all random numbers from the generator given."
    return f"{answer.says}. If only the draws differ: their number, order, shape and dtype must be as the text says."


def _unchanged(task: Task, answer: _Answer) -> str:
    """A sentence for an answer that is one of the arguments."""
    for name, argument in zip(inspect.signature(task.reference).parameters, answer.draw(), strict=True):
        if isinstance(argument, Tensor) and isinstance(answer.got, Tensor) and torch.equal(argument, answer.got):
            return f"This is {name}, just as it was given."
    return ""


def _differing_values(got: Tensor, want: Tensor, tolerance: float) -> str:
    if not want.is_floating_point():
        wrong = got != want
        error = wrong.double()
    else:
        got, want = got.double(), want.double()
        broken = ~got.isfinite() & want.isfinite()
        if broken.any():
            return f"{int(broken.sum())} of {got.numel()} values are NaN or infinite"
        wrong = ~torch.isclose(got, want, rtol=tolerance, atol=tolerance, equal_nan=True)
        error = torch.where(wrong, (got - want).abs().nan_to_num(float("inf")), 0)
    if not wrong.any():
        return ""
    if got.ndim == 0:
        return "It is {}; expected {}".format(*_apart(got, want))
    index = tuple(int(i) for i in torch.unravel_index(error.argmax(), error.shape))
    return (
        f"{int(wrong.sum())} of {got.numel()} values are off, the most at {list(index)}: "
        "{} where {} belongs".format(*_apart(got[index], want[index]))
    )


def _apart(got: Tensor, want: Tensor) -> tuple[str, str]:
    """Two numbers with as many digits as it takes to tell them apart, four at least."""
    pairs = ((f"{got.item():.{digits}g}", f"{want.item():.{digits}g}") for digits in range(4, 18))
    return next((pair for pair in pairs if pair[0] != pair[1]), (str(got.item()), str(want.item())))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _describe(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, list | tuple):
        return f"{len(value)} values in a {type(value).__name__}"
    return "a number" if _is_number(value) else one_line(repr(value))


def _stopped(error: BaseException) -> str:
    return f"It stopped with {one_line(type(error).__name__, 50)}: {one_line(error)}"


def _line(function: Any, error: BaseException) -> str:
    """Where in the learner's own code it stopped."""
    code = getattr(function, "__code__", None)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if code and f.filename == code.co_filename]
    return f" (line {frames[-1].lineno} of its cell: {one_line(frames[-1].line)})" if frames else ""


def one_line(text: Any, length: int = 200) -> str:
    """What a learner's process says, as one short line: control characters could forge others, or hide this one."""
    try:
        text = " ".join(str(text)[: 10 * length].split())
    except Exception:  # an exception of the learner's own that cannot even be printed
        text = "(no message)"
    text = "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
    return text if len(text) <= length else text[: length - 1] + "…"
