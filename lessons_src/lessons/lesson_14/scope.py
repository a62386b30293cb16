"""What may be made: six categories of policy, and a test of scope in five layers.

The categories are those that the course's source documents name. The layers are the course's own: the documents name a
test in five layers and do not say which they are.
"""

from lessons_src.show import plots

CATEGORIES = {  # name: what to ask, and what the course can measure of it
    "use-case appropriateness": ("Is a generator the right answer here?", "a baseline beside it (above)"),
    "training-data IP": ("May we learn from these data?", "copies of training data ([13](13_evaluation.ipynb))"),
    "likeness and consent": ("Is somebody in it, and did they agree?", "nothing: no picture says who agreed"),
    "provenance and watermarking": ("Can people tell that it was made?", "nothing here: our digits carry no mark"),
    "prompt-injection content risks": (
        "Whose words steer it?",
        "a list of ten labels takes no orders; free text does",
    ),
    "sector-specific deployment": ("Which rules hold in this trade?", "cost and errors; the rules stand elsewhere"),
}
LAYERS = {  # layer: its question, and the categories that it covers
    "need": ("Has anything to be made?", ("use-case appropriateness",)),
    "data": ("May we learn from this?", ("training-data IP",)),
    "people": ("Who is in it, and do they agree?", ("likeness and consent",)),
    "output": ("What comes out, and can one tell?", ("provenance and watermarking", "prompt-injection content risks")),
    "operation": ("Who answers for it, and who can stop it?", ("sector-specific deployment",)),
}


def show_categories() -> None:
    """Six categories: what each asks, in which layer, and what can be measured here."""
    layer = {category: name for name, (_, covered) in LAYERS.items() for category in covered}
    plots.table(
        {
            "category": list(CATEGORIES),
            "asks": [asks for asks, _ in CATEGORIES.values()],
            "layer": [layer[name] for name in CATEGORIES],
            "this course can measure": [measured for _, measured in CATEGORIES.values()],
        }
    )
