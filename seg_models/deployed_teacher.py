"""A teacher that is a deployment file, such as the released model of a robot: distillation without its checkpoint.

The file has to be of the form `association`: eq. 5 and 6 of the Superpixel Transformer give the class scores of every pixel.
The form `labels` holds decisions alone.
"""

from __future__ import annotations

import json
from pathlib import Path

import onnxruntime
import torch
from torch import Tensor

from seg_models.messages import one_line
from seg_models.ops import neighbourhood as nb
from seg_models.ops.painting import PaintingGeometry, check_shapes
from seg_models.segmentation_model import resize_bilinear
from seg_models.training.distillation import Teacher
from seg_models.training.recipe import RecipeError


class DeployedTeacher(Teacher):
    """A file of the form `association` in ONNX Runtime.

    It sees crops resized to its input; `data.crop` (or the student's `image_size`) of the same size teaches best.

    Args:
        path: of the file.

    Raises:
        RecipeError: no such file, none of that form, or a damaged one.
    """

    def __init__(self, path: Path) -> None:
        where = f"distillation.teacher {path}"
        if not path.is_file():
            raise RecipeError(f"{where} does not exist; expected a checkpoint or an .onnx of seg_models.export")
        try:
            self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has a type of its own for each way in which a file can be broken
            raise RecipeError(f"{where} is no model that ONNX Runtime loads: {one_line(error, 300)}") from error
        properties = self.session.get_modelmeta().custom_metadata_map
        if properties.get("form") != "association":
            raise RecipeError(
                f"{where} is of the form {properties.get('form')!r}, which holds no class scores; expected one of the form "
                "association, or a checkpoint"
            )
        try:
            self.names = tuple(json.loads(properties["class_names"]))
            sides = ("input_size", "superpixel_grid", "cell", "feature_cell")
            pairs = [json.loads(properties[key]) for key in sides]
            self.geometry = PaintingGeometry(*((int(height), int(width)) for height, width in pairs))
        except (ValueError, TypeError, KeyError) as error:
            raise RecipeError(f"{where} has damaged metadata, {one_line(error, 200)}; export it again") from error

    def to(self, device: torch.device) -> None:
        """It stays where ONNX Runtime is, on the CPU."""

    def scores(self, image: Tensor) -> Tensor:
        """As the base class; at the size of the file's input."""
        geometry = self.geometry
        squeezed = resize_bilinear(image.float().cpu(), geometry.input_size).round().clamp(0, 255).to(torch.uint8)
        batch = squeezed.permute(0, 2, 3, 1).contiguous().numpy()
        outputs = self.session.run(["association", "class_logits"], {"image": batch})
        association, class_logits = (torch.from_numpy(output).float() for output in outputs)
        check_shapes(association, class_logits, geometry)
        full = nb.upsample_in_cells(nb.mask_border(association), geometry.feature_cell, geometry.cell)
        scores = nb.paint(nb.association(full), class_logits, geometry.cell)  # (B, K, R h, C w)
        return scores[..., : geometry.input_size[0], : geometry.input_size[1]].to(image.device)
