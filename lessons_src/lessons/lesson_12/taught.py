"""The training that lesson 12 watches: pictures of a few captions, and how many captions come out right, as it goes."""

import time

import numpy as np
from IPython import get_ipython
from IPython.display import display

from lessons_src.latent import Autoencoder
from lessons_src.lessons.lesson_12.measured import asked_for, pictures, shown
from lessons_src.scene_checker import ATTRIBUTES
from lessons_src.scenes import parse
from lessons_src.show.panels import Curves, Images, Picture, colour
from lessons_src.show.progress import progress_bar
from lessons_src.show.widgets import Live
from lessons_src.training import Trainer

CAPTIONS = ("a large red circle", "a small green star", "a large blue triangle", "a large red square")
ASKED = 50  # captions that are judged on the way
W = 2.0


def follow(trainer: Trainer, codec: Autoencoder, looks: int = 10) -> None:
    """Train to the end of the recipe; show what four captions bring, and what is right of ASKED others, `looks` times.

    The last of CAPTIONS was never trained. In a terminal, nothing is shown.
    """
    steps = trainer.recipe.steps
    every, live, begun = max(1, steps // looks), None, time.perf_counter()
    found: dict[int, dict[str, int]] = {}
    bar = display(progress_bar(0, steps), raw=True, display_id=True) if get_ipython() else None
    for _ in trainer.run():
        done = trainer.step_count
        if bar is not None and done % 25 == 0:
            left = (time.perf_counter() - begun) * (steps - done) / done
            bar.update(progress_bar(done, steps, f", about {left:.0f} s left"), raw=True)
        if done % every and done < steps:
            continue
        found[done] = shown(pictures(trainer.ema, codec, asked_for("one seen", ASKED), W), asked_for("one seen", ASKED))
        if bar is not None and len(found) > 1:  # a curve needs two points
            picture = taught_picture(trainer, codec, found)
            if live is None:
                live = Live(picture)
                display(live)
            else:
                live.update(picture)
    if live is not None:
        bar.update(progress_bar(steps, steps), raw=True)
        live.keep()


def taught_picture(trainer: Trainer, codec: Autoencoder, found: dict[int, dict[str, int]]) -> Picture:
    """What the network draws now, and the share of captions right by attribute until now."""
    done, steps = list(found), trainer.recipe.steps
    names = ("hue", "size", "shape", "all")
    lines = {name: np.array([100 * found[step][name] / ASKED for step in done]) for name in names}
    drawn = pictures(trainer.ema, codec, parse(CAPTIONS), W)
    now = found[done[-1]]
    said = ", ".join(f"{name} {now[name]}" for name in ATTRIBUTES if name in names[:-1])
    return Picture(
        [
            Images("What it draws now", colour(drawn)[None], [caption[2:] for caption in CAPTIONS]),
            Curves("Right, by attribute", np.array(done), lines, "gradient steps", "%", (0, 104), x_end=steps),
        ],
        f"After {done[-1]} of {steps} steps, right of {ASKED} captions: {said}; all of it {now['all']}. The last "
        "picture is of a combination that is never trained.",
    )
