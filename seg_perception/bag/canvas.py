"""One picture of a frame of a run: camera, labels and superpixels side by side, the classes' colours named below."""

from __future__ import annotations

import cv2
import numpy as np

from seg_perception.bag.panels import fitted, superpixel_panel
from seg_perception.labels import colours, overlay
from seg_perception.model.model_file import ModelInfo
from seg_perception.segmenter import Segmentation

PANEL_WIDTH = 480
CAPTION_HEIGHT = 28
LEGEND_ROW_HEIGHT = 26
BACKGROUND = (22, 24, 29)
TEXT = (235, 235, 235)
FONT = cv2.FONT_HERSHEY_SIMPLEX
FONT_SCALE = 0.5


class RunCanvas:
    """Makes the pictures of one run, all of one size. Images of another shape than the first are fitted in.

    Args:
        info: the model, for names and colours.
        image_size: (height, width) of the first image.
        panel_width: pixels that each of the pictures side by side is wide.

    Attributes:
        size: (height, width) of what `compose` returns; even, as codecs want it.
    """

    def __init__(self, info: ModelInfo, image_size: tuple[int, int], panel_width: int = PANEL_WIDTH) -> None:
        self._info = info
        panel_height = max(2, round(panel_width * image_size[0] / image_size[1]))
        self._panel_size = (panel_width, panel_height)
        panels = 3 if info.has_superpixels else 2
        width = panels * panel_width
        width += width % 2
        legend = class_legend(info, width)
        height = CAPTION_HEIGHT + panel_height + len(legend)
        height += height % 2
        self.size = (height, width)
        self._canvas = np.full((height, width, 3), BACKGROUND, np.uint8)
        self._canvas[CAPTION_HEIGHT + panel_height :][: len(legend)] = legend
        titles = ("camera", f"labels: {info.name}", "superpixels")[:panels]
        for number, title in enumerate(titles):
            cv2.putText(self._canvas, title, (number * panel_width + 10, 19), FONT, FONT_SCALE, TEXT, 1, cv2.LINE_AA)

    def compose(self, rgb: np.ndarray, segmentation: Segmentation) -> np.ndarray:
        """The picture of one frame, uint8 [h, w, 3]; it is overwritten by the next.

        Args:
            rgb: uint8 [H, W, 3].
            segmentation: of the same size.
        """
        width, height = self._panel_size
        camera = fitted(rgb, self._panel_size)
        labels = fitted(segmentation.labels, self._panel_size, cv2.INTER_NEAREST_EXACT)
        rows = self._canvas[CAPTION_HEIGHT : CAPTION_HEIGHT + height]
        rows[:, :width] = camera
        rows[:, width : 2 * width] = overlay(camera, labels, self._info.palette, 0.6)
        if segmentation.superpixels is not None:
            superpixels = fitted(segmentation.superpixels, self._panel_size, cv2.INTER_NEAREST_EXACT)
            tint = colours(labels, self._info.palette)
            rows[:, 2 * width : 3 * width] = superpixel_panel(camera, superpixels, tint)
        return self._canvas


def class_legend(info: ModelInfo, width: int) -> np.ndarray:
    """Colours with the classes' names in as many rows as it takes: uint8 [h, width, 3]."""
    margin, swatch, gap = 10, 14, 18
    places: list[tuple[int, int]] = []
    left, row = margin, 0
    for name in info.class_names:
        extent = swatch + 6 + cv2.getTextSize(name, FONT, FONT_SCALE, 1)[0][0]
        if left + extent > width - margin and left > margin:
            left, row = margin, row + 1
        places.append((left, row))
        left += extent + gap
    legend = np.full(((row + 1) * LEGEND_ROW_HEIGHT + 4, width, 3), BACKGROUND, np.uint8)
    for name, colour, (left, row) in zip(info.class_names, info.palette.tolist(), places, strict=True):
        top = row * LEGEND_ROW_HEIGHT + 8
        cv2.rectangle(legend, (left, top), (left + swatch, top + swatch), colour, cv2.FILLED)
        cv2.putText(legend, name, (left + swatch + 6, top + 12), FONT, FONT_SCALE, TEXT, 1, cv2.LINE_AA)
    return legend
