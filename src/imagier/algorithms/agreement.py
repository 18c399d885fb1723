"""How far two labellings of the same items agree, and which items lie far from every centroid.

Adjusted Rand index: Hubert & Arabie (1985). Normalised mutual information: Strehl & Ghosh (2002), over the mean of the
two entropies. Purity: Manning, Raghavan & Schütze (2008), section 16.3. Epsilon squared: Kelley (1935).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imagier.algorithms import scores
from imagier.algorithms.groups import from_points
from imagier.algorithms.neighbours import nearest

MOST_SUSPECTS = 20
SHARE_SUSPECTS = 10
"""No more than one item in so many is a suspect."""
SUSPECT_RULE = (
    "In each clustering: the distance of an item to the nearest of the groups' centroids, that of its own group taken "
    "without the item itself, as a quantile over the clustering's items. Farthest from every group are the items whose "
    f"smallest quantile over all clusterings is largest: the first {MOST_SUSPECTS}, and at most one item in "
    f"{SHARE_SUSPECTS}."
)


@dataclass(frozen=True)
class Agreement:
    """How far a labelling agrees with another that is taken for true."""

    items: int
    ari: float | None
    """Adjusted Rand index: 1 the same, about 0 by chance. None where the true labels have fewer than two values."""
    nmi: float | None
    """Normalised mutual information in [0, 1]. None where the true labels have fewer than two values."""
    purity: float | None
    """The share of items whose true label is the commonest of their group, in (0, 1]; None of no items. It grows with
    the number of groups."""


def agreement(labels: np.ndarray, truth: np.ndarray) -> Agreement:
    """Labels (n,) int against true labels (n,) int. Every label counts as a group, -1 (noise) too."""
    from sklearn.metrics import normalized_mutual_info_score

    if len(np.unique(truth)) < 2:
        return Agreement(len(labels), None, None, purity(labels, truth))
    ari = scores.adjusted_rand(truth, labels)
    nmi = float(normalized_mutual_info_score(truth, labels))
    return Agreement(len(labels), ari, nmi, purity(labels, truth))


def purity(labels: np.ndarray, truth: np.ndarray) -> float | None:
    """The share of items whose true label is the commonest of their group; None of no items. Both (n,) int."""
    if not len(labels):
        return None
    names, group = np.unique(labels, return_inverse=True)
    values, value = np.unique(truth, return_inverse=True)
    # Of pairs that occur alone: a table of groups by values could be millions of cells for some thousand items.
    pairs, counts = np.unique(group * len(values) + value, return_counts=True)
    most = np.zeros(len(names), np.int64)
    np.maximum.at(most, pairs // len(values), counts)
    return float(most.sum() / len(labels))


def explained(labels: np.ndarray, values: np.ndarray) -> float | None:
    """The share of the variance of values (n,) that groups by labels (n,) int account for: epsilon squared.

    1 where every group has one value; about 0 by chance, however many groups there are, so that it can be below 0.
    None where values do not differ, or every item has a group of its own.
    """
    _, group, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if len(values) <= len(sizes) or np.ptp(values) == 0:
        return None
    means = np.bincount(group, values) / sizes
    within = float(((values - means[group]) ** 2).sum()) / (len(values) - len(sizes))
    return 1 - within / float(np.var(values, ddof=1))


def contingency(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """How often each pair occurs: rows (n,) int in 0..r-1 and columns (n,) int in 0..c-1 give (r, c) int64."""
    return np.bincount(rows * shape[1] + columns, minlength=shape[0] * shape[1]).reshape(shape)


def pairwise(labellings: Sequence[np.ndarray], known: Sequence[np.ndarray]) -> np.ndarray:
    """The adjusted Rand index of every two of m labellings: (m, m) float64, 1 on the diagonal, symmetric.

    labellings: m times (n,) int; known: m times (n,) bool. A pair is compared over the items known in both; NaN where
    there are none.
    """
    found = np.eye(len(labellings))
    for i in range(len(labellings)):
        for j in range(i):
            both = known[i] & known[j]
            value = scores.adjusted_rand(labellings[i][both], labellings[j][both]) if both.any() else np.nan
            found[i, j] = found[j, i] = value
    return found


def nearest_centroid(points: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Distance of each point (n, d) to the nearest group's centroid, its own group's taken without it: (n,) float64.

    labels (n,) int, -1 for noise. An item that has a group for itself is measured against the others, else any outlier
    with a group of its own would lie at 0. NaN where there is no centroid but its own.
    """
    numbers, group, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    real = numbers >= 0
    if not real.any():
        return np.full(len(labels), np.nan)
    inside = labels >= 0
    middles = scores.centroids(points[inside], group[inside] - int((~real).sum()))
    index, apart = nearest(points, middles, 2)
    own = np.where(inside, group - int((~real).sum()), -1)
    is_own = index == own[:, None]
    other = np.where(is_own, np.inf, apart).min(axis=1)
    size = np.where(inside, sizes[group], 0)
    # The mean without x is (n m - x) / (n - 1), so x lies n / (n - 1) times as far from it as from the mean m.
    away = from_points(points, middles[np.maximum(own, 0)]) * size / np.maximum(size - 1, 1)
    found = np.minimum(other, np.where(size > 1, away, np.inf))
    return np.where(np.isfinite(found), found, np.nan)


def quantiles(values: np.ndarray) -> np.ndarray:
    """The share of the other values that are smaller, ties counting half: (n,) float64 in [0, 1], NaN for NaN."""
    from scipy.stats import rankdata

    found = np.full(len(values), np.nan)
    known = ~np.isnan(values)
    if known.sum() > 1:
        found[known] = (rankdata(values[known]) - 1) / (known.sum() - 1)
    return found


def farthest(outside: Sequence[np.ndarray]) -> np.ndarray:
    """Rows of the suspects by SUSPECT_RULE, the first the farthest. outside: m times (n,), quantiles, NaN for unknown.

    Of equals those with the larger mean quantile come first, then the earlier rows. An item that no clustering knows is
    never one.
    """
    table = np.stack([np.asarray(each, np.float64) for each in outside])
    known = ~np.isnan(table)
    counts = known.sum(axis=0)
    rows = np.flatnonzero(counts)
    least = np.where(known, table, np.inf).min(axis=0)[rows]
    mean = np.where(known, table, 0).sum(axis=0)[rows] / counts[rows]
    order = np.lexsort((rows, -mean, -least))
    most = min(MOST_SUSPECTS, len(rows) // SHARE_SUSPECTS)
    return np.asarray(rows[order][:most], np.int64)
