"""The set-up files agree with each other: pyproject.toml is the one source of dependencies."""

import json
import os
import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import jsonschema
import pytest
import yaml
from jupyter_client.manager import KernelManager
from packaging.requirements import Requirement

import lessons_src

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
DIRECT = [Requirement(text) for text in chain(PROJECT["dependencies"], *EXTRAS.values())]


def pins() -> dict[str, str]:
    """Name -> version of every line of constraints.txt."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    return {canonical(name): version for name, version in (line.split("==") for line in lines)}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("requirement", DIRECT, ids=str)
def test_every_dependency_is_pinned_within_its_bounds(requirement):
    version = pins().get(canonical(requirement.name))
    assert version, f"constraints.txt does not pin {requirement.name}"
    assert requirement.specifier.contains(version), f"constraints.txt pins {requirement.name}=={version}"


def test_dependencies_have_lower_bounds_and_no_caps():
    for requirement in DIRECT:
        assert [s.operator for s in requirement.specifier] == [">="], f"{requirement}: expected one lower bound"


def test_constraints_pin_the_tested_torch():
    assert pins()["torch"] == "2.13.0"


def test_constraints_keep_out_what_makes_every_start_slow():
    assert "rfc3987-syntax" not in pins()


def test_environment_yml_only_opens_the_door_to_pyproject():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    python, pip, pip_list = environment["dependencies"]
    assert python == "python" + PROJECT["requires-python"]
    assert pip == "pip"
    (editable,) = pip_list["pip"]
    assert set(re.fullmatch(r"-e \.\[([\w,]+)\]", editable).group(1).split(",")) == {"notebooks", "grading", "test"}
    assert set(EXTRAS) >= {"notebooks", "test"}


def test_readme_names_only_commands_that_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z-]+)", (ROOT / "README.md").read_text()))
    assert {"lab", "test"} <= named <= targets


def test_every_command_is_explained():
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE).group(1).split()
    assert set(phony) == set(re.findall(r"^([a-z-]+):.*##", makefile, re.MULTILINE))


def made(target, folder):
    """A file that the Makefile writes, made in an empty folder as if the packages were there."""
    make = ["make", "-f", str(ROOT / "Makefile"), "--assume-old=.venv/lab", target]
    done = subprocess.run(make, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / target


def test_make_tells_jupyterlab_not_to_ask_for_news_and_to_keep_widgets(tmp_path):
    """What make writes says so, in words that the installed JupyterLab takes."""
    said = json.loads(made(".venv/share/jupyter/lab/settings/overrides.json", tmp_path).read_text())
    assert said == {
        "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
        "@jupyter-widgets/jupyterlab-manager:plugin": {"saveState": True},
    }
    share = Path(sys.prefix) / "share" / "jupyter"
    for name, settings in said.items():
        extension, plugin = name.split(":")
        (schema,) = share.glob(f"lab*/**/schemas/{extension}/{plugin}.json")
        jsonschema.validate(settings, json.loads(schema.read_text()) | {"additionalProperties": False})


def test_a_kernel_of_the_course_says_what_to_do_after_an_error(tmp_path):
    settings = made(".venv/etc/ipython/ipython_kernel_config.json", tmp_path)
    manager, said = KernelManager(), {}
    environment = os.environ | {"IPYTHONDIR": str(tmp_path / "nobody"), "PYTHONPATH": str(ROOT)}
    manager.start_kernel(extra_arguments=[f"--config={settings}"], env=environment)
    client = manager.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        for code, helps in (
            ("lesson.explore()", True),  # nothing has run yet, not even the set-up cell
            ("lesson = 1; lesson.explore()", False),
            ("def f():\n    lesson += 1\n\n\nf()", False),
        ):
            client.execute_interactive(code, output_hook=lambda message: said.update(message["content"]), timeout=60)
            text = "".join(said["traceback"])
            assert said["ename"] in text
            assert ("Run All Above Selected Cell" in text) == helps
        stop = "import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(60)"
        client.execute_interactive(stop, output_hook=lambda message: said.update(message["content"]), timeout=60)
        assert said["ename"] == "KeyboardInterrupt"
        assert "run it again when you like" in "".join(said["traceback"])
        assert "time.sleep" not in "".join(said["traceback"])
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_python_versions_and_torch_floor():
    assert PROJECT["requires-python"] == ">=3.11"
    assert "torch>=2.6" in PROJECT["dependencies"]


def test_the_code_in_the_readme_runs():
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    scope: dict = {}
    exec(code, scope)
    assert scope["x"].shape == (500, 2)


def test_the_citation_names_the_version_that_is_there():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == lessons_src.__version__
