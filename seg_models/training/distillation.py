"""Distillation: a student learns from the class probabilities of a teacher on the same augmented crop.

With class scores z of student and teacher at the same pixels, K classes, N pixels a batch, and temperature T:

    pixels     T^2 / N  sum_i KL(softmax_k(z_t / T) || softmax_k(z_s / T))       at each pixel over the classes
               (Hinton et al. 2015; dense: Liu et al., CVPR 2019, eq. 1)
    channels   T^2 / (B K)  sum_k KL(softmax_i(z_t / T) || softmax_i(z_s / T))   for each image and class over its pixels
               (Shu et al., ICCV 2021, eq. 2 to 4; there T = 4)

The teacher's scores are resized to where the student's lie, bilinearly: a student with `loss_stride` n has one in the middle
of every square of n pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from seg_models.checkpoints.trained import load_task
from seg_models.losses import IGNORE
from seg_models.normalization import normalize
from seg_models.prediction import Prediction
from seg_models.segmentation_model import SegmentationModel, resize_bilinear
from seg_models.training.guidance import Guide, frozen
from seg_models.training.recipe import DistillationRecipe, Recipe, RecipeError


class Teacher(ABC):
    """Who is learnt from.

    Attributes:
        names: of its classes, in order.
    """

    names: tuple[str, ...]

    @abstractmethod
    def to(self, device: torch.device) -> None:
        """Move it to where the student is trained."""

    @abstractmethod
    def scores(self, image: Tensor) -> Tensor:
        """RGB (B, 3, H, W) in 0..255 -> float (B, K, H, W), whose softmax over K are its class probabilities."""


class ModelTeacher(Teacher):
    """A model of this package, frozen and in eval mode.

    Args:
        model: with its weights; changed in place.
        names: of its classes.
    """

    def __init__(self, model: SegmentationModel, names: Sequence[str]) -> None:
        frozen(model)
        self.model, self.names = model, tuple(names)

    def to(self, device: torch.device) -> None:
        """See the base class."""
        self.model.to(device)

    def scores(self, image: Tensor) -> Tensor:
        """See the base class."""
        return self.model.log_scores(self.model(normalize(image, self.model.normalization)).logits)


class Distillation(Guide):
    """The loss against a teacher.

    Args:
        teacher: who is learnt from.
        names: of the student's classes. The teacher's others are left out of its softmax.
        settings: of the recipe.

    Raises:
        RecipeError: a class that the teacher does not know.
    """

    def __init__(self, teacher: Teacher, names: Sequence[str], settings: DistillationRecipe) -> None:
        unknown = [name for name in names if name not in teacher.names]
        if unknown:
            raise RecipeError(
                f"distillation.teacher {settings.teacher} does not know the class {unknown[0]!r}; it knows "
                f"{', '.join(teacher.names)}, expected all of the data's"
            )
        self.teacher, self.settings = teacher, settings
        self.label_weight = settings.label_weight
        self.classes = [teacher.names.index(name) for name in names]

    def to(self, device: torch.device) -> None:
        """See the base class."""
        self.teacher.to(device)

    def terms(
        self, image: Tensor, labels: Tensor, prediction: Prediction, model: SegmentationModel
    ) -> dict[str, Tensor]:
        """`pixels` or `channels`, see the file."""
        student = model.log_scores(prediction.logits).float()
        with torch.no_grad():
            size = (student.shape[-2], student.shape[-1])
            teacher = resize_bilinear(self.teacher.scores(image)[:, self.classes].float(), size)
            counted = None
            if not self.settings.unlabelled:
                step = -(-labels.shape[-2] // size[0])
                counted = labels[:, ::step, ::step] != IGNORE
        loss = divergence(student, teacher, self.settings.temperature, self.settings.over, counted)
        return {"distillation": self.settings.weight * loss}


def divergence(
    student: Tensor, teacher: Tensor, temperature: float, over: str = "pixels", counted: Tensor | None = None
) -> Tensor:
    """The loss of the file's head.

    Args:
        student, teacher: float scores (B, K, H, W).
        temperature: T.
        over: "pixels" or "channels".
        counted: bool (B, H, W), pixels that count; None for all. A batch without any gives 0, with a gradient of 0.
    """
    if over == "pixels":
        log_student = (student / temperature).log_softmax(1)
        log_teacher = (teacher / temperature).log_softmax(1)
        loss = F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(1)  # (B, H, W)
        if counted is None:
            return temperature**2 * loss.mean()
        return temperature**2 * (loss * counted).sum() / counted.sum().clamp(min=1)
    if counted is not None:
        # As good as minus infinity, but their difference is no NaN.
        student, teacher = (x.masked_fill(~counted[:, None], -1e4 * temperature) for x in (student, teacher))
    log_student = (student.flatten(2) / temperature).log_softmax(2)  # (B, K, pixels)
    log_teacher = (teacher.flatten(2) / temperature).log_softmax(2)
    loss = F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(2)  # (B, K)
    return temperature**2 * loss.mean()


def teacher_of(recipe: Recipe) -> Teacher | None:
    """The recipe's teacher where it is a checkpoint of `seg_models.train`; None without any.

    Raises:
        CheckpointError: it cannot be read.
        RecipeError: settings of a distillation without a teacher, or with one of another kind.
    """
    settings = recipe.distillation
    if not settings.teacher:
        if settings != DistillationRecipe():
            raise RecipeError("distillation has settings and no teacher; expected distillation.teacher=CHECKPOINT")
        return None
    if Path(settings.teacher).suffix == ".onnx":
        raise RecipeError(
            f"distillation.teacher {settings.teacher} is a deployment file; it is opened by seg_models.train alone"
        )
    task = load_task(Path(settings.teacher))
    return ModelTeacher(task.model, task.table.names)
