"""What every drawing shares: the Sample, its streams of chance, soft noise, strokes, blobs, and a camera's values.

Positions are in pixels with the origin at the corner of the image: pixel (row, column) covers column to column + 1 and
has its centre at column + 0.5. Shapes are drawn as signed distances (pixels, negative inside), from which both the
picture and the mask come: a pixel belongs to a mask where the shape covers at least half of it (distance <= 0).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from imagier.types import Image

Array = np.ndarray


@dataclass(frozen=True)
class Sample:
    """A drawn image and all that is known of it."""

    image: Image
    label: str
    mask: Array | None
    """bool (H, W): the defect, lesion, bands or structure; int32 (H, W) for cells: 0 background, 1.. a number each."""
    truth: dict[str, Any]
    """What was drawn, JSON values only. Boxes are [x0, y0, x1, y1] in pixels, the far edges excluded."""
    masks: dict[str, Array] = field(default_factory=dict)
    """Further bool (H, W) masks by name: "part" of washers and nuts, "net" and "dots" of lesions."""


def stream(kind: str, part: str, seed: int) -> np.random.Generator:
    """A stream of chance of its own for each part of a drawing, so that leaving one part out changes no other."""
    return np.random.default_rng([zlib.crc32(f"{kind}/{part}".encode()), seed])


def grid(size: int) -> tuple[Array, Array]:
    """The pixel centres: x (1, size) and y (size, 1), float32, pixels."""
    centres = np.arange(size, dtype=np.float32) + 0.5
    return centres[None, :], centres[:, None]


def clouds(rng: np.random.Generator, size: int, bumps: float, octaves: int = 3) -> Array:
    """Soft noise with about `bumps` bumps across: float32 (size, size), mean 0, standard deviation 1."""
    import cv2

    total = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        n = min(size, round(bumps * 2**octave)) + 2
        coarse = rng.standard_normal((n, n), dtype=np.float32)
        total += cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC) * np.float32(0.5**octave)
    total -= total.mean()
    total /= total.std()
    return total


def blur(field: Array, sigma: float) -> Array:
    """Gaussian blur with mirrored borders; sigma in pixels; same shape and dtype."""
    import cv2

    return cv2.GaussianBlur(field, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)


def cover(distance: Array) -> Array:
    """How much of each pixel lies inside, 0 to 1, from a signed distance in pixels (0.5 at distance 0)."""
    return np.clip(0.5 - distance, 0, 1)


def strokes(size: int, lines: Sequence[Array], widths: Sequence[float]) -> Array:
    """How much of each pixel the lines cover: float32 (size, size), 0 to 1; drawn 4 times larger and averaged down.

    `lines` are (n, 2) arrays of x, y; `widths` are in pixels.
    """
    import cv2

    finer = 4
    large = np.zeros((size * finer, size * finer), np.uint8)
    alike: dict[int, list[Array]] = {}  # drawing lines of one width together is several times faster
    for line, width in zip(lines, widths, strict=True):
        points = ((np.asarray(line) * finer - 0.5) * 16).astype(np.int32).reshape(-1, 1, 2)
        alike.setdefault(max(1, round(width * finer)), []).append(points)
    for thick, together in alike.items():
        cv2.polylines(large, together, False, (255,), thick, cv2.LINE_8, 4)
    return cv2.resize(large, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def wander(rng: np.random.Generator, start: tuple[float, float], angle: float, length: float, bend: float) -> Array:
    """A line that wanders from `start`: (n, 2) x, y in pixels; `bend` is the turn, in radians, per tenth of it."""
    steps = 10
    angles = angle + np.cumsum(rng.normal(0, bend, steps))
    moves = np.stack([np.cos(angles), np.sin(angles)], 1) * (length / steps)
    return np.concatenate([[start], np.asarray(start) + np.cumsum(moves, 0)])


def blob(rng: np.random.Generator, size: int, x: float, y: float, radius: float, wobble: float = 0.25) -> Array:
    """Signed distance (pixels) to an irregular patch of about `radius` at x, y: float32 (size, size)."""
    xs, ys = grid(size)
    dx, dy = xs - np.float32(x), ys - np.float32(y)
    theta = np.arctan2(dy, dx)
    reach = np.ones_like(theta)
    for k in range(2, 7):
        reach += np.float32(wobble * rng.normal() / k) * np.cos(k * theta + np.float32(rng.uniform(0, 6.3)))
    return np.hypot(dx, dy) - np.float32(radius) * np.clip(reach, 0.4, 1.8)


def boxes(labels: Array, count: int) -> list[list[int]]:
    """The box of each number 1..count of a label image, as [x0, y0, x1, y1], the far edges excluded."""
    from scipy import ndimage

    found = ndimage.find_objects(labels, max_label=count)
    return [[s[1].start, s[0].start, s[1].stop, s[0].stop] for s in found if s is not None]


def box_of(mask: Array) -> list[int] | None:
    """The box of a bool mask as [x0, y0, x1, y1], the far edges excluded; None for an empty one."""
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return None if not len(ys) else [int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1]


def to_uint8(picture: Array, rng: np.random.Generator, noise: float) -> Image:
    """What a camera makes of a float picture in 0..255: Gaussian noise of `noise` grey levels added, then uint8."""
    grain = rng.standard_normal(picture.shape, dtype=np.float32)
    image: Image = np.clip(np.rint(picture + noise * grain), 0, 255).astype(np.uint8)
    return image
