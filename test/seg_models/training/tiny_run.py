"""A recipe of a tiny transformer on a few random images: a run of it takes seconds, and nothing in it is left to chance."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import yaml

from seg_models.checkpoints.trained import read_trained
from test.seg_models.data.test_folder import write_folder

ROOT = Path(__file__).parents[3]


def write_recipe(folder: Path, images: int = 16, validation: int = 3, **trainer: Any) -> Path:
    """A recipe without anything that depends on the batch: no dropout, no batch norm, as many labelled pixels in each image.

    Args:
        folder: recipe and data go there.
        images, validation: of the two splits.
        trainer: further fields of `trainer`.
    """
    data = write_folder(folder / "data", images)
    write_folder(data, validation, "val")
    content = {
        "name": "tiny",
        "model": {
            "name": "linear",
            "backbone": "vit_tiny_patch16_224",
            "image_size": [32, 32],
            "options": {"timm_options": {"embed_dim": 16, "depth": 2, "num_heads": 2}},
        },
        "data": {"roots": [str(data)], "batch_size": 8, "workers": 0, "scale": [1.0, 1.0]},
        "optimizer": {"lr": 1e-2},
        "schedule": {"steps": 4, "warmup_steps": 2},
        "trainer": {"validate_every_steps": 2, "accelerator": "cpu", "log_every_steps": 1, "threads": 1} | trainer,
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(content))
    return folder / "recipe.yaml"


def lines(out: Path) -> list[dict[str, Any]]:
    """Of a run's metrics, without the times."""
    kept = (json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines())
    return [{key: value for key, value in line.items() if not key.endswith("images_per_s")} for line in kept]


def losses(out: Path) -> dict[int, float]:
    """Loss by step."""
    return {line["step"]: line["loss"] for line in lines(out) if "loss" in line}


def scores(out: Path) -> dict[int, float]:
    """mIoU by step."""
    return {line["step"]: line["val/miou"] for line in lines(out) if "val/miou" in line}


def weights(out: Path, name: str = "last.ckpt") -> dict[str, torch.Tensor]:
    """Of the model in a run's checkpoint."""
    return read_trained(out / name).weights


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python with this repository in front, without the variables of any launcher around the tests."""
    around = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("SLURM", "TORCHELASTIC", "PL_", "MASTER_"))
        and key not in ("RANK", "LOCAL_RANK", "WORLD_SIZE")
    }
    variables = around | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment
    return subprocess.run(
        [sys.executable, *arguments], env=variables, capture_output=True, text=True, timeout=600, check=False
    )
