"""Two small tasks in place of the course's."""

import pytest
from two_tasks import TASKS

from lessons_src import exercises


@pytest.fixture(autouse=True)
def two_tasks(monkeypatch):
    monkeypatch.setattr(exercises, "all_tasks", lambda: TASKS)
