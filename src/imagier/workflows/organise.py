"""organise: lay a collection out in folders, by group, quality, label or any other column. Planned, applied, undone.

`plan` writes what would be done, and why, into `<collection>/organise/plan.csv`. `apply` makes the plan anew and
carries it out; where a plan was made for the same settings and what would be done is no longer what it says, `apply`
refuses, so that what was looked at is what is done. Every act is in `<collection>/organise/manifest.jsonl` before it is
done: `apply` broken off at any instant goes on when called again, and `undo` puts everything back, the last act first.

Nothing is ever overwritten. Originals stay where they are, but for `how="move"`. A source that is a symbolic link: copy
and hardlink take the file that it leads to, symlink leads to the link, move moves the link itself (a link made anew,
with an absolute text that goes on leading to the same image; undo gives it its old text back).
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import pyarrow as pa

from imagier._progress import bar
from imagier.collection import write_whole
from imagier.types import CollectionError, SettingError, nearest
from imagier.workflows._execution import execute, explained, relocate, settle, take_back
from imagier.workflows._layout import COLUMNS, Row, columns_of, lay_out
from imagier.workflows._manifest import Manifest

if TYPE_CHECKING:
    from imagier.collection import Collection

How = Literal["copy", "hardlink", "symlink", "move"]

PLAN = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("source", pa.string()),
        pa.field("destination", pa.string()),
        pa.field("action", pa.string()),
        pa.field("why", pa.string()),
        pa.field("size", pa.int64()),
        pa.field("mtime_ns", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Outcome:
    """What applying or undoing came to."""

    placed: int
    """Files placed; for undo, files put back or taken away."""
    skipped: int
    """Files left as they are: each says why in the plan."""
    problems: list[str] = field(default_factory=list)
    """A sentence for everything that a person ought to look at."""
    folder: Path = Path()
    """The folder that is laid out."""
    failed: int = 0
    """Files of the collection that could not be read, and so are in no layout."""


def plan(
    collection: Collection, *, by: str = "group", to: str | os.PathLike[str] | None = None, how: How = "copy"
) -> pa.Table:
    """What `apply` would do, a row per file, and its reason; also written to `organise/plan.csv`.

    by: a column, or several with commas between for folders in folders. to: `organised` in the collection's folder
    unless given. how: copy, hardlink, symlink or move; pages of a file of several, and regions, are written as files of
    their own (PNG, or TIFF for float32), whatever it is.

    Columns: id; source, absolute; destination, relative to `to`, null for what is left out; action (copy, hardlink,
    symlink, move, crop, skip); why; size in bytes and mtime_ns of the source.

    Raises SettingError for a column that is not there or makes no folders, and for a `to` that cannot be used;
    CollectionError where an earlier layout is in the way, or another writer is at work.
    """
    settings = _settings(collection, by, to, how)
    with _open(collection) as manifest:
        table = _table(_rows(collection, settings, manifest))
        _write_plan(collection, table)
        manifest.plan(settings)
    return table


@dataclass(frozen=True)
class Folder:
    """A folder of a plan."""

    name: str
    """Below the folder that is laid out; empty: that itself."""
    files: int
    bytes: int
    """Of the sources."""
    items: tuple[str, ...]
    """The first few that go there."""


def folders(planned: pa.Table, few: int = 8) -> list[Folder]:
    """The folders of a plan with what goes into each, by name."""
    of: dict[str, list[dict[str, object]]] = {}
    for row in planned.select(["id", "destination", "size"]).to_pylist():
        if row["destination"] is not None:
            of.setdefault(os.path.dirname(row["destination"]), []).append(row)
    return [
        Folder(
            name, len(rows), sum(int(str(row["size"] or 0)) for row in rows), tuple(str(r["id"]) for r in rows[:few])
        )
        for name, rows in sorted(of.items())
    ]


def standing(collection: Collection) -> int:
    """How many files are laid out and not taken back. Raises CollectionError where the manifest is damaged."""
    acts = Manifest.read(_path(collection, "manifest.jsonl")).standing()
    return sum(act.action != "mkdir" for act in acts)


def apply(
    collection: Collection,
    *,
    by: str = "group",
    to: str | os.PathLike[str] | None = None,
    how: How = "copy",
    progress: bool = False,
) -> Outcome:
    """Carry out the plan for these settings: see `plan`, which need not be called before.

    A file that cannot be placed is a problem in the outcome. Raises what `plan` raises; CollectionError where a plan
    was made for these settings and is no longer what would be done; ImagierError where the disk is full or a folder
    cannot be written: what was done until then stands, and can be gone on with or undone.
    """
    settings = _settings(collection, by, to, how)
    with _open(collection) as manifest:
        rows = _rows(collection, settings, manifest)
        table = _table(rows)
        if manifest.pending == settings and (collection.folder / "organise" / "plan.csv").exists():
            _refuse_other(_path(collection, "plan.csv"), table)
        else:
            _write_plan(collection, table)
        problems = [f"{row.source} {row.trouble}" for row in rows if row.trouble]
        try:
            placed = execute(collection, rows, settings, manifest, problems, progress)
        finally:
            relocate(collection, manifest)
        manifest.applied(settings)
        manifest.sync()
    skipped = sum(row.action == "skip" for row in rows)
    failed = sum(outcome == "failed" for outcome in collection.files()["outcome"].to_pylist())
    return Outcome(placed, skipped, problems, Path(settings["to"]), failed)


def undo(collection: Collection, *, progress: bool = False) -> Outcome:
    """Take back everything that every `apply` has done, the last act first.

    A moved file goes back to its old path, unless something else stands there now: then it stays, and undo can be
    called again. A file that was placed is removed if it still is what was written; else, or when it has become the
    only one, it stays for good. Folders that were made are removed if they are empty.

    Raises CollectionError where nothing was ever organised, or another writer is at work; ImagierError where a folder
    cannot be written.
    """
    if not _path(collection, "manifest.jsonl").exists():
        raise CollectionError(f"{collection.folder} has not been organised: there is nothing to undo")
    with _open(collection) as manifest:
        acts = manifest.standing()[::-1]  # after _open: what was broken off is settled by then
        folder = Path(acts[0].to) if acts else collection.folder / "organised"
        problems: list[str] = []
        files = 0
        shown = bar(len(acts), progress, what="undo", unit="file")
        try:
            for act in acts:
                with explained(act, manifest.path):
                    reason = take_back(act, manifest)
                if reason and act.action != "mkdir":
                    problems.append(f"{act.destination} {reason}")
                files += reason is None and act.action != "mkdir"
                shown.update()
        finally:
            shown.close()
            relocate(collection, manifest)
        manifest.applied({})
        manifest.sync()
        _path(collection, "plan.csv").unlink(missing_ok=True)
    return Outcome(files, len(problems), problems, folder)


# ---------------------------------------------------------------- planning


def _path(collection: Collection, name: str) -> Path:
    return collection.folder / "organise" / name


def _settings(collection: Collection, by: str, to: str | os.PathLike[str] | None, how: str) -> dict[str, str]:
    if how not in get_args(How):
        raise SettingError(nearest("way to organise", how, get_args(How)))
    names = columns_of(by, collection.columns)
    folder = os.path.abspath(collection.folder / "organised" if to is None else to)
    _refuse_own(collection, folder)
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise SettingError(f"{folder} is a file: choose a folder with --to")
    return {"by": ",".join(names), "to": folder, "how": how}


def _refuse_own(collection: Collection, folder: str) -> None:
    """Images must not be laid among the collection's own files, nor where those of a later version may be."""
    inside, home = Path(os.path.realpath(folder)), Path(os.path.realpath(collection.folder))
    if inside == home or (home in inside.parents and inside.relative_to(home).parts[0] != "organised"):
        raise SettingError(f"{folder} is the collection's own: choose a folder outside of it with --to")


@contextmanager
def _open(collection: Collection) -> Iterator[Manifest]:
    """The manifest, with all that an earlier call was broken off at brought to an end, held by the one writer."""
    with collection.writing():
        try:
            with Manifest.read(_path(collection, "manifest.jsonl")) as manifest:
                for act in reversed([act for act in manifest.acts.values() if act.state in ("open", "undoing")]):
                    with explained(act, manifest.path):
                        settle(act, manifest)
                relocate(collection, manifest)
                yield manifest
        except OSError as error:
            raise CollectionError(
                f"{error.filename or _path(collection, 'manifest.jsonl')} cannot be written: {error.strerror}. "
                "What was done until now can be undone with --undo."
            ) from error


def _rows(collection: Collection, settings: dict[str, str], manifest: Manifest) -> list[Row]:
    by = settings["by"].split(",")
    items = collection.read(list(dict.fromkeys([*COLUMNS, *by])))
    rows = lay_out(items, collection.files(), by, settings["to"], settings["how"], manifest.standing())
    for folder in {row.folder for row in rows}:
        _refuse_own(collection, os.path.join(settings["to"], folder))
    return rows


def _table(rows: Sequence[Row]) -> pa.Table:
    return pa.Table.from_pylist([{name: getattr(row, name) for name in PLAN.names} for row in rows], PLAN)


def _write_plan(collection: Collection, table: pa.Table) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(PLAN.names)
    writer.writerows(zip(*(column.to_pylist() for column in table.columns), strict=True))
    write_whole(_path(collection, "plan.csv"), text.getvalue().encode())


def _refuse_other(saved: Path, table: pa.Table) -> None:
    """The plan that a person may have looked at must be what is about to be done. What stands already is in both."""
    with saved.open(newline="", encoding="utf-8") as file:
        old = {_key(row) for row in csv.DictReader(file)}
    new = {_key({name: "" if row[name] is None else str(row[name]) for name in row}) for row in table.to_pylist()}
    if different := sorted((old ^ new) - {None}, key=str):
        raise CollectionError(
            f"{saved} is no longer what would be done: {len(different)} rows differ (such as {different[0]}). Files or "
            "the collection have changed, or the plan was edited. Plan again with --plan, look, then --apply."
        )


def _key(row: dict[str, str]) -> tuple[str | None, ...] | None:
    if not row.get("destination"):
        return None
    return tuple(row.get(name) for name in ("destination", "id", "size", "mtime_ns"))
