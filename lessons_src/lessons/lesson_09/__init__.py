"""Lesson 09, Fast samplers: what its notebook shows and asks."""

from lessons_src.lessons.lesson_09.explorer import explore_race
from lessons_src.show.quiz import ask

__all__ = ["checkpoint", "explore_race", "flashcards", "predict"]

predict, checkpoint, flashcards = ask(__package__)
