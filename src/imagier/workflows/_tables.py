"""The second half of a run: each step over the whole table is fitted, or placed in a fitted one, unless covered."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from imagier._progress import say
from imagier.collection import BY_PEOPLE, Collection, Receipt
from imagier.execute import arrow
from imagier.pipeline import Bound, key_of_table
from imagier.types import CollectionError, Columns, Fitted, SettingError
from imagier.workflows.summary import Summary


def table_step(collection: Collection, step: Bound, like: Collection | None, summary: Summary, progress: bool) -> None:
    """Do one table step on all items that have what it reads. `like`: where it was fitted, to place items there.

    Raises CollectionError when `like` has not come so far, SettingError when the step can place nothing.
    """
    begun = time.perf_counter()
    columns, ids, absent = _handed(collection, step)
    model = None if like is None else like.receipt(step.name)
    if like is not None and model is None:
        raise CollectionError(f"{like.folder} has no finished {step.name}: run it to its end first")
    said = [columns[name] for name in step.step.reads if name in BY_PEOPLE]  # which no key of another step covers
    handed = [json.dumps(each) for each in zip(ids, *said, strict=True)] if said else ids
    key = key_of_table(step, handed, None if model is None else model.key)
    old = collection.receipt(step.name)
    if old is not None and old.key == key and set(step.writes.names) <= set(collection.columns):
        return
    say(f"{step.name}: {'placing ' if model else ''}{len(ids)} items", progress)
    fitted = _fit(collection, step, columns, ids) if like is None else _place(step, columns, model, like)
    table = pa.table(
        [pa.array(ids, pa.string()), *(arrow(fitted.columns[field.name], field) for field in step.step.writes)],
        pa.schema([pa.field("id", pa.string()), *step.writes]),
    )
    # Without its receipt a step counts as not run: a death while its columns are replaced makes it run again.
    collection.drop_receipt(step.name, keep_arrays=True)
    items = collection.state.items
    assert items is not None
    collection.put_columns(items, table)
    remembered = {f"remembered_{name}": np.asarray(fitted.columns[name]) for name in step.step.remembers}
    if remembered:
        remembered |= {"remembered_id": np.array(ids, str), "remembered_key": np.array(step.key)}
    facts = fitted.facts | ({"absent": absent} if absent else {})
    collection.save_receipt(
        receipt_of(step, key, len(ids), time.perf_counter() - begun, facts), dict(fitted.arrays) | remembered
    )
    summary.steps[step.name] = len(ids)
    summary.seconds[step.name] = time.perf_counter() - begun


def receipt_of(
    step: Bound, key: str, items: int, seconds: float, facts: dict[str, Any] | None = None, failed: int = 0
) -> Receipt:
    """The receipt of a step that has just run."""
    return Receipt(
        step=step.name,
        stage=step.stage.name,
        version=step.stage.version,
        settings=step.settings,
        key=key,
        reads=list(step.step.reads),
        writes=step.writes.names,
        precision=step.step.precision,
        weights=list(step.step.weights),
        items=items,
        failed=failed,
        seconds=round(seconds, 3),
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        facts=facts or {},
    )


def _fit(collection: Collection, step: Bound, columns: Columns, ids: Sequence[str]) -> Fitted:
    previous = _previous(collection, step, ids) if step.step.remembers else {}
    fitted: Fitted = step.step.load()(columns | previous)
    return fitted


def _place(step: Bound, columns: Columns, model: Receipt | None, like: Collection) -> Fitted:
    assert model is not None
    if step.step.place is None:
        raise SettingError(f"{step.name} cannot place new items in what was fitted: leave it out of that collection")
    return step.step.place(columns, Fitted({}, model.facts, like.fitted(step.name)))


def _handed(collection: Collection, step: Bound) -> tuple[Columns, list[str], int]:
    """The columns that a table step reads, of the items that have them all; their ids; how many have not."""
    return whole(collection.read(list(dict.fromkeys(["id", *step.step.reads]))))


def whole(table: pa.Table) -> tuple[Columns, list[str], int]:
    """The columns of the rows that have them all, their ids, and how many rows have not."""
    kept = table.drop_null()
    columns: Columns = {}
    for name in kept.schema.names:
        column = kept[name].combine_chunks()
        if pa.types.is_fixed_size_list(column.type):
            width = column.type.list_size
            columns[name] = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), width)
        elif pa.types.is_primitive(column.type):
            columns[name] = column.to_numpy(zero_copy_only=False)
        else:
            columns[name] = column.to_pylist()
    return columns, kept["id"].to_pylist(), table.num_rows - kept.num_rows


def _previous(collection: Collection, step: Bound, ids: Sequence[str]) -> Columns:
    """What the step remembers of its last result, if its settings were the same: NaN for items it did not see."""
    saved = collection.fitted(step.name)
    if "remembered_id" not in saved or str(saved["remembered_key"]) != step.key:
        return {}
    at = {item: row for row, item in enumerate(saved["remembered_id"].tolist())}
    columns: Columns = {}
    for name in step.step.remembers:
        values = saved[f"remembered_{name}"]
        columns[f"previous_{name}"] = np.array([values[at[i]] if i in at else np.nan for i in ids], np.float64)
    return columns
