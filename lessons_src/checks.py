"""Argument checks: every refusal names the argument, its value and what was expected."""

import math
import re
from collections.abc import Collection
from numbers import Integral, Real
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor


def refuse(name: str, value: Any, expected: str, kind: type[Exception] = ValueError) -> NoReturn:
    """Raise `kind` with the one message format of the package, one line."""
    if isinstance(value, Tensor | np.ndarray):
        kind_of = "a tensor" if isinstance(value, Tensor) else "an array"
        shown = f"{kind_of} of shape {tuple(value.shape)}, {value.dtype}"
    else:
        shown = shortened(repr(value))
    raise kind(f"{name} is {shown}; expected {expected}")


def shortened(text: str, most: int = 200) -> str:
    """A text on one line, its middle left out where it is longer than `most` characters."""
    line = re.sub(r"\s*\n\s*", " ", text)
    return line if len(line) <= most else f"{line[: most - 60]} ... {line[-50:]}"


def check_int(name: str, value: Any, low: int, high: int | None = None) -> int:
    """Return `value` as int; TypeError if it is not a whole-number type, ValueError outside low..high."""
    expected = f"a whole number, at least {low}" if high is None else f"a whole number from {low} to {high}"
    if isinstance(value, bool) or not isinstance(value, Integral):
        refuse(name, value, expected, TypeError)
    whole = int(value)
    if whole < low or (high is not None and whole > high):
        refuse(name, value, expected)
    return whole


def check_real(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """Return `value` as a finite float; TypeError if it is no number, ValueError if not finite or outside low..high."""
    bounds = "" if (low, high) == (-math.inf, math.inf) else f" in [{low:g}, {high:g}]"
    if isinstance(value, Tensor) and value.ndim == 0:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Real):
        refuse(name, value, f"a finite number{bounds}", TypeError)
    number = float(value)
    if not math.isfinite(number) or not low <= number <= high:
        refuse(name, value, f"a finite number{bounds}")
    return number


def check_choice(name: str, value: Any, choices: Collection[str]) -> str:
    """Return `value` if it is one of `choices`, else ValueError listing them."""
    if not isinstance(value, str) or value not in choices:
        refuse(name, value, "one of " + ", ".join(repr(choice) for choice in choices))
    return value


def check_floating(name: str, x: Any, shape: str = "any shape") -> Tensor:
    """Return `x` if it is a floating-point tensor, else TypeError."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        refuse(name, x, f"a floating-point tensor of {shape}", TypeError)
    return x


def check_finite(name: str, x: Tensor, when: str = "") -> Tensor:
    """Return `x` if all its values are finite, else ValueError."""
    if not x.isfinite().all():
        refuse(name, x, f"finite values{when}")
    return x


def check_batch(name: str, x: Any) -> Tensor:
    """Return `x` if it is a floating-point tensor of shape (B, *event), else TypeError or ValueError."""
    if check_floating(name, x, "shape (B, *event)").ndim < 2:
        refuse(name, x, "shape (B, *event): a batch axis and at least one event axis")
    return x


def check_like(name: str, value: Any, like_name: str, like: Tensor) -> Tensor:
    """Return `value` if it is a tensor with the shape, dtype and device of `like`."""
    expected = f"shape, dtype and device of {like_name}: {tuple(like.shape)}, {like.dtype}, {like.device}"
    if not isinstance(value, Tensor) or value.dtype != like.dtype or value.device != like.device:
        refuse(name, value, expected, TypeError)
    if value.shape != like.shape:
        refuse(name, value, expected)
    return value


def check_alike(**tensors: Any) -> Tensor:
    """Return the first of `tensors` if it is (B, *event) and the others have its shape, dtype and device."""
    (name, first), *others = tensors.items()
    check_batch(name, first)
    for other, tensor in others:
        check_like(other, tensor, name, first)
    return first


def check_labels(
    name: str, label: Any, batch: int, num_classes: int, device: torch.device, null: bool = True
) -> Tensor:
    """Return `label` (one int, or int64 of shape (batch,)) as an int64 tensor; the null label, if any, is num_classes.

    TypeError or ValueError for anything else.
    """
    last = num_classes if null else num_classes - 1
    meant = f" ({num_classes} is the null label)" if null else ""
    expected = f"one int or int64 of shape ({batch},), from 0 to {last}{meant}"
    if not isinstance(label, Tensor):
        return torch.full((batch,), check_int(name, label, 0, last), device=device)
    if label.dtype != torch.int64:
        refuse(name, label, expected, TypeError)
    if label.shape != (batch,):
        refuse(name, label, expected)
    if batch and not 0 <= int(label.min()) <= int(label.max()) <= last:
        refuse(name, label.tolist(), expected)
    return label.to(device)


def check_times(name: str, t: Any, batch: int, T: int) -> Tensor:
    """Return `t` if it is int64 of shape (batch,) with values in 1..T, else TypeError or ValueError."""
    if not isinstance(t, Tensor) or t.dtype != torch.int64:
        refuse(name, t, f"an int64 tensor of shape ({batch},)", TypeError)
    if t.shape != (batch,) or (len(t) and not 1 <= int(t.min()) <= int(t.max()) <= T):
        refuse(name, t.tolist(), f"shape ({batch},), times from 1 to {T}")
    return t
