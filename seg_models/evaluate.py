"""Score a model on a folder data set: `python -m seg_models.evaluate --checkpoint last.ckpt --data data/rooms`.

As a robot sees (the default): the image is squeezed into the network's input, and labels are scored at the size of each
mask. As the papers do: `--mode whole` or `slide`, with `--short-side`, `--scales` and `--flip` (see `inference.py`).
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

from seg_models.checkpoints.released import released_model, released_recipe
from seg_models.checkpoints.trained import load_task
from seg_models.data.folder import FolderDataset
from seg_models.data.layouts.opening import KINDS
from seg_models.evaluation.inference import SMALL_INPUTS
from seg_models.evaluation.protocol import (
    MODES,
    Protocol,
    ProtocolError,
    default_windows,
    onnx_predictor,
    protocol_predictor,
)
from seg_models.evaluation.report import check_target, lines, write_figures
from seg_models.evaluation.scoring import evaluate
from seg_models.messages import one_line
from seg_models.segmentation_model import SegmentationModel
from seg_models.training.recipe import naming


def model_of(args: argparse.Namespace, num_classes: int) -> SegmentationModel:
    """The model of --checkpoint, or of --released with --recipe.

    Raises:
        ValueError: what `load_task`, `released_recipe` and `released_model` raise.
    """
    if args.checkpoint:
        return load_task(args.checkpoint).model
    recipe = released_recipe(args.recipe, args.row)
    with naming(args.recipe):
        return released_model(recipe, args.released, num_classes)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code (2: bad input, one line says what)."""
    parser = argparse.ArgumentParser(prog="python -m seg_models.evaluate", description=(__doc__ or "").splitlines()[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--checkpoint", type=Path, help="checkpoint of seg_models.train")
    source.add_argument("--onnx", type=Path, help="deployment model of seg_models.export")
    source.add_argument("--released", type=Path, help="the authors' released file, with --recipe")
    parser.add_argument("--recipe", type=Path, help="recipe of the model that --released holds")
    parser.add_argument("--row", help="of the recipe, where it is a file of rows of a paper's tables")
    parser.add_argument("--data", type=Path, default=Path("data/rooms"), help="data set on disk")
    parser.add_argument("--kind", choices=KINDS, default="folder", help="how it lies there (default: %(default)s)")
    parser.add_argument("--split", default="val", help="the split to score; say in reports which")
    parser.add_argument("--mode", choices=MODES, default="resize", help="default: %(default)s, as the robot does")
    parser.add_argument("--window", type=int, help="side of the windows of slide (default: the network's input)")
    parser.add_argument(
        "--stride",
        type=int,
        help="of slide (default: the window, 32 less for Segmenter; docs/training.md has the papers')",
    )
    parser.add_argument(
        "--small-inputs", choices=SMALL_INPUTS, help="of slide (default: the architecture's released way)"
    )
    parser.add_argument("--short-side", type=int, default=0, help="resize the shorter side to this first, e.g. 512")
    parser.add_argument("--longest-ratio", type=float, default=4.0, help="of long to short side, at most (%(default)s)")
    parser.add_argument("--scales", type=float, nargs="+", default=[1.0], help="e.g. 0.5 0.75 1.0 1.25 1.5 1.75")
    parser.add_argument(
        "--min-short-side", type=int, help="no scale makes the shorter side smaller, e.g. 480 (default: no limit)"
    )
    parser.add_argument("--flip", action="store_true", help="average with the mirrored image")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    args = parser.parse_args(arguments)
    for option in ("window", "stride", "small_inputs"):
        if getattr(args, option) is not None and args.mode != "slide":
            parser.error(f"--{option.replace('_', '-')} is of --mode slide; the mode is {args.mode}")
    if args.recipe and not args.released:
        parser.error("--recipe is of --released; a checkpoint carries its own")
    if args.row and not args.recipe:
        parser.error("--row is of --recipe; expected both or neither")
    protocol = Protocol(
        mode=args.mode,
        short_side=args.short_side,
        longest_ratio=args.longest_ratio,
        scales=tuple(args.scales),
        flip=args.flip,
        min_short_side=args.min_short_side or 0,
    )
    try:
        if args.json:
            check_target(args.json)
        data = FolderDataset([args.data], args.split, kind=args.kind)
        if args.onnx:
            if protocol != Protocol(longest_ratio=args.longest_ratio):
                raise ProtocolError(
                    "a deployment model has one input size; the other modes need --checkpoint or --released"
                )
            predict, classes = onnx_predictor(args.onnx)
        else:
            model = model_of(args, len(data.table.names))
            if args.mode == "slide":
                window, stride, small = default_windows(model, args.window, args.stride, args.small_inputs)
                protocol = dataclasses.replace(protocol, window=window, stride=stride, small_inputs=small)
            predict, classes = protocol_predictor(model, protocol), model.num_classes
        if classes != len(data.table.names):
            raise ProtocolError(
                f"the model has {classes} classes, {args.data} has {len(data.table.names)}; they must match"
            )
        scores, names = evaluate(predict, data).scores(), data.table.names
        for line in lines(scores, names, f"{args.data}/{args.split}", len(data), protocol):
            print(line)
        if args.json:
            write_figures(args.json, scores, names, str(args.data), args.split, len(data), protocol)
    except (ValueError, OSError) as error:
        print(f"error: {one_line(error, 1500)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
