"""How a pass is mapped over files: local threads, with what is in hand noted on disk.

A pass is the row steps joined: a file is read, hashed and decoded once, its pixels go from step to step in memory, and
only columns come out. Threads serve, because decoding, resizing and inference all leave Python's lock.

A file in hand when the process died is a suspect, and the next run puts it in quarantine (quarantine.py).
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections import Counter
from collections.abc import Container, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from imagier import images
from imagier.collection import ITEMS, write_whole
from imagier.pipeline import Bound
from imagier.types import Apply, Columns, Image, ImageError, SourceError

CHUNK = 16
"""Files that a worker takes in hand at once."""
BUDGET = 96 * 2**20
"""Bytes of decoded pixels that a worker gathers before it puts them through the steps."""
BIG = 25_000_000
"""Pixels above which one image at a time is decoded, however many workers there are."""
THUMBNAIL = 160
"""Long side of a thumbnail, in pixels."""


@dataclass(frozen=True)
class Work:
    """A file to put through the pass."""

    path: str
    source: str
    name: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Done:
    """What became of a file."""

    work: Work
    hash: str | None
    outcome: str
    """ok; failed; known (its content is in the table already); twin (the same content is in another worker's hand);
    other (this pass is not for it)."""
    reason: str | None = None
    pages: int = 0
    items: pa.Table | None = None


class Pass:
    """The row steps joined into one function on files. `load` of each step is called once."""

    def __init__(self, steps: Sequence[Bound]) -> None:
        self.steps = list(steps)
        self.schema = pa.schema([*ITEMS, *(column for step in steps for column in step.writes)])
        cuts = any("parent" in step.step.passes for step in steps)
        sides = [step.step.pixels for step in steps]
        # What is cut out of an image is smaller than the image: only full size serves every region.
        self.short_side = None if cuts or None in sides else max([THUMBNAIL, *(side or 0 for side in sides)])
        self._big = threading.Lock()

    @cached_property
    def _applies(self) -> list[Apply]:
        return [step.step.load() for step in self.steps]

    def load(self) -> None:
        """Load what is heavy now, in this thread, so that workers do not each begin to."""
        _ = self._applies

    def pages(self, data: bytes, content: str) -> Iterator[Columns]:
        """One file's pages, a row each: the columns of ITEMS, and `image`. Raises ImageError."""
        head = images.header(data)
        for page in range(head.pages):
            if head.width * head.height > BIG:
                with self._big:
                    yield self._page(data, content, page, head.pages)
            else:
                yield self._page(data, content, page, head.pages)

    def _page(self, data: bytes, content: str, page: int, pages: int) -> Columns:
        try:
            decoded = images.decode(data, page=page, short_side=self.short_side)
        except ImageError as error:
            raise ImageError(f"page {page + 1} of {pages}: {error}" if pages > 1 else str(error)) from error
        row = _pictured(decoded.image, decoded.black, decoded.white)
        return row | {
            "id": content if pages == 1 else f"{content}-{page + 1}",
            "file": content,
            "page": page,
            "parent": None,
            "box": None,
            "width": decoded.width,
            "height": decoded.height,
            "depth": str(decoded.image.dtype),
            "pixel_size_um": decoded.pixel_size,
        }

    def rows(self, rows: Sequence[Columns]) -> pa.Table:
        """Put rows of `pages` through all steps: a row per item, with every column that is kept."""
        ended, frame, measured = self._through(rows)
        return pa.concat_tables([*ended, _table(frame, self.schema, measured)])

    def pictures(self, rows: Sequence[Columns]) -> dict[str, Image]:
        """Put rows of `pages` through all steps: by item, the pixels that come out at the end, as uint8."""
        _, frame, _ = self._through(rows)
        each = zip(frame["id"], frame["image"], frame["black"], frame["white"], strict=True)
        return {item: images.to_uint8(image, black, white) for item, image, black, white in each}

    def _through(self, rows: Sequence[Columns]) -> tuple[list[pa.Table], Columns, set[str]]:
        """Items that ended on the way, what is in hand after the last step, and the columns that are its own."""
        frame: Columns = {name: [row[name] for row in rows] for name in rows[0]}
        ended: list[pa.Table] = []
        measured: set[str] = set()
        of_parents: set[str] = set()
        for bound, apply in zip(self.steps, self._applies, strict=True):
            if not frame["id"]:
                break  # no region was found: an outcome, and nothing for later steps to do
            out = apply({name: frame[name] for name in bound.step.reads})
            if "parent" in bound.step.passes:
                ended.append(_table(frame, self.schema, measured - of_parents))
                # What was measured on the whole image can be read by later steps, but is no region's own.
                of_parents = measured.copy()
                frame = _regions(frame, out, bound.key)
            named = {bound.prefix + c if c in bound.step.writes.names else c: values for c, values in out.items()}
            frame = frame | {name: values for name, values in named.items() if name not in ("parent", "box")}
            measured |= set(bound.writes.names)
        return ended, frame, measured - of_parents


def arrow(values: Any, field: pa.Field) -> pa.Array:
    """n values (a list with None for null, an (n,) or (n, d) array, masked where null) as an Arrow array of `field`.

    Raises ValueError for vectors of another width than the field's, or with values that are not finite.
    """
    if isinstance(values, np.ma.MaskedArray):
        masks = np.ma.getmaskarray(values).reshape(len(values), -1)
        values = [None if masks[at].any() else value for at, value in enumerate(values.data)]
    if pa.types.is_fixed_size_list(field.type):
        whole = [values] if isinstance(values, np.ndarray) else [[each] for each in values if each is not None]
        for vectors in map(np.asarray, whole):
            if vectors.ndim != 2 or vectors.shape[1] != field.type.list_size:
                raise ValueError(f"{field.name}: vectors of the shape {vectors.shape}, not (n, {field.type.list_size})")
            if not np.isfinite(vectors).all():
                raise ValueError(f"{field.name}: a vector with values that are not finite")
    if isinstance(values, np.ndarray) and values.ndim == 2:
        flat = pa.array(np.ascontiguousarray(values).reshape(-1), field.type.value_type)
        return pa.FixedSizeListArray.from_arrays(flat, field.type.list_size).cast(field.type)
    return pa.array(values, field.type)


def _pictured(image: Image, black: float, white: float) -> Columns:
    """The columns that follow from pixels alone."""
    small = images.thumbnail(images.to_uint8(image, black, white), THUMBNAIL)
    return {
        "image": image,
        "black": black,
        "white": white,
        "thumbnail": images.encode(small, "jpeg", quality=85),
        "phash": images.perceptual_hash(small),
    }


def _regions(frame: Columns, out: Columns, key: str) -> Columns:
    """The rows that a step cut out of the rows it was given: `parent` says of which row, `box` where."""
    parents = [int(at) for at in out["parent"]]
    made: list[Columns] = []
    equals: Counter[tuple[Any, ...]] = Counter()
    for at, box, image in zip(parents, out["box"], out["image"], strict=True):
        row = {name: values[at] for name, values in frame.items()}
        edges = [float(edge) for edge in box]
        rank = equals[at, *edges]
        equals[at, *edges] += 1
        ident = hashlib.sha256(json.dumps([row["id"], edges, rank, key]).encode()).hexdigest()
        size = {"width": round(edges[2] - edges[0]), "height": round(edges[3] - edges[1])}
        own = {"id": ident, "parent": row["id"], "box": edges}
        made.append(row | _pictured(image, row["black"], row["white"]) | size | own)
    return {name: [row[name] for row in made] for name in frame}


def _table(frame: Columns, schema: pa.Schema, measured: set[str]) -> pa.Table:
    """What a frame keeps: the columns of ITEMS and those in `measured`, the others null."""
    empty = [None] * len(frame["id"])
    kept = {*ITEMS.names, *measured}
    return pa.table([arrow(frame[f.name] if f.name in kept else empty, f) for f in schema], schema)


# ---------------------------------------------------------------- one worker


class Contents:
    """What is known of contents, by their hash, through all of a run: shared by its threads."""

    def __init__(self, held: dict[str, int], failed: dict[str, str]) -> None:
        self.held = held
        """Hash -> pages, of what the items table holds."""
        self.failed = failed
        """Hash -> reason, of what failed in a run of the same key."""
        self._taken: set[str] = set()
        self._lock = threading.Lock()

    def take(self, content: str) -> bool:
        """Whether the caller is the first to ask, and so the one to do it."""
        with self._lock:
            first = content not in self._taken
            self._taken.add(content)
            return first


class Worker:
    """Puts files through a pass. One serves many threads."""

    def __init__(self, joined: Pass, contents: Contents, only: Container[str] | None = None) -> None:
        self.joined = joined
        self.contents = contents
        self.only = only
        """Contents that this pass is for; None: all."""
        self.stop = threading.Event()

    def process(self, works: Sequence[Work]) -> list[Done]:
        """Files in, outcomes out. Raises SourceError when a whole source has gone."""
        done: list[Done] = []
        open_files: dict[str, Done] = {}
        tables: dict[str, list[pa.Table]] = {}
        rows: list[Columns] = []
        gathered = 0

        def flush() -> None:
            for content, result in self._through(rows).items():
                if isinstance(result, str):
                    open_files[content] = replace(open_files[content], outcome="failed", reason=result)
                else:
                    tables[content].append(result)
            rows.clear()

        for work in works:
            if self.stop.is_set():
                break
            begun = self.begin(work)
            if isinstance(begun, Done):
                done.append(begun)
                continue
            data, content = begun
            open_files[content], tables[content] = Done(work, content, "ok"), []
            pages = 0
            try:
                for row in self.joined.pages(data, content):
                    pages += 1
                    rows.append(row)
                    gathered += row["image"].nbytes
                    if gathered > BUDGET:
                        flush()
                        gathered = 0
                if open_files[content].outcome == "ok":
                    open_files[content] = replace(open_files[content], pages=pages)
            except Exception as error:  # noqa: BLE001 - a decoder is much foreign code; the reason says what it raised
                why = str(error) if isinstance(error, ImageError) else f"{type(error).__name__}: {error}"
                rows[:] = [row for row in rows if row["file"] != content]
                open_files[content] = replace(open_files[content], outcome="failed", reason=why, pages=pages)
        flush()
        for content, each in open_files.items():
            whole = each.outcome == "ok"
            done.append(replace(each, items=pa.concat_tables(tables[content]) if whole else None))
        return done

    def begin(self, work: Work) -> Done | tuple[bytes, str]:
        """Read and hash a file; a Done where that is all there is to do."""
        try:
            data = Path(work.path).read_bytes()
        except FileNotFoundError:
            inside = work.path.endswith(os.sep + work.name)
            base = work.path[: -len(work.name) - 1] if inside else os.path.dirname(work.path)
            if not os.path.lexists(base):
                raise SourceError(f"{work.source} vanished while it was being read") from None
            return Done(work, None, "failed", "vanished before it was read")
        except OSError as error:
            return Done(work, None, "failed", f"cannot be read: {error.strerror or error}")
        content = images.content_hash(data)
        if content in self.contents.held:
            return Done(work, content, "known", pages=self.contents.held[content])
        if content in self.contents.failed:
            return Done(work, content, "failed", self.contents.failed[content])
        if self.only is not None and content not in self.only:
            return Done(work, content, "other")
        if not self.contents.take(content):
            return Done(work, content, "twin")
        return data, content

    def _through(self, rows: Sequence[Columns]) -> dict[str, pa.Table | str]:
        """Items by file; a batch that raises is run again a file at a time, so that one bad image fails alone."""
        if not rows:
            return {}
        by_file: dict[str, list[Columns]] = {}
        for row in rows:
            by_file.setdefault(row["file"], []).append(row)
        try:
            table = self.joined.rows(rows)
        except Exception as error:  # noqa: BLE001 - a stage is anybody's code: what it raises is that file's reason
            if len(by_file) > 1:
                return {file: self._through(own)[file] for file, own in by_file.items()}
            return {rows[0]["file"]: f"{type(error).__name__}: {error}"}
        if len(by_file) == 1:
            return {rows[0]["file"]: table}
        table = table.take(pa.compute.sort_indices(table["file"]))  # stable: a file's items stay in their order
        counts = Counter(table["file"].to_pylist())
        starts = np.cumsum([0, *counts.values()])
        empty = dict.fromkeys(by_file, table.slice(0, 0))
        return empty | {file: table.slice(at, counts[file]) for file, at in zip(counts, starts, strict=False)}


# ---------------------------------------------------------------- in hand


class Hand:
    """What is in hand, noted in the collection's folder while it is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "in_hand"

    def take(self, slot: int, works: Sequence[Work]) -> None:
        """Note that a worker has these files."""
        write_whole(self.folder / f"{slot}.json", json.dumps([work.path for work in works]).encode())

    def release(self, slot: int) -> None:
        """Note that it lives and has them no more."""
        (self.folder / f"{slot}.json").unlink(missing_ok=True)

    def suspects(self) -> set[str]:
        """Paths that were in hand when an earlier process died. Kept until `acquit`, whatever happens meanwhile."""
        notes = sorted(self.folder.glob("*.json"))
        paths = {path for note in notes for path in json.loads(note.read_bytes())}
        if paths:
            write_whole(self.folder / "suspects.json", json.dumps(sorted(paths)).encode())
        for note in notes:
            if note.name != "suspects.json":
                note.unlink()
        return paths

    def acquit(self) -> None:
        """All suspects have an outcome."""
        (self.folder / "suspects.json").unlink(missing_ok=True)


# ---------------------------------------------------------------- many workers


def _chunks(works: Sequence[Work], threads: int) -> Iterator[Sequence[Work]]:
    """Halved twice towards the end, so that all threads end at about the same time."""
    at = 0
    while at < len(works):
        size = CHUNK
        while size > CHUNK // 4 and len(works) - at < 2 * threads * size:
            size //= 2
        yield works[at : at + size]
        at += size


def map_files(works: Sequence[Work], worker: Worker, hand: Hand, *, threads: int) -> Generator[list[Done], None, None]:
    """Put files through the worker's pass, several chunks at a time, and give their outcomes as they come.

    What is not yet taken in hand when the caller leaves off stays undone. Memory holds 2 × threads chunks of results,
    and a worker's BUDGET of pixels for each thread.
    """
    chunks = _chunks(works, threads)
    if works:
        worker.joined.load()
    slots = list(range(threads))

    def task(chunk: Sequence[Work]) -> list[Done]:
        slot = slots.pop()
        try:
            hand.take(slot, chunk)
            done = worker.process(chunk)
            hand.release(slot)
        finally:
            slots.append(slot)
        return done

    pool = ThreadPoolExecutor(threads, thread_name_prefix="pass")
    waiting: set[Future[list[Done]]] = set()
    try:
        while True:
            while len(waiting) < 2 * threads and (chunk := next(chunks, None)) is not None:
                waiting.add(pool.submit(task, chunk))
            if not waiting:
                return
            finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in finished:
                yield future.result()
    finally:
        worker.stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
        for slot in range(threads):
            hand.release(slot)
