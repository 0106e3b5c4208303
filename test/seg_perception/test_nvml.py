"""NVML by its C interface: a library of the same functions built here, and the driver's own where there is one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from seg_perception.nvml import LIBRARY, GpuReading, Nvml

# Declarations as in nvml.h; MEMORY and START are set by each test.
SOURCE = r"""
#include <string.h>
typedef struct { unsigned long long total, free, used; } nvmlMemory_t;
typedef struct nvmlDevice *nvmlDevice_t;
int nvmlInit_v2(void) { return START; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device) {
    if (index != 0) return 2;
    *device = (nvmlDevice_t)0x7f00dead0000ULL;
    return 0;
}
static int known(nvmlDevice_t device) { return device == (nvmlDevice_t)0x7f00dead0000ULL ? 0 : 2; }
int nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int length) {
    strncpy(name, "Test GPU", length);
    return known(device);
}
int nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory) {
    memory->total = 8000000000ULL; memory->free = 5500000000ULL; memory->used = 2500000000ULL;
    return MEMORY ? known(device) : 3;
}
int nvmlDeviceGetTemperature(nvmlDevice_t device, int sensor, unsigned int *degrees) {
    *degrees = 61;
    return sensor == 0 ? known(device) : 2;
}
int nvmlDeviceGetTemperatureThreshold(nvmlDevice_t device, int kind, unsigned int *degrees) {
    *degrees = 90;
    return kind == 1 && MEMORY ? known(device) : 3;
}
"""


def library(folder: Path, **values: int) -> str:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler to build a library with NVML's functions")
    (folder / "nvml.c").write_text(SOURCE)
    path = folder / f"nvml_{'_'.join(map(str, values.values()))}.so"
    defines = [f"-D{name}={value}" for name, value in values.items()]
    subprocess.run([compiler, "-shared", "-fPIC", *defines, "-o", path, folder / "nvml.c"], check=True)
    return str(path)


def test_a_card_tells_memory_and_temperature(tmp_path):
    nvml = Nvml(library(tmp_path, START=0, MEMORY=1))
    assert nvml.read() == GpuReading("Test GPU", (2_500_000_000, 8_000_000_000), 61.0, 90.0)
    assert nvml.read(1) is None
    nvml.close()


def test_what_a_gpu_does_not_tell_is_none(tmp_path):
    assert Nvml(library(tmp_path, START=0, MEMORY=0)).read() == GpuReading("Test GPU", None, 61.0, None)


def test_no_driver_is_an_error_that_says_so(tmp_path):
    with pytest.raises(OSError, match="does not start: nvmlReturn_t 9"):
        Nvml(library(tmp_path, START=9, MEMORY=1))
    with pytest.raises(OSError, match="nowhere"):
        Nvml(str(tmp_path / "nowhere.so"))


@pytest.mark.gpu
def test_the_driver_of_this_machine_answers():
    try:
        nvml = Nvml()
    except OSError as error:
        pytest.skip(f"needs an NVIDIA driver with {LIBRARY}: {error}")
    reading = nvml.read()
    assert reading is not None
    assert reading.name
