"""Train a model by a recipe: `python -m seg_models.train --config config/recipes/rooms_spt_lite0.yaml`.

Lightning runs the loop. In the run's folder it leaves checkpoints (`last.ckpt`, and one at each validation), the
recipe as it was run, and TensorBoard logs. `--resume` goes on from the last checkpoint. One machine, `torchrun` and
SLURM take the same command (`trainer.devices`, `trainer.num_nodes`).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

from seg_models.messages import one_line
from seg_models.training.finite import TrainingError
from seg_models.training.recipe import naming, read_recipe
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
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="e.g. schedule.steps=100 data.batch_size=4")
    args = parser.parse_intermixed_args(arguments)
    try:
        recipe = read_recipe(args.config, args.overrides, args.row)
        with naming(args.config):
            last = train(
                recipe, args.out or Path("runs") / recipe.name, args.resume, args.init_from, args.init_backbone
            )
    except (ValueError, OSError) as error:
        print(f"error: {one_line(error, 1500)}", file=sys.stderr)
        return 2
    except TrainingError as error:
        print(f"error: {one_line(error, 1500)}", file=sys.stderr)
        return 1
    rank_zero_only(print)(f"done: {last}; next: python -m seg_models.evaluate --checkpoint {last}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
