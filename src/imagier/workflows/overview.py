"""overview: what all items of a collection have in a column, at once: for filters, maps and colours."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from imagier.collection import Collection, Receipt
from imagier.types import SettingError, nearest
from imagier.workflows.browse import Browser, NoSuchItem, fitting, kind_of, plain

MOST_VALUES = 200
"""Of a column that are told with their counts, the most frequent."""
BINS = 24
"""Of a column of numbers."""
MOST_POINTS = 100_000
"""Of a map."""
MOST_AXES = 3
CELLS = 48
"""Into so many parts an axis is cut to see where points lie thick."""
MOST_SOME = 1000
"""Items that can be named at once."""


@dataclass(frozen=True)
class Spread:
    """How the values of a column lie among the items that fit."""

    kind: str
    """text, number or boolean."""
    items: int
    """How many have a value."""
    without: int
    """How many have none."""
    distinct: int
    values: tuple[tuple[Any, int], ...]
    """Each value with its count, the most frequent first, where there are not too many."""
    low: float | None = None
    high: float | None = None
    """Of numbers: the least and the greatest."""
    bins: tuple[int, ...] = ()
    """Of numbers: how many lie in each of as many equal parts from low to high."""


def known(browser: Browser, names: Sequence[str]) -> None:
    """Raises SettingError for a name that is no column which pages may show: where files lie is none."""
    there = browser.light().column_names
    for name in names:
        if name not in there:
            raise SettingError(nearest("column", name, there))


def receipts(collection: Collection) -> list[Receipt]:
    """What was done, files and models among the settings by their names alone."""

    def told(value: Any) -> Any:
        if isinstance(value, list):
            return [told(each) for each in value]
        return Path(value).name if isinstance(value, str) and os.path.isabs(value) else value

    made = collection.receipts().values()
    return [replace(each, settings={name: told(value) for name, value in each.settings.items()}) for each in made]


def spread(browser: Browser, column: str, where: Sequence[str] = ()) -> Spread:
    """How a column's values lie. Raises SettingError for one that is not there or holds several values."""
    known(browser, [column])
    table = browser.light()
    kind = kind_of(table.schema.field(column).type)
    if kind == "list":
        raise SettingError(f"{column!r} holds several values an item: there is nothing to count")
    fits = fitting(table, where)
    held = table[column].filter(pa.array(fits)).drop_null().combine_chunks()
    counted = held.value_counts()
    distinct = len(counted)
    pairs = sorted(
        ((plain(each["values"]), each["counts"]) for each in counted.to_pylist()) if distinct <= 10_000 else (),
        key=lambda pair: (-pair[1], str(pair[0])),
    )
    low = high = None
    bins: tuple[int, ...] = ()
    if kind == "number" and len(held):
        numbers = held.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        numbers = numbers[np.isfinite(numbers)]
        if len(numbers):
            low, high = float(numbers.min()), float(numbers.max())
            bins = tuple(np.histogram(numbers, BINS, (low, high))[0].tolist())
    return Spread(
        kind=kind,
        items=len(held),
        without=int(fits.sum()) - len(held),
        distinct=distinct,
        values=tuple(pairs[:MOST_VALUES]),
        low=None if low is None else plain(low),
        high=None if high is None else plain(high),
        bins=bins,
    )


@dataclass(frozen=True)
class Values:
    """Columns of items, sorted by id."""

    values: dict[str, list[Any]]
    """Column -> a value an item; what is no finite number is null."""
    fit: int
    """Items that fit, thinned out or not."""


def values(
    browser: Browser,
    columns: Sequence[str],
    where: Sequence[str] = (),
    *,
    axes: Sequence[str] = (),
    most: int = MOST_POINTS,
) -> Values:
    """Some columns of every item that fits.

    axes: columns of a map. Items without a place on it are left out then, and of more than `most` crowded ones.
    Raises SettingError for a column that is not there, or axes that are no numbers.
    """
    known(browser, [*columns, *axes])
    if len(axes) > MOST_AXES:
        raise SettingError(f"{len(axes)} axes are too many: a map has {MOST_AXES} at most")
    table = browser.light()
    fits = fitting(table, where)
    rows = np.flatnonzero(fits)
    if axes:
        if wrong := [name for name in axes if kind_of(table.schema.field(name).type) != "number"]:
            raise SettingError(f"axes cannot be {wrong[0]!r}: it holds no numbers")
        points = np.stack([_numbers(table[name])[rows] for name in axes], axis=1)
        placed = np.isfinite(points).all(axis=1)
        rows = rows[placed][thinned(points[placed], most)]
    some = table.select(list(dict.fromkeys(columns))).take(pa.array(rows))
    return Values({name: _finite(some[name]) for name in some.column_names}, int(fits.sum()))


def thinned(points: np.ndarray, most: int) -> np.ndarray:
    """Rows of points, (n, d), of which at most `most` stay: where they lie thick fewer, where they lie thin all."""
    if len(points) <= most:
        return np.arange(len(points))
    low, high = points.min(axis=0), points.max(axis=0)
    cells = ((points - low) / np.where(high > low, high - low, 1) * (CELLS - 1)).astype(np.int64)
    cell = np.ravel_multi_index(tuple(cells.T), (CELLS,) * points.shape[1])
    order = np.argsort(cell, kind="stable")
    _, first, sizes = np.unique(cell[order], return_index=True, return_counts=True)
    within = np.empty(len(points), np.int64)  # the how manieth of its cell
    within[order] = np.arange(len(points)) - np.repeat(first, sizes)
    floor, ceiling = 0, int(sizes.max())
    while floor < ceiling:  # the largest share of a cell with which all fit
        middle = (floor + ceiling + 1) // 2
        floor, ceiling = (middle, ceiling) if np.minimum(sizes, middle).sum() <= most else (floor, middle - 1)
    kept: np.ndarray = np.flatnonzero(within < floor)
    if len(kept) < most:  # room that is left goes to those next in line
        kept = np.sort(np.concatenate([kept, np.flatnonzero(within == floor)[: most - len(kept)]]))
    return kept


def some(browser: Browser, ids: Sequence[str], columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """These items, in this order. Raises NoSuchItem, SettingError."""
    if len(ids) > MOST_SOME:
        raise SettingError(f"{len(ids)} items are too many at once: ask for {MOST_SOME} at most")
    table = browser.light()
    given = table.column_names if columns is None else list(columns)
    known(browser, given)
    if strange := [each for each in ids if not each.isascii()]:  # no id is; half a character is no text to Arrow
        raise NoSuchItem(f"there is no item {strange[0][:100]!r}")
    rows = pc.index_in(pa.array(ids, pa.string()), table["id"].combine_chunks())
    if rows.null_count:
        raise NoSuchItem(f"there is no item {ids[rows.is_null().index(True).as_py()][:100]!r}")
    return [{name: plain(value) for name, value in row.items()} for row in table.select(given).take(rows).to_pylist()]


def files(
    collection: Collection, outcome: str | None = None, limit: int = 60, offset: int = 0
) -> tuple[list[dict[str, Any]], int]:
    """Some of the files of an outcome, by name, and how many there are: name, outcome, reason, size, pages."""
    table = collection.stored_files()
    if outcome is not None:
        table = table.filter(pc.equal(table["outcome"], outcome))
    some = table.take(pc.sort_indices(table, [("name", "ascending"), ("path", "ascending")])[offset : offset + limit])
    rows = some.select(["name", "outcome", "reason", "size", "pages", "path"]).to_pylist()
    for row in rows:  # a reason may name the file by where it lies
        path = collection.absolute(row.pop("path"))
        row["reason"] = row["reason"] and row["reason"].replace(path, row["name"])
    return rows, table.num_rows


def names(browser: Browser, ids: Sequence[str]) -> dict[str, str]:
    """Id -> the name of its file, of those that are there."""
    table = browser.light().select(["id", "name"])
    there = table.filter(pc.is_in(table["id"], pa.array(ids, pa.string())))
    return dict(zip(there["id"].to_pylist(), there["name"].to_pylist(), strict=True))


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    made: np.ndarray = column.cast(pa.float64(), safe=False).to_numpy()
    return made


def _finite(column: pa.ChunkedArray) -> list[Any]:
    if not pa.types.is_floating(column.type):
        made: list[Any] = column.to_pylist()
        return made
    # Five digits are more than a screen has pixels for, and a third of the bytes.
    return [None if v is None or not math.isfinite(v) else float(f"{v:.5g}") for v in column.to_pylist()]
