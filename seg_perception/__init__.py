"""Onboard side: camera images in, semantic labels and superpixels out. Never needs PyTorch.

Folders are rooms; each says what is in it, what it may import and which is its one way in. Files at this level are what
images go through with or without ROS: `images`, `segmenter`, `labels`.
"""

import os

# Wheels of ONNX Runtime (1.31) collect figures of every run for upload, in a database with a device id in ~/.cache. Nothing
# leaves a robot unasked: ORT_DISABLE_TELEMETRY=0 in the environment lets them.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
