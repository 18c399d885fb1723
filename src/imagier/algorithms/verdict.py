"""Whether a clustering is one at all: against data without groups, and against itself on parts of the items.

A method asked for groups gives groups, of noise too. So the same method is run on data drawn without groups but of
the same spread along each principal axis, as in the gap statistic (Tibshirani, Walther & Hastie 2001): once uniform
in a box, once one Gaussian (the null hypothesis of SigClust: Liu, Hayes, Nobel & Marron 2008). What it makes of the
items must beat both clearly, and must come back when a part of the items is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from imagier.algorithms import scores

Again = Callable[[np.ndarray, int, float], np.ndarray]
"""The same method with what it chose: points (m, d), a seed, and m as a share of the items -> labels (m,) int."""

DRAWS = 20
"""Reference data sets of each kind."""
REFERENCE = 1500
"""Items of a reference data set; the items are compared as a sample of that size too."""
RESAMPLED = 4000
"""Items of which a resample is a part."""
PART = 0.8
"""The share of the items in a resample, drawn without replacement."""

STARTS = 3
"""Random starts of k-means on a reference data set."""
MARGIN = 0.05
DEVIATIONS = 4.0
"""By how much, and by how many standard deviations, the separation must exceed the reference data's mean. Four, not
two, because the number of groups was chosen to be the best for the items, and only taken over for the references."""
LEAST_ARI = 0.6
"""Mean agreement with the clusterings of resamples."""
MOST_NOISE = 0.5
LEAST_OUTSIDE = 0.05
"""The share of the grouped items that must lie outside the largest group."""


@dataclass(frozen=True)
class Verdict:
    """Whether there are groups, and why, in plain sentences."""

    good: bool
    text: str


def separation(points: np.ndarray, labels: np.ndarray, seed: int) -> float:
    """Mean silhouette times the share of items in groups; 0 where all but a few are in one group, or none is."""
    inside = labels[labels >= 0]
    if len(inside) == 0 or outside_largest(labels) < LEAST_OUTSIDE:
        return 0.0
    return (scores.silhouettes(points, labels, seed).mean or 0.0) * len(inside) / len(labels)


def outside_largest(labels: np.ndarray) -> float:
    """Of the items in groups, the share outside the largest; 0 where there is none."""
    inside = labels[labels >= 0]
    return 1 - float(np.bincount(inside).max()) / len(inside) if len(inside) else 0.0


def stability(points: np.ndarray, labels: np.ndarray, again: Again, resamples: int, seed: int) -> list[float]:
    """Adjusted Rand index of the labels with those of each resample, over the items in it; noise is one label.

    A resample is 80 % of the items, without replacement; of more than 4,000 items, 80 % of a random 4,000.
    """
    rng = np.random.default_rng([seed, 1])
    size = round(PART * min(len(points), RESAMPLED))
    found = []
    for turn in range(resamples):
        rows = np.sort(rng.choice(len(points), size, replace=False))
        found.append(scores.adjusted_rand(labels[rows], again(points[rows], seed + turn, size / len(points))))
    return found


def references(points: np.ndarray, labels: np.ndarray, again: Again, seed: int) -> tuple[float, np.ndarray]:
    """The separation of the items, and of data without groups: (2, 20) float64, uniform and Gaussian.

    Of more than 1,500 items, a sample of that size is clustered and compared.
    """
    rng = np.random.default_rng([seed, 2])
    size = min(len(points), REFERENCE)
    share = size / len(points)
    sample = points
    if size < len(points):
        sample = points[np.sort(rng.choice(len(points), size, replace=False))]
        labels = again(sample, seed, share)
    spread = _spread(sample)
    drawn = np.empty((2, DRAWS))
    for turn in range(DRAWS):
        uniform = _uniform(spread, size, rng)
        gaussian = rng.standard_normal((size, len(spread))) * spread
        for kind, data in enumerate((uniform, gaussian)):
            drawn[kind, turn] = separation(data, again(data, seed + turn, share), seed)
    return separation(sample, labels, seed), drawn


def uniform_like(points: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Data without groups: (size, m), uniform along each principal axis of the points, with their deviation there."""
    return _uniform(_spread(points), size, rng)


def _spread(points: np.ndarray) -> np.ndarray:
    """The standard deviation along each principal axis that has any: (m,)."""
    centred = points - points.mean(axis=0, dtype=np.float64)
    spread: np.ndarray = np.linalg.svd(centred, compute_uv=False) / np.sqrt(len(points))
    kept: np.ndarray = spread[spread > spread[0] * 1e-6]
    return kept


def _uniform(spread: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    drawn: np.ndarray = rng.uniform(-np.sqrt(3), np.sqrt(3), (size, len(spread))) * spread
    return drawn


def judge(labels: np.ndarray, own: float, drawn: np.ndarray, agreement: list[float]) -> Verdict:
    """Good when all holds: two groups or more, not mostly noise, not nearly all items in one group, apart, stable.

    labels (n,) int; own and drawn as `references` gives them; agreement as `stability` does.
    """
    groups, noise = len(np.unique(labels[labels >= 0])), float((labels < 0).mean())
    against, bar = 0.0, -np.inf
    for kind in drawn:
        mean, deviation = float(kind.mean()), float(kind.std(ddof=1))
        against = max(against, mean)
        bar = max(bar, mean + max(MARGIN, DEVIATIONS * deviation))
    ari = float(np.mean(agreement))
    compared = f"their separation is {own:.2f}, that of data without groups of the same spread {against:.2f} on average"
    reasons = []
    if noise > MOST_NOISE:
        reasons.append(f"{noise:.0%} of the items are noise")
    if (outside := outside_largest(labels)) < LEAST_OUTSIDE:
        reasons.append(f"of the items in groups, all but {outside:.1%} are in one")
    if own < bar:
        reasons.append(f"the {groups} groups are not clearly apart: {compared}, and {bar:.2f} or more would be clear")
    if ari < LEAST_ARI:
        reasons.append(
            f"other groups come out when a part of the items is left out (adjusted Rand index {ari:.2f}, and "
            f"{LEAST_ARI:g} or more would be stable)"
        )
    if reasons:
        return poor("; ".join(reasons) + ". The groups given are the least bad of this method.")
    text = f"{groups} groups, clearly apart ({compared}) and stable (adjusted Rand index {ari:.2f} with resamples)"
    return Verdict(True, f"{text}; {noise:.0%} of the items are noise." if noise else f"{text}.")


def poor(reason: str) -> Verdict:
    """The verdict that there are no groups to speak of."""
    return Verdict(False, f"no good clustering found: {reason}")
