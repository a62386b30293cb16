"""Exercises of lesson 13: a distance by hand, its bias, neighbours, votes, reports that are broken, and copies."""

import math
from itertools import count
from statistics import NormalDist

import torch
from torch import Tensor

from lessons_src.exercises.inputs import normal, uniform, whole
from lessons_src.exercises.tasks import Case, Task, WrongWay, edits


def frechet(a: Tensor, b: Tensor) -> Tensor:
    """Squared Frechet distance of the Gaussians fitted to two sets (Heusel et al. 2017, equation 6)."""
    A, B = torch.cov(a.T), torch.cov(b.T)
    cross = torch.linalg.eigvals(A @ B).real.clamp(min=0).sqrt().sum()  # the trace of the root of A B
    apart = (a.mean(0) - b.mean(0)).square().sum()
    return apart + A.trace() + B.trace() - 2 * cross


def limit_of(n: Tensor, distance: Tensor) -> Tensor:
    """Where a straight line in 1 / n meets 1 / n = 0, by least squares (Chong & Forsyth 2020)."""
    x = 1 / n.double()
    off, rise = x - x.mean(), distance - distance.mean()
    bias = (off * rise).sum() / off.square().sum()
    return distance.mean() - bias * x.mean()


def precision_and_recall(real: Tensor, samples: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Shares that lie in the other set's balls, as wide as its k-th neighbour is far (Kynkaanniemi et al. 2019)."""

    def share_within(x: Tensor, members: Tensor) -> Tensor:
        radii = torch.cdist(members, members).sort(1).values[:, k]  # column 0 is the member itself
        return (torch.cdist(x, members) <= radii).any(1).double().mean()

    return share_within(samples, real), share_within(real, samples)


def tails(n: int, p: float) -> list[float]:
    """P(X >= k) for k = 0 ... n, where X of n votes go to the better one, each with probability p."""
    mass = [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
    return [sum(mass[k:]) for k in range(n + 1)]


def votes_needed(p: float, power: float) -> int:
    """The smallest n whose two-sided sign test at 5 % shows a preference p with this power."""
    for n in count(1):
        k = next((k for k, chance in enumerate(tails(n, 0.5)) if 2 * chance <= 0.05), None)
        if k is not None and tails(n, p)[k] >= power:
            return n
    raise AssertionError("a larger n always shows it")


def faults(value: Tensor, n: Tensor, floor: Tensor, floor_n: Tensor, judge: Tensor, d: int) -> Tensor:
    """Five faults of reports: no floor, floor of another n, n too small, two judges, better than real ones."""
    mean, spread = floor.T
    no_floor = floor.isnan().any(1)
    other_n = ~no_floor & (floor_n != n)
    too_few = n <= d
    two_judges = judge[:, 0] != judge[:, 1]
    too_good = value < mean - 3 * spread
    return torch.stack([no_floor, other_n, too_few, two_judges, too_good], 1)


def suspects(samples: Tensor, train: Tensor, held_out: Tensor, alarm: float) -> tuple[float, float]:
    """Share of samples nearer to the training data than unseen data are, and how likely so many are by chance."""
    ours = torch.cdist(samples, train).amin(1)
    null = torch.cdist(held_out, train).amin(1)
    limit = null.quantile(alarm)
    found = int((ours < limit).sum())
    return found / len(samples), tails(len(samples), alarm)[found]


# --- Ways to go wrong


def _root(matrix):
    variances, axes = torch.linalg.eigh(matrix)
    return axes * variances.clamp(min=0).sqrt() @ axes.T


def _own_balls(real, samples, k):
    def share(x, members):
        radii = torch.cdist(x, x).sort(1).values[:, k]
        return (torch.cdist(x, members) <= radii[:, None]).any(1).double().mean()

    return share(samples, real), share(real, samples)


def _normal_formula(p, power):
    reach = 1.96 * 0.5 + NormalDist().inv_cdf(power) * math.sqrt(p * (1 - p))
    return math.ceil((reach / (p - 0.5)) ** 2)


def _wald_interval(p, power):
    for n in count(2):
        k = next(k for k in range(n + 1) if k / n - 1.96 * math.sqrt(k / n * (1 - k / n) / n) > 0.5)
        if tails(n, p)[k] >= power and k < n:
            return n


# --- Inputs


def sets(generator: torch.Generator, n: int, m: int, d: int) -> tuple[Tensor, Tensor]:
    """Two sets of features (n, d) and (m, d) whose axes of spread differ, as arguments for frechet."""

    def draw(count: int) -> Tensor:
        mixed = normal(generator, count, d) @ (normal(generator, d, d) + 0.3 * torch.eye(d))
        return mixed + normal(generator, d)

    return draw(n), draw(m)


def sizes(generator: torch.Generator, points: int, scatter: float) -> tuple[Tensor, Tensor]:
    """Arguments for limit_of: distances that fall with n towards a value, and scatter."""
    n = (100 * 2 ** torch.arange(points)) + torch.randint(0, 50, (points,), generator=generator)
    exact = uniform(generator, 0.5, 3) + uniform(generator, 100, 400) / n.double()
    return n, exact * (scatter * normal(generator, points)).exp()


def clouds(generator: torch.Generator, n: int, d: int, k: int, dropped: bool) -> tuple[Tensor, Tensor, int]:
    """Arguments for precision_and_recall; dropped: the samples have half the modes, and narrower ones."""
    real = normal(generator, n, d)
    real[: n // 2, 0] += 8
    if dropped:
        return real, uniform(generator, 0.5, 0.7) * normal(generator, n - 7, d), k
    return real, 1.5 * normal(generator, n + 5, d), k


def reports(generator: torch.Generator, rows: int, d: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, int]:
    """Arguments for faults: sound reports, among which every fault is planted once or more, and what is nearly one."""
    mean, spread, above = torch.rand(3, rows, generator=generator, dtype=torch.float64)
    mean, spread = 0.6 + 0.4 * mean, 0.05 + 0.1 * spread
    n = d + torch.randint(50, 2000, (rows,), generator=generator)
    floor_n, judge = n.clone(), torch.randint(1, 4, (rows, 1), generator=generator).repeat(1, 2)
    row = torch.randperm(rows, generator=generator).tolist()
    above = 8 * above  # how many spreads the value is above the floor
    above[row[:3]] = torch.tensor([-1.0, -2.0, -uniform(generator, 4, 6)], dtype=torch.float64)
    n[row[3]] = floor_n[row[3]] = d
    floor_n[row[4]] -= whole(generator, 10, 40)
    floor_n[row[5]] += whole(generator, 10, 40)
    judge[row[6], 1] = 1 + judge[row[6], 0] % 3
    value, floor = mean + above * spread, torch.stack([mean, spread], 1)
    floor[row[7]], floor_n[row[7]] = math.nan, 0
    floor[row[8], 1] = math.nan
    return value, n, floor, floor_n, judge, d


def copied(generator: torch.Generator, n: int, copies: int, alarm: float) -> tuple[Tensor, Tensor, Tensor, float]:
    """Arguments for suspects: n samples, so many of them next to a training point, the others fresh."""
    train, held_out, samples = (normal(generator, size, 3) for size in (80, 600, n))
    rows = torch.randperm(80, generator=generator)[:copies]
    samples[:copies] = train[rows] + 0.01 * normal(generator, copies, 3)
    return samples[torch.randperm(n, generator=generator)], train, held_out, alarm


TASKS = (
    Task(
        frechet,
        minutes=8,
        difficulty=3,
        cases=(
            Case("points in the plane", lambda g: sets(g, 12, 20, 2), tolerance=1e-5),
            Case("five features", lambda g: sets(g, 30, 25, 5), tolerance=1e-5),
            Case("one feature more", lambda g: sets(g, 40, 60, 6), tolerance=1e-5),
        ),
        mistakes=edits("""
            torch.linalg.eigvals(A @ B).real.clamp(min=0).sqrt().sum() → (_root(A) @ _root(B)).trace()
                This is the trace of the product of the two roots. The root of the product is asked for; they agree only
                where A B = B A.
            torch.cov(a.T), torch.cov(b.T) → torch.cov(a.T, correction=0), torch.cov(b.T, correction=0)
                Your covariances are divided by n. That is biased: divide by n - 1, as torch.cov does.
            torch.cov(a.T), torch.cov(b.T) → a.T @ a / (len(a) - 1), b.T @ b / (len(b) - 1)
                The means are still in your covariances: subtract them first, or take torch.cov.
            torch.cov(a.T), torch.cov(b.T) → torch.cov(a), torch.cov(b)
                torch.cov wants one variable a row, and samples as columns: hand it a.T.
            torch.linalg.eigvals(A @ B).real.clamp(min=0).sqrt().sum() → (A @ B).trace().sqrt()
                This is the root of the trace. Take the root first: the sum of the roots of the eigenvalues.
            torch.linalg.eigvals(A @ B).real.clamp(min=0).sqrt().sum() → (A @ B).clamp(min=0).sqrt().trace()
                These are the roots of the numbers in A B. The root of a matrix has the roots of its eigenvalues.
            torch.linalg.eigvals(A @ B).real.clamp(min=0).sqrt().sum() → (A.diagonal() * B.diagonal()).sqrt().sum()
                Only the variances of single features are compared. How features go together has to count.
            .square().sum() → .norm()
                The means enter with the square of their distance.
            2 * cross → cross
                The trace of the root counts twice.
            apart + A.trace() → A.trace()
                The means are not compared: their squared distance is missing.
            apart + A.trace() + B.trace() - 2 * cross → (apart + A.trace() + B.trace() - 2 * cross).sqrt()
                You took a root at the end. What papers print as a Fréchet distance is the squared one.
        """),
        hints=(
            "Two means and two covariances are all that is left of the sets. Which term compares what?",
            "The trace of the root of a matrix is the sum of the roots of its eigenvalues. Those of A B are real and "
            "not negative, though A B is not symmetric.",
            "`torch.linalg.eigvals(A @ B).real.clamp(min=0).sqrt().sum()` for that trace; A is `torch.cov(a.T)`.",
        ),
    ),
    Task(
        limit_of,
        minutes=5,
        difficulty=1,
        cases=(
            Case("four sizes, hardly any scatter", lambda g: sizes(g, 4, 0.01)),
            Case("six sizes, more scatter", lambda g: sizes(g, 6, 0.05)),
            Case("three sizes", lambda g: sizes(g, 3, 0.03)),
        ),
        mistakes=edits("""
            1 / n.double() → n.double()
                The distance is no straight line in n: it would become negative one day. It is one in 1 / n.
            1 / n.double() → 1 / n.double().sqrt()
                The scatter falls like 1 / sqrt(n), the bias like 1 / n. It is the bias that you remove.
            distance.mean() - bias * x.mean() → bias
                This is the slope, how much bias n samples add. The answer is the height of the line at 1 / n = 0.
            distance.mean() - bias * x.mean() → distance[n.argmax()]
                This is the score of the largest set, which has the least bias, but still some.
            distance.mean() - bias * x.mean() → distance.mean()
                Averaging scores averages their bias: all sets are wrong to the same side.
            mean() - bias → mean() + bias
                The sign: from the middle of the line to 1 / n = 0 it goes down, not up.
            (off * rise).sum() / off.square().sum() → (distance[0] - distance[-1]) / (x[0] - x[-1])
                The slope is of the first and the last point only. Least squares uses them all.
        """),
        hints=(
            "distance = limit + bias / n. Against what is that a straight line, and where on it is n infinite?",
            "With x = 1 / n and both means subtracted, the slope is (x * y).sum() / (x * x).sum(); then go back from "
            "the means to x = 0.",
            "`distance.mean() - slope * x.mean()`.",
        ),
    ),
    Task(
        precision_and_recall,
        minutes=8,
        difficulty=2,
        cases=(
            Case("half of the modes dropped", lambda g: clouds(g, 40, 2, 3, True)),
            Case("samples spread too far", lambda g: clouds(g, 30, 2, 2, False)),
            Case("more features, k = 1", lambda g: clouds(g, 30, 4, 1, True)),
        ),
        mistakes=(
            *edits("""
                [:, k] → [:, k - 1]
                    A point is counted as its own nearest neighbour: the first distance in each row is 0, to itself.
                share_within(samples, real), share_within(real, samples) → share_within(real, samples), share_within(samples, real)
                    The two have changed places. Precision asks of samples whether they lie among the real ones.
                .any(1) → .any(0)
                    You counted balls that hold a point. Count points that lie in a ball.
                .any(1) → .all(1)
                    A point has to lie in one of the balls, not in all of them.
                [:, k] → [:, k].mean()
                    All balls have the same size here. In a thin region they are wide, in a dense one narrow.
                cdist(members, members) → cdist(members, torch.cat([members, x]))
                    The radii are measured to points of both sets. Each set's balls come from that set alone.
            """),  # noqa: E501
            WrongWay(_own_balls, "The ball is around the point that is asked for. The balls belong to the other set."),
        ),
        hints=(
            "One helper does both: the share of points x that lie in the balls around the members of another set.",
            "`torch.cdist(members, members).sort(1).values` has the distances of each member in order. What is in its "
            "first column?",
            "`(torch.cdist(x, members) <= radii).any(1)`, with `radii = ...sort(1).values[:, k]`.",
        ),
    ),
    Task(
        votes_needed,
        minutes=8,
        difficulty=3,
        cases=(
            Case("a clear preference", lambda g: (uniform(g, 0.74, 0.82), 0.8), points=2),
            Case("a weaker one", lambda g: (uniform(g, 0.67, 0.7), 0.8), points=2),
            Case("more power", lambda g: (uniform(g, 0.7, 0.75), 0.95), points=2),
        ),
        mistakes=(
            *edits("""
                2 * chance <= 0.05 → chance <= 0.05
                    Either sampler may be the better one: an equally uneven count for the other is as unlikely. Twice.
                2 * chance <= 0.05 → k > n / 2
                    You ask for a majority. A preference is shown where 5 % or less of coins fall so unevenly.
                >= power → >= 0.5
                    The power is not used: n votes show it every other time. Ask for the power.
                k is not None and →
                    With few votes no count is uneven enough: then there is no k, and n has to grow.
                tails(n, p)[k] → [*tails(n, p), 0][k + 1]
                    The count k itself is enough: the chance of k *or more*.
            """),
            WrongWay(
                _normal_formula,
                "This is the formula with a normal curve. Votes are whole numbers, and n is small: sum the binomial.",
            ),
            WrongWay(
                _wald_interval,
                "This asks Wald's interval to exclude a half: at small n it is too short. Take the exact binomial.",
            ),
        ),
        hints=(
            "Two questions for every n. Which count is so uneven that coins seldom reach it? How often do votes?",
            "The first count k with 2 P(X >= k) <= 0.05 at p = 0.5; then P(X >= k) at your p, which has to be at least "
            "the power. For n below 6 there is no such k.",
            "`k = next((k for k, chance in enumerate(tails(n, 0.5)) if 2 * chance <= 0.05), None)`, and then "
            "`tails(n, p)[k] >= power`.",
        ),
    ),
    Task(
        faults,
        minutes=6,
        difficulty=2,
        cases=(
            Case("twelve reports", lambda g: reports(g, 12, 64)),
            Case("another judge", lambda g: reports(g, 14, whole(g, 8, 32))),
            Case("thirty reports", lambda g: reports(g, 30, 128)),
        ),
        mistakes=edits("""
            floor.isnan().any(1) → (floor == math.nan).any(1)
                NaN equals nothing, not even NaN: ask with isnan().
            floor.isnan().any(1) → floor.isnan().all(1)
                A floor without its spread is no floor: nobody can say how far from it is far.
            ~no_floor & (floor_n != n) → floor_n != n
                A floor that is not stated is the first fault, and not the second as well.
            (floor_n != n) → (floor_n < n)
                A floor of more samples is of another n, too: it has less bias than the score.
            n <= d → n < d
                As many samples as features are still too few: after the mean is taken off, one direction is flat.
            judge[:, 0] != judge[:, 1] → judge[:, 0] != judge[0, 0]
                Other reports may have other judges. Within a report the features have to be of one network.
            value < mean - 3 * spread → value < 0
                The floor is forgotten: better than what real samples score is too good, not only below 0.
            value < mean - 3 * spread → value < mean
                The spread is forgotten: real samples score below their own mean every other time.
            value < mean - 3 * spread → value > mean + 3 * spread
                Worse than real samples is what scores are there to say. The report is sound.
        """),
        hints=(
            "Five columns, one comparison each. Which of them must say False where no floor is stated?",
            "NaN in a comparison with < gives False. In one with != it gives True; look at the second fault again.",
            "`torch.stack([floor.isnan().any(1), ..., value < mean - 3 * spread], 1)`.",
        ),
    ),
    Task(
        suspects,
        minutes=8,
        difficulty=2,
        cases=(
            Case("nobody copied", lambda g: copied(g, 60, 0, 0.1)),
            Case("a few copies", lambda g: copied(g, 40, 3, 0.05)),
            Case("more copies, a later alarm", lambda g: copied(g, 30, 4, 0.15)),
        ),
        mistakes=edits("""
            cdist(held_out, train) → cdist(train, train)
                A training point's nearest training point is itself, at distance 0. The null is data that are held out.
            cdist(samples, train) → cdist(samples, held_out)
                You look for copies of the held-out data. The network never saw those: look in train.
            cdist(held_out, train).amin(1) → cdist(held_out, held_out).kthvalue(2).values
                This is how near unseen data lie to each other. The null is how near they lie to the training data.
            null.quantile → ours.quantile
                The limit is drawn through the samples themselves: then about a share `alarm` of anything is suspect.
            null.quantile(alarm) → null.median()
                The limit is the median: every other unseen point is nearer than that. Take the quantile.
            ours < limit → ours > limit
                These are the samples that lie far away. Suspects lie near.
            tails(len(samples), alarm)[found] → 0.5 * math.erfc((found - len(samples) * alarm) / math.sqrt(2 * len(samples) * alarm * (1 - alarm)))
                This is a normal curve. With so few suspects expected it is far off: sum the binomial.
            [found] → [found + 1]
                This is the chance of more suspects than were found. The chance of as many *or more* is asked for.
            tails(len(samples), alarm)[found] → math.comb(len(samples), found) * alarm**found * (1 - alarm) ** (len(samples) - found)
                This is the chance of exactly so many suspects. Take as many or more.
            tails(len(samples), alarm) → tails(len(samples), 0.5)
                Fresh data are not suspects every other time: their share is `alarm`.
        """),  # noqa: E501
        hints=(
            "Nearness means nothing by itself. How near to the training data are data that nobody could have copied?",
            "Distances to the nearest of train, for samples and for held-out data; the limit is the quantile `alarm` "
            "of the second. Then count, and ask how often a coin with probability `alarm` falls so often.",
            "`torch.cdist(samples, train).amin(1) < limit`, and `tails(len(samples), alarm)[found]`.",
        ),
    ),
)
