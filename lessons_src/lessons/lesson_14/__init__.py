"""Lesson 14, Choosing and shipping: what its notebook computes, shows and asks."""

from lessons_src.lessons.lesson_14.explorer import explore_choice
from lessons_src.show.quiz import ask

__all__ = ["checkpoint", "explore_choice", "flashcards", "predict"]

predict, checkpoint, flashcards = ask(__package__)
