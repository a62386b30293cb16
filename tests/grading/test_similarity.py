"""Who gave the same answers: renaming hides nothing, and what everybody writes says nothing."""

import nbformat
import pytest
from two_tasks import RIGHT, SOURCE, submission

from lessons_src.grading.__main__ import main
from lessons_src.grading.course import Course
from lessons_src.grading.similarity import LIMITS, normal_form, report

ONE = '''
def step(x, noise, ab):
    """What it does."""
    scale = math.sqrt(ab)  # the root
    def helper(y):
        return torch.randn(y.shape, generator=noise)
    return [scale * helper(part) for part in x]
'''
SAME = {
    "renamed": "def step(a,n,b):\n  s=math.sqrt(b)\n  def f(q): return torch.randn(q.shape,generator=n)\n"
    "  return [s*f(generator) for generator in a]",
    "typed": ONE.replace("x, noise, ab", "x: list, noise: object, ab: float").replace("scale =", "scale: float ="),
    "in another form": ONE.replace("    scale", "\n    'a note'\n    scale").replace(
        "scale * helper(part)", "(scale*helper(part))"
    ),
}
OTHER = {
    "another attribute": ONE.replace("randn", "rand"),
    "another number": ONE.replace("scale *", "2 * scale *"),
    "names exchanged": ONE.replace("step(x, noise", "step(noise, x"),
    "another function": ONE.replace("math.sqrt", "torch.sqrt"),
}


@pytest.mark.parametrize("source", SAME.values(), ids=SAME)
def test_renaming_and_layout_hide_nothing(source):
    assert normal_form(source) == normal_form(ONE)


@pytest.mark.parametrize("source", OTHER.values(), ids=OTHER)
def test_other_code_is_another_answer(source):
    assert normal_form(source) != normal_form(ONE)


HOSTILE = (
    "(" * 9000,
    "-" * 9000 + "1",
    "x" + ".a" * 4900,
    "1" * 9000,
    "x = '\0'",
    "%%html\n<b>",
    "x" * 10**5,
    "def f(:",
)


@pytest.mark.parametrize("source", HOSTILE, ids=range(len(HOSTILE)))
def test_what_is_no_python_is_compared_by_its_words(source):
    assert normal_form(f"{source}\n") == normal_form(f"  {source} ") == " ".join(source.split())


def test_rare_answers_pair_learners_and_common_ones_do_not():
    answers = {f"s{number:02}": {"a": "common", "b": f"own {number}", "c": "solution"} for number in range(40)}
    for learner in ("s03", "s07"):
        answers[learner] |= {"a": "rare", "b": "rare too"}
    for learner in ("s05", "s06", "s07", "s08"):
        answers[learner]["a"] = "of four"
    earned = {"s03": {"a": 2.0, "b": 0.0}, "s07": {"a": 2.0, "b": 0.0}, "s05": {"a": 1.0}, "s06": {"a": 1.0}}
    head, first, *pairs = report(answers, {"c": {"solution"}}, earned).removesuffix(LIMITS).strip().splitlines()
    assert (head, first) == ("40 learners", "s03 and s07: b (0 points)")
    assert len(pairs) == 6
    assert "s05 and s06: a (1 points, 4 learners have it)" in pairs
    assert "s05 and s08: a (1 points, 4 learners have it)" in pairs
    many = report({f"s{number:03}": {"a": str(number // 2)} for number in range(100)}, {}, {})
    assert "\nand 30 pairs more\n" in many
    assert "No two learners have a rare answer in common." in report({"ann": {"a": "x"}, "bob": {"a": "y"}}, {}, {})


def test_a_report_of_a_class(tmp_path, capsys, bubblewrap):
    (tmp_path / "trial.ipynb").write_text(nbformat.writes(SOURCE))
    folder = ["--folder", str(tmp_path / "class")]
    assert main(["setup", str(tmp_path / "trial.ipynb"), *folder]) == 0
    assert main(["release", "trial", *folder]) == 0
    wrong = "def target(x, n):\n    product = x + n - 1\n    return product"
    blank = nbformat.read(tmp_path / "class" / "release" / "trial" / "trial.ipynb", as_version=4)
    for student, made in {
        "ann": submission(target=wrong),
        "bob": submission(target=wrong.replace("product", "p") + "  # mine"),
        "cid": submission(),
        "dee": submission(halve=f"# my own\n{RIGHT['halve']}"),
        "eve": blank,
        "fay": blank,
    }.items():
        (tmp_path / "class" / "inbox" / "trial" / f"{student}.ipynb").write_text(nbformat.writes(made))
    main(["collect", "trial", *folder])
    Course(tmp_path / "class").grade("trial")
    (tmp_path / "class" / "submitted" / "dee" / "trial" / "trial.ipynb").unlink()
    capsys.readouterr()
    assert main(["similar", "trial", *folder]) == 0
    said = capsys.readouterr().out
    assert said.startswith("5 learners\nann and bob: target_answer (0 points)\n\nFor your eyes, and no finding.")
    assert "lines in another order" in said
