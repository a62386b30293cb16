"""Bodies that take captions: what they start as, what reaches what, what they refuse, and that they learn."""

import pytest
import torch

from lessons_src.attention import attending
from lessons_src.guidance import classifier_free
from lessons_src.losses import Denoising, Samples
from lessons_src.networks import NoisePredictor
from lessons_src.optimizers import make_optimizers
from lessons_src.scenes import LENGTH, WORDS, tokens
from lessons_src.schedules import cosine
from lessons_src.text_to_image import LATENT, NULL, PAD, CaptionUNet, DiT, DiTBlock, TextEncoder
from lessons_src.training import Recipe, Trainer

CAPTIONS = tokens(["a small red circle left of a large blue square", "a large cyan star"])
BODIES = {
    "DiT": lambda **more: DiT(width=24, depth=2, heads=2, text=(16, 1), **more),
    "CaptionUNet": lambda **more: CaptionUNet(channels=(8, 16), text=(16, 1), **more),
}


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def stirred(body):
    """Away from the zeros that it starts with."""
    for i, parameter in enumerate(body.parameters()):
        parameter.data += 0.05 * random(*parameter.shape, seed=i)
    return body.eval()


@pytest.fixture(params=BODIES)
def body(request):
    torch.manual_seed(0)
    return stirred(BODIES[request.param]())


def test_the_words_of_scenes_are_those_of_the_bodies():
    assert (WORDS[PAD], WORDS[NULL]) == ("<pad>", "<null>")
    assert DiT().num_classes == CaptionUNet().num_classes == len(WORDS)
    assert DiT().length == CaptionUNet().length == LENGTH


@torch.no_grad()
def test_adaln_zero_starts_as_the_identity():
    torch.manual_seed(0)
    block, x = DiTBlock(24, 16, 2), random(2, 5, 24)
    condition, words, mask = random(2, 24, seed=1), random(2, 3, 16, seed=2), torch.ones(2, 3, dtype=torch.bool)
    assert torch.equal(block(x, condition, words, mask), x)
    for make in BODIES.values():
        assert not make()(random(2, *LATENT), torch.tensor([1.0, 900.0]), CAPTIONS).any(), "an untrained body says 0"


@pytest.mark.parametrize("make", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("given", [{}, {"event": (3, 32, 32), "patch": 4}, {"event": (1, 14, 6), "patch": 2}], ids=str)
def test_gradients_reach_every_parameter_and_every_place_counts(make, given):
    torch.manual_seed(0)
    body = make(**given)
    x, time = random(2, *body.event), torch.tensor([1.0, 900.0])
    stirred(body)(x, time, CAPTIONS).square().sum().backward()
    dead = [name for name, weight in body.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert dead == []
    with torch.no_grad():
        out = body(x, time, CAPTIONS)
        assert out.shape == x.shape
        for axis in (1, 2, 3):
            for i in range(x.shape[axis]):
                changed = body(x.index_fill(axis, torch.tensor([i]), 3.0), time, CAPTIONS)
                assert (changed - out).abs().amax((1, 2, 3)).min() > 0


@torch.no_grad()
def test_patches_return_to_their_places():
    """A transformer that passes on its input gives it back: unshuffling, rows and columns, shuffling."""
    body = DiT(event=(2, 4, 8), width=8, heads=1, depth=1, patch=2, text=(16, 1))
    body.norm = torch.nn.Identity()
    body.place.zero_()
    torch.nn.init.eye_(body.enter.weight)
    torch.nn.init.eye_(body.leave.weight)
    body.enter.bias.zero_()
    x = random(2, 2, 4, 8)
    assert torch.allclose(body(x, torch.tensor([1.0, 2.0]), CAPTIONS), x, atol=1e-6)


@torch.no_grad()
def test_every_word_and_its_place_count_and_filling_does_not(body):
    x, time = random(1, *LATENT), torch.tensor([500.0])
    row = CAPTIONS[:1]
    out = body(x, time, row)
    for i in range(LENGTH):
        other = row.clone()
        other[0, i] = 3 if row[0, i] != 3 else 4
        assert (body(x, time, other) - out).abs().max() > 1e-4
    swapped = tokens(["a large blue square left of a small red circle"])
    assert (body(x, time, swapped) - out).abs().max() > 1e-4, "the order of words counts"
    short = CAPTIONS[1:]
    before = body(x, time, short)
    body.text.word.weight[PAD] += random(16, seed=3)
    assert torch.allclose(body(x, time, short), before, atol=1e-5)


@torch.no_grad()
def test_samples_do_not_influence_each_other(body):
    x, time = random(2, *LATENT), torch.tensor([10.0, 900.0])
    alone = torch.cat([body(x[i : i + 1], time[i : i + 1], CAPTIONS[i : i + 1]) for i in range(2)])
    assert torch.allclose(body(x, time, CAPTIONS), alone, atol=1e-5)


@torch.no_grad()
def test_conditions_are_one_caption_for_all_one_each_or_none(body):
    net, x, t = NoisePredictor(body, cosine(), "v"), random(2, *LATENT), torch.tensor([10, 900])
    null = torch.tensor([[NULL] + [PAD] * (LENGTH - 1)])
    assert torch.equal(net(x, t), net(x, t, null))
    assert torch.equal(net(x, t, CAPTIONS[:1]), net(x, t, CAPTIONS[:1].expand(2, -1)))
    guided = classifier_free(net, CAPTIONS, 3.0)(x, t)
    assert torch.allclose(guided, net(x, t) + 3 * (net(x, t, CAPTIONS) - net(x, t)), atol=1e-5)


@pytest.mark.parametrize(
    ("condition", "kind", "named"),
    [
        (3, TypeError, r"tokens is 3; expected int64 of shape \(2, 10\)"),
        ("a small red circle", TypeError, "tokens is 'a small red circle'"),
        (CAPTIONS.float(), TypeError, "int64"),
        (CAPTIONS[:, :9], ValueError, r"tokens is .*\(2, 9\).*; expected int64 of shape \(2, 10\)"),
        (CAPTIONS[0], ValueError, r"or \(1, 10\) for all"),
        (CAPTIONS.repeat(2, 1), ValueError, r"tokens is .*\(4, 10\)"),
        (CAPTIONS - 1, ValueError, "values from 0 to 19"),
        (CAPTIONS + 10, ValueError, "values from 0 to 19"),
        (torch.zeros_like(CAPTIONS), ValueError, "at least one word"),
    ],
)
def test_other_conditions_are_refused(body, condition, kind, named):
    net = NoisePredictor(body, cosine(), "v")
    with pytest.raises(kind, match=named):
        net(random(2, *LATENT), torch.tensor([10, 900]), condition)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: DiT(event=(4, 7, 8), patch=2), "event is .*multiples of the patch, 2"),
        (lambda: DiT(event=(4, 8)), "event is "),
        (lambda: DiT(width=96, heads=5), "heads is 5; expected a divisor of the width, 96"),
        (lambda: DiT(patch=0), "patch is 0"),
        (lambda: DiT(depth=0), "depth is 0"),
        (lambda: DiT(words=1), "words is 1"),
        (lambda: CaptionUNet(channels=(12, 16)), "channels is .*multiples of 8"),
        (lambda: CaptionUNet(event=(4, 8, 9), patch=2), "event is "),
        (lambda: NoisePredictor(DiT(), cosine())(random(2, 4, 7, 7), torch.tensor([1, 2])), r"x is .*\(B, 4, 8, 8\)"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(make, named):
    with pytest.raises(ValueError, match=named):
        make()


def test_maps_of_words_can_be_seen(body):
    seen = {}
    with torch.no_grad(), attending(body, lambda name, maps: seen.setdefault(name, maps)):
        body(random(2, *LATENT), torch.tensor([10.0, 900.0]), CAPTIONS)
    assert len(seen) == (2 if isinstance(body, DiT) else 3)
    for maps in seen.values():
        assert maps.shape[0] == 2
        assert maps.shape[3] == LENGTH
        assert torch.allclose(maps.sum(3), torch.ones(maps.shape[:3]), atol=1e-5)
        assert not maps[1, :, :, 4:].any(), "nobody looks where no word is"


def test_the_encoder_summarises_words_alone():
    torch.manual_seed(0)
    words, mask, summary = TextEncoder(20, 10, 16, 2)(CAPTIONS)
    assert mask.sum(1).tolist() == [10, 4]
    assert torch.allclose(summary[1], words[1, :4].mean(0), atol=1e-6)


def test_matrices_of_the_transformer_are_muons_and_the_rest_is_not():
    body = DiT()
    names = {id(weight): name for name, weight in body.named_parameters()}
    adamw, muon = make_optimizers(body, 1e-3)
    inner = {names[id(weight)] for weight in muon.param_groups[0]["params"]}
    assert all(name.startswith(("blocks.", "text.blocks.")) and name.endswith(".weight") for name in inner)
    assert len(inner) == 4 * (3 + 3 + 2) + 2 * (3 + 2)
    rest = {names[id(weight)] for weight in adamw.param_groups[0]["params"]}
    assert {"text.word.weight", "blocks.0.modulate.weight", "time.mlp.0.weight", "enter.weight"} <= rest


@pytest.mark.parametrize("make", BODIES.values(), ids=BODIES)
def test_the_one_trainer_teaches_it_what_words_mean(make):
    """Two captions, two latents: after a minute's hundredth the caption decides which one is predicted."""
    torch.manual_seed(0)
    x0 = torch.stack([torch.ones(LATENT), -torch.ones(LATENT)])
    net = NoisePredictor(make(), cosine(), "v")
    losses = Trainer(net, Denoising(), Samples(x0, CAPTIONS), Recipe(100, 16, 4e-3, 10, ema=0.9)).run()
    means = [one.each.mean().item() for one in losses]
    assert sum(means[-20:]) < 0.5 * sum(means[:20])
    x, t = random(2, *LATENT, seed=5), torch.tensor([999, 999])
    with torch.no_grad():
        v = net.output(x, t, CAPTIONS)
    assert v[0].mean() < -0.3
    assert v[1].mean() > 0.3


@pytest.mark.parametrize(
    ("samples", "named"),
    [
        (lambda: Samples(random(2, *LATENT), torch.tensor([1, 2])), r"label is .*\(2,\).*shape \(2, 10\)"),
        (lambda: Samples(random(2, *LATENT), CAPTIONS[:, :9]), r"label is .*shape \(2, 10\)"),
        (lambda: Samples(random(2, *LATENT), CAPTIONS + 10), "label is .*from 0 to 19"),
        (lambda: Samples(random(2, 4, 8, 7), CAPTIONS), "x0 is "),
        (lambda: Samples(random(3, *LATENT), CAPTIONS), r"label is .*shape \(3,\)"),
        (lambda: Samples(random(2, *LATENT), CAPTIONS[None]), "label is "),
    ],
)
def test_samples_that_do_not_fit_are_refused_before_training(samples, named):
    with pytest.raises(ValueError, match=named):
        Trainer(NoisePredictor(BODIES["DiT"](), cosine(), "v"), Denoising(), samples(), Recipe(2))
