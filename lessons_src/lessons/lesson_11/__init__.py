"""Lesson 11, Few-step distillation: what its notebook shows."""
