"""What can run a model here: engines, the GPU and its driver, TensorRT, and one try with a real model."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

from seg_perception.check.finding import Finding
from seg_perception.engines.base import EngineError, last_line
from seg_perception.engines.select import choose_engine
from seg_perception.model.model_file import ModelFileError
from seg_perception.segmenter import Segmenter

ENGINE_PACKAGES = ("onnxruntime", "openvino", "tensorrt", "tensorrt_rtx")
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
JETSON_RELEASE = Path("/etc/nv_tegra_release")


def engine_findings(driver: Path = NVIDIA_DRIVER, jetson: Path = JETSON_RELEASE) -> Iterator[Finding]:
    """The GPU, the engines with their versions, and what `auto` stands for."""
    yield from _gpu(driver, jetson)
    for package in ENGINE_PACKAGES:
        yield _package(package)
    try:
        kind, reason = choose_engine()
    except EngineError as error:
        yield Finding("engines", "auto", str(error), "problem", "no model can run", "pip install openvino")
        return
    yield Finding("engines", "auto", f"{kind} ({reason})")


def model_findings(model: Path) -> Iterator[Finding]:
    """Whether a model opens and segments an image here, and how quickly."""
    try:
        with Segmenter(model) as segmenter:
            segmenter.warm_up()
            begin_s = perf_counter()
            segmenter.warm_up()
            elapsed_ms = 1e3 * (perf_counter() - begin_s) / 2
            info, engine = segmenter.info, segmenter.engine_description
    except (ModelFileError, EngineError, OSError) as error:
        yield Finding(
            "model",
            model.name,
            str(error),
            "problem",
            "the node cannot be configured with it",
            f"seg_perception info {model}",
        )
        return
    height, width = info.input_size
    yield Finding("model", info.name, f"{info.architecture}, {width}x{height}, {info.num_classes} classes, {model}")
    yield Finding("model", "one image", f"{elapsed_ms:.1f} ms in {engine}")


def _package(name: str) -> Finding:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name == name:
            return Finding("engines", name, "not installed")
        return _broken(name, error)
    except Exception as error:  # a package that is there and does not load may raise anything
        return _broken(name, error)
    if module.__file__ is None:  # a folder of that name without code, such as type stubs leave
        return Finding("engines", name, "not installed")
    details = ""
    if name == "onnxruntime":
        details = ", ".join(provider.removesuffix("ExecutionProvider") for provider in module.get_available_providers())
    elif name == "openvino":
        details = ", ".join(module.Core().available_devices)
    return Finding("engines", name, f"{module.__version__.split('-')[0]}{details and f' ({details})'}")


def _broken(name: str, error: BaseException) -> Finding:
    return Finding(
        "engines",
        name,
        f"installed, but does not import: {last_line(error)}",
        "warning",
        "it cannot be used",
        f"pip install --force-reinstall {name}",
    )


def _gpu(driver: Path, jetson: Path) -> Iterator[Finding]:
    if jetson.is_file():
        yield Finding("GPU", "Jetson", jetson.read_text(errors="replace").splitlines()[0].lstrip("# "))
    if driver.is_file():
        yield Finding("GPU", "driver", driver.read_text(errors="replace").splitlines()[0])
    elif not jetson.is_file():
        yield Finding("GPU", "driver", "none: models run on the processor")
