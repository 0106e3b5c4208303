"""The machine: processor, memory, shared memory, the kernel's network buffers, versions."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from seg_perception.check.finding import Finding
from seg_perception.process.environment import describe_environment

SHARED_MEMORY = Path("/dev/shm")
SYSCTL = Path("/proc/sys")
LEAST_MEMORY = 1 << 30  # bytes that are free; the shipped model in OpenVINO and the node take about half of it
# Of processes at once: camera, node, RViz or a recorder. Each has a segment of the profile's size.
PARTICIPANTS = 4


def machine_findings() -> Iterator[Finding]:
    """Versions of this installation, processor and memory."""
    for name, value in describe_environment().items():
        if name != "date":
            yield Finding("machine", name, value)
    available = _available_memory()
    if available is not None:
        short = available < LEAST_MEMORY
        yield Finding(
            "machine",
            "memory",
            f"{_size(available)} available",
            "warning" if short else "ok",
            f"a model and its engine take up to {_size(LEAST_MEMORY)}" if short else "",
            "end other programs, or add swap: fallocate -l 4G /swapfile && mkswap /swapfile && swapon /swapfile"
            if short
            else "",
        )


def shared_memory_findings(segment_size: int, folder: Path = SHARED_MEMORY) -> Iterator[Finding]:
    """Whether shared memory holds the segments of a few processes.

    Args:
        segment_size: bytes of one process's segment, from the DDS profile.
        folder: where the system keeps shared memory.
    """
    try:
        state = os.statvfs(folder)
    except OSError as error:
        yield Finding(
            "DDS",
            "shared memory",
            f"{folder}: {error.strerror}",
            "warning",
            "images between processes go over UDP, which is slower",
            f"mount -t tmpfs -o size=512m tmpfs {folder}",
        )
        return
    free, total = state.f_bavail * state.f_frsize, state.f_blocks * state.f_frsize
    value = f"{_size(free)} of {_size(total)} free in {folder}"
    needed = PARTICIPANTS * segment_size
    if free >= needed:
        yield Finding("DDS", "shared memory", value)
        return
    leftovers = sum(p.stat().st_size for p in folder.glob("fastrtps_*"))
    if leftovers > needed:
        repair = "fastdds shm clean"
        value += f", {_size(leftovers)} of it in Fast DDS's segments, some perhaps of processes that were killed"
    else:
        repair = f"mount -o remount,size=512m {folder}   (in a container: docker run --shm-size=512m)"
    yield Finding(
        "DDS",
        "shared memory",
        value,
        "problem" if free < segment_size else "warning",
        f"every process makes a segment of {_size(segment_size)}; where it can't, large images are lost",
        repair,
    )


def kernel_buffer_findings(expected: int, folder: Path = SYSCTL) -> Iterator[Finding]:
    """Whether the kernel grants the socket buffers that the DDS profile asks for.

    Args:
        expected: bytes that the profile asks for.
        folder: /proc/sys.
    """
    for name in ("net.core.rmem_max", "net.core.wmem_max"):
        path = folder / name.replace(".", "/")
        try:
            granted = int(path.read_text())
        except (OSError, ValueError):
            continue  # not Linux, or a container that hides it
        short = granted < expected
        yield Finding(
            "DDS",
            name,
            _size(granted),
            "warning" if short else "ok",
            "images to and from other hosts are lost in bursts" if short else "",
            f"sysctl -w {name}={expected}   (and in /etc/sysctl.d/ to keep it)" if short else "",
        )


def _available_memory() -> int | None:
    """Bytes that programs may still take; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)


def _size(count: int) -> str:
    """Bytes for people."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024  # type: ignore[assignment]
    return f"{count:.1f} GiB"
