"""Temperatures and memory, read from a made-up /sys and /proc; and from this machine's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from seg_perception.device_state import Temperature, read_device_state
from seg_perception.nvml import GpuReading


def write(root: Path, files: dict[str, object]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return root


JETSON = {
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
    "sys/class/thermal/thermal_zone0/temp": 52312,
    "sys/class/thermal/thermal_zone0/trip_point_0_type": "active",
    "sys/class/thermal/thermal_zone0/trip_point_0_temp": 70000,
    "sys/class/thermal/thermal_zone0/trip_point_1_type": "passive",
    "sys/class/thermal/thermal_zone0/trip_point_1_temp": 99000,
    "sys/class/thermal/thermal_zone0/trip_point_2_type": "critical",
    "sys/class/thermal/thermal_zone0/trip_point_2_temp": 104500,
    "sys/class/thermal/thermal_zone1/type": "gpu-thermal",
    "sys/class/thermal/thermal_zone1/temp": 61000,
    "sys/class/thermal/thermal_zone2/type": "cv0-thermal",
    "sys/class/thermal/thermal_zone2/temp": -256000,  # switched off
    "sys/class/thermal/thermal_zone3/type": "tj-thermal",
    "sys/class/thermal/thermal_zone3/temp": 61500,
    "proc/meminfo": "MemTotal:       64349404 kB\nMemFree: 1 kB\nMemAvailable:   50000000 kB",
    "proc/self/statm": "250000 75000 20000 1 0 90000 0",
}
PC = {
    "sys/class/hwmon/hwmon0/name": "nvme",
    "sys/class/hwmon/hwmon0/temp1_input": 38850,
    "sys/class/hwmon/hwmon0/temp1_label": "Composite",
    "sys/class/hwmon/hwmon0/temp1_max": 81850,
    "sys/class/hwmon/hwmon1/name": "coretemp",
    "sys/class/hwmon/hwmon1/temp1_input": 71000,
    "sys/class/hwmon/hwmon1/temp1_label": "Package id 0",
    "sys/class/hwmon/hwmon1/temp1_crit": 100000,
    "sys/class/hwmon/hwmon2/name": "amdgpu",
    "sys/class/hwmon/hwmon2/temp1_input": 55000,
    "sys/class/hwmon/hwmon2/temp1_label": "edge",
    "sys/class/hwmon/hwmon3/name": "acpitz",
    "sys/class/hwmon/hwmon3/temp1_input": "no number",
    "sys/class/drm/card0/device/mem_info_vram_total": 0,
    "sys/class/drm/card0/device/mem_info_vram_used": 0,
    "sys/class/drm/card1/device/mem_info_vram_total": 8_000_000_000,
    "sys/class/drm/card1/device/mem_info_vram_used": 1_500_000_000,
}


def test_the_zones_of_a_jetson(tmp_path):
    state = read_device_state(write(tmp_path, JETSON))
    values = state.values()
    assert values["temperature_cpu_c"] == "52.3"
    assert values["temperature_gpu_c"] == "61.0"
    assert (values["temperature_highest_c"], values["temperature_highest_at"]) == ("61.5", "tj-thermal")
    assert (values["memory_mb"], values["memory_available_mb"]) == ("65894", "51200")
    assert float(values["process_memory_mb"]) > 0
    assert "gpu_memory_mb" not in values  # it is the machine's own
    assert state.hottest("cpu").limit_c == 99.0  # a fan step is none
    assert "cv0-thermal" not in {t.name for t in state.temperatures}
    assert state.problem == ""


def test_the_monitors_and_the_card_of_a_pc(tmp_path):
    values = read_device_state(write(tmp_path, PC)).values()
    assert values == {
        "temperature_cpu_c": "71.0",
        "temperature_gpu_c": "55.0",
        "temperature_highest_c": "71.0",
        "temperature_highest_at": "coretemp Package id 0",
        "gpu_memory_used_mb": "1500",
        "gpu_memory_mb": "8000",
    }


def test_a_sensor_at_its_limit_is_named(tmp_path):
    hot = {**JETSON, "sys/class/thermal/thermal_zone0/temp": 99000}
    problem = read_device_state(write(tmp_path, hot)).problem
    assert problem == "cpu-thermal is at 99 degrees C, its limit is 99: the machine slows itself down"


def test_an_nvidia_gpu_adds_what_its_driver_tells(tmp_path):
    gpu = GpuReading("NVIDIA RTX A2000", (2_000_000_000, 6_000_000_000), 78.0, 75.0)
    state = read_device_state(tmp_path, gpu)
    assert state.values()["gpu_memory_used_mb"] == "2000"
    assert state.values()["temperature_gpu_c"] == "78.0"
    assert "gpu NVIDIA RTX A2000 is at 78 degrees C" in state.problem


def test_a_machine_that_tells_nothing_gives_nothing(tmp_path):
    state = read_device_state(tmp_path)
    assert (state.values(), state.problem, state.hottest()) == ({}, "", None)


@pytest.mark.parametrize("damage", ["", "x", "MemTotal:\nMemAvailable:", "MemTotal: many kB\nMemAvailable: 1 kB"])
def test_what_cannot_be_read_is_left_out(tmp_path, damage):
    files = {
        **JETSON,
        "proc/meminfo": damage,
        "proc/self/statm": damage,
        "sys/class/thermal/thermal_zone1/temp": damage,
    }
    values = read_device_state(write(tmp_path, files)).values()
    assert values.keys() == {"temperature_cpu_c", "temperature_highest_c", "temperature_highest_at"}


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("x86_pkg_temp", "cpu"),
        ("cpu_thermal", "cpu"),
        ("k10temp Tctl", "cpu"),
        ("GPU-therm", "gpu"),
        ("amdgpu edge", "gpu"),
        ("soc2-thermal", "cpu"),
        ("nvme Composite", "other"),
    ],
)
def test_sensors_are_told_apart_by_their_names(name, place):
    assert Temperature(name, 50.0).place == place


def test_this_machine_tells_its_memory():
    state = read_device_state()
    assert state.memory is not None
    assert 0 < state.memory[0] <= state.memory[1]
    assert state.process_memory is not None
    assert 1e6 < state.process_memory < state.memory[1]
