"""Classifier-free guidance: the blend, what the special scales cost, and its identity with an exact classifier."""

import math

import pytest
import torch
from diffusers.guiders.guider_utils import rescale_noise_cfg
from drawn import draws
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lessons_src.guidance import blend, classifier_free, rescale
from lessons_src.oracle import GaussianMixture
from lessons_src.samplers import Counted, ddim, sample
from lessons_src.schedules import linear, time_grid

LINEAR = linear()


class Recorder:
    """A network that answers with label + 1 everywhere, with 4 to no label, and remembers what it was given."""

    def __init__(self) -> None:
        self.conditions: list[object] = []

    def __call__(self, x: Tensor, t: Tensor, label: int | Tensor | None = None) -> Tensor:
        self.conditions.append(label)
        answer = torch.as_tensor(3 if label is None else label) + 1
        return answer.to(x).reshape(-1, *[1] * (x.ndim - 1)).expand_as(x)


@given(st.floats(-50, 50), st.sampled_from([(2, 2), (2, 1, 28, 28), (2, 3, 4, 5, 6)]))
def test_blend(w, shape):
    eps_u, eps_c = draws(*shape), draws(*shape, seed=1)
    guided = blend(eps_u, eps_c, w)
    assert torch.allclose(guided, (1 - w) * eps_u + w * eps_c, rtol=0, atol=1e-12 * (1 + abs(w)))
    assert torch.equal(guided.flatten(1), blend(eps_u.flatten(1), eps_c.flatten(1), w))
    assert blend(eps_u.float(), eps_c.float(), w).dtype == torch.float32


@pytest.mark.parametrize(
    ("w", "calls", "value"),
    [
        (0, [None], 4),
        (1, [1], 2),
        (2, [None, 1], 0),
        (-1, [None, 1], 6),
        (0.5, [None, 1], 3),
    ],
)
def test_which_predictions_are_asked_for(w, calls, value):
    """Class 1 answers 2, no label answers 4: guided they are 4 + w (2 - 4)."""
    net, x = Recorder(), torch.zeros(2, 5)
    eps = classifier_free(net, 1, w)(x, torch.tensor([9, 9]))
    assert net.conditions == calls
    assert torch.equal(eps, torch.full_like(x, value))


@pytest.mark.parametrize("w", [1, 3.0])
def test_a_condition_of_any_kind_is_handed_on_as_it_is(w):
    condition, given = {"caption": "a seven", "mask": None}, []

    def net(x, t, condition):
        given.append(condition)
        return x

    classifier_free(net, condition, w)(torch.zeros(2, 5), torch.tensor([9, 9]))
    assert given[-1] is condition
    assert all(other is None for other in given[:-1])


@pytest.mark.parametrize(("w", "cost"), [(-1, 2), (0, 1), (0.0, 1), (1, 1), (1.0, 1), (1.001, 2), (7.5, 2)])
def test_cost_and_collapse(gmm_b, w, cost):
    net, x, t = gmm_b.network(LINEAR), draws(4, 2), torch.tensor([1, 300, 300, 1000])
    counted = Counted(net)
    eps = classifier_free(counted, 2, w)(x, t)
    assert counted.nfe == cost
    if cost == 1:  # exactly the network's own answer, not a blend of two
        assert torch.equal(eps, net(x, t, torch.full((4,), 2 if w else 3)))
    sample(ddim(classifier_free(counted, 2, w), x, LINEAR, time_grid(LINEAR, 5)))
    assert counted.nfe == 6 * cost


@pytest.mark.parametrize("w", [0, 1, 3.0])
def test_a_label_per_sample(gmm_b, w):
    net, x, t = gmm_b.network(LINEAR), draws(4, 2), torch.full((4,), 400)
    labels = torch.tensor([2, 0, 3, 1])
    together = classifier_free(net, labels, w)(x, t)
    loop = [classifier_free(net, int(c), w)(x[i : i + 1], t[i : i + 1]) for i, c in enumerate(labels)]
    assert torch.allclose(together, torch.cat(loop), rtol=0, atol=1e-14)
    assert torch.allclose(together[2], net(x, t)[2], rtol=0, atol=1e-14)  # guiding towards the null label does nothing


@pytest.mark.parametrize("shape", [(2, 2), (2, 1, 28, 28), (2, 3, 4, 5, 6)], ids=str)
def test_any_event_shape(shape):
    eps = classifier_free(Recorder(), torch.tensor([0, 2]), 2.0)(torch.zeros(shape), torch.tensor([5, 5]))
    assert eps.shape == shape
    assert eps[0].unique().tolist() == [-2]  # 4 + 2 (1 - 4)
    assert eps[1].unique().tolist() == [2]  # 4 + 2 (3 - 4)


@given(st.floats(-3, 10), st.floats(0.01, 0.99), st.integers(0, 2), st.integers(0, 99))
def test_equals_guidance_by_the_exact_classifier(w, ab, label, seed):
    """eps_u - w sqrt(1 - ab) grad log p(label | x), with the oracle's own noise-aware classifier."""
    mixture = GaussianMixture([0.2, 0.5, 0.3], draws(3, 2), 0.3 * torch.eye(2).expand(3, 2, 2))
    x = draws(4, 2, seed=seed).requires_grad_()
    log_p = mixture.class_posterior(x, ab)[:, label].log().sum()
    (gradient,) = torch.autograd.grad(log_p, x)
    by_classifier = mixture.eps(x, ab) - w * math.sqrt(1 - ab) * gradient
    by_blend = blend(mixture.eps(x, ab), mixture.eps(x, ab, label), w)
    assert torch.allclose(by_blend, by_classifier, rtol=0, atol=1e-9 * (1 + gradient.abs().max().item()) * (1 + abs(w)))


@pytest.mark.parametrize(("w", "calls"), [(0, [5]), (1, [1]), (2, [5, 1])])
def test_a_negative_condition_stands_in_for_none(w, calls):
    """The network answers class 1 with 2 and class 5 with 5: guided away from 5 they are 5 + w (2 - 5)."""
    seen = []

    def net(x, t, condition):
        seen.append(condition)
        return torch.full_like(x, 2.0 if condition == 1 else 5.0)

    eps = classifier_free(net, 1, w, negative=5)(torch.zeros(2, 5), torch.tensor([9, 9]))
    assert seen == calls
    assert torch.equal(eps, torch.full((2, 5), 5.0 + w * (2 - 5)))


@pytest.mark.parametrize("share", [0.0, 0.7, 1.0])
def test_rescaling_is_that_of_diffusers(share):
    eps, eps_c = 3 * draws(4, 1, 5, 5), draws(4, 1, 5, 5, seed=1)
    assert torch.allclose(rescale(eps, eps_c, share), rescale_noise_cfg(eps, eps_c, share), rtol=1e-12)
    assert torch.allclose(rescale(eps, eps_c, 1.0).flatten(1).std(1), eps_c.flatten(1).std(1))


def test_a_rescaled_guided_prediction_has_the_size_of_the_conditional_one(gmm_b):
    net, x, t = gmm_b.network(LINEAR), draws(4, 2), torch.tensor([1, 300, 300, 1000])
    conditional, guided = net(x, t, 1), classifier_free(net, 1, 5.0)(x, t)
    assert torch.allclose(classifier_free(net, 1, 5.0, rescaled=0.4)(x, t), rescale(guided, conditional, 0.4))
    assert torch.equal(classifier_free(net, 1, 1.0, rescaled=0.4)(x, t), conditional)
    for bad in (-0.1, 1.5):
        with pytest.raises(ValueError, match="rescaled is"):
            classifier_free(net, 1, 5.0, rescaled=bad)
    with pytest.raises(TypeError, match="net is None; expected a network"):
        classifier_free(None, 1, 5.0)


def test_rescaling_needs_a_size():
    assert torch.equal(rescale(torch.zeros(2, 3), torch.ones(2, 3)), torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"eps is .*; expected more than one number a sample"):
        rescale(torch.ones(2, 1), torch.ones(2, 1))
