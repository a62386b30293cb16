"""The widgets without a browser: what they accept, what they send, what they say when something goes wrong."""

import base64
import io
import re
import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image

from lessons_src.show.look import LINES, MARKS
from lessons_src.show.panels import colour
from lessons_src.show.widgets import Choice, Curves, Drawing, Explorer, Images, Live, Needles, Picture, Points, Slider

V, T = ValueError, TypeError
FRAMES = np.random.default_rng(0).normal(size=(5, 40, 2))
GREY = np.random.default_rng(1).integers(0, 256, (5, 3, 8, 6), dtype=np.uint8)
X = np.linspace(0.0, 1.0, 11)


def picture(steps: int = 4, grid: str = "uniform") -> Picture:
    return Picture(
        [
            Points("Samples", FRAMES * steps / 4, target=FRAMES[0, :7]),
            Curves("Schedule", X, {"linear": X, "cosine": X**2}, "t", "alpha_bar", (0, 1), marker=np.linspace(0, 1, 5)),
            Images("Digits", GREY, ["a", "b", "c"]),
        ],
        f"{steps} steps on the {grid} grid.",
        frame_texts=[f"Frame {k}." for k in range(5)],
    )


def explorer(compute=picture) -> Explorer:
    return Explorer(
        compute, [Slider("steps", "Steps", 1, 9, 1, 4), Choice("grid", "Grid", ["uniform", "log"], "uniform")]
    )


def gauge(**changed: object) -> Needles:
    """Three needles in bands from -2 to 2."""
    given = {"values": [0.0, 1.0, 2.0], "low": [-2] * 3, "high": [2] * 3}
    return Needles("n", **({"names": list("abc"), "label": "z"} | given | changed))


def ask(widget: Explorer, request: int, **values: object) -> None:
    """What arrives from the browser when a control moves."""
    widget.set_state({"_request": {"id": request, "values": values}})


# --- controls


def test_images_in_colour_keep_their_colours_live_and_stored():
    """Frames go to the browser as they are; the stored picture has each of six hues, as it has each grey."""
    hues = np.array([[230, 60, 50], [240, 210, 60], [60, 180, 80], [70, 200, 220], [60, 100, 235], [175, 80, 205]])
    frames = np.broadcast_to(hues.astype(np.uint8)[:, None, None], (6, 4, 4, 3))[None]
    panel = Images("i", frames)
    message = panel._message()
    assert (message["data"], tuple(message["shape"]), message["channels"]) == (frames.tobytes(), (6, 4, 4), 3)
    assert Images("i", GREY)._message()["channels"] == 1
    stored = np.asarray(Image.open(io.BytesIO(Picture([panel], "t").png())).convert("RGB")).reshape(-1, 3)
    seen = {tuple(colour) for colour in stored.tolist()}
    assert all(min(abs(np.subtract(hue, colour)).max() for colour in seen) <= 2 for hue in hues)
    x = torch.tensor(hues / 127.5 - 1)[None, :, :, None].movedim(2, 1).expand(1, 3, 6, 2)
    assert (colour(x.float())[0, :, 0] == hues).all()


def test_ints_stay_ints_and_floats_stay_floats():
    whole, real = Slider("n", "n", 1, 50, 1, 20), Slider("w", "w", -1, 8, 0.25, 3)
    assert (type(whole.value), type(whole.maximum)) == (int, int)
    assert (type(whole.read(7.0)), type(real.value), type(real.read(np.int64(2)))) == (int, float, float)
    assert Slider("e", "eta", 0, 1, 0.1, 0.3).read(0.1 + 0.2) == pytest.approx(0.3)


@pytest.mark.parametrize(("step", "decimals"), [(1, 0), (0.5, 1), (0.25, 2), (1e-4, 4), (10, 0)])
def test_a_slider_shows_as_many_decimals_as_its_step_has(step, decimals):
    assert Slider("s", "s", 0, 10 * step, step, step)._message()["decimals"] == decimals


def test_a_choice_returns_the_option_itself():
    choice = Choice("digit", "Digit", range(10), 7)
    assert choice.read(3) == 3
    with pytest.raises(ValueError, match=r"Choice 'digit': value is '3'; expected one of \[0, 1, "):
        choice.read("3")


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Slider("n steps", "n", 1, 5, 1, 1), V, "name is 'n steps'; expected the name of an argument"),
        (lambda: Slider("n", " ", 1, 5, 1, 1), V, "label of 'n' is ' '; expected text that is not empty"),
        (lambda: Slider("n", "n", 1, 5, 0, 1), V, "Slider 'n': step is 0; expected a number above 0"),
        (lambda: Slider("n", "n", 5, 5, 1, 5), V, "maximum is 5; expected more than minimum = 5"),
        (lambda: Slider("n", "n", 1, 5, 1, 9), V, r"Slider 'n': value is 9; expected a finite number in \[1, 5\]"),
        (lambda: Slider("n", "n", 1, 5, 1, 1.5), V, "value is 1.5; expected minimum = 1 plus whole steps of 1"),
        (lambda: Slider("n", "n", 0, 1, 0.3, 0), V, "maximum is 1; expected minimum = 0 plus whole steps of 0.3"),
        (lambda: Slider("n", "n", 1, 5, 1, "2"), T, "value is '2'; expected a finite number"),
        (lambda: Slider("n", "n", 1, float("inf"), 1, 2), V, "maximum is inf; expected a finite number"),
        (lambda: Slider("n", "n", False, 5, 1, 2), T, "minimum is False; expected a finite number"),
        (lambda: Slider("n", "n", torch.tensor(1), 5, 1, 2), T, "minimum is a tensor .*; expected a number, not"),
        (lambda: Choice("g", "g", [], "a"), V, r"Choice 'g': options is \(\); expected at least one"),
        (lambda: Choice("g", "g", [1, "1"], 1), V, r"options is \(1, '1'\); expected .* no two that read"),
        (lambda: Choice("g", "g", "abc", "a"), T, "options is 'abc'; expected a sequence of str or int"),
        (lambda: Choice("g", "g", [1, 1.5], 1), T, r"'g': options\[1\] is 1.5; expected str or int"),
        (lambda: Choice("g", "g", [True], True), T, r"'g': options\[0\] is True; expected str or int"),
        (lambda: Choice("g", "g", ["a"], "b"), V, r"value is 'b'; expected one of \['a'\]"),
        (lambda: Choice("g g", "g", ["a"], "a"), V, "name is 'g g'; expected the name of an argument"),
        (lambda: Points("p", FRAMES[0]), V, r"an array of shape \(40, 2\), float64; expected shape \(F, N, 2\)"),
        (lambda: Points("p", GREY[0]), V, r"shape \(3, 8, 6\), uint8; expected shape \(F, N, 2\)"),
        (lambda: Points("p", FRAMES[:0]), V, r"shape \(0, 40, 2\), float64; expected shape \(F, N, 2\)"),
        (lambda: Points("p", FRAMES * np.nan), V, r"Points frames is an array .* values \(400 are not\)"),
        (lambda: Points("p", FRAMES * 1e300), V, "expected finite values"),
        (lambda: Points("p", FRAMES.astype(str)), T, "Points frames is an array .*, <U.*; expected real numbers"),
        (lambda: Points("p", FRAMES, target=FRAMES), V, r"target is .*\(5, 40, 2\), .* shape \(M, 2\)"),
        (lambda: Points("p", FRAMES, names={1: "one"}), V, r"Points names is \{1: 'one'\}; expected one for .* \[0\]"),
        (lambda: Points("p", FRAMES, names={0: " "}), V, r"Points names\[0\] is .*; expected text"),
        (lambda: Points("p", FRAMES, target_name=""), V, "Points target_name is .*; expected text"),
        (lambda: Points("p", FRAMES, x_label=""), V, "Points x_label is ''; expected text"),
        (lambda: Points("p", FRAMES, x_ticks={9: "far"}), V, "Points x_ticks is 9; expected .* 3.5"),
        (lambda: Points("p", FRAMES, x_ticks={0: ""}), V, "Points x_ticks name is ''; expected text"),
        (lambda: Points("p", FRAMES, y_ticks={-4: "low"}), V, "Points y_ticks is -4; expected .* 3.5"),
        (lambda: Points("p", [[[1, 2], [3]]]), T, "Points frames is <class 'list'>; expected .*inhomogeneous"),
        (lambda: Points("p", torch.ones(1, 4, 2, requires_grad=True)), T, "frames is .*requires grad"),
        (lambda: Points("p", FRAMES, limit=0), V, "Points limit is 0.0; expected a number above 0"),
        (lambda: Points("", FRAMES), V, "Points title is ''; expected text that is not empty"),
        (lambda: Points(None, FRAMES), T, "Points title is None; expected text that is not empty"),
        (lambda: Curves("c", X[::-1], {"a": X}, "x", "y"), V, "x is .*; expected at least 2 strictly increasing"),
        (lambda: Curves("c", X, {}, "x", "y"), V, r"len\(Curves series\) is 0; .* from 1 to 6"),
        (lambda: Curves("c", X, {"a": X}, "x", ""), V, "Curves y_label is ''; expected text that is not empty"),
        (lambda: Curves("c", X, {1: X}, "x", "y"), T, "Curves series name is 1; expected text that is not empty"),
        (lambda: Curves("c", X, [X], "x", "y"), T, "series is <class 'list'>; expected a mapping from names"),
        (lambda: Curves("c", X, {"a": X[1:]}, "x", "y"), V, r"'a' is .*\(10,\), .*; expected shape \(11,\)"),
        (lambda: Curves("c", X, {"a": X}, "x", "y", (1, 0)), V, r"is \(1.0, 0.0\); expected .* low < high"),
        (lambda: Curves("c", X, {"a": X}, "x", "y", 1), T, r"y_range is 1; expected a pair \(low, high\)"),
        (lambda: Curves("c", X, {"a": X}, "x", "y", marker=[2.0]), V, "marker is .* values from 0.0 to 1.0"),
        (lambda: Curves("c", X, {"a": X}, "x", "y", (0, 1), y_ticks={2.0: "100"}), V, "y_ticks is 2.0; .* in .0, 1."),
        (lambda: Curves("c", X, {"a": X}, "x", "y", (0, 1), y_ticks={1.0: ""}), V, "y_ticks name is ''; expected text"),
        (lambda: Curves("c", X, {"a": X}, "x", "y", x_end=0.5), V, "Curves x_end is 0.5; expected"),
        (lambda: Images("i", GREY / 255), T, "Images frames is .*, float64; expected uint8"),
        (lambda: Images("i", GREY[0]), V, r"\(3, 8, 6\), uint8; expected shape \(F, K, H, W\)"),
        (
            lambda: Images("i", GREY[..., None]),
            V,
            r"\(5, 3, 8, 6, 1\), uint8; expected shape \(F, K, H, W, 3\)",
        ),
        (lambda: Images("i", GREY, ["a"]), V, r"len\(Images labels\) is 1; expected 3, one for each image"),
        (lambda: Images("i", GREY, ["a", " ", "c"]), V, r"Images labels\[1\] is ' '; expected text"),
        (lambda: Images("i", GREY, arrives=(0, 1)), V, r"Images arrives is \(0, 1\); expected a frame below .* of 3"),
        (lambda: Images(" ", GREY), V, "Images title is ' '; expected text that is not empty"),
        (lambda: gauge(names=["a"]), V, r"len\(Needles names\) is 1; expected 3, one for each value"),
        (lambda: gauge(values=[[1.0]]), V, r"Needles values is .*\(1, 1\), .*; expected shape \(K,\)"),
        (lambda: gauge(low=[-1, 3, -1]), V, r"Needles low is .*; expected less than high"),
        (lambda: gauge(span=0), V, "Needles span is 0; expected a finite number in"),
        (lambda: Picture([], "t"), T, r"Picture panels is \[\]; expected at least one"),
        (lambda: Picture(Images("i", GREY), "t"), T, "panels is <.*Images.*>; expected a sequence of Points"),
        (
            lambda: Picture([GREY], "t"),
            T,
            r"panels\[0\] is an array .*; expected Points or .* or Needles",
        ),
        (lambda: Picture([Points("p", FRAMES)], ""), V, "Picture text is ''; expected text that is not empty"),
        (lambda: Picture([Points("p", FRAMES)], "t", " "), V, "Picture frame_label is ' '; expected text"),
        (
            lambda: Picture([Points("p", FRAMES), Images("i", GREY[:3])], "t"),
            V,
            r"Picture panels, frames is \[5, 3\]; expected 1 or equally many",
        ),
        (lambda: Picture([Points("p", FRAMES)], "t", frame_names=["0"]), V, r"len\(Picture frame_names\) is 1; "),
        (lambda: Picture([Points("p", FRAMES)], "t", frame_texts="abcde"), T, "frame_texts is 'abcde'; expected a "),
        (lambda: Picture([Points("p", FRAMES)], "t", start=5), V, "start is 5; expected a frame from -5 to 4"),
        (lambda: Explorer(3, []), T, "compute is 3; expected a function"),
        (lambda: Explorer(picture, ["steps"]), T, r"controls\[0\] is 'steps'; expected Slider or Choice"),
        (lambda: Explorer(picture, [Slider("n", "n", 0, 1, 1, 0)] * 2), V, r"\['n', 'n'\]; expected each name once"),
        (lambda: explorer(lambda steps, grid: 3), T, "what compute returns or yields is 3; expected a Picture"),
        (lambda: explorer(lambda steps, grid: iter([])), T, "what compute returns or yields is None; expected"),
        (lambda: explorer(lambda steps, grid: iter([picture(), 3])), T, "compute returns or yields is 3; expec"),
        (lambda: explorer(lambda steps: 3), T, "unexpected keyword argument 'grid'"),
        (lambda: explorer(lambda steps, grid: 1 / 0), ZeroDivisionError, "division by zero"),
        (lambda: Live("picture"), T, "picture is 'picture'; expected a Picture"),
        (lambda: Live(picture()).update(3), T, "picture is 3; expected a Picture"),
    ],
)
def test_mistakes_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


# --- what is sent


def test_buffers_hold_the_arrays():
    points, curves, images = (panel for panel in explorer()._answer["panels"])
    np.testing.assert_array_equal(np.frombuffer(points["data"], np.float32).reshape(5, 40, 2), np.float32(FRAMES))
    np.testing.assert_array_equal(np.frombuffer(points["target"], np.float32).reshape(7, 2), np.float32(FRAMES[0, :7]))
    np.testing.assert_array_equal(np.frombuffer(curves["x"], np.float32), np.float32(X))
    np.testing.assert_array_equal(np.frombuffer(curves["data"], np.float32), np.float32([*X, *X**2]))
    np.testing.assert_array_equal(np.frombuffer(curves["marker"], np.float32), np.float32(np.linspace(0, 1, 5)))
    np.testing.assert_array_equal(np.frombuffer(images["data"], np.uint8).reshape(5, *images["shape"]), GREY)


def test_an_update_is_one_message_with_binary_parts(monkeypatch):
    widget, sent = explorer(), []
    monkeypatch.setattr(widget, "_send", lambda message, buffers=None: sent.append((message, buffers)))
    ask(widget, 1, steps=8, grid="log")
    ((message, buffers),) = sent
    assert list(message["state"]) == ["_answer"]
    assert [path[-1] for path in message["buffer_paths"]] == ["data", "target", "arrows", "x", "data", "marker", "data"]
    assert len(buffers[0]) == 4 * FRAMES.size


def test_lines_differ_in_colour_and_in_dashes():
    panel = Curves("c", X, {str(k): X + k for k in range(6)}, "x", "y")
    dashes, colors, _ = zip(*panel._message()["lines"], strict=True)
    assert len(set(colors)) == len(set(dashes)) == 6


def test_a_large_set_of_points_shows_some_paths_only():
    many = Points("p", np.zeros((2, 2000, 2)))._message()
    assert len(many["paths"]) == 150
    assert (many["paths"][0], many["paths"][-1]) == (0, 1999)
    assert Points("p", FRAMES, paths=False)._message()["paths"] == []
    assert Points("p", FRAMES[:1])._message()["paths"] == []


# --- moving controls


def test_a_move_is_computed_and_answered_by_number():
    widget = explorer()
    assert (widget.values, widget._answer["id"]) == ({"steps": 4, "grid": "uniform"}, 0)
    ask(widget, 3, steps=8, grid="log")
    assert widget.values == {"steps": 8, "grid": "log"}
    assert (widget._answer["id"], widget._answer["text"]) == (3, "8 steps on the log grid.")
    assert widget.picture.text == "8 steps on the log grid."
    sent = np.frombuffer(widget._answer["panels"][0]["data"], np.float32)
    np.testing.assert_allclose(sent, 2 * FRAMES.ravel(), rtol=1e-6)


def test_the_same_settings_asked_again_get_an_answer():
    widget = explorer()
    ask(widget, 1, steps=4, grid="uniform")
    assert widget._answer["id"] == 1  # without it the browser would wait for ever


def test_a_slow_computation_answers_with_its_own_number():
    started, release = threading.Event(), threading.Event()

    def slow(steps, grid):
        if steps == 9:
            started.set()
            release.wait(5)
        return picture(steps, grid)

    widget = explorer(slow)
    worker = threading.Thread(target=ask, args=(widget, 1), kwargs={"steps": 9, "grid": "log"})
    worker.start()
    assert started.wait(5)
    time.sleep(0.3)
    assert (widget._answer["id"], widget._request["id"]) == (0, 1)  # so the browser knows what it shows is old
    release.set()
    worker.join(5)
    assert widget._answer["id"] == widget._request["id"] == 1


def test_an_error_is_shown_kept_and_forgotten_when_all_is_well_again():
    def fragile(steps, grid):
        if steps == 9:
            raise FloatingPointError("the solver diverged")
        return picture(steps, grid)

    widget = explorer(fragile)
    ask(widget, 1, steps=9, grid="log")
    assert isinstance(widget.error, FloatingPointError)
    assert (widget._answer["id"], widget._answer["error"]) == (1, "FloatingPointError: the solver diverged")
    assert widget._answer["text"] == "4 steps on the uniform grid."  # the last good picture, with its own sentence
    assert widget.values == {"steps": 4, "grid": "uniform"}
    ask(widget, 2, steps=5, grid="log")
    assert (widget.error, widget._answer["error"], widget.values["steps"]) == (None, "", 5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 99, "grid": "log"}, "ValueError: Slider 'steps': value is 99; expected a finite number in [1, 9]"),
        ({"steps": 3, "grid": "cubic"}, "ValueError: Choice 'grid': value is 'cubic'; expected one of"),
        ({"steps": 3}, "KeyError: 'grid'"),
    ],
)
def test_a_forged_value_never_reaches_compute(values, message):
    widget = explorer()
    ask(widget, 1, **values)
    assert widget._answer["error"].startswith(message)
    assert widget.values["steps"] == 4


# --- pictures that get better


def better_and_better(steps, grid):
    for part in (1, 2, steps):
        if part == 9:
            raise FloatingPointError("the solver diverged")
        yield picture(part, grid)


def test_a_generator_starts_with_its_best_picture():
    widget = explorer(better_and_better)
    assert widget._answer["text"] == "4 steps on the uniform grid."
    assert not widget._answer["more"]


def test_better_pictures_come_when_they_are_asked_for():
    widget, texts = explorer(better_and_better), []
    ask(widget, 1, steps=7, grid="log")
    while widget._answer["more"]:
        texts.append(widget._answer["text"][:7])
        request = widget._answer["id"] + 1
        widget.set_state({"_request": {"id": request, "values": widget.values, "more": True}})
        assert widget._answer["id"] == request
    assert texts == ["1 steps", "2 steps", "7 steps"]
    assert widget.picture.text == widget._answer["text"] == "7 steps on the log grid."


def test_moving_on_leaves_the_rest_uncomputed():
    widget = explorer(better_and_better)
    ask(widget, 1, steps=9, grid="log")
    ask(widget, 2, steps=5, grid="uniform")
    widget.set_state({"_request": {"id": 3, "values": widget.values, "more": True}})
    assert (widget._answer["text"], widget.error) == ("2 steps on the uniform grid.", None)


def test_an_error_in_a_better_picture_is_shown_and_ends_it():
    widget = explorer(better_and_better)
    ask(widget, 1, steps=9, grid="log")
    for request in (2, 3):
        assert widget._answer["more"]
        widget.set_state({"_request": {"id": request, "values": widget.values, "more": True}})
    assert (widget._answer["error"], widget._answer["more"]) == ("FloatingPointError: the solver diverged", False)


def test_an_ordinary_function_needs_no_second_message():
    widget = explorer()
    ask(widget, 1, steps=8, grid="log")
    assert not widget._answer["more"]
    widget.set_state({"_request": {"id": 2, "values": widget.values, "more": True}})  # nothing left: the same again
    assert (widget._answer["id"], widget._answer["text"]) == (2, "8 steps on the log grid.")


# --- pictures that are pushed


def test_a_live_picture_is_replaced_in_one_message_and_stored_as_it_ends(monkeypatch):
    widget, sent = Live(picture()), []
    assert (widget._controls, widget._answer["text"]) == ([], "4 steps on the uniform grid.")
    monkeypatch.setattr(widget, "_send", lambda message, buffers=None: sent.append(message))
    widget.update(picture(8, "log"))
    (message,) = sent
    assert list(message["state"]) == ["_answer"]
    assert widget._answer["id"] == widget._request["id"]  # else the browser would say "computing"
    np.testing.assert_allclose(np.frombuffer(widget._answer["panels"][0]["data"], np.float32), 2 * FRAMES.ravel(), 1e-6)
    data, _ = widget._repr_mimebundle_()
    assert data["text/plain"] == "8 steps on the log grid. Frame 4. (Run the notebook to watch it grow.)"
    assert base64.b64decode(data["image/png"]) == picture(8, "log").png()


def test_a_live_picture_keeps_the_last_good_one():
    widget = Live(picture())
    with pytest.raises(TypeError):
        widget.update(None)
    assert widget.picture.text == widget._answer["text"] == "4 steps on the uniform grid."


# --- the saved notebook


def decoded(widget: Explorer) -> np.ndarray:
    data, _ = widget._repr_mimebundle_()
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).convert("RGB"))


def test_mimebundle_is_the_view_a_picture_and_a_sentence():
    data, metadata = explorer()._repr_mimebundle_()
    assert set(data) == {"application/vnd.jupyter.widget-view+json", "image/png", "text/plain"}
    assert data["text/plain"] == "4 steps on the uniform grid. Frame 4. (Run the notebook to move the controls.)"
    assert metadata["image/png"] == {"alt": "4 steps on the uniform grid. Frame 4."}
    assert len(base64.b64decode(data["image/png"])) <= 60_000


def test_the_static_picture_is_the_same_every_time_and_follows_the_controls():
    assert picture().png() == picture().png()
    widget = explorer()
    before = decoded(widget)
    ask(widget, 1, steps=8, grid="log")
    assert (decoded(widget) != before).any()


@pytest.mark.parametrize(("count", "wide"), [(1, 312), (3, 800), (8, 860)])
def test_a_few_images_by_themselves_are_stored_large(count, wide):
    alone = Picture([Images("i", np.zeros((1, count, 28, 28), np.uint8))], "t").png()
    assert Image.open(io.BytesIO(alone)).width == wide


def test_a_needle_gives_the_alarm_above_its_band_only():
    assert gauge(values=[-2.5, 0, 2.5]).states() == [2, 0, 1]
    assert gauge(values=[2.5, -1.9, 1.9]).states() == [1, 0, 0]
    far, farther = (Picture([gauge(values=[-value, 0, value])], "t").png() for value in (1000.0, 100.0))
    assert far != farther, "the figures beside them"
    message = gauge()._message()
    assert [len(message[field]) for field in ("data", "low", "high")] == [12] * 3
    assert [said for *_, said in message["lines"]] == ["as real", "alarm", "better than real"]


def test_the_static_picture_shows_the_start_frame():
    first = Picture([Images("i", GREY)], "t", start=0).png()
    assert first == Picture([Images("i", GREY[:1])], "t").png()
    assert first != Picture([Images("i", GREY)], "t").png()


def test_a_heavy_picture_stays_small_and_keeps_its_colours():
    cloud = np.random.default_rng(2).normal(size=(20, 2000, 2)).cumsum(0) / 3
    noise = np.random.default_rng(3).integers(0, 256, (1, 16, 28, 28), dtype=np.uint8)
    heavy = Picture(
        [Points("p", cloud, target=cloud[0]), Curves("c", X, {"a": X, "b": X**2}, "x", "y"), Images("i", noise)], "t"
    )
    png = heavy.png()
    assert len(png) <= 65_000
    colors = {tuple(color) for color in np.asarray(Image.open(io.BytesIO(png)).convert("RGBA")).reshape(-1, 4).tolist()}
    assert {(0, 0, 0, 0), (0x1F, 0x7F, 0xC0, 255), (0xD5, 0x5E, 0, 255)} <= colors


def test_the_script_is_sent_as_text_and_no_file_is_watched(monkeypatch):
    monkeypatch.setenv("ANYWIDGET_HMR", "1")
    assert isinstance(Explorer._esm, str)
    assert "export default { render }" in explorer()._esm
    assert not any("watch" in thread.name for thread in threading.enumerate())


def test_a_slider_may_belong_to_one_option():
    def compute(kind, n):
        return Picture([Points("p", np.zeros((1, 2, 2)))], f"{kind} {n}")

    kind = Choice("kind", "Kind", ["a", "b"], "a")
    explorer = Explorer(compute, [kind, Slider("n", "N", 0, 3, 1, 2, when=("kind", "b"))])
    assert [control.get("when") for control in explorer._controls] == [None, ["kind", "b"]]
    message = r"Slider 'n': when is \(.*\); expected one of \[\('kind', 'a'\), \('kind', 'b'\)\]"
    for wrong in [("kind", "c"), ("n", 1), ("other", "a")]:
        with pytest.raises(ValueError, match=message):
            Explorer(compute, [kind, Slider("n", "N", 0, 3, 1, 2, when=wrong)])


def test_a_list_may_rest_while_another_has_an_option():
    def compute(kind, n):
        return Picture([Points("p", np.zeros((1, 2, 2)))], f"{kind} {n}")

    kind = Choice("kind", "Kind", ["a", "b"], "a")
    explorer = Explorer(compute, [kind, Choice("n", "N", [1, 2], 1, unless=("kind", "a"))])
    assert [control["unless"] for control in explorer._controls] == [[], ["kind", "a"]]
    for wrong in [("kind", "c"), ("n", 1), ("other", "a")]:
        with pytest.raises(ValueError, match=r"Choice 'n': unless is \(.*\); expected one of \[\('kind', 'a'\), "):
            Explorer(compute, [kind, Choice("n", "N", [1, 2], 1, unless=wrong)])


def test_pictures_in_colour_say_their_width_so_that_dark_pages_leave_them_as_they_are():
    for shape, wide in (((1, 2, 8, 8, 3), True), ((1, 2, 8, 8), False)):
        picture = Picture([Images("p", np.zeros(shape, np.uint8))], "Two pictures.")
        _, metadata = Explorer(lambda picture=picture: picture, [])._repr_mimebundle_()
        assert ("width" in metadata["image/png"]) == wide


# --- groups, formulas, playing, drawing, the browser's own answers


def test_the_key_of_named_groups_has_the_colours_and_shapes_of_the_marks():
    """A single group 0 is drawn in the colour of the theme, and its key is, too."""
    two = Points("p", np.zeros((1, 3, 2)), groups=[0, 2, 2], names={0: "here", 2: "there"})
    assert two._message()["lines"] == [(None, LINES[0][0], "here", 0), (None, LINES[2][0], "there", 2)]
    faint = Points("p", np.zeros((1, 3, 2)), groups=[0, 2, 2], grey=2, names={0: "here", 2: "there"})
    assert [line[1] for line in faint._message()["lines"]] == [LINES[0][0], "var(--le-path)"]
    one = Points("p", np.zeros((1, 3, 2)), names={0: "here"})
    assert one._message()["lines"] == [(None, "var(--le-dot)", "here", 0)]


def test_groups_are_told_apart_by_colour_and_by_shape():
    looks = {(LINES[g % len(LINES)][0], MARKS[g % len(MARKS)]) for g in range(12)}
    assert len(looks) == 12
    plain, grouped = (Points("p", FRAMES, groups=g) for g in (None, np.arange(40) % 8))
    assert plain._message()["groups"] == [0] * 40
    assert grouped._message()["groups"][:9] == [*range(8), 0]
    assert Picture([plain], "t").png() != Picture([grouped], "t").png()


def test_the_browser_has_the_same_colours_and_as_many_shapes():
    script = Explorer._esm
    colours = re.search(r"const COLOURS = \[(.*?)\]", script)[1]
    assert re.findall(r"#\w{6}", colours) == [color for color, *_ in LINES]
    shapes = re.search(r"const SHAPES = \[(.*?)\n\]", script, re.DOTALL)[1]
    assert len(re.findall(r"^  \S", shapes, re.MULTILINE)) == len(MARKS)


def test_arrows_have_a_width_beside_their_colour_and_end_at_the_border():
    ways = np.array([[0, 0, 1, 2], [1, -1, 9, 0], [0, 2, 0, -8.0]])
    points = Points("p", np.zeros((1, 3, 2)), limit=3, arrows={"broad": ways, "thin": ways[:2]})
    message = points._message()
    np.testing.assert_array_equal(np.frombuffer(message["arrows"], np.float32).reshape(-1, 4), [*ways, *ways[:2]])
    assert [count for count, *_ in message["styles"]] == [3, 2]
    assert message["lines"][-2:] == [
        ((), color, name, width) for name, (_, color, width) in zip(("broad", "thin"), message["styles"], strict=True)
    ]
    assert len({color for _, color, _ in message["styles"]}) == len({width for *_, width in message["styles"]}) == 2
    assert [points._share(way[:2], way[2:]) for way in ways] == pytest.approx([1, 2 / 9, 5 / 8])
    assert Picture([points], "t").png() != Picture([Points("p", np.zeros((1, 3, 2)), limit=3)], "t").png()


@pytest.mark.parametrize(
    ("arrows", "error"),
    [({"a": np.zeros((3, 2))}, V), ({" ": np.zeros((3, 4))}, V), ({key: [[0] * 4] for key in "abc"}, V)],
)
def test_arrows_are_checked(arrows, error):
    with pytest.raises(error, match="Points arrows"):
        Points("p", FRAMES, arrows=arrows)


@pytest.mark.parametrize("far", [[9.0, 2.0], [-9.0, 2.0], [2.0, 9.0], [2.0, -9.0]])
def test_a_point_outside_is_a_wedge_on_the_border(far):
    """The farther half of the way is not seen: what counts is the direction."""
    drawn = [
        Picture([Points("p", [[place]], limit=limit)], "t").png()
        for place, limit in ((far, 3), (np.multiply(far, 7), 3), (far, 10))
    ]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(
    ("groups", "error"), [([0] * 39, V), ([0.5] * 40, V), ([-1] * 40, V), (np.zeros((40, 1), int), V)]
)
def test_groups_are_one_whole_number_a_point(groups, error):
    with pytest.raises(error, match="Points groups"):
        Points("p", FRAMES, groups=groups)


def test_a_formula_is_one_line_or_one_for_each_frame():
    points = Points("p", FRAMES)
    assert Picture([points], "t", formula="x = 1")._message()["formula"] == ("x = 1",)
    each = Picture([points], "t", formula=[f"x = {k}" for k in range(5)], start=2)
    assert each.sentence() == "x = 2. t"
    assert Picture([points], "t")._message()["formula"] == ()
    with pytest.raises(V, match="Picture formula"):
        Picture([points], "t", formula=["a", "b"])


def test_a_drawing_reaches_compute_as_pixels():
    sheet = np.zeros((28, 28), np.uint8)
    sheet[3, 4] = 200
    seen = []

    def drawn(drawing):
        seen.append(drawing)
        return Picture([Images("i", drawing[None, None])], "t")

    widget = Explorer(drawn, [Drawing("drawing", "Draw", {"one": sheet}, "one")])
    assert np.array_equal(seen[0], sheet)
    ask(widget, 1, drawing=base64.b64encode(bytes(784)).decode())
    assert seen[1].shape == (28, 28)
    assert not seen[1].any()
    for forged in ("", "A", base64.b64encode(bytes(783)).decode(), 7, None):
        ask(widget, widget._request["id"] + 1, drawing=forged)
        assert isinstance(widget.error, ValueError)
        assert len(seen) == 2


@pytest.mark.parametrize(
    ("presets", "value"),
    [
        ({"a": np.zeros((28, 28))}, "a"),
        ({"a": np.zeros((8, 8), np.uint8)}, "a"),
        ({"a": [[0] * 28] * 28}, "a"),
        ({}, "a"),
    ],
)
def test_a_drawing_begins_with_a_preset_of_its_size(presets, value):
    with pytest.raises(V, match="Drawing 'd'"):
        Drawing("d", "Draw", presets, value)


def test_a_script_comes_with_exact_js_and_its_numbers():
    widget = Explorer(picture, [], "export function picture() {}", {"a": torch.ones(2, 3), "b": 0.5})
    assert widget._script.endswith("export function picture() {}")
    assert "export function mixtureEps" in widget._script
    assert {name: np.frombuffer(value).tolist() for name, value in widget._constants.items()} == {
        "a": [1.0] * 6,
        "b": [0.5],
    }
    assert explorer()._script == ""


def test_the_sentence_is_stored_as_text_below_the_picture(monkeypatch):
    shown = []
    monkeypatch.setattr("lessons_src.show.widgets.display", lambda data, **options: shown.append((data, options)))
    Explorer(lambda: Picture([Points("p", FRAMES)], "1 < 2."), [])._ipython_display_()
    (widget, _), (text, options) = shown
    assert "image/png" in widget
    assert text == {"text/html": '<p class="le-stored">1 &lt; 2.</p>', "text/plain": "1 < 2."}
    assert options["raw"]


def test_a_live_picture_is_kept_as_it_ends(monkeypatch):
    class Handle:
        def __init__(self):
            self.data = None

        def update(self, data, **options):
            self.data = data

    monkeypatch.setattr("lessons_src.show.widgets.display", lambda data, **options: Handle())
    widget = Live(picture())
    widget._ipython_display_()
    widget.update(picture(8, "log"))
    widget.keep()
    assert widget._shown[1].data["text/plain"] == "8 steps on the log grid. Frame 4."
    assert base64.b64decode(widget._shown[0].data["image/png"]) == picture(8, "log").png()


def test_stored_pictures_are_transparent_and_keep_their_greys():
    png = Picture([Images("i", np.arange(0, 256, dtype=np.uint8).reshape(1, 1, 16, 16))], "t").png()
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA")).reshape(-1, 4).astype(int)
    assert (pixels[:, 3] == 0).any()
    opaque = pixels[pixels[:, 3] == 255]
    grey = opaque[(opaque[:, 0] == opaque[:, 1]) & (opaque[:, 1] == opaque[:, 2])]
    assert len(set(grey[:, 0])) > 30
