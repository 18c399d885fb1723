"""The vectors nearest to a query: all compared, or found through Lance's vector index where they are many.

The index is IVF_SQ: the vectors in cells about centres, each number rounded to 8 bits; the cells nearest to the query
are looked through, and the best are compared again in full. IVF_PQ and IVF_HNSW_SQ find no more and take a hundred
times as long to build.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from imagier._progress import say
from imagier.collection import Collection, write_whole
from imagier.types import CollectionError

BLOCK = 8192
"""Vectors held at once."""
KIND = "IVF_SQ"
CELL = 8192
"""Vectors of a cell, on average."""
PROBES = 16
"""Cells to look through at first; as many more as the wanted recall takes."""
WANTED = 0.98
REFINE = 5
"""So many times the wanted number are compared again in full."""
SAMPLE, AMONG = 100, 20
"""Recall is that of the 20 nearest others, over 100 items taken as queries."""
MOST = 200
"""Neighbours that the index is asked for: of more, that recall says nothing."""


@dataclass(frozen=True)
class Found:
    """The nearest items, best first, equal ones by id."""

    ids: list[str]
    scores: np.ndarray
    """(n,) float32: cosines, in [-1, 1]."""


@dataclass(frozen=True)
class Answer:
    """What was found, and how."""

    found: Found
    items: int
    """Vectors that there are."""
    recall: float | None = None
    """Of the index, as measured; None: all were compared."""
    note: str | None = None
    """Why all were compared, where the index should have served."""


@dataclass(frozen=True)
class Index:
    """What is known of a vector index: `search/COLUMN.json` in the collection's folder."""

    column: str
    rows: str
    """Which rows it covers: another value, and it is built again."""
    items: int
    """Vectors in it."""
    kind: str
    cells: int
    probes: int
    """Cells that a query looks through."""
    refine: int
    recall: float
    """Of the `among` nearest others, the share that it finds, against comparing all; mean over `queries` items."""
    among: int
    queries: int
    seconds: float
    made: str


def nearest(
    collection: Collection, column: str, query: np.ndarray, n: int, *, exact_below: int, progress: bool = False
) -> Answer:
    """The n items nearest to a query (width,) of length 1. Below `exact_below` items, and for n above 200, exactly.

    The index is built where it is missing, unless another is writing: then all are compared, and the answer says so.
    """
    table = collection.table(collection.state.items)
    note = None
    if table.count_rows() >= exact_below and n <= MOST + 1:  # the item itself may be one more
        index = standing(collection, table, column)
        if index is None:
            try:
                build(collection, column, progress=progress)
            except CollectionError as error:
                note = f"all items were compared, without an index: {error}"
            table = collection.table(collection.state.items)
            index = standing(collection, table, column)
        if index is not None:
            found = through(table, index, query, n)
            if len(found.ids) >= min(n, index.items):
                return Answer(found, index.items, index.recall)
    (found,), items = exact(table, column, query[None], n)
    return Answer(found, items, note=note)


# ---------------------------------------------------------------- all compared


def exact(table: Any, column: str, queries: np.ndarray, n: int) -> tuple[list[Found], int]:
    """The n nearest to each query, all vectors compared, and how many there are.

    table: a Lance dataset with `id` and `column`, vectors or null. queries: (m, width) float32 of length 1. Holds
    BLOCK vectors at once, and the best so far.
    """
    ids: list[pa.Array] = [pa.array([], pa.string()) for _ in queries]
    scores = [np.zeros(0, np.float32) for _ in queries]
    there = 0
    for names, vectors in blocks(table, column):
        there += len(names)
        tile = cosines(queries, vectors)
        for at in range(len(queries)):
            best = _best(tile[at], n)
            ids[at] = pa.concat_arrays([ids[at], names.take(pa.array(best))])
            scores[at] = np.concatenate([scores[at], tile[at, best]])
            if len(scores[at]) > 4 * n + BLOCK:  # what fell behind is let go now and then, not every time
                ids[at], scores[at] = _kept(ids[at], scores[at], n)
    return [_found(*each, n) for each in zip(ids, scores, strict=True)], there


def blocks(table: Any, column: str) -> Iterator[tuple[pa.Array, np.ndarray]]:
    """The ids and vectors (n, width) float32 of a table's items that have one, BLOCK at a time."""
    for batch in table.scanner(columns=["id", column], batch_size=BLOCK).to_batches():
        names, vectors = batch["id"], batch[column]
        if vectors.null_count:
            there = vectors.is_valid()
            names, vectors = names.filter(there), vectors.filter(there)
        if len(names):
            flat = vectors.flatten().to_numpy(zero_copy_only=False)
            yield names, flat.reshape(len(names), -1).astype(np.float32, copy=False)


def cosines(queries: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Cosine of each query (m, width), of length 1, with each vector (n, width) of any: (m, n) float32; 0 for zeros."""
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    products: np.ndarray = queries @ vectors.T / np.where(lengths > 0, lengths, 1)
    return products.clip(-1, 1)


def _best(scores: np.ndarray, n: int) -> np.ndarray:
    """Places of the n highest, in no order."""
    return np.argpartition(scores, -n)[-n:] if len(scores) > n else np.arange(len(scores))


def _kept(ids: pa.Array, scores: np.ndarray, n: int) -> tuple[pa.Array, np.ndarray]:
    best = _best(scores, n)
    return ids.take(pa.array(best)), scores[best]


def _found(ids: pa.Array, scores: np.ndarray, n: int) -> Found:
    ids, scores = _kept(ids, scores, n)
    names = ids.to_pylist()
    order = sorted(range(len(names)), key=lambda at: (-float(scores[at]), names[at]))
    return Found([names[at] for at in order], scores[order])


# ---------------------------------------------------------------- through the index


def through(table: Any, index: Index, query: np.ndarray, n: int) -> Found:
    """The n nearest to a query (width,) of length 1, as far as the index finds them; their cosines are exact."""
    return _probe(table, index.column, query, n, index.probes, index.refine)


def _probe(table: Any, column: str, query: np.ndarray, n: int, probes: int, refine: int) -> Found:
    wanted = {"column": column, "q": query, "k": n, "nprobes": probes, "refine_factor": refine, "metric": "cosine"}
    near = table.to_table(columns=["id", column, "_distance"], nearest=wanted).combine_chunks()
    if not near.num_rows:
        return Found([], np.zeros(0, np.float32))
    flat = near[column].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    vectors = flat.reshape(near.num_rows, -1).astype(np.float32, copy=False)
    return _found(near["id"].combine_chunks(), cosines(query[None], vectors)[0], n)


def standing(collection: Collection, table: Any, column: str) -> Index | None:
    """The index of a column, where there is one that covers the rows that the table has now."""
    path = _path(collection, column)
    if not path.is_file():
        return None
    try:
        index = Index(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise CollectionError(f"{path} cannot be read: {error}. Delete it, and the index is built again.") from error
    return index if table.has_index and index.rows == _rows(collection, table, column) else None


def build(collection: Collection, column: str, *, progress: bool = False) -> Index:
    """Build the index of a column, measure its recall, and keep word of it.

    Readers go on meanwhile. Raises CollectionError while another is writing, or where the folder cannot be written.
    """
    with collection.writing():
        table = collection.table(collection.state.items)
        if (index := standing(collection, table, column)) is not None:
            return index  # another built it while this one waited
        queries = _sample(table, column, SAMPLE)
        if not len(queries):
            raise CollectionError(f"no item of {collection.folder} has {column}")
        begun = time.perf_counter()
        say(f"search: building the index of {table.count_rows():,} items, once", progress)
        cells = max(1, round(table.count_rows() / CELL))
        try:
            table.create_index(
                column, KIND, name=f"{column}_search", metric="cosine", num_partitions=cells, replace=True
            )
        except OSError as error:
            raise CollectionError(f"{collection.folder}: the index cannot be written: {error}") from error
        table = collection.table(collection.state.items)
        probes, recall, items = _measured(table, column, queries, cells)
        index = Index(
            column=column,
            rows=_rows(collection, table, column),
            items=items,
            kind=KIND,
            cells=cells,
            probes=probes,
            refine=REFINE,
            recall=recall,
            among=AMONG,
            queries=len(queries),
            seconds=round(time.perf_counter() - begun, 3),
            made=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        write_whole(_path(collection, column), json.dumps(asdict(index), indent=1).encode())
    return index


def _measured(table: Any, column: str, queries: np.ndarray, cells: int) -> tuple[int, float, int]:
    """Cells to look through so that the recall is as wanted, that recall, and how many vectors there are."""
    truth, items = exact(table, column, queries, AMONG + 1)
    probes = min(PROBES, cells)
    while True:
        found = [_probe(table, column, query, AMONG + 1, probes, REFINE) for query in queries]
        recall = float(np.mean([_share(*each) for each in zip(found, truth, strict=True)]))
        if recall >= WANTED or probes >= cells:
            return probes, recall, items
        probes = min(2 * probes, cells)


def _share(found: Found, truth: Found) -> float:
    """The share of the true neighbours that was found, the query itself, the first, left out of both.

    By score, not by id: of items at the same cosine any is right.
    """
    others = truth.scores[1:]
    return float((found.scores[1:] >= others[-1] - 1e-6).sum() / len(others)) if len(others) else 1.0


def _sample(table: Any, column: str, n: int) -> np.ndarray:
    """n of the vectors, each as likely as any other, at length 1: (n, width) float32; all where there are fewer."""
    random = np.random.default_rng(0)
    kept: np.ndarray | None = None
    lots = np.zeros(0)
    for _, vectors in blocks(table, column):
        lots = np.concatenate([lots, random.random(len(vectors))])
        kept = vectors if kept is None else np.concatenate([kept, vectors])
        first = np.argsort(lots)[:n]
        lots, kept = lots[first], kept[first]
    if kept is None:
        return np.zeros((0, 1), np.float32)
    lengths = np.linalg.norm(kept, axis=1, keepdims=True)
    return kept / np.where(lengths > 0, lengths, 1)


def _rows(collection: Collection, table: Any, column: str) -> str:
    """Changes when rows come or go or the column is made anew, but not when other columns change."""
    fragments: Sequence[Any] = table.get_fragments()
    counts = [[fragment.fragment_id, fragment.count_rows()] for fragment in fragments]
    told = [collection.state.items, table.lance_schema.field(column).id(), counts]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _path(collection: Collection, column: str) -> Any:
    return collection.folder / "search" / f"{column}.json"
