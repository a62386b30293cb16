"""Which learners gave the same answers, whatever they call their variables: pairs for a person to read side by side."""

import ast
import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from itertools import combinations

# Where the syntax tree has a name that the code may have given itself.
NAMES = {ast.arg: "arg", ast.Name: "id", ast.FunctionDef: "name", ast.ExceptHandler: "name", ast.alias: "asname"}
MOST = 20  # pairs that are shown
LONG = 10_000  # characters; what is longer is compared as text
LIMITS = """\
For your eyes, and no finding. Same: equal code after names given in the answer, comments, layout, docstrings and type
hints are put aside. Not counted: an answer like the solution, or one that more than a tenth of the class gave (two
learners always count). Still, few lines leave few ways to write them, and people who learn together write alike: read
both notebooks, and ask, before you think of copying. The same *wrong* answer says more than the same right one. Who
gave and who took, or whether both have it from elsewhere, is not seen; nor is a copy with lines in another order, or
rewritten by a person or a machine."""


def normal_form(source: str) -> str:
    """The code of an answer without what a copy would change first; of no plain Python, its words.

    Names that the code binds itself are numbered in the order in which they come up. Names from elsewhere, attributes
    and constants stay.
    """
    words = " ".join(source.split())
    if len(source) > LONG:
        return words
    try:
        tree = _Bare().visit(ast.parse(source))
        named = [(node, field) for node in ast.walk(tree) if (field := NAMES.get(type(node)))]
        bound = {getattr(node, field) for node, field in named if not isinstance(getattr(node, "ctx", None), ast.Load)}
        numbers: dict[str, str] = {}
        for node, field in named:
            if (name := getattr(node, field)) in bound and name is not None:
                setattr(node, field, numbers.setdefault(name, f"_{len(numbers)}"))
        return ast.dump(tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return words


class _Bare(ast.NodeTransformer):
    """Takes type hints and docstrings away, and text that stands for itself."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        return self.generic_visit(ast.Assign([node.target], node.value, lineno=node.lineno)) if node.value else None

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if isinstance(node.value, ast.Constant) else self.generic_visit(node)


def report(
    answers: Mapping[str, Mapping[str, str]],
    aside: Mapping[str, set[str]],
    earned: Mapping[str, Mapping[str, float]],
) -> str:
    """The pairs of learners with rare answers in common, the most telling first, and what that does not say.

    answers are normal forms by learner and task, aside those that say nothing, by task; earned are points by learner
    and task, where there are some.
    """
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for learner, given in sorted(answers.items()):
        for task, form in given.items():
            if form not in aside.get(task, ()):
                groups[task, form].append(learner)
    shared: dict[tuple[str, str], list[str]] = defaultdict(list)
    weight: Counter[tuple[str, str]] = Counter()
    for (task, _), learners in groups.items():
        if 2 <= len(learners) <= max(2, len(answers) // 10):
            for pair in combinations(learners, 2):
                points = {earned[learner][task] for learner in pair if task in earned.get(learner, {})}
                said = [f"{' or '.join(f'{p:g}' for p in sorted(points))} points"] * bool(points)
                said += [f"{len(learners)} learners have it"] * (len(learners) > 2)
                shared[pair].append(f"{task} ({', '.join(said)})" if said else task)
                weight[pair] += math.log2(len(answers) / len(learners))
    lines = [f"{one} and {other}: {', '.join(shared[one, other])}" for (one, other), _ in weight.most_common(MOST)]
    if len(weight) > MOST:
        lines.append(f"and {len(weight) - MOST} pairs more")
    found = "\n".join(lines) or "No two learners have a rare answer in common."
    return f"{len(answers)} learners\n{found}\n\n{LIMITS}"
