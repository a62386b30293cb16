"""What may be made: six categories of policy, and a test of scope in five layers.

The categories are those that the course's source documents name. The layers are the course's own: the documents name a
test in five layers and do not say which they are.
"""

from typing import NamedTuple

from lessons_src.show import plots

LAYERS = ("need", "data", "people", "output", "operation")


class Category(NamedTuple):
    """A category of policy: what it asks, in which of LAYERS it is met, and what of it the course can measure."""

    asks: str
    layer: str
    measured: str


CATEGORIES = {
    "use-case appropriateness": Category("Is a generator the right answer?", "need", "a baseline beside it, as above"),
    "training-data IP": Category(
        "May we learn from these data?", "data", "copies of training data ([13](13_evaluation.ipynb))"
    ),
    "likeness and consent": Category(
        "Is somebody in it, and did they agree?", "people", "nothing: no picture says who agreed"
    ),
    "provenance and watermarking": Category(
        "Can people tell that it was made?", "output", "nothing: our digits carry no mark"
    ),
    "prompt-injection content risks": Category(
        "Are its words only ours?", "output", "nothing: ten labels take no orders, free text does"
    ),
    "sector-specific deployment": Category(
        "Do we know the rules of this trade?", "operation", "costs and errors; the rules stand elsewhere"
    ),
}


def show_categories() -> None:
    """Six categories: what each asks, in which layer, and what can be measured here."""
    plots.table(
        {
            "category": list(CATEGORIES),
            "asks": [category.asks for category in CATEGORIES.values()],
            "layer": [category.layer for category in CATEGORIES.values()],
            "this course can measure": [category.measured for category in CATEGORIES.values()],
        }
    )
