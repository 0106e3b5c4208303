"""Load the authors' released files into the models here, strictly: no missing, unexpected or silently skipped key.

    report = load_released(model, "seg_large_mask/checkpoint.pth")

Known files: Segmenter (rstrudel/segmenter), RegProxy (YiF-Zhang/RegionProxy, mmsegmentation keys), SegViT and its Shrunk
form (zbwxp/SegVit, mmsegmentation keys). Of a backbone alone, which leaves the rest of the model as it is: timm's vision
and Swin transformers, BEiT (timm, microsoft/unilm) and CSWin Transformers (microsoft/CSWin-Transformer). A file is
converted to the model's own key names, compared with the model key by key and shape by shape, and loaded only if everything
fits. Files are untrusted: tensors are read, code is never run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from seg_models.architectures.regproxy.model import RegProxy
from seg_models.architectures.rsseg.model import RSSeg
from seg_models.architectures.segmenter import Segmenter
from seg_models.architectures.segvit.model import SegViT
from seg_models.architectures.segvit.shrunk import SegViTShrunk
from seg_models.backbones.cswin import CSWinBackbone
from seg_models.backbones.swin import SwinBackbone
from seg_models.backbones.vit import TokenBackbone
from seg_models.build import model_from_recipe, outline_from_recipe
from seg_models.checkpoints.backbones import backbone_kind, backbone_size, convert_backbone
from seg_models.checkpoints.fitting import LoadReport, strict_load
from seg_models.checkpoints.mmsegmentation import VISION_TRANSFORMER
from seg_models.checkpoints.reading import CheckpointError, read_checkpoint, unwrap
from seg_models.checkpoints.regproxy import convert_regproxy, is_regproxy
from seg_models.checkpoints.segmenter import convert_segmenter, is_segmenter
from seg_models.checkpoints.segvit import convert_segvit, is_segvit, is_shrunk
from seg_models.messages import one_line
from seg_models.segmentation_model import SegmentationModel
from seg_models.training.recipe import Recipe, RecipeError, read_recipe

State = Mapping[str, Tensor]


def load_released(model: SegmentationModel, checkpoint: str | Path | Mapping[str, Any]) -> LoadReport:
    """Load a released file into a model, whole or not at all.

    Args:
        model: one of `build_model`. A file of the whole model and one of its backbone alone are both taken.
        checkpoint: a .pth, .pt or .safetensors file, or its content.

    Raises:
        CheckpointError: unreadable or unsafe file, a file of another architecture, a key or shape that differs, or values
            that are not finite; one line says what was found and what was expected. The model is then unchanged.
    """
    is_file = isinstance(checkpoint, str | Path)
    where = str(checkpoint) if is_file else "the checkpoint"
    state = read_checkpoint(checkpoint) if is_file else unwrap(checkpoint, where)  # type: ignore[arg-type]
    try:
        return _load(model, state, where)
    except CheckpointError:
        raise
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError) as error:
        # Names that are known, on tensors of a rank that nobody has given them: the conversion trips over it.
        raise CheckpointError(f"{where} does not fit {type(model).__name__}: {one_line(error, 200)}") from error


def _load(model: SegmentationModel, state: State, where: str) -> LoadReport:
    found = architecture_of(state)
    if found == "Segmenter" and isinstance(model, Segmenter):
        return strict_load(model, *convert_segmenter(state), where=where)
    if found == "RegProxy" and isinstance(model, RegProxy):
        return strict_load(model, convert_regproxy(state), where=where)
    if (found, type(model)) in (("SegViT", SegViT), ("Shrunk SegViT", SegViTShrunk)):
        return strict_load(model, *convert_segvit(state, VISION_TRANSFORMER), where=where)
    backbone = model.backbone
    converted = convert_backbone(state, backbone)
    if converted is None:
        takes_backbones = isinstance(backbone, TokenBackbone | SwinBackbone | CSWinBackbone)
        raise CheckpointError(
            f"{where} holds {describe(state)}; expected weights of {type(model).__name__}"
            + (f" or of its backbone {backbone.name}" if takes_backbones else "")
        )
    size, own_size = backbone_size(converted.tensors), backbone_size(model.state_dict())
    if size and size != own_size:
        raise CheckpointError(f"{where} holds a {found} of {size}; expected {own_size} ({backbone.name})")
    report = strict_load(
        model,
        converted.tensors,
        converted.unused,
        untouched=lambda key: not key.startswith("backbone.") or key in converted.absent,
        where=where,
    )
    if not isinstance(model, RSSeg):
        return report
    model.copy_patch_embedding()
    derived = tuple(key for key in report.untouched if key.startswith("overlapped_embedding."))
    return replace(report, untouched=tuple(key for key in report.untouched if key not in derived), derived=derived)


def released_recipe(path: Path | None, row: str | None = None) -> Recipe:
    """What --recipe, and --row of it, name beside --released.

    Raises:
        RecipeError: none is named, or one that is not there or wrong.
    """
    if path is None:
        raise RecipeError("--released needs --recipe, which says what model the file is of")
    return read_recipe(path, row=row)


def released_model(recipe: Recipe, released: Path, num_classes: int) -> SegmentationModel:
    """A recipe's model with the weights of an authors' released file, in eval mode.

    Raises:
        RecipeError: a recipe of which no model can be built.
        CheckpointError: a file that does not hold exactly the model's weights, such as one of a backbone alone.
    """
    outline_from_recipe(recipe, num_classes)
    model = model_from_recipe(recipe, num_classes, pretrained=False)
    report = load_released(model, released)
    if report.untouched:
        raise CheckpointError(f"{released} has no {report.untouched[0]}; expected a whole model, found a backbone")
    return model.eval()


def architecture_of(state: State) -> str:
    """Which of the known kinds of file a state dict is; "" if none."""
    if is_regproxy(state):
        return "RegProxy"
    if is_segmenter(state):
        return "Segmenter"
    if is_segvit(state):
        return "Shrunk SegViT" if is_shrunk(state) else "SegViT"
    kind = backbone_kind(state)
    if not kind and any(key.startswith("decode_head.") for key in state):
        return "mmsegmentation model"
    return kind


def describe(state: State) -> str:
    """A state dict in a few words, for an error message."""
    name = architecture_of(state)
    keys = f"{len(state)} tensors ({one_line(', '.join(list(state)[:3]), 200)}, ...)"
    return f"a {name}, {keys}" if name else f"an unknown architecture, {keys}"
