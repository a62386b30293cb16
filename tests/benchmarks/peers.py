"""Well-known ways to train on digits, for benchmarks to set this course beside. Each needs its own library.

What denoising-diffusion-pytorch imports for its own data loading is replaced by stubs where it is not installed; it
also needs einops and scipy.
"""

import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import NamedTuple
from unittest.mock import MagicMock

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

SAMPLING_STEPS = 20


class Peer(NamedTuple):
    """step() trains on one batch of `batch`, sample(n) makes n images in [-1, 1]."""

    step: Callable[[], object]
    sample: Callable[[int], Tensor]
    parameters: int
    batch: int


def size(net: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(p.numel() for p in net.parameters())


def hugging_face(x: Tensor, y: Tensor, device: str, batch: int = 128) -> Peer:
    """UNet2DModel as in Hugging Face's class-conditioned notebook: labels as channels, cosine, Adam 1e-3, batch 128."""
    from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel

    torch.manual_seed(0)
    net = UNet2DModel(
        sample_size=28,
        in_channels=5,
        out_channels=1,
        layers_per_block=2,
        block_out_channels=(32, 64, 64),
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    )
    net, embedding = net.to(device), nn.Embedding(10, 4).to(device)
    scheduler = DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2")
    optimizer = torch.optim.Adam([*net.parameters(), *embedding.parameters()], lr=1e-3)

    def predict(x_t: Tensor, t: Tensor, label: Tensor) -> Tensor:
        channels = embedding(label)[:, :, None, None].expand(-1, -1, 28, 28)
        return net(torch.cat([x_t, channels], 1), t).sample

    def step() -> None:
        picked = torch.randint(len(x), (batch,), device=device)
        x0, eps = x[picked], torch.randn(batch, 1, 28, 28, device=device)
        t = torch.randint(1000, (batch,), device=device)
        loss = F.mse_loss(predict(scheduler.add_noise(x0, eps, t), t, y[picked]), eps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def make(n: int) -> Tensor:
        ddim = DDIMScheduler(1000, beta_schedule="squaredcos_cap_v2")
        ddim.set_timesteps(SAMPLING_STEPS)
        state, label = torch.randn(n, 1, 28, 28, device=device), torch.arange(n, device=device) % 10
        for t in ddim.timesteps:
            state = ddim.step(predict(state, t.to(device).expand(n), label), t, state).prev_sample
        return state.clamp(-1, 1)

    return Peer(step, make, size(net), batch)


def denoising_diffusion_pytorch(x: Tensor, y: Tensor, device: str, batch: int = 32) -> Peer:
    """lucidrains' Unet and GaussianDiffusion by default (sigmoid schedule, v), Adam 3e-4, batch 32, EMA 0.995."""
    for name in ("torchvision", "accelerate", "ema_pytorch"):  # imported there for its own data loading and Trainer
        if name not in sys.modules and find_spec(name) is None:
            sys.modules[name] = MagicMock(__spec__=None)
    from denoising_diffusion_pytorch import GaussianDiffusion, Unet

    torch.manual_seed(0)
    net = Unet(dim=32, dim_mults=(1, 2, 4), channels=1)
    diffusion = GaussianDiffusion(net, image_size=28, timesteps=1000, sampling_timesteps=SAMPLING_STEPS).to(device)
    averaged = AveragedModel(diffusion, multi_avg_fn=get_ema_multi_avg_fn(0.995))
    optimizer = torch.optim.Adam(diffusion.parameters(), lr=3e-4, betas=(0.9, 0.99))

    def step() -> None:
        loss = diffusion((x[torch.randint(len(x), (batch,), device=device)] + 1) / 2)
        loss.backward()
        nn.utils.clip_grad_norm_(diffusion.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        averaged.update_parameters(diffusion)

    def make(n: int) -> Tensor:
        return 2 * averaged.module.eval().sample(batch_size=n) - 1

    return Peer(step, make, size(net), batch)


PEERS = {"diffusers": hugging_face, "denoising-diffusion-pytorch": denoising_diffusion_pytorch}
