"""Lesson 11, Few-step distillation: what its notebook shows and asks."""

from lessons_src.lessons.lesson_11.explorer import explore_digits, explore_students
from lessons_src.show.quiz import ask

__all__ = ["checkpoint", "explore_digits", "explore_students", "flashcards", "predict"]

predict, checkpoint, flashcards = ask(__package__)
