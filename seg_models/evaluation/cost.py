"""What a model costs: parameters, multiply-accumulates, time and memory on this machine."""

from __future__ import annotations

import copy
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from seg_models.evaluation.onnx_file import DeploymentFile
from seg_models.evaluation.predictors import Predict, squeezed
from seg_models.segmentation_model import SegmentationModel
from seg_models.summary import multiply_accumulates

RUNS = 10


def model_cost(model: SegmentationModel, predict: Predict, image: np.ndarray, device: torch.device) -> dict[str, Any]:
    """Of a model that computes on a device.

    Args:
        model: in eval mode, on the device.
        predict: what the evaluation does with an image.
        image: uint8 RGB (H, W, 3), of the data set.
        device: the model's.

    Returns:
        see `cost`; the network's time is of one image of `image_size`.
    """
    batch = torch.zeros(1, 3, *model.image_size, device=device)
    on_gpu = device.type == "cuda"

    def network() -> None:
        with torch.inference_mode():
            model(batch)
        if on_gpu:
            torch.cuda.synchronize(device)

    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    found = cost(network, lambda: predict(image), str(device))
    if on_gpu:
        found["peak_memory_mb"] = torch.cuda.max_memory_allocated(device) / 1e6
    outline = copy.deepcopy(model).to("meta")
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "multiply_accumulates": multiply_accumulates(outline, model.image_size),
        **found,
    }


def file_cost(file: DeploymentFile, image: np.ndarray, device: torch.device) -> dict[str, Any]:
    """Of a deployment file; multiply-accumulates are not counted in a graph. Arguments as above."""
    batch = {"image": squeezed(image, file.size)[None]}
    outputs = [output.name for output in file.session.get_outputs()]
    found = cost(lambda: file.session.run(outputs, batch), lambda: file.predict(image), str(device))
    return {"parameters": file_parameters(file.path), "multiply_accumulates": None, **found}


def cost(network: Callable[[], Any], whole: Callable[[], Any], device: str, runs: int = RUNS) -> dict[str, Any]:
    """Times of one image, and what the process has taken.

    Returns:
        "network_ms" and "image_ms" (resizing and painting by the reference in PyTorch included): median, lowest and highest;
        "peak_memory_mb": of the process so far, PyTorch included; "device".
    """
    times = {"network_ms": timed(network, runs), "image_ms": timed(whole, runs)}
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return {**times, "peak_memory_mb": peak_mb, "device": device, "threads": torch.get_num_threads()}


def timed(call: Callable[[], Any], runs: int) -> dict[str, float]:
    """Milliseconds of a call, after two that do not count."""
    taken = []
    for number in range(runs + 2):
        start = time.perf_counter()
        call()
        if number >= 2:
            taken.append(1000 * (time.perf_counter() - start))
    return {"median": statistics.median(taken), "lowest": min(taken), "highest": max(taken)}


def file_parameters(path: Path) -> int:
    """Numbers among a file's weights that are no shapes or indices: of tensors with more than one element, of any type but
    the 64-bit integers."""
    graph = onnx.load(str(path)).graph
    weights = (tensor for tensor in graph.initializer if tensor.data_type != onnx.TensorProto.INT64)
    return sum(int(np.prod(tensor.dims)) for tensor in weights if np.prod(tensor.dims) > 1)


def lines(found: dict[str, Any]) -> list[str]:
    """For a terminal."""
    macs = found["multiply_accumulates"]
    counted = "" if macs is None else f", {macs / 1e9:.2f} G multiply-accumulates"
    return [
        f"cost: {found['parameters'] / 1e6:.2f} M parameters{counted}; {found['device']}: network "
        f"{found['network_ms']['median']:.1f} ms, image {found['image_ms']['median']:.1f} ms, peak memory "
        f"{found['peak_memory_mb']:.0f} MB"
    ]
