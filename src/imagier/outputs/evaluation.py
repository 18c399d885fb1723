"""How well a segmenter does, as one HTML page that needs no network: the measures, and the worst images in pictures."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imagier import images
from imagier.collection import write_whole
from imagier.outputs import pages
from imagier.types import Image

SIDE = 300
"""Pixels of a picture's long side."""
BOTH, MISSED, FALSE = (0, 160, 135), (53, 120, 230), (230, 75, 53)
"""Right, missed and found where nothing is: green, blue, red."""


def write_page(path: Path, told: Mapping[str, Any], lines: Sequence[str], shown: Sequence[Mapping[str, Any]]) -> None:
    """Write the page. shown: rows with file, label, dice, image (h, w, 3) uint8, true and found (h, w) bool."""
    page = pages.environment().get_template("evaluation.html")
    rows = [
        {
            "name": Path(row["file"]).name,
            "file": row["file"],
            "label": row["label"],
            "dice": row["dice"],
            "pictures": [
                {"what": what, "source": _data(picture)}
                for what, picture in zip(("image", "truth", "prediction", "difference"), _pictures(row), strict=True)
            ],
        }
        for row in shown
    ]
    colours = {
        name: "#" + bytes(colour).hex() for name, colour in (("both", BOTH), ("missed", MISSED), ("false", FALSE))
    }
    html = page.render(model=told["model"], lines=lines, rows=rows, policy=pages.policy(), colours=colours)
    write_whole(path, html.encode())


def _pictures(row: Mapping[str, Any]) -> list[Image]:
    """Image, truth, prediction, and where they differ."""
    image, true, found = row["image"], row["true"], row["found"]
    difference = _tinted(_tinted(_tinted(image, true & found, BOTH), true & ~found, MISSED), found & ~true, FALSE)
    return [image, _tinted(image, true, BOTH), _tinted(image, found, BOTH), difference]


def _tinted(image: Image, inside: np.ndarray, colour: tuple[int, int, int]) -> Image:
    made = image.copy()
    made[inside] = (0.45 * image[inside] + 0.55 * np.array(colour)).astype(np.uint8)
    return made


def _data(picture: Image) -> str:
    jpeg = images.encode(images.thumbnail(picture, SIDE), "jpeg", 88)
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
