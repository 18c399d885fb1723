"""segment: a network tells which pixels are what; objects are numbered, and their masks are kept with the image.

For each class of the model: `masks`, a PNG of the image's size in 16 bits, 0 outside and a number an object; `objects`,
how many there are; `coverage`, the share of the image they cover. Of a model with several classes each column bears the
class's name: `masks_streaks`. `crop(source="mask")` makes an item of every object.
"""

from __future__ import annotations

import re
from typing import Literal

import numpy as np
import pyarrow as pa

from imagier import images
from imagier.models.segmenting import Cleaning, Found
from imagier.stages._pixels import eight_bit
from imagier.stages._place import Frame, frame, in_original
from imagier.types import Apply, Columns, ImageError, NameOrFile, Regions, SettingError, Stage, Step

MOST = np.iinfo(np.uint16).max


UNNAMED = (
    "segment.model must be given, a segmenter's name or Model folder: 'nuclei' ships. Another is trained by: imagier "
    "train segmenter --config lesions --images DIR --masks DIR --into MODEL (docs/training.md); then --set "
    "segment.model=MODEL, or the step's own name for segment"
)
"""What is said of a step without a model, in one message."""


def make(
    *,
    model: NameOrFile = "",
    threshold: float = 0.5,
    fill: float = 0.01,
    least: int = 0,
    split: bool = False,
    flips: bool = False,
    tile: int | None = None,
    memory: int | None = None,
    engine: Literal["auto", "openvino", "onnxruntime", "torch"] = "auto",
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
) -> Step:
    """`masks`, `objects`, `coverage`: what is where, how often, and the share of the image; a set for each class.

    model: a segmenter's name, such as "nuclei", which ships; or the path of a Model folder. It must be given.
    threshold: inside is what is likelier than this.
    fill: holes up to this share of the image are closed.
    least: pixels of the smallest object that is kept.
    split: touching objects are told apart, by the model's own sense of their cores where it has one.
    flips: the mean over the image and its mirror images, four times the work.
    memory: megabytes that a network which takes any size may take, a worker: larger images go through in overlapping
        tiles, as large as fit; 500, unless given. tile: or so many pixels a side.
    engine: what runs the network. precision: what it computes in.
    """
    from imagier.models import engines, segmenting
    from imagier.models.store import find

    if not model:
        raise SettingError(UNNAMED)
    how = Cleaning(threshold, fill, least, split)
    found = find(model, "segment")
    side = segmenting.tile_of(found, tile, memory)
    choice = engines.choose(found, engine, precision)
    names = suffixes(segmenting.classes(found))

    def load() -> Apply:
        tell = segmenting.teller(found, engine=choice.engine, precision=choice.precision, flips=flips, tile=side)

        def apply(columns: Columns) -> Columns:
            out: Columns = {name: [] for suffix in names for name in (f"masks{suffix}", f"objects{suffix}")}
            out |= {f"coverage{suffix}": [] for suffix in names} | {"regions": []}
            places = zip(eight_bit(columns), *(columns[each] for each in ("width", "height", "box")), strict=True)
            for image, width, height, box in places:
                made = segmenting.found(image, found, tell, how)
                for at, suffix in enumerate(names):
                    numbers = made.objects[:, :, at]
                    out[f"masks{suffix}"].append(packed(numbers))
                    out[f"objects{suffix}"].append(int(numbers.max(initial=0)))
                    out[f"coverage{suffix}"].append(float(made.inside[:, :, at].mean()))
                out["regions"].append(regions(made, frame(image, width, height, box)))
            return out

        return apply

    fields = [
        pa.field(f"{name}{suffix}", kind)
        for suffix in names
        for name, kind in (("masks", pa.binary()), ("objects", pa.int32()), ("coverage", pa.float32()))
    ]
    return Step(
        reads=("image", "black", "white", "width", "height", "box"),
        writes=pa.schema(fields),
        load=load,
        passes=("regions",),
        weights=found.keys,
        precision=choice.precision,
        pixels=None,  # masks are of the image's own size
    )


def suffixes(classes: tuple[str, ...]) -> tuple[str, ...]:
    """What follows the columns' names for each class: nothing for one alone, else its name."""
    if len(classes) == 1:
        return ("",)
    made: list[str] = []
    for name in classes:
        plain = "_" + (re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "class")
        made.append(plain if plain not in made else f"{plain}_{len(made) + 1}")
    return tuple(made)


def packed(numbers: np.ndarray) -> bytes:
    """A label image, (h, w) int32, as a PNG of 16 bits. Raises ImageError for more objects than that holds."""
    if numbers.max(initial=0) > MOST:
        raise ImageError(f"{numbers.max()} objects are more than a label image holds: raise least")
    return images.encode(numbers.astype(np.uint16), "png")


def regions(made: Found, lies: Frame) -> Regions:
    """Every object of every class, in the original file's pixels, with its class and how likely it is."""
    from scipy.ndimage import find_objects

    boxes, masks, scores, labels = [], [], [], []
    for at, label in enumerate(made.classes):
        numbers, likely = made.objects[:, :, at], made.likely[:, :, at]
        for number, place in enumerate(find_objects(numbers), 1):
            inside = numbers[place] == number
            down, across = place
            box = in_original((across.start, down.start, across.stop, down.stop), lies)
            mask = _sized(inside, box)
            if not mask.size:
                continue  # of an enlarged image, and less than a pixel of the original
            boxes.append(box)
            masks.append(mask)
            scores.append(float(likely[place][inside].mean()))
            labels.append(label)
    return Regions(
        np.array(boxes, np.float32).reshape(-1, 4), tuple(masks), np.array(scores, np.float32).clip(0, 1), tuple(labels)
    )


def _sized(inside: np.ndarray, box: list[float]) -> np.ndarray:
    """A mask of the size that its box has in the original."""
    import cv2

    width, height = round(np.float32(box[2]) - np.float32(box[0])), round(np.float32(box[3]) - np.float32(box[1]))
    if inside.shape == (height, width):
        return inside
    size = (max(1, width), max(1, height))
    made: np.ndarray = cv2.resize(inside.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    return made[:height, :width]


SEGMENT = Stage(name="segment", version=1, over="rows", make=make)
"""Which pixels are what."""
