"""What guidance by gradients costs beside its networks: guided DDIM against bare forward and backward passes.

python tests/benchmarks/guidance_cost.py   (interleaved, processor time, median of 40 rounds; aim: at most 1.05)
"""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from lessons_src import captions, weights
from lessons_src.guidance import classifier, classifier_free, similarity
from lessons_src.samplers import EpsFn, ddim, sample
from lessons_src.schedules import time_grid

STEPS, ROUNDS, BATCH = 10, 41, 16
NET = weights.load("digits")[0]


def cases() -> dict[str, tuple[EpsFn, Callable[[Tensor, Tensor], Tensor] | None]]:
    """Guided eps_fn, and what the guide computes bare: one number a sample, of x (B, 1, 28, 28) and t (B,)."""
    aware, texts, tower = (weights.load(name)[0] for name in ("noisy_classifier", "embedding", "noisy_embedding"))
    label, levels = torch.arange(BATCH) % 10, NET.schedule.alpha_bar
    said = texts.text(captions.tokens(["a three"])).detach()

    def log_prob(x: Tensor, t: Tensor) -> Tensor:
        return aware(x, levels[t]).log_softmax(1)

    def fit(x: Tensor, t: Tensor) -> Tensor:
        return (tower(x, levels[t]) * said).sum(1)

    return {
        "classifier": (
            classifier(NET, log_prob, NET.schedule, label, 3.0),
            lambda x, t: log_prob(x, t).gather(1, label[:, None])[:, 0],
        ),
        "similarity": (similarity(NET, fit, NET.schedule, 3.0), fit),
        "classifier-free": (classifier_free(NET, label, 2.0), None),
    }


def bare(guide: Callable[[Tensor, Tensor], Tensor] | None, x: Tensor, times: list[int]) -> None:
    """The passes that guided sampling cannot do without."""
    for t in times[:-1]:
        batch = torch.full((len(x),), t)
        NET(x, batch)
        if guide is None:
            NET(x, batch, 3)
        else:
            with torch.enable_grad():
                z = x.detach().requires_grad_()
                torch.autograd.grad(guide(z, batch).sum(), z)


@torch.no_grad()
def main() -> None:
    """Print milliseconds and ratios."""
    torch.set_num_threads(1)
    x, times = torch.randn(BATCH, 1, 28, 28), time_grid(NET.schedule, STEPS)
    for name, (eps_fn, guide) in cases().items():
        seconds: dict[str, list[float]] = {"bare": [], "guided": []}
        for _ in range(ROUNDS):
            for loop, run in (
                ("bare", lambda guide=guide: bare(guide, x, times)),
                ("guided", lambda eps_fn=eps_fn: sample(ddim(eps_fn, x, NET.schedule, times))),
            ):
                start = time.process_time()
                run()
                seconds[loop].append(time.process_time() - start)
        pairs = zip(seconds["guided"][1:], seconds["bare"][1:], strict=True)
        ratio = statistics.median(guided / plain for guided, plain in pairs)
        print(f"{name}: {1000 * statistics.median(seconds['bare'][1:]):.0f} ms bare; guided {ratio:.3f} of it")


if __name__ == "__main__":
    main()
