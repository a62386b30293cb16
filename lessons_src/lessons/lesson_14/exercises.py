"""Exercises of lesson 14: seconds of a plan, a claim, another library's times, what to take, scope, bits."""

import math

import torch
from torch import Tensor

from lessons_src.exercises.inputs import normal, uniform, whole
from lessons_src.exercises.tasks import Case, Task, WrongWay, edits

LAYERS = ("need", "data", "people", "output", "operation")
LAYER_OF = {
    "use-case appropriateness": "need",
    "training-data IP": "data",
    "likeness and consent": "people",
    "provenance and watermarking": "output",
    "prompt-injection content risks": "output",
    "sector-specific deployment": "operation",
}


def plan_seconds(
    pictures: int, batch: int, calls: int, w: float, overhead: float, each: float, decoder: float, warm_up: float
) -> tuple[int, float]:
    """Network evaluations one after another, and seconds, of pictures drawn batch by batch."""
    guided = 1 if w in (0, 1) else 2
    full, rest = divmod(pictures, batch)
    rounds = full + (rest > 0)
    evaluations = rounds * calls * guided
    work = evaluations * overhead + pictures * calls * guided * each
    return evaluations, warm_up + work + pictures * decoder


def judge_claim(ours: tuple, rival: tuple, said: float) -> tuple[float, str]:
    """How many times fewer evaluations one sampler makes than another, and whether more was said."""
    counts = []
    for steps, a_step, w, folded in (ours, rival):
        if w is None:
            return 0.0, "incomplete"
        counts.append(steps * a_step * (1 if folded or w in (0, 1) else 2))
    factor = counts[1] / counts[0]
    return factor, "too good" if said > 1.05 * factor else "holds"


def library_times(T: int, steps: int, spacing: str) -> tuple[list[int], list[int]]:
    """Times of a library that counts from 0, and as this course counts them, down to 0."""
    stride = T // steps
    if spacing == "trailing":
        theirs = [T - 1 - stride * k for k in range(steps)]
    else:
        theirs = [stride * k for k in reversed(range(steps))]
    return theirs, [t + 1 for t in theirs] + [0]


def decide(one_right: bool, exists: bool, baseline: float, keeps: bool, budget: float, makers: Tensor) -> str:
    """What to take: rows of makers are calls, distance, and 1 if the same noise gives the same picture."""
    if one_right:
        return "compute"
    if exists:
        return "look up"
    calls, distance, same = makers.T
    fits = calls <= budget
    if keeps:
        fits = fits & (same == 1)
    if not fits.any():
        return "baseline"
    best = distance[fits].min()
    good = fits & (distance <= 1.1 * best)
    taken = torch.where(good, calls, math.inf).argmin().item()
    return f"maker {taken}" if distance[taken] < baseline else "baseline"


def scope_test(categories: list[str], answers: list[bool | None]) -> tuple[list[str], str]:
    """The layers that a case touches, in order, and the verdict of a test in five layers (the course's own)."""
    touched = {LAYER_OF[category] for category in categories}
    order = [layer for layer in LAYERS if layer in touched]
    for layer, answer in zip(LAYERS, answers, strict=True):
        if answer is False:
            return order, f"stop at {layer}"
    for layer, answer in zip(LAYERS, answers, strict=True):
        if answer is None and layer in touched:
            return order, f"ask at {layer}"
    return order, "go on"


def bits_per_number(log_p: Tensor, dim: int, levels: int) -> Tensor:
    """Bits for each number of pictures in [-1, 1] of so many grey levels, of a log-density in nats."""
    cell = 2 / (levels - 1)
    return -(log_p / dim + math.log(cell)) / math.log(2)


# --- Ways to go wrong


def _time_for_all(pictures, batch, calls, w, overhead, each, decoder, warm_up):
    evaluations, _ = plan_seconds(pictures, batch, calls, w, overhead, each, decoder, warm_up)
    return evaluations, warm_up + evaluations * (overhead + batch * each) + pictures * decoder


def _without_overhead_shared(pictures, batch, calls, w, overhead, each, decoder, warm_up):
    evaluations, _ = plan_seconds(pictures, batch, calls, w, overhead, each, decoder, warm_up)
    own = pictures * calls * (1 if w in (0, 1) else 2)
    return evaluations, warm_up + own * (overhead + each) + pictures * decoder


def _steps_compared(ours, rival, said):
    _, verdict = judge_claim(ours, rival, said)
    if verdict == "incomplete":
        return 0.0, verdict
    factor = rival[0] / ours[0]
    return factor, "too good" if said > 1.05 * factor else "holds"


def _exchanged(*arguments):
    found = decide(*arguments)
    return {"compute": "look up", "look up": "compute"}.get(found, found)


def _number_among_those_left(one_right, exists, baseline, keeps, budget, makers):
    left = (makers[:, 0] <= budget) & ((makers[:, 2] == 1) | (not keeps))
    return decide(one_right, exists, baseline, False, math.inf, makers[left]) if left.any() else "baseline"


def _first_doubt(categories, answers):
    touched, _ = scope_test(categories, answers)
    for layer, answer in zip(LAYERS, answers, strict=True):
        if answer is None and layer in touched:
            return touched, f"ask at {layer}"
        if answer is False:
            return touched, f"stop at {layer}"
    return touched, "go on"


def _last_word(categories, answers):
    touched, verdict = scope_test(categories, answers)[0], "go on"
    for layer, answer in zip(LAYERS, answers, strict=True):
        if answer is None and layer in touched:
            verdict = f"ask at {layer}"
        if answer is False:
            verdict = f"stop at {layer}"
    return touched, verdict


def _layer_for_each(categories, answers):
    _, verdict = scope_test(categories, answers)
    return sorted((LAYER_OF[category] for category in categories), key=LAYERS.index), verdict


def _in_order_of_the_case(categories, answers):
    _, verdict = scope_test(categories, answers)
    return list(dict.fromkeys(LAYER_OF[category] for category in categories)), verdict


def _by_probability(log_p, dim, levels):
    return -(log_p.exp() * (2 / (levels - 1)) ** dim).log2() / dim


# --- Inputs


def plan(generator: torch.Generator, w: float, rest: int = 1) -> tuple:
    """Arguments for plan_seconds: the last batch has `rest` pictures, or is full (0)."""
    batch = whole(generator, 4, 9)
    pictures = batch * whole(generator, 2, 5) + rest
    return (
        pictures, batch, whole(generator, 8, 50), w, uniform(generator, 0.01, 0.03), uniform(generator, 0.004, 0.02),
        uniform(generator, 0.1, 0.3), uniform(generator, 1.0, 3.0),
    )  # fmt: skip


def claim(generator: torch.Generator, ours: tuple, rival: tuple, more: float) -> tuple:
    """Arguments for judge_claim: (a_step, w, folded) of both, steps drawn, and what was said over what is true."""
    mine, other = ((whole(generator, *steps), *rest) for steps, *rest in (ours, rival))
    bill = [s * k * (1 if folded or w in (0, 1, None) else 2) for s, k, w, folded in (mine, other)]
    return mine, other, more * bill[1] / bill[0]


def asked_times(generator: torch.Generator, spacing: str) -> tuple[int, int, str]:
    """Arguments for library_times: steps that divide T."""
    steps = whole(generator, 4, 12)
    return steps * whole(generator, 5, 60), steps, spacing


def offered(generator: torch.Generator, one_right: bool = False, exists: bool = False, **how: bool) -> tuple:
    """Arguments for decide. One maker is good and dear, one as good and cheaper, one random, one cheap and bad.

    Between them and before all lie makers that are dear and bad: no slip in counting rows finds another's maker.
    poor: the baseline is better than all; keeps: the best cheap one is random; tight: nothing fits.
    """
    budget = uniform(generator, 40, 60)
    scale = uniform(generator, 0.8, 1.6)
    rows = torch.tensor(
        [[1000.0, 0.8, 1.0], [35.0, 1.0, 1.0], [25.0, 1.05, 1.0], [12.0, 0.97, 0.0], [5.0, 2.0, 1.0], [3.0, 3.0, 0.0]],
        dtype=torch.float64,
    )
    rows[:, 1] = rows[:, 1] * scale
    rows[:, 0] += torch.rand(len(rows), generator=generator, dtype=torch.float64)
    rows = rows[torch.randperm(len(rows), generator=generator)]
    useless = torch.tensor([200.0, 9.0, 1.0], dtype=torch.float64)
    rows = torch.cat([useless.repeat(5, 1), torch.stack([rows, useless.expand_as(rows)], 1).flatten(0, 1)])
    baseline = scale * (0.5 if how.get("poor") else uniform(generator, 3.5, 5))
    return one_right, exists, baseline, how.get("keeps", False), 2.0 if how.get("tight") else budget, rows


def case(generator: torch.Generator, answers: str) -> tuple[list[str], list[bool | None]]:
    """Arguments for scope_test. answers: a letter a layer, y, or in a layer that the case touches n or ? (open), or in
    one that it does not touch x (no) or - (open).
    """
    found = [{"y": True, "n": False, "x": False}.get(letter) for letter in answers]
    marks = dict(zip(LAYERS, answers, strict=True))
    mixed = [list(LAYER_OF)[i] for i in torch.randperm(len(LAYER_OF), generator=generator).tolist()]
    needed = [name for name in mixed if marks[LAYER_OF[name]] in "n?"]
    others = [name for name in mixed if marks[LAYER_OF[name]] == "y"][:2]
    return [name for name in mixed if name in needed + others], found


def densities(generator: torch.Generator, dim: int, levels: int) -> tuple[Tensor, int, int]:
    """Arguments for bits_per_number."""
    return dim * (uniform(generator, 0.5, 2.5) + 0.3 * normal(generator, 5)), dim, levels


DDPM = ((400, 1000), 1, 1.0, False)  # steps drawn from, evaluations a step, guidance scale, whether it is folded in

TASKS = (
    Task(
        plan_seconds,
        minutes=6,
        difficulty=2,
        cases=(
            Case("guided, the last batch is not full", lambda g: plan(g, uniform(g, 1.5, 8), whole(g, 1, 3))),
            Case("w = 1, full batches", lambda g: plan(g, 1.0, 0)),
            Case("w = 0, one picture in the last batch", lambda g: plan(g, 0.0)),
            Case("w between 0 and 1", lambda g: plan(g, uniform(g, 0.3, 0.7))),
        ),
        mistakes=(
            *edits("""
                1 if w in (0, 1) else 2 → 1
                    Guidance is forgotten: with any w other than 0 and 1, small ones too, a call is two evaluations.
                1 if w in (0, 1) else 2 → 2
                    At w = 0 and at w = 1 one of the two predictions drops out, and nobody computes it.
                full + (rest > 0) → full + 1
                    Where the pictures fill all batches, there is no batch behind the last.
                full + (rest > 0) → full
                    The last batch is missing. It is not full, and its calls come one after another all the same.
                evaluations = rounds * calls → evaluations = pictures * calls
                    You counted evaluations for each picture. A batch shares them.
                warm_up + work → rounds * warm_up + work
                    The warm-up is paid once, not with every batch.
                warm_up + work → work
                    The warm-up is missing: the first evaluation takes that much longer.
                pictures * decoder → rounds * decoder
                    The decoder's seconds are for a picture, not for a batch.
                work + pictures * decoder → work
                    The decoder is missing. It works once for each picture.
                pictures * decoder → pictures * guided * decoder
                    Guidance doubles the network's evaluations. The decoder sees one picture.
                pictures * calls * guided * each → evaluations * each
                    You charged one picture an evaluation. `each` is paid for every picture that is in it.
                calls * guided * each → calls * each
                    Guidance doubles the whole evaluation: what it costs a picture, too.
            """),
            WrongWay(_time_for_all, "You charged the last batch as if it were full. Only its own pictures cost."),
            WrongWay(
                _without_overhead_shared,
                "The overhead of a call is paid once a batch, not once a picture: that is what a batch is good for.",
            ),
        ),
        hints=(
            "Count two things: evaluations one after another, and pictures that go through each.",
            "Rounds are pictures / batch, rounded up. An evaluation costs overhead + each * (pictures in it); summed "
            "over the rounds the second part is each * pictures.",
            "`evaluations = -(-pictures // batch) * calls * guided`; seconds: `warm_up + evaluations * overhead + "
            "pictures * (calls * guided * each + decoder)`.",
        ),
    ),
    Task(
        judge_claim,
        minutes=5,
        difficulty=1,
        cases=(
            Case(
                "guided, three evaluations a step, a little rounded up",
                lambda g: claim(g, ((10, 50), 3, uniform(g, 2, 8), False), DDPM, 1.03),
            ),
            Case(
                "a student with guidance folded in, against a guided solver",
                lambda g: claim(g, ((1, 4), 1, 2.0, True), ((20, 60), 3, 2.0, False), 1.0),
            ),
            Case("too good", lambda g: claim(g, ((10, 50), 2, 0.0, False), ((400, 1000), 1, 3.0, False), 1.6)),
            Case("w between 0 and 1", lambda g: claim(g, ((10, 50), 3, uniform(g, 0.3, 0.7), False), DDPM, 0.9)),
            Case("a scale that nobody names", lambda g: claim(g, ((10, 50), 1, None, False), DDPM, uniform(g, 0.5, 2))),
        ),
        mistakes=(
            *edits("""
                steps * a_step * → steps *
                    Steps are not evaluations: a step of some solvers asks more than once.
                folded or w in (0, 1) → w in (0, 1)
                    Count each side by itself. Folded in, guidance costs nothing; otherwise a guided step asks twice.
                folded or w in (0, 1) → folded
                    Count each side by itself. At w = 0 and 1 one prediction drops out; at any other w none does.
                counts[1] / counts[0] → counts[0] / counts[1]
                    The factor is upside down: say how many times more the rival makes.
                w is None → w == "none"
                    A scale that is not named was taken for guidance. Do not guess: the claim is incomplete.
                1.05 * factor → factor
                    This refuses what is only rounded. Allow 5 %.
            """),
            WrongWay(_steps_compared, "You compared steps with steps. Compare evaluations with evaluations."),
        ),
        hints=(
            "What does one step cost each side? Only then divide.",
            "evaluations = steps * a_step * (1 if folded or w is 0 or 1, else 2). The factor: the rival's over ours.",
            '`"too good" if said > 1.05 * factor else "holds"`; and `(0.0, "incomplete")` as soon as a w is None.',
        ),
    ),
    Task(
        library_times,
        minutes=5,
        difficulty=1,
        cases=(
            Case("trailing", lambda g: asked_times(g, "trailing")),
            Case("leading", lambda g: asked_times(g, "leading")),
        ),
        mistakes=edits("""
            T - 1 - stride * k → T - stride * k
                The library counts from 0: its last time is T - 1.
            stride * k for k in reversed(range(steps)) → stride * k for k in range(steps)
                Times fall. A sampler begins with the noisiest.
            stride * k for k in reversed → stride * k + 1 for k in reversed
                This is leading with an offset of 1, as some configs have it. Here it begins to count at 0.
            reversed(range(steps)) → reversed(range(1, steps))
                The library's 0 is a noisy level like the others, and leading visits it.
            stride * k for k in reversed → stride * k - 1 for k in reversed
                Leading takes the multiples of the stride themselves, 0 among them.
            [t + 1 for t in theirs] → [t for t in theirs]
                Ours is theirs plus 1: their 0 is the first noisy level, our 0 is clean.
            [t + 1 for t in theirs] → [t - 1 for t in theirs]
                The slip goes the other way: ours is theirs plus 1.
            + [0] → + []
                Our list ends with 0, the clean picture. Theirs does not name it.
            return theirs, → return theirs + [0],
                Their list has no clean end: it names times at which the network is asked.
            spacing == "trailing" → spacing == "leading"
                The two spacings are exchanged: trailing begins at the very last level, leading one stride below.
            T // steps → (T - 1) // (steps - 1)
                That is the stride of linspace, which visits both ends.
        """),
        hints=(
            "Which of the two spacings visits pure noise? Begin the list there.",
            "stride = T // steps. Trailing: T - 1, and down by strides. Leading: multiples of the stride, from 0 up, "
            "in falling order.",
            "`[T - 1 - stride * k for k in range(steps)]`, `[stride * k for k in reversed(range(steps))]`, and ours "
            "`[t + 1 for t in theirs] + [0]`.",
        ),
    ),
    Task(
        decide,
        minutes=7,
        difficulty=2,
        cases=(
            Case("many answers are right", lambda g: offered(g)),
            Case("the same noise must give the same picture", lambda g: offered(g, keeps=True), points=2),
            Case("one answer is right", lambda g: offered(g, one_right=True)),
            Case("it exists already", lambda g: offered(g, exists=True)),
            Case("a baseline that is hard to beat", lambda g: offered(g, poor=True)),
            Case("a budget of two calls", lambda g: offered(g, tight=True)),
        ),
        mistakes=(
            *edits("""
                if one_right: → if False:
                    The first question was not asked: where one answer is right, it is computed.
                if exists: → if False:
                    The second question was not asked: what exists is looked up.
                calls <= budget → calls >= 0
                    The budget is forgotten: a maker that calls too often is no choice.
                if keeps: → if False:
                    Somebody needs the same picture from the same noise, and was given a sampler that draws fresh noise.
                distance <= 1.1 * best → distance <= best
                    This takes the best. Take the cheapest of those that are as good, within a tenth.
                torch.where(good, calls → torch.where(fits, calls
                    This takes the cheapest, however bad. Only those within a tenth of the best count.
                < baseline → < math.inf
                    The baseline was not asked: what does not beat it is not worth a network.
                return "baseline" → return "none"
                    Where no maker fits, the baseline is what is left.
                if not fits.any(): → if False:
                    Nothing fits here. Ask whether anything is left before you look for the best of it.
                distance[fits].min() → distance.min()
                    The best of all does not fit. A tenth above the best counts from the best of those that are left.
                maker {taken} → maker {taken + 1}
                    The row is one too far: rows are counted from 0.
            """),
            WrongWay(_exchanged, "Exchanged: one right answer is computed, and what exists is looked up."),
            WrongWay(
                _number_among_those_left,
                "This is its number among those left. Return the number of its row in makers.",
            ),
        ),
        hints=(
            "Five questions in the order of their cost: first those that need no network at all.",
            "Keep those within the budget, and with the same noise if that is asked. Of these, the ones within a tenth "
            "of the smallest distance; of these, the one with the fewest calls. Last: does it beat the baseline?",
            "`good = fits & (distance <= 1.1 * distance[fits].min())`, `taken = torch.where(good, calls, "
            "math.inf).argmin().item()`.",
        ),
    ),
    Task(
        scope_test,
        minutes=5,
        difficulty=1,
        cases=(
            Case("a no, and an open answer behind it", lambda g: case(g, "yyny?")),
            Case("a no behind an open answer", lambda g: case(g, "y?yny")),
            Case("a no where the case touches nothing", lambda g: case(g, "yyxyy")),
            Case("an open answer that matters", lambda g: case(g, "yyy?y")),
            Case("an open answer that does not matter", lambda g: case(g, "-yyyy")),
            Case("five times yes", lambda g: case(g, "yyyyy")),
        ),
        mistakes=(
            *edits("""
                answer is False → answer is not True
                    An open answer was taken for a no. It is a question to somebody.
                if answer is False: → if answer is False and layer in touched:
                    Any no ends the test. Only for an open answer it matters whether the case touches the layer.
                if answer is None and layer in touched → if answer is None
                    You ask where the case has nothing to ask: an open answer counts only in a layer that it touches.
                return order, f"stop at → return order, f"ask at
                    One no ends the test. There is nothing left to ask.
                [layer for layer in LAYERS if layer in touched] → list(LAYERS)
                    These are all five layers. Return those that the case touches.
                return order, "go on" → return order, "ask at operation"
                    Where nothing is open and nothing is refused, go on.
            """),
            WrongWay(_first_doubt, "You stopped at the first open answer. A no further down ends the test at once."),
            WrongWay(_last_word, "The walk goes on after its verdict, and what comes later replaces it."),
            WrongWay(_layer_for_each, "Two categories lie in one layer. Return each layer once."),
            WrongWay(
                _in_order_of_the_case, "The layers come in the order of the case. Return them in the order of the test."
            ),
        ),
        hints=(
            "Two walks through the layers: what would the first look for, and what the second?",
            "First walk: any no? Stop there. Second walk: anything open in a layer that the case touches? Ask there. "
            "Else go on.",
            '`for layer, answer in zip(LAYERS, answers): if answer is False: return order, f"stop at {layer}"`.',
        ),
    ),
    Task(
        bits_per_number,
        minutes=4,
        difficulty=1,
        cases=(
            Case("digits of 256 greys", lambda g: densities(g, 784, 256)),
            Case("16 greys", lambda g: densities(g, 16 * whole(g, 2, 8), 16)),
            Case("four greys", lambda g: densities(g, whole(g, 50, 90), 4)),
        ),
        mistakes=(
            *edits("""
                / math.log(2) → * math.log(2)
                    Divide by log 2, do not multiply: a nat is 1.44 bits.
                / math.log(2) → / 1
                    These are nats. Divide by log 2.
                log_p / dim → log_p
                    This is the bill of a whole picture. Divide its density by the numbers in it.
                -(log_p → (log_p
                    The sign: what is likely costs few bits.
                2 / (levels - 1) → 2 / levels
                    Between 256 greys from -1 to 1 there are 255 steps.
                2 / (levels - 1) → 1 / (levels - 1)
                    From -1 to 1 it is 2, not 1. That is a bit a number.
                2 / (levels - 1) → 1 / levels
                    From -1 to 1 it is 2, and between so many levels there is one step fewer.
                + math.log(cell) → - math.log(cell)
                    The cell counts the other way: probability is density times width.
                + math.log(cell) → + dim * math.log(cell)
                    The cell of one number has the width of one step. You counted it once too often for each number.
                + math.log(cell) → + 0 * cell
                    This is the price of a density. A code pays for a cell: multiply by its width.
            """),
            WrongWay(_by_probability, "So large a power overflows. Stay with logarithms until the end."),
        ),
        hints=(
            "A density is no probability. What is the probability of one grey level?",
            "Density times the width of a step, 2 / (levels - 1), for every number. Then minus log2, divided by dim.",
            "`-(log_p / dim + math.log(2 / (levels - 1))) / math.log(2)`",
        ),
    ),
)
