from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from seg_perception import share
from seg_perception.share import share_path


def test_a_source_checkout_finds_its_own_files() -> None:
    assert share_path("config/labels/rooms.yaml") == Path(__file__).parents[2] / "config" / "labels" / "rooms.yaml"


@pytest.mark.parametrize("library", ["lib/python3.12/site-packages", "local/lib/python3.10/dist-packages"])
def test_an_installed_package_finds_the_share_folder_of_its_prefix(tmp_path: Path, library: str) -> None:
    package = tmp_path / library / "seg_perception"
    package.mkdir(parents=True)
    (package / "share.py").write_text(Path(share.__file__).read_text())
    model = tmp_path / "share" / "seg_perception" / "models" / "m.onnx"
    model.parent.mkdir(parents=True)
    model.touch()
    program = "from share import share_path; print(share_path('models/m.onnx'))"
    found = subprocess.run([sys.executable, "-c", program], cwd=package, capture_output=True, text=True, check=True)
    assert Path(found.stdout.strip()) == model


def test_a_file_that_is_not_shipped_is_named_with_the_places_looked_in() -> None:
    with pytest.raises(FileNotFoundError, match=r"'models/none.onnx' does not come with this installation") as caught:
        share_path("models/none.onnx")
    assert str(Path(sys.prefix) / "share" / "seg_perception") in str(caught.value)
