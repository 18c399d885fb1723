"""upscale: small images are enlarged by a network; the others pass as they are, untouched.

`upscaled` is the factor by which an image was enlarged, 1 where it was left alone: a count of it tells how many were.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import pyarrow as pa

from imagier.stages._choice import chosen
from imagier.types import BUILTIN, Apply, Columns, Image, ImageError, NameOrFile, SettingError, Stage, Step

LANCZOS = "lanczos"
LANCZOS_FACTOR = 3


Enlarge = Callable[[Image, float, float], Image]
"""An image with its `black` and `white` to the enlarged one of the same dtype."""


def make(
    *,
    model: NameOrFile = BUILTIN,
    below: int = 128,
    tile: int | None = None,
    memory: int | None = None,
    engine: Literal["auto", "openvino", "onnxruntime", "torch"] | None = None,
) -> Step:
    """`upscaled`: the factor, 1 for an image that was left as it is; `image` goes on enlarged, in its own depth.

    model: "builtin", a small EDSR ×3; a model's name, the path of a Model folder or of a network file; or "lanczos": ×3
        by Lanczos' kernel, with no network and no weights.
    below: images are enlarged whose short side, in the original or of the region cut from it, is below so many pixels.

    For networks alone, which always run in float32:
    memory: megabytes that the network may take, a worker: larger images go through in overlapping tiles, as large as
        fit; 500, unless given. tile: or so many pixels a side.
    engine: what runs the network.
    """
    if below < 1:
        raise SettingError(f"upscale.below cannot be {below}: it takes 1 pixel or more")
    kind = LANCZOS if model == LANCZOS else "network"
    return METHODS[kind](model, below, **chosen(METHODS, kind, {"tile": tile, "memory": memory, "engine": engine}))


def _lanczos(_: str, below: int) -> Step:
    return _step(below, LANCZOS_FACTOR, lambda: lanczos, ())


def lanczos(image: Image, black: float, white: float) -> Image:
    """×3 by OpenCV's Lanczos kernel of 8 × 8 pixels: any dtype to the same, clipped to its range."""
    import cv2

    height, width = image.shape[:2]
    size = (width * LANCZOS_FACTOR, height * LANCZOS_FACTOR)
    enlarged: Image = cv2.resize(image, size, interpolation=cv2.INTER_LANCZOS4)
    return enlarged.clip(0, 1) if image.dtype == np.float32 else enlarged


def _network(
    model: str, below: int, *, tile: int | None = None, memory: int | None = None, engine: str = "auto"
) -> Step:
    from imagier.models import engines, restoring
    from imagier.models.store import find

    found = find(model, "upscale", besides=(LANCZOS,))
    assert found.card.scale is not None  # a card of this task has one
    side = restoring.tile_of(found, "upscale", tile, memory)
    choice = engines.choose(found, engine, "float32")

    def load() -> Enlarge:
        return restoring.load(found, side, engine=choice.engine)

    return _step(below, found.card.scale, load, found.keys, choice.precision)


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


UPSCALE = Stage(name="upscale", version=1, over="rows", make=make)
