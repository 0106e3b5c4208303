"""Which layers of a model an int8 file has in 8 bits, for a training that prepares it for that."""

from __future__ import annotations

from torch import nn

from seg_models.export.deployment import deployment_model
from seg_models.export.graph import deployment_graph
from seg_models.export.learned_int8 import layer_groups
from seg_models.segmentation_model import SegmentationModel


def quantized_layers(model: SegmentationModel) -> list[list[str]]:
    """Paths of the layers in the deployed form of a model, those together that read the same tensor.

    Args:
        model: with any weights, since they follow from the graph alone; put into eval mode.
    """
    deployment = deployment_model(model.eval().deployed())
    layers = {name for name, part in deployment.model.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)}
    return layer_groups(deployment_graph(deployment).graph, layers)
