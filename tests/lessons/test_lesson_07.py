"""Lesson 07: the answers to its questions, its explorer, and the numbers in its words."""

import math
import re

import nbformat
import pytest
import torch
from test_lesson_07_exercises import CLAIMS, RIGHT  # noqa: F401 - for the tests of every lesson

from lessons_src import data, measurements, weights
from lessons_src.evaluation import in_batches
from lessons_src.guidance import classifier, gradient
from lessons_src.lessons.lesson_07 import explorer, figures, laws, steering
from lessons_src.make.pages import NOTEBOOKS
from lessons_src.measurements import start_noise
from lessons_src.metrics import wilson_interval
from lessons_src.oracle import GaussianMixture
from lessons_src.schedules import linear
from lessons_src.show import plots

ARGUMENTS = {"explore_digits": (lambda eps_fn, guide, w: library(eps_fn, w),)}
PAIR = GaussianMixture([0.5, 0.5], [[1.0], [-1.0]], [[[0.25]], [[0.25]]])


def library(eps_fn, w):
    """What the lesson's own `steer` computes, for the digits 0 to 9."""
    return classifier(eps_fn, steering.noise_aware, figures.shipped("digits").schedule, start_noise(10)[1], w)


def guided(eps, push, alpha_bar, w):
    return eps - w * math.sqrt(1 - alpha_bar) * push


def two_classes():
    v = 0.5 / 4 + 0.5
    return guided(0, 2 * math.sqrt(0.5) / v / 2, 0.5, 3)


ANSWERS = {"guided-by-hand": lambda: guided(0.5, 2, 0.36, 3), "two-classes-by-hand": two_classes}


def test_near_misses_are_the_mistakes_that_they_name():
    """The sign, no root, the wrong root, 1 - ab without its root, w = 1; and of the deeper question."""
    assert guided(0.5, -2, 0.36, 3) == pytest.approx(5.3)
    for factor, value in ((1, -5.5), (math.sqrt(0.36), -3.1), (1 - 0.36, -3.34)):
        assert 0.5 - 3 * factor * 2 == pytest.approx(value)
    assert guided(0.5, 2, 0.36, 1) == pytest.approx(-1.1)
    push = 2 * math.sqrt(0.5) / 0.625 / 2
    assert push == pytest.approx(1.1314, abs=1e-4)
    assert (guided(0, -push, 0.5, 3), -3 * push, guided(0, 2 * push, 0.5, 3), guided(0, push, 0.5, 1)) == pytest.approx(
        (2.4, -3.394, -4.8, -0.8), abs=1e-3
    )


# --- The cell's function


def test_steer_in_the_cell_is_that_of_the_library_also_under_no_grad():
    notebook = nbformat.read(NOTEBOOKS / "07_classifier_guidance.ipynb", as_version=4)
    (cell,) = (cell for cell in notebook.cells if cell.cell_type == "code" and "def steer(" in cell.source)
    net = steering.shipped("digits")
    scope = {"torch": torch}
    exec(notebook.cells[1].source, scope)
    exec(cell.source.split("\n\n\n")[0], scope)
    x, label = start_noise(10)
    t = torch.tensor([1000, 700, 300, 20, 1, 900, 500, 400, 200, 100])
    with torch.no_grad():
        mine = scope["steer"](net, steering.noise_aware, 2.0)(x, t)
    library = classifier(net, steering.noise_aware, net.schedule, label, 2.0)(x, t)
    torch.testing.assert_close(mine, library)
    assert not mine.requires_grad


# --- The explorer


def told(guide, w=1.0, t=500, label=1):
    text = explorer.guide_picture(guide, w, t, label).text
    return [int(found) for found in re.search(r"(\d+) of 200 samples land.*; (\d+) land nowhere", text).groups()]


def test_the_dares_of_the_ring():
    """Of 200 the clean guide takes 16 to the class, w = 0 21, the exact one all; at -1.5 and from 10.5 on none."""
    assert told(laws.CLEAN_EXACT) == [16, 184]
    assert told(laws.EXACT) == [200, 0]
    assert told(laws.EXACT, 10.0)[0] > 0
    assert all(told(laws.EXACT, w) == [0, 200] for w in (-2.0, -1.5, 10.5, 11.0, 11.5, 12.0))
    assert told(laws.CLEAN_EXACT, 0.0)[0] == told(laws.EXACT, 0.0)[0] == 21
    _, path = explorer.flow(laws.CLEAN_EXACT, 1.0, 1)
    assert int((path[1].abs().amax(1) > explorer.FAR).sum()) == 180, "one step throws them out of the picture"
    assert 0 < told(laws.EXACT, -1.0)[0] < 0.1 * told(laws.EXACT, 0.0)[0], "a negative scale drives away from the class"


@pytest.mark.parametrize("label", range(8))
def test_the_clean_guide_points_wrong_from_t_300_on(label):
    found = {t: explorer.pushes(laws.CLEAN_EXACT, t, label) for t in range(20, 1001, 20)}
    cosines = [push.cosine for push in found.values()]
    assert cosines == sorted(cosines, reverse=True)
    if label == 1:  # the class at which the explorer opens
        assert found[280].cosine > 0.9 > found[300].cosine
        assert round(found[300].longer) == 51


def test_pushes_are_those_that_the_steered_prediction_takes_away():
    schedule, ring = linear(), data.ring()
    net, t = ring.network(schedule), 400
    found = explorer.pushes(laws.EXACT, t, 3)
    time = torch.full((len(found.x),), t)
    taken = net(found.x, time) - classifier(net, net.log_prob, schedule, 3, 1.0)(found.x, time)
    assert (taken - found.mine).abs().max() < 1e-10
    assert torch.equal(found.mine, found.right)
    assert (found.cosine, found.longer) == pytest.approx((1, 1))


def test_the_exact_guide_draws_what_the_label_draws():
    _, path = explorer.flow(laws.EXACT, 1.0, 2)
    ring, schedule, start = data.ring(), linear(), data.noise(200, 2, seed=6)
    times = explorer.time_grid(schedule, explorer.STEPS)
    net = ring.network(schedule)
    plain = explorer.trajectory(start, explorer.ddim(lambda x, t: net(x, t, 2), start, schedule, times))
    assert (path - plain).abs().max() < 1e-9


def test_landing_means_in_the_circle_that_holds_99_percent():
    x, label = data.ring().sample(20_000, torch.Generator().manual_seed(2))
    assert (explorer.landed(x) == label).double().mean().item() == pytest.approx(0.99, abs=0.003)
    assert explorer.landed(torch.zeros(1, 2, dtype=torch.float64)).item() == -1


def test_points_with_arrows_are_the_first_that_are_apart_and_inside():
    x = torch.tensor([[0, 0], [0.4, 0], [2.6, 0], [0.6, 0], *([[0, 1]] * 3)], dtype=torch.float64)
    assert explorer.spread(x) == [0, 3, 4]


@pytest.mark.parametrize("t", [20, 500, 1000])
@pytest.mark.parametrize("w", [-2.0, 0.0, 1.0, 3.0])
def test_right_pushes_are_equally_long_at_every_t_and_w_scales_those_of_the_guide(t, w):
    picture = explorer.guide_picture(laws.EXACT, w, t, 1)
    panel = picture.panels[0]
    right, mine = panel.arrows.values()
    assert panel.frames.shape == (1, explorer.SHOWN, 2)
    assert (right[:, :2] == panel.frames[0]).all()
    assert (mine[:, :2] == panel.frames[0]).all()
    assert math.isclose(sum(math.hypot(*way) for way in right[:, 2:]) / explorer.SHOWN, explorer.MEAN, rel_tol=1e-5)
    assert mine[:, 2:] == pytest.approx(w * right[:, 2:], abs=1e-5)
    said = {-2.0: "cosine -1.000 along the right one, 2 times", 1.0: "cosine 1.000 along the right one, just as long"}
    assert said.get(w, "") in picture.text
    assert (picture.formula[0] == "ε̂ = ε") == ("there is no guide" in picture.text) == (w == 0)


def test_the_stored_picture_is_small_and_the_formula_has_its_sign():
    picture = explorer.guide_picture(laws.EXACT, 1.0, 500, 1)
    assert len(picture.png()) < 100_000
    assert picture.formula[0] == "ε̂ = ε − 1 · √(1 − ᾱ) ∇ log p(class 1 | x_t)"


def test_the_dares_of_the_digits():
    """The counts of guide and judge; from w = 3 to 4.5 both read all ten, and which digit pleases one alone."""

    def seen(w):
        picture = explorer.digits_picture(ARGUMENTS["explore_digits"][0], w, 20)
        return [label.split(" | ") for label in picture.panels[0].labels], picture

    assert all("✗" in part for both in seen(-2.0)[0] for part in both)
    for w, alone in ((0.5, [8]), (1.0, []), (1.5, []), (2.0, [2]), (2.5, []), (3.0, []), (4.5, [])):
        found = seen(w)[0]
        assert [i for i, (mine, other) in enumerate(found) if "✗" not in mine and "✗" in other] == alone
        assert all("✗" not in part for both in found for part in both) == (w >= 3)
    guide, judge = zip(*seen(1.0)[0], strict=True)
    assert sum("✗" in part for part in judge) < sum("✗" in part for part in guide), "ten digits mislead"
    labels, picture = seen(2.0)
    assert labels[2] == ["2", "7 ✗"]
    assert "guide reads 9 of 10 digits as wanted, the judge 8" in picture.text
    for w in (5.0, 5.5, 10.0):
        assert any("✗" in part for both in seen(w)[0] for part in both)


def test_digits_are_shown_roughly_at_first():
    shown = explorer.explore_digits(*ARGUMENTS["explore_digits"])
    shown.set_state({"_request": {"id": 1, "values": {"w": 1.0}}})
    assert shown.picture.text.startswith("Preview with 5 steps")
    assert set(shown.picture.panels[0].labels) == {"…"}, "a preview counts nothing"
    shown.set_state({"_request": {"id": 2, "values": {"w": 1.0}, "more": True}})
    assert shown.picture.text.startswith("At w = 1 the guide reads")


# --- What the words say


@pytest.fixture
def shown(monkeypatch):
    """The sentences of the figures shown, in order."""
    sentences = []
    monkeypatch.setattr(plots, "show", lambda fig, text: sentences.append(text))
    return sentences


def test_a_clean_classifier_sees_an_8_in_everything():
    """Right on clean digits; at t = 300 nearly always one answer, from 400 on always, from 600 on with certainty."""
    (x0, label), guide = data.digits("test"), weights.load("classifier")[0]
    right = (in_batches(guide, x0[:2000]).argmax(1) == label[:2000]).double().mean().item()
    assert right == pytest.approx(0.986, abs=0.001)
    ab = steering.shipped("digits").schedule.alpha_bar
    for t, share in ((300, 0.85), (500, 1.0)):
        x = steering.add_noise(x0[:500], torch.randn(x0[:500].shape, generator=torch.Generator().manual_seed(t)), ab[t])
        assert (in_batches(guide, x).argmax(1) == 8).double().mean() >= share
    rows = figures.reading()[steering.CLEAN]
    assert {rows[t]["right"] for t in rows if t >= 400} == {int((label[:2000] == 8).sum())}
    assert all(rows[t]["mean highest probability"] > 0.9995 for t in rows if t >= 600)


def test_accuracies_that_the_questions_quote():
    aware, clean = figures.reading()[steering.AWARE], figures.reading()[steering.CLEAN]
    assert [100 * figures.share(clean[t]).value for t in (1, 100, 200, 300)] == pytest.approx(
        [98.6, 90, 64, 15.8], abs=0.3
    )
    assert [100 * figures.share(aware[t]).value for t in (1, 300)] == pytest.approx([98.8, 98], abs=0.3)
    rows = figures.runs(steering.AWARE)
    assert 100 * rows[2]["guide accuracy"] == pytest.approx(85, abs=0.5)
    assert 100 * rows[2]["accuracy"] == pytest.approx(70, abs=0.5)
    assert 100 * rows[15]["guide accuracy"] == pytest.approx(99.9)
    assert rows[0]["frechet"] == pytest.approx(12.6, abs=0.05)
    found = figures.against()
    assert found["classifier-free"]["w"] == pytest.approx(1.2, abs=0.05)
    assert found["classifier, no label"]["frechet"] == pytest.approx(5.6, abs=0.05)
    assert found["classifier-free"]["frechet"] == pytest.approx(1.3, abs=0.05)


def test_the_clean_gradient_has_next_to_nothing_to_do_with_the_push():
    aware, clean = figures.reading()[steering.AWARE], figures.reading()[steering.CLEAN]
    assert all(abs(row["cosine"]) + 2 * row["standard error"] < 0.06 for row in clean.values())
    cosines = [aware[t]["cosine"] for t in (1, *range(100, 901, 100))]
    assert abs(cosines[0]) < 0.01
    assert cosines == sorted(cosines), "the more noise, the more it agrees, but at t = 1000"
    for t in range(100, 1001, 100):
        error = math.hypot(aware[t]["standard error"], clean[t]["standard error"])
        assert aware[t]["cosine"] - clean[t]["cosine"] > 3 * error


def test_at_w_1_the_judge_reads_half():
    span = figures.judge_share(figures.runs(steering.AWARE)[1])
    assert span.low < 0.5 < span.high
    assert figures.runs(steering.AWARE)[1]["guide accuracy"] == pytest.approx(0.58)


def test_the_largest_gap_is_at_w_2():
    gaps = figures.gaps()
    assert max(gaps, key=lambda w: gaps[w].value) == 2
    assert (100 * gaps[2].value, 100 * gaps[2].low, 100 * gaps[2].high) == pytest.approx((14.3, 11.3, 17.1), abs=0.1)
    assert gaps[0].low < 0 < gaps[0].high
    assert all(gap.low > 0 for w, gap in gaps.items() if w)


def test_with_the_label_a_light_touch_cannot_be_told_from_classifier_free_guidance():
    free = figures.runs(steering.FREE, figures.OWN)[1.2]
    for guide in (steering.AWARE, steering.CLIP):
        rows = figures.runs(guide, figures.CONDITIONAL)
        away, error = figures.difference(rows[0.5], free)
        assert abs(away) < 2 * error
        for w in (1, 2):
            away, error = figures.difference(rows[w], free)
            assert away > 2 * error, "from 1 on it is farther away, as the deeper notebook says"
        assert abs(rows[0.5]["accuracy"] - free["accuracy"]) < 0.01


@pytest.mark.parametrize(
    ("guide", "base", "low", "high"),
    [(steering.AWARE, figures.UNCONDITIONAL, 8, 15), (steering.CLIP, figures.UNCONDITIONAL, 4, 8)],
)
def test_far_on_the_distance_rises_again(guide, base, low, high):
    rows = figures.runs(guide, base)
    away, error = figures.difference(rows[high], rows[low])
    assert away > 2 * error
    assert rows[high]["cosine"] > rows[low]["cosine"], "the caption score goes on rising"


def test_the_distance_without_label_is_four_times_that_with_it():
    without = figures.runs(steering.AWARE)[15]["frechet"]
    assert without / figures.runs(steering.AWARE, figures.CONDITIONAL)[0.5]["frechet"] == pytest.approx(4.5, abs=0.5)


def test_a_guide_on_a_network_with_label_counts_the_label_twice():
    """w on the conditional base is w + 1 on the other; so w = 1 is classifier-free guidance at 2."""
    schedule = figures.shipped("digits").schedule
    x = torch.linspace(-3, 3, 31, dtype=torch.float64)[:, None]
    net, t = PAIR.network(schedule), torch.full((31,), 600)
    for w in (0.0, 0.5, 1.0, 3.0):
        told = classifier(lambda x, t: net(x, t, 0), net.log_prob, schedule, 0, w)(x, t)
        assert (told - classifier(net, net.log_prob, schedule, 0, w + 1)(x, t)).abs().max() < 1e-12


def test_the_two_classes_of_the_table():
    """What 401 even quantiles become under exact classifier guidance: numbers that were computed by other means."""
    start = torch.special.ndtri((torch.arange(401, dtype=torch.float64)[:, None] + 0.5) / 401)
    expected = {
        -1: (-1.831143, 1.568085),
        0.5: (0.638885, 0.756808),
        3: (1.522476, 0.314425),
        7.5: (2.080230, 0.251496),
    }
    for w, (mean, std) in expected.items():
        x = laws.guided_flow(PAIR, PAIR.log_class_posterior, 0, w, start, math.exp(-12))
        assert (x.mean().item(), x.std(correction=0).item()) == pytest.approx((mean, std), abs=2e-5)
        if w == -1:
            assert (x > 1e-9).double().mean().item() == pytest.approx(0.187, abs=0.0005)


# --- Figures


def test_the_network_without_label_obeys_the_push(shown):
    steer = ARGUMENTS["explore_digits"][0]
    figures.show_steered(steer)
    (text,) = shown
    counts = [int(found) for found in re.findall(r"\d+", text.split("reads")[1])]
    assert counts[0] <= 3 < 7 <= counts[1] <= max(counts)
    assert figures.judged(figures.draw(steer(figures.shipped("digits"), None, 5))) == counts[3]


def test_noisy_digits_are_read_rightly_by_the_one_that_knows_noise(shown):
    figures.show_noisy()
    (text,) = shown
    assert "at t = 300 the first reads 9 of 9 rightly, the second 2" in text
    x, label, read = figures.noisy_digits(500)
    assert x.shape == (9, 1, 28, 28)
    assert label.tolist() == list(range(1, 10))
    assert read[steering.CLEAN].eq(8).all()


def test_a_negative_scale_leaves_next_to_no_digit_as_wanted():
    away, plain = (figures.judged(steering.draw(steering.AWARE, w, 200)[0]) for w in (-1.0, 0.0))
    assert wilson_interval(away, 200).high < 0.05 < wilson_interval(plain, 200).low


def test_at_t_1000_the_network_knows_the_right_push_and_the_classifier_does_not():
    """It leads from the mean of all digits to that of the class wanted, for there is hardly any signal left."""
    net, (x0, label) = figures.shipped("digits"), data.digits("train")
    x, own = start_noise(200)
    t = torch.full((200,), 1000)
    means = torch.stack([x0[label == k].mean(0) for k in range(10)])
    right = (means[own] - x0.mean(0)).flatten(1)
    with torch.no_grad():
        pull = (net(x, t) - net(x, t, own)).flatten(1)
    push = gradient(lambda x, t: steering.noise_aware(x, t).gather(1, own[:, None])[:, 0], x, t).flatten(1)
    cosine = torch.nn.functional.cosine_similarity
    assert cosine(pull, right).mean() > 0.95
    assert 0.3 < cosine(push, right).mean() < 0.6


def test_one_step_with_a_gradient_that_is_far_too_long():
    assert figures.first_step(steering.CLEAN) == pytest.approx(458, rel=0.02)
    assert figures.first_step(steering.AWARE) == pytest.approx(1, abs=0.2)


def test_words_make_strokes_thin_or_bold(shown):
    figures.show_words()
    thin, bold = (float(found) for found in re.findall(r"(\d\.\d+) pixels", shown[0]))
    assert thin < figures.captions.THIN < figures.captions.BOLD < bold


@pytest.mark.parametrize("show", [figures.show_reading, figures.show_fooled, figures.show_against])
def test_pictures_say_in_a_sentence_what_they_show(shown, show):
    show()
    assert len(shown) == 1
    assert not re.search(r"\b(nan|inf)\b", shown[0])


def test_an_error_is_shown_twice():
    assert figures.told(1.0, 0.25) == "1.00 ± 0.50"


def test_the_bill_is_of_passes(monkeypatch):
    tables = []
    monkeypatch.setattr(plots, "table", lambda columns, text: tables.append(columns))
    figures.show_bill()
    (columns,) = tables
    assert (columns["network"], columns["guide, forward"], columns["guide, backward"]) == ([40, 20], [0, 20], [0, 20])
    free, steered = (int(found.removesuffix(" ms")) for found in columns["CPU time"])
    assert steered < free


def test_runs_are_in_the_order_of_their_scales():
    rows = figures.runs(steering.AWARE)
    assert list(rows) == sorted(rows)
    assert all(row["n"] == 1000 for row in rows.values())
    assert set(figures.against()) == set(figures.REACHING) < set(figures.COMPARED)
    assert measurements.digits_of(rows[1.0]).shape == (10, 1, 28, 28)
