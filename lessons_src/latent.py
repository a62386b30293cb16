"""Latents: an autoencoder makes small what diffusion then happens in (Rombach et al. 2022, latent diffusion).

Pictures (B, C, H, W) become latents (B, c, H / 4, W / 4) and return. The autoencoder is variational (Kingma & Welling
2014): it tells a Gaussian for each latent number, and a little KL keeps latents from wandering far from a standard
normal. `encode` and `decode` speak of standardised latents: each channel has mean 0 and variance 1 over the pictures
that `standardise` was shown, as noise schedules take for granted.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lessons_src.checks import check_batch, check_int, check_like, check_real, refuse
from lessons_src.losses import Batch, Losses, Samples
from lessons_src.networks import silence
from lessons_src.process import noise_like


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, 1)) of each number, in nats: (mean^2 + variance - 1 - log variance) / 2."""
    check_like("log_variance", log_variance, "mean", mean)
    return (mean.square() + log_variance.exp() - 1 - log_variance) / 2


class Convolutions(nn.Module):
    """Two convolutions with group norm, added to what came in; they start by adding nothing."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, width), nn.GroupNorm(8, width)
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        silence(self.conv2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, H, W) to the same shape."""
        h = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(h)))


class Autoencoder(nn.Module):
    """Pictures (B, C, H, W) to latents (B, latent, H / 4, W / 4), and back.

    image is (C, H, W) with sides that are multiples of 4: 2 x 2 patches, then a stride of 2. channels are the widths at
    half and at a quarter of the side, multiples of 8. Raises ValueError for anything else.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, image: tuple[int, int, int] = (3, 32, 32), channels: tuple[int, int] = (32, 64), latent: int = 4
    ) -> None:
        super().__init__()
        fine, coarse = channels
        if min(channels) < 8 or fine % 8 or coarse % 8:
            refuse("channels", channels, "multiples of 8, the number of groups of each normalisation")
        if len(image) != 3 or min(image) < 1 or image[1] % 4 or image[2] % 4:
            refuse("image", image, "(channels, height, width) with sides that are multiples of 4")
        self.image = tuple(image)
        self.event = (check_int("latent", latent, 1), image[1] // 4, image[2] // 4)
        patch = 4 * image[0]
        self.encoder = nn.Sequential(
            OrderedDict(
                enter=nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(patch, fine, 3, padding=1)),
                fine=Convolutions(fine),
                shrink=nn.Conv2d(fine, coarse, 3, stride=2, padding=1),
                coarse=Convolutions(coarse),
                leave=nn.Sequential(nn.GroupNorm(8, coarse), nn.SiLU(), nn.Conv2d(coarse, 2 * latent, 3, padding=1)),
            )
        )
        self.decoder = nn.Sequential(
            OrderedDict(
                enter=nn.Conv2d(latent, coarse, 3, padding=1),
                coarse=Convolutions(coarse),
                grow=nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(coarse, fine, 3, padding=1)),
                fine=nn.Sequential(Convolutions(fine), Convolutions(fine)),
                leave=nn.Sequential(
                    nn.GroupNorm(8, fine), nn.SiLU(), nn.Conv2d(fine, patch, 3, padding=1), nn.PixelShuffle(2)
                ),
            )
        )
        self.register_buffer("mean", torch.zeros(latent, 1, 1))
        self.register_buffer("std", torch.ones(latent, 1, 1))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # missing in torch's annotations

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the latents of pictures x (B, C, H, W), as trained: not standardised.

        The log-variance stays between -12 and 12.
        """
        if check_batch("x", x).shape[1:] != self.image:
            refuse("x", x, f"shape (B, {', '.join(map(str, self.image))})")
        mean, log_variance = self.encoder(x.contiguous(memory_format=torch.channels_last)).chunk(2, 1)
        return mean, 12 * torch.tanh(log_variance / 12)

    def encode(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Standardised latents of pictures x (B, C, H, W): their means, or drawn by a generator."""
        mean, log_variance = self.moments(x)
        z = mean if generator is None else draw_latents(mean, log_variance, generator)
        return (z - self.mean) / self.std

    def decode(self, z: Tensor) -> Tensor:
        """Pictures of standardised latents z (B, *event)."""
        if check_batch("z", z).shape[1:] != self.event:
            refuse("z", z, f"shape (B, {', '.join(map(str, self.event))})")
        return self.decoder(z * self.std + self.mean)

    @torch.no_grad()
    def standardise(self, x: Tensor) -> None:
        """Store mean and standard deviation of the latents of pictures x (B, C, H, W), one a channel."""
        mean, log_variance = (torch.cat(parts) for parts in zip(*map(self.moments, x.split(256)), strict=True))
        over = (0, 2, 3)
        self.mean.copy_(mean.mean(over)[:, None, None])
        # The variance of drawn latents: that of their means, and the mean of their variances.
        variance = mean.var(over) + log_variance.exp().mean(over)
        self.std.copy_(variance.sqrt()[:, None, None])


def draw_latents(mean: Tensor, log_variance: Tensor, generator: torch.Generator) -> Tensor:
    """Latents of the Gaussians that an encoder tells; gradients reach both (the reparametrisation trick)."""
    return mean + (log_variance / 2).exp() * noise_like(mean, generator)


@dataclass(frozen=True)
class Coding:
    """The loss of an `Autoencoder`: reconstruction from a drawn latent, and `kl` times the mean KL of a latent number.

    Reconstruction is the smooth absolute difference; pixels near edges weigh up to 1 + 2 `edges` times as much, for
    shapes are in their edges, and there are few of them.
    """

    kl: float = 1e-4
    edges: float = 10.0

    def __post_init__(self) -> None:
        check_real("kl", self.kl, 0.0)
        check_real("edges", self.edges, 0.0)

    def __call__(self, net: Autoencoder, batch: Batch, generator: torch.Generator) -> Losses:
        """Encode, draw, decode, compare."""
        x = batch[0]
        mean, log_variance = net.moments(x)
        again = net.decoder(draw_latents(mean, log_variance, generator))
        contrast = (F.max_pool2d(x, 3, 1, 1) + F.max_pool2d(-x, 3, 1, 1)).amax(1, keepdim=True)  # 0..2
        error = F.smooth_l1_loss(again.float(), x, beta=0.2, reduction="none") * (1 + self.edges * contrast)
        rate = gaussian_kl(mean.float(), log_variance.float())
        return Losses(error.flatten(1).mean(1) + self.kl * rate.flatten(1).mean(1))

    def check(self, net: Autoencoder, batches: Any) -> None:
        """Refuse `Samples` that the network does not take."""
        if isinstance(batches, Samples) and batches.x0.shape[1:] != net.image:
            refuse("x0", batches.x0, f"shape (N, {', '.join(map(str, net.image))}), which the network takes")
