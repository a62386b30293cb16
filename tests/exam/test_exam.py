"""The bank of the final exam: every key against a computation of its own, without the package."""

import math

import nbformat
import pytest

from lessons_src import exam
from lessons_src.exam.items import OBJECTIVES, Item, decimal
from lessons_src.exercises import WrongWay, answered
from lessons_src.exercises.tasks import ask, difference, judge

ITEMS = {item.name: item for items in exam.bank().values() for item in items}
SEEDS = [("autumn", f"learner-{number}") for number in range(20)]

# --- The keys by hand: arithmetic, and nothing of the package


def root(x):
    return math.sqrt(x)


def ddim(x, eps, ab_t, ab_s):
    return root(ab_s) * (x - root(1 - ab_t) * eps) / root(ab_t) + root(1 - ab_s) * eps


def beta_tilde(ab_t, ab_s):
    return (1 - ab_s) * (1 - ab_t / ab_s) / (1 - ab_t)


def linear(T):
    """alpha_bar at 0 to T of betas from 0.0001 to 0.02."""
    levels = [1.0]
    for t in range(T):
        levels.append(levels[-1] * (1 - 1e-4 - (0.02 - 1e-4) * t / (T - 1)))
    return levels


def flow(x, mean, std, ab):
    return mean + std * (x - root(ab) * mean) / root(ab * std**2 + 1 - ab)


def guided(eps_u, eps_c, w):
    return (1 - w) * eps_u + w * eps_c


def length(v):
    return root(sum(x * x for x in v))


def cosine_between(a, b):
    return math.cos(math.acos(root(a)) - math.acos(root(b)))


def null(x, pivot, eps_c, ab_t, ab_s, w):
    low, high = -1e4, 1e4  # by bisection: where does the guided step land?

    def lands(eps_u):
        return ddim(x, guided(eps_u, eps_c, w), ab_t, ab_s) - pivot

    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if lands(low) * lands(middle) > 0 else (low, middle)
    return low


def student(x, end, ab_t, ab_s):
    """By bisection over the predicted noise, whose DDIM step leads to the end."""
    low, high = -1e3, 1e3
    for _ in range(200):
        middle = (low + high) / 2
        same = (ddim(x, low, ab_t, ab_s) - end) * (ddim(x, middle, ab_t, ab_s) - end) > 0
        low, high = (middle, high) if same else (low, middle)
    return (x - root(1 - ab_t) * low) / root(ab_t)


def not_dominated(calls, distances):
    points = list(zip(calls, distances, strict=True))
    beaten = [any(c <= calls[i] and d <= distances[i] and (c, d) != points[i] for c, d in points) for i in range(5)]
    return "".join(letter for letter, by in zip("ABCDE", beaten, strict=True) if not by)


def in_balls(points, members):
    radius = {m: min(abs(m - other) for other in members if other != m) for m in members}
    return sum(any(abs(p - m) <= radius[m] for m in members) for p in points) / len(points)


def class_at_one(std, x, ab):
    variance = ab * std**2 + 1 - ab
    up, down = (math.exp(-((x - side * root(ab)) ** 2) / (2 * variance)) for side in (1, -1))
    return up / (up + down)


def steps_affordable(solver, budget, guidance):
    calls = {"Heun": lambda n: 2 * n - 1, "PLMS": lambda n: n + 1}.get(solver, lambda n: n)
    return max(n for n in range(100) if calls(n) * (2 if guidance else 1) <= budget)


def votes(n, wins):
    ways = (
        sum(1 for outcome in range(2**n) if outcome.bit_count() >= wins)
        if n <= 12
        else sum(math.factorial(n) / math.factorial(k) / math.factorial(n - k) for k in range(wins, n + 1))
    )
    return 2 * ways / 2**n


KEYS = {
    "two_doses": lambda old, new: root(old**2 + new**2),
    "jump_by_hand": lambda x0, eps, ab: root(ab) * x0 + root(1 - ab) * eps,
    "back_to_the_picture": lambda x, eps, ab: (x - root(1 - ab) * eps) / root(ab),
    "left_of_the_picture": lambda T: 100 * root(linear(T)[-1]),
    "error_of_the_guess": lambda ab, error: error * math.tan(math.acos(root(ab))),
    "level_as_log_snr": lambda ab: math.log(ab) - math.log(1 - ab),
    "level_from_log_snr": lambda value: math.exp(value) / (1 + math.exp(value)),
    "last_beta": lambda T: 20 / T,
    "another_contrast": lambda b, ab: 2 * math.log(b),
    "time_to_be_told": lambda ab: round(2000 / math.pi * math.acos(root(ab))),
    "mean_or_sum": lambda side, total: total / (side * side),
    "floor_of_the_loss": lambda std, ab: ab * std**2 / (ab * std**2 + 1 - ab),
    "average_of_weights": lambda old, new, decay, steps: new + decay**steps * (old - new),
    "null_against_label": lambda p, classes: p * classes / (1 - p),
    "score_of_the_guess": lambda eps, ab: -eps / root(1 - ab),
    "mean_of_a_step": lambda x, eps, ab_t, ab_s: (x - (1 - ab_t / ab_s) / root(1 - ab_t) * eps) / root(ab_t / ab_s),
    "small_variance": beta_tilde,
    "means_alone": lambda x, alphas: x * root(alphas[0]) * root(alphas[1]) * root(alphas[2]),
    "calls_of_a_run": lambda batch, steps, w: 2 * steps,
    "variance_of_the_samples": lambda ab: ab,
    "ddim_by_hand": ddim,
    "size_of_fresh_noise": lambda ab_t, ab_s, eta: eta * root(beta_tilde(ab_t, ab_s)),
    "steps_for_an_error": lambda steps, error, wanted: steps * error / wanted,
    "official_grid": lambda steps: math.ceil(1000 / (1000 // steps)),
    "what_two_times_share": lambda ab_t, ab_s: root((1 - ab_t) * (1 - ab_s)),
    "blend_by_hand": guided,
    "scale_of_a_paper": lambda g: 1 + g,
    "times_as_long": lambda u, c, w: length([guided(a, b, w) for a, b in zip(u, c, strict=True)]) / length(c),
    "calls_with_guidance": lambda steps, batch, w: steps if w in (0, 1) else 2 * steps,
    "where_guidance_leads": lambda m, w: m * w,
    "steered_by_hand": lambda eps, gradient, ab, w: eps - w * root(1 - ab) * gradient,
    "classifier_inside": lambda eps_u, eps_c, ab: (eps_u - eps_c) / root(1 - ab),
    "sure_of_a_class": class_at_one,
    "passes_of_both": lambda batch, steps, free, guide: [steps if free in (0, 1) else 2 * steps, steps, steps],
    "told_twice": lambda w: w + 1,
    "noise_rate": lambda first, last, N, t: N * ((1 - t) * first + t * last),
    "end_of_the_flow": flow,
    "drift_with_a_dial": lambda x, eps, ab, beta, lam: beta / 2 * ((1 + lam**2) * eps / root(1 - ab) - x),
    "trace_from_signs": lambda a, b, d, v: a + d + 2 * b * v[0] * v[1],
    "step_of_a_velocity": lambda x, v, t, s: x - (t - s) * v,
    "steps_for_a_budget": steps_affordable,
    "order_of_a_solver": lambda calls, error, later: math.log2(error / later),
    "weight_of_the_newer": lambda before, coming: 1 + coming / before / 2,
    "as_good_or_worse": lambda gap, half, margin: "A" if gap + half < margin else "B" if gap > half else "C",
    "who_is_on_the_front": not_dominated,
    "one_step_up": lambda x, eps, ab_t, ab_s: ddim(x, eps, ab_s, ab_t),
    "variance_of_sdedit": lambda ab: 1 - ab**2,
    "there_and_back": lambda x, m, top: x * (cosine_between(1, m) * cosine_between(m, top)) ** 2,
    "null_prediction": null,
    "length_of_a_mixture": lambda share: root(share**2 + (1 - share) ** 2),
    "rounds_of_halving": lambda steps, wanted: round(math.log2(steps / wanted)),
    "guess_of_the_student": student,
    "answer_of_a_consistency_model": flow,
    "into_the_second_call": lambda first, z, ab: root(ab) * first + root(1 - ab) * z,
    "weights_of_an_adapter": lambda inputs, outputs, rank: 100 * rank * (1 / inputs + 1 / outputs),
    "fewer_numbers": lambda side, factor, channels: 3 * factor**2 / channels,
    "pairs_of_patches": lambda side, patch: (side // patch) ** 4,
    "noisy_latent": lambda z, mean, std, eps, ab: root(ab) * (z - mean) / std + root(1 - ab) * eps,
    "halfway_signal": lambda side, factor: (64 / (side // factor)) ** 2,
    "price_of_a_latent": lambda mean, std: (mean**2 + std**2 - 1) / 2 - math.log(std),
    "frechet_by_hand": lambda mean, variance: mean**2 + (root(variance) - 1) ** 2,
    "at_infinitely_many": lambda n, few, many: (4 * many - few) / 3,
    "covered_and_missed": lambda real, samples: [in_balls(samples, real), in_balls(real, samples)],
    "score_of_the_inception": lambda shares: math.exp(-sum(share * math.log(share) for share in shares)),
    "luck_of_a_vote": votes,
    "promised_time": lambda solver, n, ms, more: 2 * (2 * n - 1 if solver == "Heun" else n) * ms + more,
    "times_fewer_calls": lambda steps: 500 / steps,
    "times_of_a_pipeline": lambda steps, T: [T * k // steps - 1 for k in range(steps, 0, -1)],
    "scale_of_a_pipeline": lambda eps_u, eps_c, w: eps_c,
    "bits_of_a_density": lambda log_p, dim: -log_p / dim / math.log(2),
}


@pytest.mark.parametrize("item", ITEMS.values(), ids=ITEMS)
def test_every_key_is_right_and_no_common_wrong_answer_is(item):
    for seed, learner in SEEDS:
        numbers = item.numbers(seed, learner)
        task = item.task(numbers)

        def verdict(value, task=task):
            return judge(task, lambda arguments: ask(lambda: value, arguments), exam.seeded("any"))

        own = KEYS[item.name](*numbers)
        exact = 1e-9 if item.name != "time_to_be_told" else item.tolerance  # of two neighbours either is right
        assert difference(item.key(*numbers), own, exact) == "", numbers
        assert verdict(own).earned == 1
        rounded = float(f"{own:.4g}") if isinstance(own, float) else own
        assert verdict(rounded).earned == 1, "four digits are enough"
        for way in item.wrong:
            wrong = verdict(way.function(*numbers))
            assert wrong.earned == 0
            assert wrong.results[0].says in [other.says for other in item.wrong], "the mistake is named"
        assert verdict(None).earned == verdict("no idea").earned == 0


def test_the_bank_covers_lessons_and_objectives_evenly():
    bank = exam.bank()
    assert list(bank) == [f"{number:02}" for number in range(1, 15)]
    assert {len(items) for items in bank.values()} == {5}
    assert len(ITEMS) == 70, "names tell them apart"
    objectives = [item.objective for item in ITEMS.values()]
    assert min(objectives.count(objective) for objective in OBJECTIVES) >= 9
    assert set(KEYS) == set(ITEMS)


@pytest.mark.parametrize("item", ITEMS.values(), ids=ITEMS)
def test_learners_get_numbers_of_their_own_and_always_the_same(item):
    texts = [item.asked(item.numbers(*who)) for who in SEEDS]
    assert texts == [item.asked(item.numbers(*who)) for who in SEEDS]
    assert len(set(texts)) >= 10
    assert all("{" not in text and "}" not in text for text in texts)


@pytest.mark.parametrize("seed", ["autumn", "spring", "a", "b", "c", "2026-1"])
def test_an_exam_takes_forty_minutes_and_asks_for_every_objective_twice(seed):
    items = exam.draw(seed)
    assert items == exam.draw(seed)
    assert len(items) == len(set(items)) == 12
    assert 36 <= sum(item.minutes for item in items) <= 40
    asked = [item.objective for item in items]
    assert min(asked.count(objective) for objective in OBJECTIVES) >= 2
    places = [number for item in items for number, lesson in exam.bank().items() if item in lesson]
    assert places == sorted(set(places)), "one of each of twelve lessons, in their order"


def test_other_seeds_draw_other_exams():
    drawn = [exam.draw(f"seed-{number}") for number in range(20)]
    assert len({tuple(item.name for item in items) for items in drawn}) == 20
    assert len({item.name for items in drawn for item in items}) > 60


def test_two_learners_have_the_same_questions_with_other_numbers():
    ada, ben = (exam.notebook("autumn", learner) for learner in ("ada", "ben"))
    nbformat.validate(ada)
    assert [cell.id for cell in ada.cells] == [cell.id for cell in ben.cells]
    texts = [(a.source, b.source) for a, b in zip(ada.cells, ben.cells, strict=True) if a.id.endswith("-text")]
    assert len(texts) == 12
    assert sum(a != b for a, b in texts) >= 11


def test_personal_rewrites_the_texts_of_an_exam_and_nothing_else():
    made, own = exam.notebook("autumn"), exam.notebook("autumn", "ada")
    made.cells.insert(1, nbformat.v4.new_markdown_cell("No telephones."))
    found = exam.personal(made, "ada")
    assert [cell.source for cell in found.cells if cell.cell_type == "markdown"] == [
        own.cells[0].source,
        "No telephones.",
        *(cell.source for cell in own.cells[1:] if cell.cell_type == "markdown"),
    ]
    assert found.metadata["exam"] == {"seed": "autumn", "learner": "ada"}
    other = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Two tasks")])
    assert exam.personal(other, "ada") is other


def test_answered_says_what_will_be_graded():
    def two_doses():
        return 0.5

    def jump_by_hand():
        raise NotImplementedError

    assert answered(two_doses) == "two_doses: 0.5"
    assert answered(jump_by_hand).startswith("jump_by_hand: no answer yet.")


def test_items_that_cannot_be_asked_are_refused():
    def key(a):
        return a

    def draw(generator):
        return (decimal(generator, 0, 1),)

    with pytest.raises(ValueError, match="wrong"):
        Item(key, "What is {a}?", draw, ())
    with pytest.raises(ValueError, match="objective"):
        Item(key, "What is {a}?", draw, (WrongWay(lambda a: -a, "The sign."),), "cooking")
    hopeless = Item(key, "What is {a}?", draw, (WrongWay(lambda a: a, "The same."),))
    with pytest.raises(RuntimeError, match="no numbers in 1000 draws"):
        hopeless.numbers("autumn", "ada")
