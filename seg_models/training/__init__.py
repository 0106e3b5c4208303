"""How a model learns: recipe, optimiser, schedules, metrics, callbacks.

May import everything below it (data, architectures by way of `build`); never evaluation or export. The way in is
`python -m seg_models.train`.
"""
