"""Bytes to images for every format, and back: the only place that decodes or encodes.

A page of a TIFF, a frame of a DICOM and a frame of an animation (GIF, PNG, WebP, AVIF) are all *pages*. A file that is
cut short or damaged is refused, never padded. What is kept and what is changed on the way in:

- bit depth is kept: uint8, uint16, float32 in [0, 1]; other numbers become float32 (see `_tiff`, `_dicom`);
- EXIF orientation is applied; transparent pixels are laid over white; palettes and CMYK become RGB, or grey when all
  entries are grey; 1 bit becomes 0 and 255; colour profiles are not applied;
- the size of a pixel is read where a microscope or scanner wrote it: OME-TIFF, ImageJ's TIFF, DICOM. The dots per inch
  of other files are a wish of the printer's, and are not.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imagier._page import DAMAGE, Page, check_size, orient, reason
from imagier.types import Image, ImageError

PIXEL_LIMIT = 200_000_000
"""Pixels per page. A page of RGB float32 at this size takes 2.4 GB."""

SUFFIXES: frozenset[str] = frozenset(
    [".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".dcm", ".dicom"]
    + [".heic", ".heif"]
    + [".avif"] * (importlib.util.find_spec("PIL._avif") is not None)
)
"""Lower-case suffixes taken for images when a folder is walked. Content decides what a file is, not its suffix."""


@dataclass(frozen=True)
class Header:
    """What a file says of itself before any pixel is read."""

    format: str
    """"JPEG", "PNG", "GIF", "BMP", "WebP", "TIFF", "DICOM", "HEIC" or "AVIF"."""
    pages: int
    width: int
    """Of the first page, after orientation."""
    height: int
    depth: str
    """Of the first page once decoded: "uint8", "uint16" or "float32"."""


@dataclass(frozen=True)
class Decoded:
    """One page as pixels."""

    image: Image
    """(H, W, 3) RGB or (H, W) grey; uint8, uint16 or float32 in [0, 1]."""
    width: int
    """Original pixels, after orientation and before any scaling by the decoder."""
    height: int
    black: float
    """The value to show as 0 when 8 bits are needed, in the image's own unit."""
    white: float
    """The value to show as 255; always above `black`."""
    pixel_size: float | None = None
    """Micrometres an original pixel, of both directions; None where the file does not tell."""


def read(path: Path) -> Decoded:
    """A file's first page. Raises ImageError, which names the file, also where it cannot be read."""
    try:
        return decode(path.read_bytes())
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}") from error
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error


def header(data: bytes, *, limit: int = PIXEL_LIMIT) -> Header:
    """Read a file's head, no pixels. Raises ImageError for what is no image, is damaged, or exceeds `limit` pixels."""
    page = _open(data, 0, limit)
    wide, high = _turned(page)
    return Header(page.format, page.pages, wide, high, page.depth)


def decode(data: bytes, *, page: int = 0, short_side: int | None = None, limit: int = PIXEL_LIMIT) -> Decoded:
    """Decode one page. Safe to call from many threads at once.

    `short_side`: a JPEG comes at the smallest of 1/1, 1/2, 1/4, 1/8 whose short side still has that many pixels;
    other formats come at full size. Raises ImageError.
    """
    opened = _open(data, page, limit)
    divisor = 1
    if short_side is not None and opened.scales:
        least = min(opened.width, opened.height)
        divisor = max(d for d in (1, 2, 4, 8) if d == 1 or -(-least // d) >= short_side)
    try:
        image = opened.pixels(divisor)
    except ImageError:
        raise
    except DAMAGE as error:
        raise ImageError(f"damaged {opened.format}: {reason(error)}") from error
    image = orient(image, opened.orientation)
    wide, high = _turned(opened) if opened.scales else (image.shape[1], image.shape[0])
    black, white = levels(image)
    return Decoded(image, wide, high, black, white, opened.pixel_size)


def _turned(page: Page) -> tuple[int, int]:
    return (page.height, page.width) if page.orientation >= 5 else (page.width, page.height)


def _open(data: bytes, page: int, limit: int) -> Page:
    name = _format(data)
    try:
        if name == "TIFF":
            from imagier._tiff import read_tiff

            opened = read_tiff(data, page, limit)
        elif name == "DICOM":
            from imagier._dicom import read_dicom

            opened = read_dicom(data, page)
        else:
            from imagier._raster import READERS

            opened = READERS[name](data, page)
    except ImageError:
        raise
    except DAMAGE as error:
        raise ImageError(f"damaged {name}: {reason(error)}") from error
    check_size(opened.width, opened.height, limit)
    return opened


def _format(data: bytes) -> str:
    """The format by its signature. Raises ImageError."""
    if not data:
        raise ImageError("empty file")
    starts = {
        b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG", b"GIF87a": "GIF", b"GIF89a": "GIF",
        b"II*\0": "TIFF", b"MM\0*": "TIFF", b"II+\0": "TIFF", b"MM\0+": "TIFF",
    }  # fmt: skip
    for start, name in starts.items():
        if data.startswith(start):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data[128:132] == b"DICM":
        return "DICOM"
    if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in (12, 40, 52, 56, 64, 108, 124):
        return "BMP"
    if data[4:8] == b"ftyp":
        box = data[8 : min(len(data), int.from_bytes(data[:4], "big"), 256)]
        brands = {box[i : i + 4] for i in range(0, len(box), 4)}
        if brands & {b"avif", b"avis"}:
            return "AVIF"
        if brands & {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}:
            return "HEIC"
    raise ImageError("not an image (no known signature)")


def levels(image: Image) -> tuple[float, float]:
    """The values to show as 0 and 255: 0 and 255 for uint8, else the 0.1 and 99.9 percentile of the page.

    At most some 4 million pixels are looked at, on an even grid. Where both fall together the page's min and max
    stand in, and for a page of one value the whole range of its dtype.
    """
    if image.dtype == np.uint8:
        return 0.0, 255.0
    step = int(np.ceil(np.sqrt(image.shape[0] * image.shape[1] / 4_000_000)))
    sample = image[::step, ::step]
    whole = (0.0, 1.0) if image.dtype.kind == "f" else (0.0, 65535.0)
    for low, high in (np.percentile(sample, (0.1, 99.9)), (sample.min(), sample.max())):
        black, white = float(np.float32(low)), float(np.float32(high))
        if white > black:
            return black, white
    return whole


def to_uint8(image: Image, black: float, white: float) -> Image:
    """uint8 of any image: `black` becomes 0, `white` 255, linear between, clipped, rounded. Pure."""
    if not white > black:
        raise ValueError(f"white ({white}) must be above black ({black})")
    if image.dtype == np.uint8 and black == 0 and white == 255:
        return image
    scaled = (image.astype(np.float32) - np.float32(black)) * np.float32(255 / (white - black))
    eight: Image = np.rint(scaled.clip(0, 255)).astype(np.uint8)
    return eight


def resize(
    image: Image,
    short_side: int | None = None,
    long_side: int | None = None,
    size: tuple[int, int] | None = None,
) -> Image:
    """Resize to a short side, a long side, or a (width, height); dtype kept. Exactly one must be given.

    Shrinking averages areas (antialiased), growing is bilinear: neither leaves the range of the values. From twice the
    size on, the image is first brought to size * 2^n, bilinear, and then halved n times: a fourth of the time, 0.5 of
    255 from one average over areas on photos. Pure; an image of that size already is handed back itself.
    """
    if sum(x is not None for x in (short_side, long_side, size)) != 1:
        raise ValueError("give exactly one of short_side, long_side, size")
    height, width = image.shape[:2]
    if size is None:
        side, of = (short_side, min(width, height)) if short_side is not None else (long_side, max(width, height))
        assert side is not None
        size = (max(1, round(width * side / of)), max(1, round(height * side / of)))
    if min(size) < 1:
        raise ValueError(f"a size of {size[0]} x {size[1]} pixels")
    import cv2

    smaller = (min(size[0], width), min(size[1], height))
    halvings = min(width // smaller[0], height // smaller[1]).bit_length() - 1
    for left in range(halvings, -1, -1):
        step = (smaller[0] << left, smaller[1] << left)
        near = left == halvings > 0 and width < 2 * step[0] and height < 2 * step[1]
        if step != image.shape[1::-1]:
            image = cv2.resize(image, step, interpolation=cv2.INTER_LINEAR if near else cv2.INTER_AREA)
    if smaller != tuple(size):
        image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    return image


def thumbnail(image8: Image, long_side: int = 160) -> Image:
    """A uint8 image, its long side at most `long_side` pixels; small images are handed back themselves."""
    return resize(image8, long_side=long_side) if max(image8.shape[:2]) > long_side else image8


def encode(image: Image, format: str, quality: int | None = None) -> bytes:
    """Encode an image as "png" (uint8, uint16), "tiff" (uint8, uint16, float32), "jpeg" or "webp" (uint8).

    PNG and TIFF are lossless and keep the depth; they take no `quality`. JPEG and WebP default to 90 of 100. Raises
    ValueError for a format, depth or quality that does not fit.
    """
    takes = {"png": ("uint8", "uint16"), "tiff": ("uint8", "uint16", "float32"), "jpeg": ("uint8",), "webp": ("uint8",)}
    if format not in takes:
        raise ValueError(f"no format {format!r}: choose from {', '.join(takes)}")
    if image.dtype.name not in takes[format]:
        raise ValueError(f"{format} takes {' or '.join(takes[format])}, not {image.dtype}: use to_uint8, or tiff")
    if quality is not None and (format in ("png", "tiff") or not 1 <= quality <= 100):
        raise ValueError(f"quality {quality} for {format}: only jpeg and webp take one, from 1 to 100")
    if format == "tiff":
        import tifffile

        buffer = io.BytesIO()
        kind = "rgb" if image.ndim == 3 else "minisblack"
        tifffile.imwrite(buffer, image, photometric=kind, compression="zlib", metadata=None)
        return buffer.getvalue()
    import cv2

    settings: list[int] = []
    if format != "png":
        flag = cv2.IMWRITE_JPEG_QUALITY if format == "jpeg" else cv2.IMWRITE_WEBP_QUALITY
        settings = [flag, 90 if quality is None else quality]
    pixels: Any = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    done, encoded = cv2.imencode(f".{format}", pixels, settings)
    if not done:
        raise ValueError(f"an image of shape {image.shape} cannot be written as {format}")
    return bytes(encoded)


_WAVES = np.cos(np.pi / 64 * np.outer(np.arange(8), 2 * np.arange(32) + 1))  # the first 8 rows of DCT-II on 32 values


def perceptual_hash(image8: Image) -> int:
    """The 64-bit DCT hash of a uint8 image: near copies differ in few bits.

    32 x 32 grey, DCT-II, the 8 x 8 lowest coefficients, a bit for each above their median (Zauner 2010,
    "Implementation and Benchmarking of Perceptual Image Hash Functions", 3.2.1). Unlike there, the first row and
    column are kept, for without them all stripes hash alike. A page of one colour hashes to 0.
    """
    import cv2

    if image8.dtype != np.uint8:
        raise ValueError(f"a perceptual hash is made of uint8, not {image8.dtype}: use to_uint8")
    grey = cv2.cvtColor(image8, cv2.COLOR_RGB2GRAY) if image8.ndim == 3 else image8
    small = resize(grey, size=(32, 32)).astype(np.float64)
    low = np.round(_WAVES @ (small - small.mean()) @ _WAVES.T, 6).ravel()  # rounded: noise of 1e-12 must set no bit
    median = np.sort(low)[31:33].mean()
    return int.from_bytes(np.packbits(low > median).tobytes(), "big")


def content_hash(data: bytes) -> str:
    """sha256 of a file's bytes, in hex: its identity."""
    return hashlib.sha256(data).hexdigest()
