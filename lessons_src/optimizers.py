"""Muon for inner matrices, AdamW for the rest: about twice the progress a second of AdamW alone on the digits."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from lessons_src.checks import refuse


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal, so that every direction of a weight matrix moves equally far.

    For weights of two axes or more, flattened to (outputs, rest). K. Jordan et al. 2024, "Muon: an optimizer for hidden
    layers in neural networks": the update is U V^T of the singular value decomposition U S V^T of the momentum.
    """

    def __init__(self, weights: Iterable[Tensor], lr: float, momentum: float = 0.95) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override] # no closure: nothing here evaluates twice
        """Move every weight by lr times its orthogonal update, tall matrices a little more than wide ones."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:  # a layer that the network has and does not use
                    continue
                state = self.state[weight]
                if not state:
                    state["average"] = torch.zeros_like(weight)
                average = state["average"]
                average.lerp_(weight.grad, 1 - group["momentum"])
                update = orthogonal(weight.grad.lerp(average, group["momentum"]).flatten(1))
                scale = max(1.0, update.shape[0] / update.shape[1]) ** 0.5
                weight.add_(update.view_as(weight), alpha=-group["lr"] * scale)


def orthogonal(matrix: Tensor, iterations: int = 5) -> Tensor:
    """Approximately U V^T for a matrix U S V^T (rows, columns), by Newton-Schulz steps with Jordan's coefficients.

    The singular values of the result lie between about 0.7 and 1.2, which is close enough for an update.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = wide / (wide.norm() + 1e-7)
    for _ in range(iterations):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if matrix.shape[0] <= matrix.shape[1] else x.T


def make_optimizers(net: nn.Module, learning_rate: float) -> list[torch.optim.Optimizer]:
    """Muon at ten times the learning rate for inner matrices; fused AdamW for everything else; each if it has any.

    Inner are convolutions, but of layers called `enter` or `leave`, and the matrices of a transformer's `attention`,
    `cross` and `mlp`, but of `time`. Fixed weights are left out. Raises ValueError if all are.
    """
    inner: list[Tensor] = []
    rest: list[Tensor] = []
    for name, weight in net.named_parameters():
        if not weight.requires_grad:
            continue
        layers = set(name.split("."))
        convolution = weight.ndim == 4 and not layers & {"enter", "leave"}
        matrix = weight.ndim == 2 and layers & {"attention", "cross", "mlp"} and "time" not in layers
        (inner if convolution or matrix else rest).append(weight)
    if not inner and not rest:
        refuse("net", type(net).__name__, "a network with weights that require gradients")
    found: list[torch.optim.Optimizer] = []
    if rest:
        found.append(torch.optim.AdamW(rest, lr=learning_rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True))
    if inner:
        found.append(Muon(inner, lr=10 * learning_rate))
    return found
