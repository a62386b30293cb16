"""Lesson 02, Noise schedules: what its notebook shows and asks."""

from lessons_src.lessons.lesson_02.explorer import explore_levels, explore_schedules
from lessons_src.show.quiz import ask

__all__ = ["checkpoint", "explore_levels", "explore_schedules", "flashcards", "predict"]

predict, checkpoint, flashcards = ask(__package__)
