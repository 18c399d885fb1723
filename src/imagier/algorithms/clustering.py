"""Four ways to group points: k-means, DBSCAN, HDBSCAN, agglomerative. Each a function of points and a seed.

What a method is not told it finds: the number of groups by the silhouette (with the inertia's elbow beside it), the
radius by the knee of the k-distance curve. No method holds n x n values past 5,000 items.

All take points (n, d) float and a seed, and give a `Clustering`. Fewer than two different points are one group.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from imagier.algorithms import knee, scores
from imagier.algorithms.neighbours import distances, k_distances, nearest, squared_tiles
from imagier.algorithms.verdict import separation, uniform_like

Linkage = Literal["ward", "average", "complete", "single"]

K_SAMPLE = 2000
"""Items on which the number of groups is chosen; of fewer, all."""
CLOSE = 0.1
"""The share of the best by which another number of groups may fall behind it and still be taken."""
EQUAL = 0.01
"""Silhouettes that differ by no more are taken for equal."""
PLAIN, PLAIN_DRAWS = 500, 4
"""Items of a data set without groups that the choice is measured against, and how many of these are drawn."""
STARTS = 10
"""Random starts of k-means, of which the best is kept."""
TREE = 5000
"""Items that a merge tree, which needs all their distances (100 MB), is built over."""
CENTRES = 2000
"""Centres that more items than that are first gathered into."""
DENSITY = 10_000
"""Items that HDBSCAN, whose time grows with their square, is run on; the others join their nearest neighbour."""
KNEE_SAMPLE = 10_000
"""Items whose k-distance is measured for the knee; their neighbours are sought among all."""


@dataclass(frozen=True)
class Clustering:
    """What a method made of n points."""

    labels: np.ndarray
    """(n,) int64: group 0.. in no particular order, -1 noise."""
    core: np.ndarray | None = None
    """(n,) bool: DBSCAN's core points."""
    eps: float | None = None
    """DBSCAN's radius."""
    choice: dict[str, Any] | None = None
    """How the number of groups was chosen, where it was: JSON values."""
    knee: dict[str, Any] | None = None
    """How eps was chosen, where it was: JSON values."""
    notes: tuple[str, ...] = ()
    """What was approximated, and rules that filled in for a setting not given, in sentences."""


def kmeans(points: np.ndarray, seed: int, *, k: int | None = None, k_max: int = 15, starts: int = STARTS) -> Clustering:
    """k-means (Lloyd 1982; k-means++, Arthur & Vassilvitskii 2007): the best of so many random starts.

    Without `k`, every k of 2..k_max is tried on up to 2,000 items, and the one taken whose silhouette stands out
    most from that of data without groups.
    """
    places = different(points, max(k or 0, k_max) + 1)
    if places < 2:
        return _one_group(points)
    if k is not None:
        return Clustering(_kmeans(points, min(k, places), seed, starts)[0], notes=_fewer(k, places))
    sample, notes = _sampled(points, K_SAMPLE, seed, "the number of groups was chosen on")
    apart = distances(sample, sample)
    ks = list(range(2, min(k_max, different(sample, k_max + 1), max(len(sample) - 1, 2)) + 1))
    if len(ks) == 0:  # the sample shows a single place: a k beyond what it can tell is not tried
        return _one_group(points)
    runs = [_kmeans(sample, tried, seed, starts) for tried in ks]
    plain = _without_groups(sample, lambda data: [_kmeans(data, tried, seed, 1)[0] for tried in ks], seed)
    choice = _choice(ks, [_rounded(scores.matrix_silhouette(apart, labels)) for labels, _ in runs], plain)
    inertia = [float(f"{value:.6g}") for _, value in runs]
    bend = knee.elbow(np.array(ks), np.array([value for _, value in runs]))
    choice |= {"inertia": inertia, "elbow": bend, "why": choice["why"] + _elbow_says(bend, choice["chosen"])}
    labels = runs[ks.index(choice["chosen"])][0] if len(sample) == len(points) else None
    if labels is None:
        labels = _kmeans(points, choice["chosen"], seed, starts)[0]
    return Clustering(labels, choice=choice, notes=notes)


def dbscan(points: np.ndarray, seed: int, *, eps: float | None = None, min_samples: int | None = None) -> Clustering:
    """DBSCAN (Ester, Kriegel, Sander & Xu 1996): groups are core points within eps of one another, and their rims.

    A core point has `min_samples` points within eps, itself among them; not given, twice the number of dimensions
    (Sander et al. 1998), but no fewer than 5 and no more than 10. Without `eps`, a knee of the k-distance curve: of
    those that come into question the one at which the groups are farthest apart (above 10,000 items the likeliest one).
    A point on the rim of two groups goes to that of its nearest core point, so that no order of the points matters.
    """
    notes: tuple[str, ...] = ()
    if min_samples is None:
        min_samples = int(np.clip(2 * points.shape[1], 5, 10))
        notes = (f"min_samples was not given: twice the dimensions, between 5 and 10, is {min_samples}.",)
    if different(points, 2) < 2:
        return _one_group(points)
    found = None
    if eps is None:
        rows = None
        if len(points) > KNEE_SAMPLE:
            rows = _drawn(len(points), KNEE_SAMPLE, seed)
            notes += (f"the k-distance curve was measured on {KNEE_SAMPLE} items drawn at random.",)
        bends = knee.k_distance_knees(k_distances(points, min_samples - 1, rows), points.shape[1])
        bend, others = bends[0], ""
        if rows is None and len(bends) > 1:
            apart = [separation(points, _density_groups(points, each.eps, min_samples)[0], seed) for each in bends]
            bend = bends[int(np.argmax(apart))]
            others = f". Of {len(bends)} radii read off the curve, the groups are farthest apart at this one"
        eps = bend.eps
        found = {
            "distances": [float(f"{value:.6g}") for value in bend.curve],
            "neighbour": min_samples - 1,
            "eps": eps,
            "position": bend.position,
            "why": bend.why + others,
        }
    labels, core = _density_groups(points, eps, min_samples)
    return Clustering(labels, core=core, eps=eps, knee=found, notes=notes)


def hdbscan(points: np.ndarray, seed: int, *, min_cluster_size: int | None = None, min_samples: int = 5) -> Clustering:
    """HDBSCAN (Campello, Moulavi & Sander 2013): the groups that persist over all densities.

    `min_cluster_size` not given: a fiftieth of the items, at least 5. Above 10,000 items a random 10,000 are grouped,
    and each other item joins its nearest of them.
    """
    from sklearn.cluster import HDBSCAN

    if different(points, 2) < 2:
        return _one_group(points)
    sample, notes = _sampled(points, DENSITY, seed, "the groups were found on")
    if min_cluster_size is None:
        min_cluster_size = max(5, len(points) // 50)
        notes += (f"min_cluster_size was not given: a fiftieth of the items, at least 5, is {min_cluster_size}.",)
    size = max(2, round(min_cluster_size * len(sample) / len(points)))
    if size > len(sample) or min_samples > len(sample):
        return Clustering(np.full(len(points), -1), notes=(*notes, "there are fewer items than a group must have."))
    model = HDBSCAN(min_cluster_size=size, min_samples=min_samples, copy=True)
    labels = model.fit(sample.astype(np.float64)).labels_.astype(np.int64)
    if len(sample) < len(points):
        labels = labels[nearest(points, sample, 1)[0][:, 0]]
    return Clustering(labels, notes=notes)


def agglomerative(
    points: np.ndarray,
    seed: int,
    *,
    linkage: Linkage = "ward",
    k: int | None = None,
    distance_threshold: float | None = None,
    k_max: int = 15,
) -> Clustering:
    """Agglomerative clustering: the nearest two are merged, again and again, into one tree, which is then cut.

    Cut into `k` groups, or where merges reach `distance_threshold`, or, without either, into the number of groups
    2..k_max whose silhouette stands out most from that of data without groups. Above 5,000 items, k-means first gathers
    them into 2,000 centres, and the tree is over the centres, each counted once.
    """
    from scipy.cluster.hierarchy import fcluster
    from scipy.cluster.hierarchy import linkage as merges

    places = different(points, max(k or 0, k_max) + 1)
    if places < 2:
        return _one_group(points)
    leaves, leaf = points.astype(np.float64), np.arange(len(points))
    notes: tuple[str, ...] = ()
    if len(points) > TREE:
        leaf, leaves = _gathered(points, seed)
        notes = (f"above {TREE} items the merge tree is over {len(leaves)} k-means centres, each counted once.",)
    tree = merges(leaves, method=linkage)
    if distance_threshold is not None:
        return Clustering(fcluster(tree, distance_threshold, "distance")[leaf] - 1, notes=notes)
    if k is not None:
        notes += _fewer(k, places)
        return Clustering(fcluster(tree, k, "maxclust")[leaf] - 1, notes=notes)
    rows = _drawn(len(points), K_SAMPLE, seed)
    if len(rows) < len(points):
        notes += (f"the number of groups was chosen on {len(rows)} items drawn at random.",)
    apart = distances(points[rows], points[rows])
    ks = list(range(2, min(k_max, places, max(len(points) - 1, 2)) + 1))
    cuts = [fcluster(tree, tried, "maxclust")[leaf] - 1 for tried in ks]

    def cut_anew(data: np.ndarray) -> list[np.ndarray]:
        other = merges(data, method=linkage)
        return [fcluster(other, tried, "maxclust") - 1 for tried in ks]

    plain = _without_groups(points[rows], cut_anew, seed)
    choice = _choice(ks, [_rounded(scores.matrix_silhouette(apart, cut[rows])) for cut in cuts], plain)
    return Clustering(cuts[ks.index(choice["chosen"])], choice=choice, notes=notes)


def repeated(
    method: str, settings: Mapping[str, Any], groups: int, *, starts: int = STARTS
) -> Callable[[np.ndarray, int, float], np.ndarray]:
    """The same method for other points: points (m, d), a seed, and m as a share of the items, to labels (m,).

    The number of groups is held at `groups`; eps, where it was not given, is found anew. Sizes and counts that were
    given shrink with the share of the items (a fixed radius holds fewer of fewer points). `starts` is for k-means.
    """
    own = dict(settings)
    if method == "kmeans":
        own |= {"starts": starts}
    if "k" in own:
        own |= {"k": max(groups, 2)}
    if "distance_threshold" in own:
        own |= {"distance_threshold": None}

    def again(points: np.ndarray, seed: int, share: float) -> np.ndarray:
        scaled = dict(own)
        if scaled.get("min_cluster_size") is not None:
            scaled["min_cluster_size"] = max(2, round(scaled["min_cluster_size"] * share))
        if scaled.get("eps") is not None and scaled["min_samples"] is not None:
            scaled["min_samples"] = max(2, round(scaled["min_samples"] * share))
        return METHODS[method](points, seed, **scaled).labels

    return again


def different(points: np.ndarray, most: int) -> int:
    """The number of different points, counted up to `most`."""
    seen: set[bytes] = set()
    for point in points:
        seen.add(point.tobytes())
        if len(seen) >= most:
            break
    return len(seen)


def _kmeans(points: np.ndarray, k: int, seed: int, starts: int) -> tuple[np.ndarray, float]:
    """Labels (n,) int64 and the inertia.

    On one thread: sums then never depend on how many there are, and runs this short are several times slower on two.
    """
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        model = KMeans(n_clusters=k, n_init=starts, random_state=seed).fit(points.astype(np.float64))
    return model.labels_.astype(np.int64), float(model.inertia_)


def _gathered(points: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The centre of each point (n,) int64, and the centres (m, d), by a few turns of k-means."""
    rows = _drawn(len(points), CENTRES, seed)
    centres = np.unique(points[rows].astype(np.float64), axis=0)
    for _ in range(5):
        leaf = nearest(points, centres, 1)[0][:, 0]
        leaf = np.unique(leaf, return_inverse=True)[1]
        centres = scores.centroids(points, leaf)
    return leaf, centres


def _density_groups(points: np.ndarray, eps: float, min_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """DBSCAN's labels (n,) int64 and core points (n,) bool; distances a tile at a time, pairs never kept."""
    bound = (eps * (1 + 1e-9)) ** 2  # eps is often the distance of two items: rounding must not part them
    count = np.zeros(len(points), np.int64)
    for rows, _, tile in squared_tiles(points, points):
        count[rows] += (tile <= bound).sum(axis=1)
    core = count >= min_samples
    labels = np.full(len(points), -1)
    inner = np.flatnonzero(core)
    labels[inner] = _components(points[inner], bound)
    rim = np.flatnonzero(~core)
    if len(inner) and len(rim):
        index, apart = nearest(points[rim], points[inner], 1)
        near = apart[:, 0] ** 2 <= bound
        labels[rim[near]] = labels[inner[index[near, 0]]]
    return labels, core


def _components(points: np.ndarray, bound: float) -> np.ndarray:
    """The connected components (n,) of the points whose squared distance is at most `bound`, numbered from 0."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    component = np.arange(len(points))
    for rows, columns, tile in squared_tiles(points, points, upper=True):
        row, column = np.nonzero(tile <= bound)
        a, b = component[row + rows.start], component[column + columns.start]
        apart = a != b
        if apart.any():
            a, b = a[apart], b[apart]
            size = int(component.max()) + 1
            links = coo_array((np.ones(len(a), bool), (a, b)), shape=(size, size))
            component = connected_components(links, directed=False)[1][component]
    return component


def _without_groups(points: np.ndarray, cluster: Callable[[np.ndarray], list[np.ndarray]], seed: int) -> list[float]:
    """The mean silhouette that `cluster` (points -> labels for every k that is tried) gets of data without groups.

    Uniform, of the same spread along each principal axis: as the gap statistic compares inertias (Tibshirani, Walther &
    Hastie 2001).
    """
    size = min(len(points), PLAIN)
    drawn = []
    for turn in range(PLAIN_DRAWS):
        data = uniform_like(points, size, np.random.default_rng([seed, 3, turn]))
        apart = distances(data, data)
        drawn.append([scores.matrix_silhouette(apart, labels) or 0.0 for labels in cluster(data)])
    return [round(float(value), 6) for value in np.mean(drawn, axis=0)]


def _choice(ks: list[int], found: list[float | None], plain: list[float]) -> dict[str, Any]:
    """How many groups to make, and why, in sentences.

    Few groups have a high silhouette by themselves: any cloud cut in two has. So what counts is how much of the way
    from the silhouette of data without groups to 1 the items' own has gone. Of the k that come within a tenth of the
    best in that, the smallest whose silhouette is within 0.01 of the highest.
    """
    known = np.array([-1.0 if value is None else value for value in found])
    way = (known - np.array(plain)) / (1 - np.array(plain))
    close = way >= way.max() - CLOSE * abs(way.max())
    at = int(np.argmax(close & (known >= known[close].max() - EQUAL)))
    best = int(np.argmax(known))
    why = (
        f"{ks[at]} groups: of {ks[0]} to {ks[-1]}, the silhouette ({known[at]:.2f}) stands out most from that of data "
        f"without groups of the same spread ({plain[at]:.2f})."
    )
    if best != at:
        why += f" By itself it is highest at {ks[best]} ({known[best]:.2f}), but so it is there ({plain[best]:.2f})."
    return {
        "k": ks,
        "silhouette": found,
        "without_groups": plain,
        "silhouette_k": ks[best],
        "chosen": ks[at],
        "why": why,
    }


def _elbow_says(bend: int | None, chosen: int) -> str:
    if bend is None:
        return " The inertia has no elbow."
    if bend == chosen:
        return f" The elbow of the inertia is at {bend} too: they agree."
    return f" The elbow of the inertia is at {bend}: they do not agree, and the silhouette decides."


def _sampled(points: np.ndarray, most: int, seed: int, what: str) -> tuple[np.ndarray, tuple[str, ...]]:
    if len(points) <= most:
        return points, ()
    return points[_drawn(len(points), most, seed)], (f"{what} {most} items drawn at random.",)


def _drawn(n: int, most: int, seed: int) -> np.ndarray:
    """Up to `most` row numbers of n, ascending, none twice."""
    return np.arange(n) if n <= most else np.sort(np.random.default_rng(seed).choice(n, most, replace=False))


def _one_group(points: np.ndarray) -> Clustering:
    return Clustering(np.zeros(len(points), np.int64), notes=("all items are at one place: one group.",))


def _fewer(k: int, places: int) -> tuple[str, ...]:
    return (f"there are {places} different items, so no more groups than that.",) if places < k else ()


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


METHODS: dict[str, Callable[..., Clustering]] = {
    "kmeans": kmeans,
    "dbscan": dbscan,
    "hdbscan": hdbscan,
    "agglomerative": agglomerative,
}
