"""images.py: what comes in is what was drawn, at its depth; what is damaged is refused with a reason."""

from __future__ import annotations

import contextlib
import hashlib
import io
import struct
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from imagier import images
from imagier.types import ImageError


def smooth(height: int = 40, width: int = 60, channels: int = 3) -> np.ndarray:
    """A ramp that lossy codecs keep well."""
    y, x = np.mgrid[:height, :width]
    planes = [x * 255 / (width - 1), y * 255 / (height - 1), (x + y) * 255 / (width + height - 2)]
    stack = np.stack(planes[:channels], -1).astype(np.uint8)
    return stack[..., 0] if channels == 1 else stack


def noise(*shape: int, dtype: Any = np.uint8) -> np.ndarray:
    return np.random.default_rng(7).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def saved(image: np.ndarray | Pillow.Image, format: str, **settings: Any) -> bytes:
    out = io.BytesIO()
    (image if isinstance(image, Pillow.Image) else Pillow.fromarray(image)).save(out, format, **settings)
    return out.getvalue()


def tiff(image: np.ndarray, **settings: Any) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, image, metadata=None, **settings)
    return out.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, bits: int, kind: int, rows: bytes, *extra: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    parts = (chunk(b"IHDR", head), *extra, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def packed_twelve(values: list[int]) -> bytes:
    """A TIFF of one row of 12-bit greys, packed as the standard says."""
    bits = "".join(f"{value:012b}" for value in values)
    strip = int(bits, 2).to_bytes(len(bits) // 8, "big")
    tags = [(256, len(values)), (257, 1), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1)]
    tags.append((279, len(strip)))
    start = 8 + len(strip)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", start) + strip + struct.pack("<H", len(tags)) + entries + bytes(4)


def dicom(pixels: np.ndarray, **tags: Any) -> bytes:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["a"])
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
    colour = tags.get("SamplesPerPixel", 1) > 1
    frames = pixels.ndim == (4 if colour else 3)
    dataset.Rows, dataset.Columns = pixels.shape[1:3] if frames else pixels.shape[:2]
    if frames:
        dataset.NumberOfFrames = len(pixels)
    bits = pixels.dtype.itemsize * 8
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    if colour:
        dataset.PlanarConfiguration = 0
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelData = pixels.tobytes()
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


def compressed(data: bytes, frames: list[bytes], syntax: str, **tags: Any) -> bytes:
    from pydicom import dcmread
    from pydicom.encaps import encapsulate

    dataset = dcmread(io.BytesIO(data))
    dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = syntax
    for name, value in tags.items():
        setattr(dataset, name, value)
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


def pixels(data: bytes, page: int = 0) -> np.ndarray:
    decoded = images.decode(data, page=page)
    assert decoded.white > decoded.black
    assert (decoded.height, decoded.width) == decoded.image.shape[:2]
    return decoded.image


def refused(data: bytes, words: str, **settings: Any) -> None:
    with pytest.raises(ImageError, match=words):
        images.decode(data, **settings)


# depth and colour


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "WebP"])
@pytest.mark.parametrize("channels", [1, 3])
def test_lossless_formats_give_back_every_pixel(format: str, channels: int) -> None:
    drawn = noise(13, 17) if channels == 1 else noise(13, 17, 3)
    settings = {"lossless": True} if format == "WebP" else {}
    got = pixels(saved(drawn, format.upper(), **settings))
    if format == "WebP" and channels == 1:  # WebP knows no grey
        drawn = np.repeat(drawn[..., None], 3, -1)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, drawn)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_jpeg_is_near_what_was_drawn(channels: int) -> None:
    drawn = smooth(channels=channels)
    got = pixels(saved(drawn, "JPEG", quality=95))
    assert got.shape == drawn.shape
    assert np.abs(got.astype(int) - drawn).max() < 12


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 3)])
@pytest.mark.parametrize("format", ["png", "tiff"])
def test_sixteen_bits_are_kept(shape: tuple[int, ...], format: str) -> None:
    drawn = noise(*shape, dtype=np.uint16)
    data = images.encode(drawn, format)
    np.testing.assert_array_equal(pixels(data), drawn)
    assert images.header(data).depth == "uint16"


def test_one_two_and_four_bit_png_span_0_to_255() -> None:
    assert pixels(png(8, 1, 1, 0, b"\0\xa5")).tolist() == [[255, 0, 255, 0, 0, 255, 0, 255]]
    assert pixels(png(4, 1, 2, 0, b"\0\x1b")).tolist() == [[0, 85, 170, 255]]
    assert pixels(png(2, 1, 4, 0, b"\0\x1f")).tolist() == [[17, 255]]


def test_a_palette_becomes_rgb_and_a_grey_palette_grey() -> None:
    colours = chunk(b"PLTE", bytes([255, 0, 0, 0, 0, 255]))
    greys = chunk(b"PLTE", bytes([9, 9, 9, 200, 200, 200]))
    assert pixels(png(2, 1, 1, 3, b"\0\x40", colours)).tolist() == [[[255, 0, 0], [0, 0, 255]]]
    assert pixels(png(2, 1, 1, 3, b"\0\x40", greys)).tolist() == [[9, 200]]
    table = np.zeros((3, 256), np.uint16)
    table[0, 1] = 0xFFFF
    entries = np.array([[0, 1]], np.uint8)
    assert pixels(tiff(entries, photometric="palette", colormap=table)).tolist() == [[[0, 0, 0], [255, 0, 0]]]


def test_transparency_is_laid_over_white_and_opaque_alpha_dropped() -> None:
    clear = np.array([[[10, 20, 30, 0], [10, 20, 30, 255], [0, 100, 200, 51]]], np.uint8)
    expected = [[[255, 255, 255], [10, 20, 30], [204, 224, 244]]]
    for format in ("PNG", "WEBP", "TIFF"):
        settings = {"lossless": True, "exact": True} if format == "WEBP" else {}
        assert pixels(saved(clear, format, **settings)).tolist() == expected, format
    clear[..., 3] = 255
    assert pixels(saved(clear, "PNG")).tolist() == clear[..., :3].tolist()
    grey = Pillow.fromarray(np.array([[[40, 0], [40, 255]]], np.uint8), "LA")
    assert pixels(saved(grey, "PNG")).tolist() == [[255, 40]]


def test_a_transparent_palette_entry_or_key_colour_is_white() -> None:
    keyed = png(2, 1, 8, 0, b"\0\x05\x06", chunk(b"tRNS", b"\0\x05"))
    assert pixels(keyed).tolist() == [[255, 6]]
    deep = png(1, 1, 16, 6, b"\0" + struct.pack(">4H", 1, 2, 3, 0))
    assert pixels(deep).tolist() == [[[65535] * 3]]


def test_cmyk_becomes_rgb() -> None:
    flat = Pillow.new("CMYK", (16, 16), (0, 255, 255, 0))  # red
    got = pixels(saved(flat, "JPEG", quality=100))  # Pillow writes Adobe's inverted kind
    assert got.shape == (16, 16, 3)
    assert got[8, 8, 0] > 250
    assert got[8, 8, 1:].max() < 6
    assert pixels(saved(flat, "TIFF"))[0, 0].tolist() == [255, 0, 0]


# TIFF


@pytest.mark.parametrize(
    "settings",
    [
        {"compression": "lzw"},
        {"compression": "zlib", "predictor": True},
        {"compression": "packbits"},
        {"tile": (16, 16)},
        {"tile": (32, 16), "compression": "zlib"},
        {"planarconfig": "separate", "photometric": "rgb"},
        {"planarconfig": "separate", "photometric": "rgb", "tile": (16, 16), "compression": "lzw"},
        {"rowsperstrip": 7},
        {"bigtiff": True},
        {"byteorder": ">"},
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_layout_of_tiff_gives_the_same_pixels(settings: dict[str, Any], dtype: Any) -> None:
    drawn = noise(37, 45, 3, dtype=dtype)
    stored = np.moveaxis(drawn, -1, 0) if "planarconfig" in settings else drawn
    got = pixels(tiff(stored, **{"photometric": "rgb", **settings}))
    np.testing.assert_array_equal(got, drawn)
    assert got.dtype == dtype


def test_a_jpeg_compressed_tiff_is_read_and_refused_when_its_stream_is_cut() -> None:
    data = tiff(smooth(64, 64), photometric="rgb", compression="jpeg", compressionargs={"level": 95}, rowsperstrip=32)
    assert np.abs(pixels(data).astype(int) - smooth(64, 64)).max() < 20
    at = data.rfind(b"\xff\xd9")
    refused(data[:at] + b"\0\0" + data[at + 2 :], "truncated JPEG")


def test_one_and_twelve_bit_and_white_is_zero_tiff() -> None:
    bits = np.array([[True, False], [False, True]])
    assert pixels(tiff(bits, photometric="minisblack")).tolist() == [[255, 0], [0, 255]]
    assert pixels(tiff(bits, photometric="miniswhite")).tolist() == [[0, 255], [255, 0]]
    twelve = packed_twelve([0, 4095, 7, 100])
    assert pixels(twelve).tolist() == [[0, 4095, 7, 100]]
    assert images.header(twelve).depth == "uint16"
    assert pixels(tiff(np.array([[0, 10]], np.uint8), photometric="miniswhite")).tolist() == [[255, 245]]


def test_floats_in_unit_range_are_kept_and_others_mapped_by_min_and_max() -> None:
    unit = np.array([[0.25, 0.5], [0.125, 0.75]], np.float32)
    np.testing.assert_array_equal(pixels(tiff(unit)), unit)
    wide = np.array([[-10, 0], [10, 30]], np.float32)
    np.testing.assert_allclose(pixels(tiff(wide)), [[0, 0.25], [0.5, 1]])
    for dtype in (np.int16, np.int32, np.uint32, np.float64):
        got = pixels(tiff(np.array([[0, 50], [100, 200]], dtype)))
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, [[0, 0.25], [0.5, 1]])
    holes = np.array([[np.nan, 2], [4, np.inf]], np.float32)
    np.testing.assert_array_equal(pixels(tiff(holes)), np.array([[0, 0], [1, 1]], np.float32))
    refused(tiff(np.full((2, 2), np.nan, np.float32)), "no finite value")


def test_each_page_of_a_tiff_stands_for_itself() -> None:
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as writer:
        writer.write(noise(4, 5), metadata=None)
        writer.write(noise(8, 3, dtype=np.uint16), metadata=None, compression="zlib")
        writer.write(noise(6, 6, 3), metadata=None, photometric="rgb")
    data = out.getvalue()
    assert images.header(data) == images.Header("TIFF", 3, 5, 4, "uint8")
    assert [pixels(data, page).shape for page in range(3)] == [(4, 5), (8, 3), (6, 6, 3)]
    np.testing.assert_array_equal(pixels(data, 1), noise(8, 3, dtype=np.uint16))
    refused(data, "no page 3: the file has 3", page=3)
    refused(data, "no page -1", page=-1)


def test_a_damaged_page_of_a_tiff_leaves_the_others_readable() -> None:
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as writer:
        for _ in range(2):
            writer.write(noise(32, 32), metadata=None, compression="zlib", rowsperstrip=32)
    data = bytearray(out.getvalue())
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        offset = file.pages[0].dataoffsets[0]
    data[offset + 2 : offset + 40] = bytes(38)
    refused(bytes(data), "damaged TIFF")
    np.testing.assert_array_equal(pixels(bytes(data), 1), noise(32, 32))


def test_channels_that_are_no_colours_are_refused() -> None:
    refused(tiff(noise(5, 8, 8), photometric="minisblack", planarconfig="separate"), "5 MINISBLACK channels")


# the size of a pixel


def ome(**told: Any) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, noise(6, 8), ome=True, metadata=told)
    return out.getvalue()


def imagej(unit: str, across: float = 4, down: float = 4) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, noise(6, 8), imagej=True, resolution=(across, down), metadata={"unit": unit})
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "micrometres"),
    [
        (ome(PhysicalSizeX=0.325, PhysicalSizeY=0.325), 0.325),
        (ome(PhysicalSizeX=65, PhysicalSizeY=65, PhysicalSizeXUnit="nm", PhysicalSizeYUnit="nm"), 0.065),
        (ome(PhysicalSizeX=0.325, PhysicalSizeY=0.5), None),  # not square: no one length
        (ome(PhysicalSizeX=1, PhysicalSizeY=1, PhysicalSizeXUnit="pixel", PhysicalSizeYUnit="pixel"), None),
        (ome(PhysicalSizeX=1, PhysicalSizeY=1, PhysicalSizeXUnit="Mm", PhysicalSizeYUnit="Mm"), None),
        (ome(), None),
        (imagej("micron"), 0.25),
        (imagej("\\u00B5m"), 0.25),
        (imagej("mm"), 250),
        (imagej("inch", 4, 5), None),
        (imagej("pixel"), None),
        (tiff(noise(6, 8), resolution=(300, 300), resolutionunit=2), None),  # for a printer
        (dicom(noise(6, 8), PixelSpacing=[0.02, 0.02]), 20),
        (dicom(noise(6, 8), PixelSpacing=[0.02, 0.05]), None),
        (dicom(noise(6, 8)), None),
        (saved(noise(6, 8), "PNG", dpi=(300, 300)), None),
    ],
)
def test_the_size_of_a_pixel_is_what_a_microscope_or_scanner_wrote(data: bytes, micrometres: float | None) -> None:
    told = images.decode(data).pixel_size
    assert told == (None if micrometres is None else pytest.approx(micrometres))


def test_a_damaged_size_of_a_pixel_costs_no_picture() -> None:
    data = ome(PhysicalSizeX=0.325, PhysicalSizeY=0.325)
    for wrong in (b"nan  ", b"0.000", b"-1.00", b"?????"):
        decoded = images.decode(data.replace(b'"0.325"', b'"' + wrong + b'"'))
        assert decoded.pixel_size is None
        np.testing.assert_array_equal(decoded.image, noise(6, 8))


# frames


def test_the_frames_of_an_animation_are_pages() -> None:
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    frames = [Pillow.new("RGB", (8, 6), colour) for colour in colours]
    for format in ("GIF", "PNG", "WEBP"):
        settings = {"lossless": True} if format == "WEBP" else {}
        data = saved(frames[0], format, save_all=True, append_images=frames[1:], duration=50, **settings)
        assert images.header(data).pages == 3, format
        for page in (2, 0, 1):
            assert pixels(data, page)[3, 3].tolist() == list(colours[page]), format
        refused(data, "no page 3", page=3)


# DICOM


def test_rescale_and_window_keep_full_precision() -> None:
    stored = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    tags = {"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": 1000, "WindowWidth": 4001, "BitsStored": 12}
    got = pixels(dicom(stored, **tags))
    x = stored * 2.0 - 1000
    np.testing.assert_allclose(got, ((x - 999.5) / 4000 + 0.5).clip(0, 1), atol=1e-6)
    assert got.dtype == np.float32
    assert len(np.unique(got)) > 1900  # 8 bits would hold 256


@pytest.mark.parametrize("function", ["LINEAR_EXACT", "SIGMOID"])
def test_the_other_window_functions(function: str) -> None:
    stored = np.arange(256, dtype=np.int16).reshape(16, 16) - 100
    got = pixels(dicom(stored, WindowCenter=20, WindowWidth=100, VOILUTFunction=function, RescaleSlope=1))
    exact = ((stored - 20) / 100 + 0.5).clip(0, 1)
    sigmoid = 1 / (1 + np.exp(-4 * (stored - 20.0) / 100))
    np.testing.assert_allclose(got, exact if function == "LINEAR_EXACT" else sigmoid, atol=1e-6)


def test_without_a_window_the_range_of_the_stored_bits_counts() -> None:
    stored = np.array([[0, 1023], [2047, 4095]], np.uint16)
    np.testing.assert_allclose(pixels(dicom(stored, BitsStored=12)), stored / 4095, atol=1e-7)
    inverted = pixels(dicom(stored, BitsStored=12, PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_allclose(inverted, 1 - stored / 4095, atol=1e-6)


def test_plain_eight_bit_and_colour_dicom_keep_their_depth() -> None:
    np.testing.assert_array_equal(pixels(dicom(noise(9, 7))), noise(9, 7))
    assert pixels(dicom(noise(9, 7), PhotometricInterpretation="MONOCHROME1"))[0, 0] == 255 - noise(9, 7)[0, 0]
    colour = noise(9, 7, 3)
    data = dicom(colour, SamplesPerPixel=3, PhotometricInterpretation="RGB")
    np.testing.assert_array_equal(pixels(data), colour)
    assert images.header(data) == images.Header("DICOM", 1, 7, 9, "uint8")
    grey = pixels(dicom(np.full((4, 4, 3), 128, np.uint8), SamplesPerPixel=3, PhotometricInterpretation="YBR_FULL"))
    assert np.abs(grey.astype(int) - 128).max() <= 1


def test_palette_dicom_is_coloured() -> None:
    tables = {}
    for colour, shift in (("Red", 0), ("Green", 1), ("Blue", 2)):
        tables[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        table = (np.roll(np.arange(256), shift) * 257).astype("<u2")
        tables[f"{colour}PaletteColorLookupTableData"] = table.tobytes()
    data = dicom(np.array([[0, 5], [9, 255]], np.uint8), PhotometricInterpretation="PALETTE COLOR", **tables)
    got = pixels(data)
    assert got.dtype.name == images.header(data).depth == "uint16"
    assert got[0, 1].tolist() == [5 * 257, 4 * 257, 3 * 257]


def test_frames_of_dicom_are_pages() -> None:
    stack = noise(3, 6, 5, dtype=np.uint16)
    data = dicom(stack)
    assert images.header(data).pages == 3
    for page in (2, 0):
        np.testing.assert_allclose(pixels(data, page), stack[page] / 65535, atol=1e-6)
    refused(data, "no page 3", page=3)


def test_compressed_dicom_is_read_where_a_decoder_is_there_and_says_what_to_install_where_not() -> None:
    drawn = smooth(32, 32, 1)
    jpeg = saved(drawn, "JPEG", quality=95)
    data = compressed(dicom(drawn), [jpeg], "1.2.840.10008.1.2.4.50")
    assert np.abs(pixels(data).astype(int) - drawn).max() < 12
    refused(data[:-300], "DICOM")
    refused(compressed(dicom(drawn), [jpeg], "1.2.840.10008.1.2.4.80"), "JPEG-LS.*pip install")


def test_lossless_dicom_codecs_keep_every_value() -> None:
    from pydicom import dcmread
    from pydicom.uid import RLELossless

    stored = noise(16, 16, dtype=np.uint16)
    plain = dicom(stored)
    jpeg2000 = saved(stored, "JPEG2000", no_jp2=True)
    np.testing.assert_array_equal(pixels(compressed(plain, [jpeg2000], "1.2.840.10008.1.2.4.90")), pixels(plain))
    dataset = dcmread(io.BytesIO(plain))
    dataset.compress(RLELossless)
    out = io.BytesIO()
    dataset.save_as(out)
    np.testing.assert_array_equal(pixels(out.getvalue()), pixels(plain))
    refused(out.getvalue()[:-20], "truncated DICOM: the pixels are missing")
    frame = out.getvalue().rindex(b"\xfe\xff\x00\xe0") + 4
    long = out.getvalue()[:frame] + struct.pack("<I", 60_000) + out.getvalue()[frame + 4 :]
    refused(long, "truncated DICOM: a compressed frame is cut short")


def test_lookup_tables_are_applied() -> None:
    from pydicom.dataset import Dataset

    table = Dataset()
    table.LUTDescriptor = [4, 10, 16]
    table.LUTData = np.array([0, 65535, 13107, 52428], "<u2").tobytes()
    table["LUTData"].VR = "OW"
    stored = np.array([[0, 11, 12, 13, 200]], np.uint8)
    expected = np.array([[0, 1, 0.2, 0.8, 0.8]], np.float32)
    np.testing.assert_allclose(pixels(dicom(stored, VOILUTSequence=[table])), expected, atol=1e-6)
    table.ModalityLUTType = "US"
    np.testing.assert_allclose(pixels(dicom(stored, ModalityLUTSequence=[table])), expected, atol=1e-6)


def test_a_frame_has_its_own_window() -> None:
    from pydicom.dataset import Dataset

    groups = []
    for centre in (50, 150):
        window, group = Dataset(), Dataset()
        window.WindowCenter, window.WindowWidth, window.VOILUTFunction = centre, 100, "LINEAR_EXACT"
        group.FrameVOILUTSequence = [window]
        groups.append(group)
    data = dicom(np.full((2, 3, 3), 75, np.uint8), PerFrameFunctionalGroupsSequence=groups)
    assert images.header(data).depth == "float32"
    assert pixels(data, 0)[0, 0] == pytest.approx(0.75)
    assert pixels(data, 1)[0, 0] == 0


def test_bits_and_floats_of_dicom() -> None:
    from pydicom import dcmread

    packed = dicom(np.array([[0b10100101]], np.uint8), BitsAllocated=1, BitsStored=1, Rows=1, Columns=8)
    assert pixels(packed).tolist() == [[255, 0, 255, 0, 0, 255, 0, 255]]
    dataset = dcmread(io.BytesIO(dicom(np.zeros((1, 2), np.uint32))))
    del dataset.PixelData, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation
    dataset.FloatPixelData = np.array([0.25, 1], np.float32).tobytes()
    out = io.BytesIO()
    dataset.save_as(out)
    assert pixels(out.getvalue()).tolist() == [[0.25, 1]]


def test_a_dicom_cut_short_is_refused() -> None:
    data = dicom(noise(20, 20, dtype=np.uint16))
    for left in (140, 300, len(data) - 700, len(data) - 2):
        refused(data[:left], "DICOM")


# HEIC and AVIF


def test_heic_and_avif_are_read() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    out = io.BytesIO()
    pillow_heif.from_pillow(Pillow.fromarray(smooth(64, 48))).save(out, quality=95)
    for data in (out.getvalue(), saved(smooth(64, 48), "AVIF", quality=95)):
        head = images.header(data)
        assert (head.width, head.height, head.pages, head.depth) == (48, 64, 1, "uint8")
        assert np.abs(pixels(data).astype(int) - smooth(64, 48)).mean() < 6


def test_heic_without_its_decoder_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    refused(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "pip install pillow-heif")


# orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_the_orientation_is_applied(format: str, orientation: int) -> None:
    from PIL import ImageOps

    drawn = smooth(24, 40)
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    data = saved(drawn, format, exif=exif)
    stored = Pillow.open(io.BytesIO(data))
    expected = np.asarray(ImageOps.exif_transpose(stored))
    head = images.header(data)
    got = pixels(data)
    assert (head.height, head.width) == got.shape[:2] == expected.shape[:2]
    np.testing.assert_array_equal(got, expected)


def test_broken_exif_does_not_cost_the_picture() -> None:
    plain = saved(smooth(), "JPEG")
    for body in (b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01" * 30):
        segment = b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
        np.testing.assert_array_equal(pixels(plain[:2] + segment + plain[2:]), pixels(plain))


# scaled decoding


@pytest.mark.parametrize(
    ("side", "expected"), [(None, 200), (200, 200), (101, 200), (100, 100), (51, 100), (50, 50), (25, 25), (3, 25)]
)
@pytest.mark.parametrize("turned", [1, 6])
def test_a_jpeg_comes_at_the_smallest_scale_that_serves(side: int | None, expected: int, turned: int) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = turned
    data = saved(smooth(200, 304), "JPEG", exif=exif)
    decoded = images.decode(data, short_side=side)
    assert min(decoded.image.shape[:2]) == expected
    assert (decoded.width, decoded.height) == ((304, 200) if turned == 1 else (200, 304))


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (9, 17), (33, 15), (255, 257)])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_odd_sizes_scale_too(size: tuple[int, int], mode: str) -> None:
    data = saved(Pillow.new(mode, size), "JPEG")
    for side in (1, 2, 5):
        decoded = images.decode(data, short_side=side)
        assert min(decoded.image.shape[:2]) >= min(side, *size)
        assert (decoded.width, decoded.height) == size
    assert images.decode(data).image.shape[:2] == size[::-1]


# what is refused


def test_what_is_no_image_is_refused() -> None:
    for function in (images.header, images.decode):
        with pytest.raises(ImageError, match=r"^empty file$"):
            function(b"")
        for junk in (b"hello, I am text\n" * 20, b"BM is how this text begins, and it goes on", b"\0" * 500, b"\xff"):
            with pytest.raises(ImageError, match=r"not an image \(no known signature\)"):
                function(junk)


def bombs() -> dict[str, bytes]:
    side = 60_000
    whole = tiff(np.zeros((4, 4), np.uint8))
    with tifffile.TiffFile(io.BytesIO(whole)) as file:
        tags = [file.pages[0].tags[code].valueoffset for code in (256, 257)]
    forged = bytearray(whole)
    for at in tags:
        forged[at : at + 4] = struct.pack("<I", side)[:4]
    return {
        "PNG": png(side, side, 8, 2, b"\0"),
        "JPEG": saved(smooth(), "JPEG").replace(struct.pack(">HH", 40, 60), struct.pack(">HH", side, side)),
        "GIF": b"GIF89a" + struct.pack("<HH", side, side) + saved(smooth(channels=1), "GIF")[10:],
        "BMP": (lambda d: d[:18] + struct.pack("<ii", side, side) + d[26:])(saved(smooth(), "BMP")),
        "WebP": b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + struct.pack("<I", side - 1)[:3] * 2,
        "DICOM": dicom(np.zeros((4, 4), np.uint8), Rows=side, Columns=side),
    }


@pytest.mark.parametrize("name", ["PNG", "JPEG", "GIF", "BMP", "WebP", "DICOM"])
def test_a_bomb_is_refused_by_its_header(name: str) -> None:
    import tracemalloc

    data = bombs()[name]
    images.decode(saved(smooth(), "PNG"))
    tracemalloc.start()
    try:
        for function in (images.header, images.decode):
            with pytest.raises(ImageError, match=r"60000 x 60000 = 3,600,000,000 pixels|no picture"):
                function(data)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_the_limit_is_a_setting() -> None:
    data = saved(smooth(), "PNG")
    assert images.header(data, limit=2400).width == 60
    refused(data, r"60 x 40 = 2,400 pixels; the limit is 2,399", limit=2399)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_cut_anywhere_is_refused(progressive: bool) -> None:
    data = saved(noise(64, 64, 3), "JPEG", progressive=progressive)
    for left in [*range(3, len(data) - 1, 97), len(data) - 2, len(data) - 1]:
        refused(data[:left], "JPEG")


def test_what_follows_a_jpegs_end_is_left_alone() -> None:
    data = saved(smooth(), "JPEG")
    for tail in (b"ftypmp42 a film" * 50, data, b"\xff\xd8\xff", b"\0"):
        np.testing.assert_array_equal(pixels(data + tail), pixels(data))


def test_fill_bytes_before_markers_and_restart_markers_are_no_damage() -> None:
    data = saved(noise(64, 64, 3), "JPEG", restart_marker_blocks=2)
    assert b"\xff\xd3" in data
    at = data.index(b"\xff\xdb")
    np.testing.assert_array_equal(pixels(data[:at] + b"\xff\xff" + data[at:]), pixels(data))


def test_garbage_within_a_jpegs_coded_data_is_refused() -> None:
    data = bytearray(saved(noise(64, 64, 3), "JPEG"))
    data[len(data) // 2 : len(data) // 2 + 2] = b"\xff\xc1"
    refused(bytes(data), "damaged JPEG: marker C1 within the coded data")


def test_a_jpeg_whose_coded_data_runs_out_before_its_end_marker_is_refused() -> None:
    data = saved(noise(64, 64, 3), "JPEG")
    refused(data[: len(data) // 2] + b"\xff\xd9", "premature end")


def test_the_jpeg_decoder_gives_the_pixels_that_pillow_gives() -> None:
    for drawn in (noise(61, 83, 3), noise(61, 83)):
        data = saved(drawn, "JPEG")
        with Pillow.open(io.BytesIO(data)) as opened:
            reference = np.asarray(opened)
        assert np.abs(images.decode(data).image.astype(int) - reference).max() <= 2


def test_every_checksum_of_a_png_counts() -> None:
    text = chunk(b"tEXt", b"Comment\0hello")
    data = png(4, 2, 8, 0, b"\0abcd\0efgh", text)
    assert pixels(data).shape == (2, 4)
    at = 8
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        broken = bytearray(data)
        broken[at + 8 + size] ^= 1
        refused(bytes(broken), "damaged PNG: wrong checksum in chunk " + data[at + 4 : at + 8].decode())
        at += 12 + size
    for left in range(8, len(data)):
        refused(data[:left], "PNG")


def test_png_rows_that_are_missing_are_refused() -> None:
    refused(png(4, 4, 8, 0, b"\0abcd"), "damaged PNG")


@pytest.mark.parametrize("format", ["GIF", "BMP", "WEBP", "TIFF", "AVIF"])
def test_a_file_cut_short_is_refused(format: str) -> None:
    data = saved(noise(48, 48, 3), format)
    for left in [*range(20, len(data), 211), len(data) - 40, len(data) - 3]:
        if format == "TIFF" and left > 8 + 48 * 48 * 3:
            continue  # Pillow may put the pixels before the tags: covered by the layouts below
        with pytest.raises(ImageError):
            images.decode(data[:left])


@pytest.mark.parametrize("settings", [{}, {"compression": "zlib"}, {"tile": (16, 16)}, {"rowsperstrip": 4}])
def test_a_tiff_whose_strips_end_beyond_the_file_is_refused(settings: dict[str, Any]) -> None:
    data = tiff(noise(48, 48), **settings)
    refused(data[:-1], "truncated TIFF")
    refused(data[:-300], "truncated TIFF")


def test_the_reason_is_one_short_line() -> None:
    for data in (saved(smooth(), "BMP")[:300], saved(smooth(), "WEBP")[:-20], tiff(smooth())[:-9]):
        with pytest.raises(ImageError) as caught:
            images.decode(data)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 200


# quiet, and many threads


def test_bad_files_print_and_warn_nothing_and_others_warnings_still_come(capfd: pytest.CaptureFixture[str]) -> None:
    ill = dicom(noise(6, 6), PatientBirthDate="20200101").replace(b"20200101", b"yesterda")[:-5]
    page = tiff(noise(8, 8))
    for data in (ill, page[:-9], page[:100], png(2, 1, 8, 0, b"\0ab", chunk(b"iCCP", b"x\0\0abc"))):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            with contextlib.suppress(ImageError):
                images.decode(data)
            assert not said
    assert capfd.readouterr() == ("", "")
    with pytest.warns(UserWarning, match="mine"):
        warnings.warn("mine", UserWarning, stacklevel=1)


def test_many_threads_at_once_give_what_one_gives() -> None:
    good = [saved(noise(32, 32, 3), f) for f in ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")]
    good += [dicom(noise(16, 16, dtype=np.uint16)), tiff(noise(16, 16), compression="lzw")]
    bad = [data[: len(data) // 2] for data in good]

    def outcome(data: bytes) -> str:
        try:
            return hashlib.sha256(images.decode(data).image.tobytes()).hexdigest()
        except ImageError as error:
            return str(error)

    work = (good + bad) * 6
    alone = [outcome(data) for data in work]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(outcome, work)) == alone


def test_importing_loads_no_decoder() -> None:
    heavy = "('PIL.Image', 'cv2', 'pydicom', 'tifffile', 'imagecodecs')"
    code = f"import sys, imagier.images; print([m for m in {heavy} if m in sys.modules])"
    path = str(Path(images.__file__).parents[1])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=path, check=True)
    assert done.stdout.strip() == "[]"


# from images to other things


def test_black_and_white_are_percentiles_and_never_fall_together() -> None:
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    assert images.levels(ramp) == pytest.approx((65.535, 65469.465), abs=0.5)
    assert images.levels(noise(4, 4)) == (0, 255)
    assert images.levels(np.full((4, 4), 300, np.uint16)) == (0, 65535)
    assert images.levels(np.full((4, 4), 0.5, np.float32)) == (0, 1)
    speck = np.zeros((200, 200), np.uint16)
    speck[3, 3] = 900
    assert images.levels(speck) == (0, 900)


def test_to_uint8_is_linear_clipped_and_rounded() -> None:
    deep = np.array([[0, 100, 200, 300, 65535]], np.uint16)
    assert images.to_uint8(deep, 100, 300).tolist() == [[0, 0, 128, 255, 255]]
    plain = noise(3, 3)
    assert images.to_uint8(plain, 0, 255) is plain
    assert images.to_uint8(np.array([[0.5]], np.float32), 0, 1)[0, 0] == 128
    with pytest.raises(ValueError, match="above black"):
        images.to_uint8(deep, 5, 5)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_resize_keeps_dtype_range_and_mean(dtype: Any) -> None:
    drawn = (smooth(64, 96) / 255).astype(np.float32) if dtype == np.float32 else smooth(64, 96).astype(dtype)
    before = drawn.copy()
    half = images.resize(drawn, short_side=32)
    assert half.shape == (32, 48, 3)
    assert half.dtype == dtype
    assert half.mean() == pytest.approx(drawn.mean(), rel=0.01)
    np.testing.assert_array_equal(drawn, before)
    assert images.resize(drawn, long_side=48).shape == (32, 48, 3)
    assert images.resize(drawn, size=(10, 200)).shape == (200, 10, 3)
    grown = images.resize(drawn, long_side=200)
    assert grown.max() <= drawn.max()
    assert grown.min() >= drawn.min()
    assert images.resize(drawn, short_side=64) is drawn
    with pytest.raises(ValueError, match="exactly one"):
        images.resize(drawn)


def test_shrinking_is_antialiased() -> None:
    checks = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    assert np.abs(images.resize(checks, short_side=16).astype(int) - 127).max() <= 1


def test_encode_gives_back_what_it_was_given_or_says_why_not() -> None:
    for dtype in (np.uint8, np.uint16):
        for format in ("png", "tiff"):
            for shape in ((5, 7), (5, 7, 3)):
                drawn = noise(*shape, dtype=dtype)
                np.testing.assert_array_equal(pixels(images.encode(drawn, format)), drawn)
    unit = np.random.default_rng(0).random((5, 7), np.float32)
    np.testing.assert_array_equal(pixels(images.encode(unit, "tiff")), unit)
    for format in ("jpeg", "webp"):
        small, large = (len(images.encode(noise(64, 64, 3), format, quality=q)) for q in (20, 95))
        assert small < large
        assert np.abs(pixels(images.encode(smooth(), format)).astype(int) - smooth()).mean() < 5
    ill = (("jpeg", unit, None), ("png", unit, None), ("png", noise(2, 2), 50), ("gif", unit, 1))
    for format, image, quality in ill:
        with pytest.raises(ValueError, match=format):
            images.encode(image, format, quality=quality)


def test_a_thumbnail_is_small_and_no_image_is_grown_into_one() -> None:
    assert images.thumbnail(smooth(400, 800)).shape == (80, 160, 3)
    assert images.thumbnail(smooth(40, 60)).shape == (40, 60, 3)


def test_near_copies_hash_alike_and_others_do_not() -> None:
    def apart(a: np.ndarray, b: np.ndarray) -> int:
        return (images.perceptual_hash(a) ^ images.perceptual_hash(b)).bit_count()

    rng = np.random.default_rng(1)
    scenes = [images.resize(rng.integers(0, 256, (9, 9, 3), np.uint8), size=(256, 256)) for _ in range(6)]
    for scene in scenes:
        again = pixels(images.encode(images.resize(scene, size=(180, 170)), "jpeg", quality=60))
        assert apart(scene, again) <= 6
        assert apart(scene, (scene * 0.8 + 20).astype(np.uint8)) <= 6
    assert min(apart(a, b) for i, a in enumerate(scenes) for b in scenes[:i]) >= 16
    assert images.perceptual_hash(np.full((50, 50), 90, np.uint8)) == 0
    stripes = [np.tile(np.arange(64) // n % 2 * 255, (64, 1)).astype(np.uint8) for n in (4, 16)]
    assert apart(stripes[0], stripes[1]) > 0
    assert 0 <= images.perceptual_hash(scenes[0]) < 2**64


def test_content_hash_is_sha256() -> None:
    assert images.content_hash(b"abc") == hashlib.sha256(b"abc").hexdigest()


def test_real_photographs_decode_at_their_size(shared: Path) -> None:
    for path in sorted((shared / "data" / "clothing").rglob("*.jpg"))[:20]:
        data = path.read_bytes()
        head = images.header(data)
        assert images.decode(data).image.shape == (head.height, head.width, 3)
