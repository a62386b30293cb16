"""What the sampler loop costs beside the network: DDIM and the solvers against bare forwards and against diffusers.

python tests/benchmarks/sampler_overhead.py   (interleaved, median of 40 rounds, 10 evaluations each)
"""

import statistics
import time
from collections.abc import Callable

import torch
from diffusers import DDIMScheduler

from lessons_src import weights
from lessons_src.networks import NoisePredictor, UNet
from lessons_src.samplers import sample
from lessons_src.schedules import linear, time_grid
from lessons_src.solvers import SOLVERS

STEPS, ROUNDS = 10, 41


def loops(net: NoisePredictor, x: torch.Tensor) -> dict[str, Callable[[], torch.Tensor]]:
    """The same ten network calls in one loop after the other."""
    times = time_grid(net.schedule, STEPS)
    scheduler = DDIMScheduler(clip_sample=False, timestep_spacing="trailing")
    scheduler.set_timesteps(STEPS)
    batches = {t: torch.full((len(x),), t) for t in times}

    def bare() -> torch.Tensor:
        for t in times[:-1]:
            eps = net(x, batches[t])
        return eps

    def theirs() -> torch.Tensor:
        state = x
        for t in scheduler.timesteps:
            eps = net(state, torch.full((len(x),), int(t) + 1))
            state = scheduler.step(eps, t, state).prev_sample
        return state

    found = {"bare forwards": bare, "diffusers' DDIM": theirs}
    for name in ("DDIM", "DPM-Solver-2", "DPM-Solver++(2M)", "SDE-DPM-Solver++(2M)", "UniPC-2", "PLMS"):
        solver = SOLVERS[name]
        grid = time_grid(net.schedule, solver.steps(STEPS), "log_snr")
        found[name] = lambda run=solver.run, grid=grid: sample(run(net, x, net.schedule, grid))
    return found


@torch.no_grad()
def main() -> None:
    """Print seconds and ratios for a U-Net at batch 16 and a point network at batch 2000."""
    cases = {
        "UNet, batch 16": (NoisePredictor(UNet(), linear()).eval(), torch.randn(16, 1, 28, 28)),
        "PointMLP, batch 2000": (weights.load("points")[0], torch.randn(2000, 2)),  # trained: its states stay small
    }
    for name, (net, x) in cases.items():
        functions = loops(net, x)
        seconds: dict[str, list[float]] = {loop: [] for loop in functions}
        for _ in range(ROUNDS):
            for loop, function in functions.items():
                start = time.perf_counter()
                function()
                seconds[loop].append(time.perf_counter() - start)
        medians = {loop: statistics.median(values[1:]) for loop, values in seconds.items()}
        ratios = ", ".join(f"{loop} {median / medians['bare forwards']:.3f}" for loop, median in medians.items())
        print(f"{name}: {1000 * medians['bare forwards']:.1f} ms bare; {ratios}")


if __name__ == "__main__":
    main()
