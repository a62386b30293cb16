"""The small PyTorch package behind the course.

Its front room, the modules beside this file, needs torch and numpy (loading weights: safetensors) and reads beside the
lessons: schedules, process, samplers, solvers, guidance, networks, training and more. The other rooms: `show` holds
figures, widgets and quizzes, `lessons` what one lesson needs, `exercises` and `grading` their engines, `make` the
commands that make what ships. Time t runs from 0 (clean) to T (noise), as in the papers.
"""

__version__ = "0.2.0"
