"""What people say of items: labels and corrected masks, in labels.jsonl. Only ever appended to, and never by a model.

    {"item": "3f2a", "column": "label_user", "value": "nut", "author": "ada", "made": "2026-01-02T...", "act": "9b1c"}

A row a line. `label_user` holds a label, `mask_user` the sha256 of a PNG in labels/, null takes either back. What a
person did at once is one act. What stands is the last row whose act is not undone; an undo appends rows too, which say
what stands then, and name the act that it `undoes`.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import threading
import unicodedata
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

from imagier import images
from imagier.types import CollectionError, Image, ImageError, SettingError

if TYPE_CHECKING:
    from imagier.collection import Collection

_say = logging.getLogger(__name__)

LABEL: Literal["label_user"] = "label_user"
MASK: Literal["mask_user"] = "mask_user"
NAME, LOCK, MASKS = "labels.jsonl", "labels.lock", "labels"
"""In a collection's folder: the table, what is held while it is appended to, and the folder of masks."""
LONGEST = 200
"""Letters of a label, of a class, and of a person's name."""
OBJECT = "object"
"""The class of a mask that is of no other."""
PATIENCE = 30.0
"""Seconds in which another's appending must come to its end."""
UNFIT = ("Cc", "Cs", "Zl", "Zp")
"""Unicode's categories of what is no text: control characters, half characters, ends of lines."""


class Row(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """What a person said of an item."""

    item: str | None
    """None in an undo that changed no item."""
    column: Literal["label_user", "mask_user"] | None
    value: str | None
    """A label, or a mask's sha256; None: taken back."""
    author: str
    made: str
    """UTC, ISO 8601 with microseconds."""
    act: str
    undoes: str | None = None
    """The act that was undone."""
    of: str | None = None
    """A mask's class."""


@dataclass(frozen=True)
class Act:
    """What a person did at once."""

    act: str
    author: str
    made: str
    items: tuple[str, ...]
    """Those that were changed."""
    undoes: str | None = None
    left: tuple[str, ...] = ()
    """Of an undo: items that somebody has said something else of since, and that are left as they are."""


Standing = Mapping[str, Mapping[str, Row]]
"""Column -> item -> the row that says what stands. Never changed: what is new makes another."""


# ---------------------------------------------------------------- say


def assign(collection: Collection, items: Sequence[str], label: str | None, author: str) -> Act:
    """Give items a label, or take theirs back (None). One act.

    Raises SettingError for items that are not there, no items, or a text that is none: nothing is changed then.
    CollectionError where it cannot be written.
    """
    label = None if label is None else _text("a label", label)
    author = _text("an author", author)
    named = list(dict.fromkeys(items))
    if not named:
        raise SettingError("no items are named: a label is given to one or more")
    _check(collection, named)
    made = _act(author)
    with _appending(collection.folder):
        _append(collection.folder, [Row(item=item, column=LABEL, value=label, **made) for item in named])
    return Act(**made, items=tuple(named))


def correct(collection: Collection, item: str, png: bytes | None, author: str, of: str = OBJECT) -> Act:
    """Give an item the mask that a person corrected, or take it back (None).

    png: a grey PNG of 8 or 16 bits and of the item's own size: 0 is outside; inside is 255, or a number an object. It
    is decoded, and encoded anew. of: the class that it is a mask of.
    Raises SettingError for an item that is not there, ImageError for a mask that does not fit.
    """
    author, of = _text("an author", author), _text("a class", of)
    size = _size(collection, item)
    made, value, data = _act(author), None, b""
    if png is not None:
        data = images.encode(_mask(png, size, item), "png")
        value = hashlib.sha256(data).hexdigest()
    with _appending(collection.folder):
        if value is not None and not (path := mask_path(collection, value)).is_file():
            from imagier.collection import write_whole

            write_whole(path, data)
        row = Row(item=item, column=MASK, value=value, of=None if value is None or of == OBJECT else of, **made)
        _append(collection.folder, [row])
    return Act(**made, items=(item,))


def undo(collection: Collection, author: str) -> Act | None:
    """Undo the last act of this author that is not undone yet: its items are again as they were before; None: there is
    no such act. An item of which something else was said since is left as it is.
    """
    author = _text("an author", author)
    with _appending(collection.folder):
        found = collection.labels.last(author)
        if found is None:
            return None
        made = _act(author)
        undoes, befores, left = found
        rows = [Row(**{**msgspec.structs.asdict(each), **made, "undoes": undoes}) for each in befores]
        bare = Row(item=None, column=None, value=None, undoes=undoes, **made)
        _append(collection.folder, rows or [bare])
    return Act(**made, items=tuple(each.item or "" for each in rows), undoes=undoes, left=tuple(left))


# ---------------------------------------------------------------- read


def history(collection: Collection, item: str | None = None) -> list[Row]:
    """All that was said, or all of one item, the newest first."""
    rows = collection.labels.rows()
    return [row for row in reversed(rows) if item is None or row.item == item]


def current(collection: Collection) -> Standing:
    """What stands: column -> item -> row. Items that are no longer in the collection are in it too."""
    return collection.labels.standing()


def mask_path(collection: Collection, sha256: str) -> Path:
    """Where a corrected mask is kept."""
    return collection.folder / MASKS / f"{sha256}.png"


class Log:
    """labels.jsonl of a collection's folder, read as far as it is new. Serves many threads."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._lock = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._seen = (0, 0)
        """Size and time of change when the file was read last."""
        self._at, self._line = 0, b""
        """Bytes that were taken in, and the last line of them."""
        self._rows: list[Row] = []
        self._acts: dict[str, list[Row]] = {}
        self._undone: set[str] = set()
        self._stacks: dict[str, dict[str, list[Row]]] = {LABEL: {}, MASK: {}}
        """Column -> item -> rows, the newest last."""
        self._standing: Standing = {LABEL: {}, MASK: {}}

    @property
    def size(self) -> int:
        """Of the file, in bytes: it only grows."""
        return self._stat()[0]

    def standing(self) -> Standing:
        """As `current`; the same object as long as nothing is new."""
        with self._lock:
            self._take_in()
            return self._standing

    def rows(self) -> list[Row]:
        """All, the oldest first."""
        with self._lock:
            self._take_in()
            return list(self._rows)

    def last(self, author: str) -> tuple[str, list[Row], list[str]] | None:
        """An author's last act that is not undone, rows that say what stood before, and the items left as they are."""
        with self._lock:
            self._take_in()
            own = (act for act in reversed(self._acts) if self._acts[act][0].author == author)
            act = next((act for act in own if act not in self._undone), None)
            if act is None:
                return None
            befores, left = [], []
            for row in self._acts[act]:
                stack = self._stacks[row.column or ""][row.item or ""]
                if self._top(stack) is not row:
                    left.append(row.item or "")
                    continue
                before = next((each for each in reversed(stack[:-1]) if each.act not in self._undone), None)
                nothing = msgspec.structs.replace(row, value=None, of=None)
                befores.append(nothing if before is None else before)
            return act, befores, left

    def _stat(self) -> tuple[int, int]:
        try:
            now = os.stat(self.path)
        except FileNotFoundError:
            return 0, 0
        return now.st_size, now.st_mtime_ns

    def _take_in(self) -> None:
        """Read what is new. A line without an end is being written, or will be ended by who writes next."""
        now = self._stat()
        if now == self._seen:
            return
        try:
            data = self._further()
        except OSError as error:
            raise CollectionError(f"{self.path} cannot be read: {error.strerror or error}") from error
        if not data.startswith(self._line):  # what was taken in is no longer there: written in vain, on a full disk
            self._begin()
            data = self._further()
        *lines, _ = data[len(self._line) :].split(b"\n")
        self._count([row for line in lines if (row := self._row(line)) is not None])
        self._seen, self._at = now, self._at + sum(len(line) + 1 for line in lines)
        self._line = lines[-1] + b"\n" if lines else self._line

    def _further(self) -> bytes:
        """From the last line that was taken in on."""
        if not self.path.exists():
            return b""
        with self.path.open("rb") as file:
            file.seek(self._at - len(self._line))
            return file.read()

    def _row(self, line: bytes) -> Row | None:
        """A row; None: it is none, and a warning says so."""
        try:
            row = _DECODER.decode(line)
            mask = row.column == MASK and row.value is not None
            if mask and not re.fullmatch(r"[0-9a-f]{64}", row.value or ""):
                raise msgspec.ValidationError("a mask is told by its sha256")
            if (row.item is None or row.column is None) and row.undoes is None:
                raise msgspec.ValidationError("it says of what item and column it is")
        except msgspec.DecodeError as error:
            _say.warning("%s: a row is left out (%s): %.200r", self.path, error, line)
            return None
        return row

    def _count(self, fresh: Iterable[Row]) -> None:
        touched: set[tuple[str, str]] = set()
        for row in fresh:
            self._rows.append(row)
            if row.undoes in self._undone:
                continue  # the first of its rows undoes the whole act
            if row.undoes is not None:
                self._undone.add(row.undoes)
                touched |= {(each.column or "", each.item or "") for each in self._acts.get(row.undoes, ())}
            else:
                assert row.column is not None
                assert row.item is not None
                self._acts.setdefault(row.act, []).append(row)
                self._stacks[row.column].setdefault(row.item, []).append(row)
                touched.add((row.column, row.item))
        if not touched:
            return
        standing = {column: dict(rows) for column, rows in self._standing.items()}
        for column, item in touched:
            row_now = self._top(self._stacks[column][item])
            if row_now is None or row_now.value is None:
                standing[column].pop(item, None)
            else:
                standing[column][item] = row_now
        self._standing = standing

    def _top(self, stack: list[Row]) -> Row | None:
        """The last row that is not undone."""
        while stack and stack[-1].act in self._undone:
            stack.pop()
        return stack[-1] if stack else None


_DECODER = msgspec.json.Decoder(Row)


# ---------------------------------------------------------------- write


@contextmanager
def _appending(folder: Path) -> Iterator[None]:
    """Be the only one who appends. Not the collection's lock, which a run holds for long."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK, timeout=PATIENCE)
    try:
        lock.acquire()
    except Timeout:
        raise CollectionError(f"{folder / NAME} is being written by another for long: try again") from None
    except OSError as error:
        raise CollectionError(f"{folder / NAME} cannot be written: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()


def _append(folder: Path, rows: Sequence[Row]) -> None:
    """All of them, or none."""
    data = b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
    path = folder / NAME
    try:
        with path.open("ab+", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            if size and _last_byte(file.fileno(), size) != b"\n":
                data = b"\n" + data  # what a process was writing when it died stays a line of its own
            try:
                left = memoryview(data)
                while left:
                    left = left[file.write(left) :]
                os.fsync(file.fileno())
            except OSError:
                file.truncate(size)
                raise
    except OSError as error:
        raise CollectionError(f"{path} cannot be written: {error.strerror or error}. Nothing was changed.") from error


def _last_byte(file: int, size: int) -> bytes:
    os.lseek(file, size - 1, os.SEEK_SET)
    return os.read(file, 1)


def _act(author: str) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    return {"act": uuid.uuid4().hex, "author": author, "made": now}


def _text(what: str, value: str) -> str:
    """A text as it is kept. Raises SettingError."""
    text = unicodedata.normalize("NFC", value).strip()
    if not text or len(text) > LONGEST:
        raise SettingError(f"{what} has 1 to {LONGEST} letters, and this has {len(text)}")
    if any(unicodedata.category(letter) in UNFIT for letter in text):
        raise SettingError(f"{what} cannot be {text[:60]!r}: it holds control characters")
    return text


def _check(collection: Collection, items: Sequence[str]) -> None:
    """Raises SettingError for items that are not there."""
    if missing := set(items) - collection.found(items).keys():
        first = next(item for item in items if item in missing)
        more = f", nor {len(missing) - 1} more of the {len(items)}" if len(missing) > 1 else ""
        raise SettingError(f"there is no item {first[:100]!r}{more}: nothing was changed")


def _size(collection: Collection, item: str) -> tuple[int, int]:
    """Width and height of an item's pixels. Raises SettingError where it is not there."""
    if (row := collection.found([item], ["width", "height", "box"]).get(item)) is None:
        raise SettingError(f"there is no item {item[:100]!r}: nothing was changed")
    if row["box"] is None:
        return row["width"], row["height"]
    x0, y0, x1, y1 = (max(0, round(edge)) for edge in row["box"])  # as `Collection.pixels` cuts
    return x1 - x0, y1 - y0


def _mask(png: bytes, size: tuple[int, int], item: str) -> Image:
    """A mask's pixels, (h, w) uint8 or uint16. Raises ImageError."""
    try:
        header = images.header(png)
        if header.format != "PNG" or header.pages > 1:
            raise ImageError(f"a mask comes as a PNG of one picture, and this is {header.format}")
        if (header.width, header.height) != size:
            raise ImageError(
                f"it has {header.width} x {header.height} pixels, and item {item} has {size[0]} x {size[1]}"
            )
        image = images.decode(png).image
    except ImageError as error:
        raise ImageError(f"the mask: {error}") from error
    if image.ndim == 3 or image.dtype == np.float32:
        raise ImageError("the mask: it must be grey, of 8 or 16 bits: 0 outside, 255 or an object's number inside")
    return image
