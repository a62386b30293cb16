"""The course's diffusion transformer beside diffusers' own, of as many parameters: images/s in training and drawing.

python tests/benchmarks/dit_speed.py   (one thread, interleaved, medians; 4 x 8 x 8 latents, batch 64)

diffusers' DiTTransformer2DModel knows labels, not captions: it is told one of 48 kinds of single objects, and has no
text encoder and no cross-attention. Its width of 100 gives 0.910 M parameters, the course's has 0.944 M. Both train
with v-prediction on the cosine schedule and keep an average; the course's step has AdamW and Muon, theirs AdamW. Both
draw in 12 steps of DPM-Solver++(2M) with guidance, two evaluations a step: theirs as diffusers' pipeline does, in one
batch of twice the size.
"""

import os
import statistics
import time
from collections.abc import Callable

import torch
from diffusers import DDPMScheduler, DiTTransformer2DModel, DPMSolverMultistepScheduler
from torch import Tensor
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lessons_src import weights
from lessons_src.guidance import classifier_free
from lessons_src.losses import Denoising, Samples
from lessons_src.networks import NoisePredictor
from lessons_src.samplers import sample
from lessons_src.scenes import combinations, draw
from lessons_src.schedules import cosine, time_grid
from lessons_src.solvers import dpm_solver_pp
from lessons_src.text_to_image import DiT, captioned
from lessons_src.training import Recipe, Trainer

BATCH, STEPS, ROUNDS, W = 64, 12, 9, 2.0
KINDS = 48

Actions = dict[str, Callable[[], object]]


def ours(samples: Samples, noise: Tensor) -> tuple[Actions, int]:
    """A training step and a batch drawn by the course's own."""
    torch.manual_seed(0)
    net = NoisePredictor(DiT(), cosine(), "v")
    run = Trainer(net, Denoising(), samples, Recipe(10_000, BATCH)).run()
    times, words = time_grid(net.schedule, STEPS), samples.label[:BATCH]

    def make() -> Tensor:
        with torch.no_grad():
            return sample(dpm_solver_pp(classifier_free(net, words, W), noise, net.schedule, times))

    return {"train": lambda: next(run), "draw": make}, sum(p.numel() for p in net.parameters())


def theirs(samples: Samples, kind: Tensor, noise: Tensor) -> tuple[Actions, int]:
    """The same by diffusers."""
    torch.manual_seed(0)
    net = DiTTransformer2DModel(
        num_attention_heads=5,
        attention_head_dim=20,
        in_channels=4,
        out_channels=4,
        num_layers=4,
        sample_size=8,
        patch_size=1,
        norm_num_groups=4,
        num_embeds_ada_norm=KINDS,
    )
    scheduler = DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3)
    averaged = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.995))
    solver = DPMSolverMultistepScheduler(1000, beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")
    both = torch.cat([kind[:BATCH], torch.full((BATCH,), KINDS)])

    def step() -> None:
        net.train()
        picked = torch.randint(len(kind), (BATCH,))
        x0, t = samples.x0[picked], torch.randint(1000, (BATCH,))
        eps = torch.randn_like(x0)
        v = net(scheduler.add_noise(x0, eps, t), t, kind[picked]).sample
        loss = F.mse_loss(v, scheduler.get_velocity(x0, eps, t))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        averaged.update_parameters(net)

    def make() -> Tensor:
        net.eval()
        solver.set_timesteps(STEPS)
        x = noise
        with torch.no_grad():
            for t in solver.timesteps:
                v_c, v_u = net(torch.cat([x, x]), t.expand(2 * BATCH), both).sample.chunk(2)
                x = solver.step(v_u + W * (v_c - v_u), t, x).prev_sample
        return x

    return {"train": step, "draw": make}, sum(p.numel() for p in net.parameters())


def main() -> None:
    """Print images/s of one processor, by its own time and by the wall clock."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    scenes = draw(combinations()["one seen"], 2000, generator)
    samples = captioned(weights.load("scene_autoencoder")[0], scenes, generator)
    kind = (scenes.hue * 8 + scenes.shape * 2 + scenes.size)[:, 0]
    noise = torch.randn(BATCH, 4, 8, 8, generator=generator)
    sides = {"course": ours(samples, noise), "diffusers": theirs(samples, kind, noise)}
    spent: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for turn in range(ROUNDS + 1):
        for name, (actions, _) in sides.items():
            for action, function in actions.items():
                begun = time.process_time(), time.perf_counter()
                function()
                taken = time.process_time() - begun[0], time.perf_counter() - begun[1]
                if turn:  # the first warms up
                    spent.setdefault((name, action), []).append(taken)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    for action in ("train", "draw"):
        rates = {}
        for name, (_, size) in sides.items():
            own, wall = (statistics.median(part) for part in zip(*spent[name, action], strict=True))
            rates[name] = BATCH / own, BATCH / wall
            print(
                f"{action}: {name}, {size:,} parameters: {BATCH / own:.0f} images/s ({BATCH / wall:.0f} by the clock)"
            )
        print(f"{action}: {rates['course'][0] / rates['diffusers'][0]:.2f} times")


if __name__ == "__main__":
    main()
