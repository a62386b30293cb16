"""Low-rank changes: of full rank they are any change, merged they are what was plugged in, and shapes are checked."""

import copy

import pytest
import torch
from torch import nn

from lessons_src.lora import LowRank, adapt, adapter, extract, merge, plug
from lessons_src.losses import Denoising, Samples
from lessons_src.networks import NoisePredictor, PointMLP, UNet
from lessons_src.schedules import make_schedule
from lessons_src.training import Recipe, Trainer, train

COSINE = make_schedule("cosine")


def network(seed=0, channels=(16, 24)):
    torch.manual_seed(seed)
    net = NoisePredictor(UNet(10, channels, (1, 8, 8)), COSINE, "v")
    with torch.no_grad():
        for weight in net.parameters():  # some layers begin at zero
            weight += 0.02 * torch.randn_like(weight)
    return net


def given(n=5):
    return torch.randn(n, 1, 8, 8), torch.full((n,), 300), torch.arange(n)


def shaken(net, size=0.1):
    """An adapted network with changes that are not zero."""
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, LowRank):
                module.up.normal_().mul_(size)
    return net


def test_an_adapter_begins_as_no_change_and_alone_is_trained():
    net = network()
    adapted = adapt(net, 4)
    x, t, label = given()
    assert torch.allclose(adapted(x, t, label), net(x, t, label), atol=1e-6)
    trained = [name for name, weight in adapted.named_parameters() if weight.requires_grad]
    assert {name.rpartition(".")[2] for name in trained} == {"down", "up"}
    assert all(weight.requires_grad for weight in net.parameters()), "the network itself is left as it was"


@pytest.mark.parametrize(
    "layer",
    [nn.Linear(7, 5), nn.Conv2d(3, 6, 3, padding=1, stride=2), nn.Conv2d(3, 4, 3, dilation=2), nn.Conv2d(4, 2, 1)],
    ids=str,
)
def test_full_rank_is_every_change(layer):
    """Singular values and vectors of any difference fit into it, and then the layer is the other one."""
    other = type(layer)(**wanted(layer))
    difference = (other.weight - layer.weight).flatten(1)
    low = LowRank(layer, 1000)
    u, s, v = torch.linalg.svd(difference, full_matrices=False)
    assert low.down.shape[0] == min(difference.shape)
    with torch.no_grad():
        low.up.copy_(u * s)
        low.down.copy_(v)
        low.layer.bias.copy_(other.bias)
    x = torch.randn(3, 7) if isinstance(layer, nn.Linear) else torch.randn(3, layer.in_channels, 9, 9)
    assert torch.allclose(low(x), other(x), atol=1e-5)


def wanted(layer):
    if isinstance(layer, nn.Linear):
        return {"in_features": layer.in_features, "out_features": layer.out_features}
    return {
        "in_channels": layer.in_channels,
        "out_channels": layer.out_channels,
        "kernel_size": layer.kernel_size,
        "stride": layer.stride,
        "padding": layer.padding,
        "dilation": layer.dilation,
    }


@pytest.mark.parametrize("rank", [1, 3, 200])
def test_merged_is_plugged_in_to_a_millionth(rank):
    x, t, label = given()
    adapted = shaken(adapt(network(0), rank))
    other = network(1)
    plugged = plug(other, adapter(adapted))
    merged = merge(plugged)
    assert (plugged(x, t, label) - merged(x, t, label)).abs().max() < 1e-6 * plugged(x, t, label).abs().max().clamp(
        min=1
    )
    assert (plugged(x, t, label) - other(x, t, label)).abs().max() > 1e-3
    assert {name: value.shape for name, value in merged.state_dict().items()} == {
        name: value.shape for name, value in other.state_dict().items()
    }
    assert torch.equal(plug(network(0), adapter(adapted))(x, t, label), adapted(x, t, label))


def test_merging_and_taking_out_leave_the_network_as_it_was():
    """Merged twice from one network, a change is in the weights once; the merged one may be trained again."""
    given_to, adapted = given(), shaken(adapt(network(0), 3))
    before, changes = adapted(*given_to), adapter(adapted)
    kept = {name: value.clone() for name, value in changes.items()}
    merged, again = merge(adapted), merge(adapted)
    assert all(isinstance(module, LowRank) for module in (adapted.body.enter, adapted.body.up[0].conv1))
    assert torch.equal(merged(*given_to), again(*given_to))
    assert torch.equal(adapted(*given_to), before)
    assert all(weight.requires_grad for weight in merged.parameters())
    shaken(adapted, 0.5)
    assert all(torch.equal(kept[name], value) for name, value in changes.items())


def test_an_adapter_takes_on_the_precision_of_the_network():
    changes = adapter(shaken(adapt(network(0), 3)))
    half = {name: value.half() for name, value in changes.items()}
    assert torch.allclose(plug(network(0), half)(*given()), plug(network(0), changes)(*given()), atol=0.05)


def test_what_training_did_is_extracted():
    """At full rank all of it but biases and embeddings; at a lower one, as near as any of that rank can be."""
    net, tuned, x = network(0), network(1), given()
    whole = copy.deepcopy(net)
    for name, value in tuned.named_parameters():
        if name.endswith("weight") and ("conv" in name or "enter" in name):
            dict(whole.named_parameters())[name].data.copy_(value)
    assert torch.allclose(plug(net, extract(net, whole, 999))(*x), whole(*x), atol=1e-4)
    changes = extract(net, whole, 3)
    difference = (whole.body.enter.weight - net.body.enter.weight).detach().flatten(1)
    left = difference - changes["body.enter.up"] @ changes["body.enter.down"]
    assert left.norm() == pytest.approx(torch.linalg.svdvals(difference)[3:].norm().item(), rel=1e-3)
    with pytest.raises(ValueError, match="tuned is 'NoisePredictor'; expected a network with layers"):
        extract(net, network(0, (8, 16)), 2)


def test_a_low_rank_change_has_that_rank():
    adapted = shaken(adapt(network(), 2))
    before, after = network().body.up[0].conv1.weight, merge(adapted).body.up[0].conv1.weight
    assert torch.linalg.matrix_rank((after - before).flatten(1), rtol=1e-3) == 2


def test_the_trainer_trains_changes_only():
    net, x = NoisePredictor(PointMLP(), COSINE, "v"), torch.randn(50, 2)
    adapted = adapt(net, 2)
    trained = train(Trainer(adapted, Denoising(), Samples(x), Recipe(5, 10, 1e-2, warmup=1)))
    assert torch.equal(trained.body.enter.layer.weight, net.body.enter.weight)
    assert trained.body.layers[1].up.abs().max() > 0
    assert adapt(network(), 1).body.label.weight.requires_grad is False


def test_adapters_of_other_shapes_are_refused_by_name():
    changes = adapter(adapt(network(0), 2))
    with pytest.raises(ValueError, match=r"changes, body\.\S+\.down is .*expected shape \(r, "):
        plug(network(0, (8, 16)), changes)
    with pytest.raises(ValueError, match=r"changes is \['body\..*expected changes of just the layers"):
        plug(NoisePredictor(PointMLP(), COSINE, "v"), changes)
    with pytest.raises(ValueError, match="net is 'NoisePredictor'; expected a network from `adapt`"):
        adapter(network())
    with pytest.raises(ValueError, match="rank is 0"):
        adapt(network(), 0)
    name, value = next(iter(changes.items()))
    others = {
        "expected changes of just the layers of the network, NAME.down": {
            n: v for n, v in changes.items() if n != name
        },
        r"changes is \['more'\]": changes | {"more": value},
        "expected finite values": changes | {name: value / 0},
        "expected a floating-point tensor": changes | {name: value.tolist()},
        "changes is 'NoneType'": None,
    }
    for message, wrong in others.items():
        with pytest.raises((ValueError, TypeError), match=message):
            plug(network(0), wrong)


def test_networks_that_have_nothing_to_adapt_or_to_merge_are_refused_by_name():
    adapted, broken = adapt(network(), 2), network()
    broken.body.enter.weight.data.fill_(float("nan"))
    cases = [
        (lambda: adapt(adapted, 2), "net is 'NoisePredictor'; expected a network without an adapter: `merge` first"),
        (lambda: adapt(nn.Sequential(nn.ReLU()), 2), "net is 'Sequential'; expected a network with a Conv2d or Linear"),
        (lambda: adapt(None, 2), "net is None; expected a network"),
        (lambda: merge(merge(adapted)), "net is 'NoisePredictor'; expected a network from `adapt` or `plug`, not merg"),
        (lambda: extract(network(), broken, 2), "tuned, body.enter is .*expected finite weights"),
        (lambda: LowRank(nn.Embedding(3, 4), 2), "layer is 'Embedding'; expected a Conv2d or a Linear"),
        (lambda: LowRank(nn.ConvTranspose2d(3, 4, 2), 2), "layer is 'ConvTranspose2d'; expected a Conv2d or a Linear"),
    ]
    for case, message in cases:
        with pytest.raises((ValueError, TypeError), match=message):
            case()


@pytest.mark.parametrize(
    "layer",
    [nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular")],
    ids=["groups", "mode"],
)
def test_convolutions_whose_change_would_be_another_one_are_refused(layer):
    with pytest.raises(ValueError, match=r"layer is Conv2d.*; expected a convolution of one group that is padded with"):
        LowRank(layer, 2)
