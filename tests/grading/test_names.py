"""What learning platforms call files is read for whose they are, and their tables of grades are filled in."""

import re
import unicodedata
from pathlib import Path

import pytest

from lessons_src.grading.names import Entry, Owner, filled, owner, pattern, told_apart


@pytest.mark.parametrize(
    ("name", "student", "number"),
    [
        ("ann", "ann", ""),
        ("ann.lee@example.org", "ann.lee@example.org", ""),
        ("Łukasz", "Łukasz", ""),
        ("李安", "李安", ""),
        ("Lee Ann_4711_assignsubmission_file", "Lee-Ann", "4711"),
        ("Lee Ann_4711_assignsubmission_file_", "Lee-Ann", "4711"),
        ("Zoë van der Berg_12_assignsubmission_file_05_ddim", "Zoë-van-der-Berg", "12"),
        ("Participant_4711_assignsubmission_file_05_ddim", "Participant", "4711"),
        ("leeann_4711_99_05_ddim", "leeann_4711", "4711"),
        ("leeann_LATE_4711_99_05_ddim-1", "leeann_4711", "4711"),
        ("05_ddim_la123_attempt_2026-11-27-10-15-30_05_ddim", "la123", ""),
        ("05_ddim_la123_attempt_2026-11-27-10-15-30", "la123", ""),
    ],
)
def test_a_name_says_whose_it_is(name, student, number):
    found = owner(name)
    assert (found.student, found.number) == (student, number)


def test_one_letter_may_be_written_in_two_ways():
    composed, apart = (unicodedata.normalize(form, "Zoë") for form in ("NFC", "NFD"))
    assert composed != apart
    assert owner(composed) == owner(apart)


@pytest.mark.parametrize("name", ["", ".DS_Store", "=cmd()", "a b", "-rf", "x" * 65, "ann\nbob", "../ann", "_ann"])
def test_what_can_be_nobodys_is_left_out(name):
    assert owner(name) is None


def test_a_class_may_have_its_own_pattern():
    own = pattern(r"hw\d+-(?P<student>\w+)")
    assert owner("hw5-ann", own).student == "ann"
    assert owner("bob", own).student == "bob", "what it does not fit is read as without it"
    for wrong, said in (("(", "a regular expression"), (r"hw-(\w+)", "with a group")):
        with pytest.raises(ValueError, match=f"names is .*{said}"):
            pattern(wrong)


def entries(*names):
    return [Entry(Path(name), owner(name)) for name in names]


def test_attempts_of_one_learner_come_newest_first():
    older, newer = "ddim_la1_attempt_2026-11-27-10-15-30_x", "ddim_la1_attempt_2026-11-28-09-00-00_x"
    [(student, found)] = told_apart(entries(older, newer)).items()
    assert (student, [str(entry.path) for entry in found]) == ("la1", [newer, older])
    ninth, hundredth = "leeann_4711_99_x", "leeann_4711_100_x"
    [found] = told_apart(entries(ninth, hundredth)).values()
    assert [str(entry.path) for entry in found] == [hundredth, ninth], "as numbers, not as words"


def test_two_learners_of_one_name_are_told_apart():
    found = told_apart(entries("Lee Ann_1_assignsubmission_file", "Lee Ann_2_assignsubmission_file", "bob"))
    assert sorted(found) == ["Lee-Ann_1", "Lee-Ann_2", "bob"]


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("Identifier,Full name,Grade\nParticipant 4711,Lee Ann,\nParticipant 5,Bob,1\n", "Grade"),
        ('Student,ID,SIS Login ID,05_ddim (77)\n"Ann, Lee",4711,la,\nBob,5,b,1\n', "05_ddim (77)"),
        ("Last Name,Username,DDIM\nAnn,la1,\nBob,bob,1\n", "DDIM"),
        ("\ufeffFull name,Grade\nLee Ann,\nBob,1\n", "Grade"),
    ],
)
def test_a_platforms_table_is_filled_in_and_stays_as_it_is(table, column):
    owners = {"a": Owner("la1", "4711", "", "Lee Ann")}
    content, missing = filled(table, column, {"a": 7.5, "b": 1.0}, owners)
    before, after = (re.split("\r?\n", text.removeprefix("\ufeff")) for text in (table, content))
    assert after[1] == before[1] + "7.5"
    assert (after[0], after[2:]) == (before[0], before[2:])
    assert missing == ["b"]


def test_a_table_without_the_column_is_refused():
    with pytest.raises(ValueError, match="column is 'DDIM'; expected one of"):
        filled("ID,Grade\n1,\n", "DDIM", {}, {})
    with pytest.raises(ValueError, match="columns of the table"):
        filled("Who,Grade\n1,\n", "Grade", {}, {})


def test_a_group_of_a_pattern_that_takes_no_part_is_nobody():
    assert owner("draft", pattern(r"hw-(?P<student>\w+)|draft")) is None
