"""Networks small enough to read: a U-Net for digits, an MLP for points, a classifier, two towers for captioned digits.

A `NoisePredictor` is called net(x, t, condition=None) -> eps, whatever its body predicts inside.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lessons_src.checks import check_batch, check_choice, check_int, check_labels, refuse
from lessons_src.process import Level, as_column, eps_from_velocity, rotate, signal_and_noise
from lessons_src.schedules import NoiseSchedule, check_schedule

WAVES = 32  # frequencies at which times, and points, are shown to a network


class Body(nn.Module):
    """What a `NoisePredictor` holds: body(x, time, condition), for x (B, *event), time (B,) float in (0, 1000].

    `condition` makes a tensor of what a caller wishes; its values lie below `num_classes`, or mean that there is none.
    One sample's is of `condition_shape`.
    """

    condition_shape: tuple[int, ...] = ()

    def __init__(self, event: tuple[int, ...], num_classes: int, width: int) -> None:
        super().__init__()
        self.event, self.num_classes = tuple(event), check_int("num_classes", num_classes, 0)
        self.time = TimeEmbedding(width)

    def condition(self, condition: Any, batch: int, device: torch.device) -> Tensor:
        """What `forward` takes as condition, (batch, ...), for one wish for all, one a sample, or None."""
        raise NotImplementedError


class LabelBody(Body):
    """A body that takes labels (B,) int64; the null label is `num_classes`."""

    def __init__(self, event: tuple[int, ...], num_classes: int, width: int) -> None:
        super().__init__(event, num_classes, width)
        self.label = nn.Embedding(num_classes + 1, width)

    def condition(self, label: int | Tensor | None, batch: int, device: torch.device) -> Tensor:
        """A label for all, labels (batch,), or None for the null label, as int64 (batch,); refuses everything else."""
        return check_labels("label", self.num_classes if label is None else label, batch, self.num_classes, device)

    def embed(self, time: Tensor, label: Tensor) -> Tensor:
        """Time and label in one embedding, (B, width)."""
        return F.silu(self.time(time) + self.label(label))


class NoisePredictor(nn.Module):
    """eps = net(x, t, condition), for x (B, *event) and t (B,) int64 in 1..T, made of a body and a schedule.

    `prediction` says what the body's own output means: "eps", or the velocity "v" (Salimans & Ho 2022). condition is
    what the body takes, None for none. Raises TypeError or ValueError for input that does not fit.

    x may be float64: the body computes in its own precision, all around it in double. A sampler in float32 asks v for
    eps and eps for x0 = (x - b eps) / a, and a is 5e-5 at T of the cosine schedule: that loses 1e-3 of a grey, which
    schedulers that go from v to x0 in one step do not. A start in float64 does not lose it either.
    """

    signal: Tensor
    noise: Tensor

    def __init__(self, body: Body, schedule: NoiseSchedule, prediction: str = "eps") -> None:
        super().__init__()
        if not isinstance(body, Body):
            refuse("body", type(body).__name__, "a networks.Body, such as UNet(), or a class of your own", TypeError)
        self.body, self.schedule = body, check_schedule("schedule", schedule)
        self.prediction = check_choice("prediction", prediction, ("eps", "v"))
        self.register_buffer("signal", schedule.alpha_bar.sqrt().float(), persistent=False)
        self.register_buffer("noise", (1 - schedule.alpha_bar).sqrt().float(), persistent=False)

    @property
    def num_classes(self) -> int:
        """How many values a condition has; the null label of a body that takes labels, 0 if it takes none."""
        return self.body.num_classes

    def forward(self, x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        """The noise in x, of the shape and dtype of x."""
        self._check(x, t)
        if not len(x):  # torch's convolutions of patches cannot be asked
            return x.clone()
        output = self.output(x.to(self.signal), t, self.body.condition(condition, len(x), x.device)).to(x)
        if self.prediction == "eps":
            return output
        if x.dtype != self.signal.dtype:
            return eps_from_velocity(x, output, self.schedule.alpha_bar[t.cpu()])
        signal, noise = self.level(t, x)
        return rotate(x, output, signal, -noise)[1]

    def output(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """What the body itself predicts, eps or v, for the training loop; of what it takes, nothing is checked."""
        found = self.body(x, 1000 * t / self.schedule.T, condition)
        if not isinstance(found, Tensor) or found.shape != x.shape:  # which would be broadcast in a loss
            refuse("body(x, time, condition)", found, f"a tensor of the shape of x, {tuple(x.shape)}", TypeError)
        return found

    def level(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """sqrt(alpha_bar) and sqrt(1 - alpha_bar) at times t (B,), shaped to multiply x (B, *event)."""
        return as_column(self.signal[t], x), as_column(self.noise[t], x)

    def _check(self, x: Tensor, t: Tensor) -> None:
        if self.signal.dtype not in (torch.float32, torch.float64):  # times and levels need their digits
            refuse("net", f"in {self.signal.dtype}", "float32 or float64: take torch.autocast for less", TypeError)
        check_input("x", x, self.body.event, self.signal, torch.float64)
        if not isinstance(t, Tensor) or t.shape != x.shape[:1] or t.dtype != torch.int64:
            refuse("t", t, f"an int64 tensor of shape ({len(x)},)")
        if t.device.type == "cpu" and len(t) and not 1 <= int(t.min()) <= int(t.max()) <= self.schedule.T:
            refuse("t", t.tolist(), f"times from 1 to {self.schedule.T}")


class TimeEmbedding(nn.Module):
    """Sines and cosines of a time in (0, 1000] at geometrically spaced frequencies, then a small MLP.

    Ho et al. 2020, appendix B.
    """

    frequencies: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        frequencies = torch.exp(-math.log(10_000) * torch.arange(WAVES) / WAVES)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.mlp = nn.Sequential(nn.Linear(2 * WAVES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, time: Tensor) -> Tensor:
        """Embed times (B,) as (B, width)."""
        phase = time[:, None] * self.frequencies
        return self.mlp(torch.cat([phase.sin(), phase.cos()], 1))


def check_input(name: str, x: Any, event: tuple[int, ...], like: Tensor, also: torch.dtype | None = None) -> Tensor:
    """Return x if it is (B, *event) with the dtype, or `also`, and the device of a network's weight `like`.

    Raises TypeError or ValueError for anything else.
    """
    if check_batch(name, x).shape[1:] != event:
        refuse(name, x, f"shape (B, {', '.join(map(str, event))})")
    if x.dtype not in (like.dtype, also) or x.device != like.device:
        refuse(name, f"{x.dtype} on {x.device}", f"{like.dtype} on {like.device}, as the network is", TypeError)
    return x


def silence(layer: nn.Module) -> None:
    """Let a layer start by adding nothing."""
    for weight in layer.parameters():
        nn.init.zeros_(weight)


class ResidualBlock(nn.Module):
    """Two convolutions with group norm; time and label scale and shift the second (FiLM, Perez et al. 2018)."""

    def __init__(self, inputs: int, outputs: int, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, inputs), nn.GroupNorm(8, outputs, affine=False)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.film = nn.Linear(width, 2 * outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        silence(self.conv2)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H, W)."""
        scale, shift = self.film(condition)[:, :, None, None].chunk(2, 1)
        h = self.conv1(F.silu(self.norm1(x.float())))
        h = self.conv2(F.silu(self.norm2(h.float()) * (1 + scale) + shift))
        return self.skip(x) + h


class UNet(LabelBody):
    """U-Net for images (Ronneberger et al. 2015), on 2 x 2 patches: half the side, down to a quarter, and up again.

    image is (C, H, W), with even H and W of at least 4. `channels` are the widths at half and at a quarter of the side,
    multiples of 8. Working on patches costs a quarter of working on pixels. Raises ValueError for anything else.
    """

    def __init__(
        self, num_classes: int = 10, channels: tuple[int, int] = (64, 96), image: tuple[int, int, int] = (1, 28, 28)
    ) -> None:
        fine, coarse = channels
        if min(channels) < 8 or fine % 8 or coarse % 8:
            refuse("channels", channels, "multiples of 8, the number of groups of each normalisation")
        if len(image) != 3 or min(image) < 1 or any(side % 2 or side < 4 for side in image[1:]):
            refuse("image", image, "(channels, height, width) with even sides of at least 4: patches are 2 x 2")
        width, patch = 2 * fine, 4 * image[0]
        super().__init__(tuple(image), num_classes, width)
        self.enter = nn.Conv2d(patch, fine, 3, padding=1)
        self.down = nn.ModuleList([ResidualBlock(fine, fine, width), ResidualBlock(fine, fine, width)])
        self.shrink = nn.Conv2d(fine, coarse, 3, stride=2, padding=1)
        self.middle = nn.ModuleList([ResidualBlock(coarse, coarse, width), ResidualBlock(coarse, coarse, width)])
        self.grow = nn.Conv2d(coarse, fine, 3, padding=1)
        self.up = nn.ModuleList([ResidualBlock(2 * fine, fine, width), ResidualBlock(2 * fine, fine, width)])
        last = nn.Conv2d(fine, patch, 3, padding=1)
        self.leave = nn.Sequential(nn.GroupNorm(8, fine), nn.SiLU(), last)
        silence(last)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # missing in torch's annotations

    def forward(self, x: Tensor, time: Tensor, label: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        condition = self.embed(time, label)
        h = self.enter(F.pixel_unshuffle(x, 2).contiguous(memory_format=torch.channels_last))
        skips = []
        for block in self.down:
            h = block(h, condition)
            skips.append(h)
        h = self.shrink(h)
        for block in self.middle:
            h = block(h, condition)
        h = self.grow(F.interpolate(h, size=skips[-1].shape[2:], mode="nearest"))
        for block in self.up:
            h = block(torch.cat([h, skips.pop()], 1), condition)
        return F.pixel_shuffle(self.leave(h), 2)


class PointMLP(LabelBody):
    """MLP for points (B, d): random Fourier features of x (Tancik et al. 2020), time and label added to every layer."""

    waves: Tensor

    def __init__(self, num_classes: int = 0, dim: int = 2, width: int = 128) -> None:
        super().__init__((dim,), num_classes, width)
        waves = torch.randn(dim, WAVES, generator=torch.Generator().manual_seed(0))
        self.register_buffer("waves", 2 * waves)
        self.enter = nn.Linear(dim + 2 * WAVES, width)
        self.layers = nn.ModuleList([nn.Linear(width, width) for _ in range(3)])
        self.leave = nn.Linear(width, dim)

    def forward(self, x: Tensor, time: Tensor, label: Tensor) -> Tensor:
        """Map (B, d) to the same shape."""
        condition = self.embed(time, label)
        phase = x @ self.waves
        h = self.enter(torch.cat([x, phase.sin(), phase.cos()], 1))
        for layer in self.layers:
            h = h + layer(F.silu(h + condition))
        return self.leave(F.silu(h))


def digit_convolutions() -> nn.Sequential:
    """Convolutions that map digits (B, 1, 28, 28) to 96 maps (B, 96, 7, 7)."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 96, 3, padding=1), nn.BatchNorm2d(96), nn.ReLU(),
    )  # fmt: skip


class DigitClassifier(nn.Module):
    """Convolutional classifier of digits; its 64 features are what distances between sets of digits are measured in."""

    event = (1, 28, 28)
    num_classes = 10

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = digit_convolutions()
        self.narrow = nn.Linear(96, 64)
        self.head = nn.Linear(64, 10)

    def features(self, x: Tensor) -> Tensor:
        """Features (B, 64) of images (B, 1, 28, 28) in [-1, 1]."""
        check_input("x", x, self.event, self.narrow.weight)
        return self.narrow(self.convolutions(x).mean((2, 3)))

    def forward(self, x: Tensor) -> Tensor:
        """Class logits (B, 10)."""
        return self.head(F.relu(self.features(x)))


class NoisyDigitClassifier(nn.Module):
    """Reads digits at every noise level: p(y | x_t), the guide of Dhariwal & Nichol (2021), section 4.

    A level is shown as its angle, arccos sqrt(alpha_bar), so every schedule serves. Blocks are those of `UNet`, on 2 x
    2 patches; no batch norm, so samples of a batch do not influence each other. The last layer sees where things are.
    Outputs are multiplied by sqrt(alpha_bar), so that their gradient vanishes with the signal, as the exact one does.
    outputs: ten logits, or the width of an embedding.
    """

    event = (1, 28, 28)
    num_classes = 10

    def __init__(self, outputs: int = 10) -> None:
        super().__init__()
        fine, coarse, width = 24, 32, 48
        self.time = TimeEmbedding(width)
        self.enter = nn.Conv2d(4, fine, 3, padding=1)
        self.fine = ResidualBlock(fine, fine, width)
        self.shrink = nn.Conv2d(fine, coarse, 3, stride=2, padding=1)
        self.coarse = ResidualBlock(coarse, coarse, width)
        self.leave = nn.Sequential(nn.GroupNorm(8, coarse), nn.SiLU(), nn.Conv2d(coarse, 16, 1), nn.Flatten())
        self.head = nn.Linear(16 * 7 * 7, outputs)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # missing in torch's annotations

    def forward(self, x: Tensor, alpha_bar: Level) -> Tensor:
        """Class logits (B, outputs) of x (B, 1, 28, 28) at the noise level alpha_bar, a number or (B,)."""
        if not len(check_input("x", x, self.event, self.head.weight)):
            return x.new_empty(0, self.head.out_features)  # torch's convolutions of patches cannot be asked
        signal = torch.as_tensor(signal_and_noise(alpha_bar, x)[0]).to(x).flatten().expand(len(x))
        condition = F.silu(self.time(2000 / math.pi * signal.arccos()))
        h = self.enter(F.pixel_unshuffle(x, 2).contiguous(memory_format=torch.channels_last))
        h = self.coarse(self.shrink(self.fine(h, condition)), condition)
        return signal[:, None] * self.head(self.leave(h))


class JointEmbedding(nn.Module):
    """Two towers that put digits and their captions on one sphere (CLIP, Radford et al. 2021).

    A picture and what is true of it lie close to each other: their cosine is the score of the caption. Captions are
    tokens (m, L) int64 below `words`, zeros behind the last (see `captions`). The text tower takes the mean of its
    words, so it knows no order. The scale of the logits is learned, and at most 100.
    """

    event = (1, 28, 28)

    def __init__(self, words: int, width: int = 64) -> None:
        super().__init__()
        self.words = check_int("words", words, 2)
        self.convolutions = digit_convolutions()
        self.narrow = nn.Linear(96, width)
        self.word = nn.Embedding(words, width, padding_idx=0)
        self.text_mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))
        self.log_scale = nn.Parameter(torch.tensor(1 / 0.07).log())

    def image(self, x: Tensor) -> Tensor:
        """Unit vectors (n, width) of images (n, 1, 28, 28) in [-1, 1]; gradients reach the images."""
        check_input("x", x, self.event, self.narrow.weight)
        return F.normalize(self.narrow(self.convolutions(x).mean((2, 3))), dim=1)

    def text(self, tokens: Tensor) -> Tensor:
        """Unit vectors (m, width) of captions, tokens (m, L)."""
        if not isinstance(tokens, Tensor) or tokens.dtype != torch.int64:
            refuse("tokens", tokens, "int64 of shape (m, L)", TypeError)
        seen = tokens.device.type == "cpu" and tokens.numel()  # looking at a GPU's values would wait for it
        if tokens.ndim != 2 or (seen and not 0 <= int(tokens.min()) <= int(tokens.max()) < self.words):
            refuse("tokens", tokens, f"shape (m, L), values from 0 to {self.words - 1}")
        count = (tokens > 0).sum(1, keepdim=True).clamp(min=1)
        return F.normalize(self.text_mlp(self.word(tokens).sum(1) / count), dim=1)

    @property
    def scale(self) -> Tensor:
        """What cosines are multiplied with to be logits."""
        return self.log_scale.exp().clamp(max=100)

    def cosine(self, x: Tensor, tokens: Tensor) -> Tensor:
        """Cosine (n,) of each image (n, 1, 28, 28) with its caption (n, L), or with one for all (1, L)."""
        if isinstance(tokens, Tensor) and len(tokens) not in (1, len(x)):
            refuse("tokens", tokens, f"{len(x)} captions, one an image, or one for all")
        return (self.image(x) * self.text(tokens)).sum(1)

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        """Logits (n, m): cosine of every image with every caption, scaled."""
        return self.scale * self.image(x) @ self.text(tokens).T


UNET_PRESETS: dict[str, dict[str, Any]] = {
    "small": {"channels": (32, 48)},
    "base": {"channels": (64, 96)},
    "large": {"channels": (96, 128)},
}
