from __future__ import annotations

import math

import numpy as np
import pytest

from seg_models.data.rooms.floor_plan import FloorPlan, Footprint
from seg_models.data.rooms.trajectory import START_NS, catmull_rom, draw_walk, smooth


def furnished_plan() -> FloorPlan:
    return FloorPlan(
        6.5, 5.5, 2.7, footprints=[Footprint(1.0, 0.6, math.pi / 2, 0.9, 1.8), Footprint(4.6, 3.6, 0.2, 1.6, 0.9)]
    )


def test_curve_passes_its_end_points_and_is_even_in_arc_length():
    points = np.array([[0.0, 0.0], [1.0, 0.5], [2.0, 0.0], [3.0, 2.0]])
    curve = catmull_rom(points, 101)
    np.testing.assert_allclose(curve[[0, -1]], points[[0, -1]], atol=1e-12)
    steps = np.linalg.norm(np.diff(curve, axis=0), axis=1)
    assert steps.max() / steps.min() < 1.02  # even but for the chords of the sampled curve
    assert min(np.linalg.norm(curve - points[1], axis=1)) < 0.02


def test_smoothing_keeps_length_and_constants():
    np.testing.assert_allclose(smooth(np.full(9, 2.5), 5), 2.5)
    assert len(smooth(np.arange(9.0), 3)) == 9
    with pytest.raises(ValueError, match="positive odd"):
        smooth(np.arange(9.0), 4)


def test_walk_keeps_its_distance_and_moves_like_a_person():
    plan = furnished_plan()
    for seed in range(5):
        walk = draw_walk(np.random.default_rng(seed), plan, frames=60, rate_hz=10.0)
        positions = np.array([p.position for p in walk.poses])
        assert plan.clearance(positions[:, :2]).min() >= 0.35
        speed = np.linalg.norm(np.diff(positions, axis=0), axis=1) * 10.0
        assert speed.max() < 0.8  # m/s
        forward = np.array([p.rotation()[:, 2] for p in walk.poses])
        turn = np.degrees(np.arccos(np.clip((forward[1:] * forward[:-1]).sum(axis=1), -1, 1))) * 10.0
        assert turn.max() < 60.0  # degrees a second


def test_stamps_are_whole_nanoseconds_at_the_camera_rate():
    walk = draw_walk(np.random.default_rng(0), furnished_plan(), frames=31, rate_hz=30.0)
    assert walk.stamps_ns[0] == START_NS
    assert walk.stamps_ns[-1] == START_NS + 10**9
    assert (np.abs(np.diff(walk.stamps_ns) - 1e9 / 30) <= 1).all()


def test_the_same_seed_gives_the_same_walk():
    walks = [draw_walk(np.random.default_rng(8), furnished_plan(), 20, 10.0) for _ in range(2)]
    assert walks[0].poses == walks[1].poses


def test_a_room_without_a_free_path_is_an_error_with_advice():
    full = FloorPlan(4.0, 4.0, 2.5, footprints=[Footprint(2.0, 2.0, 0.0, 3.6, 3.6)])
    with pytest.raises(ValueError, match="take another room number"):
        draw_walk(np.random.default_rng(0), full, 60, 10.0)


@pytest.mark.parametrize(("frames", "rate_hz"), [(1, 10.0), (60, 0.0)])
def test_impossible_walks_are_refused(frames, rate_hz):
    with pytest.raises(ValueError, match="at least 2 frames and a positive rate"):
        draw_walk(np.random.default_rng(0), furnished_plan(), frames, rate_hz)
