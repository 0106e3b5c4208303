"""Building one engine, in the process that calls it. `build_process` gives it a process of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from seg_perception.engines.base import EngineError, last_line
from seg_perception.engines.tensorrt.api import TensorRt
from seg_perception.engines.tensorrt.options import BuildOptions, check_file
from seg_perception.engines.tensorrt.progress import PhaseTree
from seg_perception.model.model_file import read_model_info
from seg_perception.model.onnx_header import read_onnx_header

Report = Callable[[str, float], None]  # phase, share of the build


@dataclass(frozen=True)
class BuildRequest:
    """What to build, from what, to where.

    Attributes:
        model: the deployment model.
        options: how.
        module: which TensorRT, one of `api.MODULES`.
        out: the file for the engine's bytes.
        timing_in, timing_out: timing caches to start from and to leave behind; empty for none.
        outputs: inner tensors that become outputs as well, by their names in the file.
        background: give way to everything else that runs on the processor, as while another engine serves.
    """

    model: Path
    options: BuildOptions
    module: str
    out: Path
    timing_in: Path | None = None
    timing_out: Path | None = None
    outputs: tuple[str, ...] = ()
    background: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types, for the way into another process."""
        fields = asdict(self)
        for name in ("model", "out", "timing_in", "timing_out"):
            fields[name] = None if fields[name] is None else os.path.abspath(fields[name])  # it works in another folder
        return fields

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> BuildRequest:
        """The other way."""
        options = dict(fields["options"])
        capability = options["compute_capability"]
        options["compute_capability"] = None if capability is None else (capability[0], capability[1])
        options["keep_fp32"] = tuple(options["keep_fp32"])
        paths = {name: Path(fields[name]) for name in ("model", "out")}
        timing = {name: Path(fields[name]) if fields[name] else None for name in ("timing_in", "timing_out")}
        return cls(
            options=BuildOptions(**options),
            module=fields["module"],
            outputs=tuple(fields["outputs"]),
            background=fields["background"],
            **paths,
            **timing,  # type: ignore[arg-type]
        )


def build(request: BuildRequest, tensorrt: TensorRt, report: Report) -> list[str]:
    """Build the engine and write it to `request.out`, synced to the disk.

    Args:
        request: what to build.
        tensorrt: with this.
        report: told how far it is.

    Returns:
        those of `request.outputs` that the network has under these names and are outputs of the engine now.

    Raises:
        ModelFileError, ValueError: the file cannot serve, or not in this precision.
        TensorRtError: TensorRT refused.
        OSError: the engine cannot be written.
    """
    report("reading the model", 0.0)
    info = read_model_info(request.model)
    options = request.options
    batch = options.max_batch
    if info.batch_size is not None and info.batch_size != batch:
        raise ValueError(
            f"model file {info.path} is fixed to a batch of {info.batch_size}, asked for 1 to {batch}; "
            "export it with a dynamic batch"
        )
    builder = tensorrt.builder()
    network = tensorrt.network(builder, typed_model(request.model, options, report))
    marked = tensorrt.mark_outputs(network, list(request.outputs))
    config = tensorrt.configure(
        builder,
        tf32=options.tf32,
        workspace_mb=options.workspace_mb,
        optimization_level=options.optimization_level,
        dla_core=options.dla_core,
        compute_capability=options.compute_capability,
    )
    image = (*info.input_size, 3)
    smallest = batch if info.batch_size is not None else 1
    tensorrt.add_profile(builder, config, "image", (smallest, *image), (batch, *image), (batch, *image))
    if request.timing_out is not None:
        tensorrt.use_timing_cache(config, request.timing_in.read_bytes() if request.timing_in else b"")
    tensorrt.observe(config, PhaseTree(report))
    plan = tensorrt.build(builder, network, config)
    report("writing the engine", 1.0)
    _write(request.out, plan)
    if request.timing_out is not None:
        _write(request.timing_out, tensorrt.timing_cache(config))
    return marked


def typed_model(path: Path, options: BuildOptions, report: Report) -> bytes | Path:
    """The model with the types that TensorRT is to compute in: the file itself, or a converted copy.

    Raises:
        ValueError: the file cannot give this precision, or is not converted here and so keeps no more in float32.
        EngineError: it has to be converted and the package for that is missing.
    """
    file_precision = model_precision(path)
    if not check_file(options.precision, file_precision, path):
        if options.keep_fp32:
            raise ValueError(
                f"model file {path} is {file_precision} already; tensors can be kept in fp32 only where a float32 file is "
                "converted: export it with `python -m seg_models.export --precision float32`"
            )
        return path
    report("converting to half floats", 0.0)
    return half_model(path, options.keep_fp32)


def half_model(path: Path, keep: Collection[str] = ()) -> bytes:
    """A float32 model file with what vision models can bear turned into half floats; see `seg_onnx.half_precision`.

    Args:
        path: the file.
        keep: names of further tensors that stay float32.

    Raises:
        EngineError: the package `onnx` is not installed.
        ValueError: the graph cannot be converted.
    """
    try:
        import onnx

        from seg_onnx.half_precision import to_half
    except ImportError as error:
        raise EngineError(
            f"model file {path} is float32, and turning it into half floats needs the package onnx "
            f"({last_line(error)}): `pip install onnx`, or export it with `python -m seg_models.export "
            "--precision float16`"
        ) from error
    return to_half(onnx.load(os.fspath(path)), keep).SerializeToString()


def model_precision(path: Path) -> str:
    """What a model file computes in, of FILE_PRECISIONS; files that do not say it are float32."""
    return read_onnx_header(path).metadata.get("precision", "float32")


def _write(path: Path, body: bytes) -> None:
    with path.open("wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
