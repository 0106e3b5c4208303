"""Makes assets with infinigen's factories and stands them in the Blender scene. Needs bpy: imported by the worker only."""

from __future__ import annotations

import importlib
import math
import random
from dataclasses import dataclass

import bpy
import numpy as np
from mathutils import Matrix, Vector

from seg_models.data.rooms.catalogue import KINDS, AssetKind
from seg_models.data.rooms.classes import object_index
from seg_models.data.rooms.floor_plan import Placement

FACING_EAST = math.pi / 2  # turn (rad) for the factories' doors and windows, which are made in the xz plane


@dataclass
class Asset:
    """One asset in the scene, not yet placed."""

    kind: AssetKind
    root: bpy.types.Object
    size_m: tuple[float, float, float]  # after scaling: along local x, local y and up
    normalize: Matrix  # brings the asset as made to: footprint centre at the origin, underside at z = 0

    def stand(self, at: Placement) -> None:
        """Put the footprint centre at (x, y), the underside at z, the front (local +x) at yaw."""
        pose = Matrix.Translation((at.x, at.y, at.z)) @ Matrix.Rotation(at.yaw, 4, "Z")
        self.root.matrix_world = pose @ self.normalize

    def remove(self) -> None:
        for obj in [*self.root.children_recursive, self.root]:
            bpy.data.objects.remove(obj, do_unlink=True)


def mesh_bounds(root: bpy.types.Object) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest world coordinates (m) of an object's meshes, children included."""
    bpy.context.view_layer.update()
    meshes = [o for o in [root, *root.children_recursive] if o.type == "MESH"]
    corners = np.array([list(o.matrix_world @ Vector(c)) for o in meshes for c in o.bound_box])  # (8N, 3)
    return corners.min(axis=0), corners.max(axis=0)


def main_front_plane(root: bpy.types.Object) -> float:
    """World x (m) of the largest flat face that looks along +x: a door's slab, whatever its handle or frame sticks out."""
    bpy.context.view_layer.update()
    normals, areas, x = [], [], []
    for obj in [root, *root.children_recursive]:
        if obj.type == "MESH":
            turn = obj.matrix_world.to_3x3()
            for face in obj.data.polygons:
                normals.append((turn @ face.normal).normalized().x)
                areas.append(face.area)
                x.append((obj.matrix_world @ face.center).x)
    front = np.array(normals) > 0.95
    planes, index = np.unique(np.round(np.array(x)[front], 2), return_inverse=True)
    return float(planes[int(np.argmax(np.bincount(index, weights=np.array(areas)[front])))])


def make_asset(
    kind_name: str,
    seed: int,
    spawn_options: dict | None = None,
    turn: float = 0.0,
    fit_m: tuple[float, float, float] | None = None,
) -> Asset:
    """Make an asset of a kind from a seed.

    Args:
        kind_name: a name in `KINDS`.
        seed: of its shape and its materials.
        spawn_options: passed to the factory (a window's dimensions).
        turn: rotation (rad) about z that makes its front look along +x.
        fit_m: largest size where it must be smaller than the kind's own bound.
    """
    kind = KINDS[kind_name]
    np.random.seed(seed)  # noqa: NPY002 - infinigen draws from the global generators
    random.seed(seed)
    factory = getattr(importlib.import_module(kind.module), kind.factory)(seed)
    root = factory.spawn_asset(0, **(spawn_options or {}))
    factory.finalize_assets([root])
    for obj in [root, *root.children_recursive]:
        obj.pass_index = object_index(kind.class_name)
        if obj.type == "LIGHT" and obj.data.type == "AREA":  # a window's light portal: of no use with few samples
            bpy.data.objects.remove(obj, do_unlink=True)

    root.matrix_world = Matrix.Rotation(turn, 4, "Z") @ root.matrix_world
    low, high = mesh_bounds(root)
    limit = np.minimum(kind.size_m, fit_m or kind.size_m)
    scale = float(np.random.default_rng(seed).uniform(*kind.scale))
    scale *= min(1.0, float((limit / np.maximum((high - low) * scale, 1e-6)).min()))
    centre = Vector(((low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]))
    normalize = Matrix.Scale(scale, 4) @ Matrix.Translation(-centre) @ root.matrix_world
    x, y, z = (float(v) for v in (high - low) * scale)
    return Asset(kind, root, (x, y, z), normalize)


def hang_from_ceiling(asset: Asset, x: float, y: float, ceiling_m: float) -> None:
    """Fix a lamp to the ceiling, its top 2 mm above it so that the two surfaces do not coincide."""
    asset.stand(Placement(x, y, ceiling_m - asset.size_m[2] + 0.002, 0.0))
