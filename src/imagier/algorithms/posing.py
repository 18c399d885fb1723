"""How a part lies in its image: where its middle is, how large it is, and how far it is turned beside another.

For one part on a plain ground. It is found by what differs from the image's border (Otsu 1979); its turn is where the
circular cross-correlation of two unrolled pictures is greatest, by FFT (the log-polar registration of Reddy & Chatterji
1996, without the scale, which the area tells).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ANGLES, RADII = 360, 48
"""Of the unrolled picture."""
REACH = 1.15
"""How far it reaches, in radii of a disc of the part's area."""
MARGIN = 1.4
"""Half the side of the canvas on which a part is laid, in those radii."""
SMALL = 256
"""Pixels of the long side at which a part is looked for."""


@dataclass(frozen=True)
class Pose:
    """Where a part lies, in pixels of its image, whose first has its middle at 0."""

    x: float
    y: float
    radius: float
    """Of a disc of its area."""
    turn: float = 0.0
    """Degrees, counter-clockwise, beside the reference."""

    def onto(self, side: int) -> np.ndarray:
        """The affine map (2, 3) from the image to a square canvas of so many pixels, on which the part lies upright."""
        scale = side / (2 * MARGIN * self.radius)
        angle = np.radians(self.turn)
        turned = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        shift = (side - 1) / 2 - turned @ np.array([self.x, self.y])
        return np.column_stack([turned, shift])


def found(image: np.ndarray) -> Pose | None:
    """The part in an image, (h, w, 3) uint8, not yet turned; None where nothing stands out from the border."""
    import cv2

    scale = min(1.0, SMALL / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    small: np.ndarray = cv2.GaussianBlur(cv2.resize(image, size, interpolation=cv2.INTER_AREA), (0, 0), 1.5)
    rim = np.concatenate([small[0], small[-1], small[:, 0], small[:, -1]])
    away = np.abs(small.astype(np.float32) - np.median(rim, axis=0)).max(2)
    if away.max() < 8:
        return None
    level, _ = cv2.threshold(away.clip(0, 255).astype(np.uint8), 0, 255, cv2.THRESH_OTSU)
    inside = (away > level).astype(np.uint8)
    outlines = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    largest = max(outlines, key=cv2.contourArea)
    moments = cv2.moments(largest)
    if moments["m00"] < 16:
        return None
    x, y = moments["m10"] / moments["m00"], moments["m01"] / moments["m00"]
    radius = float(np.sqrt(moments["m00"] / np.pi))
    return Pose((x + 0.5) / scale - 0.5, (y + 0.5) / scale - 0.5, radius / scale)


def unrolled(image: np.ndarray, pose: Pose) -> np.ndarray:
    """What lies around the part's middle, (ANGLES, RADII) float32: a row an angle, of mean 0 and deviation 1."""
    import cv2

    grey: np.ndarray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    angles = np.radians(np.arange(ANGLES) * 360 / ANGLES)[:, None]
    radii = (np.arange(RADII) + 0.5)[None] / RADII * REACH * pose.radius
    x, y = pose.x + radii * np.cos(angles), pose.y + radii * np.sin(angles)
    # Blurred to what lies between two radii, or fine grain would decide.
    grey = cv2.GaussianBlur(grey, (0, 0), max(0.5, REACH * pose.radius / RADII / 2))
    rolled = cv2.remap(
        grey, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    made: np.ndarray = (rolled - rolled.mean()) / max(float(rolled.std()), 1e-6)
    return made


def turn(rolled: np.ndarray, reference: np.ndarray) -> float:
    """Degrees by which a part has to be turned, in image coordinates clockwise, to lie as the reference does."""
    # Rings count by their length, as the picture's own pixels would.
    weights = np.arange(RADII) + 0.5
    both = np.fft.rfft(rolled, axis=0).conj() * np.fft.rfft(reference, axis=0)
    alike = np.fft.irfft((both * weights).sum(1), ANGLES)
    return float(np.argmax(alike)) * 360 / ANGLES
