"""Onboard side: camera images in, semantic labels and superpixels out. Needs no PyTorch."""

__version__ = "0.1.0"
