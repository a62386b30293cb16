"""A final exam in a class, from the draw to the table: everybody's own numbers, one grader."""

import nbformat
import pytest

from lessons_src import exam
from lessons_src.grading.__main__ import main
from lessons_src.grading.course import Course
from lessons_src.grading.notebook import grade_id, is_answer, is_check
from lessons_src.grading.sandbox import PACKAGE, visible

NAME = "exam_autumn"


@pytest.fixture(scope="module")
def course(tmp_path_factory, bubblewrap):
    """A class of a released exam; making its gradebook takes seconds."""
    root = tmp_path_factory.mktemp("class")
    exercise = root / "trial.ipynb"
    nbformat.write(nbformat.v4.new_notebook(), exercise)
    folder = ["--folder", str(root / "class")]
    (root / "learners.txt").write_text("\ufeffada\nben\ncyd\ndan\n")  # as Windows saves it
    assert main(["setup", str(exercise), *folder]) == 0
    assert main(["exam", "autumn", *folder]) == 0
    assert main(["release", NAME, *folder]) == 0
    assert main(["handout", NAME, str(root / "learners.txt"), *folder]) == 0
    return Course(root / "class")


def edition(course, learner):
    return nbformat.read(course.root / "handout" / NAME / f"{learner}.ipynb", as_version=4)


def answered(made, solved_for):
    """A notebook with the answers that would be right for a learner."""
    solutions = {cell.id: cell.source for cell in exam.notebook("autumn", solved_for).cells}
    for cell in filter(is_answer, made.cells):
        cell.source = solutions[cell.id]
    return made


def test_a_right_exam_earns_all_and_an_empty_one_nothing(course):
    ada, cyd = answered(edition(course, "ada"), "ada"), answered(edition(course, "cyd"), "cyd")
    first = next(cell for cell in cyd.cells if is_answer(cell))
    first.source = first.source.split("    ### BEGIN")[0] + "    return 'forty-two'"
    handed_in = {"ada": ada, "ben": edition(course, "ben"), "cyd": cyd, "dan": answered(edition(course, "dan"), "ada")}
    for learner, made in handed_in.items():
        nbformat.write(made, course.root / "inbox" / NAME / f"{learner}.ipynb")
    assert course.collect(NAME) == {learner: [] for learner in handed_in}
    assert course.grade(NAME) == {}
    rows = {row["student"]: row for row in course.table(NAME)}
    assert [rows[learner]["score"] for learner in ("ada", "ben", "cyd")] == [12, 0, 11]
    assert rows["dan"]["score"] <= 3, "a neighbour's answers"
    assert {row["max"] for row in rows.values()} == {12}
    assert {row["remarks"] for row in rows.values()} == {""}
    asked = [item.name for item in exam.draw("autumn")]
    assert [column for column in rows["ada"] if column in asked] == asked
    graded = nbformat.read(course.root / "autograded" / "dan" / NAME / f"{NAME}.ipynb", as_version=4)
    own = {cell.id: cell.source for cell in exam.notebook("autumn", "dan").cells if cell.id.endswith("-text")}
    shown = [cell.source for cell in graded.cells if cell.cell_type == "markdown"]
    assert all(text in shown for text in own.values()), "feedback shows the numbers of the learner"
    assert "lesson 0" in "".join(str(cell.outputs) for cell in graded.cells if is_check(cell))


def test_what_learners_get_holds_their_numbers_and_no_key(course):
    for learner in ("ada", "ben"):
        made, own = edition(course, learner), exam.notebook("autumn", learner)
        texts = {cell.id: cell.source for cell in own.cells if cell.cell_type == "markdown"}
        assert {cell.id: cell.source for cell in made.cells if cell.cell_type == "markdown"} == texts
        assert "exam" not in made.metadata
        keys = {cell.source.split("return ")[1].split("\n")[0] for cell in own.cells if is_answer(cell)}
        code = "\n".join(cell.source for cell in made.cells if cell.cell_type == "code")
        assert not [key for key in keys if f"return {key}" in code]
        assert [grade_id(cell) for cell in made.cells if is_check(cell)] == [i.name for i in exam.draw("autumn")]


def test_a_submission_sees_nothing_of_the_bank():
    assert not [path for path in visible(PACKAGE) if "exam" in path.relative_to(PACKAGE).parts]


def test_slips_are_refused_by_name(course, capsys, tmp_path):
    folder = ["--folder", str(course.root)]
    assert main(["exam", "autumn", *folder]) == 1
    assert main(["exam", "../x", *folder]) == 1
    learners = tmp_path / "learners.txt"
    learners.write_text("ada\n../ben\n")
    assert main(["handout", NAME, str(learners), *folder]) == 1
    said = capsys.readouterr().err
    assert "seed is 'autumn'; expected a word of letters, digits, . _ - @ that no exam of this class has" in said
    assert "learner is '../ben'" in said
    nbformat.write(nbformat.v4.new_notebook(), course.root / "source" / "trial" / "trial.ipynb")
    with pytest.raises(ValueError, match="expected an exam"):
        course.hand_out("trial", ["ada"])
