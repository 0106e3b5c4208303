"""`seg_perception build-engine` and `seg_perception cache list|verify|clear`."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import cv2
import numpy as np

from seg_perception.engines.base import EngineError
from seg_perception.engines.onnxruntime import OnnxRuntimeEngine
from seg_perception.engines.tensorrt.agreement import DEFAULT_THRESHOLD, compare_engines
from seg_perception.engines.tensorrt.api import MODULES, TensorRt
from seg_perception.engines.tensorrt.build import model_precision
from seg_perception.engines.tensorrt.cache import DEFAULT_LIMIT_MB, EngineCache, default_folder
from seg_perception.engines.tensorrt.cuda_runtime import CudaRuntime
from seg_perception.engines.tensorrt.engine import TensorRtEngine
from seg_perception.engines.tensorrt.layers import OnnxLayers, TensorRtLayers, first_differences, float_layers
from seg_perception.engines.tensorrt.make import no_check
from seg_perception.engines.tensorrt.options import PRECISIONS, BuildOptions, required_precision
from seg_perception.engines.tensorrt.prepare import Preparation
from seg_perception.engines.tensorrt.progress import ProgressBar, ProgressLog
from seg_perception.model.model_file import ModelInfo, read_model_info

logger = logging.getLogger(__name__)

BAD_CACHE = 1
DISAGREES = 1
CHECK_IMAGES = 16  # at most, evenly spread


def add_build_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `build-engine`."""
    defaults = BuildOptions()
    parser.add_argument("model", type=Path, help="the deployment model (.onnx)")
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="fp16: half floats but for what overflows; int8: what the file quantises; best: the shortest the file allows, "
        "and TF32 (default: fp16 of a float32 file, else as the file says; that is what the node takes by itself)",
    )
    parser.add_argument("--batch", type=int, default=defaults.max_batch, help="images at once, at most (default: 1)")
    parser.add_argument(
        "--workspace-mb", type=int, default=0, help="device memory a layer may use, MB (default: no limit)"
    )
    parser.add_argument(
        "--optimization-level",
        type=int,
        default=defaults.optimization_level,
        help="0 builds quickest, 5 runs quickest (default: %(default)s)",
    )
    parser.add_argument("--dla-core", type=int, default=-1, help="a DLA core, with the GPU for the rest; -1: none")
    parser.add_argument(
        "--compute-capability", type=_capability, help="another GPU to build for, such as 8.9 (TensorRT for RTX alone)"
    )
    parser.add_argument(
        "--keep-fp32",
        nargs="+",
        default=[],
        metavar="TENSOR",
        help="with fp16: tensors of the model to keep in fp32, too",
    )
    parser.add_argument(
        "--check-data",
        type=Path,
        metavar="DIR_OR_BAG",
        help="compare the engine with ONNX Runtime on these images, and name the layers where it differs; exit code 1 if so",
    )
    parser.add_argument("--image-topic", help="of a recording with several")
    parser.add_argument(
        "--threshold",
        type=float,
        default=100 * DEFAULT_THRESHOLD,
        help="pixels that must agree, %% (default: %(default)s)",
    )
    parser.add_argument("--timeout", type=float, default=defaults.timeout_s, help="seconds (default: %(default).0f)")
    parser.add_argument("--tensorrt", choices=MODULES, default="", help="which TensorRT, where both are installed")
    _add_cache_arguments(parser)
    parser.set_defaults(run=build_engine)


def add_cache_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `cache`."""
    parser.add_argument(
        "action",
        choices=("list", "verify", "clear"),
        help="list: what is kept; verify: whether it is whole and nobody else's, exit code 1 if not; clear: remove all",
    )
    _add_cache_arguments(parser)
    parser.set_defaults(run=cache)


def _add_cache_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cache", type=Path, help="folder of the engines (default: $SEG_PERCEPTION_CACHE, or in ~/.cache)"
    )
    parser.add_argument(
        "--cache-limit-mb", type=int, default=DEFAULT_LIMIT_MB, help="most that engines take (default: %(default)s)"
    )


def build_engine(options: argparse.Namespace) -> int:
    """Build, or find, the engine for this machine; returns the exit code."""
    info = read_model_info(options.model)
    tensorrt = TensorRt.load(options.tensorrt)
    cuda = CudaRuntime.load()
    precision = options.precision or required_precision("fast", model_precision(info.path))
    build_options = BuildOptions(
        precision=precision,
        max_batch=options.batch,
        workspace_mb=options.workspace_mb,
        optimization_level=options.optimization_level,
        dla_core=options.dla_core,
        compute_capability=options.compute_capability,
        keep_fp32=tuple(options.keep_fp32),
        timeout_s=options.timeout,
    )
    if not 0 <= options.threshold <= 100:
        raise ValueError(f"threshold is {options.threshold} %, expected 0 to 100")
    if options.check_data is not None and not cuda.device_count():
        raise EngineError(f"--check-data runs the engine and needs a GPU: {cuda.why_no_device()}")
    engines = _open_cache(options)
    if not cuda.device_count():
        logger.warning(
            "no GPU to run it on (%s): the engine shows that the model builds; a robot builds its own",
            cuda.why_no_device(),
        )
    in_terminal = sys.stderr.isatty()
    with ProgressBar(f"{tensorrt.name} {tensorrt.version}") if in_terminal else nullcontext(ProgressLog()) as progress:
        preparation = Preparation(engines, tensorrt, cuda, progress)
        engine = preparation.engine(info.path, build_options)
    origin = f"built in {engine.manifest['build_s']:.0f} s" if engine.built else "from the cache"
    print(f"engine      {engine.name}, {len(engine.plan) / 1e6:.1f} MB, {origin}")
    print(f"for         {_circumstances(engine.manifest)}")
    print(f"cache       {engines.folder}")
    if options.check_data is None:
        return 0
    return _check(options, info, build_options, preparation)


def _check(options: argparse.Namespace, info: ModelInfo, build_options: BuildOptions, preparation: Preparation) -> int:
    """Compare the engine with ONNX Runtime on a person's own images and keep the outcome with it; the exit code."""
    images = read_images(options.check_data, options.image_topic)
    batch = info.batch_size or 1
    tensorrt, cuda = preparation.tensorrt, preparation.cuda
    engine = TensorRtEngine(
        info,
        0,
        "f32",
        batch,
        tensorrt=tensorrt,
        cuda=cuda,
        preparation=preparation,
        choices=[build_options],
        check=no_check,
        threshold=0.0,
    )
    with engine, OnnxRuntimeEngine(info, batch_size=batch) as reference:
        agreement = compare_engines(reference, engine, images)
    prepared = preparation.engine(info.path, build_options)
    preparation.cache.note_agreement(prepared.name, prepared.manifest, agreement.to_json())
    print(f"agreement   {agreement}")
    if 100 * agreement.least >= options.threshold:
        return 0
    print(f"            expected {options.threshold:g} %; the node does not use this engine")
    height, width = info.input_size
    first = np.repeat(cv2.resize(images[0], (width, height), interpolation=cv2.INTER_AREA)[None], batch, axis=0)
    differences = first_differences(
        float_layers(info.path),
        OnnxLayers(info.path.read_bytes()),
        TensorRtLayers(info.path, tensorrt, cuda, preparation, build_options),
        first,
    )
    for difference in differences:
        print(f"differs at  {difference}")
    if differences and build_options.precision in ("fp16", "best"):
        names = " ".join(difference.layer.tensor for difference in differences)
        print(f"try         --keep-fp32 {names}, or --precision fp32")
    elif not differences:
        print("            no single layer differs by much: the difference adds up over many; try --precision fp32")
    return DISAGREES


def cache(options: argparse.Namespace) -> int:
    """List, verify or clear the cache; returns the exit code."""
    engines = _open_cache(options)
    if options.action == "clear":
        print(f"{engines.clear()} engines removed from {engines.folder}")
        return 0
    if options.action == "verify":
        problems = engines.problems()
        for name, problem in problems.items():
            print(f"{name}: {problem}")
        whole = sum(1 for entry in engines.entries() if f"{entry.name}.engine" not in problems)
        print(f"{whole} engines whole, {len(problems)} problems in {engines.folder}")
        return BAD_CACHE if problems else 0
    entries = engines.entries()
    for entry in entries:
        age = (time.time() - entry.used) / 86400
        print(f"{entry.name}  {entry.size / 1e6:.1f} MB, used {age:.1f} days ago, {_circumstances(entry.manifest)}")
    total = sum(entry.size for entry in entries)
    print(f"{len(entries)} engines, {total / 1e6:.1f} of {options.cache_limit_mb} MB in {engines.folder}")
    return 0


def _open_cache(options: argparse.Namespace) -> EngineCache:
    return EngineCache(options.cache or default_folder(), options.cache_limit_mb)


def _circumstances(manifest: dict) -> str:
    """What an engine was built for, for people."""
    key = manifest["key"]
    gpu = "no GPU" if key["gpu"] == "none" else f"{key['gpu']} ({key['compute_capability']}), driver {key['driver']}"
    options = key["options"]
    batch = "1 image" if options["max_batch"] == 1 else f"1 to {options['max_batch']} images"
    return f"{key['module']} {key['version']}, {gpu}, {options['precision']}, {batch}"


def _capability(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    if not (major.isdigit() and minor.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is no compute capability, expected such as 8.7")
    return int(major), int(minor)


def read_images(path: Path, image_topic: str | None) -> list[np.ndarray]:
    """Up to CHECK_IMAGES images, RGB uint8, evenly spread over a folder of .jpg and .png files or a recording.

    Raises:
        ValueError: there are none, or one cannot be decoded.
    """
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png")) if path.is_dir() else []
    if files:
        chosen = np.linspace(0, len(files) - 1, min(len(files), CHECK_IMAGES)).round().astype(int)
        return [_read_image(files[i]) for i in chosen]
    from seg_perception.bag.frames import FrameSource, find_image_topic
    from seg_perception.bag.reader import open_bag

    with open_bag(path) as bag:
        topic = image_topic or find_image_topic(bag)
        count = bag.topic(topic).count
        step = max(count // CHECK_IMAGES, 1)
        images = [frame.rgb for i, frame in enumerate(FrameSource(bag, topic)) if i % step == 0][:CHECK_IMAGES]
    if not images:
        raise ValueError(f"no image can be read from {path}")
    return images


def _read_image(path: Path) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"{path} cannot be decoded as an image; replace or delete it")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
