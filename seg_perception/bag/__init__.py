"""Recordings: reading them, scoring a model on them, reports and videos of it, playing them back.

May import engines, the model's reader and the segmenter; `replay` alone speaks ROS. The ways in are `evaluate.evaluate_bag`,
the command `seg_perception evaluate-bag`, and `replay.run`.
"""
