"""The size of masks: the camera's, the network's, or a fixed one."""

from __future__ import annotations

import re
from dataclasses import dataclass

LARGEST_SIDE = 8192  # pixels: above any camera of a robot, and 64 megapixels are painted in seconds, not hours
OUTPUT_SIZE_FORM = f"camera, network, or WIDTHxHEIGHT such as 320x240, at most {LARGEST_SIDE} pixels a side"
_FIXED = re.compile(r"([1-9]\d{0,3})x([1-9]\d{0,3})")


@dataclass(frozen=True)
class OutputSize:
    """The size of a camera's masks.

    Attributes:
        kind: "camera", "network" or "fixed".
        fixed: (H, W) of the kind "fixed".
    """

    kind: str = "camera"
    fixed: tuple[int, int] = (0, 0)

    def of(self, camera: tuple[int, int], network: tuple[int, int]) -> tuple[int, int]:
        """(H, W) of the masks of an image.

        Args:
            camera: (H, W) of the image.
            network: (H, W) of the network's input.
        """
        if self.kind == "camera":
            return camera
        return network if self.kind == "network" else self.fixed


def parse_output_size(text: str) -> OutputSize | None:
    """An output size as `OUTPUT_SIZE_FORM` says; None where the text is none."""
    if text in ("camera", "network"):
        return OutputSize(text)
    match = _FIXED.fullmatch(text)
    if match is None:
        return None
    width, height = int(match[1]), int(match[2])
    return OutputSize("fixed", (height, width)) if max(width, height) <= LARGEST_SIDE else None
