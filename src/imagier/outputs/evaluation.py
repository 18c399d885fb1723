"""How well a model does, as one HTML page that needs no network: the measures, and the worst images in pictures."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imagier import images
from imagier.collection import write_whole
from imagier.outputs import pages
from imagier.outputs.plots_figures import Theme, plot
from imagier.types import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE = 300
"""Pixels of a picture's long side."""
BOTH, MISSED, FALSE = (0, 160, 135), (53, 120, 230), (230, 75, 53)
"""Right, missed and found where nothing is: green, blue, red."""


@dataclass(frozen=True)
class Row:
    """An image on the page."""

    file: str
    """Its name in the folder of images."""
    told: str
    """Its measure, in words."""
    pictures: Mapping[str, Image]
    """What is shown -> (h, w, 3) or (h, w) uint8."""


def write_page(
    path: Path,
    told: Mapping[str, Any],
    lines: Sequence[str],
    rows: Sequence[Row],
    *,
    tinted: bool = False,
    figures: Sequence[tuple[str, Callable[[Theme], Figure]]] = (),
    sheets: Sequence[tuple[str, Sequence[Row]]] = (),
) -> None:
    """Write the page.

    rows: the worst, each with several pictures. tinted: the last picture of each is a difference in colours, which are
    explained. figures: heading and what draws it. sheets: heading, and rows of one picture, side by side.
    """
    page = pages.environment().get_template("evaluation.html")
    colours = {
        name: "#" + bytes(colour).hex() for name, colour in (("both", BOTH), ("missed", MISSED), ("false", FALSE))
    }
    html = page.render(
        model=told["model"],
        lines=lines,
        rows=[_shown(row) for row in rows],
        policy=pages.policy(),
        colours=colours if tinted else None,
        figures=[{"heading": heading, "plot": plot(draw)} for heading, draw in figures],
        sheets=[{"heading": heading, "rows": [_shown(row) for row in of]} for heading, of in sheets],
    )
    write_whole(path, html.encode())


def _shown(row: Row) -> dict[str, Any]:
    pictures = [{"what": what, "source": _data(picture)} for what, picture in row.pictures.items()]
    return {"file": row.file, "told": row.told, "pictures": pictures}


def masks(image: Image, true: np.ndarray, found: np.ndarray) -> dict[str, Image]:
    """Image, truth, prediction, and where they differ. image: (h, w, 3) uint8; true and found: (h, w) bool."""
    difference = tinted(tinted(tinted(image, true & found, BOTH), true & ~found, MISSED), found & ~true, FALSE)
    both = {"truth": tinted(image, true, BOTH), "prediction": tinted(image, found, BOTH)}
    return {"image": image, **both, "difference": difference}


def tinted(image: Image, inside: np.ndarray, colour: tuple[int, int, int]) -> Image:
    """An image with what is inside in a colour: (h, w, 3) uint8, (h, w) bool."""
    made = image.copy()
    made[inside] = (0.45 * image[inside] + 0.55 * np.array(colour)).astype(np.uint8)
    return made


def _data(picture: Image) -> str:
    jpeg = images.encode(images.thumbnail(picture, SIDE), "jpeg", 88)
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
