"""Where things stand: a rectangular room, its doors and windows, and furniture that does not overlap.

World frame: x east, y north, z up, metres; the floor spans [0, width] x [0, depth]. Walls are numbered 0 south (y = 0),
1 east (x = width), 2 north (y = depth), 3 west (x = 0). `s` runs along a wall: x on walls 0 and 2, y on walls 1 and 3.
A yaw of 0 makes an asset's front (its local +x) look east.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

SOUTH, EAST, NORTH, WEST = range(4)
INWARD_YAW = (math.pi / 2, math.pi, -math.pi / 2, 0.0)


Panel = tuple[float, float, float, float]  # (s_min, s_max, z_min, z_max) on a wall, m


@dataclass(frozen=True)
class Placement:
    """Pose of an asset's footprint centre (m, rad); z is the height of its underside."""

    x: float
    y: float
    z: float
    yaw: float


@dataclass(frozen=True)
class Footprint:
    """Turned rectangle on the floor: `length` along its local x, `width` along its local y (m)."""

    x: float
    y: float
    yaw: float
    length: float
    width: float

    def corners(self) -> np.ndarray:
        """float [4, 2], counter-clockwise."""
        c, s = math.cos(self.yaw), math.sin(self.yaw)
        local = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * (self.length / 2, self.width / 2)  # (4, 2)
        return local @ np.array([[c, s], [-s, c]]) + (self.x, self.y)

    def grown(self, margin: float) -> Footprint:
        return Footprint(self.x, self.y, self.yaw, self.length + 2 * margin, self.width + 2 * margin)

    def overlaps(self, other: Footprint) -> bool:
        """Separating-axis test of two turned rectangles; touching counts as apart."""
        a, b = self.corners(), other.corners()
        for yaw in (self.yaw, self.yaw + math.pi / 2, other.yaw, other.yaw + math.pi / 2):
            axis = np.array([math.cos(yaw), math.sin(yaw)])
            pa, pb = a @ axis, b @ axis
            if pa.max() <= pb.min() or pb.max() <= pa.min():
                return False
        return True

    def distance_to(self, points: np.ndarray) -> np.ndarray:
        """Distance (m) of points [N, 2] to the rectangle; 0 inside it."""
        c, s = math.cos(self.yaw), math.sin(self.yaw)
        local = (points - (self.x, self.y)) @ np.array([[c, -s], [s, c]])  # (N, 2)
        outside = np.maximum(np.abs(local) - (self.length / 2, self.width / 2), 0.0)
        return np.hypot(outside[:, 0], outside[:, 1])


@dataclass(frozen=True)
class Opening:
    """A door or a window in a wall: its span along the wall and in height (m)."""

    wall: int
    s_min: float
    s_max: float
    z_min: float
    z_max: float


@dataclass
class FloorPlan:
    """Size of a room and what has been placed in it so far."""

    width: float
    depth: float
    height: float
    openings: list[Opening] = field(default_factory=list)
    footprints: list[Footprint] = field(default_factory=list)
    keep_clear: list[Footprint] = field(default_factory=list)  # in front of doors

    @staticmethod
    def draw(rng: np.random.Generator, large: bool = False) -> FloorPlan:
        """Draw the size of a room: 4-7 m by 4-6.5 m (5.5-7.5 by 5-6.5 if `large`), 2.5-3.1 m high."""
        low = (5.5, 5.0) if large else (4.0, 4.0)
        return FloorPlan(
            float(rng.uniform(low[0], 7.5 if large else 7.0)),
            float(rng.uniform(low[1], 6.5)),
            float(rng.uniform(2.5, 3.1)),
        )

    def wall_length(self, wall: int) -> float:
        return self.width if wall in (SOUTH, NORTH) else self.depth

    def on_wall(self, wall: int, s: float, distance: float) -> tuple[float, float]:
        """World (x, y) of a point `s` along a wall and `distance` into the room."""
        return {
            SOUTH: (s, distance),
            EAST: (self.width - distance, s),
            NORTH: (s, self.depth - distance),
            WEST: (distance, s),
        }[wall]

    def add_opening(
        self, rng: np.random.Generator, width: float, z_min: float, z_max: float, margin: float = 0.15
    ) -> Opening | None:
        """Find room for a door or a window on a wall, apart from the others; None if there is none."""
        for _ in range(40):
            wall = int(rng.integers(4))
            free = self.wall_length(wall) - width - 2 * margin
            if free <= 0:
                continue
            s_min = margin + float(rng.uniform(0, free))
            s_max = s_min + width
            if any(o.wall == wall and s_min < o.s_max + margin and o.s_min < s_max + margin for o in self.openings):
                continue
            opening = Opening(wall, s_min, s_max, z_min, z_max)
            self.openings.append(opening)
            return opening
        return None

    def add_door(self, rng: np.random.Generator, width: float, height: float) -> Opening | None:
        """Find room for a door and keep 0.9 m in front of it clear."""
        opening = self.add_opening(rng, width, 0.0, height)
        if opening is not None:
            x, y = self.on_wall(opening.wall, (opening.s_min + opening.s_max) / 2, 0.45)
            self.keep_clear.append(Footprint(x, y, INWARD_YAW[opening.wall], 0.9, width))
        return opening

    def contains(self, footprint: Footprint, margin: float = 0.0) -> bool:
        corners = footprint.corners()
        low, high = margin - 1e-9, np.array([self.width, self.depth]) - margin + 1e-9
        return bool((corners >= low).all() and (corners <= high).all())

    def is_free(self, footprint: Footprint, margin: float) -> bool:
        """Whether a footprint lies in the room, clear of doors and `margin` (m) away from everything placed."""
        if not self.contains(footprint):
            return False
        grown = footprint.grown(margin)
        return not any(grown.overlaps(other) for other in self.footprints + self.keep_clear)

    def hides_opening(self, wall: int, s_min: float, s_max: float, height: float) -> bool:
        """Whether something `height` tall against a wall would stand in front of a door or a window there."""
        return any(o.wall == wall and s_min < o.s_max and o.s_min < s_max and height > o.z_min for o in self.openings)

    def place_against_wall(
        self, rng: np.random.Generator, size: tuple[float, float, float], margin: float = 0.08
    ) -> Placement | None:
        """Stand an asset with its back 2-6 cm from a wall; reserves its footprint. None if no free spot was found."""
        length, width, height = size
        for _ in range(60):
            wall = int(rng.integers(4))
            free = self.wall_length(wall) - width - 0.1
            if free <= 0:
                continue
            s = 0.05 + width / 2 + float(rng.uniform(0, free))
            gap = float(rng.uniform(0.02, 0.06))
            if self.hides_opening(wall, s - width / 2, s + width / 2, height):
                continue
            x, y = self.on_wall(wall, s, gap + length / 2)
            footprint = Footprint(x, y, INWARD_YAW[wall], length, width)
            if self.is_free(footprint, margin):
                self.footprints.append(footprint)
                return Placement(x, y, 0.0, INWARD_YAW[wall])
        return None

    def place_in_middle(
        self, rng: np.random.Generator, size: tuple[float, float, float], margin: float = 0.3, wall_gap: float = 0.5
    ) -> Placement | None:
        """Stand an asset away from the walls at any yaw; reserves its footprint. None if no free spot was found."""
        length, width, _ = size
        for _ in range(80):
            yaw = float(rng.choice([0.0, math.pi / 2, math.pi, -math.pi / 2]) + rng.normal(0, 0.12))
            x, y = float(rng.uniform(0, self.width)), float(rng.uniform(0, self.depth))
            footprint = Footprint(x, y, yaw, length, width)
            if self.contains(footprint, wall_gap) and self.is_free(footprint, margin):
                self.footprints.append(footprint)
                return Placement(x, y, 0.0, yaw)
        return None

    def place_facing(
        self,
        rng: np.random.Generator,
        target: Footprint,
        side: int,
        size: tuple[float, float, float],
        gap: tuple[float, float],
        along: float = 0.0,
    ) -> Placement | None:
        """Stand an asset beside `target`, looking at it.

        Args:
            rng: the room's generator.
            target: what it looks at (a table, a desk, a sofa).
            side: 0 = at the target's front (local +x), then counter-clockwise 1 (+y), 2 (-x), 3 (-y).
            size: length, width and height of the asset (m).
            gap: range of the clear distance between the two (m); negative pushes a chair under its table.
            along: shift along that side (m).

        Returns:
            The placement, or None where the spot is taken or outside the room.
        """
        outward = target.yaw + side * math.pi / 2
        reach = (target.length if side % 2 == 0 else target.width) / 2 + size[0] / 2 + float(rng.uniform(*gap))
        c, s = math.cos(outward), math.sin(outward)
        x, y = target.x + c * reach - s * along, target.y + s * reach + c * along
        yaw = outward + math.pi + float(rng.normal(0, 0.15))
        footprint = Footprint(x, y, yaw, size[0], size[1])
        others = [f for f in self.footprints if f != target]
        if not self.contains(footprint, 0.02) or any(
            footprint.grown(0.05).overlaps(f) for f in others + self.keep_clear
        ):
            return None
        self.footprints.append(footprint)
        return Placement(x, y, 0.0, yaw)

    def place_on_top(
        self,
        rng: np.random.Generator,
        support: Footprint,
        z: float,
        size: tuple[float, float, float],
        taken: list[Footprint],
        yaw: float | None = None,
        margin: float = 0.03,
    ) -> Placement | None:
        """Stand an asset on a flat top (`support` at height `z`) apart from what is there; appended to `taken`."""
        inner_length, inner_width = 0.9 * support.length - size[0], 0.9 * support.width - size[1]
        if inner_length <= 0 or inner_width <= 0:
            return None
        for _ in range(20):
            u, v = (rng.random(2) - 0.5) * (inner_length, inner_width)
            c, s = math.cos(support.yaw), math.sin(support.yaw)
            turn = float(rng.uniform(-math.pi, math.pi)) if yaw is None else yaw
            footprint = Footprint(support.x + c * u - s * v, support.y + s * u + c * v, turn, size[0], size[1])
            if not any(footprint.grown(margin).overlaps(other) for other in taken):
                taken.append(footprint)
                return Placement(footprint.x, footprint.y, z, turn)
        return None

    def clearance(self, points: np.ndarray) -> np.ndarray:
        """Distance (m) of points [N, 2] to the nearest wall or furniture; negative outside the room."""
        walls = np.minimum(
            np.minimum(points[:, 0], self.width - points[:, 0]), np.minimum(points[:, 1], self.depth - points[:, 1])
        )
        for footprint in self.footprints:
            walls = np.minimum(walls, footprint.distance_to(points))
        return walls


def wall_panels(length: float, height: float, holes: list[Panel]) -> list[Panel]:
    """Cut a wall into rectangles around its windows.

    Args:
        length: of the wall (m).
        height: of the wall (m).
        holes: (s_min, s_max, z_min, z_max) of each window.

    Returns:
        Rectangles (s_min, s_max, z_min, z_max) that cover the wall without the holes and without overlap.
    """
    s_cuts = sorted({0.0, length, *(v for h in holes for v in h[:2])})
    z_cuts = sorted({0.0, height, *(v for h in holes for v in h[2:])})
    panels = []
    for s0, s1 in pairwise(s_cuts):
        for z0, z1 in pairwise(z_cuts):
            s, z = (s0 + s1) / 2, (z0 + z1) / 2
            if not any(h[0] < s < h[1] and h[2] < z < h[3] for h in holes):
                panels.append((s0, s1, z0, z1))
    return panels
