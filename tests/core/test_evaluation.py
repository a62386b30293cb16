"""Samples beside real data: the floor, what is refused, and what each score sees and does not see."""

import math

import pytest
import torch

from lessons_src import data, evaluation, weights
from lessons_src.evaluation import Reference, accuracy, check_images, digit_quality, in_batches, modes
from lessons_src.metrics import frechet_distance, nearest_distance
from lessons_src.networks import DigitClassifier


def test_batches():
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    assert torch.equal(in_batches(lambda part: 2 * part, x, size=1), 2 * x)


def test_accuracy_judges_in_evaluation_mode_and_refuses_columns():
    net = weights.load("classifier")[0].train()
    x, label = (part[:50] for part in data.digits("test"))
    before = {key: value.clone() for key, value in net.state_dict().items()}
    assert accuracy(net, x, label) > 0.9
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    with pytest.raises(ValueError, match=r"label is .*\(50, 1\).* expected shape \(50,\)"):
        accuracy(net, x, label[:, None])


def some_points(n, seed):
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))


def some(n: int) -> torch.Tensor:
    return torch.zeros(n, dtype=torch.int64)


def test_the_floor_is_mean_and_spread_over_repeatable_draws():
    images, train = some_points(300, 0), some_points(400, 1)
    reference = Reference(lambda x: x, images, train, some(400))
    mean, spread = reference.floor(some(50))
    assert (mean, spread) == reference.floor(some(50))
    assert reference.floor(some(50), seed=1) != (mean, spread)
    assert 0 < spread < mean
    more, other = (reference.floor(some(50), draws=200, seed=seed) for seed in (0, 1))
    assert more[0] == pytest.approx(other[0], abs=5 * more[1] / 200**0.5), (
        "the mean settles, the spread does not shrink"
    )
    assert more[1] == pytest.approx(spread, rel=0.8)
    assert reference.floor(some(200))[0] < mean, "fewer samples are further away"
    everything = frechet_distance(train, images)
    assert reference.floor(some(400)) == (pytest.approx(everything), pytest.approx(0, abs=1e-9))


def test_the_floor_draws_as_many_of_each_class_as_the_samples_have():
    """Class 1 lies far away: with as many of it as the images have, real points are near, with none they are not."""
    near, far = some_points(200, 0), some_points(200, 1) + 20
    train, label = torch.cat([some_points(200, 2), some_points(200, 3) + 20]), torch.arange(400) // 200
    reference = Reference(lambda x: x, torch.cat([near, far]), train, label)
    assert reference.floor(label[100:300])[0] < 0.5
    assert reference.floor(label[:150])[0] > 100
    mixed = label[torch.randperm(400, generator=torch.Generator().manual_seed(0))]
    assert reference.floor(mixed) == (
        pytest.approx(frechet_distance(train, reference.real)),
        pytest.approx(0, abs=1e-9),
    )


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda reference: reference.floor(some(2)), r"label is .*\(2,\).* with n > 2, the number of features"),
        (lambda reference: reference.floor(some(20)[:, None]), r"label is .*\(20, 1\).* expected shape \(n,\)"),
        (
            lambda reference: reference.floor(some(41)),
            r"label is .*at most 40 of class 0, as there are in train",
        ),
        (lambda reference: reference.floor(some(20) + 3), r"label is .*at most 0 of class 3"),
        (lambda reference: reference.floor(some(20), draws=1), "draws is 1; expected a whole number, at least 2"),
    ],
)
def test_a_floor_that_cannot_be_drawn_is_refused(call, named):
    with pytest.raises(ValueError, match=named):
        call(Reference(lambda x: x, some_points(30, 0), some_points(40, 1), some(40)))


def test_the_real_side_is_computed_once(monkeypatch):
    seen, searched = [], []

    def features(x):
        seen.append(len(x))
        return x

    def nearest(x, train):
        searched.append(len(x))
        return nearest_distance(x, train)

    monkeypatch.setattr(evaluation, "nearest_distance", nearest)
    reference = Reference(features, some_points(30, 0), some_points(40, 1), some(40))
    for seed in (2, 3):
        x = some_points(20, seed)
        reference.frechet(x)
        reference.floor(some(20))
        reference.floor(some(10))
        reference.neighbour_ratio(x)
    assert seen == [30, 20, 40, 20]
    assert searched == [20, 30, 20]


BLACK = torch.full((70, 1, 28, 28), -1.0)
SQUARE = BLACK.clone()
SQUARE[:, :, 9:19, 9:19] = 1
IN_0_1 = (SQUARE + 1) / 2
NAN = torch.where(SQUARE > 0, math.nan, SQUARE)
REFUSED = {
    "from -1 to 1; these are from 0 to 1": IN_0_1,
    "from -1 to 1; these are from 0 to 255": 255 * IN_0_1,
    "finite": NAN,
    r"shape \(n, 1, 28, 28\)": SQUARE[..., :27],
}


@pytest.mark.parametrize("expected", REFUSED)
def test_images_that_a_network_does_not_mean_are_refused_by_name(expected):
    bad = REFUSED[expected]
    reference = Reference(lambda x: x.flatten(1)[:, 300:302], SQUARE, BLACK, some(70))
    for score in (reference.frechet, reference.neighbour_ratio):
        with pytest.raises(ValueError, match=f"x is a tensor .*expected .*{expected}"):
            score(bad)
    with pytest.raises(ValueError, match=f"train is a tensor .*expected .*{expected}"):
        Reference(lambda x: x.flatten(1), SQUARE, bad, some(70))
    if "shape" not in expected:
        with pytest.raises(ValueError, match=f"images is a tensor .*expected .*{expected}"):
            Reference(lambda x: x.flatten(1), bad, bad, some(70))
        with pytest.raises(ValueError, match=f"x is a tensor .*expected .*{expected}"):
            accuracy(weights.load("classifier")[0], bad, torch.zeros(len(bad), dtype=torch.int64))
    with pytest.raises(TypeError, match=r"x is a tensor .*uint8"):
        reference.frechet(SQUARE.to(torch.uint8))


def test_labels_of_the_real_side_are_one_each():
    with pytest.raises(ValueError, match=r"train_label is .*\(39,\).*expected shape \(40,\)"):
        Reference(lambda x: x, some_points(30, 0), some_points(40, 1), some(39))


def test_points_may_lie_where_they_like():
    assert torch.equal(check_images("x", torch.ones(3, 2)), torch.ones(3, 2))


def test_too_few_samples_for_their_features_are_refused():
    reference = Reference(lambda x: x, some_points(30, 0), some_points(40, 1), some(40))
    with pytest.raises(ValueError, match=r"a is .*more rows than its 2 columns"):
        reference.frechet(some_points(2, 2))


def test_digits_of_one_class_are_not_judged_beside_all(judge):
    x, label = data.digits("test")
    reference = Reference(judge.features, x[:100], x[100:200], label[100:200])
    with pytest.raises(ValueError, match=r"label is .*at least two classes"):
        digit_quality(reference, judge, x[label == 3][:80], label[label == 3][:80])


def test_modes_see_what_a_share_on_target_does_not():
    """Data are on target, in every mode, and as wide as themselves; collapsed points are only the first two."""
    ring = data.ring()
    x, _ = ring.sample(4000, torch.Generator().manual_seed(0))
    assert modes(ring, x) == (pytest.approx(0.989, abs=0.006), 8, pytest.approx(0.974, abs=0.02))
    assert modes(ring, ring.means) == (1.0, 8, 0.0)
    assert modes(ring, ring.means[2:4]) == (1.0, 2, 0.0)
    half = ring.means[0] + 0.5 * (x - ring.means[torch.cdist(x, ring.means).argmin(1)])
    assert modes(ring, half) == (pytest.approx(1, abs=0.001), 1, pytest.approx(0.5, abs=0.02))
    assert modes(ring, torch.full((5, 2), 9.0, dtype=torch.float64)) == (0.0, 0, 0.0)
    assert evaluation.on_target(ring, x) == modes(ring, x).on_target


@pytest.fixture(scope="module")
def judge():
    return weights.load("judge")[0]


def test_the_card_of_the_classifier_is_true():
    classifier, card = weights.load("classifier")
    read = accuracy(classifier, *data.digits("test"))
    assert read == pytest.approx(card["metrics"]["accuracy on test digits"], abs=0.001)
    assert read > 0.98


def test_quality_sees_noise_a_missing_class_and_copies(judge):
    x, y = data.digits("train")
    reference = Reference(judge.features, data.digits("test")[0][:1000], x[:3000], y[:3000])
    generator = torch.Generator().manual_seed(1)  # of rows, because they are sorted by writer
    learned, drawn = (torch.randperm(n, generator=generator)[:1000] for n in (3000, 7000))
    held_out, label = x[3000 + drawn], y[3000 + drawn]
    good = digit_quality(reference, judge, held_out, label)
    copies = digit_quality(reference, judge, x[learned], y[learned])
    noise = torch.randn(held_out.shape, generator=torch.Generator().manual_seed(0))
    assert good.n == 1000
    assert good.frechet < good.floor + 4 * good.floor_spread
    assert reference.frechet(held_out + 0.3 * noise) > 5 * good.frechet
    assert reference.frechet(held_out[label != 1]) > 2 * good.frechet
    assert good.neighbour_ratio == pytest.approx(1, abs=0.05)
    assert copies.neighbour_ratio < 0.1
    assert copies.frechet < copies.floor + 4 * copies.floor_spread, "memorised data score perfectly: look at both"
    assert accuracy(judge, held_out, (label + 1) % 10) < 0.02 < 0.97 < good.accuracy


def test_what_a_network_sees_does_not_depend_on_its_mode():
    """Batch norm would let digits depend on those beside them, and learn from them."""
    judge = DigitClassifier().train()
    before = {name: value.clone() for name, value in judge.state_dict().items()}
    x, label = data.digits("test")
    for function in (judge, judge.features):
        alone = in_batches(function, x[:1])
        assert torch.allclose(in_batches(function, x[:50])[:1], alone, atol=1e-5)
    accuracy(judge, x[:50], label[:50])
    assert judge.training
    assert all(torch.equal(value, before[name]) for name, value in judge.state_dict().items())


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda x, y: accuracy(DigitClassifier(), x, y.tolist()), r"label is \[.*\]; expected int64 of shape \(4,\)"),
        (lambda x, y: accuracy(DigitClassifier(), x, y.float()), "label is .*float32; expected int64"),
        (lambda x, y: accuracy(DigitClassifier(), x[:0], y[:0]), "x is .*; expected at least one sample"),
        (lambda x, y: in_batches(DigitClassifier(), x, 0), "size is 0; expected a whole number, at least 1"),
        (lambda x, y: modes(data.ring(), torch.zeros(3, 3)), r"x is .*; expected shape \(n, 2\), n at least 1"),
        (lambda x, y: modes(data.ring(), torch.zeros(0, 2)), r"x is .*; expected shape \(n, 2\), n at least 1"),
        (lambda x, y: modes(data.ring(), torch.full((3, 2), torch.nan)), "x is .*; expected finite values"),
    ],
)
def test_what_nothing_can_be_said_of_is_refused(call, named):
    with pytest.raises((TypeError, ValueError), match=named):
        call(*(part[:4] for part in data.digits("test")))


def test_points_in_single_precision_are_judged_like_those_in_double():
    x = data.ring().sample(200, torch.Generator().manual_seed(0))[0]
    assert modes(data.ring(), x.float()) == pytest.approx(modes(data.ring(), x), rel=1e-5)
