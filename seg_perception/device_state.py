"""What the machine under the node says of itself: temperatures, memory, and an NVIDIA GPU by its driver's library.

Everything is read where Linux and the driver show it, so nothing has to be installed:

| what | where |
|---|---|
| temperatures | /sys/class/thermal (PCs, Jetson, Raspberry Pi), /sys/class/hwmon (processors and GPUs of PCs) |
| memory of an AMD GPU | /sys/class/drm |
| memory and temperature of an NVIDIA GPU | NVML, libnvidia-ml.so.1, which comes with the driver |
| memory of the machine and of this process | /proc |

On a Jetson the GPU's memory is the machine's own, and what NVML lacks there the thermal zones tell.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from seg_perception.nvml import GpuReading

LEAST_LIMIT_C = 60.0  # trip points below are fan steps, or zeros that a firmware left
PLAUSIBLE_C = (-40.0, 150.0)  # sensors that are off tell 0xFF or less than absolute zero
# Trip points of a zone: where the kernel slows the machine down, and where it ends it.
_LIMIT_TRIPS = ("passive", "hot", "critical")
_CPU_SENSORS = ("coretemp", "k10temp", "zenpower", "pkg_temp", "cpu", "soc")
_GPU_SENSORS = ("gpu", "nouveau", "radeon", "i915")
_MEGA = 1e6


@dataclass(frozen=True)
class Temperature:
    """One sensor.

    Attributes:
        name: as the system has it, such as "cpu-thermal" or "coretemp Package id 0".
        celsius: now.
        limit_c: where the machine begins to slow itself down; None where it does not say.
    """

    name: str
    celsius: float
    limit_c: float | None = None

    @property
    def place(self) -> str:
        """ "cpu", "gpu" or "other"."""
        name = self.name.lower()
        if any(part in name for part in _GPU_SENSORS):
            return "gpu"
        return "cpu" if any(part in name for part in _CPU_SENSORS) else "other"


@dataclass(frozen=True)
class DeviceState:
    """The machine at one moment; what it does not tell is empty or None.

    Attributes:
        temperatures: of all sensors.
        gpu_memory: used and all of the GPU's own memory, bytes.
        memory: available and all of the machine's memory, bytes.
        process_memory: this process's resident memory, bytes.
    """

    temperatures: tuple[Temperature, ...] = field(default=())
    gpu_memory: tuple[int, int] | None = None
    memory: tuple[int, int] | None = None
    process_memory: int | None = None

    def hottest(self, place: str = "") -> Temperature | None:
        """The hottest sensor, of a place ("cpu", "gpu") or of all."""
        return max(
            (t for t in self.temperatures if not place or t.place == place), key=lambda t: t.celsius, default=None
        )

    @property
    def problem(self) -> str:
        """Which sensor is at its limit, in one line; empty where none is."""
        for sensor in self.temperatures:
            if sensor.limit_c is not None and sensor.celsius >= sensor.limit_c:
                return (
                    f"{sensor.name} is at {sensor.celsius:.0f} degrees C, its limit is {sensor.limit_c:.0f}: "
                    "the machine slows itself down"
                )
        return ""

    def values(self) -> dict[str, str]:
        """For diagnostics: what there is, by key."""
        values = {}
        for place in ("cpu", "gpu"):
            sensor = self.hottest(place)
            if sensor is not None:
                values[f"temperature_{place}_c"] = f"{sensor.celsius:.1f}"
        hottest = self.hottest()
        if hottest is not None:
            values["temperature_highest_c"] = f"{hottest.celsius:.1f}"
            values["temperature_highest_at"] = hottest.name
        if self.gpu_memory is not None:
            values["gpu_memory_used_mb"] = f"{self.gpu_memory[0] / _MEGA:.0f}"
            values["gpu_memory_mb"] = f"{self.gpu_memory[1] / _MEGA:.0f}"
        if self.memory is not None:
            values["memory_available_mb"] = f"{self.memory[0] / _MEGA:.0f}"
            values["memory_mb"] = f"{self.memory[1] / _MEGA:.0f}"
        if self.process_memory is not None:
            values["process_memory_mb"] = f"{self.process_memory / _MEGA:.0f}"
        return values


def read_device_state(root: Path = Path("/"), gpu: GpuReading | None = None) -> DeviceState:
    """What the machine tells now.

    Args:
        root: the folder in which sys and proc are.
        gpu: what NVML told, where there is an NVIDIA GPU.
    """
    temperatures = [*_zones(root / "sys/class/thermal"), *_monitors(root / "sys/class/hwmon")]
    gpu_memory = _amd_memory(root / "sys/class/drm")
    if gpu is not None:
        if gpu.celsius is not None:
            temperatures.append(Temperature(f"gpu {gpu.name}", gpu.celsius, gpu.slowdown_c))
        gpu_memory = gpu.memory or gpu_memory
    return DeviceState(tuple(temperatures), gpu_memory, _memory(root / "proc"), _process_memory(root / "proc"))


def _zones(folder: Path) -> Iterator[Temperature]:
    for zone in sorted(folder.glob("thermal_zone*")):
        celsius = _celsius(zone / "temp")
        if celsius is None:
            continue
        limits = [
            _celsius(zone / f"{trip.name.removesuffix('_type')}_temp")
            for trip in zone.glob("trip_point_*_type")
            if _text(trip) in _LIMIT_TRIPS
        ]
        yield Temperature(_text(zone / "type") or zone.name, celsius, _lowest(limits))


def _monitors(folder: Path) -> Iterator[Temperature]:
    for monitor in sorted(folder.glob("hwmon*")):
        chip = _text(monitor / "name")
        for sensor in sorted(monitor.glob("temp*_input")):
            celsius = _celsius(sensor)
            if celsius is None:
                continue
            stem = sensor.name.removesuffix("_input")
            limits = [_celsius(monitor / f"{stem}_{limit}") for limit in ("max", "crit")]
            name = f"{chip} {_text(monitor / f'{stem}_label')}".strip()
            yield Temperature(name or sensor.name, celsius, _lowest(limits))


def _lowest(limits: list[float | None]) -> float | None:
    return min((limit for limit in limits if limit is not None and limit >= LEAST_LIMIT_C), default=None)


def _celsius(path: Path) -> float | None:
    """Of a file with thousandths of a degree; None where the sensor is off, which reading it tells by an error."""
    number = _number(path)
    if number is None or not PLAUSIBLE_C[0] < number / 1000 < PLAUSIBLE_C[1]:
        return None
    return number / 1000


def _amd_memory(folder: Path) -> tuple[int, int] | None:
    """The largest card's."""
    cards = []
    for device in folder.glob("card*/device"):
        used, total = _number(device / "mem_info_vram_used"), _number(device / "mem_info_vram_total")
        if used is not None and total:
            cards.append((total, used))
    return max(cards)[::-1] if cards else None


def _memory(proc: Path) -> tuple[int, int] | None:
    lines = dict(line.split(":", 1) for line in _text(proc / "meminfo").splitlines() if ":" in line)
    try:
        available, total = (1024 * int(lines[name].split()[0]) for name in ("MemAvailable", "MemTotal"))
    except (KeyError, ValueError, IndexError):
        return None
    return available, total


def _process_memory(proc: Path) -> int | None:
    fields = _text(proc / "self/statm").split()
    if len(fields) < 2 or not fields[1].isdigit():
        return None
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def _number(path: Path) -> int | None:
    try:
        return int(_text(path))
    except ValueError:
        return None


def _text(path: Path) -> str:
    """Without its line end; empty where it cannot be read: a sensor that sleeps (EAGAIN), or one that went meanwhile."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
