"""Groups of images that are near copies of one another: alike in perceptual hash, and alike in embedding.

The hash alone takes different flat or centred pictures for one, the embedding alone takes two of a kind for one; a pair
must pass both. A group is a connected component of such pairs, so its ends may be further apart than the thresholds.
"""

from __future__ import annotations

import numpy as np

TILE = 4_000_000
"""Pairs looked at together: 32 MB of hashes, and at most 16 MB of cosines."""

ROUNDING = 1e-6
"""What the cosine distance of two copies may come to in float32."""


def near_groups(
    hashes: np.ndarray,
    vectors: np.ndarray,
    *,
    cosine: float,
    hamming: int,
    known: np.ndarray | None = None,
) -> np.ndarray:
    """The connected component of every item, as the index of its first item: (n,) int64.

    hashes (n,) uint64, vectors (n, d) float of any length. Two items are linked whose hashes differ in at most
    `hamming` bits and whose vectors' cosine distance is at most `cosine`.
    `known` (m,): the components of the first m items, each named by its first; only pairs with a later item are
    looked at.

    Every pair's hash is compared, by tiles; cosines are computed where a hash fits. Links are joined tile by tile and
    never kept, so that 10,000 copies of one image need no more memory than 10,000 images.
    """
    n, first = len(hashes), 0 if known is None else len(known)
    root = np.arange(n)
    if known is not None:
        root[:first] = known
    units = unit(vectors)
    start = first
    while start < n:
        stop = min(n, start + max(1, int((start**2 / 4 + TILE) ** 0.5 - start / 2)))  # rows x stop pairs: a TILE
        near = np.bitwise_count(hashes[start:stop, None] ^ hashes[None, :stop]) <= hamming
        near &= np.arange(stop) < np.arange(start, stop)[:, None]  # each pair once
        near &= root[start:stop, None] != root[:stop]  # nothing to learn of a pair that is linked
        rows, columns = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
        if len(rows):
            columns = columns[np.argsort(root[columns], kind="stable")]
            apart = 1 - units[start + rows] @ units[columns].T
            linked = near[np.ix_(rows, columns)] & (apart <= cosine + ROUNDING)
            # One link to a component is as good as a thousand: the columns of a component become one.
            roots, begins = np.unique(root[columns], return_index=True)
            row, component = np.nonzero(np.logical_or.reduceat(linked, begins, axis=1))
            root = _joined(root, root[start + rows[row]], roots[component])
        start = stop
    return root


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (n, d) at length 1, float32 (n, d + 1). The last entry is 1 for a vector of zeros, so that it is a copy
    of other zeros, and at a right angle to all else."""
    vectors = np.asarray(vectors, np.float32)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.concatenate([vectors / np.where(length > 0, length, 1), (length == 0).astype(np.float32)], axis=1)


def numbered(root: np.ndarray, known: np.ndarray | None = None) -> np.ndarray:
    """Components (n,) as group numbers (n,) int32: 0 for the largest, ties in order of first item; -1 where alone.

    `known` (m,): the numbers that the first m items have, -1 for none; a component with such items in it takes the
    lowest of theirs, and the others are numbered on from the highest there is.
    """
    known = np.zeros(0, np.int32) if known is None else known
    roots, which, size = np.unique(root, return_inverse=True, return_counts=True)
    number = np.full(len(roots), np.iinfo(np.int32).max, np.int32)
    grouped = known >= 0
    np.minimum.at(number, which[: len(known)][grouped], known[grouped])
    new = (number == np.iinfo(np.int32).max) & (size > 1)
    order = np.lexsort((roots, -size))
    order = order[new[order]]
    number[size == 1] = -1
    number[order] = np.arange(len(order)) + known.max(initial=-1) + 1
    return np.asarray(number[which], np.int32)


def _joined(root: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The components after links between components left (m,) and right (m,); each named by its first item."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    if len(left) == 0:
        return root
    ends, place = np.unique(np.concatenate([left, right]), return_inverse=True)
    graph = coo_matrix((np.ones(len(left), bool), (place[: len(left)], place[len(left) :])), shape=(len(ends),) * 2)
    _, component = connected_components(graph, directed=False)
    least = np.full(component.max() + 1, len(root))
    np.minimum.at(least, component, ends)
    now = np.arange(len(root))
    now[ends] = least[component]
    return np.asarray(now[root])
