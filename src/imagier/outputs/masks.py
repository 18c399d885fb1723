"""What segmenters found, as files for other programs: label images, overlays to look at, and COCO.

COCO is one JSON file: `images`, `categories`, and an annotation an object with its `bbox` (x, y, width, height),
`area`, `segmentation` as run lengths that are not packed (exact, and read by pycocotools), and `score` where there is
one. Where `crop` made items of the objects they are taken from those, by their own class; else from the label images
of `segment`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imagier import images
from imagier._names import distinct_paths
from imagier.collection import write_whole
from imagier.types import Image, SettingError

if TYPE_CHECKING:
    from imagier.collection import Collection

COLOURS = np.array(
    [[230, 75, 53], [77, 187, 213], [0, 160, 135], [243, 155, 127], [132, 145, 180], [145, 209, 194]], np.uint8
)
LABELS = "masks"
"""What columns of label images are called, after a step's prefix and before a class's name."""
OBJECT = "object"
"""The category of a lone, unnamed class."""


def columns(collection: Collection) -> dict[str, str]:
    """Columns of label images -> the class that each is of, in the order of the steps."""
    found: dict[str, str] = {}
    for receipt in collection.receipts().values():
        if receipt.stage == "segment":
            prefix = "" if receipt.step == receipt.stage else f"{receipt.step}_"
            start = f"{prefix}{LABELS}"
            for name in receipt.writes:
                if name.startswith(start):
                    found[name] = name.removeprefix(start).strip("_") or (prefix.strip("_") or OBJECT)
    return found


def coco(collection: Collection) -> dict[str, Any]:
    """The COCO file's content. Raises SettingError for a collection without masks."""
    names = columns(collection)
    if not names:
        raise SettingError("this collection has no masks: a step 'segment' makes them")
    of_crop = "mask" in collection.columns
    wanted = ["id", "name", "page", "parent", "width", "height", *names]
    table = collection.read([*wanted, *(("box", "mask", "detection", "detection_score") if of_crop else ())])
    rows = table.to_pylist()
    whole = [row for row in rows if row["parent"] is None]
    told = {row["id"]: number for number, row in enumerate(whole, 1)}
    sizes = {row["id"]: (row["height"], row["width"]) for row in whole}
    of_labels = (each for row in whole for each in _of_labels(row, names))
    found = list(_of_items(rows, sizes) if of_crop else of_labels)
    categories = {name: at for at, name in enumerate(sorted({each["category"] for each in found}), 1)}
    annotations = [
        {
            "id": number,
            "image_id": told[each.pop("image")],
            "category_id": categories[each.pop("category")],
            "iscrowd": 0,
            **each,
        }
        for number, each in enumerate(found, 1)
    ]
    return {
        "info": {"description": "imagier export --to coco"},
        "images": [
            {"id": told[row["id"]], "file_name": row["name"], "width": row["width"], "height": row["height"]}
            | ({"page": row["page"]} if row["page"] else {})
            for row in whole
        ],
        "categories": [{"id": at, "name": name} for name, at in categories.items()],
        "annotations": annotations,
    }


def _of_items(rows: list[dict[str, Any]], sizes: dict[str, tuple[int, int]]) -> Iterator[dict[str, Any]]:
    for row in rows:
        if row["mask"] is None or row["parent"] not in sizes:
            continue
        x0, y0 = (round(edge) for edge in row["box"][:2])
        inside = images.decode(row["mask"]).image > 0
        score = {} if row["detection_score"] is None else {"score": round(float(row["detection_score"]), 4)}
        yield {
            "image": row["parent"],
            "category": row["detection"],
            **_annotation(inside, x0, y0, sizes[row["parent"]]),
            **score,
        }


def _of_labels(row: dict[str, Any], names: dict[str, str]) -> Iterator[dict[str, Any]]:
    from scipy.ndimage import find_objects

    for column, name in names.items():
        numbers = label_image(row[column], row["height"], row["width"])
        for number, place in enumerate(find_objects(numbers), 1):
            inside = numbers[place] == number
            down, across = place
            yield {
                "image": row["id"],
                "category": name,
                **_annotation(inside, across.start, down.start, numbers.shape),
            }


def label_image(packed: bytes, height: int, width: int) -> np.ndarray:
    """(height, width) int32, the original's size, of a column's PNG: that of an enlarged image is larger."""
    import cv2

    numbers = images.decode(packed).image
    if numbers.shape != (height, width):
        numbers = cv2.resize(numbers, (width, height), interpolation=cv2.INTER_NEAREST)
    return numbers.astype(np.int32)


def _annotation(inside: np.ndarray, x0: int, y0: int, size: tuple[int, ...]) -> dict[str, Any]:
    """Of a mask whose top left pixel is x0, y0 of an image of this size."""
    down, across = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    box = [
        int(across[0]) + x0,
        int(down[0]) + y0,
        int(across[-1] - across[0]) + 1,
        int(down[-1] - down[0]) + 1,
    ]
    return {
        "bbox": box,
        "area": int(inside.sum()),
        "segmentation": {"size": [int(side) for side in size[:2]], "counts": runs(inside, x0, y0, size)},
    }


def runs(inside: np.ndarray, x0: int, y0: int, size: tuple[int, ...]) -> list[int]:
    """COCO's run lengths, down the columns, outside first: of a mask that lies at x0, y0 of an image of this size."""
    height, width = size[:2]
    # Only its own columns are looked at: 500 nuclei cost what they cover.
    columns = np.zeros((inside.shape[1], height), bool)
    columns[:, y0 : y0 + inside.shape[0]] = inside.T
    flat = columns.reshape(-1)
    edges = np.flatnonzero(np.diff(flat)) + 1
    ends = [0, *edges.tolist(), len(flat)]
    counts = [after - before for before, after in pairwise(ends)]
    if flat[0]:
        counts = [0, *counts]
    counts[0] += x0 * height
    rest = (width - x0 - inside.shape[1]) * height
    if len(counts) % 2:
        counts[-1] += rest
    elif rest:
        counts.append(rest)
    return counts


def write_coco(collection: Collection, path: Path) -> Path:
    """Write the COCO file. Raises SettingError for a collection without masks, CollectionError."""
    write_whole(path, json.dumps(coco(collection), ensure_ascii=False).encode() + b"\n")
    return path


def write_files(collection: Collection, folder: Path, *, overlays: bool) -> Path:
    """Write a PNG an image, called as that is: `CLASS/NAME.png`, the label image in 16 bits; or `NAME.png`, the image
    with its objects tinted.

    Raises SettingError for a collection without masks, CollectionError where an image is gone or nothing is written.
    """
    names = columns(collection)
    if not names:
        raise SettingError("this collection has no masks: a step 'segment' makes them")
    table = collection.read(["id", "name", "parent", "width", "height", *names])
    rows = [row for row in table.to_pylist() if row["parent"] is None]
    titles = distinct_paths([row["name"] for row in rows])
    for row, title in zip(rows, titles, strict=True):
        if overlays:
            image = collection.pixels(row["id"])
            eight = images.to_uint8(image, *images.levels(image))
            objects = np.stack([label_image(row[each], *eight.shape[:2]) for each in names], 2)
            write_whole(folder / f"{title}.png", images.encode(overlay(eight, objects), "png"))
        else:
            for column, name in names.items():
                numbers = label_image(row[column], row["height"], row["width"])
                write_whole(folder / name / f"{title}.png", images.encode(numbers.astype(np.uint16), "png"))
    return folder


def overlay(image: Image, objects: np.ndarray, *, opacity: float = 0.35) -> Image:
    """(h, w, 3) uint8: the image with each class's objects tinted in its colour, their edges drawn.

    objects: (h, w, classes) int32.
    """
    from skimage.segmentation import find_boundaries

    shown = np.broadcast_to(np.atleast_3d(image), (*image.shape[:2], 3)).astype(np.float32)
    for at in range(objects.shape[2]):
        numbers, colour = objects[:, :, at], COLOURS[at % len(COLOURS)].astype(np.float32)
        shown[numbers > 0] = (1 - opacity) * shown[numbers > 0] + opacity * colour
        shown[find_boundaries(numbers, mode="inner")] = colour
    made: Image = shown.astype(np.uint8)
    return made
