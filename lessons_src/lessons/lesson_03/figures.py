"""The figures of lesson 03, and the scores of a network. What a figure says in numbers is computed by a function."""

import math
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from lessons_src import data, process, weights
from lessons_src.evaluation import Reference, accuracy
from lessons_src.guidance import classifier_free
from lessons_src.lessons.digit_runs import shipped
from lessons_src.lessons.lesson_03.explorer import RunFirst, ten_digits
from lessons_src.networks import DigitClassifier, NoisePredictor
from lessons_src.oracle import GaussianMixture
from lessons_src.samplers import ddim, sample
from lessons_src.schedules import time_grid
from lessons_src.show import plots
from lessons_src.show.look import BLUE, VERMILLION
from lessons_src.show.progress import counted
from lessons_src.training import Trainer

PER_CLASS = 20  # digits of each class that a network is judged by


# --- What it learns


def fits(x_t: Tensor, alpha_bar: float, x0: Tensor) -> Tensor:
    """How likely each of the clean x0 (N, *event) lies behind one x_t (1, *event): shares (N,), together 1."""
    misfit = (x_t - math.sqrt(alpha_bar) * x0).square().flatten(1).sum(1) / (2 * (1 - alpha_bar))
    return (-misfit).softmax(0)


@torch.no_grad()
def show_average(number: int = 0, t: int = 850, shown: int = 6) -> None:
    """A test digit under noise, the training digits that fit best, their average, and the shipped network's guess."""
    net, _ = shipped()
    alpha_bar = net.schedule.alpha_bar[t].item()
    x0, (known, _) = data.digits("test")[0][number : number + 1], data.digits()
    x_t = process.add_noise(x0, data.noise(*x0.shape, seed=number).float(), alpha_bar)
    share = fits(x_t, alpha_bar, known)
    best = share.topk(shown)
    average = (share.view(-1, 1, 1, 1) * known).sum(0, keepdim=True)
    guess = process.predict_x0(x_t, net(x_t, torch.tensor([t])), alpha_bar)
    pictures = torch.cat([x_t, average, guess, known[best.indices]])[:, 0].clamp(-1, 1)
    names = ["it sees", "average", "its guess", *(f"{100 * value:.1f} %" for value in best.values)]
    spots = [(0, 0, 2), (5.6, 0, 2), (7.9, 0, 2)]  # left, bottom and side
    spots += [(2.4 + k % 3, 1.15 - 1.15 * (k // 3), 0.85) for k in range(shown)]
    fig, axes = plots.figure(width=7.4, height=2.0)
    axis = axes[0, 0]
    for (left, bottom, side), picture, name in zip(spots, pictures, names, strict=True):
        place = (left, left + side, bottom, bottom + side)
        axis.imshow(picture, cmap="gray", vmin=-1, vmax=1, extent=place, interpolation="nearest")
        axis.text(left + side / 2, bottom + side + 0.05, name, ha="center", va="bottom")
    axis.set(xlim=(0, 9.9), ylim=(0, 2.3), aspect="equal")
    axis.axis("off")
    plots.show(
        fig,
        f"A digit at t = {t}. The {shown} training digits that fit best, with their weight in the average: together "
        f"{100 * best.values.sum():.0f} %. The other {len(known) - shown:,} share the rest. Then the average of all, "
        "and what the guess of the network leaves. It has no list of digits to look into.",
    )


# --- The network


def show_waves(frequencies: Tensor, shown: tuple[int, ...] = (9, 14, 19, 31)) -> None:
    """The sines of all times at frequencies (F,), as a map, and some of them as curves."""
    time = torch.arange(1, 1001)
    waves = (time[:, None] * frequencies).sin().T
    fig, axes = plots.figure(2, 1, width=9.2, height=2.9)
    chart, curves = axes[0]
    chart.imshow(waves, aspect="auto", cmap="gray", extent=(1, 1000, len(waves) - 0.5, -0.5), interpolation="nearest")
    chart.set(xlabel="time t", ylabel="wave", title="All waves: a column is what one t gives")
    chart.grid(False)
    for row, number in enumerate(shown):
        curves.plot(time, waves[number] - 2.5 * row, color=BLUE, lw=1.4)
    curves.set(xlabel="time t", title="Four of them", yticks=[-2.5 * row for row in range(len(shown))])
    curves.set_yticklabels([f"wave {number}" for number in shown])
    plots.show(
        fig,
        f"{len(waves)} sine waves; {len(waves)} cosines go with them. The quick ones tell t from t + 1, the slow ones "
        "tell early from late.",
    )


@torch.no_grad()
def stages(number: int = 0, t: int = 400) -> dict[str, Tensor]:
    """A test digit at time t on its way through the shipped U-Net: what each stage holds, (C, H, W)."""
    net, _ = shipped()
    alpha_bar = net.schedule.alpha_bar[t].item()
    x0 = data.digits("test")[0][number : number + 1]
    x_t, kept = process.add_noise(x0, data.noise(*x0.shape, seed=number).float(), alpha_bar), {}
    body = net.body
    layers = {
        "fine": body.down[0],
        "finer": body.down[1],
        "middle": body.middle[1],
        "up[0]": body.up[0],
        "up[1]": body.up[1],
    }
    hooks = [
        layer.register_forward_hook(lambda _, inputs, output, name=name: kept.update({name: output[0]}))
        for name, layer in layers.items()
    ]
    eps = net(x_t, torch.tensor([t]))
    for hook in hooks:
        hook.remove()
    return {"in": x_t[0], **kept, "out": process.predict_x0(x_t, eps, alpha_bar)[0].clamp(-1, 1)}


def show_unet() -> None:
    """`stages` laid out as the U that the network is named after, the liveliest channel of each."""
    found, size = stages(), {28: 1.0, 14: 0.8, 7: 0.62}
    spots = ((0, 2.3), (1.5, 1.9), (2.95, 1.0), (4.45, 0), (5.95, 1.0), (7.4, 1.9), (8.9, 2.3))
    places = dict(zip(found, spots, strict=True))
    fig, axes = plots.figure(width=7.6, height=3.2)
    axis = axes[0, 0]
    for name, channels in found.items():
        x, y, half = *places[name], size[channels.shape[-1]] / 2
        liveliest = channels[channels.flatten(1).std(1).argmax()]
        axis.imshow(liveliest, cmap="gray", extent=(x - half, x + half, y - half, y + half), interpolation="nearest")
        count, height, width = channels.shape
        label = f"{name}\n{count} x {height} x {width}"
        axis.text(x, y - half - 0.06, label, ha="center", va="top", fontsize=10.5)
    skips = (("fine", "up[1]"), ("finer", "up[0]"))
    for one, other in (*pairwise(found), *skips):
        (x0, y0), (x1, y1) = places[one], places[other]
        ends = ((x0 + 0.55, y0), (x1 - 0.55, y1))
        style = {"arrowstyle": "-|>", "color": VERMILLION if (one, other) in skips else BLUE, "lw": 1.6}
        axis.annotate("", ends[1], ends[0], arrowprops=style)
    axis.text(4.45, 1.95, "details cross here", color=VERMILLION, ha="center", va="bottom", fontsize=10.5)
    axis.set(xlim=(-0.7, 9.6), ylim=(-0.95, 2.95), aspect="equal")
    axis.axis("off")
    plots.show(
        fig,
        "A noisy 7 on its way through the shipped network. Each picture is one channel of a stage; below it stand "
        "channels x height x width. At 7 x 7 a unit sees the whole digit. Out: the digit, computed from its answer.",
    )


# --- When it is done


@cache
def ring_losses() -> tuple[Tensor, Tensor, Tensor]:
    """`split_loss` of the shipped point network."""
    return split_loss(weights.load("points")[0], data.ring())


@torch.no_grad()
def split_loss(net: NoisePredictor, mixture: GaussianMixture, n: int = 20_000) -> tuple[Tensor, Tensor, Tensor]:
    """Loss of a point network, smallest possible loss, and excess, in tenths of the times, (10,) each."""
    generator = torch.Generator().manual_seed(9)
    x0, _ = mixture.sample(n, generator)
    t = torch.randint(1, net.schedule.T + 1, (n,), generator=generator)
    eps = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    x_t = process.add_noise(x0, eps, net.schedule.alpha_bar[t])
    best, guess = mixture.eps(x_t, net.schedule.alpha_bar[t]), net(x_t.float(), t).double()
    tenth = 10 * (t - 1) // net.schedule.T
    pairs = ((guess, eps), (best, eps), (guess, best))
    found = [(a - b).square().mean(1) for a, b in pairs]
    return tuple(torch.stack([each[tenth == k].mean() for k in range(10)]) for each in found)


def show_floor() -> None:
    """The loss of the shipped point network by time, split into what nobody can remove and its own fault."""
    loss, lowest, excess = ring_losses()
    fig, axes = plots.figure(columns=2, width=7.8, height=3.2)
    data_axis, loss_axis = axes[0]
    data_axis.get_gridspec().set_width_ratios([1, 1.6])
    plots.draw_points(data_axis, data.ring().sample(600, torch.Generator().manual_seed(0))[0], "the data", 2.1)
    series = {"loss of a network": loss, "floor: the best guess": lowest, "the network's fault": excess}
    plots.draw_lines(loss_axis, [100 * k + 50 for k in range(10)], series, "time t", "loss in ε", markers=True)
    plots.show(
        fig,
        f"Data for which the best guess is a formula: eight clouds of points. Where the floor has a hump, the clouds "
        f"begin to run into each other. The network's mean loss of {loss.mean():.3f} looks poor. But "
        f"{lowest.mean():.3f} of it is the floor, and only {excess.mean():.3f} is the network's fault.",
    )


class Score(NamedTuple):
    """How good a digit network is: v-loss on test digits, share of its digits that the judge reads as asked, and
    their feature-Frechet distance to test digits."""

    loss: float
    read: float
    distance: float


@cache
def _judge() -> tuple[DigitClassifier, Reference]:
    judge, _ = weights.load("judge")
    return judge, Reference(judge.features, data.digits("test")[0], *data.digits("train"))


@torch.no_grad()
def v_loss(net: NoisePredictor, split: str, n: int = 500) -> float:
    """Mean v-loss on the first n digits of a split, over evenly spread times and noise that is always the same."""
    x0, label = (part[:n] for part in data.digits(split))
    t = 1 + net.schedule.T * torch.arange(n) // n
    x_t, v = process.rotate(x0, data.noise(*x0.shape).float(), *net.level(t, x0))
    return F.mse_loss(net.output(x_t, t, label), v).item()


def score(net: NoisePredictor) -> Score:
    """Judge a digit network by its loss, and by digits of every class that it draws in twenty DDIM steps."""
    label = torch.arange(10 * PER_CLASS) % 10
    noise = data.noise(len(label), 1, 28, 28).float()
    drawn = [
        sample(ddim(classifier_free(net, y, 1.0), z, net.schedule, time_grid(net.schedule, 20)))
        for z, y in zip(noise.split(100), label.split(100), strict=True)
    ]
    x, (judge, reference) = torch.cat(drawn).clamp(-1, 1), _judge()
    return Score(v_loss(net, "test"), accuracy(judge, x, label), reference.frechet(x))


def real_score() -> tuple[float, float]:
    """What real digits score: share read right of the test digits, and distance of training digits, as many of each
    class as `score` draws, to the test digits; mean of ten draws."""
    judge, reference = _judge()
    return accuracy(judge, *data.digits("test")), reference.floor(torch.arange(10 * PER_CLASS) % 10)[0]


def show_scores(scores: Mapping[str, Score]) -> None:
    """A table of scores, with real digits as its last row."""
    read, distance = real_score()
    looks = [*((each.read, each.distance) for each in scores.values()), (read, distance)]
    plots.table(
        {
            "network": [*scores, "real digits"],
            "loss in v, new digits": [*(f"{each.loss:.3f}" for each in scores.values()), ""],
            "read right, %": [f"{100 * share:.0f}" for share, _ in looks],
            "distance": [f"{far:.1f}" for _, far in looks],
        },
        f"Each network draws {10 * PER_CLASS} digits. Read right: the judge sees the digit that was asked for. "
        f"Distance: how much all of them together differ from real digits, to the judge. 0 is not at all; "
        f"{10 * PER_CLASS} real ones have {distance:.1f}, by luck.",
    )


def compare(trainer: Trainer | None, net: NoisePredictor) -> None:
    """What a trainer has trained beside the shipped network: ten digits of each from the same noise, and scores."""
    if trainer is None:
        raise RunFirst("There is no trained network to judge yet: run the cell below the heading Train it first.")
    networks = {f"yours, {trainer.step_count:,} steps": trainer.ema, "shipped, 6,000 steps": net}
    plots.image_rows(
        {name: ten_digits(each).clamp(-1, 1) for name, each in networks.items()},
        "The digits 0 to 9, from the same noise in both rows.",
    )
    show_scores({name: score(networks[name]) for name in counted(networks, "networks judged")})
