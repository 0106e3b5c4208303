"""Train a model by a recipe: `python -m seg_models.train --config config/recipes/rooms_spt_lite0.yaml`.

Lightning runs the loop. In the run's folder it leaves checkpoints (`last.ckpt`, `best.ckpt`, one of each validation), the
recipe as it was run, metrics and TensorBoard logs. `--resume` goes on from the last checkpoint. One machine, `torchrun` and
SLURM take the same command (`trainer.devices`, `trainer.num_nodes`).

What the loop knows nothing of is put together here: the export of the best weights, a teacher that is a deployment file.
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

from seg_models.background_export import BackgroundExport
from seg_models.build import build_from_recipe, outline_from_recipe
from seg_models.messages import one_line
from seg_models.training.distillation import Teacher
from seg_models.training.finite import TrainingError
from seg_models.training.recipe import Recipe, RecipeError, naming, read_recipe
from seg_models.training.run import train


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code (2: bad input, 1: the training failed; one line says what)."""
    parser = argparse.ArgumentParser(prog="python -m seg_models.train", description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, required=True, help="recipe, YAML, or with --row a file of rows")
    parser.add_argument("--row", help="row of a paper's table, of a file in config/recipes/rows/")
    parser.add_argument("--out", type=Path, help="folder of the run (default: runs/<name of the recipe>)")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--resume", action="store_true", help="go on from the last checkpoint in --out")
    start.add_argument("--init-from", type=Path, help="start from the weights of this checkpoint of seg_models.train")
    start.add_argument(
        "--init-backbone", type=Path, help="start from a released file: timm's of the backbone, or of the whole model"
    )
    parser.add_argument(
        "--export-every-best",
        action="store_true",
        help="whenever the validation is the best so far, write OUT/best.onnx too, in a process beside the training",
    )
    parser.add_argument(
        "--export-arguments",
        type=shlex.split,
        metavar="'...'",
        help="further ones of seg_models.export for it, such as '--precision float16'",
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="e.g. schedule.steps=100 data.batch_size=4")
    args = parser.parse_intermixed_args(arguments)
    if args.export_arguments and not args.export_every_best:
        parser.error("--export-arguments are of --export-every-best")
    export: BackgroundExport | None = None
    try:
        recipe = read_recipe(args.config, args.overrides, args.row)
        out = args.out or Path("runs") / recipe.name
        with naming(args.config):
            recipe = with_quantized_layers(recipe)
            if args.export_every_best:
                in_8_bits = ["--precision", "int8"] if recipe.quantization.enabled else []
                export = BackgroundExport([*in_8_bits, *(args.export_arguments or ())])
            teacher = deployed_teacher(recipe)
            last = train(recipe, out, args.resume, args.init_from, args.init_backbone, teacher, export)
    except (ValueError, OSError) as error:
        print(f"error: {one_line(error, 1500)}", file=sys.stderr)
        return 2
    except TrainingError as error:
        print(f"error: {one_line(error, 1500)}", file=sys.stderr)
        return 1
    finally:
        if export is not None:
            export.finish()
    rank_zero_only(print)(f"done: {last}; next: python -m seg_models.evaluate --checkpoint {last}")
    return 0


def with_quantized_layers(recipe: Recipe) -> Recipe:
    """The recipe with the layers that an int8 file of its model has in 8 bits, if it is to be trained for one.

    Raises:
        RecipeError: a model that cannot be built, or has no such layers.
    """
    if not recipe.quantization.enabled:
        return recipe
    from seg_models.export.layers import quantized_layers  # trainings without need no exporter

    outline_from_recipe(recipe, 2)
    layers = quantized_layers(build_from_recipe(recipe, 2, pretrained=False))
    if not layers:
        raise RecipeError(f"quantization: {recipe.model.name} has no layer that an int8 file would have in 8 bits")
    return dataclasses.replace(recipe, quantization=dataclasses.replace(recipe.quantization, layers=layers))


def deployed_teacher(recipe: Recipe) -> Teacher | None:
    """The recipe's teacher, if it is a deployment file.

    Raises:
        RecipeError: a file that cannot teach.
    """
    path = Path(recipe.distillation.teacher)
    if path.suffix != ".onnx":
        return None
    from seg_models.deployed_teacher import DeployedTeacher  # trainings without need no ONNX Runtime

    return DeployedTeacher(path)


if __name__ == "__main__":
    sys.exit(main())
