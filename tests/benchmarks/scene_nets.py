"""Networks for captioned scenes: an autoencoder, a text encoder, a U-Net with cross-attention, and a DiT."""

import math

import torch
from scenes import LENGTH, PAD, SIDE, WORDS
from torch import Tensor, nn
from torch.nn import functional as F

from lessons_src.networks import ResidualBlock, TimeEmbedding

LATENT = (4, 8, 8)


def silence(layer: nn.Module) -> nn.Module:
    """Let a layer start by giving zeros."""
    for weight in layer.parameters():
        nn.init.zeros_(weight)
    return layer


# --- Autoencoder ------------------------------------------------------------------------------------------------------


class Convolutions(nn.Module):
    """Two convolutions with group norm, added to what came in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, width), nn.GroupNorm(8, width)
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        silence(self.conv2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(h)))


class Autoencoder(nn.Module):
    """Pictures (B, 3, 32, 32) to the mean and log-variance of latents (B, 4, 8, 8), and back (Kingma & Welling 2014).

    `mean` and `std` (4, 1, 1) are of the latents of scenes: `encode` gives them standardised, `decode` takes them so.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, fine: int = 32, coarse: int = 64, latent: int = LATENT[0]) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Sequential(nn.Conv2d(12, fine, 3, padding=1), Convolutions(fine)),
            nn.Conv2d(fine, coarse, 3, stride=2, padding=1),
            Convolutions(coarse),
            nn.GroupNorm(8, coarse),
            nn.SiLU(),
        )
        self.leave = nn.Conv2d(coarse, 2 * latent, 3, padding=1)
        self.enter = nn.Conv2d(latent, coarse, 3, padding=1)
        self.decoder = nn.Sequential(
            Convolutions(coarse),
            nn.Upsample(scale_factor=2, mode="nearest"),
            nn.Conv2d(coarse, fine, 3, padding=1),
            Convolutions(fine),
            Convolutions(fine),
            nn.GroupNorm(8, fine),
            nn.SiLU(),
        )
        self.paint = nn.Sequential(nn.Conv2d(fine, 12, 3, padding=1), nn.PixelShuffle(2))
        self.register_buffer("mean", torch.zeros(latent, 1, 1))
        self.register_buffer("std", torch.ones(latent, 1, 1))

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the latents of pictures, not standardised."""
        mean, log_variance = self.leave(self.encoder(x)).chunk(2, 1)
        return mean, 12 * torch.tanh(log_variance / 12)

    def picture(self, z: Tensor) -> Tensor:
        """Pictures of latents that are not standardised."""
        return self.paint(self.decoder(self.enter(z)))

    def encode(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Standardised latents, drawn."""
        mean, log_variance = self.moments(x)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        return (mean + (log_variance / 2).exp() * noise - self.mean) / self.std

    def decode(self, z: Tensor) -> Tensor:
        """Pictures of standardised latents."""
        return self.picture(z * self.std + self.mean)


# --- Attention and text -----------------------------------------------------------------------------------------------


class Attention(nn.Module):
    """Attention of x (B, N, width) to itself, or to a context (B, M, context) whose mask (B, M) is True at words."""

    def __init__(self, width: int, context: int | None = None, heads: int = 4, silent: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(context or width, 2 * width)
        self.out = nn.Linear(width, width)
        if silent:
            silence(self.out)

    def forward(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        B, N, width = x.shape
        source = x if context is None else context
        q = self.query(x).view(B, N, self.heads, -1).transpose(1, 2)
        k, v = self.key_value(source).view(B, source.shape[1], 2, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        if mask is None:
            h = F.scaled_dot_product_attention(q, k, v)
        else:
            scores = (q @ k.transpose(-1, -2)) / math.sqrt(q.shape[-1])
            h = scores.masked_fill(~mask[:, None, None], -1e4).softmax(-1) @ v
        return self.out(h.transpose(1, 2).reshape(B, N, width))


class MLP(nn.Sequential):
    """Two layers, four times as wide between."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))


class TextEncoder(nn.Module):
    """Words with their places, then transformer blocks; gives words (B, LENGTH, width), their mask and their mean.

    Words are looked up by a product, whose gradient is a product too: recorded steps may not wait for a sort.
    """

    index: Tensor

    def __init__(self, width: int, blocks: int, heads: int = 4) -> None:
        super().__init__()
        self.word = nn.Parameter(torch.randn(len(WORDS), width))
        self.register_buffer("index", torch.arange(len(WORDS)), persistent=False)
        self.place = nn.Parameter(0.02 * torch.randn(LENGTH, width))
        self.blocks = nn.ModuleList(
            nn.ModuleList([nn.LayerNorm(width), Attention(width, heads=heads), nn.LayerNorm(width), MLP(width)])
            for _ in range(blocks)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mask = tokens != PAD
        h = (tokens[..., None] == self.index).to(self.word.dtype) @ self.word + self.place
        for norm1, attention, norm2, mlp in self.blocks:
            h = h + attention(norm1(h), mask=mask)
            h = h + mlp(norm2(h))
        h = self.norm(h)
        part = mask[..., None].to(h.dtype)
        return h, mask, (h * part).sum(1) / part.sum(1)


class Looks(nn.Module):
    """Attention of a map (B, C, H, W) to itself or to words, added to it."""

    def __init__(self, channels: int, context: int | None = None) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.attention = Attention(channels, context)

    def forward(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        h = self.norm(x).flatten(2).transpose(1, 2)
        h = self.attention(h, context, mask)
        return x + h.transpose(1, 2).reshape(x.shape)


# --- Denoisers: net(x, time, tokens) -> v, time (B,) in (0, 1000] -----------------------------------------------------


class CaptionUNet(nn.Module):
    """U-Net on patches whose maps look at the words after the way down, in the middle, and after the way up began."""

    def __init__(
        self,
        channels: tuple[int, int] = (64, 96),
        event: tuple[int, int, int] = LATENT,
        patch: int = 1,
        text: tuple[int, int] = (64, 2),
    ) -> None:
        super().__init__()
        fine, coarse = channels
        width, inner, side = 2 * fine, event[0] * patch**2, event[1] // patch
        self.patch, self.event = patch, event
        self.text = TextEncoder(*text)
        self.time = TimeEmbedding(width)
        self.summary = nn.Linear(text[0], width)
        self.enter = nn.Conv2d(inner, fine, 3, padding=1)
        self.place = nn.Parameter(torch.zeros(fine, side, side))
        self.down = nn.ModuleList([ResidualBlock(fine, fine, width), ResidualBlock(fine, fine, width)])
        self.look_down = Looks(fine, text[0])
        self.shrink = nn.Conv2d(fine, coarse, 3, stride=2, padding=1)
        self.middle = nn.ModuleList([ResidualBlock(coarse, coarse, width), ResidualBlock(coarse, coarse, width)])
        self.look_self, self.look_middle = Looks(coarse), Looks(coarse, text[0])
        self.grow = nn.Conv2d(coarse, fine, 3, padding=1)
        self.up = nn.ModuleList([ResidualBlock(2 * fine, fine, width), ResidualBlock(2 * fine, fine, width)])
        self.look_up = Looks(fine, text[0])
        self.leave = nn.Sequential(nn.GroupNorm(8, fine), nn.SiLU(), silence(nn.Conv2d(fine, inner, 3, padding=1)))

    def forward(self, x: Tensor, time: Tensor, tokens: Tensor) -> Tensor:
        words, mask, summary = self.text(tokens)
        condition = F.silu(self.time(time) + self.summary(summary))
        first = self.enter(F.pixel_unshuffle(x, self.patch) if self.patch > 1 else x) + self.place
        second = self.down[0](first, condition)
        third = self.look_down(self.down[1](second, condition), words, mask)
        h = self.middle[0](self.shrink(third), condition)
        h = self.look_middle(self.look_self(h), words, mask)
        h = self.grow(F.interpolate(self.middle[1](h, condition), scale_factor=2.0, mode="nearest"))
        h = self.up[0](torch.cat([h, third], 1), condition)
        h = self.look_up(h, words, mask)
        h = self.leave(self.up[1](torch.cat([h, second], 1), condition))
        return F.pixel_shuffle(h, self.patch) if self.patch > 1 else h


class Block(nn.Module):
    """Self-attention, cross-attention and MLP; time and caption scale, shift and gate (adaLN-zero, Peebles 2023)."""

    def __init__(self, width: int, context: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm3 = (nn.LayerNorm(width, elementwise_affine=False) for _ in range(2))
        self.norm2 = nn.LayerNorm(width)
        self.attention = Attention(width, heads=heads, silent=False)
        self.cross = Attention(width, context, heads)
        self.mlp = MLP(width)
        self.modulate = silence(nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, condition: Tensor, words: Tensor, mask: Tensor) -> Tensor:
        scale1, shift1, gate1, scale2, shift2, gate2 = self.modulate(condition)[:, None].chunk(6, -1)
        x = x + gate1 * self.attention(self.norm1(x) * (1 + scale1) + shift1)
        x = x + self.cross(self.norm2(x), words, mask)
        return x + gate2 * self.mlp(self.norm3(x) * (1 + scale2) + shift2)


class CaptionDiT(nn.Module):
    """Diffusion transformer on patches of latents."""

    def __init__(
        self,
        width: int = 96,
        depth: int = 5,
        heads: int = 6,
        patch: int = 1,
        event: tuple[int, int, int] = LATENT,
        text: tuple[int, int] = (64, 2),
    ) -> None:
        super().__init__()
        inner, self.side = event[0] * patch**2, event[1] // patch
        self.patch, self.event = patch, event
        self.text = TextEncoder(*text)
        self.time = TimeEmbedding(width)
        self.summary = nn.Linear(text[0], width)
        self.enter = nn.Linear(inner, width)
        self.place = nn.Parameter(0.02 * torch.randn(self.side**2, width))
        self.blocks = nn.ModuleList(Block(width, text[0], heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulate = silence(nn.Linear(width, 2 * width))
        self.leave = silence(nn.Linear(width, inner))

    def forward(self, x: Tensor, time: Tensor, tokens: Tensor) -> Tensor:
        words, mask, summary = self.text(tokens)
        condition = F.silu(self.time(time) + self.summary(summary))
        if self.patch > 1:
            x = F.pixel_unshuffle(x, self.patch)
        h = self.enter(x.flatten(2).transpose(1, 2)) + self.place
        for block in self.blocks:
            h = block(h, condition, words, mask)
        scale, shift = self.modulate(condition)[:, None].chunk(2, -1)
        h = self.leave(self.norm(h) * (1 + scale) + shift)
        h = h.transpose(1, 2).reshape(len(x), -1, self.side, self.side)
        return F.pixel_shuffle(h, self.patch) if self.patch > 1 else h


PICTURE = (3, SIDE, SIDE)
