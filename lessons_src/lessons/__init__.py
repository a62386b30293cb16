"""The lessons, one folder each: what a lesson shows, asks and sets as exercises, and the facts about it."""
