"""Subcommands that look at a data set. Each leaves pictures in a folder and returns its numbers."""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
import torch
from scipy.stats import gaussian_kde
from torch import Tensor

from seg_models.analyse.drawing import curves, heat_over, write_png
from seg_models.analyse.errors import AnalysisError
from seg_models.analyse.of_an_image import squeezed
from seg_models.analyse.pictures import strip
from seg_models.analyse.regions import association_of, probability_maps, region_entropies
from seg_models.checkpoints.trained import load_task
from seg_models.data.folder import FolderDataset
from seg_models.data.transforms import Resize
from seg_models.evaluation.corruptions import GROUPS, ROBOT_GROUPS
from seg_models.evaluation.onnx_file import open_deployment_file
from seg_models.evaluation.predictors import Predict, protocol_predictor, squeezed_predictor
from seg_models.evaluation.processes import device_named, running_processes
from seg_models.evaluation.protocol import Protocol, default_windows
from seg_models.evaluation.robustness import robustness
from seg_models.normalization import normalize

ENTROPY_BINS = 40


def regions(args: argparse.Namespace) -> dict[str, Any]:
    """RegProxy, Figure 6 left (--data), Figure 6 right and Figure 8 (--image)."""
    task = load_task(args.checkpoint)
    if args.image is not None:
        rgb, image = squeezed(task, args.image)
        association, cell = association_of(task.model, image)
        maps = probability_maps(association, cell)  # (regions, h, w)
        wrong = [number for number in args.regions if not 0 <= number < len(maps)]
        if wrong:
            raise AnalysisError(f"region {wrong[0]}; expected 0 to {len(maps) - 1}, in raster order")
        for number in args.regions:
            write_png(args.out / f"region{number}.png", heat_over(rgb, maps[number].numpy()))
        return {"regions": len(maps), "pictures": [f"region{number}" for number in args.regions]}
    if args.data is None:
        raise AnalysisError("nothing to look at; give --data for entropies, or --image and --regions for pictures")
    data = FolderDataset([args.data], args.split, Resize(task.model.image_size), kind=args.kind)
    if data.table.names != task.table.names:
        raise AnalysisError(f"{args.data} has other classes than the model")
    found: dict[str, list[Tensor]] = {}
    for number in range(len(data)):
        pixels, labels = data[number]
        image = normalize(pixels[None], task.model.normalization)
        for source, values in region_entropies(task.model, image, pixels[None].float() / 255, labels).items():
            found.setdefault(source, []).append(values)
    joined = {source: torch.cat(values).numpy() for source, values in found.items()}
    mixed = {source: values[values > 1e-9] for source, values in joined.items()}
    x = np.linspace(0, max((float(v.max()) for v in mixed.values() if len(v)), default=1.0), 200)
    drawn = {source: gaussian_kde(v)(x) for source, v in mixed.items() if len(np.unique(v)) > 1}
    if drawn:
        write_png(args.out / "entropies.png", curves(x, drawn, "entropy of a region in bits, regions of 0 left out"))
    return {
        source: {
            "regions": len(values),
            "mean_bits": float(values.mean()) if len(values) else None,
            "share_of_one_class": float((values <= 1e-9).mean()) if len(values) else None,
            "histogram": np.histogram(mixed[source], ENTROPY_BINS, (0.0, float(x[-1])))[0].tolist(),
        }
        for source, values in joined.items()
    }


def pictures(args: argparse.Namespace) -> dict[str, Any]:
    """Superpixel Transformer, Figure 4, and the others' pictures: image, truth, predictions, errors side by side."""
    tasks = [load_task(path) for path in (args.checkpoint, *args.beside)]
    first = tasks[0]
    data = FolderDataset([args.data], args.split, Resize(first.model.image_size), kind=args.kind)
    for task in tasks:
        if task.table.names != data.table.names:
            raise AnalysisError(f"a model has other classes than {args.data}: {', '.join(task.table.names)}")
    chosen = np.linspace(0, len(data) - 1, min(args.count, len(data))).round().astype(int)
    found = {}
    for number in chosen:
        pixels, labels = data[int(number)]
        image, truth = pixels.permute(1, 2, 0).contiguous().numpy(), labels.numpy().astype(np.uint8)
        picture, wrong = strip(image, truth, [task.model for task in tasks], data.table.palette)
        name = f"{number:05d}_{data.images[int(number)].stem}"
        write_png(args.out / f"{name}.png", picture)
        found[name] = wrong
    return {"pictures": list(found), "share_of_wrong_pixels": found}


def corruptions(args: argparse.Namespace) -> dict[str, Any] | None:
    """RSSeg, Table 15: mIoU under 16 corruptions in four groups, and retention; --robot: under what befalls robots' cameras."""
    with running_processes() as processes:
        device = device_named(args.device, processes)
        data = FolderDataset([args.data], args.split, kind=args.kind)
        predict, names = corrupted_model(args, device)
        if data.table.names != names:
            raise AnalysisError(f"{args.data} has other classes than the model")
        groups = ROBOT_GROUPS if args.robot else GROUPS
        found = robustness(predict, data, args.severities, args.noise_severities, args.seed, groups, processes)
        if not processes.is_first:
            return None
        for line in found.lines():
            print(line)
        return found.figures()


def corrupted_model(args: argparse.Namespace, device: torch.device) -> tuple[Predict, tuple[str, ...]]:
    """The model of --checkpoint or --onnx, and the names of its classes.

    Raises:
        AnalysisError: both, neither, or windows for a deployment file.
    """
    if (args.checkpoint is None) == (args.onnx is None):
        raise AnalysisError("give --checkpoint or --onnx, one of them")
    if args.onnx is not None:
        if args.window is not None:
            raise AnalysisError("a deployment model has one input size; --window needs --checkpoint")
        file = open_deployment_file(args.onnx, device)
        return file.predict, file.names
    task = load_task(args.checkpoint)
    if args.window is None:
        return squeezed_predictor(task.model, device), task.table.names
    window, stride, small = default_windows(task.model, args.window, args.stride, None)
    protocol = Protocol("slide", window, stride, small, args.short_side)
    return protocol_predictor(task.model, protocol, device), task.table.names


def compare(args: argparse.Namespace) -> dict[str, Any]:
    """RegProxy, Figure 7: IoU of each class of one model, and others' differences from it."""
    read = []
    for path in args.figures:
        try:
            read.append(json.loads(path.read_text(encoding="utf-8"))["iou"])
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise AnalysisError(f"{path} holds no IoU of classes; expected what evaluate --json writes") from error
        if list(read[-1]) != list(read[0]):
            raise AnalysisError(f"{path} has other classes than {args.figures[0]}")
    differences: dict[str, list[float | None]] = {}
    for name, iou in read[0].items():
        others = [other[name] for other in read[1:]]
        differences[name] = [None if iou is None or other is None else 100 * (other - iou) for other in others]
        shown = "  ".join("     -" if value is None else f"{value:+6.1f}" for value in differences[name])
        print(f"{name:>20} {'     -' if iou is None else f'{100 * iou:6.1f}'}  {shown}")
    return {"iou": read[0], "differences_in_points": differences}
