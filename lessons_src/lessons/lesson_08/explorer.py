"""To play with in lesson 08: one predictor, from the probability-flow ODE to the reverse SDE and beyond."""

import math
from functools import cache

import torch
from torch import Tensor

from lessons_src.checks import check_choice, check_int
from lessons_src.data import two_humps
from lessons_src.lessons.lesson_08.figures import down, even_normal
from lessons_src.oracle import GaussianMixture
from lessons_src.sde import VP, euler_maruyama, noisy_flow
from lessons_src.show.panels import Curves, Picture, Points
from lessons_src.show.widgets import Choice, Explorer, Slider

PULLS = ("matched to λ", "as for λ = 1")
POINTS, WALKERS = 2000, 10
SIDE = 3.0  # half the width of the walk
# The share of the data in the lower hump; the ODE keeps the order of points, so it takes that share of starts there
LOW = 0.3
FAR = 20.0  # a walk that comes as far as this has exploded; with small steps none comes to 10
POINT = 0.1  # ends no farther apart than this are one point in the picture
SMOOTH, TOP = 0.06, 1.6  # width of the kernel, and highest density in sight


def sde_picture(share: float, steps: int, pull: str) -> Picture:
    """Euler-Maruyama from the same starts down to the data: the walk over the moving density, and the law at the end.

    share: noise lambda, 0 for the ODE, 1 for the reverse SDE. pull: one of PULLS; what multiplies g^2 score is
    (1 + lambda^2) / 2, or 1 whatever lambda is.
    """
    mixture, sde, start = two_humps(), VP(), even_normal(POINTS)
    check_int("steps", steps, 1)
    score = sde.score(mixture)
    drift, g = noisy_flow(sde, score, share)
    weight = (1 + share**2) / 2
    if check_choice("pull", pull, PULLS) == PULLS[1]:
        drift, weight = sde.reverse_drift(score), 1
    times = down(sde.T, steps)
    path = torch.stack([start, *euler_maruyama(drift, g, start, times, torch.Generator().manual_seed(1))])[..., 0]
    high = start[:, 0] > torch.special.ndtri(torch.tensor(LOW)).item()
    result, told = _told(path, high)
    shown = torch.arange(POINTS // WALKERS // 2, POINTS, POINTS // WALKERS)
    across = torch.tensor([_place(t) for t in times])[:, None].expand(-1, WALKERS)
    return Picture(
        [
            Points(
                f"{WALKERS} walkers",
                torch.stack([across, path[:, shown]], 2).numpy(),
                _moving_density().numpy(),
                SIDE + 0.2,
                groups=high[shown].long().numpy(),
                names={0: "blue walker", 1: "orange walker"},
                target_name="noisy data",
                x_label="time t",
                y_label="x",
                x_ticks={_place(t): f"{t:g}" for t in (1, 0.75, 0.5, 0.25, 0)},
            ),
            Curves(f"Where {POINTS:,} walkers end", *_ends(path[-1], high), "x", "density", (0.0, TOP)),
        ],
        f"λ = {share:g}{_name(share, pull)}, {steps} steps. {told}",
        frame_label="Time t",
        frame_names=[f"t = {t:.3g}" for t in times],
        formula=f"a step down = growth + {weight:.3g} · pull + {share:g} · noise → {result}",
        plays=True,
    )


def _told(path: Tensor, high: Tensor) -> tuple[str, str]:
    """What became of the walkers, path (F, B), of which the ODE brings the `high` ones (B,) up: in short, in full."""
    if path.abs().max() > FAR:
        return "it explodes", "The steps are too long for so much noise: the walk explodes. Take more steps."
    end = path[-1]
    if end.max() - end.min() < POINT:
        return "one point", f"All {POINTS:,} walkers end in one point. Its density is too high for the picture."
    kept, above = (100 * part.double().mean().item() for part in ((end > 0) == high, end > 0))
    return (
        f"{kept:.0f} % kept",
        f"{kept:.0f} % of {POINTS:,} walkers keep the hump that λ = 0 gave them: blue the lower, orange the upper. "
        f"{above:.0f} % of all end in the upper hump (data: 70 %).",
    )


def _ends(end: Tensor, high: Tensor) -> tuple[object, dict[str, object]]:
    """Places, and there the density of the ends (B,), the blue ones as a share of all and all, and of the data."""
    mixture, along = two_humps(), torch.linspace(-2.5, 2.5, 201, dtype=torch.float64)
    bumps = torch.exp(-(((along[:, None] - end) / SMOOTH) ** 2) / 2) / (SMOOTH * math.sqrt(2 * math.pi) * len(end))
    smooth_data = GaussianMixture(mixture.weights, mixture.means, mixture.covariances + SMOOTH**2)
    curves = {
        "blue walkers": bumps[:, ~high].sum(1),
        "blue + orange walkers": bumps.sum(1),
        "data": smooth_data.log_density(along[:, None], 1.0).exp(),
    }
    return along.numpy(), {name: curve.clamp(max=TOP).numpy() for name, curve in curves.items()}


def _place(t: float) -> float:
    """Where a walker at time t stands: from the left, t = 1, to the right, t = 0."""
    return SIDE * (1 - 2 * t)


@cache
def _moving_density() -> Tensor:
    """Noised data of random times, to draw behind the walkers, (700, 2)."""
    sde, generator = VP(), torch.Generator().manual_seed(2)
    clean = two_humps().sample(700, generator)[0][:, 0]
    noise, times = torch.randn(700, generator=generator).double(), torch.rand(700, generator=generator).tolist()
    x = clean * torch.tensor([sde.signal(t) for t in times]) + noise * torch.tensor([sde.noise(t) for t in times])
    return torch.stack([torch.tensor([_place(t) for t in times]).double(), x], 1)


def _name(share: float, pull: str) -> str:
    """What a sampler of the family is called, in brackets."""
    if pull == PULLS[1] and share != 1:
        return " (the pull of the reverse SDE)"
    return {0: " (no noise: the ODE)", 1: " (the reverse SDE)"}.get(share, "")


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
