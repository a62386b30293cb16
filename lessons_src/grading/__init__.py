"""Grading a class: the verdict is computed outside the learner's process, which runs sealed off from everything.

In a terminal, `python -m lessons_src.grading --help`. Modules, each importing only from those before it: worker (the
confined side), sandbox (processes for learners' code), notebook (triage of what was handed in), grade (one submission
in, one graded notebook out), similarity (who gave the same answers), course (nbgrader's folders and gradebook), demo (a
class of twenty-five).
"""
