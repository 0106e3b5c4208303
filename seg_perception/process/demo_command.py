"""`seg_perception demo`: its options, and what it prints."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from seg_perception.engines.select import ENGINE_KINDS
from seg_perception.process.demo import DEMO_LABEL_TOPIC, DemoOptions, run_demo
from seg_perception.process.node_process import NodeProcessError
from seg_perception.share import share_path

DEMO_BAG = "bags/rooms_demo.mcap"
DEMO_MODEL = "models/rooms_spt_lite0.onnx"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `seg_perception demo`."""
    parser.add_argument("--bag", type=Path, help="recording to play (default: the shipped one)")
    parser.add_argument("--model", type=Path, help="the deployment model (default: the shipped one)")
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="folder for the results (%(default)s)")
    parser.add_argument("--image-topic", help="may be left out where the bag has only one beside the labels")
    parser.add_argument("--label-topic", help=f"true classes (default: {DEMO_LABEL_TOPIC} where the bag has it)")
    parser.add_argument(
        "--rate",
        type=float,
        default=1.0,
        help="recorded seconds a second; below 1 on slow machines (default: %(default)s)",
    )
    parser.add_argument("--seconds", type=float, default=0.0, help="recorded seconds to play; 0: all")
    parser.add_argument("--engine", choices=ENGINE_KINDS, default="auto", help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of the engine; 0: its own choice")


def run(options: argparse.Namespace) -> int:
    """Run `seg_perception demo`."""
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _end)  # so that the node is ended too
    try:
        result = run_demo(
            DemoOptions(
                bag=options.bag or share_path(DEMO_BAG),
                model=options.model or share_path(DEMO_MODEL),
                out=options.out,
                image_topic=options.image_topic,
                label_topic=options.label_topic,
                rate=options.rate,
                seconds=options.seconds,
                engine=options.engine,
                threads=options.threads,
                progress=True,
            )
        )
    except NodeProcessError as error:
        print(f"seg_perception: error: {error}", file=sys.stderr)
        return 1
    print("\n".join(result.summary()))
    names = ["report.html", "report.json", *result.files.values()]
    print(f"look at     {', '.join(str(options.out / name) for name in names)}")
    return 0


def _end(number: int, frame: object) -> None:
    raise SystemExit(128 + number)
