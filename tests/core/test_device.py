"""What keeps a GPU busy: a training step never makes the host wait for a number."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lessons_src.losses import Denoising, Samples
from lessons_src.networks import NoisePredictor, UNet
from lessons_src.schedules import cosine
from lessons_src.training import Recipe, Trainer


class Questions(TorchDispatchMode):
    """Counts how often a number is read out of a tensor, which on a GPU means waiting for it."""

    asked = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.asked += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


@pytest.fixture
def run():
    torch.manual_seed(0)
    net = NoisePredictor(UNet(channels=(8, 8)), cosine(100), "v")
    return Trainer(net, Denoising(), Samples(torch.randn(20, 1, 28, 28), torch.arange(20) % 10), Recipe(8, 4, ema=0.7))


def test_a_training_step_asks_for_no_number(run):
    for _ in range(3):
        run.step()
    with Questions() as questions:
        run.step()
        assert questions.asked == 0
        run.net.signal[0].item()
        assert questions.asked == 1, "the count itself does not work"


def test_the_average_follows_the_recipe(run):
    expected = []
    for step in range(6):
        run.step()
        now = torch.cat([p.detach().flatten() for p in run.net.parameters()])
        decay = min(0.7, (1 + step) / (10 + step)) if step else 0.0
        expected = now if step == 0 else decay * expected + (1 - decay) * now
    averaged = torch.cat([p.detach().flatten() for p in run.ema.parameters()])
    torch.testing.assert_close(averaged, expected, rtol=0, atol=1e-6)
    assert run.averaged.n_averaged == 6
