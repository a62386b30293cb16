"""Execute lessons from a fresh kernel and store them with small, reproducible outputs: `make notebooks`.

What differs from run to run is left out: widget model numbers (the picture stored beside them stays), execution times,
versions of the interpreter.
"""

import argparse
import os
from pathlib import Path

import nbformat
from nbclient import NotebookClient

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


def execute(path: Path, timeout: int = 300) -> None:
    """Run the notebook at `path` top to bottom and replace it; an error leaves the file as it was."""
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNELSPEC, "language_info": {"name": "python"}})
    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        store_widget_state=False,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute()
    notebook.metadata.language_info = {"name": "python"}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET_VIEW, None)
            output.get("metadata", {}).pop(WIDGET_VIEW, None)
    nbformat.validate(notebook)
    finished = path.with_suffix(".ipynb.new")
    nbformat.write(notebook, finished)
    os.replace(finished, path)


def main() -> None:
    """Execute every notebook named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="+", type=Path)
    for path in parser.parse_args().notebooks:
        print(path, flush=True)
        execute(path)


if __name__ == "__main__":
    main()
