"""Exercises of lesson 11: two targets, jumps to clean data, a bill, an adapter merged, and a claim read."""

from itertools import pairwise

import torch
from torch import Tensor

from lessons_src.exercises.inputs import falling, falling_times, network, normal, uniform, whole
from lessons_src.exercises.tasks import Case, Task, WrongWay, edits
from lessons_src.oracle import OracleNetwork
from lessons_src.schedules import cosine

ALPHA_BAR = cosine().alpha_bar
Adapters = list[tuple[Tensor, Tensor]]


def ddim(x: Tensor, eps: Tensor, ab_t: Tensor, ab_s: Tensor) -> Tensor:
    """DDIM's step with a given noise prediction."""
    x0 = (x - (1 - ab_t).sqrt() * eps) / ab_t.sqrt()
    return ab_s.sqrt() * x0 + (1 - ab_s).sqrt() * eps


def progressive_target(teacher: OracleNetwork, x: Tensor, times: list[int], k: int) -> Tensor:
    """The v from which one step lands where two of the teacher's do (Salimans & Ho 2022, algorithm 2)."""
    t, m, s = times[2 * k : 2 * k + 3]
    ab_t, ab_m, ab_s = teacher.schedule.alpha_bar[[t, m, s]]
    middle = ddim(x, teacher(x, torch.full((len(x),), t)), ab_t, ab_m)
    end = ddim(middle, teacher(middle, torch.full((len(x),), m)), ab_m, ab_s)
    ratio = ((1 - ab_s) / (1 - ab_t)).sqrt()
    x0 = (end - ratio * x) / (ab_s.sqrt() - ratio * ab_t.sqrt())
    return (ab_t.sqrt() * x - x0) / (1 - ab_t).sqrt()


def consistency_gradient(
    weight: Tensor, average: Tensor, x_t: Tensor, x_s: Tensor, ab_t: Tensor, ab_s: Tensor, std: float
) -> Tensor:
    """How the squared distance of two neighbours' ends changes with the weight; the target is held still."""

    def f(w: Tensor, x: Tensor, ab: Tensor) -> Tensor:
        variance = ab * std**2 + (1 - ab)
        c_skip, c_out = ab.sqrt() * std**2 / variance, std * (1 - ab).sqrt() / variance.sqrt()
        return c_skip[:, None] * x + c_out[:, None] * (x @ w)

    weight = weight.detach().requires_grad_()
    target = f(average, x_s, ab_s)
    loss = (f(weight, x_t, ab_t) - target).square().sum(1).mean()
    return torch.autograd.grad(loss, weight)[0]


def gaussian_jumps(x: Tensor, noise: Tensor, alpha_bar: Tensor, times: list[int], mean: Tensor, std: float) -> Tensor:
    """Multistep consistency sampling (Song et al. 2023, algorithm 1) with the exact f of N(mean, std^2 I)."""
    for k, (t, s) in enumerate(pairwise(times)):
        ab_t, ab_s = alpha_bar[t], alpha_bar[s]
        spread = (ab_t * std**2 + (1 - ab_t)).sqrt()
        x0 = mean + std / spread * (x - ab_t.sqrt() * mean)
        x = ab_s.sqrt() * x0 + (1 - ab_s).sqrt() * noise[k]
    return x


def bill(times: list[int], a_step: int, w: float, folded: bool) -> tuple[int, float]:
    """Evaluations of a sampler on its grid, and how many times as many DDPM needs in 1000 steps at the same w."""
    guided = 1 if w in (0, 1) else 2
    a_prediction = 1 if folded else guided
    evaluations = (len(times) - 1) * a_step * a_prediction
    return evaluations, 1000 * guided / evaluations


def merged_weight(weight: Tensor, adapters: Adapters, scales: list[float]) -> Tensor:
    """A weight with low-rank changes added (Hu et al. 2021, equation 3), each times its scale."""
    flat = weight.flatten(1)
    for (down, up), scale in zip(adapters, scales, strict=True):
        flat = flat + scale * (up @ down)
    return flat.view_as(weight)


def accuracy_and_variety(
    read: Tensor, label: Tensor, features: Tensor, real: Tensor, real_label: Tensor
) -> tuple[float, float]:
    """The share read as wanted, and the spread within the classes over that of real samples."""

    def spread(x: Tensor, own: Tensor) -> Tensor:
        means = torch.stack([x[own == c].mean(0) for c in range(int(own.max()) + 1)])
        return (x - means[own]).square().sum(1).mean().sqrt()

    return (read == label).double().mean().item(), (spread(features, label) / spread(real, real_label)).item()


# --- Ways to go wrong


def _start_noise_again(x, noise, alpha_bar, times, mean, std):
    return gaussian_jumps(x, x.expand(len(times) - 1, *x.shape), alpha_bar, times, mean, std)


def _jumps_from_the_start(x, noise, alpha_bar, times, mean, std):
    return gaussian_jumps(x, noise[-1:], alpha_bar, times[-2:], mean, std)


def _neighbours_exchanged(weight, average, x_t, x_s, ab_t, ab_s, std):
    return consistency_gradient(weight, average, x_s, x_t, ab_s, ab_t, std)


def _product_of_sums(weight, adapters, scales):
    down = sum(down for down, _ in adapters)
    up = sum(scale * up for (_, up), scale in zip(adapters, scales, strict=True))
    return weight + (up @ down).view_as(weight)


def _other_order(weight, adapters, scales):
    return merged_weight(weight, [(up.T, down.T) for down, up in adapters], scales)


def _window_last(weight, adapters, scales):
    outputs, inputs, *window = weight.shape
    change = merged_weight(torch.zeros_like(weight), adapters, scales)
    return weight + change.reshape(outputs, *window, inputs).movedim(-1, 1)


def _around_the_real_means(read, label, features, real, real_label):
    accuracy, variety = accuracy_and_variety(read, label, features, real, real_label)
    means = torch.stack([real[real_label == c].mean(0) for c in range(int(real_label.max()) + 1)])
    own = features - torch.stack([features[label == c].mean(0) for c in range(len(means))])[label]
    moved = (features - means[label]).square().sum(1).mean().sqrt()
    return accuracy, variety * moved / own.square().sum(1).mean().sqrt()


# --- Inputs


def teacher_steps(generator: torch.Generator, steps: int, k: int, B: int, dim: int = 2) -> tuple:
    """Arguments for progressive_target: a grid of 2 * steps of the teacher's, and a step k of the student's."""
    teacher = network(generator, falling(generator, 40), dim=dim)
    return teacher, normal(generator, B, dim), falling_times(generator, 40, 2 * steps), k


def neighbours(
    generator: torch.Generator, B: int, dim: int, clean: bool = False, last: bool = False, std: float | None = None
) -> tuple:
    """Arguments for consistency_gradient; the nearer neighbours are clean, or the farther ones at T of cosine."""
    std = uniform(generator, 1.5, 2.5) if std is None else std
    x0, eps = std * normal(generator, B, dim), normal(generator, B, dim)
    ab_t = 0.2 + 0.3 * torch.rand(B, generator=generator, dtype=torch.float64)
    ab_s = ab_t + 0.3
    if clean:
        ab_s = torch.ones_like(ab_s)
    if last:
        ab_t, ab_s = ALPHA_BAR[-1].expand(B).clone(), ALPHA_BAR[-100].expand(B).clone()
    x_t, x_s = (ab.sqrt()[:, None] * x0 + (1 - ab).sqrt()[:, None] * eps for ab in (ab_t, ab_s))
    weight = 0.5 * normal(generator, dim, dim)
    return weight, weight + 0.2 * normal(generator, dim, dim), x_t, x_s, ab_t, ab_s, std


def jump_inputs(generator: torch.Generator, jumps: int, B: int, dim: int, std: float) -> tuple:
    """Arguments for gaussian_jumps."""
    alpha_bar, times = falling(generator, 20), falling_times(generator, 20, jumps)
    mean = 1 + normal(generator, dim).abs()
    return normal(generator, B, dim), normal(generator, jumps, B, dim), alpha_bar, times, mean, std


def bill_inputs(generator: torch.Generator, most: int, a_step: int, w: float, folded: bool) -> tuple:
    """Arguments for bill: a grid of 3 to so many steps."""
    return falling_times(generator, 1000, whole(generator, 3, most)), a_step, w, folded


def layer(generator: torch.Generator, shape: tuple[int, ...], ranks: tuple[int, ...]) -> tuple[Tensor, Adapters, list]:
    """Arguments for merged_weight: a layer's weight, and adapters of these ranks."""
    weight = normal(generator, *shape)
    outputs, inputs = weight.flatten(1).shape
    adapters = [(normal(generator, rank, inputs), normal(generator, outputs, rank)) for rank in ranks]
    return weight, adapters, [uniform(generator, 0.4, 0.8) for _ in ranks]


def claim(generator: torch.Generator, classes: int, each: int, spread: float, right: float) -> tuple:
    """Arguments for accuracy_and_variety: drawings with this spread within their classes, and real ones with 1."""
    means, dim = 4 * normal(generator, classes, 3), 3
    label, real_label = torch.arange(classes * each) % classes, torch.arange(classes * 30) % (classes + 2)
    real_label = real_label.remainder(classes)  # the first two classes have more
    shifted = means + 0.5 * normal(generator, classes, dim)
    features = shifted[label] + spread * normal(generator, len(label), dim)
    wrong = torch.rand(len(label), generator=generator) > right
    wrong[:2], wrong[-1] = False, True
    read = torch.where(wrong, (label + 1) % classes, label)
    return read, label, features, means[real_label] + normal(generator, len(real_label), dim), real_label


TASKS = (
    Task(
        progressive_target,
        minutes=8,
        difficulty=3,
        cases=(
            Case("the first of four steps", lambda g: teacher_steps(g, 4, 0, 6)),
            Case("one in the middle", lambda g: teacher_steps(g, 4, 2, 5)),
            Case("the second of four, in three dimensions", lambda g: teacher_steps(g, 4, 1, 6, 3)),
        ),
        mistakes=edits("""
            t, m, s = times[2 * k : 2 * k + 3] → t, m, s = times[k : k + 3]
                The times are not of the student's grid. Its times are every second of the teacher's: step k begins at
                times[2 k].
            t, m, s = times[2 * k : 2 * k + 3] → t, m, s = times[2 * k], times[2 * k + 1], times[2 * k + 1]
                Only the teacher's first prediction is in this, as if the target were at the wrong time, m: the student
                would copy one step and gain nothing. The second step has a prediction of its own, and leads to s.
            torch.full((len(x),), m) → torch.full((len(x),), t)
                For its second step the teacher is told t. It stands at m by then.
            teacher(middle → teacher(x
                For its second step the teacher is asked about the old x. Ask about the point in the middle.
            (end - ratio * x) / (ab_s.sqrt() - ratio * ab_t.sqrt()) → ddim(middle, teacher(middle, torch.full((len(x),), m)), ab_m, 0 * ab_m + 1)
                This takes the teacher's second prediction of x0 as the target. From x, one step along it does not lead
                to the end: solve the step for x0.
            (end - ratio * x) / (ab_s.sqrt() - ratio * ab_t.sqrt()) → end
                The end of the two steps is taken for the clean sample. At s it still has noise: solve the step for x0.
            return (ab_t.sqrt() * x - x0) / (1 - ab_t).sqrt() → return end
                This is the end of the two steps. The v is asked for whose one step leads there.
            return (ab_t.sqrt() * x - x0) / (1 - ab_t).sqrt() → return x0
                This is the clean sample. Turn it into v.
            return (ab_t.sqrt() * x - x0) / (1 - ab_t).sqrt() → return (x - ab_t.sqrt() * x0) / (1 - ab_t).sqrt()
                This is eps. At T it would be divided by sqrt(ab), 1/20,000 of the cosine schedule: return v.
            (ab_t.sqrt() * x - x0) → (x0 - ab_t.sqrt() * x)
                The sign of v is turned round: x0 = sqrt(ab) x - sqrt(1 - ab) v.
            return (ab_t.sqrt() * x - x0) / (1 - ab_t).sqrt() → return (ab_s.sqrt() * end - x0) / (1 - ab_s).sqrt().clamp(min=1e-9)
                v is taken at the wrong time: at s. The student is asked at t, about x.
            ((1 - ab_s) / (1 - ab_t)).sqrt() → (1 - ab_s) / (1 - ab_t)
                The ratio is of the roots: b_s / b_t with b = sqrt(1 - ab).
        """),  # noqa: E501
        hints=(
            "Three times, two steps, one question: from x at t, which x0 would take you to the end at s in one step?",
            "A DDIM step says end = a_s x0 + b_s (x - a_t x0) / b_t, with a = sqrt(ab) and b = sqrt(1 - ab). Solve it "
            "for x0, then v = (a_t x - x0) / b_t.",
            "`x0 = (end - r * x) / (a_s - r * a_t)` with `r = b_s / b_t`, and `t, m, s = times[2 * k : 2 * k + 3]`.",
        ),
    ),
    Task(
        consistency_gradient,
        minutes=10,
        difficulty=3,
        cases=(
            Case("neighbours on a path", lambda g: neighbours(g, 8, 3), points=2),
            Case("the nearer one is clean", lambda g: neighbours(g, 6, 4, clean=True)),
            Case("from the end of the cosine schedule", lambda g: neighbours(g, 6, 3, last=True)),
            Case("data of spread 0.5", lambda g: neighbours(g, 9, 3, std=0.5)),
        ),
        mistakes=(
            *edits("""
                target = f(average → target = f(weight
                    The gradient flows through the target too: both ends move, and one answer for all x would do. Hold the
                    target still, and ask the average for it.
                target = f(average → target = f(weight.detach()
                    The average is forgotten: the target comes from the weight that is learning, and moves with every step.
                target = f(average, x_s, ab_s) → target = f(average, x_s, ab_t)
                    The target is told the wrong time: x_s is at level ab_s.
                target = f(average, x_s, ab_s) → target = f(average, x_t, ab_t)
                    The target is asked at the wrong time: about x_t. Ask it about the neighbour.
                ab.sqrt() * std**2 / variance, std * (1 - ab).sqrt() / variance.sqrt() → ab.rsqrt(), -(1 - ab).sqrt() / ab.sqrt()
                    These are the two numbers of eps. At T of the cosine schedule c_out is 20,000, and so is every error.
                ab.sqrt() * std**2 / variance, std * (1 - ab).sqrt() / variance.sqrt() → 0 * ab, 0 * ab + 1
                    f is the network's output alone: nothing makes f(x, 0) = x.
                ab.sqrt() * std**2 / variance, std * (1 - ab).sqrt() / variance.sqrt() → ab.sqrt(), (1 - ab).sqrt()
                    These two numbers are right for data of spread 1, where F is -v. Here the spread is std.
                ab.sqrt() * std**2 / variance, std * (1 - ab).sqrt() / variance.sqrt() → ab.sqrt() * std**2 / variance, -std * (1 - ab).sqrt() / variance.sqrt()
                    The sign of c_out: it is a spread and positive. The minus of v belongs to v.
                ab.sqrt() * std**2 / variance → ab * std**2 / variance
                    This is c_skip for x / sqrt(ab), as papers write it whose noise is added to unshrunk data. Here x itself
                    is multiplied: divide by sqrt(ab).
                std * (1 - ab).sqrt() / variance.sqrt() → std * (1 - ab).sqrt() / variance
                    c_out is divided by a variance. Take its root.
                ab * std**2 + (1 - ab) → std**2 + (1 - ab)
                    The variance of x_t: the data shrink with the signal, so theirs is ab std^2.
                .square().sum(1).mean() → .square().mean()
                    You averaged over the dimensions, too. The squared distance is a sum over them.
                .square().sum(1).mean() → .square().sum()
                    You summed over the batch. Take the mean over it.
                .square().sum(1).mean() → .square().sum(1).sqrt().mean()
                    This is the distance itself. Asked for is the gradient of its square.
                c_skip, c_out = → c_out, c_skip =
                    c_skip and c_out have changed places: c_skip multiplies x, c_out what the network says.
                ab * std**2 + (1 - ab) → ab * std + (1 - ab)
                    Variances are added: the square of std is needed.
                grad(loss, weight)[0] → grad(loss, weight)[0] / 2
                    This is half the gradient. The square brings down a 2.
                return torch → return -torch
                    This is the way downhill, minus the gradient. Asked for is the gradient.
            """),  # noqa: E501
            WrongWay(
                _neighbours_exchanged,
                "The neighbours have changed places: the learning weight is asked about x_t, the target about x_s.",
            ),
        ),
        hints=(
            "Write f once, as a function of a weight, points and levels. Then the question is only who is asked what.",
            "The target: f with `average`, at x_s and ab_s. What learns: f with `weight`, at x_t and ab_t. Only the "
            "second has a gradient.",
            "`weight = weight.detach().requires_grad_()`, `loss = (f(weight, x_t, ab_t) - f(average, x_s, ab_s))"
            ".square().sum(1).mean()`, `torch.autograd.grad(loss, weight)[0]`.",
        ),
    ),
    Task(
        gaussian_jumps,
        minutes=7,
        difficulty=2,
        cases=(
            Case("two jumps", lambda g: jump_inputs(g, 2, 6, 2, uniform(g, 0.2, 0.5))),
            Case("four jumps", lambda g: jump_inputs(g, 4, 5, 3, uniform(g, 0.4, 0.7))),
            Case("data wider than the noise", lambda g: jump_inputs(g, 3, 6, 1, uniform(g, 1.6, 2.2))),
        ),
        mistakes=(
            *edits("""
                noise[k] → (x - ab_t.sqrt() * x0) / (1 - ab_t).sqrt()
                    You re-noised with the old noise, which was in x: the next jump repeats this one, errors included.
                    Take fresh noise.
                noise[k] → noise[0]
                    The same noise comes back before every jump. Take noise[k], fresh each time.
                std / spread * (x → ab_t.sqrt() * std**2 / spread**2 * (x
                    This is the mean of all data that x may come from, as a network predicts it. The path has one end,
                    and ends have the spread of the data.
                std / spread * (x → std / spread**2 * (x
                    You divided by the variance of x_t. Divide by its root: x_t at so many spreads ends at as many.
                std / spread * (x → (x
                    The distance to the mean is kept as it is. It shrinks or grows as the spread does: std / sqrt(v).
                ab_t * std**2 + (1 - ab_t) → std**2 + (1 - ab_t)
                    The variance of x_t is ab std^2 + 1 - ab: the data shrink with the signal.
                ab_t * std**2 + (1 - ab_t) → ab_t * std + (1 - ab_t)
                    Variances are added: the square of std is needed.
                (x - ab_t.sqrt() * mean) → (x - mean)
                    The mean of x_t is sqrt(ab) times that of the data.
                mean + std / spread → std / spread
                    The mean of the data is not added back.
                (x - ab_t.sqrt() * mean) → (x - ab_t * mean)
                    The mean shrinks as the data do, by sqrt(ab), not by ab.
                (1 - ab_s).sqrt() * noise → (1 - ab_s) * noise
                    The fresh noise lacks its root: sqrt(1 - ab_s).
                ab_s.sqrt() * x0 → x0
                    Re-noised data shrink: sqrt(ab_s) x0 + sqrt(1 - ab_s) noise.
                x = ab_s.sqrt() * x0 + (1 - ab_s) → x = ab_t.sqrt() * x0 + (1 - ab_t)
                    You re-noised to the level that x came from. Go to the next one, s; at 0 no noise is left.
                x = ab_s.sqrt() * x0 + (1 - ab_s).sqrt() * noise[k] → return x0
                    This is the first jump alone. Re-noise and jump again, up to the last time.
            """),
            WrongWay(
                _start_noise_again,
                "You re-noised with the noise that the run began with. Take noise[k], fresh each time.",
            ),
            WrongWay(
                _jumps_from_the_start,
                "Every jump starts from the x that was given. Go on from the re-noised point.",
            ),
        ),
        hints=(
            "On a path a point keeps its place in the crowd: how many spreads is it from the mean of x_t?",
            "f(x, t) = mean + std / sqrt(v) (x - sqrt(ab) mean), with v = ab std^2 + 1 - ab. Then re-noise to s with "
            "noise[k], and jump from there. At s = 0 re-noising does nothing.",
            "`for k, (t, s) in enumerate(zip(times, times[1:])):`, f, and "
            "`x = alpha_bar[s].sqrt() * x0 + (1 - alpha_bar[s]).sqrt() * noise[k]`.",
        ),
    ),
    Task(
        bill,
        minutes=4,
        difficulty=1,
        cases=(
            Case("DDIM, guided", lambda g: bill_inputs(g, 50, 1, uniform(g, 1.5, 8), False)),
            Case("two evaluations a step, w = 1", lambda g: bill_inputs(g, 20, 2, 1.0, False)),
            Case("a student with guidance folded in", lambda g: bill_inputs(g, 8, 1, uniform(g, 1.5, 3), True)),
            Case("DDIM without label, w = 0", lambda g: bill_inputs(g, 50, 1, 0.0, False)),
            Case("three evaluations a step, w below 1", lambda g: bill_inputs(g, 20, 3, uniform(g, 0.2, 0.8), False)),
        ),
        mistakes=(
            *edits("""
                1 if w in (0, 1) else 2 → 1 if w in (0, 1) or not folded else 2
                    Guidance is forgotten: with w other than 0 and 1, below 1 too, every prediction costs two
                    evaluations.
                1 if folded else guided → 1
                    Guidance is forgotten where you count your own evaluations, and not where you count DDPM's.
                1 if w in (0, 1) else 2 → 2
                    At w = 0 and at w = 1 one of the two predictions drops out, and nobody computes it.
                1 if folded else guided → guided
                    Guidance is folded in: the student has learned the blend, and is asked once.
                1000 * guided → 1000
                    The rival is DDPM at the same w, and has nothing folded in: with guidance it pays 2,000 evaluations.
                (len(times) - 1) → len(times)
                    The 0 at the end of the grid counts as a call. Nobody asks there: one step fewer than times.
                (len(times) - 1) → times[0]
                    You counted the times that the first step passes over. What costs is the steps of the grid.
                (len(times) - 1) * a_step → (len(times) - 1)
                    Steps are not evaluations: a solver may ask more than once a step.
                1000 * guided / evaluations → 1000 * (guided if folded else 1) / (len(times) - 1)
                    This compares steps with steps, as if DDPM asked as often in each. Compare evaluations: DDPM asks
                    once a step.
                1000 * guided / evaluations → evaluations / (1000 * guided)
                    The speed-up is upside down. Say how many times as many evaluations DDPM needs.
            """),
            WrongWay(
                lambda *arguments: bill(*arguments)[::-1],
                "The two numbers have changed places: first the evaluations, then how many times as many DDPM needs.",
            ),
        ),
        hints=(
            "Three factors: how many steps has the grid, how often does a step ask, and what does one answer cost?",
            "steps = len(times) - 1. One answer costs two evaluations, unless w is 0 or 1, or the guidance is folded "
            "in. DDPM: 1000 steps, one answer each, and nothing folded.",
            "`guided = 1 if w in (0, 1) else 2`, then `(len(times) - 1) * a_step * (1 if folded else guided)`.",
        ),
    ),
    Task(
        merged_weight,
        minutes=5,
        difficulty=1,
        cases=(
            Case("a linear layer, as wide as deep", lambda g: layer(g, (5, 5), (3, 3))),
            Case("a convolution", lambda g: layer(g, (4, 3, 3, 3), (3, 3))),
            Case("a convolution, three adapters of different ranks", lambda g: layer(g, (6, 2, 3, 3), (1, 2, 4))),
        ),
        mistakes=(
            *edits("""
                flat = flat + scale → flat = scale
                    The weight is lost, and so are all adapters but the last. Add every change.
                flat = flat + scale → flat = weight.flatten(1) + scale
                    Only the last adapter counts. Add its change to what the ones before have made.
                flat = weight.flatten(1) → flat = torch.zeros_like(weight.flatten(1))
                    This is the change alone. Add it to the weight.
                zip(adapters, scales, strict=True) → zip(adapters[:1], scales, strict=False)
                    Only the first adapter counts. Perhaps the return stands inside the loop.
                scale * (up → scales[0] * (up
                    Every adapter gets the first scale. Each has its own.
                scale * (up → scale / len(adapters) * (up
                    This adds the mean of the changes. Add each of them.
                (up @ down) → (down @ up)
                    The product is turned round. Numbers go through down first, so it stands on the right: up @ down.
                scale * (up → (up
                    The scales are not used: every adapter counts in full.
                scale * (up → scale**2 * (up
                    The scale enters twice: give it to up or to down, not to both.
                scale * (up → scale / len(down) * (up
                    You divided by the rank. Many libraries do, and call it alpha / r; here the scale is the whole
                    factor.
                scale * (up → (up + scale * up
                    The change is added once in full and once scaled.
                flat.view_as(weight) → flat
                    The windows of the convolution lie flat. Give the result the shape of the weight.
            """),
            WrongWay(
                _product_of_sums,
                "You added the ups, added the downs, and multiplied the sums. Each up belongs to its own down alone.",
            ),
            WrongWay(
                _other_order,
                "Down and up have changed places. Numbers go through down first: the weight gets up @ down.",
            ),
            WrongWay(
                _window_last,
                "The change is folded in the wrong order: inputs count channel by channel, and within it the window. "
                "reshape or view to the weight's own shape does it.",
            ),
        ),
        hints=(
            "W x + up (down x) = (W + up down) x. What shapes have up @ down, and the weight of a convolution?",
            "Flatten the weight to (outputs, inputs), add scale times up @ down for every adapter, and give it back "
            "its shape.",
            "`flat = weight.flatten(1)`, `flat = flat + scale * (up @ down)`, `flat.view_as(weight)`.",
        ),
    ),
    Task(
        accuracy_and_variety,
        minutes=6,
        difficulty=2,
        cases=(
            Case("as varied as real ones", lambda g: claim(g, 4, 24, 1.0, 0.8), tolerance=1e-5),
            Case("almost one drawing a class", lambda g: claim(g, 5, 18, 0.05, 0.97), tolerance=1e-5),
            Case("too varied", lambda g: claim(g, 3, 40, 1.6, 0.6), tolerance=1e-5),
        ),
        mistakes=(
            *edits("""
                means = torch.stack([x[own == c].mean(0) for c in range(int(own.max()) + 1)]) → means = x.mean(0).expand(int(own.max()) + 1, -1)
                    This is the spread of all classes together. One drawing a class spreads nearly as far: take each
                    class around its own mean.
                .square().sum(1).mean().sqrt() → .square().sum(1).mean()
                    You compared squares. Take the root: then half the variety is half the distance.
                .square().sum(1).mean().sqrt() → .square().sum(1).sqrt().mean()
                    This is the mean distance. Asked for is the root of the mean squared distance.
                spread(features, label) / spread(real, real_label) → spread(real, real_label) / spread(features, label)
                    The ratio is upside down: a collapse should come out near 0.
                / spread(real, real_label) → / 1
                    The spread is not compared with that of real samples, and says nothing alone.
                spread(features, label) → spread(features, read)
                    The classes are those that were read. Judge the drawings by those that were asked for.
                (x - means[own]).square().sum(1).mean().sqrt() → (sum(x[own == c].var(0).sum() * (own == c).sum() for c in range(len(means))) / len(x)).sqrt()
                    var and std divide by n - 1 if nothing else is said. The mean square divides by n.
                (x - means[own]).square().sum(1).mean().sqrt() → torch.stack([(x[own == c] - means[c]).square().sum(1).mean().sqrt() for c in range(len(means))]).mean()
                    This is the mean of the classes' spreads. Take the mean over all rows first, then the root.
                spread(features, label) → spread(features[read == label], label[read == label])
                    Drawings that are read wrongly are left out of the spread. They are drawings, too.
                (read == label).double().mean() → 100 * (read == label).double().mean()
                    This is a percentage. The share goes from 0 to 1.
                (read == label).double().mean() → (read == label).double().sum()
                    You counted the digits read rightly. Take their share.
                (read == label).double().mean() → (read != label).double().mean()
                    This is the share that is read wrongly, one minus the accuracy.
            """),  # noqa: E501
            WrongWay(
                _around_the_real_means,
                "The drawings' distances are from the real means. Where a class lies is another question: take their "
                "own means.",
            ),
            WrongWay(
                lambda *arguments: accuracy_and_variety(*arguments)[::-1],
                "The two numbers have changed places: first the share, then the variety.",
            ),
        ),
        hints=(
            "Ten perfect digits, each a thousand times: what is read rightly, and how far is each from its own class?",
            "Subtract from each row the mean of its class. The spread is the root of the mean squared length of what "
            "is left. Do the same with the real ones and divide.",
            "`means = torch.stack([x[label == c].mean(0) for c in range(classes)])`, then "
            "`(x - means[label]).square().sum(1).mean().sqrt()`.",
        ),
    ),
)
