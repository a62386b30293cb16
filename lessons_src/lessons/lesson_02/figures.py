"""The figures of lesson 02. What a figure says in numbers is computed by a function of its own."""

import math
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor
from torch.nn import functional

from lessons_src import data, process
from lessons_src.guidance import classifier_free
from lessons_src.lessons.digit_runs import shipped
from lessons_src.lessons.lesson_01.figures import angles
from lessons_src.samplers import ddim, sample
from lessons_src.schedules import NoiseSchedule, time_grid
from lessons_src.show import plots
from lessons_src.show.look import BLUE, INK, VERMILLION


def first_below(schedule: NoiseSchedule, snr: float) -> int:
    """First time at which the SNR has fallen below `snr`; the margin keeps rounding from deciding a tie."""
    return int((schedule.snr < snr * (1 - 1e-9)).nonzero()[0])


def wasted(schedule: NoiseSchedule, snr: float = 0.01) -> float:
    """Per cent of the steps whose SNR is below `snr`."""
    return 100 * (schedule.snr[1:] < snr).double().mean().item()


# --- How a schedule spends its steps


def show_spending(schedules: Mapping[str, NoiseSchedule], every: int = 25) -> None:
    """Every 25th step as a dot on the quarter circle, one circle a schedule; the last six degrees enlarged."""
    fig, axes = plots.figure(columns=len(schedules), width=9.4, height=5.0)
    fig.get_layout_engine().set(rect=(0, 0.03, 1, 0.93))  # the layout forgets titles of pictures of fixed shape
    for axis, (name, schedule), colour in zip(axes[0], schedules.items(), (BLUE, VERMILLION), strict=True):
        corner = axis.inset_axes((0.165, 0.1, 0.37, 0.27))
        for part in (axis, corner):
            _dots(part, schedule, range(0, schedule.T + 1, every), colour)
        _digits_outside(axis, schedule, (250, 500, 750))
        axis.set(xlim=(-0.17, 1.47), ylim=(-0.06, 1.54), aspect="equal", xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
        axis.set(title=name, xlabel="picture, √ᾱ")
        axis.grid(False)
        corner.set(xlim=(-0.006, 0.107), ylim=(0.9935, 1.0015), xticks=[], yticks=[], facecolor="none")
        corner.set_title("the last six degrees", fontsize=11)
        corner.text(0.094, 0.9942, "SNR 0.01", ha="right", va="bottom", fontsize=11, color=INK)
        corner.spines[:].set(visible=True, color=INK, alpha=0.4)
    axes[0, 0].set_ylabel("noise, √(1−ᾱ)")
    told = " and ".join(f"{round(10 * wasted(s))} with {name}" for name, s in schedules.items())
    plots.show(
        fig,
        f"A dot for every {every} steps. Left of the dashed line SNR is below 0.01: noise has more than a hundred "
        f"times the power of the signal. Of 1000 steps, {told} lie there.",
    )


def _dots(axis: Axes, schedule: NoiseSchedule, times: range, colour: str) -> None:
    """Times of a schedule as dots on the quarter circle, and a dashed line where SNR is 0.01."""
    turn, edge = np.linspace(0, np.pi / 2, 400), math.atan(10)
    axis.plot(np.cos(turn), np.sin(turn), color=INK, alpha=0.5, lw=1)
    axis.plot([0, 1.06 * math.cos(edge)], [0, 1.06 * math.sin(edge)], "--", color=INK, lw=1.2)
    dots = np.radians(angles(schedule, times))
    axis.plot(np.cos(dots), np.sin(dots), "o", color=colour, ms=6, mew=0)


def _digits_outside(axis: Axes, schedule: NoiseSchedule, times: Sequence[int]) -> None:
    """A noisy digit at each of these times, outside the circle at its angle."""
    x0, eps, half = data.one_each()[3, 0].double(), data.noise(28, 28, seed=1), 0.135
    for t in times:
        angle = math.radians(angles(schedule, [t])[0])
        x, y = 1.3 * math.cos(angle), 1.3 * math.sin(angle)
        x_t = process.add_noise(x0, eps, schedule.alpha_bar[t].item())
        extent = (x - half, x + half, y - half, y + half)
        axis.imshow(x_t, cmap="gray", vmin=-1, vmax=1, extent=extent, interpolation="nearest")
        axis.text(x, y + half, f"t = {t}", ha="center", va="bottom", fontsize=11, color=INK)


# --- Bigger pictures


def big_and_small(alpha_bar: float, k: int = 4) -> dict[str, Tensor]:
    """A digit and its k times enlarged copy at one level, the copy averaged over k x k pixels, and at the lower level.

    The lower level has its log-SNR shifted by -2 log k. Pictures (1, 1, H, W).
    """
    small = data.digits("test")[0][:1].double()
    big = small.repeat_interleave(k, -1).repeat_interleave(k, -2)
    lower = torch.sigmoid(torch.tensor(alpha_bar, dtype=torch.float64).logit() - 2 * math.log(k)).item()
    generator, side = torch.Generator().manual_seed(4), small.shape[-1]
    found = {}
    for title, x, level in ((f"{side} px", small, alpha_bar), (f"{k * side} px", big, alpha_bar)):
        found[title] = process.add_noise(x, process.noise_like(x, generator), level)
    found[f"{k * side} px:\naveraged"] = functional.avg_pool2d(found[f"{k * side} px"], k)
    found[f"{k * side} px,\nmore noise"] = low = process.add_noise(big, process.noise_like(big, generator), lower)
    found["more noise:\naveraged"] = functional.avg_pool2d(low, k)
    return found


def show_big(alpha_bar: float, k: int = 4) -> None:
    """`big_and_small` side by side, their contrast stretched for the eye."""
    pictures = big_and_small(alpha_bar, k)
    fig, axes = plots.figure(columns=len(pictures), height=2.4)
    for axis, (title, picture) in zip(axes[0], pictures.items(), strict=True):
        low, high = picture.quantile(0.02), picture.quantile(0.98)
        axis.imshow(picture[0, 0], cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        axis.set_title(title, fontsize=10)
        axis.axis("off")
    snr = alpha_bar / (1 - alpha_bar)
    plots.show(
        fig,
        f"The same digit with SNR {snr:.2f} in each pixel, small and {k} times as large. Average {k} × {k} pixels of "
        f"the large one, and its SNR is {k * k * snr:.2f}. With SNR {snr / k**2:.4f} in each pixel it averages to "
        f"{snr:.2f}: as hard as the small one.",
    )


@cache
def _shrunk(split: str, side: int) -> tuple[Tensor, Tensor]:
    """Digits (N, side * side), float64, made smaller by averaging, and their labels."""
    x, labels = data.digits(split)
    return functional.avg_pool2d(x.double(), 28 // side).flatten(1), labels


def share_read(log_snr: float, side: int = 28, n: int = 300) -> float:
    """Share of n noisy test digits that are read right by exact Bayes, were the training digits all there are."""
    known, names = _shrunk("train", side)
    test, truth = (part[:n] for part in _shrunk("test", side))
    alpha_bar = torch.sigmoid(torch.tensor(log_snr, dtype=torch.float64)).item()
    x_t = process.add_noise(test, data.noise(*test.shape, seed=3 + side), alpha_bar)
    log_weight = (math.sqrt(alpha_bar) * x_t @ known.T - 0.5 * alpha_bar * known.square().sum(1)) / (1 - alpha_bar)
    votes = log_weight.softmax(1) @ functional.one_hot(names, 10).double()
    return (votes.argmax(1) == truth).double().mean().item()


def show_sides(sides: Sequence[int] = (28, 14, 7)) -> None:
    """How well digits of three sizes are read, against the log-SNR of a pixel, as it is and shifted by the side."""
    levels = [float(level) for level in range(-6, 6)]
    fig, axes = plots.figure(columns=2, height=3.2)
    read = {side: [100 * share_read(level, side) for level in levels] for side in sides}
    for axis, shifted in zip(axes[0], (False, True), strict=True):
        for i, (side, share) in enumerate(read.items()):
            shift = 2 * math.log(28 / side) if shifted else 0.0
            x = [level - shift for level in levels]
            style = {"color": plots.COLOURS[i], "linestyle": plots.DASHES[i], "marker": "osD"[i], "markersize": 4}
            axis.plot(x, share, label=f"side {side}", **style)
        axis.set(xlim=(5.2, -6.2), ylim=(0, 103))
    axes[0, 0].set(xlabel="log-SNR of a pixel", ylabel="% read right")
    axes[0, 1].set(xlabel="log-SNR of a pixel + 2 log(side / 28)")
    axes[0, 0].legend(fontsize=9)
    at = {side: 100 * share_read(-1.0 + 2 * math.log(28 / side), side) for side in sides}
    plain = {side: share[levels.index(-1.0)] for side, share in read.items()}
    told, shifted = (", ".join(f"{share:.0f} %" for share in found.values()) for found in (plain, at))
    plots.show(
        fig,
        f"Digits of side {', '.join(map(str, sides))}. At log-SNR −1, {told} of them are read right: the larger the "
        f"picture, the easier. Shifted, sides 28 and 14 agree ({shifted}). Side 7 has lost some of its detail.",
    )


# --- One schedule for training, another for sampling


@cache
def mismatched(schedule: NoiseSchedule, told: tuple[int, ...] | None = None, steps: int = 50) -> Tensor:
    """The digits 0 to 9 of the shipped network, (10, 1, 28, 28): DDIM on `schedule`, always from the same start.

    At time t the network is told the time told[t], by default t itself.
    """
    net, _ = shipped()
    labels, start = torch.arange(10), data.noise(10, 1, 28, 28, seed=3).float()
    eps_fn = classifier_free(net, labels, 1.0)
    times = torch.arange(schedule.T + 1) if told is None else torch.tensor(told)
    return sample(ddim(lambda x, t: eps_fn(x, times[t]), start, schedule, time_grid(schedule, steps)))


def distance(a: Tensor, b: Tensor) -> float:
    """Root mean square difference of two stacks of pictures, over all pixels."""
    return (a - b).square().mean().sqrt().item()


def show_mismatch(schedule: NoiseSchedule, told: Tensor) -> None:
    """Ten digits on the network's own schedule, on `schedule`, and on `schedule` when at time t it is told told[t]."""
    rows = {
        "as trained": mismatched(shipped()[0].schedule),
        "other schedule,\nsame t": mismatched(schedule),
        "other schedule,\nequal level": mismatched(schedule, tuple(told.tolist())),
    }
    own, same, equal = rows.values()
    plots.image_rows(
        rows,
        "The digits 0 to 9 from one network and one start, 50 steps. Black is −1 and white is 1. A pixel differs from "
        f"the first row by {distance(same, own):.2f} with the same t, and by {distance(equal, own):.2f} with the t of "
        "equal level (root mean square).",
    )
