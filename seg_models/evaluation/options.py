"""The options of `seg_models.evaluate`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from seg_models.data.layouts.opening import KINDS
from seg_models.evaluation.boundaries import BANDS, TOLERANCE, BoundaryF, Trimap
from seg_models.evaluation.calibration import Calibration
from seg_models.evaluation.inference import SMALL_INPUTS
from seg_models.evaluation.measures import Measure
from seg_models.evaluation.object_sizes import ObjectSizes
from seg_models.evaluation.protocol import MODES, Protocol, ProtocolError
from seg_models.evaluation.superpixels import SuperpixelQuality


def options(program: str, description: str) -> argparse.ArgumentParser:
    """The parser."""
    parser = argparse.ArgumentParser(prog=program, description=description)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--checkpoint", type=Path, help="checkpoint of seg_models.train")
    source.add_argument("--onnx", type=Path, help="deployment model of seg_models.export")
    source.add_argument("--released", type=Path, help="the authors' released file, with --recipe")
    parser.add_argument("--recipe", type=Path, help="recipe of the model that --released holds")
    parser.add_argument("--row", help="of the recipe, where it is a file of rows of a paper's tables")
    parser.add_argument("--data", type=Path, default=Path("data/rooms"), help="data set on disk")
    parser.add_argument("--kind", choices=KINDS, default="folder", help="how it lies there (default: %(default)s)")
    parser.add_argument("--split", default="val", help="the split to score; say in reports which")
    parser.add_argument(
        "--device",
        default="cpu",
        help="such as cuda:0; cuda is each process' own under torchrun (default: %(default)s)",
    )
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument(
        "--report", "--out", type=Path, metavar="DIR", help="write report.html and report.json; it is made"
    )
    parser.add_argument("--worst", type=int, default=8, help="images of the lowest mIoU in the report (default: 8)")
    how = parser.add_argument_group("how an image becomes labels")
    how.add_argument("--mode", choices=MODES, default="resize", help="default: %(default)s, as the robot does")
    how.add_argument("--window", type=int, help="side of the windows of slide (default: the network's input)")
    how.add_argument(
        "--stride",
        type=int,
        help="of slide (default: the window, 32 less for Segmenter; docs/training.md has the papers')",
    )
    how.add_argument("--small-inputs", choices=SMALL_INPUTS, help="of slide (default: the architecture's released way)")
    how.add_argument("--short-side", type=int, default=0, help="resize the shorter side to this first, e.g. 512")
    how.add_argument("--longest-ratio", type=float, default=4.0, help="of long to short side, at most (%(default)s)")
    how.add_argument("--scales", type=float, nargs="+", default=[1.0], help="e.g. 0.5 0.75 1.0 1.25 1.5 1.75")
    how.add_argument(
        "--min-short-side", type=int, help="no scale makes the shorter side smaller, e.g. 480 (default: no limit)"
    )
    how.add_argument("--flip", action="store_true", help="average with the mirrored image")
    how.add_argument(
        "--leave-out",
        nargs="+",
        default=[],
        metavar="CLASS",
        help="neither score nor predict these, as SegViT's 59 of 60",
    )
    what = parser.add_argument_group("what is measured beside IoU and accuracy")
    what.add_argument(
        "--group",
        nargs="+",
        action="append",
        default=[],
        metavar=("NAME", "CLASS"),
        help="mean IoU of some classes, once or more; RSSeg's small ones are always told where the data has them",
    )
    what.add_argument("--boundaries", action="store_true", help="boundary F-score, and mIoU near edges")
    what.add_argument(
        "--tolerance", type=float, help=f"of the boundary F-score, share of the diagonal (default: {TOLERANCE})"
    )
    what.add_argument(
        "--bands", type=int, nargs="+", help=f"pixels from an edge (default: {' '.join(map(str, BANDS))})"
    )
    what.add_argument("--object-sizes", action="store_true", help="mIoU of small, medium and large objects' classes")
    what.add_argument("--calibration", action="store_true", help="calibration error and reliability diagram")
    what.add_argument(
        "--superpixels", action="store_true", help="quality of superpixels, beside SLIC's and plain cells"
    )
    what.add_argument("--corruptions", action="store_true", help="mIoU under corruptions, and retention; takes long")
    what.add_argument("--cost", action="store_true", help="parameters, operations, latency and memory")
    what.add_argument("--all", action="store_true", help="all of these that the model has")
    return parser


def refuse_idle_options(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Leave with a message where an option would do nothing, or is out of its range."""
    for option in ("window", "stride", "small_inputs"):
        if getattr(args, option) is not None and args.mode != "slide":
            parser.error(f"--{option.replace('_', '-')} is of --mode slide; the mode is {args.mode}")
    if args.recipe and not args.released:
        parser.error("--recipe is of --released; a checkpoint carries its own")
    if args.row and not args.recipe:
        parser.error("--row is of --recipe; expected both or neither")
    for option in ("tolerance", "bands"):
        if getattr(args, option) is not None and not (args.boundaries or args.all):
            parser.error(f"--{option} is of --boundaries; expected both or neither")
    if args.tolerance is not None and not 0 < args.tolerance < 1:
        parser.error(f"--tolerance is {args.tolerance:g}; expected a share of the diagonal, such as {TOLERANCE}")
    if args.bands is not None and min(args.bands) < 1:
        parser.error(f"--bands has {min(args.bands)}; expected distances in pixels, from 1 on")
    if args.worst < 0:
        parser.error(f"--worst is {args.worst}; expected 0 or more")


def protocol_of(args: argparse.Namespace, names: Sequence[str]) -> Protocol:
    """The protocol that the options name.

    Args:
        args: of `options`.
        names: of the classes.

    Raises:
        ProtocolError: a class to leave out that there is not.
    """
    for name in args.leave_out:
        if name not in names:
            raise ProtocolError(f"no class {name!r} to leave out; the data has {', '.join(names)}")
    return Protocol(
        mode=args.mode,
        short_side=args.short_side,
        longest_ratio=args.longest_ratio,
        scales=tuple(args.scales),
        flip=args.flip,
        min_short_side=args.min_short_side or 0,
        left_out=tuple(names.index(name) for name in args.leave_out),
    )


def chosen_measures(args: argparse.Namespace, names: Sequence[str], has_superpixels: bool) -> list[Measure]:
    """The measures that the options name.

    Args:
        args: of `options`.
        names: of the classes.
        has_superpixels: whether the model, as it is scored, gives some.

    Raises:
        ProtocolError: superpixels are to be measured, and there are none.
    """
    found: list[Measure] = []
    if args.boundaries or args.all:
        found.append(BoundaryF(names, TOLERANCE if args.tolerance is None else args.tolerance))
        found.append(Trimap(len(names), args.bands or BANDS))
    if args.object_sizes or args.all:
        found.append(ObjectSizes(names))
    if args.calibration or args.all:
        found.append(Calibration())
    if args.superpixels and not has_superpixels:
        raise ProtocolError(
            "no superpixels to measure: this model has none, or is scored in windows, at several scales or mirrored"
        )
    if has_superpixels and (args.superpixels or args.all):
        found.append(SuperpixelQuality(len(names)))
    return found
