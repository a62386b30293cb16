"""Pictures and tables of lesson 14: four paradigms, a reader of digits that draws, and what sampling costs."""

import statistics
from functools import cache

import torch
from torch import Tensor

from lessons_src import data, latency, weights
from lessons_src.evaluation import in_batches
from lessons_src.lessons.digit_runs import shipped
from lessons_src.lessons.lesson_14.choice import PIXELS, rows
from lessons_src.lessons.lesson_14.paradigms import PARADIGMS, RING, SECONDS, of_the_ring
from lessons_src.measurements import Row, points_of
from lessons_src.process import add_noise
from lessons_src.show import plots

SAID = {  # what the course's source documents say, in few words
    "diffusion": "stable, controllable, strong; slow",
    "GAN": "very fast, sharp; unstable, loses modes",
    "autoregressive": "exact likelihood; one after the other",
    "VAE": "cheap, fast, has an encoder; blurry",
}
READ, TIMES = 100, (300, 500, 700)  # digits that are read, and at which times


# --- Four paradigms


def of(name: str) -> list[Row]:
    """The stored rows of a paradigm, one a seed."""
    return [row for row in rows("paradigms") if row["paradigm"] == name]


def mean(name: str, key: str) -> float:
    """A score of a paradigm, mean over seeds."""
    return statistics.fmean(row[key] for row in of(name))


def show_four(seed: int = 0) -> None:
    """Points of the four paradigms from one seed of training."""
    drawn = {
        f"{name}, {row['calls']} call{'s' * (row['calls'] > 1)}": points_of(row)
        for name in PARADIGMS
        for row in of(name)
        if row["seed"] == seed
    }
    target = RING.sample(1500, torch.Generator().manual_seed(1))[0]
    strays = ", ".join(f"{name} {100 * mean(name, 'stray'):.0f} %" for name in PARADIGMS)
    own = torch.cdist(RING.sample(100_000, torch.Generator().manual_seed(2))[0], RING.means).amin(1)
    share = (own > 3 * RING.covariances[0, 0, 0].sqrt()).double().mean().item()
    plots.points(
        drawn,
        f"400 points each after {SECONDS:.0f} seconds of training, seed {seed}; the ring in grey. Strays, outside "
        f"every cluster, mean of five seeds: {strays}. Of the ring itself {100 * share:.0f} % are strays.",
        limit=2.2,
        target=target,
    )


def show_table() -> None:
    """The four paradigms, words beside measurements."""
    own = of_the_ring()
    covered = [[row["modes"] for row in of(name)] for name in PARADIGMS]
    losses = [own - mean(name, "log") if "log" in of(name)[0] else None for name in PARADIGMS]
    how = {"diffusion": " (ODE)", "autoregressive": " (exact)", "VAE": " at most (bound)"}
    plots.table(
        {
            "paradigm": list(PARADIGMS),
            "one reads": list(SAID.values()),
            "clusters, five seeds": [", ".join(map(str, found)) for found in covered],
            "distance (sliced)": [f"{mean(name, 'sliced'):.3f}" for name in PARADIGMS],
            "nats lost": [
                "no likelihood" if loss is None else f"{loss:.2f}{how[name]}"
                for name, loss in zip(PARADIGMS, losses, strict=True)
            ],
            "calls, a point": [str(of(name)[0]["calls"]) for name in PARADIGMS],
            "calls, a digit": ["50", "1", str(PIXELS), "1"],
            "ms a point": [f"{mean(name, 'ms'):.2g}" for name in PARADIGMS],
        },
        "Clusters: those of eight that get at least a fifth of their share. Sliced: the distance to fresh points of "
        "the ring. Nats lost: how much less log-density fresh points get than under the ring itself. Calls: one after "
        "the other. Milliseconds: one point at a time, where this was measured.",
    )


# --- A reader that draws


@torch.no_grad()
def read_by_drawing(x: Tensor, times: tuple[int, ...] = TIMES) -> Tensor:
    """Which label explains the noise in digits (B, 1, 28, 28) best, (B,): a diffusion model as a classifier.

    Li et al. 2023, "Your diffusion model is secretly a zero-shot classifier", here with one noise at each of few times.
    """
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
        "the label with which it is told best.",
    )


# --- What sampling costs


def show_costs() -> None:
    """Calls of samplers, with and without guidance, and the milliseconds that they are here."""
    ms, costs = rows("call")[0]["ms"], latency.cost_table()
    few, times = latency.six_passes()
    plots.table(
        {
            "sampler": [cost.name for cost in costs],
            "calls": [f"{cost.calls:,}" for cost in costs],
            "guided": [f"{cost.guided:,}" for cost in costs],
            "times fewer": [f"{cost.speed_up:.0f}" for cost in costs],
            "ms, guided": [f"{ms * cost.guided:,.0f}" for cost in costs],
        },
        f"Counted. Times fewer: calls without guidance, against DDPM's. Milliseconds: at {ms:.2f} a call, where it was "
        f"measured. Three guided steps of DDIM are {few} calls, {times:.1f} times fewer than a thousand.",
    )
