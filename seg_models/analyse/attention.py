"""Where attention goes: of patches in the encoder (Segmenter, Figures 1 and 7), of class tokens in the decoder (SegViT, Figure 1;
RSSeg, Figure 7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from seg_models.analyse.errors import AnalysisError
from seg_models.architectures.rsseg.model import RSSeg
from seg_models.architectures.segvit.atm import AtmStage
from seg_models.architectures.segvit.model import AtmModel
from seg_models.backbones.vit import TokenBackbone
from seg_models.segmentation_model import SegmentationModel, pad_to_stride


def inputs_of(model: nn.Module, image: Tensor, modules: Sequence[nn.Module]) -> list[tuple[Any, Any]]:
    """First input and the output of chosen modules in a pass over a normalised image (1, 3, H, W), in their order.

    Raises:
        AnalysisError: a module that the pass does not come to.
    """
    seen: dict[int, tuple[Any, Any]] = {}
    handles = [
        module.register_forward_hook(lambda _, given, made, number=i: seen.__setitem__(number, (given[0], made)))
        for i, module in enumerate(modules)
    ]
    try:
        with torch.no_grad():
            model(image)
    finally:
        for handle in handles:
            handle.remove()
    if len(seen) < len(modules):
        raise AnalysisError("the model does not run one of the layers that are asked for")
    return [seen[i] for i in range(len(modules))]


def patch_attention(
    model: SegmentationModel, image: Tensor, patches: Sequence[tuple[int, int]], layers: Sequence[int]
) -> Tensor:
    """What chosen patches attend to.

    Args:
        model: on a plain transformer, in eval mode.
        image: float (1, 3, H, W), normalised.
        patches: (row, column) of each patch in the grid of tokens.
        layers: counted from 1, as in Segmenter's Figure 7 (1, 4, 8, 12).

    Returns:
        float (layers, patches, rows, cols), the mean over heads of the softmax, that of class tokens left out.

    Raises:
        AnalysisError: another backbone, or no such patch or layer.
    """
    backbone = model.backbone
    if not isinstance(backbone, TokenBackbone) or backbone.relative_positions:
        raise AnalysisError(
            f"{type(model).__name__} here has no plain transformer below it, whose attention is looked at"
        )
    wrong = [layer for layer in layers if not 1 <= layer <= backbone.depth]
    if wrong:
        raise AnalysisError(f"layer {wrong[0]}; expected 1 to {backbone.depth}, the layers of {backbone.name}")
    padded = pad_to_stride(image, model.stride)
    rows, cols = padded.shape[-2] // backbone.stride, padded.shape[-1] // backbone.stride
    for row, col in patches:
        if not (0 <= row < rows and 0 <= col < cols):
            raise AnalysisError(f"patch ({row}, {col}); expected a row below {rows} and a column below {cols}")
    blocks: list[Any] = [backbone.vit.blocks[layer - 1].attn for layer in layers]
    prefix = backbone.prefix_tokens if backbone.keep_class_token_in_encoder else 0
    chosen = torch.tensor([prefix + row * cols + col for row, col in patches], device=image.device)
    maps = []
    for attention, (tokens, _) in zip(blocks, inputs_of(model, image, blocks), strict=True):
        batch, count, _ = tokens.shape
        with torch.no_grad():
            qkv = attention.qkv(tokens).reshape(batch, count, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
            q, k = attention.q_norm(qkv[0]), attention.k_norm(qkv[1])  # (1, heads, N, D / heads)
            weights = (q[:, :, chosen] * attention.scale @ k.transpose(-2, -1)).softmax(dim=-1)  # (1, heads, P, N)
        maps.append(weights.mean(dim=1)[0, :, prefix:].unflatten(1, (rows, cols)))
    return torch.stack(maps)


@torch.no_grad()
def class_attention(model: SegmentationModel, image: Tensor, classes: Sequence[int]) -> dict[str, Tensor]:
    """Where class tokens look in the decoder.

    Args:
        model: a SegViT or an RSSeg on a plain transformer, in eval mode.
        image: float (1, 3, H, W), normalised.
        classes: their numbers.

    Returns:
        float (classes, rows, cols) by name. SegViT: "similarity" and "attention" of the last layer of the last stage, means over
        heads, and the "mask" after its sigmoid. RSSeg: "attention".

    Raises:
        AnalysisError: another model, or no such class.
    """
    wrong = [number for number in classes if not 0 <= number < model.num_classes]
    if wrong:
        raise AnalysisError(f"class {wrong[0]}; expected 0 to {model.num_classes - 1}")
    chosen = torch.tensor(list(classes), device=image.device)
    if isinstance(model, RSSeg):
        aux = model(image).aux
        scores = aux["queries"][:, chosen] @ aux["keys"].flatten(2) * aux["inverse_scale"]  # (1, classes, N), eq. 12
        return {"attention": scores.softmax(dim=-1)[0].unflatten(1, tuple(aux["keys"].shape[-2:]))}
    if isinstance(model, AtmModel):
        stage = model.decoder.stages[-1]
        assert isinstance(stage, AtmStage)
        cross: Any = stage.layers[-1].cross_attention
        (_, queries), (_, keys) = inputs_of(model, image, [cross.query, cross.key])
        masks = model(image).aux["masks"][-1]
        q, k = (x.unflatten(2, (cross.heads, -1)).transpose(1, 2) for x in (queries, keys))
        similarity = q[:, :, chosen] @ k.transpose(-2, -1) * q.shape[-1] ** -0.5  # eq. 2, (1, heads, classes, N)
        grid = tuple(masks.shape[-2:])
        return {
            "similarity": similarity.mean(dim=1)[0].unflatten(1, grid),
            "attention": similarity.softmax(dim=-1).mean(dim=1)[0].unflatten(1, grid),
            "mask": masks[0, chosen].sigmoid(),
        }
    raise AnalysisError(f"{type(model).__name__} has no class tokens that attend to patches; expected SegViT or RSSeg")
