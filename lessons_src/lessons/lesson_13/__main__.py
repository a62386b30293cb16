"""Add up the blind votes of a class: `python -m lessons_src.lessons.lesson_13 FOLDER`."""

import argparse
import sys
from pathlib import Path

from lessons_src.lessons.lesson_13.votes import left_out_lines, votes_in


def main(arguments: list[str] | None = None) -> int:
    """Print a table for each comparison; return 0, or 1 if something was left out or there is nothing to add up."""
    parser = argparse.ArgumentParser(
        prog="python -m lessons_src.lessons.lesson_13",
        description="Add up the files of votes in a folder. They are read as data, and nothing in them is run.",
    )
    parser.add_argument("folder", type=Path, help="with the files that learners handed in, or with folders of them")
    folder = parser.parse_args(arguments).folder
    try:
        sums, left_out = votes_in(folder)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    for found in sums:
        print(found, end="\n\n")
    for line in left_out_lines(left_out):
        print(line)
    if not sums:
        print("no votes found")
    return int(not sums or bool(left_out) or any(found.left_out for found in sums))


if __name__ == "__main__":
    sys.exit(main())
