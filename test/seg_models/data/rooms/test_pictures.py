"""Pictures drawn from a seed."""

from __future__ import annotations

import numpy as np
import pytest

from seg_models.data.rooms.pictures import outlook, screen_content


@pytest.mark.parametrize("draw", [outlook, screen_content])
def test_a_seed_gives_one_picture_and_another_seed_another(draw):
    pictures = [draw(np.random.default_rng(seed)) for seed in range(12)]
    assert all(p.dtype == np.uint8 and p.ndim == 3 and p.shape[2] == 3 for p in pictures)
    np.testing.assert_array_equal(pictures[3], draw(np.random.default_rng(3)))
    assert len({p.tobytes() for p in pictures}) == 12


def test_most_views_are_lighter_above_than_below():
    views = [outlook(np.random.default_rng(seed)).mean(axis=(1, 2)) for seed in range(40)]
    assert np.mean([view[:40].mean() > view[-40:].mean() for view in views]) > 0.8
