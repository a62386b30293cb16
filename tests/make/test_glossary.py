"""The glossary says where a word is explained and which notebooks name a paper, and refuses what is not there."""

import tomllib

import pytest

from lessons_src.make import glossary, pages

LISTED = tomllib.loads(glossary.LIST.read_text(encoding="utf-8"))
BOOK = {
    "05": glossary.Notebook("05_ddim.ipynb", ["The loop"], "see [DDIM](https://arxiv.org/abs/2010.02502) in a loop")
}


def test_every_word_and_paper_has_its_row():
    top, words, papers = (cell.source for cell in glossary.page(pages.NOTEBOOKS).cells)
    assert words.count("\n| **") == len(LISTED["words"])
    assert papers.count("https://arxiv.org/abs/") == len(LISTED["papers"])
    assert top.startswith("# ")


def test_a_row_links_to_the_heading():
    row = {"loop": {"says": "Again and again.", "at": "05#The loop"}}
    assert "| **loop** | Again and again. | [05 · The loop](05_ddim.ipynb#The-loop) |" in glossary.words_table(
        row, BOOK
    )


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ({"at": "05#No heading"}, "at of 'loop' is '05#No heading'; expected a lesson"),
        ({"at": "99#The loop"}, "at of 'loop' is '99#The loop'"),
        ({"at": "05#The loop", "as": "circle"}, "text of 'loop' is 'circle'; expected a text that 05 has"),
    ],
)
def test_a_word_that_is_explained_nowhere_is_refused(entry, named):
    with pytest.raises(ValueError, match=named):
        glossary.words_table({"loop": {"says": ""} | entry}, BOOK)


def test_papers_are_those_that_notebooks_name():
    table = glossary.papers_table({"2010.02502": "Song"}, BOOK)
    assert "| Song | [2010.02502](https://arxiv.org/abs/2010.02502) | [05](05_ddim.ipynb) |" in table
    with pytest.raises(ValueError, match="papers named by notebooks is"):
        glossary.papers_table({}, BOOK)
    with pytest.raises(ValueError, match="expected one that a notebook names"):
        glossary.papers_table({"2010.02502": "Song", "0000.00000": "Nobody"}, BOOK)
