"""The front: domination by definition, what errors change, who reaches the reference, and the picture."""

import io
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lessons_src import measurements, pareto
from lessons_src.pareto import REFERENCE, band, dominates, draw, find, front, reaching

FLOOR = 0.8


def row(nfe, frechet, error=0.1, solver="A"):
    return {"solver": solver, "nfe": nfe, "frechet": frechet, "standard error": error, "floor": FLOOR}


rows = st.lists(
    st.builds(row, st.integers(4, 9), st.sampled_from([0.5, 0.75, 1.0, 1.25, 2.0]), st.sampled_from([0.1, 0.3])),
    min_size=1,
    max_size=12,
)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (row(5, 1.0), row(6, 1.2), True),
        (row(5, 1.0), row(5, 1.2), True),
        (row(5, 1.0), row(6, 1.0), True),  # as good, and cheaper
        (row(5, 1.0), row(5, 1.0), False),
        (row(6, 1.0), row(5, 1.2), False),  # better, but dearer
        (row(5, 1.2), row(6, 1.0), False),
    ],
)
def test_domination(a, b, expected):
    assert dominates(a, b) is expected


def test_errors_count_as_those_of_a_difference():
    """0.3 and 0.4 make 0.5: a gap of 1 is two of them."""
    good, poor = row(5, 1.0, 0.3), row(5, 2.0, 0.4)
    assert dominates(good, poor, 1.99)
    assert not dominates(good, poor, 2.0)


@given(rows, st.sampled_from([0.0, 1.0, 1.96]))
def test_front_is_what_nobody_dominates(rows, z):
    best = front(rows, z)
    assert best
    assert [r["nfe"] for r in best] == sorted(r["nfe"] for r in best)
    for r in rows:
        assert (r in best) is not any(dominates(other, r, z) for other in rows)


@given(rows)
def test_a_front_falls_and_grows_with_doubt(rows):
    best = front(rows)
    assert all(b["frechet"] < a["frechet"] for a, b in pairwise(best) if b["nfe"] > a["nfe"])
    assert all(r in front(rows, 1.96) for r in best)


def test_band():
    assert band(row(5, 1.0, 0.1)) == pytest.approx((0.804, 1.196))


def test_reaching_takes_each_solvers_cheapest_that_is_not_worse_beyond_doubt():
    """The errors of both count: 0.3 and 0.4 make 0.5, and 0.98 is what they may differ by."""
    reference = row(1000, 1.0, 0.3, "R")
    others = [(20, 1.1, 0.4, "B"), (10, 1.97, 0.4, "B"), (5, 1.99, 0.4, "B"), (8, 0.1, 0.0, "C"), (30, 1.6, 0.0, "D")]
    found = reaching([*(row(*other) for other in others), reference], reference)
    assert [(r["solver"], r["nfe"]) for r in found] == [("C", 8), ("B", 10), ("R", 1000)]


def test_find():
    assert find([row(5, 1.0), row(6, 2.0)], "A", 6) == row(6, 2.0)
    for solver, nfe in (("B", 5), ("A", 7)):
        with pytest.raises(ValueError, match=rf"solver, nfe is \('{solver}', {nfe}\)"):
            find([row(5, 1.0)], solver, nfe)


def test_doubt_is_not_negative():
    with pytest.raises(ValueError, match="z is -1"):
        dominates(row(5, 1.0), row(6, 1.0), -1)


def marks(axis, name):
    """(evaluations, distance, hollow) of every mark of a solver on an axis."""
    (line,) = (line for line in axis.lines if line.get_label() == name)
    return sorted(zip(line.get_xdata(), line.get_ydata(), strict=True))


def test_the_picture_shows_every_row_and_fills_the_front():
    stored = measurements.load("pareto")
    fig = draw(stored, find(stored, *REFERENCE))
    left, right = fig.axes
    for name in {r["solver"] for r in stored}:
        own = sorted((r["nfe"], r["frechet"]) for r in stored if r["solver"] == name)
        assert marks(left, name) == own
        assert [y for _, y in marks(right, name)] == [y for _, y in own]
    filled = [
        (x, y) for line in left.lines if line.get_linestyle() == "None" for x, y in zip(*line.get_data(), strict=True)
    ]
    assert sorted(filled) == sorted((r["nfe"], r["frechet"]) for r in front(stored))
    file = io.BytesIO()
    fig.savefig(file, format="png", dpi=100)
    assert len(file.getvalue()) < 100_000


def test_the_command_measures_prints_and_draws(monkeypatch, tmp_path, capsys):
    stored = [dict(row(5, 1.0, solver="DDIM")), dict(row(1000, 0.5, solver="DDPM")), dict(row(9, 2.0, solver="Heun"))]
    asked = []
    monkeypatch.setattr(measurements, "measure", asked.append)
    monkeypatch.setattr(measurements, "load", lambda name: stored)
    monkeypatch.setattr(pareto, "PICTURE", tmp_path / "pareto.png")
    pareto.main()
    assert asked == ["pareto"]
    said = capsys.readouterr().out
    front, reached = " ".join(said.split()).removeprefix("On the front: ").split(" As good as DDPM-1000: ")
    assert front == "5 DDIM 1.00 (0.80 to 1.20) 1000 DDPM 0.50 (0.30 to 0.70)"
    assert reached == "1000 DDPM 0.50 (0.30 to 0.70)"
    assert (tmp_path / "pareto.png").read_bytes().startswith(b"\x89PNG")
