"""Draws the demo images, with exact ground truth: what users really have, as pictures whose every pixel is known.

`draw` makes one image of a kind, `write` a folder of them with the truth beside it. A seed gives the same bytes every
time. Every kind has a twin: `draw(..., plain=True)` is the same drawing, noise included, without what its mask marks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from imagier.samples.blots import LABELS as GELS
from imagier.samples.blots import gels
from imagier.samples.canvas import Sample
from imagier.samples.files import bomb, broken, dicom
from imagier.samples.nuclei import LABELS as CELLS
from imagier.samples.nuclei import cells
from imagier.samples.parts import NUTS, WASHERS, nuts, washers
from imagier.samples.simple import faint, noise, three_groups
from imagier.samples.skin import LABELS as LESIONS
from imagier.samples.skin import lesions
from imagier.samples.surfaces import LABELS as TEXTURES
from imagier.samples.surfaces import textures
from imagier.types import SettingError

__all__ = ["KINDS", "LABELS", "Sample", "bomb", "broken", "dicom", "draw", "faint", "noise", "three_groups", "write"]

KINDS: dict[str, Callable[[int, int, str, bool], Sample]] = {
    "cells": cells,
    "washers": washers,
    "nuts": nuts,
    "gels": gels,
    "lesions": lesions,
    "textures": textures,
}
"""Kind -> the function that draws it, from seed, size, label and plain."""

LABELS: dict[str, tuple[str, ...]] = {
    "cells": CELLS,
    "washers": WASHERS,
    "nuts": NUTS,
    "gels": GELS,
    "lesions": LESIONS,
    "textures": TEXTURES,
}
"""Kind -> its labels, in the order in which seeds go through them."""


def draw(kind: str, seed: int, *, size: int = 192, label: str | None = None, plain: bool = False) -> Sample:
    """One image (size, size) of a kind, with its truth.

    Without `label`, seed after seed goes through the labels of the kind. `plain` leaves out what the mask marks, and
    draws the rest alike: no nuclei, bands or fault, and lesions without network or dots.
    Raises SettingError for a kind or label that does not exist, a seed below 0, or a size outside 64 to 4096.
    """
    if kind not in KINDS:
        raise SettingError(f"there is no kind of sample {kind!r}; there are {', '.join(KINDS)}")
    if seed < 0 or not 64 <= size <= 4096:
        raise SettingError(f"seed {seed}, size {size}: a sample needs a seed of 0 or more and a size of 64 to 4096")
    label = LABELS[kind][seed % len(LABELS[kind])] if label is None else label
    if label not in LABELS[kind]:
        raise SettingError(f"{kind} are never labelled {label!r}; there are {', '.join(LABELS[kind])}")
    return KINDS[kind](seed, size, label, plain)


def write(folder: str | os.PathLike[str], *, per_kind: int = 24, seed: int = 0, size: int = 192) -> Path:
    """Writes `per_kind` images of every kind, and the truth beside them; gives `folder`.

    images/KIND/LABEL_NNN: micrographs as 16-bit TIFF, gels as grey PNG of 8 or 16 bits, photographs as JPEG.
    truth/truth.json: by image, its kind, label, seed, masks (files below truth/) and truth. truth/KIND/LABEL_NNN.png is
    the mask (0 and 255; a 16-bit label image for cells), LABEL_NNN.part.png and the like the further masks.
    Files of the same names are replaced; nothing else is touched.
    """
    from imagier.images import encode

    folder = Path(folder)
    entries: dict[str, Any] = {}
    for kind, labels in LABELS.items():
        (folder / "images" / kind).mkdir(parents=True, exist_ok=True)
        (folder / "truth" / kind).mkdir(parents=True, exist_ok=True)
        for k in range(per_kind):
            own = seed * 100_003 + k
            sample = draw(kind, own, size=size, label=labels[k % len(labels)])
            name = f"{kind}/{sample.label}_{k:03d}"
            suffix, form = {"cells": (".tif", "tiff"), "gels": (".png", "png")}.get(kind, (".jpg", "jpeg"))
            (folder / "images" / f"{name}{suffix}").write_bytes(encode(sample.image, form))
            masks = {"mask": sample.mask, **sample.masks}
            files = {}
            for role, mask in masks.items():
                if mask is None or not mask.any():
                    continue
                files[role] = f"{name}.png" if role == "mask" else f"{name}.{role}.png"
                pixels = mask.astype(np.uint8) * 255 if mask.dtype == bool else mask.astype(np.uint16)
                (folder / "truth" / files[role]).write_bytes(encode(pixels, "png"))
            entries[name + suffix] = {
                "kind": kind, "label": sample.label, "seed": own, "masks": files, "truth": sample.truth,
            }  # fmt: skip
    text = json.dumps({"seed": seed, "size": size, "images": entries}, indent=1)
    (folder / "truth" / "truth.json").write_text(text + "\n", encoding="utf-8")
    return folder
