"""Export a checkpoint as the deployment model: `python -m seg_models.export --checkpoint last.ckpt --out model.onnx`.

One ONNX file holds everything a robot needs: uint8 RGB in, normalisation inside, class names, palette and origin in its
metadata. The file is written only after ONNX Runtime and PyTorch agreed on real images.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from seg_models.checkpoints.released import released_model, released_recipe
from seg_models.checkpoints.trained import load_task
from seg_models.data.folder import FolderDataset
from seg_models.data.labels import LabelTableError, read_label_table
from seg_models.data.layouts.samples import FolderDataError
from seg_models.evaluation.processes import device_named
from seg_models.export.checks import CHECKED_IMAGES, TOLERANCES, read_images
from seg_models.export.conversion import convert_onnx
from seg_models.export.deployment import FORMS
from seg_models.export.deployment_file import Origin, export_onnx
from seg_models.export.errors import ExportError
from seg_models.messages import one_line
from seg_models.source_commit import source_commit
from seg_models.training.recipe import DataRecipe, naming

CALIBRATION_IMAGES = 32  # at most, evenly spread


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code (2: bad input or a failed check, one line says what)."""
    parser = argparse.ArgumentParser(prog="python -m seg_models.export", description=(__doc__ or "").splitlines()[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--checkpoint", type=Path, help="checkpoint of seg_models.train")
    source.add_argument("--released", type=Path, help="the authors' released file, with --recipe")
    source.add_argument(
        "--onnx", type=Path, help="a deployment model in float32, to be written in another --precision; with --images"
    )
    parser.add_argument(
        "--recipe",
        type=Path,
        help="of the model that --released holds; its data names the classes. A checkpoint has its own",
    )
    parser.add_argument("--row", help="of the recipe, where it is a file of rows of a paper's tables")
    parser.add_argument("--out", type=Path, required=True, help="the .onnx file")
    parser.add_argument(
        "--images", type=Path, help="real images to check with (default: the recipe's validation split)"
    )
    parser.add_argument(
        "--precision",
        choices=list(TOLERANCES),
        default="float32",
        help="float16: for GPUs, half the size; int8: 8-bit convolutions and linear layers, with "
        "--calibration, or of a checkpoint that was trained for it",
    )
    parser.add_argument(
        "--calibration", type=Path, help="some dozens of images of what the robot will see, other than --images (int8)"
    )
    parser.add_argument(
        "--form",
        choices=FORMS,
        help="association: the robot paints, quicker and at its camera's size (default where the model has it); "
        "labels: everything in the graph",
    )
    parser.add_argument(
        "--device", default="cpu", help="that PyTorch checks the file on, such as cuda:0 (default: %(default)s)"
    )
    parser.add_argument("--license", default="Apache-2.0", help="licence of the weights")
    args = parser.parse_args(arguments)
    try:
        device = device_named(args.device)
        if args.onnx:
            if (args.precision == "int8") != (args.calibration is not None):
                raise ExportError("--precision int8 and --calibration DIR belong together; give both or neither")
            return _convert(args)
        if args.checkpoint:
            task = load_task(args.checkpoint)
            recipe, table, model = task.recipe, task.table, task.model
            if args.recipe:
                print(
                    f"{args.checkpoint} carries its own recipe, {recipe.name}, which is taken; {args.recipe} is not read"
                )
        else:
            recipe = released_recipe(args.recipe, args.row)
            table = read_label_table(Path(recipe.data.roots[0]) / "classes.yaml")
            with naming(args.recipe):
                model = released_model(recipe, args.released, len(table.names))
        learned = bool(recipe.quantization.layers)
        if learned and args.calibration:
            raise ExportError(f"{args.checkpoint} was trained in 8 bits and has its ranges; leave --calibration out")
        if learned and args.precision != "int8":
            raise ExportError(f"{args.checkpoint} was trained in 8 bits; export it with --precision int8")
        if not learned and (args.precision == "int8") != (args.calibration is not None):
            raise ExportError("--precision int8 and --calibration DIR belong together; give both or neither")
        data = recipe.data
        training_data = data.description or str(data.roots)
        origin = Origin(recipe.name, recipe.model.name, training_data, args.license, source_commit())
        images = read_images(args.images) if args.images else validation_images(data)
        calibration = read_images(args.calibration, CALIBRATION_IMAGES) if args.calibration else None
        figures = export_onnx(model, table, origin, args.out, images, args.precision, args.form, calibration, device)
    except (ValueError, OSError) as error:
        print(f"error: {one_line(error, 1500)}", file=sys.stderr)
        return 2
    print(f"wrote {args.out} ({args.out.stat().st_size / 1e6:.1f} MB); against PyTorch: {figures}")
    return 0


def validation_images(data: DataRecipe) -> list[np.ndarray]:
    """Up to CHECKED_IMAGES images, evenly spread over the split that the recipe validates on, however it lies on disk.

    Raises:
        ExportError: it is not there.
    """
    try:
        split = FolderDataset((data.val_roots or data.roots)[:1], data.val_split, kind=data.kind)
    except (FolderDataError, LabelTableError) as error:
        raise ExportError(f"{error}; or give --images, a folder of real images to check with") from error
    count = min(len(split), CHECKED_IMAGES)
    return [split.read(int(i))[0] for i in np.linspace(0, len(split) - 1, count).round()]


def _convert(args: argparse.Namespace) -> int:
    """Of a deployment file; see `convert_onnx`."""
    if args.images is None:
        raise ExportError("--onnx needs --images DIR, real images that the two files are compared on")
    if args.form or args.recipe:
        raise ExportError("--onnx keeps the file's form and needs no recipe; leave --form and --recipe out")
    calibration = read_images(args.calibration, CALIBRATION_IMAGES) if args.calibration else None
    figures = convert_onnx(args.onnx, args.out, read_images(args.images), args.precision, calibration)
    print(f"wrote {args.out} ({args.out.stat().st_size / 1e6:.1f} MB); against {args.onnx}: {figures}")
    return 0
