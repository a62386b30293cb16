"""Lesson 07, Classifier and CLIP guidance: what its notebook computes, shows and asks."""

from lessons_src.lessons.lesson_07.explorer import explore_digits, explore_guides
from lessons_src.show.quiz import ask

__all__ = ["checkpoint", "explore_digits", "explore_guides", "flashcards", "predict"]

predict, checkpoint, flashcards = ask(__package__)
