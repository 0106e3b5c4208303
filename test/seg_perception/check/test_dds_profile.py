from __future__ import annotations

from pathlib import Path

import pytest

from seg_perception.check.dds_profile import (
    DEFAULT_SEGMENT_SIZE,
    ProfileError,
    profile_findings,
    profile_in_force,
)
from seg_perception.process.ros_environment import LARGE_IMAGES_PROFILE, ONE_HOST_PROFILE, PROFILES_VARIABLE
from seg_perception.share import share_path


@pytest.mark.parametrize("shipped", [LARGE_IMAGES_PROFILE, ONE_HOST_PROFILE])
def test_the_shipped_profiles_hold_large_images(shipped: str, tmp_path: Path) -> None:
    environment = {PROFILES_VARIABLE: str(share_path(shipped))}
    assert profile_in_force(environment, tmp_path).segment_size == 33_554_432
    (finding,) = profile_findings(environment, tmp_path)
    assert finding.state == "ok"
    assert "32.0 MiB" in finding.value


def test_without_a_profile_it_warns_with_the_line_that_sets_one(tmp_path: Path) -> None:
    assert profile_in_force({}, tmp_path).segment_size == DEFAULT_SEGMENT_SIZE
    (finding,) = profile_findings({}, tmp_path)
    assert finding.state == "warning"
    variable, _, path = finding.repair.removeprefix("export ").partition("=")
    assert variable == PROFILES_VARIABLE
    assert Path(path).is_file()
    assert profile_in_force({variable: path}, tmp_path).segment_size > DEFAULT_SEGMENT_SIZE


def test_the_newer_variable_wins_and_a_local_file_comes_last(tmp_path: Path) -> None:
    local = tmp_path / "DEFAULT_FASTRTPS_PROFILES.xml"
    local.write_bytes(share_path(ONE_HOST_PROFILE).read_bytes())
    assert profile_in_force({}, tmp_path).path == local
    older = {PROFILES_VARIABLE: str(share_path(ONE_HOST_PROFILE))}
    assert profile_in_force(older, tmp_path).path == share_path(ONE_HOST_PROFILE)
    newer = {**older, "FASTDDS_DEFAULT_PROFILES_FILE": str(share_path(LARGE_IMAGES_PROFILE))}
    assert profile_in_force(newer, tmp_path).path == share_path(LARGE_IMAGES_PROFILE)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "No such file"), ("<profiles>", "is no XML"), ("", "is no XML"), ("small", "segment_size 'small'")],
)
def test_a_profile_that_cannot_be_read_is_a_problem(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "profile.xml"
    if content == "small":
        content = share_path(LARGE_IMAGES_PROFILE).read_text().replace("33554432", "small")
    if content is not None:
        path.write_text(content)
    environment = {PROFILES_VARIABLE: str(path)}
    with pytest.raises(ProfileError, match=message):
        profile_in_force(environment, tmp_path)
    (finding,) = profile_findings(environment, tmp_path)
    assert finding.state == "problem"
    assert str(path) in finding.value


@pytest.mark.parametrize(
    ("old", "new", "state"),
    [
        ("33554432", "1048576", "warning"),
        ('is_default_profile="true"', "", "problem"),
        # Without the transport in use there is no shared memory, so its size says nothing.
        ("<transport_id>shared_memory_for_images</transport_id>\n        <transport_id>udp", "<transport_id>udp", "ok"),
    ],
)
def test_what_is_in_a_profile_decides(tmp_path: Path, old: str, new: str, state: str) -> None:
    text = share_path(LARGE_IMAGES_PROFILE).read_text()
    assert old in text
    path = tmp_path / "profile.xml"
    path.write_text(text.replace(old, new))
    (finding,) = profile_findings({PROFILES_VARIABLE: str(path)}, tmp_path)
    assert finding.state == state
