"""From key press to painted pixels, in JupyterLab and Chromium: explorations beside the usual interact-and-replot.

python tests/benchmarks/widget_latency.py   (median and 95th percentile of 30 key presses each, one page, one run)
"""

import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import nbformat
from playwright.sync_api import Locator, Page, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1] / "browser"))
from lab import CHROMIUM_FLAGS, find_chromium, lab_server

KEYS = 30
FLOW = """
import numpy as np, torch
from lessons_src import data
from lessons_src.lessons import lesson_05
from lessons_src.samplers import ddim, trajectory
from lessons_src.schedules import linear, time_grid
from lessons_src.show.widgets import Explorer, Picture, Points, Slider
torch.set_num_threads(1)
ring, schedule = data.ring(), linear()
network, times = ring.network(schedule), time_grid(schedule, 20)
start = torch.randn(2000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
target = ring.sample(500, torch.Generator().manual_seed(1))[0]

def flow(percent):
    return trajectory(start, ddim(network, start, schedule, times, percent / 100, torch.Generator().manual_seed(2)))
"""
EXPLORER = """
def picture(percent):
    return Picture([Points("Points", flow(percent).numpy(), target.numpy())], f"eta = {percent} %")

Explorer(picture, [Slider("percent", "Eta in percent", 0, 100, 1, 50)])
"""
INTERACT = """
%matplotlib inline
import ipywidgets, matplotlib.pyplot as plt

def replot(percent=50):
    end = flow(percent)[-1]
    plt.figure(figsize=(4, 4))
    plt.plot(*target.T, ".", color="0.7", ms=3)
    plt.plot(*end.T, ".", ms=3)
    plt.show()

ipywidgets.interact(replot, percent=ipywidgets.IntSlider(50, 0, 100));
"""
IN_BROWSER = "lesson_05.explore_ddim()"
DIGITS = "lesson_05.explore_digit_steps()"

# Clocked inside the page, from the key event to the end of the first frame in which the pixels differ.
CLOCK = """root => {
    const small = document.createElement('canvas'), mine = window.clock = {};
    small.width = small.height = 150;
    const pen = small.getContext('2d', { willReadFrequently: true });
    const look = () => {
        const shown = [...root.querySelectorAll('canvas, img')].filter(e => e.width && e.complete !== false);
        pen.clearRect(0, 0, 150, 150);
        shown.forEach((e, i) => pen.drawImage(e, 0, (150 * i) / shown.length, 150, 150 / shown.length));
        const hash = (sum, pixel) => (Math.imul(sum, 31) + pixel) | 0;
        return shown.length && new Uint32Array(pen.getImageData(0, 0, 150, 150).data.buffer).reduce(hash, 1);
    };
    let last = look(), pressed = 0;
    window.latencies = [];
    document.addEventListener('keydown', event => { pressed = event.timeStamp; }, true);
    (function frame() {
        const now = look();
        if (now && now !== last) {  // an output that is empty between two pictures is not a picture
            if (pressed) window.latencies.push(performance.now() - pressed);
            [last, pressed] = [now, 0];
        }
        if (window.clock === mine) requestAnimationFrame(() => setTimeout(frame));
    })();
}"""


def measure(page: Page, root: Locator, control: Locator, keys: list[str], settle: Callable[[], None]) -> list[float]:
    """Milliseconds from key press to changed pixels, for every key."""
    root.evaluate(CLOCK)
    control.focus()
    for i, key in enumerate(keys):
        page.keyboard.press(key)
        page.wait_for_function("i => window.latencies.length > i", arg=i, polling=10)
        settle()
    return page.evaluate("window.latencies")


def told(name: str, values: list[float]) -> float:
    """Print median and 95th percentile; return the median."""
    median, p95 = statistics.median(values), sorted(values)[int(0.95 * (len(values) - 1))]
    print(f"{name}: median {median:.0f} ms, 95th percentile {p95:.0f} ms, {len(values)} keys", flush=True)
    return median


def main() -> None:
    """Open one notebook, run it, press keys, print."""
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        root = Path(scratch) / "root"
        root.mkdir()
        cells = [nbformat.v4.new_code_cell(source) for source in (FLOW, EXPLORER, INTERACT, IN_BROWSER, DIGITS)]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        book = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
        (root / "latency.ipynb").write_text(json.dumps(book))
        with lab_server(root, Path(scratch) / "jupyter") as lab:
            browser = playwright.chromium.launch(executable_path=find_chromium(), args=CHROMIUM_FLAGS)
            page = browser.new_page(viewport={"width": 1400, "height": 1050})
            lab.open(page, "latency.ipynb")
            lab.run_all(page)
            points, exact, digits = page.locator(".le-explorer").all()
            replot = page.locator(".jp-CodeCell").nth(2).locator(".jp-Cell-outputWrapper")

            def pause() -> None:
                page.wait_for_timeout(80)

            def finished() -> None:
                page.wait_for_timeout(80)
                page.wait_for_function("e => !e.matches('.le-busy, .le-rough')", arg=digits.element_handle())
                page.wait_for_timeout(80)

            ahead, back = ["ArrowRight"] * KEYS, ["ArrowLeft"] * KEYS
            live = told(
                "live, 2,000 points, 20 steps",
                measure(page, points, points.get_by_label("Eta in percent"), ahead, pause),
            )
            replay = points.get_by_label("Replay")
            told("replay without the kernel", measure(page, points, replay, ["ArrowLeft"] * 20, pause))
            usual = told("interact and replot", measure(page, replot, replot.locator("[role=slider]"), ahead, pause))
            print(f"interact and replot takes {usual / live:.1f} times as long")
            exact.scroll_into_view_if_needed()
            page.wait_for_timeout(8000)  # it plays once
            steps = exact.get_by_label("Steps")
            here = told("DDIM in the browser, 300 points, 10 to 40 steps", measure(page, exact, steps, ahead, pause))
            told("the same, back", measure(page, exact, steps, back, pause))
            print(f"interact and replot takes {usual / here:.1f} times as long")
            digits.scroll_into_view_if_needed()
            finished()
            steps = digits.get_by_role("slider", name="Steps")
            told("digits not computed before, first picture", measure(page, digits, steps, ahead, finished))
            told("digits computed before", measure(page, digits, steps, back, finished))
            browser.close()


if __name__ == "__main__":
    main()
