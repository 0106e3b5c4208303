from __future__ import annotations

import math

import numpy as np
import pytest

from seg_models.data.rooms.floor_plan import EAST, INWARD_YAW, FloorPlan, Footprint, wall_panels


def test_turned_rectangles_overlap_where_their_bounding_boxes_alone_would_not_tell():
    square = Footprint(0, 0, 0, 2, 2)
    corner_on = Footprint(1.9, 1.9, math.pi / 4, 1, 1)  # its bounding box meets the square, it does not
    assert not square.overlaps(corner_on)
    assert square.overlaps(Footprint(1.2, 1.2, math.pi / 4, 1, 1))


def test_touching_footprints_are_apart():
    assert not Footprint(0, 0, 0, 2, 2).overlaps(Footprint(2, 0, 0, 2, 2))


def test_distance_to_a_turned_rectangle():
    rectangle = Footprint(1.0, 1.0, math.pi / 2, 4.0, 2.0)  # spans x 0..2, y -1..3
    points = np.array([[1.0, 1.0], [3.0, 1.0], [1.0, 5.0], [5.0, 7.0]])
    np.testing.assert_allclose(rectangle.distance_to(points), [0.0, 1.0, 2.0, 5.0], atol=1e-12)


def test_clearance_counts_walls_and_furniture():
    plan = FloorPlan(4.0, 4.0, 2.5, footprints=[Footprint(2.0, 2.0, 0.0, 1.0, 1.0)])
    np.testing.assert_allclose(plan.clearance(np.array([[0.3, 2.0], [1.2, 2.0], [-1.0, 2.0]])), [0.3, 0.3, -1.0])


def test_furniture_against_walls_faces_the_room_and_never_overlaps():
    rng = np.random.default_rng(7)
    plan = FloorPlan(6.0, 5.0, 2.7)
    placed = [p for _ in range(12) if (p := plan.place_against_wall(rng, (0.6, 1.2, 1.0))) is not None]
    assert len(placed) >= 6
    for placement, footprint in zip(placed, plan.footprints, strict=True):
        ahead = np.array([[placement.x + 0.5 * math.cos(placement.yaw), placement.y + 0.5 * math.sin(placement.yaw)]])
        centre = np.array([[placement.x, placement.y]])
        empty = FloorPlan(6.0, 5.0, 2.7)
        assert empty.clearance(ahead)[0] > empty.clearance(centre)[0]  # the front looks away from the wall
        assert plan.contains(footprint)
    for i, a in enumerate(plan.footprints):
        assert not any(a.overlaps(b) for b in plan.footprints[i + 1 :])


def test_nothing_tall_stands_before_a_window_and_nothing_before_a_door():
    rng = np.random.default_rng(11)
    for _ in range(20):
        plan = FloorPlan(5.0, 4.5, 2.7)
        door = plan.add_door(rng, 1.0, 2.1)
        window = plan.add_opening(rng, 2.0, 0.8, 2.0)
        assert door is not None
        assert window is not None
        for _ in range(8):
            plan.place_against_wall(rng, (0.5, 1.0, 1.9))
        x, y = plan.on_wall(window.wall, (window.s_min + window.s_max) / 2, 0.2)
        assert all(f.distance_to(np.array([[x, y]]))[0] > 0 for f in plan.footprints)
        assert not any(f.overlaps(clear) for f in plan.footprints for clear in plan.keep_clear)


def test_a_full_room_refuses_instead_of_overlapping():
    plan = FloorPlan(4.0, 4.0, 2.5)
    assert plan.place_in_middle(np.random.default_rng(0), (5.0, 1.0, 1.0)) is None
    assert plan.footprints == []


def test_a_chair_looks_at_its_table():
    rng = np.random.default_rng(5)
    plan = FloorPlan(6.0, 6.0, 2.5, footprints=[Footprint(3.0, 3.0, 0.4, 1.6, 0.9)])
    for side in range(4):
        chair = plan.place_facing(rng, plan.footprints[0], side, (0.5, 0.5, 0.9), (0.05, 0.1))
        assert chair is not None
        to_table = math.atan2(3.0 - chair.y, 3.0 - chair.x)
        # 0.6 rad: four standard deviations of the random turn of 0.15 rad
        assert abs(math.remainder(chair.yaw - to_table, 2 * math.pi)) < 0.6


def test_things_on_a_top_stay_on_it_and_apart():
    rng = np.random.default_rng(2)
    plan, table, taken = FloorPlan(5.0, 5.0, 2.5), Footprint(2.0, 2.0, 0.7, 1.4, 0.8), []
    for _ in range(6):
        plan.place_on_top(rng, table, 0.75, (0.2, 0.2, 0.3), taken)
    assert len(taken) >= 3
    for i, item in enumerate(taken):
        assert table.distance_to(np.array([[item.x, item.y]]))[0] == 0
        assert not any(item.overlaps(other) for other in taken[i + 1 :])


@pytest.mark.parametrize("holes", [[], [(1.0, 2.0, 0.8, 2.0)], [(0.5, 1.5, 0.8, 2.0), (2.0, 3.5, 0.9, 1.9)]])
def test_wall_panels_cover_the_wall_without_its_windows(holes):
    panels = wall_panels(4.0, 2.5, holes)
    area = sum((s1 - s0) * (z1 - z0) for s0, s1, z0, z1 in panels)
    windows = sum((s1 - s0) * (z1 - z0) for s0, s1, z0, z1 in holes)
    assert area == pytest.approx(4.0 * 2.5 - windows)
    for s0, s1, z0, z1 in holes:
        middle = ((s0 + s1) / 2, (z0 + z1) / 2)
        assert not any(a < middle[0] < b and c < middle[1] < d for a, b, c, d in panels)


def test_walls_are_addressed_from_inside_the_room():
    plan = FloorPlan(6.0, 5.0, 2.5)
    assert plan.on_wall(EAST, 1.0, 0.2) == (5.8, 1.0)
    assert INWARD_YAW[EAST] == math.pi


def test_the_same_seed_gives_the_same_room():
    def room(seed: int) -> FloorPlan:
        rng = np.random.default_rng(seed)
        plan = FloorPlan.draw(rng)
        for _ in range(5):
            plan.place_against_wall(rng, (0.6, 1.0, 1.0))
        return plan

    assert room(4) == room(4)
    assert room(4) != room(5)
