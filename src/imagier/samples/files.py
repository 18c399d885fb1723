"""Files that are broken, each in a way that is stated, and DICOM files with the tags that decoding has to heed."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from imagier.samples.canvas import clouds, stream, to_uint8
from imagier.types import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def broken(folder: Path, seed: int) -> dict[str, str]:
    """Writes twenty or so broken files into `folder`; gives each name with what is wrong with it.

    A file that may not be read is among them only where the user can be refused: not for root.
    Raises FileExistsError where one of the names is taken by a folder or a link.
    """
    from imagier.images import encode

    rng = stream("broken", "files", seed)
    photo = to_uint8(128 + 45 * np.stack([clouds(rng, 160, 6) for _ in range(3)], -1), rng, 6.0)
    png, jpeg, tiff = encode(photo, "png"), encode(photo, "jpeg"), encode(photo, "tiff")
    medical = dicom(photo[..., 0].astype(np.uint16) * 16)
    files = {
        "empty.png": (b"", "zero bytes"),
        "empty.jpg": (b"", "zero bytes"),
        "empty.tif": (b"", "zero bytes"),
        "one_byte.png": (png[:1], "one byte long"),
        "truncated.jpg": (jpeg[: len(jpeg) // 2], "JPEG cut off half way"),
        "truncated_early.jpg": (jpeg[:64], "JPEG cut off within its header"),
        "truncated.png": (png[: len(png) // 2], "PNG cut off half way"),
        "truncated.tif": (tiff[: len(tiff) // 2], "TIFF cut off half way"),
        "truncated.dcm": (medical[: len(medical) // 2], "DICOM cut off half way"),
        "text.jpg": (b"This is a note about the pictures, and not one of them.\n" * 20, "text named .jpg"),
        "page.png": (b"<!DOCTYPE html><html><body>404 Not Found</body></html>\n", "an HTML page named .png"),
        "random.jpg": (rng.bytes(4096), "random bytes named .jpg"),
        "zeros.png": (bytes(4096), "zero bytes only, as a failed copy leaves them"),
        "checksum.png": (_flip(png, png.index(b"IDAT") + 4 + 40), "PNG with a wrong checksum"),
        "scrambled.png": (
            SIGNATURE + _header(160, 160, 8, 2) + _chunk(b"IDAT", rng.bytes(9000)) + _chunk(b"IEND", b""),
            "PNG with right checksums over data that cannot be unpacked",
        ),
        "no_data.png": (SIGNATURE + _header(160, 160, 8, 2) + _chunk(b"IEND", b""), "PNG without image data"),
        "no_width.png": (
            SIGNATURE + _header(0, 160, 8, 2) + _chunk(b"IDAT", zlib.compress(b"")) + _chunk(b"IEND", b""),
            "PNG of width 0",
        ),
        "bomb.png": (bomb(60_000, 60_000), "PNG of 60,000 x 60,000 pixels in less than 1 MB"),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, (content, _) in files.items():
        (folder / name).write_bytes(content)
    wrong = {name: what for name, (_, what) in files.items()}
    (folder / "dangling.png").symlink_to("no_such_file.png")
    wrong["dangling.png"] = "a symbolic link to a file that is not there"
    (folder / "directory.png").mkdir()
    wrong["directory.png"] = "a folder named .png"
    locked = folder / "locked.png"
    locked.write_bytes(png)
    locked.chmod(0)
    if os.access(locked, os.R_OK):
        locked.unlink()
    else:
        wrong["locked.png"] = "a file without permission to read it"
    return wrong


def bomb(width: int, height: int) -> bytes:
    """A valid black 1-bit PNG of any size, in about a thousandth of its size; made in 2 MB of memory.

    After a full flush the compressor starts afresh on a byte boundary, so one compressed block of zeros can be
    repeated; the checksum of n zeros is known (Adler-32: 1 and n mod 65,521).
    """
    rows, block = height * ((width + 7) // 8 + 1), 1 << 20
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    repeated = packer.compress(bytes(block)) + packer.flush(zlib.Z_FULL_FLUSH)
    last = zlib.compressobj(9, zlib.DEFLATED, -15)
    rest = last.compress(bytes(rows % block)) + last.flush()
    packed = b"\x78\xda" + repeated * (rows // block) + rest + struct.pack(">I", (rows % 65521) << 16 | 1)
    return SIGNATURE + _header(width, height, 1, 0) + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _header(width: int, height: int, bits: int, colour: int) -> bytes:
    return _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))


def _flip(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]


def dicom(
    image: Image | Sequence[Image],
    *,
    bits: int = 12,
    window: tuple[float, float] | None = None,
    rescale: tuple[float, float] | None = None,
    monochrome1: bool = False,
) -> bytes:
    """A small valid DICOM file of one uint16 (H, W) image, or of several of one size as its frames.

    `bits` is BitsStored (of 16 allocated); `window` is centre and width, `rescale` slope and intercept: both written as
    tags, the pixels stay as they are. `monochrome1` declares that 0 is white. Raises ValueError for other pixels.
    """
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    frames = [image] if isinstance(image, np.ndarray) else list(image)
    if not frames or any(f.dtype != np.uint16 or f.ndim != 2 or f.shape != frames[0].shape for f in frames):
        raise ValueError("a DICOM sample is made of uint16 (H, W) images of one size")
    if not 1 <= bits <= 16 or max(int(f.max()) for f in frames) >= 2**bits:
        raise ValueError(f"pixels do not fit {bits} bits")
    pixels = np.stack(frames).astype("<u2").tobytes()
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[f"{zlib.crc32(pixels)}", f"{len(pixels)}"])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.Modality, data.PatientName, data.PatientID = "OT", "Drawn^Sample", "drawn"
    data.Rows, data.Columns = frames[0].shape
    data.SamplesPerPixel = 1
    data.PhotometricInterpretation = "MONOCHROME1" if monochrome1 else "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, bits, bits - 1, 0
    if len(frames) > 1:
        data.NumberOfFrames = len(frames)
    if window is not None:
        data.WindowCenter, data.WindowWidth = window
    if rescale is not None:
        data.RescaleSlope, data.RescaleIntercept = rescale
    data.PixelData = pixels
    out = io.BytesIO()
    data.save_as(out, enforce_file_format=True)
    return out.getvalue()
