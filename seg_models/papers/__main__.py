"""Tables of docs/papers.md from the rows and the counted configurations: `python -m seg_models.papers [--write FILE]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from seg_models.papers.page import MARK, page
from seg_models.training.recipe import RecipeError

ROWS = Path("config/recipes/rows")


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code (2: bad input, one line says what)."""
    parser = argparse.ArgumentParser(prog="python -m seg_models.papers", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--rows", type=Path, default=ROWS, help="folder with a file of rows a paper (default: %(default)s)"
    )
    parser.add_argument("--write", type=Path, help="replace what follows the mark in this page, instead of printing")
    args = parser.parse_args(arguments)
    try:
        tables = page(args.rows)
        if args.write is None:
            print(tables)
            return 0
        above, mark, _ = args.write.read_text(encoding="utf-8").partition(MARK)
        if not mark:
            raise RecipeError(f"{args.write} has no line {MARK!r}; the tables go behind it")
        args.write.write_text(f"{above}{mark}\n\n{tables}", encoding="utf-8")
    except (RecipeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
