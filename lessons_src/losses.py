"""Losses that a `Trainer` minimises, and the samples that it draws batches from.

A loss is called loss(net, batch, generator) and returns `Losses`: one a sample. All that is random comes from the
generator, on whose device everything happens.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lessons_src.checks import check_batch, check_real, refuse
from lessons_src.networks import JointEmbedding, NoisePredictor, check_input
from lessons_src.process import add_noise, as_column, noise_like, rotate
from lessons_src.schedules import make_schedule

Batch = tuple[Any, ...]


class Losses(NamedTuple):
    """Losses (B,) of a batch, and where each belongs: a tenth of the time axis, 0..9 (B,), if the loss has times."""

    each: Tensor
    tenth: Tensor | None = None


class Samples:
    """Batches (x0, label), drawn with replacement from x0 (N, *event) float32 and labels (N, *shape) int64, or None.

    Labels of classes are (N,), tokens of captions (N, length). Raises TypeError or ValueError for anything else, and
    for pictures (N, C, H, W) from 0 to 1, or to 255: noise schedules are made for data around 0.
    """

    def __init__(self, x0: Tensor, label: Tensor | None = None) -> None:
        if check_batch("x0", x0).dtype != torch.float32 or not len(x0):
            refuse("x0", x0, "at least one sample, float32", TypeError)
        if not x0.isfinite().all():
            refuse("x0", x0, "finite values")
        low, high = x0.min().item(), x0.max().item()
        if x0.ndim == 4 and 0 <= low < high and (low < 0.1 or high > 1):  # all-bright pictures are welcome
            refuse("x0", x0, f"values from -1 to 1; these are from {low:.3g} to {high:.3g}")
        if label is not None and (not isinstance(label, Tensor) or label.dtype != torch.int64):
            refuse("label", label, f"int64 of shape ({len(x0)},), or None", TypeError)
        if label is not None and label.shape[:1] != x0.shape[:1]:
            refuse("label", label, f"shape ({len(x0)},), one label a sample")
        self.x0, self.label = x0, label

    def __call__(self, size: int, generator: torch.Generator) -> Batch:
        """x0 (size, *event) and label (size, *shape), on the generator's device."""
        if self.x0.device != generator.device:
            self.x0 = self.x0.to(generator.device)
            self.label = None if self.label is None else self.label.to(generator.device)
        picked = torch.randint(len(self.x0), (size,), generator=generator, device=generator.device)
        return self.x0[picked], None if self.label is None else self.label[picked]

    def check(self, event: tuple[int, ...], num_classes: int, shape: tuple[int, ...] = ()) -> None:
        """Raise ValueError unless samples are of this event, and labels of this shape and below num_classes."""
        if self.x0.shape[1:] != event:
            refuse("x0", self.x0, f"shape (N, {', '.join(map(str, event))}), which the network takes")
        if self.label is not None and self.label.shape[1:] != shape:
            refuse("label", self.label, f"shape ({', '.join(map(str, (len(self.x0), *shape)))}{',' * (not shape)})")
        if self.label is not None and not 0 <= int(self.label.min()) <= int(self.label.max()) < num_classes:
            expected = f"labels from 0 to {num_classes - 1}" if num_classes else "None: the network takes no labels"
            refuse("label", self.label.unique().tolist(), expected)


def draw_times(T: int, B: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Times (B,) spread evenly over 1..T from one random offset, and the tenth of the time axis that each is in, 0..9.

    That makes a loss less noisy than independent times do (Kingma et al. 2021, appendix I.1).
    """
    device = generator.device
    offset = torch.rand(1, generator=generator, device=device)
    t = 1 + (T * (torch.arange(B, device=device) + offset) / B).long().clamp(max=T - 1)
    return t, (10 * (t - 1)).div(T, rounding_mode="floor")


def noised(x0: Tensor, schedule: str, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """x_t (B, *event) at times from `draw_times` of the schedule called so, their alpha_bar (B,), and tenths (B,)."""
    levels = make_schedule(schedule)
    t, tenth = draw_times(levels.T, len(x0), generator)
    alpha_bar = levels.alpha_bar.to(x0.device)[t]
    return add_noise(x0, noise_like(x0, generator), alpha_bar), alpha_bar, tenth


@dataclass(frozen=True)
class Denoising:
    """The simple loss (Ho et al. 2020, equation 14), for a `NoisePredictor`: mean squared error of eps, or of v.

    label_drop is the probability that a condition is replaced by none (Ho & Salimans 2022, algorithm 1). The times are
    those of `draw_times`.
    """

    label_drop: float = 0.1

    def __post_init__(self) -> None:
        check_real("label_drop", self.label_drop, 0.0, 1.0)

    def __call__(self, net: NoisePredictor, batch: Batch, generator: torch.Generator) -> Losses:
        """Draw times and noise, jump there, predict, compare."""
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            refuse("batches(size, generator)", batch, "a pair: x0, and its conditions or None", TypeError)
        x0, condition = batch
        check_input("x0", x0, net.body.event, net.signal)
        B, device = len(x0), x0.device
        t, tenth = draw_times(net.schedule.T, B, generator)
        eps = noise_like(x0, generator)
        dropped = torch.rand(B, generator=generator, device=device) < self.label_drop
        none = net.body.condition(None, B, device)
        condition = none if condition is None else torch.where(as_column(dropped, condition), none, condition)
        x_t, v = rotate(x0, eps, *net.level(t, x0))
        output = net.output(x_t, t, condition)
        target = eps if net.prediction == "eps" else v
        each = (output.float() - target).square().flatten(1).mean(1)
        return Losses(self.weighted(each, net, t), tenth)

    def weighted(self, each: Tensor, net: NoisePredictor, t: Tensor) -> Tensor:
        """How much errors (B,) at times t (B,) count: all alike."""
        return each

    def check(self, net: NoisePredictor, batches: Any) -> None:
        """Refuse other networks, and `Samples` that the network does not take."""
        if not isinstance(net, NoisePredictor):
            refuse("net", type(net).__name__, "a NoisePredictor(body, schedule)", TypeError)
        if isinstance(batches, Samples):
            batches.check(net.body.event, net.num_classes, net.body.condition_shape)


@dataclass(frozen=True)
class MinSNR(Denoising):
    """`Denoising` with errors of x0 weighted by min(SNR, gamma) (Hang et al. 2023, arXiv 2303.09556, section 3.4).

    Which is min(SNR, gamma) / SNR for eps and min(SNR, gamma) / (SNR + 1) for v: small noise, where SNR is large and
    errors of eps say little of x0, counts less.
    """

    gamma: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_real("gamma", self.gamma, 1e-6)

    def weighted(self, each: Tensor, net: NoisePredictor, t: Tensor) -> Tensor:
        """The errors (B,), each times the weight of its time."""
        signal, noise = net.level(t, each)
        snr = (signal / noise).square()
        return each * snr.clamp(max=self.gamma) / (snr if net.prediction == "eps" else snr + 1)


def shifted(x: Tensor, shift: int, generator: torch.Generator) -> Tensor:
    """Images (B, C, H, W), all moved alike by up to `shift` pixels down or up and across, paper filled in.

    Without a shift, samples of any shape as they are.
    """
    if not shift:
        return x
    (height, width), s = x.shape[2:], shift
    down, across = torch.randint(2 * s + 1, (2,), generator=generator, device=x.device).tolist()
    return F.pad(x, (s, s, s, s), value=-1)[..., down : down + height, across : across + width]


@dataclass(frozen=True)
class Classification:
    """Cross-entropy of a classifier's logits on images (B, C, H, W), all shifted alike by up to `shift` pixels."""

    shift: int = 2

    def __call__(self, net: nn.Module, batch: Batch, generator: torch.Generator) -> Losses:
        """Shift, read, compare."""
        x, label = batch
        return Losses(F.cross_entropy(net(shifted(x, self.shift, generator)), label, reduction="none"))

    def check(self, net: Any, batches: Samples) -> None:
        """Refuse samples that the classifier does not take, or without labels."""
        if not isinstance(batches, Samples):
            refuse("batches", batches, "Samples(x0, label)", TypeError)
        if batches.label is None:
            refuse("label", None, f"a label from 0 to {net.num_classes - 1} for each sample")
        batches.check(net.event, net.num_classes)


@dataclass(frozen=True)
class NoisyClassification(Classification):
    """Cross-entropy of a `NoisyDigitClassifier` on images that are shifted alike, then noised as in `Denoising`.

    At the optimum it says p(y | x_t) of the training data: where nothing can be read any more, the classes' shares.
    """

    schedule: str = "cosine"

    def __call__(self, net: nn.Module, batch: Batch, generator: torch.Generator) -> Losses:
        """Shift, jump to a random time each, read, compare."""
        x, label = batch
        x_t, alpha_bar, tenth = noised(shifted(x, self.shift, generator), self.schedule, generator)
        return Losses(F.cross_entropy(net(x_t, alpha_bar), label, reduction="none"), tenth)


@dataclass(frozen=True)
class Contrast:
    """Which caption of the batch is whose? The loss of CLIP (Radford et al. 2021, figure 3), for a `JointEmbedding`.

    Cross-entropy of finding each image's caption among those of the batch, and each caption's image: the mean of both.
    A caption that several images share does no harm: they pull it as much as they push it. At the optimum a logit is
    log p(image, caption) / (p(image) p(caption)), up to a constant. Images are shifted by up to `shift` pixels.
    """

    shift: int = 2

    def __call__(self, net: JointEmbedding, batch: Batch, generator: torch.Generator) -> Losses:
        """Shift, embed both, compare all with all."""
        x, tokens = batch
        return Losses(_contrast(net(shifted(x, self.shift, generator), tokens)))

    def check(self, net: JointEmbedding, batches: Any) -> None:
        """Refuse batches without captions."""
        if isinstance(batches, Samples):
            refuse("batches", batches, "batches of images and tokens, as from captions.Captioned", TypeError)


@dataclass(frozen=True)
class NoisyContrast(Contrast):
    """`Contrast` for noisy images: a network net(x_t, alpha_bar) -> (B, width) learns to fit captions as they are.

    The captions' vectors are those of a trained `JointEmbedding` and stay as they are; the images' need no length 1.
    At the optimum a logit is log p(caption | x_t) - log p(caption), up to a constant: its gradient steers as that of a
    noise-aware classifier does.
    """

    texts: JointEmbedding = field(kw_only=True, repr=False)
    schedule: str = "cosine"

    def __call__(self, net: nn.Module, batch: Batch, generator: torch.Generator) -> Losses:
        """Shift, jump to a random time each, embed both, compare all with all."""
        x, tokens = batch
        x_t, alpha_bar, tenth = noised(shifted(x, self.shift, generator), self.schedule, generator)
        with torch.no_grad():
            texts, scale = self.texts.text(tokens), self.texts.scale
        return Losses(_contrast(scale * net(x_t, alpha_bar) @ texts.T), tenth)


def _contrast(logits: Tensor) -> Tensor:
    """Cross-entropy (B,) of finding the own column in each row of (B, B), and the own row in each column, halved."""
    own = torch.arange(len(logits), device=logits.device)
    each = F.cross_entropy(logits, own, reduction="none") + F.cross_entropy(logits.T, own, reduction="none")
    return each / 2
