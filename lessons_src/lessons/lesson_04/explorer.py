"""To play with in lesson 04: DDPM with its noise on or off, a single step of any length, and a run on digits."""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from lessons_src import data
from lessons_src.evaluation import on_target
from lessons_src.lessons.lesson_04.chain import SPREADS, chain, variance
from lessons_src.lessons.lesson_04.leap import DATA, LINE, PAIRS, START, leap
from lessons_src.oracle import GaussianMixture
from lessons_src.schedules import NoiseSchedule, linear, time_grid
from lessons_src.show.panels import Curves, Images, Picture, Points, grey
from lessons_src.show.widgets import Choice, Explorer, Slider

POINTS, FRAMES = 300, 40
ENOUGH = 0.5  # share of points on target from which clusters are worth measuring
COUNTS = (10, 20, 50, 200, 1000)
GROUPS = torch.tensor([0, 1, 5, 4, 6, 7, 2, 3])  # of the ring's clusters: colours that look alike lie apart


def clusters(mixture: GaussianMixture, x: Tensor) -> tuple[float, float]:
    """Width of the clusters of points (N, 2), and how far their middles are from the origin; a root mean square each.

    A cluster is the points nearest to the same mode; its width is their standard deviation around their own middle.
    """
    mode = torch.cdist(x, mixture.means).argmin(1)
    middle = torch.stack([x[mode == k].mean(0) for k in mode.unique()])
    away = torch.cat([x[mode == k] - x[mode == k].mean(0) for k in mode.unique()])
    return away.square().mean().sqrt().item(), middle.square().sum(1).mean().sqrt().item()


def ddpm_picture(spread: str, count: int) -> Picture:
    """DDPM from 300 noise points on the exact predictor of eight Gaussians, coloured by the cluster a point ends in."""
    mixture, schedule = data.ring(), linear()
    times = time_grid(schedule, count)
    generator = torch.Generator().manual_seed(4)
    x = chain(mixture.network(schedule), data.noise(POINTS, 2, seed=2), schedule, times, spread, generator)
    kept = sorted({round(k * count / FRAMES) for k in range(FRAMES + 1)})
    end, shown = x[-1], [times[k] for k in kept]
    gone = schedule.T - np.array(shown)  # as the slider of time runs: from left to right
    ab = schedule.alpha_bar[shown]
    size = (mixture.weights @ (mixture.means.square() + mixture.covariances.diagonal(dim1=1, dim2=2))).mean()
    return Picture(
        [
            Points(
                "The points",
                x[kept].numpy(),
                mixture.sample(400, torch.Generator().manual_seed(1))[0].numpy(),
                2.4,
                paths=False,
                groups=GROUPS[torch.cdist(end, mixture.means).argmin(1)].numpy(),
            ),
            Curves(
                "How spread out all points are",
                gone,
                {
                    "these points": x[kept].square().mean((1, 2)).sqrt().numpy(),
                    "noised data": (ab * size + 1 - ab).sqrt().numpy(),
                },
                f"time gone by, {schedule.T} − t",
                "standard deviation",
                (0.0, 1.6),
                marker=gone,
            ),
        ],
        f"{count} steps, fresh noise: {spread}. {_arrival(mixture, end)} A group, by colour and shape, is the points "
        "that end in the same cluster.",
        frame_label="Time t",
        frame_names=[f"t = {t}" for t in shown],
        formula=[f"Noise at t = {times[0]}", *(_step(schedule, times[k - 1], times[k], spread) for k in kept[1:])],
        plays=True,
    )


def _arrival(mixture: GaussianMixture, end: Tensor) -> str:
    """How many points arrive, what arriving means, and, if there are enough of them, what their clusters look like."""
    share, std = on_target(mixture, end), mixture.covariances[0, 0, 0].sqrt().item()
    arrived = f"{100 * share:.0f} % end on target, less than {3 * std:.2f} from the middle of a true cluster."
    if share < ENOUGH:
        return f"{arrived} Too few to speak of clusters."
    wide, out = clusters(mixture, end)
    far = mixture.means.square().sum(1).mean().sqrt().item()
    return (
        f"{arrived} Their clusters are {wide:.2f} wide and {out:.2f} from the centre of the ring; the true ones "
        f"{std:.2f} and {far:.2f}."
    )


def _step(schedule: NoiseSchedule, t: int, s: int, spread: str) -> str:
    """A step of DDPM with its numbers."""
    ab_t, ab_s = schedule.alpha_bar[[t, s]].tolist()
    root = math.sqrt(ab_t / ab_s)
    taken = (1 - ab_t / ab_s) / math.sqrt(1 - ab_t) / root
    size = variance(spread, ab_t, ab_s) if s > 0 else 0.0
    return f"t = {t} → {s}:  xₛ = {1 / root:.3f} · xₜ − {taken:.3f} · ε̂ + {math.sqrt(size):.3f} · z"


def explore_ddpm() -> Explorer:
    """Switch DDPM's fresh noise off, choose its size, and the number of steps."""
    return Explorer(
        ddpm_picture,
        [Choice("spread", "Fresh noise", list(SPREADS), "large"), Choice("count", "Steps", list(COUNTS), 1000)],
    )


def leap_picture(name: str, spread: str, s: int) -> Picture:
    """One step of DDPM from t = 400 to s on the exact predictor of data on a line, beside the truth."""
    found, top = leap(name, spread, s), 1.4
    true, ours = found.widths()
    return Picture(
        [
            Points(
                "A dot: noisy xₜ to the right, cleaner xₛ up",
                torch.cat([found.true_pairs, found.our_pairs])[None].numpy(),
                limit=3.2,
                groups=torch.arange(2).repeat_interleave(PAIRS).numpy(),
                names={0: "true", 1: "your step"},
            ),
            Curves(
                "How the xₛ are spread",
                LINE.numpy(),
                {
                    "true": found.true_law.clamp(max=top).numpy(),
                    "your step": found.our_law.clamp(max=top).numpy(),
                },
                "cleaner xₛ",
                "density",
                (0.0, top),
            ),
        ],
        f"Data: {name}. The true xₛ have the standard deviation {true:.2f}, those of your step {ours:.2f}. The two "
        f"curves share {100 * found.share():.0f} % of their area.",
        formula=f"t = {START} → {s}:  xₛ = mean + {found.sigma:.2f} · z",
    )


def explore_leap() -> Explorer:
    """Choose data, fresh noise and the length of one step."""
    return Explorer(
        leap_picture,
        [
            Choice("name", "Data", list(DATA), "N(0, 1)"),
            Choice("spread", "Fresh noise", list(SPREADS), "none"),
            Slider("s", "One step to s", 100, 390, 10, 200),
        ],
    )


def run_picture(
    which: str, times: Sequence[int], x: Tensor, x0: Tensor, schedule: NoiseSchedule, names: Sequence[str]
) -> Picture:
    """A sampling run: x_t and the guess of x0 made from it, of one sample, by its name, or of "all" of them.

    times: F falling times. x, x0: (F, B, 1, 28, 28), the state at each time and the prediction from that state.
    names: B texts, each another, one a sample. The text compares every prediction with the sample that came out.
    """
    chosen = [i for i, name in enumerate(names) if which in ("all", name)]
    labels = [names[i] for i in chosen]
    x, x0 = x[:, chosen, 0], x0[:, chosen, 0]
    distance = (x0 - x[-1]).square().mean((1, 2, 3)).sqrt()
    signal, noise = schedule.alpha_bar.sqrt(), (1 - schedule.alpha_bar).sqrt()
    return Picture(
        [Images("State xₜ", grey(x), labels), Images("Guess x̂₀", grey(x0), labels)],
        f"A run of DDPM on the {schedule.name} schedule, {len(times)} of its states. Shown: {', '.join(labels)}.",
        frame_label="Time t",
        frame_names=[f"t = {t}" for t in times],
        frame_texts=[
            f"At t = {t} the state is {signal[t]:.2f} signal and {noise[t]:.2f} noise; x̂₀ differs from the final "
            f"sample by {d:.2f} per pixel, root mean square, on a scale from -1 to 1."
            for t, d in zip(times, distance.tolist(), strict=True)
        ],
        start=0,
        formula=[f"xₜ = {signal[t]:.2f} · signal + {noise[t]:.2f} · noise" for t in times],
    )


def explore_run(times: Sequence[int], x: Tensor, x0: Tensor, schedule: NoiseSchedule, names: Sequence[str]) -> Explorer:
    """Scrub through a run, of all samples or of one; arguments as in `run_picture`."""
    show = partial(run_picture, times=times, x=x, x0=x0, schedule=schedule, names=names)
    return Explorer(show, [Choice("which", "Sample", ["all", *names], "all")])
