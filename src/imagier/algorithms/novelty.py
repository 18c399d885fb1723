"""How strange an item is to a classifier: the score by which "none of the above" is said.

Three scores, each the larger, the stranger: the Mahalanobis distance to the nearest class (Lee et al., A Simple Unified
Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks, 2018), the distance to the k-th nearest of
what was learnt from (Sun et al., Out-of-Distribution Detection with Deep Nearest Neighbors, 2022), and the energy of
the logits (Liu et al., Energy-based Out-of-distribution Detection, 2020). Which one is taken is decided by images that
were not learnt from, each class in turn as if it were unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

NEIGHBOURS = 10
CHUNK = 1024
"""Items at a time."""
KEPT = 5000
"""Items learnt from that are kept for their distances; of more, so many at random."""
DIRECTIONS = 128
"""Of feature space, at most, that Mahalanobis distances are taken in."""
SHRINK = 0.1
"""Share of the mean variance in the covariance, so that directions that hardly vary do not decide alone."""


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (n, d) at length 1, float32; one that is zero stays so."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    made: np.ndarray = (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return made


def energy(logits: np.ndarray) -> np.ndarray:
    """-logsumexp of logits (n, k), at temperature 1: (n,)."""
    from scipy.special import logsumexp

    made: np.ndarray = -logsumexp(np.asarray(logits, np.float64), axis=1)
    return made


@dataclass(frozen=True)
class Distribution:
    """What was learnt from, in feature space, as one of METHODS needs it."""

    method: str
    arrays: Mapping[str, np.ndarray]

    def strangeness(self, features: np.ndarray, logits: np.ndarray) -> np.ndarray:
        """Of items with features (n, d) and logits (n, k): (n,) float64, the larger, the stranger."""
        score = METHODS[self.method].score
        parts = [slice(at, at + CHUNK) for at in range(0, max(1, len(logits)), CHUNK)]
        return np.concatenate([score(self.arrays, features[part], logits[part]) for part in parts])


@dataclass(frozen=True)
class Method:
    """One way to say how strange an item is."""

    fit: Callable[[np.ndarray, np.ndarray, int], dict[str, np.ndarray]]
    """Features (n, d), classes (n,) int, seed -> arrays."""
    score: Callable[[Mapping[str, np.ndarray], np.ndarray, np.ndarray], np.ndarray]
    """Arrays, features, logits -> strangeness."""
    needs: tuple[str, ...] = ()
    """Of the arrays."""


def _fit_mahalanobis(features: np.ndarray, classes: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    there = np.unique(classes)
    vectors = unit(features).astype(np.float64)
    means = np.stack([vectors[classes == at].mean(0) for at in there])
    rest = vectors - means[np.searchsorted(there, classes)]
    # By directions of the rest: with fewer items than dimensions their covariance has no inverse.
    _, scales, axes = np.linalg.svd(rest, full_matrices=False)
    axes = axes[:DIRECTIONS]
    variances = scales[:DIRECTIONS] ** 2 / max(1, len(rest) - len(there))
    # Classes differ in directions in which none of them varies: those between their means are kept as well.
    _, spread, between = np.linalg.svd(means - means.mean(0), full_matrices=False)
    between = between[spread > 1e-9]
    apart = between - between @ axes.T @ axes
    lengths = np.linalg.norm(apart, axis=1)
    apart = np.linalg.qr(apart[lengths > 1e-6].T)[0].T
    level = variances.mean() if len(variances) else 1.0
    axes = np.concatenate([axes, apart])
    variances = np.concatenate([variances, np.zeros(len(apart))])
    stretch = axes / np.sqrt((1 - SHRINK) * variances + SHRINK * level + 1e-12)[:, None]
    return {"stretch": stretch.astype(np.float32), "means": (means @ stretch.T).astype(np.float32)}


def _mahalanobis(arrays: Mapping[str, np.ndarray], features: np.ndarray, _: np.ndarray) -> np.ndarray:
    placed, means = (each.astype(np.float64) for each in (unit(features) @ arrays["stretch"].T, arrays["means"]))
    gaps = (placed**2).sum(1)[:, None] - 2 * placed @ means.T + (means**2).sum(1)
    made: np.ndarray = np.sqrt(np.maximum(0, gaps.min(1)))
    return made


def _fit_neighbours(features: np.ndarray, classes: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    chosen = np.random.default_rng(seed).permutation(len(features))[:KEPT]
    return {"items": unit(features)[np.sort(chosen)].astype(np.float16)}


def _neighbours(arrays: Mapping[str, np.ndarray], features: np.ndarray, _: np.ndarray) -> np.ndarray:
    items = arrays["items"].astype(np.float32)
    alike = unit(features) @ items.T
    k = min(NEIGHBOURS, len(items))
    made: np.ndarray = np.sqrt(np.maximum(0, 2 - 2 * -np.partition(-alike, k - 1, axis=1)[:, k - 1])).astype(np.float64)
    return made


METHODS: dict[str, Method] = {
    "mahalanobis": Method(_fit_mahalanobis, _mahalanobis, ("stretch", "means")),
    "neighbours": Method(_fit_neighbours, _neighbours, ("items",)),
    "energy": Method(lambda *_: {}, lambda _, __, logits: energy(logits)),
}


def choose(
    features: np.ndarray,
    classes: np.ndarray,
    held: np.ndarray,
    held_classes: np.ndarray,
    held_logits: np.ndarray,
    seed: int = 0,
) -> tuple[Distribution, dict[str, float]]:
    """The method that best tells the held-out images of a class that was left out from those of the others.

    features (n, d), classes (n,) int: of what was learnt from. held (m, d), held_classes (m,), held_logits (m, k): of
    what was not. Each class is left out in turn, of the features, or of the logits; gives the distribution of all, and
    the mean AUROC by method, NaN where no class can be left out.
    """
    from imagier.algorithms.judging import auroc

    found: dict[str, list[float]] = {name: [] for name in METHODS}
    for left in np.unique(classes):
        stays, strange = classes != left, held_classes == left
        if not strange.any() or strange.all() or not stays.any():
            continue
        logits = np.delete(held_logits, left, axis=1)
        for name, method in METHODS.items():
            scores = method.score(method.fit(features[stays], classes[stays], seed), held, logits)
            found[name].append(auroc(scores, strange))
    means = {name: float(np.mean(each)) if each else float("nan") for name, each in found.items()}
    best = max(METHODS, key=lambda name: -np.inf if np.isnan(means[name]) else means[name])
    return Distribution(best, METHODS[best].fit(features, classes, seed)), means


def typical(strangeness: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The share of known items at least as strange, (n,) float64 above 0: a p-value, by which a rate refuses so many.

    known: (m,) strangeness of known items that were not learnt from (conformal p-values, Vovk et al. 2005).
    """
    ordered = np.sort(known)
    below = np.searchsorted(ordered, strangeness, side="left")
    made: np.ndarray = (len(ordered) - below + 1) / (len(ordered) + 1)
    return made
