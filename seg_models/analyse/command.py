"""The command: a subcommand a figure, each of which leaves pictures and numbers in a folder."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from seg_models.analyse.of_a_data_set import compare, corruptions, pictures, regions
from seg_models.analyse.of_an_image import attention, embeddings, features
from seg_models.analyse.of_speed import speed
from seg_models.analyse.trade_off import COSTS, trade_off
from seg_models.data.layouts.opening import KINDS
from seg_models.messages import one_line


def parser() -> argparse.ArgumentParser:
    """All subcommands."""
    main_parser = argparse.ArgumentParser(
        prog="python -m seg_models.analyse",
        description="The papers' figures for a checkpoint: pictures and figures.json.",
    )
    commands = main_parser.add_subparsers(dest="command", required=True)

    def add(name: str, run: Any, needs_checkpoint: bool = True) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=run.__doc__.splitlines()[0])
        one.add_argument("--checkpoint", type=Path, required=needs_checkpoint, help="checkpoint of seg_models.train")
        one.add_argument(
            "--out", type=Path, required=True, help="folder for the pictures and figures.json; made if need be"
        )
        one.set_defaults(run=run)
        return one

    one = add("attention", attention)
    one.add_argument("--image", type=Path, required=True)
    one.add_argument(
        "--patch", type=int, nargs=2, action="append", metavar=("ROW", "COLUMN"), help="in the grid of tokens"
    )
    one.add_argument("--layers", type=int, nargs="+", default=[1, 4, 8, 12], help="from 1 (default: %(default)s)")
    one.add_argument("--classes", nargs="+", help="class tokens of the decoder instead: SegViT, RSSeg")
    add("features", features).add_argument("--image", type=Path, required=True)
    add("embeddings", embeddings)
    one = add("regions", regions)
    one.add_argument("--image", type=Path, help="draw probability maps of --regions")
    one.add_argument("--regions", type=int, nargs="+", default=[0], help="in raster order, from 0")
    one.add_argument("--data", type=Path, help="distribution of entropies over a data set")
    one.add_argument("--kind", choices=KINDS, default="folder")
    one.add_argument("--split", default="val")
    one = add("pictures", pictures)
    one.add_argument(
        "--beside", type=Path, nargs="+", default=[], help="checkpoints of further models of the same classes"
    )
    one.add_argument("--data", type=Path, required=True)
    one.add_argument("--kind", choices=KINDS, default="folder")
    one.add_argument("--split", default="val")
    one.add_argument(
        "--count", type=int, default=16, help="images, evenly spread over the split (default: %(default)s)"
    )
    one = add("corruptions", corruptions, needs_checkpoint=False)
    one.add_argument("--onnx", type=Path, help="deployment model, instead of --checkpoint")
    one.add_argument("--device", default="cpu", help="such as cuda:0; under torchrun cuda (default: %(default)s)")
    one.add_argument(
        "--robot", action="store_true", help="motion, wrong exposure and dirt on the lens instead of Table 15's"
    )
    one.add_argument("--data", type=Path, required=True)
    one.add_argument("--kind", choices=KINDS, default="folder")
    one.add_argument("--split", default="val")
    one.add_argument("--severities", type=int, nargs="+", choices=range(1, 6), default=[1, 2, 3, 4, 5])
    one.add_argument("--noise-severities", type=int, nargs="+", choices=range(1, 6), default=[1, 2, 3])
    one.add_argument("--window", type=int, help="side of sliding windows (default: the image squeezed into the input)")
    one.add_argument("--stride", type=int, help="of the windows")
    one.add_argument("--short-side", type=int, default=0, help="with --window: resize the shorter side to this first")
    one.add_argument("--seed", type=int, default=0, help="of the corruptions")
    one = commands.add_parser("compare", help=(compare.__doc__ or "").splitlines()[0])
    one.add_argument(
        "--figures", type=Path, nargs="+", required=True, help="what evaluate --json wrote; the first is the base"
    )
    one.add_argument("--out", type=Path, required=True, help="folder for figures.json")
    one.set_defaults(run=compare)
    one = commands.add_parser("trade-off", help=(trade_off.__doc__ or "").splitlines()[0])
    one.add_argument(
        "--figures", type=Path, nargs="+", required=True, help="what evaluate --cost --json wrote, one file a model"
    )
    one.add_argument("--over", choices=COSTS, default="multiply_accumulates", help="(default: %(default)s)")
    one.add_argument("--out", type=Path, required=True, help="folder for the picture and figures.json")
    one.set_defaults(run=trade_off)
    one = add("speed", speed, needs_checkpoint=False)
    one.add_argument("--config", type=Path, help="recipe, or with --row a file of rows; random weights")
    one.add_argument("--row")
    one.add_argument("--num-classes", type=int, default=150)
    one.add_argument("--device", default="cpu", help="such as cuda:0 (default: %(default)s)")
    one.add_argument(
        "--configurations",
        metavar="TEXT",
        help="published configurations with this in their name, as seg_models.summary --only",
    )
    one.add_argument("--batch", type=int, default=1)
    one.add_argument("--runs", type=int, default=10)
    one.add_argument(
        "--largest-batch",
        action="store_true",
        help="also at the largest batch that a GPU's memory holds (Segmenter, Figure 4)",
    )
    one.add_argument("overrides", nargs="*", metavar="key=value", help="of the recipe")
    return main_parser


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code (2: bad input, one line says what)."""
    args = parser().parse_args(arguments)
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        found = args.run(args)
        if found is None:  # of several processes the first one writes
            return 0
        (args.out / "figures.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    except (ValueError, OSError) as error:
        print(f"error: {one_line(error, 1500)}", file=sys.stderr)
        return 2
    print(f"wrote {args.out}")
    return 0
