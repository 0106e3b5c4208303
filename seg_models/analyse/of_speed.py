"""Subcommand `speed`: latency of a model and its parts, images a second, memory, and the largest batch that fits; of a
checkpoint, of a recipe, or of the papers' configurations beside what they print."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch

from seg_models.analyse.errors import AnalysisError
from seg_models.analyse.speed import PRINTED_MS, measured
from seg_models.architectures.superpixel_transformer.model import SuperpixelTransformer
from seg_models.build import model_from_recipe
from seg_models.checkpoints.trained import load_task
from seg_models.evaluation.processes import device_named
from seg_models.papers.configurations import CONFIGURATIONS
from seg_models.segmentation_model import SegmentationModel
from seg_models.training.recipe import read_recipe

MOST_IMAGES = 4096  # in a batch


def speed(args: argparse.Namespace) -> dict[str, Any]:
    """Superpixel Transformer, Tables I, II and IV, and the frames a second of the others' tables; weights do not matter."""
    device = device_named(args.device)
    if args.largest_batch and device.type != "cuda":
        raise AnalysisError(f"--largest-batch fills a GPU's memory; --device is {args.device}")
    if args.batch < 1 or args.runs < 1:
        raise AnalysisError(f"--batch is {args.batch}, --runs {args.runs}; expected at least 1")
    if args.configurations is not None:
        return {"configurations": published(args, device)}
    if args.checkpoint is not None:
        model = load_task(args.checkpoint).model
    elif args.config is not None:
        model = model_from_recipe(
            read_recipe(args.config, args.overrides, args.row), args.num_classes, pretrained=False
        )
    else:
        raise AnalysisError(
            "nothing to measure; give --checkpoint, or --config, with --row for a row of a paper, or --configurations"
        )
    found = speed_of(model, args, device)
    compared = PRINTED_MS if isinstance(model, SuperpixelTransformer) else {}
    for name, value in found["ms"].items():
        print(f"{name:>16} {value:10.2f} ms" + (f"   Table IV, V100: {compared[name]:.1f}" if name in compared else ""))
    return found


def published(args: argparse.Namespace, device: torch.device) -> list[dict[str, Any]]:
    """Every configuration of the papers' tables whose name has a text in it, at its printed size."""
    chosen = [one for one in CONFIGURATIONS if args.configurations.lower() in one.name.lower()]
    if not chosen:
        raise AnalysisError(f"no configuration has {args.configurations!r} in its name; seg_models.summary lists them")
    rows = []
    print(f"{'':<52} {'ms':>9} {'images/s':>9} {'printed':>8} {'memory MB':>10} {'batch':>6} {'images/s':>9}")
    for one in chosen:
        found = speed_of(one.build(), args, device)
        rows.append({"name": one.name, "source": one.source, "printed_images_per_second": one.fps, **found})
        largest = found.get("largest_batch", {})
        cells = (one.fps, found.get("peak_memory_mb"), largest.get("batch"), largest.get("images_per_second"))
        printed, memory, batch, rate = ("" if cell is None else f"{cell:.6g}" for cell in cells)
        print(
            f"{one.name:<52} {found['ms']['total']:9.1f} {found['images_per_second']:9.1f} {printed:>8} {memory:>10} {batch:>6} "
            f"{rate:>9}"
        )
    return rows


def speed_of(model: SegmentationModel, args: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Times, rate and memory of a model at its own size.

    Returns:
        "ms": see `measured`; "images_per_second"; "device"; on a GPU "peak_memory_mb", and with --largest-batch
        "largest_batch" with "batch", "images_per_second" and "peak_memory_mb".
    """
    model = model.eval().to(device)
    found = rate_at(model, args.batch, args.runs, device)
    if args.largest_batch:
        batch = largest_fitting(lambda count: fits(model, count, device), MOST_IMAGES)
        if batch:
            at_best = rate_at(model, batch, args.runs, device)
            found["largest_batch"] = {"batch": batch} | {key: at_best[key] for key in at_best if key != "ms"}
    model.cpu()
    return found


def rate_at(model: SegmentationModel, batch: int, runs: int, device: torch.device) -> dict[str, Any]:
    """Times and memory of a batch of this many images."""
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    times = measured(model, torch.zeros(batch, 3, *model.image_size, device=device), runs)
    found: dict[str, Any] = {"ms": times, "images_per_second": 1000 * batch / times["total"], "device": str(device)}
    if on_gpu:
        found["peak_memory_mb"] = torch.cuda.max_memory_allocated(device) / 1e6
        found["device_name"] = torch.cuda.get_device_name(device)
    return found


def fits(model: SegmentationModel, batch: int, device: torch.device) -> bool:
    """Whether a pass over a batch of this many images stays within the device's memory."""
    try:
        with torch.no_grad():
            model(torch.zeros(batch, 3, *model.image_size, device=device))
        return True
    except torch.OutOfMemoryError:
        return False
    finally:
        torch.cuda.empty_cache()


def largest_fitting(fitting: Callable[[int], bool], most: int) -> int:
    """The largest number up to `most` that fits, where all smaller ones do: by doubling, then by halving the gap. 0: not
    even 1 does."""
    good, bad = 0, most + 1
    trial = 1
    while trial < bad:
        if fitting(trial):
            good, trial = trial, min(2 * trial, most) if trial < most else bad
        else:
            bad = trial
    while bad - good > 1:
        middle = (good + bad) // 2
        if fitting(middle):
            good = middle
        else:
            bad = middle
    return good
