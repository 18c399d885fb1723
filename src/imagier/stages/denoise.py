"""denoise: a network takes the noise out of every image; pixels go on clean, in their own depth.

`noise` is how much was taken away: the root mean square of it, in 255ths of what lies between the image's black and
white. Of Gaussian noise of deviation 25 it is some 24.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pyarrow as pa

from imagier.types import BUILTIN, Apply, Columns, Image, NameOrFile, SettingError, Stage, Step

COLOUR = "denoise-colour"
"""The model that ships for colour images, beside the one of the task's own name."""


def make(
    *,
    model: NameOrFile = BUILTIN,
    sigma: float | None = None,
    strength: float = 1.0,
    flips: bool = False,
    tile: int | None = None,
    memory: int | None = None,
    engine: Literal["auto", "openvino", "onnxruntime", "torch"] = "auto",
) -> Step:
    """`noise`: what was taken away, root mean square in 255ths; `image` goes on without it.

    model: "builtin", two small networks that ship, one for grey images and one for colour. Or a model's name, or the
        path of a Model folder; of colour images, one for grey sees each channel by itself.
    sigma: the standard deviation of the noise, in 255ths of what lies between black and white; estimated for each
        image, unless given. For models that want to be told, as those that ship do.
    strength: the share of what the network finds that is taken away, 0 to 1.
    flips: the mean over the image and its mirror images: a little better, four times the work.
    memory: megabytes that the network may take, a worker: larger images go through in overlapping tiles, as large as
        fit; 500, unless given. tile: or so many pixels a side.
    engine: what runs the network, which is always in float32.
    """
    from imagier.models import engines, restoring
    from imagier.models.store import find

    if not 0 < strength <= 1:
        raise SettingError(f"denoise.strength cannot be {strength}: it takes a number above 0, at most 1")
    found = find(model, "denoise")
    if sigma is not None and (sigma <= 0 or found.card.sigma is None):
        why = "it takes a number above 0" if sigma <= 0 else f"the model {model!r} is not told how much noise there is"
        raise SettingError(f"denoise.sigma cannot be {sigma}: {why}")
    models = [found, find(COLOUR, "denoise")] if model == BUILTIN else [found]
    sides = [restoring.tile_of(each, "denoise", tile, memory) for each in models]
    choice = engines.choose(found, engine, "float32")

    def load() -> Apply:
        restores = [
            restoring.load(each, side, engine=choice.engine, flips=flips)
            for each, side in zip(models, sides, strict=True)
        ]

        def restored(image: Image, black: float, white: float) -> Image:
            shown = plain(image)
            made = restores[0 if shown.ndim == 2 else -1](shown, black, white, sigma)
            return made if made.ndim == image.ndim else np.repeat(made[:, :, None], 3, axis=2)

        def apply(columns: Columns) -> Columns:
            images, taken = [], []
            for image, black, white in zip(*(columns[name] for name in ("image", "black", "white")), strict=True):
                made = blended(image, restored(image, black, white), strength)
                images.append(made)
                taken.append(difference(image, made) * 255 / (white - black))
            return {"image": images, "noise": np.array(taken, np.float32)}

        return apply

    return Step(
        reads=("image", "black", "white"),
        writes=pa.schema([pa.field("noise", pa.float32())]),
        load=load,
        passes=("image",),
        weights=tuple(key for each in models for key in each.keys),
        precision=choice.precision,
        pixels=None,  # noise is smaller when an image is, and another
    )


def plain(image: Image) -> Image:
    """(h, w) of an image whose three channels are the same, as many a grey file has them; others as they are."""
    if image.ndim == 3 and (image[..., 0] == image[..., 1]).all() and (image[..., 0] == image[..., 2]).all():
        return image[..., 0]
    return image


def blended(image: Image, clean: Image, strength: float) -> Image:
    """Between an image and its clean one, in the same dtype."""
    if strength == 1:
        return clean
    made = image.astype(np.float32) * np.float32(1 - strength) + clean.astype(np.float32) * np.float32(strength)
    return made if image.dtype == np.float32 else np.rint(made).astype(image.dtype)


def difference(one: Image, other: Image) -> float:
    """Root mean square, in the image's own unit."""
    total = 0.0
    for row, beside in zip(one, other, strict=True):  # whole images of differences are not to be held at once
        total += float(np.square(row.astype(np.float32) - beside.astype(np.float32)).sum())
    return float(np.sqrt(total / one.size))


DENOISE = Stage(name="denoise", version=3, over="rows", make=make)
"""Noise taken out, before all else."""
