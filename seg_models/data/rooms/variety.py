"""What `--varied` adds to a room: plain furniture, flat doors, switched-on screens, clutter. Needs bpy: imported by the worker
only. Everything is drawn from the generator that is handed in, so that a room without it stays as it was."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from itertools import pairwise

import bpy
import numpy as np
from mathutils import Matrix

from seg_models.data.rooms.assets import Asset
from seg_models.data.rooms.catalogue import KINDS
from seg_models.data.rooms.classes import object_index
from seg_models.data.rooms.pictures import outlook, screen_content

REPAINTED = 0.45  # share of the assets that get plain materials
# Known by their own materials: a shade or a screen that glows, glass, a rug on a floor of one colour.
NOT_REPAINTED = ("lamp", "window", "monitor", "rug")
FACES = ((0, 3, 2, 1), (4, 5, 6, 7), (0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7))


@dataclass(frozen=True)
class Box:
    """An upright box (m) and the number of its material."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    material: int = 0


def plain_material(rng: np.random.Generator) -> bpy.types.Material:
    """Lacquer, metal, wood or cloth in one colour, as most real furniture has it: white, black, grey, brown, sometimes bright."""
    kind = str(rng.choice(["white", "dark", "grey", "wood", "bright"], p=[0.3, 0.17, 0.15, 0.26, 0.12]))
    hue, saturation, value = {
        "white": (rng.random(), rng.uniform(0, 0.06), rng.uniform(0.65, 0.92)),
        "dark": (rng.random(), rng.uniform(0, 0.2), rng.uniform(0.01, 0.08)),
        "grey": (rng.random(), rng.uniform(0, 0.08), rng.uniform(0.12, 0.55)),
        "wood": (rng.uniform(0.05, 0.11), rng.uniform(0.35, 0.75), rng.uniform(0.08, 0.65)),
        "bright": (rng.random(), rng.uniform(0.4, 0.9), rng.uniform(0.2, 0.8)),
    }[kind]
    rgb = colorsys.hsv_to_rgb(hue, saturation, value)
    material = bpy.data.materials.new(f"plain {kind}")
    material.use_nodes = True
    nodes, links = material.node_tree.nodes, material.node_tree.links
    shader = nodes["Principled BSDF"]
    shader.inputs["Base Color"].default_value = (*rgb, 1.0)
    shader.inputs["Roughness"].default_value = float(rng.uniform(0.15, 0.9))
    shader.inputs["Metallic"].default_value = float(kind == "grey" and rng.random() < 0.4)
    if kind == "wood":  # grain: noise that is stretched along one axis
        coordinates, mapping = nodes.new("ShaderNodeTexCoord"), nodes.new("ShaderNodeMapping")
        noise, ramp = nodes.new("ShaderNodeTexNoise"), nodes.new("ShaderNodeValToRGB")
        stretch = [float(rng.uniform(15, 40))] * 3
        stretch[int(rng.integers(3))] = float(rng.uniform(0.5, 3))
        mapping.inputs["Scale"].default_value = stretch
        for element, factor in zip(ramp.color_ramp.elements, (rng.uniform(0.5, 0.9), 1.15), strict=True):
            element.color = (*(min(1.0, c * factor) for c in rgb), 1.0)
        links.new(coordinates.outputs["Object"], mapping.inputs["Vector"])
        links.new(mapping.outputs["Vector"], noise.inputs["Vector"])
        links.new(noise.outputs["Fac"], ramp.inputs["Fac"])
        links.new(ramp.outputs["Color"], shader.inputs["Base Color"])
    return material


def repaint(asset: Asset, seed: int, share: float = REPAINTED) -> None:
    """Give a share of the assets plain materials, one or two each; the same again from the same seed."""
    rng = np.random.default_rng([seed, 3])
    if asset.kind.class_name in NOT_REPAINTED or rng.random() >= share:
        return
    paints = [plain_material(rng) for _ in range(int(rng.integers(1, 3)))]
    for obj in [asset.root, *asset.root.children_recursive]:
        if obj.type == "MESH":
            for slot in obj.material_slots:
                slot.material = paints[int(rng.integers(len(paints)))]


def boxes_asset(kind_name: str, boxes: list[Box], paints: list[bpy.types.Material]) -> Asset:
    """An asset made of boxes in its own frame: footprint centre at the origin, underside at z = 0, front along +x."""
    vertices: list[tuple[float, float, float]] = []
    faces: list[list[int]] = []
    numbers: list[int] = []
    for box in boxes:
        (x0, y0, z0), (x1, y1, z1) = box.low, box.high
        start = len(vertices)
        vertices += [(x0, y0, z0), (x1, y0, z0), (x1, y1, z0), (x0, y1, z0)]
        vertices += [(x0, y0, z1), (x1, y0, z1), (x1, y1, z1), (x0, y1, z1)]
        faces += [[start + corner for corner in face] for face in FACES]
        numbers += [box.material] * len(FACES)
    mesh = bpy.data.meshes.new(kind_name)
    mesh.from_pydata(vertices, [], faces)
    for paint in paints:
        mesh.materials.append(paint)
    mesh.polygons.foreach_set("material_index", numbers)
    root = bpy.data.objects.new(kind_name, mesh)
    root.pass_index = object_index(KINDS[kind_name].class_name)
    bpy.context.scene.collection.objects.link(root)
    low, high = np.min([b.low for b in boxes], axis=0), np.max([b.high for b in boxes], axis=0)
    x, y, z = (float(v) for v in high - low)
    return Asset(KINDS[kind_name], root, (x, y, z), Matrix.Identity(4))


def door_boxes(rng: np.random.Generator, width: float, height: float, leaf: bool) -> list[Box]:
    """A frame around an opening of that size, and with `leaf` a flat leaf with a handle in it."""
    board, proud = float(rng.uniform(0.06, 0.12)), float(rng.uniform(0.02, 0.04))
    half = width / 2
    boxes = [
        Box((-0.02, -half - board, 0), (proud + 0.02, -half, height + board), 1),
        Box((-0.02, half, 0), (proud + 0.02, half + board, height + board), 1),
        Box((-0.02, -half, height), (proud + 0.02, half, height + board), 1),
    ]
    return boxes + (leaf_boxes(rng, -half, half, height) if leaf else [])


def leaf_boxes(rng: np.random.Generator, y_low: float, y_high: float, height: float) -> list[Box]:
    """A flat door leaf with a handle, sometimes with raised fields or a pane."""
    side = y_high - 0.08 if rng.random() < 0.5 else y_low + 0.08
    reach = -0.12 if side > (y_low + y_high) / 2 else 0.12
    handle = sorted((side, side + reach))
    boxes = [
        Box((-0.02, y_low, 0), (0.02, y_high, height)),
        Box((0.02, handle[0], 0.99), (0.075, handle[1], 1.015), 2),
        Box((-0.075, handle[0], 0.99), (-0.02, handle[1], 1.015), 2),
    ]
    if rng.random() < 0.4:
        cuts = np.linspace(0.15, height - 0.15, int(rng.integers(2, 5)))
        boxes += [
            Box((-0.028, y_low + 0.14, float(a) + 0.05), (0.028, y_high - 0.14, float(b) - 0.05))
            for a, b in pairwise(cuts)
        ]
    return boxes


def flat_door(rng: np.random.Generator) -> Asset:
    """A closed door with a flat leaf and a frame."""
    width, height = float(rng.uniform(0.72, 1.0)), float(rng.uniform(1.95, 2.15))
    return boxes_asset("panel_door", door_boxes(rng, width, height, leaf=True), [plain_material(rng) for _ in range(3)])


def picture_material(picture: np.ndarray, strength: float) -> bpy.types.Material:
    """A surface that glows with a picture (uint8 RGB), laid over its bounding box: local y to the left, z up."""
    height, width = picture.shape[:2]
    image = bpy.data.images.new("picture", width, height)
    pixels = np.ones((height, width, 4), np.float32)
    pixels[..., :3] = picture[::-1] / 255.0
    image.pixels.foreach_set(pixels.ravel())
    material = bpy.data.materials.new("picture")
    material.use_nodes = True
    nodes, links = material.node_tree.nodes, material.node_tree.links
    nodes.remove(nodes["Principled BSDF"])
    emission, texture = nodes.new("ShaderNodeEmission"), nodes.new("ShaderNodeTexImage")
    coordinates, split, join = (nodes.new(f"ShaderNode{name}") for name in ("TexCoord", "SeparateXYZ", "CombineXYZ"))
    texture.image = image
    # Along a wall one of x and y has no extent; their sum runs along it.
    total = nodes.new("ShaderNodeMath")
    links.new(coordinates.outputs["Generated"], split.inputs["Vector"])
    links.new(split.outputs["X"], total.inputs[0])
    links.new(split.outputs["Y"], total.inputs[1])
    links.new(total.outputs["Value"], join.inputs["X"])
    links.new(split.outputs["Z"], join.inputs["Y"])
    links.new(join.outputs["Vector"], texture.inputs["Vector"])
    links.new(texture.outputs["Color"], emission.inputs["Color"])
    emission.inputs["Strength"].default_value = strength
    links.new(emission.outputs["Emission"], nodes["Material Output"].inputs["Surface"])
    return material


def outlook_material(rng: np.random.Generator, daylight: bool) -> bpy.types.Material:
    """What is seen through a window, from dusk to a day that overexposes it."""
    strength = float(np.exp(rng.uniform(np.log(0.7), np.log(9)))) if daylight else float(rng.uniform(0.005, 0.1))
    return picture_material(outlook(rng), strength)


def screen(rng: np.random.Generator, fit_m: tuple[float, float, float] | None, on_wall: bool = False) -> Asset:
    """A flat screen, on a stand or for a wall; four in five are on."""
    width = float(rng.uniform(0.8, 1.5) if on_wall else rng.uniform(0.42, 0.8))
    width = min(width, fit_m[1]) if fit_m else width
    height, foot = width * float(rng.uniform(0.52, 0.66)), 0.0 if on_wall else float(rng.uniform(0.06, 0.15))
    rim, half = float(rng.uniform(0.005, 0.025)), width / 2
    boxes = [Box((-0.015, -half, foot), (0.015, half, foot + height))]
    if not on_wall:
        boxes += [Box((-0.04, -0.03, 0), (-0.015, 0.03, foot + 0.1)), Box((-0.1, -0.12, 0), (0.1, 0.12, 0.012))]
    case = plain_material(rng)
    if rng.random() < 0.7:
        case = bpy.data.materials.new("screen case")
        case.use_nodes = True
        case.node_tree.nodes["Principled BSDF"].inputs["Base Color"].default_value = (0.015, 0.015, 0.015, 1)
    asset = boxes_asset("monitor", boxes, [case])
    is_on = rng.random() < 0.8
    panel = bpy.data.meshes.new("panel")
    y, z0, z1 = half - rim, foot + rim, foot + height - rim
    panel.from_pydata([(0.016, -y, z0), (0.016, y, z0), (0.016, y, z1), (0.016, -y, z1)], [], [[0, 1, 2, 3]])
    if is_on:
        panel.materials.append(picture_material(screen_content(rng), float(rng.uniform(0.3, 2.0))))
    else:
        off = bpy.data.materials.new("screen off")
        off.use_nodes = True
        shader = off.node_tree.nodes["Principled BSDF"]
        shader.inputs["Base Color"].default_value = (0.01, 0.01, 0.012, 1)
        shader.inputs["Roughness"].default_value = float(rng.uniform(0.05, 0.3))
        panel.materials.append(off)
    front = bpy.data.objects.new("panel", panel)
    front.pass_index = object_index("monitor")
    front.parent = asset.root
    bpy.context.scene.collection.objects.link(front)
    return asset


def clutter(rng: np.random.Generator) -> Asset:
    """A thing on a floor or a table: a carton, a bin, a stack of paper."""
    kind = rng.random()
    x, y = (float(v) for v in rng.uniform(0.08, 0.5, 2))
    z = float(rng.uniform(0.005, 0.03) if kind < 0.2 else rng.uniform(0.08, 0.55))
    boxes = [Box((-x / 2, -y / 2, 0), (x / 2, y / 2, z))]
    if kind > 0.75:  # something smaller lies on it
        boxes.append(Box((-x / 3, -y / 4, z), (x / 4, y / 3, z + float(rng.uniform(0.03, 0.2))), 1))
    return boxes_asset("books", boxes, [plain_material(rng), plain_material(rng)])
