"""Gradient accumulation: the gradient of one large batch, and every step is the optimiser's."""

from __future__ import annotations

import pytest
import torch

from seg_models import train
from seg_models.training.callbacks import hard_pixel_share
from test.seg_models.training.tiny_run import losses, scores, weights, write_recipe

# Sums of float32 gradients in another order: some units of the last place (1e-7) on gradients, which a step of rate 1
# brings onto weights of size 0.1.
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return write_recipe(tmp_path_factory.mktemp("accumulation"), images=17)


def run(recipe, out, *overrides: str):
    assert train.main(["--config", str(recipe), "--out", str(out), *overrides]) == 0
    return out


def test_a_step_of_four_small_batches_is_that_of_a_large_one(recipe, tmp_path):
    """By plain gradient descent at rate 1, so that the weights' change is the gradient itself."""
    plain = ["optimizer.name=sgd", "optimizer.momentum=0", "optimizer.nesterov=false", "optimizer.weight_decay=0"]
    plain += ["optimizer.lr=1", "optimizer.backbone_lr_scale=1", "schedule.steps=1", "schedule.warmup_steps=0"]
    whole = run(recipe, tmp_path / "whole", *plain)
    parts = run(recipe, tmp_path / "parts", *plain, "data.batch_size=2", "trainer.accumulate=4")
    expected = weights(whole)
    for name, value in weights(parts).items():
        torch.testing.assert_close(value, expected[name], msg=name, **CLOSE)
    assert losses(parts)[1] == pytest.approx(losses(whole)[1], rel=1e-5)


def test_schedule_validation_average_and_resume_count_the_optimisers_steps(recipe, tmp_path):
    """Two epochs of two steps; the seventeenth image never makes a step of a single batch."""
    overrides = ["optimizer.average_decay=0.5", "trainer.keep_checkpoints=-1"]
    whole = run(recipe, tmp_path / "whole", *overrides)
    accumulated = [*overrides, "data.batch_size=4", "trainer.accumulate=2"]
    parts = run(recipe, tmp_path / "parts", *accumulated)
    assert losses(parts) == pytest.approx(losses(whole), rel=1e-4)
    assert scores(parts).keys() == scores(whole).keys() == {2, 4}
    assert sorted(path.name for path in parts.glob("step*.ckpt")) == ["step2.ckpt", "step4.ckpt"]
    expected = weights(whole)
    for name, value in weights(parts).items():
        # AdamW divides by the root of squared gradients, which magnifies rounding where they are small.
        torch.testing.assert_close(value, expected[name], msg=name, rtol=1e-3, atol=1e-4)
    half = tmp_path / "half"
    half.mkdir()
    (half / "last.ckpt").write_bytes((parts / "step2.ckpt").read_bytes())
    run(recipe, half, *accumulated, "--resume")
    assert losses(half) == {step: value for step, value in losses(parts).items() if step > 2}
    for name, value in weights(half).items():
        assert torch.equal(value, weights(parts)[name]), name


def test_the_share_of_hard_pixels_falls_with_the_optimisers_steps(recipe, tmp_path, monkeypatch):
    shares = []
    monkeypatch.setattr(
        "seg_models.training.callbacks.hard_pixel_share",
        lambda step, *rest: shares.append(step) or hard_pixel_share(step, *rest),
    )
    model = ["model.name=superpixel_transformer", "model.backbone=test_efficientnet", "model.options={width: 16}"]
    run(
        recipe,
        tmp_path / "out",
        *model,
        *("data.batch_size=2", "trainer.accumulate=3", "schedule.steps=2", "schedule.hard_pixels_from=1"),
    )
    assert shares == [0, 0, 0, 1, 1, 1]


def test_too_few_images_for_a_step_are_refused(recipe, tmp_path, capsys):
    assert train.main(["--config", str(recipe), "--out", str(tmp_path / "out"), "trainer.accumulate=3"]) == 2
    assert "17 training images do not fill 3 batches of 8 on 1 process" in capsys.readouterr().err
