"""A time grid searched for one network: where should the digit network be asked, if only a few times?"""

import torch

from lessons_src import measurements, weights
from lessons_src.guidance import classifier_free
from lessons_src.samplers import EpsFn, sample
from lessons_src.schedules import NoiseSchedule, time_grid
from lessons_src.solvers import SOLVERS, optimised_grid

SOLVER = "DPM-Solver++(2M)"
SEARCHED = {4: [1000, 876, 674, 198, 0], 5: [1000, 907, 799, 619, 199, 0]}  # what `search` finds, by steps


def ten_digits(eps_fn: EpsFn, schedule: NoiseSchedule, times: list[int]) -> torch.Tensor:
    """What 2M draws from the first ten start noises with these times, (10, 1, 28, 28)."""
    return sample(SOLVERS[SOLVER].run(eps_fn, measurements.start_noise(10)[0], schedule, times))


def search(steps: int) -> list[int]:
    """Times from which 2M ends nearest to its own forty steps on ten digits, from equal steps of t; some seconds."""
    net, _ = weights.load("digits")
    noise, label = measurements.start_noise(10)
    eps_fn, schedule = classifier_free(net, label, 1.0), net.schedule
    goal = ten_digits(eps_fn, schedule, time_grid(schedule, 40, "quadratic"))
    return optimised_grid(SOLVERS[SOLVER].run, eps_fn, noise, schedule, time_grid(schedule, steps), goal)
