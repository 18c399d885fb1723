"""upscale: small images are enlarged by a network; the others pass as they are, untouched.

`upscaled` is the factor by which an image was enlarged, 1 where it was left alone: a count of it tells how many were.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa

from imagier.stages._choice import chosen
from imagier.types import Apply, Columns, Image, ImageError, NameOrFile, SettingError, Stage, Step

if TYPE_CHECKING:
    from imagier.models.model import Model

LANCZOS = "lanczos"
LANCZOS_FACTOR = 3
TILE = 192
OVERLAP = 32
"""Pixels of context around a tile. CARN-M looks 21 pixels far: tiles are exact with 21, 0.07 of 255 off with 12. EDSR
looks 36 pixels far (68, the full one), but faintly: with any weights tried, 24 were enough for 0.02."""

Enlarge = Callable[[Image, float, float], Image]
"""An image with its `black` and `white` to the enlarged one of the same dtype."""


def make(
    *,
    model: NameOrFile = "edsr-x3",
    below: int = 128,
    tile: int | None = None,
    engine: Literal["auto", "openvino", "onnxruntime", "torch"] | None = None,
) -> Step:
    """`upscaled`: the factor, 1 for an image that was left as it is; `image` goes on enlarged, in its own depth.

    model: a model's name, the path of a Model folder or of a network file, or "lanczos": ×3 by Lanczos' kernel, with no
        network and no weights.
    below: images are enlarged whose short side, in the original or of the region cut from it, is below so many pixels.

    For networks alone, which always run in float32:
    tile: larger images go through in overlapping tiles of so many pixels a side; 192, if not given. Memory grows with
        its square: at 192 some 200 MB a worker for EDSR's baseline, 350 for CARN-M, 900 for the full EDSR.
    engine: what runs the network.
    """
    if below < 1:
        raise SettingError(f"upscale.below cannot be {below}: it takes 1 pixel or more")
    kind = LANCZOS if model == LANCZOS else "network"
    return METHODS[kind](model, below, **chosen(METHODS, kind, {"tile": tile, "engine": engine}))


def _lanczos(_: str, below: int) -> Step:
    return _step(below, LANCZOS_FACTOR, lambda: lanczos, ())


def lanczos(image: Image, black: float, white: float) -> Image:
    """×3 by OpenCV's Lanczos kernel of 8 × 8 pixels: any dtype to the same, clipped to its range."""
    import cv2

    height, width = image.shape[:2]
    size = (width * LANCZOS_FACTOR, height * LANCZOS_FACTOR)
    enlarged: Image = cv2.resize(image, size, interpolation=cv2.INTER_LANCZOS4)
    return enlarged.clip(0, 1) if image.dtype == np.float32 else enlarged


def _network(model: str, below: int, *, tile: int = TILE, engine: str = "auto") -> Step:
    from imagier.models import engines
    from imagier.models.store import find

    found = find(model, "upscale", besides=(LANCZOS,))
    spec, factor = found.card.input, found.card.scale
    assert factor is not None  # a card of this task has one
    if spec.dtype != "float32":
        raise SettingError(f"upscale.model cannot be {model!r}: it takes 8-bit pixels, and upscale works in float32")
    if spec.size is not None:
        if spec.size[0] != spec.size[1] or tile not in (TILE, spec.size[0]):
            raise SettingError(
                f"upscale: the model {model!r} takes {spec.size} pixels; tiles are square, here of {tile}"
            )
    elif not (least := 2 * OVERLAP + 3 * spec.multiple) <= tile <= 4096:  # below, rounding to `multiple` leaves none
        raise SettingError(f"upscale.tile cannot be {tile}: it takes {least} to 4096 pixels")
    choice = engines.choose(found, engine, "float32")

    def load() -> Enlarge:
        run = engines.network(found, pixels="float32", engine=choice.engine, precision="float32")
        return enlarger(found, run, tile)

    return _step(below, factor, load, found.keys, choice.precision)


METHODS: dict[str, Callable[..., Step]] = {LANCZOS: _lanczos, "network": _network}


def _step(
    below: int, factor: int, load: Callable[[], Enlarge], weights: tuple[str, ...], precision: str = "float32"
) -> Step:
    from imagier.images import PIXEL_LIMIT

    def start() -> Apply:
        enlarge = load()

        def apply(columns: Columns) -> Columns:
            made, factors = [], []
            names = ("image", "width", "height", "black", "white")
            for image, width, height, black, white in zip(*(columns[name] for name in names), strict=True):
                small = min(width, height) < below
                if small and image.shape[0] * image.shape[1] * factor**2 > PIXEL_LIMIT:
                    raise ImageError(
                        f"{width} x {height} pixels, enlarged ×{factor}, are more than {PIXEL_LIMIT:,}: lower below"
                    )
                made.append(enlarge(image, black, white) if small else image)
                factors.append(factor if small else 1)
            return {"image": made, "upscaled": np.array(factors, np.int8)}

        return apply

    return Step(
        reads=("image", "width", "height", "black", "white"),
        writes=pa.schema([pa.field("upscaled", pa.int8())]),
        load=start,
        passes=("image",),
        weights=weights,
        precision=precision,
        pixels=below,
    )


def enlarger(model: Model, run: Callable[[np.ndarray], dict[str, np.ndarray]], tile: int) -> Enlarge:
    """A network as a function of one image. `run`: as `engines.network` gives it for float32 pixels.

    The network sees the image between its `black` and `white`, nothing clipped and nothing rounded: a 12-bit image that
    lies in a corner of 16 bits would else be all but black to it, and come out worse than any interpolation.
    """
    from imagier.algorithms.tiling import tiled

    spec, output, factor = model.card.input, model.output("image").tensors[0], model.card.scale or 1
    fixed = spec.size is not None
    side = spec.size[0] if spec.size is not None else tile
    overlap = min(OVERLAP, side // 4)
    batch = max(1, TILE**2 // side**2)

    def network(pixels: np.ndarray) -> np.ndarray:
        """(n, h, w, 3) RGB on 0 to 255 to the same, enlarged."""
        if spec.colour == "grey":  # each channel is a picture to it
            pixels = pixels.transpose(0, 3, 1, 2).reshape(-1, *pixels.shape[1:3], 1)
        made = run(pixels)[output]
        made = made if spec.layout == "nhwc" else made.transpose(0, 2, 3, 1)
        if spec.colour == "grey":
            return made[..., 0].reshape(-1, 3, *made.shape[1:3]).transpose(0, 2, 3, 1) * np.float32(255)
        return (made[..., ::-1] if spec.colour == "bgr" else made) * np.float32(255)

    def enlarge(image: Image, black: float, white: float) -> Image:
        grey, unit = image.ndim == 2, np.float32((white - black) / 255)
        top = {"uint8": 255, "uint16": 65535, "float32": 1}[str(image.dtype)]

        def on_tile(pixels: np.ndarray) -> np.ndarray:
            shown = (pixels.astype(np.float32) - np.float32(black)) / unit
            values = network(np.repeat(shown, 3, axis=3) if grey else shown)
            values = (values.mean(axis=3, keepdims=True) if grey else values) * unit + np.float32(black)
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

    return enlarge


UPSCALE = Stage(name="upscale", version=1, over="rows", make=make)
