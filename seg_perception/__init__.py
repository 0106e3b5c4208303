"""Onboard side: camera images in, semantic labels and superpixels out. Never needs PyTorch.

Folders are rooms; each says what is in it, what it may import and which is its one way in. Files at this level are what
images go through with or without ROS: `images`, `segmenter`, `labels`.
"""

__version__ = "0.1.0"
