"""The package is built in floors, in the order that its docstring states, and its core needs torch and numpy alone."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import lessons_src

PACKAGE = Path(lessons_src.__file__).parent
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")
STATED = re.search(r"Modules.*?\.(?=\s)", lessons_src.__doc__, re.DOTALL).group()
ORDER = [*(word for word in re.findall(r"\w+", STATED) if word in MODULES)]
CORE = [*(word for word in re.findall(r"\w+", STATED.split("needing safetensors")[0]) if word in MODULES)]
NOTEBOOK = {"IPython", "anywidget", "diffusers", "ipykernel", "ipywidgets", "jupyter_core", "jupyterlab", "matplotlib"}
NOTEBOOK |= {"nbformat", "PIL", "pandas", "scipy", "sklearn", "traitlets"}

SCRIPT = """
import importlib, json, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Refuse())
import numpy, torch
before = set(sys.modules)
for module in MODULES:
    importlib.import_module(f"lessons_src.{module}")
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def imported(module: str) -> set[str]:
    """Full names of everything that a module imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_the_docstring_names_every_module():
    assert sorted(ORDER) == MODULES
    assert CORE[:8] == ["checks", "files", "schedules", "process", "oracle", "data", "samplers", "guidance"]


@pytest.mark.parametrize("module", ORDER)
def test_imports_only_from_floors_below(module):
    used = {name.split(".")[1] for name in imported(module) if name.startswith("lessons_src.")}
    assert used <= set(ORDER[: ORDER.index(module)])


@pytest.mark.parametrize("module", CORE)
def test_the_core_names_only_torch_and_numpy(module):
    top = {name.split(".")[0] for name in imported(module)}
    assert top - sys.stdlib_module_names <= {"torch", "numpy", "lessons_src"}


def test_the_core_imports_without_jupyter_and_loads_nothing_heavy():
    light = [module for module in CORE if module != "training"]  # which needs torch.distributed
    header = f"BLOCKED, MODULES = {NOTEBOOK!r}, {light!r}\n"
    result = subprocess.run([sys.executable, "-c", header + SCRIPT], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    new = json.loads(result.stdout)
    assert {f"lessons_src.{module}" for module in light} <= set(new)
    assert {name.split(".")[0] for name in new} - sys.stdlib_module_names <= {"torch", "numpy", "lessons_src"}
    assert not {name for name in new if name.startswith(("torch._dynamo", "torch._inductor", "torch.distributed."))}
