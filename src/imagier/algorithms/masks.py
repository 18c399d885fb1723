"""From probabilities to objects: threshold, holes, the smallest object, touching ones told apart.

Watershed from markers: Beucher & Meyer (1993). Markers are the cores that a network gives, or else the hills of the
distance to the edge.
"""

from __future__ import annotations

import numpy as np

HILL = 2.0
"""Pixels by which a hill of the distance must rise above the saddle to its neighbour to be an object of its own."""

CORE = 0.4
"""Of an object's greatest distance to its edge: pixels farther in than that are its core."""


def cleaned(inside: np.ndarray, *, fill: float = 0.0, least: int = 0) -> np.ndarray:
    """A mask without small holes and small objects: (h, w) bool to the same.

    fill: the largest hole that is closed, as a share of the image's area. least: pixels of the smallest object kept.
    """
    from skimage.morphology import remove_small_holes, remove_small_objects

    if fill:
        inside = remove_small_holes(inside, max_size=int(fill * inside.size))
    if least > 1:
        inside = remove_small_objects(inside, max_size=least - 1)
    return inside


def objects(inside: np.ndarray, cores: np.ndarray | None = None, *, split: bool = False) -> np.ndarray:
    """Number the objects of a mask: (h, w) int32, 0 outside, from 1 on in the order of their first pixel.

    cores: (h, w) bool, a connected one an object, for `split`; without them the distance to the edge tells. Where
    `split` is false, objects are what is connected, corners included. A part of the mask without a core is an object.
    """
    from scipy.ndimage import distance_transform_edt
    from skimage.measure import label
    from skimage.segmentation import watershed

    whole: np.ndarray = label(inside, connectivity=2).astype(np.int32)
    if not split or not inside.any():
        return whole
    far = distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
    markers = label(cores & inside, connectivity=2) if cores is not None else label(_hills(far))
    missed = np.setdiff1d(whole[inside], whole[markers > 0])
    lone = np.isin(whole, missed) & inside
    markers = np.where(lone, markers.max() + whole, markers)
    flooded = watershed(-far, markers, mask=inside, connectivity=np.ones((3, 3), bool))
    numbers, first = np.unique(flooded[inside], return_index=True)
    order = np.zeros(int(numbers.max(initial=0)) + 1, np.int32)
    order[numbers[np.argsort(first)]] = np.arange(1, len(numbers) + 1)
    made: np.ndarray = order[flooded]
    return made


def cores(objects: np.ndarray) -> np.ndarray:
    """(h, w) bool: what lies well inside its object, farther from its edge than CORE of the most that any does.

    Cores of touching objects do not touch, and none is without one.
    """
    from scipy.ndimage import distance_transform_edt, maximum
    from skimage.segmentation import find_boundaries

    if not objects.any():
        return np.zeros(objects.shape, bool)
    edge = find_boundaries(np.pad(objects, 1), mode="inner", background=0)[1:-1, 1:-1]
    far = distance_transform_edt((objects > 0) & ~edge) + (objects > 0)
    numbers, at = np.unique(objects, return_inverse=True)
    most = np.asarray(maximum(far, objects, numbers))[at].reshape(objects.shape)
    inside: np.ndarray = (objects > 0) & (far > CORE * most)
    return inside


def _hills(far: np.ndarray) -> np.ndarray:
    from skimage.morphology import h_maxima

    hills: np.ndarray = h_maxima(far, HILL) > 0
    return hills
