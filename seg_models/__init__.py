"""Training side: architectures, losses, data, training, evaluation and ONNX export in PyTorch."""

__version__ = "0.1.0"
