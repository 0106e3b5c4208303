"""Memory of freed images is used again, and threads that end leave little behind: counted in processes of their own."""

import platform
import subprocess
import sys

import pytest

IMAGES = 40
THREADS = 12
KEEP = """
from seg_perception.image_memory import keep_freed_memory
assert keep_freed_memory()
"""
FAULTS = f"""
import resource
import numpy as np
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
MORE_HEAPS = """
import ctypes
assert ctypes.CDLL(None).mallopt(-8, 64) == 1  # M_ARENA_MAX, about what a machine of eight cores has by default
"""
LEFT = f"""
import threading
import numpy as np
def kept():
    with open("/proc/self/smaps_rollup") as lines:
        return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1e3
everyone, one_by_one = threading.Barrier({THREADS}), threading.Lock()
def thread():
    np.ones(1000, np.uint8)  # while all of them live, each gets a heap of its own where there may be so many
    everyone.wait()
    with one_by_one:
        images = [np.ones((300, 1000, 3), np.uint8) for _ in range(10)]
        del images
    everyone.wait()
before = kept()
threads = [threading.Thread(target=thread) for _ in range({THREADS})]
for one in threads:
    one.start()
for one in threads:
    one.join()
print(kept() - before)
"""
pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only the GNU C library can be told to keep freed memory"
)


def printed(program: str) -> float:
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return float(result.stdout)


def test_an_image_in_kept_memory_costs_no_page_faults():
    # Python's own memory may grow by a page; without it each image is mapped and cleared anew, in huge pages or small ones.
    assert printed(KEEP + FAULTS) / IMAGES < 1 < printed(FAULTS) / IMAGES


def test_threads_one_after_another_leave_four_heaps_behind_at_most():
    """Each has 9 MB for a while: 36 MB in four heaps, 108 in one for each of the twelve."""
    assert printed(KEEP + LEFT) < 70 < printed(KEEP + MORE_HEAPS + LEFT)
