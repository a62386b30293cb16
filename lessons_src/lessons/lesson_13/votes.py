"""A blind comparison of two samplers: its pairs, one person's vote, the file it is kept in, and the sum of a class.

`compare_blind` shows pairs and hides whose is whose. What a vote says rests on n chosen before, on a count that nobody
sees meanwhile, and on all votes being kept: so the file is written first, and then the count is told, once. A vote that
was broken off is over; it can not be taken up again.

Who cannot tell says so and counts for neither side: the test is of the pairs that were decided, as in a sign test. The
interval is the exact one (Clopper & Pearson 1934): it leaves out a half just when the exact binomial test shows a
preference at 5 %, which is also what `choose_n` plans with.
"""

import hashlib
import json
import os
import re
import reprlib
import secrets
import stat
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
from scipy.special import bdtrc, betaincinv

from lessons_src import data, weights
from lessons_src.checks import check_int, check_real, refuse
from lessons_src.files import write_whole
from lessons_src.metrics import Interval
from lessons_src.show.blind import Blind, Cast, Told
from lessons_src.show.panels import check_shape

ALPHA, POWER = 0.05, 0.8
FORMAT = "lessons_src blind vote 1"
CANNOT_TELL = "cannot tell"
SIZES = (10, 20, 30, 40, 60)  # of a vote, as far as there are pairs
MOST_PAIRS, LONGEST, LARGEST = 1000, 40, 100_000  # pairs of a comparison, characters of a name, bytes of a file
QUESTION = "Which side looks more like handwriting?"
PAIRS = data.ASSETS / "votes" / "pairs.npz"
GREYS = 16  # of the pictures in it


# --- How many votes


def _tails(n: int, p: float) -> np.ndarray:
    """P(X >= k) for k = 0 ... n, X binomial (n, p): float64 (n + 1,)."""
    return bdtrc(np.arange(n + 1) - 1, n, p)


def chance(hits: int, n: int) -> float:
    """How often a count as uneven as hits of n, or more, comes where nobody has a preference (two-sided sign test).

    Raises TypeError or ValueError unless 0 <= hits <= n and n >= 1.
    """
    check_int("n", n, 1)
    check_int("hits", hits, 0, n)
    return min(1.0, 2 * _tails(n, 0.5)[max(hits, n - hits)].item())


def exact_interval(hits: int, n: int, alpha: float = ALPHA) -> Interval:
    """hits / n with the shares for which neither so many hits nor so few are rarer than alpha / 2 (Clopper & Pearson).

    Raises TypeError or ValueError unless 0 <= hits <= n and n >= 1.
    """
    check_int("n", n, 1)
    check_int("hits", hits, 0, n)
    low = float(betaincinv(hits, n - hits + 1, alpha / 2)) if hits else 0.0
    high = float(betaincinv(hits + 1, n - hits, 1 - alpha / 2)) if hits < n else 1.0
    return Interval(hits / n, low, high)


def power_of(n: int, p: float, alpha: float = ALPHA) -> float:
    """How often n decided votes show a preference, with a `chance` of at most alpha, if each is for it with p.

    Raises TypeError or ValueError unless n >= 1, 0.5 <= p <= 1, 0 < alpha <= 0.5.
    """
    check_int("n", n, 1)
    check_real("p", p, 0.5, 1)
    check_real("alpha", alpha, 1e-9, 0.5)
    (enough,) = (2 * _tails(n, 0.5) <= alpha).nonzero()
    return _tails(n, p)[enough[0]].item() if len(enough) else 0.0


def choose_n(p: float, power: float = POWER, alpha: float = ALPHA) -> int:
    """The smallest number of decided votes that show a preference of p with this power, by the exact binomial.

    p: the share of votes that go to the better one, from 0.55 (which takes 786) to 1. Raises TypeError or ValueError,
    by name, for anything else.
    """
    check_real("p", p, 0.55, 1)
    check_real("power", power, 0.01, 0.999)
    return next(n for n in count(1) if power_of(n, p, alpha) >= power)


def least_preference(n: int) -> float | None:
    """The smallest preference, to a per cent, that n decided votes show four times in five; None for fewer than six."""
    return next((p / 100 for p in range(51, 101) if power_of(n, p / 100) >= POWER), None)


# --- What a count says


def verdict(names: tuple[str, str], a: int, b: int, neither: int) -> str:
    """A count in words: how many for whom, the interval, and whether that shows a preference."""
    n, some = a + b, a + b + neither
    if n == 0:
        return f"Not one of {some} pairs was decided: no difference was seen."
    hits, name = max((a, names[0]), (b, names[1]))
    asked = f"{hits} of {n}" if neither == 0 else f"{hits} of the {n} decided"
    whom = "either" if a == b else name
    told = f"{asked} for {whom}: {_span(exact_interval(hits, n))}."
    if neither:
        told += f" {neither} of {some} could not be told apart."
    seldom = chance(hits, n)
    shown = f"A preference for {name} is shown" if seldom <= ALPHA else "No preference shown at this n"
    return f"{told} {shown}: without any, {_often(seldom)}."


def _span(interval: Interval) -> str:
    """Bounds in whole per cent, with as many digits more as it takes not to read as a half."""
    low, high = (
        next((told for digits in range(6) if float(told := f"{100 * x:.{digits}f}") != 50), "50") for x in interval[1:]
    )
    return f"{low} to {high} %"


def _often(share: float) -> str:
    if share < 0.001:
        return "less than one vote in 1,000 is so uneven"
    parts = 1000 if share < 0.1 else 100
    times = round(share * parts)
    return f"{times} of {parts:,} votes {'is' if times == 1 else 'are'} so uneven"


# --- A comparison and a vote


@dataclass(frozen=True, eq=False)
class Comparison:
    """N pairs: K pictures of one sampler beside K of the other. names: theirs; a, b: uint8 (N, K, H, W), 0 black.

    Raises TypeError or ValueError, by name, for other pictures, more than 1,000 pairs, or names that are not two
    different short texts.
    """

    names: tuple[str, str]
    a: np.ndarray
    b: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", _check_names(self.names))
        for name, x in (("a", self.a), ("b", self.b)):
            if not isinstance(x, np.ndarray) or x.dtype != np.uint8:
                refuse(name, x, "uint8 of shape (N, K, H, W), 0 black to 255 white", TypeError)
            check_shape(name, x, "(N, K, H, W)")
        if self.a.shape != self.b.shape:
            refuse("b", self.b, f"the shape of a: {self.a.shape}")
        check_int("pairs", len(self.a), 1, MOST_PAIRS)

    def pictures(self) -> str:
        """A short digest: votes belong together if it is the same."""
        parts = [repr(self.a.shape).encode(), self.a.tobytes(), self.b.tobytes()]
        return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]

    def order(self, seed: int) -> list[tuple[int, bool]]:
        """All pairs as this seed mixes them, and whether b is at the left; the same in every version of Python."""
        drawn = [hashlib.sha256(f"{seed} {pair}".encode()).digest() for pair in range(len(self.a))]
        return [(pair, drawn[pair][-1] % 2 == 1) for pair in sorted(range(len(drawn)), key=drawn.__getitem__)]

    def shown(self, seed: int) -> np.ndarray:
        """The pictures in that order, left and right: uint8 (N, 2, K, H, W)."""
        sides = [(self.b[i], self.a[i]) if swapped else (self.a[i], self.b[i]) for i, swapped in self.order(seed)]
        return np.array(sides)


def shipped() -> Comparison:
    """Sixty pairs of four digits of one label by the shipped network: DDIM, 20 steps, and DDPM, 1,000 steps.

    Same start noise, w = 1. Raises ValueError naming the file if it is damaged, or drawn by other weights.
    """
    try:
        with np.load(PAIRS, allow_pickle=False) as archive:
            a, b, by = archive["a"], archive["b"], str(archive["weights"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{PAIRS} cannot be read; make it with `make pairs`: {error}") from error
    if by != drawn_by():
        raise ValueError(f"{PAIRS} was drawn by other weights; run `make pairs`")
    step = 255 // (GREYS - 1)
    return Comparison(("DDIM-20", "DDPM-1000"), a * np.uint8(step), b * np.uint8(step))


def drawn_by() -> str:
    """SHA-256 of the shipped weights of the digit network."""
    return hashlib.sha256((weights.FOLDER / "digits.safetensors").read_bytes()).hexdigest()


class Count(NamedTuple):
    """Votes for the first name, for the second, for neither."""

    a: int
    b: int
    neither: int


@dataclass(frozen=True)
class Vote:
    """What one person chose: it is all that a file holds.

    names, pictures: of the `Comparison`. seed: of its order. n: pairs, chosen before the start. choices: a name or
    "cannot tell" for each pair, fewer than n if the vote was broken off. voter: what they call themselves, may be
    empty. time: of the start, ISO 8601 with its zone. seconds: from there to the end.

    Raises TypeError or ValueError, by name, for anything else, whoever wrote the file.
    """

    names: tuple[str, str]
    pictures: str
    seed: int
    n: int
    choices: tuple[str, ...]
    voter: str
    time: str
    seconds: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", _check_names(self.names))
        if not isinstance(self.pictures, str) or not re.fullmatch(r"[0-9a-f]{16}", self.pictures):
            _refuse("pictures", self.pictures, "16 hexadecimal digits")
        check_int("seed", self.seed, 0, 2**32 - 1)
        check_int("n", self.n, 1, MOST_PAIRS)
        if not isinstance(self.choices, list | tuple) or not 1 <= len(self.choices) <= self.n:
            _refuse("choices", self.choices, f"a list of 1 to n = {self.n}")
        for choice in self.choices:
            if choice not in (*self.names, CANNOT_TELL):
                _refuse("choices", choice, f"{self.names[0]!r}, {self.names[1]!r} or {CANNOT_TELL!r}")
        object.__setattr__(self, "choices", tuple(self.choices))
        if self.voter != "":
            _check_name("voter", self.voter)
        try:
            zone = datetime.fromisoformat(self.time).utcoffset()
        except (TypeError, ValueError):
            zone = None
        if zone is None or len(self.time) > LONGEST:
            _refuse("time", self.time, "a time with its zone, such as 2026-01-31T09:30:00+00:00")
        check_real("seconds", self.seconds, 0)

    def count(self) -> Count:
        """How many for whom."""
        return Count(*(self.choices.count(name) for name in (*self.names, CANNOT_TELL)))

    def verdict(self) -> str:
        """The count in words, and whether n was kept."""
        early = f" Stopped after {len(self.choices)} of {self.n}: not the n chosen before the start."
        return verdict(self.names, *self.count()) + early * (len(self.choices) < self.n)


def _refuse(name: str, value: Any, expected: str) -> NoReturn:
    """As `refuse`, for values of any size."""
    raise ValueError(f"{name} is {reprlib.repr(value)}; expected {expected}")


def _check_name(name: str, value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"\S(.*\S)?", value) or not value.isprintable():
        _refuse(name, value, f"1 to {LONGEST} printable characters")
    if len(value) > LONGEST:
        _refuse(name, value, f"1 to {LONGEST} printable characters")
    return value


def _check_names(names: Any) -> tuple[str, str]:
    if not isinstance(names, list | tuple) or len(names) != 2:
        _refuse("names", names, "two names")
    first, second = (_check_name("names", name) for name in names)
    if first == second or CANNOT_TELL in names:
        _refuse("names", names, f"two that differ, neither of them {CANNOT_TELL!r}")
    return first, second


# --- Files


def save_vote(vote: Vote, folder: str | Path) -> Path:
    """Write the vote into a file of its own in `folder` and return its path. Raises OSError naming it."""
    text = json.dumps({"format": FORMAT, **asdict(vote)}, indent=1, ensure_ascii=False) + "\n"
    who = re.sub(r"\W+", "-", vote.voter).strip("-") or "somebody"
    path = Path(folder) / f"vote_{who}_{hashlib.sha256(text.encode()).hexdigest()[:8]}.json"
    write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))
    return path


def read_vote(path: str | Path) -> Vote:
    """The vote in a file, which anybody may have written: it is read as data of limited size, and nothing is run.

    Raises OSError or ValueError that says why it is no vote.
    """
    try:
        found = json.loads(_content(path).decode())
    except RecursionError:
        raise ValueError("not JSON of a vote: too deeply nested") from None
    except ValueError as error:
        raise ValueError(f"not JSON: {error}" if not str(error).startswith("not ") else str(error)) from None
    keys = {"format", *(field.name for field in fields(Vote))}
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ValueError(f"not a vote of this version of the course: no format {FORMAT!r}")
    if set(found) != keys:
        _refuse("keys", sorted(found), ", ".join(sorted(keys)))
    del found["format"]
    try:
        return Vote(**found)
    except TypeError as error:
        raise ValueError(str(error)) from None


def _content(path: str | Path) -> bytes:
    """At most `LARGEST` bytes of a plain file. Raises OSError or ValueError; a pipe or device is not waited for."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with open(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ValueError("not a plain file")
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise ValueError(f"not a vote: more than {LARGEST:,} bytes")
    return content


# --- The sum


@dataclass(frozen=True)
class Sum:
    """Votes in one comparison, by the files they are in, each person's once; and files left out, with the reason."""

    votes: dict[str, Vote]
    left_out: dict[str, str]

    def count(self) -> Count:
        """All of them together."""
        return Count(*map(sum, zip(*(vote.count() for vote in self.votes.values()), strict=True)))

    def verdict(self) -> str:
        """The sum in words, and the voters', each counted once."""
        names = next(iter(self.votes.values())).names
        told, counts = verdict(names, *self.count()), [vote.count() for vote in self.votes.values()]
        if len(counts) == 1:
            return told
        more, less = (sum(x > y for x, y in ends) for ends in ([c[:2] for c in counts], [c[1::-1] for c in counts]))
        even = f", {len(counts) - more - less} neither" if more + less < len(counts) else ""
        return (
            f"{told} By voters: {more} chose {names[0]} more often, {less} {names[1]}{even}. The interval takes all "
            "choices for independent; those of one person, and of one pair, are less so, and the truth is wider."
        )

    def __str__(self) -> str:
        """A table with a line a voter, the sum and its verdict, then what was left out."""
        first = next(iter(self.votes.values()))
        rows = [("voter", *first.names, CANNOT_TELL, "of", f"for {first.names[1]}", "")]
        for vote in self.votes.values():
            early = "stopped early" if len(vote.choices) < vote.n else ""
            rows.append((vote.voter or "(no name)", *_cells(vote.count(), vote.n), early))
        rows.append(("all", *_cells(self.count(), sum(vote.n for vote in self.votes.values())), ""))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:-1], widths[1:-1]), row[-1]]).rstrip()
            for row in rows
        ]
        return "\n".join([*lines, "", self.verdict(), *left_out_lines(self.left_out)])


def _cells(counted: Count, n: int) -> tuple[str, ...]:
    decided = counted.a + counted.b
    share = f"{100 * counted.b / decided:.0f} % ({_span(exact_interval(counted.b, decided))})" if decided else "-"
    return (*map(str, counted), str(n), share)


def left_out_lines(left_out: dict[str, str]) -> list[str]:
    """A line for each file that was left out; names of files are shown so that they can do nothing to a terminal."""
    return [f"left out: {name if name.isprintable() else ascii(name)}: {why}" for name, why in left_out.items()]


def merge_votes(paths: Iterable[str | Path]) -> Sum:
    """The sum of the votes in these files, the earliest first; a vote, and a voter's name, counts once.

    Raises ValueError naming the files that are no votes, or that belong to different comparisons, or if there is none.
    """
    votes = {}
    for path in map(str, paths):
        try:
            votes[path] = read_vote(path)
        except (OSError, ValueError) as error:
            raise ValueError(f"{path} is no vote that can be counted: {error}") from error
    if not votes:
        refuse("paths", [], "at least one file")
    groups = _by_comparison(votes)
    if len(groups) > 1:
        told = "; ".join(f"{', '.join(group)}: {_about(next(iter(group.values())))}" for group in groups)
        raise ValueError(f"paths are of {len(groups)} different comparisons, merge each by itself: {told}")
    return _sum(votes)


def votes_in(folder: str | Path) -> tuple[list[Sum], dict[str, str]]:
    """A sum for each comparison that files in a folder and in those below belong to; and the files that are no votes.

    Nothing that lies there stops it or is run. Raises ValueError unless it is a folder.
    """
    if not Path(folder).is_dir():
        refuse("folder", str(folder), "a folder with files of votes")
    votes, left_out = {}, {}
    for where, inside, names in os.walk(folder):
        inside.sort()
        for name in sorted(names):
            path = Path(where) / name
            try:
                votes[str(path.relative_to(folder))] = read_vote(path)
            except (OSError, ValueError) as error:
                why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
                left_out[str(path.relative_to(folder))] = why
    return [_sum(group) for group in _by_comparison(votes)], left_out


def _by_comparison(votes: dict[str, Vote]) -> list[dict[str, Vote]]:
    groups: dict[tuple[tuple[str, str], str], dict[str, Vote]] = {}
    for file, vote in votes.items():
        groups.setdefault((vote.names, vote.pictures), {})[file] = vote
    return list(groups.values())


def _about(vote: Vote) -> str:
    return f"{vote.names[0]} and {vote.names[1]}, pictures {vote.pictures}"


def _sum(votes: dict[str, Vote]) -> Sum:
    """Each person's vote once: who votes again, until it pleases, is not counted again."""
    kept: dict[str, Vote] = {}
    left_out: dict[str, str] = {}
    people: dict[str, str] = {}
    for file, vote in sorted(votes.items(), key=lambda item: (datetime.fromisoformat(item[1].time), item[0])):
        same = next((other for other, known in kept.items() if known == vote), None)
        who = " ".join(vote.voter.casefold().split())
        if same is not None:
            left_out[file] = f"the same vote as {same}, counted once"
        elif who and who in people:
            left_out[file] = f"another vote by {vote.voter}: the first, {people[who]}, counts"
        else:
            kept[file] = vote
            people[who] = file
    return Sum(kept, left_out)


# --- In a notebook


def compare_blind(comparison: Comparison | None = None, folder: str | Path = "votes", seed: int | None = None) -> Blind:
    """Vote blind, by mouse or keyboard: DDIM-20 or DDPM-1000 by the shipped network, or a comparison of your own.

    The vote is written into `folder` when it ends. seed: of the order of pairs and sides, drawn anew unless given.
    """
    chosen = shipped() if comparison is None else comparison
    number = secrets.randbits(32) if seed is None else check_int("seed", seed, 0, 2**32 - 1)
    sides = [chosen.names[::-1] if swapped else chosen.names for _, swapped in chosen.order(number)]

    def finish(cast: Cast) -> Told:
        meant = [
            {"left": left, "right": right, "neither": CANNOT_TELL}[choice]
            for choice, (left, right) in zip(cast.choices, sides, strict=False)  # there may be more pairs than choices
        ]
        vote = Vote(
            *(chosen.names, chosen.pictures(), number, cast.n, tuple(meant)),
            *(cast.voter, cast.time.isoformat(timespec="seconds"), round(cast.seconds, 1)),
        )
        try:
            kept = f"Your vote is in {save_vote(vote, folder)}."
        except OSError as error:
            kept = f"Your vote is counted here but not saved: {error}"
        a, b, _ = vote.count()
        share = exact_interval(b, a + b) if a + b else None
        return Told(vote.verdict(), share, kept, sides[: len(meant)])

    most = len(chosen.a)
    sizes = [n for n in SIZES if n <= most] or [most]
    return Blind(chosen.names, QUESTION, chosen.shown(number), {n: _hint(n) for n in sizes}, finish)


def _hint(n: int) -> str:
    least = least_preference(n)
    if least is None:
        return f"{n} pairs are too few to show any preference."
    return (
        f"{n} decided pairs show a preference of {100 * least:.0f} % four times in five, and smaller ones more seldom."
    )
