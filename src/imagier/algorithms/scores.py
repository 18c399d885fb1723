"""How good a clustering is, in numbers: silhouette, Davies-Bouldin, Calinski-Harabasz, and agreement of two.

Silhouette: Rousseeuw (1987). Davies & Bouldin (1979). Calinski & Harabasz (1974). Adjusted Rand index: Hubert &
Arabie (1985). Noise (label -1) belongs to no group and is left out of the first three.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imagier.algorithms.neighbours import ROWS, distances

SAMPLE = 2000
"""Items that the mean distances of a silhouette are measured against; of fewer, all."""
MOST_GROUPS = 500
"""With more groups than this a clustering is not scored: its groups are too many to be sampled."""


@dataclass(frozen=True)
class Silhouettes:
    """The silhouette of every item."""

    values: np.ndarray
    """(n,) float64 in [-1, 1]; NaN for noise, and for all where there are fewer than two groups."""
    sample: int
    """The number of items the distances were measured against; all that are in a group, when they are few."""

    @property
    def mean(self) -> float | None:
        """Over all items that are in a group; None where undefined."""
        inside = self.values[~np.isnan(self.values)]
        return float(inside.mean()) if len(inside) else None


def silhouettes(points: np.ndarray, labels: np.ndarray, seed: int) -> Silhouettes:
    """The silhouette of every item: points (n, d), labels (n,) int, -1 for noise.

    Exact up to 2,000 items in groups. Of more, each item's mean distance to a group is that to a random part of the
    group, 2,000 items in all, drawn in proportion to the groups' sizes with a few of each: no n x n matrix.
    """
    values = np.full(len(labels), np.nan)
    inside = np.flatnonzero(labels >= 0)
    names, group, sizes = np.unique(labels[inside], return_inverse=True, return_counts=True)
    if not 2 <= len(names) <= min(MOST_GROUPS, len(inside) - 1):
        return Silhouettes(values, 0)
    drawn = _by_group(group, sizes, seed)
    reference = points[inside[drawn]]
    starts = np.searchsorted(group[drawn], np.arange(len(names)))
    counts = np.diff([*starts, len(drawn)])
    itself = np.zeros(len(inside), bool)
    itself[drawn] = True
    for start in range(0, len(inside), ROWS):
        rows = slice(start, start + ROWS)
        sums = np.add.reduceat(distances(points[inside[rows]], reference), starts, axis=1)
        values[inside[rows]] = _values(sums, counts, group[rows], itself[rows])
    return Silhouettes(values, len(drawn))


def matrix_silhouette(apart: np.ndarray, labels: np.ndarray) -> float | None:
    """The mean silhouette from a matrix of distances (n, n); None where there are fewer than two groups.

    One matrix serves every k that is tried. labels (n,) int, no noise.
    """
    names, group, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if not 2 <= len(names) <= len(labels) - 1:
        return None
    member = np.zeros((len(labels), len(names)), apart.dtype)
    member[np.arange(len(labels)), group] = 1
    return float(_values(apart @ member, counts, group, np.ones(len(labels), bool)).mean())


def _values(sums: np.ndarray, counts: np.ndarray, group: np.ndarray, itself: np.ndarray) -> np.ndarray:
    """Silhouettes (b,) from the sums of distances to each group (b, g), the groups' counts, each row's own group,
    and whether the row itself was counted in it."""
    row = np.arange(len(group))
    others = counts[group] - itself
    own = sums[row, group] / np.maximum(others, 1)
    means = sums / counts
    means[row, group] = np.inf
    other = means.min(axis=1)
    larger = np.maximum(own, other)
    # A group of one has silhouette 0, as Rousseeuw sets it; so have copies that lie in two groups.
    return np.where((others > 0) & (larger > 0), (other - own) / np.where(larger > 0, larger, 1), 0.0)


def _by_group(group: np.ndarray, sizes: np.ndarray, seed: int) -> np.ndarray:
    """Up to 2,000 row numbers sorted by group: all rows, or a random part of each group in proportion to its size."""
    order = np.argsort(group, kind="stable")
    if len(group) <= SAMPLE:
        return order
    least = SAMPLE // (2 * len(sizes))  # half the sample is dealt evenly, so that small groups are seen too
    quota = np.minimum(sizes, least + (sizes * (SAMPLE / 2 / len(group))).astype(int))
    shuffled = np.random.default_rng(seed).permutation(len(group))
    shuffled = shuffled[np.argsort(group[shuffled], kind="stable")]
    rank = np.arange(len(group)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    drawn: np.ndarray = shuffled[rank < np.repeat(quota, sizes)]
    return drawn


def davies_bouldin(points: np.ndarray, labels: np.ndarray) -> float | None:
    """Davies-Bouldin index, >= 0, lower is better; None where there are fewer than two groups, or as many as items."""
    from sklearn.metrics import davies_bouldin_score

    inside = labels >= 0
    if not _scorable(labels[inside]):
        return None
    return float(davies_bouldin_score(points[inside].astype(np.float64), labels[inside]))


def calinski_harabasz(points: np.ndarray, labels: np.ndarray) -> float | None:
    """Calinski-Harabasz index, higher is better; None where undefined, or infinite (every group a single place)."""
    from sklearn.metrics import calinski_harabasz_score

    inside = labels >= 0
    if not _scorable(labels[inside]):
        return None
    kept = points[inside].astype(np.float64)
    _, group = np.unique(labels[inside], return_inverse=True)
    middles = centroids(kept, group)
    if not np.square(kept - middles[group]).sum() > 0:
        return None
    score = float(calinski_harabasz_score(kept, labels[inside]))
    return score if np.isfinite(score) else None


def centroids(points: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The mean of each group 0..g-1, (g, d) float64, where labels (n,) use all of 0..g-1; -1 is left out."""
    order = np.argsort(labels, kind="stable")
    order = order[labels[order] >= 0]
    if not len(order):
        return np.zeros((0, points.shape[1]))
    counts = np.bincount(labels[order])
    starts = np.cumsum(counts) - counts
    return np.add.reduceat(points[order].astype(np.float64), starts, axis=0) / counts[:, None]


def adjusted_rand(a: np.ndarray, b: np.ndarray) -> float:
    """Agreement of two labellings (n,) int of the same items: 1 the same, about 0 by chance. Noise is one label."""
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(a, b))


def _scorable(labels: np.ndarray) -> bool:
    return 2 <= len(np.unique(labels)) <= min(MOST_GROUPS, len(labels) - 1)
