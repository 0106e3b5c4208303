"""Load the authors' released files into the models here, strictly: no missing, unexpected or silently skipped key.

    report = load_released(model, "seg_large_mask/checkpoint.pth")

Known files: Segmenter (rstrudel/segmenter), RegProxy (YiF-Zhang/RegionProxy, mmsegmentation keys), SegViT and its Shrunk
form (zbwxp/SegVit, mmsegmentation keys). Of a backbone alone, which leaves the rest of the model as it is: timm's vision
and Swin transformers, BEiT (timm, microsoft/unilm) and CSWin Transformers (microsoft/CSWin-Transformer). A file is
converted to the model's own key names, compared with the model key by key and shape by shape, and loaded only if everything
fits. Files are untrusted: tensors are read, code is never run.
"""

from __future__ import annotations

import argparse
import pickle
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from seg_models.architectures.regproxy.model import RegProxy
from seg_models.architectures.rsseg.model import RSSeg
from seg_models.architectures.segmenter import Segmenter
from seg_models.architectures.segvit.model import SegViT
from seg_models.architectures.segvit.shrunk import SegViTShrunk
from seg_models.backbones.cswin import CSWinBackbone
from seg_models.backbones.swin import SwinBackbone
from seg_models.backbones.vit import TokenBackbone, tokens_to_map
from seg_models.build import model_from_recipe
from seg_models.checkpoints.backbones import backbone_kind, backbone_size, convert_backbone, resize_bias_table
from seg_models.checkpoints.segvit import convert_segvit, is_segvit, is_shrunk, resize_queries
from seg_models.segmentation_model import SegmentationModel
from seg_models.training.recipe import Recipe, RecipeError, read_recipe

State = Mapping[str, Tensor]


class CheckpointError(ValueError):
    """A file that cannot be read safely, or that does not hold exactly the weights of the model."""


@dataclass(frozen=True)
class LoadReport:
    """What `load_released` did.

    Attributes:
        loaded: number of tensors that went into the model.
        unused: keys of the file that have no place in the model by design, such as the ImageNet classifier.
        resized: keys of the model whose position embeddings or biases were resized from the file's grid.
        untouched: keys of the model that such a file never holds (the decoder, for a file of a backbone).
        derived: keys of the model that were made from loaded tensors (RSSeg's overlapped patch embedding).
    """

    loaded: int
    unused: tuple[str, ...] = ()
    resized: tuple[str, ...] = ()
    untouched: tuple[str, ...] = ()
    derived: tuple[str, ...] = ()


def load_released(model: SegmentationModel, checkpoint: str | Path | Mapping[str, Any]) -> LoadReport:
    """Load a released file into a model, whole or not at all.

    Args:
        model: one of `build_model`. A file of the whole model and one of its backbone alone are both taken.
        checkpoint: a .pth, .pt or .safetensors file, or its content.

    Raises:
        CheckpointError: unreadable or unsafe file, a file of another architecture, or a key or shape that differs;
            says in one line what was found and what was expected. The model is then unchanged.
    """
    state = read_checkpoint(checkpoint) if isinstance(checkpoint, str | Path) else unwrap(checkpoint, "the checkpoint")
    found = architecture_of(state)
    if found == "Segmenter" and isinstance(model, Segmenter):
        return strict_load(model, *convert_segmenter(state))
    if found == "RegProxy" and isinstance(model, RegProxy):
        return strict_load(model, convert_regproxy(state))
    if (found, type(model)) in (("SegViT", SegViT), ("Shrunk SegViT", SegViTShrunk)):
        return strict_load(model, *convert_segvit(state, MMSEG_VIT))
    backbone = model.backbone
    converted = convert_backbone(state, backbone)
    if converted is None:
        takes_backbones = isinstance(backbone, TokenBackbone | SwinBackbone | CSWinBackbone)
        raise CheckpointError(
            f"the checkpoint holds {describe(state)}; expected weights of {type(model).__name__}"
            + (f" or of its backbone {backbone.name}" if takes_backbones else "")
        )
    size, own_size = backbone_size(converted.tensors), backbone_size(model.state_dict())
    if size and size != own_size:
        raise CheckpointError(f"the checkpoint holds a {found} of {size}; expected {own_size} ({backbone.name})")
    report = strict_load(
        model,
        converted.tensors,
        converted.unused,
        untouched=lambda key: not key.startswith("backbone.") or key in converted.absent,
    )
    if not isinstance(model, RSSeg):
        return report
    model.copy_patch_embedding()
    derived = tuple(key for key in report.untouched if key.startswith("overlapped_embedding."))
    return replace(report, untouched=tuple(key for key in report.untouched if key not in derived), derived=derived)


def released_recipe(path: Path | None) -> Recipe:
    """What --recipe names beside --released.

    Raises:
        RecipeError: none is named, or one that is not there or wrong.
    """
    if path is None:
        raise RecipeError("--released needs --recipe, which says what model the file is of")
    return read_recipe(path)


def released_model(recipe: Recipe, released: Path, num_classes: int) -> SegmentationModel:
    """A recipe's model with the weights of an authors' released file, in eval mode.

    Raises:
        RecipeError: a file that holds a backbone alone.
        CheckpointError: a file that does not hold exactly the model's weights.
    """
    model = model_from_recipe(recipe, num_classes, pretrained=False)
    report = load_released(model, released)
    if report.untouched:
        raise RecipeError(f"{released} has no {report.untouched[0]}; expected a whole model, found a backbone")
    return model.eval()


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, or of a PyTorch file that is read without running any code in it.

    Raises:
        CheckpointError: no such file, not a PyTorch file, truncated, or one that holds more than plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals([argparse.Namespace]):  # training options, which many files hold
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = re.search(r"Unsupported global: GLOBAL ([\w.]+)", str(error))
        detail = f"it asks for {reason[1]}" if reason else "it is damaged or no PyTorch file"
        raise CheckpointError(f"{path} is not read: {detail}; expected tensors and plain values alone") from error
    except (RuntimeError, EOFError, OSError, zipfile.BadZipFile, SafetensorError) as error:
        first_line = str(error).partition("\n")[0]
        raise CheckpointError(f"{path} is damaged or no PyTorch file: {first_line}") from error
    return unwrap(content, str(path))


# Where training frameworks keep a state dict. Averaged weights come first: they are the ones that authors evaluate.
_WRAPPERS = ("state_dict_ema", "state_dict", "model_ema", "model", "module")


def unwrap(content: Any, where: str) -> dict[str, Tensor]:
    """The state dict inside a training framework's file, under one of _WRAPPERS, of which two may be nested, or at the top.

    Raises:
        CheckpointError: there is none.
    """
    for _ in range(2):  # no more: a file may hold a dictionary that holds itself
        if isinstance(content, Mapping):
            wrapped_in = (content[name] for name in _WRAPPERS if isinstance(content.get(name), Mapping))
            content = next(wrapped_in, content)
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"{where} holds {type(content).__name__}; expected a dictionary of tensors")
    strange = [key for key, value in content.items() if not isinstance(value, Tensor)]
    if not strange and not all(isinstance(key, str) for key in content):
        raise CheckpointError(f"{where} holds tensors under {next(iter(content))!r}; expected names")
    if strange:
        raise CheckpointError(f"{where} holds {strange[0]!r}, which is no tensor; expected a dictionary of tensors")
    wrapped = all(key.startswith("module.") for key in content)  # by DataParallel
    return {key.removeprefix("module.") if wrapped else key: value for key, value in content.items()}


def strict_load(
    model: nn.Module,
    converted: State,
    unused: Iterable[str] = (),
    untouched: Callable[[str], bool] = lambda key: False,
) -> LoadReport:
    """Load a converted state dict if its keys and shapes are the model's; position embeddings may be of another grid.

    Args:
        model: whose own key names `converted` has.
        converted: the tensors.
        unused: keys of the original file that were left out on purpose; goes into the report.
        untouched: says for a key of the model that such files never hold it.

    Raises:
        CheckpointError: missing or unexpected keys, or other shapes. The model is then unchanged.
    """
    own = model.state_dict()
    expected = {key: value for key, value in own.items() if not untouched(key)}
    missing = [key for key in expected if key not in converted]
    unexpected = [key for key in converted if key not in expected]
    if missing or unexpected:
        raise CheckpointError(
            f"the checkpoint does not fit {type(model).__name__}: "
            f"missing {_some(missing)}; unexpected {_some(unexpected)}"
        )
    tensors, resized, wrong = {}, [], []
    for key, value in converted.items():
        fitted = fit_grid(model, key, value, expected[key].shape)
        if fitted is not value:
            resized.append(key)
        if fitted.shape != expected[key].shape:
            wrong.append(f"{key} is {tuple(value.shape)}, expected {tuple(expected[key].shape)}")
        tensors[key] = fitted
    if wrong:
        raise CheckpointError(f"the checkpoint does not fit {type(model).__name__}: {_some(wrong)}")
    model.load_state_dict({**own, **tensors})
    return LoadReport(len(tensors), tuple(unused), tuple(resized), tuple(key for key in own if key not in expected))


def fit_grid(model: nn.Module, key: str, value: Tensor, shape: torch.Size) -> Tensor:
    """A file's tensor, resized if it belongs to the tokens of another grid than the model's; else the tensor itself."""
    if key == "backbone.vit.pos_embed":
        return resize_positions(value, model.backbone)  # type: ignore[arg-type]
    if key == "upsampling.queries" and value.shape != shape:
        return resize_queries(value, model.upsampling.grid)  # type: ignore[arg-type, union-attr]
    if key.startswith("backbone.vit.") and key.endswith(".relative_position_bias_table"):
        return resize_bias_table(value, model.backbone.grid)  # type: ignore[arg-type, union-attr]
    return value


def resize_positions(embedding: Tensor, backbone: TokenBackbone) -> Tensor:
    """Position embeddings (1, P + n^2, D) of a file, resized to the backbone's grid in the backbone's own way.

    Released files are of square grids. So a count that is a square means one, although the model's grid may have as
    many patches in another shape.

    Raises:
        CheckpointError: the file's grid is neither square nor, by its count, the model's, so that its sides are unknown.
    """
    patches = backbone.grid[0] * backbone.grid[1]
    prefix = backbone.vit.pos_embed.shape[1] - patches
    count = embedding.shape[1] - prefix
    side = round(max(count, 0) ** 0.5)
    if backbone.grid == (side, side) or (count == patches and side * side != count):
        return embedding
    if side * side != count:
        raise CheckpointError(
            f"the checkpoint has position embeddings of {count} patches, which is no square grid; "
            f"build the model with the image_size of the checkpoint (the model's grid is {backbone.grid})"
        )
    spatial = tokens_to_map(embedding[:, prefix:], (side, side))  # (1, D, n, n)
    spatial = F.interpolate(spatial, size=backbone.grid, mode=backbone.position_resize, align_corners=False)
    return torch.cat([embedding[:, :prefix], spatial.flatten(2).transpose(1, 2)], dim=1)


def convert_segmenter(state: State) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """rstrudel/segmenter -> own keys, and the encoder's ImageNet classifier, which no segmenter has a use for."""
    unused = tuple(key for key in state if key.startswith(("encoder.head.", "encoder.head_dist.")))
    converted = {}
    for key, value in state.items():
        if key not in unused:
            converted[re.sub(r"^encoder\.", "backbone.vit.", key)] = value
    return converted, unused


def convert_regproxy(state: State) -> dict[str, Tensor]:
    """YiF-Zhang/RegionProxy -> own keys."""
    rules = (
        (r"^decode_head\.mlp\.0\.0\.", "classifier."),
        (r"^decode_head\.affinity_head\.0\.depthwise_conv\.conv\.", "affinity_head.depthwise.0."),
        (r"^decode_head\.affinity_head\.0\.depthwise_conv\.bn\.", "affinity_head.depthwise.1."),
        (r"^decode_head\.affinity_head\.0\.pointwise_conv\.conv\.", "affinity_head.pointwise.0."),
        (r"^decode_head\.affinity_head\.0\.pointwise_conv\.bn\.", "affinity_head.pointwise.1."),
        (r"^decode_head\.affinity_head\.1\.conv\.", "affinity_head.out."),
    )
    return {_rename(key, rules + MMSEG_VIT): value for key, value in state.items()}


# mmsegmentation's VisionTransformer -> a TokenBackbone called "backbone"; applied in order to the start of a key.
MMSEG_VIT = (
    (r"^backbone\.patch_embed\.projection\.", "backbone.vit.patch_embed.proj."),
    (r"^backbone\.ln1\.", "backbone.vit.norm."),
    (r"^backbone\.layers\.(\d+)\.ln([12])\.", r"backbone.vit.blocks.\1.norm\2."),
    (r"^backbone\.layers\.(\d+)\.attn\.attn\.in_proj_", r"backbone.vit.blocks.\1.attn.qkv."),
    (r"^backbone\.layers\.(\d+)\.attn\.attn\.out_proj\.", r"backbone.vit.blocks.\1.attn.proj."),
    (r"^backbone\.layers\.(\d+)\.ffn\.layers\.0\.0\.", r"backbone.vit.blocks.\1.mlp.fc1."),
    (r"^backbone\.layers\.(\d+)\.ffn\.layers\.1\.", r"backbone.vit.blocks.\1.mlp.fc2."),
    (r"^backbone\.(?=(cls_token|dist_token|pos_embed|patch_embed\.(backbone|proj)\.))", "backbone.vit."),
)


def architecture_of(state: State) -> str:
    """Which of the known kinds of file a state dict is; "" if none."""
    if any(key.startswith("decode_head.affinity_head.") for key in state):
        return "RegProxy"
    if any(key.startswith("encoder.blocks.") for key in state) and any(key.startswith("decoder.") for key in state):
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
    keys = f"{len(state)} tensors ({', '.join(list(state)[:3])}, ...)"
    return f"a {name}, {keys}" if name else f"an unknown architecture, {keys}"


def _rename(key: str, rules: Iterable[tuple[str, str]]) -> str:
    """The key under the first rule that matches; unchanged, and so unexpected to the model, if none does."""
    for pattern, replacement in rules:
        renamed, count = re.subn(pattern, replacement, key)
        if count:
            return renamed
    return key


def _some(items: list[str], shown: int = 3) -> str:
    rest = f" and {len(items) - shown} more" if len(items) > shown else ""
    return ", ".join(items[:shown]) + rest if items else "none"
