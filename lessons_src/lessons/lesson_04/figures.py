"""Pictures of why in lesson 04: the cloud behind a step, ten threes, how much noise is right, and a large step."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from lessons_src import data
from lessons_src.guidance import classifier_free
from lessons_src.lessons.digit_runs import shipped
from lessons_src.lessons.lesson_04.chain import chain, variance
from lessons_src.process import noise_like, posterior, posterior_variance
from lessons_src.schedules import linear, time_grid
from lessons_src.show import plots


def distance(a: Tensor, b: Tensor) -> float:
    """Root mean square difference of two stacks of pictures, over all pixels."""
    return (a - b).square().mean().sqrt().item()


def digits_by_ddpm(
    labels: Sequence[int], steps: int, spread: str = "small", start_seed: int = 0, noise_seed: int = 0
) -> Tensor:
    """Digits of these classes by the shipped network, without guidance, (B, 1, 28, 28)."""
    net, _ = shipped()
    start = data.noise(len(labels), 1, 28, 28, seed=start_seed).float()
    eps_fn = classifier_free(net, torch.tensor(labels), 1.0)
    generator = torch.Generator().manual_seed(noise_seed)
    return chain(eps_fn, start, net.schedule, time_grid(net.schedule, steps), spread, generator)[-1]


def show_cloud(root_alpha: float = 0.6, pairs: int = 4000) -> None:
    """The law of the cleaner x given the noisy x for N(0, 1) data, and what only the mean, or mean and spread, make."""
    generator = torch.Generator().manual_seed(0)
    x_s, z, fresh = torch.randn(3, pairs, generator=generator, dtype=torch.float64)
    sigma = math.sqrt(1 - root_alpha**2)
    x_t = root_alpha * x_s + sigma * z
    laws = {
        "true cleaner x": x_s,
        "only the mean": root_alpha * x_t,
        "mean + spread": root_alpha * x_t + sigma * fresh,
    }
    fig, axes = plots.figure(columns=2, width=8.0, height=3.4)
    ends = torch.tensor([-3.2, 3.2])
    axes[0, 0].scatter(x_t, x_s, s=2, color="0.6", linewidths=0)
    axes[0, 0].plot(ends, root_alpha * ends, color=plots.VERMILLION, label="the mean")
    for sign in (-1, 1):
        name = "mean ± spread" if sign > 0 else None
        axes[0, 0].plot(ends, root_alpha * ends + sign * sigma, "--", color=plots.BLUE, label=name)
    axes[0, 0].set(title="each dot: a pair", xlabel="noisy $x_t$: what you have", ylabel="cleaner $x_s$: what you want")
    axes[0, 0].set(ylim=(-3.4, 4.6))
    bins = np.linspace(-3.4, 3.4, 35)
    for i, (name, x) in enumerate(laws.items()):
        height = np.histogram(x, bins, density=True)[0]
        line = {"color": "0.6", "linewidth": 4} if i == 0 else {"color": (plots.VERMILLION, plots.BLUE)[i - 1]}
        axes[0, 1].plot((bins[1:] + bins[:-1]) / 2, height, label=name, **line)
    axes[0, 1].set(title="all $x_s$ together", xlabel="cleaner $x_s$", ylabel="density", ylim=(0, 1.05))
    for axis in axes[0]:
        axis.legend(loc="upper left", ncols=2)
    stds = [x.std().item() for x in laws.values()]
    plots.show(
        fig,
        f"Left: {pairs} pairs of a cleaner and a noisier x, N(0, 1) data. Right: the true cleaner points have the "
        f"standard deviation {stds[0]:.1f}. Only the mean gives {stds[1]:.1f}, mean and spread {stds[2]:.1f}.",
    )


def threes(steps: int = 50) -> dict[str, Tensor]:
    """Ten 3s from ten starts, without and with fresh noise, and ten real ones."""
    x, label = data.digits("test")
    found = {f"fresh noise: {spread}": digits_by_ddpm([3] * 10, steps, spread) for spread in ("none", "small")}
    return found | {"real": x[label == 3][:10]}


def variety(x: Tensor) -> float:
    """Root mean square difference of a picture from the mean of all, over pixels and pictures."""
    return distance(x.clamp(-1, 1), x.clamp(-1, 1).mean(0, keepdim=True))


def show_threes() -> None:
    """Ten 3s with and without fresh noise, and how different they are."""
    rows = threes()
    told = [f"{variety(x):.2f}" for x in rows.values()]
    plots.image_rows(
        rows,
        f"Ten 3s from ten starts, 50 steps. How far a picture is from the mean of its row: {told[0]} without fresh "
        f"noise, {told[1]} with it, {told[2]} for real 3s.",
    )


def reverse_variance(data_variance: float, t: int) -> float:
    """Exact variance of x_{t-1} given x_t for data N(0, data_variance) on the linear schedule."""
    ab_t, ab_s = linear().alpha_bar[[t, t - 1]].tolist()
    unknown = data_variance * (1 - ab_t) / (ab_t * data_variance + 1 - ab_t)  # Var(x0 | x_t)
    weight = math.sqrt(ab_s) * (1 - ab_t / ab_s) / (1 - ab_t)
    return posterior_variance(ab_t, ab_s) + weight**2 * unknown


def show_variances(data_variances: Sequence[float] = (1.0, 0.01, 0.001, 0.0)) -> None:
    """The exact variance of a single step as a share of beta, for data of several widths."""
    beta, times = linear().beta, np.unique(np.geomspace(2, 1000, 60).round().astype(int)).tolist()
    names = {0.0: "one point: β̃", 1.0: "N(0, 1): β"}
    share = {
        names.get(v, f"N(0, {v:g})"): [reverse_variance(v, t) / beta[t].item() for t in times] for v in data_variances
    }
    small = {t: reverse_variance(0.0, t) / beta[t].item() for t in (2, 500)}
    plots.lines(
        times,
        share,
        f"The right variance of a step as a share of β. β̃ is {100 * small[2]:.0f} % of β at t = 2 and "
        f"{100 * small[500]:.1f} % at t = 500. Narrow data lie between the two.",
        "time t",
        "exact variance / β",
        log_x=True,
    )


def final_variance(data_variance: float, steps: int, spread: str) -> float:
    """Variance of DDPM's samples after evenly spaced steps, exact predictor of N(0, data_variance), linear schedule."""
    V, levels = 1.0, linear().alpha_bar[time_grid(linear(), steps)].tolist()
    for ab_t, ab_s in pairwise(levels):
        gain = math.sqrt(ab_t) * data_variance / (ab_t * data_variance + 1 - ab_t)  # x0-hat = gain * x
        factor = (math.sqrt(ab_s) * (1 - ab_t / ab_s) * gain + math.sqrt(ab_t / ab_s) * (1 - ab_s)) / (1 - ab_t)
        V = factor**2 * V + (variance(spread, ab_t, ab_s) if ab_s < 1 else 0.0)
    return V


def grain(x: Tensor) -> float:
    """Mean distance of the top three rows from black (-1): 0 for nearly every real digit."""
    return (x[:, :, :3] + 1).abs().mean().item()


def twenty_steps() -> dict[str, Tensor]:
    """Ten digits in 20 steps with each variance, and with a last draw that should not be there."""
    schedule, labels = shipped()[0].schedule, list(range(10))
    small, large = (digits_by_ddpm(labels, 20, spread) for spread in ("small", "large"))
    last_beta = 1 - schedule.alpha_bar[schedule.T // 20].item()
    drawn = small + math.sqrt(last_beta) * noise_like(small, torch.Generator().manual_seed(10))
    return {"small": small, "large": large, "small, and a\nlast draw": drawn}


def show_twenty_steps() -> None:
    """Ten digits in 20 steps with each variance, and with a last draw that should not be there."""
    rows = twenty_steps()
    told = [f"{grain(x):.2f}" for x in rows.values()]
    plots.image_rows(
        rows,
        f"Ten digits in 20 steps, the same start and the same draws. Grain, the mean distance of the top rows from "
        f"black: {told[0]} with small noise, {told[1]} with large, {told[2]} with a last draw.",
    )


def three_runs(steps: int = 50) -> tuple[Tensor, Tensor, Tensor]:
    """Ten digits three times: the second run shares the start of the first, the third its later draws."""
    first, second, third = (
        digits_by_ddpm(list(range(10)), steps, start_seed=start, noise_seed=noise)
        for start, noise in ((11, 21), (11, 22), (12, 21))
    )
    return first, second, third


def show_three_runs() -> None:
    """Who decides, the start or the noise on the way?"""
    first, second, third = three_runs()
    plots.image_rows(
        {"first": first, "second:\nsame start": second, "third:\nsame draws": third},
        f"Root mean square difference from the first run: {distance(second, first):.1f} with the same start and other "
        f"draws, {distance(third, first):.3f} with another start and the same draws.",
    )


def reverse_law(x_t: float, t: int, s: int) -> tuple[Tensor, Tensor, Tensor]:
    """A line (N,), the exact density of x_s given x_t for two humps, and DDPM's Gaussian with variance beta-tilde."""
    humps, (ab_t, ab_s) = data.two_humps(), linear().alpha_bar[[t, s]].tolist()
    point = torch.tensor([[x_t]], dtype=torch.float64)
    mean, size = posterior(point, humps.x0(point, ab_t), ab_t, ab_s)
    line = torch.linspace(-3, 3, 60_001, dtype=torch.float64)
    alpha = ab_t / ab_s
    log = humps.log_density(line.unsqueeze(1), ab_s) - (x_t - math.sqrt(alpha) * line) ** 2 / (2 * (1 - alpha))
    exact = torch.softmax(log, 0) / (line[1] - line[0])
    ours = torch.exp(-((line - mean.item()) ** 2) / (2 * size)) / math.sqrt(2 * math.pi * size)
    return line, exact, ours


def overlap(x_t: float, t: int, s: int) -> float:
    """The area that the two densities of `reverse_law` share, 1 if they are equal."""
    line, exact, ours = reverse_law(x_t, t, s)
    return (torch.minimum(exact, ours).sum() * (line[1] - line[0])).item()


def show_reverse_laws(x_t: float = 0.0, t: int = 400, ends: tuple[int, int] = (399, 100)) -> None:
    """A small and a large step from the same point: the true law of the cleaner point, and DDPM's Gaussian."""
    fig, axes = plots.figure(columns=2, width=8.0, height=3.0)
    for axis, s in zip(axes[0], ends, strict=True):
        line, exact, ours = reverse_law(x_t, t, s)
        seen = (exact > 1e-3 * exact.max()) | (ours > 1e-3 * ours.max())
        axis.plot(line[seen], exact[seen], color="0.6", linewidth=4, label="true law")
        axis.plot(line[seen], ours[seen], color=plots.BLUE, label="DDPM draws from")
        axis.set(title=f"from t = {t} to {s}", xlabel="$x_s$", yticks=[])
    told = [f"{100 * overlap(x_t, t, s):.0f} %" for s in ends]
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    plots.show(
        fig,
        f"Data with two humps, x = {x_t:g} at t = {t}. One step back, to {ends[0]}, the two laws share {told[0]} of "
        f"their area. A leap to {ends[1]}: {told[1]}. A Gaussian has one hump, the truth has two.",
    )


def start_gaps() -> list[float]:
    """How far two runs on the two humps are apart after each of 1000 steps: other starts, the same later draws."""
    runs = (
        chain(
            data.two_humps().network(linear()),
            data.noise(500, 1, seed=seed),
            linear(),
            spread="small",
            generator=torch.Generator().manual_seed(1),
        )
        for seed in (5, 6)
    )
    a, b = runs
    return (a - b).square().mean((1, 2)).sqrt().tolist()
