"""Looking at segmentation while it runs: sources of pictures, one a file, and the Rerun viewer or recording that shows them.

May import the segmenter, `bag`, `ros` and the clouds; `topics` and `node_outputs` alone speak ROS, and `recording` alone speaks
Rerun, which is imported when it is asked for. The way in is the command `seg_perception view`.
"""
