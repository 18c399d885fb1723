"""Which file of a collection goes into which folder, under which name, and why. Looks at the disk, changes nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from imagier._names import distinct, safe_name, split
from imagier.collection import BY_PEOPLE, DERIVED
from imagier.types import CollectionError, SettingError, nearest
from imagier.workflows._acts import intact
from imagier.workflows._manifest import Act

COLUMNS = ("id", "file", "page", "parent", "box", "depth", "paths")
"""What a layout needs to know of every item, besides the columns that it is made by."""

_OF_ORIGIN = ("copy", "hardlink", "symlink")


@dataclass
class Row:
    """One file to be made, or one that is left where it is."""

    id: str
    source: str
    """Absolute path of the file on the disk."""
    action: str
    """copy, crop, hardlink, symlink, move or skip."""
    why: str
    size: int
    mtime_ns: int
    file: str = ""
    """sha256 of the source's content."""
    depth: str = ""
    folder: str = ""
    """Relative to the folder that is laid out; "" for what is skipped."""
    wish: str = ""
    """The file name it would have if no other wanted the same."""
    name: str = ""
    trouble: str = ""
    """Why something that should be placed is not: a person ought to know."""

    @property
    def destination(self) -> str | None:
        """Relative to the folder that is laid out, with forward slashes."""
        return f"{self.folder}/{self.name}" if self.name else None


def columns_of(by: str, known: Sequence[str]) -> list[str]:
    """The columns named in `by`. Raises SettingError for one that is not there."""
    names = [name.strip() for name in by.split(",")]
    for name in names:
        if name not in known:
            raise SettingError(nearest("column", name, known))
    if len(set(names)) < len(names):
        raise SettingError(f"--by {by} names a column twice")
    return names


def folder_names(column: str, values: pa.ChunkedArray | pa.Array) -> dict[Any, str]:
    """A folder's name for every value of a column.

    Whole numbers bear the column's name (`group_03`), -1 in a column of groups is `noise`, truth is `yes` or `no`,
    nothing is `none`. Raises SettingError for a column of fractions or of lists.
    """
    kind = values.type
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)
    if not (text or pa.types.is_boolean(kind) or pa.types.is_integer(kind)):
        raise SettingError(
            f"folders cannot be made by {column!r}, which holds {kind}: choose a column of text, whole numbers or "
            "yes and no, such as group, quality or label_folder"
        )
    present = set(values.unique().to_pylist())
    wanted: dict[Any, str] = {value: value for value in present - {None}}
    if pa.types.is_boolean(kind):
        wanted = {value: "yes" if value else "no" for value in wanted}
    elif pa.types.is_integer(kind):
        groups = column == "group" or column.endswith("_group")
        width = max((len(str(abs(value))) for value in wanted if not (groups and value == -1)), default=1)
        wanted = {value: f"{column}_{value:0{max(width, 2)}d}" for value in wanted}
        if groups and -1 in wanted:
            wanted[-1] = "noise"
    special = [None] if None in present else []
    order = [*special, *sorted(wanted, key=lambda value: (value != -1, value))]
    names = distinct([wanted.get(value, "none") if value is not None else "none" for value in order])
    return dict(zip(order, names, strict=True))


def lay_out(
    items: pa.Table, files: pa.Table, by: Sequence[str], to: str, how: str, standing: Sequence[Act]
) -> list[Row]:
    """A row for every file that is to stand under `to`, and for every one that is left out, in the order of sources.

    `standing` are the acts of earlier applies that still hold. Raises SettingError for a column that makes no folders,
    CollectionError where an earlier layout in the same folder is in the way.
    """
    names = {column: folder_names(column, items[column]) for column in by}
    placed = {act.destination for act in standing if act.action in _OF_ORIGIN or act.action == "crop"}
    known = {row["path"]: row for row in files.to_pylist() if row["path"] not in placed}
    rows: list[Row] = []
    split_up: set[str] = set()
    table = items.select(list(dict.fromkeys([*COLUMNS, *by]))).to_pylist()
    parents = {item["parent"] for item in table}
    images = {item["id"]: item for item in table}
    for item in table:
        # What goes by the file all of it has.
        said = [column for column in by if column not in DERIVED.names or column in BY_PEOPLE]
        bare = all(item[column] is None for column in said)
        of = images.get(item["parent"])
        while of is not None:  # what is said of its image is said of a region too
            item |= {column: of[column] for column in said if item[column] is None}
            of = images.get(of["parent"])
        if bare and any(item[column] is not None for column in said):
            continue  # by what is said of images alone: they are laid out, and nothing that was cut out of them
        paths = [path for path in item["paths"] if path in known]
        folder = "/".join(names[column][item[column]] for column in by)
        why = ", ".join(_because(column, item[column], names[column][item[column]]) for column in by)
        pages = max((known[path]["pages"] for path in paths), default=1)
        region = item["parent"] is not None or item["box"] is not None
        if pages > 1:
            split_up.update(paths)
        if item["id"] in parents and any(item[column] is None for column in by):
            if pages == 1:
                empty = next(column for column in by if item[column] is None)
                reason = f"its regions are laid out; it has no {empty} itself"
                rows += [_row(item, known[path], "skip", reason) for path in paths]
            continue
        for path in paths[:1] if region or pages > 1 else paths:
            if region or pages > 1:
                row = _row(item, known[path], "crop", f"{why}; a {'region' if region else 'page'}, cut out", folder)
                row.wish = _crop_name(item, path, pages)
            else:
                row = _row(item, known[path], how, why, folder)
                row.wish = os.path.basename(path)
            rows.append(row)
    for path in sorted(split_up):
        item = {"id": known[path]["hash"], "file": known[path]["hash"], "depth": ""}
        reason = f"a file of {known[path]['pages']} pages stays; its pages are laid out"
        rows.append(_row(item, known[path], "skip", reason))
    rows.sort(key=lambda row: (row.source, row.action == "skip", row.wish, row.id))
    moved = {act.destination for act in standing if act.action == "move" and act.link}
    for row in rows:
        if row.source not in moved:  # a link that was moved may for now lead to where its image is still to be moved
            _check(row)
    if how == "move":
        _once_each(rows)
    _name(rows, to, standing)
    return rows


def _row(item: Mapping[str, Any], file: Mapping[str, Any], action: str, why: str, folder: str = "") -> Row:
    known = file["path"], action, why, file["size"], file["mtime_ns"]
    return Row(item["id"], *known, item["file"], item["depth"], folder)


def _because(column: str, value: Any, folder: str) -> str:
    if value is None:
        return f"{column} has no value"
    if isinstance(value, bool):
        return f"{column} is {'yes' if value else 'no'}"
    if isinstance(value, int):
        return f"{column} is {value}" + (" (noise)" if folder.startswith("noise") else "")
    same = "" if folder == value else f", as a folder {folder!r}"
    return f"{column} is {value!r}{same}"


def _crop_name(item: Mapping[str, Any], path: str, pages: int) -> str:
    """The file's name, then which page, then which box (left, top, width, height in pixels of the original)."""
    stem = split(safe_name(os.path.basename(path)))[0]
    page = f"_page_{item['page'] + 1:0{len(str(pages))}d}" if pages > 1 else ""
    box = ""
    if item["box"] is not None:
        x0, y0, x1, y1 = (round(edge) for edge in item["box"])
        box = f"_x{x0}_y{y0}_w{x1 - x0}_h{y1 - y0}"
    tail = f"{page}{box}{'.tif' if item['depth'] == 'float32' else '.png'}"
    return safe_name(stem, 255 - len(tail)) + tail


def _check(row: Row) -> None:
    """Leave out what is not there any more, or is not what was read."""
    if row.action == "skip":
        return
    try:
        now = os.stat(row.source)
    except OSError as error:
        row.trouble = f"cannot be reached: {error.strerror}; run imagier again"
    else:
        if (now.st_size, now.st_mtime_ns) != (row.size, row.mtime_ns):
            row.trouble = "has changed since it was read; run imagier again"
    if row.trouble:
        row.action, row.why, row.folder, row.wish = "skip", row.trouble, "", ""


def _once_each(rows: Sequence[Row]) -> None:
    """A file that two paths lead to, by a link to a folder, can be moved once."""
    seen: dict[str, str] = {}
    for row in rows:
        if row.action == "move":
            first = seen.setdefault(real(row.source), row.source)
            if first != row.source:
                row.action, row.why, row.folder, row.wish = "skip", f"is {first} by another way", "", ""


def real(path: str) -> str:
    """A path with the links to folders in it followed, but not the one that it may be itself."""
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))


# ---------------------------------------------------------------- names


def _name(rows: Sequence[Row], to: str, standing: Sequence[Act]) -> None:
    """Give every row its name: what stands already keeps its own, then each its wish, then the rest are numbered."""
    earlier: dict[tuple[str, str, str], Act] = {}
    for act in standing:
        if act.to == to and act.action not in ("move", "mkdir") and intact(act):
            earlier[act.action, act.id, "" if act.action == "crop" else act.source] = act
    by_folder: dict[str, list[Row]] = {}
    for row in rows:
        if row.action == "skip":
            continue
        key = row.action, row.id, "" if row.action == "crop" else row.source
        if key in earlier and os.path.dirname(earlier[key].destination) == os.path.join(to, row.folder):
            row.action, row.name = "skip", os.path.basename(earlier.pop(key).destination)
            row.why += "; placed there by an earlier apply"
        elif row.action != "crop" and _within(row.source, os.path.join(to, row.folder)):
            row.action, row.name = "skip", os.path.basename(row.source)
            row.why += "; stands there already"
        else:
            by_folder.setdefault(row.folder, []).append(row)
    if earlier:
        one = next(iter(earlier.values())).destination
        raise CollectionError(
            f"{len(earlier)} of the files that an earlier apply placed in {to} (such as {one}) have no place in this "
            "layout. Take them back first with --undo, or lay out in another folder with --to."
        )
    for folder, some in by_folder.items():
        names = distinct([row.wish for row in some], _listed(os.path.join(to, folder)))
        for row, name in zip(some, names, strict=True):
            row.name = name
            safe = safe_name(row.wish)
            if safe != row.wish:
                row.why += "; renamed: its own name does not hold on every system"
            if name != safe:
                row.why += f"; numbered: another {safe!r} stands there"


def _within(source: str, folder: str) -> bool:
    return os.path.dirname(real(source)) == os.path.realpath(folder)


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []
    except NotADirectoryError as error:
        raise SettingError(f"{folder} is a file, where a folder should be: choose another with --to") from error
    except OSError as error:
        raise SettingError(f"{folder} cannot be read: {error.strerror}") from error
