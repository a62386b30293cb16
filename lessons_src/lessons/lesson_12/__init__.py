"""Lesson 12, Latent diffusion: what its notebook shows and asks."""

from lessons_src.lessons.lesson_12.explorer import explore_captions
from lessons_src.lessons.lesson_12.taught import follow
from lessons_src.show.quiz import ask

__all__ = ["checkpoint", "explore_captions", "flashcards", "follow", "predict"]

predict, checkpoint, flashcards = ask(__package__)
