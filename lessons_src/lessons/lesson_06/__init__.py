"""Lesson 06, Classifier-free guidance: what its notebook shows and asks."""

from lessons_src.lessons.lesson_06.explorer import explore_digit_guidance, explore_guidance
from lessons_src.show.quiz import ask

__all__ = ["checkpoint", "explore_digit_guidance", "explore_guidance", "flashcards", "predict"]

predict, checkpoint, flashcards = ask(__package__)
