"""The reader of DICOM files: a frame is a page; grey values are rescaled and windowed at full precision.

DICOM PS3.3, C.7.6.3 (pixels), C.11.1 (modality transform), C.11.2 (window and VOI LUT).
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from imagier._page import Page, aside, check_page, reason, square, unit_range
from imagier._quiet import quiet
from imagier.types import Image, ImageError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_INSTALL = "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg pyjpegls"


def read_dicom(data: bytes, page: int) -> Page:
    """One frame of a DICOM file.

    Grey: modality rescale, then the window or VOI LUT clips to float32 in [0, 1]; without one, the whole range that
    the stored bits can hold becomes [0, 1], so that a value means the same in every file. MONOCHROME1 is inverted.
    Plain 8-bit grey (no rescale, no window) and 8- and 16-bit colour keep their depth; 1 bit becomes 0 and 255.
    """
    with quiet("pydicom"), _own_errors():
        head = _dataset(data, pixels=False)
        if "Rows" not in head or "Columns" not in head:
            raise ImageError("a DICOM file without an image (a report, a plan or a directory)")
        pages = int(head.get("NumberOfFrames") or 1)
        check_page(page, pages)
        width, height, depth = int(head.Columns), int(head.Rows), _depth(head)
        pixel_size = aside(lambda: _pixel_size(head))

    def pixels(_divisor: int) -> Image:
        with quiet("pydicom"), _own_errors():
            dataset = _dataset(data, pixels=True)
            return _colour(dataset, page) if int(dataset.get("SamplesPerPixel", 1)) > 1 else _grey(dataset, page)

    return Page("DICOM", pages, width, height, depth, pixels, pixel_size=pixel_size)


def _pixel_size(dataset: Dataset) -> float | None:
    """Micrometres a pixel: PixelSpacing, of the image or, where it has many frames, shared by all (C.7.6.16.2.1)."""
    places = [dataset]
    for group in dataset.get("SharedFunctionalGroupsSequence") or ():
        places.extend(group.get("PixelMeasuresSequence") or ())
    spacing = next((told for place in places if (told := place.get("PixelSpacing"))), None)
    if spacing is None or len(spacing) != 2:
        return None
    return square(float(spacing[1]) * 1000, float(spacing[0]) * 1000)


@contextmanager
def _own_errors() -> Iterator[None]:
    """pydicom has two errors that are no ValueError; a value is converted, and may raise, wherever it is read."""
    from pydicom.errors import BytesLengthException, InvalidDicomError

    try:
        yield
    except (InvalidDicomError, BytesLengthException) as error:
        raise ImageError(f"damaged DICOM: {reason(error)}") from error


def _dataset(data: bytes, *, pixels: bool) -> Dataset:
    from pydicom import dcmread

    return dcmread(io.BytesIO(data), stop_before_pixels=not pixels)


def _stored(dataset: Dataset, page: int) -> Image:
    """The frame's stored values, colour as RGB."""
    from pydicom.pixels.utils import pixel_array

    if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise ImageError("truncated DICOM: the pixels are missing")
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated:
        _check_sequence(dataset)
    try:
        return np.asarray(pixel_array(dataset, index=page))
    except (RuntimeError, NotImplementedError) as error:
        text = str(error)
        if "missing dependencies" in text or "Pillow does not support" in text or "Pillow cannot decode" in text:
            raise ImageError(f"DICOM pixels compressed as {syntax.name}, which needs a decoder: {_INSTALL}") from error
        raise


def _check_sequence(dataset: Dataset) -> None:
    """Compressed frames must stand whole in the file: pydicom hands a decoder what there is of a cut one."""
    data, at = dataset.PixelData, 0
    order = "little" if dataset.original_encoding[1] else "big"
    while at < len(data):
        tag, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], order)  # type: ignore[arg-type]
        if tag == b"\xfe\xff\xdd\xe0":
            return
        at += 8 + size
        if tag != b"\xfe\xff\x00\xe0" or at > len(data):
            raise ImageError("truncated DICOM: a compressed frame is cut short")


def _depth(head: Dataset) -> str:
    allocated, stored = int(head.get("BitsAllocated", 0)), int(head.get("BitsStored", 0))
    if "FloatPixelData" in head or "DoubleFloatPixelData" in head or allocated > 16:
        return "float32"
    if allocated == 1:
        return "uint8"
    if head.get("PhotometricInterpretation") == "PALETTE COLOR":
        descriptor = head.get("RedPaletteColorLookupTableDescriptor") or (0, 0, 8)
        return "uint16" if int(descriptor[2]) == 16 else "uint8"
    if int(head.get("SamplesPerPixel", 1)) > 1:
        return "uint8" if stored == 8 else "uint16" if stored == 16 else "float32"
    plain = stored == 8 and not head.get("PixelRepresentation") and not any(_has(head, word) for word in _TRANSFORMS)
    return "uint8" if plain else "float32"


def _colour(dataset: Dataset, page: int) -> Image:
    image = _stored(dataset, page)
    stored = int(dataset.BitsStored)
    if image.ndim != 3 or image.shape[2] != 3:
        raise ImageError(f"a DICOM image of {image.shape[-1]} channels: only grey, RGB, YBR and palette are supported")
    if stored in (8, 16):
        return image.astype(np.uint8 if stored == 8 else np.uint16)
    return (image / np.float32(2**stored - 1)).astype(np.float32).clip(0, 1)


def _grey(dataset: Dataset, page: int) -> Image:
    from pydicom.pixels.processing import apply_color_lut

    image = _stored(dataset, page)
    if image.ndim != 2:
        raise ImageError(f"damaged DICOM: a grey frame of shape {image.shape}")
    photometric = str(dataset.get("PhotometricInterpretation", "MONOCHROME2"))
    if photometric == "PALETTE COLOR":
        coloured: Image = apply_color_lut(image, dataset)[..., :3]
        return coloured
    inverted = photometric == "MONOCHROME1"
    if _depth(dataset) == "uint8":
        if int(dataset.get("BitsAllocated", 0)) == 1:
            image = (image != 0).astype(np.uint8) * np.uint8(255)
        return np.asarray(~image if inverted else image)
    shown = _windowed(dataset, page, image)
    return np.asarray(1 - shown if inverted else shown, np.float32)


_TRANSFORMS = ("RescaleSlope", "ModalityLUTSequence", "WindowCenter", "VOILUTSequence")
_GROUPS = ("PixelValueTransformationSequence", "FrameVOILUTSequence")


def _has(dataset: Dataset, word: str) -> bool:
    """Whether a transform is given anywhere, for the whole file or for a frame."""
    if dataset.get(word) is not None:
        return not (word == "RescaleSlope" and dataset.RescaleSlope == 1 and not dataset.get("RescaleIntercept"))
    return word in ("RescaleSlope", "WindowCenter") and any(
        group.get(name) for outer in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
        for group in dataset.get(outer) or () for name in _GROUPS
    )  # fmt: skip


def _value(dataset: Dataset, page: int, word: str) -> Any:
    """A transform's value for this frame: the frame's own, else the shared, else the file's; the first of several."""
    for outer, index in (("PerFrameFunctionalGroupsSequence", page), ("SharedFunctionalGroupsSequence", 0)):
        groups = dataset.get(outer) or ()
        for name in _GROUPS if index < len(groups) else ():
            for inner in groups[index].get(name) or ():
                if inner.get(word) is not None:
                    return _first(inner.get(word))
    return _first(dataset.get(word))


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) or type(value).__name__ == "MultiValue" else value


def _windowed(dataset: Dataset, page: int, image: Image) -> Image:
    """Stored values -> float64 in [0, 1]: C.11.1, then C.11.2.1."""
    from pydicom.pixels.processing import apply_modality_lut, apply_voi

    if image.dtype.kind == "f":
        low, high = None, None
    else:
        signed, bits = bool(dataset.get("PixelRepresentation")), int(dataset.BitsStored)
        low, high = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if signed else (0.0, 2.0**bits - 1)
    slope, intercept = _value(dataset, page, "RescaleSlope"), _value(dataset, page, "RescaleIntercept")
    if dataset.get("ModalityLUTSequence"):
        x = np.asarray(apply_modality_lut(image, dataset))
        top = 2.0 ** int(dataset.ModalityLUTSequence[0].LUTDescriptor[2]) - 1
        low, high = 0.0, top
    else:
        a, b = float(slope if slope is not None else 1), float(intercept if intercept is not None else 0)
        x = image.astype(np.float64) * a + b
        if low is not None and high is not None:
            low, high = sorted((low * a + b, high * a + b))
    centre, width = _value(dataset, page, "WindowCenter"), _value(dataset, page, "WindowWidth")
    if dataset.get("VOILUTSequence"):
        table = dataset.VOILUTSequence[0]
        whole = np.rint(x).astype(np.int64)
        return np.asarray(apply_voi(whole, dataset)) / (2.0 ** int(table.LUTDescriptor[2]) - 1)
    if centre is not None and width is not None:
        function = str(_value(dataset, page, "VOILUTFunction") or "LINEAR")
        return _window(x, float(centre), float(width), function)
    if low is None or high is None:
        return unit_range(x)
    return ((x - low) / ((high - low) or 1.0)).clip(0, 1)


def _window(x: Image, centre: float, width: float, function: str) -> Image:
    """C.11.2.1.2 and C.11.2.1.3, on an output range of [0, 1]."""
    if width <= 0 or (function == "LINEAR" and width < 1):
        raise ImageError(f"damaged DICOM: a window of width {width:g}")
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(np.clip(-4 * (x - centre) / width, -700, 700))))
    if function == "LINEAR_EXACT":
        return ((x - centre) / width + 0.5).clip(0, 1)
    if function != "LINEAR":
        raise ImageError(f"a DICOM window of kind {function}, which is not supported")
    if width == 1:
        return (x > centre - 0.5).astype(np.float64)
    return ((x - (centre - 0.5)) / (width - 1) + 0.5).clip(0, 1)
