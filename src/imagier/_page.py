"""What every image reader hands back, and what they share: orientation and transparency."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from imagier.types import Image, ImageError

DAMAGE: tuple[type[Exception], ...] = (
    OSError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, AssertionError, RuntimeError,
    SyntaxError, EOFError, BufferError, struct.error, zlib.error,
)  # fmt: skip
"""What the libraries were seen to raise on bad data. MemoryError is not among them: it says nothing about the file."""


@dataclass(frozen=True)
class Page:
    """One page of a file, its head read and its pixels not yet."""

    format: str
    pages: int
    """Pages in the file."""
    width: int
    """Stored pixels, before orientation."""
    height: int
    depth: str
    """"uint8", "uint16" or "float32"."""
    pixels: Callable[[int], Image]
    """Divisor (1, 2, 4 or 8) -> the pixels as stored. All but JPEG give full size whatever the divisor."""
    orientation: int = 1
    """The EXIF tag, 1 to 8."""
    scales: bool = False
    """Whether the divisor is followed."""
    pixel_size: float | None = None
    """Micrometres a pixel, where the file tells."""


def aside(read: Callable[[], float | None]) -> float | None:
    """What a file says beside its picture; None where that is damaged: the picture is whole without it."""
    try:
        return read()
    except DAMAGE:
        return None


def square(across: float, down: float) -> float | None:
    """The pixel size of both directions, which must be a length and the same to a hundredth; None if not."""
    fits = np.isfinite([across, down]).all() and min(across, down) > 0 and abs(across / down - 1) < 0.01
    return float(across) if fits else None


def check_size(width: int, height: int, limit: int) -> None:
    """Refuse a page with no pixel, or with more than `limit`. Raises ImageError."""
    if width < 1 or height < 1:
        raise ImageError(f"the header gives no usable size: {width} x {height} pixels")
    if width * height > limit:
        raise ImageError(f"too large: {width} x {height} = {width * height:,} pixels; the limit is {limit:,}")


def check_page(page: int, pages: int) -> None:
    """Refuse a page that the file does not have. Raises ImageError."""
    if not 0 <= page < pages:
        raise ImageError(f"there is no page {page}: the file has {pages} (counted from 0)")


def reason(error: Exception) -> str:
    """A library's own words, on one short line."""
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= 160 else words[:157] + "..."


def exif_orientation(block: bytes) -> int:
    """The orientation (1 to 8) of an EXIF block; 1 where the block has none or is broken: the pixels are sound."""
    block = block.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(order + "I", block, 4)
        (count,) = struct.unpack_from(order + "H", block, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(order + "HH", block, entry)
            if tag == 0x0112 and kind in (3, 4):
                (value,) = struct.unpack_from(order + ("H" if kind == 3 else "I"), block, entry + 8)
                return int(value) if 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1


def orient(image: Image, orientation: int) -> Image:
    """Turn and mirror the stored pixels as EXIF orientation 1 to 8 says."""
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


def flatten(image: Image) -> Image:
    """(H, W, 2) or (H, W, 4) over white, dtype kept; other shapes as they are. Opaque images lose the alpha alone."""
    if image.ndim == 3 and image.shape[2] == 1:
        return image[..., 0]
    if image.ndim == 2 or image.shape[2] == 3:
        return image
    colour, alpha = image[..., :-1], image[..., -1:]
    top = 1.0 if image.dtype.kind == "f" else float(np.iinfo(image.dtype).max)
    if not (alpha == top).all():
        share = alpha.astype(np.float32) / np.float32(top)
        mixed = colour * share + np.float32(top) * (1 - share)
        colour = (mixed if image.dtype.kind == "f" else np.rint(mixed)).clip(0, top).astype(image.dtype)
    return np.ascontiguousarray(colour[..., 0] if image.shape[2] == 2 else colour)


def grey_if_equal(image: Image) -> Image:
    """A palette image whose colours are all greys becomes (H, W)."""
    if image.ndim == 3 and (image[..., :1] == image[..., 1:3]).all():
        image = image[..., 0] if image.shape[2] == 3 else image[..., [0, 3]]
    return image


def unit_range(image: Image, *, fit: bool = False) -> Image:
    """Float32 in [0, 1]: as it is where it fits already, else mapped by the page's finite min..max.

    `fit` maps always (integers wider than 16 bits have no scale of their own). NaN becomes 0, infinities the ends.
    """
    finite = image[np.isfinite(image)]
    if not finite.size:
        raise ImageError("the page holds no finite value")
    low, high = float(finite.min()), float(finite.max())
    if fit or low < 0 or high > 1:
        with np.errstate(all="ignore"):  # infinities, and spans beyond float64, which clip below
            image = (image.astype(np.float64) - low) / ((high - low) or 1.0)
    return np.nan_to_num(image.astype(np.float32), nan=0.0, posinf=1.0, neginf=0.0).clip(0, 1)
