"""What lesson 13's notebooks say: pictures of clouds and balls, and the numbers in their words."""

import math

import nbformat
import pytest
import torch

from lessons_src import captions, data, weights
from lessons_src.evaluation import Reference, in_batches
from lessons_src.lessons.lesson_13 import clouds, curves, explorer
from lessons_src.lessons.lesson_13.stored import seen, stored
from lessons_src.make.pages import NOTEBOOKS
from lessons_src.metrics import (
    cluster_shares,
    frechet_distance,
    inception_score,
    kernel_distance,
    kmeans,
    precision_recall,
    two_sample_test,
)
from lessons_src.show import plots


@pytest.fixture(scope="module")
def real():
    return seen("test").double()


@pytest.fixture(scope="module")
def ddim():
    return stored("features")[0][curves.DDIM].double()


def in_cell(folder, name):
    """The function of this name, as a notebook defines it in a cell, with what that cell needs."""
    notebook = nbformat.read(NOTEBOOKS / folder / "13_evaluation.ipynb", as_version=4)
    (cell,) = (cell for cell in notebook.cells if cell.cell_type == "code" and f"def {name}(" in cell.source)
    scope = {"torch": torch, "cdist": torch.cdist}
    exec(cell.source.split("\n\n\n")[0], scope)
    return scope[name]


# --- Code in cells


def test_the_distance_in_the_cell_is_that_of_the_library(real, ddim):
    frechet = in_cell("", "frechet")
    assert frechet(ddim, real) == pytest.approx(frechet_distance(ddim, real))
    assert frechet(ddim, real) == pytest.approx(1.59, abs=0.005)
    assert frechet(real, real) == pytest.approx(0, abs=1e-6)


def test_the_balls_in_the_cell_are_those_of_the_library(real, ddim):
    inside = in_cell("", "inside")
    assert (inside(ddim, real), inside(real, ddim)) == precision_recall(real, ddim)


def test_the_kernel_in_the_cell_is_that_of_the_library(real, ddim):
    kernel = in_cell("deeper", "kernel")
    assert kernel(ddim, real) == pytest.approx(kernel_distance(ddim, real))


# --- Pictures


def test_blur_shrinks_the_cloud_and_junk_has_its_gaussian():
    found = clouds.clouds()
    real, blurred, junk = found.values()
    flat = {name: torch.cov((x @ clouds.widest(real)).T) for name, x in found.items()}
    assert torch.linalg.det(flat["blurred digits"]) < 0.5 * torch.linalg.det(flat["real digits"])
    assert torch.allclose(flat["matched junk"], flat["real digits"], atol=0.03 * flat["real digits"].max())
    assert frechet_distance(blurred, real) == pytest.approx(52.3, abs=0.05)
    assert frechet_distance(junk, real) == pytest.approx(0.24, abs=0.005)


def test_the_widest_directions_are_those_of_the_largest_variances(real):
    variances = (real @ clouds.widest(real)).var(0)
    assert torch.allclose(variances, torch.linalg.eigvalsh(torch.cov(real.T))[-2:].flip(0))


def test_an_ellipse_is_two_standard_deviations_along_its_axes():
    _, axes = plots.figure()
    points = torch.randn(5000, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([3.0, 1.0])
    turned = points @ torch.tensor([[math.cos(0.5), math.sin(0.5)], [-math.sin(0.5), math.cos(0.5)]])
    clouds._ellipse(axes[0, 0], turned, "red", "-")
    (shape,) = axes[0, 0].patches
    sides = sorted((shape.width, shape.height))
    assert sides == pytest.approx([4, 12], rel=0.04)
    long_axis = shape.angle + (90 if shape.height > shape.width else 0)
    assert math.cos(math.radians(long_axis) - 0.5) ** 2 > 0.99


def test_the_toy_misses_a_group_and_makes_one_up():
    real, samples = clouds.toy()
    found = precision_recall(real, samples)
    far = clouds.radius(samples)
    inside = (torch.cdist(real, samples) <= far).any(1)
    assert not inside[14:].any(), "the second group"
    assert inside[:14].double().mean() > 0.8
    assert found.recall == pytest.approx(inside.double().mean().item())
    assert not (torch.cdist(samples[18:], real) <= clouds.radius(real)).any(), "made up"


@pytest.mark.parametrize("show", [clouds.show_clouds, clouds.show_balls, clouds.show_gallery])
def test_pictures_say_in_a_sentence_what_they_show(monkeypatch, show):
    told = []
    monkeypatch.setattr(plots, "show", lambda fig, text: told.append(text))
    show()
    assert told
    assert "nan" not in told[0]


def test_the_gallery_is_ordered_by_distance_and_three_faults_pass():
    found = {name: distance for name, (_, distance) in clouds.gallery().items()}
    order = sorted(found, key=found.get)
    assert order[0] == "matched junk"
    assert set(order[:3]) == {"matched junk", "memorised copies", "wrong labels"}
    assert order[-1] == "blur"
    assert found[order[2]] < 1 < 5 < found[order[3]]


# --- Numbers in words


def test_the_floor_of_2000_even_digits():
    judge = weights.load("judge")[0]
    floor, spread = Reference(judge.features, data.digits("test")[0], *data.digits("train")).floor(
        torch.arange(2000) % 10
    )
    assert (floor, spread) == pytest.approx((0.63, 0.08), abs=0.006)
    assert floor - 0.24 > 4 * spread, "below the floor, as the checkpoint says"


@pytest.mark.parametrize(
    ("d", "n", "value"),
    [(16, 500, 0.168), (16, 5000, 0.0168), (64, 500, 2.212), (64, 1000, 1.105), (64, 5000, 0.2208), (64, 20000, 0.055)],
)
def test_the_bias_that_the_formula_expects(d, n, value):
    assert curves.expected_bias(torch.ones(d), n) == pytest.approx(value, rel=0.005)
    assert curves.expected_bias(torch.ones(d), n) == pytest.approx(d / n + d * (d + 1) / (4 * (n - 1)))


def test_ten_digits_have_the_highest_inception_score_and_no_recall(real):
    test, label = data.digits("test")
    judge = weights.load("judge")[0]
    with torch.no_grad():
        p = in_batches(lambda x: judge(x).softmax(1), test)
    clearest = torch.stack([(p[:, c] * (label == c)).argmax() for c in range(10)]).repeat(200)
    assert inception_score(p) == pytest.approx(9.69, abs=0.005)
    assert inception_score(p[clearest]) > 9.999
    assert frechet_distance(real[clearest], real) > 10


def test_clusters_are_not_classes(real):
    label = data.digits("test")[1]
    centres = kmeans(real, 10, torch.Generator().manual_seed(0))
    own = torch.cdist(real, centres).argmin(1)
    counts = torch.stack([label[own == k].bincount(minlength=10) for k in range(10)]).double()
    pure = counts.amax(1) / counts.sum(1)
    assert pure.min() < 0.6, "a mixture of two digits"
    assert len(set(counts.argmax(1).tolist())) < 10, "a digit with two clusters"
    drawn = stored("features")[0].values()
    for x in drawn:
        ratio = cluster_shares(x.double(), centres) / cluster_shares(real, centres)
        assert ratio.argmax() == 5
        assert 1.7 < ratio[5] < 2.7


def test_real_digits_are_told_from_real_digits_of_other_writers(real, ddim):
    train, generator = seen("train").double(), torch.Generator().manual_seed
    assert two_sample_test(train[::5], real, generator(0)).p_value < 1e-6
    assert two_sample_test(train[::5], train[1::5], generator(0)).p_value > 0.05
    assert two_sample_test(ddim, real, generator(0)).accuracy > 0.6


def test_the_caption_that_is_wrong_in_one_word_fits_less_and_one_picture_a_caption_fits_best():
    net, (test, label) = weights.load("embedding")[0], data.digits("test")
    wanted = captions.attributes(test, label)
    with torch.no_grad():
        picture = torch.nn.functional.normalize(in_batches(net.image, test), dim=1)
        own = torch.nn.functional.normalize(net.text(captions.tokens(captions.write(wanted))), dim=1)
    fit = picture @ own.T
    assert fit.diagonal().mean().item() == pytest.approx(0.629, abs=5e-4)
    assert fit.amax(0).mean().item() == pytest.approx(0.700, abs=5e-4)


def test_a_fault_of_faint_pictures_has_a_small_distance():
    judge = weights.load("judge")[0]

    def features(x):
        return in_batches(judge.features, (x + 1) / 10 - 1).double()

    test = features(data.digits("test")[0])
    clean, blurred = (
        clouds.plant("blur", strength, 2000, torch.Generator().manual_seed(0)).x for strength in (0.0, 1.0)
    )
    near, far = (frechet_distance(features(x), test) for x in (clean, blurred))
    assert far == pytest.approx(0.28, abs=0.005)
    assert far > 10 * near


@pytest.mark.parametrize(
    ("fault", "silent", "alarms"),
    [
        ("matched junk", {"Fréchet", "kernel"}, {"inception", "precision", "accuracy"}),
        ("memorised copies", {"Fréchet", "kernel", "precision", "accuracy"}, {"neighbour ratio", "copying z"}),
    ],
)
def test_the_dare_has_the_answers_that_it_names(fault, silent, alarms):
    text = explorer.faults_picture(fault, 100).text
    said = text.split("Alarm: ")[1].split(". ")[0].split(", ")
    assert alarms <= set(said)
    assert not silent & set(said)
