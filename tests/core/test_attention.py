"""Attention is what the formula says and what torch computes; its maps can be seen, and changed."""

import pytest
import torch
from torch import nn

from lessons_src.attention import Attention, WordBlock, attending, attention_maps


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def by_hand(layer, x, context, mask):
    """One score after the other, in double precision."""
    B, N, width = x.shape
    d = width // layer.heads
    source = x if context is None else context
    q, kv = layer.query(x).double(), layer.key_value(source).double()
    h = torch.zeros(B, N, width, dtype=torch.float64)
    for b in range(B):
        keys = [j for j in range(source.shape[1]) if mask is None or mask[b, j]]
        for head in range(layer.heads):
            own = slice(head * d, (head + 1) * d)
            for i in range(N):
                scores = torch.stack([q[b, i, own] @ kv[b, j, :width][own] for j in keys]) / d**0.5
                weights = scores.exp() / scores.exp().sum()
                h[b, i, own] = sum(w * kv[b, j, width:][own] for w, j in zip(weights, keys, strict=True))
    return layer.out(h.float())


@pytest.mark.parametrize(("context", "masked"), [(None, False), (None, True), (6, False), (6, True)])
@pytest.mark.parametrize("heads", [1, 4])
@torch.no_grad()
def test_attention_is_the_sum_by_hand_and_torchs(context, masked, heads):
    torch.manual_seed(0)
    layer, x = Attention(8, context, heads), random(2, 5, 8)
    words = None if context is None else random(2, 7, context, seed=1)
    length = 5 if context is None else 7
    mask = (torch.arange(length) < torch.tensor([[3], [length]])) if masked else None
    found = layer(x, words, mask)
    assert torch.allclose(found, by_hand(layer, x, words, mask), atol=1e-5)
    layer.change = lambda maps: maps
    assert torch.allclose(layer(x, words, mask), found, atol=1e-6), "the maps that can be seen are the maps used"


@torch.no_grad()
def test_it_agrees_with_torchs_own_layer():
    torch.manual_seed(0)
    own, other, x = Attention(12, heads=3), nn.MultiheadAttention(12, 3, batch_first=True), random(2, 5, 12)
    other.in_proj_weight.copy_(torch.cat([own.query.weight, own.key_value.weight]))
    other.in_proj_bias.copy_(torch.cat([own.query.bias, own.key_value.bias]))
    other.out_proj.load_state_dict(own.out.state_dict())
    expected, maps = other(x, x, x, average_attn_weights=False)
    assert torch.allclose(own(x), expected, atol=1e-6)
    seen = []
    own.change = lambda found: seen.append(found) or found
    own(x)
    assert torch.allclose(seen[0], maps, atol=1e-6)


def test_maps_are_shares_and_hidden_words_get_none():
    mask = torch.tensor([True, True, False])
    maps = attention_maps(random(4, 5, 8), random(4, 3, 8, seed=1), mask)
    assert torch.allclose(maps.sum(-1), torch.ones(4, 5))
    assert (maps[..., 2] == 0).all()
    assert (maps[..., :2] > 0).all()


def test_scores_of_random_vectors_have_variance_one():
    """What 1 / sqrt(d) is for: without it the softmax of wide vectors picks a single key."""
    for d in (4, 64, 1024):
        scores = attention_maps(random(200, 1, d), random(200, 2, d, seed=1)).logit()[..., 0]
        assert scores.var() == pytest.approx(2, rel=0.3), "the logit is a difference of two scores"


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.itself, self.first, self.second = Attention(8), Attention(8, 4), Attention(8, 4)

    def forward(self, x, words):
        return self.second(self.first(self.itself(x), words), words)


@torch.no_grad()
def test_attending_shows_and_changes_cross_attention_and_nothing_stays():
    torch.manual_seed(0)
    net, x, words, seen = Pair(), random(2, 5, 8), random(2, 3, 4, seed=1), {}
    before = net(x, words)
    with attending(net, lambda name, maps: seen.setdefault(name, maps)):
        assert torch.allclose(net(x, words), before, atol=1e-6)
    assert list(seen) == ["first", "second"]
    assert seen["first"].shape == (2, 4, 5, 3)
    other = random(2, 3, 4, seed=2)
    with attending(net, lambda name, maps: seen[name]):
        kept = net(x, other)
    assert not torch.allclose(kept, net(x, other), atol=1e-4)
    with pytest.raises(RuntimeError, match="stop"), attending(net, lambda name, maps: 1 / 0):
        raise RuntimeError("stop")
    assert torch.equal(net(x, words), before)
    with pytest.raises(ValueError, match="net is a Linear without cross-attention"), attending(nn.Linear(2, 2), None):
        pass


@torch.no_grad()
def test_words_do_not_see_what_fills_up():
    torch.manual_seed(0)
    block, x, mask = WordBlock(8, 2), random(2, 5, 8), torch.tensor([[True, True, False, False, False]])
    block.attention.out.weight.copy_(random(8, 8, seed=3))
    changed = x.clone()
    changed[:, 2:] = random(2, 3, 8, seed=4)
    assert torch.allclose(block(x, mask)[:, :2], block(changed, mask)[:, :2], atol=1e-6)


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="heads is 3; expected a divisor of the width, 8"):
        Attention(8, heads=3)
