"""What speaks ROS: the lifecycle node, its parameters, its worker thread, its messages and diagnostics.

With `process`, `bag/replay.py`, `check/ros.py` and two files of `view`, all that may import rclpy. The way in is
`ros.node.main`, the executable `segmentation_node`.
"""
