"""Is the detection matrix of lesson 13 that of its judge, or does it hold under others?

python tests/benchmarks/detection_judges.py [NAME ...]      # judges of judge_h200, by default a1 and b0

a1 is the shipped judge's architecture from another seed, b0 another architecture; both learned from the same digits.
Fewer repetitions than are stored of the shipped judge's matrix. detection_judges.json gets the rows, and Spearman's
rank correlation of the powers of needles that look through a judge. Junk, drawn for the shipped one, is told apart.
"""

import json
import sys
from pathlib import Path

import torch
from judge_scores import read_judge
from scipy.stats import spearmanr

from lessons_src import measurements
from lessons_src.files import write_whole
from lessons_src.lessons.lesson_13 import detection
from lessons_src.lessons.lesson_13.detection import NONE, STRENGTHS, Detection, power
from lessons_src.lessons.lesson_13.faults import FAULTS
from lessons_src.lessons.lesson_13.needles import BAD

FOLDER = Path(__file__).parent
NEEDLES = [name for name in BAD if name not in ("neighbour ratio", "copying z")]  # those two see pixels


def powers(rows: list, faults: list[str]) -> list[float]:
    """Of all strengths, faults and needles."""
    return [power(rows, fault, s, name).value for fault in faults for s in STRENGTHS for name in NEEDLES]


def measure(name: str) -> list:
    """The matrix under one judge."""
    rows, found = [], Detection(read_judge(FOLDER / "judge_h200" / f"judge_{name}.safetensors"))
    for fault in (NONE, *FAULTS):
        rows.append({"fault": fault} | found.alarms(fault))
        print(name, rows[-1], flush=True)
    return rows


def compare(rows: list) -> dict:
    """The matrix under one judge beside the stored one."""
    stored = measurements.load("detection")
    drawn = [fault for fault in FAULTS if fault != "matched junk"]
    ours, theirs = powers(stored, drawn), powers(rows, drawn)
    false = [power(rows, NONE, 0, needle).value for needle in BAD]
    return {
        "rank correlation": float(spearmanr(ours, theirs).statistic),
        "largest difference": max(abs(a - b) for a, b in zip(ours, theirs, strict=True)),
        "junk at full strength, shipped judge and this": {
            needle: [power(r, "matched junk", 1, needle).value for r in (stored, rows)] for needle in NEEDLES
        },
        "false alarms, least, mean and most": [min(false), sum(false) / len(false), max(false)],
    }


def main() -> None:
    """Measure the judges that are named and not there, and compare all."""
    torch.set_num_threads(1)
    detection.SPLITS, detection.REPEATS, detection.WITHOUT = 10, 5, 25
    path = FOLDER / "detection_judges.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else {}
    for name in sys.argv[1:] or ("a1", "b0"):
        rows[name] = rows.get(name) or measure(name)
        _write(path, {"rows": rows})
    compared = {name: compare(own) for name, own in rows.items()}
    _write(path, {"compared": compared, "rows": rows})
    print(json.dumps(compared, indent=1))


def _write(path: Path, found: dict) -> None:
    write_whole(path, lambda part: part.write_text(json.dumps(found, ensure_ascii=False) + "\n"))


if __name__ == "__main__":
    main()
