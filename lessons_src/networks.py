"""Networks small enough to read: a U-Net for digits, an MLP for points, a classifier whose features judge samples.

The noise predictors are called net(x, t, label=None) -> eps, whatever they predict inside.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lessons_src.checks import check_batch, check_choice, check_int, check_labels, refuse
from lessons_src.schedules import NoiseSchedule


class Denoiser(nn.Module):
    """A noise predictor under one schedule: eps = net(x, t, label), for x (B, *event), t (B,) int64 in 1..T.

    label is (B,) int64, one int, or None for the null label `num_classes`. `prediction` says what the network's own
    output means: "eps", or the velocity "v" (Salimans & Ho 2022), from which eps = sqrt(1 - ab) x + sqrt(ab) v.
    """

    signal: Tensor
    noise: Tensor
    event: tuple[int, ...] | None = None

    def __init__(self, schedule: NoiseSchedule, num_classes: int, width: int, prediction: str = "eps") -> None:
        super().__init__()
        self.schedule = schedule
        self.num_classes = check_int("num_classes", num_classes, 0)
        self.prediction = check_choice("prediction", prediction, ("eps", "v"))
        self.register_buffer("signal", schedule.alpha_bar.sqrt().float(), persistent=False)
        self.register_buffer("noise", (1 - schedule.alpha_bar).sqrt().float(), persistent=False)
        self.time = TimeEmbedding(schedule.T, width)
        self.label = nn.Embedding(num_classes + 1, width)

    def forward(self, x: Tensor, t: Tensor, label: int | Tensor | None = None) -> Tensor:
        """The noise in x, of the shape of x."""
        check_batch("x", x)
        if self.event is not None and x.shape[1:] != self.event:
            refuse("x", x, f"shape (B, {', '.join(map(str, self.event))})")
        if not isinstance(t, Tensor) or t.shape != x.shape[:1] or t.dtype != torch.int64:
            refuse("t", t, f"an int64 tensor of shape ({len(x)},)")
        if t.device.type == "cpu" and len(t) and not 1 <= int(t.min()) <= int(t.max()) <= self.schedule.T:
            refuse("t", t.tolist(), f"times from 1 to {self.schedule.T}")
        label = check_labels("label", self.num_classes if label is None else label, len(x), self.num_classes, x.device)
        output = self.output(x, t, label)
        if self.prediction == "eps":
            return output
        signal, noise = self.coefficients(t, x)
        return noise * x + signal * output

    def coefficients(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """sqrt(alpha_bar) and sqrt(1 - alpha_bar) at times t (B,), shaped to multiply x (B, *event)."""
        shape = (-1, *[1] * (x.ndim - 1))
        return self.signal[t].view(shape), self.noise[t].view(shape)

    def target(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """What `output` should return for x_t made of x0 and eps: eps, or v = sqrt(ab) eps - sqrt(1 - ab) x0."""
        if self.prediction == "eps":
            return eps
        signal, noise = self.coefficients(t, x0)
        return signal * eps - noise * x0

    def output(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        """What the network itself predicts, eps or v; unchecked, for the training loop."""
        return self.body(x, F.silu(self.time(t) + self.label(label)))

    def body(self, x: Tensor, condition: Tensor) -> Tensor:
        """The network proper, given x and an embedding (B, width) of time and label."""
        raise TypeError(f"{type(self).__name__} has no body; use UNet or PointMLP")


class TimeEmbedding(nn.Module):
    """Sines and cosines of t at geometrically spaced frequencies, then a small MLP (Ho et al. 2020, appendix B)."""

    frequencies: Tensor

    def __init__(self, T: int, width: int, waves: int = 32) -> None:
        super().__init__()
        frequencies = 1000 / T * torch.exp(-math.log(10_000) * torch.arange(waves) / waves)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.mlp = nn.Sequential(nn.Linear(2 * waves, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        """Embed times (B,) as (B, width)."""
        phase = t[:, None] * self.frequencies
        return self.mlp(torch.cat([phase.sin(), phase.cos()], 1))


class ResidualBlock(nn.Module):
    """Two convolutions with group norm; time and label scale and shift the second (FiLM, Perez et al. 2018)."""

    def __init__(self, inputs: int, outputs: int, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, inputs), nn.GroupNorm(8, outputs, affine=False)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.film = nn.Linear(width, 2 * outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H, W)."""
        scale, shift = self.film(condition)[:, :, None, None].chunk(2, 1)
        h = self.conv1(F.silu(self.norm1(x.float())))
        h = self.conv2(F.silu(self.norm2(h.float()) * (1 + scale) + shift))
        return self.skip(x) + h


class UNet(Denoiser):
    """U-Net for images of 28 x 28 (Ronneberger et al. 2015), on 2 x 2 patches: 14 x 14, down to 7 x 7, and up again.

    `channels` are the widths at 14 x 14 and 7 x 7. Working on patches costs a quarter of working on pixels.
    """

    def __init__(
        self,
        schedule: NoiseSchedule,
        num_classes: int = 10,
        channels: tuple[int, int] = (64, 96),
        prediction: str = "eps",
    ) -> None:
        fine, coarse = channels
        if fine % 8 or coarse % 8:
            refuse("channels", channels, "multiples of 8, the number of groups of each normalisation")
        width = 2 * fine
        super().__init__(schedule, num_classes, width, prediction)
        self.event = (1, 28, 28)
        self.enter = nn.Conv2d(4, fine, 3, padding=1)
        self.down = nn.ModuleList([ResidualBlock(fine, fine, width), ResidualBlock(fine, fine, width)])
        self.shrink = nn.Conv2d(fine, coarse, 3, stride=2, padding=1)
        self.middle = nn.ModuleList([ResidualBlock(coarse, coarse, width), ResidualBlock(coarse, coarse, width)])
        self.grow = nn.Conv2d(coarse, fine, 3, padding=1)
        self.up = nn.ModuleList([ResidualBlock(2 * fine, fine, width), ResidualBlock(2 * fine, fine, width)])
        self.leave = nn.Sequential(nn.GroupNorm(8, fine), nn.SiLU(), nn.Conv2d(fine, 4, 3, padding=1))
        nn.init.zeros_(self.leave[2].weight)
        nn.init.zeros_(self.leave[2].bias)
        self.to(memory_format=torch.channels_last)

    def body(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map (B, 1, 28, 28) to the same shape."""
        h = self.enter(F.pixel_unshuffle(x, 2).contiguous(memory_format=torch.channels_last))
        skips = []
        for block in self.down:
            h = block(h, condition)
            skips.append(h)
        h = self.shrink(h)
        for block in self.middle:
            h = block(h, condition)
        h = self.grow(F.interpolate(h, scale_factor=2, mode="nearest"))
        for block in self.up:
            h = block(torch.cat([h, skips.pop()], 1), condition)
        return F.pixel_shuffle(self.leave(h), 2)


class PointMLP(Denoiser):
    """MLP for points (B, d): random Fourier features of x (Tancik et al. 2020), time and label added to every layer."""

    waves: Tensor

    def __init__(
        self,
        schedule: NoiseSchedule,
        num_classes: int = 0,
        dim: int = 2,
        width: int = 128,
        layers: int = 3,
        prediction: str = "eps",
    ) -> None:
        super().__init__(schedule, num_classes, width, prediction)
        self.event = (dim,)
        waves = torch.randn(dim, 32, generator=torch.Generator().manual_seed(0))
        self.register_buffer("waves", 2 * waves)
        self.enter = nn.Linear(dim + 64, width)
        self.layers = nn.ModuleList([nn.Linear(width, width) for _ in range(layers)])
        self.leave = nn.Linear(width, dim)

    def body(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map (B, d) to the same shape."""
        phase = x @ self.waves
        h = self.enter(torch.cat([x, phase.sin(), phase.cos()], 1))
        for layer in self.layers:
            h = h + layer(F.silu(h + condition))
        return self.leave(F.silu(h))


class DigitClassifier(nn.Module):
    """Convolutional classifier of digits; its 64 features are what distances between sets of digits are measured in."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(64, 96, 3, padding=1), nn.BatchNorm2d(96), nn.ReLU(),
        )  # fmt: skip
        self.narrow = nn.Linear(96, 64)
        self.head = nn.Linear(64, 10)

    def features(self, x: Tensor) -> Tensor:
        """Features (B, 64) of images (B, 1, 28, 28) in [-1, 1]."""
        return self.narrow(self.convolutions(x).mean((2, 3)))

    def forward(self, x: Tensor) -> Tensor:
        """Class logits (B, 10)."""
        return self.head(F.relu(self.features(x)))


UNET_PRESETS: dict[str, dict[str, Any]] = {
    "small": {"channels": (32, 48)},
    "base": {"channels": (64, 96)},
    "large": {"channels": (96, 128)},
}
