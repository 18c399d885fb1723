"""What a changed pass takes over from the items that are there: which row steps need pixels, and which need none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from imagier.collection import ITEMS
from imagier.execute import arrow
from imagier.pipeline import Bound

ROWS = 4096
"""Items that go through a step at once."""


def derived(rows: Sequence[Bound], same: Sequence[Bound]) -> list[Bound]:
    """The new row steps that read nothing but columns which are kept: their items need no pixels."""
    stored = {*ITEMS.names, *(column for step in same for column in step.writes.names)}
    found = []
    for step in rows:
        if step not in same and not step.step.passes and set(step.step.reads) <= stored:
            found.append(step)
            stored |= set(step.writes.names)
    return found


def fill(steps: Sequence[Bound], items: pa.Table) -> pa.Table:
    """`items` with the columns of row steps that read only columns; null for an item that lacks what is read."""
    for step in steps:
        apply, reads = step.step.load(), list(step.step.reads)
        there = np.ones(items.num_rows, bool)
        for column in reads:
            there &= pc.is_valid(items[column]).to_numpy()
        rows = items.select(reads).filter(pa.array(there))
        made = [step.writes.empty_table()]
        for at in range(0, rows.num_rows, ROWS):
            out = apply({name: _values(rows[name].slice(at, ROWS)) for name in reads})
            arrays = [arrow(out[field.name], field) for field in step.step.writes]
            made.append(pa.table(arrays, step.writes))
        place = pa.array(np.cumsum(there) - 1, mask=~there)
        whole = pa.concat_tables(made)
        for field in step.writes:
            items = items.append_column(field, whole[field.name].take(place))
    return items


def _values(column: pa.ChunkedArray) -> Any:
    """A column as row steps get it: vectors as (n, width), others as a list."""
    if pa.types.is_fixed_size_list(column.type):
        return column.combine_chunks().flatten().to_numpy().reshape(-1, column.type.list_size)
    return column.to_pylist()


def needed(rows: Sequence[Bound], same: Sequence[Bound]) -> list[Bound]:
    """The row steps that must run: those that do not stand, and those whose columns they read."""
    needed: list[Bound] = []
    wanted: set[str] = set()
    for step in reversed(rows):
        if step not in same or wanted & {*step.step.passes, *step.writes.names}:
            needed.insert(0, step)
            wanted |= set(step.step.reads)
    return needed


def joined(items: pa.Table, old: Any, columns: Sequence[str]) -> pa.Table:
    """Items with `columns` of the same items in the table `old`."""
    contents = ", ".join(f"'{content}'" for content in set(items["file"].to_pylist()))
    before = old.to_table(columns=["id", *columns], filter=f"file in ({contents})")
    at = pc.index_in(items["id"], before["id"])
    for column in columns:
        items = items.append_column(before.schema.field(column), before[column].take(at))
    return items
