"""What `organise` does to the disk, one file at a time: placed whole or not at all, never over something else.

New content is gathered in a hidden file beside its destination and given its name only when it is whole and on the
disk. Names are given by a hard link, which fails where something stands; a rename would silently replace it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from imagier.workflows._manifest import Act

Note = Callable[..., None]
"""Writes into the manifest what became of the act in hand."""

_CHUNK = 1 << 20
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL}
"""What file systems say that know no hard links, or allow none to this file."""
_LINKS_BEAR_TIMES = os.utime in os.supports_follow_symlinks  # not on Windows


class Unplaced(Exception):
    """Why one file is not placed; the others still can be."""


def perform(act: Act, data: bytes | None, note: Note) -> None:
    """Do one act. `data` is the content of a crop.

    Raises Unplaced for what is wrong with this file alone, OSError for what is wrong with the disk or the folder.
    """
    try:
        match act.action:
            case "mkdir":
                os.mkdir(act.destination)
            case "copy":
                _copy(act, note)
            case "crop":
                _crop(act, data or b"", note)
            case "hardlink":
                os.link(os.path.realpath(act.source), act.destination)
            case "symlink":
                os.symlink(act.target, act.destination)
            case "move" if act.link:
                _move_link(act.source, act.destination, act.target, act.link_mtime_ns)
            case "move":
                _move(act.source, act.destination, act.temp, note)
    except FileExistsError as error:
        discard(act)
        raise Unplaced("something else came to stand at its destination meanwhile; apply again") from error
    except FileNotFoundError as error:
        discard(act)
        if act.source and not os.path.lexists(act.source):
            raise Unplaced("has gone meanwhile") from error
        raise
    except (Unplaced, OSError):
        discard(act)
        raise


def written(act: Act) -> dict[str, Any]:
    """What a done act left at its destination, to know it again by."""
    if act.action == "mkdir":
        return {}
    there = os.lstat(act.destination)
    return {"mtime_ns": there.st_mtime_ns, "size": there.st_size}


def came_about(act: Act) -> bool:
    """Whether an act that was begun, and whose end nobody wrote down, was done: looks, and changes nothing."""
    if not os.path.lexists(act.destination):
        return False
    if act.action == "mkdir":
        return True
    if act.action == "move":
        return not os.path.lexists(act.source)
    return _is_what_was_written(act)


def intact(act: Act) -> bool:
    """Whether what a done act placed still stands there, by its size and time (or its target): quick, reads nothing."""
    try:
        there = os.lstat(act.destination)
    except OSError:
        return False
    if act.action == "symlink":
        return stat.S_ISLNK(there.st_mode) and os.readlink(act.destination) == act.target
    return stat.S_ISREG(there.st_mode) and (there.st_size, there.st_mtime_ns) == (act.size, act.mtime_ns)


def take_back(act: Act, note: Note) -> str | None:
    """Undo one act, wherever it, or its undoing, was broken off. Gives the reason where something has to stay.

    Raises OSError for what is wrong with the disk or the folder.
    """
    discard(act)
    if act.action == "mkdir":
        return _remove_folder(act.destination)
    if act.action == "move":
        return _put_back(act, note)
    if not os.path.lexists(act.destination):
        return None
    if not _is_what_was_written(act):
        return "has been changed since; it stays"
    if act.action in ("copy", "hardlink") and not os.path.exists(act.source):
        return f"{act.source}, which it was made from, is gone; it stays, as the only one"
    os.unlink(act.destination)
    return None


def discard(act: Act) -> None:
    """Remove what an act that did not come to its end has left beside or at its destination."""
    if act.temp:
        Path(act.temp).unlink(missing_ok=True)
    if act.placeholder:
        try:
            empty = os.lstat(act.placeholder).st_size == 0
        except FileNotFoundError:
            return
        if empty:  # no image is empty: it is the placeholder itself
            os.unlink(act.placeholder)


def content_hash(path: str) -> str:
    """sha256 of a file's content, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: str) -> None:
    """Have the disk itself hold the names in a folder. Windows does so by itself and knows no such call."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


# ---------------------------------------------------------------- doing


def _copy(act: Act, note: Note) -> None:
    if _duplicate(act.source, act.temp) != act.sha256:
        raise Unplaced("its content has changed since it was read; run imagier again")
    _name(act.temp, act.destination, note)


def _crop(act: Act, data: bytes, note: Note) -> None:
    with open(act.temp, "xb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    note(sha256=hashlib.sha256(data).hexdigest(), size=len(data))
    _name(act.temp, act.destination, note)


def _move(here: str, there: str, temp: str, note: Note) -> None:
    try:
        _name(here, there, note)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    else:
        return
    content = _duplicate(here, temp)
    if content_hash(temp) != content:
        raise OSError(errno.EIO, "what was written there reads back differently", there)
    _name(temp, there, note)
    sync_folder(os.path.dirname(there))  # or a power cut could take the new name after the old one is gone
    _drop(here, there)


def _move_link(here: str, there: str, text: str, mtime_ns: int) -> None:
    """Made anew, with its time: not every system hard-links a link. The text that it had is in the manifest."""
    os.symlink(text, there)
    _set_time_of_link(there, mtime_ns)
    _drop(here, there)


def _set_time_of_link(path: str, mtime_ns: int) -> None:
    if _LINKS_BEAR_TIMES:
        os.utime(path, ns=(mtime_ns, mtime_ns), follow_symlinks=False)


def _duplicate(source: str, temp: str) -> str:
    """Copy content, mode and times into a new file, down to the disk; gives the sha256 of what was read."""
    digest = hashlib.sha256()
    try:
        file = open(source, "rb")  # noqa: SIM115 - a failure to read is told apart from one to write
    except OSError as error:
        raise Unplaced(f"cannot be read: {error.strerror}") from error
    with file, open(temp, "xb") as out:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            out.write(chunk)
        out.flush()
        os.fsync(out.fileno())
    shutil.copystat(source, temp)
    return digest.hexdigest()


def _name(here: str, there: str, note: Note) -> None:
    """Rename on one file system, without ever replacing what stands at `there` (FileExistsError)."""
    try:
        os.link(here, there)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
    else:
        _drop(here, there)
        return
    note(placeholder=there)
    try:
        os.close(os.open(there, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        note(placeholder="")
        raise
    try:
        os.replace(here, there)
    except OSError:
        os.unlink(there)
        raise


def _drop(here: str, there: str) -> None:
    """Remove the old name; where that fails, the new one, so that the file has one name as before."""
    try:
        os.unlink(here)
    except OSError:
        os.unlink(there)
        raise


# ---------------------------------------------------------------- undoing


def _is_what_was_written(act: Act) -> bool:
    there = os.lstat(act.destination)
    if act.action == "symlink":
        return stat.S_ISLNK(there.st_mode) and os.readlink(act.destination) == act.target
    if not stat.S_ISREG(there.st_mode):
        return False
    if act.action == "hardlink" and _two_names(act.source, act.destination):
        return True
    return there.st_size == act.size and content_hash(act.destination) == act.sha256


def _remove_folder(folder: str) -> str | None:
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EBUSY):
            return "is not empty"
        raise
    return None


def _put_back(act: Act, note: Note) -> str | None:
    new, old = act.destination, act.source
    if not os.path.lexists(new):
        return None if os.path.lexists(old) else f"is gone; it cannot be put back to {old}"
    if os.path.lexists(old):
        if not _same(old, new, act):
            return f"stays: something else now stands at {old}, where it came from"
        if act.link:
            _set_time_of_link(old, act.link_mtime_ns)
        os.unlink(new)  # the move or its undoing was broken off between the two names
        return None
    os.makedirs(os.path.dirname(old), exist_ok=True)
    if act.link:
        if not os.path.islink(new) or os.readlink(new) != act.target:
            return "has been changed since; it stays"
        _move_link(new, old, act.link, act.link_mtime_ns)
    else:
        _move(new, old, act.temp, note)
    return None


def _same(old: str, new: str, act: Act) -> bool:
    if act.link:
        return (
            os.path.islink(old)
            and os.readlink(old) == act.link
            and os.path.islink(new)
            and os.readlink(new) == act.target
        )
    if os.path.islink(old) or os.path.islink(new):
        return False
    if os.path.samefile(old, new):
        return _two_names(old, new)
    return os.path.getsize(old) == os.path.getsize(new) and content_hash(old) == content_hash(new)


def _two_names(one: str, other: str) -> bool:
    """Whether both are names of one file, so that it survives the loss of either: not one name seen by two ways."""
    return os.path.exists(one) and os.path.samefile(one, other) and os.stat(one).st_nlink > 1
