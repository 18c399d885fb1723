"""What is shown: a part of an image, to the teacher as it is and at 224 pixels, to the student smaller and changed;
and small crops of that part, changed more.

The changes are those that users' images have and photographs do not: grey, tinted, blurred, noisy, turned.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from imagier.images import resize

PACKS = ("natural_160px.parquet", "tiny_imagenet_64px.parquet")
SYNSET = re.compile(r"n\d{8}")
CLASSES = 1000
CROP = 96
"""Pixels of a small crop's side."""
LARGE = 0.5
"""Share of images from the first pack: it has a seventh of the images, at six times the pixels."""


@dataclass(frozen=True)
class Changes:
    """How often the student's view is changed."""

    light: float = 0.5
    """Any change of brightness, contrast, colour, sharpness or noise at all."""
    turned: float = 0.25
    """By one to three quarters."""
    crops: int = 0
    """Small crops of each."""


@dataclass(frozen=True)
class Pack:
    """Encoded images, and the place of each one's class among the teacher's 1,001; -1 where it is none of them."""

    images: list[bytes]
    classes: np.ndarray


def packs(folder: Path) -> list[Pack]:
    """Both packs. ImageNet's classes go by the order of their WordNet numbers, after one for the background."""
    import pyarrow.parquet as pq

    tables = [pq.read_table(folder / name, columns=["image", "label"]) for name in PACKS]
    numbers = sorted({label for label in tables[0]["label"].to_pylist() if SYNSET.fullmatch(label)})
    if len(numbers) != CLASSES:
        raise SystemExit(f"{folder / PACKS[0]} has images of {len(numbers)} ImageNet classes, not of {CLASSES}")
    places = {number: 1 + at for at, number in enumerate(numbers)}
    return [
        Pack(table["image"].to_pylist(), np.array([places.get(label, -1) for label in table["label"].to_pylist()]))
        for table in tables
    ]


def opened(data: bytes) -> np.ndarray:
    """(h, w, 3) uint8."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@dataclass(frozen=True)
class Views:
    """What a step shows, uint8."""

    large: np.ndarray
    """(n, 224, 224, 3): the teacher's."""
    small: np.ndarray
    """(n, 176, 176, 3): the student's."""
    turned: np.ndarray
    """(n,) bool: whether the student's was turned."""
    classes: np.ndarray
    """(n,) int: as a pack has them."""
    crops: np.ndarray
    """(n * crops, 96, 96, 3): those of an image one after the other."""


def batch(images: list[Pack], size: int, seed: int, step: int, changes: Changes, sides: tuple[int, int]) -> Views:
    """The views of a step, always the same ones. sides: of the teacher's and of the student's."""
    rng, further = np.random.default_rng([seed, step]), np.random.default_rng([seed, step, 1])
    teacher, student = sides
    large, small, turns, classes, crops = [], [], [], [], []
    for _ in range(size):
        pack = images[0 if rng.random() < LARGE else 1]
        chosen = rng.integers(len(pack.images))
        whole = part(opened(pack.images[chosen]), teacher, rng)
        view = resize(whole, size=(student, student))
        if rng.random() < changes.light:
            view = relit(view, rng)
        turn = int(rng.integers(1, 4)) if rng.random() < changes.turned else 0
        large.append(whole)
        small.append(np.rot90(view, turn))
        turns.append(turn)
        classes.append(pack.classes[chosen])
        crops += [relit(part(whole, CROP, further, (0.1, 0.35)), further) for _ in range(changes.crops)]
    shown = np.stack(crops) if crops else np.empty((0, CROP, CROP, 3), np.uint8)
    return Views(np.stack(large), np.stack(small), np.array(turns) > 0, np.array(classes), shown)


def part(image: np.ndarray, side: int, rng: np.random.Generator, share: tuple[float, float] = (0.35, 1)) -> np.ndarray:
    """A part with such a share of the largest square, a little stretched, mirrored or not; one in five: the whole.

    Of a share that ends below 1, never the whole.
    """
    h, w = image.shape[:2]
    length, stretch = min(h, w) * np.sqrt(rng.uniform(*share)), np.exp(rng.uniform(-0.2, 0.2))
    whole = rng.random() < 0.2 and share[1] == 1
    wide, high = (w, h) if whole else (round(min(w, length * stretch)), round(min(h, length / stretch)))
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
