"""Whatever bytes come in, `decode` gives a valid image or an ImageError, and nothing else."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from test_images import compressed, dicom, noise, packed_twelve, png, saved, smooth, tiff

from imagier import images
from imagier.types import ImageError


def pages() -> bytes:
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as writer:
        writer.write(noise(9, 9), metadata=None, compression="lzw")
        writer.write(noise(9, 9, 3), metadata=None, photometric="rgb", tile=(16, 16))
    return out.getvalue()


def samples() -> dict[str, bytes]:
    """Small sound files of each kind."""
    frames = [Pillow.new("P", (7, 7), n) for n in range(3)]
    exif = Pillow.Exif()
    exif[0x0112] = 6
    drawn, grey = noise(19, 17, 3), noise(19, 17)
    files = {
        "jpeg": saved(drawn, "JPEG", exif=exif),
        "progressive": saved(grey, "JPEG", progressive=True),
        "cmyk": saved(Pillow.new("CMYK", (9, 9)), "JPEG"),
        "png": saved(drawn, "PNG", exif=exif),
        "palette png": png(4, 1, 2, 3, b"\0\x1b"),
        "gif": saved(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "apng": saved(drawn, "PNG", save_all=True, append_images=[Pillow.fromarray(255 - drawn)]),
        "bmp": saved(drawn, "BMP"),
        "palette bmp": saved(Pillow.fromarray(grey).convert("P"), "BMP"),
        "webp": saved(drawn, "WEBP", exif=exif),
        "lossless webp": saved(drawn, "WEBP", lossless=True),
        "animated webp": saved(drawn, "WEBP", save_all=True, append_images=[Pillow.fromarray(255 - drawn)]),
        "tiff": tiff(noise(9, 9, 3, dtype=np.uint16), photometric="rgb", compression="zlib"),
        "float tiff": tiff(np.linspace(-1, 1, 81, dtype=np.float32).reshape(9, 9)),
        "jpeg tiff": tiff(smooth(16, 16), photometric="rgb", compression="jpeg"),
        "twelve-bit tiff": packed_twelve([1, 2, 3, 4]),
        "pages": pages(),
        "dicom": dicom(noise(6, 6, dtype=np.uint16), WindowCenter=100, WindowWidth=50, RescaleSlope=2),
        "colour dicom": dicom(noise(2, 4, 4, 3), SamplesPerPixel=3, PhotometricInterpretation="RGB"),
        "jpeg dicom": compressed(dicom(grey), [saved(grey, "JPEG")], "1.2.840.10008.1.2.4.50"),
    }
    if ".avif" in images.SUFFIXES:
        files["avif"] = saved(drawn, "AVIF")
    return files


SAMPLES = samples()
NAMES = sorted(SAMPLES)


def sound_or_refused(data: bytes) -> None:
    for page in (0, 1):
        reason = ""
        try:
            head = images.header(data, limit=1_000_000)
            decoded = images.decode(data, page=page, short_side=8, limit=1_000_000)
        except ImageError as error:
            reason = str(error) or "none"
        if reason:
            assert reason != "none"
            assert len(reason) < 300
            assert "\n" not in reason
            continue
        image = decoded.image
        assert head.pages > page
        assert image.dtype.name in ("uint8", "uint16", "float32")
        assert image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
        assert image.size > 0
        assert decoded.black < decoded.white
        assert decoded.width > 0
        assert decoded.height > 0
        if page == 0:
            assert (head.width, head.height, head.depth) == (decoded.width, decoded.height, image.dtype.name)
        if image.dtype == np.float32:
            assert np.isfinite(image).all()
            assert 0 <= image.min() <= image.max() <= 1
        assert images.to_uint8(image, decoded.black, decoded.white).shape == image.shape


@pytest.mark.parametrize("name", [name for name in NAMES if name != "palette png"])
def test_the_samples_are_sound(name: str) -> None:
    images.decode(SAMPLES[name])
    sound_or_refused(SAMPLES[name])


QUICK = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@QUICK
@given(st.sampled_from(NAMES), st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_an_image_or_refused(name: str, share: float) -> None:
    data = SAMPLES[name]
    sound_or_refused(data[: int(share * len(data))])


flips = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6)


@QUICK
@given(st.sampled_from(NAMES), flips, st.booleans())
def test_a_file_with_wrong_bytes_is_an_image_or_refused(name: str, wrong: list[tuple[float, int]], head: bool) -> None:
    data = bytearray(SAMPLES[name])
    span = min(len(data), 400) if head else len(data)  # most that can go wrong goes wrong in the head
    for share, value in wrong:
        data[int(share * span)] = value
    sound_or_refused(bytes(data))


@QUICK
@given(st.sampled_from(NAMES), st.floats(0, 1), st.binary(max_size=12), st.integers(0, 12))
@example("gif", 0.5, b"", 3)
def test_a_file_with_bytes_put_in_or_left_out_is_an_image_or_refused(
    name: str, share: float, extra: bytes, lost: int
) -> None:
    data = SAMPLES[name]
    at = int(share * len(data))
    sound_or_refused(data[:at] + extra + data[at + lost :])


@QUICK
@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    sound_or_refused(data)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@given(h=st.integers(1, 600), w=st.integers(1, 600), high=st.integers(1, 90), wide=st.integers(1, 90))
@settings(max_examples=40, deadline=None)
def test_shrinking_in_halves_stays_near_one_average_over_areas(dtype, h, w, high, wide) -> None:
    high, wide = min(h, high), min(w, wide)
    whole = {"uint8": 255, "uint16": 65535, "float32": 1.0}[dtype]
    coarse = np.random.default_rng(h * w).random((6, 9, 3))
    image = (cv2.resize(coarse, (w, h), interpolation=cv2.INTER_LINEAR) * whole).astype(dtype)
    made = images.resize(image, size=(wide, high))
    assert (made.shape, made.dtype) == ((high, wide, 3), image.dtype)
    wanted = cv2.resize(image, (wide, high), interpolation=cv2.INTER_AREA)
    assert np.abs(made.astype(float) - wanted).mean() <= 0.05 * whole
