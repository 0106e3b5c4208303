"""The papers' learning rates."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from seg_models.training.schedules import cosine_restarts, polynomial, ramp, warm_up


def test_polynomial_decay_equals_the_released_segmenter_schedule():
    data = torch.load(Path(__file__).parents[2] / "data/segmenter_decoder.pt", weights_only=True)
    case = data["cases"]["poly_lr"]
    config, released = case["config"], case["outputs"]["lr"]
    # The file holds the rate after each update, so its first entry is that of step 1.
    own = [
        polynomial(step + 1, config["iters"], config["lr"], config["power"], config["min_lr"])
        for step in range(len(released))
    ]
    torch.testing.assert_close(torch.tensor(own, dtype=torch.float64), released, atol=1e-12, rtol=1e-12)
    assert polynomial(0, 100, 1e-3, 0.9, 1e-5) == 1e-3
    assert polynomial(101, 100, 1e-3, 0.9, 1e-5) == 1e-5


def test_cosine_restarts_begin_at_the_weighted_rate_and_end_at_zero():
    periods, weights = (20_000, 40_000, 100_000), (1.0, 0.5, 0.25)
    at = {
        step: cosine_restarts(step, 6e-5, periods, weights)
        for step in (0, 10_000, 19_999, 20_000, 40_000, 60_000, 160_000)
    }
    assert at[0] == 6e-5
    assert at[10_000] == pytest.approx(3e-5)
    assert at[19_999] == pytest.approx(0, abs=1e-12)
    assert at[20_000] == 3e-5
    assert at[40_000] == pytest.approx(1.5e-5)
    assert at[60_000] == 1.5e-5
    assert at[160_000] == 0
    with pytest.raises(ValueError, match="2 weights for 3 periods"):
        cosine_restarts(0, 1.0, periods, (1.0, 0.5))


def test_warm_up_is_linear_over_the_schedule():
    assert warm_up(0, 1500, 6e-5) == pytest.approx(6e-11)
    assert warm_up(750, 1500, 6e-5) == pytest.approx(3e-5, rel=1e-5)
    assert warm_up(1500, 1500, 6e-5) == 6e-5


def test_ramp_rises_from_its_first_step_to_the_full_rate():
    assert [ramp(step, 3) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert ramp(0, 0) == 1.0
