"""Regions measured: shape, colour and texture of what a mask holds, in numbers that a person can read.

Most are scikit-image's regionprops. What dermatologists look for as well: irregularity of the border and asymmetry
(Stolz et al. 1994, the ABCD rule of dermatoscopy).
"""

from __future__ import annotations

import numpy as np

WINDOW = 5
"""Pixels a side, over which texture is the local standard deviation of grey."""

LENGTH, SURFACE = "length", "area"

SHAPE: dict[str, str] = {
    "area": SURFACE,
    "perimeter": LENGTH,
    "diameter": LENGTH,
    "major_axis": LENGTH,
    "minor_axis": LENGTH,
    "solidity": "",
    "eccentricity": "",
    "orientation": "deg",
    "irregularity": "",
    "asymmetry": "",
}
"""Name -> what it is measured in; nothing for what has no unit."""

COLOUR = ("red_mean", "green_mean", "blue_mean", "red_spread", "green_spread", "blue_spread")
GREY = ("grey_mean", "grey_spread", "texture_mean", "texture_spread")


def shape(mask: np.ndarray) -> dict[str, float]:
    """Of (h, w) bool with at least a pixel: SHAPE, in pixels and degrees.

    perimeter: by Crofton's formula in four directions, within 2 % where counting edges is 5 % off. diameter: of the
    circle of this area. solidity: area over that of the convex hull. eccentricity: of the ellipse of the same moments,
    0 for a circle. orientation: of its long axis, from the horizontal, counter-clockwise, -90 to 90.
    irregularity: the perimeter squared over 4π times the area, 1 for a circle, more the more it winds. asymmetry: the
    share of the area that its mirror image does not cover, the mean over both axes of the ellipse; 0 to 1.
    """
    from skimage.measure import regionprops

    (region,) = regionprops(mask.astype(np.uint8))
    area, perimeter = float(region.area), float(region.perimeter_crofton)
    turned = (np.degrees(region.orientation) - 90 + 90) % 180 - 90  # skimage's is from the vertical
    return {
        "area": area,
        "perimeter": perimeter,
        "diameter": float(region.equivalent_diameter_area),
        "major_axis": float(region.axis_major_length),
        "minor_axis": float(region.axis_minor_length),
        "solidity": float(region.solidity),
        "eccentricity": float(region.eccentricity),
        "orientation": float(turned),
        "irregularity": perimeter**2 / (4 * np.pi * area),
        "asymmetry": asymmetry(mask, float(region.orientation)),
    }


def asymmetry(mask: np.ndarray, angle: float) -> float:
    """The share of a mask's area that its mirror image in an axis through its centre leaves, the mean over two axes.

    angle: of one axis in radians from the vertical; the other stands upright on it. Pixels are looked up nearest.
    """
    inside = np.argwhere(mask).astype(np.float64)
    centre = inside.mean(0)
    left = []
    for turn in (angle, angle + np.pi / 2):
        axis = np.array([np.cos(turn), np.sin(turn)])  # down, across
        away = inside - centre
        mirrored = centre + 2 * (away @ axis)[:, None] * axis - away
        y, x = np.rint(mirrored).astype(int).T
        seen = (y >= 0) & (y < mask.shape[0]) & (x >= 0) & (x < mask.shape[1])
        covered = np.zeros(len(inside), bool)
        covered[seen] = mask[y[seen], x[seen]]
        left.append(1 - covered.mean())
    return float(np.mean(left))


def colour(image: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Mean and standard deviation of each channel inside a mask: (h, w, 3) uint8, and (h, w) bool."""
    inside = image[mask].astype(np.float64)
    means, spreads = inside.mean(0), inside.std(0)
    return dict(zip(COLOUR, (float(value) for value in (*means, *spreads)), strict=True))


def grey(image: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Mean and standard deviation inside a mask of grey and of its texture: (h, w) uint8, and (h, w) bool."""
    import cv2

    values = image.astype(np.float32)
    mean = cv2.blur(values, (WINDOW, WINDOW), borderType=cv2.BORDER_REFLECT)
    square = cv2.blur(values * values, (WINDOW, WINDOW), borderType=cv2.BORDER_REFLECT)
    local = np.sqrt(np.maximum(square - mean * mean, 0))
    made = (values[mask].mean(), values[mask].std(), local[mask].mean(), local[mask].std())
    return dict(zip(GREY, (float(value) for value in made), strict=True))


def contour(mask: np.ndarray) -> np.ndarray:
    """(n, 2) int32 x, y of the outline of the mask's largest part, by pixels; corners only where it turns."""
    import cv2

    found = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
    largest = max(found, key=cv2.contourArea, default=np.zeros((0, 1, 2), np.int32))
    return np.asarray(largest, np.int32).reshape(-1, 2)
