"""A network from images to images as a function of one image, of any size and depth: denoisers and upscalers.

The network sees the image between its `black` and `white`, nothing clipped and nothing rounded: a 12-bit image that
lies in a corner of 16 bits would else be all but black to it, and come out worse than any interpolation. Large images
go through in tiles.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from imagier.algorithms.noise import deviation
from imagier.algorithms.tiling import tiled
from imagier.models import engines
from imagier.models.memory import tile_of as memory_tile
from imagier.models.model import Model
from imagier.types import Image, SettingError

OVERLAP = 32
"""Pixels of context around a tile. CARN-M looks 21 pixels far: tiles are exact with 21, 0.07 of 255 off with 12. EDSR
looks 36 pixels far (68, the full one), but faintly: with any weights tried, 24 were enough for 0.02."""

SMALL = 192
"""Smaller tiles go through several at once."""

LEAST = 5.0
"""255ths: images of less noise are brought no farther, where a network is to be told; what is found in them is taken
away in proportion. Brought farther, they would be all texture, and to learn them would cost the others."""
MIDDLE = np.float32(127.5)


class Restore(Protocol):
    """An image with its `black` and `white` to the restored one of the same dtype."""

    def __call__(self, image: Image, black: float, white: float, sigma: float | None = None) -> Image:
        """sigma: the standard deviation of the noise, in 255ths, for a network that is told; else it is estimated."""


def tile_of(model: Model, stage: str, tile: int | None, memory: int | None) -> int:
    """The side of a stage's tiles. Raises SettingError for a model, a tile or a memory that does not fit."""
    spec = model.card.input
    if spec.dtype != "float32":
        raise SettingError(
            f"{stage}.model cannot be {model.card.name!r}: it takes 8-bit pixels, and {stage} works in float32"
        )
    if spec.size is not None and spec.size[0] != spec.size[1]:
        raise SettingError(f"{stage}: the model {model.card.name!r} takes {spec.size} pixels; tiles are square")
    least = 2 * OVERLAP + 3 * spec.multiple  # below, rounding to `multiple` leaves none
    return memory_tile(model, stage, tile, memory, least)


def load(model: Model, tile: int, *, engine: str = "auto", flips: bool = False) -> Restore:
    """The network, loaded, in float32. flips: the mean over the image and its mirror images, four times the work."""
    run = engines.network(model, pixels="float32", engine=engine, precision="float32")
    return restorer(model, run, tile, flips)


def restorer(
    model: Model, run: Callable[[np.ndarray], dict[str, np.ndarray]], tile: int, flips: bool = False
) -> Restore:
    """A network as a function of one image. `run`: as `engines.network` gives it for float32 pixels."""
    spec, output, factor = model.card.input, model.output("image").tensors[0], model.card.scale or 1
    fixed = spec.size is not None
    side = spec.size[0] if spec.size is not None else tile
    overlap = min(OVERLAP, side // 4)
    batch = max(1, SMALL**2 // side**2)

    def network(pixels: np.ndarray) -> np.ndarray:
        """(n, h, w, 3) RGB on 0 to 255 to the same, restored; or (n, h, w, 1), for a network that takes grey."""
        channels = pixels.shape[3]
        if spec.colour == "grey" and channels == 3:  # each channel is a picture to it
            pixels = pixels.transpose(0, 3, 1, 2).reshape(-1, *pixels.shape[1:3], 1)
        made = run(pixels)[output]
        made = made if spec.layout == "nhwc" else made.transpose(0, 2, 3, 1)
        if spec.colour == "grey" and channels == 3:
            made = made[..., 0].reshape(-1, 3, *made.shape[1:3]).transpose(0, 2, 3, 1)
        return (made[..., ::-1] if spec.colour == "bgr" else made) * np.float32(255)

    def mean(pixels: np.ndarray) -> np.ndarray:
        if not flips:
            return network(pixels)
        made = [
            network(np.ascontiguousarray(pixels[:, ::down, ::across]))[:, ::down, ::across]
            for down in (1, -1)
            for across in (1, -1)
        ]
        return sum(made[1:], made[0]) / np.float32(4)

    def restore(image: Image, black: float, white: float, sigma: float | None = None) -> Image:
        grey, unit = image.ndim == 2, np.float32((white - black) / 255)
        repeated = grey and spec.colour != "grey"
        gain = share = np.float32(1)
        if model.card.sigma is not None:
            found = deviation(np.atleast_3d(image)) / float(unit) if sigma is None else sigma
            gain = np.float32(model.card.sigma / max(found, LEAST))
            share = np.float32(min(1.0, found / LEAST))
        top = {"uint8": 255, "uint16": 65535, "float32": 1}[str(image.dtype)]

        def on_tile(pixels: np.ndarray) -> np.ndarray:
            given = pixels.astype(np.float32)
            shown = ((given - np.float32(black)) / unit - MIDDLE) * gain + MIDDLE
            values = mean(np.repeat(shown, 3, axis=3) if repeated else shown)
            values = values.mean(axis=3, keepdims=True) if repeated else values
            values = ((values - MIDDLE) / gain + MIDDLE) * unit + np.float32(black)
            values = values if share == 1 else given + share * (values - given)
            values = values.clip(0, top)
            return values if image.dtype == np.float32 else np.rint(values).astype(image.dtype)

        made = tiled(
            image[:, :, None] if grey else image,
            on_tile,
            scale=factor,
            tile=side,
            overlap=overlap,
            multiple=1 if fixed else spec.multiple,
            batch=batch,
            fixed=fixed,
        )
        return made[:, :, 0] if grey else made

    return restore
