"""How arguments and answers travel between a grader and a learner's process: JSON with base64, nothing else.

Arguments may be tensors, int, float, bool (of numpy, too), str, None, lists and tuples of these, and three objects that
are rebuilt on the other side: a `torch.Generator` (from the seed it was given), a `NoiseSchedule`, and an
`OracleNetwork`, the exact predictor net(x, t, label=None). An answer may be any of the plain ones. Nothing that arrives
is ever executed, and nothing of unexpected form or size gets past `decode`.
"""

import base64
import math
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lessons_src.checks import refuse
from lessons_src.oracle import GaussianMixture, OracleNetwork
from lessons_src.schedules import NoiseSchedule

MAX_BYTES = 4 << 20  # of all tensors in one value
MAX_ITEMS = 20_000  # lists and their entries in one value
MAX_DEPTH = 4
DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in (
    torch.float64, torch.float32, torch.float16, torch.bfloat16,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
)}  # fmt: skip


def encode(value: Any) -> Any:
    """Return `value` as something that `json.dumps` takes.

    Raises TypeError for a value outside the vocabulary above, ValueError for one above the limits on size and depth.
    """
    return _encode(value, _Budget())


def decode(data: Any, plain: bool = False) -> Any:
    """Return the value that `encode` turned into `data`; `plain` refuses objects, as for an answer.

    Raises ValueError for data that `encode` would not have made, whatever they are.
    """
    try:
        return _decode(data, plain, _Budget())
    except (TypeError, KeyError, AttributeError, RuntimeError, OverflowError) as error:
        raise ValueError(f"data are malformed: {error}") from None


class _Budget:
    """What is left of the limits while a value is read or written."""

    def __init__(self) -> None:
        self.bytes, self.items = MAX_BYTES, MAX_ITEMS

    def spend(self, depth: int, size: int = 0) -> None:
        self.bytes, self.items = self.bytes - size, self.items - 1
        if min(self.bytes, self.items, MAX_DEPTH - depth) < 0:
            raise ValueError(f"a value of more than {MAX_BYTES} bytes, {MAX_ITEMS} entries, or {MAX_DEPTH} levels")


def _encode(value: Any, budget: _Budget, depth: int = 0) -> Any:
    if isinstance(value, Tensor):
        budget.spend(depth, value.numel() * value.element_size())
        return {"tensor": _encode_tensor(value)}
    budget.spend(depth, len(value) if isinstance(value, str) else 0)
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, Integral):
        if abs(int(value)) >= 1 << 63:
            raise ValueError("an int of 2**63 or more in size")
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, list | tuple):
        entries = [_encode(entry, budget, depth + 1) for entry in value]
        return entries if isinstance(value, list) else {"tuple": entries}
    if isinstance(value, torch.Generator):
        return {"generator": value.initial_seed()}
    if isinstance(value, NoiseSchedule):
        return {"schedule": [_encode_tensor(value.alpha_bar), value.name]}
    if isinstance(value, OracleNetwork):
        mixture = value.mixture
        parts = (mixture.weights, mixture.means, mixture.covariances, mixture.labels, value.schedule.alpha_bar)
        return {"network": [_encode_tensor(part) for part in parts]}
    kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    raise TypeError(f"a value of type {kind}; expected a tensor, a number, or a list or tuple of them")


def _encode_tensor(tensor: Tensor) -> list:
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype not in DTYPES or tensor.layout != torch.strided or tensor.device.type != "cpu":
        kind = f"{dtype}, {tensor.layout}".removesuffix(", torch.strided")
        raise TypeError(f"a tensor of {kind} on {tensor.device}; expected a dense real tensor on cpu")
    flat = tensor.detach().resolve_neg().contiguous().reshape(-1)
    content = flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
    return [dtype, list(tensor.shape), base64.b64encode(content).decode()]


def _decode(data: Any, plain: bool, budget: _Budget, depth: int = 0) -> Any:
    budget.spend(depth, len(data) if isinstance(data, str) else 0)
    if data is None or isinstance(data, bool | float | str):
        return data
    if isinstance(data, int):
        return data if abs(data) < 1 << 63 else refuse("int", "too large", "less than 2**63 in size")
    if isinstance(data, list):
        return [_decode(entry, plain, budget, depth + 1) for entry in data]
    if not isinstance(data, dict) or len(data) != 1:
        refuse("data", type(data).__name__, "a plain value or one tagged object")
    [(tag, content)] = data.items()
    if tag == "tensor":
        return _decode_tensor(content, budget)
    if tag == "tuple" and isinstance(content, list):
        return tuple(_decode(entry, plain, budget, depth + 1) for entry in content)
    if not plain and tag == "generator":
        return torch.Generator().manual_seed(content)
    if not plain and tag == "schedule":
        return NoiseSchedule(_decode_tensor(content[0], budget), content[1])
    if not plain and tag == "network":
        *mixture, labels, alpha_bar = [_decode_tensor(part, budget) for part in content]
        return GaussianMixture(*mixture, labels.tolist()).network(NoiseSchedule(alpha_bar))
    refuse("tag", tag, "one that the wire knows")


def _decode_tensor(content: Any, budget: _Budget) -> Tensor:
    name, shape, text = content
    dtype = DTYPES[name]
    if not isinstance(shape, list) or len(shape) > 16 or not all(type(n) is int and 0 <= n < 1 << 32 for n in shape):
        refuse("shape", type(shape).__name__, "a short list of sizes")
    size = math.prod(shape) * dtype.itemsize
    budget.spend(0, size)
    if not isinstance(text, str) or len(text) != (size + 2) // 3 * 4:
        refuse("tensor", type(text).__name__, f"the base64 text of {size} bytes")
    content = bytearray(base64.b64decode(text, validate=True))
    if len(content) != size:
        refuse("tensor", len(content), f"{size} bytes")
    if not size:
        return torch.empty(shape, dtype=dtype)
    flat = torch.frombuffer(content, dtype=torch.uint8)
    return (flat != 0 if dtype == torch.bool else flat.view(dtype)).reshape(shape)
