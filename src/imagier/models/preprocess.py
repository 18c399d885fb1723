"""The geometry before a network: 8-bit images of any size to a batch of the size that a card asks for, and back.

Resizing is as Pillow does it, because the transforms that networks were trained with are built on it: a test holds this
to timm's and open_clip's own, pixel by pixel. It leaves Python's lock, so that threads serve. Mean, std, channel order
and layout are the engine's: it does them in the network's own graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imagier.algorithms.resampling import resample
from imagier.images import resize
from imagier.models.model import Input
from imagier.types import Image

STRIP = 256
"""So many times what is kept of it, an image is not resized by areas: a strip of 1 x 60,000 pixels would be 5.6 GB."""


@dataclass(frozen=True)
class Placed:
    """Where an image lies in what the network saw: x_network = x_image * scale_x + left."""

    scale_x: float
    scale_y: float
    left: float
    top: float

    def back(self, boxes: np.ndarray) -> np.ndarray:
        """(n, 4) boxes x0, y0, x1, y1 from the network's pixels to the image's; float32, not clipped."""
        shift = np.array([self.left, self.top, self.left, self.top])
        scale = np.array([self.scale_x, self.scale_y, self.scale_x, self.scale_y])
        placed: np.ndarray = ((boxes - shift) / scale).astype(np.float32)
        return placed


def short_side(spec: Input) -> int | None:
    """The short side in pixels that an image must have for nothing to be lost; None: its own."""
    if spec.size is None:
        return None
    return spec.resize or min(spec.size) if spec.fit == "crop" else max(spec.size)


def prepare(images: Sequence[Image], spec: Input) -> tuple[np.ndarray, list[Placed]]:
    """uint8 images, RGB or grey, to one batch (n, H, W, C) uint8 in RGB order (grey: C = 1), and where each lies in it.

    `spec.fit` must not be "none": such networks take images one by one, as they are (algorithms/tiling.py).
    """
    made = [place(image, spec) for image in images]
    return np.stack([pixels for pixels, _ in made]), [placed for _, placed in made]


def place(image: Image, spec: Input) -> tuple[np.ndarray, Placed]:
    """One image of `prepare`."""
    assert spec.size is not None
    height, width = spec.size
    image = in_colour(image, spec.colour)
    h, w = image.shape[:2]
    if spec.fit == "squash":
        return _resize(image, (width, height), spec), Placed(width / w, height / h, 0.0, 0.0)
    if spec.fit == "pad":
        ratio = min(width / w, height / h)
        size = (max(1, min(width, round(w * ratio))), max(1, min(height, round(h * ratio))))
        left, top = ((width - size[0]) // 2, (height - size[1]) // 2) if spec.pad_at == "centre" else (0, 0)
        ground = np.full((height, width, image.shape[2]), spec.pad_value, np.uint8)
        ground[top : top + size[1], left : left + size[0]] = _resize(image, size, spec)
        return ground, Placed(size[0] / w, size[1] / h, left, top)
    return _crop(image, spec)


def _crop(image: Image, spec: Input) -> tuple[np.ndarray, Placed]:
    """The short side to `resize`, then the middle; torchvision's Resize and CenterCrop, their rounding included."""
    assert spec.size is not None
    height, width = spec.size
    short = spec.resize or min(height, width)
    h, w = image.shape[:2]
    size = (short, int(short * h / w)) if w <= h else (int(short * w / h), short)
    left, top = round((size[0] - width) / 2), round((size[1] - height) / 2)
    scale_x, scale_y = size[0] / w, size[1] / h
    box = (max(left, 0), max(top, 0), min(left + width, size[0]), min(top + height, size[1]))
    pixels = _resize(image, size, spec, box)
    if pixels.shape[:2] != (height, width):  # torchvision pads with black where the image is smaller than the crop
        ground = np.zeros((height, width, image.shape[2]), np.uint8)
        y, x = max(-top, 0), max(-left, 0)
        ground[y : y + pixels.shape[0], x : x + pixels.shape[1]] = pixels
        pixels = ground
    return pixels, Placed(scale_x, scale_y, -float(left), -float(top))


def in_colour(image: Image, colour: str) -> Image:
    """(H, W, 3) RGB or (H, W, 1) grey of any dtype, whatever the image was. BGR is the engine's to make: RGB here."""
    if colour == "grey":
        if image.ndim == 3:
            weighed = image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
            image = (np.rint(weighed) if image.dtype != np.float32 else weighed).astype(image.dtype)
        return image[:, :, None]
    return image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)


def _resize(
    image: np.ndarray, size: tuple[int, int], spec: Input, box: tuple[int, int, int, int] | None = None
) -> np.ndarray:
    """The image at `size` (width, height); of that the part in `box` alone, where one is given."""
    if spec.interpolation != "area":
        return resample(image, size, spec.interpolation, box)
    x0, y0, x1, y1 = box or (0, 0, *size)
    if size[0] * size[1] > STRIP * (x1 - x0) * (y1 - y0):
        return resample(image, size, "bilinear", box)
    made = resize(image, size=size)[y0:y1, x0:x1]
    return made if made.ndim == 3 else made[:, :, None]
