"""What is said of each group of a clustering: its number, its middle, how tight it is, and who lies far out.

Groups are numbered by size, 0 the largest, -1 noise; or they keep the numbers they had, where they are the same
groups still. New items are given a group by those among whom they lie.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imagier.algorithms import scores
from imagier.algorithms.neighbours import ROWS, mean_distances, nearest

LEAST_JACCARD = 0.5
"""Shared items over all items of an old and a new group, from which on they are the same group. Two halvings of one
collection that have nothing to do with each other reach 1/3."""
CENTRAL = 9
"""The most central items named of each group."""
MOST_COHESION = 0.85
LEAST_SILHOUETTE = 0.15
VOTERS = 3
"""Nearest fitted items that vote on a new item's group."""
NEIGHBOURS = 5
"""Nearest fitted items that tell how far out an item lies."""
COHESION_RULE = (
    "Cohesion is the mean distance of a group's items to its centroid over the mean distance of all items to the "
    f"centroid of all. Quality is high when the clustering as a whole is good, cohesion is at most {MOST_COHESION}, "
    f"and the mean silhouette of the group's items is at least {LEAST_SILHOUETTE}; else it is low."
)
FAR_RULE = (
    f"An item is far when its mean distance to its {NEIGHBOURS} nearest fitted items lies beyond Q3 + 3 (Q3 - Q1) of "
    "that of the fitted items (Tukey's outer fence; exact copies, at distance 0, are left out of the quartiles)."
)


@dataclass(frozen=True)
class Group:
    """One group of the collection."""

    number: int
    size: int
    cohesion: float
    silhouette: float | None
    """Mean of its items; None where undefined."""
    central: np.ndarray
    """Rows of up to 9 items, nearest to the centroid first."""

    @property
    def tight(self) -> bool:
        """Whether it is tight and apart enough for quality "high", were the clustering as a whole good."""
        return self.cohesion <= MOST_COHESION and (self.silhouette or 0.0) >= LEAST_SILHOUETTE


def numbered(labels: np.ndarray, previous: np.ndarray | None = None) -> np.ndarray:
    """Labels (n,) int renumbered by size, 0 the largest (of equals, the one met first); -1 stays.

    `previous` (n,) float64, NaN where an item had no group yet: a group that shares enough items with an old one
    (Jaccard index, over the items that had a group or were noise, at least 0.5; the best assignment of all, Kuhn 1955)
    keeps its number. All others get numbers above every old one.
    """
    names, first, group, sizes = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    order = np.lexsort((first, -sizes))
    order = order[names[order] >= 0]
    number = np.full(len(names), -1, np.int64)
    old = np.full(len(labels), np.nan) if previous is None else previous
    kept = _kept(group, order, old)
    highest = int(np.nanmax(old)) if np.isfinite(old).any() else -1
    fresh = iter(range(max(highest, -1) + 1, max(highest, -1) + 1 + len(order)))
    for each in order:
        number[each] = kept[int(each)] if int(each) in kept else next(fresh)
    return number[group] if len(labels) else np.zeros(0, np.int64)


def _kept(group: np.ndarray, order: np.ndarray, old: np.ndarray) -> dict[int, int]:
    """New group (of those in `order`) -> the old number it keeps."""
    from scipy.optimize import linear_sum_assignment

    shared = ~np.isnan(old)
    numbers, before = np.unique(old[shared], return_inverse=True)
    if not len(order) or not (numbers >= 0).any():
        return {}
    after = group[shared]
    both = np.zeros((int(group.max()) + 1, len(numbers)))
    np.add.at(both, (after, before), 1)
    either = both.sum(axis=1, keepdims=True) + both.sum(axis=0) - both
    jaccard = np.divide(both, either, out=np.zeros_like(both), where=either > 0)
    jaccard = jaccard[order][:, numbers >= 0]
    rows, columns = linear_sum_assignment(np.where(jaccard >= LEAST_JACCARD, jaccard, 0), maximize=True)
    olds = numbers[numbers >= 0].astype(int)
    pairs = zip(rows, columns, strict=True)
    return {int(order[r]): int(olds[c]) for r, c in pairs if jaccard[r, c] >= LEAST_JACCARD}


def described(points: np.ndarray, labels: np.ndarray, silhouettes: np.ndarray) -> list[Group]:
    """Every group of numbered labels (n,), the largest first. points (n, d); silhouettes (n,), NaN where undefined."""
    if not len(points):
        return []
    spread = float(from_point(points, points.mean(axis=0, dtype=np.float64)).mean())
    found = []
    for number in np.unique(labels[labels >= 0]):
        rows = np.flatnonzero(labels == number)
        apart = from_point(points[rows], points[rows].mean(axis=0, dtype=np.float64))
        known = silhouettes[rows][~np.isnan(silhouettes[rows])]
        found.append(
            Group(
                number=int(number),
                size=len(rows),
                cohesion=float(apart.mean()) / spread if spread > 0 else 0.0,
                silhouette=float(known.mean()) if len(known) else None,
                central=rows[np.argsort(apart, kind="stable")[:CENTRAL]],
            )
        )
    return sorted(found, key=lambda group: (-group.size, group.number))


def centroids(points: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the groups, ascending (g,) int64, and their centroids (g, d) float64.

    Where all points are noise: no number, and one row, the mean of all.
    """
    numbers = np.unique(labels[labels >= 0])
    inside = labels >= 0
    if len(points) and not len(numbers):
        return numbers.astype(np.int64), points.mean(axis=0, dtype=np.float64)[None]
    return numbers.astype(np.int64), scores.centroids(points[inside], np.searchsorted(numbers, labels[inside]))


def to_centroids(points: np.ndarray, labels: np.ndarray, numbers: np.ndarray, middles: np.ndarray) -> np.ndarray:
    """Distance of each point to its own group's centroid, of noise to the nearest. (n,) float64.

    numbers (g,), ascending, and middles (g, d) as `centroids` gives them; NaN where there was no point at all.
    """
    if not len(middles):
        return np.full(len(points), np.nan)
    if not len(numbers):
        return from_point(points, middles[0])
    own = np.searchsorted(numbers, labels).clip(0, len(numbers) - 1)
    noise = labels < 0
    own[noise] = nearest(points[noise], middles, 1)[0][:, 0]
    return from_points(points, middles[own])


def from_point(points: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Distance of every point (n, d) to one (d,): (n,) float64."""
    return from_points(points, np.broadcast_to(point, points.shape))


def from_points(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Distance of every point (n, d) to the one in its row of others (n, d): (n,) float64, from differences."""
    found = np.empty(len(points))
    for start in range(0, len(points), ROWS):
        rows = slice(start, start + ROWS)
        apart = points[rows].astype(np.float64) - others[rows]
        found[rows] = np.sqrt(np.einsum("ij,ij->i", apart, apart))
    return found


def fence(points: np.ndarray) -> tuple[float, np.ndarray]:
    """How far out an item may lie, and which of the fitted points (n, d) lie farther: a distance, and (n,) bool.

    Q3 + 3 (Q3 - Q1) of the mean distances to the 5 nearest others (Tukey 1977, the outer fence), exact copies left
    out of the quartiles: a folder half of copies would call every other item far. Of no more than 5 points none is
    far, and no new item can be: the distance is infinite.
    """
    if len(points) <= NEIGHBOURS:
        return np.inf, np.zeros(len(points), bool)
    apart = mean_distances(points, points, NEIGHBOURS, leave_self=True)
    positive = apart[apart > 0]
    if not len(positive):
        return 0.0, np.zeros(len(points), bool)
    low, high = np.quantile(positive, [0.25, 0.75])
    bound = float(high + 3 * (high - low))
    return bound, apart > bound


def beyond(queries: np.ndarray, points: np.ndarray, bound: float) -> np.ndarray:
    """Whether new items (m, d) lie farther from the fitted points (n, d) than the fence: (m,) bool."""
    return mean_distances(queries, points, NEIGHBOURS) > bound if len(points) else np.zeros(len(queries), bool)


def voted(queries: np.ndarray, points: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The group of new items (m, d): the vote of the 3 nearest fitted points, weighted by 1 / distance^2.

    labels (n,) int of the points; noise has a vote too. A fitted copy of the item decides alone; of equal votes, the
    nearest does. (m,) int64, -1 where there are no points.
    """
    index, apart = nearest(queries, points, VOTERS)
    if not index.shape[1]:
        return np.full(len(queries), -1, np.int64)
    closest = apart[:, :1]
    weight = np.where(closest > 0, (closest / np.where(apart > 0, apart, 1)) ** 2, apart == 0)
    votes = labels[index]
    support = (weight[:, None, :] * (votes[:, :, None] == votes[:, None, :])).sum(axis=2)
    best = np.argmax(support > support.max(axis=1, keepdims=True) * (1 - 1e-9), axis=1)
    return np.asarray(np.take_along_axis(votes, best[:, None], axis=1)[:, 0], np.int64)


def reached(queries: np.ndarray, points: np.ndarray, labels: np.ndarray, core: np.ndarray, eps: float) -> np.ndarray:
    """The group of new items (m, d), (m,) int64, as DBSCAN has it: that of the nearest core point within eps, or -1."""
    found = np.full(len(queries), -1, np.int64)
    index, apart = nearest(queries, points[core], 1)
    if index.shape[1]:
        near = apart[:, 0] <= eps * (1 + 1e-9)
        found[near] = labels[core][index[near, 0]]
    return found
