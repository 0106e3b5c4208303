"""What is exported: a model between the contract's input and the outputs of one of its two forms; see docs/contract.md.

Input of both: uint8 RGB (B, H, W, 3) at network size; normalisation is inside.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from seg_models.export.errors import ExportError
from seg_models.segmentation_model import AssociationModel, SegmentationModel

FORMS = ("labels", "association")


class DeploymentModel(nn.Module, ABC):
    """Base of the two forms.

    Args:
        model: what is inside; its mean and standard deviation are subtracted and divided by in the graph.

    Attributes:
        form: one of FORMS.
        format_version: of the contract, the first that has the form.
        outputs: names of what `forward` returns, in its order.
    """

    form: str
    format_version: str
    outputs: tuple[str, ...]

    def __init__(self, model: SegmentationModel) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor(model.normalization["mean"]).reshape(1, 3, 1, 1))
        self.register_buffer("scale", 1.0 / torch.tensor(model.normalization["std"]).reshape(1, 3, 1, 1))

    @abstractmethod
    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """uint8 (B, H, W, 3) -> the form's outputs."""

    def normalized(self, image: Tensor) -> Tensor:
        """uint8 (B, H, W, 3) -> float (B, 3, H, W)."""
        # The cast comes first: uint8 passes TensorRT's border through a Cast only.
        return (image.float().permute(0, 3, 1, 2) - self.mean) * self.scale  # type: ignore[operator]


class LabelsModel(DeploymentModel):
    """Form `labels`, of any model: -> uint8 labels, uint8 confidence and, where it has them, int32 superpixels (B, H, W)."""

    form = "labels"
    format_version = "1"

    def __init__(self, model: SegmentationModel) -> None:
        super().__init__(model)
        self.outputs = ("labels", "confidence", "superpixels") if model.superpixel_grid else ("labels", "confidence")

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        decision = self.model.decide(self.normalized(image))
        outputs = (decision.labels.to(torch.uint8), (decision.confidence * 255.0).round().to(torch.uint8))
        return outputs if decision.superpixels is None else (*outputs, decision.superpixels.to(torch.int32))


class AssociationDeployment(DeploymentModel):
    """Form `association`, which ends before painting: -> association (B, R, C, P, 9), class_logits (B, R, C, K), float32."""

    form = "association"
    format_version = "2"
    outputs = ("association", "class_logits")
    model: AssociationModel

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        return self.model.associate_features(self.normalized(image))


def deployment_model(model: SegmentationModel, form: str | None = None) -> DeploymentModel:
    """A model in one of its forms, in eval mode.

    Args:
        form: one of FORMS; None for `association` where the model has it, and else `labels`.

    Raises:
        ExportError: an unknown form, or one that the model does not have.
    """
    if form is None:
        form = "association" if isinstance(model, AssociationModel) else "labels"
    if form not in FORMS:
        raise ExportError(f"form is {form!r}; expected one of {', '.join(FORMS)}")
    if form == "labels":
        return LabelsModel(model).eval()
    if not isinstance(model, AssociationModel):
        raise ExportError(
            f"{type(model).__name__} has no form association: its last step is not the mixing of superpixels' classes; "
            "export it with --form labels"
        )
    return AssociationDeployment(model).eval()
