"""Lesson 12: its explorer, the functions of its cells, its figures, what was measured, and what it says in numbers."""

import copy
import math

import nbformat
import pytest
import torch
from test_lesson_12_exercises import CLAIMS, RIGHT  # noqa: F401 - for the tests of every lesson
from torch.nn import functional as F

from lessons_src import measurements
from lessons_src.lessons.lesson_12 import explorer, figures, measured, taught
from lessons_src.losses import Denoising
from lessons_src.make import scenes as shipping
from lessons_src.make.pages import NOTEBOOKS
from lessons_src.metrics import wilson_interval
from lessons_src.scene_checker import UNSURE, Reading, read
from lessons_src.scenes import ABSENT, HELD, SETS, combinations, draw, paint, parse, tokens, trained, write
from lessons_src.schedules import cosine
from lessons_src.show import plots, quiz
from lessons_src.show.panels import colour
from lessons_src.text_to_image import illustrate
from lessons_src.training import Trainer

ANSWERS = {
    "numbers-saved": lambda: torch.Size((3, 1024, 1024)).numel() / torch.Size((32, 32, 32)).numel(),
    "snr-of-unscaled": lambda: 5.5**2,
}


def cells():
    notebook = nbformat.read(NOTEBOOKS / "12_latent_diffusion.ipynb", as_version=4)
    return {cell.id: cell.source for cell in notebook.cells}


def test_near_misses_are_the_mistakes_that_they_name():
    assert (1024 / 32, 1024**2 / 32**2) == (32, 1024)
    assert 2 * math.log(5.5) == pytest.approx(3.41, abs=0.005)
    assert 2 * math.log(8) == pytest.approx(4.2, abs=0.05)


# --- The functions of the cells


def test_attention_in_the_cell_is_torchs(capsys):
    found = {"torch": torch}
    exec(cells()["attend"].split("\n\n\n")[0], found)
    figures.compare(found["attention"])
    assert "the same as torch's: True" in capsys.readouterr().out
    q, k, v = (torch.randn(3, n, 8, generator=torch.Generator().manual_seed(n), dtype=torch.float64) for n in (5, 7, 7))
    torch.testing.assert_close(found["attention"](q, k, v), F.scaled_dot_product_attention(q, k, v))


def test_scaled_latents_shift_log_snr_by_twice_the_log():
    ab = cosine().alpha_bar[1:]
    shift = (5.5**2 * ab / (1 - ab)).log() - (ab / (1 - ab)).log()
    torch.testing.assert_close(shift, torch.full_like(ab, 2 * math.log(5.5)))


# --- The explorer


def picture(relation="left of", w=2.0, steps=12, shape="circle", kind="small red", seed=0, solver="DPM-Solver++(2M)"):
    return explorer.captions_picture(kind, shape, relation, "large blue", "triangle", w, solver, seed, steps)


def test_a_picture_of_the_explorer():
    shown = picture(steps=4)
    assert shown.formula == ("“a small red circle left of a large blue triangle”",)
    (panel,) = shown.panels
    assert panel.frames.shape == (5, explorer.SHOWN, 32, 32, 3)
    assert shown.frame_names == ("t = 1000", "t = 750", "t = 500", "t = 250", "t = 0")
    net, codec = explorer.shipped()
    asked = parse([shown.formula[0][1:-1]] * explorer.SHOWN)
    ends = illustrate(net, codec, tokens(write(asked)), 2.0, measured.noise_of(explorer.SHOWN, 0), 4)
    assert abs(panel.frames[-1].astype(int) - colour(ends).astype(int)).max() <= 1, "the library's own function"
    assert len(explorer.explore_captions().picture.png()) < 100_000


def test_labels_tell_what_the_checker_reads():
    scenes = draw(combinations()["two seen"], 20, torch.Generator().manual_seed(0))
    captions = write(scenes)
    for k in range(20):
        right, words = explorer.verdicts(paint(scenes[k : k + 1]), captions[k])
        assert (words, right["all"]) == (["✓ all right"], [True])
    _, words = explorer.verdicts(paint(figures.scene("a large red circle")), "a small red star")
    assert words == ["✗ shape, size"]
    _, words = explorer.verdicts(paint(figures.scene("a large red circle")), "a large green circle")
    assert words == ["✗ hue"]


def test_the_noise_stays_when_a_word_changes_and_samplers_differ():
    first, other = (picture(kind=kind, steps=2).panels[0].frames for kind in ("small red", "small green"))
    assert (first[0] == other[0]).all()
    assert (first[-1] != other[-1]).any()
    ends = [picture(solver=solver, steps=6).panels[0].frames[-1] for solver in explorer.OFFERED]
    assert all((ends[0] != end).any() for end in ends[1:])


def test_two_objects_of_one_hue_are_not_drawn_and_nothing_jumps():
    shown, other = picture(kind="large blue", steps=2), picture(steps=2)
    assert "never share a hue" in shown.text
    assert shown.panels[0].frames.shape == other.panels[0].frames.shape[:-1]
    assert shown.frame_names == other.frame_names
    assert "all right" in picture("alone", kind="large blue", steps=1).text


def test_the_second_objects_menus_rest_while_there_is_none():
    controls = {control["name"]: control for control in explorer.explore_captions()._controls}
    assert [name for name, control in controls.items() if control.get("unless")] == ["other_kind", "other_shape"]


def right_of_four(shape, w):
    return int(picture("alone", w=w, shape=shape).text.split("finds ")[1][0])


def test_the_dares():
    """w = 0 knows nothing, and at w = 12 shapes break first; a changed hue moves the object."""
    assert right_of_four("circle", 0.0) == right_of_four("square", 0.0) == 0
    found = picture(w=12.0)
    wrong = {part.split(" in ")[0]: int(part[-1]) for part in found.text.rstrip(".").split("wrong: ")[1].split(", ")}
    assert max(wrong, key=wrong.get) == "shape"
    for name in SETS:
        (row,) = (row for row in measurements.load("captions") if (row["set"], row["w"]) == (name, 12.0))
        assert row["shown"]["shape"] == min(row["shown"][part] for part in ("count", "hue", "shape", "size"))
    net, codec = explorer.shipped()
    scenes = draw(combinations()["one seen"], 40, torch.Generator().manual_seed(0))
    hue = scenes.hue.clone()
    hue[:, 0] = (hue[:, 0] + 2) % 6
    other = type(scenes)(
        scenes.count, hue, *(getattr(scenes, part) for part in ("shape", "size", "relation", "x", "y", "radius"))
    )
    before, after = (read(measured.pictures(net, codec, asked, 2.0)) for asked in (scenes, other))
    moved = torch.hypot((before.x - after.x)[:, 0], (before.y - after.y)[:, 0]).median().item()
    assert 3 < moved < 7


def test_a_square_that_was_never_trained_breaks_near_8():
    assert ("red", "square") in HELD
    assert [right_of_four("square", w) for w in (1.0, 2.0, 5.0)] == [4] * 3
    assert right_of_four("square", 8.0) < 4
    assert right_of_four("square", 10.0) == 0
    assert right_of_four("circle", 8.0) > right_of_four("square", 8.0)


# --- What is stored


def rows_of(name):
    return measurements.load(name)


def test_leakage_is_counted_by_hand():
    """Asked: a small red circle and a large blue star; read: red has the star's shape, blue is missing, and so on."""
    asked = parse(["a small red circle left of a large blue star"] * 4)
    hues, shapes = [[0, 4], [4, 0], [0, ABSENT], [0, 4]], [[0, 3], [3, 3], [1, ABSENT], [UNSURE, 0]]
    sizes = [[0, 1], [1, 0], [0, ABSENT], [UNSURE, 1]]
    count, place = torch.tensor([2, 2, 1, 2]), torch.zeros(4, 2)
    reading = Reading(count, *map(torch.tensor, (hues, shapes, sizes)), torch.zeros(4).long(), place, place, place)
    assert measured.leakage(reading, asked) == {"shape": [3, 2, 1, 1, 1], "size": [6, 0, 0, 1, 1]}
    alike = parse(["a small red star left of a small blue star"])
    assert sum(measured.leakage(reading[:1], alike)["shape"]) == 0


def test_a_row_of_captions_can_be_measured_again(monkeypatch):
    monkeypatch.setattr(measured, "JUDGED", 40)
    again = measured.measured_captions("two of held", 2.0)
    assert again["n"] == 40
    assert again["shown"]["all"] >= 36
    assert sum(again["leakage"]["shape"]) <= 80
    monkeypatch.setattr(measured, "JUDGED", 10)
    found = measured.measured_captions("one seen", 0.0)
    assert "leakage" not in found
    assert found["stricter"] <= found["shown"]["all"]


def test_captions_are_those_of_the_card():
    a, b = measured.asked_for("two held", 30), shipping.asked_for("two held", 30)
    assert write(a) == write(b)
    net, codec = explorer.shipped()
    assert torch.equal(
        measured.pictures(net, codec, a[:2], 2.0), shipping.pictures(net, codec, b[:2], 2.0, measured.SEED)
    )


def test_latents_are_scaled_and_scaled_back(monkeypatch):
    codec = explorer.shipped()[1]
    z = measured.noise_of(2)
    torch.testing.assert_close(measured.Scaled(codec, 8.0).decode(8 * z), codec.decode(z))
    monkeypatch.setattr(measured, "JUDGED", 10)
    monkeypatch.setattr(measured, "STEPS", 2)
    monkeypatch.setattr(measured, "SCENES", 40)
    monkeypatch.setattr(measured, "small_recipe", lambda steps, seed: measured.Recipe(2, 4, seed=seed, warmup=1))
    assert measured.measured_scale(4.0, 1)["n"] == 10


def test_the_scale_trap():
    """Prediction latents-undivided: about half at 1, hardly any at 8, less on either side."""
    found = {factor: sum(span.value for span in spans) / 2 for factor, spans in figures.scales().items()}
    assert 0.4 < found[1.0] < 0.6
    assert found[8.0] < 0.1
    assert found[0.125] < 0.7 * found[1.0]
    assert found[1.0] > found[2.0] > found[8.0]
    rows = [row for row in rows_of("latent scale") if row["factor"] == 8.0]
    for row in rows:
        assert row["shown"]["count"] / row["n"] > 0.6
        assert row["shown"]["hue"] / row["n"] > 0.6
        assert row["shown"]["shape"] / row["n"] < 0.1


def test_captions_never_trained_come_out_right():
    """Prediction never-seen, the aims, and where it stops."""
    for name in ("one held", "two held", "two of held"):
        assert figures.shares(name)[2.0].low > 0.95
    assert figures.shares("one seen")[2.0].low > 0.98
    for name in SETS[:2]:
        assert figures.shares(name)[0.0].high < 0.05
    seen, held = (figures.shares(name) for name in ("one seen", "one held"))
    assert held[2.0].high > seen[2.0].low, "as many as of trained ones"
    assert held[12.0].high < seen[12.0].low, "what was never trained breaks first"
    assert held[8.0].high < held[5.0].low
    for name in SETS:
        found = figures.shares(name)
        assert found[2.0].low > found[1.0].high or name.startswith("one"), name
        assert found[12.0].high < found[8.0].low < found[2.0].low


def test_what_hangs_on_the_limits_of_the_checker():
    """At w = 2 little, at 12 more."""
    for name in SETS[:2]:
        rows = {row["w"]: row for row in measurements.load("captions") if row["set"] == name}
        kept = {w: row["stricter"] / row["shown"]["all"] for w, row in rows.items() if w >= 2}
        assert kept[2.0] > 0.99
        assert kept[12.0] < 0.95


def test_no_training_scene_has_what_is_held():
    scenes = draw(combinations()["one seen"], 2000, torch.Generator().manual_seed(2))
    pairs = {(hue, shape) for hue, shape in zip(scenes.hue[:, 0].tolist(), scenes.shape[:, 0].tolist(), strict=True)}
    assert len(pairs) == 18
    assert trained(scenes).all()
    text = next(item.text for item in quiz.load("lessons_src.lessons.lesson_12").items if item.id == "never-seen")
    assert all(f"{hue} {shape}" in " ".join(text.split()) for hue, shape in HELD)


def test_one_object_hardly_takes_what_is_the_others():
    for part in ("shape", "size"):
        for w in (2.0, 8.0):
            counts = figures.leaked(w, part)
            assert wilson_interval(counts[1], sum(counts)).high < 0.05
    counts = figures.leaked(12.0, "shape")
    assert counts[0] < 0.7 * sum(counts)
    assert counts[3] > 10 * counts[1], "what breaks is no shape at all"


def test_what_words_look_at():
    """Prediction which-word."""
    found = figures.pointing()
    assert found["its hue"].low > 0.95
    assert found["its shape"].low > 0.95
    assert 0.5 < found["its size"].value < 0.9
    assert found["a"].high < 0.05


def test_maps_add_up_to_one_over_the_words():
    maps = figures.word_maps(figures.scene(figures.CAPTION))
    assert maps.shape == (1, 10, 8, 8)
    torch.testing.assert_close(maps.sum(1), torch.ones(1, 8, 8))


# --- Figures and the live training


@pytest.fixture
def said(monkeypatch):
    """What figures say, in the order shown."""
    found = []
    monkeypatch.setattr(plots, "show", lambda fig, text: found.append(text))
    monkeypatch.setattr(plots, "table", lambda columns, text=None: found.append(columns))
    return found


def test_every_figure_is_drawn(said, monkeypatch):
    monkeypatch.setattr(figures, "milliseconds", lambda net, words: net.body.rows if hasattr(net.body, "rows") else 8.0)
    shows = [name for name in vars(figures) if name.startswith("show_") and name != "show_bill"]
    assert len(shows) == 10
    for name in shows:
        getattr(figures, name)()
    assert len(said) == len(shows)
    assert not [text for text in said if "nan" in str(text)]
    assert "3,072 numbers into 256" in said[0]
    figures.show_bill()
    bill = said[-1]
    assert bill["numbers"] == ["3,072", "256", "12"]
    assert bill["places"] == ["1,024", "64", "16"]
    assert 14 < float(bill["MFLOP a call"][2]) < 17


def test_a_scene_is_what_its_caption_says():
    for caption in (figures.CAPTION, "a large green star"):
        assert write(figures.scene(caption)) == [caption]


def test_processor_time_is_measured():
    net = measured.small_network().eval()
    assert 0 < figures.milliseconds(net, tokens(["a small red circle"]), 2, 1) < 1000


def test_the_training_is_followed(monkeypatch):
    """A few steps, shown as in a notebook; the last caption is of a combination that is held."""
    codec = explorer.shipped()[1]
    monkeypatch.setattr(measured, "SCENES", 60)
    seen, kept, bars = [], [], []

    class Shown:
        def __init__(self, picture):
            self.update(picture)

        def update(self, picture, **_):
            (bars if isinstance(picture, dict) else seen).append(picture)

        def keep(self):
            kept.append(seen[-1])

    monkeypatch.setattr(taught, "get_ipython", object)
    monkeypatch.setattr(taught, "display", lambda shown, **_: Shown(shown) if isinstance(shown, dict) else None)
    monkeypatch.setattr(taught, "Live", Shown)
    monkeypatch.setattr(taught, "ASKED", 4)
    trainer = Trainer(measured.small_network(), Denoising(), measured.single_scenes(codec), measured.small_recipe(6))
    start = copy.deepcopy(trainer.net.state_dict())
    taught.follow(trainer, codec, looks=3)
    assert trainer.step_count == 6
    assert any((start[key] != value).any() for key, value in trainer.net.state_dict().items())
    assert len(seen) == 2, "a curve needs two points"
    assert kept == seen[-1:]
    assert "6 of 6 steps" in bars[-1]["text/plain"]
    assert "After 6 of 6 steps" in kept[0].text
    assert (~trained(parse(taught.CAPTIONS))).tolist() == [False, False, False, True]


@pytest.mark.slow
def test_hues_are_learned_first_then_sizes_then_shapes():
    """In the first sixth of its minute. Over three seeds, of 100: hues 78 to 88, sizes 53 to 67, shapes 0 or 1."""
    codec, asked = explorer.shipped()[1], measured.asked_for("one seen", 100)
    trainer = Trainer(measured.small_network(), Denoising(), measured.single_scenes(codec), measured.small_recipe(100))
    for _ in trainer.run():
        pass
    right = measured.shown(measured.pictures(trainer.ema, codec, asked, taught.W), asked)
    assert right["hue"] > 65
    assert right["hue"] - right["size"] > 8
    assert right["size"] - right["shape"] > 30


def test_the_cell_trains_what_the_measurement_trains():
    source = cells()["train"]
    assert "Trainer(small_network(), Denoising(label_drop=0.1), samples, small_recipe())" in source
    assert repr(Denoising()) == repr(Denoising(label_drop=0.1))
    assert measured.small_recipe() == measured.Recipe(600, 32, 4e-3, warmup=50, ema=0.99)
    first, again = (measured.small_network().state_dict() for _ in range(2))
    assert all(torch.equal(value, again[name]) for name, value in first.items())
