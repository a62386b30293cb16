"""Students know their grid only, jump as DDIM does, lose no digits at T, and keep the law when they re-noise."""

import pytest
import torch
from gaussian_student import COSINE, MEAN, STD, ExactBody, gaussian, some

from lessons_src import weights
from lessons_src.guidance import classifier_free
from lessons_src.networks import NoisePredictor, PointMLP
from lessons_src.oracle import GaussianMixture
from lessons_src.process import noise_like, velocity
from lessons_src.samplers import Counted, ddim, sample
from lessons_src.schedules import time_grid
from lessons_src.students import Guided, Student, clean, consistency, few_steps, step


def exact(times):
    return Student(ExactBody(), COSINE, times)


def times(t, x):
    return torch.full((len(x),), t)


def test_the_gaussian_formula_is_where_the_flow_ends():
    """DDIM with the exact oracle comes closer to it by as much as the steps become more: an error of order 1."""
    x, oracle = some(200), gaussian().network(COSINE)
    end = clean(exact([1000, 0]), x, times(1000, x))
    errors = []
    for n in (50, 100, 200):
        errors.append((sample(ddim(oracle, x, COSINE, time_grid(COSINE, n))) - end).abs().max().item())
    assert errors[0] < 0.1
    assert 1.7 < errors[0] / errors[1] < 2.3
    assert 1.7 < errors[1] / errors[2] < 2.3


def test_the_gaussian_formula_is_consistent_on_a_path():
    """Every point of an exact path has the end of the first."""
    x, student = some(50), exact([1000, 900, 500, 40, 0])
    end = clean(student, x, times(1000, x))
    for t in (900, 500, 40):
        a, variance = COSINE.alpha_bar[t].sqrt(), STD**2 * COSINE.alpha_bar[t] + 1 - COSINE.alpha_bar[t]
        on_path = a * MEAN + variance.sqrt() / STD * (end - MEAN)
        assert torch.allclose(clean(student, on_path, times(t, x)), end, atol=1e-9)


@pytest.mark.parametrize("grid", [[1000, 0], [1000, 600, 0], [1000, 750, 500, 250, 0]])
def test_re_noising_with_an_exact_student_keeps_the_law(grid):
    x = sample(consistency(exact(grid), some(40_000), grid, generator=torch.Generator().manual_seed(1)))
    assert torch.allclose(x.mean(0), MEAN.double(), atol=4 * STD / 200)
    assert torch.allclose(x.std(0), torch.tensor([STD, STD], dtype=torch.float64), rtol=0.02)


def test_re_noising_draws_new_noise():
    """With the old noise the second jump would give the first one's end again, and with it the first one's errors."""
    student, x = exact([1000, 500, 0]), some(4000)
    first, second = consistency(student, x, [1000, 500, 0], generator=torch.Generator().manual_seed(1))
    a, b = COSINE.alpha_bar[500].sqrt(), (1 - COSINE.alpha_bar[500]).sqrt()
    assert torch.allclose(first.x, a * first.x0 + b * first.eps)
    assert abs(torch.corrcoef(torch.stack([first.eps[:, 0], x[:, 0]]))[0, 1]) < 0.06
    assert (second.x - first.x0).abs().mean() > 0.05
    on_path = step(COSINE, x, first.x0, times(1000, x), times(500, x))
    assert torch.allclose(on_path - a * first.x0, b * x, atol=1e-3), "DDIM's step goes on with the old noise"


def test_v_is_the_boundary_condition():
    """f(x, 0) = x whatever the network says: c_skip = 1 and c_out = 0 are cosine and sine of an angle of 0."""
    torch.manual_seed(0)
    net, x = NoisePredictor(PointMLP(), COSINE, "v"), some(20).float()
    assert torch.equal(clean(net, x, times(0, x)), x)
    for t in (1, 400, 1000):
        a, b = net.level(times(t, x), x)
        v = net.output(x, times(t, x), torch.zeros(20, dtype=torch.int64))
        assert torch.allclose(clean(net, x, times(t, x)), a * x - b * v)


def test_an_error_of_eps_at_the_end_of_the_schedule_is_20_000_times_as_large_in_x0():
    torch.manual_seed(0)
    body, x = PointMLP(), some(20).float()
    off = 1e-3
    moved = {}
    for prediction in ("eps", "v"):
        net = NoisePredictor(body, COSINE, prediction)
        before = clean(net, x, times(1000, x))
        with torch.no_grad():
            body.leave.bias += off
        moved[prediction] = (clean(net, x, times(1000, x)) - before).abs().mean().item() / off
    assert moved["v"] == pytest.approx(1, rel=0.01)
    assert moved["eps"] == pytest.approx(1 / COSINE.alpha_bar[1000].sqrt().item(), rel=0.01)
    assert moved["eps"] > 20_000


def test_few_steps_are_those_of_ddim():
    net, _ = weights.load("student-2")
    x, label = torch.randn(10, 1, 28, 28, generator=torch.Generator().manual_seed(3)), torch.arange(10)
    counted = Counted(classifier_free(net, label, 1.0))
    by_ddim = sample(ddim(counted, x, net.schedule, net.times))
    assert counted.nfe == 2
    states = list(few_steps(net, x, label))
    assert [state.t for state in states] == [500, 0]
    a, b = net.level(times(500, x), x)
    assert torch.allclose(a * states[0].x0 + b * states[0].eps, states[0].x, atol=1e-5), "the noise goes on"
    assert torch.allclose(states[-1].x, by_ddim, atol=0.01), "DDIM divides by 5e-5 in single precision"


def test_re_noising_asks_with_the_condition_and_draws_from_the_generator():
    net, _ = weights.load("student-2")
    x, label = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(3)), torch.arange(4)

    def drawn(seed, label=label):
        return sample(consistency(net, x, net.times, label, torch.Generator().manual_seed(seed)))

    assert torch.equal(drawn(1), drawn(1))
    assert (drawn(1) - drawn(2)).abs().mean() > 0.01
    assert (drawn(1) - drawn(1, label.flip(0))).abs().mean() > 0.1


def test_an_oracle_is_asked_with_the_label():
    two = GaussianMixture([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.0]], 0.04 * torch.eye(2).expand(2, 2, 2)).network(COSINE)
    x, label = some(40), torch.arange(40) % 2
    end = clean(two, x, times(900, x), label)
    assert torch.equal(end[:, 0] > 0, label == 1)
    assert (clean(two, x, times(900, x))[:, 0].abs() < 0.9).all()


def test_clean_of_a_network_and_of_an_oracle_agree_with_its_eps():
    oracle, x, t = gaussian().network(COSINE), some(30), torch.full((30,), 600)
    eps = oracle(x, t)
    x0 = clean(oracle, x, t)
    assert torch.allclose(COSINE.alpha_bar[600].sqrt() * x0 + (1 - COSINE.alpha_bar[600]).sqrt() * eps, x)
    net = exact([1000, 600, 0])
    assert torch.allclose(velocity(clean(net, x, t), net(x, t), COSINE.alpha_bar[600].item()), net.output(x, t, t))


@pytest.mark.parametrize("w", [0, 1, 2.5])
def test_a_guided_teacher_is_guidance(w):
    torch.manual_seed(0)
    net, x = NoisePredictor(PointMLP(3), COSINE, "v"), some(12).float()
    label, t = torch.arange(12) % 3, torch.full((12,), 300)
    teacher = Guided(net, w)
    eps = classifier_free(net, label, w)(x, t)
    assert torch.equal(teacher(x, t, label), eps)
    a, b = net.level(t, x)
    assert torch.allclose(clean(teacher, x, t, label), (x - b * eps) / a, atol=1e-5)


def test_a_student_off_its_grid_is_refused_by_name():
    net, _ = weights.load("student-2")
    x, label = torch.zeros(2, 1, 28, 28), torch.tensor([1, 2])
    with pytest.raises(ValueError, match="t is 750; expected a time of this student's grid, which is 1000, 500"):
        sample(ddim(classifier_free(net, label, 1.0), x, net.schedule, [1000, 750, 0]))
    with pytest.raises(ValueError, match="t is 250; expected a time of this student's grid"):
        sample(consistency(net, x, [1000, 250, 0], label))
    assert noise_like(x).shape == x.shape


def test_guidance_of_a_student_is_refused_by_name():
    net, _ = weights.load("student-1")
    with pytest.raises(ValueError, match="condition is None; expected labels: w = 1 is folded into this student"):
        sample(ddim(classifier_free(net, 3, 2.0), torch.zeros(2, 1, 28, 28), net.schedule, net.times))


def test_other_bad_input_of_students():
    with pytest.raises(ValueError, match=r"times is \[1000, 500\]; expected strictly decreasing"):
        exact([1000, 500])
    with pytest.raises(ValueError, match="w is inf"):
        Student(PointMLP(), COSINE, [1000, 0], float("inf"))
    with pytest.raises(ValueError, match=r"x is a tensor of shape \(2, 3\)"):
        sample(few_steps(exact([1000, 0]), torch.zeros(2, 3)))
    net, labelled = (NoisePredictor(PointMLP(n), COSINE, "v") for n in (0, 3))
    x = some(6).float()
    student = Student(labelled.body, COSINE, [1000, 0])
    cases = [
        (lambda: Student(net, COSINE, [1000, 0]), "body is 'NoisePredictor'; expected a Body"),
        (lambda: sample(few_steps(net, x)), "student is 'NoisePredictor'; expected a Student"),
        (lambda: sample(consistency(net, x, [1000, 0])), "student is 'NoisePredictor'; expected a Student"),
        (lambda: sample(few_steps(student, x)), "condition is None; expected labels: w = 1 is folded"),
        (lambda: sample(consistency(student, x, [1000, 0])), "condition is None; expected labels"),
        (lambda: clean(exact([1000, 0]), x, times(500, x)), "t is 500; expected a time of this student's grid"),
        (lambda: clean("ring", x, times(500, x)), "net is 'str'; expected a NoisePredictor, an OracleNetwork"),
        (lambda: clean(net, x, 500), r"t is 500; expected an int64 tensor of shape \(6,\)"),
        (lambda: clean(net, x, times(500, x).float()), "t is a tensor of .*expected an int64 tensor"),
        (lambda: clean(net, x, times(500, x)[:3]), r"t is a tensor of shape \(3,\).*expected an int64 tensor"),
        (lambda: clean(net, x, times(-1, x)), r"t is \[-1, .*expected times from 0 to 1000"),
        (lambda: clean(gaussian().network(COSINE), x, times(-1, x)), r"t is \[-1, .*expected times from 0 to 1000"),
        (lambda: clean(net, x[:, :1], times(500, x)), r"x is a tensor of shape \(6, 1\).*expected shape \(B, 2\)"),
        (lambda: step(COSINE, x, x, times(100, x), times(200, x)), "s is .*expected times below t, which is"),
        (lambda: step(COSINE, x, x, times(0, x), times(0, x)), "s is .*expected times below t, which is"),
        (lambda: step(COSINE, x, x[:1], times(100, x), times(0, x)), "x0, or end, is a tensor of shape"),
        (lambda: step(COSINE, x, x, times(1001, x), times(0, x)), "t is .*expected times from 0 to 1000"),
        (lambda: Guided(None, 2.0), "net is 'NoneType'; expected a NoisePredictor"),
        (lambda: Guided(net, 2.0), "w is 2.0; expected 0 or 1: the network takes no condition"),
        (lambda: Guided(labelled, 2.0)(x, times(5, x)), "condition is None; expected labels: guidance w = 2"),
        (lambda: clean(Guided(labelled, 1.0), x, times(5, x)), "condition is None; expected labels: guidance w = 1"),
    ]
    for case, message in cases:
        with pytest.raises((ValueError, TypeError), match=message):
            case()
    assert clean(Guided(labelled, 0.0), x, times(5, x)).shape == x.shape
