"""Students of few-step distillation: networks that know only the times of their own grid, and how to sample them.

A step of DDIM from x at t to s goes along x0 = clean(net, x, t) (Song, Meng & Ermon 2020, equation 12). Students
predict v, so that x0 = a x - b v with a = sqrt(alpha_bar), b = sqrt(1 - alpha_bar), and nothing is divided by a, which
is 5e-5 at the end of the cosine schedule: an error of eps there is an error of x0 20,000 times as large.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from lessons_src.checks import check_batch, check_like, check_real, refuse
from lessons_src.guidance import blend, classifier_free
from lessons_src.networks import Body, NoisePredictor
from lessons_src.oracle import OracleNetwork
from lessons_src.process import Generators, as_column, noise_like, predict_x0, rotate
from lessons_src.samplers import State, steps
from lessons_src.schedules import NoiseSchedule


class Guided:
    """A network and a guidance scale as one teacher, guided(x, t, condition) -> eps.

    What learns from it has w folded in and pays one evaluation where guidance pays two (Meng et al. 2023, section 3).
    """

    def __init__(self, net: NoisePredictor | OracleNetwork, w: float) -> None:
        if not isinstance(net, NoisePredictor | OracleNetwork):
            refuse("net", type(net).__name__, "a NoisePredictor or an OracleNetwork", TypeError)
        self.net, self.w = net, check_real("w", w)
        self.schedule, self.num_classes = net.schedule, net.num_classes
        if w not in (0, 1) and not net.num_classes:
            refuse("w", w, "0 or 1: the network takes no condition, which guidance needs")

    def __call__(self, x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        """The guided noise prediction for x (B, *event) at t (B,)."""
        self.check_condition(condition)
        return classifier_free(self.net, condition, self.w)(x, t)

    def check_condition(self, condition: Any) -> None:
        """Refuse None, unless w is 0, which asks for no condition."""
        if condition is None and self.w != 0 and self.num_classes:
            refuse("condition", None, f"labels: guidance w = {self.w:g} compares with and without")


Teacher = NoisePredictor | OracleNetwork | Guided


class Student(NoisePredictor):
    """A network that predicts v, and only at the `times` of its grid, which fall to 0; w is the guidance folded in.

    Refuses times off its grid, as any sampler may ask for, and calls without a condition if it takes one: guidance is
    decided when a student is trained.
    """

    def __init__(self, body: Body, schedule: NoiseSchedule, times: Sequence[int], w: float = 1.0) -> None:
        if not isinstance(body, Body):
            refuse("body", type(body).__name__, "a Body, such as the body of a NoisePredictor", TypeError)
        super().__init__(body, schedule, "v")
        self.times = [t for t, *_ in steps(schedule, times)] + [0]
        self.w = check_real("w", w)

    def forward(self, x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        """The noise in x (B, *event) at times t (B,) of the grid."""
        self.check_condition(condition)
        return super().forward(x, t, condition)

    def check_condition(self, condition: Any) -> None:
        """Refuse None, if this student takes a condition."""
        if condition is None and self.num_classes:
            refuse(
                "condition", None, f"labels: w = {self.w:g} is folded into this student, which has no other guidance"
            )

    def _check(self, x: Tensor, t: Tensor) -> None:
        super()._check(x, t)
        if t.device.type == "cpu":
            for time in t.unique().tolist():
                self.check_time(time)

    def check_time(self, t: int) -> None:
        """Refuse a time that the student was not trained at."""
        if t not in self.times[:-1]:
            known = ", ".join(map(str, self.times[:-1]))
            refuse("t", t, f"a time of this student's grid, which is {known}: it has learned no other")


def clean(net: Teacher, x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
    """The clean sample that a network predicts from x (B, *event) at times t (B,); gradients flow.

    From v without a division; an oracle is asked in double precision, in which the division does no harm. Times are
    those that the network knows, and 0 if it predicts v. Raises TypeError or ValueError for anything else.
    """
    check_levels(check_teacher("net", net).schedule, t, x)
    if isinstance(net, Guided):
        net.check_condition(condition)
        if net.w in (0, 1):
            return clean(net.net, x, t, condition if net.w else None)
        return blend(clean(net.net, x, t), clean(net.net, x, t, condition), net.w)
    if isinstance(net, OracleNetwork):
        alpha_bar = net.schedule.alpha_bar[t.cpu()]
        return net.mixture.x0(x.double(), alpha_bar, condition).to(x)
    if net.prediction == "eps":
        return predict_x0(x, net(x, t, condition), net.schedule.alpha_bar[t.cpu()].to(x.device))
    if x.shape[1:] != net.body.event:
        refuse("x", x, f"shape (B, {', '.join(map(str, net.body.event))})")
    if isinstance(net, Student):
        net.check_condition(condition)
        net._check(x, t)
    signal, noise = net.level(t, x)
    v = net.output(x.to(net.signal), t, net.body.condition(condition, len(x), x.device))
    return rotate(x, v, signal, -noise)[0]


def check_teacher(name: str, net: Any) -> Teacher:
    """Return `net` if it can be asked for its clean sample, else TypeError."""
    if not isinstance(net, Teacher):
        refuse(name, type(net).__name__, "a NoisePredictor, an OracleNetwork, or one of them Guided", TypeError)
    return net


def check_levels(schedule: NoiseSchedule, t: Any, x: Any) -> None:
    """Refuse all but x (B, *event) and t (B,) int64 in 0..T; on a GPU values are not looked at, which would wait."""
    B = len(check_batch("x", x))
    if not isinstance(t, Tensor) or t.dtype != torch.int64:
        refuse("t", t, f"an int64 tensor of shape ({B},)", TypeError)
    if t.shape != (B,):
        refuse("t", t, f"an int64 tensor of shape ({B},)")
    if t.device.type == "cpu" and B and not 0 <= int(t.min()) <= int(t.max()) <= schedule.T:
        refuse("t", t.tolist(), f"times from 0 to {schedule.T}")


def check_step(x: Tensor, end: Tensor, t: Tensor, s: Tensor) -> None:
    """Refuse a step that does not lead to an earlier time, and an end that is not like x."""
    check_like("x0, or end,", end, "x", x)
    if t.device.type == "cpu" and not (s < t).all():
        refuse("s", s.tolist(), f"times below t, which is {t.tolist()}")


def levels(schedule: NoiseSchedule, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """sqrt(alpha_bar) and sqrt(1 - alpha_bar) at times t (B,), 0 included, shaped to multiply x (B, *event)."""
    check_levels(schedule, t, x)
    alpha_bar = as_column(schedule.alpha_bar.to(t.device)[t], x)
    return alpha_bar.sqrt().to(x), (1 - alpha_bar).sqrt().to(x)


def step(schedule: NoiseSchedule, x: Tensor, x0: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """DDIM's step from x at t to s (B,): x_s = a_s x0 + b_s (x - a_t x0) / b_t."""
    (a_t, b_t), (a_s, b_s) = levels(schedule, t, x), levels(schedule, s, x)
    check_step(x, x0, t, s)
    return a_s * x0 + b_s * (x - a_t * x0) / b_t


@torch.no_grad()
def few_steps(student: Student, x: Tensor, condition: Any = None) -> Iterator[State]:
    """DDIM's steps along the student's own grid, from noise x (B, *event): one evaluation a step, no randomness."""
    for t, s in pairwise(_student(student).times):
        t_all, s_all = (torch.full((len(x),), time, device=x.device) for time in (t, s))
        x0 = clean(student, x, t_all, condition)
        a_t, b_t = levels(student.schedule, t_all, x)
        eps = (x - a_t * x0) / b_t
        x = step(student.schedule, x, x0, t_all, s_all)
        yield State(s, x, x0, eps)


@torch.no_grad()
def consistency(
    student: Student, x: Tensor, times: Sequence[int], condition: Any = None, generator: Generators = None
) -> Iterator[State]:
    """Multistep consistency sampling (Song et al. 2023, algorithm 1): jump to clean data, add fresh noise, jump again.

    times fall to 0 and lie on the student's grid. The noise is new at every time: with the old one the second jump
    would only repeat the first, errors included.
    """
    grid = steps(_student(student).schedule, times)
    for t, *_ in grid:
        student.check_time(t)
    for t, s, _, ab_s in grid:
        x0 = clean(student, x, torch.full((len(x),), t, device=x.device), condition)
        eps = noise_like(x, generator)
        x = x0 if s == 0 else ab_s**0.5 * x0 + (1 - ab_s) ** 0.5 * eps
        yield State(s, x, x0, eps)


def _student(student: Any) -> Student:
    if not isinstance(student, Student):
        refuse("student", type(student).__name__, "a Student", TypeError)
    return student
