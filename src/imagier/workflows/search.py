"""search: the items of a collection that are most like an image, a text, or another item.

search("out", image="f.jpg")             the image goes through the collection's own steps; nothing is stored
search("out", text="a blue car")         for collections whose embedding is a CLIP model's
search("out", like="3f2a")               an item's id, its beginning, or the path of a file in the collection
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from imagier import images
from imagier.collection import DERIVED, ITEMS, Collection, Receipt
from imagier.execute import Pass
from imagier.pipeline import Bound, Named, Pipeline
from imagier.types import CollectionError, ImageError, ImagierError, ModelError, SettingError, SourceError
from imagier.workflows._carried import needed
from imagier.workflows._nearest import nearest

EXACT_BELOW = 1_000_000

HITS = pa.schema(
    [
        pa.field("rank", pa.int32()),
        pa.field("score", pa.float32()),
        pa.field("id", pa.string()),
        DERIVED.field("path"),
        DERIVED.field("paths"),
        ITEMS.field("page"),
        ITEMS.field("parent"),
        ITEMS.field("box"),
    ]
)


@dataclass(frozen=True)
class SearchResult:
    """What a search found."""

    hits: pa.Table
    """A row per item, best first: rank from 1, score (the cosine, -1 to 1), id, path, paths, page (from 0), and for a
    region cut from an image parent and box."""
    query: str
    """What was searched with, and which part of it."""
    items: int
    """Items that have a vector."""
    exact: bool
    """Whether all of them were compared."""
    recall: float
    """1 where exact. Else the share of the 20 nearest that the index found for 100 of the collection's own items, as
    measured when it was built. A text lies apart from all images: for texts it may be lower."""
    note: str | None = None
    """Why the search was exact where an index should have served."""

    def as_dict(self) -> dict[str, Any]:
        """The result in JSON values."""
        told = {"query": self.query, "items": self.items, "exact": self.exact, "recall": self.recall}
        return told | ({"note": self.note} if self.note else {}) | {"hits": self.hits.to_pylist()}

    def lines(self) -> list[str]:
        """The result for people: a line a hit, and how it was found."""
        told = [_line(hit) for hit in self.hits.to_pylist()]
        how = "all compared" if self.exact else f"by an index that finds {self.recall:.1%} of the 20 nearest"
        told.append(f"like {self.query}: {self.hits.num_rows} of {self.items:,} items, {how}")
        return [*told, self.note] if self.note else told


def _line(hit: dict[str, Any]) -> str:
    path = hit["path"] or "?"
    inside = os.path.relpath(path) if path.startswith(os.path.join(os.getcwd(), "")) else path
    page = f", page {hit['page'] + 1}" if hit["page"] else ""
    box = f", region {' '.join(f'{edge:.0f}' for edge in hit['box'])}" if hit["box"] else ""
    return f"{hit['rank']:4}  {hit['score']:.3f}  {hit['id'][:12]}  {inside}{page}{box}"


@dataclass(frozen=True)
class _Query:
    vector: np.ndarray
    """(width,) float32 of length 1."""
    said: str
    itself: str | None = None
    """The id of the item that is not to be found."""


def search(
    collection: Collection | str | os.PathLike[str],
    *,
    image: str | os.PathLike[str] | None = None,
    text: str | None = None,
    like: str | os.PathLike[str] | None = None,
    n: int = 20,
    on: str = "embedding",
    exact_below: int = EXACT_BELOW,
    progress: bool = False,
) -> SearchResult:
    """The n items of a collection most like an image, a text or another item, by the cosine of their vectors.

    collection: a Collection, or its folder.
    image: a file of any format. Its first page goes through the collection's own steps, nothing is stored; where a
        step cuts regions out, the largest one's vector is used, else the whole image's.
    text: any; for collections whose `on` was made by a model that knows text (CLIP).
    like: an item by its id or an id's beginning, or by the path of a file in the collection. Where only its regions
        have vectors, the largest one's is used. The item itself is not among the hits.
    on: the column of vectors. Items without one (null) are left out.
    exact_below: with so many items or more, Lance's vector index is used: built once, and again when items come or go,
        beside readers and while nobody else writes (meanwhile, and for n above 200, all items are compared).

    Raises SettingError for settings that do not fit, SourceError or ImageError for a file that cannot be used,
    ModelError for text where the vectors know none, CollectionError where no run came so far.
    """
    here = collection if isinstance(collection, Collection) else Collection.open(collection)
    given = [name for name, value in (("image", image), ("text", text), ("like", like)) if value is not None]
    if len(given) != 1:
        told = " and ".join(given) + " were named" if given else "none was named"
        raise SettingError(f"a search takes one of image, text and like, but {told}")
    if n < 1:
        raise SettingError(f"n cannot be {n}: a search gives 1 hit or more")
    _check_column(here, on)
    if image is not None:
        query = _of_image(here, Path(image), on)
    elif text is not None:
        query = _of_text(here, text, on)
    else:
        assert like is not None
        query = _of_item(here, os.fspath(like), on)
    wanted = n + (query.itself is not None)
    answer = nearest(here, on, query.vector, wanted, exact_below=exact_below, progress=progress)
    pairs = zip(answer.found.ids, answer.found.scores.tolist(), strict=True)
    best = [(item, score) for item, score in pairs if item != query.itself][:n]
    return SearchResult(
        hits=_hits(here, best),
        query=query.said,
        items=answer.items,
        exact=answer.recall is None,
        recall=1.0 if answer.recall is None else answer.recall,
        note=answer.note,
    )


def _check_column(collection: Collection, on: str) -> None:
    table = collection.table(collection.state.items)
    if table is None:
        raise CollectionError(f"{collection.folder} has no items yet: imagier run IMAGES --into {collection.folder}")
    kinds = {field.name: field.type for field in table.schema if field.name in collection.columns}
    vectors = [
        name
        for name, kind in kinds.items()
        if pa.types.is_fixed_size_list(kind) and pa.types.is_floating(kind.value_type) and name not in ITEMS.names
    ]
    if on not in vectors:
        what = "holds no vectors" if on in kinds else "is not there"
        there = f"vectors are in: {', '.join(vectors)}" if vectors else "no column holds vectors: embed first"
        raise SettingError(f"a search needs a column of vectors, and {on!r} {what}; {there}")


def _hits(collection: Collection, best: Sequence[tuple[str, float]]) -> pa.Table:
    """The rows of SearchResult.hits. An item that left the collection in this moment is no hit."""
    columns = [name for name in HITS.names if name not in ("rank", "score")]
    rows: dict[str, dict[str, Any]] = {}
    for at in range(0, len(best), 500):
        some = ", ".join(f"'{item}'" for item, _ in best[at : at + 500])
        rows |= {row["id"]: row for row in collection.read(columns, where=f"id in ({some})").to_pylist()}
    found = [{"score": score, **rows[item]} for item, score in best if item in rows]
    return pa.Table.from_pylist([{"rank": at, **row} for at, row in enumerate(found, 1)], HITS)


# ---------------------------------------------------------------- by an item


def _of_item(collection: Collection, like: str, on: str) -> _Query:
    content = _content_of(collection, like)
    item = None if content else _id_of(collection, like)
    where = f"file = '{content}' and page = 0" if content else f"id = '{item}' or parent = '{item}'"
    rows = collection.read(["id", "box", on], where=where)
    at = _main(rows, on, item)
    if at is None:
        raise SettingError(f"the item {like!r} has no {on}, nor has a region of it")
    found = rows["id"][at].as_py()
    said = f"the item {found}" + ("" if found == item else _part(rows, at))
    return _Query(_unit(rows[on][at].as_py()), said, found)


def _content_of(collection: Collection, like: str) -> str | None:
    """The content hash of a file of the collection; None for what is no path of one."""
    files = collection.stored_files()
    wanted = {collection.relative(path(like)) for path in (os.path.abspath, os.path.realpath)}
    for row in files.filter(pc.is_in(files["path"], pa.array(sorted(wanted)))).to_pylist():
        if row["outcome"] != "ok":
            raise SettingError(f"{like} failed when it was read, so the collection has no item of it: {row['reason']}")
        return str(row["hash"])
    return None


def _id_of(collection: Collection, like: str) -> str:
    """The id of the one item whose id begins so."""
    ids: list[str] = []
    if like and set(like) <= set("0123456789abcdef-"):
        ids = collection.read(["id"], where=f"starts_with(id, '{like}')")["id"].to_pylist()
    if like in ids or len(ids) == 1:
        return like if like in ids else ids[0]
    if ids:
        raise SettingError(f"{len(ids)} items have an id that begins with {like}: give more of it, such as {ids[0]}")
    raise SettingError(
        f"{like!r} is neither the id of an item in {collection.folder}, nor the beginning of one, nor the path of one "
        "of its files"
    )


def _main(rows: pa.Table, on: str, item: str | None = None) -> int | None:
    """The row whose vector speaks for all: that of `item`, else the whole image's, else the largest region's; None
    where none has one."""
    ids, boxes = rows["id"].to_pylist(), rows["box"].to_pylist()

    def order(at: int) -> tuple[bool, bool, float]:
        x0, y0, x1, y1 = boxes[at] or (0, 0, 0, 0)
        return ids[at] == item, boxes[at] is None, (x1 - x0) * (y1 - y0)

    return max((at for at, there in enumerate(rows[on].is_valid().to_pylist()) if there), key=order, default=None)


def _part(rows: pa.Table, at: int) -> str:
    """Says which part of an image is searched with, where it is not the whole."""
    box = rows["box"][at].as_py()
    if box is None:
        return ""
    regions = rows.num_rows - rows["box"].null_count
    which = "the one region" if regions == 1 else f"the largest of {regions} regions"
    return f" ({which} cut out of it: {', '.join(f'{edge:.1f}' for edge in box)})"


# ---------------------------------------------------------------- by an image


def _of_image(collection: Collection, path: Path, on: str) -> _Query:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}") from error
    every, making = _steps(collection, on)
    content = images.content_hash(data)
    try:
        pages = images.header(data).pages
        first = next(Pass(every).pages(data, content))  # decoded at the scale that serves all steps, as in a run
        rows = Pass(making).rows([first])
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error
    except ImagierError:
        raise
    except Exception as error:  # a stage is anybody's code, as in a run
        why = f"{type(error).__name__}: {error}"
        raise ImageError(f"{path} cannot be put through the collection's steps: {why}") from error
    at = _main(rows, on)
    if at is None:
        raise ImageError(f"{path}: the collection's steps found nothing in it to search with")
    page = f", page 1 of {pages}" if pages > 1 else ""
    return _Query(_unit(rows[on][at].as_py()), f"the image {path}{page}{_part(rows, at)}")


def _steps(collection: Collection, on: str) -> tuple[list[Bound], list[Bound]]:
    """The row steps of the collection, and those of them that `on` follows from. Raises CollectionError where they are
    no longer those that made the items: another model under the same name, another version, a run that was broken off.
    """
    bound = Pipeline(tuple(Named(**step) for step in collection.state.steps)).bind()
    every = [step for step in bound if step.stage.over == "rows"]
    maker = next((at for at, step in enumerate(every) if on in step.writes.names), None)
    if maker is None:
        raise SettingError(f"{on!r} is made over the whole table, not of an image alone: search on another column")
    receipt = collection.receipt(every[maker].name)
    if receipt is None or receipt.key != every[maker].key:
        raise CollectionError(
            f"the steps of {collection.folder} are not, or no longer, those that made its {on}. Bring it up to date "
            f"first: imagier run --into {collection.folder}"
        )
    return every, needed(every[: maker + 1], every[:maker])


# ---------------------------------------------------------------- by text


def _of_text(collection: Collection, text: str, on: str) -> _Query:
    from imagier.models.text import embed_texts, has_text
    from imagier.stages.embed import EMBED

    if not text.strip():
        raise SettingError("the text to search with is empty")
    receipt = _receipt_of(collection, on)
    if receipt.stage != EMBED.name:
        raise SettingError(f"{on!r} was made by {receipt.stage}, which no text goes through: search on another column")
    model = _model_of(receipt)
    if model is None or not has_text(model):
        encoder = receipt.settings.get("encoder", receipt.stage)
        raise ModelError(
            f"{collection.folder} cannot be searched by text: its {on} was made by {encoder}, which knows images "
            f"alone. Text needs a CLIP model: imagier run --into {collection.folder} "
            f"--set {receipt.step}.encoder=clip-vit-b-32 makes the embedding anew"
        )
    if not set(model.keys) <= set(receipt.weights):
        raise CollectionError(
            f"the model {model.card.name} is no longer the one that made the {on} of {collection.folder}. Bring it up "
            f"to date first: imagier run --into {collection.folder}"
        )
    vector = embed_texts(model, [text])[0]
    return _Query(vector, f"the text {text!r}")


def _receipt_of(collection: Collection, on: str) -> Receipt:
    for receipt in collection.receipts().values():
        if on in receipt.writes:
            return receipt
    raise CollectionError(
        f"{collection.folder} has no finished run that made its {on}: imagier run --into {collection.folder}"
    )


def _model_of(receipt: Receipt) -> Any:
    """The Model folder behind a step's vectors; None where no model is."""
    from imagier.models.store import find, is_network_file
    from imagier.stages.embed import CLASSICAL

    encoder = str(receipt.settings["encoder"])
    if encoder == CLASSICAL or is_network_file(encoder):
        return None  # a bare network file has no second one for text
    return find(encoder, "embed")


def _unit(values: Sequence[float]) -> np.ndarray:
    vector = np.asarray(values, np.float64)
    length = np.linalg.norm(vector)
    return (vector / (length or 1.0)).astype(np.float32)
