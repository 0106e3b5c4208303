"""Training side: architectures, losses, data, training, evaluation and ONNX export in PyTorch. Never needs ROS.

Folders are rooms; each says what is in it, what it may import and which is its one way in. Files at this level are what the
rooms share (`segmentation_model`, `prediction`, `losses`, `normalization`), the one constructor (`build`) and the commands.
"""

import os

# Wheels of ONNX Runtime (1.31) collect figures of every run for upload, in a database with a device id in ~/.cache. Nothing
# leaves a robot unasked: ORT_DISABLE_TELEMETRY=0 in the environment lets them.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
