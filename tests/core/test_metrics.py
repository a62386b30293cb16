"""Every score against a closed form or an independent library, and what it refuses."""

import math

import numpy as np
import pytest
import scipy.cluster.vq
import scipy.linalg
import scipy.spatial
import scipy.stats
import torch
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore
from torchmetrics.image.kid import KernelInceptionDistance

from lessons_src import metrics
from lessons_src.metrics import (
    Report,
    at_infinity,
    bootstrap,
    caption_score,
    class_spread,
    cluster_shares,
    copying,
    frechet_distance,
    frechet_gaussians,
    inception_score,
    kernel_distance,
    kmeans,
    nearest_distance,
    precision_recall,
    sliced_distance,
    two_sample_test,
    wilson_interval,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(n, d, seed=0):
    return torch.randn(n, d, generator=seeded(seed), dtype=torch.float64)


class Given(torch.nn.Module):
    """Features handed to torchmetrics as they are."""

    def __init__(self, d):
        super().__init__()
        self.num_features = d
        self.anchor = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return x


# --- Distances


def with_moments(mean, covariance, n=500, seed=0):
    """n points whose sample mean and covariance are exactly these."""
    x = torch.randn(n, len(mean), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x = (x - x.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T))).T
    return x @ torch.linalg.cholesky(torch.tensor(covariance, dtype=torch.float64)).T + torch.tensor(mean)


def test_sliced_distance_of_a_shift_and_against_scipy():
    """A shift by d is seen along a direction as |d| |cos|, 2/pi |d| in the mean; one direction is Wasserstein-1."""
    a, b = normal(300, 2), 2 * normal(300, 2, 1)
    shift = torch.tensor([0.6, -0.8], dtype=torch.float64)
    assert sliced_distance(a, a + shift) == pytest.approx(2 / math.pi, rel=1e-3)
    assert sliced_distance(a, b, 1) == pytest.approx(scipy.stats.wasserstein_distance(a[:, 0], b[:, 0]))
    assert sliced_distance(a, a.flip(0)) == 0
    with pytest.raises(ValueError, match="b is a tensor of shape"):
        sliced_distance(a, b[:200])
    with pytest.raises(ValueError, match="b is a tensor of shape"):
        sliced_distance(normal(5, 3), normal(5, 3))


def test_frechet_distance_of_gaussians_in_closed_form():
    a = with_moments([1.0, 0.0], [[4.0, 0.0], [0.0, 1.0]])
    b = with_moments([0.0, 2.0], [[1.0, 0.0], [0.0, 9.0]], seed=1)
    assert frechet_distance(a, b) == pytest.approx(1 + 4 + (2 - 1) ** 2 + (1 - 3) ** 2, abs=1e-9)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), abs=1e-9)


def test_frechet_distance_of_gaussians_that_do_not_commute_against_scipy():
    mix = normal(4, 4, 1)
    A, B = mix @ mix.T, torch.diag(torch.tensor([1.0, 2.0, 3.0, 4.0]).double())
    mean = torch.tensor([1.0, 0.0, -2.0, 0.5]).double()
    expected = 5.25 + np.trace(A.numpy() + B.numpy() - 2 * scipy.linalg.sqrtm(A.numpy() @ B.numpy()).real)
    assert frechet_gaussians(mean, A, torch.zeros(4).double(), B) == pytest.approx(expected, rel=1e-9)
    assert frechet_gaussians(mean, A, mean, A) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_is_that_of_torchmetrics():
    a, b = normal(400, 8), normal(300, 8, 1) @ normal(8, 8, 2) + 0.3
    theirs = FrechetInceptionDistance(feature=Given(8)).set_dtype(torch.float64)
    theirs.update(a, real=True)
    theirs.update(b, real=False)
    assert frechet_distance(a, b) == pytest.approx(theirs.compute().item(), rel=1e-6)


def test_few_samples_are_biased_upward_as_theory_says():
    d, n = 16, 500
    runs = []
    for seed in range(20):
        x = torch.randn(2, n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        runs.append(frechet_distance(x[0], x[1]))
    one_sided = d / n + d * (d + 1) / (4 * (n - 1))
    assert np.mean(runs) == pytest.approx(2 * one_sided, rel=0.1)


@pytest.mark.parametrize(("n", "d", "scale"), [(2, 1, 1.0), (65, 64, 1.0), (300, 64, 1e-3), (300, 8, 1e3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_distance_of_features_to_themselves_is_nothing_and_never_less(n, d, scale, dtype):
    for seed in range(10):
        features = scale * torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)
        assert 0 <= frechet_distance(features, features) < 1e-6 * scale**2 * d


def test_kernel_distance_is_that_of_torchmetrics():
    a, b = normal(2200, 6), normal(2200, 6, 1) + 0.2  # more than are taken at a time
    theirs = KernelInceptionDistance(feature=Given(6), subsets=1, subset_size=2200)
    theirs.update(a, real=True)
    theirs.update(b, real=False)
    assert kernel_distance(a, b) == pytest.approx(theirs.compute()[0].item(), rel=1e-6)


def test_kernel_distance_has_no_bias():
    """Its mean over draws of few samples is 0 for equal laws, and the closed form for a shift in one dimension."""
    same = [kernel_distance(normal(20, 3, s), normal(30, 3, 1000 + s)) for s in range(400)]
    assert abs(np.mean(same)) < 3 * np.std(same) / 20
    shifted = [kernel_distance(normal(20, 1, s), 1 + normal(20, 1, 1000 + s)) for s in range(400)]
    # E (xy + 1)^3 = 1 + 3 m1 + 3 m2 + m3 with m_k = E x^k E y^k; moments 0, 1, 0 and 1, 2, 4
    exact = (1 + 0 + 3 + 0) + (1 + 3 + 12 + 16) - 2 * (1 + 0 + 6 + 0)
    assert abs(np.mean(shifted) - exact) < 3 * np.std(shifted) / 20


def test_infinity_repairs_the_bias_of_few_samples():
    """Two exact laws at distance 1: n = 200 reads d/n + d(d+1)/4n too much, the fit does not."""
    d, real = 16, normal(20_000, 16, 99)
    raw, fitted = [], []
    for seed in range(20):
        samples = normal(1000, d, seed)
        samples[:, 0] += 1
        raw.append(frechet_distance(samples[:200], real))
        fitted.append(at_infinity(frechet_distance, samples, real, (200, 400, 1000), seeded(seed)).value)
    assert np.mean(raw) - 1 == pytest.approx(d / 200 + d * (d + 1) / (4 * 199), rel=0.15)
    assert np.mean(fitted) == pytest.approx(1, abs=0.03)


def test_infinity_of_an_exact_line_is_its_value():
    found = at_infinity(lambda a, b: 3 + 50 / len(a), normal(100, 2), normal(9, 2), (10, 20, 50), seeded())
    assert found == pytest.approx((3, 50), rel=1e-9)


# --- Class probabilities


def test_inception_score_in_closed_form_and_as_torchmetrics_has_it():
    assert inception_score(torch.eye(10).repeat(3, 1)) == pytest.approx(10)
    assert inception_score(torch.full((7, 10), 0.1)) == pytest.approx(1)
    logits = 2 * normal(500, 10)
    theirs = InceptionScore(feature=Given(10), splits=1)
    theirs.update(logits)
    assert inception_score(logits.softmax(1)) == pytest.approx(theirs.compute()[0].item(), rel=1e-5)


# --- Neighbours


def test_precision_and_recall_of_a_dropped_and_of_an_invented_mode():
    modes = torch.tensor([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0]]).double()
    real = torch.cat([modes[0] + normal(100, 2), modes[1] + normal(100, 2, 1)])
    samples = torch.cat([modes[0] + normal(100, 2, 2), modes[2] + normal(100, 2, 3)])
    precision, recall = precision_recall(real, samples)
    assert 0.4 < precision <= 0.5
    assert 0.4 < recall <= 0.5
    assert precision_recall(real, real) == (1, 1)


def test_precision_and_recall_by_hand():
    """On a line: 0, 1, 3, 7 with k = 1 has radii 1, 1, 2, 4; of samples 0.5, 5, 12 the first two lie inside."""
    real = torch.tensor([0.0, 1.0, 3.0, 7.0])[:, None].double()
    samples = torch.tensor([0.5, 5.0, 12.0])[:, None].double()
    precision, recall = precision_recall(real, samples, k=1)
    assert precision == pytest.approx(2 / 3)  # radii of the samples: 4.5, 4.5, 7
    assert recall == pytest.approx(4 / 4)


def test_precision_and_recall_with_the_neighbours_that_scipy_finds():
    real, samples = normal(1300, 5), 0.3 + 1.5 * normal(1100, 5, 1)  # more than are taken at a time

    def share_within(x, members, k=3):
        tree = scipy.spatial.KDTree(members)
        radii = tree.query(members, k + 1)[0][:, k]
        return np.mean([(np.linalg.norm(members - point, axis=1) <= radii).any() for point in x])

    expected = share_within(samples.numpy(), real.numpy()), share_within(real.numpy(), samples.numpy())
    assert precision_recall(real, samples) == pytest.approx(expected, abs=1e-12)


def test_nearest_distance():
    x, members = torch.tensor([[0.0, 0.0], [3.0, 4.0]]), torch.tensor([[0.0, 1.0], [3.0, 4.0], [9.0, 9.0]])
    assert nearest_distance(x, members).tolist() == [1.0, 0.0]
    x, members = normal(1200, 30), normal(500, 30, 1)
    expected = scipy.spatial.KDTree(members.numpy()).query(x.numpy())[0]
    assert np.allclose(nearest_distance(x, members).numpy(), expected, rtol=1e-9)


def test_copying_is_the_test_of_mann_and_whitney():
    train = normal(200, 3, 1)
    samples, held_out = (torch.cat([x, x[:20]]) for x in (normal(60, 3), normal(80, 3, 2)))  # ties within
    samples = torch.cat([samples, held_out[:9]])  # and between
    ours, null = (nearest_distance(x, train).numpy() for x in (samples, held_out))
    u = scipy.stats.mannwhitneyu(ours, null, method="asymptotic", use_continuity=False)
    n, m = len(ours), len(null)
    z = (u.statistic - n * m / 2) / math.sqrt(n * m * (n + m + 1) / 12)
    assert copying(samples, train, held_out).z == pytest.approx(z)


def test_copying_finds_copies_and_nothing_where_there_is_nothing():
    train, held_out = normal(500, 4, 1), normal(300, 4, 2)
    honest = [copying(normal(300, 4, 10 + s), train, held_out).z for s in range(30)]
    assert np.mean([z < -2.6 for z in honest]) <= 0.1  # the null is one draw of held-out data for all of them
    found = copying(torch.cat([train[:60] + 0.01 * normal(60, 4), normal(240, 4, 3)]), train, held_out)
    assert found.share - found.expected == pytest.approx(0.2, abs=0.05)
    assert found.z < -3


# --- Variety


def test_clusters_find_modes_and_shares_show_the_dropped_one():
    centres = 20 * normal(6, 5, 3)
    real = (centres[:, None] + normal(6 * 50, 5).view(6, 50, 5)).flatten(0, 1)
    found = kmeans(real, 6, seeded())
    assert torch.cdist(centres, found).amin(1).max() < 1
    assert cluster_shares(real, found).tolist() == pytest.approx([1 / 6] * 6)
    assert sorted(cluster_shares(real[50:], found).tolist())[0] == 0


def test_scipy_has_no_better_centres_from_there():
    x = normal(400, 3)
    found = kmeans(x, 5, seeded(), rounds=500)
    theirs, own = scipy.cluster.vq.kmeans2(x.numpy(), found.numpy(), minit="matrix")
    assert np.allclose(theirs, found.numpy())
    assert np.allclose(cluster_shares(x, found).numpy(), np.bincount(own) / 400)
    assert torch.isin(kmeans(torch.ones(9, 2), 3, seeded()), torch.ones(1).double()).all(), "as many as asked, if alike"


def test_class_spread():
    features, label = torch.tensor([[0.0], [2.0], [10.0], [10.0]]), torch.tensor([0, 0, 1, 1])
    assert class_spread(features, label) == pytest.approx(math.sqrt(0.5))


# --- Pictures and their captions


def test_caption_score_of_known_angles():
    images = torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, 1.0], [1.0, 0.0]])
    texts = torch.tensor([[5.0, 0.0], [1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])  # cosines 1, 0, sqrt(1/2), -1
    found = caption_score(images, texts, w=2.5)
    assert found.cosine == pytest.approx(0.5**0.5 / 4, abs=1e-7)
    assert found.rescaled == pytest.approx(2.5 * (1 + 0.5**0.5) / 4, abs=1e-7)


@pytest.mark.parametrize(
    ("images", "texts", "w", "named"),
    [
        (torch.ones(3, 2), torch.ones(2, 2), 1.0, r"texts is .*expected 3 rows"),
        (torch.ones(3, 2), torch.ones(3, 4), 1.0, r"texts is .*shape \(n, 2\)"),
        (torch.ones(3, 2), torch.ones(3, 2).tril(-2), 1.0, r"texts is .*no row of zeros"),
        (torch.full((3, 2), math.nan), torch.ones(3, 2), 1.0, "images is .*finite"),
        (torch.ones(3, 2), torch.ones(3, 2), 0.0, "w is 0.0"),
    ],
)
def test_caption_score_refuses_what_has_no_angle(images, texts, w, named):
    with pytest.raises(ValueError, match=named):
        caption_score(images, texts, w)


# --- How sure


def test_two_samples_of_one_law_raise_the_alarm_at_its_rate():
    p = [two_sample_test(normal(200, 3, s), normal(200, 3, 1000 + s), seeded(s)).p_value for s in range(200)]
    assert 0.01 <= np.mean([value < 0.05 for value in p]) <= 0.1


def test_two_samples_of_shifted_laws_are_told_apart_as_well_as_anybody_can():
    found = two_sample_test(normal(4000, 2), 1 + normal(4000, 2, 1), seeded())
    best = scipy.stats.norm.cdf(math.sqrt(2) / 2)
    assert found.accuracy == pytest.approx(best, abs=0.02)
    assert found.p_value < 1e-6


def test_two_samples_with_nothing_in_common_are_always_told_apart():
    """Separable data have no finite best weights without the ridge; d may be more than n."""
    assert two_sample_test(normal(30, 64), 50 + normal(40, 64, 1), seeded()) == (1, pytest.approx(0, abs=1e-7))
    same = torch.ones(20, 3).double()
    assert two_sample_test(same, same, seeded()) == (0.5, 0.5), "nor does a feature that never varies matter"


def test_bootstrap_covers_and_pairing_narrows():
    def mean(x):
        return x.mean().item()

    covered = 0
    for seed in range(100):
        x = normal(60, 1, seed)
        _, low, high = bootstrap(mean, x, generator=seeded(seed), draws=200)
        covered += low <= 0 <= high
    assert 86 <= covered <= 100
    common, own = normal(200, 1), 0.1 * normal(200, 1, 1)
    pairs = bootstrap(lambda a, b: (a - b).mean().item(), common + own, common, generator=seeded(), draws=300)
    assert pairs.high - pairs.low < 0.05
    assert pairs.value == pytest.approx(own.mean().item())


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (7, 10), (10, 10), (480, 1000)])
def test_wilson_interval_is_scipys(hits, n):
    theirs = scipy.stats.binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson_interval(hits, n) == pytest.approx((hits / n, theirs.low, theirs.high), abs=1e-9)


# --- The report


WHOLE = {
    "measure": "feature-Frechet distance",
    "value": 1.2345,
    "n": 2000,
    "sampler": "DDIM, 20 steps",
    "nfe": 40,
    "w": 2.0,
    "floor": (0.8, 0.125),
    "judge": "judge, MNIST test digits 2,000 to 5,999",
}


def test_a_report_says_everything():
    said = str(Report(**WHOLE))
    for part in ("1.23", "0.8 ± 0.12", "2,000 samples", "40 network evaluations", "w = 2", *WHOLE.values()):
        assert not isinstance(part, str) or part in said


@pytest.mark.parametrize("left_out", WHOLE)
def test_a_report_that_leaves_one_of_them_out_is_refused(left_out):
    with pytest.raises(TypeError, match=f"'{left_out}'"):
        Report(**{name: value for name, value in WHOLE.items() if name != left_out})
    for nothing in (None, math.nan, "", " "):
        with pytest.raises((TypeError, ValueError), match=f"^{left_out} is "):
            Report(**WHOLE | {left_out: nothing})


@pytest.mark.parametrize(
    "wrong",
    [{"n": 0}, {"nfe": -1}, {"floor": 0.8}, {"floor": (0.8,)}, {"floor": (0.8, -1)}, {"floor": (math.inf, 1)}],
)
def test_a_report_of_what_cannot_be_is_refused(wrong):
    with pytest.raises((TypeError, ValueError), match=f"^{next(iter(wrong))} is "):
        Report(**WHOLE | wrong)


# --- Refusals


NAN = torch.full((10, 3), math.nan)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: frechet_distance(normal(9, 3), normal(9, 4)), "b is"),
        (lambda: frechet_distance(NAN, normal(9, 3)), "a is.*finite"),
        (lambda: frechet_distance(normal(9, 3), NAN), "b is.*finite"),
        (lambda: frechet_distance(normal(1, 3), normal(9, 3)), "a is.*more rows than its 3 columns"),
        (lambda: frechet_distance(normal(9, 3), normal(3, 3)), "b is.*more rows than its 3 columns"),
        (lambda: frechet_distance(normal(9, 3)[0], normal(9, 3)), "a is"),
        (lambda: frechet_gaussians(torch.zeros(2), torch.eye(3), torch.zeros(2), torch.eye(2)), "A is.*2 x 2"),
        (lambda: frechet_gaussians(torch.zeros(2), torch.eye(2), torch.zeros(2), torch.ones(2, 2).tril()), "B is.*sym"),
        (lambda: kernel_distance(normal(1, 3), normal(9, 3)), "a is.*n >= 2"),
        (lambda: kernel_distance(normal(9, 3), normal(9, 3)[0]), "b is"),
        (lambda: precision_recall(normal(3, 3), normal(9, 3)), "real is"),
        (lambda: precision_recall(normal(9, 3), normal(9, 3), k=0), "k is 0"),
        (lambda: inception_score(normal(9, 3)), "probabilities is"),
        (lambda: inception_score(torch.full((9, 3), 0.4)), "probabilities is"),
        (lambda: at_infinity(frechet_distance, normal(9, 2), normal(9, 2), (5, 5), seeded()), "sizes is"),
        (lambda: at_infinity(frechet_distance, normal(9, 2), normal(9, 2), (5, 10), seeded()), "sizes is 10"),
        (lambda: kmeans(normal(9, 2), 10, seeded()), "count is 10"),
        (lambda: two_sample_test(normal(7, 2), normal(9, 2), seeded()), "a is"),
        (lambda: class_spread(normal(9, 2), torch.zeros(8)), "label is"),
        (lambda: bootstrap(len, normal(9, 2), normal(8, 2), generator=seeded()), "paired is"),
        (lambda: wilson_interval(11, 10), "hits is 11"),
        (lambda: wilson_interval(1, 10, 1.0), "confidence is 1"),
        (lambda: copying(normal(9, 2), NAN[:, :2], normal(9, 2)), "train is.*finite"),
        (lambda: nearest_distance(normal(9, 2), normal(9, 3)), r"members is.*\(n, 2\)"),
        (lambda: inception_score(NAN), "probabilities is.*finite"),
        (lambda: cluster_shares(normal(9, 2), normal(3, 3)), "centres is"),
    ],
)
def test_bad_input_is_refused_by_name(call, named):
    with pytest.raises(ValueError, match=named):
        call()


def test_features_that_are_no_tensor_of_floats_are_refused_by_name():
    for bad in ([[1.0, 2.0]], np.ones((9, 3)), torch.ones(9, 3, dtype=torch.uint8)):
        with pytest.raises(TypeError, match=r"b is.*floating-point"):
            frechet_distance(normal(9, 3), bad)


def test_wilson_intervals_hold_their_value_even_at_none_and_all():
    for hits in (0, 200):
        interval = wilson_interval(hits, 200)
        assert interval.low <= interval.value <= interval.high


FEW = torch.arange(9.0)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda g: metrics.kernel_distance(torch.zeros(9, 0), torch.zeros(9, 0)), "a is .*; expected shape .* d >= 1"),
        (lambda g: metrics.class_spread(torch.zeros(3, 2), [0, 1, 2]), r"label is \[0, 1, 2\]; expected a tensor"),
        (
            lambda g: metrics.at_infinity(None, torch.zeros(9, 2), torch.zeros(9, 2), 5, g),
            "sizes is 5; expected at least",
        ),
        (lambda g: metrics.bootstrap(lambda a: a.mean(), torch.zeros(0), generator=g), r"len\(paired\) is 0; expected"),
        (lambda g: metrics.bootstrap(lambda a: a, torch.zeros(9), generator=g), r"statistic\(\*paired\) is a tensor"),
        (lambda g: metrics.bootstrap(lambda a: math.nan, torch.zeros(9), generator=g), r"statistic\(\*paired\) is nan"),
        (
            lambda g: metrics.bootstrap(lambda a: 1.0 if len(a.unique()) > 8 else math.nan, FEW, generator=g),
            "statistic of rows drawn again is nan; expected a finite number",
        ),
    ],
)
def test_what_no_number_comes_of_is_refused_by_name(call, named):
    with pytest.raises((TypeError, ValueError), match=named):
        call(torch.Generator())


def test_a_statistic_may_be_a_tensor_of_one_number():
    found = metrics.bootstrap(lambda a: a.mean(), torch.arange(9.0), generator=torch.Generator())
    assert [type(number) for number in found] == [float] * 3
