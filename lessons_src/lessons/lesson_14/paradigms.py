"""Four ways to draw points of the ring, each as short as honesty allows: diffusion, GAN, autoregressive, VAE.

They share data, batches, optimiser, size of network, and seconds of training; nothing was tuned for one alone. Each has
`losses(x)`, the losses of one training step, one for each optimiser; `sample(n, generator)`; and `log_density(x)`, None
where there is no density. `calls` counts the evaluations one after another that a sample takes.
"""

import base64
import math
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lessons_src import data
from lessons_src.checks import check_choice, check_int, check_real
from lessons_src.metrics import sliced_distance
from lessons_src.process import eps_from_velocity, rotate
from lessons_src.samplers import ddim, sample
from lessons_src.schedules import make_schedule, time_grid
from lessons_src.sde import network_log_likelihood

RING, SCHEDULE = data.ring(), make_schedule("cosine")
WIDTH, BATCH, RATE = 128, 256, 1e-3
LATENT = 2  # numbers of noise of a GAN, of a latent of a VAE
EDGE, BINS = 2.4, 96  # the square that is cut into bins, and bins a side
STEPS = 100  # of the likelihood's ODE
SECONDS = 10.0
JUDGED, KEPT = 10_000, 400  # points: scored, stored


class Waves(nn.Module):
    """Adds sines and cosines of its inputs to them (Tancik et al. 2020): without them all four learn slowly."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.register_buffer("waves", 2 * torch.randn(inputs, 32))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs) to (B, inputs + 64)."""
        phase = x @ self.waves
        return torch.cat([x, phase.sin(), phase.cos()], 1)


def mlp(inputs: int, outputs: int) -> nn.Sequential:
    """Three hidden layers: the network of all four."""
    sizes = [inputs + 64, WIDTH, WIDTH, WIDTH]
    hidden = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.SiLU())]
    return nn.Sequential(Waves(inputs), *hidden, nn.Linear(WIDTH, outputs))


def log_normal(x: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """log N(x; mean, std^2), summed over the last dimension."""
    return (-0.5 * ((x - mean) / log_std.exp()).square() - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)


class Diffusion(nn.Module):
    """Learns v from noisy points (lesson 03); DDIM draws."""

    calls = 50

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(4, 2)

    def v(self, x: Tensor, t: Tensor) -> Tensor:
        """The velocity at times t (B,)."""
        angle = SCHEDULE.alpha_bar[t].sqrt().acos().to(x)[:, None]
        return self.net(torch.cat([x, angle.cos(), angle.sin()], 1))

    def eps(self, x: Tensor, t: Tensor) -> Tensor:
        """The noise, for samplers."""
        return eps_from_velocity(x, self.v(x.float(), t).to(x), SCHEDULE.alpha_bar[t])

    def losses(self, x: Tensor) -> Iterator[Tensor]:
        """Mean squared error of v."""
        t, eps = torch.randint(1, SCHEDULE.T + 1, (len(x),)), torch.randn_like(x)
        alpha_bar = SCHEDULE.alpha_bar[t].to(x)[:, None]
        x_t, v = rotate(x, eps, alpha_bar.sqrt(), (1 - alpha_bar).sqrt())
        yield F.mse_loss(self.v(x_t, t), v)

    def parts(self) -> list[nn.Module]:
        """What each loss trains."""
        return [self.net]

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Points (n, 2)."""
        start = torch.randn(n, 2, generator=generator, dtype=torch.float64)
        return sample(ddim(self.eps, start, SCHEDULE, time_grid(SCHEDULE, self.calls)))

    def log_density(self, x: Tensor) -> Tensor:
        """That of the ODE (lesson 08), with an exact trace; it asks at t = 1 for want of 0."""
        return network_log_likelihood(self.eps, x, SCHEDULE, time_grid(SCHEDULE, STEPS, "log_snr"))


class GAN(nn.Module):
    """A generator learns to be taken for real by a critic, which learns to tell (Goodfellow et al. 2014)."""

    calls = 1

    def __init__(self) -> None:
        super().__init__()
        self.generator, self.critic = mlp(LATENT, 2), mlp(2, 1)

    def parts(self) -> list[nn.Module]:
        """What each loss trains."""
        return [self.critic, self.generator]

    def losses(self, x: Tensor) -> Iterator[Tensor]:
        """The critic's, then the generator's."""
        fake = self.generator(torch.randn(len(x), LATENT))
        yield F.softplus(-self.critic(x)).mean() + F.softplus(self.critic(fake.detach())).mean()
        yield F.softplus(-self.critic(fake)).mean()

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Points (n, 2)."""
        return self.generator(torch.randn(n, LATENT, generator=generator)).double()

    def log_density(self, x: Tensor) -> None:
        """There is none: it can draw, and cannot say how likely a point is."""


class Autoregressive(nn.Module):
    """The first coordinate's bin, then the second's given the first: p(x1) p(x2 | x1)."""

    calls = 2

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.zeros(BINS))
        self.second = mlp(1, BINS)

    def parts(self) -> list[nn.Module]:
        """What each loss trains."""
        return [self]

    def after(self, first: Tensor) -> Tensor:
        """Log-probabilities (B, BINS) of the second coordinate's bin, given the first's (B,)."""
        return self.second((2 * first[:, None] + 1) * (EDGE / BINS) - EDGE).log_softmax(1)

    def log_chances(self, bins: Tensor) -> Tensor:
        """Log-probabilities of the bins (B, 2) of points."""
        first, second = bins.T
        return self.first.log_softmax(0)[first] + self.after(first).gather(1, second[:, None])[:, 0]

    def losses(self, x: Tensor) -> Iterator[Tensor]:
        """Cross-entropy."""
        yield -self.log_chances(bins_of(x)).mean()

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Points (n, 2), anywhere in their bins."""
        first = self.first.softmax(0).multinomial(n, replacement=True, generator=generator)
        second = self.after(first).exp().multinomial(1, generator=generator)[:, 0]
        place = torch.stack([first, second], 1) + torch.rand(n, 2, generator=generator, dtype=torch.float64)
        return place * (2 * EDGE / BINS) - EDGE

    def log_density(self, x: Tensor) -> Tensor:
        """Exact: the chance of the bin, over its area."""
        return self.log_chances(bins_of(x)) - 2 * math.log(2 * EDGE / BINS)


def bins_of(x: Tensor) -> Tensor:
    """Numbers of the bins, 0 to BINS - 1, of coordinates (B, 2)."""
    return ((x + EDGE) * (BINS / (2 * EDGE))).long().clamp(0, BINS - 1)


class VAE(nn.Module):
    """An encoder says where a point may come from, a decoder what is there (Kingma & Welling 2013)."""

    calls = 1

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = mlp(2, 2 * LATENT), mlp(LATENT, 2)
        self.log_std = nn.Parameter(torch.full((2,), -2.0))

    def parts(self) -> list[nn.Module]:
        """What each loss trains."""
        return [self]

    def bound(self, x: Tensor) -> Tensor:
        """A lower bound of log p(x) by one draw of the latent, (B,)."""
        mean, log_std = self.encoder(x).chunk(2, 1)
        z = mean + log_std.exp() * torch.randn_like(mean)
        prior = log_normal(z, torch.zeros_like(z), torch.zeros_like(z))
        return log_normal(x, self.decoder(z), self.log_std) + prior - log_normal(z, mean, log_std)

    def losses(self, x: Tensor) -> Iterator[Tensor]:
        """Minus the bound."""
        yield -self.bound(x).mean()

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Points (n, 2), with the decoder's noise."""
        z = torch.randn(n, LATENT, generator=generator)
        return (self.decoder(z) + self.log_std.exp() * torch.randn(n, 2, generator=generator)).double()

    def log_density(self, x: Tensor, draws: int = 20) -> Tensor:
        """The mean bound of several draws: log p(x) is more."""
        return torch.stack([self.bound(x.float()) for _ in range(draws)]).mean(0).double()


PARADIGMS = {"diffusion": Diffusion, "GAN": GAN, "autoregressive": Autoregressive, "VAE": VAE}


def train(
    name: str, seed: int = 0, seconds: float = SECONDS, clock: Callable[[], float] = time.process_time
) -> tuple[nn.Module, int]:
    """A paradigm after so many seconds on one thread, and its steps; the rate falls to 0 with the time left."""
    check_real("seconds", seconds, 1e-3)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model, steps = PARADIGMS[check_choice("name", name, PARADIGMS)](), 0
        optimizers = [torch.optim.Adam(part.parameters(), RATE) for part in model.parts()]
        points = RING.sample(100_000, torch.Generator().manual_seed(seed))[0].float()
        start = clock()
        while (share := (clock() - start) / seconds) < 1:
            x = points[torch.randint(len(points), (BATCH,))]
            for optimizer, loss in zip(optimizers, model.losses(x), strict=True):
                optimizer.param_groups[0]["lr"] = RATE * (1 - share)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            steps += 1
        return model.eval(), steps


def scores(model: nn.Module, n: int = JUDGED) -> dict[str, float]:
    """What n points of a model are like, and how likely it finds fresh points of the ring.

    `modes` counts the clusters that get at least a fifth of their share, `stray` is the share more than three standard
    deviations from all of them (1.1 % of the ring itself), `sliced` the sliced distance to fresh points, and `log` the
    mean log-density in nats of 2,000 fresh points, if there is one (the ring's own: `of_the_ring`).
    """
    with torch.no_grad():
        x = model.sample(n, torch.Generator().manual_seed(99))
    fresh, std = RING.sample(n, torch.Generator().manual_seed(98))[0], RING.covariances[0, 0, 0].sqrt()
    gap, nearest = torch.cdist(x, RING.means).min(1)
    shares = torch.bincount(nearest[gap < 3 * std], minlength=len(RING.means)) / n
    with torch.random.fork_rng():
        torch.manual_seed(97)
        log = model.log_density(fresh[:2000])
    return {
        "modes": (shares > 0.2 / len(RING.means)).sum().item(),
        "stray": (gap > 3 * std).double().mean().item(),
        "sliced": sliced_distance(x, fresh),
        **({} if log is None else {"log": log.mean().item()}),
    }


def of_the_ring() -> float:
    """The mean log-density that the ring itself gives the points of `scores`: no model can do better on average."""
    fresh = RING.sample(JUDGED, torch.Generator().manual_seed(98))[0]
    return RING.log_density(fresh[:2000], 1.0).mean().item()


@torch.no_grad()
def milliseconds(model: nn.Module, n: int, turns: int = 20) -> float:
    """Of work for one sample when n are drawn at once, the median of so many turns."""
    check_int("n", n, 1)
    found = []
    for turn in range(check_int("turns", turns, 1)):
        start = time.process_time()
        model.sample(n, torch.Generator().manual_seed(turn))
        found.append(1000 * (time.process_time() - start) / n)
    return statistics.median(found)


def measured(name: str, seed: int) -> dict[str, Any]:
    """The scores of a paradigm trained from one seed, its times, and its first points."""
    model, steps = train(name, seed)
    with torch.no_grad():
        points = model.sample(KEPT, torch.Generator().manual_seed(99)).float()
    times = {"ms": milliseconds(model, 1), "ms of a thousand": milliseconds(model, 1000, 5)}
    stored = {"points": base64.b64encode(points.numpy().tobytes()).decode("ascii")}
    return {"n": JUDGED, "calls": model.calls, "steps": steps} | scores(model) | times | stored
