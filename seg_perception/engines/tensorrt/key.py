"""What an engine depends on: its key in the cache."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from seg_perception.engines.tensorrt.api import TensorRt
from seg_perception.engines.tensorrt.cuda import Cuda
from seg_perception.engines.tensorrt.options import BuildOptions

_CHUNK = 1 << 20


@dataclass(frozen=True)
class EngineKey:
    """All that decides which engine comes out and where it may run. Plain JSON types.

    Attributes:
        onnx_sha256: of the model file's bytes.
        module, version: which TensorRT.
        gpu, compute_capability: of the device; "none" and "" where there is none (TensorRT for RTX alone).
        driver: its release and the CUDA version that it is for, such as "560.35.03, CUDA 12.6"; "none" without one.
        options: `BuildOptions.key_fields`: precision, batch, builder options.
        outputs: inner tensors that are outputs as well; empty but for finding out where an engine differs.
    """

    onnx_sha256: str
    module: str
    version: str
    gpu: str
    compute_capability: str
    driver: str
    options: dict[str, Any]
    outputs: tuple[str, ...] = ()

    @classmethod
    def of(cls, model: Path, tensorrt: TensorRt, cuda: Cuda, options: BuildOptions) -> EngineKey:
        """The key on this machine, for its first device.

        Raises:
            OSError: the model cannot be read.
            CudaError: the device does not say what it is.
        """
        gpu, capability = "none", ""
        if cuda.device_count():
            device = cuda.device(0)
            gpu, capability = device.name, f"{device.compute_capability[0]}.{device.compute_capability[1]}"
        return cls(
            file_sha256(model),
            tensorrt.name,
            tensorrt.version,
            gpu,
            capability,
            driver_description(cuda),
            options.key_fields(),
        )

    @property
    def digest(self) -> str:
        """32 hexadecimal digits that stand for the key."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def timing_name(self) -> str:
        """Name of the timing cache, which serves every model and option on one device and TensorRT."""
        text = "\n".join((self.module, self.version, self.gpu, self.compute_capability, self.driver))
        return f"timing-{hashlib.sha256(text.encode()).hexdigest()[:16]}.cache"

    def name(self, model: Path) -> str:
        """What entries are called: the model's name and precision for people, the digest for programs."""
        stem = re.sub(r"[^A-Za-z0-9_.-]", "_", model.stem)[:60]
        return f"{stem}-{self.options['precision']}-{self.digest}"

    def differences(self, other: dict[str, Any]) -> list[str]:
        """How this key differs from another's fields, each as a person would say it."""
        own = asdict(self)
        said = {"onnx_sha256": "another model file", "outputs": "other outputs"}
        found = []
        for field, value in own.items():
            came = other.get(field)
            if field == "options" and isinstance(came, dict):
                found += [f"{k} {v} instead of {came.get(k)}" for k, v in value.items() if came.get(k) != v]
            elif field == "outputs":
                found += [said[field]] if list(value) != list(came or ()) else []
            elif came != value:
                found.append(said.get(field) or f"{field.replace('_', ' ')} {value} instead of {came}")
        return found


def driver_description(cuda: Cuda, release_file: Path = Path("/proc/driver/nvidia/version")) -> str:
    """The driver's release and CUDA version; the release is left out where the kernel does not name it (Jetson's nvgpu)."""
    version = cuda.driver_version()
    if not version:
        return "none"
    spoken = f"CUDA {version // 1000}.{version % 1000 // 10}"
    try:
        found = re.search(r"\b\d{3,}(\.\d+)+", release_file.read_text())
    except OSError:
        found = None
    return f"{found[0]}, {spoken}" if found else spoken


def file_sha256(path: Path) -> str:
    """Digest of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_CHUNK):
            digest.update(block)
    return digest.hexdigest()
