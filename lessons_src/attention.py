"""Attention: each place of a picture, or word of a caption, asks all others and mixes what they answer.

Vaswani et al. 2017, "Attention is all you need". `attending` shows the maps of cross-attention, or changes them.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lessons_src.checks import check_int, refuse
from lessons_src.networks import silence


def attention_maps(q: Tensor, k: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(d)) over the keys, (..., N, M), for q (..., N, d), k (..., M, d), and a mask of keys.

    1 / sqrt(d) keeps the scores of random vectors at variance 1. Keys where the mask is False get weight 0.
    """
    scores = q @ k.mT / q.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(-1)


class Attention(nn.Module):
    """Multi-head attention of x (B, N, width) to itself, or to a context (B, M, context) with a mask (B, M) of words.

    `change` is None, or what the maps (B, heads, N, M) go through on their way: see `attending`.
    """

    change: Callable[[Tensor], Tensor] | None

    def __init__(self, width: int, context: int | None = None, heads: int = 4) -> None:
        super().__init__()
        if check_int("width", width, 1) % check_int("heads", heads, 1):
            refuse("heads", heads, f"a divisor of the width, {width}")
        self.heads, self.crosses, self.change = heads, context is not None, None
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(context or width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Map x to the same shape."""
        q = self.query(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
        k, v = self.key_value(x if context is None else context).unflatten(2, (2, self.heads, -1)).unbind(2)
        k, v = k.transpose(1, 2), v.transpose(1, 2)
        mask = None if mask is None else mask[:, None, None]
        if self.change is None:
            h = F.scaled_dot_product_attention(q, k, v, mask)
        else:
            h = self.change(attention_maps(q, k, mask)) @ v
        return self.out(h.transpose(1, 2).flatten(2))


@contextmanager
def attending(net: nn.Module, change: Callable[[str, Tensor], Tensor]) -> Iterator[None]:
    """While it lasts, maps (B, heads, N, M) of every cross-attention in `net` become change(its name, maps).

    A change that keeps a copy and returns the maps shows what is looked at; one that returns maps of another run makes
    this run look at what the other did (prompt-to-prompt, Hertz et al. 2022). ValueError if there is no such layer.
    """
    layers = {name: part for name, part in net.named_modules() if isinstance(part, Attention) and part.crosses}
    if not layers:
        raise ValueError(f"net is a {type(net).__name__} without cross-attention; expected one that looks at words")
    try:
        for name, layer in layers.items():
            layer.change = partial(change, name)
        yield
    finally:
        for layer in layers.values():
            layer.change = None


class MLP(nn.Sequential):
    """Two layers, four times as wide between."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))


class WordBlock(nn.Module):
    """A transformer block for words (B, M, width), normalised first; it starts with what attention adds at zero."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention, self.mlp = Attention(width, heads=heads), MLP(width)
        silence(self.attention.out)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map x to the same shape; nobody looks at words where the mask (B, M) is False."""
        x = x + self.attention(self.norm1(x), mask=mask)
        return x + self.mlp(self.norm2(x))
