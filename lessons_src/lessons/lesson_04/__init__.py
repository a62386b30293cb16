"""Lesson 04, DDPM sampling: what its notebook shows and asks."""

from lessons_src.lessons.lesson_04.explorer import explore_ddpm, explore_leap, explore_run
from lessons_src.show.quiz import ask

__all__ = ["checkpoint", "explore_ddpm", "explore_leap", "explore_run", "flashcards", "predict"]

predict, checkpoint, flashcards = ask(__package__)
