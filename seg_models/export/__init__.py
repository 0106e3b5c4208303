"""From a model to the deployment file: the graph, half precision, int8 and the checks before a file is written.

May import everything but training's loop. The way in is `python -m seg_models.export`.
"""
