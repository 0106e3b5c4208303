"""The environment variables of a process that talks ROS 2: for the demo, the benchmarks and the tests.

On a robot `setup.bash` sets them. Where ROS 2 comes as PyPI wheels nobody does, and these runs must stay on their host.
"""

from __future__ import annotations

import os
import random
import socket
import sys
from pathlib import Path

from seg_perception.share import share_path

PROFILES_VARIABLE = "FASTRTPS_DEFAULT_PROFILES_FILE"
LARGE_IMAGES_PROFILE = "config/dds/fastdds_large_images.xml"
ONE_HOST_PROFILE = "config/dds/fastdds_one_host.xml"
# Above 101 the ports of a domain reach into the range that Linux hands out to any program (from 32768).
_DOMAIN_IDS = range(1, 102)


def ros_process_environment(domain_id: int, profile: Path | None = None) -> dict[str, str]:
    """This process's environment with what ROS 2 needs, for a group of processes that stay by themselves on one host.

    Args:
        domain_id: 0..101. Processes with different ids do not see each other.
        profile: Fast DDS profile; None for the shipped one for one host. Images are lost without one.

    Raises:
        ValueError: the domain id is out of range.
        FileNotFoundError: there is no such profile.
    """
    if not 0 <= domain_id <= _DOMAIN_IDS[-1]:
        raise ValueError(f"ROS_DOMAIN_ID is {domain_id}, expected 0..{_DOMAIN_IDS[-1]}")
    path = share_path(ONE_HOST_PROFILE) if profile is None else profile.absolute()
    if not path.is_file():
        raise FileNotFoundError(f"DDS profile {path} does not exist")
    environment = dict(os.environ)
    # Packages are looked up through this; a sourced ROS has set it, the wheels live in Python's own prefix.
    environment.setdefault("AMENT_PREFIX_PATH", sys.prefix)
    environment["ROS_DOMAIN_ID"] = str(domain_id)
    environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    environment.pop("ROS_LOCALHOST_ONLY", None)  # the older way to say so; where it is set it wins
    environment[PROFILES_VARIABLE] = str(path)
    return environment


def free_domain_id() -> int:
    """A domain id that no process on this host uses, from 1 on.

    Raises:
        RuntimeError: all are in use.
    """
    for domain_id in random.sample(_DOMAIN_IDS, len(_DOMAIN_IDS)):
        # The first participant of a domain listens on this port (RTPS 2.5, section 9.6.2.3).
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("", 7400 + 250 * domain_id + 10))
            except OSError:
                continue
        return domain_id
    raise RuntimeError(f"every ROS_DOMAIN_ID from {_DOMAIN_IDS[0]} to {_DOMAIN_IDS[-1]} is in use on this host")
