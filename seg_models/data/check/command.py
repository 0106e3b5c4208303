"""The command `python -m seg_models.data.check ROOT`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from tqdm import tqdm

from seg_models.data.check.report import lines, to_dict
from seg_models.data.check.sheet import write_sheet
from seg_models.data.check.summary import check_data
from seg_models.data.layouts.opening import KINDS, splits_of
from seg_models.messages import one_line

PROBLEMS, BAD_INPUT = 1, 2


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code: 0 no problem, 1 problems, 2 bad input, which one line tells."""
    args = _parser().parse_args(arguments)
    try:
        if args.workers < 0 or args.thumbnails < 0:
            raise ValueError("--workers and --thumbnails must be 0 or more")
        for path in (args.json, args.sheet):
            if path is not None:  # a folder that is not there shows now, not after the work
                path.parent.mkdir(parents=True, exist_ok=True)
        splits = args.splits or splits_of(args.kind, args.root)
        workers = args.workers or len(os.sched_getaffinity(0))
        thumbnails = args.thumbnails if args.sheet else 0
        with tqdm(unit="image", disable=None) as bar:

            def step(split: str, done: int, total: int) -> None:
                if done == 1:
                    bar.reset(total)
                    bar.set_description(split)
                bar.update()

            summary = check_data(args.kind, args.root, splits, workers, thumbnails, not args.allow_sequences, step)
        for line in lines(summary):
            print(line)
        if args.json:
            args.json.write_text(json.dumps(to_dict(summary), indent=2) + "\n", encoding="utf-8")
        if args.sheet:
            write_sheet(args.sheet, summary)
    except (ValueError, OSError) as error:
        print(f"seg_models.data.check: error: {one_line(error)}", file=sys.stderr)
        return BAD_INPUT
    return PROBLEMS if summary.counts else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m seg_models.data.check",
        description="Counts of a data set, its broken files, and leaks between its splits. Exit code 1: problems were found.",
    )
    parser.add_argument("root", type=Path, help="the data set's folder")
    parser.add_argument("--kind", choices=KINDS, default="folder", help="how it lies there (default: %(default)s)")
    parser.add_argument("--splits", nargs="+", metavar="SPLIT", help="default: all that the kind has")
    parser.add_argument("--json", type=Path, help="write all that was found here")
    parser.add_argument("--sheet", type=Path, help="write a contact sheet here, .png or .jpg")
    parser.add_argument("--thumbnails", type=int, default=12, help="images of a split on it (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=0, help="processes; 0: one a CPU core")
    parser.add_argument(
        "--allow-sequences",
        action="store_true",
        help="frames of one video in several splits are no problem, as in CamVid's published split",
    )
    return parser
