"""A linter for sentences about speed: what would have to be named before somebody else can check them.

It looks for words, so it can be fooled. What to state in full, and which claims may be compared, is lesson 09's
`claims`.
"""

import re

from lessons_src.checks import refuse

MEASURED = r"\d[\d.,]*[\s-]*(x|×|fold|times|ms|milliseconds?|s|seconds?|steps?|calls?|evaluations?)(?!\w)"
NEEDED = {  # what must be named: words that name it
    "hardware": r"gpu|cpu|a100|h100|h200|\brtx|\bm[1-4]\b|core|laptop|phone|machine|thread",
    "batch": r"\bbatch|at a time|at once",
    "guidance": r"guid|\bcfg\b|\bw\s*=",
    "quality": r"\bfid\b|distance|fréchet|recall|precision|accuracy|preferred|votes",
    "steps": r"\d+\s*(?:\w+\s)?(?:steps?|calls?|evaluations?|nfe)\b",
    "rival": r"\bthan\b|\bagainst\b|\bbelow\b|compared|\bversus\b|\bvs\b",
}


def lint(sentence: str) -> list[str]:
    """What a sentence that claims a speed leaves unnamed, in the order of NEEDED; [] if it claims none.

    A time alone needs no rival; a number of steps or calls alone needs neither hardware nor batch.
    """
    if not isinstance(sentence, str):
        refuse("sentence", sentence, "a string", TypeError)
    text = sentence.lower()
    units = {found.group(1) for found in re.finditer(MEASURED, text)}
    compared = bool(units & {"x", "×", "times", "fold"} or re.search(r"faster|order of magnitude", text))
    if not units and not compared:
        return []
    spared = set() if compared else {"rival"}
    if not compared and units <= {"step", "steps", "call", "calls", "evaluation", "evaluations"}:
        spared |= {"hardware", "batch"}
    return [name for name, words in NEEDED.items() if name not in spared and not re.search(words, text)]
