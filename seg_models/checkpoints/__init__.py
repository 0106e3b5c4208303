"""Weights from files: the authors' and timm's released ones, and those of `seg_models.train`. One file a source.

May import architectures, backbones and the recipe; never the training loop. Every file is read by `reading`; the
ways in are `load_released` and, for a file of `seg_models.train`, `trained.load_task`.
"""

from seg_models.checkpoints.fitting import LoadReport
from seg_models.checkpoints.reading import CheckpointError
from seg_models.checkpoints.released import load_released

__all__ = ["CheckpointError", "LoadReport", "load_released"]
