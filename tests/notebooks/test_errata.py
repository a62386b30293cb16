"""The errata: nothing that was found is lost, every right number is right, every printed one differs from it."""

import base64
import re
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest

from lessons_src.show import plots

PATH = Path(__file__).parents[2] / "notebooks" / "deeper" / "errata.ipynb"
NOTEBOOK = nbformat.read(PATH, as_version=4)
CODE = [cell for cell in NOTEBOOK.cells if cell.cell_type == "code"]
TEXT = "\n\n".join(cell.source for cell in NOTEBOOK.cells if cell.cell_type == "markdown")

# The list of what was found in the documents, by its own numbers: a row of a table begins with the name, a statement
# of a list has it in bold.
ERRATA = {
    "E1": ["Sections of the DDIM paper"],
    "E2": ["Dhariwal & Nicholls"],
    "E2b": ["Sections of the latent-diffusion paper"],
    "E3": ["sigmoid schedule, c = 3"],
    "E4": ["cosine: ᾱ at T", "cosine: first β"],
    "E5": ["round trip, 1000 steps", "spread of the latents", "round trip, 10 steps"],
    "E6": ["round trip, 10, 50", "mean square round trip", "round trip, 50 steps", "Fewer inversion steps"],
    "E7": ["least slope", "ends of the last step", "factor of the fixed-point inverse", "Quiz 5: invertible because"],
    "E8": ["SNR at T/2 that pictures", "Linear destroys large pictures"],
    "E9": ["Example 1 by Euler in σ", "Example 3, 20 steps"],
    "E10": ["β̃ over β", "room for β", "true variance of a step", "The range of σ, and the last step"],
    "E11": ["spread at the end if only the noise"],
    "E12": ["covariance of x_s and x_t", "Quiz 1: DDIM is non-Markovian"],
    "E13": [
        "distance of 20-step DDIM from 1000-step DDPM",
        "distance of two independent samples",
        "distance of 20-step DDIM from 1000-step *DDIM*",
        "per cent in the same hump",
    ],
    "E14": ["FID of 50 DDIM steps", "DDIM loses only a little"],
    "E15": ["variance after 10 steps", "W1 to the two humps", "FID after 10 steps"],
    "E16": ["error with 19, 20, 24, 25", "W2 to the humps"],
    "E17": ["Inversion is crucial for SDEdit"],
    "E17b": ["spread of EDICT's latents", "EDICT as a cure"],
    "E18": ["w = 1 is class-conditional", "Classifier scales from 1 to 10", "FID with a classifier's scale"],
    "E19": ["our w for Ho & Salimans'"],
    "E20": ["spread of the samples at w", "length of the prediction at w", "Example 2: more variance"],
    "E20b": ["the blend at w = -1", "mean at w = -1", "Classifier guidance requires w > 0"],
    "E21": ["times fewer calls than 1000"],
    "E22": ["Quiz 2, w = 7.5", "Twice the compute whatever w is"],
    "E23": ["Where guidance is too high", "How many DDIM steps", "Ranges without a measure", "FID of the best w"],
    "E24": ["SNR at T/2: linear", "steepest over flattest", "noise variance at t = 100", "per cent of the steps"],
    "E25": ["Practice 4: power", "Practice 4: shift"],
    "E26": ["Question 6: weight", "Question 6: log-SNR"],
    "E27": [
        "calls of 20 steps",
        "FID of DPM-Solver",
        "Second-order DPM-Solver",
        "About 20 steps without loss",
    ],
    "E28": [
        "The ten-step distilled sampler",
        "Consistency models are distilled",
        "One pass for a consistency model",
        "Consistency models distil",
    ],
    "E29": ["times fewer numbers", "times faster, as measured", "Latents improve quality"],
    "E30": ["DALL·E uses it"],
    "E31": ["loss of a digit by the formula"],
    "E32": ["FID of 500, 1000, 5000", "bias over scatter", "FID of 5000, 10000, 50000"],
    "E33": ["shape of x_t for four points"],
    "E34": ["a perfect x_t"],
    "E35": ["ᾱ at T for T = 1000", "signal left at T"],
    "E36": ["swing of a perfect network's loss"],
    "E37": ["smallest loss, data N(0, 1)", "smallest loss, data ±1", "excess loss when blind"],
    "E38": ["Exact likelihood is for autoregressive models"],
    "E39": ["Practical issues of classifier guidance", "Missing parts"],
    "E40": ["The scope test with five layers", "three DDIM steps from 1", "length of the guided prediction"],
    "E41": ["Lost characters"],
    "E42": ["Example 3, first of 8 steps", "σ in Example 3"],
    "E43": ["error of log p(1.3)", "Exact likelihood"],
    "E44": ["mean, spread at w = 3", "mean, spread at w = 7.5", "per cent of the class beyond"],
    "E45": ["ᾱ at index 50, 100", "Samples at T, T/2 and 0"],
    "E46": ["Example 1: √0.9 x̂0, second", "Example 1: √0.1 ε, first", "Example 1: x_s"],
    "E47": ["weights of the two predictions", "Interpolating between the predictions"],
    "E48": ["The same marginals, the same trained model"],
    "E50": ["The quiz as one list"],
    "E51": ["ᾱ at T/2 and T"],
    "E52": ["ᾱ at T, and at the top"],
    "E53": ["Song et al. (2021), twice", "Year of DDIM"],
    "E54": ["Why DDIM takes large steps"],
    "E56": ["calls with guidance"],
    "E58": ["Who dominates what"],
    "E59": ["Lost table cells", "Headings twice"],
    "N12": ["Example 1: ᾱ", "Practice 1: ᾱ"],
}

# Right values, worked out apart from the course's code (numpy, mpmath, adaptive quadrature) or quoted from the papers.
# Each is meant to half a unit of its last digit.
RIGHT = {
    "FID of 50 DDIM steps over FID of 1000, CIFAR10": "1.1559405940594",  # 4.67 / 4.04
    "FID of 50 DDIM steps over FID of 1000, CelebA": "2.6125356125356",  # 9.17 / 3.51
    "weights of the two predictions": "-6.5 7.5",
    "three DDIM steps from 1": "0.718848",  # 11232 / 15625
    "length of the guided prediction": "0.3741657386773941 1.349073756323204 3.552463933666322",
    "variance after 10 steps": "0.5483290575 0.6878533277 0.8970181457",
    "FID after 10 steps": "367.43 41.07 13.36",
    "covariance of x_s and x_t": "0.1414213562373095 0.0942809041582063",
    "our w for Ho & Salimans'": "1 0 7.5",
    "times fewer calls than 1000": "166.6666666666667",
    "calls with guidance": "2000 100 40 16",
    "calls of 20 steps": "40",
    "FID of DPM-Solver": "1.637630662020906",  # 4.70 / 2.87
    "round trip, 1000 steps": "0.01060",
    "spread of the latents": "0.996",
    "round trip, 10 steps": "0.25590",
    "round trip, 10, 50": "0.25590 0.11316 0.06317 0.01060",
    "mean square round trip": "0.014 0.0065 0.0023 0.0009 0.0004 0.0001",
    "round trip, 50 steps": "0.0330 0.1933 0.3703451504",
    "least slope": "0.0045 0.173 0.792",
    "ends of the last step": "0.8 0.8",
    "factor of the fixed-point inverse": "3.02 2.26 1.02 0.102",
    "ᾱ at T, and at the top": "4.035829765375676e-05 5.904e-05 2.702e-04",
    "mean, spread at w = 3": "1.52248 0.31442 1.051146 0.456739",
    "mean, spread at w = 7.5": "2.08023 0.25150 1.084500 0.435476",
    "spread of the samples at w": "0.49920 0.35898 0.31442 0.27447 0.25150",
    "length of the prediction at w": "0.3741657386773941 3.552463933666322",
    "the blend at w = -1": "-0.3 0.5 -0.2",
    "mean at w = -1": "-1.83114 18.7",
    "Quiz 2, w = 7.5: distance from ε_c": "6.5",
    "Quiz 2, w = 7.5: length": "9.494359227607577",
    "FID with a classifier's scale": "33.0 12.0",
    "FID of the best w (1.1)": "1.55 12.6",
    "FID of the best w (1.3)": "2.43 7.86",
    "sigmoid schedule, c = 3": "1 0.8508535479 0.5 0.1491464521 0",
    "SNR at T/2: linear": "0.085289944 0.97567388 1",
    "steepest over flattest": "3.75 6.5 3.53",
    "noise variance at t = 100": "0.1029818543 0.0279072629",
    "per cent of the steps": "32.6 6.4",
    "cosine: ᾱ at T": "2.4287669070e-09",
    "cosine: first β": "16.7",
    "ᾱ at T for T = 1000": "4.035829765375676e-05 0.00635 0.3636 0.603",
    "ᾱ at T/2 and T": "0.07858724288177824 4.035829765375676e-05 0.0790638 4.31857e-05",
    "Example 1 by Euler in σ (DDIM), in σ², in t: first": "0.2865752749322626 0.2918457377 0.2913303679",
    "Example 1 by Euler in σ (DDIM), in σ², in t: second": "-0.3452071272077190 -0.3583832841 -0.3577138886",
    "Example 3, first of 8 steps": "0.7318676504889478 0.7357715713059301 0.7358818786893764",
    "Example 3, 20 steps": "0.063 0.148 0.033",
    "spread at the end if only the noise": "0.034068626",
    "error of log p(1.3)": "-0.0942427058485733 -0.011236258971 -0.001491794602 -2.72414831e-05",
    "Example 1: √0.9 x̂0, second": "-0.1870932441993001",
    "Example 1: √0.1 ε, first": "0.06324555320336759",
    "Example 1: x_s, first": "0.2865752749322626",
    "Example 1: x_s, second": "-0.3452071272077190",
    "Example 1: ᾱ at t = 100, 50 of the linear": "0.8970181457 0.9710157229",
    "Example 1: ᾱ at t = 100, 50 of the cosine": "0.9720927371 0.9920072787",
    "Practice 1: ᾱ": "0.65904 0.8970181457",
    "Practice 4: power": "784",
    "Practice 4: shift": "1.3862943611",
    "Question 6: weight": "4.851651954e+08",
    "Question 6: log-SNR": "-10.12 -19.84",
    "error with 19, 20, 24, 25": "0.163636 0.164143 0.133538 0.134498",
    "W2 to the humps": "0.011186 0.011338 0.015662",
    "SNR at T/2 that pictures": "1 0.25 0.0625 0.015625 0.00390625",
    "ᾱ at index 50, 100": "0.971016 0.897018 0.969951 0.895142",
    "β̃ over β": "0.45474 0.99914",
    "room for β in DDIM's formula at t": "-1.0e-04 -1.99e-05",
    "room for β in DDIM's formula, Example 1": "-0.0111111111",
    "true variance of a step": "0.01004004004 0.0100313554",
    "shape of x_t for four points": "4 2",
    "loss of a digit by the formula": "784",
    "a perfect x_t at T/2, linear": "0.2803 0.9599",
    "a perfect x_t at 3T/4": "0.0579 0.9983",
    "a perfect x_t at T/2, cosine": "0.7027 0.711447",  # root of 1 - 0.49384359
    "swing of a perfect network's loss": "22.8 11.0",  # 0.0628 and 0.0304 of 0.2755
    "smallest loss, data N(0, 1)": "0.275513 0.350538",
    "smallest loss, data ±1": "0.121457 0.299676",
    "excess loss when blind": "0.087198 0.071988 0.015833 0.0012303",  # by a second quadrature
    "distance of 20-step DDIM from 1000-step *DDIM*": "0.1006",
    "signal left at T": "0.006352818 0.603",
    "FID of 500, 1000, 5000": "2.212 1.105 0.2208",
    "FID of 5000, 10000, 50000": "222.6 107.9 21.12",
    "times fewer numbers": "48",
    "times faster, as measured": "2.70 2.91 3.73 4.86",
}

# Drawn at random, or over quantiles: the value and what it may be off by, component by component.
DRAWN = {
    "W1 to the two humps": ((0.137, 0.01), (0.09276, 1e-4), (0.061, 0.01)),
    "spread of EDICT's latents": ((1.06, 0.01), (1.35, 0.01), (1.35e5, 0.02e5)),
    "per cent of the class beyond": ((1.54, 0.01),),
    "distance of 20-step DDIM from 1000-step DDPM": ((1.2, 0.06),),
    "distance of two independent samples": ((1.209, 0.002),),
    "per cent in the same hump": ((99.0, 0.5),),
    "bias over scatter": ((32, 8),),
}


class Ran:
    """What one run of the notebook's code leaves behind."""

    def __init__(self):
        self.names, self.shown = {}, []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(plots, "display", lambda markdown: self.shown.append(markdown.data))
            for cell in CODE:
                exec(compile(cell.source, cell.id, "exec"), self.names)
        self.found = self.names["found"]

    def one(self, name):
        """(printed, right) of the one row that begins with `name`."""
        (row,) = (what for what in self.found if what.startswith(name))
        return self.found[row]


@pytest.fixture(scope="module")
def ran():
    return Ran()


def half_a_unit(number):
    """Half a unit of the last digit of a number written out."""
    mantissa, _, exponent = number.partition("e")
    return 0.5 * 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))


def test_nothing_found_is_lost(ran):
    statements = re.findall(r"^- \*\*(.+?)\*\* \(\*(\w+)\*\)", TEXT, re.MULTILINE)
    leads = [lead for lead, _ in statements]
    assert len(leads) == len(set(leads))
    for number, names in ERRATA.items():
        for name in names:
            assert any(there.startswith(name) for there in [*ran.found, *leads]), f"{number}: {name!r} is missing"
    every = [name for names in ERRATA.values() for name in names]
    for there in [*(what for what in ran.found if what not in ran.names["correct"]), *leads]:
        assert any(there.startswith(name) for name in every), f"{there!r} belongs to nothing in the list"
    kinds = {kind for _, kind in statements}
    assert kinds <= {"rounding", "formula", "convention", "overstated", "outdated", "typo", "missing"}


@pytest.mark.parametrize("name", RIGHT)
def test_right_numbers_are_right(ran, name):
    _, right = ran.one(name)
    wanted = RIGHT[name].split()
    assert len(right) == len(wanted)
    for value, number in zip(right, wanted, strict=True):
        off = max(1.001 * half_a_unit(number), 1e-9 * abs(float(number))) if "." in number else 1e-9
        assert abs(value - float(number)) <= off, f"{value} is not {number}"


@pytest.mark.parametrize("name", DRAWN)
def test_drawn_numbers_are_near(ran, name):
    _, right = ran.one(name)
    for value, (wanted, off) in zip(right, DRAWN[name], strict=True):
        assert abs(value - wanted) <= off


def test_every_row_is_tested(ran):
    names = [*RIGHT, *DRAWN]
    assert not [what for what in ran.found if what not in ran.names["correct"] and not what.startswith(tuple(names))]


def test_printed_numbers_differ(ran):
    compared = 0
    for what, (printed, right) in ran.found.items():
        numbers = printed.split(", ")
        if all(re.fullmatch(r"-?\d+(\.\d+)?", number) for number in numbers) and len(numbers) == len(right):
            compared += 1
            same = [
                abs(value - float(number)) <= half_a_unit(number) * (1 + 1e-9)
                for value, number in zip(right, numbers, strict=True)
            ]
            assert all(same) if what in ran.names["correct"] else not all(same), what
    assert compared > 25


def test_both_signs(ran):
    right, flipped = ran.names["example_3"]
    assert abs(right - 1.28437384118) < 1e-10
    assert abs(flipped - -0.7488851070) < 1e-9
    assert abs(ran.names["landed"] - 1.2842917297360872) < 1e-12
    right, flipped = ran.names["density"]
    assert abs(right - -0.4057913526447274) < 1e-12
    assert abs(flipped - -1.778253762703442) < 1e-12


def test_stored_tables_are_what_the_code_shows(ran):
    stored = [output.data["text/markdown"] for cell in CODE for output in cell.outputs]
    assert stored == ran.shown


def test_stored_like_a_lesson():
    nbformat.validate(NOTEBOOK)
    assert [cell.execution_count for cell in CODE] == list(range(1, len(CODE) + 1))
    assert PATH.stat().st_size < 200_000
    for cell in CODE:
        lines = len(cell.source.splitlines())
        assert lines <= 25, f"{cell.id}: a cell a learner cannot take in at once"
        assert lines <= 12 or cell.metadata.get("jupyter", {}).get("source_hidden"), cell.id
        for output in cell.outputs:
            assert output.output_type == "display_data"
            assert len(base64.b64decode(output.data.get("image/png", ""))) == 0


def test_headings_links_and_navigation():
    headings = re.findall(r"^(#+) (.*)$", TEXT, re.MULTILINE)
    levels = [len(marks) for marks, _ in headings]
    assert headings[0] == ("#", "Errata: what the documents print, and what is right")
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    order = [TEXT.index(f"The {name}\n") for name in ("lesson page", "cheatsheet", "reference page", "lecture notes")]
    assert order == sorted(order)
    assert NOTEBOOK.cells[0].source.splitlines()[2].endswith("<!-- navigation -->")
    shown = "\n".join(output.data["text/markdown"] for cell in CODE for output in cell.outputs)
    for target in set(re.findall(r"\]\(([^)\s]+)\)", TEXT + shown)):
        assert (PATH.parent / target).exists(), target


def test_numbers_in_prose_are_computed():
    """Every number with two decimals or more stands, rounded, in code or in a stored output."""
    stored = [output.data["text/markdown"] for cell in CODE for output in cell.outputs]
    computed = [
        float(number)
        for number in re.findall(r"\d+\.\d+(?:e-?\d+)?", " ".join([*stored, *(cell.source for cell in CODE)]))
    ]
    prose = re.sub(r"\]\([^)]*\)", "", TEXT)
    for number in set(re.findall(r"(?<![\d.])\d+\.\d{2,}(?![\d.]*\d)", prose)):
        digits = len(number.partition(".")[2])
        assert any(float(number) == round(c, digits) for c in computed), number


def test_speaks_of_diffusion_only():
    everything = TEXT + "\n".join(cell.source for cell in CODE)
    found = re.search(r"/root/|/home/|/tmp/|\bTODO\b|\bFIXME\b|\b[EN]\d+[a-z]?\b|\.txt\b", everything)
    assert found is None, found
