"""Truth: which pixels of an image are what, from the formats that people have it in.

    folders   a mask beside each image, one folder a class; what is not dark is inside. Classes may overlap
    labels    a label image each: 0 is background, every object has a number of its own
    coco      a COCO JSON file: polygons and run lengths
    labelme   a folder of labelme's JSON files: polygons, rectangles, circles
    cvat      CVAT's XML ("for images"): polygons, boxes, ellipses, masks

Each gives a Truth for the images at hand; a mask is read when it is asked for, and must have its image's size.
"""

from __future__ import annotations

import base64
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imagier import images
from imagier.types import ImageError, SettingError

OBJECT = "object"
"""The class of a label image's objects."""
FAINT = 16
"""A mask whose brightest pixel is no brighter is empty, unless it holds 0 and 1 alone: JPEG leaves such a haze."""
ENDINGS = ("", "_mask", "-mask", "_segmentation", "_lesion", "_label", "_labels", "_gt")
"""What a mask's name may have after its image's."""


@dataclass(frozen=True)
class Mask:
    """The truth of one image."""

    inside: np.ndarray
    """(h, w, classes) bool."""
    objects: np.ndarray | None = None
    """(h, w) int32: 0, or an object's number. None where the truth does not tell objects apart."""


Draw = Callable[[int, int], Mask]
"""Height and width of the image to its truth. Raises ImageError, which names the file, where it does not fit."""


@dataclass(frozen=True)
class Truth:
    """What is known of some images."""

    classes: tuple[str, ...]
    draw: Mapping[Path, Draw]
    """By image; one without an entry has no truth."""
    instances: bool
    """Whether objects are told apart."""


def folders(pictures: Sequence[Path], root: Path, named: Mapping[str, Path]) -> Truth:
    """Mask folders by class. A mask has its image's name (or that with "_mask", ...), in the same subfolder of `root`.

    An image that has a mask in one folder and none in another is not of that other class anywhere. Raises SettingError
    for a folder without masks.
    """
    found: dict[Path, dict[str, Path]] = {}
    for name, folder in named.items():
        files = _by_name(folder)
        for picture in pictures:
            path = _beside(picture, root, files)
            if path is not None:
                found.setdefault(picture, {})[name] = path
        if not any(name in each for each in found.values()):
            raise SettingError(f"{folder} holds no mask that is called as one of the {len(pictures)} images is")
    classes = tuple(named)
    return Truth(classes, {picture: _masks(classes, each) for picture, each in found.items()}, False)


def labels(pictures: Sequence[Path], root: Path, folder: Path) -> Truth:
    """Label images: 8 or 16 bits, grey. Raises SettingError for a folder without any that fits."""
    files = _by_name(folder)
    found = {picture: path for picture in pictures if (path := _beside(picture, root, files)) is not None}
    if not found:
        raise SettingError(f"{folder} holds no label image that is called as one of the {len(pictures)} images is")

    def drawn(path: Path) -> Draw:
        def draw(height: int, width: int) -> Mask:
            image = _decoded(path, height, width)
            if image.ndim == 3 or image.dtype.kind == "f":
                raise ImageError(f"{path}: a label image is grey with 8 or 16 bits, and this has {image.dtype} colours")
            numbers = image.astype(np.int32)
            return Mask((numbers > 0)[:, :, None], numbers)

        return draw

    return Truth((OBJECT,), {picture: drawn(path) for picture, path in found.items()}, True)


def coco(pictures: Sequence[Path], root: Path, file: Path) -> Truth:
    """A COCO file; its `file_name`s are paths below `root`, or bare names."""
    told = _json(file)
    try:
        classes = {each["id"]: str(each["name"]) for each in told["categories"]}
        of: dict[Any, list[dict]] = {}
        for each in told["annotations"]:
            of.setdefault(each["image_id"], []).append(each)
        names = {str(each["file_name"]): each["id"] for each in told["images"]}
        kinds = tuple(dict.fromkeys(classes.values()))
        at = {key: kinds.index(name) for key, name in classes.items()}
        shapes = {
            key: [(at[each["category_id"]], _coco_shape(each["segmentation"], file)) for each in listed]
            for key, listed in of.items()
        }
    except (KeyError, TypeError, ValueError) as error:
        raise SettingError(f"{file} is no COCO file of masks: {error!r} is missing or not as it should be") from error
    found = _named(pictures, root, names)
    return _checked(
        Truth(kinds, {p: _shapes(len(kinds), shapes.get(key, []), file) for p, key in found.items()}, True), file
    )


def labelme(pictures: Sequence[Path], root: Path, folder: Path) -> Truth:
    """A folder of labelme's JSON files, each called as its image."""
    files = {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.json"))}
    found = {p: path for p in pictures if (path := _beside(p, root, files)) is not None}
    read = {picture: (path, _labelme_shapes(path)) for picture, path in found.items()}
    kinds = tuple(sorted({name for _, listed in read.values() for name, _ in listed}))
    draw = {
        picture: _shapes(len(kinds), [(kinds.index(name), shape) for name, shape in listed], path)
        for picture, (path, listed) in read.items()
    }
    return _checked(Truth(kinds, draw, True), folder)


def cvat(pictures: Sequence[Path], root: Path, file: Path) -> Truth:
    """CVAT's XML for images, version 1.1."""
    try:
        tree = ElementTree.fromstring(_text(file))
    except ElementTree.ParseError as error:
        raise SettingError(f"{file} is no XML: {error}") from error
    read: dict[str, list[tuple[str, Shape]]] = {}
    for image in tree.iter("image"):
        listed = read.setdefault(image.get("name", ""), [])
        for each in image:
            if each.tag in BARE:
                continue
            try:
                if float(each.get("rotation", 0)):
                    raise ValueError("it is turned; draw it as a polygon")
                shape = CVAT[each.tag](each)
            except KeyError as error:
                raise SettingError(f"{file}: {image.get('name')} holds a {error}, which is no area") from error
            except (TypeError, ValueError) as error:
                raise SettingError(f"{file}: a {each.tag} of {image.get('name')}: {error}") from error
            listed.append((each.get("label", OBJECT), shape))
    kinds = tuple(sorted({name for listed in read.values() for name, _ in listed}))
    found = _named(pictures, root, {name: name for name in read})
    draw = {
        picture: _shapes(len(kinds), [(kinds.index(name), shape) for name, shape in read[key]], file)
        for picture, key in found.items()
    }
    return _checked(Truth(kinds, draw, True), file)


def _checked(truth: Truth, source: Path) -> Truth:
    if not truth.draw:
        raise SettingError(f"{source} names none of the images at hand")
    if not truth.classes:
        raise SettingError(f"{source} draws nothing: no polygon, box or mask is in it")
    return truth


# ---------------------------------------------------------------- files


def _by_name(folder: Path) -> dict[str, Path]:
    """Image files below a folder, by their path without its ending."""
    if not folder.is_dir():
        raise SettingError(f"{folder} is no folder")
    files = (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in images.SUFFIXES)
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in files}


def _beside(picture: Path, root: Path, files: Mapping[str, Path]) -> Path | None:
    """The file that goes with an image: in the same subfolder, or alone in the folder."""
    name = picture.relative_to(root).with_suffix("").as_posix()
    return next((files[name + ending] for ending in ENDINGS if name + ending in files), None)


def _named(pictures: Sequence[Path], root: Path, names: Mapping[str, Any]) -> dict[Path, Any]:
    """What an annotation file calls each image: its path below `root`, or its bare name where only one has it."""
    bare: dict[str, list[Any]] = {}
    for name, key in names.items():
        bare.setdefault(re.split(r"[/\\]", name)[-1], []).append(key)
    found = {}
    for picture in pictures:
        path = picture.relative_to(root).as_posix()
        if path in names:
            found[picture] = names[path]
        elif len(bare.get(picture.name, ())) == 1:
            found[picture] = bare[picture.name][0]
    return found


def _text(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise SettingError(f"{file} cannot be read: {error.strerror}") from error


def _json(file: Path) -> dict:
    try:
        told = json.loads(_text(file))
    except ValueError as error:
        raise SettingError(f"{file} is no JSON: {error}") from error
    if not isinstance(told, dict):
        raise SettingError(f"{file} holds a {type(told).__name__}, not an object")
    return told


def _decoded(path: Path, height: int, width: int) -> np.ndarray:
    try:
        image = images.decode(path.read_bytes()).image
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}") from error
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error
    if image.shape[:2] != (height, width):
        raise ImageError(f"{path} has {image.shape[1]} x {image.shape[0]} pixels, its image {width} x {height}")
    return image


def _masks(classes: Sequence[str], files: Mapping[str, Path]) -> Draw:
    def draw(height: int, width: int) -> Mask:
        inside = np.zeros((height, width, len(classes)), bool)
        for at, name in enumerate(classes):
            if name in files:
                inside[:, :, at] = bright(_decoded(files[name], height, width))
        return Mask(inside)

    return draw


def bright(image: np.ndarray) -> np.ndarray:
    """(h, w) bool of a mask's pixels, grey or colour, any depth: above half of its brightest.

    Masks are written with 1, 255 or 65535 for inside, and as JPEG with a haze about both.
    """
    grey = image.max(2) if image.ndim == 3 else image
    top = float(grey.max(initial=0))
    faint = FAINT / 255 if grey.dtype.kind == "f" else FAINT
    if top == 0 or (top <= faint and grey.dtype.kind != "f" and top != 1):
        return np.zeros(grey.shape, bool)
    inside: np.ndarray = grey > top / 2
    return inside


# ---------------------------------------------------------------- shapes

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


def _any_of(shapes: Sequence[Shape]) -> Shape:
    return lambda height, width: np.any([shape(height, width) for shape in shapes], axis=0)


def _shapes(classes: int, listed: Sequence[tuple[int, Shape]], source: Path) -> Draw:
    def draw(height: int, width: int) -> Mask:
        inside = np.zeros((height, width, classes), bool)
        objects = np.zeros((height, width), np.int32)
        for number, (at, shape) in enumerate(listed, 1):
            try:
                drawn = shape(height, width)
            except ValueError as error:
                raise ImageError(f"{source}: {error}") from error
            inside[:, :, at] |= drawn
            objects[drawn] = number
        return Mask(inside, objects)

    return draw


def _coco_shape(told: Any, file: Path) -> Shape:
    if isinstance(told, list):
        return _any_of([polygon(np.reshape(each, (-1, 2)).tolist()) for each in told])
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
            letter = ord(text[at]) - 48
            number |= (letter & 0x1F) << shift
            more, at, shift = bool(letter & 0x20), at + 1, shift + 5
            if not more and letter & 0x10:
                number |= -1 << shift
        counts.append(number + counts[-2] if len(counts) > 2 else number)
    return counts


def _labelme_shapes(path: Path) -> list[tuple[str, Shape]]:
    """Objects of a file: shapes of one label and one group are one."""
    objects: dict[tuple[str, Any], list[Shape]] = {}
    for at, each in enumerate(_json(path).get("shapes", [])):
        try:
            kind = each.get("shape_type", "polygon")
            if kind in BARE:
                continue
            group = each.get("group_id")
            objects.setdefault((str(each["label"]), ("alone", at) if group is None else group), []).append(
                LABELME[kind](each)
            )
        except (KeyError, TypeError, ValueError, IndexError, ImageError) as error:
            raise SettingError(f"{path}: a shape that labelme does not write: {error!r}") from error
    return [(name, _any_of(shapes)) for (name, _), shapes in objects.items()]


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
    return polygon([[float(part) for part in pair.split(",")] for pair in each.get("points").split(";")])


def _cvat_numbers(each: Any, *names: str) -> list[float]:
    return [float(each.get(name)) for name in names]


def _cvat_mask(each: Any) -> Shape:
    left, top, across, down = (int(number) for number in _cvat_numbers(each, "left", "top", "width", "height"))
    runs = np.array([int(part) for part in each.get("rle").split(",")])
    if runs.sum() != across * down:
        raise ValueError(f"run lengths of {runs.sum()} pixels for {across} x {down}")
    return _patch(left, top, np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(down, across))


CVAT: Mapping[str, Callable[[Any], Shape]] = {
    "polygon": _cvat_polygon,
    "box": lambda each: box(*_cvat_numbers(each, "xtl", "ytl", "xbr", "ybr")),
    "ellipse": lambda each: ellipse(*_cvat_numbers(each, "cx", "cy", "rx", "ry")),
    "mask": _cvat_mask,
}
