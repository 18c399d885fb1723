"""duplicates: which items are near copies of one another: re-encoded, resized, brightened, cropped by a hair.

A pair is near when its perceptual hashes and its embeddings both are; a group is all that a chain of near pairs joins,
so two items of one group may be further apart than the thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from imagier.types import Columns, Fitted, SettingError, Stage, Step


def make(*, embedding: str = "embedding", cosine: float = 0.15, hamming: int = 6) -> Step:
    """`duplicate`: the number of the item's group of near copies, 0 the largest; null for an item without any.

    embedding: the column of vectors to compare.
    cosine: the greatest cosine distance of two near copies' vectors, 0 to 2.
    hamming: the most bits of 64 that their perceptual hashes may differ in.

    The defaults suit the built-in encoder: recompression, resizing and changes of brightness are found, a crop by more
    than 2 % a side often is not, nor is a mirror image. For the classical embedding 0.05 is as much. Photographs of
    like objects in one fixed place are as alike as copies: there `cosine` 0.01 tells them apart, and still finds those
    that were lightly recompressed or brightened.
    """
    if not 0 <= cosine <= 2:
        raise SettingError(f"duplicates.cosine cannot be {cosine}: it takes 0 (copies alone) to 2")
    if not 0 <= hamming <= 64:
        raise SettingError(f"duplicates.hamming cannot be {hamming}: it takes 0 (equal hashes) to 64 bits")
    how: dict[str, Any] = {"embedding": embedding, "cosine": cosine, "hamming": hamming}
    return Step(
        reads=("id", embedding, "phash"),
        writes=pa.schema([pa.field("duplicate", pa.int32())]),
        load=lambda: partial(_fit, **how),
        place=partial(_place, **how),
    )


def _fit(columns: Columns, *, embedding: str, cosine: float, hamming: int) -> Fitted:
    from imagier.algorithms import near_duplicates

    hashes, vectors = _read(columns, embedding)
    root = near_duplicates.near_groups(hashes, vectors, cosine=cosine, hamming=hamming)
    group = near_duplicates.numbered(root)
    facts = _groups(columns["id"], group) | {"items": len(group), "cosine": cosine, "hamming": hamming}
    ids = np.array([str(item) for item in columns["id"]], str)
    arrays = {"ids": ids, "hashes": hashes, "vectors": vectors, "group": group}
    return Fitted({"duplicate": _nullable(group)}, facts, arrays)


def _place(columns: Columns, fitted: Fitted, *, embedding: str, cosine: float, hamming: int) -> Fitted:
    """A new item joins the group of the fitted items it is near to, the lowest numbered where it is near to several.

    Near to a fitted item that is in no group, or to other new ones alone, they make a group with the next free number.
    The fitted items keep what they have: null, or a number of their own though a new item now joins two groups.
    """
    from imagier.algorithms import near_duplicates

    hashes, vectors = _read(columns, embedding)
    kept = fitted.arrays
    group = kept["group"]
    _, begins, which = np.unique(group, return_index=True, return_inverse=True)
    first = np.where(group >= 0, begins[which], np.arange(len(group)))
    root = near_duplicates.near_groups(
        np.concatenate([kept["hashes"], hashes]),
        np.concatenate([kept["vectors"], vectors]) if len(group) else vectors,
        cosine=cosine,
        hamming=hamming,
        known=first,
    )
    placed, root = near_duplicates.numbered(root, group)[len(group) :], root[len(group) :]
    facts = _groups(columns["id"], placed) | {"items": len(placed), "cosine": cosine, "hamming": hamming}
    seen = [int(root[placed == number].min()) for number in facts["numbers"]]
    facts["fitted"] = [str(kept["ids"][at]) if at < len(group) else None for at in seen]
    return Fitted({"duplicate": _nullable(placed)}, facts)


def _groups(ids: Sequence[Any], group: np.ndarray) -> dict[str, Any]:
    """`numbers` of the groups, and `groups`: the ids in each, in the order of the rows.

    Where items were placed these are the new ones alone, and `fitted` has one fitted item of each group, or null.
    """
    members: dict[int, list[str]] = {}
    for item, number in zip(ids, group.tolist(), strict=True):
        if number >= 0:
            members.setdefault(number, []).append(str(item))
    return {"numbers": sorted(members), "groups": [members[number] for number in sorted(members)]}


def _read(columns: Columns, embedding: str) -> tuple[np.ndarray, np.ndarray]:
    """Hashes (n,) uint64 and vectors (n, d) float32."""
    vectors = np.asarray(columns[embedding], np.float32)
    vectors = vectors.reshape(len(vectors), -1) if vectors.size else np.zeros((len(vectors), 1), np.float32)
    if not np.isfinite(vectors).all():
        raise SettingError(f"duplicates.embedding: {embedding!r} is not finite for every item; name another column")
    return np.asarray(columns["phash"], np.uint64), vectors


def _nullable(group: np.ndarray) -> list[int | None]:
    return [number if number >= 0 else None for number in group.tolist()]


DUPLICATES = Stage(name="duplicates", version=1, over="table", make=make)
