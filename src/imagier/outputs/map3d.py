"""The interactive 3-D map: one HTML page that needs no network, no graphics card and no library.

The viewer (templates/map3d.js, some 300 lines on a plain canvas) stands in for a plotting library of 4.8 MB: it opens
at once, runs under a policy that allows nothing but itself, and can show the pictures in place of the points.
Names and pictures reach it as JSON in the page; it sets them as text, never as HTML.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imagier.collection import write_whole
from imagier.outputs import pages, shown

if TYPE_CHECKING:
    import pyarrow as pa

    from imagier.collection import Collection

POINTS = 20_000
"""At most so many items are on the map of a page; more are thinned out evenly."""
PICTURES = 2_000
"""At most so many of them have a picture, when all would pass BYTES."""
BYTES = 4_000_000
"""Thumbnails of up to this size together go into a page as they are; beyond, PICTURES of them, made smaller."""
SMALL = 96
"""Long side in pixels of a thumbnail that was made smaller."""


def write_map(collection: Collection, path: str | Path | None = None) -> Path:
    """Write the interactive map as a page of its own (default: `map.html` in the collection's folder).

    Raises CollectionError when it cannot be written.
    """
    target = collection.folder / "map.html" if path is None else Path(path)
    parts = map_parts(collection)
    page = pages.environment().get_template("map_page.html" if parts else "no_map.html")
    html = page.render(title=collection.folder.name, policy=pages.policy(parts.get("map_script", "")), **parts)
    write_whole(target, html.encode())
    return target


def map_parts(collection: Collection) -> dict[str, Any]:
    """What templates/map3d.html asks for, and `map_style`; empty where no item has a place on any map."""
    from markupsafe import Markup

    maps = shown.maps(collection)
    clusterings = shown.clusterings(collection)
    known = set(collection.columns)
    wanted = [axis for each in maps for axis in each.axes]
    wanted += [f"{each.prefix}{name}" for each in clusterings for name in ("group", "quality")]
    table = collection.read(["id", "name", "label_folder", "thumbnail", *(name for name in wanted if name in known)])
    placed = np.zeros(table.num_rows, dtype=bool)
    for each in maps:
        placed |= np.isfinite(shown.coordinates(table, each)).all(axis=1)
    rows = np.flatnonzero(placed)
    if not len(rows):
        return {}
    kept = rows[evenly(len(rows), POINTS)]
    part = table.take(kept)
    thumbnails = encoded(part["thumbnail"].to_pylist())
    data = {
        "names": [name or "" for name in part["name"].to_pylist()],
        "maps": [_map(part, each) for each in maps],
        "schemes": _schemes(part, clusterings),
        "thumbnails": thumbnails,
    }
    return {
        "map_json": Markup(pages.json_in_html(data)),
        "map_script": Markup((pages.TEMPLATES / "map3d.js").read_text(encoding="utf-8")),
        "map_style": Markup((pages.TEMPLATES / "map3d.css").read_text(encoding="utf-8")),
        "map_note": _note(table.num_rows, len(rows), len(kept), sum(each is not None for each in thumbnails)),
        "map_label": f"Map of {len(kept):,} items, in which alike ones lie close together. Arrow keys turn it.",
    }


def _note(items: int, placed: int, kept: int, pictured: int) -> str:
    """What the map leaves out, in sentences; empty where it is nothing."""
    said = []
    if placed < items:
        said.append(f"Without a place here, for want of an embedding: {items - placed:,} of {items:,} items.")
    if kept < placed:
        said.append(f"{kept:,} of {placed:,} items are shown, taken evenly, to keep the page quick.")
    if pictured < kept:
        said.append(f"{pictured:,} of them carry a picture, to keep the page small.")
    return " ".join(said)


def _map(table: pa.Table, a_map: shown.Map) -> dict[str, Any]:
    """One map for the viewer: coordinates in -1..1 with one scale for all axes, null for items without a place."""
    points = shown.coordinates(table, a_map)
    placed = np.isfinite(points).all(axis=1)
    if placed.any():
        low, high = points[placed].min(axis=0), points[placed].max(axis=0)
        points = (points - (low + high) / 2) / max(float((high - low).max()) / 2, 1e-12)
    flat = not placed.any() or float(np.ptp(points[placed, 2])) == 0
    columns = [[None if np.isnan(v) else round(v, 4) for v in points[:, axis].tolist()] for axis in range(3)]
    name = a_map.method + (f" ({a_map.prefix.rstrip('_')})" if a_map.prefix else "")
    return {"name": name, "flat": flat, "axes": a_map.axis_titles(), **dict(zip("xyz", columns, strict=True))}


def _schemes(table: pa.Table, clusterings: Sequence[shown.Clustering]) -> list[dict[str, Any]]:
    """The ways to colour the items: each clustering, its quality, the label. There is always one."""
    schemes = []
    for clustering in clusterings:
        numbers = shown.group_numbers(table, clustering)
        groups = sorted(set(numbers.tolist()), key=lambda group: (group < 0, abs(group)))
        light, dark = shown.group_colours(groups), shown.group_colours(groups, dark=True)
        names = [shown.group_name(group) for group in groups]
        pairs = [(light[group], dark[group]) for group in groups]
        marks = [str(group) if group >= 0 else None for group in groups]
        title = clustering.column.replace("_", " ")
        schemes.append(_scheme(title, [groups.index(g) for g in numbers.tolist()], names, pairs, marks))
    for clustering in clusterings:
        if (column := f"{clustering.prefix}quality") in table.column_names:
            schemes.append(_texts(column.replace("_", " "), table[column].to_pylist(), "no quality"))
    labels = table["label_folder"].to_pylist()
    if any(label is not None for label in labels):
        schemes.append(_texts("folder", labels, "no folder"))
    return schemes or [_texts("all", ["item"] * table.num_rows, "")]


def _texts(title: str, values: Sequence[str | None], missing: str) -> dict[str, Any]:
    """A way to colour by text, null in grey."""
    texts = sorted({value for value in values if value is not None})
    pairs = list(zip(shown.colours(len(texts)), shown.colours(len(texts), dark=True), strict=True))
    code = {text: i for i, text in enumerate(texts)}
    codes = [len(texts) if value is None else code[value] for value in values]
    if len(texts) in codes:
        texts, pairs = [*texts, missing], [*pairs, (shown.GREY, shown.GREY)]
    return _scheme(title, codes, texts, pairs, [None] * len(texts))


def _scheme(
    title: str, codes: list[int], names: list[str], pairs: list[tuple[str, str]], marks: Sequence[str | None]
) -> dict[str, Any]:
    counts = np.bincount(codes, minlength=len(names)).tolist()
    legend = [
        {"name": name, "light": light, "dark": dark, "number": mark, "items": count}
        for name, (light, dark), mark, count in zip(names, pairs, marks, counts, strict=True)
    ]
    numbered = any(mark is not None for mark in marks) and len(marks) <= 60
    return {"name": title, "codes": codes, "legend": legend, "numbered": numbered}


def encoded(thumbnails: Sequence[bytes | None]) -> list[str | None]:
    """Thumbnails (JPEG files) as base64, null where there is none or where BYTES leaves no room."""
    if sum(len(data) for data in thumbnails if data is not None) <= BYTES:
        return [None if data is None else base64.b64encode(data).decode() for data in thumbnails]
    made: list[str | None] = [None] * len(thumbnails)
    for row in evenly(len(thumbnails), PICTURES).tolist():
        if (data := thumbnails[row]) is not None:
            made[row] = base64.b64encode(_smaller(data)).decode()
    return made


def _smaller(data: bytes) -> bytes:
    from PIL import Image

    with Image.open(io.BytesIO(data)) as picture:
        picture.thumbnail((SMALL, SMALL))
        out = io.BytesIO()
        picture.save(out, "JPEG", quality=70)
    return min(out.getvalue(), data, key=len)


def evenly(n: int, most: int) -> np.ndarray:
    """Up to `most` of n positions, evenly. Items come sorted by content hash, so this is a fair sample."""
    return np.arange(n) if n <= most else np.linspace(0, n - 1, most).round().astype(int)
