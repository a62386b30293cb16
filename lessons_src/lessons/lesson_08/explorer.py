"""The continuous view, to play with: one predictor, from the probability-flow ODE to the reverse SDE and beyond."""

import math
from functools import cache

import numpy as np
import torch
from torch import Tensor

from lessons_src.checks import check_choice, check_int
from lessons_src.data import two_humps
from lessons_src.oracle import GaussianMixture
from lessons_src.samplers import Counted
from lessons_src.sde import VP, euler_maruyama, noisy_flow
from lessons_src.show.panels import Curves, Picture
from lessons_src.show.widgets import Choice, Explorer, Slider

WEIGHTS = ("(1 + λ²) / 2", "1, whatever λ is")
POINTS = 2000


@cache
def _start_and_quantiles() -> tuple[Tensor, Tensor]:
    """Evenly likely points of N(0, 1) in shuffled order, and of the data in rising order, (POINTS, 1) and (POINTS,)."""
    level = (torch.arange(POINTS, dtype=torch.float64) + 0.5) / POINTS
    order = torch.randperm(POINTS, generator=torch.Generator().manual_seed(0))
    line, mixture = torch.linspace(-3, 3, 60_001, dtype=torch.float64), two_humps()
    below = mixture.weights @ torch.special.ndtr((line - mixture.means) / mixture.covariances[:, 0].sqrt())
    return torch.special.ndtri(level)[order, None], line[torch.searchsorted(below, level)]


def sde_picture(share: float, steps: int, weight: str) -> Picture:
    """Euler-Maruyama from the same starts down to the data: four paths, the spread on the way, and the law at the end.

    share: noise lambda, 0 for the ODE, 1 for the reverse SDE. weight: one of WEIGHTS, what multiplies g^2 score.
    """
    mixture, sde, (start, quantiles) = two_humps(), VP(), _start_and_quantiles()
    check_int("steps", steps, 1)
    score = Counted(sde.score(mixture))
    drift, g = noisy_flow(sde, score, share)
    if check_choice("weight", weight, WEIGHTS) == WEIGHTS[1]:
        drift = sde.reverse_drift(score)
    times = [sde.T * (steps - i) / steps for i in range(steps + 1)]
    path = torch.stack([start, *euler_maruyama(drift, g, start, times, torch.Generator().manual_seed(1))])[..., 0]
    end, t = path[-1], np.array(times[::-1])
    paths = {f"start {path[0, i]:+.2f}": path[:, i].flip(0).clamp(-4, 4).numpy() for i in _nearest(path[0])}
    data_std = quantiles.std().item()
    exact = np.array([math.hypot(sde.signal(s) * data_std, sde.noise(s)) for s in t])
    along = torch.linspace(-2.5, 2.5, 201, dtype=torch.float64)
    width = 0.06
    smooth = torch.exp(-(((along[:, None] - end) / width) ** 2) / 2).mean(1) / (width * math.sqrt(2 * math.pi))
    smooth_data = GaussianMixture(mixture.weights, mixture.means, mixture.covariances + width**2)
    distance = (end.sort().values - quantiles).abs().mean().item()
    return Picture(
        [
            Curves(
                "Four paths, noise at the right, data at the left", t, paths, "time t", "x (cut at ±4)", (-4.2, 4.2)
            ),
            Curves(
                f"Spread of all {POINTS:,} on the way",
                t,
                {"these paths": path.std(1).flip(0).clamp(max=2.5).numpy(), "forward process": exact},
                "time t",
                "standard deviation (cut at 2.5)",
                (0.0, 2.6),
            ),
            Curves(
                "Where they end (both smoothed)",
                along.numpy(),
                {
                    "these paths": smooth.clamp(max=3.0).numpy(),
                    "data": smooth_data.log_density(along[:, None], 1.0).exp().numpy(),
                },
                "x",
                "density (cut at 3)",
                (0.0, 3.1),
            ),
        ],
        f"λ = {share:g} ({_name(share, weight)}), {steps} steps, {score.nfe} network evaluations. "
        f"Standard deviation at the end {end.std():.3f} (data {data_std:.3f}). "
        f"{100 * (end > 0).double().mean():.0f} % end in the right hump (data 70 %). "
        f"W1 distance to the data: {distance:.3f}.",
    )


def _nearest(start: Tensor) -> list[int]:
    """Indices of the starts nearest to four places."""
    return [int((start - place).abs().argmin()) for place in (-1.5, -0.5, 0.3, 1.3)]


def _name(share: float, weight: str) -> str:
    if share == 1:
        return "the reverse SDE"
    if weight == WEIGHTS[1]:
        return "the reverse SDE with " + (f"{share:g} times its noise" if share else "its noise dropped")
    return f"{share:g} times the noise of the reverse SDE, and the score to match" if share else "the ODE"


def explore_sde() -> Explorer:
    """Turn the noise up from the ODE to the reverse SDE; the starts stay the same."""
    return Explorer(
        sde_picture,
        [
            Slider("share", "Noise λ", 0.0, 2.0, 0.1, 0.0),
            Slider("steps", "Steps", 5, 200, 5, 100),
            Choice("weight", "Weight of g² score", list(WEIGHTS), WEIGHTS[0]),
        ],
    )
