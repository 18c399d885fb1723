"""How well masks and objects fit the truth: Dice, IoU, precision, recall, distance of edges; objects found and missed.

Dice (1945) and Jaccard (1912) by image. HD95: the 95 % quantile of distances between the two edges, both ways. Objects:
F1 at IoU 0.5, and average precision TP / (TP + FP + FN) as the Data Science Bowl 2018 has it (Caicedo et al. 2019).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

THRESHOLDS = tuple(round(0.5 + 0.05 * at, 2) for at in range(10))
"""Of IoU, over which average precision is averaged."""


@dataclass(frozen=True)
class Fit:
    """One mask beside the truth."""

    dice: float
    """1 where both are empty."""
    iou: float
    precision: float | None
    """None where nothing was found."""
    recall: float | None
    """None where there is nothing to find."""
    hd95: float | None
    """Pixels; None where one of the two is empty."""
    both: int
    """Pixels in both, found and true: of these, pooled Dice is made."""
    found: int
    true: int


def fit(found: np.ndarray, true: np.ndarray) -> Fit:
    """Two masks (h, w) bool."""
    both, made, wanted = int((found & true).sum()), int(found.sum()), int(true.sum())
    union = made + wanted - both
    return Fit(
        dice=2 * both / (made + wanted) if union else 1.0,
        iou=both / union if union else 1.0,
        precision=both / made if made else None,
        recall=both / wanted if wanted else None,
        hd95=hd95(found, true) if made and wanted else None,
        both=both,
        found=made,
        true=wanted,
    )


def hd95(one: np.ndarray, other: np.ndarray) -> float:
    """The 95 % quantile of the distances from each edge to the other, in pixels; both masks hold something."""
    from scipy.ndimage import binary_erosion, distance_transform_edt

    edges = [mask & ~binary_erosion(np.pad(mask, 1))[1:-1, 1:-1] for mask in (one, other)]
    far = [distance_transform_edt(~edges[1])[edges[0]], distance_transform_edt(~edges[0])[edges[1]]]
    return float(np.percentile(np.concatenate(far), 95))


@dataclass(frozen=True)
class Matched:
    """Objects of one image beside the true ones."""

    f1: float
    """At IoU 0.5; 1 where there are none on either side."""
    average_precision: float
    """TP / (TP + FP + FN), the mean over THRESHOLDS."""
    hits: int
    """At IoU 0.5."""
    found: int
    true: int


def match(found: np.ndarray, true: np.ndarray) -> Matched:
    """Two label images (h, w) int. Above an IoU of 0.5 no object can fit two others; at 0.5 itself neither counts."""
    overlap = ious(found, true)
    made, wanted = overlap.shape
    hits = [int((overlap > at).sum()) for at in THRESHOLDS]
    whole = made + wanted
    return Matched(
        f1=2 * hits[0] / whole if whole else 1.0,
        average_precision=float(np.mean([hit / (whole - hit) for hit in hits])) if whole else 1.0,
        hits=hits[0],
        found=made,
        true=wanted,
    )


def ious(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """IoU of every object with every true one, (objects, true objects) float64."""
    (made, a), (wanted, b) = (np.unique(each, return_inverse=True) for each in (found, true))
    both = np.zeros((len(made), len(wanted)))
    np.add.at(both, (a.ravel(), b.ravel()), 1)
    union = both.sum(1)[:, None] + both.sum(0)[None] - both
    shares: np.ndarray = (both / union)[made != 0][:, wanted != 0]
    return shares


@dataclass(frozen=True)
class Spread:
    """A measure over images."""

    mean: float
    median: float
    ci95: tuple[float, float]
    """Of the mean, by bootstrap (Efron 1979): the 2.5 and 97.5 % of 2,000 draws with replacement."""
    n: int


def spread(values: np.ndarray, seed: int = 0) -> Spread:
    """Of (n,) numbers, n at least 1."""
    rng = np.random.default_rng(seed)
    draws = np.array([values[rng.integers(len(values), size=len(values))].mean() for _ in range(2000)])
    low, high = np.percentile(draws, (2.5, 97.5))
    return Spread(float(values.mean()), float(np.median(values)), (float(low), float(high)), len(values))
