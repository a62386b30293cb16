"""What explorers compute in the browser equals what Python computes, for settings drawn at random."""

import json
import random
import subprocess
from pathlib import Path

import numpy as np
import playwright
import pytest

from lessons_src.lessons import lesson_05, lesson_06, lesson_07, lesson_09, lesson_11

EXPLORERS = {
    "ddim": lesson_05.explore_ddim,
    "eta": lesson_05.explore_eta,
    "guidance": lesson_06.explore_guidance,
    "guides": lesson_07.explore_guides,
    "race": lesson_09.explore_race,
    "students": lesson_11.explore_students,
}
DRAWS = 25
NODE = Path(playwright.__file__).parent / "driver" / "node"
RUN = """
const [script, constants, settings] = JSON.parse(require("fs").readFileSync(0, "utf-8"));
import("data:text/javascript;base64," + Buffer.from(script).toString("base64")).then(({ picture }) => {
  const numbers = Object.fromEntries(Object.entries(constants).map(([k, v]) => [k, Float64Array.from(v)]));
  const list = (v) => (ArrayBuffer.isView(v) ? Array.from(v) : v);
  const plain = (p) => Object.fromEntries(Object.entries(p).map(([k, v]) => [k, list(v)]));
  const found = settings.map((values) => picture(values, numbers));
  console.log(JSON.stringify(found.map((f) => f && { ...f, panels: f.panels.map(plain) })));
});
"""


def drawn(controls, rng):
    """Settings at random, the whole range of every control."""
    values = {}
    for control in controls:
        if control["kind"] == "choice":
            values[control["name"]] = rng.choice(control["options"])
        else:
            steps = round((control["max"] - control["min"]) / control["step"])
            value = control["min"] + rng.randint(0, steps) * control["step"]
            values[control["name"]] = round(value, control["decimals"]) if control["decimals"] else value
    return values


@pytest.fixture(params=EXPLORERS)
def explorer(request):
    return EXPLORERS[request.param]()


def in_node(explorer, settings, script=None):
    """What the browser would show for each of the settings."""
    constants = {name: np.frombuffer(value).tolist() for name, value in explorer._constants.items()}
    text = json.dumps([script or explorer._script, constants, settings])
    ran = subprocess.run([NODE, "-e", RUN], input=text, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def settings_of(explorer):
    rng = random.Random(0)
    settings = [drawn(explorer._controls, rng) for _ in range(DRAWS)]
    for values in settings[: 3 * DRAWS // 4] if "third" in explorer.values else ():
        values["third"] = "Heun"  # other solvers go through the kernel
    return [{name: explorer._read[name](value) for name, value in values.items()} for values in settings]


def test_the_browser_equals_python(explorer):
    settings = settings_of(explorer)
    answered = 0
    for values, found in zip(settings, in_node(explorer, settings), strict=True):
        if found is None:
            continue
        answered += 1
        expected = explorer._first(values)
        message = expected._message()
        for panel, ours in zip(message["panels"], found["panels"], strict=True):
            if "data" in ours:
                reference = np.frombuffer(panel["data"], np.float32)
                assert panel["frames"] == ours.get("frames", 1)
                for key in {"title", "size", "groups", "lines", "styles"} & ours.keys():
                    assert ours[key] == json.loads(json.dumps(panel[key])), (values, key)
                for key in {"target", "arrows"} & ours.keys():
                    np.testing.assert_allclose(ours[key], np.frombuffer(panel[key], np.float32), rtol=1e-6, atol=1e-5)
                np.testing.assert_allclose(ours["data"], reference, rtol=1e-6, atol=1e-5)
        for key in ("text", "frame_names", "frame_texts", "formula", "start"):
            if key in found:
                assert found[key] == (list(message[key]) if isinstance(message[key], tuple) else message[key]), values
    assert answered >= DRAWS // 5, "hardly anything is answered in the browser"


def test_a_wrong_formula_is_noticed():
    explorer = lesson_05.explore_ddim()
    right = "Math.sqrt(ab_s) * x0 + "
    assert explorer._script.count(right) == 1
    script = explorer._script.replace(right, "Math.sqrt(ab_s) * x0 * 1.0001 + ")
    (found,) = in_node(explorer, [{"steps": 10, "grid": "linspace"}], script)
    reference = np.frombuffer(explorer.picture._message()["panels"][0]["data"], np.float32)
    assert np.abs(np.array(found["panels"][0]["data"]) - reference).max() > 1e-5
