"""Lesson 05, DDIM: what its notebook shows and asks."""

from lessons_src.lessons.lesson_05.explorer import explore_ddim, explore_digit_steps, explore_eta
from lessons_src.show.quiz import ask

__all__ = ["checkpoint", "explore_ddim", "explore_digit_steps", "explore_eta", "flashcards", "predict"]

predict, checkpoint, flashcards = ask(__package__)
