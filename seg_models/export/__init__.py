"""From a model to the deployment file: its two forms, the graph, the checks, and the file, written whole or not at all.

May import everything but training's loop. Half precision is in `seg_onnx`, since robots need it, too. The way in is
`python -m seg_models.export`.
"""
