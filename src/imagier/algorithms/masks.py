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


BAND = 256
"""Rows at a time where a table is looked up, so that no array of 8 bytes a pixel is made of a large image."""


def cleaned(inside: np.ndarray, *, fill: float = 0.0, least: int = 0) -> np.ndarray:
    """A mask without small holes and small objects: (h, w) bool to the same.

    fill: the largest hole that is closed, as a share of the image's area. least: pixels of the smallest object kept.
    Objects and holes hang together by their sides; what touches the image's border is a hole too.
    """
    if fill:
        inside = inside | _smaller(~inside, int(fill * inside.size) + 1)
    if least > 1:
        inside = inside & ~_smaller(inside, least)
    return inside


def _smaller(inside: np.ndarray, size: int) -> np.ndarray:
    """Of a mask, the parts of fewer pixels than `size`: (h, w) bool."""
    from scipy.ndimage import label

    parts, count = label(inside)
    sizes = np.zeros(count + 1, np.int64)
    for top in range(0, len(parts), BAND):
        sizes += np.bincount(parts[top : top + BAND].reshape(-1), minlength=count + 1)
    return _looked_up(np.append(False, sizes[1:] < size), parts)


def _looked_up(table: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """What a table says of each number: (h, w) of the table's dtype."""
    made = np.empty(numbers.shape, table.dtype)
    for top in range(0, len(numbers), BAND):
        made[top : top + BAND] = table[numbers[top : top + BAND]]
    return made


def objects(inside: np.ndarray, cores: np.ndarray | None = None, *, split: bool = False) -> np.ndarray:
    """Number the objects of a mask: (h, w) int32, 0 outside, from 1 on in the order of their first pixel.

    cores: (h, w) bool, a connected one an object, for `split`; without them the distance to the edge tells. Where
    `split` is false, objects are what is connected, corners included. A part of the mask without a core is an object.
    Parts are split one by one: a large image of small ones takes little memory.
    """
    from scipy.ndimage import find_objects, label

    whole: np.ndarray = label(inside, np.ones((3, 3), bool))[0]
    whole = whole.astype(np.int32, copy=False)
    if not split or not inside.any():
        return whole
    made = whole
    next_number = int(whole.max()) + 1
    for number, place in enumerate(find_objects(whole), 1):
        part = whole[place] == number
        pieces = _pieces(part, None if cores is None else cores[place] & part)
        if pieces is not None:
            # The first piece keeps the part's number; the others come after all parts, and are put in order below.
            others = pieces > 1
            made[place][others] = pieces[others] - 2 + next_number
            next_number += int(pieces.max()) - 1
    return _in_order(made, next_number - 1)


def _pieces(part: np.ndarray, cores: np.ndarray | None) -> np.ndarray | None:
    """What a connected part falls into, (h, w) int32 from 1 on; None where it is one object."""
    from scipy.ndimage import distance_transform_edt, label
    from skimage.segmentation import watershed

    around = np.ones((3, 3), bool)
    markers, count = (None, 0) if cores is None else label(cores, around)
    if cores is not None and count < 2:
        return None
    far = distance_transform_edt(np.pad(part, 1))[1:-1, 1:-1]
    if markers is None:
        markers, count = label(_hills(far), around)
        if count < 2:
            return None
    flooded: np.ndarray = watershed(-far, markers, mask=part, connectivity=around)
    return flooded.astype(np.int32)


def _in_order(numbers: np.ndarray, count: int) -> np.ndarray:
    """The same objects, numbered in the order of their first pixel."""
    first = np.full(count + 1, numbers.size, np.int64)
    for top in range(0, len(numbers), BAND):
        band = numbers[top : top + BAND].reshape(-1)
        found, at = np.unique(band, return_index=True)
        np.minimum.at(first, found, at + top * numbers.shape[1])
    order = np.zeros(count + 1, np.int32)
    order[np.argsort(first[1:], kind="stable") + 1] = np.arange(1, count + 1)
    return _looked_up(order, numbers)


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
