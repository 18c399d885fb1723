"""How `organise` carries out a layout, finishes what was broken off, and keeps the collection told of every move."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING

from imagier._progress import bar
from imagier.types import CollectionError, ImageError, ImagierError, SettingError
from imagier.workflows import _acts
from imagier.workflows._layout import Row, real
from imagier.workflows._manifest import Act, Manifest

if TYPE_CHECKING:
    from imagier.collection import Collection
    from imagier.types import Image

_BLOCK = 64
"""So many acts are written into the manifest, and brought down to the disk, at once before they are done."""

_COARSE = 2_000_000_000
"""Nanoseconds: some file systems keep times to two seconds, and change them so when a file is moved there."""


def execute(
    collection: Collection,
    rows: Sequence[Row],
    settings: dict[str, str],
    manifest: Manifest,
    problems: list[str],
    progress: bool,
) -> int:
    """Do what is to be done; gives how many files were placed."""
    to, placed = settings["to"], 0
    # Crops first, while their files are where the collection knows them; then links, before what they lead to moves.
    todo = sorted((row for row in rows if row.action != "skip"), key=_turn)
    targets = {real(row.source): os.path.join(to, row.folder, row.name) for row in todo if row.action == "move"}
    _refuse_full(todo, to)
    shown = bar(len(todo), progress, what="organise", unit="file")
    try:
        for start in range(0, len(todo), _BLOCK):
            some = todo[start : start + _BLOCK]
            folders = {os.path.join(to, row.folder) for row in some}
            for folder in sorted(folders):
                _make_folder(folder, to, manifest)
            acts = [manifest.begin(_act(row, to, manifest.next, targets)) for row in some]
            manifest.sync()
            pixels = collection.reader([row.id for row in some if row.action == "crop"])
            for act, row in zip(acts, some, strict=True):
                with explained(act, manifest.path):
                    reason = _place(act, partial(_crop, pixels, row), manifest)
                if reason:
                    problems.append(f"{row.source} {reason}")
                placed += not reason
                shown.update()
            for folder in folders:
                _acts.sync_folder(folder)
    finally:
        shown.close()
    return placed


def settle(act: Act, manifest: Manifest) -> None:
    """Find out what became of an act whose end nobody wrote down: it was done, or is made never to have been.

    An act whose end is known is left alone.
    """
    if act.state == "undoing":
        take_back(act, manifest)
    elif act.state == "open":
        _acts.discard(act)
        if _acts.came_about(act):
            manifest.note(act, state="done", **_acts.written(act))
        else:
            _acts.take_back(act, partial(manifest.note, act))
            manifest.note(act, state="failed")


def take_back(act: Act, manifest: Manifest) -> str | None:
    """Undo an act and write down what became of it; the reason where something has to stay."""
    if act.action == "move":
        _acts.discard(act)
        manifest.note(act, state="undoing", temp=_temp(act.source))
    reason = _acts.take_back(act, partial(manifest.note, act))
    if reason is None:
        manifest.note(act, state="undone")
    elif act.action in ("move", "mkdir"):
        manifest.note(act, state="done")
    else:
        manifest.note(act, state="left")
    return reason


def relocate(collection: Collection, manifest: Manifest) -> None:
    """Tell the collection where the files are that were moved or put back, however often, and not told of yet."""
    ways: dict[str, list[str]] = {}
    for act in reversed(manifest.acts.values()):
        if act.action == "move" and act.state != "failed":
            ways.setdefault(act.source, []).append(act.destination)
            ways.setdefault(act.destination, []).append(act.source)
    if not ways:
        return
    moved: dict[str, str] = {}
    files = collection.files().select(["path", "size", "mtime_ns"])
    for path, size, mtime_ns in zip(*(column.to_pylist() for column in files.columns), strict=True):
        if path in ways and not os.path.lexists(path) and (found := _find(path, ways, size, mtime_ns)):
            moved[path] = found
    if moved:
        collection.relocate(moved)


@contextmanager
def explained(act: Act, manifest: Path) -> Iterator[None]:
    """Turn what the system says into what a person can do about it."""
    try:
        yield
    except OSError as error:
        where, said = error.filename or act.destination, error.strerror or str(error)
        after = f"What was done until now is in {manifest}: go on with --apply, or take it back with --undo."
        number = error.errno
        if act.action in ("hardlink", "symlink") and number in (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK):
            reason = "lie on different file systems" if number == errno.EXDEV else f"cannot be joined: {said}"
            message = f"{act.source} and {act.destination} {reason}. Use --how copy. {after}"
        elif number in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
            message = f"the disk is full: {act.destination} cannot be written. Free some space. {after}"
        elif number in (errno.EACCES, errno.EPERM, errno.EROFS):
            message = f"{where} cannot be written: {said}. Ask for the right to, or choose another folder. {after}"
        else:
            message = f"{act.action} of {act.source or act.destination} failed at {where}: {said}. {after}"
        raise ImagierError(message) from error


def _turn(row: Row) -> int:
    return 0 if row.action == "crop" else 1 if os.path.islink(row.source) else 2


def _act(row: Row, to: str, number: int, targets: dict[str, str]) -> Act:
    destination = os.path.join(to, row.folder, row.name)
    act = Act(number, row.action, destination, row.source, row.id, to)
    if row.action == "symlink":
        act.target = row.source
    elif row.action == "move" and os.path.islink(row.source):
        end = os.path.realpath(row.source)
        act.link, act.target = os.readlink(row.source), targets.get(end, end)
        act.link_mtime_ns = os.lstat(row.source).st_mtime_ns
    else:
        act.temp = _temp(destination)
        if row.action != "crop":
            act.size, act.sha256 = row.size, row.file
    return act


def _temp(path: str) -> str:
    """A hidden file beside `path`, which no run takes for an image."""
    return os.path.join(os.path.dirname(path), f".imagier-{token_hex(6)}.part")


def _place(act: Act, crop: Callable[[], bytes], manifest: Manifest) -> str | None:
    """Do an act and write down what became of it; the reason where it cannot be done."""
    try:
        _acts.perform(act, crop() if act.action == "crop" else None, partial(manifest.note, act))
    except (_acts.Unplaced, ImageError, CollectionError) as error:
        manifest.note(act, state="failed")
        return str(error)
    manifest.note(act, state="done", **_acts.written(act))
    return None


def _crop(pixels: Callable[[str], Image], row: Row) -> bytes:
    from imagier import images

    return images.encode(pixels(row.id), "tiff" if row.depth == "float32" else "png")


def _make_folder(folder: str, to: str, manifest: Manifest) -> None:
    missing = []
    while not os.path.isdir(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    for each in reversed(missing):
        act = manifest.begin(Act(manifest.next, "mkdir", each, to=to))
        with explained(act, manifest.path):
            reason = _place(act, bytes, manifest)
        if reason:
            raise SettingError(f"{each} should be a folder, but something is in the way: choose another with --to")


def _refuse_full(todo: Iterable[Row], to: str) -> None:
    """Say before the first copy that not all of them will fit."""
    needed = sum(row.size for row in todo if row.action == "copy")
    folder = to
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ImagierError(
            f"the copies need {needed / 1e9:.2f} GB, but {to} has {free / 1e9:.2f} GB left. Nothing was done. Free "
            "some, choose another folder with --to, or --how hardlink."
        )


def _find(path: str, ways: dict[str, list[str]], size: int, mtime_ns: int) -> str | None:
    """Where a file went that is no longer at `path`: over all moves from there, the nearest place that holds it."""
    seen, waiting = {path}, [path]
    for here in waiting:
        for there in ways.get(here, []):
            if there in seen:
                continue
            seen.add(there)
            waiting.append(there)
            if os.path.islink(there):
                return there
            if os.path.exists(there):
                now = os.stat(there)
                if now.st_size == size and abs(now.st_mtime_ns - mtime_ns) <= _COARSE:
                    return there
    return None
