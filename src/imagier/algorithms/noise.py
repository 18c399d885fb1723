"""Noise as cameras, sensors and files make it, to train denoisers on and to judge them by.

gaussian:25             the same everywhere, standard deviation 25 of 255
gaussian:0-50           one deviation an image, drawn evenly
poisson-gaussian:30-500,0-10
                        30 to 500 photons at white (shot noise), and 0 to 10 of 255 of the sensor's own (Foi et al.
                        2008)
jpeg:10-90              the blocks and rings of a JPEG file, quality 10 to 90
salt-pepper:0.01-0.1    that share of pixels black or white, evenly
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Level:
    """A number of a kind of noise: what it may be."""

    name: str
    least: float
    most: float


def _gaussian(image: np.ndarray, rng: np.random.Generator, sigma: float) -> np.ndarray:
    made: np.ndarray = image + np.float32(sigma) * rng.standard_normal(image.shape, np.float32)
    return made


def _poisson_gaussian(image: np.ndarray, rng: np.random.Generator, photons: float, sigma: float) -> np.ndarray:
    counted = rng.poisson(np.maximum(image, 0) * (photons / 255)).astype(np.float32) * np.float32(255 / photons)
    return _gaussian(counted, rng, sigma)


def _jpeg(image: np.ndarray, _: np.random.Generator, quality: float) -> np.ndarray:
    import cv2

    eight = np.rint(image.clip(0, 255)).astype(np.uint8)
    how = cv2.IMREAD_GRAYSCALE if eight.shape[2] == 1 else cv2.IMREAD_COLOR_RGB
    given = eight if eight.shape[2] == 1 else eight[:, :, ::-1]
    packed = cv2.imencode(".jpg", given, [cv2.IMWRITE_JPEG_QUALITY, round(quality)])[1]
    return np.asarray(cv2.imdecode(packed, how)).reshape(image.shape).astype(np.float32)


def _salt_pepper(image: np.ndarray, rng: np.random.Generator, share: float) -> np.ndarray:
    drawn = rng.random((*image.shape[:2], 1), np.float32)
    made: np.ndarray = np.where(drawn < share, np.float32(255) * (drawn < share / 2), image)
    return made


KINDS: dict[str, tuple[Callable[..., np.ndarray], tuple[Level, ...]]] = {
    "gaussian": (_gaussian, (Level("deviation", 0, 255),)),
    "poisson-gaussian": (_poisson_gaussian, (Level("photons", 1, 1e6), Level("deviation", 0, 255))),
    "jpeg": (_jpeg, (Level("quality", 1, 100),)),
    "salt-pepper": (_salt_pepper, (Level("share", 0, 1),)),
}


@dataclass(frozen=True)
class Noise:
    """One kind, with the range of each of its numbers."""

    kind: str
    ranges: tuple[tuple[float, float], ...]

    def draw(self, rng: np.random.Generator) -> Noise:
        """The same with one number for each range."""
        return Noise(self.kind, tuple((level, level) for level in (float(rng.uniform(*each)) for each in self.ranges)))

    def add(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(h, w, c) float32 on 0 to 255 to the same with noise, neither rounded nor clipped but by `jpeg`."""
        made: np.ndarray = KINDS[self.kind][0](image, rng, *(rng.uniform(*each) for each in self.ranges))
        return made


def parse(text: str) -> Noise:
    """ "gaussian:0-50" and the like. Raises ValueError, in words for a person."""
    kind, _, levels = text.partition(":")
    if kind not in KINDS:
        raise ValueError(f"noise {text!r}: unknown noise {kind!r}. There are: {', '.join(KINDS)}")
    wanted = KINDS[kind][1]
    shape = f"{kind}:" + ",".join(each.name.upper() for each in wanted)
    given = levels.split(",") if levels else []
    if len(given) != len(wanted):
        raise ValueError(f"noise {text!r}: it takes {shape}, each a number or a range such as 5-20")
    ranges = []
    for each, told in zip(wanted, given, strict=True):
        first, dash, last = told.partition("-")
        try:
            low, high = float(first), float(last if dash else first)
        except ValueError:
            raise ValueError(f"noise {text!r}: {each.name} cannot be {told!r}: a number or a range, 5-20") from None
        if not each.least <= low <= high <= each.most:
            raise ValueError(f"noise {text!r}: {each.name} takes {each.least:g} to {each.most:g}, the less one first")
        ranges.append((low, high))
    return Noise(kind, tuple(ranges))


BLOCK, QUIETEST, LOW = 16, 0.2, 0.955
"""Pixels of a block's side; the share of blocks that are taken for plain; and what the deviation of the noise alone is
in the noisiest of those, of the true one."""
BANDS = 64
"""Rows of blocks that are looked at: of larger images, evenly spread ones."""
CUT, ENOUGH = 0.02, 0.05
"""A block of which at least so much, and not all but so much, lies at the image's least or greatest value had its noise
cut off there, and says too little of it; unless fewer than this share of the blocks would be left."""


def deviation(image: np.ndarray) -> float:
    """The standard deviation of an image's noise, estimated: (h, w, c) on any scale, on which it is given.

    By the finest diagonal differences (Haar's), in blocks: in the quietest ones they are noise alone. On BSD68 with
    noise of 5, 15, 25 and 50, rounded and clipped to 8 bits, it gives 6.3, 15.8, 25.5 and 46.9 in the mean; of the
    clean images 2.5, their texture.
    """
    height, width, channels = image.shape
    block = min(BLOCK, height - 1, width - 1)
    if block < 2:
        return 0.0
    rows, ends = (height - 1) // block, (image.min(), image.max())
    found, cut = [], []
    for row in np.unique(np.linspace(0, rows - 1, min(rows, BANDS)).astype(int)):
        part = image[row * block : (row + 1) * block + 1]
        band = part.astype(np.float32)
        fine = (band[:-1, :-1] - band[1:, :-1] - band[:-1, 1:] + band[1:, 1:]) / 2
        across = fine.shape[1] // block
        cells, at_end = (
            each[:block, : across * block].reshape(block, across, block, channels)
            for each in (fine, np.isin(part, ends))
        )
        found.append(cells.std(axis=(0, 2)))
        cut.append(at_end.mean(axis=(0, 2)))
    made, share = np.concatenate(found), np.concatenate(cut)
    whole = (share < CUT) | (share > 1 - CUT)
    quiet = [
        np.quantile(of[kept] if kept.mean() > ENOUGH else of, QUIETEST)
        for of, kept in zip(made.T, whole.T, strict=True)
    ]
    return float(np.mean(quiet)) / LOW
