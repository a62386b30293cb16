"""Muon's update is what it says, reaches the optimum of a simple problem, and the parameters are shared out once."""

import pytest
import torch
from torch import nn

from lessons_src.networks import PointMLP, UNet
from lessons_src.optimizers import Muon, make_optimizers, orthogonal


@pytest.mark.parametrize("shape", [(8, 8), (6, 30), (30, 6)])
def test_update_keeps_directions_and_levels_their_sizes(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
    core = u.T @ orthogonal(matrix) @ vt.T  # diagonal in the same directions
    sizes = core.diagonal()
    assert (core - sizes.diag()).abs().max() < 1e-9
    assert ((sizes > 0.6) & (sizes < 1.3))[s > 0.05 * s[0]].all()


def test_muon_finds_the_least_squares_solution():
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(50, 6, generator=generator)
    wanted = torch.randn(4, 6, generator=generator)
    weight = torch.zeros(4, 6, requires_grad=True)
    optimizer = Muon([weight], lr=0.1)
    for step in range(400):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 400)
        loss = (a @ (weight - wanted).T).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (weight - wanted).abs().max() < 0.02


@pytest.mark.parametrize(("net", "count"), [(UNet(), 2), (PointMLP(), 1)])
def test_every_parameter_has_exactly_one_optimizer(net, count):
    optimizers = make_optimizers(net, 1e-3)
    assert len(optimizers) == count
    owned = [id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
    assert sorted(owned) == sorted(id(p) for p in net.parameters())


class Convolutions(nn.Module):
    """Weights for Muon alone, one of them not used."""

    def __init__(self):
        super().__init__()
        self.used, self.unused = (nn.Conv2d(1, 1, 3, bias=False) for _ in range(2))


def test_a_layer_that_is_not_used_stays_as_it_is_and_no_optimiser_need_have_weights():
    torch.manual_seed(0)
    net = Convolutions()
    before = [weight.clone() for weight in net.parameters()]
    (muon,) = make_optimizers(net, 0.1)
    net.used(torch.ones(1, 1, 3, 3)).sum().backward()
    muon.step()
    assert not torch.equal(net.used.weight, before[0])
    assert torch.equal(net.unused.weight, before[1])


def test_a_network_that_cannot_learn_is_refused():
    with pytest.raises(ValueError, match="net is 'Convolutions'; expected a network with weights that require"):
        make_optimizers(Convolutions().requires_grad_(False), 0.1)
