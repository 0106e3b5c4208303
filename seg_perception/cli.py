"""The command `seg_perception`: evaluate-bag, evaluate-bags, evaluate-folder, info, replay, demo, view, check.

What a person gave wrong ends in one line on stderr and exit code 2, without a traceback.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from seg_perception import __version__
from seg_perception.engines.base import EngineError
from seg_perception.engines.select import ENGINE_KINDS, PRECISION_CHOICES
from seg_perception.model.model_file import ModelInfo, read_model_info

BAD_INPUT = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        parser = _parser(given)
    except ImportError as error:
        install = "source a ROS 2 installation, or pip install 'seg_perception[ros]'"
        print(f"seg_perception: error: {_command(given)} needs ROS 2 ({error}); {install}", file=sys.stderr)
        return BAD_INPUT
    options = parser.parse_args(given)
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.INFO, format="%(levelname)s: %(message)s", stream=sys.stderr
    )
    try:
        return int(options.run(options))
    except (ValueError, OSError, EngineError) as error:
        # ModelFileError, BagError, LabelIdError and the like are ValueErrors whose message is one line.
        if options.verbose:
            logging.exception("%s", type(error).__name__)
        print(f"seg_perception: error: {' '.join(str(error).split())}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("seg_perception: stopped by the keyboard", file=sys.stderr)
        return INTERRUPTED


def _parser(given: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="seg_perception", description="Semantic segmentation with a deployment model, on recordings and models."
    )
    parser.add_argument("--version", action="version", version=f"seg_perception {__version__}")
    parser.add_argument("-v", "--verbose", action="store_true", help="log more, and show where an error came from")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    evaluate = commands.add_parser(
        "evaluate-bag",
        help="score a model on a recording",
        description="Segments every image of a recording, scores the masks where the recording has labels, and writes "
        "report.json and report.html. Needs no ROS.",
    )
    evaluate.add_argument("bag", type=Path, help="a rosbag2 folder, or a lone .mcap or .db3 file")
    evaluate.add_argument("--model", type=Path, required=True, help="the deployment model (.onnx)")
    evaluate.add_argument("--image-topic", help="camera images; may be left out where the bag has only one image topic")
    evaluate.add_argument("--label-topic", help="true classes: mono8 or 8UC1, raw or PNG, 255 = not labelled")
    evaluate.add_argument(
        "--classes",
        type=Path,
        help="classes file of the node (YAML): score the classes that it merges, not the model's",
    )
    evaluate.add_argument("--out", type=Path, required=True, help="folder for the reports; it is made")
    evaluate.add_argument("--engine", choices=ENGINE_KINDS, default="auto", help="default: %(default)s")
    evaluate.add_argument("--threads", type=int, default=0, help="CPU threads of the engine; 0: its own choice")
    evaluate.add_argument(
        "--precision",
        choices=PRECISION_CHOICES,
        default="f32",
        help="fast: shorter floats; auto: what the node does by default (default: %(default)s, which compares between machines)",
    )
    evaluate.add_argument("--max-frames", type=int, default=0, help="stop after so many images; 0: all")
    evaluate.add_argument("--video", action="store_true", help="also write video.mp4: camera, labels, superpixels")
    evaluate.set_defaults(run=_evaluate_bag)

    evaluate_bags = commands.add_parser(
        "evaluate-bags",
        help="score a model on many recordings, in several processes",
        description="Scores every recording of a folder or list, merges and ranks them, and writes fleet.json and "
        "fleet.html. Goes on where it was stopped. Exit code 1: some recordings could not be scored.",
    )
    evaluate_folder = commands.add_parser(
        "evaluate-folder",
        help="score a model on a folder of images and masks, through any engine",
        description="Scores a model on the folder form of a data set, and writes report.html, report.json and figures.json, "
        "which seg_models.analyse compare takes. Needs no ROS.",
    )
    info = commands.add_parser("info", help="what a model says of itself", description="Shows a model's metadata.")
    info.add_argument("model", type=Path, help="the deployment model (.onnx)")
    info.add_argument("--json", action="store_true", help="as JSON, for programs")
    info.set_defaults(run=_info)

    replay = commands.add_parser(
        "replay",
        help="publish a recording's topics with their timing (needs ROS 2)",
        description="Publishes a recording's topics with their timing. Needs ROS 2's rclpy.",
    )
    demo = commands.add_parser(
        "demo",
        help="run the node on the shipped recording and score it (needs ROS 2)",
        description="Plays the shipped recording through the node and scores the masks that it publishes.",
    )
    check = commands.add_parser(
        "check",
        help="what this machine has, what is wrong with it, and the line that repairs it",
        description="Looks at ROS 2, the DDS profile, shared memory, kernel buffers, engines and GPU, and tries a model. "
        "Put its text into bug reports.",
    )
    view = commands.add_parser(
        "view",
        help="watch segmentation: a topic, a node, a recording, a video, a webcam or a folder",
        description="Shows camera, labels, superpixels, confidence, points and latencies in the Rerun viewer, or records "
        "them. Needs pip install 'seg_perception[view]'; ROS 2 for topics alone.",
    )
    build_engine = commands.add_parser(
        "build-engine",
        help="build a TensorRT engine for this machine and keep it",
        description="Builds a TensorRT engine beforehand, which the node otherwise does when it is configured.",
    )
    cache = commands.add_parser(
        "cache", help="the TensorRT engines that are kept", description="The TensorRT engines that are kept."
    )
    # Their options live with the code that reads them. It is imported only for the command that was given: the others
    # start without it, and on machines without ROS too.
    command = _command(given)
    if command == "replay":
        from seg_perception.bag import replay as replay_module

        replay_module.add_arguments(replay)
        replay.set_defaults(run=replay_module.run)
    elif command == "demo":
        from seg_perception.process import demo_command as demo_module

        demo_module.add_arguments(demo)
        demo.set_defaults(run=demo_module.run)
    elif command == "evaluate-bags":
        from seg_perception.fleet import command as fleet_module

        fleet_module.add_arguments(evaluate_bags)
        evaluate_bags.set_defaults(run=fleet_module.run)
    elif command == "evaluate-folder":
        from seg_perception import evaluate_folder as folder_module

        folder_module.add_arguments(evaluate_folder)
        evaluate_folder.set_defaults(run=folder_module.run)
    elif command == "view":
        from seg_perception.view import command as view_module

        view_module.add_arguments(view)
        view.set_defaults(run=view_module.run)
    elif command == "check":
        from seg_perception.check import command as check_module

        check_module.add_arguments(check)
        check.set_defaults(run=check_module.run)
    elif command in ("build-engine", "cache"):
        from seg_perception import engine_commands

        if command == "cache":
            engine_commands.add_cache_arguments(cache)
        else:
            engine_commands.add_build_arguments(build_engine)
    return parser


def _command(given: Sequence[str]) -> str:
    return next((argument for argument in given if not argument.startswith("-")), "")


def _evaluate_bag(options: argparse.Namespace) -> int:
    from seg_perception.bag.evaluate import EvaluateOptions, evaluate_bag
    from seg_perception.bag.report import write_report

    if options.threads < 0 or options.max_frames < 0:
        raise ValueError("--threads and --max-frames must be 0 or more")
    out_dir: Path = options.out
    out_dir.mkdir(parents=True, exist_ok=True)  # a folder that cannot be written shows now, not after the work
    result = evaluate_bag(
        EvaluateOptions(
            bag=options.bag,
            model=options.model,
            image_topic=options.image_topic,
            label_topic=options.label_topic,
            engine=options.engine,
            threads=options.threads,
            precision=options.precision,
            max_frames=options.max_frames,
            video=out_dir / "video.mp4" if options.video else None,
            progress=True,
            classes=options.classes,
        )
    )
    json_path, page_path = write_report(out_dir, result)
    print("\n".join(result.summary()))
    print(f"report      {page_path}, {json_path}")
    if "video" in result.files:
        print(f"video       {out_dir / result.files['video']}")
    return 0


def _info(options: argparse.Namespace) -> int:
    info = read_model_info(options.model)
    print(json.dumps(info.to_dict(), indent=2) if options.json else _describe(info))
    return 0


_FORMS = {
    "labels": "labels: every pixel is decided in the graph, at network size",
    "association": "association: the robot paints, at its camera's size",
}


def _describe(info: ModelInfo) -> str:
    rows, columns = info.superpixel_grid or (0, 0)
    batch = "any" if info.batch_size is None else str(info.batch_size)
    lines = [
        ("model", f"{info.name} ({info.architecture})"),
        ("file", f"{info.path}, {info.file_size_bytes / 1e6:.2f} MB, ONNX opset {info.opset}"),
        ("input", f"{info.input_size[1]}x{info.input_size[0]} pixels (width x height), batch: {batch}"),
        ("superpixels", f"{rows * columns} ({rows} rows, {columns} columns)" if rows else "none"),
        ("form", _FORMS[info.form]),
        ("confidence", f"calibrated, temperature {info.temperature}" if info.temperature else "as trained"),
        ("training data", info.training_data or "not given"),
        ("licence", info.license or "not given"),
        ("source commit", info.source_commit or "not given"),
        ("classes", str(info.num_classes)),
    ]
    text = [f"{name:<14}{value}" for name, value in lines]
    width = max(len(name) for name in info.class_names)
    for index, (name, colour) in enumerate(zip(info.class_names, info.palette.tolist(), strict=True)):
        text.append(f"  {index:>3}  {name:<{width}}  #{colour[0]:02x}{colour[1]:02x}{colour[2]:02x}")
    return "\n".join(text)


if __name__ == "__main__":
    sys.exit(main())
