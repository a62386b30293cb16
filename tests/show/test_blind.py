"""The page of a blind comparison gets nothing that tells the sides apart, and a saved notebook shows a pair."""

import base64
import io

import numpy as np
from PIL import Image

from lessons_src.lessons.lesson_13.votes import Comparison, compare_blind
from lessons_src.show.blind import Blind, Told


def comparison():
    generator = np.random.default_rng(0)
    return Comparison(("one", "two"), *generator.integers(0, 256, (2, 12, 4, 5, 3), dtype=np.uint8))


def test_the_page_does_not_know_whose_side_is_whose(tmp_path):
    """What it gets depends on the seed through the order of the pixels alone."""
    states = [compare_blind(comparison(), tmp_path, seed).get_state() for seed in (1, 2)]
    differ = {key for key in states[0] if key != "layout" and states[0][key] != states[1][key]}
    assert differ == {"_pixels"}
    assert states[0]["_about"]["shape"] == [4, 5, 3]
    assert len(states[0]["_pixels"]) == 10 * 2 * 4 * 5 * 3, "only as many pairs as can be asked for"


def test_a_saved_notebook_shows_a_pair_and_the_same_one_every_time(tmp_path):
    bundles = [compare_blind(comparison(), tmp_path, seed)._repr_mimebundle_() for seed in (1, 2)]
    assert bundles[0][0]["image/png"] == bundles[1][0]["image/png"]
    data, metadata = bundles[0]
    assert Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).width > 300
    assert data["text/plain"].endswith("(Run the notebook to vote.)")
    assert metadata["image/png"]["alt"].startswith("Two sides, one by one, the other by two.")


def test_its_sentence_is_stored_as_text_below_the_picture(monkeypatch, tmp_path):
    shown = []
    monkeypatch.setattr("lessons_src.show.blind.display", lambda data, **options: shown.append((data, options)))
    compare_blind(comparison(), tmp_path, 1)._ipython_display_()
    (widget, options), (text, _) = shown
    assert options["metadata"]["image/png"]["alt"] == text["text/plain"]
    assert "image/png" in widget
    assert text["text/html"] == f'<p class="lb-stored">{text["text/plain"]}</p>'


def test_what_goes_wrong_at_the_end_is_told():
    def fails(cast):
        raise RuntimeError("the count is lost")

    widget = Blind(("one", "two"), "Which?", np.zeros((1, 2, 1, 2, 2), np.uint8), {1: ""}, fails)
    widget.set_state({"_request": {"id": 1, "n": 1, "voter": "", "choices": ["left"], "stopped": False}})
    assert widget._answer == {"heard": 1, "error": "RuntimeError: the count is lost", "told": None}


def test_a_name_is_made_printable_and_short():
    cast = []
    widget = Blind(
        ("one", "two"),
        "Which?",
        np.zeros((1, 2, 1, 2, 2), np.uint8),
        {1: ""},
        lambda found: cast.append(found) or Told("", None, "", []),
    )
    voter = "\x1b[2J Ada\n" + 50 * "a"
    widget.set_state({"_request": {"id": 1, "n": 1, "voter": voter, "choices": ["neither"], "stopped": False}})
    assert cast[0].voter == ("[2J Ada" + 50 * "a")[:40]
    assert cast[0].choices == ("neither",)
    assert widget.told == Told("", None, "", [])
    widget.set_state({"_request": {"id": 2, "n": 1, "voter": voter, "choices": ["neither"], "stopped": True}})
    assert len(cast) == 1, "the end comes once"


def test_nothing_comes_from_elsewhere():
    assert "http" not in Blind._esm + Blind._css
