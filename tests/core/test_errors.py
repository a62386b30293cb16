"""Bad input of every kind: the message names the argument, shows its value and says what was expected."""

import math

import pytest
import torch

from lessons_src import data
from lessons_src.guidance import blend, classifier_free
from lessons_src.oracle import GaussianMixture, exact_flow
from lessons_src.process import (
    add_noise,
    eps_from_score,
    eps_from_velocity,
    forward_chain,
    posterior,
    posterior_variance,
    predict_eps,
    predict_x0,
    score_from_eps,
    velocity,
    x0_from_velocity,
)
from lessons_src.samplers import ddim, ddpm, renoise, sample
from lessons_src.schedules import NoiseSchedule, cosine, linear, make_schedule, shifted_cosine, sigmoid, time_grid
from lessons_src.show import plots

V, T = ValueError, TypeError
NAN, INF = math.nan, math.inf
SCHEDULE = linear(10)
MIXTURE = GaussianMixture([0.5, 0.5], [[0.0], [1.0]], [[[1.0]], [[1.0]]])
POINT = GaussianMixture([1.0], [[0.0]], [[[0.0]]])
LOPSIDED = [[[1.0, 0.5], [0.0, 1.0]]]
NET = MIXTURE.network(SCHEDULE)
X, FLAT = torch.zeros(2, 1, dtype=torch.float64), torch.zeros(3)


def levels(*alpha_bar: float) -> NoiseSchedule:
    return NoiseSchedule(torch.tensor(alpha_bar, dtype=torch.float64))


def mixture(weights=(0.5, 0.5), means=((0.0,), (1.0,)), covariances=(((1.0,),), ((1.0,),)), **options):
    return GaussianMixture(weights, means, covariances, **options)


def run(sampler=ddim, eps_fn=lambda x, t: x, x=X, **options):
    return sample(sampler(eps_fn, x, SCHEDULE, **options))


def guided(label=0, w=2.0, batch=2):
    return classifier_free(NET, label, w)(X[:batch], torch.ones(batch, dtype=torch.int64))


# name, call, kind of error (V ValueError, T TypeError), and what its message starts with and contains
SCHEDULES = [
    ("alpha_bar no tensor", lambda: NoiseSchedule([1.0, 0.5]), T, "alpha_bar is [1.0, 0.5]; float64"),
    ("alpha_bar float32", lambda: NoiseSchedule(torch.ones(2)), T, "alpha_bar is; torch.float32; float64"),
    ("alpha_bar 2-D", lambda: NoiseSchedule(X), V, "alpha_bar is; (2, 1); shape (T + 1,)"),
    ("alpha_bar one entry", lambda: levels(1), V, "alpha_bar is; (1,); T >= 1"),
    ("alpha_bar starts at .9", lambda: levels(0.9, 0.5), V, "alpha_bar[0] is 0.9; exactly 1"),
    ("alpha_bar starts above 1", lambda: levels(1.5, 0.5), V, "alpha_bar[0] is 1.5; exactly 1"),
    ("alpha_bar rises", lambda: levels(1, 0.5, 0.6), V, "alpha_bar[2] is 0.6; less than alpha_bar[1] = 0.5"),
    ("alpha_bar stays", lambda: levels(1, 0.5, 0.5), V, "alpha_bar[2] is 0.5; less than alpha_bar[1] = 0.5"),
    ("alpha_bar NaN", lambda: levels(1, NAN, 0.5), V, "alpha_bar[1] is nan; less than alpha_bar[0] = 1.0"),
    ("alpha_bar reaches 0", lambda: levels(1, 0.5, 0), V, "alpha_bar[T] is 0.0; in (0, 1]"),
    ("alpha_bar negative", lambda: levels(1, 0.5, -0.1), V, "alpha_bar[T] is -0.1; in (0, 1]"),
    ("T zero", lambda: linear(0), V, "T is 0; whole number, at least 1"),
    ("T bool", lambda: cosine(True), T, "T is True; whole number"),
    ("T float", lambda: sigmoid(10.0), T, "T is 10.0; whole number"),
    ("T text", lambda: shifted_cosine("10"), T, "T is '10'; whole number"),
    ("beta_start NaN", lambda: linear(10, NAN), V, "beta_start is nan; finite number"),
    ("beta_start zero", lambda: linear(10, 0.0), V, "beta_start is 0.0; [1e-12, 0.999]"),
    ("beta_end below start", lambda: linear(10, 0.1, 0.01), V, "beta_end is 0.01; [0.1, 0.999]"),
    ("beta_end one", lambda: linear(10, 0.1, 1.0), V, "beta_end is 1.0; [0.1, 0.999]"),
    ("s NaN", lambda: cosine(10, s=NAN), V, "s is nan; finite number in [0, 1]"),
    ("s negative", lambda: cosine(10, s=-0.1), V, "s is -0.1; [0, 1]"),
    ("c infinite", lambda: sigmoid(10, c=INF), V, "c is inf; finite number"),
    ("c zero", lambda: sigmoid(10, c=0), V, "c is 0; [0.001, 30]"),
    ("size zero", lambda: shifted_cosine(10, size=0), V, "size is 0; at least 1"),
    ("size float", lambda: shifted_cosine(10, size=64.0), T, "size is 64.0; whole number"),
    ("max_beta one", lambda: cosine(10, max_beta=1.0), V, "max_beta is 1.0; finite number in"),
    ("max_beta NaN", lambda: sigmoid(10, max_beta=NAN), V, "max_beta is nan; finite number in"),
    ("unknown schedule", lambda: make_schedule("cubic"), V, "name is 'cubic'; 'linear', 'cosine'"),
    ("unknown grid", lambda: time_grid(SCHEDULE, 5, "karras"), V, "grid is 'karras'; 'linspace'"),
    ("steps above T", lambda: time_grid(SCHEDULE, 11), V, "steps is 11; from 1 to 10"),
    ("steps zero", lambda: time_grid(SCHEDULE, 0), V, "steps is 0; from 1 to 10"),
    ("steps bool", lambda: time_grid(SCHEDULE, True), T, "steps is True; whole number"),
    ("steps float", lambda: time_grid(SCHEDULE, 5.0), T, "steps is 5.0; whole number"),
]
PROCESS = [
    ("level zero", lambda: add_noise(X, X, 0.0), V, "alpha_bar is 0.0; in (0, 1]"),
    ("level above 1", lambda: add_noise(X, X, 1.1), V, "alpha_bar is 1.1; in (0, 1]"),
    ("level negative", lambda: velocity(X, X, -0.5), V, "alpha_bar is -0.5; in (0, 1]"),
    ("level NaN", lambda: predict_x0(X, X, NAN), V, "alpha_bar is nan; finite number"),
    ("level text", lambda: predict_x0(X, X, "half"), T, "alpha_bar is 'half'; finite number"),
    ("level bool", lambda: predict_x0(X, X, True), T, "alpha_bar is True; finite number"),
    ("level 1 without noise", lambda: predict_eps(X, X, 1.0), V, "alpha_bar is 1.0; in (0, 1)"),
    ("level 1 without score", lambda: score_from_eps(X, 1), V, "alpha_bar is 1.0; in (0, 1)"),
    ("levels of three", lambda: add_noise(X, X, FLAT + 0.5), V, "alpha_bar is; (3,); shape (2,)"),
    ("levels whole numbers", lambda: add_noise(X, X, torch.tensor([1, 1])), T, "alpha_bar is; int64; floating"),
    ("one level of many bad", lambda: add_noise(X, X, torch.tensor([0.5, NAN])), V, "alpha_bar is [0.5, nan]; (0, 1]"),
    ("one level of many 1", lambda: predict_eps(X, X, torch.tensor([0.5, 1.0])), V, "alpha_bar is [0.5, 1.0]; (0, 1)"),
    ("x0 whole numbers", lambda: add_noise(X.long(), X, 0.5), T, "x0 is; int64; floating-point"),
    ("x0 without batch", lambda: add_noise(FLAT, FLAT, 0.5), V, "x0 is; (3,); (B, *event)"),
    ("x0 a list", lambda: next(forward_chain([1.0], SCHEDULE)), T, "x0 is [1.0]; floating-point"),
    ("x_t without batch", lambda: predict_x0(FLAT, FLAT, 0.5), V, "x_t is; (3,); (B, *event)"),
    ("eps without batch", lambda: score_from_eps(FLAT, 0.5), V, "eps is; (3,); (B, *event)"),
    ("score without batch", lambda: eps_from_score(FLAT, 0.5), V, "score is; (3,); (B, *event)"),
    ("eps of another shape", lambda: add_noise(X, X[:1], 0.5), V, "eps is; (1, 1); dtype and device of x0: (2, 1)"),
    ("eps of another dtype", lambda: predict_x0(X, X.float(), 0.5), T, "eps is; float32; of x_t: (2, 1); float64"),
    ("eps broadcasting", lambda: velocity(X, X.T, 0.5), V, "eps is; (1, 2); of x0: (2, 1)"),
    ("x0 of another shape", lambda: predict_eps(X, X[:1], 0.5), V, "x0 is; (1, 1); of x_t: (2, 1)"),
    ("v a number", lambda: x0_from_velocity(X, 1.0, 0.5), T, "v is 1.0; of x_t: (2, 1)"),
    ("v of another dtype", lambda: eps_from_velocity(X, X.float(), 0.5), T, "v is; float32; of x_t"),
    ("posterior backwards", lambda: posterior(X, X, 0.9, 0.8), V, "alpha_bar_t is 0.9; alpha_bar_s = 0.8"),
    ("posterior standing", lambda: posterior_variance(0.8, 0.8), V, "alpha_bar_t is 0.8; alpha_bar_s = 0.8"),
    ("posterior from 0", lambda: posterior_variance(0.0, 0.8), V, "alpha_bar_t is 0.0; in (0, "),
    ("posterior to NaN", lambda: posterior_variance(0.5, NAN), V, "alpha_bar_s is nan; finite number in [0, 1]"),
    ("posterior x0 shape", lambda: posterior(X, X[:1], 0.5, 0.8), V, "x0 is; (1, 1); of x_t: (2, 1)"),
]
ORACLE = [
    ("weights sum to .9", lambda: mixture(weights=[0.5, 0.4]), V, "weights is [0.5, 0.4]; sum to 1"),
    ("weights negative", lambda: mixture(weights=[1.5, -0.5]), V, "weights is [1.5, -0.5]; positive"),
    ("weights NaN", lambda: mixture(weights=[NAN, 0.5]), V, "weights is [nan, 0.5]; positive"),
    ("weights a number", lambda: mixture(weights=1.0), V, "weights is; positive"),
    ("means of three", lambda: mixture(means=[[0.0]] * 3), V, "means is; (3, 1); shape (2, d)"),
    ("means NaN", lambda: mixture(means=[[NAN], [0.0]]), V, "means is; finite"),
    ("covariances 1-D", lambda: mixture(covariances=[[1.0], [1.0]]), V, "covariances is; (2, 1); (2, 1, 1)"),
    (
        "covariances lopsided",
        lambda: mixture([1.0], [[0.0, 0.0]], LOPSIDED),
        V,
        "covariances is [[[1.0, 0.5]; symmetric",
    ),
    ("covariances negative", lambda: mixture(covariances=[[[1.0]], [[-2.0]]]), V, "covariances is; -2.0; eigenvalue"),
    ("covariances NaN", lambda: mixture(covariances=[[[1.0]], [[NAN]]]), V, "covariances is; nan"),
    ("covariances infinite", lambda: mixture(covariances=[[[1.0]], [[INF]]]), V, "covariances is; inf"),
    ("labels too few", lambda: mixture(labels=[0]), V, "labels is [0]; 2 class numbers"),
    ("labels empty", lambda: mixture(labels=[]), V, "labels is []; 2 class numbers"),
    ("labels with a gap", lambda: mixture(labels=[1, 1]), V, "labels is [1, 1]; every class from 0 up"),
    ("labels negative", lambda: mixture(labels=[-1, 0]), V, "labels is -1; from 0 to 1"),
    ("n negative", lambda: MIXTURE.sample(-1), V, "n is -1; at least 0"),
    ("n bool", lambda: MIXTURE.sample(True), T, "n is True; whole number"),
    ("x of another dimension", lambda: MIXTURE.score(torch.zeros(2, 3), 0.5), V, "x is; (2, 3); shape (B, 1)"),
    ("x an image", lambda: MIXTURE.eps(torch.zeros(2, 1, 1), 0.5), V, "x is; (2, 1, 1); shape (B, 1)"),
    ("x whole numbers", lambda: MIXTURE.x0(X.long(), 0.5), T, "x is; int64; floating-point"),
    ("point mass without noise", lambda: POINT.log_density(X, 1.0), V, "alpha_bar is 1.0; less than 1"),
    ("label above the null label", lambda: MIXTURE.eps(X, 0.5, 3), V, "label is 3; from 0 to 2"),
    ("label negative", lambda: MIXTURE.score(X, 0.5, -1), V, "label is -1; from 0 to 2"),
    ("label bool", lambda: MIXTURE.eps(X, 0.5, True), T, "label is True; whole number"),
    ("label float", lambda: MIXTURE.eps(X, 0.5, 1.0), T, "label is 1.0; whole number"),
    ("labels int32", lambda: MIXTURE.eps(X, 0.5, torch.tensor([0, 1]).int()), T, "label is; int32; int64 of shape"),
    ("labels of one", lambda: MIXTURE.eps(X, 0.5, torch.tensor([0])), V, "label is; (1,); int64 of shape (2,)"),
    ("one label of many bad", lambda: MIXTURE.eps(X, 0.5, torch.tensor([0, 3])), V, "label is [0, 3]; from 0 to 2"),
    ("t a number", lambda: NET(X, 3), T, "t is 3; int64 tensor of shape (2,)"),
    ("t float", lambda: NET(X, torch.tensor([1.0, 2.0])), T, "t is; float32; int64 tensor"),
    ("t of one", lambda: NET(X, torch.tensor([3])), V, "t is [3]; shape (2,), times from 1 to 10"),
    ("t zero", lambda: NET(X, torch.tensor([0, 3])), V, "t is [0, 3]; times from 1 to 10"),
    ("t above T", lambda: NET(X, torch.tensor([1, 11])), V, "t is [1, 11]; times from 1 to 10"),
    ("flow from clean data", lambda: exact_flow(MIXTURE.eps, X, 1.0), V, "alpha_bar is 1.0; in (0, 1)"),
    ("flow from nowhere", lambda: exact_flow(MIXTURE.eps, X, 0.0), V, "alpha_bar is 0.0; in (0, 1)"),
    ("flow in no steps", lambda: exact_flow(MIXTURE.eps, X, 0.5, 0), V, "steps is 0; at least 1"),
]
SAMPLERS = [
    ("eta negative", lambda: run(eta=-0.1), V, "eta is -0.1; finite number in [0"),
    ("eta NaN", lambda: run(eta=NAN), V, "eta is nan; finite number"),
    ("eta text", lambda: run(eta="1"), T, "eta is '1'; finite number"),
    ("eta leaves no room", lambda: run(eta=5.0), V, "eta is 5.0; fits into level s = "),
    ("unknown variance", lambda: run(ddpm, variance="fixed_small"), V, "variance is 'fixed_small'; 'beta_tilde'"),
    ("times miss 0", lambda: run(times=[10, 5]), V, "times is [10, 5]; strictly decreasing"),
    ("times rise", lambda: run(times=[5, 6, 0]), V, "times is [5, 6, 0]; strictly decreasing"),
    ("times repeat", lambda: run(ddpm, times=[5, 5, 0]), V, "times is [5, 5, 0]; strictly decreasing"),
    ("times above T", lambda: run(times=[11, 0]), V, "times is; 11; to 10"),
    ("times negative", lambda: run(times=[5, 0, -1]), V, "times is; -1; from 0 to 10"),
    ("times float", lambda: run(times=[10.0, 0]), T, "times is [10.0, 0]; whole numbers"),
    ("times bool", lambda: run(times=[True, 0]), T, "times is [True, 0]; whole numbers"),
    ("times a number", lambda: run(times=8), T, "times is 8; strictly decreasing whole numbers"),
    ("times empty", lambda: run(times=[]), V, "times is []; strictly decreasing"),
    ("times 0 alone", lambda: run(ddpm, times=[0]), V, "times is [0]; strictly decreasing"),
    ("eps_fn of another shape", lambda: run(eps_fn=lambda x, t: x[:1]), V, "eps_fn(x, t) is; (1, 1); of x: (2, 1)"),
    (
        "eps_fn of another dtype",
        lambda: run(eps_fn=lambda x, t: x.float()),
        T,
        "eps_fn(x, t) is; float32; torch.float64",
    ),
    ("eps_fn of nothing", lambda: run(eps_fn=lambda x, t: None), T, "eps_fn(x, t) is None; of x: (2, 1)"),
    ("x without batch", lambda: run(x=FLAT), V, "x is; (3,); (B, *event)"),
    ("x whole numbers", lambda: run(ddpm, x=X.long()), T, "x is; int64; floating-point"),
    ("sigma too large", lambda: renoise(X, X, 0.9, 1 / 3), V, "sigma is 0.333333; <= 1 - alpha_bar_s = 0.1"),
    ("sigma on clean data", lambda: renoise(X, X, 1.0, 0.01), V, "sigma is 0.01; sigma^2 <= 1 - alpha_bar_s = 0"),
    ("sigma negative", lambda: renoise(X, X, 0.5, -0.1), V, "sigma is -0.1; finite number in [0"),
    ("sigma NaN", lambda: renoise(X, X, 0.5, NAN), V, "sigma is nan; finite number"),
    ("renoise to 0", lambda: renoise(X, X, 0.0), V, "alpha_bar_s is 0.0; in (0, 1]"),
    ("renoise above 1", lambda: renoise(X, X, 1.2), V, "alpha_bar_s is 1.2; in [0, 1]"),
    ("renoise eps shape", lambda: renoise(X, X[:1], 0.5), V, "eps is; (1, 1); of x0: (2, 1)"),
    ("renoise x0 flat", lambda: renoise(FLAT, FLAT, 0.5), V, "x0 is; (3,); (B, *event)"),
    ("no states", lambda: sample([]), V, "states is []; at least one step"),
]
GUIDANCE = [
    ("w NaN", lambda: classifier_free(NET, 0, NAN), V, "w is nan; finite number"),
    ("w infinite", lambda: blend(X, X, INF), V, "w is inf; finite number"),
    ("w nothing", lambda: blend(X, X, None), T, "w is None; finite number"),
    ("w bool", lambda: classifier_free(NET, 0, True), T, "w is True; finite number"),
    ("w a vector", lambda: blend(X, X, FLAT), T, "w is; (3,); finite number"),
    ("eps_c shape", lambda: blend(X, X[:1], 2.0), V, "eps_c is; (1, 1); of eps_u: (2, 1)"),
    ("eps_c dtype", lambda: blend(X, X.float(), 2.0), T, "eps_c is; float32; of eps_u: (2, 1), torch.float64"),
    ("eps_u whole numbers", lambda: blend(X.long(), X.long(), 0.5), T, "eps_u is; int64; floating-point"),
    ("eps_u a list", lambda: blend([1.0], X, 0.5), T, "eps_u is [1.0]; floating-point"),
    ("label out of range", lambda: guided(label=3), V, "label is 3; from 0 to 2"),
    ("label out of range at w=1", lambda: guided(label=-1, w=1), V, "label is -1; from 0 to 2"),
    ("label bool", lambda: guided(label=False), T, "label is False; whole number"),
    ("labels of another batch", lambda: guided(label=torch.tensor([0, 1]), batch=1), V, "label is; (2,); shape (1,)"),
]
DATA = [
    ("unknown split", lambda: data.digits("validation"), V, "split is 'validation'; 'train', 'test'"),
    ("corrupt file", lambda: data.digits(path=__file__), V, f"path is {__file__!r}; .npz file with arrays ('x', 'y')"),
    ("unknown points", lambda: data.points("circles", 5), V, "name is 'circles'; 'eight_gaussians', 'two_moons'"),
    ("points negative", lambda: data.points("spirals", -1), V, "n is -1; at least 0"),
    ("points of the ring negative", lambda: data.points("eight_gaussians", -1), V, "n is -1; at least 0"),
    ("points float", lambda: data.points("checkerboard", 5.0), T, "n is 5.0; whole number"),
    ("points bool", lambda: data.points("two_moons", True), T, "n is True; whole number"),
    ("ring of none", lambda: data.ring(0), V, "n is 0; at least 1"),
    ("ring radius NaN", lambda: data.ring(radius=NAN), V, "radius is nan; finite number"),
    ("ring std negative", lambda: data.ring(std=-0.1), V, "std is -0.1; [0"),
    ("figure without a sentence", lambda: plots.show(plots.figure()[0], " "), V, "text is ' '; a sentence"),
]

CASES = [*SCHEDULES, *PROCESS, *ORACLE, *SAMPLERS, *GUIDANCE, *DATA]


@pytest.mark.parametrize(("call", "kind", "fragments"), [pytest.param(*case, id=name) for name, *case in CASES])
def test_refusal(call, kind, fragments):
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    message = str(caught.value)
    assert message.startswith(fragments.split("; ")[0])
    assert "; expected " in message
    assert all(fragment in message for fragment in fragments.split("; ")), message
