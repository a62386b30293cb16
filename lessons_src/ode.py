"""Ordinary differential equations dx/dt = field(x, t), solved by the textbook methods."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from torch import Tensor

from lessons_src.checks import check_choice, check_real, refuse

Field = Callable[[Tensor, float], Tensor]
METHODS = ("euler", "heun", "rk4")


def solve(field: Field, x: Tensor, times: Sequence[float], method: str = "heun") -> Iterator[Tensor]:
    """Yield x at times[1], times[2], ... of the ODE dx/dt = field(x, t), by a method of order 1, 2 or 4.

    Costs one, two or four calls of the field a step. Only "rk4" calls it between the times.
    """
    check_choice("method", method, METHODS)
    for t, s in pairwise(positions("times", times)):
        h = s - t
        slope = field(x, t)
        if method == "heun":
            slope = (slope + field(x + h * slope, s)) / 2
        elif method == "rk4":
            k2 = field(x + h / 2 * slope, t + h / 2)
            k3 = field(x + h / 2 * k2, t + h / 2)
            slope = (slope + 2 * k2 + 2 * k3 + field(x + h * k3, s)) / 6
        x = x + h * slope
        yield x


def positions(name: str, values: Sequence[float]) -> list[float]:
    """At least two real numbers, all rising or all falling."""
    values = [check_real(name, value) for value in values]
    signs = {(s > t) - (s < t) for t, s in pairwise(values)}
    if signs not in ({1}, {-1}):
        refuse(name, values, "at least two numbers, strictly rising or strictly falling")
    return values
