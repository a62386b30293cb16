"""Exercises of lesson 08: continuous time, a step of an SDE, half a score, Euler of what, a trace and a density."""

import math

import torch
from torch import Tensor

from lessons_src.exercises.inputs import falling, levels, network, normal, pair, times, uniform, whole
from lessons_src.exercises.tasks import Case, Task, edits
from lessons_src.oracle import OracleNetwork


def continuous_alpha_bar(t: Tensor, first: float, last: float, N: int) -> Tensor:
    """exp of minus the integral of beta(t) = N (first + (last - first) t), on [0, 1] (Song et al. 2021, appendix C)."""
    integral = N * (first * t + (last - first) * t**2 / 2)
    return torch.exp(-integral)


def sde_step(x: Tensor, drift: Tensor, g: float, h: float, z: Tensor) -> Tensor:
    """One step of Euler-Maruyama, over a time h that is negative on the way down."""
    return x + h * drift + g * math.sqrt(abs(h)) * z


def down_drift(x: Tensor, eps: Tensor, ab: float, beta: float, noise: float) -> Tensor:
    """f - (1 + noise^2) / 2 g^2 s of a VP SDE (Zhang & Chen 2022): the ODE at noise = 0, the reverse SDE at 1."""
    score = -eps / math.sqrt(1 - ab)
    return -beta / 2 * x - (1 + noise**2) / 2 * beta * score


def euler_in(variable: str, x_t: Tensor, eps: Tensor, ab_t: float, ab_s: float) -> Tensor:
    """A step straight in `variable`: DDIM for "sigma" (Song, Meng & Ermon 2020, section 4.3)."""
    sigma_t, sigma_s = (math.sqrt((1 - ab) / ab) for ab in (ab_t, ab_s))
    u = {"sigma": lambda sigma: sigma, "sigma squared": lambda sigma: sigma**2, "log sigma": math.log}[variable]
    rate = {"sigma": 1, "sigma squared": 1 / (2 * sigma_t), "log sigma": sigma_t}[variable]  # d sigma/du at t
    y = x_t / math.sqrt(ab_t) + (u(sigma_s) - u(sigma_t)) * rate * eps
    return math.sqrt(ab_s) * y


def hutchinson(net: OracleNetwork, x: Tensor, t: Tensor, v: Tensor) -> Tensor:
    """v^T J v for each sample, by one backward pass (Grathwohl et al. 2019)."""
    x = x.clone().requires_grad_()
    (row,) = torch.autograd.grad(net(x, t), x, v)
    return (row * v).sum(1)


def bits(x: Tensor, mean: Tensor, std: Tensor, ab: float) -> Tensor:
    """Bits per dimension of N(mean, std^2) data: exact flow up to level ab, prior N(0, 1), change of variables."""
    mean_T, std_T = math.sqrt(ab) * mean, (ab * std**2 + 1 - ab).sqrt()
    stretch = std_T / std
    x_T = mean_T + stretch * (x - mean)
    log_prior = -(x_T**2 + math.log(2 * math.pi)) / 2
    log_p = (log_prior + stretch.log()).sum(1)
    return -log_p / (x.shape[1] * math.log(2))


def chain(generator: torch.Generator, N: int) -> tuple[Tensor, float, float, int]:
    """Arguments for continuous_alpha_bar: a chain of N steps that takes in as much noise as the usual thousand."""
    t = 0.1 + 0.5 * torch.rand(6, generator=generator, dtype=torch.float64)
    return t, uniform(generator, 0.08, 0.2) / N, uniform(generator, 12, 20) / N, N


def step_inputs(generator: torch.Generator, h: float, *shape: int) -> tuple:
    """Arguments for sde_step."""
    return *pair(generator, *shape), uniform(generator, 1.5, 4.0), h, normal(generator, *shape)


def drift_inputs(generator: torch.Generator, noise: float, *shape: int) -> tuple:
    """Arguments for down_drift."""
    return *pair(generator, *shape), uniform(generator, 0.2, 0.8), uniform(generator, 2.0, 9.0), noise


def probe_inputs(generator: torch.Generator, d: int, gaussian: bool = False) -> tuple:
    """Arguments for hutchinson: six points of their own times, and a random vector for each."""
    alpha_bar = falling(generator, 30)
    net, x = network(generator, alpha_bar, dim=d), normal(generator, 6, d)
    v = normal(generator, 6, d)
    return net, x, times(generator, 6, 30), v if gaussian else v.sign()


def density_inputs(generator: torch.Generator, d: int, ab: float) -> tuple:
    """Arguments for bits: points near N(mean, std^2) data, and the level at which the prior takes over."""
    std = 0.2 + 0.5 * torch.rand(d, generator=generator, dtype=torch.float64)
    mean = 1 + normal(generator, d).abs()
    return mean + std * normal(generator, 7, d), mean, std, ab


TASKS = (
    Task(
        continuous_alpha_bar,
        minutes=5,
        difficulty=1,
        cases=(
            Case("a thousand steps", lambda g: chain(g, 1000)),
            Case("a chain of fewer steps", lambda g: chain(g, whole(g, 50, 200))),
            Case(
                "a constant dose",
                lambda g: (torch.rand(5, generator=g).double(), *[uniform(g, 0.8, 2.0) / 100] * 2, 100),
            ),
        ),
        mistakes=edits("""
            N * ( → (
                beta(t) is a dose per unit of *time*, and N steps fit into one: the dose of a step, times N.
            t**2 / 2 → t**2
                This is exp(-beta(t) t), as if beta had been at its last value all the way. Integrate: t² gets a ½.
            torch.exp(-integral) → torch.exp(-integral / 2)
                This is sqrt(alpha_bar), the signal. The ½ in the drift is for x; alpha_bar is its square.
            torch.exp( → 1 - torch.exp(
                This is 1 - alpha_bar, the variance of the noise.
            torch.exp(-integral) → N * (first + (last - first) * t)
                This is beta(t). alpha_bar(t) is exp(-integral of beta from 0 to t).
            -integral → integral
                The sign in the exponent is turned round: signal is lost with time, so alpha_bar falls from 1.
            torch.exp(-integral) → (1 - torch.linspace(first, last, N).double()).cumprod(0)[(N * t).long() - 1]
                This is the product over the chain's steps. Asked for is its limit, an exponential that any t can enter.
            (last - first) * t**2 / 2 → last * t**2 / 2
                beta rises from first to last: the term with t² has last - first.
            t**2 / 2 → t / 2
                This is the mean dose times t. At t = 1 that comes out right; before, doses are smaller: the integral of
                t is t² / 2.
        """),
        hints=(
            "For small steps the product of 1 - beta_k is the exponential of minus their sum, and a sum of many small "
            "doses is an integral.",
            "beta(t) = N (first + (last - first) t). Integrate it from 0 to t.",
            "`torch.exp(-N * (first * t + ... * t**2 / 2))`.",
        ),
    ),
    Task(
        sde_step,
        minutes=5,
        difficulty=1,
        cases=(
            Case("up, towards noise", lambda g: step_inputs(g, uniform(g, 0.02, 0.2), 6, 2)),
            Case("down, towards data", lambda g: step_inputs(g, -uniform(g, 0.02, 0.2), 6, 2)),
            Case("down, pictures", lambda g: step_inputs(g, -uniform(g, 0.3, 0.5), 2, 1, 4, 4)),
        ),
        mistakes=edits("""
            math.sqrt(abs(h)) → abs(h)
                The noise goes with h. Its *variance* is g² |h|, so its size goes with sqrt(|h|).
            h * drift + g * math.sqrt(abs(h)) * z → h * (drift + g * z)
                Noise and drift are both multiplied by h. The noise goes with sqrt(|h|): a hundred times smaller steps
                add ten times smaller noise.
            abs(h) → h
                On the way down h is negative and has no root. Noise has no direction in time: sqrt(|h|).
            h * drift → abs(h) * drift
                The drift is followed upwards even where h is negative. It is multiplied by h, with its sign.
            x + h → x - h
                The drift has the wrong sign: h is negative on the way down already.
             + g * math.sqrt(abs(h)) * z →
                The noise is missing: this is Euler's method for an ODE.
            g * math → g**2 * math
                The noise is multiplied by g². In the equation it is g; g² is how fast the variance grows.
            h * drift → drift
                The whole drift is added, however short the step. Multiply it by h.
            math.sqrt(abs(h)) * z → z
                The noise is added at full size, however short the step. Its size goes with sqrt(|h|).
            g * math.sqrt → math.sqrt
                The noise lacks its size: multiply it by g.
            g * math.sqrt(abs(h)) → math.sqrt(g * abs(h))
                g stands under the root. The *variance* of the noise is g² |h|.
        """),
        hints=(
            "Read `dw` as a fresh Gaussian of variance |dt|. What is its standard deviation?",
            "Three terms: x, the drift times h (with its sign), g times z times the root of |h|.",
            "`x + h * drift + g * math.sqrt(...) * z`.",
        ),
    ),
    Task(
        down_drift,
        minutes=7,
        difficulty=2,
        cases=(
            Case("no noise: the ODE", lambda g: drift_inputs(g, 0.0, 6, 2)),
            Case("noise 1: the reverse SDE", lambda g: drift_inputs(g, 1.0, 6, 2)),
            Case("another noise, pictures", lambda g: drift_inputs(g, uniform(g, 1.3, 2.0), 2, 1, 4, 4)),
        ),
        mistakes=edits("""
            (1 + noise**2) / 2 → 1
                The score has its full weight whatever the noise is. At noise 0 this drops *only the noise*, and the
                samples collapse: the ODE has half the score.
            (1 + noise**2) / 2 → 1 / 2
                The score has the weight ½ whatever the noise is. That is the ODE; noise on the way down has to be paid
                for with noise² / 2 more.
            noise**2 → noise
                The weight is (1 + noise) / 2. It is variance that has to be balanced: noise squared.
            (1 + noise**2) / 2 → (1 + noise**2)
                The weight of the score is 1 + noise², twice what it should be: the ODE has the weight ½.
            -eps → eps
                The score points away from the noise: s = -eps / sqrt(1 - ab). Two minus signs make a plus.
            -eps / math.sqrt(1 - ab) → -eps
                This takes -eps for the score. Divide by sqrt(1 - ab).
            math.sqrt(1 - ab) → (1 - ab)
                The score is divided by the variance 1 - ab. x - sqrt(ab) x0 is sqrt(1 - ab) eps, so that one root
                cancels: divide eps by sqrt(1 - ab).
            -beta / 2 * x → -beta * x
                f lacks its ½: the forward drift is -beta x / 2.
            beta * score → math.sqrt(beta) * score
                The score is multiplied by g = sqrt(beta). It is g² = beta.
            -beta / 2 * x - → beta / 2 * x +
                The whole drift is turned round. t runs down through a negative h; the drift keeps its sign.
        """),
        hints=(
            "How much score undoes the forward noise, and how much more pays for the noise that you add yourself?",
            "f - (1 + noise²) / 2 · g² s, with f = -beta x / 2, g² = beta, s = -eps / sqrt(1 - ab).",
            "`score = -eps / math.sqrt(1 - ab)`, then `-beta / 2 * x - (1 + noise**2) / 2 * ... * score`.",
        ),
    ),
    Task(
        euler_in,
        minutes=8,
        difficulty=3,
        cases=(
            Case("sigma", lambda g: ("sigma", *pair(g, 6, 2), *levels(g))),
            Case("sigma squared", lambda g: ("sigma squared", *pair(g, 6, 2), *levels(g))),
            Case("log sigma, pictures", lambda g: ("log sigma", *pair(g, 2, 1, 4, 4), *levels(g))),
        ),
        mistakes=edits("""
            (u(sigma_s) - u(sigma_t)) * rate → (sigma_s - sigma_t)
                This is the step in sigma, DDIM, whatever the variable. In another one the straight line is another.
             * rate →
                The slope is eps in every variable. dy/d sigma = eps; in u it is eps d sigma/du, by the chain rule.
             * rate →  / rate
                The chain rule is upside down: eps is multiplied by d sigma/du, and you multiplied by du/d sigma.
            (2 * sigma_t), "log sigma": sigma_t → (2 * sigma_s), "log sigma": sigma_s
                The slope is taken at the end of the step. Euler's method freezes it where the step begins, at t.
            math.sqrt(ab_s) * y → y
                This is y at s. Multiply by sqrt(ab_s) to have x again.
            (ab_s) * y → (ab_t) * y
                y at s was multiplied by sqrt(ab_t), the old level.
             / math.sqrt(ab_t) →
                The step starts from x. It is y = x / sqrt(ab_t) that moves along sigma.
            math.sqrt((1 - ab) / ab) → math.sqrt(1 - ab)
                sigma is sqrt(1 - ab) here, the noise in x. In y = x / sqrt(ab) it is sqrt((1 - ab) / ab).
            u(sigma_s) - u(sigma_t) → u(sigma_t) - u(sigma_s)
                The step goes the wrong way, to more noise: the difference is that of s less that of t.
        """),
        hints=(
            "Go to y, make one straight step there, come back to x. Only the middle depends on the variable.",
            "y = x_t / sqrt(ab_t), sigma = sqrt((1 - ab) / ab). Add (u_s - u_t) eps d sigma/du, taken at t: for u = "
            "sigma² that is eps / (2 sigma_t), for u = log sigma it is sigma_t eps.",
            "For the second: `y = y + (sigma_s**2 - sigma_t**2) * eps / (2 * sigma_t)`; in the end "
            "`math.sqrt(ab_s) * y`.",
        ),
    ),
    Task(
        hutchinson,
        minutes=6,
        difficulty=2,
        cases=(
            Case("points in the plane, signs", lambda g: probe_inputs(g, 2), tolerance=1e-5),
            Case("five dimensions, signs", lambda g: probe_inputs(g, 5), tolerance=1e-5),
            Case("three dimensions, Gaussian v", lambda g: probe_inputs(g, 3, gaussian=True), tolerance=1e-5),
        ),
        mistakes=edits("""
            (row * v) → row
                v is used on one side of J only. The backward pass starts from v, and what it returns is multiplied by v
                again.
            sum(1) → sum()
                This is one number for the batch. Each sample has its own trace: sum over dimension 1 only.
            sum(1) → mean(1)
                You averaged over the dimensions. A trace is a sum.
            (row * v).sum(1) → sum(torch.autograd.grad(net(x, t)[:, i].sum(), x)[0][:, i] for i in range(x.shape[1]))
                This is the exact trace, at one backward pass a dimension. Asked for is the estimate by the given v.
            (row * v).sum(1) → (row * v).sum(1) / (v * v).sum(1)
                You divided by vᵀv. The mean of v vᵀ is the identity already, so nothing is left to divide by.
            row * v → net(x, t) * v * v
                This is the prediction weighted with v twice. It is its *derivative* that has a trace:
                torch.autograd.grad.
            (row * v).sum(1) → (row.sum(1) * v.sum(1))
                You summed before multiplying. vᵀ J v multiplies entry by entry, then sums.
            (row * v) → (row * x)
                The row is multiplied by x. It is multiplied by v, on both sides the same vector.
        """),
        hints=(
            "`torch.autograd.grad(output, input, v)` gives vᵀJ. What is left to do for vᵀJv?",
            "Make x an input that is tracked, `x = x.clone().requires_grad_()`, before you call the network.",
            "`(row,) = torch.autograd.grad(net(x, t), x, v)`, then the product with v, summed over dimension 1.",
        ),
    ),
    Task(
        bits,
        minutes=9,
        difficulty=3,
        cases=(
            Case("one dimension", lambda g: density_inputs(g, 1, uniform(g, 0.02, 0.1))),
            Case("several dimensions", lambda g: density_inputs(g, whole(g, 2, 6), uniform(g, 0.02, 0.1))),
            Case("much signal left", lambda g: density_inputs(g, 3, uniform(g, 0.3, 0.6)), points=2),
        ),
        mistakes=edits("""
            + stretch.log() → - stretch.log()
                The stretch has the wrong sign. Where neighbours move apart on the way up, they were closer together
                below, and the density higher.
             + stretch.log() →
                This is the prior at x_T alone. The way there stretches space: add the logarithm of the stretch.
            stretch.log() → 2 * stretch.log()
                The stretch is the ratio of *standard deviations*; you took that of the variances.
            stretch.log() → stretch.log() / len(std)
                You averaged the log stretch over the dimensions. Volumes multiply, so their logarithms add up.
            x_T**2 → ((x_T - mean_T) / std_T) ** 2 + 2 * std_T.log()
                This is the price under the *true* law at that level, so the exact one. With the prior N(0, 1) it comes
                out different.
             + math.log(2 * math.pi) →
                The prior lacks its constant, log(2 pi) / 2 for each dimension.
             * math.log(2) →
                These are nats per dimension. Divide by log 2.
            x.shape[1] *  →
                These are the bits of a whole sample. Divide by the number of dimensions.
            -log_p → log_p
                The sign: a price is *minus* the logarithm of the density.
             + 1 - ab →
                The variance at level ab lacks its noise: ab std² + 1 - ab.
            math.sqrt(ab) *  →
                x_T lies around mean. At level ab the centre has moved to sqrt(ab) mean.
        """),
        hints=(
            "Three parts: where the flow takes x, how much it stretches on the way, and the price of both in bits.",
            "stretch = sqrt(ab std² + 1 - ab) / std, x_T = sqrt(ab) mean + stretch (x - mean). log p is the sum over "
            "the dimensions of log N(x_T; 0, 1) + log stretch.",
            "`log_p = (stretch.log() - x_T**2 / 2 - ...).sum(1)`, then `-log_p / (d * math.log(2))`, with "
            "`math.log(2 * math.pi) / 2` for the dots.",
        ),
    ),
)
