"""What speaks ROS: the lifecycle node, its parameters, its worker thread, its messages and diagnostics.

The only folder, with `process`, `bag/replay.py` and `check/ros.py`, that may import rclpy. The way in is `ros.node.main`, the
executable `segmentation_node`.
"""
