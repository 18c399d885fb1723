"""What is shown: a part of an image, to the teacher as it is and at 224 pixels, to the student smaller and changed.

The changes are those that users' images have and photographs do not: grey, tinted, blurred, noisy, turned.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from imagier.images import resize

PACKS = ("natural_160px.parquet", "tiny_imagenet_64px.parquet")
LARGE = 0.5
"""Share of images from the first pack: it has a seventh of the images, at six times the pixels."""


@dataclass(frozen=True)
class Changes:
    """How often the student's view is changed."""

    light: float = 0.5
    """Any change of brightness, contrast, colour, sharpness or noise at all."""
    turned: float = 0.25
    """By one to three quarters."""


def packs(folder: Path) -> list[list[bytes]]:
    """The encoded images of each pack, and nothing else of them: labels are not used."""
    import pyarrow.parquet as pq

    return [pq.read_table(folder / name, columns=["image"])["image"].to_pylist() for name in PACKS]


def opened(data: bytes) -> np.ndarray:
    """(h, w, 3) uint8."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def batch(
    images: list[list[bytes]], size: int, seed: int, step: int, changes: Changes, teacher: int, student: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The views of a step, always the same ones: for the teacher, for the student, and which were turned."""
    rng = np.random.default_rng([seed, step])
    large, small, turns = [], [], []
    for _ in range(size):
        pack = images[0 if rng.random() < LARGE else 1]
        whole = part(opened(pack[rng.integers(len(pack))]), teacher, rng)
        view = resize(whole, size=(student, student))
        if rng.random() < changes.light:
            view = relit(view, rng)
        turn = int(rng.integers(1, 4)) if rng.random() < changes.turned else 0
        large.append(whole)
        small.append(np.rot90(view, turn))
        turns.append(turn)
    return np.stack(large), np.stack(small), np.array(turns) > 0


def part(image: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """A part of 35 to 100 % of the largest square, a little stretched, mirrored or not; one in five: the whole."""
    h, w = image.shape[:2]
    length, stretch = min(h, w) * np.sqrt(rng.uniform(0.35, 1)), np.exp(rng.uniform(-0.2, 0.2))
    wide, high = (w, h) if rng.random() < 0.2 else (round(min(w, length * stretch)), round(min(h, length / stretch)))
    x, y = int(rng.integers(w - wide + 1)), int(rng.integers(h - high + 1))
    cut = image[y : y + high, x : x + wide]
    made = cv2.resize(cut, (side, side), interpolation=cv2.INTER_AREA if min(high, wide) > side else cv2.INTER_CUBIC)
    return np.ascontiguousarray(made[:, ::-1] if rng.random() < 0.5 else made)


def relit(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another gamma, contrast and brightness; grey, or tinted; blurred; noisy. Each by chance."""
    if rng.random() < 0.8:
        gamma, contrast, shift = np.exp(rng.uniform(-0.4, 0.4)), rng.uniform(0.6, 1.4), rng.uniform(-30, 30)
        curve = ((np.arange(256) / 255) ** gamma * 255 - 128) * contrast + 128 + shift
        image = curve.clip(0, 255).astype(np.uint8)[image]
    colour = rng.random()
    if colour < 0.2:
        image = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[:, :, None], 3, axis=2)
    elif colour < 0.5:
        image = (image * rng.uniform(0.7, 1.3, 3)).clip(0, 255).astype(np.uint8)
    if rng.random() < 0.2:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 1.8))
    if rng.random() < 0.2:
        image = (image + rng.normal(0, rng.uniform(3, 18), image.shape)).clip(0, 255).astype(np.uint8)
    return image
