"""Exact nearest neighbours and distances by blocks: no tree, no approximation, and never n x n values in memory.

A tree is no help in the tens of dimensions an embedding has, so all distances are computed, a tile at a time, by one
matrix product; what a row keeps is its k best so far, and few values of a later tile beat those.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

ROWS, COLUMNS = 512, 2048
"""The tile of distances held at once: 8 MB in float64, which stays in a processor's cache."""


def distances(queries: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Euclidean distance of every query (m, d) to every point (n, d): (m, n) float64. For a bounded m x n."""
    squared = np.empty((len(queries), len(points)))
    for rows, columns, tile in squared_tiles(queries, points):
        squared[rows, columns] = np.maximum(tile, 0)
    return np.sqrt(squared, out=squared)


def squared_tiles(
    queries: np.ndarray, points: np.ndarray, *, upper: bool = False
) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Squared Euclidean distances, a tile at a time: (rows, columns, values float64), row by row of tiles.

    Rounding can take the distance of two copies a hair below 0.
    `upper`: the queries are the points, and tiles that lie wholly below the diagonal are left out.
    """
    if len(queries) == 0 or len(points) == 0:
        return
    middle = points.mean(axis=0, dtype=np.float64)  # far from the origin, |q|^2 + |p|^2 - 2qp loses its digits
    right = points - middle
    right = np.column_stack([-2 * right, np.einsum("ij,ij->i", right, right), np.ones(len(right))])
    for top in range(0, len(queries), ROWS):
        rows = slice(top, min(top + ROWS, len(queries)))
        left = queries[rows] - middle
        left = np.column_stack([left, np.ones(len(left)), np.einsum("ij,ij->i", left, left)])
        first = top // COLUMNS * COLUMNS if upper else 0
        for start in range(first, len(points), COLUMNS):
            columns = slice(start, min(start + COLUMNS, len(points)))
            yield rows, columns, left @ right[columns].T  # |q|^2 + |p|^2 - 2qp in one product


def nearest(
    queries: np.ndarray, points: np.ndarray, k: int, *, leave_self: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest points of every query, nearest first, ties by index.

    queries (m, d), points (n, d), of any float type. Gives indices (m, k) int64 and Euclidean distances (m, k)
    float64; where there are fewer than k points, as many columns as there are. `leave_self`: the queries are the
    points, and none is its own neighbour.
    """
    k = min(k, len(points) - leave_self)
    if len(queries) == 0 or k < 1:
        return np.zeros((len(queries), max(k, 0)), np.int64), np.zeros((len(queries), max(k, 0)))
    best = np.full((len(queries), k), np.inf)
    index = np.full((len(queries), k), len(points), np.int64)
    for rows, columns, tile in squared_tiles(queries, points):
        if leave_self:
            own = np.arange(max(rows.start, columns.start), min(rows.stop, columns.stop))
            tile[own - rows.start, own - columns.start] = np.inf
        if columns.start == 0 and tile.shape[1] > k:
            # Of the first tile nearly all would beat "nothing yet": its own k best per row, by partition, come first.
            bound = np.partition(tile, k - 1, axis=1)[:, k - 1 : k]
            row, column = np.nonzero(tile <= bound)
        else:
            row, column = np.nonzero(tile < best[rows, -1:])
        if len(row):
            _merge(best[rows], index[rows], row, column + columns.start, tile[row, column])
    return _exact(queries, points, index)


def k_distances(points: np.ndarray, k: int, rows: np.ndarray | None = None) -> np.ndarray:
    """Distance of each point (of those at `rows`, when given) to its k-th nearest other point: (n,) float64.

    points (n, d). With fewer than k other points: the farthest of them; with none: 0.
    """
    if rows is None:
        _, found = nearest(points, points, k, leave_self=True)
    else:
        _, found = nearest(points[rows], points, k + 1)  # itself among them, at distance 0
    return found[:, -1] if found.shape[1] else np.zeros(len(found))


def mean_distances(queries: np.ndarray, points: np.ndarray, k: int, *, leave_self: bool = False) -> np.ndarray:
    """Mean distance of every query (m, d) to its k nearest points (n, d): (m,) float64; 0 where there is no point."""
    _, found = nearest(queries, points, k, leave_self=leave_self)
    return found.mean(axis=1) if found.shape[1] else np.zeros(len(queries))


def _merge(best: np.ndarray, index: np.ndarray, row: np.ndarray, column: np.ndarray, value: np.ndarray) -> None:
    """Puts new candidates among the k best of their rows, in place; rows without a candidate are not touched."""
    k = best.shape[1]
    touched = np.unique(row)
    rows = np.concatenate([np.repeat(touched, k), row])
    values = np.concatenate([best[touched].ravel(), value])
    columns = np.concatenate([index[touched].ravel(), column])
    order = np.lexsort((columns, values, rows))
    starts = np.searchsorted(rows[order], touched)
    kept = order[starts[:, None] + np.arange(k)]
    best[touched], index[touched] = values[kept], columns[kept]


def _exact(queries: np.ndarray, points: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances from differences, so that a copy lies at exactly 0, and the order that they give."""
    found = np.empty(index.shape)
    for column in range(index.shape[1]):
        for start in range(0, len(queries), ROWS):
            rows = slice(start, start + ROWS)
            apart = queries[rows].astype(np.float64) - points[index[rows, column]]
            found[rows, column] = np.sqrt(np.einsum("ij,ij->i", apart, apart))
    order = np.lexsort((index, found), axis=1)
    return np.take_along_axis(index, order, axis=1), np.take_along_axis(found, order, axis=1)
