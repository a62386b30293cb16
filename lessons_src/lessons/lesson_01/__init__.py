"""Lesson 01, The forward shortcut: what its notebook shows and asks."""

from lessons_src.lessons.lesson_01.explorer import explore_forward, explore_guess
from lessons_src.show.quiz import ask

__all__ = ["checkpoint", "explore_forward", "explore_guess", "flashcards", "predict"]

predict, checkpoint, flashcards = ask(__package__)
