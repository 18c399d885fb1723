"""Heat shown on an image: the stranger a place, the redder; what is too strange is outlined."""

from __future__ import annotations

import numpy as np

from imagier.types import Image

FROM, TO = 0.8, 1.4
"""Heat, in units of what is too strange, at which a tint begins, and at which it is fullest."""
OPACITY = 0.6
COLD, HOT = np.array((255, 214, 10), np.float32), np.array((215, 25, 28), np.float32)
"""Yellow to red."""
EDGE = np.array((255, 255, 255), np.float32)


def outlined(image: Image, defects: np.ndarray) -> Image:
    """(h, w, 3) uint8, smaller than what its defects (H, W) int were found in, with their outlines, dark in light."""
    import cv2

    height, width = image.shape[:2]
    shown = np.broadcast_to(np.atleast_3d(image), (height, width, 3)).copy()
    inside = cv2.resize((defects > 0).astype(np.float32), (width, height), interpolation=cv2.INTER_AREA) > 0
    lines, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    for colour, thickness in ((EDGE, 3), (HOT, 1)):
        cv2.drawContours(shown, lines, -1, colour.tolist(), thickness)
    return shown


def tint(heat: np.ndarray) -> Image:
    """(h, w, 4) uint8 to lay over an image, transparent where nothing is strange. heat: (h, w), as of `overlay`."""
    share = np.clip((heat - FROM) / (TO - FROM), 0, 1)[:, :, None].astype(np.float32)
    colour = COLD + share * (HOT - COLD)
    made: Image = np.concatenate([colour, 255 * OPACITY * np.sqrt(share)], axis=2).round().astype(np.uint8)
    return made


def overlay(image: Image, heat: np.ndarray, defects: np.ndarray) -> Image:
    """(h, w, 3) uint8. heat: (h, w), 1 where it begins to be too strange; defects: (h, w) int, 0 outside."""
    from skimage.segmentation import find_boundaries

    shown: np.ndarray = np.broadcast_to(np.atleast_3d(image), (*image.shape[:2], 3)).astype(np.float32)
    share = np.clip((heat - FROM) / (TO - FROM), 0, 1)[:, :, None].astype(np.float32)
    colour = COLD + share * (HOT - COLD)
    opacity = OPACITY * np.sqrt(share)
    shown = (1 - opacity) * shown + opacity * colour
    if defects.any():
        shown[find_boundaries(defects, mode="inner")] = EDGE
    made: Image = shown.round().astype(np.uint8)
    return made
