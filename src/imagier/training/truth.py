"""Truth: which pixels of an image are what, from the formats that people have it in.

    folders   a mask beside each image, one folder a class; what is not dark is inside. Classes may overlap
    labels    a label image each: 0 is background, every object has a number of its own
    coco      a COCO JSON file: polygons and run lengths
    labelme   a folder of labelme's JSON files: polygons, rectangles, circles, masks
    cvat      CVAT's XML ("for images"): polygons, boxes, ellipses, masks

Each gives a Truth for the images at hand; a mask is read when it is asked for, and must have its image's size.
"""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imagier import images
from imagier.models.segmenting import OBJECT
from imagier.training.shapes import Shape, coco_shape, cvat_shapes, labelme_shapes
from imagier.types import ImageError, SettingError

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
    """(h, w, classes) int32: 0, or an object's number. None where the truth does not tell objects apart."""


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

    Where a folder holds masks that are called after the class as well, NAME.CLASS or NAME_CLASS, those alone are its:
    one folder may hold the masks of several classes.
    An image that has a mask in one folder and none in another is not of that other class anywhere. Raises SettingError
    for a folder without masks.
    """
    found: dict[Path, dict[str, Path]] = {}
    for name, folder in named.items():
        files = by_name(folder)
        of_class = beside(pictures, root, files, (f".{name}", f"_{name}"))
        for picture, path in (of_class or beside(pictures, root, files)).items():
            found.setdefault(picture, {})[name] = path
        if not any(name in each for each in found.values()):
            raise SettingError(f"{folder} holds no mask that is called as one of the {len(pictures)} images is")
    classes = tuple(named)
    return Truth(classes, {picture: _masks(classes, each) for picture, each in found.items()}, False)


def labels(pictures: Sequence[Path], root: Path, folder: Path) -> Truth:
    """Label images: 8 or 16 bits, grey. Raises SettingError for a folder without any that fits."""
    found = beside(pictures, root, by_name(folder))
    if not found:
        raise SettingError(f"{folder} holds no label image that is called as one of the {len(pictures)} images is")

    return Truth((OBJECT,), {picture: _numbered(path) for picture, path in found.items()}, True)


def corrected(found: Mapping[Path, Path], name: str) -> Truth:
    """The label image of each image, all of one class. Objects are told apart where none holds 255 alone.

    Raises ImageError for one that is gone.
    """
    values = [np.unique(images.read(path).image) for path in found.values()]
    apart = not any(each[each > 0].tolist() == [255] for each in values)
    return Truth((name,), {picture: _numbered(path, apart) for picture, path in found.items()}, apart)


def _numbered(path: Path, apart: bool = True) -> Draw:
    """A label image's. apart: its numbers are objects."""

    def draw(height: int, width: int) -> Mask:
        image = _decoded(path, height, width)
        if image.ndim == 3 or image.dtype.kind == "f":
            raise ImageError(f"{path}: a label image is grey with 8 or 16 bits, and this has {image.dtype} colours")
        numbers = image.astype(np.int32)[:, :, None]
        return Mask(numbers > 0, numbers if apart else None)

    return draw


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
            key: [(at[each["category_id"]], coco_shape(each["segmentation"])) for each in listed]
            for key, listed in of.items()
        }
    except (KeyError, TypeError, ValueError) as error:
        raise SettingError(f"{file} is no COCO file of masks: {error!r} is missing or not as it should be") from error
    found = _named(pictures, root, names)
    draw = {picture: _shapes(len(kinds), shapes.get(key, []), file) for picture, key in found.items()}
    return _checked(Truth(kinds, draw, True), file)


def labelme(pictures: Sequence[Path], root: Path, folder: Path) -> Truth:
    """A folder of labelme's JSON files, each called as its image."""
    files = {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.json"))}
    found = beside(pictures, root, files).items()
    read = {picture: (_told(path, labelme_shapes, _json(path)), path) for picture, path in found}
    return _checked(_of_shapes(read), folder)


def cvat(pictures: Sequence[Path], root: Path, file: Path) -> Truth:
    """CVAT's XML for images, version 1.1."""
    try:
        tree = ElementTree.fromstring(_text(file))
    except ElementTree.ParseError as error:
        raise SettingError(f"{file} is no XML: {error}") from error
    by_name = {image.get("name", ""): image for image in tree.iter("image")}
    found = _named(pictures, root, by_name)
    read = {picture: (_told(file, cvat_shapes, image), file) for picture, image in found.items()}
    return _checked(_of_shapes(read), file)


def _told(source: Path, reader: Callable[[Any], list[tuple[str, Shape]]], told: Any) -> list[tuple[str, Shape]]:
    """What a reader makes of a part of a file, or one message that names the file."""
    try:
        return reader(told)
    except ValueError as error:
        raise SettingError(f"{source}: {error}") from error


def _of_shapes(read: Mapping[Path, tuple[list[tuple[str, Shape]], Path]]) -> Truth:
    """By image, its labelled shapes and the file that they are from."""
    kinds = tuple(sorted({name for listed, _ in read.values() for name, _ in listed}))
    draw = {
        picture: _shapes(len(kinds), [(kinds.index(name), shape) for name, shape in listed], source)
        for picture, (listed, source) in read.items()
    }
    return Truth(kinds, draw, True)


def _checked(truth: Truth, source: Path) -> Truth:
    if not truth.draw:
        raise SettingError(f"{source} names none of the images at hand")
    if not truth.classes:
        raise SettingError(f"{source} draws nothing: no polygon, box or mask is in it")
    return truth


# ---------------------------------------------------------------- files


def by_name(folder: Path) -> dict[str, Path]:
    """Image files below a folder, by their path without its ending."""
    if not folder.is_dir():
        raise SettingError(f"{folder} is no folder")
    files = (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in images.SUFFIXES)
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in files}


def beside(
    pictures: Sequence[Path], root: Path, files: Mapping[str, Path], endings: Sequence[str] = ENDINGS
) -> dict[Path, Path]:
    """The file that goes with each image, where there is one: in the same subfolder, of its name with one of `endings`.

    files: by their path without its ending.
    """
    made = {}
    for picture in pictures:
        name = picture.relative_to(root).with_suffix("").as_posix()
        path = next((files[name + ending] for ending in endings if name + ending in files), None)
        if path is not None:
            made[picture] = path
    return made


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
    if grey.dtype.kind != "f" and 1 < top <= FAINT:
        return np.zeros(grey.shape, bool)
    inside: np.ndarray = grey > top / 2
    return inside


def _shapes(classes: int, listed: Sequence[tuple[int, Shape]], source: Path) -> Draw:
    def draw(height: int, width: int) -> Mask:
        inside = np.zeros((height, width, classes), bool)
        objects = np.zeros(inside.shape, np.int32)
        for number, (at, shape) in enumerate(listed, 1):
            try:
                drawn = shape(height, width)
            except ValueError as error:
                raise ImageError(f"{source}: {error}") from error
            inside[:, :, at] |= drawn
            objects[drawn, at] = number
        return Mask(inside, objects)

    return draw
