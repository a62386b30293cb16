"""Lesson 10: its pictures, the answers to its questions, and right answers to its exercises."""

import math
import re

import numpy as np
import pytest
import torch
from by_hand import LEVELS, as_column, number, rotated
from torch.nn import functional as F

from lessons_src import data, inversion, oracle, process, samplers, schedules, weights
from lessons_src.guidance import classifier_free
from lessons_src.inversion import invert
from lessons_src.lessons.lesson_10 import explorer
from lessons_src.lessons.lesson_10.explorer import (
    LABELS,
    STARTS,
    between_picture,
    edit_picture,
    explore_between,
    explore_edit,
)
from lessons_src.process import add_noise
from lessons_src.samplers import ddim, sample
from lessons_src.show.panels import grey
from lessons_src.show.widgets import rough_first

DEFAULT = {"digit": 7, "target": 3, "start": "inversion", "top": 1000, "w": 2.0, "steps": 20}


def first_digit(digit):
    x, y = data.digits("test")
    return x[y == digit][:1]


def stated(pattern, picture):
    return float(re.search(pattern, picture.text)[1])


@pytest.mark.parametrize(("explore", "picture"), [(explore_edit, edit_picture), (explore_between, between_picture)])
def test_it_opens_with_its_best_picture_which_is_small_when_stored(explore, picture):
    explorer = explore()
    assert explorer.picture.text == picture(**explorer.values).text
    assert len(explorer.picture.png()) < 100_000


@pytest.mark.parametrize(
    ("start", "recursion"), [("inversion", invert), ("inversion as printed", inversion.invert_as_printed)]
)
def test_the_frames_go_up_and_down_again(start, recursion):
    picture = edit_picture(**DEFAULT | {"start": start, "top": 800, "steps": 8})
    way, end = (panel.frames for panel in picture.panels)
    assert picture.frame_names[0] == "up, t = 0"
    assert picture.frame_names[8:10] == ("up, t = 800", "down, t = 700")
    assert picture.frame_names[-1] == "down, t = 0"
    net, x0, times = weights.load("digits")[0], first_digit(7), [800, 700, 600, 500, 400, 300, 200, 100, 0]
    up = [x0, *(state.x for state in recursion(classifier_free(net, 7, 1.0), x0, net.schedule, times))]
    down = [state.x for state in ddim(classifier_free(net, 3, 2.0), up[-1], net.schedule, times)]
    back = sample(ddim(classifier_free(net, 7, 1.0), up[-1], net.schedule, times))
    np.testing.assert_array_equal(way[:, 1], grey(torch.cat([*up, *down])[:, 0]))
    assert (way[:, 0] == grey(x0[0, 0])).all()
    np.testing.assert_array_equal(way[-1, 2], way[-1, 1])
    np.testing.assert_array_equal(end[0], grey(torch.cat([x0, back, down[-1]])[:, 0]))
    assert stated(r"within ([\d.]+) a pixel", picture) == pytest.approx(
        ((back.clamp(-1, 1) - x0).norm() / 28).item(), abs=0.006
    )
    assert "8 steps each way, 24 network evaluations" in picture.text


def test_fresh_noise_costs_no_way_up_and_is_as_strong_as_it_should_be():
    picture = edit_picture(**DEFAULT | {"start": STARTS[2], "w": 1.0, "top": 600})
    assert "20 steps each way, 20 network evaluations" in picture.text
    assert stated(r"the noise has ([\d.]+) of", picture) == pytest.approx(1, abs=0.06)
    net, noise = weights.load("digits")[0], torch.randn(1, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    expected = add_noise(first_digit(7), noise, net.schedule.alpha_bar[600])
    np.testing.assert_array_equal(picture.panels[0].frames[20, 1], grey(expected[0, 0]))


def test_what_the_lesson_asks_to_look_for():
    """More steps help inversion and harm the printed one; a low top keeps the digit; fresh noise ends further away."""
    same = DEFAULT | {"target": 7, "w": 1.0}
    home = r"within ([\d.]+) a pixel"
    assert stated(home, edit_picture(**same | {"steps": 50})) < stated(home, edit_picture(**same | {"steps": 5}))
    printed = [stated(home, edit_picture(**same | {"start": STARTS[1], "steps": steps})) for steps in (10, 50)]
    assert printed[1] > printed[0]
    for w, border in ((1.0, 850), (2.0, 750), (7.5, 650)):
        for top, read in ((border - 50, 7), (border + 50, 3)):
            assert stated(r"classifier reads (\d)", edit_picture(**DEFAULT | {"top": top, "w": w})) == read
    far, near = (stated(r"ends ([\d.]+) away", edit_picture(**same | {"w": w})) for w in (7.5, 1.0))
    assert far == pytest.approx(0.4, abs=0.05)
    assert near < 0.1 * far
    away = [stated(r"ends ([\d.]+) away", edit_picture(**DEFAULT | {"start": start})) for start in STARTS[::2]]
    assert away[0] < away[1]


def test_a_long_way_is_previewed_and_a_short_one_is_not():
    texts = [picture.text for picture in rough_first(edit_picture, explorer.ROUGH_STEPS, **DEFAULT | {"steps": 30})]
    assert len(texts) == 2
    assert texts[0].startswith("Preview with 10 steps; 30 are being computed. Digit 7 ")
    assert "10 steps each way" in texts[0]
    assert texts[1] == edit_picture(**DEFAULT | {"steps": 30}).text
    assert len(list(rough_first(edit_picture, explorer.ROUGH_STEPS, **DEFAULT))) == 1


def test_between_two_digits():
    picture = between_picture(4, 1, 9, 1, "none", 15)
    pixels, straight, arc = (panel.frames[0] for panel in picture.panels)
    a, b = first_digit(4)[0, 0], first_digit(9)[0, 0]
    blended = grey(torch.stack([a + s * (b - a) for s in (0, 0.25, 0.5, 0.75, 1)]))
    assert np.abs(pixels.astype(int) - blended).max() <= 1
    np.testing.assert_array_equal(straight[[0, 4]], arc[[0, 4]])
    assert (straight[2] != arc[2]).any()
    assert stated(r"straight latent is ([\d.]+) times", picture) == pytest.approx(0.72, abs=0.05)
    assert stated(r"the arc ([\d.]+) times", picture) == pytest.approx(1, abs=0.05)
    read = re.search(r"the straight line as ((?:\d ?)+), the arc as ((?:\d ?)+)\.", picture.text)
    for row in read.groups():
        assert (row.split()[0], row.split()[-1]) == ("4", "9")


@pytest.mark.parametrize("label", LABELS)
def test_the_label_decides_what_latents_are_decoded_as(label):
    picture = between_picture(1, 1, 8, 1, label, 10)
    arc = re.search(r"the arc as ((?:\d ?)+)\.", picture.text)[1].split()
    assert arc[0] == ("8" if label == "of the second" else "1")
    assert arc[-1] == ("1" if label == "of the first" else "8")


def test_from_a_digit_to_itself_nothing_changes():
    picture = between_picture(3, 2, 3, 2, "none", 5)
    for panel in picture.panels:
        assert np.abs(panel.frames[0].astype(int) - panel.frames[0][:1]).max() <= 1


def test_examples_are_counted_in_each_class():
    x, y = data.digits("test")
    pixels = between_picture(4, 3, 4, 20, "none", 5).panels[0].frames[0]
    np.testing.assert_array_equal(pixels[[0, 4]], grey(x[y == 4][[2, 19], 0]))


def test_times_to():
    assert explorer.times_to(100, 5) == [100, 80, 60, 40, 20, 0]
    assert explorer.times_to(1000, 3) == [1000, 667, 333, 0]


def trip_with_library(net, x, alpha_bar, times):
    schedule = schedules.NoiseSchedule(alpha_bar)
    latent = samplers.sample(inversion.invert(net, x, schedule, times))
    return F.mse_loss(samplers.sample(samplers.ddim(net, latent, schedule, times)), x).sqrt()


def trip_by_index(net, x, alpha_bar, times):
    """One list of times, up and down again."""
    path, z = [*times[::-1], *times[1:]], x.clone()
    for i in range(len(path) - 1):
        here, there = path[i], path[i + 1]
        asked = here if here > 0 else there
        eps = net(z, torch.full((x.shape[0],), asked, dtype=torch.int64))
        z = rotated(z, eps, alpha_bar[here].item(), alpha_bar[there].item())
    return math.sqrt(((z - x) ** 2).sum().item() / x.numel())


def fixed_point_solved(net, x_s, s, t, alpha_bar, iterations):
    """DDIM's step x_s = a x_t + b eps, solved for x_t with ever better eps."""
    ab_s, ab_t = alpha_bar[[s, t]].tolist()
    a = (ab_s / ab_t) ** 0.5
    b = (1 - ab_s) ** 0.5 - a * (1 - ab_t) ** 0.5
    eps = net(x_s, torch.full((len(x_s),), max(s, t * (s == 0))))
    while iterations > 0:
        eps, iterations = net((x_s - b * eps) / a, torch.full((len(x_s),), t)), iterations - 1
    return (x_s - b * eps) / a


def fixed_point_by_recursion(net, x_s, s, t, alpha_bar, iterations):
    if iterations == 0:
        x, at = x_s, s or t
    else:
        x, at = fixed_point_by_recursion(net, x_s, s, t, alpha_bar, iterations - 1), t
    return rotated(x_s, net(x, torch.tensor(at).expand(len(x))), float(alpha_bar[s]), float(alpha_bar[t]))


def turned(a, b, weight):
    """The same arc as a turn from a towards b."""
    rows = a.flatten(1), b.flatten(1)
    cosine = (rows[0] * rows[1]).sum(1) / (rows[0].norm(dim=1) * rows[1].norm(dim=1))
    angle = as_column(cosine.arccos(), a)
    return (
        a * ((weight * angle).cos() - (weight * angle).sin() / angle.tan()) + b * (weight * angle).sin() / angle.sin()
    )


def inpaint_by_index(x_t, eps, known, mask, z, ab_t, ab_s):
    x_s = samplers.renoise(process.predict_x0(x_t, eps, ab_t), eps, ab_s)
    here = mask.bool()
    x_s[here] = ab_s**0.5 * known[here] + (1 - ab_s) ** 0.5 * z[here]
    return x_s


def there_and_back():
    """Three DDIM steps down from 1 over LEVELS and up again, for N(0, 1) data."""
    schedule = schedules.NoiseSchedule(torch.tensor(LEVELS[::-1], dtype=torch.float64))
    net = oracle.GaussianMixture([1.0], [[0.0]], [[[1.0]]]).network(schedule)
    x = samplers.sample(samplers.ddim(net, number(1), schedule))
    return samplers.sample(inversion.invert(net, x, schedule, at_zero="zero")).item()


def sdedit_on_normal(ab, guide):
    """Mean and variance: x_t ~ N(sqrt(ab) guide, 1 - ab), then x0 given x_t, both exact, for N(0, 1) data."""
    mixture = oracle.GaussianMixture([1.0], [[0.0]], [[[1.0]]])
    gain = mixture.x0(number(1), ab).item()  # E[x0 | x_t] is linear in x_t
    up = process.add_noise(number(guide), number(0), ab).item()
    return gain * up, gain**2 * (1 - ab) + 1 - gain**2


def gap_of_edict(steps):
    """By how much mixing alone drives EDICT's copies apart: nothing is predicted, and the levels hardly move."""
    schedule = schedules.NoiseSchedule(1 - 1e-12 * torch.arange(steps + 1, dtype=torch.float64))
    *_, (x, y) = inversion.edict_invert(lambda x, t: torch.zeros_like(x), number(1), number(0), schedule)
    return (x - y).abs().item()


def length_of_a_straight_mean(dim):
    """Against the ends' length, for two orthogonal ones, as independent noises nearly are."""
    a, b = torch.eye(dim, dtype=torch.float64)[:2]
    return (torch.lerp(a, b, 0.5).norm() / a.norm()).item()


ANSWERS = {
    "there-and-back": there_and_back,
    "sdedit-mean": lambda: sdedit_on_normal(0.5, 3.0)[0],
    "sdedit-variance": lambda: sdedit_on_normal(0.9, 3.0)[1],
    "gap-of-edict": lambda: gap_of_edict(20),
    "straight-mean": lambda: length_of_a_straight_mean(784),
}


RIGHT = {
    "invert_step": (
        rotated,
        lambda x_s, eps, ab_s, ab_t: (
            (x_s - ((1 - ab_s) ** 0.5 - (ab_s / ab_t) ** 0.5 * (1 - ab_t) ** 0.5) * eps) / (ab_s / ab_t) ** 0.5
        ),
    ),
    "printed_error": (
        lambda image, x_s, eps, ab_s, ab_t: (
            process.add_noise(image, eps, ab_t) - samplers.renoise(process.predict_x0(x_s, eps, ab_s), eps, ab_t)
        ),
        lambda image, x_s, eps, ab_s, ab_t: ab_t**0.5 * image - (ab_t / ab_s) ** 0.5 * (x_s - (1 - ab_s) ** 0.5 * eps),
    ),
    "round_trip_error": (trip_with_library, trip_by_index),
    "fixed_point_step": (fixed_point_solved, fixed_point_by_recursion),
    "slerp": (inversion.slerp, turned),
    "inpaint_step": (
        lambda x_t, eps, known, mask, z, ab_t, ab_s: (
            mask * process.add_noise(known, z, ab_s) + (1 - mask) * rotated(x_t, eps, ab_t, ab_s)
        ),
        inpaint_by_index,
    ),
}


CLAIMS = {"0.707": lambda: math.sin(math.pi / 4)}
