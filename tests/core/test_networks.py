"""Noise predictors keep their promises: shapes, labels, times, what a v-network means, and what they refuse."""

import pytest
import torch
from torch import nn

from lessons_src import weights
from lessons_src.losses import Denoising
from lessons_src.networks import UNET_PRESETS, Body, DigitClassifier, NoisePredictor, PointMLP, UNet
from lessons_src.process import eps_from_velocity, predict_x0, x0_from_velocity
from lessons_src.schedules import cosine, linear


def unet(prediction="eps", schedule=None, **arguments):
    torch.manual_seed(0)
    net = NoisePredictor(UNet(**UNET_PRESETS["small"] | arguments), schedule or cosine(), prediction)
    for parameter in net.parameters():  # the last layer starts at zero: move everything away from special values
        parameter.data += 0.02 * torch.randn(parameter.shape)
    return net.eval()


def digits(n=3):
    return torch.randn(n, 1, 28, 28, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("preset", "millions"), [("small", 0.25), ("base", 1.0), ("large", 2.0)])
def test_presets_have_the_sizes_they_are_for(preset, millions):
    size = sum(parameter.numel() for parameter in UNet(**UNET_PRESETS[preset]).parameters())
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
    net = NoisePredictor(PointMLP(), cosine(), prediction)
    point = torch.tensor([0.6, -0.8])
    x0, eps, t = point.expand(4, 2), torch.randn(4, 2), torch.tensor([1, 300, 600, 1000])

    def perfect(x, time, label):
        """What the data being one point leaves no doubt about."""
        signal, noise = net.level(time.round().long(), x)
        made = (x - signal * point) / noise
        return made if prediction == "eps" else signal * made - noise * point

    net.body.forward = perfect
    signal, noise = net.level(t, x0)
    assert torch.allclose(net(signal * x0 + noise * eps, t), eps, atol=1e-4)
    assert Denoising()(net, (x0, None), torch.Generator().manual_seed(0)).each.max() < 1e-6


IMAGES = [(3, 32, 32), (1, 30, 30), (2, 6, 10), (4, 8, 8), (1, 4, 4)]


@pytest.mark.parametrize("image", [(1, 28, 28), *IMAGES], ids=str)
def test_gradients_reach_every_parameter(image):
    net, x, label = unet("v", image=image), torch.randn(3, *image), torch.tensor([0, 1, 10])
    net.output(x, torch.tensor([5, 500, 995]), label).square().sum().backward()
    dead = [name for name, parameter in net.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert dead == []


@torch.no_grad()
@pytest.mark.parametrize("image", IMAGES, ids=str)
def test_any_channels_and_even_sides_will_do(image):
    net, x, t = unet("v", image=image), torch.randn(3, *image), torch.tensor([1, 500, 1000])
    assert net(x, t, 4).shape == x.shape
    assert net(x, t, 4).isfinite().all()
    for axis in range(1, 4):  # no channel, row or column is left out
        for i in range(x.shape[axis]):
            changed = x.index_fill(axis, torch.tensor([i]), 3.0)
            assert (net.output(changed, t, torch.full((3,), 4)) - net.output(x, t, torch.full((3,), 4))).any()
    with pytest.raises(ValueError, match=r"x is .* expected shape \(B, "):
        net(torch.randn(3, *image[:2], image[2] + 2), t)


@pytest.mark.parametrize(
    "image", [(1, 27, 28), (1, 28, 31), (1, 2, 28), (1, 28, 2), (0, 28, 28), (28, 28), (1, 1, 28, 28)], ids=str
)
def test_images_that_patches_do_not_cover_are_refused(image):
    with pytest.raises(ValueError, match=r"image is .*; expected .* even sides of at least 4"):
        UNet(image=image)


@pytest.mark.parametrize(
    ("call", "kind", "named"),
    [
        (lambda net: net(digits(), torch.tensor([0, 1, 2])), ValueError, "t is"),
        (lambda net: net(digits(), torch.tensor([1, 2, 1001])), ValueError, "times from 1 to 1000"),
        (lambda net: net(digits(), torch.tensor([1, 2])), ValueError, "t is"),
        (lambda net: net(digits(), torch.tensor([1.0, 2.0, 3.0])), ValueError, "int64"),
        (lambda net: net(digits(), torch.tensor([1, 2, 3]), 11), ValueError, "label is 11"),
        (lambda net: net(digits().long(), torch.tensor([1, 2, 3])), TypeError, "x is"),
        (lambda net: NoisePredictor(PointMLP(), cosine(), "score"), ValueError, "prediction is 'score'"),
        (lambda net: UNet(channels=(10, 20)), ValueError, "channels is"),
        (lambda net: UNet(channels=(0, 8)), ValueError, "channels is"),
        (lambda net: net(torch.zeros(1, 1, 32, 32), torch.tensor([1])), ValueError, r"shape \(B, 1, 28, 28\)"),
        (lambda net: net(torch.zeros(1, 3, 28, 28), torch.tensor([1])), ValueError, r"shape \(B, 1, 28, 28\)"),
        (lambda net: net(digits(1), 5), ValueError, "t is 5"),
        (
            lambda net: NoisePredictor(PointMLP(), cosine())(torch.zeros(2, 3), torch.tensor([1, 2])),
            ValueError,
            r"shape \(B, 2\)",
        ),
    ],
)
def test_refusals(call, kind, named):
    with pytest.raises(kind, match=named):
        call(unet())


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_a_start_in_double_is_answered_in_double_by_a_body_in_single(prediction):
    """What a predictor says of x in float64 loses nothing where it is divided by sqrt(alpha_bar) = 5e-5."""
    torch.manual_seed(0)
    net, t = NoisePredictor(PointMLP(), cosine(), prediction), torch.tensor([1000, 500])
    x = torch.randn(2, 2, dtype=torch.float64)
    with torch.no_grad():
        said, output = net(x, t), net.output(x.float(), t, net.body.condition(None, 2, x.device)).double()
    assert said.dtype == torch.float64
    ab = cosine().alpha_bar[t]
    expected = output if prediction == "eps" else eps_from_velocity(x, output, ab)
    assert torch.equal(said, expected)
    if prediction == "v":
        assert torch.allclose(predict_x0(x, said, ab), x0_from_velocity(x, output, ab), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["digits", "classifier", "noisy_classifier", "embedding", "noisy_embedding"])
def test_digit_networks_take_digits_of_their_own_kind_also_none(name):
    net, _ = weights.load(name)
    asked = {
        "digits": lambda x: net(x, torch.full((len(x),), 500), 3),
        "noisy_classifier": lambda x: net(x, 0.5),
        "noisy_embedding": lambda x: net(x, 0.5),
        "embedding": lambda x: net.image(x),
        "classifier": net,
    }[name]
    x = torch.zeros(2, 1, 28, 28)
    with torch.no_grad():
        assert asked(x[:0]).shape == (0, *asked(x).shape[1:])
    for other in (x.half(), x.bfloat16(), *([] if name == "digits" else [x.double()])):
        with pytest.raises(TypeError, match=r"x is 'torch.* on cpu'; expected torch.float32 on cpu, as the network is"):
            asked(other)
    for other in (torch.zeros(2, 1, 32, 32), torch.zeros(2, 3, 28, 28), torch.zeros(2, 784)):
        with pytest.raises(ValueError, match=r"x is .*; expected shape \(B, 1, 28, 28\)"):
            asked(other)


class Own(Body):
    """A body of somebody's own, whose answer is cut to `columns`."""

    def __init__(self, columns):
        super().__init__((2,), 0, 8)
        self.layer, self.columns = nn.Linear(10, 2), columns

    def condition(self, condition, batch, device):
        return torch.zeros(batch, 0)

    def forward(self, x, time, condition):
        return self.layer(torch.cat([x, self.time(time)], 1))[:, : self.columns]


def test_a_body_of_ones_own_answers_in_the_shape_of_x():
    """A column of answers would be broadcast: it trained, and drew nonsense."""
    batch, t = (torch.zeros(4, 2), None), torch.tensor([1, 2, 3, 4])
    net = NoisePredictor(Own(2), cosine())
    assert net(batch[0], t).shape == (4, 2)
    assert Denoising()(net, batch, torch.Generator()).each.shape == (4,)
    narrow = NoisePredictor(Own(1), cosine())
    for call in (lambda: narrow(batch[0], t), lambda: Denoising()(narrow, batch, torch.Generator())):
        with pytest.raises(
            TypeError, match=r"body\(x, time, condition\) is .*; expected a tensor of the shape of x, \(4, 2\)"
        ):
            call()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_network_in_half_precision_is_refused_by_name(dtype):
    net = NoisePredictor(PointMLP(), cosine()).to(dtype)
    with pytest.raises(TypeError, match=r"net is 'in torch.*'; expected float32 or float64: take torch.autocast"):
        net(torch.zeros(2, 2, dtype=dtype), torch.tensor([3, 4]))


@pytest.mark.parametrize(
    ("body", "schedule", "named"),
    [
        (nn.Linear(2, 2), cosine(), "body is 'Linear'; expected a networks.Body"),
        (PointMLP(), "cosine", "schedule is 'cosine'; expected a NoiseSchedule"),
    ],
)
def test_a_predictor_is_made_of_a_body_and_a_schedule(body, schedule, named):
    with pytest.raises(TypeError, match=named):
        NoisePredictor(body, schedule)
