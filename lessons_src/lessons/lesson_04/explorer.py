"""To play with in lesson 04: a stored run of a thousand steps."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from torch import Tensor

from lessons_src.schedules import NoiseSchedule
from lessons_src.show.panels import Curves, Images, Picture, grey
from lessons_src.show.widgets import Choice, Explorer


def run_picture(
    which: int | str, times: Sequence[int], x: Tensor, x0: Tensor, schedule: NoiseSchedule, names: Sequence[str]
) -> Picture:
    """A stored sampling run: x_t and the clean prediction made from it, of one sample or of "all" of them.

    times: F falling times. x, x0: (F, B, 1, 28, 28), the state at each time and the prediction from that state.
    names: B texts, one a sample. The text compares every prediction with the sample that came out.
    """
    chosen = list(range(len(names))) if which == "all" else [which]
    labels = [names[i] for i in chosen]
    x, x0 = x[:, chosen, 0], x0[:, chosen, 0]
    distance = (x0 - x[-1]).square().mean((1, 2, 3)).sqrt()
    signal, noise = schedule.alpha_bar.sqrt(), (1 - schedule.alpha_bar).sqrt()
    every = np.arange(schedule.T + 1)
    return Picture(
        [
            Images("State x_t", grey(x), labels),
            Images("Clean prediction x̂0", grey(x0), labels),
            Curves(
                "Amplitudes in x_t",
                every,
                {"signal √ᾱ": signal.numpy(), "noise √(1-ᾱ)": noise.numpy()},
                "time t",
                "amplitude",
                (0.0, 1.05),
                marker=np.array(times),
            ),
        ],
        f"A stored run of {schedule.T} steps, {schedule.name} schedule, {len(times)} of its states. "
        f"Shown: {', '.join(labels)}.",
        frame_label="Time t",
        frame_names=[f"t = {t}" for t in times],
        frame_texts=[
            f"At t = {t} the state is {signal[t]:.2f} signal and {noise[t]:.2f} noise; x̂0 differs from the final "
            f"sample by {d:.1f} per pixel, root mean square, on a scale from -1 to 1."
            for t, d in zip(times, distance.tolist(), strict=True)
        ],
        start=len(times) // 2,
    )


def explore_run(times: Sequence[int], x: Tensor, x0: Tensor, schedule: NoiseSchedule, names: Sequence[str]) -> Explorer:
    """Scrub through a stored run, of all samples or of one; arguments as in `run_picture`."""
    show = partial(run_picture, times=times, x=x, x0=x0, schedule=schedule, names=names)
    return Explorer(show, [Choice("which", "Sample", ["all", *range(len(names))], "all")])
