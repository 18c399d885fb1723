"""Collection and Receipt: one folder on disk that stores and hands out columns. Storage only, no algorithm.

    out/
      collection.json        format, sources, the steps, which items table is in force
      files.lance            a row per path: where it is, its content hash, its outcome
      items-KEY.lance        a row per page of a file or region cut from one; KEY is the pass that made it
      receipts/STEP.json     what ran;  STEP.npz: what a table step fitted
      labels.jsonl           what people say of items, appended to (labels.py);  labels/: masks that they corrected
      names.json             what people call groups;  jobs/, models/, exports/, added/: what was started from the pages
      lock                   held by the one writer; a dead process does not hold it

Paths inside are relative to the folder, so a collection and its images can move together. A pass of another key builds
its own items table beside the one in force, which readers go on reading until the new one is whole.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from imagier.types import CollectionError, Image, SettingError, nearest

if TYPE_CHECKING:
    from imagier.labels import Log

FORMAT = 1

FILES = pa.schema(
    [
        pa.field("path", pa.string()),
        pa.field("source", pa.string()),
        pa.field("name", pa.string()),
        pa.field("size", pa.int64()),
        pa.field("mtime_ns", pa.int64()),
        pa.field("hash", pa.string()),
        pa.field("outcome", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("pages", pa.int32()),
        pa.field("key", pa.string()),
    ]
)
"""`key` says by which pass and program the outcome came about: another one tries a failed file again."""

ITEMS = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("file", pa.string()),
        pa.field("page", pa.int32()),
        pa.field("parent", pa.string()),
        pa.field("box", pa.list_(pa.float32(), 4)),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("depth", pa.string()),
        pa.field("black", pa.float32()),
        pa.field("white", pa.float32()),
        pa.field("pixel_size_um", pa.float32()),
        pa.field("thumbnail", pa.binary()),
        pa.field("phash", pa.uint64()),
    ]
)

DERIVED = pa.schema(
    [
        pa.field("path", pa.string()),
        pa.field("paths", pa.list_(pa.string())),
        pa.field("name", pa.string()),
        pa.field("label_folder", pa.string()),
        pa.field("label_user", pa.string()),
        pa.field("mask_user", pa.string()),
    ]
)
"""Columns of an item that follow from its files' rows, and from what people say of it; never stored in its table."""

BY_PEOPLE = ("label_user", "mask_user")
"""Those of DERIVED that people say: a label, and the sha256 of a mask that was corrected."""


@contextmanager
def _to_disk(folder: Path) -> Iterator[None]:
    """What the file system refuses while tables are written, said as one message."""
    try:
        yield
    except OSError as error:
        full = "no space left" in str(error).lower()
        raise CollectionError(
            f"{folder} cannot be written: {'the disk is full' if full else error}. What was done before is kept: "
            "make room, or put it right, and run the same command to go on."
        ) from error


@dataclass(frozen=True)
class Receipt:
    """What a step did: its provenance, its cache key, and all that plots and pages read."""

    step: str
    stage: str
    version: int
    settings: dict[str, Any]
    key: str
    reads: list[str]
    writes: list[str]
    precision: str
    weights: list[str]
    items: int
    failed: int
    seconds: float
    made: str
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class State:
    """collection.json: what the collection is made from and which tables are in force."""

    format: int = FORMAT
    sources: tuple[str, ...] = ()
    steps: tuple[dict[str, Any], ...] = ()
    like: str | None = None
    items: str | None = None
    """Name of the items table that readers read."""
    building: str | None = None
    """Name of the items table that a pass of another key is filling."""


def label_of(name: str) -> str | None:
    """What the folders call a file: the first folder of `name` (relative to its source), else the file's name before
    its last `_` and number (`player_01.jpg` is `player`), else None."""
    head, _, rest = name.partition("/")
    if rest:
        return head
    match = re.fullmatch(r"(.+)_\d+", Path(name).stem)
    return match[1] if match else None


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that a reader finds the old one or the new one, never half of it."""
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        part.replace(path)
    except OSError as error:
        raise CollectionError(f"{path} cannot be written: {error.strerror or error}. Nothing was changed.") from error


class Collection:
    """One folder of items and their columns.

    `read` gives Arrow; `.to_pandas()` and `.to_numpy()` are one call away. Readers are never blocked by the writer.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._depth = 0
        self._writer: int | None = None
        """The thread that is in `writing`, so many times deep."""

    # ---------------------------------------------------------------- open

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Collection:
        """The collection in `folder`. Raises CollectionError where there is none, or one of a newer format."""
        made = cls(Path(folder).resolve())
        if not made.exists():
            raise CollectionError(f"{folder} holds no collection. Make one: imagier run IMAGES --into {folder}")
        _ = made.state
        return made

    @classmethod
    def create(cls, folder: str | os.PathLike[str]) -> Collection:
        """The collection in `folder`, made when it is not there. A folder with other things in it is refused."""
        path = Path(folder).resolve()
        made = cls(path)
        if not made.exists():
            if path.exists() and not path.is_dir():
                raise CollectionError(f"{folder} is a file. Name a folder for the collection.")
            own = {"lock", "collection.json", "collection.json.part"}  # a death's, or another's who is making it now
            if path.is_dir() and (others := sorted(p.name for p in path.iterdir() if p.name not in own)):
                raise CollectionError(
                    f"{folder} is no collection and not empty (it holds {others[0]}). Name a new or empty folder."
                )
            with _to_disk(path):
                path.mkdir(parents=True, exist_ok=True)
            with made.writing():
                if not made.exists():
                    made.save_state(State())
        _ = made.state
        return made

    def exists(self) -> bool:
        """Whether the folder holds a collection."""
        return (self.folder / "collection.json").is_file()

    @property
    def state(self) -> State:
        """What collection.json says now."""
        try:
            raw = json.loads((self.folder / "collection.json").read_bytes())
            if raw["format"] > FORMAT:
                raise CollectionError(
                    f"{self.folder} was made by a newer imagier (format {raw['format']}, this one reads {FORMAT}). "
                    "Update imagier."
                )
            return State(**{**raw, "sources": tuple(raw["sources"]), "steps": tuple(raw["steps"])})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CollectionError(f"{self.folder / 'collection.json'} cannot be read: {error}") from error

    def save_state(self, state: State) -> None:
        """Put `state` in force."""
        write_whole(self.folder / "collection.json", json.dumps(asdict(state), indent=1).encode())

    # ---------------------------------------------------------------- read

    @property
    def columns(self) -> list[str]:
        """Every column that `read` knows."""
        return _columns(self._items())

    def read(self, columns: Sequence[str] | None = None, where: str | None = None) -> pa.Table:
        """Columns of the items, a row per item, sorted by id.

        `where` is an SQL condition on stored columns (``"`group` = 3"``). `path` and `paths` are absolute.
        Raises SettingError for a column that is not there.
        """
        items = self._items()
        known = _columns(items)
        wanted = list(known if columns is None else columns)
        if unknown := [name for name in wanted if name not in known]:
            raise SettingError(nearest("column", unknown[0], known))
        if items is None:
            return pa.schema([*ITEMS, *DERIVED]).empty_table().select(wanted)
        stored = [name for name in items.schema.names if name in wanted]
        try:
            table = items.to_table(columns=list(dict.fromkeys(["id", "file", *stored])), filter=where)
        except (ValueError, OSError) as error:
            if where is None:
                raise
            raise SettingError(f"the condition {where!r} cannot be used: {error}") from error
        table = table.sort_by("id")
        if derived := [name for name in DERIVED.names if name in wanted]:
            table = self.derive(table, derived)
        return table.select(wanted)

    def derive(self, table: pa.Table, names: Sequence[str]) -> pa.Table:
        """Items (`id`, `file`) with columns of DERIVED more: what their files are called now, what people say."""
        values: dict[str, list[Any]] = {}
        if not set(names) <= set(BY_PEOPLE):
            values |= self._called(table)
        if set(names) & set(BY_PEOPLE):
            ids = table["id"].to_pylist()
            for column, rows in self.labels.standing().items():
                said = {item: row.value for item, row in rows.items()}
                values[column] = list(map(said.get, ids)) if said else [None] * len(ids)
        for name in names:
            table = table.append_column(DERIVED.field(name), [pa.array(values[name], DERIVED.field(name).type)])
        return table

    def _called(self, table: pa.Table) -> dict[str, list[Any]]:
        """What follows from the files' names, of items with `file`."""
        files = self._files()
        by_hash: dict[str, list[tuple[str, str]]] = {}
        if files is not None:
            contents = table["file"].unique().to_pylist()
            few = f" and hash in ({_quoted(contents)})" if 0 < len(contents) <= _FEW else ""
            rows = files.to_table(columns=["hash", "path", "name"], filter="outcome = 'ok'" + few)
            for content, path, name in zip(*(column.to_pylist() for column in rows.columns), strict=True):
                by_hash.setdefault(content, []).append((self.absolute(path), name))
        found = [sorted(by_hash.get(content, [])) for content in table["file"].to_pylist()]
        return {
            "path": [each[0][0] if each else None for each in found],
            "paths": [[path for path, _ in each] for each in found],
            "name": [each[0][1] if each else None for each in found],
            "label_folder": [label_of(each[0][1]) if each else None for each in found],
        }

    def files(self) -> pa.Table:
        """A row per path, sorted: path and source (absolute), name (relative to the source), size, mtime_ns, hash,
        outcome ("ok" or "failed"), reason, pages."""
        files = self._files()
        table = FILES.empty_table() if files is None else files.to_table()
        for column in ("path", "source"):
            at = table.schema.get_field_index(column)
            absolute = pa.array([self.absolute(path) for path in table[column].to_pylist()], pa.string())
            table = table.set_column(at, FILES.field(column), absolute)
        return table.drop_columns(["key"]).sort_by("path")

    @cached_property
    def labels(self) -> Log:
        """What people say of the items."""
        from imagier.labels import Log

        return Log(self.folder)

    @property
    def version(self) -> str:
        """Changes whenever a table does, and whenever people say something of items."""
        said = self.labels.size
        return f"{self.tables}:{said}" if said else self.tables

    @property
    def tables(self) -> str:
        """Changes whenever a table does."""
        state, items, files = self.state, self._items(), self._files()
        return f"{state.items}:{items.version if items else 0}:{files.version if files else 0}"

    def __len__(self) -> int:
        items = self._items()
        return 0 if items is None else int(items.count_rows())

    def found(self, items: Sequence[str], columns: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
        """Columns of these items, a row by id; those that are not there have none."""
        wanted = list(dict.fromkeys(["id", *columns]))
        if not items:
            return {}
        if len(items) > _FEW:
            import pyarrow.compute as pc

            table = self.read(wanted)
            table = table.filter(pc.is_in(table["id"], pa.array(items, pa.string())))
        else:
            table = self.read(wanted, where=f"id in ({_quoted(items)})")
        return {row["id"]: row for row in table.to_pylist()}

    def pixels(self, item: str) -> Image:
        """An item's own pixels, decoded from its source at full size and depth; for a region, its box.

        Raises CollectionError when there is no such item, or its file is gone or has changed since.
        """
        return self.reader([item])(item)

    def reader(self, items: Sequence[str]) -> Callable[[str], Image]:
        """For these items, a function of one of them that gives its pixels, and raises, as `pixels` does.

        They are looked up at once, and the last page is kept, so that regions of one image, one after another, take
        no more than one decoding.
        """
        from imagier import images

        found = self.found(items, ["file", "page", "box", "paths"])
        last: dict[tuple[str, int], Image] = {}

        def pixels(item: str) -> Image:
            if (row := found.get(item)) is None:
                raise CollectionError(f"{self.folder} has no item {item}")
            page = row["file"], row["page"]
            if page not in last:
                last.clear()
                last[page] = images.decode(content_of(row), page=row["page"]).image
            if row["box"] is None:
                return last[page]
            x0, y0, x1, y1 = (round(edge) for edge in row["box"])
            return last[page][max(y0, 0) : y1, max(x0, 0) : x1]

        return pixels

    # ---------------------------------------------------------------- receipts

    def receipts(self) -> dict[str, Receipt]:
        """The receipts by step name, in the order of the pipeline."""
        names = [step["name"] for step in self.state.steps]
        found = {name: self.receipt(name) for name in names}
        return {name: receipt for name, receipt in found.items() if receipt is not None}

    def receipt(self, step: str) -> Receipt | None:
        """The receipt of one step, or None where it has not run."""
        path = self.folder / "receipts" / f"{step}.json"
        if not path.is_file():
            return None
        try:
            return Receipt(**json.loads(path.read_bytes()))
        except (OSError, ValueError, TypeError) as error:
            raise CollectionError(f"{path} cannot be read: {error}. Delete it, and its step is done again.") from error

    def save_receipt(self, receipt: Receipt, arrays: Mapping[str, np.ndarray] | None = None) -> None:
        """Keep a receipt, and what its step fitted."""
        import io

        if arrays is not None:
            packed = io.BytesIO()
            np.savez(packed, allow_pickle=False, **dict(arrays))
            write_whole(self.folder / "receipts" / f"{receipt.step}.npz", packed.getvalue())
        write_whole(
            self.folder / "receipts" / f"{receipt.step}.json",
            json.dumps(asdict(receipt), indent=1, allow_nan=False).encode(),
        )

    def fitted(self, step: str) -> dict[str, np.ndarray]:
        """The arrays that a table step saved; empty where there are none."""
        path = self.folder / "receipts" / f"{step}.npz"
        if not path.is_file():
            return {}
        with np.load(path, allow_pickle=False) as packed:
            return {name: packed[name] for name in packed.files}

    def drop_receipt(self, step: str, *, keep_arrays: bool = False) -> None:
        """Forget a receipt: its step counts as never run."""
        (self.folder / "receipts" / f"{step}.json").unlink(missing_ok=True)
        if not keep_arrays:
            (self.folder / "receipts" / f"{step}.npz").unlink(missing_ok=True)

    # ---------------------------------------------------------------- write

    @cached_property
    def _lock(self) -> Any:
        from filelock import FileLock

        return FileLock(self.folder / "lock", thread_local=False)

    @contextmanager
    def writing(self) -> Iterator[Collection]:
        """Be the one writer. Raises CollectionError while another process or thread is. Re-entrant in its thread."""
        if self._writer != threading.get_ident():
            self._acquire()
        try:
            if self._depth == 0:
                self._writer = threading.get_ident()
                self._sweep()
            self._depth += 1
            yield self
        finally:
            self._depth = max(0, self._depth - 1)
            if self._depth == 0:
                self._writer = None
                self._lock.release()

    def _acquire(self) -> None:
        from filelock import Timeout

        try:
            if self._writer is not None:
                raise Timeout(str(self.folder))
            self._lock.acquire(timeout=0)
        except Timeout:
            raise CollectionError(
                f"{self.folder} is being written by another imagier. Wait for it, or stop it, and try again."
            ) from None
        except OSError as error:
            raise CollectionError(f"{self.folder} cannot be written: {error.strerror or error}") from error

    def _sweep(self) -> None:
        """Remove items tables that are no longer in force: kept until now for readers that had them open."""
        state = self.state if self.exists() else State()
        for table in self.folder.glob("items-*.lance"):
            if table.name not in (state.items, state.building):
                shutil.rmtree(table)

    def relative(self, path: str | os.PathLike[str]) -> str:
        """A path as it is stored: relative to the collection's folder, with forward slashes."""
        try:
            return Path(os.path.relpath(path, self.folder)).as_posix()
        except ValueError:  # Windows, another drive
            return Path(path).absolute().as_posix()

    def absolute(self, stored: str) -> str:
        """The path that was stored, made absolute."""
        return os.path.normpath(os.path.join(self.folder, stored))

    def relocate(self, moved: Mapping[str, str]) -> None:
        """Note that files lie elsewhere now (absolute old path -> absolute new path); nothing is decoded again."""
        with self.writing():
            table = self._read_files()
            paths = table["path"].to_pylist()
            new = {self.relative(old): self.relative(to) for old, to in moved.items()}
            if not (gone := [path for path in paths if path in new]):
                return
            rows = [row for row in table.to_pylist() if row["path"] in new]
            self.put_files(
                pa.Table.from_pylist([{**row, "path": new[row["path"]]} for row in rows], FILES), replacing=gone
            )

    def _read_files(self) -> pa.Table:
        files = self._files()
        return FILES.empty_table() if files is None else files.to_table()

    def put_files(self, rows: pa.Table, *, replacing: Iterable[str] = ()) -> None:
        """Add or change rows of the files table (by path), and drop those of the paths in `replacing`."""
        import lance

        kept = set(rows["path"].to_pylist())
        gone = [path for path in replacing if path not in kept]
        uri = self._uri("files.lance")
        with _to_disk(self.folder):
            if (files := self._files()) is None:
                lance.write_dataset(rows, uri)
                return
            if rows.num_rows:  # first: a death between the two leaves a row too many, which the next run drops
                files.merge_insert("path").when_matched_update_all().when_not_matched_insert_all().execute(rows)
            for some in _chunks(gone):
                files.delete(f"path in ({_quoted(some)})")

    def stored_files(self) -> pa.Table:
        """The files table as it is stored, paths relative, with `key`."""
        return self._read_files()

    def table(self, name: str | None) -> Any:
        """An items table by name as a Lance dataset, or None where it is not there (yet)."""
        import lance

        versions = self.folder / (name or "") / "_versions"
        if name is None or not versions.is_dir() or not any(versions.iterdir()):
            return None
        return lance.dataset(self._uri(name))

    def append_items(self, name: str, rows: pa.Table) -> None:
        """Add items to a table; columns that it has and `rows` has not are null."""
        import lance

        new = self.table(name) is None
        with _to_disk(self.folder):
            lance.write_dataset(rows, self._uri(name), mode="create" if new else "append")

    def put_columns(self, name: str, columns: pa.Table) -> None:
        """Set columns of every item, by `id`; those of the same names are replaced, items not named get null.

        Readers see the old columns or the new ones: these come under other names, and the names change in one commit.
        """
        names = [column for column in columns.schema.names if column != "id"]
        self.drop_columns(name, [column for column in self.table(name).schema.names if column.endswith(_PASSING)])
        before = self.table(name).schema.names
        replaced = [column for column in names if column in before]
        coming = [column + _NEW if column in replaced else column for column in names]
        columns = columns.rename_columns(["id", *coming])
        with _to_disk(self.folder):
            if columns.num_rows:
                self.table(name).merge(columns, "id")
            else:  # a join with nothing is refused: all values are null then
                self.table(name).add_columns(pa.schema([field for field in columns.schema if field.name != "id"]))
            if replaced:
                old = [{"path": column, "name": column + _OLD} for column in replaced]
                new = [{"path": column + _NEW, "name": column} for column in replaced]
                self.table(name).alter_columns(*old, *new)
        self.drop_columns(name, [column + _OLD for column in replaced])

    def drop_columns(self, name: str, columns: Iterable[str]) -> None:
        """Forget columns of the items; those that are not there are no error."""
        items = self.table(name)
        if items is not None and (there := [c for c in columns if c in items.schema.names]):
            with _to_disk(self.folder):
                items.drop_columns(there)

    def drop_items(self, name: str, files: Iterable[str]) -> None:
        """Forget the items of these files, by content hash."""
        items = self.table(name)
        with _to_disk(self.folder):
            for some in _chunks(list(files)):
                items.delete(f"file in ({_quoted(some)})")

    def tidy(self) -> None:
        """Join what many small appends left, and let go of versions that no reader can still be at (an hour old)."""
        for dataset in (self._items(), self._files()):
            if dataset is not None:
                if len(dataset.get_fragments()) > 16:
                    dataset.optimize.compact_files()
                dataset.cleanup_old_versions(timedelta(hours=1))

    def put_in_force(self, state: State, table: str) -> None:
        """Make `table` the one that readers read. The one before it goes when the next writer comes."""
        self.save_state(replace(state, items=table, building=None))

    def _uri(self, name: str) -> str:
        return str(self.folder / name)

    def _items(self) -> Any:
        return self.table(self.state.items)

    def _files(self) -> Any:
        return self.table("files.lance")


_NEW, _OLD = _PASSING = ("~new", "~old")
"""What columns are called for a moment while they are replaced."""


def content_of(row: Mapping[str, Any]) -> bytes:
    """The file of an item (`id`, `file`, `paths`), as it was when it was read.

    Raises CollectionError when it is gone or has changed since.
    """
    from imagier import images

    for path in row["paths"]:
        try:
            data = Path(path).read_bytes()
        except OSError:
            continue  # the same content may still be at another of its paths; none left is said below
        if images.content_hash(data) == row["file"]:
            return data
    raise CollectionError(f"the file of item {row['id']} is gone or has changed: {', '.join(row['paths'])}. Run again.")


def _columns(items: Any) -> list[str]:
    """What `read` knows of an items table."""
    schema = ITEMS if items is None else items.schema
    return [*(name for name in schema.names if not name.endswith(_PASSING)), *DERIVED.names]


def _quoted(values: Sequence[str]) -> str:
    return ", ".join("'" + value.replace("'", "''") + "'" for value in values)


def _chunks(values: list[str], size: int = 500) -> Iterator[list[str]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


_FEW = 500
"""So many contents, and items, are looked up by name; for more, all are read."""
