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

from lessons_src.checks import check_real, refuse
from lessons_src.guidance import blend, classifier_free
from lessons_src.networks import Body, NoisePredictor
from lessons_src.oracle import OracleNetwork
from lessons_src.process import as_column, noise_like, predict_x0, rotate
from lessons_src.samplers import State, steps
from lessons_src.schedules import NoiseSchedule


class Guided:
    """A network and a guidance scale as one teacher, guided(x, t, condition) -> eps.

    What learns from it has w folded in and pays one evaluation where guidance pays two (Meng et al. 2023, section 3).
    """

    def __init__(self, net: NoisePredictor | OracleNetwork, w: float) -> None:
        self.net, self.w = net, check_real("w", w)
        self.schedule, self.num_classes = net.schedule, net.num_classes

    def __call__(self, x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        """The guided noise prediction for x (B, *event) at t (B,)."""
        return classifier_free(self.net, condition, self.w)(x, t)


Teacher = NoisePredictor | OracleNetwork | Guided


class Student(NoisePredictor):
    """A network that predicts v, and only at the `times` of its grid, which fall to 0; w is the guidance folded in.

    Refuses times off its grid, as any sampler may ask for, and calls without a condition if it takes one: guidance is
    decided when a student is trained.
    """

    def __init__(self, body: Body, schedule: NoiseSchedule, times: Sequence[int], w: float = 1.0) -> None:
        super().__init__(body, schedule, "v")
        self.times = [t for t, *_ in steps(schedule, times)] + [0]
        self.w = check_real("w", w)

    def forward(self, x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        """The noise in x (B, *event) at times t (B,) of the grid."""
        if condition is None and self.num_classes:
            refuse(
                "condition", None, f"labels: w = {self.w:g} is folded into this student, which has no other guidance"
            )
        return super().forward(x, t, condition)

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

    From v without a division; an oracle is asked in double precision, in which the division does no harm.
    """
    if isinstance(net, Guided):
        if net.w in (0, 1):
            return clean(net.net, x, t, condition if net.w else None)
        return blend(clean(net.net, x, t), clean(net.net, x, t, condition), net.w)
    if isinstance(net, OracleNetwork):
        alpha_bar = net.schedule.alpha_bar[t.cpu()]
        return net.mixture.x0(x.double(), alpha_bar, condition).to(x)
    if net.prediction == "eps":
        return predict_x0(x, net(x, t, condition), net.schedule.alpha_bar[t.cpu()].to(x.device))
    signal, noise = net.level(t, x)
    v = net.output(x, t, net.body.condition(condition, len(x), x.device))
    return rotate(x, v, signal, -noise)[0]


def levels(schedule: NoiseSchedule, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """sqrt(alpha_bar) and sqrt(1 - alpha_bar) at times t (B,), 0 included, shaped to multiply x (B, *event)."""
    alpha_bar = as_column(schedule.alpha_bar.to(t.device)[t], x)
    return alpha_bar.sqrt().to(x), (1 - alpha_bar).sqrt().to(x)


def step(schedule: NoiseSchedule, x: Tensor, x0: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """DDIM's step from x at t to s (B,): x_s = a_s x0 + b_s (x - a_t x0) / b_t."""
    (a_t, b_t), (a_s, b_s) = levels(schedule, t, x), levels(schedule, s, x)
    return a_s * x0 + b_s * (x - a_t * x0) / b_t


@torch.no_grad()
def few_steps(student: Student, x: Tensor, condition: Any = None) -> Iterator[State]:
    """DDIM's steps along the student's own grid, from noise x (B, *event): one evaluation a step, no randomness."""
    for t, s in pairwise(student.times):
        t_all, s_all = (torch.full((len(x),), time, device=x.device) for time in (t, s))
        student._check(x, t_all)
        x0 = clean(student, x, t_all, condition)
        a_t, b_t = levels(student.schedule, t_all, x)
        eps = (x - a_t * x0) / b_t
        x = step(student.schedule, x, x0, t_all, s_all)
        yield State(s, x, x0, eps)


@torch.no_grad()
def consistency(
    student: Student, x: Tensor, times: Sequence[int], condition: Any = None, generator: torch.Generator | None = None
) -> Iterator[State]:
    """Multistep consistency sampling (Song et al. 2023, algorithm 1): jump to clean data, add fresh noise, jump again.

    times fall to 0 and lie on the student's grid. The noise is new at every time: with the old one the second jump
    would only repeat the first, errors included.
    """
    for t, s, _, ab_s in steps(student.schedule, times):
        student.check_time(t)
        t_all = torch.full((len(x),), t, device=x.device)
        student._check(x, t_all)
        x0 = clean(student, x, t_all, condition)
        eps = noise_like(x, generator)
        x = x0 if s == 0 else ab_s**0.5 * x0 + (1 - ab_s) ** 0.5 * eps
        yield State(s, x, x0, eps)
