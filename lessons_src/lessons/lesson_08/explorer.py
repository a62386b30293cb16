"""To play with in lesson 08: one predictor, from the probability-flow ODE to the reverse SDE and beyond."""

import math
from functools import cache

import torch
from torch import Tensor

from lessons_src.checks import check_choice, check_int
from lessons_src.data import two_humps
from lessons_src.oracle import GaussianMixture
from lessons_src.sde import VP, euler_maruyama, noisy_flow
from lessons_src.show.panels import Curves, Picture, Points
from lessons_src.show.widgets import Choice, Explorer, Slider

PULLS = ("matched to λ", "as for λ = 1")
POINTS, WALKERS = 2000, 42
PLACES = 3.2  # half the width of the walk
# The share of the data in the hump at -1; the ODE keeps the order of points, so it takes that share of starts there
LOW = 0.3
HUMPS = 2  # their groups are 2 and 3, so that no line of the other panel has the colour of a hump


@cache
def _start_and_quantiles() -> tuple[Tensor, Tensor]:
    """Evenly likely points of N(0, 1) in shuffled order, and of the data in rising order, (POINTS, 1) and (POINTS,)."""
    level = (torch.arange(POINTS, dtype=torch.float64) + 0.5) / POINTS
    order = torch.randperm(POINTS, generator=torch.Generator().manual_seed(0))
    line, mixture = torch.linspace(-3, 3, 60_001, dtype=torch.float64), two_humps()
    below = mixture.weights @ torch.special.ndtr((line - mixture.means) / mixture.covariances[:, 0].sqrt())
    return torch.special.ndtri(level)[order, None], line[torch.searchsorted(below, level)]


def sde_picture(share: float, steps: int, pull: str) -> Picture:
    """Euler-Maruyama from the same starts down to the data: the walk over the moving density, and the law at the end.

    share: noise lambda, 0 for the ODE, 1 for the reverse SDE. pull: one of PULLS; what multiplies g^2 score is
    (1 + lambda^2) / 2, or 1 whatever lambda is.
    """
    mixture, sde, (start, quantiles) = two_humps(), VP(), _start_and_quantiles()
    check_int("steps", steps, 1)
    score = sde.score(mixture)
    drift, g = noisy_flow(sde, score, share)
    weight = (1 + share**2) / 2
    if check_choice("pull", pull, PULLS) == PULLS[1]:
        drift, weight = sde.reverse_drift(score), 1
    times = [sde.T * (steps - i) / steps for i in range(steps + 1)]
    path = torch.stack([start, *euler_maruyama(drift, g, start, times, torch.Generator().manual_seed(1))])[..., 0]
    end = path[-1]
    high = start[:, 0] > torch.special.ndtri(torch.tensor(LOW)).item()
    kept, at_high = ((end > 0) == high).double().mean().item(), (end > 0).double().mean().item()
    across = torch.tensor([_place(sde, s) for s in times])[:, None].expand(-1, WALKERS)
    walkers = torch.stack([across, path[:, :WALKERS]], 2)
    along = torch.linspace(-2.5, 2.5, 201, dtype=torch.float64)
    width = 0.06
    smooth = torch.exp(-(((along[:, None] - end) / width) ** 2) / 2).mean(1) / (width * math.sqrt(2 * math.pi))
    smooth_data = GaussianMixture(mixture.weights, mixture.means, mixture.covariances + width**2)
    distance = (end.sort().values - quantiles).abs().mean().item()
    return Picture(
        [
            Points(
                f"{WALKERS} walkers: noise → data",
                walkers.numpy(),
                _moving_density().numpy(),
                PLACES + 0.2,
                groups=(HUMPS + high[:WALKERS].long()).numpy(),
            ),
            Curves(
                f"Where all {POINTS:,} end (smoothed)",
                along.numpy(),
                {
                    "walkers": smooth.clamp(max=3.0).numpy(),
                    "data": smooth_data.log_density(along[:, None], 1.0).exp().numpy(),
                },
                "x",
                "density (cut at 3)",
                (0.0, 3.1),
            ),
        ],
        f"λ = {share:g} ({_name(share, pull)}), {steps} steps. Colour and shape name the hump where a walker ends "
        f"without noise: {100 * kept:.0f} % of {POINTS:,} end there. {100 * at_high:.0f} % end in the hump at 0.8 "
        f"(data: 70 %). W1 distance to the data: {distance:.3f}. Random points of the data have 0.02, by luck.",
        frame_label="Time t",
        frame_names=[f"t = {s:.3g}" for s in times],
        formula=f"a step down = growth + {weight:.3g} · pull + {share:g} · noise",
        plays=True,
    )


def _place(sde: VP, t: float) -> float:
    """Where a walker at time t stands: its noise angle, from 90 degrees at -PLACES to 0 degrees at PLACES."""
    return PLACES * (1 - 4 / math.pi * math.atan2(sde.noise(t), sde.signal(t)))


@cache
def _moving_density() -> Tensor:
    """Noised data of random times, to draw behind the walkers, (1500, 2)."""
    sde, generator = VP(), torch.Generator().manual_seed(2)
    clean = two_humps().sample(1500, generator)[0][:, 0]
    noise, u = (torch.randn(1500, generator=generator).double(), torch.rand(1500, generator=generator).double())
    times = (sde.T * u**2).tolist()  # noise angles spread nearly evenly
    x = clean * torch.tensor([sde.signal(t) for t in times]) + noise * torch.tensor([sde.noise(t) for t in times])
    return torch.stack([torch.tensor([_place(sde, t) for t in times]).double(), x], 1)


def _name(share: float, pull: str) -> str:
    if share == 1:
        return "the reverse SDE"
    if pull == PULLS[1]:
        return "the pull of the reverse SDE, " + (f"{share:g} times its noise" if share else "without its noise")
    return f"{share:g} times the noise of the reverse SDE" if share else "no noise: the ODE"


def explore_sde() -> Explorer:
    """Turn the noise up from the ODE to the reverse SDE; the starts stay the same."""
    return Explorer(
        sde_picture,
        [
            Slider("share", "Noise λ", 0.0, 2.0, 0.1, 0.0),
            Slider("steps", "Steps", 5, 200, 5, 100),
            Choice("pull", "Pull to the data", list(PULLS), PULLS[0]),
        ],
    )
