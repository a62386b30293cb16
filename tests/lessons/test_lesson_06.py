"""Lesson 06: its pictures, the answers to its questions, and right answers to its exercises."""

import math
import re
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
import torch
from by_hand import guided_bill, library_ddim, number, translated, walk

from lessons_src import (
    guidance,
    measurements,
    process,
    samplers,
    weights,
)
from lessons_src.guidance import classifier_free
from lessons_src.lessons.lesson_06 import explorer
from lessons_src.samplers import State, ddim, sample
from lessons_src.schedules import time_grid
from lessons_src.show.panels import grey
from lessons_src.show.widgets import rough_first


@pytest.mark.parametrize(("w", "nfe"), [(0.0, 30), (1.0, 30), (3.0, 60)])
def test_guidance_counts_both_predictions(w, nfe):
    assert explorer.guidance_picture(w, 0, 30).text.startswith(f"{nfe} network evaluations")


def plain_run(label: list[int], steps: int, w: float, grid: str = "linspace") -> Iterator[State]:
    net, _ = weights.load("digits")
    noise, _ = measurements.start_noise(len(label))
    times = time_grid(net.schedule, steps, grid)
    return ddim(classifier_free(net, torch.tensor(label), w), noise, net.schedule, times)


def plain_ddim(label: list[int], steps: int, w: float) -> np.ndarray:
    return grey(sample(plain_run(label, steps, w))[:, 0])


@pytest.mark.parametrize(("w", "evaluations"), [(0.0, 20), (1.0, 20), (2.0, 40), (10.0, 40)])
def test_guidance_shows_twelve_of_one_digit_and_counts(w, evaluations):
    picture = explorer.digit_guidance_picture(w, 3, 20)
    np.testing.assert_array_equal(picture.panels[0].frames[-1], plain_ddim([3] * 12, 20, w))
    assert f"{evaluations} network evaluations each" in picture.text
    read = int(re.search(r"reads (\d+) of 12 as 3", picture.text)[1])
    assert (read == 12) == (w >= 2) or w == 1
    rows, measured = measurements.load("guidance"), picture.panels[1]
    assert measured.marker.tolist() == [w] * 21
    np.testing.assert_allclose(measured.x, [row["w"] for row in rows])
    curves = [[row[key] for row in rows] for key in ("accuracy", "spread")]
    np.testing.assert_allclose(list(measured.series.values()), curves, rtol=1e-6)


def test_guidance_shows_the_digit_that_is_asked_for():
    picture = explorer.digit_guidance_picture(2.0, 7, 5)
    np.testing.assert_array_equal(picture.panels[0].frames[-1], plain_ddim([7] * 12, 5, 2.0))


def test_more_guidance_makes_them_more_alike():
    texts = [explorer.digit_guidance_picture(w, 7, 20).text for w in (1.0, 3.0, 10.0)]
    variety = [float(re.search(r"each other by ([\d.]+) a pixel", text)[1]) for text in texts]
    assert variety == sorted(variety, reverse=True)
    x = torch.tensor([[0.0, 2.0], [1.0, 1.0], [-1.0, 0.0]]).view(3, 1, 1, 2)
    pairs = [(x[i] - x[j]).square().mean() for i in range(3) for j in range(3) if i != j]
    assert explorer._variety(x) == pytest.approx(torch.stack(pairs).mean().sqrt().item())


def test_a_long_run_is_previewed_before_it_is_there():
    texts = [p.text for p in rough_first(explorer.digit_guidance_picture, 5, 20, w=2.0, digit=4)]
    assert texts[0].startswith("Preview with 5 steps; 20 are being computed. w = 2: ")
    assert "5 DDIM steps" in texts[0]
    assert texts[1:] == [explorer.digit_guidance_picture(2.0, 4, 20).text]


def test_the_explorers_open_with_their_best_picture():
    guidance = explorer.explore_digit_guidance()
    assert guidance.picture.text == explorer.digit_guidance_picture(2.0, 3, 20).text
    assert len(guidance.picture.png()) < 100_000


def guided_with_library(net, x, label, w, alpha_bar, times):
    eps_fn = guidance.classifier_free(net, label, w)
    return library_ddim(eps_fn, x, alpha_bar, times)


def guided_in_clean_space(net, x, label, w, alpha_bar, times):
    """Blends the clean predictions instead of the noise; the weights add up to 1, so nothing changes."""
    for t, s in pairwise(times):
        at, ab_t, ab_s = torch.full((len(x),), t), alpha_bar[t].item(), alpha_bar[s].item()
        clean = [process.predict_x0(x, net(x, at, c), ab_t) for c in (net.num_classes, label)]
        x0 = (1 - w) * clean[0] + w * clean[1]
        x = samplers.renoise(x0, process.predict_eps(x, x0, ab_t), ab_s)
    return x


def both_at_once(net, x, t, label, w):
    null = label * 0 + net.num_classes
    eps_u, eps_c = net(torch.cat([x, x]), torch.cat([t, t]), torch.cat([null, label])).chunk(2)
    return torch.lerp(eps_u, eps_c, w)


ANSWERS = {
    "blend-by-hand": lambda: guidance.blend(number(0.1), number(-0.3), 7.5).item(),
    "first-guided-step": lambda: walk([0.0, 2.0], 3.0)[0][2],
    "where-it-lands": lambda: walk([0.0, 2.0], 7.5)[2][1],
    "the-bill": lambda: guided_bill(samplers.ddim, 20),
    "their-scale": lambda: translated(4),
}


RIGHT = {
    "drop_labels": (
        lambda label, n, p, g: torch.where(torch.rand(len(label), generator=g) < p, n, label),
        lambda label, n, p, g: label + (n - label) * (torch.empty(label.shape).uniform_(generator=g) < p),
    ),
    "guided": (guidance.blend, lambda eps_u, eps_c, w: (1 - w) * eps_u + w * eps_c),
    "course_scale": (
        lambda w, convention: w + 1 if convention == "ho_salimans" else w.clamp(min=1),
        lambda w, convention: torch.stack(
            [max(v, torch.ones_like(v)) if convention == "diffusers" else v + 1 for v in w]
        ),
    ),
    "guided_prediction": (
        lambda net, x, t, label, w: guidance.classifier_free(net, label, w)(x, t),
        both_at_once,
    ),
    "guided_sample": (guided_with_library, guided_in_clean_space),
    "crowd_distance": (
        lambda x, mean, std: torch.cat([x.mean(0) - mean, x.std(0) - std]).norm(),
        lambda x, mean, std: math.hypot(*(x.mean(0) - mean).tolist(), *(x.var(0).sqrt() - std).tolist()),
    ),
}
