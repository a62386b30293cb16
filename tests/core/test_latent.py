"""The autoencoder: KL by its closed form, latents that are standard, a loss that learns, refusals."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from lessons_src.data import digits
from lessons_src.latent import Autoencoder, Coding, draw_latents, gaussian_kl
from lessons_src.losses import Samples
from lessons_src.optimizers import make_optimizers
from lessons_src.scenes import paint, training_scenes
from lessons_src.training import Recipe, Trainer


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def small(**more):
    torch.manual_seed(0)
    return Autoencoder(channels=(8, 16), **more).eval()


def pictures(number=64):
    return paint(training_scenes(number, torch.Generator().manual_seed(0)))


def test_kl_is_the_closed_form_torchs_and_the_mean_of_its_definition():
    mean, log_variance = random(5, 4).double(), random(5, 4, seed=1).double()
    found = gaussian_kl(mean, log_variance)
    law = Normal(mean, (log_variance / 2).exp())
    assert torch.allclose(found, kl_divergence(law, Normal(torch.zeros(5, 4).double(), 1.0)))
    assert gaussian_kl(torch.zeros(1), torch.zeros(1)).item() == 0
    assert gaussian_kl(torch.tensor([1.0]), torch.tensor([math.log(4)])).item() == pytest.approx(2 - math.log(2))
    torch.manual_seed(0)
    z = law.sample((100_000,))
    ratio = law.log_prob(z) - Normal(0.0, 1.0).log_prob(z)
    assert torch.allclose(ratio.mean(0), found, atol=0.05)
    with pytest.raises(ValueError, match="log_variance is "):
        gaussian_kl(mean, log_variance[:1])


def test_its_gradient_pulls_to_the_standard_normal():
    mean, log_variance = torch.tensor([2.0], requires_grad=True), torch.tensor([-1.0], requires_grad=True)
    gaussian_kl(mean, log_variance).backward()
    assert mean.grad.item() == pytest.approx(2)
    assert log_variance.grad.item() == pytest.approx((math.exp(-1) - 1) / 2)


@torch.no_grad()
def test_drawn_latents_have_the_moments_that_were_told():
    mean, log_variance = torch.full((1, 1), 0.7), torch.full((1, 1), math.log(0.09))
    z = draw_latents(mean.expand(50_000, 1), log_variance.expand(50_000, 1), torch.Generator().manual_seed(0))
    assert z.mean() == pytest.approx(0.7, abs=0.01)
    assert z.std() == pytest.approx(0.3, rel=0.02)


@pytest.mark.parametrize("image", [(3, 32, 32), (1, 28, 28), (2, 12, 20)], ids=str)
@torch.no_grad()
def test_latents_are_a_quarter_of_the_side(image):
    net, x = small(image=image, latent=3), random(2, *image)
    assert net.event == (3, image[1] // 4, image[2] // 4)
    assert net.encode(x).shape == (2, *net.event)
    assert net.decode(net.encode(x)).shape == x.shape


@torch.no_grad()
def test_standardised_latents_are_standard_and_decode_undoes_encode():
    net, x = small(), pictures(256)
    for parameter in net.parameters():
        parameter += 0.1 * random(*parameter.shape, seed=parameter.numel())
    raw = net.moments(x)[0]
    net.standardise(x)
    z = net.encode(x, torch.Generator().manual_seed(1))
    assert torch.allclose(z.mean((0, 2, 3)), torch.zeros(4), atol=0.02)
    assert torch.allclose(z.std((0, 2, 3)), torch.ones(4), atol=0.02)
    assert torch.allclose(net.encode(x) * net.std + net.mean, raw, atol=1e-5)
    assert torch.allclose(net.decode(net.encode(x)), net.decoder(raw), atol=1e-4), "the scale is undone, once"
    assert torch.equal(z, net.encode(x, torch.Generator().manual_seed(1)))
    assert not torch.equal(z, net.encode(x))
    standard = small()
    standard.load_state_dict(net.state_dict())
    assert torch.equal(standard.encode(x), net.encode(x)), "the scale is stored with the weights"


@torch.no_grad()
def test_the_loss_is_reconstruction_and_rate():
    net, x = small(), pictures(4)
    mean, log_variance = net.moments(x)
    z = draw_latents(mean, log_variance, torch.Generator().manual_seed(3))
    off = net.decoder(z) - x
    smooth = torch.where(off.abs() < 0.2, off**2 / 0.4, off.abs() - 0.1)
    plain = Coding(kl=0, edges=0)(net, (x, None), torch.Generator().manual_seed(3)).each
    assert torch.allclose(plain, smooth.mean((1, 2, 3)), atol=1e-6)
    with_rate = Coding(kl=0.5, edges=0)(net, (x, None), torch.Generator().manual_seed(3)).each
    assert torch.allclose(with_rate - plain, 0.5 * gaussian_kl(mean, log_variance).mean((1, 2, 3)), atol=1e-6)
    flat = torch.full((2, 3, 32, 32), -0.8)
    assert torch.allclose(
        Coding(0, edges=10)(net, (flat,), torch.Generator().manual_seed(3)).each,
        Coding(0, edges=0)(net, (flat,), torch.Generator().manual_seed(3)).each,
    ), "where there are no edges, none weighs more"


@pytest.mark.parametrize("x", [pictures, lambda: digits()[0][:64]], ids=["scenes", "digits"])
def test_the_one_trainer_teaches_it(x):
    x = x()
    net = small(image=tuple(x.shape[1:]))
    trainer = Trainer(net, Coding(), Samples(x), Recipe(100, 16, 4e-3, 5, ema=0.8))
    losses = [one.each.mean().item() for one in trainer.run()]
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    with torch.no_grad():
        net = trainer.ema
        net.standardise(x)
        again = net.decode(net.encode(x))
    assert (again - x).square().mean() < 0.5 * (x - x.mean(0)).square().mean(), "better than the mean picture"


def test_outer_convolutions_are_not_muons():
    net = small()
    names = {id(weight): name for name, weight in net.named_parameters()}
    _, muon = make_optimizers(net, 1e-3)
    inner = {names[id(weight)] for weight in muon.param_groups[0]["params"]}
    assert "encoder.shrink.weight" in inner
    assert not [name for name in inner if "enter" in name or "leave" in name]


@pytest.mark.parametrize(
    ("call", "kind", "named"),
    [
        (lambda: Autoencoder(image=(3, 30, 32)), ValueError, "image is .*multiples of 4"),
        (lambda: Autoencoder(image=(3, 32, 31)), ValueError, "image is "),
        (lambda: Autoencoder(image=(32, 32)), ValueError, "image is "),
        (lambda: Autoencoder(channels=(12, 16)), ValueError, "channels is .*multiples of 8"),
        (lambda: Autoencoder(latent=0), ValueError, "latent is 0"),
        (lambda: small().encode(random(2, 3, 28, 28)), ValueError, r"x is .*shape \(B, 3, 32, 32\)"),
        (lambda: small().encode(torch.zeros(2, 3, 32, 32).long()), TypeError, "x is "),
        (lambda: small().decode(random(2, 4, 7, 8)), ValueError, r"z is .*shape \(B, 4, 8, 8\)"),
        (lambda: small().decode(random(4, 8, 8)), ValueError, "z is "),
        (lambda: Coding(kl=-1), ValueError, "kl is -1"),
        (lambda: Coding(edges=math.nan), ValueError, "edges is nan"),
        (
            lambda: Trainer(small(), Coding(), Samples(random(2, 1, 28, 28)), Recipe(2)),
            ValueError,
            r"x0 is .*shape \(N, 3, 32, 32\)",
        ),
    ],
)
def test_refusals(call, kind, named):
    with pytest.raises(kind, match=named):
        call()
