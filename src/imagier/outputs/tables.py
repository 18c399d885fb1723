"""The items as tables for other programs: result.json for viewers, Parquet and CSV for everything else.

result.json is a JSON list with one entry per path that is ok, and per page or region in it, sorted by `filename`:

    {"filename": "shoes/001.jpg", "label": "shoes", "x": 0.1, "y": 2.3, "z": -1.0, "group": 4, "quality": "high"}

`filename` is relative to the folder that was read, `label` what the folders call it. All seven keys are always there;
`null` stands where there is nothing: no label, no place on the map (an item without an embedding), no group, no quality
(noise has none). A whole image that is neither on the map nor in a group, but whose regions are items, has no entry of
its own, unless it was inspected. Files that failed are not in it: `imagier show --failed` lists them. Of several maps
or clusterings it is the one without a prefix, else the last. Where items were cut out, measured, classified or
inspected, keys more:

    "contour": [12, 40, 13, 40, ...], "measured": {"area_px2": 310.0, ...}, "told": {"label": "mel", ...},
    "inspected": {"anomaly": 1.2, "verdict": "bad", ...}

with the columns that the steps `measure`, `classify` and `inspect` write, less masks and features, and a region's
outline, x and y in its file's pixels.

Parquet holds every column in its own type, one row per item. CSV holds the same, less the binary columns (thumbnails),
in forms that every spreadsheet reads: a vector is a column per component (`embedding_0`, `embedding_1`, ...), a list of
texts is one cell, joined by ` | `, and a text that a spreadsheet would run as a formula (it begins with = + - @, a tab
or a carriage return) has an apostrophe put before it. Numbers are never changed.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pyarrow as pa

from imagier.collection import label_of, write_whole
from imagier.outputs import shown
from imagier.types import SettingError

if TYPE_CHECKING:
    from imagier.collection import Collection

Format = Literal["json", "parquet", "csv"]


def result_rows(collection: Collection) -> list[dict[str, Any]]:
    """The entries of result.json: one per path that is ok, and per page or region in it, sorted by filename."""
    the_map = next(iter(shown.maps(collection)), None)
    clustering = next(iter(shown.clusterings(collection)), None)
    known = set(collection.columns)
    quality = f"{clustering.prefix}quality" if clustering is not None else ""
    wanted = [*(the_map.axes if the_map else ()), *([clustering.column] if clustering else ())]
    more = _more(collection)
    extra = sorted({name for names in more.values() for name in names})
    table = collection.read(["id", "file", "page", "parent", *wanted, *([quality] if quality in known else []), *extra])
    values = {name: table[name].to_pylist() for name in extra}

    places = shown.coordinates(table, the_map) if the_map else np.full((table.num_rows, 3), np.nan)
    qualities = table[quality].to_pylist() if quality in known else [None] * table.num_rows
    cut_up = set(table["parent"].to_pylist())
    of_file: dict[str, list[tuple[int, str, dict[str, Any]]]] = {}
    for at, (item, file, page, place, group, good) in enumerate(
        zip(
            table["id"].to_pylist(),
            table["file"].to_pylist(),
            table["page"].to_pylist(),
            places,
            shown.group_numbers(table, clustering).tolist(),
            qualities,
            strict=True,
        )
    ):
        nowhere = group == shown.UNGROUPED and not np.isfinite(place).any()
        if item in cut_up and nowhere and all(values[name][at] is None for name in more.get("inspected", [])):
            continue
        x, y, z = (_shortest(value) for value in place)
        entry = {"x": x, "y": y, "z": z, "group": None if group == shown.UNGROUPED else group, "quality": good}
        for key, names in more.items():
            told = {name: _plain(values[name][at]) for name in names}
            entry[key] = told["contour"] if key == "contour" else told
        of_file.setdefault(file, []).append((page or 0, item, entry))

    rows = []
    files = collection.files()
    paths = zip(*(files[column].to_pylist() for column in ("name", "path", "hash")), strict=True)
    for name, _path, content in sorted(paths, key=lambda path: path[:2]):
        found = sorted(of_file.get(content, []), key=lambda each: each[:2])
        rows += [{"filename": name, "label": label_of(name), **entry} for _, _, entry in found]
    return rows


def _more(collection: Collection) -> dict[str, list[str]]:
    """Keys beyond the seven -> the columns that they hold."""
    known = set(collection.columns)
    made: dict[str, list[str]] = {"contour": ["contour"]} if "contour" in known else {}
    for key, stage in (("measured", "measure"), ("told", "classify"), ("inspected", "inspect")):
        receipts = [each for each in collection.receipts().values() if each.stage == stage]
        if names := [name for each in receipts for name in each.writes if name in known]:
            schema = collection.read(names, where="false").schema
            made[key] = [each.name for each in schema if not _is_binary(each.type) and not _is_vector(each.type)]
    return made


def _plain(value: Any) -> Any:
    """As JSON has it: floats with as many digits as they need, none for NaN."""
    return _shortest(value) if isinstance(value, float) else value


def write_result(collection: Collection, path: str | Path) -> Path:
    """Write result.json, an entry a line, strict JSON in UTF-8. Raises CollectionError when it cannot be written."""
    lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) for row in result_rows(collection))
    write_whole(Path(path), ("[\n" + ",\n".join(lines) + "\n]\n").encode())
    return Path(path)


def export(collection: Collection, to: Format, path: str | Path) -> Path:
    """Write the collection to `path`, whole or not at all: "json" is result.json, the others hold every column.

    Raises SettingError for another format, CollectionError when it cannot be written.
    """
    if to not in get_args(Format):
        raise SettingError(f"{to!r} is no format to export to. There are: {', '.join(get_args(Format))}.")
    if to == "json":
        return write_result(collection, path)
    data = io.BytesIO()
    if to == "parquet":
        from pyarrow import parquet

        parquet.write_table(collection.read(), data, compression="zstd")
    else:
        from pyarrow import csv

        csv.write_csv(flat(collection.read()), data)
    write_whole(Path(path), data.getvalue())
    return Path(path)


def flat(table: pa.Table) -> pa.Table:
    """A table of numbers, booleans and safe texts alone, as CSV has it; the module's docstring says how."""
    columns: dict[str, pa.Array | pa.ChunkedArray] = {}
    for field in table.schema:
        column = table[field.name]
        if _is_vector(field.type):
            flattened = _components(column, field.type.list_size)
            columns |= {f"{field.name}_{i}": each for i, each in enumerate(flattened)}
        elif not _is_binary(field.type):
            columns[field.name] = _cell(column)
    return pa.table(columns)


def _components(column: pa.ChunkedArray, size: int) -> list[pa.Array | pa.ChunkedArray]:
    import pyarrow.compute as pc

    whole = column.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):  # no chunk at all
        whole = pa.array([], column.type)
    return [_cell(pc.list_element(whole, i)) for i in range(size)]


def _cell(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """A column whose values fit a cell: NaN is empty, lists are joined, structures are JSON, texts are no formulas."""
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_floating(kind):
        return pc.if_else(pc.is_finite(column), column, pa.scalar(None, kind))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        texts = [None if each is None else " | ".join(str(value) for value in each) for each in column.to_pylist()]
        column = pa.array(texts, pa.string())
    elif pa.types.is_nested(kind):
        column = pa.array([json.dumps(each, default=str) for each in column.to_pylist()], pa.string())
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return pc.replace_substring_regex(column, pattern=r"^([=+\-@\t\r])", replacement=r"'\1")
    return column


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _is_vector(kind: pa.DataType) -> bool:
    return bool(pa.types.is_fixed_size_list(kind))


def _shortest(value: float) -> float | None:
    """A float32 with as many digits as it needs, None for NaN."""
    return float(str(np.float32(value))) if np.isfinite(value) else None
