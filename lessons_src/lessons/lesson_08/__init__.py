"""Lesson 08, SDE and ODE: what its notebook shows and asks."""

from lessons_src.lessons.lesson_08.explorer import explore_sde
from lessons_src.show.quiz import ask

__all__ = ["checkpoint", "explore_sde", "flashcards", "predict"]

predict, checkpoint, flashcards = ask(__package__)
