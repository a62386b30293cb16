"""Few-step distillation: each method a loss for the one `Trainer`, which a network that predicts v minimises.

What the network has learned is a student of some grid of times (`students.Student`). Teachers are networks, exact
oracles, or either with guidance folded in (`students.Guided`). Nothing flows back through a teacher or a target.
"""

import copy
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from lessons_src.checks import check_batch, check_int, check_real, refuse
from lessons_src.losses import Batch, Denoising, Losses, Samples, draw_times
from lessons_src.networks import NoisePredictor
from lessons_src.optimizers import make_optimizers
from lessons_src.process import noise_like, rotate
from lessons_src.samplers import State, steps
from lessons_src.schedules import NoiseSchedule
from lessons_src.students import Teacher, check_step, check_teacher, clean, levels, step

# --- What all methods share -------------------------------------------------------------------------------------------


def v_to(schedule: NoiseSchedule, x: Tensor, end: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """The v whose DDIM step from x at t leads to `end` at s (Salimans & Ho 2022, appendix G).

    The inverse of `students.step`: x0 = (end - r x) / (a_s - r a_t) with r = b_s / b_t, and v = (a_t x - x0) / b_t.
    """
    (a_t, b_t), (a_s, b_s) = levels(schedule, t, x), levels(schedule, s, x)
    check_step(x, end, t, s)
    ratio = b_s / b_t
    x0 = (end - ratio * x) / (a_s - ratio * a_t)
    return (a_t * x - x0) / b_t


def segments(times: Sequence[int], B: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Steps t -> s (B,) of a grid, each as often as any other, spread evenly from one random offset."""
    if len(times) < 2:
        refuse("times", list(times), "at least two times")
    i = draw_times(len(times) - 1, B, generator)[0]
    grid = torch.tensor(times, device=generator.device)
    return grid[i - 1], grid[i]


def squared(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference of each of a batch, (B,)."""
    check_shape(a, b)
    return (a.float() - b.float()).square().flatten(1).mean(1)


def check_shape(a: Tensor, b: Tensor) -> None:
    """Refuse to compare what has not one shape."""
    if a.shape != b.shape:
        refuse("b", b, f"shape {tuple(a.shape)}, that of a")


def falling(times: Any) -> list[int]:
    """times as a list, refused unless they are at least two whole numbers that fall, the last at least 0."""
    try:
        whole = [check_int("times", time, 0) for time in times]
    except TypeError:
        refuse("times", times, "falling times, whole numbers", TypeError)
    if len(whole) < 2 or any(s >= t for t, s in pairwise(whole)):
        refuse("times", whole, "falling times, at least two")
    return whole


def check_student(net: Any, batches: Any = None, teacher: Teacher | None = None) -> None:
    """Refuse a network that does not predict v, samples it does not take, and a teacher of another schedule.

    So is a teacher that is the student itself, whose every step would change it.
    """
    if not isinstance(net, NoisePredictor) or net.prediction != "v":
        found = getattr(net, "prediction", type(net).__name__)
        refuse("prediction", found, "'v' of a student: at T an error of eps is 20,000 times as large in x0")
    if isinstance(batches, Trajectories):
        refuse("batches", "Trajectories", "samples of data, which are noised here")
    if isinstance(batches, Samples):
        batches.check(net.body.event, net.num_classes, net.body.condition_shape)
    if teacher is not None and not torch.equal(teacher.schedule.alpha_bar, net.schedule.alpha_bar):
        refuse("teacher", type(teacher).__name__, "a teacher of the same schedule as the student's")
    if net in (teacher, getattr(teacher, "net", None)):
        refuse("teacher", "the student itself", "another network, such as a copy: this one changes")


# --- Regression -------------------------------------------------------------------------------------------------------


class Trajectories:
    """Stored paths of a teacher: states (K + 1, N, *event) at K + 1 falling times, and their condition (N,), or None.

    A batch is (x, t, s, end, condition): a random step of random paths. Two times make pairs of noise and end.
    """

    def __init__(self, states: Tensor, times: Sequence[int], condition: Tensor | None = None) -> None:
        times = falling(times)
        if check_batch("states", states).ndim < 3 or len(states) != len(times) or not states.shape[1]:
            refuse("states", states, f"shape ({len(times)}, N, *event), a state at each time of at least one path")
        if condition is not None and (not isinstance(condition, Tensor) or len(condition) != states.shape[1]):
            refuse("condition", condition, f"a tensor, one for each of {states.shape[1]} paths, or None")
        self.states, self.times, self.condition = states, times, condition

    @classmethod
    def record(
        cls, x: Tensor, states: Iterable[State], times: Sequence[int], condition: Tensor | None = None
    ) -> "Trajectories":
        """Run a sampler from noise x and keep its states at `times`, the first of which is that of x."""
        times, found = falling(times), {state.t: state.x for state in states}
        if missing := [t for t in times[1:] if t not in found]:
            refuse("times", list(times), f"times that the sampler visits; it does not visit {missing}")
        return cls(torch.stack([x, *(found[t] for t in times[1:])]), times, condition)

    def every(self, stride: int) -> "Trajectories":
        """The same paths with every stride-th state: what a student of fewer steps learns from."""
        if (len(self.times) - 1) % check_int("stride", stride, 1):
            refuse("stride", stride, f"a divisor of {len(self.times) - 1}, the number of steps")
        return Trajectories(self.states[::stride], self.times[::stride], self.condition)

    def check(self, net: NoisePredictor) -> None:
        """Refuse a network that does not take these paths, their times or their condition."""
        if self.states.shape[2:] != net.body.event:
            refuse("states", self.states, f"shape (K + 1, N, {', '.join(map(str, net.body.event))})")
        if self.states.dtype != (dtype := next(net.parameters()).dtype):
            refuse("states", self.states, f"{dtype}, as the network's weights are", TypeError)
        if self.times[0] > net.schedule.T:
            refuse("times", self.times, f"times from 0 to {net.schedule.T}")
        if self.condition is not None and not net.num_classes:
            refuse("condition", self.condition, "None: the network takes none")
        net.body.condition(self.condition, self.states.shape[1], self.states.device)

    def __call__(self, size: int, generator: torch.Generator) -> Batch:
        """A batch of `size` steps, on the generator's device."""
        self.states = self.states.to(generator.device)
        i = torch.randint(self.states.shape[1], (size,), generator=generator, device=generator.device)
        k = torch.randint(len(self.times) - 1, (size,), generator=generator, device=generator.device)
        times = torch.tensor(self.times, device=generator.device)
        condition = None if self.condition is None else self.condition.to(i.device)[i]
        return self.states[k, i], times[k], times[k + 1], self.states[k + 1, i], condition


class Regression:
    """Learn where the teacher's path leads: squared error of v to the one whose step ends there.

    With pairs (T, 0) this is the knowledge distillation of Luhman & Luhman (2021, equation 4).
    """

    def __repr__(self) -> str:
        return "Regression()"

    def __call__(self, net: NoisePredictor, batch: Batch, generator: torch.Generator) -> Losses:
        """Compare on stored steps."""
        x, t, s, end, condition = batch
        output = net.output(x, t, net.body.condition(condition, len(x), x.device))
        return Losses(squared(output, v_to(net.schedule, x, end, t, s)))

    def check(self, net: NoisePredictor, batches: Any) -> None:
        """Refuse what is not a student and its trajectories."""
        check_student(net)
        if not isinstance(batches, Trajectories):
            refuse("batches", batches, f"Trajectories of events {net.body.event}")
        batches.check(net)


# --- Progressive distillation -----------------------------------------------------------------------------------------


class Progressive:
    """One step of the student for two of the teacher's (Salimans & Ho 2022, algorithm 2); batches are `Samples`.

    times is the teacher's grid, with an even number of steps; the student's is every second of them, `grid`. Squared
    error of v weights x0 by 1 + SNR, one of the paper's choices. Repeat with the student as the teacher of the next.
    """

    def __init__(self, teacher: Teacher, times: Sequence[int]) -> None:
        self.teacher = check_teacher("teacher", teacher)
        self.times = [t for t, *_ in steps(teacher.schedule, times)] + [0]
        if len(self.times) % 2 == 0:
            refuse("times", self.times, "an even number of steps: each of the student's replaces two")
        self.grid = self.times[::2]

    def __repr__(self) -> str:
        return f"Progressive(times={self.times})"

    def __call__(self, net: NoisePredictor, batch: Batch, generator: torch.Generator) -> Losses:
        """Noise, let the teacher take two steps, compare with one."""
        x0, condition = batch
        t, s = segments(self.grid, len(x0), generator)
        x = rotate(x0, noise_like(x0, generator), *levels(net.schedule, t, x0))[0]
        target = v_to(net.schedule, x, self.two_steps(x, t, s, condition), t, s)
        output = net.output(x, t, net.body.condition(condition, len(x), x.device))
        return Losses(squared(output, target))

    @torch.no_grad()
    def two_steps(self, x: Tensor, t: Tensor, s: Tensor, condition: Any = None) -> Tensor:
        """Where the teacher is at s after a step t -> m and a step m -> s of its grid."""
        schedule, asked = self.teacher.schedule, list(zip(t.tolist(), s.tolist(), strict=True))
        middle = dict(zip(pairwise(self.grid), self.times[1::2], strict=True))
        if unknown := set(asked) - set(middle):
            refuse("(t, s)", sorted(unknown), f"steps of the student's grid {self.grid}")
        m = torch.tensor([middle[one] for one in asked], device=t.device)
        x_m = step(schedule, x, clean(self.teacher, x, t, condition), t, m)
        return step(schedule, x_m, clean(self.teacher, x_m, m, condition), m, s)

    def check(self, net: NoisePredictor, batches: Any) -> None:
        """Refuse what is not a student of this teacher."""
        check_student(net, batches, self.teacher)


# --- Consistency ------------------------------------------------------------------------------------------------------


class Consistency:
    """Neighbours on a path have one end: f(x_t, t) = f(x_s, s), with f(x, 0) = x (Song et al. 2023, definition 1).

    With a teacher x_s is its DDIM step from x_t (consistency distillation, algorithm 2); without, x_s has the noise of
    x_t (consistency training, algorithm 3). The target is a running average of the network, renewed here, of which a
    share `decay` stays at a step; 0 is the network itself, held still (Song & Dhariwal 2023, section 3.2). The distance
    is pseudo-Huber (section 3.3). f = a x - b v is the boundary condition: a = 1 and b = 0 at time 0. Errors add up
    along the times, so train on few first, then on more. The average is no part of a checkpoint: train in one go.
    """

    def __init__(self, times: Sequence[int], teacher: Teacher | None = None, decay: float = 0.9) -> None:
        self.times, self.decay = falling(times), check_real("decay", decay, 0.0, 1.0)
        self.teacher = None if teacher is None else check_teacher("teacher", teacher)
        self.average: NoisePredictor | None = None

    def __repr__(self) -> str:
        kind = "training" if self.teacher is None else "distillation"
        return f"Consistency(times={self.times}, decay={self.decay}, {kind})"

    def __call__(self, net: NoisePredictor, batch: Batch, generator: torch.Generator) -> Losses:
        """Noise, find the neighbour, compare both ends."""
        x0, condition = batch
        t, s = segments(self.times, len(x0), generator)
        x = rotate(x0, noise_like(x0, generator), *levels(net.schedule, t, x0))[0]
        with torch.no_grad():
            towards = x0 if self.teacher is None else clean(self.teacher, x, t, condition)
            x_s = step(net.schedule, x, towards, t, s)
            target = clean(self.renewed(net), x_s, s, condition)  # x_s itself where s = 0
        return Losses(pseudo_huber(clean(net, x, t, condition), target))

    def renewed(self, net: NoisePredictor) -> NoisePredictor:
        """The average, with a share 1 - decay of the network's present weights."""
        if self.average is None:
            self.average = copy.deepcopy(net)
        for mean, now in zip(self.average.parameters(), net.parameters(), strict=True):
            mean.lerp_(now, 1 - self.decay)
        return self.average

    def check(self, net: NoisePredictor, batches: Any) -> None:
        """Refuse what is not a student of this teacher, and times off its schedule."""
        check_student(net, batches, self.teacher)
        steps(net.schedule, self.times)


def pseudo_huber(a: Tensor, b: Tensor, c: float = 0.1) -> Tensor:
    """sqrt(|a - b|^2 + D c^2) - sqrt(D) c of each of a batch of D dimensions, (B,): a square near 0, then a distance.

    Song & Dhariwal take c = 0.00054 for photographs; what is small there is smaller than what is small here.
    """
    check_shape(a, b)
    check_real("c", c, 1e-9)
    difference = (a.float() - b.float()).flatten(1)
    bend = c * difference.shape[1] ** 0.5
    return (difference.square().sum(1) + bend**2).sqrt() - bend


# --- Distribution matching --------------------------------------------------------------------------------------------


class DistributionMatching:
    """Pull what the student draws to where the teacher finds it likelier than it is among drawings (Yin et al. 2023).

    The pull is the difference of two clean predictions of the noised drawing (equations 7 and 8): that of `fake`, which
    is trained here to denoise drawings, `updates` times a step, less the teacher's. Beside it, `regression` times the
    squared error to the end of the teacher's path, as in equation 9. Batches are `Trajectories`, of whose `times` the
    student has every one. In the first `warmup` steps only `fake` learns, as the teacher it starts from knows no
    drawings. fake is changed in place, and no part of a checkpoint: train in one go, with a batch per call.

    Without a fake network (None) the drawing itself stands for its prediction: score distillation (Poole et al. 2022,
    equation 3), which asks for the likeliest drawing and not for the law. It draws one digit a class.
    """

    def __init__(
        self,
        teacher: Teacher,
        fake: NoisePredictor | None,
        times: Sequence[int],
        regression: float = 0.25,
        rate: float = 7e-4,
        updates: int = 2,
        warmup: int = 60,
    ) -> None:
        self.teacher, self.fake, self.times = check_teacher("teacher", teacher), fake, falling(times)
        if fake is not None and not isinstance(fake, NoisePredictor):
            refuse("fake", type(fake).__name__, "a NoisePredictor, or None", TypeError)
        if fake is not None and fake in (teacher, getattr(teacher, "net", None)):
            refuse("fake", "the teacher itself", "another network, such as a copy: this one is trained")
        self.regression, self.updates = check_real("regression", regression, 0.0), check_int("updates", updates, 1)
        self.warmup, self.count = check_int("warmup", warmup, 0), 0
        check_real("rate", rate, 1e-9)
        self.optimizers = make_optimizers(fake.train(), rate) if fake else []

    def __repr__(self) -> str:
        fake = f"updates={self.updates}" if self.fake else "no fake"
        return f"DistributionMatching(times={self.times}, regression={self.regression}, {fake})"

    def __call__(self, net: NoisePredictor, batch: Batch, generator: torch.Generator) -> Losses:
        """Draw, pull, and teach the fake network; the gradient is what counts, the value is half the squared pull."""
        noise, _, _, end, condition = batch
        x = noise
        for t, s in pairwise(self.times):
            t_all, s_all = (torch.full((len(x),), time, device=x.device) for time in (t, s))
            x = step(net.schedule, x, clean(net, x, t_all, condition), t_all, s_all)
        drawn, self.count = x.detach(), self.count + 1
        pulled = drawn - self.pull(drawn, condition, generator)
        if self.fake is not None:
            self.teach(self.fake, drawn, condition, generator)
        share = float(self.count > self.warmup)
        return Losses(share * (squared(x, pulled) / 2 + self.regression * squared(x, end)))

    @torch.no_grad()
    def pull(self, x: Tensor, condition: Any, generator: torch.Generator) -> Tensor:
        """(x0_fake - x0_teacher) / mean |x - x0_teacher|, at times of the middle 96 %."""
        T = self.teacher.schedule.T
        u, _ = segments(range(round(0.02 * T), round(0.98 * T)), len(x), generator)
        x_u = rotate(x, noise_like(x, generator), *levels(self.teacher.schedule, u, x))[0]
        true = clean(self.teacher, x_u, u, condition)
        own = x if self.fake is None else clean(self.fake, x_u, u, condition)
        scale = (x - true).abs().flatten(1).mean(1).clamp(min=1e-3)
        return (own - true) / scale.reshape(-1, *[1] * (x.ndim - 1))

    def teach(self, fake: NoisePredictor, x: Tensor, condition: Any, generator: torch.Generator) -> None:
        """Let the fake network learn to denoise what the student draws now."""
        with torch.enable_grad():
            for _ in range(self.updates):
                Denoising(0.0)(fake, (x, condition), generator).each.mean().backward()
                for optimizer in self.optimizers:
                    optimizer.step()
                    optimizer.zero_grad()

    def check(self, net: NoisePredictor, batches: Any) -> None:
        """Refuse what is not a student of this teacher, another fake network, and paths of other times."""
        check_student(net, teacher=self.teacher)
        if self.fake is not None:
            check_student(self.fake, teacher=self.teacher)
        if self.fake is net:
            refuse("fake", "the student itself", "another network, such as a copy of the teacher")
        if not isinstance(batches, Trajectories) or batches.times != [self.times[0], 0]:
            refuse("batches", batches, f"Trajectories from {self.times[0]} to 0: noises and their ends")
        batches.check(net)
        steps(net.schedule, self.times)
