"""How well a classifier does, each measure with its interval by bootstrap over images (Efron 1979).

A resampling counts each image so many times, so that all measures of a resampling come from one weighted sum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from imagier.algorithms.confidence import BINS

DRAWS = 1000
HELD = 20_000_000
"""Weights that are held at once: of more than 20,000 images fewer draws do, since their intervals are narrow."""


@dataclass(frozen=True)
class Measured:
    """A measure over images."""

    mean: float
    """Of all images."""
    ci95: tuple[float, float]
    """2.5 and 97.5 % of resamplings of the images."""
    n: int
    """The images that it is of."""


def auroc(scores: np.ndarray, positive: np.ndarray) -> float:
    """The share of pairs of a positive and another in which the positive has the larger score; ties count half.

    scores (n,), positive (n,) bool; NaN where all are of one kind.
    """
    from scipy.stats import rankdata

    yes, no = int(positive.sum()), int((~positive).sum())
    if not yes or not no:
        return float("nan")
    return float((rankdata(scores)[positive].sum() - yes * (yes + 1) / 2) / (yes * no))


def resampled(n: int, seed: int = 0) -> np.ndarray:
    """How often each of n images is in each resampling with replacement, (draws, n) float64."""
    draws = max(100, min(DRAWS, HELD // n))
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=draws).astype(np.float64)


def measured(of: Callable[[np.ndarray], np.ndarray], weights: np.ndarray, n: int | None = None) -> Measured:
    """A measure with its interval. of: weights of images (m, n) to the measure (m,), NaN where it has none.

    weights: as `resampled` gives them. n: the images that count, where not all do.
    """
    count = weights.shape[1]
    with np.errstate(invalid="ignore", divide="ignore"):
        whole = float(of(np.ones((1, count)))[0])
        drawn = np.concatenate([of(weights[at : at + 100]) for at in range(0, len(weights), 100)])
    drawn = drawn[np.isfinite(drawn)]
    low, high = np.percentile(drawn, (2.5, 97.5)) if len(drawn) else (float("nan"), float("nan"))
    return Measured(whole, (float(low), float(high)), count if n is None else n)


def confusion(true: np.ndarray, told: np.ndarray, classes: int) -> np.ndarray:
    """(classes, classes) int: row the true class, column the one told."""
    made = np.zeros((classes, classes), np.int64)
    np.add.at(made, (true, told), 1)
    return made


@dataclass(frozen=True)
class Counts:
    """By class and resampling (m, k): images of the class, told to be it, and both."""

    true: np.ndarray
    told: np.ndarray
    both: np.ndarray


def counts(true: np.ndarray, told: np.ndarray, classes: int, weights: np.ndarray) -> Counts:
    """true, told (n,) int; weights (m, n)."""
    of_true, of_told = (np.eye(classes)[each] for each in (true, told))
    return Counts(weights @ of_true, weights @ of_told, weights @ (of_true * of_told))


def precision(of: Counts) -> np.ndarray:
    """(m, k); NaN where nothing was told to be of the class."""
    return np.asarray(of.both / np.where(of.told > 0, of.told, np.nan))


def recall(of: Counts) -> np.ndarray:
    """(m, k); NaN where nothing is of the class."""
    return np.asarray(of.both / np.where(of.true > 0, of.true, np.nan))


def f1(of: Counts) -> np.ndarray:
    """(m, k); NaN where nothing is of the class nor told to be."""
    whole = of.true + of.told
    return np.asarray(2 * of.both / np.where(whole > 0, whole, np.nan))


def over_classes(values: np.ndarray) -> np.ndarray:
    """The mean over classes that have a value: (m, k) to (m,)."""
    there = np.isfinite(values)
    return np.asarray(np.where(there, values, 0).sum(1) / np.where(there.any(1), there.sum(1), np.nan))


def weighted_auroc(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """`auroc` of each resampling: scores (n,), positive (n,) bool, weights (m, n) to (m,); NaN of one kind alone."""
    order = np.argsort(scores, kind="stable")
    ordered, yes = scores[order], positive[order]
    starts = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    first = np.flatnonzero(starts)
    w = weights[:, order]
    pos, neg = (np.add.reduceat(w * kind, first, axis=1) for kind in (yes, ~yes))
    below = np.cumsum(neg, axis=1) - neg
    pairs = pos.sum(1) * neg.sum(1)
    return np.asarray((pos * (below + 0.5 * neg)).sum(1) / np.where(pairs > 0, pairs, np.nan))


def average_precision(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Precision over the scores at which recall grows, by how much it does, of each resampling: (m,).

    scores (n,), positive (n,) bool, weights (m, n); NaN where none is positive.
    """
    order = np.argsort(-scores, kind="stable")
    ordered, w = scores[order], weights[:, order]
    ends = np.flatnonzero(np.concatenate([ordered[1:] != ordered[:-1], [True]]))  # ties come in together
    both, told = (np.cumsum(each, axis=1)[:, ends] for each in (w * positive[order], w))
    gained = np.diff(both, axis=1, prepend=0)
    whole = both[:, -1]
    return np.asarray((gained * both / np.where(told > 0, told, 1)).sum(1) / np.where(whole > 0, whole, np.nan))


def weighted_ece(confidence: np.ndarray, right: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Expected calibration error of each resampling, (m,), by BINS bins of equal width."""
    at = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gaps = weights @ (np.eye(BINS)[at] * (confidence - right)[:, None])
    return np.asarray(np.abs(gaps).sum(1) / weights.sum(1))
