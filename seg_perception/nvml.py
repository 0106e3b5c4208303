"""Memory and temperature of an NVIDIA GPU, asked of NVML: libnvidia-ml.so.1, which is part of the driver.

By ctypes, since these five functions have stood unchanged in that library since 2012 and nothing has to be installed for
them; "NVML API Reference Guide", chapters "Initialization and Cleanup" and "Device Queries".
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

LIBRARY = "libnvidia-ml.so.1"
_SUCCESS = 0
_TEMPERATURE_GPU = 0  # nvmlTemperatureSensors_t
_THRESHOLD_SLOWDOWN = 1  # nvmlTemperatureThresholds_t
_NAME_BYTES = 96  # NVML_DEVICE_NAME_V2_BUFFER_SIZE


class _Memory(ctypes.Structure):
    """nvmlMemory_t."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


@dataclass(frozen=True)
class GpuReading:
    """A GPU at one moment; None is what it does not tell (a Jetson's memory is the machine's own).

    Attributes:
        name: of the product.
        memory: used and all, bytes.
        celsius: of the chip.
        slowdown_c: where it begins to slow itself down.
    """

    name: str
    memory: tuple[int, int] | None
    celsius: float | None
    slowdown_c: float | None


class Nvml:
    """The library, loaded. It may take long or forever where a GPU has fallen off its bus: ask in a thread of its own.

    Args:
        library: its file name or path.

    Raises:
        OSError: it is not there, or has no working driver beneath it.
    """

    def __init__(self, library: str = LIBRARY) -> None:
        self._library = ctypes.CDLL(library)
        code = self._library.nvmlInit_v2()
        if code != _SUCCESS:
            raise OSError(f"{library} does not start: nvmlReturn_t {code}")

    def read(self, index: int = 0) -> GpuReading | None:
        """The GPU of an index; None where there is none."""
        device = ctypes.c_void_p()
        if self._library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(device)) != _SUCCESS:
            return None
        name = ctypes.create_string_buffer(_NAME_BYTES)
        named = self._library.nvmlDeviceGetName(device, name, ctypes.c_uint(_NAME_BYTES)) == _SUCCESS
        memory = _Memory()
        told = self._library.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory)) == _SUCCESS and memory.total > 0
        return GpuReading(
            name.value.decode("utf-8", "replace") if named else "",
            (memory.used, memory.total) if told else None,
            self._degrees("nvmlDeviceGetTemperature", device, _TEMPERATURE_GPU),
            self._degrees("nvmlDeviceGetTemperatureThreshold", device, _THRESHOLD_SLOWDOWN),
        )

    def close(self) -> None:
        """Let the driver go."""
        self._library.nvmlShutdown()

    def _degrees(self, function: str, device: ctypes.c_void_p, which: int) -> float | None:
        degrees = ctypes.c_uint()
        code = getattr(self._library, function)(device, ctypes.c_int(which), ctypes.byref(degrees))
        return float(degrees.value) if code == _SUCCESS else None
