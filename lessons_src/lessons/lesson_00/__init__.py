"""Lesson 00, Start here: what its notebook shows and asks."""

from lessons_src.lessons.lesson_00.explorer import draw_digit
from lessons_src.lessons.lesson_00.tables import course_map, this_machine
from lessons_src.show.quiz import ask

__all__ = ["checkpoint", "course_map", "draw_digit", "flashcards", "predict", "this_machine"]

predict, checkpoint, flashcards = ask(__package__)
