"""The thread that reads the machine's state."""

from __future__ import annotations

from seg_perception.machine_watch import MachineWatch
from test.seg_perception.test_device_state import JETSON, write
from test.seg_perception.test_nvml import library
from test.seg_perception.waiting import wait_until

SOON_S = 30.0


def test_the_newest_reading_is_there_and_the_thread_ends_when_told_to(tmp_path):
    watch = MachineWatch(write(tmp_path, JETSON), str(tmp_path / "no_driver.so"), every_s=0.01)
    assert watch.state.values() == {}
    watch.start()
    wait_until(lambda: watch.state.values().get("temperature_cpu_c") == "52.3", SOON_S, "a reading")
    write(tmp_path, {"sys/class/thermal/thermal_zone0/temp": 80000})
    wait_until(lambda: watch.state.values()["temperature_cpu_c"] == "80.0", SOON_S, "another reading")
    watch.stop()
    wait_until(lambda: not watch._thread.is_alive(), SOON_S, "the end")


def test_an_nvidia_gpu_is_read_by_its_driver(tmp_path):
    watch = MachineWatch(tmp_path, library(tmp_path, START=0, MEMORY=1), every_s=0.01)
    watch.start()
    wait_until(lambda: watch.state.values().get("gpu_memory_used_mb") == "2500", SOON_S, "a reading")
    watch.stop()
