"""Lesson 14: what its explorer advises, the four paradigms, its tables, and what it says in numbers."""

import itertools
import math
import re
import statistics

import nbformat
import pytest
import torch

from lessons_src import latency, measurements, weights
from lessons_src.evaluation import modes
from lessons_src.exercises import all_tasks
from lessons_src.exercises.tasks import ask, judge
from lessons_src.export import times_of, to_diffusers
from lessons_src.guidance import blend
from lessons_src.lessons.lesson_09.front import as_good
from lessons_src.lessons.lesson_14 import choice, closing, exercises, explorer, figures, paradigms, scope, shipping
from lessons_src.lessons.lesson_14.choice import ALL, NO, ONE, YES, Answers, advise
from lessons_src.make.pages import NOTEBOOKS
from lessons_src.measurements import digits_of
from lessons_src.schedules import linear
from lessons_src.sde import bits_per_dim
from lessons_src.show import plots, quiz
from lessons_src.show.panels import grey


def two_lines(x=1, eps=0.5, ab_t=0.64, ab_s=0.81):
    x0 = (x - math.sqrt(1 - ab_t) * eps) / math.sqrt(ab_t)
    return math.sqrt(ab_s) * x0 + math.sqrt(1 - ab_s) * eps


ANSWERS = {
    "keep-a-promise": lambda: 8 * latency.six_passes()[0],
    "two-lines": two_lines,
    "blend-at-three": lambda: blend(torch.tensor(0.2), torch.tensor(-0.1), 3.0).item(),
    "fewer-calls": lambda: latency.six_passes()[1],
}


def test_near_misses_are_the_mistakes_that_they_name():
    found = 0.9 * 0.875 + 0.6 * 0.5, (1 + 3) * -0.1 - 3 * 0.2, 3 * -0.1, 1000 / 3
    assert found == pytest.approx((1.088, -1, -0.3, 333.3), abs=0.05)


def test_what_the_answer_to_the_promise_says():
    (item,) = (item for item in quiz.load("lessons_src.lessons.lesson_14").items if item.id == "keep-a-promise")
    calls, times = latency.six_passes()
    assert [miss.value for miss in item.near_misses] == [5 * calls, 8 * calls / 2, 5 * calls / 2]
    assert f"{times:.1f} times as many calls" in item.explanation


# --- Right answers to the exercises that are not the reference


def seconds_batch_by_batch(pictures, batch, calls, w, overhead, each, decoder, warm_up):
    asked, seconds, evaluations = calls * (2 if w not in (0.0, 1.0) else 1), warm_up, 0
    while pictures > 0:
        now = min(batch, pictures)
        evaluations += asked
        seconds += asked * (overhead + now * each) + now * decoder
        pictures -= now
    return evaluations, seconds


def seconds_by_a_clock(pictures, batch, calls, w, overhead, each, decoder, warm_up):
    """Counted on a sampler: DDIM, whose network lets a clock run."""
    spent, seen = [warm_up], []

    def net(x, t, condition=None):
        seen.append(len(x))
        spent.append(overhead + each * len(x))
        return x

    for part in torch.zeros(pictures, 1, dtype=torch.float64).split(batch):
        latency.Plan("DDIM", calls, w, len(part)).run(net, part, linear())
        spent.append(decoder * len(part))
    return len(seen), sum(spent)


def claim_by_counting(ours, rival, said):
    """What a sampler makes: the evaluations are counted, and steps that ask more than once are so many steps."""

    def counted(steps, a_step, w, folded):
        return latency.calls(latency.Plan("DDIM", steps * a_step, 1.0 if folded else w))

    if None in ours or None in rival:
        return 0.0, "incomplete"
    factor = counted(*rival) / counted(*ours)
    return factor, ("holds", "too good")[said / factor > 1.05]


def claim_in_passes(ours, rival, said):
    passes = {(True, w): 1 for w in (0, 1)} | {(False, w): 1 for w in (0, 1)}
    if ours[2] is None or rival[2] is None:
        return torch.tensor(0.0, dtype=torch.float64), "incomplete"
    a, b = (side[0] * side[1] * (passes.get((side[3], side[2]), 1 if side[3] else 2)) for side in (ours, rival))
    return torch.tensor(b / a, dtype=torch.float64), "holds" if said <= 1.05 * b / a else "too good"


def times_by_diffusers(T, steps, spacing):
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(num_train_timesteps=T, timestep_spacing=spacing)
    scheduler.set_timesteps(steps)
    return scheduler.timesteps.tolist(), times_of(scheduler)


def times_by_torch(T, steps, spacing):
    ours = torch.arange(T, 0, -(T // steps)) - (T // steps - 1 if spacing == "leading" else 0)
    return (ours - 1).tolist(), [*ours.tolist(), 0]


def decided_by_sorting(one_right, exists, baseline, keeps, budget, makers):
    if one_right:
        return "compute"
    if exists:
        return "look up"
    rows = [(c, d, i) for i, (c, d, same) in enumerate(makers.tolist()) if c <= budget and same >= keeps]
    for _, d, i in sorted(rows):
        if d <= 1.1 * min(other for _, other, _ in rows):
            return f"maker {i}" if d < baseline else "baseline"
    return "baseline"


def decided_by_masking(one_right, exists, baseline, keeps, budget, makers):
    calls, distance = makers[:, 0], makers[:, 1].clone()
    distance[(calls > budget) | (keeps & (makers[:, 2] == 0))] = torch.inf
    near = (distance <= 1.1 * distance.min()) & distance.isfinite()
    order = calls.argsort()
    chosen = order[near[order]][:1].tolist()
    found = f"maker {chosen[0]}" if chosen and distance[chosen[0]] < baseline else "baseline"
    return {(True, False): "compute", (True, True): "compute", (False, True): "look up"}.get((one_right, exists), found)


def scope_by_filtering(categories, answers):
    touched = sorted({scope.CATEGORIES[name].layer for name in categories}, key=scope.LAYERS.index)
    told = dict(zip(scope.LAYERS, answers, strict=True))
    refused = [layer for layer in scope.LAYERS if told[layer] is False]
    open_ = [layer for layer in touched if told[layer] is None]
    verdict = f"stop at {refused[0]}" if refused else f"ask at {open_[0]}" if open_ else "go on"
    return touched, verdict


def scope_from_behind(categories, answers):
    verdict, layers = "go on", {scope.CATEGORIES[name].layer for name in categories}
    for wanted, word in ((None, "ask"), (False, "stop")):
        for layer, answer in reversed(list(zip(scope.LAYERS, answers, strict=True))):
            if answer is wanted and (answer is False or layer in layers):
                verdict = f"{word} at {layer}"
    return [layer for layer in scope.LAYERS if layer in layers], verdict


def bits_by_the_library(log_p, dim, levels):
    return bits_per_dim(log_p, dim, 2 / (levels - 1))


def bits_in_base_two(log_p, dim, levels):
    return math.log2((levels - 1) / 2) - torch.log2(torch.exp(log_p / dim))


RIGHT = {
    "plan_seconds": (seconds_batch_by_batch, seconds_by_a_clock),
    "judge_claim": (claim_by_counting, claim_in_passes),
    "library_times": (times_by_diffusers, times_by_torch),
    "decide": (decided_by_sorting, decided_by_masking),
    "scope_test": (scope_by_filtering, scope_from_behind),
    "bits_per_number": (bits_by_the_library, bits_in_base_two),
}


# --- The explorer


def every_answer():
    for values in itertools.product(*(options for _, options in choice.QUESTIONS.values())):
        yield Answers(**dict(zip(choice.QUESTIONS, values, strict=True)))


def test_the_dares():
    assert advise(Answers(budget=2)).title.startswith("student, 1 call,")
    assert advise(Answers(budget=2000, likelihood=YES)).title.startswith("autoregressive, 784 calls")
    assert advise(Answers(variety=ONE)).title == "No generator"
    for answers in every_answer():
        assert (advise(answers).title == "No generator") is (answers.variety == ONE)


def test_what_is_taken_does_all_that_was_asked():
    for answers in every_answer():
        taken = advise(answers).taken
        if taken is None:
            continue
        assert taken.ms(answers) <= answers.budget
        assert taken.keeps or answers.same == NO
        assert taken.steered or answers.steered == NO
        assert taken.likelihood or answers.likelihood == NO
        if answers.variety == ALL and taken.row:
            assert taken.row["recall"] > 0.83


def test_a_call_counts_twice_where_guidance_is_chosen_at_use():
    maker = next(maker for maker in choice.makers() if maker.name == "DDIM")
    once = maker.calls * choice.rows("call")[0]["ms"]
    assert maker.ms(Answers()) == pytest.approx(once)
    assert maker.ms(Answers(steered=YES)) == pytest.approx(2 * once)
    limit = max(maker.calls for maker in advise(Answers(budget=50, steered=YES)).fit)
    assert 2 * limit * choice.rows("call")[0]["ms"] <= 50


def test_what_each_maker_can_do():
    """Fresh noise on the way: no ODE, no likelihood, another digit from the same noise."""
    able = {maker.name: (maker.keeps, maker.likelihood, maker.steered, maker.all_modes) for maker in choice.makers()}
    assert able == {
        "DDPM": (False, None, True, True),
        "SDE-DPM-Solver++(2M)": (False, None, True, True),
        "DDIM": (True, "ODE", True, True),
        "DPM-Solver++(2M)": (True, "ODE", True, True),
        "UniPC-2": (True, "ODE", True, True),
        "student": (True, None, False, True),
        "GAN": (True, None, False, False),
        "autoregressive": (False, "exact", False, True),
        "VAE": (True, None, False, True),
    }


def test_nothing_is_taken_only_if_nothing_fits():
    for answers in every_answer():
        advice = advise(answers)
        if advice.taken is None and answers.variety != ONE:
            assert advice.title == "None of these"
            assert advice.fit == ()


def test_no_cheaper_plan_is_as_good_as_the_one_taken():
    for answers in every_answer():
        advice = advise(answers)
        if not advice.taken or not advice.taken.row or answers.likelihood == YES:
            continue
        measured = [maker for maker in advice.fit if maker.row]
        best = min((maker.row for maker in measured), key=lambda row: row["frechet"])
        cheaper = [maker for maker in measured if maker.calls < advice.taken.calls]
        assert not any(as_good(maker.row, best) for maker in cheaper)
        assert advice.taken.row is best or as_good(advice.taken.row, best)


def test_guidance_at_use_doubles_calls_and_rules_students_out():
    plain, steered = (advise(Answers(budget=50, same=YES, steered=answer)) for answer in (NO, YES))
    assert plain.taken.name == "student"
    assert steered.taken.name != "student"
    assert f"{2 * steered.taken.calls} calls" in steered.title
    assert {maker.name for maker in steered.fit}.isdisjoint({"student", "GAN", "VAE", "autoregressive"})


def test_what_would_change_it_does():
    answers = Answers()
    for said in choice.changes(answers):
        question, there = said.split(": ")[0], said.split(" → ")[1]
        (name,) = (name for name, (asked, _) in choice.QUESTIONS.items() if asked == question)
        titles = {advise(other).title for _, other in answers.others() if _.startswith(question)}
        assert there in titles
        assert there.partition(",")[0] != advise(answers).title.partition(",")[0], name


def test_what_would_change_it_names_the_nearest_answer():
    """From 20 ms the next budgets up are 50 and 200: both lead elsewhere, and 50 is said."""
    said = next(said for said in choice.changes(Answers()) if said.startswith("Milliseconds"))
    assert said.startswith("Milliseconds a digit: 50 ")
    assert [said for said, _ in Answers().others()][:3] == [f"Milliseconds a digit: {ms}" for ms in (10, 50, 5)]


def test_answers_that_are_not_offered_are_refused():
    for wrong in ({"budget": 3}, {"variety": "much"}, {"same": True}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Answers(**wrong)


def test_a_picture_of_the_explorer():
    start = {name: getattr(Answers(), name) for name in choice.QUESTIONS}
    plot, drawn = explorer.choice_picture(**start).panels
    assert plot.groups.tolist().count(0) == 1
    assert drawn.frames.shape == (1, 2, 56, 56)
    own = digits_of(advise(Answers()).taken.row)[:8, 0]
    assert (drawn.frames[0, 1, 28:, :28] == grey(own)[6]).all(), "0 1 over 2 3, then 4 5 over 6 7"
    assert (abs(plot.frames) < plot.limit).all(), "no plan lies outside the picture"
    assert list(plot.y_ticks.values()) == ["1", "2", "5"]
    assert plot.grey == explorer.OUT
    assert plot.groups.tolist() == sorted(plot.groups.tolist(), key=(1, 2, 0).index), "what counts lies above"
    steered = explorer.choice_picture(**start | {"steered": YES}).panels[0]
    taken = advise(Answers(steered=YES)).taken
    found = steered.frames[0][steered.groups == explorer.TAKEN][0]
    assert found.tolist() == pytest.approx(
        [explorer._x(taken.ms(Answers(steered=YES))), explorer._y(taken.row["frechet"])]
    )
    assert steered.frames[0, :, 0].min() > plot.frames[0, :, 0].min(), "two calls for one: all move to the right"
    nothing = explorer.choice_picture(**start | {"variety": ONE})
    assert nothing.sentence().startswith("No generator.")
    assert set(nothing.panels[0].groups.tolist()) == {explorer.OUT}
    (alone,) = explorer.choice_picture(**start | {"budget": 1}).panels
    assert set(alone.groups.tolist()) == {explorer.OUT}
    ring = explorer.choice_picture(**start | {"likelihood": YES, "budget": 2000}).panels[1]
    assert ring.title == "On the ring: not measured on digits"


def test_no_caption_solves_the_third_dare():
    for answers in every_answer():
        assert "No generator" not in "".join(choice.changes(answers))


def test_a_time_that_was_not_measured_is_called_estimated():
    for answers in every_answer():
        advice = advise(answers)
        assert ("estimated" in advice.title) is bool(advice.taken and not advice.taken.row)


# --- Four paradigms


@pytest.fixture(scope="module")
def stored():
    return measurements.load("paradigms")


def by_name(stored, key):
    return {name: [row[key] for row in stored if row["paradigm"] == name] for name in paradigms.PARADIGMS}


def test_five_seeds_of_each(stored):
    assert [(row["paradigm"], row["seed"]) for row in stored] == [
        (name, seed) for seed in range(5) for name in paradigms.PARADIGMS
    ]


def test_who_loses_and_who_strays(stored):
    """Prediction loses-and-strays, and the sentences below its result."""
    covered, stray, sliced = (by_name(stored, key) for key in ("modes", "stray", "sliced"))
    assert sorted(covered["GAN"]) == [7, 8, 8, 8, 8]
    assert all(set(covered[name]) == {8} for name in covered if name != "GAN")
    assert min(stray["VAE"]) > max(itertools.chain(*(stray[name] for name in stray if name != "VAE")))
    assert statistics.fmean(stray["VAE"]) == pytest.approx(0.23, abs=0.03), "every fourth"
    assert min(sliced["GAN"]) > max(itertools.chain(*(sliced[name] for name in sliced if name != "GAN"))), "unevenly"
    assert statistics.fmean(sliced["autoregressive"]) == pytest.approx(statistics.fmean(sliced["diffusion"]), rel=0.2)


def test_no_model_finds_the_data_likelier_than_the_ring_itself(stored):
    own = paradigms.of_the_ring()
    for row in stored:
        assert ("log" in row) is (row["paradigm"] != "GAN")
        assert row.get("log", -9) < own
    assert own == pytest.approx(-1.1356, abs=1e-3)


def test_the_fastest_are_those_of_one_call(stored):
    ms = {name: statistics.fmean(found) for name, found in by_name(stored, "ms").items()}
    assert max(ms["GAN"], ms["VAE"]) < ms["autoregressive"] < ms["diffusion"] / 10


def trained(name, steps):
    """A paradigm after about so many steps: its clock counts them."""
    ticks = itertools.count()
    return paradigms.train(name, 0, steps, lambda: float(next(ticks)))


@pytest.mark.parametrize("name", paradigms.PARADIGMS)
def test_a_paradigm_learns(name):
    """After 400 steps fewer points stray than after none."""
    (model, steps), (none, _) = trained(name, 400), trained(name, 1)
    assert 398 <= steps <= 400
    found, before = (paradigms.scores(net, 1000) for net in (model, none))
    assert found["stray"] < before["stray"] - 0.1
    assert model.sample(3, torch.Generator().manual_seed(0)).shape == (3, 2)
    assert torch.equal(*(model.sample(3, torch.Generator().manual_seed(0)) for _ in range(2)))


def test_the_autoregressive_density_sums_to_one():
    model = paradigms.Autoregressive()
    side = (torch.arange(paradigms.BINS) + 0.5) * 2 * paradigms.EDGE / paradigms.BINS - paradigms.EDGE
    places = torch.cartesian_prod(side, side)
    area = (2 * paradigms.EDGE / paradigms.BINS) ** 2
    assert (model.log_density(places).exp() * area).sum().item() == pytest.approx(1, abs=1e-5)
    assert torch.equal(paradigms.bins_of(places)[: paradigms.BINS, 1], torch.arange(paradigms.BINS))


def test_the_bound_of_a_vae_is_one():
    """It lies below the log-density by importance sampling from the encoder."""
    model = trained("VAE", 300)[0]
    x = paradigms.RING.sample(200, torch.Generator().manual_seed(1))[0].float()
    with torch.no_grad():
        draws = torch.stack([model.bound(x) for _ in range(500)])
    assert draws.mean(0).mean() < (draws.logsumexp(0) - math.log(500)).mean()


def test_log_normal_is_a_density():
    x, mean, log_std = (torch.randn(5, 2, generator=torch.Generator().manual_seed(i)) for i in range(3))
    expected = torch.distributions.Normal(mean, log_std.exp()).log_prob(x).sum(-1)
    assert torch.allclose(paradigms.log_normal(x, mean, log_std), expected, atol=1e-5)


def test_a_diffusion_model_of_the_exact_noise_finds_the_rings_own_density(monkeypatch):
    """But for the noise of t = 1, where it asks."""
    model, x = paradigms.Diffusion(), paradigms.RING.sample(50, torch.Generator().manual_seed(1))[0]
    monkeypatch.setattr(model, "eps", paradigms.RING.network(paradigms.SCHEDULE))
    own = paradigms.RING.log_density(x, paradigms.SCHEDULE.alpha_bar[1].item())
    assert model.log_density(x).mean().item() == pytest.approx(own.mean().item(), abs=0.02)


class Uneven:
    """Sends shares of its points to the clusters of the ring, and the rest astray, beside the first cluster."""

    def __init__(self, *shares):
        self.shares = shares

    def sample(self, n, generator):
        found = [
            mean.expand(round(n * share), 2) for mean, share in zip(paradigms.RING.means, self.shares, strict=True)
        ]
        left = n - sum(map(len, found))
        return torch.cat([*found, 1.5 * paradigms.RING.means[:1].expand(left, 2)])

    def log_density(self, x):
        return None


def test_a_cluster_counts_from_a_fifth_of_its_share_and_without_strays():
    """A fifth of an eighth is 0.025."""
    found = paradigms.scores(Uneven(0.0, 0.02, 0.03, *[0.15] * 5), 1000)
    assert found["modes"] == 6
    assert found["stray"] == pytest.approx(0.2)
    assert "log" not in found


def test_milliseconds_are_for_one_sample(monkeypatch):
    ticks = itertools.count(0, 0.6)
    monkeypatch.setattr(paradigms.time, "process_time", lambda: next(ticks))
    assert paradigms.milliseconds(Uneven(*[0.125] * 8), 240, 3) == pytest.approx(2.5)


def test_scores_of_the_ring_itself():
    class Ring:
        def sample(self, n, generator):
            return paradigms.RING.sample(n, generator)[0]

        def log_density(self, x):
            return paradigms.RING.log_density(x, 1.0)

    found, x = paradigms.scores(Ring()), Ring().sample(10_000, torch.Generator().manual_seed(99))
    assert found["modes"] == 8
    assert found["stray"] == pytest.approx(0.011, abs=0.003)
    assert found["log"] == pytest.approx(paradigms.of_the_ring())
    assert found["stray"] == pytest.approx(1 - modes(paradigms.RING, x).on_target)


# --- Tables and figures


SPEED = latency.Speed(None, {1: [0.005] * 10}, None)  # 5 ms a call


@pytest.fixture
def said(monkeypatch):
    """What figures and tables say, in the order shown."""
    found = []
    monkeypatch.setattr(plots, "show", lambda fig, text: found.append(text))
    monkeypatch.setattr(plots, "table", lambda columns, text=None, folded=None: found.append((columns, text)))
    return found


def test_tables_and_figures(said):
    figures.show_four(3)
    figures.show_table()
    figures.show_costs(SPEED)
    scope.show_categories()
    closing.show_timeline()
    closing.show_neighbours()
    assert "GAN 10 %" in said[0]
    assert "Of the ring itself 1 %" in said[0]
    four = said[1][0]
    assert four["paradigm"] == ["diffusion", "GAN", "autoregressive", "VAE"]
    assert four["likelihood"] == ["by an ODE", "none", "exact", "a lower bound"]
    assert four["calls for a digit"] == ["50", "1", "784", "1"]
    ms = {name: statistics.fmean(row["ms"] for row in figures.of(name)) for name in four["paradigm"]}
    assert [float(value) for value in four["ms for a point"]] == pytest.approx(list(ms.values()), rel=0.06)
    assert [word[:9] for word in four["people say"]] == ["stable, c", "very fast", "exact lik", "cheap, fa"]
    assert said[1][0]["clusters, five seeds"][1] == "8, 8, 7, 8, 8"
    costs = said[2][0]
    assert costs["calls"] == ["1,000", "50", "20", "1", "2"]
    assert costs["guided"] == ["2,000", "100", "40", "1", "2"]
    assert costs["times fewer"] == ["1", "20", "50", "1,000", "500"]
    assert costs["guided, ms here"] == ["10,000", "500", "200", "5", "10"], "from the reader's own measurement"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Answers(budget=True), "budget is True; expected one of [1, 2, "),
        (lambda: paradigms.train("GAN", 0, -1.0), "seconds is -1.0; expected a finite number in"),
        (lambda: paradigms.milliseconds(None, 0), "n is 0; expected a whole number, at least 1"),
        (lambda: paradigms.milliseconds(None, 1, 0), "turns is 0; expected a whole number, at least 1"),
        (lambda: figures.mean("flow", "ms"), "name is 'flow'; expected one of 'diffusion', 'GAN'"),
        (lambda: figures.read_by_drawing(torch.zeros(2, 1, 28, 28), ()), "times is (); expected one time or more"),
        (lambda: shipping.start(-1), "n is -1; expected a whole number, at least 1"),
        (lambda: shipping.opened(NOTEBOOKS / "nowhere"), "expected a folder with a model_index.json"),
    ],
)
def test_bad_input_is_refused(make, said):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        make()
    assert said in str(error.value)


def test_there_are_five_seeds():
    with pytest.raises(ValueError, match="seed"):
        figures.show_four(7)


@pytest.mark.parametrize(
    ("slowest", "says"), [(0.29, "promise kept: 5 of 5"), (0.5, "promise not kept: 4 of 5 runs. The")]
)
def test_a_promise_is_kept_or_not(capsys, slowest, says):
    check = latency.Check(latency.Estimate(40, 0.21, 0.3), [0.2, 0.22, 0.23, 0.21, slowest])
    figures.show_promise(latency.Speed(None, {1: [0.005] * 10 + [0.00725] * 10 + [0.005] * 11}, None), check)
    told = capsys.readouterr().out
    assert "usual call: 5.00 ms, slow call: 7.25 ms" in told
    assert "promised: 40 slow calls + loop, and a tenth more = 300 ms" in told
    assert "40 usual calls + loop = 210 ms" in told
    assert "the loop around them: 10.0 ms" in told
    assert says in told


def test_a_classifier_reads_better_in_fewer_calls(said):
    figures.show_reading()
    right = [int(count) for count in said[0][0]["right, of 100"]]
    assert right[0] >= 97 > 93 > right[1] > 80
    assert said[0][0]["calls a digit"] == ["1", "30"]


def test_categories_and_cards():
    """Each of six categories lies in a layer, every layer has one, and one card sorts a case into each."""
    assert len(scope.CATEGORIES) == 6
    assert {category.layer for category in scope.CATEGORIES.values()} == set(scope.LAYERS)
    backs = [
        card.back for card in quiz.load("lessons_src.lessons.lesson_14").cards if card.front.startswith("Which cat")
    ]
    sorted_into = {name: back for back in backs for name in scope.CATEGORIES if name.lower() in back.lower()}
    assert set(sorted_into) == set(scope.CATEGORIES)
    for name, back in sorted_into.items():
        assert f"Layer: {scope.CATEGORIES[name].layer}." in back


def test_what_the_last_page_names_is_there(said):
    closing.show_practice()
    closing.show_timeline()
    closing.show_neighbours()
    for place in [*closing.ABILITIES.values(), *closing.OBJECTIVES.values()]:
        number, task = place.split()
        assert all_tasks()[task].reference.__module__.split(".")[2] == f"lesson_{number}"
    cells = [str(cell) for columns, _ in said for column in columns.values() for cell in column]
    links = re.findall(r"\]\(([^)]+)\)", " ".join(cells))
    assert len(links) > 25
    for target in links:
        assert target.startswith("http") or (NOTEBOOKS / target).exists(), target
    for place in closing.LABS.values():
        path, heading = place.split("#")
        (found,) = NOTEBOOKS.glob(f"{path}_*.ipynb")
        prose = "\n".join(cell.source for cell in nbformat.read(found, as_version=4).cells)
        assert f"## {heading}" in prose


# --- Shipping


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """The digit network, and the pipeline that diffusers opens."""
    net, folder = weights.load("digits")[0], tmp_path_factory.mktemp("digits")
    to_diffusers(net, folder)
    return net, shipping.opened(folder)


def test_one_noise_one_picture(shipped):
    net, pipe = shipped
    noise, labels = shipping.start()
    drawn = pipe(labels, latents=noise, num_inference_steps=20, output_type="latent").images
    assert (shipping.ours(net, noise, labels) - drawn).abs().max() < 0.001, "as question half-a-scale says"
    assert pipe.scheduler.config.timestep_spacing == "trailing"


def test_the_caption_of_a_pair_says_the_largest_difference(shipped, monkeypatch):
    texts, (noise, labels) = [], shipping.start()
    monkeypatch.setattr(plots, "image_rows", lambda rows, text: texts.append(text))
    own = shipping.ours(shipped[0], noise, labels)
    own[0, 0, 0, 0] += 0.5
    shipping.show_pair(shipped[0], noise, labels, own)
    assert "no pixel differs by more than 0.5," in texts[0]


def test_each_slip_draws_digits_and_is_far_off(shipped, said, monkeypatch):
    """Prediction which-slip-shows, and the table below its result."""
    pictures = []
    monkeypatch.setattr(plots, "image_rows", lambda rows, text: pictures.append(rows))
    found = shipping.traps(*shipped)
    monkeypatch.setattr(shipping, "traps", lambda net, pipe: found)
    shipping.show_traps(*shipped)
    table = said[0][0]
    assert list(pictures[0]) == ["wanted", "starts at t = 951", "t one too low", "wanted, w = 0.5", "scale 0.5 means 1"]
    half = found["scale 0.5 means 1"]
    right = [
        found["t one too low"].right,
        *(found[name].wrong for name in list(pictures[0])[1:3]),
        half.right,
        half.wrong,
    ]
    for drawn, x in zip(pictures[0].values(), right, strict=True):
        assert torch.equal(drawn, x[:10])
    assert torch.allclose(half.wrong, found["t one too low"].right, atol=0.01), "0.5 there is 1 here"
    assert shipping.far(torch.zeros(4), torch.full((4,), 3.0)) == pytest.approx(3), "a root mean square"
    assert table["read right, of 50"] == ["47", "45", "50", "47"]
    assert all(float(value) > 0.1 for value in table["differs by"][1:])
    assert max(table["differs by"]) == table["differs by"][2], "the neatest digits are furthest off"
    assert any("√ᾱ = 0.00005" in why for why in table["why"])


def test_without_diffusers_one_sentence_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(shipping, "find_spec", lambda name: None)
    with pytest.raises(shipping.Missing, match="not installed") as found:
        shipping.opened(tmp_path)
    assert found.value._render_traceback_() == [str(found.value)]


# --- Exercises

TASKS = {task.name: task for task in exercises.TASKS}


def guided_above_one(pictures, batch, calls, w, overhead, each, decoder, warm_up):
    guided = 2 if w > 1 else 1
    evaluations = math.ceil(pictures / batch) * calls * guided
    return evaluations, warm_up + evaluations * overhead + pictures * (calls * guided * each + decoder)


def claim_with_zero_doubled(ours, rival, said):
    if None in (ours[2], rival[2]):
        return 0.0, "incomplete"
    a, b = (steps * each * (1 if folded or w == 1 else 2) for steps, each, w, folded in (ours, rival))
    return b / a, "too good" if said > 1.05 * b / a else "holds"


def claim_without_guidance(ours, rival, said):
    if None in (ours[2], rival[2]):
        return 0.0, "incomplete"
    factor = rival[0] * rival[1] / (ours[0] * ours[1])
    return factor, "too good" if said > 1.05 * factor else "holds"


def times_above_zero(T, steps, spacing):
    theirs = list(range(T - 1 if spacing == "trailing" else T - T // steps, 0, -(T // steps)))
    return theirs, [t + 1 for t in theirs] + [0]


def decided_without_looking(one_right, exists, baseline, keeps, budget, makers):
    if one_right or exists:
        return "compute" if one_right else "look up"
    fits = (makers[:, 0] <= budget) & ((makers[:, 2] == 1) | (not keeps))
    good = fits & (makers[:, 1] <= 1.1 * makers[fits, 1].min())
    taken = torch.where(good, makers[:, 0], math.inf).argmin().item()
    return f"maker {taken}" if makers[taken, 1] < baseline else "baseline"


def stopped_where_touched(categories, answers):
    order, verdict = exercises.scope_test(categories, answers)
    no = [layer for layer, answer in zip(scope.LAYERS, answers, strict=True) if answer is False and layer in order]
    return order, f"stop at {no[0]}" if no else "go on" if False in answers else verdict


@pytest.mark.parametrize(
    ("name", "answer", "sentences"),
    [
        ("plan_seconds", guided_above_one, {"small ones too"}),
        ("judge_claim", claim_with_zero_doubled, {"at any other w none"}),
        ("judge_claim", claim_without_guidance, {"at any other w none", "a guided step asks twice"}),
        ("library_times", times_above_zero, {"leading visits it"}),
        ("decide", decided_without_looking, {"Nothing fits here"}),
        ("scope_test", stopped_where_touched, {"Any no ends the test"}),
    ],
)
def test_learners_who_go_wrong_in_their_own_words_read_why(name, answer, sentences):
    """Answers that no edit of the reference wrote: every case that fails says a sentence that is true of them."""
    for seed in range(5):
        found = judge(TASKS[name], lambda a: ask(answer, a), torch.Generator().manual_seed(seed)).results
        said = {result.says for result in found} - {""}
        assert said
        assert all(any(part in says for part in sentences) for says in said), said


def test_what_the_exercises_predict():
    """Their answers, task by task."""
    a, b = (exercises.plan_seconds(17, batch, 20, 2.0, 0.01, 0.02, 0.1, 0.0) for batch in (16, 9))
    assert a[0] == b[0] == 80
    assert a[1] == pytest.approx(b[1])
    assert exercises.judge_claim((1, 1, 2.0, True), (1000, 1, 2.0, False), 1000.0) == (2000, "holds")
    assert exercises.library_times(1000, 20, "leading")[1][0] == 951
    assert {name: category.layer for name, category in scope.CATEGORIES.items()} == exercises.LAYER_OF
    assert exercises.LAYERS == scope.LAYERS
    even = exercises.bits_per_number(torch.tensor([-784 * math.log(2)], dtype=torch.float64), 784, 256)
    assert even.item() == pytest.approx(math.log2(255))
    assert round(even.item()) == 8
