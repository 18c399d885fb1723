"""A few vectors that stand for many: no other lies far from all of them (Roth et al., Towards Total Recall in
Industrial Anomaly Detection, 2022, section 3.2), of a stream of any length in bounded memory.

Greedy k-centre (Gonzalez 1985) takes, again and again, the vector that lies farthest from all that were taken. It needs
all vectors at once. Of a stream, those are enough that lie farther from the centres so far than the radius within which
these cover all that came before; when they have become as many as the centres, both are thinned out together. What was
let go lies within a radius of a centre, each time, so that the cover stays good (Charikar et al., Incremental
Clustering and Dynamic Information Retrieval, 1997, for the same thought with a bound).
"""

from __future__ import annotations

import numpy as np

DIRECTIONS = 64
"""Of the random projection in which distances are taken here (Johnson & Lindenstrauss 1984)."""
BLOCK = 8192
"""Vectors of a stream that are looked at together."""


class Coreset:
    """Of vectors that come in parts, `size` at most. Memory: three times as many and BLOCK, whatever comes."""

    def __init__(self, size: int, seed: int = 0) -> None:
        self.size = size
        self.radius = 0.0
        """Distance, projected, within which the centres cover what was let go."""
        self.seed = seed
        self._kept: list[np.ndarray] = []
        self._held = 0
        self._centres = np.zeros((0, 0), np.float32)
        self._projection: np.ndarray | None = None

    def add(self, vectors: np.ndarray) -> None:
        """Take in vectors (n, d) of float32."""
        for at in range(0, len(vectors), BLOCK):
            self._add(np.ascontiguousarray(vectors[at : at + BLOCK], np.float32))

    def vectors(self) -> np.ndarray:
        """Those that stand for all, (m, d) float32: the first `size` of a greedy choice, the farthest first."""
        if self._held > self.size:
            self._thin()
        return np.concatenate(self._kept) if self._kept else np.zeros((0, 0), np.float32)

    def _add(self, vectors: np.ndarray) -> None:
        if self.radius:
            vectors = vectors[_nearest(self._shown(vectors), self._centres) > self.radius**2]
        if not len(vectors):
            return
        self._kept.append(vectors)
        self._held += len(vectors)
        if self._held > 2 * self.size:
            self._thin()

    def _thin(self) -> None:
        vectors = np.concatenate(self._kept)
        shown = self._shown(vectors)
        chosen, self.radius = farthest_first(shown, self.size, self.seed)
        self._kept, self._held, self._centres = [vectors[chosen]], len(chosen), shown[chosen]

    def _shown(self, vectors: np.ndarray) -> np.ndarray:
        width = vectors.shape[1]
        if width <= DIRECTIONS:
            return vectors
        if self._projection is None:
            drawn = np.random.default_rng(self.seed).standard_normal((width, DIRECTIONS))
            self._projection = (drawn / np.sqrt(DIRECTIONS)).astype(np.float32)
        made: np.ndarray = vectors @ self._projection
        return made


def farthest_first(vectors: np.ndarray, count: int, seed: int = 0) -> tuple[np.ndarray, float]:
    """Greedy k-centre of vectors (n, d): the places of `count` of them, (m,) int, and the distance within which each of
    the others lies from one of these."""
    vectors = np.ascontiguousarray(vectors, np.float32)
    count = min(count, len(vectors))
    if not count:
        return np.zeros(0, np.int64), 0.0
    chosen = np.empty(count, np.int64)
    chosen[0] = np.random.default_rng(seed).integers(len(vectors))
    squares = np.einsum("ij,ij->i", vectors, vectors)
    least = np.full(len(vectors), np.inf, np.float32)
    for at in range(count):
        centre = chosen[at]
        apart = vectors @ vectors[centre]
        apart *= -2
        apart += squares
        apart += squares[centre]
        np.minimum(least, apart, out=least)
        least[centre] = 0
        farthest = int(least.argmax())
        if at + 1 < count:
            if least[farthest] <= 0:
                chosen = chosen[: at + 1]  # the rest are copies
                break
            chosen[at + 1] = farthest
    return chosen, float(np.sqrt(max(0.0, least.max())))


def _nearest(vectors: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Squared distance of each vector to its nearest centre, (n,) float32."""
    import faiss

    found: np.ndarray = faiss.knn(vectors, centres, 1)[0][:, 0]
    return found
