"""Lesson 03, Train a tiny DDPM: what its notebook shows and asks."""

from lessons_src.lessons.lesson_03.explorer import explore_guess, go_on, watch_training
from lessons_src.show.quiz import ask

__all__ = ["checkpoint", "explore_guess", "flashcards", "go_on", "predict", "watch_training"]

predict, checkpoint, flashcards = ask(__package__)
