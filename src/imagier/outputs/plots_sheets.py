"""Contact sheets: the thumbnails of one group on one picture. Composed with Pillow, some 20 times faster than axes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image as Pillow
    from PIL.ImageFont import FreeTypeFont

TILE, GAP, MARGIN = 144, 10, 28
COLUMNS = 8
MOST = 48
"""Pictures on one sheet, at most."""


def chosen(central: Sequence[int], others: Sequence[int], most: int = MOST) -> list[int]:
    """Which rows to show: the central ones first, then others, evenly over their order when they do not all fit."""
    first = list(dict.fromkeys(central))[:most]
    seen = set(first)
    rest = [row for row in others if row not in seen]
    room = most - len(first)
    if len(rest) > room:
        rest = [rest[i] for i in np.linspace(0, len(rest) - 1, room).round().astype(int)] if room else []
    return first + rest


def contact_sheet(
    thumbnails: Sequence[bytes | None], title: str, subtitle: str, *, framed: int = 0, colour: str = "#0072B2"
) -> bytes:
    """A PNG of thumbnails (JPEG files, aspect ratio kept) in rows of at most 8, `framed` of them framed in `colour`.

    A null thumbnail is an empty tile.
    """
    from PIL import Image, ImageDraw

    large, small = _font(26, bold=True), _font(17)
    columns = min(COLUMNS, max(len(thumbnails), 1))
    text_width = int(max(large.getlength(title), small.getlength(subtitle)))
    width = 2 * MARGIN + max(columns * (TILE + GAP) - GAP, min(text_width, COLUMNS * (TILE + GAP) - GAP))
    inside = width - 2 * MARGIN
    rows = -(-len(thumbnails) // columns)
    top = MARGIN + 78
    sheet = Image.new("RGB", (width, top + rows * (TILE + GAP) - GAP + MARGIN), "#ffffff")
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN - 4), _fitted(title, large, inside), "#1c2430", large)
    draw.text((MARGIN, MARGIN + 36), _fitted(subtitle, small, inside), "#5a6472", small)
    for i, data in enumerate(thumbnails):
        x = MARGIN + (i % columns) * (TILE + GAP)
        y = top + (i // columns) * (TILE + GAP)
        draw.rectangle((x, y, x + TILE - 1, y + TILE - 1), "#f1f3f5")
        if data is not None:
            picture = _in_tile(data)
            sheet.paste(picture, (x + (TILE - picture.width) // 2, y + (TILE - picture.height) // 2))
        if i < framed:
            draw.rectangle((x - 4, y - 4, x + TILE + 3, y + TILE + 3), outline=colour, width=3)
    out = io.BytesIO()
    sheet.save(out, "PNG", compress_level=4)
    return out.getvalue()


def _in_tile(data: bytes) -> Pillow.Image:
    from PIL import Image

    with Image.open(io.BytesIO(data)) as opened:
        picture = opened.convert("RGB")
    scale = TILE / max(picture.size)
    size = (max(round(picture.width * scale), 1), max(round(picture.height * scale), 1))
    return picture.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)


def _fitted(text: str, font: FreeTypeFont, width: int) -> str:
    """The text, its end left out where it is wider than `width` pixels."""
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


@cache
def _font(size: int, *, bold: bool = False) -> FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along: the same letters as in the other plots, on every system."""
    import matplotlib
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, size)
