"""Who may import whom: the contracts in pyproject.toml hold, and each of them finds an import that it forbids."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

PACKAGES = ("seg_models", "seg_onnx", "seg_perception")

# A forbidden import for each contract: the file that it is added to, and the line.
FORBIDDEN = {
    "ops and backbones know nothing of what is built of them": (
        "seg_models/ops/neighbourhood.py",
        "from seg_models.prediction import Prediction",
    ),
    "architectures know nothing of what is done with them": (
        "seg_models/architectures/linear.py",
        "from seg_models.training.metrics import ConfusionMatrix",
    ),
    "data knows nothing of models": ("seg_models/data/folder.py", "from seg_models.build import build_model"),
    "training knows nothing of evaluation and export": (
        "seg_models/training/schedules.py",
        "import seg_models.evaluation.inference",
    ),
    "evaluation knows nothing of export": ("seg_models/evaluation/inference.py", "from seg_models import export"),
    "the wall: seg_models runs without the robot": (
        "seg_models/prediction.py",
        "def late():\n    from seg_perception import labels",
    ),
    "the wall: seg_perception runs without PyTorch": ("seg_perception/labels.py", "import torch.nn.functional as F"),
    "the wall: what both sides use knows neither": (
        "seg_onnx/half_precision.py",
        "from seg_perception.model import model_file",
    ),
    "ROS is spoken in its own rooms": ("seg_perception/segmenter.py", "from sensor_msgs.msg import Image"),
}


def lint_imports(root: Path) -> tuple[int, dict[str, str]]:
    """Exit code of import-linter on the packages below `root`, and KEPT or BROKEN for each contract."""
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    verdicts = dict(re.findall(r"^(.+?) (KEPT|BROKEN)\b", done.stdout, re.MULTILINE))
    assert verdicts, done.stdout + done.stderr
    return done.returncode, verdicts


def test_the_layers_hold():
    code, verdicts = lint_imports(ROOT)
    assert verdicts == dict.fromkeys(FORBIDDEN, "KEPT")
    assert code == 0


def test_each_contract_finds_an_import_that_it_forbids(tmp_path):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file, line in FORBIDDEN.values():
        with (tmp_path / file).open("a", encoding="utf-8") as source:
            source.write(f"\n{line}\n")
    code, verdicts = lint_imports(tmp_path)
    assert verdicts == dict.fromkeys(FORBIDDEN, "BROKEN")
    assert code == 1


def test_every_folder_says_what_is_in_it_and_which_is_its_one_way_in():
    folders = [path for package in PACKAGES for path in (ROOT / package).glob("*/**/__init__.py")]
    assert len(folders) > 15
    for path in folders:
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        assert len(docstring.split()) > 20, path
        assert "way in is" in " ".join(docstring.split()) or "ways in are" in " ".join(docstring.split()), path


def test_lint_runs_the_check():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = makefile.split("\nlint:", 1)[1].split("\n\n", 1)[0]
    assert "lint-imports" in recipe
