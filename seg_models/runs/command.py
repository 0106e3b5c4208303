"""List and compare trainings: `python -m seg_models.runs list`, `python -m seg_models.runs compare runs/a runs/b`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from seg_models.messages import one_line
from seg_models.runs.curves import write_page
from seg_models.runs.reading import find_runs, read_run
from seg_models.runs.tables import compared, listed


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code (2: no such run, one line says what)."""
    parser = argparse.ArgumentParser(prog="python -m seg_models.runs", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="a line for each run below a folder")
    listing.add_argument("root", type=Path, nargs="?", default=Path("runs"), help="default: %(default)s")
    comparing = commands.add_parser("compare", help="what differs between runs, and what came of it")
    comparing.add_argument("runs", type=Path, nargs="+", help="folders of runs")
    comparing.add_argument("--html", type=Path, help="a page with the curves of mIoU and loss")
    args = parser.parse_args(arguments)
    try:
        if args.command == "list":
            print("\n".join(listed(find_runs(args.root))))
            return 0
        runs = [read_run(folder) for folder in args.runs]
        print("\n".join(compared(runs)))
        if args.html:
            write_page(runs, args.html)
            print(f"\ncurves in {args.html}")
    except (ValueError, OSError) as error:
        print(f"error: {one_line(error, 1500)}", file=sys.stderr)
        return 2
    return 0
