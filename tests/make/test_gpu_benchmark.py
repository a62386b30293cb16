"""The benchmark for a GPU runs from end to end, and keeps what it found when a section fails or time runs out."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu

    return gpu


def found(folder):
    return json.loads((folder / "gpu.json").read_text())["sections"]


def test_every_section_runs_and_is_written(tmp_path, gpu):
    command = [sys.executable, BENCHMARKS / "gpu.py", "--device", "cpu", "--smoke", "--out", tmp_path]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr
    sections, table = found(tmp_path), (tmp_path / "gpu.md").read_text()
    assert list(sections) == list(gpu.SECTIONS)
    for name, section in sections.items():
        assert (section["status"], section["errors"]) == ("done", []), name
        assert section["rows"], name
        assert f"\n## {name}\n" in table
    for row in sections["correctness"]["rows"]:
        assert "solver" not in row or list(row.values())[1:] == [0, 0, 0], "the CPU differs from itself"


def test_a_section_that_fails_is_recorded_and_the_next_one_runs(tmp_path, gpu, monkeypatch):
    def broken(section):
        section.add(before=1)
        raise ArithmeticError("no such luck")

    def half_broken(section):
        with section.attempt("the first half"):
            raise MemoryError("all gone")
        with section.attempt("the second half"):
            section.add(after=2)

    monkeypatch.setattr(gpu, "SECTIONS", {"broken": (broken, 5), "half": (half_broken, 5)})
    assert gpu.main(["--device", "cpu", "--smoke", "--out", str(tmp_path)]) == 1
    sections, table = found(tmp_path), (tmp_path / "gpu.md").read_text()
    assert sections["broken"]["status"] == "failed: ArithmeticError: no such luck"
    assert sections["broken"]["rows"] == [{"before": 1}]
    assert sections["half"]["status"] == "done"
    assert sections["half"]["errors"] == ["the first half: MemoryError: all gone"]
    assert sections["half"]["rows"] == [{"after": 2}]
    assert "failed: ArithmeticError" in table
    assert "| after |" in table


def test_time_runs_out_for_a_section_and_for_all(tmp_path, gpu, monkeypatch):
    def endless(section):
        while True:
            with section.attempt("more"):
                section.rows[:] = [{"kept": True}]

    monkeypatch.setattr(gpu, "SECTIONS", {"endless": (endless, 0.05), "deaf": (lambda section: forever(), 0.05)})
    monkeypatch.setattr("sections.GRACE", 0.1)
    gpu.main(["--device", "cpu", "--out", str(tmp_path)])
    assert found(tmp_path)["endless"]["status"] == "out of time before more"
    assert found(tmp_path)["endless"]["rows"] == [{"kept": True}]
    assert found(tmp_path)["deaf"]["status"] == "out of time, broken off"
    gpu.main(["--device", "cpu", "--out", str(tmp_path), "--minutes", "0"])
    assert [section["status"] for section in found(tmp_path).values()] == ["skipped: no time left"] * 2


def forever():
    while True:
        pass


def test_replays_take_the_place_of_steps(gpu, monkeypatch):
    trainer = SimpleNamespace(
        step_count=10, recipe=None, generator=None, averaged=SimpleNamespace(n_averaged=gpu.torch.tensor(10)), step=None
    )
    rates, replays = [], []

    def record(function, generator, pool):
        rates.append(trainer.step_count)
        trainer.step_count += 1  # as recording does
        return SimpleNamespace(replay=lambda: replays.append(1))

    monkeypatch.setattr("steps.record", record)
    gpu.advance(trainer, 8, "a pool")
    assert (rates, len(replays), trainer.step_count, int(trainer.averaged.n_averaged)) == ([14], 8, 18, 18)
