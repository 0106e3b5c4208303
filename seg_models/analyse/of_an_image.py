"""Subcommands that look at a model, or at what it makes of an image. Each leaves pictures in a folder and returns its numbers."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seg_models.analyse.attention import class_attention, patch_attention
from seg_models.analyse.drawing import heat_over, named_points, write_png
from seg_models.analyse.embeddings import class_embeddings, projected
from seg_models.analyse.errors import AnalysisError
from seg_models.analyse.features import filtered_features
from seg_models.checkpoints.trained import TrainedTask, load_task
from seg_models.data.image_files import read_image
from seg_models.data.transforms import Resize
from seg_models.normalization import normalize


def squeezed(task: TrainedTask, path: Path) -> tuple[np.ndarray, Tensor]:
    """An image at the network's size: uint8 RGB (H, W, 3), and normalised (1, 3, H, W)."""
    size = task.model.image_size
    image = read_image(path)
    rgb, _ = Resize(size)(image, np.zeros(image.shape[:2], np.uint8), np.random.default_rng(0))
    return rgb, normalize(torch.from_numpy(rgb).permute(2, 0, 1)[None], task.model.normalization)


def class_numbers(task: TrainedTask, names: list[str]) -> list[int]:
    """Numbers of named classes. Raises AnalysisError for a name that the model does not have."""
    known = task.table.names
    for name in names:
        if name not in known:
            raise AnalysisError(f"no class {name!r}; the model has {', '.join(known)}")
    return [known.index(name) for name in names]


def attention(args: argparse.Namespace) -> dict[str, Any]:
    """Segmenter, Figures 1 and 7 (--patch); SegViT, Figure 1, and RSSeg, Figure 7 (--classes)."""
    task = load_task(args.checkpoint)
    rgb, image = squeezed(task, args.image)
    if args.classes:
        numbers = class_numbers(task, args.classes)
        found = class_attention(task.model, image, numbers)
        pictures = {
            f"{kind}_{name.replace('/', '-')}": heat_over(rgb, maps[i].numpy())
            for kind, maps in found.items()
            for i, name in enumerate(args.classes)
        }
    else:
        if not args.patch:
            raise AnalysisError("nothing to look at; give --patch ROW COLUMN, once or more, or --classes NAME ...")
        patches = [(row, col) for row, col in args.patch]
        maps = patch_attention(task.model, image, patches, args.layers)
        blur = task.model.stride / 2  # "a Gaussian filter matching the model input patch size" (appendix C)
        pictures = {
            f"layer{layer}_patch{row}-{col}": heat_over(rgb, maps[i, j].numpy(), blur)
            for i, layer in enumerate(args.layers)
            for j, (row, col) in enumerate(patches)
        }
    for name, picture in pictures.items():
        write_png(args.out / f"{name}.png", picture)
    return {"pictures": sorted(pictures)}


def features(args: argparse.Namespace) -> dict[str, Any]:
    """RSSeg, Figure 8."""
    task = load_task(args.checkpoint)
    rgb, image = squeezed(task, args.image)
    found = filtered_features(task.model, image)
    for name, values in found.items():
        write_png(args.out / f"{name}.png", heat_over(rgb, values.numpy()))
    return {name: {"mean": float(values.mean()), "deviation": float(values.std())} for name, values in found.items()}


def embeddings(args: argparse.Namespace) -> dict[str, Any]:
    """Segmenter, Figure 8."""
    task = load_task(args.checkpoint)
    points = projected(class_embeddings(task.model)).numpy()
    write_png(args.out / "embeddings.png", named_points(points, task.table.names))
    return {name: [float(x), float(y)] for name, (x, y) in zip(task.table.names, points, strict=True)}
