"""Memory of freed images is used again: counted in page faults, in processes of their own."""

import platform
import subprocess
import sys

import pytest

IMAGES = 40
PROGRAM = f"""
import resource
import numpy as np
from seg_perception.image_memory import keep_freed_memory
if {{keep}}:
    assert keep_freed_memory()
def image():
    pixels = np.empty((1080, 1920, 3), np.uint8)
    pixels[:] = 1
    mask = bytes(1920 * 1080)
image()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({IMAGES}):
    image()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults_an_image(keep: bool) -> float:
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(keep=keep)], capture_output=True, text=True, check=True, timeout=60
    )
    return int(result.stdout) / IMAGES


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only the GNU C library can be told to keep freed memory")
def test_an_image_in_kept_memory_costs_no_page_faults():
    # Python's own memory may grow by a page; without it each image is mapped and cleared anew, in huge pages or small ones.
    assert page_faults_an_image(keep=True) < 1 < page_faults_an_image(keep=False)
