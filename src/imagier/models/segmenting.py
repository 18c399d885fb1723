"""A segmenter's network as a function of one image: how likely each pixel is what.

A network of one size sees the whole image brought to it, and what it gives is brought back. One of any size sees the
image as it is, in overlapping tiles, so that memory does not grow with the image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np

from imagier.algorithms import masks
from imagier.algorithms.tiling import tiled
from imagier.models import engines
from imagier.models.memory import tile_of as memory_tile
from imagier.models.model import Model
from imagier.models.preprocess import in_colour, place
from imagier.types import Image, ModelError, SettingError

OVERLAP = 96
"""Pixels of context around a tile."""
BACKGROUND = "background"
"""The first label of a segmenter whose classes exclude one another."""
CORE = "core"
"""The last label of one that also tells the inside of each object, by which touching ones are told apart."""

OBJECT = "object"
"""What a class is called that nobody named."""

Tell = Callable[[Image], np.ndarray]
"""(h, w, 3) or (h, w) uint8 to (h, w, channels) float32 in [0, 1]: the model's `classes`, and cores if it has them."""


def classes(model: Model) -> tuple[str, ...]:
    """What a segmenter tells apart; "object", or "object 1" and so on, where its card names nothing."""
    count = model.output("logits").width or 1
    unnamed = (OBJECT,) if count == 1 else tuple(f"{OBJECT} {at}" for at in range(1, count + 1))
    labels = model.card.labels or unnamed
    labels = labels[1:] if labels[0] == BACKGROUND else labels
    return labels[:-1] if has_cores(model) else labels


def has_cores(model: Model) -> bool:
    """Whether the last channel is the inside of objects."""
    return len(model.card.labels) > 1 and model.card.labels[-1] == CORE


def tile_of(model: Model, tile: int | None = None, memory: int | None = None) -> int:
    """The side of the tiles that a large image is seen in. Raises SettingError for what the model cannot have."""
    spec = model.card.input
    return memory_tile(model, "segment", tile, memory, 2 * OVERLAP + 3 * spec.multiple)


def teller(
    model: Model, *, engine: str = "auto", precision: str = "auto", flips: bool = False, tile: int | None = None
) -> Tell:
    """The network, loaded. flips: the mean over the image and its mirror images, four times the work. tile: the
    side of the tiles of a network that takes any size; by memory unless given.

    Raises ModelError for a card that shows the network a part of the image alone.
    """
    spec, output = model.card.input, model.output("logits").tensors[0]
    if spec.fit == "crop":
        raise ModelError(
            f"the model {model.card.name} sees the middle of an image alone: import it with --fit squash or pad"
        )
    side = tile or tile_of(model)
    run = engines.network(model, engine=engine, precision=precision)
    exclusive = bool(model.card.labels) and model.card.labels[0] == BACKGROUND
    cores = has_cores(model)

    def logits(batch: np.ndarray) -> np.ndarray:
        made = run(batch)[output].astype(np.float32)
        return made if spec.layout == "nhwc" else np.moveaxis(made, 1, 3)

    def likely(batch: np.ndarray) -> np.ndarray:
        given = logits(batch)
        if not exclusive:
            return sigmoid(given)
        apart, rest = (given[..., :-1], given[..., -1:]) if cores else (given, given[..., :0])
        top = np.exp(apart - apart.max(-1, keepdims=True))
        return np.concatenate([(top / top.sum(-1, keepdims=True))[..., 1:], sigmoid(rest)], axis=-1)

    def tell(image: Image) -> np.ndarray:
        if spec.size is None:
            shown = in_colour(image, spec.colour)
            return tiled(shown, likely, tile=side, overlap=OVERLAP, multiple=spec.multiple)
        pixels, placed = place(image, spec)
        made = likely(pixels[None])[0]
        if made.shape[:2] != spec.size:
            made = scaled(made, spec.size)
        height, width = image.shape[:2]
        top, left = round(placed.top), round(placed.left)
        part = made[
            top : top + max(1, round(height * placed.scale_y)), left : left + max(1, round(width * placed.scale_x))
        ]
        return scaled(part, (height, width))

    return over_flips(tell) if flips else tell


@dataclass(frozen=True)
class Cleaning:
    """From probabilities to masks and objects."""

    threshold: float = 0.5
    fill: float = 0.01
    """Holes up to this share of the image are closed."""
    least: int = 0
    """Pixels of the smallest object that is kept."""
    split: bool = False
    """Touching objects are told apart: by the model's cores where it has them."""

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise SettingError(f"threshold cannot be {self.threshold}: it takes a number between 0 and 1")
        if not 0 <= self.fill <= 1 or self.least < 0:
            raise SettingError("fill is a share of the image, 0 to 1, and least a number of pixels")


@dataclass(frozen=True)
class Found:
    """What a segmenter found in an image."""

    image: Image
    """As it was shown to it, uint8."""
    classes: tuple[str, ...]
    inside: np.ndarray
    """(h, w, classes) bool."""
    objects: np.ndarray
    """(h, w, classes) int32: every object of a class has a number, 0 is none."""
    likely: np.ndarray
    """(h, w, classes) float32: how likely each pixel is inside."""


def found(image: Image, model: Model, tell: Tell, how: Cleaning) -> Found:
    """One image, uint8, through a loaded segmenter."""
    names, likely = classes(model), tell(image)
    cores = likely[:, :, -1] > how.threshold if has_cores(model) else None
    likely = likely[:, :, : len(names)]
    inside, numbers = np.zeros(likely.shape, bool), np.zeros(likely.shape, np.int32)
    for at in range(len(names)):
        inside[:, :, at] = masks.cleaned(likely[:, :, at] > how.threshold, fill=how.fill, least=how.least)
        numbers[:, :, at] = masks.objects(inside[:, :, at], cores, split=how.split)
    return Found(image, names, inside, numbers, likely)


def over_flips(tell: Tell) -> Tell:
    """The mean over an image and its mirror images."""

    def told(image: Image) -> np.ndarray:
        total: np.ndarray | None = None
        for down, across in product((1, -1), repeat=2):
            made = tell(np.ascontiguousarray(image[::down, ::across]))[::down, ::across]
            total = made if total is None else total + made
        assert total is not None
        return total / 4

    return told


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Logits of any size to [0, 1], without overflow."""
    from scipy.special import expit

    made: np.ndarray = expit(logits)
    return made


def scaled(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(h, w, c) float32 brought to a size (height, width), bilinear."""
    import cv2

    made = np.stack(
        [cv2.resize(values[:, :, at], size[::-1], interpolation=cv2.INTER_LINEAR) for at in range(values.shape[2])], 2
    )
    return made.astype(np.float32)
