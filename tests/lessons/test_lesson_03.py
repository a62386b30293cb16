"""Lesson 03: its pictures, its training, the answers to its questions, and right answers to its exercises."""

import math
import re
import signal
from itertools import pairwise

import pytest
import torch
from by_hand import as_column, number
from torch.nn import functional as F

from lessons_src import data, oracle, process, schedules
from lessons_src.lessons import lesson_03
from lessons_src.lessons.digit_runs import shipped
from lessons_src.lessons.lesson_03 import explorer, figures
from lessons_src.losses import Denoising, Samples
from lessons_src.networks import NoisePredictor, UNet
from lessons_src.show.widgets import Live
from lessons_src.training import Recipe, Trainer

# --- The guess


def test_the_guess_is_that_of_the_network():
    net, _ = shipped()
    x0 = data.digits("test")[0][:1]
    x_t, eps = explorer.noise_guess(x0, 700)
    ab, noise = net.schedule.alpha_bar[700].item(), data.noise(1, 1, 28, 28, seed=3).float()
    assert torch.allclose(x_t, ab**0.5 * x0 + (1 - ab) ** 0.5 * noise, atol=1e-6)
    assert (eps - noise).square().mean() < 0.1


def test_a_guess_says_what_is_read_in_it():
    seven = explorer.presets()["a 7"]
    early, late, end = (explorer.guess_picture(seven, t) for t in (300, 700, 1000))
    assert early.text == "At t = 300 a second network reads what is left as 7."
    assert late.text == "At t = 700 a second network reads what is left as 9."  # the lesson: "the loop of a 9"
    assert end.text == "At t = 1000 a second network reads what is left, and is unsure."
    assert early.formula == ("x̂₀ = (xₜ − 0.46 · ε̂) / 0.89",)
    assert end.formula == ("x̂₀ = (xₜ − 1 · ε̂) / 0.00005",)


def test_the_dare_has_an_end_for_every_digit():
    for name, drawing in explorer.presets().items():
        read = [explorer.guess_picture(drawing, t).text.rpartition(" ")[2] for t in range(100, 1001, 100)]
        assert read[0] == f"{name[-1]}."
        assert read[-1] != read[0]


def test_an_empty_field_has_nothing_to_read():
    picture = explorer.guess_picture(0 * explorer.presets()["a 7"], 500)
    assert picture.text == "The field is empty: draw a digit, or take a ready one."


def test_the_digit_that_belongs_to_v_is_never_divided():
    """The lesson's formula, and the two factors that an error is multiplied by at t = 1000."""
    x0, eps, ab = torch.randn(4, dtype=torch.float64), torch.randn(4, dtype=torch.float64), 0.3
    x_t, v = process.rotate(x0, eps, ab**0.5, (1 - ab) ** 0.5)
    torch.testing.assert_close(v, ab**0.5 * eps - (1 - ab) ** 0.5 * x0)
    torch.testing.assert_close(ab**0.5 * x_t - (1 - ab) ** 0.5 * v, x0)


# --- The training


@pytest.fixture
def live(monkeypatch):
    """A front end that keeps what it is shown: texts and titles of every picture, what the bar says, what is stored."""
    seen = {"texts": [], "titles": [], "bars": [], "stored": []}

    def keep(new):
        seen["texts"].append(new.text)
        seen["titles"].append([panel.title for panel in new.panels])

    class Bar:
        def update(self, bar, raw):
            seen["bars"].append(bar["text/plain"])

    def display(thing, **options):
        if isinstance(thing, Live):
            keep(thing.picture)
        return Bar()

    monkeypatch.setattr(explorer, "get_ipython", lambda: "a kernel")
    monkeypatch.setattr(explorer, "display", display)
    monkeypatch.setattr(explorer, "EVERY", 0.0)
    monkeypatch.setattr(Live, "update", lambda live, new: keep(new) or setattr(live, "picture", new))
    monkeypatch.setattr(Live, "keep", lambda live: seen["stored"].append(live.picture))
    return seen


def tiny_trainer(steps: int = 6) -> Trainer:
    x, label = data.digits("test")
    net = NoisePredictor(UNet(channels=(8, 8)), schedules.cosine(), "v")
    return Trainer(net, Denoising(), Samples(x[:8], label[:8]), Recipe(steps=steps, batch_size=2, warmup=2))


def test_a_watched_run_shows_the_untrained_network_every_report_and_its_end(live):
    trainer = tiny_trainer(6)
    lesson_03.watch_training(trainer)
    assert live["texts"][0] == "This is the network before the first of its steps."
    assert live["texts"][1:-1] == ["The network trains."] * 6
    assert live["titles"][0] == ["Always from the same noise"]
    assert live["titles"][-1] == ["Always from the same noise", "Loss in v"]
    assert re.fullmatch(r"3 of 6 steps, about \d+ s left", live["bars"][2])
    assert live["bars"][-1] == "6 of 6 steps"


def test_what_is_stored_tells_step_and_loss_and_looks_back(live):
    lesson_03.watch_training(tiny_trainer(30))
    (picture,) = live["stored"]
    assert re.fullmatch(r"All 30 steps are done\. Step 30: the loss is \d\.\d\d\.", picture.sentence())
    curve = picture.panels[1]
    assert picture.frame_names[-1] == "step 30"
    assert curve.x.tolist() == [0, 10, 20, 30]  # of steps, not of the clock
    (losses,) = curve.series.values()
    assert picture.frame_texts[0] == f"Step 0: the loss is {losses[0]:.2f}."
    assert picture.frame_texts[20] == f"Step 20: the loss is {losses[2]:.2f}."
    assert len(picture.frame_texts) == 31


def test_the_axis_of_a_running_training_ends_where_the_training_will(live, monkeypatch):
    ends = []
    monkeypatch.setattr(Live, "update", lambda live, new: ends.extend(panel.x_end for panel in new.panels[1:]))
    lesson_03.watch_training(tiny_trainer(6))
    assert set(ends) == {6}


def test_pictures_come_by_the_clock(live, monkeypatch):
    monkeypatch.setattr(explorer, "EVERY", 1e6)
    lesson_03.watch_training(tiny_trainer(6))
    assert len(live["texts"]) == 2  # the untrained network, and the end


def test_the_film_of_a_long_run_is_thinned_evenly(monkeypatch):
    monkeypatch.setattr(explorer, "ten_digits", lambda net: torch.zeros(10, 1, 28, 28))
    history, trainer = explorer.History(), tiny_trainer()
    for step in range(3 * explorer.FILM):
        trainer.step_count = step
        history.look(trainer)
    steps = [step for step, _ in history.film]
    assert len(steps) <= explorer.FILM
    assert (steps[0], steps[-1]) == (0, 3 * explorer.FILM - 1)
    assert max(b - a for a, b in pairwise(steps)) <= 6


def stop_at(trainer: Trainer, step: int) -> None:
    """Let the stop button be pressed in the middle of a step, after its gradients are there."""
    averaged = trainer._average

    def average():
        if trainer.step_count == step:
            trainer._average = averaged
            trainer.loss(trainer.net, trainer.batches(2, trainer.generator), trainer.generator).each.mean().backward()
            handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background ignores it
            try:
                signal.raise_signal(signal.SIGINT)
            finally:
                signal.signal(signal.SIGINT, handler)
        averaged()

    trainer._average = average


def test_stop_ends_a_run_with_a_sentence_and_the_network_as_it_is(live):
    trainer = tiny_trainer(8)
    stop_at(trainer, 3)
    before = [weight.clone() for weight in trainer.net.parameters()]
    lesson_03.watch_training(trainer)
    assert live["texts"][-1].startswith(
        "You stopped the training after 3 of 8 steps. The network keeps what it has learned, and "
        "lesson.go_on(trainer) goes on from here."
    )
    assert live["bars"][-1] == "3 of 8 steps"
    assert any(not torch.equal(old, new) for old, new in zip(before, trainer.net.parameters(), strict=True))
    assert all(weight.grad is None for weight in trainer.net.parameters())  # nothing is left of the step cut off


def test_a_stopped_run_goes_on_to_its_end_and_a_finished_one_beyond(live):
    trainer = tiny_trainer(8)
    stop_at(trainer, 3)
    lesson_03.watch_training(trainer)
    lesson_03.go_on(trainer, 5)
    assert trainer.step_count == 8
    lesson_03.go_on(trainer, 5)
    assert trainer.step_count == trainer.recipe.steps == 13
    assert live["texts"][-1].startswith("All 13 steps are done.")
    assert live["stored"][-1].frame_names[0] == "step 0"  # one film of the whole way


def test_a_stop_before_the_first_picture_is_no_error(live, monkeypatch):
    trainer, look = tiny_trainer(8), explorer.History.look

    def stopped(history, trainer):
        monkeypatch.setattr(explorer.History, "look", look)
        raise KeyboardInterrupt

    monkeypatch.setattr(explorer.History, "look", stopped)
    lesson_03.watch_training(trainer)
    assert live["texts"][-1].startswith("You stopped the training after 0 of 8 steps.")


def test_a_new_trainer_starts_anew(live):
    for _ in range(2):
        lesson_03.watch_training(tiny_trainer(4))
        assert live["stored"][-1].panels[1].x.tolist() == [0, 4]


def test_a_loss_that_is_no_number_ends_the_run(live):
    trainer = tiny_trainer(4)
    with torch.no_grad():
        next(trainer.net.parameters()).fill_(math.nan)
    with pytest.raises(FloatingPointError, match="loss is nan"):
        lesson_03.watch_training(trainer)


@pytest.mark.parametrize(
    "use", [lesson_03.watch_training, lesson_03.go_on, lambda trainer: figures.compare(trainer, shipped()[0])]
)
def test_a_cell_run_too_early_says_in_one_sentence_what_to_run(use):
    with pytest.raises(explorer.RunFirst) as caught:
        use(None)
    (sentence,) = caught.value._render_traceback_()
    assert "below the heading Train it" in sentence


def test_without_a_front_end_progress_is_plain_lines(capsys):
    lesson_03.watch_training(tiny_trainer(5))
    assert capsys.readouterr().out.split("loss")[0].split() == ["step", "5", "of", "5"]


# --- The figures


def test_what_fits_is_weighed_by_bayes():
    known = torch.tensor([[0.0, 0.0], [1.0, 0.0], [3.0, 4.0]], dtype=torch.float64)
    x_t, ab = torch.tensor([[0.2, 0.1]], dtype=torch.float64), 0.3
    law = torch.distributions.Normal(ab**0.5 * known, (1 - ab) ** 0.5)
    likelihood = law.log_prob(x_t).sum(1).exp()
    assert torch.allclose(figures.fits(x_t, ab, known), likelihood / likelihood.sum())


def test_the_average_of_what_fits_is_near_to_the_guess():
    """The lesson says so of one picture; here of twenty, beside the distance to the digit itself."""
    net, _ = shipped()
    ab, t = net.schedule.alpha_bar[850].item(), torch.full((20,), 850)
    x0, known = data.digits("test")[0][:20], data.digits()[0]
    x_t = process.add_noise(x0, data.noise(*x0.shape).float(), ab)
    average = torch.stack([(figures.fits(x[None], ab, known).view(-1, 1, 1, 1) * known).sum(0) for x in x_t])
    with torch.no_grad():
        guess = process.predict_x0(x_t, net(x_t, t), ab)
    assert (guess - average).square().mean() < 0.6 * (guess - x0).square().mean()


def test_the_stages_are_those_that_the_figure_names():
    shapes = {name: tuple(held.shape) for name, held in figures.stages().items()}
    assert list(shapes) == ["in", "fine", "finer", "middle", "up[0]", "up[1]", "out"]
    assert [shapes[name] for name in ("in", "finer", "middle")] == [(1, 28, 28), (32, 14, 14), (48, 7, 7)]
    assert not any(layer._forward_hooks for layer in shipped()[0].modules())


def test_floor_and_fault_add_up_to_the_loss():
    loss, lowest, excess = figures.ring_losses()
    assert torch.allclose(loss, lowest + excess, atol=0.02)
    assert loss.mean().item() == pytest.approx((lowest + excess).mean().item(), abs=0.003)
    assert excess.mean() < 0.03 * loss.mean()


def test_the_judge_ranks_networks_and_knows_real_digits(monkeypatch):
    monkeypatch.setattr(figures, "PER_CLASS", 8)
    torch.manual_seed(0)
    untrained = NoisePredictor(UNet(channels=(8, 8)), schedules.cosine(), "v").eval()  # of any width, it says 0
    good, fresh = figures.score(shipped()[0]), figures.score(untrained)
    assert good.distance < 8 < fresh.distance
    assert 0.09 < good.loss < 0.12 < 0.9 < fresh.loss
    assert abs(figures.v_loss(shipped()[0], "train") - good.loss) < 0.01
    read, distance = figures.real_score()
    assert 0.9 < good.read < read  # "fewer than 10 of 100"; "misreads more of these digits than of real ones"
    assert distance < good.distance


def test_the_shipped_2_is_none():
    """The lesson says so of the ten digits that it shows."""
    judge, _ = figures._judge()
    with torch.no_grad():
        read = judge(explorer.ten_digits(shipped()[0]).clamp(-1, 1)).argmax(1).tolist()
    assert [digit for digit in range(10) if read[digit] != digit] == [2]


def test_the_floor_falls_and_has_a_hump_where_clouds_run_into_each_other():
    """Alone, a cloud of data has a floor that only falls; with eight it rises where they begin to overlap."""
    _, lowest, _ = figures.ring_losses()
    assert lowest[0] > 0.7
    assert lowest[-1] < 0.01
    assert lowest[1] < lowest[3] > lowest[4]
    ring, levels = data.ring(), schedules.cosine().alpha_bar
    alone = oracle.GaussianMixture([1.0], ring.means[:1], ring.covariances[:1])
    _, single, _ = figures.split_loss(NoSight(alone), alone)
    assert all(b < a for a, b in pairwise(single.tolist()))
    x0, label = ring.sample(4000, torch.Generator().manual_seed(0))
    own = []
    for t in (150, 350):
        x_t = process.add_noise(x0, data.noise(*x0.shape), levels[t].item())
        own.append((torch.cdist(x_t, levels[t].sqrt() * ring.means).argmin(1) == label).double().mean().item())
    assert own[0] > 0.9 > 0.7 > own[1]  # the nearest cloud is the one that a point came from


class NoSight:
    """A network that always answers 0."""

    def __init__(self, mixture):
        self.schedule = schedules.cosine()

    def __call__(self, x, t):
        return torch.zeros_like(x)


def test_the_best_multiple_of_one_number_leaves_alpha_bar():
    """The folded two lines: the loss of c x is 1 - 2 c sqrt(1 - ab) + c^2, smallest at c = sqrt(1 - ab)."""
    x0, eps = torch.randn(2, 400_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for ab in (0.36, 0.9):
        x_t, c = ab**0.5 * x0 + (1 - ab) ** 0.5 * eps, (1 - ab) ** 0.5
        for factor in (c, 0.5):
            loss = (eps - factor * x_t).square().mean().item()
            assert loss == pytest.approx(1 - 2 * factor * c + factor**2, abs=0.005)
        assert 1 - 2 * c * c + c**2 == pytest.approx(ab)


def test_the_loss_of_digits_is_thirty_times_as_high_early_as_late():
    """early-loss, and its 0.17 and 0.006; and that what is left is better there."""
    net, _ = shipped()
    x0, found = data.digits("test")[0][:100], {}
    eps = data.noise(*x0.shape).float()
    for t in (10, 900):
        ab = net.schedule.alpha_bar[t].item()
        x_t = process.add_noise(x0, eps, ab)
        with torch.no_grad():
            guess = net(x_t, torch.full((100,), t))
        left = process.predict_x0(x_t, guess, ab)
        found[t] = (guess - eps).square().mean().item(), (left - x0).square().mean().item()
    (early, good), (late, bad) = found[10], found[900]
    assert (early, late) == (pytest.approx(0.17, abs=0.01), pytest.approx(0.006, abs=0.001))
    assert 25 < early / late < 36
    assert good < 0.01 * bad


def test_the_comparison_names_the_steps_that_were_done(capsys, monkeypatch):
    monkeypatch.setattr(figures, "score", lambda net: figures.Score(0.1, 0.9, 1.0))
    tables, rows = [], []
    monkeypatch.setattr(figures.plots, "table", lambda columns, text: tables.append(columns))
    monkeypatch.setattr(figures.plots, "image_rows", lambda shown, text: rows.append(list(shown)))
    trainer = tiny_trainer(4)
    trainer.step()
    monkeypatch.setattr(trainer, "step_count", 3)
    figures.compare(trainer, shipped()[0])
    assert rows == [["yours, 3 steps", "shipped, 6,000 steps"]]
    assert tables[0]["network"] == ["yours, 3 steps", "shipped, 6,000 steps", "real digits"]


def embedding_by_outer(t, width):
    rates = torch.logspace(0, -4, width // 2 + 1, dtype=torch.float64)[:-1]
    phase = torch.outer(t.double(), rates)
    return torch.cat((torch.sin(phase), torch.cos(phase)), dim=-1)


def embedding_in_loops(t, width):
    half = width // 2
    rows = []
    for time in t.tolist():
        phases = [time * math.exp(-math.log(10_000) * i / half) for i in range(half)]
        rows.append([math.sin(p) for p in phases] + [math.cos(p) for p in phases])
    return torch.tensor(rows, dtype=torch.float64)


def loss_with_where(net, x0, label, alpha_bar, p_drop, generator):
    B = x0.shape[0]
    t = torch.randint(1, len(alpha_bar), (B,), generator=generator)
    eps = torch.randn(*x0.shape, generator=generator)
    label = torch.where(torch.rand(B, generator=generator) < p_drop, net.num_classes, label)
    x_t = as_column(alpha_bar[t], x0) ** 0.5 * x0 + as_column(1 - alpha_bar[t], x0) ** 0.5 * eps
    return F.mse_loss(net(x_t, t, label), eps)


def loss_with_library(net, x0, label, alpha_bar, p_drop, generator):
    t = 1 + torch.randint(len(alpha_bar) - 1, (len(x0),), generator=generator)
    eps = torch.empty_like(x0).normal_(generator=generator)
    label = label.clone()
    label[torch.rand(label.shape, generator=generator) < p_drop] = net.num_classes
    error = net(process.add_noise(x0, eps, alpha_bar[t]), t, label) - eps
    return error.flatten(1).pow(2).mean(1).mean().item()


def loss_by_time_summed(t, loss, T):
    tenth = ((t - 1) * 10).div(T, rounding_mode="floor")
    total = torch.zeros(10, dtype=loss.dtype).index_add_(0, tenth, loss)
    return total / torch.bincount(tenth, minlength=10)


def loss_by_time_in_lists(t, loss, T):
    parts = [[] for _ in range(10)]
    for time, value in zip(t.tolist(), loss.tolist(), strict=True):
        parts[math.floor(10 * (time - 1) / T)].append(value)
    return torch.tensor([sum(part) / len(part) for part in parts], dtype=torch.float64)


ANSWERS = {
    "lowest-loss": lambda: 1 - oracle.GaussianMixture([1.0], [[0]], [[[1.0]]]).eps(number(1), 0.36).item() ** 2,
    "blind-loss": lambda: 1 - (1 - schedules.linear().alpha_bar[1:]).sqrt().mean().item() ** 2,
    "sum-or-mean": lambda: 23.52 / math.prod(data.digits()[0].shape[1:]),
}


RIGHT = {
    "loss_per_sample": (
        lambda p, eps: F.mse_loss(p, eps, reduction="none").mean(dim=tuple(range(1, p.ndim))),
        lambda p, eps: torch.stack([((a - b) ** 2).sum() / a.numel() for a, b in zip(p, eps, strict=True)]),
    ),
    "ema_update": (
        lambda slow, fast, decay: slow.lerp(fast, 1 - decay),
        lambda slow, fast, decay: fast + decay * (slow - fast),
    ),
    "time_embedding": (embedding_by_outer, embedding_in_loops),
    "training_loss": (loss_with_where, loss_with_library),
    "loss_by_time": (loss_by_time_summed, loss_by_time_in_lists),
    "change_with_time": (
        lambda net, x, t, other: (net(x, other) - net(x, t)).norm() / x.numel() ** 0.5,
        lambda net, x, t, other: F.mse_loss(net(x, t), net(x, other)).item() ** 0.5,
    ),
}
