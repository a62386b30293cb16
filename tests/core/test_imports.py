"""The package is built in rooms: no import goes up, none goes in a circle, and the front room needs torch and numpy."""

import ast
import json
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import lessons_src

PACKAGE = Path(lessons_src.__file__).parent
FILES = {
    ".".join(("lessons_src", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.parts[len(PACKAGE.parts)] != "assets"  # what is written into a folder for others
}
CORE = [name for name in FILES if name.count(".") == 1 and FILES[name].parent == PACKAGE]
BELOW = {  # a room, and the rooms that its modules may import from
    "core": {"core"},
    "show": {"core", "show"},
    "exercises": {"core", "exercises"},
    "lessons": {"core", "show", "exercises", "lessons"},
    "exam": {"core", "exercises", "lessons", "exam"},
    "grading": {"core", "exercises", "exam", "grading"},
    "make": {"core", "show", "exercises", "lessons", "make"},
}
MORE = {
    "data": {"PIL", "pooch"},
    "weights": {"safetensors"},
    "export": {"safetensors", "onnxruntime"},
}  # what a module of the front room needs beside torch and numpy
HEAVY = {"IPython", "anywidget", "diffusers", "ipykernel", "ipywidgets", "jupyter_core", "jupyterlab", "matplotlib"}
HEAVY |= {"nbformat", "PIL", "pandas", "pooch", "scipy", "sklearn", "traitlets"}

SCRIPT = """
import importlib, json, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Refuse())
import numpy, safetensors.torch, torch
before = set(sys.modules)
for module in MODULES:
    importlib.import_module(module)
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def room(name: str) -> str:
    return "core" if name in CORE or name == "lessons_src" else name.split(".")[1]


def imported(name: str) -> set[str]:
    """Full names of everything that a module imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(FILES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def used(name: str) -> set[str]:
    """The package's modules that a module imports, or imports something from."""
    found = {full if full in FILES else full.rpartition(".")[0] for full in imported(name)}
    return {full for full in found if full in FILES} - {name}


@pytest.mark.parametrize("name", FILES)
def test_imports_come_from_the_same_room_or_from_below(name):
    assert {room(other) for other in used(name) if other != "lessons_src"} <= BELOW[room(name)]


def test_there_is_no_circle():
    order = list(TopologicalSorter({name: used(name) for name in FILES}).static_order())
    assert sorted(order) == sorted(FILES)


@pytest.mark.parametrize("name", CORE)
def test_the_front_room_names_only_torch_and_numpy(name):
    top = {full.split(".")[0] for full in imported(name)} - MORE.get(name.rpartition(".")[2], set())
    assert top - sys.stdlib_module_names <= {"torch", "numpy", "lessons_src"}


def test_the_front_room_imports_without_jupyter_and_loads_nothing_heavy():
    light = [name for name in CORE if name != "lessons_src.training"]  # which needs torch.distributed
    header = f"BLOCKED, MODULES = {HEAVY!r}, {light!r}\n"
    result = subprocess.run([sys.executable, "-c", header + SCRIPT], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    new = json.loads(result.stdout)
    assert set(light) <= set(new)
    assert {name.split(".")[0] for name in new} - sys.stdlib_module_names <= {"torch", "numpy", "lessons_src"}
    assert not {name for name in new if name.startswith(("torch._dynamo", "torch._inductor", "torch.distributed."))}
