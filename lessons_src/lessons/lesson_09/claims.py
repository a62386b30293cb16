"""Reading rules: may a sentence about a sampler be quoted, and may two of them be compared?

"DDIM needs 50 steps" says less than it seems to. A `Claim` has a place for everything such a sentence should say;
`objections` tells what it leaves out, `differences` why two claims are not about the same thing.
"""

from dataclasses import dataclass

from lessons_src.checks import check_int, check_real, refuse


@dataclass(frozen=True)
class Claim:
    """What somebody states about a sampler; None, and an empty nfe, where nothing is said.

    sampler: name and order, with eta or grid where they matter. nfe: the network evaluations at which it was measured,
    those for guidance included. model: which network. data: what its samples are compared with. metric: with the
    features it is measured in. n: samples. w: guidance scale. error: standard error of the metric. seconds: time a
    sample, which needs size, the network's parameters, and batch. Raises TypeError or ValueError for other numbers.
    """

    sampler: str | None = None
    nfe: tuple[int, ...] = ()
    model: str | None = None
    data: str | None = None
    metric: str | None = None
    n: int | None = None
    w: float | None = None
    error: float | None = None
    seconds: float | None = None
    size: int | None = None
    batch: int | None = None

    def __post_init__(self) -> None:
        for nfe in self.nfe:
            check_int("nfe", nfe, 1)
        if len(set(self.nfe)) < len(self.nfe):
            refuse("nfe", self.nfe, "every number of evaluations once")
        for name in ("n", "size", "batch"):
            if getattr(self, name) is not None:
                check_int(name, getattr(self, name), 1)
        for name in ("w", "error", "seconds"):
            if getattr(self, name) is not None:
                check_real(name, getattr(self, name), 0.0)


CURVE = 3
RULES = (  # a field, and what a claim without it leaves open
    ("sampler", "Which sampler? A number of steps means nothing without it."),
    ("nfe", "How many network evaluations? A step may cost one, two or four of them, and guidance doubles it."),
    ("model", "Which network? Sampler and network cannot be told apart by one number."),
    ("data", "Compared with which data?"),
    ("metric", "Which metric, in which features?"),
    ("n", "How many samples? Fréchet distances are too large for few of them."),
    ("w", "Which guidance scale? Quality over w is a curve."),
    ("error", "How sure? Without an error nobody can tell a difference from luck."),
)


def objections(claim: Claim) -> list[str]:
    """What a claim leaves open, in sentences; an empty list if it may be quoted."""
    said = [says for name, says in RULES if getattr(claim, name) in (None, ())]
    if 0 < len(claim.nfe) < CURVE:
        said.append(f"Only at {len(claim.nfe)} budget{'s' * (len(claim.nfe) > 1)}: show the curve, {CURVE} or more.")
    if claim.seconds is not None and None in (claim.size, claim.batch):
        said.append("A time without the size of the network and of the batch.")
    return said


def differences(a: Claim, b: Claim) -> list[str]:
    """Why the numbers of two claims must not be set side by side; an empty list if they may.

    Whoever compares samplers holds all but the sampler fixed: model, data, metric, n, w, and a common budget.
    """
    said = []
    for name in ("model", "data", "metric", "n", "w"):
        here, there = getattr(a, name), getattr(b, name)
        if None in (here, there):
            said.append(f"{name}: not stated")
        elif here != there:
            said.append(f"{name}: {here} and {there}")
    if not set(a.nfe) & set(b.nfe):
        said.append("nfe: no budget in common")
    return said
