"""The small PyTorch package behind the course: noise schedules, exact oracles, samplers, guidance, and the pictures.

Modules, each importing only from those before it: checks, files, schedules, process, oracle, data, samplers, guidance,
sde, solvers, inversion, networks, evaluation, optimizers, training, claims; needing safetensors, weights and
measurements; needing the notebook extra, plots, pareto, panels, widgets, quiz, explorers, digit_explorers,
flow_explorers, race_explorers and edit_explorers. Time t runs from 0 (clean) to T (noise), as in the papers.
"""

__version__ = "0.1.0"
