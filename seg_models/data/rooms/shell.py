"""Builds the empty room: floor, walls with window openings, skirting, ceiling, doors, windows and lights.

Needs bpy: imported by the worker only.
"""

from __future__ import annotations

import math

import bpy
import numpy as np

from seg_models.data.rooms import materials, variety
from seg_models.data.rooms.assets import FACING_EAST, main_front_plane, make_asset
from seg_models.data.rooms.catalogue import Furnishing
from seg_models.data.rooms.classes import object_index
from seg_models.data.rooms.floor_plan import INWARD_YAW, SOUTH, WEST, FloorPlan, Opening, Panel, Placement, wall_panels

WALL_THICKNESS_M = 0.12
OPEN_DOORS, FLAT_DOORS = 0.3, 0.4  # shares of the doors of a varied room; the rest are the asset factories'


def _mesh(name: str, class_name: str, quads: list[np.ndarray], material: bpy.types.Material) -> bpy.types.Object:
    """Object made of separate quads (each float [4, 3], counter-clockwise seen from inside the room)."""
    vertices = np.concatenate(quads)
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata(vertices.tolist(), [], [list(range(4 * i, 4 * i + 4)) for i in range(len(quads))])
    mesh.materials.append(material)
    obj = bpy.data.objects.new(name, mesh)
    obj.pass_index = object_index(class_name)
    bpy.context.scene.collection.objects.link(obj)
    return obj


def _wall_quad(plan: FloorPlan, wall: int, panel: Panel, distance: float = 0.0) -> np.ndarray:
    s0, s1, z0, z1 = panel
    (x0, y0), (x1, y1) = plan.on_wall(wall, s0, distance), plan.on_wall(wall, s1, distance)
    quad = np.array([[x0, y0, z0], [x1, y1, z0], [x1, y1, z1], [x0, y0, z1]])
    return quad if wall not in (SOUTH, WEST) else quad[::-1]


def _reveal_quads(plan: FloorPlan, hole: Opening) -> list[np.ndarray]:
    """The four faces of an opening through the thickness of its wall, the lower one first."""
    corners = [(hole.s_min, hole.z_min), (hole.s_max, hole.z_min), (hole.s_max, hole.z_max), (hole.s_min, hole.z_max)]
    quads = []
    for (sa, za), (sb, zb) in zip(corners, corners[1:] + corners[:1], strict=True):
        ax, ay = plan.on_wall(hole.wall, sa, 0.0)
        bx, by = plan.on_wall(hole.wall, sb, 0.0)
        cx, cy = plan.on_wall(hole.wall, sb, -WALL_THICKNESS_M)
        dx, dy = plan.on_wall(hole.wall, sa, -WALL_THICKNESS_M)
        quads.append(np.array([[ax, ay, za], [bx, by, zb], [cx, cy, zb], [dx, dy, za]]))
    return quads


def _skirting(plan: FloorPlan, rng: np.random.Generator, material: bpy.types.Material) -> None:
    """Skirting boards along every wall, broken at the doors."""
    height, depth = float(rng.uniform(0.05, 0.12)), 0.012
    quads = []
    for wall in range(4):
        doors = sorted((o.s_min, o.s_max) for o in plan.openings if o.wall == wall and o.z_min == 0.0)
        cuts = [0.0, *(v for span in doors for v in span), plan.wall_length(wall)]
        for s0, s1 in zip(cuts[::2], cuts[1::2], strict=True):
            quads.append(_wall_quad(plan, wall, (s0, s1, 0.0, height), depth))
            (ax, ay), (bx, by) = plan.on_wall(wall, s0, depth), plan.on_wall(wall, s1, depth)
            (cx, cy), (dx, dy) = plan.on_wall(wall, s1, 0.0), plan.on_wall(wall, s0, 0.0)
            quads.append(np.array([[ax, ay, height], [bx, by, height], [cx, cy, height], [dx, dy, height]]))
    _mesh("skirting", "wall", quads, material)


def _stand_door(plan: FloorPlan, rng: np.random.Generator, kind: str, flat: bool = False) -> None:
    """A closed door: the slab is let into the wall so that its front stands 3 cm proud of it."""
    door = variety.flat_door(rng) if flat else make_asset(kind, int(rng.integers(2**31)), turn=FACING_EAST)
    _, width, height = door.size_m
    opening = plan.add_door(rng, width, height)
    if opening is None:
        door.remove()
        return
    door.stand(Placement(0.0, 0.0, -0.03, 0.0))
    x, y = plan.on_wall(opening.wall, (opening.s_min + opening.s_max) / 2, 0.03 - main_front_plane(door.root))
    door.stand(Placement(x, y, -0.03, INWARD_YAW[opening.wall]))


def open_door(plan: FloorPlan, rng: np.random.Generator) -> list[Opening]:
    """An opening with a frame, a leaf that stands open into the room and a bare passage behind. None where none fits."""
    width, height = float(rng.uniform(0.75, 0.95)), float(rng.uniform(1.95, 2.1))
    opening = plan.add_door(rng, width, height)
    if opening is None:
        return []
    wall, paints = opening.wall, [variety.plain_material(rng) for _ in range(3)]
    x, y = plan.on_wall(wall, (opening.s_min + opening.s_max) / 2, 0.0)
    frame = variety.boxes_asset("panel_door", variety.door_boxes(rng, width, height, leaf=False), paints)
    frame.stand(Placement(x, y, 0.002, INWARD_YAW[wall]))
    # The leaf hangs at one side of the opening: its local y runs from the hinge along the leaf.
    leaf = variety.boxes_asset("panel_door", variety.leaf_boxes(rng, 0.0, width - 0.01, height - 0.01), paints)
    hinge = opening.s_min if rng.random() < 0.5 else opening.s_max
    x, y = plan.on_wall(wall, hinge, 0.03)
    inward, angle = INWARD_YAW[wall], float(rng.uniform(0.6, 1.5))  # of the leaf from the wall, rad
    (ax, ay), (bx, by) = plan.on_wall(wall, 0.0, 0.0), plan.on_wall(wall, 1.0, 0.0)
    along = math.atan2(by - ay, bx - ax) + (0.0 if hinge == opening.s_min else math.pi)
    turn = math.remainder(inward - along, 2 * math.pi)  # +-90 degrees: which way the leaf opens
    leaf.stand(Placement(x, y, 0.006, along + math.copysign(angle, turn) - math.pi / 2))
    _passage(plan, opening, rng)
    return [opening]


def _passage(plan: FloorPlan, door: Opening, rng: np.random.Generator) -> None:
    """Floor, walls and ceiling behind an open door, lit by a lamp of their own or not at all."""
    wall, depth, height = door.wall, float(rng.uniform(1.0, 2.5)), plan.height - 0.05
    s0, s1 = door.s_min - 0.12, door.s_max + 0.12

    def at(s: float, distance: float, z: float) -> list[float]:
        return [*plan.on_wall(wall, s, -distance), z]

    near = WALL_THICKNESS_M
    flat = [[at(s0, near, z), at(s1, near, z), at(s1, depth, z), at(s0, depth, z)] for z in (0.0, height)]
    sill = [
        at(door.s_min, 0.0, 0.0),
        at(door.s_max, 0.0, 0.0),
        at(door.s_max, near, 0.001),
        at(door.s_min, near, 0.001),
    ]
    sides = [[at(s, near, 0), at(s, depth, 0), at(s, depth, height), at(s, near, height)] for s in (s0, s1)]
    end = [at(s0, depth, 0), at(s1, depth, 0), at(s1, depth, height), at(s0, depth, height)]
    _mesh("passage floor", "floor", [np.array(flat[0]), np.array(sill)], materials.floor_covering(rng))
    _mesh("passage ceiling", "ceiling", [np.array(flat[1])], materials.ceiling_paint(rng))
    _mesh("passage walls", "wall", [np.array(quad) for quad in [*sides, end]], materials.wall_paint(rng))
    if rng.random() < 0.7:
        data = bpy.data.lights.new("passage", "POINT")
        data.energy = float(np.exp(rng.uniform(np.log(3), np.log(60))))
        light = bpy.data.objects.new("passage", data)
        light.location = at((s0 + s1) / 2, 0.6 * depth, height - 0.3)
        bpy.context.scene.collection.objects.link(light)


def _stand_window(plan: FloorPlan, rng: np.random.Generator) -> None:
    width, height = float(rng.uniform(0.9, 2.4)), float(rng.uniform(0.9, 1.5))
    sill = float(rng.uniform(0.7, 1.0))
    height = min(height, plan.height - sill - 0.2)
    opening = plan.add_opening(rng, width, sill, sill + height)
    if opening is None:
        return
    window = make_asset(
        "window",
        int(rng.integers(2**31)),
        spawn_options={"dimensions": (width - 0.01, height - 0.01, float(rng.uniform(0.06, 0.1)))},
        turn=FACING_EAST,
    )
    x, y = plan.on_wall(opening.wall, (opening.s_min + opening.s_max) / 2, -0.03)
    window.stand(Placement(x, y, sill + 0.005, INWARD_YAW[opening.wall]))


def _fading_outside(rng: np.random.Generator, daylight: bool) -> bpy.types.Material:
    """A glow that fades from horizon to sky."""
    material = bpy.data.materials.new("outside")
    material.use_nodes = True
    nodes, links = material.node_tree.nodes, material.node_tree.links
    nodes.remove(nodes["Principled BSDF"])
    emission, ramp = nodes.new("ShaderNodeEmission"), nodes.new("ShaderNodeValToRGB")
    coordinates, split = nodes.new("ShaderNodeTexCoord"), nodes.new("ShaderNodeSeparateXYZ")
    low, high = ramp.color_ramp.elements
    ground = rng.uniform(0.2, 0.7, 3) * (0.9, 1.0, 0.8)
    low.color, high.color = (*(float(v) for v in ground), 1.0), (0.62, 0.8, 1.0, 1.0)
    low.position, high.position = float(rng.uniform(0.1, 0.4)), float(rng.uniform(0.45, 0.7))
    emission.inputs["Strength"].default_value = float(rng.uniform(0.8, 3.0) if daylight else rng.uniform(0.005, 0.05))
    links.new(coordinates.outputs["Generated"], split.inputs["Vector"])
    links.new(split.outputs["Z"], ramp.inputs["Fac"])
    links.new(ramp.outputs["Color"], emission.inputs["Color"])
    links.new(emission.outputs["Emission"], nodes["Material Output"].inputs["Surface"])
    return material


def _outside(plan: FloorPlan, hole: Opening, material: bpy.types.Material) -> None:
    """What is seen through a window: a glowing pane behind it, labelled window.

    The window's glass does not stop the renderer's object index, so without it the pixels would have no label.
    """
    panel = (hole.s_min - 0.3, hole.s_max + 0.3, hole.z_min - 0.3, hole.z_max + 0.3)
    _mesh("outside", "window", [_wall_quad(plan, hole.wall, panel, -WALL_THICKNESS_M - 0.05)], material)


def build_shell(plan: FloorPlan, furnishing: Furnishing, rng: np.random.Generator, varied: bool = False) -> None:
    """Build the empty room of a plan; its doors and windows are added to the plan."""
    passages: list[Opening] = []
    for kind in [furnishing.door] + ([furnishing.second_door] if furnishing.second_door is not None else []):
        chance = rng.random() if varied else 1.0
        if chance < OPEN_DOORS:
            passages += open_door(plan, rng)
        else:
            _stand_door(plan, rng, kind, flat=chance < OPEN_DOORS + FLAT_DOORS)
    for _ in range(furnishing.windows):
        _stand_window(plan, rng)

    w, d, h = plan.width, plan.depth, plan.height
    _mesh(
        "floor", "floor", [np.array([[0, 0, 0], [w, 0, 0], [w, d, 0], [0, d, 0]], float)], materials.floor_covering(rng)
    )
    ceiling = [np.array([[0, d, h], [w, d, h], [w, 0, h], [0, 0, h]], float)]
    _mesh("ceiling", "ceiling", ceiling, materials.ceiling_paint(rng))
    paint = materials.wall_paint(rng)
    accent = materials.wall_paint(rng) if rng.random() < 0.25 else paint
    accent_wall = int(rng.integers(4))
    daylight = rng.random() < 0.7
    for wall in range(4):
        windows = [o for o in plan.openings if o.wall == wall and o.z_min > 0.0]
        holes = windows + [o for o in passages if o.wall == wall]
        panels = wall_panels(plan.wall_length(wall), h, [(o.s_min, o.s_max, o.z_min, o.z_max) for o in holes])
        quads = [_wall_quad(plan, wall, panel) for panel in panels]
        quads += [quad for hole in holes for quad in _reveal_quads(plan, hole)[hole.z_min == 0 :]]
        _mesh(f"wall_{wall}", "wall", quads, accent if wall == accent_wall else paint)
        for hole in windows:
            material = variety.outlook_material(rng, daylight) if varied else _fading_outside(rng, daylight)
            _outside(plan, hole, material)
    _skirting(plan, rng, materials.ceiling_paint(rng))


def _blackbody_rgb(kelvin: float) -> tuple[float, float, float]:
    """Light colour between warm (2700 K) and cool white (7000 K): a straight line is close enough for a lamp's tint."""
    t = (kelvin - 2700) / (7000 - 2700)
    return (1.0 - 0.12 * t, 0.72 + 0.20 * t, 0.45 + 0.55 * t)


def add_lights(plan: FloorPlan, rng: np.random.Generator, varied: bool = False) -> None:
    """One to three area lights under the ceiling, unseen by the camera; `varied`: also hard, warm, dim and lone ones."""
    count = int(rng.integers(1, 5 if varied else 4))
    watts = float(rng.uniform(3, 18) if varied else rng.uniform(5, 15)) * plan.width * plan.depth / count
    for i in range(count):
        data = bpy.data.lights.new(f"area_{i}", "AREA")
        data.size = float(np.exp(rng.uniform(np.log(0.1), np.log(1.6))) if varied else rng.uniform(0.4, 1.6))
        data.energy = watts * float(rng.uniform(0.6, 1.4))
        data.color = _blackbody_rgb(float(rng.uniform(2700 if varied else 3800, 7000)))
        light = bpy.data.objects.new(f"area_{i}", data)
        x, y = rng.uniform(0.2, 0.8, 2) * (plan.width, plan.depth)
        light.location = (x, y, plan.height - float(rng.uniform(0.06, 0.25)))
        light.rotation_euler = (float(rng.normal(0, 0.15)), float(rng.normal(0, 0.15)), float(rng.uniform(0, math.pi)))
        light.visible_camera = False
        bpy.context.scene.collection.objects.link(light)

    bpy.context.scene.world = bpy.data.worlds.new("outside")  # black: the room is closed
