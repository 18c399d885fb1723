"""Where an image in hand lies in its original file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from imagier.types import Image

Frame = tuple[float, float, float, float]
"""Left, top, and original pixels per pixel, across and down."""


def frame(image: Image, width: int, height: int, box: Any) -> Frame:
    """The image may be larger than the original (upscaled) or smaller, and itself a region, of `box`."""
    h, w = image.shape[:2]
    if box is None:
        return 0.0, 0.0, width / w, height / h
    x0, y0, x1, y1 = (float(edge) for edge in box)
    return x0, y0, (x1 - x0) / w, (y1 - y0) / h


def in_original(cut: Sequence[float], frame: Frame) -> list[float]:
    """A box of the image in hand, in the original's pixels."""
    left, top, across, down = frame
    x0, y0, x1, y1 = cut
    return [left + x0 * across, top + y0 * down, left + x1 * across, top + y1 * down]


def in_hand(box: Sequence[float], frame: Frame) -> list[float]:
    """A box of the original, in the pixels of the image in hand."""
    left, top, across, down = frame
    x0, y0, x1, y1 = (float(edge) for edge in box)
    return [(x0 - left) / across, (y0 - top) / down, (x1 - left) / across, (y1 - top) / down]
