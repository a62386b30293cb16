"""Students on the ring, whose teacher is the exact oracle: all that they do wrong they have learned wrong.

`distil` trains one in seconds; `scores` compares what it draws with the ends of the exact flow from the same noise, and
with the law. The measurement "ring" holds five seeds of every method.
"""

import copy
from typing import Any

import torch
from torch import Tensor

from lessons_src import data
from lessons_src.checks import check_choice, check_int, check_like
from lessons_src.distillation import Consistency, DistributionMatching, Progressive, Regression, Trajectories
from lessons_src.losses import Denoising, Samples
from lessons_src.metrics import sliced_distance
from lessons_src.networks import NoisePredictor, PointMLP
from lessons_src.samplers import sample
from lessons_src.schedules import make_schedule, time_grid
from lessons_src.solvers import SOLVERS, optimised_grid, unipc
from lessons_src.students import Student, consistency, few_steps
from lessons_src.training import Batches, Loss, Recipe, Trainer, train

RING, SCHEDULE = data.ring(), make_schedule("cosine")
ORACLE = RING.network(SCHEDULE)
STEPS = 1200  # gradient steps of a method, all stages together
BATCH = 256
PAIRS = 20_000
WALK = 100  # calls of the oracle on the way to an exact end
JUDGED = 10_000
LONGER = "pairs, longer"  # five times the steps, three times the pairs, a slower average: half a minute
METHODS = ("pairs", "progressive", "consistency", "consistency training", "matching")
SEARCHED = ("DDIM", "UniPC-2")  # solvers on the oracle, beside the students
EXPLORED, EXPLORED_SEED = 500, 5  # the points of the explorer
EXPLORED_METHODS = METHODS[:3]

Scores = dict[str, float]


def start(n: int = JUDGED, seed: int = 99) -> Tensor:
    """The noise (n, 2), float64, that students are judged with."""
    return torch.randn(check_int("n", n, 1), 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def flow(noise: Tensor, steps: int = WALK) -> Tensor:
    """Where the exact flow ends from noise (n, 2), by UniPC-3 on the oracle: to 0.004 in the mean."""
    return sample(unipc(ORACLE, noise, SCHEDULE, time_grid(SCHEDULE, steps), 3))


def new_network(seed: int) -> NoisePredictor:
    """An untrained network for points without labels, which predicts v."""
    torch.manual_seed(seed)
    return NoisePredictor(PointMLP(), SCHEDULE, "v")


def points(seed: int) -> Samples:
    """Points of the ring: what methods learn from that need data."""
    return Samples(RING.sample(PAIRS, torch.Generator().manual_seed(seed))[0].float())


def pairs(seed: int, n: int | None = None) -> Trajectories:
    """n noises, PAIRS if not said, and their exact ends."""
    noise = start(PAIRS if n is None else n, 1000 + seed)
    return Trajectories(torch.stack([noise, flow(noise)]).float(), [SCHEDULE.T, 0])


def fit(
    net: NoisePredictor, loss: Loss, batches: Batches, steps: int, rate: float, seed: int, ema: float = 0.99
) -> NoisePredictor:
    """A copy of a network, trained."""
    recipe = Recipe(steps, BATCH, rate, warmup=min(30, steps), ema=ema, seed=seed)
    return train(Trainer(copy.deepcopy(net), loss, batches, recipe))


def distil(method: str, seed: int = 0, steps: int = STEPS) -> dict[int, Student]:
    """Students by number of calls, after `steps` gradient steps of a method; those of consistency have one grid each.

    Progressive distillation halves 16 steps four times. Consistency has half its steps at 8 times, half at 16. Matching
    goes on from the pair student for a quarter of the steps, with a fake network that has first learned the ring.
    """
    check_choice("method", method, (*METHODS, LONGER))
    net, T = new_network(seed), SCHEDULE.T
    if method == "pairs":
        return {1: as_student(fit(net, Regression(), pairs(seed), steps, 2e-3, seed), [T, 0])}
    if method == LONGER:
        longer = fit(net, Regression(), pairs(seed, 3 * PAIRS), 5 * steps, 2e-3, seed, 0.998)
        return {1: as_student(longer, [T, 0])}
    if method == "progressive":
        found, teacher, batches = {}, ORACLE, points(seed)
        for n in (16, 8, 4, 2):
            loss = Progressive(teacher, time_grid(SCHEDULE, n))
            net = teacher = fit(net, loss, batches, steps // 4, 2e-3, seed)
            found[n // 2] = as_student(net, loss.grid)
        return found
    if method == "matching":
        return {1: match(distil("pairs", seed, steps)[1], seed, steps)}
    teacher, batches = ORACLE if method == "consistency" else None, points(seed)
    for n in (8, 16):
        net = fit(net, Consistency(time_grid(SCHEDULE, n), teacher), batches, steps // 2, 1e-3, seed)
    return {n: as_student(net, time_grid(SCHEDULE, n)) for n in (1, 2, 4)}


def match(student: Student, seed: int, steps: int, warm: bool = True) -> Student:
    """Distribution matching from a one-step student; without `warm`, from a network that has learned nothing."""
    fake = fit(new_network(seed), Denoising(), points(seed), steps // 2, 2e-3, seed)
    loss = DistributionMatching(ORACLE, fake, student.times, regression=1.0 if warm else 0.0, rate=1e-3)
    return as_student(fit(student, loss, pairs(seed), steps // 4, 5e-4, seed), student.times)


def as_student(net: NoisePredictor, times: list[int]) -> Student:
    """A trained network as the student of a grid."""
    return Student(net.body, SCHEDULE, times).eval()


def draw(student: Student, noise: Tensor) -> Tensor:
    """Points (n, 2) along the student's own grid."""
    return sample(few_steps(student, noise.float())).double()


def renoised(student: Student, noise: Tensor, seed: int = 0) -> Tensor:
    """Points (n, 2) by multistep consistency sampling, fresh noise between the jumps."""
    generator = torch.Generator().manual_seed(seed)
    return sample(consistency(student, noise.float(), student.times, generator=generator)).double()


def searched_grid(calls: int, solver: str = "UniPC-2") -> list[int]:
    """Times from which a solver on the oracle ends nearest to the flow in so few calls, searched on other noise."""
    noise = start(500, 98)
    return optimised_grid(
        SOLVERS[check_choice("solver", solver, SOLVERS)].run,
        ORACLE,
        noise,
        SCHEDULE,
        time_grid(SCHEDULE, calls),
        flow(noise),
    )


def solved(solver: str, noise: Tensor, times: list[int]) -> Tensor:
    """Points (n, 2) by a solver on the oracle."""
    return sample(SOLVERS[check_choice("solver", solver, SOLVERS)].run(ORACLE, noise, SCHEDULE, times))


def scores(x: Tensor, ends: Tensor) -> Scores:
    """Points x (n, 2) against the exact ends (n, 2) from their noises, and against fresh points of the ring.

    `gap` is the mean distance to the own end, `same mode` how often the nearest mode is that of the end; `stray` the
    share more than three standard deviations from every mode (1.1 % of the ring itself); `sliced` the sliced distance
    to as many points of the ring, averaged over five sets (`floor`: that of the ends).
    """
    check_like("ends", ends, "x", x)
    nearest, own = torch.cdist(x, RING.means), torch.cdist(ends, RING.means).argmin(1)
    std = RING.covariances[0, 0, 0].sqrt()
    fresh = [RING.sample(len(x), torch.Generator().manual_seed(500 + k))[0] for k in range(5)]

    def sliced(points: Tensor) -> float:
        return sum(sliced_distance(points, real) for real in fresh) / len(fresh)

    return {
        "gap": (x - ends).norm(dim=1).mean().item(),
        "same mode": (nearest.argmin(1) == own).double().mean().item(),
        "stray": (nearest.min(1).values > 3 * std).double().mean().item(),
        "sliced": sliced(x),
        "floor": sliced(ends),
    }


def measured(method: str, seed: int) -> dict[str, Any]:
    """Scores of a method's students by calls; of consistency both ways to sample, re-noised and along DDIM's steps.

    method may also be "DDIM" or "UniPC-2", on the oracle with its best searched grid, which knows no seed.
    """
    noise = start()
    ends, found = flow(noise), {}
    if method in SEARCHED:
        grids = {calls: searched_grid(calls, method) for calls in (1, 2, 3, 4)}
        found = {str(calls): scores(solved(method, noise, times), ends) for calls, times in grids.items()}
        return {"n": len(noise), "grids": grids, "by calls": found}
    for calls, student in distil(method, seed).items():
        found[str(calls)] = scores(draw(student, noise), ends)
        if method.startswith("consistency") and calls > 1:
            found[f"{calls} re-noised"] = scores(renoised(student, noise), ends)
    return {
        "n": len(noise),
        "steps": STEPS * (5 if method == LONGER else 1),
        "by calls": found,
    }
