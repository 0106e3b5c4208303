"""The ways in which an image is scored: as a robot sees it, or by the papers' test protocols."""

from __future__ import annotations

from dataclasses import dataclass

from seg_models.architectures.regproxy.model import RegProxy
from seg_models.architectures.segmenter import Segmenter
from seg_models.evaluation.inference import Windows, regproxy_windows, segmenter_windows, segvit_windows
from seg_models.segmentation_model import SegmentationModel

LARGEST_SIDE = 16_384  # pixels
LARGEST_SCALE = 16
MODES = ("resize", "whole", "slide")


class ProtocolError(ValueError):
    """An evaluation that cannot be made as asked."""


@dataclass(frozen=True)
class Protocol:
    """How an image becomes labels.

    Attributes:
        mode: "resize" to the network's input, "whole" at its own size, or "slide" windows over it.
        window, stride: of "slide", in pixels.
        small_inputs: of "slide", see `inference.Windows`.
        short_side: pixels that the image's shorter side is resized to first; 0 leaves it.
        longest_ratio: the longer side is then at most this multiple of it.
        scales: sizes to average over, factors of the short side.
        flip: also average over the mirrored images.
        min_short_side: what no scale makes the shorter side smaller than (see `inference.rescaled`); 0 for none.
        left_out: classes that are never predicted; their labels are to be left out by the data.
    """

    mode: str = "resize"
    window: int = 0
    stride: int = 0
    small_inputs: str = "keep"
    short_side: int = 0
    longest_ratio: float = 4.0
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    min_short_side: int = 0
    left_out: tuple[int, ...] = ()


def check_protocol(protocol: Protocol) -> None:
    """See that a protocol can be followed.

    Raises:
        ProtocolError: an unknown mode, or one that a number does not fit.
        ValueError: windows that do not fit.
    """
    if protocol.mode not in MODES:
        raise ProtocolError(f"mode is {protocol.mode!r}; expected one of {', '.join(MODES)}")
    if protocol.mode == "resize":
        if protocol.short_side or protocol.flip or protocol.scales != (1.0,) or protocol.min_short_side:
            raise ProtocolError("short sides, scales and flip are of the modes whole and slide; mode resize has none")
        if protocol.left_out:
            raise ProtocolError("classes are left out in the modes whole and slide; mode resize is what a robot sees")
        return
    if not protocol.scales or not all(0 < scale <= LARGEST_SCALE for scale in protocol.scales):
        raise ProtocolError(f"scales are {protocol.scales}; expected positive numbers up to {LARGEST_SCALE}")
    if not 0 <= protocol.min_short_side <= LARGEST_SIDE:
        raise ProtocolError(f"the smallest short side is {protocol.min_short_side}; expected pixels, such as 480")
    if not 0 <= protocol.short_side <= LARGEST_SIDE:
        raise ProtocolError(f"the short side is {protocol.short_side}; expected pixels, such as 512")
    if not 1 <= protocol.longest_ratio <= LARGEST_SCALE:
        raise ProtocolError(
            f"the longest ratio is {protocol.longest_ratio:g}; expected 1 to {LARGEST_SCALE}, such as 4"
        )
    if protocol.mode == "slide":
        Windows(protocol.window, protocol.stride, protocol.small_inputs)


def default_windows(
    model: SegmentationModel, window: int | None, stride: int | None, small_inputs: str | None
) -> tuple[int, int, str]:
    """Window, stride and treatment of smaller images: as given, else the network's input and the released way.

    The stride is then the window, but 32 less for Segmenter. SegViT's differ by data set: see `inference.py`.

    Raises:
        ProtocolError: no window is given, and the network's input is no square that could be one.
        ValueError: a stride that does not fit the window.
    """
    if window is None:
        if model.image_size[0] != model.image_size[1]:
            raise ProtocolError(f"the network's input is {model.image_size}, no square; give the window's side")
        window = model.image_size[0]
    if isinstance(model, Segmenter):
        windows = segmenter_windows(window, stride)
    elif isinstance(model, RegProxy):
        windows = regproxy_windows(window, stride)
    else:
        windows = segvit_windows(window, window if stride is None else stride)
    return windows.size, windows.stride, small_inputs or windows.small_inputs
