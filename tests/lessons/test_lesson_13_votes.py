"""A blind vote counts what was chosen, at the end, once; its file is data; a sum has each person in it once."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
import torch
from scipy.stats import binom, binomtest

from lessons_src import data, measurements, weights
from lessons_src.lessons.lesson_13 import __main__ as command
from lessons_src.lessons.lesson_13 import votes
from lessons_src.lessons.lesson_13.votes import CANNOT_TELL, Comparison, Count, Vote, merge_votes, verdict
from lessons_src.make import pairs as make

NAMES = ("DDIM-20", "DDPM-1000")


# --- How many votes


@pytest.mark.parametrize("n", [1, 5, 10, 30, 59, 300])
def test_chance_and_power_are_those_of_scipy(n):
    for hits in {0, n // 3, n // 2, n - n // 3, n}:
        assert votes.chance(hits, n) == pytest.approx(binomtest(hits, n).pvalue, abs=1e-10)
    for p in (0.5, 0.62, 0.9, 1.0):
        enough = next((k for k in range(n // 2 + 1, n + 1) if binomtest(k, n).pvalue <= 0.05), n + 1)
        assert votes.power_of(n, p) == pytest.approx(binom.sf(enough - 1, n, p), abs=1e-10)


@pytest.mark.parametrize(
    ("p", "power", "alpha"), [(0.6, 0.8, 0.05), (0.75, 0.8, 0.05), (0.7, 0.9, 0.01), (1, 0.8, 0.05)]
)
def test_choose_n_is_the_smallest_that_scipy_finds_too(p, power, alpha):
    def reached(n):
        ks = np.arange(n + 1)
        enough = ks[(2 * binom.sf(ks - 1, n, 0.5) <= alpha)]
        return len(enough) > 0 and binom.sf(enough[0] - 1, n, p) >= power

    n = votes.choose_n(p, power, alpha)
    assert reached(n)
    assert not any(reached(fewer) for fewer in range(1, n))


def test_the_numbers_that_are_told():
    assert [votes.choose_n(p) for p in (0.9, 0.8, 0.75, 0.7, 0.6, 0.55)] == [12, 20, 30, 49, 199, 786]
    assert [votes.least_preference(n) for n in (5, 10, 20, 30, 60)] == [None, 0.92, 0.8, 0.75, 0.7]


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: votes.choose_n(0.5), r"p is 0.5; expected a finite number in \[0.55, 1\]"),
        (lambda: votes.choose_n(60), "p is 60"),
        (lambda: votes.choose_n(0.6, power=1.0), "power is 1.0"),
        (lambda: votes.choose_n(0.6, alpha=0), "alpha is 0"),
        (lambda: votes.chance(31, 30), "hits is 31; expected a whole number from 0 to 30"),
        (lambda: votes.power_of(0, 0.6), "n is 0"),
    ],
)
def test_what_no_plan_can_be_made_for_is_refused(call, named):
    with pytest.raises(ValueError, match=named):
        call()


# --- What a count says


@pytest.mark.parametrize(
    ("count", "told"),
    [
        ((12, 18, 0), "18 of 30 for DDPM-1000: 41 to 77 %. No preference shown at this n: without any, 36 of 100 "),
        (
            (21, 9, 0),
            "21 of 30 for DDIM-20: 51 to 85 %. A preference for DDIM-20 is shown: without any, 43 of ",
        ),
        ((8, 18, 4), "18 of the 26 decided for DDPM-1000: 48 to 86 %. 4 of 30 could not be told apart. No pref"),
        (
            (4, 12, 0),
            "12 of 16 for DDPM-1000: 48 to 93 %. No preference shown at this n: without any, 77 of ",
        ),
        ((15, 15, 0), "15 of 30 for either: 31 to 69 %. No preference shown"),
        (
            (0, 30, 0),
            "30 of 30 for DDPM-1000: 88 to 100 %. A preference for DDPM-1000 is shown: without any, less than one vote",
        ),
        ((0, 0, 5), "Not one of 5 pairs was decided: no difference was seen."),
    ],
)
def test_a_verdict_is_what_the_numbers_carry(count, told):
    assert verdict(NAMES, *count).startswith(told)


def test_a_preference_is_shown_where_the_exact_test_says_so_and_nowhere_else():
    for n in range(1, 80):
        for hits in range((n + 1) // 2, n + 1):  # the other half mirrors this one
            exact = binomtest(hits, n)
            expected, preferred = exact.proportion_ci(0.95), exact.pvalue <= 0.05
            wanted = {hits: (hits / n, expected.low, expected.high)}
            wanted[n - hits] = tuple(1 - wanted[hits][k] for k in (0, 2, 1))
            for k in wanted:
                assert ("A preference for" in verdict(NAMES, n - k, k, 3)) == preferred, (k, n)
                interval = votes.exact_interval(k, n)
                assert preferred == (not interval.low <= 0.5 <= interval.high), "sentence and interval say the same"
                assert interval == pytest.approx(wanted[k], abs=1e-9)


def test_without_a_preference_one_vote_in_twenty_at_most_shows_one():
    for n in (10, 30, 47):
        shown = sum(binom.pmf(k, n, 0.5) for k in range(n + 1) if "is shown" in verdict(NAMES, n - k, k, 0))
        assert 0.01 < shown <= 0.05


# --- A comparison


@pytest.fixture
def black_and_white():
    """Whose picture it is can be seen: a is black, b is white."""
    return Comparison(("black", "white"), np.zeros((40, 2, 4, 3), np.uint8), np.full((40, 2, 4, 3), 255, np.uint8))


def test_the_order_is_the_same_everywhere_and_fair(black_and_white):
    assert black_and_white.order(7)[:4] == [(22, True), (32, False), (3, False), (7, False)]  # `sha256sum`
    lefts = np.zeros(40)
    for seed in range(200):
        order = black_and_white.order(seed)
        assert sorted(pair for pair, _ in order) == list(range(40))
        for pair, swapped in order:
            lefts[pair] += swapped
    assert abs(lefts.mean() - 100) < 3 * (200 / 4 / 40) ** 0.5
    assert abs(lefts - 100).max() < 5 * 50**0.5


def test_what_is_shown_is_in_that_order(black_and_white):
    shown = black_and_white.shown(7)
    assert shown.shape == (40, 2, 2, 4, 3)
    assert [bool(left.all()) for left in shown[:, 0]] == [swapped for _, swapped in black_and_white.order(7)]
    assert (shown[:, 0] != shown[:, 1]).all()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"names": ("a", "a")}, "names is .*two that differ"),
        ({"names": ("a", CANNOT_TELL)}, "names is .*neither of them 'cannot tell'"),
        ({"names": ("a", "\x1b[2J")}, "names is .*printable"),
        ({"names": ("a", " b")}, "names is ' b'"),
        ({"names": ("a", "b" * 41)}, "names is .*1 to 40"),
        ({"names": "ab c"}, "names is 'ab c'; expected two names"),
        ({"a": np.zeros((40, 2, 4, 3))}, "a is an array .*float64; expected uint8"),
        ({"a": np.zeros((40, 4, 3), np.uint8)}, r"a is an array .*expected shape \(N, K, H, W\)"),
        ({"b": np.zeros((39, 2, 4, 3), np.uint8)}, r"b is an array .*the shape of a: \(40, 2, 4, 3\)"),
        ({"a": np.zeros((1001, 1, 1, 1), np.uint8), "b": np.zeros((1001, 1, 1, 1), np.uint8)}, "pairs is 1001"),
    ],
)
def test_pictures_that_can_not_be_compared_are_refused(black_and_white, change, named):
    with pytest.raises((TypeError, ValueError), match=named):
        replace(black_and_white, **change)


# --- The pictures that ship


def test_the_pairs_that_ship():
    comparison = votes.shipped()
    assert comparison.names == NAMES
    assert comparison.a.shape == comparison.b.shape == (60, 4, 28, 28)
    assert len(np.unique(comparison.a)) == votes.GREYS
    assert votes.PAIRS.stat().st_size < 100_000
    judge, _ = weights.load("judge")
    label = torch.arange(60).remainder(10).repeat_interleave(4)
    for x in (comparison.a, comparison.b):
        with torch.no_grad():
            read = judge(torch.from_numpy(x).view(-1, 1, 28, 28).float() / 127.5 - 1).argmax(1)
        assert (read == label).float().mean() > 0.88  # 92.5 and 92.9 %: not even the judge prefers one


def test_the_first_hundred_can_be_drawn_again():
    x = measurements.draw(weights.load("digits")[0], 100, "DDIM", 20)
    again = ((x.clamp(-1, 1) + 1) * 127.5).view(10, 10, 28, 28)
    stored = torch.from_numpy(votes.shipped().a).float().view(6, 10, 4, 28, 28).transpose(1, 2).reshape(24, 10, 28, 28)
    assert (again - stored[:10]).abs().max() < 9  # half of one of 16 greys is 8.5


def test_pairs_are_made_with_their_labels_together(tmp_path, monkeypatch):
    monkeypatch.setattr(votes, "PAIRS", tmp_path / "pairs.npz")
    net, _ = weights.load("digits")
    make.make(net, votes.PAIRS, sets=1, ddpm_steps=2)
    assert votes.shipped().a.shape == (10, 4, 28, 28)
    number = torch.arange(80.0).view(80, 1, 1, 1).expand(80, 1, 28, 28) / 40 - 1
    sets = make.in_sets(torch.where(number % 0.25 > 1, number, (torch.arange(80) % 10).view(-1, 1, 1, 1) / 5 - 1))
    assert (sets == sets[:, :1]).all()
    assert len(np.unique(sets[:10, 0, 0, 0])) == 10
    monkeypatch.setattr(votes, "drawn_by", lambda: "others")
    with pytest.raises(ValueError, match=r"pairs\.npz was drawn by other weights; run `make pairs`"):
        votes.shipped()
    votes.PAIRS.write_bytes(votes.PAIRS.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"pairs\.npz cannot be read; make it with `make pairs`"):
        votes.shipped()


# --- A vote in a notebook


class Voter:
    """Somebody before the widget of a comparison in black and white, who sees which side is white."""

    def __init__(self, widget, n=20, name="Ada"):
        self.widget, self.sent = widget, {"id": 0, "n": n, "voter": name, "choices": [], "stopped": False}
        pixels = np.frombuffer(widget._pixels, np.uint8).reshape(-1, 2, 2 * 4 * 3)
        self.white = ["left" if left.all() else "right" for left in pixels[:, 0]]

    def send(self, **changed):
        self.sent = {**self.sent, **changed, "id": self.sent["id"] + 1}
        self.widget.set_state({"_request": self.sent})
        return self.widget._answer

    def choose(self, what):
        at = len(self.sent["choices"])
        sides = {"white": self.white[at], "black": "right" if self.white[at] == "left" else "left"}
        return self.send(choices=[*self.sent["choices"], sides.get(what, "neither")])


def test_a_vote_is_counted_as_it_was_meant_and_told_at_the_end_only(black_and_white, tmp_path):
    widget = votes.compare_blind(black_and_white, tmp_path / "votes")
    voter = Voter(widget)
    assert voter.send()["told"] is None
    for i, what in enumerate(["white"] * 13 + ["black"] * 4 + ["neither"] * 3):
        answer = voter.choose(what)
        assert answer["heard"] == voter.sent["id"]
        assert (answer["told"] is None) == (i < 19)
        assert (tmp_path / "votes").exists() == (i == 19)
    (path,) = (tmp_path / "votes").iterdir()
    vote = votes.read_vote(path)
    assert vote.count() == Count(4, 13, 3)
    assert (vote.names, vote.voter, vote.n, vote.pictures) == (
        ("black", "white"),
        "Ada",
        20,
        black_and_white.pictures(),
    )
    assert answer["told"]["sentence"] == vote.verdict() == verdict(vote.names, 4, 13, 3)
    assert answer["told"]["share"] == list(votes.exact_interval(13, 17))
    assert answer["told"]["kept"] == f"Your vote is in {path}."
    assert abs((datetime.now(UTC) - datetime.fromisoformat(vote.time)).total_seconds()) < 60
    meant = {"left": 0, "right": 1}
    assert len(answer["told"]["sides"]) == 20
    for choice, meaning, (_, swapped), sides in zip(
        voter.sent["choices"], vote.choices, black_and_white.order(vote.seed), answer["told"]["sides"], strict=False
    ):
        assert sides == (["white", "black"] if swapped else ["black", "white"])
        side = meant.get(choice)
        assert meaning == (CANNOT_TELL if side is None else ("black", "white")[side ^ swapped])


def test_after_the_end_nothing_changes(black_and_white, tmp_path):
    voter = Voter(votes.compare_blind(black_and_white, tmp_path), n=10)
    voter.send()
    for _ in range(10):
        answer = voter.choose("white")
    for again in (voter.send(), voter.choose("black"), voter.send(choices=[]), voter.send(stopped=True)):
        assert again["told"] == answer["told"]
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"n": 30}, "n is 30; expected 20, as chosen before the start"),
        ({"choices": ["right", "right"]}, "choices is .*'left'"),
        ({"choices": []}, "choices is .*'left'"),
        ({"choices": ["left", "both"]}, "choices is .*'both'"),
        ({"choices": ["left"] * 21}, "choices is .*20 in all"),
    ],
)
def test_what_was_decided_stays_decided(black_and_white, tmp_path, changed, named):
    voter = Voter(votes.compare_blind(black_and_white, tmp_path))
    voter.send(choices=["left"])
    before = voter.sent
    answer = voter.send(**changed)
    with pytest.raises(ValueError, match=named):
        raise ValueError(answer["error"])
    voter.sent = {**before, "id": voter.sent["id"]}
    assert voter.choose("white")["error"] == ""


def test_a_number_that_is_not_offered_begins_nothing(black_and_white, tmp_path):
    voter = Voter(votes.compare_blind(black_and_white, tmp_path), n=1)
    assert "n is 1; expected one of (10, 20, 30, 40)" in voter.choose("white")["error"]


def test_stopping_early_is_kept_and_marked(black_and_white, tmp_path):
    voter = Voter(votes.compare_blind(black_and_white, tmp_path), name="")
    voter.send()
    answer = voter.send(stopped=True)
    assert (answer["told"], answer["error"]) == (None, ""), "there is nothing to count"
    voter.send(stopped=False)
    for _ in range(7):
        voter.choose("white")
    told = voter.send(stopped=True)["told"]["sentence"]
    assert told.startswith("7 of 7 for white")
    assert told.endswith("Stopped after 7 of 20: not the n chosen before the start.")
    assert "stopped early" in str(merge_votes(tmp_path.iterdir()))


def test_a_vote_that_can_not_be_saved_says_so_and_is_counted(black_and_white, tmp_path):
    (tmp_path / "votes").write_text("a file where the folder should be")
    voter = Voter(votes.compare_blind(black_and_white, tmp_path / "votes"), n=10)
    voter.send()
    for _ in range(10):
        answer = voter.choose("white")
    assert answer["told"]["sentence"].startswith("10 of 10 for white")
    assert "not saved" in answer["told"]["kept"]


def test_every_widget_mixes_anew_unless_told_how(black_and_white, tmp_path):
    first, second = (votes.compare_blind(black_and_white, tmp_path)._pixels for _ in range(2))
    assert first != second
    assert votes.compare_blind(black_and_white, tmp_path, 3)._pixels == black_and_white.shown(3).tobytes()
    with pytest.raises(ValueError, match="seed is -1"):
        votes.compare_blind(black_and_white, tmp_path, -1)


# --- Files

VOTE = Vote(NAMES, "0" * 16, 5, 4, ("DDIM-20", "DDPM-1000", CANNOT_TELL), "Ada", "2026-01-31T09:30:00+00:00", 12.5)


def written(folder, name="vote.json", **changed):
    """A file of VOTE with some keys changed, or without those that are None."""
    path = votes.save_vote(VOTE, folder / "first")
    found = {k: v for k, v in {**json.loads(path.read_text("utf-8")), **changed}.items() if v is not None}
    (folder / name).write_text(json.dumps(found))
    return folder / name


def test_a_saved_vote_is_read_as_it_was(tmp_path):
    for voter in ("Ada", "", "Zoë/../../x", "王"):
        path = votes.save_vote(replace(VOTE, voter=voter), tmp_path / "new")
        assert path.parent == tmp_path / "new"
        assert votes.read_vote(path) == replace(VOTE, voter=voter)
    assert not list((tmp_path / "new").glob(".*")), "no half-written file is left"


FAULTS = {
    "another format": ({"format": "2"}, "not a vote of this version"),
    "a key too few": ({"seed": None}, "keys is"),
    "a key too many": ({"wins": 30}, "keys is"),
    "three names": ({"names": ["a", "b", "c"]}, "names is"),
    "names as numbers": ({"names": [1, 2]}, "names is 1"),
    "pictures": ({"pictures": "../../etc"}, "pictures is"),
    "seed": ({"seed": 1.5}, "seed is 1.5"),
    "n as text": ({"n": "4"}, "n is '4'"),
    "n true": ({"n": True}, "n is True"),
    "n huge": ({"n": 10**9}, "n is 1000000000"),
    "n smaller than the choices": ({"n": 2}, "choices is .*1 to n = 2"),
    "no choice": ({"choices": []}, "choices is"),
    "choices as text": ({"choices": "DDIM-20"}, "choices is"),
    "a choice of another": ({"choices": ["DDIM-50"]}, "choices is 'DDIM-50'"),
    "a choice that is a list": ({"choices": [["DDIM-20"]]}, "choices is"),
    "voter as a table": ({"voter": {"__class__": "x"}}, "voter is"),
    "voter that clears the screen": ({"voter": "\x1b[2J"}, r"voter is '\\x1b\[2J'"),
    "voter on two lines": ({"voter": "Ada\nall   0  30"}, "voter is"),
    "voter that turns the text around": ({"voter": "\u202eadA"}, r"voter is '\\u202eadA'"),
    "half a character": ({"voter": "\ud800"}, "voter is"),
    "voter too long": ({"voter": "x" * 50_000}, "voter is 'xxx"),
    "time without zone": ({"time": "2026-01-31"}, "time is"),
    "time as a number": ({"time": 5}, "time is"),
    "seconds": ({"seconds": -1}, "seconds is -1"),
    "seconds nan": ({"seconds": float("nan")}, "seconds is nan"),
}


@pytest.mark.parametrize(("changed", "named"), FAULTS.values(), ids=FAULTS)
def test_a_fault_in_a_file_is_named(tmp_path, changed, named):
    with pytest.raises(ValueError, match=named) as caught:
        votes.read_vote(written(tmp_path, **changed))
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


HOSTILE = {
    "empty": (b"", "not JSON"),
    "a picture": (b"\x89PNG\r\n\x1a\n\xff", "not JSON"),
    "a pickle": (b"cos\nsystem\n(S'touch /tmp/was_run'\ntR.", "not JSON"),
    "a number of a million digits": (b"9" * 90_000, "not JSON"),
    "a hundred thousand brackets": (b"[" * 99_000, "not JSON"),
    "too large": (b" " * 100_001, "more than 100,000 bytes"),
    "a list": (b"[]", "not a vote of this version"),
    "null": (b"null", "not a vote of this version"),
}


@pytest.mark.parametrize(("content", "named"), HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_vote_is_refused(tmp_path, content, named):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ValueError, match=named):
        votes.read_vote(tmp_path / "x.json")


# --- The sum


def class_of(folder, *counts, n=30, **changed):
    """Files of voters with these counts, an hour apart."""
    for i, count in enumerate(counts):
        choices = tuple(name for name, k in zip((*NAMES, CANNOT_TELL), count, strict=True) for _ in range(k))
        time = f"2026-01-31T{i:02}:30:00+00:00"
        vote = {"choices": choices, "voter": f"voter {i}", "time": time, "seed": i, **changed}
        yield votes.save_vote(replace(VOTE, n=n, **vote), folder)


def test_files_of_two_people_add_up(tmp_path):
    paths = list(class_of(tmp_path, (12, 18, 0), (4, 20, 6)))
    found = merge_votes(paths)
    assert found.count() == Count(16, 38, 6)
    table = str(found)
    for line in (
        "voter    DDIM-20  DDPM-1000  cannot tell  of      for DDPM-1000",
        "voter 0       12         18            0  30  60 % (41 to 77 %)",
        "voter 1        4         20            6  30  83 % (63 to 95 %)",
        "all           16         38            6  60  70 % (56 to 82 %)",
    ):
        assert line in table.splitlines()
    assert f"{verdict(NAMES, 16, 38, 6)} By voters: 0 chose DDIM-20 more often, 2 DDPM-1000." in table


def test_a_person_counts_once(tmp_path):
    first, second = class_of(tmp_path, (12, 18, 0), (4, 20, 6))
    copied = tmp_path / "copy.json"
    copied.write_text(json.dumps(json.loads(first.read_text("utf-8"))))  # the same vote, other bytes
    (again,) = class_of(tmp_path, (0, 30, 0), voter="VOTER  1", time="2026-02-01T00:00:00+02:00")
    found = merge_votes([again, copied, second, first])
    assert found.count() == Count(16, 38, 6)
    assert found.left_out == {
        str(first): f"the same vote as {copied}, counted once",
        str(again): f"another vote by VOTER  1: the first, {second}, counts",
    }
    nameless = list(class_of(tmp_path, (1, 2, 0), (2, 1, 0), voter=""))
    assert merge_votes(nameless).count() == Count(3, 3, 0), "who gives no name is not taken for another"


def test_different_comparisons_are_not_added(tmp_path):
    (one,) = class_of(tmp_path, (12, 18, 0))
    (two,) = class_of(tmp_path, (12, 18, 0), pictures="f" * 16)
    with pytest.raises(ValueError, match="2 different comparisons") as caught:
        merge_votes([one, two])
    for told in (str(one), str(two), "pictures 0000000000000000", "pictures ffffffffffffffff", "DDIM-20 and DDPM-1000"):
        assert told in str(caught.value)


def test_a_merge_names_what_it_can_not_read(tmp_path):
    (path,) = class_of(tmp_path, (12, 18, 0))
    with pytest.raises(ValueError, match=r"none\.json is no vote that can be counted"):
        merge_votes([path, tmp_path / "none.json"])
    with pytest.raises(ValueError, match="paths is"):
        merge_votes([])


def hostile_folder(folder):
    """Two good votes in a folder of a learning platform, a vote in another comparison, and what else may lie there."""
    list(class_of(folder / "ada_123", (12, 18, 0)))
    list(class_of(folder / "bo_456", (4, 20, 6), voter="Bo"))
    list(class_of(folder, (1, 2, 0), pictures="f" * 16))
    for i, (content, _) in enumerate(HOSTILE.values()):
        (folder / f"hostile_{i}.json").write_bytes(content)
    (folder / "\x1b[31mred.json").write_text("{}")
    (folder / "endless").symlink_to("/dev/zero")
    (folder / "nowhere").symlink_to(folder / "missing")
    (folder / "round").symlink_to(folder)
    os.mkfifo(folder / "pipe.json")


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes and links there")
def test_a_folder_is_read_whatever_lies_in_it(tmp_path, capsys):
    hostile_folder(tmp_path)
    sums, left_out = votes.votes_in(tmp_path)
    assert sorted(found.count() for found in sums) == [Count(1, 2, 0), Count(16, 38, 6)]
    assert len(left_out) == len(HOSTILE) + 4
    assert left_out["pipe.json"] == left_out["endless"] == "not a plain file"
    assert left_out["nowhere"] == "No such file or directory"
    assert command.main([str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert all(name in printed for name in ("hostile_0.json: not JSON", r"\x1b[31mred.json", "pipe.json: not a plain"))
    assert printed.count("By voters") == 1


def test_the_command_adds_up_a_class_and_refuses_what_is_no_folder(tmp_path):
    list(class_of(tmp_path, *[(10, 20, 0)] * 5))
    run = [sys.executable, "-W", "error::RuntimeWarning", "-m", "lessons_src.lessons.lesson_13"]
    done = subprocess.run([*run, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert "100 of 150 for DDPM-1000: 59 to 74 %. A preference for DDPM-1000 is shown" in done.stdout
    assert command.main([str(tmp_path / "none")]) == 1
    (tmp_path / "empty").mkdir()
    assert command.main([str(tmp_path / "empty")]) == 1


def test_what_instructors_are_told_is_true():
    page = (data.ASSETS.parents[1] / "notebooks" / "exercises" / "INSTRUCTORS.md").read_text(encoding="utf-8")
    assert "python -m lessons_src.lessons.lesson_13 " in page
    assert f"a preference of 60 % takes {votes.choose_n(0.6)} decided votes, seven each from thirty" in page
