"""Folders, files and globs in, the list of image files out. Nothing is opened here."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from stat import S_ISREG

from imagier.images import SUFFIXES
from imagier.types import SourceError


@dataclass(frozen=True)
class Found:
    """A file that a source leads to."""

    path: str
    """Absolute."""
    source: str
    """The folder, file or glob that led here, absolute."""
    name: str
    """Path relative to the source's root, with forward slashes."""
    size: int = -1
    mtime_ns: int = -1
    problem: str | None = None
    """Why it cannot be read, where that is known without opening it: a dangling link, a directory named as an image."""


@dataclass(frozen=True)
class Scan:
    """What all sources lead to, each path once, sorted."""

    files: tuple[Found, ...]
    skipped: int
    """Files in the folders that do not bear an image's suffix."""
    unread: tuple[str, ...]
    """Folders below a source that could not be read: nothing is known of what is in them."""


def scan(sources: Sequence[str | os.PathLike[str]], *, beside: Path | None = None) -> Scan:
    """Find the images of folders, files and globs.

    Folders are walked whole, links to folders followed (each real folder once), hidden files and folders and every
    collection's folder (`beside`, and any other) left out. A file that is named itself is taken whatever its suffix.
    Raises SourceError for a source that is not there or cannot be read.
    """
    found: dict[str, Found] = {}
    skipped = 0
    unread: list[str] = []
    for source in map(check, sources):
        for each in _of_source(source, beside):
            if each is None:
                skipped += 1
            else:
                if each.problem is not None and each.problem.startswith(UNREADABLE):
                    unread.append(each.path)
                found.setdefault(each.path, each)
    return Scan(tuple(_stat(found[path]) for path in sorted(found)), skipped, tuple(unread))


UNREADABLE = "folder cannot be read"


def check(source: str | os.PathLike[str]) -> str:
    """A source's absolute form. Raises SourceError when nothing is there."""
    if not os.fspath(source):
        raise SourceError("an empty name is no source. Name a folder, a file or a glob such as 'photos/*.jpg'.")
    path = os.path.abspath(source)
    try:
        path.encode()
    except UnicodeEncodeError:
        raise SourceError(f"the name {source!r} is not valid Unicode. Rename it, or name the folder above.") from None
    if not os.path.lexists(path) and not _is_glob(path):
        raise SourceError(f"{source} is not there. Name a folder, a file or a glob such as 'photos/*.jpg'.")
    if not os.path.lexists(path) and next(glob.iglob(_pattern(path), recursive=True), None) is None:
        raise SourceError(f"{source} matches nothing. Quote the glob, and try it with ls.")
    if os.path.isdir(path):
        if _is_collection(path):
            raise SourceError(f"{source} is a collection. Name the images that it was made from, or another folder.")
        try:
            with os.scandir(path):
                pass
        except OSError as error:
            raise SourceError(f"{source} cannot be read: {error.strerror}. Nothing was changed.") from error
    return path


def root(source: str) -> str:
    """The folder that names are relative to: a folder itself, a file's folder, what stands before a glob's pattern."""
    if os.path.lexists(source):
        return source if os.path.isdir(source) else os.path.dirname(source)
    head = os.path.dirname(source)
    while not os.path.isdir(head):
        head = os.path.dirname(head)
    return head


def _pattern(source: str) -> str:
    """A glob whose own folder is taken to the letter, whatever brackets are in its name."""
    base = root(source)
    return os.path.join(glob.escape(base), os.path.relpath(source, base))


def reaches(source: str, path: str, *, beside: Path) -> bool:
    """Whether a scan of `source` would have come by `path`, if it were there."""
    head = os.path.join(root(source), "")
    return path.startswith(head) and not path.startswith(os.path.join(beside, ""))


def look(path: str, source: str, name: str) -> Found:
    """A file where it is known to lie, with its size and time."""
    return _stat(Found(path, source, name))


def _is_glob(path: str) -> bool:
    return any(mark in path for mark in "*?[")


def _of_source(source: str, beside: Path | None) -> Iterator[Found | None]:
    base = root(source)
    if os.path.isdir(source):
        yield from _walk(source, base, source, beside, set())
    elif os.path.lexists(source):
        yield _found(source, source, base)
    else:
        seen: set[str] = set()
        # The shortest way to a file first: round a circle of links, each further one leads to what was seen.
        for path in sorted(glob.iglob(_pattern(source), recursive=True), key=lambda path: (len(path), path)):
            real = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
            if real in seen or _in_collection(os.path.dirname(path), base, beside):
                continue
            if os.path.isdir(path):
                yield from _walk(path, base, source, beside, seen)
                continue
            seen.add(real)
            yield _found(path, source, base) if _is_image(path) else None


def _walk(folder: str, base: str, source: str, beside: Path | None, seen: set[str]) -> Iterator[Found | None]:
    real = os.path.realpath(folder)
    if real in seen or _is_collection(folder) or (beside and real == os.path.realpath(beside)):
        return
    seen.add(real)
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        yield Found(folder, source, _name(folder, base), problem=f"{UNREADABLE}: {error.strerror}")
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if _is_folder(entry):
            inside = False
            for each in _walk(entry.path, base, source, beside, seen):
                inside = inside or each is not None
                yield each
            if not inside and _is_image(entry.path):
                yield Found(entry.path, source, _name(entry.path, base), problem="is a directory, not a file")
        elif _is_image(entry.path):
            yield _found(entry.path, source, base)
        else:
            yield None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself: no folder, and `_stat` says what it is
        return False


def _in_collection(folder: str, base: str, beside: Path | None) -> bool:
    """Whether a folder below `base` is, or is in, a collection's."""
    while len(folder) > len(base):
        if _is_collection(folder) or (beside and os.path.realpath(folder) == os.path.realpath(beside)):
            return True
        folder = os.path.dirname(folder)
    return False


def _is_collection(folder: str) -> bool:
    return os.path.isfile(os.path.join(folder, "collection.json")) and os.path.isdir(os.path.join(folder, "receipts"))


def _is_image(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in SUFFIXES


def _name(path: str, base: str) -> str:
    return Path(os.path.relpath(path, base)).as_posix()


def _found(path: str, source: str, base: str) -> Found:
    return Found(path, source, _name(path, base))


def _stat(found: Found) -> Found:
    if found.problem is not None:
        return _speakable(found)
    try:
        stat = os.stat(found.path)
        if not S_ISREG(stat.st_mode):
            return _speakable(replace(found, problem="is no plain file"))
    except FileNotFoundError:
        link = os.path.islink(found.path)
        return _speakable(replace(found, problem="a link to a file that is not there" if link else "vanished"))
    except OSError as error:
        return _speakable(replace(found, problem=f"cannot be read: {error.strerror}"))
    return _speakable(replace(found, size=stat.st_size, mtime_ns=stat.st_mtime_ns))


def _speakable(found: Found) -> Found:
    """A file whose name is no Unicode cannot be written into a table: it is refused under its escaped name."""
    try:
        found.path.encode()
        return found
    except UnicodeEncodeError:
        path, name = (text.encode("utf-8", "backslashreplace").decode() for text in (found.path, found.name))
        return replace(found, path=path, name=name, problem="its name is not valid Unicode; rename it")
