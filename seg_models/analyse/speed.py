"""Time of a model and of its parts on this machine; the Superpixel Transformer's parts stand beside Table IV's."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from seg_models.architectures.superpixel_transformer.model import SuperpixelTransformer
from seg_models.segmentation_model import SegmentationModel

# Table IV: milliseconds of ResNet-50 at 1024x2048 on a V100.
PRINTED_MS = {
    "backbone": 28.0,
    "hypercolumn": 7.1,
    "tokenization": 25.4,
    "self-attention": 4.0,
    "association": 1.0,
    "total": 65.5,
}


def now(device: torch.device) -> float:
    """Seconds, behind all work that the device was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def parts_of(model: SegmentationModel) -> dict[str, list[Any]]:
    """Modules whose time is a part's; what is left of the total is the last part, see `measured`."""
    if isinstance(model, SuperpixelTransformer):
        return {
            "backbone": [model.backbone],
            "hypercolumn": [model.hypercolumn],
            "tokenization": list(model.cross_attention),
            "self-attention": [*model.self_attention, model.classifier],
        }
    return {"backbone": [model.backbone]}


def measured(
    model: SegmentationModel, image: Tensor, runs: int = 10, clock: Callable[[torch.device], float] = now
) -> dict[str, float]:
    """Median milliseconds of a pass and of its parts, after one pass that does not count.

    Args:
        model: in eval mode, on the image's device.
        image: float (B, 3, H, W), normalised.
        runs: passes that count, at least 1.
        clock: what tells the time.

    Returns:
        parts in order, then what is left of them ("association" of a Superpixel Transformer, which includes the position
        embeddings and the painting; "decoder" of the others), then "total".
    """
    parts = parts_of(model)
    rest = "association" if isinstance(model, SuperpixelTransformer) else "decoder"
    spent: dict[str, float] = {}
    begun: dict[str, float] = {}

    def before(name: str) -> Callable[[nn.Module, Any], None]:
        return lambda _, __: begun.__setitem__(name, clock(image.device))

    def behind(name: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda _, __, ___: spent.__setitem__(name, spent.get(name, 0.0) + clock(image.device) - begun[name])

    handles = [
        handle
        for name, modules in parts.items()
        for module in modules
        for handle in (module.register_forward_pre_hook(before(name)), module.register_forward_hook(behind(name)))
    ]
    times: dict[str, list[float]] = {name: [] for name in (*parts, rest, "total")}
    try:
        for number in range(runs + 1):
            spent.clear()
            start = clock(image.device)
            with torch.no_grad():
                model(image)
            total = clock(image.device) - start
            if number == 0:
                continue
            for name in parts:
                times[name].append(spent.get(name, 0.0))
            times[rest].append(total - sum(spent.values()))
            times["total"].append(total)
    finally:
        for handle in handles:
            handle.remove()
    return {name: 1000 * statistics.median(values) for name, values in times.items()}
