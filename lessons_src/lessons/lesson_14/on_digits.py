"""Three of the four ways to draw, on digits, in equal seconds: diffusion, GAN, VAE; each is told the label.

They share data, batches, optimiser and seconds of training; the GAN has the smaller rate and momentum that it usually
gets, as it falls over without (Radford et al. 2015). Tuned once: the VAE drew poorly from 32 latent numbers, so it and
the GAN have 8. An autoregressive model of so few seconds is not among them: it
would call its network once a pixel, 784 times a digit.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lessons_src import data
from lessons_src.checks import check_choice, check_int, check_real
from lessons_src.guidance import classifier_free
from lessons_src.losses import Denoising
from lessons_src.networks import UNET_PRESETS, NoisePredictor, UNet
from lessons_src.samplers import ddim, sample
from lessons_src.schedules import cosine, time_grid

CLASSES, LATENT, WIDTH = 10, 8, 48
BATCH, SECONDS, JUDGED = 64, 100.0, 1000


def one_hot(label: Tensor) -> Tensor:
    """Labels (B,) as (B, 10)."""
    return F.one_hot(label, CLASSES).float()


def drawer() -> nn.Sequential:
    """From a latent and a label (B, LATENT + 10) to digits in [-1, 1], in two steps of twice the side."""
    return nn.Sequential(
        nn.Linear(LATENT + CLASSES, 2 * WIDTH * 7 * 7),
        nn.Unflatten(1, (2 * WIDTH, 7, 7)),
        nn.BatchNorm2d(2 * WIDTH),
        nn.SiLU(),
        nn.ConvTranspose2d(2 * WIDTH, WIDTH, 4, 2, 1),
        nn.BatchNorm2d(WIDTH),
        nn.SiLU(),
        nn.ConvTranspose2d(WIDTH, 1, 4, 2, 1),
        nn.Tanh(),
    )


class Viewer(nn.Module):
    """From digits and labels to `outputs` numbers, in two steps of half the side."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.see = nn.Sequential(
            nn.Conv2d(1 + CLASSES, WIDTH, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(WIDTH, 2 * WIDTH, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(2 * WIDTH * 7 * 7, outputs),
        )

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Map (B, 1, 28, 28) and labels (B,) to (B, outputs)."""
        planes = one_hot(label)[..., None, None].expand(-1, -1, *x.shape[2:])
        return self.see(torch.cat([x, planes], 1))


class Diffusion(nn.Module):
    """The course's small U-Net, which learns v; DDIM draws."""

    calls, rate, beta = 50, 1e-3, 0.9

    def __init__(self) -> None:
        super().__init__()
        self.net, self.loss = NoisePredictor(UNet(**UNET_PRESETS["small"]), cosine(), "v"), Denoising()
        self.dice = torch.Generator().manual_seed(0)

    def parts(self) -> list[nn.Module]:
        """What each loss trains."""
        return [self.net]

    def losses(self, x: Tensor, label: Tensor) -> Iterator[Tensor]:
        """Mean squared error of v."""
        yield self.loss(self.net, (x, label), self.dice).each.mean()

    def sample(self, label: Tensor, generator: torch.Generator) -> Tensor:
        """A digit for each label."""
        noise = torch.randn(len(label), 1, 28, 28, generator=generator)
        eps_fn = classifier_free(self.net, label, 1.0)
        return sample(ddim(eps_fn, noise, self.net.schedule, time_grid(self.net.schedule, self.calls)))


class GAN(nn.Module):
    """A generator and a critic, both told the label."""

    calls, rate, beta = 1, 2e-4, 0.5

    def __init__(self) -> None:
        super().__init__()
        self.generator, self.critic = drawer(), Viewer(1)

    def parts(self) -> list[nn.Module]:
        """What each loss trains."""
        return [self.critic, self.generator]

    def losses(self, x: Tensor, label: Tensor) -> Iterator[Tensor]:
        """The critic's, then the generator's."""
        fake = self.generator(torch.cat([torch.randn(len(x), LATENT), one_hot(label)], 1))
        yield F.softplus(-self.critic(x, label)).mean() + F.softplus(self.critic(fake.detach(), label)).mean()
        yield F.softplus(-self.critic(fake, label)).mean()

    def sample(self, label: Tensor, generator: torch.Generator) -> Tensor:
        """A digit for each label."""
        return self.generator(torch.cat([torch.randn(len(label), LATENT, generator=generator), one_hot(label)], 1))


class VAE(nn.Module):
    """An encoder and a decoder of one spread for all pixels, both told the label."""

    calls, rate, beta = 1, 1e-3, 0.9

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = Viewer(2 * LATENT), drawer()
        self.log_std = nn.Parameter(torch.tensor(-1.0))

    def parts(self) -> list[nn.Module]:
        """What each loss trains."""
        return [self]

    def losses(self, x: Tensor, label: Tensor) -> Iterator[Tensor]:
        """Minus the bound, in nats a pixel."""
        mean, log_std = self.encoder(x, label).chunk(2, 1)
        z = mean + log_std.exp() * torch.randn_like(mean)
        off = (x - self.decoder(torch.cat([z, one_hot(label)], 1))) / self.log_std.exp()
        kl = (mean.square() + (2 * log_std).exp() - 1 - 2 * log_std).sum(1) / 2
        yield (off.square() / 2 + self.log_std).mean() + kl.mean() / x[0].numel()

    def sample(self, label: Tensor, generator: torch.Generator) -> Tensor:
        """The decoder's mean for each label: its noise would only be grain."""
        return self.decoder(torch.cat([torch.randn(len(label), LATENT, generator=generator), one_hot(label)], 1))


DRAWERS = {"diffusion": Diffusion, "GAN": GAN, "VAE": VAE}


def train(
    name: str, seed: int = 0, seconds: float = SECONDS, clock: Callable[[], float] = time.process_time
) -> tuple[nn.Module, int]:
    """A model after so many seconds on one thread, and its steps; the rate falls to 0 with the time left."""
    check_real("seconds", seconds, 1e-3)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model, steps = DRAWERS[check_choice("name", name, DRAWERS)](), 0
        optimizers = [torch.optim.Adam(part.parameters(), model.rate, (model.beta, 0.999)) for part in model.parts()]
        digits, labels = data.digits("train")
        start = clock()
        while (share := (clock() - start) / seconds) < 1:
            picked = torch.randint(len(digits), (BATCH,))
            for optimizer, loss in zip(optimizers, model.losses(digits[picked], labels[picked]), strict=True):
                optimizer.param_groups[0]["lr"] = model.rate * (1 - share)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            steps += 1
        return model.eval(), steps


@torch.no_grad()
def drawn(model: nn.Module, n: int = JUDGED) -> tuple[Tensor, float]:
    """n digits of labels 0, 1, ..., 9, 0, ... in [-1, 1], a hundred at a time, and the milliseconds of work for one."""
    check_int("n", n, 1)
    generator, start = torch.Generator().manual_seed(99), time.process_time()
    found = [model.sample(label, generator) for label in (torch.arange(n) % CLASSES).split(100)]
    return torch.cat(found).clamp(-1, 1), 1000 * (time.process_time() - start) / n


def measured(name: str, seed: int) -> tuple[Tensor, dict[str, Any]]:
    """Digits of a model trained from one seed, and what it took to make it and them."""
    model, steps = train(name, seed)
    x, ms = drawn(model)
    size = sum(parameter.numel() for parameter in model.parameters())
    return x, {"steps": steps, "parameters": size, "calls": model.calls, "ms": ms}
