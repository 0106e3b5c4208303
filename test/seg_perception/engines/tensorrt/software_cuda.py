"""A stand-in for CUDA's answers about the machine; it has no device to run anything on."""

from __future__ import annotations

from typing import Any

from seg_perception.engines.tensorrt.cuda import DeviceProperties
from seg_perception.engines.tensorrt.cuda_runtime import CudaRuntime


class NoDevice(CudaRuntime):
    """A machine without GPU, whatever the one that the tests run on has."""

    def __init__(self) -> None:
        super().__init__(None, None)

    def device_count(self) -> int:
        return 0

    def why_no_device(self) -> str:
        return "no NVIDIA driver is loaded"

    def driver_version(self) -> int:
        return 0


class Described(CudaRuntime):
    """A machine with one GPU that can be asked what it is."""

    def __init__(self, name: str = "Orin", capability: tuple[int, int] = (8, 7), driver: int = 12060) -> None:
        super().__init__(None, None)
        self._answers: dict[str, Any] = {"name": name, "capability": capability, "driver": driver}

    def device_count(self) -> int:
        return 1

    def device(self, index: int) -> DeviceProperties:
        return DeviceProperties(self._answers["name"], self._answers["capability"], True, 8 << 30, 16)

    def driver_version(self) -> int:
        return int(self._answers["driver"])
