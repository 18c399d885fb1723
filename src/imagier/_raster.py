"""Readers of JPEG, PNG, GIF, BMP, WebP, AVIF and HEIC: the container is walked first, so that what is cut short or
fails its checksum is refused before a decoder can pad it.

Pillow's plug-in classes are used directly: `PIL.Image.open` would warn at a limit that belongs to the whole process.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from imagier._page import Page, check_page, check_size, exif_orientation, flatten, grey_if_equal
from imagier.types import Image, ImageError

if TYPE_CHECKING:
    import PIL.Image

_GIF_LIMIT = 89_478_485  # where Pillow's GIF frames begin to warn, process-wide


# JPEG: ITU-T T.81, annex B


def read_jpeg(data: bytes, page: int) -> Page:
    """A JPEG. What follows its end (a phone's film, a second picture) is left alone."""
    check_page(page, 1)
    width, height, parts, orientation, kept = _jpeg_head(data)

    def pixels(divisor: int) -> Image:
        start, end = kept[-1][1], jpeg_end(data, kept[-1][1])
        if parts != 4:
            import simplejpeg  # of all decoders the one that refuses damage inside the coded data

            scaled = (-(-height // divisor), -(-width // divisor))
            space = "GRAY" if parts == 1 else "RGB"
            whole = data if end == len(data) else data[:end]
            return flatten(np.asarray(simplejpeg.decode_jpeg(whole, space, False, False, *scaled, 1)))
        # CMYK, which simplejpeg does not give back
        from PIL.JpegImagePlugin import JpegImageFile

        # without EXIF and its kin: Pillow would parse them, and warn
        image = JpegImageFile(io.BytesIO(b"\xff\xd8" + b"".join(data[a:b] for a, b in kept) + data[start:end]))
        if divisor > 1:
            image.draft(None, (max(1, width // divisor), max(1, height // divisor)))
        return from_pillow(image)

    return Page("JPEG", 1, width, height, "uint8", pixels, orientation, scales=True)


def _jpeg_head(data: bytes) -> tuple[int, int, int, int, list[tuple[int, int]]]:
    """Width, height, components, orientation, and where the segments stand that decoding needs."""
    at, orientation, frame = 2, 1, None
    kept: list[tuple[int, int]] = []
    while True:
        while data[at : at + 2] == b"\xff\xff":  # fill bytes
            at += 1
        if len(data) < at + 4:
            raise ImageError("truncated JPEG: it ends inside its header")
        if data[at] != 0xFF:
            raise ImageError(f"damaged JPEG: no marker at byte {at}")
        marker = data[at + 1]
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if end > len(data):
            raise ImageError("truncated JPEG: it ends inside its header")
        if marker in (0xD8, 0xD9) or end < at + 4:
            raise ImageError(f"damaged JPEG: a bad segment at byte {at}")
        if marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            orientation = exif_orientation(data[at + 4 : end])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            frame = struct.unpack_from(">BHHB", data, at + 4)
            if frame[0] != 8 or marker not in (0xC0, 0xC1, 0xC2, 0xC9, 0xCA):
                raise ImageError("a lossless, hierarchical or 12-bit JPEG, which is not supported: convert it to TIFF")
            if frame[3] not in (1, 3, 4):
                raise ImageError(f"a JPEG of {frame[3]} components: only grey, colour and CMYK are supported")
        if not 0xE1 <= marker <= 0xED and marker not in (0xEF, 0xFE):
            kept.append((at, end))
        if marker == 0xDA:
            if frame is None:
                raise ImageError("damaged JPEG: a scan before the frame's header")
            return frame[2], frame[1], frame[3], orientation, kept
        at = end


def jpeg_end(data: bytes, at: int) -> int:
    """Where a JPEG ends (after EOI), its first scan's coded data beginning at `at`. Raises ImageError if nowhere.

    libjpeg fills what is missing with grey and only counts a warning; hence this walk over the markers.
    """
    raw = np.frombuffer(data, np.uint8)
    marks = at + np.flatnonzero(raw[at:-1] == 0xFF)
    kinds = raw[marks + 1]
    marks = marks[(kinds != 0) & (kinds != 0xFF) & ((kinds < 0xD0) | (kinds > 0xD7))]
    while True:
        index = int(np.searchsorted(marks, at))
        if index == len(marks):
            raise ImageError("truncated JPEG: the coded data ends without an end marker")
        at = int(marks[index])
        if data[at + 1] == 0xD9:
            return at + 2
        if data[at + 1] not in (0xC4, 0xDA, 0xDB, 0xDC, 0xDD, 0xFE) and not 0xE0 <= data[at + 1] <= 0xEF:
            raise ImageError(f"damaged JPEG: marker {data[at + 1]:02X} within the coded data, at byte {at}")
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")


# PNG: ISO/IEC 15948


def read_png(data: bytes, page: int) -> Page:
    """A PNG; the frames of an animated one (8 bits) are its pages."""
    if data[12:16] != b"IHDR" or len(data) < 33:
        raise ImageError("truncated PNG: no header")
    width, height, bits = struct.unpack_from(">IIB", data, 16)
    pages, orientation, at = 1, 1, 33
    frames = None
    while at + 12 <= len(data):  # up to the first pixels; their integrity is looked at when they are decoded
        size, name = struct.unpack_from(">I4s", data, at)
        if name == b"IDAT":
            pages += int(frames == 0)  # the still picture is no frame of the animation
            break
        if name == b"acTL" and size == 8 and bits <= 8:
            pages, frames = max(1, int.from_bytes(data[at + 8 : at + 12], "big")), 0
        elif name == b"fcTL" and frames is not None:
            frames += 1
        elif name == b"eXIf":
            orientation = exif_orientation(data[at + 8 : at + 8 + size])
        at += 12 + size
    else:
        raise ImageError("damaged PNG: no image data (IDAT)")
    check_page(page, pages)

    def pixels(_divisor: int) -> Image:
        lean, grey = _checked_png(data)
        if pages > 1:
            from PIL.PngImagePlugin import PngImageFile

            frame = PngImageFile(io.BytesIO(data))
            frame.seek(page)
            return from_pillow(frame)
        import imagecodecs

        image = imagecodecs.png_decode(lean)
        return flatten(grey_if_equal(image) if grey else image)

    return Page("PNG", pages, width, height, "uint16" if bits == 16 else "uint8", pixels, orientation)


def _checked_png(data: bytes) -> tuple[bytes, bool]:
    """The PNG without its ancillary chunks (libpng prints what it thinks of colour profiles), and whether its palette
    is grey. Raises ImageError for a chunk that is cut short or whose CRC is wrong, and for a missing IEND."""
    view, at, lean, grey = memoryview(data), 8, [data[:8]], False
    while True:
        if at + 12 > len(data):
            raise ImageError("truncated PNG: it ends before its end chunk (IEND)")
        size, name = struct.unpack_from(">I4s", data, at)
        end = at + 12 + size
        if end > len(data):
            raise ImageError(f"truncated PNG: it ends inside chunk {_name(name)}")
        if zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            raise ImageError(f"damaged PNG: wrong checksum in chunk {_name(name)}")
        if not name[0] & 0x20 or name == b"tRNS":  # a lower-case first letter marks an ancillary chunk
            lean.append(data[at:end])
        if name == b"PLTE":
            red, green, blue = (data[at + 8 + i : end - 4 : 3] for i in range(3))
            grey = data[25] == 3 and red == green == blue
        if name == b"IEND":
            return b"".join(lean), grey
        at = end


def _name(name: bytes) -> str:
    return name.decode("latin-1") if name.strip().isalnum() else repr(name)


# GIF: version 89a


def read_gif(data: bytes, page: int) -> Page:
    """A GIF; its frames, each as it is shown, are its pages."""
    try:
        width, height, pages = _gif_walk(data)
    except (IndexError, struct.error) as error:
        raise ImageError("truncated GIF: it ends before its trailer") from error
    check_page(page, pages)
    check_size(width, height, _GIF_LIMIT)

    def pixels(_divisor: int) -> Image:
        from PIL.GifImagePlugin import GifImageFile

        frame = GifImageFile(io.BytesIO(data))
        frame.seek(page)
        return from_pillow(frame, palette=True)

    return Page("GIF", pages, width, height, "uint8", pixels)


def _gif_walk(data: bytes) -> tuple[int, int, int]:
    """Width and height of the canvas (grown where the first frame is larger, as Pillow does) and the frames."""

    def table(flags: int) -> int:
        return 3 << ((flags & 7) + 1) if flags & 0x80 else 0

    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at, frames = 13 + table(flags), 0
    while (kind := data[at]) != 0x3B:
        if kind == 0x2C:
            left, top, wide, high, flags = struct.unpack_from("<HHHHB", data, at + 1)
            if not frames:
                width, height = max(width, left + wide), max(height, top + high)
            check_size(left + wide, top + high, _GIF_LIMIT)
            frames += 1
            at += 11 + table(flags)
        elif kind == 0x21:
            at += 2
        else:
            raise ImageError(f"damaged GIF: no block at byte {at}")
        while size := data[at]:
            at += 1 + size
        at += 1
    if not frames:
        raise ImageError("the GIF holds no picture")
    return width, height, frames


def read_bmp(data: bytes, page: int) -> Page:
    """A Windows bitmap."""
    from PIL.BmpImagePlugin import BmpImageFile

    check_page(page, 1)
    image = BmpImageFile(io.BytesIO(data))
    return Page("BMP", 1, *image.size, "uint8", lambda _divisor: from_pillow(image, palette=image.mode == "P"))


# WebP: RFC 9649


def read_webp(data: bytes, page: int) -> Page:
    """A WebP; the frames of an animated one are its pages."""
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data):
        raise ImageError(f"truncated WebP: it declares {end:,} bytes and has {len(data):,}")
    size: tuple[int, int] | None = None
    frames, pictures, orientation, at = 0, 0, 1, 12
    while at + 8 <= end:
        name, length = struct.unpack_from("<4sI", data, at)
        body, at = at + 8, at + 8 + length + length % 2
        if body + length > end:
            raise ImageError(f"truncated WebP: chunk {_name(name)} is longer than the file")
        if name == b"VP8X" and size is None:
            wide, high = (1 + int.from_bytes(data[body + i : body + i + 3], "little") for i in (4, 7))
            size = (wide, high)
        elif name == b"VP8 " and size is None:
            wide, high = struct.unpack_from("<HH", data, body + 6)
            size = (wide & 0x3FFF, high & 0x3FFF)
        elif name == b"VP8L" and size is None:
            packed = int.from_bytes(data[body + 1 : body + 5], "little")
            size = (1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF))
        if name == b"EXIF":
            orientation = exif_orientation(data[body : body + length])
        frames += name == b"ANMF"
        pictures += name in (b"VP8 ", b"VP8L")
    if size is None or not frames + pictures:
        raise ImageError("damaged WebP: it holds no picture")
    pages = max(frames, 1)
    check_page(page, pages)

    def pixels(_divisor: int) -> Image:
        from PIL.WebPImagePlugin import WebPImageFile

        frame = WebPImageFile(io.BytesIO(data[:end]))
        frame.seek(page)
        return from_pillow(frame)

    return Page("WebP", pages, *size, "uint8", pixels, orientation)


def read_avif(data: bytes, page: int) -> Page:
    """An AVIF, decoded to 8 bits; the frames of an animated one are its pages."""
    from PIL.AvifImagePlugin import SUPPORTED, AvifImageFile

    if not SUPPORTED:
        raise ImageError("an AVIF image, which this Pillow cannot read: pip install --upgrade pillow")
    image = AvifImageFile(io.BytesIO(data))
    check_page(page, image.n_frames)

    def pixels(_divisor: int) -> Image:
        image.seek(page)
        return from_pillow(image)

    turned = exif_orientation(image.info.get("exif", b""))
    return Page("AVIF", image.n_frames, *image.size, "uint8", pixels, turned)


def read_heic(data: bytes, page: int) -> Page:
    """A HEIC; 10 and 12 bits become 16. The decoder turns it itself: the EXIF orientation is not applied again."""
    try:
        import pillow_heif
    except ImportError as error:
        raise ImageError("a HEIC image, which needs a decoder: pip install pillow-heif") from error
    file = pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False, hdr_to_16bit=True)
    check_page(page, len(file))
    image = file[page]
    depth = "uint16" if "16" in image.mode else "uint8"
    return Page("HEIC", len(file), *image.size, depth, lambda _divisor: flatten(np.array(image)))


def from_pillow(image: PIL.Image.Image, palette: bool = False) -> Image:
    """Grey or RGB pixels of a Pillow image. `palette`: an image whose colours are all greys becomes grey."""
    image.load()
    palette = palette or image.mode in ("P", "PA")
    see_through = "transparency" in image.info or image.mode in ("PA", "La", "RGBa")
    plain: dict[str, str] = {"1": "L", "L": "LA" if see_through else "L", "LA": "LA", "La": "LA", "RGBA": "RGBA"}
    if image.mode.startswith("I;16"):
        return np.asarray(image, np.uint16)
    mode = plain.get(image.mode, "RGBA" if see_through else "RGB")
    array = np.array(image if image.mode == mode else image.convert(mode))
    return flatten(grey_if_equal(array) if palette else array)


READERS: dict[str, Callable[[bytes, int], Page]] = {
    "JPEG": read_jpeg, "PNG": read_png, "GIF": read_gif, "BMP": read_bmp, "WebP": read_webp, "AVIF": read_avif,
    "HEIC": read_heic,
}  # fmt: skip
"""By format name. Each reads the head of one page; `Page.pixels` reads the rest."""
