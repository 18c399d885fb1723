"""The labelled items of a collection, as a head learns from them and is judged by them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from imagier import images
from imagier.algorithms.novelty import unit
from imagier.collection import Collection
from imagier.types import Image, SettingError

if TYPE_CHECKING:
    from imagier.training.samples import Sample

EMBEDDING = "embedding"


@dataclass(frozen=True)
class Items:
    """Items that have an embedding and a label."""

    samples: Sequence[Sample]
    """An item's id stands for its content."""
    classes: tuple[str, ...]
    vectors: np.ndarray
    """(n, d) float32: the embedding, then the columns asked for; NaN where one is null."""
    files: list[str]
    """The content of the file that each is of: its regions are never parted."""
    pixels: Callable[[str], Image]
    """Of an item's id."""


def read(folder: Path, labels: str, sha256: str, columns: Sequence[str]) -> Items:
    """Items with an embedding by the network of that hash, and a label.

    labels: a column, such as label_folder, or TABLE.csv:COLUMN, of files. An item whose label is empty is left out.
    columns: of numbers. Raises SettingError for what is not so, CollectionError.
    """
    from imagier.training.labelled import Labelled, checked, column
    from imagier.training.samples import Sample

    collection = Collection.open(folder)
    check_encoder(collection, sha256, "the encoder that the head goes by")
    own = [] if ":" in labels else [labels]
    wanted = ["id", "file", "path", "thumbnail", "phash", EMBEDDING, *own, *columns]
    table = collection.read(list(dict.fromkeys(wanted)))
    for name in columns:
        kind = table.schema.field(name).type
        if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
            raise SettingError(f"columns: {name} holds no numbers")
    table, vectors = vectors_of(table)
    rows = table.drop_columns([EMBEDDING]).to_pylist()
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
