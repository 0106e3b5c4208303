"""Materials of floor, walls and ceiling. Needs bpy: imported by the worker only."""

from __future__ import annotations

import colorsys
import random

import bpy
import numpy as np
from infinigen.assets.composition import material_assignments
from infinigen.core.util.random import weighted_sample

RGB = tuple[float, float, float]  # linear, 0-1


def _principled(name: str, rgb: RGB, roughness: float) -> tuple[bpy.types.Material, bpy.types.Node]:
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    shader = material.node_tree.nodes["Principled BSDF"]
    shader.inputs["Base Color"].default_value = (*rgb, 1.0)
    shader.inputs["Roughness"].default_value = roughness
    return material, shader


def _draw_rgb(rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]) -> RGB:
    return colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturation), rng.uniform(*value))


def _mottle(material: bpy.types.Material, shader: bpy.types.Node, rgb: RGB, amount: float, scale: float) -> None:
    """Vary a plain colour by `amount` (fraction) with noise of `scale` (per metre), as paint and carpet do."""
    nodes, links = material.node_tree.nodes, material.node_tree.links
    coordinates = nodes.new("ShaderNodeTexCoord")
    noise = nodes.new("ShaderNodeTexNoise")
    noise.inputs["Scale"].default_value = scale
    noise.inputs["Detail"].default_value = 6.0
    ramp = nodes.new("ShaderNodeValToRGB")
    for element, factor in zip(ramp.color_ramp.elements, (1 - amount, 1 + amount), strict=True):
        element.color = (*(min(1.0, c * factor) for c in rgb), 1.0)
    links.new(coordinates.outputs["Object"], noise.inputs["Vector"])
    links.new(noise.outputs["Fac"], ramp.inputs["Fac"])
    links.new(ramp.outputs["Color"], shader.inputs["Base Color"])


def wall_paint(rng: np.random.Generator) -> bpy.types.Material:
    """Matt paint: nearly white to tinted, now and then a strong colour."""
    strong = rng.random() < 0.15
    rgb = _draw_rgb(rng, (0.2, 0.5) if strong else (0.0, 0.14), (0.25, 0.7) if strong else (0.5, 0.92))
    material, shader = _principled("wall_paint", rgb, rng.uniform(0.6, 0.95))
    _mottle(material, shader, rgb, rng.uniform(0.01, 0.06), rng.uniform(1, 6))
    return material


def ceiling_paint(rng: np.random.Generator) -> bpy.types.Material:
    material, _ = _principled("ceiling_paint", _draw_rgb(rng, (0.0, 0.05), (0.6, 0.92)), 0.9)
    return material


def floor_covering(rng: np.random.Generator) -> bpy.types.Material:
    """Wood (half of the rooms), tiles, carpet or plain screed."""
    kind = rng.choice(["wood", "stone tile", "square tile", "carpet", "plain"], p=[0.45, 0.1, 0.15, 0.15, 0.15])
    if kind in ("wood", "stone tile"):
        seed = int(rng.integers(2**31))
        np.random.seed(seed)  # noqa: NPY002 - infinigen draws from the global generators
        random.seed(seed)
        if kind == "wood":
            return weighted_sample(material_assignments.wood_tiles)()()
        return weighted_sample(material_assignments.bathroom_floor)()()
    if kind == "square tile":
        return _square_tiles(rng)
    rgb = _draw_rgb(rng, (0.0, 0.3), (0.15, 0.8))
    material, shader = _principled(f"{kind} floor", rgb, rng.uniform(0.3, 0.6) if kind == "plain" else 0.95)
    _mottle(material, shader, rgb, *((0.05, 2.0) if kind == "plain" else (rng.uniform(0.1, 0.3), rng.uniform(40, 150))))
    return material


def _square_tiles(rng: np.random.Generator) -> bpy.types.Material:
    rgb = _draw_rgb(rng, (0.0, 0.15), (0.4, 0.9))
    material, shader = _principled("square tile floor", rgb, rng.uniform(0.1, 0.5))
    nodes, links = material.node_tree.nodes, material.node_tree.links
    coordinates, bricks = nodes.new("ShaderNodeTexCoord"), nodes.new("ShaderNodeTexBrick")
    size = rng.uniform(0.25, 0.7)
    bricks.offset = 0.0 if rng.random() < 0.7 else 0.5
    for name, value in (("Scale", 1.0), ("Brick Width", size), ("Row Height", size), ("Mortar Size", 0.004)):
        bricks.inputs[name].default_value = value
    bricks.inputs["Color1"].default_value = (*rgb, 1)
    bricks.inputs["Color2"].default_value = (*(c * rng.uniform(0.85, 1.0) for c in rgb), 1)
    bricks.inputs["Mortar"].default_value = (*(c * rng.uniform(0.2, 0.7) for c in rgb), 1)
    links.new(coordinates.outputs["Object"], bricks.inputs["Vector"])
    links.new(bricks.outputs["Color"], shader.inputs["Base Color"])
    return material


def remove_bump() -> None:
    """Leave out the fine relief of every material in the scene; its evaluation takes about 40 % of the render time."""
    for material in bpy.data.materials:
        if not material.use_nodes:
            continue
        for node in material.node_tree.nodes:
            if node.type == "OUTPUT_MATERIAL":
                for link in list(node.inputs["Displacement"].links):
                    material.node_tree.links.remove(link)
