"""Inference engines: one file each, behind the base class in `base`; `select` chooses.

Each imports its own engine and nothing of the others, and knows neither ROS nor recordings. The way in is
`select.create_engine`.
"""
