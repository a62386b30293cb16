"""Distillation's targets are exact where the answer is known, and the mistakes that people make go red."""

import copy
from itertools import pairwise

import pytest
import torch
from gaussian_student import COSINE, MEAN, STD, ExactBody, gaussian, some

from lessons_src import data
from lessons_src.distillation import (
    Consistency,
    DistributionMatching,
    Progressive,
    Regression,
    Trajectories,
    pseudo_huber,
    segments,
    squared,
    v_to,
)
from lessons_src.losses import Samples
from lessons_src.networks import NoisePredictor, PointMLP
from lessons_src.oracle import exact_flow
from lessons_src.process import add_noise, velocity
from lessons_src.samplers import ddim, sample
from lessons_src.schedules import make_schedule, time_grid
from lessons_src.students import Guided, Student, clean, few_steps, step
from lessons_src.training import Recipe, Trainer, train

HUMPS = data.two_humps()


def times(t, x):
    return torch.full((len(x),), t)


def network(seed=0, labels=0):
    torch.manual_seed(seed)
    return NoisePredictor(PointMLP(labels), COSINE, "v")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def points(n=2000):
    return gaussian().sample(n, generator())[0]


def gradient(net, losses):
    net.zero_grad()
    losses.each.mean().backward()
    return torch.cat([weight.grad.flatten() for weight in net.parameters() if weight.grad is not None])


# --- Targets


@pytest.mark.parametrize(("t", "s"), [(1000, 0), (1000, 937), (600, 599), (250, 0), (1, 0)])
def test_v_to_is_the_inverse_of_a_step(t, s):
    x, end = some(30), some(30, 1)
    v = v_to(COSINE, x, end, times(t, x), times(s, x))
    a, b = COSINE.alpha_bar[t].sqrt(), (1 - COSINE.alpha_bar[t]).sqrt()
    assert torch.allclose(step(COSINE, x, a * x - b * v, times(t, x), times(s, x)), end, atol=1e-9)


def test_v_to_the_clean_point_is_the_velocity():
    x0, eps = some(30), some(30, 1)
    for t in (1000, 400, 3):
        x = add_noise(x0, eps, COSINE.alpha_bar[t].item())
        expected = velocity(x0, eps, COSINE.alpha_bar[t].item())
        assert torch.allclose(v_to(COSINE, x, x0, times(t, x), times(0, x)), expected, atol=1e-9)


def test_segments_take_each_step_equally_often():
    t, s = segments([1000, 700, 300, 0], 300, generator())
    assert (
        sorted(zip(t.tolist(), s.tolist(), strict=True)) == [(300, 0)] * 100 + [(700, 300)] * 100 + [(1000, 700)] * 100
    )


def perfectly_distilled(x, rounds):
    """The end of one step of a student that met each of `rounds` targets exactly: it calls its teacher recursively."""
    grid = time_grid(COSINE, 2**rounds)

    def jump(x, t, s, stride):
        if stride == 1:
            return step(COSINE, x, clean(HUMPS.network(COSINE), x, times(t, x)), times(t, x), times(s, x))
        m = grid[grid.index(t) + stride // 2]
        end = jump(jump(x, t, m, stride // 2), m, s, stride // 2)
        v = v_to(COSINE, x, end, times(t, x), times(s, x))
        a, b = COSINE.alpha_bar[t].sqrt(), (1 - COSINE.alpha_bar[t]).sqrt()
        return step(COSINE, x, a * x - b * v, times(t, x), times(s, x))

    return jump(x, 1000, 0, 2**rounds)


def test_progressive_targets_on_an_exact_oracle_converge_to_the_flow():
    """A student that meets every target ends where its first teacher does, and more rounds bring it to the flow."""
    x = torch.linspace(-2, 2, 41, dtype=torch.float64)[:, None]
    flow = exact_flow(HUMPS.eps, x, COSINE.alpha_bar[1000].item())
    errors = []
    for rounds in (3, 5, 7):
        end = perfectly_distilled(x, rounds)
        by_ddim = sample(ddim(HUMPS.network(COSINE), x, COSINE, time_grid(COSINE, 2**rounds)))
        assert torch.allclose(end, by_ddim, atol=1e-8)
        errors.append((end - flow).abs().mean().item())
    assert errors[0] > 3 * errors[1] > 9 * errors[2]
    assert errors[2] < 0.01


def test_progressive_compares_with_two_steps_of_the_teacher():
    loss, x = Progressive(HUMPS.network(COSINE), [1000, 600, 200, 100, 0]), some(12)[:, :1]
    assert loss.grid == [1000, 200, 0]
    for (t, s), path in (((1000, 200), [1000, 600, 200]), ((200, 0), [200, 100, 0])):
        end = x
        for before, after in pairwise(path):
            end = step(COSINE, end, clean(loss.teacher, end, times(before, x)), times(before, x), times(after, x))
        assert torch.allclose(loss.two_steps(x, times(t, x), times(s, x)), end)


def test_a_target_at_the_wrong_time_is_another_one():
    """The mistake: the teacher's second step asked at t, not at m. On the humps it misses by more than the spread."""
    loss, x = Progressive(HUMPS.network(COSINE), [1000, 500, 0]), some(400)[:, :1]
    t, m, s = (times(time, x) for time in loss.times)
    right = loss.two_steps(x, t, s)
    middle = step(COSINE, x, clean(loss.teacher, x, t), t, m)
    wrong = step(COSINE, middle, clean(loss.teacher, middle, t), m, s)
    assert (right - wrong).abs().mean() > 0.25


@pytest.mark.parametrize("w", [1.0, 3.0])
def test_guidance_is_folded_into_the_target(w):
    teacher, x = Guided(network(labels=3), w), some(9).float()
    label = torch.arange(9) % 3
    end = Progressive(teacher, [1000, 500, 0]).two_steps(x, times(1000, x), times(0, x), label)
    by_ddim = sample(ddim(lambda x, t: teacher(x, t, label), x, COSINE, [1000, 500, 0]))
    assert torch.allclose(end, by_ddim, atol=0.02), "DDIM divides by 5e-5 in single precision"


# --- Gradients


@pytest.mark.parametrize("method", ["progressive", "consistency", "training"])
def test_nothing_flows_back_through_teacher_and_target(method):
    """The gradient is that of the loss to a target that has been computed before, whatever depends on what."""
    net, x0 = network(), points(64).float()
    grid = [1000, 750, 500, 250, 0]
    loss = {
        "progressive": lambda: Progressive(net, grid),  # the network as its own teacher: the worst case
        "consistency": lambda: Consistency(grid, net, decay=0.0),
        "training": lambda: Consistency(grid, decay=0.0),
    }[method]()
    found = gradient(net, loss(net, (x0, None), generator()))
    still = copy.deepcopy(net).requires_grad_(False)
    g = generator()
    t, s = segments(grid[::2] if method == "progressive" else grid, 64, g)
    eps = torch.randn(x0.shape, generator=g)
    x = COSINE.alpha_bar[t].sqrt().float()[:, None] * x0 + (1 - COSINE.alpha_bar[t]).sqrt().float()[:, None] * eps
    if method == "progressive":
        target = v_to(COSINE, x, Progressive(still, grid).two_steps(x, t, s), t, s)
        each = (net.output(x, t, torch.zeros(64, dtype=torch.int64)) - target).square().mean(1)
    else:
        x_s = step(COSINE, x, clean(still, x, t) if method == "consistency" else x0, t, s)
        each = pseudo_huber(clean(net, x, t), clean(still, x_s, s))
        leaking = pseudo_huber(clean(net, x, t), clean(net, x_s, s))
    net.zero_grad()
    each.mean().backward()
    expected = torch.cat([weight.grad.flatten() for weight in net.parameters()])
    assert torch.allclose(found, expected, atol=1e-4 * expected.abs().max().item())
    if method != "progressive":
        net.zero_grad()
        leaking.mean().backward()
        wrong = torch.cat([weight.grad.flatten() for weight in net.parameters()])
        assert (wrong - expected).norm() > 0.3 * expected.norm(), "the mistake would be seen"


def test_the_gaussian_answer_is_the_optimum_of_consistency_distillation():
    """Its loss falls with the square of the step, as a teacher of order 1 errs, and a shifted answer is worse."""
    net, batch = NoisePredictor(ExactBody(), COSINE, "v").double(), (points(), None)
    oracle, losses = gaussian().network(COSINE), []
    for n in (10, 20, 40):
        each = Consistency(time_grid(COSINE, n), oracle)(net, batch, generator()).each
        losses.append(each.mean().item())
    assert losses[0] > 2.5 * losses[1] > 6 * losses[2]


def test_the_value_of_a_perfect_student_under_regression_is_zero():
    x = some(500)
    path = Trajectories.record(x, ddim(gaussian().network(COSINE), x, COSINE), [1000, 500, 0])
    net = NoisePredictor(ExactBody(), COSINE, "v").double()
    pairs = Trajectories(torch.stack([x, clean(net, x, times(1000, x))]), [1000, 0])
    assert Regression()(net, pairs(64, generator()), generator()).each.max() < 1e-12
    assert (path.every(2).states[1] - pairs.states[1]).abs().max() < 0.02


def test_matching_pulls_a_shifted_student_back():
    """Of N(m, STD^2) drawn and N(MEAN, STD^2) wanted, with both denoisers exact, the pull is along m - MEAN."""
    off = torch.tensor([0.5, 0.2])
    fake = NoisePredictor(ExactMean(MEAN + off), COSINE, "v").double()
    loss = DistributionMatching(gaussian().network(COSINE), fake, [1000, 0])
    drawn = MEAN + off + STD * some(4000)
    pull = loss.pull(drawn, None, generator()).mean(0)
    assert torch.nn.functional.cosine_similarity(pull, off.double(), dim=0) > 0.99
    assert pull.norm() > 0.3
    same = DistributionMatching(
        gaussian().network(COSINE), NoisePredictor(ExactMean(MEAN), COSINE, "v").double(), [1000, 0]
    )
    assert same.pull(MEAN + STD * some(4000), None, generator()).abs().max() < 1e-4


def test_without_a_fake_network_the_pull_is_towards_the_likeliest_point():
    """Drawings that have the law already are pulled together still; with an exact fake network they are left alone."""
    loss = DistributionMatching(gaussian().network(COSINE), None, [1000, 0])
    drawn = MEAN + STD * some(4000)
    pull, away = loss.pull(drawn, None, generator()), drawn - MEAN
    assert (pull * away).sum() / (pull.norm() * away.norm()) > 0.3
    assert "no fake" in repr(loss)


class ExactMean(PointMLP):
    """The v of the best denoiser of N(mean, STD^2): E[x0 | x] = mean + STD^2 a / (STD^2 a^2 + b^2) (x - a mean)."""

    def __init__(self, mean):
        super().__init__()
        self.mean = mean.double()

    def forward(self, x, time, label):
        a = COSINE.alpha_bar[time.round().long()].sqrt()[:, None]
        b = (1 - a**2).sqrt()
        x0 = self.mean + STD**2 * a / (STD**2 * a**2 + b**2) * (x - a * self.mean)
        return (a * x - x0) / b


def test_matching_waits_for_the_fake_network_and_then_moves_both():
    teacher, net = network(0), network(1)
    loss = DistributionMatching(teacher, copy.deepcopy(teacher), [1000, 500, 0], warmup=2)
    pairs = Trajectories(torch.stack([some(40), some(40, 1)]).float(), [1000, 0])
    trainer = Trainer(net, loss, pairs, Recipe(4, 8, 1e-3, warmup=1))
    before, fake = copy.deepcopy(net.state_dict()), copy.deepcopy(loss.fake.state_dict())
    trainer.step(), trainer.step()
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert any(not torch.equal(fake[name], value) for name, value in loss.fake.state_dict().items())
    trainer.step()
    assert any(not torch.equal(before[name], value) for name, value in net.state_dict().items())


# --- Who is asked what

HEARD = []


class Listening(PointMLP):
    """Writes down which network is asked with which labels."""

    def __init__(self, name):
        super().__init__(3)
        self.name = name

    def forward(self, x, time, label):
        HEARD.append((self.name, label.tolist()))
        return super().forward(x, time, label)


def listening(name):
    torch.manual_seed(0)
    return NoisePredictor(Listening(name), COSINE, "v")


GRID = [1000, 500, 0]
ASKED = {  # the loss, and whom it asks how often
    "regression": (lambda: Regression(), {"student": 1}),
    "progressive": (lambda: Progressive(listening("teacher"), GRID), {"student": 1, "teacher": 2}),
    "consistency": (lambda: Consistency(GRID, listening("teacher")), {"student": 2, "teacher": 1}),
    "training": (lambda: Consistency(GRID), {"student": 2}),
    "matching": (
        lambda: DistributionMatching(listening("teacher"), listening("fake"), GRID, updates=3),
        {"student": 2, "teacher": 1, "fake": 4},
    ),
    "no fake": (lambda: DistributionMatching(listening("teacher"), None, GRID), {"student": 2, "teacher": 1}),
}


@pytest.mark.parametrize("method", ASKED)
def test_everybody_is_asked_about_the_condition_and_as_often_as_said(method):
    make, often = ASKED[method]
    loss, label, x = make(), torch.arange(12) % 3, some(12).float()
    paths = method in ("regression", "matching", "no fake")
    batch = (x, times(1000, x), times(0, x), some(12, 1).float(), label) if paths else (x, label)
    HEARD.clear()
    loss(listening("student"), batch, generator())
    assert [name for name, labels in HEARD if labels != label.tolist()] == []
    assert {name: sum(own == name for own, _ in HEARD) for name, _ in HEARD} == often


def test_a_batch_is_of_one_path_each():
    """States, times and condition of the same path and step; also of every second state, and of recorded ones."""
    states = 100.0 * torch.arange(5)[:, None] + torch.arange(7)
    whole = Trajectories(states[:, :, None].expand(5, 7, 2), [40, 30, 20, 10, 0], torch.arange(7))
    for paths, stride in ((whole, 1), (whole.every(2), 2)):
        x, t, s, end, condition = paths(50, generator())
        assert torch.equal(x[:, 0], 100 * (40 - t) / 10 + condition)
        assert torch.equal(s, t - 10 * stride)
        assert torch.equal(end[:, 0], x[:, 0] + 100 * stride)
        assert len(t.unique()) == 4 // stride
    label = torch.arange(6) % 3
    net, noise = network(labels=3), some(6).float()
    walk = ddim(lambda x, t: net(x, t, label), noise, COSINE, GRID)
    assert torch.equal(Trajectories.record(noise, walk, GRID, label).condition, label)


def test_the_target_of_consistency_is_asked_of_the_average():
    """With decay 1 the first weights stay the target's, however the network changes."""
    loss, net, x0 = Consistency(GRID, decay=1.0), network(), points(64).float()
    first = copy.deepcopy(net)
    loss(net, (x0, None), generator())
    with torch.no_grad():
        net.body.leave.bias += 1.0
    found = loss(net, (x0, None), generator()).each
    g = generator()
    t, s = segments(GRID, 64, g)
    a, b = (part.float()[:, None] for part in (COSINE.alpha_bar[t].sqrt(), (1 - COSINE.alpha_bar[t]).sqrt()))
    x = a * x0 + b * torch.randn(x0.shape, generator=g)
    x_s = step(COSINE, x, x0, t, s)
    expected, own = (pseudo_huber(clean(net, x, t), clean(aim, x_s, s)) for aim in (first, net))
    assert torch.allclose(found, expected, atol=1e-5)
    assert (own - expected).abs().max() > 0.1


def test_the_pull_is_the_difference_in_units_of_the_teachers():
    oracle = gaussian().network(COSINE)
    fake = NoisePredictor(ExactMean(MEAN + 1), COSINE, "v").double()
    x = MEAN + 1 + STD * some(50)
    found = DistributionMatching(oracle, fake, [1000, 0]).pull(x, None, generator())
    g = generator()
    u, _ = segments(range(20, 980), 50, g)
    a, b = COSINE.alpha_bar[u].sqrt()[:, None], (1 - COSINE.alpha_bar[u]).sqrt()[:, None]
    noisy = a * x + b * torch.randn(x.shape, generator=g, dtype=torch.float64)
    true, own = clean(oracle, noisy, u), clean(fake, noisy, u)
    torch.testing.assert_close(found, (own - true) / (x - true).abs().mean(1, keepdim=True))


class Answer(PointMLP):
    """Always the same clean sample, which is learned."""

    def __init__(self):
        super().__init__()
        self.answer = torch.nn.Parameter(torch.tensor([2.0, -1.0], dtype=torch.float64))

    def forward(self, x, time, label):
        a = COSINE.alpha_bar[time.round().long()].sqrt()[:, None]
        return (a * x - self.answer) / (1 - a**2).sqrt()


def test_matching_moves_against_the_pull_and_to_the_end_of_the_path(monkeypatch):
    net, noise, end = NoisePredictor(Answer(), COSINE, "v").double(), some(20), some(20, 1)
    loss = DistributionMatching(gaussian().network(COSINE), network(), [1000, 0], regression=0.5, warmup=0)
    pull, taught = torch.tensor([0.3, -0.1], dtype=torch.float64), []
    monkeypatch.setattr(loss, "pull", lambda x, condition, generator: pull.expand_as(x))
    monkeypatch.setattr(loss, "teach", lambda fake, x, condition, generator: taught.append(x))
    batch = noise, times(1000, noise), times(0, noise), end, None
    each = loss(net, batch, generator()).each
    drawn = net.body.answer.detach()
    expected = pull.square().mean() / 2 + 0.5 * (drawn - end).square().mean(1)
    torch.testing.assert_close(each.double(), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(taught[0], drawn.expand(20, 2), atol=1e-6, rtol=0)
    (found,) = torch.autograd.grad(each.mean(), net.body.answer)
    torch.testing.assert_close(found, pull / 2 + 0.5 * (drawn - end).mean(0), atol=1e-5, rtol=1e-5)


def test_the_target_of_consistency_is_a_running_average():
    loss, net = Consistency([1000, 500, 0], decay=0.75), network()
    before = net.body.leave.bias.detach().clone()
    loss(net, (points(8).float(), None), generator())
    with torch.no_grad():
        net.body.leave.bias += 1.0
    loss(net, (points(8).float(), None), generator())
    assert torch.allclose(loss.average.body.leave.bias, before + 0.25)
    assert torch.allclose(net.body.leave.bias, before + 1), "the network is left alone"


def test_pseudo_huber_is_a_square_near_zero_and_a_distance_far_away():
    a, zero = torch.tensor([[3e-4, 4e-4], [300.0, 400.0]]), torch.zeros(2, 2)
    near, far = pseudo_huber(a, zero).tolist()
    assert near == pytest.approx(25e-8 / (2 * 0.1 * 2**0.5), rel=0.01)
    assert far == pytest.approx(500, rel=1e-3)


# --- The whole


@pytest.mark.slow
def test_a_trained_student_comes_close_to_the_flow():
    oracle, x = gaussian().network(COSINE), some(4000)
    ends = clean(NoisePredictor(ExactBody(), COSINE, "v").double(), x, times(1000, x))
    pairs = Trajectories(torch.stack([x, ends]).float(), [1000, 0])
    data_points, recipe = Samples(points().float()), Recipe(300, 128, 2e-3, ema=0.98, warmup=30)
    nets = {"pairs": train(Trainer(network(), Regression(), pairs, recipe))}
    nets["progressive"] = train(Trainer(network(), Progressive(oracle, [1000, 500, 0]), data_points, recipe))
    nets["consistency"] = train(Trainer(network(), Consistency(time_grid(COSINE, 4), oracle), data_points, recipe))
    x = x[:500]
    learned = {"pairs": ends[:500]} | {
        name: sample(ddim(oracle, x, COSINE, time_grid(COSINE, n)))
        for name, n in (("progressive", 2), ("consistency", 4))
    }
    for name, net in nets.items():
        end = sample(few_steps(Student(net.body, COSINE, [1000, 0]), x.float()))
        gap = (end - learned[name]).norm(dim=1).mean()
        assert gap < (0.1 if name == "consistency" else 0.06), f"{name}: {gap:.3f}"


# --- Bad input


def pairs_of(x, condition=None, T=1000):
    return Trajectories(torch.stack([x, x]), [T, 0], condition)


def test_bad_input_is_refused_by_name():
    net, x = network(), some(10).float()
    oracle, samples = gaussian().network(COSINE), Samples(some(10).float())
    pairs = Trajectories(torch.stack([x, x]), [1000, 0])
    eps = NoisePredictor(PointMLP(), COSINE, "eps")
    cases = [
        (lambda: Regression().check(eps, pairs), "prediction is 'eps'; expected 'v' of a student"),
        (lambda: Regression().check(net, samples), "batches is .*expected Trajectories of events"),
        (lambda: Progressive(oracle, [1000, 500, 250, 0]), "times is .*expected an even number of steps"),
        (
            lambda: Progressive(gaussian().network(make_schedule("linear")), [1000, 500, 0]).check(net, samples),
            "teacher is",
        ),
        (lambda: Consistency([1000, 500]).check(net, samples), "times is .*expected strictly decreasing"),
        (lambda: Consistency([1000, 0]).check(network(labels=2), Samples(x, torch.full((10,), 2))), "label is"),
        (lambda: Trajectories(x, [1000, 0]), "states is a tensor"),
        (lambda: Trajectories(torch.stack([x, x]), [0, 1000]), "times is .*expected falling times"),
        (lambda: Trajectories(torch.stack([x, x]), [1000, 0], torch.zeros(3)), "condition is a tensor"),
        (lambda: pairs.every(2), "stride is 2; expected a divisor of 1"),
        (lambda: Trajectories.record(x, ddim(net, x, COSINE, [1000, 0]), [1000, 500, 0]), r"it does not visit \[500\]"),
        (lambda: DistributionMatching(oracle, eps, [1000, 0]).check(net, pairs), "prediction is 'eps'"),
        (
            lambda: DistributionMatching(oracle, network(), [1000, 0]).check(net, samples),
            "batches is .*noises and their",
        ),
        (lambda: Guided(net, float("nan")), "w is nan"),
        (lambda: Trajectories(torch.zeros(2, 0, 2), [1000, 0]), "states is .*at least one path"),
        (lambda: Trajectories(torch.stack([x, x]), [1000.5, 0]), "times is .*expected falling times, whole numbers"),
        (lambda: Trajectories(torch.stack([x, x]), [1000, -5]), "times is -5; expected a whole number, at least 0"),
        (lambda: Trajectories(torch.stack([x, x]), [1000, 0], [1] * 10), "condition is .*expected a tensor, one for"),
        (lambda: Regression().check(net, pairs_of(x, torch.zeros(10, dtype=torch.int64))), "condition is .*takes none"),
        (lambda: Regression().check(network(labels=3), pairs_of(x, torch.full((10,), 7))), "label is .*from 0 to 3"),
        (lambda: Regression().check(net, pairs_of(x.double())), "states is .*expected torch.float32"),
        (lambda: Regression().check(net, pairs_of(some(10)[:, :1].float())), r"states is .*\(K \+ 1, N, 2\)"),
        (lambda: Regression().check(net, pairs_of(x, T=2000)), r"times is \[2000, 0\]; expected times from 0 to 1000"),
        (lambda: Progressive(None, GRID), "teacher is 'NoneType'; expected a NoisePredictor"),
        (lambda: Progressive(oracle, GRID).check(net, pairs), "batches is 'Trajectories'; expected samples of data"),
        (lambda: Progressive(net, GRID).check(net, samples), "teacher is 'the student itself'; expected another"),
        (lambda: Consistency(GRID, net).check(net, samples), "teacher is 'the student itself'; expected another"),
        (lambda: Progressive(oracle, GRID).two_steps(x, times(700, x), times(0, x)), r"\(t, s\) is \[\(700, 0\)\]"),
        (
            lambda: Progressive(Student(net.body, COSINE, [1000, 0]), GRID).two_steps(x, times(1000, x), times(0, x)),
            "t is 500; expected a time of this student's grid",
        ),
        (lambda: Consistency(GRID, 0.9), "teacher is 'float'; expected a NoisePredictor"),
        (lambda: Consistency(1000), "times is 1000; expected falling times"),
        (lambda: Consistency([]), r"times is \[\]; expected falling times"),
        (lambda: DistributionMatching(oracle, oracle, [1000, 0]), "fake is 'OracleNetwork'; expected a NoisePredictor"),
        (lambda: DistributionMatching(net, net, [1000, 0]), "fake is 'the teacher itself'; expected another"),
        (lambda: DistributionMatching(oracle, net, [1000, 0]).check(net, pairs), "fake is 'the student itself'"),
        (lambda: DistributionMatching(oracle, None, [1000, 0]).check(net, pairs_of(some(9)[:, :1].float())), "states"),
        (lambda: DistributionMatching(oracle, None, 1000), "times is 1000; expected falling times"),
        (lambda: v_to(COSINE, x, x, times(500, x), times(500, x)), "s is .*expected times below t"),
        (lambda: v_to(COSINE, x, x[:1], times(500, x), times(0, x)), "x0, or end, is a tensor of shape"),
        (lambda: segments([1000], 5, generator()), r"times is \[1000\]; expected at least two times"),
        (lambda: squared(x, x[:, :1]), r"b is a tensor of shape \(10, 1\).*expected shape \(10, 2\), that of a"),
        (lambda: pseudo_huber(x, x[:1]), "b is a tensor"),
        (lambda: pseudo_huber(x, x, 0.0), "c is 0.0"),
    ]
    for case, message in cases:
        with pytest.raises((ValueError, TypeError), match=message):
            case()
