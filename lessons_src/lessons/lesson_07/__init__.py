"""Lesson 07, Classifier and CLIP guidance: what its notebook computes and shows."""
