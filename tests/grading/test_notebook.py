"""Triage: whatever is handed in becomes a notebook that can be graded, with its answers, and nothing else of it."""

import base64
import json
import os
import struct

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output
from two_tasks import RELEASE, RIGHT, SOURCE, STUB, submission

from lessons_src.grading import notebook as notebook_module
from lessons_src.grading.notebook import MAX_OWN, MAX_PIXELS, MAX_SHOWN, Shown, choose, grade_id, graded, rebuild

KNOWN = {"setup", "halve_answer", "halve", "target_answer", "target", "why"}


def by_id(notebook):
    return {grade_id(cell): cell for cell in notebook.cells if grade_id(cell)}


def rebuilt(notebook):
    content = notebook if isinstance(notebook, bytes) else nbformat.writes(notebook).encode()
    made, notes = rebuild(content, RELEASE)
    nbformat.validate(made)
    return made, notes


def test_an_ordinary_submission_stays_as_it_is():
    made, notes = rebuilt(submission())
    assert notes == []
    assert [cell.source for cell in made.cells] == [cell.source for cell in submission().cells]
    assert [cell.metadata for cell in made.cells] == [cell.metadata for cell in submission().cells]


UNREADABLE = {
    "nothing": b"",
    "no JSON": b"{ not json",
    "cut off": nbformat.writes(submission()).encode()[:-50],
    "a picture": b"\x89PNG\r\n\x1a\n\x00\xff",
    "a number": b"1",
    "a list": b"[]",
    "no cells": b'{"nbformat": 4}',
    "cells that are text": b'{"cells": "none"}',
    "cells of nothing": b'{"cells": [null, 1, "a"]}',
    "nested deeply": b'{"cells":' + b"[" * 100_000,
    "a huge number": b'{"cells": [' + b"9" * 5000 + b"]}",
    "too large": b" " * (21 << 20),
    "an older format": b'{"nbformat": 3, "worksheets": [{"cells": []}]}',
}


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE)
def test_what_cannot_be_read_is_an_empty_notebook_with_a_note(content):
    made, notes = rebuilt(content)
    assert [cell.source for cell in made.cells] == [cell.source for cell in RELEASE.cells]
    assert len(notes) == 1
    assert "hand it in again" in notes[0] or "no cells" in notes[0]
    assert not any(word in notes[0] for word in ("line", "char", "codec", "column", "Expecting"))


ODD = {
    "source as lines": lambda cell: cell.update(source=["a = 1\n", "b = 2"]),
    "source as a number": lambda cell: cell.update(source=7),
    "no source": lambda cell: cell.pop("source"),
    "metadata as text": lambda cell: cell.update(metadata="x"),
    "no metadata": lambda cell: cell.pop("metadata"),
    "mark as a list": lambda cell: cell.update(metadata={"nbgrader": [1]}),
    "name as a list": lambda cell: cell.update(metadata={"nbgrader": {"grade_id": ["halve"]}}),
    "unknown name": lambda cell: cell.update(metadata={"nbgrader": {"grade_id": "mine", "grade": True, "points": 99}}),
    "half a character": lambda cell: cell.update(source="x = '\ud800'"),
    "outputs as text": lambda cell: cell.update(outputs="none"),
    "unknown kind": lambda cell: cell.update(cell_type="script"),
    "kind as a list": lambda cell: cell.update(cell_type=[], metadata={}),
    "no kind": lambda cell: cell.pop("cell_type"),
    "name as an object": lambda cell: cell.update(metadata={"nbgrader": {"grade_id": {}}}),
    "source of lists": lambda cell: cell.update(source=[[], {}, None]),
    "tags as a number": lambda cell: cell.update(metadata={"tags": 1}),
    "a very long source": lambda cell: cell.update(source="#" * 10**6),
}


@pytest.mark.parametrize("change", ODD.values(), ids=ODD)
def test_odd_cells_do_no_harm(change):
    raw = json.loads(nbformat.writes(submission()))
    raw["cells"].insert(2, {"cell_type": "code", "source": "a = 1", "metadata": {}, "outputs": []})
    change(raw["cells"][2])
    made, _ = rebuilt(json.dumps(raw).encode())
    assert set(by_id(made)) == KNOWN
    assert by_id(made)["halve_answer"].source == RIGHT["halve"]


def test_only_answers_come_from_the_learner():
    def forge(notebook):
        for cell in notebook.cells:
            if grade_id(cell) in ("setup", "halve", "target"):
                cell.source, cell.metadata["nbgrader"]["points"] = "forged = True", 1000
                cell.outputs = [new_output("execute_result", {"text/plain": "1000"})]
            cell.metadata["tags"] = ["not-graded"]
            cell.metadata["nbgrader_forged"] = True
        notebook.metadata["forged"] = True

    made, _ = rebuilt(submission(forge))
    assert "forged" not in nbformat.writes(made)
    assert "not-graded" not in nbformat.writes(made)
    assert by_id(made)["halve"].metadata.nbgrader.points == 3


def test_a_changed_check_is_put_back_and_named():
    def tamper(made):
        by_id(made)["halve"].source = "print('all passed')"

    made, notes = rebuilt(submission(tamper))
    assert by_id(made)["halve"].source == by_id(RELEASE)["halve"].source
    assert notes == ["Put back as they were, since they are not for answers: halve."]


def test_copies_are_run_in_place_and_checks_kept_once():
    def copy(notebook):
        again = [dict(cell) for cell in notebook.cells if grade_id(cell) in ("halve_answer", "halve")]
        notebook.cells += [nbformat.from_dict({**cell, "id": f"again{i}"}) for i, cell in enumerate(again)]

    made, notes = rebuilt(submission(copy))
    assert [grade_id(cell) for cell in made.cells].count("halve") == 1
    assert made.cells[-1].source == RIGHT["halve"]
    assert grade_id(made.cells[-1]) is None
    assert notes == [
        "Left out, as second copies of a cell: halve.",
        "Answered more than once, of which the last counts: halve_answer.",
    ]


@pytest.mark.parametrize("source", ["", "\n", STUB.format("halve") + "\n"])
def test_an_unanswered_copy_undoes_no_answer(graded, source):
    def copy(notebook):
        again = nbformat.from_dict(dict(by_id(notebook)["halve_answer"]) | {"id": "again", "source": source})
        notebook.cells.append(again)

    scores, text = graded(submission(copy))
    assert scores == {"halve": 3, "target": 4}
    assert "Left out, as second copies of a cell: halve_answer." in text


def test_own_cells_have_a_limit_together():
    def write(notebook):
        text = [new_code_cell("+" * 90_000), new_markdown_cell("<" * 90_000)] * 4
        notebook.cells[1:1] = [nbformat.from_dict({**cell, "id": f"own{i}"}) for i, cell in enumerate(text)]
        notebook.cells.append(new_code_cell("small = True"))

    made, notes = rebuilt(submission(write))
    assert sum(len(cell.source) >= 90_000 for cell in made.cells) == MAX_OWN // 90_000
    assert made.cells[-1].source == "small = True"
    assert notes == ["Left out, as too long: 3 cells. Those that you add may have 500000 characters together."]
    assert by_id(made)["target_answer"].source == RIGHT["target"]


def test_missing_cells_come_back_without_undoing_an_answer():
    def strip(notebook):
        notebook.cells = [new_code_cell(text) for text in ("import torch", RIGHT["halve"])]

    made, notes = rebuilt(submission(strip))
    assert set(by_id(made)) == KNOWN
    assert grade_id(made.cells[0]) == "setup"
    assert by_id(made)["halve_answer"].source == ""
    assert notes == ["Put back, as missing: setup, halve_answer, halve, target_answer, target, why."]


def test_an_answer_in_a_cell_of_the_wrong_kind_counts(graded):
    def turn(notebook):
        for number, cell in enumerate(notebook.cells):
            if grade_id(cell) == "halve_answer":
                notebook.cells[number] = new_markdown_cell(cell.source, metadata=cell.metadata)

    assert graded(submission(turn))[0] == {"halve": 3, "target": 4}


@pytest.mark.parametrize("edit", ["no metadata", "wrong kernel", "renamed checks", "no checks"])
def test_right_answers_survive_a_damaged_notebook(graded, edit):
    def damage(notebook):
        for cell in notebook.cells:
            if edit == "no metadata":
                cell.metadata = {}
            if edit == "renamed checks" and grade_id(cell) in ("halve", "target"):
                cell.metadata["nbgrader"]["grade_id"] = "renamed"
        if edit == "no checks":
            notebook.cells = [cell for cell in notebook.cells if grade_id(cell) not in ("halve", "target")]
        if edit == "wrong kernel":
            notebook.metadata = {"kernelspec": {"name": "ir", "display_name": "R", "language": "R"}}

    assert graded(submission(damage))[0] == {"halve": 3, "target": 4}


MARKUP = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[x](javascript:alert(1))",
    r"$\href{javascript:alert(1)}{x}$",
]


@pytest.mark.parametrize("markup", MARKUP)
def test_a_written_answer_is_shown_as_it_was_typed(markup):
    def write(notebook):
        notebook.cells[-1].source = markup
        notebook.cells.insert(1, new_markdown_cell(markup))

    made, _ = rebuilt(submission(write))
    for cell in (made.cells[1], by_id(made)["why"]):
        assert cell.source.startswith("<pre>")
        assert cell.source.count("<") == 2
    again, _ = rebuilt(submission())
    assert by_id(again)["why"].source == "Say why."


PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
REPLIES = {
    "text": ({"text": "a" * 10}, [("stream", "aaaaaaaaaa")]),
    "too much text": ({"text": "a" * 10**6}, [("stream", "a" * 20_100)]),
    "no text": ({"text": ["<script>"]}, []),
    "a picture": ({"text": "", "images": [PICTURE]}, [("display_data", PICTURE)]),
    "many pictures": ({"images": [PICTURE] * 99}, [("display_data", PICTURE)] * 4),
    "no picture": ({"images": ["PHNjcmlwdD4=", 'x" onerror="alert(1)', None, {}]}, []),
    "no list": ({"images": PICTURE}, []),
    "half a picture": ({"images": [PICTURE[:28]]}, []),
    "a picture without its size": ({"images": [base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(99)).decode()]}, []),
    "lists": ({"text": [[]] * 99, "images": [[[]] * 99]}, []),
    "markup": ({"html": "<script>", "data": {"text/html": "<script>"}, "text": ""}, []),
}


@pytest.mark.parametrize(("reply", "shown"), REPLIES.values(), ids=REPLIES)
def test_of_a_reply_only_text_and_pictures_are_shown(reply, shown):
    notebook, _ = rebuilt(submission())
    made = graded_notebook(notebook, {2: Shown().outputs(reply)})
    outputs = made.cells[2].outputs
    assert [(o.output_type, o.get("text") or o.get("data", {}).get("image/png")) for o in outputs] == shown
    nbformat.validate(made)


def picture(width, height, size=100):
    """The base64 of what has the first chunk of a PNG."""
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height)
    return base64.b64encode(head + os.urandom(size - len(head))).decode()


def test_a_picture_is_as_large_as_its_header_says():
    wide, whole, half = picture(MAX_PIXELS + 1, 1), picture(1, MAX_PIXELS), picture(1000, MAX_PIXELS // 2000)
    assert shown(Shown(), [wide]) == ["left out"]
    assert shown(Shown(), [whole, half]) == [whole, "left out"]
    assert shown(Shown(), [half, half, picture(1, 1)]) == [half, half, "left out"]
    assert shown(Shown(), [picture(0, 5)]) == []


def test_all_that_a_submission_shows_has_one_limit():
    limit = Shown()
    replies = [{"text": "\0" * 20_000, "images": [picture(9, 9, 1 << 20)] * 4} for _ in range(30)]
    made = graded_notebook(rebuilt(submission())[0], {2: [o for reply in replies for o in limit.outputs(reply)]})
    assert MAX_SHOWN * 0.9 < len(nbformat.writes(made)) < MAX_SHOWN * 1.1
    assert shown(limit, [PICTURE])[-1] in (PICTURE, "left out")
    assert "left out" in nbformat.writes(made)


def shown(limit, images):
    """The pictures that come through, and "left out" for the note that says so."""
    outputs = limit.outputs({"images": images})
    return ["left out" if "left out" in o.get("text", "") else o["data"]["image/png"] for o in outputs]


def graded_notebook(notebook, outputs, notes=()):
    return graded(notebook, outputs, {"halve": (1.5, "reasons"), "target": (0.0, "")}, list(notes))


def test_the_score_is_the_first_output_of_a_check():
    made = graded_notebook(rebuilt(submission())[0], {}, ["<b>note</b>"])
    assert by_id(made)["halve"].outputs[0]["data"]["text/plain"] == "1.5"
    assert by_id(made)["halve"].outputs[1]["text"] == "reasons"
    assert "&lt;b&gt;note" in made.cells[0].source


def test_a_renamed_notebook_is_found_by_its_cells(tmp_path):
    for name, content in {
        "notes": b"{}",
        "zz final (2)": nbformat.writes(submission()).encode(),
        "aa": b"broken",
    }.items():
        (tmp_path / f"{name}.ipynb").write_bytes(content)
    expected = [tmp_path / "ann.ipynb", tmp_path / "trial.ipynb"]
    path, notes = choose(sorted(tmp_path.iterdir()), expected, KNOWN)
    assert path.stem == "zz final (2)"
    assert notes == [
        "The notebook is called 'zz final (2).ipynb'; it was recognised by its cells.",
        "Of 3 notebooks 'zz final (2).ipynb' is graded; left out: 'aa.ipynb', 'notes.ipynb'.",
    ]
    for name in ("trial", "ann"):
        (tmp_path / f"{name}.ipynb").write_bytes(b"broken too")
        path, notes = choose(sorted(tmp_path.iterdir()), expected, KNOWN)
        assert path.stem == name
        assert len(notes) == 1
        assert f"{name}.ipynb' is graded; left out: 'aa.ipynb'" in notes[0]


def test_a_file_that_cannot_be_read_is_not_taken_for_another(tmp_path, unreadable):
    for name in ("aa", "bb"):
        (tmp_path / f"{name}.ipynb").write_text(nbformat.writes(submission()))
    unreadable(tmp_path / "aa.ipynb")
    path, notes = choose(sorted(tmp_path.iterdir()), [], KNOWN)
    assert path.name == "bb.ipynb"
    assert notes[-1] == "Of 2 notebooks 'bb.ipynb' is graded; left out: 'aa.ipynb'."


def test_of_very_many_notebooks_few_are_read_and_named(tmp_path, monkeypatch):
    for number in range(200):
        (tmp_path / f"{number:03}.ipynb").write_text("{}")
    read = []
    monkeypatch.setattr(notebook_module, "read_file", lambda path: read.append(path) or b"{}")
    _, [_, note] = choose(sorted(tmp_path.iterdir()), [], KNOWN)
    assert len(read) == 50
    assert note.endswith("'019.ipynb', '020.ipynb', 179 more.")


def test_links_and_pipes_are_not_followed(tmp_path):
    secret = tmp_path / "secret.ipynb"
    secret.write_text(nbformat.writes(SOURCE))
    folder = tmp_path / "student"
    folder.mkdir()
    (folder / "trial.ipynb").symlink_to(secret)
    os.mkfifo(folder / "pipe.ipynb")
    (folder / "folder.ipynb").mkdir()
    assert choose(sorted(folder.iterdir()), [folder / "trial.ipynb"], KNOWN)[0] is None
