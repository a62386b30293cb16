"""Pictures of why in lesson 04: ten threes, the start or the draws, how much noise, and how many steps."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from lessons_src import data, measurements
from lessons_src.guidance import classifier_free
from lessons_src.lessons.digit_runs import digit_run, shipped
from lessons_src.lessons.lesson_04.chain import chain, variance
from lessons_src.process import posterior_variance
from lessons_src.schedules import linear, time_grid
from lessons_src.show import plots

RUN = (2, 4, 7, 3, 9, 6)  # digits of the run to look at; all six come out easy to read


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


def step_counts() -> list[tuple[str, int, float, Tensor]]:
    """Fresh noise, steps, stored Frechet distance of 1,000 digits to real ones, and the first ten of them."""
    rows = {(row["sampler"], row["steps"]): row for row in measurements.load("steps")}
    samplers = {"large": "DDPM, σ² = β", "small": "DDPM, σ² = β̃"}
    shown = [("large", 10), ("large", 50), ("large", 1000), ("small", 10), ("small", 50), ("small", 1000)]
    found = [(spread, steps, rows[samplers[spread], steps]) for spread, steps in shown]
    return [(spread, steps, row["frechet"], measurements.digits_of(row)) for spread, steps, row in found]


def show_step_counts(corner: int = 7) -> None:
    """Digits by few and by many steps with each size of the noise; an upper corner enlarged; how far from real ones."""
    rows, real = step_counts(), measurements.load("steps")[0]["floor"]
    fig, axes = plots.figure(columns=2, rows=len(rows), width=8.4, height=0.72 * len(rows) + 0.4)
    fig.get_layout_engine().set(rect=(0.03, 0, 0.97, 1))  # the layout forgets names beside pictures of fixed shape
    for (strip, enlarged), (spread, steps, score, x) in zip(axes, rows, strict=True):
        strip.imshow(
            np.concatenate(list(np.asarray(x)[:, 0]), axis=1), cmap="gray", vmin=-1, vmax=1, interpolation="nearest"
        )
        enlarged.imshow(np.asarray(x)[0, 0, :corner, :corner], cmap="gray", vmin=-1, vmax=-0.5, interpolation="nearest")
        strip.set_ylabel(f"{spread}, {steps}:\n{score:.1f}", rotation=0, ha="right", va="center", fontsize=10.5)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.grid(False)
    axes[0, 0].get_gridspec().set_width_ratios([10, 1])
    axes[0, 1].set_title("corner", fontsize=10.5)
    told = {spread: [f"{row[2]:.1f}" for row in rows if row[0] == spread] for spread in ("large", "small")}
    plots.show(
        fig,
        "Fresh noise, steps, and the distance of 1,000 such digits to real ones: the smaller, the better, give or take "
        f"0.1. Real digits have {real:.1f}. With 10, 50 and 1000 steps, large noise: {', '.join(told['large'])}; "
        f"small: {', '.join(told['small'])}. Right: the upper left corner of the 0, enlarged and brightened.",
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


def show_run(shown: Sequence[int] = (1000, 900, 800, 700, 600, 500, 400, 200, 0)) -> None:
    """A 4 on its way, 200 steps with small noise: the state, and the guess of the clean digit made from it."""
    times, x, x0 = digit_run("DDPM, σ² = β̃", 200, "linspace", 1.0, RUN)
    places, digit = [times.index(t) for t in shown], RUN.index(4)
    apart = distance(x0[times.index(600), digit], x[-1, digit])
    plots.images(
        torch.cat([x[places, digit], x0[places, digit]]),
        "A run of 200 steps, small noise, on the cosine schedule. Upper row: the state. Lower row: the guess made from "
        f"it. At t = 600 the guess is {apart:.2f} a pixel away from the finished 4, where black is -1 and white 1.",
        labels=[f"t = {t}" for t in shown] * 2,
        columns=len(shown),
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
