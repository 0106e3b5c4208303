"""What both sides of the wall do to ONNX files: training when it exports, a robot when it builds an engine.

Needs `numpy` and `onnx`, imports neither seg_models nor seg_perception, and runs no model.
"""
