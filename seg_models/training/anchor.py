"""Feature distance: the backbone stays near what it knew before the training (DAFormer, CVPR 2022, section 3.4).

    d(j)  = || F_start(x)(j) - F(x)(j) ||_2        over the channels of the deepest features, at each of their places j
    L_FD  = lambda * sum_j d(j) M(j) / sum_j M(j)
    M(j)  = 1 where some class of C covers more than r = 0.75 of what place j stands for in the labels; 1 everywhere
            without classes C

DAFormer takes lambda = 0.005 and for C the "things" (vehicles, people, signs): what ImageNet shows, and so what a model
trained on rendered images should not learn anew. `optimizer.backbone_anchor` is lambda, `backbone_anchor_classes` is C.

F_start is the backbone as the training began, in eval mode. Batch norms that learn put a distance between the two from the
first step on; `optimizer.frozen_batch_norm` takes it away.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from seg_models.backbones.vit import Tokens
from seg_models.checkpoints.fitting import check_fit
from seg_models.checkpoints.reading import CheckpointError, read_checkpoint
from seg_models.losses import IGNORE
from seg_models.prediction import Prediction
from seg_models.segmentation_model import SegmentationModel
from seg_models.training.guidance import Guide, frozen
from seg_models.training.recipe import Recipe, RecipeError

LEAST_SHARE = 0.75  # r


class BackboneAnchor(Guide):
    """The feature distance to a backbone's start.

    Args:
        start: the backbone as it is before the first step; copied.
        weight: lambda.
        classes: indices of C; none for every place.
    """

    def __init__(self, start: nn.Module, weight: float, classes: Sequence[int] = ()) -> None:
        self.start = frozen(copy.deepcopy(start))
        self.weight, self.classes = weight, tuple(classes)
        self.image: Tensor | None = None
        self.features: Any = None

    def to(self, device: torch.device) -> None:
        """See the base class."""
        self.start.to(device)

    @contextmanager
    def watching(self, model: SegmentationModel) -> Iterator[None]:
        """Keep what the backbone is given, padding included, and what it makes of it."""

        def keep(backbone: nn.Module, given: tuple[Tensor, ...], features: Any) -> None:
            self.image, self.features = given[0], features

        handle = model.backbone.register_forward_hook(keep)
        try:
            yield
        finally:
            handle.remove()

    def terms(
        self, image: Tensor, labels: Tensor, prediction: Prediction, model: SegmentationModel
    ) -> dict[str, Tensor]:
        """L_FD; 0 for a batch without any place that counts."""
        assert self.image is not None
        with torch.no_grad():
            expected = deepest(self.start(self.image))
        distance = torch.linalg.vector_norm((deepest(self.features) - expected).float(), dim=-1)  # (B, places)
        padding = (0, self.image.shape[-1] - labels.shape[-1], 0, self.image.shape[-2] - labels.shape[-2])
        size = places(distance.shape[1], (self.image.shape[-2], self.image.shape[-1]))
        self.image = self.features = None
        if not self.classes:
            return {"feature_distance": self.weight * distance.mean()}
        mask = covered(F.pad(labels, padding, value=IGNORE), self.classes, size).flatten(1)
        return {"feature_distance": self.weight * (distance * mask).sum() / mask.sum().clamp(min=1)}


def deepest(features: Any) -> Tensor:
    """The last of a backbone's features as (B, places, C): of maps, or of the taps of a transformer."""
    if isinstance(features, Tokens):
        return features.taps[-1]
    return features[-1].flatten(2).transpose(1, 2)


def places(count: int, size: tuple[int, int]) -> tuple[int, int]:
    """(rows, cols) of so many places in an image (H, W) of whole places, all squares of one side."""
    side = round((size[0] * size[1] / count) ** 0.5)
    return size[0] // side, size[1] // side


def covered(labels: Tensor, classes: Sequence[int], size: tuple[int, int]) -> Tensor:
    """M: labels int64 (B, H, W) -> float (B, rows, cols), 1 where one of the classes has more than LEAST_SHARE."""
    shares = [F.adaptive_avg_pool2d((labels == index).float()[:, None], size)[:, 0] for index in classes]
    return (torch.stack(shares).amax(0) > LEAST_SHARE).float()


def save_start(anchor: BackboneAnchor, path: Path) -> None:
    """Keep the start of the backbone, for runs that are gone on with."""
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in anchor.start.state_dict().items()}, path)


def load_start(model: SegmentationModel, path: Path) -> nn.Module:
    """A copy of a model's backbone with the weights of a file of `save_start`.

    Raises:
        CheckpointError: no such file, or one that does not fit.
    """
    if not path.is_file():
        raise CheckpointError(
            f"{path} is missing, and with it what optimizer.backbone_anchor measures from; a resumed run needs it beside "
            "last.ckpt"
        )
    start = copy.deepcopy(model.backbone)
    weights = read_checkpoint(path)
    check_fit(weights, start.state_dict(), "the recipe's backbone", str(path))
    start.load_state_dict(weights)
    return start


def anchor_of(
    recipe: Recipe, model: SegmentationModel, names: Sequence[str], saved: Path | None = None
) -> BackboneAnchor | None:
    """The anchor that a recipe asks for, of the model as it is now; None for none.

    Args:
        recipe: of the run.
        model: before its first step.
        names: of the data's classes.
        saved: file of `save_start` that the start is taken from instead, for a run that is gone on with.

    Raises:
        CheckpointError: see `load_start`.
        RecipeError: classes without a weight, a class that the data does not have, or a model whose backbone is not run as a
            whole.
    """
    weight, wanted = recipe.optimizer.backbone_anchor, recipe.optimizer.backbone_anchor_classes
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise RecipeError(
            f"optimizer.backbone_anchor_classes names {unknown[0]!r}; the data's classes are {', '.join(names)}"
        )
    if not weight:
        if wanted:
            raise RecipeError(
                "optimizer.backbone_anchor_classes needs optimizer.backbone_anchor above 0, such as 0.005"
            )
        return None
    if recipe.model.name == "regproxy_pilot":
        raise RecipeError("optimizer.backbone_anchor is not for regproxy_pilot, which has no image in its backbone")
    start = model.backbone if saved is None else load_start(model, saved)
    return BackboneAnchor(start, weight, [list(names).index(name) for name in wanted])
