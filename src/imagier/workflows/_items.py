"""The labelled items of a collection, as a classifier learns from them and is judged by them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from imagier import _progress, images
from imagier.algorithms.novelty import unit
from imagier.collection import Collection, content_of, write_whole
from imagier.execute import Pass
from imagier.pipeline import Bound, Named, Pipeline
from imagier.types import CollectionError, Image, SettingError

if TYPE_CHECKING:
    from imagier.training.samples import Sample

EMBEDDING = "embedding"


@dataclass(frozen=True)
class Items:
    """Items that have a label."""

    samples: Sequence[Sample]
    """An item's id stands for its content."""
    classes: tuple[str, ...]
    vectors: np.ndarray
    """(n, d) float32: the embedding, then the columns asked for; NaN where one is null. For a network: d is 0."""
    files: list[str]
    """The content of the file that each is of: its regions are never parted."""
    pixels: Callable[[str], Image]
    """Of an item's id."""


def read(folder: Path, labels: str, sha256: str | None, columns: Sequence[str] = ()) -> Items:
    """Items with a label: those with an embedding by the network of that hash; None: those that an embedding, or a
    network, is shown, which is what was cut out, where something is.

    labels: a column, such as label_folder, or TABLE.csv:COLUMN, of files. An item whose label is empty is left out.
    columns: of numbers. Raises SettingError for what is not so, CollectionError.
    """
    from imagier.training.labelled import Labelled, checked, column
    from imagier.training.samples import Sample

    collection = Collection.open(folder)
    own = [] if ":" in labels else [labels]
    wanted = ["id", "file", "path", "thumbnail", "phash", *own, *columns]
    if sha256 is None:
        cut = any("parent" in step.step.passes for step in _before(collection))
        table = collection.read(list(dict.fromkeys(wanted)), where="parent is not null" if cut else None)
        vectors = np.zeros((table.num_rows, 0), np.float32)
    else:
        check_encoder(collection, sha256, "the encoder that the head goes by")
        table, vectors = vectors_of(collection.read(list(dict.fromkeys([*wanted, EMBEDDING]))))
    for name in columns:
        kind = table.schema.field(name).type
        if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
            raise SettingError(f"columns: {name} holds no numbers")
    rows = table.select([name for name in table.column_names if name != EMBEDDING]).to_pylist()
    if own:
        given = ["" if row[labels] is None else str(row[labels]) for row in rows]
    else:
        paths = list(dict.fromkeys(row["path"] for row in rows if row["path"]))
        of_paths = column(labels, _above(paths), [Path(path) for path in paths], "--labels")
        of_path = dict(zip(paths, of_paths, strict=True))
        given = [of_path.get(row["path"], "") for row in rows]
    places = [at for at, (row, label) in enumerate(zip(rows, given, strict=True)) if label and row["path"]]
    kept = [(rows[at], given[at]) for at in places]
    found = checked(Labelled(tuple(Path(r["path"]) for r, _ in kept), tuple(label for _, label in kept)), labels)
    beside = np.array(
        [[np.nan if row[name] is None else float(row[name]) for name in columns] for row, _ in kept], np.float32
    ).reshape(len(kept), len(columns))
    whole = np.concatenate([unit(vectors[places]), beside], axis=1)
    samples = [
        Sample(Path(row["path"]), row["id"], _small(row["thumbnail"]), row["phash"] or 0,
               tuple(float(each == label) for each in found.classes))
        for row, label in kept
    ]  # fmt: skip
    ids = [row["id"] for row, _ in kept]
    return Items(samples, found.classes, whole, [row["file"] for row, _ in kept], collection.reader(ids))


def pictures(folder: Path, ids: Sequence[str], progress: bool) -> Iterator[tuple[str, Image]]:
    """Of each of these items the pixels that its network was shown, uint8: what the pipeline's steps made of its file.

    File by file, so in another order. Raises CollectionError where the collection's steps would make others by now.
    """
    collection = Collection.open(folder)
    wanted = set(ids)
    listed = collection.read(["id", "file", "page", "paths"]).to_pylist()
    of_file = {row["file"]: row for row in listed if row["id"] in wanted}
    joined = Pass(_before(collection))
    with _progress.bar(len(wanted), progress, what="pixels", unit="item") as bar:
        for content, row in of_file.items():
            for page in joined.pages(content_of(row), content):
                for item, image in joined.pictures([page]).items():
                    if item in wanted:
                        wanted.remove(item)
                        bar.update()
                        yield item, image
    if wanted:
        raise CollectionError(
            f"{folder}: {len(wanted)} of {len(ids)} items are no longer what its steps make of their files, since a "
            f"model has changed: imagier run --into {folder}"
        )


def drawn(folder: Path, samples: Sequence[Sample], place: Path, progress: bool) -> list[Sample]:
    """The same samples with a PNG each, of its pixels, in a folder of their own: those that are there stay."""
    named = [replace(each, path=place / f"{each.sha256}.png") for each in samples]
    missing = [each.sha256 for each in named if not each.path.is_file()]
    for item, image in pictures(folder, missing, progress):
        write_whole(place / f"{item}.png", images.encode(image, "png"))
    return named


def _before(collection: Collection) -> list[Bound]:
    """The steps up to the last one that makes pixels."""
    steps = Pipeline(tuple(Named(**step) for step in collection.state.steps)).bind()
    makers = [at for at, step in enumerate(steps) if "image" in step.step.passes]
    return steps[: makers[-1] + 1] if makers else []


def check_encoder(collection: Collection, sha256: str, named: str) -> None:
    """Raises SettingError unless the embedding is by the network of that hash."""
    receipt = next((each for each in collection.receipts().values() if EMBEDDING in each.writes), None)
    if receipt is None or sha256 not in receipt.weights:
        raise SettingError(f"{collection.folder} has no embedding by {named}: embed with it, or take another head")


def vectors_of(table: pa.Table) -> tuple[pa.Table, np.ndarray]:
    """The rows that have an embedding, and it: (n, d) float32."""
    import pyarrow.compute as pc

    table = table.filter(pc.is_valid(table[EMBEDDING]))
    width = table.schema.field(EMBEDDING).type.list_size
    flat = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in table[EMBEDDING].chunks]
    return table, np.concatenate([np.zeros(0, np.float32), *flat]).astype(np.float32).reshape(-1, width)


def bundled(collection: Collection, ids: Sequence[str]) -> np.ndarray:
    """Which of these items must not be parted: (n,) int, the same for regions of one file and for near copies."""
    from imagier.training.splits import together

    read = collection.read(["id", "file", "thumbnail", "phash"]).to_pylist()
    rows = {row["id"]: row for row in read}
    small = np.stack([_small(rows[item]["thumbnail"]) for item in ids])
    phash = np.array([rows[item]["phash"] or 0 for item in ids], np.uint64)
    return together(ids, small, phash, [rows[item]["file"] for item in ids])


def _above(paths: Sequence[str]) -> Path:
    """The folder that all files lie in."""
    import os

    return Path(os.path.commonpath([os.path.dirname(path) for path in paths])) if paths else Path()


def _small(thumbnail: bytes | None) -> np.ndarray:
    """(32, 32) uint8 grey, as near copies are told by."""
    from imagier.models.preprocess import in_colour

    if thumbnail is None:
        return np.zeros((32, 32), np.uint8)
    return images.resize(in_colour(images.decode(thumbnail).image, "grey")[:, :, 0], size=(32, 32))
