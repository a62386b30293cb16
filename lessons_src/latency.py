"""What sampling will cost, before it is run: network evaluations counted, their time on this machine measured.

A run's time is nearly all its network's. So measure one evaluation, count those that a plan makes, multiply, and add
what the loop around them takes. Whoever promises a time promises it for one machine, one network, one batch.
"""

import statistics
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lessons_src.checks import check_choice, check_int, check_real, refuse
from lessons_src.guidance import classifier_free
from lessons_src.networks import NoisePredictor, PointMLP
from lessons_src.samplers import Counted, sample
from lessons_src.schedules import NoiseSchedule, linear, time_grid
from lessons_src.solvers import SOLVERS
from lessons_src.students import Student, few_steps

Clock = Callable[[], float]


@dataclass(frozen=True)
class Plan:
    """How samples will be drawn: a solver by name, its steps, a guidance scale, and how many samples at a time."""

    solver: str
    steps: int
    w: float = 1.0
    batch: int = 1

    def __post_init__(self) -> None:
        check_choice("solver", self.solver, SOLVERS)
        check_int("steps", self.steps, 1)
        check_real("w", self.w)
        check_int("batch", self.batch, 1)

    def run(self, net: Callable[..., Tensor], x: Tensor, schedule: NoiseSchedule) -> Tensor:
        """The samples (batch, *event) that the plan draws from start noise x, all of class 0."""
        times = time_grid(schedule, self.steps)
        return sample(SOLVERS[self.solver].run(classifier_free(net, 0, self.w), x, schedule, times))


def rehearse(plan: Plan, x: Tensor, schedule: NoiseSchedule, clock: Clock = time.perf_counter) -> tuple[int, float]:
    """How often the plan evaluates a network, and the seconds of all the rest: a run with a network that is free.

    Counted, not looked up: guidance, the solver's starting steps and the savings of the last one are in it.
    """
    _check_plan(plan)
    free = Counted(lambda x, t, condition=None: x)
    seconds = _timed(partial(plan.run, free, x, schedule), clock, x)
    return free.nfe, seconds


def calls(plan: Plan) -> int:
    """How often the plan evaluates a network."""
    return rehearse(plan, torch.zeros(1, 1), linear(max(1000, _check_plan(plan).steps)))[0]


def _check_plan(plan: Any) -> Plan:
    if not isinstance(plan, Plan):
        refuse("plan", plan, 'a Plan, as Plan("DDIM", 20)', TypeError)
    return plan


# --- The table of costs -----------------------------------------------------------------------------------------------


class Cost(NamedTuple):
    """Network evaluations of a sampler, without and with guidance, and how many times fewer than the slowest makes."""

    name: str
    calls: int
    guided: int
    speed_up: float


def cost_table(students: Sequence[int] = (1, 2)) -> list[Cost]:
    """DDPM, DDIM, DPM-Solver-2 with ten intervals, and students with their calls: what one would ship, counted.

    A midpoint is a step here, so ten intervals are 20. A student has its guidance folded in: it costs the same with it.
    """
    plans = {
        "DDPM, 1,000 steps": Plan("DDPM", 1000),
        "DDIM, 50 steps": Plan("DDIM", 50),
        "DPM-Solver-2, 10 intervals": Plan("DPM-Solver-2", 20),
    }
    counted = {name: (calls(plan), calls(Plan(plan.solver, plan.steps, 2.0))) for name, plan in plans.items()}
    for steps in students:
        counted[f"student, {steps} step{'s' * (steps > 1)}"] = (_calls_of_student(steps),) * 2
    most = max(plain for plain, _ in counted.values())
    return [Cost(name, plain, guided, most / plain) for name, (plain, guided) in counted.items()]


def _calls_of_student(steps: int) -> int:
    """Counted on a student of points, untrained: the count does not ask how good it is."""
    schedule = linear()
    student, count = Student(PointMLP(1, width=8), schedule, time_grid(schedule, steps), 2.0), 0

    def seen(*_: object) -> None:
        nonlocal count
        count += 1

    student.body.register_forward_hook(seen)
    sample(few_steps(student, torch.zeros(1, 2), 0))
    return count


def six_passes() -> tuple[int, float]:
    """Evaluations of three DDIM steps with guidance, and how many times more the thousand steps of DDPM make.

    1000 / 6 = 166.7: two orders of magnitude, where "an order of magnitude" is often said.
    """
    few = calls(Plan("DDIM", 3, 2.0))
    return few, calls(Plan("DDPM", 1000)) / few


# --- Seconds ----------------------------------------------------------------------------------------------------------


RESERVE = 0.1  # of a promise


class Estimate(NamedTuple):
    """What a plan will take: evaluations; seconds, half of the runs less; and seconds that can be promised.

    The promise takes the whole run for a slow turn, the 95th percentile of those timed: a machine that is busy for a
    tenth of a second often is so for longer. It adds RESERVE, as far as a prediction may be off on a quiet machine. It
    holds while the machine stays as busy as it was.
    """

    calls: int
    seconds: float
    promise: float


@dataclass(frozen=True)
class Speed:
    """Timed evaluations of one network on this machine: batch -> mean seconds of each turn. `measure` makes it."""

    net: NoisePredictor
    timed: dict[int, list[float]]
    clock: Clock

    def seconds(self, batch: int, quantile: float = 0.5) -> float:
        """Seconds of one evaluation at a quantile of the turns; between two batches on the straight line.

        Raises ValueError outside the batches that were measured.
        """
        check_real("quantile", quantile, 0, 1)
        sizes = sorted(self.timed)
        check_int("batch", batch, sizes[0], sizes[-1])
        i = bisect_left(sizes, batch)
        above = _quantile(self.timed[sizes[i]], quantile)
        if sizes[i] == batch:
            return above
        below, share = _quantile(self.timed[sizes[i - 1]], quantile), (batch - sizes[i - 1]) / (sizes[i] - sizes[i - 1])
        return below + share * (above - below)

    def predict(self, plan: Plan) -> Estimate:
        """What the plan will take with this network: evaluations x seconds of one, and the loop, rehearsed."""
        x = _noise(self.net, _check_plan(plan).batch)
        rehearsals = [rehearse(plan, x, self.net.schedule, self.clock) for _ in range(3)]
        count, loop = rehearsals[0][0], statistics.median(seconds for _, seconds in rehearsals)
        middle, slow = (count * self.seconds(plan.batch, q) + loop for q in (0.5, 0.95))
        return Estimate(count, middle, (1 + RESERVE) * slow)

    def check(self, plan: Plan, runs: int = 5) -> "Check":
        """Predict, then run the plan `runs` times and see."""
        check_int("runs", runs, 1)
        x, predicted = _noise(self.net, _check_plan(plan).batch), self.predict(plan)
        work = partial(plan.run, self.net, x, self.net.schedule)
        return Check(predicted, [_timed(work, self.clock, x) for _ in range(runs)])


class Check(NamedTuple):
    """A prediction, and the seconds that runs took."""

    predicted: Estimate
    taken: list[float]

    @property
    def error(self) -> float:
        """How much longer the run in the middle took than predicted, as a share: 0.1 is ten per cent."""
        return statistics.median(self.taken) / self.predicted.seconds - 1

    @property
    def kept(self) -> float:
        """The share of runs that took no longer than the promise."""
        return statistics.fmean(seconds <= self.predicted.promise for seconds in self.taken)


@torch.no_grad()
def measure(
    net: NoisePredictor,
    batches: Sequence[int] = (1, 4, 16, 64),
    turns: int = 10,
    least: float = 0.1,
    warm_up: int = 2,
    clock: Clock = time.perf_counter,
) -> Speed:
    """Time evaluations of a network: every batch size gets `turns` turns of at least `least` seconds.

    A turn counts as its mean, because a run is a sum too: where others use the machine, most short evaluations pass
    undisturbed, and a few wait long. Batch sizes take turns, so that what disturbs disturbs all alike. A turn begins
    with `warm_up` evaluations that do not count: in a sampler too all but the first find caches filled by the one
    before. clock is what a user waits for; time.process_time, what this process worked, repeats itself better. Raises
    ValueError without a batch size.
    """
    check_int("turns", turns, 1)
    check_real("least", least, 0)
    check_int("warm_up", warm_up, 0)
    if not isinstance(batches, Sequence) or not batches:
        refuse("batches", batches, "one batch size or more")
    timed: dict[int, list[float]] = {check_int("batches", batch, 1): [] for batch in batches}
    for _ in range(turns):
        for batch, seconds in timed.items():
            x = _noise(net, batch)
            work = partial(net, x, torch.full((batch,), max(1, net.schedule.T // 2), device=x.device), 0)
            for _ in range(warm_up):
                work()
            seconds.append(_mean(work, clock, x, least))
    return Speed(net, timed, clock)


def _mean(work: Callable[[], object], clock: Clock, x: Tensor, least: float) -> float:
    """Mean seconds of `work`, done once and again until `least` seconds are over."""
    _finish(x)
    start, times = clock(), 0
    while times == 0 or clock() - start < least:
        work()
        times += 1
    _finish(x)
    return (clock() - start) / times


def _timed(work: Callable[[], object], clock: Clock, x: Tensor) -> float:
    """Seconds of `work`; those of a GPU, which answers before it has finished, included."""
    _finish(x)
    start = clock()
    work()
    _finish(x)
    return clock() - start


def _finish(x: Tensor) -> None:
    if x.is_cuda:
        torch.cuda.synchronize(x.device)


def _noise(net: NoisePredictor, batch: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, *net.body.event, generator=generator).to(net.signal.device)


def _quantile(values: Sequence[float], q: float) -> float:
    return torch.tensor(values, dtype=torch.float64).quantile(q).item()
