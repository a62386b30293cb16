"""Exercises of lesson 03: the training step, its loss, and how to read it."""

import torch
from torch import Tensor

from lessons_src.exercises.inputs import falling, network, normal, pair, stream, times, uniform, whole
from lessons_src.exercises.tasks import Case, Task, WrongWay, edits
from lessons_src.oracle import OracleNetwork


def loss_per_sample(prediction: Tensor, eps: Tensor) -> Tensor:
    """Mean squared error over the event, one number a sample."""
    return (prediction - eps).square().flatten(1).mean(1)


def ema_update(slow: Tensor, fast: Tensor, decay: float) -> Tensor:
    """One step of the running average of weights."""
    return decay * slow + (1 - decay) * fast


def time_embedding(t: Tensor, width: int) -> Tensor:
    """Sines, then cosines, of t at frequencies that fall geometrically from 1 (Ho et al. 2020, appendix B)."""
    half = width // 2
    i = torch.arange(half, dtype=torch.float64)
    frequencies = 10_000.0 ** (-i / half)
    phase = t[:, None] * frequencies
    return torch.cat([phase.sin(), phase.cos()], 1)


def training_loss(
    net: OracleNetwork, x0: Tensor, label: Tensor, alpha_bar: Tensor, p_drop: float, generator: torch.Generator
) -> Tensor:
    """The loss of one training step (Ho et al. 2020, algorithm 1), labels dropped (Ho & Salimans 2022)."""
    B, T = len(x0), len(alpha_bar) - 1
    t = torch.randint(1, T + 1, (B,), generator=generator)
    eps = torch.randn(x0.shape, generator=generator)
    dropped = torch.rand(B, generator=generator) < p_drop
    level = alpha_bar[t].view(-1, *[1] * (x0.ndim - 1))
    x_t = level.sqrt() * x0 + (1 - level).sqrt() * eps
    prediction = net(x_t, t, label.masked_fill(dropped, net.num_classes))
    return (prediction - eps).square().mean()


def loss_by_time(t: Tensor, loss: Tensor, T: int) -> Tensor:
    """Mean loss in ten equal ranges of t."""
    tenth = 10 * (t - 1) // T
    return torch.stack([loss[tenth == k].mean() for k in range(10)])


def change_with_time(net: OracleNetwork, x: Tensor, t: Tensor, other: Tensor) -> Tensor:
    """Root mean square change of the output when only the time is exchanged."""
    change = net(x, t) - net(x, other)
    return change.square().mean().sqrt()


def _drop_first(net, x0, label, alpha_bar, p_drop, generator):
    """training_loss that draws the numbers for the label drop before t and eps."""
    dropped = torch.rand(len(x0), generator=generator) < p_drop
    return training_loss(net, x0, label.masked_fill(dropped, net.num_classes), alpha_bar, 0.0, generator)


def step_inputs(generator: torch.Generator, p_drop: float) -> tuple:
    """Arguments for training_loss."""
    alpha_bar, B = falling(generator, whole(generator, 300, 400)), 16
    x0 = normal(generator, B, 2, dtype=torch.float32)
    label = torch.randint(3, (B,), generator=generator)
    return network(generator, alpha_bar), x0, label, alpha_bar.float(), p_drop, stream(generator)


def losses_in_time(generator: torch.Generator, T: int) -> tuple[Tensor, Tensor, int]:
    """Arguments for loss_by_time: every time from 1 to T at least once, shuffled."""
    t = torch.cat([torch.arange(1, T + 1), times(generator, 20, T)])
    t = t[torch.randperm(len(t), generator=generator)]
    return t, normal(generator, len(t)).square(), T


def network_and_times(generator: torch.Generator) -> tuple[OracleNetwork, Tensor, Tensor, Tensor]:
    """Arguments for change_with_time."""
    T = whole(generator, 20, 40)
    t, other = times(generator, 8, T), times(generator, 8, T).flip(0)
    return network(generator, falling(generator, T)), normal(generator, 8, 2), t, other


TASKS = (
    Task(
        loss_per_sample,
        minutes=4,
        difficulty=1,
        cases=(
            Case("points", lambda g: pair(g, 6, 2)),
            Case("pictures", lambda g: pair(g, 4, 1, 5, 5)),
            Case("a single sample", lambda g: pair(g, 1, 3, 4)),
        ),
        mistakes=edits("""
            .mean(1) → .sum(1)
                This is the sum over the event where the mean belongs: too large by the dimension, 784 for a digit.
            .flatten(1).mean(1) → .mean()
                The batch was averaged too. Keep one number a sample; only the event's axes are reduced.
            square → abs
                This is the mean absolute error. The best answer to a *squared* error is the conditional mean.
            .mean(1) → .mean(1).sqrt()
                A root too much: the loss is the mean square itself.
            .flatten(1).mean(1) → .mean(0)
                The mean runs over the batch. It should run over everything *but* the batch axis.
            .flatten(1) →
                Only one axis of the event was averaged. Pictures have three: flatten them first.
            .square().flatten(1).mean(1) → .flatten(1).norm(dim=1)
                This is the length of the difference, a root of a sum. Asked for is the mean of the squares.
            .mean(1) → .mean(1) / 2
                There is a half too much: the loss is the mean square itself.
            .square() →
                The differences were not squared: they cancel each other.
        """),
        hints=(
            "Square first. Then: which axes belong to one sample?",
            "All but the first. `flatten(1)` turns (B, *event) into (B, d), whatever the event is.",
            "`(prediction - eps).square().flatten(1)`, then the mean over axis 1.",
        ),
    ),
    Task(
        ema_update,
        minutes=3,
        difficulty=1,
        cases=(
            Case("a usual decay", lambda g: (*pair(g, 4, 3), uniform(g, 0.9, 0.99))),
            Case("a quick one", lambda g: (*pair(g, 7), uniform(g, 0.1, 0.4))),
            Case("a convolution's weights", lambda g: (*pair(g, 3, 2, 3, 3), uniform(g, 0.6, 0.9))),
        ),
        mistakes=edits("""
            slow + (1 - decay) * fast → fast + (1 - decay) * slow
                The two have changed places. decay is what the slow copy *keeps*: near 1, or it would not be slow.
            (1 - decay) * fast → fast
                The weights do not add up to 1: the new ones get 1 - decay.
            decay * slow + (1 - decay) * fast → (slow + fast) / 2
                This is the plain average of two. Use the decay.
            slow + (1 - decay) * fast → fast
                The slow copy has no say. Its share is decay; the new weights get what is left, 1 - decay.
            decay * slow + → slow +
                The slow copy is not shrunk. It keeps the share decay, and the new weights get 1 - decay.
            decay * slow + (1 - decay) * fast → slow + (1 - decay) * (slow - fast)
                The average moves away from the new weights: the difference is turned round.
        """),
        hints=(
            "A weighted mean of two tensors. With decay = 1, which of them must come back unchanged?",
            "The slow copy keeps the share decay, the rest comes from the new weights.",
            "`decay * slow + (...) * fast`, with weights that add up to 1.",
        ),
    ),
    Task(
        time_embedding,
        minutes=8,
        difficulty=2,
        cases=(
            Case("a few times", lambda g: (times(g, 5, 1000), 8)),
            Case("a wider embedding", lambda g: (times(g, 3, 1000), 2 * whole(g, 6, 12))),
            Case("small times", lambda g: (times(g, 6, 20), 2 * whole(g, 3, 5))),
        ),
        mistakes=edits("""
            phase.sin(), phase.cos() → phase.cos(), phase.sin()
                Cosines and sines have changed places. Any order would do for a network; here the sines come first.
            cat([phase.sin(), phase.cos()], 1) → stack([phase.sin(), phase.cos()], 2).flatten(1)
                Sines and cosines alternate. The task asks for all sines first, then all cosines.
            -i / half → i / half
                The frequencies *rise*, up to thousands of turns a step: neighbouring times look unrelated. Minus sign.
            / half → / (half - 1)
                You divided by half - 1, as some code does; the last frequency is then exactly 1/10000. Here it is
                divided by half.
            / half → / width
                You divided by the width. There are width / 2 frequencies; divide i by that number.
            t[:, None] → 0 * t[:, None]
                The embedding is the same for all t: it is dead. Multiply the frequencies by t.
            -i / half → -2 * i / half
                The exponent is twice too large: i / half runs up to nearly 1 already.
            (-i / half) → -i
                The frequencies fall by 10,000 at every step. They should do so over all of them: divide i by half.
            [phase.sin(), phase.cos()] → [phase.sin(), phase.sin()]
                These are sines twice. The second half are cosines.
        """),
        hints=(
            "Make the frequencies first, one for each pair of sine and cosine: they run from 1 down to nearly 1/10000.",
            "`10_000.0 ** (-i / half)` for i = 0, 1, ..., half - 1 with half = width // 2. "
            "Every t meets every frequency.",
            "`phase = t[:, None] * frequencies`, then `torch.cat([phase.sin(), phase.cos()], 1)`.",
        ),
    ),
    Task(
        training_loss,
        minutes=12,
        difficulty=3,
        cases=(
            Case("some labels dropped", lambda g: step_inputs(g, uniform(g, 0.3, 0.5)), points=2, tolerance=1e-5),
            Case("none dropped", lambda g: step_inputs(g, 0.0), tolerance=1e-5),
            Case("all dropped", lambda g: step_inputs(g, 1.0), tolerance=1e-5),
        ),
        mistakes=(
            *edits("""
                .mean() → .sum()
                    This is the sum where the mean belongs: a learning rate would have to change with the batch size.
                .mean() → .flatten(1).sum(1).mean()
                    The event was summed, only the batch averaged. Take the mean over everything.
                1, T + 1 → 0, T
                    The times run from 0 to T - 1. Here t = 0 is clean data, with nothing to predict: draw 1 to T.
                T + 1 → T
                    T itself is never drawn: the upper end of torch.randint is exclusive, so it has to be T + 1.
                randn → rand
                    The noise comes from torch.rand, uniform between 0 and 1. Gaussian noise is torch.randn.
                (B,), generator=generator) → (1,), generator=generator).expand(B)
                    The whole batch shares one time. Draw B of them, or each batch sees a single noise level.
                < p_drop → < 0
                    No label is dropped. Without that the null label is never trained, and guidance breaks.
                < p_drop → >= p_drop
                    Drop and keep have changed places: a label goes when its random number is *below* p_drop.
                net.num_classes → 0
                    Dropped labels became class 0, which is a digit like any other. The null label is net.num_classes.
                level.sqrt() * x0 + (1 - level).sqrt() * eps → level * x0 + (1 - level) * eps
                    The square roots are missing: alpha_bar is a share of the variance, not of the amplitude.
                level.sqrt() * x0 + (1 - level).sqrt() * eps → (1 - level).sqrt() * x0 + level.sqrt() * eps
                    Signal and noise have changed places: x0 gets sqrt(alpha_bar), eps sqrt(1 - alpha_bar).
                (1 - level).sqrt() → (1 - level)
                    The noise is multiplied by its variance, 1 - alpha_bar. Take the root.
                alpha_bar[t] → alpha_bar[t - 1]
                    Every level is one step too early: t counts from 1, and alpha_bar[0] is 1.
                (prediction - eps) → (prediction - x0)
                    The prediction is compared with x0. This network predicts the noise, eps.
                net(x_t, → net(x0,
                    The network was shown the clean x0. It has to find the noise in x_t.
                .mean() → .mean().sqrt()
                    A root too much: the loss is the mean square itself.
                .square() → .abs()
                    This is the mean absolute error. Asked for is the mean square.
                net.num_classes → net.num_classes - 1
                    Dropped labels became the last class. The null label comes after it: net.num_classes.
            """),
            WrongWay(
                _drop_first,
                "The numbers for the label drop are drawn first. "
                "Any order trains as well, but to be checked the draws must come as stated: t, eps, then the drop.",
            ),
        ),
        hints=(
            "Four lines of drawing and jumping, one of predicting. Write down the shape of each thing first.",
            "t: `torch.randint(1, T + 1, (B,), generator=generator)`. Dropped labels: `label.masked_fill(..., "
            "net.num_classes)`. The level of each sample needs the shape (B, 1, ..., 1).",
            "After x_t from the shortcut: `(net(x_t, t, label) - eps).square().mean()`, with the label after the drop.",
        ),
    ),
    Task(
        loss_by_time,
        minutes=6,
        difficulty=2,
        cases=(
            Case("T = 1000", lambda g: losses_in_time(g, 1000)),
            Case("another T", lambda g: losses_in_time(g, 10 * whole(g, 2, 6))),
            Case("a T that ten does not divide", lambda g: losses_in_time(g, 10 * whole(g, 3, 6) + whole(g, 1, 9))),
        ),
        mistakes=edits("""
            10 * (t - 1) // T → (10 * t // T).clamp(max=9)
                Times at the upper end of a range went one range too far: t counts from 1, so count t - 1.
            mean → sum
                These are sums. Ranges with more samples would look worse; take the mean in each.
            loss[tenth == k].mean() for k in range(10) → part.mean() for part in loss.tensor_split(10)
                The losses were cut into ten parts in the order of the batch. It is t that says which range they are in.
            .mean() → .sum() / len(loss)
                Each range was divided by the size of the whole batch. Divide by the number of samples in that range.
            mean → median
                This is the median. It hides exactly the few large losses that one is looking for.
            10 * (t - 1) // T → 10 * t // T
                Count t - 1: with t itself ranges begin one time too early, and t = T is in none of them.
            10 * (t - 1) // T → (t - 1) // 10
                These are ranges of ten times each. There are to be ten ranges, whatever T is: 10 * (t - 1) // T.
            .mean() for → .square().mean().sqrt() for
                This is the root mean square of the losses. Take their mean.
            range(10) → range(1, 11)
                The ranges are counted from 1. The first is k = 0, and there is none with k = 10.
        """),
        hints=(
            "For each sample: which tenth of 1..T is its t in? "
            "The first tenth begins at t = 1, the last ends at t = T.",
            "`10 * (t - 1) // T` is a number from 0 to 9. Check both ends by hand.",
            "`tenth = 10 * (t - 1) // T`, then for each k the mean of `loss[tenth == k]`.",
        ),
    ),
    Task(
        change_with_time,
        minutes=5,
        difficulty=2,
        cases=(
            Case("a network that listens", network_and_times, tolerance=1e-7),
            Case("another one", network_and_times, tolerance=1e-7),
        ),
        mistakes=edits("""
            .square().mean().sqrt() → .mean()
                The differences cancel each other: square them before taking the mean.
            .sqrt() →
                This is the mean square. Take its root, so that it has the unit of the output.
            .square().mean().sqrt() → .abs().mean()
                This is the mean absolute change; asked for is the root of the mean square.
            .square().mean().sqrt() → .norm()
                This is the length of the whole difference, a root of a *sum*. It would grow with the batch.
            net(x, other) → x
                You compared the output with its input. Compare two outputs, at t and at the other time.
            .square().mean().sqrt() → .square().flatten(1).mean(1).sqrt()
                This is one number a sample. Asked for is one number, over batch and event.
            .square().mean().sqrt() → .square().flatten(1).mean(1).sqrt().mean()
                You took the root for each sample and averaged then. Average all squares first, then take one root.
            .square().mean().sqrt() → .std()
                The standard deviation takes off the mean change. What all outputs change by counts, too.
        """),
        hints=(
            "Ask the network twice. What may differ between the two calls, and what may not?",
            "Same x, two times. Then the root of the mean of the squared differences, over all entries.",
            "`(net(x, t) - net(x, other)).square()`, then `.mean().sqrt()`.",
        ),
    ),
)
