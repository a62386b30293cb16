"""One training step as a CUDA graph: Muon and Adam with rates on the device, gradients clipped, an average kept."""

import copy
import time
from collections import defaultdict
from collections.abc import Callable

import torch
from torch import Tensor, nn

ADAM = ("enter", "leave", "word", "place", "time", "summary", "film", "modulate")  # not Muon's, by name
CLIP = 1.0


class Optimizer:
    """Muon at ten times the rate for inner matrices, Adam for the rest; nothing in a step waits for the host.

    `set` writes rate and averaging into tensors that the step reads, so that a recorded step obeys them too. Muon
    orthogonalises all matrices of one shape at once, which saves most of its launches.
    """

    def __init__(self, net: nn.Module, betas: tuple[float, float] = (0.9, 0.99), momentum: float = 0.95) -> None:
        self.net, self.betas, self.momentum = net, betas, momentum
        self.average = copy.deepcopy(net).requires_grad_(False)
        self.parameters = list(net.parameters())
        self.means = list(self.average.parameters())
        device = self.parameters[0].device
        self.hyper = torch.zeros(2, device=device)
        self.rate, self.share = self.hyper[0], self.hyper[1]
        self.faded = torch.ones(2, device=device)  # what is left of the moments' zeros, for Adam's correction
        self.fade = torch.tensor(betas, device=device)
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        self.rest: list[int] = []
        for i, (name, weight) in enumerate(net.named_parameters()):
            if weight.ndim in (2, 4) and not any(part in ADAM for part in name.split(".")):
                groups[tuple(weight.flatten(1).shape)].append(i)
            else:
                self.rest.append(i)
        self.groups = [(members, torch.zeros(len(members), *shape, device=device)) for shape, members in groups.items()]
        self.first = [torch.zeros_like(self.parameters[i]) for i in self.rest]
        self.second = [torch.zeros_like(self.parameters[i]) for i in self.rest]

    def set(self, rate: float, decay: float) -> None:
        """Rate of Adam and decay of the average from the next step on; called outside a recorded step."""
        self.hyper.copy_(torch.tensor([rate, 1 - decay]), non_blocking=False)

    @torch.no_grad()
    def step(self, loss: Tensor) -> None:
        gradients = list(torch.autograd.grad(loss, self.parameters))
        norm = torch.stack(torch._foreach_norm(gradients)).norm()
        torch._foreach_mul_(gradients, CLIP / norm.clamp(min=CLIP))
        self.faded *= self.fade
        seen = 1 - self.faded
        mine, taken = [self.parameters[i] for i in self.rest], [gradients[i] for i in self.rest]
        torch._foreach_lerp_(self.first, taken, 1 - self.betas[0])
        torch._foreach_mul_(self.second, self.betas[1])
        torch._foreach_addcmul_(self.second, taken, taken, 1 - self.betas[1])
        below = torch._foreach_sqrt(self.second)
        torch._foreach_mul_(below, seen[1].rsqrt())
        torch._foreach_add_(below, 1e-8)
        change = torch._foreach_div(self.first, below)
        torch._foreach_mul_(change, self.rate / seen[0])
        torch._foreach_sub_(mine, change)
        for members, momentum in self.groups:
            gradient = torch.stack([gradients[i].flatten(1) for i in members])
            momentum.lerp_(gradient, 1 - self.momentum)
            update = orthogonal(gradient.lerp(momentum, self.momentum))
            scale = 10 * max(1.0, update.shape[1] / update.shape[2]) ** 0.5
            update = update * (self.rate * scale)
            weights = [self.parameters[i] for i in members]
            parts = zip(update.unbind(0), weights, strict=True)
            torch._foreach_sub_(weights, [part.view_as(weight) for part, weight in parts])
        apart = torch._foreach_sub(self.parameters, self.means)
        torch._foreach_mul_(apart, self.share)
        torch._foreach_add_(self.means, apart)


def orthogonal(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Approximately U V^T of each matrix U S V^T of (n, rows, columns), by Newton-Schulz steps (K. Jordan 2024)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.square().sum((1, 2), keepdim=True).sqrt() + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


def wait(device: torch.device) -> None:
    """Until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def recorded(
    step: Callable[[], None], generators: list[torch.Generator], device: torch.device
) -> tuple[Callable[[], object], str]:
    """`step` as a CUDA graph after three calls, or as it comes where that fails; and how it is, in words."""
    if device.type != "cuda":
        return step, "as it comes"
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    try:
        graph = torch.cuda.CUDAGraph()
        for generator in generators:
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph):
            step()
        graph.replay()
        torch.cuda.synchronize()
        return graph.replay, "CUDA graph"
    except Exception as error:
        torch.cuda.synchronize()
        return step, f"as it comes, recording failed: {type(error).__name__}: {str(error)[:300]}"


class Pace:
    """Rate and averaging by the share of the time that is gone: warm-up, constant to 60 %, then linear to zero."""

    def __init__(self, rate: float, decay: float, began: float, until: float, most: int) -> None:
        self.rate, self.decay, self.began, self.until, self.most = rate, decay, began, until, most

    def gone(self, done: int) -> float:
        """0 at the beginning, 1 at the end, of the time or of the steps, whichever is further."""
        return min(1.0, max((time.time() - self.began) / max(self.until - self.began, 1e-3), done / self.most))

    def now(self, done: int) -> tuple[float, float]:
        """The rate and the decay after so many steps."""
        ramp = min(1.0, (done + 1) / 200)
        fall = min(1.0, (1 - self.gone(done)) / 0.4)
        return self.rate * ramp * max(fall, 0.0), min(self.decay, (1 + done) / (10 + done))
