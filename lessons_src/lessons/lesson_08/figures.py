"""Pictures of why in lesson 08: one moving density and its walkers, Langevin's balance, mistakes, straight lines."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache

import torch
from matplotlib.axes import Axes
from torch import Tensor

from lessons_src.data import two_humps
from lessons_src.ode import Field, solve
from lessons_src.oracle import GaussianMixture
from lessons_src.samplers import ddim, sample
from lessons_src.sde import VP, LinearSDE, euler_maruyama, noisy_flow
from lessons_src.show import look, plots

OFF = 0.1  # by how much a predictor with a mistake misses the noise
MISTAKES = {"no mistake": (0.0, 0.0), "early mistake, t > 0.5": (0.5, 1.0), "late mistake, t < 0.1": (0.0, 0.1)}
SHARES = (0.0, 0.25, 0.5, 1.0, 1.5)
SEEDS = 5
DELTA = 0.07  # variance of the noise in a Langevin step with the clock at 0.2
GRID = (10, 20, 40, 80, 160, 320)
EDGES = torch.linspace(-3, 3, 61, dtype=torch.float64)  # of histograms
MIDDLE = (EDGES[1:] + EDGES[:-1]) / 2


def down(T: float, steps: int) -> list[float]:
    """Equally spaced times from T to 0."""
    return [T * (steps - i) / steps for i in range(steps + 1)]


def even_normal(n: int) -> Tensor:
    """n points that cut N(0, 1) into equal shares, (n, 1), in rising order."""
    return torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n).unsqueeze(1)


def even_data(n: int, mixture: GaussianMixture) -> Tensor:
    """n points that cut a mixture in one dimension into equal shares, (n,), in rising order, to 0.0001."""
    line = torch.linspace(-4, 4, 80_001, dtype=torch.float64)
    below = mixture.weights @ torch.special.ndtr((line - mixture.means) / mixture.covariances[:, 0].sqrt())
    return line[torch.searchsorted(below, (torch.arange(n, dtype=torch.float64) + 0.5) / n)]


def wasserstein(a: Tensor, b: Tensor) -> float:
    """W1 in one dimension: the mean distance between sorted samples of equal number."""
    return (a.flatten().sort().values - b.flatten().sort().values).abs().mean().item()


def mistaken(sde: LinearSDE, score: Field, low: float, high: float, off: float = OFF) -> Field:
    """The score of a predictor whose noise is too large by `off` at the times above low and up to high."""
    return lambda x, t: score(x, t) - (off / sde.noise(t) if low < t <= high else 0.0)


# --- One density, many walkers


def paths(share: float, starts: Tensor, steps: int = 125, seed: int = 3) -> Tensor:
    """The ways of starts (B, 1) down to two humps, exact score, noise share lambda; (steps + 1, B)."""
    vp = VP()
    drift, g = noisy_flow(vp, vp.score(two_humps()), share)
    states = euler_maruyama(drift, g, starts, down(vp.T, steps), torch.Generator().manual_seed(seed))
    return torch.stack([starts, *states])[..., 0]


def show_paths(shares: Sequence[float] = (0.0, 1.0), walkers: int = 8) -> None:
    """The same starts down the same moving density, with and without noise, coloured by where the ODE ends."""
    fig, axes = plots.figure(columns=len(shares), width=8.4, height=3.4)
    starts, times, right = even_normal(walkers), down(1.0, 125), []
    ode_right = paths(0.0, starts)[-1] > 0
    for axis, share in zip(axes[0], shares, strict=True):
        _moving_density(axis)
        path = paths(share, starts)
        right.append(int((path[-1] > 0).sum()))
        axis.plot(times, path[:, ode_right], color=look.VERMILLION, linewidth=1.4)
        axis.plot(times, path[:, ~ode_right], "--", color=look.BLUE, linewidth=1.4)
        name = {0.0: "λ = 0: the ODE", 1.0: "λ = 1: the reverse SDE"}.get(share, f"λ = {share:g}")
        axis.set(title=name, xlabel="time t, from noise to data", xlim=(1, 0), ylim=(-2.5, 2.5))
    axes[0, 0].set_ylabel("x")
    told = " and ".join(f"{count} of {walkers}" for count in right)
    plots.show(
        fig,
        f"Grey: the law of the noisy data. Both samplers follow it: {told} walkers end in the upper hump. The paths of "
        "the ODE never cross. The SDE mixes the colours.",
    )


def _moving_density(axis: Axes) -> None:
    """p_t(x) of the two humps as grey, each time scaled to its own peak."""
    vp, mixture = VP(), two_humps()
    times, x = torch.linspace(0, 1, 120).tolist(), torch.linspace(-3, 3, 151, dtype=torch.float64)
    columns = torch.stack([mixture.log_density(x[:, None], vp.alpha_bar(t)).exp() for t in times], 1)
    share = columns / columns.max(0).values
    greys = [(0.5, 0.5, 0.5, opacity) for opacity in (0.06, 0.14, 0.22, 0.3, 0.38)]
    axis.contourf(times, x, share, levels=[0.05, 0.2, 0.4, 0.6, 0.8, 1.01], colors=greys)
    axis.grid(False)


def _draw_law(axis: Axes, t: float, label: str) -> None:
    """The law p_t of the two humps, noised, as a grey hill."""
    law = two_humps().log_density(MIDDLE[:, None], VP().alpha_bar(t)).exp()
    axis.fill_between(MIDDLE, law, color="0.6", alpha=0.4, label=label)


def show_laws(walkers: Mapping[tuple[float, float], Tensor]) -> None:
    """Histograms of walkers (n, 1) for each (lambda, time t), over the law of the noisy data at that time."""
    vp, mixture = VP(), two_humps()
    shares, times = (sorted(set(column)) for column in zip(*walkers, strict=True))
    fig, axes = plots.figure(columns=len(times), width=9.0, height=2.8)
    off = []
    for axis, t in zip(axes[0], reversed(times), strict=True):
        _draw_law(axis, t, "noisy data")
        for i, share in enumerate(shares):
            x = walkers[share, t]
            density = torch.histogram(x[:, 0], EDGES, density=True).hist
            axis.plot(MIDDLE, density, look.DASHES[i], color=plots.COLOURS[i], linewidth=1.6, label=f"λ = {share:g}")
            off.append(wasserstein(x, even_data(len(x), noised(vp, mixture, t))))
        axis.set(title=f"t = {t:g}", xlabel="x", ylim=(0, 1.3))
    axes[0, 0].set_ylabel("density")
    axes[0, 0].legend(fontsize=10.5)
    plots.show(
        fig,
        f"Grey: the law of the noisy data. At every time all {len(x):,} walkers together lie on it, for each λ. Sort "
        f"walkers and noisy data and pair them in order: the pairs are on average at most {max(off):.2f} apart.",
    )


def noised(vp: VP, mixture: GaussianMixture, t: float) -> GaussianMixture:
    """The law of the noisy data at time t."""
    signal, variance = vp.signal(t), vp.noise(t) ** 2
    return GaussianMixture(mixture.weights, signal * mixture.means, signal**2 * mixture.covariances + variance)


# --- Langevin: noise and score in balance


def langevin(score: Callable[[Tensor], Tensor], x: Tensor, size: float, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield x after each step x + size score + sqrt(2 size) z, without end."""
    while True:
        z = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = x + size * score(x) + math.sqrt(2 * size) * z
        yield x


def settling(counts: Sequence[int], t: float, n: int = 20_000) -> dict[int, Tensor]:
    """Points that all start at x = -2, after so many Langevin steps at time t: count -> (n,)."""
    vp, mixture = VP(), two_humps()
    score = vp.score(mixture)
    walk = langevin(
        lambda x: score(x, t),
        torch.full((n, 1), -2.0, dtype=torch.float64),
        DELTA / 2,
        torch.Generator().manual_seed(5),
    )
    found = {}
    for step in range(1, max(counts) + 1):
        x = next(walk)[:, 0]
        if step in counts:
            found[step] = x
    return found


def show_settling(t: float = 0.2) -> None:
    """Langevin steps at one noise level: whatever the law before, it becomes p_t and stays."""
    counts = (5, 20, 200)
    fig, axes = plots.figure(columns=3, width=9.0, height=2.8)
    for axis, (count, x) in zip(axes[0], settling(counts, t).items(), strict=True):
        _draw_law(axis, t, r"$p_t$")
        axis.plot(MIDDLE, torch.histogram(x, EDGES, density=True).hist, color=plots.BLUE, label="walkers")
        axis.set(title=f"after {count} steps", xlabel="x", ylim=(0, 1.6))
    axes[0, 0].set_ylabel("density")
    axes[0, 0].legend(fontsize=10.5)
    plots.show(
        fig,
        f"The clock stands at t = {t}; grey is the law of the noisy data. All 20,000 walkers start at x = −2. "
        f"A step has δ = {DELTA}. After {counts[-1]} steps they have this law.",
    )


# --- A predictor that makes mistakes


def mistake_race(steps: int = 100, n: int = 4000) -> dict[str, list[tuple[float, float]]]:
    """W1 to the data for each of MISTAKES and SHARES: mean over SEEDS runs and its standard error (0 for the ODE)."""
    vp, mixture = VP(), two_humps()
    score, truth = vp.score(mixture), even_data(n, mixture)
    starts = even_normal(n)[torch.randperm(n, generator=torch.Generator().manual_seed(0))]
    race = {}
    for name, (low, high) in MISTAKES.items():
        race[name] = []
        for share in SHARES:
            drift, g = noisy_flow(vp, mistaken(vp, score, low, high), share)
            w1 = []
            for seed in range(SEEDS if share else 1):
                *_, end = euler_maruyama(drift, g, starts, down(vp.T, steps), torch.Generator().manual_seed(seed))
                w1.append(wasserstein(end, truth))
            values = torch.tensor(w1)
            error = values.std().item() / math.sqrt(len(w1)) if share else 0.0
            race[name].append((values.mean().item(), error))
    return race


@cache
def luck(n: int = 4000, draws: int = 20) -> float:
    """W1 to the data of n random points of the data, mean over some draws: no sampler that draws can be nearer."""
    mixture = two_humps()
    drawn = (mixture.sample(n, torch.Generator().manual_seed(seed))[0] for seed in range(draws))
    return sum(wasserstein(x, even_data(n, mixture)) for x in drawn) / draws


def show_mistakes() -> None:
    """Distance to the data against the noise, for a perfect predictor and for one that is wrong early or late."""
    race = mistake_race()
    fig, axes = plots.figure(width=6.4, height=3.6)
    axis = axes[0, 0]
    for i, (name, values) in enumerate(race.items()):
        mean, error = zip(*values, strict=True)
        colour = (plots.BLUE, plots.VERMILLION, plots.INK)[i]
        axis.errorbar(SHARES, mean, error, label=name, color=colour, marker="osD"[i], markersize=5)
    axis.axhline(luck(), linestyle=":", color="0.6", label="random points of the data")
    axis.set(xlabel="noise λ", ylabel="W1 to the data (log scale)", yscale="log", ylim=(0.003, 1.2))
    axis.set_xticks(SHARES, [f"{share:g}" for share in SHARES])
    axis.set_yticks([0.003, 0.01, 0.03, 0.1, 0.3, 1], ["0.003", "0.01", "0.03", "0.1", "0.3", "1"])
    axis.minorticks_off()
    axis.legend(fontsize=10.5)
    ode, sde = SHARES.index(0.0), SHARES.index(1.0)
    early, late = list(race.values())[1:]
    plots.show(
        fig,
        f"Early mistake: from {early[ode][0]:.3f} (λ = 0) down to {early[sde][0]:.3f} (λ = 1). Late mistake: from "
        f"{late[ode][0]:.3f} up to {late[sde][0]:.3f}. Dotted: random points of the data, {luck():.3f}.",
    )


# --- Straight lines


def velocity(x: Tensor, t: float) -> Tensor:
    """The mean of eps - x0 over all pairs of the two humps with noise whose line (1 - t) x0 + t eps passes x at t > 0.

    x: (B, 1). Lipman et al. 2023 (2210.02747): what a network learns from the loss of flow matching.
    """
    size = math.hypot(1 - t, t)  # x / size has the unit size that the predictor expects
    return (x - two_humps().x0(x / size, ((1 - t) / size) ** 2)) / t


def show_straight(pairs: int = 24) -> None:
    """Straight lines between noise and data, which cross, and the flow of their mean velocity, which does not."""
    mixture = two_humps()
    generator = torch.Generator().manual_seed(3)
    eps = torch.randn(pairs, generator=generator, dtype=torch.float64)
    x0 = mixture.sample(pairs, generator)[0][:, 0]
    fig, axes = plots.figure(columns=2, width=8.4, height=3.2)
    axes[0, 0].plot([1, 0], torch.stack([eps, x0]), color=plots.INK, linewidth=0.9)
    times, starts = down(0.999, 200), even_normal(pairs)  # at t = 1 nothing of the data is left to predict
    flow = torch.stack([starts, *solve(velocity, starts, times, "euler")])[..., 0]
    axes[0, 1].plot(times, flow, color=plots.BLUE, linewidth=0.9)
    for axis, title in zip(axes[0], ("pairs of data and noise", "the flow: their mean velocity"), strict=True):
        axis.set(title=title, xlabel="time t, from noise to data", xlim=(1, 0), ylim=(-2.6, 2.6))
    axes[0, 0].set_ylabel("x")
    plots.show(
        fig,
        f"Left: the lines of {pairs} pairs, which cross. Right: {pairs} ways along their mean velocity, which do not "
        f"cross, and bend: up to {bend(flow):.2f} away from a straight line.",
    )


def bend(flow: Tensor) -> float:
    """The farthest that a way is from the straight line between its ends; flow is (F, B), at equally spaced times."""
    share = torch.linspace(0, 1, len(flow), dtype=flow.dtype)[:, None]
    return (flow - (1 - share) * flow[0] - share * flow[-1]).abs().max().item()


# --- Luck at one start: error against the place of the start


def _example() -> tuple[VP, GaussianMixture]:
    """The lecture notes' Example 3 with numbers: constant beta = 1 from T = 4, data N(1, 1/4)."""
    return VP(1.0, 1.0, 4.0), GaussianMixture([1.0], [[1.0]], [[[0.25]]])


def place(z: Tensor, t: float) -> Tensor:
    """Where the exact flow of the example has a point at time t that is z standard deviations from the mean."""
    vp, _ = _example()
    return vp.signal(t) + math.hypot(0.5 * vp.signal(t), vp.noise(t)) * z


def start_errors(z: Tensor, steps: int) -> dict[str, Tensor]:
    """Where each way of stepping ends, less where the exact flow does, for starts z (B, 1): name -> (B, 1)."""
    vp, mixture = _example()
    start, exact = place(z, vp.T), place(z, 0.0)
    sigma_T = vp.noise(vp.T) / vp.signal(vp.T)
    sigmas = [math.tan(angle) for angle in down(math.atan(sigma_T), steps)]

    def slope(y: Tensor, sigma: float) -> Tensor:
        ab = 1 / (1 + sigma**2)
        return mixture.eps(y * math.sqrt(ab), ab)

    schedule = vp.schedule(steps)
    *_, euler = solve(vp.flow(vp.score(mixture)), start, down(vp.T, steps), "euler")
    *_, by_angle = solve(slope, start / vp.signal(vp.T), sigmas, "euler")
    by_time = sample(ddim(mixture.network(schedule), start, schedule))
    return {
        "Euler in t": euler - exact,
        "DDIM, equal steps of t": by_time - exact,
        "DDIM, equal angles": by_angle - exact,
    }


def start_rms(steps: int) -> dict[str, float]:
    """Root mean square of each error of `start_errors` over the whole law of the starts, exactly N(0, 1) in z.

    Every step is a straight line in x here, so an error is a + b z, and its mean square a^2 + b^2.
    """
    errors = start_errors(torch.tensor([[0.0], [1.0]], dtype=torch.float64), steps)
    return {name: math.hypot(e[0].item(), (e[1] - e[0]).item()) for name, e in errors.items()}


def show_start_errors(steps: int = 20) -> None:
    """Error against the start, where Euler in t has a lucky place, and the root mean square against steps."""
    z = torch.linspace(-3, 3, 61, dtype=torch.float64).unsqueeze(1)
    errors, vp = start_errors(z, steps), _example()[0]
    lucky = ((0.7 - place(torch.zeros(1), vp.T)) / (place(torch.ones(1), vp.T) - place(torch.zeros(1), vp.T))).item()
    fig, axes = plots.figure(columns=2, width=9.0, height=3.4)
    for i, (name, error) in enumerate(errors.items()):
        axes[0, 0].plot(z, error, color=plots.COLOURS[i], linestyle=("-", "--", "-.")[i], label=name)
    axes[0, 0].axhline(0, color="0.6", linewidth=0.8)
    axes[0, 0].axvline(lucky, color="0.6", linewidth=0.8)
    axes[0, 0].annotate("x = 0.7", (lucky + 0.08, -0.4), color=plots.INK)
    axes[0, 0].set(title=f"{steps} steps", xlabel="start z, in standard deviations", ylabel="error at the end")
    rms = [start_rms(n) for n in GRID]
    curves = {name: [row[name] for row in rms] for name in errors}
    plots.draw_lines(axes[0, 1], GRID, curves, "steps", "root mean square over all starts", True)
    axes[0, 1].set(xscale="log", yscale="log")
    axes[0, 0].legend(fontsize=10.5)
    at = start_rms(steps)
    told = ", ".join(f"{name} {value:.3f}" for name, value in at.items())
    plots.show(
        fig,
        f"The error is a straight line in the start, and Euler's crosses zero near x = 0.7 by luck. Over all starts, "
        f"with {steps} steps: {told}.",
    )
