"""Pictures and tables of lesson 14: four paradigms, a reader of digits that draws, and what sampling costs."""

import statistics
from functools import cache

import torch
from torch import Tensor

from lessons_src import data, latency, weights
from lessons_src.checks import check_choice, check_int, refuse
from lessons_src.evaluation import in_batches
from lessons_src.latency import Check, Speed
from lessons_src.lessons.digit_runs import shipped
from lessons_src.lessons.lesson_14.choice import PIXELS, rows
from lessons_src.lessons.lesson_14.paradigms import PARADIGMS, RING, SECONDS
from lessons_src.measurements import Row, points_of
from lessons_src.process import add_noise
from lessons_src.show import plots

SAID = {  # what the course's source documents say, in few words
    "diffusion": "stable, controllable, strong; slow",
    "GAN": "very fast, sharp; unstable, loses modes",
    "autoregressive": "exact likelihood; one after the other",
    "VAE": "cheap, fast, has an encoder; blurry",
}
LIKELIHOOD = {"diffusion": "by an ODE", "GAN": "none", "autoregressive": "exact", "VAE": "a lower bound"}
READ, TIMES = 100, (300, 500, 700)  # digits that are read, and at which times


# --- Four paradigms


def of(name: str) -> list[Row]:
    """The stored rows of a paradigm, one a seed."""
    return [row for row in rows("paradigms") if row["paradigm"] == check_choice("name", name, PARADIGMS)]


def mean(name: str, key: str) -> float:
    """A score of a paradigm, mean over seeds."""
    return statistics.fmean(row[key] for row in of(name))


def show_four(seed: int = 0) -> None:
    """Points of the four paradigms from one seed of training."""
    check_int("seed", seed, 0, len(of("GAN")) - 1)
    drawn = {
        f"{name}\n{row['calls']} call{'s' * (row['calls'] > 1)}": points_of(row)
        for name in PARADIGMS
        for row in of(name)
        if row["seed"] == seed
    }
    target = RING.sample(1500, torch.Generator().manual_seed(1))[0]
    strays = ", ".join(f"{name} {100 * mean(name, 'stray'):.0f} %" for name in PARADIGMS)
    own = torch.cdist(RING.sample(100_000, torch.Generator().manual_seed(2))[0], RING.means).amin(1)
    share = (own > 3 * RING.covariances[0, 0, 0].sqrt()).double().mean().item()
    fig, axes = plots.figure(len(drawn), width=9.2, height=2.9)
    for axis, (title, cloud) in zip(axes[0], drawn.items(), strict=True):
        plots.draw_points(axis, cloud, title, 2.2, target)
        axis.set(xticks=[-2, 0, 2], yticks=[-2, 0, 2])
    plots.show(
        fig,
        f"400 points each after {SECONDS:.0f} seconds of training, seed {seed}; the ring in grey. Strays, outside "
        f"every cluster, mean of five seeds: {strays}. Of the ring itself {100 * share:.0f} % are strays.",
    )


def show_table() -> None:
    """The four paradigms, words beside measurements."""
    covered = [[row["modes"] for row in of(name)] for name in PARADIGMS]
    plots.table(
        {
            "paradigm": list(PARADIGMS),
            "people say": list(SAID.values()),
            "clusters, five seeds": [", ".join(map(str, found)) for found in covered],
            "likelihood": list(LIKELIHOOD.values()),
            "calls for a digit": ["50", "1", str(PIXELS), "1"],
            "ms for a point": [f"{mean(name, 'ms'):.2g}" for name in PARADIGMS],
        },
        "Clusters: how many of eight get at least a fifth of their share. Calls: one after the other. Milliseconds: "
        "measured once and stored, on another machine than yours.",
    )


# --- A reader that draws


@torch.no_grad()
def read_by_drawing(x: Tensor, times: tuple[int, ...] = TIMES) -> Tensor:
    """Which label explains the noise in digits (B, 1, 28, 28) best, (B,): a diffusion model as a classifier.

    Li et al. 2023, "Your diffusion model is secretly a zero-shot classifier", here with one noise at each of few times.
    """
    if not times:
        refuse("times", times, "one time or more")
    net = shipped()[0]
    errors = torch.zeros(len(x), net.num_classes)
    for t in times:
        eps = data.noise(*x.shape, seed=t).float()
        x_t = add_noise(x, eps, net.schedule.alpha_bar[t])
        for label in range(net.num_classes):
            found = net(x_t, torch.full((len(x),), t), label)
            errors[:, label] += (found - eps).square().flatten(1).mean(1)
    return errors.argmin(1)


@cache
def reading() -> tuple[int, int]:
    """How many of READ test digits the judge reads right, and how many the generator does."""
    x, label = (part[:READ] for part in data.digits("test"))
    found = in_batches(weights.load("judge")[0], x).argmax(1), read_by_drawing(x)
    return tuple((guess == label).sum().item() for guess in found)


def show_reading() -> None:
    """The same digits read by a classifier and by a generator."""
    judge, generator = reading()
    sizes = [sum(p.numel() for p in net.parameters()) for net in (weights.load("judge")[0], shipped()[0])]
    plots.table(
        {
            "who reads": ["a small classifier", "the digit network, by drawing"],
            "numbers in it": [f"{size:,}" for size in sizes],
            "calls a digit": ["1", str(len(TIMES) * shipped()[0].num_classes)],
            f"right, of {READ}": [str(judge), str(generator)],
        },
        "To read by drawing: put noise on the digit, and ask for it with each of the ten labels, at three times. Take "
        "the label whose guess of the noise is nearest.",
    )


# --- What sampling costs


def show_promise(speed: Speed, check: Check) -> None:
    """A prediction and a promise with their sums, and whether runs kept the promise."""
    (calls, usual, promise), taken = check.predicted, [1000 * seconds for seconds in check.taken]
    middle, slow = speed.seconds(1), speed.seconds(1, 0.95)
    kept, runs = round(check.kept * len(taken)), len(taken)
    loop, off = 1000 * (usual - calls * middle), 100 * check.error
    print(f"usual call: {1000 * middle:.2f} ms, slow call: {1000 * slow:.2f} ms, the loop around them: {loop:.1f} ms")
    print(f"predicted: {calls} usual calls + loop = {1000 * usual:.0f} ms")
    print(f"promised: {calls} slow calls + loop, and a tenth more = {1000 * promise:.0f} ms")
    print(f"{runs} runs: {min(taken):.0f} to {max(taken):.0f} ms; beside the prediction, the middle one {off:+.0f} %")
    busier = "" if kept == runs else ". The machine became busier: measure again"
    print(f"promise {'kept' if kept == runs else 'not kept'}: {kept} of {runs} runs{busier}")


def show_costs(speed: Speed) -> None:
    """Calls of samplers, with and without guidance, and the milliseconds that they are on this machine."""
    ms, costs = 1000 * speed.seconds(1), latency.cost_table()
    plots.table(
        {
            "sampler": [cost.name for cost in costs],
            "calls": [f"{cost.calls:,}" for cost in costs],
            "guided": [f"{cost.guided:,}" for cost in costs],
            "times fewer": [f"{cost.speed_up:,.0f}" for cost in costs],
            "guided, ms here": [f"{ms * cost.guided:,.0f}" for cost in costs],
        },
        f"Times fewer: calls without guidance, against DDPM's. Milliseconds: your {ms:.2f} a call, without the loop.",
    )
