"""measure: what every region is like, in numbers: size and shape, colour and texture, and what else lies on it.

Of items that `crop(source="mask")` cut out. Without a pixel size lengths are in pixels (`area_px2`, `perimeter_px`);
with one they are in micrometres (`area_um2`, `perimeter_um`). Columns without an ending have no unit; colours are on 0
to 255.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from imagier import images
from imagier.algorithms import regions
from imagier.models.preprocess import in_colour
from imagier.stages._pixels import eight_bit
from imagier.types import Apply, Columns, SettingError, Stage, Step

NAMES = (*regions.SHAPE, *regions.COLOUR, *regions.GREY)


def make(*, pixel_size: float | None = None, attributes: list[str] | None = None) -> Step:
    """A column for each of algorithms/regions.py: area, perimeter, diameter, major_axis, minor_axis, solidity,
    eccentricity, orientation, irregularity, asymmetry; mean and spread of red, green, blue, grey and texture.

    pixel_size: micrometres a pixel; without it lengths are in pixels.
    attributes: columns of masks that a `segment` step made of the whole image, such as attributes_masks_streaks; the
        share of the region that each covers becomes a column, coverage_attributes_masks_streaks.
    """
    if pixel_size is not None and not pixel_size > 0:
        raise SettingError(f"measure.pixel_size cannot be {pixel_size}: it takes micrometres a pixel, above 0")
    unit, by = ("px", 1.0) if pixel_size is None else ("um", pixel_size)
    scale = {regions.LENGTH: (f"_{unit}", by), regions.SURFACE: (f"_{unit}2", by**2), "deg": ("_deg", 1.0)}
    columns = {name: (name + scale.get(kind, ("", 1.0))[0], scale.get(kind, ("", 1.0))[1])
               for name, kind in regions.SHAPE.items()}  # fmt: skip
    columns |= {name: (name, 1.0) for name in (*regions.COLOUR, *regions.GREY)}
    attributes = attributes or []

    def load() -> Apply:
        def apply(given: Columns) -> Columns:
            out: Columns = {title: [] for title, _ in columns.values()} | {
                f"coverage_{name}": [] for name in attributes
            }
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
                for name, (title, factor) in columns.items():
                    out[title].append(told[name] * factor)
                box = given["box"][at]
                for name in attributes:
                    there = _part(images.decode(given[name][at]).image > 0, box, image.shape, mask.shape)
                    out[f"coverage_{name}"].append(float(there[mask].mean()))
            return out

        return apply

    return Step(
        reads=("image", "black", "white", "box", "mask", *attributes),
        writes=pa.schema([pa.field(title, pa.float32()) for title in
                          (*(title for title, _ in columns.values()), *(f"coverage_{name}" for name in attributes))]),
        load=load,
    )  # fmt: skip


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


MEASURE = Stage(name="measure", version=1, over="rows", make=make)
"""Regions in numbers."""
