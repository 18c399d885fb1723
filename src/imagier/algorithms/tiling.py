"""Tiling: an image of any size put through a function that takes only so much at once, and no seam to be seen.

Each tile sees `overlap` pixels more than it gives, on every side that is not the image's own edge. Where a network's
receptive field reaches no farther than that, tiles give what the whole image gives; where it reaches farther, what is
lost is the outermost part of it, which weighs little. Blending neighbours was left out: what a tile sees wrongly falls
off fast with the distance from its edge, so leaving it away is better than weighing it in.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

_say = logging.getLogger(__name__)

Run = Callable[[np.ndarray], np.ndarray]
"""(n, h, w, C) to (n, h · scale, w · scale, C2): the same everywhere, and each pixel from what is near it."""


@dataclass(frozen=True)
class Span:
    """A tile along one axis: it sees the pixels `start` to `stop`, and gives `first` to `last` of the result."""

    start: int
    stop: int
    first: int
    last: int


def tiled(
    image: np.ndarray,
    run: Run,
    *,
    scale: int = 1,
    tile: int,
    overlap: int,
    multiple: int = 1,
    batch: int = 1,
    fixed: bool = False,
) -> np.ndarray:
    """`run` of the whole image, tile by tile: (H, W, C) to (H · scale, W · scale, C2), of the dtype that `run` gives.

    tile: the most pixels a side that `run` is handed; rounded down to `multiple`. An image that fits is one tile, and
        all tiles of an image have one size, no larger than sharing it evenly needs.
    overlap: pixels of context around what a tile gives; rounded up to `multiple`, less than half a tile.
    multiple: what the sides and places of tiles are multiples of, as networks with strides need it. The image is
        mirrored at its right and bottom edge to fill it up, and cut again.
    batch: tiles handed over at once.
    fixed: every tile is `tile` pixels a side: a smaller image is filled up by mirroring.

    Memory: what `run` takes for batch · tile · tile pixels, and the result, whatever the size of the image. Where `run`
    raises MemoryError, it goes on with one tile at a time, and then with tiles of half the side, as long as they give
    more than they overlap; the log says so.
    Raises ValueError for an image or settings that do not fit, and where `run` gives another size than it should.
    """
    tile, overlap = tile // multiple * multiple, -(-overlap // multiple) * multiple
    if image.ndim != 3 or 0 in image.shape:
        raise ValueError(f"an image of the shape {image.shape}, not (H, W, C)")
    if min(scale, multiple, batch) < 1 or overlap < 0 or tile <= 2 * overlap:
        raise ValueError(f"tiles of {tile} pixels that overlap by {overlap}, {batch} at once, scale {scale}")
    while True:
        try:
            return _tiled(image, run, scale, tile, overlap, multiple, batch, fixed)
        except MemoryError:
            smaller = tile if batch > 1 else min(tile, max(image.shape[:2])) // 2 // multiple * multiple
            if smaller < tile and (fixed or smaller < 4 * max(1, overlap)):
                raise
        _say.warning("no memory for %d at once of tiles of up to %d pixels: on with one of %d", batch, tile, smaller)
        tile, batch = smaller, 1


def _tiled(
    image: np.ndarray, run: Run, scale: int, tile: int, overlap: int, multiple: int, batch: int, fixed: bool
) -> np.ndarray:
    height, width = image.shape[:2]
    more = [max(tile if fixed else 0, -(-side // multiple) * multiple) - side for side in (height, width)]
    if any(more):
        image = np.pad(image, ((0, more[0]), (0, more[1]), (0, 0)), mode="reflect")
    down, across = (spans(side, tile, overlap, multiple, fixed=fixed) for side in image.shape[:2])
    places = [(y, x) for y in down for x in across]
    result: np.ndarray | None = None
    for at in range(0, len(places), batch):
        some = places[at : at + batch]
        pieces = run(np.stack([image[y.start : y.stop, x.start : x.stop] for y, x in some]))
        y, x = some[0]
        due = (len(some), (y.stop - y.start) * scale, (x.stop - x.start) * scale)
        if pieces.shape[:3] != due:
            raise ValueError(f"{due} pixels were due, and {pieces.shape} came back: is the scale {scale}?")
        if result is None:
            result = np.empty((height * scale, width * scale, pieces.shape[3]), pieces.dtype)
        for (y, x), piece in zip(some, pieces, strict=True):
            target = result[y.first * scale : y.last * scale, x.first * scale : x.last * scale]
            top, left = (y.first - y.start) * scale, (x.first - x.start) * scale
            target[...] = piece[top : top + target.shape[0], left : left + target.shape[1]]
    assert result is not None
    return result


def spans(length: int, tile: int, overlap: int, multiple: int = 1, *, fixed: bool = False) -> list[Span]:
    """The tiles along an axis of `length` pixels; all arguments but the last are multiples of `multiple`.

    What they give joins without gap or repetition, and lies `overlap` from their ends but at the axis's own ends.
    """
    if length <= tile:
        return [Span(0, length, 0, length)]
    inner = length - 2 * overlap
    count = -(-inner // (tile - 2 * overlap))
    if not fixed:
        tile = -(-inner // (count * multiple)) * multiple + 2 * overlap
    starts = [min(at * (tile - 2 * overlap), length - tile) for at in range(count)]
    edges = [0, *(start + tile - overlap for start in starts[:-1]), length]
    return [Span(start, start + tile, edges[at], edges[at + 1]) for at, start in enumerate(starts)]
