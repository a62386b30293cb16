"""Which generator, if any: five answers, weighed against what the course has measured.

Diffusion's plans are solvers of the digit network (lesson 09) and students (lesson 11), with their distance from real
digits and their recall. GAN, VAE and autoregressive model are the four paradigms' on the ring. Seconds are calls times
the measured time of one call of the digit network: as if every network were as large.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

from lessons_src import measurements
from lessons_src.checks import refuse
from lessons_src.lessons.lesson_09.front import LIT, MARGIN, REFERENCE, as_good, find
from lessons_src.lessons.lesson_14.paradigms import PARADIGMS, RING
from lessons_src.measurements import Row
from lessons_src.solvers import SOLVERS

PIXELS = 28 * 28  # an autoregressive model makes one after the other
RECALL_MARGIN = 0.05  # how much less recall than DDPM in a thousand calls still counts as all the variety
BUDGETS = (1, 2, 5, 10, 20, 50, 200, 2000)
ONE, SOME, ALL = "none: one right answer", "some", "all of the data's"
NO, YES = "no", "yes"
QUESTIONS: dict[str, tuple[str, tuple[int | str, ...]]] = {  # argument: the question, its answers
    "budget": ("Milliseconds a digit", BUDGETS),
    "variety": ("Variety", (ONE, SOME, ALL)),
    "same": ("Same noise, same digit", (NO, YES)),
    "likelihood": ("Likelihood", (NO, YES)),
    "steered": ("Guidance chosen at use", (NO, YES)),
}


@dataclass(frozen=True)
class Answers:
    """What somebody needs; the fields are QUESTIONS."""

    budget: int = 20
    variety: str = SOME
    same: str = NO
    likelihood: str = NO
    steered: str = NO

    def __post_init__(self) -> None:
        for name, (_, options) in QUESTIONS.items():
            answer = getattr(self, name)
            if answer not in options or isinstance(answer, bool):
                refuse(name, answer, f"one of {list(options)}")

    def others(self) -> Iterator[tuple[str, "Answers"]]:
        """Every answer that differs in one question, the nearest first; with what it says."""
        for name, (question, options) in QUESTIONS.items():
            now = options.index(getattr(self, name))
            for option in sorted(options, key=lambda option: abs(options.index(option) - now)):
                if option != options[now]:
                    yield f"{question}: {option}", replace(self, **{name: option})


@dataclass(frozen=True)
class Maker:
    """A way to make digits: calls one after the other, and what it can do.

    row has the measured digits, None for what was measured on the ring alone; all_modes says whether every seed there
    covered the ring.
    """

    name: str
    calls: int
    keeps: bool
    likelihood: str | None
    steered: bool
    row: Row | None = None
    all_modes: bool = True

    def ms(self, answers: Answers) -> float:
        """Milliseconds of a digit: guidance that is chosen at use makes every call two."""
        return self.calls * (2 if answers.steered == YES else 1) * milliseconds_of_a_call()


class Advice(NamedTuple):
    """What to take (None: nothing), in a few words and with reasons; and which makers would do."""

    title: str
    reasons: str
    taken: Maker | None
    fit: tuple[Maker, ...]


def milliseconds_of_a_call() -> float:
    """Of the digit network, one digit, one thread, where the measurement was made."""
    return rows("call")[0]["ms"]


@cache
def rows(name: str) -> list[Row]:
    """The rows of a measurement, read once: an answer asks for them hundreds of times."""
    return measurements.load(name)


@cache
def makers() -> tuple[Maker, ...]:
    """All that are weighed: the solvers that lesson 09 draws in colour, students, and what is no diffusion."""
    found = []
    for row in (row for row in rows("pareto") if row["solver"] in LIT):
        solver = SOLVERS[row["solver"]]
        found.append(Maker(row["solver"], row["nfe"], not solver.random, None if solver.random else "ODE", True, row))
    for row in rows("students"):
        if row["solver"] == "student":
            found.append(Maker("student", row["nfe"], True, None, False, row))
    for name in PARADIGMS:
        own = [row for row in rows("paradigms") if row["paradigm"] == name]
        if name != "diffusion":
            serial = name == "autoregressive"
            covers = min(row["modes"] for row in own) == len(RING.means)
            exact = "exact" if serial else None
            found.append(Maker(name, PIXELS if serial else 1, not serial, exact, False, None, covers))
    return tuple(found)


def advise(answers: Answers) -> Advice:
    """The cheapest maker whose digits are as good as the best of those that do what is asked."""
    if answers.variety == ONE:
        reasons = "Where there is one right answer, nothing has to be made: classify, look it up, or compute it."
        return Advice("No generator", reasons, None, ())
    left, told = list(makers()), []
    enough = find(rows("pareto"), *REFERENCE)["recall"] - RECALL_MARGIN
    tests = {
        f"take at most {answers.budget:,} ms": lambda maker: maker.ms(answers) <= answers.budget,
        "keep the variety": lambda m: answers.variety != ALL or (m.row["recall"] >= enough if m.row else m.all_modes),
        "turn the same noise into the same digit": lambda maker: answers.same == NO or maker.keeps,
        "tell a likelihood": lambda maker: answers.likelihood == NO or maker.likelihood is not None,
        "let you choose the guidance": lambda maker: answers.steered == NO or maker.steered,
    }
    for what, passes in tests.items():
        before, left = len(left), [maker for maker in left if passes(maker)]
        told += [f"{len(left)} {what}"] if len(left) < before else []
    reasons = f"Of {len(makers())} measured, {', of these '.join(told)}." if told else "All would do."
    if not left:
        one = f"One call takes {_round(milliseconds_of_a_call())} ms."
        return Advice("None of these", f"{reasons} {one} Drop a demand, or take a faster machine.", None, ())
    measured = [maker for maker in left if maker.row]
    if answers.likelihood == YES and any(maker.likelihood == "exact" for maker in left):
        taken = next(maker for maker in left if maker.likelihood == "exact")
        reasons += (
            " It tells the likelihood exactly, in one pass; the others must solve an ODE."
            " Its digits were not measured: it learned the ring only, and its time is 784 times one call."
        )
    else:
        best = min(measured, key=lambda maker: maker.row["frechet"])
        good = [m for m in measured if m is best or _as_good(m.name, m.calls, best.name, best.calls)]
        taken = min(good, key=lambda maker: (maker.calls, maker.row["frechet"]))
        far = f"{taken.row['frechet']:.3g} from real digits"
        if taken is best:
            reasons += f" Nothing left lies nearer: {far}."
        else:
            reasons += f" The nearest is {best.row['frechet']:.3g} from real digits. The cheapest that is as good is "
            reasons += f"{far}. (As good, in lesson 09: surely less than {MARGIN:g} worse.)"
        if answers.likelihood == YES:
            reasons += " Its likelihood costs an ODE solved upwards, with gradients."
    calls = taken.calls * (2 if answers.steered == YES else 1)
    title = f"{taken.name}, {calls:,} call{'s' * (calls > 1)}, {_round(taken.ms(answers))} ms"
    title += "" if taken.row else " (estimated: not measured on digits)"
    return Advice(title, reasons, taken, tuple(left))


def _round(ms: float) -> str:
    """To two digits, or whole."""
    return f"{ms:,.0f}" if ms >= 10 else f"{ms:.2g}"


@cache
def _as_good(name: str, calls: int, best: str, calls_of_best: int) -> bool:
    """Whether a maker's digits are as good as the best's, by lesson 09's margin; remembered, as it draws resamples."""
    found = [*rows("pareto"), *rows("students")]
    return as_good(find(found, name, calls), find(found, best, calls_of_best))


@cache
def advised(answers: Answers) -> Advice:
    """`advise`, remembered."""
    return advise(answers)


def changes(answers: Answers) -> list[str]:
    """Which other answer to a question would lead elsewhere: the nearest of each question, and where.

    That nothing need be made is left for the reader to find.
    """
    found, seen = [], set()
    title = advised(answers).title.partition(",")[0]
    for said, other in answers.others():
        question, there = said.partition(":")[0], advised(other).title
        if question not in seen and other.variety != ONE and there.partition(",")[0] != title:
            seen.add(question)
            found.append(f"{said} → {there}")
    return found
