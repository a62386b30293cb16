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
    data,
    guidance,
    measurements,
    process,
    samplers,
    weights,
)
from lessons_src.guidance import classifier_free
from lessons_src.lessons.digit_runs import shipped
from lessons_src.lessons.lesson_06 import explorer, figures
from lessons_src.samplers import State, ddim, sample
from lessons_src.schedules import time_grid
from lessons_src.show.panels import grey
from lessons_src.show.widgets import rough_first


def test_the_circle_holds_99_percent_of_the_class_that_is_asked_for():
    x, labels = data.three_classes().sample(60_000, torch.Generator().manual_seed(7))
    for label in range(3):
        points, _ = explorer.guidance_picture(1.0, label, 2).panels
        circle = torch.tensor(points.target[-len(explorer.CIRCLE) :])
        centre, radius = circle[:-1].mean(0), explorer.RADIUS
        torch.testing.assert_close((circle - centre).norm(dim=1), torch.full((len(circle),), radius))
        inside = ((x[labels == label] - centre).norm(dim=1) < radius).double().mean().item()
        assert inside == pytest.approx(0.99, abs=0.003)


def test_the_key_names_the_colours():
    points, _ = explorer.guidance_picture(1.0, 0, 2).panels
    names = [name for _, _, name, *_ in points._message()["lines"]]
    assert names == ["class 0", "class 1", "class 2", "data of all classes"]


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
    (shown,) = picture.panels
    np.testing.assert_array_equal(shown.frames[-1], plain_ddim([3] * 12, 20, w))
    assert f"The batch of 12 takes {evaluations} network evaluations" in picture.text
    assert picture.formula[0].endswith(f" + {w:g} · (ε_c − ε_u)")
    read = int(re.search(r"reads (\d+) of 12 as 3", picture.text)[1])
    assert sum(label == "3" for label in shown.labels) == read
    assert all(label == "3" or re.fullmatch(r"[0-24-9] ✗", label) for label in shown.labels)
    assert (read == 12) == (w >= 2)


@pytest.mark.parametrize(("digit", "smallest"), [(0, 1.0), (1, 1.0), (4, 1.0), (3, 2.0), (6, 2.5)])
def test_the_smallest_scale_that_the_lesson_names(digit, smallest):
    for w in (smallest - 0.5, smallest):
        picture = explorer.digit_guidance_picture(w, digit, 20)
        assert (f"reads 12 of 12 as {digit}." in picture.text) == (w == smallest)


def test_guidance_shows_the_digit_that_is_asked_for():
    picture = explorer.digit_guidance_picture(2.0, 7, 5)
    np.testing.assert_array_equal(picture.panels[0].frames[-1], plain_ddim([7] * 12, 5, 2.0))


def told_variety(w: float, digit: int) -> float:
    return float(re.search(r"each other ([\d.]+) times", explorer.digit_guidance_picture(w, digit, 20).text)[1])


def test_more_guidance_makes_them_more_alike():
    variety = {w: told_variety(w, 7) for w in (1.0, 3.0, 10.0)}
    assert list(variety.values()) == sorted(variety.values(), reverse=True)
    assert told_variety(5.0, 6) < 0.7 <= told_variety(4.5, 6), "the dare"
    x = torch.tensor([[0.0, 2.0], [1.0, 1.0], [-1.0, 0.0]]).view(3, 1, 1, 2)
    pairs = [(x[i] - x[j]).square().mean() for i in range(3) for j in range(3) if i != j]
    assert explorer._variety(x) == pytest.approx(torch.stack(pairs).mean().sqrt().item())


def test_a_long_run_is_previewed_before_it_is_there():
    texts = [p.text for p in rough_first(explorer.digit_guidance_picture, 5, 20, w=2.0, digit=4)]
    assert texts[0].startswith("Preview with 5 steps; 20 are being computed. A classifier reads ")
    assert "5 DDIM steps" in texts[0]
    assert texts[1:] == [explorer.digit_guidance_picture(2.0, 4, 20).text]


def test_the_explorer_opens_with_a_digit_that_needs_guidance():
    guidance = explorer.explore_digit_guidance()
    assert guidance.picture.text == explorer.digit_guidance_picture(1.0, 6, 20).text
    assert "reads 9 of 12 as 6" in guidance.picture.text
    assert len(guidance.picture.png()) < 100_000


def test_the_dare_in_the_plane():
    """The smallest scale with all right, the one from which most lie where few data do, and four steps at a large w."""

    def told(w, steps=30):
        text = explorer.guidance_picture(w, 0, steps).text
        return [int(re.search(pattern, text)[1]) for pattern in (r"(\d+) % of the samples", r"(\d+) % lie outside")]

    assert told(1.0)[0] < told(1.5)[0] == 100
    assert told(8.5)[1] <= 50 < told(9.0)[1]
    assert told(7.5, 4)[1] > 95 > 50 > told(7.5)[1]


def test_a_negative_scale_is_written_with_a_minus():
    assert explorer.guidance_picture(-2.0, 0, 2).formula[0] == "ε̂ = ε_u − 2 · (ε_c − ε_u)"


# --- Figures


@pytest.fixture
def shown(monkeypatch):
    """The sentences of the figures shown, in order."""
    sentences = []
    monkeypatch.setattr(figures.plots, "show", lambda fig, text: sentences.append(text))
    return sentences


def test_the_prolonged_step_is_the_guess_that_blended_noise_implies():
    """Blending guesses and blending noises is the same; at w = 1 the guess is in the class, at w = 3 far beyond."""
    mixture, x, ab = data.three_classes(), torch.tensor([[0.5, -0.45]], dtype=torch.float64), 0.2
    guesses = figures.prolonged(guidance.blend, [0.5, -0.45], ab, [0, 1, 3])
    for w, guess in zip([0, 1, 3], guesses, strict=True):
        eps = guidance.blend(mixture.eps(x, ab), mixture.eps(x, ab, 0), w)
        torch.testing.assert_close(process.predict_x0(x, eps, ab)[0], guess)
    without, with_label, far = ((guess - mixture.means[0]).norm().item() / 0.5 for guess in guesses)
    assert with_label < 0.5 < 2 < without < far
    assert guesses[0].norm() < 0.5
    assert far == pytest.approx(4.0, abs=0.05)


def test_the_push_is_a_classifiers_gradient_and_fades_where_the_class_is_clear():
    x = torch.linspace(-3, 3, 61, dtype=torch.float64).unsqueeze(1)
    for ab in (0.05, 0.5, 0.95):
        gradient, difference = figures.push(x, ab)
        torch.testing.assert_close(gradient, difference)
        assert (gradient > 0).all()
        assert (gradient.diff(dim=0) < 0).all()


# The same flow by an adaptive solver of order 8: mean, standard deviation, share on the right
CROWDS = {
    -1: (-1.831143, 1.568085, 0.1870),
    0.5: (0.638885, 0.756808, 0.7731),
    1: (0.998761, 0.499196, 0.9776),
    2: (1.322669, 0.358983, 1),
    3: (1.522476, 0.314425, 1),
    5: (1.810687, 0.274467, 1),
    7.5: (2.080230, 0.251496, 1),
}


@pytest.mark.parametrize("w", CROWDS)
def test_the_guided_crowd(w):
    x = figures.guided_crowd(w)
    found = x.mean().item(), x.std(correction=0).item(), (x > 0).double().mean().item()
    assert found == pytest.approx(CROWDS[w], abs=1e-4)
    _, states = figures.paths(w)
    between = np.interp(figures.quantiles(25)[:, 0], figures.quantiles(401)[:, 0], x[:, 0])
    assert np.abs(states[-1].numpy() - between).max() < 0.04


@pytest.mark.parametrize("w", [1, 3, 7.5])
def test_the_guided_density_has_its_tails_and_the_crowds_mean_and_spread(w):
    x, density = figures.guided_density(w)
    assert density[[0, -1]].max() < 0.01 * density.max()
    assert torch.trapezoid(density, x).item() == pytest.approx(1, abs=1e-3)
    mean = torch.trapezoid(density * x, x).item()
    spread = torch.trapezoid(density * (x - mean) ** 2, x).item() ** 0.5
    assert (mean, spread) == pytest.approx(CROWDS[w][:2], abs=0.01)


def test_what_lies_beyond_the_guided_mean():
    assert figures.beyond(1.0) == 0.5
    assert 100 * figures.beyond(figures.guided_crowd(7.5).mean().item()) == pytest.approx(1.5, abs=0.05)


@pytest.mark.parametrize(
    ("w", "mean", "spread"), [(0, 0, 1.118034), (1, 1, 0.5), (3, 1.051146, 0.456739), (7.5, 1.084500, 0.435476)]
)
def test_the_tilted_law(w, mean, spread):
    density, *found = figures.tilted(w)
    assert found == pytest.approx([mean, spread], abs=1e-5)
    assert torch.trapezoid(density, figures.GRID[:, 0]).item() == pytest.approx(1)


def test_guided_and_tilted_agree_at_0_and_1_only():
    for w in (0, 1, 2, 3, 7.5):
        x, (_, mean, spread) = figures.guided_crowd(w), figures.tilted(w)
        agree = abs(x.mean().item() - mean) < 0.01 and abs(x.std().item() - spread) < 0.01
        assert agree == (w in (0, 1))


def away(w, other):
    """Standard errors by which the distance at w is larger than that at another scale."""
    difference, error = figures.compared(w, other)
    return difference / error


def test_what_the_digits_say_about_the_scale(shown):
    """Differences in their standard errors: 1.2 is best, 1 is worse, and from 2 on it is worse than 1."""
    rows = figures.measured()
    assert min(rows, key=lambda w: rows[w]["frechet"]) == 1.2
    assert figures.alike(1.2) == [1.2, 1.3]
    assert away(1, 1.2) > 3
    assert all(2 < away(w, 1.2) < 3 for w in (1.1, 1.15, 1.5))
    assert all(away(w, 1) > 3 for w in (2, 3, 5, 7, 10))
    assert rows[1.2]["frechet"] > rows[1]["floor"] + 3 * rows[1]["floor_spread"], "no sample is as real digits are"
    assert figures.compared(2, 2) == (0, 0)
    figures.show_measured()
    assert "1.16, is at w = 1.2; 1.3 cannot be told from it." in shown[0]
    assert "From w = 1 to 1.2, with the same noise, it falls by 0.60 ± 0.17." in shown[0]


def test_what_else_changes_with_the_scale():
    rows = figures.measured()
    assert all(rows[w]["accuracy"] > 0.99 for w in rows if w >= 2), "a reader is content from 2 on"
    assert rows[1]["accuracy"] == pytest.approx(0.94, abs=0.005)
    spreads = [row["spread"] for row in rows.values()]
    assert spreads == sorted(spreads, reverse=True)
    assert min(rows, key=lambda w: abs(rows[w]["spread"] - 1)) == 1.15
    assert rows[1]["spread"] > 1.05, "at 1 the classes are a little blurred"


def test_without_label_drop_digits_without_label_are_none():
    runs = measurements.load("recipes")
    with_drop, without_drop = (
        [row["frechet without label"] for row in runs if row["recipe"] == recipe]
        for recipe in ("as shipped, but 1,500 steps", "labels never dropped")
    )
    assert min(without_drop) > 2 * max(with_drop)


def test_a_null_label_that_was_never_trained():
    """Random numbers in its row: the same digits at w = 1, specks and digits that can still be read at w = 3."""
    found, (net, judge) = figures.forgotten_null((0, 1, 3)), shipped()
    torch.testing.assert_close(found[False, 1], found[True, 1])
    assert (judge(found[False, 3]).argmax(1) == torch.arange(10)).all()
    for w in (0, 3):
        assert figures.specks(found[False, w]) > 3 * figures.specks(found[True, w])
    assert net.body.label.weight[-1].equal(weights.load("digits")[0].body.label.weight[-1])
    assert figures.specks(-torch.ones(2, 1, 28, 28)) == 0
    assert figures.specks(torch.ones(2, 1, 28, 28)) == 100


@pytest.mark.parametrize(
    ("w", "length"), [(-1, 0.616441400), (1, 0.374165739), (3, 1.349073756), (7.5, 3.552463934), (20, 9.675742866)]
)
def test_example_2(w, length):
    eps_u, eps_c = torch.tensor([[-0.1, 0.1, 0.0], [0.1, -0.3, 0.2]], dtype=torch.float64)
    guided = guidance.blend(eps_u, eps_c, w)
    assert guided.norm().item() == pytest.approx(length, abs=1e-9)
    if w == 7.5:
        assert guided.tolist() == pytest.approx([1.4, -2.9, 1.5])
        assert (guided.norm() / eps_c.norm()).item() == pytest.approx(9.494359227607577)
        assert ((guided - eps_c).norm() / (eps_c - eps_u).norm()).item() == pytest.approx(6.5)


@pytest.mark.parametrize("w", [-1, 0, 1, 3, 7.5])
def test_the_guided_walk_is_a_line_in_w(w):
    assert walk([0.0, 2.0], w)[2][1] == pytest.approx(0.718848 + 0.79872256 * w * 2, abs=1e-12)


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
