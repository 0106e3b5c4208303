"""Weights from files: the authors' and timm's released ones, and those of `seg_models.train`. One file a source.

May import architectures, backbones and the recipe; never the training loop. Every file comes in by `reading`, and goes into
a model by `load_released` or, if `seg_models.train` wrote it, by `trained.load_task`.
"""

from seg_models.checkpoints.fitting import LoadReport
from seg_models.checkpoints.reading import CheckpointError
from seg_models.checkpoints.released import load_released

__all__ = ["CheckpointError", "LoadReport", "load_released"]
