"""Exercises of lesson 10: a step up, what the misprint costs, round trips, a fixed point, the arc, and inpainting."""

import math
from itertools import pairwise

import torch
from torch import Tensor

from lessons_src.exercises.inputs import falling, falling_times, levels, network, normal, pair, uniform, whole
from lessons_src.exercises.tasks import Case, Mistake, Task, edits
from lessons_src.oracle import OracleNetwork


def invert_step(x_s: Tensor, eps: Tensor, ab_s: float, ab_t: float) -> Tensor:
    """DDIM's two lines with the levels exchanged (Song, Meng & Ermon 2020, section 4.3)."""
    x0 = (x_s - math.sqrt(1 - ab_s) * eps) / math.sqrt(ab_s)
    return math.sqrt(ab_t) * x0 + math.sqrt(1 - ab_t) * eps


def printed_error(image: Tensor, x_s: Tensor, eps: Tensor, ab_s: float, ab_t: float) -> Tensor:
    """The step with the image in place of the predicted clean picture, minus the right step."""
    x0 = (x_s - math.sqrt(1 - ab_s) * eps) / math.sqrt(ab_s)
    return math.sqrt(ab_t) * (image - x0)


def round_trip_error(net: OracleNetwork, x: Tensor, alpha_bar: Tensor, times: list[int]) -> Tensor:
    """Up by inversion, down by DDIM; root mean square distance from x."""
    ab, latent = alpha_bar.tolist(), x
    for s, t in pairwise(times[::-1]):
        eps = net(latent, torch.full((len(x),), s or t))
        latent = invert_step(latent, eps, ab[s], ab[t])
    back = latent
    for t, s in pairwise(times):
        eps = net(back, torch.full((len(x),), t))
        back = invert_step(back, eps, ab[t], ab[s])
    return (back - x).square().mean().sqrt()


def fixed_point_step(net: OracleNetwork, x_s: Tensor, s: int, t: int, alpha_bar: Tensor, iterations: int) -> Tensor:
    """Solve DDIM's step t -> s for x_t by iteration (Pan et al. 2023)."""
    ab_s, ab_t = alpha_bar[s].item(), alpha_bar[t].item()
    x_t = invert_step(x_s, net(x_s, torch.full((len(x_s),), s or t)), ab_s, ab_t)
    for _ in range(iterations):
        x_t = invert_step(x_s, net(x_t, torch.full((len(x_s),), t)), ab_s, ab_t)
    return x_t


def slerp(a: Tensor, b: Tensor, weight: float) -> Tensor:
    """Along the arc from a to b, sample by sample."""
    cosine = torch.nn.functional.cosine_similarity(a.flatten(1), b.flatten(1), dim=1)
    angle = cosine.arccos().reshape(-1, *[1] * (a.ndim - 1))
    w_a, w_b = ((1 - weight) * angle).sin(), (weight * angle).sin()
    return (w_a * a + w_b * b) / angle.sin()


def inpaint_step(x_t: Tensor, eps: Tensor, known: Tensor, mask: Tensor, z: Tensor, ab_t: float, ab_s: float) -> Tensor:
    """A DDIM step, then the known part noised to s put back (Y. Song et al. 2021, appendix I.2)."""
    x_s = invert_step(x_t, eps, ab_t, ab_s)
    known_s = math.sqrt(ab_s) * known + math.sqrt(1 - ab_s) * z
    return torch.where(mask == 1, known_s, x_s)


def _rising(generator: torch.Generator) -> tuple[float, float]:
    """ab_s and ab_t, the cleaner level first."""
    return levels(generator)[::-1]


def trip_inputs(generator: torch.Generator, T: int, steps: int) -> tuple:
    """Arguments for round_trip_error."""
    alpha_bar = falling(generator, T)
    return network(generator, alpha_bar), normal(generator, 6, 2), alpha_bar, falling_times(generator, T, steps)


def fixed_point_inputs(generator: torch.Generator, iterations: int, from_zero: bool = False) -> tuple:
    """Arguments for fixed_point_step: one step up over a tenth to a quarter of the way."""
    alpha_bar = falling(generator, 40)
    s = 0 if from_zero else whole(generator, 5, 20)
    net = network(generator, alpha_bar)
    return net, normal(generator, 6, 2), s, s + whole(generator, 4, 10), alpha_bar, iterations


def inpaint_inputs(generator: torch.Generator, *shape: int, last: bool = False) -> tuple:
    """Arguments for inpaint_step; the mask has ones and zeros in every sample."""
    mask = (torch.rand(shape, generator=generator, dtype=torch.float64) < 0.5).double()
    mask.flatten(1)[:, 0], mask.flatten(1)[:, 1] = 0, 1
    ab_t, ab_s = levels(generator)
    x_t, eps, known, z = (normal(generator, *shape) for _ in range(4))
    return x_t, eps, known, mask, z, ab_t, 1.0 if last else ab_s


TASKS = (
    Task(
        invert_step,
        minutes=5,
        difficulty=1,
        cases=(
            Case("points", lambda g: (*pair(g, 6, 2), *_rising(g))),
            Case("pictures", lambda g: (*pair(g, 2, 1, 4, 4), *_rising(g))),
            Case("the first step, ab_s = 1", lambda g: (*pair(g, 6, 2), 1.0, levels(g)[0])),
        ),
        mistakes=edits("""
            ab_s: float, ab_t: float → ab_t: float, ab_s: float
                The levels have changed places: this takes x_s for the noisier one, and goes down.
            math.sqrt(ab_t) * x0 → math.sqrt(ab_t) * x_s
                This noises x_s as if it were clean. It carries noise of level s already: predict x0 first.
            math.sqrt(ab_t) * x0 + math.sqrt(1 - ab_t) * eps → math.sqrt(ab_t / ab_s) * x_s + math.sqrt(1 - ab_t / ab_s) * eps
                This is a step of the forward chain, which adds *fresh* noise. eps is the noise that x_s holds: turn it
                up, do not add to it.
            (1 - ab_t) → (1 - ab_s)
                The noise still has the size of level s. At t it is sqrt(1 - ab_t).
             + math.sqrt(1 - ab_t) * eps →
                The noise is missing: add sqrt(1 - ab_t) eps.
            math.sqrt(ab_t) * x0 + math.sqrt(1 - ab_t) * eps → ab_t * x0 + (1 - ab_t) * eps
                The square roots are missing in the second line.
            math.sqrt(ab_t) * x0 + math.sqrt(1 - ab_t) * eps → ab_t * (x_s - (1 - ab_s) * eps) / ab_s + (1 - ab_t) * eps
                The square roots are missing: alpha_bar counts variance, and x is scaled by standard deviations.
            math.sqrt(ab_t) * x0 + math.sqrt(1 - ab_t) * eps → x0
                This is x0, the first line. It still has to be noised to level t.
            (x_s - math.sqrt → (x_s + math.sqrt
                The first line has the wrong sign: to guess x0, the noise is taken *out* of x_s.
            * x0 + math → * x0 - math
                The second line has the wrong sign: x_t has its noise *added*, as every noisy state has.
             / math.sqrt(ab_s) →
                The first line stops halfway: x_s without its noise is sqrt(ab_s) x0. Divide by sqrt(ab_s).
            (x_s - math.sqrt(1 - ab_s) * eps) → (x_s - (1 - ab_s) * eps)
                The root is missing from the noise of the first line: it stands in x_s with sqrt(1 - ab_s).
            math.sqrt(ab_t) * x0 → x0
                The second line adds noise to x0 without shrinking it. x0 is multiplied by sqrt(ab_t).
        """),  # noqa: E501
        hints=(
            "You know this step from the way down. Which of its two levels is where you stand, and which is where you "
            "go?",
            "Predict x0 from x_s with the level ab_s; re-noise it with the *same* eps to the level ab_t.",
            "`x0 = (x_s - math.sqrt(1 - ab_s) * eps) / math.sqrt(ab_s)`, then `math.sqrt(ab_t) * x0 + ... * eps`.",
        ),
    ),
    Task(
        printed_error,
        minutes=4,
        difficulty=2,
        cases=(
            Case("points", lambda g: (normal(g, 6, 2), *pair(g, 6, 2), *_rising(g))),
            Case("pictures", lambda g: (normal(g, 2, 1, 4, 4), *pair(g, 2, 1, 4, 4), *_rising(g))),
            Case(
                "high up, little signal left", lambda g: (normal(g, 6, 2), *pair(g, 6, 2), 0.1, uniform(g, 0.02, 0.05))
            ),
        ),
        mistakes=edits("""
            image - x0 → x0 - image
                The sign is turned: asked is printed minus right.
            math.sqrt(ab_t) * (image - x0) → image - x0
                These are the two clean pictures apart. In x_t they are multiplied by sqrt(ab_t).
            math.sqrt(ab_t) → ab_t
                The root is missing: the signal's factor is sqrt(ab_t).
            image - x0 → image - x_s
                This compares the image with x_s, the noisy state. The right step has the *predicted clean* picture
                there.
            math.sqrt(1 - ab_s) * eps) / math.sqrt(ab_s) → math.sqrt(1 - ab_t) * eps) / math.sqrt(ab_t)
                x0 is predicted with the level of t. x_s stands at s: ab_s.
            math.sqrt(ab_t) * (image - x0) → math.sqrt(ab_t) * image + math.sqrt(1 - ab_t) * eps
                This is the printed step itself. Subtract the right one.
        """),
        hints=(
            "Write both steps below each other. Which terms are the same?",
            "Printed: sqrt(ab_t) image + noise. Right: `invert_step`, which is sqrt(ab_t) x0 + the same noise.",
            "`math.sqrt(ab_t) * image + math.sqrt(1 - ab_t) * eps - invert_step(x_s, eps, ab_s, ab_t)`.",
        ),
    ),
    Task(
        round_trip_error,
        minutes=9,
        difficulty=2,
        cases=(
            Case("every time", lambda g: trip_inputs(g, 8, 8), tolerance=1e-5),
            Case("a few of many times", lambda g: trip_inputs(g, 60, 6), points=2, tolerance=1e-5),
            Case("two steps", lambda g: trip_inputs(g, 40, 2), tolerance=1e-5),
        ),
        mistakes=(
            *edits("""
                s or t → t
                    On the way up the network is asked about t, where x is not yet. It stands at s (only at s = 0 nobody
                    can be asked, and t has to do).
                invert_step(latent, eps, ab[s], ab[t]) → math.sqrt(ab[t]) * x + math.sqrt(1 - ab[t]) * eps
                    This is the misprint: the image itself stands where the clean picture predicted from the present
                    state belongs.
                times[::-1] → times[::-1][1:]
                    The first step up, the one from 0, is missing.
                times[::-1] → times[::-1][:-1]
                    The last step up is missing: the way down starts at times[0].
                .sqrt() →
                    The root is missing: this is the mean square.
                .square().mean().sqrt() → .norm()
                    This is the root of the *sum* of squares, which grows with the batch. Take the mean.
                (back - x) → (latent - x)
                    This is the distance from the data to the latents. Go down again first.
                ab[s], ab[t]) → ab[t], ab[s])
                    On the way up the levels have changed places: invert_step takes that of s first, then that of t.
                ab[t], ab[s]) → ab[s], ab[t])
                    On the way down the levels have changed places: it starts at t and ends at s.
                .square().mean().sqrt() → .abs().mean()
                    This is the mean absolute distance; asked for is the root of the mean square.
            """),
            Mistake(
                "ab[s], ab[t])\n    back = latent\n    for t, s in pairwise(times):\n"
                "        eps = net(back, torch.full((len(x),), t))\n"
                "        back = invert_step(back, eps, ab[t], ab[s])",
                "ab[t], ab[s])\n    back = latent\n    for t, s in pairwise(times):\n"
                "        eps = net(back, torch.full((len(x),), t))\n"
                "        back = invert_step(back, eps, ab[s], ab[t])",
                "The levels have changed places in both calls: invert_step takes the present one first.",
            ),
        ),
        hints=(
            "Two loops over the same pairs of times, the first one from the clean end. Where does x stand when the "
            "network is asked?",
            "Up: `for s, t in pairwise(reversed(times))`, the network at `s or t`. Down: `for t, s in "
            "pairwise(times)`, the network at t. `invert_step` does both: it goes from its first level to its second.",
            "Up: `z = invert_step(z, net(z, torch.full((len(x),), s or t)), ab[s], ab[t])` with `ab = "
            "alpha_bar.tolist()`. Down: the same with t for s or t, and the levels exchanged. In the end "
            "`(z - x).square().mean().sqrt()`.",
        ),
    ),
    Task(
        fixed_point_step,
        minutes=8,
        difficulty=3,
        cases=(
            Case("one iteration", lambda g: fixed_point_inputs(g, 1), tolerance=1e-6),
            Case("three iterations", lambda g: fixed_point_inputs(g, 3), tolerance=1e-6),
            Case("the first step, s = 0", lambda g: fixed_point_inputs(g, 2, from_zero=True), tolerance=1e-6),
        ),
        mistakes=edits("""
            x_s, net(x_t → x_t, net(x_t
                Every round climbs on from the x_t just found. They all start from x_s; only the prediction is renewed.
            (len(x_s),), t) → (len(x_s),), s or t)
                In the rounds the network is asked about s. It is given x_t there, so the time is t.
            range(iterations) → range(iterations - 1)
                One iteration is missing: the step with the borrowed prediction is the start, and does not count.
            range(iterations) → range(iterations + 1)
                There is one iteration too many: the start costs one evaluation, each iteration one more.
            s or t → t
                The start asks the network about t, with x_s, which stands at s. Only at s = 0 has t to do.
            ab_s, ab_t = → ab_t, ab_s =
                The levels have changed places: this goes down.
            net(x_t, torch → net(x_s, torch
                The rounds ask about x_s again, and nothing changes. They ask about the x_t found last.
        """),
        hints=(
            "What is unknown in the step is the prediction at x_t. Start with a borrowed one; how could you get a "
            "better one?",
            "Start: `invert_step` with the prediction at x_s. Then `iterations` times: predict at the x_t just found, "
            "at time t, and go up from x_s again with that.",
            "In the loop `x_t = invert_step(x_s, net(x_t, torch.full((len(x_s),), t)), ab_s, ab_t)`.",
        ),
    ),
    Task(
        slerp,
        minutes=7,
        difficulty=2,
        cases=(
            Case("half way", lambda g: (*pair(g, 6, 8), 0.5)),
            Case("elsewhere on the way", lambda g: (*pair(g, 6, 8), uniform(g, 0.1, 0.35))),
            Case("pictures", lambda g: (*pair(g, 3, 1, 4, 4), uniform(g, 0.65, 0.9))),
        ),
        mistakes=(
            *edits("""
                (w_a * a + w_b * b) / angle.sin() → torch.lerp(a, b, weight)
                    This is the straight line, which passes through the inside of the sphere. Weigh with the two sines.
                w_a * a + w_b * b → w_a * b + w_b * a
                    a and b have changed places: at weight 0 it has to be a.
                a.flatten(1), b.flatten(1), dim=1 → a.flatten(), b.flatten(), dim=0
                    One angle was taken for the whole batch. Every sample has its own.
                 / angle.sin() →
                    The division by the sine of the angle is missing.
                cosine.arccos() → torch.full_like(cosine, math.pi / 2)
                    This takes a and b for orthogonal. In many dimensions they nearly are; still, compute the angle.
                cosine.arccos() → cosine
                    This is the cosine of the angle. Take its arccos.
                ((1 - weight) * angle).sin(), (weight * angle).sin() → ((1 - weight) * angle).cos(), (weight * angle).cos()
                    These are cosines. At weight 0 the share of b has to be 0: sines.
            """),  # noqa: E501
            Mistake(
                "cosine =",
                "a, b = (torch.nn.functional.normalize(z.flatten(1)).view_as(z) for z in (a, b))\n    cosine =",
                "The directions are right, but the lengths are lost: a and b themselves are weighed, not unit vectors.",
            ),
        ),
        hints=(
            "First the angle of every pair: the dot product, divided by both lengths, is its cosine.",
            "`flatten(1)` makes a row of each sample. `torch.nn.functional.cosine_similarity(..., dim=1)` gives (B,); "
            "reshape it so that it broadcasts with a.",
            "With angle of shape (B, 1, ...): `(((1 - weight) * angle).sin() * a + (weight * angle).sin() * b) / ...`.",
        ),
    ),
    Task(
        inpaint_step,
        minutes=6,
        difficulty=2,
        cases=(
            Case("points", lambda g: inpaint_inputs(g, 6, 4)),
            Case("pictures", lambda g: inpaint_inputs(g, 2, 1, 4, 4)),
            Case("the last step, ab_s = 1", lambda g: inpaint_inputs(g, 6, 4, last=True)),
        ),
        mistakes=edits("""
            mask == 1, known_s → mask == 1, known
                The known part is put back clean. The next step expects all of x_s at level s: noise it with z.
            math.sqrt(ab_s) * known + math.sqrt(1 - ab_s) * z → math.sqrt(ab_t) * known + math.sqrt(1 - ab_t) * z
                The known part is noised to level t, the old one. After the step x stands at s.
            math.sqrt(ab_s) * known + math.sqrt(1 - ab_s) * z → ab_s * known + (1 - ab_s) * z
                The square roots are missing where the known part is noised.
            mask == 1 → mask == 0
                The mask is read the wrong way round: 1 is known, 0 is open.
            torch.where(mask == 1, known_s, x_s) → x_s
                Nothing is put back: this is a plain DDIM step.
            * z → * eps
                The known part was put into the guess x0 and noised with eps. That is a method, too; asked here is x_s,
                with the known part noised by its own z.
            torch.where(mask == 1, known_s, x_s) → x_s + mask * known_s
                The known part was added to what the step made of it. Replace it.
             + math.sqrt(1 - ab_s) * z →
                The known part is shrunk, but not noised: add sqrt(1 - ab_s) z.
            x_t, eps, ab_t, ab_s) → x_t, eps, ab_s, ab_t)
                The levels have changed places in the step: it starts at t and ends at s.
            math.sqrt(ab_s) * known + math.sqrt(1 - ab_s) * z → known + math.sqrt(1 - ab_s) * z
                The known part is noised without being shrunk: multiply it by sqrt(ab_s).
        """),
        hints=(
            "Three lines: the step as always, the known part at the level where the step arrives, and a choice.",
            "The known part at level s is the forward shortcut: `math.sqrt(ab_s) * known + math.sqrt(1 - ab_s) * z`.",
            "`torch.where(mask == 1, ..., x_s)`, with `x_s = invert_step(x_t, eps, ab_t, ab_s)`: from its first level "
            "to its second.",
        ),
    ),
)
