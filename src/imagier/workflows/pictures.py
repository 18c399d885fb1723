"""pictures: what can be laid over an item's picture, and the picture enhanced to be looked at. No file is changed."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from imagier import images, labels
from imagier.outputs import masks
from imagier.outputs.shown import PALETTE
from imagier.types import Apply, Image, SettingError, nearest
from imagier.workflows import heatmap
from imagier.workflows.browse import SIDE, Browser, NoSuchItem, check_side

Kind = Literal["mask", "labels", "heat"]
How = Literal["contrast", "clahe", "denoise", "upscale"]

HEAT = "heat"
"""The layer that is no column."""
INSIDE = 255
"""Of a mask that numbers no objects."""
FILL, OUTLINE = 115, 255
"""Opacity of an object, and of its outline."""
DARKER = 0.6
"""Of an object's colour: its outline."""
CUT = (0.5, 99.5)
"""Percentiles that become black and white."""
CLIP, TILES = 3.0, 8
"""CLAHE: how steep it may become, and into how many parts a side the image is divided."""
ENLARGED = 512
"""Pixels a side of what is enlarged: a processor takes seconds for that."""
_PNG = b"\x89PNG\r\n\x1a\n"
_networks = ThreadPoolExecutor(1, "enhance")
"""Networks are loaded and run in one thread, one at a time: an engine takes its memory for each thread anew."""


# ---------------------------------------------------------------- layers


@dataclass(frozen=True)
class Layer:
    """A mask or label image that can be laid over an item's picture."""

    column: str
    title: str
    """For a person."""
    kind: Kind
    """A mask is one object; labels number theirs; heat is how strange each place is, made anew."""
    objects: int
    of: str
    """The class that it is of."""


def layers(browser: Browser, item: str) -> list[Layer]:
    """What can be laid over an item's picture, by the order of the steps; what a person corrected is last.

    Raises NoSuchItem, and CollectionError where what a person corrected cannot be read.
    """
    corrected = browser.item(item)[labels.MASK] is not None
    titles = _titles(browser)
    columns = sorted(browser.masks(), key=[*titles, *browser.masks()].index)
    made = []
    if heatmap.inspected(browser, item) is not None:
        made.append(Layer(HEAT, "Heat", "heat", 0, "defect"))
    for column in columns + [labels.MASK] * corrected:
        numbers = _stored(browser, item, column)
        if numbers is not None:
            title, of = _told(browser, item, column, titles)
            kind: Kind = "mask" if _is_mask(numbers) else "labels"
            made.append(Layer(column, title, kind, int(np.count_nonzero(_counts(numbers)[1:])), of))
    return made


def coded(browser: Browser, item: str, column: str) -> bytes:
    """The objects' numbers, of the item's full size: a PNG of 8-bit RGB, the number R + 256 G, 0 outside.

    What is inside a mask that numbers nothing is object 1. Browsers read no 16-bit grey.
    Raises NoSuchItem, and SettingError for a column that is none, or an item of more than 4096 pixels a side.
    """
    width, height = _size(browser, item)
    if max(width, height) > SIDE:
        raise SettingError(
            f"item {item} has {width} x {height} pixels, and masks are corrected here up to {SIDE} a side: cut the "
            "image into parts and run on those, or send a mask made by another program (PUT /items/ID/mask)"
        )
    numbers = _numbers(browser, item, column)
    rgb = np.zeros((*numbers.shape, 3), np.uint8)
    rgb[..., 0], rgb[..., 1] = numbers & 255, numbers >> 8
    return images.encode(rgb, "png")


def layer(browser: Browser, item: str, column: str, side: int = 1024) -> bytes:
    """Objects in colours with darker outlines, transparent elsewhere: an RGBA PNG, sized as `Browser.picture` is.

    An object's colour goes by its number. Raises NoSuchItem, and SettingError for a column or side that is none.
    """
    check_side(side)
    if column == HEAT:
        return _png(_networks.submit(heatmap.tinted, browser, item, side).result())
    return _png(_coloured(_scaled(_numbers(browser, item, column), side)))


def _titles(browser: Browser) -> dict[str, tuple[str, str]]:
    """Column -> its title and class, in the order of the steps."""
    classes = masks.columns(browser.collection)
    found: dict[str, tuple[str, str]] = {}
    for receipt in browser.collection.receipts().values():
        told = "" if receipt.step == receipt.stage else f" ({receipt.step})"
        for name in receipt.writes:
            if name in classes:
                plain = classes[name] == masks.OBJECT
                found[name] = ("Objects" if plain else classes[name].replace("_", " ").capitalize(), classes[name])
            elif receipt.stage == "inspect" and name.endswith("defect_masks"):
                found[name] = (f"Defects{told}", "defect")
            elif receipt.stage == "crop" and name.endswith("mask"):
                found[name] = (f"The object itself{told}", labels.OBJECT)
    return found


def _told(browser: Browser, item: str, column: str, titles: dict[str, tuple[str, str]]) -> tuple[str, str]:
    """A layer's title and class."""
    if column == labels.MASK:
        row = labels.current(browser.collection)[labels.MASK].get(item)
        return "Corrected by a person", (row and row.of) or labels.OBJECT
    return titles.get(column, (column.replace("_", " ").capitalize(), labels.OBJECT))


def _stored(browser: Browser, item: str, column: str) -> Image | None:
    """A layer as it is kept, (h, w) uint8 or uint16; None: the item has none, or it is no grey PNG."""
    try:
        data = browser.mask(item, column)
    except NoSuchItem:
        return None
    image = images.decode(data).image if data.startswith(_PNG) else np.zeros(0)
    return image if image.ndim == 2 and image.dtype.kind == "u" else None


def _counts(numbers: Image) -> np.ndarray:
    """Number -> how many pixels have it."""
    return np.bincount(numbers.reshape(-1))


def _is_mask(numbers: Image) -> bool:
    return numbers.dtype == np.uint8 and not _counts(numbers)[1:INSIDE].any()


def _numbers(browser: Browser, item: str, column: str) -> np.ndarray:
    """(h, w) uint16, the item's own size: the number of the object that each pixel is of, 0 for none."""
    browser.item(item)
    stored = _stored(browser, item, column)
    if stored is None:
        raise NoSuchItem(f"item {item} has no layer {column}")
    numbers = (stored > 0).astype(np.uint16) if _is_mask(stored) else stored.astype(np.uint16)
    width, height = _size(browser, item)
    return _nearest(numbers, width, height)  # of an enlarged image it is larger


def _size(browser: Browser, item: str) -> tuple[int, int]:
    """Width and height of an item's pixels: an edge of a region may lie within a pixel."""
    row = browser.item(item)
    if row["box"] is None:
        return row["width"], row["height"]
    x0, y0, x1, y1 = (max(0, round(edge)) for edge in row["box"])  # as `Browser.pixels` cuts
    return x1 - x0, y1 - y0


def _scaled(numbers: np.ndarray, side: int) -> np.ndarray:
    """As large as `images.thumbnail` makes an image of this size."""
    height, width = numbers.shape
    longest = max(height, width)
    if longest <= side:
        return numbers
    return _nearest(numbers, max(1, round(width * side / longest)), max(1, round(height * side / longest)))


def _nearest(numbers: np.ndarray, width: int, height: int) -> np.ndarray:
    import cv2

    if numbers.shape == (height, width):
        return numbers
    made: np.ndarray = cv2.resize(numbers, (width, height), interpolation=cv2.INTER_NEAREST)
    return made


def _coloured(numbers: np.ndarray) -> Image:
    """(h, w, 4) uint8."""
    inner = np.ones(numbers.shape, bool)  # like all four around it; the image's own edge is no outline
    alike = numbers[1:] == numbers[:-1]
    inner[1:] &= alike
    inner[:-1] &= alike
    alike = numbers[:, 1:] == numbers[:, :-1]
    inner[:, 1:] &= alike
    inner[:, :-1] &= alike
    palette = np.array([[int(each[at : at + 2], 16) for at in (1, 3, 5)] for each in PALETTE], np.uint8)
    filled = np.append(palette, np.full((len(palette), 1), FILL, np.uint8), axis=1)
    dark = np.append((palette * DARKER).astype(np.uint8), np.full((len(palette), 1), OUTLINE, np.uint8), axis=1)
    at = (numbers.astype(np.int32) - 1) % len(palette)
    made: Image = np.where(inner[..., None], filled[at], dark[at])
    made[numbers == 0] = 0
    return made


def _png(rgba: Image) -> bytes:
    import cv2

    done, data = cv2.imencode(".png", cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGRA))
    assert done
    return bytes(data)


# ---------------------------------------------------------------- enhanced


def enhanced(browser: Browser, item: str, how: How, side: int = 1024) -> bytes:
    """An item's picture made easier to see, a JPEG. One larger than `side` is first brought to that.

    how: "contrast", all between two percentiles, stretched; "clahe", contrast by place, on the lightness; "denoise" and
    "upscale", by the models that ship: what is enlarged has 512 pixels a side at most, and is larger than `side` then.
    Raises NoSuchItem, SettingError, and CollectionError where the item's file is gone or has changed.
    """
    check_side(side)
    if how not in METHODS:
        raise SettingError(nearest("how", how, list(METHODS)))
    found = browser.pixels(item)
    if how == "upscale" and max(found.width, found.height) > ENLARGED:
        raise SettingError(
            f"item {item} has {found.width} x {found.height} pixels, and up to {ENLARGED} a side are enlarged here: "
            "look closer at its picture, or run the step upscale"
        )
    small = images.thumbnail(found.image, side)  # of any depth
    return images.encode(METHODS[how](small, found.black, found.white), "jpeg", quality=90)


def _contrast(image: Image, black: float, white: float) -> Image:
    low, high = (float(np.float32(each)) for each in np.percentile(image, CUT))
    return images.to_uint8(image, low, high) if high > low else images.to_uint8(image, black, white)


def _clahe(image: Image, black: float, white: float) -> Image:
    """Contrast-limited adaptive histogram equalisation (Zuiderveld 1994), on the lightness of CIELAB.

    Of what lies between the item's own black and white, at full depth, 256 levels are equalised: with the 65,536 of 16
    bits nearly every level of a part has one pixel, and no limit of the contrast holds.
    """
    import cv2

    eight = images.to_uint8(image, *images.levels(image))
    equalise = cv2.createCLAHE(clipLimit=CLIP, tileGridSize=(TILES, TILES)).apply
    if eight.ndim == 2:
        grey: Image = equalise(eight)
        return grey
    lab = cv2.cvtColor(eight, cv2.COLOR_RGB2LAB)
    lab[..., 0] = equalise(lab[..., 0])
    made: Image = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
    return made


def _denoise(image: Image, black: float, white: float) -> Image:
    return _restored("denoise", image, black, white)


def _upscale(image: Image, black: float, white: float) -> Image:
    return _restored("upscale", image, black, white)


METHODS: dict[str, Callable[[Image, float, float], Image]] = {
    "contrast": _contrast,
    "clahe": _clahe,
    "denoise": _denoise,
    "upscale": _upscale,
}


def _restored(stage: str, image: Image, black: float, white: float) -> Image:
    """By a stage's built-in networks, in 8 bits between black and white."""
    height, width = image.shape[:2]
    told: dict[str, Any] = {"image": image, "black": black, "white": white, "width": width, "height": height}

    def run() -> Image:
        made: Image = _loaded(stage)({name: [value] for name, value in told.items()})["image"][0]
        return made

    return images.to_uint8(_networks.submit(run).result(), black, white)


@functools.cache
def _loaded(stage: str) -> Apply:
    from imagier.stages import denoise, upscale

    step = denoise.make() if stage == "denoise" else upscale.make(below=sys.maxsize)
    apply: Apply = step.load()
    return apply
