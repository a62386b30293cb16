"""Lesson 11: its explorer, the functions of its cells, its figures, and what it says in numbers."""

import copy
import math
from types import SimpleNamespace

import nbformat
import pytest
import torch
from test_lesson_11_exercises import CLAIMS, RIGHT  # noqa: F401 - for the tests of every lesson

from lessons_src import data, measurements, weights
from lessons_src.lessons.lesson_09.front import MARGIN, difference, find
from lessons_src.lessons.lesson_11 import explorer, figures, ring, taught
from lessons_src.make.pages import NOTEBOOKS
from lessons_src.oracle import GaussianMixture, exact_flow
from lessons_src.samplers import Counted, ddim, sample
from lessons_src.schedules import cosine, time_grid
from lessons_src.show import plots


def end_by_hand(x=2.3, mu=1, s=2.5, alpha_bar=0.36):
    return mu + s / math.sqrt(alpha_bar * s**2 + 1 - alpha_bar) * (x - math.sqrt(alpha_bar) * mu)


ANSWERS = {"end-by-hand": end_by_hand, "calls-saved": lambda: 16 * 2 / 2}


def cells():
    notebook = nbformat.read(NOTEBOOKS / "11_few_step_distillation.ipynb", as_version=4)
    return {cell.id: cell.source for cell in notebook.cells}


def test_near_misses_are_the_mistakes_that_they_name():
    one = GaussianMixture([1.0], [[1.0]], [[[2.5**2]]])
    assert one.x0(torch.tensor([[2.3]], dtype=torch.float64), 0.36).item() == pytest.approx(3.206, abs=1e-3)
    found = 2.3 / 0.6, 1 + 2.5 / 1.7 * 2.3, 1 + 2.5 / 1.7**2 * 1.7
    assert found == pytest.approx((3.833, 4.382, 2.471), abs=1e-3)


# --- The functions of the cells


def scope():
    found = {"step": taught.step, "torch": torch, "ab": cosine().alpha_bar, "T": 1000}
    for name in ("pairs", "progressive", "consistency"):
        exec(cells()[name], found)
    exec(cells()["formula"].split("\n\n\n")[0], found)
    return found


def test_the_formula_of_the_cell_is_the_exact_flow():
    f, x = scope()["f"], torch.randn(20, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    one = GaussianMixture([1.0], [[1.0]], [[[0.25]]])
    for t in (1000, 600, 50):
        exact = exact_flow(one.eps, x, cosine().alpha_bar[t].item())
        torch.testing.assert_close(f(x, t), exact, atol=1e-5, rtol=0)


def losses_of(loss, net, batches, n=400):
    """The mean loss of a batch, and its gradient."""
    found = loss(net, batches(n, torch.Generator().manual_seed(1)), torch.Generator().manual_seed(2)).each.mean()
    return found.item(), torch.cat([g.flatten() for g in torch.autograd.grad(found, list(net.parameters()))])


def test_pairs_and_progressive_are_the_losses_of_the_library(monkeypatch):
    """Up to a factor, as the angle of the cosine schedule is (nearly) even in t, so that steps weigh alike."""
    monkeypatch.setattr(ring, "PAIRS", 400)
    net, ask = ring.new_network(0), scope()
    mine = losses_of(taught.Taught(ask["pairs"], [1000, 0]), net, ring.pairs(0))
    theirs = losses_of(ring.Regression(), net, ring.pairs(0))
    assert mine[0] == pytest.approx(theirs[0], rel=1e-4)
    times = time_grid(cosine(), 4)
    mine = losses_of(taught.Taught(ask["progressive"], times, 2), net, ring.points(0))
    theirs = losses_of(ring.Progressive(ring.ORACLE, times), net, ring.points(0))
    assert torch.cosine_similarity(mine[1], theirs[1], dim=0) > 0.999


def test_nothing_is_learned_through_an_aim():
    net, ask = ring.new_network(0), scope()
    f, x = taught.answers(net), ring.start(6).float()
    t, m, s = (torch.full((6,), time) for time in (1000, 750, 500))
    oracle = taught.answers(ring.ORACLE)
    for answer, aim in (ask["progressive"](f, f, x, t, m, s), ask["consistency"](f, oracle, x, t, s)):
        assert answer.requires_grad
        assert not aim.requires_grad


def test_a_student_is_taught_as_the_stored_ones_were(monkeypatch):
    """A few steps of each method run and show how they come on; a wrong number of steps is refused."""
    monkeypatch.setattr(ring, "PAIRS", 600)
    ask = scope()
    found = taught.teach(200, **{name: ask[name] for name in taught.METHODS})
    assert list(found) == list(taught.METHODS)
    assert all(ring.draw(student, ring.start(4)).shape == (4, 2) for student in found.values())
    with pytest.raises(ValueError, match="steps is 250"):
        taught.teach(250, pairs=ask["pairs"])
    with pytest.raises(ValueError, match="method"):
        taught.teach(200, couples=ask["pairs"])
    wrong = {
        "expected a function at least": {},
        "pairs is 3; expected a function": {"pairs": 3},
        r"what <lambda> returns is \[\(256, 2\)\]; expected an answer and an aim": {
            "pairs": lambda f, x, t, end: f(x, t)
        },
        r"what <lambda> returns is \[\(256, 2\), \(1, 2\)\]": {"pairs": lambda f, x, t, end: (f(x, t), end[:1])},
        "an answer without gradient": {"consistency": lambda f, g, x, t, s: (f(x, t).detach(), x)},
    }
    for message, asks in wrong.items():
        with pytest.raises((ValueError, TypeError), match=message):
            taught.teach(200, **asks)


def test_one_answer_for_all_agrees_with_itself_unless_it_must_be_the_end_at_time_0():
    """Question neighbours-agree."""
    x, t, s = ring.start(6), torch.full((6,), 500), torch.full((6,), 250)
    answer, aim = scope()["consistency"](lambda x, t: 0 * x + 3, taught.answers(ring.ORACLE), x, t, s)
    assert torch.equal(answer, aim)
    net = ring.new_network(0)
    assert torch.equal(taught.answers(net)(x.float(), 0 * t), x.float())


@pytest.mark.parametrize("method", taught.METHODS)
def test_the_stages_of_teaching_are_those_of_the_stored_students(method, monkeypatch):
    """Times, teachers, what a stage begins from, steps, rate and average, stage by stage."""
    theirs, mine = [], []

    def fit(net, loss, batches, steps, rate, seed, ema=0.99):
        theirs.append([getattr(loss, "times", [1000, 0]), steps, rate, seed, ema, net.body])
        return copy.deepcopy(net)

    def trained(net, loss, batches, recipe):
        mine.append([loss.times, recipe.steps, recipe.learning_rate, recipe.seed, recipe.ema, net.body])
        asked.append(loss.teacher)
        return SimpleNamespace(run=lambda: iter([0]), step_count=taught.EVERY, ema=ring.new_network(len(mine)))

    asked = []
    monkeypatch.setattr(ring, "PAIRS", 20)
    monkeypatch.setattr(ring, "fit", fit)
    monkeypatch.setattr(taught, "Trainer", trained)
    monkeypatch.setattr(taught, "answers", lambda net: net)
    ring.distil(method)
    found = list(taught.taught(lambda *_: None, method, ring.STEPS))
    assert [stage[:-1] for stage in mine] == [stage[:-1] for stage in theirs]
    stage = ring.STEPS // len(mine)
    assert [done for _, done in found] == [taught.EVERY + k * stage for k in range(len(mine))]
    bodies = [student.body for student, _ in found]
    for (*_, body), before in zip(mine[1:], bodies, strict=False):
        same = zip(body.state_dict().values(), before.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in same)
    if method == "progressive":
        assert asked[0] is ring.ORACLE
        assert [teacher.body for teacher in asked[1:]] == bodies[:-1]


def test_the_student_that_is_shown_has_averaged_weights(monkeypatch):
    trainers, made = [], taught.Trainer
    monkeypatch.setattr(taught, "Trainer", lambda *args: trainers.append(made(*args)) or trainers[-1])
    recipe = taught.Recipe(taught.EVERY, 20, 1e-2)
    loss = taught.Taught(scope()["consistency"], time_grid(cosine(), 4), 1)
    ((student, done),) = taught.watched(ring.new_network(0), loss, ring.points(0), recipe, [1000, 0])
    average, last = (net.body.leave.bias for net in (trainers[0].ema, trainers[0].net))
    assert done == taught.EVERY
    assert torch.equal(student.body.leave.bias, average)
    assert not torch.equal(average, last)


@pytest.mark.parametrize("method", ["progressive", "consistency"])
def test_calls_of_a_teacher_are_counted_as_they_are_asked(method, monkeypatch):
    asked, clean = [], taught.clean
    monkeypatch.setattr(taught, "clean", lambda net, x, t: (asked.append((net, len(x))), clean(net, x, t))[1])
    loss = taught.Taught(scope()[method], time_grid(cosine(), 4), 2 if method == "progressive" else 1)
    batch = ring.points(0)(ring.BATCH, torch.Generator().manual_seed(1))
    loss(ring.new_network(0), batch, torch.Generator().manual_seed(2))
    assert sum(n for net, n in asked if net is ring.ORACLE) == taught.asked(method, 1)


def test_calls_of_a_walk_are_counted(monkeypatch):
    net = Counted(ring.ORACLE)
    monkeypatch.setattr(ring, "ORACLE", net)
    ring.pairs(0, 10)
    assert net.nfe == ring.WALK
    assert taught.asked("pairs", 1) == taught.asked("pairs", 1200) == ring.PAIRS * ring.WALK


def test_what_teaching_costs():
    """20,000 walks of 100 calls; twice an example, once."""
    assert [taught.asked(method, ring.STEPS) for method in taught.METHODS] == [20_000 * 100, 614_400, 307_200]


def test_a_picture_of_teaching_shows_three_clouds_and_the_bill():
    """In the colours of the explorer."""
    found = {name: ring.as_student(ring.new_network(0), [1000, 500, 0]) for name in taught.METHODS}
    picture = taught.taught_picture(found, 600, 1200)
    off = explorer.off(ring.draw(found["pairs"], explorer.starts()[0]))[0]
    assert f"is pairs {off:.3f}, progressive {off:.3f}," in picture.sentence()
    assert [panel.title for panel in picture.panels] == [f"{name}: 2 calls" for name in taught.METHODS]
    assert "pairs 2.00, progressive 0.31, consistency 0.15" in picture.sentence()
    groups = explorer.students_picture(3, "A").panels[0].groups
    for before in (picture, taught.untaught_picture(taught.METHODS)):
        assert all((panel.groups[: len(groups)] == groups).all() for panel in before.panels)


# --- The explorers


def test_the_dares():
    """11, 7 and 6 calls; all in the middle with one. By strays A is worth about 6."""
    gaps = {steps: explorer.off(explorer.walk(steps)[-1])[0] for steps in range(1, explorer.MOST + 1)}
    assert list(gaps.values()) == sorted(gaps.values(), reverse=True)
    for name, calls in (("A", 11), ("B", 7), ("C", 6)):
        assert min(steps for steps, gap in gaps.items() if gap < explorer.off(explorer.ends(name))[0]) == calls
    assert explorer.walk(1)[-1].norm(dim=1).max() < 0.01
    strays = {steps: explorer.off(explorer.walk(steps)[-1])[1] for steps in (5, 6, 7)}
    own = explorer.off(explorer.ends("A"))[1]
    assert strays[7] < own < strays[5]
    assert round(strays[6], 2) == round(own, 2)
    assert explorer.off(explorer.ends(explorer.PERFECT))[0] == 0 < gaps[explorer.MOST]


def test_the_stored_ends_score_as_the_five_seeds_do():
    for name, method in explorer.STUDENTS.items():
        mean, deviation = figures.scored(method, "1", "gap")
        assert explorer.off(explorer.ends(name))[0] == pytest.approx(mean, abs=max(3 * deviation, 0.01))


def test_a_picture_of_the_explorer():
    picture = explorer.students_picture(3, "B")
    teacher, student = picture.panels
    assert (teacher.title, student.title) == ("Teacher: 3 calls", "Student B: 1 call")
    assert teacher.frames.shape == student.frames.shape == (4, explorer.SHOWN, 2)
    assert torch.equal(torch.tensor(student.frames[1]), torch.tensor(student.frames[3]))
    with pytest.raises(ValueError, match="student is 'D'"):
        explorer.students_picture(3, "D")


def test_digits_of_the_explorer():
    """Students of more calls are nearer to DDIM; DDPM draws other digits."""

    def apart(*values):
        return float(explorer.digits_picture(*values).formula[0].split()[2])

    near = [apart(calls, "DDIM", 20, 3) for calls in explorer.CALLS]
    assert near == sorted(near, reverse=True)
    assert near[-1] < 0.1
    assert apart(4, "DDPM", 20, 3) > 0.5


def test_digits_stand_on_the_side_that_is_said_and_are_of_the_seed():
    student, teacher = explorer.digits_picture(4, "DDIM", 20, 3).panels
    assert (student.title, teacher.title) == ("Student: 4 calls", "DDIM: 20 calls")
    noise = torch.randn(10, 1, 28, 28, generator=torch.Generator().manual_seed(3))
    drawn = figures.digits.drawn(weights.load("student-4")[0], noise, torch.arange(10))
    assert (student.frames == explorer.grey(drawn[None, :, 0])).all()
    assert (student.frames != teacher.frames).any()


# --- Figures, and what they are said to show


@pytest.fixture
def said(monkeypatch):
    """What figures say, in the order shown."""
    found = []
    monkeypatch.setattr(plots, "show", lambda fig, text: found.append(text))
    monkeypatch.setattr(plots, "table", lambda columns, text=None: found.append(columns))
    return found


def test_every_figure_is_drawn(said, monkeypatch):
    names = []
    draw = plots.image_rows
    monkeypatch.setattr(plots, "image_rows", lambda rows, text: (names.extend(rows), draw(rows, text)))
    figures.show_map()
    figures.show_digits()
    figures.show_collapse()
    figures.show_adapter()
    figures.show_renoised(ring.as_student(ring.new_network(0), [1000, 0]), 500)
    assert len(said) == 5
    assert [name.split()[-1] for name in names[:7]] == ["130", "4.99", "1.74", "1.46", "1.42", "1.68", "0.881"]
    assert [name.split()[-1] for name in names[7:]] == ["1.74", "42.2", "28.7", "21.8", "2.36", "31.3", "67"]


@pytest.fixture
def shown(monkeypatch):
    """Figures and their captions, or rows of images and theirs."""
    found = []
    monkeypatch.setattr(plots, "show", lambda fig, text: found.append((fig, text)))
    monkeypatch.setattr(plots, "image_rows", lambda rows, text: found.append((rows, text)))
    return found


def test_the_picture_of_the_map_draws_what_it_says(shown):
    figures.show_map()
    ((fig, _),) = shown
    left, right = fig.axes
    humps, schedule = data.two_humps(), cosine()
    lines = {line.get_label(): torch.as_tensor(line.get_xydata()) for line in right.get_lines()}
    assert list(lines) == ["exact", "DDIM, 1 call", "DDIM, 4 calls", "DDIM, 16 calls"]
    x = lines["exact"][:, :1].double()
    exact = exact_flow(humps.eps, x, schedule.alpha_bar[-1].item())
    torch.testing.assert_close(lines["exact"][:, 1:].double(), exact, atol=1e-6, rtol=0)
    for calls in (4, 16):
        by_ddim = sample(ddim(humps.network(schedule), x, schedule, time_grid(schedule, calls)))
        torch.testing.assert_close(lines[f"DDIM, {calls} calls"][:, 1:].double(), by_ddim, atol=1e-6, rtol=0)
    for line, share in zip(left.get_lines(), figures.SHARES, strict=True):
        (t, noise), *_, (zero, end) = line.get_xydata().tolist()
        assert (t, zero) == (1000, 0)
        assert noise == pytest.approx(figures.normal_quantile(share).item())
        assert end == pytest.approx(exact_flow(humps.eps, torch.tensor([[noise]]).double(), 2.4e-9).item(), abs=0.02)
        assert (line.get_linestyle() == "-") == (end > 0)


def test_the_picture_of_fresh_noise_draws_what_it_says(shown, monkeypatch):
    student, asked = ring.as_student(ring.new_network(0), [1000, 0]), []
    monkeypatch.setattr(ring, "draw", lambda student, noise: torch.zeros_like(noise))
    monkeypatch.setattr(ring, "renoised", lambda own, noise: asked.append(own.times) or torch.ones_like(noise))
    figures.show_renoised(student, 50)
    ((fig, _),) = shown
    assert asked == [[1000, 750, 500, 250, 0]]
    for axis, title, place in zip(fig.axes, ("1 call", "4 calls, fresh noise between"), (0, 1), strict=True):
        assert axis.get_title() == title
        assert all((dots.get_offsets() == place).all() for dots in axis.collections[1:])


def test_pictures_of_digits_are_of_the_rows_that_are_named(shown):
    figures.show_collapse()
    figures.show_adapter()
    (collapse, told), (adapter, by_kilobytes) = shown
    alone, pulled, _ = measurements.load("collapse")
    plain, trained, strange = (figures.adapters(how) for how in ("none", "trained", "another seed"))
    for x, row in zip(list(collapse.values())[1:], (alone, pulled), strict=True):
        own = figures.digits_of(row).view(3, 10, 784)[:, :4].transpose(0, 1)
        assert torch.equal(x.reshape(own.shape), own)
    for x, row in zip(adapter.values(), (plain[0], trained[8], strange[0], strange[8]), strict=True):
        assert torch.equal(x, figures.digits_of(row))
    assert f"spread {alone['spread']:.2f} times" in told
    assert "118 kB. All weights, 497 kB, would give 2.2." in by_kilobytes


def test_the_map_is_the_quantile_map():
    humps, schedule = data.two_humps(), cosine()
    noise = figures.normal_quantile(figures.SHARES)[:, None]
    end = exact_flow(humps.eps, noise, schedule.alpha_bar[-1].item())
    below = sum(
        weight * torch.distributions.Normal(mean.item(), var.sqrt().item()).cdf(end[:, 0])
        for weight, mean, var in zip(humps.weights, humps.means[:, 0], humps.covariances[:, 0, 0], strict=True)
    )
    torch.testing.assert_close(below, figures.SHARES, atol=1e-4, rtol=0)
    mean = (humps.weights[:, None] * humps.means).sum().item()
    once = sample(ddim(humps.network(schedule), noise, schedule, [1000, 0]))
    torch.testing.assert_close(once, torch.full_like(once, mean), atol=1e-3, rtol=0)


def test_fresh_noise_betters_the_law_and_leaves_the_path():
    """Prediction fresh-noise, by five seeds."""
    for key, better in (("stray", True), ("sliced", True), ("gap", False), ("same mode", False)):
        one, four = (figures.scored("consistency", calls, key) for calls in ("1", "4 re-noised"))
        assert abs(one[0] - four[0]) > 2 * math.hypot(one[1], four[1]), key
        worse = four[0] > one[0] if key != "same mode" else four[0] < one[0]
        assert worse is not better
    assert figures.scored("consistency", "4 re-noised", "same mode")[0] < 0.5, "most end in another cluster"


def test_ends_of_other_noises_teach_the_middle():
    """What the lesson dares its reader to try, in fewer steps."""
    noise = ring.start(200)
    *_, (student, _) = taught.taught(lambda f, x, t, end: (f(x, t), end.flip(0)), "pairs", 200)
    assert ring.draw(student, noise).norm(dim=1).max() < 0.3
    *_, (student, _) = taught.taught(lambda f, x, t, end: (f(x, t), end), "pairs", 200)
    assert ring.draw(student, noise).norm(dim=1).mean() > 1


def test_who_is_nearest_on_the_ring():
    gaps = {method: figures.scored(method, "1", "gap") for method in taught.METHODS}
    pairs, progressive, consistency = gaps.values()
    for a, b in ((pairs, progressive), (progressive, consistency)):
        assert b[0] - a[0] > 2 * math.hypot(a[1], b[1])


def test_how_many_calls_of_ddim_the_student_replaces():
    """Prediction calls-replaced and the sentences below it."""
    rows = figures.rows()
    student = find(rows, "student", 1)
    for calls in (4, 6, 8, 10):
        assert difference(find(rows, "DDIM", calls), student).low > 0
    assert student["frechet"] == pytest.approx(1.74, abs=0.005)
    for calls, distance in ((3, 8.1), (8, 2.36), (20, 1.76), (50, 1.68)):
        assert find(rows, "DDIM", calls)["frechet"] == pytest.approx(distance, rel=0.005)
    for calls in (20, 50):
        gap = difference(find(rows, "DDIM", calls), student)
        assert gap.low < 0 < gap.high, "too near to tell"
    for solver, calls in (("DDIM", 20), ("UniPC-2", 6)):
        assert difference(student, find(rows, solver, calls)).high < MARGIN, "as good"
    few, many = (find(rows, "DDIM", calls) for calls in (4, 50))
    assert few["accuracy"] > many["accuracy"], "they look clean"
    assert few["spread"] < 1 < many["spread"]
    assert few["recall"] < 0.7 < 0.85 < many["recall"], "and are too alike"
    for calls in (1, 2, 4):
        assert difference(find(rows, "student", calls), find(rows, "DDPM", 1000)).low > 0
    for calls in (2, 4):
        for solver in ("DDIM", "UniPC-2"):
            assert difference(find(rows, "student", calls), find(rows, solver, 50)).high < 0
    fresh = find(rows, "SDE-DPM-Solver++(2M)", 6)
    assert fresh["frechet"] == pytest.approx(find(rows, "student", 4)["frechet"], abs=0.01), "as good"


def test_how_students_were_taught():
    """All by matching, those of 1 and 2 calls by a critic, too; half a megabyte; when fresh noise comes."""
    losses = {calls: weights.load(f"student-{calls}")[1]["loss"] for calls in (1, 2, 4)}
    assert all("distribution matching" in loss for loss in losses.values())
    assert [calls for calls, loss in losses.items() if "critic" in loss] == [1, 2]
    folded = weights.load("student-2-guided")[1]["metrics"]["image error"]
    assert folded / 2 == pytest.approx(0.05, abs=0.005), "5 % of black to white"
    assert (weights.FOLDER / "student-1.safetensors").stat().st_size == pytest.approx(500_000, rel=0.02)
    assert time_grid(ring.SCHEDULE, 4) == [1000, 750, 500, 250, 0]


def test_what_the_collapse_shows():
    """Prediction all-read-right and card."""
    alone, pulled, warm = measurements.load("collapse")
    assert (alone["accuracy"], round(alone["frechet"])) == (1.0, 42)
    assert alone["spread"] < 0.1 < 0.8 < pulled["spread"], "by a difference, the crowd stays wide"
    assert alone["accuracy"] > pulled["accuracy"], "and is rough after so few steps"
    assert alone["frechet"] > pulled["frechet"] > 10 * warm["frechet"]
    assert figures.digits_of(alone).shape == (30, 1, 28, 28)
    thirty = figures.digits_of(alone).view(3, 10, 784)
    other = figures.digits_of(warm).view(3, 10, 784)
    assert thirty.std(0).mean() < 0.3 * other.std(0).mean(), "one digit a class"
    one = find(measurements.load("students"), "student", 1)
    assert (round(one["accuracy"], 2), round(one["frechet"], 1)) == (0.94, 1.7)


def test_the_adapter_helps_its_own_network_and_its_children_only():
    on, strange = (figures.adapters(name) for name in figures.digits.OTHERS)
    assert on[8]["frechet"] < on[0]["frechet"] / 5
    assert strange[8]["frechet"] > 1.5 * strange[0]["frechet"]
