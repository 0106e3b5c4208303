"""What runs other processes: the demo, the node as a child, the environment that they are started in.

May import everything of the package. The way in is `seg_perception demo`.
"""
