"""What to label next: items that a classifier is unsure of, unlike one another and unlike what is labelled.

Uncertainty is one less the margin between the two likeliest classes (Scheffer et al. 2001). An item's worth is that,
times its distance in the embedding to the nearest that is labelled or chosen, greedily, as Sener and Savarese (Active
Learning for Convolutional Neural Networks: A Core-Set Approach, 2018) have it without the uncertainty.
"""

from __future__ import annotations

import numpy as np

from imagier.algorithms.novelty import unit


def uncertainty(shares: np.ndarray) -> np.ndarray:
    """Of shares (n, k), k at least 2: (n,) in [0, 1], 1 where the two likeliest are equally likely."""
    top = np.partition(shares, -2, axis=1)
    made: np.ndarray = 1 - (top[:, -1] - top[:, -2])
    return made


def choose(vectors: np.ndarray, unsure: np.ndarray, n: int, labelled: np.ndarray | None = None) -> np.ndarray:
    """Places of n items, the worthiest first. vectors (m, d); unsure (m,) in [0, 1]; labelled (l, d) vectors."""
    vectors = unit(vectors)
    n = min(n, len(vectors))
    far = np.full(len(vectors), 2.0)
    if labelled is not None and len(labelled):
        known = unit(labelled)
        for at in range(0, len(vectors), 1024):
            part = slice(at, at + 1024)
            far[part] = np.sqrt(np.maximum(0, 2 - 2 * (vectors[part] @ known.T).max(1)))
    weight = unsure + 1e-3  # where all is sure, what is farthest still comes first
    chosen: list[int] = []
    for _ in range(n):
        worth = weight * far
        worth[chosen] = -1
        at = int(worth.argmax())
        chosen.append(at)
        far = np.minimum(far, np.sqrt(np.maximum(0, 2 - 2 * (vectors @ vectors[at]))))
    return np.array(chosen, dtype=np.int64)
