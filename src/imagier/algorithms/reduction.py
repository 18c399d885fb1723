"""Many numbers per item to few: principal components, and the two maps that keep neighbours together.

A map is bent to its own points, so a new point is not computed but laid among the places of its nearest neighbours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from imagier.algorithms import umap
from imagier.algorithms.neighbours import nearest

EXACT = 20_000
"""Up to this many points neighbours are exact; beyond it Annoy's trees find nearly all of them, in less time."""

FEWEST = 5
"""With fewer points than this there are no neighbourhoods to keep, and a map is that of the principal components."""


@dataclass(frozen=True)
class Components:
    """Principal components of some points, strongest first."""

    mean: np.ndarray
    """(d,) float64."""
    axes: np.ndarray
    """(m, d) float64, orthonormal; the largest entry of each is positive, so that a map is never mirrored by chance."""
    variance: np.ndarray
    """(m,) float64: of the points along each axis, in their own unit squared."""
    total: float
    """The variance of the points along all axes there are."""

    @property
    def ratios(self) -> np.ndarray:
        """(m,) float64: the share of the total variance that each axis explains; 0 where all points are one."""
        return self.variance / self.total if self.total > 0 else np.zeros_like(self.variance)


@dataclass(frozen=True)
class Map:
    """Points laid out in two or three dimensions."""

    places: np.ndarray
    """(n, dimensions) float32."""
    neighbours: int
    """How many of each point's nearest others the map was made to keep."""
    divergence: float | None = None
    """t-SNE's Kullback-Leibler divergence (natural logarithm); comparable only between maps of one perplexity."""


def principal_components(points: np.ndarray, count: int) -> Components:
    """The `count` strongest principal components of points (n, d), or as many as n points have (at most n - 1).

    By the eigenvectors of the covariance, or of the points' inner products where that is smaller, in float64:
    exact, and the same on every run. Directions without variance are left out.
    """
    n, d = points.shape
    mean = points.mean(axis=0, dtype=np.float64) if n else np.zeros(d)
    if n < 2 or d == 0:
        return Components(mean, np.zeros((0, d)), np.zeros(0), 0.0)
    if n <= d:
        centred = points - mean
        values, vectors = np.linalg.eigh(centred @ centred.T)
    else:
        scatter = np.zeros((d, d))
        for start in range(0, n, 4096):
            block = points[start : start + 4096] - mean
            scatter += block.T @ block
        values, vectors = np.linalg.eigh(scatter)
    total = float(np.maximum(values, 0).sum())
    # Below this the values are rounding: of float64 in the product, and of float32 in points far from the origin.
    least = max(total * 1e-12, n * float(np.square(mean).sum()) * 2e-15)
    strongest = [at for at in np.argsort(-values, kind="stable")[:count] if values[at] > least]
    variance, axes = values[strongest] / (n - 1), vectors[:, strongest].T
    if n <= d:
        axes = (axes @ centred) / np.sqrt(values[strongest])[:, None]
    largest = np.abs(axes).argmax(axis=1)
    axes = axes * np.sign(np.take_along_axis(axes, largest[:, None], axis=1))
    return Components(mean, axes, variance, total / (n - 1))


def project(points: np.ndarray, mean: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Points (n, d) along the axes (m, d): (n, m) float32."""
    values: np.ndarray = ((points - mean) @ axes.T).astype(np.float32)
    return values


def is_flat(points: np.ndarray) -> bool:
    """Whether there is nothing to map: fewer than `FEWEST` points, or all of them copies of one."""
    return len(points) < FEWEST or bool((points == points[0]).all())


def umap_map(points: np.ndarray, *, dimensions: int, neighbours: int, min_distance: float, seed: int) -> Map:
    """UMAP of points (n, d), not flat. `neighbours` counts the point itself, as in the paper, and at most all n.

    It starts from the principal components: they keep far apart what lies far apart (Kobak & Linderman 2021,
    doi:10.1038/s41587-020-00809-z), and serve a graph in several pieces, where the spectral start does not.
    """
    neighbours = min(neighbours, len(points))
    index, distances = _neighbours(points, neighbours - 1, seed)
    graph = umap.fuzzy_graph(index, distances)
    start = _start(points, dimensions)
    epochs = 500 if len(points) <= 10_000 else 200
    places = umap.layout(graph, start, min_distance=min_distance, epochs=epochs, seed=seed)
    return Map(places, neighbours)


def tsne_map(points: np.ndarray, *, dimensions: int, perplexity: float, exaggeration: float, seed: int) -> Map:
    """t-SNE of points (n, d), not flat (van der Maaten & Hinton 2008, JMLR 9:2579), by openTSNE.

    `perplexity` must be at most (n - 1) / 3. Barnes-Hut in three dimensions and below 10,000 points, interpolation
    beyond. On one thread: several give the same map, but wait for one another by spinning, and on a machine that has
    other work to do two took two to three times as long as one.
    """
    import openTSNE
    from openTSNE.affinity import PerplexityBasedNN
    from openTSNE.nearest_neighbors import PrecomputedNeighbors

    index, distances = _neighbours(points, min(len(points) - 1, math.ceil(3 * perplexity - 1e-9)), seed)
    near = PrecomputedNeighbors(index, distances)
    affinities = PerplexityBasedNN(perplexity=perplexity, knn_index=near, n_jobs=1)
    start = _start(points, dimensions)
    start = start / start[:, 0].std() * 1e-4
    start += np.random.default_rng(seed).normal(scale=1e-6, size=start.shape)  # copies must not start in one place
    method = openTSNE.TSNE(
        n_components=dimensions,
        exaggeration=exaggeration,
        negative_gradient_method="bh" if dimensions == 3 or len(points) < 10_000 else "fft",
        n_jobs=1,
        random_state=seed,
    )
    fitted = method.fit(affinities=affinities, initialization=start)
    return Map(np.asarray(fitted, np.float32), index.shape[1], float(fitted.kl_divergence))


def trustworthiness(points: np.ndarray, places: np.ndarray, *, sample: int = 1000, seed: int = 0) -> float | None:
    """How far the map's neighbours are neighbours among the points too: in [0, 1], None for fewer than 5 points.

    Venna & Kaski 2001, of the 5 nearest neighbours (fewer for fewer than 12 points), among a drawn `sample` where
    there are more points than that.
    """
    from sklearn.manifold import trustworthiness as trust

    n = len(points)
    if n > sample:
        drawn = np.sort(np.random.default_rng(seed).choice(n, sample, replace=False))
        points, places = points[drawn], places[drawn]
    k = min(5, (len(points) - 1) // 2)
    return float(trust(points, places, n_neighbors=k)) if n >= 5 else None


def place_among(points: np.ndarray, fitted: np.ndarray, places: np.ndarray, k: int = 5) -> np.ndarray:
    """Where new points (m, d) belong on a map: (m, dims) float32.

    fitted (n, d) are the points the map was made of, places (n, dims) where they lie. A new point lies at the mean of
    its k nearest ones' places, weighted by one over their distance; on a copy of it, exactly where that lies (the
    first, where there are several). On a map of no points, at 0.
    """
    index, distances = nearest(points, fitted, k)
    if index.shape[1] == 0:
        return np.zeros((len(points), places.shape[1]), np.float32)
    weights = 1 / np.maximum(distances, 1e-300)
    weights /= weights.max(axis=1, keepdims=True)
    weights /= weights.sum(axis=1, keepdims=True)
    found: np.ndarray = np.einsum("mk,mkd->md", weights, places[index].astype(np.float64))
    hit = distances[:, 0] == 0
    found[hit] = places[index[hit, 0]]
    return np.asarray(found, np.float32)


def _start(points: np.ndarray, dimensions: int) -> np.ndarray:
    """The points along their principal components: (n, dimensions) float64, 0 where they have fewer."""
    found = principal_components(points, dimensions)
    start = np.zeros((len(points), dimensions))
    start[:, : len(found.axes)] = project(points, found.mean, found.axes)
    return start


def _neighbours(points: np.ndarray, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest other points of each: indices (n, k) int64 and distances (n, k) float64, nearest first."""
    if len(points) <= EXACT:
        return nearest(points, points, k, leave_self=True)
    from openTSNE.nearest_neighbors import Annoy

    # Annoy looks the longer the more are asked for: with 30 over, it finds 99 % of 14 neighbours where it found 86 %.
    index, distances = Annoy(points, min(k + 30, len(points) - 1), random_state=seed).build()
    return index[:, :k].astype(np.int64), distances[:, :k]
