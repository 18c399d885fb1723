"""The reader of TIFF and BigTIFF: a page of the file is an item; the pages before it are not decoded."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

import numpy as np

from imagier._page import Page, aside, check_page, check_size, flatten, grey_if_equal, square, unit_range
from imagier._quiet import quiet
from imagier._raster import jpeg_end
from imagier.types import Image, ImageError

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

_JPEG = (6, 7, 34892, 33007)

MICROMETRES = {
    "pm": 1e-6, "nm": 1e-3, "nanometer": 1e-3, "um": 1.0, "\u00b5m": 1.0, "\u03bcm": 1.0, "\\u00b5m": 1.0,
    "\\u00b5": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0, "mm": 1e3, "millimeter": 1e3, "cm": 1e4,
    "centimeter": 1e4, "m": 1e6, "meter": 1e6, "in": 25400.0, "inch": 25400.0,
}  # fmt: skip
"""Units as OME and ImageJ write them, the micro sign also escaped; others, such as pixel, are no lengths."""


def read_tiff(data: bytes, page: int, limit: int) -> Page:
    """One page of a TIFF.

    1, 8 and 16 bits are kept (1 bit as 0 and 255; 12 bits as uint16). All else becomes float32 in [0, 1]: floats that
    lie in it already as they are, others and all wider or signed integers by the page's own min..max.
    """
    import tifffile

    with quiet("tifffile"), tifffile.TiffFile(io.BytesIO(data)) as file:
        pages = len(file.pages)
        check_page(page, pages)
        first = file.pages[page]
        if not isinstance(first, tifffile.TiffPage):
            raise ImageError("damaged TIFF: the page has no directory of its own")
        tag = first.tags.get(274)
        orientation = tag.value if tag is not None and tag.value in range(1, 9) else 1
        width, height, depth = int(first.imagewidth), int(first.imagelength), _depth(first)
        pixel_size = aside(lambda: _pixel_size(file, first))

    def pixels(_divisor: int) -> Image:
        with quiet("tifffile"), tifffile.TiffFile(io.BytesIO(data)) as file:
            again = file.pages[page]
            assert isinstance(again, tifffile.TiffPage)
            colour = _colour_channels(again)
            _check_segments(again, data, limit)
            return _picture(again, colour)

    return Page("TIFF", pages, width, height, depth, pixels, int(orientation), pixel_size=pixel_size)


def _pixel_size(file: TiffFile, page: TiffPage) -> float | None:
    """Micrometres a pixel by OME's or ImageJ's metadata; None where they are silent or of no length."""
    if file.is_ome and file.ome_metadata:  # by its text: a parser would expand entities that a stranger wrote
        told = {_ome(element) for element in re.findall(r"<(?:\w+:)?Pixels\b[^>]*>", file.ome_metadata)}
        return told.pop() if len(told) == 1 else None  # several images of different scale: which page is whose?
    if not file.is_imagej or not file.imagej_metadata:
        return None
    unit = MICROMETRES.get(str(file.imagej_metadata.get("unit", "")).strip().lower())
    across, down = page.resolution
    return square(unit / across, unit / down) if unit is not None and min(across, down) > 0 else None


def _ome(element: str) -> float | None:
    """Of a <Pixels> element: PhysicalSizeX and Y, in micrometres unless a unit is given (Mm are no mm)."""
    told: dict[str, str] = dict(re.findall(r"(PhysicalSize[XY](?:Unit)?)=[\"']([^\"']*)[\"']", element))
    units = [MICROMETRES.get(told.get(f"PhysicalSize{axis}Unit", "um")) for axis in "XY"]
    try:
        sizes = [float(told[f"PhysicalSize{axis}"]) for axis in "XY"]
    except (KeyError, ValueError):
        return None
    if units[0] is None or units[1] is None:
        return None
    return square(sizes[0] * units[0], sizes[1] * units[1])


def _depth(page: TiffPage) -> str:
    kind = page.dtype
    if kind is None or kind.kind not in "buif":
        raise ImageError(f"a TIFF page of {kind or 'unknown'} values, which is not supported")
    if int(page.photometric) == 3:
        return "uint8"
    return {"bool": "uint8", "uint8": "uint8", "uint16": "uint16"}.get(kind.name, "float32")


def _check_segments(page: TiffPage, data: bytes, limit: int) -> None:
    """Every strip or tile is there, whole, and no larger than the limit: tifffile fills a missing one with zeros."""
    offsets, counts = page.dataoffsets, page.databytecounts
    if page.imagedepth != 1 or page.tiledepth > 1:
        raise ImageError("a volume inside one TIFF page, which is not supported: save each slice as a page")
    tall, wide = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
    tall = min(tall, page.imagelength) if not page.is_tiled else tall
    check_size(int(wide), int(tall), limit)
    planes = page.samplesperpixel if page.planarconfig == 2 else 1
    wanted = planes * -(-page.imagelength // tall) * -(-page.imagewidth // wide)
    if page.is_contiguous:  # tifffile has joined the strips
        joined = int(page.nbytes if page.bitspersample >= 8 else 0)
        if not offsets or offsets[0] < 1 or offsets[0] + max(joined, sum(counts)) > len(data):
            raise ImageError("truncated TIFF: the pixels end beyond the file")
        return
    if len(offsets) < wanted or len(counts) < wanted:
        raise ImageError(f"damaged TIFF: {min(len(offsets), len(counts))} strips or tiles of {wanted}")
    for offset, count in zip(offsets, counts, strict=False):
        if offset < 1 or count < 1:
            raise ImageError("a TIFF with strips or tiles left out, which is not supported")
        if offset + count > len(data):
            raise ImageError("truncated TIFF: a strip or tile ends beyond the file")
        if page.compression in _JPEG:
            scan = data.find(b"\xff\xda", offset, offset + count)
            jpeg_end(data[offset : offset + count], scan - offset + 2 if scan >= 0 else count)


def _colour_channels(page: TiffPage) -> int:
    """1 for grey and palette, 3 for RGB, 4 for CMYK. Raises ImageError for any other kind of page."""
    photometric, channels = int(page.photometric), int(page.samplesperpixel)
    if photometric == 3 and channels == 1 and page.colormap is not None:
        return 1
    if photometric == 5 and channels == 4:
        return 4
    if photometric in (0, 1) and (channels == 1 or (channels == 2 and _alpha(page))):
        return 1
    if channels in (3, 4) and (photometric in (1, 2) or (photometric == 6 and page.compression in _JPEG)):
        return 3
    name = getattr(page.photometric, "name", photometric)
    raise ImageError(f"a TIFF page of {channels} {name} channels: only grey, RGB, palette and CMYK are supported")


def _alpha(page: TiffPage) -> int:
    """1: premultiplied (associated) alpha, 2: plain alpha, 0: none."""
    kind = int(page.extrasamples[0]) if page.extrasamples else 0
    return kind if kind in (1, 2) else 0


def _picture(page: TiffPage, colour: int) -> Image:
    image = page.asarray(maxworkers=1)
    photometric, channels, bits = int(page.photometric), int(page.samplesperpixel), int(page.bitspersample)
    if page.planarconfig == 2 and channels > 1 and image.ndim == 3:
        image = np.moveaxis(image, 0, -1)
    image = image.reshape(page.imagelength, page.imagewidth, channels)
    if photometric == 3:
        return _from_palette(image[..., 0], np.asarray(page.colormap))
    if image.dtype == bool:
        image = image.astype(np.uint8) * np.uint8(255)
    elif image.dtype == np.uint8:
        image = image if bits == 8 else image * np.uint8(255 // (2**bits - 1))
    elif image.dtype != np.uint16:
        image = unit_range(image, fit=image.dtype.kind != "f")
    top: float = {"uint8": 255, "uint16": 2**bits - 1}.get(image.dtype.name, 1)
    if photometric == 0:
        image = np.concatenate([image.dtype.type(top) - image[..., :1], image[..., 1:]], axis=-1)
    if colour == 4:
        ink = image.astype(np.float32) / np.float32(top)
        mixed = (1 - ink[..., :3]) * (1 - ink[..., 3:]) * np.float32(top)
        return (mixed if image.dtype.kind == "f" else np.rint(mixed)).astype(image.dtype)
    if channels == colour + 1 and _alpha(page):
        return _flat(image, colour, _alpha(page) == 1, top)
    return flatten(image[..., :colour])


def _from_palette(image: Image, colormap: Image) -> Image:
    """(H, W) entries and a (3, n) uint16 colour map, which some writers fill with 8-bit values -> RGB or grey uint8."""
    colours = (colormap >> 8 if colormap.max(initial=0) > 255 else colormap).astype(np.uint8).T
    return grey_if_equal(colours[image.astype(np.intp)])


def _flat(image: Image, colour: int, premultiplied: bool, top: float) -> Image:
    """Over white. With premultiplied (associated) alpha the colour already carries its share."""
    if not premultiplied:
        return flatten(image)
    space = np.float32(top) - image[..., colour:].astype(np.float32)
    mixed = (image[..., :colour] + space).clip(0, top)
    return flatten((mixed if image.dtype.kind == "f" else np.rint(mixed)).astype(image.dtype))
