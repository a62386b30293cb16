"""Lesson 14's deeper notebook: what its prose says in numbers, computed again."""

import math
import re

import nbformat
import pytest
import torch
from torch.nn import functional as F

from lessons_src import data, latency, measurements, weights
from lessons_src.evaluation import accuracy
from lessons_src.export import to_diffusers
from lessons_src.lessons.lesson_13.memory import verdict
from lessons_src.lessons.lesson_13.stored import seen, stored
from lessons_src.lessons.lesson_14 import deeper, on_digits, scope, shipping
from lessons_src.lessons.lesson_14.linter import NEEDED, lint
from lessons_src.lessons.lesson_14.paradigms import PARADIGMS
from lessons_src.make.pages import NOTEBOOKS
from lessons_src.metrics import two_sample_test
from lessons_src.show import plots

pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # diffusers' own, on numpy
PATH = NOTEBOOKS / "deeper" / "14_choosing_and_shipping.ipynb"
CELLS = {cell.id: cell for cell in nbformat.read(PATH, as_version=4).cells}


@pytest.fixture(scope="module")
def net():
    return weights.load("digits")[0]


@pytest.fixture(scope="module")
def pipe(net, tmp_path_factory):
    folder = tmp_path_factory.mktemp("there")
    to_diffusers(net, folder)
    return shipping.opened(folder)


@pytest.fixture(scope="module")
def noise():
    return torch.randn(10, 1, 28, 28, generator=deeper.seeded(3)), torch.arange(10)


@pytest.fixture
def said(monkeypatch):
    """What tables say, in the order shown."""
    found = []
    monkeypatch.setattr(plots, "table", lambda columns, text=None: found.append((columns, text)))
    monkeypatch.setattr(plots, "image_rows", lambda rows, text: found.append((rows, text)))
    return found


def rms(a, b):
    return (a - b).square().mean().sqrt().item()


# --- Four losses, and digits


def test_the_critics_loss_rises_while_samples_get_better():
    """Prediction which-loss-tells: the GAN's rises, the others' fall. Here fewer steps are made."""
    found = {}
    for row in CELLS["losses-see"].outputs[-1].data["text/markdown"].splitlines()[2:14]:
        name, steps, losses, far = (cell.strip() for cell in row.strip("|").split("|"))
        found[name, int(steps)] = [float(loss) for loss in losses.split(", ")], float(far)
    assert len(found) == 12
    for name in PARADIGMS:
        (first, far), (middle, _), (last, near) = (found[name, steps] for steps in (100, 400, 1600))
        assert near < far / 1.5
        assert (first[0] < middle[0] < last[0]) is (name == "GAN")
        assert (first[0] > middle[0] > last[0]) is (name != "GAN")
    assert found["GAN", 400][1] > found["GAN", 100][1], "from 100 to 400 steps samples got no better"
    for name in ("GAN", "diffusion"):
        (first, far), (last, near) = (
            deeper.after(name, steps) for steps in ((50, 600) if name == "GAN" else (50, 200))
        )
        assert near < far / 1.2
        assert (last[0] - first[0] > 0.1) is (name == "GAN")


def test_the_gan_gives_up_shares(said):
    deeper.show_losers()
    columns = dict(said[0][0])
    largest, smallest = ([float(x) for x in columns[name]] for name in ("largest cluster, %", "smallest cluster, %"))
    assert columns["paradigm"][largest.index(max(largest))] == "GAN"
    assert columns["paradigm"][smallest.index(min(smallest))] == "GAN"
    assert columns["nats lost"][1] == "unknown"
    nats = [[float(x) for x in text.split(", ")] for text in columns["nats lost"] if text != "unknown"]
    assert all(0 < x < 1 for found in nats for x in found), "no model beats the ring"
    strays = [[int(x) for x in text.split(", ")] for text in columns["strays, %"]]
    rows = measurements.load("paradigms")
    for name, found in zip(columns["paradigm"], strays, strict=True):
        assert found == [round(100 * row["stray"]) for row in rows if row["paradigm"] == name]


def test_shares_of_the_ring_are_equal():
    shares = deeper.cluster_shares(deeper.RING.sample(40_000, deeper.seeded())[0])
    assert shares.sum().item() == pytest.approx(1)
    assert shares.tolist() == pytest.approx([1 / 8] * 8, abs=0.01)


def test_digits_in_equal_seconds(said):
    """Prediction seconds-on-digits, and the section around it, for both seeds."""
    deeper.show_digits()
    rows = {name: deeper.drawers(name) for name in on_digits.DRAWERS}
    shown = said[1][0]
    for column, key in {"Fréchet": "frechet", "precision": "precision", "recall": "recall", "ms a digit": "ms"}.items():
        for text, found in zip(shown[column], rows.values(), strict=True):
            assert [float(x) for x in text.split(", ")] == pytest.approx([row[key] for row in found], rel=0.1)
    assert all([row["seed"] for row in found] == [0, 1] for found in rows.values())
    assert min(row["precision"] for row in rows["GAN"]) > max(row["precision"] for row in rows["VAE"])
    assert max(row["recall"] for row in rows["GAN"]) < min(row["recall"] for row in rows["VAE"])
    best = rows.pop("diffusion")
    for found in rows.values():
        for key, sign in (("frechet", 1), ("kernel", 1), ("precision", -1), ("recall", -1), ("accuracy", -1)):
            assert max(sign * row[key] for row in best) < min(sign * row[key] for row in found), key
    assert min(row["ms"] for row in best) > 100 * max(row["ms"] for found in rows.values() for row in found)


@pytest.mark.parametrize("name", on_digits.DRAWERS)
def test_a_drawer_learns(name):
    """A few steps: no loss is broken, and drawings have their form."""
    ticks = iter(range(1000))
    model, steps = on_digits.train(name, 0, 4, lambda: float(next(ticks)))
    x, ms = on_digits.drawn(model, 10)
    assert steps == 3
    assert x.shape == (10, 1, 28, 28)
    assert ms > 0
    losses = list(model.losses(*(part[:8] for part in data.digits("train"))))
    assert len(losses) == len(model.parts())
    assert all(loss.isfinite() for loss in losses)


def test_one_spread_and_nats_a_pixel_are_the_bound():
    """The VAE's loss is the KL and the Gaussian error of its paper, over the pixels, up to a constant."""
    model = on_digits.VAE().eval()
    x, label = (part[:6] for part in data.digits("train"))
    torch.manual_seed(0)
    with torch.no_grad():
        (loss,) = model.losses(x, label)
        torch.manual_seed(0)
        mean, log_std = model.encoder(x, label).chunk(2, 1)
        posterior = torch.distributions.Normal(mean, log_std.exp())
        z = mean + log_std.exp() * torch.randn_like(mean)
        drawn = model.decoder(torch.cat([z, on_digits.one_hot(label)], 1))
        log = torch.distributions.Normal(drawn, model.log_std.exp()).log_prob(x).flatten(1).sum(1)
        kl = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum(1)
    assert loss.item() == pytest.approx((-(log - kl).mean() / 784).item() - 0.5 * math.log(2 * math.pi), abs=1e-5)


# --- Enlarging


def test_the_mean_is_nearest_and_no_digit(net):
    """Prediction nearest-in-pixels, and the sentences below it."""
    judge, (test, label) = weights.load("judge")[0], data.digits("test")
    x, known = test[:30], deeper.small(test[:30])
    many = torch.stack([deeper.enlarge(net, known, seed) for seed in range(6)])
    smooth = F.interpolate(known, scale_factor=4, mode="bicubic")
    answers = {"mean": many.mean(0), "bicubic": smooth, "blocks": deeper.large(known), "one": many[0]}
    errors = {name: rms(a, x) for name, a in answers.items()}
    assert sorted(errors, key=errors.get) == ["mean", "bicubic", "blocks", "one"]
    for a in (many[0], many[5], answers["mean"]):
        assert torch.allclose(deeper.small(a), known, atol=1e-5)
    assert (deeper.small(smooth) - known).abs().max() > 0.1
    grey = {name: (a.abs() < 0.6).double().mean() for name, a in answers.items()}
    assert grey["one"] < 0.6 * grey["mean"]
    read = {name: accuracy(judge, a, label[:30]) for name, a in answers.items()}
    assert read["bicubic"] < read["blocks"] < min(read["one"], read["mean"])
    assert read["one"] < 0.8, "some are read as another digit"


# --- diffusers


def test_scales_up_to_one_mean_one(net, pipe, noise):
    right = deeper.ours(net, *noise, "DDIM", 1.0, double=True)
    for scale in (0.0, 0.5, 1.0):
        assert rms(deeper.theirs(pipe, *noise, "DDIM", scale), right) < 1e-4
    assert rms(right, deeper.ours(net, *noise, "DDIM", 0.5, double=True)) > 0.2


@pytest.mark.parametrize("solver", deeper.KINDS)
def test_solvers_agree_guided(net, pipe, noise, solver):
    there, here = (deeper.theirs(pipe, *noise, solver, 3.0), deeper.ours(net, *noise, solver, 3.0, double=True))
    middle, worst = deeper.largest(here, there)
    assert middle < 1e-5
    assert worst < 1e-3


def test_clipping_changes_pictures_and_thirty_steps_leave_the_grid(net, pipe, noise):
    right = deeper.ours(net, *noise, "DDIM", 3.0, double=True)
    assert rms(deeper.theirs(pipe, *noise, "DDIM", 3.0, clip_sample=True), right) > 0.3
    assert "expected strides of T // steps = 33" in CELLS["traps-more"].outputs[0].text


def test_where_spacings_begin():
    starts = deeper.starts()
    assert [times.split(",")[0] for times in starts["our times"]] == ["951", "1000", "1000"]
    assert [float(left) > 0.05 for left in starts["√ᾱ at the start"]] == [True, False, False]


def test_a_slip_in_time_matters_at_the_end_only(net):
    assert deeper.slip(net, 1000) > 10
    assert deeper.slip(net, 500) < 0.01


def test_float32_loses_in_the_first_step(net, noise):
    """Prediction float-loses: worst pixel near a thousandth; and the line where it happens."""
    for solver in deeper.KINDS:
        for w in (1.0, 3.0):
            runs = (deeper.ours(net, *noise, solver, w, double) for double in (True, False))
            middle, worst = deeper.largest(*runs)
            assert 1e-5 < middle < 1e-2, (solver, w)
            assert 1e-4 < worst < 1e-2, (solver, w)
    ab, x = net.schedule.alpha_bar[-1], noise[0]
    with torch.no_grad():
        v = net.output(x, torch.full((10,), 1000), noise[1])
    a, b = ab.sqrt(), (1 - ab).sqrt()
    exact = a * x.double() - b * v.double()
    around = (x - b.float() * (a.float() * v + b.float() * x)) / a.float()
    assert (around - exact).abs().max() > 1e-4
    assert (a.float() * x - b.float() * v - exact).abs().max() < 1e-6


def test_onnx_missing_is_one_sentence(net, tmp_path, monkeypatch):
    monkeypatch.setattr(deeper, "find_spec", lambda name: None)
    assert deeper.onnx_says(net, tmp_path / "net.onnx").startswith("onnxruntime is not installed here")
    assert "differ from torch's by less than 0.00001" in CELLS["onnx-see"].outputs[0].text, "the stored result"


# --- Time, policy, claims


def test_sixteen_at_once_take_less_than_sixteen_times_as_long(net):
    """Prediction sixteen-at-once, where this test runs."""
    speed = latency.measure(net, batches=(1, 16), turns=5)
    assert 1.5 < speed.seconds(16) / speed.seconds(1) < 14


def test_students_gain_twice_by_guidance():
    costs = latency.cost_table()
    for cost in costs:
        gain = costs[0].guided / cost.guided / cost.speed_up
        assert gain == (2 if cost.name.startswith("student") else 1)


def test_copies_and_origin():
    assert verdict(64, "pixels").suspects.low > 0.9
    assert verdict(8000, "pixels").suspects.high < 0.05
    for features in stored("features")[0].values():
        right = two_sample_test(features.double(), seen("test").double(), deeper.seeded()).accuracy
        assert 0.55 < right < 2 / 3, "wrong in more than a third"


def test_marks_survive_use_and_not_a_wish(said):
    deeper.show_marks()
    kept = dict(zip(*said[0][0].values(), strict=True))
    assert [kept[name] for name in ("nothing", "stored in 256 greys", "noise of 0.2")] == ["100%"] * 3
    assert all(float(kept[name].rstrip("%")) <= 8 for name in ("moved by one pixel", "drawn again from t = 300"))


def test_every_category_has_an_instrument_or_none():
    rows = CELLS["policy-table"].outputs[0].data["text/markdown"]
    assert all(name in rows for name in scope.CATEGORIES)


@pytest.mark.parametrize(
    ("sentence", "missing"),
    [
        ("Our sampler is 20x faster.", list(NEEDED)),
        ("Our sampler is 20-fold faster than DDIM.", list(NEEDED)[:-1]),
        ("DDIM needs 50 steps.", ["guidance", "quality"]),
        ("An image takes 0.2 s.", list(NEEDED)[:-1]),
        ("Six guided passes, an order of magnitude below DDPM.", ["hardware", "batch", "quality", "steps"]),
        ("On one H100, batch 16, 20 guided steps take 0.2 s, 5x less than DDIM, at FID 4.7.", []),
        ("Diffusion is slow.", []),
        ("It has 50 layers.", []),
    ],
)
def test_the_linter(sentence, missing):
    assert lint(sentence) == missing


def test_keys_and_their_numbers():
    """Six keys, and the numbers beside them."""
    rows = CELLS["keys-table"].outputs[0].data["text/markdown"].splitlines()[2:8]
    assert [row.split("|")[2].strip() for row in rows] == list("BBBABB")
    assert "0.094 and 0.141" in rows[0]
    assert math.sqrt(8 / 9) * 0.1 == pytest.approx(0.0943, abs=1e-4)
    assert math.sqrt(0.1 * 0.2) == pytest.approx(0.1414, abs=1e-4)
    assert "6.5 beyond" in rows[1]
    assert "with half 0.500" in rows[2]
    aware, clean = (next(r["right"] for r in measurements.load("reading") if r["guide"] == g and r["t"] == 500)
                    for g in ("noise-aware", "clean"))  # fmt: skip
    assert f"{aware / 2000:.0%} and {clean / 2000:.0%}" in rows[3]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: deeper.after("GAN", 0), "steps is 0; expected a whole number, at least 1"),
        (lambda: deeper.drawers("flow"), "name is 'flow'; expected one of 'diffusion', 'GAN', 'VAE'"),
        (lambda: deeper.ours(None, None, None, "Euler", 1.0), "solver is 'Euler'; expected one of"),
        (lambda: deeper.theirs(None, None, None, "Euler", 1.0), "solver is 'Euler'; expected one of"),
        (lambda: deeper.enlarge(None, torch.zeros(2, 1, 14, 14), 0), "expected small digits of shape (B, 1, 7, 7)"),
        (lambda: deeper.slip(weights.load("digits")[0], 1), "t is 1; expected a whole number from 2 to 1000"),
        (lambda: deeper.mark(2.0), "strength is 2.0; expected a finite number in [0, 1]"),
        (lambda: deeper.show_marks(5000), "n is 5000; expected a whole number from 1 to 1999"),
        (lambda: deeper.starts(0), "steps is 0; expected"),
        (lambda: on_digits.train("GAN", 0, -1.0), "seconds is -1.0; expected a finite number in"),
        (lambda: on_digits.drawn(on_digits.GAN(), 0), "n is 0; expected a whole number, at least 1"),
        (lambda: lint(None), "sentence is None; expected a string"),
    ],
)
def test_bad_input_is_refused(make, said):
    with pytest.raises((TypeError, ValueError)) as error:
        make()
    assert said in str(error.value)


def test_links_in_tables_lead_somewhere():
    text = " ".join(str(output.get("data", {})) for cell in CELLS.values() for output in cell.get("outputs", ()))
    links = set(re.findall(r"\]\(([^)\s]+\.ipynb)\)", text))
    assert len(links) > 10
    for target in links:
        assert (PATH.parent / target).exists(), target


def test_pixels_of_two():
    """An edge of two pixels: the mean of the answers has half the squared error of a sample."""
    rows = CELLS["enlarge-two"].outputs[0].data["text/markdown"].splitlines()[2:4]
    sample, mean = (float(row.split("|")[4]) for row in rows)
    assert mean == pytest.approx(sample / 2, abs=0.05)
