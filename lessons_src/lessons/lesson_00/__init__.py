"""Lesson 00, Start here: what its notebook shows and asks."""

from lessons_src.lessons.lesson_00.explorer import draw_digit
from lessons_src.show.quiz import ask

__all__ = ["checkpoint", "draw_digit", "flashcards", "predict"]

predict, checkpoint, flashcards = ask(__package__)
