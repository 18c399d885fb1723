"""UMAP: a map whose distances follow each point's own neighbourhood.

McInnes, Healy & Melville, "UMAP: Uniform Manifold Approximation and Projection for Dimension Reduction" (2018),
arXiv:1802.03426. Three parts: the fuzzy graph of nearest neighbours (section 3.1), the curve that turns a distance on
the map into a membership (section 3.2), and stochastic gradient descent on the cross entropy of the two.

umap-learn is not used, though this follows it to the number in the graph and in law in the layout (the tests hold it to
the paper's equations): in every new process it compiles for some 15 seconds before the first map, and its import loads
TensorFlow where that is installed. Here the graph is plain numpy, and the one loop that has to be compiled is kept on
disk by numba: a machine compiles it once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from imagier.algorithms._compiled import machine_code

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

FLOOR = 1e-3
"""The least width of a neighbourhood, as a share of the mean distance in it (umap-learn's MIN_K_DIST_SCALE)."""

SIDE = 10.0
"""The side of the box that the layout starts in: the step sizes are made for it."""


def fuzzy_graph(index: np.ndarray, distances: np.ndarray) -> csr_matrix:
    """Membership of every pair of points in one another's neighbourhood: symmetric, sparse (n, n) float64 in [0, 1].

    index (n, k) int and distances (n, k): of each point, its k nearest other points, nearest first.

    A point's nearest neighbour that is no copy of it (rho) has membership 1, and the width (sigma) of what lies beyond
    is chosen so that the memberships of a point add up to log2(k + 1); a pair's two memberships are joined as
    a + b - ab. (k + 1: the point itself is counted a neighbour of its own, as in the paper's algorithm 3.)
    """
    from scipy.sparse import csr_matrix

    n, k = index.shape
    distances = distances.astype(np.float64)
    nearest = np.where(distances > 0, distances, np.inf).min(axis=1)
    rho = np.where(np.isfinite(nearest), nearest, 0.0)
    beyond = np.maximum(distances - rho[:, None], 0)
    sigma = _widths(beyond, np.log2(k + 1))
    mean = distances.sum(axis=1) / (k + 1)
    sigma = np.maximum(sigma, FLOOR * np.where(rho > 0, mean, mean.mean()))
    strength = np.exp(-beyond / np.where(sigma > 0, sigma, 1.0)[:, None])
    one_way = csr_matrix((strength.ravel(), index.ravel(), np.arange(0, n * k + 1, k)), shape=(n, n))
    other = one_way.T.tocsr()
    return (one_way + other - one_way.multiply(other)).tocsr()


def _widths(beyond: np.ndarray, target: float) -> np.ndarray:
    """Of each row, sigma with sum(exp(-beyond / sigma)) = target: (n,), by bisection of all rows at once."""
    low, high = np.zeros(len(beyond)), np.full(len(beyond), np.inf)
    sigma = np.ones(len(beyond))
    for _ in range(64):
        total = np.exp(-beyond / sigma[:, None]).sum(axis=1)
        open_ = np.abs(total - target) >= 1e-5
        if not open_.any():
            break
        wide = total > target
        high = np.where(open_ & wide, sigma, high)
        low = np.where(open_ & ~wide, sigma, low)
        middle = np.where(np.isinf(high), np.minimum(sigma * 2, 1e30), (low + np.minimum(high, 1e30)) / 2)
        sigma = np.where(open_, np.maximum(middle, 1e-30), sigma)
    return sigma


def curve(min_distance: float) -> tuple[float, float]:
    """a and b of 1 / (1 + a d^(2b)), fitted to 1 up to `min_distance` and exp(-(d - min_distance)) beyond it."""
    from scipy.optimize import curve_fit

    d = np.linspace(0, 3, 300)
    wanted = np.where(d < min_distance, 1.0, np.exp(-(d - min_distance)))
    (a, b), _ = curve_fit(lambda x, a, b: 1 / (1 + a * x ** (2 * b)), d, wanted, p0=(1.0, 1.0))
    return float(a), float(b)


def layout(graph: csr_matrix, start: np.ndarray, *, min_distance: float, epochs: int, seed: int) -> np.ndarray:
    """Places of the points of a fuzzy graph: (n, dims) float32. The same seed gives the same places.

    start (n, dims): where they begin, in any unit; each axis is stretched to [0, 10], and copies are set a hair apart.
    """
    random = np.random.default_rng(seed)
    start = start / max(float(np.abs(start).max()), 1e-30) * SIDE + random.normal(scale=1e-4, size=start.shape)
    start = start - start.min(axis=0)
    places = np.ascontiguousarray(start / start.max(axis=0) * SIDE, np.float32)
    edges = graph.tocoo()
    kept = edges.data >= edges.data.max() / epochs  # a weaker pair would never have its turn
    periods = edges.data.max() / edges.data[kept]
    heads, tails = edges.row[kept].astype(np.int32), edges.col[kept].astype(np.int32)
    a, b = curve(min_distance)
    compiled_descent()(places, heads, tails, periods, np.float32(a), np.float32(b), epochs, np.uint64(seed))
    return places


def compiled_descent() -> Callable[..., Any]:
    """The layout's loop as machine code."""
    return machine_code(_descent, "void(f4[:,::1], i4[::1], i4[::1], f8[::1], f4, f4, i8, u8)", fastmath=True)


def _descent(places, heads, tails, periods, a, b, epochs, seed):  # type: ignore[no-untyped-def]
    """Moves `places`, in place. An edge has its turn every `periods` epochs, and five random points repel it each turn.

    The cross entropy's gradient, with d the distance on the map (arXiv:1802.03426, appendix C):
    attraction -2ab d^(2b-2) / (1 + a d^2b), repulsion 2b / ((0.001 + d^2)(1 + a d^2b)), each clipped to [-4, 4].
    """
    n, dims = places.shape
    due, repelled = periods.copy(), periods / 5
    state = np.uint64(seed)
    for epoch in range(epochs):
        rate = np.float32(1 - epoch / epochs)
        for edge in range(len(periods)):
            if due[edge] > epoch:
                continue
            head, tail = heads[edge], tails[edge]
            square = np.float32(0)
            for axis in range(dims):
                square += (places[head, axis] - places[tail, axis]) ** 2
            if square > 0:
                power = square**b
                pull = np.float32(-2) * a * b * power / (square * (a * power + np.float32(1)))
                for axis in range(dims):
                    step = pull * (places[head, axis] - places[tail, axis])
                    step = min(max(step, np.float32(-4)), np.float32(4)) * rate
                    places[head, axis] += step
                    places[tail, axis] -= step
            due[edge] += periods[edge]
            turns = int((epoch - repelled[edge]) / (periods[edge] / 5))
            for _ in range(turns):
                state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
                other = ((state >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32)
                square = np.float32(0)
                for axis in range(dims):
                    square += (places[head, axis] - places[other, axis]) ** 2
                if square > 0:
                    push = np.float32(2) * b / ((np.float32(0.001) + square) * (a * square**b + np.float32(1)))
                    for axis in range(dims):
                        step = push * (places[head, axis] - places[other, axis])
                        places[head, axis] += min(max(step, np.float32(-4)), np.float32(4)) * rate
            repelled[edge] += turns * (periods[edge] / 5)
