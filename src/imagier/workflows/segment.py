"""Put images through a segmenter: masks, overlays, and what was found in each, as files."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imagier import _progress, images
from imagier._names import distinct, distinct_paths
from imagier.collection import write_whole
from imagier.models.segmenting import Cleaning, Found, Tell, found, teller
from imagier.outputs.masks import overlay
from imagier.types import Image, ImageError, SettingError

if TYPE_CHECKING:
    from imagier.models.model import Model


def load(model: str | os.PathLike[str], *, flips: bool = False) -> tuple[Model, Tell]:
    """A segmenter by name or folder. Raises SettingError, ModelError."""
    from imagier.models.store import find

    chosen = find(os.fspath(model), "segment")
    return chosen, teller(chosen, flips=flips)


def read(path: Path) -> Image:
    """An image file's first page, uint8. Raises ImageError, which names it."""
    decoded = images.read(path)
    return images.to_uint8(decoded.image, decoded.black, decoded.white)


@dataclass(frozen=True)
class Outcome:
    """What `segment` did."""

    rows: tuple[dict[str, Any], ...]
    failed: tuple[str, ...]
    """Reasons, each with its file."""


def segment(
    sources: Sequence[str | os.PathLike[str]],
    *,
    model: str | os.PathLike[str],
    into: Path,
    how: Cleaning | None = None,
    flips: bool = False,
    progress: bool = True,
) -> Outcome:
    """Write `masks/CLASS/NAME.png` (0 and 255; where objects are split, 16-bit label images in `labels/` as well),
    `overlays/NAME.png` and `segments.json` for every image of the sources.

    A file that is no image is told, and stops nothing. Raises SettingError, ModelError, SourceError.
    """
    from imagier.sources import scan

    how = how or Cleaning()
    listed = scan(sources).files
    if not listed:
        raise SettingError("there are no images in what was named")
    chosen, tell = load(model, flips=flips)
    rows: list[dict[str, Any]] = []
    failed: list[str] = []
    named = list(zip(listed, distinct_paths([each.name for each in listed]), strict=True))
    for each, name in _progress.bar(len(named), progress).over(named):
        try:
            made = found(read(Path(each.path)), chosen, tell, how)
        except ImageError as error:
            failed.append(str(error))
            continue
        rows.append({"file": each.path, **_written(made, into, name, how)})
    data = json.dumps({"model": chosen.card.name, "images": rows, "failed": failed}, indent=1)
    write_whole(into / "segments.json", data.encode())
    return Outcome(tuple(rows), tuple(failed))


def _written(made: Found, into: Path, name: str, how: Cleaning) -> dict[str, Any]:
    told: dict[str, Any] = {"width": made.image.shape[1], "height": made.image.shape[0], "classes": {}}
    for at, (label, folder) in enumerate(zip(made.classes, distinct(made.classes), strict=True)):
        inside, numbers = made.inside[:, :, at], made.objects[:, :, at]
        path = into / "masks" / folder / f"{name}.png"
        write_whole(path, images.encode(np.where(inside, 255, 0).astype(np.uint8), "png"))
        entry: dict[str, Any] = {
            "mask": path.relative_to(into).as_posix(),
            "coverage": float(inside.mean()),
            "objects": objects_of(numbers, made.likely[:, :, at]),
        }
        if how.split:
            if numbers.max(initial=0) > np.iinfo(np.uint16).max:
                raise SettingError(f"{name}: {numbers.max()} objects are more than a label image of 16 bits holds")
            path = into / "labels" / folder / f"{name}.png"
            write_whole(path, images.encode(numbers.astype(np.uint16), "png"))
            entry["labels"] = path.relative_to(into).as_posix()
        told["classes"][label] = entry
    path = into / "overlays" / f"{name}.png"
    write_whole(path, images.encode(overlay(made.image, made.objects), "png"))
    return told | {"overlay": path.relative_to(into).as_posix()}


def objects_of(numbers: np.ndarray, likely: np.ndarray) -> list[dict[str, Any]]:
    """Box, area in pixels and mean likelihood of each object."""
    from scipy.ndimage import find_objects

    made = []
    for number, place in enumerate(find_objects(numbers), 1):
        inside = numbers[place] == number
        down, across = place
        made.append(
            {
                "box": [across.start, down.start, across.stop, down.stop],
                "area": int(inside.sum()),
                "score": round(float(likely[place][inside].mean()), 4),
            }
        )
    return made
