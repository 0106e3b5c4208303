"""Weights from files: the authors' and timm's released ones, and those of `seg_models.train`. One file a source.

May import architectures, backbones and the recipe; never the training loop. The ways in are `load_released` and, for a
checkpoint of this package, `checkpoints.trained`.
"""

from seg_models.checkpoints.released import CheckpointError, LoadReport, load_released

__all__ = ["CheckpointError", "LoadReport", "load_released"]
