"""The doctor: what this machine has, what is wrong with it, and the line that repairs it.

One file a group of findings; none of them needs what it looks for. The way in is `seg_perception check`.
"""
