"""8-bit pixels for networks and statistics that know no others."""

from __future__ import annotations

from typing import Literal

from imagier import images
from imagier.types import Columns, Image

RANGES = {"uint8": (0.0, 255.0), "uint16": (0.0, 65535.0), "float32": (0.0, 1.0)}

Tone = Literal["auto", "full"]


def eight_bit(columns: Columns, tone: Tone = "auto") -> list[Image]:
    """The column `image` as uint8: "auto" by each item's own `black` and `white`, "full" by the depth's whole range."""
    if tone == "full":
        return [images.to_uint8(image, *RANGES[str(image.dtype)]) for image in columns["image"]]
    return [images.to_uint8(*each) for each in zip(columns["image"], columns["black"], columns["white"], strict=True)]
