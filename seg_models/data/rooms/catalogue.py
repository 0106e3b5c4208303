"""What can stand in a room: the kinds of assets, the class each belongs to, and how a room's list is drawn.

The factories are infinigen's; each makes a new shape and new materials from a seed. All of them face local +x.
Left out for their cost: beds (65 s each) and plants (3-46 s each).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class AssetKind:
    """One kind of asset.

    `size_m` bounds (length along local x, width along local y, height): a longer asset is scaled down evenly to fit.
    `scale` is a range an asset is scaled by first, to bring the factories' large appliances to household size.
    """

    name: str
    class_name: str
    module: str
    factory: str
    size_m: tuple[float, float, float]
    scale: tuple[float, float] = (1.0, 1.0)


_OBJECTS = "infinigen.assets.objects."
KINDS = {
    kind.name: kind
    for kind in (
        AssetKind("chair", "chair", _OBJECTS + "seating.chairs", "ChairFactory", (0.8, 0.8, 1.3)),
        AssetKind("bar_chair", "chair", _OBJECTS + "seating.chairs", "BarChairFactory", (0.7, 0.7, 1.2)),
        AssetKind("office_chair", "chair", _OBJECTS + "seating.chairs", "OfficeChairFactory", (0.8, 0.8, 1.35)),
        AssetKind("sofa", "sofa", _OBJECTS + "seating", "SofaFactory", (1.7, 2.6, 1.1)),
        AssetKind("armchair", "sofa", _OBJECTS + "seating", "ArmChairFactory", (1.2, 1.2, 1.0)),
        AssetKind("dining_table", "table", _OBJECTS + "tables", "TableDiningFactory", (2.4, 1.2, 0.9)),
        AssetKind("coffee_table", "table", _OBJECTS + "tables", "CoffeeTableFactory", (1.4, 1.0, 0.5)),
        AssetKind("side_table", "table", _OBJECTS + "tables", "SideTableFactory", (0.7, 0.7, 0.7)),
        AssetKind("desk", "table", _OBJECTS + "shelves", "SimpleDeskFactory", (0.9, 1.6, 0.85)),
        AssetKind("bookcase", "shelf", _OBJECTS + "shelves", "SimpleBookcaseFactory", (0.5, 1.2, 2.0), (1.0, 1.5)),
        AssetKind("cell_shelf", "shelf", _OBJECTS + "shelves", "CellShelfFactory", (0.5, 2.0, 2.0)),
        AssetKind("large_shelf", "shelf", _OBJECTS + "shelves", "LargeShelfFactory", (0.5, 1.8, 2.1), (1.0, 1.3)),
        AssetKind("tv_stand", "shelf", _OBJECTS + "shelves", "TVStandFactory", (0.5, 1.9, 0.7)),
        AssetKind("cabinet", "cabinet", _OBJECTS + "shelves", "SingleCabinetFactory", (0.7, 1.2, 2.1), (1.0, 1.4)),
        AssetKind("kitchen_cabinet", "cabinet", _OBJECTS + "shelves", "KitchenCabinetFactory", (0.7, 2.2, 1.0)),
        AssetKind("floor_lamp", "lamp", _OBJECTS + "lamp", "FloorLampFactory", (0.6, 0.6, 1.9)),
        AssetKind("desk_lamp", "lamp", _OBJECTS + "lamp", "DeskLampFactory", (0.45, 0.45, 0.6)),
        AssetKind("ceiling_light", "lamp", _OBJECTS + "lamp", "CeilingLightFactory", (0.8, 0.8, 0.3)),
        AssetKind("pendant_lamp", "lamp", _OBJECTS + "lamp", "CeilingClassicLampFactory", (0.8, 0.8, 0.9)),
        AssetKind("monitor", "monitor", _OBJECTS + "appliances", "MonitorFactory", (0.4, 0.8, 0.7)),
        AssetKind("tv", "monitor", _OBJECTS + "appliances", "TVFactory", (0.5, 1.5, 1.1)),
        AssetKind("microwave", "appliance", _OBJECTS + "appliances", "MicrowaveFactory", (0.6, 0.8, 0.45), (0.6, 0.8)),
        AssetKind(
            "dishwasher", "appliance", _OBJECTS + "appliances", "DishwasherFactory", (0.9, 0.9, 1.1), (0.65, 0.9)
        ),
        AssetKind("fridge", "appliance", _OBJECTS + "appliances", "BeverageFridgeFactory", (1.0, 1.0, 1.5), (0.7, 1.0)),
        AssetKind("oven", "appliance", _OBJECTS + "appliances", "OvenFactory", (0.9, 0.9, 1.3), (0.65, 0.9)),
        AssetKind("toilet", "toilet", _OBJECTS + "bathroom", "ToiletFactory", (0.8, 0.6, 1.0)),
        AssetKind("rug", "rug", _OBJECTS + "elements", "RugFactory", (3.6, 2.8, 0.03)),
        AssetKind("panel_door", "door", _OBJECTS + "elements", "PanelDoorFactory", (0.4, 2.0, 2.3)),
        AssetKind("lite_door", "door", _OBJECTS + "elements", "LiteDoorFactory", (0.4, 2.0, 2.3)),
        AssetKind("louver_door", "door", _OBJECTS + "elements", "LouverDoorFactory", (0.4, 2.0, 2.3)),
        AssetKind("window", "window", _OBJECTS + "windows", "WindowFactory", (0.5, 3.0, 2.0)),
        AssetKind("picture", "object", _OBJECTS + "wall_decorations", "WallArtFactory", (0.1, 1.2, 1.0)),
        AssetKind("bowl", "object", _OBJECTS + "tableware", "BowlFactory", (0.4, 0.4, 0.3)),
        AssetKind("cup", "object", _OBJECTS + "tableware", "CupFactory", (0.2, 0.2, 0.25)),
        AssetKind("pot", "object", _OBJECTS + "tableware", "PotFactory", (0.4, 0.4, 0.3)),
        AssetKind("bottle", "object", _OBJECTS + "tableware", "BottleFactory", (0.15, 0.15, 0.4)),
        AssetKind("jar", "object", _OBJECTS + "tableware", "JarFactory", (0.2, 0.2, 0.3)),
        AssetKind("vase", "object", _OBJECTS + "table_decorations", "VaseFactory", (0.35, 0.35, 0.6), (1.0, 1.6)),
        AssetKind("books", "object", _OBJECTS + "table_decorations", "BookStackFactory", (0.4, 0.4, 0.5)),
        AssetKind("book_column", "object", _OBJECTS + "table_decorations", "BookColumnFactory", (0.4, 0.4, 0.4)),
    )
}

ORNAMENTS = ("bowl", "cup", "pot", "bottle", "jar", "vase", "books", "book_column")
_ORNAMENT_WEIGHTS = np.array([2, 1, 2, 1, 2, 3, 3, 1], float)
DOORS = ("panel_door", "lite_door", "louver_door")


@dataclass(frozen=True)
class Furnishing:
    """The list of assets of one room, by how each is placed; every entry is the name of an `AssetKind`."""

    door: str
    second_door: str | None
    windows: int
    against_wall: tuple[str, ...]
    middle: tuple[str, ...]
    rugs: int
    floor_lamps: int
    ceiling: tuple[str, ...]
    pictures: int


def draw_furnishing(rng: np.random.Generator, rich: bool = False) -> Furnishing:
    """Draw what stands in a room.

    Args:
        rng: the room's generator.
        rich: take one of nearly everything, so that a single room shows most classes (used for demo trajectories).
    """

    def maybe(kind: str, probability: float) -> list[str]:
        return [kind] if rich or rng.random() < probability else []

    wall = maybe("sofa", 0.85) + maybe("desk", 0.6) + maybe(str(rng.choice(["large_shelf", "bookcase"])), 0.65)
    wall += maybe(str(rng.choice(["cabinet", "kitchen_cabinet"])), 0.65) + maybe("tv_stand", 0.4)
    wall += maybe(str(rng.choice(["fridge", "dishwasher"])), 0.5) + maybe("oven", 0.4)
    wall += maybe("toilet", 0.35) + maybe("cell_shelf", 0.25)
    wall = [wall[i] for i in rng.permutation(len(wall))]
    middle = maybe("dining_table", 0.65) + maybe("coffee_table", 0.6) + maybe("armchair", 0.5)
    middle += (
        maybe("bar_chair", 0.3) + maybe("side_table", 0.3) + maybe(str(rng.choice(["chair", "office_chair"])), 0.6)
    )
    return Furnishing(
        door=str(rng.choice(DOORS)),
        second_door=str(rng.choice(DOORS)) if rng.random() < 0.35 else None,
        windows=int(rng.integers(1, 3)),
        against_wall=tuple(wall),
        middle=tuple(middle),
        rugs=1 if rich else int(rng.choice([0, 1, 2], p=[0.25, 0.6, 0.15])),
        floor_lamps=1 if rich else int(rng.choice([0, 1, 2], p=[0.3, 0.5, 0.2])),
        ceiling=tuple(maybe(str(rng.choice(["ceiling_light", "pendant_lamp"])), 0.45)),
        pictures=int(rng.integers(0, 3)),
    )


def draw_ornament(rng: np.random.Generator) -> str:
    """Name of a small asset that stands on a table, a desk or a low cabinet."""
    return str(rng.choice(ORNAMENTS, p=_ORNAMENT_WEIGHTS / _ORNAMENT_WEIGHTS.sum()))
