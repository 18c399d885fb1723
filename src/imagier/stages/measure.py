"""measure: what every region is like, in numbers: size and shape, colour and texture, and what else lies on it.

Of items that `crop(source="mask")` cut out. Lengths are in pixels (`area_px2`, `perimeter_px`), and, where the size of
a pixel is known, in micrometres too (`area_um2`, `perimeter_um`; else null). Columns without an ending have no unit;
colours are on 0 to 255.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from imagier import images
from imagier.algorithms import regions
from imagier.models.preprocess import in_colour
from imagier.stages._pixels import eight_bit
from imagier.types import Apply, Columns, SettingError, Stage, Step

UNITS = {regions.LENGTH: "_px", regions.SURFACE: "_px2", "deg": "_deg"}
TITLES = {name: name + UNITS.get(kind, "") for name, kind in regions.SHAPE.items()} | {
    name: name for name in (*regions.COLOUR, *regions.GREY)
}
"""Columns by what regions.py calls them."""
POWERS = {regions.LENGTH: 1, regions.SURFACE: 2}
METRIC = {
    name: (TITLES[name].replace("_px", "_um"), POWERS[kind]) for name, kind in regions.SHAPE.items() if kind in POWERS
}
"""Of lengths and areas, the column in micrometres, and by which power of a pixel's size it comes about."""


def make(*, pixel_size: float | None = None, attributes: list[str] | None = None) -> Step:
    """A column for each of algorithms/regions.py: area, perimeter, diameter, major_axis, minor_axis, solidity,
    eccentricity, orientation, irregularity, asymmetry; mean and spread of red, green, blue, grey and texture.

    pixel_size: micrometres a pixel, of all images; without it, what each file says (OME-TIFF, ImageJ, DICOM).
    attributes: columns of masks that a `segment` step made of the whole image, such as attributes_masks_streaks; the
        share of the region that each covers becomes a column, coverage_attributes_masks_streaks.
    """
    if pixel_size is not None and not pixel_size > 0:
        raise SettingError(f"measure.pixel_size cannot be {pixel_size}: it takes micrometres a pixel, above 0")
    attributes = attributes or []
    titles = [*TITLES.values(), *(title for title, _ in METRIC.values()), *(f"coverage_{name}" for name in attributes)]

    def load() -> Apply:
        def apply(given: Columns) -> Columns:
            out: Columns = {title: [] for title in titles}
            for at, image in enumerate(eight_bit(given)):
                packed = given["mask"][at]
                if packed is None:  # a whole image, where nothing was found
                    for values in out.values():
                        values.append(None)
                    continue
                mask = images.decode(packed).image > 0
                pixels = image
                if pixels.shape[:2] != mask.shape:  # it was enlarged or reduced on its way
                    pixels = images.resize(pixels, size=mask.shape[::-1])
                grey = in_colour(pixels, "grey")[:, :, 0]
                told = {
                    **regions.shape(mask),
                    **regions.colour(in_colour(pixels, "rgb"), mask),
                    **regions.grey(grey, mask),
                }
                for name, title in TITLES.items():
                    out[title].append(told[name])
                size = given["pixel_size_um"][at] if pixel_size is None else pixel_size
                for name, (title, power) in METRIC.items():
                    out[title].append(None if size is None else told[name] * size**power)
                box = given["box"][at]
                for name in attributes:
                    there = _part(images.decode(given[name][at]).image > 0, box, image.shape, mask.shape)
                    out[f"coverage_{name}"].append(float(there[mask].mean()))
            return out

        return apply

    return Step(
        reads=("image", "black", "white", "pixel_size_um", "box", "mask", *attributes),
        writes=pa.schema([pa.field(title, pa.float32()) for title in titles]),
        load=load,
    )


def _part(there: np.ndarray, box: list[float] | None, hand: tuple[int, ...], size: tuple[int, ...]) -> np.ndarray:
    """What a mask of the whole image, as it was in hand, holds of a region: (h, w) bool of the region's `size`.

    box: the region in the original's pixels. hand: its shape as it is in hand, larger where the image was enlarged.
    """
    down, across = hand[0] / size[0], hand[1] / size[1]
    left, top = (0.0, 0.0) if box is None else (float(box[0]), float(box[1]))
    y, x = round(top * down), round(left * across)
    part = there[y : y + hand[0], x : x + hand[1]]
    if part.shape == size:
        return part
    import cv2

    made: np.ndarray = cv2.resize(part.astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST) > 0
    return made


MEASURE = Stage(name="measure", version=2, over="rows", make=make)
"""Regions in numbers."""
