"""Lesson 00, Start here: what its notebook shows and asks."""

from lessons_src.show.quiz import ask

__all__ = ["checkpoint", "flashcards", "predict"]

predict, checkpoint, flashcards = ask(__package__)
