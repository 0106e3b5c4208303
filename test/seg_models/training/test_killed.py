"""kill -9 at awkward moments: the run goes on with the same losses, and no file is ever half written."""

from __future__ import annotations

import pytest
import torch

from seg_models import train
from seg_models.atomic_file import whole_file
from seg_models.checkpoints.trained import read_trained
from test.seg_models.training.tiny_run import losses, python, scores, weights, write_recipe

# A training that ends itself with SIGKILL at the n-th call of a function: no handler runs, nothing is flushed or tidied.
KILLED = """
import os, signal, sys
from importlib import import_module

place, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
owner = import_module(place.partition(":")[0])
for part in filter(None, place.partition(":")[2].split(".")):
    owner = getattr(owner, part)
original = getattr(owner, name)

def counted(*arguments, **named):
    global count
    count -= 1
    if count == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **named)

setattr(owner, name, counted)
from seg_models import train
sys.exit(train.main(sys.argv[4:]))
"""

# With two batches a step, restart points at each step and a validation behind the third: the call at which the process dies,
# and the step of the checkpoint that it leaves. A whole file is flushed twice, itself and its folder; the recipe is the first
# one. A validation is of two batches; the first is made before the training.
TASK = "seg_models.training.task:SegmentationTask"
MOMENTS = {
    "between the two batches of step 3": (TASK, "training_step", 6, 2),
    "while the checkpoint of step 2 is written": ("os", "fsync", 5, 1),
    "in the validation behind step 3": (TASK, "validation_step", 3, 2),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An unbroken run of five steps, with dropout, averaged weights, and a loader of its own process."""
    folder = tmp_path_factory.mktemp("killed")
    recipe = write_recipe(folder)
    arguments = [
        *("--config", str(recipe), "model.drop_path_rate=0.5", "model.options.dropout=0.3", "data.batch_size=2"),
        *("trainer.accumulate=2", "trainer.checkpoint_every_steps=1", "trainer.validate_every_steps=3"),
        *("schedule.steps=5", "optimizer.average_decay=0.5", "data.workers=1"),
    ]
    assert train.main([*arguments, "--out", str(folder / "whole")]) == 0
    return {"arguments": arguments, "out": folder / "whole"}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_goes_on_with_the_same_losses(whole, tmp_path, moment):
    """Its loader's process ends with it, too: `python` comes back when nobody holds the process's output any more."""
    place, name, count, left_at = MOMENTS[moment]
    arguments = [*whole["arguments"], "--out", str(tmp_path / "out")]
    died = python("-c", KILLED, place, name, str(count), *arguments)
    assert died.returncode == -9, died.stderr[-2000:]
    assert read_trained(tmp_path / "out/last.ckpt").content["global_step"] == left_at
    assert train.main([*arguments, "--resume"]) == 0
    assert losses(tmp_path / "out") == losses(whole["out"])  # to the last bit, each step once
    assert scores(tmp_path / "out") == scores(whole["out"])
    for name, value in weights(whole["out"]).items():
        assert torch.equal(weights(tmp_path / "out")[name], value), name
    assert not list((tmp_path / "out").glob(".*"))


def test_a_file_that_fails_half_way_leaves_the_old_one(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write() -> None:
        with whole_file(path) as file:
            file.write(b"half of the")
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        write()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    with whole_file(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]
