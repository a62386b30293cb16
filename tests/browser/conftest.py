import json

import nbformat
import pytest
from lab import CHROMIUM_FLAGS, PATIENCE, Watcher, find_chromium, lab_server, missing


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """A headless Chromium with a profile of its own."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright: pip install -e '.[test]'")
    program = find_chromium()
    if program is None:
        missing("Chromium or Chrome on PATH, or its path in CHROMIUM")
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(tmp_path_factory.mktemp("profile")),
            executable_path=program,
            headless=True,
            args=CHROMIUM_FLAGS,
            viewport={"width": 1400, "height": 1300},
        )
        yield context
        context.close()


@pytest.fixture(scope="session")
def lab(tmp_path_factory, chromium):
    """JupyterLab serving an empty folder; without a browser it is never started."""
    with lab_server(tmp_path_factory.mktemp("notebooks"), tmp_path_factory.mktemp("jupyter")) as server:
        yield server


@pytest.fixture
def page(chromium, lab):
    """A fresh tab; the test fails if the page, its console, the kernel or the network misbehaved in it."""
    page = chromium.new_page()
    page.set_default_timeout(1000 * PATIENCE)
    watcher = Watcher(page, lab.url)
    logged = len(lab.log.read_text())
    yield page
    page.close()
    assert watcher.problems == []
    assert lab.tracebacks(logged) == []


@pytest.fixture
def notebook(lab, request):
    """Writes a notebook of the given cells, code or headings, below the server's root and returns its name."""

    def write(*sources: str, outputs: dict | None = None) -> str:
        new = {True: nbformat.v4.new_markdown_cell, False: nbformat.v4.new_code_cell}
        cells = [new[source.startswith("# ") and "\n" not in source](source) for source in sources]
        if outputs is not None:
            cells[-1].outputs = [nbformat.v4.new_output("execute_result", execution_count=1, **outputs)]
        book = nbformat.v4.new_notebook(cells=cells)
        book.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        name = f"{request.node.name.split('[')[0]}.ipynb"
        (lab.root / name).write_text(json.dumps(book))
        return name

    return write
