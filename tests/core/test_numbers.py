"""The documents' numbers, recomputed through the public functions and held to float64 precision.

Ids name the item: N a printed number, W a worked example, E an erratum. Numbers of the schedules are in
test_schedules, what steps cost is in test_samplers.
Where a document printed a value, a second test says what the exact value rounds to.
"""

import math
from decimal import Decimal
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from lessons_src import samplers
from lessons_src.guidance import blend, classifier, classifier_free, gradient, similarity
from lessons_src.oracle import GaussianMixture, exact_flow
from lessons_src.process import posterior, posterior_variance, predict_x0, signal_and_noise
from lessons_src.samplers import Counted, ddim, ddpm, renoise, sample
from lessons_src.schedules import NoiseSchedule, linear, time_grid

LINEAR = linear()
HALF = NoiseSchedule(torch.tensor([1, 0.5], dtype=torch.float64))
HAND = NoiseSchedule(torch.tensor([1, 0.64, 0.36, 0.0784], dtype=torch.float64))  # every square root terminates


def row(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


def normal(mean: float = 0.0, variance: float = 1.0) -> GaussianMixture:
    return GaussianMixture([1.0], [[mean]], [[[variance]]])


def numbers(value: object) -> list[float]:
    return torch.as_tensor(value, dtype=torch.float64).flatten().tolist()


def close(value: object, exact: object, tolerance: float = 1e-12) -> None:
    assert numbers(value) == pytest.approx(numbers(exact), rel=0, abs=tolerance)


def cases(table: list[tuple]) -> list:
    """Rows of (id, values ...) as parameters."""
    return [pytest.param(*values, id=name) for name, *values in table]


# --- Printed numbers --------------------------------------------------------------------------------------------------

X, EPS, EPS_1, NIL = row(0.3, -0.4), row(0.2, -0.5), row(0.1, 0.1), row(0.0, 0.0)
E_C, E_U = row(0.1, -0.3, 0.2), row(-0.1, 0.1, 0.0)


def signal(ab: float) -> float:
    return signal_and_noise(ab, X)[0]


def noise(ab: float) -> float:
    return signal_and_noise(ab, X)[1]


def example_1() -> Tensor:
    return predict_x0(X, EPS, 0.8)


def practice_1() -> Tensor:
    return predict_x0(NIL, EPS_1, 0.6)


def guided(w: float) -> Tensor:
    return blend(E_U, E_C, w)


EXACT = [
    ("N1 sqrt(.2)", lambda: noise(0.8), 0.4472135954999579),
    ("N2 sqrt(.8)", lambda: signal(0.8), 0.8944271909999159),
    ("N3 noise part 1", lambda: noise(0.8) * EPS[0, 0], 0.08944271909999159),
    ("N4 noise part 2", lambda: -noise(0.8) * EPS[0, 1], 0.2236067977499790),
    ("N5 numerator", lambda: signal(0.8) * example_1(), (0.2105572809000084, -0.1763932022500210)),
    ("N6 x0", example_1, (0.2354101966249685, -0.1972135954999579)),
    ("N7 sqrt(.9)", lambda: signal(0.9), 0.9486832980505138),
    ("N8 sqrt(.1)", lambda: noise(0.9), 0.3162277660168379),
    ("N9 signal part", lambda: renoise(example_1(), NIL, 0.9), (0.2233297217288950, -0.1870932441993001)),
    ("N10 noise part", lambda: renoise(NIL, EPS, 0.9), (0.06324555320336759, -0.1581138830084190)),
    ("N11 x_50", lambda: renoise(example_1(), EPS, 0.9), (0.2865752749322626, -0.3452071272077190)),
    ("N13 sqrt(.4)", lambda: noise(0.6), 0.6324555320336759),
    ("N13 sqrt(.6)", lambda: signal(0.6), 0.7745966692414834),
    ("N14 x0", practice_1, (-0.0816496580927726,) * 2),
    ("N15 signal part", lambda: renoise(practice_1(), NIL, 0.8)[0, 0], -0.07302967433402215),
    ("N16 noise part", lambda: renoise(NIL, EPS_1, 0.8)[0, 0], 0.04472135954999579),
    ("N17 x_100", lambda: renoise(practice_1(), EPS_1, 0.8), (-0.02830831478402635,) * 2),
    (
        "N18 closed form",
        lambda: renoise(practice_1(), EPS_1, 0.8)[0, 0],
        0.1 * (math.sqrt(0.2) - math.sqrt(0.8) * math.sqrt(0.4 / 0.6)),
    ),
    ("N19 e_c - e_u", lambda: guided(1) - E_U, (0.2, -0.4, 0.2)),
    ("N20 7.5 (e_c - e_u)", lambda: guided(7.5) - E_U, (1.5, -3.0, 1.5)),
    ("N21 guided eps", lambda: guided(7.5), (1.4, -2.9, 1.5)),
    ("N22 w = 1", lambda: guided(1), (0.1, -0.3, 0.2)),
    ("N23 w = 0", lambda: guided(0), (-0.1, 0.1, 0.0)),
    ("N24 |guided - e_u|", lambda: (guided(7.5) - E_U).norm(), 3.674234614174767),
    ("N24 |guided - e_u| / |e_c - e_u|", lambda: (guided(7.5) - E_U).norm() / (E_C - E_U).norm(), 7.5),
    ("N24 |guided - e_c|", lambda: (guided(7.5) - E_C).norm(), 3.184336665618132),
    ("N24 |guided| / |e_c|", lambda: guided(7.5).norm() / E_C.norm(), 9.494359227607577),
    ("N30 SNR at .64", lambda: HAND.snr[1], 16 / 9),
]


@pytest.mark.parametrize(("compute", "exact"), cases(EXACT))
def test_exact_value(compute, exact):
    close(compute(), exact)


PRINTED = {  # item: what was printed, and what it should have been where that differs
    "N1 sqrt(.2)": ("0.4472",),
    "N2 sqrt(.8)": ("0.8944",),
    "N3 noise part 1": ("0.08944",),
    "N4 noise part 2": ("0.2236",),
    "N5 numerator": ("0.2106 -0.1764",),
    "N6 x0": ("0.2354 -0.1972",),
    "N7 sqrt(.9)": ("0.9487",),
    "N8 sqrt(.1)": ("0.3162",),
    "N9 signal part": ("0.2233 -0.1870", "0.2233 -0.1871"),
    "N10 noise part": ("0.06324 -0.1581", "0.06325 -0.1581"),
    "N11 x_50": ("0.2865 -0.3451", "0.2866 -0.3452"),
    "N14 x0": ("-0.08165 -0.08165",),
    "N15 signal part": ("-0.0730",),
    "N16 noise part": ("0.04472",),
    "N17 x_100": ("-0.0283 -0.0283",),
    "N19 e_c - e_u": ("0.2 -0.4 0.2",),
    "N20 7.5 (e_c - e_u)": ("1.5 -3.0 1.5",),
    "N21 guided eps": ("1.4 -2.9 1.5",),
}


@pytest.mark.parametrize("item", PRINTED)
def test_printed_rounding(item):
    """The exact value rounds to what was printed; where a second text stands, to that and not to what was printed."""
    compute = next(compute for name, compute, _ in EXACT if name == item)
    *wrong, right = ([Decimal(number) for number in text.split()] for text in PRINTED[item])
    values = [Decimal(v).quantize(text) for v, text in zip(numbers(compute()), right, strict=True)]
    assert values == right
    assert all(values != text for text in wrong)


def test_n12_the_levels_of_example_1_belong_to_no_common_schedule(schedules):
    pairs = {name: [round(schedules[name].alpha_bar[t].item(), 4) for t in (100, 50)] for name in ("linear", "cosine")}
    assert pairs == {"linear": [0.8970, 0.9710], "cosine": [0.9721, 0.9920]}


@pytest.mark.parametrize(("w", "calls"), [(7.5, 6), (3, 6), (-1, 6), (1, 3), (0, 3)])
def test_n25_n26_n27_network_calls_of_three_steps(two_classes, w, calls):
    net = Counted(two_classes.network(HAND))
    sample(ddim(classifier_free(net, 0, w), row(0.5), HAND))
    assert net.nfe == calls


def test_n28_fifty_steps_are_twenty_times_larger():
    times = time_grid(LINEAR, 50)
    assert {t - s for t, s in pairwise(times)} == {20}


# --- W1, W2: three steps by hand --------------------------------------------------------------------------------------

NORMAL_2D = GaussianMixture([1.0], [[0.0, 0.0]], [[[1.0, 0.0], [0.0, 1.0]]])
TWO_POINTS = GaussianMixture([0.5, 0.5], [[1.0], [-1.0]], [[[0.0]], [[0.0]]])

W1 = [  # eps, x0, x after each step
    ("normal data", NORMAL_2D, row(1.0, -0.5), [
        ((0.96, -0.48), (0.28, -0.14), (0.936, -0.468)),
        ((0.7488, -0.3744), (0.5616, -0.2808), (0.89856, -0.44928)),
        ((0.539136, -0.269568), (0.718848, -0.359424), (0.718848, -0.359424)),
    ]),
    ("two-point data", TWO_POINTS, row(1.0), [
        (0.9556821592205118, 0.294804025529674, 0.9414281426942138),
        (0.6459997477164755, 0.7077139075350556, 0.9537709746579298),
        (0.294197544822896, 0.9715655597052402, 0.9715655597052402),
    ]),
]  # fmt: skip
W1_ENTRIES = [
    (f"W1 {data}, step {step + 1}, {field}", mixture, start, step, field, exact)
    for data, mixture, start, steps in W1
    for step, entries in enumerate(steps)
    for field, exact in zip(("eps", "x0", "x"), entries, strict=True)
]


@pytest.mark.parametrize(("mixture", "start", "step", "field", "exact"), cases(W1_ENTRIES))
def test_w1_three_steps(mixture, start, step, field, exact):
    states = list(ddim(mixture.network(HAND), start, HAND))
    close(getattr(states[step], field), exact)


def test_w1_fewer_steps_lose_more_amplitude():
    net = normal().network(HAND)
    close([sample(ddim(net, row(1.0), HAND, times)) for times in ([3, 0], [3, 2, 0], None)], (0.28, 0.5616, 0.718848))


W2 = [
    ("linear", (4.035829765375676e-05, 0.010984230178593665, 0.32078480599346837),
     (0.9951384630322758, 0.8746929066078525, 0.4954074114059111)),
    ("cosine", (2.4287669070348542e-09, 0.24600055807736507, 0.7433376746942401),
     (0.8683558548028194, 0.7533298233947066, 0.6494986210204087)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "alpha_bar", "xs"), W2, ids=["W2 linear", "W2 cosine"])
def test_w2_three_steps_on_a_real_schedule(schedules, name, alpha_bar, xs):
    schedule, times = schedules[name], [1000, 667, 333, 0]
    assert schedule.alpha_bar[times].tolist() == pytest.approx([*alpha_bar, 1], rel=1e-9)
    states = list(ddim(normal().network(schedule), row(1.0), schedule, times))
    close([state.x for state in states], xs, 1e-9)
    if name == "linear":
        close([state.x0 for state in states], (0.006352818087578178, 0.10429616150026506, 0.4954074114059111), 1e-9)


# --- W3: the guided blend ---------------------------------------------------------------------------------------------

W3A = [
    (-1, (-0.3, 0.5, -0.2), 0.6164414002968976),
    (0, (-0.1, 0.1, 0.0), 0.1414213562373095),
    (1, (0.1, -0.3, 0.2), 0.3741657386773941),
    (3, (0.5, -1.1, 0.6), 1.349073756323204),
    (5, (0.9, -1.9, 1.0), math.sqrt(5.42)),
    (7, (1.3, -2.7, 1.4), math.sqrt(10.94)),
    (7.5, (1.4, -2.9, 1.5), 3.552463933666322),
    (10, (1.9, -3.9, 2.0), math.sqrt(22.82)),
    (20, (3.9, -7.9, 4.0), 9.675742865537509),
]


@pytest.mark.parametrize(("w", "eps", "norm"), W3A, ids=[f"W3a w={w}" for w, *_ in W3A])
def test_w3a_blend(w, eps, norm):
    close(guided(w), eps)
    close(guided(w).norm(), norm)
    w_hs = w - 1
    close(guided(w), (1 + w_hs) * E_C - w_hs * E_U)  # E19: the convention of Ho & Salimans


W3B = [  # w, x after each step, guided eps at each step
    (0, (0.936, 0.89856, 0.718848), (0.96, 0.7488, 0.539136)),
    (1, (1.61184, 1.9953664, 2.31629312), (0.4224, 0.329472, 0.23721984)),
    (3, (2.96352, 4.1889792, 5.51118336), (-0.6528, -0.509184, -0.36661248)),
    (7.5, (6.0048, 9.124608, 12.6996864), (-3.072, -2.39616, -1.7252352)),
    (-1, (0.26016, -0.1982464, -0.87859712), (1.4976, 1.168128, 0.84105216)),
]


@pytest.mark.parametrize(("w", "xs", "eps"), W3B, ids=[f"W3b w={w}" for w, *_ in W3B])
def test_w3b_three_guided_steps(w, xs, eps):
    conditional, everything = normal(mean=2.0).network(HAND), normal().network(HAND)

    def net(x, t, label):
        return (everything if label is None else conditional)(x, t)

    states = list(ddim(classifier_free(net, 0, w), row(1.0), HAND))
    close([state.x for state in states], xs)
    close([state.eps for state in states], eps)
    close(states[-1].x, 0.718848 + 0.79872256 * w * 2)


# --- W4, E18, E20, E44: guidance on two exact classes -----------------------------------------------------------------

W4 = [
    ("W4 unconditional score", lambda m, x: m.score(x, 0.5), (0.6819062323690839, 0, -0.3738408881203226)),
    (
        "W4 classifier gradient",
        lambda m, x: m.score(x, 0.5, 0) - m.score(x, 0.5),
        (2.049464617529392, 1.131370849898476, 0.3852117380187988),
    ),
    ("W4 eps_u", lambda m, x: m.eps(x, 0.5), (-0.4821805210415487, 0, 0.2643454270746816)),
    ("W4 eps_c", lambda m, x: m.eps(x, 0.5, 0), (-1.9313708498984763, -0.8, -0.008040405071066903)),
    (
        "W4 w=3",
        lambda m, x: blend(m.eps(x, 0.5), m.eps(x, 0.5, 0), 3),
        (-4.8297515076123325, -2.4, -0.552812069362564),
    ),
    (
        "W4 w=7.5",
        lambda m, x: blend(m.eps(x, 0.5), m.eps(x, 0.5, 0), 7.5),
        (-11.351107987468506, -6, -1.7785483140184322),
    ),
    (
        "W4 w=-1",
        lambda m, x: blend(m.eps(x, 0.5), m.eps(x, 0.5, 0), -1),
        (0.967009807815379, 0.8, 0.5367312592204301),
    ),
]


@pytest.mark.parametrize(("compute", "exact"), cases(W4))
def test_w4_exact_scores(two_classes, compute, exact):
    close(compute(two_classes, row(-1.0, 0.0, 0.7).mT), exact)


BY_CLASSIFIER = [
    ("w=3", 3, W4[4][2]),
    ("w=7.5", 7.5, W4[5][2]),
    ("w=-1", -1, W4[6][2]),
    ("w=0", 0, W4[2][2]),
    ("w=1", 1, W4[3][2]),
]


@pytest.mark.parametrize(("w", "exact"), cases(BY_CLASSIFIER))
def test_w4_by_the_gradient_of_the_exact_classifier(two_classes, w, exact):
    net = two_classes.network(HALF)
    x, t = row(-1.0, 0.0, 0.7).mT, torch.ones(3, dtype=torch.int64)
    close(classifier(net, net.log_prob, HALF, 0, w)(x, t), exact)
    close(gradient(lambda x, t: net.log_prob(x, t)[:, 0], x, t), W4[1][2])


def test_n19_to_n25_by_the_implicit_classifier():
    """A guide whose gradient is that of the class that e_c and e_u imply: -(e_c - e_u) / sqrt(1 - ab)."""
    x, t, pull = torch.zeros(1, 3, dtype=torch.float64), torch.tensor([1]), -(E_C - E_U) / math.sqrt(1 - 0.5)
    counted = Counted(lambda x, t: (pull * x).sum(1))
    for w, exact in ((7.5, (1.4, -2.9, 1.5)), (1, E_C), (0, E_U), (-1, 2 * E_U - E_C)):
        close(similarity(lambda x, t: E_U, counted, HALF, w)(x, t), exact)
    assert (counted.nfe, counted.backward) == (3, 3)  # none for w = 0


QUANTILES = torch.special.ndtri((torch.arange(401, dtype=torch.float64)[:, None] + 0.5) / 401)
W4_FLOW = [  # w; mean, std and share of x > 0 of the guided flow; mean and std of the tilted law p(x) p(y|x)^w
    (-1, (-1.831143, 1.568085, 0.1870), None),
    (0, (0.0, 1.117456, 0.4988), (0.0, 1.118034)),
    (0.5, (0.638885, 0.756808, 0.7731), (0.922196, 0.585557)),
    (1, (0.998761, 0.499196, 0.9776), (1.0, 0.5)),
    (2, (1.322669, 0.358983, 1.0), (1.035517, 0.468292)),
    (3, (1.522476, 0.314425, 1.0), (1.051146, 0.456739)),
    (5, (1.810687, 0.274467, 1.0), (1.069682, 0.444456)),
    (7.5, (2.080230, 0.251496, 1.0), (1.084500, 0.435476)),
]


@pytest.mark.parametrize(("w", "flow", "tilted"), W4_FLOW, ids=[f"W4 flow w={w}" for w, *_ in W4_FLOW])
def test_w4_guided_flow_and_tilted_law(two_classes, w, flow, tilted):
    def eps(x, ab):
        return blend(two_classes.eps(x, ab), two_classes.eps(x, ab, 0), w)

    x = exact_flow(eps, QUANTILES, math.exp(-12), steps=200)
    close((x.mean(), x.std(correction=0)), flow[:2], 2e-5)
    close((x > 0).double().mean(), flow[2], 5e-5)
    if tilted:
        grid = torch.linspace(-6, 6, 20001, dtype=torch.float64)
        log_class = two_classes.class_posterior(grid[:, None], 1.0)[:, 0].log()
        share = (two_classes.log_density(grid[:, None], 1.0) + w * log_class).softmax(0)
        mean = share @ grid
        close((mean, (share @ (grid - mean) ** 2).sqrt()), tilted, 1e-6)


@pytest.mark.parametrize(("w", "flow", "_"), W4_FLOW, ids=[f"W4 flow w={w}" for w, *_ in W4_FLOW])
def test_w4_flow_by_the_exact_classifier(two_classes, w, flow, _):
    def eps(x, ab):
        schedule = NoiseSchedule(torch.tensor([1, ab], dtype=torch.float64))
        net = two_classes.network(schedule)
        return classifier(net, net.log_prob, schedule, 0, w)(x, torch.ones(len(x), dtype=torch.int64))

    x = exact_flow(eps, QUANTILES, math.exp(-12), steps=200)
    close((x.mean(), x.std(correction=0)), flow[:2], 2e-5)


def test_e18_w_1_on_a_conditional_base_is_no_longer_the_conditional_law(two_classes):
    """Exact classes, w = 1: mean .9988 and std .4992 from the unconditional base, those of w = 2 from the other."""
    schedule = NoiseSchedule(torch.exp(-12 * torch.linspace(0, 1, 1001, dtype=torch.float64) ** 2))
    net = two_classes.network(schedule)
    for base, flow in ((0, W4_FLOW[3][1]), (1, W4_FLOW[4][1])):
        eps_fn = classifier(classifier_free(net, 0, base), net.log_prob, schedule, 0, 1)
        x = sample(ddim(eps_fn, QUANTILES, schedule))
        close((x.mean(), x.std(correction=0)), flow[:2], 2e-3)


@pytest.mark.parametrize(("w", "flow"), [(w, flow) for w, flow, _ in W4_FLOW if w in (-1, 1, 7.5)])
def test_w4_by_a_thousand_guided_ddim_steps(two_classes, w, flow):
    """alpha_bar falls from 1 to exp(-12) quadratically in t: with fewer steps near the data DDIM misses 2e-3."""
    schedule = NoiseSchedule(torch.exp(-12 * torch.linspace(0, 1, 1001, dtype=torch.float64) ** 2))
    x = sample(ddim(classifier_free(two_classes.network(schedule), 0, w), QUANTILES, schedule))
    close((x.mean(), x.std(correction=0)), flow[:2], 2e-3)


# --- W5, E10, E12: the eta family -------------------------------------------------------------------------------------

ETA_MEANS = {
    0.0: (0.2865752749322626, -0.3452071272077190),
    0.2: (0.2858685985265407, -0.3434404361934144),
    0.5: (0.2820191112677584, -0.3338167180464585),
    1.0: (0.2654934238644734, -0.2925024995382461),
}


@pytest.mark.parametrize("eta", ETA_MEANS, ids=[f"W5 eta={eta}" for eta in ETA_MEANS])
def test_w5_means(noise_calls, eta):
    levels = NoiseSchedule(torch.tensor([1, 0.9, 0.8], dtype=torch.float64))
    close(next(ddim(lambda x, t: EPS, X, levels, eta=eta)).x, ETA_MEANS[eta])


def test_w5_three_routes_to_one_mean():
    mean, variance = posterior(X, example_1(), 0.8, 0.9)
    close(mean, ETA_MEANS[1.0])
    close((X - (1 / 9) / math.sqrt(0.2) * EPS) / math.sqrt(8 / 9), ETA_MEANS[1.0])
    close((variance, math.sqrt(variance), math.sqrt(0.1 - variance)), (1 / 18, 0.2357022603955158, 0.210818510677892))
    close(posterior(row(0.0), row(1.0), 0.8, 0.9)[0], 0.5270462766947299)
    close(posterior(row(1.0), row(0.0), 0.8, 0.9)[0], 0.4714045207910317)


W5 = [  # variance of the data, steps; final variance of DDIM, of eta = 1 (beta-tilde), of sigma-hat (beta)
    (1.0, 1, 4.035829765e-05, 4.035829765e-05, 4.035829765e-05),
    (1.0, 2, 0.07267729963, 0.0724173808, 0.07858724288),
    (1.0, 5, 0.4620718205, 0.3616573953, 0.6590385082),
    (1.0, 10, 0.6878533277, 0.5483290575, 0.8970181457),
    (1.0, 20, 0.8304415491, 0.7107575177, 0.9710157229),
    (1.0, 50, 0.9284304982, 0.8574137797, 0.9942309517),
    (1.0, 100, 0.9635028041, 0.9215645171, 0.9981052048),
    (1.0, 1000, 0.9962521063, 0.9910673764, 0.9999),
    (0.25, 1, 2.52254631e-06, 2.52254631e-06, 2.52254631e-06),
    (0.25, 2, 0.005115211724, 0.005110470942, 0.005545903846),
    (0.25, 5, 0.06892869183, 0.06165951144, 0.1295602793),
    (0.25, 10, 0.1368665608, 0.111205617, 0.2439380657),
    (0.25, 20, 0.1860779427, 0.1532776925, 0.2671088135),
    (0.25, 50, 0.2222204803, 0.1972248826, 0.2618567352),
    (0.25, 100, 0.2356588892, 0.2192288456, 0.2567672798),
    (0.25, 1000, 0.2484975472, 0.2461252114, 0.250752075),
]
ROUTES = [  # column of W5, sampler
    ("ddim", 0, ddim, {}),
    ("ddim eta=1", 1, ddim, {"eta": 1.0}),
    ("ddpm beta_tilde", 1, ddpm, {"variance": "beta_tilde"}),
    ("ddpm beta", 2, ddpm, {"variance": "beta"}),
]


@pytest.mark.parametrize(("column", "sampler", "options"), cases(ROUTES))
@pytest.mark.parametrize(("data", "steps", "exact"), [(d, s, e) for d, s, *e in W5])
def test_w5_final_variance(monkeypatch, data, steps, exact, column, sampler, options):
    """On Gaussian data a sampler is linear in its noises: feed it one unit impulse each and add up the squares."""
    impulses = iter(torch.eye(steps + 1, dtype=torch.float64).unsqueeze(2))
    start = next(impulses)
    monkeypatch.setattr(samplers, "noise_like", lambda x, generator: next(impulses))
    net = normal(variance=data).network(LINEAR)
    response = sample(sampler(net, start, LINEAR, time_grid(LINEAR, steps), **options))
    close(response.square().sum(), exact[column], 1e-9)


def test_e10_which_variance_is_right_for_which_data():
    ab_t, ab_s = LINEAR.alpha_bar[[500, 499]].tolist()
    x0_share = posterior(row(0.0), row(1.0), ab_t, ab_s)[0].item()
    point_mass = posterior_variance(ab_t, ab_s)
    close(point_mass, 0.010031355415)
    close(point_mass + x0_share**2 * (1 - ab_t), 0.01004004004004)  # N(0, 1) data: x0 given x_t has variance 1 - ab_t
    close(LINEAR.beta[500], 0.01004004004004)


def test_e10_sigma_hat_has_no_room_in_the_eta_family():
    with pytest.raises(ValueError, match="sigma"):
        renoise(example_1(), EPS, 0.9, 1 / 3)
    room = 1 - LINEAR.alpha_bar[:-1] - LINEAR.beta[1:]
    assert (room < 0).nonzero().flatten().tolist() == [0, 1]
    close(room[:2], (-1.0e-4, -1.99e-5), 5e-8)


def test_e12_joint_differs_where_marginals_agree():
    ddpm_slope = posterior(row(1.0), row(0.0), 0.8, 0.9)[0].item()  # of x_s on x_t, given x0
    ddim_slope = renoise(NIL[:, :1], row(1.0) / math.sqrt(0.2), 0.9).item()
    close((ddpm_slope * 0.2, ddim_slope * 0.2), (math.sqrt(0.8 / 0.9) * 0.1, math.sqrt(0.1 * 0.2)))
    close(ddpm_slope / ddim_slope, 2 / 3)  # the correlation; DDIM's is one


# --- W6: the exact predictor ------------------------------------------------------------------------------------------

W6 = [
    ((0.0, 0.0), 0.5, (0.1937250265814078, 0.06364023965781011),
     (0.24081211224341814, 0.5320982567659996, 0.22708963099058227), -1.8857548377047577,
     (-0.1937250265814078, -0.06364023965781011)),
    ((0.3, -0.4), 0.8, (0.0985796411065158, -0.07691302649446174),
     (0.42582797748089674, 0.19139315299772677, 0.3827788695213765), -2.1314042745101838,
     (0.28612037607171054, -0.40875708225272706)),
    ((1.0, 1.0), 0.05, (1.062203863124465, 1.038495421588847),
     (0.2814487432955931, 0.48975471235289486, 0.22879654435151212), -2.9714737003251956,
     (-0.15790334179847348, -0.05456064103587125)),
]  # fmt: skip


@pytest.mark.parametrize(("x", "ab", "eps", "shares", "log_p", "x0"), W6, ids=[f"W6 GMM-B {x}" for x, *_ in W6])
def test_w6_two_dimensions(gmm_b, x, ab, eps, shares, log_p, x0):
    close(gmm_b.eps(row(*x), ab), eps)
    close(gmm_b.responsibilities(row(*x), ab), shares)
    close(gmm_b.log_density(row(*x), ab), log_p)
    close(gmm_b.x0(row(*x), ab), x0)


W6_A = [
    (0.0, 0.5, -0.2928227118658323),
    (0.3, 0.5, -0.0958573034158877),
    (-1.0, 0.9, -0.13530566707282143),
    (2.0, 1e-4, 1.9973545429529278),
]


@pytest.mark.parametrize(("x", "ab", "eps"), W6_A)
def test_w6_one_dimension(gmm_a, x, ab, eps):
    close(gmm_a.eps(row(x), ab), eps)


W6_PATHS = {
    1: (0.25067876, 0.25534892, 0.25767734, 0.2600013, 0.26232077, 0.26463574, 0.26925207),
    2: (-0.18819585, 0.05338598, 0.16957305, 0.27832329, 0.37738298, 0.46549583, 0.60830412),
    3: (-0.67089363, -0.18417331, 0.10235058, 0.35586361, 0.54868357, 0.68143291, 0.82816392),
    10: (-1.07230072, -0.95566238, 0.24177987, 0.68271691, 0.80163693, 0.89236969, 1.05043238),
    20: (-1.12439621, -0.9706102, 0.29026543, 0.67230012, 0.81685216, 0.93376778, 1.14317844),
    50: (-1.17367127, -0.98064461, 0.2605965, 0.66407583, 0.82808006, 0.96400891, 1.21019016),
    1000: (-1.21288106, -0.98915115, 0.23238009, 0.65819778, 0.83625983, 0.98573257, 1.2580546),
}


@pytest.mark.parametrize("steps", W6_PATHS, ids=[f"W6 GMM-A S={steps}" for steps in W6_PATHS])
def test_w6_ddim_endpoints(gmm_a, steps):
    starts = row(-2, -1, -0.5, 0, 0.5, 1, 2).mT
    close(sample(ddim(gmm_a.network(LINEAR), starts, LINEAR, time_grid(LINEAR, steps))), W6_PATHS[steps], 1e-7)
