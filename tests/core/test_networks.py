"""Noise predictors keep their promises: shapes, labels, times, what a v-network means, and what they refuse."""

import pytest
import torch

from lessons_src.networks import UNET_PRESETS, DigitClassifier, PointMLP, UNet
from lessons_src.process import eps_from_velocity
from lessons_src.schedules import cosine, linear


def unet(prediction="eps", preset="small", schedule=None):
    torch.manual_seed(0)
    net = UNet(schedule or cosine(), prediction=prediction, **UNET_PRESETS[preset])
    for parameter in net.parameters():  # the last layer starts at zero: move everything away from special values
        parameter.data += 0.02 * torch.randn(parameter.shape)
    return net.eval()


def digits(n=3):
    return torch.randn(n, 1, 28, 28, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("preset", "millions"), [("small", 0.25), ("base", 1.0), ("large", 2.0)])
def test_presets_have_the_sizes_they_are_for(preset, millions):
    size = sum(parameter.numel() for parameter in UNet(cosine(), **UNET_PRESETS[preset]).parameters())
    assert size == pytest.approx(1e6 * millions, rel=0.15)


def test_classifier_size_and_features():
    net = DigitClassifier().eval()
    assert sum(parameter.numel() for parameter in net.parameters()) == pytest.approx(0.1e6, rel=0.3)
    assert net.features(digits()).shape == (3, 64)
    assert net(digits()).shape == (3, 10)


@torch.no_grad()
def test_label_none_is_the_null_label_and_labels_matter():
    net, x, t = unet(), digits(), torch.tensor([1, 500, 1000])
    assert net(x, t).shape == x.shape
    assert torch.equal(net(x, t), net(x, t, 10))
    assert torch.equal(net(x, t, 3), net(x, t, torch.tensor([3, 3, 3])))
    assert (net(x, t, 3) - net(x, t, 4)).abs().max() > 1e-3


@torch.no_grad()
def test_every_time_gives_another_answer():
    net, x = unet(), digits(1)
    answers = torch.cat([net(x, torch.tensor([t])) for t in (1, 2, 10, 11, 500, 501, 999, 1000)]).flatten(1)
    gaps = torch.pdist(answers)
    assert gaps.min() > 1e-4, "a dead or too coarse time embedding"


@torch.no_grad()
def test_samples_of_a_batch_do_not_influence_each_other():
    net, x, t = unet(), digits(), torch.tensor([7, 300, 900])
    label = torch.tensor([1, 10, 9])
    alone = torch.cat([net(x[i : i + 1], t[i : i + 1], label[i : i + 1]) for i in range(3)])
    assert torch.allclose(net(x, t, label), alone, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("schedule", [linear(), cosine()], ids=lambda schedule: schedule.name)
def test_a_velocity_network_returns_the_noise_its_velocity_stands_for(schedule):
    net, x, t = unet("v", schedule=schedule), digits(), torch.tensor([1, 500, 1000])
    v = net.output(x, t, torch.full((3,), 10))
    assert torch.allclose(net(x, t), eps_from_velocity(x, v, schedule.alpha_bar[t]), atol=1e-5)


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_the_perfect_output_hits_the_target(prediction):
    torch.manual_seed(0)
    net = PointMLP(cosine(), prediction=prediction)
    x0, eps, t = torch.randn(4, 2), torch.randn(4, 2), torch.tensor([1, 300, 600, 1000])
    signal, noise = net.coefficients(t, x0)
    net.body = lambda x, condition: net.target(x0, eps, t)
    assert torch.allclose(net(signal * x0 + noise * eps, t), eps, atol=1e-5)


def test_gradients_reach_every_parameter():
    net, label = unet("v"), torch.tensor([0, 1, 10])
    net.output(digits(), torch.tensor([5, 500, 995]), label).square().sum().backward()
    dead = [name for name, parameter in net.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert dead == []


@pytest.mark.parametrize(
    ("call", "kind", "named"),
    [
        (lambda net: net(digits(), torch.tensor([0, 1, 2])), ValueError, "t is"),
        (lambda net: net(digits(), torch.tensor([1, 2, 1001])), ValueError, "times from 1 to 1000"),
        (lambda net: net(digits(), torch.tensor([1, 2])), ValueError, "t is"),
        (lambda net: net(digits(), torch.tensor([1.0, 2.0, 3.0])), ValueError, "int64"),
        (lambda net: net(digits(), torch.tensor([1, 2, 3]), 11), ValueError, "label is 11"),
        (lambda net: net(digits().long(), torch.tensor([1, 2, 3])), TypeError, "x is"),
        (lambda net: UNet(cosine(), prediction="score"), ValueError, "prediction is 'score'"),
        (lambda net: UNet(cosine(), channels=(10, 20)), ValueError, "channels is"),
        (lambda net: net(torch.zeros(1, 1, 32, 32), torch.tensor([1])), ValueError, r"shape \(B, 1, 28, 28\)"),
        (lambda net: net(torch.zeros(1, 3, 28, 28), torch.tensor([1])), ValueError, r"shape \(B, 1, 28, 28\)"),
        (lambda net: net(digits(1), 5), ValueError, "t is 5"),
        (lambda net: PointMLP(cosine())(torch.zeros(2, 3), torch.tensor([1, 2])), ValueError, r"shape \(B, 2\)"),
    ],
)
def test_refusals(call, kind, named):
    with pytest.raises(kind, match=named):
        call(unet())
