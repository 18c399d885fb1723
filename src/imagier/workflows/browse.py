"""browse: pages of a collection's items, filtered and sorted, and the pictures of each.

What is light (no vectors, no pictures) is held in memory until the collection changes, so that a page of a hundred
thousand items takes milliseconds; pictures are read by their row. What people say of items is laid over it anew
whenever they say more.
"""

from __future__ import annotations

import logging
import math
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from imagier import images, labels
from imagier.collection import BY_PEOPLE, DERIVED, Collection, content_of
from imagier.types import CollectionError, ImagierError, SettingError, nearest

_say = logging.getLogger(__name__)

MOST = 1000
"""Items of a page."""
LONGEST = 500
"""Letters of a condition."""
SIDE = 4096
"""Pixels of the longer side of a picture, at most."""
HIDDEN = ("path", "paths")
"""Where files lie is nobody's business who only looks: `name` says which they are."""
FRESH = 1.0
"""Seconds for which nobody looks whether the collection has changed."""
CONDITION = re.compile(r"\s*([^\s=!<>~]+)\s*(!=|<=|>=|=|<|>|~)(.*)", re.DOTALL)
COMPARE = {"<": pc.less, "<=": pc.less_equal, ">": pc.greater, ">=": pc.greater_equal}
TRUE, FALSE = ("true", "yes"), ("false", "no")


class NoSuchItem(CollectionError):
    """An item, or a picture of one, that is not there."""


@dataclass(frozen=True)
class Page:
    """Some of the items that fit."""

    items: pa.Table
    total: int
    """How many fit."""

    def rows(self) -> list[dict[str, Any]]:
        """JSON values: what is no number is null."""
        return [{name: plain(value) for name, value in row.items()} for row in self.items.to_pylist()]


@dataclass(frozen=True)
class _Snapshot:
    """The collection at one moment."""

    version: str
    table: pa.Table
    """What is light of every item, sorted by id."""
    rows: dict[str, int]
    """Id -> row of the table."""
    dataset: Any
    """Lance's, of that moment; None of a collection without items."""
    places: np.ndarray
    """(n,) int64: row of the table -> row of the dataset."""


class Browser:
    """A collection to look through. Serves many threads."""

    def __init__(self, collection: Collection) -> None:
        self.collection = collection
        self._lock = threading.Lock()
        self._held: _Snapshot | None = None
        self._laid: tuple[_Snapshot, labels.Standing, _Snapshot] | None = None
        """A snapshot, what people said, and both as one."""
        self._looked = -math.inf
        self._renewing = False

    def warm(self) -> None:
        """Take in what is light now, so that the first page need not wait for it. Raises CollectionError."""
        self._now()

    def light(self) -> pa.Table:
        """All items with what pages can show of them, sorted by id."""
        return _offered(self._now().table)

    def columns(self) -> dict[str, str]:
        """What pages can show, be filtered and be sorted by: name -> text, number, boolean or list."""
        return {field.name: kind_of(field.type) for field in _offered(self._now().table).schema}

    def page(
        self,
        *,
        where: Sequence[str] = (),
        sort: str = "",
        limit: int = 60,
        offset: int = 0,
        columns: Sequence[str] | None = None,
    ) -> Page:
        r"""The items from `offset` on that fit all conditions.

        where: each COLUMN OP VALUE with one of = != < <= > >= or ~ (the text holds this, large or small letters). Of =
        and != the value may be several with | between (\| is a | itself), and nothing is null.
        sort: columns with commas between, each with a - before it for the largest first; null is last. Then by id.
        columns: which to give; all that are light unless given.

        Raises SettingError for a column that is not there or does not fit, and for numbers out of range.
        """
        if not 0 <= limit <= MOST:
            raise SettingError(f"limit cannot be {limit}: it takes 0 to {MOST}")
        if offset < 0:
            raise SettingError(f"offset cannot be {offset}: it counts from 0")
        table = _offered(self._now().table)
        given = list(table.column_names if columns is None else columns)
        for name in given:
            _known(table, name)
        fits = fitting(table, where)
        rows = np.flatnonzero(fits)
        order = _order(table, sort)
        if order is not None:
            rows = order[fits[order]]
        some = table.select(given).take(pa.array(rows[offset : offset + limit]))
        return Page(some, len(rows))

    def item(self, item: str) -> dict[str, Any]:
        """All that is light of an item. Raises NoSuchItem."""
        now = self._now()
        return Page(_offered(now.table).slice(_row(now, item), 1), 1).rows()[0]

    def thumbnail(self, item: str) -> bytes:
        """Its thumbnail, a JPEG. Raises NoSuchItem."""
        return self._binary(item, "thumbnail")

    def mask(self, item: str, column: str) -> bytes:
        """A mask or label image of it, by the column that holds it: a PNG. Raises NoSuchItem, SettingError."""
        if column == labels.MASK:
            now = self._now()
            return self._corrected(now.table[column][_row(now, item)].as_py(), item)
        masks = self.masks()
        if column not in masks:
            raise SettingError(nearest("mask", column, [*masks, labels.MASK]))
        return self._binary(item, column)

    def masks(self) -> list[str]:
        """The columns in which steps kept masks and label images."""
        dataset = self._now().dataset
        schema = dataset.schema if dataset is not None else pa.schema([])
        binary = [each.name for each in schema if pa.types.is_binary(each.type)]
        return [name for name in binary if name != "thumbnail" and "~" not in name]

    def _corrected(self, sha256: str | None, item: str) -> bytes:
        if sha256 is None:
            raise NoSuchItem(f"item {item} has no {labels.MASK}")
        path = labels.mask_path(self.collection, sha256)
        if path.is_symlink():  # which may lead to what is nobody's business
            raise CollectionError(f"the mask of item {item} cannot be read: it is no plain file")
        try:
            return path.read_bytes()
        except OSError as error:
            raise CollectionError(f"the mask of item {item} cannot be read: {error.strerror}") from error

    def picture(self, item: str, side: int = 1024) -> bytes:
        """The item itself, cut out where it is a region, as a JPEG of 8 bits; at most so many pixels a side.

        Raises NoSuchItem, SettingError, and CollectionError where its file is gone or has changed.
        """
        check_side(side)
        found = self.pixels(item)
        image = images.to_uint8(found.image, found.black, found.white)
        return images.encode(images.thumbnail(image, side), "jpeg", quality=90)

    def pixels(self, item: str) -> images.Decoded:
        """Its pixels, of full size and depth, cut out where it is a region; black and white are those of its page.

        Raises NoSuchItem, and CollectionError where its file is gone or has changed.
        """
        now = self._now()
        row = now.table.slice(_row(now, item), 1).to_pylist()[0]
        try:
            # A device or a pipe that lies there now would be read for ever.
            content = content_of({**row, "paths": [path for path in row["paths"] if Path(path).is_file()]})
        except CollectionError as error:  # which tells of the paths where it was
            raise CollectionError(f"the file of item {item} is gone or has changed: run again") from error
        found = images.decode(content, page=row["page"])
        if row["box"] is None:
            return found
        x0, y0, x1, y1 = (round(edge) for edge in row["box"])
        image = found.image[max(y0, 0) : y1, max(x0, 0) : x1]
        return replace(found, image=image, width=image.shape[1], height=image.shape[0])

    def _binary(self, item: str, column: str) -> bytes:
        now = self._now()
        try:
            data = _taken_at(now, item, column)
        except OSError:  # a run has tidied away what this moment was made of
            try:
                data = _taken_at(self._now(anew=True), item, column)
            except OSError as error:
                raise CollectionError(f"item {item} cannot be read now: the collection is being changed") from error
        if data is None:
            raise NoSuchItem(f"item {item} has no {column}")
        return data

    def _now(self, *, anew: bool = False) -> _Snapshot:
        """The tables as they were lately, and what people say now."""
        held, said = self._tables(anew), labels.current(self.collection)
        with self._lock:
            laid = self._laid
        if laid is None or laid[0] is not held or laid[1] is not said:
            laid = held, said, replace(held, table=self.collection.derive(held.table, BY_PEOPLE).combine_chunks())
            with self._lock:
                self._laid = laid
        return laid[2]

    def _tables(self, anew: bool) -> _Snapshot:
        """As they were lately; where they have changed, a thread takes them in while this one is served."""
        with self._lock:
            if self._held is None or anew:
                self._held = _taken(self.collection)
            elif not self._renewing and time.monotonic() - self._looked > FRESH:
                self._looked = time.monotonic()
                if self._held.version != self.collection.tables:
                    self._renewing = True
                    threading.Thread(target=self._renew, name="browse", daemon=True).start()
            return self._held

    def _renew(self) -> None:
        made = None
        try:
            made = _taken(self.collection)
        except (ImagierError, OSError, ValueError) as error:  # what was there is shown on, and looked for again
            _say.warning("the collection cannot be taken in anew: %s", error)
        finally:
            with self._lock:
                self._held, self._renewing = made or self._held, False


def check_side(side: int) -> None:
    """Raises SettingError for a picture's longer side that cannot be."""
    if not 1 <= side <= SIDE:
        raise SettingError(f"side cannot be {side}: it takes 1 to {SIDE} pixels")


def _offered(table: pa.Table) -> pa.Table:
    """What is light, less where files lie on this machine."""
    return table.select([name for name in table.column_names if name not in HIDDEN])


def _taken_at(now: _Snapshot, item: str, column: str) -> bytes | None:
    place = int(now.places[_row(now, item)])
    data: bytes | None = now.dataset.take([place], columns=[column])[column][0].as_py()
    return data


def _taken(collection: Collection) -> _Snapshot:
    version = collection.tables
    own = [name for name in DERIVED.names if name not in BY_PEOPLE]
    dataset = collection.table(collection.state.items)
    if dataset is None:
        light = [name for name in collection.columns if name not in BY_PEOPLE]
        return _Snapshot(version, collection.read(light), {}, None, np.zeros(0, np.int64))
    names = [each.name for each in dataset.schema if _is_light(each) and "~" not in each.name]  # ~: being replaced
    table = dataset.to_table(columns=names)
    places = pc.sort_indices(table["id"])
    table = collection.derive(table.take(places), own).combine_chunks()
    rows = {item: at for at, item in enumerate(table["id"].to_pylist())}
    return _Snapshot(version, table, rows, dataset, places.to_numpy().astype(np.int64))


def _is_light(field: pa.Field) -> bool:
    vector = pa.types.is_fixed_size_list(field.type) and field.name != "box"
    return not (vector or pa.types.is_binary(field.type) or field.name in ("contour", "phash"))


def _row(now: _Snapshot, item: str) -> int:
    if item not in now.rows:
        raise NoSuchItem(f"there is no item {item[:100]!r}")
    return now.rows[item]


def _known(table: pa.Table, name: str) -> pa.DataType:
    if name not in table.column_names:
        raise SettingError(nearest("column", name, table.column_names))
    return table.schema.field(name).type


def kind_of(kind: pa.DataType) -> str:
    """What a column holds, for a person: text, number, boolean or list."""
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return "number"
    return "text" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else "list"


def fitting(table: pa.Table, where: Sequence[str]) -> np.ndarray:
    """Which rows fit all conditions, (n,) bool: see `Browser.page`. Raises SettingError."""
    fits = np.ones(table.num_rows, bool)
    for each in where:
        fits &= _fitting(table, each)
    return fits


def _fitting(table: pa.Table, condition: str) -> np.ndarray:
    """Which rows fit one condition, (n,) bool."""
    parts = CONDITION.fullmatch(condition) if len(condition) <= LONGEST else None
    if parts is None:
        raise SettingError(
            f"where cannot be {condition[:60]!r}: it is a column, one of = != < <= > >= ~, and a value, such as "
            f"verdict=bad, in at most {LONGEST} letters"
        )
    name, sign, value = parts[1], parts[2], parts[3].strip()
    kind = kind_of(_known(table, name))
    column = table[name]
    if kind == "list":
        raise SettingError(f"where cannot go by {name!r}, which holds several values")
    if kind == "number":
        column = column.cast(pa.float64(), safe=False)
    single = pa.types.is_float32(table.schema.field(name).type)
    if sign == "~":
        if kind != "text":
            raise SettingError(f"{name}~ cannot be: {name} holds no text")
        fits = pc.match_substring(column, value, ignore_case=True)
    elif sign in COMPARE:
        fits = COMPARE[sign](column, _value(name, kind, value, single))
    else:
        among = [_value(name, kind, each.strip(), single) for each in _several(value)]
        fits = pc.is_in(column, pa.array(among, column.type)) if among else pc.is_null(table[name])
        if sign == "!=":
            fits = pc.invert(fits)
    made: np.ndarray = pc.fill_null(fits, False).to_numpy(zero_copy_only=False)
    return made


def _several(text: str) -> list[str]:
    r"""Values with | between; \| is a | of the value itself."""
    return [each.replace(r"\|", "|").strip() for each in re.split(r"(?<!\\)\|", text)] if text else []


def _value(name: str, kind: str, text: str, single: bool) -> Any:
    """What a column is compared with. single: its numbers are float32, and so the nearest of those is meant."""
    if kind == "text":
        return text
    if kind == "boolean" and text.lower() in TRUE + FALSE:
        return text.lower() in TRUE
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if kind == "boolean" or math.isnan(number):
        raise SettingError(f"{name} cannot be {text[:60]!r}: it is a {kind}")
    with np.errstate(over="ignore"):
        return float(np.float32(number)) if single else number


def _order(table: pa.Table, sort: str) -> np.ndarray | None:
    """The rows in an order; None: as they are."""
    keys = []
    for each in sort.split(",") if sort else []:
        name = each.strip().removeprefix("-")
        if kind_of(_known(table, name)) == "list":
            raise SettingError(f"sort cannot go by {name!r}, which holds several values")
        keys.append((name, "descending" if each.strip().startswith("-") else "ascending"))
    if not keys:
        return None
    made: np.ndarray = pc.sort_indices(table, sort_keys=[*keys, ("id", "ascending")]).to_numpy()  # null at the end
    return made.astype(np.int64)


def plain(value: Any) -> Any:
    """A JSON value: numbers with as many digits as float32 has, null for what is none."""
    if isinstance(value, float):
        return float(np.format_float_positional(np.float32(value), trim="0")) if math.isfinite(value) else None
    return [plain(each) for each in value] if isinstance(value, list) else value
