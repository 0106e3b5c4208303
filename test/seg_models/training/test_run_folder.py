"""What a run leaves in its folder, and what it says on the way."""

from __future__ import annotations

import json
import time
import warnings

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from seg_models import train
from seg_models.checkpoints.trained import load_task, read_trained
from seg_models.data.folder import FolderDataset
from seg_models.data.loading_speed import TimedSamples
from seg_models.losses import IGNORE
from seg_models.training.run_folder import environment, keep_lines_until, read_lines
from seg_models.training.validation_images import TALLEST, side_by_side
from test.seg_models.training.tiny_run import losses, scores, write_recipe


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Four steps, validated at each, images read by a process of its own."""
    folder = tmp_path_factory.mktemp("folder")
    recipe = write_recipe(folder, validate_every_steps=1, keep_checkpoints=-1)
    arguments = ["--config", str(recipe), "data.workers=1", "trainer.log_images=2"]
    assert train.main([*arguments, "--out", str(folder / "out")]) == 0
    return {"recipe": recipe, "arguments": arguments, "out": folder / "out"}


def test_the_environment_is_written_down_at_each_start(run):
    (line,) = read_lines(run["out"] / "environment.jsonl")
    assert line["versions"]["torch"] == torch.__version__.partition("+")[0] or line["versions"]["torch"]
    assert {"started", "command", "commit", "python", "host", "processor", "cores", "memory_gb", "gpus"} <= line.keys()
    assert (line["step"], line["processes"]) == (0, 1)
    assert environment()["cores"] >= 1


def test_metrics_have_loss_rate_and_speeds_of_loader_and_step(run):
    lines = [line for line in read_lines(run["out"] / "metrics.jsonl") if "loss" in line]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    for line in lines:
        assert line["loss"] == pytest.approx(line["loss/cross_entropy"])
        # Neither reading nor computing takes no time; together they take longer than each.
        assert 0 < line["images_per_s"] <= line["step_images_per_s"]
    assert any(line.get("loader_images_per_s", 0) > 0 for line in lines)
    # The recipe's schedule: two steps of warm-up to 1e-2, and down from there; the decoder's groups have the highest rate.
    assert [line["lr"] for line in lines] == pytest.approx([1e-2 / 3, 2e-2 / 3, 1e-2, 1e-2 * 0.5**0.9])


def test_the_best_validation_is_kept_beside_the_last_weights(run):
    by_step = scores(run["out"])
    assert by_step.keys() == {1, 2, 3, 4}
    best = max(by_step.values())
    first = min(step for step, score in by_step.items() if score == best)
    assert read_trained(run["out"] / "best.ckpt").content["global_step"] == first
    assert read_trained(run["out"] / "last.ckpt").content["global_step"] == 4
    assert load_task(run["out"] / "best.ckpt").recipe.name == "tiny"
    assert not list(run["out"].glob("last-v*.ckpt"))


def test_a_resumed_run_knows_its_best_and_tells_each_step_once(run, tmp_path):
    """From step 2, with lines of steps that are made again, and one that was half written when the process died."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "last.ckpt").write_bytes((run["out"] / "step2.ckpt").read_bytes())
    whole = (run["out"] / "metrics.jsonl").read_text()
    (out / "metrics.jsonl").write_text(whole + '{"step": 4, "lo')
    assert train.main([*run["arguments"], "--out", str(out), "--resume"]) == 0
    assert losses(out) == losses(run["out"])
    assert scores(out) == scores(run["out"])
    by_step = scores(run["out"])
    expected = max(by_step.values()) > max(by_step[1], by_step[2])
    assert (out / "best.ckpt").is_file() == expected


def test_tensorboard_has_images_of_each_validation_and_the_speeds(run):
    events = EventAccumulator(str(run["out"] / "tensorboard"), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    assert events.Tags()["images"] == ["val/image0", "val/image1"]
    assert [event.step for event in events.Images("val/image0")] == [1, 2, 3, 4]
    assert {"speed/images_per_s", "speed/step_images_per_s", "val/miou", "loss"} <= set(events.Tags()["scalars"])


def test_a_picture_is_image_truth_and_prediction_side_by_side():
    palette = torch.tensor([[10, 20, 30], [40, 50, 60]], dtype=torch.uint8)
    image = torch.full((3, 4, 6), 77, dtype=torch.uint8)
    labels = torch.zeros(4, 6, dtype=torch.int64)
    labels[0, 0] = IGNORE
    picture = side_by_side(image, labels, torch.ones(4, 6, dtype=torch.int64), palette)
    assert picture.shape == (3, 4, 18)
    assert picture[:, 1, 1].tolist() == [77, 77, 77]
    assert picture[:, 0, 6].tolist() == [0, 0, 0]
    assert picture[:, 1, 6].tolist() == [10, 20, 30]
    assert picture[:, 1, 12].tolist() == [40, 50, 60]
    large = side_by_side(image.new_zeros(3, 512, 640), labels.new_zeros(512, 640), labels.new_ones(512, 640), palette)
    assert large.shape == (3, TALLEST, 3 * 320)


def test_a_slow_loader_is_warned_of(run, tmp_path, monkeypatch):
    """Each image takes 50 ms to read, and a step of one takes a fraction of that."""
    read = FolderDataset.read

    def slowly(self: FolderDataset, index: int) -> tuple[np.ndarray, np.ndarray]:
        time.sleep(0.05)
        return read(self, index)

    monkeypatch.setattr(FolderDataset, "read", slowly)
    overrides = ["data.workers=0", "data.batch_size=4", "schedule.steps=24", "trainer.validate_every_steps=24"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert train.main([*run["arguments"], *overrides, "--out", str(tmp_path / "out")]) == 0
    (text,) = [str(warning.message) for warning in caught if "loading is what is slow" in str(warning.message)]
    assert "raise data.workers (it is 0)" in text
    lines = [line for line in read_lines(tmp_path / "out/metrics.jsonl") if "loader_images_per_s" in line]
    assert all(line["loader_images_per_s"] < 20 for line in lines)  # 50 ms an image, and no more than that


def test_loader_processes_are_counted_together():
    samples = TimedSamples([0, 1], workers=2)
    assert np.isnan(samples.rate())
    samples.spent += torch.tensor([[2.0, 10.0], [1.0, 20.0]])  # 5 and 20 a second
    assert samples.rate() == pytest.approx(25.0)
    assert np.isnan(samples.rate())


def test_the_bar_counts_steps_of_the_run_with_time_left_and_the_last_score(run, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "last.ckpt").write_bytes((run["out"] / "step2.ckpt").read_bytes())
    assert train.main([*run["arguments"], "--out", str(out), "--resume"]) == 0
    shown = capsys.readouterr().err
    assert " 2/4 [" in shown  # it begins where the run goes on
    last = shown.rpartition("4/4 [")[2]
    assert last.partition("<")[2].startswith("00:00")  # no time is left
    assert "loss " in last
    assert "images/s, mIoU 0." in last


def test_lines_behind_a_step_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": step}) + "\n" for step in (1, 2, 3)) + "[1]\nhalf {")
    keep_lines_until(path, 2)
    assert read_lines(path) == [{"step": 1}, {"step": 2}]
    keep_lines_until(tmp_path / "absent", 2)
    assert not (tmp_path / "absent").exists()
