"""Put images through a segmenter: masks, overlays, and what was found in each, as files."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imagier import images
from imagier.algorithms import masks
from imagier.collection import write_whole
from imagier.types import Image, ImageError, SettingError
from imagier.workflows._names import distinct

if TYPE_CHECKING:
    from imagier.models.model import Model
    from imagier.models.segmenting import Tell

COLOURS = np.array(
    [[230, 75, 53], [77, 187, 213], [0, 160, 135], [243, 155, 127], [132, 145, 180], [145, 209, 194]], np.uint8
)


@dataclass(frozen=True)
class Cleaning:
    """From probabilities to masks and objects."""

    threshold: float = 0.5
    fill: float = 0.01
    """Holes up to this share of the image are closed."""
    least: int = 0
    """Pixels of the smallest object that is kept."""
    split: bool = False
    """Touching objects are told apart: by the model's cores where it has them."""

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise SettingError(f"threshold cannot be {self.threshold}: it takes a number between 0 and 1")
        if not 0 <= self.fill <= 1 or self.least < 0:
            raise SettingError("fill is a share of the image, 0 to 1, and least a number of pixels")


@dataclass(frozen=True)
class Found:
    """What a segmenter found in an image."""

    image: Image
    """As it was shown to it, uint8."""
    classes: tuple[str, ...]
    inside: np.ndarray
    """(h, w, classes) bool."""
    objects: np.ndarray
    """(h, w, classes) int32: every object of a class has a number, 0 is none."""
    likely: np.ndarray
    """(h, w, classes) float32: how likely each pixel is inside."""


def found(image: Image, model: Model, tell: Tell, how: Cleaning) -> Found:
    """One image, uint8, through a loaded segmenter."""
    from imagier.models.segmenting import classes, has_cores

    names, likely = classes(model), tell(image)
    cores = likely[:, :, -1] > how.threshold if has_cores(model) else None
    likely = likely[:, :, : len(names)]
    inside, numbers = np.zeros(likely.shape, bool), np.zeros(likely.shape, np.int32)
    for at in range(len(names)):
        inside[:, :, at] = masks.cleaned(likely[:, :, at] > how.threshold, fill=how.fill, least=how.least)
        numbers[:, :, at] = masks.objects(inside[:, :, at], cores, split=how.split)
    return Found(image, names, inside, numbers, likely)


def load(model: str | os.PathLike[str], *, flips: bool = False) -> tuple[Model, Tell]:
    """A segmenter by name or folder. Raises SettingError, ModelError."""
    from imagier.models.segmenting import teller
    from imagier.models.store import find

    chosen = find(os.fspath(model), "segment")
    return chosen, teller(chosen, flips=flips)


def read(path: Path) -> Image:
    """An image file's first page, uint8. Raises ImageError, which names it."""
    try:
        decoded = images.decode(path.read_bytes())
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}") from error
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error
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
    from tqdm import tqdm

    from imagier.sources import scan

    how = how or Cleaning()
    listed = scan(sources).files
    if not listed:
        raise SettingError("there are no images in what was named")
    chosen, tell = load(model, flips=flips)
    rows: list[dict[str, Any]] = []
    failed: list[str] = []
    named = list(zip(listed, _names([each.name for each in listed]), strict=True))
    for each, name in tqdm(named, unit="image", disable=not progress):
        try:
            made = found(read(Path(each.path)), chosen, tell, how)
        except ImageError as error:
            failed.append(str(error))
            continue
        rows.append({"file": each.path, **_written(made, into, name, how)})
    data = json.dumps({"model": chosen.card.name, "images": rows, "failed": failed}, indent=1)
    write_whole(into / "segments.json", data.encode())
    return Outcome(tuple(rows), tuple(failed))


def _names(files: Sequence[str]) -> list[str]:
    """What each file's masks are called, without an ending: in its subfolder, no two alike on any system."""
    by_folder: dict[str, list[int]] = {}
    for at, file in enumerate(files):
        by_folder.setdefault(os.path.dirname(file), []).append(at)
    made = [""] * len(files)
    for folder, places in by_folder.items():
        for at, name in zip(places, distinct([Path(files[at]).stem for at in places]), strict=True):
            made[at] = os.path.join(folder, name)
    return made


def _written(made: Found, into: Path, name: str, how: Cleaning) -> dict[str, Any]:
    told: dict[str, Any] = {"width": made.image.shape[1], "height": made.image.shape[0], "classes": {}}
    for at, (label, folder) in enumerate(zip(made.classes, distinct(made.classes), strict=True)):
        inside, numbers = made.inside[:, :, at], made.objects[:, :, at]
        path = into / "masks" / folder / f"{name}.png"
        write_whole(path, images.encode(np.where(inside, 255, 0).astype(np.uint8), "png"))
        entry: dict[str, Any] = {
            "mask": path.relative_to(into).as_posix(),
            "coverage": float(inside.mean()),
            "objects": _objects(numbers, made.likely[:, :, at]),
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


def _objects(numbers: np.ndarray, likely: np.ndarray) -> list[dict[str, Any]]:
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


def overlay(image: Image, objects: np.ndarray, *, opacity: float = 0.35) -> Image:
    """(h, w, 3) uint8: the image with each class's objects tinted in its colour, their edges drawn.

    objects: (h, w, classes) int32.
    """
    from skimage.segmentation import find_boundaries

    from imagier.models.preprocess import in_colour

    shown = in_colour(image, "rgb").astype(np.float32)
    for at in range(objects.shape[2]):
        numbers, colour = objects[:, :, at], COLOURS[at % len(COLOURS)].astype(np.float32)
        shown[numbers > 0] = (1 - opacity) * shown[numbers > 0] + opacity * colour
        shown[find_boundaries(numbers, mode="inner")] = colour
    made: Image = shown.astype(np.uint8)
    return made
