"""`make pareto` measures first, says who is on the front, and draws it."""

import base64

import numpy as np

from lessons_src import measurements
from lessons_src.make import front


def row(nfe, frechet, solver):
    resampled = base64.b64encode(np.linspace(frechet - 0.1, frechet + 0.1, 50, dtype=np.float32).tobytes()).decode()
    return {"solver": solver, "nfe": nfe, "frechet": frechet, "floor": 0.4, "resampled": resampled}


def test_the_command_measures_prints_and_draws(monkeypatch, tmp_path, capsys):
    stored = [row(5, 1.0, "DDIM"), row(1000, 0.5, "DDPM"), row(9, 2.0, "Heun")]
    trained = [row(1, 1.5, "student"), row(1, 9.0, "DDIM")]
    asked = []
    monkeypatch.setattr(front, "measure", asked.append)
    monkeypatch.setattr(measurements, "load", lambda name: stored if name == "pareto" else trained)
    monkeypatch.setattr(front, "PICTURE", tmp_path / "front.png")
    front.main()
    assert asked == ["pareto", "students"]
    said = capsys.readouterr().out
    best, others = " ".join(said.split()).removeprefix("On the front: ").split(" Students: ")
    student, reached = others.split(" As good as DDPM-1000: ")
    assert student == "1 student 1.50, worse by 1.00 (1.00 to 1.00)"
    assert best == "5 DDIM 1.00, worse by 0.50 (0.50 to 0.50) 1000 DDPM 0.50, worse by 0.00 (0.00 to 0.00)"
    assert reached == "1000 DDPM 0.50, worse by 0.00 (0.00 to 0.00)"
    assert (tmp_path / "front.png").read_bytes().startswith(b"\x89PNG")
