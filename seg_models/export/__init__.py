"""From a model to the deployment file: the graph, int8 and the checks before a file is written.

May import everything but training's loop. Half precision is in `seg_onnx`, since robots need it, too. The way in is
`python -m seg_models.export`.
"""
