"""What was sent to a trial: written under names of our own making, archives unpacked, what is too large refused."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO

from imagier import images
from imagier._names import distinct, safe_name
from imagier.types import ImageError, SettingError

MOST_FILES = 200
"""Of a trial, those of archives counted."""
MOST_BYTES = 256 * 2**20
"""Of a trial's files together, as they are when unpacked."""
MOST_PIXELS = 100_000_000
"""Of a file, all its pages together, each taken to be as large as the first."""
LONGEST_NAME = 100
"""Bytes of a file's name."""
RATIO, UNMINDED = 200, 8 * 2**20
"""An archive that gives more than `UNMINDED` bytes may give so many times its own size: images hardly shrink."""
PIECE = 2**20

Sent = tuple[str, BinaryIO | bytes]
"""What the client calls a file, and its content."""


def plain(names: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """The clients' names for files without any path, hidden or forbidden letter, all different, also from `taken`."""
    lasts = [name.replace("\\", "/").rstrip("/").rpartition("/")[2].lstrip(". ") for name in names]
    return distinct([safe_name(last, LONGEST_NAME) for last in lasts], taken)


def take(files: Iterable[Sent], folder: Path, *, most_files: int = MOST_FILES, most_bytes: int = MOST_BYTES) -> int:
    """Write files into a folder; the bytes written. Raises SettingError for none, too many, or too much."""
    sent = list(files)
    if not sent:
        raise SettingError("no image was sent: send one or more, or a ZIP of them")
    _few(len(sent), most_files)
    taken = 0
    for name, (_, content) in zip(plain(name for name, _ in sent), sent, strict=True):
        with (folder / name).open("xb") as out:
            if isinstance(content, bytes):
                taken += out.write(content)
            else:
                while taken <= most_bytes and (piece := content.read(PIECE)):
                    taken += out.write(piece)
        if taken > most_bytes:
            raise _too_much(most_bytes)
    return taken


def unpack(folder: Path, *, most_files: int = MOST_FILES, most_bytes: int = MOST_BYTES) -> None:
    """Put what ZIP archives in a folder hold in their place: plain files alone, under plain names.

    What comes out is counted while it comes, whatever an archive says of itself. Archives in archives stay as they are,
    and are no images. Raises SettingError for what is damaged, locked with a password, or too much.
    """
    there = sorted(folder.iterdir())
    archives = [path for path in there if _is_zip(path)]
    kept = [path for path in there if path not in archives]
    taken = sum(path.stat().st_size for path in kept)
    names = [path.name for path in kept]
    for path in archives:
        try:
            with zipfile.ZipFile(path) as archive:
                entries = [each for each in archive.infolist() if _counts(each)]
                _few(len(names) + len(entries), most_files)
                called = plain((each.filename for each in entries), [*names, *(p.name for p in archives)])
                least = max(UNMINDED, RATIO * path.stat().st_size)
                for entry, name in zip(entries, called, strict=True):
                    _check(entry, path.name)
                    allowed = min(most_bytes - taken, least)
                    given = _written(archive, entry, folder / name, allowed)
                    if given > allowed:
                        raise _too_much(most_bytes) if allowed < least else _bomb(path.name)
                    taken, least = taken + given, least - given
                names += called
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, OSError) as error:
            raise SettingError(f"the archive {path.name} is damaged: {error}") from error
        path.unlink()
    if not names:
        raise SettingError(f"the archive {archives[0].name} holds no file")


def refused(folder: Path, *, most_pixels: int = MOST_PIXELS) -> dict[str, str]:
    """Files that are no images, or too large ones, by name with the reason: no pixel is read."""
    told: dict[str, str] = {}
    for path in sorted(folder.iterdir()):
        try:
            head = images.header(path.read_bytes())
        except ImageError as error:
            told[path.name] = str(error)
            continue
        if head.width * head.height * head.pages > most_pixels:
            pages = f"{head.pages} pages of " if head.pages > 1 else ""
            told[path.name] = (
                f"{pages}{head.width} x {head.height} pixels are more than the {most_pixels:,} that a trial takes"
            )
    return told


def _written(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path, most: int) -> int:
    """Bytes of an entry that came out, which were written; little more than `most`, however many there are."""
    given = 0
    with archive.open(entry) as content, path.open("xb") as out:
        while given <= most and (piece := content.read(PIECE)):
            given += out.write(piece)
    return given


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


def _counts(entry: zipfile.ZipInfo) -> bool:
    """Whether an entry is a file that somebody put there: no folder, nothing hidden, none of macOS's own."""
    parts = entry.filename.replace("\\", "/").split("/")
    return not entry.is_dir() and "__MACOSX" not in parts and not parts[-1].startswith(".")


def _check(entry: zipfile.ZipInfo, archive: str) -> None:
    mode = entry.external_attr >> 16
    if mode and not S_ISREG(mode) and mode & 0o170000:
        raise SettingError(f"the archive {archive} holds what is no plain file, such as a link: pack images alone")
    if entry.flag_bits & 1:
        raise SettingError(f"the archive {archive} is locked with a password: pack it without")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others may ask for any memory
        raise SettingError(f"the archive {archive} is packed in an unusual way: pack it as an ordinary ZIP")


def _few(count: int, most: int) -> None:
    if count > most:
        raise SettingError(f"{count} files are more than the {most} that a trial takes")


def _too_much(most: int) -> SettingError:
    return SettingError(f"the files are more than {most // 2**20} MB together, the most that a trial takes")


def _bomb(name: str) -> SettingError:
    return SettingError(f"the archive {name} gives more than {RATIO} times its own size, which images do not")
