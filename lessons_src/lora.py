"""Low-rank adapters (Hu et al. 2021, "LoRA"): a change of every layer that takes kilobytes, and can be plugged in.

A weight W (outputs, inputs) becomes W + up down, with down (r, inputs) and up (outputs, r), equation 3; of a
convolution, inputs counts its window. `adapt` gives a network such a change to train, `adapter` takes it out, `plug`
puts it into another network of the same shapes, and `merge` adds it to the weights, after which it costs nothing.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lessons_src.checks import check_floating, check_int, refuse

Adapter = Mapping[str, Tensor]


class LowRank(nn.Module):
    """A fixed Conv2d or Linear with a trainable change of rank r, at most the weight's own; it begins as no change.

    Raises TypeError for other layers, ValueError for convolutions in groups, or padded with anything but zeros.
    """

    def __init__(self, layer: nn.Conv2d | nn.Linear, rank: int) -> None:
        super().__init__()
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            refuse("layer", type(layer).__name__, "a Conv2d or a Linear", TypeError)
        if isinstance(layer, nn.Conv2d) and (layer.groups != 1 or layer.padding_mode != "zeros"):
            refuse("layer", layer, "a convolution of one group that is padded with zeros")
        outputs, inputs = layer.weight.flatten(1).shape
        rank = min(check_int("rank", rank, 1), outputs, inputs)
        self.layer = layer.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(rank, inputs) / inputs**0.5)
        self.up = nn.Parameter(torch.zeros(outputs, rank))

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output, and that of the change: first down to r channels, then up."""
        if isinstance(self.layer, nn.Linear):
            return self.layer(x) + F.linear(F.linear(x, self.down), self.up)
        conv = self.layer
        narrow = F.conv2d(x, self.down.view(-1, *conv.weight.shape[1:]), None, conv.stride, conv.padding, conv.dilation)
        return conv(x) + F.conv2d(narrow, self.up[:, :, None, None])

    def merged(self) -> nn.Conv2d | nn.Linear:
        """A copy of the layer with the weight W + up down."""
        layer = copy.deepcopy(self.layer).requires_grad_(True)
        with torch.no_grad():
            layer.weight += (self.up @ self.down).view_as(layer.weight)
        return layer


def adapt(net: nn.Module, rank: int) -> nn.Module:
    """A copy of a network in which every Conv2d and Linear is fixed and has a trainable change; the rest is fixed.

    Raises ValueError for a network that has changes already, or no such layer inside.
    """
    adapted = copy.deepcopy(_module(net)).requires_grad_(False)
    if any(isinstance(module, LowRank) for module in adapted.modules()):
        refuse("net", type(net).__name__, "a network without an adapter: `merge` first")
    layers = list(_layers(adapted, (nn.Conv2d, nn.Linear)))
    if not layers:
        refuse("net", type(net).__name__, "a network with a Conv2d or Linear inside")
    for parent, name, layer in layers:
        setattr(parent, name, LowRank(layer, rank))
    return adapted


def adapter(net: nn.Module) -> dict[str, Tensor]:
    """The changes of an adapted network, by layer: NAME.down (r, inputs) and NAME.up (outputs, r)."""
    found = {
        f"{name}.{part}": getattr(module, part).detach().clone()
        for name, module in _module(net).named_modules()
        if isinstance(module, LowRank)
        for part in ("down", "up")
    }
    if not found:
        refuse("net", type(net).__name__, "a network from `adapt`")
    return found


@torch.no_grad()
def extract(net: nn.Module, tuned: nn.Module, rank: int) -> dict[str, Tensor]:
    """The changes of rank r nearest to what training did to the weights of a network, by singular value decomposition.

    Only weights of Conv2d and Linear are looked at; biases, norms and embeddings stay the network's.
    """
    check_int("rank", rank, 1)
    before, after = (dict(_named(_module(one))) for one in (net, tuned))
    if {name: layer.weight.shape for name, layer in before.items()} != {
        name: layer.weight.shape for name, layer in after.items()
    }:
        refuse("tuned", type(tuned).__name__, "a network with layers of the names and shapes of net's")
    found = {}
    for name, layer in before.items():
        change = (after[name].weight - layer.weight).flatten(1)
        if not change.isfinite().all():
            refuse(f"tuned, {name}", after[name].weight, "finite weights, as net's must be")
        u, s, v = torch.linalg.svd(change, full_matrices=False)
        found[f"{name}.down"], found[f"{name}.up"] = v[:rank], u[:, :rank] * s[:rank]
    return found


def plug(net: nn.Module, changes: Adapter) -> nn.Module:
    """A copy of a network with these changes, in the precision of its weights.

    Raises ValueError if they are not of its layers' names and shapes, or not finite.
    """
    plugged = copy.deepcopy(_module(net)).requires_grad_(False)
    places = dict(_named(plugged))
    if not isinstance(changes, Mapping):
        refuse("changes", type(changes).__name__, "changes by NAME.down and NAME.up", TypeError)
    names = {f"{name}.{part}" for name in places for part in ("down", "up")}
    if names != set(changes):
        expected = "changes of just the layers of the network, NAME.down and NAME.up"
        refuse("changes", sorted(names ^ set(changes)), expected)
    for name, value in changes.items():
        if not check_floating(f"changes, {name},", value).isfinite().all():
            refuse(f"changes, {name},", value, "finite values")
    for parent, name, layer in list(_layers(plugged, (nn.Conv2d, nn.Linear))):
        full = next(key for key, module in places.items() if module is layer)
        down, up = changes[f"{full}.down"], changes[f"{full}.up"]
        outputs, inputs = layer.weight.flatten(1).shape
        if down.shape[1:] != (inputs,) or up.shape != (outputs, len(down)):
            refuse(f"changes, {full}.down", down, f"shape (r, {inputs}), and .up of ({outputs}, r): those of the layer")
        low = LowRank(layer, len(down))
        low.down, low.up = (nn.Parameter(part.to(layer.weight, copy=True)) for part in (down, up))
        setattr(parent, name, low)
    return plugged


def merge(net: nn.Module) -> nn.Module:
    """A copy of an adapted network with the changes added to its weights: as fast as before, and as large."""
    merged = copy.deepcopy(_module(net))
    changed = list(_layers(merged, (LowRank,)))
    if not changed:
        refuse("net", type(net).__name__, "a network from `adapt` or `plug`, not merged yet")
    for parent, name, low in changed:
        setattr(parent, name, low.merged())
    return merged.requires_grad_(True)


def _module(net: Any) -> nn.Module:
    if not isinstance(net, nn.Module):
        refuse("net", net, "a network", TypeError)
    return net


def _named(net: nn.Module) -> Iterator[tuple[str, Any]]:
    """(name, layer) of every Conv2d and Linear."""
    return ((name, layer) for name, layer in net.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear))


def _layers(net: nn.Module, kinds: tuple[type, ...]) -> Iterator[tuple[nn.Module, str, Any]]:
    """(parent, name, layer) of every such layer that is not inside another one."""
    for name, child in net.named_children():
        if isinstance(child, kinds):
            yield net, name, child
        else:
            yield from _layers(child, kinds)
