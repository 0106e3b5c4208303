"""Renders colour, exact labels and depth with Cycles. Needs bpy: imported by the worker only.

Labels and depth come from a render of their own with one sample through each pixel's centre: no filter mixes two
objects, so thin legs are exact and label and depth of a pixel belong to the same point.
"""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np
import OpenEXR
from mathutils import Matrix

from seg_models.data.rooms.cameras import Intrinsics, Pose
from seg_models.data.rooms.classes import labels_from_object_index


class Renderer:
    """Renders the current Blender scene.

    Args:
        samples: light paths a pixel of the colour image; the denoiser takes out the rest of the noise.
        threads: of the renderer.
        scratch: folder for the passes between renderer and caller.
        jpeg_quality: of the colour image, 1-100.
    """

    def __init__(self, samples: int, threads: int, scratch: Path, jpeg_quality: int = 92) -> None:
        self.scene = bpy.context.scene
        self.samples = samples
        self.passes = scratch / "passes.exr"
        self.jpeg_quality = jpeg_quality
        camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
        camera.data.sensor_fit = "HORIZONTAL"
        camera.data.clip_start = 0.01
        self.scene.collection.objects.link(camera)
        self.scene.camera = camera
        self.camera = camera

        render, cycles = self.scene.render, self.scene.cycles
        render.engine = "CYCLES"
        render.resolution_percentage = 100
        render.threads_mode, render.threads = "FIXED", threads
        render.use_persistent_data = True
        cycles.device = "CPU"
        cycles.use_adaptive_sampling = False
        cycles.caustics_reflective = cycles.caustics_refractive = False
        cycles.sample_clamp_indirect = 4.0
        layer = self.scene.view_layers[0]
        layer.use_pass_object_index = True
        layer.use_pass_z = True

    def _aim(self, pose: Pose, intrinsics: Intrinsics) -> None:
        self.camera.matrix_world = Matrix(pose.renderer_matrix().tolist())
        self.camera.data.angle = intrinsics.horizontal_fov_rad
        self.scene.render.resolution_x = intrinsics.width
        self.scene.render.resolution_y = intrinsics.height

    def labels_and_depth(self, pose: Pose, intrinsics: Intrinsics) -> tuple[np.ndarray, np.ndarray]:
        """Class ids (uint8 [H, W]) and depth along the optical axis (float32 [H, W], m; 0 where nothing was hit)."""
        self._aim(pose, intrinsics)
        cycles, settings = self.scene.cycles, self.scene.render.image_settings
        cycles.samples, cycles.use_denoising, cycles.max_bounces = 1, False, 0
        cycles.pixel_filter_type, cycles.filter_width = "BOX", 0.01
        settings.file_format, settings.color_depth = "OPEN_EXR_MULTILAYER", "32"
        self.scene.render.filepath = str(self.passes)
        bpy.ops.render.render(write_still=True)
        channels = OpenEXR.File(str(self.passes), separate_channels=True).channels()
        by_pass = {name.split(".", 1)[-1]: channel.pixels for name, channel in channels.items()}
        index, depth = by_pass["IndexOB.X"], by_pass["Depth.Z"]
        labels = labels_from_object_index(index)
        return labels, np.where(np.isfinite(depth) & (depth < 1e3), depth, 0).astype(np.float32)

    def colour(self, pose: Pose, intrinsics: Intrinsics, path: Path, exposure_stops: float = 0.0) -> None:
        """Render the colour image, brightened by a power of two of `exposure_stops`, and write it as JPEG."""
        self._aim(pose, intrinsics)
        cycles, settings = self.scene.cycles, self.scene.render.image_settings
        cycles.samples, cycles.use_denoising, cycles.max_bounces = self.samples, True, 4
        cycles.denoiser = "OPENIMAGEDENOISE"
        cycles.pixel_filter_type, cycles.filter_width = "BLACKMAN_HARRIS", 1.5
        self.scene.view_settings.exposure = exposure_stops
        settings.file_format, settings.quality = "JPEG", self.jpeg_quality
        self.scene.render.filepath = str(path)
        bpy.ops.render.render(write_still=True)
