"""The Fast DDS profile in force: which file, and whether camera images fit its shared memory."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from seg_perception.check.finding import Finding
from seg_perception.process.ros_environment import LARGE_IMAGES_PROFILE, PROFILES_VARIABLE
from seg_perception.share import share_path

# The newer name of the variable wins where both are set (Fast DDS 2.12 and later).
VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", PROFILES_VARIABLE)
LOCAL_PROFILE = "DEFAULT_FASTRTPS_PROFILES.xml"  # read from the working directory where no variable is set
DEFAULT_SEGMENT_SIZE = 524_288  # bytes, Fast DDS's own
LEAST_SEGMENT_SIZE = 3 * 1920 * 1080  # bytes of one large rgb8 image; a few must fit
EXPECTED_SOCKET_BUFFER = 4_194_304  # bytes, of the shipped profiles


@dataclass(frozen=True)
class Profile:
    """What counts of a profile.

    Attributes:
        path: of the XML file; None for Fast DDS's own values.
        segment_size: bytes of a process's shared-memory segment; 0 where the profile has no shared memory.
        is_default: whether the file's participant is the one that every node takes.
    """

    path: Path | None
    segment_size: int = DEFAULT_SEGMENT_SIZE
    is_default: bool = True


class ProfileError(ValueError):
    """A profile that Fast DDS would not take either; the message is one line."""


def profile_in_force(environment: Mapping[str, str] = os.environ, folder: Path | None = None) -> Profile:
    """The profile that a process with this environment in this folder gets.

    Raises:
        ProfileError: the file is not there, or no profile.
    """
    named = next((environment[name] for name in VARIABLES if environment.get(name)), "")
    local = (folder or Path.cwd()) / LOCAL_PROFILE
    if not named and not local.is_file():
        return Profile(None)
    path = Path(named) if named else local
    try:
        root = ET.parse(path).getroot()
    except OSError as error:
        raise ProfileError(f"{path}: {error.strerror}") from error
    except ET.ParseError as error:
        raise ProfileError(f"{path} is no XML: {error}") from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]  # without the namespace
    participants = [p for p in root.iter("participant") if p.get("is_default_profile") == "true"]
    used = {e.text.strip() for p in participants for e in p.iter("transport_id") if e.text}
    sizes = [
        _segment_size(path, transport)
        for transport in root.iter("transport_descriptor")
        if (transport.findtext("type") or "").strip() == "SHM"
        and (transport.findtext("transport_id") or "").strip() in used
    ]
    builtin = any(_is_true(p.findtext(".//useBuiltinTransports"), default=True) for p in participants)
    if not sizes and builtin:
        sizes = [DEFAULT_SEGMENT_SIZE]
    return Profile(path, max(sizes, default=0), bool(participants))


def profile_findings(environment: Mapping[str, str] = os.environ, folder: Path | None = None) -> Iterator[Finding]:
    """Whether images of a camera pass between processes of one host."""
    repair = f"export {PROFILES_VARIABLE}={share_path(LARGE_IMAGES_PROFILE)}"
    try:
        profile = profile_in_force(environment, folder)
    except ProfileError as error:
        yield Finding(
            "DDS", "profile", str(error), "problem", "Fast DDS takes its own values; large images are lost", repair
        )
        return
    if profile.path is None:
        yield Finding(
            "DDS",
            "profile",
            f"none; Fast DDS's own shared memory of {DEFAULT_SEGMENT_SIZE // 1024} KiB",
            "warning",
            "images larger than that, 640x480 in colour already, are lost without a word; "
            "the launch files set a profile for the node, the camera's process needs it too",
            repair,
        )
        return
    megabytes = f"segment of {profile.segment_size / 2**20:.1f} MiB" if profile.segment_size else "no shared memory"
    if not profile.is_default:
        yield Finding(
            "DDS",
            "profile",
            f"{profile.path}: no participant with is_default_profile",
            "problem",
            "no node takes it",
            repair,
        )
    elif 0 < profile.segment_size < LEAST_SEGMENT_SIZE:
        yield Finding(
            "DDS",
            "profile",
            f"{profile.path}, {megabytes}",
            "warning",
            "images larger than that are lost without a word",
            repair,
        )
    else:
        yield Finding("DDS", "profile", f"{profile.path}, {megabytes}")


def _segment_size(path: Path, transport: ET.Element) -> int:
    text = (transport.findtext("segment_size") or str(DEFAULT_SEGMENT_SIZE)).strip()
    try:
        return int(text)
    except ValueError as error:
        raise ProfileError(f"{path} has segment_size {text!r}, expected a number of bytes") from error


def _is_true(text: str | None, default: bool) -> bool:
    return default if text is None else text.strip() == "true"
