"""Digits steered by one network after the other, and what guides read on the way there."""

import base64
import time
from collections.abc import Callable
from functools import cache, partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lessons_src import captions, data, weights
from lessons_src.checks import check_choice, refuse
from lessons_src.evaluation import in_batches
from lessons_src.guidance import Guide, classifier, classifier_free, gradient, similarity
from lessons_src.measurements import Row, jackknife_error, start_noise
from lessons_src.metrics import Interval, bootstrap, wilson_interval
from lessons_src.process import add_noise
from lessons_src.samplers import Counted, EpsFn, ddim, sample
from lessons_src.schedules import NoiseSchedule, time_grid

AWARE, CLEAN, CLIP, CLIP_CLEAN = "noise-aware", "clean", "CLIP, noise-aware", "CLIP, clean"
FREE = "classifier-free"
STEPS = 20


@cache
def shipped(name: str) -> Any:
    """A shipped network, which needs no gradients of its own weights here."""
    return weights.load(name)[0].requires_grad_(False)


def alpha_bars(t: Tensor) -> Tensor:
    """The noise levels of times t (B,), under the schedule of the digit network."""
    return shipped("digits").schedule.alpha_bar[t]


# --- Guides


def noise_aware(x: Tensor, t: Tensor) -> Tensor:
    """log p(class | x_t) of the classifier that learned from noisy digits; (B, 10)."""
    return shipped("noisy_classifier")(x, alpha_bars(t)).log_softmax(1)


def clean(x: Tensor, t: Tensor) -> Tensor:
    """What the classifier that has seen clean digits only says of x_t; (B, 10)."""
    return shipped("classifier")(x).log_softmax(1)


def fit(x: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
    """Logits (B,) of captions (B, L), or of one for all, for x_t: scaled f(x_t) . g(caption), f knowing noise."""
    texts = shipped("embedding")
    return texts.scale * (shipped("noisy_embedding")(x, alpha_bars(t)) * texts.text(tokens)).sum(1)


def fit_clean(x: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
    """The same with the embedding that has seen clean digits only."""
    return shipped("embedding").scale * shipped("embedding").cosine(x, tokens)


CLASSIFIERS: dict[str, Guide] = {AWARE: noise_aware, CLEAN: clean}
SIMILARITIES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {CLIP: fit, CLIP_CLEAN: fit_clean}


def tokens_for(label: Tensor) -> Tensor:
    """Tokens (B, L) of the captions that say nothing but the digit: a three, an eight."""
    said = captions.UNSAID.repeat(len(label), 1)
    said[:, 0] = label
    return captions.tokens(captions.write(said))


def reads(name: str, x: Tensor) -> Tensor:
    """The digit (n,) that a guide sees in finished x (n, 1, 28, 28), the noise-aware one for classifier-free."""
    t = torch.zeros(len(x), dtype=torch.int64)
    if name not in SIMILARITIES:
        return in_batches(lambda part: CLASSIFIERS.get(name, noise_aware)(part, t[: len(part)]), x).argmax(1)
    tokens = tokens_for(torch.arange(10))
    fits = [
        in_batches(lambda part, c=c: SIMILARITIES[name](part, t[: len(part)], c)[:, None], x) for c in tokens.split(1)
    ]
    return torch.cat(fits, 1).argmax(1)


# --- Runs


def steered(name: str, w: float, label: Tensor, base: EpsFn, tokens: Tensor | None = None) -> tuple[EpsFn, Counted]:
    """eps_fn of `base` under a guide, for labels (B,) or the captions tokens (B, L), and the guide, counted."""
    schedule = shipped("digits").schedule
    if check_choice("name", name, (*CLASSIFIERS, *SIMILARITIES)) in CLASSIFIERS:
        guide = Counted(CLASSIFIERS[name])
        return classifier(base, guide, schedule, label, w), guide
    tokens = tokens_for(label) if tokens is None else tokens
    guide = Counted(partial(SIMILARITIES[name], tokens=tokens))
    return similarity(base, guide, schedule, w), guide


def draw(
    name: str, w: float, n: int, conditional: bool = False, start: int | None = None, tokens: Tensor | None = None
) -> tuple[Tensor, Row]:
    """n digits (n, 1, 28, 28) from `start_noise` by DDIM in 20 steps from the time `start`, and what they cost.

    The base is the shipped network, asked for the label if `conditional`. With the guide "classifier-free" it asks for
    it itself, w times. tokens (n, L) are captions for a similarity to fit. Costs are of one digit, a hundred drawn
    at a time.
    """
    net = shipped("digits")
    times = time_grid(NoiseSchedule(net.schedule.alpha_bar[: (start or net.schedule.T) + 1]), STEPS)
    noise, label = start_noise(n)
    told = [None] * -(-n // 100) if tokens is None else tokens.split(100)
    parts, cost, began = [], dict.fromkeys(("base forward", "guide forward", "guide backward"), 0), time.process_time()
    for z, c, said in zip(noise.split(100), label.split(100), told, strict=True):
        base = Counted(net)
        eps_fn: EpsFn = classifier_free(base, c, w if name == FREE else float(conditional))
        guide = None
        if name != FREE:
            eps_fn, guide = steered(name, w, c, eps_fn, said)
        parts.append(sample(ddim(eps_fn, z, net.schedule, times)))
        found = (base.nfe, guide.nfe, guide.backward) if guide else (base.nfe, 0, 0)
        cost = dict(zip(cost, found, strict=True))
    seconds = (time.process_time() - began) / n
    return torch.cat(parts).clamp(-1, 1), cost | {"CPU seconds": seconds}


def in_words(w: float, n: int = 90, conditional: bool = True) -> dict[str, Interval]:
    """Share of n digits, each asked by a full caption, whose thickness and slant are as said: measured in pixels.

    The network that makes them knows digits only, if `conditional`, and neither word: the noise-aware embedding does.
    """
    i = torch.arange(n)
    asked = torch.stack([i % 10, i // 10 % 3, i // 30 % 3], 1)
    x, _ = draw(CLIP, w, n, conditional, tokens=captions.tokens(captions.write(asked)))
    right = captions.attributes(x, asked[:, 0]) == asked
    return {name: wilson_interval(int(right[:, k].sum()), n) for k, name in ((1, "thickness"), (2, "slant"))}


def packed(hits: Tensor) -> str:
    """Truth values (n,) as text, eight a byte."""
    return base64.b64encode(np.packbits(hits.numpy()).tobytes()).decode("ascii")


def hits_of(row: Row, name: str) -> Tensor:
    """Whether "guide" or "judge" reads each of a row's digits as the one wanted; (n,) float64."""
    bits = np.unpackbits(np.frombuffer(base64.b64decode(row[f"{name} is right"]), np.uint8), count=row["n"])
    return torch.from_numpy(bits).double()


def gap(row: Row) -> Interval:
    """By how much the guide's accuracy lies above the judge's on the same digits, with its 95 % interval."""
    generator = torch.Generator().manual_seed(0)
    return bootstrap(
        lambda a, b: (a - b).mean().item(), hits_of(row, "guide"), hits_of(row, "judge"), generator=generator
    )


def at_accuracy(rows: list[Row], accuracy: float) -> Row:
    """What a guide costs and yields at the smallest scale where the judge reads this share of its digits rightly.

    By straight lines between its rows, sorted by w, of: w, frechet with its jackknife error, recall, spread, cosine.
    CPU seconds are those of the larger scale. Raises ValueError unless a line reaches the accuracy.
    """
    kept = ("w", "frechet", "recall", "spread", "cosine")
    for low, high in pairwise(sorted(rows, key=lambda row: row["w"])):
        if low["accuracy"] <= accuracy <= high["accuracy"] and low["accuracy"] < high["accuracy"]:
            share = (accuracy - low["accuracy"]) / (high["accuracy"] - low["accuracy"])
            parts = zip(low["frechet without a tenth"], high["frechet without a tenth"], strict=True)
            error = jackknife_error([a + share * (b - a) for a, b in parts])
            found = {key: low[key] + share * (high[key] - low[key]) for key in kept}
            return found | {"standard error": error, "CPU seconds": high["CPU seconds"]}
    refuse("accuracy", accuracy, f"a share between those of two rows: {sorted(row['accuracy'] for row in rows)}")


# --- What guides read on the way


def read_noisy(name: str, t: int, n: int = 2000, compared: int = 500) -> Row:
    """How a classifier reads n test digits noised to time t, and how its gradients agree with the implicit ones.

    Those are what the digit network, with and without label, says of log p(label | x_t): (eps_u - eps_c) / sqrt(1 -
    ab). Of `compared` digits, for their own labels: mean cosine, its standard error, and the ratio of lengths.
    """
    (x0, label), net, generator = data.digits("test"), shipped("digits"), torch.Generator().manual_seed(t)
    ab = net.schedule.alpha_bar[t]
    x = add_noise(x0[:n], torch.randn(x0[:n].shape, generator=generator), float(ab))
    time_of = torch.full((n,), t)
    log_p = in_batches(lambda part: CLASSIFIERS[name](part, time_of[: len(part)]), x)
    pulls, mine = [], []
    for part, own in zip(x[:compared].split(100), label[:compared].split(100), strict=True):
        times = time_of[: len(part)]
        with torch.no_grad():
            pulls.append((net(part, times) - net(part, times, own)) / float(1 - ab) ** 0.5)
        guide = lambda z, s, own=own: CLASSIFIERS[name](z, s).gather(1, own[:, None])[:, 0]  # noqa: E731
        mine.append(gradient(guide, part, times))
    pull, gradients = torch.cat(pulls).flatten(1), torch.cat(mine).flatten(1)
    cosine = F.cosine_similarity(gradients, pull).double()
    return {
        "n": n,
        "right": int((log_p.argmax(1) == label[:n]).sum()),
        "mean highest probability": log_p.exp().amax(1).mean().item(),
        "cosine": cosine.mean().item(),
        "standard error": (cosine.std() / len(cosine) ** 0.5).item(),
        "longer": (gradients.square().mean() / pull.square().mean()).sqrt().item(),
    }


def kept_bytes(guide: Guide, x: Tensor, t: Tensor) -> int:
    """Memory that a guide's forward pass keeps for its backward pass: what grows with the batch, so no weights."""
    sizes: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.shape[:1] == x.shape[:1]:
            sizes[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        guide(x.detach().requires_grad_(), t)
    return sum(sizes.values())
