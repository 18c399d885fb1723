"""How well heatmaps show where something is: pixel AUROC, and per-region overlap (PRO, Bergmann et al., The MVTec
Anomaly Detection Dataset, 2021, section 5.1), each with its interval by bootstrap over images.

An image is kept as histograms of its heat, inside the truth and outside of it: both measures follow from sums of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from imagier.algorithms import judging

BINS = 2048
LIMIT = 0.3
"""The share of pixels that are wrongly flagged up to which PRO is averaged."""


@dataclass(frozen=True)
class Histograms:
    """Of n images, by heat in b bins, the coolest first."""

    inside: np.ndarray
    """(n, b) pixels of the truth."""
    outside: np.ndarray
    """(n, b) all others."""
    covered: np.ndarray
    """(n, b) float64: regions of the truth, each counted by the share of it that lies in the bin."""
    regions: np.ndarray
    """(n,) how many there are."""


def edges(maps: Iterable[np.ndarray]) -> np.ndarray:
    """Limits between bins, of about as many values each: (BINS - 1,) ascending. maps: all heat that there is."""
    values = np.concatenate([np.asarray(each, np.float64).ravel() for each in maps])
    # Where few pixels are bright, the bins that decide are the last ones: half of them share the hottest hundredth.
    shares = np.concatenate([np.linspace(0, 0.99, BINS // 2, endpoint=False)[1:], np.linspace(0.99, 1, BINS // 2)])
    return np.unique(np.quantile(values, shares))


def histograms(pairs: Iterable[tuple[np.ndarray, np.ndarray]], limits: np.ndarray) -> Histograms:
    """Of heatmaps (h, w) with their truth (h, w) bool; limits: as `edges` gives them."""
    from scipy.ndimage import label

    count = len(limits) + 1
    inside, outside, covered, regions = [], [], [], []
    for heat, truth in pairs:
        bins = np.searchsorted(limits, heat.ravel(), side="right")
        flat = truth.ravel()
        inside.append(np.bincount(bins[flat], minlength=count))
        outside.append(np.bincount(bins[~flat], minlength=count))
        numbers, found = label(truth, np.ones((3, 3)))
        shares = np.zeros(count)
        for number in range(1, found + 1):
            own = bins[numbers.ravel() == number]
            shares += np.bincount(own, minlength=count) / len(own)
        covered.append(shares)
        regions.append(found)
    return Histograms(*(np.array(each) for each in (inside, outside, covered, regions)))


def pixel_auroc(of: Histograms, weights: np.ndarray) -> np.ndarray:
    """The share of pairs of a pixel inside and one outside in which the first is hotter, ties half: (m,).

    weights: of images (m, n), as `judging.resampled` gives them.
    """
    yes, no = weights @ of.inside, weights @ of.outside
    below = np.cumsum(no, axis=1) - no
    pairs = yes.sum(1) * no.sum(1)
    return np.asarray((yes * (below + no / 2)).sum(1) / np.where(pairs > 0, pairs, np.nan))


def pro(of: Histograms, weights: np.ndarray) -> np.ndarray:
    """The mean share of a true region that is flagged, over thresholds that flag up to LIMIT of all other pixels: (m,).

    weights: as of `pixel_auroc`.
    """

    def hotter(values: np.ndarray) -> np.ndarray:
        return np.cumsum(values[:, ::-1], axis=1)

    regions = (weights @ of.regions)[:, None]
    overlap = hotter(weights @ of.covered) / np.where(regions > 0, regions, np.nan)
    outside = weights @ of.outside
    wrong = hotter(outside) / outside.sum(1, keepdims=True)
    made = []
    for across, up in zip(wrong, overlap, strict=True):
        x, y = np.concatenate([[0.0], across]), np.concatenate([[0.0], up])
        ends = np.interp(LIMIT, x, y)
        within = x < LIMIT
        x, y = np.append(x[within], LIMIT), np.append(y[within], ends)
        made.append(np.trapezoid(y, x) / LIMIT)
    return np.array(made)


def measured(of: Histograms) -> dict[str, judging.Measured]:
    """`pixel_auroc` and `pro` with their intervals; `n`: the images."""
    weights = judging.resampled(len(of.regions))
    return {
        "pixel_auroc": judging.measured(lambda w: pixel_auroc(of, w), weights),
        "pro": judging.measured(lambda w: pro(of, w), weights),
    }
