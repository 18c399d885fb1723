"""Where a curve bends: the elbow of an inertia curve, and the knee of a k-distance curve, by Kneedle.

Satopaa, Albrecht, Irwin & Raghavan, "Finding a 'Kneedle' in a Haystack" (2011), as the package kneed has it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CURVE = 500
"""Values kept of a k-distance curve: enough to draw, few enough for a receipt."""
FLAT = 1e-6
"""A curve that varies by less than this share of its largest value is flat: what is left is rounding."""
FALLBACK = 0.9
"""The quantile of the k-distances taken where their curve has no knee."""
LEAST_BEND = 0.02
"""How far below the chord from its first to its last value a curve must hang at a knee, as a share of its range."""
THINNER = 3.0
"""How many times thinner than at the knee the points may lie and still count as dense. Groups thin out at their rims:
at the knee itself DBSCAN calls some 5 to 15 % of plain Gaussian groups noise (drawn in 2 and 3 dimensions)."""


@dataclass(frozen=True)
class Knee:
    """The neighbourhood radius read off an ascending k-distance curve."""

    curve: np.ndarray
    """(m,) float64, ascending, m <= 500: the k-distances, or evenly spaced quantiles of them."""
    position: int | None
    """Index of eps in `curve`; None where the curve has no knee and the fallback was taken."""
    eps: float
    why: str


def elbow(x: np.ndarray, y: np.ndarray) -> int | None:
    """The x at which a falling, convex curve bends (integers x, n values each); None where it does not bend."""
    from kneed import KneeLocator

    if len(x) < 3 or _flat(y):
        return None
    found = KneeLocator(x, y, curve="convex", direction="decreasing").knee
    return None if found is None else int(found)


def k_distance_knees(distances: np.ndarray, dimensions: int) -> list[Knee]:
    """Radii that may be DBSCAN's eps, from the k-distance curve, the likeliest first. distances (n,), n >= 1, >= 0.

    The ascending curve runs low and flat through the items that lie in groups and turns up steeply where the noise
    begins (Ester, Kriegel, Sander & Xu, 1996): convex and increasing. First comes the knee farthest from the chord.
    Where groups are of different density the curve climbs in stairs, and that knee is the end of the dense ones alone:
    so the last knee follows, and the curve's end, beyond which there is no noise. At a knee, eps is the largest
    k-distance on the curve at which points lie no more than 3 times thinner: up to 3^(1/dimensions) times the knee's.
    """
    from kneed import KneeLocator

    ascending = np.sort(np.asarray(distances, np.float64))
    curve = ascending
    if len(ascending) > CURVE:
        curve = np.quantile(ascending, np.linspace(0, 1, CURVE))
    largest = float(curve[-1])
    if _flat(curve):
        return [Knee(curve, None, largest, "the k-distance curve is flat: eps is its largest value")]
    bends: list[int] = []
    if len(curve) >= 5:
        places = np.arange(len(curve))
        knees = KneeLocator(places, curve, curve="convex", direction="increasing", online=True).all_knees
        below = (curve[0] + (curve[-1] - curve[0]) * places / (len(curve) - 1) - curve) / np.ptp(curve)
        # A knee at 0 is the end of a run of copies: a radius of 0 joins copies alone.
        bends = [int(knee) for knee in knees if below[int(knee)] >= LEAST_BEND and curve[int(knee)] > 0]
        bends.sort(key=lambda bend: -below[bend])
    if not bends:
        eps = float(np.quantile(curve[curve > 0], FALLBACK))
        return [Knee(curve, None, eps, f"the k-distance curve has no knee: eps is its {FALLBACK:.0%} quantile")]
    found = [_at_bend(curve, bend, dimensions) for bend in dict.fromkeys([bends[0], max(bends)])]
    end = Knee(
        curve, len(curve) - 1, largest, f"eps is {largest:.4g}, the end of the k-distance curve: no item is noise"
    )
    return [*found, end]


def _at_bend(curve: np.ndarray, at: int, dimensions: int) -> Knee:
    bend = float(curve[at])
    position = int(np.searchsorted(curve, bend * THINNER ** (1 / dimensions), side="right")) - 1
    eps = float(curve[position])
    share = (position + 1) / len(curve)
    why = (
        f"the k-distance curve bends upwards at {bend:.4g}; eps is {eps:.4g}, where points lie at most "
        f"{THINNER:g} times thinner than that, and {share:.0%} of the k-distances are no larger"
    )
    return Knee(curve, position, eps, why)


def _flat(curve: np.ndarray) -> bool:
    return bool(np.ptp(curve) <= FLAT * np.abs(curve).max())
