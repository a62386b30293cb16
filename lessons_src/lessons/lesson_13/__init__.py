"""Lesson 13, Judge samples without fooling yourself: what its notebook shows and asks."""

from lessons_src.lessons.lesson_13.clouds import show_balls, show_clouds, show_gallery
from lessons_src.lessons.lesson_13.curves import show_bias, show_guidance, show_rank_reversal, show_steps
from lessons_src.lessons.lesson_13.explorer import explore_faults
from lessons_src.lessons.lesson_13.figures import show_detection
from lessons_src.lessons.lesson_13.held_out import show_held_out, show_leakage
from lessons_src.lessons.lesson_13.memory import show_copies, show_memory
from lessons_src.lessons.lesson_13.votes import choose_n, compare_blind, merge_votes, votes_in
from lessons_src.show.quiz import ask

__all__ = [
    "checkpoint",
    "choose_n",
    "compare_blind",
    "explore_faults",
    "flashcards",
    "merge_votes",
    "predict",
    "show_balls",
    "show_bias",
    "show_clouds",
    "show_copies",
    "show_detection",
    "show_gallery",
    "show_guidance",
    "show_held_out",
    "show_leakage",
    "show_memory",
    "show_rank_reversal",
    "show_steps",
    "votes_in",
]

predict, checkpoint, flashcards = ask(__package__)
