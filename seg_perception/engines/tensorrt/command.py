"""`seg_perception build-engine` and `seg_perception cache list|verify|clear`."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from contextlib import nullcontext
from pathlib import Path

from seg_perception.engines.tensorrt.api import MODULES, TensorRt
from seg_perception.engines.tensorrt.build import model_precision
from seg_perception.engines.tensorrt.cache import DEFAULT_LIMIT_MB, EngineCache, default_folder
from seg_perception.engines.tensorrt.cuda import CudaRuntime
from seg_perception.engines.tensorrt.options import PRECISIONS, BuildOptions, required_precision
from seg_perception.engines.tensorrt.prepare import Preparation
from seg_perception.engines.tensorrt.progress import ProgressBar, ProgressLog
from seg_perception.model.model_file import read_model_info

logger = logging.getLogger(__name__)

BAD_CACHE = 1


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
        timeout_s=options.timeout,
    )
    engines = _open_cache(options)
    if not cuda.device_count():
        logger.warning(
            "no GPU to run it on (%s): the engine shows that the model builds; a robot builds its own",
            cuda.why_no_device(),
        )
    in_terminal = sys.stderr.isatty()
    with ProgressBar(f"{tensorrt.name} {tensorrt.version}") if in_terminal else nullcontext(ProgressLog()) as progress:
        engine = Preparation(engines, tensorrt, cuda, progress).engine(info.path, build_options)
    origin = f"built in {engine.manifest['build_s']:.0f} s" if engine.built else "from the cache"
    print(f"engine      {engine.name}, {len(engine.plan) / 1e6:.1f} MB, {origin}")
    print(f"for         {_circumstances(engine.manifest)}")
    print(f"cache       {engines.folder}")
    return 0


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
