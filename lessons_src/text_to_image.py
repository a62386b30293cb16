"""From captions to pictures: networks that denoise what a caption asks for, and `illustrate`, which draws it.

A diffusion transformer, and a U-Net that looks at words: bodies of a `NoisePredictor`, for latents or for pictures. A
caption is tokens (B, length) int64, as from `scenes.tokens`: 0 fills up behind the last word, 1 is the null caption.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lessons_src.attention import MLP, Attention, WordBlock
from lessons_src.checks import check_int, refuse
from lessons_src.guidance import classifier_free
from lessons_src.latent import Autoencoder
from lessons_src.losses import Samples
from lessons_src.networks import Body, NoisePredictor, ResidualBlock, silence
from lessons_src.samplers import sample
from lessons_src.scenes import LENGTH, WORDS, Scenes, paint, tokens, write
from lessons_src.schedules import time_grid
from lessons_src.solvers import dpm_solver_pp

PAD, NULL = 0, 1
LATENT = (4, 8, 8)


class TextEncoder(nn.Module):
    """Words and their places, embedded, then transformer blocks over them."""

    def __init__(self, words: int, length: int, width: int, blocks: int) -> None:
        super().__init__()
        self.word = nn.Embedding(words, width)
        self.place = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.ModuleList(WordBlock(width) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Words (B, length, width), the mask (B, length) that is True at words, and their mean (B, width)."""
        mask = tokens != PAD
        # By a product rather than a look-up, whose gradient sorts: a GPU would wait for it.
        h = F.one_hot(tokens, self.word.num_embeddings).to(self.place) @ self.word.weight + self.place
        for block in self.blocks:
            h = block(h, mask)
        h = self.norm(h)
        part = mask[..., None].to(h.dtype)
        return h, mask, (h * part).sum(1) / part.sum(1)


class CaptionBody(Body):
    """A body that takes captions, tokens (B, length) below `words`. text: width and blocks of its encoder."""

    def __init__(self, event: tuple[int, ...], words: int, length: int, width: int, text: tuple[int, int]) -> None:
        super().__init__(event, check_int("words", words, 2), width)
        self.length = check_int("length", length, 1)
        self.condition_shape = (self.length,)
        self.text = TextEncoder(words, length, *text)
        self.summary = nn.Linear(text[0], width)

    def condition(self, tokens: Tensor | None, batch: int, device: torch.device) -> Tensor:
        """Tokens (batch, length), from one caption for all (1, length), one a sample, or None for the null caption.

        Raises TypeError or ValueError for other tokens, and for a caption without words.
        """
        if tokens is None:
            tokens = torch.tensor([[NULL] + [PAD] * (self.length - 1)])
        expected = f"int64 of shape ({batch}, {self.length}), or (1, {self.length}) for all; None is the null caption"
        if not isinstance(tokens, Tensor) or tokens.dtype != torch.int64:
            refuse("tokens", tokens, expected, TypeError)
        if tokens.ndim != 2 or tokens.shape[1] != self.length or len(tokens) not in (1, batch):
            refuse("tokens", tokens, expected)
        if tokens.device.type == "cpu" and tokens.numel():  # looking at a GPU's values would wait for it
            if not 0 <= int(tokens.min()) <= int(tokens.max()) < self.num_classes:
                refuse("tokens", tokens.tolist(), f"values from 0 to {self.num_classes - 1}")
            if (tokens == PAD).all(1).any():
                refuse("tokens", tokens.tolist(), "at least one word a caption; None is the null caption")
        return tokens.to(device).expand(batch, -1)

    def embed(self, time: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Time and caption in one embedding (B, width); the words, and their mask."""
        words, mask, summary = self.text(tokens)
        return F.silu(self.time(time) + self.summary(summary)), words, mask


# --- A transformer


class DiTBlock(nn.Module):
    """Self-attention, cross-attention to words, MLP; time and caption scale, shift and gate the first and the last.

    adaLN-zero (Peebles & Xie 2023, "Scalable diffusion models with transformers"): all gates start at 0, and so does
    what cross-attention adds, so that a new block passes on what comes in.
    """

    def __init__(self, width: int, context: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm3 = (nn.LayerNorm(width, elementwise_affine=False) for _ in range(2))
        self.norm2 = nn.LayerNorm(width)
        self.attention, self.cross, self.mlp = (
            Attention(width, None, heads),
            Attention(width, context, heads),
            MLP(width),
        )
        self.modulate = nn.Linear(width, 6 * width)
        silence(self.cross.out)
        silence(self.modulate)

    def forward(self, x: Tensor, condition: Tensor, words: Tensor, mask: Tensor) -> Tensor:
        """Map x (B, N, width) to the same shape."""
        scale1, shift1, gate1, scale2, shift2, gate2 = self.modulate(condition)[:, None].chunk(6, -1)
        x = x + gate1 * self.attention(self.norm1(x) * (1 + scale1) + shift1)
        x = x + self.cross(self.norm2(x), words, mask)
        return x + gate2 * self.mlp(self.norm3(x) * (1 + scale2) + shift2)


class DiT(CaptionBody):
    """Diffusion transformer (Peebles & Xie 2023) on patches of latents or pictures, with cross-attention to words.

    event is (C, H, W), its sides multiples of `patch`; heads divide the width. Raises ValueError for anything else.
    """

    def __init__(
        self,
        event: tuple[int, int, int] = LATENT,
        words: int = len(WORDS),
        length: int = LENGTH,
        width: int = 96,
        depth: int = 4,
        heads: int = 6,
        patch: int = 1,
        text: tuple[int, int] = (64, 2),
    ) -> None:
        super().__init__(_event(event, check_int("patch", patch, 1)), words, length, width, text)
        channels, self.rows, self.columns = event[0] * patch**2, event[1] // patch, event[2] // patch
        self.patch = patch
        self.enter = nn.Linear(channels, width)
        self.place = nn.Parameter(0.02 * torch.randn(self.rows * self.columns, width))
        self.blocks = nn.ModuleList(DiTBlock(width, text[0], heads) for _ in range(check_int("depth", depth, 1)))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulate = nn.Linear(width, 2 * width)
        self.leave = nn.Linear(width, channels)
        silence(self.modulate)
        silence(self.leave)

    def forward(self, x: Tensor, time: Tensor, tokens: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        condition, words, mask = self.embed(time, tokens)
        h = F.pixel_unshuffle(x, self.patch).flatten(2).transpose(1, 2)
        h = self.enter(h) + self.place
        for block in self.blocks:
            h = block(h, condition, words, mask)
        scale, shift = self.modulate(condition)[:, None].chunk(2, -1)
        h = self.leave(self.norm(h) * (1 + scale) + shift)
        return F.pixel_shuffle(h.transpose(1, 2).unflatten(2, (self.rows, self.columns)), self.patch)


# --- A U-Net that looks at words


class Look(nn.Module):
    """Attention of a map (B, C, H, W) to itself or to words, added to it; it starts by adding nothing."""

    def __init__(self, channels: int, context: int | None = None) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.attention = Attention(channels, context)
        silence(self.attention.out)

    def forward(self, x: Tensor, words: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Map x to the same shape."""
        h = self.attention(self.norm(x).flatten(2).transpose(1, 2), words, mask)
        return x + h.transpose(1, 2).reshape(x.shape)


class CaptionUNet(CaptionBody):
    """`UNet`, on patches of any size, whose maps look at the words: going down, in the middle, and going up again.

    That is how Stable Diffusion's takes its caption (Rombach et al. 2022, section 3.3). In the middle, places look at
    each other too. `channels` are the widths at the patches' grid and at half of it, multiples of 8.
    """

    def __init__(
        self,
        event: tuple[int, int, int] = LATENT,
        words: int = len(WORDS),
        length: int = LENGTH,
        channels: tuple[int, int] = (64, 96),
        patch: int = 1,
        text: tuple[int, int] = (64, 2),
    ) -> None:
        fine, coarse = channels
        if min(channels) < 8 or fine % 8 or coarse % 8:
            refuse("channels", channels, "multiples of 8, the number of groups of each normalisation")
        width = 2 * fine
        super().__init__(_event(event, check_int("patch", patch, 1)), words, length, width, text)
        inner, self.patch = event[0] * patch**2, patch
        self.enter = nn.Conv2d(inner, fine, 3, padding=1)
        self.place = nn.Parameter(torch.zeros(fine, event[1] // patch, event[2] // patch))
        self.down = nn.ModuleList([ResidualBlock(fine, fine, width), ResidualBlock(fine, fine, width)])
        self.look_down = Look(fine, text[0])
        self.shrink = nn.Conv2d(fine, coarse, 3, stride=2, padding=1)
        self.middle = nn.ModuleList([ResidualBlock(coarse, coarse, width), ResidualBlock(coarse, coarse, width)])
        self.look_self, self.look_middle = Look(coarse), Look(coarse, text[0])
        self.grow = nn.Conv2d(coarse, fine, 3, padding=1)
        self.up = nn.ModuleList([ResidualBlock(2 * fine, fine, width), ResidualBlock(2 * fine, fine, width)])
        self.look_up = Look(fine, text[0])
        last = nn.Conv2d(fine, inner, 3, padding=1)
        self.leave = nn.Sequential(nn.GroupNorm(8, fine), nn.SiLU(), last)
        silence(last)

    def forward(self, x: Tensor, time: Tensor, tokens: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        condition, words, mask = self.embed(time, tokens)
        first = self.enter(F.pixel_unshuffle(x, self.patch)) + self.place
        second = self.down[0](first, condition)
        third = self.look_down(self.down[1](second, condition), words, mask)
        h = self.middle[0](self.shrink(third), condition)
        h = self.look_middle(self.look_self(h), words, mask)
        h = self.grow(F.interpolate(self.middle[1](h, condition), size=third.shape[2:], mode="nearest"))
        h = self.up[0](torch.cat([h, third], 1), condition)
        h = self.look_up(h, words, mask)
        return F.pixel_shuffle(self.leave(self.up[1](torch.cat([h, second], 1), condition)), self.patch)


def _event(event: tuple[int, int, int], patch: int) -> tuple[int, int, int]:
    """`event` if it is (channels, height, width) with sides that patches cover; ValueError if not."""
    if len(event) != 3 or min(event) < 1 or event[1] % patch or event[2] % patch:
        refuse("event", event, f"(channels, height, width) with sides that are multiples of the patch, {patch}")
    return event


# --- Latents of captioned scenes, and pictures of captions


@torch.no_grad()
def captioned(codec: Autoencoder, scenes: Scenes, generator: torch.Generator) -> Samples:
    """Latents of scenes, drawn, with the tokens of their captions: what a body learns from."""
    z = [codec.encode(paint(scenes[rows]), generator) for rows in torch.arange(len(scenes)).split(500)]
    return Samples(torch.cat(z), tokens(write(scenes)).to(generator.device))


@torch.no_grad()
def illustrate(
    net: NoisePredictor, codec: Autoencoder, words: Tensor, w: float, noise: Tensor, steps: int = 12
) -> Tensor:
    """Pictures (B, *image) of captions, tokens (B, length) or (1, length) for all, with the guidance scale w.

    Denoises latents from noise (B, *event) by DPM-Solver++(2M), a hundred at a time, and decodes them.
    """
    times, pictures = time_grid(net.schedule, steps), []
    for z, own in zip(noise.split(100), words.expand(len(noise), -1).split(100), strict=True):
        pictures.append(codec.decode(sample(dpm_solver_pp(classifier_free(net, own, w), z, net.schedule, times))))
    return torch.cat(pictures)
