"""Exercises of lesson 07: the guided prediction, its gradient, a hidden classifier, a clean one, costs, both guides."""

import torch
from torch import Tensor

from lessons_src.exercises.inputs import falling, network, normal, pair, times, uniform, whole
from lessons_src.exercises.tasks import Case, Task, WrongWay, edits
from lessons_src.oracle import OracleNetwork
from lessons_src.process import as_column


def guided_eps(eps: Tensor, gradient: Tensor, alpha_bar: Tensor, w: float) -> Tensor:
    """The prediction under a classifier's gradient (Dhariwal & Nichol 2021, algorithm 2)."""
    noise = as_column((1 - alpha_bar).sqrt(), eps)
    return eps - w * noise * gradient


def log_prob_gradient(guide: OracleNetwork, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
    """The gradient in x of log p(label | x_t), each row for its own label."""
    x = x.detach().requires_grad_()
    log_p = guide.log_prob(x, t).gather(1, label[:, None])
    (found,) = torch.autograd.grad(log_p.sum(), x)
    return found


def implicit_change(
    net: OracleNetwork, start: Tensor, end: Tensor, t: Tensor, label: Tensor, alpha_bar: Tensor, pieces: int
) -> Tensor:
    """By how much log p(label | x_t) grows on a straight way, as a conditional network says without a classifier."""
    noise = (1 - alpha_bar[t]).sqrt()[:, None]
    way = (end - start) / pieces
    change = torch.zeros(len(start), dtype=start.dtype)
    for k in range(pieces):
        x = start + (k + 0.5) * way
        pull = (net(x, t) - net(x, t, label)) / noise
        change = change + (pull * way).sum(1)
    return change


def slopes(alpha_bar: Tensor, mean: float, std: float) -> tuple[Tensor, Tensor]:
    """Slopes of the log-odds of N(mean, std^2) against N(-mean, std^2) in noise, and how much too steep clean ones are.

    Noisy classes are N(sqrt(ab) mean, ab std^2 + 1 - ab) and its mirror image: the log-odds are linear in x.
    """
    variance = alpha_bar * std**2 + (1 - alpha_bar)
    slope = 2 * alpha_bar.sqrt() * mean / variance
    clean = 2 * mean / std**2
    return slope, clean / slope


def passes(batch: int, steps: int, w_free: float, w_guide: float) -> tuple[int, int, int, int]:
    """Passes of sampling with both guidances: of the base forward and backward, of the guide forward and backward."""
    base = steps if w_free in (0, 1) else 2 * steps
    guide = 0 if w_guide == 0 else steps
    return base, 0, guide, guide


def combined(
    net: OracleNetwork, guide: OracleNetwork, x: Tensor, t: Tensor, label: Tensor, w_free: float, w_guide: float
) -> Tensor:
    """Classifier-free guidance of the base, then the gradient of another network on top."""
    eps_u, eps_c = net(x, t), net(x, t, label)
    base = eps_u + w_free * (eps_c - eps_u)
    pull = log_prob_gradient(guide, x, t, label)
    return guided_eps(base, pull, net.schedule.alpha_bar[t], w_guide)


# --- Ways to go wrong


def _of_the_likeliest(guide, x, t, label):
    return log_prob_gradient(guide, x, t, guide.log_prob(x, t).argmax(1))


def _one_batch_twice(batch, steps, w_free, w_guide):
    base, back, forward, backward = passes(batch, steps, w_free, w_guide)
    return batch * base, back, batch * forward, batch * backward


def _weights_swapped(net, guide, x, t, label, w_free, w_guide):
    return combined(net, guide, x, t, label, w_guide, w_free)


# --- Inputs


def predicted(generator: torch.Generator, w: float, *shape: int) -> tuple[Tensor, Tensor, Tensor, float]:
    """Arguments for guided_eps, every sample at its own noise level."""
    alpha_bar = 0.05 + 0.9 * torch.rand(shape[0], generator=generator, dtype=torch.float64)
    return *pair(generator, *shape), alpha_bar, w


def _labels(generator: torch.Generator, B: int, classes: int) -> Tensor:
    """Labels (B,), the first and the last of them not the same."""
    label = torch.randint(classes, (B,), generator=generator)
    label[-1] = (label[0] + whole(generator, 1, classes - 1)) % classes
    return label


def classified(
    generator: torch.Generator, B: int, classes: int, alone: bool = False
) -> tuple[OracleNetwork, Tensor, Tensor, Tensor]:
    """Arguments for log_prob_gradient; alone: one class is wanted of all of them, at one time."""
    guide = network(generator, falling(generator, 20), classes)
    x, t, label = normal(generator, B, 2), times(generator, B, 20), _labels(generator, B, classes)
    if alone:
        t, label = torch.full_like(t, whole(generator, 5, 15)), torch.full_like(label, label[0].item())
    return guide, x, t, label


def walks(generator: torch.Generator, B: int, dim: int) -> tuple:
    """Arguments for implicit_change: short walks, at times with noise enough for 40 pieces."""
    alpha_bar, classes = falling(generator, 20), 3
    net = network(generator, alpha_bar, classes, dim)
    t = torch.randint(5, 12, (B,), generator=generator)
    start, way = 0.7 * normal(generator, B, dim), normal(generator, B, dim)
    return net, start, start + way, t, _labels(generator, B, classes), alpha_bar, 40


def two_classes(generator: torch.Generator, n: int, std: float) -> tuple[Tensor, float, float]:
    """Arguments for slopes: noise levels, and two classes around a mean and its mirror image."""
    alpha_bar = 0.02 + 0.95 * torch.rand(n, generator=generator, dtype=torch.float64)
    return alpha_bar, uniform(generator, 0.5, 1.5), std


def runs(generator: torch.Generator, w_free: float, w_guide: float) -> tuple[int, int, float, float]:
    """Arguments for passes."""
    return whole(generator, 20, 60), whole(generator, 5, 19), w_free, w_guide


def two_networks(generator: torch.Generator, w_free: float, w_guide: float, B: int = 8) -> tuple:
    """Arguments for combined: a base, and a guide that believes in other classes, under one schedule."""
    alpha_bar = falling(generator, 20)
    net, guide = (network(generator, alpha_bar) for _ in range(2))
    x, t, label = normal(generator, B, 2), times(generator, B, 20), _labels(generator, B, 3)
    return net, guide, x, t, label, w_free, w_guide


TASKS = (
    Task(
        guided_eps,
        minutes=4,
        difficulty=1,
        cases=(
            Case("points", lambda g: predicted(g, uniform(g, 2.0, 6.0), 5, 2)),
            Case("pictures, as many as they have columns", lambda g: predicted(g, uniform(g, 2.0, 6.0), 4, 1, 4, 4)),
            Case("a negative w", lambda g: predicted(g, uniform(g, -3.0, -1.5), 6, 2)),
        ),
        mistakes=edits("""
            eps - w * noise * gradient → eps - w * gradient
                The factor sqrt(1 - alpha_bar) is missing: it turns a push on the score into one on the noise.
            (1 - alpha_bar).sqrt() → (1 - alpha_bar)
                The factor lacks its root: it is sqrt(1 - alpha_bar).
            (1 - alpha_bar).sqrt() → alpha_bar.sqrt()
                This is sqrt(alpha_bar), the factor of the signal. The one of the noise is sqrt(1 - alpha_bar).
            (1 - alpha_bar).sqrt() → (1 - alpha_bar).rsqrt()
                You divided by sqrt(1 - alpha_bar). That leads from eps to the score; here you go the other way.
            eps - w → eps + w
                The sign: eps points away from the data, so what leads to the class is *subtracted* from it.
            - w * noise → - w * w * noise
                w enters twice, as its square. Multiply by it once.
            - w * noise → - noise
                w is not used: this is w = 1, whatever w says.
            eps - w → -w
                This is the push alone. It is added to what the base predicts, eps.
            noise * gradient → noise * gradient.mean(0)
                The gradient was averaged over the batch. Each sample has its own.
            noise * gradient → noise * gradient / gradient.flatten(1).norm(dim=1).reshape(-1, *[1] * (eps.ndim - 1))
                You made the gradient one long. Its length says how much is in doubt: keep it.
            as_column((1 - alpha_bar).sqrt(), eps) → (1 - alpha_bar).sqrt()
                The noise levels meet the last axis of eps. They belong to the first: one number for each sample.
            as_column((1 - alpha_bar).sqrt(), eps) → (1 - alpha_bar).sqrt()[:, None]
                With [:, None] the noise levels meet the rows of a picture. Give them as many axes as eps has.
        """),
        hints=(
            "The score of the class is the score plus the gradient. What is eps, in terms of the score?",
            "eps = -sqrt(1 - alpha_bar) score. Put the score plus w times the gradient in. And which axis of eps "
            "counts samples?",
            "`eps - w * noise * gradient`, with `noise = (1 - alpha_bar).sqrt().reshape(-1, *[1] * (eps.ndim - 1))`.",
        ),
    ),
    Task(
        log_prob_gradient,
        minutes=6,
        difficulty=2,
        cases=(
            Case("to each its own class and time", lambda g: classified(g, 8, 3)),
            Case("one class and one time for all", lambda g: classified(g, 5, 3, alone=True)),
            Case("as many samples as classes", lambda g: classified(g, 4, 4)),
        ),
        mistakes=(
            *edits("""
                torch.autograd.grad(log_p.sum(), x) → torch.autograd.grad(log_p.exp().sum(), x)
                    This is the gradient of p. It all but vanishes where the class is unlikely; take that of log p.
                log_p.sum() → log_p.mean()
                    You took the mean over the batch: every gradient is too short by the batch size. Take the sum.
                log_p.sum() → log_p
                    torch differentiates one number, and here are many: sum log p over the batch.
                return found → return -found
                    The sign is turned round: this leads away from the class.
                label[:, None] → label[:1, None].expand(len(x), 1)
                    Every sample is pulled to the first one's class. Each has its own label.
                label[:, None] → label.flip(0)[:, None]
                    The labels stand in the wrong order: each sample is pulled to another one's class.
                guide.log_prob(x, t).gather(1, label[:, None]) → guide.log_prob(x, t)[:, label]
                    [:, label] picks the classes of all samples for every sample. One entry a row: use gather.
                guide.log_prob(x, t).gather(1, label[:, None]) → guide.log_prob(x, t)
                    All classes are summed. Pick the one that is wanted in each row.
                x.detach().requires_grad_() → x.detach()
                    Nothing here has a gradient: x needs requires_grad_(), and no_grad or detach must not come after it.
                return found → return found.sum(0, keepdim=True).expand_as(found)
                    All gradients of the batch were added up. The sum is of log p; each row of its gradient stays apart.
            """),
            WrongWay(
                _of_the_likeliest,
                "This pulls each sample to the class that it already resembles. Take the class that is wanted.",
            ),
        ),
        hints=(
            "torch differentiates one number. Each row's log p depends on its own x alone: which one number will do?",
            "Make a copy of x require a gradient, take log p of each row's own label, and sum them. The gradient of "
            "the sum has each row's own in its place.",
            "`guide.log_prob(x, t).gather(1, label[:, None]).sum()`, and `torch.autograd.grad(..., x)[0]`.",
        ),
    ),
    Task(
        implicit_change,
        minutes=8,
        difficulty=3,
        cases=(
            Case("walks in the plane", lambda g: walks(g, 6, 2), tolerance=2e-3),
            Case("in five dimensions", lambda g: walks(g, 5, 5), tolerance=2e-3),
            Case("on a line", lambda g: walks(g, 7, 1), tolerance=2e-3),
        ),
        mistakes=edits("""
            (net(x, t) - net(x, t, label)) / noise → (net(x, t, label) - net(x, t)) / noise
                The sign: eps points away from the data, so the pull to the class is eps_u - eps_c.
            (net(x, t) - net(x, t, label)) / noise → net(x, t) - net(x, t, label)
                The difference of two eps is not yet one of scores: divide by sqrt(1 - alpha_bar).
            (net(x, t) - net(x, t, label)) / noise → (net(x, t) - net(x, t, label)) * noise
                You multiplied by sqrt(1 - alpha_bar). From eps to the score you divide.
            (1 - alpha_bar[t]).sqrt() → (1 - alpha_bar[t])
                This divides by 1 - alpha_bar. Take its root.
            (net(x, t) - net(x, t, label)) / noise → -net(x, t, label) / noise
                This is the score of the class, and follows log p(x | label). Without label subtracted, it follows
                log p(label | x).
            (net(x, t) - net(x, t, label)) / noise → (net(x, t, 0) - net(x, t, label)) / noise
                Label 0 is a class. The prediction without label is net(x, t).
            / pieces → / 1
                Every piece counts as the whole way: divide by the number of pieces.
            (pull * way).sum(1) → pull.sum(1) / pieces
                The pull was not multiplied by the way. What grows is pull times way, summed over the dimensions.
            (pull * way).sum(1) → (pull * way).mean(1)
                You averaged over the dimensions. A dot product is a sum.
            (pull * way).sum(1) → (pull * way).sum()
                You summed over the batch as well. Each walk has its own change.
            (k + 0.5) * way → k * way
                The pull was taken where each piece begins. In the middle the same number of pieces comes much closer.
            (k + 0.5) * way → (k + 1) * way
                The pull was taken where each piece ends. In the middle the same number of pieces comes much closer.
            x = start + (k + 0.5) * way → x = start
                The pull was taken at the start all the way. It changes: take it in the middle of each piece.
            change + (pull * way).sum(1) → (pull * way).sum(1)
                Only the last piece is left. Add all of them up.
            return change → return change.exp()
                This is the factor by which p grows. The change of log p is asked for.
        """),
        hints=(
            "Bayes: log p(label | x) = log p(x | label) - log p(x) + a constant. What are the gradients of the two?",
            "The gradient of log p(label | x) is (eps_u - eps_c) / sqrt(1 - alpha_bar). Along a short piece of way it "
            "changes log p by their dot product. Add up the pieces.",
            "`change = change + (pull * way).sum(1)`, with `way = (end - start) / pieces` and the pull at "
            "`start + (k + 0.5) * way`.",
        ),
    ),
    Task(
        slopes,
        minutes=6,
        difficulty=2,
        cases=(
            Case("narrow classes", lambda g: two_classes(g, 5, uniform(g, 0.1, 0.2))),
            Case("wide classes", lambda g: two_classes(g, 4, uniform(g, 0.5, 0.8))),
            Case("very wide ones", lambda g: two_classes(g, 6, uniform(g, 1.5, 2.0))),
        ),
        mistakes=edits("""
            2 * alpha_bar.sqrt() * mean → 2 * mean
                The means of noisy classes are nearer to each other: sqrt(alpha_bar) times theirs.
            2 * alpha_bar.sqrt() * mean → 2 * alpha_bar * mean
                The mean shrinks by sqrt(alpha_bar), the variance by alpha_bar.
            alpha_bar * std**2 + (1 - alpha_bar) → alpha_bar * std**2
                The variance lacks the noise: add 1 - alpha_bar.
            alpha_bar * std**2 + (1 - alpha_bar) → std**2 + (1 - alpha_bar)
                The variance of the classes shrinks with the signal: alpha_bar std^2.
            + (1 - alpha_bar) → + (1 - alpha_bar).sqrt()
                Variances are added, not standard deviations: the noise's is 1 - alpha_bar.
            alpha_bar * std**2 + → alpha_bar * std +
                Variances are added: the square of std is needed.
            2 * alpha_bar.sqrt() * mean → alpha_bar.sqrt() * mean
                The way from one mean to the other is twice the mean: a factor 2 is missing in your slope.
            clean / slope → slope / clean
                The ratio is upside down: say how many times too steep the clean one is.
            clean / slope → clean
                This is the clean slope. Divide it by the right one.
            clean = 2 * mean / std**2 → clean = 2 * mean / std
                The clean slope has the variance below it: std squared.
            alpha_bar * std**2 + (1 - alpha_bar) → 1 - alpha_bar
                The variance lacks the classes' own: add alpha_bar std^2.
        """),
        hints=(
            "What are the mean and the variance of each class after the noise? Lesson 01's shortcut says so.",
            "Subtract the logarithms of two Gaussians with the same variance v and the means m and -m: 2 m x / v is "
            "left.",
            "`slope = 2 * alpha_bar.sqrt() * mean / variance`, with `variance = alpha_bar * std**2 + 1 - alpha_bar`.",
        ),
    ),
    Task(
        passes,
        minutes=5,
        difficulty=1,
        cases=(
            Case("both", lambda g: runs(g, uniform(g, 1.5, 7.0), uniform(g, 0.5, 9.0)), points=2),
            Case("a conditional base, w_free = 1", lambda g: runs(g, 1.0, 1.0)),
            Case("an unconditional base, w_free = 0", lambda g: runs(g, 0.0, uniform(g, 0.5, 9.0))),
            Case("no guide, w_guide = 0", lambda g: runs(g, uniform(g, 0.2, 0.8), 0.0)),
        ),
        mistakes=(
            *edits("""
                in (0, 1) → <= 1
                    Only at 0 and at 1 does a prediction drop out. Below, between and above, both count.
                else 2 * steps → else steps
                    The base is asked twice a step, with and without label, unless w_free is 0 or 1.
                in (0, 1) → == 0
                    At w_free = 1 the prediction without label drops out: one pass of the base a step is enough.
                in (0, 1) → == 1
                    At w_free = 0 the prediction with label drops out: one pass of the base a step is enough.
                0 if w_guide == 0 else steps → steps
                    With w_guide = 0 nobody has to ask the guide: no pass, forward or backward.
                w_guide == 0 → w_guide in (0, 1)
                    At w_guide = 1 the guide counts: nothing but 0 makes it drop out.
                return base, 0, → return base, base,
                    Nothing runs backward through the base: the gradient is the guide's alone.
                0, guide, guide → 0, guide, 0
                    The guide's gradient takes a backward pass in every step.
                0, guide, guide → 0, 0, guide
                    No backward pass without a forward pass before it.
                0, guide, guide → 0, guide, guide and 1
                    There is no single backward pass at the end. Every step needs a gradient at its own x.
                0 if w_guide == 0 else steps → 0 if w_guide == 0 else 2 * steps
                    The guide is asked once a step: its gradient does not depend on the base's two predictions.
            """),
            WrongWay(
                _one_batch_twice,
                "You multiplied by the batch. It goes through together, in one pass; report its size beside the "
                "number.",
            ),
        ),
        hints=(
            "Go through one step with a pencil. Which networks are asked, how often, and whose gradient is needed?",
            "The base: twice, or once where one of its predictions has the weight 0. The guide: once there and once "
            "back, if it counts at all. The base is never differentiated.",
            "`base = steps if w_free in (0, 1) else 2 * steps`, then `return base, 0, ...`.",
        ),
    ),
    Task(
        combined,
        minutes=6,
        difficulty=2,
        cases=(
            Case("both weights above 1", lambda g: two_networks(g, uniform(g, 1.5, 3.0), uniform(g, 4.0, 6.0))),
            Case("a conditional base", lambda g: two_networks(g, 1.0, uniform(g, 2.0, 4.0))),
            Case("an unconditional base", lambda g: two_networks(g, 0.0, uniform(g, 2.0, 4.0))),
        ),
        mistakes=(
            WrongWay(
                _weights_swapped,
                "The two weights have changed places: w_free belongs to the blend, w_guide to the gradient.",
            ),
            *edits("""
                guided_eps(base, pull → guided_eps(eps_u, pull
                    The guide pushes the unconditional prediction: w_free is lost. Push the blend.
                guided_eps(base, pull → guided_eps(eps_c, pull
                    The guide pushes the conditional prediction: w_free is lost. Push the blend.
                guided_eps(base, pull, net.schedule.alpha_bar[t], w_guide) → base - w_guide * pull
                    The guide's push lacks its factor sqrt(1 - alpha_bar).
                alpha_bar[t], w_guide) → alpha_bar[t], -w_guide)
                    The guide's push has the wrong sign: it leads away from the class.
                alpha_bar[t], w_guide) → alpha_bar[t], w_free * w_guide)
                    w_free multiplies the guide's push too. Each weight belongs to one of the two pushes.
                alpha_bar[t], w_guide) → alpha_bar[t], w_guide * w_guide)
                    w_guide enters twice: your gradient had it already, or the push did.
                alpha_bar[t], w_guide) → alpha_bar[t], w_free)
                    w_free scales both pushes. The gradient's weight is w_guide.
                base = eps_u + w_free → base = eps_u + w_guide
                    w_guide scales both pushes. The blend's weight is w_free.
                eps_u + w_free → eps_c + w_free
                    The blend counts from the conditional prediction. In this course it counts from the unconditional
                    one.
                eps_u + w_free * (eps_c - eps_u) → eps_c + w_free * (eps_u - eps_c)
                    The two predictions have changed places in the blend: it leads from eps_u to eps_c.
                log_prob_gradient(guide, → log_prob_gradient(net,
                    The gradient is of the base's own classifier. Ask the guide.
                log_prob_gradient(guide, x, t, label) → torch.autograd.grad(guide.log_prob(x, t).sum(), x)[0]
                    x has no gradient here. Your log_prob_gradient gives it one; there must be no no_grad around the
                    guide.
                return guided_eps(base, pull, net.schedule.alpha_bar[t], w_guide) → return base
                    The guide is not used: this is classifier-free guidance alone.
            """),
        ),
        hints=(
            "Guidance wraps a prediction. What does the second one get as its base?",
            "Blend the two predictions of `net` with w_free, then push the result with the guide's gradient and "
            "w_guide. Your functions from before do half of it.",
            "`guided_eps(base, log_prob_gradient(guide, x, t, label), net.schedule.alpha_bar[t], w_guide)`, and "
            "`base = eps_u + w_free * (eps_c - eps_u)`.",
        ),
    ),
)
