"""The soak as a command.

    python -m test.soak --minutes 60 --seed 7 --out out/soak

Writes report.md with its plots, soak.json and node.log to the folder; exits with 1 where something did not hold.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from pathlib import Path

from test.soak.node_faults import FAULTS
from test.soak.outcome import Settings
from test.soak.report import write_report
from test.soak.run import soak

CAMERAS = ("front", "rear", "side", "up", "down", "left", "right", "arm")


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit code."""
    options = _parser().parse_args(arguments)
    if options.minutes <= 0 or options.rate <= 0 or not 2 <= options.cameras <= len(CAMERAS):
        print(f"error: --minutes and --rate must be above 0, --cameras 2 to {len(CAMERAS)}", file=sys.stderr)
        return 2
    faults = [fault for fault in FAULTS if not options.fault or fault.name in options.fault]
    seed = random.SystemRandom().randrange(2**31) if options.seed is None else options.seed
    settings = Settings(
        options.minutes,
        seed,
        options.rate,
        CAMERAS[: options.cameras],
        options.tiny,
        options.burners,
        options.patience,
    )
    print(
        f"soak: seed {seed} (again: --seed {seed}), {options.minutes:g} minutes, {options.cameras} cameras at "
        f"{options.rate:g} Hz",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        outcome = soak(settings, Path(folder), lambda line: print(line, flush=True), faults)
    report = write_report(outcome, options.out)
    verdicts = outcome.verdicts()
    for verdict in verdicts:
        print(f"{'ok  ' if verdict.is_good else 'FAIL'}  {verdict.what}: {verdict.seen}")
    print(f"report: {report}; seed {seed}")
    return 0 if all(verdict.is_good for verdict in verdicts) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m test.soak", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0, help="of random faults (%(default)s)")
    parser.add_argument("--seed", type=int, help="of the faults; by default drawn, and printed")
    parser.add_argument("--rate", type=float, default=30.0, help="images a second of each camera (%(default)s)")
    parser.add_argument("--cameras", type=int, default=3, help="how many (%(default)s)")
    parser.add_argument("--tiny", action="store_true", help="the tests' tiny models, which cost next to nothing")
    parser.add_argument(
        "--burners", type=int, default=2 * (os.cpu_count() or 1), help="processes that take the processor (%(default)s)"
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=10.0,
        help="longest seconds without masks where some should come (%(default)s)",
    )
    parser.add_argument(
        "--fault", action="append", choices=[fault.name for fault in FAULTS], help="only this one; may be repeated"
    )
    parser.add_argument("--out", type=Path, default=Path("out/soak"), help="folder of the report (%(default)s)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
