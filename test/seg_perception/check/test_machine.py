from __future__ import annotations

from pathlib import Path

from seg_perception.check.machine import kernel_buffer_findings, machine_findings, shared_memory_findings


def test_the_machine_says_what_it_is() -> None:
    found = {finding.name: finding.value for finding in machine_findings()}
    assert {"processor", "cores", "python", "numpy", "memory"} <= found.keys()


def test_shared_memory_is_held_against_the_profiles_segment(tmp_path: Path) -> None:
    (plenty,) = shared_memory_findings(1, tmp_path)
    assert plenty.state == "ok"
    (none,) = shared_memory_findings(1 << 60, tmp_path)
    assert none.state == "problem"
    assert "remount" in none.repair


def test_segments_left_behind_are_named(tmp_path: Path) -> None:
    with (tmp_path / "fastrtps_left").open("wb") as file:
        file.truncate(1 << 42)  # a sparse file: large in name only
    (finding,) = shared_memory_findings(1 << 39, tmp_path)
    assert finding.repair == "fastdds shm clean"


def test_a_missing_folder_is_one_warning(tmp_path: Path) -> None:
    (finding,) = shared_memory_findings(1, tmp_path / "none")
    assert finding.state == "warning"
    assert "No such file" in finding.value


def test_small_kernel_buffers_come_with_the_line_that_raises_them(tmp_path: Path) -> None:
    folder = tmp_path / "net" / "core"
    folder.mkdir(parents=True)
    (folder / "rmem_max").write_text("212992\n")
    (folder / "wmem_max").write_text("4194304\n")
    small, large = kernel_buffer_findings(4_194_304, tmp_path)
    assert (small.state, large.state) == ("warning", "ok")
    assert small.repair.startswith("sysctl -w net.core.rmem_max=4194304")
    assert list(kernel_buffer_findings(1, tmp_path / "none")) == []
