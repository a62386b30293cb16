"""Lesson 10, Inversion and editing: what its notebook shows and asks."""

from lessons_src.lessons.lesson_10.explorer import draw_edit, explore_between, explore_edit
from lessons_src.show.quiz import ask

__all__ = ["checkpoint", "draw_edit", "explore_between", "explore_edit", "flashcards", "predict"]

predict, checkpoint, flashcards = ask(__package__)
