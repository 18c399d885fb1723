"""Shapes as people draw them, and as COCO, labelme and CVAT write them: each a function that draws itself as a mask."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from imagier import images
from imagier.types import ImageError

Shape = Callable[[int, int], np.ndarray]
"""Height and width of the image to (h, w) bool. A pixel is inside where its middle is."""


def polygon(points: Iterable[Sequence[float]]) -> Shape:
    """Corners (x, y) in pixels; (0, 0) is the image's corner, so that the first pixel's middle is at (0.5, 0.5)."""
    corners = np.array([[float(x), float(y)] for x, y in points])
    if len(corners) < 3 or not np.isfinite(corners).all():
        raise ValueError(f"a polygon of {len(corners)} corners")

    def draw(height: int, width: int) -> np.ndarray:
        from skimage.draw import polygon2mask

        inside: np.ndarray = polygon2mask((height, width), corners[:, ::-1] - 0.5)
        return inside

    return draw


def ellipse(x: float, y: float, across: float, down: float) -> Shape:
    """Its middle and its half axes."""
    turn = np.linspace(0, 2 * np.pi, 256, endpoint=False)
    return polygon(np.stack([x + across * np.cos(turn), y + down * np.sin(turn)], 1).tolist())


def box(x0: float, y0: float, x1: float, y1: float) -> Shape:
    """Two opposite corners."""
    return polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])


def any_of(shapes: Sequence[Shape]) -> Shape:
    return lambda height, width: np.any([shape(height, width) for shape in shapes], axis=0)


# ---------------------------------------------------------------- as they are written


def coco_shape(told: Any) -> Shape:
    """A COCO segmentation: polygons, or run lengths down the columns, packed or plain. Raises ValueError."""
    if isinstance(told, list):
        if not told:
            raise ValueError("a segmentation without a polygon")
        return any_of([polygon(np.reshape(each, (-1, 2)).tolist()) for each in told])
    size, counts = told["size"], told["counts"]
    runs = np.array(unpacked(counts) if isinstance(counts, str) else counts)
    if runs.sum() != size[0] * size[1] or runs.min(initial=0) < 0:
        raise ValueError(f"run lengths of {runs.sum()} pixels for {size[1]} x {size[0]}")

    def draw(height: int, width: int) -> np.ndarray:
        if [height, width] != list(size):
            raise ValueError(f"run lengths are for {size[1]} x {size[0]} pixels, the image has {width} x {height}")
        flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
        return flat.reshape(width, height).T

    return draw


def unpacked(text: str) -> list[int]:
    """COCO's packed run lengths: five bits a letter, from the third on each less the one two before it."""
    counts: list[int] = []
    at = 0
    while at < len(text):
        number, shift, more = 0, 0, True
        while more:
            if at == len(text):
                raise ValueError("packed run lengths that break off")
            letter = ord(text[at]) - 48
            number |= (letter & 0x1F) << shift
            more, at, shift = bool(letter & 0x20), at + 1, shift + 5
            if not more and letter & 0x10:
                number |= -1 << shift
        counts.append(number + counts[-2] if len(counts) > 2 else number)
    return counts


def labelme_shapes(told: Mapping[str, Any]) -> list[tuple[str, Shape]]:
    """Objects of labelme's JSON, with their labels: shapes of one label and one group are one. Raises ValueError."""
    objects: dict[tuple[str, Any], list[Shape]] = {}
    for at, each in enumerate(told.get("shapes", [])):
        try:
            kind = each.get("shape_type", "polygon")
            if kind not in BARE:
                group = each.get("group_id")
                key = str(each["label"]), ("alone", at) if group is None else group
                objects.setdefault(key, []).append(LABELME[kind](each))
        except (AttributeError, KeyError, TypeError, ValueError, IndexError, ImageError) as error:
            raise ValueError(f"a shape that labelme does not write: {error!r}") from error
    return [(name, any_of(shapes)) for (name, _), shapes in objects.items()]


def _labelme_circle(each: Any) -> Shape:
    """Its middle, and a point of its edge."""
    (x, y), (a, b) = each["points"]
    radius = float(np.hypot(a - x, b - y))
    return ellipse(x, y, radius, radius)


def _labelme_mask(each: Any) -> Shape:
    """A PNG of what is inside, at the first of two corners."""
    pixels = images.decode(base64.b64decode(each["mask"], validate=True)).image
    left, top = (int(edge) for edge in each["points"][0])
    return _patch(left, top, (pixels if pixels.ndim == 2 else pixels.max(2)) > 0)


LABELME: Mapping[str, Callable[[Any], Shape]] = {
    "polygon": lambda each: polygon(each["points"]),
    "rectangle": lambda each: box(*each["points"][0], *each["points"][1]),
    "circle": _labelme_circle,
    "mask": _labelme_mask,
}


def _patch(left: int, top: int, patch: np.ndarray) -> Shape:
    down, across = patch.shape

    def draw(height: int, width: int) -> np.ndarray:
        if left < 0 or top < 0 or top + down > height or left + across > width:
            raise ValueError(f"a mask reaches beyond its image of {width} x {height} pixels")
        whole = np.zeros((height, width), bool)
        whole[top : top + down, left : left + across] = patch
        return whole

    return draw


BARE = frozenset(["point", "points", "line", "linestrip", "polyline", "tag"])
"""Shapes that cover nothing, in labelme and CVAT."""


def _cvat_polygon(each: Any) -> Shape:
    return polygon([[float(part) for part in pair.split(",")] for pair in each.attrib["points"].split(";")])


def _cvat_numbers(each: Any, *names: str) -> list[float]:
    return [float(each.attrib[name]) for name in names]


def _cvat_mask(each: Any) -> Shape:
    left, top, across, down = (int(number) for number in _cvat_numbers(each, "left", "top", "width", "height"))
    runs = np.array([int(part) for part in each.attrib["rle"].split(",")])
    if runs.sum() != across * down:
        raise ValueError(f"run lengths of {runs.sum()} pixels for {across} x {down}")
    return _patch(left, top, np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(down, across))


def cvat_shapes(image: Any) -> list[tuple[str, Shape]]:
    """Shapes below an <image> of CVAT's XML, with their labels. Raises ValueError."""
    made = []
    for each in image:
        if each.tag in BARE:
            continue
        if each.tag not in CVAT:
            raise ValueError(f"a {each.tag} is no area")
        try:
            if float(each.get("rotation", 0)):
                raise ValueError("it is turned; draw it as a polygon")
            made.append((each.attrib["label"], CVAT[each.tag](each)))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"a {each.tag}: {error}") from error
    return made


CVAT: Mapping[str, Callable[[Any], Shape]] = {
    "polygon": _cvat_polygon,
    "box": lambda each: box(*_cvat_numbers(each, "xtl", "ytl", "xbr", "ybr")),
    "ellipse": lambda each: ellipse(*_cvat_numbers(each, "cx", "cy", "rx", "ry")),
    "mask": _cvat_mask,
}
