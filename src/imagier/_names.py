"""File names that hold on Linux, macOS and Windows, and that differ from one another on all three."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Sequence

MOST_BYTES = 255
"""The longest name of a file or folder that the usual file systems take, in bytes of UTF-8."""
LONGEST_SUFFIX = 16
"""A suffix up to this many bytes is kept whole when a name is cut; what is longer is no suffix but part of the name."""

_FORBIDDEN = set('<>:"/\\|?*')
_JOINERS = "\u200c\u200d"  # of the format characters, the two that words and emoji are written with
_HIDDEN = {"Cc", "Cf", "Cn", "Cs", "Zl", "Zp"}  # control, format, unassigned, lone surrogate, line and paragraph ends
_DEVICES = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"} | {
    f"{port}{digit}" for port in ("COM", "LPT") for digit in "0123456789¹²³"
}


def safe_name(text: str, most: int = MOST_BYTES) -> str:
    """`text` as a name for a file or folder that every usual system takes; a name that is one already stays as it is.

    What no name may hold becomes `_`, spaces and dots at the end go, a name that Windows keeps for a device gets a `_`
    before it, and a stem is cut so that the name fits into `most` bytes of UTF-8 (32 or more) with its suffix. Unicode
    is composed (NFC). Nothing left: `unnamed`.
    """
    name = unicodedata.normalize("NFC", text)
    name = _trim("".join("_" if _unfit(character) else character for character in name))
    if name.split(".")[0].rstrip().upper() in _DEVICES:
        name = "_" + name
    stem, suffix = split(name)
    return _trim(_cut(stem, most - len(suffix.encode())) + suffix) or "unnamed"


def split(name: str) -> tuple[str, str]:
    """Stem and suffix (with its dot) of a file name; a name that only begins with a dot has no suffix."""
    stem, dot, suffix = name.rpartition(".")
    short = len((dot + suffix).encode("utf-8", "surrogatepass")) <= LONGEST_SUFFIX
    return (stem, dot + suffix) if stem.strip(".") and suffix and short else (name, "")


def fold(name: str) -> str:
    """What two names share when a file system that ignores case or the Unicode form takes them for one."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).upper().casefold())


def distinct(wanted: Sequence[str], taken: Iterable[str] = ()) -> list[str]:
    """A safe name for each wanted one, all different from one another and from those `taken`, whatever the case.

    Who comes first keeps the name. The others are numbered (`name-2.png`), with numbers that nobody asked for himself.
    """
    used = {fold(name) for name in taken}
    names = [safe_name(name) for name in wanted]
    late: list[int] = []
    for at, name in enumerate(names):
        if fold(name) in used:
            late.append(at)
        used.add(fold(name))
    last: dict[str, int] = {}
    for at in late:
        names[at] = _numbered(names[at], used, last)
    return names


def distinct_paths(files: Sequence[str]) -> list[str]:
    """What is made of each file is called so, without an ending: in its subfolder, no two alike on any system."""
    by_folder: dict[str, list[int]] = {}
    for at, file in enumerate(files):
        by_folder.setdefault(os.path.dirname(file), []).append(at)
    made = [""] * len(files)
    for folder, places in by_folder.items():
        for at, name in zip(
            places, distinct([os.path.splitext(os.path.basename(files[at]))[0] for at in places]), strict=True
        ):
            made[at] = os.path.join(folder, name)
    return made


def _numbered(name: str, used: set[str], last: dict[str, int]) -> str:
    stem, suffix = split(name)
    number = last.get(fold(name), 1)
    while True:
        number += 1
        ending = f"-{number}{suffix}"
        candidate = _trim(_cut(stem, MOST_BYTES - len(ending.encode()))) + ending
        if fold(candidate) not in used:
            used.add(fold(candidate))
            last[fold(name)] = number
            return candidate


def _unfit(character: str) -> bool:
    if character in _FORBIDDEN:
        return True
    return unicodedata.category(character) in _HIDDEN and character not in _JOINERS


def _trim(name: str) -> str:
    """Without spaces before it, and without spaces and dots after it."""
    name = name.lstrip()
    while name and (name[-1] == "." or name[-1].isspace()):
        name = name[:-1]
    return name


def _cut(text: str, most: int) -> str:
    return text.encode()[: max(most, 0)].decode(errors="ignore") if len(text.encode()) > most else text
