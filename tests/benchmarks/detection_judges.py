"""Is the detection matrix of lesson 13 that of its judge, or does it hold under others?

python tests/benchmarks/detection_judges.py [NAME ...]      # by default seed1, a1 and b0

seed1 is trained as the shipped judge is, from another seed; a1 and b0 of judge_h200 are another seed of a longer
recipe, and another architecture. All learned from the same digits.
Fewer repetitions than are stored of the shipped judge's matrix. detection_judges.json gets the rows, and Spearman's
rank correlation of the powers of needles that look through a judge. Kinds of faults are told apart.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from judge_scores import read_judge
from scipy.stats import spearmanr

from lessons_src import data, measurements
from lessons_src.files import write_whole
from lessons_src.lessons.lesson_13 import detection
from lessons_src.lessons.lesson_13.detection import NONE, STRENGTHS, Detection, power
from lessons_src.lessons.lesson_13.faults import FAULTS
from lessons_src.lessons.lesson_13.needles import BAD
from lessons_src.make.weights import JUDGE, train_classifier

FOLDER = Path(__file__).parent
NEEDLES = [name for name in BAD if name not in ("captions", "neighbour ratio", "copying z")]  # eyes of their own


STRUCTURE = ("memorised copies", "a class dropped", "wrong labels", "low variety")  # every picture is a clean digit
PIXELS = ("blur", "noise")


def powers(rows: list, faults: Sequence[str]) -> list[float]:
    """Of all strengths, faults and needles."""
    return [power(rows, fault, s, name).value for fault in faults for s in STRENGTHS for name in NEEDLES]


def measure(name: str) -> list:
    """The matrix under one judge."""
    if name == "seed1":
        judge = train_classifier(*data.digits_judge(), replace(JUDGE, seed=1))
    else:
        judge = read_judge(FOLDER / "judge_h200" / f"judge_{name}.safetensors")
    rows, found = [], Detection(judge)
    for fault in (NONE, *FAULTS):
        rows.append({"fault": fault} | found.alarms(fault))
        print(name, rows[-1], flush=True)
    return rows


def compare(rows: list) -> dict:
    """The matrix under one judge beside the stored one."""
    stored = measurements.load("detection")
    false = [power(rows, NONE, 0, needle).value for needle in BAD]
    found: dict = {"false alarms, least, mean and most": [min(false), sum(false) / len(false), max(false)]}
    for faults in (STRUCTURE, PIXELS, ("matched junk",), tuple(FAULTS)):
        ours, theirs = powers(stored, faults), powers(rows, faults)
        found[", ".join(faults)] = {
            "rank correlation": float(spearmanr(ours, theirs).statistic),
            "cells on the same side of one half": sum(
                (a > 0.5) == (b > 0.5) for a, b in zip(ours, theirs, strict=True)
            ),
            "cells": len(ours),
        }
    return found


def main() -> None:
    """Measure the judges that are named and not there, and compare all."""
    torch.set_num_threads(1)
    detection.SPLITS, detection.REPEATS, detection.WITHOUT = 10, 5, 25
    path = FOLDER / "detection_judges.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else {}
    for name in sys.argv[1:] or ("seed1", "a1", "b0"):
        rows[name] = rows.get(name) or measure(name)
        _write(path, {"rows": rows})
    compared = {name: compare(own) for name, own in rows.items()}
    _write(path, {"compared": compared, "rows": rows})
    print(json.dumps(compared, indent=1))


def _write(path: Path, found: dict) -> None:
    write_whole(path, lambda part: part.write_text(json.dumps(found, ensure_ascii=False) + "\n"))


if __name__ == "__main__":
    main()
