"""What every test of the grading needs: the two tasks in place of the course's, and a sandbox."""

import errno
import os
import shutil
from pathlib import Path

import nbformat
import pytest
from two_tasks import RELEASE, SOURCE, TASKS

from lessons_src import exercises
from lessons_src.grading import sandbox as sandbox_module
from lessons_src.grading.grade import Job, grade
from lessons_src.grading.notebook import rebuild
from lessons_src.grading.sandbox import Sandbox


@pytest.fixture(autouse=True)
def two_tasks(monkeypatch):
    monkeypatch.setattr(exercises, "all_tasks", lambda: TASKS)


@pytest.fixture
def unreadable(monkeypatch):
    """Make a file or folder refuse to be read, as `chmod 000` does for everybody but root."""
    refused, methods = set(), {name: getattr(Path, name) for name in ("open", "iterdir")}

    def method(name):
        def attempt(path, *arguments, **options):
            if path in refused:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return methods[name](path, *arguments, **options)

        return attempt

    for name in methods:
        monkeypatch.setattr(Path, name, method(name))
    return refused.add


@pytest.fixture(scope="session")
def bubblewrap():
    if not shutil.which("bwrap") and os.environ.get("CI") != "true":
        pytest.skip("bubblewrap is not installed (apt install bubblewrap): learners' code is not run without it")


@pytest.fixture(scope="session")
def sandbox(bubblewrap):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LESSONS_SECRET", "1")
        patch.setattr(sandbox_module, "GRACE", 1)
        with Sandbox(["torch"]) as box:
            yield box


@pytest.fixture
def graded(sandbox):
    """Grade a submission: its scores, and everything that its learner would read."""

    def run(submitted, seed="secret", **limits):
        content = submitted if isinstance(submitted, bytes) else nbformat.writes(submitted).encode()
        rebuilt, notes = rebuild(content, RELEASE)
        rebuilt.metadata["from_the_grader"] = notes
        job = Job(
            nbformat.writes(rebuilt), nbformat.writes(SOURCE), seed, **{"cell": 2, "call": 1, "total": 60} | limits
        )
        result = grade(job, sandbox)
        return {name: earned for name, (earned, _) in result.scores.items()}, result.notebook

    return run
