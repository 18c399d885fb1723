"""From a classifier's logits to a confidence that one can act on: temperature, calibration error, sets that cover.

Temperature scaling and ECE: Guo et al., On Calibration of Modern Neural Networks (2017). Prediction sets: split
conformal prediction (Vovk et al. 2005; Papadopoulos et al. 2002) with the score of Romano et al., Classification with
Valid and Adaptive Coverage (2020), without its random number and without the class's own share.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEVEL = 0.9
"""Of the sets, unless told."""
REFUSED = 0.05
"""Of known images, the share that may be taken for unknown, unless told."""
BINS = 15
"""Of confidence, as Guo et al. have it."""
LEAST, MOST = 0.05, 20.0
"""A temperature is between these."""


def shares(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Softmax of each row over a temperature: (n, k) to (n, k) float64 that adds up to 1."""
    scaled = np.asarray(logits, np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    made: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return made


def log_loss(logits: np.ndarray, true: np.ndarray, temperature: float = 1.0) -> float:
    """Mean negative log of the true class's share. logits (n, k), true (n,) int."""
    given = shares(logits, temperature)[np.arange(len(true)), true]
    return float(-np.log(np.maximum(given, 1e-300)).mean())


def fit_temperature(logits: np.ndarray, true: np.ndarray) -> float:
    """What logits are divided by so that the true classes are likeliest (Guo et al. 2017, 4.2), in LEAST to MOST.

    Of n images one in n + 2 is taken to be of another class, as Platt (1999) has it: where all are right, likelihood
    alone would make every confidence 1.
    """
    from scipy.optimize import minimize_scalar

    n, k = logits.shape
    wanted = np.full((n, k), 1 / (n + 2) / max(1, k - 1))
    wanted[np.arange(n), true] = 1 - 1 / (n + 2)

    def loss(log: float) -> float:
        return float(-(wanted * np.log(np.maximum(shares(logits, np.exp(log)), 1e-300))).sum() / n)

    found = minimize_scalar(loss, bounds=(np.log(LEAST), np.log(MOST)), method="bounded")
    return float(np.exp(found.x))


@dataclass(frozen=True)
class Reliability:
    """Confidence beside how often it is right, by bins of equal width."""

    edges: np.ndarray
    """(bins + 1,) from 0 to 1."""
    counts: np.ndarray
    """(bins,) int."""
    confidence: np.ndarray
    """(bins,) mean; NaN where there is none."""
    right: np.ndarray
    """(bins,) share that is right; NaN where there is none."""

    @property
    def ece(self) -> float:
        """Expected calibration error (Guo et al. 2017, eq. 3)."""
        there = self.counts > 0
        gaps = np.abs(self.confidence - self.right)[there]
        return float((gaps * self.counts[there]).sum() / max(1, self.counts.sum()))


def reliability(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> Reliability:
    """confidence (n,) in [0, 1], right (n,) bool."""
    edges = np.linspace(0, 1, bins + 1)
    at = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(at, minlength=bins)
    sums = [np.bincount(at, np.asarray(each, float), bins) for each in (confidence, right)]
    with np.errstate(invalid="ignore"):
        means = [each / counts for each in sums]
    return Reliability(edges, counts, *means)


def before(given: np.ndarray) -> np.ndarray:
    """Of each class, the shares of all that are likelier, summed: (n, k) to (n, k). What APS goes by.

    A class is in a set where this is at most the set's bound, so that the likeliest, at 0, always is.
    """
    order = np.argsort(-given, axis=1, kind="stable")
    ordered = np.take_along_axis(given, order, 1)
    summed = np.concatenate([np.zeros((len(given), 1)), np.cumsum(ordered, axis=1)[:, :-1]], axis=1)
    made = np.empty_like(summed)
    np.put_along_axis(made, order, summed, 1)
    return made


def bound(scores: np.ndarray, level: float) -> float:
    """The bound under which at least `level` of future scores lie, from those of images that were not learnt from.

    The ceil((n + 1) level)-th least of (n,) scores; infinite where there are too few for that level.
    """
    at = int(np.ceil((len(scores) + 1) * level - 1e-9))
    return float(np.sort(scores)[at - 1]) if at <= len(scores) else np.inf


@dataclass(frozen=True)
class Covering:
    """Scores of images that were not learnt from, by which sets are made at any level."""

    scores: np.ndarray
    """(n,) float32: `before` of the true class."""
    classes: np.ndarray
    """(n,) int: the true class."""

    def sets(self, given: np.ndarray, level: float, by_class: bool = False) -> np.ndarray:
        """Of shares (n, k), which classes are in each set, (n, k) bool: the true one in `level` of images.

        by_class: in `level` of each class's images (class-conditional), by larger sets; a class of too few is in all.
        """
        count = given.shape[1]
        if by_class:
            bounds = np.array([bound(self.scores[self.classes == at], level) for at in range(count)])
        else:
            bounds = np.full(count, bound(self.scores, level))
        made: np.ndarray = before(given) <= bounds + 1e-9
        # By class, the likeliest may have the least bound and still stays in: a set that is empty says nothing.
        made[np.arange(len(given)), given.argmax(1)] = True
        return made


def covering(given: np.ndarray, true: np.ndarray) -> Covering:
    """From shares (n, k) of images that were not learnt from, and their classes (n,) int."""
    scores = before(given)[np.arange(len(true)), true]
    return Covering(scores.astype(np.float32), true.astype(np.int64))
