"""Networks that turn an image into stage features or tokens at named strides: timm's, injected, and CSWin.

`timm_models` holds what all share. Imports torch, timm and `normalization` alone; knows nothing of architectures. The way in is
the constructor of each file, which `seg_models.build` calls.
"""
