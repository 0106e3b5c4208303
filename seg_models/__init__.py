"""Training side: architectures, losses, data, training, evaluation and ONNX export in PyTorch. Never needs ROS.

Folders are rooms; each says what is in it, what it may import and which is its one way in. Files at this level are what the
rooms share (`segmentation_model`, `prediction`, `losses`, `normalization`), the one constructor (`build`) and the commands.
"""

__version__ = "0.1.0"
