"""Builds a furnished room from its number. Needs bpy: imported by the worker only."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import bpy
import numpy as np

from seg_models.data.rooms import variety
from seg_models.data.rooms.assets import Asset, hang_from_ceiling, make_asset
from seg_models.data.rooms.catalogue import Furnishing, draw_furnishing, draw_ornament
from seg_models.data.rooms.floor_plan import INWARD_YAW, FloorPlan, Footprint, Placement
from seg_models.data.rooms.shell import add_lights, build_shell

LOW_TOP_M = 1.3  # things are put on tops lower than this


class RoomBuilder:
    """Furnishes one room; every choice is drawn from the room's own generator."""

    def __init__(self, room: int, rich: bool, varied: bool) -> None:
        self.rng = np.random.default_rng([room, 0])
        self.rich, self.varied = rich, varied
        self.plan = FloorPlan.draw(self.rng, large=rich)
        self.furnishing: Furnishing = draw_furnishing(self.rng, rich)

    def build(self) -> FloorPlan:
        for obj in list(bpy.data.objects):
            bpy.data.objects.remove(obj, do_unlink=True)
        build_shell(self.plan, self.furnishing, self.rng, self.varied)
        for kind in self.furnishing.against_wall:
            self._against_wall(kind)
        for kind in self.furnishing.middle:
            self._in_middle(kind)
        for _ in range(self.furnishing.floor_lamps):
            self._stand(self._make("floor_lamp"), self.plan.place_against_wall, margin=0.03)
        self._rugs()
        self._ceiling_lamps()
        self._pictures()
        if self.varied:
            self._clutter()
        add_lights(self.plan, self.rng, self.varied)
        return self.plan

    def _make(self, kind: str, fit_m: tuple[float, float, float] | None = None) -> Asset:
        seed = int(self.rng.integers(2**31))
        if self.varied and kind in ("monitor", "tv") and seed % 10 < 6:
            return variety.screen(np.random.default_rng(seed), fit_m)
        return self._from_seed(kind, seed, fit_m)

    def _from_seed(self, kind: str, seed: int, fit_m: tuple[float, float, float] | None = None) -> Asset:
        asset = make_asset(kind, seed, fit_m=fit_m)
        if self.varied:
            variety.repaint(asset, seed)
        return asset

    def _stand(self, asset: Asset, place: Callable[..., Placement | None], **options: float) -> Footprint | None:
        """Place an asset with one of the plan's methods; it is removed again where nothing is free."""
        placement = place(self.rng, asset.size_m, **options)
        if placement is None:
            asset.remove()
            return None
        asset.stand(placement)
        return self.plan.footprints[-1]

    def _against_wall(self, kind: str) -> None:
        asset = self._make(kind)
        footprint = self._stand(asset, self.plan.place_against_wall)
        if footprint is None:
            return
        top = asset.size_m[2]
        if kind == "desk":
            self._chairs(footprint, [(0, 0.0)], ("office_chair", "chair"))
            taken = self._top(footprint, top, ["monitor"], facing=True)
            self._ornaments(footprint, top, taken, 3, extra=("desk_lamp",))
        elif kind == "tv_stand":
            taken = self._top(footprint, top, ["tv"], facing=True)
            self._ornaments(footprint, top, taken, 1)
        elif kind == "kitchen_cabinet":
            taken = self._top(footprint, top, ["microwave"], facing=True)
            self._ornaments(footprint, top, taken, 3)
        elif kind == "sofa":
            if self.rich or self.rng.random() < 0.5:
                self._facing(footprint, 0, "coffee_table", (0.35, 0.6))
            if self.rng.random() < 0.4:
                self._facing(footprint, int(self.rng.choice([1, 3])), "side_table", (0.05, 0.15))
        elif top < LOW_TOP_M and kind in ("cabinet", "bookcase", "cell_shelf", "large_shelf", "dishwasher", "fridge"):
            self._ornaments(footprint, top, [], 2)

    def _in_middle(self, kind: str) -> None:
        asset = self._make(kind)
        footprint = self._stand(asset, self.plan.place_in_middle)
        if footprint is None:
            return
        if kind == "dining_table":
            shift = 0.22 * footprint.length
            seats = [(1, -shift), (1, shift), (3, -shift), (3, shift), (0, 0.0), (2, 0.0)]
            self._chairs(footprint, [s for s in seats if self.rng.random() < 0.65], ("chair", "chair", "bar_chair"))
        if kind in ("dining_table", "coffee_table", "side_table"):
            lamp = ("desk_lamp",) if kind == "side_table" else ()
            self._ornaments(footprint, asset.size_m[2], [], 4 if kind == "dining_table" else 2, extra=lamp)

    def _facing(self, target: Footprint, side: int, kind: str, gap: tuple[float, float]) -> None:
        asset = self._make(kind)
        placement = self.plan.place_facing(self.rng, target, side, asset.size_m, gap)
        if placement is None:
            asset.remove()
            return
        asset.stand(placement)
        self._ornaments(self.plan.footprints[-1], asset.size_m[2], [], 2)

    def _chairs(self, table: Footprint, seats: list[tuple[int, float]], kinds: tuple[str, ...]) -> None:
        """Chairs of one kind at `seats` (side of the table, shift along it)."""
        kind = str(self.rng.choice(kinds))
        seed = int(self.rng.integers(2**31))
        for side, along in seats:
            chair = self._from_seed(kind, seed)
            placement = self.plan.place_facing(self.rng, table, side, chair.size_m, (0.02, 0.25), along)
            if placement is None:
                chair.remove()
            else:
                chair.stand(placement)

    def _top(self, support: Footprint, z: float, kinds: list[str], facing: bool = False) -> list[Footprint]:
        """Stand assets on a top; with `facing` they look where the furniture looks. Returns what they take up."""
        taken: list[Footprint] = []
        for kind in kinds:
            fit = (0.85 * support.length, 0.8 * support.width, 2.0)
            asset = self._make(kind, fit_m=fit)
            yaw = support.yaw + float(self.rng.normal(0, 0.12)) if facing else None
            placement = self.plan.place_on_top(self.rng, support, z, asset.size_m, taken, yaw)
            if placement is None:
                asset.remove()
            else:
                asset.stand(placement)
        return taken

    def _ornaments(
        self, support: Footprint, z: float, taken: list[Footprint], most: int, extra: tuple[str, ...] = ()
    ) -> None:
        kinds = [draw_ornament(self.rng) for _ in range(int(self.rng.integers(0 if not self.rich else 1, most + 1)))]
        kinds += [kind for kind in extra if self.rich or self.rng.random() < 0.6]
        for kind in kinds:
            asset = self._make(kind)
            placement = self.plan.place_on_top(self.rng, support, z, asset.size_m, taken)
            if placement is None:
                asset.remove()
            else:
                asset.stand(placement)

    def _rugs(self) -> None:
        placed: list[Footprint] = []
        for _ in range(self.furnishing.rugs):
            fit = (self.plan.width * 0.75, self.plan.depth * 0.75, 0.03)
            rug = self._make("rug", fit_m=fit)
            for _ in range(30):
                x, y = self.rng.uniform(0, 1, 2) * (self.plan.width, self.plan.depth)
                yaw = float(self.rng.choice([0.0, math.pi / 2]))
                footprint = Footprint(float(x), float(y), yaw, rug.size_m[0], rug.size_m[1])
                if self.plan.contains(footprint, 0.1) and not any(footprint.overlaps(p) for p in placed):
                    placed.append(footprint)
                    rug.stand(Placement(footprint.x, footprint.y, 0.001, yaw))
                    break
            else:
                rug.remove()

    def _ceiling_lamps(self) -> None:
        for kind in self.furnishing.ceiling:
            x, y = self.rng.uniform(0.35, 0.65, 2) * (self.plan.width, self.plan.depth)
            hang_from_ceiling(self._make(kind), float(x), float(y), self.plan.height)

    def _pictures(self) -> None:
        """Pictures at eye height, clear of doors, windows and each other."""
        for picture in self._hangings():
            depth, width, height = picture.size_m
            middle = float(self.rng.uniform(1.45, 1.7))
            low = middle - height / 2
            opening = self.plan.add_opening(self.rng, width, low, low + height)
            if opening is None:
                picture.remove()
                continue
            x, y = self.plan.on_wall(opening.wall, (opening.s_min + opening.s_max) / 2, depth / 2 + 0.004)
            picture.stand(Placement(x, y, low, INWARD_YAW[opening.wall]))

    def _hangings(self) -> Iterator[Asset]:
        """What hangs on the walls, each made when the one before it hangs."""
        for _ in range(self.furnishing.pictures):
            yield self._make("picture")
        if self.varied and self.rng.random() < 0.4:
            yield variety.screen(self.rng, None, on_wall=True)

    def _clutter(self) -> None:
        """Things on the floor, and on tables and low furniture."""
        for _ in range(int(self.rng.integers(0, 7))):
            thing = variety.clutter(self.rng)
            place = self.plan.place_in_middle if self.rng.random() < 0.4 else self.plan.place_against_wall
            self._stand(thing, place, margin=0.02)


def build_room(room: int, rich: bool = False, varied: bool = False) -> FloorPlan:
    """Fill the Blender scene with the room of that number.

    Args:
        room: the room's number, which is its seed.
        rich: a larger room with one of nearly everything.
        varied: with what `variety.py` adds; another room than the one of that number without it.

    Returns:
        The room's plan, with the footprints of what stands in it.
    """
    return RoomBuilder(room, rich, varied).build()
