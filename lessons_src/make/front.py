"""The latency-quality front of solvers and students: `make pareto` measures missing rows and draws the picture."""

from pathlib import Path

import torch

from lessons_src import measurements
from lessons_src.lessons.lesson_09.front import REFERENCE, difference, draw, find, front, reaching, students
from lessons_src.make.measurements import measure

PICTURE = Path("notebooks") / "images" / "pareto.png"


def main() -> None:
    """Measure what is missing, print the front and who is as good as DDPM's thousand evaluations, and draw it."""
    torch.set_num_threads(1)
    measure("pareto")
    measure("students")
    rows, trained = measurements.load("pareto"), students()
    reference = find(rows, *REFERENCE)
    for title, chosen in (
        ("On the front", front(rows)),
        ("Students", trained),
        ("As good as DDPM-1000", reaching(rows, reference)),
    ):
        print(f"{title}:")
        for row in chosen:
            worse = difference(row, reference)
            told = f"worse by {worse.value:.2f} ({worse.low:.2f} to {worse.high:.2f})"
            print(f"{row['nfe']:6d}  {row['solver']:20s}  {row['frechet']:.2f},  {told}")
    draw(rows, trained, reference).savefig(PICTURE, dpi=100, metadata={"Software": None})


if __name__ == "__main__":
    main()
