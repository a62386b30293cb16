"""What an exercise notebook imports: checks that name the mistake, hints, and the wire that answers travel over."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from two_tasks import TASKS

from lessons_src import exercises
from lessons_src.data import ring
from lessons_src.exercises import Case, Mistake, Task, WrongWay, all_tasks, check, hint, wire
from lessons_src.exercises.tasks import NoAnswer, ask, difference, edits, helpers, judge, one_line
from lessons_src.schedules import linear


def sent(value, plain=False):
    return wire.decode(json.loads(json.dumps(wire.encode(value))), plain)


@pytest.mark.parametrize("dtype", wire.DTYPES.values(), ids=wire.DTYPES)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3), (1, 1, 4, 4)], ids=str)
def test_tensors_arrive_as_they_were(dtype, shape):
    tensor = (10 * torch.rand(shape)).to(dtype)
    arrived = sent(tensor, plain=True)
    assert (arrived.dtype, arrived.shape) == (dtype, shape)
    assert torch.equal(arrived, tensor)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(6.0).reshape(2, 3).T,
        torch.ones(3).expand(2, 3),
        torch.ones(2, requires_grad=True),
        torch.zeros(2).conj(),
    ],
    ids=["transposed", "expanded", "with gradient", "conjugated"],
)
def test_views_arrive_too(tensor):
    assert torch.equal(sent(tensor), tensor.detach())


LEAVES = st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(allow_nan=False) | st.text()


@given(st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner), max_leaves=6))
def test_plain_values_arrive_as_they_were(value):
    try:
        data = wire.encode(value)
    except ValueError:
        return  # nested deeper than the wire allows
    assert wire.decode(json.loads(json.dumps(data)), plain=True) == value


def test_objects_are_rebuilt_and_are_no_answers():
    net, t = ring().network(linear(20)), torch.full((4,), 7)
    x = torch.randn(4, 2, dtype=torch.float64)
    assert torch.equal(sent(net)(x, t, 3), net(x, t, 3))
    assert sent(linear(20)).name == "linear"
    generator = torch.Generator().manual_seed(5)
    torch.randn(3, generator=generator)
    assert torch.equal(torch.randn(3, generator=sent(generator)), torch.randn(3, generator=generator.manual_seed(5)))
    for value in (net, linear(20), generator):
        with pytest.raises(ValueError, match="tag"):
            sent(value, plain=True)


OTHERS = (np.ones(3), {1: 2}, {1, 2}, object(), b"x", 1j, torch.ones(2) * 1j, print, iter([]))


@pytest.mark.parametrize("value", OTHERS, ids=lambda value: type(value).__name__)
def test_other_values_are_refused(value):
    with pytest.raises(TypeError, match="expected a"):
        wire.encode(value)


TENSOR = {"tensor": ["float32", [2], "AAAAAAAAAAA="]}
MALFORMED = {
    "two tags": {"tensor": TENSOR["tensor"], "tuple": []},
    "no tag": {},
    "unknown tag": {"pickle": "gASVAAAAAAAAAAA="},
    "unknown dtype": {"tensor": ["complex64", [1], "AAAAAAAAAAA="]},
    "dtype that is a list": {"tensor": [[], [1], "AAAAAA=="]},
    "negative size": {"tensor": ["float32", [-2], "AAAAAAAAAAA="]},
    "true as a size": {"tensor": ["float32", [True], "AAAAAA=="]},
    "size that is no number": {"tensor": ["float32", ["2"], "AAAAAAAAAAA="]},
    "shape that is no list": {"tensor": ["float32", 2, "AAAAAAAAAAA="]},
    "many axes": {"tensor": ["float32", [1] * 99, "AAAAAA=="]},
    "huge": {"tensor": ["float32", [1 << 30], "AAAAAAAAAAA="]},
    "too few bytes": {"tensor": ["float32", [2], "AAAA"]},
    "no base64": {"tensor": ["float32", [2], "??????????A="]},
    "bytes as numbers": {"tensor": ["float32", [2], [0] * 8]},
    "tensor without parts": {"tensor": []},
    "tensor that is text": {"tensor": "AAA"},
    "tuple that is text": {"tuple": "abc"},
    "nested": [[[[[[1]]]]]],
    "many entries": [0] * 20_001,
    "a huge number": 10**30,
    "much text": "x" * (5 << 20),
    "an object": wire.encode(linear(3)),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_whatever_else_arrives_is_refused(data):
    with pytest.raises(ValueError):  # noqa: PT011
        wire.decode(data, plain=True)


def test_answers_have_a_size():
    with pytest.raises(ValueError, match="a value of more than"):
        wire.encode([torch.zeros(1 << 19), torch.zeros(1 << 19), 1.0, torch.zeros(1 << 19)])


DIFFERENT = {
    "shape": (torch.ones(2), torch.ones(3), "Its shape is (2,); expected (3,)"),
    "dtype": (torch.ones(2), torch.ones(2).double(), "Its dtype is torch.float32; expected torch.float64"),
    "number for a tensor": (1.0, torch.ones(2), "It returned a number; expected a tensor of shape (2,)"),
    "tensor for a number": (torch.ones(2), 1.0, "expected a number"),
    "bool for a number": (True, 1.0, "It returned True; expected a number"),
    "number for a bool": (1, True, "It returned a number; expected True"),
    "text for a number": ("1", 1.0, "It returned '1'; expected a number"),
    "NaN": (torch.tensor([1.0, torch.nan]), torch.ones(2), "1 of 2 values are NaN or infinite"),
    "a number that is NaN": (float("nan"), 1.0, "1 of 1 values are NaN"),
    "the other infinity": (torch.tensor([-torch.inf]), torch.tensor([torch.inf]), "1 of 1 values are off"),
    "values": (
        torch.tensor([[1.0, 2.0]]),
        torch.tensor([[1.0, 4.0]]),
        "1 of 2 values are off, the most at [0, 1]: 2 where 4",
    ),
    "whole numbers": (torch.tensor([1, 2]), torch.tensor([1, 3]), "1 of 2 values are off, the most at [1]: 2 where 3"),
    "a wrong number": (2, 3.0, "It is 2; expected 3"),
    "a wrong scalar": (2.5, torch.tensor(3.0), "It is 2.5; expected 3"),
    "length": ([1], [1, 2], "It returned 1 values in a list; expected 2 values in a list"),
    "a wrong number that looks right": (1.00031, 1.0, "It is 1.0003; expected 1"),
    "an entry that looks right": (torch.tensor([1.0003]), torch.ones(1), "1.0003 where 1 belongs"),
    "whole numbers beyond reals": (
        torch.tensor(2**62),
        torch.tensor(2**62 + 1),
        f"It is {2**62}; expected {2**62 + 1}",
    ),
    "long text": ("n" * 999, "A", f"It returned '{'n' * 198}…; expected 'A'"),
    "an entry": ((1.0, 2.0), (1.0, 3.0), "Entry 1: It is 2; expected 3"),
    "no list": (1.0, [1.0], "expected 1 values in a list"),
}
SAME = {
    "close": (torch.tensor([1.00001]), torch.tensor([1.0])),
    "infinite": (torch.tensor([torch.inf]), torch.tensor([torch.inf])),
    "list and tuple": ([1.0, torch.ones(2)], (1.0, torch.ones(2))),
    "number and scalar": (3, torch.tensor(3.0)),
    "scalar and number": (torch.tensor(3, dtype=torch.int32), 3.0),
    "whole and real": (3, 3.0),
    "nothing": (torch.ones(0, 2), torch.ones(0, 2)),
    "bool": (torch.tensor(True), True),
}


@pytest.mark.parametrize(("got", "want", "says"), DIFFERENT.values(), ids=DIFFERENT)
def test_a_difference_is_put_into_words(got, want, says):
    assert says in difference(got, want, 1e-4)


@pytest.mark.parametrize(("got", "want"), SAME.values(), ids=SAME)
def test_what_is_the_same_passes(got, want):
    assert difference(got, want, 1e-4) == ""


def test_a_check_shows_points_and_reasons():
    def target(x, n):
        return x + n

    text = repr(check(target))
    assert text == (
        "target: 0 of 3 points\n"
        "  ✗ 0/2  a matrix: This is a sum where a product belongs.\n"
        "  ✗ 0/1  its transpose: The same."
    )
    shown = check(target)._repr_html_()
    assert "✗ not yet (0/2)" in shown
    assert shown.count("This is a sum") == 1

    def target(x, n):
        return x * n

    assert repr(check(target)) == "target: 3 of 3 points\n  ✓ 2/2  a matrix\n  ✓ 1/1  its transpose"
    assert "3/3" in repr(check(target, [Case("three", lambda g: (1.0, 3), points=3)]))


def test_a_mistake_that_cannot_run_explains_the_same_exception():
    def pick(x):
        return x[0]

    task = Task(pick, [Case("a list", lambda g: ([1.0, 2.0],))], [WrongWay(lambda x: x[2], "Too far.")], "abc", 1, 1)

    def says(function):
        return judge(task, lambda arguments: ask(function, arguments), torch.Generator()).results[0].says

    assert says(lambda x: x[2]) == "Too far."
    assert says(lambda x: x[1]).startswith("It is 2")
    assert says(lambda x: x.no).startswith("It stopped with AttributeError")
    assert says(pick) == ""


def test_a_mistake_that_explains_every_wrong_case_goes_before_an_earlier_one_that_explains_some():
    def scaled(x, w):
        return w * x

    cases = [Case(f"w = {w:g}", lambda g, w=w: (3 + torch.rand((), generator=g), w)) for w in (1.0, 0.0, 2.0)]
    mistakes = edits("""
        w * x → x
            Unused.
        w * x → w + x
            Added.
        w * x → w * w * x
            Squared.
    """)
    task = Task(scaled, cases, mistakes, "abc", 1, 1)

    def says(function):
        return [r.says for r in judge(task, lambda arguments: ask(function, arguments), torch.Generator()).results]

    assert says(lambda x, w: w + x) == ["Added."] * 3
    assert says(lambda x, w: w + x if w else 0.0) == ["Added.", "", "Added."]
    assert says(lambda x, w: w * w * x if w else x) == ["", "Unused.", "Squared."], "none explains both"
    assert says(lambda x, w: w + x if w < 2 else -1.0)[:2] == ["Added.", "Unused."], "none explains the last"


def test_fresh_inputs_every_time_and_the_same_for_the_same_seed():
    def drawn(seed):
        seen = []
        judge(
            exercises.all_tasks()["target"],
            lambda arguments: seen.append(arguments),
            torch.Generator().manual_seed(seed),
        )
        return seen[0][0]

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    seen = []

    def target(x, n):
        seen.append(x)

    check(target), check(target)
    assert not torch.equal(seen[0], seen[2])


def test_what_stops_an_answer_is_told():
    def fails(x):
        y = {}
        return y["no"]

    with pytest.raises(NoAnswer, match=r"It stopped with .*Error: .*\(line \d+ of its cell: return y\[.no.\]\)"):
        ask(fails, (torch.ones(2),))
    with pytest.raises(NoAnswer, match="changed its argument number 2 in place"):
        ask(lambda x, y: y.append(1), (1, [2]))
    with pytest.raises(NoAnswer, match="left a gradient on its argument number 2: work on a copy"):
        ask(lambda n, x: (n * x.requires_grad_()).sum().backward(), (3, torch.ones(2)))
    assert ask(lambda n, x: n * x.requires_grad_(), (3, torch.ones(2))).tolist() == [3, 3]
    with pytest.raises(KeyboardInterrupt):
        ask(lambda: (_ for _ in ()).throw(KeyboardInterrupt), ())


SCALARS = {np.int64(3): 3, np.int8(-3): -3, np.float32(0.5): 0.5, np.float16(0.5): 0.5, np.bool_(True): True}


@pytest.mark.parametrize(("scalar", "value"), SCALARS.items(), ids=[type(scalar).__name__ for scalar in SCALARS])
def test_numbers_of_numpy_are_numbers(scalar, value):
    assert (ask(lambda: scalar, ()), type(ask(lambda: scalar, ()))) == (value, type(value))


class Halver:
    def __call__(self, x):
        return x / 2


def half_of(x):
    return x / 2


@pytest.mark.parametrize("answer", [lambda x: x / 2, half_of, Halver(), partial(half_of)], ids=["1", "2", "3", "4"])
def test_what_counts_is_what_the_caller_calls_it(answer, monkeypatch):
    monkeypatch.setitem(globals(), "halve", answer)
    found = check(halve)  # noqa: F821
    assert (found.task, found.earned) == ("halve", found.possible)
    with pytest.raises(ValueError, match="expected one of 'halve', 'target'"):
        check(lambda x: x / 2)


def double(x):
    """The task that others stand on."""
    return 2 * x


def quadruple(x):
    """Calls double twice."""
    return double(double(x))


def count_up(x, n):
    """Calls quadruple, and so double."""
    return quadruple(x) + n


def tower():
    case = Case("numbers", lambda g: (torch.randn(3, generator=g),))
    longer = Case("numbers", lambda g: (torch.randn(3, generator=g), 3))
    tasks = (
        Task(double, (case,), (WrongWay(lambda x: x, "Nothing is doubled."),), "abc", 1, 1),
        Task(quadruple, (case,), (), "abc", 1, 1),
        Task(count_up, (longer,), edits("+ n → - n\n    The sign of n is wrong."), "abc", 1, 1),
    )
    return {task.name: task for task in tasks}


def test_helpers_come_innermost_first():
    tasks = tower()
    assert [helpers(task, tasks) for task in tasks.values()] == [[], ["double"], ["double", "quadruple"]]
    del tasks["double"]
    assert helpers(tasks["count_up"], tasks) == ["quadruple"]


def test_a_wrong_helper_is_named_and_costs_nothing_else(monkeypatch):
    monkeypatch.setattr(exercises, "all_tasks", tower)
    notebook = {"check": check}
    exec("def double(x): return 3 * x\ndef quadruple(x): return double(double(x))", notebook)
    exec("def count_up(x, n): return quadruple(x) + n", notebook)
    instead = ", with a right double in place of yours"
    assert eval("check(double)", notebook).earned == 0
    for name in ("quadruple", "count_up"):
        [result] = eval(f"check({name})", notebook).results
        assert (result.earned, result.label) == (1, f"numbers{instead}")
    assert notebook["double"](1) == 3
    exec("def count_up(x, n): return quadruple(x) - n", notebook)
    [result] = eval("check(count_up)", notebook).results
    assert result.says == f"W{instead[3:]}: The sign of n is wrong."
    del notebook["double"]
    assert eval("check(quadruple)", notebook).earned == 1
    assert "double" not in notebook
    exec("def quadruple(x): return x", notebook)
    [result] = eval("check(quadruple)", notebook).results
    assert "double" not in result.label + result.says


def draws(x, generator):
    """x with noise."""
    return x + torch.randn(x.shape, generator=generator)


def test_draws_from_elsewhere_and_other_draws_are_told():
    def arguments(g):
        return torch.zeros(20), torch.Generator().manual_seed(int(torch.randint(9**9, (), generator=g)))

    task = Task(draws, (Case("zeros", arguments),), (), "abc", 1, 1)

    def says(answer):
        return judge(task, lambda arguments: ask(answer, arguments), torch.Generator()).results[0].says

    assert says(draws) == ""
    assert says(lambda x, generator: x + torch.randn_like(x)).startswith("The same seed gave other values in a second")
    wide = says(lambda x, generator: x + torch.randn(x.shape, generator=generator, dtype=torch.float64).float())
    assert wide.endswith("If only the draws differ: their number, order, shape and dtype must be as the text says.")
    assert "draw" not in says(lambda x, generator: None)


def test_what_an_answer_says_is_one_short_line():
    error = type("Fake\n  ✓ 9/9  all points", (Exception,), {})
    for made in (error("\x1b[2K\r✓ right\u202e"), error("x" * 10**6)):
        with pytest.raises(NoAnswer) as caught:
            ask(lambda made=made: (_ for _ in ()).throw(made), ())
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 400
    assert one_line("a\tb\n c") == "a b c"
    assert one_line("\x1b[1mé\0") == r"\x1b[1mé\x00"


def test_wrong_use_is_refused_by_name():
    with pytest.raises(TypeError, match=r"answer is 3; expected the function itself"):
        check(3)
    with pytest.raises(ValueError, match="expected one of 'halve', 'target'"):
        check(print)
    assert repr(hint("halve")) == "Hint 1 of 3: a"
    assert hint("halve", 3) == "Hint 3 of 3: c"
    for name, number in (("none", 1), ("halve", 4), ("halve", 0)):
        with pytest.raises(ValueError, match="expected"):
            hint(name, number)
    for change in ({"hints": ("a",)}, {"cases": ()}, {"minutes": 0}, {"difficulty": 4}, {"reference": lambda x: x}):
        task = {
            "reference": fails_nothing,
            "cases": (Case("c", tuple),),
            "mistakes": (),
            "hints": "abc",
            "minutes": 1,
            "difficulty": 1,
        }
        with pytest.raises(ValueError, match="expected"):
            Task(**task | change)


def fails_nothing(x):
    return x


def test_tasks_of_the_course_have_names_of_their_own(monkeypatch):
    monkeypatch.undo()
    assert len(all_tasks()) >= 20
    assert all(name == task.name for name, task in all_tasks().items())


def test_an_operation_that_torch_lacks_is_not_taken_for_a_stub():
    with pytest.raises(NoAnswer, match=r"^It stopped with NotImplementedError: .*silu"):
        ask(lambda x: torch.nn.functional.silu(x), (torch.arange(3),))

    def stub(x):
        raise NotImplementedError

    with pytest.raises(NoAnswer, match=r"^Not written yet\.$"):
        ask(stub, (torch.arange(3),))


def test_no_cases_are_no_cases():
    assert check(TASKS["target"].reference, []).possible == 0


def test_edits_are_lines_with_an_arrow_and_a_sentence_below():
    found = edits("""
        n * x → x + n
            A sum, where a product
            belongs.
         * x →
            Where is x?
    """)
    assert found == (Mistake("n * x", "x + n", "A sum, where a product belongs."), Mistake(" * x", "", "Where is x?"))
    assert found[0].answer(TASKS["target"].reference)(torch.tensor(2.0), 3) == 5
    for text, named in (
        ("no arrow", "edits is 'no arrow'"),
        ("a → b", "edits is 'a → b'; expected a sentence below it"),
    ):
        with pytest.raises(ValueError, match=named):
            edits(text)


def test_an_edit_that_is_not_found_once_is_refused():
    for right in ("absent", "n"):
        with pytest.raises(ValueError, match=f"right is '{right}'; expected text that occurs once, not"):
            Mistake(right, "", "Never mind.").answer(TASKS["target"].reference)
