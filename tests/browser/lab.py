"""JupyterLab on the loopback interface, driven through headless Chromium as a learner would drive it."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
SETTINGS = {  # as `make lab` has them
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyter-widgets/jupyterlab-manager/plugin": {"saveState": True},
}
# What the server stumbles over, not the course: it looks after idle kernels, and finds one that a test has shut down in
# that moment; it writes to a page that a test has just loaded anew.
RACES = (
    "checking the idle duration of kernel",
    "tornado.websocket.WebSocketClosedError",
    "Socket operation on non-socket",  # a message for a kernel that is being shut down
)
PATIENCE = (
    180  # seconds for what takes one or two: a machine may be ten times slower, and busy; who is right never waits
)
TOKEN = "browser-tests"  # the server listens on 127.0.0.1 only and lives for one test run


def missing(what: str) -> None:
    """Skip on a learner's machine; on a build server a check that did not run is a failure."""
    message = f"browser tests need {what}"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def find_chromium() -> str | None:
    """Path of a Chromium or Chrome program: CHROMIUM if set, otherwise the first one on PATH."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


@contextlib.contextmanager
def lab_server(root: Path, scratch: Path) -> Iterator["Lab"]:
    """A JupyterLab that serves `root` and keeps configuration, settings and logs in `scratch`."""
    folders = {name: scratch / name for name in ("config", "data", "runtime", "ipython", "workspaces", "settings")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    for name, said in SETTINGS.items():
        file = folders["settings"] / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(said))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "JUPYTER_CONFIG_DIR": str(folders["config"]),
        "JUPYTER_DATA_DIR": str(folders["data"]),
        "JUPYTER_RUNTIME_DIR": str(folders["runtime"]),
        "IPYTHONDIR": str(folders["ipython"]),
    }
    command = [
        *(sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root"),
        *("--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"),
        *(f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={root}"),
        # Each test leaves a kernel of some hundred megabytes: those without a page end after a minute.
        *("--MappingKernelManager.cull_idle_timeout=60", "--MappingKernelManager.cull_interval=10"),
        *(f"--LabApp.user_settings_dir={folders['settings']}", f"--LabApp.workspaces_dir={folders['workspaces']}"),
    ]
    log = scratch / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    lab = Lab(f"http://127.0.0.1:{port}", root, log)
    try:
        deadline = time.monotonic() + PATIENCE
        while not lab.answers():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()}")
            time.sleep(0.2)
        yield lab
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


class Lab:
    """A running server: opens notebooks in a page and runs them."""

    def __init__(self, url: str, root: Path, log: Path) -> None:
        self.url, self.root, self.log = url, root, log

    def answers(self) -> bool:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{self.url}/api/status?token={TOKEN}", timeout=2).close()
            return True
        return False

    def tracebacks(self, start: int) -> list[str]:
        """Entries of the log from character `start` on that hold a traceback, but for those of RACES."""
        entries = re.split(r"^(?=\[[DIWEC] |Task exception)", self.log.read_text()[start:], flags=re.MULTILINE)
        return [e for e in entries if "Traceback" in e and not any(race in e for race in RACES)]

    def open(self, page, notebook: str) -> None:
        """Open `notebook` (relative to the root) alone in a fresh workspace and wait for its kernel."""
        page.goto(f"{self.url}/lab/tree/{notebook}?token={TOKEN}&reset", wait_until="domcontentloaded")
        self._wait_for_kernel(page)

    def _wait_for_kernel(self, page) -> None:
        page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=1000 * PATIENCE)
        page.wait_for_function(
            "() => [...document.querySelectorAll('.jp-StatusBar-TextItem')].some(e => /\\| *Idle/.test(e.textContent))",
            timeout=1000 * PATIENCE,
        )

    def run_all(self, page, seconds: float = PATIENCE) -> None:
        """Run > Run All Cells, then wait until every code cell has its number and the kernel is idle."""
        page.click('.lm-MenuBar-itemLabel:text-is("Run")')
        page.click('.lm-Menu-item[data-command="runmenu:run-all"]')
        self._wait_for_every_cell(page, seconds)

    def restart_and_run_all(self, page, seconds: float = PATIENCE) -> None:
        """Run > Restart Kernel and Run All Cells, confirmed."""
        page.click('.lm-MenuBar-itemLabel:text-is("Run")')
        page.click('.lm-Menu-item[data-command="runmenu:restart-and-run-all"]')
        number = page.locator(".jp-CodeCell .jp-InputArea-prompt").first
        before = number.text_content()
        page.click(".jp-Dialog .jp-mod-accept")
        wait_until(page, lambda: number.text_content() != before, "the numbers of the run before to go")
        self._wait_for_every_cell(page, seconds)

    def shut_down_kernel(self, page) -> None:
        """Kernel > Shut Down Kernel."""
        page.click('.lm-MenuBar-itemLabel:text-is("Kernel")')
        page.click('.lm-Menu-item[data-command="kernelmenu:shutdown"]')
        page.wait_for_function(
            "() => [...document.querySelectorAll('.jp-StatusBar-TextItem')].some(e => /No Kernel/.test(e.textContent))"
        )

    def reload(self, page) -> None:
        """Save the notebook and load the page again; the kernel goes on."""
        page.click('.lm-MenuBar-itemLabel:text-is("File")')
        page.click('.lm-Menu-item[data-command="docmanager:save"]')
        page.wait_for_function("() => !document.querySelector('.jp-mod-dirty')")
        page.reload(wait_until="domcontentloaded")
        self._wait_for_kernel(page)

    def _wait_for_every_cell(self, page, seconds: float) -> None:
        page.wait_for_function(
            """() => {
                const done = e => /^\\[\\d+\\]:$/.test(e.textContent.trim());
                const shown = '.jp-CodeCell .jp-InputPrompt:not(.jp-Placeholder-prompt)'; // collapsed: no number
                const prompts = [...document.querySelectorAll(`.jp-Notebook ${shown}`)];
                const status = document.querySelector('.jp-Notebook-ExecutionIndicator').dataset.status;
                return status === 'idle' && prompts.length > 0 && prompts.every(done);
            }""",
            timeout=seconds * 1000,
        )


# JupyterLab tells the console, not the learner, that a kernel which was shut down answers no more.
SHUT_DOWN = ("Could not send widget sync message", "Could not restore the debugger state: Canceled")


class Watcher:
    """Collects what must not happen while a learner works: page errors, console errors, requests to other hosts."""

    def __init__(self, page, url: str) -> None:
        self.problems: list[str] = []
        page.on("pageerror", lambda error: self.problems.append(f"page error: {error}"))
        page.on("console", self._read)
        home = (url, url.replace("http", "ws", 1), "data:", "blob:")
        page.on("request", lambda r: r.url.startswith(home) or self.problems.append(f"external request: {r.url}"))
        page.on("websocket", lambda w: w.url.startswith(home) or self.problems.append(f"external socket: {w.url}"))

    def _read(self, message) -> None:
        if message.type == "error" and not message.text.startswith(SHUT_DOWN):
            self.problems.append(f"console error: {message.text}")


def pixels(view) -> list[str]:
    """The canvases of an explorer, as comparable text."""
    return view.locator(".le-panels canvas").evaluate_all("all => all.map(canvas => canvas.toDataURL())")


def wait_until(page, check, what: str, seconds: float = PATIENCE) -> None:
    """Wait until check() is true; a plain loop, because the answer may need Python on both sides."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"waited {seconds} s for: {what}"
        page.wait_for_timeout(20)


# The sentence and the canvases of an explorer as one text, once they are its final answer, painted, and stay so.
SETTLED = """async view => {
    const canvases = [...view.querySelectorAll('.le-panels canvas')];
    const painted = canvas => canvas.clientWidth > 0 &&
        Math.abs(canvas.width - canvas.clientWidth * devicePixelRatio) <= devicePixelRatio;
    const moves = () => view.matches('.le-busy, .le-rough, .le-playing') || !canvases.every(painted);
    const picture = () => moves() ? null : JSON.stringify(
        [view.querySelector('.le-caption').textContent, ...canvases.map(canvas => canvas.toDataURL())]);
    const frame = () => new Promise(requestAnimationFrame);
    const before = picture();
    if (before === null) return null;
    await frame();
    await frame();
    return picture() === before ? before : null; }"""


def wait_settled(page, view, what: str = "the final picture", unlike: str = "", like: str = "") -> str:
    """Wait until the explorer shows its final picture, one unlike or like an earlier one if that is given."""
    view.scroll_into_view_if_needed()
    picture = None

    def settled() -> bool:
        nonlocal picture
        picture = view.evaluate(SETTLED)
        return picture is not None and picture != unlike and like in ("", picture)

    wait_until(page, settled, what)
    return picture


def use_theme(page, name: str) -> None:
    """Choose a theme in the Settings menu."""
    page.click('.lm-MenuBar-itemLabel:text-is("Settings")')
    page.hover('.lm-Menu-itemLabel:text-is("Theme")')
    page.click(f'.lm-Menu-itemLabel:text-is("{name}")')
    page.wait_for_function("name => document.body.dataset.jpThemeName === name", arg=name)
