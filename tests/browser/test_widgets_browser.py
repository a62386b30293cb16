"""The explorer as a learner meets it: in JupyterLab, by keyboard, in either theme, on a slow day."""

import base64
import re
import statistics

import numpy as np
import pytest
from lab import pixels, use_theme, wait_settled, wait_until

from lessons_src.show.widgets import Picture, Points

pytestmark = pytest.mark.browser

DEFINE = """
import time
import numpy as np
from lessons_src.show.widgets import Choice, Curves, Explorer, Images, Picture, Points, Slider

X = np.linspace(0, 1, 50)
NOISE = np.random.default_rng(0)
START, GREY = NOISE.normal(size=(300, 2)), NOISE.integers(0, 256, (6, 4, 12, 12), dtype=np.uint8)
CONTROLS = [Slider("n", "Steps", 1, 20, 1, 8), Slider("w", "Scale", 0.0, 2.0, 0.25, 1.0),
            Choice("grid", "Grid", ["uniform", "log"], "uniform")]

def size(n, w, grid):
    return (1 + w) * n / 20 * (0.7 if grid == "log" else 1)

def points(n, w, grid):
    frames = np.stack([START * (1 - k / 6) + size(n, w, grid) * k / 6 for k in range(6)])
    return Picture([Points("Points", frames, target=START[:50])], f"n = {n}, w = {w}, grid = {grid}.")

def curves(n, w, grid):
    y = {"first": X ** size(n, w, grid), "second": 1 - X * size(n, w, grid) / 3}
    panel = Curves("Curves", X, y, "t", "alpha_bar", (0, 1), marker=np.linspace(0, 1, 6))
    return Picture([panel], f"n = {n}, w = {w}, grid = {grid}.", frame_names=[f"t = {k}" for k in range(6)])

def images(n, w, grid):
    frames = (GREY * size(n, w, grid) / 3).astype(np.uint8)
    return Picture([Images("Images", frames, ["a", "b", "c", "d"])], f"n = {n}, w = {w}, grid = {grid}.")
"""


def run(lab, page, name):
    lab.open(page, name)
    lab.run_all(page)
    view = page.locator(".le-explorer").first
    view.locator("canvas").first.wait_for()
    wait_settled(page, view)
    return view


def press(page, view, control, key):
    """Press a key on a control; returns the canvases once they differ from those before."""
    before = pixels(view)
    control.press(key)
    wait_until(page, lambda: pixels(view) != before, f"new pixels after {key}")
    wait_settled(page, view)


@pytest.mark.parametrize("kind", ["points", "curves", "images"])
def test_every_control_moves_the_picture_by_keyboard(lab, page, notebook, kind):
    view = run(lab, page, notebook(DEFINE, f"Explorer({kind}, CONTROLS)"))
    caption, status = view.locator(".le-caption"), view.get_by_role("status")
    steps, scale, grid = view.get_by_label("Steps"), view.get_by_label("Scale"), view.get_by_label("Grid")
    cells = page.locator(".jp-Cell").count()

    for key, value in [("ArrowRight", "9"), ("ArrowLeft", "8"), ("End", "20"), ("Home", "1"), ("ArrowUp", "2")]:
        press(page, view, steps, key)
        assert steps.input_value() == value
        assert caption.inner_text().startswith(f"n = {value}, w = 1.0, grid = uniform.")
    press(page, view, scale, "ArrowRight")
    assert "w = 1.25" in caption.inner_text()
    assert scale.get_attribute("aria-valuetext") == "1.25"
    press(page, view, grid, "ArrowDown")
    assert "grid = log" in caption.inner_text()
    grid.press("a")  # in Jupyter's command mode this key would insert a cell
    assert page.locator(".jp-Cell").count() == cells

    wait_until(page, lambda: status.inner_text() == caption.inner_text(), "the status to repeat the caption")
    canvas = view.locator("canvas")
    assert (canvas.get_attribute("role"), canvas.get_attribute("aria-label")) == ("img", kind.capitalize())
    described = canvas.get_attribute("aria-describedby")
    assert view.locator(f'[id="{described}"]').inner_text() == caption.inner_text()


ACTIVE = "() => [...document.querySelectorAll('.jp-Cell')].findIndex(cell => cell.matches('.jp-mod-active'))"


def test_keyboard_goes_into_an_explorer_and_out_again(lab, page, notebook):
    """As lesson 00 says: Shift+Enter, Shift+Tab, and later Escape and the arrow keys, or Shift+Enter again."""
    lab.open(page, notebook(DEFINE, "Explorer(points, CONTROLS)", "1 + 1", "2 + 2"))
    page.locator(".jp-Cell").nth(0).locator(".cm-content").click()
    page.keyboard.press("Shift+Enter")
    page.keyboard.press("Shift+Enter")
    view = page.locator(".le-explorer").first
    wait_settled(page, view)
    page.keyboard.press("Shift+Tab")
    wait_until(page, lambda: view.evaluate("e => e.contains(document.activeElement)"), "the focus in the explorer")
    view.get_by_label("Steps").focus()
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowDown")
    wait_until(page, lambda: page.evaluate(ACTIVE) == 2, "the cell below to be chosen")
    assert view.get_by_label("Steps").input_value() == "8"
    view.get_by_label("Steps").focus()
    page.keyboard.press("Shift+Enter")
    wait_until(page, lambda: page.evaluate(ACTIVE) == 2, "the explorer's cell to run, and the next to be chosen")
    prompt = page.locator(".jp-Cell").nth(1).locator(".jp-InputArea-prompt")
    wait_until(page, lambda: prompt.inner_text() == "[3]:", "the explorer's cell to run again")


# Where a canvas is blue (the colour of points and of the first line): x and y of those pixels.
BLUE = """canvas => {
    const { width, height } = canvas, data = canvas.getContext('2d').getImageData(0, 0, width, height).data, found = [];
    for (let i = 0; i < data.length; i += 4)
        if (data[i] < 60 && data[i + 2] > 120 && data[i + 3] > 200)
            found.push([i / 4 % width, Math.floor(i / 4 / width)]);
    return found; }"""


def test_points_lines_and_pixels_are_where_they_belong(lab, page, notebook):
    known = """
walk = np.array([[[0, 0]], [[1, 0]], [[0, 1]], [[-1, 0]]])
line = Curves("Line", X, {"y = x": X}, "x", "y", (0, 1))
four = np.array([[[[0, 80, 160], [200, 225, 255]]]], dtype=np.uint8)
panels = [Points("Walk", walk, limit=2, paths=False), line, Images("Four", four)]
Explorer(lambda: Picture(panels, "Known.", start=0), [])
"""
    view = run(lab, page, notebook(DEFINE, known))
    walk, line, image = view.locator("canvas").all()
    centres = []
    for _ in range(4):
        blue = walk.evaluate(BLUE)
        centres.append([statistics.mean(axis) for axis in zip(*blue, strict=True)])
        view.get_by_label("Replay").press("ArrowRight")
        page.wait_for_timeout(150)
    origin, right, up, left = centres
    unit = right[0] - origin[0]
    assert unit > 50
    assert right[1] == pytest.approx(origin[1], abs=1)
    assert up == pytest.approx([origin[0], origin[1] - unit], abs=1)
    assert left == pytest.approx([origin[0] - unit, origin[1]], abs=1)

    blue = sorted(line.evaluate(BLUE))
    (x0, y0), (x1, y1) = blue[0], blue[-1]
    assert x1 - x0 > 200
    assert y0 - y1 > 100
    assert all(abs(y - (y0 + (y1 - y0) * (x - x0) / (x1 - x0))) < 6 for x, y in blue)

    read = """(canvas, spots) => spots.map(([x, y]) =>
        canvas.getContext('2d').getImageData(x * canvas.width, y * canvas.clientWidth * 2 / 3, 1, 1).data[0])"""
    spots = [[(column + 0.5) / 3, (row + 0.5) / 2] for row in range(2) for column in range(3)]
    assert image.evaluate(read, spots) == [0, 80, 160, 200, 225, 255]


def test_replay_needs_no_kernel(lab, page, notebook):
    sent = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda data: sent.append(data)))
    view = run(lab, page, notebook(DEFINE, "Explorer(curves, CONTROLS)"))
    replay = view.get_by_label("Replay")
    assert (replay.input_value(), replay.get_attribute("max")) == ("5", "5")
    messages = len(sent)
    press(page, view, replay, "ArrowLeft")
    press(page, view, replay, "Home")
    assert (replay.input_value(), replay.get_attribute("aria-valuetext")) == ("0", "t = 0")
    new = [str(data) for data in sent[messages:]]
    assert not any("comm_msg" in data for data in new)
    press(page, view, view.get_by_label("Steps"), "ArrowRight")
    assert any("comm_msg" in str(data) for data in sent[messages:])  # so a message would have been seen
    assert replay.input_value() == "0"  # a new picture with as many frames keeps the place


def test_play_runs_to_the_end_and_respects_reduced_motion(lab, page, notebook):
    view = run(lab, page, notebook(DEFINE, "Explorer(points, CONTROLS)"))
    replay, play = view.get_by_label("Replay"), view.get_by_role("button", name="Play")
    seen = view.evaluate_handle(
        """view => { const seen = [], input = view.querySelector('[name="-replay"]');
           (function look() {
               if (seen.at(-1) !== input.value) seen.push(input.value);
               requestAnimationFrame(look);
           })(); return seen; }"""
    )
    play.press("Enter")
    view.get_by_role("button", name="Pause").wait_for()
    play.wait_for()
    assert seen.json_value() == ["5", "0", "1", "2", "3", "4", "5"]
    page.emulate_media(reduced_motion="reduce")
    assert not play.is_visible()
    assert replay.is_visible()


def test_a_single_frame_has_no_replay(lab, page, notebook):
    view = run(
        lab, page, notebook(DEFINE, "Explorer(lambda n: Picture([Images('I', GREY[:1])], f'n = {n}.'), CONTROLS[:1])")
    )
    assert view.get_by_label("Steps").is_visible()
    assert not view.get_by_label("Replay").is_visible()
    assert not view.get_by_role("button").is_visible()


def test_colours_arrive_as_they_are(lab, page, notebook):
    """Two frames of two pictures in colour: red, green and blue are not exchanged, nor pictures or frames."""
    colours = np.array([[[230, 60, 50], [60, 180, 80]], [[60, 100, 235], [175, 80, 205]]])
    panel = f"Images('C', np.array({colours.tolist()}, np.uint8)[:, :, None, None].repeat(4, 2).repeat(4, 3))"
    view = run(lab, page, notebook(DEFINE, f"Explorer(lambda: Picture([{panel}], 'Colours.'), [])"))
    middles = """canvas => [0.25, 0.75].map(x => [...canvas.getContext("2d").getImageData(
        x * canvas.width, canvas.height / 2, 1, 1).data].slice(0, 3))"""
    assert view.locator("canvas").evaluate(middles) == colours[1].tolist()
    view.get_by_label("Replay").press("Home")
    wait_until(page, lambda: view.locator("canvas").evaluate(middles) == colours[0].tolist(), "the first frame")


def test_two_views_of_one_explorer_stay_in_step(lab, page, notebook):
    first = run(lab, page, notebook(DEFINE, "both = Explorer(points, CONTROLS)\nboth", "both"))
    second = page.locator(".le-explorer").nth(1)
    press(page, first, first.get_by_label("Steps"), "ArrowRight")
    wait_until(page, lambda: "n = 9" in second.locator(".le-caption").inner_text(), "the second view to follow")
    assert second.get_by_label("Steps").input_value() == "9"


def test_the_newest_setting_wins_and_old_pictures_are_marked(lab, page, notebook):
    slow = """
calls = []
def slow(n):
    calls.append(n)
    time.sleep(0.3)
    return Picture([Points("Points", START[None] * n / 40)], f"n = {n} after {len(calls)} calls.")
Explorer(slow, [Slider("n", "Steps", 1, 40, 1, 1)])
"""
    view = run(lab, page, notebook(DEFINE, slow))
    steps, caption = view.get_by_label("Steps"), view.locator(".le-caption")
    history = view.evaluate_handle(
        """view => { const history = [], input = view.querySelector('input'), status = view.querySelector('.le-status');
           (function look(now) {
               const shown = view.querySelector('.le-caption').textContent.match(/n = (\\d+)/)[1];
               const busy = view.classList.contains('le-busy');
               history.push({ now, old: shown !== input.value, busy, said: status.textContent });
               requestAnimationFrame(look);
           })(performance.now()); return history; }"""
    )
    steps.focus()
    for _ in range(30):
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(20)
    wait_until(page, lambda: caption.inner_text().startswith("n = 31 "), "the last value to be computed")
    wait_settled(page, view)
    calls = int(re.search(r"after (\d+) calls", caption.inner_text())[1])
    assert 2 <= calls <= 9, "1 at the start, then only what the browser had to send"
    frames = history.json_value()
    assert any(frame["busy"] and frame["said"] == "computing …" for frame in frames)
    unmarked, since = 0.0, None
    for frame in frames:
        if not frame["old"] or frame["busy"]:
            since = None
            continue
        since = frame["now"] if since is None else since
        unmarked = max(unmarked, frame["now"] - since)
    assert unmarked < 400, "an old picture may pass for the current one for a blink only (150 ms, and slack)"
    assert not frames[-1]["old"]
    assert not frames[-1]["busy"]


def test_an_error_is_shown_and_cleared(lab, page, notebook):
    fragile = """
def fragile(n):
    if n == 9:
        raise FloatingPointError("the solver diverged")
    return points(n, 1.0, "uniform")
shown = Explorer(fragile, CONTROLS[:1])
shown
"""
    view = run(lab, page, notebook(DEFINE, fragile))
    alert, steps = view.get_by_role("alert"), view.get_by_label("Steps")
    assert not alert.is_visible()
    steps.press("ArrowRight")
    wait_until(page, alert.is_visible, "the error to be shown")
    assert "FloatingPointError: the solver diverged" in alert.inner_text()
    assert "n = 8" in view.locator(".le-caption").inner_text()
    press(page, view, steps, "ArrowRight")
    assert not alert.is_visible()


def test_themes_repaint_the_canvas(lab, page, notebook):
    view = run(lab, page, notebook(DEFINE, "Explorer(curves, CONTROLS)"))
    brightest = """canvas => { const {width, height} = canvas, pen = canvas.getContext('2d');
        const data = pen.getImageData(0, Math.round(height * 0.9), width, Math.round(height * 0.1)).data;
        return data.reduce((top, value, i) => i % 4 === 0 && data[i + 3] > 200 ? Math.max(top, value) : top, -1); }"""
    light = view.locator("canvas").evaluate(brightest)
    before = pixels(view)
    use_theme(page, "JupyterLab Dark")
    try:
        wait_until(page, lambda: pixels(view) != before, "the canvas to follow the theme")
        wait_settled(page, view)
        assert light < 100 < 200 < view.locator("canvas").evaluate(brightest)  # dark letters, then light ones
    finally:
        use_theme(page, "JupyterLab Light")


def zoom_to_200_percent(page):
    """What a page of 1400 x 1000 becomes when the learner zooms in: half as many CSS pixels, each twice as fine."""
    zoomed = {"width": 700, "height": 500, "deviceScaleFactor": 2, "mobile": False}
    page.context.new_cdp_session(page).send("Emulation.setDeviceMetricsOverride", zoomed)
    sharp = "canvases => canvases.every(canvas => Math.abs(canvas.width - 2 * canvas.clientWidth) <= 1)"
    wait_until(page, lambda: page.locator("canvas").evaluate_all(sharp), "twice the pixels at 200 % zoom")


def test_panels_wrap_on_narrow_pages(lab, page, notebook):
    three = """
def three(n):
    panels = [points(n, 1.0, "log").panels[0], curves(n, 1.0, "log").panels[0], images(n, 1.0, "log").panels[0]]
    return Picture(panels, f"n = {n}.")
Explorer(three, CONTROLS[:1])
"""
    view = run(lab, page, notebook(DEFINE, three))
    tops = """view => [...view.querySelectorAll('.le-panel')].map(e => e.getBoundingClientRect().top)"""
    wide = view.evaluate(tops)
    assert wide[0] == wide[1]
    page.set_viewport_size({"width": 560, "height": 900})
    wait_settled(page, view)
    narrow = view.evaluate(tops)
    assert narrow[0] < narrow[1] < narrow[2]
    assert view.evaluate("view => view.scrollWidth <= view.clientWidth")
    zoom_to_200_percent(page)
    assert view.evaluate("view => view.scrollWidth <= view.clientWidth")


def test_a_panel_that_keeps_its_width_is_sharp_when_zoomed(lab, page, notebook):
    small = """Explorer(lambda: Picture([Images("Small on every page", GREY[:1, :1])], "Small."), [])"""
    view = run(lab, page, notebook(DEFINE, small))
    width = view.locator("canvas").evaluate("canvas => canvas.clientWidth")
    zoom_to_200_percent(page)
    assert view.locator("canvas").evaluate("canvas => canvas.clientWidth") == width


def test_a_saved_notebook_shows_a_picture_and_comes_alive(lab, page, notebook):
    saved = Picture([Points("Points", [[[0.0, 1.0]]])], "One point.")
    data = {"image/png": base64.b64encode(saved.png()).decode(), "text/plain": "One point."}
    name = notebook(DEFINE, "Explorer(points, CONTROLS)", outputs={"data": data})
    lab.open(page, name)
    image = page.locator(".jp-OutputArea-output img")
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 300
    lab.run_all(page)
    view = page.locator(".le-explorer")
    view.wait_for()
    assert image.count() == 0
    press(page, view, view.get_by_label("Steps"), "ArrowRight")


def test_a_rough_picture_comes_first_and_is_never_marked_as_old(lab, page, notebook):
    rough_first = """
def rough_first(n):
    for part in ("rough", "better", "best"):
        yield Picture([Points("Points", START[None] * n / 20)], f"n = {n}, {part}.")
        time.sleep(0.4)
Explorer(rough_first, [Slider("n", "Steps", 1, 20, 1, 8)])
"""
    view = run(lab, page, notebook(DEFINE, rough_first))
    caption, steps = view.locator(".le-caption"), view.get_by_label("Steps")
    assert caption.inner_text() == "n = 8, best."
    seen = view.evaluate_handle(
        """view => { const seen = [], caption = view.querySelector('.le-caption');
           (function look() {
               const now = caption.textContent + (view.classList.contains('le-busy') ? ' busy' : '');
               if (seen.at(-1) !== now) seen.push(now);
               requestAnimationFrame(look);
           })(); return seen; }"""
    )
    steps.press("ArrowRight")
    wait_until(page, lambda: seen.json_value()[-1] == "n = 9, best.", "the best picture")
    assert seen.json_value() == ["n = 8, best.", "n = 9, rough.", "n = 9, better.", "n = 9, best."]
    steps.press("ArrowRight")
    wait_until(page, lambda: caption.inner_text() == "n = 10, rough.", "a rough picture")
    steps.press("ArrowRight")  # moving on: the better pictures of n = 10 are not waited for
    wait_until(page, lambda: caption.inner_text() == "n = 11, best.", "the best picture of the newest setting")
    assert "n = 10, best." not in seen.json_value()
    wait_settled(page, view)


def test_an_explorer_survives_a_reload_and_comes_back_after_a_restart(lab, page, notebook):
    name = notebook(DEFINE, "Explorer(points, CONTROLS)")
    view = run(lab, page, name)
    press(page, view, view.get_by_label("Steps"), "ArrowRight")
    lab.reload(page)
    view = page.locator(".le-explorer").first
    wait_settled(page, view)
    assert view.get_by_label("Steps").input_value() == "9"
    press(page, view, view.get_by_label("Steps"), "ArrowRight")
    lab.restart_and_run_all(page)
    view = page.locator(".le-explorer").first
    wait_settled(page, view)
    assert view.get_by_label("Steps").input_value() == "8"
    press(page, view, view.get_by_label("Steps"), "ArrowRight")


# --- formulas, playing once, drawing, answers without Python

LOCAL = """
def bent(n):
    frames = np.stack([START[:40] * (1 - k / n) for k in range(n + 1)])
    return Picture([Points("Points", frames, groups=np.arange(40) % 3)], f"n = {n}.", formula=f"x_t = {n}", plays=PLAYS)

SCRIPT = '''export const picture = ({ n }, { start }) => n > 8 ? null : {
    panels: [{ frames: n + 1, data: Float32Array.from(
        { length: 80 * (n + 1) }, (_, i) => start[i % 80] * (1 - Math.floor(i / 80) / n)) }],
    text: `n = ${n}, here.`, formula: [`x_t = ${n}`], frame_names: Array.from({ length: n + 1 }, (_, k) => String(k)),
    start: n,
}'''
Explorer(bent, [Slider("n", "Steps", 1, 12, 1, 4)], SCRIPT, {"start": START[:40]})
"""

COUNT_MESSAGES = """() => {
    window.sent = 0;
    const send = WebSocket.prototype.send;
    WebSocket.prototype.send = function (message) { window.sent += 1; return send.call(this, message); }; }"""


def test_a_script_answers_without_python_and_leaves_the_rest_to_it(lab, page, notebook):
    view = run(lab, page, notebook(DEFINE, "PLAYS = False", LOCAL, "import time; time.sleep(1)"))
    caption, steps = view.locator(".le-caption"), view.get_by_label("Steps")
    wait_until(page, lambda: caption.inner_text().startswith("n = 4"), "the first picture")
    page.evaluate(COUNT_MESSAGES)
    steps.press("ArrowRight")
    wait_until(page, lambda: caption.inner_text().startswith("n = 5, here."), "an answer of the browser itself", 2)
    assert view.locator(".le-formula").inner_text().replace("\n", "") == "xt = 5"
    assert view.locator(".le-formula sub").inner_text() == "t"
    assert page.evaluate("window.sent") == 0
    for _ in range(4):
        steps.press("ArrowRight")
    wait_until(page, lambda: caption.inner_text().startswith("n = 9."), "an answer of Python")
    steps.press("ArrowLeft")
    wait_until(page, lambda: caption.inner_text().startswith("n = 8, here."), "the browser again")
    page.wait_for_timeout(1500)  # Python has heard of it by now, and its picture must not take the place of ours
    assert caption.inner_text().startswith("n = 8, here.")


def test_it_plays_once_when_it_comes_into_sight(lab, page, notebook):
    lab.open(page, notebook(DEFINE, "PLAYS = True", LOCAL))
    lab.run_all(page)
    view = page.locator(".le-explorer").first
    view.scroll_into_view_if_needed()
    replay = view.get_by_label("Replay")
    wait_until(page, lambda: view.evaluate("e => e.matches('.le-playing')"), "the film to begin")
    wait_until(page, lambda: not view.evaluate("e => e.matches('.le-playing')"), "the film to end")
    assert replay.input_value() == replay.get_attribute("max")
    view.get_by_label("Steps").press("ArrowRight")
    page.wait_for_timeout(500)
    assert not view.evaluate("e => e.matches('.le-playing')")


def test_who_asked_for_less_motion_sees_the_end_at_once(lab, page, notebook):
    page.emulate_media(reduced_motion="reduce")
    view = run(lab, page, notebook(DEFINE, "PLAYS = True", LOCAL))
    page.wait_for_timeout(800)
    assert not view.evaluate("e => e.matches('.le-playing')")
    assert view.get_by_label("Replay").input_value() == "4"


DRAW = """
from lessons_src.show.widgets import Drawing
sheets = {name: np.zeros((28, 28), np.uint8) for name in ("empty", "dot")}
sheets["dot"][10:14, 10:14] = 255
def drawn(sheet):
    return Picture([Images("Seen", sheet[None, None])], f"{int((sheet > 127).sum())} white pixels.")
Explorer(drawn, [Drawing("sheet", "Draw, or take", sheets, "empty")])
"""


def test_a_line_drawn_by_hand_a_preset_by_keyboard_and_clear(lab, page, notebook):
    view = run(lab, page, notebook(DEFINE, DRAW))
    caption, sheet, preset = view.locator(".le-caption"), view.locator(".le-sheet"), view.get_by_label("Draw, or take")
    assert caption.inner_text() == "0 white pixels."
    box = sheet.bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + 70)
    page.mouse.down()
    page.mouse.move(box["x"] + 120, box["y"] + 70, steps=8)
    page.mouse.up()

    def line_is_seen():
        found = re.fullmatch(r"(\d+) white pixels\.", caption.inner_text())  # none while the page is laid out anew
        return found is not None and 30 < int(found[1]) < 90

    wait_until(page, line_is_seen, "the line to be seen")
    assert preset.evaluate("e => e.selectedOptions[0].textContent") == "your own"
    page.wait_for_timeout(500)  # for the picture of the whole line
    before = caption.inner_text()
    page.mouse.move(box["x"] + 60, box["y"] + 10)  # no button held: nothing is drawn
    page.wait_for_timeout(300)
    assert caption.inner_text() == before
    preset.focus()
    preset.press("Home")
    preset.press("ArrowDown")
    wait_until(page, lambda: caption.inner_text() == "16 white pixels.", "the preset")
    view.get_by_role("button", name="Clear").press("Enter")
    wait_until(page, lambda: caption.inner_text() == "0 white pixels.", "an empty sheet")


def test_the_stored_sentence_hides_while_the_widget_lives(lab, page, notebook):
    view = run(lab, page, notebook(DEFINE, "Explorer(points, CONTROLS)"))
    stored = page.locator(".le-stored")
    assert stored.count() == 1
    assert not stored.is_visible()
    assert stored.text_content().startswith("n = 8, w = 1.0, grid = uniform.")
    assert view.locator(".le-caption").is_visible()


def test_a_dead_kernel_is_named_with_what_to_do(lab, page, notebook):
    view = run(lab, page, notebook(DEFINE, "Explorer(points, CONTROLS)"))
    page.clock.install()
    page.click('.lm-MenuBar-itemLabel:text-is("Kernel")')
    page.click('.lm-Menu-item[data-command="kernelmenu:shutdown"]')
    page.clock.run_for(2_000)
    view.get_by_label("Steps").press("ArrowRight")
    page.clock.run_for(30_000)
    wait_until(page, lambda: "Run All Above Selected Cell" in view.get_by_role("alert").inner_text(), "what to do")
