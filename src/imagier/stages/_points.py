"""The items as points: what a table step's `on` names, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imagier.types import Columns, SettingError


@dataclass(frozen=True)
class Points:
    """Items as points, and how number columns, which have units of their own, were brought to one scale."""

    values: np.ndarray
    """(n, d) float32."""
    centre: np.ndarray
    """(d,) float64: what was taken off; 0 for the numbers of a vector column, which stays as it is."""
    spread: np.ndarray
    """(d,) float64: what was divided by; 1 for those."""


def named(on: str | Sequence[str], stage: str) -> tuple[str, ...]:
    """The columns that the setting `on` names. Raises SettingError for none, or one named twice."""
    names = (on,) if isinstance(on, str) else tuple(on)
    if not names or len(set(names)) < len(names):
        raise SettingError(f"{stage}.on cannot be {list(names)}: it takes one column or several different ones")
    return names


def points_of(
    columns: Columns, names: Sequence[str], stage: str, scale: tuple[np.ndarray, np.ndarray] | None = None
) -> Points:
    """Columns of vectors (n, d) as they are, columns of numbers (n,) at mean 0 and standard deviation 1, side by side.

    `scale`: centre and spread of fitted items, to be used again. Raises SettingError for a column that holds no
    numbers, or none for some item, and for other columns than those that were fitted.
    """
    parts, numbers = [], []
    for name in names:
        values = columns[name]
        if not isinstance(values, np.ndarray) or values.dtype.kind not in "biuf":
            raise SettingError(f"{stage}.on: {name!r} holds no numbers; name a column of vectors or of numbers")
        values = values.astype(np.float64 if values.ndim == 1 else np.float32)
        bad = ~np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
        if bad.any():
            raise SettingError(
                f"{stage}.on: {name!r} has no finite value for {bad.sum()} of {len(values)} items; "
                "name a column that every item has"
            )
        parts.append(values[:, None] if values.ndim == 1 else values)
        numbers += [values.ndim == 1] * parts[-1].shape[1]
    raw, scaled = np.concatenate(parts, axis=1), np.array(numbers, bool)
    if scale is None:
        centre, spread = np.zeros(raw.shape[1]), np.ones(raw.shape[1])
        if len(raw) and scaled.any():
            centre[scaled] = raw[:, scaled].mean(axis=0, dtype=np.float64)
            deviation = raw[:, scaled].std(axis=0, dtype=np.float64)
            spread[scaled] = np.where(deviation > 0, deviation, 1)
    else:
        centre, spread = scale
        if len(centre) != raw.shape[1]:
            raise SettingError(
                f"{stage}.on: {', '.join(names)} has {raw.shape[1]} numbers an item, the fitted ones had "
                f"{len(centre)}; make them by the same steps"
            )
    values = ((raw - centre) / spread).astype(np.float32) if scaled.any() else raw.astype(np.float32)
    return Points(np.ascontiguousarray(values), centre, spread)
